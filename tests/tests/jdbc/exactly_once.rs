//! Sinks within the transaction that holds the commit's record.

use std::time::{Duration, Instant};

use sluice_tests::engine::Run;
use sluice_tests::postgres::Postgres;
use sluice_tests::topics::{self, Record};
use tempfile::TempDir;

use crate::{DEADLINE, kafka, postgres};

const ROWS: i64 = 30_000;

/// A topic of two partitions: `k` in one of them, `v` counts.
fn filled(name: &str, rows: std::ops::Range<i64>) -> String {
    let topic = format!("jdbc-{name}-{:08x}", rand::random::<u32>());
    topics::create(&kafka(), &[(topic.clone(), 2)]);
    fill(&topic, rows);
    topic
}

fn fill(topic: &str, rows: std::ops::Range<i64>) {
    let record = |i: i64| {
        let k = i * 7 % 40;
        let value = Some(format!(r#"{{"k":{k},"v":{i}}}"#).into_bytes());
        Record { topic: topic.to_owned(), partition: (k % 2) as i32, value, ..Record::default() }
    };
    topics::produce(&kafka(), &rows.map(record).collect::<Vec<_>>());
}

/// A job with state: its result is right only if each row counts once. A trigger in the database counts changes.
fn counting(p: &Postgres, topic: &str, dir: &TempDir) -> String {
    let table = topic.replace('-', "_");
    p.execute(&format!("CREATE TABLE IF NOT EXISTS {table} (k int primary key, n bigint, total bigint)"));
    format!(
        "SET 'execution.checkpointing.interval' = '15 ms'; SET 'execution.checkpointing.dir' = '{}'; SET 'pipeline.name' = '{topic}';
         CREATE TABLE f (k INT, v BIGINT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}', 'topic' = '{topic}',
           'format' = 'json', 'scan.startup.mode' = 'earliest-offset');
         CREATE TABLE t (k INT, n BIGINT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ({}, 'sink.delivery-guarantee' = 'exactly-once');
         INSERT INTO t SELECT k, COUNT(*), SUM(v) FROM f GROUP BY k;",
        dir.path().display(),
        kafka(),
        p.table(&table),
    )
}

fn totals(p: &Postgres, topic: &str) -> Vec<String> {
    p.query(&format!("SELECT count(*), sum(n), sum(total) FROM {}", topic.replace('-', "_"))).remove(0)
}

fn wanted(rows: i64) -> Vec<String> {
    vec!["40".into(), rows.to_string(), (rows * (rows - 1) / 2).to_string()]
}

pub fn dies_at_every_step() {
    let p = &postgres();
    for tasks in ["1", "2"] {
        let (topic, dir) = (filled("steps", 0..ROWS), TempDir::new().unwrap());
        let sql = counting(p, &topic, &dir);
        for step in ["state-written:2", "sinks-flushed:2", "outputs-flushed:2", "offsets-sent:3", "committed:2", "cleaned:2"] {
            let died = Run::script_with(&sql, &["--bounded", "--parallelism", tasks], &[("SLUICE_FAIL_POINT", step)]).wait(DEADLINE);
            assert_ne!(died.status.code(), Some(1), "{step}: {}", String::from_utf8_lossy(&died.stderr));
        }
        let output = Run::script(&sql, &["--bounded", "--parallelism", tasks]).wait(DEADLINE);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(totals(p, &topic), wanted(ROWS), "{tasks} tasks");
        let epoch: i64 = p.query(&format!("SELECT epoch FROM sluice_commits WHERE pipeline = '{topic}'"))[0][0].parse().unwrap();
        assert!(epoch > 4, "only {epoch} commits");
    }
}

pub fn killed_at_random() {
    let p = &postgres();
    let (topic, dir) = (filled("random", 0..1000), TempDir::new().unwrap());
    let sql = counting(p, &topic, &dir);
    for life in 1..6 {
        let mut run = Run::script(&sql, &[]);
        let before = totals(p, &topic);
        fill(&topic, life * 1000..life * 1000 + 1000);
        let started = Instant::now();
        while totals(p, &topic) == before {
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{}", run.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(rand::random_range(0..60)));
        run.signal("KILL");
        run.wait(DEADLINE);
    }
    let output = Run::script(&sql, &["--bounded"]).wait(DEADLINE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(totals(p, &topic), wanted(6000));
}

/// A second instance takes over; the first one stops and commits nothing.
pub fn replaced_instances_write_nothing() {
    let p = &postgres();
    let (topic, dir) = (filled("replaced", 0..1000), TempDir::new().unwrap());
    let sql = counting(p, &topic, &dir);
    let wait = |run: &mut Run, rows: i64| {
        let started = Instant::now();
        while totals(p, &topic) != wanted(rows) {
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{:?}: {}", totals(p, &topic), run.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut first = Run::script(&sql, &[]);
    wait(&mut first, 1000);
    first.signal("STOP");
    let mut second = Run::script(&sql, &[]);
    let started = Instant::now();
    let generation = || p.query(&format!("SELECT generation FROM sluice_commits WHERE pipeline = '{topic}'"))[0][0].clone();
    while generation() != "2" {
        assert!(!second.ended() && started.elapsed() < DEADLINE, "{}", second.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
    first.signal("CONT");
    fill(&topic, 1000..2000);
    wait(&mut second, 2000);
    let output = first.wait(DEADLINE);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && log.contains("another instance of this job has started"), "{log}");
    fill(&topic, 2000..3000);
    wait(&mut second, 3000);
    assert!(second.stop(DEADLINE).status.success());
}

/// The server is stopped and killed under the job, which goes on from its last commit.
pub fn server_restarts() {
    let mut p = Postgres::started();
    let (topic, dir) = (filled("restarts", 0..1000), TempDir::new().unwrap());
    let sql = counting(&p, &topic, &dir);
    let mut run = Run::script(&sql, &[]);
    let wait = |p: &Postgres, run: &mut Run, rows: i64| {
        let started = Instant::now();
        while totals(p, &topic) != wanted(rows) {
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{:?}: {}", totals(p, &topic), run.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait(&p, &mut run, 1000);
    for (part, stop) in [(1, Postgres::stop as fn(&mut Postgres)), (2, Postgres::kill)] {
        stop(&mut p);
        fill(&topic, part * 1000..part * 1000 + 1000);
        std::thread::sleep(Duration::from_millis(300));
        p.start();
        wait(&p, &mut run, part * 1000 + 1000);
    }
    assert!(run.stop(DEADLINE).status.success());
}

/// Inserts are exactly-once as well, and a job without state needs no folder for it.
pub fn inserts_without_a_key() {
    let p = &postgres();
    let topic = filled("inserts", 0..ROWS);
    let table = topic.replace('-', "_");
    p.execute(&format!("CREATE TABLE {table} (v bigint)"));
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '10 ms'; SET 'pipeline.name' = '{topic}';
         CREATE TABLE f (v BIGINT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}', 'topic' = '{topic}',
           'format' = 'json', 'scan.startup.mode' = 'earliest-offset');
         CREATE TABLE t (v BIGINT) WITH ({}, 'sink.delivery-guarantee' = 'exactly-once'); INSERT INTO t SELECT v FROM f;",
        kafka(),
        p.table(&table),
    );
    for step in ["outputs-flushed:2", "committed:2", "offsets-sent"] {
        let died = Run::script_with(&sql, &["--bounded"], &[("SLUICE_FAIL_POINT", step)]).wait(DEADLINE);
        assert_ne!(died.status.code(), Some(1), "{step}: {}", String::from_utf8_lossy(&died.stderr));
    }
    let output = Run::script(&sql, &["--bounded"]).wait(DEADLINE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counted = p.query(&format!("SELECT count(*), count(DISTINCT v) FROM {table}"));
    assert_eq!(counted[0], [ROWS.to_string(), ROWS.to_string()]);
}
