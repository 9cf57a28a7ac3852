//! `+ - * / %` and the signs over numbers. Integers wrap as in Java; division by zero fails, save for FLOAT and DOUBLE.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, Decimal128Array, PrimitiveArray};
use arrow::datatypes::{Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use sluice_batch::{Datum, Error, EvalContext, Expr, Result, ScalarFunction, SqlType, TypeKind, Value};

use super::decimal::{self, Scales};
use super::{binary, interval};
use crate::kernel::{Args, Column};
use crate::typing::{as_decimal, common_type, decimal_modulo, decimal_product, decimal_quotient, decimal_sum};
use crate::{Call, Declaration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Op {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Op::Add => "+",
            Op::Subtract => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Modulo => "%",
        }
    }
}

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["+"], bind: |c| if c.args.len() == 1 { plus_sign(c) } else { bind(Op::Add, c) } },
    Declaration { names: &["-", "MINUS"], bind: |c| if c.args.len() == 1 { negate(c) } else { bind(Op::Subtract, c) } },
    Declaration { names: &["*"], bind: |c| bind(Op::Multiply, c) },
    Declaration { names: &["/"], bind: |c| bind(Op::Divide, c) },
    Declaration { names: &["%", "MOD"], bind: |c| bind(Op::Modulo, c) },
];

fn forms(op: Op) -> String {
    let s = op.symbol();
    format!("'<NUMERIC> {s} <NUMERIC>', '<DATETIME_INTERVAL> {s} <DATETIME_INTERVAL>', '<DATETIME> {s} <DATETIME_INTERVAL>'")
}

fn bind(op: Op, mut call: Call<'_>) -> Result<Expr> {
    if call.args.len() != 2 {
        return Err(call.wrong_count(2));
    }
    // An untyped NULL takes the other side's type.
    let kinds = [call.args[0].ty.kind.clone(), call.args[1].ty.kind.clone()];
    for (i, other) in [(0, &kinds[1]), (1, &kinds[0])] {
        if call.args[i].ty.kind == TypeKind::Null {
            let kind = if *other == TypeKind::Null { TypeKind::Int } else { other.clone() };
            call.cast_arg(i, kind)?;
        }
    }
    let (a, b) = (call.args[0].ty.kind.clone(), call.args[1].ty.kind.clone());
    if a.is_datetime() || a.is_interval() || b.is_datetime() || b.is_interval() {
        return interval::bind(op, call);
    }
    if !a.is_numeric() || !b.is_numeric() {
        return Err(call.invalid(forms(op)));
    }
    let result = result_kind(op, &a, &b).ok_or_else(|| call.invalid(forms(op)))?;
    let ty = result.clone().with_nullable(call.any_nullable());
    if let TypeKind::Decimal(precision, scale) = result {
        let (left, right) = (decimal_operand(&mut call, 0)?, decimal_operand(&mut call, 1)?);
        let scales = Some(Scales { left, right, precision, scale });
        return Ok(Expr::call(Arc::new(Arithmetic { op, scales }), call.args, ty));
    }
    // `a % b` has the type of b, but is computed in the wider one.
    let wide = common_type(&[a.nullable(), b.nullable()]).map_or(result, |t| t.kind);
    call.cast_arg(0, wide.clone())?;
    call.cast_arg(1, wide.clone())?;
    let computed = Expr::call(Arc::new(Arithmetic { op, scales: None }), call.args, wide.with_nullable(ty.nullable));
    crate::cast(computed, &ty, false, call.span)
}

fn decimal_operand(call: &mut Call<'_>, index: usize) -> Result<u8> {
    let (p, s) = as_decimal(&call.args[index].ty.kind).ok_or_else(|| Error::plan("expected an exact number"))?;
    call.cast_arg(index, TypeKind::Decimal(p, s))?;
    Ok(s)
}

/// The type of `a op b` over numbers (Calcite: `ReturnTypes.NULLABLE_SUM` and the like with Flink's type system).
fn result_kind(op: Op, a: &TypeKind, b: &TypeKind) -> Option<TypeKind> {
    let decimal = matches!(a, TypeKind::Decimal(..)) || matches!(b, TypeKind::Decimal(..));
    if decimal && let (Some(x), Some(y)) = (as_decimal(a), as_decimal(b)) {
        return Some(match op {
            Op::Add | Op::Subtract => decimal_sum(x, y),
            Op::Multiply => decimal_product(x, y),
            Op::Divide => decimal_quotient(x, y),
            Op::Modulo => decimal_modulo(x, y),
        });
    }
    if op == Op::Modulo {
        return Some(b.clone());
    }
    common_type(&[a.clone().nullable(), b.clone().nullable()]).map(|t| t.kind)
}

/// Arithmetic on two arguments of the result's type; `scales` is set for decimals.
struct Arithmetic {
    op: Op,
    scales: Option<Scales>,
}

impl fmt::Debug for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.symbol())
    }
}

fn division_by_zero() -> Error {
    Error::runtime("Division by zero")
}

/// A number as its operators see it.
trait Number: ArrowNativeTypeOp {
    /// Integers refuse zero divisors.
    const CHECKED: bool;
}

macro_rules! numbers {
    ($($t:ty: $checked:expr),+) => { $(impl Number for $t { const CHECKED: bool = $checked; })+ };
}

numbers!(i8: true, i16: true, i32: true, i64: true, f32: false, f64: false);

/// `None`: division by zero.
#[inline]
fn scalar<T: Number>(op: Op, a: T, b: T) -> Option<T> {
    Some(match op {
        Op::Add => a.add_wrapping(b),
        Op::Subtract => a.sub_wrapping(b),
        Op::Multiply => a.mul_wrapping(b),
        Op::Divide | Op::Modulo if T::CHECKED && b.is_zero() => return None,
        Op::Divide => a.div_wrapping(b),
        Op::Modulo => a.mod_wrapping(b),
    })
}

fn numbers<T: ArrowPrimitiveType>(op: Op, a: &Value, b: &Value) -> Result<Value>
where
    T::Native: Number,
{
    match op {
        Op::Add => return binary::<T, T, T>(a, b, |x, y| x.add_wrapping(y)),
        Op::Subtract => return binary::<T, T, T>(a, b, |x, y| x.sub_wrapping(y)),
        Op::Multiply => return binary::<T, T, T>(a, b, |x, y| x.mul_wrapping(y)),
        Op::Divide | Op::Modulo => {}
    }
    if T::Native::CHECKED {
        let (x, y) = (Column::<PrimitiveArray<T>>::new(a)?, Column::<PrimitiveArray<T>>::new(b)?);
        let rows = if x.is_scalar() { y.array().len() } else { x.array().len() };
        let zero = |row| y.get(row).is_some_and(ArrowNativeTypeOp::is_zero) && !x.is_null(row);
        if if y.is_scalar() { rows > 0 && zero(0) && (0..rows).any(zero) } else { (0..rows).any(zero) } {
            return Err(division_by_zero());
        }
    }
    let one = T::Native::ONE;
    binary::<T, T, T>(a, b, |x, y| {
        // What is left is the undefined value below a NULL.
        let y = if T::Native::CHECKED && y.is_zero() { one } else { y };
        if op == Op::Divide { x.div_wrapping(y) } else { x.mod_wrapping(y) }
    })
}

fn decimals(op: Op, s: Scales, args: &Args<'_>) -> Result<ArrayRef> {
    let (a, b) = (args.decimal(0)?, args.decimal(1)?);
    let zero_fails = matches!(op, Op::Divide | Op::Modulo);
    args.try_primitives::<Decimal128Type>(|row| match (a.get(row), b.get(row)) {
        (Some(_), Some(0)) if zero_fails => Err(division_by_zero()),
        (Some(a), Some(b)) => Ok(decimal::apply(op, a, b, s)),
        _ => Ok(None),
    })
}

impl ScalarFunction for Arithmetic {
    fn name(&self) -> &str {
        self.op.symbol()
    }

    fn eval(&self, args: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext) -> Result<Value> {
        if let Some(scales) = self.scales {
            let args = Args::new(args, rows, ty, cx, true);
            let out = decimals(self.op, scales, &args)?;
            return Ok(if args.is_scalar() { Value::Scalar(out) } else { Value::Array(out) });
        }
        let [a, b] = args else {
            return Err(Error::runtime(format!("{} takes two arguments", self.op.symbol())));
        };
        match &ty.kind {
            TypeKind::TinyInt => numbers::<Int8Type>(self.op, a, b),
            TypeKind::SmallInt => numbers::<Int16Type>(self.op, a, b),
            TypeKind::Int => numbers::<Int32Type>(self.op, a, b),
            TypeKind::BigInt => numbers::<Int64Type>(self.op, a, b),
            TypeKind::Float => numbers::<Float32Type>(self.op, a, b),
            TypeKind::Double => numbers::<Float64Type>(self.op, a, b),
            other => Err(Error::runtime(format!("no arithmetic on {other}"))),
        }
    }

    fn eval_row(&self, args: &[Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<Datum>> {
        use Datum::*;
        macro_rules! number {
            ($variant:ident, $a:expr, $b:expr) => {
                scalar(self.op, *$a, *$b).map($variant).ok_or_else(division_by_zero)
            };
        }
        Some(match args {
            [Null, _] | [_, Null] => Ok(Null),
            [TinyInt(a), TinyInt(b)] => number!(TinyInt, a, b),
            [SmallInt(a), SmallInt(b)] => number!(SmallInt, a, b),
            [Int(a), Int(b)] => number!(Int, a, b),
            [BigInt(a), BigInt(b)] => number!(BigInt, a, b),
            [Float(a), Float(b)] => number!(Float, a, b),
            [Double(a), Double(b)] => number!(Double, a, b),
            [Decimal(_), Decimal(0)] if matches!(self.op, Op::Divide | Op::Modulo) => Err(division_by_zero()),
            [Decimal(a), Decimal(b)] => Ok(decimal::apply(self.op, *a, *b, self.scales?).map_or(Null, Decimal)),
            _ => return None,
        })
    }
}

fn plus_sign(mut call: Call<'_>) -> Result<Expr> {
    let kind = &call.args[0].ty.kind;
    if !kind.is_numeric() && !kind.is_interval() {
        return Err(call.invalid("+<NUMERIC>, +<DATETIME_INTERVAL>"));
    }
    Ok(call.args.remove(0))
}

/// `-x`: integers wrap.
fn negate(call: Call<'_>) -> Result<Expr> {
    let ty = call.args[0].ty.clone();
    if !ty.kind.is_numeric() && !ty.kind.is_interval() {
        return Err(call.invalid("-<NUMERIC>, -<DATETIME_INTERVAL>"));
    }
    Ok(Expr::call(Arc::new(Negate), call.args, ty))
}

#[derive(Debug)]
struct Negate;

impl ScalarFunction for Negate {
    fn name(&self) -> &str {
        "-"
    }

    fn eval(&self, args: &[Value], _rows: usize, _ty: &SqlType, _cx: &EvalContext) -> Result<Value> {
        let Some(arg) = args.first() else {
            return Err(Error::runtime("- takes an argument"));
        };
        let array = arg.array();
        let out = if let Some(decimals) = array.as_any().downcast_ref::<Decimal128Array>() {
            let out = decimals.unary::<_, Decimal128Type>(|v| -v).with_data_type(decimals.data_type().clone());
            Arc::new(out) as ArrayRef
        } else {
            arrow::compute::kernels::numeric::neg_wrapping(array.as_ref())?
        };
        Ok(if arg.is_scalar() { Value::Scalar(out) } else { Value::Array(out) })
    }

    fn eval_row(&self, args: &[Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<Datum>> {
        Some(Ok(match args.first()? {
            Datum::Null => Datum::Null,
            Datum::TinyInt(v) => Datum::TinyInt(v.wrapping_neg()),
            Datum::SmallInt(v) => Datum::SmallInt(v.wrapping_neg()),
            Datum::Int(v) => Datum::Int(v.wrapping_neg()),
            Datum::BigInt(v) => Datum::BigInt(v.wrapping_neg()),
            Datum::Float(v) => Datum::Float(-v),
            Datum::Double(v) => Datum::Double(-v),
            Datum::Decimal(v) => Datum::Decimal(-v),
            _ => return None,
        }))
    }
}
