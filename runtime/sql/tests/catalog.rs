//! Scripts of declarations and what the catalog makes of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sluice_batch::Error;
use sluice_sql::catalog::{Catalog, ColumnKind, Table};
use sluice_sql::parser::parse_script;

fn run(script: &str) -> Result<Catalog, Error> {
    let mut catalog = Catalog::default();
    for (statement, span) in parse_script(script)? {
        assert!(catalog.apply(&statement).map_err(|e| e.at(span))?);
    }
    Ok(catalog)
}

/// Columns as `name type kind`.
fn columns(table: &Table) -> Vec<String> {
    let kind = |k: &ColumnKind| match k {
        ColumnKind::Physical => String::new(),
        ColumnKind::Metadata { key, is_virtual } => format!(" METADATA {key}{}", if *is_virtual { " VIRTUAL" } else { "" }),
        ColumnKind::Computed(_) => " computed".into(),
    };
    table.columns.iter().map(|c| format!("{} {}{}", c.name, c.ty, kind(&c.kind))).collect()
}

const BASE: &str = "CREATE TABLE base (id INT, ts TIMESTAMP(3) METADATA FROM 'timestamp', part INT METADATA VIRTUAL, pt AS PROCTIME(),
    WATERMARK FOR ts AS ts - INTERVAL '1' SECOND, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'kafka', 'topic' = 'x');";

#[test]
fn create_table() {
    let catalog = run(BASE).unwrap();
    let table = &catalog.tables["base"];
    assert_eq!(
        columns(table),
        ["id INT NOT NULL", "ts TIMESTAMP(3) METADATA timestamp", "part INT METADATA part VIRTUAL", "pt NULL computed"]
    );
    assert_eq!(table.primary_key, Some(vec![0]));
    assert_eq!(table.connector().unwrap(), "kafka");
    assert_eq!(table.option("topic"), Some("x"));
    assert!(table.watermark.is_some());
    assert!(table.text.starts_with("CREATE TABLE base (id INT") && table.text.ends_with("'x')"), "{}", table.text);
}

#[test]
fn inline_primary_key_without_not_enforced() {
    let catalog = run("CREATE TABLE t (id INT PRIMARY KEY, n BIGINT)").unwrap();
    assert_eq!(columns(&catalog.tables["t"]), ["id INT NOT NULL", "n BIGINT"]);
}

#[test]
fn like() {
    let with = |clause: &str| run(&format!("{BASE} {clause}")).unwrap().tables.swap_remove("t").unwrap();
    let t = with("CREATE TABLE t (b STRING) WITH ('topic' = 'y') LIKE base");
    assert_eq!(
        columns(&t),
        ["id INT NOT NULL", "ts TIMESTAMP(3) METADATA timestamp", "part INT METADATA part VIRTUAL", "pt NULL computed", "b STRING"]
    );
    assert_eq!((t.option("connector"), t.option("topic")), (Some("kafka"), Some("y")));
    assert_eq!(t.primary_key, Some(vec![0]));
    assert!(t.watermark.is_some());

    let t = with("CREATE TABLE t WITH ('a' = 'b') LIKE base (EXCLUDING ALL)");
    assert_eq!(columns(&t), ["id INT NOT NULL"]);
    assert_eq!((t.options.len(), t.primary_key.as_ref(), t.watermark.is_some()), (1, None, false));

    let t = with("CREATE TABLE t (pt AS 1, ts TIMESTAMP_LTZ(3) METADATA) LIKE base (OVERWRITING GENERATED OVERWRITING METADATA)");
    let overwritten = ["id INT NOT NULL", "ts TIMESTAMP_LTZ(3) METADATA ts", "part INT METADATA part VIRTUAL", "pt NULL computed"];
    assert_eq!(columns(&t), overwritten);

    let t = with("CREATE TABLE t (k INT, PRIMARY KEY (k) NOT ENFORCED) LIKE base (EXCLUDING CONSTRAINTS EXCLUDING GENERATED)");
    assert_eq!(t.primary_key, Some(vec![3]));
}

#[test]
fn names_and_settings() {
    let script = "CREATE TABLE default_catalog.default_database.t (a INT); CREATE TABLE IF NOT EXISTS t (b INT);
        CREATE VIEW v (x) AS SELECT a FROM t; CREATE TEMPORARY VIEW IF NOT EXISTS v AS SELECT 1; CREATE OR REPLACE VIEW v (y) AS SELECT 2;
        DROP TABLE IF EXISTS nope; SET 'a' = '1'; SET b.c = d e; SET 'x' = 'y'; RESET 'x'";
    let catalog = run(script).unwrap();
    assert_eq!(columns(&catalog.tables["t"]), ["a INT"]);
    assert_eq!(catalog.views["v"].columns[0].name, "y");
    let settings: Vec<_> = catalog.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(settings, [("a", "1"), ("b.c", "d e")]);
    let catalog = run("CREATE TABLE t (a INT); DROP TABLE t; CREATE VIEW t AS SELECT 1; DROP VIEW t; SET 'a' = 'b'; RESET").unwrap();
    assert!(catalog.tables.is_empty() && catalog.views.is_empty() && catalog.settings.is_empty());
}

#[test]
fn errors() {
    let cases = [
        ("CREATE TABLE t (a INT); CREATE TABLE t (b INT)", "1:38", "table 't' already exists", "IF NOT EXISTS"),
        ("CREATE VIEW t AS SELECT 1; CREATE TABLE t (b INT)", "1:41", "view 't' already exists", ""),
        ("CREATE TABLE t (a INT,\n a STRING)", "2:2", "two columns 'a'", ""),
        (
            "CREATE TABLE t (name INT, PRIMARY KEY (nmae) NOT ENFORCED)",
            "1:40",
            "no column 'nmae' for its PRIMARY KEY",
            "did you mean 'name'?",
        ),
        ("CREATE TABLE t (a INT, PRIMARY KEY (a, a) NOT ENFORCED)", "1:40", "column 'a' twice", ""),
        ("CREATE TABLE t (a AS 1, PRIMARY KEY (a) NOT ENFORCED)", "1:38", "no physical column", ""),
        ("CREATE TABLE t (order_time TIMESTAMP(3), WATERMARK FOR order_tme AS order_tme)", "1:56", "for its WATERMARK", "'order_time'"),
        ("CREATE TABLE t (a STRING, WATERMARK FOR a AS a)", "1:41", "is STRING, expected TIMESTAMP(3)", ""),
        ("CREATE TABLE t (a TIMESTAMP(6), WATERMARK FOR a AS a)", "1:47", "at most milliseconds", "precision 3"),
        ("CREATE TABLE t (a INT) WITH ('x' = '1',\n 'x' = '2')", "2:2", "option 'x' is given twice", ""),
        ("CREATE TABLE t (a INT) LIKE u", "1:29", "no table 'u'", ""),
        ("CREATE TABLE orders (a INT); CREATE TABLE t LIKE order_s", "1:50", "no table 'order_s'", "did you mean 'orders'?"),
        ("CREATE TABLE u (a INT); CREATE TABLE t (a INT) LIKE u", "1:41", "already has a column 'a'", ""),
        (
            "CREATE TABLE u (a INT) WITH ('k'='v'); CREATE TABLE t WITH ('k'='w') LIKE u (INCLUDING OPTIONS)",
            "1:61",
            "option 'k'",
            "OVERWRITING",
        ),
        ("CREATE TABLE u (a INT); CREATE TABLE t LIKE u (OVERWRITING CONSTRAINTS)", "1:45", "cannot overwrite CONSTRAINTS", ""),
        ("CREATE TABLE x.y.t (a INT)", "1:14", "no catalog 'x'", "default_catalog"),
        ("CREATE TABLE t AS SELECT 1", "1:14", "AS SELECT is not supported", "INSERT INTO"),
        ("CREATE TABLE t (a INT) PARTITIONED BY (a)", "1:40", "PARTITIONED BY is not supported", ""),
        ("CREATE TABLE t (a INT, PRIMARY KEY (a) ENFORCED)", "1:40", "not enforced", "NOT ENFORCED"),
        ("CREATE VIEW v (a, a) AS SELECT 1, 2", "1:19", "two columns 'a'", ""),
        ("CREATE VIEW v AS SELECT 1; DROP TABLE v", "1:39", "no table 'v'", "DROP VIEW"),
        ("CREATE TABLE t ()", "1:17", "found ')'", ""),
        ("CREATE FUNCTION f AS 'x'", "1:1", "CREATE FUNCTION is not supported", ""),
    ];
    for (script, place, message, hint) in cases {
        let e = run(script).expect_err(script);
        assert_eq!(format!("{}:{}", e.span().line, e.span().column), place, "{script}: {e}");
        assert!(e.message().contains(message), "{script}: {e}");
        assert!(e.hint_text().unwrap_or("").contains(hint), "{script}: {e}");
    }
}
