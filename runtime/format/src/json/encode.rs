//! Columns as JSON (Flink: `RowDataToJsonConverters`, written by Jackson).

use sluice_batch::{Error, Field, Result, SqlType, TypeKind};

use crate::text::{self, TimestampFormat};
use crate::value_text;
use crate::view::View;

/// How values are written.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub timestamps: TimestampFormat,
    /// `map-null-key.mode`
    pub null_keys: NullKeys,
    /// `1E+2` is written `100.00`.
    pub plain_decimals: bool,
    /// NULL fields of rows are left out.
    pub ignore_null_fields: bool,
    /// Keys of maps may have any type (as `CAST(key AS STRING)`); Flink's JSON has strings only.
    pub any_map_key: bool,
}

/// What becomes of a map's NULL key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NullKeys {
    Fail,
    Drop,
    Literal(String),
}

/// Field names, escaped and ready to write, beside the views of the columns.
pub(crate) enum Names {
    Scalar,
    Item(Box<Names>),
    Row(RowNames),
}

pub(crate) struct RowNames(Vec<(Vec<u8>, Names)>);

impl Names {
    /// # Errors
    /// If the type has no form in JSON.
    pub fn new(ty: &SqlType, options: &WriteOptions) -> Result<Self> {
        let map = |key: &SqlType, value: Names| {
            if !options.any_map_key && !key.kind.is_character() {
                return Err(Error::plan(format!("JSON has no map keys other than strings, but there is {ty}")));
            }
            Ok(Names::Item(Box::new(value)))
        };
        Ok(match &ty.kind {
            TypeKind::Array(item) => Names::Item(Box::new(Names::new(item, options)?)),
            TypeKind::Map(key, value) => map(key, Names::new(value, options)?)?,
            TypeKind::Multiset(element) => map(element, Names::Scalar)?,
            TypeKind::Row(fields) => Names::Row(RowNames::new(fields, options)?),
            TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime | TypeKind::Variant => {
                return Err(Error::unsupported(format!("type {ty} in JSON")));
            }
            _ => Names::Scalar,
        })
    }
}

impl RowNames {
    pub fn new(fields: &[Field], options: &WriteOptions) -> Result<Self> {
        let one = |f: &Field| {
            let mut name = vec![];
            write_string(&mut name, f.name.as_bytes(), false);
            name.push(b':');
            let names = Names::new(&f.ty, options).map_err(|e| e.context(format!("column '{}'", f.name)))?;
            Ok((name, names))
        };
        Ok(Self(fields.iter().map(one).collect::<Result<_>>()?))
    }
}

/// Writes one row as an object.
pub(crate) fn write_row(out: &mut Vec<u8>, names: &RowNames, views: &[View<'_>], row: usize, options: &WriteOptions) -> Result<()> {
    out.push(b'{');
    let mut first = true;
    for ((name, names), view) in names.0.iter().zip(views) {
        if options.ignore_null_fields && view.is_null(row) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(name);
        write_value(out, names, view, row, options)?;
    }
    out.push(b'}');
    Ok(())
}

/// Writes one value.
pub(crate) fn write_value(out: &mut Vec<u8>, names: &Names, view: &View<'_>, row: usize, options: &WriteOptions) -> Result<()> {
    if view.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match (view, names) {
        (View::String(a), _) => write_string(out, a.value(row).as_bytes(), true),
        (View::Float32(a), _) => write_number(out, a.value(row).is_finite(), |out| text::write_float(out, a.value(row))),
        (View::Float64(a), _) => write_number(out, a.value(row).is_finite(), |out| text::write_double(out, a.value(row))),
        (View::Decimal(a, scale), _) if options.plain_decimals => text::write_decimal_plain(out, a.value(row), *scale),
        (View::Decimal(a, scale), _) => text::write_decimal_stripped(out, a.value(row), *scale),
        (View::Binary(_) | View::Date(_) | View::Time(..), _) => write_number(out, false, |out| value_text::write(out, view, row)),
        (View::Timestamp(t), _) => {
            write_number(out, false, |out| text::write_timestamp(out, t.raw(row), t.nanos, options.timestamps, t.zoned));
        }
        (View::List(list, item), Names::Item(names)) => {
            out.push(b'[');
            for (n, i) in View::range(list.value_offsets(), row).enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_value(out, names, item, i, options)?;
            }
            out.push(b']');
        }
        (View::Map(map, key, value), Names::Item(names)) => {
            write_map(out, names, key, value, View::range(map.value_offsets(), row), options)?;
        }
        (View::Row(_, children), Names::Row(names)) => write_row(out, names, children, row, options)?,
        _ => value_text::write(out, view, row),
    }
    Ok(())
}

/// Text that is a number if `bare`, else in quotes. There is nothing to escape in it.
#[inline]
fn write_number(out: &mut Vec<u8>, bare: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if bare {
        return write(out);
    }
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn write_map(
    out: &mut Vec<u8>,
    names: &Names,
    key: &View<'_>,
    value: &View<'_>,
    entries: std::ops::Range<usize>,
    options: &WriteOptions,
) -> Result<()> {
    out.push(b'{');
    let mut first = true;
    let mut text = vec![];
    for i in entries {
        if key.is_null(i) && options.null_keys == NullKeys::Drop {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        match (key, &options.null_keys) {
            (_, NullKeys::Literal(literal)) if key.is_null(i) => write_string(out, literal.as_bytes(), true),
            _ if key.is_null(i) => {
                let hint = "set 'map-null-key.mode' to 'DROP' or 'LITERAL'";
                return Err(Error::runtime("a map has a NULL key, which JSON cannot write").hint(hint));
            }
            (View::String(a), _) => write_string(out, a.value(i).as_bytes(), true),
            _ => {
                text.clear();
                value_text::write(&mut text, key, i);
                write_string(out, &text, true);
            }
        }
        out.push(b':');
        write_value(out, names, value, i, options)?;
    }
    out.push(b'}');
    Ok(())
}

/// For every byte of a string: written as it is, or how it is escaped.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut c = 0;
    while c < 0x20 {
        table[c] = b'u';
        c += 1;
    }
    table[8] = b'b';
    table[9] = b't';
    table[10] = b'n';
    table[12] = b'f';
    table[13] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    // leads of four-byte sequences: characters beyond the BMP
    let mut c = 0xF0;
    while c <= 0xF7 {
        table[c] = b'U';
        c += 1;
    }
    table
};

/// Writes a string as Jackson does to a stream: characters beyond the BMP as two escapes (`escape_astral`), all other non-ASCII raw.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &[u8], escape_astral: bool) {
    out.push(b'"');
    let (mut start, mut at) = (0, 0);
    while let Some(c) = text.get(at) {
        let escape = ESCAPES[*c as usize];
        if escape == 0 || (escape == b'U' && !escape_astral) {
            at += 1;
            continue;
        }
        out.extend_from_slice(&text[start..at]);
        match escape {
            b'u' => write_unit(out, u16::from(*c)),
            b'U' => {
                let sequence = text.get(at..at + 4).and_then(|b| std::str::from_utf8(b).ok()).and_then(|s| s.chars().next());
                let mut units = [0; 2];
                for unit in sequence.unwrap_or('\u{FFFD}').encode_utf16(&mut units) {
                    write_unit(out, *unit);
                }
                at += 3;
            }
            c => out.extend_from_slice(&[b'\\', c]),
        }
        at += 1;
        start = at;
    }
    out.extend_from_slice(text.get(start..).unwrap_or_default());
    out.push(b'"');
}

fn write_unit(out: &mut Vec<u8>, unit: u16) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[usize::from(unit >> shift) & 15]);
    }
}
