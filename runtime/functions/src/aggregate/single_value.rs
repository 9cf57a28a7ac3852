//! SINGLE_VALUE: the only value of a group, as scalar subqueries need it (Flink: `SingleValueAggFunction`).

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::row::Rows;
use sluice_batch::{Accumulator, AggregateFunction, Error, Result, TypeKind};

use super::codec::{put_i64, take_i64, take_u8};
use super::one_argument;
use super::slots::{Aggregate, Slots};
use super::values::ValueCodec;
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[AggregateDeclaration { names: &["SINGLE_VALUE"], bind }];

fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |k| *k != TypeKind::Null, "<ANY>")?;
    let ty = arg.ty.clone();
    let codec = Arc::new(ValueCodec::new(vec![ty.clone()])?);
    Ok(BoundAggregate { function: Arc::new(SingleValue { codec }), args: vec![arg], ty })
}

/// The only value; of none NULL; more than one are an error.
#[derive(Debug)]
pub struct SingleValue {
    codec: Arc<ValueCodec>,
}

impl AggregateFunction for SingleValue {
    fn name(&self) -> &str {
        "SINGLE_VALUE"
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(Single { codec: self.codec.clone() })
    }
}

struct Single {
    codec: Arc<ValueCodec>,
}

#[derive(Default)]
struct State {
    count: i64,
    value: Box<[u8]>,
}

fn check(state: &State) -> Result<()> {
    if state.count > 1 {
        return Err(Error::runtime("SingleValueAggFunction received more than one element."));
    }
    Ok(())
}

impl Aggregate for Single {
    type State = State;
    type Args<'a> = Rows;
    type Output = (Vec<u8>, Vec<usize>);
    const HEAP: bool = true;

    fn args(&self, args: &[ArrayRef]) -> Result<Rows> {
        self.codec.rows(args)
    }

    fn add(&self, state: &mut State, rows: &Rows, row: usize) -> Result<()> {
        state.count += 1;
        state.value = Box::from(rows.row(row).data());
        check(state)
    }

    fn retract(&self, state: &mut State, _rows: &Rows, _row: usize) -> Result<()> {
        state.count -= 1;
        state.value = Box::default();
        Ok(())
    }

    fn merge(&self, into: &mut State, from: &State) -> Result<()> {
        into.count += from.count;
        if from.count > 0 {
            into.value = from.value.clone();
        }
        check(into)
    }

    fn output(&self, capacity: usize) -> Self::Output {
        (Vec::new(), Vec::with_capacity(capacity))
    }

    fn push(&self, state: &State, (bytes, ends): &mut Self::Output) -> Result<()> {
        bytes.extend_from_slice(&state.value);
        ends.push(bytes.len());
        Ok(())
    }

    fn finish(&self, (bytes, ends): Self::Output) -> Result<ArrayRef> {
        self.codec.optional_column(&bytes, &ends)
    }

    fn encode(&self, state: &State, out: &mut Vec<u8>) {
        put_i64(state.count, out);
        out.push(u8::from(!state.value.is_empty()));
        if !state.value.is_empty() {
            self.codec.encode(&state.value, out);
        }
    }

    fn decode(&self, input: &mut &[u8]) -> Result<State> {
        let count = take_i64(input)?;
        let value = if take_u8(input)? == 0 { Box::default() } else { self.codec.decode(input)? };
        Ok(State { count, value })
    }

    fn heap(&self, state: &State) -> usize {
        state.value.len()
    }
}
