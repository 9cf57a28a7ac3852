//! Casts among DATE, TIME, TIMESTAMP and TIMESTAMP_LTZ. TIMESTAMP_LTZ is an instant; it meets the others in the session's zone.

use arrow::array::{Array, ArrayRef, Date32Array, Time32MillisecondArray, TimestampMicrosecondArray, TimestampNanosecondArray};
use arrow::datatypes::{Date32Type, Time32MillisecondType, TimestampMicrosecondType, TimestampNanosecondType};
use sluice_batch::{Result, SqlType, TypeKind};

use super::{Casted, Env, Outcome, convert, typed, unknown};
use crate::calendar::{MILLIS_PER_DAY, SECONDS_PER_DAY, from_millis, join, rescale, split, to_instant, to_local, to_millis};

/// The raw values of a TIMESTAMP or TIMESTAMP_LTZ column of either unit.
pub(crate) fn raw_timestamps(input: &ArrayRef) -> Result<&[i64]> {
    if let Some(array) = input.as_any().downcast_ref::<TimestampMicrosecondArray>() {
        return Ok(array.values());
    }
    Ok(typed::<TimestampNanosecondArray>(input)?.values())
}

/// What the target does with seconds and nanoseconds of local time.
pub(super) fn cast(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    use TypeKind::*;
    let zone = env.cx.time_zone;
    match &from.kind {
        Timestamp(p) | TimestampLtz(p) => {
            let values = raw_timestamps(input)?;
            let (p, local) = (*p, matches!(from.kind, Timestamp(_)));
            let as_local = move |raw: i64| if local { raw } else { to_local(raw, p, zone) };
            match &to.kind {
                Date => convert::<Date32Type>(input.as_ref(), from, to, env, |row| {
                    let (seconds, _) = split(as_local(values[row]), p);
                    i32::try_from(seconds.div_euclid(SECONDS_PER_DAY)).ok().into()
                }),
                Time(q) => convert::<Time32MillisecondType>(input.as_ref(), from, to, env, |row| {
                    let millis = to_millis(as_local(values[row]), p).rem_euclid(MILLIS_PER_DAY);
                    Outcome::Value(truncate_time(millis as i32, *q))
                }),
                Timestamp(q) => timestamps(input, from, to, env, |row| rescale(as_local(values[row]), p, *q)),
                TimestampLtz(q) => timestamps(input, from, to, env, |row| {
                    let raw = values[row];
                    rescale(if local { to_instant(raw, p, zone) } else { raw }, p, *q)
                }),
                _ => Err(unknown(from, to)),
            }
        }
        Date => {
            let values = typed::<Date32Array>(input)?.values();
            timestamps(input, from, to, env, |row| {
                let (q, zoned) = target(&to.kind)?;
                let raw = join(i64::from(values[row]) * SECONDS_PER_DAY, 0, q)?;
                Some(if zoned { to_instant(raw, q, zone) } else { raw })
            })
        }
        Time(_) => {
            let values = typed::<Time32MillisecondArray>(input)?.values();
            if let Time(q) = to.kind {
                return convert::<Time32MillisecondType>(input.as_ref(), from, to, env, |row| {
                    Outcome::Value(truncate_time(values[row], q))
                });
            }
            timestamps(input, from, to, env, |row| {
                let (q, zoned) = target(&to.kind)?;
                let raw = from_millis(i64::from(values[row]), q)?;
                Some(if zoned { to_instant(raw, q, zone) } else { raw })
            })
        }
        _ => Err(unknown(from, to)),
    }
}

fn target(kind: &TypeKind) -> Option<(u8, bool)> {
    match kind {
        TypeKind::Timestamp(p) => Some((*p, false)),
        TypeKind::TimestampLtz(p) => Some((*p, true)),
        _ => None,
    }
}

/// Cuts milliseconds beyond the precision.
pub(super) fn truncate_time(millis: i32, precision: u8) -> i32 {
    let step = [1000, 100, 10].get(usize::from(precision)).copied().unwrap_or(1);
    millis / step * step
}

/// A column of raw TIMESTAMPs; `None` is out of range.
pub(super) fn timestamps(
    input: &dyn Array,
    from: &SqlType,
    to: &SqlType,
    env: &Env<'_>,
    mut f: impl FnMut(usize) -> Option<i64>,
) -> Result<Casted> {
    match &to.kind {
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) if *p > 6 => {
            convert::<TimestampNanosecondType>(input, from, to, env, |row| f(row).into())
        }
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            convert::<TimestampMicrosecondType>(input, from, to, env, |row| f(row).into())
        }
        _ => Err(unknown(from, to)),
    }
}
