//! Top-N and deduplication within windows: final rows when the window ends
//! (Flink: `SyncStateWindowRankProcessor`, `RowTimeSyncStateWindowDeduplicateProcessor`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, Int64Array};
use sluice_batch::algebra::SortKey;
use sluice_batch::{Batch, EvalContext, Millis, Result, SqlType, TypeKind, WATERMARK_NONE};

use crate::group_index::KeyMap;
use crate::rows::RowCodec;
use crate::spec::{DeduplicateSpec, RankKind, WindowTopNSpec};
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix, put_bytes, take_i64, take_row};
use crate::time::{Zone, null_rowtime, to_millis};
use crate::windows::is_fired;
use crate::{Operator, Output};

pub struct WindowTopN {
    partition_by: Vec<usize>,
    order_by: Vec<usize>,
    window_end: usize,
    from: usize,
    to: usize,
    emit_rank: bool,
    /// Of rows that compare equal the one that came last is first.
    newest_first: bool,
    ltz: bool,
    name: &'static str,
    keys: RowCodec,
    sort: RowCodec,
    rows: RowCodec,
    /// By window end.
    windows: BTreeMap<Millis, Window>,
    progress: Millis,
    late: u64,
    bytes: usize,
}

#[derive(Default)]
struct Window {
    keys: KeyMap,
    /// The best rows of each partition, in order.
    partitions: Vec<Vec<Entry>>,
}

struct Entry {
    sort: Box<[u8]>,
    row: Box<[u8]>,
}

impl Entry {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.sort.len() + self.row.len()
    }
}

impl WindowTopN {
    pub fn new(spec: WindowTopNSpec) -> Result<Self> {
        let WindowTopNSpec { top_n, window_end, ltz } = spec;
        match top_n.rank {
            RankKind::RowNumber => {}
            RankKind::Rank => return Err(sluice_batch::Error::unsupported("RANK() on windows")),
            RankKind::DenseRank => return Err(sluice_batch::Error::unsupported("DENSE_RANK() on windows")),
        }
        Ok(Self {
            from: usize::try_from(top_n.from).unwrap_or(usize::MAX).max(1),
            to: usize::try_from(top_n.to).unwrap_or(usize::MAX),
            emit_rank: top_n.emit_rank,
            ltz,
            ..Self::with_order(&top_n.input, top_n.partition_by, &top_n.order_by, window_end, "WindowRank")?
        })
    }

    /// `ROW_NUMBER() … = 1` by time: the first or the last row of each key.
    pub fn deduplicate(spec: DeduplicateSpec, window_end: usize) -> Result<Self> {
        let order = SortKey { column: spec.time, descending: spec.keep_last, nulls_first: false };
        // By processing time rows are in order as they come.
        let order_by = if spec.proctime { vec![] } else { vec![order] };
        let ltz = matches!(spec.input[spec.time].kind, TypeKind::TimestampLtz(_)) && !spec.proctime;
        Ok(Self {
            newest_first: spec.keep_last,
            ltz,
            ..Self::with_order(&spec.input, spec.keys, &order_by, window_end, "WindowDeduplicate")?
        })
    }

    fn with_order(
        input: &[SqlType],
        partition_by: Vec<usize>,
        order_by: &[SortKey],
        window_end: usize,
        name: &'static str,
    ) -> Result<Self> {
        Ok(Self {
            keys: RowCodec::project(input, &partition_by)?,
            sort: RowCodec::sorted(input, order_by)?,
            rows: RowCodec::new(input)?,
            order_by: order_by.iter().map(|k| k.column).collect(),
            partition_by,
            window_end,
            from: 1,
            to: 1,
            emit_rank: false,
            newest_first: false,
            ltz: false,
            name,
            windows: BTreeMap::new(),
            progress: WATERMARK_NONE,
            late: 0,
            bytes: 0,
        })
    }

    fn zone(&self, context: &EvalContext) -> Zone {
        Zone::new(self.ltz, context.time_zone)
    }

    fn add(&mut self, end: Millis, key: &[u8], sort: &[u8], row: &[u8]) {
        let window = self.windows.entry(end).or_default();
        let (slot, new) = window.keys.insert(key);
        if new {
            window.partitions.push(vec![]);
        }
        let best = &mut window.partitions[slot as usize];
        let at = if self.newest_first { best.partition_point(|e| *e.sort < *sort) } else { best.partition_point(|e| *e.sort <= *sort) };
        if at >= self.to {
            return;
        }
        let entry = Entry { sort: sort.into(), row: row.into() };
        self.bytes += entry.bytes();
        best.insert(at, entry);
        if best.len() > self.to
            && let Some(out) = best.pop()
        {
            self.bytes -= out.bytes();
        }
    }

    fn fire(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        let zone = self.zone(out.context());
        let (mut fired, mut ranks) = (vec![], vec![]);
        while let Some(window) = self.windows.first_entry().filter(|w| is_fired(*w.key(), now, zone)) {
            for entries in window.remove().partitions {
                self.bytes -= entries.iter().map(Entry::bytes).sum::<usize>();
                for (rank, entry) in entries.into_iter().enumerate().skip(self.from - 1) {
                    fired.push(entry.row);
                    ranks.push(rank as i64 + 1);
                }
            }
        }
        if fired.is_empty() {
            return Ok(());
        }
        let mut columns = self.rows.decode(fired.iter().map(|r| &**r))?;
        if self.emit_rank {
            columns.push(Arc::new(Int64Array::from(ranks)));
        }
        out.emit(Batch::new(columns, fired.len()));
        Ok(())
    }
}

impl Operator for WindowTopN {
    fn name(&self) -> &'static str {
        self.name
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let zone = self.zone(out.context());
        let ends = to_millis(batch.column(self.window_end))?;
        let keys = self.keys.encode_columns(&batch, &self.partition_by)?;
        let sort = self.sort.encode_columns(&batch, &self.order_by)?;
        let rows = self.rows.encode(batch.columns())?;
        for row in 0..batch.rows() {
            if ends.is_null(row) {
                return Err(null_rowtime());
            }
            if is_fired(ends.value(row), self.progress, zone) {
                self.late += 1;
            } else {
                self.add(ends.value(row), keys.get(row), sort.get(row), rows.get(row));
            }
        }
        Ok(())
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if now > self.progress {
            self.progress = now;
            self.fire(now, out)?;
        }
        Ok(())
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.bytes + self.windows.values().map(|w| w.keys.memory()).sum::<usize>()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        out.put("progress", vec![], self.progress.to_be_bytes());
        for (end, window) in &self.windows {
            let mut slots: Vec<u32> = window.keys.slots().collect();
            slots.sort_unstable();
            for slot in slots {
                let mut key = end.to_be_bytes().to_vec();
                put_bytes(&mut key, window.keys.key(slot));
                let mut value = vec![];
                for entry in &window.partitions[slot as usize] {
                    put_bytes(&mut value, &entry.sort);
                    put_bytes(&mut value, &entry.row);
                }
                out.put("windows", key, value);
            }
        }
        Ok(())
    }

    /// Behind the window's end.
    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key.get(8..).unwrap_or_default())
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (_, mut value) in input.rows("progress") {
            self.progress = self.progress.max(take_i64(&mut value)?);
        }
        for (mut key, mut value) in input.rows("windows") {
            let (end, key) = (take_i64(&mut key)?, take_row(&mut key)?);
            let mut entries = vec![];
            while !value.is_empty() {
                entries.push((take_row(&mut value)?, take_row(&mut value)?));
            }
            // Equal rows: those that are put in last must come out first again.
            if self.newest_first {
                entries.reverse();
            }
            for (sort, row) in entries {
                self.add(end, key, sort, row);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_lines;
    use crate::spec::{OperatorSpec, TopNSpec};
    use crate::testing::{Harness, types};

    const INPUT: &str = "string int ts ts";

    fn top_n(from: u64, to: u64) -> Harness {
        let top_n = TopNSpec {
            input: types(INPUT),
            partition_by: vec![2, 3],
            order_by: vec![SortKey { column: 1, descending: true, nulls_first: false }],
            from,
            to,
            emit_rank: true,
            rank: RankKind::RowNumber,
            retracting: false,
            upsert_key: None,
            emit_update_before: true,
            state_ttl: 0,
        };
        Harness::new(OperatorSpec::WindowTopN(WindowTopNSpec { top_n, window_end: 3, ltz: false }))
    }

    #[test]
    fn best_rows_of_each_window() {
        let t = types(INPUT);
        let mut h = top_n(1, 2);
        assert_lines!(h.send(0, &t, "a 1 0 10; b 3 0 10; c 2 0 10; d 9 10 20; e 3 0 10"), "");
        assert_lines!(h.watermark(8), "");
        h.restart();
        assert_lines!(h.watermark(9), "+I b 3 0 10 1; +I e 3 0 10 2");
        assert_lines!(h.send(0, &t, "x 99 0 10"), "");
        assert_eq!(h.operator.late_rows(), 1);
        h.restart();
        assert_lines!(h.send(0, &t, "x 99 0 10; y 1 10 20"), "");
        assert_lines!(h.watermark(100), "+I d 9 10 20 1; +I y 1 10 20 2");
        assert_eq!(h.operator.state_bytes(), 0);
        let mut h = top_n(2, 3);
        h.send(0, &t, "a 1 0 10; b 3 0 10; c 2 0 10; d 0 0 10");
        assert_lines!(h.watermark(10), "+I c 2 0 10 2; +I a 1 0 10 3");
    }

    #[test]
    fn first_and_last_row() {
        let t = types("string ts int ts");
        let harness = |keep_last| {
            Harness::new(OperatorSpec::Deduplicate(DeduplicateSpec {
                input: t.clone(),
                keys: vec![0, 3],
                time: 1,
                proctime: false,
                keep_last,
                emit_update_before: true,
                window_end: Some(3),
                mini_batch: false,
                state_ttl: 0,
            }))
        };
        let rows = "a 5 1 10; a 4 2 10; a 4 3 10; b 7 4 10; a 5 5 10; a 11 6 20";
        let mut h = harness(false);
        h.send(0, &t, rows);
        h.restart();
        h.send(0, &t, "a 4 9 10");
        assert_lines!(h.watermark(10), "+I a 4 2 10; +I b 7 4 10");
        let mut h = harness(true);
        h.send(0, &t, rows);
        h.restart();
        assert_lines!(h.watermark(10), "+I a 5 5 10; +I b 7 4 10");
    }
}
