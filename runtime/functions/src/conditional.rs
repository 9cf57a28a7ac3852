//! COALESCE, NULLIF, IF, IFNULL, GREATEST, LEAST, and TYPEOF.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::{cmp, zip};
use sluice_batch::{Datum, Error, Expr, ExprKind, Result, SqlType, TypeKind};

use crate::kernel::{Args, P};
use crate::operator::comparison::{compare_datums, equals};
use crate::typing::common_type;
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["COALESCE"], bind: coalesce },
    Declaration { names: &["NULLIF"], bind: nullif },
    Declaration { names: &["IF"], bind: if_then_else },
    Declaration { names: &["IFNULL"], bind: ifnull },
    Declaration { names: &["GREATEST"], bind: |c| extreme(c, true) },
    Declaration { names: &["LEAST"], bind: |c| extreme(c, false) },
    Declaration { names: &["TYPEOF"], bind: type_of },
];

/// Brings the arguments from `from` on to their common type, which is returned.
fn to_common(call: &mut Call<'_>, from: usize) -> Result<SqlType> {
    let types: Vec<SqlType> = call.args.iter().skip(from).map(|a| a.ty.clone()).collect();
    let common = common_type(&types).filter(|t| t.kind != TypeKind::Null);
    let Some(common) = common else {
        return Err(call.invalid("arguments of a common type"));
    };
    for i in from..call.args.len() {
        call.cast_arg(i, common.kind.clone())?;
    }
    Ok(common)
}

fn case(branches: Vec<(Expr, Expr)>, otherwise: Expr, ty: SqlType) -> Expr {
    Expr { kind: ExprKind::Case { branches, otherwise: Box::new(otherwise) }, ty }
}

fn is_not_null(e: Expr) -> Expr {
    Expr { kind: ExprKind::IsNotNull(Box::new(e)), ty: TypeKind::Boolean.not_null() }
}

/// NULL only if all are; what stands behind an argument that is never NULL is not evaluated.
fn coalesce(mut call: Call<'_>) -> Result<Expr> {
    if call.args.is_empty() {
        return Err(call.wrong_count("at least 1"));
    }
    let common = to_common(&mut call, 0)?;
    let nullable = call.args.iter().all(|a| a.ty.nullable);
    let ty = common.with_nullable(nullable);
    let end = call.args.iter().position(|a| !a.ty.nullable).unwrap_or(call.args.len() - 1);
    call.args.truncate(end + 1);
    let Some(mut last) = call.args.pop() else { return Ok(Expr::null(ty)) };
    if call.args.is_empty() {
        last.ty = ty;
        return Ok(last);
    }
    let branches = call.args.into_iter().map(|a| (is_not_null(a.clone()), a)).collect();
    Ok(case(branches, last, ty))
}

/// `NULLIF(a, b)`: NULL if they are equal, else a.
fn nullif(call: Call<'_>) -> Result<Expr> {
    let span = call.span;
    let [a, b] = <[Expr; 2]>::try_from(call.args).map_err(|_| Error::plan("NULLIF takes 2 arguments").at(span))?;
    let ty = a.ty.as_nullable();
    Ok(case(vec![(equals(a.clone(), b, span)?, Expr::null(ty.clone()))], a, ty))
}

fn if_then_else(mut call: Call<'_>) -> Result<Expr> {
    call.coerce(&[P::Bool, P::Any, P::Any], 3)?;
    let ty = to_common(&mut call, 1)?;
    let span = call.span;
    let [condition, yes, no] = <[Expr; 3]>::try_from(call.args).map_err(|_| Error::plan("IF takes 3 arguments").at(span))?;
    Ok(case(vec![(condition, yes)], no, ty))
}

fn ifnull(mut call: Call<'_>) -> Result<Expr> {
    call.coerce(&[P::Any, P::Any], 2)?;
    coalesce(call)
}

/// NULL if any argument is.
fn extreme(mut call: Call<'_>, greatest: bool) -> Result<Expr> {
    if call.args.is_empty() {
        return Err(call.wrong_count("at least 1"));
    }
    let ty = to_common(&mut call, 0)?;
    if matches!(ty.kind, TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Variant) {
        return Err(call.invalid("comparable arguments"));
    }
    Ok(if greatest { call.kernel("GREATEST", ty, |a| reduce(a, true)) } else { call.kernel("LEAST", ty, |a| reduce(a, false)) })
}

fn reduce(a: &Args<'_>, greatest: bool) -> Result<ArrayRef> {
    if matches!(a.ty.kind, TypeKind::Array(_) | TypeKind::Row(_)) {
        return reduce_nested(a, greatest);
    }
    let columns = a.values.iter().map(|v| v.clone().into_array(a.len())).collect::<Result<Vec<_>>>()?;
    let Some((first, rest)) = columns.split_first() else {
        return Err(Error::runtime("GREATEST and LEAST take arguments"));
    };
    let mut best = first.clone();
    let mut nulls = first.logical_nulls();
    for next in rest {
        let better: BooleanArray = if greatest { cmp::gt(next, &best)? } else { cmp::lt(next, &best)? };
        best = zip::zip(&better, next, &best)?;
        nulls = NullBuffer::union(nulls.as_ref(), next.logical_nulls().as_ref());
    }
    Ok(arrow::array::make_array(best.to_data().into_builder().nulls(nulls).build()?))
}

fn reduce_nested(a: &Args<'_>, greatest: bool) -> Result<ArrayRef> {
    use std::cmp::Ordering;
    let want = if greatest { Ordering::Greater } else { Ordering::Less };
    a.datums(|row| {
        let mut best: Option<Datum> = None;
        for value in a.values {
            let value = sluice_batch::datum::from_array(value.array().as_ref(), value.index(row), a.ty);
            if value.is_null() {
                return Ok(Datum::Null);
            }
            if best.as_ref().is_none_or(|b| compare_datums(&value, b) == Some(want)) {
                best = Some(value);
            }
        }
        Ok(best.unwrap_or(Datum::Null))
    })
}

/// The argument's type as text; it is known while planning, so this is a literal.
fn type_of(mut call: Call<'_>) -> Result<Expr> {
    call.coerce(&[P::Any, P::Bool], 1)?;
    let text = call.args[0].ty.to_string();
    Ok(Expr::literal(Datum::String(Arc::from(text)), TypeKind::STRING.nullable()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use Datum::{BigInt, Boolean, Decimal, Double, Int, Null};

    use super::*;
    use crate::testing::{call, check, lit, s, typed};

    #[test]
    fn choices() {
        let null = |kind: TypeKind| Expr::null(kind.nullable());
        check(vec![
            ("COALESCE", vec![null(TypeKind::Int), lit(BigInt(2))], BigInt(2), "BIGINT NOT NULL"),
            ("COALESCE", vec![null(TypeKind::Int), null(TypeKind::Int)], Null, "INT"),
            ("COALESCE", vec![lit(Int(1)), lit(Int(2))], Int(1), "INT NOT NULL"),
            (
                "COALESCE",
                vec![lit(Null), typed(s("a"), TypeKind::Char(1)), typed(s("bc"), TypeKind::Char(2))],
                s("a"),
                "VARCHAR(2) NOT NULL",
            ),
            ("NULLIF", vec![lit(Int(1)), lit(BigInt(1))], Null, "INT"),
            ("NULLIF", vec![lit(Int(1)), lit(Int(2))], Int(1), "INT"),
            ("IF", vec![lit(Boolean(false)), lit(Int(1)), lit(Double(2.5))], Double(2.5), "DOUBLE NOT NULL"),
            ("IFNULL", vec![null(TypeKind::Int), lit(Int(5))], Int(5), "INT NOT NULL"),
            (
                "GREATEST",
                vec![lit(Int(1)), typed(Decimal(314), TypeKind::Decimal(3, 2)), lit(Int(2))],
                Decimal(314),
                "DECIMAL(12, 2) NOT NULL",
            ),
            ("GREATEST", vec![null(TypeKind::Int), lit(Int(1))], Null, "INT"),
            ("LEAST", vec![lit(s("b")), lit(s("a"))], s("a"), "STRING NOT NULL"),
            ("TYPEOF", vec![lit(Int(1))], s("INT NOT NULL"), "STRING"),
            ("TYPEOF", vec![lit(Null)], s("NULL"), "STRING"),
        ]);
        assert!(call("COALESCE", vec![lit(Int(1)), lit(s("x"))]).is_err());
        assert!(call("IF", vec![lit(Int(1)), lit(Int(1)), lit(Int(1))]).is_err());
    }
}
