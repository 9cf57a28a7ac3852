//! Pure: what deleting a StreamingDeployment takes. It is bounded: after a while the object goes, whatever the job does.

use jiff::SignedDuration;
use sluice_crds::{OnDelete, Operation, OperationType, Step};

use super::build::Kind;
use super::decide::{Action, Plan};
use crate::names;

/// How long the pods may take to go.
const STOPPING: SignedDuration = SignedDuration::from_secs(120);

/// Stops the job as `onDelete` says, then lets the object go; owned children go with it.
pub fn decide(plan: &mut Plan) {
    let (input, policy) = (plan.input, &plan.input.valid.policy);
    let asked = input.deleting.unwrap_or(input.now);
    let most = STOPPING + if policy.on_delete == OnDelete::Savepoint { policy.savepoint_timeout } else { SignedDuration::ZERO };
    let late = input.now.duration_since(asked) > most;
    if input.force_delete || late {
        let why = if late { "the job did not stop in time" } else { "sluice.dev/force-delete" };
        plan.event(true, "Deleted", format!("deleted without waiting for the job: {why}"));
        return plan.actions.push(Action::RemoveFinalizer);
    }
    if plan.status.operation.as_ref().is_none_or(|o| o.kind != OperationType::Delete)
        && plan.status.halted.as_ref().is_none_or(|h| h.reason != "Deleted")
    {
        begin(plan);
    }
    plan.operate();
    if plan.status.operation.is_none() {
        // A revision that was being stopped or rolled back when the deletion came.
        for workload in input.observed.workloads.iter().filter(|w| w.replicas > 0 || !w.pods.is_empty()) {
            plan.displace(workload.revision);
        }
        let claim = names::volume_claim(&input.owner.name);
        if policy.on_delete == OnDelete::DeleteState && input.observed.applied.contains_key(&(Kind::PersistentVolumeClaim, claim.clone())) {
            plan.actions.push(Action::Delete(Kind::PersistentVolumeClaim, claim));
        }
        plan.event(false, "Deleted", format!("the job has stopped (onDelete {:?})", policy.on_delete));
        plan.actions.push(Action::RemoveFinalizer);
    }
}

fn begin(plan: &mut Plan) {
    let (now, revisions, start) = (plan.now(), plan.revisions(), plan.started_from());
    let policy = &plan.input.valid.policy;
    let runs = plan.status.halted.is_none() && revisions.current > 0;
    // An operation that has stopped the job has a savepoint already, or was told to keep none.
    let stopped =
        plan.status.operation.as_ref().is_some_and(|o| matches!(o.step, Step::Stop | Step::Start | Step::Stabilize) && o.start.is_some());
    let save = policy.on_delete == OnDelete::Savepoint && runs && !stopped;
    plan.status.operation = Some(Operation {
        kind: OperationType::Delete,
        step: if save { Step::Savepoint } else { Step::Stop },
        started_at: now.clone(),
        step_started_at: now,
        revision: revisions.current,
        hash: String::new(),
        from: Some(revisions.current),
        mode: policy.upgrade.mode,
        savepoint: None,
        start: Some(start.clone()),
        previous_start: Some(start),
        running_since: None,
        message: None,
    });
    plan.event(false, "Deleting", format!("onDelete {:?}", policy.on_delete));
}
