//! `= <> < <= > >=` and IS [NOT] DISTINCT FROM over all types.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Scalar, new_null_array};
use arrow::compute::kernels::cmp;
use sluice_batch::datum::from_array;
use sluice_batch::{Datum, Error, EvalContext, Expr, Result, ScalarFunction, SqlType, TypeKind, Value};

use crate::kernel::Column;
use crate::typing::common_type;
use crate::{Call, Declaration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
    Distinct,
    NotDistinct,
}

use Comparison::*;

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["="], bind: |c| bind(Eq, c) },
    Declaration { names: &["<>", "!="], bind: |c| bind(NotEq, c) },
    Declaration { names: &["<"], bind: |c| bind(Lt, c) },
    Declaration { names: &["<="], bind: |c| bind(LtEq, c) },
    Declaration { names: &[">"], bind: |c| bind(Gt, c) },
    Declaration { names: &[">="], bind: |c| bind(GtEq, c) },
    Declaration { names: &["IS DISTINCT FROM"], bind: |c| bind(Distinct, c) },
    Declaration { names: &["IS NOT DISTINCT FROM"], bind: |c| bind(NotDistinct, c) },
];

impl Comparison {
    fn symbol(self) -> &'static str {
        match self {
            Eq => "=",
            NotEq => "<>",
            Lt => "<",
            LtEq => "<=",
            Gt => ">",
            GtEq => ">=",
            Distinct => "IS DISTINCT FROM",
            NotDistinct => "IS NOT DISTINCT FROM",
        }
    }

    fn is_equality(self) -> bool {
        matches!(self, Eq | NotEq | Distinct | NotDistinct)
    }

    /// Whether NULL is compared as a value.
    fn null_safe(self) -> bool {
        matches!(self, Distinct | NotDistinct)
    }

    /// `None`: unordered (NaN).
    #[inline]
    fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Eq | NotDistinct => ordering == Some(Ordering::Equal),
            NotEq | Distinct => ordering != Some(Ordering::Equal),
            Lt => ordering == Some(Ordering::Less),
            LtEq => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Gt => ordering == Some(Ordering::Greater),
            GtEq => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// The type in which two types are compared (Calcite: `commonTypeForBinaryComparison`), or why they are not.
fn comparison_type(op: Comparison, a: &SqlType, b: &SqlType) -> Result<TypeKind, String> {
    use TypeKind::*;
    let (x, y) = (&a.kind, &b.kind);
    for (text, other) in [(x, y), (y, x)] {
        if !text.is_character() || other.is_character() {
            continue;
        }
        match other {
            n if n.is_numeric() && op.is_equality() => {
                return Err(format!("implicit type conversion between {x} and {y} is not supported"));
            }
            n if n.is_integer() => return Ok(BigInt),
            Decimal(_, s) => return Ok(Decimal(38, (*s).max(19))),
            n if n.is_numeric() => return Ok(Double),
            d if d.is_datetime() || *d == Boolean => return Ok(d.clone()),
            _ => {}
        }
    }
    match (x, y) {
        (Date, t @ (Timestamp(_) | TimestampLtz(_))) | (t @ (Timestamp(_) | TimestampLtz(_)), Date) => return Ok(t.clone()),
        (Boolean, n) | (n, Boolean) if n.is_numeric() && op.is_equality() => return Ok(Boolean),
        _ => {}
    }
    let supported = match common_type(&[a.as_nullable(), b.as_nullable()]) {
        Some(t) if op.is_equality() || is_ordered(&t.kind) => Some(t.kind),
        _ => None,
    };
    // Datetimes and numbers, or datetimes and intervals, have a common type in arithmetic only.
    let mixed = x.is_datetime() != y.is_datetime() && *x != Null && *y != Null;
    supported.filter(|_| !mixed).ok_or_else(String::new)
}

fn is_ordered(kind: &TypeKind) -> bool {
    !matches!(kind, TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Variant)
}

/// Brings two arguments to the type in which they are compared.
fn coerce(op: Comparison, call: &mut Call<'_>) -> Result<TypeKind> {
    if call.args.len() != 2 {
        return Err(call.wrong_count(2));
    }
    let kind = comparison_type(op, &call.args[0].ty, &call.args[1].ty).map_err(|why| {
        if why.is_empty() {
            let s = op.symbol();
            call.invalid(format!("'<COMPARABLE_TYPE> {s} <COMPARABLE_TYPE>'"))
        } else {
            Error::plan(why).hint("use CAST").at(call.span)
        }
    })?;
    if call.args.iter().all(|a| a.ty.kind == kind || a.ty.to_arrow() == kind.to_arrow()) {
        return Ok(kind);
    }
    call.cast_arg(0, kind.clone())?;
    call.cast_arg(1, kind.clone())?;
    Ok(kind)
}

fn bind(op: Comparison, mut call: Call<'_>) -> Result<Expr> {
    let kind = coerce(op, &mut call)?;
    let nullable = !op.null_safe() && call.any_nullable();
    if kind == TypeKind::Null {
        return Ok(match op {
            Distinct => Expr::boolean(false),
            NotDistinct => Expr::boolean(true),
            _ => Expr::null(TypeKind::Boolean.nullable()),
        });
    }
    Ok(Expr::call(Arc::new(Compare { op, kind }), call.args, TypeKind::Boolean.with_nullable(nullable)))
}

/// `a = b` over expressions whose types are settled; for families that compare.
pub(crate) fn equals(left: Expr, right: Expr, span: sluice_batch::Span) -> Result<Expr> {
    crate::bind(Call { name: "=", args: vec![left, right], symbols: vec![], json: crate::JsonClauses::default(), span })
}

/// A comparison of two arguments of one type.
struct Compare {
    op: Comparison,
    kind: TypeKind,
}

impl fmt::Debug for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.symbol())
    }
}

/// The order of two values of one type; `None` if there is none (NaN). NULLs within rows and arrays are equal to each other
/// and less than everything else.
pub(crate) fn compare_datums(a: &Datum, b: &Datum) -> Option<Ordering> {
    use Datum::*;
    match (a, b) {
        (Null, Null) => Some(Ordering::Equal),
        (Null, _) => Some(Ordering::Less),
        (_, Null) => Some(Ordering::Greater),
        (Boolean(x), Boolean(y)) => x.partial_cmp(y),
        (TinyInt(x), TinyInt(y)) => x.partial_cmp(y),
        (SmallInt(x), SmallInt(y)) => x.partial_cmp(y),
        (Int(x), Int(y)) | (Date(x), Date(y)) | (Time(x), Time(y)) | (IntervalYearMonth(x), IntervalYearMonth(y)) => x.partial_cmp(y),
        (BigInt(x), BigInt(y)) | (Timestamp(x), Timestamp(y)) | (IntervalDayTime(x), IntervalDayTime(y)) => x.partial_cmp(y),
        (Float(x), Float(y)) => x.partial_cmp(y),
        (Double(x), Double(y)) => x.partial_cmp(y),
        (Decimal(x), Decimal(y)) => x.partial_cmp(y),
        (String(x), String(y)) => x.as_bytes().partial_cmp(y.as_bytes()),
        (Bytes(x), Bytes(y)) => x.partial_cmp(y),
        (Array(x), Array(y)) | (Row(x), Row(y)) => {
            for (p, q) in x.iter().zip(y.iter()) {
                match compare_datums(p, q) {
                    Some(Ordering::Equal) => {}
                    other => return other,
                }
            }
            x.len().partial_cmp(&y.len())
        }
        (Map(x), Map(y)) => {
            let same = |p: &Datum, q: &Datum| compare_datums(p, q) == Some(Ordering::Equal);
            let equal = x.len() == y.len() && x.iter().all(|(k, v)| y.iter().any(|(l, w)| same(k, l) && same(v, w)));
            equal.then_some(Ordering::Equal)
        }
        _ => None,
    }
}

impl Compare {
    /// Row by row, through a closure that says how two valid rows compare.
    fn rows(&self, a: &Value, b: &Value, rows: usize, order: impl Fn(usize, usize) -> Option<Ordering>) -> ArrayRef {
        let (x, y) = (a.array(), b.array());
        let out: BooleanArray = (0..rows)
            .map(|row| {
                let (i, j) = (a.index(row), b.index(row));
                match (x.is_null(i), y.is_null(j)) {
                    (false, false) => Some(self.op.holds(order(i, j))),
                    (p, q) if self.op.null_safe() => Some((p == q) == (self.op == NotDistinct)),
                    _ => None,
                }
            })
            .collect();
        Arc::new(out)
    }

    fn arrow(&self, a: &Value, b: &Value) -> Result<ArrayRef> {
        let kernel = match self.op {
            Eq => cmp::eq,
            NotEq => cmp::neq,
            Lt => cmp::lt,
            LtEq => cmp::lt_eq,
            Gt => cmp::gt,
            GtEq => cmp::gt_eq,
            Distinct => cmp::distinct,
            NotDistinct => cmp::not_distinct,
        };
        let (x, y) = (a.array(), b.array());
        let out = match (a.is_scalar(), b.is_scalar()) {
            (false, true) => kernel(x, &Scalar::new(y.clone())),
            (true, false) => kernel(&Scalar::new(x.clone()), y),
            _ => kernel(x, y),
        };
        Ok(Arc::new(out?))
    }

    fn column(&self, a: &Value, b: &Value, rows: usize) -> Result<ArrayRef> {
        match &self.kind {
            TypeKind::Null => Ok(if self.op == NotDistinct {
                Arc::new(BooleanArray::from(vec![true; rows]))
            } else {
                new_null_array(&arrow::datatypes::DataType::Boolean, rows)
            }),
            // Arrow orders NaN and tells 0.0 from -0.0; SQL does neither.
            TypeKind::Float => {
                let (x, y) = (Column::<Float32Array>::new(a)?.array(), Column::<Float32Array>::new(b)?.array());
                Ok(self.rows(a, b, rows, |i, j| x.value(i).partial_cmp(&y.value(j))))
            }
            TypeKind::Double => {
                let (x, y) = (Column::<Float64Array>::new(a)?.array(), Column::<Float64Array>::new(b)?.array());
                Ok(self.rows(a, b, rows, |i, j| x.value(i).partial_cmp(&y.value(j))))
            }
            kind @ (TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_)) => {
                let ty = kind.clone().nullable();
                let (x, y) = (a.array(), b.array());
                Ok(self.rows(a, b, rows, |i, j| compare_datums(&from_array(x.as_ref(), i, &ty), &from_array(y.as_ref(), j, &ty))))
            }
            _ => self.arrow(a, b),
        }
    }
}

impl ScalarFunction for Compare {
    fn name(&self) -> &str {
        self.op.symbol()
    }

    fn eval(&self, args: &[Value], rows: usize, _ty: &SqlType, _cx: &EvalContext) -> Result<Value> {
        let [a, b] = args else {
            return Err(Error::runtime("a comparison takes two arguments"));
        };
        let scalar = a.is_scalar() && b.is_scalar();
        let out = self.column(a, b, if scalar { 1 } else { rows })?;
        Ok(if scalar { Value::Scalar(out) } else { Value::Array(out) })
    }

    fn can_fail(&self) -> bool {
        false
    }

    fn eval_row(&self, args: &[Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<Datum>> {
        let [a, b] = args else { return None };
        if !self.op.null_safe() && (a.is_null() || b.is_null()) {
            return Some(Ok(Datum::Null));
        }
        Some(Ok(Datum::Boolean(self.op.holds(compare_datums(a, b)))))
    }
}
