//! Connectors: `source/` and `sink/`, one file each, and the factory that makes them from a table's options.

mod columns;
mod http;
mod jdbc;
mod kafka;
mod options;
mod progress;
mod registry;
mod sent;
mod sink;
mod source;
#[cfg(test)]
mod test_util;
mod watermark;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Error, ErrorKind, Expr, Field, Millis, Result, Span, SqlType};
use sluice_format::ChangelogMode;

/// A table as a connector sees it: no SQL, only columns and options.
#[derive(Clone, Debug)]
pub struct TableSpec {
    pub name: String,
    /// Physical columns, in order.
    pub physical: Vec<Field>,
    /// Metadata columns: key and declared type.
    pub metadata: Vec<MetadataColumn>,
    /// Positions in `physical`.
    pub primary_key: Option<Vec<usize>>,
    pub options: Vec<TableOption>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct MetadataColumn {
    pub key: String,
    pub field: Field,
    /// VIRTUAL: read only.
    pub is_virtual: bool,
}

#[derive(Clone, Debug)]
pub struct TableOption {
    pub key: String,
    pub value: String,
    pub key_span: Span,
    pub value_span: Span,
}

/// What the plan wants of a source.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// Output columns in order.
    pub columns: Vec<ScanColumn>,
    /// Makes watermarks per split (Kafka partition); `None`: no event time.
    pub watermark: Option<WatermarkSpec>,
    /// `--bounded`: end at the offsets that are the latest at the start.
    pub force_bounded: bool,
    /// `table.local-time-zone`
    pub time_zone: chrono_tz::Tz,
    /// Which splits to read if several tasks read the table.
    pub share: Share,
    /// Kafka: the consumer group whose offsets are committed if the table names none.
    pub group: Option<String>,
    /// Rows for which this is not true may be left out: it is of what [`can_filter`] has agreed to, and looked at again behind the source.
    pub filter: Option<Expr>,
}

/// One task's part of a table's splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub task: usize,
    pub tasks: usize,
}

impl Share {
    /// Everything.
    pub const ALL: Self = Self { task: 0, tasks: 1 };

    /// Whether split `number` of a group of splits (a topic) is this task's. Groups begin at different tasks, so that many topics of
    /// few partitions are spread, too (Flink: `KafkaSourceEnumerator.getSplitOwner`).
    pub fn has(self, group: &str, number: usize) -> bool {
        let first = group.bytes().fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(b))) >> 4;
        (first % self.tasks + number) % self.tasks == self.task
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanColumn {
    /// Position in `TableSpec::physical`.
    Physical(usize),
    /// Position in `TableSpec::metadata`.
    Metadata(usize),
}

/// How watermarks are made: `expr` over the scan's output columns gives the watermark that a row allows, a TIMESTAMP(3) or
/// TIMESTAMP_LTZ(3); NULL fails the job. (Flink: `WatermarkAssignerOperator`, pushed into the source where there are splits.)
#[derive(Clone, Debug)]
pub struct WatermarkSpec {
    pub expr: Expr,
    /// Position of the rowtime column in the output.
    pub column: usize,
    /// `scan.watermark.emit.strategy` = `on-event`: a watermark after every row that raises it.
    pub on_event: bool,
    /// `pipeline.auto-watermark-interval` (200 ms): how often a watermark is given, on the task's clock; zero: with every batch.
    pub interval: Duration,
    /// `scan.watermark.idle-timeout` / `table.exec.source.idle-timeout`; zero: never idle.
    pub idle_timeout: Duration,
}

/// What a source gives.
#[derive(Debug)]
pub enum SourceEvent {
    Rows(Batch),
    /// The minimum over the splits that are not idle.
    Watermark(Millis),
    /// All splits are idle: time is left to other inputs until rows come.
    Idle,
    /// Nothing within the time given.
    Pending,
    /// A bounded source has given all it has. The task sends the maximal watermark.
    End,
}

/// A running source. One thread polls it.
pub trait Source: Send {
    /// The next event; waits at most `timeout` for one. `now` is the task's clock.
    ///
    /// # Errors
    /// If the outside fails for good, or a record is malformed; the message names topic-partition-offset or file and line.
    fn poll(&mut self, timeout: Duration, now: Millis) -> Result<SourceEvent>;

    /// Where reading goes on after everything given so far: `(split, position)`, e.g. (`topic-0`, `17`).
    fn positions(&self) -> Vec<(String, String)>;

    /// False: there are more tasks than splits, and this one has none; it holds no time back.
    fn has_splits(&self) -> bool {
        true
    }

    /// Sets where to start, before the first poll: what `positions` said.
    fn seek(&mut self, positions: &[(String, String)]) -> Result<()>;

    /// Commits `positions()` as they are now when what it answers is called (Kafka: the group's offsets; does not wait for the answer).
    fn commit(&mut self) -> Result<Option<Later>> {
        Ok(None)
    }

    /// Kafka: the group that offsets are committed to.
    fn group(&self) -> Option<ConsumerGroup> {
        None
    }

    /// Kafka: [`Source::positions`] as offsets.
    fn offsets(&self) -> Vec<PartitionOffset> {
        vec![]
    }

    /// Kafka: what the group has committed of this source's partitions.
    fn committed(&mut self) -> Result<Vec<CommittedOffset>> {
        Ok(vec![])
    }

    /// Kafka: what commits offsets to the group.
    fn offset_committer(&self) -> Option<Arc<dyn OffsetCommitter>> {
        None
    }

    /// What a source itself writes (dead letters) is with the outside when this returns; called before positions are committed.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Records that could not be read and did not fail the job, since the start.
    fn malformed(&self) -> Malformed {
        Malformed::default()
    }

    /// What monitoring shows: per split the watermark, lag in records, idleness.
    fn splits(&self) -> Vec<SplitStatus> {
        vec![]
    }
}

/// What is left to do, by any thread.
pub type Later = Box<dyn FnOnce() -> Result<()> + Send>;

/// Commits offsets of a consumer group, from any thread.
pub trait OffsetCommitter: Send + Sync {
    /// Commits offsets and waits until that is done. `false`: the brokers do not answer now.
    ///
    /// # Errors
    /// If they refuse.
    fn commit(&self, offsets: &[CommittedOffset]) -> Result<bool>;
}

/// A consumer group and the cluster that keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerGroup {
    /// The brokers, in one order.
    pub cluster: String,
    pub name: String,
}

/// Where reading a partition goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// A committed offset and what was written beside it (at most 4096 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub at: PartitionOffset,
    pub metadata: String,
}

/// Numbers of records that could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Malformed {
    /// Left out because the format says so (`ignore-parse-errors`).
    pub skipped: u64,
    /// Sent to the dead-letter topic.
    pub dead_letters: u64,
}

#[derive(Clone, Debug)]
pub struct SplitStatus {
    pub split: String,
    pub watermark: Option<Millis>,
    pub idle: bool,
    /// Records behind the end, if known.
    pub lag: Option<i64>,
}

/// A running sink. One thread writes to it.
pub trait Sink: Send {
    /// Writes rows: the columns of the table that persist (physical, then metadata that is not virtual), in that order.
    fn write(&mut self, batch: &Batch) -> Result<()>;

    /// Everything written is with the outside when it returns (or is buffered by the user's own setting, unless `end`).
    fn flush(&mut self, end: bool) -> Result<()>;

    /// Everything written so far is with the outside when what it answers has been called, in any thread. What is written meanwhile
    /// waits for that.
    fn flush_later(&mut self) -> Result<Option<Later>> {
        self.flush(false).map(|()| None)
    }

    /// What has waited for a flush that is over goes out.
    fn release(&mut self) -> Result<()> {
        Ok(())
    }

    /// Processing time moves on: time-based buffers.
    fn tick(&mut self, _now: Millis) -> Result<()> {
        Ok(())
    }
}

/// What the planner must know of a source table.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    pub changelog: ChangelogMode,
    pub bounded: bool,
    /// The source gives upserts by this key without old rows, so they must be normalised (positions in `physical`).
    pub upsert_key: Option<Vec<usize>>,
}

/// What the planner must know of a sink table.
#[derive(Clone, Debug)]
pub struct SinkInfo {
    pub changelog: ChangelogMode,
    /// Deletes need only carry the key.
    pub delete_by_key: bool,
    /// A sentence for EXPLAIN: `exactly-once`, `at-least-once`, …
    pub guarantee: &'static str,
}

/// How the answers of a looked-up table are kept (Flink: `LookupOptions`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Keys at most; those not asked for for the longest time go first.
    pub max_rows: Option<u64>,
    pub expire_after_write: Option<Duration>,
    pub expire_after_access: Option<Duration>,
    /// That a key has no rows is kept, too.
    pub missing_keys: bool,
}

/// What the planner must know of a table that is looked up in.
#[derive(Clone, Debug)]
pub struct LookupInfo {
    pub cache: Option<CacheOptions>,
}

/// What the plan wants to look up.
#[derive(Clone, Debug)]
pub struct LookupRequest {
    /// Columns that have the keys (positions in [`TableSpec::physical`]), and the types of the values that are given for them.
    pub keys: Vec<(usize, SqlType)>,
    /// Columns of the answer, in order (positions in [`TableSpec::physical`]).
    pub columns: Vec<usize>,
    /// `table.local-time-zone`
    pub time_zone: chrono_tz::Tz,
}

/// A table outside in which keys are looked up.
pub trait Lookup: Send {
    /// Begins to look up keys, one array a key column, without NULLs and without duplicates.
    ///
    /// # Errors
    /// If the keys cannot be sent.
    fn ask(&mut self, keys: &[ArrayRef]) -> Result<Answer>;
}

/// Rows that were found, and the number of the key that each has, in ascending order.
#[derive(Debug)]
pub struct Found {
    pub rows: Batch,
    pub keys: Vec<u32>,
}

/// What will be found.
pub struct Answer(Receiver<Result<Found>>);

impl Answer {
    pub fn new(receiver: Receiver<Result<Found>>) -> Self {
        Self(receiver)
    }

    /// Waits at most so long; `None`: it is not there yet.
    pub fn wait(&self, timeout: Duration) -> Option<Result<Found>> {
        match self.0.recv_timeout(timeout) {
            Ok(found) => Some(found),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(Error::runtime("internal: a look-up was given up"))),
        }
    }
}

/// What the planner must know of a table that is looked up in; checks its options.
///
/// # Errors
/// As [`source_info`]; if keys cannot be looked up in it.
pub fn lookup_info(table: &TableSpec) -> Result<LookupInfo> {
    (registry::lookup(table)?.info)(table)
}

/// Connects to the outside for looking keys up.
///
/// # Errors
/// If the outside cannot be reached or refuses.
pub fn open_lookup(table: &TableSpec, request: &LookupRequest) -> Result<Box<dyn Lookup>> {
    (registry::lookup(table)?.open)(table, request).map_err(|e| located(e, table).context(format!("looking up in table '{}'", table.name)))
}

/// What the planner must know of a table as a source; checks its options.
///
/// # Errors
/// If the connector is unknown, cannot be read, or an option is missing, unknown or wrong; the error has the option's place.
pub fn source_info(table: &TableSpec) -> Result<SourceInfo> {
    (registry::source(table)?.info)(table)
}

/// What the planner must know of a table as a sink; checks its options.
///
/// # Errors
/// As [`source_info`].
pub fn sink_info(table: &TableSpec) -> Result<SinkInfo> {
    (registry::sink(table)?.info)(table)
}

/// Metadata keys that a table's connector and format offer, with their types (Flink: `SupportsReadingMetadata.listReadableMetadata`).
/// Sinks that cannot be read offer none.
///
/// # Errors
/// If the connector or its format is unknown.
pub fn readable_metadata(table: &TableSpec) -> Result<Vec<Field>> {
    match &registry::find(table)?.source {
        Some(source) => (source.metadata)(table),
        None => Ok(vec![]),
    }
}

/// Whether a table's source can leave out rows for which a condition is not true. Columns are those of the request.
pub fn can_filter(table: &TableSpec, request: &ScanRequest, condition: &Expr) -> bool {
    registry::source(table).is_ok_and(|source| (source.filters)(table, request, condition))
}

/// Connects to the outside and starts to read.
///
/// # Errors
/// If the outside cannot be reached or refuses.
pub fn open_source(table: &TableSpec, request: &ScanRequest) -> Result<Box<dyn Source>> {
    (registry::source(table)?.open)(table, request).map_err(|e| located(e, table).context(format!("reading table '{}'", table.name)))
}

/// Whether a task reads anything of a table. Tables without splits are read by the first task.
///
/// # Errors
/// As [`source_info`].
pub fn has_share(table: &TableSpec, share: Share) -> Result<bool> {
    Ok(share.task == 0 || registry::source(table)?.splits)
}

fn is_kafka(table: &TableSpec) -> bool {
    table.options.iter().any(|o| o.key == "connector" && matches!(o.value.as_str(), "kafka" | "upsert-kafka"))
}

fn is_jdbc(table: &TableSpec) -> bool {
    table.options.iter().any(|o| o.key == "connector" && o.value == "jdbc")
}

/// The last error of an instance from which another one has taken over.
pub fn replaced(why: &str) -> Error {
    kafka::transaction::fenced(why)
}

/// The transaction that a job's exactly-once sinks share; shared by all that open sinks of the job.
#[derive(Clone, Default)]
pub struct Transactions {
    pub(crate) kafka: Option<Arc<kafka::transaction::Transaction>>,
    pub(crate) database: Option<Arc<jdbc::transaction::Transaction>>,
}

impl Transactions {
    /// Makes the producer for those of the job's sink tables that are to be written exactly once. An earlier instance of the job cannot
    /// write any more when this returns, and what it had not committed is gone.
    ///
    /// `interval`: the time between commits.
    ///
    /// # Errors
    /// If the brokers cannot be reached, or the tables cannot be in one transaction.
    pub fn open(tables: &[&TableSpec], pipeline: &str, interval: Duration, time_zone: chrono_tz::Tz) -> Result<Self> {
        let of = |accept: fn(&TableSpec) -> bool| tables.iter().copied().filter(|t| accept(t)).collect::<Vec<_>>();
        let exact = |accept| of(accept).into_iter().find(|t| Self::are_used(&[t]));
        if let (Some(kafka), Some(database)) = (exact(is_kafka), exact(is_jdbc)) {
            let message = format!(
                "tables '{}' and '{}' are in Kafka and in PostgreSQL: one transaction cannot write to both exactly once",
                kafka.name, database.name
            );
            return Err(Error::plan(message).at(database.span).hint("make one of them at-least-once, or make two jobs of it"));
        }
        Ok(Self {
            kafka: kafka::transaction::Transaction::open(&of(is_kafka), pipeline, interval)?.map(Arc::new),
            database: jdbc::transaction::Transaction::open(&of(is_jdbc), pipeline, time_zone)?.map(Arc::new),
        })
    }

    /// Whether one of the tables is written exactly once.
    pub fn are_used(tables: &[&TableSpec]) -> bool {
        let guarantee = |t: &TableSpec| {
            t.options.iter().any(|o| o.key == "sink.delivery-guarantee" && o.value.trim().eq_ignore_ascii_case("exactly-once"))
        };
        tables.iter().any(|t| (is_kafka(t) || is_jdbc(t)) && guarantee(t))
    }

    /// Brokers that have aborted a transaction because it was open for too long refuse its producer just as if another instance had taken
    /// over: then the job may begin again.
    pub fn explain(&self, error: Error) -> Error {
        match &self.kafka {
            Some(transaction) if error.is_last() => transaction.explain(error),
            _ => error,
        }
    }

    /// The brokers; `None` if no sink is exactly-once.
    pub fn cluster(&self) -> Option<String> {
        self.kafka.as_ref().map(|t| kafka::transaction::cluster(&t.servers))
    }

    /// What is written from now on waits for one of the calls below, and then belongs to the next transaction. Answers whether
    /// anything was written since the last time. Nobody writes during the call.
    pub fn seal(&self) -> bool {
        let dirty = self.gates().map(kafka::gate::Gate::close).collect::<Vec<_>>();
        dirty.contains(&true)
    }

    /// There is nothing to commit: the transaction goes on.
    pub fn reopen(&self) {
        self.gates().for_each(kafka::gate::Gate::open);
    }

    /// Unless a commit has ended well, the job fails: what waits is never sent.
    pub fn give_up(&self) {
        self.gates().for_each(kafka::gate::Gate::give_up);
    }

    /// Makes what was written before [`Transactions::seal`] visible together with offsets of groups, by name, of the same cluster, and
    /// begins the next transaction.
    ///
    /// # Errors
    /// If it could not be done; nothing is visible then.
    pub fn commit(&self, groups: &[(String, Vec<CommittedOffset>)]) -> Result<()> {
        self.database.as_ref().map_or(Ok(()), |t| t.commit(None))?;
        self.kafka.as_ref().map_or(Ok(()), |t| t.commit(groups))
    }

    fn gates(&self) -> impl Iterator<Item = &kafka::gate::Gate> {
        self.kafka.iter().map(|t| t.gate.as_ref()).chain(self.database.iter().map(|t| t.gate.as_ref()))
    }

    /// Outputs and the commit's record are in a database.
    pub fn are_in_database(&self) -> bool {
        self.database.is_some()
    }

    /// As [`Transactions::commit`], with the commit's record in the database.
    ///
    /// # Errors
    /// If it could not be done; nothing is visible then. The error is the job's last one if another instance has taken over.
    pub fn commit_with(&self, generation: u64, epoch: u64, record: &str) -> Result<()> {
        self.database.as_ref().map_or(Ok(()), |t| t.commit(Some(&commit_record(generation, epoch, record))))
    }

    /// The record of the last commit in the database.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn database_record(&self) -> Result<Option<String>> {
        self.database.as_ref().map_or(Ok(None), |t| t.record())
    }

    /// From now on only this start of the job commits to the database.
    ///
    /// # Errors
    /// The job's last one if a later start has done so.
    pub fn take_over(&self, generation: u64, epoch: u64, record: &str) -> Result<()> {
        self.database.as_ref().map_or(Ok(()), |t| t.take_over(&commit_record(generation, epoch, record)))
    }

    /// Where a job without sources on the cluster keeps its commits: a partition that it writes, whose committed offset is `epoch`.
    ///
    /// # Errors
    /// If no exactly-once table has one topic.
    pub fn anchor(&self, epoch: u64) -> Result<Option<PartitionOffset>> {
        self.kafka.as_ref().map(|t| t.anchor(epoch)).transpose()
    }

    /// What `group` has committed there.
    ///
    /// # Errors
    /// If the brokers do not answer.
    pub fn anchored(&self, group: &str) -> Result<Option<CommittedOffset>> {
        self.kafka.as_ref().map_or(Ok(None), |t| t.anchored(group))
    }
}

fn commit_record(generation: u64, epoch: u64, text: &str) -> jdbc::transaction::CommitRecord<'_> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    jdbc::transaction::CommitRecord { generation: number(generation), epoch: number(epoch), text }
}

/// Connects to the outside for writing.
///
/// # Errors
/// If the outside cannot be reached or refuses.
pub fn open_sink(table: &TableSpec, time_zone: chrono_tz::Tz, transactions: &Transactions) -> Result<Box<dyn Sink>> {
    (registry::sink(table)?.open)(table, time_zone, transactions)
        .map_err(|e| located(e, table).context(format!("writing table '{}'", table.name)))
}

/// What is wrong with a definition is said with its place; what is wrong outside has none.
fn located(error: Error, table: &TableSpec) -> Error {
    if error.kind() == ErrorKind::Plan { error.at(table.span) } else { error }
}
