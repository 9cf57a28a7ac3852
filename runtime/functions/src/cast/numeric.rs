//! Casts among numbers and BOOLEAN. Integers wrap, floats saturate (Java's narrowing conversions); a DECIMAL that is too small is NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, BooleanArray, Decimal128Array, PrimitiveArray};
use arrow::datatypes::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use sluice_batch::{Datum, Result, SqlType, TypeKind};

use super::{Casted, Env, Outcome, convert, parse, render, typed, unknown, with_type};

/// Java's conversion between primitive numbers.
pub(super) trait JavaCast<T> {
    fn java(self) -> T;
}

macro_rules! java_cast {
    ($($from:ty => $($to:ty),+;)+) => { $($(impl JavaCast<$to> for $from {
        #[inline]
        fn java(self) -> $to { self as $to }
    })+)+ };
}

java_cast! {
    i8 => i8, i16, i32, i64, f32, f64;
    i16 => i8, i16, i32, i64, f32, f64;
    i32 => i8, i16, i32, i64, f32, f64;
    i64 => i8, i16, i32, i64, f32, f64;
    f32 => i32, i64, f32, f64;
    f64 => i32, i64, f32, f64;
}

// Java goes from floating point to byte and short by way of int: saturated there, wrapped then.
macro_rules! java_cast_narrow {
    ($($from:ty => $($to:ty),+;)+) => { $($(impl JavaCast<$to> for $from {
        #[inline]
        fn java(self) -> $to { self as i32 as $to }
    })+)+ };
}

java_cast_narrow! {
    f32 => i8, i16;
    f64 => i8, i16;
}

/// Calls a generic function with the Arrow type of a primitive number.
macro_rules! for_number {
    ($kind:expr, $f:ident::<_ $(, $t:ty)*>($($arg:expr),*), else $other:expr) => {
        match $kind {
            TypeKind::TinyInt => $f::<Int8Type $(, $t)*>($($arg),*),
            TypeKind::SmallInt => $f::<Int16Type $(, $t)*>($($arg),*),
            TypeKind::Int => $f::<Int32Type $(, $t)*>($($arg),*),
            TypeKind::BigInt => $f::<Int64Type $(, $t)*>($($arg),*),
            TypeKind::Float => $f::<Float32Type $(, $t)*>($($arg),*),
            TypeKind::Double => $f::<Float64Type $(, $t)*>($($arg),*),
            _ => $other,
        }
    };
}

pub(super) fn cast(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    match (&from.kind, &to.kind) {
        (TypeKind::Boolean, target) => from_boolean(typed(input)?, target, to, env),
        (TypeKind::Decimal(_, s), TypeKind::Decimal(q, t)) => {
            let (s, q, t) = (*s, *q, *t);
            let array = typed::<Decimal128Array>(input)?;
            Ok(with_type::<Decimal128Type>(array.unary_opt(|v| rescale_decimal(v, s, q, t)), to)?.into())
        }
        (TypeKind::Decimal(..), TypeKind::Boolean) => Ok(boolean(typed::<Decimal128Array>(input)?, |v| v != 0)),
        (TypeKind::Decimal(_, s), target) => for_number!(target, from_decimal::<_>(typed(input)?, *s), else Err(unknown(from, to))),
        (source, TypeKind::Decimal(..)) => for_number!(source, to_decimal::<_>(input, from, to, env), else Err(unknown(from, to))),
        (source, TypeKind::Boolean) => for_number!(source, to_boolean::<_>(input), else Err(unknown(from, to))),
        (source, target) => for_number!(source, from_primitive::<_>(input, target, from, to), else Err(unknown(from, to))),
    }
}

fn from_primitive<A>(input: &ArrayRef, target: &TypeKind, from: &SqlType, to: &SqlType) -> Result<Casted>
where
    A: ArrowPrimitiveType,
    A::Native: JavaCast<i8> + JavaCast<i16> + JavaCast<i32> + JavaCast<i64> + JavaCast<f32> + JavaCast<f64>,
{
    fn narrow<B: ArrowPrimitiveType, A: ArrowPrimitiveType>(array: &PrimitiveArray<A>) -> Result<Casted>
    where
        A::Native: JavaCast<B::Native>,
    {
        Ok(Casted::from(Arc::new(array.unary::<_, B>(JavaCast::java)) as ArrayRef))
    }
    let array = typed::<PrimitiveArray<A>>(input)?;
    for_number!(target, narrow::<_, A>(array), else Err(unknown(from, to)))
}

fn boolean<A: ArrowPrimitiveType>(array: &PrimitiveArray<A>, f: impl Fn(A::Native) -> bool) -> Casted {
    Casted::from(Arc::new(BooleanArray::from_unary(array, f)) as ArrayRef)
}

fn to_boolean<A: ArrowPrimitiveType>(input: &ArrayRef) -> Result<Casted>
where
    A::Native: Default,
{
    Ok(boolean(typed::<PrimitiveArray<A>>(input)?, |v| v != A::Native::default()))
}

fn from_boolean(array: &BooleanArray, target: &TypeKind, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    let boolean = TypeKind::Boolean.nullable();
    macro_rules! one_or_zero {
        ($t:ty, $one:expr, $zero:expr) => {
            convert::<$t>(array, &boolean, to, env, |row| Outcome::Value(if array.value(row) { $one } else { $zero }))
        };
    }
    match target {
        TypeKind::TinyInt => one_or_zero!(Int8Type, 1, 0),
        TypeKind::SmallInt => one_or_zero!(Int16Type, 1, 0),
        TypeKind::Int => one_or_zero!(Int32Type, 1, 0),
        TypeKind::BigInt => one_or_zero!(Int64Type, 1, 0),
        TypeKind::Float => one_or_zero!(Float32Type, 1.0, 0.0),
        TypeKind::Double => one_or_zero!(Float64Type, 1.0, 0.0),
        TypeKind::Decimal(p, s) => {
            let one = rescale_decimal(1, 0, *p, *s);
            convert::<Decimal128Type>(array, &boolean, to, env, |row| match one {
                Some(one) if array.value(row) => Outcome::Value(one),
                None if array.value(row) => Outcome::Null,
                _ => Outcome::Value(0),
            })
        }
        _ => Err(unknown(&boolean, to)),
    }
}

/// Numbers as decimals: how each source type does it.
trait ToDecimal: Copy {
    fn to_decimal(self, precision: u8, scale: u8) -> Outcome<i128>;
}

macro_rules! integer_to_decimal {
    ($($t:ty),+) => { $(impl ToDecimal for $t {
        fn to_decimal(self, precision: u8, scale: u8) -> Outcome<i128> {
            rescale_decimal(i128::from(self), 0, precision, scale).map_or(Outcome::Null, Outcome::Value)
        }
    })+ };
}

integer_to_decimal!(i8, i16, i32, i64);

impl ToDecimal for f64 {
    /// By way of the shortest decimal text (Java: `BigDecimal.valueOf(double)`).
    fn to_decimal(self, precision: u8, scale: u8) -> Outcome<i128> {
        if !self.is_finite() {
            return Outcome::Failed;
        }
        parse::decimal(ryu::Buffer::new().format_finite(self), precision, scale).map_or(Outcome::Null, Outcome::Value)
    }
}

impl ToDecimal for f32 {
    fn to_decimal(self, precision: u8, scale: u8) -> Outcome<i128> {
        f64::from(self).to_decimal(precision, scale)
    }
}

fn to_decimal<A: ArrowPrimitiveType>(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted>
where
    A::Native: ToDecimal,
{
    let TypeKind::Decimal(p, s) = to.kind else {
        return Err(unknown(from, to));
    };
    let array = typed::<PrimitiveArray<A>>(input)?;
    convert::<Decimal128Type>(array, from, to, env, |row| array.value(row).to_decimal(p, s))
}

/// Numbers from decimals.
trait FromDecimal {
    fn from_decimal(unscaled: i128, scale: u8) -> Self;
}

macro_rules! integer_from_decimal {
    ($($t:ty),+) => { $(impl FromDecimal for $t {
        fn from_decimal(unscaled: i128, scale: u8) -> Self {
            (unscaled / 10_i128.pow(u32::from(scale))) as i64 as $t
        }
    })+ };
}

integer_from_decimal!(i8, i16, i32, i64);

impl FromDecimal for f64 {
    fn from_decimal(unscaled: i128, scale: u8) -> Self {
        decimal_to_f64(unscaled, scale)
    }
}

impl FromDecimal for f32 {
    fn from_decimal(unscaled: i128, scale: u8) -> Self {
        decimal_to_f64(unscaled, scale) as f32
    }
}

fn from_decimal<B: ArrowPrimitiveType>(array: &Decimal128Array, scale: u8) -> Result<Casted>
where
    B::Native: FromDecimal,
{
    Ok(Casted::from(Arc::new(array.unary::<_, B>(|v| B::Native::from_decimal(v, scale))) as ArrayRef))
}

/// The nearest double.
pub(crate) fn decimal_to_f64(unscaled: i128, scale: u8) -> f64 {
    // Both exact, so the quotient is rounded once.
    if unscaled.unsigned_abs() < 1 << 53 && scale <= 22 {
        return unscaled as f64 / 10_f64.powi(i32::from(scale));
    }
    let mut text = String::new();
    render::push_decimal(&mut text, unscaled, scale);
    text.parse().unwrap_or(f64::NAN)
}

/// Whether an unscaled value has at most so many digits.
#[inline]
pub(crate) fn fits_precision(unscaled: i128, precision: u8) -> bool {
    unscaled.unsigned_abs() < 10_u128.pow(u32::from(precision.min(38)))
}

/// Another scale, rounded half up; `None` if it has more digits then than the precision allows.
#[inline]
pub(crate) fn rescale_decimal(unscaled: i128, from_scale: u8, precision: u8, scale: u8) -> Option<i128> {
    let scaled = if scale >= from_scale {
        unscaled.checked_mul(10_i128.pow(u32::from(scale - from_scale)))?
    } else {
        let divisor = 10_i128.pow(u32::from(from_scale - scale));
        let (quotient, rest) = (unscaled / divisor, unscaled % divisor);
        if rest.unsigned_abs() >= divisor.unsigned_abs() / 2 { quotient + unscaled.signum() } else { quotient }
    };
    fits_precision(scaled, precision).then_some(scaled)
}

/// The cast of one value among numbers; `None` where only columns are cast.
pub(super) fn cast_datum(value: &Datum, from: &TypeKind, to: &TypeKind) -> Option<Datum> {
    macro_rules! java {
        ($v:expr) => {
            match to {
                TypeKind::TinyInt => Datum::TinyInt($v.java()),
                TypeKind::SmallInt => Datum::SmallInt($v.java()),
                TypeKind::Int => Datum::Int($v.java()),
                TypeKind::BigInt => Datum::BigInt($v.java()),
                TypeKind::Float => Datum::Float($v.java()),
                TypeKind::Double => Datum::Double($v.java()),
                TypeKind::Decimal(p, s) => match $v.to_decimal(*p, *s) {
                    Outcome::Value(v) => Datum::Decimal(v),
                    Outcome::Null => Datum::Null,
                    Outcome::Failed => return None,
                },
                _ => return None,
            }
        };
    }
    Some(match value {
        Datum::Null => Datum::Null,
        Datum::TinyInt(v) => java!(*v),
        Datum::SmallInt(v) => java!(*v),
        Datum::Int(v) => java!(*v),
        Datum::BigInt(v) => java!(*v),
        Datum::Float(v) => java!(*v),
        Datum::Double(v) => java!(*v),
        Datum::Decimal(v) => {
            let TypeKind::Decimal(_, s) = from else { return None };
            match to {
                TypeKind::TinyInt => Datum::TinyInt(i8::from_decimal(*v, *s)),
                TypeKind::SmallInt => Datum::SmallInt(i16::from_decimal(*v, *s)),
                TypeKind::Int => Datum::Int(i32::from_decimal(*v, *s)),
                TypeKind::BigInt => Datum::BigInt(i64::from_decimal(*v, *s)),
                TypeKind::Float => Datum::Float(f32::from_decimal(*v, *s)),
                TypeKind::Double => Datum::Double(f64::from_decimal(*v, *s)),
                TypeKind::Decimal(p, t) => rescale_decimal(*v, *s, *p, *t).map_or(Datum::Null, Datum::Decimal),
                _ => return None,
            }
        }
        _ => return None,
    })
}
