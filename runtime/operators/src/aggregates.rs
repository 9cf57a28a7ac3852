//! The aggregate calls of one operator: their accumulators, updated together.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use sluice_batch::aggregate::{AggregateCall, RunningRows};
use sluice_batch::batch::Mask;
use sluice_batch::{Accumulator, Batch, Error, Result, RowKind, SqlType};

use crate::rows::{RowCodec, take};
use crate::state::take_row;

pub struct Aggregates {
    calls: Vec<AggregateCall>,
    input: Vec<SqlType>,
    retracting: bool,
    accumulators: Vec<Box<dyn Accumulator>>,
    capacity: usize,
}

impl Aggregates {
    pub fn new(calls: &[AggregateCall], input: &[SqlType], retracting: bool) -> Result<Self> {
        let accumulators =
            calls.iter().map(|c| sluice_functions::aggregate::accumulator_for(c, input, retracting)).collect::<Result<_>>()?;
        Ok(Self { calls: calls.to_vec(), input: input.to_vec(), retracting, accumulators, capacity: 0 })
    }

    /// The same calls without state.
    pub fn fresh(&self) -> Result<Self> {
        Self::new(&self.calls, &self.input, self.retracting)
    }

    /// Makes room for `slots`.
    pub fn resize(&mut self, slots: usize) {
        if slots > self.capacity {
            // Many slots grow by an eighth: twice as many may be more than there is memory for.
            let eighth = (slots / 8).next_multiple_of(1 << 16);
            self.capacity = if slots < 1 << 18 { slots.next_power_of_two() } else { slots + eighth };
            self.accumulators.iter_mut().for_each(|a| a.resize(self.capacity));
        }
    }

    pub fn clear(&mut self, slot: u32) {
        self.accumulators.iter_mut().for_each(|a| a.clear(slot));
    }

    /// Adds or takes back the rows of `batch`, row `i` in slot `groups[i]`.
    pub fn update(&mut self, batch: &Batch, groups: &[u32]) -> Result<()> {
        for (call, accumulator) in self.calls.iter().zip(&mut self.accumulators) {
            let args: Vec<ArrayRef> = call.args.iter().map(|a| batch.column(*a).clone()).collect();
            let kinds = batch.kinds().map(|k| &**k);
            let Some(filter) = call.filter else {
                accumulator.update(&args, groups, kinds)?;
                continue;
            };
            let mask = boolean(batch.column(filter))?;
            let rows: Vec<u32> = (0..mask.len()).filter(|i| mask.is_valid_and_true(*i)).map(|i| i as u32).collect();
            if rows.is_empty() {
                continue;
            }
            let groups: Vec<u32> = rows.iter().map(|i| groups[*i as usize]).collect();
            let kinds: Option<Vec<RowKind>> = kinds.map(|k| rows.iter().map(|i| k[*i as usize]).collect());
            accumulator.update(&take(&args, &UInt32Array::from(rows))?, &groups, kinds.as_deref())?;
        }
        Ok(())
    }

    /// The same, and the results of each row's slot before and after it, by call.
    pub fn update_running(&mut self, batch: &Batch, groups: &[u32]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let running = RunningRows::new(groups);
        let (mut before, mut after) = (Vec::with_capacity(self.calls.len()), Vec::with_capacity(self.calls.len()));
        for (call, accumulator) in self.calls.iter().zip(&mut self.accumulators) {
            let args: Vec<ArrayRef> = call.args.iter().map(|a| batch.column(*a).clone()).collect();
            let filter = call.filter.map(|f| boolean(batch.column(f))).transpose()?;
            let (b, a) = running.update(accumulator.as_mut(), &args, batch.kinds().map(|k| &**k), filter)?;
            before.push(b);
            after.push(a);
        }
        Ok((before, after))
    }

    /// Adds slots of `other`, made of the same calls, to slots of this one.
    pub fn merge(&mut self, other: &Aggregates, from: &[u32], to: &[u32]) -> Result<()> {
        self.accumulators.iter_mut().zip(&other.accumulators).try_for_each(|(a, o)| a.merge(o.as_ref(), from, to))
    }

    /// The results of some slots, a column a call.
    pub fn evaluate(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        self.accumulators.iter().map(|a| a.evaluate(groups)).collect()
    }

    /// The state of one slot: of each call its length and its bytes, so that calls can be told apart without knowing them.
    pub fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        for accumulator in &self.accumulators {
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            accumulator.encode(slot, out);
            let bytes = (out.len() - at - 4) as u32;
            out[at..at + 4].copy_from_slice(&bytes.to_be_bytes());
        }
    }

    /// Reads what [`Aggregates::encode`] wrote into an empty slot; a call without bytes stays empty.
    pub fn decode(&mut self, slot: u32, input: &mut &[u8]) -> Result<()> {
        for accumulator in &mut self.accumulators {
            let mut bytes = take_row(input)?;
            if !bytes.is_empty() {
                accumulator.decode(slot, &mut bytes)?;
            }
        }
        Ok(())
    }

    pub fn memory(&self) -> usize {
        self.accumulators.iter().map(|a| a.memory()).sum()
    }
}

fn boolean(column: &ArrayRef) -> Result<&BooleanArray> {
    column.as_boolean_opt().ok_or_else(|| Error::runtime(format!("FILTER wants BOOLEAN, got {}", column.data_type())))
}

/// Which rows of two column sets are the same, NULLs being equal.
pub fn rows_equal(left: &[ArrayRef], right: &[ArrayRef], rows: usize) -> Result<Vec<bool>> {
    let mut equal = vec![true; rows];
    for (l, r) in left.iter().zip(right) {
        if l.data_type().is_nested() || l.data_type().is_null() {
            let codec = RowCodec::of_arrow(l.data_type().clone())?;
            let (l, r) = (codec.encode(std::slice::from_ref(l))?, codec.encode(std::slice::from_ref(r))?);
            equal.iter_mut().enumerate().for_each(|(i, e)| *e = *e && l.get(i) == r.get(i));
        } else {
            let same = arrow::compute::kernels::cmp::not_distinct(l, r)?;
            equal.iter_mut().zip(same.values()).for_each(|(e, s)| *e &= s);
        }
    }
    Ok(equal)
}
