//! What becomes of state when a deployment goes, and when another one of its name comes.

use super::*;
use crate::k8s::deletion::Deletion;

/// The volume that the operator made goes with its claim; elsewhere a Job deletes what the job has written.
#[test]
fn state_is_deleted_wherever_it_is() {
    let claim = || json!({"uri": "file:///state", "volumeClaim": {"size": "1Gi"}});
    let (theirs, s3) = (json!({"uri": "file:///state", "volumeClaim": {"existingClaim": "c"}}), json!({"uri": "s3://b/p"}));
    let failed = || Deletion::Failed("no rights".into());
    for (what, storage, pods, deletion, expected, event) in [
        ("its own claim", claim(), 0, Deletion::None, "delete:PersistentVolumeClaim:job-state -finalizer", "Deleted"),
        ("a user's claim", theirs, 0, Deletion::None, "try:job-delete-state", ""),
        ("an object store", s3.clone(), 0, Deletion::None, "try:job-delete-state", ""),
        ("a pod may still write", s3.clone(), 1, Deletion::None, "delete:StatefulSet:job-r1", ""),
        ("under way", s3.clone(), 0, Deletion::Running, "", ""),
        ("done", s3.clone(), 0, Deletion::Done, "-finalizer", "StateDeleted Deleted"),
        ("failed", s3, 0, failed(), "-finalizer", "StateRetained Deleted"),
    ] {
        let scene = Scene::new().with(|s| {
            (s.spec["storage"], s.spec["onDelete"], s.deleting) = (storage.clone(), json!("DeleteState"), Some(now()));
            s.observed.revisions = vec![revision(1, &s.spec)];
            s.observed.workloads = vec![workload(1, pods)];
            s.observed.deletion = deletion;
            s.observed.savepoints = ["upgrade", "manual"].map(with_trigger).into();
            s.status.halted = Some(sluice_crds::Halted { reason: "Deleted".into(), ..Default::default() });
            if storage == claim() {
                s.observed.applied.insert((Kind::PersistentVolumeClaim, "job-state".into()), String::new());
            }
        });
        let decision = scene.decide();
        assert_eq!(line(&decision), format!("- Deleting halted=Deleted [{expected}]"), "{what}");
        let events: Vec<&str> = decision.events.iter().map(|e| e.reason.as_str()).collect();
        assert_eq!(events.join(" "), event, "{what}");
        for job in decision.actions.iter().filter_map(|a| if let Action::Apply(child) = a { Some(child) } else { None }) {
            let args = job.object["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
            assert!(
                args.contains("ns/job/checkpoints\",\"ns.job\"") && args.contains("/of-upgrade") && !args.contains("/of-manual"),
                "{args}"
            );
        }
    }
}

fn with_trigger(trigger: &str) -> ObservedSavepoint {
    let savepoint = savepoint(sluice_crds::SavepointPhase::Completed);
    ObservedSavepoint { trigger: trigger.into(), path: Some(format!("/of-{trigger}")), ..savepoint }
}

/// A first start goes on with what a deployment of the same name has left, if it can be there.
#[test]
fn a_new_volume_holds_no_state() {
    let first = |storage: Value, there: bool| {
        let scene = Scene::new().with(|s| {
            (s.status, s.observed) = Default::default();
            s.spec["storage"] = storage;
            if there {
                s.observed.applied.insert((Kind::PersistentVolumeClaim, "job-state".into()), String::new());
            }
        });
        scene.decide().status.operation.unwrap().start.unwrap().state_id == crate::names::FIRST_START
    };
    assert!(!first(json!({"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}), false));
    assert!(first(json!({"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}), true));
    assert!(first(json!({"uri": "file:///state", "volumeClaim": {"existingClaim": "c"}}), false));
    assert!(first(json!({"uri": "s3://b/p"}), false));
}
