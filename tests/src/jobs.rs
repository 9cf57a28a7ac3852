//! Jobs with state whose committed output is known, for tests that interrupt them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::process::Output;
use std::sync::OnceLock;
use std::time::Duration;

use sluice_state::{file, storage};

use crate::engine::Run;
use crate::topics::{self, Record};

static BOOTSTRAP: OnceLock<String> = OnceLock::new();
/// Enough for some twenty batches, so that a run commits often.
pub const ROWS: i64 = 50_000;
/// How long a run may take on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The broker that the jobs of this process read and write. Once.
pub fn use_broker(bootstrap: &str) {
    BOOTSTRAP.set(bootstrap.to_owned()).expect("set once");
}

pub fn bootstrap() -> &'static str {
    BOOTSTRAP.get().expect("main has set it")
}

pub struct Job {
    pub name: &'static str,
    /// Columns of the table `out`, with its key if it has one.
    pub columns: &'static str,
    pub key: &'static str,
    pub query: &'static str,
}

pub const JOBS: &[Job] = &[
    Job {
        name: "group-aggregate",
        columns: "k INT, n BIGINT, total BIGINT, most BIGINT, PRIMARY KEY (k) NOT ENFORCED",
        key: "k",
        query: "SELECT k, COUNT(*), SUM(v), MAX(v) FROM a GROUP BY k",
    },
    Job {
        name: "tumbling-window",
        columns: "k INT, w TIMESTAMP(3), n BIGINT, total BIGINT",
        key: "",
        query: "SELECT k, window_start, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(t), INTERVAL '1' SECOND)) \
                GROUP BY k, window_start, window_end",
    },
    Job { name: "join", columns: "k INT, v BIGINT, x BIGINT", key: "", query: "SELECT a.k, a.v, b.x FROM a JOIN b ON a.v = b.v" },
    Job {
        name: "match-recognize",
        columns: "k INT, first_v BIGINT, last_v BIGINT, n BIGINT",
        key: "",
        query: "SELECT * FROM a MATCH_RECOGNIZE (PARTITION BY k ORDER BY t MEASURES FIRST(u.v) AS first_v, LAST(d.v) AS last_v, \
                COUNT(u.v) AS n AFTER MATCH SKIP PAST LAST ROW PATTERN (u{2,} d) \
                DEFINE u AS MOD(u.v, 7) < 4, d AS MOD(d.v, 7) >= 4)",
    },
    Job {
        name: "rules",
        columns: "rule_id INT, k STRING, v BIGINT, total DECIMAL(38, 6)",
        key: "",
        query: "SELECT rule_id, grouping_key, triggering_event.v, triggering_value \
                FROM EVALUATE_RULES(data => TABLE a, rules => TABLE rules, on_time => DESCRIPTOR(t))",
    },
];

pub fn unique(name: &str) -> String {
    format!("crash-{name}-{:08x}", rand::random::<u32>())
}

/// Sums, a count that begins anew, and the greatest of all; their windows end while the rows come.
const RULES: &[&str] = &[
    r#"{"ruleId":1,"ruleState":"ACTIVE","groupingKeyNames":["k"],"aggregateFieldName":"v","aggregatorFunctionType":"SUM","limitOperatorType":"GREATER","limit":14000000,"windowMinutes":1}"#,
    r#"{"ruleId":2,"ruleState":"ACTIVE","groupingKeyNames":["k"],"aggregateFieldName":"COUNT_WITH_RESET_FLINK","aggregatorFunctionType":"SUM","limitOperatorType":"GREATER_EQUAL","limit":20,"windowMinutes":2}"#,
    r#"{"ruleId":3,"ruleState":"ACTIVE","groupingKeyNames":["k"],"aggregateFieldName":"v","aggregatorFunctionType":"AVG","limitOperatorType":"LESS","limit":900,"windowMinutes":1}"#,
];

/// Topics `a` (two partitions, a key in one of them, time goes on by 5 ms a row) and `b` (a row for every third of `a`), and rules that are
/// there from the beginning.
pub struct Input {
    bootstrap: String,
    a: String,
    b: String,
    rules: String,
}

impl Input {
    /// No rows yet.
    pub fn new(bootstrap: &str) -> Self {
        let (a, b, rules) = (unique("a"), unique("b"), unique("rules"));
        topics::create(bootstrap, &[(a.clone(), 2), (b.clone(), 1), (rules.clone(), 1)]);
        let rule = |text: &&str| Record { topic: rules.clone(), timestamp: 1, value: Some((*text).into()), ..Record::default() };
        topics::produce(bootstrap, &RULES.iter().map(rule).collect::<Vec<_>>());
        Self { bootstrap: bootstrap.to_owned(), a, b, rules }
    }

    /// Further rows, which follow upon those that are there.
    pub fn fill(&self, rows: Range<i64>) {
        let time = |i: i64| format!("1970-01-01 00:{:02}:{:02}.{:03}", i * 5 / 60_000, i * 5 / 1000 % 60, i * 5 % 1000);
        let record = |topic: &String, partition: i64, value: String| Record {
            topic: topic.clone(),
            partition: partition as i32,
            timestamp: 1,
            value: Some(value.into_bytes()),
            ..Record::default()
        };
        let left = |i: i64| {
            let k = i * 7 % 40;
            record(&self.a, k % 2, format!(r#"{{"k":{k},"v":{i},"t":"{}"}}"#, time(i)))
        };
        topics::produce(&self.bootstrap, &rows.clone().map(left).collect::<Vec<_>>());
        let right = |i: i64| record(&self.b, 0, format!(r#"{{"v":{},"x":{i}}}"#, i * 3));
        topics::produce(&self.bootstrap, &(rows.start / 3..rows.end / 3).map(right).collect::<Vec<_>>());
    }

    /// A script that reads it by way of `bootstrap`, writes to the topic `to` exactly once, and commits often. `options`: of all tables.
    pub fn script(&self, bootstrap: &str, job: &Job, to: &str, options: &str, settings: &[(&str, &str)]) -> String {
        self.guaranteed(bootstrap, job, to, "exactly-once", options, settings)
    }

    fn guaranteed(&self, bootstrap: &str, job: &Job, to: &str, guarantee: &str, options: &str, settings: &[(&str, &str)]) -> String {
        let all = format!("'properties.bootstrap.servers' = '{bootstrap}'{options}");
        let source = |topic: &str| {
            format!("'connector' = 'kafka', 'topic' = '{topic}', {all}, 'format' = 'json', 'scan.startup.mode' = 'earliest-offset'")
        };
        // Rows wait for the rules, which end.
        let rules = source(&self.rules).replace("'json'", "'raw'") + ", 'scan.bounded.mode' = 'latest-offset'";
        let sink = match job.key {
            "" => "'connector' = 'kafka', 'format' = 'json'",
            _ => "'connector' = 'upsert-kafka', 'key.format' = 'json', 'value.format' = 'json'",
        };
        let set = |(key, value): &(&str, &str)| format!("SET '{key}' = '{value}';\n");
        format!(
            "SET 'execution.checkpointing.interval' = '15 ms'; SET 'pipeline.name' = '{to}';\n{}\
             CREATE TABLE a (k INT, v BIGINT, t TIMESTAMP(3), WATERMARK FOR t AS t) WITH ({});\n\
             CREATE TABLE b (v BIGINT, x BIGINT) WITH ({});\n\
             CREATE TABLE rules (rule STRING) WITH ({rules});\n\
             CREATE TABLE result ({}) WITH ({sink}, 'topic' = '{to}', {all}, 'sink.delivery-guarantee' = '{guarantee}', \
             'sink.transactional-id-prefix' = 'crash');\n\
             INSERT INTO result {};",
            settings.iter().map(set).collect::<String>(),
            source(&self.a),
            source(&self.b),
            job.columns,
            job.query,
        )
    }
}

/// [`ROWS`] rows, made once.
pub fn input() -> &'static Input {
    static INPUT: OnceLock<Input> = OnceLock::new();
    INPUT.get_or_init(|| {
        let input = Input::new(bootstrap());
        input.fill(0..ROWS);
        input
    })
}

/// A script over [`input`].
pub fn script(job: &Job, to: &str, guarantee: &str, settings: &[(&str, &str)]) -> String {
    input().guaranteed(bootstrap(), job, to, guarantee, "", settings)
}

pub fn created(name: &str) -> String {
    let topic = unique(name);
    topics::create(bootstrap(), &[(topic.clone(), 2)]);
    topic
}

/// By key the values in order where there is a key; else all values, sorted.
pub fn content(topic: &str) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut content: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for r in topics::committed(bootstrap(), topic) {
        content.entry(r.key.unwrap_or_default()).or_default().push(r.value.unwrap_or_default());
    }
    if let Some(values) = content.get_mut(&vec![]) {
        values.sort();
    }
    content
}

pub fn assert_same(got: &BTreeMap<Vec<u8>, Vec<Vec<u8>>>, wanted: &BTreeMap<Vec<u8>, Vec<Vec<u8>>>, what: &str) {
    let text = |rows: &[Vec<u8>]| rows.iter().take(4).map(|v| String::from_utf8_lossy(v).into_owned()).collect::<Vec<_>>();
    for (key, values) in wanted {
        let found = got.get(key).map_or(&[][..], Vec::as_slice);
        let at = values.iter().zip(found).position(|(w, f)| w != f).unwrap_or(values.len().min(found.len()));
        assert!(
            values == found,
            "{what}: key {}: {} rows instead of {}; at {at}: {:?} instead of {:?}",
            String::from_utf8_lossy(key),
            found.len(),
            values.len(),
            text(&found[at.min(found.len())..]),
            text(&values[at..])
        );
    }
    assert_eq!(got.len(), wanted.len(), "{what}: keys that should not be there");
}

pub fn ended_well(output: &Output, what: &str) {
    assert_eq!(output.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What an uninterrupted run over [`input`] gives.
pub fn reference(job: &Job) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    reference_of(input(), job)
}

/// What an uninterrupted run gives.
pub fn reference_of(input: &Input, job: &Job) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let to = created(job.name);
    let output = Run::script(&input.script(bootstrap(), job, &to, "", &[]), &["--bounded"]).wait(DEADLINE);
    ended_well(&output, job.name);
    let content = content(&to);
    let rows: usize = content.values().map(Vec::len).sum();
    assert!(rows > 500, "{}: only {rows} rows", job.name);
    content
}

/// All files are named by the newest one.
pub fn assert_no_garbage(state: &Path, pipeline: &str, what: &str) {
    let storage = storage::open(&state.display().to_string(), pipeline, &Default::default()).unwrap();
    let files: BTreeSet<String> = storage.list().unwrap().into_iter().map(|(name, _)| name).filter(|n| n != "commit.json").collect();
    let headers = files.iter().map(|name| (name, file::decode(storage.read(name).unwrap().unwrap()).unwrap().0));
    let Some((name, newest)) = headers.max_by_key(|(_, h)| (h.epoch, h.before.len())) else { return };
    let named: BTreeSet<String> = newest.before.into_iter().chain([name.clone()]).collect();
    assert_eq!(files, named, "{what}");
}
