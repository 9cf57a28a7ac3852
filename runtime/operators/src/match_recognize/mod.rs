//! MATCH_RECOGNIZE. Rows wait until the watermark has passed them, then go in order of time to their key, where [`matcher`] tries
//! one start at a time; measures are evaluated for all matches of a watermark at once.

mod condition;
mod matcher;
mod pattern;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::DataType;
use sluice_batch::algebra::MatchClause;
use sluice_batch::{Batch, Datum, Error, EvalContext, Expr, Millis, Result, SqlType, WATERMARK_NONE};

use crate::group_index::GroupIndex;
use crate::rows::RowCodec;
use crate::spec::MatchSpec;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, key_prefix};
use crate::time::to_millis;
use crate::{Operator, Output};
use condition::Condition;
use matcher::{Matcher, Scratch, Variable};
use pattern::Program;
use rows::{Chunk, Chunks, KeyRows, Prefix, RowRef};
use view::{Args, Prefixes, Slot, View};

/// Rows held per row needed, and rows held at least, before chunks are rewritten.
const WASTE: usize = 4;
const WASTE_ROWS: usize = 100_000;

/// The operator. Output: partition columns, then measures; inserts only.
pub struct MatchRecognize {
    clause: MatchClause,
    matcher: Matcher,
    measures: Vec<Measure>,
    args: Args,
    prefixes: Prefixes,
    /// Per variable: its condition on the current row, over the input's columns.
    current: Vec<Option<Expr>>,
    /// Arrow types of a chunk's columns: the arguments, then the input's columns, which are what a savepoint holds.
    columns: Vec<DataType>,
    input: Vec<SqlType>,
    index: GroupIndex,
    order: Option<RowCodec>,
    keys: Vec<KeyRows>,
    chunks: Chunks,
    /// Rows that wait for the watermark.
    waiting: Vec<Waiting>,
    /// `waiting` is in order.
    sorted: bool,
    /// When WITHIN ends for the start of a key: (time, slot).
    timers: BinaryHeap<Reverse<(Millis, u32)>>,
    watermark: Millis,
    late: u64,
    matches: u64,
    scratch: Scratch,
    found: Found,
}

struct Measure {
    slots: Vec<Slot>,
    expr: Expr,
}

#[derive(Clone, Copy)]
struct Waiting {
    time: Millis,
    slot: u32,
    row: RowRef,
}

/// Matches whose measures are still to be evaluated.
#[derive(Default)]
struct Found {
    /// Per match its first row, for the partition columns.
    rows: Vec<Option<RowRef>>,
    /// Per slot of each measure, per match.
    slots: Vec<Vec<SlotValues>>,
}

/// The values of a slot: rows to gather from, or values.
enum SlotValues {
    Rows(Vec<Option<RowRef>>),
    Values(Vec<Datum>),
}

impl MatchRecognize {
    /// # Errors
    /// If a type of the partition or order columns cannot be a key.
    pub fn new(spec: &MatchSpec) -> Result<Self> {
        let clause = spec.clause.clone();
        let (mut args, mut prefixes) = (Args::default(), Prefixes::default());
        let (mut variables, mut current) = (vec![], vec![]);
        for (at, element) in clause.pattern.iter().enumerate() {
            let (row, rest) = element.condition.as_ref().map_or((None, None), |c| condition::split(c, at));
            let slots = element.condition.as_ref().map_or(&[][..], |c| &c.slots);
            let rest = rest.map(|e| Condition::compile(&e, slots, &mut args, &mut prefixes));
            variables.push(Variable { has_current: row.is_some(), rest });
            current.push(row);
        }
        let measures: Vec<Measure> = clause
            .measures
            .iter()
            .map(|(_, m)| Measure {
                slots: m.slots.iter().map(|s| Slot::compile(s, &mut args, &mut prefixes)).collect(),
                expr: m.expr.clone(),
            })
            .collect();
        let partition: Vec<SqlType> = clause.partition_by.iter().map(|c| spec.input[*c].clone()).collect();
        let types: Vec<SqlType> = args.exprs.iter().map(|e| e.ty.clone()).collect();
        let columns = types.iter().chain(&spec.input).map(SqlType::to_arrow).collect();
        let order = if clause.order_by.is_empty() { None } else { Some(RowCodec::sorted(&spec.input, &clause.order_by)?) };
        let matcher = Matcher {
            program: Program::compile(&clause.pattern),
            variables,
            skip: clause.skip.clone(),
            names: clause.pattern.iter().map(|p| p.variable.clone()).collect(),
            within: clause.within,
            types,
        };
        Ok(Self {
            index: GroupIndex::new(&partition)?,
            found: Found::new(&measures),
            clause,
            matcher,
            measures,
            args,
            prefixes,
            current,
            columns,
            input: spec.input.clone(),
            order,
            keys: vec![],
            chunks: Chunks::default(),
            waiting: vec![],
            sorted: true,
            timers: BinaryHeap::new(),
            watermark: WATERMARK_NONE,
            late: 0,
            matches: 0,
            scratch: Scratch::default(),
        })
    }

    /// Evaluates what is known of the rows alone and lets them wait.
    fn ingest(&mut self, batch: &Batch, times: &[Millis], context: &EvalContext) -> Result<()> {
        let (mut columns, mut failed) = (Vec::with_capacity(self.columns.len()), vec![]);
        for (at, (arg, optional)) in self.args.exprs.iter().zip(&self.args.optional).enumerate() {
            columns.push(match arg.eval_array(batch, context) {
                Err(_) if *optional => {
                    failed.push(at);
                    new_null_array(&self.columns[at], batch.rows())
                }
                values => values?,
            });
        }
        let keys: Vec<ArrayRef> = self.clause.partition_by.iter().map(|c| batch.column(*c).clone()).collect();
        let args = columns.len();
        columns.extend(batch.columns().iter().cloned());
        let mut chunk = Chunk::new(columns, args, batch.rows())?;
        chunk.failed = failed;
        chunk.current =
            self.current.iter().map(|c| c.as_ref().map(|c| condition::flags(c, batch, context)).transpose()).collect::<Result<_>>()?;
        if let Some(order) = &self.order {
            let positions: Vec<usize> = self.clause.order_by.iter().map(|k| k.column).collect();
            chunk.order = Some(order.encode_columns(batch, &positions)?);
        }
        let id = self.chunks.add(chunk);
        let (mut slots, prefixes, all) = (vec![], self.prefixes.args.len(), &mut self.keys);
        self.index.insert(&keys, batch.rows(), &mut slots, |slot| {
            let slot = slot as usize;
            if all.len() <= slot {
                all.resize_with(slot + 1, KeyRows::default);
            }
            all[slot] = KeyRows { prefixes: (0..prefixes).map(|_| Prefix::default()).collect(), ..KeyRows::default() };
        })?;
        for (at, slot) in slots.into_iter().enumerate() {
            let (time, row) = (times[at], RowRef { chunk: id, at: at as u32 });
            self.sorted &= self.order.is_none() && self.waiting.last().is_none_or(|w| w.time <= time);
            self.keys[slot as usize].waiting += 1;
            self.waiting.push(Waiting { time, slot, row });
        }
        Ok(())
    }

    /// The rows that time has passed, in order.
    fn due(&mut self, now: Millis) -> Vec<Waiting> {
        if !self.sorted {
            let chunks = &self.chunks;
            let order = |w: &Waiting| chunks.get(w.row.chunk).order.as_ref().map(|o| o.get(w.row.at as usize));
            self.waiting.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| order(a).cmp(&order(b))));
            self.sorted = self.order.is_none();
        }
        let due = self.waiting.partition_point(|w| w.time <= now);
        self.waiting.drain(..due).collect()
    }

    /// Gives a row to its key, and tries what can be tried.
    fn feed(&mut self, row: Waiting, context: &EvalContext) -> Result<()> {
        self.drain(row.slot, row.time, context)?;
        self.append(row);
        self.drain(row.slot, row.time, context)
    }

    /// Puts a row behind those of its key.
    fn append(&mut self, row: Waiting) {
        let key = &mut self.keys[row.slot as usize];
        key.waiting -= 1;
        key.rows.push_back((row.time, row.row));
        let chunk = self.chunks.get(row.row.chunk);
        for (prefix, arg) in key.prefixes.iter_mut().zip(&self.prefixes.args) {
            prefix.push(match arg {
                None => Some(1),
                Some(arg) => match &chunk.fast[*arg] {
                    rows::Fast::Int(a) => a.is_valid(row.row.at as usize).then(|| a.value(row.row.at as usize)),
                    _ => None,
                },
            });
        }
    }

    /// Tries the starts of a key with the rows that are there.
    fn drain(&mut self, slot: u32, time: Millis, context: &EvalContext) -> Result<()> {
        self.index.map_mut().touch(slot);
        let key = &mut self.keys[slot as usize];
        let Some(first) = key.rows.front().map(|r| r.1) else {
            return Ok(());
        };
        let (measures, found, types) = (&self.measures, &mut self.found, &self.matcher.types);
        let mut emit = |key: &KeyRows, chunks: &Chunks, bounds: &[u32]| {
            found.add(measures, &View { key, chunks, types, bounds, candidate: None, time, context })
        };
        let rows = key.rows.len();
        self.matcher.drain(key, rows, time, &mut self.chunks, context, &mut self.scratch, &mut emit)?;
        if let (Some(within), Some((start, row))) = (self.matcher.within, key.rows.front())
            && (*row != first || key.seen <= 1)
        {
            self.timers.push(Reverse((start.saturating_add(within), slot)));
        }
        Ok(())
    }

    /// Starts whose WITHIN has ended, of keys that got no row.
    fn expire(&mut self, now: Millis, context: &EvalContext) -> Result<()> {
        while let Some(Reverse((time, slot))) = self.timers.peek().copied() {
            if time > now {
                break;
            }
            self.timers.pop();
            self.drain(slot, now, context)?;
            self.retire(slot);
        }
        Ok(())
    }

    /// Forgets a key that has no rows.
    fn retire(&mut self, slot: u32) {
        let key = &self.keys[slot as usize];
        if key.rows.is_empty() && key.waiting == 0 && self.index.map().slots_contain(slot) {
            self.index.map_mut().remove(slot);
        }
    }

    /// Evaluates the measures of the matches found and sends them.
    fn emit(&mut self, out: &mut Output<'_>) -> Result<()> {
        if !self.found.rows.is_empty() {
            let found = std::mem::replace(&mut self.found, Found::new(&self.measures));
            let rows = found.rows.len();
            self.matches += rows as u64;
            let args = self.args.exprs.len();
            let mut columns = (self.clause.partition_by.iter().map(|c| args + c))
                .map(|c| self.chunks.gather(c, &found.rows, &self.columns[c]))
                .collect::<Result<Vec<_>>>()?;
            for (measure, values) in self.measures.iter().zip(found.slots) {
                let slots = measure.slots.iter().zip(values).map(|(s, v)| self.slot_column(s, v)).collect::<Result<Vec<_>>>()?;
                columns.push(measure.expr.eval_array(&Batch::new(slots, rows), out.context())?);
            }
            out.emit(Batch::new(columns, rows));
        }
        self.chunks.sweep();
        self.compact()
    }

    fn slot_column(&self, slot: &Slot, values: SlotValues) -> Result<ArrayRef> {
        match (slot, values) {
            (Slot::Navigate { arg, .. }, SlotValues::Rows(rows)) => self.chunks.gather(*arg, &rows, &self.columns[*arg]),
            (_, SlotValues::Values(values)) => sluice_batch::datum::from_datums(&values, slot.ty()),
            (_, SlotValues::Rows(_)) => Err(Error::runtime("a measure has rows but no column")),
        }
    }

    /// Rewrites the chunks when most of their rows are no longer needed.
    fn compact(&mut self) -> Result<()> {
        let (held, live) = self.chunks.load();
        if held < WASTE_ROWS || held < WASTE * live || self.order.is_some() {
            return Ok(());
        }
        let kept = self.keys.iter_mut().flat_map(|k| k.rows.iter_mut().map(|(_, row)| row));
        let mut rows: Vec<&mut RowRef> = kept.chain(self.waiting.iter_mut().map(|w| &mut w.row)).collect();
        self.chunks.compact(&mut rows, &self.columns, self.args.exprs.len())
    }

    fn advance(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        for row in self.due(now) {
            self.feed(row, out.context())?;
            self.retire(row.slot);
        }
        self.expire(now, out.context())?;
        self.emit(out)
    }
}

impl Found {
    fn new(measures: &[Measure]) -> Self {
        let values = |slot: &Slot| match slot {
            Slot::Navigate { .. } => SlotValues::Rows(vec![]),
            _ => SlotValues::Values(vec![]),
        };
        Self { rows: vec![], slots: measures.iter().map(|m| m.slots.iter().map(values).collect()).collect() }
    }

    fn add(&mut self, measures: &[Measure], view: &View<'_>) -> Result<()> {
        self.rows.push(view.key.rows.front().map(|r| r.1));
        for (measure, values) in measures.iter().zip(&mut self.slots) {
            for (slot, values) in measure.slots.iter().zip(values) {
                match values {
                    SlotValues::Rows(rows) => rows.push(view.slot_row(slot)),
                    SlotValues::Values(datums) => datums.push(view::to_datum(view.slot(slot)?, slot.ty())),
                }
            }
        }
        Ok(())
    }
}

impl Operator for MatchRecognize {
    fn name(&self) -> &'static str {
        "MatchRecognize"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if self.clause.proctime {
            let now = out.now();
            self.ingest(&batch, &vec![now; batch.rows()], out.context())?;
            return self.advance(now, out);
        }
        let times = to_millis(batch.column(self.clause.time))?;
        let on_time: Vec<u32> =
            (0..batch.rows() as u32).filter(|i| times.is_valid(*i as usize) && times.value(*i as usize) > self.watermark).collect();
        self.late += (batch.rows() - on_time.len()) as u64;
        if on_time.len() == batch.rows() {
            return self.ingest(&batch, times.values(), out.context());
        }
        let kept: Vec<Millis> = on_time.iter().map(|i| times.value(*i as usize)).collect();
        self.ingest(&batch.take(&on_time.into())?, &kept, out.context())
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        self.watermark = now;
        if self.clause.proctime { Ok(()) } else { self.advance(now, out) }
    }

    fn tick(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.clause.proctime { self.advance(now, out) } else { Ok(()) }
    }

    fn wants_ticks(&self) -> bool {
        self.clause.proctime && self.clause.within.is_some()
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn matches(&self) -> u64 {
        self.matches
    }

    fn state_bytes(&self) -> usize {
        self.chunks.bytes() + self.index.map().memory() + self.waiting.len() * size_of::<Waiting>()
    }

    fn track_changes(&mut self) {
        self.index.map_mut().track();
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        self.write_changes(out)
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        self.write_rows(out)
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.read_rows(input)
    }
}
