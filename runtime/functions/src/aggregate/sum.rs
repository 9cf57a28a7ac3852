//! SUM and $SUM0 (Flink: `SumAggFunction`, `SumWithRetractAggFunction`, `Sum0AggFunction`).

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, PrimitiveArray, PrimitiveBuilder};
use arrow::datatypes::DataType;
use sluice_batch::{Accumulator, AggregateFunction, Result, SqlType, TypeKind};

use super::codec::{put_i64, take_i64};
use super::number::{Number, Total};
use super::slots::{Aggregate, Slots, arg, typed};
use super::{one_argument, with_numeric_type};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] =
    &[AggregateDeclaration { names: &["SUM"], bind }, AggregateDeclaration { names: &["$SUM0", "SUM0"], bind: bind_zero }];

/// SUM of a type is of that type; a DECIMAL(p, s) gives DECIMAL(38, s) (Flink: `LogicalTypeMerging.findSumAggType`).
fn sum_type(ty: &SqlType) -> SqlType {
    match ty.kind {
        TypeKind::Decimal(_, scale) => TypeKind::Decimal(38, scale).with_nullable(ty.nullable),
        _ => ty.clone(),
    }
}

fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |k| k.is_numeric(), "<NUMERIC>")?;
    let ty = sum_type(&arg.ty);
    Ok(BoundAggregate { function: Arc::new(Sum { ty: ty.clone(), zero: false }), args: vec![arg], ty })
}

fn bind_zero(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |k| k.is_numeric(), "<NUMERIC>")?;
    let ty = sum_type(&arg.ty).as_not_null();
    Ok(BoundAggregate { function: Arc::new(Sum { ty: ty.clone(), zero: true }), args: vec![arg], ty })
}

/// The sum; of no values NULL, or 0 for `$SUM0`.
#[derive(Debug)]
pub struct Sum {
    ty: SqlType,
    zero: bool,
}

impl AggregateFunction for Sum {
    fn name(&self) -> &str {
        if self.zero { "$SUM0" } else { "SUM" }
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        macro_rules! make {
            ($t:ty) => {
                Slots::boxed(SumOf::<$t> { ty: self.ty.to_arrow(), zero: self.zero, input: PhantomData })
            };
        }
        with_numeric_type!(self.ty.kind, make)
    }
}

struct SumOf<T: Number> {
    ty: DataType,
    zero: bool,
    input: PhantomData<fn() -> T>,
}

#[derive(Default)]
struct State<S> {
    sum: S,
    count: i64,
}

impl<T: Number> Aggregate for SumOf<T> {
    type State = StateOf<T>;
    type Args<'a> = &'a PrimitiveArray<T>;
    type Output = PrimitiveBuilder<T>;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        typed(arg(args, 0)?)
    }

    #[inline]
    fn add(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            T::add(&mut state.sum, values.values()[row]);
            state.count += 1;
        }
        Ok(())
    }

    #[inline]
    fn retract(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            T::subtract(&mut state.sum, values.values()[row]);
            state.count -= 1;
        }
        Ok(())
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) -> Result<()> {
        into.sum.join(&from.sum);
        into.count += from.count;
        Ok(())
    }

    fn output(&self, capacity: usize) -> Self::Output {
        PrimitiveBuilder::with_capacity(capacity).with_data_type(self.ty.clone())
    }

    #[inline]
    fn push(&self, state: &Self::State, out: &mut Self::Output) -> Result<()> {
        if state.count == 0 && !self.zero {
            out.append_null();
        } else {
            out.append_option(T::sum(&state.sum));
        }
        Ok(())
    }

    fn finish(&self, mut out: Self::Output) -> Result<ArrayRef> {
        Ok(Arc::new(out.finish()))
    }

    fn encode(&self, state: &Self::State, out: &mut Vec<u8>) {
        put_i64(state.count, out);
        state.sum.encode(out);
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Self::State> {
        Ok(State { count: take_i64(input)?, sum: T::Sum::decode(input)? })
    }
}

type StateOf<T> = State<<T as Number>::Sum>;
