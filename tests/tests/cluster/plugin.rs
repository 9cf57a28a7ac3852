//! `kubectl sluice`, as kubectl finds it.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::cluster::holds;
use sluice_tests::services::wait_until;

use crate::job::{DEADLINE, NAME, Work};
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[("plugin::kubectl_sluice", plugin)];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it prints, if its exit code is this.
#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

fn plugin(lab: &Lab) {
    let work = Work::new(lab, "plugin");
    let ns = work.space.name.clone();
    let sluice = |args: &[&str]| lab.cluster.kubectl(&[&["sluice", "-n", &ns], args].concat());
    work.start("one", &json!({}));
    let load = work.load(100);
    work.wait_rows(200);
    let pod = work.space.pod(NAME);

    let screen = ended(&sluice(&["status", NAME]), 0);
    for words in [
        &format!("StreamingDeployment {ns}/{NAME}: Running") as &str,
        "revision 1",
        "Ready              True",
        &format!("Job in the pod {NAME}-r1-0"),
        "state        RUNNING",
        "rows/s",
        "in 3 splits",
        "last commit",
        "Savepoints: none",
        "Deploying",
    ] {
        assert!(screen.contains(words), "'{words}' in\n{screen}");
    }
    let all: Value = serde_json::from_slice(&sluice(&["status", NAME, "-o", "json"]).stdout).unwrap();
    assert!(all["job"]["rowsIn"].as_u64() >= Some(200) && all["job"]["rowsPerSecond"]["in"].as_f64() > Some(20.0), "{}", all["job"]);
    let missing = ended(&sluice(&["status", "jobb"]), 2);
    assert!(
        missing.contains(&format!("there is no StreamingDeployment 'jobb' in the namespace '{ns}': did you mean '{NAME}'?")),
        "{missing}"
    );
    let elsewhere = ended(&lab.cluster.kubectl(&["sluice", "status", NAME, "-n", "default"]), 2);
    assert!(elsewhere.contains("add -n "), "{elsewhere}");

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let yaml = |sql: &str| serde_json::to_string(&work.deployment(sql, &json!({}))).unwrap();
    let same = file("same.yaml", &yaml(&work.sql("two")));
    assert!(ended(&sluice(&["check", NAME, &same]), 0).starts_with("compatible"));
    let other_key = file("key.yaml", &yaml(&work.sql_with("two", "CAST(k / 2 AS BIGINT)")));
    let told = ended(&sluice(&["check", NAME, &other_key]), 2);
    assert!(told.starts_with("incompatible") && told.contains("sums"), "{told}");
    let more = format!("{}CREATE TABLE n (c BIGINT) WITH ('connector' = 'blackhole');\n", work.sql("two"))
        .replace("END;\n", "INSERT INTO n SELECT COUNT(*) FROM a;\nEND;\n");
    let (tables, set) = more.split_once("EXECUTE").unwrap();
    let (set, n) = set.split_once("END;\n").unwrap();
    let more = file("more.sql", &format!("{tables}{n}EXECUTE{set}END;\n"));
    let told = ended(&sluice(&["check", NAME, &more, "-o", "json"]), 3);
    assert!(told.contains("\"verdict\": \"partial\""), "{told}");
    let broken = file("broken.sql", "SELECT 1 FROM nowhere;");
    assert!(ended(&sluice(&["check", NAME, &broken]), 2).contains("nowhere"));
    let plan = ended(&sluice(&["plan", NAME]), 0);
    assert!(plan.contains("GroupAggregate") && plan.contains(&lab.cluster.image), "{plan}");

    let taken = sluice(&["savepoint", NAME, "--wait", "--as", "by-hand"]);
    let path = ended(&taken, 0);
    assert_eq!(work.space.savepoint("by-hand")["status"]["path"], text(&taken.stdout).trim(), "{path}");
    let list = ended(&sluice(&["savepoint", "list", NAME]), 0);
    assert!(list.contains("by-hand") && list.contains("Completed  manual"), "{list}");
    assert!(ended(&sluice(&["savepoint", NAME, "--as", "by-hand"]), 1).contains("already exists"));

    let log = ended(&sluice(&["logs", NAME]), 0);
    assert!(log.contains(" INFO http on "), "{log}");
    let raw = ended(&sluice(&["logs", NAME, "--raw", "--tail", "1"]), 0);
    assert!(raw.lines().count() == 1 && serde_json::from_str::<Value>(&raw).is_ok(), "{raw}");
    assert_eq!(work.space.pod(NAME), pod, "the job was left alone");
    follow(&work, &ns);
    work.assert_exact(load.stop());
}

/// What is said before and behind a restart.
fn follow(work: &Work, ns: &str) {
    let cluster = &work.lab.cluster;
    let (pod, restarts) = work.space.pod(NAME);
    let running = || work.space.pods(NAME).into_iter().next().unwrap_or_default();
    let processes = cluster.processes(&running());
    if processes.is_empty() {
        return;
    }
    let (said, progress) = cluster.kubectl_during(&["sluice", "-n", ns, "logs", NAME, "-f", "--tail", "1"], || {
        std::thread::sleep(Duration::from_secs(2));
        let pids: Vec<String> = processes.iter().map(ToString::to_string).collect();
        assert!(Command::new("kill").arg("-9").args(pids).status().unwrap().success());
        wait_until("a restart", DEADLINE, || work.space.pod(NAME) == (pod.clone(), restarts + 1));
        work.space.wait(NAME, "running", DEADLINE, |d| holds(d, "Running") && d["status"]["restarts"] == restarts + 1);
        std::thread::sleep(Duration::from_secs(2));
    });
    assert!(progress.contains("--- "), "{progress}");
    // Of the first process one line was asked for, of the second all.
    let next: Vec<&str> = said.lines().skip(1).collect();
    assert!(next.first().is_some_and(|line| line.contains(" INFO http on ")), "{said}");
    let sluice = |args: &[&str]| cluster.kubectl(&[&["sluice", "-n", ns], args].concat());
    assert!(ended(&sluice(&["logs", NAME, "--previous"]), 0).contains(" INFO http on "));
}
