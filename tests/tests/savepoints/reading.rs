//! What is in a savepoint can be seen: by `sluice savepoint`, and by any reader of Parquet.

use std::path::PathBuf;
use std::process::Command;

use crate::{Lab, job, sluice, succeed, text};

/// A savepoint of counts by user and of joined rows.
fn savepoint() -> (Lab, PathBuf) {
    let lab = Lab::new();
    let script = lab.script(job(
        &[("o", "user_id STRING, n BIGINT, hi INT"), ("j", "user_id STRING, ts TIMESTAMP(3), city STRING")],
        "EXECUTE STATEMENT SET BEGIN
         INSERT INTO o SELECT user_id, COUNT(*), MAX(price) FROM orders GROUP BY user_id;
         INSERT INTO j SELECT o.user_id, o.ts, u.city FROM orders o JOIN users u ON o.user_id = u.id; END;",
    ));
    let savepoint = lab.path("savepoints/one");
    succeed(&sluice(&["run", text(&script), "--savepoint-at-end", text(&savepoint)]));
    (lab, savepoint)
}

#[test]
fn list_show_and_delete() {
    let (lab, savepoint) = savepoint();
    let list = succeed(&sluice(&["savepoint", "list", text(&lab.path("savepoints"))]));
    assert!(list.lines().count() == 2 && list.contains("savepoints/one"), "{list}");
    let show = succeed(&sluice(&["savepoint", "show", text(&savepoint)]));
    for part in ["orders 1.json=", "group keys: orders.user_id", "orders.user_id STRING (key)", "MAX(orders.price) INT", "join type: INNER"]
    {
        assert!(show.contains(part), "{part}: {show}");
    }
    let of_key = succeed(&sluice(&["savepoint", "show", text(&savepoint), "--key", "u2"]));
    assert!(of_key.contains("Rome") && of_key.contains("2024-01-01T00:00:03") && !of_key.contains("u1"), "{of_key}");
    let of_operator = succeed(&sluice(&["savepoint", "show", text(&savepoint), "--operator", "GroupAggregate", "--limit", "1"]));
    assert_eq!(of_operator.trim_end().lines().count(), 3, "{of_operator}");
    let unknown = sluice(&["savepoint", "show", text(&savepoint), "--operator", "TopN"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("it has"), "{unknown:?}");
    succeed(&sluice(&["savepoint", "delete", text(&savepoint)]));
    assert!(!savepoint.exists());
    assert_eq!(sluice(&["savepoint", "delete", text(&savepoint)]).status.code(), Some(1));
}

/// The Python of the tests' setup, which has DuckDB.
fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).unwrap();
    let python = cache.join("sluice/duckdb-2.0.0/bin/python");
    assert!(python.exists(), "{} is missing: run tests/setup/setup.sh test", python.display());
    python
}

#[test]
fn duckdb_reads_the_tables() {
    let (_lab, savepoint) = savepoint();
    let script = r#"
import duckdb, glob, sys
at = sys.argv[1]
print(duckdb.sql(f"""SELECT "orders.user_id", "COUNT(*)" + 1, "MAX(orders.price)" FROM '{at}/GroupAggregate-*.groups.parquet' ORDER BY 1""").fetchall())
print(duckdb.sql(f"""SELECT "orders.ts" + INTERVAL 1 DAY, "_count" FROM '{at}/Join-*.left.parquet' WHERE "orders.user_id" = 'u2' ORDER BY 1""").fetchall())
print(duckdb.sql(f"""SELECT "users.city" FROM '{at}/Join-*.right.parquet' ORDER BY 1""").fetchall())
"#;
    let output = Command::new(python()).args(["-c", script, text(&savepoint)]).output().unwrap();
    let expected = "[('u1', 2, 10), ('u2', 3, 7)]
[(datetime.datetime(2024, 1, 2, 0, 0, 2), 1), (datetime.datetime(2024, 1, 2, 0, 0, 3), 1)]
[('Oslo',), ('Rome',)]
";
    assert_eq!(succeed(&output), expected);
}
