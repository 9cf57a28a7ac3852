//! AVG (Flink: `AvgAggFunction`): of an integer it is the same integer type, cut off towards zero.

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

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[AggregateDeclaration { names: &["AVG"], bind }];

/// AVG of a type is of that type; a DECIMAL(p, s) gives DECIMAL(38, max(6, s)) (Flink: `LogicalTypeMerging.findAvgAggType`).
/// The types of STDDEV and VARIANCE follow the same rule.
pub(super) fn avg_type(ty: &SqlType) -> SqlType {
    match ty.kind {
        TypeKind::Decimal(_, scale) => TypeKind::Decimal(38, scale.max(6)).with_nullable(ty.nullable),
        _ => ty.clone(),
    }
}

fn bind(call: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |k| k.is_numeric(), "<NUMERIC>")?;
    let ty = avg_type(&arg.ty);
    let extra = match (&arg.ty.kind, &ty.kind) {
        (TypeKind::Decimal(_, from), TypeKind::Decimal(_, to)) => u32::from(to - from),
        _ => 0,
    };
    Ok(BoundAggregate { function: Arc::new(Avg { ty: ty.clone(), extra }), args: vec![arg], ty })
}

/// The average of the values that are not NULL; of none NULL.
#[derive(Debug)]
pub struct Avg {
    ty: SqlType,
    /// Digits of scale that a decimal result has more than its argument.
    extra: u32,
}

impl AggregateFunction for Avg {
    fn name(&self) -> &str {
        "AVG"
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        macro_rules! make {
            ($t:ty) => {
                Slots::boxed(AvgOf::<$t> { ty: self.ty.to_arrow(), extra: self.extra, input: PhantomData })
            };
        }
        with_numeric_type!(self.ty.kind, make)
    }
}

struct AvgOf<T: Number> {
    ty: DataType,
    extra: u32,
    input: PhantomData<fn() -> T>,
}

#[derive(Default)]
struct State<S> {
    sum: S,
    count: i64,
}

type StateOf<T> = State<<T as Number>::Wide>;

impl<T: Number> Aggregate for AvgOf<T> {
    type State = StateOf<T>;
    type Args<'a> = &'a PrimitiveArray<T>;
    type Output = PrimitiveBuilder<T>;

    fn args<'a>(&self, args: &'a [ArrayRef]) -> Result<Self::Args<'a>> {
        typed(arg(args, 0)?)
    }

    #[inline]
    fn add(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            T::add_wide(&mut state.sum, values.values()[row]);
            state.count += 1;
        }
        Ok(())
    }

    #[inline]
    fn retract(&self, state: &mut Self::State, values: &Self::Args<'_>, row: usize) -> Result<()> {
        if values.is_valid(row) {
            T::subtract_wide(&mut state.sum, values.values()[row]);
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
        if state.count == 0 {
            out.append_null();
        } else {
            out.append_option(T::average(&state.sum, state.count, self.extra));
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
        Ok(State { count: take_i64(input)?, sum: T::Wide::decode(input)? })
    }
}
