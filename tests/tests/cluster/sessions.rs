//! Two StreamingDeployments on one SessionCluster of one pod or two: each lives as one with pods of its own does, and neither minds the other.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use sluice_tests::cluster::{condition, holds};
use sluice_tests::s3::S3;
use sluice_tests::services::wait_until;
use sluice_tests::topics;

use crate::job::{DEADLINE, NAME, Row, Work};
use crate::savepoints::take_with;
use crate::{Lab, Test, storage};

pub const TESTS: &[Test] = &[("sessions::two_deployments", two_deployments), ("sessions::two_workers_on_s3", two_workers)];

const CLUSTER: &str = "shared";
const OTHER: &str = "other";

struct Shared<'a> {
    work: Work<'a>,
}

impl Shared<'_> {
    fn cluster(&self) -> Value {
        self.work.space.get(&format!("sluice.dev/v1alpha1/sessionclusters/{CLUSTER}")).unwrap_or_default()
    }

    fn apply_cluster(&self, more: &Value) {
        let mut spec = json!({
            "workers": {"slots": 3, "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}},
            "storage": {"uri": "file:///state", "volumeClaim": {"size": "1Gi"}},
        });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let object = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "SessionCluster", "metadata": {"name": CLUSTER}, "spec": spec});
        self.work.space.must_apply(&object);
    }

    fn wait_cluster(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let cluster = self.cluster();
            if holds(&cluster) {
                return cluster;
            }
            assert!(started.elapsed() < DEADLINE, "{what}: {}\n{}", cluster["status"], self.work.space.report(NAME));
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    fn topic(&self, name: &str, which: &str) -> String {
        self.work.topic(&if name == NAME { which.to_owned() } else { format!("{which}-{name}") })
    }

    fn apply(&self, name: &str, tag: &str, more: &Value) {
        let mut sql = self.work.sql(tag);
        for which in ["out", "sums"] {
            sql = sql.replace(&format!("'{}'", self.work.topic(which)), &format!("'{}'", self.topic(name, which)));
        }
        let prefix = |suffix: &str| format!("'sink.transactional-id-prefix' = '{}{suffix}'", self.work.space.name);
        sql = sql.replace(&prefix(""), &prefix(&format!("-{name}")));
        let mut object = self.work.deployment(&sql, &json!({}));
        object["metadata"]["name"] = json!(name);
        let spec = object["spec"].as_object_mut().unwrap();
        spec.remove("storage");
        spec.remove("workers");
        spec.insert("sessionClusterRef".into(), json!({"name": CLUSTER}));
        spec.extend(more.as_object().unwrap().clone());
        self.work.space.must_apply(&object);
    }

    fn ready(&self, name: &str) -> Value {
        self.work.space.wait(name, "ready", DEADLINE, |d| holds(d, "Ready") && holds(d, "Running"))
    }

    fn rows(&self, name: &str) -> Vec<Row> {
        self.work.rows_of(&self.topic(name, "out"))
    }

    /// Both have written more.
    fn both_write(&self, what: &str) {
        for name in [NAME, OTHER] {
            let before = self.rows(name).len();
            let started = Instant::now();
            while self.rows(name).len() < before + 200 {
                assert!(started.elapsed() < DEADLINE, "{what}: {name} writes no more\n{}", self.work.space.report(name));
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
        }
    }

    /// Each of the rows `0..count` was written once by each.
    fn assert_exact(&self, count: i64) {
        self.work.assert_exact(count);
        let started = Instant::now();
        while (self.rows(OTHER).len() as i64) < count {
            assert!(started.elapsed() < DEADLINE, "{OTHER}: rows are missing\n{}", self.work.space.report(OTHER));
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        let mut seen: BTreeMap<i64, usize> = BTreeMap::new();
        self.rows(OTHER).iter().for_each(|row| *seen.entry(row.v).or_default() += 1);
        let wrong: Vec<_> = seen.iter().filter(|(_, n)| **n != 1).take(5).collect();
        assert!(wrong.is_empty() && seen.len() as i64 == count, "{OTHER}: {} of {count}, doubled {wrong:?}", seen.len());
    }

    /// The pods that are not going away.
    fn pods(&self) -> Vec<Value> {
        let pods = self.work.space.list(&format!("core/v1/pods?labelSelector=sluice.dev/session-cluster={CLUSTER}"));
        pods.into_iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null()).collect()
    }

    fn pod(&self) -> Value {
        self.pods().into_iter().next().unwrap_or_default()
    }

    /// Name and uid of the pod that runs a job.
    fn worker(&self, name: &str) -> (String, Value) {
        let worker = self.work.space.deployment(name)["status"]["worker"].as_str().unwrap_or_default().to_owned();
        let pod = self.pods().into_iter().find(|p| p["metadata"]["name"] == worker.as_str()).unwrap_or_default();
        (worker, pod["metadata"]["uid"].clone())
    }

    /// The process of a job, if the pod runs on this machine.
    fn process(&self, name: &str) -> Option<u32> {
        let of_it =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains(&format!("/{name}.yaml"));
        self.work.lab.cluster.processes(&self.pod()).into_iter().find(of_it)
    }
}

impl<'a> Shared<'a> {
    fn new(lab: &'a Lab, name: &str) -> Self {
        let shared = Self { work: Work::new(lab, name) };
        topics::create(&lab.kafka, &[(shared.topic(OTHER, "out"), 1), (shared.topic(OTHER, "sums"), 1)]);
        shared
    }
}

fn two_deployments(lab: &Lab) {
    let shared = Shared::new(lab, "session");
    let space = &shared.work.space;
    // Deployments may come before their cluster.
    shared.apply(NAME, "old", &json!({"parallelism": 2}));
    let waiting = space.wait(NAME, "no cluster", DEADLINE, |d| condition(d, "Accepted").0 == "False");
    assert_eq!(condition(&waiting, "Accepted").1, "ClusterNotFound");
    shared.apply_cluster(&json!({}));
    shared.apply(OTHER, "other", &json!({}));
    let load = shared.work.load(300);
    let object = shared.ready(NAME);
    shared.ready(OTHER);
    assert_eq!(object["status"]["worker"], "shared-session-0", "{object}");
    let cluster = shared.wait_cluster("ready", |c| holds(c, "Ready") && c["status"]["jobs"]["managed"] == 2);
    assert_eq!(cluster["status"]["slots"], json!({"total": 3, "free": 0}), "{cluster}");
    assert!(space.get("core/v1/services/shared-rest").is_some());
    shared.both_write("after their start");
    upgrade(&shared);
    plugin(&shared);
    kills(&shared);
    restart(&shared);
    deletion(&shared, load.stop());
}

/// Other SQL by a savepoint; the other job is left alone.
fn upgrade(shared: &Shared) {
    let space = &shared.work.space;
    let other = shared.process(OTHER);
    let started = Instant::now();
    shared.apply(NAME, "new", &json!({"parallelism": 2}));
    let object = shared.work.wait_stable("upgraded", 2);
    eprintln!("  upgrade in a session: {:.1?}", started.elapsed());
    assert_eq!(object["status"]["startedFrom"]["path"], object["status"]["lastSavepoint"]["path"], "{object}");
    shared.work.wait_for_rows("rows of the new SQL", |rows| rows.iter().filter(|r| r.tag == "new").count() > 300);
    assert_eq!(shared.process(OTHER), other, "the other job was left alone");
    assert_eq!(space.deployment(OTHER)["status"]["revision"]["current"], 1);
    // What does not plan, or does not fit, changes nothing.
    shared.apply(NAME, "new", &json!({"parallelism": 2, "sql": {"inline": "INSERT INTO nowhere SELECT 1;"}}));
    space.wait(NAME, "refused", DEADLINE, |d| condition(d, "Accepted").1 == "InvalidSql");
    shared.apply(NAME, "new", &json!({"parallelism": 4}));
    let short = space.wait(NAME, "too large", DEADLINE, |d| condition(d, "Accepted").2.starts_with("spec.parallelism"));
    assert!(condition(&short, "Accepted").2.contains("has 3 slots"), "{short}");
    shared.apply(NAME, "new", &json!({"parallelism": 2}));
    shared.ready(NAME);
}

/// `kubectl sluice` of one job of several: its figures and lines, and no other's.
fn plugin(shared: &Shared) {
    let (lab, ns) = (shared.work.lab, shared.work.space.name.as_str());
    let sluice = |args: &[&str]| {
        let output = lab.cluster.kubectl(&[&["sluice", "-n", ns], args].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    let screen = sluice(&["status", NAME]);
    for words in ["Job in the pod shared-session-0 of the SessionCluster shared", "state        RUNNING", "in 3 splits", "last commit"] {
        assert!(screen.contains(words), "'{words}' in\n{screen}");
    }
    let path = sluice(&["savepoint", NAME, "--wait", "--as", "by-hand"]);
    assert_eq!(shared.work.space.savepoint("by-hand")["status"]["path"], path.trim());
    for (name, other) in [(NAME, OTHER), (OTHER, NAME)] {
        let raw = sluice(&["logs", name, "--raw"]);
        let of_other = [format!("\"job\":\"{other}\""), format!("\"job {other}: ")];
        assert!(raw.contains(&format!("\"job\":\"{name}\"")) && !of_other.iter().any(|o| raw.contains(o)), "{name}: {raw}");
        assert!(raw.lines().next().is_some_and(|l| l.contains(&format!("job {name}: submitted"))), "{name}: {raw}");
        assert_eq!(sluice(&["logs", name, "--tail", "2"]).lines().count(), 2);
    }
    let Some(process) = shared.process(NAME) else { return };
    let (said, _) = lab.cluster.kubectl_during(&["sluice", "-n", ns, "logs", NAME, "-f", "--tail", "1"], || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
        wait_until("another process", DEADLINE, || shared.process(NAME).is_some_and(|pid| pid != process));
        shared.both_write("after one was killed");
    });
    assert!(said.contains("its process ended with exit code 137") && said.matches(" INFO http on ").count() == 1, "{said}");
    assert!(!said.contains(&format!("job {OTHER}: ")), "{said}");
    let before = sluice(&["logs", NAME, "--previous"]);
    assert!(before.contains(" INFO http on ") && before.lines().last().is_some_and(|l| l.contains("ended with exit code 137")), "{before}");
}

/// One job's process, then the pod with both.
fn kills(shared: &Shared) {
    if let (Some(job), Some(other)) = (shared.process(NAME), shared.process(OTHER)) {
        assert!(Command::new("kill").args(["-9", &job.to_string()]).status().unwrap().success());
        wait_until("another process", DEADLINE, || shared.process(NAME).is_some_and(|pid| pid != job));
        shared.both_write("after one was killed");
        assert_eq!(shared.process(OTHER), Some(other), "the other job was left alone");
        shared.work.space.wait(NAME, "told", DEADLINE, |d| d["status"]["restarts"].as_i64() >= Some(1) && holds(d, "Running"));
    }
    let pod = shared.pod();
    let name = pod["metadata"]["name"].as_str().unwrap();
    shared.work.lab.cluster.delete(&shared.work.space.path(&format!("core/v1/pods/{name}")), true);
    wait_until("another pod", DEADLINE, || shared.pod()["metadata"]["uid"] != pod["metadata"]["uid"]);
    shared.both_write("after the pod was killed");
}

/// A changed cluster suspends its jobs for the restart of its pod.
fn restart(shared: &Shared) {
    let pod = shared.pod()["metadata"]["uid"].clone();
    shared.apply_cluster(&json!({"workers": {"slots": 4, "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}}}));
    shared.wait_cluster("restarted", |c| holds(c, "Ready") && c["status"]["slots"]["total"] == 4 && c["status"]["jobs"]["managed"] == 2);
    assert_ne!(shared.pod()["metadata"]["uid"], pod);
    for name in [NAME, OTHER] {
        let object = shared.ready(name);
        assert!(object["status"]["startedFrom"]["path"].as_str().unwrap_or_default().contains("-suspend-"), "{object}");
    }
    shared.both_write("after the restart");
}

fn deletion(shared: &Shared, count: i64) {
    shared.assert_exact(count);
    let space = &shared.work.space;
    let path = space.path(&format!("sluice.dev/v1alpha1/sessionclusters/{CLUSTER}"));
    shared.work.lab.cluster.delete(&path, false);
    let blocked = shared.wait_cluster("blocked", |c| condition(c, "Ready").1 == "InUse");
    assert!(condition(&blocked, "Ready").2.contains("job, other"), "{blocked}");
    assert!(holds(&shared.ready(NAME), "Running"));
    shared.work.lab.cluster.delete(&space.deployment_path(OTHER), false);
    space.wait(OTHER, "deleted", DEADLINE, Value::is_null);
    shared.wait_cluster("one job", |c| c["status"]["jobs"]["managed"] == 1);
    shared.work.lab.cluster.patch(&path, &json!({"spec": {"onDelete": "Cascade"}}));
    shared.wait_cluster("gone", Value::is_null);
    assert!(space.deployment(NAME).is_null());
    wait_until("the pod's end", DEADLINE, || shared.pod().is_null());
}

/// Each job fills one of two pods; what happens to one is nothing to the other, and either may go on in the other's place.
fn two_workers(lab: &Lab) {
    let shared = Shared::new(lab, "session-s3");
    let (space, s3) = (&shared.work.space, S3::started_on(&lab.cluster.host));
    space.must_apply(&storage::keys());
    let mut spec = storage::in_bucket(&s3);
    spec["workers"] = json!({"replicas": 2, "slots": 2, "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}}});
    shared.apply_cluster(&spec);
    shared.apply(NAME, "old", &json!({"parallelism": 2}));
    shared.apply(OTHER, "other", &json!({"parallelism": 2}));
    let load = shared.work.load(300);
    for name in [NAME, OTHER] {
        shared.ready(name);
    }
    let (of_job, of_other) = (shared.worker(NAME), shared.worker(OTHER));
    assert_ne!(of_job.0, of_other.0, "each has room for one");
    let cluster = shared.wait_cluster("ready", |c| holds(c, "Ready") && c["status"]["jobs"]["managed"] == 2);
    assert_eq!((&cluster["status"]["slots"], &cluster["status"]["workers"]["ready"]), (&json!({"total": 4, "free": 0}), &json!(2)));
    shared.both_write("after their start");

    let path = take_with(&shared.work, "by-hand", &json!({"deletionPolicy": "Delete"}));
    assert_eq!(path, storage::path_of(&shared.work, NAME, "by-hand"));
    shared.apply(NAME, "new", &json!({"parallelism": 2}));
    let object = shared.work.wait_stable("upgraded", 2);
    let upgrade = object["status"]["lastSavepoint"]["name"].as_str().unwrap();
    assert_eq!(object["status"]["startedFrom"]["path"], storage::path_of(&shared.work, NAME, upgrade), "{object}");
    shared.work.wait_for_rows("rows of the new SQL", |rows| rows.iter().filter(|r| r.tag == "new").count() > 300);
    assert_eq!((shared.worker(NAME), shared.worker(OTHER)), (of_job.clone(), of_other.clone()), "both stay where they were");
    assert_eq!(space.deployment(OTHER)["status"]["revision"]["current"], 1);

    // At once, and with time to say goodbye.
    for (worker, now) in [(&of_other, true), (&of_job, false)] {
        lab.cluster.delete(&space.path(&format!("core/v1/pods/{}", worker.0)), now);
        let another = |p: &Value| p["metadata"]["name"] == worker.0.as_str() && p["metadata"]["uid"] != worker.1;
        wait_until("another pod", DEADLINE, || shared.pods().iter().any(another));
        shared.both_write("after a worker was killed");
    }
    for name in [NAME, OTHER] {
        shared.ready(name);
    }
    assert_ne!(shared.worker(NAME).0, shared.worker(OTHER).0);

    lab.cluster.delete(&space.path("sluice.dev/v1alpha1/savepoints/by-hand"), false);
    space.wait(NAME, "no Savepoint by-hand", DEADLINE, |_| space.savepoint("by-hand").is_null());
    assert_eq!(storage::objects(&shared.work, &s3, NAME, "savepoints/by-hand"), Vec::<String>::new(), "its files went with it");
    for name in [NAME, OTHER] {
        assert!(!storage::objects(&shared.work, &s3, name, "checkpoints").is_empty(), "{name}: {:?}", s3.objects(""));
    }
    shared.assert_exact(load.stop());
}
