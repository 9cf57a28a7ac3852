//! GROUP BY over windows of a fixed grid: aggregates a slice, and merges slices when a window ends
//! (Flink: `SliceSharedWindowAggProcessor`, `SliceUnsharedWindowAggProcessor`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use sluice_batch::{Batch, EvalContext, Millis, Result, SqlType, TypeKind, WATERMARK_NONE};

use crate::aggregates::Aggregates;
use crate::group_index::{GroupIndex, KeyMap};
use crate::rows::RowCodec;
use crate::spec::{WindowAggregateSpec, WindowInput};
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, take_i64};
use crate::time::{Zone, null_rowtime, rowtimes, to_millis};
use crate::window_output::WindowOutput;
use crate::windows::{Grid, is_fired};
use crate::{Operator, Output};

/// Bytes of a BIGINT in a key: a mark and the value.
const TIME_BYTES: usize = 9;

pub struct WindowAggregate {
    spec: WindowAggregateSpec,
    output: WindowOutput,
    name: &'static str,
    /// `None`: windows are attached.
    grid: Option<Grid>,
    /// Slice end (attached: window end and start), then keys.
    index: GroupIndex,
    keys: RowCodec,
    aggregates: Aggregates,
    /// Rows added less rows taken back, for retracting input.
    counts: Vec<i64>,
    slices: BTreeMap<Millis, Vec<u32>>,
    progress: Millis,
    /// What the last commit knows.
    written_progress: Millis,
    late: u64,
    slots: Vec<u32>,
    merged: Merged,
}

/// Where slices become a window.
struct Merged {
    aggregates: Aggregates,
    keys: KeyMap,
    counts: Vec<i64>,
}

impl WindowAggregate {
    pub fn new(spec: WindowAggregateSpec, output: WindowOutput, name: &'static str) -> Result<Self> {
        let bigint = TypeKind::BigInt.not_null();
        let (grid, bounds) = match &spec.window {
            WindowInput::Assign { window, .. } => (Some(Grid::new(window)?), vec![&bigint]),
            WindowInput::Attached { .. } => (None, vec![&bigint, &bigint]),
        };
        let keys: Vec<&SqlType> = spec.keys.iter().map(|k| &spec.input[*k]).collect();
        let aggregates = Aggregates::new(&spec.calls, &spec.input, spec.retracting)?;
        Ok(Self {
            index: GroupIndex::new(bounds.into_iter().chain(keys.iter().copied()))?,
            keys: RowCodec::new(keys)?,
            merged: Merged { aggregates: aggregates.fresh()?, keys: KeyMap::default(), counts: vec![] },
            aggregates,
            counts: vec![],
            slices: BTreeMap::new(),
            progress: WATERMARK_NONE,
            written_progress: WATERMARK_NONE,
            late: 0,
            slots: vec![],
            grid,
            output,
            name,
            spec,
        })
    }

    fn zone(&self, context: &EvalContext) -> Zone {
        Zone::new(self.spec.ltz || self.proctime(), context.time_zone)
    }

    /// How much of a key of the index is time.
    fn time_bytes(&self) -> usize {
        if self.grid.is_some() { TIME_BYTES } else { 2 * TIME_BYTES }
    }

    fn proctime(&self) -> bool {
        matches!(self.spec.window, WindowInput::Assign { proctime: true, .. })
    }

    /// The slice of each row and, for attached windows, the start.
    fn slices_of(&self, batch: &Batch, context: &EvalContext) -> Result<(Vec<Millis>, Option<Vec<Millis>>)> {
        let zone = self.zone(context);
        match (&self.spec.window, &self.grid) {
            (WindowInput::Assign { proctime: true, .. }, Some(grid)) => {
                Ok((vec![grid.slice_end(zone.to_local(context.now)); batch.rows()], None))
            }
            (WindowInput::Assign { time, .. }, Some(grid)) => {
                let mut times = rowtimes(batch.column(*time))?;
                // Rows come roughly in order: most are in the slice of the one before.
                let (mut start, mut end) = (Millis::MAX, Millis::MAX);
                for t in &mut times {
                    let local = zone.to_local(*t);
                    if local < start || local >= end {
                        (start, end) = grid.slice(local);
                    }
                    *t = end;
                }
                Ok((times, None))
            }
            (WindowInput::Attached { start, end }, _) => {
                let bounds = |c: usize| -> Result<Vec<Millis>> {
                    let millis = to_millis(batch.column(c))?;
                    if arrow::array::Array::null_count(&millis) > 0 { Err(null_rowtime()) } else { Ok(millis.values().to_vec()) }
                };
                Ok((bounds(*end)?, Some(bounds(*start)?)))
            }
            (WindowInput::Assign { .. }, None) => Ok((vec![], None)),
        }
    }

    /// A slice as it stands in a snapshot.
    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.counts.get(slot as usize).copied().unwrap_or(0).to_be_bytes());
        self.aggregates.encode(slot, out);
    }

    fn last_end(&self, slice: Millis) -> Millis {
        self.grid.map_or(slice, |g| g.last_end(slice))
    }

    /// Rows whose last window has not fired; `None` if that is all of them.
    fn on_time(&mut self, slices: &[Millis], zone: Zone) -> Option<Vec<u32>> {
        if self.proctime() {
            return None;
        }
        let mut checked = (Millis::MIN, false);
        let mut late_slice = |slice: Millis| {
            if checked.0 != slice {
                checked = (slice, is_fired(self.last_end(slice), self.progress, zone));
            }
            checked.1
        };
        let first = slices.iter().position(|s| late_slice(*s))?;
        let on_time: Vec<u32> = slices.iter().enumerate().filter(|(i, s)| *i < first || !late_slice(**s)).map(|(i, _)| i as u32).collect();
        self.late += (slices.len() - on_time.len()) as u64;
        Some(on_time)
    }

    /// Emits all windows that end by `now`.
    fn fire(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if now <= self.progress {
            return Ok(());
        }
        let zone = self.zone(out.context());
        match self.grid {
            Some(grid) if !grid.unshared() => self.fire_shared(grid, now, zone, out)?,
            _ => self.fire_unshared(now, zone, out)?,
        }
        self.progress = now;
        Ok(())
    }

    fn fire_unshared(&mut self, now: Millis, zone: Zone, out: &mut Output<'_>) -> Result<()> {
        let (mut slots, mut ends) = (vec![], vec![]);
        while let Some(entry) = self.slices.first_entry() {
            if !is_fired(*entry.key(), now, zone) {
                break;
            }
            let (end, fired) = entry.remove_entry();
            slots.extend(fired);
            ends.resize(slots.len(), end);
        }
        if slots.is_empty() {
            return Ok(());
        }
        let emitted: Vec<usize> = (0..slots.len()).filter(|i| !self.spec.retracting || self.counts[slots[*i] as usize] != 0).collect();
        if !emitted.is_empty() {
            let shown: Vec<u32> = emitted.iter().map(|i| slots[*i]).collect();
            let ends: Vec<Millis> = emitted.iter().map(|i| ends[*i]).collect();
            let starts: Vec<Millis> = match self.grid {
                Some(grid) => ends.iter().map(|e| grid.start(*e)).collect(),
                None => shown.iter().map(|s| key_time(&self.index.map().key(*s)[TIME_BYTES..])).collect(),
            };
            let skip = self.time_bytes();
            let keys = self.keys.decode(shown.iter().map(|s| &self.index.map().key(*s)[skip..]))?;
            let results = self.aggregates.evaluate(&shown)?;
            out.emit(self.output.batch(keys, results, &starts, &ends, zone, out.now())?);
        }
        self.forget(&slots);
        Ok(())
    }

    fn forget(&mut self, slots: &[u32]) {
        for slot in slots {
            self.aggregates.clear(*slot);
            self.index.map_mut().remove(*slot);
            if let Some(count) = self.counts.get_mut(*slot as usize) {
                *count = 0;
            }
        }
    }

    fn fire_shared(&mut self, grid: Grid, now: Millis, zone: Zone, out: &mut Output<'_>) -> Result<()> {
        let mut due = BTreeSet::new();
        for slice in self.slices.keys() {
            let open = grid.ends_of_slice(*slice).skip_while(|e| is_fired(*e, self.progress, zone));
            due.extend(open.take_while(|e| is_fired(*e, now, zone)));
        }
        let mut parts = vec![];
        for end in due {
            let start = grid.start(end);
            let slots: Vec<u32> = self.slices.range(start + 1..=end).flat_map(|(_, slots)| slots.iter().copied()).collect();
            parts.extend(self.window(&slots, start, end, zone, out.now())?);
        }
        if !parts.is_empty() {
            out.emit(Batch::concat(&parts)?);
        }
        while let Some(entry) = self.slices.first_entry() {
            if !is_fired(grid.last_end(*entry.key()), now, zone) {
                break;
            }
            let slots = entry.remove();
            self.forget(&slots);
        }
        Ok(())
    }

    /// Merges slices by key and gives one window's rows.
    fn window(&mut self, slots: &[u32], start: Millis, end: Millis, zone: Zone, now: Millis) -> Result<Option<Batch>> {
        let merged = &mut self.merged;
        let to: Vec<u32> = slots.iter().map(|s| merged.keys.insert(&self.index.map().key(*s)[TIME_BYTES..]).0).collect();
        merged.aggregates.resize(merged.keys.capacity());
        merged.aggregates.merge(&self.aggregates, slots, &to)?;
        let mut groups: Vec<u32> = merged.keys.slots().collect();
        groups.sort_unstable();
        let all = groups.clone();
        if self.spec.retracting {
            merged.counts.clear();
            merged.counts.resize(merged.keys.capacity(), 0);
            slots.iter().zip(&to).for_each(|(f, t)| merged.counts[*t as usize] += self.counts[*f as usize]);
            groups.retain(|g| merged.counts[*g as usize] != 0);
        }
        let batch = if groups.is_empty() {
            None
        } else {
            let keys = self.keys.decode(groups.iter().map(|g| merged.keys.key(*g)))?;
            let results = merged.aggregates.evaluate(&groups)?;
            let n = groups.len();
            Some(self.output.batch(keys, results, &vec![start; n], &vec![end; n], zone, now)?)
        };
        all.iter().for_each(|g| {
            merged.aggregates.clear(*g);
            merged.keys.remove(*g);
        });
        Ok(batch)
    }

    fn add(&mut self, batch: &Batch, slices: Vec<Millis>, starts: Option<Vec<Millis>>) -> Result<()> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(slices.clone()))];
        if let Some(starts) = starts {
            columns.push(Arc::new(Int64Array::from(starts)));
        }
        columns.extend(self.spec.keys.iter().map(|k| batch.column(*k).clone()));
        let mut new = vec![];
        self.index.insert(&columns, batch.rows(), &mut self.slots, |slot| new.push(slot))?;
        for slot in new {
            let slice = key_time(self.index.map().key(slot));
            self.slices.entry(slice).or_default().push(slot);
        }
        let capacity = self.index.map().capacity();
        self.aggregates.resize(capacity);
        if self.spec.retracting {
            self.counts.resize(self.counts.len().max(capacity), 0);
            for (row, slot) in self.slots.iter().enumerate() {
                self.counts[*slot as usize] += if batch.kind(row).is_addition() { 1 } else { -1 };
            }
        }
        self.aggregates.update(batch, &self.slots)
    }
}

/// The time at the front of an encoded key.
fn key_time(key: &[u8]) -> Millis {
    let bytes: [u8; 8] = key.get(1..TIME_BYTES).and_then(|b| b.try_into().ok()).unwrap_or_default();
    i64::from_be_bytes(bytes) ^ i64::MIN
}

impl Operator for WindowAggregate {
    fn name(&self) -> &'static str {
        self.name
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let (slices, starts) = self.slices_of(&batch, out.context())?;
        let zone = self.zone(out.context());
        match self.on_time(&slices, zone) {
            None => self.add(&batch, slices, starts),
            Some(rows) if rows.is_empty() => Ok(()),
            Some(rows) => {
                let pick = |v: &Vec<Millis>| rows.iter().map(|r| v[*r as usize]).collect::<Vec<_>>();
                let (slices, starts) = (pick(&slices), starts.as_ref().map(pick));
                self.add(&batch.take(&UInt32Array::from(rows))?, slices, starts)
            }
        }
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.proctime() { Ok(()) } else { self.fire(now, out) }
    }

    fn wants_ticks(&self) -> bool {
        self.proctime()
    }

    fn tick(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.proctime() { self.fire(now, out) } else { Ok(()) }
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.index.map().memory() + self.aggregates.memory()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        out.put("progress", vec![], self.progress.to_be_bytes());
        for slot in self.slices.values().flatten() {
            let mut value = vec![];
            self.encode(*slot, &mut value);
            out.put("slices", self.index.map().key(*slot), value);
        }
        Ok(())
    }

    fn track_changes(&mut self) {
        self.index.map_mut().track();
        self.written_progress = self.progress;
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        let Some(changed) = self.index.map_mut().take_changes() else { return Ok(false) };
        if self.progress != self.written_progress {
            self.written_progress = self.progress;
            out.put("progress", vec![], self.progress.to_be_bytes());
        }
        out.rows("slices", changed, |slot| self.index.map().key(slot), |slot, value| self.encode(slot, value));
        Ok(true)
    }

    /// Slices are kept by time first, then key.
    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        Ok(key.get(self.time_bytes()..).unwrap_or_default())
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (_, mut value) in input.rows("progress") {
            self.progress = self.progress.max(take_i64(&mut value)?);
        }
        for (key, mut value) in input.rows("slices") {
            let (slot, new) = self.index.map_mut().insert(key);
            if new {
                self.slices.entry(key_time(key)).or_default().push(slot);
            }
            self.aggregates.resize(self.index.map().capacity());
            self.counts.resize(self.index.map().capacity(), 0);
            self.counts[slot as usize] = take_i64(&mut value)?;
            self.aggregates.decode(slot, &mut value)?;
        }
        Ok(())
    }
}
