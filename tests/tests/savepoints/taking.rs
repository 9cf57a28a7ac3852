//! Savepoints of a job while it runs: with and without stopping it, and after its time has ended.

use std::path::Path;
use std::time::{Duration, Instant};

use sluice_tests::engine::Run;
use sluice_tests::services::free_port;

use crate::{Lab, sluice, succeed, text};

const SOON: Duration = Duration::from_secs(30);

/// Counts of a day: no window fires while the job runs.
fn script(lab: &Lab, out: &str, more: &str) -> String {
    format!(
        "{more}
         CREATE TABLE numbers (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen',
           'rows-per-second' = '1000', 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '10000000');
         CREATE TABLE days (d BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO days SELECT MOD(id, 7), COUNT(*) FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '3000' DAYS))
         GROUP BY MOD(id, 7), window_start, window_end;",
        lab.path(out).display()
    )
}

fn start(lab: &Lab, out: &str, parallelism: &str, more: &str) -> (Run, String) {
    let url = format!("http://127.0.0.1:{}", free_port());
    let run = Run::script(&script(lab, out, more), &["--http", &url[7..], "--parallelism", parallelism]);
    let started = Instant::now();
    while ureq::get(format!("{url}/readyz")).call().is_err() {
        assert!(started.elapsed() < SOON, "{}", run.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Some rows are counted.
    std::thread::sleep(Duration::from_millis(300));
    (run, url)
}

fn take(url: &str, directory: &Path, more: &[&str]) -> std::process::Output {
    sluice(&[&["savepoint", "take", "--url", url, text(directory)], more].concat())
}

/// What the windows of a savepoint have counted.
fn counted(directory: &Path) -> u64 {
    let show = succeed(&sluice(&["savepoint", "show", text(directory), "--operator", "WindowAggregate", "--limit", "1000"]));
    let mut lines = show.lines().skip_while(|l| !l.contains("COUNT(*)"));
    let Some(head) = lines.next() else { return 0 };
    let at = head.find("COUNT(*)").unwrap();
    lines.filter_map(|l| l.get(at..)?.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

/// What the job has written.
fn written(lab: &Lab, out: &str) -> u64 {
    let files = std::fs::read_dir(lab.path(out)).into_iter().flatten();
    let text: String = files.map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap()).collect();
    text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["n"].as_u64().unwrap()).sum()
}

fn with_and_without_stop(parallelism: &str) {
    let lab = Lab::new();
    let (mut run, url) = start(&lab, "out", parallelism, "");
    let [first, second, drained] = ["first", "second", "drained"].map(|n| lab.path(n));
    assert_eq!(succeed(&take(&url, &first, &[])).trim(), text(&first));
    let again = take(&url, &first, &["--stop"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "{again:?}");
    assert!(!run.ended(), "neither a savepoint nor one that cannot be written ends the job");
    let refused = ureq::post(format!("{url}/savepoints")).send_json(serde_json::json!({"directory": "/tmp/x", "drain": true}));
    assert!(matches!(refused, Err(ureq::Error::StatusCode(400))), "{refused:?}");
    std::thread::sleep(Duration::from_millis(200));
    succeed(&take(&url, &second, &["--stop"]));
    succeed(&run.wait(SOON));
    let (early, late) = (counted(&first), counted(&second));
    assert!(0 < early && early < late, "{early} {late}");
    assert_eq!(written(&lab, "out"), 0, "time has not ended");

    let (run, url) = start(&lab, "rest", parallelism, "");
    succeed(&take(&url, &drained, &["--stop", "--drain"]));
    succeed(&run.wait(SOON));
    assert!(written(&lab, "rest") > 0, "all windows have fired");
    assert_eq!(counted(&drained), 0, "and their state is gone");
}

#[test]
fn one_task() {
    with_and_without_stop("1");
}

#[test]
fn several_tasks() {
    with_and_without_stop("3");
}

#[test]
fn again_and_again() {
    let lab = Lab::new();
    let settings = format!(
        "SET 'kubernetes.operator.periodic.savepoint.interval' = '200 ms'; SET 'execution.checkpointing.savepoint-dir' = '{}';",
        lab.path("periodic").display()
    );
    let (run, _) = start(&lab, "out", "1", &settings);
    let started = Instant::now();
    let found = || std::fs::read_dir(lab.path("periodic")).map_or(0, Iterator::count);
    while found() < 3 {
        assert!(started.elapsed() < SOON, "{}", run.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
    succeed(&run.stop(SOON));
    let list = succeed(&sluice(&["savepoint", "list", text(&lab.path("periodic"))]));
    assert!(list.lines().count() >= 3, "{list}");
}
