//! Amounts of memory as Flink's options write them: `64 mb`, `1g`, `4096` (Flink: `MemorySize.parse`).

use crate::error::{Error, Result};

const UNITS: &[(&[&str], u128)] = &[
    (&["", "b", "bytes"], 1),
    (&["k", "kb", "kibibytes"], 1 << 10),
    (&["m", "mb", "mebibytes"], 1 << 20),
    (&["g", "gb", "gibibytes"], 1 << 30),
    (&["t", "tb", "tebibytes"], 1 << 40),
];

/// Reads a number of bytes; a unit is a power of 1024.
///
/// # Errors
/// If it is not a number with a unit that Flink knows, or more than memory can be.
pub fn parse(text: &str) -> Result<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = text[digits..].trim().to_lowercase();
    let bad =
        || Error::plan(format!("'{text}' is not an amount of memory")).hint("write a number and a unit: '4096', '512 kb', '64 mb', '2 gb'");
    let number: u128 = text[..digits].parse().map_err(|_| bad())?;
    let scale = UNITS.iter().find(|(names, _)| names.contains(&unit.as_str())).map(|(_, n)| *n).ok_or_else(bad)?;
    number.checked_mul(scale).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_flink_reads() {
        for (text, bytes) in [("4096", 4096), ("1k", 1024), (" 64 MB ", 64 << 20), ("2 gibibytes", 2 << 30), ("0 b", 0), ("3tb", 3 << 40)] {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "mb", "1.5 gb", "-1 mb", "5 parsecs", "99999999999999999999 gb"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
