//! CAST and TRY_CAST between all types, a column at a time.
//!
//! Which casts exist is in [`crate::typing`]; results are those of Flink's `functions/casting/*CastRule`. A value that cannot
//! be cast fails the query (CAST) or gives NULL (TRY_CAST); within an array, map or row it makes the whole outer value NULL.

mod nested;
mod numeric;
pub mod parse;
pub mod render;
mod temporal;
mod text;
mod variant;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, PrimitiveBuilder, new_null_array};
use sluice_batch::{Datum, Error, EvalContext, Expr, ExprKind, Result, ScalarFunction, Span, SqlType, TypeKind, Value};

pub(crate) use numeric::{decimal_to_f64, fits_precision, rescale_decimal};
pub(crate) use temporal::raw_timestamps;
pub use text::{Renderer, renderer};

use crate::calendar::units_per_second;
use crate::typing;

/// An explicit CAST or TRY_CAST; the expression itself if it has the type already.
///
/// # Errors
/// If Flink knows no such cast.
pub fn cast(input: Expr, to: &SqlType, try_cast: bool, span: Span) -> Result<Expr> {
    checked(input, to, span, |input| build(input, to, try_cast, true))
}

/// Brings an argument or operand to the type that a function, CASE or set operation settled on, by any cast there is.
///
/// # Errors
/// If there is no such cast.
pub fn coerce(input: Expr, to: &SqlType, span: Span) -> Result<Expr> {
    checked(input, to, span, |input| build(input, to, false, false))
}

fn checked(input: Expr, to: &SqlType, span: Span, build: impl FnOnce(Expr) -> Expr) -> Result<Expr> {
    if !typing::supports_explicit_cast(&input.ty, to) {
        let error = Error::plan(format!("Cast function cannot convert value of type {} to type {}", input.ty, to.kind)).at(span);
        let text = input.ty.kind == TypeKind::Variant && to.kind.is_character();
        return Err(if text { error.hint("JSON_STRING gives a VARIANT as text") } else { error });
    }
    Ok(build(input))
}

/// A cast that needs no CAST in the SQL (Flink: `LogicalTypeCasts.supportsImplicitCast`): to sink columns, in set operations, CASE.
///
/// # Errors
/// If there is no implicit cast.
pub fn implicit_cast(input: Expr, to: &SqlType, span: Span) -> Result<Expr> {
    // NOT NULL is enforced where rows enter a table, not here.
    if !typing::supports_implicit_cast(&input.ty, &to.as_nullable()) {
        let message = format!("Implicit conversion between {} and {} is not supported", input.ty.kind, to.kind);
        return Err(Error::plan(message).hint(format!("use CAST(… AS {})", to.kind)).at(span));
    }
    Ok(build(input, to, false, false))
}

fn build(mut input: Expr, to: &SqlType, try_cast: bool, explicit: bool) -> Expr {
    let ty = to.with_nullable(try_cast || input.ty.nullable);
    if matches!(input.kind, ExprKind::Literal(Datum::Null)) {
        return Expr::null(ty);
    }
    // A source may give fewer than n characters for CHAR(n): CAST to VARCHAR adds the blanks. Literals mostly have them.
    let pads = explicit
        && match (&input.ty.kind, &input.kind) {
            (TypeKind::Char(n), ExprKind::Literal(Datum::String(text))) => text.chars().count() < *n as usize,
            (kind, _) => matches!(kind, TypeKind::Char(_)),
        };
    if input.ty.kind == to.kind || !pads && same_representation(&input.ty.kind, &to.kind) {
        input.ty = ty;
        return input;
    }
    let name = format!("{}[{}]", if try_cast { "TRY_CAST" } else { "CAST" }, to.kind);
    let function = Cast { name, from: input.ty.clone(), to: ty.clone(), try_cast };
    Expr::call(Arc::new(function), vec![input], ty)
}

/// Casts that change no byte: the expression is only given the other type.
fn same_representation(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind::*;
    match (from, to) {
        (Char(n) | VarChar(n), VarChar(m)) | (Binary(n) | VarBinary(n), VarBinary(m)) => n <= m,
        (Timestamp(p), Timestamp(q)) | (TimestampLtz(p), TimestampLtz(q)) => p <= q && units_per_second(*p) == units_per_second(*q),
        (Time(p), Time(q)) => p <= q,
        _ => false,
    }
}

/// CAST as a function of one argument.
struct Cast {
    name: String,
    from: SqlType,
    to: SqlType,
    try_cast: bool,
}

impl fmt::Debug for Cast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl ScalarFunction for Cast {
    fn name(&self) -> &str {
        &self.name
    }

    fn eval(&self, args: &[Value], _rows: usize, _ty: &SqlType, cx: &EvalContext) -> Result<Value> {
        let [arg] = args else {
            return Err(Error::runtime("CAST takes one argument"));
        };
        let out = cast_array(arg.array(), &self.from, &self.to, self.try_cast, cx)?;
        Ok(if arg.is_scalar() { Value::Scalar(out) } else { Value::Array(out) })
    }

    fn eval_row(&self, args: &[Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<Datum>> {
        numeric::cast_datum(args.first()?, &self.from.kind, &self.to.kind).map(Ok)
    }
}

/// Casts a column.
///
/// # Errors
/// If a value cannot be cast and `try_cast` is not set; or there is no such cast (a defect of the binder).
pub fn cast_array(input: &ArrayRef, from: &SqlType, to: &SqlType, try_cast: bool, cx: &EvalContext) -> Result<ArrayRef> {
    Ok(column(input, from, to, &Env { try_cast, cx })?.array)
}

/// What a cast needs to know of its surroundings.
struct Env<'a> {
    try_cast: bool,
    cx: &'a EvalContext,
}

/// A cast column, and the rows (ascending) that failed: NULL in the array.
struct Casted {
    array: ArrayRef,
    failed: Vec<u32>,
}

impl From<ArrayRef> for Casted {
    fn from(array: ArrayRef) -> Self {
        Self { array, failed: vec![] }
    }
}

fn column(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    use TypeKind::*;
    let (a, b) = (&from.kind, &to.kind);
    if a == b || !matches!(a, Char(_)) && same_representation(a, b) {
        return Ok(input.clone().into());
    }
    if *a == Null {
        return Ok(new_null_array(&b.to_arrow(), input.len()).into());
    }
    match (a, b) {
        (Variant, _) => variant::from_variant(input, from, to, env),
        (_, Char(_) | VarChar(_)) => text::to_text(input, from, to, env),
        (_, Binary(_) | VarBinary(_)) => text::to_binary(input, from, to),
        (Array(_), Array(_)) => nested::array(input, from, to, env),
        (Map(..), Map(..)) | (Multiset(_), Multiset(_)) => nested::map(input, from, to, env),
        (Row(x), Row(y)) => nested::row(input, x, y, env),
        (Char(_) | VarChar(_), _) => text::from_text(input, from, to, env),
        (x, y) if (x.is_numeric() || *x == Boolean) && (y.is_numeric() || *y == Boolean) => numeric::cast(input, from, to, env),
        (x, y) if x.is_datetime() && y.is_datetime() => temporal::cast(input, from, to, env),
        _ => Err(unknown(from, to)),
    }
}

fn unknown(from: &SqlType, to: &SqlType) -> Error {
    Error::runtime(format!("there is no cast from {} to {}", from.kind, to.kind))
}

/// The error for one value.
fn failure(value: impl fmt::Display, from: &SqlType, to: &SqlType) -> Error {
    Error::runtime(format!("cannot cast '{value}' of type {} to {}", from.kind, to.kind)).hint("TRY_CAST gives NULL instead")
}

/// What became of one value.
enum Outcome<T> {
    Value(T),
    Null,
    Failed,
}

impl<T> From<Option<T>> for Outcome<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Outcome::Failed, Outcome::Value)
    }
}

/// Casts the valid rows one by one into a primitive column of the type `to`.
fn convert<T: ArrowPrimitiveType>(
    input: &dyn Array,
    from: &SqlType,
    to: &SqlType,
    env: &Env<'_>,
    mut f: impl FnMut(usize) -> Outcome<T::Native>,
) -> Result<Casted> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(input.len());
    let mut failed = vec![];
    for row in 0..input.len() {
        match if input.is_null(row) { Outcome::Null } else { f(row) } {
            Outcome::Value(v) => builder.append_value(v),
            Outcome::Null => builder.append_null(),
            Outcome::Failed if env.try_cast => {
                failed.push(row as u32);
                builder.append_null();
            }
            Outcome::Failed => return Err(failure(text::show(input, row, from, env.cx), from, to)),
        }
    }
    Ok(Casted { array: with_type(builder.finish(), to)?, failed })
}

/// Gives a primitive column the exact Arrow type of the SQL type (time zone, decimal precision).
fn with_type<T: ArrowPrimitiveType>(array: PrimitiveArray<T>, ty: &SqlType) -> Result<ArrayRef> {
    let arrow = ty.to_arrow();
    if *array.data_type() == arrow {
        return Ok(Arc::new(array));
    }
    Ok(arrow::array::make_array(array.into_data().into_builder().data_type(arrow).build()?))
}

/// A column as its Arrow array.
fn typed<A: Array + 'static>(input: &ArrayRef) -> Result<&A> {
    let found = input.as_any().downcast_ref::<A>();
    found.ok_or_else(|| Error::runtime(format!("unexpected Arrow type {} in a cast", input.data_type())))
}

#[cfg(test)]
mod tests;
