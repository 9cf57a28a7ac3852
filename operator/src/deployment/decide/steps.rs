//! The steps of an operation: Preflight, Savepoint, Stop, Start, Stabilize.

use jiff::SignedDuration;
use sluice_crds::{
    CompatibilityCheck, DeletionPolicy, Fallback, Halted, LastSavepoint, Operation, OperationType, Rejected, RevisionStatus,
    SavepointPhase, StartedFrom, Step, UpgradeMode,
};

use super::{Action, Plan};
use crate::deployment::build::{self, CheckState, WorkloadOptions, storage_root};
use crate::deployment::observe::{Failure, PodView, Workload};
use crate::deployment::revision::Revision;
use crate::names;
use crate::runtime_api::{RuntimeState, SavepointRequest, SavepointState};

/// How long a job without checkpoints has to run to count as stable.
const STATELESS_STABLE: SignedDuration = SignedDuration::from_secs(30);
/// A preflight pod that cannot start for so long is a failure: an image that is not there, a quota.
const STUCK: SignedDuration = SignedDuration::from_secs(20);
/// A job that has been down for so long takes no savepoint.
const DOWN: SignedDuration = SignedDuration::from_secs(30);
/// So many crashes of a new revision are enough.
const CRASHES: i32 = 3;
/// Between two tries of a savepoint that a job is to be suspended with.
const SUSPEND_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// The reason of a start that another one takes the place of.
const SUPERSEDED: &str = "Superseded";
/// What a human does about something that is not the spec's fault.
const TRY_AGAIN: &str = " (when that is repaired, another spec.restartNonce tries again)";

/// Whether an operation brings up what the spec asks for.
fn follows_the_spec(operation: &Operation) -> bool {
    matches!(operation.kind, OperationType::Upgrade | OperationType::Deploy | OperationType::Resume)
}

impl Plan<'_> {
    /// Does a step; leads on by changing `status.operation`.
    pub fn step(&mut self, operation: &Operation) {
        match operation.step {
            Step::Preflight => self.preflight(operation),
            Step::Savepoint => self.savepoint(operation),
            Step::Stop => self.stop(operation),
            Step::Start => self.start(operation),
            Step::Stabilize => self.stabilize(operation),
        }
    }

    /// The revision of an operation; it is made of the spec if it is not there. None if the spec has changed meanwhile.
    fn target(&mut self, operation: &Operation) -> Option<Revision> {
        if let Some(revision) = self.revision(operation.revision) {
            return Some(revision);
        }
        let template = self.input.wanted().filter(|t| t.hash() == operation.hash)?;
        let revision = Revision::new(operation.revision, &template, self.input.default_image);
        self.actions.push(Action::CreateRevision(Box::new(revision.clone())));
        Some(revision)
    }

    fn preflight(&mut self, operation: &Operation) {
        let Some(revision) = self.target(operation) else {
            self.status.operation = None;
            return;
        };
        let owner = self.input.owner;
        self.apply(build::config_map(owner, &revision));
        let seen = self.input.observed.preflights.iter().find(|p| p.revision == revision.number).cloned();
        if let Some(message) =
            self.refused(&[&names::revision(&owner.name, revision.number), &names::preflight(&owner.name, revision.number)])
        {
            return self.reject(operation, &Failure { reason: "Refused".into(), message });
        }
        let Some(seen) = seen else {
            self.try_workload(operation, &revision);
            return self.apply(build::preflight(owner, &self.for_preflight(&revision), self.state_to_check(operation)));
        };
        match seen.outcome {
            None => {
                if let Some(text) = seen.pending {
                    self.told(Some(format!("the preflight waits: {text}")));
                }
                if let Some(mut failure) = seen.waits.filter(|_| self.step_time(operation) > STUCK) {
                    failure.message.push_str(TRY_AGAIN);
                    self.reject(operation, &failure);
                }
            }
            Some(Err(failure))
                if failure.reason == "IncompatibleState"
                    && self.input.valid.policy.upgrade.compatibility_check == CompatibilityCheck::Warn =>
            {
                self.event(true, "IncompatibleState", failure.message);
                self.after_preflight(operation);
            }
            Some(Err(mut failure)) => {
                if failure.reason == "PreflightFailed" {
                    if let Some(waited) = &operation.message {
                        failure.message = format!("{}; {waited}", failure.message);
                    }
                    failure.message.push_str(TRY_AGAIN);
                }
                self.reject(operation, &failure);
            }
            Some(Ok(warning)) => {
                if let Some(warning) = warning {
                    self.event(true, "PartialState", format!("some state of revision {} starts empty:\n{warning}", operation.revision));
                }
                self.after_preflight(operation);
            }
        }
    }

    /// What the operation waits for.
    fn told(&mut self, message: Option<String>) {
        if let Some(operation) = &mut self.status.operation {
            operation.message = message;
        }
    }

    /// Nothing speaks against the new revision.
    fn after_preflight(&mut self, operation: &Operation) {
        self.told(None);
        if operation.start.is_some() {
            return self.go(Step::Stop);
        }
        let mode = self.effective_mode(operation);
        if let Some(operation) = &mut self.status.operation {
            operation.mode = mode;
        }
        if mode == UpgradeMode::Savepoint {
            return self.go(Step::Savepoint);
        }
        self.last_state();
        self.go(Step::Stop);
    }

    /// The state of a job that runs and is to be gone on from is looked at before it is stopped.
    fn state_to_check(&self, operation: &Operation) -> Option<CheckState> {
        let upgrade = &self.input.valid.policy.upgrade;
        let from = operation.from.unwrap_or_default();
        let runs = self.input.observed.info(from).is_some_and(|i| i.state == RuntimeState::Running);
        let wanted = runs && operation.start.is_none() && upgrade.compatibility_check != CompatibilityCheck::Ignore;
        wanted.then(|| self.check_state(upgrade.allow_non_restored_state))
    }

    /// LastState with a checkpoint that is too old takes a savepoint; a job that has never got so far as to run has none to give.
    fn effective_mode(&self, operation: &Operation) -> UpgradeMode {
        let from = operation.from.unwrap_or_default();
        let runs = self.input.observed.info(from).is_some_and(|i| i.state == RuntimeState::Running);
        if operation.mode == UpgradeMode::Savepoint && !runs && self.revisions().stable != Some(from) {
            return UpgradeMode::LastState;
        }
        let (Some(most), UpgradeMode::LastState) = (self.input.valid.policy.max_checkpoint_age, operation.mode) else {
            return operation.mode;
        };
        let fresh = self.input.observed.info(from).and_then(|i| i.last_commit).is_some_and(|at| self.input.now.duration_since(at) <= most);
        if fresh { UpgradeMode::LastState } else { UpgradeMode::Savepoint }
    }

    /// The next start goes on where the last one was.
    fn last_state(&mut self) {
        let start = self.started_from();
        if let Some(operation) = &mut self.status.operation {
            operation.start = Some(start);
        }
    }

    /// Nothing was stopped: the old job goes on.
    fn reject(&mut self, operation: &Operation, failure: &Failure) {
        let text = format!("revision {} was not started: {}", operation.revision, failure.message);
        self.event(true, &failure.reason, text);
        self.status.rejected = Some(Rejected {
            hash: operation.hash.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            rolled_back: false,
        });
        self.status.operation = None;
        let revisions = self.revisions();
        self.status.revision = Some(RevisionStatus { target: revisions.current, ..revisions });
    }

    /// Stops the job with a savepoint. Also for suspending and deleting.
    pub fn savepoint(&mut self, operation: &Operation) {
        let from = operation.from.unwrap_or(operation.revision);
        let trigger = match operation.kind {
            OperationType::Suspend => "suspend",
            OperationType::Delete => "delete",
            _ => "upgrade",
        };
        let Some(name) = operation.savepoint.clone() else {
            // Written down first: whoever goes on from here makes the same savepoint.
            let name = names::savepoint(&self.input.owner.name, from, trigger, operation.started_at.0.as_second());
            if let Some(operation) = &mut self.status.operation {
                operation.savepoint = Some(name);
            }
            return;
        };
        let Some(path) = self.savepoint_path(from, &name) else {
            return self.savepoint_failed(operation, "there is no storage for savepoints");
        };
        let seen = self.input.observed.savepoints.iter().find(|s| s.name == name).cloned();
        let Some(seen) = seen else {
            let last = operation.kind == OperationType::Delete;
            let deletion = if last { DeletionPolicy::Retain } else { self.input.valid.policy.savepoint_deletion };
            self.actions.push(Action::CreateSavepoint { name, trigger, path: Some(path), owned: !last, deletion });
            return;
        };
        match seen.phase {
            SavepointPhase::Completed => {
                let path = seen.path.clone().unwrap_or(path);
                let completed_at = seen.completed_at.clone().unwrap_or_else(|| self.now());
                self.status.last_savepoint = Some(LastSavepoint { name, path: path.clone(), completed_at });
                let start = StartedFrom { state_id: self.new_state_id(), path: Some(path) };
                self.told(None);
                if let Some(operation) = &mut self.status.operation {
                    operation.start = Some(start);
                }
                self.event(false, "SavepointCompleted", format!("revision {from} stopped with a savepoint"));
                self.go(Step::Stop);
            }
            SavepointPhase::Failed | SavepointPhase::Abandoned => {
                self.savepoint_failed(operation, seen.message.as_deref().unwrap_or("no reason given"));
            }
            SavepointPhase::Pending | SavepointPhase::InProgress => self.await_savepoint(operation, from, name, path),
        }
    }

    fn await_savepoint(&mut self, operation: &Operation, from: i64, name: String, path: String) {
        let end = |outcome| Action::EndSavepoint { name: name.clone(), revision: from, outcome };
        let late = self.step_time(operation) > self.input.valid.policy.savepoint_timeout;
        let view = self.input.observed.job.as_ref().filter(|j| j.revision == from);
        let info = self.input.observed.info(from);
        let ours = info.and_then(|i| i.savepoint.as_ref()).filter(|s| s.directory == path);
        match (info, ours) {
            (Some(info), Some(taken)) if taken.state == SavepointState::Completed && info.state == RuntimeState::Stopped => {
                self.actions.push(end(Ok((path, taken.size_bytes))));
            }
            (Some(_), Some(taken)) if taken.state == SavepointState::Failed => {
                let message = taken.error.clone().unwrap_or_else(|| "no reason given".into());
                self.actions.push(end(Err(message)));
            }
            _ if late => self.actions.push(end(Err(format!("it took longer than {}", self.input.valid.policy.upgrade.savepoint_timeout)))),
            (Some(info), None) if matches!(info.state, RuntimeState::Running) => {
                if let Some(view) = view {
                    let request = SavepointRequest { directory: path, stop: true, drain: false };
                    self.actions.push(Action::TakeSavepoint { address: view.address.clone(), request });
                }
            }
            _ if self.hopeless(from) || (self.step_time(operation) > DOWN && !self.serves(from)) => {
                self.actions.push(end(Err("the job does not run".into())))
            }
            // It starts, is busy with another savepoint, or does not answer for the moment.
            _ => {}
        }
    }

    /// The job is in a state in which it takes savepoints, or takes one.
    fn serves(&self, revision: i64) -> bool {
        self.input
            .observed
            .info(revision)
            .is_some_and(|i| matches!(i.state, RuntimeState::Running | RuntimeState::Stopping | RuntimeState::Stopped))
    }

    /// The job's pod keeps failing, or there is none.
    fn hopeless(&self, revision: i64) -> bool {
        let Some(workload) = self.input.observed.workload(revision) else { return true };
        let crashes = |p: &PodView| !p.running && p.waiting.as_ref().is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
        workload.replicas == 0 || workload.pods.iter().any(crashes)
    }

    fn savepoint_failed(&mut self, operation: &Operation, why: &str) {
        let policy = &self.input.valid.policy;
        let giving_way = operation.kind == OperationType::Delete || policy.upgrade.fallback == Fallback::LastState;
        if giving_way {
            self.event(true, "SavepointFailed", format!("{why}; going on from the last checkpoint instead"));
            self.last_state();
            if let Some(operation) = &mut self.status.operation {
                operation.mode = UpgradeMode::LastState;
            }
            return self.go(Step::Stop);
        }
        let message = format!("no savepoint could be taken ({why}), and spec.upgrade.fallback is Block");
        if operation.kind == OperationType::Suspend {
            return self.suspend_again(operation, &message);
        }
        self.reject(operation, &Failure { reason: "SavepointFailed".into(), message });
    }

    /// A job that is to be down, but not without a savepoint, is asked for one again; not if it is not to be down any more.
    fn suspend_again(&mut self, operation: &Operation, message: &str) {
        if self.input.valid.policy.suspend.is_none() {
            self.event(false, "Resuming", "the job was not suspended, and is not to be any more");
            self.status.operation = None;
            return;
        }
        let text = format!("{message}; it is tried again (LastState would suspend the job with its last checkpoint)");
        let told = operation.message.as_ref() == Some(&text);
        if !told {
            self.event(true, "SavepointFailed", text.clone());
        }
        let last = self.input.observed.savepoints.iter().find(|s| Some(&s.name) == operation.savepoint.as_ref());
        let since = last.and_then(|s| s.completed_at.clone()).unwrap_or_else(|| operation.step_started_at.clone());
        let again = self.input.now.duration_since(since.0) >= SUSPEND_AGAIN;
        let now = self.now();
        if let Some(operation) = &mut self.status.operation {
            operation.message = Some(text);
            if again {
                (operation.savepoint, operation.started_at, operation.step_started_at) = (None, now.clone(), now);
            }
        }
        if again {
            let start = self.started_from();
            self.prune_savepoints(&start);
        }
    }

    fn savepoint_path(&self, revision: i64, name: &str) -> Option<String> {
        let storage = self.revision(revision)?.template.storage?;
        Some(format!("{}/{}/{name}", storage_root(&storage)?, names::state_folder(self.input.owner, "savepoints")))
    }

    /// Scales a revision to nothing.
    fn scale_down(&mut self, workload: &Workload) {
        match self.revision(workload.revision) {
            Some(revision) => {
                let options = WorkloadOptions { replicas: 0, allow_non_restored_state: false };
                self.place(&revision, &workload.start, &options);
            }
            // Somebody has deleted what it is made of.
            None => self.displace(workload.revision),
        }
    }

    /// Scales a revision to nothing and waits until its pods are gone.
    pub fn stop(&mut self, operation: &Operation) {
        let from = operation.from.unwrap_or(operation.revision);
        if let Some(workload) = self.input.observed.workload(from) {
            self.scale_down(workload);
            if (workload.replicas > 0 || !workload.pods.is_empty()) && !self.has_stopped(operation, from) {
                return;
            }
        }
        match operation.kind {
            OperationType::Suspend => {
                self.status.started_from.clone_from(&operation.start);
                let why = self.input.valid.policy.suspend.clone().unwrap_or_else(|| "it was asked to".into());
                self.halt("Suspended", &why);
                self.status.operation = None;
                self.event(false, "Suspended", "the job has stopped; its state is kept");
            }
            OperationType::Delete => {
                self.status.operation = None;
                self.halt("Deleted", "the StreamingDeployment is being deleted");
            }
            _ => {
                if operation.start.is_none() {
                    self.last_state();
                }
                self.go(Step::Start);
            }
        }
    }

    /// The job has stopped with the savepoint that the next one goes on from. It writes nothing any more, even if its pod starts again: its pod may
    /// go while the next one comes, which takes a second or two from the time in which no row is written.
    fn has_stopped(&self, operation: &Operation, from: i64) -> bool {
        let savepoint = operation.start.as_ref().and_then(|s| s.path.as_ref()).filter(|_| operation.savepoint.is_some());
        let info = self.input.observed.info(from).filter(|i| i.state == RuntimeState::Stopped);
        let taken = info.and_then(|i| i.savepoint.as_ref()).filter(|s| s.state == SavepointState::Completed);
        let own_pods = self.input.observed.session.is_none();
        own_pods && operation.kind == OperationType::Upgrade && savepoint.is_some() && savepoint == taken.map(|s| &s.directory)
    }

    pub fn halt(&mut self, reason: &str, message: &str) {
        let hash = self.input.current_hash(&self.status).cloned().unwrap_or_default();
        self.status.halted = Some(Halted { hash, reason: reason.into(), message: message.into() });
    }

    fn start(&mut self, operation: &Operation) {
        let Some(revision) = self.target(operation) else {
            // Nothing of it has been made, and the spec is another one by now.
            self.status.operation = None;
            return;
        };
        let start = self.start_of(operation);
        let revisions = self.revisions();
        self.status.revision = Some(RevisionStatus { current: revision.number, target: revision.number, ..revisions });
        self.status.started_from = Some(start.clone());
        self.status.image.clone_from(&revision.template.image);
        self.status.halted = None;
        let placed = self.input.observed.workload(revision.number).is_some_and(|w| w.replicas > 0 && w.start == start);
        if let Some(failure) = self.not_placed(operation).filter(|_| !placed) {
            return self.start_failed(operation, &failure);
        }
        for workload in self.input.observed.workloads.iter().filter(|w| w.revision != revision.number && w.replicas > 0) {
            self.scale_down(workload);
        }
        self.run(&revision, &start);
        if placed {
            self.go(Step::Stabilize);
        }
    }

    /// Why what runs a revision is not made any more.
    fn not_placed(&self, operation: &Operation) -> Option<Failure> {
        if !follows_the_spec(operation) {
            return None;
        }
        let fail = |reason: &str, message: String| Some(Failure { reason: reason.into(), message });
        if let Some(message) = self.refused(&[&names::revision(&self.input.owner.name, operation.revision)]) {
            return fail("Refused", message);
        }
        if self.superseded(operation) {
            return fail(SUPERSEDED, "the spec has changed again before the job was started".into());
        }
        // A session may have no room for long, and says so; what is made here is there at once, or it is refused.
        let late = self.input.observed.session.is_none() && self.step_time(operation) > self.input.valid.policy.ready_timeout;
        let said = self.input.refused.map(|(_, text)| format!(": {text}")).unwrap_or_default();
        late.then(|| format!("the API server has not taken the job for {}{said}", self.input.valid.policy.upgrade.ready_timeout))
            .and_then(|message| fail("DeadlineExceeded", message))
    }

    fn superseded(&self, operation: &Operation) -> bool {
        follows_the_spec(operation) && self.input.wanted_hash().is_some_and(|wanted| wanted != operation.hash)
    }

    /// What the API server has said of one of these children, when it was applied last: it is not as it could ever be.
    fn refused(&self, children: &[&str]) -> Option<String> {
        let (reason, text) = self.input.refused?;
        let subject = text.split(':').next().unwrap_or_default().rsplit(' ').next().unwrap_or_default();
        (reason == "Refused" && children.contains(&subject)).then(|| text.clone())
    }

    /// Whether the API server would take the new job, as long as the old one runs.
    fn try_workload(&mut self, operation: &Operation, revision: &Revision) {
        if self.input.observed.session.is_some() {
            return;
        }
        let start = self.start_of(operation);
        let options = WorkloadOptions { replicas: 1, ..self.workload_options() };
        self.actions.push(Action::Try(Box::new(build::workload(self.input.owner, revision, &start, &options))));
    }

    /// All children of the revision that is to run.
    pub fn run(&mut self, revision: &Revision, start: &StartedFrom) {
        let owner = self.input.owner;
        self.share(revision);
        self.apply(build::config_map(owner, revision));
        self.place(revision, start, &self.workload_options());
    }

    /// What the revision that is to run is started with.
    pub fn workload_options(&self) -> WorkloadOptions {
        let allow_non_restored_state = self.input.valid.policy.upgrade.allow_non_restored_state;
        WorkloadOptions { replicas: i32::from(self.status.halted.is_none()), allow_non_restored_state }
    }

    /// What the revision of an operation begins with.
    fn start_of(&self, operation: &Operation) -> StartedFrom {
        operation.start.clone().unwrap_or_else(|| self.started_from())
    }

    fn stabilize(&mut self, operation: &Operation) {
        let Some(revision) = self.revision(operation.revision) else { return };
        if self.actions.iter().any(|a| matches!(a, Action::DeletePod(_) | Action::Withdraw { .. })) {
            return;
        }
        if let Some(pod) = self.stopped(operation.revision) {
            let start = self.started_from();
            self.run(&revision, &start);
            return self.replace(operation.revision, pod);
        }
        let start = self.start_of(operation);
        self.run(&revision, &start);
        let info = self.input.observed.info(revision.number);
        let finished = info.is_some_and(|i| i.state == RuntimeState::Finished);
        let running = info.is_some_and(|i| i.state == RuntimeState::Running);
        // Had it committed and then crashed unseen, a rollback with the same savepoint would go on from those commits: nothing is doubled.
        let committed = info.is_some_and(|i| i.commits > 0);
        let since = operation.running_since.clone();
        if running && since.is_none() {
            let now = self.now();
            if let Some(operation) = &mut self.status.operation {
                operation.running_since = Some(now);
            }
        }
        let long = since.is_some_and(|since| running && self.input.now.duration_since(since.0) >= STATELESS_STABLE);
        let stateful = revision.template.storage.is_some() && operation.mode != UpgradeMode::Stateless;
        if finished || (running && committed) || (committed && info.is_some_and(|i| i.state != RuntimeState::Failed)) || (long && !stateful)
        {
            return self.stable(operation);
        }
        if let Some(failure) = self.start_failure(operation, running) {
            self.start_failed(operation, &failure);
        }
    }

    fn stable(&mut self, operation: &Operation) {
        let revisions = self.revisions();
        self.status.revision = Some(RevisionStatus { stable: Some(operation.revision), ..revisions });
        self.status.operation = None;
        let text = format!("revision {} runs and is stable", operation.revision);
        match operation.kind {
            OperationType::Rollback => self.event(true, "RolledBack", text),
            _ => {
                self.status.rejected = None;
                self.event(false, "Stable", text);
            }
        }
    }

    /// Why a start has failed, as soon as that is certain.
    fn start_failure(&self, operation: &Operation, running: bool) -> Option<Failure> {
        let pods = self.input.observed.workload(operation.revision).map(|w| w.pods.as_slice()).unwrap_or_default();
        let ended = pods.iter().filter(|p| !p.terminating).find_map(|p| p.ended.as_ref().map(|e| (p, e)));
        let late = self.step_time(operation) > self.input.valid.policy.ready_timeout;
        let fail = |reason: &str, message: String| Some(Failure { reason: reason.into(), message });
        match ended {
            Some((_, end)) if end.exit_code == 2 => {
                let state = end.message.contains("savepoint");
                fail(if state { "IncompatibleState" } else { "InvalidSql" }, end.message.clone())
            }
            Some((pod, end)) if end.exit_code != 0 && pod.restarts >= CRASHES && !running => {
                fail("CrashLoop", format!("the job failed {} times: exit code {}: {}", pod.restarts, end.exit_code, end.message))
            }
            _ if late => {
                let waits =
                    pods.iter().find_map(|p| p.waiting.as_ref()).map(|(reason, text)| format!(" ({reason}: {text})")).unwrap_or_default();
                let timeout = &self.input.valid.policy.upgrade.ready_timeout;
                fail("DeadlineExceeded", format!("the job was not running with a completed checkpoint after {timeout}{waits}"))
            }
            // A fix waits: there is no need to wait for the deadline of what it fixes.
            _ if !running && self.superseded(operation) => fail(SUPERSEDED, "the spec has changed again before the job ran".into()),
            _ => None,
        }
    }

    fn start_failed(&mut self, operation: &Operation, failure: &Failure) {
        self.event(true, &failure.reason, format!("revision {}: {}", operation.revision, failure.message));
        let revisions = self.revisions();
        let back = operation.from.filter(|from| revisions.stable == Some(*from) && *from != operation.revision);
        let roll = operation.kind == OperationType::Upgrade && self.input.valid.policy.upgrade.rollback;
        let rejected = Rejected {
            hash: operation.hash.clone(),
            reason: failure.reason.clone(),
            message: failure.message.clone(),
            rolled_back: operation.kind == OperationType::Rollback || (roll && back.is_some()),
        };
        if let (true, Some(back), Some(old)) = (roll, back, back.and_then(|b| self.revision(b))) {
            let start = match (&operation.start, operation.mode) {
                (Some(start), UpgradeMode::Savepoint) if operation.savepoint.is_some() => {
                    StartedFrom { state_id: self.new_state_id(), path: start.path.clone() }
                }
                _ => operation.previous_start.clone().unwrap_or_else(|| self.started_from()),
            };
            let now = self.now();
            self.status.operation = Some(Operation {
                kind: OperationType::Rollback,
                step: Step::Stop,
                started_at: now.clone(),
                step_started_at: now,
                revision: back,
                hash: old.hash,
                from: Some(operation.revision),
                start: Some(start),
                previous_start: operation.start.clone(),
                running_since: None,
                message: Some(format!("back to revision {back}: {}", failure.message)),
                ..operation.clone()
            });
            self.status.revision = Some(RevisionStatus { target: back, ..revisions });
            self.status.rejected = Some(rejected);
            return;
        }
        match (operation.kind, failure.reason.as_str()) {
            // It would fail for ever in the same way.
            (OperationType::Deploy | OperationType::Upgrade | OperationType::Resume, "InvalidSql" | "IncompatibleState") => {
                self.status.operation = None;
                self.halt(&failure.reason, &failure.message);
            }
            // It may come up yet; it is said that it needs a look.
            (OperationType::Rollback, _) => self.status.operation = None,
            _ => {
                self.status.operation = None;
                self.status.rejected = Some(rejected);
            }
        }
    }
}
