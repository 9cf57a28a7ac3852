//! Savepoints as their users meet them. Everything from files: no services.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod changes;
mod fixtures;
mod operated;
mod reading;
mod taking;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sluice_tests::engine::binary;
use tempfile::TempDir;

const ORDERS: &str = "user_id STRING, price INT, kind STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts";
const FIRST_ORDERS: &str = r#"{"user_id":"u1","price":10,"kind":"a","ts":"2024-01-01 00:00:01"}
{"user_id":"u2","price":5,"kind":"b","ts":"2024-01-01 00:00:02"}
{"user_id":"u2","price":7,"kind":"a","ts":"2024-01-01 00:00:03"}
"#;
const MORE_ORDERS: &str = r#"{"user_id":"u2","price":20,"kind":"b","ts":"2024-01-01 00:00:04"}
{"user_id":"u1","price":1,"kind":"a","ts":"2024-01-01 00:01:05"}
{"user_id":"u3","price":5,"kind":"b","ts":"2024-01-01 00:01:06"}
"#;
const FIRST_USERS: &str = "{\"id\":\"u1\",\"name\":\"Ann\",\"city\":\"Oslo\"}\n{\"id\":\"u2\",\"name\":\"Bob\",\"city\":\"Rome\"}\n";
const MORE_USERS: &str = "{\"id\":\"u3\",\"name\":\"Cid\",\"city\":\"Bern\"}\n";
/// Changes of a table with a key, as an upsert source has them.
const FIRST_PRICES: &str = r#"{"op":"+U","data":{"kind":"a","price":1,"ts":"2024-01-01 00:00:01"}}
{"op":"+U","data":{"kind":"b","price":2,"ts":"2024-01-01 00:00:02"}}
{"op":"+U","data":{"kind":"a","price":3,"ts":"2024-01-01 00:00:03"}}
"#;
const MORE_PRICES: &str = r#"{"op":"+U","data":{"kind":"a","price":4,"ts":"2024-01-01 00:01:04"}}
{"op":"-D","data":{"kind":"b","price":2,"ts":"2024-01-01 00:01:05"}}
"#;

/// Rules of a control topic, as JSON.
const FIRST_RULES: &str = r#"{"ruleId":1,"ruleState":"ACTIVE","groupingKeyNames":["user_id"],"aggregateFieldName":"price","aggregatorFunctionType":"SUM","limitOperatorType":"GREATER_EQUAL","limit":10,"windowMinutes":1}
{"ruleId":2,"ruleState":"ACTIVE","groupingKeyNames":["kind"],"aggregateFieldName":"COUNT_WITH_RESET_FLINK","aggregatorFunctionType":"SUM","limitOperatorType":"GREATER_EQUAL","limit":2,"windowMinutes":60}
"#;
const MORE_RULES: &str = r#"{"ruleId":3,"ruleState":"ACTIVE","groupingKeyNames":["kind"],"aggregateFieldName":"price","aggregatorFunctionType":"MAX","limitOperatorType":"GREATER","limit":15,"windowMinutes":1}
"#;

/// A job: declarations of sinks as (name, columns), and statements.
#[derive(Clone, Copy)]
struct Job {
    orders: &'static str,
    sinks: &'static [(&'static str, &'static str)],
    sql: &'static str,
}

const fn job(sinks: &'static [(&'static str, &'static str)], sql: &'static str) -> Job {
    Job { orders: ORDERS, sinks, sql }
}

/// Input that comes in two halves, and what comes out of each run.
struct Lab {
    dir: TempDir,
    runs: std::cell::Cell<usize>,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap(), runs: std::cell::Cell::new(0) };
        for (folder, text) in [("orders", FIRST_ORDERS), ("users", FIRST_USERS), ("prices", FIRST_PRICES), ("rules", FIRST_RULES)] {
            std::fs::create_dir(lab.path(folder)).unwrap();
            std::fs::write(lab.path(folder).join("1.json"), text).unwrap();
        }
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn more_input(&self) {
        for (folder, text) in [("orders", MORE_ORDERS), ("users", MORE_USERS), ("prices", MORE_PRICES), ("rules", MORE_RULES)] {
            std::fs::write(self.path(folder).join("2.json"), text).unwrap();
        }
    }

    /// The script's file; its sinks write into folders of this run alone.
    fn script(&self, job: Job) -> PathBuf {
        let run = self.runs.get() + 1;
        self.runs.set(run);
        let mut text = String::new();
        let mut table = |name: &str, columns: &str, path: PathBuf, format: &str| {
            text.push_str(&format!(
                "CREATE TABLE {name} ({columns}) WITH ('connector'='filesystem', 'path'='{}', 'format'='{format}');\n",
                path.display()
            ));
        };
        table("orders", job.orders, self.path("orders"), "json");
        table("users", "id STRING, name STRING, city STRING", self.path("users"), "json");
        let prices = "kind STRING, price INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts, PRIMARY KEY (kind) NOT ENFORCED";
        table("prices", prices, self.path("prices"), "changelog-json', 'changelog-json.changelog-mode'='upsert");
        table("rules", "rule STRING", self.path("rules"), "raw");
        for (name, columns) in job.sinks {
            table(name, columns, self.path(&format!("out-{run}-{name}")), "changelog-json");
        }
        text.push_str(job.sql);
        let file = self.path(&format!("{run}.sql"));
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Rows that the last script wrote into a sink, as `+U 1 a`, sorted.
    fn rows(&self, sink: &str) -> Vec<String> {
        self.rows_of(self.runs.get(), sink)
    }

    fn rows_of(&self, run: usize, sink: &str) -> Vec<String> {
        let folder = self.path(&format!("out-{run}-{sink}"));
        let mut rows = vec![];
        for file in std::fs::read_dir(folder).into_iter().flatten() {
            for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                let cell = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                let cells: Vec<String> = row["data"].as_object().unwrap().values().map(cell).collect();
                rows.push(format!("{} {}", row["op"].as_str().unwrap(), cells.join(" ")));
            }
        }
        rows.sort();
        rows
    }
}

fn sluice(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn succeed(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
