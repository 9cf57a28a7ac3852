//! Which changes of the SQL keep the state, what `sluice check` says of each, and that a job which was stopped and goes on with the new
//! SQL gives the right rows.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Job, Lab, job, sluice, succeed, text};

struct Case {
    name: &'static str,
    old: Job,
    new: Job,
    verdict: &'static str,
    /// In what `check` says.
    reason: &'static str,
    /// Of the new job, by sink: what it writes for the second half.
    rows: &'static [(&'static str, &'static str)],
}

const O: &[(&str, &str)] = &[("o", "user_id STRING, n BIGINT, s INT")];
const COUNTS: Job = job(O, "INSERT INTO o SELECT user_id, COUNT(*), SUM(price) FROM orders WHERE price > 5 GROUP BY user_id;");
const MATCHES: &[(&str, &str)] = &[("m", "user_id STRING, a INT, c INT")];
const MATCH: Job = job(
    MATCHES,
    "INSERT INTO m SELECT * FROM orders MATCH_RECOGNIZE (PARTITION BY user_id ORDER BY ts MEASURES A.price AS a, C.price AS c
     PATTERN (A B C) DEFINE A AS price < 8, B AS price > A.price, C AS price > B.price);",
);
const JOIN: Job = job(
    &[("j", "user_id STRING, price INT, name STRING")],
    "INSERT INTO j SELECT o.user_id, o.price, u.name FROM orders o JOIN users u ON o.user_id = u.id;",
);
const WINDOW: Job = job(
    &[("w", "user_id STRING, start_ts TIMESTAMP(3), n BIGINT")],
    "INSERT INTO w SELECT user_id, window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
     GROUP BY user_id, window_start, window_end;",
);
const OVER: Job = job(
    &[("v", "user_id STRING, price INT, s INT")],
    "INSERT INTO v SELECT user_id, price, SUM(price) OVER (PARTITION BY user_id ORDER BY ts) FROM orders;",
);
const BOUNDED_OVER: Job = job(
    &[("v", "user_id STRING, price INT, s INT")],
    "INSERT INTO v SELECT user_id, price,
     SUM(price) OVER (PARTITION BY user_id ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM orders;",
);

const CASES: &[Case] = &[
    Case {
        name: "the same",
        old: COUNTS,
        new: COUNTS,
        verdict: "compatible",
        reason: "GroupAggregate",
        rows: &[("o", "+U u2 2 27; -U u2 1 7")],
    },
    Case {
        name: "another filter",
        old: COUNTS,
        new: job(O, "INSERT INTO o SELECT user_id, COUNT(*), SUM(price) FROM orders WHERE price > 0 GROUP BY user_id;"),
        verdict: "compatible",
        reason: "",
        rows: &[("o", "+I u3 1 5; +U u1 2 11; +U u2 2 27; -U u1 1 10; -U u2 1 7")],
    },
    Case {
        name: "another projection",
        old: COUNTS,
        new: job(O, "INSERT INTO o SELECT UPPER(user_id), COUNT(*) + 100, SUM(price) FROM orders WHERE price > 5 GROUP BY user_id;"),
        verdict: "compatible",
        reason: "",
        rows: &[("o", "+U U2 102 27; -U U2 101 7")],
    },
    Case {
        name: "fewer aggregates",
        old: COUNTS,
        new: job(O, "INSERT INTO o SELECT user_id, CAST(0 AS BIGINT), SUM(price) FROM orders WHERE price > 5 GROUP BY user_id;"),
        verdict: "compatible",
        reason: "",
        rows: &[("o", "+U u2 0 27; -U u2 0 7")],
    },
    Case {
        name: "renamed columns and a view",
        old: COUNTS,
        new: job(
            O,
            "CREATE VIEW totals (who, much, many) AS
             SELECT user_id AS who, SUM(price) AS much, COUNT(*) AS many FROM orders WHERE price > 5 GROUP BY user_id;
             INSERT INTO o SELECT who, many, much FROM totals;",
        ),
        verdict: "compatible",
        reason: "",
        rows: &[("o", "+U u2 2 27; -U u2 1 7")],
    },
    Case {
        name: "another sink",
        old: COUNTS,
        new: job(
            &[("elsewhere", "user_id STRING, n BIGINT, s INT")],
            "INSERT INTO elsewhere SELECT user_id, COUNT(*), SUM(price) FROM orders WHERE price > 5 GROUP BY user_id;",
        ),
        verdict: "compatible",
        reason: "",
        rows: &[("elsewhere", "+U u2 2 27; -U u2 1 7")],
    },
    Case {
        name: "one more INSERT of another table",
        old: COUNTS,
        new: job(
            &[("a", "city STRING, n BIGINT"), ("o", "user_id STRING, n BIGINT, s INT")],
            "EXECUTE STATEMENT SET BEGIN
             INSERT INTO a SELECT city, COUNT(*) FROM users GROUP BY city;
             INSERT INTO o SELECT user_id, COUNT(*), SUM(price) FROM orders WHERE price > 5 GROUP BY user_id; END;",
        ),
        verdict: "compatible",
        reason: "no state yet",
        rows: &[("a", "+I Bern 1; +I Oslo 1; +I Rome 1"), ("o", "+U u2 2 27; -U u2 1 7")],
    },
    Case {
        name: "one more INSERT of the same table",
        old: COUNTS,
        new: job(
            &[("a", "kind STRING, n BIGINT"), ("o", "user_id STRING, n BIGINT, s INT")],
            "EXECUTE STATEMENT SET BEGIN
             INSERT INTO a SELECT kind, COUNT(*) FROM orders GROUP BY kind;
             INSERT INTO o SELECT user_id, COUNT(*), SUM(price) FROM orders WHERE price > 5 GROUP BY user_id; END;",
        ),
        verdict: "partial",
        reason: "new: it starts empty, and source orders goes on where the savepoint is",
        rows: &[("a", "+I a 1; +I b 1; +U b 2; -U b 1"), ("o", "+U u2 2 27; -U u2 1 7")],
    },
    Case {
        name: "one more INSERT that shares the aggregation",
        old: COUNTS,
        new: job(
            &[("a", "user_id STRING, n BIGINT, s INT"), ("o", "user_id STRING, n BIGINT, s INT")],
            "CREATE VIEW v AS SELECT user_id, COUNT(*) AS n, SUM(price) AS s FROM orders WHERE price > 5 GROUP BY user_id;
             EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT * FROM v; INSERT INTO o SELECT * FROM v; END;",
        ),
        verdict: "compatible",
        reason: "",
        rows: &[("a", "+U u2 2 27; -U u2 1 7"), ("o", "+U u2 2 27; -U u2 1 7")],
    },
    Case {
        name: "one INSERT less",
        old: job(
            &[("a", "kind STRING, n BIGINT"), ("o", "user_id STRING, n BIGINT, s INT")],
            "EXECUTE STATEMENT SET BEGIN
             INSERT INTO a SELECT kind, COUNT(*) FROM orders GROUP BY kind;
             INSERT INTO o SELECT user_id, COUNT(*), SUM(price) FROM orders WHERE price > 5 GROUP BY user_id; END;",
        ),
        new: COUNTS,
        verdict: "incompatible",
        reason: "nothing in the new SQL takes its state",
        rows: &[("o", "+U u2 2 27; -U u2 1 7")],
    },
    Case {
        name: "another aggregate",
        old: COUNTS,
        new: job(O, "INSERT INTO o SELECT user_id, COUNT(*), MAX(price) FROM orders WHERE price > 5 GROUP BY user_id;"),
        verdict: "partial",
        reason: "MAX(orders.price) is new and starts empty",
        rows: &[("o", "+U u2 2 20; -U u2 1 null")],
    },
    Case {
        name: "wider types, nullability",
        old: Job { orders: "user_id VARCHAR(2), price INT, kind STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts", ..COUNTS },
        new: Job {
            orders: "user_id VARCHAR(9) NOT NULL, price INT NOT NULL, kind STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts",
            ..COUNTS
        },
        verdict: "compatible",
        reason: "",
        rows: &[("o", "+U u2 2 27; -U u2 1 7")],
    },
    Case {
        name: "a narrower type",
        old: COUNTS,
        new: Job { orders: "user_id VARCHAR(9), price INT, kind STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts", ..COUNTS },
        verdict: "incompatible",
        reason: "the type of orders.user_id changed from STRING to VARCHAR(9)",
        rows: &[("o", "+I u2 1 20")],
    },
    Case {
        name: "keys of a wider integer",
        old: job(&[("k", "price INT, n BIGINT")], "INSERT INTO k SELECT price, COUNT(*) FROM orders GROUP BY price;"),
        new: Job {
            orders: "user_id STRING, price BIGINT, kind STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts",
            sinks: &[("k", "price BIGINT, n BIGINT")],
            sql: "INSERT INTO k SELECT price, COUNT(*) FROM orders GROUP BY price;",
        },
        verdict: "compatible",
        reason: "",
        rows: &[("k", "+I 1 1; +I 20 1; +U 5 2; -U 5 1")],
    },
    Case {
        name: "other group keys",
        old: COUNTS,
        new: job(O, "INSERT INTO o SELECT kind, COUNT(*), SUM(price) FROM orders WHERE price > 5 GROUP BY kind;"),
        verdict: "incompatible",
        reason: "group keys changed from (orders.user_id) to (orders.kind)",
        rows: &[("o", "+I b 1 20")],
    },
    Case {
        name: "DISTINCT",
        old: job(O, "INSERT INTO o SELECT user_id, COUNT(price), 1 FROM orders GROUP BY user_id;"),
        new: job(O, "INSERT INTO o SELECT user_id, COUNT(DISTINCT price), 1 FROM orders GROUP BY user_id;"),
        verdict: "incompatible",
        reason: "DISTINCT changed: COUNT(orders.price) became COUNT(DISTINCT orders.price)",
        rows: &[("o", "+I u1 1 1; +I u2 1 1; +I u3 1 1")],
    },
    Case { name: "a row pattern", old: MATCH, new: MATCH, verdict: "compatible", reason: "", rows: &[("m", "+I u2 5 20")] },
    Case {
        name: "another PATTERN",
        old: MATCH,
        new: job(
            MATCHES,
            "INSERT INTO m SELECT * FROM orders MATCH_RECOGNIZE (PARTITION BY user_id ORDER BY ts MEASURES A.price AS a, B.price AS c
             PATTERN (A B) DEFINE A AS price < 8, B AS price > A.price);",
        ),
        verdict: "compatible",
        reason: "",
        rows: &[("m", "+I u2 5 7; +I u2 7 20")],
    },
    Case {
        name: "another DEFINE, another condition column and measure",
        old: MATCH,
        new: job(
            &[("m", "user_id STRING, a INT, ak STRING, ck STRING")],
            "INSERT INTO m SELECT * FROM orders MATCH_RECOGNIZE (PARTITION BY user_id ORDER BY ts
             MEASURES A.price AS a, A.kind AS ak, C.kind AS ck
             PATTERN (A B C) DEFINE A AS price < 6, B AS price > A.price + 1, C AS kind = 'b');",
        ),
        verdict: "partial",
        reason: "orders.kind is NULL for rows from before the savepoint",
        rows: &[("m", "+I u2 5 null b")],
    },
    Case {
        name: "one more column of a join",
        old: JOIN,
        new: job(
            &[("j", "user_id STRING, price INT, name STRING, city STRING")],
            "INSERT INTO j SELECT o.user_id, o.price, u.name, u.city FROM orders o JOIN users u ON o.user_id = u.id;",
        ),
        verdict: "partial",
        reason: "users.city is NULL for rows from before the savepoint",
        rows: &[("j", "+I u1 1 Ann null; +I u2 20 Bob null; +I u3 5 Cid Bern")],
    },
    Case {
        name: "one column of a join less, and a filter",
        old: JOIN,
        new: job(
            &[("j", "user_id STRING, name STRING")],
            "INSERT INTO j SELECT o.user_id, u.name FROM orders o JOIN users u ON o.user_id = u.id WHERE u.name <> 'Cid';",
        ),
        verdict: "compatible",
        reason: "",
        rows: &[("j", "+I u1 Ann; +I u2 Bob")],
    },
    Case {
        name: "other join keys",
        old: JOIN,
        new: job(
            &[("j", "user_id STRING, price INT, name STRING")],
            "INSERT INTO j SELECT o.user_id, o.price, u.name FROM orders o JOIN users u ON o.kind = u.id;",
        ),
        verdict: "incompatible",
        reason: "left keys changed from (orders.user_id) to (orders.kind)",
        rows: &[("j", "")],
    },
    Case {
        name: "another join type",
        old: JOIN,
        new: job(
            &[("j", "user_id STRING, price INT, name STRING")],
            "INSERT INTO j SELECT o.user_id, o.price, u.name FROM orders o LEFT JOIN users u ON o.user_id = u.id;",
        ),
        verdict: "incompatible",
        reason: "join type changed from (INNER) to (LEFT)",
        rows: &[("j", "+I u1 1 null; +I u2 20 null; +I u3 5 Cid")],
    },
    Case {
        name: "one more aggregate of a window",
        old: WINDOW,
        new: job(
            &[("w", "user_id STRING, start_ts TIMESTAMP(3), n BIGINT, s INT")],
            "INSERT INTO w SELECT user_id, window_start, COUNT(*), SUM(price)
             FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY user_id, window_start, window_end;",
        ),
        verdict: "partial",
        reason: "SUM(orders.price) is new and starts empty",
        rows: &[(
            "w",
            "+I u1 2024-01-01 00:00:00 1 null; +I u1 2024-01-01 00:01:00 1 1; +I u2 2024-01-01 00:00:00 3 20; +I u3 2024-01-01 00:01:00 1 5",
        )],
    },
    Case {
        name: "another window",
        old: WINDOW,
        new: job(
            &[("w", "user_id STRING, start_ts TIMESTAMP(3), n BIGINT")],
            "INSERT INTO w SELECT user_id, window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' HOUR))
             GROUP BY user_id, window_start, window_end;",
        ),
        verdict: "incompatible",
        reason: "window changed from (TUMBLE(orders.ts, 1 min)) to (TUMBLE(orders.ts, 1 h))",
        rows: &[("w", "+I u1 2024-01-01 00:00:00 1; +I u2 2024-01-01 00:00:00 1; +I u3 2024-01-01 00:00:00 1")],
    },
    Case {
        name: "one more call of an OVER window",
        old: OVER,
        new: job(
            &[("v", "user_id STRING, price INT, s INT, n BIGINT")],
            "INSERT INTO v SELECT user_id, price, SUM(price) OVER w, COUNT(*) OVER w FROM orders
             WINDOW w AS (PARTITION BY user_id ORDER BY ts);",
        ),
        verdict: "partial",
        reason: "COUNT(*) is new and starts empty",
        rows: &[("v", "+I u1 1 11 1; +I u2 20 32 1; +I u3 5 5 1")],
    },
    Case {
        name: "a bounded OVER window",
        old: BOUNDED_OVER,
        new: BOUNDED_OVER,
        verdict: "compatible",
        reason: "",
        rows: &[("v", "+I u1 1 11; +I u2 20 27; +I u3 5 5")],
    },
    Case {
        name: "another frame",
        old: BOUNDED_OVER,
        new: OVER,
        verdict: "incompatible",
        reason: "frame changed",
        rows: &[("v", "+I u1 1 1; +I u2 20 20; +I u3 5 5")],
    },
    Case {
        name: "one more column of a top-N",
        old: job(
            &[("t", "user_id STRING, price INT")],
            "INSERT INTO t SELECT user_id, price FROM (SELECT user_id, price,
             ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY price DESC) AS n FROM orders) WHERE n <= 1;",
        ),
        new: job(
            &[("t", "user_id STRING, price INT, kind STRING")],
            "INSERT INTO t SELECT user_id, price, kind FROM (SELECT user_id, price, kind,
             ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY price DESC) AS n FROM orders) WHERE n <= 1;",
        ),
        verdict: "partial",
        reason: "orders.kind is NULL",
        rows: &[("t", "+I u3 5 b; +U u2 20 b; -U u2 7 null")],
    },
];

fn check(lab: &Lab, savepoint: &Path, case: &Case) -> PathBuf {
    let new = lab.script(case.new);
    let output = sluice(&["check", text(savepoint), text(&new)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let code = match case.verdict {
        "compatible" => 0,
        "partial" => 3,
        _ => 2,
    };
    assert_eq!(output.status.code(), Some(code), "{}: {said}", case.name);
    assert!(said.starts_with(case.verdict) && said.contains(case.reason), "{}: {said}", case.name);
    let json = sluice(&["check", text(savepoint), text(&new), "--output", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["verdict"], case.verdict, "{}", case.name);
    new
}

fn stopped(case: &Case) -> (Lab, PathBuf) {
    let lab = Lab::new();
    let savepoint = lab.path("savepoint");
    succeed(&sluice(&["run", text(&lab.script(case.old)), "--savepoint-at-end", text(&savepoint)]));
    lab.more_input();
    (lab, savepoint)
}

#[test]
fn what_a_change_of_the_sql_does_to_the_state() {
    let only = std::env::var("CASE").ok();
    let mut failed = vec![];
    for case in CASES.iter().filter(|c| only.as_ref().is_none_or(|o| c.name.contains(o.as_str()))) {
        if std::panic::catch_unwind(|| change(case)).is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

fn change(case: &Case) {
    let (lab, savepoint) = stopped(case);
    let new = check(&lab, &savepoint, case);
    let mut args = vec!["run", text(&new), "--restore-from", text(&savepoint)];
    if case.verdict == "incompatible" {
        let refused = sluice(&args);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{}: {stderr}", case.name);
        assert!(stderr.contains(case.reason), "{}: {stderr}", case.name);
        args.push("--allow-non-restored-state");
    }
    succeed(&sluice(&args));
    for (sink, rows) in case.rows {
        assert_eq!(lab.rows(sink).join("; "), *rows, "{}, sink {sink}", case.name);
    }
}
