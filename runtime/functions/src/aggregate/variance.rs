//! VAR_POP, VAR_SAMP (VARIANCE), STDDEV_POP, STDDEV_SAMP (STDDEV) by Welford's method, which loses no digits
//! (Flink: `WelfordM2AggFunction` and Calcite's `AggregateReduceFunctionsRule`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Float64Builder};
use arrow::compute;
use arrow::datatypes::{DataType, Float64Type};
use sluice_batch::{Accumulator, AggregateFunction, Result, SqlType, TypeKind};

use super::avg::avg_type;
use super::codec::{put_f64, put_i64, take_f64, take_i64};
use super::one_argument;
use super::slots::{Aggregate, Slots, arg};
use crate::{AggregateArgs, AggregateDeclaration, BoundAggregate};

pub(super) const DECLARATIONS: &[AggregateDeclaration] = &[
    AggregateDeclaration { names: &["VAR_POP"], bind: |c| bind(c, "VAR_POP", false, false) },
    AggregateDeclaration { names: &["VAR_SAMP", "VARIANCE"], bind: |c| bind(c, "VAR_SAMP", true, false) },
    AggregateDeclaration { names: &["STDDEV_POP"], bind: |c| bind(c, "STDDEV_POP", false, true) },
    AggregateDeclaration { names: &["STDDEV_SAMP", "STDDEV"], bind: |c| bind(c, "STDDEV_SAMP", true, true) },
];

fn bind(call: AggregateArgs<'_>, name: &'static str, sample: bool, root: bool) -> Result<BoundAggregate> {
    let arg = one_argument(&call, |k| k.is_numeric(), "<NUMERIC>")?;
    // The sample variance of one value is NULL whatever the argument is.
    let ty = if sample { avg_type(&arg.ty).as_nullable() } else { avg_type(&arg.ty) };
    Ok(BoundAggregate { function: Arc::new(Variance { name, ty: ty.clone(), sample, root }), args: vec![arg], ty })
}

#[derive(Clone, Debug)]
pub struct Variance {
    name: &'static str,
    ty: SqlType,
    /// Divides by n - 1.
    sample: bool,
    /// The standard deviation.
    root: bool,
}

impl AggregateFunction for Variance {
    fn name(&self) -> &str {
        self.name
    }

    fn accumulator(&self, _retractable: bool) -> Box<dyn Accumulator> {
        Slots::boxed(self.clone())
    }
}

/// How many values, their mean, and the sum of the squared differences from it.
#[derive(Default)]
pub struct Moments {
    count: i64,
    mean: f64,
    m2: f64,
}

impl Aggregate for Variance {
    type State = Moments;
    type Args<'a> = Float64Array;
    type Output = Float64Builder;

    fn args(&self, args: &[ArrayRef]) -> Result<Float64Array> {
        Ok(compute::cast(arg(args, 0)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    #[inline]
    fn add(&self, state: &mut Moments, values: &Float64Array, row: usize) -> Result<()> {
        if values.is_null(row) {
            return Ok(());
        }
        state.count += 1;
        // A negative count stands for values taken back before they came; they have no mean.
        if state.count > 0 {
            let value = values.value(row);
            let delta = value - state.mean;
            state.mean += delta / state.count as f64;
            state.m2 += delta * (value - state.mean);
        }
        Ok(())
    }

    #[inline]
    fn retract(&self, state: &mut Moments, values: &Float64Array, row: usize) -> Result<()> {
        if values.is_null(row) {
            return Ok(());
        }
        state.count -= 1;
        if state.count > 0 {
            let value = values.value(row);
            let delta = value - state.mean;
            state.mean -= delta / state.count as f64;
            state.m2 -= (value - state.mean) * delta;
        } else if state.count == 0 {
            *state = Moments::default();
        }
        Ok(())
    }

    fn merge(&self, into: &mut Moments, from: &Moments) -> Result<()> {
        let count = into.count + from.count;
        if from.count > 0 && into.count > 0 {
            let (n, m) = (into.count as f64, from.count as f64);
            let delta = from.mean - into.mean;
            into.mean += m / count as f64 * delta;
            into.m2 += from.m2 + n * m / count as f64 * delta * delta;
        } else if into.count <= 0 {
            (into.mean, into.m2) = (from.mean, from.m2);
        }
        into.count = count;
        if count <= 0 {
            (into.mean, into.m2) = (0.0, 0.0);
        }
        Ok(())
    }

    fn output(&self, capacity: usize) -> Float64Builder {
        Float64Builder::with_capacity(capacity)
    }

    #[inline]
    fn push(&self, state: &Moments, out: &mut Float64Builder) -> Result<()> {
        let divisor = state.count - i64::from(self.sample);
        // A negative sum of squares comes from taking back values that never came, a very small one from rounding.
        let rounding = 1e-12 * state.count as f64 * (1.0 + state.mean * state.mean);
        if state.count <= 0 || divisor == 0 || state.m2 < -rounding {
            out.append_null();
        } else {
            let variance = state.m2.max(0.0) / divisor as f64;
            out.append_value(if self.root { variance.sqrt() } else { variance });
        }
        Ok(())
    }

    fn finish(&self, mut out: Float64Builder) -> Result<ArrayRef> {
        let values = out.finish();
        Ok(match self.ty.kind {
            TypeKind::Double => Arc::new(values),
            // Java's casts: towards zero; the small types keep the low bits of an INT.
            TypeKind::TinyInt => Arc::new(values.unary::<_, arrow::datatypes::Int8Type>(|v| v as i32 as i8)),
            TypeKind::SmallInt => Arc::new(values.unary::<_, arrow::datatypes::Int16Type>(|v| v as i32 as i16)),
            TypeKind::Int => Arc::new(values.unary::<_, arrow::datatypes::Int32Type>(|v| v as i32)),
            TypeKind::BigInt => Arc::new(values.unary::<_, arrow::datatypes::Int64Type>(|v| v as i64)),
            _ => compute::cast(&values, &self.ty.to_arrow())?,
        })
    }

    fn encode(&self, state: &Moments, out: &mut Vec<u8>) {
        put_i64(state.count, out);
        put_f64(state.mean, out);
        put_f64(state.m2, out);
    }

    fn decode(&self, input: &mut &[u8]) -> Result<Moments> {
        Ok(Moments { count: take_i64(input)?, mean: take_f64(input)?, m2: take_f64(input)? })
    }
}
