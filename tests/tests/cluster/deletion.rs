//! What is left when a StreamingDeployment is deleted.

use std::time::Instant;

use serde_json::{Value, json};

use crate::job::{DEADLINE, NAME, Work};
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[
    ("deletion::retains_state", retain),
    ("deletion::takes_a_savepoint", savepoint),
    ("deletion::deletes_state", delete_state),
    ("deletion::deletes_state_on_a_volume_of_the_user", delete_state_on_a_volume),
    ("deletion::with_its_namespace", namespace),
];

fn delete(work: &Work) {
    work.lab.cluster.delete(&work.space.deployment_path(NAME), false);
    work.space.wait(NAME, "deleted", DEADLINE, Value::is_null);
    work.space.wait(NAME, "its children, too", DEADLINE, |_| {
        work.space.versions().keys().all(|k| !k.contains("/job") || k.contains("persistentvolumeclaims") || k.contains("savepoints"))
            && work.space.pods(NAME).is_empty()
    });
}

/// Made again it goes on where it was.
fn retain(lab: &Lab) {
    let work = Work::new(lab, "retain");
    let load = work.load(200);
    work.start("one", &json!({}));
    work.wait_rows(200);
    delete(&work);
    assert!(work.space.get("core/v1/persistentvolumeclaims/job-state").is_some());
    work.start("two", &json!({}));
    work.wait_for_rows("rows of the second", |rows| rows.iter().filter(|r| r.tag == "two").count() > 200);
    work.assert_exact(load.stop());
}

fn savepoint(lab: &Lab) {
    let work = Work::new(lab, "last-savepoint");
    work.start("one", &json!({"onDelete": "Savepoint"}));
    work.fill(0, 200);
    work.assert_exact(200);
    delete(&work);
    let savepoints = work.space.list("sluice.dev/v1alpha1/savepoints");
    assert_eq!(savepoints.len(), 1, "{savepoints:?}");
    assert_eq!(savepoints[0]["status"]["phase"], "Completed", "{savepoints:?}");
    // Made again it goes on from there, told to or not.
    work.start("again", &json!({"onDelete": "Savepoint"}));
    work.fill(200, 300);
    work.assert_exact(300);
    delete(&work);
    let savepoints = work.space.list("sluice.dev/v1alpha1/savepoints");
    let newest = savepoints.iter().max_by_key(|s| s["status"]["completedAt"].as_str().unwrap().to_owned()).unwrap();
    let name = &newest["metadata"]["name"];
    work.start("two", &json!({"restoreFrom": {"savepointRef": {"name": name}}}));
    work.fill(300, 400);
    work.assert_exact(400);
}

/// Made again it begins anew: the volume that the operator made is gone, and what Kafka still says of the job's commits is void.
fn delete_state(lab: &Lab) {
    let work = Work::new(lab, "delete-state");
    let policy = json!({"onDelete": "DeleteState"});
    work.start("one", &policy);
    work.fill(0, 100);
    work.assert_exact(100);
    delete(&work);
    work.space.wait(NAME, "no volume", DEADLINE, |_| work.space.get("core/v1/persistentvolumeclaims/job-state").is_none());
    begins_anew(&work, &policy);
}

/// The user's volume stays, and what the job has written on it goes.
fn delete_state_on_a_volume(lab: &Lab) {
    let work = Work::new(lab, "delete-state-elsewhere");
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "mine"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    work.space.must_apply(&claim);
    let policy = json!({"onDelete": "DeleteState", "storage": {"volumeClaim": {"size": null, "existingClaim": "mine"}}});
    work.start("one", &policy);
    work.fill(0, 100);
    work.assert_exact(100);
    delete(&work);
    assert!(work.space.get("core/v1/persistentvolumeclaims/mine").is_some());
    begins_anew(&work, &policy);
}

fn begins_anew(work: &Work, policy: &Value) {
    work.start("two", policy);
    let again = |rows: &[crate::job::Row]| rows.iter().filter(|r| r.tag == "two").count();
    let rows = work.wait_for_rows("all rows once more", |rows| again(rows) >= 100);
    assert_eq!((rows.len(), again(&rows)), (200, 100));
    // The sums, too, are of one life only.
    work.assert_sums(100);
}

/// A namespace goes in its own time, whatever its deployments would still like to do.
fn namespace(lab: &Lab) {
    let work = Work::new(lab, "namespace");
    work.start("one", &json!({"onDelete": "Savepoint"}));
    let started = Instant::now();
    lab.cluster.ok(&["delete", "namespace", &work.space.name, "--timeout=100s"]);
    eprintln!("  a namespace with a running job is gone after {:.1?}", started.elapsed());
}
