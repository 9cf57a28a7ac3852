//! Whether an answer is the golden one, in the way that the case's README asks for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// How to compare: `compare:` of a case's README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The same sequence.
    Exact,
    /// The same rows in any order.
    Multiset,
    /// The same sequence for each key of a topic; a tombstone right before a value of its key may be left out.
    ByKey,
    /// The same rows when the changelog has been folded.
    Final,
    /// It must fail.
    Error,
}

impl Mode {
    pub fn parse(name: &str) -> Self {
        match name {
            "exact" => Self::Exact,
            "multiset" => Self::Multiset,
            "by-key" => Self::ByKey,
            "final" => Self::Final,
            "error" => Self::Error,
            other => panic!("unknown comparison '{other}'"),
        }
    }
}

impl Mode {
    /// The same for several tasks: what is of different keys comes in any order.
    pub fn of_tasks(self, want: &[Value]) -> Self {
        match self {
            Self::Exact if want.iter().any(|r| r["op"].as_str().is_some_and(|op| op != "+I")) => Self::Final,
            Self::Exact if want.iter().any(|r| r["key"].is_string()) => Self::ByKey,
            Self::Exact => Self::Multiset,
            other => other,
        }
    }
}

/// Compares two sequences of records (`{"topic","key","value"}` or `{"op","row"}`); the error shows what is missing and what is too much.
pub fn compare(mode: Mode, want: &[Value], got: &[Value]) -> Result<(), String> {
    let (want, got) = (view(mode, want), view(mode, got));
    if want == got {
        return Ok(());
    }
    let count = |records: &[String]| {
        let mut counts = BTreeMap::<String, i64>::new();
        records.iter().for_each(|r| *counts.entry(r.clone()).or_default() += 1);
        counts
    };
    let (w, g) = (count(&want), count(&got));
    let only = |a: &BTreeMap<String, i64>, b: &BTreeMap<String, i64>, sign: char| {
        let rows = a.iter().filter(|(r, n)| **n > b.get(*r).copied().unwrap_or(0));
        rows.take(4).map(|(r, _)| format!("\n  {sign} {}", r.chars().take(400).collect::<String>())).collect::<String>()
    };
    let difference = only(&w, &g, '-') + &only(&g, &w, '+');
    let difference = if difference.is_empty() { "\n  same rows in another order".to_owned() } else { difference };
    Err(format!("{} records expected, {} given:{difference}", want.len(), got.len()))
}

fn view(mode: Mode, records: &[Value]) -> Vec<String> {
    let records: Vec<Value> = records.iter().filter(|r| r.get("columns").is_none()).map(normalise).collect();
    let text = |r: &Value| r.to_string();
    match mode {
        Mode::Exact => records.iter().map(text).collect(),
        Mode::Multiset => sorted(records.iter().map(text)),
        Mode::ByKey => by_key(&records),
        Mode::Final => folded(&records),
        Mode::Error => vec![],
    }
}

fn sorted(rows: impl Iterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}

fn by_key(records: &[Value]) -> Vec<String> {
    let mut keys = BTreeMap::<String, Vec<&Value>>::new();
    for record in records {
        let sequence = keys.entry(json!([record["topic"], record["key"]]).to_string()).or_default();
        if !record["value"].is_null() && sequence.last().is_some_and(|last| last["value"].is_null()) {
            sequence.pop();
        }
        sequence.push(record);
    }
    keys.into_values().flatten().map(Value::to_string).collect()
}

fn folded(records: &[Value]) -> Vec<String> {
    let (mut rows, mut table) = (BTreeMap::<String, i64>::new(), BTreeMap::<String, String>::new());
    for record in records {
        if let Some(op) = record["op"].as_str() {
            *rows.entry(record["row"].to_string()).or_default() += if op.starts_with('+') { 1 } else { -1 };
        } else {
            let key = json!([record["topic"], record["key"]]).to_string();
            if record["value"].is_null() {
                table.remove(&key)
            } else {
                table.insert(key, record.to_string())
            };
        }
    }
    let rows = rows.into_iter().filter(|(_, n)| *n != 0).map(|(row, n)| format!("{n} x {row}"));
    rows.chain(table.into_values()).collect()
}

/// JSON text is parsed, keys are sorted, numbers are rounded to 12 digits so that 1, 1.0 and 1.00 are equal.
fn normalise(value: &Value) -> Value {
    match value {
        Value::String(s) if s.starts_with(['{', '[']) => serde_json::from_str::<Value>(s).map_or_else(|_| value.clone(), |v| normalise(&v)),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) if i.unsigned_abs() > 1_000_000_000_000_000 => value.clone(),
            (_, Some(f)) => json!(format!("{f:.11e}")),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(normalise).collect(),
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().filter(|(k, _)| *k != "schema").collect();
            Value::Object(sorted.into_iter().map(|(k, v)| (k.clone(), normalise(v))).collect::<Map<_, _>>())
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(op: &str, row: i32) -> Value {
        json!({"op": op, "row": [row]})
    }

    #[test]
    fn modes_differ_in_what_they_forgive() {
        let (a, b) = ([change("+I", 1), change("+I", 2)], [change("+I", 2), change("+I", 1)]);
        assert!(compare(Mode::Exact, &a, &b).is_err());
        assert!(compare(Mode::Multiset, &a, &b).is_ok());
        let updated = [change("+I", 2), change("+I", 3), change("-U", 3), change("+U", 1)];
        assert!(compare(Mode::Multiset, &a, &updated).is_err());
        assert!(compare(Mode::Final, &a, &updated).is_ok());
        assert!(compare(Mode::Final, &a, &updated[..3]).is_err());
    }

    #[test]
    fn a_tombstone_before_its_keys_value_is_optional() {
        let record = |key: &str, value: Value| json!({"topic": "t", "key": key, "value": value});
        let with = [record("a", json!("1")), record("a", Value::Null), record("b", json!("9")), record("a", json!("2"))];
        let without = [record("b", json!("9")), record("a", json!("1")), record("a", json!("2"))];
        assert!(compare(Mode::ByKey, &with, &without).is_ok());
        assert!(compare(Mode::ByKey, &with, &without[..2]).is_err());
    }

    #[test]
    fn json_is_compared_parsed() {
        let value = |text: &str| [json!({"topic": "t", "key": null, "value": text})];
        assert!(compare(Mode::Exact, &value(r#"{"a":1.0,"b":2}"#), &value(r#"{"b":2,"a":1}"#)).is_ok());
        assert!(compare(Mode::Exact, &value(r#"{"a":1.0,"b":2}"#), &value(r#"{"a":1.0,"b":3}"#)).is_err());
    }
}
