//! Jobs whose state is larger than `state.backend.memory` give what those give that have memory for all of it: at once, over a savepoint,
//! with more tasks, and when they are killed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use sluice_tests::engine::Run;

const DEADLINE: Duration = Duration::from_secs(90);
const ROWS: usize = 16_000;
const KEYS: usize = 4_000;
/// A tenth of the state.
const LITTLE: &str = "1 mb";

/// Each key is there again when thousands of others have been between.
fn write_rows(folder: &Path, name: &str, rows: Range<usize>) {
    let mut text = String::new();
    for i in rows {
        writeln!(text, r#"{{"k":"customer-number-{}","i":{i},"v":{}}}"#, i * 7919 % KEYS, i % 97).unwrap();
    }
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
}

/// Sinks: columns and queries. Each row of each result is there once in an uninterrupted run.
const QUERIES: &[(&str, &str, &str)] = &[
    ("totals", "k STRING, n BIGINT, s BIGINT", "SELECT k, n, s FROM TO_CHANGELOG(input => TABLE totals) WHERE op <> 'UPDATE_BEFORE'"),
    ("pairs", "k STRING, a INT, b INT", "SELECT a.k, a.i, b.i FROM t AS a JOIN t AS b ON a.k = b.k WHERE a.i < b.i"),
    ("distinct_rows", "k STRING, v INT", "SELECT DISTINCT k, v FROM t"),
    ("first_rows", "k STRING, i INT", "SELECT k, i FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY p) AS r FROM t) WHERE r = 1"),
];

fn script(dir: &Path, memory: Option<&str>) -> String {
    let mut sql = String::new();
    if let Some(memory) = memory {
        let scratch = dir.join("scratch");
        writeln!(sql, "SET 'state.backend.memory' = '{memory}'; SET 'state.backend.local-dir' = '{}';", scratch.display()).unwrap();
    }
    let input = dir.join("in");
    writeln!(
        sql,
        "CREATE TABLE t (k STRING, i INT, v INT, p AS PROCTIME()) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         CREATE VIEW totals AS SELECT k, COUNT(*) AS n, SUM(CAST(v AS BIGINT)) AS s FROM t GROUP BY k;",
        input.display()
    )
    .unwrap();
    for (name, columns, _) in QUERIES {
        let path = dir.join("out").join(name);
        writeln!(
            sql,
            "CREATE TABLE o_{name} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');",
            path.display()
        )
        .unwrap();
    }
    sql.push_str("EXECUTE STATEMENT SET BEGIN\n");
    QUERIES.iter().for_each(|(name, _, query)| writeln!(sql, "INSERT INTO o_{name} {query};").unwrap());
    sql + "END;"
}

fn run(dir: &Path, memory: Option<&str>, args: &[&str]) {
    let output = Run::script(&script(dir, memory), &[&["--log", "info"], args].concat()).wait(DEADLINE);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {}: {log}", output.status);
    assert_eq!(log.contains("state does not fit into its memory"), memory.is_some(), "{log}");
    assert_eq!(stores(dir), 0, "the store is gone with the job");
}

/// Stores on disk.
fn stores(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("scratch/sluice-state")).map_or(0, |d| d.flatten().filter(|e| e.path().is_dir()).count())
}

/// What the sinks got, by query, sorted.
fn written(dir: &Path) -> BTreeMap<&'static str, Vec<String>> {
    let lines = |name: &str| {
        let files = std::fs::read_dir(dir.join("out").join(name)).unwrap().map(|f| f.unwrap().path());
        let mut lines: Vec<String> =
            files.flat_map(|f| std::fs::read_to_string(f).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        lines.sort();
        lines
    };
    QUERIES.iter().map(|(name, _, _)| (*name, lines(name))).collect()
}

fn assert_same(got: &BTreeMap<&str, Vec<String>>, want: &BTreeMap<&str, Vec<String>>) {
    for (name, want) in want {
        assert!(want == &got[name], "{name}: {} rows expected, {} given", want.len(), got[name].len());
    }
}

/// What is given with memory for all of it.
fn whole() -> BTreeMap<&'static str, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    write_rows(&dir.path().join("in"), "a", 0..ROWS);
    run(dir.path(), None, &[]);
    let want = written(dir.path());
    assert_eq!((want["totals"].len(), want["first_rows"].len()), (ROWS, KEYS));
    assert_eq!(want["pairs"].len(), KEYS * 6);
    want
}

#[test]
fn state_on_disk_is_state() {
    let want = whole();
    let dir = tempfile::tempdir().unwrap();
    write_rows(&dir.path().join("in"), "a", 0..ROWS);
    run(dir.path(), Some(LITTLE), &[]);
    assert_same(&written(dir.path()), &want);

    let parts = tempfile::tempdir().unwrap();
    let at = |name: &str| parts.path().join(name).to_string_lossy().into_owned();
    write_rows(&parts.path().join("in"), "a", 0..ROWS / 2);
    run(parts.path(), Some(LITTLE), &["--savepoint-at-end", &at("s1")]);
    write_rows(&parts.path().join("in"), "b", ROWS / 2..ROWS * 3 / 4);
    run(parts.path(), Some(LITTLE), &["--parallelism", "2", "--restore-from", &at("s1"), "--savepoint-at-end", &at("s2")]);
    write_rows(&parts.path().join("in"), "c", ROWS * 3 / 4..ROWS);
    run(parts.path(), None, &["--restore-from", &at("s2")]);
    assert_same(&written(parts.path()), &want);
}

#[test]
fn a_job_that_is_killed_goes_on() {
    let want: BTreeMap<_, BTreeSet<String>> = whole().into_iter().map(|(name, rows)| (name, rows.into_iter().collect())).collect();
    let dir = tempfile::tempdir().unwrap();
    (0..8).for_each(|n| write_rows(&dir.path().join("in"), &n.to_string(), n * ROWS / 8..(n + 1) * ROWS / 8));
    let checkpoints = dir.path().join("checkpoints");
    let set = |key: &str, value: &str| format!("SET '{key}' = '{value}';\n");
    let sql = set("execution.checkpointing.dir", &checkpoints.display().to_string())
        + &set("execution.checkpointing.interval", "30 ms")
        + &set("pipeline.name", "spill")
        + &script(dir.path(), Some(LITTLE));
    for point in ["committed:2", "state-written:3", "committed"] {
        let output = Run::script_with(&sql, &[], &[("SLUICE_FAIL_POINT", point)]).wait(DEADLINE);
        assert!(!output.status.success(), "{point}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(stores(dir.path()) <= 1, "what a killed process left is deleted by the next");
    }
    let output = Run::script(&sql, &[]).wait(DEADLINE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stores(dir.path()), 0);
    // What was read twice was written twice, but nothing else: all state is that of the commit.
    for (name, rows) in written(dir.path()) {
        let rows: BTreeSet<String> = rows.into_iter().collect();
        let (missing, wrong) = (want[name].difference(&rows).count(), rows.difference(&want[name]).count());
        assert!(missing + wrong == 0, "{name}: {missing} rows are missing, {wrong} are none");
    }
}

#[test]
fn what_cannot_be_is_said() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(&dir.path().join("in"), "a", 0..ROWS / 2);
    for (memory, says) in [("many", "'many' is not an amount of memory"), ("0", "'state.backend.memory' is 0")] {
        let output = Run::script(&script(dir.path(), Some(memory)), &[]).wait(DEADLINE);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && log.contains(says), "{log}");
    }
    std::fs::write(dir.path().join("scratch"), "a file").unwrap();
    let output = Run::script(&script(dir.path(), Some(LITTLE)), &[]).wait(DEADLINE);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && log.contains("the state store") && log.contains("scratch"), "{log}");
    assert!(log.contains("'state.backend.local-dir'"), "{log}");
}
