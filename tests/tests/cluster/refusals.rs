//! What cannot be done is said in the conditions, and what runs goes on.

use std::time::Duration;

use serde_json::json;
use sluice_tests::cluster::{condition, holds};

use crate::job::{DEADLINE, NAME, Work};
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[
    ("refusals::at_the_api_server", api_server),
    ("refusals::broken_sql_at_first", broken_at_first),
    ("refusals::broken_sql_later", broken_later),
    ("refusals::incompatible_sql", incompatible),
    ("refusals::image_that_is_not_there", no_image),
    ("refusals::rolled_back", rolled_back),
    ("refusals::quota", quota),
];

/// CEL rules and the schema answer at once.
fn api_server(lab: &Lab) {
    let work = Work::new(lab, "cel");
    let refused = |more: serde_json::Value, words: &str| {
        let error = work.space.apply(&work.deployment("SELECT 1", &more)).expect_err(words);
        assert!(error.contains(words), "{error}");
    };
    refused(json!({"parallelism": 721}), "parallelism may be at most maxParallelism");
    refused(json!({"storage": {"uri": "s3://bucket/x"}}), "volumeClaim is needed for a file:// uri");
    refused(json!({"sql": {"configMapKeyRef": {"name": "a", "key": "b"}}}), "exactly one of inline and configMapKeyRef is needed");
    refused(json!({"sessionClusterRef": {"name": "x"}}), "are those of the session cluster");
    refused(json!({"checkpoints": {"interval": "soon"}}), "checkpoints.interval");
    refused(json!({"restoreFrom": {"path": "/a", "empty": {}}}), "exactly one of savepointRef, path and empty is needed");
    refused(json!({"parralelism": 2}), "parralelism");
    let suspended = json!({"suspend": true});
    work.space.must_apply(&work.deployment("SELECT 1", &suspended));
    refused(json!({"suspend": true, "maxParallelism": 800}), "maxParallelism cannot be changed");
    let object = work.space.wait(NAME, "seen", DEADLINE, |d| d["status"]["observedGeneration"] == 1);
    assert_eq!(object["status"]["jobState"], "Suspended");
    // What only the operator knows.
    work.space.must_apply(&work.deployment("SELECT 1", &json!({"suspend": true, "config": {"pipeline.name": "x"}})));
    let object = work.space.wait(NAME, "invalid", DEADLINE, |d| condition(d, "Accepted").0 == "False");
    assert!(condition(&object, "Accepted").2.contains("spec.config['pipeline.name']"), "{object}");
    assert_eq!(condition(&object, "Stalled").0, "True");
}

fn broken_at_first(lab: &Lab) {
    let work = Work::new(lab, "broken");
    work.space.must_apply(&work.deployment(&work.sql("x").replace("SUM(v)", "SUMM(v)"), &json!({})));
    let object = work.space.wait(NAME, "refused", DEADLINE, |d| condition(d, "Accepted").1 == "InvalidSql");
    let message = condition(&object, "Accepted").2;
    assert!(message.contains("SUMM") && message.contains("line 6"), "{message}");
    assert_eq!(condition(&object, "Stalled").0, "True", "{object}");
    work.space.must_apply(&work.deployment(&work.sql("right"), &json!({})));
    work.ready();
    work.fill(0, 100);
    work.assert_exact(100);
}

fn broken_later(lab: &Lab) {
    let work = Work::new(lab, "broken-later");
    work.start("good", &json!({}));
    let pod = work.space.pod(NAME);
    work.space.must_apply(&work.deployment(&work.sql("bad").replace("FROM a;", "FROM nowhere;"), &json!({})));
    let object = work.space.wait(NAME, "refused", DEADLINE, |d| condition(d, "Accepted").1 == "InvalidSql");
    let message = condition(&object, "Accepted").2;
    assert!(message.contains("nowhere") && message.contains("line 5"), "{message}");
    assert_eq!((condition(&object, "Running").0.as_str(), condition(&object, "Ready").0.as_str()), ("True", "False"));
    work.fill(0, 100);
    let rows = work.assert_exact(100);
    assert!(rows.iter().all(|r| r.tag == "good"));
    assert_eq!(work.space.pod(NAME), pod, "the old job was not touched");
    // Put back: nothing was ever changed.
    work.space.must_apply(&work.deployment(&work.sql("good"), &json!({})));
    work.ready();
    assert_eq!(work.space.pod(NAME), pod);
}

/// The new SQL has no place for the state: it is known before anything is stopped.
fn incompatible(lab: &Lab) {
    let work = Work::new(lab, "incompatible");
    work.start("good", &json!({}));
    work.fill(0, 100);
    work.wait_rows(100);
    let pod = work.space.pod(NAME);
    work.space.must_apply(&work.deployment(&work.sql_with("bad", "MOD(v, 3)"), &json!({})));
    let object = work.space.wait(NAME, "refused", DEADLINE, |d| condition(d, "Stalled").1 == "IncompatibleState");
    let message = condition(&object, "Stalled").2;
    assert!(message.contains("group keys changed"), "{message}");
    assert!(holds(&object, "Running"), "{object}");
    work.fill(100, 200);
    let rows = work.assert_exact(200);
    assert!(rows.iter().all(|r| r.tag == "good"));
    assert_eq!(work.space.pod(NAME), pod, "the old job was not touched");
}

fn no_image(lab: &Lab) {
    let work = Work::new(lab, "no-image");
    work.start("good", &json!({}));
    let pod = work.space.pod(NAME);
    work.space.must_apply(&work.deployment(&work.sql("bad"), &json!({"image": "localhost/nowhere/sluice:9"})));
    let object = work.space.wait(NAME, "refused", DEADLINE, |d| condition(d, "Stalled").1 == "ImagePullFailed");
    assert!(holds(&object, "Running"), "{object}");
    assert_eq!(work.space.pod(NAME), pod, "the old job was not touched");
}

/// A revision that plans well but cannot run: the old one comes back from the same savepoint.
fn rolled_back(lab: &Lab) {
    let work = Work::new(lab, "rolled-back");
    let load = work.load(200);
    work.start("good", &json!({}));
    work.wait_rows(200);
    let upgrade = json!({"variables": {"KAFKA": format!("{}:9", lab.cluster.host)}, "upgrade": {"readyTimeout": "15s"}});
    work.space.must_apply(&work.deployment(&work.sql("bad"), &upgrade));
    let object = work
        .space
        .wait(NAME, "rolled back", DEADLINE, |d| d["status"]["operation"].is_null() && d["status"]["rejected"]["rolledBack"] == true);
    assert_eq!((&object["status"]["revision"]["current"], &object["status"]["revision"]["stable"]), (&json!(1), &json!(1)));
    let object = work.space.wait(NAME, "running", DEADLINE, |d| holds(d, "Running"));
    assert_eq!((condition(&object, "Ready").0.as_str(), condition(&object, "Ready").1.as_str()), ("False", "RolledBack"));
    let rows = work.rows().len();
    work.wait_rows(rows + 200);
    let rows = work.assert_exact(load.stop());
    assert!(rows.iter().all(|r| r.tag == "good"));
    assert!(work.space.events().iter().any(|(reason, _)| reason == "RolledBack"));
}

fn quota(lab: &Lab) {
    let work = Work::new(lab, "quota");
    let quota =
        |hard: serde_json::Value| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
    work.space.must_apply(&quota(json!({"count/statefulsets.apps": "0"})));
    // The quota controller has to have seen it.
    std::thread::sleep(Duration::from_secs(2));
    work.space.must_apply(&work.deployment(&work.sql("x"), &json!({})));
    let object = work.space.wait(NAME, "no StatefulSet", DEADLINE, |d| condition(d, "Ready").1 == "QuotaExceeded");
    assert!(condition(&object, "Ready").2.contains("exceeded quota: q"), "{object}");
    assert_eq!(condition(&object, "Stalled").1, "QuotaExceeded");
    // Pods are made by somebody else, who is refused.
    work.space.must_apply(&quota(json!({"count/statefulsets.apps": "5", "pods": "0"})));
    std::thread::sleep(Duration::from_secs(2));
    work.patch(&json!({"restartNonce": 1}));
    let object = work.space.wait(NAME, "no pod", DEADLINE, |d| condition(d, "Ready").2.contains("exceeded quota: q"));
    assert_eq!(condition(&object, "Running").0, "False", "{object}");
    lab.cluster.delete(&work.space.path("core/v1/resourcequotas/q"), false);
    work.ready();
    work.fill(0, 100);
    work.assert_exact(100);
}
