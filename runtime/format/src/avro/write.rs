//! Columns as Avro's binary encoding.

use sluice_batch::{Error, Field, Result, SqlType, TypeKind};

use super::schema::{AvroSchema, AvroType, Logical};
use crate::text::rescale;
use crate::view::View;

/// How a column becomes a value of the schema.
pub(crate) struct Plan {
    /// Branches of the union for NULL and for a value, if it is one.
    union: Option<(usize, usize)>,
    shape: Shape,
}

enum Shape {
    Boolean,
    /// `int` or `long`; TIME and timestamps are multiplied or divided.
    Integer(Scale),
    Float,
    Double,
    Bytes,
    Fixed(usize),
    /// The scale and the largest unscaled value of the column's own precision.
    Decimal(Option<usize>, u8),
    Enum(Vec<String>),
    Array(Box<Plan>),
    Map(Box<Plan>),
    /// The schema's fields in order, with their column.
    Record(Vec<(Plan, usize)>),
}

#[derive(Clone, Copy)]
enum Scale {
    One,
    Times(i64),
    Per(i64),
}

/// Resolves a table's columns against the schema to write.
///
/// # Errors
/// If a column's type cannot be written as the schema's, or the schema has a field that no column has.
pub(crate) fn resolve(schema: &AvroSchema, fields: &[Field]) -> Result<Plan> {
    record(schema, schema.root, fields).map(|shape| Plan { union: None, shape })
}

fn record(schema: &AvroSchema, node: usize, fields: &[Field]) -> Result<Shape> {
    let AvroType::Record(written) = &schema.node(node).ty else {
        return Err(Error::plan(format!("the Avro schema has {} where the table has a row", schema.describe(node))));
    };
    if let Some(field) = fields.iter().find(|f| !written.iter().any(|w| w.name == f.name)) {
        return Err(Error::plan(format!("the Avro schema has no field '{}'", field.name)));
    }
    let one = |name: &str, node: usize| {
        let Some(i) = fields.iter().position(|f| f.name == name) else {
            return Err(Error::plan(format!("the Avro schema has the field '{name}', but the table no such column")));
        };
        Ok((value(schema, node, &fields[i].ty).map_err(|e| e.context(format!("column '{name}'")))?, i))
    };
    Ok(Shape::Record(written.iter().map(|w| one(&w.name, w.node)).collect::<Result<_>>()?))
}

fn value(schema: &AvroSchema, node: usize, ty: &SqlType) -> Result<Plan> {
    if let AvroType::Union(branches) = &schema.node(node).ty {
        let is_null = |b: &usize| matches!(schema.node(*b).ty, AvroType::Null);
        let null = branches.iter().position(is_null).unwrap_or(usize::MAX);
        for (index, branch) in branches.iter().enumerate().filter(|(_, b)| !is_null(b)) {
            if let Ok(shape) = shape(schema, *branch, ty) {
                return Ok(Plan { union: Some((null, index)), shape });
            }
        }
        return Err(mismatch(schema, node, ty));
    }
    Ok(Plan { union: None, shape: shape(schema, node, ty)? })
}

fn mismatch(schema: &AvroSchema, node: usize, ty: &SqlType) -> Error {
    Error::plan(format!("{} cannot be written as an Avro {}", ty.kind, schema.describe(node)))
}

fn shape(schema: &AvroSchema, node: usize, ty: &SqlType) -> Result<Shape> {
    use TypeKind as K;
    let n = schema.node(node);
    Ok(match (&n.ty, &ty.kind) {
        (AvroType::Boolean, K::Boolean) => Shape::Boolean,
        (AvroType::Int | AvroType::Long, K::TinyInt | K::SmallInt | K::Int) | (AvroType::Long, K::BigInt) => Shape::Integer(Scale::One),
        (AvroType::Int, K::Date | K::Time(_)) => Shape::Integer(Scale::One),
        (AvroType::Long, K::Time(_)) if n.logical == Logical::TimeMicros => Shape::Integer(Scale::Times(1000)),
        (AvroType::Long, K::Timestamp(p) | K::TimestampLtz(p)) => {
            let from = if *p <= 6 { 1000 } else { 1 };
            let to = match n.logical {
                Logical::Micros => 1000,
                Logical::Nanos => 1,
                Logical::None if *p > 3 => from,
                _ => 1_000_000,
            };
            Shape::Integer(if from > to { Scale::Times(from / to) } else { Scale::Per(to / from) })
        }
        (AvroType::Float, K::Float) => Shape::Float,
        (AvroType::Double, K::Float | K::Double) => Shape::Double,
        (AvroType::Bytes, K::Decimal(_, s)) => Shape::Decimal(None, if let Logical::Decimal(to) = n.logical { to } else { *s }),
        (AvroType::Fixed(size), K::Decimal(_, s)) => {
            Shape::Decimal(Some(*size), if let Logical::Decimal(to) = n.logical { to } else { *s })
        }
        (AvroType::String, kind) if kind.is_character() => Shape::Bytes,
        (AvroType::Enum(symbols), kind) if kind.is_character() => Shape::Enum(symbols.clone()),
        (AvroType::Bytes, kind) if kind.is_binary() => Shape::Bytes,
        (AvroType::Fixed(size), kind) if kind.is_binary() => Shape::Fixed(*size),
        (AvroType::Array(items), K::Array(item)) => Shape::Array(Box::new(value(schema, *items, item)?)),
        (AvroType::Map(values), K::Map(key, of)) if key.kind.is_character() => Shape::Map(Box::new(value(schema, *values, of)?)),
        (AvroType::Map(values), K::Multiset(key)) if key.kind.is_character() => {
            Shape::Map(Box::new(value(schema, *values, &TypeKind::Int.not_null())?))
        }
        (AvroType::Record(_), K::Row(fields)) => record(schema, node, fields)?,
        _ => return Err(mismatch(schema, node, ty)),
    })
}

pub(crate) fn write_long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Writes one row; `views` are the columns of the record at the plan's root.
pub(crate) fn write_row(out: &mut Vec<u8>, plan: &Plan, views: &[View<'_>], row: usize) -> Result<()> {
    let Shape::Record(fields) = &plan.shape else { return Err(Error::runtime("the Avro schema is no record")) };
    for (plan, column) in fields {
        let view = views.get(*column).ok_or_else(|| Error::runtime("a column is missing"))?;
        write_value(out, plan, view, row).map_err(|e| e.context(format!("column {}", column + 1)))?;
    }
    Ok(())
}

fn write_value(out: &mut Vec<u8>, plan: &Plan, view: &View<'_>, row: usize) -> Result<()> {
    let null = view.is_null(row);
    match plan.union {
        Some((usize::MAX, _)) | None if null => return Err(Error::runtime("NULL where the Avro schema has no null")),
        Some((branch, _)) if null => {
            write_long(out, branch as i64);
            return Ok(());
        }
        Some((_, branch)) => write_long(out, branch as i64),
        None => {}
    }
    match (&plan.shape, view) {
        (Shape::Boolean, View::Boolean(a)) => out.push(u8::from(a.value(row))),
        (Shape::Integer(_), View::Int8(a)) => write_long(out, i64::from(a.value(row))),
        (Shape::Integer(_), View::Int16(a)) => write_long(out, i64::from(a.value(row))),
        (Shape::Integer(_), View::Int32(a)) => write_long(out, i64::from(a.value(row))),
        (Shape::Integer(_), View::Int64(a)) => write_long(out, a.value(row)),
        (Shape::Integer(_), View::Date(a)) => write_long(out, i64::from(a.value(row))),
        (Shape::Integer(scale), View::Time(a, _)) => write_long(out, scaled(i64::from(a.value(row)), *scale)?),
        (Shape::Integer(scale), View::Timestamp(t)) => write_long(out, scaled(t.raw(row), *scale)?),
        (Shape::Float, View::Float32(a)) => out.extend_from_slice(&a.value(row).to_le_bytes()),
        (Shape::Double, View::Float32(a)) => out.extend_from_slice(&f64::from(a.value(row)).to_le_bytes()),
        (Shape::Double, View::Float64(a)) => out.extend_from_slice(&a.value(row).to_le_bytes()),
        (Shape::Bytes, View::String(a)) => write_bytes(out, a.value(row).as_bytes()),
        (Shape::Bytes, View::Binary(a)) => write_bytes(out, a.value(row)),
        (Shape::Fixed(size), View::Binary(a)) => {
            let bytes = a.value(row);
            if bytes.len() != *size {
                return Err(Error::runtime(format!("{} bytes for an Avro fixed of {size}", bytes.len())));
            }
            out.extend_from_slice(bytes);
        }
        (Shape::Enum(symbols), View::String(a)) => {
            let symbol = symbols.iter().position(|s| s == a.value(row));
            let symbol = symbol.ok_or_else(|| Error::runtime(format!("'{}' is no symbol of the Avro enum", a.value(row))))?;
            write_long(out, symbol as i64);
        }
        (Shape::Decimal(size, to), View::Decimal(a, from)) => write_decimal(out, a.value(row), *from, *to, *size)?,
        (Shape::Array(plan), View::List(list, item)) => {
            let items = View::range(list.value_offsets(), row);
            write_block(out, items, |out, i| write_value(out, plan, item, i))?;
        }
        (Shape::Map(plan), View::Map(map, key, value)) => {
            let entries = View::range(map.value_offsets(), row);
            write_block(out, entries, |out, i| {
                match &**key {
                    View::String(a) if !key.is_null(i) => write_bytes(out, a.value(i).as_bytes()),
                    _ => return Err(Error::runtime("a map has a NULL key, which Avro cannot write")),
                }
                write_value(out, plan, value, i)
            })?;
        }
        (Shape::Record(_), View::Row(_, children)) => write_row(out, plan, children, row)?,
        _ => return Err(Error::runtime("a column of another type than planned")),
    }
    Ok(())
}

fn scaled(value: i64, scale: Scale) -> Result<i64> {
    match scale {
        Scale::One => Ok(value),
        Scale::Times(factor) => value.checked_mul(factor).ok_or_else(|| Error::runtime("a time too far away for Avro")),
        Scale::Per(unit) => Ok(value.div_euclid(unit)),
    }
}

fn write_block(out: &mut Vec<u8>, items: std::ops::Range<usize>, mut write: impl FnMut(&mut Vec<u8>, usize) -> Result<()>) -> Result<()> {
    if !items.is_empty() {
        write_long(out, items.len() as i64);
        for i in items {
            write(out, i)?;
        }
    }
    out.push(0);
    Ok(())
}

fn write_decimal(out: &mut Vec<u8>, unscaled: i128, from: u8, to: u8, size: Option<usize>) -> Result<()> {
    let too_large = || Error::runtime("a decimal does not fit its Avro type");
    let bytes = rescale(unscaled, from, 38, to).ok_or_else(too_large)?.to_be_bytes();
    // the fewest bytes that keep the sign
    let sign = if bytes[0] & 0x80 != 0 { 0xFF } else { 0 };
    let mut start = 0;
    while start < 15 && bytes[start] == sign && (bytes[start + 1] ^ sign) & 0x80 == 0 {
        start += 1;
    }
    let body = &bytes[start..];
    match size {
        None => write_bytes(out, body),
        Some(size) if size >= body.len() => {
            out.extend(std::iter::repeat_n(sign, size - body.len()));
            out.extend_from_slice(body);
        }
        Some(_) => return Err(too_large()),
    }
    Ok(())
}
