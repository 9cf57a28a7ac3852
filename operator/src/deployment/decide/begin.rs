//! Which operation begins, if none is under way.

use sluice_crds::{Operation, OperationType, RevisionStatus, StartedFrom, Step, UpgradeMode};

use super::{Action, Plan};
use crate::deployment::build;
use crate::deployment::observe::{Failure, LEFT_OVER};
use crate::deployment::revision::{Revision, Template};
use crate::names;

impl Plan<'_> {
    /// Begins what the spec asks for.
    pub fn begin(&mut self) {
        self.cancel_outdated();
        if self.status.operation.is_some() {
            return;
        }
        self.adopt();
        let suspend = self.input.valid.policy.suspend.is_some();
        let revisions = self.revisions();
        let wanted = self.input.wanted_hash();
        let current = self.input.observed.revision(revisions.current).cloned();
        let current = current.or_else(|| self.made_again(revisions.current));
        let Some(current) = current else {
            match revisions.current {
                0 if !suspend && wanted.is_some() => self.begin_deploy(),
                0 => {}
                lost => self.begin_without(lost),
            }
            return;
        };
        if let (Some(rejected), Some(wanted)) = (&self.status.rejected, &wanted)
            && rejected.hash != *wanted
        {
            self.status.rejected = None;
        }
        let suspended = self.status.halted.as_ref().is_some_and(|h| h.reason == "Suspended");
        if suspend {
            if self.status.halted.is_none() {
                self.begin_suspend(&current);
            }
            return;
        }
        let tried = self.status.rejected.as_ref().map(|r| &r.hash);
        match &wanted {
            Some(wanted) if current.hash != *wanted && tried != Some(wanted) => self.begin_upgrade(&current),
            // What was halted by a failure is started again by a change only; its hash is the current one.
            _ if suspended => self.begin_resume(&current),
            _ => {}
        }
    }

    /// Before anything was stopped, a spec that changed again takes the place of the one that was tried.
    fn cancel_outdated(&mut self) {
        let Some(operation) = &self.status.operation else { return };
        if operation.step != Step::Preflight {
            return;
        }
        let outdated = self.input.wanted_hash().is_none_or(|wanted| wanted != operation.hash);
        if outdated || self.input.valid.policy.suspend.is_some() {
            self.status.operation = None;
            self.set_target(self.revisions().current);
        }
    }

    fn set_target(&mut self, target: i64) {
        let revisions = self.revisions();
        self.status.revision = Some(RevisionStatus { target, ..revisions });
    }

    fn next_number(&self) -> i64 {
        let revisions = self.revisions();
        let made = self.input.observed.revisions.iter().map(|r| r.number).max().unwrap_or(0);
        made.max(revisions.current).max(revisions.target) + 1
    }

    fn start_operation(&mut self, kind: OperationType, step: Step, revision: i64, hash: String, start: Option<StartedFrom>) {
        let (now, revisions) = (self.now(), self.revisions());
        self.status.operation = Some(Operation {
            kind,
            step,
            started_at: now.clone(),
            step_started_at: now,
            revision,
            hash,
            from: (revisions.current > 0).then_some(revisions.current),
            mode: self.input.valid.policy.upgrade.mode,
            savepoint: None,
            start,
            previous_start: self.status.started_from.clone(),
            running_since: None,
            message: None,
        });
        self.set_target(revision);
    }

    /// `restoreFrom` as a start of its own; None if it cannot be used yet.
    fn restored_start(&mut self) -> Option<StartedFrom> {
        let state_id = self.new_state_id();
        let Some(from) = self.input.restore_from else {
            // On a new volume is none of the state that Kafka may still tell of: that of a deployment that went with it.
            let state_id = if self.volume_is_new() { state_id.max(names::FIRST_START + 1) } else { state_id };
            return Some(StartedFrom { state_id, path: None });
        };
        // The first start goes on with what an earlier object of the name has left, unless it is told otherwise, as here.
        let state_id = state_id.max(names::FIRST_START + 1);
        if from.empty.is_some() {
            return Some(StartedFrom { state_id, path: None });
        }
        if let Some(path) = &from.path {
            return Some(StartedFrom { state_id, path: Some(local(path)) });
        }
        match &self.input.observed.restore {
            Some(Ok(path)) => Some(StartedFrom { state_id, path: Some(local(path)) }),
            Some(Err(message)) => {
                self.blocked = Some(Failure { reason: "SavepointNotFound".into(), message: message.clone() });
                None
            }
            None => None,
        }
    }

    fn volume_is_new(&self) -> bool {
        self.input.valid.template.as_ref().is_ok_and(Template::makes_volume) && self.own_volume().is_none()
    }

    /// The current revision, if somebody has deleted its ControllerRevision and the spec is still what its children were made of.
    fn made_again(&mut self, number: i64) -> Option<Revision> {
        let owner = self.input.owner;
        let template = self.input.wanted().filter(|_| number > 0)?;
        let image = self.status.image.clone().unwrap_or_else(|| self.input.default_image.to_owned());
        let revision = Revision::new(number, &template, &image);
        let in_session = self.input.observed.session.is_some();
        let same = self.is_applied(&build::config_map(owner, &revision))
            && (in_session || self.is_applied(&build::workload(owner, &revision, &self.started_from(), &self.workload_options())));
        if !same {
            return None;
        }
        self.actions.push(Action::CreateRevision(Box::new(revision.clone())));
        Some(revision)
    }

    /// What runs is not known any more: what the spec asks for takes its place, on the same state.
    fn begin_without(&mut self, lost: i64) {
        let Some(template) = self.input.wanted() else { return };
        let suspended = self.input.valid.policy.suspend.is_some() && self.status.halted.is_some();
        if suspended || !self.has_room(template.parallelism) {
            return;
        }
        let (number, start) = (self.next_number(), self.started_from());
        self.start_operation(OperationType::Upgrade, Step::Stop, number, template.hash(), Some(start));
        let name = names::revision(&self.input.owner.name, lost);
        let text = format!("the ControllerRevision {name} is gone: revision {number} takes its place and goes on from the last checkpoint");
        self.event(true, "RevisionLost", text);
    }

    /// A job that runs although the status knows of none: somebody has removed the status. It is looked after as it is, and keeps its state.
    fn adopt(&mut self) {
        if self.status.revision.is_some() {
            return;
        }
        let workloads = self.input.observed.workloads.iter().filter(|w| !w.foreign);
        let Some(there) = workloads.max_by_key(|w| (w.replicas > 0, w.revision)) else { return };
        let current = there.revision;
        self.status.revision = Some(RevisionStatus { current, target: current, stable: Some(current) });
        self.status.started_from = Some(there.start.clone());
        self.event(true, "Adopted", format!("the status was lost: revision {current} is there and is gone on with"));
    }

    /// An earlier object of the name was let go with its pods (force-delete), or deletes them just now: two jobs must not run.
    fn left_over(&mut self) -> bool {
        let left: Vec<i64> = self.input.observed.workloads.iter().filter(|w| w.foreign).map(|w| w.revision).collect();
        left.iter().for_each(|revision| self.displace(*revision));
        if !left.is_empty() {
            let message = "pods of an earlier StreamingDeployment of this name are still there; the job starts when they are gone";
            self.wait_for(Failure { reason: LEFT_OVER.into(), message: message.into() });
        }
        !left.is_empty()
    }

    fn begin_deploy(&mut self) {
        let Some(template) = self.input.wanted() else { return };
        if self.left_over() {
            return;
        }
        let Some(start) = self.restored_start() else { return };
        if !self.has_room(template.parallelism) {
            return;
        }
        let number = self.next_number();
        // No preflight: there is no job that it would protect, and the job itself says the same a second earlier.
        self.start_operation(OperationType::Deploy, Step::Start, number, template.hash(), Some(start));
        self.event(false, "Deploying", format!("revision {number} is started"));
    }

    fn begin_upgrade(&mut self, current: &Revision) {
        let Some(template) = self.input.wanted() else { return };
        let stored = current.template.storage.is_some();
        if stored && template.storage != current.template.storage {
            let message = "spec.storage cannot be changed while there is state in it: put it back, or create another StreamingDeployment that \
                           restores from a savepoint of this one";
            self.blocked = Some(Failure { reason: "StorageChanged".into(), message: message.into() });
            return;
        }
        if !self.has_room(template.parallelism) {
            return;
        }
        let restore = template.restore_nonce != current.template.restore_nonce;
        let stateless = self.input.valid.policy.upgrade.mode == UpgradeMode::Stateless || !stored;
        let runs = self.status.halted.is_none();
        let start = if restore {
            let Some(start) = self.restored_start() else { return };
            Some(start)
        } else if stateless {
            Some(StartedFrom { state_id: self.new_state_id(), path: None })
        } else if runs {
            // Known when the old job has stopped.
            None
        } else {
            Some(self.started_from())
        };
        let number = self.next_number();
        // A job that is down has nothing to protect or to stop.
        let step = if runs { Step::Preflight } else { Step::Stop };
        self.start_operation(OperationType::Upgrade, step, number, template.hash(), start);
        self.event(false, "Upgrading", format!("revision {} is to be replaced by revision {number}", current.number));
    }

    fn begin_suspend(&mut self, current: &Revision) {
        let storage = current.template.storage.is_some();
        let start = match self.input.valid.policy.upgrade.mode {
            UpgradeMode::Stateless => Some(StartedFrom { state_id: self.new_state_id(), path: None }),
            UpgradeMode::Savepoint if storage => None,
            _ => Some(self.started_from()),
        };
        let step = if start.is_none() { Step::Savepoint } else { Step::Stop };
        self.start_operation(OperationType::Suspend, step, current.number, current.hash.clone(), start);
        self.event(false, "Suspending", self.input.valid.policy.suspend.clone().unwrap_or_default());
    }

    fn begin_resume(&mut self, current: &Revision) {
        if !self.has_room(current.template.parallelism) {
            return;
        }
        let start = self.started_from();
        self.start_operation(OperationType::Resume, Step::Start, current.number, current.hash.clone(), Some(start));
        self.event(false, "Resuming", format!("revision {} is started again", current.number));
    }
}

/// The runtime takes folders: `file:///x` is `/x`.
pub fn local(path: &str) -> String {
    path.strip_prefix("file://").unwrap_or(path).to_owned()
}
