//! Time zones by Java's ids: regions (`Europe/Berlin`), offsets (`+08:00`, `GMT+8`), old short ids (`JST`).

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{OffsetName, Tz};

use crate::calendar::{offset_at, offset_of_local};

/// A region with its rules, or a fixed offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Region(Tz),
    /// Seconds east of UTC.
    Fixed(i64),
}

/// Java's `ZoneId.SHORT_IDS`.
const SHORT_IDS: [(&str, &str); 28] = [
    ("ACT", "Australia/Darwin"),
    ("AET", "Australia/Sydney"),
    ("AGT", "America/Argentina/Buenos_Aires"),
    ("ART", "Africa/Cairo"),
    ("AST", "America/Anchorage"),
    ("BET", "America/Sao_Paulo"),
    ("BST", "Asia/Dhaka"),
    ("CAT", "Africa/Harare"),
    ("CNT", "America/St_Johns"),
    ("CST", "America/Chicago"),
    ("CTT", "Asia/Shanghai"),
    ("EAT", "Africa/Addis_Ababa"),
    ("ECT", "Europe/Paris"),
    ("EST", "-05:00"),
    ("HST", "-10:00"),
    ("IET", "America/Indiana/Indianapolis"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("MIT", "Pacific/Apia"),
    ("MST", "-07:00"),
    ("NET", "Asia/Yerevan"),
    ("NST", "Pacific/Auckland"),
    ("PLT", "Asia/Karachi"),
    ("PNT", "America/Phoenix"),
    ("PRT", "America/Puerto_Rico"),
    ("PST", "America/Los_Angeles"),
    ("SST", "Pacific/Guadalcanal"),
    ("VST", "Asia/Ho_Chi_Minh"),
];

/// `±h`, `±hh`, `±hhmm`, `±hh:mm` in seconds, 18 hours at most.
fn offset(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some((h, m)) if m.len() == 2 => (h, m),
        Some(_) => return None,
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "0"),
    };
    if hours.is_empty() || hours.len() > 2 || !hours.bytes().chain(minutes.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= 18 * 3600).then_some(sign * seconds)
}

impl Zone {
    pub const UTC: Zone = Zone::Fixed(0);

    /// By its id; `None` if there is no such zone (Java: `ZoneId.of`).
    pub fn parse(id: &str) -> Option<Self> {
        if id == "Z" {
            return Some(Self::UTC);
        }
        if let Some(seconds) = offset(id) {
            return Some(Self::Fixed(seconds));
        }
        if let Some(seconds) = ["UTC", "GMT", "UT"].iter().find_map(|p| offset(id.strip_prefix(p)?)) {
            return Some(Self::Fixed(seconds));
        }
        id.parse::<Tz>().ok().map(Self::Region)
    }

    /// By its id; GMT if there is no such zone (Java: `TimeZone.getTimeZone`).
    pub fn lenient(id: &str) -> Self {
        let id = SHORT_IDS.iter().find(|(short, _)| *short == id).map_or(id, |(_, long)| long);
        Self::parse(id).unwrap_or(Self::UTC)
    }

    /// Seconds east of UTC at an instant.
    pub fn offset_at(self, instant: i64) -> i64 {
        match self {
            Self::Region(zone) => offset_at(zone, instant),
            Self::Fixed(seconds) => seconds,
        }
    }

    /// The offset for a local time; the earlier where clocks are set back (Java: `LocalDateTime.atZone`).
    pub fn offset_of_local(self, local: i64) -> i64 {
        match self {
            Self::Region(zone) => offset_of_local(zone, local),
            Self::Fixed(seconds) => seconds,
        }
    }

    /// The offset for a local time; the later where clocks are set back (Java: `GregorianCalendar`).
    pub fn standard_offset_of_local(self, local: i64) -> i64 {
        let naive = |seconds: i64| -> Option<NaiveDateTime> { DateTime::from_timestamp(seconds, 0).map(|t| t.naive_utc()) };
        match self {
            Self::Region(zone) => match naive(local).and_then(|t| zone.offset_from_local_datetime(&t).latest()) {
                Some(offset) => i64::from(offset.fix().local_minus_utc()),
                None => offset_of_local(zone, local),
            },
            Self::Fixed(seconds) => seconds,
        }
    }

    /// The name at an instant: `CET`, `CEST`, `GMT+08:00`.
    pub fn push_name(self, out: &mut String, instant: i64) {
        match self {
            Self::Region(zone) => {
                let Some(at) = DateTime::from_timestamp(instant, 0) else { return };
                let offset = zone.offset_from_utc_datetime(&at.naive_utc());
                out.push_str(offset.abbreviation().unwrap_or("UTC"));
            }
            Self::Fixed(0) => out.push_str("GMT"),
            Self::Fixed(seconds) => {
                out.push_str("GMT");
                push_offset(out, seconds, true);
            }
        }
    }
}

/// `+hhmm` or `+hh:mm`.
pub(crate) fn push_offset(out: &mut String, seconds: i64, colon: bool) {
    out.push(if seconds < 0 { '-' } else { '+' });
    let minutes = (seconds.unsigned_abs() / 60) as u32;
    crate::cast::render::push_2(out, minutes / 60);
    if colon {
        out.push(':');
    }
    crate::cast::render::push_2(out, minutes % 60);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let cases = [
            ("UTC", Some(Zone::Region(Tz::UTC))),
            ("Z", Some(Zone::UTC)),
            ("+08:00", Some(Zone::Fixed(28_800))),
            ("-0530", Some(Zone::Fixed(-19_800))),
            ("GMT+8", Some(Zone::Fixed(28_800))),
            ("UTC-01:30", Some(Zone::Fixed(-5400))),
            ("Asia/Shanghai", Some(Zone::Region(Tz::Asia__Shanghai))),
            ("+19:00", None),
            ("+1:2", None),
            ("Nowhere/Land", None),
            ("", None),
        ];
        for (id, zone) in cases {
            assert_eq!(Zone::parse(id), zone, "{id}");
        }
        assert_eq!(Zone::lenient("JST"), Zone::Region(Tz::Asia__Tokyo));
        assert_eq!(Zone::lenient("nonsense"), Zone::UTC);
        for (id, zone) in SHORT_IDS {
            assert!(Zone::parse(zone).is_some(), "{id}");
        }
    }

    #[test]
    fn ambiguous_times() {
        let berlin = Zone::Region(Tz::Europe__Berlin);
        // 2023-10-29 02:30 exists twice.
        let twice = crate::calendar::days_from_civil(2023, 10, 29) * 86_400 + 9000;
        assert_eq!((berlin.offset_of_local(twice), berlin.standard_offset_of_local(twice)), (7200, 3600));
    }
}
