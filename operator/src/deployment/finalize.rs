//! Pure: what deleting a StreamingDeployment takes. It is bounded: after a while the object goes, whatever the job does.

use jiff::SignedDuration;
use sluice_crds::{OnDelete, Operation, OperationType, Step};

use super::build;
use super::decide::{Action, OWN_TRIGGERS, Plan};
use crate::k8s::deletion::Deletion;

/// How long the pods may take to go.
const STOPPING: SignedDuration = SignedDuration::from_secs(120);

/// Stops the job as `onDelete` says, then lets the object go; owned children go with it.
pub fn decide(plan: &mut Plan) {
    let (input, policy) = (plan.input, &plan.input.valid.policy);
    let asked = input.deleting.unwrap_or(input.now);
    let most = STOPPING
        + match policy.on_delete {
            OnDelete::RetainState => SignedDuration::ZERO,
            OnDelete::Savepoint => policy.savepoint_timeout,
            OnDelete::DeleteState => SignedDuration::from_secs(build::DELETION_DEADLINE),
        };
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
        if policy.on_delete == OnDelete::DeleteState && !state_is_gone(plan) {
            return plan.busy();
        }
        plan.event(false, "Deleted", format!("the job has stopped (onDelete {:?})", policy.on_delete));
        plan.actions.push(Action::RemoveFinalizer);
    }
}

/// Deletes the volume that the operator made, or else what the job has written: in an object store, on the user's volume, on a session
/// cluster's. False: that is not done yet.
fn state_is_gone(plan: &mut Plan) -> bool {
    let input = plan.input;
    if let Some((kind, claim)) = plan.own_volume() {
        plan.actions.push(Action::Delete(kind, claim));
        return true;
    }
    let Some(revision) = plan.revision(plan.revisions().current) else { return true };
    if revision.template.makes_volume() {
        return true;
    }
    if input.observed.workloads.iter().any(|w| w.replicas > 0 || !w.pods.is_empty()) {
        // It would write again what is deleted.
        return false;
    }
    // Those that users have made stay, as their objects do.
    let own = input.observed.savepoints.iter().filter(|s| OWN_TRIGGERS.contains(&s.trigger.as_str()));
    let own: Vec<String> = own.filter_map(|s| s.path.clone()).collect();
    let Some(job) = build::state_deletion(input.owner, &plan.for_preflight(&revision), &own) else { return true };
    match &input.observed.deletion {
        Deletion::None => plan.apply(job),
        Deletion::Running => {}
        Deletion::Done => {
            plan.event(false, "StateDeleted", "the files of the job are deleted");
            return true;
        }
        Deletion::Failed(message) => {
            plan.event(true, "StateRetained", format!("the files of the job are not all deleted: {message}"));
            return true;
        }
    }
    false
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
