//! A golden case: its folder, its input in Kafka, a run of the engine, and what came out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::avro;
use crate::compare::{Mode, compare};
use crate::engine::Run;
use crate::services::Services;
use crate::topics::{self, Read, Reader, Record};

/// A folder of `tests/golden`.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub mode: Mode,
    /// Records are produced only when the job runs.
    produce_after: bool,
    /// Whether a savepoint in the middle changes nothing.
    restorable: bool,
    /// Whether the order in which several tasks' rows meet changes nothing.
    divisible: bool,
    /// Whether several tasks may read the input from several partitions.
    spread: bool,
    dir: PathBuf,
}

/// Which of a case's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Up to the offsets that are the latest at the start; the end of input sends the final watermark.
    Bounded,
    /// The job stays up and is ended when nothing more comes.
    Streaming,
    /// Half of the input, a savepoint, and from it the rest: both outputs together are those of the bounded run.
    Restored,
    /// As bounded, by three tasks.
    Parallel,
    /// A third of the input by one task, a third by three, the rest by two, with savepoints between them.
    Rescaled,
}

impl Kind {
    /// Parts of the input, as thirds or halves of it, and by how many tasks each is read.
    fn runs(self) -> &'static [usize] {
        match self {
            Kind::Bounded | Kind::Streaming => &[1],
            Kind::Restored => &[1, 1],
            Kind::Parallel => &[3],
            Kind::Rescaled => &[1, 3, 2],
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(60);
/// A streaming run is over when its output has not grown for so long.
const QUIET: Duration = Duration::from_millis(1500);

/// All cases.
pub fn all() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut cases: Vec<Case> =
        std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).map(|p| Case::open(&p)).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    fn open(dir: &Path) -> Self {
        let readme = std::fs::read_to_string(dir.join("README")).unwrap();
        let field = |name: &str| readme.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
        Self {
            name: dir.file_name().unwrap().to_string_lossy().into_owned(),
            mode: Mode::parse(field("compare:").unwrap().split_whitespace().next().unwrap()),
            produce_after: field("produce:").as_deref() == Some("after"),
            spread: field("partitions:").is_none(),
            divisible: field("tasks:").is_none(),
            restorable: field("restored:").is_none(),
            dir: dir.to_owned(),
        }
    }

    /// Whether Flink's answer to such a run is there.
    pub fn has(&self, kind: Kind) -> bool {
        let produced = !self.produce_after || kind == Kind::Streaming;
        let restored = self.restorable || kind.runs().len() == 1;
        let divided = self.divisible || kind.runs().iter().all(|tasks| *tasks == 1);
        self.golden(kind).exists() && produced && restored && divided
    }

    fn golden(&self, kind: Kind) -> PathBuf {
        self.dir.join(if kind == Kind::Streaming { "output.jsonl" } else { "output.bounded.jsonl" })
    }

    /// Runs the case on real services; the error says what is wrong.
    ///
    /// Topics get a prefix so that cases do not meet.
    pub fn run(&self, services: &Services, kind: Kind) -> Result<(), String> {
        let prefix = format!("{}.{kind:?}.", self.name).to_lowercase();
        let sql = std::fs::read_to_string(self.dir.join("query.sql")).unwrap();
        let (sql, names) = prefix_topics(&sql, &prefix);
        let mut records = self.input(services, &prefix);
        if kind.runs().iter().any(|tasks| *tasks > 1) && self.spread {
            spread(&mut records);
        }
        let records = records;
        let mut partitions: BTreeMap<String, i32> = names.into_iter().map(|n| (n, 1)).collect();
        for record in &records {
            let n = partitions.entry(record.topic.clone()).or_insert(1);
            *n = (*n).max(record.partition + 1);
        }
        topics::create(&services.bootstrap, &partitions.clone().into_iter().collect::<Vec<_>>());
        let outputs: Vec<String> = partitions.into_keys().filter(|t| !records.iter().any(|r| r.topic == *t)).collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("query.sql");
        std::fs::write(&file, sql).unwrap();
        let want = read_jsonl(&self.golden(kind));
        let savepoint = |run: usize| dir.path().join(format!("savepoint-{run}")).to_string_lossy().into_owned();
        let runs = kind.runs();
        let mut got = vec![];
        for (run, tasks) in runs.iter().enumerate() {
            if !self.produce_after {
                topics::produce(&services.bootstrap, &records[records.len() * run / runs.len()..records.len() * (run + 1) / runs.len()]);
            }
            let mut further = vec!["--parallelism".to_owned(), tasks.to_string()];
            if run > 0 {
                further.extend(["--restore-from".to_owned(), savepoint(run - 1)]);
            }
            if run + 1 < runs.len() {
                further.extend(["--savepoint-at-end".to_owned(), savepoint(run)]);
            }
            let further: Vec<&str> = further.iter().map(String::as_str).collect();
            let given = self.answer(services, kind, &file, &outputs, &records, &want, &further)?;
            // Topics are read from their start each time; what was printed adds up.
            got = if outputs.is_empty() { got.into_iter().chain(given).collect() } else { given };
        }
        if self.mode == Mode::Error {
            return Ok(());
        }
        let text = serde_json::to_string(&got).unwrap().replace(&prefix, "");
        let mode = if runs.iter().any(|tasks| *tasks > 1) { self.mode.of_tasks(&want) } else { self.mode };
        compare(mode, &want, &serde_json::from_str::<Vec<Value>>(&text).unwrap())
    }

    fn input(&self, services: &Services, prefix: &str) -> Vec<Record> {
        let mut schemas = BTreeMap::<String, (Value, u32)>::new();
        let mut records = vec![];
        for line in read_jsonl(&self.dir.join("input.jsonl")) {
            let topic = format!("{prefix}{}", line["topic"].as_str().unwrap());
            if let Some(schema) = line.get("avro_schema") {
                let id = avro::register(&services.registry, &topic, schema);
                schemas.insert(topic, (schema.clone(), id));
                continue;
            }
            let value = match &line["value"] {
                Value::Null => None,
                Value::String(text) => Some(text.clone().into_bytes()),
                object => {
                    let (schema, id) = &schemas[&topic];
                    Some(avro::encode(schema, *id, object))
                }
            };
            let headers = line.get("headers").and_then(Value::as_object).into_iter().flatten();
            records.push(Record {
                topic,
                partition: line.get("partition").and_then(Value::as_i64).unwrap_or(0) as i32,
                timestamp: line["ts"].as_i64().unwrap(),
                key: line["key"].as_str().map(|k| k.as_bytes().to_vec()),
                value,
                headers: headers.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect(),
            });
        }
        records
    }

    /// Runs the engine and answers what it wrote, in the goldens' form.
    fn answer(
        &self,
        services: &Services,
        kind: Kind,
        file: &Path,
        outputs: &[String],
        records: &[Record],
        want: &[Value],
        further: &[&str],
    ) -> Result<Vec<Value>, String> {
        let (kafka, registry) = (format!("KAFKA={}", services.bootstrap), format!("REGISTRY={}", services.registry));
        let file = file.to_string_lossy();
        let mut args = vec!["run", &file, "--var", &kafka, "--var", &registry, "--output", "changelog-json"];
        let postgres =
            std::fs::read_to_string(&*file).unwrap().contains("${POSTGRES}").then(|| format!("POSTGRES={}", services.postgres().url()));
        if let Some(postgres) = &postgres {
            args.extend(["--var", postgres]);
        }
        if kind != Kind::Streaming {
            args.push("--bounded");
        }
        args.extend(further);
        let port = crate::services::free_port();
        let http = format!("127.0.0.1:{port}");
        args.extend(["--http", &http]);
        let mut run = Run::start(&args);
        let reader = Reader::new(&services.bootstrap, outputs);
        if kind == Kind::Streaming {
            if self.produce_after {
                wait_ready(&mut run, &http);
                topics::produce(&services.bootstrap, records);
            }
            wait_quiet(&mut run, &reader, &http, want.len());
        }
        let output = if kind == Kind::Streaming { run.stop(DEADLINE) } else { run.wait(DEADLINE) };
        let failed = !output.status.success();
        if failed != (self.mode == Mode::Error) {
            return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
        }
        if outputs.is_empty() {
            let texts = text_columns(want);
            let changes = String::from_utf8_lossy(&output.stdout);
            return Ok(changes.lines().filter(|l| l.starts_with('{')).map(|l| change(l, &texts)).collect());
        }
        Ok(reader.read(reader.available()).into_iter().map(record).collect())
    }
}

/// Over three partitions, records of a key in one.
fn spread(records: &mut [Record]) {
    for (at, record) in records.iter_mut().enumerate() {
        let sum = record.key.as_ref().map(|k| k.iter().map(|b| usize::from(*b)).sum());
        record.partition = (sum.unwrap_or(at) % 3) as i32;
    }
}

fn read_jsonl(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|l| !l.is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Puts a prefix before every topic of a script; answers their names.
fn prefix_topics(sql: &str, prefix: &str) -> (String, Vec<String>) {
    let (mut out, mut names, mut rest) = (String::new(), vec![], sql);
    while let Some(at) = rest.find("'topic'") {
        let behind = at + "'topic'".len();
        if !rest[behind..].trim_start().starts_with('=') {
            out.push_str(&rest[..behind]);
            rest = &rest[behind..];
            continue;
        }
        let value = behind + rest[behind..].find('\'').unwrap() + 1;
        let end = value + rest[value..].find('\'').unwrap();
        out.push_str(&rest[..value]);
        out.push_str(prefix);
        names.push(format!("{prefix}{}", &rest[value..end]));
        rest = &rest[value..];
    }
    out.push_str(rest);
    names.sort();
    names.dedup();
    (out, names)
}

fn wait_ready(run: &mut Run, http: &str) {
    let url = format!("http://{http}/readyz");
    crate::services::wait_until("the job", DEADLINE, || run.ended() || ureq::get(&url).call().is_ok());
}

/// Waits until the output has all that is expected, or has stopped growing; and then a little for what should not come.
fn wait_quiet(run: &mut Run, reader: &Reader, http: &str, want: usize) {
    wait_ready(run, http);
    let progress = |run: &mut Run| if run.ended() { usize::MAX } else { reader.available().max(rows_out(http)) };
    let (started, mut last, mut since) = (Instant::now(), 0, Instant::now());
    while started.elapsed() < DEADLINE && since.elapsed() < QUIET {
        let now = progress(run);
        if now == usize::MAX {
            return;
        }
        if now != last || (now < want && started.elapsed() < QUIET * 3) {
            (last, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn rows_out(http: &str) -> usize {
    let Ok(mut answer) = ureq::get(format!("http://{http}/metrics")).call() else {
        return 0;
    };
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("sluice_rows_out_total "));
    line.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Which columns of a golden are text, by its header (`{"columns": ["s VARCHAR", …]}`).
fn text_columns(want: &[Value]) -> Vec<bool> {
    let columns = want.first().and_then(|r| r["columns"].as_array()).into_iter().flatten();
    columns.map(|c| c.as_str().is_some_and(|c| c.ends_with("CHAR"))).collect()
}

/// `{"op","data"}` as `{"op","row"}`, times in ISO form, as the goldens write them; text stays as it is.
fn change(line: &str, texts: &[bool]) -> Value {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON: {e}: {line}"));
    let values = line["data"].as_object().unwrap().values().enumerate();
    let row: Vec<Value> = values.map(|(i, v)| if texts.get(i) == Some(&true) { v.clone() } else { iso(v) }).collect();
    json!({"op": line["op"], "row": row})
}

fn iso(value: &Value) -> Value {
    match value {
        Value::String(s) => json!(iso_text(s).unwrap_or_else(|| s.clone())),
        Value::Array(items) => items.iter().map(iso).collect(),
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), iso(v))).collect(),
        _ => value.clone(),
    }
}

/// `2024-01-01 10:00:00.120[Z]` as `2024-01-01T10:00:00.12[Z]`; `None` for other text.
fn iso_text(text: &str) -> Option<String> {
    let (body, zone) = text.strip_suffix('Z').map_or((text, ""), |b| (b, "Z"));
    let shape: String = body.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let (whole, fraction) = shape.split_once('.').unwrap_or((&shape, ""));
    if whole != "9999-99-99 99:99:99" || !fraction.chars().all(|c| c == '9') {
        return None;
    }
    let body = if fraction.is_empty() { body } else { body.trim_end_matches('0').trim_end_matches('.') };
    Some(format!("{}{zone}", body.replacen(' ', "T", 1)))
}

fn record(read: Read) -> Value {
    let text = |bytes: Option<Vec<u8>>| bytes.map(|b| String::from_utf8_lossy(&b).into_owned());
    let mut record = json!({"topic": read.topic, "key": text(read.key), "value": text(read.value)});
    if !read.headers.is_empty() {
        record["headers"] = read.headers.into_iter().map(|(k, v)| (k, json!(v))).collect::<serde_json::Map<_, _>>().into();
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_get_a_prefix() {
        let (sql, names) = prefix_topics("FROM 'topic' VIRTUAL, FROM 'a') WITH ('topic' = 'a', 'x' = 'topic') … 'topic'='b'", "p.");
        assert_eq!(sql, "FROM 'topic' VIRTUAL, FROM 'a') WITH ('topic' = 'p.a', 'x' = 'topic') … 'topic'='p.b'");
        assert_eq!(names, ["p.a", "p.b"]);
    }

    #[test]
    fn times_become_iso() {
        for (text, want) in [
            ("2024-01-01 10:00:00.120", Some("2024-01-01T10:00:00.12")),
            ("2024-01-01 10:00:00.000Z", Some("2024-01-01T10:00:00Z")),
            ("2024-01-01 10:00:00", Some("2024-01-01T10:00:00")),
            ("2024-01-01", None),
            ("hello", None),
        ] {
            assert_eq!(iso_text(text).as_deref(), want, "{text}");
        }
    }
}
