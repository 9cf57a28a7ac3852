//! Functions, operators and casts with Flink's names, types and results.
//!
//! A function is one [`Declaration`] in the file of its family; `registry.rs` lists the families. The binder asks
//! [`bind`] for a call by name and argument types, and gets a typed [`Expr`] back.

pub mod aggregate;
pub mod calendar;
pub mod cast;
pub mod collection;
mod conditional;
pub mod json;
pub mod kernel;
mod math;
mod misc;
mod operator;
mod regex;
mod registry;
mod string;
#[cfg(test)]
pub(crate) mod testing;
mod time;
pub mod typing;

pub use cast::{cast, coerce, implicit_cast};
pub use typing::common_type;

pub mod field;

use std::sync::Arc;

use sluice_batch::{AggregateFunction, Batch, Datum, EvalContext, Expr, Result, Span, SqlType, datum};

pub use registry::{names, unknown as unknown_function};

/// A call as the binder found it.
pub struct Call<'a> {
    /// As written.
    pub name: &'a str,
    /// The arguments, bound. The function may wrap them in casts.
    pub args: Vec<Expr>,
    /// `EXTRACT(YEAR …)`: the keyword arguments by position, upper case (their `args` entry is a NULL literal).
    pub symbols: Vec<Option<String>>,
    /// Clauses of SQL/JSON functions.
    pub json: JsonClauses,
    pub span: Span,
}

/// Clauses of SQL/JSON functions, bound.
#[derive(Clone, Debug, Default)]
pub struct JsonClauses {
    pub returning: Option<SqlType>,
    pub on_empty: Option<JsonBehavior>,
    pub on_error: Option<JsonBehavior>,
    pub null_on_null: Option<bool>,
    /// `WITHOUT`, `WITH CONDITIONAL`, `WITH UNCONDITIONAL`
    pub wrapper: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum JsonBehavior {
    Null,
    Error,
    True,
    False,
    Unknown,
    EmptyArray,
    EmptyObject,
    Default(Datum, SqlType),
}

/// A scalar function or operator: its names and how a call is typed.
pub struct Declaration {
    /// Upper case; the first is canonical. Operators are their symbol (`+`, `=`).
    pub names: &'static [&'static str],
    /// Checks and coerces the arguments and says what the call gives.
    pub bind: fn(Call<'_>) -> Result<Expr>,
}

/// An aggregate function: its names and how a call is typed.
pub struct AggregateDeclaration {
    pub names: &'static [&'static str],
    pub bind: fn(AggregateArgs<'_>) -> Result<BoundAggregate>,
}

/// An aggregate call as the binder found it. `COUNT(*)` has no arguments.
pub struct AggregateArgs<'a> {
    pub name: &'a str,
    pub args: &'a [Expr],
    pub distinct: bool,
    pub json: &'a JsonClauses,
    pub span: Span,
}

/// A typed aggregate: the function, its arguments (with casts, constants folded in) and its type.
pub struct BoundAggregate {
    pub function: Arc<dyn AggregateFunction>,
    pub args: Vec<Expr>,
    pub ty: SqlType,
}

/// Types a call of a scalar function or operator.
///
/// # Errors
/// If there is no such function (with a did-you-mean) or the arguments do not fit.
pub fn bind(call: Call<'_>) -> Result<Expr> {
    let declaration = registry::scalar(call.name).ok_or_else(|| registry::unknown(call.name).at(call.span))?;
    let span = call.span;
    (declaration.bind)(call).map_err(|e| e.at(span))
}

/// Whether a name is a scalar function's.
pub fn is_scalar(name: &str) -> bool {
    registry::scalar(name).is_some()
}

/// Whether a name is an aggregate function's.
pub fn is_aggregate(name: &str) -> bool {
    registry::aggregate(name).is_some()
}

/// Types a call of an aggregate function.
///
/// # Errors
/// If there is no such function or the arguments do not fit.
pub fn bind_aggregate(args: AggregateArgs<'_>) -> Result<BoundAggregate> {
    let declaration = registry::aggregate(args.name).ok_or_else(|| registry::unknown(args.name).at(args.span))?;
    let span = args.span;
    (declaration.bind)(args).map_err(|e| e.at(span))
}

/// Evaluates a constant expression while planning; `None` if it has columns, is not deterministic, or fails.
pub fn fold_constant(expr: &Expr) -> Option<Datum> {
    if let Some(value) = expr.as_literal() {
        return Some(value.clone());
    }
    let mut columns = false;
    expr.walk(&mut |e| columns |= e.as_column().is_some());
    if columns || !expr.is_deterministic() {
        return None;
    }
    // What hangs on the session's time zone or on the time differs between the ends of the earth and of an age.
    let one_row = Batch::new(vec![], 1);
    let contexts = [(chrono_tz::Tz::Pacific__Kiritimati, 0), (chrono_tz::Tz::Pacific__Pago_Pago, 1 << 40)];
    let [a, b] = contexts.map(|(time_zone, now)| {
        let value = expr.eval(&one_row, &EvalContext { time_zone, now, ..EvalContext::default() }).ok()?;
        Some(datum::from_array(value.array().as_ref(), 0, &expr.ty))
    });
    a.filter(|a| Some(a) == b.as_ref())
}
