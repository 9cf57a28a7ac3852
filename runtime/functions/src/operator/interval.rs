//! Arithmetic with datetimes and intervals: `ts + INTERVAL …`, `ts - ts`, `INTERVAL … * n`.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, DurationMillisecondArray, Int64Array, IntervalYearMonthArray, Time32MillisecondArray};
use arrow::datatypes::{
    Date32Type, DurationMillisecondType, IntervalYearMonthType, Time32MillisecondType, TimeUnit, TimestampMicrosecondType,
    TimestampNanosecondType,
};
use sluice_batch::{Error, EvalContext, Expr, Result, ScalarFunction, SqlType, TypeKind, Value};

use super::arithmetic::Op;
use crate::Call;
use crate::calendar::{MILLIS_PER_DAY, SECONDS_PER_DAY, add_months, join, split, to_millis, units_per_second};
use crate::cast::raw_timestamps;
use crate::kernel::Args;

/// Types `a op b` where one side is a datetime or an interval.
pub(super) fn bind(op: Op, mut call: Call<'_>) -> Result<Expr> {
    use TypeKind::*;
    let (a, b) = (call.args[0].ty.kind.clone(), call.args[1].ty.kind.clone());
    let result = match (op, &a, &b) {
        // Interval first: the sum is the same the other way around.
        (Op::Add, i, d) if i.is_interval() && d.is_datetime() => {
            call.args.swap(0, 1);
            return bind(op, call);
        }
        (Op::Add | Op::Subtract, Time(_), IntervalYearMonth) => None,
        (Op::Add | Op::Subtract, d, i) if d.is_datetime() && i.is_interval() => Some(d.clone()),
        (Op::Add | Op::Subtract, IntervalDayTime, IntervalDayTime) => Some(IntervalDayTime),
        (Op::Add | Op::Subtract, IntervalYearMonth, IntervalYearMonth) => Some(IntervalYearMonth),
        (Op::Subtract, x, y) if (x.is_timestamp() || *x == Date) && (y.is_timestamp() || *y == Date) => {
            // Both as the same kind of point in time.
            if a != b {
                let ltz = matches!(a, TimestampLtz(_)) || matches!(b, TimestampLtz(_));
                let common = if ltz { TimestampLtz(9) } else { Timestamp(6) };
                call.cast_arg(0, common.clone())?;
                call.cast_arg(1, common)?;
            }
            Some(IntervalDayTime)
        }
        (Op::Subtract, Time(_), Time(_)) => Some(IntervalDayTime),
        (Op::Multiply, n, i) if n.is_exact_numeric() && i.is_interval() => {
            call.args.swap(0, 1);
            return bind(op, call);
        }
        (Op::Multiply | Op::Divide, i, n) if i.is_interval() && n.is_exact_numeric() => {
            call.cast_arg(1, BigInt)?;
            Some(i.clone())
        }
        _ => None,
    };
    let Some(result) = result else {
        return Err(
            call.invalid("<DATETIME> ± <DATETIME_INTERVAL>, <DATETIME_INTERVAL> ± <DATETIME_INTERVAL>, <DATETIME_INTERVAL> * <NUMERIC>")
        );
    };
    let kinds = [call.args[0].ty.kind.clone(), call.args[1].ty.kind.clone()];
    let ty = result.with_nullable(call.any_nullable());
    Ok(Expr::call(Arc::new(Temporal { op, kinds }), call.args, ty))
}

/// Arithmetic on arguments of two given types.
struct Temporal {
    op: Op,
    kinds: [TypeKind; 2],
}

impl fmt::Debug for Temporal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.symbol())
    }
}

/// Adds months to a raw TIMESTAMP, leaving the time of day.
pub(crate) fn add_months_to_timestamp(raw: i64, precision: u8, months: i64) -> Option<i64> {
    let (seconds, nanos) = split(raw, precision);
    let days = add_months(seconds.div_euclid(SECONDS_PER_DAY), months);
    join(days * SECONDS_PER_DAY + seconds.rem_euclid(SECONDS_PER_DAY), nanos, precision)
}

/// Adds milliseconds to a raw TIMESTAMP.
pub(crate) fn add_millis_to_timestamp(raw: i64, precision: u8, millis: i64) -> Option<i64> {
    raw.checked_add(millis.checked_mul(units_per_second(precision) / 1000)?)
}

/// A TIMESTAMP column of the type of `args.ty`; `None` is NULL.
pub(crate) fn timestamps(args: &Args<'_>, precision: u8, f: impl FnMut(usize) -> Option<i64>) -> Result<ArrayRef> {
    match TypeKind::timestamp_unit(precision) {
        TimeUnit::Nanosecond => args.primitives::<TimestampNanosecondType>(f),
        _ => args.primitives::<TimestampMicrosecondType>(f),
    }
}

/// The raw values of a TIMESTAMP argument.
pub(crate) struct RawTimestamps<'a> {
    value: &'a Value,
    raw: &'a [i64],
}

impl<'a> RawTimestamps<'a> {
    pub(crate) fn new(args: &Args<'a>, index: usize) -> Result<Self> {
        let value = args.values.get(index).ok_or_else(|| Error::runtime("a TIMESTAMP argument is missing"))?;
        Ok(Self { value, raw: raw_timestamps(value.array())? })
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<i64> {
        let row = self.value.index(row);
        self.value.array().is_valid(row).then(|| self.raw[row])
    }
}

type Amount<'a> = Box<dyn Fn(usize) -> Option<i64> + 'a>;

/// The interval (or factor) of a row, negated for a subtraction.
fn amount<'a>(args: &Args<'a>, index: usize, kind: &TypeKind, op: Op) -> Result<Amount<'a>> {
    let sign = if op == Op::Subtract { -1 } else { 1 };
    Ok(match kind {
        TypeKind::IntervalDayTime => {
            let column = args.column::<DurationMillisecondArray>(index)?;
            Box::new(move |row| column.get(row).map(|v| sign * v))
        }
        TypeKind::IntervalYearMonth => {
            let column = args.column::<IntervalYearMonthArray>(index)?;
            Box::new(move |row| column.get(row).map(|v| sign * i64::from(v)))
        }
        TypeKind::Time(_) => {
            let column = args.column::<Time32MillisecondArray>(index)?;
            Box::new(move |row| column.get(row).map(|v| sign * i64::from(v)))
        }
        TypeKind::Date => {
            let column = args.date(index)?;
            Box::new(move |row| column.get(row).map(|v| sign * i64::from(v)))
        }
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let (column, p) = (RawTimestamps::new(args, index)?, *p);
            Box::new(move |row| column.get(row).map(|v| sign * to_millis(v, p)))
        }
        _ => {
            let column = args.column::<Int64Array>(index)?;
            Box::new(move |row| column.get(row))
        }
    })
}

impl Temporal {
    fn body(&self, args: &Args<'_>) -> Result<ArrayRef> {
        use TypeKind::*;
        let [a, b] = &self.kinds;
        let right = amount(args, 1, b, self.op)?;
        match (a, b) {
            (Timestamp(p) | TimestampLtz(p), IntervalDayTime) => {
                let left = RawTimestamps::new(args, 0)?;
                timestamps(args, *p, |row| add_millis_to_timestamp(left.get(row)?, *p, right(row)?))
            }
            (Timestamp(p) | TimestampLtz(p), IntervalYearMonth) => {
                let left = RawTimestamps::new(args, 0)?;
                timestamps(args, *p, |row| add_months_to_timestamp(left.get(row)?, *p, right(row)?))
            }
            (Date, IntervalDayTime) => {
                let left = args.date(0)?;
                args.primitives::<Date32Type>(|row| Some(left.get(row)?.wrapping_add((right(row)? / MILLIS_PER_DAY) as i32)))
            }
            (Date, IntervalYearMonth) => {
                let left = args.date(0)?;
                args.primitives::<Date32Type>(|row| Some(add_months(i64::from(left.get(row)?), right(row)?) as i32))
            }
            (Time(_), IntervalDayTime) => {
                let left = args.column::<Time32MillisecondArray>(0)?;
                args.primitives::<Time32MillisecondType>(|row| {
                    Some(i64::from(left.get(row)?).wrapping_add(right(row)?).rem_euclid(MILLIS_PER_DAY) as i32)
                })
            }
            _ => {
                let left = amount(args, 0, a, Op::Add)?;
                let op = self.op;
                let days = if matches!((a, b), (Date, Date)) { MILLIS_PER_DAY } else { 1 };
                let value = move |row: usize| {
                    let (x, y) = (left(row)?, right(row)?);
                    match op {
                        Op::Multiply => x.checked_mul(y),
                        Op::Divide => x.checked_div(y),
                        _ => x.checked_add(y)?.checked_mul(days),
                    }
                };
                match &args.ty.kind {
                    IntervalYearMonth => args.primitives::<IntervalYearMonthType>(|row| i32::try_from(value(row)?).ok()),
                    _ => args.primitives::<DurationMillisecondType>(value),
                }
            }
        }
    }
}

impl ScalarFunction for Temporal {
    fn name(&self) -> &str {
        self.op.symbol()
    }

    fn eval(&self, args: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext) -> Result<Value> {
        let args = Args::new(args, rows, ty, cx, true);
        let out = self.body(&args)?;
        Ok(if args.is_scalar() { Value::Scalar(out) } else { Value::Array(out) })
    }

    fn eval_row(&self, args: &[sluice_batch::Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<sluice_batch::Datum>> {
        use sluice_batch::Datum::{IntervalDayTime, IntervalYearMonth, Null, Timestamp};
        let sign = if self.op == Op::Subtract { -1 } else { 1 };
        let (TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p)) = self.kinds[0] else { return None };
        Some(Ok(match args {
            [Null, _] | [_, Null] => Null,
            [Timestamp(t), IntervalDayTime(i)] => add_millis_to_timestamp(*t, p, sign * i).map_or(Null, Timestamp),
            [Timestamp(t), IntervalYearMonth(i)] => add_months_to_timestamp(*t, p, i64::from(sign as i32 * i)).map_or(Null, Timestamp),
            [Timestamp(a), Timestamp(b)] => IntervalDayTime(to_millis(*a, p) - to_millis(*b, p)),
            _ => return None,
        }))
    }
}
