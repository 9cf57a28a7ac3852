//! The present: by the task's clock, anew for every batch, as Flink does in streaming (`CurrentTimePointCallGen`).

use arrow::array::ArrayRef;
use arrow::datatypes::{Date32Type, Time32MillisecondType};
use sluice_batch::{Expr, Result, TypeKind, WATERMARK_NONE};

use crate::calendar::{MILLIS_PER_DAY, from_millis, to_local, to_millis};
use crate::kernel::{Args, Body};
use crate::operator::interval::timestamps;
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["PROCTIME"], bind: |c| now(c, "PROCTIME", TypeKind::TimestampLtz(3), instant) },
    Declaration { names: &["CURRENT_TIMESTAMP"], bind: |c| now(c, "CURRENT_TIMESTAMP", TypeKind::TimestampLtz(3), instant) },
    Declaration { names: &["NOW"], bind: |c| now(c, "CURRENT_TIMESTAMP", TypeKind::TimestampLtz(3), instant) },
    Declaration { names: &["CURRENT_ROW_TIMESTAMP"], bind: |c| now(c, "CURRENT_ROW_TIMESTAMP", TypeKind::TimestampLtz(3), instant) },
    Declaration { names: &["LOCALTIMESTAMP"], bind: |c| now(c, "LOCALTIMESTAMP", TypeKind::Timestamp(3), local_timestamp) },
    Declaration { names: &["CURRENT_DATE"], bind: |c| now(c, "CURRENT_DATE", TypeKind::Date, date) },
    Declaration { names: &["CURRENT_TIME", "LOCALTIME"], bind: |c| now(c, "CURRENT_TIME", TypeKind::Time(0), time) },
    Declaration { names: &["CURRENT_WATERMARK"], bind: current_watermark },
];

fn now(mut call: Call<'_>, name: &'static str, kind: TypeKind, body: Body) -> Result<Expr> {
    call.coerce(&[], 0)?;
    Ok(call.volatile(name, kind.not_null(), body))
}

fn instant(a: &Args<'_>) -> Result<ArrayRef> {
    let now = from_millis(a.cx.now, 3);
    timestamps(a, 3, |_| now)
}

/// Milliseconds of the session's local time since 1970-01-01 00:00:00.
pub(super) fn local_millis(a: &Args<'_>) -> i64 {
    from_millis(a.cx.now, 3).map_or(0, |raw| to_millis(to_local(raw, 3, a.cx.time_zone), 3))
}

fn local_timestamp(a: &Args<'_>) -> Result<ArrayRef> {
    let now = from_millis(local_millis(a), 3);
    timestamps(a, 3, |_| now)
}

fn date(a: &Args<'_>) -> Result<ArrayRef> {
    let today = local_millis(a).div_euclid(MILLIS_PER_DAY) as i32;
    a.primitives::<Date32Type>(|_| Some(today))
}

/// TIME(0): whole seconds.
fn time(a: &Args<'_>) -> Result<ArrayRef> {
    let time = local_millis(a).rem_euclid(MILLIS_PER_DAY) / 1000 * 1000;
    a.primitives::<Time32MillisecondType>(|_| Some(time as i32))
}

/// `CURRENT_WATERMARK(rowtime)`: the watermark at the operator; NULL as long as there is none.
fn current_watermark(call: Call<'_>) -> Result<Expr> {
    if call.args.len() != 1 {
        return Err(call.wrong_count(1));
    }
    let kind = match call.args[0].ty.kind {
        TypeKind::Timestamp(_) => TypeKind::Timestamp(3),
        TypeKind::TimestampLtz(_) => TypeKind::TimestampLtz(3),
        _ => return Err(call.invalid("CURRENT_WATERMARK(<a rowtime attribute>)")),
    };
    Ok(call.volatile("CURRENT_WATERMARK", kind.nullable(), |a| {
        let watermark = a.cx.watermark;
        let raw = if watermark == WATERMARK_NONE { None } else { from_millis(watermark, 3) };
        timestamps(a, 3, |_| raw)
    }))
}
