//! What befalls deployments from outside, and edits that come at a bad time, against an API server in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
mod world;

use serde_json::{Value, json};
use sluice_crds::{OperationType, Phase, Step};
use world::{NS, World, in_a_session, key, spec};

async fn running(sql: &str) -> World {
    let world = World::new();
    world.apply("job", &spec(sql));
    world.until_phase("job", Phase::Running).await;
    world.turn("job").await.unwrap();
    world
}

fn starts(world: &World) -> Vec<(String, String)> {
    world.starts.lock().unwrap().clone()
}

fn refuse(world: &World, what: &str) {
    let message = "StatefulSet.apps is invalid: spec.template.spec.containers[1].image: Required value";
    world.api.store().refuse = Some((http::Method::PATCH, what.into(), 422, message.into()));
}

/// Turns of which some may fail.
async fn turns(world: &World, n: usize) {
    for _ in 0..n {
        drop(world.turn("job").await);
    }
}

fn change(world: &World, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
    let mut store = world.api.store();
    let mut object = store.objects[&key(plural, name)].clone();
    change(&mut object);
    store.put(&key(plural, name), object);
}

/// A node that is shut down or short of memory tells the job to go, which ends with 0; its pod stays for a while, and is not marked as deleted.
#[tokio::test]
async fn a_pod_that_is_evicted_has_not_finished() {
    let world = running("INSERT INTO a SELECT 1").await;
    let address = world.job_address("job-r1");
    change(&world, "pods", "job-r1-0", |pod| {
        pod["status"]["phase"] = json!("Failed");
        let container = &mut pod["status"]["containerStatuses"][0];
        (container["state"], container["ready"]) = (json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), json!(false));
    });
    world.runtime.remove(&address);
    turns(&world, 3).await;
    let status = world.status("job");
    assert_eq!((status.phase, status.halted), (Some(Phase::Running), None));
    assert_eq!(world.condition("job", "Ready").0, "False");
    world.api.store().remove(&key("pods", "job-r1-0"));
    world.until("job", "runs again", |w| w.condition("job", "Running").0 == "True").await;
    assert_eq!(starts(&world).len(), 2);
}

#[tokio::test]
async fn nor_has_a_process_of_a_session() {
    let world = in_a_session("INSERT INTO a SELECT 1").await;
    let host = world.runtime.hosts().remove(0);
    world.runtime.session(&host, |session| {
        let process = &mut session.jobs.get_mut("job").unwrap().1;
        let ended = serde_json::from_value(json!({"exitCode": 0, "message": ""})).unwrap();
        (process.running, process.pid, process.ended) = (false, None, Some(ended));
    });
    world.until("job", "submitted again", |w| w.submitted().len() == 2).await;
    world.until("job", "runs again", |w| w.condition("job", "Running").0 == "True").await;
    assert_eq!(world.status("job").halted, None);
}

#[tokio::test]
async fn restore_from_may_be_removed() {
    let world = World::new();
    let mut restored = spec("INSERT INTO a SELECT 1");
    restored["restoreFrom"] = json!({"path": "/state/a", "nonce": 1});
    world.apply("job", &restored);
    world.until_phase("job", Phase::Running).await;
    world.apply("job", &spec("INSERT INTO a SELECT 1"));
    turns(&world, 5).await;
    assert_eq!((starts(&world).len(), world.condition("job", "Ready").0.as_str()), (1, "True"));
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
    assert!(starts(&world)[1].1.contains("job-r1-upgrade"), "its state goes on: {:?}", starts(&world));
}

/// A ControllerRevision looks like litter to some.
#[tokio::test]
async fn state_survives_the_deletion_of_a_revision() {
    let world = running("INSERT INTO a SELECT 1").await;
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
    turns(&world, 2).await;
    world.api.store().remove(&key("controllerrevisions", "job-r2"));
    turns(&world, 4).await;
    assert_eq!((starts(&world).len(), world.names("controllerrevisions")), (2, vec!["job-r1".to_owned(), "job-r2".to_owned()]));
    assert_eq!(world.condition("job", "Ready").0, "True");
    // With the spec changed at the same time nobody knows what runs: its place is taken, behind its end and on its state.
    let before = world.status("job").started_from;
    world.api.store().remove(&key("controllerrevisions", "job-r2"));
    world.apply("job", &spec("INSERT INTO a SELECT 3"));
    world.until("job", "replaced", |w| w.status("job").revision.unwrap().stable == Some(3)).await;
    assert_eq!(world.status("job").started_from, before);
    let starts = starts(&world);
    assert!(starts[2].0 == "job-r3" && starts[2].1 == starts[1].1 && starts[2].1.contains("--start"), "the same state: {starts:?}");
    assert!(world.events().contains(&"RevisionLost".to_owned()));
}

#[tokio::test]
async fn a_first_start_that_the_api_server_refuses_can_be_repaired() {
    let world = World::new();
    world.apply("job", &spec("INSERT INTO a SELECT 1"));
    refuse(&world, "statefulsets/job-r1");
    turns(&world, 4).await;
    let stalled = world.condition("job", "Stalled");
    assert!(stalled.1 == "Refused" && stalled.2.contains("Required value"), "{stalled:?}");
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    turns(&world, 60).await;
    let status = world.status("job");
    assert_eq!((status.phase, status.revision.unwrap().stable), (Some(Phase::Running), Some(2)));
    assert_eq!(world.condition("job", "Stalled").0, "");
}

#[tokio::test]
async fn an_edit_that_the_api_server_would_refuse_leaves_the_job_alone() {
    let world = running("INSERT INTO a SELECT 1").await;
    refuse(&world, "statefulsets/job-r2");
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    turns(&world, 6).await;
    let (status, stalled) = (world.status("job"), world.condition("job", "Stalled"));
    assert_eq!((status.operation, status.revision.unwrap().current, starts(&world).len()), (None, 1, 1));
    assert!(stalled.1 == "Refused" && stalled.2.contains("Required value"), "{stalled:?}");
    assert_eq!(world.condition("job", "Running").0, "True");
    assert!(world.savepoints().is_empty());
    world.apply("job", &spec("INSERT INTO a SELECT 3"));
    world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(3)).await;
    assert_eq!(world.condition("job", "Stalled").0, "");
}

/// What is refused only when the old job has stopped (a policy that came in between) is rolled back.
#[tokio::test]
async fn a_start_that_is_refused_is_rolled_back() {
    let world = running("INSERT INTO a SELECT 1").await;
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    world.until("job", "at its savepoint", |w| w.status("job").operation.is_some_and(|o| o.step == Step::Savepoint)).await;
    refuse(&world, "statefulsets/job-r2");
    turns(&world, 60).await;
    let status = world.status("job");
    assert_eq!((status.phase, status.revision.unwrap().current), (Some(Phase::Running), 1));
    let path = world.savepoints()[0].status.clone().unwrap().path.unwrap();
    let starts = starts(&world);
    assert!(starts.len() == 2 && starts[1].0 == "job-r1" && starts[1].1.contains(&path), "{starts:?}");
    assert_eq!(world.condition("job", "Ready").1, "RolledBack");
    assert!(world.condition("job", "Stalled").2.contains("Required value"));
}

/// `fallback: Block`: the job is not suspended without a savepoint. That is told, tried again now and then, and can be taken back.
#[tokio::test]
async fn a_job_that_cannot_be_suspended_can_be_resumed() {
    let world = running("INSERT INTO a SELECT 1").await;
    let mut blocked = spec("INSERT INTO a SELECT 1");
    blocked["upgrade"] = json!({"fallback": "Block"});
    world.apply("job", &blocked);
    turns(&world, 2).await;
    let address = world.job_address("job-r1");
    world.runtime.with(&address, |job| job.fail_savepoints = Some("disk full".into()));
    let mut suspended = blocked.clone();
    suspended["suspend"] = json!(true);
    world.apply("job", &suspended);
    turns(&world, 200).await;
    let ready = world.condition("job", "Ready");
    assert!(ready.1 == "Suspending" && ready.2.contains("disk full") && ready.2.contains("LastState"), "{ready:?}");
    let tries = world.runtime.with(&address, |job| job.requests.len());
    assert!((4..=8).contains(&tries), "{tries}");
    assert!(world.savepoints().len() <= 7, "a limited history: {}", world.savepoints().len());
    assert!(world.events().iter().filter(|e| *e == "SavepointFailed").count() <= tries);
    world.apply("job", &blocked);
    world.until_phase("job", Phase::Running).await;
    assert_eq!((starts(&world).len(), world.condition("job", "Ready").0.as_str()), (1, "True"));
    // And it is suspended when savepoints work again.
    world.apply("job", &suspended);
    turns(&world, 5).await;
    world.runtime.with(&address, |job| job.fail_savepoints = None);
    world.until_phase("job", Phase::Suspended).await;
    assert!(world.names("pods").is_empty());
}

#[tokio::test]
async fn a_set_that_somebody_scales_is_scaled_back() {
    let world = running("INSERT INTO a SELECT 1").await;
    for replicas in [0, 2] {
        change(&world, "statefulsets", "job-r1", |set| set["spec"]["replicas"] = json!(replicas));
        turns(&world, 3).await;
        assert_eq!(world.api.store().objects[&key("statefulsets", "job-r1")]["spec"]["replicas"], 1);
        world.until("job", "runs", |w| w.condition("job", "Running").0 == "True" && w.names("pods") == ["job-r1-0"]).await;
    }
    assert_eq!(world.events().iter().filter(|e| *e == "ScaledBack").count(), 2);
}

/// Written by a newer operator: what it needs to go on stays, and the object can be deleted.
#[tokio::test]
async fn a_status_that_is_not_understood_is_kept() {
    let world = running("INSERT INTO a SELECT 1").await;
    let before = world.api.store().objects[&key("streamingdeployments", "job")]["status"].clone();
    change(&world, "streamingdeployments", "job", |object| object["status"]["phase"] = json!("Teleporting"));
    for _ in 0..3 {
        sluice_operator::deployment::reconcile(&world.context, NS, "job").await.unwrap();
    }
    let mut status = world.api.store().objects[&key("streamingdeployments", "job")]["status"].clone();
    let told = |kind: &str| status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).cloned().unwrap_or_default();
    for (kind, holds) in [("Accepted", "False"), ("Ready", "False"), ("Stalled", "True"), ("Running", "True")] {
        assert_eq!(told(kind)["status"], holds, "{kind}");
    }
    let message = told("Stalled")["message"].to_string();
    assert!(message.contains("does not understand") && message.contains("Teleporting"), "{message}");
    (status["phase"], status["conditions"]) = (before["phase"].clone(), before["conditions"].clone());
    assert_eq!(status, before);
    world.api.store().delete(&key("streamingdeployments", "job"));
    let look = || sluice_operator::deployment::reconcile(&world.context, NS, "job");
    look().await.unwrap();
    assert_eq!(world.names("streamingdeployments"), ["job"], "an operator that understands it may come");
    world.pass(901);
    look().await.unwrap();
    assert!(world.names("streamingdeployments").is_empty());
}

/// `kubectl replace` of a backup, for instance: the job goes on as it is, and with its state behind the next edit.
#[tokio::test]
async fn a_status_that_is_lost_costs_no_state() {
    let world = running("INSERT INTO a SELECT 1").await;
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
    turns(&world, 2).await;
    let before = world.status("job");
    change(&world, "streamingdeployments", "job", |object| drop(object.as_object_mut().unwrap().remove("status")));
    turns(&world, 4).await;
    let after = world.status("job");
    assert_eq!((starts(&world).len(), after.revision, after.started_from), (2, before.revision, before.started_from));
    assert_eq!((world.condition("job", "Ready").0.as_str(), after.image), ("True", before.image));
}

/// Steps of an upgrade that fails.
const STEPS: [(OperationType, Step); 5] = [
    (OperationType::Upgrade, Step::Preflight),
    (OperationType::Upgrade, Step::Savepoint),
    (OperationType::Upgrade, Step::Start),
    (OperationType::Rollback, Step::Stop),
    (OperationType::Rollback, Step::Start),
];

/// A job whose upgrade is at that step.
async fn in_the_middle(kind: OperationType, step: Step) -> World {
    let world = running("INSERT INTO a SELECT 1").await;
    world.apply("job", &spec("INSERT INTO a SELECT CRASH"));
    let there = |w: &World| w.status("job").operation.is_some_and(|o| o.kind == kind && o.step == step);
    world.until("job", "in the middle", there).await;
    world
}

/// An edit in the middle of a rollback waits for its end and then goes through.
#[tokio::test]
async fn edits_in_the_middle_of_an_operation_come_through() {
    for (kind, step) in STEPS {
        let world = in_the_middle(kind, step).await;
        let mut edited = spec("INSERT INTO a SELECT 3");
        edited["restartNonce"] = json!(5);
        world.apply("job", &edited);
        world.until("job", "through", |w| w.status("job").observed_generation == Some(3) && w.condition("job", "Ready").0 == "True").await;
        let last = starts(&world).pop().unwrap();
        assert!(last.1.contains("--restore-from"), "{kind:?} {step:?}: {last:?}");
        assert_eq!(world.condition("job", "Stalled").0, "", "{kind:?} {step:?}");
    }
}

/// So does a suspension.
#[tokio::test]
async fn a_suspension_in_the_middle_of_an_operation_comes_through() {
    for (kind, step) in STEPS {
        let world = in_the_middle(kind, step).await;
        let mut suspended = spec("INSERT INTO a SELECT CRASH");
        suspended["suspend"] = json!(true);
        world.apply("job", &suspended);
        world.until("job", "suspended", |w| w.status("job").phase == Some(Phase::Suspended)).await;
        assert!(world.names("pods").is_empty(), "{kind:?} {step:?}");
        world.apply("job", &spec("INSERT INTO a SELECT 4"));
        world.until_phase("job", Phase::Running).await;
        assert!(starts(&world).pop().unwrap().1.contains("--restore-from"), "{kind:?} {step:?}");
    }
}
