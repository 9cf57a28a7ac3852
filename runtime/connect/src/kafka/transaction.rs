//! The transactional producer that all exactly-once sinks of a job share (KIP-98, KIP-447): outputs and the sources' offsets become
//! visible together.

use std::ffi::CStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use sluice_batch::{Error, Result, fail};
use sys::rd_kafka_resp_err_t as Code;

use super::client::{Client, c_string, timeout_ms};
use super::gate::Gate;
use super::offsets::List;
use super::properties::{Properties, Role};
use super::table::KafkaTable;
use crate::{CommittedOffset, PartitionOffset, TableSpec};

/// Java's and Flink's brokers allow at most this (`transaction.max.timeout.ms`).
const MOST: Duration = Duration::from_secs(900);
/// How long one call may wait before it is looked whether it makes sense to go on.
const CALL: Duration = Duration::from_secs(10);
/// How long the first connection is waited for.
const FIRST: Duration = Duration::from_secs(2);

/// An open transaction and its producer.
pub(crate) struct Transaction {
    pub client: Arc<Client>,
    pub servers: String,
    id: String,
    timeout: Duration,
    /// Closed while a commit is under way.
    pub gate: Arc<Gate>,
    /// Where a job without sources on this cluster keeps its commits.
    anchor: Option<String>,
    consumer: Properties,
}

/// The brokers as a set: the order in which they are named says nothing.
pub(crate) fn cluster(servers: &str) -> String {
    let mut names: Vec<&str> = servers.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
    names.sort_unstable();
    names.join(",")
}

pub(crate) fn is_fencing(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__FENCED | Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED | Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
    )
}

pub(crate) fn fenced(text: &str) -> Error {
    Error::runtime(format!("another instance of this job has started and has taken over; this one ends: {text}")).last()
}

/// A failed call.
struct Failure {
    text: String,
    code: Code,
    retriable: bool,
    fatal: bool,
}

/// Runs a call of the transaction interface.
fn check(error: *mut sys::rd_kafka_error_t) -> Result<(), Failure> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: an error object is ours to read and release.
    unsafe {
        let failure = Failure {
            text: CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned(),
            code: sys::rd_kafka_error_code(error),
            retriable: sys::rd_kafka_error_is_retriable(error) != 0,
            fatal: sys::rd_kafka_error_is_fatal(error) != 0,
        };
        sys::rd_kafka_error_destroy(error);
        Err(failure)
    }
}

impl Transaction {
    /// Makes the producer of some tables of one cluster, ends what an earlier producer of the same id has begun, and begins.
    ///
    /// # Errors
    /// If the brokers cannot be reached, or the options do not go together.
    pub fn open(tables: &[&TableSpec], pipeline: &str, interval: Duration) -> Result<Option<Self>> {
        let mut exactly = vec![];
        for spec in tables {
            let table = KafkaTable::new(spec, is_upsert(spec))?;
            if table.guarantee == "exactly-once" {
                exactly.push((*spec, table));
            }
        }
        let Some((spec, first)) = exactly.iter().min_by_key(|(_, t)| t.transactional_prefix.clone()) else { return Ok(None) };
        for (other, table) in &exactly {
            let refused = |message: String| Err(Error::plan(message).at(other.span));
            if cluster(&table.servers) != cluster(&first.servers) {
                return refused(format!(
                    "tables '{}' and '{}' are on different Kafka clusters: one transaction cannot write to both exactly once",
                    spec.name, other.name
                ));
            }
            let without = |t: &KafkaTable| t.producer.set.iter().filter(|(k, _)| k != "bootstrap.servers").cloned().collect::<Vec<_>>();
            if without(table) != without(first) {
                return refused(format!(
                    "exactly-once tables share one producer, but '{}' and '{}' give it different 'properties'",
                    spec.name, other.name
                ));
            }
        }
        let timeout = timeout(spec, &first.producer, interval)?;
        let id = format!("{}-{pipeline}", first.transactional_prefix.as_deref().unwrap_or_default());
        let millis = timeout.as_millis().to_string();
        let more = [("transactional.id", id.as_str()), ("transaction.timeout.ms", millis.as_str())];
        let client = Client::producer(first.producer.config(Role::Producer, &more)?, &first.servers)?;
        let anchor = exactly.iter().find_map(|(_, t)| t.topic().map(str::to_owned));
        let (servers, consumer) = (first.servers.clone(), first.consumer.clone());
        let this = Self { client: Arc::new(client), servers, id, timeout, gate: Arc::default(), anchor, consumer };
        this.init(first.patience)?;
        this.begin()?;
        Ok(Some(this))
    }

    fn init(&self, patience: Duration) -> Result<()> {
        let started = Instant::now();
        // With no broker connected librdkafka looks for the coordinator only half a second later. Who does not answer is told of below.
        drop(self.client.metadata(self.anchor.as_deref(), FIRST));
        loop {
            // SAFETY: the handle is valid.
            match check(unsafe { sys::rd_kafka_init_transactions(self.client.raw(), timeout_ms(CALL)) }) {
                Ok(()) => return Ok(()),
                Err(f) if f.retriable && started.elapsed() < patience => {
                    // Serves the error callback, so that the message says why.
                    self.client.serve(Duration::from_millis(100))?;
                }
                Err(f) if f.code == Code::RD_KAFKA_RESP_ERR__TIMED_OUT || f.code == Code::RD_KAFKA_RESP_ERR__TRANSPORT => {
                    return Err(self.client.fail("beginning transactions", f.code));
                }
                Err(f) => return Err(self.failed("cannot begin transactions", &f)),
            }
        }
    }

    fn begin(&self) -> Result<()> {
        // SAFETY: the handle is valid.
        check(unsafe { sys::rd_kafka_begin_transaction(self.client.raw()) }).map_err(|f| self.failed("cannot begin a transaction", &f))
    }

    /// Commits what was written before the gate was closed, together with offsets of groups, begins the next, and opens the gate.
    ///
    /// # Errors
    /// If it could not be done: nothing of it is visible then. The error is the job's last one if another instance has taken over.
    pub fn commit(&self, groups: &[(String, Vec<CommittedOffset>)]) -> Result<()> {
        let done = self.try_commit(groups);
        if let Err(error) = done {
            if !error.is_last() {
                // SAFETY: the handle is valid. What cannot be aborted is aborted by the next start.
                drop(check(unsafe { sys::rd_kafka_abort_transaction(self.client.raw(), timeout_ms(CALL)) }));
            }
            return Err(error);
        }
        self.gate.committed();
        self.begin()?;
        self.gate.open();
        Ok(())
    }

    fn try_commit(&self, groups: &[(String, Vec<CommittedOffset>)]) -> Result<()> {
        self.client.flush(self.timeout)?;
        fail::point("outputs-flushed");
        for (group, offsets) in groups {
            self.send_offsets(group, offsets)?;
        }
        fail::point("offsets-sent");
        // SAFETY: the handle is valid.
        self.insist("cannot commit the transaction", || unsafe { sys::rd_kafka_commit_transaction(self.client.raw(), timeout_ms(CALL)) })
    }

    fn send_offsets(&self, group: &str, offsets: &[CommittedOffset]) -> Result<()> {
        let offsets = super::with_metadata(offsets);
        let list = List::with_metadata(&offsets)?;
        let group = c_string(group)?;
        // SAFETY: the name is valid for the call; the object is released below.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata_new(group.as_ptr()) };
        // SAFETY: all handles are valid.
        let sent = self.insist("cannot commit offsets in the transaction", || unsafe {
            sys::rd_kafka_send_offsets_to_transaction(self.client.raw(), list.raw, metadata, timeout_ms(CALL))
        });
        // SAFETY: owned.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(metadata) };
        sent
    }

    /// Repeats a call that may be repeated, as long as the transaction can live.
    fn insist(&self, what: &str, call: impl Fn() -> *mut sys::rd_kafka_error_t) -> Result<()> {
        let started = Instant::now();
        loop {
            match check(call()) {
                Ok(()) => return Ok(()),
                Err(f) if f.retriable && started.elapsed() < self.timeout => {
                    tracing::warn!("{what}: {}; trying again", f.text);
                    self.client.serve(Duration::from_millis(50))?;
                }
                Err(f) => return Err(self.failed(what, &f)),
            }
        }
    }

    /// What "fenced" means if the brokers have had reason to abort the transaction themselves: they count from its first record.
    pub fn explain(&self, error: Error) -> Error {
        let open = self.gate.open_for();
        if open < self.timeout {
            return error;
        }
        let (open, timeout) = (open.as_millis(), self.timeout.as_millis());
        Error::runtime(format!(
            "the brokers have aborted the transaction (transactional.id '{}'): it was open for {open} ms, and 'transaction.timeout.ms' is {timeout}",
            self.id
        ))
    }

    fn failed(&self, what: &str, failure: &Failure) -> Error {
        let text = format!("{what} (transactional.id '{}'): {}", self.id, failure.text);
        if is_fencing(failure.code) || (failure.fatal && self.client.check().is_err_and(|e| e.is_last())) {
            return fenced(&text);
        }
        Error::runtime(text)
    }

    /// Where a job without sources on this cluster commits: the first partition of a topic that it writes.
    ///
    /// # Errors
    /// If all exactly-once tables choose their topic by row.
    pub fn anchor(&self, epoch: u64) -> Result<PartitionOffset> {
        let topic = self.anchor.clone().ok_or_else(|| {
            Error::runtime("a job without Kafka sources needs an exactly-once table with one 'topic', where its commits are kept")
        })?;
        Ok(PartitionOffset { topic, partition: 0, offset: i64::try_from(epoch).unwrap_or(i64::MAX) })
    }

    /// What `group` has committed for the anchor.
    ///
    /// # Errors
    /// If the brokers do not answer.
    pub fn anchored(&self, group: &str) -> Result<Option<CommittedOffset>> {
        let at = self.anchor(0)?;
        let client = Client::consumer(self.consumer.config(Role::Consumer, &[("group.id", group)])?, &self.servers)?;
        let found = client.committed_metadata(&[super::offset(&at)], CALL)?;
        Ok(super::committed(found).pop())
    }
}

impl Drop for Transaction {
    /// Readers of committed records should not wait for what will not come.
    fn drop(&mut self) {
        if self.gate.is_dirty() && !self.client.check().is_err_and(|e| e.is_last()) {
            // SAFETY: the handle is valid. What fails here is done by the brokers when the time is over.
            drop(check(unsafe { sys::rd_kafka_abort_transaction(self.client.raw(), timeout_ms(Duration::from_secs(5))) }));
        }
    }
}

fn is_upsert(spec: &TableSpec) -> bool {
    spec.options.iter().any(|o| o.key == "connector" && o.value == "upsert-kafka")
}

/// `transaction.timeout.ms`: what the user says, if it is longer than the time between commits; else a minute more than that.
fn timeout(spec: &TableSpec, producer: &Properties, interval: Duration) -> Result<Duration> {
    let Some(text) = producer.get("transaction.timeout.ms") else {
        let wanted = interval + Duration::from_secs(60);
        return if wanted <= MOST || interval < MOST { Ok(wanted.min(MOST)) } else { Ok(wanted) };
    };
    let given = Duration::from_millis(text.trim().parse().unwrap_or(0));
    if given > interval {
        return Ok(given);
    }
    let option = spec.options.iter().find(|o| o.key == "properties.transaction.timeout.ms");
    let message = format!("'transaction.timeout.ms' is {} ms, but commits are {} ms apart", given.as_millis(), interval.as_millis());
    Err(Error::plan(message).at(option.map_or(spec.span, |o| o.value_span)).hint("make it longer than 'execution.checkpointing.interval'"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_util::{int, table};

    #[test]
    fn the_timeout_is_longer_than_the_interval() {
        let read = |options: &[(&str, &str)], seconds| {
            let spec = table(options, &[("n", int())]);
            let given: Vec<_> = spec.options.iter().map(|o| (o.key.trim_start_matches("properties."), o)).collect();
            timeout(&spec, &Properties::new(&given, Role::Producer).unwrap(), Duration::from_secs(seconds))
        };
        assert_eq!(read(&[], 1).unwrap(), Duration::from_secs(61));
        assert_eq!(read(&[], 880).unwrap(), MOST);
        assert_eq!(read(&[("properties.transaction.timeout.ms", "5000")], 1).unwrap(), Duration::from_secs(5));
        assert!(read(&[("properties.transaction.timeout.ms", "5000")], 5).is_err());
    }

    #[test]
    fn clusters_are_sets_of_brokers() {
        assert_eq!(cluster("b:2, a:1"), cluster("a:1,b:2"));
        assert_ne!(cluster("a:1"), cluster("a:1,b:2"));
    }
}
