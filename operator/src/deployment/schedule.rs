//! Cron expressions of five fields, in UTC: minute, hour, day of month, month, day of week.

use jiff::civil::{Date, Time};
use jiff::{Span, Timestamp, tz::TimeZone};

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// Longer than from one 29 February to the next, over a year without one.
const FAR: i64 = 9 * 366;

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// As it was written.
    pub text: String,
    /// Bit `n`: the value `n` fits.
    minutes: u64,
    hours: u64,
    days_of_month: u64,
    months: u64,
    days_of_week: u64,
    /// As in cron: if both days are restricted, one of them is enough.
    either_day: bool,
}

impl Schedule {
    /// Parses `*/15 0-6,22 1 * MON-FRI`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!(
                "'{text}' has {} fields: a schedule has five: minute, hour, day of month, month, day of week",
                parts.len()
            ));
        };
        let mut days_of_week = field(weekday, "day of week", 0, 7, DAYS, 0)?;
        // 7 is Sunday, too.
        days_of_week |= days_of_week >> 7;
        let schedule = Self {
            text: text.to_owned(),
            minutes: field(minute, "minute", 0, 59, &[], 0)?,
            hours: field(hour, "hour", 0, 23, &[], 0)?,
            days_of_month: field(day, "day of month", 1, 31, &[], 0)?,
            months: field(month, "month", 1, 12, MONTHS, 1)?,
            days_of_week,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        match schedule.after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(format!("'{text}' never comes: no month has such a day")),
        }
    }

    /// The first time behind `time` that fits; none if none ever does.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let from = time.to_zoned(TimeZone::UTC).datetime().checked_add(Span::new().minutes(1)).ok()?;
        let (mut date, mut hour, mut minute) = (from.date(), from.hour(), from.minute());
        for _ in 0..FAR {
            if self.day_fits(date)
                && let Some((hour, minute)) = self.time_from(hour, minute)
            {
                let time = Time::new(hour, minute, 0, 0).ok()?;
                return Some(date.to_datetime(time).to_zoned(TimeZone::UTC).ok()?.timestamp());
            }
            (date, hour, minute) = (date.tomorrow().ok()?, 0, 0);
        }
        None
    }

    fn day_fits(&self, date: Date) -> bool {
        let of_month = fits(self.days_of_month, date.day());
        let of_week = fits(self.days_of_week, date.weekday().to_sunday_zero_offset());
        fits(self.months, date.month()) && if self.either_day { of_month || of_week } else { of_month && of_week }
    }

    /// The first time of a day that fits, from this one on.
    fn time_from(&self, hour: i8, minute: i8) -> Option<(i8, i8)> {
        (hour..24).filter(|h| fits(self.hours, *h)).find_map(|h| {
            let from = if h == hour { minute } else { 0 };
            (from..60).find(|m| fits(self.minutes, *m)).map(|m| (h, m))
        })
    }
}

fn fits(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|v| bits & (1u64 << v) != 0)
}

/// The values of a field as bits; `names` begin with the value `first_name`.
fn field(text: &str, what: &str, least: u32, most: u32, names: &[&str], first_name: u32) -> Result<u64, String> {
    let bad = |part: &str, why: &str| format!("{what} '{part}': {why}");
    let number = |part: &str| {
        let name = names.iter().position(|n| n.eq_ignore_ascii_case(part)).and_then(|at| u32::try_from(at).ok());
        let value = name.map(|at| at + first_name).or_else(|| part.parse().ok());
        value.filter(|v| (least..=most).contains(v)).ok_or_else(|| bad(part, &format!("a value is {least} to {most}")))
    };
    let mut bits = 0u64;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step: u32 = match step {
            None => 1,
            Some(step) => step
                .parse()
                .ok()
                .filter(|s| (1..=most).contains(s))
                .ok_or_else(|| bad(part, "a step is 1 or more, and not beyond the field"))?,
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // `5/10` is 5-59/10.
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(bad(part, "begins behind its end"));
        }
        (from..=to).step_by(step as usize).for_each(|v| bits |= 1 << v);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_next_time_is_the_first_that_fits() {
        for (text, from, next) in [
            ("* * * * *", "2026-03-01T10:00:00Z", "2026-03-01T10:01:00Z"),
            ("* * * * *", "2026-03-01T10:00:59Z", "2026-03-01T10:01:00Z"),
            ("0 */6 * * *", "2026-03-01T00:00:00Z", "2026-03-01T06:00:00Z"),
            ("0 */6 * * *", "2026-12-31T18:00:30Z", "2027-01-01T00:00:00Z"),
            ("15,45 8-10 * * *", "2026-03-01T08:45:00Z", "2026-03-01T09:15:00Z"),
            ("15,45 8-10 * * *", "2026-03-01T10:45:00Z", "2026-03-02T08:15:00Z"),
            ("5/20 * * * *", "2026-03-01T10:25:00Z", "2026-03-01T10:45:00Z"),
            // 1 March 2026 is a Sunday.
            ("0 0 * * MON-FRI", "2026-02-28T12:00:00Z", "2026-03-02T00:00:00Z"),
            ("0 0 * * 7", "2026-02-28T12:00:00Z", "2026-03-01T00:00:00Z"),
            ("0 0 * * 0", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"),
            // Both days are restricted: one of them is enough.
            ("0 0 13 * fri", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z"),
            ("0 0 31 * *", "2026-04-01T00:00:00Z", "2026-05-31T00:00:00Z"),
            ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
            ("30 12 1 jan *", "2026-01-01T12:30:00Z", "2027-01-01T12:30:00Z"),
        ] {
            let schedule = Schedule::parse(text).unwrap();
            assert_eq!(schedule.after(from.parse().unwrap()).unwrap().to_string(), next, "{text} from {from}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("* * * *", "has 4 fields"),
            ("60 * * * *", "minute '60': a value is 0 to 59"),
            ("* 24 * * *", "hour '24'"),
            ("* * 0 * *", "day of month '0'"),
            ("* * * FOO *", "month 'FOO'"),
            ("* * * * 8", "day of week '8'"),
            ("10-5 * * * *", "begins behind its end"),
            ("*/0 * * * *", "a step is 1 or more"),
            ("*/x * * * *", "a step is 1 or more"),
            ("1,,2 * * * *", "minute ''"),
            ("0 0 30 2 *", "never comes"),
            ("-5 * * * *", "minute ''"),
        ] {
            let message = Schedule::parse(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
