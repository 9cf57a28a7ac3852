//! TIMESTAMPADD, TIMESTAMPDIFF and OVERLAPS.

use arrow::array::ArrayRef;
use sluice_batch::{Datum, Error, Expr, Result, Span, TypeKind};

use super::unit::Unit;
use super::{Local, Moments};
use crate::calendar::{MILLIS_PER_DAY, add_months};
use crate::kernel::Args;
use crate::{Call, Declaration, JsonClauses};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["TIMESTAMPADD"], bind: add },
    Declaration { names: &["TIMESTAMPDIFF"], bind: diff },
    Declaration { names: &["OVERLAPS"], bind: overlaps },
];

fn operator(name: &str, args: Vec<Expr>, span: Span) -> Result<Expr> {
    let symbols = vec![None; args.len()];
    crate::bind(Call { name, args, symbols, json: JsonClauses::default(), span })
}

/// `TIMESTAMPADD(unit, n, t)` is `t + INTERVAL '1' unit * n` (Calcite: `TimestampAddConvertlet`).
fn add(mut call: Call<'_>) -> Result<Expr> {
    if call.args.len() != 3 {
        return Err(call.wrong_count(3));
    }
    let unit = call.take_unit(0)?;
    let span = call.span;
    let Some(interval) = one(unit) else {
        return Err(Error::unsupported(format!("TIMESTAMPADD of {}", unit.name())).at(span));
    };
    let kind = call.args[1].ty.kind.clone();
    if !call.args[0].ty.kind.is_exact_numeric() && call.args[0].ty.kind != TypeKind::Null || !(kind.is_datetime() || kind == TypeKind::Null)
    {
        return Err(call.invalid("TIMESTAMPADD(<TIME_UNIT>, <INTEGER>, <DATETIME>)"));
    }
    // A time of day makes a DATE a TIMESTAMP, milliseconds need three digits.
    let digits = if unit == Unit::Millisecond { 3 } else { 0 };
    let target = match kind {
        TypeKind::Null => TypeKind::Timestamp(3),
        TypeKind::Date if unit.is_below_day() => TypeKind::Timestamp(digits),
        TypeKind::Timestamp(p) => TypeKind::Timestamp(p.max(digits)),
        TypeKind::TimestampLtz(p) => TypeKind::TimestampLtz(p.max(digits)),
        other => other,
    };
    call.cast_arg(1, target)?;
    call.cast_arg(0, TypeKind::BigInt)?;
    let (Some(time), Some(count)) = (call.args.pop(), call.args.pop()) else { return Err(call.wrong_count(3)) };
    let amount = operator("*", vec![interval, count], span)?;
    operator("+", vec![time, amount], span)
}

/// The interval of one unit.
fn one(unit: Unit) -> Option<Expr> {
    if let Some(millis) = unit.millis() {
        return Some(Expr::literal(Datum::IntervalDayTime(millis), TypeKind::IntervalDayTime.not_null()));
    }
    let months = i32::try_from(unit.months()?).ok()?;
    Some(Expr::literal(Datum::IntervalYearMonth(months), TypeKind::IntervalYearMonth.not_null()))
}

/// `TIMESTAMPDIFF(unit, a, b)`: whole units from `a` to `b`, INT.
fn diff(mut call: Call<'_>) -> Result<Expr> {
    if call.args.len() != 3 {
        return Err(call.wrong_count(3));
    }
    let unit = call.take_unit(0)?;
    for index in 0..2 {
        if call.args[index].ty.kind == TypeKind::Null {
            call.cast_arg(index, TypeKind::Timestamp(3))?;
        }
    }
    if !call.args.iter().all(|a| a.ty.kind.is_timestamp() || a.ty.kind == TypeKind::Date) {
        return Err(call.invalid("TIMESTAMPDIFF(<TIME_UNIT>, <DATETIME>, <DATETIME>)"));
    }
    if !matches!(unit, Unit::Second | Unit::Minute | Unit::Hour | Unit::Day | Unit::Week | Unit::Month | Unit::Quarter | Unit::Year) {
        let message = format!("Unit '{}' can not be applied to the timestamp difference function.", unit.name());
        return Err(Error::plan(message).at(call.span));
    }
    let ty = TypeKind::Int.with_nullable(call.any_nullable());
    Ok(call.unit_kernel("TIMESTAMPDIFF", unit, ty, difference))
}

fn difference(a: &Args<'_>, unit: Unit) -> Result<ArrayRef> {
    let (from, to) = (Moments::new(a, 0)?, Moments::new(a, 1)?);
    if let Some(size) = unit.millis() {
        return a.i32s(|row| Some(((to.get(row)?.millis() - from.get(row)?.millis()) / size) as i32));
    }
    let size = unit.months().unwrap_or(1);
    a.i32s(|row| Some((months_between(from.get(row)?, to.get(row)?) / size) as i32))
}

/// Whole months from one time to another; negative if it is earlier.
fn months_between(from: Local, to: Local) -> i64 {
    if to < from {
        return -months_between(to, from);
    }
    let ((y0, m0, _), (y1, m1, _)) = (from.date(), to.date());
    let months = (y1 - y0) * 12 + i64::from(m1) - i64::from(m0);
    let arrival = add_months(from.days(), months);
    let late =
        arrival > to.days() || arrival == to.days() && from.millis().rem_euclid(MILLIS_PER_DAY) > to.millis().rem_euclid(MILLIS_PER_DAY);
    months - i64::from(late)
}

/// `(a, b) OVERLAPS (c, d)`, where `b` and `d` are ends or lengths. Ends before starts are swapped; touching is overlapping
/// (Flink: `TemporalOverlapsConverter`).
fn overlaps(mut call: Call<'_>) -> Result<Expr> {
    if call.args.len() != 4 {
        return Err(call.wrong_count(4));
    }
    let span = call.span;
    let args = std::mem::take(&mut call.args);
    let mut ends = Vec::with_capacity(4);
    let mut args = args.into_iter();
    while let (Some(start), Some(end)) = (args.next(), args.next()) {
        if !start.ty.kind.is_datetime() {
            return Err(Error::plan("OVERLAPS needs a date or time as the start of each range").at(span));
        }
        let end = if end.ty.kind.is_interval() { operator("+", vec![start.clone(), end], span)? } else { end };
        let swapped = operator(">", vec![start.clone(), end.clone()], span)?;
        ends.push(pick(swapped.clone(), end.clone(), start.clone()));
        ends.push(pick(swapped, start, end));
    }
    let [start0, end0, start1, end1] = &ends[..] else { return Err(Error::plan("OVERLAPS needs two ranges").at(span)) };
    let left = operator(">=", vec![end0.clone(), start1.clone()], span)?;
    let right = operator(">=", vec![end1.clone(), start0.clone()], span)?;
    Ok(Expr::and(vec![left, right]))
}

/// `CASE WHEN condition THEN yes ELSE no END`
fn pick(condition: Expr, yes: Expr, no: Expr) -> Expr {
    let ty = no.ty.kind.clone().with_nullable(yes.ty.nullable || no.ty.nullable);
    Expr { kind: sluice_batch::ExprKind::Case { branches: vec![(condition, yes)], otherwise: Box::new(no) }, ty }
}
