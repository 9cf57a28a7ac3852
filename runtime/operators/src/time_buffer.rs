//! Rows that wait for time, in columns: what comes in any order goes out in order of time, rows of the same time as they came.

use arrow::array::UInt32Array;
use sluice_batch::{Batch, Millis, Result, RowKind, SqlType};

use crate::rows::RowCodec;
use crate::session_tvf::row_kind;
use crate::state::{SnapshotReader, SnapshotWriter, put_bytes, take_bytes, take_i64, take_row};

/// Parts larger than this are not merged any more.
const LARGE: usize = 4096;

pub struct TimeBuffer {
    codec: RowCodec,
    /// The columns by which the owner partitions its state; they are at the front of keys in snapshots.
    key: Vec<usize>,
    key_codec: RowCodec,
    /// Each in order of time; parts are in order of arrival.
    parts: Vec<Part>,
    /// The arrival number of the next row.
    next: u64,
}

struct Part {
    batch: Batch,
    /// Time and arrival number of each row.
    order: Vec<(Millis, u64)>,
}

/// Rows whose time has come, in order.
pub struct Due {
    pub batch: Batch,
    /// Time and arrival number of each row.
    pub order: Vec<(Millis, u64)>,
}

impl Due {
    pub fn times(&self) -> Vec<Millis> {
        self.order.iter().map(|o| o.0).collect()
    }

    /// The same rows in order of arrival.
    pub fn by_arrival(self) -> Result<Self> {
        sorted(self.batch, self.order, |o| (0, o.1))
    }
}

fn sorted(batch: Batch, order: Vec<(Millis, u64)>, key: impl Fn(&(Millis, u64)) -> (Millis, u64)) -> Result<Due> {
    if order.is_sorted_by_key(&key) {
        return Ok(Due { batch, order });
    }
    let mut rows: Vec<u32> = (0..order.len() as u32).collect();
    rows.sort_unstable_by_key(|r| key(&order[*r as usize]));
    let order = rows.iter().map(|r| order[*r as usize]).collect();
    Ok(Due { batch: batch.take(&UInt32Array::from(rows))?, order })
}

fn merge(parts: Vec<Part>) -> Result<Due> {
    let (batches, orders): (Vec<Batch>, Vec<_>) = parts.into_iter().map(|p| (p.batch, p.order)).unzip();
    sorted(Batch::concat(&batches)?, orders.concat(), |o| *o)
}

impl TimeBuffer {
    /// `key`: the columns by which the owner partitions its state.
    pub fn new(types: &[SqlType], key: &[usize]) -> Result<Self> {
        Ok(Self { codec: RowCodec::new(types)?, key: key.to_vec(), key_codec: RowCodec::project(types, key)?, parts: vec![], next: 0 })
    }

    /// Rows are numbered from `next` on, if that is not less than what they are numbered from anyway.
    pub fn number_from(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Adds rows with their times.
    pub fn push(&mut self, batch: Batch, times: &[Millis]) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let order = times.iter().zip(self.next..).map(|(t, n)| (*t, n)).collect();
        self.next += times.len() as u64;
        self.add(batch, order)
    }

    fn add(&mut self, batch: Batch, order: Vec<(Millis, u64)>) -> Result<()> {
        let mut last = sorted(batch, order, |o| *o)?;
        // Small parts are merged by size, so that there are never many of them.
        while let Some(before) = self.parts.pop_if(|p| p.order.len() < LARGE && p.order.len() <= 2 * last.order.len()) {
            last = merge(vec![before, Part { batch: last.batch, order: last.order }])?;
        }
        self.parts.push(Part { batch: last.batch, order: last.order });
        Ok(())
    }

    /// The time of the first row.
    pub fn first(&self) -> Option<Millis> {
        self.parts.iter().filter_map(|p| p.order.first()).map(|o| o.0).min()
    }

    /// Takes the rows with times up to `now`.
    pub fn take(&mut self, now: Millis) -> Result<Option<Due>> {
        if self.first().is_none_or(|t| t > now) {
            return Ok(None);
        }
        let mut due = vec![];
        let mut rest = Vec::with_capacity(self.parts.len());
        for mut part in self.parts.drain(..) {
            let rows = part.order.partition_point(|o| o.0 <= now);
            if rows == 0 {
                rest.push(part);
            } else if rows == part.order.len() {
                due.push(part);
            } else {
                let later = part.order.split_off(rows);
                rest.push(Part { batch: part.batch.slice(rows, later.len()), order: later });
                due.push(Part { batch: part.batch.slice(0, rows), order: part.order });
            }
        }
        self.parts = rest;
        merge(due).map(Some)
    }

    pub fn memory(&self) -> usize {
        let rows = |p: &Part| p.batch.columns().iter().map(|c| c.get_array_memory_size()).sum::<usize>() + p.order.len() * 16;
        self.parts.iter().map(rows).sum()
    }

    pub fn snapshot(&self, table: &'static str, out: &mut SnapshotWriter) -> Result<()> {
        for part in &self.parts {
            let rows = self.codec.encode(part.batch.columns())?;
            let keys = self.key_codec.encode_columns(&part.batch, &self.key)?;
            for (row, (time, number)) in part.order.iter().enumerate() {
                let mut key = vec![];
                put_bytes(&mut key, keys.get(row));
                key.extend_from_slice(&number.to_be_bytes());
                let mut value = time.to_be_bytes().to_vec();
                value.push(part.batch.kind(row) as u8);
                value.extend_from_slice(rows.get(row));
                out.put(table, key, value);
            }
        }
        Ok(())
    }

    pub fn restore(&mut self, table: &str, input: &SnapshotReader<'_>) -> Result<()> {
        let (mut order, mut kinds, mut rows) = (vec![], vec![], vec![]);
        for (mut key, mut value) in input.rows(table) {
            take_row(&mut key)?;
            order.push((take_i64(&mut value)?, take_i64(&mut key)? as u64));
            kinds.push(row_kind(take_bytes(&mut value, 1)?[0])?);
            rows.push(value);
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.next = order.iter().map(|o| o.1 + 1).max().unwrap_or(0).max(self.next);
        let kinds: Vec<RowKind> = kinds;
        let batch = Batch::with_kinds(self.codec.decode(rows.iter().copied())?, Some(kinds.into()), rows.len());
        self.add(batch, order)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{batch, print, types};

    #[test]
    fn rows_leave_in_order() {
        let t = types("bigint string");
        let mut buffer = TimeBuffer::new(&t, &[1]).unwrap();
        buffer.push(batch(&t, "5 a; 3 b; 9 c"), &[5, 3, 9]).unwrap();
        buffer.push(batch(&t, "-D 3 d; 7 e"), &[3, 7]).unwrap();
        assert!(buffer.take(2).unwrap().is_none());
        let due = buffer.take(5).unwrap().unwrap();
        assert_eq!(print(&due.batch), ["+I 3 b", "-D 3 d", "+I 5 a"]);
        assert_eq!(print(&due.by_arrival().unwrap().batch), ["+I 5 a", "+I 3 b", "-D 3 d"]);
        assert_eq!(buffer.first(), Some(7));
        assert_eq!(print(&buffer.take(100).unwrap().unwrap().batch), ["+I 7 e", "+I 9 c"]);
        assert_eq!(buffer.memory(), 0);
    }

    #[test]
    fn few_parts() {
        let t = types("bigint");
        let mut buffer = TimeBuffer::new(&t, &[]).unwrap();
        for i in 0..1000 {
            buffer.push(batch(&t, "1"), &[1000 - i]).unwrap();
        }
        assert!(buffer.parts.len() <= 10, "{}", buffer.parts.len());
        assert_eq!(buffer.take(10).unwrap().unwrap().times(), (1..=10).collect::<Vec<_>>());
    }
}
