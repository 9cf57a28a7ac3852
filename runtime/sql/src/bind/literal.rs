//! Literals: text to typed constants, by Calcite's rules.

use std::sync::Arc;

use sluice_batch::{Datum, Error, Expr, Result, Span, TypeKind, calendar};

use crate::ast::Literal;

/// The constant that a literal stands for. A symbol (`EXTRACT(YEAR …)`) is a NULL; the call carries its name.
///
/// # Errors
/// If the text is no value of its type.
pub(super) fn bind(literal: &Literal, span: Span) -> Result<Expr> {
    Ok(match literal {
        Literal::Null | Literal::Symbol(_) => Expr::null(TypeKind::Null.nullable()),
        Literal::Boolean(b) => Expr::boolean(*b),
        Literal::Number(text) => number(text).ok_or_else(|| Error::plan(format!("Numeric literal '{text}' out of range")).at(span))?,
        Literal::Approximate(text) => {
            let value = text.parse::<f64>().map_err(|_| Error::plan(format!("'{text}' is not a number")).at(span))?;
            Expr::literal(Datum::Double(value), TypeKind::Double.not_null())
        }
        Literal::String(s) => Expr::literal(Datum::string(s), TypeKind::Char(s.chars().count() as u32).not_null()),
        Literal::Bytes(b) => Expr::literal(Datum::Bytes(Arc::from(b.as_slice())), TypeKind::Binary(b.len() as u32).not_null()),
        Literal::Date(text) => {
            let days = parse_date(text.trim()).ok_or_else(|| illegal("DATE", text, "yyyy-MM-dd", span))?;
            Expr::literal(Datum::Date(days), TypeKind::Date.not_null())
        }
        Literal::Time(text) => {
            let (nanos, digits) = parse_time(text.trim()).ok_or_else(|| illegal("TIME", text, "HH:mm:ss", span))?;
            Expr::literal(Datum::Time((nanos / 1_000_000) as i32), TypeKind::Time(digits).not_null())
        }
        Literal::Timestamp(text) => timestamp(text.trim()).ok_or_else(|| illegal("TIMESTAMP", text, "yyyy-MM-dd HH:mm:ss", span))?,
        Literal::IntervalYearMonth(months) => Expr::literal(Datum::IntervalYearMonth(*months), TypeKind::IntervalYearMonth.not_null()),
        Literal::IntervalDayTime(millis) => Expr::literal(Datum::IntervalDayTime(*millis), TypeKind::IntervalDayTime.not_null()),
    })
}

fn illegal(ty: &str, text: &str, pattern: &str, span: Span) -> Error {
    Error::plan(format!("Illegal {ty} literal '{text}': not in format '{pattern}'")).at(span)
}

/// INT, else BIGINT, else DECIMAL; with a point DECIMAL of the digits written.
fn number(text: &str) -> Option<Expr> {
    let Some((whole, fraction)) = text.split_once('.') else {
        if let Ok(v) = text.parse::<i32>() {
            return Some(Expr::literal(Datum::Int(v), TypeKind::Int.not_null()));
        }
        if let Ok(v) = text.parse::<i64>() {
            return Some(Expr::literal(Datum::BigInt(v), TypeKind::BigInt.not_null()));
        }
        return decimal(text, 0);
    };
    decimal(&format!("{whole}{fraction}"), fraction.len())
}

fn decimal(digits: &str, scale: usize) -> Option<Expr> {
    let significant = digits.trim_start_matches('0').len().max(scale).max(1);
    let precision = if scale == 0 { significant } else { digits.len().min(38).max(significant) };
    let value = digits.parse::<i128>().ok()?;
    (precision <= 38).then(|| Expr::literal(Datum::Decimal(value), TypeKind::Decimal(precision as u8, scale as u8).not_null()))
}

fn timestamp(text: &str) -> Option<Expr> {
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let days = i64::from(parse_date(date)?);
    let (nanos, digits) = parse_time(time.trim())?;
    let value = if digits <= 6 {
        days.checked_mul(86_400_000_000)?.checked_add(nanos / 1000)?
    } else {
        days.checked_mul(86_400_000_000_000)?.checked_add(nanos)?
    };
    Some(Expr::literal(Datum::Timestamp(value), TypeKind::Timestamp(digits).not_null()))
}

/// Days since the epoch.
fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let (y, m, d) = (parts.next()?, parts.next()?, parts.next()?);
    let (y, m, d) = (y.parse::<i64>().ok()?, m.parse::<u32>().ok()?, d.parse::<u32>().ok()?);
    if (0..=9999).contains(&y) { calendar::valid_date(y, m, d) } else { None }
}

/// Nanoseconds of the day, and how many digits of a second were written.
fn parse_time(text: &str) -> Option<(i64, u8)> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':');
    let (h, m, s) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    let (h, m, s) = (h.parse::<i64>().ok()?, m.parse::<i64>().ok()?, s.parse::<i64>().ok()?);
    if !(0..24).contains(&h) || !(0..60).contains(&m) || !(0..60).contains(&s) || fraction.len() > 9 {
        return None;
    }
    let nanos = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse::<i64>().ok()? };
    Some((((h * 60 + m) * 60 + s) * 1_000_000_000 + nanos, fraction.len() as u8))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn types_and_values() {
        let cases: &[(Literal, &str, Datum)] = &[
            (Literal::Number("12".into()), "INT NOT NULL", Datum::Int(12)),
            (Literal::Number("2147483648".into()), "BIGINT NOT NULL", Datum::BigInt(2_147_483_648)),
            (Literal::Number("9223372036854775808".into()), "DECIMAL(19, 0) NOT NULL", Datum::Decimal(9_223_372_036_854_775_808)),
            (Literal::Number("12.50".into()), "DECIMAL(4, 2) NOT NULL", Datum::Decimal(1250)),
            (Literal::Number("0.5".into()), "DECIMAL(2, 1) NOT NULL", Datum::Decimal(5)),
            (Literal::Number(".25".into()), "DECIMAL(2, 2) NOT NULL", Datum::Decimal(25)),
            (Literal::Approximate("1E3".into()), "DOUBLE NOT NULL", Datum::Double(1000.0)),
            (Literal::String("ab".into()), "CHAR(2) NOT NULL", Datum::string("ab")),
            (Literal::Date("1970-03-01".into()), "DATE NOT NULL", Datum::Date(59)),
            (Literal::Date("2000-02-29".into()), "DATE NOT NULL", Datum::Date(11016)),
            (Literal::Time("01:00:00.5".into()), "TIME(1) NOT NULL", Datum::Time(3_600_500)),
            (Literal::Timestamp("1970-01-02 00:00:01".into()), "TIMESTAMP(0) NOT NULL", Datum::Timestamp(86_401_000_000)),
            (Literal::Timestamp("1970-01-01 00:00:00.123".into()), "TIMESTAMP(3) NOT NULL", Datum::Timestamp(123_000)),
            (Literal::Timestamp("1969-12-31 23:59:59.1234567".into()), "TIMESTAMP(7) NOT NULL", Datum::Timestamp(-876_543_300)),
        ];
        for (literal, ty, value) in cases {
            let e = bind(literal, Span::NONE).unwrap();
            assert_eq!((e.ty.to_string().as_str(), e.as_literal()), (*ty, Some(value)), "{literal:?}");
        }
        for bad in [Literal::Date("2001-02-29".into()), Literal::Date("x".into()), Literal::Timestamp("2001-01-01 25:00:00".into())] {
            assert!(bind(&bad, Span::NONE).is_err(), "{bad:?}");
        }
    }
}
