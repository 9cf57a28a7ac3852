//! Savepoints that users ask for, and jobs that begin with one.

use serde_json::{Value, json};
use sluice_tests::cluster::condition;

use crate::job::{DEADLINE, NAME, Work};
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[("savepoints::manual_and_back_to_it", manual), ("savepoints::another_job_from_one", fork)];

fn take(work: &Work, name: &str) -> String {
    let spec = json!({"deploymentRef": {"name": NAME}});
    work.space.must_apply(&json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Savepoint", "metadata": {"name": name}, "spec": spec}));
    let ns = work.space.name.as_str();
    work.lab.cluster.ok(&["-n", ns, "wait", "--for=condition=Complete", &format!("svp/{name}"), "--timeout=90s"]);
    let savepoint = work.space.savepoint(name);
    assert_eq!(savepoint["status"]["revision"], work.space.deployment(NAME)["status"]["revision"]["current"]);
    savepoint["status"]["path"].as_str().unwrap().to_owned()
}

/// What was done since the savepoint is done again, on the state of then.
fn manual(lab: &Lab) {
    let work = Work::new(lab, "manual");
    work.start("one", &json!({}));
    work.fill(0, 300);
    work.assert_exact(300);
    let pod = work.space.pod(NAME);
    let path = take(&work, "early");
    assert_eq!(work.space.pod(NAME), pod, "the job goes on");
    work.fill(300, 500);
    work.assert_exact(500);
    take(&work, "late");
    work.space.must_apply(&work.deployment(&work.sql("two"), &json!({"restoreFrom": {"savepointRef": {"name": "early"}, "nonce": 1}})));
    let object = work.wait_stable("restored", 2);
    assert_eq!(object["status"]["startedFrom"]["path"], path.as_str());
    let rows = work.wait_rows(700);
    let again: Vec<i64> = rows.iter().filter(|r| r.tag == "two").map(|r| r.v).collect();
    assert!(again.len() == 200 && again.iter().all(|v| *v >= 300), "{again:?}");
    work.assert_sums(500);
    // The same nonce: it is not gone back to again.
    work.patch(&json!({"restartNonce": 1}));
    work.space.wait(NAME, "restarted", DEADLINE, |d| d["status"]["revision"]["stable"] == 3);
    work.fill(500, 600);
    assert_eq!(work.wait_rows(800).len(), 800);
    work.assert_sums(600);
    // One that is not there blocks nothing but itself.
    work.patch(&json!({"restoreFrom": {"savepointRef": {"name": "missing"}, "nonce": 2}}));
    let object = work.space.wait(NAME, "not found", DEADLINE, |d| condition(d, "Accepted").1 == "SavepointNotFound");
    assert_eq!(condition(&object, "Running").0, "True");
}

/// A second job, on the same volume, from a savepoint that is imported by its path.
fn fork(lab: &Lab) {
    let work = Work::new(lab, "fork");
    work.start("one", &json!({}));
    work.fill(0, 200);
    work.assert_exact(200);
    let path = take(&work, "origin");
    lab.cluster.delete(&work.space.deployment_path(NAME), false);
    work.space.wait(NAME, "deleted", DEADLINE, Value::is_null);
    let import = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Savepoint", "metadata": {"name": "imported"}, "spec": {"existing": {"path": path}}});
    work.space.must_apply(&import);
    let from = json!({"restoreFrom": {"savepointRef": {"name": "imported"}}, "storage": {"volumeClaim": {"existingClaim": "job-state"}}});
    let mut object = work.deployment(&work.sql("two"), &from);
    object["spec"]["storage"]["volumeClaim"].as_object_mut().unwrap().remove("size");
    object["metadata"]["name"] = "other".into();
    work.space.must_apply(&object);
    work.space.wait("other", "running", DEADLINE, |d| condition(d, "Ready").0 == "True");
    work.fill(200, 400);
    let rows = work.assert_exact(400);
    assert!(rows.iter().all(|r| r.tag == if r.v < 200 { "one" } else { "two" }));
}
