//! GROUP BY over session windows (Flink: `UnsliceWindowAggProcessor`, `MergingWindowProcessFunction`).

use arrow::array::UInt32Array;
use sluice_batch::{Batch, EvalContext, Millis, Result, WATERMARK_NONE};

use crate::aggregates::Aggregates;
use crate::rows::RowCodec;
use crate::sessions::{Session, Sessions};
use crate::spec::{WindowAggregateSpec, WindowInput};
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, key_prefix, prefix, take_i64, take_row};
use crate::time::{Zone, rowtimes};
use crate::window_output::WindowOutput;
use crate::{Operator, Output};

pub struct SessionAggregate {
    spec: WindowAggregateSpec,
    output: WindowOutput,
    name: &'static str,
    time: usize,
    gap: Millis,
    proctime: bool,
    keys: RowCodec,
    sessions: Sessions,
    aggregates: Aggregates,
    /// One slot, for the way from one slot of `aggregates` to another.
    scratch: Aggregates,
    counts: Vec<i64>,
    progress: Millis,
    late: u64,
}

impl SessionAggregate {
    /// An open session as it stands in a snapshot: key and value.
    fn encode(&self, key: &[u8], session: Session) -> (Vec<u8>, Vec<u8>) {
        let mut id = prefix(key);
        id.extend_from_slice(&session.start.to_be_bytes());
        id.extend_from_slice(&session.end.to_be_bytes());
        let mut value = self.counts[session.slot as usize].to_be_bytes().to_vec();
        self.aggregates.encode(session.slot, &mut value);
        (id, value)
    }

    pub fn new(spec: WindowAggregateSpec, output: WindowOutput, gap: Millis, name: &'static str) -> Result<Self> {
        let (time, proctime) = match &spec.window {
            WindowInput::Assign { time, proctime, .. } => (*time, *proctime),
            WindowInput::Attached { end, .. } => (*end, false),
        };
        let aggregates = Aggregates::new(&spec.calls, &spec.input, spec.retracting)?;
        let mut scratch = aggregates.fresh()?;
        scratch.resize(1);
        Ok(Self {
            keys: RowCodec::project(&spec.input, &spec.keys)?,
            sessions: Sessions::default(),
            aggregates,
            scratch,
            counts: vec![],
            progress: WATERMARK_NONE,
            late: 0,
            spec,
            output,
            name,
            time,
            gap,
            proctime,
        })
    }

    fn zone(&self, context: &EvalContext) -> Zone {
        Zone::new(self.spec.ltz || self.proctime, context.time_zone)
    }

    /// The slot of each row that is on time, and the rows.
    fn assign(&mut self, batch: &Batch, context: &EvalContext) -> Result<(Vec<u32>, Vec<u32>)> {
        let zone = self.zone(context);
        let times = if self.proctime { vec![context.now; batch.rows()] } else { rowtimes(batch.column(self.time))? };
        let keys = self.keys.encode_columns(batch, &self.spec.keys)?;
        let (mut rows, mut slots, mut merges) = (vec![], vec![], vec![]);
        for (row, time) in times.iter().enumerate() {
            let merged = merges.len();
            let progress = if self.proctime { Millis::MIN } else { self.progress };
            let on_merge = |from, to| merges.push((from, to));
            match self.sessions.assign(keys.get(row), zone.to_local(*time), self.gap, progress, zone, on_merge) {
                None => self.late += 1,
                Some(slot) => {
                    rows.push(row as u32);
                    slots.push(slot);
                }
            }
            if merges.len() > merged {
                // Slots of merged sessions may be given out again within this batch: settle what was gathered so far.
                self.settle(batch, &mut rows, &mut slots)?;
                let pairs: Vec<(u32, u32)> = merges[merged..].to_vec();
                self.merge(&pairs)?;
            }
        }
        Ok((rows, slots))
    }

    fn settle(&mut self, batch: &Batch, rows: &mut Vec<u32>, slots: &mut Vec<u32>) -> Result<()> {
        let (rows, slots) = (std::mem::take(rows), std::mem::take(slots));
        if rows.is_empty() {
            return Ok(());
        }
        self.aggregates.resize(self.sessions.capacity());
        self.counts.resize(self.sessions.capacity(), 0);
        for (row, slot) in rows.iter().zip(&slots) {
            self.counts[*slot as usize] += if batch.kind(*row as usize).is_addition() { 1 } else { -1 };
        }
        let part = if rows.len() == batch.rows() { batch.clone() } else { batch.take(&UInt32Array::from(rows))? };
        self.aggregates.update(&part, &slots)
    }

    fn merge(&mut self, pairs: &[(u32, u32)]) -> Result<()> {
        for (from, to) in pairs {
            self.scratch.merge(&self.aggregates, &[*from], &[0])?;
            self.aggregates.merge(&self.scratch, &[0], &[*to])?;
            self.scratch.clear(0);
            self.aggregates.clear(*from);
            let count = std::mem::take(&mut self.counts[*from as usize]);
            self.counts[*to as usize] += count;
        }
        Ok(())
    }

    fn fire(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if now <= self.progress {
            return Ok(());
        }
        self.progress = now;
        let zone = self.zone(out.context());
        let mut closed = vec![];
        while let Some(c) = self.sessions.close(now, zone) {
            closed.push(c);
        }
        let counts = &self.counts;
        let shown: Vec<_> = closed.iter().filter(|c| !self.spec.retracting || counts[c.session.slot as usize] != 0).collect();
        if !shown.is_empty() {
            let keys = self.keys.decode(shown.iter().map(|c| self.sessions.keys.key(c.key)))?;
            let results = self.aggregates.evaluate(&shown.iter().map(|c| c.session.slot).collect::<Vec<_>>())?;
            let starts: Vec<Millis> = shown.iter().map(|c| c.session.start).collect();
            let ends: Vec<Millis> = shown.iter().map(|c| c.session.end).collect();
            out.emit(self.output.batch(keys, results, &starts, &ends, zone, out.now())?);
        }
        for c in closed {
            self.aggregates.clear(c.session.slot);
            self.counts[c.session.slot as usize] = 0;
            self.sessions.release(c);
        }
        Ok(())
    }
}

impl Operator for SessionAggregate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let (mut rows, mut slots) = self.assign(&batch, out.context())?;
        self.settle(&batch, &mut rows, &mut slots)
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.proctime { Ok(()) } else { self.fire(now, out) }
    }

    fn wants_ticks(&self) -> bool {
        self.proctime
    }

    fn tick(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.proctime { self.fire(now, out) } else { Ok(()) }
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.sessions.keys.memory() + self.aggregates.memory()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        out.put("progress", vec![], self.progress.to_be_bytes());
        for (key, session) in self.sessions.iter() {
            let (id, value) = self.encode(key, session);
            out.put("sessions", id, value);
        }
        Ok(())
    }

    fn track_changes(&mut self) {
        self.sessions.keys.track();
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        let Some(changed) = self.sessions.keys.take_changes() else { return Ok(false) };
        out.put("progress", vec![], self.progress.to_be_bytes());
        out.clear("sessions", &self.sessions.keys, &changed);
        for slot in changed.slots {
            let key = self.sessions.keys.key(slot);
            for session in self.sessions.of_key(slot) {
                let (id, value) = self.encode(key, *session);
                out.put("sessions", id, value);
            }
        }
        Ok(true)
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (_, mut value) in input.rows("progress") {
            self.progress = self.progress.max(take_i64(&mut value)?);
        }
        for (mut id, mut value) in input.rows("sessions") {
            let key = take_row(&mut id)?;
            let slot = self.sessions.restore(key, take_i64(&mut id)?, take_i64(&mut id)?);
            self.aggregates.resize(self.sessions.capacity());
            self.counts.resize(self.sessions.capacity(), 0);
            self.counts[slot as usize] = take_i64(&mut value)?;
            self.aggregates.decode(slot, &mut value)?;
        }
        Ok(())
    }
}
