//! `x IS [NOT] TRUE | FALSE | UNKNOWN`: never NULL.

use arrow::array::ArrayRef;
use sluice_batch::{Expr, ExprKind, Result, TypeKind};

use crate::kernel::{Args, Body, P};
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["IS TRUE"], bind: |c| bind(c, "IS TRUE", |a| test(a, |v| v == Some(true))) },
    Declaration { names: &["IS NOT TRUE"], bind: |c| bind(c, "IS NOT TRUE", |a| test(a, |v| v != Some(true))) },
    Declaration { names: &["IS FALSE"], bind: |c| bind(c, "IS FALSE", |a| test(a, |v| v == Some(false))) },
    Declaration { names: &["IS NOT FALSE"], bind: |c| bind(c, "IS NOT FALSE", |a| test(a, |v| v != Some(false))) },
    Declaration { names: &["IS UNKNOWN"], bind: |c| unknown(c, false) },
    Declaration { names: &["IS NOT UNKNOWN"], bind: |c| unknown(c, true) },
    Declaration { names: &["NOT"], bind: not },
];

fn test(args: &Args<'_>, f: fn(Option<bool>) -> bool) -> Result<ArrayRef> {
    let values = args.boolean(0)?;
    args.booleans(|row| Some(f(values.get(row))))
}

fn bind(mut call: Call<'_>, name: &'static str, body: Body) -> Result<Expr> {
    call.coerce(&[P::Bool], 1)?;
    Ok(call.kernel(name, TypeKind::Boolean.not_null(), body))
}

fn unknown(mut call: Call<'_>, negated: bool) -> Result<Expr> {
    call.coerce(&[P::Bool], 1)?;
    let arg = Box::new(call.args.remove(0));
    let kind = if negated { ExprKind::IsNotNull(arg) } else { ExprKind::IsNull(arg) };
    Ok(Expr { kind, ty: TypeKind::Boolean.not_null() })
}

fn not(mut call: Call<'_>) -> Result<Expr> {
    call.coerce(&[P::Bool], 1)?;
    let ty = call.args[0].ty.clone();
    Ok(Expr { kind: ExprKind::Not(Box::new(call.args.remove(0))), ty })
}
