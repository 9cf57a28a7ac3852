//! Functions of one or two DOUBLEs, ABS, SIGN, and constants.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array};
use arrow::datatypes::{ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use sluice_batch::{Datum, Error, Expr, Result, TypeKind};

use crate::kernel::{Args, Body, Column, P};
use crate::{Call, Declaration};

/// A function from DOUBLE to DOUBLE.
macro_rules! unary {
    ($name:literal, $f:expr) => {
        Declaration {
            names: &[$name],
            bind: |c| {
                c.strict($name, &[P::Double], TypeKind::Double, |a| {
                    let x = a.f64(0)?;
                    let f: fn(f64) -> f64 = $f;
                    if !x.is_scalar() {
                        return Ok(Arc::new(x.array().unary::<_, Float64Type>(f)));
                    }
                    a.f64s(|row| x.get(row).map(f))
                })
            },
        }
    };
}

/// A function from two DOUBLEs to DOUBLE.
macro_rules! binary {
    ($name:literal, $f:expr) => {
        Declaration { names: &[$name], bind: |c| c.strict($name, &[P::Double, P::Double], TypeKind::Double, |a| two(a, $f)) }
    };
}

fn two(a: &Args<'_>, f: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (x, y) = (a.f64(0)?, a.f64(1)?);
    a.f64s(|row| Some(f(x.get(row)?, y.get(row)?)))
}

pub(crate) static FUNCTIONS: &[Declaration] = &[
    unary!("EXP", f64::exp),
    unary!("LN", f64::ln),
    unary!("LOG10", f64::log10),
    unary!("LOG2", |x| x.ln() / 2_f64.ln()),
    unary!("SQRT", |x| java_pow(x, 0.5)),
    unary!("SIN", f64::sin),
    unary!("COS", f64::cos),
    unary!("TAN", f64::tan),
    unary!("COT", |x| 1.0 / x.tan()),
    unary!("ASIN", f64::asin),
    unary!("ACOS", f64::acos),
    unary!("ATAN", f64::atan),
    unary!("SINH", f64::sinh),
    unary!("COSH", f64::cosh),
    unary!("TANH", f64::tanh),
    unary!("DEGREES", f64::to_degrees),
    unary!("RADIANS", f64::to_radians),
    binary!("POWER", java_pow),
    binary!("ATAN2", f64::atan2),
    Declaration { names: &["LOG"], bind: log },
    Declaration { names: &["PI"], bind: |c| constant(c, std::f64::consts::PI) },
    Declaration { names: &["E"], bind: |c| constant(c, std::f64::consts::E) },
    Declaration { names: &["ABS"], bind: |c| same_type(c, "ABS", abs) },
    Declaration { names: &["SIGN"], bind: |c| same_type(c, "SIGN", sign) },
];

/// `Math.pow`: 1 to the power of NaN or infinity is NaN in Java, 1 in C.
fn java_pow(x: f64, y: f64) -> f64 {
    if y.is_nan() || (x.abs() == 1.0 && y.is_infinite()) { f64::NAN } else { x.powf(y) }
}

/// `LOG(x)` is natural; `LOG(base, x)`.
fn log(call: Call<'_>) -> Result<Expr> {
    if call.args.len() == 1 {
        return crate::bind(Call { name: "LN", ..call });
    }
    call.strict("LOG", &[P::Double, P::Double], TypeKind::Double, |a| two(a, |base, x| x.ln() / base.ln()))
}

fn constant(call: Call<'_>, value: f64) -> Result<Expr> {
    if !call.args.is_empty() {
        return Err(call.wrong_count(0));
    }
    Ok(Expr::literal(Datum::Double(value), TypeKind::Double.not_null()))
}

fn same_type(mut call: Call<'_>, name: &'static str, body: Body) -> Result<Expr> {
    call.coerce(&[P::Numeric], 1)?;
    let ty = call.args[0].ty.clone();
    Ok(call.kernel(name, ty, body))
}

/// Applies one of the functions to the only argument, whichever number it is.
macro_rules! by_type {
    ($a:expr, $ints:expr, $floats:expr, $decimals:expr) => {{
        fn apply<T: ArrowPrimitiveType>(a: &Args<'_>, f: fn(T::Native) -> T::Native) -> Result<ArrayRef> {
            let x = Column::<arrow::array::PrimitiveArray<T>>::new(&a.values[0])?;
            a.primitives::<T>(|row| x.get(row).map(f))
        }
        match &$a.ty.kind {
            TypeKind::TinyInt => apply::<Int8Type>($a, $ints),
            TypeKind::SmallInt => apply::<Int16Type>($a, $ints),
            TypeKind::Int => apply::<Int32Type>($a, $ints),
            TypeKind::BigInt => apply::<Int64Type>($a, $ints),
            TypeKind::Float => apply::<Float32Type>($a, $floats),
            TypeKind::Double => apply::<Float64Type>($a, $floats),
            TypeKind::Decimal(_, s) => {
                let one = 10_i128.pow(u32::from(*s));
                let x = Column::<Decimal128Array>::new(&$a.values[0])?;
                $a.primitives::<Decimal128Type>(|row| x.get(row).map(|v| $decimals(v, one)))
            }
            other => Err(Error::runtime(format!("no number: {other}"))),
        }
    }};
}

/// The absolute of the smallest integer is itself, as in Java.
fn abs(a: &Args<'_>) -> Result<ArrayRef> {
    by_type!(a, |v| v.wrapping_abs(), |v| v.abs(), |v: i128, _| v.abs())
}

/// -1, 0 or 1 of the argument's type; NaN and zeros are themselves.
fn sign(a: &Args<'_>) -> Result<ArrayRef> {
    by_type!(a, |v| v.signum(), |v| if v == 0.0 || v.is_nan() { v } else { v.signum() }, |v: i128, one| v.signum() * one)
}
