#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

fn owner() -> Owner {
    Owner { name: "etl".into(), namespace: "ns".into(), uid: "u1".into() }
}

/// A worker with two slots, of which jobs take some: (uid, tasks).
fn worker(ordinal: i32, jobs: &[(&str, u32)]) -> Worker {
    let job = |(uid, tasks): &(&str, u32)| {
        json!({"name": "etl", "tasks": tasks, "process": {"running": true, "pid": 7, "restarts": 1},
            "annotations": {"sluice.dev/uid": uid, "sluice.dev/revision": "r3", "sluice.dev/state-id": "2", "sluice.dev/restored-from": "/sp"}})
    };
    let used: u32 = jobs.iter().map(|(_, tasks)| tasks).sum();
    let info = json!({"slots": {"total": 2, "free": 2 - used}, "jobs": jobs.iter().map(job).collect::<Vec<_>>()});
    let host = Some(format!("10.0.0.{ordinal}:8081"));
    let pod = PodView { name: format!("c-session-{ordinal}"), uid: "p".into(), running: true, address: host, ..PodView::default() };
    Worker { pod, ready: true, template: None, session: Some(Ok(serde_json::from_value(info).unwrap())) }
}

fn silent(ordinal: i32) -> Worker {
    Worker { session: Some(Err("timed out".into())), ..worker(ordinal, &[]) }
}

fn down(ordinal: i32) -> Worker {
    let mut worker = Worker { session: None, ready: false, ..worker(ordinal, &[]) };
    (worker.pod.running, worker.pod.waiting) = (false, Some(("ErrImagePull".into(), "no such image".into())));
    worker
}

#[test]
fn a_job_goes_where_there_is_room() {
    for (what, workers, last, tasks, expected) in [
        ("empty", vec![worker(0, &[])], None, 2, "c-session-0"),
        ("the first that fits", vec![worker(0, &[("x", 1)]), worker(1, &[])], None, 2, "c-session-1"),
        ("where it was", vec![worker(0, &[]), worker(1, &[])], Some(1), 1, "c-session-1"),
        ("where it was there is no room", vec![worker(0, &[]), worker(1, &[("x", 2)])], Some(1), 1, "c-session-0"),
        ("its own slots count", vec![worker(0, &[("u1", 2)])], Some(0), 2, "c-session-0"),
        ("short", vec![worker(0, &[("x", 1)]), worker(1, &[("y", 2)])], None, 2, "NotEnoughSlots c-session-0: 1, c-session-1: 0"),
        ("none", vec![], None, 1, "ClusterNotReady has no running pod"),
        ("broken", vec![down(0)], None, 1, "ClusterNotReady ErrImagePull no such image"),
        ("nobody knows whether it runs", vec![silent(0), worker(1, &[])], Some(0), 1, "ClusterNotReady c-session-0"),
        ("another is silent", vec![silent(0), worker(1, &[])], Some(1), 1, "c-session-1"),
        ("its pod is broken", vec![down(0), worker(1, &[])], Some(0), 1, "c-session-1"),
    ] {
        let session = Session { cluster: Cluster { name: "c".into(), ..Cluster::default() }, workers };
        let last = last.map(|n| format!("c-session-{n}"));
        match session.room("u1", last.as_ref(), tasks) {
            Ok(worker) => assert_eq!(worker.pod.name, expected, "{what}"),
            Err(failure) => {
                let (reason, words) = expected.split_once(' ').unwrap();
                assert!(failure.reason == reason && failure.message.contains(words) && failure.passes(), "{what}: {failure:?}");
            }
        }
        let updating = Session { cluster: Cluster { updating: true, ..session.cluster.clone() }, ..session };
        assert_eq!(updating.room("u1", None, 1).unwrap_err().reason, "ClusterUpdating", "{what}");
    }
}

#[test]
fn jobs_are_workloads() {
    let status = StreamingDeploymentStatus { worker: Some("c-session-1".into()), ..StreamingDeploymentStatus::default() };
    let session = Session { workers: vec![worker(0, &[("x", 1)]), worker(1, &[("u1", 1)]), silent(2)], ..Session::default() };
    let found = session.workloads(&owner(), &status);
    assert_eq!(found.len(), 1, "the silent one does not have it");
    assert_eq!((found[0].revision, &found[0].start), (3, &StartedFrom { state_id: 2, path: Some("/sp".into()) }));
    let pod = &found[0].pods[0];
    assert_eq!((pod.address.as_deref(), pod.restarts, pod.running), (Some("10.0.0.1:8081/api/v1/jobs/etl"), 1, true));
    // Whoever has it does not answer: it is taken to run.
    let session = Session { workers: vec![silent(1)], ..Session::default() };
    let found = session.workloads(&owner(), &status);
    assert!(found[0].replicas == 1 && found[0].pods.is_empty() && found[0].refused.as_ref().unwrap().contains("timed out"), "{found:?}");
    let session = Session { workers: vec![down(1)], ..Session::default() };
    assert!(session.workloads(&owner(), &status).is_empty(), "a pod that does not run runs no job");
}
