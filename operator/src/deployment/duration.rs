//! Durations as the CRDs write them: `30s`, `1h30m`.

use jiff::SignedDuration;

/// Parses one or more numbers with a unit (ms, s, m, h, d).
///
/// # Errors
/// What is wrong, in words.
pub fn parse(text: &str) -> Result<SignedDuration, String> {
    let bad = || format!("'{text}' is no duration: write numbers with units, like 30s, 10m, 1h30m");
    let (mut rest, mut total) = (text, SignedDuration::ZERO);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest.get(..digits).and_then(|d| d.parse().ok()).ok_or_else(bad)?;
        rest = rest.get(digits..).unwrap_or_default();
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let millis = match rest.get(..letters).unwrap_or_default() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        rest = rest.get(letters..).unwrap_or_default();
        let part = number.checked_mul(millis).map(SignedDuration::from_millis);
        total =
            part.and_then(|p| total.checked_add(p)).filter(|t| t.as_hours() < 24 * 3660).ok_or_else(|| format!("'{text}' is too long"))?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("30s", Some(30_000)), ("1h30m", Some(5_400_000)), ("250ms", Some(250)), ("1d", Some(86_400_000)), ("0s", Some(0))]
        {
            assert_eq!(parse(text).ok().map(|d| d.as_millis()), millis, "{text}");
        }
        for text in ["", "30", "s", "1x", "-1s", "1 s", "99999999999999999999s", "9999999d", "1é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
