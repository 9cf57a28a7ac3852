//! Durations as Flink's options write them: `5 s`, `1min`, `250 ms`, `1 d` (Flink: `TimeUtils.parseDuration`).

use std::time::Duration;

use crate::error::{Error, Result};

const UNITS: &[(&[&str], u128)] = &[
    (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
    (&["µs", "us", "micro", "micros", "microsecond", "microseconds"], 1_000),
    (&["", "ms", "milli", "millis", "millisecond", "milliseconds"], 1_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
    (&["h", "hour", "hours"], 3_600_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
];

/// Reads a duration; a number without a unit is milliseconds.
///
/// # Errors
/// If it is not a number with a unit that Flink knows.
pub fn parse(text: &str) -> Result<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = text[digits..].trim().to_lowercase();
    let bad =
        || Error::plan(format!("'{text}' is not a duration")).hint("write a number and a unit: '500 ms', '5 s', '10 min', '1 h', '1 d'");
    let number: u128 = text[..digits].parse().map_err(|_| bad())?;
    let scale = UNITS.iter().find(|(names, _)| names.contains(&unit.as_str())).map(|(_, n)| *n).ok_or_else(bad)?;
    let nanos = number.checked_mul(scale).and_then(|n| u64::try_from(n).ok()).ok_or_else(bad)?;
    Ok(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_flink_reads() {
        for (text, millis) in
            [("5 s", 5_000), ("1min", 60_000), ("250 ms", 250), ("10", 10), ("2 h", 7_200_000), ("1 DAY", 86_400_000), ("0 s", 0)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "s", "5 parsecs", "-1 s", "1.5 s", "999999999999999999999 d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
