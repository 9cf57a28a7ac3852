//! Scans.

use std::collections::BTreeSet;
use std::time::Instant;

use sluice_tests::engine::Run;
use sluice_tests::topics::{self, Record};

use crate::{DEADLINE, kafka, postgres, run, select};

pub fn all_types() {
    let p = &postgres();
    p.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN percent AS integer CHECK (VALUE <= 100);
         CREATE TABLE types (id int primary key, b boolean, i2 smallint, i8 bigint, f4 real, f8 double precision, n numeric(12, 3), n0 numeric,
           c char(5), v varchar(10), t text, d date, tm time(3), ts timestamp, tz timestamptz, by bytea, u uuid, j json, jb jsonb, m mood, dm percent,
           ai int[], at text[], ad numeric(6, 2)[], serial2 smallserial, net inet);
         INSERT INTO types VALUES
          (1, true, -32768, 9223372036854775807, 1.5, 1e300, 12345.678, 123456789012345678901234567890.5, 'ab', 'x', 'ä\"', '1969-12-31',
           '23:59:59.999', '2021-10-11 12:53:00.123456', '2021-10-11 12:53:00+02', '\\x00ff', '00000000-0000-0000-0000-00000000000a', '{\"a\": 1}',
           '{\"a\": 1}', 'happy', 99, '{1,NULL,3}', '{a,\"b,c\"}', '{1.5,2.25}', 7, '10.0.0.1'),
          (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 2, NULL), (3, false, 1, 1, 'NaN', 'Infinity', -0.001, 1, '', '', '', '0001-01-01', '00:00', '1969-12-31 23:59:59.999999', '1970-01-01+00', '',
           'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', '[]', 'sad', 0, '{}', '{NULL}', '{}', 8, '::1');",
    );
    let sql = format!(
        "SET 'table.local-time-zone' = 'UTC';
         CREATE TABLE types (id INT, b BOOLEAN, i2 SMALLINT, i8 BIGINT, f4 FLOAT, f8 DOUBLE, n DECIMAL(12, 3), n0 DECIMAL(20, 1), c CHAR(5),
          v VARCHAR(10), t STRING, d DATE, tm TIME(3), ts TIMESTAMP(6), tz TIMESTAMP_LTZ(3), `by` BYTES, u STRING, j STRING, jb STRING, m STRING,
          dm INT, ai ARRAY<INT>, `at` ARRAY<STRING>, ad ARRAY<DECIMAL(6, 2)>, serial2 INT, net STRING, PRIMARY KEY (id) NOT ENFORCED)
         WITH ({});
         SELECT id, b, i2, i8, f4, CAST(f8 AS STRING), n, n0, c, v, t, CAST(d AS STRING), CAST(tm AS STRING), CAST(ts AS STRING), CAST(tz AS STRING),
           TO_BASE64(`by`), u, j, jb, m, dm, ai, `at`, ad, serial2, net FROM types WHERE id <> 3;",
        p.table("types")
    );
    let rows = select(&sql, &[]);
    let first = concat!(
        r#"[1,true,-32768,9223372036854775807,1.5,"1.0E300",12345.678,null,"ab   ","x","ä\"","1969-12-31","23:59:59.999","#,
        r#""2021-10-11 12:53:00.123456","2021-10-11 10:53:00.000","AP8=","00000000-0000-0000-0000-00000000000a","{\"a\": 1}","{\"a\": 1}","#,
        r#""happy",99,[1,null,3],["a","b,c"],[1.5,2.25],7,"10.0.0.1"]"#
    );
    assert_eq!(rows[0], first);
    assert_eq!(rows[1].matches("null").count(), 24, "{}", rows[1]);
    assert_eq!(rows.len(), 2);
    // Only what is used is read.
    let log = p.log();
    let read = log.lines().rev().find(|l| l.contains("FROM \"types\" AS t")).unwrap();
    assert!(read.contains("ORDER BY t.\"id\""), "{read}");
    select(
        &format!(
            "CREATE TABLE types (id INT, t STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ({}); SELECT COUNT(*) FROM types;",
            p.table("types")
        ),
        &[],
    );
    let log = p.log();
    let read = log.lines().rev().find(|l| l.contains("FROM \"types\" AS t")).unwrap();
    assert!(!read.contains("t.\"t\""), "{read}");
}

pub fn views_partitions_and_cursors() {
    let p = &postgres();
    p.execute(
        "CREATE TABLE numbers (id bigint, v text); INSERT INTO numbers SELECT i, 'v' || i FROM generate_series(1, 20000) AS i;
         INSERT INTO numbers VALUES (NULL, 'no partition'), (99999, 'outside'); CREATE VIEW odd AS SELECT * FROM numbers WHERE id % 2 = 1;",
    );
    let count = |options: &str, table: &str, args: &[&str]| {
        let sql = format!(
            "CREATE TABLE t (id BIGINT, v STRING) WITH ({}{options}); SELECT COUNT(*), COUNT(DISTINCT v), SUM(id) FROM t;",
            p.table(table)
        );
        select(&sql, args).pop().unwrap().replace(' ', "")
    };
    let all = "[20002,20002,200109999]";
    assert_eq!(count("", "numbers", &[]), all);
    assert_eq!(count(", 'scan.fetch-size' = '777', 'scan.auto-commit' = 'false'", "numbers", &[]), all);
    assert_eq!(count(", 'scan.fetch-size' = '777'", "numbers", &[]), all);
    let parts = ", 'scan.partition.column' = 'id', 'scan.partition.num' = '7', 'scan.partition.lower-bound' = '1',
                 'scan.partition.upper-bound' = '20000'";
    for args in [&[][..], &["--parallelism", "3"]] {
        assert_eq!(count(parts, "numbers", args), "[20000,20000,200010000]");
    }
    assert_eq!(count("", "odd", &[]), "[10001,10001,100099999]");
    // Between two parts' whole numbers there are others; only behind the last number nothing is wanted.
    p.execute(
        "CREATE TABLE quarters (id bigint, v numeric(6, 2)); INSERT INTO quarters SELECT i, i / 4.0 FROM generate_series(0, 40) AS i",
    );
    let sql = format!(
        "CREATE TABLE t (id BIGINT, v DECIMAL(6, 2)) WITH ({}{}); SELECT COUNT(*), COUNT(DISTINCT v), SUM(id) FROM t;",
        p.table("quarters"),
        parts.replace("'id'", "'v'").replace("20000", "9")
    );
    assert_eq!(select(&sql, &["--parallelism", "2"]).pop().unwrap().replace(' ', ""), "[33,33,660]");
    // What inherits has a heap of its own: places are in none of both.
    p.execute("CREATE TABLE parent (id bigint, v text); CREATE TABLE child () INHERITS (parent); INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c')");
    assert_eq!(count("", "parent", &[]), "[2,2,3]");
    assert!(!p.log().lines().any(|l| l.contains("FROM \"parent\"") && l.contains("ctid")));
    assert_eq!(count("", "child", &[]), "[1,1,2]");
    assert!(p.log().lines().any(|l| l.contains("FROM \"child\"") && l.contains("ctid")));
}

pub fn several_tasks() {
    let p = &postgres();
    p.execute("CREATE TABLE once (id int, v int); INSERT INTO once SELECT i, i % 10 FROM generate_series(1, 1000) AS i");
    let sql = format!("CREATE TABLE t (id INT, v INT) WITH ({}); SELECT v, COUNT(*) FROM t GROUP BY v;", p.table("once"));
    let rows: BTreeSet<String> = select(&sql, &["--parallelism", "3"]).into_iter().collect();
    assert!((0..10).all(|v| rows.iter().any(|r| r.replace(' ', "") == format!("[{v},100]"))), "{rows:?}");
}

/// Conditions that mean the same to PostgreSQL are asked for; the rows are those that we would keep.
pub fn filters() {
    let p = &postgres();
    p.execute(
        "CREATE TABLE filtered (id int, name text, ok boolean, day date, amount numeric(10, 3), doc json);
         INSERT INTO filtered VALUES (1, 'a', true, '2024-01-01', 1.004, '{\"a\":1}'), (2, 'it''s', false, NULL, 2, NULL), (3, NULL, NULL, '2024-02-01', 3, '2'),
           (NULL, 'd', true, NULL, NULL, NULL)",
    );
    let table = format!(
        "CREATE TABLE t (id INT, name STRING, ok BOOLEAN, `day` DATE, amount DECIMAL(10, 2), doc STRING) WITH ({});",
        p.table("filtered")
    );
    for (condition, wanted, asked) in [
        ("id >= 2 AND id < 10", &["[2]", "[3]"][..], "t.\"id\" >= '2'::integer AND t.\"id\" < '10'::integer"),
        ("5 > id AND id <> 2", &["[1]", "[3]"], "'5'::integer > t.\"id\" AND t.\"id\" <> '2'::integer"),
        ("name = 'it''s'", &["[2]"], "t.\"name\" = 'it''s'"),
        ("name IS NULL OR id = 1", &["[1]", "[3]"], "(t.\"name\" IS NULL OR t.\"id\" = '1'::integer)"),
        ("NOT ok", &["[2]"], "NOT t.\"ok\""),
        ("doc = '{\"a\":1}'", &["[1]"], "t.\"doc\"::text = '{\"a\":1}'"),
        ("ok AND id IS NOT NULL", &["[1]"], "t.\"ok\" AND t.\"id\" IS NOT NULL"),
        ("`day` = DATE '2024-01-01'", &["[1]"], "t.\"day\" = '2024-01-01'::date"),
        // A part of it: strings have another order there, and the decimal is another one on the way to us.
        ("name > 'b' AND id <> 3", &["[2]"], "WHERE t.\"id\" <> '3'::integer"),
        ("amount = 1.00 AND id < 3", &["[1]"], "WHERE t.\"id\" < '3'::integer"),
        ("CHAR_LENGTH(name) = 4", &["[2]"], "FROM filtered"),
    ] {
        let before = p.log().len();
        let mut rows = select(&format!("{table} SELECT id FROM t WHERE {condition};"), &[]);
        rows.sort();
        assert_eq!(rows, wanted, "{condition}");
        let log = p.log().split_off(before);
        let reads: Vec<&str> = log.lines().filter(|l| l.contains("filtered") && l.contains("SELECT t.")).collect();
        assert!(asked == "FROM filtered" || reads.iter().any(|l| l.contains(asked)), "{condition}: {reads:#?}");
        assert!(asked != "FROM filtered" || reads.iter().all(|l| !l.contains("WHERE")), "{condition}: {reads:#?}");
    }
    // Two readers want different rows of one scan.
    let mut rows = select(&format!("{table} SELECT id FROM t WHERE id = 1 UNION ALL SELECT id FROM t WHERE id = 2;"), &[]);
    rows.sort();
    assert_eq!(rows, ["[1]", "[2]"]);
    // The parts of the table are still parts.
    let parts = "'scan.partition.column' = 'id', 'scan.partition.num' = '2', 'scan.partition.lower-bound' = '1', 'scan.partition.upper-bound' = '3'";
    let parted = table.replace("'connector'", &format!("{parts}, 'connector'"));
    assert_eq!(select(&format!("{parted} SELECT id FROM t WHERE name = 'a';"), &["--parallelism", "2"]), ["[1]"]);
}

/// The seed's plain INNER JOIN: the table is read once, also over a restart.
pub fn joins_with_a_stream() {
    let p = &postgres();
    p.execute("CREATE TABLE sensors (name text primary key, top int); INSERT INTO sensors VALUES ('a', 10), ('b', 20); CREATE TABLE joined (name text, v int, top int)");
    let topic = format!("jdbc-join-{:08x}", rand::random::<u32>());
    topics::create(&kafka(), &[(topic.clone(), 1)]);
    let produce = |name: &str, v: i32| {
        let value = format!(r#"{{"name":"{name}","v":{v}}}"#).into_bytes();
        topics::produce(&kafka(), &[Record { topic: topic.clone(), value: Some(value), ..Record::default() }]);
    };
    let dir = tempfile::tempdir().unwrap();
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '20 ms'; SET 'execution.checkpointing.dir' = '{}'; SET 'pipeline.name' = '{topic}';
         CREATE TABLE s (name STRING, v INT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}', 'topic' = '{topic}',
           'format' = 'json', 'scan.startup.mode' = 'earliest-offset');
         CREATE TABLE t (name STRING, top INT, PRIMARY KEY (name) NOT ENFORCED) WITH ({});
         CREATE TABLE joined (name STRING, v INT, top INT) WITH ({}, 'sink.delivery-guarantee' = 'exactly-once');
         INSERT INTO joined SELECT s.name, v, top FROM s JOIN t ON s.name = t.name WHERE v > top;",
        dir.path().display(),
        kafka(),
        p.table("sensors"),
        p.table("public.joined"),
    );
    let rows = || p.query("SELECT name, v, top FROM joined ORDER BY v").into_iter().map(|r| r.join(" ")).collect::<Vec<_>>();
    let wait = |run: &mut Run, n: usize| {
        let started = Instant::now();
        while rows().len() < n {
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{}", run.stderr());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    produce("a", 11);
    produce("b", 12);
    let mut first = Run::script(&sql, &[]);
    wait(&mut first, 1);
    assert!(first.stop(DEADLINE).status.success());
    // A row that is there later is not read: the table was.
    p.execute("INSERT INTO sensors VALUES ('c', 0)");
    produce("c", 13);
    produce("b", 21);
    let mut second = Run::script(&sql, &[]);
    wait(&mut second, 2);
    second.signal("KILL");
    second.wait(DEADLINE);
    produce("a", 22);
    let mut third = Run::script(&sql, &[]);
    wait(&mut third, 3);
    assert!(third.stop(DEADLINE).status.success());
    assert_eq!(rows(), ["a 11 10", "b 21 20", "a 22 10"]);
    run(&format!("CREATE TABLE t (name STRING) WITH ({}); SELECT * FROM t;", p.table("sensors")), &[]);
}

/// A scan that is interrupted goes on behind the last row that was committed: by key, and by the rows' places.
pub fn goes_on_where_it_was() {
    let p = &postgres();
    p.execute(
        "CREATE TABLE keyed (a text, b int, v int, PRIMARY KEY (a, b)); CREATE TABLE heap (a text, b int, v int);
         INSERT INTO keyed SELECT 'k' || i % 100, i, i FROM generate_series(1, 120000) AS i; INSERT INTO heap SELECT * FROM keyed;",
    );
    for (table, key) in [("keyed", ", PRIMARY KEY (a, b) NOT ENFORCED"), ("heap", "")] {
        p.execute(&format!("CREATE TABLE {table}_copy (a text, b int, v int)"));
        let sql = format!(
            "SET 'execution.checkpointing.interval' = '5 ms'; SET 'pipeline.name' = '{table}';
             CREATE TABLE f (a STRING, b INT, v INT{key}) WITH ({}); CREATE TABLE t (a STRING, b INT, v INT) WITH ({}, 'sink.delivery-guarantee' = 'exactly-once');
             INSERT INTO t SELECT * FROM f;",
            p.table(table),
            p.table(&format!("{table}_copy")),
        );
        let mut parts = BTreeSet::new();
        for step in ["committed:1", "outputs-flushed:3", "committed:4", "offsets-sent:2"] {
            let died = Run::script_with(&sql, &[], &[("SLUICE_FAIL_POINT", step)]).wait(DEADLINE);
            assert_ne!(died.status.code(), Some(1), "{step}: {}", String::from_utf8_lossy(&died.stderr));
            parts.insert(p.query(&format!("SELECT count(*) FROM {table}_copy"))[0][0].clone());
        }
        run(&sql, &[]);
        assert!(parts.len() > 2, "no part was read: {parts:?}");
        let counted = p.query(&format!("SELECT count(*), count(DISTINCT (a, b)), sum(v) FROM {table}_copy"));
        assert_eq!(counted[0], ["120000", "120000", "7200060000"], "{table}: {parts:?}");
    }
}
