//! Columns to texts that PostgreSQL reads back as the column's type.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use bytes::{BufMut, BytesMut};
use chrono::{Datelike, NaiveDate, Timelike};
use sluice_batch::{Error, Result};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// Texts one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    valid: Vec<bool>,
}

impl Texts {
    /// Bytes held.
    pub fn size(&self) -> usize {
        self.bytes.len() + 9 * self.ends.len()
    }

    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        self.valid[row].then(|| &self.bytes[start..self.ends[row]])
    }

    /// Takes texts with a NUL character, which PostgreSQL refuses, for NULL.
    pub fn leave_out_nul(&mut self) {
        if !self.bytes.contains(&0) {
            return;
        }
        for row in 0..self.ends.len() {
            self.valid[row] = self.get(row).is_some_and(|text| !text.contains(&0));
        }
    }

    /// Appends the values of a column.
    ///
    /// # Errors
    /// If a value has no text.
    pub fn append(&mut self, array: &ArrayRef) -> Result<()> {
        let writer = Writer::new(array)?;
        for row in 0..array.len() {
            let valid = array.is_valid(row);
            if valid {
                writer.write(row, &mut self.bytes)?;
            }
            self.valid.push(valid);
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }
}

/// Some rows of [`Texts`] as a parameter of type `text[]`.
#[derive(Debug)]
pub(crate) struct Parameter<'a> {
    pub texts: &'a Texts,
    pub rows: &'a [u32],
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let nulls = self.rows.iter().any(|r| !self.texts.valid[*r as usize]);
        out.put_i32(1);
        out.put_i32(i32::from(nulls));
        out.put_u32(Type::TEXT.oid());
        out.put_i32(i32::try_from(self.rows.len())?);
        out.put_i32(1);
        for row in self.rows {
            match self.texts.get(*row as usize) {
                None => out.put_i32(-1),
                Some(text) => {
                    out.put_i32(i32::try_from(text.len())?);
                    out.put_slice(text);
                }
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT_ARRAY
    }

    to_sql_checked!();
}

/// Writes the values of one column.
enum Writer<'a> {
    Boolean(&'a arrow::array::BooleanArray),
    TinyInt(&'a [i8]),
    SmallInt(&'a [i16]),
    Int(&'a [i32]),
    BigInt(&'a [i64]),
    Float(&'a [f32]),
    Double(&'a [f64]),
    Decimal(&'a [i128], usize),
    Text(&'a arrow::array::StringArray),
    Bytes(&'a arrow::array::BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i32]),
    /// Values, nanoseconds a unit, whether they are instants.
    Timestamp(&'a [i64], i64, bool),
    List(&'a [i32], &'a ArrayRef, Box<Writer<'a>>),
}

impl<'a> Writer<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int8 => Self::TinyInt(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Self::SmallInt(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Self::Int(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Self::BigInt(array.as_primitive::<Int64Type>().values()),
            DataType::Float32 => Self::Float(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().values()),
            DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive::<Decimal128Type>().values(), *scale as usize),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>().values()),
            DataType::Time32(TimeUnit::Millisecond) => Self::Time(array.as_primitive::<Time32MillisecondType>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().values(), 1000, zone.is_some())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                Self::Timestamp(array.as_primitive::<TimestampNanosecondType>().values(), 1, zone.is_some())
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Self::List(list.value_offsets(), list.values(), Box::new(Self::new(list.values())?))
            }
            other => return Err(Error::unsupported(format!("type {other} in a JDBC table"))),
        })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Boolean(v) => out.push(if v.value(row) { b't' } else { b'f' }),
            Self::TinyInt(v) => write!(out, "{}", v[row])?,
            Self::SmallInt(v) => write!(out, "{}", v[row])?,
            Self::Int(v) => write!(out, "{}", v[row])?,
            Self::BigInt(v) => write!(out, "{}", v[row])?,
            Self::Float(v) => match v[row] {
                f if f.is_infinite() => out.extend_from_slice(if f > 0.0 { b"Infinity" } else { b"-Infinity" }),
                f => write!(out, "{f:?}")?,
            },
            Self::Double(v) => match v[row] {
                f if f.is_infinite() => out.extend_from_slice(if f > 0.0 { b"Infinity" } else { b"-Infinity" }),
                f => write!(out, "{f:?}")?,
            },
            Self::Decimal(v, scale) => decimal(v[row], *scale, out)?,
            Self::Text(v) => out.extend_from_slice(v.value(row).as_bytes()),
            Self::Bytes(v) => {
                out.extend_from_slice(b"\\x");
                v.value(row).iter().try_for_each(|b| write!(out, "{b:02x}"))?;
            }
            Self::Date(v) => date(i64::from(v[row]), out)?,
            Self::Time(v) => time(i64::from(v[row]) * 1_000_000, out)?,
            Self::Timestamp(v, unit, instant) => {
                let day = 86_400_000_000_000 / unit;
                let days = v[row].div_euclid(day);
                let before_christ = days < FIRST_DAY;
                date_of(days, before_christ, out)?;
                out.push(b' ');
                time(v[row].rem_euclid(day) * unit, out)?;
                if *instant {
                    out.extend_from_slice(b"+00");
                }
                if before_christ {
                    out.extend_from_slice(b" BC");
                }
            }
            Self::List(offsets, values, element) => {
                out.push(b'{');
                for at in offsets[row] as usize..offsets[row + 1] as usize {
                    if at > offsets[row] as usize {
                        out.push(b',');
                    }
                    if values.is_null(at) {
                        out.extend_from_slice(b"NULL");
                        continue;
                    }
                    let mut text = vec![];
                    element.write(at, &mut text)?;
                    out.push(b'"');
                    for byte in text {
                        if matches!(byte, b'"' | b'\\') {
                            out.push(b'\\');
                        }
                        out.push(byte);
                    }
                    out.push(b'"');
                }
                out.push(b'}');
            }
        }
        Ok(())
    }
}

/// The first day of the year 1.
const FIRST_DAY: i64 = -719_162;

fn decimal(value: i128, scale: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
    if value < 0 {
        out.push(b'-');
    }
    let unit = 10u128.pow(scale as u32);
    let value = value.unsigned_abs();
    write!(out, "{}", value / unit)?;
    if scale > 0 {
        write!(out, ".{:0scale$}", value % unit)?;
    }
    Ok(())
}

fn date(days: i64, out: &mut Vec<u8>) -> Result<()> {
    let before_christ = days < FIRST_DAY;
    date_of(days, before_christ, out)?;
    if before_christ {
        out.extend_from_slice(b" BC");
    }
    Ok(())
}

fn date_of(days: i64, before_christ: bool, out: &mut Vec<u8>) -> Result<()> {
    let date = i32::try_from(days - FIRST_DAY + 1).ok().and_then(NaiveDate::from_num_days_from_ce_opt);
    let date = date.ok_or_else(|| Error::runtime(format!("a date {days} days from 1970 is out of range")))?;
    let year = if before_christ { 1 - date.year() } else { date.year() };
    Ok(write!(out, "{year:04}-{:02}-{:02}", date.month(), date.day())?)
}

/// Nanoseconds of a day, to the microsecond.
fn time(nanos: i64, out: &mut Vec<u8>) -> Result<()> {
    let seconds = u32::try_from(nanos / 1_000_000_000).unwrap_or_default();
    let time = chrono::NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0).unwrap_or_default();
    write!(out, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())?;
    let micros = nanos % 1_000_000_000 / 1000;
    if micros > 0 {
        write!(out, ".{micros:06}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use sluice_batch::{Datum, SqlType, TypeKind, datum};

    use super::*;

    fn text(value: Datum, ty: &SqlType) -> String {
        let mut texts = Texts::default();
        texts.append(&datum::to_array(&value, ty).unwrap()).unwrap();
        texts.get(0).map_or("NULL".into(), |t| String::from_utf8_lossy(t).into_owned())
    }

    #[test]
    fn values_are_written_as_the_server_reads_them() {
        let strings = TypeKind::Array(Box::new(TypeKind::STRING.nullable()));
        for (value, kind, want) in [
            (Datum::Null, TypeKind::Int, "NULL"),
            (Datum::Boolean(true), TypeKind::Boolean, "t"),
            (Datum::TinyInt(-3), TypeKind::TinyInt, "-3"),
            (Datum::Double(1e300), TypeKind::Double, "1e300"),
            (Datum::Double(f64::NAN), TypeKind::Double, "NaN"),
            (Datum::Float(f32::NEG_INFINITY), TypeKind::Float, "-Infinity"),
            (Datum::Decimal(-5), TypeKind::Decimal(10, 2), "-0.05"),
            (Datum::Decimal(12), TypeKind::Decimal(10, 0), "12"),
            (Datum::Bytes(Arc::from([0u8, 255])), TypeKind::BYTES, "\\x00ff"),
            (Datum::Date(-1), TypeKind::Date, "1969-12-31"),
            (Datum::Date(FIRST_DAY as i32 - 1), TypeKind::Date, "0001-12-31 BC"),
            (Datum::Time(3_723_004), TypeKind::Time(3), "01:02:03.004000"),
            (Datum::Timestamp(-1), TypeKind::Timestamp(6), "1969-12-31 23:59:59.999999"),
            (Datum::Timestamp(1_000_000), TypeKind::TimestampLtz(3), "1970-01-01 00:00:01+00"),
            (Datum::Timestamp(1_234_567_890), TypeKind::Timestamp(9), "1970-01-01 00:00:01.234567"),
            (Datum::Array(Arc::from([Datum::string("a\"\\,"), Datum::Null])), strings, "{\"a\\\"\\\\,\",NULL}"),
        ] {
            assert_eq!(text(value, &kind.nullable()), want);
        }
    }

    #[test]
    fn parameters_are_arrays_of_chosen_rows() {
        let mut texts = Texts::default();
        let values = [Datum::string("a"), Datum::Null, Datum::string("bc")];
        texts.append(&datum::from_datums(&values, &TypeKind::STRING.nullable()).unwrap()).unwrap();
        let mut out = BytesMut::new();
        Parameter { texts: &texts, rows: &[2, 1] }.to_sql(&Type::TEXT_ARRAY, &mut out).unwrap();
        let want: Vec<u8> =
            [1, 1, 25, 2, 1, 2i32].iter().flat_map(|w| w.to_be_bytes()).chain(*b"bc").chain((-1i32).to_be_bytes()).collect();
        assert_eq!(out.to_vec(), want);
    }

    #[test]
    fn nul_is_in_no_text() {
        let mut texts = Texts::default();
        let values = [Datum::string("a"), Datum::string("b\0"), Datum::Null, Datum::string("c")];
        texts.append(&datum::from_datums(&values, &TypeKind::STRING.nullable()).unwrap()).unwrap();
        texts.leave_out_nul();
        assert_eq!((0..4).map(|row| texts.get(row)).collect::<Vec<_>>(), [Some(&b"a"[..]), None, None, Some(b"c")]);
    }
}
