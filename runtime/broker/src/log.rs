//! One partition: batches in memory, producers, transactions that are open or were aborted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;

use crate::batch::{self, Header};
use crate::cluster::lock;
use crate::producers::{Check, Producers};

struct Stored {
    base: i64,
    last: i64,
    max_timestamp: i64,
    control: bool,
    bytes: Bytes,
}

/// A transaction that was aborted, as `read_committed` consumers must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first: i64,
    /// Offset of the marker.
    pub last: i64,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Stored>,
    /// Offset of the oldest record that is kept.
    start: i64,
    /// Offset that the next record gets; the high watermark, as there are no replicas.
    end: i64,
    size: u64,
    producers: Producers,
    /// Producer id to the first offset of its open transaction.
    open: HashMap<i64, i64>,
    aborted: Vec<Aborted>,
    /// Fetches that wait for records.
    waiting: Vec<Weak<Notify>>,
}

/// A partition's log.
pub struct Log {
    state: Mutex<State>,
    /// Bytes; above that the oldest batches go.
    retention: Option<u64>,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: i64,
    /// The first offset of the oldest open transaction, or the end.
    pub stable: i64,
    pub end: i64,
}

/// What a fetch gets.
pub struct Fetched {
    pub bounds: Bounds,
    pub records: Bytes,
    /// For `read_committed`: transactions aborted in the range given.
    pub aborted: Vec<Aborted>,
}

impl State {
    fn bounds(&self) -> Bounds {
        Bounds { start: self.start, stable: self.open.values().copied().min().unwrap_or(self.end), end: self.end }
    }

    fn push(&mut self, bytes: Bytes, header: &Header, retention: Option<u64>) -> i64 {
        let base = self.end;
        self.end += i64::from(header.last_offset_delta) + 1;
        self.size += bytes.len() as u64;
        let stored = Stored { base, last: self.end - 1, max_timestamp: header.max_timestamp, control: header.control, bytes };
        self.batches.push_back(stored);
        if let Some(limit) = retention {
            self.drop_above(limit);
        }
        self.waiting.drain(..).filter_map(|w| w.upgrade()).for_each(|w| w.notify_one());
        base
    }

    /// Drops the oldest batches; the newest stays.
    fn drop_above(&mut self, limit: u64) {
        let before = self.start;
        while self.size > limit && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.size -= oldest.bytes.len() as u64;
            self.start = oldest.last + 1;
        }
        if self.start != before {
            let start = self.start;
            self.aborted.retain(|a| a.last >= start);
        }
    }

    /// Position of the batch that holds `offset`, or of the next one.
    fn find(&self, offset: i64) -> usize {
        self.batches.partition_point(|b| b.last < offset)
    }
}

impl Log {
    pub fn new(retention: Option<u64>) -> Self {
        Self { state: Mutex::default(), retention }
    }

    /// Appends what a producer sent; answers the offset of its first record.
    ///
    /// # Errors
    /// What [`Producers::check`] refuses.
    pub fn append(&self, batches: Vec<(Header, Bytes)>) -> Result<i64, ResponseError> {
        let mut state = lock(&self.state);
        let mut first = None;
        for (header, bytes) in batches {
            if header.producer_id >= 0
                && let Check::Duplicate(offset) = state.producers.check(&header)?
            {
                first.get_or_insert(offset);
                continue;
            }
            let bytes = batch::at_offset(&bytes, state.end);
            let base = state.push(bytes, &header, self.retention);
            if header.producer_id >= 0 {
                state.producers.appended(&header, base);
                if header.transactional {
                    state.open.entry(header.producer_id).or_insert(base);
                }
            }
            first.get_or_insert(base);
        }
        first.ok_or(ResponseError::InvalidRecord)
    }

    /// Ends a producer's transaction on this partition.
    ///
    /// # Errors
    /// If the marker cannot be encoded.
    pub fn end_transaction(&self, commit: bool, producer_id: i64, epoch: i16, now: i64) -> Result<(), ResponseError> {
        let mut state = lock(&self.state);
        let offset = state.end;
        let bytes = batch::end_marker(commit, producer_id, epoch, offset, now)?;
        let opened = state.open.remove(&producer_id);
        if let (false, Some(first)) = (commit, opened) {
            state.aborted.push(Aborted { producer_id, first, last: offset });
        }
        let header = Header {
            last_offset_delta: 0,
            max_timestamp: now,
            producer_id,
            producer_epoch: epoch,
            base_sequence: -1,
            records: 1,
            transactional: true,
            control: true,
        };
        state.producers.ended(producer_id, epoch);
        state.push(bytes, &header, self.retention);
        Ok(())
    }

    pub fn bounds(&self) -> Bounds {
        lock(&self.state).bounds()
    }

    /// Drops records before `offset` (-1: all); answers where the log begins then. Batches that hold later records stay, unseen in part.
    ///
    /// # Errors
    /// [`ResponseError::OffsetOutOfRange`].
    pub fn delete_before(&self, offset: i64) -> Result<i64, ResponseError> {
        let mut state = lock(&self.state);
        let offset = if offset == -1 { state.end } else { offset };
        if offset < 0 || offset > state.end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        while state.batches.front().is_some_and(|b| b.last < offset) {
            let Some(oldest) = state.batches.pop_front() else { break };
            state.size -= oldest.bytes.len() as u64;
        }
        state.start = state.start.max(offset);
        let start = state.start;
        state.aborted.retain(|a| a.last >= start);
        Ok(start)
    }

    /// Reads whole batches from the one that holds `offset`, up to `max_bytes`; the first batch comes whatever its size if
    /// `at_least_one`. If there is nothing, `waiter` is told when something comes.
    ///
    /// # Errors
    /// [`ResponseError::OffsetOutOfRange`].
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
        waiter: &Arc<Notify>,
    ) -> Result<Fetched, ResponseError> {
        let mut state = lock(&self.state);
        let bounds = state.bounds();
        if offset < bounds.start || offset > bounds.end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let limit = if committed { bounds.stable } else { bounds.end };
        let (mut size, first) = (0, state.find(offset));
        let mut upto = first;
        for batch in state.batches.range(first..).take_while(|b| b.last < limit) {
            let fits = size + batch.bytes.len() <= max_bytes;
            if !fits && (size > 0 || !at_least_one) {
                break;
            }
            size += batch.bytes.len();
            upto += 1;
        }
        if upto == first {
            // An end marker wakes too: it moves the stable offset.
            state.waiting.retain(|w| w.strong_count() > 0);
            state.waiting.push(Arc::downgrade(waiter));
            return Ok(Fetched { bounds, records: Bytes::new(), aborted: vec![] });
        }
        let last = state.batches[upto - 1].last;
        let records = if upto - first == 1 {
            state.batches[first].bytes.clone()
        } else {
            let mut all = BytesMut::with_capacity(size);
            state.batches.range(first..upto).for_each(|b| all.extend_from_slice(&b.bytes));
            all.freeze()
        };
        let in_range = |a: &&Aborted| a.last >= offset && a.first <= last;
        let aborted = if committed { state.aborted.iter().filter(in_range).copied().collect() } else { vec![] };
        Ok(Fetched { bounds, records, aborted })
    }

    /// Offset and timestamp of the first record at or after `timestamp` and below the end (or the stable end).
    ///
    /// # Errors
    /// If a batch cannot be decoded.
    pub fn offset_at(&self, timestamp: i64, committed: bool) -> Result<Option<(i64, i64)>, ResponseError> {
        let (batches, limit) = {
            let state = lock(&self.state);
            let bounds = state.bounds();
            let hits = state.batches.iter().filter(|b| !b.control && b.max_timestamp >= timestamp);
            // Decoding is not done under the lock; the first hit has the answer unless its header lies.
            (hits.take(1).map(|b| b.bytes.clone()).collect::<Vec<_>>(), if committed { bounds.stable } else { bounds.end })
        };
        for batch in batches {
            if let Some((offset, at)) = batch::first_not_before(&batch, timestamp)? {
                return Ok(Some((offset, at)).filter(|_| offset < limit));
            }
        }
        Ok(None)
    }

    /// The record with the greatest timestamp (KIP-734).
    ///
    /// # Errors
    /// If its batch cannot be decoded.
    pub fn newest(&self) -> Result<Option<(i64, i64)>, ResponseError> {
        let batch = {
            let state = lock(&self.state);
            let data = state.batches.iter().filter(|b| !b.control);
            data.rev().max_by_key(|b| b.max_timestamp).map(|b| (b.bytes.clone(), b.max_timestamp, b.base))
        };
        match batch {
            None => Ok(None),
            Some((bytes, at, base)) => Ok(Some(batch::first_not_before(&bytes, at)?.unwrap_or((base, at)))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::batch::split;
    use crate::batch::tests::sent;

    fn read(log: &Log, offset: i64, max: usize, committed: bool) -> (usize, Vec<Aborted>) {
        let fetched = log.read(offset, max, true, committed, &Arc::default()).unwrap();
        let mut rest = fetched.records.clone();
        let batches = kafka_protocol::records::RecordBatchDecoder::decode_all(&mut rest).unwrap_or_default();
        (batches.iter().map(|b| b.records.len()).sum(), fetched.aborted)
    }

    #[test]
    fn whole_batches_are_read_within_the_limit() {
        let log = Log::new(None);
        for n in 0..4 {
            assert_eq!(log.append(split(sent(&[1, 2, 3], None, false)).unwrap()).unwrap(), n * 3);
        }
        let size = lock(&log.state).batches[0].bytes.len();
        for (offset, max, records) in [(0, usize::MAX, 12), (4, usize::MAX, 9), (0, size * 2, 6), (0, 1, 3), (12, usize::MAX, 0)] {
            assert_eq!(read(&log, offset, max, false).0, records, "from {offset}, {max} bytes");
        }
        assert_eq!(log.read(13, 1, true, false, &Arc::default()).err(), Some(ResponseError::OffsetOutOfRange));
    }

    #[test]
    fn the_oldest_batches_go_first() {
        let one = sent(&[1, 2], None, false);
        let log = Log::new(Some(one.len() as u64 * 3));
        for _ in 0..10 {
            log.append(split(one.clone()).unwrap()).unwrap();
        }
        assert_eq!(log.bounds(), Bounds { start: 14, stable: 20, end: 20 });
        assert_eq!(log.read(13, 1, true, false, &Arc::default()).err(), Some(ResponseError::OffsetOutOfRange));
        assert_eq!(read(&log, 14, usize::MAX, false).0, 6);
        let tiny = Log::new(Some(1));
        tiny.append(split(one.clone()).unwrap()).unwrap();
        tiny.append(split(one).unwrap()).unwrap();
        assert_eq!(tiny.bounds(), Bounds { start: 2, stable: 4, end: 4 });
    }

    #[test]
    fn open_transactions_hold_the_stable_offset_and_aborted_ones_are_told() {
        let log = Log::new(None);
        log.append(split(sent(&[1], None, false)).unwrap()).unwrap();
        log.append(split(sent(&[1, 2], Some((7, 0, 0)), true)).unwrap()).unwrap();
        log.append(split(sent(&[1], Some((8, 0, 0)), true)).unwrap()).unwrap();
        assert_eq!(log.bounds(), Bounds { start: 0, stable: 1, end: 4 });
        assert_eq!((read(&log, 0, usize::MAX, true).0, read(&log, 0, usize::MAX, false).0), (1, 4));
        log.end_transaction(false, 7, 0, 9).unwrap();
        assert_eq!(log.bounds(), Bounds { start: 0, stable: 3, end: 5 });
        log.end_transaction(true, 8, 0, 9).unwrap();
        assert_eq!(log.bounds(), Bounds { start: 0, stable: 6, end: 6 });
        let aborted = Aborted { producer_id: 7, first: 1, last: 4 };
        assert_eq!(read(&log, 0, usize::MAX, true), (6, vec![aborted]));
        assert_eq!(read(&log, 5, usize::MAX, true).1, []);
        assert_eq!(read(&log, 0, usize::MAX, false).1, []);
    }

    #[test]
    fn offsets_by_time_skip_markers() {
        let log = Log::new(None);
        log.append(split(sent(&[10, 20], None, false)).unwrap()).unwrap();
        log.append(split(sent(&[15, 30], Some((7, 0, 0)), true)).unwrap()).unwrap();
        log.end_transaction(true, 7, 0, 1000).unwrap();
        log.append(split(sent(&[25], None, false)).unwrap()).unwrap();
        for (at, expected) in [(0, Some((0, 10))), (11, Some((1, 20))), (21, Some((3, 30))), (31, None)] {
            assert_eq!(log.offset_at(at, false).unwrap(), expected, "{at}");
        }
        assert_eq!(log.newest().unwrap(), Some((3, 30)));
    }

    #[test]
    fn a_repeated_batch_is_appended_once() {
        let log = Log::new(None);
        let batch = sent(&[1, 2], Some((7, 0, 0)), false);
        assert_eq!((log.append(split(batch.clone()).unwrap()), log.append(split(batch).unwrap())), (Ok(0), Ok(0)));
        assert_eq!(log.bounds().end, 2);
    }
}
