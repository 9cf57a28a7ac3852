//! Pure: spec + what is there + status + time -> a new status and actions.
//!
//! The new status is written before the actions are done, and actions follow from (status, observation) alone: an operator that dies between
//! any two writes finds the same actions again.

mod begin;
mod scheduled;
mod steady;
mod steps;

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sluice_crds::{DeletionPolicy, Operation, RestoreFrom, RevisionStatus, StartedFrom, Step, StreamingDeploymentStatus};

pub use steady::OWN as OWN_TRIGGERS;

use super::build::{Child, Kind, Owner};
use super::observe::{Failure, Observed, ObservedSavepoint};
use super::revision::{Revision, Template};
use super::status;
use super::validate::Validated;
use crate::runtime_api::{SavepointRequest, Submission};

/// What a decision rests on.
pub struct Input<'a> {
    pub owner: &'a Owner,
    pub generation: i64,
    /// The object is being deleted.
    pub deleting: Option<Timestamp>,
    pub force_delete: bool,
    pub has_finalizer: bool,
    pub valid: &'a Validated,
    pub restore_from: Option<&'a RestoreFrom>,
    pub observed: &'a Observed,
    pub status: &'a StreamingDeploymentStatus,
    pub default_image: &'a str,
    /// What the API server refused when this was acted upon last: reason and text.
    pub refused: Option<&'a (String, String)>,
    pub now: Timestamp,
}

impl Input<'_> {
    /// What the spec asks for; None if it is invalid. A `restoreFrom` that was removed has done its work: that is no change.
    pub fn wanted(&self) -> Option<Cow<'_, Template>> {
        let template = self.valid.template.as_ref().ok()?;
        let current = self.observed.revision(self.status.revision.unwrap_or_default().current);
        match current.map(|c| c.template.restore_nonce) {
            Some(nonce) if self.restore_from.is_none() && nonce != template.restore_nonce => {
                Some(Cow::Owned(Template { restore_nonce: nonce, ..template.clone() }))
            }
            _ => Some(Cow::Borrowed(template)),
        }
    }

    /// Hash of the revision that runs.
    pub fn current_hash(&self, status: &StreamingDeploymentStatus) -> Option<&String> {
        self.observed.revision(status.revision.unwrap_or_default().current).map(|r| &r.hash)
    }

    /// Hash of what the spec asks for; None if it is invalid.
    pub fn wanted_hash(&self) -> Option<String> {
        self.wanted().map(|template| template.hash())
    }
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    AddFinalizer,
    RemoveFinalizer,
    CreateRevision(Box<Revision>),
    Apply(Box<Child>),
    /// Asks whether a child would be taken; nothing is changed.
    Try(Box<Child>),
    /// Deletes a child, with what it owns.
    Delete(Kind, String),
    DeleteRevision(String),
    DeletePod(String),
    /// Gives the job to a session.
    Submit {
        host: String,
        submission: Box<Submission>,
    },
    /// Asks a session to end the job.
    Withdraw {
        host: String,
    },
    /// Makes a Savepoint object. `owned`: it goes with the deployment.
    CreateSavepoint {
        name: String,
        trigger: &'static str,
        /// Where it goes; where its controller says if none.
        path: Option<String>,
        owned: bool,
        deletion: DeletionPolicy,
    },
    DeleteSavepoint(String),
    /// Asks the job's pod for a savepoint.
    TakeSavepoint {
        address: String,
        request: SavepointRequest,
    },
    /// Writes down how a savepoint went.
    EndSavepoint {
        name: String,
        revision: i64,
        outcome: Result<(String, Option<i64>), String>,
    },
}

/// An event on the StreamingDeployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub warning: bool,
    pub reason: String,
    pub text: String,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub status: StreamingDeploymentStatus,
    pub actions: Vec<Action>,
    pub events: Vec<Note>,
    /// When to look again, if nothing happens before.
    pub requeue: SignedDuration,
}

/// Nothing to do but to look after the job.
const IDLE: SignedDuration = SignedDuration::from_secs(30);
/// The same of a job that no pod of its own tells of.
const IDLE_IN_SESSION: SignedDuration = SignedDuration::from_secs(5);
/// Something is under way that no watch tells: the job's own state. What has taken long already is looked at less often.
const BUSY: SignedDuration = SignedDuration::from_millis(500);
const LEAST_BUSY: SignedDuration = SignedDuration::from_secs(5);

/// Decides.
pub fn decide(input: &Input) -> Decision {
    let mut plan = Plan::new(input);
    if input.deleting.is_some() {
        if !input.has_finalizer {
            return plan.decision();
        }
        super::finalize::decide(&mut plan);
    } else {
        if !input.has_finalizer {
            plan.actions.push(Action::AddFinalizer);
        }
        plan.begin();
        plan.operate();
        if plan.status.operation.is_none() {
            plan.steady();
        }
        if input.observed.session.is_some() {
            plan.requeue = plan.requeue.min(IDLE_IN_SESSION);
        }
    }
    plan.decision()
}

/// A decision in the making.
pub struct Plan<'a> {
    pub input: &'a Input<'a>,
    pub status: StreamingDeploymentStatus,
    pub actions: Vec<Action>,
    pub events: Vec<Note>,
    pub requeue: SignedDuration,
    /// Why nothing can begin.
    pub blocked: Option<Failure>,
}

impl<'a> Plan<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        Self { input, status: input.status.clone(), actions: vec![], events: vec![], requeue: IDLE, blocked: None }
    }

    fn decision(mut self) -> Decision {
        status::summarise(self.input, &mut self.status, self.blocked.as_ref());
        Decision { status: self.status, actions: self.actions, events: self.events, requeue: self.requeue }
    }

    pub fn now(&self) -> Time {
        Time(self.input.now)
    }

    pub fn busy(&mut self) {
        self.requeue = BUSY;
    }

    fn busy_with(&mut self, operation: &Operation) {
        self.requeue = (self.step_time(operation) / 10).clamp(BUSY, LEAST_BUSY);
    }

    pub fn event(&mut self, warning: bool, reason: &str, text: impl Into<String>) {
        self.events.push(Note { warning, reason: reason.into(), text: text.into() });
    }

    pub fn revisions(&self) -> RevisionStatus {
        self.status.revision.unwrap_or_default()
    }

    /// A revision that is there, or that this decision makes.
    pub fn revision(&self, number: i64) -> Option<Revision> {
        let made = self.actions.iter().find_map(|a| match a {
            Action::CreateRevision(r) if r.number == number => Some(Revision::clone(r)),
            _ => None,
        });
        self.input.observed.revision(number).cloned().or(made)
    }

    /// Applies a child unless it is there as it should be.
    pub fn apply(&mut self, child: Child) {
        match self.is_applied(&child) {
            true => self.unplan(&child),
            false => self.put_back(child),
        }
    }

    /// Whether a child is there as it was applied last.
    pub fn is_applied(&self, child: &Child) -> bool {
        self.input.observed.applied.get(&(child.kind, child.name.clone())) == Some(&child.hash)
    }

    /// Applies a child although it was applied like that: somebody else has changed it.
    pub fn put_back(&mut self, child: Child) {
        self.unplan(&child);
        self.actions.push(Action::Apply(Box::new(child)));
    }

    /// Of two applies of one child in a decision the later one is meant.
    fn unplan(&mut self, child: &Child) {
        self.actions.retain(|a| !matches!(a, Action::Apply(c) if c.kind == child.kind && c.name == child.name));
    }

    /// The claim of the volume that the operator has made, if it is there.
    pub fn own_volume(&self) -> Option<(Kind, String)> {
        let claim = (Kind::PersistentVolumeClaim, crate::names::volume_claim(&self.input.owner.name));
        self.input.observed.applied.contains_key(&claim).then_some(claim)
    }

    /// An id that no state of this deployment has had.
    pub fn new_state_id(&self) -> i64 {
        let operation = self.status.operation.as_ref();
        let starts = [
            self.status.started_from.as_ref(),
            operation.and_then(|o| o.start.as_ref()),
            operation.and_then(|o| o.previous_start.as_ref()),
        ];
        let placed = self.input.observed.workloads.iter().map(|w| w.start.state_id);
        starts.into_iter().flatten().map(|s| s.state_id).chain(placed).max().unwrap_or(0) + 1
    }

    /// What the current revision was started from.
    pub fn started_from(&self) -> StartedFrom {
        self.status.started_from.clone().unwrap_or(StartedFrom { state_id: crate::names::FIRST_START, path: None })
    }

    /// Goes to a step of the operation.
    pub fn go(&mut self, step: Step) {
        let now = self.now();
        if let Some(operation) = &mut self.status.operation {
            operation.step = step;
            operation.step_started_at = now;
        }
    }

    /// Drives the operation as far as what is seen allows.
    pub fn operate(&mut self) {
        // More steps than there are: each can only lead on.
        for _ in 0..12 {
            let Some(operation) = self.status.operation.clone() else { return };
            let before = self.status.operation.clone();
            self.step(&operation);
            if self.status.operation == before {
                self.busy_with(&operation);
                return;
            }
        }
    }

    /// How long the current step has taken.
    pub fn step_time(&self, operation: &Operation) -> SignedDuration {
        self.input.now.duration_since(operation.step_started_at.0)
    }
}

#[cfg(test)]
mod tests;
