//! TO_TIMESTAMP_LTZ: of numbers since the epoch, and of text by a pattern (Flink: `ToTimestampLtzFunction`, `ToTimestampLtzTypeStrategy`).

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::{DataType, TimestampMicrosecondType, TimestampNanosecondType};
use sluice_batch::{Datum, Error, Expr, Result, TypeKind};

use super::Local;
use super::formatter::Formatter;
use super::text::{Cached, read_time};
use super::zone::Zone;
use crate::calendar::join;
use crate::cast::parse;
use crate::kernel::{Args, P};
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[Declaration { names: &["TO_TIMESTAMP_LTZ"], bind }];

/// 0000-01-01 to 9999-12-31, in seconds since the epoch.
const RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

fn bind(mut call: Call<'_>) -> Result<Expr> {
    if call.args.is_empty() || call.args.len() > 3 {
        return Err(call.wrong_count("1 to 3"));
    }
    if call.args[0].ty.kind.is_numeric() {
        return of_number(call);
    }
    if call.args.len() == 2 && call.args[0].ty.kind == TypeKind::Null && call.args[1].ty.kind.is_integer() {
        call.cast_arg(0, TypeKind::BigInt)?;
        return of_number(call);
    }
    let form = "TO_TIMESTAMP_LTZ(<NUMERIC>[, <INTEGER>]), TO_TIMESTAMP_LTZ(<CHARACTER>[, <CHARACTER> pattern[, <CHARACTER> timezone]])";
    if !call.args.iter().all(|a| a.ty.kind.is_character() || a.ty.kind == TypeKind::Null) {
        return Err(call.invalid(form));
    }
    let mut precision = 3;
    match call.args.get(1).map(Expr::as_literal) {
        Some(Some(Datum::Null)) => return Err(Error::plan("Pattern can not be a null literal").at(call.span)),
        Some(Some(Datum::String(pattern))) => {
            let invalid = |reason: &str| Error::plan(format!("Invalid pattern for parsing TIMESTAMP_LTZ: {reason}")).at(call.span);
            let format = Formatter::compile(pattern).map_err(|reason| invalid(&reason))?;
            if let Some(letter) = format.unreadable() {
                return Err(Error::unsupported(format!("the pattern letter '{letter}' in reading a time")).at(call.span));
            }
            precision = precision_of(pattern);
        }
        _ => {}
    }
    match call.args.get(2).map(Expr::as_literal) {
        Some(Some(Datum::Null)) => return Err(Error::plan("Timezone can not be a null literal").at(call.span)),
        Some(Some(Datum::String(id))) if Zone::parse(id).is_none() => {
            return Err(Error::plan(format!("Invalid timezone for parsing TIMESTAMP_LTZ: Unknown time-zone ID: {id}")).at(call.span));
        }
        _ => {}
    }
    call.optional("TO_TIMESTAMP_LTZ", &[P::Str, P::Str, P::Str], 1, TypeKind::TimestampLtz(precision), from_text)
}

/// How many digits of a second a pattern has: the longest run of `S` outside quotes, from 3 to 9 (Flink:
/// `DateTimeUtils.precisionFromFormat`).
fn precision_of(pattern: &str) -> u8 {
    let (mut longest, mut run, mut quoted) = (0, 0, false);
    for c in pattern.chars() {
        if c == 'S' && !quoted {
            run += 1;
        } else {
            run = 0;
        }
        quoted ^= c == '\'';
        longest = run.max(longest);
    }
    longest.clamp(3, 9)
}

fn of_number(mut call: Call<'_>) -> Result<Expr> {
    let span = call.span;
    if call.args.len() > 2 {
        return Err(call.invalid("TO_TIMESTAMP_LTZ(<NUMERIC>[, <INTEGER>])"));
    }
    let mut precision = 3;
    if let Some(given) = call.args.get(1) {
        if !matches!(given.ty.kind, TypeKind::Int | TypeKind::Null) {
            let message = "Unsupported argument type. TO_TIMESTAMP_LTZ(<NUMERIC>, <INTEGER>) requires the second argument to be <INTEGER>.";
            return Err(Error::plan(message).at(span));
        }
        if let Some(Datum::Int(digits)) = given.as_literal() {
            precision = check(*digits).map_err(|e| e.into_plan().at(span))?.max(3);
        }
        call.cast_arg(1, TypeKind::Int)?;
    }
    let target = match &call.args[0].ty.kind {
        kind if kind.is_integer() => TypeKind::BigInt,
        kind if kind.is_approximate_numeric() => TypeKind::Double,
        kind => kind.clone(),
    };
    call.cast_arg(0, target)?;
    Ok(call.kernel("TO_TIMESTAMP_LTZ", TypeKind::TimestampLtz(precision).nullable(), from_number))
}

fn check(digits: i32) -> Result<u8> {
    let precision = u8::try_from(digits).ok().filter(|p| *p <= 9);
    precision.ok_or_else(|| Error::runtime(format!("Precision for TO_TIMESTAMP_LTZ must be between 0 and 9 but was {digits}.")))
}

/// A count of 10^-`precision` seconds since the epoch.
fn of_count(count: i64, precision: u8) -> Option<Local> {
    let unit = 10_i64.pow(u32::from(precision));
    let nanos = count.rem_euclid(unit) * (1_000_000_000 / unit);
    Some(Local { seconds: count.div_euclid(unit), nanos: nanos as u32 }).filter(|l| RANGE.contains(&l.seconds))
}

fn of_double(count: f64, precision: u8) -> Option<Local> {
    let seconds = count / 10_f64.powi(i32::from(precision));
    if !(*RANGE.start() as f64..=*RANGE.end() as f64).contains(&seconds) {
        return None;
    }
    let whole = seconds.trunc();
    let nanos = ((seconds - whole) * 1e9) as i64;
    Some(Local { seconds: whole as i64 + nanos.div_euclid(1_000_000_000), nanos: nanos.rem_euclid(1_000_000_000) as u32 })
}

/// Reads the rows into instants of the type's precision.
fn instants(a: &Args<'_>, mut f: impl FnMut(usize) -> Result<Option<Local>>) -> Result<ArrayRef> {
    let precision = match a.ty.kind {
        TypeKind::TimestampLtz(p) => p,
        _ => 3,
    };
    let mut raw = |row: usize| Ok(f(row)?.and_then(|l| join(l.seconds, l.nanos, precision)));
    if precision > 6 { a.try_primitives::<TimestampNanosecondType>(raw) } else { a.try_primitives::<TimestampMicrosecondType>(&mut raw) }
}

fn from_number(a: &Args<'_>) -> Result<ArrayRef> {
    let precisions = if a.has(1) { Some(a.i32(1)?) } else { None };
    let precision = |row: usize| match precisions {
        Some(p) => p.get(row).map(check).transpose(),
        None => Ok(Some(3)),
    };
    let Some(value) = a.values.first() else { return Err(Error::runtime("TO_TIMESTAMP_LTZ needs an argument")) };
    match value.array().data_type() {
        DataType::Float64 => {
            let counts = a.column::<Float64Array>(0)?;
            instants(a, |row| {
                let (Some(count), Some(precision)) = (counts.get(row), precision(row)?) else { return Ok(None) };
                Ok(of_double(count, precision))
            })
        }
        DataType::Decimal128(_, scale) => {
            let counts = a.column::<Decimal128Array>(0)?;
            let unit = 10_i128.pow(u32::try_from(*scale).unwrap_or(0));
            instants(a, |row| {
                let (Some(count), Some(precision)) = (counts.get(row), precision(row)?) else { return Ok(None) };
                Ok(i64::try_from(count / unit).ok().and_then(|count| of_count(count, precision)))
            })
        }
        _ => {
            let counts = a.column::<Int64Array>(0)?;
            instants(a, |row| {
                let (Some(count), Some(precision)) = (counts.get(row), precision(row)?) else { return Ok(None) };
                Ok(of_count(count, precision))
            })
        }
    }
}

/// Text is in UTC if no time zone is given.
fn from_text(a: &Args<'_>) -> Result<ArrayRef> {
    let text = a.str(0)?;
    if !a.has(1) {
        return instants(a, |row| Ok(text.get(row).and_then(parse::timestamp_parts).map(|(seconds, nanos)| Local { seconds, nanos })));
    }
    let pattern = a.str(1)?;
    let zone = if a.has(2) { Some(a.str(2)?) } else { None };
    let (mut formats, mut zones) = (Cached::new(), Cached::new());
    instants(a, |row| {
        let (Some(text), Some(pattern)) = (text.get(row), pattern.get(row)) else { return Ok(None) };
        let Some(local) = read_time(text, pattern, &mut formats)? else { return Ok(None) };
        let Some(zone) = zone else { return Ok(Some(local)) };
        let Some(id) = zone.get(row) else { return Ok(None) };
        let zone = zones.get(id, |id| Ok::<_, Error>(Zone::parse(id)))?;
        Ok(zone.map(|z| Local { seconds: local.seconds - z.offset_of_local(local.seconds), nanos: local.nanos }))
    })
}
