//! Pure: the objects that belong to a deployment, as far as decisions need them, with the versions that they were seen in.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{BitAnd, BitOr, BitOrAssign};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sluice_crds::{Savepoint, StartedFrom, TRIGGER_LABEL};

use super::build::Kind;
use super::observe::{ObservedSavepoint, PodView, pod_view};
use super::revision::Revision;
use crate::k8s::children::{Applied, applied_hash};
use crate::names;

/// A set of kinds of children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kinds(u16);

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const REVISIONS: Self = Self(1);
    pub const PODS: Self = Self(1 << 1);
    pub const STATEFUL_SETS: Self = Self(1 << 2);
    pub const JOBS: Self = Self(1 << 3);
    pub const CONFIG_MAPS: Self = Self(1 << 4);
    pub const SERVICES: Self = Self(1 << 5);
    pub const SERVICE_ACCOUNTS: Self = Self(1 << 6);
    pub const VOLUME_CLAIMS: Self = Self(1 << 7);
    pub const DISRUPTION_BUDGETS: Self = Self(1 << 8);
    pub const SAVEPOINTS: Self = Self(1 << 9);
    pub const ALL: Self = Self((1 << 10) - 1);

    pub fn has(self, other: Self) -> bool {
        self & other == other
    }

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The kind of a child that is applied.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::ConfigMap => Self::CONFIG_MAPS,
            Kind::ServiceAccount => Self::SERVICE_ACCOUNTS,
            Kind::PersistentVolumeClaim => Self::VOLUME_CLAIMS,
            Kind::Service => Self::SERVICES,
            Kind::PodDisruptionBudget => Self::DISRUPTION_BUDGETS,
            Kind::StatefulSet => Self::STATEFUL_SETS,
            Kind::Job => Self::JOBS,
        }
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Kinds {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub struct Item<T> {
    pub version: u64,
    /// Of what was applied; None if the object is on its way out.
    pub hash: Option<String>,
    /// What decisions need of it; None if it says nothing to them.
    pub seen: Option<T>,
}

/// The objects of a kind, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<T> {
    pub items: BTreeMap<String, Item<T>>,
    /// The newest version in which one of them went away.
    pub gone: u64,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), gone: 0 }
    }
}

impl<T: Clone> Part<T> {
    /// An object in this version, unless a newer one is known.
    pub fn put(&mut self, name: &str, item: Item<T>) {
        if item.version > self.gone.max(self.items.get(name).map_or(0, |old| old.version)) {
            self.items.insert(name.to_owned(), item);
        }
    }

    /// It went away in this version.
    pub fn remove(&mut self, name: &str, version: u64) {
        self.gone = self.gone.max(version);
        if self.items.get(name).is_some_and(|old| old.version <= version) {
            self.items.remove(name);
        }
    }

    /// What a list of this version says; what is known to be newer stays. True if the list may hold what has gone away since.
    pub fn replace(&mut self, items: &BTreeMap<String, Item<T>>, version: u64) -> bool {
        self.items.retain(|_, old| old.version > version);
        for (name, item) in items {
            if self.items.get(name).is_none_or(|old| old.version < item.version) {
                self.items.insert(name.clone(), item.clone());
            }
        }
        self.gone > version
    }

    fn seen(&self) -> impl Iterator<Item = &T> {
        self.items.values().filter_map(|item| item.seen.as_ref())
    }
}

/// A pod of a deployment: of its job, or of a preflight.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSeen {
    pub revision: Option<i64>,
    pub component: String,
    pub view: PodView,
}

impl PodSeen {
    pub fn is_preflight(&self, revision: i64) -> bool {
        self.revision == Some(revision) && self.component == "preflight"
    }

    pub fn is_job(&self, revision: i64) -> bool {
        self.revision == Some(revision) && self.component == "job"
    }

    /// Of the Job that deletes the deployment's state.
    pub fn deletes_state(&self) -> bool {
        self.component == names::STATE_DELETION
    }
}

/// A StatefulSet.
#[derive(Clone, Debug, PartialEq)]
pub struct SetSeen {
    pub revision: i64,
    pub replicas: i32,
    pub start: StartedFrom,
    /// Uids of the objects that it belongs to.
    pub owners: Vec<String>,
    /// Its controller has done what it can, and there is no pod.
    pub fruitless: bool,
}

/// The Job of a preflight, or one that deletes state.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSeen {
    pub revision: Option<i64>,
    pub deletes_state: bool,
    pub complete: bool,
    /// Reason and text.
    pub failed: Option<(Option<String>, Option<String>)>,
}

/// A kind of objects that belong to deployments.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    type Seen: Clone + Send;
    const KIND: Kinds;
    /// What decisions need of it.
    fn seen(&self) -> Option<Self::Seen>;
    fn part(children: &mut Children) -> &mut Part<Self::Seen>;
}

/// All that belongs to a deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    revisions: Part<Revision>,
    pods: Part<PodSeen>,
    sets: Part<SetSeen>,
    jobs: Part<JobSeen>,
    config_maps: Part<()>,
    services: Part<()>,
    service_accounts: Part<()>,
    claims: Part<()>,
    budgets: Part<()>,
    savepoints: Part<ObservedSavepoint>,
}

impl Children {
    pub fn is_empty(&self) -> bool {
        let plain = [&self.config_maps, &self.services, &self.service_accounts, &self.claims, &self.budgets];
        self.revisions.items.is_empty()
            && self.pods.items.is_empty()
            && self.sets.items.is_empty()
            && self.jobs.items.is_empty()
            && self.savepoints.items.is_empty()
            && plain.iter().all(|part| part.items.is_empty())
    }

    /// By number.
    pub fn revisions(&self) -> Vec<Revision> {
        let mut revisions: Vec<Revision> = self.revisions.seen().cloned().collect();
        revisions.sort_by_key(|r| r.number);
        revisions
    }

    pub fn pods(&self) -> impl Iterator<Item = &PodSeen> + Clone {
        self.pods.items.values().filter_map(|item| item.seen.as_ref())
    }

    pub fn sets(&self) -> impl Iterator<Item = &SetSeen> {
        self.sets.seen()
    }

    pub fn jobs(&self) -> impl Iterator<Item = &JobSeen> {
        self.jobs.seen()
    }

    /// By name.
    pub fn savepoints(&self) -> Vec<ObservedSavepoint> {
        self.savepoints.seen().cloned().collect()
    }

    /// Children that stay, with the hash of what was applied.
    pub fn applied(&self) -> Applied {
        let mut applied = Applied::new();
        note(&mut applied, Kind::StatefulSet, &self.sets);
        note(&mut applied, Kind::Job, &self.jobs);
        note(&mut applied, Kind::ConfigMap, &self.config_maps);
        note(&mut applied, Kind::Service, &self.services);
        note(&mut applied, Kind::ServiceAccount, &self.service_accounts);
        note(&mut applied, Kind::PersistentVolumeClaim, &self.claims);
        note(&mut applied, Kind::PodDisruptionBudget, &self.budgets);
        applied
    }
}

fn note<T>(applied: &mut Applied, kind: Kind, part: &Part<T>) {
    let stay = part.items.iter().filter_map(|(name, item)| Some((name, item.hash.as_ref()?)));
    applied.extend(stay.map(|(name, hash)| ((kind, name.clone()), hash.clone())));
}

/// The version of an object or a list. Versions are decimal numbers that grow, of all kinds together (KEP-5504); of one that is none nothing is
/// known to be newer.
pub fn version(text: Option<&str>) -> u64 {
    text.and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

/// An object as it is kept.
pub fn item<K: ResourceExt, T>(object: &K, seen: Option<T>) -> Item<T> {
    Item { version: version(object.resource_version().as_deref()), hash: applied_hash(object), seen }
}

macro_rules! child {
    ($type:ty, $kind:ident, $field:ident, $seen:ty, $see:expr) => {
        impl Child for $type {
            type Seen = $seen;
            const KIND: Kinds = Kinds::$kind;

            fn seen(&self) -> Option<$seen> {
                let see: fn(&Self) -> Option<$seen> = $see;
                see(self)
            }

            fn part(children: &mut Children) -> &mut Part<$seen> {
                &mut children.$field
            }
        }
    };
}

child!(ControllerRevision, REVISIONS, revisions, Revision, Revision::from_object);
child!(Pod, PODS, pods, PodSeen, pod);
child!(StatefulSet, STATEFUL_SETS, sets, SetSeen, set);
child!(Job, JOBS, jobs, JobSeen, job);
child!(ConfigMap, CONFIG_MAPS, config_maps, (), |_| None);
child!(Service, SERVICES, services, (), |_| None);
child!(ServiceAccount, SERVICE_ACCOUNTS, service_accounts, (), |_| None);
child!(PersistentVolumeClaim, VOLUME_CLAIMS, claims, (), |_| None);
child!(PodDisruptionBudget, DISRUPTION_BUDGETS, budgets, (), |_| None);
child!(Savepoint, SAVEPOINTS, savepoints, ObservedSavepoint, savepoint);

fn pod(pod: &Pod) -> Option<PodSeen> {
    let labels = pod.metadata.labels.as_ref();
    let revision = names::revision_number(labels);
    let component = labels.and_then(|l| l.get(names::COMPONENT_LABEL)).cloned().unwrap_or_default();
    Some(PodSeen { revision, component, view: pod_view(pod) })
}

fn set(set: &StatefulSet) -> Option<SetSeen> {
    let revision = names::revision_number(set.metadata.labels.as_ref())?;
    let note = |name: &str| set.metadata.annotations.as_ref().and_then(|a| a.get(name)).cloned();
    let start = StartedFrom {
        state_id: note(names::STATE_ID_ANNOTATION).and_then(|id| id.parse().ok()).unwrap_or_default(),
        path: note(names::RESTORED_FROM_ANNOTATION),
    };
    let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let done = set.status.as_ref().is_some_and(|s| s.replicas == 0 && s.observed_generation >= set.metadata.generation);
    let owners = set.owner_references().iter().map(|o| o.uid.clone()).collect();
    Some(SetSeen { revision, replicas, start, owners, fruitless: replicas > 0 && done })
}

fn job(job: &Job) -> Option<JobSeen> {
    let labels = job.metadata.labels.as_ref();
    let revision = names::revision_number(labels).filter(|_| job.metadata.deletion_timestamp.is_none());
    let deletes_state = labels.and_then(|l| l.get(names::COMPONENT_LABEL)).is_some_and(|c| c == names::STATE_DELETION);
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let holds = |kind: &str| conditions.and_then(|c| c.iter().find(|c| c.type_ == kind && c.status == "True"));
    Some(JobSeen {
        revision,
        deletes_state,
        complete: holds("Complete").is_some(),
        failed: holds("Failed").map(|c| (c.reason.clone(), c.message.clone())),
    })
}

fn savepoint(object: &Savepoint) -> Option<ObservedSavepoint> {
    let status = object.status.clone().unwrap_or_default();
    Some(ObservedSavepoint {
        name: object.name_any(),
        trigger: object.labels().get(TRIGGER_LABEL).cloned().unwrap_or_default(),
        phase: status.phase,
        path: status.path,
        message: status.message,
        completed_at: status.completed_at,
        deleting: object.metadata.deletion_timestamp.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_kept() {
        let item = |version: u64| Item { version, hash: None, seen: Some(version) };
        let listed = |names: &[(&str, u64)]| names.iter().map(|(n, v)| ((*n).to_owned(), item(*v))).collect::<BTreeMap<_, _>>();
        let mut part = Part::<u64>::default();
        part.put("a", item(5));
        part.put("a", item(4));
        assert_eq!(part.items, listed(&[("a", 5)]));
        part.remove("a", 4);
        assert_eq!(part.items, listed(&[("a", 5)]), "one of the name before");
        part.remove("a", 6);
        part.put("a", item(5));
        assert!(part.items.is_empty(), "an answer that comes late");
        part.put("b", item(9));
        assert!(!part.replace(&listed(&[("a", 7), ("b", 3)]), 8), "nothing went behind the list");
        assert_eq!(part.items, listed(&[("a", 7), ("b", 9)]));
        assert!(part.replace(&listed(&[("c", 3)]), 5), "what went in 6 may be in it");
        assert_eq!(part.items, listed(&[("a", 7), ("b", 9), ("c", 3)]));
        assert_eq!((version(Some("17")), version(Some("x")), version(None)), (17, u64::MAX, u64::MAX));
    }
}
