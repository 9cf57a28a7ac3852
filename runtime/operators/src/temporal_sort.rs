//! ORDER BY a time attribute: rows leave in order when time has passed them (Flink: `RowTimeSortOperator`, `ProcTimeSortOperator`).

use arrow::array::UInt32Array;
use sluice_batch::{Batch, Error, Millis, Result, WATERMARK_MAX, WATERMARK_NONE};

use crate::rows::RowCodec;
use crate::spec::TemporalSortSpec;
use crate::state::{SnapshotReader, SnapshotWriter, take_i64};
use crate::time::rowtimes;
use crate::time_buffer::{Due, TimeBuffer};
use crate::{Operator, Output};

pub struct TemporalSort {
    spec: TemporalSortSpec,
    then_by: RowCodec,
    buffer: TimeBuffer,
    /// The time of the last row that left: rows up to it are late.
    last: Millis,
    late: u64,
}

impl TemporalSort {
    pub fn new(spec: TemporalSortSpec) -> Result<Self> {
        Ok(Self {
            then_by: RowCodec::sorted(&spec.input, &spec.then_by)?,
            buffer: TimeBuffer::new(&spec.input, &[])?,
            last: WATERMARK_NONE,
            late: 0,
            spec,
        })
    }

    fn emit(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        let Some(Due { batch, order }) = self.buffer.take(now)? else { return Ok(()) };
        self.last = order.last().map_or(self.last, |o| o.0);
        if self.spec.then_by.is_empty() {
            out.emit(batch);
            return Ok(());
        }
        let columns: Vec<usize> = self.spec.then_by.iter().map(|k| k.column).collect();
        let keys = self.then_by.encode_columns(&batch, &columns)?;
        let mut rows: Vec<u32> = (0..order.len() as u32).collect();
        rows.sort_by(|a, b| {
            let (a, b) = (*a as usize, *b as usize);
            order[a].0.cmp(&order[b].0).then_with(|| keys.get(a).cmp(keys.get(b)))
        });
        out.emit(batch.take(&UInt32Array::from(rows))?);
        Ok(())
    }
}

impl Operator for TemporalSort {
    fn name(&self) -> &'static str {
        "TemporalSort"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::runtime("TemporalSort got a row that is not an insert: a defect of the planner"));
        }
        if self.spec.proctime {
            // Rows come in the order of processing time.
            if self.spec.then_by.is_empty() {
                out.emit(batch);
                return Ok(());
            }
            let times = vec![out.now(); batch.rows()];
            return self.buffer.push(batch, &times);
        }
        let times = rowtimes(batch.column(self.spec.time))?;
        if times.iter().all(|t| *t > self.last) {
            return self.buffer.push(batch, &times);
        }
        let on_time: Vec<u32> = (0..times.len()).filter(|i| times[*i] > self.last).map(|i| i as u32).collect();
        self.late += (times.len() - on_time.len()) as u64;
        let times: Vec<Millis> = on_time.iter().map(|i| times[*i as usize]).collect();
        self.buffer.push(batch.take(&UInt32Array::from(on_time))?, &times)
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.spec.proctime && now != WATERMARK_MAX {
            return Ok(());
        }
        self.emit(now, out)
    }

    fn wants_ticks(&self) -> bool {
        self.spec.proctime && !self.spec.then_by.is_empty()
    }

    fn tick(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        // More rows may come in this very millisecond.
        if self.spec.proctime { self.emit(now - 1, out) } else { Ok(()) }
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.buffer.memory()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        out.put("last", vec![], self.last.to_be_bytes());
        self.buffer.snapshot("rows", out)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (_, mut value) in input.rows("last") {
            self.last = self.last.max(take_i64(&mut value)?);
        }
        self.buffer.restore("rows", input)
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::algebra::SortKey;

    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    fn harness(proctime: bool, then_by: bool) -> Harness {
        let then_by = if then_by { vec![SortKey { column: 1, descending: true, nulls_first: false }] } else { vec![] };
        Harness::new(OperatorSpec::TemporalSort(TemporalSortSpec { input: types("ts int"), time: 0, proctime, then_by }))
    }

    #[test]
    fn by_event_time() {
        let t = types("ts int");
        let mut h = harness(false, true);
        assert_lines!(h.send(0, &t, "5 1; 3 2; 5 3; 9 4"), "");
        h.restart();
        assert_lines!(h.watermark(7), "+I 3 2; +I 5 3; +I 5 1");
        h.restart();
        assert_lines!(h.send(0, &t, "5 7; 6 8"), "");
        assert_eq!(h.operator.late_rows(), 1);
        assert_lines!(h.watermark(9), "+I 6 8; +I 9 4");
        let mut h = harness(false, false);
        h.send(0, &t, "5 1; 3 2; 5 3");
        assert_lines!(h.watermark(7), "+I 3 2; +I 5 1; +I 5 3");
    }

    #[test]
    fn by_processing_time() {
        let t = types("ts int");
        assert_lines!(harness(true, false).send(0, &t, "5 1; 3 2"), "+I 5 1; +I 3 2");
        let mut h = harness(true, true);
        h.context.now = 10;
        assert_lines!(h.send(0, &t, "5 1; 3 2"), "");
        assert_lines!(h.tick(10), "");
        assert_lines!(h.tick(11), "+I 3 2; +I 5 1");
        h.send(0, &t, "5 1; 3 2");
        h.restart();
        assert_lines!(h.watermark(WATERMARK_MAX), "+I 3 2; +I 5 1");
    }
}
