//! What Flink rejects is rejected, and what it accepts is accepted (`tests/golden/errors.jsonl`), but for the cases listed here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;

const TABLES: &str = include_str!("errors/tables.sql");

/// Where Sluice is not to do as Flink does: the statement's beginning, and why.
const DIFFERENT: &[(&str, &str)] = &[("CREATE TABLE pizzas_aggs (id INT PRIMARY KEY,", "the seeds use it: taken as NOT ENFORCED")];

#[test]
fn as_flink_decides() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/errors.jsonl");
    let tables = common::catalog(TABLES);
    let mut wrong = vec![];
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let sql = case["sql"].as_str().unwrap();
        let accepted = case["error"].is_null() || DIFFERENT.iter().any(|(start, _)| sql.starts_with(start));
        match (common::plan_with(&mut tables.clone(), sql), accepted) {
            (Ok(_), false) => wrong.push(format!("accepted: {sql}\n   Flink: {}", case["error"])),
            (Err(e), true) => wrong.push(format!("rejected: {sql}\n   {e}")),
            (Err(e), false) if !e.span().is_known() => wrong.push(format!("no place: {sql}\n   {e}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
