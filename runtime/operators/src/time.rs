//! Time attributes as milliseconds, and windows' bounds in the session's zone (Flink: `TimeWindowUtil`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use chrono::{DateTime, MappedLocalTime, Offset, TimeZone};
use chrono_tz::Tz;
use sluice_batch::{Error, Millis, Result, SqlType, TypeKind};

const HOUR: Millis = 3_600_000;

/// A time column in milliseconds since the epoch; NULLs stay.
///
/// # Errors
/// If the column is not of a time attribute's type: a defect of the planner.
pub fn to_millis(column: &ArrayRef) -> Result<Int64Array> {
    Ok(match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().unary(|v: i64| v.div_euclid(1000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().unary(|v: i64| v.div_euclid(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => column.as_primitive::<TimestampMillisecondType>().unary(|v: i64| v),
        DataType::Int64 => column.as_primitive::<arrow::datatypes::Int64Type>().clone(),
        other => return Err(Error::runtime(format!("a time attribute cannot be {other}"))),
    })
}

/// A rowtime column in milliseconds.
///
/// # Errors
/// If a row's time is NULL.
pub fn rowtimes(column: &ArrayRef) -> Result<Vec<Millis>> {
    let millis = to_millis(column)?;
    if millis.null_count() > 0 {
        return Err(null_rowtime());
    }
    Ok(millis.values().to_vec())
}

/// What Flink says of NULL in a rowtime column.
pub fn null_rowtime() -> Error {
    Error::runtime("RowTime field should not be null, please convert it to a non-null long value")
        .hint("filter such rows out before the watermark, or make the column NOT NULL")
}

/// TIMESTAMP(3) without zone.
pub fn timestamp_type() -> SqlType {
    TypeKind::Timestamp(3).not_null()
}

/// Milliseconds as a TIMESTAMP(3) column.
pub fn timestamps(millis: impl IntoIterator<Item = Millis>) -> ArrayRef {
    Arc::new(millis.into_iter().map(|m| Some(m.saturating_mul(1000))).collect::<TimestampMicrosecondArray>())
}

/// Milliseconds as a TIMESTAMP_LTZ(3) column.
pub fn timestamps_ltz(millis: impl IntoIterator<Item = Millis>) -> ArrayRef {
    let plain = millis.into_iter().map(|m| Some(m.saturating_mul(1000))).collect::<TimestampMicrosecondArray>();
    Arc::new(plain.with_timezone("UTC"))
}

/// Moves instants to the wall clock of a zone and back. For UTC it is free.
#[derive(Clone, Copy, Debug)]
pub struct Zone(Option<Tz>);

impl Zone {
    /// The session's zone for LTZ windows; none otherwise.
    pub fn new(ltz: bool, zone: Tz) -> Self {
        Self((ltz && !matches!(zone, Tz::UTC | Tz::Etc__UTC)).then_some(zone))
    }

    pub fn is_utc(self) -> bool {
        self.0.is_none()
    }

    /// Wall clock of an instant, as milliseconds (Flink: `toUtcTimestampMills`).
    pub fn to_local(self, epoch: Millis) -> Millis {
        match self.0 {
            None => epoch,
            Some(tz) => match DateTime::from_timestamp_millis(epoch) {
                Some(t) => epoch + offset_millis(tz, t),
                None => epoch,
            },
        }
    }

    /// Instant of a wall clock time (Flink: `toEpochMills`; `java.time`: the earlier of two, and gaps are skipped).
    pub fn to_epoch(self, local: Millis) -> Millis {
        let Some(tz) = self.0 else { return local };
        let Some(naive) = DateTime::from_timestamp_millis(local).map(|t| t.naive_utc()) else { return local };
        match tz.offset_from_local_datetime(&naive) {
            MappedLocalTime::Single(o) | MappedLocalTime::Ambiguous(o, _) => local - i64::from(o.fix().local_minus_utc()) * 1000,
            // In a gap java.time goes on with the offset before it.
            MappedLocalTime::None => {
                let before = DateTime::from_timestamp_millis(local - 24 * HOUR).map_or(0, |t| offset_millis(tz, t));
                local - before
            }
        }
    }

    /// When a timer for a wall clock time goes off: the later instant when clocks are set back, and the gap's start when they are
    /// set forward (Flink: `toEpochMillsForTimer`).
    pub fn to_timer(self, local: Millis) -> Millis {
        if self.0.is_none() || local == Millis::MAX {
            return local;
        }
        let (first, second) = (self.to_epoch(local), self.to_epoch(local + HOUR));
        if second - first > HOUR {
            second - HOUR
        } else if first == second {
            first - first % HOUR
        } else {
            first
        }
    }
}

fn offset_millis(tz: Tz, at: DateTime<chrono::Utc>) -> Millis {
    i64::from(tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        let ms = |s: &str| s.parse::<DateTime<chrono::Utc>>().map(|t| t.timestamp_millis()).unwrap_or_default();
        let la = Zone::new(true, Tz::America__Los_Angeles);
        // Winter and summer.
        assert_eq!(la.to_local(ms("2021-01-01T08:00:00Z")), ms("2021-01-01T00:00:00Z"));
        assert_eq!(la.to_epoch(ms("2021-07-01T00:00:00Z")), ms("2021-07-01T07:00:00Z"));
        // 2021-03-14 02:30 does not exist; a timer for it goes off at 02:00 PST = 10:00 UTC.
        assert_eq!(la.to_epoch(ms("2021-03-14T02:30:00Z")), ms("2021-03-14T10:30:00Z"));
        // 2021-11-07 01:30 exists twice.
        assert_eq!(la.to_epoch(ms("2021-11-07T01:30:00Z")), ms("2021-11-07T08:30:00Z"));
        assert_eq!(la.to_timer(ms("2021-11-07T01:30:00Z")), ms("2021-11-07T09:30:00Z"));
        assert!(Zone::new(false, Tz::America__Los_Angeles).is_utc());
    }
}
