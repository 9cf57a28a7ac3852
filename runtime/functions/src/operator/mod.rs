//! Operators: arithmetic, comparison, membership, patterns, truth tests.

pub(crate) mod arithmetic;
pub(crate) mod comparison;
pub(crate) mod decimal;
pub(crate) mod interval;
pub(crate) mod like;
pub(crate) mod membership;
#[cfg(test)]
mod tests;
pub(crate) mod truth;

use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray, new_null_array};
use sluice_batch::{Result, Value};

use crate::kernel::Column;

/// Applies a function to two primitive arguments, NULL if either is; a scalar stays a scalar.
pub(crate) fn binary<A, B, O>(a: &Value, b: &Value, f: impl Fn(A::Native, B::Native) -> O::Native) -> Result<Value>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let (x, y) = (Column::<PrimitiveArray<A>>::new(a)?, Column::<PrimitiveArray<B>>::new(b)?);
    Ok(match (x.is_scalar(), y.is_scalar()) {
        (true, true) => {
            let out: PrimitiveArray<O> = std::iter::once(x.get(0).zip(y.get(0)).map(|(a, b)| f(a, b))).collect();
            Value::Scalar(std::sync::Arc::new(out))
        }
        (false, false) => {
            let out: PrimitiveArray<O> = arrow::compute::binary(x.array(), y.array(), f)?;
            Value::Array(std::sync::Arc::new(out))
        }
        (false, true) => one_sided::<A, O>(x.array(), y.get(0).map(|b| move |a| f(a, b))),
        (true, false) => one_sided::<B, O>(y.array(), x.get(0).map(|a| move |b| f(a, b))),
    })
}

fn one_sided<A: ArrowPrimitiveType, O: ArrowPrimitiveType>(array: &PrimitiveArray<A>, f: Option<impl Fn(A::Native) -> O::Native>) -> Value {
    let out: ArrayRef = match f {
        Some(f) => std::sync::Arc::new(array.unary::<_, O>(f)),
        None => new_null_array(&O::DATA_TYPE, arrow::array::Array::len(array)),
    };
    Value::Array(out)
}
