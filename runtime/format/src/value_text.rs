//! Values from and to plain text: fields of CSV, keys of maps. Not the way of JSON values, which have types of their own.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sluice_batch::TypeKind;

use crate::column::{Column, Data};
use crate::text::{self, Decimal, TimestampFormat};
use crate::view::View;

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Appends what a Base64 text stands for; false if it is none.
pub(crate) fn base64_into(text: &[u8], out: &mut Vec<u8>) -> bool {
    BASE64.decode_vec(text, out).is_ok()
}

/// Appends bytes as Base64.
pub(crate) fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    if let Ok(len) = BASE64.encode_slice(bytes, &mut out[start..]) {
        out.truncate(start + len);
    }
}

/// Appends the value that a text stands for (what `CAST(… AS STRING)` writes) to a column. `null` is NULL where it is no string.
/// False, and the column as before, if the text has no such value.
pub(crate) fn push(column: &mut Column, text: &[u8], format: TimestampFormat) -> bool {
    if text.eq_ignore_ascii_case(b"null") && !column.kind.is_character() {
        column.push_null();
        return true;
    }
    push_value(column, text, format)
}

/// As [`push`], but `null` means nothing.
pub(crate) fn push_value(column: &mut Column, text: &[u8], format: TimestampFormat) -> bool {
    let len = column.len();
    match push_not_null(column, text, format) {
        Some(true) => column.set_valid(),
        Some(false) => column.push_null(),
        None => {
            column.truncate(len);
            return false;
        }
    }
    true
}

/// `Some(false)`: the value is NULL (a decimal that does not fit).
fn push_not_null(column: &mut Column, text: &[u8], format: TimestampFormat) -> Option<bool> {
    let number = text::trim(text);
    match (&mut column.data, &column.kind) {
        (Data::Null, _) => return Some(false),
        (Data::Boolean(v), _) => v.push(match () {
            () if number.eq_ignore_ascii_case(b"true") => true,
            () if number.eq_ignore_ascii_case(b"false") => false,
            () => return None,
        }),
        (Data::Int8(v), _) => v.push(i8::try_from(text::parse_integer(number)?).ok()?),
        (Data::Int16(v), _) => v.push(i16::try_from(text::parse_integer(number)?).ok()?),
        (Data::Int32(v), TypeKind::Date) => v.push(text::parse_date(number)?),
        (Data::Int32(v), TypeKind::Time(p)) => v.push(text::parse_time(number, *p, true)?),
        (Data::Int32(v), _) => v.push(i32::try_from(text::parse_integer(number)?).ok()?),
        (Data::Int64(v), TypeKind::Timestamp(p)) => v.push(text::parse_timestamp(number, format, false, *p)?),
        (Data::Int64(v), TypeKind::TimestampLtz(p)) => v.push(text::parse_timestamp(number, format, true, *p)?),
        (Data::Int64(v), _) => v.push(text::parse_integer(number)?),
        (Data::Float32(v), _) => v.push(text::parse_float(number)?),
        (Data::Float64(v), _) => v.push(text::parse_float(number)?),
        (Data::Decimal(v), TypeKind::Decimal(p, s)) => match text::parse_decimal(number, *p, *s) {
            Decimal::Value(value) => v.push(value),
            Decimal::Overflow => return Some(false),
            Decimal::Invalid => return None,
        },
        (Data::Bytes(b), kind) if kind.is_character() => b.push(text),
        (Data::Bytes(b), _) => {
            if !base64_into(text, &mut b.bytes) {
                return None;
            }
            b.end();
        }
        (Data::List(ends, item), _) => {
            for part in items(text, b'[', b']')? {
                push(item, part, format).then_some(())?;
            }
            ends.push(item.len() as i32);
        }
        (Data::Row(children), _) => {
            let parts = items(text, b'(', b')')?;
            if parts.len() != children.len() {
                return None;
            }
            for (child, part) in children.iter_mut().zip(parts) {
                push(child, part, format).then_some(())?;
            }
        }
        _ => return None,
    }
    Some(true)
}

/// The parts of `[a, b]` or `(a, b)`.
fn items(text: &[u8], open: u8, close: u8) -> Option<Vec<&[u8]>> {
    let body = match text {
        [o, body @ .., c] if *o == open && *c == close => body,
        _ => return None,
    };
    let (mut parts, mut start, mut depth) = (vec![], 0, 0_i32);
    if body.is_empty() {
        return Some(parts);
    }
    for (at, c) in body.iter().enumerate() {
        match c {
            b'[' | b'(' | b'{' => depth += 1,
            b']' | b')' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&body[start..at]);
                start = at + 1 + usize::from(body.get(at + 1) == Some(&b' '));
            }
            _ => {}
        }
    }
    parts.push(body.get(start..)?);
    Some(parts)
}

/// Writes a value as `CAST(… AS STRING)` does, but booleans in lower case; NULL as `null`.
pub(crate) fn write(out: &mut Vec<u8>, view: &View<'_>, row: usize) {
    let mut buffer = itoa::Buffer::new();
    if view.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    let integer = |out: &mut Vec<u8>, text: &str| out.extend_from_slice(text.as_bytes());
    match view {
        View::Null => {}
        View::Boolean(a) => integer(out, if a.value(row) { "true" } else { "false" }),
        View::Int8(a) => integer(out, buffer.format(a.value(row))),
        View::Int16(a) => integer(out, buffer.format(a.value(row))),
        View::Int32(a) => integer(out, buffer.format(a.value(row))),
        View::Int64(a) => integer(out, buffer.format(a.value(row))),
        View::Float32(a) => text::write_float(out, a.value(row)),
        View::Float64(a) => text::write_double(out, a.value(row)),
        View::Decimal(a, scale) => text::write_decimal_plain(out, a.value(row), *scale),
        View::String(a) => out.extend_from_slice(a.value(row).as_bytes()),
        View::Binary(a) => write_base64(out, a.value(row)),
        View::Date(a) => text::write_date(out, i64::from(a.value(row))),
        View::Time(a, p) => text::write_time(out, a.value(row), *p),
        View::Timestamp(t) => text::write_timestamp(out, t.raw(row), t.nanos, TimestampFormat::Sql, t.zoned),
        View::List(list, item) => {
            out.push(b'[');
            write_items(out, View::range(list.value_offsets(), row).map(|i| (&**item, i)));
            out.push(b']');
        }
        View::Row(_, children) => {
            out.push(b'(');
            write_items(out, children.iter().map(|c| (c, row)));
            out.push(b')');
        }
        View::Map(map, key, value) => {
            out.push(b'{');
            for (n, i) in View::range(map.value_offsets(), row).enumerate() {
                out.extend_from_slice(if n > 0 { b", " } else { b"" });
                write(out, key, i);
                out.push(b'=');
                write(out, value, i);
            }
            out.push(b'}');
        }
    }
}

fn write_items<'v>(out: &mut Vec<u8>, items: impl Iterator<Item = (&'v View<'v>, usize)>) {
    for (n, (view, row)) in items.enumerate() {
        out.extend_from_slice(if n > 0 { b", " } else { b"" });
        write(out, view, row);
    }
}
