//! Whatever the text, parsing, binding and planning give a plan or an error: no panic, no endless loop, and the error's place is in the text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::OnceLock;

use proptest::prelude::*;
use sluice_sql::catalog::Catalog;

const TABLES: &str = include_str!("errors/tables.sql");

fn tables() -> Catalog {
    static TABLES_CATALOG: OnceLock<Catalog> = OnceLock::new();
    TABLES_CATALOG.get_or_init(|| common::catalog(TABLES)).clone()
}

fn check(sql: &str) {
    let mut catalog = tables();
    match common::plan_with(&mut catalog, sql) {
        Ok(graphs) => graphs.iter().for_each(|g| assert!(!sluice_plan::explain(g).is_empty())),
        Err(e) => {
            let (line, column) = (e.span().line as usize, e.span().column as usize);
            assert!(e.span().is_known(), "no place: {e}\n{sql}");
            // A view's or table's own text may be meant, which stands elsewhere: then the place is in `TABLES`.
            let at = |text: &str| text.split('\n').nth(line - 1).is_some_and(|l| (1..=l.chars().count() + 1).contains(&column));
            assert!(at(sql) || at(TABLES), "{line}:{column} is not in the text: {e}\n{sql}");
            assert!(!e.message().contains("internal"), "{e}\n{sql}");
        }
    }
}

/// The statements of the snapshots and of the golden errors.
fn statements() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<String> = vec![];
        for folder in ["seeds", "plans"] {
            for file in common::files(folder, "sql") {
                all.push(std::fs::read_to_string(file).unwrap());
            }
        }
        let errors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/errors.jsonl");
        for line in std::fs::read_to_string(errors).unwrap().lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            all.push(case["sql"].as_str().unwrap().to_string());
        }
        all
    })
}

/// Words, symbols, strings and white space of a text, so that mutations stay near SQL.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let (mut word, mut string) = (false, false);
    for c in text.chars() {
        let part = c.is_alphanumeric() || c == '_' || (string && c != '\'');
        match pieces.last_mut() {
            Some(last) if (part && word) || (string && c == '\'') => last.push(c),
            _ => pieces.push(c.to_string()),
        }
        if c == '\'' {
            string = !string;
        }
        word = part || string;
    }
    pieces
}

/// Tokens that queries over `TABLES` are made of.
const TOKENS: &[&str] = &[
    "SELECT",
    "*",
    ",",
    "FROM",
    "ticks",
    "orders",
    "o",
    "payments",
    "users",
    "WHERE",
    "price",
    "symbol",
    "tax",
    "rowtime",
    "amount",
    "user_id",
    "order_id",
    "=",
    ">",
    "+",
    "-",
    "/",
    "||",
    "(",
    ")",
    "1",
    "0",
    "2.5",
    "'x'",
    "NULL",
    "TRUE",
    "AND",
    "OR",
    "NOT",
    "IS NULL",
    "IN",
    "BETWEEN",
    "LIKE",
    "GROUP BY",
    "HAVING",
    "COUNT(*)",
    "SUM(price)",
    "AVG(price)",
    "MIN(symbol)",
    "LISTAGG(symbol)",
    "COUNT(DISTINCT price)",
    "FILTER (WHERE price > 1)",
    "OVER (PARTITION BY symbol ORDER BY rowtime)",
    "ROW_NUMBER()",
    "LAG(price, 1)",
    "AS",
    "a",
    "b",
    "JOIN",
    "LEFT JOIN",
    "FULL JOIN",
    "CROSS JOIN",
    "ON",
    "UNION ALL",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "ORDER BY",
    "LIMIT 3",
    "CASE WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST(price AS STRING)",
    "CAST(",
    "AS INT)",
    "TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND))",
    "TABLE(HOP(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND, INTERVAL '10' SECOND))",
    "window_start",
    "window_end",
    "window_time",
    "UNNEST(pizzas)",
    "pizza_source",
    "UNNEST(ARRAY[1, 2])",
    "EXISTS",
    "(SELECT price FROM ticks)",
    "INSERT INTO",
    "append_out",
    "upsert_out",
    "WITH",
    "c AS (SELECT * FROM ticks)",
    "c",
    "FOR SYSTEM_TIME AS OF",
    "o.order_time",
    "MATCH_RECOGNIZE (",
    "PARTITION BY symbol",
    "ORDER BY rowtime",
    "MEASURES",
    "A.price AS p",
    "PATTERN",
    "(A B+ C)",
    "(A+? B)",
    "DEFINE",
    "A AS A.price > 1",
    "LAST(A.price, 1)",
    "FIRST(B.price)",
    "WITHIN INTERVAL '1' HOUR",
    "ROW(1, 'a')",
    "ARRAY[1]",
    "MAP['a', 1]",
    "m['a']",
    "INTERVAL '1' DAY",
    "CURRENT_TIMESTAMP",
    "VALUES (1, 'a')",
    ";",
    ".",
    "GROUPING SETS ((symbol), ())",
    "ROLLUP (symbol, price)",
    "DISTINCT",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn random_tokens(start in 0usize..4, tokens in prop::collection::vec(any::<prop::sample::Index>(), 0..24)) {
        let start = ["SELECT * FROM ticks ", "SELECT ", "INSERT INTO append_out SELECT symbol, ", ""][start];
        let words: Vec<&str> = tokens.iter().map(|t| TOKENS[t.index(TOKENS.len())]).collect();
        check(&format!("{start}{}", words.join(" ")));
    }

    #[test]
    fn random_expressions(e in expression()) {
        check(&format!("SELECT {e} FROM ticks"));
        check(&format!("SELECT symbol FROM ticks WHERE {e} > 1 GROUP BY symbol HAVING COUNT({e}) > 1"));
    }

    #[test]
    fn mutated_statements(which in any::<prop::sample::Index>(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..5), 1..5)) {
        let all = statements();
        let mut parts = pieces(&all[which.index(all.len())]);
        for (a, b, edit) in edits {
            if parts.is_empty() {
                break;
            }
            let (a, b) = (a.index(parts.len()), b.index(parts.len()));
            match edit {
                0 => { parts.remove(a); }
                1 => parts.swap(a, b),
                2 => { let copy = parts[b].clone(); parts.insert(a, copy); }
                3 => { let token = TOKENS[b % TOKENS.len()]; parts.insert(a, format!(" {token} ")); }
                _ => { let other = pieces(&all[(b * 31 + a) % all.len()]); parts[a] = other[b % other.len()].clone(); }
            }
        }
        check(&parts.concat());
    }
}

/// 256 cases a test; `FUZZ_CASES` for more.
fn cases() -> u32 {
    std::env::var("FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(256)
}

/// Expressions whose types fit or do not.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "price",
        "symbol",
        "rowtime",
        "tax",
        "1",
        "0",
        "'abc'",
        "NULL",
        "TRUE",
        "2.50",
        "1e3",
        "INTERVAL '1' SECOND",
        "DATE '2024-01-01'",
        "ARRAY[1, 2]",
        "MAP['a', 1]",
        "ROW(1, 'x')",
        "X'00'",
        "9223372036854775807",
        "CAST(NULL AS INT)",
        "TIMESTAMP '2024-01-01 00:00:00'",
        "''",
        "99999999999999999999999999999999999999",
        "-128",
    ])
    .prop_map(String::from);
    let names: Vec<&'static str> = sluice_functions::names();
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let types = prop::sample::select(vec![
            "INT",
            "STRING",
            "BOOLEAN",
            "DECIMAL(5, 2)",
            "TIMESTAMP(3)",
            "DATE",
            "DOUBLE",
            "ARRAY<INT>",
            "BYTES",
            "CHAR(3)",
            "TINYINT",
            "TIMESTAMP_LTZ(3)",
            "TIME(0)",
        ]);
        let binary =
            prop::sample::select(vec!["+", "-", "*", "/", "%", "||", "=", "<>", "<", ">=", "AND", "OR", "LIKE", "IS DISTINCT FROM"]);
        prop_oneof![
            (inner.clone(), binary, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), types).prop_map(|(a, ty)| format!("CAST({a} AS {ty})")),
            (prop::sample::select(names.clone()), prop::collection::vec(inner.clone(), 0..4))
                .prop_map(|(f, args)| format!("{f}({})", args.join(", "))),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("CASE WHEN {a} THEN {b} ELSE {c} END")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} IN ({b}, 1))")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{a}[{b}]")),
        ]
    })
}
