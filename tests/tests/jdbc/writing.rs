//! Sinks that write at least once.

use std::time::Instant;

use sluice_tests::engine::Run;
use sluice_tests::postgres::Postgres;
use sluice_tests::topics::{self, Record};

use crate::{DEADLINE, kafka, postgres, run};

pub fn all_types() {
    let p = &postgres();
    p.execute(
        "CREATE TABLE written (id int primary key, b boolean, i2 smallint, i8 bigint, f4 real, f8 double precision, n numeric(12, 3), c char(5),
           v varchar(10), t text, d date, tm time(3), ts timestamp, tz timestamptz, by bytea, u uuid, jb jsonb, ai int[], at text[],
           tp timestamp, ap timestamp[]);",
    );
    let sql = format!(
        "SET 'table.local-time-zone' = 'Europe/Berlin';
         CREATE TABLE w (id INT, b BOOLEAN, i2 SMALLINT, i8 BIGINT, f4 FLOAT, f8 DOUBLE, n DECIMAL(12, 3), c CHAR(5), v VARCHAR(10), t STRING,
           d DATE, tm TIME(3), ts TIMESTAMP(6), tz TIMESTAMP_LTZ(3), `by` BYTES, u STRING, jb STRING, ai ARRAY<INT>, `at` ARRAY<STRING>,
           tp TIMESTAMP_LTZ(3), ap ARRAY<TIMESTAMP_LTZ(3)>, PRIMARY KEY (id) NOT ENFORCED) WITH ({});
         INSERT INTO w SELECT 1, TRUE, CAST(-3 AS SMALLINT), 9223372036854775807, CAST(1.5 AS FLOAT), 1e300, CAST(12345.678 AS DECIMAL(12, 3)),
           CAST('ab' AS CHAR(5)), 'x', 'ä\"\\,{{}}', DATE '1969-12-31', TIME '23:59:59', TIMESTAMP '2021-10-11 12:53:00.123456',
           CAST(TIMESTAMP '2021-10-11 12:53:00' AS TIMESTAMP_LTZ(3)), x'00ff', '00000000-0000-0000-0000-00000000000a', '{{\"a\": 1}}',
           ARRAY[1, CAST(NULL AS INT)], ARRAY['a', 'b,\"c'], CAST(TIMESTAMP '2021-10-11 12:53:00' AS TIMESTAMP_LTZ(3)),
           ARRAY[CAST(TIMESTAMP '2021-10-11 12:53:00' AS TIMESTAMP_LTZ(3))]
         UNION ALL SELECT 2, CAST(NULL AS BOOLEAN), CAST(NULL AS SMALLINT), CAST(NULL AS BIGINT), CAST(NULL AS FLOAT), CAST(NULL AS DOUBLE), CAST(NULL AS DECIMAL(12, 3)), CAST(NULL AS CHAR(5)), CAST(NULL AS VARCHAR(10)), CAST(NULL AS STRING), CAST(NULL AS DATE), CAST(NULL AS TIME(3)), CAST(NULL AS TIMESTAMP(6)), CAST(NULL AS TIMESTAMP_LTZ(3)), CAST(NULL AS BYTES), CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS ARRAY<INT>), CAST(NULL AS ARRAY<STRING>), CAST(NULL AS TIMESTAMP_LTZ(3)), CAST(NULL AS ARRAY<TIMESTAMP_LTZ(3)>);",
        p.table("written")
    );
    run(&sql, &[]);
    let rows = p.query("SET TIME ZONE 'UTC'; SELECT * FROM written ORDER BY id");
    let first = [
        "1",
        "t",
        "-3",
        "9223372036854775807",
        "1.5",
        "1e+300",
        "12345.678",
        "ab   ",
        "x",
        "ä\"\\,{}",
        "1969-12-31",
        "23:59:59",
        "2021-10-11 12:53:00.123456",
        "2021-10-11 10:53:00+00",
        "\\x00ff",
        "00000000-0000-0000-0000-00000000000a",
        "{\"a\": 1}",
        "{1,NULL}",
        "{a,\"b,\\\"c\"}",
        // Without a zone it is the session's time, as which it is read.
        "2021-10-11 12:53:00",
        "{\"2021-10-11 12:53:00\"}",
    ];
    assert_eq!(rows[0], first);
    assert_eq!(rows[1].iter().filter(|v| *v == "NULL").count(), 20);
    let sql = format!(
        "SET 'table.local-time-zone' = 'Europe/Berlin'; CREATE TABLE w (id INT, tp TIMESTAMP_LTZ(3), ap ARRAY<TIMESTAMP_LTZ(3)>) WITH ({});
         SELECT CAST(CAST(tp AS TIMESTAMP(3)) AS STRING), tp = ap[1] FROM w WHERE id = 1;",
        p.table("written")
    );
    assert_eq!(crate::select(&sql, &[]), [r#"["2021-10-11 12:53:00.000",true]"#]);
}

pub fn upserts_and_deletes() {
    let p = &postgres();
    p.execute("CREATE TABLE counts (name text primary key, n bigint); INSERT INTO counts VALUES ('old', 1), ('a', 99)");
    let sql = format!(
        "CREATE TABLE c (name STRING, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ({});
         INSERT INTO c SELECT name, n FROM (SELECT name, SUM(n) AS n FROM (VALUES ('a', 1), ('b', 5), ('a', 2), ('b', -5)) AS v(name, n) GROUP BY name)
           WHERE n > 0;",
        p.table("counts")
    );
    run(&sql, &[]);
    assert_eq!(p.query("SELECT * FROM counts ORDER BY name"), [["a", "3"], ["old", "1"]]);
}

/// Keys that are different with us and one for the server: the last row counts.
pub fn keys_that_are_one() {
    let p = &postgres();
    for (key, declared, values) in [
        ("char(5)", "STRING", ["'ab'", "'ab '"]),
        ("uuid", "STRING", ["'00000000-0000-0000-0000-00000000000a'", "'00000000-0000-0000-0000-00000000000A'"]),
        ("timestamp(0)", "TIMESTAMP(3)", ["TIMESTAMP '2024-01-01 00:00:00.1'", "TIMESTAMP '2024-01-01 00:00:00.2'"]),
        ("numeric(5, 1)", "DECIMAL(5, 2)", ["CAST(1.51 AS DECIMAL(5, 2))", "CAST(1.49 AS DECIMAL(5, 2))"]),
    ] {
        p.execute(&format!("DROP TABLE IF EXISTS merged; CREATE TABLE merged (k {key} primary key, v int)"));
        let [first, second] = values;
        run(
            &format!(
                "CREATE TABLE t (k {declared}, v INT, PRIMARY KEY (k) NOT ENFORCED) WITH ({});
                 INSERT INTO t VALUES ({first}, 1), ({second}, 2);",
                p.table("merged")
            ),
            &[],
        );
        assert_eq!(p.query("SELECT v FROM merged"), [["2"]], "{key}");
    }
}

/// Columns by their name as it is, or as SQL reads it without quotes; reserved words; tables of other schemas.
pub fn names_are_found() {
    let p = &postgres();
    p.execute("CREATE SCHEMA other; CREATE TABLE other.\"My Table\" (\"userId\" int primary key, \"order\" text, lower int)");
    let table = p.table("other.\"My Table\"");
    let declared =
        format!("CREATE TABLE t (`userId` INT, `order` STRING, LOWER_ INT, PRIMARY KEY (`userId`) NOT ENFORCED) WITH ({table});");
    let sql = declared.replace("LOWER_", "`Lower`");
    run(&format!("{sql} INSERT INTO t VALUES (1, 'x', 2);"), &[]);
    assert_eq!(p.query("SELECT * FROM other.\"My Table\""), [["1", "x", "2"]]);
    assert_eq!(crate::select(&format!("{sql} SELECT * FROM t;"), &[]), ["[1,\"x\",2]"]);
}

fn produce(topic: &str, rows: std::ops::Range<i32>) {
    let record = |i: i32| Record { topic: topic.to_owned(), value: Some(format!("{{\"id\":{i}}}").into()), ..Record::default() };
    topics::produce(&kafka(), &rows.map(record).collect::<Vec<_>>());
}

/// A job that copies ids from a topic.
fn copy(p: &Postgres, topic: &str, table: &str, options: &str, settings: &str) -> String {
    format!(
        "{settings} CREATE TABLE f (id INT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}', 'topic' = '{topic}', 'format' = 'json',
           'scan.startup.mode' = 'earliest-offset'); CREATE TABLE t (id INT, PRIMARY KEY (id) NOT ENFORCED) WITH ({}{options}); INSERT INTO t SELECT id FROM f;",
        kafka(),
        p.table(table)
    )
}

fn wait_for(p: &Postgres, run: &mut Run, table: &str, n: usize) {
    let started = Instant::now();
    while p.query(&format!("SELECT count(*) FROM {table}"))[0][0] != n.to_string() {
        assert!(!run.ended() && started.elapsed() < DEADLINE, "{}", run.stderr());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Rows go out when enough are there, or after the interval, also without commits.
pub fn buffers() {
    let p = &postgres();
    let topic = format!("jdbc-buffers-{:08x}", rand::random::<u32>());
    topics::create(&kafka(), &[(topic.clone(), 1)]);
    produce(&topic, 0..10);
    let settings = "SET 'execution.checkpointing.interval' = '1 h';";
    for (table, options) in [
        ("by_rows", ", 'sink.buffer-flush.max-rows' = '10', 'sink.buffer-flush.interval' = '0'"),
        ("by_time", ", 'sink.buffer-flush.max-rows' = '0', 'sink.buffer-flush.interval' = '200 ms'"),
    ] {
        p.execute(&format!("CREATE TABLE {table} (id int primary key)"));
        let mut run = Run::script(&copy(p, &topic, table, options, settings), &[]);
        wait_for(p, &mut run, table, 10);
        assert!(run.stop(DEADLINE).status.success());
    }
}

/// Connections that are closed while nothing is on them, by the server, a pooler or a firewall, are no failure, and cost no try.
pub fn idle_connections_are_closed() {
    let p = &postgres();
    p.execute("CREATE TABLE halves (id int primary key, half int); INSERT INTO halves SELECT i, i / 2 FROM generate_series(0, 99) AS i; CREATE TABLE halved (id int primary key, half int)");
    let topic = format!("jdbc-idle-{:08x}", rand::random::<u32>());
    topics::create(&kafka(), &[(topic.clone(), 1)]);
    produce(&topic, 0..10);
    let sql = format!(
        "SET 'pipeline.name' = '{topic}';
         CREATE TABLE f (id INT, p AS PROCTIME()) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}', 'topic' = '{topic}',
           'format' = 'json', 'scan.startup.mode' = 'earliest-offset');
         CREATE TABLE h (id INT, half INT) WITH ({}, 'lookup.max-retries' = '0');
         CREATE TABLE t (id INT, half INT, PRIMARY KEY (id) NOT ENFORCED) WITH ({}, 'sink.max-retries' = '0', 'sink.buffer-flush.interval' = '50 ms');
         INSERT INTO t SELECT f.id, h.half FROM f JOIN h FOR SYSTEM_TIME AS OF f.p ON f.id = h.id;",
        kafka(),
        p.table("halves").replace("/lab'", "/lab?ApplicationName=idle'"),
        p.table("halved").replace("/lab'", "/lab?ApplicationName=idle'"),
    );
    let mut run = Run::script(&sql, &["--log", "debug"]);
    wait_for(p, &mut run, "halved", 10);
    let ended = p.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'idle'").len();
    assert!(ended >= 2, "{ended} connections");
    let started = Instant::now();
    while run.stderr().matches("a connection has ended: terminating connection").count() < ended {
        assert!(!run.ended() && started.elapsed() < DEADLINE, "{}", run.stderr());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    produce(&topic, 10..100);
    wait_for(p, &mut run, "halved", 100);
    let output = run.stop(DEADLINE);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !log.contains("goes on from its last commit"), "{log}");
}

/// The server is away for a moment: nothing is lost, and the job does not even fail.
pub fn server_restarts() {
    let mut p = Postgres::started();
    p.execute("CREATE TABLE copied (id int primary key)");
    let topic = format!("jdbc-restarts-{:08x}", rand::random::<u32>());
    topics::create(&kafka(), &[(topic.clone(), 1)]);
    produce(&topic, 0..1000);
    let dir = tempfile::tempdir().unwrap();
    let settings =
        format!("SET 'execution.checkpointing.interval' = '50 ms'; SET 'execution.checkpointing.dir' = '{}';", dir.path().display());
    let mut run = Run::script(&copy(&p, &topic, "copied", "", &settings), &[]);
    wait_for(&p, &mut run, "copied", 1000);
    for (part, stop) in [(1, Postgres::stop as fn(&mut Postgres)), (2, Postgres::kill)] {
        stop(&mut p);
        produce(&topic, part * 1000..part * 1000 + 1000);
        std::thread::sleep(std::time::Duration::from_millis(500));
        p.start();
        wait_for(&p, &mut run, "copied", (part as usize + 1) * 1000);
    }
    let output = run.stop(DEADLINE);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && log.contains("trying again (1 of 3)") && !log.contains("goes on from its last commit"), "{log}");
}
