//! Savepoints by schedule.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sluice_crds::{NextSavepoint, SavepointPhase};

use super::{Action, Plan};
use crate::deployment::schedule::Schedule;
use crate::names;

impl Plan<'_> {
    /// Makes the Savepoint that is due. The status leads on to the next time only when the object is seen, and its name is made of the time: an
    /// operator that dies in between makes the same one, and none is left out. Times that passed while the job was down or busy count as one.
    pub fn scheduled(&mut self) {
        let down = self.status.halted.is_some();
        let Some(schedule) = self.input.valid.policy.savepoint_schedule.as_ref().filter(|_| !down) else {
            self.status.next_savepoint = None;
            return;
        };
        let next = self.status.next_savepoint.as_ref().filter(|n| n.schedule == schedule.text).map(|n| n.at.0);
        // One that was written by a clock that went ahead is not waited for.
        let Some(at) = next.filter(|at| schedule.after(self.input.now).is_none_or(|due| *at <= due)) else {
            return self.await_next(schedule);
        };
        if at > self.input.now {
            self.requeue = self.requeue.min(at.duration_since(self.input.now));
            return;
        }
        let name = names::scheduled_savepoint(&self.input.owner.name, at.as_second());
        let savepoints = &self.input.observed.savepoints;
        if savepoints.iter().any(|s| s.name == name) {
            return self.await_next(schedule);
        }
        let under_way = |s: &&super::ObservedSavepoint| {
            s.trigger == "scheduled" && matches!(s.phase, SavepointPhase::Pending | SavepointPhase::InProgress)
        };
        if let Some(before) = savepoints.iter().find(under_way) {
            let text = format!("the savepoint of {at} is left out: {} is still under way", before.name);
            self.event(true, "SavepointSkipped", text);
            return self.await_next(schedule);
        }
        let deletion = self.input.valid.policy.savepoint_deletion;
        self.actions.push(Action::CreateSavepoint { name, trigger: "scheduled", path: None, owned: true, deletion });
        self.busy();
    }

    fn await_next(&mut self, schedule: &Schedule) {
        let next = schedule.after(self.input.now);
        self.status.next_savepoint = next.map(|at| NextSavepoint { at: Time(at), schedule: schedule.text.clone() });
        if let Some(at) = next {
            self.requeue = self.requeue.min(at.duration_since(self.input.now));
        }
    }
}
