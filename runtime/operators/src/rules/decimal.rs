//! Decimal numbers of any scale, as text and as an unscaled integer.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// `unscaled / 10^scale`, of at most 38 digits, without zeros at the end of the fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    pub unscaled: i128,
    pub scale: u8,
}

/// Digits that a value may have (DECIMAL(38, s)).
pub const DIGITS: u8 = 38;

pub fn pow10(exponent: u8) -> i128 {
    10i128.checked_pow(u32::from(exponent)).unwrap_or(i128::MAX)
}

impl Decimal {
    /// Reads `-12.50`, `1e6`, `.5`; `None`: it is no number, or has more than 38 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let negative = mantissa.starts_with('-');
        let digits = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.len() + fraction.len() == 0 {
            return None;
        }
        let mut unscaled: i128 = 0;
        let mut scale = i32::try_from(fraction.trim_end_matches('0').len()).ok()?;
        for c in whole.chars().chain(fraction.trim_end_matches('0').chars()) {
            unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(c.to_digit(10)?))?;
        }
        if fraction.chars().any(|c| !c.is_ascii_digit()) {
            return None;
        }
        if unscaled == 0 {
            return Some(Self { unscaled, scale: 0 });
        }
        scale = scale.checked_sub(exponent)?;
        while scale > 0 && unscaled % 10 == 0 {
            (unscaled, scale) = (unscaled / 10, scale - 1);
        }
        if scale < 0 {
            unscaled = unscaled.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?;
        }
        let scale = u8::try_from(scale.max(0)).ok()?;
        let fits = unscaled < pow10(DIGITS) && scale <= DIGITS;
        fits.then_some(Self { unscaled: if negative { -unscaled } else { unscaled }, scale })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.unscaled.unsigned_abs().to_string();
        let scale = usize::from(self.scale);
        let digits = if digits.len() <= scale { format!("{}{digits}", "0".repeat(scale + 1 - digits.len())) } else { digits };
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

/// A JSON number with all its digits.
impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get().trim_matches('"')).ok_or_else(|| serde::de::Error::custom(format!("{} is no number", raw.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_values() {
        for (text, want) in [
            ("1000000", Some((1_000_000, 0, "1000000"))),
            ("-12.50", Some((-125, 1, "-12.5"))),
            ("1e6", Some((1_000_000, 0, "1000000"))),
            ("1.25E-3", Some((125, 5, "0.00125"))),
            (".5", Some((5, 1, "0.5"))),
            ("0.00", Some((0, 0, "0"))),
            ("0e40", Some((0, 0, "0"))),
            ("-0.0e-2147483647", Some((0, 0, "0"))),
            ("1e-2147483647", None),
            ("1e400", None),
            ("1e2147483648", None),
            (" 7 ", Some((7, 0, "7"))),
            ("99999999999999999999999999999999999999", Some((pow10(38) - 1, 0, "99999999999999999999999999999999999999"))),
            ("100000000000000000000000000000000000000", None),
            ("1e39", None),
            ("1e-39", None),
            ("", None),
            (".", None),
            ("-", None),
            ("1.2.3", None),
            ("1,5", None),
            ("NaN", None),
            ("1.٣", None),
        ] {
            let got = Decimal::parse(text);
            assert_eq!(got.map(|d| (d.unscaled, d.scale)), want.map(|(u, s, _)| (u, s)), "{text}");
            assert_eq!(got.map(|d| d.to_string()), want.map(|(_, _, t)| t.to_owned()), "{text}");
        }
    }
}
