//! OVER windows. Ordered by a time attribute: each row goes out once, when its time has come
//! (Flink: `RowTimeUnboundedPrecedingOverFunctionV2`, `RowTime…BoundedPrecedingFunction`, `ProcTime…PrecedingFunction`).
//! Ordered by anything else: see [`changing`].

mod calls;
mod changing;
#[cfg(test)]
mod properties;

use arrow::array::UInt32Array;
use sluice_batch::{Batch, Error, Millis, Result, WATERMARK_MAX};

use crate::group_index::GroupIndex;
use crate::rows::RowCodec;
use crate::spec::{OverSpec, OverTime};
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix};
use crate::time::rowtimes;
use crate::time_buffer::TimeBuffer;
use crate::{Operator, Output};

use calls::{Calls, Extent};

pub struct Over {
    spec: OverSpec,
    extent: Extent,
    keys: RowCodec,
    index: GroupIndex,
    calls: Calls,
    /// Rows that wait for their time.
    buffer: TimeBuffer,
    late: u64,
    last_cleanup: Millis,
    last_sweep: Millis,
    slots: Vec<u32>,
}

/// Makes the operator that fits the ordering.
///
/// # Errors
/// For frames and functions that cannot be computed on streams.
pub fn over(spec: OverSpec) -> Result<Box<dyn Operator>> {
    let extent = Extent::of(&spec.frame)?;
    if spec.time == OverTime::None {
        return Ok(Box::new(changing::ChangingOver::new(spec, extent)?));
    }
    if spec.order_by.len() > 1 {
        return Err(
            Error::plan("The window can only be ordered by a single time column.").hint("leave out the further ORDER BY columns of OVER")
        );
    }
    Ok(Box::new(Over::new(spec, extent)?))
}

impl Over {
    fn new(spec: OverSpec, extent: Extent) -> Result<Self> {
        let ranged = matches!(extent, Extent::LastTime(_));
        Ok(Self {
            extent,
            keys: RowCodec::project(&spec.input, &spec.partition_by)?,
            index: GroupIndex::new(spec.partition_by.iter().map(|c| &spec.input[*c]))?,
            calls: Calls::new(&spec.input, &spec.calls, extent, spec.time != OverTime::Proctime || ranged)?,
            buffer: TimeBuffer::new(&spec.input, &spec.partition_by)?,
            late: 0,
            last_cleanup: 0,
            last_sweep: Millis::MIN,
            slots: vec![],
            spec,
        })
    }

    /// Rows of the same millisecond of processing time go out together, after it.
    fn waits_for_clock(&self) -> bool {
        self.spec.time == OverTime::Proctime && matches!(self.extent, Extent::LastTime(_))
    }

    /// Rows in order go out with their results.
    fn process(&mut self, batch: &Batch, times: &[Millis], out: &mut Output<'_>) -> Result<()> {
        let keys: Vec<_> = self.spec.partition_by.iter().map(|c| batch.column(*c).clone()).collect();
        self.index.insert(&keys, batch.rows(), &mut self.slots, |_| ())?;
        let results = self.calls.evaluate(batch, &self.slots, times, out.context())?;
        let mut columns = batch.columns().to_vec();
        columns.extend(results);
        out.emit(batch.replace_columns(columns));
        Ok(())
    }

    fn take_due(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        let Some(due) = self.buffer.take(now)? else { return Ok(()) };
        let times = due.times();
        self.process(&due.batch, &times, out)
    }

    /// The rows that are not late; `None` for all of them. Bounded frames take rows behind the watermark as long as no later row of
    /// their partition has gone out, as Flink's.
    fn on_time(&mut self, batch: &Batch, times: &[Millis], watermark: Millis) -> Result<Option<Vec<u32>>> {
        if times.iter().all(|t| *t > watermark) {
            return Ok(None);
        }
        let keys = self.keys.encode_columns(batch, &self.spec.partition_by)?;
        let limit = |row: usize| {
            if !self.extent.is_bounded() {
                return watermark;
            }
            let state = self.index.map().find(keys.get(row)).and_then(|slot| self.calls.state(slot));
            state.map_or(Millis::MIN, |s| s.last)
        };
        let on_time: Vec<u32> = (0..times.len()).filter(|r| times[*r] > limit(*r)).map(|r| r as u32).collect();
        self.late += (times.len() - on_time.len()) as u64;
        Ok(Some(on_time))
    }

    fn forget(&mut self, slots: Vec<u32>) {
        for slot in slots {
            self.calls.clear(slot);
            self.index.map_mut().remove(slot);
        }
    }

    /// Forgets partitions whose last row has left the frame of any row to come.
    fn sweep(&mut self, now: Millis) {
        let Extent::LastTime(range) = self.extent else { return };
        if now < self.last_sweep.saturating_add(range) {
            return;
        }
        self.last_sweep = now;
        let is_over = |s: &u32| self.calls.state(*s).is_none_or(|s| s.last.saturating_add(range) < now);
        let over = self.index.map().slots().filter(is_over).collect();
        self.forget(over);
    }
}

impl Operator for Over {
    fn name(&self) -> &'static str {
        "OverAggregate"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::runtime("OverAggregate got a row that is not an insert: a defect of the planner"));
        }
        if self.spec.state_ttl > 0 {
            let keys: Vec<_> = self.spec.partition_by.iter().map(|c| batch.column(*c).clone()).collect();
            self.index.insert(&keys, batch.rows(), &mut self.slots, |_| ())?;
            self.slots.iter().for_each(|s| self.calls.touch(*s, out.now()));
        }
        let OverTime::Rowtime(column) = self.spec.time else {
            let times = vec![out.now(); batch.rows()];
            return if self.waits_for_clock() { self.buffer.push(batch, &times) } else { self.process(&batch, &times, out) };
        };
        let times = rowtimes(batch.column(column))?;
        match self.on_time(&batch, &times, out.watermark())? {
            None => self.buffer.push(batch, &times),
            Some(rows) => {
                let times: Vec<Millis> = rows.iter().map(|r| times[*r as usize]).collect();
                self.buffer.push(batch.take(&UInt32Array::from(rows))?, &times)
            }
        }
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.spec.time == OverTime::Proctime && now != WATERMARK_MAX {
            return Ok(());
        }
        self.take_due(now, out)?;
        if self.spec.time != OverTime::Proctime {
            self.sweep(now);
        }
        Ok(())
    }

    fn wants_ticks(&self) -> bool {
        self.waits_for_clock() || self.spec.state_ttl > 0
    }

    fn tick(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.waits_for_clock() {
            // More rows may come in this very millisecond.
            self.take_due(now - 1, out)?;
            self.sweep(now);
        }
        let ttl = self.spec.state_ttl;
        if ttl > 0 && now >= self.last_cleanup.saturating_add((ttl / 4).max(1000)) {
            self.last_cleanup = now;
            let is_old = |s: &u32| self.calls.state(*s).is_none_or(|s| now >= s.changed.saturating_add(ttl));
            let old = self.index.map().slots().filter(is_old).collect();
            self.forget(old);
        }
        Ok(())
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.buffer.memory() + self.index.map().memory() + self.calls.memory()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        self.buffer.snapshot("waiting", out)?;
        self.calls.snapshot(self.index.map(), out)
    }

    fn shard_key<'k>(&self, table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        if table == "partitions" { Ok(key) } else { key_prefix(key) }
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.buffer.restore("waiting", input)?;
        self.calls.restore(self.index.map_mut(), input)
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::algebra::{Bound, Frame, OverCall, SortKey};

    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, count, sum, types};

    const INPUT: &str = "string ts bigint";

    pub fn frame(rows: bool, start: Bound) -> Frame {
        Frame { rows, start, end: Bound::Preceding(0) }
    }

    fn harness(time: OverTime, frame: Frame, calls: Vec<OverCall>) -> Harness {
        Harness::new(OperatorSpec::Over(OverSpec {
            input: types(INPUT),
            partition_by: vec![0],
            order_by: vec![SortKey { column: 1, descending: false, nulls_first: false }],
            time,
            frame,
            calls,
            state_ttl: 0,
        }))
    }

    fn aggregates() -> Vec<OverCall> {
        vec![OverCall::Aggregate(count()), OverCall::Aggregate(sum(2))]
    }

    fn lag(offset: i64) -> OverCall {
        OverCall::Lag { arg: 2, offset, default: None, name: "l".into(), ty: types("bigint").remove(0) }
    }

    #[test]
    fn unbounded_by_event_time() {
        let t = types(INPUT);
        let mut h = harness(OverTime::Rowtime(1), frame(true, Bound::Unbounded), aggregates());
        assert_lines!(h.send(0, &t, "a 5 1; b 2 10; a 3 2; a 5 4; a 9 8"), "");
        h.restart();
        assert_lines!(h.watermark(5), "+I b 2 10 1 10; +I a 3 2 1 2; +I a 5 1 2 3; +I a 5 4 3 7");
        assert_lines!(h.send(0, &t, "a 5 9; b 6 NULL"), "");
        assert_eq!(h.operator.late_rows(), 1);
        h.restart();
        assert_lines!(h.watermark(9), "+I b 6 NULL 2 10; +I a 9 8 4 15");
        let mut h = harness(OverTime::Rowtime(1), frame(false, Bound::Unbounded), aggregates());
        h.send(0, &t, "a 5 1; a 3 2; a 5 4");
        assert_lines!(h.watermark(5), "+I a 3 2 1 2; +I a 5 1 3 7; +I a 5 4 3 7");
    }

    #[test]
    fn bounded_by_event_time() {
        let t = types(INPUT);
        let mut h = harness(OverTime::Rowtime(1), frame(true, Bound::Preceding(1)), aggregates());
        h.send(0, &t, "a 1 1; a 2 2; b 2 5; a 3 4");
        assert_lines!(h.watermark(3), "+I a 1 1 1 1; +I a 2 2 2 3; +I b 2 5 1 5; +I a 3 4 2 6");
        h.restart();
        h.watermark(4);
        // Behind the watermark, but the first after 2.
        assert_lines!(h.send(0, &t, "a 7 8; b 3 1; a 3 9"), "");
        assert_eq!(h.operator.late_rows(), 1);
        assert_lines!(h.watermark(7), "+I b 3 1 2 6; +I a 7 8 2 12");
        let mut h = harness(OverTime::Rowtime(1), frame(false, Bound::Preceding(2)), aggregates());
        h.send(0, &t, "a 1 1; a 3 2; a 3 4; a 4 8");
        assert_lines!(h.watermark(3), "+I a 1 1 1 1; +I a 3 2 3 7; +I a 3 4 3 7");
        h.restart();
        assert_lines!(h.watermark(4), "+I a 4 8 3 14");
        h.send(0, &t, "b 100 1");
        assert_lines!(h.watermark(100), "+I b 100 1 1 1");
        h.watermark(1000);
        assert!(h.operator.state_bytes() < 1000);
    }

    #[test]
    fn ranks_and_lag() {
        let t = types(INPUT);
        let name = || "r".to_string();
        let calls = vec![
            OverCall::RowNumber { name: name() },
            OverCall::Rank { name: name() },
            OverCall::DenseRank { name: name() },
            lag(1),
            lag(2),
        ];
        let mut h = harness(OverTime::Rowtime(1), frame(true, Bound::Unbounded), calls);
        h.send(0, &t, "a 1 1; a 2 2; b 2 9; a 3 3");
        assert_lines!(h.watermark(2), "+I a 1 1 1 1 1 NULL NULL; +I a 2 2 2 2 2 1 NULL; +I b 2 9 1 1 1 NULL NULL");
        h.restart();
        h.send(0, &t, "a 3 4; a 4 5");
        // Rows of the same time look back from the last of them.
        assert_lines!(h.watermark(9), "+I a 3 3 3 3 3 3 2; +I a 3 4 4 3 3 3 2; +I a 4 5 5 5 4 4 3");
        let spec = |calls| OverSpec {
            input: types(INPUT),
            partition_by: vec![],
            order_by: vec![],
            time: OverTime::Proctime,
            frame: frame(true, Bound::Unbounded),
            calls,
            state_ttl: 0,
        };
        assert!(over(spec(vec![lag(-1)])).is_err_and(|e| e.to_string().contains("LEAD")));
        assert!(over(OverSpec { frame: Frame { rows: true, start: Bound::Unbounded, end: Bound::Unbounded }, ..spec(vec![]) }).is_err());
    }

    #[test]
    fn by_processing_time() {
        let t = types(INPUT);
        let mut h = harness(OverTime::Proctime, frame(false, Bound::Unbounded), aggregates());
        assert_lines!(h.send(0, &t, "a 5 1; a 3 2"), "+I a 5 1 1 1; +I a 3 2 2 3");
        let mut h = harness(OverTime::Proctime, frame(true, Bound::Preceding(1)), aggregates());
        assert_lines!(h.send(0, &t, "a 5 1; a 3 2"), "+I a 5 1 1 1; +I a 3 2 2 3");
        h.restart();
        assert_lines!(h.send(0, &t, "a 5 4"), "+I a 5 4 2 6");
        let mut h = harness(OverTime::Proctime, frame(false, Bound::Preceding(10)), aggregates());
        h.context.now = 100;
        assert_lines!(h.send(0, &t, "a 5 1; a 3 2"), "");
        assert_lines!(h.tick(101), "+I a 5 1 2 3; +I a 3 2 2 3");
        h.send(0, &t, "a 0 4");
        h.restart();
        h.context.now = 112;
        h.send(0, &t, "a 0 8");
        assert_lines!(h.watermark(WATERMARK_MAX), "+I a 0 4 3 7; +I a 0 8 1 8");
    }

    #[test]
    fn state_expires() {
        let t = types(INPUT);
        let mut h = Harness::new(OperatorSpec::Over(OverSpec {
            input: types(INPUT),
            partition_by: vec![0],
            order_by: vec![],
            time: OverTime::Proctime,
            frame: frame(false, Bound::Unbounded),
            calls: aggregates(),
            state_ttl: 1000,
        }));
        h.send(0, &t, "a 0 1");
        h.tick(999);
        assert_lines!(h.send(0, &t, "a 0 2"), "+I a 0 2 2 3");
        h.tick(5000);
        assert_lines!(h.send(0, &t, "a 0 3"), "+I a 0 3 1 3");
    }
}
