//! State in S3: jobs in pods reach a server on this machine, with keys that only the pods know.

use serde_json::{Value, json};
use sluice_tests::cluster::condition;
use sluice_tests::s3::{ACCESS_KEY, BUCKET, S3, SECRET_KEY};

use crate::job::{DEADLINE, NAME, Work};
use crate::savepoints::take_with;
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[("storage::s3_in_pods", s3_in_pods)];

const PREFIX: &str = "streams/state";

/// The spec's `storage` and the settings that go with it.
pub fn in_bucket(s3: &S3) -> Value {
    json!({
        "storage": {"uri": format!("s3://{BUCKET}/{PREFIX}"), "credentialsSecretRef": {"name": "s3-keys"}},
        "config": {"s3.endpoint": format!("http://{}", s3.address), "execution.checkpointing.mode": "EXACTLY_ONCE"},
    })
}

pub fn keys() -> Value {
    let data = json!({"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3-keys"}, "stringData": data})
}

/// The objects of a job below its folder of this name.
pub fn objects(work: &Work, s3: &S3, job: &str, folder: &str) -> Vec<String> {
    s3.objects(&format!("{PREFIX}/{}/{job}/{folder}", work.space.name))
}

/// Where the job's savepoint of this name is.
pub fn path_of(work: &Work, job: &str, savepoint: &str) -> String {
    format!("s3://{BUCKET}/{PREFIX}/{}/{job}/savepoints/{savepoint}", work.space.name)
}

fn s3_in_pods(lab: &Lab) {
    let work = Work::new(lab, "s3");
    let s3 = S3::started_on(&lab.cluster.host);
    let mut stored = in_bucket(&s3);
    stored["storage"]["volumeClaim"] = Value::Null;
    let apply = |tag: &str| work.space.must_apply(&work.deployment(&work.sql(tag), &stored));
    // Nobody has made the Secret yet: the user is told which one.
    apply("old");
    work.space.wait(NAME, "told that there are no keys", DEADLINE, |d| condition(d, "Ready").2.contains("s3-keys"));
    work.space.must_apply(&keys());
    let load = work.load(300);
    work.ready();
    work.wait_rows(300);
    assert!(!objects(&work, &s3, NAME, "checkpoints").is_empty(), "{:?}", s3.objects(""));
    assert!(work.space.list("core/v1/persistentvolumeclaims").is_empty(), "no volume is needed");

    let path = take_with(&work, "by-hand", &json!({"deletionPolicy": "Delete"}));
    assert_eq!(path, path_of(&work, NAME, "by-hand"));
    assert!(!objects(&work, &s3, NAME, "savepoints/by-hand").is_empty(), "{:?}", s3.objects(PREFIX));

    apply("new");
    let object = work.wait_stable("upgraded", 2);
    let upgrade = object["status"]["lastSavepoint"]["name"].as_str().unwrap();
    assert_eq!(object["status"]["startedFrom"]["path"], path_of(&work, NAME, upgrade), "{object}");
    work.wait_for_rows("rows of the new SQL", |rows| rows.iter().filter(|r| r.tag == "new").count() > 300);

    for now in [true, false] {
        let (uid, _) = work.space.pod(NAME);
        lab.cluster.delete(&work.space.path("core/v1/pods/job-r2-0"), now);
        work.space.wait(NAME, "another pod", DEADLINE, |_| work.space.pods(NAME).iter().any(|p| p["metadata"]["uid"] != uid.as_str()));
        let rows = work.rows().len();
        work.wait_rows(rows + 300);
    }

    lab.cluster.delete(&work.space.path("sluice.dev/v1alpha1/savepoints/by-hand"), false);
    work.space.wait(NAME, "no Savepoint by-hand", DEADLINE, |_| work.space.savepoint("by-hand").is_null());
    assert_eq!(objects(&work, &s3, NAME, "savepoints/by-hand"), Vec::<String>::new(), "its files went with it");
    assert!(work.space.events().iter().any(|(reason, note)| reason == "FilesDeleted" && *note == path), "{:?}", work.space.events());
    assert!(!objects(&work, &s3, NAME, &format!("savepoints/{upgrade}")).is_empty(), "the other one stays");

    work.ready();
    let rows = work.assert_exact(load.stop());
    let newest_old = rows.iter().filter(|r| r.tag == "old").map(|r| r.at).max();
    let oldest_new = rows.iter().filter(|r| r.tag == "new").map(|r| r.at).min();
    assert!(newest_old <= oldest_new, "one after the other");
    let shown = format!(
        "{:?}{:?}{:?}",
        work.space.list("sluice.dev/v1alpha1/streamingdeployments"),
        work.space.list("core/v1/pods"),
        work.space.events()
    );
    assert!(!shown.contains(SECRET_KEY) && !lab.cluster.operator_logs(1000).contains(SECRET_KEY), "the key is shown");
}
