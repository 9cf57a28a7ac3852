//! COUNT: BIGINT NOT NULL (Flink: `CountAggFunction`, `Count1AggFunction`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::buffer::NullBuffer;
use sluice_batch::{Accumulator, AggregateFunction, Result, TypeKind};

use super::codec::{put_i64, take_i64};
use super::slots::{Aggregate, Slots};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[AggregateDeclaration { names: &["COUNT"], bind }];

/// `COUNT(*)`, and `COUNT(a, …)`: the rows in which no argument is NULL.
fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    Ok(BoundAggregate { function: Arc::new(Count), args: call.args.to_vec(), ty: TypeKind::BigInt.not_null() })
}

/// Counts the rows in which no argument is NULL.
#[derive(Debug)]
pub struct Count;

impl AggregateFunction for Count {
    fn name(&self) -> &str {
        "COUNT"
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(CountRows)
    }
}

struct CountRows;

impl Aggregate for CountRows {
    type State = i64;
    type Args<'a> = Option<NullBuffer>;
    type Output = Vec<i64>;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        Ok(args.iter().fold(None, |nulls, a| NullBuffer::union(nulls.as_ref(), a.logical_nulls().as_ref())))
    }

    #[inline]
    fn add(&self, state: &mut i64, nulls: &Self::Args<'_>, row: usize) -> Result<()> {
        *state += i64::from(nulls.as_ref().is_none_or(|n| n.is_valid(row)));
        Ok(())
    }

    #[inline]
    fn retract(&self, state: &mut i64, nulls: &Self::Args<'_>, row: usize) -> Result<()> {
        *state -= i64::from(nulls.as_ref().is_none_or(|n| n.is_valid(row)));
        Ok(())
    }

    fn merge(&self, into: &mut i64, from: &i64) -> Result<()> {
        *into += from;
        Ok(())
    }

    fn output(&self, capacity: usize) -> Vec<i64> {
        Vec::with_capacity(capacity)
    }

    #[inline]
    fn push(&self, state: &i64, out: &mut Vec<i64>) -> Result<()> {
        out.push(*state);
        Ok(())
    }

    fn finish(&self, out: Vec<i64>) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(out)))
    }

    fn encode(&self, state: &i64, out: &mut Vec<u8>) {
        put_i64(*state, out);
    }

    fn decode(&self, input: &mut &[u8]) -> Result<i64> {
        take_i64(input)
    }
}
