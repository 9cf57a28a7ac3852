//! Numbers, times and tables for people.

use jiff::{SignedDuration, Timestamp};

/// `1,234,567`
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `12.3 MiB`
#[allow(clippy::cast_precision_loss)]
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `3.2 s`, `5 min`, `2 h 5 min`, `3 d`: two places are enough to know.
pub fn duration(d: SignedDuration) -> String {
    let seconds = d.as_secs().max(0);
    match seconds {
        0..10 => format!("{:.1} s", d.as_secs_f64().max(0.0)),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.duration_since(then)))
}

/// Columns side by side, each line indented.
pub fn table(indent: usize, lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| lines.iter().filter_map(|l| l.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        out.push_str(&" ".repeat(indent));
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        for (n, text) in [(5, "5 B"), (2048, "2.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3.0 TiB")] {
            assert_eq!(bytes(n), text);
        }
        for (millis, text) in
            [(-5, "0.0 s"), (3200, "3.2 s"), (59_000, "59 s"), (300_000, "5 min"), (7_500_000, "2 h 5 min"), (260_000_000, "3 d")]
        {
            assert_eq!(duration(SignedDuration::from_millis(millis)), text);
        }
        let lines = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(table(2, &lines), "  a    bb\n  ccc  d\n");
    }
}
