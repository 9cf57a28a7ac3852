//! Functions on dates and times.
//!
//! TIMESTAMP_LTZ is an instant; its fields are those of the session's time zone. What asks for the present gets the task's clock.

pub(crate) mod clock;
pub(crate) mod difference;
pub(crate) mod epoch;
pub(crate) mod extract;
pub(crate) mod floor;
pub(crate) mod formatter;
pub(crate) mod names;
pub(crate) mod simple;
#[cfg(test)]
mod tests;
pub(crate) mod text;
pub(crate) mod unit;
pub(crate) mod zone;

use arrow::array::{Date32Array, Time32MillisecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use chrono_tz::Tz;
use sluice_batch::{Error, Result};

use crate::calendar::{SECONDS_PER_DAY, civil_from_days, split, to_local};
use crate::kernel::{Args, Column};
use crate::operator::interval::RawTimestamps;

/// A local date and time: seconds since 1970-01-01 00:00:00 and nanoseconds within the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Local {
    pub seconds: i64,
    pub nanos: u32,
}

impl Local {
    pub fn days(self) -> i64 {
        self.seconds.div_euclid(SECONDS_PER_DAY)
    }

    pub fn second_of_day(self) -> i64 {
        self.seconds.rem_euclid(SECONDS_PER_DAY)
    }

    /// Year, month, day.
    pub fn date(self) -> (i64, u32, u32) {
        civil_from_days(self.days())
    }

    pub fn millis(self) -> i64 {
        self.seconds * 1000 + i64::from(self.nanos / 1_000_000)
    }

    pub fn from_millis(millis: i64) -> Self {
        Self { seconds: millis.div_euclid(1000), nanos: millis.rem_euclid(1000) as u32 * 1_000_000 }
    }
}

/// A DATE, TIME, TIMESTAMP or TIMESTAMP_LTZ argument as local time.
pub(crate) enum Moments<'a> {
    Date(Column<'a, Date32Array>),
    Time(Column<'a, Time32MillisecondArray>),
    Timestamp(RawTimestamps<'a>, u8),
    Zoned(RawTimestamps<'a>, u8, Tz),
}

impl<'a> Moments<'a> {
    pub fn new(args: &Args<'a>, index: usize) -> Result<Self> {
        let value = args.values.get(index).ok_or_else(|| Error::runtime("a time argument is missing"))?;
        Ok(match value.array().data_type() {
            DataType::Date32 => Self::Date(args.date(index)?),
            DataType::Time32(_) => Self::Time(args.column(index)?),
            DataType::Timestamp(unit, zone) => {
                let precision = if *unit == TimeUnit::Nanosecond { 9 } else { 6 };
                let raw = RawTimestamps::new(args, index)?;
                match zone {
                    None => Self::Timestamp(raw, precision),
                    Some(_) => Self::Zoned(raw, precision, args.cx.time_zone),
                }
            }
            other => return Err(Error::runtime(format!("expected a date or time, got {other}"))),
        })
    }

    /// The value of a row; `None` is NULL.
    #[inline]
    pub fn get(&self, row: usize) -> Option<Local> {
        let (seconds, nanos) = match self {
            Self::Date(column) => (i64::from(column.get(row)?) * SECONDS_PER_DAY, 0),
            Self::Time(column) => return Some(Local::from_millis(i64::from(column.get(row)?))),
            Self::Timestamp(raw, precision) => split(raw.get(row)?, *precision),
            Self::Zoned(raw, precision, zone) => split(to_local(raw.get(row)?, *precision, *zone), *precision),
        };
        Some(Local { seconds, nanos })
    }
}
