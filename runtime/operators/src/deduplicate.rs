//! `ROW_NUMBER() … = 1` ordered by a time attribute (Flink: `operators/deduplicate`).

use std::collections::BTreeMap;

use arrow::array::Array;
use sluice_batch::{Batch, Error, Millis, Result, RowKind, WATERMARK_NONE};

use crate::keyed_rows::KeyedRows;
use crate::memory::Memory;
use crate::rows::{Changelog, RowCodec};
use crate::spec::DeduplicateSpec;
use crate::spill::KeyedState;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter};
use crate::time::to_millis;
use crate::{Operator, Output};

pub struct Deduplicate {
    spec: DeduplicateSpec,
    keys: RowCodec,
    rows: RowCodec,
    /// The row of each key. First rows by event time: those that wait for the watermark.
    state: KeyedRows,
    /// First rows: keys that have been emitted.
    emitted: KeyedRows,
    /// First rows: when which keys are due. A key whose row was replaced by an earlier one is there twice.
    timers: BTreeMap<Millis, Vec<Box<[u8]>>>,
    watermark: Millis,
    late: u64,
}

impl Deduplicate {
    pub fn new(spec: DeduplicateSpec) -> Result<Self> {
        Ok(Self {
            keys: RowCodec::project(&spec.input, &spec.keys)?,
            rows: RowCodec::new(&spec.input)?,
            // Rows that wait for the watermark must not get lost.
            state: KeyedRows::new(if spec.keep_last || spec.mini_batch { spec.state_ttl } else { 0 }),
            emitted: KeyedRows::new(spec.state_ttl),
            timers: BTreeMap::new(),
            watermark: WATERMARK_NONE,
            late: 0,
            spec,
        })
    }

    /// The first row a key, known as such when the watermark has reached it.
    fn waits(&self) -> bool {
        !self.spec.keep_last && !self.spec.proctime && !self.spec.mini_batch
    }

    fn first_by_arrival(&mut self, batch: &Batch, out: &mut Output<'_>) -> Result<()> {
        let keys = self.keys.encode_columns(batch, &self.spec.keys)?;
        self.state.load((0..batch.rows()).map(|row| keys.get(row)))?;
        self.emitted.load((0..batch.rows()).map(|row| keys.get(row)))?;
        let mut changes = Changelog::default();
        for row in 0..batch.rows() {
            if self.emitted.get(keys.get(row), out.now()).is_none() {
                self.emitted.put(keys.get(row), &[], 0, out.now());
                changes.input(RowKind::Insert, row);
            }
        }
        out.emit(changes.finish(&self.rows, batch.columns())?);
        Ok(())
    }

    fn first_waiting(&mut self, batch: &Batch, out: &Output<'_>) -> Result<()> {
        let keys = self.keys.encode_columns(batch, &self.spec.keys)?;
        self.state.load((0..batch.rows()).map(|row| keys.get(row)))?;
        self.emitted.load((0..batch.rows()).map(|row| keys.get(row)))?;
        let rows = self.rows.encode(batch.columns())?;
        let times = to_millis(batch.column(self.spec.time))?;
        for row in 0..batch.rows() {
            let (key, time) = (keys.get(row), if times.is_valid(row) { times.value(row) } else { Millis::MIN });
            if time < self.watermark {
                self.late += 1;
                continue;
            }
            let earlier = self.state.get(key, out.now()).is_some_and(|(_, before)| before <= time);
            if !earlier && self.emitted.get(key, out.now()).is_none() {
                self.state.put(key, rows.get(row), time, out.now());
                self.timers.entry(time).or_default().push(key.into());
            }
        }
        Ok(())
    }

    fn latest(&mut self, batch: &Batch, out: &mut Output<'_>) -> Result<()> {
        let keys = self.keys.encode_columns(batch, &self.spec.keys)?;
        self.state.load((0..batch.rows()).map(|row| keys.get(row)))?;
        self.emitted.load((0..batch.rows()).map(|row| keys.get(row)))?;
        let rows = self.rows.encode(batch.columns())?;
        let times = if self.spec.proctime { None } else { Some(to_millis(batch.column(self.spec.time))?) };
        let mut changes = Changelog::default();
        for row in 0..batch.rows() {
            let (key, value) = (keys.get(row), rows.get(row));
            let time = times.as_ref().map_or(0, |t| if t.is_valid(row) { t.value(row) } else { Millis::MIN });
            match self.state.get(key, out.now()) {
                None => changes.input(RowKind::Insert, row),
                Some((before, seen)) => {
                    let keep = if self.spec.keep_last { time >= seen } else { time < seen };
                    let unchanged = self.spec.proctime && before == value && !self.state.has_ttl();
                    if !keep || unchanged {
                        continue;
                    }
                    if self.spec.emit_update_before {
                        changes.stored(RowKind::UpdateBefore, before);
                    }
                    changes.input(RowKind::UpdateAfter, row);
                }
            }
            self.state.put(key, value, time, out.now());
        }
        out.emit(changes.finish(&self.rows, batch.columns())?);
        Ok(())
    }
}

impl Operator for Deduplicate {
    fn name(&self) -> &'static str {
        "Deduplicate"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::runtime("Deduplicate got a row that is not an insert: a defect of the planner"));
        }
        if self.waits() {
            self.first_waiting(&batch, out)?;
        } else if self.spec.proctime && !self.spec.keep_last {
            self.first_by_arrival(&batch, out)?;
        } else {
            self.latest(&batch, out)?;
        }
        Operator::make_room(self)
    }

    fn spill(&mut self, memory: &Memory) -> bool {
        self.emitted.spill(memory);
        // What waits for time is looked for by time, not by the keys of a batch.
        if !self.waits() {
            self.state.spill(memory);
        }
        true
    }

    fn make_room(&mut self) -> Result<()> {
        self.state.make_room()?;
        self.emitted.make_room()
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        self.watermark = self.watermark.max(now);
        if !self.waits() {
            return Ok(());
        }
        let mut changes = Changelog::default();
        while let Some(entry) = self.timers.first_entry().filter(|e| *e.key() <= now) {
            let (time, keys) = entry.remove_entry();
            for key in keys {
                let Some((row, _)) = self.state.get(&key, out.now()).filter(|(_, t)| *t == time) else { continue };
                changes.stored(RowKind::Insert, row);
                self.state.remove(&key);
                self.emitted.put(&key, &[], 0, out.now());
            }
        }
        if !changes.is_empty() {
            out.emit(changes.finish(&self.rows, &[])?);
        }
        Ok(())
    }

    fn wants_ticks(&self) -> bool {
        self.spec.state_ttl > 0
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        self.state.tick(now)?;
        self.emitted.tick(now)
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.state.memory() + self.emitted.memory()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        self.state.snapshot("rows", out)?;
        self.emitted.snapshot("emitted", out)
    }

    fn track_changes(&mut self) {
        self.state.track();
        self.emitted.track();
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        let (state, emitted) = (self.state.delta("rows", out), self.emitted.delta("emitted", out));
        Ok(state && emitted)
    }

    fn restores_in_parts(&self) -> bool {
        !self.waits()
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.state.restore("rows", input)?;
        if self.waits() {
            self.state.iter().for_each(|(key, _, time)| self.timers.entry(time).or_default().push(key.into()));
        }
        self.emitted.restore("emitted", input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    fn harness(proctime: bool, keep_last: bool, mini_batch: bool) -> Harness {
        Harness::new(OperatorSpec::Deduplicate(DeduplicateSpec {
            input: types("string ts int"),
            keys: vec![0],
            time: 1,
            proctime,
            keep_last,
            emit_update_before: true,
            window_end: None,
            mini_batch,
            state_ttl: 0,
        }))
    }

    #[test]
    fn each_order() {
        let t = types("string ts int");
        let rows = "a 5 1; b 6 2; a 7 3; a 5 4; a 4 5";
        assert_lines!(harness(true, false, false).send(0, &t, rows), "+I a 5 1; +I b 6 2");
        assert_lines!(harness(false, true, false).send(0, &t, rows), "+I a 5 1; +I b 6 2; -U a 5 1; +U a 7 3");
        assert_lines!(harness(false, false, true).send(0, &t, rows), "+I a 5 1; +I b 6 2; -U a 5 1; +U a 4 5");
        let mut h = harness(true, true, false);
        assert_lines!(h.send(0, &t, "a 5 1; a 5 1; a 5 2"), "+I a 5 1; -U a 5 1; +U a 5 2");
        h.restart();
        assert_lines!(h.send(0, &t, "a 5 2; a 1 1"), "-U a 5 2; +U a 1 1");
    }

    #[test]
    fn first_rows_wait_for_the_watermark() {
        let t = types("string ts int");
        let mut h = harness(false, false, false);
        assert_lines!(h.send(0, &t, "a 5 1; b 6 2; a 4 3; c 9 4"), "");
        h.restart();
        assert_lines!(h.watermark(6), "+I a 4 3; +I b 6 2");
        assert_lines!(h.send(0, &t, "a 7 1; d 5 9; d 6 8"), "");
        assert_eq!(h.operator.late_rows(), 1);
        assert_lines!(h.watermark(100), "+I d 6 8; +I c 9 4");
    }
}
