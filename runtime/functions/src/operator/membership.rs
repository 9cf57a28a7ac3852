//! `x IN (a, b, …)`: literals as a set, other items as comparisons.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, StringArray};
use hashbrown::HashSet;
use sluice_batch::{Datum, Error, EvalContext, Expr, ExprKind, Result, ScalarFunction, SqlType, TypeKind, Value};

use super::comparison::equals;
use crate::typing::common_type;
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] =
    &[Declaration { names: &["IN"], bind }, Declaration { names: &["NOT IN"], bind: |c| bind(c).map(not) }];

fn not(e: Expr) -> Expr {
    let ty = e.ty.clone();
    Expr { kind: ExprKind::Not(Box::new(e)), ty }
}

/// Items that are fewer are compared one by one.
const SET_FROM: usize = 4;

fn bind(mut call: Call<'_>) -> Result<Expr> {
    if call.args.len() < 2 {
        return Err(call.wrong_count("at least 2"));
    }
    // Text beside numbers: compared as text (unlike `=`, as in Flink).
    let text = call.args.iter().any(|a| a.ty.kind.is_character());
    let datetime = call.args.iter().map(|a| &a.ty.kind).find(|k| k.is_datetime()).cloned();
    let target = if let (true, Some(datetime)) = (text, datetime) {
        Some(datetime)
    } else if text && call.args.iter().any(|a| a.ty.kind.is_numeric()) {
        Some(TypeKind::STRING)
    } else {
        common_type(&call.args.iter().map(|a| a.ty.clone()).collect::<Vec<_>>()).map(|t| t.kind)
    };
    let Some(target) = target else {
        return Err(Error::plan("Values passed to IN operator must have compatible types").at(call.span));
    };
    if target == TypeKind::Null {
        return Ok(Expr::null(TypeKind::Boolean.nullable()));
    }
    for i in 0..call.args.len() {
        call.cast_arg(i, target.clone())?;
    }
    let value = call.args.remove(0);
    let items: Option<Vec<Datum>> = call.args.iter().map(crate::fold_constant).collect();
    if let Some(items) = items
        && items.len() >= SET_FROM
        && let Some(set) = Set::new(&items, &target)
    {
        let nullable = value.ty.nullable || set.has_null;
        return Ok(Expr::call(Arc::new(In { set, name: name(&call.args) }), vec![value], TypeKind::Boolean.with_nullable(nullable)));
    }
    let mut comparisons = call.args.into_iter().map(|item| equals(value.clone(), item, call.span)).collect::<Result<Vec<_>>>()?;
    if comparisons.len() == 1 {
        return Ok(comparisons.remove(0));
    }
    let nullable = comparisons.iter().any(|c| c.ty.nullable);
    Ok(Expr { kind: ExprKind::Or(comparisons), ty: TypeKind::Boolean.with_nullable(nullable) })
}

/// The canonical name holds the items: they are no arguments.
fn name(items: &[Expr]) -> String {
    let items: Vec<String> = items.iter().map(Expr::to_string).collect();
    format!("IN[{}]", items.join(", "))
}

/// The values of an IN list.
struct Set {
    integers: HashSet<i128>,
    strings: HashSet<Arc<str>>,
    has_null: bool,
}

/// A value with exact equality as an integer.
fn as_integer(value: &Datum) -> Option<i128> {
    match value {
        Datum::Date(v) | Datum::Time(v) => Some(i128::from(*v)),
        Datum::Timestamp(v) => Some(i128::from(*v)),
        Datum::Decimal(v) => Some(*v),
        other => other.as_i64().map(i128::from),
    }
}

impl Set {
    fn new(items: &[Datum], kind: &TypeKind) -> Option<Self> {
        let exact = kind.is_exact_numeric() || kind.is_datetime();
        if !exact && !kind.is_character() {
            return None;
        }
        let mut set = Self { integers: HashSet::new(), strings: HashSet::new(), has_null: false };
        for item in items {
            match item {
                Datum::Null => set.has_null = true,
                Datum::String(s) => drop(set.strings.insert(s.clone())),
                other => drop(set.integers.insert(as_integer(other)?)),
            }
        }
        Some(set)
    }

    /// NULL where nothing matches but an item was NULL.
    fn answer(&self, found: bool) -> Option<bool> {
        (found || !self.has_null).then_some(found)
    }
}

struct In {
    set: Set,
    name: String,
}

impl fmt::Debug for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl ScalarFunction for In {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_fail(&self) -> bool {
        false
    }

    fn eval(&self, args: &[Value], _rows: usize, _ty: &SqlType, _cx: &EvalContext) -> Result<Value> {
        use arrow::array::AsArray;
        use arrow::datatypes::*;
        let Some(value) = args.first() else {
            return Err(Error::runtime("IN takes a value"));
        };
        let (array, set) = (value.array(), &self.set);
        macro_rules! integers {
            ($t:ty) => {
                array.as_primitive::<$t>().iter().map(|v| set.answer(set.integers.contains(&i128::from(v?)))).collect::<BooleanArray>()
            };
        }
        let out = match array.data_type() {
            DataType::Utf8 => {
                let strings: &StringArray = array.as_string();
                strings.iter().map(|v| set.answer(set.strings.contains(v?))).collect::<BooleanArray>()
            }
            DataType::Int8 => integers!(Int8Type),
            DataType::Int16 => integers!(Int16Type),
            DataType::Int32 => integers!(Int32Type),
            DataType::Int64 => integers!(Int64Type),
            DataType::Decimal128(..) => integers!(Decimal128Type),
            DataType::Date32 => integers!(Date32Type),
            DataType::Time32(TimeUnit::Millisecond) => integers!(Time32MillisecondType),
            DataType::Timestamp(TimeUnit::Microsecond, _) => integers!(TimestampMicrosecondType),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => integers!(TimestampNanosecondType),
            other => return Err(Error::runtime(format!("IN over the unexpected Arrow type {other}"))),
        };
        debug_assert_eq!(out.len(), array.len());
        Ok(if value.is_scalar() { Value::Scalar(Arc::new(out)) } else { Value::Array(Arc::new(out)) })
    }

    fn eval_row(&self, args: &[Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<Datum>> {
        let found = match args.first()? {
            Datum::Null => return Some(Ok(Datum::Null)),
            Datum::String(s) => self.set.strings.contains(s.as_ref()),
            other => self.set.integers.contains(&as_integer(other)?),
        };
        Some(Ok(self.set.answer(found).map_or(Datum::Null, Datum::Boolean)))
    }
}
