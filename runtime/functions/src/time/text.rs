//! Between times and text by patterns: DATE_FORMAT, TO_TIMESTAMP, TO_DATE, FROM_UNIXTIME, UNIX_TIMESTAMP, CONVERT_TZ.
//!
//! Source: Flink's `DateTimeUtils`. TO_TIMESTAMP and DATE_FORMAT of times go by `DateTimeFormatter`, the others by `SimpleDateFormat`.

use arrow::array::ArrayRef;
use arrow::datatypes::Date32Type;
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::formatter::Formatter;
use super::simple::{SimpleFormat, year_of};
use super::zone::Zone;
use super::{Local, Moments};
use crate::calendar::{MILLIS_PER_DAY, days_from_civil, join};
use crate::cast::parse;
use crate::kernel::{Args, P};
use crate::operator::interval::timestamps;
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["DATE_FORMAT"], bind: date_format },
    Declaration {
        names: &["TO_TIMESTAMP"],
        bind: |c| c.optional("TO_TIMESTAMP", &[P::Str, P::Str], 1, TypeKind::Timestamp(3), to_timestamp),
    },
    Declaration { names: &["TO_DATE"], bind: |c| c.optional("TO_DATE", &[P::Str, P::Str], 1, TypeKind::Date, to_date) },
    Declaration {
        names: &["FROM_UNIXTIME"],
        bind: |c| c.optional("FROM_UNIXTIME", &[P::BigInt, P::Str], 1, TypeKind::STRING, from_unixtime),
    },
    Declaration { names: &["UNIX_TIMESTAMP"], bind: unix_timestamp },
    Declaration { names: &["CONVERT_TZ"], bind: |c| c.nullable("CONVERT_TZ", &[P::Str, P::Str, P::Str], TypeKind::STRING, convert_tz) },
];

/// The pattern where none is given.
const STANDARD: &str = "yyyy-MM-dd HH:mm:ss";

/// Something made of a text, kept as long as the text stays the same from row to row.
pub(super) struct Cached<T> {
    text: Option<String>,
    made: Option<T>,
}

impl<T> Cached<T> {
    pub fn new() -> Self {
        Self { text: None, made: None }
    }

    /// # Errors
    /// Those of `make`; the next call makes anew.
    pub fn get<E>(&mut self, text: &str, make: impl FnOnce(&str) -> std::result::Result<T, E>) -> std::result::Result<&T, E> {
        if self.made.is_none() || self.text.as_deref() != Some(text) {
            self.made = None;
            self.text = Some(text.to_string());
        }
        match &mut self.made {
            Some(made) => Ok(made),
            slot => Ok(slot.insert(make(text)?)),
        }
    }
}

pub(super) fn invalid_pattern(pattern: &str, reason: &str) -> Error {
    Error::runtime(format!("Invalid pattern '{pattern}': {reason}"))
}

fn formatter(pattern: &str) -> Result<Formatter> {
    Formatter::compile(pattern).map_err(|reason| invalid_pattern(pattern, &reason))
}

fn simple(pattern: &str) -> Result<SimpleFormat> {
    SimpleFormat::compile(pattern).map_err(|reason| invalid_pattern(pattern, &reason))
}

/// A `SimpleDateFormat` to read with.
fn readable(pattern: &str) -> Result<SimpleFormat> {
    let format = simple(pattern)?;
    match format.unreadable() {
        Some(letter) => Err(Error::unsupported(format!("the pattern letter '{letter}' in reading a date"))),
        None => Ok(format),
    }
}

/// `DATE_FORMAT(time, pattern)`; a text is read as `yyyy-MM-dd HH:mm:ss` first.
fn date_format(mut call: Call<'_>) -> Result<Expr> {
    if matches!(call.arg_type(0), Some(ty) if ty.kind == TypeKind::Date) {
        call.cast_arg(0, TypeKind::Timestamp(3))?;
    }
    if matches!(call.arg_type(0), Some(ty) if ty.kind.is_timestamp()) {
        return call.nullable("DATE_FORMAT", &[P::Timestamp, P::Str], TypeKind::STRING, format_time);
    }
    if !matches!(call.arg_type(0), Some(ty) if ty.kind.is_character() || ty.kind == TypeKind::Null) {
        return Err(call.invalid("DATE_FORMAT(<TIMESTAMP>, <CHARACTER>), DATE_FORMAT(<CHARACTER>, <CHARACTER>)"));
    }
    call.nullable("DATE_FORMAT", &[P::Str, P::Str], TypeKind::STRING, format_text)
}

fn format_time(a: &Args<'_>) -> Result<ArrayRef> {
    let (moments, pattern) = (Moments::new(a, 0)?, a.str(1)?);
    let mut cached = Cached::new();
    a.try_strings(|row, out| {
        let (Some(local), Some(pattern)) = (moments.get(row), pattern.get(row)) else { return Ok(None) };
        let format = cached.get(pattern, formatter)?;
        format.print(local, out).map_err(|reason| invalid_pattern(pattern, &reason))?;
        Ok(Some(()))
    })
}

fn format_text(a: &Args<'_>) -> Result<ArrayRef> {
    let (text, pattern) = (a.str(0)?, a.str(1)?);
    let standard = simple(STANDARD)?;
    let mut cached = Cached::new();
    a.try_strings(|row, out| {
        let (Some(text), Some(pattern)) = (text.get(row), pattern.get(row)) else { return Ok(None) };
        let format = cached.get(pattern, simple)?;
        let Some(instant) = standard.read(text, Zone::UTC, 1970) else { return Ok(None) };
        format.print(instant, Zone::UTC, out);
        Ok(Some(()))
    })
}

/// `y…y-m-d[ h:m:s[.f]]` as `java.sql.Timestamp.valueOf` and `java.sql.Date.valueOf` take it: days beyond a month's end go into the
/// next one.
fn sql_value(text: &str) -> Option<Local> {
    let text = text.trim();
    let (date, clock) = text.split_once(' ').map_or((text, None), |(d, c)| (d, Some(c.trim())));
    let digits = |t: &str, max: usize| {
        let fits = (1..=max).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| t.parse::<i64>().ok()).flatten()
    };
    let mut parts = date.splitn(3, '-');
    let year = parts.next().filter(|y| y.len() == 4).and_then(|y| digits(y, 4))?;
    let (month, day) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = (days_from_civil(year, month as u32, 1) + day - 1) * 86_400;
    let Some(clock) = clock else { return Some(Local { seconds: midnight, nanos: 0 }) };
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (digits(parts.next()?, 9)?, digits(parts.next()?, 9)?);
    let seconds = parts.next()?;
    let (second, fraction) = seconds.split_once('.').map_or((seconds, None), |(s, f)| (s, Some(f)));
    let nanos = match fraction {
        Some(f) => digits(f, 9)? * 10_i64.pow(9 - f.len() as u32),
        None => 0,
    };
    Some(Local { seconds: midnight + hour * 3600 + minute * 60 + digits(second, 9)?, nanos: nanos as u32 })
}

/// A text by a pattern, or else as `yyyy-m-d[ h:m:s[.f]]`; `None` if it is neither, or the pattern is none.
pub(super) fn read_time(text: &str, pattern: &str, cached: &mut Cached<Option<Formatter>>) -> Result<Option<Local>> {
    let Some(format) = cached.get(pattern, readable_formatter)? else { return Ok(None) };
    Ok(format.read(text).or_else(|| sql_value(text)))
}

fn readable_formatter(pattern: &str) -> Result<Option<Formatter>> {
    let Ok(format) = Formatter::compile(pattern) else { return Ok(None) };
    match format.unreadable() {
        Some(letter) => Err(Error::unsupported(format!("the pattern letter '{letter}' in reading a time"))),
        None => Ok(Some(format)),
    }
}

fn to_timestamp(a: &Args<'_>) -> Result<ArrayRef> {
    let text = a.str(0)?;
    if !a.has(1) {
        return timestamps(a, 3, |row| parse::timestamp(text.get(row)?, 3));
    }
    let pattern = a.str(1)?;
    let mut cached = Cached::new();
    a.try_primitives::<arrow::datatypes::TimestampMicrosecondType>(|row| {
        let (Some(text), Some(pattern)) = (text.get(row), pattern.get(row)) else { return Ok(None) };
        let local = read_time(text, pattern, &mut cached)?;
        Ok(local.and_then(|l| join(l.seconds, l.nanos, 3)))
    })
}

/// NULL for what is no date by the pattern, where Flink gives a date in the year -292275055.
fn to_date(a: &Args<'_>) -> Result<ArrayRef> {
    let text = a.str(0)?;
    if !a.has(1) {
        return a.primitives::<Date32Type>(|row| parse::date(text.get(row)?));
    }
    let pattern = a.str(1)?;
    let mut cached = Cached::new();
    a.try_primitives::<Date32Type>(|row| {
        let (Some(text), Some(pattern)) = (text.get(row), pattern.get(row)) else { return Ok(None) };
        let millis = cached.get(pattern, readable)?.read(text, Zone::UTC, year_of(a.cx.now));
        Ok(millis.and_then(|m| i32::try_from(m.div_euclid(MILLIS_PER_DAY)).ok()))
    })
}

/// Seconds since the epoch as text in the session's time zone.
fn from_unixtime(a: &Args<'_>) -> Result<ArrayRef> {
    let seconds = a.i64(0)?;
    let pattern = if a.has(1) { Some(a.str(1)?) } else { None };
    let zone = Zone::Region(a.cx.time_zone);
    let mut cached = Cached::new();
    a.try_strings(|row, out| {
        let pattern = pattern.map_or(Some(STANDARD), |p| p.get(row));
        let (Some(seconds), Some(pattern)) = (seconds.get(row), pattern) else { return Ok(None) };
        let format = cached.get(pattern, simple)?;
        let Some(millis) = seconds.checked_mul(1000) else { return Ok(None) };
        format.print(millis, zone, out);
        Ok(Some(()))
    })
}

/// `UNIX_TIMESTAMP()` is the present, `UNIX_TIMESTAMP(text[, pattern])` is in the session's time zone.
fn unix_timestamp(mut call: Call<'_>) -> Result<Expr> {
    if call.args.is_empty() {
        return Ok(call.volatile("UNIX_TIMESTAMP", TypeKind::BigInt.not_null(), |a| {
            let seconds = a.cx.now.div_euclid(1000);
            a.i64s(|_| Some(seconds))
        }));
    }
    call.coerce(&[P::Str, P::Str], 1)?;
    let ty = TypeKind::BigInt.with_nullable(call.any_nullable());
    Ok(call.kernel("UNIX_TIMESTAMP", ty, unix_timestamp_of))
}

/// What is no time by the pattern is the smallest BIGINT, as in Flink.
fn unix_timestamp_of(a: &Args<'_>) -> Result<ArrayRef> {
    let text = a.str(0)?;
    let pattern = if a.has(1) { Some(a.str(1)?) } else { None };
    let zone = Zone::Region(a.cx.time_zone);
    let mut cached = Cached::new();
    a.try_primitives::<arrow::datatypes::Int64Type>(|row| {
        let pattern = pattern.map_or(Some(STANDARD), |p| p.get(row));
        let (Some(text), Some(pattern)) = (text.get(row), pattern) else { return Ok(None) };
        let millis = cached.get(pattern, readable)?.read(text, zone, year_of(a.cx.now));
        Ok(Some(millis.map_or(i64::MIN, |m| m.div_euclid(1000))))
    })
}

/// `CONVERT_TZ(text, from, to)` of `yyyy-MM-dd HH:mm:ss`; an unknown time zone is GMT.
fn convert_tz(a: &Args<'_>) -> Result<ArrayRef> {
    let (text, from, to) = (a.str(0)?, a.str(1)?, a.str(2)?);
    let format = simple(STANDARD)?;
    let (mut from_zone, mut to_zone) = (Cached::new(), Cached::new());
    let zone = |id: &str| Ok::<Zone, Error>(Zone::lenient(id));
    a.try_strings(|row, out| {
        let (Some(text), Some(from), Some(to)) = (text.get(row), from.get(row), to.get(row)) else { return Ok(None) };
        let (from, to) = (*from_zone.get(from, zone)?, *to_zone.get(to, zone)?);
        let Some(instant) = format.read(text, from, 1970) else { return Ok(None) };
        format.print(instant, to, out);
        Ok(Some(()))
    })
}
