//! What the operator relies on: a job that tells how it is, stays up when it has stopped, is started by name, and takes secrets from files.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::engine::Run;
use sluice_tests::services::free_port;

use crate::{Lab, sluice, succeed, text};

const SOON: Duration = Duration::from_secs(30);

/// A count that goes on for ever; its sink's folder is a secret.
const SCRIPT: &str = "
    CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.id.kind' = 'sequence',
      'fields.id.start' = '1', 'fields.id.end' = '10000000');
    CREATE TABLE counts (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{{secret:files/out}}', 'format' = 'changelog-json');
    INSERT INTO counts SELECT COUNT(*) FROM numbers;";

struct Job {
    run: Run,
    url: String,
}

impl Job {
    fn start(lab: &Lab, more: &[&str]) -> Self {
        let job = Self::launch(lab, more);
        job.until("commits", |j| j["commits"].as_u64() > Some(2));
        job
    }

    fn launch(lab: &Lab, more: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let (checkpoints, secrets) = (format!("execution.checkpointing.dir={}", text(&lab.path("state"))), lab.path("secrets"));
        let always = [
            "--http",
            &address,
            "--linger",
            "--set",
            &checkpoints,
            "--set",
            "execution.checkpointing.interval=100 ms",
            "--set",
            "pipeline.name=counts",
            "--secrets",
            text(&secrets),
        ];
        Self { run: Run::script(SCRIPT, &[&always, more].concat()), url: format!("http://{address}") }
    }

    fn info(&self) -> Option<Value> {
        ureq::get(format!("{}/api/v1/job", self.url)).call().ok()?.body_mut().read_json().ok()
    }

    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            match self.info() {
                Some(info) if holds(&info) => return info,
                info => assert!(started.elapsed() < SOON, "no {what}: {info:?} {}", self.run.stderr()),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn savepoint(&self, wish: &Value) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.post(format!("{}/savepoints", self.url)).send_json(wish).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
    }
}

/// The first and the last count that files of the folder hold which were not there before.
fn counted(lab: &Lab, before: &mut Vec<std::path::PathBuf>) -> (u64, u64) {
    let mut numbers = vec![];
    for file in std::fs::read_dir(lab.path("out")).into_iter().flatten().map(|f| f.unwrap().path()) {
        if before.contains(&file) {
            continue;
        }
        let read = std::fs::read_to_string(&file).unwrap();
        numbers.extend(read.lines().filter_map(|l| serde_json::from_str::<Value>(l).unwrap()["data"]["n"].as_u64()));
        before.push(file);
    }
    (numbers.iter().copied().min().unwrap_or(0), numbers.iter().copied().max().unwrap_or(0))
}

#[test]
fn a_job_stops_stays_up_and_starts_by_name() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("secrets/files")).unwrap();
    std::fs::write(lab.path("secrets/files/out"), text(&lab.path("out"))).unwrap();
    let mut seen = vec![];

    let first = Job::start(&lab, &["--start", "1"]);
    let info = first.until("RUNNING", |j| j["state"] == "RUNNING" && j["rowsOut"].as_u64() > Some(0));
    assert_eq!((info["jobId"].as_str(), info.get("restoredFrom")), (Some("counts"), None), "{info}");
    let stop = json!({"directory": text(&lab.path("sp")), "stop": true, "drain": false});
    let complete = (200, json!({"directory": text(&lab.path("sp")), "state": "COMPLETED"}));
    assert_eq!(first.savepoint(&stop), complete);
    let info = first.until("STOPPED", |j| j["state"] == "STOPPED");
    assert_eq!(info["savepoint"], complete.1);
    // Whoever lost the answer asks again; another savepoint cannot be had any more.
    assert_eq!(first.savepoint(&stop), complete);
    assert_eq!(first.savepoint(&json!({"directory": text(&lab.path("other"))})).0, 409);
    drop(first);
    let (from, reached) = counted(&lab, &mut seen);
    assert!(from == 1 && reached > 1, "{from} {reached}");

    // The pod is started again before it is deleted: the job has ended, and says with what.
    for tasks in ["1", "3"] {
        let restarted = Job::launch(&lab, &["--start", "1", "--parallelism", tasks]);
        let info = restarted.until("STOPPED", |j| j["state"] == "STOPPED");
        assert_eq!(info["savepoint"], complete.1);
        assert_eq!(restarted.savepoint(&stop), complete);
        succeed(&restarted.run.stop(SOON));
        assert_eq!(counted(&lab, &mut seen), (0, 0), "{tasks} tasks");
    }

    // Under a new name from the savepoint, under the same from its own commits.
    let savepoint = lab.path("sp");
    let named = ["--start", "2", "--restore-from", text(&savepoint)];
    let second = Job::start(&lab, &named);
    let info = second.until("its start", |j| j["rowsOut"].as_u64() > Some(0));
    assert_eq!(info["restoredFrom"], text(&lab.path("sp")), "{info}");
    drop(second);
    // The savepoint may be gone by then: nobody needs it any more.
    std::fs::rename(&savepoint, lab.path("moved")).unwrap();
    let again = Job::start(&lab, &named);
    let info = again.until("its start", |j| j["rowsOut"].as_u64() > Some(0));
    assert!(info["restoredFrom"].as_str().unwrap().starts_with("commit "), "{info}");
    succeed(&again.run.stop(SOON));
    let (from, _) = counted(&lab, &mut seen);
    assert_eq!(from, reached, "what was counted is taken back first");

    // Whoever does need it hears of it.
    let lost = Job::launch(&lab, &["--start", "4", "--restore-from", text(&savepoint)]);
    let ended = lost.run.wait(SOON);
    assert!(!ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("manifest.json"), "{ended:?}");

    // Under another name, and without a savepoint, from nothing.
    let empty = Job::start(&lab, &["--start", "3"]);
    let info = empty.until("its start", |j| j["rowsOut"].as_u64() > Some(0));
    assert_eq!(info.get("restoredFrom"), None, "{info}");
    succeed(&empty.run.stop(SOON));
    assert_eq!(counted(&lab, &mut seen).0, 1);
}

/// Other SQL is checked against a job that runs: what it says of its state is what a savepoint of it says.
#[test]
fn sql_is_checked_against_a_job_that_runs() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("secrets/files")).unwrap();
    std::fs::write(lab.path("secrets/files/out"), text(&lab.path("out"))).unwrap();
    let job = Job::start(&lab, &[]);
    assert_eq!(job.savepoint(&json!({"directory": text(&lab.path("sp"))})).0, 200);
    let query = "SELECT COUNT(*) FROM numbers";
    for (name, new, code, words) in [
        ("same", SCRIPT.to_owned(), 0, "compatible"),
        ("keyed", SCRIPT.replace(query, "SELECT COUNT(*) FROM numbers GROUP BY id"), 2, "group keys changed"),
        ("more", SCRIPT.replace("INTO counts SELECT COUNT(*)", "INTO counts SELECT COUNT(*) + MAX(id)"), 3, "starts empty"),
        ("broken", SCRIPT.replace("FROM numbers", "FROM nothing"), 2, ""),
    ] {
        let file = lab.path(&format!("{name}.sql"));
        std::fs::write(&file, new).unwrap();
        let [live, taken] = [job.url.as_str(), text(&lab.path("sp"))].map(|of| sluice(&["check", of, text(&file)]));
        let said = String::from_utf8_lossy(&live.stdout).into_owned();
        assert!(live.status.code() == Some(code) && said.contains(words), "{name}: {live:?}");
        assert_eq!((live.status.code(), &live.stdout), (taken.status.code(), &taken.stdout), "{name}");
    }
    succeed(&job.run.stop(SOON));
    let file = lab.path("same.sql");
    let gone = sluice(&["check", &job.url, text(&file)]);
    assert!(gone.status.code() == Some(1) && String::from_utf8_lossy(&gone.stderr).contains("does not say what its state is"), "{gone:?}");
}

#[test]
fn a_secret_is_in_no_message() {
    let lab = Lab::new();
    std::fs::create_dir_all(lab.path("secrets/files")).unwrap();
    std::fs::write(lab.path("secrets/files/out"), "/dev/null/hush-hush").unwrap();
    let run = |secrets: &str| Run::script(SCRIPT, &["--secrets", secrets]).wait(SOON);
    let failed = run(text(&lab.path("secrets")));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && !said.contains("hush-hush") && said.contains("{{secret:files/out}}"), "{said}");
    let missing = run(text(&lab.path("nowhere")));
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(missing.status.code() == Some(2) && said.contains("files/out cannot be read") && said.contains("line 4"), "{said}");
}
