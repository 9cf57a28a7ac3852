//! PostgreSQL's binary values to columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Array, ListArray, PrimitiveArray, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Field as ArrowField, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, TimestampMicrosecondType, TimestampNanosecondType,
};
use sluice_batch::{Error, Result, SqlType, TypeKind};
use tokio_postgres::types::{FromSql, Type};

/// The bytes of a value, of whatever type.
pub(crate) struct Raw<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Days from 1970 to 2000, where PostgreSQL begins to count.
const DAYS: i32 = 10_957;
const MICROS: i64 = 946_684_800_000_000;

/// A column under construction.
pub(crate) struct Column {
    ty: SqlType,
    values: Values,
}

enum Values {
    Boolean(BooleanBuilder),
    TinyInt(Numbers<Int8Type>),
    SmallInt(Numbers<Int16Type>),
    Int(Numbers<Int32Type>),
    BigInt(Numbers<Int64Type>),
    Float(Numbers<Float32Type>),
    Double(Numbers<Float64Type>),
    Decimal(Numbers<Decimal128Type>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Numbers<Date32Type>),
    Time(Numbers<Time32MillisecondType>),
    Timestamp(Numbers<TimestampMicrosecondType>),
    List { ends: Vec<i32>, valid: Vec<bool>, element: Box<Column> },
}

type Numbers<T> = Vec<Option<<T as ArrowPrimitiveType>::Native>>;

impl Column {
    /// # Errors
    /// If the connector has no such columns ([`super::catalog::is_supported`]).
    pub fn new(ty: &SqlType) -> Result<Self> {
        let values = match &ty.kind {
            TypeKind::Boolean => Values::Boolean(BooleanBuilder::new()),
            TypeKind::TinyInt => Values::TinyInt(vec![]),
            TypeKind::SmallInt => Values::SmallInt(vec![]),
            TypeKind::Int => Values::Int(vec![]),
            TypeKind::BigInt => Values::BigInt(vec![]),
            TypeKind::Float => Values::Float(vec![]),
            TypeKind::Double => Values::Double(vec![]),
            TypeKind::Decimal(..) => Values::Decimal(vec![]),
            TypeKind::Char(_) | TypeKind::VarChar(_) => Values::Text(StringBuilder::new()),
            TypeKind::Binary(_) | TypeKind::VarBinary(_) => Values::Bytes(BinaryBuilder::new()),
            TypeKind::Date => Values::Date(vec![]),
            TypeKind::Time(_) => Values::Time(vec![]),
            TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => Values::Timestamp(vec![]),
            TypeKind::Array(element) => Values::List { ends: vec![0], valid: vec![], element: Box::new(Column::new(element)?) },
            other => return Err(Error::unsupported(format!("type {other} in a JDBC table"))),
        };
        Ok(Self { ty: ty.clone(), values })
    }

    /// Appends a value.
    ///
    /// # Errors
    /// If its bytes are none of the type, or it has no counterpart: 'infinity', a number out of range.
    pub fn push(&mut self, raw: Option<&[u8]>) -> Result<(), String> {
        match &mut self.values {
            Values::Boolean(v) => v.append_option(raw.map(fixed::<1>).transpose()?.map(|b| b[0] != 0)),
            Values::TinyInt(v) => {
                let wide = raw.map(fixed).transpose()?.map(i16::from_be_bytes);
                v.push(wide.map(|n| i8::try_from(n).map_err(|_| format!("{n} is no TINYINT"))).transpose()?);
            }
            Values::SmallInt(v) => v.push(raw.map(fixed).transpose()?.map(i16::from_be_bytes)),
            Values::Int(v) => v.push(raw.map(fixed).transpose()?.map(i32::from_be_bytes)),
            Values::BigInt(v) => v.push(raw.map(fixed).transpose()?.map(i64::from_be_bytes)),
            Values::Float(v) => v.push(raw.map(fixed).transpose()?.map(f32::from_be_bytes)),
            Values::Double(v) => v.push(raw.map(fixed).transpose()?.map(f64::from_be_bytes)),
            Values::Decimal(v) => {
                let TypeKind::Decimal(precision, scale) = self.ty.kind else { return Err("internal: no decimal".into()) };
                v.push(raw.map(|r| decimal(r, precision, scale)).transpose()?.flatten());
            }
            Values::Text(v) => v.append_option(raw.map(|r| std::str::from_utf8(r).map_err(|e| e.to_string())).transpose()?),
            Values::Bytes(v) => v.append_option(raw),
            Values::Date(v) => v.push(raw.map(date).transpose()?),
            Values::Time(v) => v.push(raw.map(|r| time(r, &self.ty.kind)).transpose()?),
            Values::Timestamp(v) => v.push(raw.map(|r| timestamp(r, &self.ty.kind)).transpose()?),
            Values::List { ends, valid, element } => {
                if let Some(raw) = raw {
                    elements(raw, element)?;
                }
                valid.push(raw.is_some());
                ends.push(element.len() as i32);
            }
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(v) => arrow::array::ArrayBuilder::len(v),
            Values::TinyInt(v) => v.len(),
            Values::SmallInt(v) => v.len(),
            Values::Int(v) | Values::Date(v) | Values::Time(v) => v.len(),
            Values::BigInt(v) | Values::Timestamp(v) => v.len(),
            Values::Float(v) => v.len(),
            Values::Double(v) => v.len(),
            Values::Decimal(v) => v.len(),
            Values::Text(v) => arrow::array::ArrayBuilder::len(v),
            Values::Bytes(v) => arrow::array::ArrayBuilder::len(v),
            Values::List { valid, .. } => valid.len(),
        }
    }

    /// The column; a new one begins.
    ///
    /// # Errors
    /// If Arrow refuses: a defect.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        fn of<T: ArrowPrimitiveType>(numbers: &mut Numbers<T>) -> PrimitiveArray<T> {
            std::mem::take(numbers).into_iter().collect()
        }
        Ok(match &mut self.values {
            Values::Boolean(v) => Arc::new(v.finish()),
            Values::TinyInt(v) => Arc::new(of::<Int8Type>(v)),
            Values::SmallInt(v) => Arc::new(of::<Int16Type>(v)),
            Values::Int(v) => Arc::new(of::<Int32Type>(v)),
            Values::BigInt(v) => Arc::new(of::<Int64Type>(v)),
            Values::Float(v) => Arc::new(of::<Float32Type>(v)),
            Values::Double(v) => Arc::new(of::<Float64Type>(v)),
            Values::Decimal(v) => Arc::new(Decimal128Array::from_iter(std::mem::take(v)).with_data_type(self.ty.to_arrow())),
            Values::Text(v) => Arc::new(v.finish()),
            Values::Bytes(v) => Arc::new(v.finish()),
            Values::Date(v) => Arc::new(of::<Date32Type>(v)),
            Values::Time(v) => Arc::new(of::<Time32MillisecondType>(v)),
            Values::Timestamp(v) => match &self.ty.kind {
                TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) if *p > 6 => {
                    let nanos =
                        |micros: i64| micros.checked_mul(1000).ok_or_else(|| Error::runtime("a timestamp is out of range for nanoseconds"));
                    let values = std::mem::take(v).into_iter().map(|m| m.map(nanos).transpose()).collect::<Result<Vec<_>>>()?;
                    Arc::new(PrimitiveArray::<TimestampNanosecondType>::from(values).with_data_type(self.ty.to_arrow()))
                }
                _ => Arc::new(of::<TimestampMicrosecondType>(v).with_data_type(self.ty.to_arrow())),
            },
            Values::List { ends, valid, element } => {
                let field = Arc::new(ArrowField::new("item", element.ty.to_arrow(), true));
                let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])));
                Arc::new(ListArray::try_new(field, offsets, element.finish()?, Some(NullBuffer::from(std::mem::take(valid))))?)
            }
        })
    }
}

fn fixed<const N: usize>(raw: &[u8]) -> Result<[u8; N], String> {
    raw.try_into().map_err(|_| format!("{} bytes where {N} were expected", raw.len()))
}

fn date(raw: &[u8]) -> Result<i32, String> {
    let days = i32::from_be_bytes(fixed(raw)?);
    if days == i32::MAX || days == i32::MIN {
        return Err("the date 'infinity' has no counterpart; as STRING it can be read".into());
    }
    days.checked_add(DAYS).ok_or_else(|| "a date is out of range".into())
}

/// Milliseconds of a day, cut to the type's precision; 24:00:00, which PostgreSQL knows, is 00:00:00.
fn time(raw: &[u8], kind: &TypeKind) -> Result<i32, String> {
    let millis = i64::from_be_bytes(fixed(raw)?) / 1000 % 86_400_000;
    let precision = if let TypeKind::Time(p) = kind { *p } else { 3 };
    let unit = 10i64.pow(3 - u32::from(precision.min(3)));
    Ok((millis - millis % unit) as i32)
}

/// Microseconds since 1970, cut to the type's precision.
fn timestamp(raw: &[u8], kind: &TypeKind) -> Result<i64, String> {
    let micros = i64::from_be_bytes(fixed(raw)?);
    if micros == i64::MAX || micros == i64::MIN {
        return Err("the timestamp 'infinity' has no counterpart; as STRING it can be read".into());
    }
    let micros = micros.checked_add(MICROS).ok_or("a timestamp is out of range")?;
    let precision = if let TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) = kind { *p } else { 6 };
    let unit = 10i64.pow(6 - u32::from(precision.min(6)));
    Ok(micros - micros.rem_euclid(unit))
}

/// A NUMERIC as unscaled integer, rounded half up; `None` if it has more digits than the type (Flink: `DecimalData.fromBigDecimal`).
fn decimal(raw: &[u8], precision: u8, scale: u8) -> Result<Option<i128>, String> {
    let word = |at: usize| raw.get(2 * at..2 * at + 2).map(|b| i16::from_be_bytes([b[0], b[1]])).ok_or("a NUMERIC is cut off");
    let (digits, weight, sign) = (word(0)? as usize, i32::from(word(1)?), word(2)? as u16);
    if sign & 0xC000 == 0xC000 {
        return Err("NaN and infinity have no counterpart in DECIMAL; as STRING they can be read".into());
    }
    let mut value: i128 = 0;
    for i in 0..digits {
        let digit = i128::from(word(4 + i)?);
        // What a one of this digit counts, as a power of ten, in units of the type.
        let power = 4 * (weight - i as i32) + i32::from(scale);
        if power >= 0 {
            let part = u32::try_from(power).ok().and_then(|p| 10i128.checked_pow(p)).and_then(|p| p.checked_mul(digit));
            let Some(sum) = part.and_then(|p| value.checked_add(p)) else { return Ok(None) };
            value = sum;
        } else if power >= -4 {
            let below = 10i128.pow(power.unsigned_abs());
            value += digit / below + i128::from(digit % below >= below / 2);
            break;
        } else {
            break;
        }
    }
    let value = if sign == 0x4000 { -value } else { value };
    Ok((value.unsigned_abs() < 10u128.pow(u32::from(precision))).then_some(value))
}

/// The elements of an array of one dimension.
fn elements(raw: &[u8], element: &mut Column) -> Result<(), String> {
    let mut rest = raw;
    let mut int = || -> Result<(i32, &[u8]), String> {
        let (head, tail) = rest.split_at_checked(4).ok_or("an array is cut off")?;
        rest = tail;
        Ok((i32::from_be_bytes(fixed(head)?), tail))
    };
    let dimensions = int()?.0;
    int()?;
    int()?;
    match dimensions {
        0 => return Ok(()),
        1 => {}
        n => return Err(format!("an array of {n} dimensions cannot be read")),
    }
    let count = int()?.0;
    let mut rest = int()?.1;
    for _ in 0..count {
        let (head, tail) = rest.split_at_checked(4).ok_or("an array is cut off")?;
        let len = i32::from_be_bytes(fixed(head)?);
        rest = tail;
        match usize::try_from(len) {
            Err(_) => element.push(None)?,
            Ok(len) => {
                let (value, tail) = rest.split_at_checked(len).ok_or("an array is cut off")?;
                element.push(Some(value))?;
                rest = tail;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Array, AsArray};

    use super::*;

    /// `digits` of base 10,000, the first one counting `10000^weight`.
    fn numeric(digits: &[i16], weight: i16, negative: bool, scale: i16) -> Vec<u8> {
        let head = [digits.len() as i16, weight, if negative { 0x4000 } else { 0 }, scale];
        head.iter().chain(digits).flat_map(|w| w.to_be_bytes()).collect()
    }

    #[test]
    fn decimals() {
        for (digits, weight, negative, precision, scale, want) in [
            (&[12, 3456][..], 0, false, 10, 2, Some(1235)), // 12.3456
            (&[12, 3450], 0, true, 10, 3, Some(-12345)),
            (&[1], 1, false, 10, 0, Some(10_000)),
            (&[1], 1, false, 4, 0, None),
            (&[9999, 9999], 0, false, 4, 0, None), // 9999.9999 rounds to 10000
            (&[5000], -1, false, 4, 0, Some(1)),   // 0.5
            (&[4999, 9999], -1, false, 4, 0, Some(0)),
            (&[50], -2, false, 6, 6, Some(1)), // 0.00000050
            (&[1], -3, false, 6, 6, Some(0)),
            (&[], 0, false, 6, 2, Some(0)),
        ] {
            let got = decimal(&numeric(digits, weight, negative, 4), precision, scale).unwrap();
            assert_eq!(got, want, "{digits:?} {weight} as DECIMAL({precision}, {scale})");
        }
        let nan: Vec<u8> = [0i16, 0, 0xC000u16 as i16, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
        assert!(decimal(&nan, 10, 2).is_err());
    }

    #[test]
    fn times_are_cut_to_their_precision() {
        let raw = (-1_234_567i64).to_be_bytes();
        assert_eq!(timestamp(&raw, &TypeKind::Timestamp(6)).unwrap(), MICROS - 1_234_567);
        assert_eq!(timestamp(&raw, &TypeKind::Timestamp(3)).unwrap(), MICROS - 1_235_000);
        assert_eq!(timestamp(&raw, &TypeKind::TimestampLtz(0)).unwrap(), MICROS - 2_000_000);
        assert!(timestamp(&i64::MAX.to_be_bytes(), &TypeKind::Timestamp(6)).is_err());
        assert_eq!(date(&1i32.to_be_bytes()).unwrap(), 10_958);
        let raw = 3_723_456_789i64.to_be_bytes();
        for (precision, want) in [(0, 3_723_000), (1, 3_723_400), (3, 3_723_456), (6, 3_723_456)] {
            assert_eq!(time(&raw, &TypeKind::Time(precision)).unwrap(), want);
        }
        assert_eq!(time(&86_400_000_000i64.to_be_bytes(), &TypeKind::Time(0)).unwrap(), 0);
    }

    #[test]
    fn arrays() {
        let words = |w: &[i32]| w.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        let ty = TypeKind::Array(Box::new(TypeKind::Int.nullable())).nullable();
        let mut column = Column::new(&ty).unwrap();
        column.push(Some(&words(&[1, 1, 23, 2, 1, 4, 7, -1]))).unwrap();
        column.push(None).unwrap();
        column.push(Some(&words(&[0, 0, 23]))).unwrap();
        assert!(column.push(Some(&words(&[2, 0, 23, 1, 1, 1, 1, 4, 7]))).unwrap_err().contains("2 dimensions"));
        let array = column.finish().unwrap();
        let list = array.as_list::<i32>();
        assert_eq!((list.len(), list.value_length(0), list.value_length(2)), (3, 2, 0));
        assert!(list.is_null(1) && list.value(0).is_null(1));
    }
}
