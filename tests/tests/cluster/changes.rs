//! What changes a running job: SQL, parallelism, ConfigMaps, Secrets.

use std::time::Instant;

use serde_json::json;
use sluice_tests::cluster::condition;

use crate::job::{DEADLINE, NAME, Work, longest_gap};
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[
    ("changes::sql_under_load", sql_under_load),
    ("changes::parallelism_by_scale", parallelism),
    ("changes::config_map", config_map),
    ("changes::secret", secret),
];

/// Nothing is lost and nothing doubled, and the new SQL begins where the old one ended.
fn sql_under_load(lab: &Lab) {
    let work = Work::new(lab, "upgrade");
    let load = work.load(500);
    work.start("old", &json!({}));
    work.wait_rows(500);
    let started = Instant::now();
    work.space.must_apply(&work.deployment(&work.sql("new"), &json!({})));
    let object = work.wait_stable("upgraded", 2);
    let took = started.elapsed();
    work.wait_for_rows("rows of the new SQL", |rows| rows.iter().filter(|r| r.tag == "new").count() > 500);
    let rows = work.assert_exact(load.stop());
    eprintln!("  upgrade under load: {took:.1?} in all, no row was written for {:.1?}", longest_gap(&rows));
    let newest_old = rows.iter().filter(|r| r.tag == "old").map(|r| r.at).max();
    let oldest_new = rows.iter().filter(|r| r.tag == "new").map(|r| r.at).min();
    assert!(newest_old <= oldest_new, "one after the other");
    let path = object["status"]["lastSavepoint"]["path"].as_str().unwrap();
    assert_eq!(object["status"]["startedFrom"]["path"], path, "from the savepoint");
    let savepoint = work.space.savepoint(object["status"]["lastSavepoint"]["name"].as_str().unwrap());
    assert_eq!(savepoint["status"]["phase"], "Completed", "{savepoint}");
    let reasons: Vec<String> = work.space.events().into_iter().map(|(reason, _)| reason).collect();
    for reason in ["Upgrading", "SavepointCompleted", "Stable"] {
        assert!(reasons.iter().any(|r| r == reason), "{reason} in {reasons:?}");
    }
    assert!(work.space.get("apps/v1/statefulsets/job-r1").is_none(), "the old one is pruned");
}

fn parallelism(lab: &Lab) {
    let work = Work::new(lab, "scale");
    let load = work.load(300);
    work.start("one", &json!({}));
    work.wait_rows(300);
    lab.cluster.ok(&["-n", &work.space.name, "scale", "sdep/job", "--replicas=3"]);
    work.space.wait(NAME, "scaled", DEADLINE, |d| d["status"]["parallelism"] == 3 && condition(d, "Ready").0 == "True");
    let rows = work.rows().len();
    work.wait_rows(rows + 300);
    work.assert_exact(load.stop());
}

/// A ConfigMap that holds the SQL is part of the spec.
fn config_map(lab: &Lab) {
    let work = Work::new(lab, "config-map");
    let map =
        |tag: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "queries"}, "data": {"job.sql": work.sql(tag)}});
    let mut object = work.deployment("", &json!({"sql": {"configMapKeyRef": {"name": "queries", "key": "job.sql"}}}));
    object["spec"]["sql"].as_object_mut().unwrap().remove("inline");
    work.space.must_apply(&object);
    let waiting = work.space.wait(NAME, "no ConfigMap", DEADLINE, |d| condition(d, "Accepted").0 == "False");
    assert_eq!(condition(&waiting, "Accepted").1, "ConfigMapNotFound");
    work.space.must_apply(&map("one"));
    work.ready();
    work.fill(0, 200);
    work.wait_rows(200);
    work.space.must_apply(&map("two"));
    work.wait_stable("upgraded", 2);
    work.fill(200, 400);
    let rows = work.assert_exact(400);
    assert!(rows.iter().all(|r| r.tag == if r.v < 200 { "one" } else { "two" }));
}

/// The value is in the pod only; a changed one is taken at the next start.
fn secret(lab: &Lab) {
    let work = Work::new(lab, "secret");
    let other = work.topic("elsewhere");
    sluice_tests::topics::create(&lab.kafka, &[(other.clone(), 1)]);
    let secret = |topic: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "where"}, "stringData": {"out": topic}});
    let sql = work.sql("any").replace(&format!("'{}'", work.topic("out")), "'{{secret:where/out}}'");
    work.space.must_apply(&secret(&work.topic("out")));
    work.space.must_apply(&work.deployment(&sql, &json!({})));
    work.ready();
    work.fill(0, 100);
    work.assert_exact(100);
    work.space.must_apply(&secret(&other));
    work.patch(&json!({"restartNonce": 1}));
    work.space.wait(NAME, "restarted", DEADLINE, |d| d["status"]["revision"]["stable"] == 2);
    work.fill(100, 300);
    work.assert_sums(300);
    assert_eq!(work.rows_of(&other).len(), 200, "the new value");
    assert_eq!(work.rows().len(), 100, "the old one no more");
    let shown = format!("{}{:?}{:?}", work.space.deployment(NAME), work.space.list("core/v1/configmaps"), work.space.events());
    assert!(!shown.contains(&other) && !shown.contains(&work.topic("out")), "the value is shown: {shown}");
}
