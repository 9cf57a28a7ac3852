//! What only the whole program shows: changes that Debezium has captured, and requests to a web server.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice_tests::engine::Run;
use sluice_tests::web::{self, Answer};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// What Debezium's PostgreSQL connector writes of a table: a snapshot, changes, a deletion and its tombstone.
fn captured() -> Vec<Option<Value>> {
    let change = |op: &str, before: Value, after: Value| {
        Some(json!({"before": before, "after": after, "op": op, "ts_ms": 1_700_000_000_000_i64, "transaction": null,
            "source": {"version": "3.0.0.Final", "connector": "postgresql", "db": "shop", "schema": "public", "table": "orders", "lsn": 24023128}}))
    };
    let row = |id: i32, item: &str, price: i32| json!({"id": id, "item": item, "price": price});
    vec![
        change("r", Value::Null, row(1, "tea", 10)),
        change("c", Value::Null, row(2, "cake", 5)),
        change("u", row(1, "tea", 10), row(1, "tea", 12)),
        change("c", Value::Null, row(3, "tea", 7)),
        change("d", row(2, "cake", 5), Value::Null),
        None,
    ]
}

/// With and without the schema that Kafka Connect's JsonConverter puts around each record.
pub fn captured_changes_are_a_table() {
    for with_schema in [false, true] {
        let topic = topic("captured");
        let value = |change: Value| if with_schema { json!({"schema": {"type": "struct"}, "payload": change}) } else { change };
        let record = |change: Option<Value>| Record {
            topic: topic.clone(),
            timestamp: 1,
            value: change.map(|c| value(c).to_string().into_bytes()),
            ..Record::default()
        };
        topics::create(&servers(), &[(topic.clone(), 1)]);
        topics::produce(&servers(), &captured().into_iter().map(record).collect::<Vec<_>>());
        let orders = format!(
            "CREATE TABLE orders (id INT, item STRING, price INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'kafka', \
             'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'scan.startup.mode' = 'earliest-offset', \
             'format' = 'debezium-json', 'debezium-json.schema-include' = '{with_schema}');",
            servers()
        );
        let changes = |query: &str| -> Vec<(String, Value)> {
            let output = Run::script(&format!("{orders}\n{query};"), &["--bounded", "--output", "changelog-json"]).wait(DEADLINE);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().map(line).map(|mut v| (v["op"].as_str().unwrap().to_owned(), v["data"].take())).collect()
        };
        let row = |op: &str, id: i32, item: &str, price: i32| (op.to_owned(), json!({"id": id, "item": item, "price": price}));
        let expected = [
            row("+I", 1, "tea", 10),
            row("+I", 2, "cake", 5),
            row("-U", 1, "tea", 10),
            row("+U", 1, "tea", 12),
            row("+I", 3, "tea", 7),
            row("-D", 2, "cake", 5),
        ];
        assert_eq!(changes("SELECT * FROM orders"), expected, "schema: {with_schema}");
        let mut sums = std::collections::BTreeMap::new();
        for (op, data) in changes("SELECT item, SUM(price) AS total FROM orders GROUP BY item") {
            let item = data["item"].as_str().unwrap().to_owned();
            match op.as_str() {
                "+I" | "+U" => drop(sums.insert(item, data["total"].as_i64().unwrap())),
                _ => drop(sums.remove(&item)),
            }
        }
        assert_eq!(sums.into_iter().collect::<Vec<_>>(), [("tea".to_owned(), 19)], "what was deleted is in no sum");
    }
}

/// Each row is a request, in order; what may pass is tried again; and a header that is a secret is in no message.
pub fn rows_are_requests() {
    let (taken, calls) = (Arc::new(Mutex::new(vec![])), Mutex::new(0));
    let seen = taken.clone();
    let url = web::start("127.0.0.1", move |request| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        let status = if *calls == 2 { 503 } else { 200 };
        if status == 200 {
            seen.lock().unwrap().push((request.line.clone(), request.header("x-key").to_owned(), request.body.clone()));
        }
        Answer { status, headers: vec![], body: String::new() }
    });
    let script = |url: &str| {
        format!(
            "CREATE TABLE numbers (id INT) WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', 'fields.id.start' = '1', \
             'fields.id.end' = '3');
             CREATE TABLE hook (id INT, name STRING) WITH ('connector' = 'http', 'url' = '{url}/hook?of=1', 'method' = 'PUT', \
             'format' = 'json', 'header.X-Key' = 'hush-hush', 'sink.retry.backoff' = '10 ms', 'sink.max-retries' = '2');
             INSERT INTO hook SELECT id, 'number ' || CAST(id AS STRING) FROM numbers;"
        )
    };
    let output = Run::script(&script(&url), &[]).wait(DEADLINE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = (1..=3)
        .map(|id| ("PUT /hook?of=1 HTTP/1.1".to_owned(), "hush-hush".to_owned(), format!("{{\"id\":{id},\"name\":\"number {id}\"}}")));
    assert_eq!(*taken.lock().unwrap(), expected.collect::<Vec<_>>());

    let refused = web::start("127.0.0.1", |_| Answer { status: 403, headers: vec![], body: "not you".into() });
    let output = Run::script(&script(&refused), &[]).wait(DEADLINE);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("HTTP 403") && said.contains("not you") && !said.contains("hush-hush"), "{said}");
}
