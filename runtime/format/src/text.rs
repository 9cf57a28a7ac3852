//! Values as text: how Java and Flink write dates, times, decimals and floating point numbers, and how they read them.

use sluice_batch::TypeKind;
use sluice_batch::calendar::{civil_from_days, valid_date};

pub(crate) const MILLIS_PER_DAY: i64 = 86_400_000;
const NANOS_PER_DAY: i64 = 86_400_000_000_000;

#[inline]
fn two(b: &[u8], at: usize) -> Option<i64> {
    let (hi, lo) = (b.get(at)?.wrapping_sub(b'0'), b.get(at + 1)?.wrapping_sub(b'0'));
    (hi <= 9 && lo <= 9).then(|| i64::from(hi) * 10 + i64::from(lo))
}

/// A run of up to `max` digits: its value and length.
fn digits(b: &[u8], at: usize, max: usize) -> (i64, usize) {
    let (mut value, mut len) = (0, 0);
    while len < max && b.get(at + len).is_some_and(u8::is_ascii_digit) {
        value = value * 10 + i64::from(b[at + len] - b'0');
        len += 1;
    }
    (value, len)
}

/// `yyyy-MM-dd` at the start of a text (Java: `ISO_LOCAL_DATE`): days and the text's length. Years beyond 9999 have a sign.
fn date_prefix(b: &[u8]) -> Option<(i32, usize)> {
    let (sign, start) = match b.first()? {
        b'-' => (-1, 1),
        b'+' => (1, 1),
        _ => (1, 0),
    };
    let (year, len) = digits(b, start, 9);
    let plain = b.first()?.is_ascii_digit();
    if len < 4 || (plain && len != 4) || (b[0] == b'+' && len == 4) {
        return None;
    }
    let at = start + len;
    if b.get(at) != Some(&b'-') || b.get(at + 3) != Some(&b'-') {
        return None;
    }
    Some((valid_date(sign * year, two(b, at + 1)? as u32, two(b, at + 4)? as u32)?, at + 6))
}

/// `HH:mm:ss[.fraction]` at the start of a text: nanoseconds of the day and the text's length. ISO leaves out seconds if `seconds_optional`.
fn time_prefix(b: &[u8], seconds_optional: bool) -> Option<(i64, usize)> {
    let (hour, minute) = (two(b, 0)?, two(b, 3)?);
    if b.get(2) != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let minutes = (hour * 60 + minute) * 60;
    if b.get(5) != Some(&b':') {
        return seconds_optional.then_some((minutes * 1_000_000_000, 5));
    }
    let second = two(b, 6)?;
    if second > 59 {
        return None;
    }
    let nanos = (minutes + second) * 1_000_000_000;
    if b.get(8) != Some(&b'.') {
        return Some((nanos, 8));
    }
    let (fraction, len) = digits(b, 9, 9);
    if len == 0 {
        return None;
    }
    Some((nanos + fraction * 10_i64.pow(9 - len as u32), 9 + len))
}

pub(crate) fn parse_date(b: &[u8]) -> Option<i32> {
    date_prefix(b).and_then(|(days, len)| (len == b.len()).then_some(days))
}

/// As `java.sql.Date.valueOf`: month and day may have one digit.
pub(crate) fn parse_sql_date(b: &[u8]) -> Option<i32> {
    let (year, n) = digits(b, 0, 5);
    let (month, m) = digits(b, n + 1, 2);
    let (day, d) = digits(b, n + m + 2, 2);
    let separators = b.get(n) == Some(&b'-') && b.get(n + 1 + m) == Some(&b'-');
    let ok = n == 4 && m > 0 && d > 0 && separators && n + m + d + 2 == b.len();
    if ok { valid_date(year, month as u32, day as u32) } else { None }
}

/// TIME: milliseconds of the day, cut to the precision.
pub(crate) fn parse_time(b: &[u8], precision: u8, seconds_optional: bool) -> Option<i32> {
    let (nanos, len) = time_prefix(b, seconds_optional)?;
    (len == b.len()).then(|| truncate_millis((nanos / 1_000_000) as i32, precision))
}

fn truncate_millis(millis: i32, precision: u8) -> i32 {
    let unit = 10_i32.pow(3 - u32::from(precision.min(3)));
    millis / unit * unit
}

/// How timestamps are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimestampFormat {
    /// `2024-02-29 13:14:15.123`
    Sql,
    /// `2024-02-29T13:14:15.123`
    Iso8601,
}

/// TIMESTAMP (`zoned` false) or TIMESTAMP_LTZ (an instant in UTC, ends in `Z`): raw in the unit of the precision, cut to it.
pub(crate) fn parse_timestamp(b: &[u8], format: TimestampFormat, zoned: bool, precision: u8) -> Option<i64> {
    let (days, len) = date_prefix(b)?;
    let separator = if format == TimestampFormat::Sql { b' ' } else { b'T' };
    if b.get(len) != Some(&separator) {
        return None;
    }
    let time = b.get(len + 1..)?;
    let (nanos, time_len) = time_prefix(time, format == TimestampFormat::Iso8601)?;
    let rest = time.get(time_len..)?;
    (rest == if zoned { b"Z".as_slice() } else { b"" }).then_some(())?;
    raw_timestamp(i64::from(days), nanos, precision)
}

/// A timestamp in the unit of its precision, cut to it; `None` if it has no place in 64 bits.
pub(crate) fn raw_timestamp(days: i64, nanos: i64, precision: u8) -> Option<i64> {
    let unit = 10_i64.pow(9 - u32::from(precision.min(9)));
    let nanos = nanos / unit * unit;
    if precision <= 6 {
        days.checked_mul(NANOS_PER_DAY / 1000)?.checked_add(nanos / 1000)
    } else {
        days.checked_mul(NANOS_PER_DAY)?.checked_add(nanos)
    }
}

#[inline]
fn push_padded(out: &mut Vec<u8>, value: i64, width: usize) {
    let digit = |unit: i64| b'0' + (value / unit % 10) as u8;
    match (width, value) {
        (2, 0..=99) => return out.extend_from_slice(&[digit(10), digit(1)]),
        (3, 0..=999) => return out.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        (4, 0..=9999) => return out.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]),
        _ => {}
    }
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend_from_slice(text);
}

pub(crate) fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = civil_from_days(days);
    match year {
        ..0 => out.push(b'-'),
        0..=9999 => {}
        _ => out.push(b'+'),
    }
    push_padded(out, year.abs(), 4);
    out.push(b'-');
    push_padded(out, i64::from(month), 2);
    out.push(b'-');
    push_padded(out, i64::from(day), 2);
}

/// `HH:mm:ss` and the fraction without trailing zeros.
fn write_nanos_of_day(out: &mut Vec<u8>, nanos: i64) {
    let (seconds, mut fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    push_padded(out, seconds / 3600, 2);
    out.push(b':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_padded(out, seconds % 60, 2);
    if fraction > 0 {
        out.push(b'.');
        let mut width = 9;
        if fraction % 1_000_000 == 0 {
            (fraction, width) = (fraction / 1_000_000, 3);
        }
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        push_padded(out, fraction, width);
    }
}

/// TIME with the digits that its precision admits.
pub(crate) fn write_time(out: &mut Vec<u8>, millis: i32, precision: u8) {
    let millis = i64::from(truncate_millis(millis, precision)).rem_euclid(MILLIS_PER_DAY);
    write_nanos_of_day(out, millis * 1_000_000);
}

/// A raw timestamp in microseconds or (`nanos`) nanoseconds.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, raw: i64, nanos: bool, format: TimestampFormat, zoned: bool) {
    let per_day = if nanos { NANOS_PER_DAY } else { NANOS_PER_DAY / 1000 };
    write_date(out, raw.div_euclid(per_day));
    out.push(if format == TimestampFormat::Sql { b' ' } else { b'T' });
    write_nanos_of_day(out, raw.rem_euclid(per_day) * if nanos { 1 } else { 1000 });
    if zoned {
        out.push(b'Z');
    }
}

/// What a text is as a DECIMAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decimal {
    /// Unscaled.
    Value(i128),
    /// Does not fit the precision: NULL in Flink (`DecimalData.fromBigDecimal`).
    Overflow,
    Invalid,
}

/// Reads a decimal as Java's `BigDecimal` does and rounds it half-up to the scale.
pub(crate) fn parse_decimal(b: &[u8], precision: u8, scale: u8) -> Decimal {
    let Some(parts) = DecimalParts::parse(b) else { return Decimal::Invalid };
    parts.round(precision, scale).map_or(Decimal::Overflow, Decimal::Value)
}

/// `mantissa × 10^exponent`; the mantissa has the first 38 significant digits, `rest` is the digit behind them.
struct DecimalParts {
    negative: bool,
    mantissa: i128,
    exponent: i64,
    rest: u8,
}

impl DecimalParts {
    fn parse(b: &[u8]) -> Option<Self> {
        let (negative, mut at) = match b.first()? {
            b'-' => (true, 1),
            b'+' => (false, 1),
            _ => (false, 0),
        };
        let mut parts = Self { negative, mantissa: 0, exponent: 0, rest: 0 };
        let (mut significant, mut any, mut fraction) = (0, false, false);
        while let Some(c) = b.get(at) {
            match c {
                b'0'..=b'9' => {
                    any = true;
                    if significant < 38 {
                        parts.mantissa = parts.mantissa * 10 + i128::from(c - b'0');
                        significant += usize::from(parts.mantissa != 0);
                        parts.exponent -= i64::from(fraction);
                    } else {
                        if significant == 38 {
                            parts.rest = c - b'0';
                        }
                        significant += 1;
                        parts.exponent += i64::from(!fraction);
                    }
                }
                b'.' if !fraction => fraction = true,
                b'e' | b'E' => break,
                _ => return None,
            }
            at += 1;
        }
        if !any {
            return None;
        }
        if at < b.len() {
            let text = std::str::from_utf8(b.get(at + 1..)?).ok()?;
            parts.exponent = parts.exponent.checked_add(i64::from(text.parse::<i32>().ok()?))?;
        }
        Some(parts)
    }

    fn round(&self, precision: u8, scale: u8) -> Option<i128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        let shift = self.exponent + i64::from(scale);
        let magnitude = match shift {
            0 => self.mantissa + i128::from(self.rest >= 5),
            1..=38 => self.mantissa.checked_mul(10_i128.pow(shift as u32))?,
            -38..=-1 => {
                let unit = 10_i128.pow(-shift as u32);
                self.mantissa / unit + i128::from(self.mantissa % unit >= unit / 2)
            }
            39.. => return None,
            _ => 0,
        };
        (magnitude < 10_i128.pow(u32::from(precision.min(38)))).then_some(if self.negative { -magnitude } else { magnitude })
    }
}

/// A decimal of one scale as one of another, rounded half-up; `None` if it does not fit the precision.
pub(crate) fn rescale(unscaled: i128, from: u8, precision: u8, scale: u8) -> Option<i128> {
    let mantissa = i128::try_from(unscaled.unsigned_abs()).ok()?;
    DecimalParts { negative: unscaled < 0, mantissa, exponent: -i64::from(from), rest: 0 }.round(precision, scale)
}

/// `BigDecimal.toPlainString`: all digits of the scale.
pub(crate) fn write_decimal_plain(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(unscaled.unsigned_abs()).as_bytes();
    if unscaled < 0 {
        out.push(b'-');
    }
    let scale = usize::from(scale);
    if scale == 0 {
        return out.extend_from_slice(text);
    }
    let point = text.len().saturating_sub(scale);
    if point == 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', scale - text.len()));
    } else {
        out.extend_from_slice(&text[..point]);
        out.push(b'.');
    }
    out.extend_from_slice(&text[point..]);
}

/// `BigDecimal.toString`: `1E+2`, `2.7E-8`. A negative scale stands for trailing zeros.
pub(crate) fn write_decimal_java(out: &mut Vec<u8>, unscaled: i128, scale: i32) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(unscaled.unsigned_abs()).as_bytes();
    let adjusted = text.len() as i32 - 1 - scale;
    if scale >= 0 && adjusted >= -6 {
        return write_decimal_plain(out, unscaled, scale as u8);
    }
    if unscaled < 0 {
        out.push(b'-');
    }
    out.push(text[0]);
    if text.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&text[1..]);
    }
    out.extend_from_slice(if adjusted < 0 { b"E-" } else { b"E+" });
    push_padded(out, i64::from(adjusted.abs()), 1);
}

/// `BigDecimal.stripTrailingZeros().toString()`, as Jackson writes decimals of Flink's JSON format.
pub(crate) fn write_decimal_stripped(out: &mut Vec<u8>, mut unscaled: i128, scale: u8) {
    let mut scale = i32::from(scale);
    if unscaled == 0 {
        return out.push(b'0');
    }
    while unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    write_decimal_java(out, unscaled, scale);
}

/// `Double.toString`: `1.0`, `1.0E20`, `1.0E-5`, `NaN`, `Infinity`.
pub(crate) fn write_double(out: &mut Vec<u8>, value: f64) {
    let mut buffer = ryu::Buffer::new();
    match special(value) {
        Some(text) => out.extend_from_slice(text),
        None => write_java_float(out, buffer.format_finite(value).as_bytes()),
    }
}

/// `Float.toString`.
pub(crate) fn write_float(out: &mut Vec<u8>, value: f32) {
    let mut buffer = ryu::Buffer::new();
    match special(f64::from(value)) {
        Some(text) => out.extend_from_slice(text),
        None => write_java_float(out, buffer.format_finite(value).as_bytes()),
    }
}

fn special(value: f64) -> Option<&'static [u8]> {
    if value.is_finite() {
        return None;
    }
    Some(if value.is_nan() {
        b"NaN"
    } else if value > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    })
}

/// Java's layout of the shortest digits that ryu found (`1.5`, `1e20`, `1.5e-7`).
fn write_java_float(out: &mut Vec<u8>, ryu: &[u8]) {
    let (mut digits, mut count, mut exponent, mut seen_point) = ([0_u8; 32], 0, 0_i32, false);
    let (negative, body) = match ryu {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let (mantissa, power) = match body.iter().position(|c| *c == b'e') {
        Some(at) => (&body[..at], std::str::from_utf8(&body[at + 1..]).ok().and_then(|t| t.parse().ok()).unwrap_or(0)),
        None => (body, 0),
    };
    // value = 0.d1d2d3… × 10^exponent
    for c in mantissa {
        match c {
            b'.' => seen_point = true,
            b'0' if count == 0 => exponent -= i32::from(seen_point),
            _ => {
                digits[count] = *c;
                count += 1;
                exponent += i32::from(!seen_point);
            }
        }
    }
    while count > 0 && digits[count - 1] == b'0' {
        count -= 1;
    }
    if negative {
        out.push(b'-');
    }
    if count == 0 {
        return out.extend_from_slice(b"0.0");
    }
    exponent += power;
    let digits = &digits[..count];
    if (-2..=7).contains(&exponent) {
        let whole = exponent.max(0) as usize;
        let fraction = |out: &mut Vec<u8>, rest: &[u8]| if rest.is_empty() { out.push(b'0') } else { out.extend_from_slice(rest) };
        if exponent <= 0 {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', (-exponent) as usize));
            out.extend_from_slice(digits);
        } else if count <= whole {
            out.extend_from_slice(digits);
            out.extend(std::iter::repeat_n(b'0', whole - count));
            out.extend_from_slice(b".0");
        } else {
            out.extend_from_slice(&digits[..whole]);
            out.push(b'.');
            fraction(out, &digits[whole..]);
        }
    } else {
        out.push(digits[0]);
        out.push(b'.');
        out.extend_from_slice(if count > 1 { &digits[1..] } else { b"0" });
        out.push(b'E');
        let mut buffer = itoa::Buffer::new();
        out.extend_from_slice(buffer.format(exponent - 1).as_bytes());
    }
}

/// Reads a number as Java's `Double.parseDouble` does, without its hexadecimal form.
pub(crate) fn parse_float<T: std::str::FromStr>(b: &[u8]) -> Option<T> {
    let numeric = |b: &[u8]| b.iter().all(|c| matches!(c, b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E'));
    let b = match b {
        b"NaN" | b"Infinity" | b"-Infinity" => b,
        b"+Infinity" => b"Infinity",
        b"+NaN" | b"-NaN" => b"NaN",
        // Java's type suffixes
        [number @ .., b'd' | b'D' | b'f' | b'F'] if numeric(number) => number,
        _ if numeric(b) => b,
        _ => return None,
    };
    std::str::from_utf8(b).ok()?.parse().ok()
}

/// Reads an integer as Java's `parseLong` does.
pub(crate) fn parse_integer(b: &[u8]) -> Option<i64> {
    std::str::from_utf8(b).ok()?.parse().ok()
}

/// `String.trim`: everything up to the space at both ends.
pub(crate) fn trim(mut b: &[u8]) -> &[u8] {
    while let [0..=b' ', rest @ ..] = b {
        b = rest;
    }
    while let [rest @ .., 0..=b' '] = b {
        b = rest;
    }
    b
}

/// The range of an integer type.
pub(crate) fn integer_range(kind: &TypeKind) -> (i64, i64) {
    match kind {
        TypeKind::TinyInt => (i64::from(i8::MIN), i64::from(i8::MAX)),
        TypeKind::SmallInt => (i64::from(i16::MIN), i64::from(i16::MAX)),
        TypeKind::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}
