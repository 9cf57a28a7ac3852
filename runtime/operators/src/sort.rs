//! ORDER BY anything of a bounded input: all rows leave at the end (Flink: `StreamSortOperator`).

use arrow::array::UInt32Array;
use sluice_batch::{Batch, Millis, Result, WATERMARK_MAX};

use crate::group_index::KeyMap;
use crate::rows::RowCodec;
use crate::spec::SortSpec;
use crate::state::{SnapshotReader, SnapshotWriter, take_i64};
use crate::{Operator, Output};

/// Rows that are emitted in one batch at most.
const BATCH: usize = 8192;

pub struct Sort {
    spec: SortSpec,
    sort: RowCodec,
    codec: RowCodec,
    rows: KeyMap,
    /// Of each row: how often it is there, and its number in order of arrival.
    counts: Vec<(i64, u64)>,
    next: u64,
}

impl Sort {
    pub fn new(spec: SortSpec) -> Result<Self> {
        let (sort, codec) = (RowCodec::sorted(&spec.input, &spec.keys)?, RowCodec::new(&spec.input)?);
        Ok(Self { spec, sort, codec, rows: KeyMap::default(), counts: vec![], next: 0 })
    }

    fn add(&mut self, row: &[u8], count: i64, number: u64) {
        let (slot, new) = self.rows.insert(row);
        self.counts.resize(self.counts.len().max(slot as usize + 1), (0, 0));
        let entry = &mut self.counts[slot as usize];
        if new {
            *entry = (0, number);
        }
        // A row may be taken back before it comes: inputs of a join have no order between them.
        entry.0 += count;
        if entry.0 == 0 {
            self.rows.remove(slot);
        }
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<()> {
        let mut slots: Vec<u32> = self.rows.slots().filter(|s| self.counts[*s as usize].0 > 0).collect();
        slots.sort_unstable_by_key(|s| self.counts[*s as usize].1);
        let columns = self.codec.decode(slots.iter().map(|s| self.rows.key(*s)))?;
        let all = Batch::new(columns, slots.len());
        let keys = self.sort.encode_columns(&all, &self.spec.keys.iter().map(|k| k.column).collect::<Vec<_>>())?;
        let mut order: Vec<u32> = (0..slots.len() as u32).collect();
        order.sort_by(|a, b| keys.get(*a as usize).cmp(keys.get(*b as usize)));
        let skip = usize::try_from(self.spec.offset).unwrap_or(usize::MAX);
        let limit = self.spec.limit.map_or(usize::MAX, |l| usize::try_from(l).unwrap_or(usize::MAX));
        let times = |row: u32| std::iter::repeat_n(row, self.counts[slots[row as usize] as usize].0 as usize);
        let rows: Vec<u32> = order.into_iter().flat_map(times).skip(skip).take(limit).collect();
        for part in rows.chunks(BATCH) {
            out.emit(all.take(&UInt32Array::from(part.to_vec()))?);
        }
        (self.rows, self.counts) = (KeyMap::default(), vec![]);
        Ok(())
    }
}

impl Operator for Sort {
    fn name(&self) -> &'static str {
        "Sort"
    }

    fn batch(&mut self, _input: usize, batch: Batch, _out: &mut Output<'_>) -> Result<()> {
        let rows = self.codec.encode(batch.columns())?;
        for row in 0..batch.rows() {
            self.add(rows.get(row), if batch.kind(row).is_addition() { 1 } else { -1 }, self.next);
            self.next += 1;
        }
        Ok(())
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if now == WATERMARK_MAX { self.finish(out) } else { Ok(()) }
    }

    fn state_bytes(&self) -> usize {
        self.rows.memory() + self.counts.len() * 16
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        for slot in self.rows.slots() {
            let (count, number) = self.counts[slot as usize];
            let mut value = count.to_be_bytes().to_vec();
            value.extend_from_slice(&number.to_be_bytes());
            out.put("rows", self.rows.key(slot), value);
        }
        Ok(())
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (row, mut value) in input.rows("rows") {
            let (count, number) = (take_i64(&mut value)?, take_i64(&mut value)? as u64);
            self.add(row, count, number);
            self.next = self.next.max(number + 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::algebra::SortKey;

    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    #[test]
    fn rows_leave_at_the_end() {
        let t = types("int string");
        let spec = |limit, offset| {
            let keys = vec![SortKey { column: 0, descending: true, nulls_first: true }];
            OperatorSpec::Sort(SortSpec { input: t.clone(), keys, limit, offset })
        };
        let mut h = Harness::new(spec(None, 0));
        assert_lines!(h.send(0, &t, "1 a; 3 b; 2 c; NULL d; 2 a; 1 a; 9 z"), "");
        assert_lines!(h.watermark(5), "");
        h.restart();
        assert_lines!(h.send(0, &t, "-D 9 z; -U 2 c; +U 4 c"), "");
        assert_lines!(h.watermark(WATERMARK_MAX), "+I NULL d; +I 4 c; +I 3 b; +I 2 a; +I 1 a; +I 1 a");
        let mut h = Harness::new(spec(Some(2), 1));
        h.send(0, &t, "1 a; 3 b; 2 c; 2 a");
        assert_lines!(h.watermark(WATERMARK_MAX), "+I 2 c; +I 2 a");
    }
}
