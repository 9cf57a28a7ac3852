//! Avro's binary encoding into columns: the writer's schema and the table are resolved once to a plan, which records then run through.

use sluice_batch::{Error, Field, Result, SqlType, TypeKind};

use super::schema::{AvroSchema, AvroType, Logical, RecordField};
use crate::column::{Column, Data};
use crate::text::{raw_timestamp, rescale};

/// How a value of the writer becomes one of a column.
pub(crate) enum Plan {
    /// Reads over a value of the writer's schema (a node).
    Skip(usize),
    Null,
    Boolean,
    /// `int` or `long` into a number, DATE (days) or TIME (milliseconds).
    Integer,
    Float,
    Double,
    /// `time-micros` into TIME.
    TimeMicros,
    /// `long` in units of so many nanoseconds into a timestamp.
    Timestamp(i64),
    /// The bytes of a decimal: how many if fixed, and the scale.
    Decimal(Option<usize>, u8),
    Bytes,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Box<Plan>),
    Map(Box<Plan>),
    Union(Vec<Plan>),
    /// The writer's fields in order, each with the column it goes to; then the columns that the writer does not have.
    Record(Vec<(Plan, Option<usize>)>, Vec<usize>),
    /// A branch of a union that the column cannot take: an error if it comes.
    Mismatch(String),
}

fn mismatch(schema: &AvroSchema, node: usize, ty: &SqlType) -> Error {
    Error::runtime(format!("an Avro {} cannot be read as {}", schema.describe(node), ty.kind))
}

/// Resolves the writer's record against the columns of a table.
///
/// # Errors
/// If a type of the writer cannot be read as the column's, or a NOT NULL column is not there.
pub(crate) fn resolve(schema: &AvroSchema, reader: Option<&AvroSchema>, fields: &[Field]) -> Result<Plan> {
    let reader = reader.and_then(|r| match &r.node(r.root).ty {
        AvroType::Record(fields) => Some(fields.as_slice()),
        _ => None,
    });
    match &schema.node(schema.root).ty {
        AvroType::Record(written) => record(schema, written, reader, fields),
        _ => Err(Error::runtime(format!("the Avro schema is no record but {}", schema.describe(schema.root)))),
    }
}

fn record(schema: &AvroSchema, written: &[RecordField], reader: Option<&[RecordField]>, fields: &[Field]) -> Result<Plan> {
    // the reader's field of another name may have the writer's as an alias
    let aliases = |field: &Field| reader.and_then(|r| r.iter().find(|f| f.name == field.name)).map_or(&[][..], |f| &f.aliases);
    let is = |f: &Field, name: &str| f.name == name || aliases(f).iter().any(|a| a == name);
    let (mut plans, mut found) = (vec![], vec![false; fields.len()]);
    for w in written {
        let target = fields.iter().position(|f| is(f, &w.name)).filter(|i| !found[*i]);
        let plan = match target {
            Some(i) => {
                found[i] = true;
                value(schema, w.node, &fields[i].ty).map_err(|e| e.context(format!("column '{}'", fields[i].name)))?
            }
            None => Plan::Skip(w.node),
        };
        plans.push((plan, target));
    }
    let missing: Vec<usize> = (0..fields.len()).filter(|i| !found[*i]).collect();
    if let Some(field) = missing.iter().map(|i| &fields[*i]).find(|f| !f.ty.nullable) {
        return Err(Error::runtime(format!("column '{}' is NOT NULL, but the writer's Avro schema has no such field", field.name)));
    }
    Ok(Plan::Record(plans, missing))
}

fn value(schema: &AvroSchema, node: usize, ty: &SqlType) -> Result<Plan> {
    use TypeKind as K;
    let n = schema.node(node);
    Ok(match (&n.ty, &ty.kind) {
        (AvroType::Union(branches), _) => {
            let branch = |b: &usize| value(schema, *b, ty).unwrap_or_else(|e| Plan::Mismatch(e.message().to_owned()));
            let plans: Vec<Plan> = branches.iter().map(branch).collect();
            if plans.iter().all(|p| matches!(p, Plan::Mismatch(_) | Plan::Null)) && plans.iter().any(|p| matches!(p, Plan::Mismatch(_))) {
                return Err(mismatch(schema, node, ty));
            }
            Plan::Union(plans)
        }
        (AvroType::Null, _) => Plan::Null,
        (AvroType::Boolean, K::Boolean) => Plan::Boolean,
        (AvroType::Long, K::Timestamp(p) | K::TimestampLtz(p)) => Plan::Timestamp(match n.logical {
            Logical::Millis => 1_000_000,
            Logical::Micros => 1000,
            Logical::Nanos => 1,
            // without a logical type the reader's counts
            _ if *p <= 3 => 1_000_000,
            _ if *p <= 6 => 1000,
            _ => 1,
        }),
        (AvroType::Long, K::Time(_)) if n.logical == Logical::TimeMicros => Plan::TimeMicros,
        (AvroType::Int, K::TinyInt | K::SmallInt | K::Int | K::BigInt | K::Date | K::Time(_)) => Plan::Integer,
        (AvroType::Long, K::BigInt) => Plan::Integer,
        (AvroType::Int | AvroType::Long, K::Float | K::Double) => Plan::Integer,
        (AvroType::Float, K::Float | K::Double) => Plan::Float,
        (AvroType::Double, K::Double) => Plan::Double,
        (AvroType::Bytes | AvroType::Fixed(_), K::Decimal(_, scale)) => {
            let size = if let AvroType::Fixed(size) = n.ty { Some(size) } else { None };
            Plan::Decimal(size, if let Logical::Decimal(s) = n.logical { s } else { *scale })
        }
        (AvroType::String | AvroType::Bytes, kind) if kind.is_character() || kind.is_binary() => Plan::Bytes,
        (AvroType::Fixed(size), kind) if kind.is_binary() => Plan::Fixed(*size),
        (AvroType::Enum(symbols), kind) if kind.is_character() => Plan::Enum(symbols.clone()),
        (AvroType::Array(items), K::Array(item)) => Plan::Array(Box::new(value(schema, *items, item)?)),
        (AvroType::Map(values), K::Map(key, of)) if key.kind.is_character() => Plan::Map(Box::new(value(schema, *values, of)?)),
        (AvroType::Map(values), K::Multiset(key)) if key.kind.is_character() => {
            Plan::Map(Box::new(value(schema, *values, &TypeKind::Int.not_null())?))
        }
        (AvroType::Record(written), K::Row(fields)) => record(schema, written, None, fields)?,
        _ => return Err(mismatch(schema, node, ty)),
    })
}

/// Bytes of one record.
pub(crate) struct Input<'a> {
    pub bytes: &'a [u8],
}

#[cold]
fn short<T>() -> Result<T> {
    Err(Error::runtime("the Avro record ends too early"))
}

#[cold]
fn corrupt<T>(what: &str) -> Result<T> {
    Err(Error::runtime(format!("the Avro record is corrupt: {what}")))
}

/// Values of a recursive schema may be nested so deep.
const MAX_DEPTH: usize = 200;

impl<'a> Input<'a> {
    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.bytes.split_at_checked(len) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => short(),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.bytes.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(*taken)
            }
            None => short(),
        }
    }

    /// A zigzag variable-length number.
    #[inline]
    fn long(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for (index, byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * index as u32);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[index + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        if self.bytes.len() < 10 { short() } else { corrupt("a number of more than 64 bits") }
    }

    fn len(&mut self) -> Result<usize> {
        usize::try_from(self.long()?).or_else(|_| corrupt("a negative length"))
    }

    #[inline]
    fn text(&mut self) -> Result<&'a [u8]> {
        let len = self.len()?;
        self.take(len)
    }

    /// The number of items in the next block of an array or map; 0 at the end.
    fn block(&mut self) -> Result<usize> {
        let count = self.long()?;
        if count < 0 {
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        // items have a byte at least, but for those of type null
        if count > self.bytes.len() + 1_000_000 {
            return corrupt("a block of too many items");
        }
        Ok(count)
    }

    fn skip(&mut self, schema: &AvroSchema, node: usize, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return corrupt("nested too deep");
        }
        match &schema.node(node).ty {
            AvroType::Null | AvroType::Open => {}
            AvroType::Boolean => drop(self.take(1)?),
            AvroType::Int | AvroType::Long | AvroType::Enum(_) => drop(self.long()?),
            AvroType::Float => drop(self.take(4)?),
            AvroType::Double => drop(self.take(8)?),
            AvroType::Bytes | AvroType::String => drop(self.text()?),
            AvroType::Fixed(size) => drop(self.take(*size)?),
            AvroType::Union(branches) => {
                let branch = self.len()?;
                let Some(node) = branches.get(branch) else { return corrupt("no such branch of a union") };
                self.skip(schema, *node, depth + 1)?;
            }
            AvroType::Record(fields) => fields.iter().try_for_each(|f| self.skip(schema, f.node, depth + 1))?,
            AvroType::Array(item) | AvroType::Map(item) => {
                let is_map = matches!(schema.node(node).ty, AvroType::Map(_));
                loop {
                    let count = self.long()?;
                    if count == 0 {
                        break;
                    }
                    if count < 0 {
                        let size = self.len()?;
                        self.take(size)?;
                        continue;
                    }
                    if count as u64 > self.bytes.len() as u64 + 1_000_000 {
                        return corrupt("a block of too many items");
                    }
                    for _ in 0..count {
                        if is_map {
                            self.text()?;
                        }
                        self.skip(schema, *item, depth + 1)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the fields of a record into columns.
    pub fn record(&mut self, schema: &AvroSchema, plan: &Plan, columns: &mut [Column]) -> Result<()> {
        let Plan::Record(fields, missing) = plan else { return corrupt("not a record") };
        for (plan, target) in fields {
            match (plan, target) {
                (Plan::Skip(node), _) => self.skip(schema, *node, 0)?,
                (plan, Some(target)) => self.value(schema, plan, &mut columns[*target])?,
                _ => {}
            }
        }
        missing.iter().for_each(|i| columns[*i].push_null());
        Ok(())
    }

    /// Reads one value to the end of a column.
    #[inline]
    fn value(&mut self, schema: &AvroSchema, plan: &Plan, column: &mut Column) -> Result<()> {
        let plan = match plan {
            Plan::Union(branches) => {
                let branch = self.len()?;
                match branches.get(branch) {
                    Some(plan) => plan,
                    None => return corrupt("no such branch of a union"),
                }
            }
            plan => plan,
        };
        if matches!(plan, Plan::Null) || !self.not_null(schema, plan, column)? {
            column.push_null();
        } else {
            column.set_valid();
        }
        Ok(())
    }

    /// False if the value has no place in the column's type and is NULL: a decimal, as in Flink.
    fn not_null(&mut self, schema: &AvroSchema, plan: &Plan, column: &mut Column) -> Result<bool> {
        let kind = &column.kind;
        match (plan, &mut column.data) {
            (Plan::Integer, Data::Int64(v)) => v.push(self.long()?),
            (Plan::Integer, Data::Int32(v)) => v.push(self.narrow(kind)?),
            (Plan::Integer, Data::Int16(v)) => v.push(self.narrow(kind)?),
            (Plan::Integer, Data::Int8(v)) => v.push(self.narrow(kind)?),
            (Plan::Integer, Data::Float32(v)) => v.push(self.long()? as f32),
            (Plan::Integer, Data::Float64(v)) => v.push(self.long()? as f64),
            (Plan::Float, Data::Float32(v)) => v.push(f32::from_le_bytes(self.array()?)),
            (Plan::Float, Data::Float64(v)) => v.push(f64::from(f32::from_le_bytes(self.array()?))),
            (Plan::Double, Data::Float64(v)) => v.push(f64::from_le_bytes(self.array()?)),
            (Plan::Boolean, Data::Boolean(v)) => v.push(self.array::<1>()?[0] != 0),
            (Plan::TimeMicros, Data::Int32(v)) => match i32::try_from(self.long()? / 1000) {
                Ok(millis) => v.push(millis),
                Err(_) => return corrupt("a time of day beyond the day"),
            },
            (Plan::Timestamp(unit), Data::Int64(v)) => v.push(timestamp(self.long()?, *unit, kind)?),
            (Plan::Decimal(size, from), Data::Decimal(v)) => {
                let bytes = if let Some(size) = size { self.take(*size)? } else { self.text()? };
                let TypeKind::Decimal(precision, scale) = *kind else { return corrupt("not a decimal") };
                match twos_complement(bytes).and_then(|unscaled| rescale(unscaled, *from, precision, scale)) {
                    Some(unscaled) => v.push(unscaled),
                    None => return Ok(false),
                }
            }
            (Plan::Bytes, Data::Bytes(b)) => {
                let text = self.text()?;
                if kind.is_character() && std::str::from_utf8(text).is_err() {
                    return corrupt("a string that is not UTF-8");
                }
                b.push(text);
            }
            (Plan::Fixed(size), Data::Bytes(b)) => b.push(self.take(*size)?),
            (Plan::Enum(symbols), Data::Bytes(b)) => match symbols.get(self.len()?) {
                Some(symbol) => b.push(symbol.as_bytes()),
                None => return corrupt("no such symbol of an enum"),
            },
            (Plan::Array(plan), Data::List(ends, item)) => {
                loop {
                    let count = self.block()?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        self.value(schema, plan, item)?;
                    }
                }
                ends.push(item.len() as i32);
            }
            (Plan::Map(plan), Data::Map(ends, key, value)) => {
                loop {
                    let count = self.block()?;
                    if count == 0 {
                        break;
                    }
                    for _ in 0..count {
                        self.value(schema, &Plan::Bytes, key)?;
                        self.value(schema, plan, value)?;
                    }
                }
                ends.push(key.len() as i32);
            }
            (Plan::Record(..), Data::Row(children)) => self.record(schema, plan, children)?,
            (Plan::Mismatch(what), _) => return Err(Error::runtime(what.clone())),
            _ => return corrupt("a value of another type than planned"),
        }
        Ok(true)
    }

    fn narrow<T: TryFrom<i64>>(&mut self, kind: &TypeKind) -> Result<T> {
        let value = self.long()?;
        T::try_from(value).map_err(|_| Error::runtime(format!("{value} does not fit {kind}")))
    }
}

fn timestamp(value: i64, unit: i64, kind: &TypeKind) -> Result<i64> {
    const DAY: i64 = 86_400_000_000_000;
    let (TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p)) = kind else { return corrupt("not a timestamp") };
    let per_day = DAY / unit;
    raw_timestamp(value.div_euclid(per_day), value.rem_euclid(per_day) * unit, *p)
        .ok_or_else(|| Error::runtime(format!("the time {value} is beyond {kind}")))
}

/// A big-endian number; `None` if it has more than 128 bits.
fn twos_complement(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 };
    let (extra, body) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut all = [sign; 16];
    all[16 - body.len()..].copy_from_slice(body);
    let value = i128::from_be_bytes(all);
    (extra.iter().all(|b| *b == sign) && (extra.is_empty() || (value < 0) == (sign == 0xFF))).then_some(value)
}
