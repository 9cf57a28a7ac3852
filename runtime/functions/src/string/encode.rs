//! Text and bytes: ASCII, CHR, ENCODE, DECODE, Base64, hexadecimal, UTF-8 checks.

use arrow::array::{ArrayRef, StringArray};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sluice_batch::{Error, Result, TypeKind};

use crate::kernel::{Args, Column, P};
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["ASCII"], bind: |c| c.strict("ASCII", &[P::Str], TypeKind::Int, ascii) },
    Declaration { names: &["CHR"], bind: |c| c.nullable("CHR", &[P::BigInt], TypeKind::STRING, chr) },
    Declaration { names: &["ENCODE"], bind: |c| c.strict("ENCODE", &[P::Str, P::Str], TypeKind::BYTES, encode) },
    Declaration { names: &["DECODE"], bind: |c| c.strict("DECODE", &[P::Binary, P::Str], TypeKind::STRING, decode) },
    Declaration { names: &["TO_BASE64"], bind: |c| c.strict("TO_BASE64", &[P::StrOrBinary], TypeKind::STRING, to_base64) },
    Declaration { names: &["FROM_BASE64"], bind: |c| c.strict("FROM_BASE64", &[P::StrOrBinary], TypeKind::STRING, from_base64) },
    Declaration { names: &["HEX"], bind: hex_bind },
    Declaration { names: &["UNHEX"], bind: |c| c.nullable("UNHEX", &[P::Chars], TypeKind::BYTES, unhex) },
    Declaration { names: &["BIN"], bind: |c| c.strict("BIN", &[P::BigInt], TypeKind::STRING, bin) },
    Declaration { names: &["IS_VALID_UTF8"], bind: |c| c.strict("IS_VALID_UTF8", &[P::Binary], TypeKind::Boolean, is_valid_utf8) },
    Declaration { names: &["MAKE_VALID_UTF8"], bind: |c| c.strict("MAKE_VALID_UTF8", &[P::Binary], TypeKind::STRING, make_valid_utf8) },
];

/// The first byte, signed as in Java; 0 for the empty text.
fn ascii(a: &Args<'_>) -> Result<ArrayRef> {
    let s = a.str(0)?;
    a.i32s(|row| Some(s.get(row)?.as_bytes().first().map_or(0, |b| i32::from(*b as i8))))
}

fn chr(a: &Args<'_>) -> Result<ArrayRef> {
    let code = a.i64(0)?;
    a.strings(|row, out| {
        let code = code.get(row)?;
        if code >= 0 {
            out.push(char::from((code & 0xFF) as u8));
        }
        Some(())
    })
}

#[derive(Clone, Copy)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16Be,
    Utf16Le,
    Utf16,
}

fn charset(name: &str) -> Result<Charset> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "US-ASCII" | "ASCII" => Charset::Ascii,
        "ISO-8859-1" | "LATIN1" => Charset::Latin1,
        "UTF-8" | "UTF8" => Charset::Utf8,
        "UTF-16BE" => Charset::Utf16Be,
        "UTF-16LE" => Charset::Utf16Le,
        "UTF-16" => Charset::Utf16,
        _ => {
            let hint = "US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE and UTF-16 are known";
            return Err(Error::runtime(format!("Unsupported character set: {name}")).hint(hint));
        }
    })
}

fn encode_text(text: &str, charset: Charset) -> Vec<u8> {
    let or_question_mark = |max: u32| text.chars().map(move |c| if (c as u32) <= max { c as u32 as u8 } else { b'?' }).collect();
    match charset {
        Charset::Ascii => or_question_mark(0x7F),
        Charset::Latin1 => or_question_mark(0xFF),
        Charset::Utf8 => text.as_bytes().to_vec(),
        Charset::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Charset::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Charset::Utf16 => [0xFE, 0xFF].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
    }
}

fn decode_bytes(bytes: &[u8], charset: Charset) -> String {
    let utf16 = |unit: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let units: Vec<u16> = bytes.chunks(2).map(|c| if let [a, b] = c { unit([*a, *b]) } else { 0xFFFD }).collect();
        String::from_utf16_lossy(&units)
    };
    match charset {
        Charset::Ascii => bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '\u{FFFD}' }).collect(),
        Charset::Latin1 => bytes.iter().map(|b| char::from(*b)).collect(),
        Charset::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Charset::Utf16Be => utf16(u16::from_be_bytes, bytes),
        Charset::Utf16Le => utf16(u16::from_le_bytes, bytes),
        Charset::Utf16 => match bytes {
            [0xFF, 0xFE, rest @ ..] => utf16(u16::from_le_bytes, rest),
            [0xFE, 0xFF, rest @ ..] => utf16(u16::from_be_bytes, rest),
            rest => utf16(u16::from_be_bytes, rest),
        },
    }
}

/// The charset of a row; a constant name is resolved once, since it then stands in row 0.
fn charset_of(names: Column<'_, StringArray>, row: usize) -> Result<Option<Charset>> {
    names.get(row).map(charset).transpose()
}

fn encode(a: &Args<'_>) -> Result<ArrayRef> {
    let (text, names) = (a.str(0)?, a.str(1)?);
    let mut error = None;
    let out = a.map_binary(|row| match (text.get(row), charset_of(names, row)) {
        (Some(text), Ok(Some(charset))) => Some(encode_text(text, charset)),
        (Some(_), Err(e)) => {
            error = Some(e);
            None
        }
        _ => None,
    })?;
    error.map_or(Ok(out), Err)
}

fn decode(a: &Args<'_>) -> Result<ArrayRef> {
    let (bytes, names) = (a.binary(0)?, a.str(1)?);
    a.try_strings(|row, out| {
        let (Some(bytes), Some(charset)) = (bytes.get(row), charset_of(names, row)?) else { return Ok(None) };
        out.push_str(&decode_bytes(bytes, charset));
        Ok(Some(()))
    })
}

/// Calls `f` with the bytes of a text or binary argument.
fn each_bytes(a: &Args<'_>, mut f: impl FnMut(&[u8], &mut String) -> Result<()>) -> Result<ArrayRef> {
    if let Ok(text) = a.str(0) {
        return a.try_strings(|row, out| text.get(row).map(|t| f(t.as_bytes(), out)).transpose());
    }
    let bytes = a.binary(0)?;
    a.try_strings(|row, out| bytes.get(row).map(|b| f(b, out)).transpose())
}

fn to_base64(a: &Args<'_>) -> Result<ArrayRef> {
    each_bytes(a, |bytes, out| {
        STANDARD.encode_string(bytes, out);
        Ok(())
    })
}

fn from_base64(a: &Args<'_>) -> Result<ArrayRef> {
    each_bytes(a, |bytes, out| {
        let decoded = STANDARD.decode(bytes).map_err(|e| Error::runtime(format!("FROM_BASE64: {e}")))?;
        out.push_str(&String::from_utf8_lossy(&decoded));
        Ok(())
    })
}

fn hex_bind(call: Call<'_>) -> Result<sluice_batch::Expr> {
    if call.args.first().is_some_and(|a| a.ty.kind.is_integer()) {
        return call.strict("HEX", &[P::BigInt], TypeKind::STRING, |a| {
            let v = a.i64(0)?;
            a.strings(|row, out| {
                use std::fmt::Write;
                write!(out, "{:X}", v.get(row)?).ok()
            })
        });
    }
    call.strict("HEX", &[P::Chars], TypeKind::STRING, |a| {
        each_bytes(a, |bytes, out| {
            out.push_str(&hex::encode_upper(bytes));
            Ok(())
        })
    })
}

/// Digits from the right in pairs; an odd first digit is checked but gives a zero byte (Flink: `EncodingUtils.unhex`).
fn unhex(a: &Args<'_>) -> Result<ArrayRef> {
    let s = a.str(0)?;
    a.map_binary(|row| {
        let digits = s.get(row)?.as_bytes();
        let (odd, pairs) = digits.split_at(digits.len() % 2);
        if !odd.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut out = vec![0; odd.len()];
        out.extend(hex::decode(pairs).ok()?);
        Some(out)
    })
}

fn bin(a: &Args<'_>) -> Result<ArrayRef> {
    let v = a.i64(0)?;
    a.strings(|row, out| {
        use std::fmt::Write;
        write!(out, "{:b}", v.get(row)?).ok()
    })
}

fn is_valid_utf8(a: &Args<'_>) -> Result<ArrayRef> {
    let bytes = a.binary(0)?;
    a.booleans(|row| Some(std::str::from_utf8(bytes.get(row)?).is_ok()))
}

fn make_valid_utf8(a: &Args<'_>) -> Result<ArrayRef> {
    let bytes = a.binary(0)?;
    a.strings(|row, out| {
        out.push_str(&String::from_utf8_lossy(bytes.get(row)?));
        Some(())
    })
}
