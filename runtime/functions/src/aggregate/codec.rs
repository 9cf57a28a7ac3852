//! The bytes of accumulator state: little-endian numbers, length-prefixed strings, tagged values.
//! What is written here is read by later versions: a format may be added, never changed.

use std::sync::Arc;

use sluice_batch::{Datum, Error, Result};

fn damaged() -> Error {
    Error::runtime("the state of an aggregate is damaged: it ends early or holds an unknown mark")
}

pub(crate) fn put_i64(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_i128(value: i128, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_f64(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// LEB128.
pub(crate) fn put_len(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
    put_len(value.len(), out);
    out.extend_from_slice(value);
}

pub(crate) fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or_else(damaged)?;
    *input = rest;
    Ok(*head)
}

pub(crate) fn take_u8(input: &mut &[u8]) -> Result<u8> {
    Ok(take_array::<1>(input)?[0])
}

pub(crate) fn take_i64(input: &mut &[u8]) -> Result<i64> {
    Ok(i64::from_le_bytes(take_array(input)?))
}

pub(crate) fn take_i128(input: &mut &[u8]) -> Result<i128> {
    Ok(i128::from_le_bytes(take_array(input)?))
}

pub(crate) fn take_f64(input: &mut &[u8]) -> Result<f64> {
    Ok(f64::from_bits(u64::from_le_bytes(take_array(input)?)))
}

pub(crate) fn take_len(input: &mut &[u8]) -> Result<usize> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_u8(input)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(value).map_err(|_| damaged());
        }
    }
    Err(damaged())
}

pub(crate) fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take_len(input)?;
    let (head, rest) = input.split_at_checked(length).ok_or_else(damaged)?;
    *input = rest;
    Ok(head)
}

pub(crate) fn take_str<'a>(input: &mut &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(take_bytes(input)?).map_err(|_| damaged())
}

/// A value with a mark of its variant before it.
pub(crate) fn put_datum(value: &Datum, out: &mut Vec<u8>) {
    match value {
        Datum::Null => out.push(0),
        Datum::Boolean(v) => out.extend([1, u8::from(*v)]),
        Datum::TinyInt(v) => out.extend([2, *v as u8]),
        Datum::SmallInt(v) => marked(3, &v.to_le_bytes(), out),
        Datum::Int(v) => marked(4, &v.to_le_bytes(), out),
        Datum::BigInt(v) => marked(5, &v.to_le_bytes(), out),
        Datum::Float(v) => marked(6, &v.to_bits().to_le_bytes(), out),
        Datum::Double(v) => marked(7, &v.to_bits().to_le_bytes(), out),
        Datum::Decimal(v) => marked(8, &v.to_le_bytes(), out),
        Datum::String(v) => {
            out.push(9);
            put_bytes(v.as_bytes(), out);
        }
        Datum::Bytes(v) => {
            out.push(10);
            put_bytes(v, out);
        }
        Datum::Date(v) => marked(11, &v.to_le_bytes(), out),
        Datum::Time(v) => marked(12, &v.to_le_bytes(), out),
        Datum::Timestamp(v) => marked(13, &v.to_le_bytes(), out),
        Datum::IntervalYearMonth(v) => marked(14, &v.to_le_bytes(), out),
        Datum::IntervalDayTime(v) => marked(15, &v.to_le_bytes(), out),
        Datum::Array(items) => put_list(16, items, out),
        Datum::Map(entries) => {
            out.push(17);
            put_len(entries.len(), out);
            for (k, v) in entries.iter() {
                put_datum(k, out);
                put_datum(v, out);
            }
        }
        Datum::Row(items) => put_list(18, items, out),
    }
}

fn marked(mark: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(mark);
    out.extend_from_slice(bytes);
}

fn put_list(mark: u8, items: &[Datum], out: &mut Vec<u8>) {
    out.push(mark);
    put_len(items.len(), out);
    items.iter().for_each(|i| put_datum(i, out));
}

pub(crate) fn take_datum(input: &mut &[u8]) -> Result<Datum> {
    Ok(match take_u8(input)? {
        0 => Datum::Null,
        1 => Datum::Boolean(take_u8(input)? != 0),
        2 => Datum::TinyInt(take_u8(input)? as i8),
        3 => Datum::SmallInt(i16::from_le_bytes(take_array(input)?)),
        4 => Datum::Int(i32::from_le_bytes(take_array(input)?)),
        5 => Datum::BigInt(take_i64(input)?),
        6 => Datum::Float(f32::from_bits(u32::from_le_bytes(take_array(input)?))),
        7 => Datum::Double(take_f64(input)?),
        8 => Datum::Decimal(take_i128(input)?),
        9 => Datum::String(Arc::from(take_str(input)?)),
        10 => Datum::Bytes(Arc::from(take_bytes(input)?)),
        11 => Datum::Date(i32::from_le_bytes(take_array(input)?)),
        12 => Datum::Time(i32::from_le_bytes(take_array(input)?)),
        13 => Datum::Timestamp(take_i64(input)?),
        14 => Datum::IntervalYearMonth(i32::from_le_bytes(take_array(input)?)),
        15 => Datum::IntervalDayTime(take_i64(input)?),
        16 => Datum::Array(take_list(input)?),
        17 => {
            let entries = take_len(input)?;
            Datum::Map((0..entries).map(|_| Ok((take_datum(input)?, take_datum(input)?))).collect::<Result<_>>()?)
        }
        18 => Datum::Row(take_list(input)?),
        _ => return Err(damaged()),
    })
}

fn take_list(input: &mut &[u8]) -> Result<Arc<[Datum]>> {
    let items = take_len(input)?;
    (0..items).map(|_| take_datum(input)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn datums_come_back() {
        let all = Datum::Row(Arc::from([
            Datum::Null,
            Datum::Boolean(true),
            Datum::TinyInt(-3),
            Datum::SmallInt(-300),
            Datum::Int(7),
            Datum::BigInt(i64::MIN),
            Datum::Float(1.5),
            Datum::Double(-0.25),
            Datum::Decimal(i128::MAX),
            Datum::string("grüße"),
            Datum::Bytes(Arc::from([0u8, 255])),
            Datum::Date(-1),
            Datum::Time(5),
            Datum::Timestamp(9),
            Datum::IntervalYearMonth(3),
            Datum::IntervalDayTime(4),
            Datum::Array(Arc::from([Datum::Int(1), Datum::Null])),
            Datum::Map(Arc::from([(Datum::string("k"), Datum::Null)])),
        ]));
        let mut bytes = Vec::new();
        put_datum(&all, &mut bytes);
        for cut in 0..bytes.len() {
            assert!(take_datum(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut input = bytes.as_slice();
        assert_eq!(take_datum(&mut input).unwrap(), all);
        assert!(input.is_empty());
    }
}
