//! Patterns of Java's older `SimpleDateFormat`, which FROM_UNIXTIME, UNIX_TIMESTAMP, TO_DATE with a pattern, CONVERT_TZ and
//! DATE_FORMAT of text go by: milliseconds are a number (`S` of 7 ms is `7`), reading is lenient (month 13 is next year's January)
//! and ignores what follows the pattern. Years before 1582 are of the proleptic Gregorian calendar, as everywhere else here.

use super::Local;
use super::extract::weekday;
use super::names::{DAYS, MONTHS, find, short};
use super::zone::{Zone, push_offset};
use crate::calendar::{SECONDS_PER_DAY, civil_from_days, days_from_civil};
use crate::cast::render::push_padded;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(char),
    /// A run of a letter.
    Field(char, usize),
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SimpleFormat {
    items: Vec<Item>,
}

impl SimpleFormat {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(pattern: &str) -> Result<Self, String> {
        let mut items = vec![];
        let mut chars = pattern.chars().peekable();
        let mut quoted = false;
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.next_if_eq(&'\'').is_some() => items.push(Item::Literal('\'')),
                '\'' => quoted = !quoted,
                c if quoted || !c.is_ascii_alphabetic() => items.push(Item::Literal(c)),
                c if "GyMLdkHmsSEDFwWahKzZYuX".contains(c) => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    if c == 'X' && count > 3 {
                        return Err("invalid ISO 8601 format: length=4".into());
                    }
                    items.push(Item::Field(c, count));
                }
                c => return Err(format!("Illegal pattern character '{c}'")),
            }
        }
        if quoted { Err("Unterminated quote".into()) } else { Ok(Self { items }) }
    }

    /// A letter of the pattern that [`SimpleFormat::read`] cannot make a date of.
    pub fn unreadable(&self) -> Option<char> {
        self.items.iter().find_map(|item| match item {
            Item::Field(c @ ('w' | 'W' | 'F' | 'Y'), _) => Some(*c),
            _ => None,
        })
    }

    /// Appends the local time in the zone of an instant (milliseconds since the epoch).
    pub fn print(&self, instant: i64, zone: Zone, out: &mut String) {
        let seconds = instant.div_euclid(1000);
        let offset = zone.offset_at(seconds);
        let local = Local::from_millis(instant.saturating_add(offset * 1000));
        for item in &self.items {
            match item {
                Item::Literal(c) => out.push(*c),
                Item::Field('z', _) => zone.push_name(out, seconds),
                Item::Field('Z', _) => push_offset(out, offset, false),
                Item::Field('X', _) if offset == 0 => out.push('Z'),
                Item::Field('X', 1) => {
                    push_offset(out, offset, false);
                    out.truncate(out.len() - 2);
                }
                Item::Field('X', count) => push_offset(out, offset, *count == 3),
                Item::Field(letter, count) => print_field(*letter, *count, local, out),
            }
        }
    }

    /// The instant (milliseconds since the epoch) that the text says in the zone, or in the one the text names. `this_year` is
    /// needed for years of two digits: they are within 80 years before and 20 years after.
    pub fn read(&self, text: &str, zone: Zone, this_year: i64) -> Option<i64> {
        let mut found = Found::default();
        let mut rest = text;
        let mut items = self.items.iter().peekable();
        while let Some(item) = items.next() {
            rest = match item {
                Item::Literal(c) => rest.strip_prefix(*c)?,
                Item::Field(letter, count) => {
                    let abutting = matches!(items.peek(), Some(Item::Field(..)));
                    read_field(*letter, *count, abutting, rest.trim_start_matches([' ', '\t']), this_year, &mut found)?
                }
            };
        }
        found.resolve(zone)
    }
}

fn print_field(letter: char, count: usize, local: Local, out: &mut String) {
    let second = local.second_of_day();
    let (year, month, day) = local.date();
    let mut number = |value: i64| push_padded(out, value.unsigned_abs(), count);
    let year_of_era = if year > 0 { year } else { 1 - year };
    match letter {
        'y' if count == 2 => number(year_of_era % 100),
        'y' => number(year_of_era),
        'Y' if count == 2 => number(us_week(local.days(), year).0 % 100),
        'Y' => number(us_week(local.days(), year).0),
        'M' | 'L' if count < 3 => number(i64::from(month)),
        'M' | 'L' => {
            let name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
            out.push_str(if count == 3 { short(name) } else { name });
        }
        'd' => number(i64::from(day)),
        'k' => number((second / 3600 + 23) % 24 + 1),
        'H' => number(second / 3600),
        'K' => number(second / 3600 % 12),
        'h' => number((second / 3600 + 11) % 12 + 1),
        'm' => number(second / 60 % 60),
        's' => number(second % 60),
        'S' => number(i64::from(local.nanos / 1_000_000)),
        'D' => number(local.days() - days_from_civil(year, 1, 1) + 1),
        'F' => number((i64::from(day) - 1) / 7 + 1),
        'w' => number(us_week(local.days(), year).1),
        'W' => {
            let first = local.days() - i64::from(day) + 1;
            number((i64::from(day) - 1 + (weekday(first) + 1) % 7) / 7 + 1);
        }
        'u' => number(weekday(local.days()) + 1),
        'E' => {
            let name = DAYS.get(weekday(local.days()) as usize).copied().unwrap_or_default();
            out.push_str(if count < 4 { short(name) } else { name });
        }
        'a' => out.push_str(if second < 43_200 { "AM" } else { "PM" }),
        'G' => out.push_str(if year > 0 { "AD" } else { "BC" }),
        _ => {}
    }
}

/// Year and week in the United States: weeks begin on Sunday, week 1 holds January 1.
pub(super) fn us_week(days: i64, year: i64) -> (i64, i64) {
    let first = |year: i64| {
        let january = days_from_civil(year, 1, 1);
        january - (weekday(january) + 1) % 7
    };
    if days >= first(year + 1) { (year + 1, 1) } else { (year, (days - first(year)) / 7 + 1) }
}

#[derive(Debug, Default)]
struct Found {
    before_christ: bool,
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    weekday: Option<i64>,
    hour: Option<i64>,
    hour_of_half: Option<i64>,
    afternoon: bool,
    minute: i64,
    second: i64,
    milli: i64,
    zone: Option<Zone>,
}

/// A number at the start of the text, with `-`; of at most `width` digits.
fn number(text: &str, width: Option<usize>) -> Option<(i64, &str)> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    let count = match width {
        Some(width) if text.len() < width => return None,
        Some(width) => count.min(width - usize::from(negative)),
        None => count,
    };
    let value = digits[..count].parse::<i64>().ok().filter(|v| *v <= i64::from(i32::MAX))?;
    Some((if negative { -value } else { value }, &digits[count..]))
}

fn read_field<'t>(letter: char, count: usize, abutting: bool, text: &'t str, this_year: i64, found: &mut Found) -> Option<&'t str> {
    let width = abutting.then_some(count);
    let named = |names: &[&'static str]| find(text, names, true, true).or_else(|| find(text, names, false, true));
    match letter {
        'G' => {
            let (at, length) = find(text, &["AD", "BC"], true, true)?;
            found.before_christ = at == 1;
            return text.get(length..);
        }
        'a' => {
            let (at, length) = find(text, &["AM", "PM"], true, true)?;
            found.afternoon = at == 1;
            return text.get(length..);
        }
        'E' => {
            let (at, length) = named(&DAYS)?;
            found.weekday = Some(at);
            return text.get(length..);
        }
        'M' | 'L' if count > 2 => {
            let (at, length) = named(&MONTHS)?;
            found.month = Some(at + 1);
            return text.get(length..);
        }
        'z' | 'Z' | 'X' => {
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "/_+-:".contains(c))).unwrap_or(text.len());
            let length = (1..=end).rev().find(|n| text.get(..*n).is_some_and(|id| Zone::parse(id).is_some()))?;
            found.zone = Zone::parse(text.get(..length)?);
            return text.get(length..);
        }
        _ => {}
    }
    let (value, rest) = number(text, width)?;
    match letter {
        'y' if count <= 2 && text.len() - rest.len() == 2 && value >= 0 => {
            // The century that puts the year within 80 years before and 20 after now.
            let start = this_year - 80;
            let year = start - start.rem_euclid(100) + value;
            found.year = Some(if year < start { year + 100 } else { year });
        }
        'y' => found.year = Some(value),
        'M' | 'L' => found.month = Some(value),
        'd' => found.day = Some(value),
        'D' => found.day_of_year = Some(value),
        'H' => found.hour = Some(value),
        'k' => found.hour = Some(if value == 24 { 0 } else { value }),
        'K' => found.hour_of_half = Some(value),
        'h' => found.hour_of_half = Some(if value == 12 { 0 } else { value }),
        'm' => found.minute = value,
        's' => found.second = value,
        'S' => found.milli = value,
        'u' => found.weekday = Some(value - 1),
        _ => return None,
    }
    Some(rest)
}

impl Found {
    fn resolve(&self, zone: Zone) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        let year = if self.before_christ { 1 - year } else { year };
        let days = match (self.day_of_year, self.day, self.month) {
            (Some(day), None, None) => days_from_civil(year, 1, 1) + day - 1,
            _ => {
                let months = self.month.unwrap_or(1) - 1;
                days_from_civil(year + months.div_euclid(12), months.rem_euclid(12) as u32 + 1, 1) + self.day.unwrap_or(1) - 1
            }
        };
        // A weekday alone moves to that day of the week.
        let days = match (self.weekday, self.day, self.day_of_year) {
            (Some(day), None, None) => days - weekday(days) + day,
            _ => days,
        };
        let hour = match (self.hour, self.hour_of_half) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + if self.afternoon { 12 } else { 0 },
            (None, None) => {
                if self.afternoon {
                    12
                } else {
                    0
                }
            }
        };
        let local = days.checked_mul(SECONDS_PER_DAY)? + hour * 3600 + self.minute * 60 + self.second + self.milli.div_euclid(1000);
        let offset = self.zone.unwrap_or(zone).standard_offset_of_local(local);
        (local - offset).checked_mul(1000)?.checked_add(self.milli.rem_euclid(1000))
    }
}

/// The year of an instant in UTC.
pub(crate) fn year_of(millis: i64) -> i64 {
    civil_from_days(millis.div_euclid(86_400_000)).0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const BERLIN: Zone = Zone::Region(chrono_tz::Tz::Europe__Berlin);

    #[test]
    fn prints() {
        let instant = 1_709_214_855_007; // 2024-02-29 13:54:15.007 UTC
        let cases = [
            ("yyyy-MM-dd HH:mm:ss", "2024-02-29 14:54:15"),
            ("yy-M-d h:m:s a", "24-2-29 2:54:15 PM"),
            ("SSS S SSSSSS", "007 7 000007"),
            ("EEE, d MMM yyyy HH:mm:ss Z", "Thu, 29 Feb 2024 14:54:15 +0100"),
            ("EEEE MMMM D w u", "Thursday February 60 9 4"),
            ("yyyy''MM 'T'z X XX XXX", "2024'02 TCET +01 +0100 +01:00"),
            ("k K", "14 2"),
        ];
        for (pattern, expected) in cases {
            let mut out = String::new();
            SimpleFormat::compile(pattern).unwrap().print(instant, BERLIN, &mut out);
            assert_eq!(out, expected, "{pattern}");
        }
        for bad in ["q", "yyyy'", "bb", "XXXX"] {
            assert!(SimpleFormat::compile(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads() {
        let cases = [
            ("yyyy-MM-dd HH:mm:ss", "2024-02-29 13:54:15", Some(1_709_214_855_000)),
            ("yyyy-MM-dd HH:mm:ss", "2024-2-29 13:54:15.9 and more", Some(1_709_214_855_000)),
            ("yyyy-MM-dd", "2024-14-01", Some(1_738_368_000_000)),
            ("yyyy-MM-dd", "x", None),
            ("yyyy-MM-dd HH:mm:ss", "2024-02-29", None),
            ("yyyyMMddHHmmss", "20240229135415", Some(1_709_214_855_000)),
            ("dd MMM yy", "29 feb 24", Some(1_709_164_800_000)),
            ("yyyy D", "2024 60", Some(1_709_164_800_000)),
            ("yyyy-MM-dd h:mm a", "2024-02-29 12:30 AM", Some(1_709_166_600_000)),
            ("yyyy-MM-dd HH:mm:ss Z", "2024-02-29 13:54:15 +0100", Some(1_709_211_255_000)),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(SimpleFormat::compile(pattern).unwrap().read(text, Zone::UTC, 2024), expected, "{text}");
        }
        // A time in the gap is moved by it; of a time that is twice, Java's calendar takes the later.
        let format = SimpleFormat::compile("yyyy-MM-dd HH:mm:ss").unwrap();
        assert_eq!(format.read("2005-03-27 02:00:00", BERLIN, 2024), Some(1_111_885_200_000));
        assert_eq!(format.read("2005-03-27 03:00:00", BERLIN, 2024), Some(1_111_885_200_000));
    }
}
