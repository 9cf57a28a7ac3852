//! What may be sent now, and what waits for a commit.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_batch::Result;

use super::producer::Outgoing;

/// So many bytes may wait.
const MOST: usize = 32 << 20;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const FAILED: u8 = 2;

/// Closed from the moment that a commit begins, in which nobody sends, until records may be sent again.
#[derive(Default)]
pub(crate) struct Gate {
    state: AtomicU8,
    dirty: AtomicBool,
    /// When the open transaction got its first record.
    since: Mutex<Option<Instant>>,
}

impl Gate {
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// It will open or fail.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// There is something to send.
    pub fn mark(&self) {
        if !self.dirty.load(Ordering::Relaxed) {
            self.dirty.store(true, Ordering::Relaxed);
            // What waits behind a commit does not make the transaction that is committed younger.
            if let Ok(mut since) = self.since.lock() {
                since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// How long the transaction has had records, also while it is committed.
    pub fn open_for(&self) -> Duration {
        self.since.lock().ok().and_then(|s| *s).map(|s| s.elapsed()).unwrap_or_default()
    }

    /// The transaction is committed. What waits is sent now.
    pub fn committed(&self) {
        if let Ok(mut since) = self.since.lock() {
            *since = self.is_dirty().then(Instant::now);
        }
    }

    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Answers whether there was something to send since it was closed last.
    pub fn close(&self) -> bool {
        self.state.store(CLOSED, Ordering::Release);
        self.dirty.swap(false, Ordering::Relaxed)
    }

    pub fn open(&self) {
        self.state.store(OPEN, Ordering::Release);
    }

    /// If it is closed it stays so for ever, and nobody waits for it.
    pub fn give_up(&self) {
        let _ = self.state.compare_exchange(CLOSED, FAILED, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// A gate that was closed. Gives it up if it is not opened, however that comes.
pub(crate) struct Closed(Arc<Gate>);

impl Closed {
    pub fn new(gate: &Arc<Gate>) -> Self {
        gate.close();
        Self(gate.clone())
    }

    pub fn open(self) {
        self.0.open();
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Records that wait, in order.
#[derive(Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    records: Vec<Record>,
}

struct Record {
    topic: usize,
    partition: Option<i32>,
    timestamp: Option<i64>,
    /// Lengths.
    key: Option<usize>,
    value: Option<usize>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.bytes.len() + self.records.len() * size_of::<Record>() >= MOST
    }

    pub fn push(&mut self, topic: usize, record: &Outgoing<'_>) {
        let mut keep = |bytes: Option<&[u8]>| {
            let bytes = bytes?;
            self.bytes.extend_from_slice(bytes);
            Some(bytes.len())
        };
        let (key, value) = (keep(record.key), keep(record.value));
        let headers = record.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
        self.records.push(Record { topic, partition: record.partition, timestamp: record.timestamp, key, value, headers });
    }

    /// Calls `send` with all that waits, in order.
    ///
    /// # Errors
    /// The first that `send` gives.
    pub fn each(&self, mut send: impl FnMut(usize, &Outgoing<'_>) -> Result<()>) -> Result<()> {
        let mut rest = self.bytes.as_slice();
        for record in &self.records {
            let mut take = |len: Option<usize>| {
                let (bytes, behind) = rest.split_at(len?);
                rest = behind;
                Some(bytes)
            };
            let (key, value) = (take(record.key), take(record.value));
            let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref())).collect();
            send(record.topic, &Outgoing { partition: record.partition, key, value, timestamp: record.timestamp, headers: &headers })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_transaction_is_as_old_as_its_first_record() {
        let gate = Gate::default();
        assert_eq!(gate.open_for(), Duration::ZERO);
        gate.mark();
        std::thread::sleep(Duration::from_millis(20));
        gate.close();
        // Waits behind the commit.
        gate.mark();
        assert!(gate.open_for() >= Duration::from_millis(20));
        gate.committed();
        assert!(gate.open_for() < Duration::from_millis(20));
        gate.close();
        gate.committed();
        assert_eq!(gate.open_for(), Duration::ZERO);
    }

    #[test]
    fn what_waits_is_given_as_it_was() {
        let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"1")), (b"g", None)];
        let records = [
            Outgoing { partition: Some(3), key: Some(b"k"), value: Some(b"value"), timestamp: Some(7), headers },
            Outgoing { key: Some(b""), value: None, ..Outgoing::default() },
            Outgoing { key: None, value: Some(b""), ..Outgoing::default() },
        ];
        let mut held = Held::default();
        records.iter().enumerate().for_each(|(topic, r)| held.push(topic, r));
        assert!(!held.is_empty() && !held.is_full());
        let mut at = 0;
        held.each(|topic, r| {
            let wanted = &records[at];
            assert_eq!(topic, at);
            assert_eq!((r.partition, r.key, r.value, r.timestamp), (wanted.partition, wanted.key, wanted.value, wanted.timestamp));
            assert_eq!(r.headers, wanted.headers);
            at += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(at, 3);
    }

    #[test]
    fn what_is_written_while_it_is_closed_counts_for_the_next_time() {
        let gate = Gate::default();
        gate.mark();
        assert!(gate.is_open() && gate.close() && gate.is_closed());
        assert!(!gate.is_dirty());
        gate.mark();
        gate.open();
        assert!(gate.is_open() && gate.close() && !gate.close());
        gate.give_up();
        assert!(!gate.is_open() && !gate.is_closed());
        let gate = Arc::new(Gate::default());
        Closed::new(&gate).open();
        assert!(gate.is_open());
        drop(Closed::new(&gate));
        assert!(!gate.is_open() && !gate.is_closed());
    }
}
