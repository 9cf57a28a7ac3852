//! The state of MATCH_RECOGNIZE in a snapshot: only rows of the input, per key in the order in which they were shown to the threads.
//! Threads, running sums and condition flags are made anew from them, so PATTERN, DEFINE and MEASURES may change over an upgrade.

use sluice_batch::{Batch, Millis, Result};

use super::{MatchRecognize, RowRef};
use crate::rows::RowCodec;
use crate::state::{SnapshotReader, SnapshotWriter, put_bytes, take_bytes, take_i64};

/// Key: the partition columns and a number; value: whether the row waits for time, its time and its columns.
const ROWS: &str = "rows";
const PENDING: u8 = 1;

impl MatchRecognize {
    pub(super) fn write_rows(&self, out: &mut SnapshotWriter) -> Result<()> {
        let taken = self.index.map().slots().flat_map(|s| self.keys[s as usize].rows.iter().map(move |(time, row)| (s, 0, *time, *row)));
        let waiting = self.waiting.iter().map(|w| (w.slot, PENDING, w.time, w.row));
        let rows: Vec<(u32, u8, Millis, RowRef)> = taken.chain(waiting).collect();
        let named: Vec<Option<RowRef>> = rows.iter().map(|r| Some(r.3)).collect();
        let args = self.args.exprs.len();
        let columns = (args..self.columns.len()).map(|c| self.chunks.gather(c, &named, &self.columns[c])).collect::<Result<Vec<_>>>()?;
        let encoded = RowCodec::new(&self.input)?.encode(&columns)?;
        for (at, (slot, pending, time, _)) in rows.into_iter().enumerate() {
            let mut key = vec![];
            put_bytes(&mut key, self.index.map().key(slot));
            key.extend_from_slice(&(at as u64).to_be_bytes());
            let mut value = vec![pending];
            value.extend_from_slice(&time.to_be_bytes());
            value.extend_from_slice(encoded.get(at));
            out.put(ROWS, key, value);
        }
        Ok(())
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
