//! Columns of any type as JSON (Flink: `JsonGenerateUtils`).

use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use base64::Engine;
use sluice_batch::{Error, Result, SqlType, TypeKind};

use super::value::{compare_keys, write_number, write_string};
use crate::calendar;
use crate::cast::render::{push_date, push_decimal, push_double, push_float, push_int};

/// A column with how its type is written. Made once a batch.
pub(super) struct Renderer<'a> {
    array: &'a dyn Array,
    node: Node<'a>,
}

enum Node<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float(&'a Float32Array),
    Double(&'a Float64Array),
    Decimal(&'a Decimal128Array, u8),
    String(&'a StringArray),
    /// JSON already: VARIANT, and the result of another JSON constructor.
    Raw(&'a StringArray),
    Bytes(&'a BinaryArray),
    Micros(&'a TimestampMicrosecondArray, u8, &'static str),
    Nanos(&'a TimestampNanosecondArray, u8, &'static str),
    List(&'a ListArray, Box<Renderer<'a>>),
    Map(&'a MapArray, &'a StringArray, Box<Renderer<'a>>),
    /// Fields with their names in quotes, sorted.
    Row(Vec<(String, Renderer<'a>)>),
}

/// Whether a type can be written.
///
/// # Errors
/// If not: dates, times and intervals, and maps whose keys are not strings.
pub(super) fn check(ty: &SqlType) -> Result<()> {
    match &ty.kind {
        TypeKind::Array(e) => check(e),
        TypeKind::Map(key, value) => {
            check_key(key)?;
            check(value)
        }
        TypeKind::Multiset(key) => check_key(key),
        TypeKind::Row(fields) => fields.iter().try_for_each(|f| check(&f.ty)),
        TypeKind::Date | TypeKind::Time(_) | TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime => {
            Err(Error::plan(format!("Type '{ty}' is not scalar or cannot be converted into JSON.")).hint("CAST it to STRING"))
        }
        _ => Ok(()),
    }
}

fn check_key(key: &SqlType) -> Result<()> {
    if key.kind.is_character() {
        return Ok(());
    }
    let message = format!("Type '{key}' is not supported for JSON conversion. The key type must be a character string.");
    Err(Error::plan(message))
}

fn typed<T: 'static>(array: &dyn Array) -> Result<&T> {
    array.as_any().downcast_ref::<T>().ok_or_else(|| Error::runtime(format!("unexpected column of {} in JSON", array.data_type())))
}

impl<'a> Renderer<'a> {
    /// `raw`: a string column holds JSON already.
    pub fn new(array: &'a ArrayRef, ty: &SqlType, raw: bool) -> Result<Self> {
        let a: &'a dyn Array = array.as_ref();
        let node = match &ty.kind {
            TypeKind::Null => Node::Null,
            TypeKind::Boolean => Node::Boolean(typed(a)?),
            TypeKind::TinyInt => Node::Int8(typed(a)?),
            TypeKind::SmallInt => Node::Int16(typed(a)?),
            TypeKind::Int => Node::Int32(typed(a)?),
            TypeKind::BigInt => Node::Int64(typed(a)?),
            TypeKind::Float => Node::Float(typed(a)?),
            TypeKind::Double => Node::Double(typed(a)?),
            TypeKind::Decimal(_, scale) => Node::Decimal(typed(a)?, *scale),
            TypeKind::Variant => Node::Raw(typed(a)?),
            kind if kind.is_character() => {
                if raw {
                    Node::Raw(typed(a)?)
                } else {
                    Node::String(typed(a)?)
                }
            }
            kind if kind.is_binary() => Node::Bytes(typed(a)?),
            TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
                let zone = if matches!(ty.kind, TypeKind::TimestampLtz(_)) { "Z" } else { "" };
                if *p <= 6 { Node::Micros(typed(a)?, *p, zone) } else { Node::Nanos(typed(a)?, *p, zone) }
            }
            TypeKind::Array(element) => {
                let list: &ListArray = typed(a)?;
                Node::List(list, Box::new(Renderer::new(list.values(), element, false)?))
            }
            TypeKind::Map(_, value) => Self::map(typed(a)?, value)?,
            TypeKind::Multiset(_) => Self::map(typed(a)?, &TypeKind::Int.not_null())?,
            TypeKind::Row(fields) => {
                let row: &StructArray = typed(a)?;
                let mut sorted: Vec<_> = fields.iter().zip(row.columns()).collect();
                sorted.sort_by(|(f, _), (g, _)| compare_keys(&f.name, &g.name));
                let field = |(f, column): (&sluice_batch::Field, &'a ArrayRef)| {
                    let mut name = String::new();
                    write_string(&f.name, &mut name);
                    Ok((name, Renderer::new(column, &f.ty, false)?))
                };
                Node::Row(sorted.into_iter().map(field).collect::<Result<_>>()?)
            }
            _ => return Err(Error::plan(format!("Type '{ty}' is not scalar or cannot be converted into JSON."))),
        };
        Ok(Self { array: a, node })
    }

    fn map(map: &'a MapArray, value: &SqlType) -> Result<Node<'a>> {
        Ok(Node::Map(map, typed(map.keys().as_ref())?, Box::new(Renderer::new(map.values(), value, false)?)))
    }

    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.node, Node::Null) || self.array.is_null(row)
    }

    /// Appends the value of a row.
    ///
    /// # Errors
    /// If a map has a NULL key.
    pub fn write(&self, row: usize, out: &mut String) -> Result<()> {
        if self.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        match &self.node {
            Node::Null => out.push_str("null"),
            Node::Boolean(a) => out.push_str(if a.value(row) { "true" } else { "false" }),
            Node::Int8(a) => push_int(out, i64::from(a.value(row))),
            Node::Int16(a) => push_int(out, i64::from(a.value(row))),
            Node::Int32(a) => push_int(out, i64::from(a.value(row))),
            Node::Int64(a) => push_int(out, a.value(row)),
            Node::Float(a) => float(a.value(row).is_finite(), out, |out| push_float(out, a.value(row))),
            Node::Double(a) => float(a.value(row).is_finite(), out, |out| push_double(out, a.value(row))),
            Node::Decimal(a, scale) => {
                let mut text = String::new();
                push_decimal(&mut text, a.value(row), *scale);
                write_number(&text, out);
            }
            Node::String(a) => write_string(a.value(row), out),
            Node::Raw(a) => out.push_str(a.value(row)),
            Node::Bytes(a) => {
                out.push('"');
                base64::engine::general_purpose::STANDARD.encode_string(a.value(row), out);
                out.push('"');
            }
            Node::Micros(a, precision, zone) => timestamp(a.value(row), *precision, zone, out),
            Node::Nanos(a, precision, zone) => timestamp(a.value(row), *precision, zone, out),
            Node::List(list, items) => {
                let offsets = list.offsets();
                out.push('[');
                for (n, i) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    items.write(i, out)?;
                }
                out.push(']');
            }
            Node::Map(map, keys, values) => {
                let offsets = map.offsets();
                let mut entries: Vec<usize> = (offsets[row] as usize..offsets[row + 1] as usize).collect();
                if let Some(at) = entries.iter().position(|i| keys.is_null(*i)) {
                    let message = format!("Key at index {at} was null. This is not supported during conversion to JSON.");
                    return Err(Error::runtime(message));
                }
                entries.sort_by(|a, b| compare_keys(keys.value(*a), keys.value(*b)));
                out.push('{');
                for (n, i) in entries.into_iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    write_string(keys.value(i), out);
                    out.push(':');
                    values.write(i, out)?;
                }
                out.push('}');
            }
            Node::Row(fields) => {
                out.push('{');
                for (n, (name, column)) in fields.iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    out.push_str(name);
                    out.push(':');
                    column.write(row, out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

/// A number; what is not finite stands in quotes, as with Jackson.
fn float(finite: bool, out: &mut String, push: impl FnOnce(&mut String)) {
    if finite {
        return push(out);
    }
    out.push('"');
    push(out);
    out.push('"');
}

/// Java's ISO_LOCAL_DATE_TIME: `2020-01-01T00:00:00.001`, with as many digits as needed.
fn timestamp(raw: i64, precision: u8, zone: &str, out: &mut String) {
    let (seconds, nanos) = calendar::split(raw, precision);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    out.push('"');
    push_date(out, days);
    // Writing to a string cannot fail.
    let _ = write!(out, "T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if nanos > 0 {
        let digits = format!("{nanos:09}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.push_str(zone);
    out.push('"');
}
