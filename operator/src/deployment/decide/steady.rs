//! No operation is under way: the job is kept as it should be, and what is not needed any more goes.

use sluice_crds::{SavepointPhase, StartedFrom};

use super::{Action, Plan};
use crate::deployment::build::Kind;
use crate::deployment::observe::ObservedSavepoint;
use crate::names;
use crate::runtime_api::{RuntimeState, SavepointState};

/// Savepoints that the operator took by itself.
pub const OWN: &[&str] = &["upgrade", "suspend", "scheduled"];

impl Plan<'_> {
    /// Keeps the current revision running, or down.
    pub fn steady(&mut self) {
        let current = self.revisions().current;
        let Some(revision) = self.revision(current) else { return };
        self.health(current);
        let stopped = self.stopped(current);
        let start = self.started_from();
        self.run(&revision, &start);
        if let Some(pod) = stopped {
            self.event(true, "Restarting", "the job was stopped, but not by this operator's doing; it is started again");
            self.replace(current, pod);
        }
        self.prune(current, &start);
        self.scheduled();
    }

    fn health(&mut self, current: i64) {
        if self.status.halted.is_some() {
            return;
        }
        let observed = self.input.observed;
        let pod = observed.workload(current).and_then(|w| w.pods.iter().find(|p| !p.terminating)).cloned().unwrap_or_default();
        let state = observed.info(current).map(|i| i.state);
        let ended = pod.ended.as_ref().filter(|_| !pod.running);
        if state == Some(RuntimeState::Finished) {
            self.halt("Finished", "the job has done all it had to do");
            return self.event(false, "Finished", "the job has done all it had to do");
        }
        if state == Some(RuntimeState::Running) {
            // What was given up has come up after all.
            let hash = self.input.current_hash(&self.status).cloned();
            if self.status.rejected.as_ref().is_some_and(|r| Some(&r.hash) == hash.as_ref())
                && observed.info(current).is_some_and(|i| i.commits > 0)
            {
                self.status.rejected = None;
                let revisions = self.revisions();
                self.status.revision = Some(sluice_crds::RevisionStatus { stable: Some(current), ..revisions });
            }
        }
        let Some(ended) = ended else { return };
        if ended.exit_code == 0 {
            // A job that has finished stays up and says so. This one was told to go: its node is shut down or short of memory, its probe failed.
            // The kubelet or the StatefulSet's controller starts it again; a session does not.
            if observed.session.is_some() {
                self.displace(current);
            }
            return;
        }
        let policy = &self.input.valid.policy;
        let failures = pod.restarts + 1;
        let why = if !policy.restart_enabled {
            Some("spec.restart.enabled is false")
        } else if policy.max_attempts >= 0 && (ended.exit_code == 1 || failures > policy.max_attempts) {
            // The runtime has tried as often; what else ends it (memory, signals) counts by pod.
            Some("spec.restart.maxAttempts is reached")
        } else {
            None
        };
        if let Some(why) = why {
            let message = format!("exit code {}: {} ({why})", ended.exit_code, ended.message);
            self.halt("Failed", &message);
            self.event(true, "Failed", message);
        }
    }

    /// A job that is to run but was stopped: by somebody else, by an operation that was given up, or before its deployment was deleted and made
    /// again. A start that was stopped with a savepoint stays stopped, so that nothing goes on behind it: another start follows, from there.
    /// The pod to be replaced, behind the workload's change.
    pub fn stopped(&mut self, revision: i64) -> Option<String> {
        let info = self.input.observed.info(revision).filter(|i| i.state == RuntimeState::Stopped)?;
        let taken = info.savepoint.as_ref().filter(|s| s.state == SavepointState::Completed).map(|s| s.directory.clone());
        if let Some(path) = taken {
            let start = StartedFrom { state_id: self.new_state_id(), path: Some(path) };
            self.status.started_from = Some(start.clone());
            if let Some(operation) = &mut self.status.operation {
                operation.start = Some(start);
            }
        }
        self.input.observed.job.as_ref().map(|view| view.pod.clone())
    }

    /// Deletes what nothing needs any more.
    fn prune(&mut self, current: i64, start: &StartedFrom) {
        let (observed, name) = (self.input.observed, self.input.owner.name.as_str());
        for preflight in &observed.preflights {
            self.actions.push(Action::Delete(Kind::Job, names::preflight(name, preflight.revision)));
        }
        for workload in observed.workloads.iter().filter(|w| w.revision != current) {
            self.displace(workload.revision);
        }
        let keep = names::revision(name, current);
        for (kind, config_map) in observed.applied.keys().filter(|(kind, _)| *kind == Kind::ConfigMap) {
            if *config_map != keep {
                self.actions.push(Action::Delete(*kind, config_map.clone()));
            }
        }
        let stable = self.revisions().stable;
        let limit = self.input.valid.policy.revision_history_limit;
        let old: Vec<i64> = observed.revisions.iter().map(|r| r.number).filter(|n| *n != current && Some(*n) != stable).collect();
        for number in old.iter().take(old.len().saturating_sub(limit)) {
            self.actions.push(Action::DeleteRevision(names::revision(name, *number)));
        }
        self.prune_savepoints(start);
    }

    /// Their files go as their deletionPolicy says. Failed ones do not drive out good ones.
    pub fn prune_savepoints(&mut self, start: &StartedFrom) {
        let policy = &self.input.valid.policy;
        let own = self.input.observed.savepoints.iter().filter(|s| OWN.contains(&s.trigger.as_str()) && !s.deleting);
        let ended = own.filter(|s| !matches!(s.phase, SavepointPhase::Pending | SavepointPhase::InProgress));
        let (mut completed, mut others): (Vec<_>, Vec<_>) = ended.partition(|s| s.phase == SavepointPhase::Completed);
        let age = |s: &ObservedSavepoint| s.completed_at.as_ref().map(|at| self.input.now.duration_since(at.0));
        let mut old: Vec<String> = vec![];
        for list in [&mut completed, &mut others] {
            list.sort_by_key(|s| std::cmp::Reverse(s.completed_at.clone()));
            let outdated = |i: usize, s: &ObservedSavepoint| {
                i >= policy.savepoint_history_limit || (i > 0 && policy.savepoint_max_age.zip(age(s)).is_some_and(|(most, age)| age > most))
            };
            let goes = list.iter().enumerate().filter(|(i, s)| outdated(*i, s));
            // The state that runs began with it.
            old.extend(goes.filter(|(_, s)| s.path.is_none() || s.path != start.path).map(|(_, s)| s.name.clone()));
        }
        self.actions.extend(old.into_iter().map(Action::DeleteSavepoint));
    }
}
