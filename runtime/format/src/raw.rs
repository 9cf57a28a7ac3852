//! `raw`: one column, its bytes as they are (Flink: `RawFormatFactory`).

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Error, Field, Result, RowKind, TypeKind};

use crate::column::{Column, Data, Rows};
use crate::json::projected;
use crate::registry::{Format, insert_only};
use crate::view::View;
use crate::{Decoder, Encoder, FormatOptions, Records, Schema};

pub(crate) const FORMAT: Format = Format {
    name: "raw",
    read: Some(|options| RawOptions::new(options).map(|_| insert_only())),
    write: Some(|options, _| RawOptions::new(options).map(|_| insert_only())),
    decoder: |options, schema, _| {
        let options = RawOptions::new(&options)?;
        check(&schema)?;
        let (_, columns) = projected(&schema)?;
        Ok(Box::new(RawDecoder { rows: Rows::new(columns), options }))
    },
    encoder: |options, schema, _| {
        let options = RawOptions::new(&options)?;
        check(&schema)?;
        Ok(Box::new(RawEncoder { fields: schema.fields, options }))
    },
    metadata: Vec::new,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    Utf8,
    Latin1,
    Ascii,
    /// Big endian?
    Utf16(bool),
    /// With a byte order mark; Java writes it big endian.
    Utf16Bom,
}

struct RawOptions {
    charset: Charset,
    big_endian: bool,
}

impl RawOptions {
    fn new(options: &FormatOptions) -> Result<Self> {
        let names = ["UTF-8", "ISO-8859-1", "US-ASCII", "UTF-16BE", "UTF-16LE", "UTF-16"];
        let charset = match options.choice("charset", &names)? {
            "UTF-8" => Charset::Utf8,
            "ISO-8859-1" => Charset::Latin1,
            "US-ASCII" => Charset::Ascii,
            "UTF-16BE" => Charset::Utf16(true),
            "UTF-16LE" => Charset::Utf16(false),
            _ => Charset::Utf16Bom,
        };
        Ok(Self { charset, big_endian: options.choice("endianness", &["big-endian", "little-endian"])? == "big-endian" })
    }
}

fn check(schema: &Schema) -> Result<()> {
    let [field] = schema.fields.as_slice() else {
        return Err(Error::plan(format!("format 'raw' takes a single column, but there are {}", schema.fields.len())));
    };
    let ok = match &field.ty.kind {
        TypeKind::Boolean | TypeKind::Float | TypeKind::Double => true,
        kind => kind.is_integer() || kind.is_character() || kind.is_binary(),
    };
    if ok { Ok(()) } else { Err(Error::plan(format!("column '{}': format 'raw' cannot hold {}", field.name, field.ty))) }
}

struct RawDecoder {
    rows: Rows,
    options: RawOptions,
}

impl RawDecoder {
    fn value(options: &RawOptions, column: &mut Column, record: &[u8]) -> Option<()> {
        /// A number of exactly as many bytes as its type has.
        macro_rules! number {
            ($ty:ty) => {{
                let bytes = record.try_into().ok()?;
                if options.big_endian { <$ty>::from_be_bytes(bytes) } else { <$ty>::from_le_bytes(bytes) }
            }};
        }
        match &mut column.data {
            Data::Boolean(v) => match record {
                [b] => v.push(*b != 0),
                _ => return None,
            },
            Data::Int8(v) => v.push(number!(i8)),
            Data::Int16(v) => v.push(number!(i16)),
            Data::Int32(v) => v.push(number!(i32)),
            Data::Int64(v) => v.push(number!(i64)),
            Data::Float32(v) => v.push(number!(f32)),
            Data::Float64(v) => v.push(number!(f64)),
            Data::Bytes(b) if column.kind.is_character() => match options.charset {
                // Java puts U+FFFD where bytes make no character
                Charset::Utf8 => b.push(String::from_utf8_lossy(record).as_bytes()),
                charset => b.push(decode_charset(charset, record).as_bytes()),
            },
            Data::Bytes(b) => b.push(record),
            _ => return None,
        }
        column.set_valid();
        Some(())
    }
}

fn decode_charset(charset: Charset, bytes: &[u8]) -> String {
    let utf16 = |big_endian: bool, bytes: &[u8]| {
        let unit = |b: &[u8]| match b {
            [a, b] if big_endian => u16::from_be_bytes([*a, *b]),
            [a, b] => u16::from_le_bytes([*a, *b]),
            _ => 0xFFFD,
        };
        char::decode_utf16(bytes.chunks(2).map(unit)).map(|c| c.unwrap_or('\u{FFFD}')).collect()
    };
    match (charset, bytes) {
        (Charset::Utf8, _) => String::from_utf8_lossy(bytes).into_owned(),
        (Charset::Latin1, _) => bytes.iter().map(|b| char::from(*b)).collect(),
        (Charset::Ascii, _) => bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '\u{FFFD}' }).collect(),
        (Charset::Utf16(big_endian), _) => utf16(big_endian, bytes),
        (Charset::Utf16Bom, [0xFF, 0xFE, rest @ ..]) => utf16(false, rest),
        (Charset::Utf16Bom, [0xFE, 0xFF, rest @ ..]) => utf16(true, rest),
        (Charset::Utf16Bom, _) => utf16(true, bytes),
    }
}

fn encode_charset(charset: Charset, text: &str, out: &mut Vec<u8>) {
    let limited = |out: &mut Vec<u8>, max: u32| out.extend(text.chars().map(|c| if (c as u32) <= max { c as u8 } else { b'?' }));
    match charset {
        Charset::Utf8 => out.extend_from_slice(text.as_bytes()),
        Charset::Latin1 => limited(out, 0xFF),
        Charset::Ascii => limited(out, 0x7F),
        Charset::Utf16(true) => out.extend(text.encode_utf16().flat_map(u16::to_be_bytes)),
        Charset::Utf16(false) => out.extend(text.encode_utf16().flat_map(u16::to_le_bytes)),
        Charset::Utf16Bom => {
            if !text.is_empty() {
                out.extend_from_slice(&[0xFE, 0xFF]);
            }
            out.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
        }
    }
}

impl Decoder for RawDecoder {
    fn decode(&mut self, record: Option<&[u8]>) -> Result<usize> {
        let Some(record) = record else {
            self.append_null_row()?;
            return Ok(1);
        };
        for column in &mut self.rows.columns {
            if Self::value(&self.options, column, record).is_none() {
                let kind = &column.kind;
                return Err(Error::runtime(format!("a record of {} bytes is no {kind} in format 'raw'", record.len())));
            }
        }
        self.rows.add(1);
        Ok(1)
    }

    fn append_null_row(&mut self) -> Result<()> {
        self.rows.push_null();
        Ok(())
    }

    fn finish(&mut self) -> Result<(Vec<ArrayRef>, Option<Vec<RowKind>>)> {
        self.rows.finish()
    }
}

struct RawEncoder {
    fields: Vec<Field>,
    options: RawOptions,
}

impl Encoder for RawEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Records) -> Result<()> {
        let views = View::of(batch, &self.fields)?;
        let Some(view) = views.first() else { return Ok(()) };
        let big = self.options.big_endian;
        macro_rules! number {
            ($value:expr) => {{
                let value = $value;
                out.bytes.extend_from_slice(&if big { value.to_be_bytes() } else { value.to_le_bytes() })
            }};
        }
        for row in 0..batch.rows() {
            if view.is_null(row) {
                out.push_null();
                continue;
            }
            match view {
                View::Boolean(a) => out.bytes.push(u8::from(a.value(row))),
                View::Int8(a) => number!(a.value(row)),
                View::Int16(a) => number!(a.value(row)),
                View::Int32(a) => number!(a.value(row)),
                View::Int64(a) => number!(a.value(row)),
                View::Float32(a) => number!(a.value(row)),
                View::Float64(a) => number!(a.value(row)),
                View::String(a) => encode_charset(self.options.charset, a.value(row), &mut out.bytes),
                View::Binary(a) => out.bytes.extend_from_slice(a.value(row)),
                _ => return Err(Error::unsupported("this type in format 'raw'")),
            }
            out.end();
        }
        Ok(())
    }
}
