//! Jobs that are killed and started again, on real Kafka: what is committed must be what an uninterrupted run commits, row for row, and
//! no state file may be left that no commit names.
//!
//! `SLUICE_CRASHES=100` (`make crash`) kills each job so often at random; without it a few times.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use sluice_tests::engine::{Run, binary};
use sluice_tests::jobs::{
    self, DEADLINE, Input, JOBS, Job, assert_no_garbage, assert_same, bootstrap, content, created, ended_well, reference, reference_of,
    script, unique,
};
use sluice_tests::services::Kafka;
use sluice_tests::topics::{self, Record};
use tempfile::TempDir;

/// The steps of commit and recovery at which the process dies, and how often it passes them before.
const POINTS: &[&str] = &[
    "transactions-begun",
    "state-loaded",
    "sinks-flushed",
    "state-half-written:2",
    "state-written",
    "state-written:2",
    "outputs-flushed:2",
    "offsets-sent:2",
    "committed",
    "committed:2",
    "cleaned:2",
    "base-merged",
];

fn main() {
    let args = Arguments::from_args();
    let broker = (!args.list).then(Kafka::started);
    if let Some(broker) = &broker {
        jobs::use_broker(&broker.bootstrap);
    }
    let mut tests = vec![];
    for job in JOBS {
        tests.push(trial(format!("{}::killed_at_each_step", job.name), || at_each_step(job)));
        tests.push(trial(format!("{}::killed_at_random", job.name), || at_random(job)));
        tests.push(trial(format!("{}::rescaled", job.name), || rescaled(job)));
    }
    let others: &[(&str, fn())] = &[
        ("a_stateless_job_has_no_files", stateless),
        ("a_second_instance_takes_over", fencing),
        ("two_tasks_commit_together", two_tasks),
        ("a_broker_may_restart", broker_restart),
        ("a_poison_record_is_noticed", poison),
        ("a_savepoint_is_begun_with_once", savepoint_then_crash),
        ("files_to_files", files_to_files),
        ("at_least_once_loses_nothing", at_least_once),
        ("deleted_state_is_not_gone_on_from", deleted),
    ];
    tests.extend(others.iter().map(|(name, test)| trial((*name).to_owned(), *test)));
    let conclusion = libtest_mimic::run(&args, tests);
    drop(broker);
    conclusion.exit();
}

fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn at_each_step(job: &Job) {
    let wanted = reference(job);
    for point in POINTS {
        let (to, state) = (created(job.name), TempDir::new().unwrap());
        let dir = state.path().display().to_string();
        let sql = script(job, &to, "exactly-once", &[("execution.checkpointing.dir", &dir)]);
        // Steps of recovery: it dies in the start after a first death.
        let deaths: &[&str] = match *point {
            "transactions-begun" | "state-loaded" => &["committed:2", point],
            _ => &[point],
        };
        for death in deaths {
            let output = Run::script_with(&sql, &["--bounded"], &[("SLUICE_FAIL_POINT", death)]).wait(DEADLINE);
            // Not all jobs write so much that a new base is worth it.
            let passed = output.status.code() == Some(0) && death.starts_with("base-merged");
            assert!(passed || output.status.code().is_none(), "{death}: {:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), point);
        assert_same(&content(&to), &wanted, &format!("{} at {point}", job.name));
        assert_no_garbage(state.path(), &to, point);
    }
}

fn at_random(job: &Job) {
    let kills: usize = std::env::var("SLUICE_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let wanted = reference(job);
    let mut killed = 0;
    while killed < kills {
        let (to, state) = (created(job.name), TempDir::new().unwrap());
        let dir = state.path().display().to_string();
        let sql = script(job, &to, "exactly-once", &[("execution.checkpointing.dir", &dir)]);
        let mut limit = 400;
        loop {
            let mut run = Run::script(&sql, &["--bounded"]);
            let until = Instant::now() + Duration::from_millis(100 + rand::random::<u64>() % limit);
            while Instant::now() < until && !run.ended() {
                std::thread::sleep(Duration::from_millis(3));
            }
            if run.ended() {
                ended_well(&run.wait(DEADLINE), job.name);
                break;
            }
            run.signal("KILL");
            run.wait(DEADLINE);
            (killed, limit) = (killed + 1, limit + 50);
        }
        assert_same(&content(&to), &wanted, &format!("{} after {killed} kills", job.name));
        assert_no_garbage(state.path(), &to, job.name);
    }
}

const FILTER: Job = Job { name: "filter", columns: "k INT, v BIGINT", key: "", query: "SELECT k, v FROM a WHERE MOD(v, 3) = 0" };

/// The offsets are all that it needs.
fn stateless() {
    let wanted = reference(&FILTER);
    for (point, with_dir) in [("offsets-sent:3", true), ("committed:4", true), ("outputs-flushed:3", false)] {
        let (to, state) = (created("filter"), TempDir::new().unwrap());
        let dir = state.path().display().to_string();
        let settings: &[(&str, &str)] = if with_dir { &[("execution.checkpointing.dir", &dir)] } else { &[] };
        let sql = script(&FILTER, &to, "exactly-once", settings);
        let died = Run::script_with(&sql, &["--bounded"], &[("SLUICE_FAIL_POINT", point)]).wait(DEADLINE);
        assert_eq!(died.status.code(), None, "{}", String::from_utf8_lossy(&died.stderr));
        ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), point);
        assert_same(&content(&to), &wanted, point);
        let files = if with_dir { std::fs::read_dir(state.path().join(&to)).unwrap().count() } else { 0 };
        assert_eq!(files, 0, "{point}: a job without state writes no file");
    }
}

/// An instance that was thought to be dead ends with exit code 1 and writes nothing any more.
fn fencing() {
    let (from, to, state) = (created("fencing-in"), created("fencing"), TempDir::new().unwrap());
    let produce = |range: std::ops::Range<i64>| {
        let record = |i: i64| Record {
            topic: from.clone(),
            timestamp: 1,
            value: Some(format!("{{\"k\":1,\"v\":{i}}}").into()),
            ..Record::default()
        };
        topics::produce(bootstrap(), &range.map(record).collect::<Vec<_>>());
    };
    let servers = format!("'properties.bootstrap.servers' = '{}', 'format' = 'json'", bootstrap());
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '50 ms'; SET 'execution.checkpointing.dir' = '{}'; SET 'pipeline.name' = '{to}';
         CREATE TABLE a (k INT, v BIGINT) WITH ('connector' = 'kafka', 'topic' = '{from}', 'scan.startup.mode' = 'earliest-offset', {servers});
         CREATE TABLE result (n BIGINT) WITH ('connector' = 'kafka', 'topic' = '{to}', {servers},
           'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'crash');
         INSERT INTO result SELECT n FROM (SELECT *, COUNT(*) OVER (PARTITION BY k ORDER BY p) AS n FROM (SELECT *, PROCTIME() AS p FROM a));",
        state.path().display()
    );
    produce(0..10);
    let mut first = Run::script(&sql, &[]);
    let started = Instant::now();
    while topics::committed(bootstrap(), &to).len() < 10 {
        assert!(!first.ended() && started.elapsed() < DEADLINE, "{}", first.stderr());
    }
    first.signal("STOP");
    produce(10..20);
    ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), "the second");
    produce(20..30);
    first.signal("CONT");
    let output = first.wait(Duration::from_secs(30));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("another instance"), "{:?} {stderr}", output.status);
    ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), "the third");
    let mut rows: Vec<_> = topics::committed(bootstrap(), &to).into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect();
    rows.sort_by_key(|r| r.trim_matches(|c: char| !c.is_ascii_digit()).parse::<i64>().unwrap());
    assert_eq!(rows, (1..=30).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>());
}

/// Tasks of one job have one record, and the next start may have more or fewer of them.
fn two_tasks() {
    for job in [&JOBS[0], &JOBS[1]] {
        let wanted = reference(job);
        let (to, state) = (created(job.name), TempDir::new().unwrap());
        let dir = state.path().display().to_string();
        let sql = script(job, &to, "exactly-once", &[("execution.checkpointing.dir", &dir)]);
        for (point, tasks) in [("committed:1", "2"), ("offsets-sent:1", "3"), ("state-written:1", "1")] {
            let run = Run::script_with(&sql, &["--bounded", "--parallelism", tasks], &[("SLUICE_FAIL_POINT", point)]);
            let died = run.wait(DEADLINE);
            // There is always a first commit. Those behind it may have nothing left to do.
            let done = point != "committed:1" && died.status.code() == Some(0);
            assert!(done || died.status.code().is_none(), "{point}: {}", String::from_utf8_lossy(&died.stderr));
        }
        ended_well(&Run::script(&sql, &["--bounded", "--parallelism", "2"]).wait(DEADLINE), job.name);
        assert_same(&content(&to), &wanted, &format!("{} by several tasks", job.name));
        assert_no_garbage(state.path(), &to, job.name);
    }
}

/// Killed or stopped while rows come, and started again with other numbers of tasks.
fn rescaled(job: &Job) {
    const PART: i64 = 4000;
    // 1 -> 3 -> 2, both after a kill and after a stop.
    const LIVES: &[(&str, &str)] = &[("1", "KILL"), ("3", "KILL"), ("2", "TERM"), ("1", "TERM"), ("3", "TERM"), ("2", "KILL")];
    let input = Input::new(bootstrap());
    let (to, state) = (created(job.name), TempDir::new().unwrap());
    let dir = state.path().display().to_string();
    let sql = input.script(bootstrap(), job, &to, "", &[("execution.checkpointing.dir", &dir)]);
    let out = topics::Reader::new(bootstrap(), std::slice::from_ref(&to));
    for (part, (tasks, signal)) in (0..).zip(LIVES) {
        let before = out.available();
        input.fill(part * PART..(part + 1) * PART);
        let mut run = Run::script(&sql, &["--parallelism", tasks]);
        let started = Instant::now();
        // Rows have been written, and most of the part is still to come, or nearly all of it is done.
        while out.available() < before + 50 {
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{}: {tasks} tasks: {}", job.name, run.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
        if *signal == "TERM" {
            ended_well(&run.stop(DEADLINE), &format!("{} stopped with {tasks} tasks", job.name));
        } else {
            run.signal(signal);
            run.wait(DEADLINE);
        }
    }
    ended_well(&Run::script(&sql, &["--bounded", "--parallelism", "3"]).wait(DEADLINE), job.name);
    assert_same(&content(&to), &reference_of(&input, job), &format!("{} rescaled", job.name));
    assert_no_garbage(state.path(), &to, job.name);
}

/// Rows come from a broker that dies in between and is started again.
fn broker_restart() {
    let mut broker = Kafka::started();
    let (bootstrap, from, to, state) = (broker.bootstrap.clone(), unique("in"), unique("out"), TempDir::new().unwrap());
    topics::create(&bootstrap, &[(from.clone(), 1), (to.clone(), 1)]);
    let produce = |range: std::ops::Range<i64>| {
        let record =
            |i: i64| Record { topic: from.clone(), timestamp: 1, value: Some(format!("{{\"v\":{i}}}").into()), ..Record::default() };
        topics::produce(&bootstrap, &range.map(record).collect::<Vec<_>>());
    };
    let options = format!("'connector' = 'kafka', 'properties.bootstrap.servers' = '{bootstrap}', 'format' = 'json'");
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '100 ms'; SET 'execution.checkpointing.dir' = '{}'; SET 'pipeline.name' = '{to}';
         CREATE TABLE a (v BIGINT, p AS PROCTIME()) WITH ('topic' = '{from}', 'scan.startup.mode' = 'earliest-offset', {options});
         CREATE TABLE result (n BIGINT) WITH ('topic' = '{to}', {options}, 'sink.delivery-guarantee' = 'exactly-once',
           'sink.transactional-id-prefix' = 'crash');
         INSERT INTO result SELECT COUNT(*) OVER (ORDER BY p) FROM a;",
        state.path().display()
    );
    produce(0..1000);
    let mut run = Run::script(&sql, &[]);
    let counted = |run: &mut Run, n: usize| {
        let started = Instant::now();
        while topics::committed(&bootstrap, &to).len() < n {
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{}", run.stderr());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    counted(&mut run, 1000);
    for part in 1..3 {
        broker.kill();
        std::thread::sleep(Duration::from_millis(500));
        broker.start();
        broker.wait();
        produce(part * 1000..part * 1000 + 1000);
        counted(&mut run, (part as usize + 1) * 1000);
    }
    ended_well(&run.stop(DEADLINE), "broker restart");
    let rows = topics::committed(&bootstrap, &to).into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap());
    assert_eq!(rows.collect::<Vec<_>>(), (1..=3000).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>());
}

/// A record that cannot be read fails the job again and again: with a strategy that ends, and one that goes on and says so.
fn poison() {
    let (from, to, state) = (created("poison"), created("poison-out"), TempDir::new().unwrap());
    let record = |value: &str| Record { topic: from.clone(), timestamp: 1, value: Some(value.into()), ..Record::default() };
    topics::produce(bootstrap(), &[record("{\"v\":1}"), record("{broken")]);
    let options = format!("'connector' = 'kafka', 'properties.bootstrap.servers' = '{}', 'format' = 'json'", bootstrap());
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '20 ms'; SET 'execution.checkpointing.dir' = '{}'; SET 'pipeline.name' = '{to}';
         SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.attempts' = '3';
         SET 'restart-strategy.fixed-delay.delay' = '50 ms';
         CREATE TABLE a (v BIGINT) WITH ('topic' = '{from}', 'scan.startup.mode' = 'earliest-offset', {options});
         CREATE TABLE result (v BIGINT) WITH ('topic' = '{to}', {options});
         INSERT INTO result SELECT v FROM a;",
        state.path().display()
    );
    let output = Run::script(&sql, &[]).wait(DEADLINE);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("partition 0 offset 1") && stderr.contains("it has come 3 times in a row"), "{stderr}");
}

/// A job that began with a savepoint is started with it again after a crash, and goes on from its commits.
fn savepoint_then_crash() {
    let job = &JOBS[0];
    let wanted = reference(job);
    let (to, state) = (created("savepoint"), TempDir::new().unwrap());
    let (dir, savepoint) = (state.path().join("state").display().to_string(), state.path().join("sp").display().to_string());
    let sql = script(job, &to, "exactly-once", &[("execution.checkpointing.dir", &dir)]);
    let stopped = Run::script(&sql, &["--duration", "700ms", "--savepoint-at-end", &savepoint]).wait(DEADLINE);
    ended_well(&stopped, "the first life");
    std::fs::remove_dir_all(&dir).unwrap();
    let from = ["--bounded", "--restore-from", savepoint.as_str()];
    // It dies once before its first commit and twice behind some.
    for point in ["state-written", "committed:2", "cleaned:2"] {
        let died = Run::script_with(&sql, &from, &[("SLUICE_FAIL_POINT", point)]).wait(DEADLINE);
        assert!(matches!(died.status.code(), None | Some(0)), "{point}: {}", String::from_utf8_lossy(&died.stderr));
    }
    ended_well(&Run::script(&sql, &from).wait(DEADLINE), "the last life");
    assert_same(&content(&to), &wanted, "from a savepoint");
    assert_no_garbage(Path::new(&dir), &to, "from a savepoint");
}

/// State is deleted: the next job of the name begins anew, although Kafka has the old one's commits; and goes on from its own.
fn deleted() {
    for job in [&JOBS[0], &FILTER] {
        let (to, state) = (created(job.name), TempDir::new().unwrap());
        let dir = state.path().display().to_string();
        let sql = script(job, &to, "exactly-once", &[("execution.checkpointing.dir", &dir)]);
        ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), "the first life");
        let delete = std::process::Command::new(binary()).args(["state", "delete", &dir, &to]).output().unwrap();
        ended_well(&delete, "state delete");
        // It dies once before its first commit, and once behind it, before it can have tidied up.
        for point in ["state-loaded", "committed"] {
            let died = Run::script_with(&sql, &["--bounded"], &[("SLUICE_FAIL_POINT", point)]).wait(DEADLINE);
            assert_eq!(died.status.code(), None, "{point}: {}", String::from_utf8_lossy(&died.stderr));
        }
        ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), "the last life");
        let mut wanted = reference(job);
        for values in wanted.values_mut() {
            values.extend(values.clone());
        }
        if let Some(unordered) = wanted.get_mut(&vec![]) {
            unordered.sort();
        }
        assert_same(&content(&to), &wanted, &format!("{} twice", job.name));
        assert_no_garbage(state.path(), &to, job.name);
    }
}

/// Without Kafka the record is a file.
fn files_to_files() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir(path("in")).unwrap();
    for part in 0..20 {
        let rows = (0..500).map(|i| format!("{{\"k\":{},\"v\":{i}}}\n", i % 10));
        std::fs::write(dir.path().join("in").join(format!("{part:02}.json")), rows.collect::<String>()).unwrap();
    }
    let (state, table) = (path("state"), |name: &str| format!("'connector' = 'filesystem', 'path' = '{}', 'format' = 'json'", path(name)));
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '1 ms'; SET 'execution.checkpointing.dir' = 'file://{state}'; SET 'pipeline.name' = 'files';
         CREATE TABLE a (k INT, v BIGINT) WITH ({});
         CREATE TABLE result (k INT, n BIGINT) WITH ('connector' = 'print');
         INSERT INTO result SELECT k, COUNT(*) FROM a GROUP BY k;",
        table("in")
    );
    for point in ["state-written:2", "committed", "cleaned:2"] {
        let died = Run::script_with(&sql, &[], &[("SLUICE_FAIL_POINT", point)]).wait(DEADLINE);
        assert_eq!(died.status.code(), None, "{point}: {}", String::from_utf8_lossy(&died.stderr));
    }
    let output = Run::script(&sql, &[]).wait(DEADLINE);
    ended_well(&output, "files");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().rev().find(|l| l.contains("+U[3,") || l.contains("+U[3 ")).unwrap_or_default();
    assert!(last.contains("1000"), "{last}: {}", text.lines().rev().take(5).collect::<Vec<_>>().join("\n"));
    assert_no_garbage(Path::new(&state), "files", "files");
}

/// Rows may come twice, but state is exact: the last of each key is.
fn at_least_once() {
    let job = &JOBS[0];
    let wanted = reference(job);
    for point in ["sinks-flushed:2", "state-written:2", "committed:2", "cleaned:2"] {
        let (to, state) = (created("at-least-once"), TempDir::new().unwrap());
        let dir = state.path().display().to_string();
        let sql = script(job, &to, "at-least-once", &[("execution.checkpointing.dir", &dir)]);
        let died = Run::script_with(&sql, &["--bounded"], &[("SLUICE_FAIL_POINT", point)]).wait(DEADLINE);
        assert_eq!(died.status.code(), None, "{point}: {}", String::from_utf8_lossy(&died.stderr));
        ended_well(&Run::script(&sql, &["--bounded"]).wait(DEADLINE), point);
        let got = content(&to);
        for (key, values) in &wanted {
            assert_eq!(got[key].last(), values.last(), "{point}");
            let distinct: BTreeSet<_> = got[key].iter().collect();
            assert_eq!(distinct, values.iter().collect(), "{point}: nothing is lost, nothing is made up");
        }
        assert_no_garbage(state.path(), &to, point);
    }
}
