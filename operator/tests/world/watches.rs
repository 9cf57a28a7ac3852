//! What watches tell: each object in its versions, and that it is gone; to a new operator first all that there is.

use std::collections::VecDeque;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_crds::Savepoint;
use sluice_operator::deployment::children::Child;
use sluice_operator::deployment::mirror::Mirror;

use super::api::{Change, Store};

#[derive(Default)]
pub struct Watches {
    /// How much of the log had been written at the last turns, the oldest first.
    turns: VecDeque<usize>,
    /// How much of it was told; None: nothing yet.
    told: Option<usize>,
}

impl Watches {
    /// Tells what happened until so many turns ago; to one that knows nothing what is now.
    pub fn tell(&mut self, mirror: &Mirror, store: &Store, late: usize) {
        let Some(told) = &mut self.told else {
            self.told = Some(store.log.len());
            self.turns.clear();
            return begin(mirror, store);
        };
        self.turns.push_back(store.log.len());
        while self.turns.len() > late {
            let until = self.turns.pop_front().unwrap_or_default().max(*told);
            for (plural, change) in &store.log[*told..until] {
                match change.clone() {
                    Change::Is(object) => one(mirror, plural, Step::Apply, object),
                    Change::Gone(object) => one(mirror, plural, Step::Delete, object),
                }
            }
            *told = until;
        }
    }
}

const KINDS: [&str; 10] = [
    "controllerrevisions",
    "pods",
    "statefulsets",
    "jobs",
    "configmaps",
    "services",
    "serviceaccounts",
    "persistentvolumeclaims",
    "poddisruptionbudgets",
    "savepoints",
];

fn begin(mirror: &Mirror, store: &Store) {
    for plural in KINDS {
        one(mirror, plural, Step::Init, Value::Null);
        for (_, object) in store.objects.iter().filter(|(key, _)| key.0 == plural) {
            one(mirror, plural, Step::InitApply, object.clone());
        }
        one(mirror, plural, Step::InitDone, Value::Null);
    }
}

#[derive(Clone, Copy)]
enum Step {
    Init,
    InitApply,
    InitDone,
    Apply,
    Delete,
}

fn one(mirror: &Mirror, plural: &str, step: Step, object: Value) {
    match plural {
        "controllerrevisions" => told::<ControllerRevision>(mirror, step, object),
        "pods" => told::<Pod>(mirror, step, object),
        "statefulsets" => told::<StatefulSet>(mirror, step, object),
        "jobs" => told::<Job>(mirror, step, object),
        "configmaps" => told::<ConfigMap>(mirror, step, object),
        "services" => told::<Service>(mirror, step, object),
        "serviceaccounts" => told::<ServiceAccount>(mirror, step, object),
        "persistentvolumeclaims" => told::<PersistentVolumeClaim>(mirror, step, object),
        "poddisruptionbudgets" => told::<PodDisruptionBudget>(mirror, step, object),
        "savepoints" => mirror.told_of::<Savepoint>(&event(step, object)),
        _ => {}
    }
}

fn told<K: Child>(mirror: &Mirror, step: Step, object: Value) {
    mirror.told::<K>(&event(step, object));
}

fn event<O: DeserializeOwned>(step: Step, object: Value) -> Event<O> {
    let read = |object| serde_json::from_value(object).unwrap();
    match step {
        Step::Init => Event::Init,
        Step::InitApply => Event::InitApply(read(object)),
        Step::InitDone => Event::InitDone,
        Step::Apply => Event::Apply(read(object)),
        Step::Delete => Event::Delete(read(object)),
    }
}
