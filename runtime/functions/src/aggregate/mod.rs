//! Aggregate functions: one file a function or family, each with its [`AggregateDeclaration`]s.
//!
//! The type of a bound aggregate is nullable as its argument is. Where a group can be empty (no GROUP BY, a FILTER
//! clause) the binder makes it nullable, except for COUNT, `$SUM0` and the JSON constructors (Calcite: `ARG0_NULLABLE_IF_EMPTY`).

mod approx_count_distinct;
mod array_agg;
mod avg;
mod codec;
mod collect;
mod count;
mod distinct;
mod first_last;
mod json;
mod listagg;
mod min_max;
mod number;
mod percentile;
mod single_value;
mod slots;
mod sum;
#[cfg(test)]
mod tests;
mod values;
mod variance;

use sluice_batch::aggregate::AggregateCall;
use sluice_batch::{Accumulator, Error, Expr, Result, SqlType, TypeKind};

use crate::{AggregateArgs, AggregateDeclaration};

pub use distinct::distinct;

/// All families. A new one is one more line.
pub(crate) static FAMILIES: &[&[AggregateDeclaration]] = &[
    approx_count_distinct::DECLARATIONS,
    array_agg::DECLARATIONS,
    avg::DECLARATIONS,
    collect::DECLARATIONS,
    count::DECLARATIONS,
    first_last::DECLARATIONS,
    json::DECLARATIONS,
    listagg::DECLARATIONS,
    min_max::DECLARATIONS,
    percentile::DECLARATIONS,
    single_value::DECLARATIONS,
    sum::DECLARATIONS,
    variance::DECLARATIONS,
];

/// The accumulator of a bound call: the function's own, or one that sees every distinct value once.
/// `input_types` are the types of the columns that `call.args` points into.
///
/// # Errors
/// If an argument points beyond the input, or its values cannot be compared for DISTINCT.
pub fn accumulator_for(call: &AggregateCall, input_types: &[SqlType], retractable: bool) -> Result<Box<dyn Accumulator>> {
    let inner = call.function.accumulator(retractable);
    if !call.distinct {
        return Ok(inner);
    }
    let types = call.args.iter().map(|i| input_types.get(*i).cloned()).collect::<Option<Vec<_>>>();
    distinct(inner, types.ok_or_else(|| Error::plan(format!("{call} has an argument beyond its input")))?)
}

fn not_retractable(name: &str) -> Error {
    Error::runtime(format!("{name} got a retraction where the plan promised none"))
}

/// The only argument of a call, of a kind that `accepts`; `form` is what Flink prints of it.
fn one_argument(call: &AggregateArgs<'_>, accepts: impl Fn(&TypeKind) -> bool, form: &str) -> Result<Expr> {
    match call.args {
        [arg] if accepts(&arg.ty.kind) => Ok(arg.clone()),
        [_] => Err(signature_error(call, &format!("{}({form})", call.name.to_uppercase()))),
        _ => Err(arity_error(call, "1")),
    }
}

/// Calcite's message for argument types that do not fit.
fn signature_error(call: &AggregateArgs<'_>, forms: &str) -> Error {
    let name = call.name.to_uppercase();
    let types: Vec<_> = call.args.iter().map(|a| format!("<{}>", calcite_name(&a.ty.kind))).collect();
    let types = types.join(", ");
    Error::plan(format!("Cannot apply '{name}' to arguments of type '{name}({types})'. Supported form(s): '{forms}'")).at(call.span)
}

fn arity_error(call: &AggregateArgs<'_>, expected: &str) -> Error {
    let name = call.name.to_uppercase();
    Error::plan(format!("Invalid number of arguments to function '{name}'. Was expecting {expected} arguments")).at(call.span)
}

/// A type as Calcite prints it in messages.
fn calcite_name(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Int => "INTEGER".into(),
        TypeKind::VarChar(n) => format!("VARCHAR({n})"),
        TypeKind::VarBinary(n) => format!("VARBINARY({n})"),
        TypeKind::TimestampLtz(p) => format!("TIMESTAMP_WITH_LOCAL_TIME_ZONE({p})"),
        TypeKind::Array(e) => format!("{} ARRAY", calcite_name(&e.kind)),
        TypeKind::Multiset(e) => format!("{} MULTISET", calcite_name(&e.kind)),
        TypeKind::Map(k, v) => format!("({}, {}) MAP", calcite_name(&k.kind), calcite_name(&v.kind)),
        other => other.to_string(),
    }
}

/// Calls `$make!(ArrowType)` for the Arrow type of a numeric kind.
macro_rules! with_numeric_type {
    ($kind:expr, $make:ident) => {
        match $kind {
            sluice_batch::TypeKind::TinyInt => $make!(arrow::datatypes::Int8Type),
            sluice_batch::TypeKind::SmallInt => $make!(arrow::datatypes::Int16Type),
            sluice_batch::TypeKind::Int => $make!(arrow::datatypes::Int32Type),
            sluice_batch::TypeKind::Float => $make!(arrow::datatypes::Float32Type),
            sluice_batch::TypeKind::Double => $make!(arrow::datatypes::Float64Type),
            sluice_batch::TypeKind::Decimal(..) => $make!(arrow::datatypes::Decimal128Type),
            _ => $make!(arrow::datatypes::Int64Type),
        }
    };
}
use with_numeric_type;
