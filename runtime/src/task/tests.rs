//! Jobs of several tasks whose threads run in an order that the test chooses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use sluice_batch::{Batch, Millis};
use sluice_broker::{Broker, Config};
use sluice_sql::relation::Schema;

use super::clock::SystemClock;
use super::*;
use crate::cli::run::job_options;
use crate::script::{self, Step};

/// The other tasks begin when the first one has read everything, or after a while: it may have nothing to read.
struct Ahead {
    first: String,
    stats: Arc<Stats>,
    rows: u64,
    until: Instant,
}

impl Clock for Ahead {
    fn now(&self) -> Millis {
        let thread = std::thread::current();
        let waits = thread.name().is_some_and(|name| name.starts_with("task-") && name != self.first);
        while waits && self.stats.rows_in() < self.rows && Instant::now() < self.until {
            std::thread::sleep(Duration::from_millis(1));
        }
        SystemClock.now()
    }
}

/// Adds up a column of counts.
struct Sum(Arc<AtomicU64>);

impl Client for Sum {
    fn rows(&mut self, _schema: &Schema, batch: &Batch, _context: &EvalContext) -> Result<()> {
        let sum: i64 = batch.columns()[0].as_primitive::<Int64Type>().values().iter().sum();
        self.0.fetch_add(sum as u64, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        Ok(())
    }
}

const TABLE: &str = "CREATE TABLE readings (k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
    WITH ('connector' = 'kafka', 'topic' = 'readings', 'properties.bootstrap.servers' = '${KAFKA}', 'scan.startup.mode' = 'earliest-offset',
    'scan.watermark.emit.strategy' = 'on-event', 'format' = 'json');\n";
/// 2024-01-01 10:00:24, the greatest watermark.
const LAST: Millis = 1_704_103_224_000;
/// What they do takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// A job over the table `readings`.
struct Readings<'a> {
    broker: &'a Broker,
    sql: &'a str,
    tasks: usize,
    /// The task that runs ahead of the others.
    first: usize,
    /// How many rows there are to be read.
    rows: usize,
    /// How many of them are late.
    late: u64,
    /// Its commits; without them it ends when it has read all rows.
    state: Option<&'a Path>,
}

impl Readings<'_> {
    /// Runs it until it has read all rows; answers the sum of the counts that it gives.
    fn run(&self) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("job.sql");
        std::fs::write(&file, format!("{TABLE}{}", self.sql)).unwrap();
        let vars = vec![format!("KAFKA={}", self.broker.bootstrap())];
        let script = script::load(&file, &script::Args { vars, bounded: self.state.is_none(), ..Default::default() }).unwrap();
        let Some(Step::Job { graph, catalog }) = script.steps.first() else { panic!("no job") };
        let options = JobOptions {
            parallelism: self.tasks,
            checkpoint_dir: self.state.map(|path| path.to_string_lossy().into_owned()),
            ..job_options(graph, catalog, "job", &mut BTreeSet::new()).unwrap()
        };
        let (stats, total, stop) = (Arc::new(Stats::default()), Arc::new(AtomicU64::new(0)), AtomicBool::new(false));
        let (first, rows) = (format!("task-{}", self.first), self.rows as u64);
        let clock = Ahead { first, stats: stats.clone(), rows, until: Instant::now() + Duration::from_secs(1) };
        let job = Job { graph, options: &options, clock: &clock, stop: &stop, stats: &stats };
        let ended = std::thread::scope(|scope| {
            let job = scope.spawn(|| run(job, Box::new(Sum(total.clone()))));
            let started = Instant::now();
            // The last row's watermark follows it; late rows are told now and then.
            let has_read = || stats.rows_in() >= rows && stats.watermark() == Some(LAST) && stats.late_rows() >= self.late;
            while self.state.is_some() && !has_read() && started.elapsed() < DEADLINE {
                std::thread::sleep(Duration::from_millis(1));
            }
            stop.store(self.state.is_some(), Ordering::Relaxed);
            job.join().unwrap().unwrap()
        });
        assert_eq!((ended == Ended::Stopped, stats.rows_in()), (self.state.is_some(), rows));
        assert_eq!(stats.late_rows(), self.late, "late rows, {} ahead", clock.first);
        total.load(Ordering::Relaxed)
    }
}

/// A reading of each of six keys.
fn at(second: u32) -> String {
    ["a", "b", "c", "d", "e", "f"].map(|k| format!("('{k}', TIMESTAMP '2024-01-01 10:00:{second:02}')")).join(", ")
}

fn produce(broker: &Broker, rows: &str) {
    let sql = format!("INSERT INTO readings VALUES {rows}");
    Readings { broker, sql: &sql, tasks: 1, first: 0, rows: 0, late: 0, state: None }.run();
}

fn broker() -> Broker {
    let broker = Broker::start(Config::default()).unwrap();
    broker.create_topic("readings", 1).unwrap();
    broker
}

#[test]
fn tasks_without_partitions_hold_no_time_back_from_the_start() {
    let broker = broker();
    produce(&broker, &format!("{}, ('g', TIMESTAMP '2024-01-01 10:00:25'), {}", at(1), at(2)));
    let sql = "SELECT n FROM (SELECT k, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND))
        GROUP BY k, window_start, window_end)";
    // One of them reads the only partition. What came last is late, whichever task is first.
    for first in 0..3 {
        let job = Readings { broker: &broker, sql, tasks: 3, first, rows: 13, late: 6, state: None };
        assert_eq!(job.run(), 7, "task {first} ahead");
    }
}

#[test]
fn time_goes_on_from_a_commit_of_which_some_tasks_had_no_partitions() {
    let (broker, state) = (broker(), tempfile::tempdir().unwrap());
    let sql = "CREATE TABLE hole (k STRING, n BIGINT) WITH ('connector' = 'blackhole');
        INSERT INTO hole SELECT k, COUNT(*) OVER (PARTITION BY k ORDER BY ts) FROM readings";
    let job = Readings { broker: &broker, sql, tasks: 3, first: 0, rows: 7, late: 0, state: Some(state.path()) };
    produce(&broker, &format!("{}, ('g', TIMESTAMP '2024-01-01 10:00:25')", at(1)));
    job.run();
    produce(&broker, &at(2));
    Readings { rows: 6, late: 6, ..job }.run();
}
