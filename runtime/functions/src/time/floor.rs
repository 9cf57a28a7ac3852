//! FLOOR and CEIL of times to a unit.
//!
//! Source: Flink's `FloorCeilCallGen` and `DateTimeUtils.julianDateFloor`. Weeks begin on Sunday. CEIL to units above a day looks at
//! the date only: `CEIL(TIMESTAMP '2018-03-01 21:00:01' TO MONTH)` is 2018-03-01 (Flink: `TemporalTypesTest`). Unlike in Flink, times
//! before 1970 go by the same rules as later ones.

use arrow::array::ArrayRef;
use arrow::datatypes::{Date32Type, Time32MillisecondType};
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::unit::Unit;
use super::{Local, Moments};
use crate::Call;
use crate::calendar::{MILLIS_PER_DAY, SECONDS_PER_DAY, civil_from_days, days_from_civil, join, to_instant};
use crate::kernel::Args;
use crate::operator::interval::timestamps;

/// `FLOOR(x TO unit)`, `CEIL(x TO unit)`.
pub(crate) fn bind(mut call: Call<'_>, ceil: bool) -> Result<Expr> {
    let unit = call.take_unit(1)?;
    let ty = call.args[0].ty.clone();
    if unit.millis().is_none() && unit.months().is_none() {
        return Err(Error::plan(format!("unit {} can not be applied to {}", unit.name(), call.name)).at(call.span));
    }
    let fits = match &ty.kind {
        TypeKind::Time(_) => unit.is_below_day(),
        kind => kind.is_datetime(),
    };
    if !fits {
        return Err(call.invalid("FLOOR(<DATETIME> TO <TIME_UNIT>), CEIL(<DATETIME> TO <TIME_UNIT>)"));
    }
    Ok(if ceil {
        call.unit_kernel("CEIL", unit, ty, |a, u| round(a, u, true))
    } else {
        call.unit_kernel("FLOOR", unit, ty, |a, u| round(a, u, false))
    })
}

fn round(a: &Args<'_>, unit: Unit, ceil: bool) -> Result<ArrayRef> {
    let moments = Moments::new(a, 0)?;
    let local = |row: usize| Some(rounded(moments.get(row)?, unit, ceil));
    match &moments {
        // Units below a day leave a DATE as it is; the day's own CEIL is the next day.
        Moments::Date(column) if unit.is_below_day() => a.primitives::<Date32Type>(|row| column.get(row)),
        Moments::Date(column) => {
            a.primitives::<Date32Type>(|row| i32::try_from(rounded_date(i64::from(column.get(row)?), unit, ceil)).ok())
        }
        Moments::Time(_) => a.primitives::<Time32MillisecondType>(|row| Some(local(row)?.millis().rem_euclid(MILLIS_PER_DAY) as i32)),
        Moments::Timestamp(_, precision) => timestamps(a, *precision, |row| {
            let local = local(row)?;
            join(local.seconds, local.nanos, *precision)
        }),
        Moments::Zoned(_, precision, zone) => timestamps(a, *precision, |row| {
            let local = local(row)?;
            Some(to_instant(join(local.seconds, local.nanos, *precision)?, *precision, *zone))
        }),
    }
}

fn rounded(local: Local, unit: Unit, ceil: bool) -> Local {
    match unit.millis() {
        Some(size) if unit != Unit::Week => {
            let (millis, rest) = (local.millis(), local.nanos % 1_000_000);
            let down = millis.div_euclid(size) * size;
            Local::from_millis(if ceil && (down != millis || rest != 0) { down + size } else { down })
        }
        _ => Local { seconds: rounded_date(local.days(), unit, ceil) * SECONDS_PER_DAY, nanos: 0 },
    }
}

/// A date (days since 1970-01-01) rounded to a unit of a day or more.
fn rounded_date(days: i64, unit: Unit, ceil: bool) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let month = i64::from(month);
    let up = i64::from(ceil);
    let years = |size: i64, first: i64| days_from_civil(first + size * ((year - first).div_euclid(size) + up), 1, 1);
    let months = |month: i64| days_from_civil(year + (month - 1).div_euclid(12), (month - 1).rem_euclid(12) as u32 + 1, 1);
    let in_year = month > 1 || day > 1;
    match unit {
        Unit::Millennium => years(1000, 1),
        Unit::Century => years(100, 1),
        Unit::Decade => years(10, 0),
        Unit::Year => days_from_civil(year + i64::from(ceil && in_year), 1, 1),
        Unit::Quarter => months(((month - 1) / 3 + i64::from(ceil && in_year)) * 3 + 1),
        Unit::Month => months(month + i64::from(ceil && day > 1)),
        Unit::Week => {
            let since_sunday = (days + 4).rem_euclid(7);
            if ceil && since_sunday > 0 { days - since_sunday + 7 } else { days - since_sunday }
        }
        _ => days + up,
    }
}
