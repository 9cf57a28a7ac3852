//! Savepoints of released versions, one for each kind of state: this version goes on from all of them.
//!
//! `SLUICE_WRITE_FIXTURES=1 cargo test -p sluice-tests --test savepoints fixtures` writes those that are missing. Those that are there stay
//! as they are: a version that cannot read them breaks its users' upgrades.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Job, Lab, job, sluice, succeed, text};

/// The version that wrote them, and what each is of.
const VERSION: &str = "0.1";

const N: &[(&str, &str)] = &[("o", "user_id STRING, n BIGINT")];
const NN: &[(&str, &str)] = &[("o", "user_id STRING, a INT, b INT")];
const TEXTS: &[(&str, &str)] = &[("o", "a STRING, b STRING, c INT")];

const FIXTURES: &[(&str, Job)] = &[
    (
        "group-aggregate",
        job(
            &[("o", "user_id STRING, n BIGINT, d BIGINT, s INT, a INT, lo INT, hi INT, l STRING, f STRING, z STRING")],
            "INSERT INTO o SELECT user_id, COUNT(*), COUNT(DISTINCT kind), SUM(price), AVG(price), MIN(price), MAX(price), LISTAGG(kind),
             FIRST_VALUE(kind), LAST_VALUE(kind) FROM orders GROUP BY user_id;",
        ),
    ),
    (
        "aggregate-of-aggregate",
        job(
            &[("o", "n BIGINT, users BIGINT, lo INT, hi INT, s INT")],
            "INSERT INTO o SELECT n, COUNT(*), MIN(s), MAX(s), SUM(s)
             FROM (SELECT user_id, COUNT(*) AS n, SUM(price) AS s FROM orders GROUP BY user_id) GROUP BY n;",
        ),
    ),
    ("distinct", job(&[("o", "kind STRING, price INT")], "INSERT INTO o SELECT DISTINCT kind, price FROM orders;")),
    (
        "grouping-sets",
        job(
            &[("o", "user_id STRING, kind STRING, n BIGINT")],
            "INSERT INTO o SELECT user_id, kind, COUNT(*) FROM orders GROUP BY GROUPING SETS ((user_id), (kind), ());",
        ),
    ),
    (
        "tumble",
        job(
            N,
            "INSERT INTO o SELECT user_id, COUNT(*) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
             GROUP BY user_id, window_start, window_end;",
        ),
    ),
    (
        "hop",
        job(
            N,
            "INSERT INTO o SELECT user_id, COUNT(DISTINCT kind)
             FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
             GROUP BY user_id, window_start, window_end;",
        ),
    ),
    (
        "session",
        job(
            N,
            "INSERT INTO o SELECT user_id, COUNT(*)
             FROM TABLE(SESSION(TABLE orders PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '10' SECOND))
             GROUP BY user_id, window_start, window_end;",
        ),
    ),
    (
        "session-rows",
        job(
            &[("o", "user_id STRING, price INT, e TIMESTAMP(3)")],
            "INSERT INTO o SELECT user_id, price, window_end
             FROM TABLE(SESSION(TABLE orders PARTITION BY user_id, DESCRIPTOR(ts), INTERVAL '10' SECOND));",
        ),
    ),
    ("old-tumble", job(N, "INSERT INTO o SELECT user_id, COUNT(*) FROM orders GROUP BY user_id, TUMBLE(ts, INTERVAL '1' MINUTE);")),
    (
        "window-top-n",
        job(
            &[("o", "user_id STRING, price INT")],
            "INSERT INTO o SELECT user_id, price FROM (SELECT user_id, price,
             ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY price DESC) AS n
             FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) WHERE n <= 2;",
        ),
    ),
    ("join", job(TEXTS, "INSERT INTO o SELECT o.user_id, u.city, o.price FROM orders o JOIN users u ON o.user_id = u.id;")),
    (
        "left-join-of-aggregates",
        job(
            TEXTS,
            "INSERT INTO o SELECT u.id, u.name, s.total FROM users u
             LEFT JOIN (SELECT user_id, SUM(price) AS total FROM orders GROUP BY user_id) s ON s.user_id = u.id;",
        ),
    ),
    (
        "semi-join",
        job(
            &[("o", "user_id STRING, price INT")],
            "INSERT INTO o SELECT user_id, price FROM orders WHERE user_id IN (SELECT id FROM users);",
        ),
    ),
    (
        "interval-join",
        job(
            NN,
            "INSERT INTO o SELECT a.user_id, a.price, b.price FROM orders a, orders b
             WHERE a.user_id = b.user_id AND b.ts BETWEEN a.ts - INTERVAL '3' SECOND AND a.ts + INTERVAL '3' SECOND;",
        ),
    ),
    (
        "window-join",
        job(
            NN,
            "INSERT INTO o SELECT l.user_id, l.price, r.price
             FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) l
             JOIN (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) r
             ON l.user_id = r.user_id AND l.window_start = r.window_start AND l.window_end = r.window_end;",
        ),
    ),
    (
        "temporal-join",
        job(
            TEXTS,
            "CREATE VIEW last_price AS SELECT kind, user_id, price, ts FROM (SELECT *,
             ROW_NUMBER() OVER (PARTITION BY kind ORDER BY ts DESC) AS n FROM orders) WHERE n = 1;
             INSERT INTO o SELECT o.user_id, p.user_id, p.price
             FROM orders o LEFT JOIN last_price FOR SYSTEM_TIME AS OF o.ts AS p ON o.kind = p.kind;",
        ),
    ),
    (
        "top-n",
        job(
            &[("o", "user_id STRING, price INT, r BIGINT")],
            "INSERT INTO o SELECT user_id, price, n FROM (SELECT user_id, price,
             ROW_NUMBER() OVER (PARTITION BY kind ORDER BY price DESC) AS n FROM orders) WHERE n <= 2;",
        ),
    ),
    (
        "top-n-of-changes",
        job(
            N,
            "INSERT INTO o SELECT user_id, n FROM (SELECT user_id, n, ROW_NUMBER() OVER (ORDER BY n DESC, user_id) AS r
             FROM (SELECT user_id, COUNT(*) AS n FROM orders GROUP BY user_id)) WHERE r <= 1;",
        ),
    ),
    (
        "first-row",
        job(
            &[("o", "user_id STRING, price INT")],
            "INSERT INTO o SELECT user_id, price FROM (SELECT user_id, price,
             ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY ts) AS n FROM orders) WHERE n = 1;",
        ),
    ),
    (
        "last-row",
        job(
            &[("o", "user_id STRING, price INT")],
            "INSERT INTO o SELECT user_id, price FROM (SELECT user_id, price,
             ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY ts DESC) AS n FROM orders) WHERE n = 1;",
        ),
    ),
    (
        "over",
        job(
            NN,
            "INSERT INTO o SELECT user_id, SUM(price) OVER w, LAG(price) OVER w FROM orders
             WINDOW w AS (PARTITION BY user_id ORDER BY ts);",
        ),
    ),
    (
        "over-last-rows",
        job(
            NN,
            "INSERT INTO o SELECT user_id, SUM(price) OVER w, MAX(price) OVER w FROM orders
             WINDOW w AS (PARTITION BY user_id ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW);",
        ),
    ),
    (
        "match-recognize",
        job(
            NN,
            "INSERT INTO o SELECT * FROM orders MATCH_RECOGNIZE (PARTITION BY user_id ORDER BY ts MEASURES A.price AS a, LAST(B.price) AS b
             AFTER MATCH SKIP PAST LAST ROW PATTERN (A B{2}) DEFINE B AS price > A.price);",
        ),
    ),
    ("intersect", job(&[("o", "id STRING")], "INSERT INTO o SELECT user_id FROM orders INTERSECT SELECT id FROM users;")),
    ("changelog-normalize", job(&[("o", "kind STRING, price INT")], "INSERT INTO o SELECT kind, price FROM prices WHERE price > 1;")),
    (
        "upsert-materialize",
        job(
            &[("o", "kind STRING, total INT, PRIMARY KEY (kind) NOT ENFORCED")],
            "SET 'table.exec.sink.require-on-conflict' = 'false';
             INSERT INTO o SELECT LAST_VALUE(kind), SUM(price) FROM orders GROUP BY user_id;",
        ),
    ),
    (
        "lateral-snapshot-join",
        job(
            &[("o", "user_id STRING, price INT, p INT")],
            "SET 'table.local-time-zone' = 'UTC';
             INSERT INTO o SELECT o.user_id, o.price, s.price FROM orders AS o
             JOIN LATERAL TABLE(SNAPSHOT(input => TABLE prices, load_completed_condition => 'user_time',
             load_completed_time => CAST(TIMESTAMP '2024-01-01 00:00:30' AS TIMESTAMP_LTZ(3)))) AS s ON o.kind = s.kind;",
        ),
    ),
    (
        "rules",
        job(
            &[("o", "rule_id INT, k STRING, v DECIMAL(38, 6), price INT")],
            "INSERT INTO o SELECT rule_id, grouping_key, triggering_value, triggering_event.price
             FROM EVALUATE_RULES(data => TABLE orders, rules => TABLE rules, on_time => DESCRIPTOR(ts));",
        ),
    ),
    ("sort", job(&[("o", "user_id STRING, price INT")], "INSERT INTO o SELECT user_id, price FROM orders ORDER BY price;")),
    ("order-by-time", job(&[("o", "user_id STRING, price INT")], "INSERT INTO o SELECT user_id, price FROM orders ORDER BY ts;")),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/savepoints").join(VERSION).join(name)
}

/// Writes a fixture: the savepoint after the first half, and what had come out until then.
fn write(name: &str, job: Job) {
    let lab = Lab::new();
    succeed(&sluice(&["run", text(&lab.script(job)), "--savepoint-at-end", text(&folder(name))]));
    std::fs::write(folder(name).join("rows.txt"), lab.rows("o").join("\n")).unwrap();
}

/// What comes out of the first half and, after the fixture, of the second is what comes out of a run that nobody stopped.
fn go_on(name: &str, job: Job) {
    let lab = Lab::new();
    lab.more_input();
    succeed(&sluice(&["run", text(&lab.script(job)), "--restore-from", text(&folder(name))]));
    let before = std::fs::read_to_string(folder(name).join("rows.txt")).unwrap();
    let mut stopped: Vec<String> = before.lines().map(str::to_owned).chain(lab.rows("o")).collect();
    stopped.sort();
    succeed(&sluice(&["run", text(&lab.script(job))]));
    // A row of an outer join may come before or after its match: what is left of the changes counts.
    let (stopped, whole) = if name.contains("join") { (left(stopped), left(lab.rows("o"))) } else { (stopped, lab.rows("o")) };
    assert_eq!(stopped, whole, "{name}");
    assert!(!stopped.is_empty(), "{name}");
}

/// The rows that are there when all changes have been made.
fn left(changes: Vec<String>) -> Vec<String> {
    let mut rows: BTreeMap<String, i32> = BTreeMap::new();
    for change in changes {
        let (kind, row) = change.split_at(3);
        *rows.entry(row.to_owned()).or_default() += if kind.starts_with('+') { 1 } else { -1 };
    }
    rows.into_iter().filter(|(_, n)| *n != 0).map(|(row, n)| format!("{n} {row}")).collect()
}

/// All state is readable: every table has typed columns.
fn is_readable(name: &str) {
    let manifest = std::fs::read_to_string(folder(name).join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    for operator in manifest["operators"].as_array().unwrap() {
        for table in operator["tables"].as_array().unwrap() {
            assert!(!table["columns"].as_array().unwrap().is_empty(), "{name}: {} of {}", table["name"], operator["kind"]);
        }
    }
}

#[test]
fn savepoints_of_all_versions_go_on() {
    let mut failed = vec![];
    for (name, job) in FIXTURES {
        if std::env::var_os("SLUICE_WRITE_FIXTURES").is_some() && !folder(name).exists() {
            write(name, *job);
        }
        let test = || {
            go_on(name, *job);
            is_readable(name);
        };
        if std::panic::catch_unwind(test).is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
