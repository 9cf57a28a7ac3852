//! `print`: rows on standard output as Flink prints them: `+I[1, a, 2020-01-01T00:00]`.

use std::fmt::Write as _;
use std::io::Write as _;

use chrono::{DateTime, NaiveDateTime, NaiveTime, Timelike};
use sluice_batch::datum::from_array;
use sluice_batch::{Batch, Datum, Error, Result, SqlType, TypeKind};
use sluice_format::ChangelogMode;

use crate::options::Options;
use crate::registry::SinkFactory;
use crate::{Sink, SinkInfo, TableSpec, Transactions};

pub(crate) const FACTORY: SinkFactory = SinkFactory { info, open };

fn read(table: &TableSpec) -> Result<(String, bool)> {
    let options = Options::new(table)?;
    let identifier = options.string("print-identifier").unwrap_or_default();
    let standard_error = options.flag("standard-error", false)?;
    options.finish()?;
    crate::columns::check_writable(table, &[])?;
    Ok((if identifier.is_empty() { String::new() } else { format!("{identifier}> ") }, standard_error))
}

fn info(table: &TableSpec) -> Result<SinkInfo> {
    read(table)?;
    Ok(SinkInfo { changelog: ChangelogMode::All, delete_by_key: false, guarantee: "none" })
}

fn open(table: &TableSpec, _time_zone: chrono_tz::Tz, _transactions: &Transactions) -> Result<Box<dyn Sink>> {
    let (prefix, standard_error) = read(table)?;
    let types = table.physical.iter().map(|f| f.ty.clone()).collect();
    Ok(Box::new(Print { prefix, standard_error, types, text: String::new() }))
}

struct Print {
    prefix: String,
    standard_error: bool,
    types: Vec<SqlType>,
    text: String,
}

impl Sink for Print {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.text.clear();
        for row in 0..batch.rows() {
            self.text.push_str(&self.prefix);
            self.text.push_str(batch.kind(row).symbol());
            self.text.push('[');
            for (i, (column, ty)) in batch.columns().iter().zip(&self.types).enumerate() {
                if i > 0 {
                    self.text.push_str(", ");
                }
                print(&mut self.text, &from_array(column, row, ty), ty);
            }
            self.text.push_str("]\n");
        }
        let written = match self.standard_error {
            true => std::io::stderr().write_all(self.text.as_bytes()),
            false => std::io::stdout().write_all(self.text.as_bytes()),
        };
        written.map_err(|e| Error::runtime(format!("cannot print: {e}")))
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        if self.standard_error {
            return Ok(());
        }
        std::io::stdout().flush().map_err(|e| Error::runtime(format!("cannot print: {e}")))
    }
}

/// A value as Java prints the object that Flink makes of it (`Row.toString`, `LocalDateTime`, `BigDecimal`, …).
fn print(out: &mut String, value: &Datum, ty: &SqlType) {
    // Writing to a String cannot fail.
    let _ = match (value, &ty.kind) {
        (Datum::Null, _) => write!(out, "null"),
        (Datum::Boolean(v), _) => write!(out, "{v}"),
        (Datum::TinyInt(v), _) => write!(out, "{v}"),
        (Datum::SmallInt(v), _) => write!(out, "{v}"),
        (Datum::Int(v) | Datum::IntervalYearMonth(v), _) => write!(out, "{v}"),
        (Datum::BigInt(v) | Datum::IntervalDayTime(v), _) => write!(out, "{v}"),
        (Datum::Float(v), _) => write!(out, "{}", java_number(f64::from(*v), &format!("{v:e}"))),
        (Datum::Double(v), _) => write!(out, "{}", java_number(*v, &format!("{v:e}"))),
        (Datum::Decimal(v), TypeKind::Decimal(p, s)) => write!(out, "{}", arrow_decimal(*v, *p, *s)),
        (Datum::String(s), _) => write!(out, "{s}"),
        (Datum::Bytes(b), _) => print_list(out, '[', b.iter(), ']', |out, b| {
            let _ = write!(out, "{}", **b as i8);
        }),
        (Datum::Date(days), _) => write!(out, "{}", date(*days)),
        (Datum::Time(ms), _) => write!(out, "{}", time(*ms)),
        (Datum::Timestamp(raw), TypeKind::Timestamp(p)) => write!(out, "{}", timestamp(*raw, *p, false)),
        (Datum::Timestamp(raw), TypeKind::TimestampLtz(p)) => write!(out, "{}", timestamp(*raw, *p, true)),
        (Datum::Array(a), TypeKind::Array(e)) => print_list(out, '[', a.iter(), ']', |out, v| print(out, v, e)),
        (Datum::Map(m), kind) => print_map(out, m, kind),
        (Datum::Row(r), TypeKind::Row(fields)) => {
            out.push_str("+I");
            print_list(out, '[', r.iter().zip(fields), ']', |out, (v, f)| print(out, v, &f.ty))
        }
        (other, _) => write!(out, "{other:?}"),
    };
}

fn print_map(out: &mut String, entries: &[(Datum, Datum)], kind: &TypeKind) -> std::fmt::Result {
    let count = TypeKind::Int.not_null();
    let (key, value) = match kind {
        TypeKind::Map(k, v) => (&**k, &**v),
        TypeKind::Multiset(e) => (&**e, &count),
        _ => (&count, &count),
    };
    print_list(out, '{', entries.iter(), '}', |out, (k, v)| {
        print(out, k, key);
        out.push('=');
        print(out, v, value);
    })
}

fn print_list<T>(
    out: &mut String,
    open: char,
    items: impl Iterator<Item = T>,
    close: char,
    item: impl Fn(&mut String, &T),
) -> std::fmt::Result {
    out.push(open);
    for (i, value) in items.enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        item(out, &value);
    }
    out.push(close);
    Ok(())
}

/// `BigDecimal.toString` keeps the scale and turns to exponents for small values (adjusted exponent below -6).
fn arrow_decimal(unscaled: i128, _precision: u8, scale: u8) -> String {
    let digits = unscaled.unsigned_abs().to_string();
    let sign = if unscaled < 0 { "-" } else { "" };
    let adjusted = digits.len() as i32 - 1 - i32::from(scale);
    if adjusted < -6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{point}{rest}E{adjusted}");
    }
    let scale = usize::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// `Double.toString`: plain between 1e-3 and 1e7, else `d.dE±n`. `scientific` is the shortest form of the value, `1.5e7`.
fn java_number(value: f64, scientific: &str) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0.0".into() } else { "0.0".into() };
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let text = match exponent {
        -3..0 => format!("0.{}{digits}", "0".repeat(-exponent as usize - 1)),
        0..7 => {
            let whole = exponent as usize + 1;
            let digits = format!("{digits:0<width$}", width = whole + 1);
            format!("{}.{}", &digits[..whole], &digits[whole..])
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            format!("{first}.{}E{exponent}", if rest.is_empty() { "0" } else { rest })
        }
    };
    format!("{sign}{text}")
}

fn date(days: i32) -> String {
    let at = DateTime::from_timestamp(i64::from(days) * 86_400, 0);
    at.map_or_else(|| days.to_string(), |at| at.format("%Y-%m-%d").to_string())
}

/// `LocalTime.toString`: `10:00`, `10:00:01`, `10:00:01.500`.
fn time(ms: i32) -> String {
    let at = NaiveTime::from_num_seconds_from_midnight_opt((ms / 1000) as u32, (ms % 1000) as u32 * 1_000_000);
    at.map_or_else(|| ms.to_string(), |at| local_time(at, false))
}

fn local_time(at: NaiveTime, seconds: bool) -> String {
    let nanos = at.nanosecond();
    let fraction = match nanos {
        0 => String::new(),
        n if n % 1_000_000 == 0 => format!(".{:03}", n / 1_000_000),
        n if n % 1_000 == 0 => format!(".{:06}", n / 1_000),
        n => format!(".{n:09}"),
    };
    match at.second() {
        0 if fraction.is_empty() && !seconds => at.format("%H:%M").to_string(),
        _ => format!("{}{fraction}", at.format("%H:%M:%S")),
    }
}

/// `LocalDateTime.toString`, or `Instant.toString` (which always has seconds, and a Z).
fn timestamp(raw: i64, precision: u8, instant: bool) -> String {
    let per_second = if precision <= 6 { 1_000_000 } else { 1_000_000_000 };
    let nanos = raw.rem_euclid(per_second) * (1_000_000_000 / per_second);
    let at = DateTime::from_timestamp(raw.div_euclid(per_second), nanos as u32).map(|at| at.naive_utc());
    let text =
        |at: NaiveDateTime| format!("{}T{}{}", at.format("%Y-%m-%d"), local_time(at.time(), instant), if instant { "Z" } else { "" });
    at.map_or_else(|| raw.to_string(), text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use sluice_batch::Field;

    use super::*;

    #[test]
    fn values_print_as_in_java() {
        let row = TypeKind::Row(vec![Field::new("a", TypeKind::Int.nullable())]);
        let map = TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::Int.nullable()));
        let cases: Vec<(Datum, TypeKind, &str)> = vec![
            (Datum::Null, TypeKind::Int, "null"),
            (Datum::Boolean(true), TypeKind::Boolean, "true"),
            (Datum::Double(1e7), TypeKind::Double, "1.0E7"),
            (Datum::Double(-123456.75), TypeKind::Double, "-123456.75"),
            (Datum::Double(100.0), TypeKind::Double, "100.0"),
            (Datum::Double(0.001), TypeKind::Double, "0.001"),
            (Datum::Double(0.00012), TypeKind::Double, "1.2E-4"),
            (Datum::Float(0.1), TypeKind::Float, "0.1"),
            (Datum::Decimal(12345), TypeKind::Decimal(10, 2), "123.45"),
            (Datum::Decimal(-5), TypeKind::Decimal(10, 2), "-0.05"),
            (Datum::Decimal(27), TypeKind::Decimal(10, 9), "2.7E-8"),
            (Datum::Bytes(Arc::from(&b"\x01\xff"[..])), TypeKind::BYTES, "[1, -1]"),
            (Datum::Date(18262), TypeKind::Date, "2020-01-01"),
            (Datum::Time(36_000_000), TypeKind::Time(0), "10:00"),
            (Datum::Time(36_001_500), TypeKind::Time(3), "10:00:01.500"),
            (Datum::Timestamp(1_577_836_800_000_000), TypeKind::Timestamp(3), "2020-01-01T00:00"),
            (Datum::Timestamp(-1), TypeKind::Timestamp(6), "1969-12-31T23:59:59.999999"),
            (Datum::Timestamp(1_577_836_800_000_000), TypeKind::TimestampLtz(3), "2020-01-01T00:00:00Z"),
            (Datum::Array(Arc::from([Datum::Int(1), Datum::Null])), TypeKind::Array(Box::new(TypeKind::Int.nullable())), "[1, null]"),
            (Datum::Map(Arc::from([(Datum::string("k"), Datum::Int(1))])), map, "{k=1}"),
            (Datum::Row(Arc::from([Datum::Int(1)])), row, "+I[1]"),
        ];
        for (value, kind, expected) in cases {
            let mut text = String::new();
            print(&mut text, &value, &kind.nullable());
            assert_eq!(text, expected);
        }
    }
}
