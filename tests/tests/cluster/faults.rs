//! Pods that die.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::cluster::condition;

use crate::job::{DEADLINE, NAME, Work};
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[
    ("faults::pod_killed", pod_killed),
    ("faults::crash_loop_and_last_state", crash_loop),
    ("faults::stopped_by_somebody", stopped),
    ("faults::meddled_with", meddled_with),
];

/// Whatever takes a pod away: rows are written once.
fn pod_killed(lab: &Lab) {
    let work = Work::new(lab, "killed");
    let load = work.load(300);
    work.start("one", &json!({}));
    for round in 1..=3 {
        let rows = work.rows().len();
        work.wait_rows(rows + 300);
        let (uid, _) = work.space.pod(NAME);
        lab.cluster.delete(&work.space.path("core/v1/pods/job-r1-0"), round != 2);
        work.space.wait(NAME, "another pod", DEADLINE, |_| work.space.pods(NAME).iter().any(|p| p["metadata"]["uid"] != uid.as_str()));
    }
    work.ready();
    let rows = work.rows().len();
    work.wait_rows(rows + 300);
    work.assert_exact(load.stop());
}

/// A job that cannot go on is repaired by a change, from its last checkpoint.
fn crash_loop(lab: &Lab) {
    let work = Work::new(lab, "crash-loop");
    work.start("one", &json!({"restart": {"maxAttempts": 1, "initialBackoff": "100ms", "maxBackoff": "200ms"}}));
    work.fill(0, 300);
    work.assert_exact(300);
    // A record that this job cannot read: it fails, and fails again.
    let poison =
        sluice_tests::topics::Record { topic: work.topic("in"), value: Some(b"{\"k\":".to_vec()), timestamp: 1, ..Default::default() };
    sluice_tests::topics::produce(&lab.kafka, &[poison]);
    let object =
        work.space.wait(NAME, "failing", DEADLINE, |d| condition(d, "Running").0 == "False" && !d["status"]["lastFailure"].is_null());
    assert!(!object["status"]["lastFailure"]["message"].as_str().unwrap().is_empty(), "{object}");
    work.space.wait(NAME, "down", DEADLINE, |d| d["status"]["phase"] == "Failed" && condition(d, "Stalled").0 == "True");
    sleep(Duration::from_secs(1));
    let sql = work.sql("two").replacen("'format' = 'json',", "'format' = 'json', 'json.ignore-parse-errors' = 'true',", 1);
    work.space.must_apply(&work.deployment(&sql, &json!({})));
    work.ready();
    work.fill(300, 400);
    let rows = work.assert_exact(400);
    assert!(rows.iter().all(|r| r.tag == if r.v < 300 { "one" } else { "two" }));
    assert!(work.space.list("sluice.dev/v1alpha1/savepoints").is_empty(), "no savepoint could be taken, and none was needed");
}

/// Somebody stops the job with a savepoint, past the operator: it goes on from there.
fn stopped(lab: &Lab) {
    let work = Work::new(lab, "stopped");
    let load = work.load(200);
    work.start("one", &json!({}));
    work.wait_rows(200);
    let (uid, _) = work.space.pod(NAME);
    let path = work.space.path("core/v1/pods/job-r1-0:8081/proxy/savepoints");
    lab.cluster.post(&path, &json!({"directory": "/state/by-hand", "stop": true}));
    work.space.wait(NAME, "another pod", DEADLINE, |_| work.space.pods(NAME).iter().any(|p| p["metadata"]["uid"] != uid.as_str()));
    let object = work.ready();
    assert_eq!(object["status"]["startedFrom"]["path"], "/state/by-hand");
    let rows = work.rows().len();
    work.wait_rows(rows + 200);
    work.assert_exact(load.stop());
}

/// A process that is told to go (as by a node that is shut down) has not finished; a StatefulSet that is scaled is put back; a ControllerRevision that
/// looks like litter is made again; pods that the API server would not take stop nothing. Rows are written once all the while.
fn meddled_with(lab: &Lab) {
    let work = Work::new(lab, "meddled");
    let load = work.load(200);
    work.start("one", &json!({}));
    work.wait_rows(200);
    let told: Vec<u32> = work.space.pods(NAME).iter().flat_map(|pod| lab.cluster.processes(pod)).collect();
    let (_, restarts) = work.space.pod(NAME);
    for process in &told {
        assert!(Command::new("kill").arg(process.to_string()).status().unwrap().success());
    }
    if !told.is_empty() {
        work.space.wait(NAME, "another process", DEADLINE, |d| {
            assert_ne!(d["status"]["phase"], "Finished");
            work.space.pods(NAME).iter().any(|p| p["status"]["containerStatuses"][0]["restartCount"].as_i64() > Some(restarts))
        });
    }
    work.ready();
    let set = work.space.path("apps/v1/statefulsets/job-r1");
    lab.cluster.patch(&set, &json!({"spec": {"replicas": 0}}));
    work.space.wait(NAME, "scaled back", DEADLINE, |_| work.space.events().iter().any(|(reason, _)| reason == "ScaledBack"));
    work.space.wait(NAME, "one replica", DEADLINE, |_| lab.cluster.get(&set).is_some_and(|s| s["spec"]["replicas"] == 1));
    work.ready();
    let revision = work.space.path("apps/v1/controllerrevisions/job-r1");
    lab.cluster.delete(&revision, true);
    work.space.wait(NAME, "the revision again", DEADLINE, |_| lab.cluster.get(&revision).is_some());
    let overrides = json!({"podOverrides": {"spec": {"containers": [{"name": "without-an-image"}]}}});
    work.space.must_apply(&work.deployment(&work.sql("one"), &overrides));
    // The status may have been that of before the set was scaled: the job may be starting still.
    let goes_on = |d: &Value| d["status"]["operation"].is_null() && condition(d, "Running").0 == "True";
    let object = work.space.wait(NAME, "refused", DEADLINE, |d| condition(d, "Stalled").1 == "Refused" && goes_on(d));
    assert!(condition(&object, "Stalled").2.contains("image"), "{object}");
    work.space.must_apply(&work.deployment(&work.sql("one"), &json!({})));
    work.ready();
    let rows = work.rows().len();
    work.wait_rows(rows + 200);
    work.assert_exact(load.stop());
}
