//! EXTRACT and its short forms YEAR, MONTH, HOUR, … (Flink: `ExtractCallGen`; Calcite rewrites the short forms to EXTRACT).

use arrow::array::{ArrayRef, DurationMillisecondArray, IntervalYearMonthArray};
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::unit::Unit;
use super::{Local, Moments};
use crate::calendar::days_from_civil;
use crate::kernel::Args;
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["EXTRACT"], bind: extract_bind },
    Declaration { names: &["YEAR"], bind: |c| short(c, Unit::Year) },
    Declaration { names: &["QUARTER"], bind: |c| short(c, Unit::Quarter) },
    Declaration { names: &["MONTH"], bind: |c| short(c, Unit::Month) },
    Declaration { names: &["WEEK"], bind: |c| short(c, Unit::Week) },
    Declaration { names: &["DAYOFYEAR"], bind: |c| short(c, Unit::Doy) },
    Declaration { names: &["DAYOFMONTH"], bind: |c| short(c, Unit::Day) },
    Declaration { names: &["DAYOFWEEK"], bind: |c| short(c, Unit::Dow) },
    Declaration { names: &["HOUR"], bind: |c| short(c, Unit::Hour) },
    Declaration { names: &["MINUTE"], bind: |c| short(c, Unit::Minute) },
    Declaration { names: &["SECOND"], bind: |c| short(c, Unit::Second) },
];

fn extract_bind(mut call: Call<'_>) -> Result<Expr> {
    if call.args.len() != 2 {
        return Err(call.wrong_count(2));
    }
    let unit = call.take_unit(0)?;
    typed(call, unit)
}

fn short(call: Call<'_>, unit: Unit) -> Result<Expr> {
    if call.args.len() != 1 {
        return Err(call.wrong_count(1));
    }
    typed(call, unit)
}

fn typed(mut call: Call<'_>, unit: Unit) -> Result<Expr> {
    if call.args[0].ty.kind == TypeKind::Null {
        call.cast_arg(0, TypeKind::Timestamp(3))?;
    }
    let kind = &call.args[0].ty.kind;
    let fits = match kind {
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => true,
        TypeKind::Date => !matches!(unit, Unit::Nanosecond | Unit::Microsecond),
        TypeKind::Time(_) => unit.is_below_day() && !matches!(unit, Unit::Nanosecond | Unit::Microsecond),
        TypeKind::IntervalDayTime => unit.is_below_day() || unit == Unit::Day,
        TypeKind::IntervalYearMonth => unit.months().is_some(),
        _ => return Err(call.invalid("EXTRACT(<DATETIME INTERVAL> FROM <DATETIME>), EXTRACT(<DATETIME INTERVAL> FROM <INTERVAL>)")),
    };
    if !fits {
        return Err(Error::plan(format!("unit {} can not be applied to {kind} variable", unit.name())).at(call.span));
    }
    let ty = TypeKind::BigInt.with_nullable(call.args[0].ty.nullable);
    let body = match kind {
        TypeKind::IntervalDayTime => of_duration,
        TypeKind::IntervalYearMonth => of_months,
        _ => of_moment,
    };
    Ok(call.unit_kernel("EXTRACT", unit, ty, body))
}

fn of_moment(a: &Args<'_>, unit: Unit) -> Result<ArrayRef> {
    let moments = Moments::new(a, 0)?;
    a.i64s(|row| Some(field(unit, moments.get(row)?)))
}

fn of_duration(a: &Args<'_>, unit: Unit) -> Result<ArrayRef> {
    let column = a.column::<DurationMillisecondArray>(0)?;
    a.i64s(|row| {
        let millis = column.get(row)?;
        Some(match unit {
            Unit::Hour => millis % 86_400_000 / 3_600_000,
            Unit::Minute => millis % 3_600_000 / 60_000,
            Unit::Second => millis % 60_000 / 1000,
            Unit::Millisecond => millis % 1000,
            Unit::Microsecond => millis % 1000 * 1000,
            Unit::Nanosecond => millis % 1000 * 1_000_000,
            _ => millis / 86_400_000,
        })
    })
}

fn of_months(a: &Args<'_>, unit: Unit) -> Result<ArrayRef> {
    let column = a.column::<IntervalYearMonthArray>(0)?;
    a.i64s(|row| {
        let months = i64::from(column.get(row)?);
        Some(match unit {
            Unit::Month => months % 12,
            Unit::Quarter => months % 12 / 3 + 1,
            _ => months / unit.months().unwrap_or(12),
        })
    })
}

/// The day of the week, 0 is Monday.
pub(super) fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}

/// ISO 8601: the year and the number of the week, which begins on Monday; week 1 holds the year's first Thursday.
pub(super) fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - weekday(days) + 3;
    let (year, _, _) = crate::calendar::civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// How many units of `size` years a year is within, counted from 1: 2000 is in century 20, 2001 in 21.
fn counted(year: i64, size: i64) -> i64 {
    if year > 0 { (year + size - 1) / size } else { (year - size + 1) / size }
}

/// A field of a local time. Sub-second fields count within the second, as in Flink (`EXTRACT(MILLISECOND …)` is below 1000).
fn field(unit: Unit, local: Local) -> i64 {
    let (days, second) = (local.days(), local.second_of_day());
    let (year, month, day) = local.date();
    match unit {
        Unit::Nanosecond => i64::from(local.nanos),
        Unit::Microsecond => i64::from(local.nanos / 1000),
        Unit::Millisecond => i64::from(local.nanos / 1_000_000),
        Unit::Second => second % 60,
        Unit::Minute => second / 60 % 60,
        Unit::Hour => second / 3600,
        Unit::Day => i64::from(day),
        Unit::Dow => (weekday(days) + 1) % 7 + 1,
        Unit::IsoDow => weekday(days) + 1,
        Unit::Doy => days - days_from_civil(year, 1, 1) + 1,
        Unit::Week => iso_week(days).1,
        Unit::Month => i64::from(month),
        Unit::Quarter => i64::from(month.div_ceil(3)),
        Unit::Year => year,
        Unit::IsoYear => iso_week(days).0,
        // Of TIMESTAMP_LTZ too, the seconds of local time: Flink's `convertExtract` adds the zone's offset.
        Unit::Epoch => local.seconds,
        Unit::Decade => year / 10,
        Unit::Century => counted(year, 100),
        Unit::Millennium => counted(year, 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_years() {
        // Flink: TemporalTypesTest
        let cases = [
            ((1900, 1, 1), 1900, 1),
            ((1950, 1, 1), 1949, 7),
            ((1950, 1, 2), 1950, 1),
            ((1970, 1, 1), 1970, 4),
            ((1969, 12, 31), 1970, 3),
            ((1969, 12, 29), 1970, 1),
            ((1969, 12, 28), 1969, 7),
            ((2006, 1, 1), 2005, 7),
            ((2005, 1, 1), 2004, 6),
        ];
        for ((y, m, d), year, day) in cases {
            let local = Local { seconds: days_from_civil(y, m, d) * 86_400, nanos: 0 };
            assert_eq!((field(Unit::IsoYear, local), field(Unit::IsoDow, local)), (year, day), "{y}-{m}-{d}");
        }
    }
}
