//! Casts to and from CHAR/VARCHAR and BINARY/VARBINARY.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, Date32Array, Decimal128Array, DurationMillisecondArray,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, IntervalYearMonthArray, ListArray, MapArray, StringArray,
    StringBuilder, StructArray, Time32MillisecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, TimeUnit,
};
use sluice_batch::{Error, EvalContext, Result, SqlType, TypeKind};

use super::{Casted, Env, convert, failure, parse, render, temporal, unknown};
use crate::calendar::{to_instant, to_local};

/// Appends the text of a row's value (which is not NULL); `None` if it has none (bytes that are no UTF-8).
pub type Renderer<'a> = Box<dyn Fn(usize, &mut String) -> Option<()> + 'a>;

/// How `CAST(… AS STRING)` writes the values of a column. Types are looked at once, not for every row.
///
/// # Errors
/// If the column is not of the type: a defect of the planner.
pub fn renderer<'a>(array: &'a dyn Array, ty: &SqlType, cx: &EvalContext) -> Result<Renderer<'a>> {
    macro_rules! each {
        ($t:ty, |$v:ident, $out:ident| $body:expr) => {{
            let array = down::<$t>(array)?;
            Box::new(move |row, $out: &mut String| {
                let $v = array.value(row);
                $body;
                Some(())
            })
        }};
    }
    Ok(match &ty.kind {
        // Arrow keeps no validity for columns of nothing but NULL, so that `is_null` does not tell.
        TypeKind::Null => Box::new(|_, out| {
            out.push_str("NULL");
            Some(())
        }),
        TypeKind::Boolean => each!(BooleanArray, |v, out| out.push_str(if v { "TRUE" } else { "FALSE" })),
        TypeKind::TinyInt => each!(Int8Array, |v, out| render::push_int(out, i64::from(v))),
        TypeKind::SmallInt => each!(Int16Array, |v, out| render::push_int(out, i64::from(v))),
        TypeKind::Int => each!(Int32Array, |v, out| render::push_int(out, i64::from(v))),
        TypeKind::BigInt => each!(Int64Array, |v, out| render::push_int(out, v)),
        TypeKind::Float => each!(Float32Array, |v, out| render::push_float(out, v)),
        TypeKind::Double => each!(Float64Array, |v, out| render::push_double(out, v)),
        TypeKind::Decimal(_, s) => {
            let s = *s;
            each!(Decimal128Array, |v, out| render::push_decimal(out, v, s))
        }
        TypeKind::Char(_) | TypeKind::VarChar(_) | TypeKind::Variant => each!(StringArray, |v, out| out.push_str(v)),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => {
            let array = down::<BinaryArray>(array)?;
            Box::new(move |row, out| {
                out.push_str(std::str::from_utf8(array.value(row)).ok()?);
                Some(())
            })
        }
        TypeKind::Date => each!(Date32Array, |v, out| render::push_date(out, i64::from(v))),
        TypeKind::Time(p) => {
            let p = *p;
            each!(Time32MillisecondArray, |v, out| render::push_time(out, v, p))
        }
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let (p, local, zone) = (*p, matches!(ty.kind, TypeKind::Timestamp(_)), cx.time_zone);
            let push = move |raw: i64, out: &mut String| render::push_timestamp(out, if local { raw } else { to_local(raw, p, zone) }, p);
            match TypeKind::timestamp_unit(p) {
                TimeUnit::Nanosecond => each!(TimestampNanosecondArray, |v, out| push(v, out)),
                _ => each!(TimestampMicrosecondArray, |v, out| push(v, out)),
            }
        }
        TypeKind::IntervalYearMonth => each!(IntervalYearMonthArray, |v, out| render::push_year_month(out, v)),
        TypeKind::IntervalDayTime => each!(DurationMillisecondArray, |v, out| render::push_day_time(out, v)),
        TypeKind::Array(element) => array_renderer(down(array)?, element, cx)?,
        TypeKind::Map(key, value) => map_renderer(down(array)?, key, value, cx)?,
        TypeKind::Multiset(element) => map_renderer(down(array)?, element, &TypeKind::Int.not_null(), cx)?,
        TypeKind::Row(fields) => {
            let rows = down::<StructArray>(array)?;
            let parts = fields.iter().zip(rows.columns()).map(|(f, c)| Ok((c, renderer(c.as_ref(), &f.ty, cx)?)));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            Box::new(move |row, out| {
                out.push('(');
                for (i, (column, render)) in parts.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    or_null(column.as_ref(), render, row, out)?;
                }
                out.push(')');
                Some(())
            })
        }
    })
}

fn down<A: Array + 'static>(array: &dyn Array) -> Result<&A> {
    let found = array.as_any().downcast_ref::<A>();
    found.ok_or_else(|| Error::runtime(format!("unexpected Arrow type {} in a cast to text", array.data_type())))
}

fn or_null(array: &dyn Array, render: &Renderer<'_>, row: usize, out: &mut String) -> Option<()> {
    if array.is_null(row) {
        out.push_str("NULL");
        return Some(());
    }
    render(row, out)
}

fn array_renderer<'a>(array: &'a ListArray, element: &SqlType, cx: &EvalContext) -> Result<Renderer<'a>> {
    let items = array.values();
    let render = renderer(items.as_ref(), element, cx)?;
    Ok(Box::new(move |row, out| {
        let offsets = array.value_offsets();
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        out.push('[');
        for i in start..end {
            out.push_str(if i > start { ", " } else { "" });
            or_null(items.as_ref(), &render, i, out)?;
        }
        out.push(']');
        Some(())
    }))
}

fn map_renderer<'a>(array: &'a MapArray, key: &SqlType, value: &SqlType, cx: &EvalContext) -> Result<Renderer<'a>> {
    let (keys, values) = (array.keys(), array.values());
    let (render_key, render_value) = (renderer(keys.as_ref(), key, cx)?, renderer(values.as_ref(), value, cx)?);
    Ok(Box::new(move |row, out| {
        let offsets = array.value_offsets();
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        out.push('{');
        for i in start..end {
            out.push_str(if i > start { ", " } else { "" });
            or_null(keys.as_ref(), &render_key, i, out)?;
            out.push('=');
            or_null(values.as_ref(), &render_value, i, out)?;
        }
        out.push('}');
        Some(())
    }))
}

/// A value for an error message.
pub(super) fn show(array: &dyn Array, row: usize, ty: &SqlType, cx: &EvalContext) -> String {
    let mut out = String::new();
    match renderer(array, ty, cx) {
        Ok(render) if render(row, &mut out).is_some() => out,
        _ => "?".to_string(),
    }
}

/// Cuts text to `length` characters; CHAR is padded with blanks.
pub(crate) fn fit(text: &mut String, kind: &TypeKind) {
    let (length, pad) = match kind {
        TypeKind::Char(n) => (*n as usize, true),
        TypeKind::VarChar(n) => (*n as usize, false),
        _ => return,
    };
    if text.len() > length
        && let Some((at, _)) = text.char_indices().nth(length)
    {
        text.truncate(at);
    }
    if pad {
        let count = text.chars().count();
        text.extend(std::iter::repeat_n(' ', length.saturating_sub(count)));
    }
}

/// Whether all values have `length` characters or more.
fn all_reach(input: &ArrayRef, length: u32) -> bool {
    let reaches = |text: &str| text.len() >= length as usize && text.chars().count() >= length as usize;
    input.as_any().downcast_ref::<StringArray>().is_some_and(|a| a.iter().flatten().all(reaches))
}

pub(super) fn to_text(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    if let (TypeKind::Char(n), TypeKind::VarChar(m)) = (&from.kind, &to.kind)
        && n <= m
        && all_reach(input, *n)
    {
        return Ok(input.clone().into());
    }
    let render = renderer(input.as_ref(), from, env.cx)?;
    let mut builder = StringBuilder::with_capacity(input.len(), input.len() * 16);
    let mut failed = vec![];
    let mut buffer = String::new();
    for row in 0..input.len() {
        if input.is_null(row) {
            builder.append_null();
            continue;
        }
        buffer.clear();
        if render(row, &mut buffer).is_some() {
            if matches!(from.kind, TypeKind::Char(_)) {
                fit(&mut buffer, &from.kind);
            }
            fit(&mut buffer, &to.kind);
            builder.append_value(&buffer);
        } else if env.try_cast {
            failed.push(row as u32);
            builder.append_null();
        } else {
            return Err(failure("bytes that are no UTF-8", from, to));
        }
    }
    Ok(Casted { array: Arc::new(builder.finish()), failed })
}

/// From text or bytes; BINARY(n) is cut or padded with zero bytes, VARBINARY(n) is cut.
pub(super) fn to_binary(input: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<Casted> {
    let (length, pad) = match &to.kind {
        TypeKind::Binary(n) => (*n as usize, true),
        TypeKind::VarBinary(n) => (*n as usize, false),
        _ => return Err(unknown(from, to)),
    };
    let mut builder = BinaryBuilder::with_capacity(input.len(), input.len() * 16);
    let strings = input.as_any().downcast_ref::<StringArray>();
    let bytes = input.as_any().downcast_ref::<BinaryArray>();
    let mut padded = vec![];
    for row in 0..input.len() {
        if input.is_null(row) {
            builder.append_null();
            continue;
        }
        let value = match (strings, bytes) {
            (Some(s), _) => s.value(row).as_bytes(),
            (_, Some(b)) => b.value(row),
            _ => return Err(unknown(from, to)),
        };
        if pad && value.len() < length {
            padded.clear();
            padded.extend_from_slice(value);
            padded.resize(length, 0);
            builder.append_value(&padded);
        } else {
            builder.append_value(&value[..value.len().min(length)]);
        }
    }
    Ok(Casted::from(Arc::new(builder.finish()) as ArrayRef))
}

pub(super) fn from_text(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    let array: &StringArray = super::typed(input)?;
    macro_rules! integer {
        ($t:ty, $native:ty) => {
            convert::<$t>(array, from, to, env, |row| {
                let wide = parse::integer(array.value(row), <$native>::MIN.into(), <$native>::MAX.into());
                wide.map(|v| v as $native).into()
            })
        };
    }
    match &to.kind {
        TypeKind::Boolean => boolean(array, from, to, env),
        TypeKind::TinyInt => integer!(Int8Type, i8),
        TypeKind::SmallInt => integer!(Int16Type, i16),
        TypeKind::Int => integer!(Int32Type, i32),
        TypeKind::BigInt => integer!(Int64Type, i64),
        TypeKind::Float => convert::<Float32Type>(array, from, to, env, |row| parse::float(array.value(row)).into()),
        TypeKind::Double => convert::<Float64Type>(array, from, to, env, |row| parse::double(array.value(row)).into()),
        TypeKind::Decimal(p, s) => convert::<Decimal128Type>(array, from, to, env, |row| parse::decimal(array.value(row), *p, *s).into()),
        TypeKind::Date => convert::<Date32Type>(array, from, to, env, |row| parse::date(array.value(row)).into()),
        TypeKind::Time(p) => convert::<Time32MillisecondType>(array, from, to, env, |row| parse::time(array.value(row), *p).into()),
        TypeKind::Timestamp(p) => temporal::timestamps(array, from, to, env, |row| parse::timestamp(array.value(row), *p)),
        TypeKind::TimestampLtz(p) => {
            let zone = env.cx.time_zone;
            temporal::timestamps(array, from, to, env, |row| parse::timestamp(array.value(row), *p).map(|raw| to_instant(raw, *p, zone)))
        }
        _ => Err(unknown(from, to)),
    }
}

fn boolean(array: &StringArray, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    let mut builder = BooleanBuilder::with_capacity(array.len());
    let mut failed = vec![];
    for (row, text) in array.iter().enumerate() {
        let value = text.and_then(parse::boolean);
        if let (Some(text), None) = (text, value) {
            if !env.try_cast {
                return Err(failure(text, from, to));
            }
            failed.push(row as u32);
        }
        builder.append_option(value);
    }
    Ok(Casted { array: Arc::new(builder.finish()), failed })
}
