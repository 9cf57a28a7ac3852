//! DISTINCT: a wrapper that hands each distinct value to the aggregate once, and takes it back when its last copy goes
//! (Flink: `DistinctAggCodeGen`).

use std::any::Any;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute;
use sluice_batch::aggregate::RunningRows;
use sluice_batch::{Accumulator, Error, Result, RowKind, SqlType};

use super::values::{Counts, ValueCodec};

/// An accumulator that feeds `inner` with the distinct rows of its arguments, which have these types.
/// For retractions `inner` has to be retractable.
///
/// # Errors
/// If values of a type cannot be compared.
pub fn distinct(inner: Box<dyn Accumulator>, types: Vec<SqlType>) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(Distinct { codec: ValueCodec::new(types)?, inner, slots: Vec::new(), heap: 0 }))
}

struct Distinct {
    codec: ValueCodec,
    inner: Box<dyn Accumulator>,
    slots: Vec<Counts>,
    heap: usize,
}

impl Distinct {
    /// Counts the rows; true for those that make a value appear or vanish.
    fn count(&mut self, args: &[ArrayRef], groups: &[u32], kinds: Option<&[RowKind]>) -> Result<Vec<bool>> {
        let rows = self.codec.rows(args)?;
        let mut pass = Vec::with_capacity(groups.len());
        for (i, group) in groups.iter().enumerate() {
            let slot = &mut self.slots[*group as usize];
            let heap = slot.heap();
            let by = if kinds.is_none_or(|k| k[i].is_addition()) { 1 } else { -1 };
            let (before, after) = slot.add(rows.row(i).data(), by);
            pass.push((before > 0) != (after > 0));
            self.heap = (self.heap + slot.heap()).saturating_sub(heap);
        }
        Ok(pass)
    }
}

impl Accumulator for Distinct {
    fn resize(&mut self, groups: usize) {
        self.slots.resize_with(groups, Counts::default);
        self.inner.resize(groups);
    }

    fn clear(&mut self, group: u32) {
        let slot = &mut self.slots[group as usize];
        self.heap = self.heap.saturating_sub(slot.heap());
        *slot = Counts::default();
        self.inner.clear(group);
    }

    fn update(&mut self, args: &[ArrayRef], groups: &[u32], kinds: Option<&[RowKind]>) -> Result<()> {
        let pass = self.count(args, groups, kinds)?;
        let rows: Vec<u32> = (0..groups.len() as u32).filter(|i| pass[*i as usize]).collect();
        if rows.len() == groups.len() {
            return self.inner.update(args, groups, kinds);
        }
        let groups: Vec<u32> = rows.iter().map(|i| groups[*i as usize]).collect();
        let kinds: Option<Vec<RowKind>> = kinds.map(|k| rows.iter().map(|i| k[*i as usize]).collect());
        let rows = UInt32Array::from(rows);
        let args = args.iter().map(|a| compute::take(a, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.inner.update(&args, &groups, kinds.as_deref())
    }

    fn update_running(&mut self, args: &[ArrayRef], groups: &[u32], kinds: Option<&[RowKind]>) -> Result<ArrayRef> {
        let pass = self.count(args, groups, kinds)?;
        Ok(RunningRows::new(groups).update_where(self.inner.as_mut(), args, kinds, Some(&pass))?.1)
    }

    /// Only the values are merged: `inner` gets those that are new here, so a value on both sides counts once.
    fn merge(&mut self, other: &dyn Accumulator, from: &[u32], to: &[u32]) -> Result<()> {
        let other = other.as_any().downcast_ref::<Self>().ok_or_else(|| Error::runtime("merge of two different aggregates"))?;
        let (mut values, mut groups, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        for (from, to) in from.iter().zip(to) {
            let slot = &mut self.slots[*to as usize];
            let heap = slot.heap();
            for (value, count) in other.slots[*from as usize].ordered() {
                let (before, after) = slot.add(value, count);
                if (before > 0) != (after > 0) {
                    values.push(value);
                    groups.push(*to);
                    kinds.push(if after > 0 { RowKind::Insert } else { RowKind::Delete });
                }
            }
            self.heap = (self.heap + slot.heap()).saturating_sub(heap);
        }
        let args = self.codec.columns(values)?;
        let kinds = kinds.contains(&RowKind::Delete).then_some(kinds);
        self.inner.update(&args, &groups, kinds.as_deref())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        self.inner.evaluate(groups)
    }

    fn encode(&self, group: u32, out: &mut Vec<u8>) {
        self.slots[group as usize].encode(&self.codec, out);
        self.inner.encode(group, out);
    }

    fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()> {
        let counts = Counts::decode(&self.codec, input)?;
        self.heap += counts.heap();
        self.slots[group as usize] = counts;
        self.inner.decode(group, input)
    }

    fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Counts>() + self.heap + self.inner.memory()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
