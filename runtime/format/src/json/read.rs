//! JSON values into columns, by a plan made from the schema (Flink: `JsonParserToRowDataConverters`).

use std::collections::HashSet;

use sluice_batch::{Error, Field, Result, SqlType, TypeKind};

use super::cursor::{Cursor, Fault, Parsed};
use crate::column::{Bytes, Column, Data};
use crate::text::{self, Decimal, TimestampFormat};
use crate::value_text;

/// How values are read.
#[derive(Clone, Debug)]
pub(crate) struct ReadOptions {
    pub timestamps: TimestampFormat,
    pub fail_on_missing_field: bool,
    /// A field that cannot be converted is NULL.
    pub ignore_parse_errors: bool,
    /// Keys of maps may have any type (as `CAST(key AS STRING)`); Flink's JSON has strings only.
    pub any_map_key: bool,
}

/// What is to be read of a JSON value, beside the column's type.
pub(crate) enum Plan {
    Scalar,
    Array(Box<Plan>),
    Map(Box<Plan>),
    Row(RowPlan),
}

/// The fields of an object that are read, and in which order they were seen last.
pub(crate) struct RowPlan {
    names: Vec<Box<[u8]>>,
    plans: Vec<Plan>,
    /// Names at the n-th place of objects so far, and their field, if any is to be read.
    order: Vec<(Box<[u8]>, Option<usize>)>,
    seen: Vec<bool>,
    /// How often an object had another order; it is not learned for ever.
    relearned: usize,
}

const MAX_RELEARNED: usize = 256;

impl Plan {
    /// # Errors
    /// If the type has no form in JSON.
    pub fn new(ty: &SqlType, options: &ReadOptions) -> Result<Self> {
        let map = |key: &SqlType, value: Plan| {
            if !options.any_map_key && !key.kind.is_character() {
                let message = format!("JSON has no map keys other than strings, but there is {ty}");
                return Err(Error::plan(message));
            }
            Ok(Plan::Map(Box::new(value)))
        };
        Ok(match &ty.kind {
            TypeKind::Array(item) => Plan::Array(Box::new(Plan::new(item, options)?)),
            TypeKind::Map(key, value) => map(key, Plan::new(value, options)?)?,
            TypeKind::Multiset(element) => map(element, Plan::Scalar)?,
            TypeKind::Row(fields) => Plan::Row(RowPlan::new(fields.iter(), options)?),
            _ => Plan::Scalar,
        })
    }
}

impl RowPlan {
    pub fn new<'f>(fields: impl Iterator<Item = &'f Field> + Clone, options: &ReadOptions) -> Result<Self> {
        let names: Vec<Box<[u8]>> = fields.clone().map(|f| f.name.as_bytes().into()).collect();
        let plans =
            fields.map(|f| Plan::new(&f.ty, options).map_err(|e| e.context(format!("column '{}'", f.name)))).collect::<Result<_>>()?;
        Ok(Self { seen: vec![false; names.len()], plans, order: vec![], names, relearned: 0 })
    }

    /// The field of the name at the cursor (on its quote), the `index`-th of its object; goes behind the name.
    #[inline]
    fn field(&mut self, cursor: &mut Cursor<'_>, index: usize, scratch: &mut Vec<u8>) -> Parsed<Option<usize>> {
        if let Some((name, field)) = self.order.get(index) {
            let start = cursor.pos + 1;
            let end = start + name.len();
            if cursor.bytes.get(end) == Some(&b'"') && cursor.bytes[start..end] == **name {
                cursor.pos = end + 1;
                return Ok(*field);
            }
        }
        self.look_up(cursor, index, scratch)
    }

    #[cold]
    fn look_up(&mut self, cursor: &mut Cursor<'_>, index: usize, scratch: &mut Vec<u8>) -> Parsed<Option<usize>> {
        let start = cursor.pos;
        let name = cursor.string(scratch)?;
        let field = self.names.iter().position(|n| **n == *name);
        let plain = name.len() + 2 == cursor.pos - start;
        if plain && index <= self.order.len() && index < MAX_RELEARNED && self.relearned < MAX_RELEARNED {
            self.order.truncate(index);
            self.order.push((name.into(), field));
            self.relearned += 1;
        }
        Ok(field)
    }
}

/// Reads values at a cursor into columns.
pub(crate) struct Reader<'a, 'o> {
    pub cursor: Cursor<'a>,
    pub scratch: Vec<u8>,
    pub options: &'o ReadOptions,
}

impl Reader<'_, '_> {
    /// Reads the value at the cursor into the end of a column.
    #[inline]
    pub fn value(&mut self, plan: &mut Plan, column: &mut Column) -> Parsed<()> {
        let c = self.cursor.peek();
        if c == b'n' {
            self.cursor.literal(b"null")?;
            column.push_null();
            return Ok(());
        }
        let start = self.cursor.pos;
        match self.not_null(c, plan, column) {
            Ok(true) => {
                column.set_valid();
                Ok(())
            }
            Ok(false) => {
                column.push_null();
                Ok(())
            }
            Err(fault) => self.recover(start, column, fault),
        }
    }

    /// A value that does not fit its type is NULL if the options say so.
    #[cold]
    fn recover(&mut self, start: usize, column: &mut Column, mut fault: Box<Fault>) -> Parsed<()> {
        if fault.syntax || !self.options.ignore_parse_errors {
            if !fault.syntax && fault.wanted.is_none() {
                fault.wanted = Some(column.kind.to_string());
            }
            return Err(fault);
        }
        column.truncate(column.len());
        self.cursor.pos = start;
        self.cursor.skip_value()?;
        column.push_null();
        Ok(())
    }

    /// Appends a value that is not `null`; false if its place is NULL all the same: a decimal that does not fit.
    #[inline]
    fn not_null(&mut self, c: u8, plan: &mut Plan, column: &mut Column) -> Parsed<bool> {
        match (&mut column.data, plan) {
            (Data::Bytes(bytes), _) if column.kind.is_character() => self.string(c, bytes)?,
            (Data::Bytes(bytes), _) => self.binary(c, bytes)?,
            (Data::Int64(values), _) if column.kind == TypeKind::BigInt => values.push(self.integer(c, &TypeKind::BigInt)?),
            (Data::Int32(values), _) if column.kind == TypeKind::Int => values.push(self.integer(c, &TypeKind::Int)? as i32),
            (Data::Int16(values), _) => values.push(self.integer(c, &TypeKind::SmallInt)? as i16),
            (Data::Int8(values), _) => values.push(self.integer(c, &TypeKind::TinyInt)? as i8),
            (Data::Float64(values), _) => values.push(self.float(c)?),
            (Data::Float32(values), _) => values.push(self.float(c)?),
            (Data::Boolean(values), _) => values.push(self.boolean(c)?),
            (Data::Decimal(_), _) => return self.decimal(c, column),
            (Data::Int32(_) | Data::Int64(_), _) => self.datetime(c, column)?,
            (Data::List(ends, item), Plan::Array(plan)) => self.array(c, plan, ends, item)?,
            (Data::Map(ends, key, value), Plan::Map(plan)) => self.map(c, plan, ends, key, value)?,
            (Data::Row(children), Plan::Row(plan)) => {
                if c != b'{' {
                    return self.mismatch(c, "expected an object");
                }
                self.cursor.pos += 1;
                self.object(plan, children)?;
            }
            _ => return self.mismatch(c, "this type cannot be read"),
        }
        Ok(true)
    }

    /// The value at the cursor is not of the type wanted; if it is no value at all, the text is broken.
    #[cold]
    fn mismatch<T>(&mut self, c: u8, what: &'static str) -> Parsed<T> {
        let at = self.cursor.pos;
        if !matches!(c, b'{' | b'[') {
            self.cursor.skip_value()?;
        }
        self.cursor.mismatch(at, what)
    }

    /// The text of a string, number or boolean at the cursor, for conversions that Java makes from text.
    fn scalar_text(&mut self, c: u8, what: &'static str) -> Parsed<&[u8]> {
        match c {
            b'"' => self.cursor.string(&mut self.scratch),
            b'{' | b'[' => self.mismatch(c, what),
            _ => {
                let start = self.cursor.pos;
                self.cursor.skip_value()?;
                Ok(&self.cursor.bytes[start..self.cursor.pos])
            }
        }
    }

    #[inline]
    fn string(&mut self, c: u8, bytes: &mut Bytes) -> Parsed<()> {
        if c == b'"' {
            self.cursor.string_into(&mut bytes.bytes)?;
        } else if matches!(c, b'{' | b'[') {
            self.cursor.raw_json_into(&mut bytes.bytes, 0)?;
        } else {
            let start = self.cursor.pos;
            self.cursor.skip_value()?;
            bytes.bytes.extend_from_slice(&self.cursor.bytes[start..self.cursor.pos]);
        }
        bytes.end();
        Ok(())
    }

    fn binary(&mut self, c: u8, bytes: &mut Bytes) -> Parsed<()> {
        let at = self.cursor.pos;
        if c != b'"' {
            return self.mismatch(c, "expected Base64 in a string");
        }
        let text = self.cursor.string(&mut self.scratch)?;
        let from = bytes.bytes.len();
        if !value_text::base64_into(text, &mut bytes.bytes) {
            bytes.bytes.truncate(from);
            return self.cursor.mismatch(at, "expected Base64");
        }
        bytes.end();
        Ok(())
    }

    #[inline]
    fn integer(&mut self, c: u8, kind: &TypeKind) -> Parsed<i64> {
        let at = self.cursor.pos;
        let value = if c == b'-' || c.is_ascii_digit() {
            let number = self.cursor.number()?;
            if number.is_float { truncated(number.text, kind) } else { text::parse_integer(number.text) }
        } else {
            text::parse_integer(text::trim(self.scalar_text(c, "expected a number")?))
        };
        let (low, high) = text::integer_range(kind);
        match value {
            Some(v) if (low..=high).contains(&v) => Ok(v),
            _ => self.cursor.mismatch(at, "not a number of this type"),
        }
    }

    #[inline]
    fn float<T: std::str::FromStr>(&mut self, c: u8) -> Parsed<T> {
        let at = self.cursor.pos;
        let value = if c == b'-' || c.is_ascii_digit() {
            let number = self.cursor.number()?;
            std::str::from_utf8(number.text).ok().and_then(|t| t.parse().ok())
        } else {
            text::parse_float(text::trim(self.scalar_text(c, "expected a number")?))
        };
        match value {
            Some(v) => Ok(v),
            None => self.cursor.mismatch(at, "not a number"),
        }
    }

    fn boolean(&mut self, c: u8) -> Parsed<bool> {
        match c {
            b't' => self.cursor.literal(b"true").map(|()| true),
            b'f' => self.cursor.literal(b"false").map(|()| false),
            _ => Ok(text::trim(self.scalar_text(c, "expected a boolean")?).eq_ignore_ascii_case(b"true")),
        }
    }

    fn decimal(&mut self, c: u8, column: &mut Column) -> Parsed<bool> {
        let at = self.cursor.pos;
        let TypeKind::Decimal(precision, scale) = column.kind else { return self.mismatch(c, "not a decimal") };
        let read = match c {
            b't' | b'f' => return self.mismatch(c, "expected a number"),
            _ => text::parse_decimal(text::trim(self.scalar_text(c, "expected a number")?), precision, scale),
        };
        let Data::Decimal(values) = &mut column.data else { return self.mismatch(c, "not a decimal") };
        match read {
            Decimal::Value(v) => values.push(v),
            Decimal::Invalid => return self.cursor.mismatch(at, "not a number"),
            Decimal::Overflow => return Ok(false),
        }
        Ok(true)
    }

    fn datetime(&mut self, c: u8, column: &mut Column) -> Parsed<()> {
        let at = self.cursor.pos;
        let (format, kind) = (self.options.timestamps, &column.kind);
        let text = self.scalar_text(c, "expected a string")?;
        match (&mut column.data, kind) {
            (Data::Int32(values), TypeKind::Date) => text::parse_date(text).map(|v| values.push(v)),
            (Data::Int32(values), TypeKind::Time(p)) => text::parse_time(text, *p, false).map(|v| values.push(v)),
            (Data::Int64(values), TypeKind::Timestamp(p)) => text::parse_timestamp(text, format, false, *p).map(|v| values.push(v)),
            (Data::Int64(values), TypeKind::TimestampLtz(p)) => text::parse_timestamp(text, format, true, *p).map(|v| values.push(v)),
            _ => None,
        }
        .map_or_else(|| self.cursor.mismatch(at, "not in the format of this type"), Ok)
    }

    fn array(&mut self, c: u8, plan: &mut Plan, ends: &mut Vec<i32>, item: &mut Column) -> Parsed<()> {
        if c != b'[' {
            return self.mismatch(c, "expected an array");
        }
        self.cursor.pos += 1;
        if !self.cursor.closed(b']') {
            loop {
                self.value(plan, item)?;
                if !self.cursor.more(b']')? {
                    break;
                }
            }
        }
        ends.push(item.len() as i32);
        Ok(())
    }

    fn map(&mut self, c: u8, plan: &mut Plan, ends: &mut Vec<i32>, key: &mut Column, value: &mut Column) -> Parsed<()> {
        if c != b'{' {
            return self.mismatch(c, "expected an object");
        }
        let (start, first) = (self.cursor.pos + 1, key.len());
        self.cursor.pos = start;
        self.entries(plan, key, value, &[])?;
        let repeated = repeated_keys(key, first);
        if !repeated.is_empty() {
            key.truncate(first);
            value.truncate(first);
            self.cursor.pos = start;
            self.entries(plan, key, value, &repeated)?;
        }
        ends.push(key.len() as i32);
        Ok(())
    }

    /// Entries of a map up to its end, except those at the places in `leave_out`.
    fn entries(&mut self, plan: &mut Plan, key: &mut Column, value: &mut Column, leave_out: &[usize]) -> Parsed<()> {
        if self.cursor.closed(b'}') {
            return Ok(());
        }
        for index in 0.. {
            if self.cursor.peek() != b'"' {
                return self.cursor.syntax("expected a key");
            }
            if leave_out.contains(&index) {
                self.cursor.skip_string()?;
                self.cursor.expect(b':', "expected ':'")?;
                self.cursor.skip_value()?;
            } else {
                self.key(key)?;
                self.cursor.expect(b':', "expected ':'")?;
                self.value(plan, value)?;
            }
            if !self.cursor.more(b'}')? {
                break;
            }
        }
        Ok(())
    }

    fn key(&mut self, key: &mut Column) -> Parsed<()> {
        let at = self.cursor.pos;
        let text = self.cursor.string(&mut self.scratch)?;
        if value_text::push(key, text, self.options.timestamps) {
            return Ok(());
        }
        if self.options.ignore_parse_errors {
            key.push_null();
            return Ok(());
        }
        self.cursor.mismatch(at, "not a key of this map")
    }

    /// Fields of an object up to its end (the cursor is behind its bracket), each into its column.
    pub fn object(&mut self, plan: &mut RowPlan, children: &mut [Column]) -> Parsed<()> {
        let arity = children.len();
        plan.seen.fill(false);
        let mut found = 0;
        if !self.cursor.closed(b'}') {
            for index in 0.. {
                if self.cursor.peek() != b'"' {
                    return self.cursor.syntax("expected a field name");
                }
                let field = plan.field(&mut self.cursor, index, &mut self.scratch)?;
                self.cursor.expect(b':', "expected ':'")?;
                if let Some(i) = field {
                    let column = &mut children[i];
                    if plan.seen[i] {
                        column.truncate(column.len() - 1);
                    } else {
                        plan.seen[i] = true;
                        found += 1;
                    }
                    self.value(&mut plan.plans[i], column).map_err(|e| in_field(e, &plan.names[i]))?;
                } else {
                    self.cursor.skip_value()?;
                }
                if !self.cursor.more(b'}')? {
                    break;
                }
                if found == arity {
                    // Flink reads no further either, so a repeated field does not count from here on
                    self.cursor.skip_to_close()?;
                    break;
                }
            }
        }
        if found < arity { self.missing(plan, children) } else { Ok(()) }
    }

    fn missing(&mut self, plan: &RowPlan, children: &mut [Column]) -> Parsed<()> {
        for (i, column) in children.iter_mut().enumerate().filter(|(i, _)| !plan.seen[*i]) {
            if self.options.fail_on_missing_field {
                let fault: Parsed<()> = self.cursor.mismatch(self.cursor.pos, "the field is missing");
                return fault.map_err(|e| in_field(e, &plan.names[i]));
            }
            column.push_null();
        }
        Ok(())
    }
}

#[cold]
fn in_field(mut fault: Box<Fault>, name: &[u8]) -> Box<Fault> {
    fault.path.push(String::from_utf8_lossy(name).into_owned());
    fault
}

/// The whole part of a fraction (Jackson: `getIntValue` of a float token); TINYINT and SMALLINT have no such conversion.
fn truncated(number: &[u8], kind: &TypeKind) -> Option<i64> {
    if !matches!(kind, TypeKind::Int | TypeKind::BigInt) {
        return None;
    }
    let value: f64 = text::parse_float(number)?;
    (value > -9.3e18 && value < 9.3e18).then_some(value as i64)
}

/// Places of entries whose key comes again later in the same map: the last one counts.
fn repeated_keys(keys: &Column, first: usize) -> Vec<usize> {
    let Data::Bytes(b) = &keys.data else { return vec![] };
    let key = |i: usize| &b.bytes[if i == 0 { 0 } else { b.ends[i - 1] as usize }..b.ends[i] as usize];
    let len = keys.len();
    if len - first <= 16 {
        let comes_again = |i: &usize| (i + 1..len).any(|j| key(j) == key(*i));
        return (first..len).filter(comes_again).map(|i| i - first).collect();
    }
    let mut later = HashSet::new();
    let mut repeated: Vec<usize> = (first..len).rev().filter(|i| !later.insert(key(*i))).map(|i| i - first).collect();
    repeated.reverse();
    repeated
}
