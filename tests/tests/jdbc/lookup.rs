//! Lookup joins.

use std::time::{Duration, Instant};

use sluice_tests::engine::Run;
use sluice_tests::postgres::Postgres;
use sluice_tests::topics::{self, Record};

use crate::{DEADLINE, failed, kafka, postgres, select};

/// A topic with a record a row of `{"id": …, "name": …}`.
fn filled(name: &str, rows: &[(i64, Option<&str>)]) -> String {
    let topic = format!("jdbc-{name}-{:08x}", rand::random::<u32>());
    topics::create(&kafka(), &[(topic.clone(), 1)]);
    fill(&topic, rows);
    topic
}

fn fill(topic: &str, rows: &[(i64, Option<&str>)]) {
    let record = |(id, name): &(i64, Option<&str>)| {
        let value = serde_json::json!({"id": id, "name": name}).to_string().into_bytes();
        Record { topic: topic.to_owned(), value: Some(value), ..Record::default() }
    };
    topics::produce(&kafka(), &rows.iter().map(record).collect::<Vec<_>>());
}

fn stream(topic: &str) -> String {
    format!(
        "CREATE TABLE s (id BIGINT, name STRING, p AS PROCTIME()) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}', \
         'topic' = '{topic}', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset');",
        kafka()
    )
}

/// INNER and LEFT; keys of other types; several keys; conditions and filters; views; NULLs.
pub fn keys_and_conditions() {
    let p = &postgres();
    p.execute(
        "CREATE TABLE facts (id int, name text, kind uuid, v int, mood text, PRIMARY KEY (id, name));
         INSERT INTO facts VALUES (1, 'a', '00000000-0000-0000-0000-000000000001', 10, 'x'), (1, 'b', '00000000-0000-0000-0000-000000000001', 20, 'y'),
           (2, 'a', '00000000-0000-0000-0000-000000000002', 30, 'x'), (3, 'c', NULL, NULL, 'x');
         CREATE TYPE color AS ENUM ('red', 'green'); CREATE TABLE colors (c color, n int); INSERT INTO colors VALUES ('red', 1)",
    );
    let topic = filled("keys", &[(1, Some("a")), (2, Some("b")), (3, None), (1, Some("b")), (9_999_999_999, Some("red"))]);
    let with = p.table("facts");
    let query = |further: &str, query: &str| {
        let tables = format!("{} CREATE TABLE f (id INT, name STRING, kind STRING, v INT, mood STRING) WITH ({with});", stream(&topic));
        select(&format!("{tables}{further}{query}"), &["--bounded"])
    };
    // A BIGINT looks up an INT column.
    let joined = query("", "SELECT s.id, s.name, f.name, f.v FROM s LEFT JOIN f FOR SYSTEM_TIME AS OF s.p AS f ON s.id = f.id;");
    let mut pairs = joined.clone();
    pairs.sort();
    let want = [
        r#"[1,"a","a",10]"#,
        r#"[1,"a","b",20]"#,
        r#"[1,"b","a",10]"#,
        r#"[1,"b","b",20]"#,
        r#"[2,"b","a",30]"#,
        r#"[3,null,"c",null]"#,
        r#"[9999999999,"red",null,null]"#,
    ];
    // `data` has one name twice: the columns are id, name, name0, v.
    assert_eq!(pairs, want, "{joined:?}");
    assert!(joined.last().unwrap().starts_with("[9999999999"), "in order: {joined:?}");
    // Two keys.
    let both = query("", "SELECT s.id, f.v FROM s JOIN f FOR SYSTEM_TIME AS OF s.p ON f.name = s.name AND f.id = s.id;");
    assert_eq!(both, ["[1,10]", "[1,20]"]);
    // A condition of both sides, one of the table's, and a constant.
    let conditions =
        "SELECT s.id, f.v FROM s LEFT JOIN f FOR SYSTEM_TIME AS OF s.p AS f ON s.id = f.id AND f.v > s.id * 10 AND f.mood = 'y';";
    assert_eq!(query("", conditions), ["[1,20]", "[2,null]", "[3,null]", "[1,20]", "[9999999999,null]"]);
    let view = "CREATE VIEW w AS SELECT id, v * 2 AS twice FROM f WHERE v >= 20;";
    let of_view = "SELECT s.id, w.twice FROM s LEFT JOIN w FOR SYSTEM_TIME AS OF s.p ON s.id = w.id;";
    assert_eq!(query(view, of_view), ["[1,40]", "[2,60]", "[3,null]", "[1,40]", "[9999999999,null]"]);
    // What is no uuid, and no label of an enumeration, is found nowhere.
    assert!(query("", "SELECT s.id FROM s JOIN f FOR SYSTEM_TIME AS OF s.p ON s.name = f.kind;").is_empty());
    let colors = format!("CREATE TABLE c (c STRING, n INT) WITH ({});", p.table("colors"));
    assert_eq!(query(&colors, "SELECT s.id, c.n FROM s JOIN c FOR SYSTEM_TIME AS OF s.p ON s.name = c.c;"), ["[9999999999,1]"]);
    // Addresses are compared as PostgreSQL shows them; what no text of its can be is found nowhere.
    p.execute("CREATE TABLE nets (net inet primary key, n int); INSERT INTO nets VALUES ('10.0.0.1', 1), ('10.0.0.0/8', 2), ('::1', 3)");
    let odd = filled("odd", &[(1, Some("10.0.0.1")), (2, Some("a\0")), (3, Some("10.0.0.0/8")), (4, Some("nowhere")), (5, Some("::1"))]);
    let nets = format!("{} CREATE TABLE t (net STRING, n INT) WITH ({});", stream(&odd), p.table("nets"));
    let joined =
        select(&format!("{nets} SELECT s.id, t.n FROM s LEFT JOIN t FOR SYSTEM_TIME AS OF s.p ON s.name = t.net;"), &["--bounded"]);
    assert_eq!(joined, ["[1,1]", "[2,null]", "[3,2]", "[4,null]", "[5,3]"]);
    // An updating left side: what it takes back is taken back.
    let counted = "SELECT f.v, g.n FROM (SELECT id, COUNT(*) AS n, PROCTIME() AS p FROM s GROUP BY id) AS g JOIN f FOR SYSTEM_TIME AS OF g.p ON g.id = f.id;";
    assert!(query("", counted).len() >= 4);
    let tables = format!("{} CREATE TABLE f (id INT, name STRING) WITH ({with});", stream(&topic));
    let (code, err) = failed(&format!("{tables} SELECT s.id FROM s JOIN f FOR SYSTEM_TIME AS OF s.p ON s.id = f.id + 1;"), &["--bounded"]);
    assert!(code == Some(2) && err.contains("requires an equality condition on fields of table 'f'"), "{err}");
    let (code, err) = failed(&format!("{tables} SELECT s.id FROM s JOIN s FOR SYSTEM_TIME AS OF s.p AS t ON s.id = t.id;"), &["--bounded"]);
    assert!(code == Some(2) && err.contains("connector 'kafka' only scans"), "{err}");
}

/// Many keys, more batches than may be on their way, several tasks: one statement has many keys.
pub fn many_keys() {
    let p = &postgres();
    p.execute(
        "CREATE TABLE wide (id bigint primary key, v text); INSERT INTO wide SELECT i, 'v' || i FROM generate_series(0, 29999, 2) AS i",
    );
    let rows: Vec<(i64, Option<&str>)> = (0..60_000).map(|i| (i % 30_000, None)).collect();
    let topic = filled("many", &rows);
    let before = p.log().matches("WITH ORDINALITY").count();
    for (tasks, cache) in [("1", ""), ("3", ""), ("1", ", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '20000'")] {
        let sql = format!(
            "{} CREATE TABLE w (id BIGINT, v STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ({}{cache});
             SELECT COUNT(*), COUNT(w.v), SUM(w.id) FROM s LEFT JOIN w FOR SYSTEM_TIME AS OF s.p AS w ON s.id = w.id;",
            stream(&topic),
            p.table("wide")
        );
        assert_eq!(select(&sql, &["--bounded", "--parallelism", tasks]).pop().unwrap(), "[60000,30000,449970000]", "{tasks} tasks{cache}");
    }
    let statements = p.log().matches("execute").count();
    let asked = p.log().matches("WITH ORDINALITY").count() - before;
    assert!(asked < 1000, "{asked} of {statements} statements for 180000 rows");
}

/// What the cache has is not asked for again until it is too old.
pub fn cache_expires() {
    let p = &postgres();
    p.execute("CREATE TABLE rates (name text, rate int); INSERT INTO rates VALUES ('a', 1); CREATE TABLE rated (id bigint, rate int)");
    let topic = filled("cache", &[(1, Some("a")), (2, Some("missing"))]);
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '50 ms'; {}
         CREATE TABLE r (name STRING, rate INT) WITH ({}, 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.expire-after-write' = '2 s',
           'lookup.partial-cache.cache-missing-key' = 'false');
         CREATE TABLE t (id BIGINT, rate INT) WITH ({});
         INSERT INTO t SELECT s.id, r.rate FROM s LEFT JOIN r FOR SYSTEM_TIME AS OF s.p ON s.name = r.name;",
        stream(&topic),
        p.table("rates"),
        p.table("rated"),
    );
    let mut run = Run::script(&sql, &[]);
    let rows = |run: &mut Run, n: usize| {
        let started = Instant::now();
        loop {
            let rows = p.query("SELECT id, rate FROM rated ORDER BY id").into_iter().map(|r| r.join(" ")).collect::<Vec<_>>();
            if rows.len() >= n {
                return rows;
            }
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{rows:?}: {}", run.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    assert_eq!(rows(&mut run, 2), ["1 1", "2 NULL"]);
    p.execute("UPDATE rates SET rate = 2; INSERT INTO rates VALUES ('missing', 7)");
    fill(&topic, &[(3, Some("a")), (4, Some("missing"))]);
    assert_eq!(rows(&mut run, 4)[2..], ["3 1", "4 7"], "one is kept, what was missing is not");
    std::thread::sleep(Duration::from_millis(2100));
    fill(&topic, &[(5, Some("a"))]);
    assert_eq!(rows(&mut run, 5)[4], "5 2");
    assert!(run.stop(DEADLINE).status.success());
}

/// The server is away for a moment, and longer than the retries.
pub fn server_restarts() {
    let mut p = Postgres::started();
    p.execute("CREATE TABLE rates (name text, rate int); INSERT INTO rates VALUES ('a', 1)");
    let topic = filled("away", &[(1, Some("a"))]);
    let out = format!("{topic}-out");
    topics::create(&kafka(), &[(out.clone(), 1)]);
    let dir = tempfile::tempdir().unwrap();
    let sql = |retries: u32| {
        format!(
            "SET 'execution.checkpointing.interval' = '50 ms'; SET 'execution.checkpointing.dir' = '{}'; SET 'pipeline.name' = '{topic}';
             {} CREATE TABLE r (name STRING, rate INT) WITH ({}, 'lookup.max-retries' = '{retries}');
             CREATE TABLE t (id BIGINT, rate INT) WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = '{}', 'topic' = '{out}', 'format' = 'json',
               'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'jdbc');
             INSERT INTO t SELECT s.id, r.rate FROM s LEFT JOIN r FOR SYSTEM_TIME AS OF s.p ON s.name = r.name;",
            dir.path().display(),
            stream(&topic),
            p.table("rates"),
            kafka(),
        )
    };
    let (patient, impatient) = (sql(3), sql(0));
    let count = |run: &mut Run, n: usize| {
        let started = Instant::now();
        while topics::committed(&kafka(), &out).len() < n {
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{}", run.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut run = Run::script(&patient, &[]);
    count(&mut run, 1);
    p.kill();
    fill(&topic, &[(2, Some("a"))]);
    std::thread::sleep(Duration::from_millis(300));
    p.start();
    count(&mut run, 2);
    let output = run.stop(DEADLINE);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && log.contains("trying again (1 of 3)") && !log.contains("goes on from its last commit"), "{log}");
    let mut run = Run::script(&impatient, &[]);
    fill(&topic, &[(3, Some("a"))]);
    count(&mut run, 3);
    p.stop();
    fill(&topic, &[(4, Some("a"))]);
    let started = Instant::now();
    while !run.stderr().contains("goes on from its last commit") {
        assert!(!run.ended() && started.elapsed() < DEADLINE, "{}", run.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
    p.start();
    count(&mut run, 4);
    assert!(run.stop(DEADLINE).status.success());
    let rows: Vec<String> = topics::committed(&kafka(), &out).into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect();
    assert_eq!(rows, (1..5).map(|i| format!("{{\"id\":{i},\"rate\":1}}")).collect::<Vec<_>>());
}

/// The password is a file: plans and messages show the reference.
pub fn secrets_are_filled_in() {
    let p = &postgres();
    p.execute("CREATE TABLE secret_rates (name text, rate int); INSERT INTO secret_rates VALUES ('a', 5)");
    let topic = filled("secrets", &[(1, Some("a"))]);
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("pg")).unwrap();
    std::fs::write(secrets.path().join("pg/password"), sluice_tests::postgres::PASSWORD).unwrap();
    let table = p.table("secret_rates").replace(sluice_tests::postgres::PASSWORD, "{{secret:pg/password}}");
    let sql = format!(
        "{} CREATE TABLE r (name STRING, rate INT) WITH ({table}); SELECT s.id, r.rate FROM s JOIN r FOR SYSTEM_TIME AS OF s.p ON s.name = r.name;",
        stream(&topic)
    );
    assert_eq!(select(&sql, &["--bounded", "--secrets", secrets.path().to_str().unwrap()]), ["[1,5]"]);
}
