//! Several tasks give what one gives; a job goes on by another number of tasks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluice_tests::engine::Run;

const DEADLINE: Duration = Duration::from_secs(60);
const KEYS: usize = 23;

/// Rows `from..to` as a file of `folder`: key, number, and a time that grows by 100 ms.
fn write_rows(folder: &Path, name: &str, rows: std::ops::Range<usize>) {
    let mut text = String::new();
    for i in rows {
        let (seconds, millis) = (i / 10, i % 10 * 100);
        let time = format!("2024-01-01 {:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        // A sum of digits: neither sorted nor random.
        let v = i.to_string().bytes().map(|b| usize::from(b - b'0')).sum::<usize>();
        writeln!(text, r#"{{"k":"user-{}","i":{i},"v":{v},"ts":"{time}"}}"#, (i * i + v) % KEYS).unwrap();
    }
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
}

fn source(dir: &Path) -> String {
    format!(
        "CREATE TABLE t (k STRING, i INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n",
        dir.join("in").display()
    )
}

/// One query for each operator whose state is kept by key, all append-only.
const QUERIES: &[(&str, &str, &str)] = &[
    (
        "tumble",
        "k STRING, s TIMESTAMP(3), n BIGINT, v INT",
        "SELECT k, window_start, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '7' SECOND)) GROUP BY k, window_start, window_end",
    ),
    (
        "hop",
        "k STRING, s TIMESTAMP(3), n BIGINT, v INT",
        "SELECT k, window_start, COUNT(*), MAX(v) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND)) GROUP BY k, window_start, window_end",
    ),
    (
        "session",
        "k STRING, s TIMESTAMP(3), n BIGINT",
        "SELECT k, window_start, COUNT(*) FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '3' SECOND)) GROUP BY k, window_start, window_end",
    ),
    (
        "all_rows",
        "s TIMESTAMP(3), n BIGINT, k BIGINT",
        "SELECT window_start, COUNT(*), COUNT(DISTINCT k) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '13' SECOND)) GROUP BY window_start, window_end",
    ),
    (
        "window_top",
        "k STRING, s TIMESTAMP(3), i INT",
        "SELECT k, window_start, i FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, k ORDER BY v DESC, i) AS r
         FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '30' SECOND))) WHERE r <= 2",
    ),
    ("distinct", "k STRING, v INT", "SELECT DISTINCT k, v FROM t"),
    ("running", "k STRING, i INT, total INT", "SELECT k, i, SUM(v) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '9' SECOND PRECEDING AND CURRENT ROW) FROM t"),
    (
        "near",
        "k STRING, a INT, b INT",
        "SELECT a.k, a.i, b.i FROM t AS a JOIN t AS b ON a.k = b.k AND a.v + 3 = b.v AND b.ts BETWEEN a.ts - INTERVAL '8' SECOND AND a.ts + INTERVAL '8' SECOND",
    ),
    (
        "windows",
        "k STRING, s TIMESTAMP(3), a INT, b INT",
        "SELECT a.k, a.window_start, a.i, b.i FROM (SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '11' SECOND)) WHERE v > 12) AS a
         JOIN (SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '11' SECOND)) WHERE v < 6) AS b
         ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end",
    ),
    (
        "pairs",
        "a STRING, b INT, c INT",
        "SELECT a.k, a.i, b.i FROM t AS a JOIN t AS b ON a.k = b.k AND a.v = b.v AND a.i < b.i",
    ),
    (
        "rising",
        "k STRING, a INT, b INT",
        "SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES FIRST(A.i) AS a, LAST(B.i) AS b ONE ROW PER MATCH
         AFTER MATCH SKIP PAST LAST ROW PATTERN (A B+ C) DEFINE B AS B.v > A.v, C AS C.v <= A.v) AS m",
    ),
    (
        "rules",
        "id INT, k STRING, v DECIMAL(38, 6), i INT",
        "SELECT rule_id, grouping_key, triggering_value, triggering_event.i
         FROM EVALUATE_RULES(data => TABLE t, rules => TABLE rules, on_time => DESCRIPTOR(ts)) WHERE NOT dry_run",
    ),
];

/// Rules as rows: sums, counts that begin anew, over two sets of keys, one of them named in two orders.
const RULES: [(u8, &str, &str, &str, &str, &str, u32, u8); 5] = [
    (1, "ACTIVE", r#"["k"]"#, "v", "SUM", "GREATER", 120, 1),
    (2, "ACTIVE", r#"["k","v"]"#, "COUNT_WITH_RESET_FLINK", "SUM", "GREATER_EQUAL", 3, 2),
    (3, "ACTIVE", r#"["v","k"]"#, "i", "AVG", "LESS", 500, 1),
    (4, "ACTIVE", "[]", "v", "MAX", "LESS", 9, 1),
    (5, "PAUSE", r#"["k"]"#, "COUNT_FLINK", "SUM", "GREATER", 0, 1),
];

fn write_rules(folder: &Path) {
    let mut text = String::new();
    for (id, state, keys, field, function, operator, limit, minutes) in RULES {
        writeln!(
            text,
            r#"{{"ruleId":{id},"ruleState":"{state}","groupingKeyNames":{keys},"aggregateFieldName":"{field}","aggregatorFunctionType":"{function}","limitOperatorType":"{operator}","limit":{limit},"windowMinutes":{minutes}}}"#
        )
        .unwrap();
    }
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("rules.json"), text).unwrap();
}

/// The jobs as one statement set, each into its own folder.
fn script(dir: &Path) -> String {
    let mut sql = source(dir);
    write_rules(&dir.join("rules"));
    writeln!(
        sql,
        "CREATE TABLE rules (ruleId INT, ruleState STRING, groupingKeyNames ARRAY<STRING>, aggregateFieldName STRING,
         aggregatorFunctionType STRING, limitOperatorType STRING, `limit` DECIMAL(20, 2), windowMinutes INT)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');",
        dir.join("rules").display()
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

fn run(sql: &str, args: &[&str]) -> String {
    let output = Run::script(sql, args).wait(DEADLINE);
    assert!(output.status.success(), "{args:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
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

#[test]
fn another_number_of_tasks_goes_on_from_a_savepoint() {
    let whole = tempfile::tempdir().unwrap();
    for (name, rows) in [("a", 0..1000), ("b", 1000..2100), ("c", 2100..3000)] {
        write_rows(&whole.path().join("in"), name, rows);
    }
    run(&script(whole.path()), &[]);
    let want = written(whole.path());
    assert!(want.values().all(|lines| lines.len() > 20), "{:?}", want.iter().map(|(n, l)| (n, l.len())).collect::<Vec<_>>());

    let parts = tempfile::tempdir().unwrap();
    let at = |name: &str| parts.path().join(name).to_string_lossy().into_owned();
    let sql = script(parts.path());
    write_rows(&parts.path().join("in"), "a", 0..1000);
    run(&sql, &["--parallelism", "1", "--savepoint-at-end", &at("s1")]);
    write_rows(&parts.path().join("in"), "b", 1000..2100);
    run(&sql, &["--parallelism", "3", "--restore-from", &at("s1"), "--savepoint-at-end", &at("s2")]);
    write_rows(&parts.path().join("in"), "c", 2100..3000);
    run(&sql, &["--parallelism", "2", "--restore-from", &at("s2")]);
    let got = written(parts.path());
    for (name, want) in &want {
        assert!(want == &got[name], "{name}: {} rows expected, {} given", want.len(), got[name].len());
    }
}

/// The table that a changelog makes.
fn table(changes: &str) -> BTreeMap<String, i64> {
    let mut rows = BTreeMap::new();
    for line in changes.lines().filter(|l| l.starts_with('{')) {
        let change: Value = serde_json::from_str(line).unwrap();
        let added = change["op"].as_str().unwrap().starts_with('+');
        *rows.entry(change["data"].to_string()).or_default() += if added { 1 } else { -1 };
    }
    rows.retain(|_, n| *n != 0);
    rows
}

/// Joins and aggregates one behind the other give many times more rows than they read, all ways through three exchanges at once.
#[test]
fn full_queues_lose_nothing_and_end() {
    let dir = tempfile::tempdir().unwrap();
    (0..4).for_each(|n| write_rows(&dir.path().join("in"), &n.to_string(), n * 200..(n + 1) * 200));
    let sql = source(dir.path())
        + "SELECT v, COUNT(*) AS n, SUM(s) AS s FROM (
             SELECT v, i, SUM(w) AS s FROM (SELECT a.v, b.i, a.v + b.v AS w FROM t AS a JOIN t AS b ON a.k = b.k) GROUP BY v, i
           ) GROUP BY v;";
    let want = table(&run(&sql, &["--output", "changelog-json"]));
    assert!(want.len() > 10);
    for tasks in ["2", "4", "7"] {
        // Commits every few milliseconds: barriers meet full queues.
        let args = ["--output", "changelog-json", "--parallelism", tasks, "--set", "execution.checkpointing.interval=5 ms"];
        assert_eq!(table(&run(&sql, &args)), want, "{tasks} tasks");
    }
}

#[test]
fn parallelism_is_set_in_three_ways() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(&dir.path().join("in"), "a", 0..100);
    let query = source(dir.path()) + "SELECT k, COUNT(*) AS n FROM t GROUP BY k;";
    let tasks = |sql: &str, args: &[&str]| {
        let output = Run::script(sql, &[&["--log", "info"], args].concat()).wait(DEADLINE);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), log.contains("GroupAggregate by (k)"), log)
    };
    assert!(!tasks(&query, &[]).1);
    assert!(tasks(&query, &["--parallelism", "2"]).1);
    let set = format!("SET 'parallelism.default' = '2';\n{query}");
    assert!(tasks(&set, &[]).1);
    assert!(!tasks(&set, &["--parallelism", "1"]).1, "the command line comes first");
    let (code, _, log) = tasks(&format!("SET 'parallelism.default' = 'many';\n{query}"), &[]);
    assert!(code == Some(2) && log.contains("'parallelism.default' must be a number from 1 to 64, not 'many'"), "{log}");
    let (code, _, log) = tasks(&query, &["--parallelism", "65"]);
    assert!(code == Some(2) && log.contains("65"), "{log}");
}

#[test]
fn the_first_error_of_a_task_ends_the_job() {
    let dir = tempfile::tempdir().unwrap();
    write_rows(&dir.path().join("in"), "a", 0..500);
    let sql = source(dir.path()) + "SELECT k, SUM(100 / (i - 400)) AS n FROM t GROUP BY k;";
    let output = Run::script(&sql, &["--parallelism", "3"]).wait(DEADLINE);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && message.to_lowercase().contains("zero"), "{}: {message}", output.status);
}
