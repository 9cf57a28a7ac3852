//! Savepoints that users ask for, and jobs that begin with one.

use serde_json::{Value, json};
use sluice_tests::cluster::condition;

use crate::job::{DEADLINE, NAME, Work};
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[
    ("savepoints::by_schedule", by_schedule),
    ("savepoints::manual_and_back_to_it", manual),
    ("savepoints::another_job_from_one", fork),
    ("savepoints::files_as_the_policy_says", files),
];

/// Paths of the savepoints that are stored, by the runtime in the job's pod.
fn stored(work: &Work, pod: &str) -> Vec<String> {
    let (ns, folder) = (work.space.name.as_str(), format!("/state/{}/{NAME}/savepoints", work.space.name));
    let list = ["/usr/local/bin/sluice", "savepoint", "list", folder.as_str(), "--output", "json"];
    let text = work.lab.cluster.ok(&[&["-n", ns, "exec", pod, "-c", "sluice", "--"], list.as_slice()].concat());
    let list: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut paths: Vec<String> = list.iter().map(|s| s["savepoint"].as_str().unwrap().trim_end_matches('/').to_owned()).collect();
    paths.sort();
    paths
}

/// The savepoints of the operator that are complete: names and paths.
fn scheduled(work: &Work) -> Vec<(String, String)> {
    let all = work.space.list("sluice.dev/v1alpha1/savepoints?labelSelector=sluice.dev/trigger=scheduled");
    let complete = all.iter().filter(|s| s["status"]["phase"] == "Completed");
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    complete.map(|s| (text(&s["metadata"]["name"]), text(&s["status"]["path"]))).collect()
}

/// Each minute one; the one before goes, with its files. The job writes on meanwhile.
fn by_schedule(lab: &Lab) {
    let work = Work::new(lab, "schedule");
    let load = work.load(100);
    work.start("one", &json!({"savepoints": {"schedule": "* * * * *", "historyLimit": 1}}));
    let pod = work.space.pod(NAME);
    work.space.wait(NAME, "a savepoint", DEADLINE, |_| !scheduled(&work).is_empty());
    let (first, path) = scheduled(&work).remove(0);
    assert!(stored(&work, "job-r1-0").contains(&path), "{path}");
    work.space.wait(NAME, "the next one", DEADLINE, |_| {
        let names = scheduled(&work);
        !names.is_empty() && !names.iter().any(|(name, _)| *name == first)
    });
    let (second, kept) = scheduled(&work).remove(0);
    assert!(second > first, "{second} behind {first}");
    let left = stored(&work, "job-r1-0");
    assert!(left.contains(&kept) && !left.contains(&path), "{left:?}");
    assert_eq!(work.space.pod(NAME), pod, "the job goes on");
    assert!(!work.space.deployment(NAME)["status"]["nextSavepoint"]["at"].is_null());
    // No more from now on; and the job can go back to the one that is there.
    let restore = json!({"savepoints": null, "restoreFrom": {"savepointRef": {"name": second}, "nonce": 1}});
    let count = load.stop();
    work.wait_for_rows("all rows", |rows| rows.len() >= count as usize);
    work.assert_exact(count);
    work.patch(&restore);
    let object = work.wait_stable("restored", 2);
    assert_eq!(object["status"]["startedFrom"]["path"], kept.as_str());
    work.assert_sums(count);
}

/// Files go with the object if it says so, whether its deployment is there or not; else they stay.
fn files(lab: &Lab) {
    let work = Work::new(lab, "files");
    work.start("one", &json!({}));
    work.fill(0, 100);
    work.assert_exact(100);
    let delete = |name: &str| {
        lab.cluster.delete(&work.space.path(&format!("sluice.dev/v1alpha1/savepoints/{name}")), false);
        work.space.wait(NAME, &format!("no Savepoint {name}"), DEADLINE, |_| work.space.savepoint(name).is_null());
    };
    let keeps = take(&work, "keeps");
    let paths = ["goes", "last"].map(|name| take_with(&work, name, &json!({"deletionPolicy": "Delete"})));
    assert_eq!(stored(&work, "job-r1-0").len(), 3);
    delete("keeps");
    delete("goes");
    let left = stored(&work, "job-r1-0");
    assert!(left.contains(&keeps) && left.contains(&paths[1]) && !left.contains(&paths[0]), "{left:?}");
    assert!(work.space.events().iter().any(|(reason, note)| reason == "FilesDeleted" && note == &paths[0]), "{:?}", work.space.events());
    lab.cluster.delete(&work.space.deployment_path(NAME), false);
    work.space.wait(NAME, "deleted", DEADLINE, Value::is_null);
    delete("last");
    work.start("two", &json!({"restoreFrom": {"path": keeps}}));
    assert_eq!(stored(&work, "job-r1-0"), [keeps]);
    work.fill(100, 200);
    work.assert_sums(200);
}

fn take(work: &Work, name: &str) -> String {
    take_with(work, name, &json!({}))
}

pub fn take_with(work: &Work, name: &str, more: &Value) -> String {
    let mut spec = json!({"deploymentRef": {"name": NAME}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
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
