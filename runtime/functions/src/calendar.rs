//! Raw dates and timestamps on the proleptic Gregorian calendar, and the session time zone.

use chrono::{NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;
pub use sluice_batch::calendar::{civil_from_days, days_from_civil, days_in_month, is_leap_year};

pub const MILLIS_PER_DAY: i64 = 86_400_000;
pub const SECONDS_PER_DAY: i64 = 86_400;

/// Units of a TIMESTAMP of this precision in a second: microseconds up to 6, else nanoseconds.
#[inline]
pub fn units_per_second(precision: u8) -> i64 {
    if precision <= 6 { 1_000_000 } else { 1_000_000_000 }
}

#[inline]
pub fn pow10(exponent: u8) -> i64 {
    10_i64.pow(u32::from(exponent))
}

/// A raw TIMESTAMP as seconds since the epoch and nanoseconds within the second.
#[inline]
pub fn split(raw: i64, precision: u8) -> (i64, u32) {
    let unit = units_per_second(precision);
    (raw.div_euclid(unit), (raw.rem_euclid(unit) * (1_000_000_000 / unit)) as u32)
}

/// The raw TIMESTAMP of a precision; digits beyond it are cut. `None` when out of range.
#[inline]
pub fn join(seconds: i64, nanos: u32, precision: u8) -> Option<i64> {
    let unit = units_per_second(precision);
    let step = pow10(9 - precision.min(9));
    let nanos = i64::from(nanos);
    let nanos = nanos - nanos % step;
    seconds.checked_mul(unit)?.checked_add(nanos / (1_000_000_000 / unit))
}

/// Changes the precision of a raw TIMESTAMP; digits beyond it are cut (towards the past, as in Flink).
#[inline]
pub fn rescale(raw: i64, from: u8, to: u8) -> Option<i64> {
    if to >= from && units_per_second(from) == units_per_second(to) {
        return Some(raw);
    }
    let (seconds, nanos) = split(raw, from);
    join(seconds, nanos, to)
}

/// Raw TIMESTAMP to milliseconds since the epoch.
#[inline]
pub fn to_millis(raw: i64, precision: u8) -> i64 {
    raw.div_euclid(units_per_second(precision) / 1000)
}

/// Milliseconds since the epoch to a raw TIMESTAMP; `None` when out of range.
#[inline]
pub fn from_millis(millis: i64, precision: u8) -> Option<i64> {
    join(millis.div_euclid(1000), millis.rem_euclid(1000) as u32 * 1_000_000, precision)
}

/// Adds months; the day is brought to the month's last if need be.
pub fn add_months(days: i64, months: i64) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let total = year * 12 + i64::from(month) - 1 + months;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    days_from_civil(year, month, day.min(days_in_month(year, month)))
}

fn naive(seconds: i64) -> Option<NaiveDateTime> {
    chrono::DateTime::from_timestamp(seconds, 0).map(|t| t.naive_utc())
}

/// The zone's offset from UTC, in seconds, at an instant.
pub fn offset_at(zone: Tz, instant_seconds: i64) -> i64 {
    if zone == Tz::UTC {
        return 0;
    }
    naive(instant_seconds).map_or(0, |t| i64::from(zone.offset_from_utc_datetime(&t).fix().local_minus_utc()))
}

/// The zone's offset for a local time. As `LocalDateTime.atZone` in Java: the earlier offset where clocks are set back,
/// the one before the gap where they are set forward.
pub fn offset_of_local(zone: Tz, local_seconds: i64) -> i64 {
    if zone == Tz::UTC {
        return 0;
    }
    let Some(local) = naive(local_seconds) else { return 0 };
    let offset = zone.offset_from_local_datetime(&local).earliest();
    let offset = offset.or_else(|| zone.offset_from_local_datetime(&(local - TimeDelta::days(1))).earliest());
    offset.map_or(0, |o| i64::from(o.fix().local_minus_utc()))
}

/// An instant (raw TIMESTAMP_LTZ) as local time in the zone, of the same precision.
pub fn to_local(raw: i64, precision: u8, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return raw;
    }
    let unit = units_per_second(precision);
    raw.saturating_add(offset_at(zone, raw.div_euclid(unit)).saturating_mul(unit))
}

/// A local time (raw TIMESTAMP) in the zone as an instant, of the same precision.
pub fn to_instant(raw: i64, precision: u8, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return raw;
    }
    let unit = units_per_second(precision);
    raw.saturating_sub(offset_of_local(zone, raw.div_euclid(unit)).saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months() {
        assert_eq!(civil_from_days(add_months(days_from_civil(2024, 1, 31), 1)), (2024, 2, 29));
        assert_eq!(civil_from_days(add_months(days_from_civil(2024, 1, 31), -2)), (2023, 11, 30));
    }

    #[test]
    fn precision() {
        assert_eq!(rescale(1_123_456, 6, 3), Some(1_123_000));
        assert_eq!(rescale(1_123_456, 6, 9), Some(1_123_456_000));
        assert_eq!(rescale(-1, 6, 3), Some(-1000));
        assert_eq!(rescale(i64::MAX, 6, 9), None);
    }

    #[test]
    fn zones() {
        let berlin = Tz::Europe__Berlin;
        // 2023-03-26 02:30 does not exist; Java moves it to 03:30 (+02:00) = 01:30 UTC.
        let gap = days_from_civil(2023, 3, 26) * SECONDS_PER_DAY + 9000;
        assert_eq!(gap - offset_of_local(berlin, gap), days_from_civil(2023, 3, 26) * SECONDS_PER_DAY + 5400);
        // 2023-10-29 02:30 exists twice; the earlier offset is +02:00.
        let twice = days_from_civil(2023, 10, 29) * SECONDS_PER_DAY + 9000;
        assert_eq!(offset_of_local(berlin, twice), 7200);
        assert_eq!(to_local(0, 3, Tz::Asia__Shanghai), 28_800_000_000);
    }
}
