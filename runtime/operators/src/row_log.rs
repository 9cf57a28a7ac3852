//! Rows that keyed state points to, in columns: chunks as they came, each row with a number. A chunk goes with its last row.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute;
use sluice_batch::Result;

use crate::rows::take;

/// Chunks larger than this are not merged any more.
const LARGE: usize = 4096;
/// Logs with fewer rows are not worth compacting.
const SMALL: usize = 16_384;

#[derive(Default)]
pub struct RowLog {
    /// In order of `start`.
    chunks: Vec<Chunk>,
    next: u64,
    /// Rows in all chunks, and references to them.
    rows: usize,
    live: usize,
}

struct Chunk {
    /// The number of the first row.
    start: u64,
    columns: Vec<ArrayRef>,
    rows: usize,
    /// References to its rows.
    live: usize,
}

impl RowLog {
    /// Adds rows, each of which will be released `holders` times: the number of the first one.
    pub fn push(&mut self, columns: Vec<ArrayRef>, rows: usize, holders: usize) -> Result<u64> {
        let start = self.next;
        self.next += rows as u64;
        if rows == 0 || holders == 0 {
            return Ok(start);
        }
        self.rows += rows;
        self.live += rows * holders;
        let mut last = Chunk { start, columns, rows, live: rows * holders };
        let small = |c: &mut Chunk, last: &Chunk| c.rows < LARGE && c.rows <= 2 * last.rows && c.start + c.rows as u64 == last.start;
        while let Some(before) = self.chunks.pop_if(|c| small(c, &last)) {
            let joined = before.columns.iter().zip(&last.columns).map(|(a, b)| compute::concat(&[a, b])).collect::<Result<_, _>>()?;
            last = Chunk { start: before.start, columns: joined, rows: before.rows + last.rows, live: before.live + last.live };
        }
        self.chunks.push(last);
        Ok(start)
    }

    fn chunk(&self, row: u64) -> usize {
        self.chunks.partition_point(|c| c.start <= row).saturating_sub(1)
    }

    /// The columns of these rows.
    pub fn gather(&self, rows: &[u64]) -> Result<Vec<ArrayRef>> {
        let Some(first) = self.chunks.first() else { return Ok(vec![]) };
        let mut used: Vec<usize> = vec![];
        let mut place: Vec<usize> = vec![usize::MAX; self.chunks.len()];
        let mut at = 0;
        let picks: Vec<(usize, usize)> = rows
            .iter()
            .map(|row| {
                // Neighbours are mostly in the same chunk.
                let here = &self.chunks[at];
                if *row < here.start || *row >= here.start + here.rows as u64 {
                    at = self.chunk(*row);
                }
                if place[at] == usize::MAX {
                    place[at] = used.len();
                    used.push(at);
                }
                (place[at], (*row - self.chunks[at].start) as usize)
            })
            .collect();
        if let [one] = used[..] {
            let indices: UInt32Array = picks.iter().map(|p| p.1 as u32).collect::<Vec<_>>().into();
            return take(&self.chunks[one].columns, &indices);
        }
        (0..first.columns.len())
            .map(|c| {
                if used.is_empty() {
                    return Ok(first.columns[c].slice(0, 0));
                }
                let arrays: Vec<_> = used.iter().map(|u| self.chunks[*u].columns[c].as_ref()).collect();
                Ok(compute::interleave(&arrays, &picks)?)
            })
            .collect()
    }

    /// Drops one reference to a row.
    pub fn release(&mut self, row: u64) {
        let at = self.chunk(row);
        let chunk = &mut self.chunks[at];
        chunk.live -= 1;
        self.live -= 1;
        if chunk.live == 0 {
            self.rows -= chunk.rows;
            self.chunks.remove(at);
        }
    }

    /// Whether most rows are not referred to any more: time for [`RowLog::compact`].
    pub fn is_sparse(&self) -> bool {
        self.rows > SMALL && self.live * 4 < self.rows
    }

    /// Keeps only the rows that these references point to, each held once, and renumbers them.
    pub fn compact(&mut self, references: Vec<&mut u64>) -> Result<()> {
        let mut log = Self { next: self.next, ..Self::default() };
        let mut references = references.into_iter();
        loop {
            let part: Vec<&mut u64> = references.by_ref().take(SMALL).collect();
            if part.is_empty() {
                break;
            }
            let rows: Vec<u64> = part.iter().map(|r| **r).collect();
            let start = log.push(self.gather(&rows)?, rows.len(), 1)?;
            part.into_iter().zip(start..).for_each(|(r, n)| *r = n);
        }
        *self = log;
        Ok(())
    }

    pub fn memory(&self) -> usize {
        self.chunks.iter().flat_map(|c| &c.columns).map(|c| c.get_array_memory_size()).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn column(values: impl IntoIterator<Item = i64>) -> Vec<ArrayRef> {
        vec![Arc::new(Int64Array::from_iter_values(values))]
    }

    fn gathered(log: &RowLog, rows: &[u64]) -> Vec<i64> {
        log.gather(rows).unwrap()[0].as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn rows_stay_until_released() {
        let mut log = RowLog::default();
        let big = log.push(column(0..5000), 5000, 1).unwrap();
        let small: Vec<u64> = (0..100).map(|i| log.push(column([i]), 1, 2).unwrap()).collect();
        assert!(log.chunks.len() < 10);
        assert_eq!(gathered(&log, &[small[7], big + 3, small[99], big]), [7, 3, 99, 0]);
        (0..5000).for_each(|i| log.release(big + i));
        small.iter().for_each(|r| log.release(*r));
        assert_eq!(gathered(&log, &[small[42]]), [42]);
        small.iter().for_each(|r| log.release(*r));
        assert_eq!((log.memory(), log.rows, log.live), (0, 0, 0));
    }

    #[test]
    fn compaction_renumbers() {
        let mut log = RowLog::default();
        let start = log.push(column(0..20_000), 20_000, 1).unwrap();
        (0..20_000).filter(|i| i % 1000 != 5).for_each(|i| log.release(start + i));
        assert!(log.is_sparse());
        let mut kept: Vec<u64> = (0..20).map(|i| start + i * 1000 + 5).collect();
        log.compact(kept.iter_mut().collect()).unwrap();
        assert_eq!((log.rows, log.live), (20, 20));
        assert_eq!(gathered(&log, &kept[1..3]), [1005, 2005]);
    }
}
