//! Reading a local time by a pattern. What the text does not say is of 1970-01-01 00:00:00 (Flink:
//! `DateTimeUtils.fromTemporalAccessor`); offsets and zones are read and ignored, as there.

use super::{Field, Formatter, Node, Number, Sign, Width};
use crate::calendar::{SECONDS_PER_DAY, days_from_civil, days_in_month};
use crate::time::Local;
use crate::time::extract::weekday;
use crate::time::names::{DAYS, MONTHS, find};
use crate::time::zone::Zone;

/// The fields found so far.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    common_era: Option<bool>,
    year_of_era: Option<i64>,
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    weekday: Option<i64>,
    quarter: Option<i64>,
    afternoon: Option<i64>,
    hour: Option<i64>,
    hour_of_half: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
    nano: Option<i64>,
    nano_of_day: Option<i64>,
}

impl Formatter {
    /// The local time that the text says; `None` if it does not follow the pattern or is no valid time.
    pub fn read(&self, text: &str) -> Option<Local> {
        let mut found = Found::default();
        let rest = read_all(&self.nodes, text, &mut found)?;
        if rest.is_empty() { found.resolve() } else { None }
    }

    /// A field of the pattern that [`Formatter::read`] cannot make a date of.
    pub fn unreadable(&self) -> Option<&'static str> {
        fn search(nodes: &[Node]) -> Option<&'static str> {
            nodes.iter().find_map(|node| match node {
                Node::Optional(nodes) => search(nodes),
                Node::Number(n) => match n.field {
                    Field::WeekYear => Some("Y"),
                    Field::WeekOfYear => Some("w"),
                    Field::WeekOfMonth => Some("W"),
                    Field::LocalWeekday => Some("e"),
                    Field::DayOfWeekInMonth => Some("F"),
                    _ => None,
                },
                _ => None,
            })
        }
        search(&self.nodes)
    }
}

/// What is left of the text behind all nodes.
fn read_all<'t>(nodes: &[Node], text: &'t str, found: &mut Found) -> Option<&'t str> {
    let mut rest = text;
    for node in nodes {
        rest = match node {
            Node::Literal(literal) => rest.strip_prefix(literal.as_str())?,
            Node::Number(number) => read_number(*number, rest, found)?,
            Node::Text(field, width) => read_text(*field, *width, rest, found)?,
            Node::Optional(nodes) => {
                let mut within = *found;
                match read_all(nodes, rest, &mut within) {
                    Some(behind) => {
                        *found = within;
                        behind
                    }
                    None => rest,
                }
            }
        };
    }
    Some(rest)
}

fn read_number<'t>(number: Number, text: &'t str, found: &mut Found) -> Option<&'t str> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' if number.sign == Sign::ExceedsPad => (Some(1), &text[1..]),
        b'-' if number.sign != Sign::NotNegative => (Some(-1), &text[1..]),
        _ => (None, text),
    };
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    let mut taken = count.min(number.max + number.reserved);
    if number.reserved > 0 {
        taken = taken.saturating_sub(number.reserved).max(number.min);
    }
    if taken < number.min || taken > count {
        return None;
    }
    // More digits than the width need a plus, and a plus needs more digits.
    if number.sign == Sign::ExceedsPad && sign != Some(-1) && (taken > number.min) != (sign == Some(1)) {
        return None;
    }
    let mut value: i64 = digits[..taken].parse().ok()?;
    if sign == Some(-1) {
        if value == 0 {
            return None;
        }
        value = -value;
    }
    if number.reduced {
        value += 2000;
    }
    if number.field == Field::Fraction {
        value *= 10_i64.pow(9 - number.min.min(9) as u32);
    }
    set(number.field, value, found)?;
    Some(&digits[taken..])
}

fn read_text<'t>(field: Field, width: Width, text: &'t str, found: &mut Found) -> Option<&'t str> {
    let full = width == Width::Full;
    let (value, length) = match field {
        Field::Month => {
            let (at, length) = find(text, &MONTHS, full, false)?;
            (at + 1, length)
        }
        Field::Weekday => find(text, &DAYS, full, false)?,
        Field::AmPm => find(text, &["AM", "PM"], true, false)?,
        Field::Era if full => find(text, &["Before Christ", "Anno Domini"], true, false)?,
        Field::Era => find(text, &["BC", "AD"], true, false)?,
        Field::Quarter if full => {
            let (at, length) = find(text, &["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"], true, false)?;
            (at + 1, length)
        }
        Field::Quarter => {
            let (at, length) = find(text, &["Q1", "Q2", "Q3", "Q4"], true, false)?;
            (at + 1, length)
        }
        Field::Offset(letter, count) => return read_zone(letter, count, text),
        _ => return None,
    };
    set(field, value, found)?;
    text.get(length..)
}

/// An offset or a zone's id; its value is not used.
fn read_zone(letter: char, count: usize, text: &str) -> Option<&str> {
    match letter {
        'X' if text.starts_with('Z') => return text.get(1..),
        'Z' if count == 5 && text.starts_with('Z') => return text.get(1..),
        'X' | 'x' | 'Z' => {}
        _ => {
            // The longest prefix that is a zone's id.
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "/_+-:".contains(c))).unwrap_or(text.len());
            let length = (1..=end).rev().find(|n| text.get(..*n).is_some_and(|id| Zone::parse(id).is_some()))?;
            return text.get(length..);
        }
    }
    let bytes = text.as_bytes();
    if !matches!(bytes.first()?, b'+' | b'-') {
        return None;
    }
    let two = |at: usize| bytes.get(at..at + 2).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    let colon = count == 3 || count == 5;
    // Minutes (and seconds) may be missing with one letter; with more they are needed.
    let optional = count == 1 && letter != 'Z';
    if !two(1) {
        return None;
    }
    let minutes = if colon { (bytes.get(3) == Some(&b':') && two(4)).then_some(6) } else { two(3).then_some(5) };
    let end = match minutes {
        Some(end) => end,
        None if optional => 3,
        None => return None,
    };
    text.get(end..)
}

/// Keeps a field; `None` if it is outside its range.
fn set(field: Field, value: i64, found: &mut Found) -> Option<()> {
    let (slot, range) = match field {
        Field::Era => {
            found.common_era = Some(value == 1);
            return Some(());
        }
        Field::YearOfEra => (&mut found.year_of_era, 1..=1_000_000_000),
        Field::Year => (&mut found.year, -999_999_999..=999_999_999),
        Field::Quarter => (&mut found.quarter, 1..=4),
        Field::Month => (&mut found.month, 1..=12),
        Field::Day => (&mut found.day, 1..=31),
        Field::DayOfYear => (&mut found.day_of_year, 1..=366),
        Field::Weekday => (&mut found.weekday, 0..=6),
        Field::AmPm => (&mut found.afternoon, 0..=1),
        Field::Hour => (&mut found.hour, 0..=24),
        Field::ClockHour => (&mut found.hour, 1..=24),
        Field::HourOfAmPm => (&mut found.hour_of_half, 0..=11),
        Field::ClockHourOfAmPm => (&mut found.hour_of_half, 1..=12),
        Field::Minute => (&mut found.minute, 0..=59),
        Field::Second => (&mut found.second, 0..=59),
        Field::Fraction | Field::Nano => (&mut found.nano, 0..=999_999_999),
        Field::MilliOfDay => (&mut found.nano_of_day, 0..=86_399_999),
        Field::NanoOfDay => (&mut found.nano_of_day, 0..=86_399_999_999_999),
        Field::WeekYear | Field::WeekOfYear | Field::WeekOfMonth | Field::DayOfWeekInMonth | Field::LocalWeekday | Field::Offset(..) => {
            return None;
        }
    };
    if !range.contains(&value) {
        return None;
    }
    let value = match field {
        Field::ClockHour => value % 24,
        Field::ClockHourOfAmPm => value % 12,
        Field::MilliOfDay => value * 1_000_000,
        _ => value,
    };
    if slot.is_some_and(|before| before != value) {
        return None;
    }
    *slot = Some(value);
    Some(())
}

impl Found {
    fn year(&self) -> Option<i64> {
        match (self.year, self.year_of_era) {
            (Some(year), _) => Some(year),
            (None, Some(year)) => Some(if self.common_era == Some(false) { 1 - year } else { year }),
            (None, None) => None,
        }
    }

    fn date(&self) -> Option<i64> {
        let year = self.year();
        let days = if let (Some(year), Some(day), None) = (year, self.day_of_year, self.day) {
            let first = days_from_civil(year, 1, 1);
            let last = days_from_civil(year + 1, 1, 1) - 1;
            if first + day - 1 > last {
                return None;
            }
            first + day - 1
        } else {
            let (month, mut day) = (self.month.unwrap_or(1) as u32, self.day.unwrap_or(1) as u32);
            let length = days_in_month(year.unwrap_or(1970), month);
            // A full date is resolved to the month's last day; parts of one are not.
            if year.is_some() && self.month.is_some() {
                day = day.min(length);
            } else if day > length {
                return None;
            }
            days_from_civil(year.unwrap_or(1970), month, day)
        };
        let complete = year.is_some() && (self.day_of_year.is_some() || self.month.is_some() && self.day.is_some());
        if complete && self.weekday.is_some_and(|d| d != weekday(days)) {
            return None;
        }
        Some(days)
    }

    fn resolve(&self) -> Option<Local> {
        let days = self.date()?;
        if let Some(nano_of_day) = self.nano_of_day {
            let seconds = days * SECONDS_PER_DAY + nano_of_day / 1_000_000_000;
            return Some(Local { seconds, nanos: (nano_of_day % 1_000_000_000) as u32 });
        }
        let (minute, second, nano) = (self.minute.unwrap_or(0), self.second.unwrap_or(0), self.nano.unwrap_or(0));
        let hour = match (self.hour, self.hour_of_half, self.afternoon) {
            (Some(hour), _, _) => hour,
            (None, Some(hour), Some(half)) => half * 12 + hour,
            _ => 0,
        };
        // 24:00 is the next day's midnight.
        if hour == 24 && (minute, second, nano) != (0, 0, 0) {
            return None;
        }
        Some(Local { seconds: days.checked_mul(SECONDS_PER_DAY)? + hour * 3600 + minute * 60 + second, nanos: nano as u32 })
    }
}
