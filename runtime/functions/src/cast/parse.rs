//! Values from text by the rules of Flink's CAST. `None` means that the text is not a value of the type.

use crate::calendar::{SECONDS_PER_DAY, days_from_civil, days_in_month, join};

/// Java's `String.trim` of Flink's binary strings: blanks only.
fn trim(text: &str) -> &str {
    text.trim_matches(' ')
}

/// An integer within `min..=max`. A fraction of digits is cut (`3.9` is 3); blanks around are skipped.
pub fn integer(text: &str, min: i64, max: i64) -> Option<i64> {
    let text = trim(text).as_bytes();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    let mut digits = digits.iter();
    for b in digits.by_ref() {
        match b {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_sub(i64::from(b - b'0'))?,
            b'.' => break,
            _ => return None,
        }
    }
    if !digits.all(u8::is_ascii_digit) {
        return None;
    }
    let value = if negative { value } else { value.checked_neg()? };
    (min..=max).contains(&value).then_some(value)
}

/// The text of a floating point number as Java's `Double.parseDouble` takes it, made ready for Rust's parser.
fn java_float(text: &str) -> Option<&str> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, "NaN" | "Infinity") {
        return Some(text);
    }
    if !unsigned.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')).then_some(text)
}

pub fn double(text: &str) -> Option<f64> {
    java_float(text)?.parse().ok()
}

pub fn float(text: &str) -> Option<f32> {
    java_float(text)?.parse().ok()
}

/// A decimal of the precision and scale, rounded half up. `None` if it is no number or has too many digits.
pub fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let text = text.trim_matches([' ', '\n', '\t']).as_bytes();
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let end = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(end);
    let exponent: i64 = match exponent {
        [] => 0,
        [_, digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
    };
    let mut point = None;
    for (i, b) in mantissa.iter().enumerate() {
        match b {
            b'0'..=b'9' => {}
            b'.' if point.is_none() => point = Some(i),
            _ => return None,
        }
    }
    let count = mantissa.len() - usize::from(point.is_some());
    if count == 0 {
        return None;
    }
    let whole = point.unwrap_or(mantissa.len()) as i64;
    // So many leading digits stand before the last digit kept; the one behind decides about rounding.
    let kept = whole.checked_add(exponent)?.checked_add(i64::from(scale))?;
    let mut value: i128 = 0;
    let mut digits = mantissa.iter().filter(|b| **b != b'.').map(|b| i128::from(b - b'0'));
    for _ in 0..kept.clamp(0, count as i64) {
        value = value.checked_mul(10)?.checked_add(digits.next()?)?;
    }
    if value != 0 {
        for _ in count as i64..kept {
            value = value.checked_mul(10)?;
        }
    }
    if kept >= 0 && digits.next().is_some_and(|d| d >= 5) {
        value += 1;
    }
    (value < 10_i128.pow(u32::from(precision))).then_some(if negative { -value } else { value })
}

/// TRUE, T, YES, Y, 1 and their opposites in any case.
pub fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|w| w.eq_ignore_ascii_case(text));
    if is(["t", "true", "y", "yes", "1"]) { Some(true) } else { is(["f", "false", "n", "no", "0"]).then_some(false) }
}

fn digits(text: &str) -> Option<u32> {
    let text = text.trim_matches(|c: char| c <= ' ');
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `y`, `y-m`, `y-m-d`, anything behind a blank ignored: days since the epoch (Flink: `DateTimeUtils.parseDate`).
pub fn date(text: &str) -> Option<i32> {
    let text = match text.find(' ') {
        Some(at) if at > 0 => &text[..at],
        _ => text,
    };
    let mut parts = text.splitn(3, '-');
    let year = digits(parts.next()?)?;
    let month = parts.next().map_or(Some(1), digits)?;
    let day = parts.next().map_or(Some(1), digits)?;
    let valid = year <= 9999 && (1..=12).contains(&month) && day >= 1 && day <= days_in_month(i64::from(year), month);
    valid.then(|| days_from_civil(i64::from(year), month, day) as i32)
}

/// `H[:m[:s[.fff]]][±h[:m]]` in milliseconds, cut to the precision (Flink: `DateTimeUtils.parseTime`).
pub fn time(text: &str, precision: u8) -> Option<i32> {
    let (sign, zone_at) = match (text.find('-'), text.find('+')) {
        (Some(at), _) => (-1, Some(at)),
        (None, at) => (1, at),
    };
    let (clock, zone) = zone_at.map_or((text, ""), |at| (&text[..at], &text[at + 1..]));
    let (zone_hour, zone_minute) = match zone.split_once(':') {
        _ if zone_at.is_none() => (0, 0),
        Some((h, m)) => (digits(h)?, digits(m)?),
        None => (digits(zone)?, 0),
    };
    let mut parts = clock.splitn(3, ':');
    let hour = digits(parts.next()?)?;
    let minute = parts.next().map_or(Some(0), digits)?;
    let (second, milli) = match parts.next() {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (digits(seconds)?, 0),
            Some((seconds, fraction)) => (digits(seconds)?, milliseconds(fraction.trim())),
        },
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let hour = hour as i32 + sign * zone_hour as i32;
    let minute = minute as i32 + sign * zone_minute as i32;
    let millis = hour * 3_600_000 + minute * 60_000 + second as i32 * 1000 + milli;
    let step = [1000, 100, 10].get(usize::from(precision)).copied().unwrap_or(1);
    Some(millis / step * step)
}

/// Three digits of a fraction, the fourth rounds.
fn milliseconds(fraction: &str) -> i32 {
    let digit = |i: usize| fraction.as_bytes().get(i).filter(|b| b.is_ascii_digit()).map_or(0, |b| i32::from(b - b'0'));
    digit(0) * 100 + digit(1) * 10 + digit(2) + i32::from(fraction.as_bytes().get(3).is_some_and(|b| *b >= b'5'))
}

/// `yyyy-M-d[ H:m:s[.f{0,9}]]`: seconds since the epoch and nanoseconds. Days that a month does not have become its last
/// (Java's smart resolver), as in Flink's CAST.
pub fn timestamp_parts(text: &str) -> Option<(i64, u32)> {
    let (date, clock) = text.split_once(' ').map_or((text, None), |(d, c)| (d, Some(c)));
    let one_or_two = |t: &str| if t.len() <= 2 && !t.starts_with(' ') && !t.ends_with(' ') { digits(t) } else { None };
    let mut parts = date.splitn(3, '-');
    let year = parts.next().filter(|y| y.len() == 4 && y.bytes().all(|b| b.is_ascii_digit())).and_then(digits)?;
    let month = one_or_two(parts.next()?)?;
    let day = one_or_two(parts.next()?)?;
    if year == 0 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let day = day.min(days_in_month(i64::from(year), month));
    let midnight = days_from_civil(i64::from(year), month, day) * SECONDS_PER_DAY;
    let Some(clock) = clock else { return Some((midnight, 0)) };
    let mut parts = clock.splitn(3, ':');
    let hour = one_or_two(parts.next()?)?;
    let minute = one_or_two(parts.next()?)?;
    let seconds = parts.next()?;
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let second = one_or_two(second)?;
    if hour > 23 || minute > 59 || second > 59 || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    Some((midnight + i64::from(hour * 3600 + minute * 60 + second), nanos))
}

/// [`timestamp_parts`] as a raw TIMESTAMP of the precision.
pub fn timestamp(text: &str, precision: u8) -> Option<i64> {
    let (seconds, nanos) = timestamp_parts(text)?;
    join(seconds, nanos, precision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        let cases = [
            ("123", Some(123)),
            (" 3.9 ", Some(3)),
            ("-3.", Some(-3)),
            ("+7", Some(7)),
            (".5", Some(0)),
            ("", None),
            ("-", None),
            ("1e3", None),
            ("12a", None),
            ("1.2.3", None),
            ("-128", Some(-128)),
            ("128", None),
        ];
        for (text, expected) in cases {
            assert_eq!(integer(text, -128, 127), expected, "{text}");
        }
        assert_eq!(integer("-9223372036854775808", i64::MIN, i64::MAX), Some(i64::MIN));
        assert_eq!(integer("9223372036854775808", i64::MIN, i64::MAX), None);
    }

    #[test]
    fn decimals() {
        let cases = [
            ("1.234", 5, 3, Some(1234)),
            ("1.2", 5, 3, Some(1200)),
            (" 1.2345 ", 5, 3, Some(1235)),
            ("-1.2345", 5, 3, Some(-1235)),
            ("123", 5, 3, None),
            ("1e1", 5, 3, Some(10_000)),
            ("1.5E-1", 5, 3, Some(150)),
            ("0.0004", 5, 3, Some(0)),
            ("5e-4", 5, 3, Some(1)),
            ("5e-40", 5, 3, Some(0)),
            ("0e100", 5, 3, Some(0)),
            ("abc", 5, 3, None),
            ("1.2.3", 5, 3, None),
            (".", 5, 3, None),
            ("", 5, 3, None),
            ("99999999999999999999999999999999999999", 38, 0, Some(10_i128.pow(38) - 1)),
            ("100000000000000000000000000000000000000", 38, 0, None),
        ];
        for (text, p, s, expected) in cases {
            assert_eq!(decimal(text, p, s), expected, "{text}");
        }
    }

    #[test]
    fn floats() {
        assert_eq!(double(" 1.5e3 "), Some(1500.0));
        assert_eq!(double("1d"), Some(1.0));
        assert_eq!(double("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(double("NaN").is_some_and(f64::is_nan));
        for bad in ["inf", "nan", "infinity", "", "abc", "1.2.3", "-"] {
            assert_eq!(double(bad), None, "{bad}");
        }
    }

    #[test]
    fn datetimes() {
        assert_eq!(date("42"), Some(-704_187));
        assert_eq!(date("2021-09-27 12:34:56"), Some(18_897));
        assert_eq!(date("2021-9-7"), Some(18_877));
        for bad in ["2021/09/27", "2021-02-30", "foo", "", "2021-13-01", "10000-01-01"] {
            assert_eq!(date(bad), None, "{bad}");
        }
        assert_eq!(time("12:34:56.1234", 3), Some(45_296_123));
        assert_eq!(time("12:34:56.1235", 3), Some(45_296_124));
        assert_eq!(time("12:34:56.123", 0), Some(45_296_000));
        assert_eq!(time("12", 0), Some(43_200_000));
        for bad in ["123", "123:45", "Flink", "2021-09-27", "12:34:60", ""] {
            assert_eq!(time(bad, 3), None, "{bad}");
        }
        assert_eq!(timestamp("2021-09-27", 3), Some(18_897 * 86_400_000_000));
        assert_eq!(timestamp("2021-9-27 1:2:3.4567", 3), Some(18_897 * 86_400_000_000 + 3_723_456_000));
        assert_eq!(timestamp("2021-02-31 00:00:00", 0), timestamp("2021-02-28", 0));
        for bad in ["123", "2021/09/27", "2021-09-27 12:34", "2021-09-27 12:34:56.1234567890", "foo", "2021-09-27T00:00:00"] {
            assert_eq!(timestamp(bad, 9), None, "{bad}");
        }
    }
}
