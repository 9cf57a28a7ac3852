//! Savepoints by schedule, their history, and what becomes of their files: whole reconciles against an API server in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
mod world;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice_crds::{Phase, SavepointPhase};
use sluice_operator::runtime_api::RuntimeState;
use world::{World, key, spec};

const PERIOD: i64 = 300;

fn scheduled(limit: i32) -> Value {
    let mut spec = spec("INSERT INTO a SELECT 1");
    spec["savepoints"] = json!({"schedule": "*/5 * * * *", "historyLimit": limit});
    spec
}

async fn running(spec: &Value) -> World {
    let world = World::new();
    world.apply("job", spec);
    world.until_phase("job", Phase::Running).await;
    world.turn("job").await.unwrap();
    world
}

/// Until the next savepoint is due and taken.
async fn period(world: &World) {
    let at = world.status("job").next_savepoint.unwrap().at.0;
    world.pass(at.as_second() - world.now().as_second());
    for _ in 0..6 {
        world.turn("job").await.unwrap();
    }
}

/// What the job was asked for: folders, in their order.
fn asked(world: &World) -> Vec<String> {
    world.runtime.with(&world.job_address("job-r1"), |job| job.requests.iter().map(|r| r.directory.clone()).collect())
}

#[tokio::test]
async fn a_schedule_takes_savepoints_and_keeps_the_newest() {
    let world = running(&scheduled(2)).await;
    assert!(world.savepoints().is_empty(), "none before its time");
    for _ in 0..4 {
        period(&world).await;
    }
    let taken = asked(&world);
    assert_eq!(taken.len(), 4, "{taken:?}");
    let kept: Vec<String> = world.savepoints().into_iter().map(|s| s.status.unwrap().path.unwrap()).collect();
    assert_eq!(kept, taken[2..], "the newest two");
    assert_eq!(*world.deleted.lock().unwrap(), taken[..2], "the files of the others");
    assert_eq!(world.savepoints()[0].metadata.labels.as_ref().unwrap()["sluice.dev/trigger"], "scheduled");
    assert!(world.events().iter().filter(|e| *e == "FilesDeleted").count() == 2, "{:?}", world.events());
    // Nothing is due: nothing is written.
    let before = world.api.store().writes.len();
    for _ in 0..20 {
        world.turn("job").await.unwrap();
    }
    assert_eq!(world.api.store().writes.len(), before);
    // Without a schedule there is no next one.
    world.apply("job", &spec("INSERT INTO a SELECT 1"));
    world.turn("job").await.unwrap();
    assert_eq!(world.status("job").next_savepoint, None);
}

#[tokio::test]
async fn what_was_missed_counts_once_and_a_job_that_is_down_gives_none() {
    let world = running(&scheduled(5)).await;
    world.pass(10 * PERIOD);
    period(&world).await;
    assert_eq!(asked(&world).len(), 1);
    let mut suspended = scheduled(5);
    suspended["suspend"] = json!(true);
    world.apply("job", &suspended);
    world.until_phase("job", Phase::Suspended).await;
    world.turn("job").await.unwrap();
    assert_eq!((world.condition("job", "Ready").1.as_str(), world.status("job").next_savepoint), ("Suspended", None));
    world.pass(2 * PERIOD);
    world.turn("job").await.unwrap();
    world.apply("job", &scheduled(5));
    world.until_phase("job", Phase::Running).await;
    world.turn("job").await.unwrap();
    assert!(asked(&world).is_empty(), "not for the time in which it was down");
    assert!(world.status("job").next_savepoint.unwrap().at.0 > world.now());
}

#[tokio::test]
async fn failed_ones_do_not_drive_out_good_ones_and_a_slow_one_is_waited_for() {
    let world = running(&scheduled(2)).await;
    period(&world).await;
    let good = asked(&world).remove(0);
    let address = world.job_address("job-r1");
    world.runtime.with(&address, |job| job.fail_savepoints = Some("disk full".into()));
    for _ in 0..4 {
        period(&world).await;
        for _ in 0..10 {
            world.turn("job").await.unwrap();
        }
    }
    let of = |phase: SavepointPhase| world.savepoints().iter().filter(|s| s.status.as_ref().unwrap().phase == phase).count();
    assert_eq!((of(SavepointPhase::Completed), of(SavepointPhase::Failed)), (1, 2));
    assert!(!world.deleted.lock().unwrap().contains(&good));
    // The job does not run: the one that is due waits, and no second one comes.
    world.runtime.with(&address, |job| (job.fail_savepoints, job.info.state) = (None, RuntimeState::Restarting));
    period(&world).await;
    let pending = of(SavepointPhase::Pending);
    period(&world).await;
    assert_eq!((pending, of(SavepointPhase::Pending)), (1, 1));
    assert!(world.events().contains(&"SavepointSkipped".to_owned()));
}

#[tokio::test]
async fn upgrades_keep_the_files_that_the_running_state_began_with() {
    let mut limited = spec("INSERT INTO a SELECT 1");
    limited["savepoints"] = json!({"historyLimit": 1});
    let world = running(&limited).await;
    for n in 2..6 {
        limited["sql"]["inline"] = json!(format!("INSERT INTO a SELECT {n}"));
        world.apply("job", &limited);
        world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(n)).await;
        for _ in 0..4 {
            world.turn("job").await.unwrap();
        }
    }
    let start = world.status("job").started_from.unwrap().path.unwrap();
    assert_eq!(world.savepoints().len(), 1);
    assert_eq!(world.savepoints()[0].status.clone().unwrap().path.unwrap(), start);
    let deleted = world.deleted.lock().unwrap().clone();
    assert!(deleted.len() == 3 && !deleted.contains(&start), "{deleted:?}");
    // Whoever deletes the object nevertheless does not take the state away from the job.
    let name = world.savepoints()[0].metadata.name.clone().unwrap();
    world.api.store().delete(&key("savepoints", &name));
    world.until("job", "let go", |w| w.savepoints().is_empty()).await;
    assert!(!world.deleted.lock().unwrap().contains(&start));
    assert!(world.events().contains(&"FilesRetained".to_owned()));
}

#[tokio::test]
async fn files_go_with_the_object_as_its_policy_says() {
    let world = running(&spec("INSERT INTO a SELECT 1")).await;
    let put = |name: &str, policy: &str| {
        let spec = json!({"deploymentRef": {"name": "job"}, "deletionPolicy": policy});
        world.api.store().put(&key("savepoints", name), json!({"spec": spec}));
    };
    for (name, policy) in [("kept", "Retain"), ("gone", "Delete"), ("later", "Retain"), ("STUCK", "Delete"), ("last", "Delete")] {
        put(name, policy);
    }
    let completed = |w: &World| w.savepoints().iter().all(|s| s.status.as_ref().is_some_and(|s| s.phase == SavepointPhase::Completed));
    world.until("job", "taken", completed).await;
    // Changed afterwards.
    let object = json!({"spec": {"deploymentRef": {"name": "job"}, "deletionPolicy": "Delete"}});
    let mut later = world.api.store().objects[&key("savepoints", "later")].clone();
    later["spec"] = object["spec"].clone();
    world.api.store().put(&key("savepoints", "later"), later);
    world.turn("job").await.unwrap();
    for name in ["kept", "gone", "later", "STUCK"] {
        world.api.store().delete(&key("savepoints", name));
    }
    world.until("job", "let go", |w| w.savepoints().len() == 1).await;
    let mut deleted = world.deleted.lock().unwrap().clone();
    deleted.sort();
    assert_eq!(deleted, ["/state/flink/job/savepoints/gone", "/state/flink/job/savepoints/later"]);
    assert!(world.names("jobs").is_empty(), "they go with what they are for");
    // Its deployment is gone by then.
    world.api.store().delete(&key("streamingdeployments", "job"));
    world.until("job", "gone", |w| w.deployment("job").is_none()).await;
    world.api.store().delete(&key("savepoints", "last"));
    world.until("job", "let go", |w| w.savepoints().is_empty()).await;
    assert!(world.deleted.lock().unwrap().contains(&"/state/flink/job/savepoints/last".to_owned()));
}

#[tokio::test]
async fn savepoints_of_a_deployment_that_goes_keep_their_files() {
    let world = running(&scheduled(5)).await;
    period(&world).await;
    assert_eq!(world.savepoints().len(), 1);
    world.api.store().delete(&key("streamingdeployments", "job"));
    world.until("job", "gone", |w| w.deployment("job").is_none()).await;
    world.until("job", "let go", |w| w.savepoints().is_empty()).await;
    assert!(world.deleted.lock().unwrap().is_empty());
}

/// Four periods of a schedule that keeps one savepoint, with an operator that dies after each so many writes; then one is deleted by hand.
/// All that was asked for, what is kept, what is deleted; and the number of writes.
async fn play(dies_after: Option<usize>) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>, usize) {
    let mut world = World::new();
    world.apply("job", &scheduled(1));
    let start = world.now().as_second();
    let (mut quiet, mut ended) = (0, false);
    for _ in 0..4000 {
        quiet = if world.mortal_turn("job", dies_after).await { quiet + 1 } else { 0 };
        let settled = quiet > 2;
        if settled && !ended {
            world.pass(30);
        }
        // Dues are at multiples of the period.
        if settled && !ended && world.now().as_second() / PERIOD == start / PERIOD + 4 && world.now().as_second() % PERIOD > 100 {
            let mut spec = scheduled(1);
            spec["savepoints"]["schedule"] = json!("0 0 29 2 *");
            world.apply("job", &spec);
            (ended, quiet) = (true, 0);
        }
        if ended && quiet > 8 {
            let paths = world.savepoints().into_iter().filter_map(|s| s.status?.path).collect();
            let asked = asked(&world).into_iter().collect();
            let deleted = world.deleted.lock().unwrap().iter().cloned().collect();
            let writes = world.api.store().writes.len();
            return (asked, paths, deleted, writes);
        }
    }
    panic!("dies after {dies_after:?}: it never comes to rest: {:#?}", world.status("job"));
}

#[tokio::test]
async fn an_operator_that_dies_after_any_write_leaves_no_savepoint_out_and_no_files_behind() {
    let (asked, kept, deleted, writes) = play(None).await;
    assert_eq!((asked.len(), kept.len(), deleted.len()), (4, 1, 3), "{asked:?} {kept:?} {deleted:?}");
    for dies_after in 1..=writes {
        let (found, left, gone, _) = play(Some(dies_after)).await;
        assert_eq!((&found, &left, &gone), (&asked, &kept, &deleted), "the operator dies after each {dies_after} writes");
    }
}
