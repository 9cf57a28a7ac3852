//! ARRAY, MAP and ROW: constructors, access, and functions over them.

pub(crate) mod aggregate;
pub(crate) mod array;
pub(crate) mod construct;
pub(crate) mod item;
mod lists;
pub(crate) mod map;
pub(crate) mod set;
pub(crate) mod split;
#[cfg(test)]
mod tests;

use sluice_batch::{Datum, Error, Expr, ExprKind, Result, SqlType, TypeKind};

use crate::Call;

/// Flink's message for arguments that do not fit.
fn signatures(call: &Call<'_>, forms: &[&str]) -> Error {
    Error::plan(format!("Invalid input arguments. Expected signatures are:\n{}", forms.join("\n"))).at(call.span)
}

/// The element type of an array argument.
fn element(call: &Call<'_>, index: usize) -> Option<SqlType> {
    match &call.arg_type(index)?.kind {
        TypeKind::Array(element) => Some((**element).clone()),
        _ => None,
    }
}

fn array_of(element: SqlType) -> TypeKind {
    TypeKind::Array(Box::new(element))
}

fn is_null_literal(expr: &Expr) -> bool {
    expr.ty.kind == TypeKind::Null || matches!(expr.kind, ExprKind::Literal(Datum::Null))
}

/// Casts an argument implicitly; `false` if there is no such cast.
fn try_implicit_cast(call: &mut Call<'_>, index: usize, to: &SqlType) -> bool {
    let span = call.span;
    let Some(arg) = call.args.get_mut(index) else { return false };
    let to = to.with_nullable(arg.ty.nullable);
    if arg.ty == to {
        return true;
    }
    match crate::implicit_cast(arg.clone(), &to, span) {
        Ok(cast) => {
            *arg = cast;
            true
        }
        Err(_) => false,
    }
}

/// Brings an array and a value for it to one element type (Flink: `ArrayElementArgumentTypeStrategy`):
/// that of the array, nullable if the value is. `false` if the value does not fit.
fn unify_element(call: &mut Call<'_>, array: usize, value: usize) -> bool {
    let (Some(element), Some(arg)) = (element(call, array), call.args.get(value)) else {
        return false;
    };
    let nullable = element.nullable || arg.ty.nullable || is_null_literal(arg);
    let element = element.with_nullable(nullable);
    let array_type = array_of(element.clone()).with_nullable(call.args[array].ty.nullable);
    try_implicit_cast(call, value, &element) && retype(call, array, array_type)
}

/// Gives an argument a type of the same representation.
fn retype(call: &mut Call<'_>, index: usize, ty: SqlType) -> bool {
    if let Some(arg) = call.args.get_mut(index) {
        if arg.ty.to_arrow() != ty.to_arrow() {
            return try_implicit_cast(call, index, &ty);
        }
        arg.ty = ty;
    }
    true
}

/// Brings all arguments to their common type (Flink: `CommonArgumentTypeStrategy`); `None` if there is none or it does not fit.
fn unify_all(call: &mut Call<'_>, accepts: fn(&TypeKind) -> bool) -> Option<SqlType> {
    let types: Vec<SqlType> = call.args.iter().map(|a| a.ty.clone()).collect();
    let common = crate::common_type(&types)?;
    if !accepts(&common.kind) || !types.iter().all(|t| accepts(&t.kind) || t.kind == TypeKind::Null) {
        return None;
    }
    (0..call.args.len()).all(|i| try_implicit_cast(call, i, &common)).then(|| common.with_nullable(types.iter().any(|t| t.nullable)))
}

fn is_array(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Array(_))
}

fn is_map(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Map(..))
}

fn expect_count(call: &Call<'_>, counts: std::ops::RangeInclusive<usize>) -> Result<()> {
    if counts.contains(&call.args.len()) {
        return Ok(());
    }
    let expected = match counts.start() == counts.end() {
        true => counts.start().to_string(),
        false => format!("{} to {}", counts.start(), counts.end()),
    };
    Err(call.wrong_count(expected))
}
