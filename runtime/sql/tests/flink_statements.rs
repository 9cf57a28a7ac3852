//! Every statement that Flink's parser was seen to take must parse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sluice_sql::ast::Statement;
use sluice_sql::parser::parse_script;

/// Title and text of each statement: a title is a comment line after a blank one.
fn statements() -> Vec<(&'static str, &'static str)> {
    let text = include_str!("flink-statements.sql");
    text.split("\n\n-- ").skip(1).map(|block| block.split_once('\n').unwrap()).collect()
}

/// Listed as accepted, but Flink 2.2 was seen to reject it (`golden/errors.jsonl`): double quotes quote nothing.
const REJECTED: &str = "double-quoted str";

#[test]
fn all_parse() {
    let all = statements();
    assert_eq!(all.len(), 154);
    let mut failures = Vec::new();
    for (title, text) in &all {
        match parse_script(text) {
            Ok(parsed) if parsed.len() == 1 => {}
            Ok(parsed) => failures.push(format!("{title}: {} statements", parsed.len())),
            Err(e) if *title == REJECTED => assert!(e.hint_text().is_some_and(|h| h.contains("write `x` for a name")), "{e}"),
            Err(e) => failures.push(format!("{title}: {e}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What is accepted but cannot run, so that nothing becomes unsupported (or supported) unnoticed.
#[test]
fn unsupported() {
    let mut found = Vec::new();
    for (title, text) in statements() {
        for (statement, _) in parse_script(text).unwrap_or_default() {
            if let Statement::Unsupported { what, span } = statement {
                assert!(span.is_known(), "{title}");
                found.push(what);
            }
        }
    }
    let expected = [
        "the type RAW",
        "CREATE FUNCTION",
        "CREATE SYSTEM FUNCTION",
        "CREATE CATALOG",
        "USE",
        "CREATE DATABASE",
        "ALTER",
        "ADD JAR",
        "COMPILE",
        "LEFT SEMI JOIN",
        "ANALYZE TABLE",
        "CREATE MODEL",
        "CREATE MATERIALIZED TABLE",
        "a MODEL argument",
        "CALL",
    ];
    assert_eq!(found, expected);
}
