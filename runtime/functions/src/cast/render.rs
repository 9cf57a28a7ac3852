//! Values as text, exactly as Flink (and so Java) prints them. All append to a buffer; none allocates.

use std::fmt::Write;

use crate::calendar::{SECONDS_PER_DAY, civil_from_days, pow10, split};

/// Two digits.
pub fn push_2(out: &mut String, v: u32) {
    out.push(char::from(b'0' + (v / 10 % 10) as u8));
    out.push(char::from(b'0' + (v % 10) as u8));
}

/// `digits` digits with leading zeros.
pub fn push_padded(out: &mut String, value: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value);
    for _ in text.len()..digits {
        out.push('0');
    }
    out.push_str(text);
}

pub fn push_int(out: &mut String, value: i64) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// A year of at least four digits; negative ones keep their sign.
fn push_year(out: &mut String, year: i64) {
    if year < 0 {
        out.push('-');
    }
    push_padded(out, year.unsigned_abs(), 4);
}

/// `yyyy-MM-dd`.
pub fn push_date(out: &mut String, days: i64) {
    let (year, month, day) = civil_from_days(days);
    push_year(out, year);
    out.push('-');
    push_2(out, month);
    out.push('-');
    push_2(out, day);
}

/// `HH:mm:ss`.
pub fn push_clock(out: &mut String, second_of_day: u32) {
    push_2(out, second_of_day / 3600);
    out.push(':');
    push_2(out, second_of_day / 60 % 60);
    out.push(':');
    push_2(out, second_of_day % 60);
}

/// A TIME in milliseconds: `HH:mm:ss[.fff]`, the fraction without trailing zeros but of one digit at least when
/// `precision` > 0 (Flink: `DateTimeUtils.formatTimestampMillis`).
pub fn push_time(out: &mut String, millis: i32, precision: u8) {
    let millis = millis.rem_euclid(86_400_000) as u32;
    push_clock(out, millis / 1000);
    if precision > 0 {
        out.push('.');
        let mut rest = millis % 1000;
        for _ in 0..precision {
            out.push(char::from(b'0' + (rest / 100) as u8));
            rest = rest % 100 * 10;
            if rest == 0 {
                break;
            }
        }
    }
}

/// A raw TIMESTAMP: `yyyy-MM-dd HH:mm:ss[.f…]` with exactly `precision` digits.
pub fn push_timestamp(out: &mut String, raw: i64, precision: u8) {
    let (seconds, nanos) = split(raw, precision);
    push_date(out, seconds.div_euclid(SECONDS_PER_DAY));
    out.push(' ');
    push_clock(out, seconds.rem_euclid(SECONDS_PER_DAY) as u32);
    if precision > 0 {
        out.push('.');
        push_padded(out, u64::from(nanos) / pow10(9 - precision.min(9)) as u64, usize::from(precision));
    }
}

/// `+2-06`: years and months.
pub fn push_year_month(out: &mut String, months: i32) {
    out.push(if months < 0 { '-' } else { '+' });
    let months = months.unsigned_abs();
    push_int(out, i64::from(months / 12));
    out.push('-');
    push_2(out, months % 12);
}

/// `+1 02:03:04.005`: days and time.
pub fn push_day_time(out: &mut String, millis: i64) {
    out.push(if millis < 0 { '-' } else { '+' });
    let millis = millis.unsigned_abs();
    push_padded(out, millis / 86_400_000, 1);
    out.push(' ');
    push_clock(out, (millis / 1000 % 86_400) as u32);
    out.push('.');
    push_padded(out, millis % 1000, 3);
}

/// A decimal with all its fractional digits, never with an exponent (Java: `BigDecimal.toPlainString`).
pub fn push_decimal(out: &mut String, unscaled: i128, scale: u8) {
    if unscaled < 0 {
        out.push('-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs());
    let scale = usize::from(scale);
    if scale == 0 {
        out.push_str(digits);
        return;
    }
    if digits.len() <= scale {
        out.push_str("0.");
        (digits.len()..scale).for_each(|_| out.push('0'));
        out.push_str(digits);
    } else {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    }
}

/// Java's `Double.toString`: `1.0`, `1.0E7`, `1.0E-5`, `NaN`, `Infinity`.
pub fn push_double(out: &mut String, value: f64) {
    if value.is_finite() {
        push_java(out, ryu::Buffer::new().format_finite(value), value == 0.0 || (1e-3..1e7).contains(&value.abs()));
    } else {
        push_non_finite(out, value);
    }
}

/// Java's `Float.toString`.
pub fn push_float(out: &mut String, value: f32) {
    if value.is_finite() {
        push_java(out, ryu::Buffer::new().format_finite(value), value == 0.0 || (1e-3..1e7).contains(&value.abs()));
    } else {
        push_non_finite(out, f64::from(value));
    }
}

fn push_non_finite(out: &mut String, value: f64) {
    out.push_str(if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    });
}

/// Brings the shortest digits (`1.5`, `1e21`, `1.2e-7`) to Java's layout: plain, or one digit before the point and `E`.
fn push_java(out: &mut String, shortest: &str, plain: bool) {
    let unsigned = shortest.strip_prefix('-').unwrap_or(shortest);
    if unsigned.len() < shortest.len() {
        out.push('-');
    }
    let (mantissa, exponent) = unsigned.split_once('e').map_or((unsigned, 0), |(m, e)| (m, e.parse::<i32>().unwrap_or(0)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if plain && exponent == 0 {
        let _ = write!(out, "{whole}.{}", if fraction.is_empty() { "0" } else { fraction });
        return;
    }
    // All significant digits without leading and trailing zeros; the point stands behind `point` of them.
    let digits = || whole.bytes().chain(fraction.bytes());
    let leading = digits().take_while(|b| *b == b'0').count();
    let total = whole.len() + fraction.len();
    let trailing = digits().rev().take_while(|b| *b == b'0').count();
    let kept = total.saturating_sub(leading + trailing).max(1);
    let significant = move || digits().skip(leading).take(kept).map(char::from);
    let point = whole.len() as i32 - leading as i32 + exponent;
    if plain {
        if point <= 0 {
            out.push_str("0.");
            (point..0).for_each(|_| out.push('0'));
            out.extend(significant());
        } else {
            let point = point as usize;
            out.extend(significant().chain(std::iter::repeat('0')).take(point));
            out.push('.');
            if kept > point { out.extend(significant().skip(point)) } else { out.push('0') }
        }
        return;
    }
    let mut rest = significant();
    out.extend(rest.next());
    out.push('.');
    if kept > 1 {
        out.extend(rest)
    } else {
        out.push('0')
    }
    let _ = write!(out, "E{}", point - 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        f(&mut out);
        out
    }

    #[test]
    fn doubles_as_java() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (9_999_999.0, "9999999.0"),
            (0.001, "0.001"),
            (0.00012, "1.2E-4"),
            (1e-5, "1.0E-5"),
            (-1.5e300, "-1.5E300"),
            (1e20, "1.0E20"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(|o| push_double(o, value)), expected);
        }
        assert_eq!(text(|o| push_float(o, 123.456)), "123.456");
        assert_eq!(text(|o| push_float(o, 1e10)), "1.0E10");
        assert_eq!(text(|o| push_float(o, 3.4e-5)), "3.4E-5");
    }

    #[test]
    fn decimals() {
        let cases = [(9870, 3, "9.870"), (-5, 3, "-0.005"), (0, 2, "0.00"), (123, 0, "123"), (-12345, 2, "-123.45")];
        for (value, scale, expected) in cases {
            assert_eq!(text(|o| push_decimal(o, value, scale)), expected);
        }
    }

    #[test]
    fn times() {
        assert_eq!(text(|o| push_time(o, 45_296_123, 5)), "12:34:56.123");
        assert_eq!(text(|o| push_time(o, 45_296_100, 3)), "12:34:56.1");
        assert_eq!(text(|o| push_time(o, 45_296_000, 0)), "12:34:56");
        assert_eq!(text(|o| push_timestamp(o, 1_632_486_896_100_000, 3)), "2021-09-24 12:34:56.100");
        assert_eq!(text(|o| push_timestamp(o, 1_632_486_896_123_456_789, 9)), "2021-09-24 12:34:56.123456789");
        assert_eq!(text(|o| push_timestamp(o, -1, 6)), "1969-12-31 23:59:59.999999");
        assert_eq!(text(|o| push_year_month(o, -30)), "-2-06");
        assert_eq!(text(|o| push_day_time(o, 93_784_005)), "+1 02:03:04.005");
    }
}
