//! Streaming operators: one file each. Data comes in batches, time as watermarks; what an operator gives goes to its [`Output`].

use sluice_batch::{Batch, EvalContext, Millis, Result};

mod aggregates;
mod calc;
mod changelog_normalize;
mod changes;
mod constraint_enforcer;
mod deduplicate;
mod drop_update_before;
mod expand;
mod from_changelog;
mod group_aggregate;
pub mod group_index;
mod group_window;
mod interval_join;
mod join;
mod join_rows;
mod join_state;
mod keyed_rows;
mod lateral_snapshot_join;
mod lookup_cache;
mod lookup_join;
mod match_recognize;
pub mod memory;
mod over;
mod row_log;
pub mod rows;
pub mod rules;
mod session_aggregate;
mod session_tvf;
mod sessions;
mod set_operation;
pub mod shard;
mod sort;
pub mod spec;
mod spill;
#[cfg(test)]
mod spill_tests;
pub mod state;
pub mod store;
mod table;
mod temporal_join;
mod temporal_sort;
#[cfg(test)]
mod test_functions;
#[cfg(test)]
mod testing;
pub mod time;
mod time_buffer;
mod to_changelog;
mod top_n;
mod union;
mod unnest;
mod upsert_materialize;
mod watermark_assigner;
mod window_aggregate;
mod window_join;
mod window_output;
mod window_top_n;
mod window_tvf;
mod windows;

/// A streaming operator. It is called by one thread, never blocks, and knows no clock but the task's.
pub trait Operator: Send {
    /// The name in plans and metrics, e.g. `GroupAggregate`.
    fn name(&self) -> &'static str;

    /// Rows of input `input` (0 for operators with one input).
    fn batch(&mut self, input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()>;

    /// Time has reached `now` on all inputs: no row with a rowtime <= `now` follows. The task passes `now` on afterwards,
    /// so an operator emits what is due and, unless it holds rows back behind time, need not forward.
    /// [`sluice_batch::WATERMARK_MAX`] ends a bounded input.
    fn watermark(&mut self, _now: Millis, _out: &mut Output<'_>) -> Result<()> {
        Ok(())
    }

    /// Time has reached `now` on input `input` alone; before [`Operator::watermark`], which follows if that moves the time of all inputs.
    fn input_watermark(&mut self, _input: usize, _now: Millis, _out: &mut Output<'_>) -> Result<()> {
        Ok(())
    }

    /// The watermark that may go downstream when the input's is `now`; less for operators that emit older rowtimes later.
    fn output_watermark(&self, now: Millis) -> Millis {
        now
    }

    /// Whether input `input` has no time of its own: the operator's time is that of its other inputs.
    fn ignores_time(&self, _input: usize) -> bool {
        false
    }

    /// Processing time has moved on to `now`; called at least every 100 ms while [`Operator::wants_ticks`].
    fn tick(&mut self, _now: Millis, _out: &mut Output<'_>) -> Result<()> {
        Ok(())
    }

    fn wants_ticks(&self) -> bool {
        false
    }

    /// Input `input` has no more rows for now: its sources are bounded and read. A job that goes on from a savepoint may find more.
    fn end_of_rows(&mut self, _input: usize, _out: &mut Output<'_>) -> Result<()> {
        Ok(())
    }

    /// Input `input` has ended for good (after its last batch, before the maximal watermark).
    fn end_of_input(&mut self, _input: usize, _out: &mut Output<'_>) -> Result<()> {
        Ok(())
    }

    /// Called before every commit, at the end of every poll round under mini-batching, and at the end: emit what is held back only
    /// to be batched (mini-batches), not what waits for time.
    fn flush(&mut self, _out: &mut Output<'_>) -> Result<()> {
        Ok(())
    }

    /// As [`Operator::flush`], before a commit, a barrier and the end: what is on its way outside comes back first.
    fn settle(&mut self, out: &mut Output<'_>) -> Result<()> {
        self.flush(out)
    }

    /// Rows that came too late and were dropped, so far.
    fn late_rows(&self) -> u64 {
        0
    }

    /// Matches of a row pattern found, so far.
    fn matches(&self) -> u64 {
        0
    }

    /// Bytes of state held, about.
    fn state_bytes(&self) -> usize {
        0
    }

    /// State beyond the budget goes to the disk, if the operator can do that; the answer. Called once, before [`Operator::restore`].
    ///
    /// One that can takes what [`Operator::restore`] gives in parts, and keys that it has already been given parts of.
    fn spill(&mut self, _memory: &memory::Memory) -> bool {
        false
    }

    /// Others need memory. Called now and then; operators that spill also look behind each batch.
    fn make_room(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes all state, so that a new operator of the same spec goes on from it. Stateless operators write nothing.
    fn snapshot(&self, _out: &mut state::SnapshotWriter) -> Result<()> {
        Ok(())
    }

    /// From now on [`Operator::delta`] will be asked for what changes. Called once, behind [`Operator::restore`], and only if the job keeps
    /// its state: others pay nothing.
    fn track_changes(&mut self) {}

    /// Writes what has changed in the tables that [`Operator::snapshot`] writes since the last call, or since [`Operator::track_changes`].
    /// `false`: the operator does not know, and all of it is written instead.
    ///
    /// An operator that answers `true` gives each row of a table a key of its own.
    fn delta(&mut self, _out: &mut state::DeltaWriter) -> Result<bool> {
        Ok(false)
    }

    /// The part of a row's key in a state table that says which shard the row belongs to: the columns by which rows are exchanged
    /// between tasks, as [`rows::RowCodec`] writes them. Nothing: every task gets the row.
    ///
    /// # Errors
    /// If the key is not one that [`Operator::snapshot`] writes.
    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        Ok(key)
    }

    /// Whether [`Operator::restore`] may be called again and again, with some rows of one table each time, in any order: for state that is
    /// larger than memory.
    fn restores_in_parts(&self) -> bool {
        false
    }

    /// Reads what [`Operator::snapshot`] wrote, before the first batch.
    fn restore(&mut self, _input: &mut state::SnapshotReader<'_>) -> Result<()> {
        Ok(())
    }
}

/// What goes from one operator to the next, in order.
#[derive(Clone, Debug)]
pub enum Item {
    Batch(Batch),
    /// Time that an operator itself has moved on (a watermark assigner). What the task passes on is not in here.
    Watermark(Millis),
}

/// Where an operator's rows go, and what it may know of the outside.
pub struct Output<'a> {
    items: &'a mut Vec<Item>,
    context: &'a EvalContext,
    watermark: Millis,
}

impl<'a> Output<'a> {
    /// `watermark` is the operator's current one (before the call, or the one being delivered).
    pub fn new(items: &'a mut Vec<Item>, context: &'a EvalContext, watermark: Millis) -> Self {
        Self { items, context, watermark }
    }

    /// Sends rows downstream; empty batches are dropped.
    pub fn emit(&mut self, batch: Batch) {
        if !batch.is_empty() {
            self.items.push(Item::Batch(batch));
        }
    }

    /// Sends a watermark downstream, behind the batches emitted so far. Only for operators that make time
    /// (their [`Operator::output_watermark`] then answers with what they last sent).
    pub fn emit_watermark(&mut self, watermark: Millis) {
        self.items.push(Item::Watermark(watermark));
    }

    /// Session settings and the task's clock.
    pub fn context(&self) -> &'a EvalContext {
        self.context
    }

    /// Processing time, from the task's clock.
    pub fn now(&self) -> Millis {
        self.context.now
    }

    /// The current watermark of the operator's inputs.
    pub fn watermark(&self) -> Millis {
        self.watermark
    }
}
