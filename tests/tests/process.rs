//! `sluice` as a process on real Kafka: exit codes, signals, health and metrics, variables, logs, the data generators.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use sluice_tests::engine::{Run, binary, file};
use sluice_tests::services::{Kafka, Services, free_port, wait_until};
use sluice_tests::topics::{self, Reader, Record};

/// Where the services listen.
static SERVICES: OnceLock<Addresses> = OnceLock::new();

struct Addresses {
    bootstrap: String,
    registry: String,
}

fn services() -> &'static Addresses {
    SERVICES.get().expect("main has set it")
}

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";
const SOON: Duration = Duration::from_secs(20);

fn main() {
    let args = Arguments::from_args();
    let tests: &[(&str, fn())] = &[
        // The longest first.
        ("a_job_outlives_its_broker", a_job_outlives_its_broker),
        ("exit_code_0_when_all_is_done", exit_code_0_when_all_is_done),
        ("exit_code_2_when_nothing_can_run", exit_code_2_when_nothing_can_run),
        ("exit_code_1_when_the_job_fails", exit_code_1_when_the_job_fails),
        ("a_select_gives_its_changelog", a_select_gives_its_changelog),
        ("variables_come_from_options_environment_and_defaults", variables_come_from_options_environment_and_defaults),
        ("a_deployment_runs_as_a_script_does", a_deployment_runs_as_a_script_does),
        ("sigterm_ends_a_job_and_the_next_goes_on", sigterm_ends_a_job_and_the_next_goes_on),
        ("signals_end_a_job_that_waits_for_kafka", signals_end_a_job_that_waits_for_kafka),
        ("duration_ends_a_job", duration_ends_a_job),
        ("health_and_metrics", health_and_metrics),
        ("skipped_and_dead_records_are_counted", skipped_and_dead_records_are_counted),
        ("logs_are_text_or_json", logs_are_text_or_json),
        ("a_reader_may_go_away", a_reader_may_go_away),
        ("generators_of_json", generators_of_json),
        ("generators_of_avro", generators_of_avro),
        ("generators_keep_their_rate_and_stop", generators_keep_their_rate_and_stop),
    ];
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    let running = (!args.list).then(Services::start);
    if let Some(s) = &running {
        drop(SERVICES.set(Addresses { bootstrap: s.bootstrap.clone(), registry: s.registry.clone() }));
    }
    let conclusion = libtest_mimic::run(&args, tests.iter().map(trial).collect());
    // Ends the services: `exit` runs no destructors.
    drop(running);
    conclusion.exit();
}

/// A topic of its own for each test and run, with so many partitions.
fn topic(name: &str, partitions: i32) -> String {
    let topic = format!("process-{name}-{:08x}", rand::random::<u32>());
    topics::create(&services().bootstrap, &[(topic.clone(), partitions)]);
    topic
}

/// DDL of a Kafka table with a JSON value.
fn table(name: &str, columns: &str, topic: &str, options: &[(&str, &str)]) -> String {
    let mut text = format!("CREATE TABLE {name} ({columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}'");
    for (key, default) in [
        ("properties.bootstrap.servers", services().bootstrap.as_str()),
        ("value.format", "json"),
        ("scan.startup.mode", "earliest-offset"),
    ] {
        if !options.iter().any(|(k, _)| *k == key) {
            text.push_str(&format!(", '{key}' = '{default}'"));
        }
    }
    options.iter().for_each(|(key, value)| text.push_str(&format!(", '{key}' = '{value}'")));
    text + ");\n"
}

/// Puts values into the first partition, with timestamps 1000, 2000, ….
fn produce(topic: &str, values: &[&str]) {
    let record = |(i, v): (usize, &&str)| Record {
        topic: topic.to_owned(),
        timestamp: (i as i64 + 1) * 1000,
        value: Some(v.as_bytes().to_vec()),
        ..Record::default()
    };
    topics::produce(&services().bootstrap, &values.iter().enumerate().map(record).collect::<Vec<_>>());
}

fn values(topic: &str) -> Vec<String> {
    let reader = Reader::new(&services().bootstrap, &[topic.to_owned()]);
    let read = reader.read(reader.available());
    read.into_iter().map(|r| String::from_utf8(r.value.unwrap_or_default()).unwrap()).collect()
}

fn available(topic: &str) -> usize {
    Reader::new(&services().bootstrap, &[topic.to_owned()]).available()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines on stdout of a run that must end well.
fn lines(output: &Output) -> Vec<String> {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn run(sql: &str, args: &[&str]) -> Output {
    Run::script(sql, args).wait(SOON)
}

fn json(sql: &str) -> Vec<String> {
    lines(&run(sql, &["--bounded", "--output", "changelog-json"]))
}

/// The error of a run that must fail: exit code and stderr.
fn failure(sql: &str, args: &[&str]) -> (i32, String) {
    let output = run(sql, args);
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code().unwrap_or(-1), stderr)
}

fn exit_code_0_when_all_is_done() {
    let (from, to) = (topic("in", 2), topic("out", 1));
    produce(&from, &[r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    let sql = table("a", "n INT", &from, &[]) + &table("b", "n INT", &to, &[]) + "INSERT INTO b SELECT n * 10 FROM a WHERE n <> 2;";
    assert_eq!(lines(&run(&sql, &["--bounded"])), [] as [&str; 0]);
    assert_eq!(values(&to), [r#"{"n":10}"#, r#"{"n":30}"#]);
    // Several jobs of one script run one behind the other.
    assert_eq!(json("SELECT 1 AS a; SELECT 'x' AS b;"), [r#"{"op":"+I","data":{"a":1}}"#, r#"{"op":"+I","data":{"b":"x"}}"#]);
}

fn exit_code_2_when_nothing_can_run() {
    let topic = topic("plan", 1);
    let a = table("a", "n INT, name STRING", &topic, &[]);
    let with = |options: &[(&str, &str)]| table("a", "n INT, name STRING", &topic, options) + "SELECT * FROM a;";
    for (sql, expected) in [
        ("SELEC 1;".to_owned(), vec!["line 1", "SELECT"]),
        (a.clone() + "SELECT nme FROM a;", vec!["line 2, column 8", "nme", "did you mean 'name'?"]),
        (a.clone() + "SELECT * FROM aa;", vec!["line 2", "aa"]),
        (a.clone() + "SELECT UPER(name) FROM a;", vec!["line 2", "did you mean", "UPPER"]),
        ("CREATE TABLE a (n INTT) WITH ('connector' = 'print');".into(), vec!["line 1, column 19", "INTT"]),
        (with(&[("scan.startup.mode", "earliest")]), vec!["line 1", "did you mean 'earliest-offset'?"]),
        (with(&[("scan.startup.modus", "earliest-offset")]), vec!["line 1", "did you mean 'scan.startup.mode'?"]),
        (with(&[("properties.fetch.min.byte", "1")]), vec!["line 1", "did you mean 'properties.fetch.min.bytes'?"]),
        (with(&[("sink.partitioner", "org.example.MyPartitioner")]), vec!["line 1", "classes of your own cannot be used"]),
        (with(&[("value.format", "jsn")]), vec!["line 1", "did you mean 'json'?"]),
        (
            table("a", "n INT", &topic, &[("sink.delivery-guarantee", "exactly-once")]) + "INSERT INTO a SELECT 1;",
            vec!["line 1", "exactly-once", "sink.transactional-id-prefix"],
        ),
        ("SELECT ${SLUICE_NOT_SET};".into(), vec!["line 1, column 8", "SLUICE_NOT_SET"]),
    ] {
        let (code, stderr) = failure(&sql, &[]);
        assert_eq!(code, 2, "{sql}: {stderr}");
        expected.iter().for_each(|e| assert!(stderr.contains(e), "{sql}: {stderr} lacks {e:?}"));
    }
    for args in [&["run", "/no/such/file.sql"][..], &["run"], &["rum", "x.sql"], &["generate", "pizzas", "--bootstrap-servers", NOWHERE]] {
        assert_eq!(Run::start(args).wait(SOON).status.code(), Some(2), "{args:?}");
    }
    let avro = Run::start(&["generate", "sales", "--bootstrap-servers", NOWHERE]).wait(SOON);
    assert_eq!(avro.status.code(), Some(2));
    assert!(text(&avro.stderr).contains("--schema-registry"));
}

fn exit_code_1_when_the_job_fails() {
    let topic = topic("fails", 1);
    produce(&topic, &[r#"{"n":1}"#, "{broken", r#"{"n":3}"#]);
    let (code, stderr) = failure(&(table("a", "n INT", &topic, &[]) + "SELECT * FROM a;"), &["--bounded"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!("topic '{topic}' partition 0 offset 1: ")), "{stderr}");
    assert!(!stderr.trim_end().ends_with("offset 1:"), "no reason: {stderr}");

    let options = [("properties.bootstrap.servers", NOWHERE), ("properties.default.api.timeout.ms", "300")];
    let (code, stderr) = failure(&(table("a", "n INT", &topic, &options) + "SELECT * FROM a;"), &[]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!("cannot reach Kafka at {NOWHERE}")), "{stderr}");

    let near = topic.replace("fails", "fail");
    let (code, stderr) = failure(&(table("a", "n INT", &near, &[]) + "SELECT * FROM a;"), &["--bounded"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!("there is no topic '{near}'")) && stderr.contains(&format!("did you mean '{topic}'?")), "{stderr}");

    let (code, stderr) = failure(&(table("a", "n INT", &topic, &[]) + "SELECT * FROM a;"), &["--http", "192.0.2.1:80"]);
    assert!(code == 1 && stderr.contains("cannot listen on 192.0.2.1:80"), "{stderr}");
}

fn a_select_gives_its_changelog() {
    let topic = topic("select", 1);
    produce(&topic, &[r#"{"k":"a","n":1}"#, r#"{"k":"b","n":2}"#, r#"{"k":"a","n":3}"#]);
    let sql = table("a", "k STRING, n INT", &topic, &[]) + "SELECT k, SUM(n) AS s FROM a GROUP BY k;";
    let expected = [("+I", "a", 1), ("+I", "b", 2), ("-U", "a", 1), ("+U", "a", 4)];
    let expected = expected.map(|(op, k, s)| format!(r#"{{"op":"{op}","data":{{"k":"{k}","s":{s}}}}}"#));
    assert_eq!(json(&sql), expected);
    // Without a terminal and without --output: a line a change.
    assert_eq!(lines(&run(&sql, &["--bounded"])), ["op | k | s", "+I | a | 1", "+I | b | 2", "-U | a | 1", "+U | a | 4"]);
    // Unbounded: rows are printed as they come.
    let job = Run::script(&sql, &["--output", "changelog-json"]);
    wait_until("the rows", SOON, || job.stdout().lines().count() == 4);
    produce(&topic, &[r#"{"k":"b","n":5}"#]);
    wait_until("the update", SOON, || job.stdout().lines().count() == 6);
    assert_eq!(lines(&job.stop(SOON)).last().unwrap(), r#"{"op":"+U","data":{"k":"b","s":7}}"#);
}

fn variables_come_from_options_environment_and_defaults() {
    let sql = "SELECT '${SLUICE_A}' AS a, '${SLUICE_B}' AS b, '${SLUICE_C:-c}' AS c, '${SLUICE_D}' AS d;";
    let job = Run::script_with(
        sql,
        &["--output", "changelog-json", "--var", "SLUICE_A=option", "--var", "SLUICE_D=it's=1"],
        &[("SLUICE_A", "environment"), ("SLUICE_B", "environment")],
    );
    assert_eq!(lines(&job.wait(SOON)), [r#"{"op":"+I","data":{"a":"option","b":"environment","c":"c","d":"it's=1"}}"#]);
    let (code, stderr) = failure("SELECT 1;", &["--var", "novalue"]);
    assert!(code == 2 && stderr.contains("NAME=VALUE"), "{stderr}");
    let topic = topic("set", 1);
    produce(&topic, &["{}"]);
    let sql = table("a", "t TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', n INT", &topic, &[]) + "SELECT CAST(t AS STRING) AS t FROM a;";
    for (zone, expected) in [("GMT+08:00", "1970-01-01 08:00:01.000"), ("America/New_York", "1969-12-31 19:00:01.000")] {
        let zone = format!("table.local-time-zone={zone}");
        let output = run(&sql, &["--bounded", "--output", "changelog-json", "--set", &zone]);
        assert_eq!(lines(&output), [format!(r#"{{"op":"+I","data":{{"t":"{expected}"}}}}"#)]);
    }
}

fn a_deployment_runs_as_a_script_does() {
    let yaml = "apiVersion: sluice.dev/v1alpha1
kind: StreamingDeployment
metadata: {name: one}
spec:
  variables: {WHAT: one}
  sql: {inline: \"SELECT '${WHAT}' AS what;\"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: sluice.dev/v1alpha1
kind: StreamingDeployment
metadata: {name: two}
spec:
  sql: {inline: \"SELECT 'two' AS what;\"}
";
    let yaml = file(yaml, ".yaml");
    let path = yaml.path().to_str().unwrap();
    let with = |args: &[&str]| Run::start(&[&["run", path, "--output", "changelog-json"], args].concat()).wait(SOON);
    assert_eq!(lines(&with(&["--name", "one"])), [r#"{"op":"+I","data":{"what":"one"}}"#]);
    assert_eq!(lines(&with(&["--name", "one", "--var", "WHAT=this"])), [r#"{"op":"+I","data":{"what":"this"}}"#]);
    let both = with(&[]);
    assert_eq!(both.status.code(), Some(2));
    assert!(text(&both.stderr).contains("--name"), "{}", text(&both.stderr));
}

fn sigterm_ends_a_job_and_the_next_goes_on() {
    let (from, to) = (topic("term-in", 1), topic("term-out", 1));
    produce(&from, &[r#"{"n":1}"#, r#"{"n":2}"#]);
    let options =
        [("properties.group.id", from.as_str()), ("scan.startup.mode", "group-offsets"), ("properties.auto.offset.reset", "earliest")];
    let sql = table("a", "n INT", &from, &options) + &table("b", "n INT", &to, &[]) + "INSERT INTO b SELECT n FROM a;";
    for (signal, expected) in [("TERM", 2), ("INT", 3)] {
        let job = Run::script(&sql, &[]);
        wait_until("the copies", SOON, || available(&to) == expected);
        let started = Instant::now();
        job.signal(signal);
        assert_eq!(lines(&job.wait(SOON)), [] as [&str; 0]);
        assert!(started.elapsed() < Duration::from_secs(2), "SIG{signal} took {:?}", started.elapsed());
        produce(&from, &[r#"{"n":3}"#]);
    }
    lines(&run(&sql, &["--bounded"]));
    assert_eq!(values(&to), [1, 2, 3, 3].map(|n| format!(r#"{{"n":{n}}}"#)));
}

fn signals_end_a_job_that_waits_for_kafka() {
    let sql = table("a", "n INT", "x", &[("properties.bootstrap.servers", NOWHERE)]) + "SELECT * FROM a;";
    let http = format!("127.0.0.1:{}", free_port());
    let job = Run::script(&sql, &["--http", &http]);
    wait_until("/livez", SOON, || get(&http, "livez").is_ok_and(|(code, _)| code == 200));
    assert_eq!(get(&http, "readyz").unwrap().0, 503);
    let started = Instant::now();
    assert_eq!(lines(&job.stop(SOON)), [] as [&str; 0]);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    let generator = Run::start(&["generate", "pizza", "--bootstrap-servers", NOWHERE]);
    wait_until("its connection", SOON, || !generator.stderr().is_empty() || std::fs::read_dir(tasks(&generator)).unwrap().count() > 1);
    let started = Instant::now();
    generator.stop(SOON);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// The threads of a process; librdkafka's are there once it connects.
fn tasks(run: &Run) -> String {
    format!("/proc/{}/task", run.pid())
}

fn duration_ends_a_job() {
    let sql = table("a", "n INT", &topic("duration", 1), &[]) + "SELECT * FROM a;";
    let started = Instant::now();
    assert_eq!(lines(&run(&sql, &["--duration", "300 ms"])), [] as [&str; 0]);
    assert!(started.elapsed() >= Duration::from_millis(300) && started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

fn a_job_outlives_its_broker() {
    let mut kafka = Kafka::started();
    let servers = kafka.bootstrap.clone();
    topics::create(&servers, &[("in".into(), 1), ("out".into(), 1)]);
    let put = |value: &str| {
        let record = Record { topic: "in".into(), timestamp: 1000, value: Some(value.into()), ..Record::default() };
        topics::produce(&servers, &[record]);
    };
    let has = |n| Reader::new(&servers, &["out".to_owned()]).available() == n;
    put(r#"{"n":1}"#);
    let options = [("properties.bootstrap.servers", servers.as_str()), ("properties.group.id", "g")];
    let sql = table("a", "n INT", "in", &options) + &table("b", "n INT", "out", &options[..1]) + "INSERT INTO b SELECT n FROM a;";
    let http = format!("127.0.0.1:{}", free_port());
    let mut job = Run::script(&sql, &["--http", &http]);
    wait_until("the first record", SOON, || has(1));
    kafka.kill();
    wait_until("that it is noticed", SOON, || job.stderr().contains("WARN"));
    kafka.start();
    kafka.wait();
    put(r#"{"n":2}"#);
    wait_until("the second record", SOON, || job.ended() || has(2));
    assert!(!job.ended(), "{}", job.stderr());
    assert_eq!(get(&http, "livez").unwrap().0, 200);
    lines(&job.stop(SOON));
}

fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(format!("http://{address}/{path}")).call().map_err(|e| e.to_string())?;
    Ok((answer.status().as_u16(), answer.body_mut().read_to_string().map_err(|e| e.to_string())?))
}

/// A sample's value, with its labels as they are written.
fn metric(address: &str, name: &str) -> Option<f64> {
    let (_, text) = get(address, "metrics").ok()?;
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn health_and_metrics() {
    let (from, to) = (topic("metrics", 2), topic("metrics-out", 1));
    // The window of second 10 closes at the watermark 20 s; then a row of second 11 is late.
    let [rows @ .., late] = [10, 12, 21, 11].map(|s| format!(r#"{{"k":"a","t":"1970-01-01 00:00:{s}"}}"#));
    produce(&from, &rows.each_ref().map(String::as_str));
    let columns = "k STRING, t TIMESTAMP(3), WATERMARK FOR t AS t";
    // The other partition has nothing and holds time back until it is idle.
    let sql = "SET 'table.exec.source.idle-timeout' = '300 ms';\n".to_owned()
        + &table("a", columns, &from, &[("scan.watermark.emit.strategy", "on-event")])
        + &table("b", "k STRING, c BIGINT", &to, &[])
        + "INSERT INTO b SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE a, DESCRIPTOR(t), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;";
    let http = format!("127.0.0.1:{}", free_port());
    let job = Run::script(&sql, &["--http", &http]);
    wait_until("/readyz", SOON, || get(&http, "readyz").is_ok_and(|(code, _)| code == 200));
    assert_eq!(get(&http, "livez").unwrap(), (200, "ok\n".to_owned()));
    assert_eq!(get(&http, "nothing").unwrap().0, 404);
    wait_until("the window", SOON, || metric(&http, "sluice_rows_out_total") == Some(1.0));
    let idle = |partition: i32| format!("sluice_source_idle{{split=\"{from}-{partition}\"}}");
    wait_until("idleness", SOON, || metric(&http, &idle(0)) == Some(1.0) && metric(&http, &idle(1)) == Some(1.0));
    assert_eq!(metric(&http, "sluice_late_rows_total"), Some(0.0));
    produce(&from, &[&late]);
    wait_until("the late row", SOON, || metric(&http, "sluice_late_rows_total") == Some(1.0));
    for (name, value) in [
        ("sluice_rows_in_total", 4.0),
        ("sluice_rows_out_total", 1.0),
        ("sluice_records_skipped_total", 0.0),
        ("sluice_dead_letters_total", 0.0),
        ("sluice_watermark_milliseconds", 21_000.0),
        (&format!("sluice_source_watermark_milliseconds{{split=\"{from}-0\"}}"), 21_000.0),
    ] {
        assert_eq!(metric(&http, name), Some(value), "{name}");
    }
    wait_until("no lag", SOON, || metric(&http, &format!("sluice_source_lag_records{{split=\"{from}-0\"}}")) == Some(0.0));
    wait_until("commits", SOON, || metric(&http, "sluice_commits_total").is_some_and(|n| n > 0.0));
    for times in ["pause", "duration"] {
        let count = metric(&http, &format!("sluice_commit_{times}_seconds_count"));
        assert!(count.is_some_and(|n| n > 0.0), "{times}: {count:?}");
        assert!(metric(&http, &format!("sluice_commit_{times}_seconds_sum")).is_some_and(|s| s > 0.0));
    }
    assert!(metric(&http, "sluice_checkpoint_bytes").is_some() && metric(&http, "sluice_checkpoint_written_bytes_total").is_some());
    assert!(metric(&http, "sluice_resident_memory_bytes").is_some_and(|n| n > 1e6));
    assert!(metric(&http, "sluice_state_bytes").is_some());
    lines(&job.stop(SOON));
    assert_eq!(values(&to), [r#"{"k":"a","c":2}"#]);
}

fn skipped_and_dead_records_are_counted() {
    let (bad, dead) = (topic("skip", 1), topic("dead", 1));
    produce(&bad, &[r#"{"n":1}"#, "{broken", r#"{"n":3}"#, "no"]);
    for (option, value, name) in [
        ("value.json.ignore-parse-errors", "true", "sluice_records_skipped_total"),
        ("scan.dead-letter-topic", dead.as_str(), "sluice_dead_letters_total"),
    ] {
        let http = format!("127.0.0.1:{}", free_port());
        let sql = table("a", "n INT", &bad, &[(option, value)]) + "SELECT n FROM a;";
        let job = Run::script(&sql, &["--http", &http, "--output", "changelog-json"]);
        wait_until(name, SOON, || metric(&http, name) == Some(2.0));
        assert_eq!(metric(&http, "sluice_rows_in_total"), Some(2.0), "{option}");
        let output = job.stop(SOON);
        assert_eq!(lines(&output), [r#"{"op":"+I","data":{"n":1}}"#, r#"{"op":"+I","data":{"n":3}}"#], "{option}");
        assert!(text(&output.stderr).contains("table a: "), "what was left out is said at the end: {}", text(&output.stderr));
    }
    let reader = Reader::new(&services().bootstrap, &[dead]);
    let read = reader.read(2);
    assert_eq!(read[0].value.as_deref(), Some(b"{broken".as_slice()));
    let header = |name: &str| read[0].headers.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()).unwrap_or_default();
    assert_eq!(header("sluice.source"), format!("{bad}-0-1"));
    assert!(header("sluice.error").contains(&format!("topic '{bad}' partition 0 offset 1: ")), "{read:?}");
}

fn logs_are_text_or_json() {
    let topic = topic("logs", 1);
    produce(&topic, &["{broken"]);
    let sql = table("a", "n INT", &topic, &[("properties.max.poll.records", "5")]) + "SELECT * FROM a;";
    let stderr = text(&run(&sql, &["--bounded"]).stderr);
    let warning = "'properties.max.poll.records' is of the Java client only and has no effect";
    assert!(stderr.lines().any(|l| l.contains("WARN") && l.contains(warning)), "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("error: ") && !stderr.contains('\x1b'), "{stderr}");

    let stderr = text(&run(&sql, &["--bounded", "--log-format", "json"]).stderr);
    let objects: Vec<Value> = stderr.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect();
    let message = |o: &Value| o["fields"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(objects.iter().any(|o| o["level"] == "WARN" && message(o).contains(warning)), "{stderr}");
    let last = objects.last().unwrap();
    assert!(last["level"] == "ERROR" && message(last).contains("partition 0 offset 0"), "{stderr}");
    assert!(last["timestamp"].is_string());

    let quiet = text(&run(&sql, &["--bounded", "--log", "off"]).stderr);
    assert_eq!(quiet.lines().count(), stderr.lines().count() - 1, "{quiet}");
}

fn a_reader_may_go_away() {
    let topic = topic("pipe", 1);
    let values: Vec<String> = (0..20_000).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    produce(&topic, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let script = file(&(table("a", "n INT", &topic, &[]) + "SELECT * FROM a;"), ".sql");
    for command in ["run", "plan"] {
        let mut child =
            Command::new(binary()).arg(command).arg(script.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{command}");
    }
}

/// Runs a generator to its end.
fn generate(dataset: &str, topic: &str, args: &[&str]) {
    let registry = services().registry.as_str();
    let fixed = ["generate", dataset, "--topic", topic, "--bootstrap-servers", &services().bootstrap, "--schema-registry", registry];
    let output = Run::start(&[&fixed, args].concat()).wait(SOON);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(&format!("sent to {topic}")), "{}", text(&output.stderr));
}

/// The only row of a SELECT's result.
fn last(sql: &str) -> Value {
    let lines = json(sql);
    let line: Value = serde_json::from_str(lines.last().expect("a row")).unwrap();
    line["data"].clone()
}

fn generators_of_json() {
    let fast = ["--rate", "0", "--count", "500"];
    let (pizza, again) = (topic("pizza", 1), topic("pizza-again", 1));
    generate("pizza", &pizza, &fast);
    generate("pizza", &again, &fast);
    let strip = |topic: &str| {
        let mut values: Vec<Value> = values(topic).iter().map(|v| serde_json::from_str(v).unwrap()).collect();
        values.iter_mut().for_each(|v| drop(v.as_object_mut().unwrap().remove("timestamp")));
        values
    };
    assert_eq!(strip(&pizza), strip(&again), "the same seed gives the same data");
    let columns = "id INT, shop VARCHAR, name VARCHAR, phoneNumber VARCHAR, address VARCHAR, \
                   pizzas ARRAY<ROW(pizzaName VARCHAR, additionalToppings ARRAY<VARCHAR>)>";
    let sql = table("p", columns, &pizza, &[])
        + "SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids, COUNT(shop) AS shops, COUNT(address) AS addresses, \
           SUM(CARDINALITY(pizzas)) AS pizzas FROM p;";
    let row = last(&sql);
    assert_eq!([&row["n"], &row["ids"], &row["shops"], &row["addresses"]].map(|v| v.as_u64()), [Some(500); 4]);
    assert!((500..=5000).contains(&row["pizzas"].as_u64().unwrap()), "{row}");
    let sql = table("p", columns, &pizza, &[])
        + "SELECT COUNT(*) AS n FROM p CROSS JOIN UNNEST(pizzas) AS a(pizza, toppings) CROSS JOIN UNNEST(toppings) AS b(topping) \
           WHERE topping IN ('🍍 pineapple', '🍓 strawberry', '🍌 banana');";
    assert!(last(&sql)["n"].as_u64().unwrap() > 100, "there is fruit on pizzas");

    let cpu = topic("cpu", 1);
    generate("cpu", &cpu, &fast);
    let columns = "hostname STRING, cpu STRING, `usage` DOUBLE, occurred_at BIGINT, time_ltz AS TO_TIMESTAMP_LTZ(occurred_at, 3)";
    let row = last(
        &(table("c", columns, &cpu, &[])
            + "SELECT COUNT(*) AS n, COUNT(DISTINCT hostname) AS hosts, COUNT(DISTINCT cpu) AS cpus, MIN(`usage`) AS lo, MAX(`usage`) AS hi, \
               COUNT(time_ltz) AS times FROM c;"),
    );
    assert_eq!([&row["n"], &row["hosts"], &row["cpus"], &row["times"]].map(|v| v.as_u64()), [Some(500), Some(7), Some(5), Some(500)]);
    assert!(row["lo"].as_f64().unwrap() >= 70.0 && row["hi"].as_f64().unwrap() < 100.0, "{row}");
}

fn generators_of_avro() {
    let fast = ["--rate", "0", "--count", "2000"];
    let avro = [("value.format", "avro-confluent"), ("value.avro-confluent.url", services().registry.as_str())];
    let sales = topic("sales", 1);
    generate("sales", &sales, &fast);
    let columns = "invoice_id STRING, user_id STRING, product_id STRING, quantity STRING, unit_cost STRING";
    let row = last(
        &(table("s", columns, &sales, &avro)
            + "SELECT COUNT(*) AS n, COUNT(DISTINCT user_id) AS users, COUNT(DISTINCT invoice_id) AS invoices, \
               COUNT(*) FILTER (WHERE CAST(quantity AS INT) > 3) AS unusual, MAX(CAST(quantity AS INT)) AS most, \
               COUNT(*) FILTER (WHERE unit_cost LIKE '£%') AS pounds, COUNT(*) FILTER (WHERE user_id LIKE 'user-%') AS named FROM s;"),
    );
    assert_eq!([&row["n"], &row["invoices"], &row["pounds"], &row["named"]].map(|v| v.as_u64()), [Some(2000); 4], "{row}");
    assert!((1..200).contains(&row["unusual"].as_u64().unwrap()) && row["users"] == 100 && row["most"] == 30, "{row}");

    let clicks = topic("clicks", 1);
    generate("clicks", &clicks, &fast);
    let row = last(
        &(table("c", "user_id STRING, product_id STRING", &clicks, &avro)
            + "SELECT COUNT(*) AS n, COUNT(DISTINCT user_id) AS users, COUNT(DISTINCT product_id) AS products FROM c;"),
    );
    assert_eq!((row["n"].as_u64(), row["users"].as_u64()), (Some(2000), Some(100)), "{row}");
}

fn generators_keep_their_rate_and_stop() {
    let topic = topic("rate", 1);
    let started = Instant::now();
    generate("cpu", &topic, &["--rate", "40", "--count", "41"]);
    assert!((1.0..5.0).contains(&started.elapsed().as_secs_f64()), "{:?}", started.elapsed());
    assert_eq!(available(&topic), 41);
    let endless = Run::start(&["generate", "cpu", "--topic", &topic, "--bootstrap-servers", &services().bootstrap]);
    wait_until("records", SOON, || available(&topic) > 43);
    let output = endless.stop(SOON);
    assert_eq!(output.status.code(), Some(0));
    let sent: usize = text(&output.stderr).split(' ').next().unwrap().parse().unwrap();
    assert_eq!(available(&topic), 41 + sent);
}
