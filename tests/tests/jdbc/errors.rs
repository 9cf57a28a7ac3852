//! What is wrong is said, with a way out, and never with the password.

use std::time::{Duration, Instant};

use sluice_tests::engine::Run;
use sluice_tests::postgres::{PASSWORD, Postgres};
use sluice_tests::services::free_port;

use crate::{DEADLINE, failed, postgres, run, select};

pub fn say_what_is_wrong() {
    let p = &postgres();
    p.execute(
        "CREATE TABLE fine (id int, name text); CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON fine TO reader;
         CREATE TABLE hidden (id int); CREATE VIEW fine_view AS SELECT * FROM fine",
    );
    let place = p.place();
    let of = |user: &str, password: &str, name: &str| {
        format!("'connector' = 'jdbc', 'url' = '{place}', 'username' = '{user}', 'password' = '{password}', 'table-name' = '{name}'")
    };
    let select = |columns: &str, with: &str| format!("CREATE TABLE t ({columns}) WITH ({with}); SELECT * FROM t;");
    let insert = |columns: &str, with: &str, row: &str| format!("CREATE TABLE t ({columns}) WITH ({with}); INSERT INTO t VALUES ({row});");
    let other = |from: &str, to: &str| p.table("fine").replace(from, to);
    for (sql, code, messages) in [
        (select("id INT", &p.table("fin")), 2, &["has no table 'fin'", "did you mean 'fine'?"][..]),
        (select("id INT, nam STRING", &p.table("fine")), 2, &["no column 'nam'", "did you mean 'name'?", "line 1"]),
        (select("id INT, name INT", &p.table("fine")), 2, &["column 'name' of type text cannot be read as INT", "declare it STRING"]),
        (select("id BIGINT, name ROW<a INT>", &p.table("fine")), 2, &["type ROW<`a` INT> of column 'name'"]),
        (
            select("id INT", &of("postgres", "wrong-pw", "fine")),
            2,
            &["password authentication failed for user \"postgres\"", "'username' and 'password'"],
        ),
        (select("id INT", &of("reader", "reader", "hidden")), 2, &["permission denied", "grant"]),
        (select("id INT", &other("/lab", "/labb")), 2, &["database \"labb\" does not exist", "option 'url'"]),
        (select("id INT", &other("/lab", "/lab?sslmod=x")), 2, &["parameter 'sslmod'", "did you mean 'sslmode'?"]),
        (select("id INT", &other("table-name", "tabel-name")), 2, &["needs the option 'table-name'"]),
        (insert("id INT, PRIMARY KEY (id) NOT ENFORCED", &p.table("fine"), "1"), 2, &["no unique or exclusion constraint", "unique index"]),
        (insert("id INT, name INT", &p.table("fine"), "1, 2"), 2, &["column 'name' of type text cannot be written as INT"]),
        (insert("id STRING", &p.table("fine"), "'x'"), 1, &["invalid input syntax for type integer: \"x\""]),
        (
            insert("id INT", &format!("{}, 'sink.delivery-guarantee' = 'exactly-once'", of("reader", "reader", "fine")), "1"),
            2,
            &["permission denied for schema public", "CREATE TABLE IF NOT EXISTS sluice_commits"],
        ),
    ] {
        if sql.contains("exactly-once") {
            // The table is made by whoever comes first.
            p.execute("DROP TABLE IF EXISTS sluice_commits_kept; ALTER TABLE IF EXISTS sluice_commits RENAME TO sluice_commits_kept");
        }
        let (status, err) = failed(&sql, &[]);
        if sql.contains("exactly-once") {
            p.execute("ALTER TABLE IF EXISTS sluice_commits_kept RENAME TO sluice_commits");
        }
        assert!(!err.contains("wrong-pw"), "the password is shown: {err}");
        assert!(messages.iter().all(|m| err.contains(m)) && status == Some(code), "{sql}: {status:?} {err}");
    }
    // Plans do not show it either.
    let script = sluice_tests::engine::file(&select("id INT", &p.table("fine")), ".sql");
    let plan = Run::start(&["plan", script.path().to_str().unwrap()]).wait(DEADLINE);
    let text = String::from_utf8_lossy(&[plan.stdout, plan.stderr].concat()).into_owned();
    assert!(plan.status.success() && !text.contains(PASSWORD), "{text}");
}

/// A job waits for the server as its restart strategy says; without one it ends.
pub fn server_away() {
    let port = free_port();
    let table = format!("'connector' = 'jdbc', 'url' = 'jdbc:postgresql://127.0.0.1:{port}/lab', 'table-name' = 'x'");
    let (status, err) = failed(&format!("CREATE TABLE x (id INT) WITH ({table}); SELECT * FROM x;"), &[]);
    assert!(
        status == Some(1) && err.contains(&format!("PostgreSQL 127.0.0.1:{port}/lab: cannot connect")) && err.contains("refused"),
        "{err}"
    );
    let mut p = Postgres::started();
    p.execute("CREATE TABLE there (id int); INSERT INTO there VALUES (1); CREATE TABLE copied (id int)");
    p.stop();
    let sql = format!(
        "SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.attempts' = '1000';
         SET 'restart-strategy.fixed-delay.delay' = '100 ms';
         CREATE TABLE f (id INT) WITH ({}); CREATE TABLE t (id INT) WITH ({}); INSERT INTO t SELECT * FROM f;",
        p.table("there"),
        p.table("copied")
    );
    let mut waiting = Run::script(&sql, &[]);
    let started = Instant::now();
    while !waiting.stderr().contains("times in a row") {
        assert!(!waiting.ended() && started.elapsed() < DEADLINE, "{}", waiting.stderr());
        std::thread::sleep(Duration::from_millis(20));
    }
    p.start();
    let output = waiting.wait(DEADLINE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(p.query("SELECT * FROM copied"), [["1"]]);
}

/// `sslmode`: the server has a certificate for `localhost` that it has signed itself.
pub fn tls() {
    let p = &postgres();
    p.execute("CREATE VIEW secured AS SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    let authority = p.authority().display().to_string();
    let sql = |parameters: &str, host: &str| {
        let table = p.table("secured").replace("/lab'", &format!("/lab?{parameters}'")).replace("localhost", host);
        format!("CREATE TABLE t (`ssl` BOOLEAN) WITH ({table}); SELECT * FROM t;")
    };
    for (parameters, host, want) in [
        ("sslmode=disable", "localhost", "[false]"),
        ("sslmode=prefer", "localhost", "[true]"),
        ("sslmode=require", "localhost", "[true]"),
        (&format!("sslmode=verify-ca&sslrootcert={authority}"), "127.0.0.1", "[true]"),
        (&format!("sslmode=verify-full&sslrootcert={authority}"), "localhost", "[true]"),
    ] {
        assert_eq!(select(&sql(parameters, host), &[]), [want], "{parameters}");
    }
    for (parameters, host) in [
        ("sslmode=verify-ca", "localhost"),
        ("sslmode=verify-full", "localhost"),
        (&format!("sslmode=verify-full&sslrootcert={authority}"), "127.0.0.1"),
    ] {
        let (_, err) = failed(&sql(parameters, host), &[]);
        assert!(err.contains("certificate"), "{parameters}: {err}");
    }
    run(&sql("ssl=true&sslmode=require", "localhost"), &[]);
}
