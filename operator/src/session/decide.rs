//! Pure: what a SessionCluster is to have, and when its pods may go.
//!
//! Pods are restarted, or taken away, only when no job is in the way: `status.update` tells the StreamingDeployments to suspend their jobs
//! (`onUpdate: SuspendJobs`), or they are waited for (`Block`). A job that is lost all the same goes on from its last commit.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use sluice_crds::{JobCounts, OnDeleteCluster, OnUpdate, SessionCluster, SessionClusterStatus, SessionUpdate, SlotCounts, WorkerCounts};

use super::observe::{Deployment, Seen};
use super::workers::Worker;
use super::{build, validate};
use crate::deployment::build::{Child, Kind, Owner};
use crate::deployment::decide::Note;
use crate::deployment::status;
use crate::names;
use crate::runtime_api::SessionJob;

pub struct Input<'a> {
    pub owner: &'a Owner,
    pub object: &'a SessionCluster,
    pub seen: &'a Seen,
    pub default_image: &'a str,
    pub now: Timestamp,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    AddFinalizer,
    RemoveFinalizer,
    Apply(Box<Child>),
    Delete(Kind, String),
    DeletePod(String),
    DeleteDeployment(String),
    /// Ends a job whose deployment is not there any more.
    Withdraw {
        host: String,
        job: String,
    },
}

pub struct Decision {
    pub status: SessionClusterStatus,
    pub actions: Vec<Action>,
    pub events: Vec<Note>,
    pub requeue: Duration,
}

const IDLE: Duration = Duration::from_secs(10);
const BUSY: Duration = Duration::from_secs(1);

/// Why a cluster is not ready.
struct Trouble {
    reason: &'static str,
    message: String,
    /// It passes by itself.
    passes: bool,
}

fn waits(reason: &'static str, message: String) -> Option<Trouble> {
    Some(Trouble { reason, message, passes: true })
}

fn stuck(reason: &'static str, message: String) -> Option<Trouble> {
    Some(Trouble { reason, message, passes: false })
}

pub fn decide(input: &Input) -> Decision {
    let status = input.object.status.clone().unwrap_or_default();
    let mut plan = Plan { input, actions: vec![], events: vec![], status, desired: input.object.spec.workers.replicas };
    let has_finalizer = input.object.finalizers().iter().any(|f| f == names::FINALIZER);
    let mut trouble = plan.keep();
    if input.object.metadata.deletion_timestamp.is_some() {
        if !has_finalizer {
            plan.actions.clear();
        } else {
            trouble = plan.end();
        }
    } else if !has_finalizer {
        plan.actions.insert(0, Action::AddFinalizer);
    }
    plan.withdraw_orphans();
    plan.decision(trouble)
}

struct Plan<'a> {
    input: &'a Input<'a>,
    actions: Vec<Action>,
    events: Vec<Note>,
    status: SessionClusterStatus,
    desired: i32,
}

impl Plan<'_> {
    /// Those that run on this cluster.
    fn users(&self) -> Vec<&Deployment> {
        self.input.seen.deployments.iter().filter(|d| d.cluster.as_ref() == Some(&self.input.owner.name)).collect()
    }

    fn apply(&mut self, child: Child) {
        if self.input.seen.applied.get(&(child.kind, child.name.clone())) != Some(&child.hash) {
            self.actions.push(Action::Apply(Box::new(child)));
        }
    }

    /// Children and pods.
    fn keep(&mut self) -> Option<Trouble> {
        let (owner, seen, spec) = (self.input.owner, self.input.seen, &self.input.object.spec);
        let errors = validate::errors(&owner.name, spec);
        if !errors.is_empty() {
            let reason = errors.first().map_or("Invalid", |e| e.reason);
            return stuck(reason, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        }
        if seen.deployments.iter().any(|d| d.name == owner.name && d.cluster.is_none()) {
            let message = format!(
                "a StreamingDeployment with pods of its own is called '{0}', too: both would have the Service {0}-rest",
                owner.name
            );
            return stuck("NameTaken", message);
        }
        let users: Vec<&str> = self.users().into_iter().map(|d| d.name.as_str()).collect();
        if seen.storage.as_ref().is_some_and(|s| *s != build::storage_hash(spec)) && !users.is_empty() {
            let message =
                format!("spec.storage cannot be changed while StreamingDeployments keep state in it ({}): put it back", users.join(", "));
            return stuck("StorageChanged", message);
        }
        for child in build::around(owner, spec) {
            self.apply(child);
        }
        let rest = names::rest_service(&owner.name);
        if !spec.gateway.enabled && seen.applied.contains_key(&(Kind::Service, rest.clone())) {
            self.actions.push(Action::Delete(Kind::Service, rest));
        }
        self.pods()
    }

    /// The StatefulSet, and the restart of pods that are not as they should be.
    fn pods(&mut self) -> Option<Trouble> {
        let (owner, seen, spec) = (self.input.owner, self.input.seen, &self.input.object.spec);
        let image = spec.image.clone().or(self.status.image.take()).unwrap_or_else(|| self.input.default_image.to_owned());
        let (template, hash) = build::template(owner, spec, &image);
        self.status.image = Some(image);
        let replicas = spec.workers.replicas;
        let leaves = |w: &&Worker| w.ordinal() >= replicas;
        let outdated = |w: &&Worker| !leaves(w) && !w.pod.terminating && w.template.as_ref() != Some(&hash);
        let affected: Vec<&Worker> = seen.workers.iter().filter(|w| leaves(w) || outdated(w)).collect();
        let jobs: Vec<&str> = affected.iter().flat_map(|w| jobs(w)).map(|j| j.name.as_str()).collect();
        let silent: Vec<&str> = affected.iter().filter(|w| w.is_silent()).map(|w| w.pod.name.as_str()).collect();
        let free = jobs.is_empty() && silent.is_empty();
        self.apply(build::workers(owner, spec, template, if free { replicas } else { replicas.max(seen.replicas) }));
        if affected.is_empty() {
            self.status.update = None;
            return None;
        }
        let suspends_jobs = spec.on_update == OnUpdate::SuspendJobs;
        if self.status.update.is_none() {
            let how = if suspends_jobs { "their jobs are suspended for it" } else { "when no job runs on them" };
            let text = format!("pods are restarted, {how}");
            self.events.push(Note { warning: false, reason: "Updating".into(), text });
        }
        self.status.update = Some(SessionUpdate { suspends_jobs, template: hash.clone() });
        if !free {
            let mut what = vec![];
            if !jobs.is_empty() {
                what.push(format!("jobs that run ({})", jobs.join(", ")));
            }
            if !silent.is_empty() {
                what.push(format!("pods that do not say which jobs they run ({})", silent.join(", ")));
            }
            let reason = if suspends_jobs { "SuspendingJobs" } else { "Blocked" };
            return waits(reason, format!("pods are to be restarted, which waits for {}", what.join(" and ")));
        }
        let old: Vec<String> = affected.iter().filter(|w| outdated(w)).map(|w| w.pod.name.clone()).collect();
        self.actions.extend(old.into_iter().map(Action::DeletePod));
        waits("Updating", "pods are being restarted".into())
    }

    /// The object is being deleted.
    fn end(&mut self) -> Option<Trouble> {
        let object = self.input.object;
        let force = object.annotations().get(names::FORCE_DELETE_ANNOTATION).is_some_and(|v| v == "true");
        let users: Vec<Deployment> = self.users().into_iter().cloned().collect();
        if users.is_empty() || force {
            self.actions = vec![Action::RemoveFinalizer];
            let text = "no StreamingDeployment uses the cluster any more; its pods go".to_owned();
            self.events.push(Note { warning: false, reason: "Deleted".into(), text });
            return None;
        }
        let names = users.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ");
        if object.spec.on_delete == OnDeleteCluster::Block {
            let message = format!("StreamingDeployments use the cluster: delete them ({names}), or set spec.onDelete to Cascade");
            return waits("InUse", message);
        }
        self.actions.extend(users.iter().filter(|d| !d.deleting).map(|d| Action::DeleteDeployment(d.name.clone())));
        waits("Deleting", format!("StreamingDeployments are being deleted: {names}"))
    }

    /// Jobs whose deployment went without ending them (force-delete).
    fn withdraw_orphans(&mut self) {
        let seen = self.input.seen;
        for worker in &seen.workers {
            for job in jobs(worker).filter(|j| !j.stopping) {
                let uid = job.annotations.get(names::UID_ANNOTATION);
                let orphan = uid.is_some_and(|uid| !seen.deployments.iter().any(|d| d.uid == *uid));
                if let (true, Some(host)) = (orphan, worker.pod.address.clone()) {
                    self.actions.push(Action::Withdraw { host, job: job.name.clone() });
                }
            }
        }
    }

    fn decision(mut self, trouble: Option<Trouble>) -> Decision {
        let (input, seen, spec) = (self.input, self.input.seen, &self.input.object.spec);
        let generation = input.object.metadata.generation.unwrap_or(0);
        let ready = seen.workers.iter().filter(|w| w.ready && !w.pod.terminating && w.ordinal() < self.desired).count();
        let answers = || seen.workers.iter().filter_map(Worker::answer);
        let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        self.status.observed_generation = Some(generation);
        self.status.operator_version = Some(env!("CARGO_PKG_VERSION").into());
        let ready = i32::try_from(ready).unwrap_or(i32::MAX);
        self.status.workers = Some(WorkerCounts { desired: self.desired, ready });
        let (total, free) = (answers().map(|i| i.slots.total).sum(), answers().map(|i| i.slots.free).sum());
        self.status.slots = Some(SlotCounts { total: count(total), free: count(free) });
        let managed = seen.workers.iter().flat_map(jobs).filter(|j| j.annotations.contains_key(names::UID_ANNOTATION)).count();
        self.status.jobs = Some(JobCounts { managed: i32::try_from(managed).unwrap_or(i32::MAX), interactive: 0 });
        self.status.endpoint = spec
            .gateway
            .enabled
            .then(|| format!("http://{}.{}.svc:{}", names::rest_service(&input.owner.name), input.owner.namespace, spec.gateway.port));
        let trouble = trouble.or_else(|| (ready < self.desired).then(|| starting(seen, ready, self.desired)));
        let list = &mut self.status.conditions;
        let (reason, message) = trouble.as_ref().map_or(("Ready", ""), |t| (t.reason, t.message.as_str()));
        status::set(list, "Ready", trouble.is_none(), reason, message, generation, input.now);
        for (kind, holds) in
            [("Reconciling", trouble.as_ref().is_some_and(|t| t.passes)), ("Stalled", trouble.as_ref().is_some_and(|t| !t.passes))]
        {
            match holds {
                true => status::set(list, kind, true, reason, message, generation, input.now),
                false => status::clear(list, kind),
            }
        }
        let requeue = if trouble.is_some_and(|t| t.passes) { BUSY } else { IDLE };
        Decision { status: self.status, actions: self.actions, events: self.events, requeue }
    }
}

fn jobs(worker: &Worker) -> impl Iterator<Item = &SessionJob> {
    worker.answer().into_iter().flat_map(|info| &info.jobs)
}

fn starting(seen: &Seen, ready: i32, desired: i32) -> Trouble {
    let waiting = seen.workers.iter().find_map(|w| w.pod.waiting.as_ref()).map(|(why, text)| format!("{why}: {text}"));
    let ended = || seen.workers.iter().find_map(|w| w.pod.ended.as_ref()).map(|e| format!("exit code {}: {}", e.exit_code, e.message));
    let why = waiting.or_else(ended).or_else(|| seen.refused.clone()).map(|w| format!(": {w}")).unwrap_or_default();
    Trouble { reason: "Starting", message: format!("{ready} of {desired} pods are ready{why}"), passes: true }
}

#[cfg(test)]
mod tests;
