//! Whole reconciles of SessionClusters and of the StreamingDeployments on them, against an API server in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
mod world;

use serde_json::json;
use sluice_crds::{Phase, SavepointPhase};
use world::{in_a_session, key, on_cluster, shared};

#[tokio::test]
async fn a_session_runs_jobs_that_live_as_others_do() {
    let world = in_a_session("INSERT INTO a SELECT 1").await;
    world.apply("other", &on_cluster("INSERT INTO a SELECT 9"));
    world.until_phase("other", Phase::Running).await;
    for kind in ["Accepted", "Ready", "Running"] {
        assert_eq!(world.condition("job", kind).0, "True", "{kind}");
    }
    assert_eq!(world.names("statefulsets"), ["shared-session"], "no pods of its own");
    assert_eq!(world.names("services"), ["shared-rest", "shared-workers"]);
    let status = world.status("job");
    assert_eq!(status.worker.as_deref(), Some("shared-session-0"));
    assert_eq!(status.endpoint.as_deref(), Some("http://shared-session-0.shared-workers.flink.svc:8081/api/v1/jobs/job"));
    let submission = world.runtime.submitted.lock().unwrap()[0].clone();
    assert_eq!(submission.settings["execution.checkpointing.dir"], "s3://bucket/state/flink/job/checkpoints");
    world.turn("other").await.unwrap();
    let cluster = world.session_cluster("shared");
    assert_eq!((&cluster["status"]["slots"], &cluster["status"]["jobs"]["managed"]), (&json!({"total": 3, "free": 1}), &json!(2)));
    // An edit goes through preflight and savepoint.
    world.apply("job", &on_cluster("INSERT INTO a SELECT 2"));
    world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
    let path = world.savepoints()[0].status.clone().unwrap().path.unwrap();
    assert!(path.starts_with("s3://bucket/state/flink/job/savepoints/job-r1-upgrade-"), "{path}");
    let submitted = world.submitted();
    assert_eq!(submitted[2..], [("r2".to_owned(), Some(path))], "{submitted:?}");
    // A broken one changes nothing, and one that crashes is rolled back.
    world.apply("job", &on_cluster("INSERT INTO a SELECT BROKEN"));
    world.until("job", "rejected", |w| w.status("job").rejected.is_some()).await;
    assert_eq!((world.condition("job", "Accepted").1.as_str(), world.submitted().len()), ("InvalidSql", 3));
    world.apply("job", &on_cluster("INSERT INTO a SELECT CRASH"));
    world.until("job", "rolled back", |w| w.events().contains(&"RolledBack".to_owned())).await;
    assert_eq!(world.submitted().last().unwrap().0, "r2");
    let mut suspended = on_cluster("INSERT INTO a SELECT 2");
    suspended["suspend"] = json!(true);
    world.apply("job", &suspended);
    world.until_phase("job", Phase::Suspended).await;
    world.until("other", "its slot is free", |w| w.session_cluster("shared")["status"]["slots"]["free"] == 2).await;
    world.apply("job", &on_cluster("INSERT INTO a SELECT 2"));
    world.until_phase("job", Phase::Running).await;
    // A savepoint by hand.
    let object =
        json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Savepoint", "metadata": {}, "spec": {"deploymentRef": {"name": "job"}}});
    world.api.store().put(&key("savepoints", "mine"), object);
    world
        .until("job", "taken", |w| {
            w.savepoints().iter().any(|s| {
                s.status.as_ref().is_some_and(|s| {
                    s.path.as_deref() == Some("s3://bucket/state/flink/job/savepoints/mine") && s.phase == SavepointPhase::Completed
                })
            })
        })
        .await;
    assert!(!world.submitted().iter().any(|(revision, _)| revision == "r3"), "the broken revision was never tried");
    assert_eq!(world.status("other").restarts, Some(0));
    let before = world.api.store().writes.len();
    for _ in 0..10 {
        world.turn("job").await.unwrap();
        world.turn("other").await.unwrap();
    }
    assert_eq!(world.api.store().writes[before..], Vec::<String>::new(), "idle reconciles write nothing");
}

#[tokio::test]
async fn a_session_whose_pod_goes_or_is_silent_makes_no_second_job() {
    let world = in_a_session("INSERT INTO a SELECT 1").await;
    let host = world.runtime.hosts()[0].clone();
    // It may run: nothing is done, not even for an edit.
    world.runtime.session(&host, |s| s.silent = true);
    world.apply("job", &on_cluster("INSERT INTO a SELECT 2"));
    for _ in 0..30 {
        world.turn("job").await.unwrap();
    }
    assert_eq!((world.submitted().len(), world.condition("job", "Ready").1), (1, "ClusterNotReady".to_owned()));
    assert_eq!(world.condition("job", "Stalled").0, "", "it passes");
    world.runtime.session(&host, |s| s.silent = false);
    world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
    // The pod is gone, and comes again without jobs: they go on from their commits.
    world.api.store().remove(&key("pods", "shared-session-0"));
    world.until("job", "submitted again", |w| w.submitted().len() == 3).await;
    world.until("job", "running", |w| w.condition("job", "Ready").0 == "True").await;
    let submitted = world.submitted();
    assert_eq!(submitted[2], submitted[1], "the same start");
}

#[tokio::test]
async fn slots_that_are_short_are_waited_for() {
    let world = in_a_session("INSERT INTO a SELECT 1").await;
    let mut large = on_cluster("INSERT INTO a SELECT 9");
    large["parallelism"] = json!(3);
    world.apply("large", &large);
    for _ in 0..5 {
        world.turn("large").await.unwrap();
    }
    let ready = world.condition("large", "Ready");
    assert!(ready.1 == "NotEnoughSlots" && ready.2.contains("shared-session-0: 2"), "{ready:?}");
    assert_eq!((world.condition("large", "Accepted").0, world.condition("large", "Reconciling").0), ("True".into(), "True".into()));
    // With another pod there is room.
    let mut more = shared();
    more["workers"]["replicas"] = json!(2);
    world.apply_cluster("shared", &more);
    world.until_phase("large", Phase::Running).await;
    assert_eq!(world.status("large").worker.as_deref(), Some("shared-session-1"));
    large["parallelism"] = json!(4);
    world.apply("large", &large);
    world.turn("large").await.unwrap();
    let accepted = world.condition("large", "Accepted");
    assert!(accepted.0 == "False" && accepted.2.starts_with("spec.parallelism: is 4, and a pod"), "{accepted:?}");
}

#[tokio::test]
async fn a_changed_session_cluster_suspends_its_jobs_and_resumes_them() {
    let world = in_a_session("INSERT INTO a SELECT 1").await;
    let mut changed = shared();
    changed["workers"]["slots"] = json!(5);
    world.apply_cluster("shared", &changed);
    world.until("job", "suspended", |w| w.status("job").phase == Some(Phase::Suspended)).await;
    let ready = world.condition("job", "Ready");
    assert!(ready.2.contains("pods of the session cluster 'shared' are restarted"), "{ready:?}");
    world.until("job", "resumed", |w| w.status("job").phase == Some(Phase::Running) && w.status("job").operation.is_none()).await;
    let submitted = world.submitted();
    assert!(submitted.len() == 2 && submitted[1].1.as_ref().unwrap().contains("job-r1-suspend"), "{submitted:?}");
    assert_eq!(world.session_cluster("shared")["status"]["slots"]["total"], 5);
    assert!(world.session_cluster("shared")["status"]["update"].is_null());
    // Or they are waited for.
    changed["onUpdate"] = json!("Block");
    changed["workers"]["slots"] = json!(6);
    world.apply_cluster("shared", &changed);
    for _ in 0..20 {
        world.turn("job").await.unwrap();
    }
    assert_eq!(world.submitted().len(), 2);
    let mut suspended = on_cluster("INSERT INTO a SELECT 1");
    suspended["suspend"] = json!(true);
    world.apply("job", &suspended);
    world.until("job", "restarted", |w| w.session_cluster("shared")["status"]["slots"]["total"] == 6).await;
}

#[tokio::test]
async fn deleting_a_session_cluster_is_blocked_or_takes_its_deployments_along() {
    for policy in ["Block", "Cascade"] {
        let world = in_a_session("INSERT INTO a SELECT 1").await;
        let mut with_policy = shared();
        with_policy["onDelete"] = json!(policy);
        world.apply_cluster("shared", &with_policy);
        world.turn("job").await.unwrap();
        world.api.store().delete(&key("sessionclusters", "shared"));
        for _ in 0..10 {
            world.turn("job").await.unwrap();
        }
        if policy == "Block" {
            assert_eq!(world.condition("job", "Running").0, "True");
            let cluster = world.session_cluster("shared");
            let conditions = cluster["status"]["conditions"].as_array().unwrap();
            assert!(conditions.iter().any(|c| c["reason"] == "InUse" && c["message"].as_str().unwrap().contains("(job)")), "{cluster}");
            world.api.store().delete(&key("streamingdeployments", "job"));
        }
        world.until("job", "gone", |w| w.deployment("job").is_none() && w.session_cluster("shared").is_null()).await;
        world.cluster();
        assert!(world.names("statefulsets").is_empty() && world.runtime.hosts().is_empty(), "{policy}");
    }
}

#[tokio::test]
async fn a_job_whose_deployment_was_let_go_by_force_is_ended() {
    let world = in_a_session("INSERT INTO a SELECT 1").await;
    let host = world.runtime.hosts()[0].clone();
    world.api.store().remove(&key("streamingdeployments", "job"));
    world.turn("job").await.unwrap();
    assert!(world.runtime.session(&host, |s| s.jobs.is_empty()));
}
