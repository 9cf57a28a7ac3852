//! The state of MATCH_RECOGNIZE in a snapshot: only rows of the input, per key in the order in which they were shown to the threads.
//! Threads, running sums and condition flags are made anew from them, so PATTERN, DEFINE and MEASURES may change over an upgrade.

use std::collections::{HashMap, HashSet};

use sluice_batch::{Batch, Millis, Result};

use super::{MatchRecognize, RowRef};
use crate::rows::RowCodec;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, prefix, take_bytes, take_i64};

/// Key: the partition columns and a number; value: whether the row waits for time, its time and its columns.
const ROWS: &str = "rows";
const PENDING: u8 = 1;

impl MatchRecognize {
    /// Gives the rows of some slots, which `wanted` says again, as they stand in a snapshot: numbered by key, in the order in which they
    /// are to be read.
    fn encode_rows(&self, slots: &[u32], wanted: impl Fn(u32) -> bool, mut put: impl FnMut(Vec<u8>, Vec<u8>)) -> Result<()> {
        let taken = slots.iter().copied().flat_map(|s| self.keys[s as usize].rows.iter().map(move |(time, row)| (s, 0, *time, *row)));
        let waiting = self.waiting.iter().filter(|w| wanted(w.slot)).map(|w| (w.slot, PENDING, w.time, w.row));
        let rows: Vec<(u32, u8, Millis, RowRef)> = taken.chain(waiting).collect();
        let named: Vec<Option<RowRef>> = rows.iter().map(|r| Some(r.3)).collect();
        let args = self.args.exprs.len();
        let columns = (args..self.columns.len()).map(|c| self.chunks.gather(c, &named, &self.columns[c])).collect::<Result<Vec<_>>>()?;
        let encoded = RowCodec::new(&self.input)?.encode(&columns)?;
        let mut numbers: HashMap<u32, u64> = HashMap::new();
        for (at, (slot, pending, time, _)) in rows.into_iter().enumerate() {
            let number = numbers.entry(slot).or_default();
            let mut key = prefix(self.index.map().key(slot));
            key.extend_from_slice(&number.to_be_bytes());
            *number += 1;
            let mut value = vec![pending];
            value.extend_from_slice(&time.to_be_bytes());
            value.extend_from_slice(encoded.get(at));
            put(key, value);
        }
        Ok(())
    }

    pub(super) fn write_rows(&self, out: &mut SnapshotWriter) -> Result<()> {
        let slots: Vec<u32> = self.index.map().slots().collect();
        self.encode_rows(&slots, |_| true, |key, value| out.put(ROWS, key, value))
    }

    /// Keys that have changed are written anew.
    pub(super) fn write_changes(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        let Some(changed) = self.index.map_mut().take_changes() else { return Ok(false) };
        out.clear(ROWS, self.index.map(), &changed);
        if !changed.slots.is_empty() {
            let wanted: HashSet<u32> = changed.slots.iter().copied().collect();
            self.encode_rows(&changed.slots, |slot| wanted.contains(&slot), |key, value| out.put(ROWS, key, value))?;
        }
        Ok(true)
    }

    pub(super) fn read_rows(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        let mut stored: Vec<(&[u8], &[u8])> = input.rows(ROWS).collect();
        stored.sort_unstable_by_key(|(key, _)| *key);
        let (mut pending, mut times, mut rows) = (vec![], vec![], vec![]);
        for (_, mut value) in stored {
            pending.push(take_bytes(&mut value, 1)?[0] == PENDING);
            times.push(take_i64(&mut value)?);
            rows.push(value);
        }
        let batch = Batch::new(RowCodec::new(&self.input)?.decode(rows.iter().copied())?, rows.len());
        if rows.is_empty() {
            return Ok(());
        }
        self.ingest(&batch, &times, input.context())?;
        let all = std::mem::take(&mut self.waiting);
        for (row, pending) in all.into_iter().zip(pending) {
            match pending {
                true => self.waiting.push(row),
                false => self.append(row),
            }
        }
        // Rows of different keys came apart: those that wait are in no order of time.
        self.sorted = false;
        self.start_timers();
        Ok(())
    }

    fn start_timers(&mut self) {
        let Some(within) = self.matcher.within else { return };
        for slot in self.index.map().slots() {
            if let Some((start, _)) = self.keys[slot as usize].rows.front() {
                self.timers.push(std::cmp::Reverse((start.saturating_add(within), slot)));
            }
        }
    }
}
