//! Whatever the text, parsing, binding and planning give a plan or an error: no panic, no endless loop, and the error's place is in the text.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::OnceLock;

use proptest::prelude::*;
use sluice_batch::{Expr, SqlType};
use sluice_operators::spec::OperatorSpec;
use sluice_plan::{Graph, NodeKind};
use sluice_sql::catalog::Catalog;

const TABLES: &str = include_str!("errors/tables.sql");

fn tables() -> Catalog {
    static TABLES_CATALOG: OnceLock<Catalog> = OnceLock::new();
    TABLES_CATALOG.get_or_init(|| common::catalog(TABLES)).clone()
}

fn check(sql: &str) {
    let mut catalog = tables();
    match common::plan_with(&mut catalog, sql) {
        Ok(graphs) => graphs.iter().for_each(|g| {
            assert!(!sluice_plan::explain(g).is_empty());
            if let Err(e) = consistent(g) {
                panic!("{e}\n{sql}\n{}", sluice_plan::explain(g));
            }
        }),
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

/// Whether every column that a node reads is there, with the type it is read with.
fn consistent(graph: &Graph) -> Result<(), String> {
    for (at, node) in graph.nodes.iter().enumerate() {
        let width = node.schema.len();
        let read: Vec<SqlType> = node.inputs.iter().flat_map(|i| graph.nodes[*i].schema.iter().map(|c| c.ty.clone())).collect();
        let fail = |what: String| Err(format!("node {at}: {what}"));
        if node.inputs.iter().any(|i| *i >= at)
            || node.properties.upsert_keys.iter().flatten().chain(&node.properties.rowtime).any(|c| *c >= width)
        {
            return fail("inputs or properties out of range".into());
        }
        let NodeKind::Operator(spec) = &node.kind else { continue };
        let mut exprs: Vec<&Expr> = vec![];
        let mut columns: Vec<usize> = vec![];
        match spec {
            OperatorSpec::Calc { filter, project } => {
                exprs.extend(filter.iter().chain(project.iter().flatten()));
                if let Some(project) = project {
                    let fits = project.len() == width && project.iter().zip(node.schema.iter()).all(|(e, c)| e.ty.kind == c.ty.kind);
                    if !fits {
                        return fail("the projection does not give the schema".into());
                    }
                } else if read.iter().map(|t| &t.kind).ne(node.schema.iter().map(|c| &c.ty.kind)) {
                    return fail("a filter changes the schema".into());
                }
            }
            OperatorSpec::Unnest(s) => exprs.push(&s.expr),
            OperatorSpec::GroupAggregate(s) => {
                columns.extend(s.keys.iter().copied().chain(s.calls.iter().flat_map(|c| c.args.iter().copied().chain(c.filter))))
            }
            OperatorSpec::WindowAggregate(s) => {
                columns.extend(s.keys.iter().copied().chain(s.calls.iter().flat_map(|c| c.args.iter().copied().chain(c.filter))))
            }
            OperatorSpec::Join(s) => {
                exprs.extend(&s.condition);
                let left = graph.nodes[node.inputs[0]].schema.len();
                columns.extend(s.left_keys.iter().copied().chain(s.right_keys.iter().map(|k| k + left)));
                let kind = |c: usize| read.get(c).map(|t| t.kind.clone());
                if s.left_keys.iter().zip(&s.right_keys).any(|(l, r)| kind(*l) != kind(r + left)) {
                    return fail("keys of different types".into());
                }
            }
            OperatorSpec::Over(s) => columns.extend(s.partition_by.iter().copied().chain(s.order_by.iter().map(|k| k.column))),
            OperatorSpec::TopN(s) => columns.extend(s.partition_by.iter().copied().chain(s.order_by.iter().map(|k| k.column))),
            _ => {}
        }
        if let Some(column) = columns.iter().find(|c| **c >= read.len()) {
            return fail(format!("column {column} is not there"));
        }
        for expr in exprs {
            let mut wrong = None;
            expr.walk(&mut |e| {
                if let Some(c) = e.as_column()
                    // A cast that keeps the values (TIMESTAMP(3) to TIMESTAMP(6)) only renames the type.
                    && read.get(c).is_none_or(|t| t.to_arrow() != e.ty.to_arrow() || (t.nullable && !e.ty.nullable))
                {
                    wrong = Some(format!("column {c} is read as {}, but is {:?}", e.ty, read.get(c)));
                }
            });
            if let Some(wrong) = wrong {
                return fail(wrong);
            }
        }
    }
    Ok(())
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
    fn random_queries(q in query()) {
        check(&q);
        check(&format!("INSERT INTO upsert_out SELECT symbol, COUNT(*) FROM ({q}) AS t GROUP BY symbol"));
        check(&format!("CREATE VIEW v AS {q}; SELECT * FROM v AS a LEFT JOIN v AS b ON a.symbol = b.symbol"));
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

fn pick(list: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    prop::sample::select(list.to_vec()).prop_map(String::from)
}

/// Relations with columns symbol, price and rowtime; most have time attributes, some update.
const RELATIONS: &[&str] = &[
    "ticks",
    "ticks",
    "(SELECT user_id AS symbol, score AS price, CURRENT_TIMESTAMP AS rowtime FROM users)",
    "(SELECT symbol, COUNT(*) AS price, MAX(rowtime) AS rowtime FROM ticks GROUP BY symbol)",
    "(SELECT DISTINCT symbol, price, rowtime FROM ticks)",
    "(SELECT symbol, price, window_time AS rowtime FROM TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND)))",
    "(SELECT symbol, SUM(price) AS price, window_time AS rowtime FROM TABLE(HOP(TABLE ticks, DESCRIPTOR(rowtime), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) GROUP BY symbol, window_start, window_end, window_time)",
    "(SELECT symbol, COUNT(*) AS price, window_end AS rowtime FROM TABLE(SESSION(TABLE ticks PARTITION BY symbol, DESCRIPTOR(rowtime), INTERVAL '5' SECOND)) GROUP BY symbol, window_start, window_end)",
    "(SELECT * FROM ticks MATCH_RECOGNIZE (PARTITION BY symbol ORDER BY rowtime MEASURES LAST(B.price) AS price, MATCH_ROWTIME() AS rowtime PATTERN (A B+ C) DEFINE B AS B.price > LAST(B.price, 1)))",
    "(SELECT *, ROW_NUMBER() OVER (PARTITION BY symbol ORDER BY rowtime DESC) AS n FROM ticks)",
    "(SELECT symbol, price, rowtime FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY symbol ORDER BY rowtime) AS n FROM ticks) WHERE n = 1)",
    "(SELECT symbol, price, rowtime FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY price DESC) AS n FROM ticks) WHERE n <= 3)",
    "(SELECT symbol, price, rowtime FROM ticks UNION ALL SELECT user_id, order_id, order_time FROM orders)",
    "(SELECT symbol, price, rowtime FROM ticks EXCEPT SELECT user_id, order_id, order_time FROM orders)",
    "(SELECT shop AS symbol, id AS price, orderTimestamp AS rowtime FROM pizza_source CROSS JOIN UNNEST(pizzas) AS p CROSS JOIN UNNEST(p.additionalToppings) AS t (topping) WHERE topping <> 'x')",
    "(SELECT symbol, SUM(price) OVER (PARTITION BY symbol ORDER BY rowtime) AS price, rowtime FROM ticks)",
    "(SELECT symbol, COUNT(*) AS price, TUMBLE_ROWTIME(rowtime, INTERVAL '5' SECOND) AS rowtime FROM ticks GROUP BY symbol, TUMBLE(rowtime, INTERVAL '5' SECOND))",
];

const PREDICATES: &[&str] = &[
    "a.price > 1",
    "a.symbol = 'x'",
    "a.price BETWEEN 1 AND 5",
    "a.symbol IN ('a', 'b')",
    "a.symbol IN (SELECT symbol FROM ticks)",
    "NOT EXISTS (SELECT 1 FROM orders WHERE user_id = a.symbol)",
    "FALSE",
    "a.price IS NULL",
    "a.symbol LIKE 'x%'",
    "a.price NOT IN (SELECT price FROM ticks)",
    "a.rowtime > TIMESTAMP '2024-01-01 00:00:00'",
    "a.price > (SELECT AVG(price) FROM ticks)",
    "1 = 1",
];

const CONDITIONS: &[&str] = &[
    "a.symbol = b.symbol",
    "a.symbol = b.symbol AND a.rowtime BETWEEN b.rowtime - INTERVAL '5' SECOND AND b.rowtime",
    "a.price > b.price",
    "a.rowtime = b.rowtime AND a.symbol = b.symbol",
    "a.symbol = b.symbol AND b.price > 3",
    "TRUE",
    "a.symbol IS NOT DISTINCT FROM b.symbol",
    "a.price = b.price OR a.symbol = b.symbol",
];

const AGGREGATES: &[&str] = &[
    "COUNT(*)",
    "SUM(a.price)",
    "AVG(a.price)",
    "MIN(a.symbol)",
    "LISTAGG(a.symbol)",
    "COUNT(DISTINCT a.price)",
    "SUM(a.price) FILTER (WHERE a.price > 1)",
    "MAX(a.rowtime)",
    "SUM(a.price) + COUNT(*)",
    "CASE WHEN COUNT(*) > 1 THEN MAX(a.price) END",
];

const SCALARS: &[&str] = &[
    "a.symbol",
    "a.price",
    "a.rowtime",
    "a.price * 2 AS price",
    "UPPER(a.symbol) AS symbol",
    "CAST(a.price AS STRING) AS symbol",
    "PROCTIME() AS p",
    "COALESCE(a.symbol, 'x') AS symbol",
    "ROW(a.price, a.symbol) AS r",
    "ARRAY[a.price] AS l",
    "1 AS uno",
    "ROW_NUMBER() OVER (PARTITION BY a.symbol ORDER BY a.rowtime DESC) AS n",
    "SUM(a.price) OVER (PARTITION BY a.symbol ORDER BY a.rowtime) AS total",
    "LAG(a.price) OVER (PARTITION BY a.symbol ORDER BY a.rowtime) AS before",
    "RANK() OVER (ORDER BY a.price) AS n",
];

/// Queries that mostly bind, over relations of all kinds.
fn query() -> impl Strategy<Value = String> {
    let optional = |word: &'static str, s: BoxedStrategy<String>| prop_oneof![1 => Just(String::new()), 1 => s.prop_map(move |x| format!(" {word} {x}"))];
    let lists = |items: &'static [&'static str]| prop::collection::vec(pick(items), 1..4).prop_map(|v| v.join(", "));
    let join = (pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]), pick(RELATIONS), pick(CONDITIONS))
        .prop_map(|(kind, t, on)| format!(" {kind} {t} AS b ON {on}"));
    let from = (pick(RELATIONS), prop_oneof![1 => Just(String::new()), 1 => join]).prop_map(|(t, join)| format!("{t} AS a{join}"));
    let filter = optional("WHERE", prop::collection::vec(pick(PREDICATES), 1..3).prop_map(|v| v.join(" AND ")).boxed());
    let plain = (pick(&["", "", "DISTINCT "]), prop_oneof![Just("a.*".to_string()), lists(SCALARS)], from.clone(), filter.clone())
        .prop_map(|(d, items, f, w)| format!("SELECT {d}a.symbol, {items} FROM {f}{w}"));
    let keys = pick(&[
        "a.symbol",
        "a.symbol, a.price",
        "ROLLUP (a.symbol, a.price)",
        "GROUPING SETS ((a.symbol), ())",
        "TUMBLE(a.rowtime, INTERVAL '5' SECOND), a.symbol",
        "SESSION(a.rowtime, INTERVAL '5' SECOND), a.symbol",
    ]);
    let grouped =
        (lists(AGGREGATES), from, filter, keys, optional("HAVING", pick(&["COUNT(*) > 1", "SUM(a.price) > 2", "a.symbol <> 'x'"]).boxed()))
            .prop_map(|(items, f, w, g, h)| format!("SELECT a.symbol, {items} FROM {f}{w} GROUP BY {g}{h}"));
    let select = prop_oneof![plain, grouped].boxed();
    let set = (select.clone(), pick(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT ALL"])).prop_map(|(q, op)| format!("{q} {op} {q}"));
    (prop_oneof![5 => select, 1 => set], optional("LIMIT", Just("3".to_string()).boxed())).prop_map(|(q, l)| format!("{q}{l}"))
}
