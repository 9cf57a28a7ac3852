//! State and savepoints in S3, on a real server: what a job commits there, what is left when it dies, who may write, and what happens
//! when the network is cut.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use sluice_state::{file, storage};
use sluice_tests::engine::{Run, binary};
use sluice_tests::s3::{self, BUCKET, Proxy, S3, SECRET_KEY};
use sluice_tests::services::{Kafka, free_port, wait_until};
use sluice_tests::topics::{self, Record};
use tempfile::TempDir;

static KAFKA: OnceLock<String> = OnceLock::new();
static SERVER: OnceLock<S3> = OnceLock::new();
const DEADLINE: Duration = Duration::from_secs(90);
/// Enough for some twenty batches, so that a run commits often.
const ROWS: i64 = 50_000;

fn bootstrap() -> &'static str {
    KAFKA.get().expect("main has set it")
}

fn server() -> &'static S3 {
    SERVER.get().expect("main has set it")
}

fn main() {
    let args = Arguments::from_args();
    let tests: &[(&str, fn())] = &[
        ("killed_at_each_step", killed_at_each_step),
        ("the_network_is_cut_and_healed", network),
        ("killed_without_kafka", killed_without_kafka),
        ("a_second_instance_takes_over", fencing),
        ("a_second_instance_takes_over_without_kafka", fencing_without_kafka),
        ("savepoints_live_there", savepoints),
        ("savepoints_are_taken_while_a_job_runs", taken),
        ("errors_say_what_is_wrong", errors),
        ("the_server_does_what_storage_needs", conditions),
    ];
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    let kafka = (!args.list).then(Kafka::started);
    if let Some(kafka) = &kafka {
        KAFKA.set(kafka.bootstrap.clone()).expect("set once");
        assert!(SERVER.set(S3::start()).is_ok());
    }
    let conclusion = libtest_mimic::run(&args, tests.iter().map(trial).collect());
    drop(kafka);
    if let Some(server) = SERVER.get() {
        server.stop();
    }
    conclusion.exit();
}

fn unique(name: &str) -> String {
    format!("s3-{name}-{:08x}", rand::random::<u32>())
}

fn created(name: &str) -> String {
    let topic = unique(name);
    topics::create(bootstrap(), &[(topic.clone(), 1)]);
    topic
}

fn set(settings: &[(&str, String)]) -> String {
    settings.iter().map(|(key, value)| format!("SET '{key}' = '{value}';\n")).collect()
}

/// Settings of a job that commits often into the bucket, at a server.
fn commits(pipeline: &str, address: &str) -> String {
    set(&s3::settings(address))
        + &set(&[
            ("execution.checkpointing.interval", "20 ms".to_owned()),
            ("execution.checkpointing.dir", format!("s3://{BUCKET}/state")),
            ("pipeline.name", pipeline.to_owned()),
        ])
}

fn ended_well(output: &Output, what: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{what}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn sluice(args: &[&str]) -> Output {
    Command::new(binary()).args(args).envs(s3::environment(&server().address)).output().unwrap()
}

/// All objects of a job are named by the newest one.
fn assert_no_garbage(pipeline: &str, what: &str) {
    let storage = storage::open(&format!("s3a://{BUCKET}/state/"), pipeline, &s3::options(&server().address)).unwrap();
    let files: BTreeSet<String> = storage.list().unwrap().into_iter().map(|(name, _)| name).filter(|n| n != "commit.json").collect();
    let headers = files.iter().map(|name| (name, file::decode(storage.read(name).unwrap().unwrap()).unwrap().0));
    let (name, newest) = headers.max_by_key(|(_, h)| (h.epoch, h.before.len())).expect("there is state");
    let named: BTreeSet<String> = newest.before.into_iter().chain([name.clone()]).collect();
    assert_eq!(files, named, "{what}");
}

/// The server's conditions hold, and what is larger than a part comes back as it was.
fn conditions() {
    let open = |dir: &str| storage::at(&format!("s3://{BUCKET}/{dir}"), &s3::options(&server().address)).unwrap();
    let storage = open(&unique("conditions"));
    storage.prepare().unwrap();
    storage.create("a", b"1").unwrap();
    assert!(storage.create("a", b"2").unwrap_err().message().contains("exists already"));
    assert_eq!(storage.read("a").unwrap().unwrap(), b"1");
    assert_eq!((storage.read("x").unwrap(), storage.size("x").unwrap()), (None, None));
    let first = storage.replace("r", b"1", None).unwrap();
    assert!(storage.replace("r", b"mine", None).unwrap_err().is_last());
    let second = storage.replace("r", b"2", Some(&first)).unwrap();
    assert!(storage.replace("r", b"a zombie's", Some(&first)).unwrap_err().is_last());
    assert_eq!(storage.read_record("r").unwrap().unwrap(), (b"2".to_vec(), second));
    let large: Vec<u8> = (0..20_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    storage.create("large", &large).unwrap();
    assert!(storage.create("large", &large).is_err());
    assert!(storage.read("large").unwrap().unwrap() == large);
    drop(storage.writer("given-up").unwrap());
    let mut given_up = storage.writer("given-up").unwrap();
    given_up.write_all(&large).unwrap();
    drop(given_up);
    storage.create("empty", b"").unwrap();
    assert_eq!(storage.read("empty").unwrap().unwrap(), b"");
    assert_eq!(storage.list().unwrap().len(), 4);
    storage.folder("in").create("a", b"1").unwrap();
    assert_eq!(storage.folders().unwrap(), ["in"]);
    for name in ["a", "a", "large", "r", "empty"] {
        storage.delete(name).unwrap();
    }
    assert!(storage.list().unwrap().is_empty());
    // Of many writers with the same condition one wins.
    let first = storage.replace("race", b"0", None).unwrap();
    let place = storage.place("").split_once(BUCKET).unwrap().1.trim_start_matches('/').to_owned();
    let winners: Vec<bool> = std::thread::scope(|scope| {
        let write = |i: u32| {
            let (storage, first) = (open(&place), first.clone());
            scope.spawn(move || storage.replace("race", format!("writer {i}").as_bytes(), Some(&first)).is_ok())
        };
        let threads: Vec<_> = (0..8).map(write).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(winners.iter().filter(|w| **w).count(), 1, "{winners:?}");
}

/// Rows of ten keys, made once.
fn input() -> &'static str {
    static INPUT: OnceLock<String> = OnceLock::new();
    INPUT.get_or_init(|| {
        let topic = created("in");
        let record = |i: i64| Record {
            topic: topic.clone(),
            timestamp: 1,
            value: Some(format!("{{\"k\":{},\"v\":{i}}}", i * 7 % 50).into()),
            ..Record::default()
        };
        topics::produce(bootstrap(), &(0..ROWS).map(record).collect::<Vec<_>>());
        topic
    })
}

fn aggregate(to: &str, settings: &str) -> String {
    let servers = format!("'properties.bootstrap.servers' = '{}'", bootstrap());
    format!(
        "{settings}
         CREATE TABLE a (k INT, v BIGINT) WITH ('connector' = 'kafka', 'topic' = '{}', {servers}, 'format' = 'json',
           'scan.startup.mode' = 'earliest-offset');
         CREATE TABLE result (k INT, n BIGINT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert-kafka',
           'topic' = '{to}', {servers}, 'key.format' = 'json', 'value.format' = 'json', 'sink.delivery-guarantee' = 'exactly-once',
           'sink.transactional-id-prefix' = 's3');
         INSERT INTO result SELECT k, COUNT(*), SUM(v) FROM a GROUP BY k;",
        input()
    )
}

/// By key the values in order.
fn content(topic: &str) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut content: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for r in topics::committed(bootstrap(), topic) {
        content.entry(r.key.unwrap_or_default()).or_default().push(r.value.unwrap_or_default());
    }
    content
}

fn killed_at_each_step() {
    let to = created("reference");
    ended_well(&Run::script(&aggregate(&to, &set(&[("pipeline.name", to.clone())])), &["--bounded"]).wait(DEADLINE), "reference");
    let wanted = content(&to);
    assert!(wanted.values().map(Vec::len).sum::<usize>() > 500);
    for point in ["state-loaded", "state-half-written:2", "state-written", "state-written:4", "offsets-sent:2", "committed:3", "cleaned:2"]
    {
        let to = created("killed");
        let sql = aggregate(&to, &commits(&to, &server().address));
        // A step of recovery: it dies in the start after a first death.
        let deaths: &[&str] = if point == "state-loaded" { &["committed:3", point] } else { &[point] };
        for death in deaths {
            let output = Run::script_with(&sql, &["--bounded"], &[("SLUICE_FAIL_POINT", death)]).wait(DEADLINE);
            assert!(output.status.code().is_none(), "{death}: {:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), point);
        assert!(content(&to) == wanted, "{point}: what is committed is not what an uninterrupted run commits");
        assert_no_garbage(&to, point);
    }
}

/// The record is an object, too.
fn killed_without_kafka() {
    let dir = TempDir::new().unwrap();
    for part in 0..20 {
        let rows = (0..500).map(|i| format!("{{\"k\":{},\"v\":{i}}}\n", i % 10));
        std::fs::write(dir.path().join(format!("{part:02}.json")), rows.collect::<String>()).unwrap();
    }
    let pipeline = unique("files");
    let sql = format!(
        "{} SET 'execution.checkpointing.interval' = '1 ms';
         CREATE TABLE a (k INT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         CREATE TABLE result (k INT, n BIGINT) WITH ('connector' = 'print');
         INSERT INTO result SELECT k, COUNT(*) FROM a GROUP BY k;",
        commits(&pipeline, &server().address),
        dir.path().display()
    );
    for point in ["state-half-written", "state-written:2", "committed", "cleaned:2"] {
        let died = Run::script_with(&sql, &[], &[("SLUICE_FAIL_POINT", point)]).wait(DEADLINE);
        assert_eq!(died.status.code(), None, "{point}: {}", String::from_utf8_lossy(&died.stderr));
    }
    let text = ended_well(&Run::script(&sql, &[]).wait(DEADLINE), "files");
    for k in 0..10 {
        let last = text.lines().rev().find(|l| l.contains(&format!("[{k},"))).unwrap_or_default();
        assert!(last.contains("1000"), "{k}: {last}");
    }
    assert_no_garbage(&pipeline, "files");
}

/// Counts what comes, one by one.
fn count(from: &str, to: &str, settings: &str) -> String {
    let options = format!("'connector' = 'kafka', 'properties.bootstrap.servers' = '{}', 'format' = 'json'", bootstrap());
    format!(
        "{settings}
         CREATE TABLE a (v BIGINT, p AS PROCTIME()) WITH ('topic' = '{from}', 'scan.startup.mode' = 'earliest-offset', {options});
         CREATE TABLE result (n BIGINT) WITH ('topic' = '{to}', {options}, 'sink.delivery-guarantee' = 'exactly-once',
           'sink.transactional-id-prefix' = 's3');
         INSERT INTO result SELECT COUNT(*) OVER (ORDER BY p) FROM a;"
    )
}

fn produce(to: &str, rows: usize) {
    let record = |i: usize| Record { topic: to.into(), timestamp: 1, value: Some(format!("{{\"v\":{i}}}").into()), ..Record::default() };
    topics::produce(bootstrap(), &(0..rows).map(record).collect::<Vec<_>>());
}

fn wait_for(run: &mut Run, topic: &str, rows: usize) {
    let started = Instant::now();
    while topics::committed(bootstrap(), topic).len() < rows {
        assert!(!run.ended() && started.elapsed() < DEADLINE, "{rows} rows: {}", run.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn assert_counted(topic: &str, rows: usize) {
    let values = topics::committed(bootstrap(), topic).into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap());
    assert_eq!(values.collect::<Vec<_>>(), (1..=rows).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>());
}

fn network() {
    let (from, to, proxy) = (created("cut-in"), created("cut"), Proxy::to(&server().address));
    let settings = commits(&to, &proxy.address) + &set(&[("s3.retry.timeout", "8 s".to_owned())]);
    produce(&from, 500);
    // A request that gets no answer is given up after a second.
    let mut run = Run::script_with(&count(&from, &to, &settings), &[], &[("AWS_TIMEOUT", "1s")]);
    wait_for(&mut run, &to, 500);
    // For a while: the commit waits, and nothing is begun anew.
    let mut rows = 500;
    for break_it in [Proxy::cut as fn(&Proxy), Proxy::fall_silent] {
        let said = |run: &Run| run.stderr().matches("trying again for").count();
        let before = said(&run);
        break_it(&proxy);
        produce(&from, 500);
        wait_until("a warning", DEADLINE, || said(&run) > before);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(topics::committed(bootstrap(), &to).len(), rows, "nothing is committed meanwhile");
        proxy.heal();
        rows += 500;
        wait_for(&mut run, &to, rows);
    }
    assert!(!run.stderr().contains("has not answered"), "{}", run.stderr());
    // For longer than it is waited for: the job says so and begins anew until it succeeds.
    proxy.cut();
    produce(&from, 500);
    wait_until("an error", DEADLINE, || run.stderr().contains("has not answered for 8 s"));
    std::thread::sleep(Duration::from_secs(1));
    proxy.heal();
    wait_for(&mut run, &to, rows + 500);
    let stderr = run.stderr();
    assert!(stderr.contains(&format!("http://{}", proxy.address)) && stderr.contains("check 's3.endpoint'"), "{stderr}");
    ended_well(&run.stop(DEADLINE), "network");
    assert_counted(&to, rows + 500);
    assert_no_garbage(&to, "network");
    // Without a strategy that is the end.
    proxy.cut();
    let once = settings + &set(&[("s3.retry.timeout", "500 ms".to_owned()), ("restart-strategy.type", "none".to_owned())]);
    let output = Run::script(&count(&from, &to, &once), &[]).wait(DEADLINE);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An instance that was thought to be dead writes nothing any more.
fn fencing() {
    let (from, to) = (created("fence-in"), created("fence"));
    let sql = count(&from, &to, &commits(&to, &server().address));
    produce(&from, 10);
    let mut first = Run::script(&sql, &[]);
    wait_for(&mut first, &to, 10);
    first.signal("STOP");
    produce(&from, 10);
    ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), "the second");
    produce(&from, 10);
    first.signal("CONT");
    let output = first.wait(DEADLINE);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("another instance"), "{:?} {stderr}", output.status);
    ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), "the third");
    assert_counted(&to, 30);
    assert_no_garbage(&to, "fencing");
}

/// The record is replaced only by who has seen the one before.
fn fencing_without_kafka() {
    let pipeline = unique("fence");
    let sql = format!(
        "{} CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.id.kind' = 'sequence',
           'fields.id.start' = '1', 'fields.id.end' = '10000000');
         CREATE TABLE counts (d BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO counts SELECT MOD(id, 7), COUNT(*) FROM numbers GROUP BY MOD(id, 7);",
        commits(&pipeline, &server().address)
    );
    let record = || {
        let text = server().text(&format!("state/{pipeline}/commit.json"))?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some((record["generation"].as_u64()?, record["epoch"].as_u64()?))
    };
    let mut first = Run::script(&sql, &[]);
    wait_until("commits", DEADLINE, || record().is_some_and(|(_, epoch)| epoch > 2) || first.ended());
    assert!(!first.ended(), "{}", first.stderr());
    first.signal("STOP");
    let (_, before) = record().unwrap();
    ended_well(&Run::script(&sql, &["--duration", "1s"]).wait(DEADLINE), "the second");
    let of_second = record().unwrap();
    assert!(of_second.0 == 2 && of_second.1 > before, "{of_second:?}");
    first.signal("CONT");
    let output = first.wait(DEADLINE);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("another instance"), "{:?} {stderr}", output.status);
    assert_eq!(record().unwrap(), of_second);
    let third = Run::script_with(&sql, &["--duration", "1s"], &[("SLUICE_LOG", "info")]).wait(DEADLINE);
    ended_well(&third, "the third");
    assert!(String::from_utf8_lossy(&third.stderr).contains(&format!("going on from commit {}", of_second.1)));
    assert_no_garbage(&pipeline, "fencing without Kafka");
}

/// Written, listed, shown, judged, gone on from, deleted: with the environment's credentials and with the script's.
fn savepoints() {
    let dir = TempDir::new().unwrap();
    let (folder, input) = (unique("savepoints"), dir.path().join("in"));
    std::fs::create_dir(&input).unwrap();
    std::fs::write(input.join("1.json"), "{\"user\":\"u1\",\"v\":1}\n{\"user\":\"u2\",\"v\":2}\n").unwrap();
    let script = |query: &str| {
        format!(
            "{} CREATE TABLE a (`user` STRING, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
             CREATE TABLE result (u STRING, n BIGINT) WITH ('connector' = 'print');
             INSERT INTO result {query};",
            set(&s3::settings(&server().address)),
            input.display()
        )
    };
    let sum = script("SELECT `user`, SUM(v) FROM a GROUP BY `user`");
    let at = |name: &str| format!("s3://{BUCKET}/{folder}/{name}");
    ended_well(&Run::script(&sum, &["--savepoint-at-end", &at("1")]).wait(DEADLINE), "the first");
    let again = Run::script(&sum, &["--savepoint-at-end", &at("1")]).wait(DEADLINE);
    assert!(String::from_utf8_lossy(&again.stderr).contains("holds a savepoint already"), "{again:?}");
    std::fs::write(input.join("2.json"), "{\"user\":\"u2\",\"v\":40}\n").unwrap();
    // Flink's other names of S3 mean the same.
    let s3a = at("1").replace("s3://", "s3a://");
    let text = ended_well(&Run::script(&sum, &["--restore-from", &s3a, "--savepoint-at-end", &at("2")]).wait(DEADLINE), "the second");
    assert!(text.contains("42") && !text.contains("u1"), "{text}");
    let list = ended_well(&sluice(&["savepoint", "list", &format!("s3://{BUCKET}/{folder}")]), "list");
    assert_eq!(list.lines().filter(|l| l.contains(&at(""))).count(), 2, "{list}");
    let show = ended_well(&sluice(&["savepoint", "show", &at("2"), "--key", "u2"]), "show");
    assert!(show.contains("42") && !show.contains("u1"), "{show}");
    let file = |sql: &str| {
        let path = dir.path().join("check.sql");
        std::fs::write(&path, sql).unwrap();
        path.display().to_string()
    };
    assert_eq!(sluice(&["check", &at("2"), &file(&sum)]).status.code(), Some(0));
    let other = script("SELECT `user`, SUM(v) FROM a GROUP BY `user`, v");
    assert_eq!(sluice(&["check", &at("2"), &file(&other)]).status.code(), Some(2));
    ended_well(&sluice(&["savepoint", "delete", &at("1")]), "delete");
    let left = server().objects(&folder);
    assert!(left.len() > 1 && left.iter().all(|name| name.starts_with("2/")), "{left:?}");
    let gone = sluice(&["savepoint", "show", &at("1")]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("it has no manifest.json"), "{gone:?}");
    let mut command = Command::new(binary());
    command.args(["savepoint", "show", &at("2"), "--set", &format!("s3.endpoint=http://{}", server().address)]);
    command.env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    ended_well(&command.output().unwrap(), "an endpoint by --set");
}

/// By request and again and again.
fn taken() {
    let (folder, url) = (unique("taken"), format!("http://127.0.0.1:{}", free_port()));
    let sql = format!(
        "{}{} CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.id.kind' = 'sequence',
           'fields.id.start' = '1', 'fields.id.end' = '10000000');
         CREATE TABLE counts (d BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO counts SELECT MOD(id, 7), COUNT(*) FROM numbers GROUP BY MOD(id, 7);",
        set(&s3::settings(&server().address)),
        set(&[
            ("kubernetes.operator.periodic.savepoint.interval", "300 ms".to_owned()),
            ("execution.checkpointing.savepoint-dir", format!("s3p://{BUCKET}/{folder}/periodic")),
        ])
    );
    let mut run = Run::script(&sql, &["--http", &url[7..]]);
    wait_until("the job", DEADLINE, || ureq::get(format!("{url}/readyz")).call().is_ok() || run.ended());
    let at = |name: &str| format!("s3://{BUCKET}/{folder}/{name}");
    let take = |name: &str, more: &[&str]| sluice(&[&["savepoint", "take", "--url", &url, &at(name)], more].concat());
    assert_eq!(ended_well(&take("1", &[]), "take").trim(), at("1"));
    let again = take("1", &["--stop"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("holds a savepoint already"), "{again:?}");
    let elsewhere = sluice(&["savepoint", "take", "--url", &url, "s3://no-such-bucket/1", "--stop"]);
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("there is no bucket 'no-such-bucket'"), "{elsewhere:?}");
    assert!(!run.ended(), "a savepoint that cannot be written ends no job");
    let manifests = || server().objects(&format!("{folder}/periodic")).iter().filter(|n| n.ends_with("/manifest.json")).count();
    wait_until("periodic savepoints", DEADLINE, || manifests() >= 2);
    ended_well(&take("2", &["--stop"]), "stop");
    ended_well(&run.wait(DEADLINE), "the job");
    let rest = Run::script(&sql, &["--restore-from", &at("2"), "--duration", "300ms"]).wait(DEADLINE);
    ended_well(&rest, "the rest");
}

fn errors() {
    let run = |settings: &[(&str, String)], dir: &str| {
        let sql = format!(
            "{} CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1');
             CREATE TABLE counts (n BIGINT) WITH ('connector' = 'blackhole');
             INSERT INTO counts SELECT COUNT(*) FROM numbers;",
            set(settings) + &set(&[("state.checkpoints.dir", dir.to_owned())])
        );
        let output = Run::script_with(&sql, &["--duration", "20s"], &[("AWS_EC2_METADATA_DISABLED", "true")]).wait(DEADLINE);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let here = s3::settings(&server().address);
    let with = |key: &'static str, value: &str| {
        let mut settings = here.clone().to_vec();
        settings.retain(|(k, _)| *k != key);
        settings.push((key, value.to_owned()));
        settings
    };
    let dir = format!("s3://{BUCKET}/errors");
    for (settings, dir, code, wanted) in [
        (here.to_vec(), "s3://no-such-bucket/x", 1, "there is no bucket 'no-such-bucket'"),
        (with("s3.secret-key", "not-the-secret"), dir.as_str(), 1, "refuses the credentials (SignatureDoesNotMatch"),
        (with("s3.access-key", "nobody"), dir.as_str(), 1, "refuses the credentials ("),
        (with("s3.acess-key", "x"), dir.as_str(), 2, "did you mean 's3.access-key'"),
        (here.to_vec(), "s4://bucket/x", 2, "did you mean 's3://'"),
        (here.to_vec(), "gs://bucket/x", 2, "is not supported"),
    ] {
        let started = Instant::now();
        let (status, stderr) = run(&settings, dir);
        assert!(status == Some(code) && stderr.contains(wanted), "{dir}: {status:?} {stderr}");
        assert!(!stderr.contains(SECRET_KEY) && !stderr.contains("not-the-secret"), "{stderr}");
        assert!(started.elapsed() < Duration::from_secs(15), "what cannot get better is not tried again");
    }
}
