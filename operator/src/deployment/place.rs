//! Where a job runs: in pods of its own, or as a process of a SessionCluster's pod. All decisions are the same for both: a job of a session is
//! seen as a workload with one pod, and this is what makes and ends it.

use sluice_crds::{SessionCluster, StartedFrom, StreamingDeploymentStatus};

use super::build::{self, CheckState, Kind, Owner, WorkloadOptions};
use super::decide::{Action, Plan};
use super::observe::{Ended, Failure, PodView, Workload, last_lines};
use super::revision::Revision;
use crate::names;
use crate::runtime_api::SessionJob;
use crate::session::workers::Worker;

/// The SessionCluster that a deployment names, as far as jobs depend on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    pub name: String,
    pub image: Option<String>,
    /// Its pods are about to be restarted: no job is given to it.
    pub updating: bool,
    pub pod_overrides: Option<serde_json::Value>,
}

impl Cluster {
    pub fn of(object: &SessionCluster) -> Self {
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            image: object.spec.image.clone().or_else(|| object.status.as_ref()?.image.clone()),
            updating: updates(object),
            pod_overrides: object.spec.pod_overrides.clone(),
        }
    }
}

/// Whether jobs are to be suspended for a restart of the cluster's pods.
pub fn updates(cluster: &SessionCluster) -> bool {
    cluster.status.as_ref().and_then(|s| s.update.as_ref()).is_some_and(|u| u.suspends_jobs)
}

/// What is seen of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    pub cluster: Cluster,
    pub workers: Vec<Worker>,
}

impl Session {
    /// The jobs of a deployment as workloads. A worker that it was given to and that does not answer may run it: nothing is done then that
    /// would make a second one.
    pub fn workloads(&self, owner: &Owner, status: &StreamingDeploymentStatus) -> Vec<Workload> {
        let mut found = vec![];
        for worker in &self.workers {
            match &worker.session {
                Some(Ok(info)) => found.extend(info.jobs.iter().filter_map(|job| workload(owner, worker, job))),
                Some(Err(why)) if status.worker.as_ref() == Some(&worker.pod.name) => found.push(Workload {
                    revision: status.revision.unwrap_or_default().current,
                    replicas: 1,
                    start: status.started_from.clone().unwrap_or_default(),
                    pods: vec![],
                    refused: Some(format!("the pod {} of the session cluster does not answer: {why}", worker.pod.name)),
                    foreign: false,
                }),
                _ => {}
            }
        }
        found
    }

    /// The worker for a job of so many tasks: the one it was given to last, if it has room, else the first that has.
    ///
    /// # Errors
    /// Why there is none for the moment.
    pub fn room(&self, uid: &str, last: Option<&String>, tasks: u32) -> Result<&Worker, Failure> {
        let cluster = &self.cluster.name;
        let fail = |reason: &str, message: String| Err(Failure { reason: reason.into(), message });
        if self.cluster.updating {
            return fail("ClusterUpdating", format!("the pods of the session cluster '{cluster}' are about to be restarted"));
        }
        if let Some(silent) = self.workers.iter().find(|w| w.is_silent() && Some(&w.pod.name) == last) {
            return fail("ClusterNotReady", format!("the pod {} of the session cluster '{cluster}' does not answer", silent.pod.name));
        }
        let open = |w: &&Worker| w.answer().is_some() && !w.pod.terminating;
        let free = |w: &Worker| {
            let info = w.answer();
            let own: u32 = info.into_iter().flat_map(|i| &i.jobs).filter(|j| is_of(uid, j)).map(|j| j.tasks).sum();
            info.map_or(0, |i| i.slots.free) + own
        };
        let fits = |w: &&Worker| open(w) && free(w) >= tasks;
        let first = self.workers.iter().filter(|w| Some(&w.pod.name) == last).find(fits);
        if let Some(worker) = first.or_else(|| self.workers.iter().find(fits)) {
            return Ok(worker);
        }
        let seen: Vec<String> = self.workers.iter().filter(open).map(|w| format!("{}: {}", w.pod.name, free(w))).collect();
        if seen.is_empty() {
            let waits = self.workers.iter().find_map(|w| w.pod.waiting.as_ref()).map(|(why, text)| format!(": {why} {text}"));
            return fail("ClusterNotReady", format!("the session cluster '{cluster}' has no running pod{}", waits.unwrap_or_default()));
        }
        let needs = format!("the job needs {tasks} slots on one pod of the session cluster '{cluster}'");
        fail("NotEnoughSlots", format!("{needs}, and there are free: {}", seen.join(", ")))
    }
}

fn is_of(uid: &str, job: &SessionJob) -> bool {
    job.annotations.get(names::UID_ANNOTATION).is_some_and(|u| u == uid)
}

fn workload(owner: &Owner, worker: &Worker, job: &SessionJob) -> Option<Workload> {
    if !is_of(&owner.uid, job) {
        return None;
    }
    let revision = names::revision_number(Some(&job.annotations))?;
    let start = StartedFrom {
        state_id: job.annotations.get(names::STATE_ID_ANNOTATION).and_then(|id| id.parse().ok()).unwrap_or_default(),
        path: job.annotations.get(names::RESTORED_FROM_ANNOTATION).cloned(),
    };
    let process = &job.process;
    let pod = PodView {
        name: worker.pod.name.clone(),
        uid: format!("{}/{}", worker.pod.uid, process.pid.unwrap_or_default()),
        address: worker.pod.address.as_ref().map(|host| names::session_job(host, &job.name)),
        terminating: job.stopping,
        restarts: process.restarts,
        running: process.running,
        ready: process.running,
        waiting: process.waiting.as_ref().map(|text| ("CrashLoopBackOff".to_owned(), text.clone())),
        ended: process.ended.as_ref().map(|e| Ended {
            exit_code: e.exit_code,
            message: last_lines(Some(&e.message)),
            at: e.at.map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time),
        }),
    };
    Some(Workload { revision, replicas: 1, start, pods: vec![pod], refused: None, foreign: false })
}

impl Plan<'_> {
    /// What a deployment has beside its jobs.
    pub fn share(&mut self, revision: &Revision) {
        let owner = self.input.owner;
        let children = match self.input.observed.session {
            None => build::shared(owner, revision, revision.number),
            Some(_) => build::shared_on_cluster(owner),
        };
        children.into_iter().for_each(|child| self.apply(child));
    }

    /// Brings a revision to where it runs, or ends it there (no replicas).
    pub fn place(&mut self, revision: &Revision, start: &StartedFrom, options: &WorkloadOptions) {
        let owner = self.input.owner;
        let Some(session) = &self.input.observed.session else {
            return self.place_pods(revision, build::workload(owner, revision, start, options), options.replicas);
        };
        match self.input.observed.workload(revision.number) {
            Some(there) if options.replicas == 0 || there.start != *start => self.displace(revision.number),
            Some(_) => {}
            None if options.replicas == 0 => {}
            // One job has the name: that of another revision ends first.
            None if !self.input.observed.workloads.is_empty() => {}
            None => match session.room(&owner.uid, self.status.worker.as_ref(), revision.template.parallelism) {
                Ok(worker) => {
                    self.status.worker = Some(worker.pod.name.clone());
                    let submission = Box::new(build::submission(owner, revision, start, options));
                    self.act(Action::Submit { host: worker.pod.address.clone().unwrap_or_default(), submission });
                }
                Err(failure) => self.wait_for(failure),
            },
        }
    }

    /// A StatefulSet of the right hash that somebody has scaled is put back: to nothing it would stand still, to two it would write twice.
    fn place_pods(&mut self, revision: &Revision, child: build::Child, replicas: i32) {
        let applied = self.is_applied(&child);
        let there = self.input.observed.workload(revision.number).map(|w| w.replicas);
        match there.filter(|there| applied && *there != replicas) {
            Some(there) => {
                let text =
                    format!("the StatefulSet {} was scaled to {there} past the operator; it is scaled to {replicas} again", child.name);
                self.event(true, "ScaledBack", format!("{text} (spec.suspend stops a job, spec.parallelism spreads it)"));
                self.put_back(child);
            }
            None => self.apply(child),
        }
    }

    /// Takes away what runs a revision.
    pub fn displace(&mut self, revision: i64) {
        let observed = self.input.observed;
        if observed.session.is_none() {
            let name = names::revision(&self.input.owner.name, revision);
            return self.act(Action::Delete(Kind::StatefulSet, name));
        }
        for pod in observed.workloads.iter().filter(|w| w.revision == revision).flat_map(|w| &w.pods) {
            // `host:port/api/v1/jobs/name`
            if let Some((host, _)) = pod.address.as_deref().and_then(|a| a.split_once('/')) {
                self.act(Action::Withdraw { host: host.to_owned() });
            }
        }
    }

    /// Lets the job's process begin anew.
    pub fn replace(&mut self, revision: i64, pod: String) {
        match self.input.observed.session {
            None => self.act(Action::DeletePod(pod)),
            // What is missing is submitted again.
            Some(_) => self.displace(revision),
        }
    }

    fn act(&mut self, action: Action) {
        if !self.actions.contains(&action) {
            self.actions.push(action);
        }
    }

    pub fn wait_for(&mut self, failure: Failure) {
        self.blocked = Some(failure);
        self.requeue = self.requeue.min(jiff::SignedDuration::from_secs(2));
    }

    /// Whether an operation for a revision of so many tasks can begin.
    pub fn has_room(&mut self, tasks: u32) -> bool {
        let Some(session) = &self.input.observed.session else { return true };
        match session.room(&self.input.owner.uid, self.status.worker.as_ref(), tasks) {
            Ok(_) => true,
            Err(failure) => {
                self.wait_for(failure);
                false
            }
        }
    }

    /// What a preflight asks the job that runs.
    pub fn check_state(&self, allow_non_restored_state: bool) -> CheckState {
        let (owner, observed) = (self.input.owner, self.input.observed);
        let in_session = observed.session.as_ref().and(observed.job.as_ref()).map(|job| job.address.clone());
        let of_its_own = || format!("{}.{}.svc:{}", names::rest_service(&owner.name), owner.namespace, names::REST_PORT);
        CheckState { job: format!("http://{}", in_session.unwrap_or_else(of_its_own)), allow_non_restored_state }
    }

    /// A revision as pods beside its job are made of it: with the image of the session cluster and what is laid over its pods.
    pub fn for_preflight(&self, revision: &Revision) -> Revision {
        let mut revision = revision.clone();
        if let Some(session) = &self.input.observed.session {
            revision.template.pod_overrides.clone_from(&session.cluster.pod_overrides);
        }
        revision
    }
}

#[cfg(test)]
mod tests;
