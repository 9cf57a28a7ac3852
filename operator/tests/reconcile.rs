//! Whole reconciles against an API server in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
mod world;

use serde_json::{Value, json};
use sluice_crds::{JobState, Phase, SavepointPhase};
use sluice_operator::deployment::children::Kinds;
use sluice_operator::runtime_api::RuntimeState;
use world::{NS, World, in_a_session, key, on_cluster, shared, spec};

fn with(mut spec: Value, path: &str, value: Value) -> Value {
    *spec.pointer_mut(path).expect(path) = value;
    spec
}

async fn running(sql: &str) -> World {
    let world = World::new();
    world.apply("job", &spec(sql));
    world.until_phase("job", Phase::Running).await;
    world
}

#[tokio::test]
async fn a_new_deployment_gets_all_its_children_and_runs() {
    let world = running("INSERT INTO a SELECT 1").await;
    let status = world.status("job");
    assert_eq!(
        (status.revision.unwrap().current, status.revision.unwrap().stable, status.job_state),
        (1, Some(1), Some(JobState::Running))
    );
    assert_eq!(status.image.as_deref(), Some("sluice:default"));
    assert_eq!((status.observed_generation, status.parallelism), (Some(1), Some(1)));
    for kind in ["Accepted", "Ready", "Running", "CheckpointHealthy"] {
        assert_eq!(world.condition("job", kind).0, "True", "{kind}");
    }
    for kind in ["Reconciling", "Stalled"] {
        assert_eq!(world.condition("job", kind).0, "", "only there while true");
    }
    for (plural, name) in [
        ("controllerrevisions", "job-r1"),
        ("configmaps", "job-r1"),
        ("statefulsets", "job-r1"),
        ("services", "job-rest"),
        ("serviceaccounts", "job-job"),
        ("poddisruptionbudgets", "job-job"),
        ("persistentvolumeclaims", "job-state"),
    ] {
        assert_eq!(world.names(plural), [name], "{plural}");
    }
    assert_eq!(world.names("jobs").len(), 0, "no preflight: there is no job that it would protect");
    assert_eq!(world.events(), ["Deploying", "Stable"]);
}

#[tokio::test]
async fn an_idle_reconcile_writes_nothing() {
    let world = running("INSERT INTO a SELECT 1").await;
    for _ in 0..3 {
        world.turn("job").await.unwrap();
    }
    let before = world.api.store().writes.len();
    for _ in 0..20 {
        world.turn("job").await.unwrap();
    }
    let store = world.api.store();
    assert_eq!(store.writes[before..], Vec::<String>::new());
}

#[tokio::test]
async fn a_changed_sql_goes_through_preflight_and_savepoint() {
    let world = running("INSERT INTO a SELECT 1").await;
    let old = world.job_address("job-r1");
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    world.turn("job").await.unwrap();
    assert_eq!(world.condition("job", "Ready").1, "Upgrading");
    assert_eq!(world.condition("job", "Running").0, "True", "the old job runs while the new one is tried");
    world.until_phase("job", Phase::Running).await;
    let status = world.status("job");
    assert_eq!((status.revision.unwrap().current, status.revision.unwrap().stable), (2, Some(2)));
    let savepoints = world.savepoints();
    assert_eq!(savepoints.len(), 1);
    let path = savepoints[0].status.clone().unwrap().path.unwrap();
    assert_eq!(savepoints[0].status.clone().unwrap().phase, SavepointPhase::Completed);
    assert!(path.starts_with("/state/flink/job/savepoints/job-r1-upgrade-"), "{path}");
    assert_eq!(status.last_savepoint.unwrap().path, path);
    assert_eq!(status.started_from.unwrap().path.as_deref(), Some(path.as_str()));
    let starts = world.starts.lock().unwrap().clone();
    assert_eq!(starts.len(), 2);
    assert!(starts[1].1.contains(&format!("--restore-from {path}")) && starts[1].1.contains("pipeline.name=flink.job "), "{starts:?}");
    let asked = world.runtime.with(&old, |job| job.requests.clone());
    assert!(asked.is_empty() || asked.len() == 1, "one stop");
    world.turn("job").await.unwrap();
    assert_eq!(world.names("statefulsets"), ["job-r2"], "the old one goes");
    assert_eq!(world.names("jobs").len(), 0);
    assert_eq!(world.names("controllerrevisions"), ["job-r1", "job-r2"], "history stays");
    assert_eq!(world.api.store().objects[&key("services", "job-rest")]["spec"]["selector"]["sluice.dev/revision"], "r2");
    assert_eq!(world.events(), ["Deploying", "Stable", "Upgrading", "SavepointCompleted", "Stable"]);
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_says_why() {
    let world = running("INSERT INTO a SELECT 1").await;
    world.apply("job", &spec("INSERT INTO a SELECT BROKEN"));
    world.until("job", "rejected", |w| w.status("job").rejected.is_some()).await;
    let (status, ready, accepted) = (world.status("job"), world.condition("job", "Ready"), world.condition("job", "Accepted"));
    assert_eq!((status.phase, status.job_state, status.revision.unwrap().current), (Some(Phase::Running), Some(JobState::Running), 1));
    assert_eq!((accepted.0.as_str(), accepted.1.as_str()), ("False", "InvalidSql"));
    assert!(ready.0 == "False" && ready.2.contains("line 1, column 8: there is no column 'BROKEN'"), "{ready:?}");
    assert_eq!(world.condition("job", "Stalled").1, "InvalidSql");
    assert_eq!(world.starts.lock().unwrap().len(), 1, "the old job was not touched");
    assert!(world.savepoints().is_empty());
    let before = world.api.store().writes.len();
    for _ in 0..5 {
        world.turn("job").await.unwrap();
    }
    assert!(world.api.store().writes.len() <= before + 2, "it is not tried again and again");
    // Put back as it was: nothing to do.
    world.apply("job", &spec("INSERT INTO a SELECT 1"));
    world.until("job", "ready", |w| w.condition("job", "Ready").0 == "True").await;
    assert_eq!((world.starts.lock().unwrap().len(), world.condition("job", "Stalled").0), (1, String::new()));
    // And a good one goes through.
    world.apply("job", &spec("INSERT INTO a SELECT 3"));
    world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(3)).await;
}

#[tokio::test]
async fn a_revision_that_crashes_is_rolled_back_from_the_same_savepoint() {
    let world = running("INSERT INTO a SELECT 1").await;
    world.apply("job", &spec("INSERT INTO a SELECT CRASH"));
    world.until("job", "rolled back", |w| w.events().contains(&"RolledBack".to_owned())).await;
    world.turn("job").await.unwrap();
    let status = world.status("job");
    assert_eq!(
        (status.revision.unwrap().current, status.revision.unwrap().stable, status.job_state),
        (1, Some(1), Some(JobState::Running))
    );
    let (ready, stalled) = (world.condition("job", "Ready"), world.condition("job", "Stalled"));
    assert_eq!((ready.0.as_str(), ready.1.as_str()), ("False", "RolledBack"));
    assert!(stalled.1 == "CrashLoop" && stalled.2.contains("boom"), "{stalled:?}");
    let starts = world.starts.lock().unwrap().clone();
    let path = world.savepoints()[0].status.clone().unwrap().path.unwrap();
    assert_eq!(starts.iter().map(|s| s.0.as_str()).collect::<Vec<_>>(), ["job-r1", "job-r2", "job-r1"]);
    assert!(starts[1..].iter().all(|s| s.1.contains(&path)), "{starts:?}");
}

#[tokio::test]
async fn without_a_savepoint_the_fallback_decides() {
    for (fallback, current, reason) in [("LastState", 2, ""), ("Block", 1, "SavepointFailed")] {
        let world = running("INSERT INTO a SELECT 1").await;
        world.runtime.with(&world.job_address("job-r1"), |job| job.fail_savepoints = Some("disk full".into()));
        let mut changed = spec("INSERT INTO a SELECT 2");
        changed["upgrade"] = json!({"fallback": fallback});
        world.apply("job", &changed);
        world.until("job", "ended", |w| w.status("job").operation.is_none() && w.status("job").observed_generation == Some(2)).await;
        assert_eq!(world.status("job").revision.unwrap().current, current, "{fallback}");
        assert_eq!(world.condition("job", "Stalled").1, reason);
        let starts = world.starts.lock().unwrap().clone();
        if current == 2 {
            assert!(!starts[1].1.contains("--restore-from"), "the same state: {starts:?}");
        } else {
            assert!(world.condition("job", "Stalled").2.contains("disk full"));
            assert_eq!(starts.len(), 1);
        }
    }
}

#[tokio::test]
async fn modes_that_take_no_savepoint() {
    for mode in ["LastState", "Stateless"] {
        let world = World::new();
        let mut changed = spec("INSERT INTO a SELECT 1");
        changed["upgrade"] = json!({"mode": mode});
        if mode == "Stateless" {
            changed.as_object_mut().unwrap().remove("storage");
        }
        world.apply("job", &changed);
        world.until_phase("job", Phase::Running).await;
        let state_id = || world.status("job").started_from.unwrap().state_id;
        let before = state_id();
        changed["sql"]["inline"] = json!("INSERT INTO a SELECT 2");
        world.apply("job", &changed);
        world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
        let starts = world.starts.lock().unwrap().clone();
        assert!(!starts[1].1.contains("--restore-from"), "{mode}: {starts:?}");
        assert_eq!(state_id() == before, mode == "LastState", "{mode}");
        assert!(world.savepoints().is_empty());
    }
}

#[tokio::test]
async fn suspend_and_resume_keep_state_and_edits_wait() {
    let world = running("INSERT INTO a SELECT 1").await;
    let mut suspended = spec("INSERT INTO a SELECT 1");
    suspended["suspend"] = json!(true);
    world.apply("job", &suspended);
    world.until_phase("job", Phase::Suspended).await;
    assert!(world.names("pods").is_empty());
    assert_eq!((world.condition("job", "Ready").0, world.condition("job", "Ready").1), ("True".into(), "Suspended".into()));
    assert_eq!(world.condition("job", "Running"), ("False".into(), "Suspended".into(), String::new()));
    let path = world.savepoints()[0].status.clone().unwrap().path.unwrap();
    // Edited while suspended, then resumed: the new SQL goes on from the savepoint.
    world.apply("job", &with(suspended, "/sql/inline", json!("INSERT INTO a SELECT 2")));
    for _ in 0..3 {
        world.turn("job").await.unwrap();
    }
    assert_eq!(world.starts.lock().unwrap().len(), 1, "still suspended");
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    world.until("job", "resumed", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
    assert!(world.starts.lock().unwrap()[1].1.contains(&format!("--restore-from {path}")));
    // And without an edit.
    let mut again = spec("INSERT INTO a SELECT 2");
    again["suspend"] = json!(true);
    world.apply("job", &again);
    world.until_phase("job", Phase::Suspended).await;
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    world.until_phase("job", Phase::Running).await;
    let starts = world.starts.lock().unwrap().clone();
    assert!(starts.len() == 3 && starts[2].1.contains("job-r2-suspend"), "{starts:?}");
}

#[tokio::test]
async fn deleting_ends_the_job_as_on_delete_says() {
    for (policy, claims, savepoints) in [("RetainState", 1, 0), ("Savepoint", 1, 1), ("DeleteState", 0, 0)] {
        let world = running("INSERT INTO a SELECT 1").await;
        let mut changed = spec("INSERT INTO a SELECT 1");
        changed["onDelete"] = json!(policy);
        world.apply("job", &changed);
        world.turn("job").await.unwrap();
        world.api.store().delete(&key("streamingdeployments", "job"));
        world.until("job", "gone", |w| w.deployment("job").is_none()).await;
        world.cluster();
        assert!(world.names("pods").is_empty() && world.names("statefulsets").is_empty(), "{policy}");
        assert_eq!(world.names("persistentvolumeclaims").len(), claims, "{policy}");
        assert_eq!(world.savepoints().len(), savepoints, "{policy}: the object of the last savepoint stays");
        assert!(world.names("controllerrevisions").is_empty());
    }
}

/// Elsewhere than on a volume of its own a Job deletes it, when the job has ended; what it cannot delete keeps nothing from going.
#[tokio::test]
async fn state_is_deleted_in_object_stores_too() {
    for (prefix, deleted) in [("p", 1), ("STUCK", 0)] {
        let world = World::new();
        let mut on_s3 = spec("INSERT INTO a SELECT 1");
        (on_s3["storage"], on_s3["onDelete"]) = (json!({"uri": format!("s3://b/{prefix}")}), json!("DeleteState"));
        world.apply("job", &on_s3);
        world.until_phase("job", Phase::Running).await;
        world.turn("job").await.unwrap();
        world.api.store().delete(&key("streamingdeployments", "job"));
        world.until("job", "gone", |w| w.deployment("job").is_none()).await;
        let paths = world.deleted.lock().unwrap().clone();
        assert_eq!(paths, vec![format!("s3://b/{prefix}/{NS}/job/checkpoints"); deleted]);
    }
}

#[tokio::test]
async fn deleting_is_bounded_and_can_be_forced() {
    for force in [true, false] {
        let world = running("INSERT INTO a SELECT 1").await;
        {
            let mut store = world.api.store();
            let key = key("streamingdeployments", "job");
            if force {
                let mut object = store.objects[&key].clone();
                object["metadata"]["annotations"]["sluice.dev/force-delete"] = json!("true");
                store.put(&key, object);
            }
            store.delete(&key);
        }
        // The cluster does nothing: pods never go.
        for turn in 0..3 {
            sluice_operator::deployment::reconcile(&world.context, NS, "job").await.unwrap();
            assert_eq!(world.deployment("job").is_none(), force, "turn {turn}");
        }
        world.pass(121);
        sluice_operator::deployment::reconcile(&world.context, NS, "job").await.unwrap();
        assert!(world.deployment("job").is_none());
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_with_field_and_reason() {
    let world = World::new();
    let mut bad = spec("INSERT INTO a SELECT 1");
    bad["workers"] = json!({"replicas": 3});
    world.apply("job", &bad);
    world.turn("job").await.unwrap();
    world.turn("job").await.unwrap();
    let accepted = world.condition("job", "Accepted");
    assert_eq!((accepted.0.as_str(), accepted.1.as_str()), ("False", "NotSupported"));
    assert!(accepted.2.starts_with("spec.workers.replicas: "), "{}", accepted.2);
    assert!(world.names("statefulsets").is_empty() && world.names("controllerrevisions").is_empty());
    // A spec that becomes invalid leaves the job alone.
    let world = running("INSERT INTO a SELECT 1").await;
    world.apply("job", &bad);
    for _ in 0..4 {
        world.turn("job").await.unwrap();
    }
    assert_eq!((world.condition("job", "Accepted").0, world.condition("job", "Running").0), ("False".into(), "True".into()));
}

#[tokio::test]
async fn sql_from_a_config_map_is_followed() {
    let world = World::new();
    let put = |sql: &str| drop(world.api.store().put(&key("configmaps", "sql"), json!({"data": {"job.sql": sql}})));
    world.apply("job", &with(spec(""), "/sql", json!({"configMapKeyRef": {"name": "sql", "key": "job.sql"}})));
    world.turn("job").await.unwrap();
    assert_eq!(world.condition("job", "Accepted").1, "ConfigMapNotFound");
    put("INSERT INTO a SELECT 1");
    world.until_phase("job", Phase::Running).await;
    assert_eq!(world.context.readers(NS, "sql"), ["job"]);
    put("INSERT INTO a SELECT 2");
    world.until("job", "upgraded", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
}

#[tokio::test]
async fn a_refusal_of_the_api_server_is_shown() {
    let world = World::new();
    let message = "pods \"x\" is forbidden: exceeded quota: compute";
    world.api.store().refuse = Some((http::Method::PATCH, "statefulsets".into(), 403, message.into()));
    world.apply("job", &spec("INSERT INTO a SELECT 1"));
    let mut errors = 0;
    for _ in 0..4 {
        errors += usize::from(world.turn("job").await.is_err());
    }
    assert!(errors > 0);
    let stalled = world.condition("job", "Stalled");
    assert!(stalled.1 == "QuotaExceeded" && stalled.2.contains("exceeded quota: compute"), "{stalled:?}");
    let statuses = || world.api.store().writes.iter().filter(|w| w.ends_with("streamingdeployments/job/status")).count();
    let before = statuses();
    for _ in 0..5 {
        world.pass(7);
        assert!(world.turn("job").await.is_err());
    }
    assert_eq!(statuses(), before, "it is not written again and again");
    world.api.store().refuse = None;
    world.until_phase("job", Phase::Running).await;
    assert_eq!(world.condition("job", "Stalled").0, "");
}

#[tokio::test]
async fn a_right_to_look_that_is_missing_is_shown() {
    let world = running("INSERT INTO a SELECT 1").await;
    world.api.store().refuse = Some((http::Method::GET, "services".into(), 403, "services is forbidden: cannot list".into()));
    // It is noticed when there is something to look at.
    world.context.mirror.acted(&world.owner("job"), Kinds::SERVICES);
    for _ in 0..3 {
        assert!(world.turn("job").await.is_err());
    }
    let ready = world.condition("job", "Ready");
    assert!(ready.1 == "Forbidden" && ready.2.contains("cannot list"), "{ready:?}");
    assert_eq!(world.condition("job", "Running").0, "True", "the job is not touched");
    world.api.store().refuse = None;
    world.until("job", "ready", |w| w.condition("job", "Ready").0 == "True" && w.condition("job", "Stalled").0.is_empty()).await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_does_not_wait_for_what_cannot_be_made_in_it() {
    let world = World::new();
    let mut careful = spec("INSERT INTO a SELECT 1");
    careful["onDelete"] = json!("Savepoint");
    world.apply("job", &careful);
    world.until_phase("job", Phase::Running).await;
    let message =
        "savepoints.sluice.dev \"x\" is forbidden: unable to create new content in namespace flink because it is being terminated";
    world.api.store().refuse = Some((http::Method::POST, "savepoints".into(), 403, message.into()));
    world.api.store().delete(&key("streamingdeployments", "job"));
    world.until("job", "gone", |w| w.deployment("job").is_none()).await;
}

#[tokio::test]
async fn finished_and_failed_jobs_are_told_apart() {
    let world = running("INSERT INTO a SELECT 1").await;
    world.runtime.with(&world.job_address("job-r1"), |job| job.info.state = RuntimeState::Finished);
    world.until_phase("job", Phase::Finished).await;
    world.turn("job").await.unwrap();
    assert!(world.names("pods").is_empty());
    assert_eq!(world.condition("job", "Ready").0, "True");

    let world = World::new();
    let mut once = spec("INSERT INTO a SELECT CRASH");
    once["restart"] = json!({"enabled": false});
    world.apply("job", &once);
    world.until_phase("job", Phase::Failed).await;
    world.until("job", "down", |w| w.names("pods").is_empty()).await;
    assert!(world.condition("job", "Stalled").2.contains("boom"));
    once["sql"]["inline"] = json!("INSERT INTO a SELECT 1");
    world.apply("job", &once);
    world.until_phase("job", Phase::Running).await;
}

#[tokio::test]
async fn savepoints_by_hand_and_restoring_from_them() {
    let world = running("INSERT INTO a SELECT 1").await;
    let object =
        json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Savepoint", "metadata": {}, "spec": {"deploymentRef": {"name": "job"}}});
    world.api.store().put(&key("savepoints", "before"), object);
    world.until("job", "taken", |w| w.savepoints()[0].status.as_ref().is_some_and(|s| s.phase == SavepointPhase::Completed)).await;
    let status = world.savepoints()[0].status.clone().unwrap();
    assert!(status.path.as_ref().unwrap().ends_with("/savepoints/before"));
    assert_eq!((status.revision, world.condition("job", "Running").0.as_str()), (Some(1), "True"));
    let mut restore = spec("INSERT INTO a SELECT 1");
    restore["restoreFrom"] = json!({"savepointRef": {"name": "nope"}, "nonce": 1});
    world.apply("job", &restore);
    world.turn("job").await.unwrap();
    assert_eq!(world.condition("job", "Accepted").1, "SavepointNotFound");
    restore["restoreFrom"]["savepointRef"]["name"] = json!("before");
    world.apply("job", &restore);
    world.until("job", "restored", |w| w.status("job").revision.unwrap().stable == Some(2)).await;
    let starts = world.starts.lock().unwrap().clone();
    assert!(starts[1].1.contains(&format!("--restore-from {}", status.path.unwrap())), "{starts:?}");
}

/// What is left at the end, whatever happened in between.
fn outcome(world: &World) -> Value {
    let status = world.status("job");
    let starts = world.starts.lock().unwrap();
    let submitted = world.submitted();
    let sets: Vec<&str> = starts.iter().map(|s| s.0.as_str()).chain(submitted.iter().map(|s| s.0.as_str())).collect();
    let restored: Vec<bool> =
        starts.iter().map(|s| s.1.contains("--restore-from")).chain(submitted.iter().map(|s| s.1.is_some())).collect();
    json!({"revision": status.revision, "phase": status.phase, "starts": sets, "restored": restored, "sets": world.names("statefulsets"),
        "savepoints": world.savepoints().iter().map(|s| s.status.as_ref().map(|s| s.phase)).collect::<Vec<_>>(),
        "revisions": world.names("controllerrevisions"), "configMaps": world.names("configmaps"), "jobs": world.names("jobs")})
}

/// Plays create, then an edit, with an operator that dies after the n-th write, and after each n-th again until all is done. Watches tell what
/// happened so many turns before.
async fn play(spec: fn(&str) -> Value, edit: &str, dies_after: Option<usize>, late: usize) -> (Value, usize) {
    let mut world = World::new();
    world.late = late;
    world.apply_cluster("shared", &shared());
    world.apply("job", &spec("INSERT INTO a SELECT 1"));
    let mut edited = false;
    let mut quiet = 0;
    for _ in 0..600 {
        let still = world.mortal_turn("job", dies_after).await;
        let settled = world.status("job").operation.is_none() && world.status("job").revision.is_some_and(|r| r.stable.is_some());
        if settled && !edited {
            world.apply("job", &spec(edit));
            edited = true;
        }
        quiet = if edited && still { quiet + 1 } else { 0 };
        if quiet > 8 {
            let writes = world.api.store().writes.len();
            return (outcome(&world), writes);
        }
    }
    panic!("dies after {dies_after:?}: it never comes to rest: {:#?}", world.status("job"));
}

#[tokio::test]
async fn an_operator_that_dies_after_any_write_goes_on_correctly() {
    dies_after_any_write(spec).await;
}

#[tokio::test]
async fn so_it_does_with_a_job_on_a_session_cluster() {
    dies_after_any_write(on_cluster).await;
}

async fn dies_after_any_write(place: fn(&str) -> Value) {
    for edit in ["INSERT INTO a SELECT 2", "INSERT INTO a SELECT CRASH", "INSERT INTO a SELECT BROKEN"] {
        let (expected, writes) = play(place, edit, None, 0).await;
        assert!(writes > 10, "{writes}");
        for dies_after in 1..=writes {
            let (found, _) = play(place, edit, Some(dies_after), 0).await;
            assert_eq!(found, expected, "{edit}: the operator dies after each {dies_after} writes");
        }
    }
}

/// A job whose pod a quota forbids.
async fn without_a_pod() -> World {
    let world = World::new();
    world.apply("job", &spec("INSERT INTO a SELECT QUOTA"));
    world.until("job", "refused", |w| w.condition("job", "Running").2.contains("exceeded quota: q")).await;
    world
}

#[tokio::test]
async fn a_pod_that_is_not_allowed_is_told_and_a_change_does_not_wait_for_it() {
    let world = without_a_pod().await;
    let ready = world.condition("job", "Ready");
    assert!(ready.0 == "False" && ready.2.contains("exceeded quota: q"), "{ready:?}");
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    for _ in 0..40 {
        world.turn("job").await.unwrap();
    }
    let status = world.status("job");
    assert_eq!((status.phase, status.revision.unwrap().stable), (Some(Phase::Running), Some(2)));
    assert!(world.savepoints().is_empty(), "there is no state to take");
}

/// The role grants what is asked for, and nothing that is not (watches apart: reconciles make none).
#[tokio::test]
async fn rights_are_those_that_are_used() {
    let mut used = std::collections::BTreeSet::new();
    for edit in ["INSERT INTO a SELECT 2", "INSERT INTO a SELECT CRASH", "INSERT INTO a SELECT BROKEN"] {
        let world = World::new();
        let mut first = spec("INSERT INTO a SELECT 1");
        (first["revisionHistoryLimit"], first["savepoints"], first["onDelete"]) =
            (json!(1), json!({"historyLimit": 1}), json!("DeleteState"));
        world.apply("job", &first);
        world.until_phase("job", Phase::Running).await;
        for n in 3..7 {
            first["sql"]["inline"] = json!(format!("INSERT INTO a SELECT {n}"));
            world.apply("job", &first);
            world.turn("job").await.unwrap();
            world.until_phase("job", Phase::Running).await;
        }
        first["sql"]["inline"] = json!(edit);
        world.apply("job", &first);
        for _ in 0..20 {
            world.turn("job").await.unwrap();
        }
        let revision = world.status("job").revision.unwrap().current;
        world.runtime.with(&world.job_address(&format!("job-r{revision}")), |job| job.info.state = RuntimeState::Stopped);
        world.turn("job").await.unwrap();
        world.api.store().put(&key("configmaps", "sql"), json!({"data": {"job.sql": "INSERT INTO a SELECT 9"}}));
        world.apply("job", &with(first.clone(), "/sql", json!({"configMapKeyRef": {"name": "sql", "key": "job.sql"}})));
        world.turn("job").await.unwrap();
        let by_hand = json!({"deploymentRef": {"name": "job"}, "deletionPolicy": "Delete", "path": "/state/STUCK"});
        world.api.store().put(&key("savepoints", "by-hand"), json!({"spec": by_hand}));
        for _ in 0..4 {
            world.turn("job").await.unwrap();
        }
        world.api.store().delete(&key("savepoints", "by-hand"));
        for _ in 0..4 {
            world.turn("job").await.unwrap();
        }
        world.api.store().delete(&key("streamingdeployments", "job"));
        world.until("job", "gone", |w| w.deployment("job").is_none()).await;
        used.extend(world.api.store().requests.clone());
    }
    let world = in_a_session("INSERT INTO a SELECT 1").await;
    let mut changed = shared();
    (changed["gateway"], changed["workers"]["slots"], changed["onDelete"]) = (json!({"enabled": false}), json!(4), json!("Cascade"));
    world.apply_cluster("shared", &changed);
    world.until("job", "restarted", |w| w.session_cluster("shared")["status"]["slots"]["total"] == 4).await;
    world.api.store().delete(&key("sessionclusters", "shared"));
    world.until("job", "gone", |w| w.session_cluster("shared").is_null()).await;
    used.extend(world.api.store().requests.clone());
    let world = without_a_pod().await;
    used.extend(world.api.store().requests.clone());
    let role: Value = serde_yaml::from_str(include_str!("../../manifests/base/role.yaml")).unwrap();
    let texts = |v: &Value| v.as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let mut granted = std::collections::BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for resource in texts(&rule["resources"]) {
            granted.extend(texts(&rule["verbs"]).into_iter().map(|verb| (verb, resource.clone())));
        }
    }
    let missing: Vec<_> = used.difference(&granted).collect();
    assert!(missing.is_empty(), "not granted: {missing:?}");
    let idle: Vec<_> = granted.difference(&used).filter(|(verb, r)| verb != "watch" && !r.ends_with("/finalizers")).collect();
    let apart = [("list", "sessionclusters")];
    let idle: Vec<_> = idle.into_iter().filter(|(v, r)| !apart.contains(&(v.as_str(), r.as_str()))).collect();
    assert!(idle.is_empty(), "granted for nothing: {idle:?}");
}

#[tokio::test]
async fn with_watches_an_idle_reconcile_asks_for_the_deployment_only() {
    let world = running("INSERT INTO a SELECT 1").await;
    for _ in 0..3 {
        world.turn("job").await.unwrap();
    }
    let asked = |world: &World| std::mem::take(&mut world.api.store().requests);
    asked(&world);
    for _ in 0..20 {
        world.turn("job").await.unwrap();
    }
    assert_eq!(asked(&world).into_iter().collect::<Vec<_>>(), [("get".to_owned(), "streamingdeployments".to_owned())]);
    // What a watch tells is acted upon without a list.
    world.api.store().remove(&key("services", "job-rest"));
    world.turn("job").await.unwrap();
    assert_eq!(world.names("services"), ["job-rest"]);
    assert!(!asked(&world).iter().any(|(verb, _)| verb == "list"));
    // The pods of a job that does not answer are listed.
    world.turn("job").await.unwrap();
    asked(&world);
    let address = world.job_address("job-r1");
    world.runtime.remove(&address);
    world.turn("job").await.unwrap();
    let lists: Vec<String> = asked(&world).into_iter().filter(|(verb, _)| verb == "list").map(|(_, what)| what).collect();
    assert_eq!(lists, ["pods", "statefulsets"]);
}

/// Watches may be late: nothing is started twice, stopped for nothing or left out for it.
#[tokio::test]
async fn with_late_watches_all_comes_out_the_same() {
    for edit in ["INSERT INTO a SELECT 2", "INSERT INTO a SELECT CRASH", "INSERT INTO a SELECT BROKEN"] {
        let (expected, _) = play(spec, edit, None, 0).await;
        for late in [1, 2, 5] {
            assert_eq!(play(spec, edit, None, late).await.0, expected, "{edit}: watches are {late} turns late");
        }
        let (_, writes) = play(spec, edit, Some(1), 2).await;
        assert!(writes > 10, "{writes}");
    }
}

/// Each write of a first start is made once.
#[tokio::test]
async fn a_start_writes_nothing_twice() {
    let world = running("INSERT INTO a SELECT 1").await;
    let mut writes = world.api.store().writes.clone();
    writes.retain(|w| !w.contains("/status") && !w.starts_with("PATCH streamingdeployments"));
    let all = writes.len();
    writes.sort();
    writes.dedup();
    assert_eq!(writes.len(), all, "{:?}", world.api.store().writes);
    let lists: Vec<String> = world.api.store().requests.iter().filter(|(verb, _)| verb == "list").map(|(_, what)| what.clone()).collect();
    assert_eq!(lists, ["pods"]);
}
