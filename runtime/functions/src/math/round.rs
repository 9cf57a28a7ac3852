//! ROUND, TRUNCATE, and FLOOR and CEIL of numbers (those of times are in `time/floor.rs`).

use arrow::array::{ArrayRef, Decimal128Array, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use sluice_batch::{Datum, Error, Expr, Result, TypeKind};

use crate::cast::fits_precision;
use crate::kernel::{Args, Column, P};
use crate::typing::decimal_round;
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["ROUND"], bind: |c| bind(c, "ROUND", |a| digits(a, Mode::HalfUp)) },
    Declaration { names: &["TRUNCATE"], bind: |c| bind(c, "TRUNCATE", |a| digits(a, Mode::Down)) },
    Declaration { names: &["FLOOR"], bind: |c| whole(c, "FLOOR", |a| whole_numbers(a, Mode::Floor)) },
    Declaration { names: &["CEIL", "CEILING"], bind: |c| whole(c, "CEIL", |a| whole_numbers(a, Mode::Ceiling)) },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    HalfUp,
    Down,
    Floor,
    Ceiling,
}

/// A DECIMAL takes on the scale asked for if that is constant (Flink: `FlinkReturnTypes.ROUND_FUNCTION`).
fn bind(mut call: Call<'_>, name: &'static str, body: crate::kernel::Body) -> Result<Expr> {
    call.coerce(&[P::Numeric, P::Int], 1)?;
    let digits = call.args.get(1).map(crate::fold_constant);
    let kind = match (&call.args[0].ty.kind, digits) {
        (TypeKind::Decimal(p, s), None) => decimal_round(*p, *s, 0),
        (TypeKind::Decimal(p, s), Some(Some(Datum::Int(digits)))) => decimal_round(*p, *s, digits),
        (other, _) => other.clone(),
    };
    let ty = kind.with_nullable(call.any_nullable());
    Ok(call.kernel(name, ty, body))
}

/// Divides by `divisor` (a power of ten), rounding.
fn divide(value: i128, divisor: i128, mode: Mode) -> i128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    let up = match mode {
        Mode::HalfUp => rest.unsigned_abs() >= (divisor.unsigned_abs()).div_ceil(2),
        Mode::Down => false,
        Mode::Floor => rest < 0,
        Mode::Ceiling => rest > 0,
    };
    if !up {
        return quotient;
    }
    quotient + if rest == 0 { 0 } else { rest.signum() }
}

/// An unscaled value with `digits` fractional digits at most, at the scale it had; `None` if it gets too large.
fn round_unscaled(value: i128, scale: i32, digits: i32, mode: Mode) -> Option<i128> {
    let drop = scale.checked_sub(digits)?;
    if drop <= 0 {
        return Some(value);
    }
    if drop > 38 {
        return Some(0);
    }
    let unit = 10_i128.pow(drop as u32);
    divide(value, unit, mode).checked_mul(unit)
}

/// Rounds through the shortest decimal digits, as `BigDecimal.valueOf(double)` does.
fn round_double(value: f64, digits: i32, mode: Mode) -> f64 {
    // `BigDecimal` has no negative zero.
    if value == 0.0 {
        return 0.0;
    }
    if !value.is_finite() {
        return value;
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value.abs());
    let (mantissa, exponent) = text.split_once('e').map_or((text, 0), |(m, e)| (m, e.parse::<i32>().unwrap_or(0)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let unscaled = whole.bytes().chain(fraction.bytes()).fold(0_i128, |n, b| n * 10 + i128::from(b - b'0'));
    let scale = fraction.len() as i32 - exponent;
    let Some(rounded) = round_unscaled(unscaled, scale, digits, mode) else { return value };
    if rounded == unscaled {
        return value;
    }
    let magnitude = format!("{rounded}e{}", -i64::from(scale)).parse::<f64>().unwrap_or(value.abs());
    if magnitude == 0.0 { 0.0 } else { magnitude.copysign(value) }
}

fn digits(a: &Args<'_>, mode: Mode) -> Result<ArrayRef> {
    let digits = if a.has(1) { Some(a.i32(1)?) } else { None };
    let digits = move |row| digits.map_or(Some(0), |d| d.get(row));
    fn integers<T: ArrowPrimitiveType>(a: &Args<'_>, mode: Mode, digits: impl Fn(usize) -> Option<i32>) -> Result<ArrayRef>
    where
        T::Native: Into<i64>,
        i64: Narrow<T::Native>,
    {
        let x = Column::<PrimitiveArray<T>>::new(&a.values[0])?;
        a.primitives::<T>(|row| {
            let wide: i64 = x.get(row)?.into();
            round_unscaled(i128::from(wide), 0, digits(row)?, mode).map(|v| (v as i64).narrow())
        })
    }
    match &a.ty.kind {
        TypeKind::TinyInt => integers::<Int8Type>(a, mode, digits),
        TypeKind::SmallInt => integers::<Int16Type>(a, mode, digits),
        TypeKind::Int => integers::<Int32Type>(a, mode, digits),
        TypeKind::BigInt => integers::<Int64Type>(a, mode, digits),
        TypeKind::Float => {
            let x = a.column::<arrow::array::Float32Array>(0)?;
            a.primitives::<Float32Type>(|row| Some(round_double(f64::from(x.get(row)?), digits(row)?, mode) as f32))
        }
        TypeKind::Double => {
            let x = a.f64(0)?;
            a.primitives::<Float64Type>(|row| Some(round_double(x.get(row)?, digits(row)?, mode)))
        }
        TypeKind::Decimal(precision, scale) => {
            let x = a.decimal(0)?;
            let from = decimal_scale(x.array());
            let (precision, scale) = (*precision, *scale);
            a.primitives::<Decimal128Type>(|row| {
                let rounded = round_unscaled(x.get(row)?, i32::from(from), digits(row)?, mode)?;
                crate::cast::rescale_decimal(rounded, from, precision, scale)
            })
        }
        other => Err(Error::runtime(format!("no number: {other}"))),
    }
}

fn decimal_scale(array: &Decimal128Array) -> u8 {
    array.scale().max(0) as u8
}

/// Java's narrowing of a long.
trait Narrow<T> {
    fn narrow(self) -> T;
}

macro_rules! narrow {
    ($($t:ty),+) => { $(impl Narrow<$t> for i64 {
        fn narrow(self) -> $t { self as $t }
    })+ };
}

narrow!(i8, i16, i32, i64);

/// FLOOR and CEIL: integers stay as they are, a DECIMAL(p, s) becomes DECIMAL(p, 0). `FLOOR(x TO unit)` is of times.
fn whole(mut call: Call<'_>, name: &'static str, body: crate::kernel::Body) -> Result<Expr> {
    if call.args.len() == 2 && call.symbol(1).is_some() {
        return crate::time::floor::bind(call, name == "CEIL");
    }
    call.coerce(&[P::Numeric], 1)?;
    let ty = call.args[0].ty.clone();
    if ty.kind.is_integer() {
        return Ok(call.args.remove(0));
    }
    let ty = if let TypeKind::Decimal(p, _) = ty.kind { TypeKind::Decimal(p, 0).with_nullable(ty.nullable) } else { ty };
    Ok(call.kernel(name, ty, body))
}

fn whole_numbers(a: &Args<'_>, mode: Mode) -> Result<ArrayRef> {
    let up = mode == Mode::Ceiling;
    match &a.ty.kind {
        TypeKind::Float => {
            let x = a.column::<arrow::array::Float32Array>(0)?;
            a.primitives::<Float32Type>(|row| x.get(row).map(|v| if up { v.ceil() } else { v.floor() }))
        }
        TypeKind::Double => {
            let x = a.f64(0)?;
            a.f64s(|row| x.get(row).map(|v| if up { v.ceil() } else { v.floor() }))
        }
        TypeKind::Decimal(p, _) => {
            let x = a.decimal(0)?;
            let unit = 10_i128.pow(u32::from(decimal_scale(x.array())));
            a.primitives::<Decimal128Type>(|row| Some(divide(x.get(row)?, unit, mode)).filter(|v| fits_precision(*v, *p)))
        }
        other => Err(Error::runtime(format!("no number: {other}"))),
    }
}
