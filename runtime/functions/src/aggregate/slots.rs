//! The one implementation of [`Accumulator`]: an [`Aggregate`] says what a slot holds and what a row does to it;
//! [`Slots`] runs it over batches. Everything is monomorphic, so the loops over numbers are tight.

use std::any::Any;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use sluice_batch::{Accumulator, Error, Result, RowKind};

/// An aggregate function's arithmetic on one slot.
pub(crate) trait Aggregate: Send + 'static {
    /// What a slot holds; the default is the empty state.
    type State: Default + Send;
    /// The argument columns, downcast once a batch.
    type Args<'a>;
    /// Collects results into a column.
    type Output;
    /// Whether states own memory that [`Aggregate::heap`] counts.
    const HEAP: bool = false;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>>;
    fn add(&self, state: &mut Self::State, args: &Self::Args<'_>, row: usize) -> Result<()>;
    fn retract(&self, state: &mut Self::State, args: &Self::Args<'_>, row: usize) -> Result<()>;
    fn merge(&self, into: &mut Self::State, from: &Self::State) -> Result<()>;
    fn output(&self, capacity: usize) -> Self::Output;
    fn push(&self, state: &Self::State, out: &mut Self::Output) -> Result<()>;
    fn finish(&self, out: Self::Output) -> Result<ArrayRef>;
    fn encode(&self, state: &Self::State, out: &mut Vec<u8>);
    fn decode(&self, input: &mut &[u8]) -> Result<Self::State>;

    /// Bytes owned by a state outside of itself, about; in constant time.
    fn heap(&self, _state: &Self::State) -> usize {
        0
    }
}

pub(crate) struct Slots<A: Aggregate> {
    aggregate: A,
    states: Vec<A::State>,
    heap: usize,
}

impl<A: Aggregate> Slots<A> {
    pub(crate) fn new(aggregate: A) -> Self {
        Self { aggregate, states: Vec::new(), heap: 0 }
    }

    pub(crate) fn boxed(aggregate: A) -> Box<dyn Accumulator> {
        Box::new(Self::new(aggregate))
    }

    /// Runs `change` on one state and keeps the count of its memory.
    #[inline]
    fn change(&mut self, slot: u32, change: impl FnOnce(&A, &mut A::State) -> Result<()>) -> Result<()> {
        let state = &mut self.states[slot as usize];
        if !A::HEAP {
            return change(&self.aggregate, state);
        }
        let before = self.aggregate.heap(state);
        let result = change(&self.aggregate, state);
        self.heap = (self.heap + self.aggregate.heap(state)).saturating_sub(before);
        result
    }
}

impl<A: Aggregate> Accumulator for Slots<A> {
    fn resize(&mut self, groups: usize) {
        // Who calls it knows how much more is wise.
        self.states.reserve_exact(groups.saturating_sub(self.states.len()));
        self.states.resize_with(groups, A::State::default);
    }

    fn clear(&mut self, group: u32) {
        // Cannot fail: it only assigns.
        let _ = self.change(group, |_, state| {
            *state = A::State::default();
            Ok(())
        });
    }

    fn update(&mut self, args: &[ArrayRef], groups: &[u32], kinds: Option<&[RowKind]>) -> Result<()> {
        let aggregate = &self.aggregate;
        let columns = aggregate.args(args)?;
        if A::HEAP {
            for (row, group) in groups.iter().enumerate() {
                let addition = kinds.is_none_or(|k| k[row].is_addition());
                let state = &mut self.states[*group as usize];
                let before = aggregate.heap(state);
                let result = if addition { aggregate.add(state, &columns, row) } else { aggregate.retract(state, &columns, row) };
                self.heap = (self.heap + aggregate.heap(state)).saturating_sub(before);
                result?;
            }
            return Ok(());
        }
        match kinds {
            None => {
                for (row, group) in groups.iter().enumerate() {
                    aggregate.add(&mut self.states[*group as usize], &columns, row)?;
                }
            }
            Some(kinds) => {
                for (row, (group, kind)) in groups.iter().zip(kinds).enumerate() {
                    let state = &mut self.states[*group as usize];
                    if kind.is_addition() { aggregate.add(state, &columns, row)? } else { aggregate.retract(state, &columns, row)? }
                }
            }
        }
        Ok(())
    }

    fn update_running(&mut self, args: &[ArrayRef], groups: &[u32], kinds: Option<&[RowKind]>) -> Result<ArrayRef> {
        let mut out = self.aggregate.output(groups.len());
        let aggregate = &self.aggregate;
        let columns = aggregate.args(args)?;
        for (row, group) in groups.iter().enumerate() {
            let addition = kinds.is_none_or(|k| k[row].is_addition());
            let state = &mut self.states[*group as usize];
            let before = if A::HEAP { aggregate.heap(state) } else { 0 };
            let result = if addition { aggregate.add(state, &columns, row) } else { aggregate.retract(state, &columns, row) };
            if A::HEAP {
                self.heap = (self.heap + aggregate.heap(state)).saturating_sub(before);
            }
            result?;
            aggregate.push(state, &mut out)?;
        }
        aggregate.finish(out)
    }

    fn merge(&mut self, other: &dyn Accumulator, from: &[u32], to: &[u32]) -> Result<()> {
        let other = other.as_any().downcast_ref::<Self>().ok_or_else(|| Error::runtime("merge of two different aggregates"))?;
        for (from, to) in from.iter().zip(to) {
            self.change(*to, |aggregate, state| aggregate.merge(state, &other.states[*from as usize]))?;
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef> {
        let mut out = self.aggregate.output(groups.len());
        for group in groups {
            self.aggregate.push(&self.states[*group as usize], &mut out)?;
        }
        self.aggregate.finish(out)
    }

    fn encode(&self, group: u32, out: &mut Vec<u8>) {
        self.aggregate.encode(&self.states[group as usize], out);
    }

    fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()> {
        self.change(group, |aggregate, state| {
            *state = aggregate.decode(input)?;
            Ok(())
        })
    }

    fn memory(&self) -> usize {
        self.states.capacity() * size_of::<A::State>() + self.heap
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The argument at `index`.
pub(crate) fn arg(args: &[ArrayRef], index: usize) -> Result<&ArrayRef> {
    args.get(index).ok_or_else(|| Error::runtime(format!("an aggregate lacks argument {}", index + 1)))
}

/// A column of a known Arrow type.
pub(crate) fn typed<T: Array + 'static>(array: &ArrayRef) -> Result<&T> {
    array.as_any().downcast_ref::<T>().ok_or_else(|| {
        Error::runtime(format!("an aggregate got a column of {} for one of {}", array.data_type(), std::any::type_name::<T>()))
    })
}

#[inline]
pub(crate) fn is_valid(nulls: Option<&NullBuffer>, row: usize) -> bool {
    nulls.is_none_or(|n| n.is_valid(row))
}
