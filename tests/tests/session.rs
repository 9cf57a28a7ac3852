//! `sluice session` on real Kafka: jobs are submitted over REST, killed, stopped with savepoints, replaced and told from each other, and what
//! they have written is counted row by row.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::Arguments;
use serde_json::{Value, json};
use sluice_tests::engine::Run;
use sluice_tests::services::{Kafka, free_port, wait_until};
use sluice_tests::topics::{self, Record};
use sluice_tests::{tests, trials::trials};
use tempfile::TempDir;

static KAFKA: OnceLock<String> = OnceLock::new();
const SOON: Duration = Duration::from_secs(60);

fn main() {
    let args = Arguments::from_args();
    let kafka = (!args.list).then(Kafka::started);
    if let Some(kafka) = &kafka {
        KAFKA.set(kafka.bootstrap.clone()).expect("set once");
    }
    let conclusion = libtest_mimic::run(&args, trials(tests![jobs::one_is_killed, jobs::upgraded, jobs::the_server_goes, jobs::broken]));
    // Ends it: `exit` runs no destructors.
    drop(kafka);
    conclusion.exit();
}

/// A session server with a folder for its jobs' state.
struct Session {
    run: Option<Run>,
    url: String,
    dir: TempDir,
    /// Apart from those of other tests.
    id: String,
}

impl Session {
    fn start(slots: u32) -> Self {
        let mut session =
            Self { run: None, url: String::new(), dir: tempfile::tempdir().unwrap(), id: format!("{:08x}", rand::random::<u32>()) };
        session.launch(slots);
        for job in ["a", "b"] {
            topics::create(bootstrap(), &[(session.topic("in", job), 2), (session.topic("out", job), 1)]);
        }
        session
    }

    fn launch(&mut self, slots: u32) {
        let address = format!("127.0.0.1:{}", free_port());
        let secrets = self.dir.path().join("secrets");
        let slots = slots.to_string();
        let args = ["--log", "info", "session", "--http", &address, "--slots", &slots, "--secrets", secrets.to_str().unwrap()];
        self.run = Some(Run::start(&args));
        self.url = format!("http://{address}");
        wait_until("the session", SOON, || ureq::get(format!("{}/readyz", self.url)).call().is_ok());
    }

    fn run(&self) -> &Run {
        self.run.as_ref().unwrap()
    }

    fn topic(&self, which: &str, job: &str) -> String {
        format!("session-{which}-{job}-{}", self.id)
    }

    /// A job that passes rows on with a tag, exactly once.
    fn submission(&self, job: &str, tag: &str, tasks: u32) -> Value {
        let kafka = "'properties.bootstrap.servers' = '${KAFKA}', 'format' = 'json'";
        let sql = format!(
            "CREATE TABLE a (v BIGINT) WITH ('connector' = 'kafka', 'topic' = '{}', {kafka}, 'scan.startup.mode' = 'earliest-offset');
             CREATE TABLE o (v BIGINT, tag STRING, n BIGINT) WITH ('connector' = 'kafka', 'topic' = '{}', {kafka},
               'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{job}-{}');
             INSERT INTO o SELECT v, '{tag}', COUNT(*) OVER (PARTITION BY v % 3 ORDER BY PROCTIME()) FROM a;",
            self.topic("in", job),
            self.topic("out", job),
            self.id
        );
        let config = json!({"execution.checkpointing.interval": "100 ms"});
        let spec = json!({"sql": {"inline": sql}, "variables": {"KAFKA": bootstrap()}, "config": config});
        let checkpoints = self.dir.path().join("state").join(job);
        json!({
            "deployment": {"apiVersion": "sluice.dev/v1alpha1", "kind": "StreamingDeployment", "metadata": {"name": job}, "spec": spec},
            "tasks": tasks, "annotations": {"revision": tag},
            "settings": {"pipeline.name": format!("test.{job}-{}", self.id), "execution.checkpointing.dir": checkpoints},
        })
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("{}/api/v1/jobs{path}", self.url);
        let answer = match (method, body) {
            ("GET", _) => agent.get(url).call(),
            ("DELETE", _) => agent.delete(url).call(),
            ("PUT", Some(body)) => agent.put(url).send_json(body),
            (_, body) => agent.post(url).send_json(body.unwrap()),
        };
        let mut answer = answer.unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.run().stderr()));
        (answer.status().as_u16(), answer.body_mut().read_json().unwrap_or_default())
    }

    fn put(&self, job: &str, submission: &Value) -> (u16, Value) {
        self.call("PUT", &format!("/{job}"), Some(submission))
    }

    fn job(&self, job: &str) -> Value {
        self.call("GET", &format!("/{job}"), None).1
    }

    fn until(&self, job: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let seen = self.job(job);
            if holds(&seen) {
                return seen;
            }
            assert!(started.elapsed() < SOON, "{job}: not {what}: {seen}\n{}", self.run().stderr());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn running(&self, job: &str) -> Value {
        self.until(job, "running", |j| j["state"] == "RUNNING" && j["commits"].as_u64() > Some(0))
    }

    fn fill(&self, job: &str, from: i64, to: i64) {
        let record = |v: i64| Record {
            topic: self.topic("in", job),
            partition: (v % 2) as i32,
            timestamp: v,
            value: Some(json!({"v": v}).to_string().into_bytes()),
            ..Record::default()
        };
        topics::produce(bootstrap(), &(from..to).map(record).collect::<Vec<_>>());
    }

    /// Waits until the rows `0..count` are written, each once and each counted with the state of those before; the rows by tag.
    fn exactly(&self, job: &str, count: i64) -> BTreeMap<String, i64> {
        let topic = self.topic("out", job);
        let started = Instant::now();
        let mut rows: Vec<Value>;
        loop {
            rows = topics::committed(bootstrap(), &topic).into_iter().map(|r| serde_json::from_slice(&r.value.unwrap()).unwrap()).collect();
            if rows.len() as i64 >= count {
                break;
            }
            assert!(started.elapsed() < SOON, "{job}: {} of {count} rows: {}\n{}", rows.len(), self.job(job), self.run().stderr());
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut values: Vec<i64> = rows.iter().map(|r| r["v"].as_i64().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, (0..count).collect::<Vec<_>>(), "{job}: each row once");
        for key in 0..3 {
            let mut counts: Vec<i64> =
                rows.iter().filter(|r| r["v"].as_i64().unwrap() % 3 == key).map(|r| r["n"].as_i64().unwrap()).collect();
            counts.sort_unstable();
            assert_eq!(counts, (1..=counts.len() as i64).collect::<Vec<_>>(), "{job}: state of key {key}");
        }
        let mut tags = BTreeMap::new();
        rows.iter().for_each(|r| *tags.entry(r["tag"].as_str().unwrap().to_owned()).or_default() += 1);
        tags
    }
}

fn bootstrap() -> &'static str {
    KAFKA.get().expect("main has set it")
}

fn pid(job: &Value) -> u64 {
    job["process"]["pid"].as_u64().unwrap_or_else(|| panic!("no process: {job}"))
}

fn kill(pid: u64) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

fn lives(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

mod jobs {
    use super::*;

    pub fn one_is_killed() {
        let session = Session::start(3);
        let (a, b) = (session.submission("a", "one", 2), session.submission("b", "one", 1));
        assert_eq!(session.put("a", &a).0, 201);
        assert_eq!(session.put("a", &a).0, 200, "the same again changes nothing");
        assert_eq!(session.put("b", &b).0, 201);
        let (code, said) = session.put("a", &session.submission("a", "two", 2));
        assert!(code == 409 && said["error"] == "another job is called 'a': delete it first", "{said}");
        let (code, said) = session.put("c", &session.submission("b", "one", 1));
        assert!(code == 409 && said["error"] == "the job needs 1 slots, and 0 of 3 are free (a: 2, b: 1)", "{said}");
        let (code, said) = session.put("d", &json!({"tasks": 1}));
        assert!(code == 422 || code == 400, "{code} {said}");
        session.fill("a", 0, 500);
        session.fill("b", 0, 500);
        let (first, other) = (session.running("a"), session.running("b"));
        assert_eq!((first["annotations"]["revision"].as_str(), first["tasks"].as_u64()), (Some("one"), Some(2)), "{first}");
        session.exactly("a", 500);

        kill(pid(&first));
        let killed = session.until("a", "started again", |j| j["process"]["restarts"] == 1 && j["state"] == "RUNNING");
        assert_eq!(killed["process"]["ended"]["exitCode"], 137, "{killed}");
        session.fill("a", 500, 900);
        session.fill("b", 500, 900);
        session.exactly("a", 900);
        session.exactly("b", 900);
        assert_eq!(pid(&session.job("b")), pid(&other), "the other job was left alone");

        let list = session.call("GET", "", None).1;
        assert_eq!(list["slots"], json!({"total": 3, "free": 0}), "{list}");
        assert_eq!(list["jobs"].as_array().unwrap().len(), 2);
        let state = session.call("GET", "/a/state", None);
        assert!(state.0 == 200 && !state.1["sources"].as_array().unwrap().is_empty(), "{state:?}");
        let metrics = ureq::get(format!("{}/metrics", session.url)).call().unwrap().body_mut().read_to_string().unwrap();
        for line in [
            "sluice_rows_in_total{job_name=\"b\"} 900",
            "sluice_session_slots 3",
            "sluice_session_process_restarts_total{job_name=\"a\"} 1",
            "sluice_commits_total{job_name=\"a\"} ",
        ] {
            assert!(metrics.contains(line), "{line} in {metrics}");
        }
        assert!(session.run().stderr().contains("[b] "), "log lines tell the job");
        assert_eq!(session.call("DELETE", "/b", None).0, 200);
        assert!(!lives(pid(&other)));
        assert_eq!((session.call("GET", "/b", None).0, session.call("DELETE", "/b", None).0), (404, 404));
        assert_eq!(session.put("c", &session.submission("b", "one", 1)).0, 201, "its slot is free");
    }

    pub fn upgraded() {
        let session = Session::start(2);
        assert_eq!(session.put("a", &session.submission("a", "one", 1)).0, 201);
        session.fill("a", 0, 300);
        session.running("a");
        session.exactly("a", 300);
        let path = session.dir.path().join("savepoint");
        let wish = json!({"directory": path, "stop": true});
        let (code, said) = session.call("POST", "/a/savepoints", Some(&wish));
        assert!(code == 200 && said["state"] == "COMPLETED", "{said}");
        session.fill("a", 300, 400);
        let stopped = session.until("a", "stopped", |j| j["state"] == "STOPPED");
        assert_eq!(stopped["savepoint"]["directory"], json!(path), "{stopped}");
        assert_eq!(session.call("DELETE", "/a", None).0, 200);
        let mut next = session.submission("a", "two", 2);
        (next["start"], next["restoreFrom"]) = (json!("2"), json!(path));
        assert_eq!(session.put("a", &next).0, 201);
        session.running("a");
        session.fill("a", 400, 600);
        assert_eq!(session.exactly("a", 600), BTreeMap::from([("one".to_owned(), 300), ("two".to_owned(), 300)]));
    }

    /// Jobs do not outlive it, and go on exactly when they are submitted again.
    pub fn the_server_goes() {
        let mut session = Session::start(2);
        let jobs = [("a", session.submission("a", "one", 1)), ("b", session.submission("b", "one", 1))];
        for (round, signal) in ["KILL", "TERM", ""].into_iter().enumerate() {
            let from = round as i64 * 300;
            for (name, submission) in &jobs {
                assert_eq!(session.put(name, submission).0, 201);
                session.fill(name, from, from + 300);
            }
            let pids = jobs.each_ref().map(|(name, _)| pid(&session.running(name)));
            for (name, _) in &jobs {
                session.exactly(name, from + 300);
                session.fill(name, from + 300, from + 300);
            }
            if signal.is_empty() {
                return;
            }
            let run = session.run.take().unwrap();
            run.signal(signal);
            let output = run.wait(SOON);
            assert_eq!(output.status.code(), if signal == "TERM" { Some(0) } else { None }, "{}", String::from_utf8_lossy(&output.stderr));
            wait_until("the jobs' end", Duration::from_secs(10), || !pids.iter().any(|pid| lives(*pid)));
            session.launch(2);
            assert_eq!(session.call("GET", "", None).1["jobs"], json!([]));
        }
    }

    /// What ails a job is told with its exit code and its last words, and no other job minds.
    pub fn broken() {
        let session = Session::start(2);
        session.put("b", &session.submission("b", "one", 1));
        let mut broken = session.submission("a", "one", 1);
        broken["deployment"]["spec"]["sql"]["inline"] = json!("SELECT nothing FROM nowhere;");
        assert_eq!(session.put("a", &broken).0, 201);
        let told = session.until("a", "given up for a while", |j| j["process"]["waiting"].is_string());
        assert_eq!(told["process"]["ended"]["exitCode"], 2, "{told}");
        assert!(told["process"]["ended"]["message"].as_str().unwrap().contains("nowhere"), "{told}");
        assert!(told["state"] == "RESTARTING" && told["failure"].as_str().unwrap().starts_with("exit code 2: "), "{told}");
        assert_eq!(session.call("GET", "/a/state", None).0, 503);
        session.fill("b", 0, 100);
        session.running("b");
        session.exactly("b", 100);
        assert_eq!(session.call("DELETE", "/a", None).0, 200);
    }
}
