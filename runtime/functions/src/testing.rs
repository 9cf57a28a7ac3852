//! For tests: binds a call by name and evaluates it in all forms, which must agree.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use sluice_batch::datum::{from_array, from_datums};
use sluice_batch::{Batch, Datum, EvalContext, Expr, ExprKind, Result, Span, SqlType, TypeKind};

use crate::{Call, JsonClauses};

pub(crate) fn s(text: &str) -> Datum {
    Datum::string(text)
}

pub(crate) fn call(name: &str, args: Vec<Expr>) -> Result<Expr> {
    crate::bind(Call { name, args, symbols: vec![], json: JsonClauses::default(), span: Span::NONE })
}

/// A literal whose type follows from the value.
pub(crate) fn lit(value: Datum) -> Expr {
    let kind = match &value {
        Datum::Null => TypeKind::Null,
        Datum::Boolean(_) => TypeKind::Boolean,
        Datum::TinyInt(_) => TypeKind::TinyInt,
        Datum::SmallInt(_) => TypeKind::SmallInt,
        Datum::Int(_) => TypeKind::Int,
        Datum::BigInt(_) => TypeKind::BigInt,
        Datum::Float(_) => TypeKind::Float,
        Datum::Double(_) => TypeKind::Double,
        Datum::Bytes(_) => TypeKind::BYTES,
        Datum::Date(_) => TypeKind::Date,
        Datum::Time(_) => TypeKind::Time(3),
        Datum::Timestamp(_) => TypeKind::Timestamp(3),
        Datum::IntervalYearMonth(_) => TypeKind::IntervalYearMonth,
        Datum::IntervalDayTime(_) => TypeKind::IntervalDayTime,
        _ => TypeKind::STRING,
    };
    let nullable = value.is_null();
    Expr::literal(value, kind.with_nullable(nullable))
}

pub(crate) fn typed(value: Datum, kind: TypeKind) -> Expr {
    Expr::literal(value, kind.not_null())
}

/// The value and type of a call: evaluated with scalar arguments, with columns, and row by row where that exists.
pub(crate) fn eval(name: &str, args: Vec<Expr>) -> Result<(Datum, SqlType)> {
    eval_in(name, args, &EvalContext::default())
}

pub(crate) fn eval_in(name: &str, args: Vec<Expr>, cx: &EvalContext) -> Result<(Datum, SqlType)> {
    let rows = 3;
    let columns: Vec<_> =
        args.iter().map(|a| from_datums(std::iter::repeat_n(a.as_literal().expect("a literal"), rows), &a.ty).unwrap()).collect();
    let bound = call(name, args.clone())?;
    let batch = Batch::new(columns, rows);
    let scalar = bound.eval(&batch, cx)?.into_array(rows)?;
    assert_eq!(scalar.len(), rows);
    assert_eq!(*scalar.data_type(), bound.ty.to_arrow(), "{name}");
    let value = from_array(scalar.as_ref(), rows - 1, &bound.ty);
    assert!(bound.ty.nullable || !value.is_null(), "{name} is NULL but of type {}", bound.ty);
    let over_columns =
        args.iter().enumerate().map(|(i, a)| if a.ty.kind == TypeKind::Null { a.clone() } else { Expr::column(i, a.ty.clone()) });
    if let Ok(over_columns) = call(name, over_columns.collect()) {
        let column = over_columns.eval(&batch, cx)?.into_array(rows)?;
        assert_eq!(column.len(), rows);
        for row in 0..rows {
            let other = from_array(column.as_ref(), row, &over_columns.ty);
            // A DECIMAL's scale may follow from a constant argument.
            let other = if let (Datum::Decimal(v), TypeKind::Decimal(_, from), TypeKind::Decimal(p, to)) =
                (&other, &over_columns.ty.kind, &bound.ty.kind)
            {
                crate::cast::rescale_decimal(*v, *from, *p, *to).map_or(Datum::Null, Datum::Decimal)
            } else {
                other
            };
            assert!(same(&other, &value), "{name}: {other:?} over columns, {value:?} over scalars");
        }
    }
    if let ExprKind::Call { function, args } = &bound.kind
        && let Some(literals) = args.iter().map(Expr::as_literal).collect::<Option<Vec<_>>>()
        && let Some(row) = function.eval_row(&literals.into_iter().cloned().collect::<Vec<_>>(), &bound.ty, cx)
    {
        assert!(same(&row?, &value), "{name} row by row");
    }
    Ok((value, bound.ty))
}

/// Equal, NaN to itself too.
fn same(a: &Datum, b: &Datum) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

/// Checks value and type (as `TYPEOF` prints it) of calls.
pub(crate) fn check(cases: Vec<(&str, Vec<Expr>, Datum, &str)>) {
    for (name, args, expected, ty) in cases {
        let shown = args.iter().map(|a| format!("{a}")).collect::<Vec<_>>().join(", ");
        let (value, got) = eval(name, args).unwrap_or_else(|e| panic!("{name}({shown}): {e}"));
        assert!(same(&value, &expected), "{name}({shown}) is {value:?}, not {expected:?}");
        assert_eq!(got.to_string(), ty, "type of {name}({shown})");
    }
}
