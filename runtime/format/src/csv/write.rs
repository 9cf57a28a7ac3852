//! Columns as CSV records (Flink: `RowDataToCsvConverters`, written by Jackson's `CsvEncoder`). A record has no line end.

use sluice_batch::{Batch, Field, Result};

use super::CsvOptions;
use crate::text;
use crate::value_text;
use crate::view::View;
use crate::{Encoder, Records};

/// Jackson looks at no more characters before it decides for quotes.
const MAX_QUOTE_CHECK: usize = 24;

pub(crate) struct CsvEncoder {
    pub fields: Vec<Field>,
    pub options: CsvOptions,
    pub text: Vec<u8>,
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Records) -> Result<()> {
        let views = View::of(batch, &self.fields)?;
        for row in 0..batch.rows() {
            for (n, view) in views.iter().enumerate() {
                if n > 0 {
                    out.bytes.extend_from_slice(&self.options.delimiter);
                }
                write_field(&mut out.bytes, &mut self.text, view, row, &self.options);
            }
            out.end();
        }
        Ok(())
    }
}

fn write_field(out: &mut Vec<u8>, text: &mut Vec<u8>, view: &View<'_>, row: usize, options: &CsvOptions) {
    match view {
        _ if view.is_null(row) => out.extend_from_slice(options.null_literal.as_deref().unwrap_or_default()),
        View::String(a) => write_text(out, a.value(row).as_bytes(), options),
        View::List(list, item) => {
            text.clear();
            write_parts(text, View::range(list.value_offsets(), row).map(|i| (&**item, i)), options);
            write_text(out, text, options);
        }
        View::Row(_, children) => {
            text.clear();
            write_parts(text, children.iter().map(|c| (c, row)), options);
            write_text(out, text, options);
        }
        View::Binary(_) | View::Date(_) | View::Time(..) | View::Timestamp(_) => {
            text.clear();
            value_text::write(text, view, row);
            write_text(out, text, options);
        }
        _ => write_bare(out, view, row, options),
    }
}

/// Numbers and booleans never have quotes.
fn write_bare(out: &mut Vec<u8>, view: &View<'_>, row: usize, options: &CsvOptions) {
    match view {
        View::Decimal(a, scale) if options.scientific => text::write_decimal_java(out, a.value(row), i32::from(*scale)),
        _ => value_text::write(out, view, row),
    }
}

fn write_parts<'v>(out: &mut Vec<u8>, parts: impl Iterator<Item = (&'v View<'v>, usize)>, options: &CsvOptions) {
    for (n, (view, row)) in parts.enumerate() {
        if n > 0 {
            out.extend_from_slice(&options.array_delimiter);
        }
        if view.is_null(row) {
            out.extend_from_slice(options.null_literal.as_deref().unwrap_or_default());
        } else {
            write_bare(out, view, row, options);
        }
    }
}

/// Jackson quotes a text that is longer than 24 characters, has any character up to the larger of delimiter and quote, or a backslash or
/// escape character.
fn needs_quotes(text: &[u8], quote: u8, options: &CsvOptions) -> bool {
    let delimiter = std::str::from_utf8(&options.delimiter).ok().and_then(|d| d.chars().next()).unwrap_or(',');
    let safe = delimiter.max(char::from(quote));
    let text = String::from_utf8_lossy(text);
    text.chars().any(|c| c <= safe || c == '\\' || Some(c) == options.escape.map(char::from))
        || text.encode_utf16().take(MAX_QUOTE_CHECK + 1).count() > MAX_QUOTE_CHECK
}

fn write_text(out: &mut Vec<u8>, text: &[u8], options: &CsvOptions) {
    match (options.quote, options.escape) {
        (None, None) => out.extend_from_slice(text),
        (None, Some(escape)) => write_escaped(out, text, escape, options),
        (Some(quote), _) if !needs_quotes(text, quote, options) => out.extend_from_slice(text),
        (Some(quote), escape) => {
            out.push(quote);
            for c in text {
                if *c == quote {
                    out.push(escape.unwrap_or(quote));
                } else if Some(*c) == escape {
                    out.push(*c);
                }
                out.push(*c);
            }
            out.push(quote);
        }
    }
}

/// Without quotes: whatever would end the field is escaped.
fn write_escaped(out: &mut Vec<u8>, text: &[u8], escape: u8, options: &CsvOptions) {
    for (at, c) in text.iter().enumerate() {
        match c {
            b'\n' => out.extend_from_slice(&[escape, b'n']),
            b'\r' => out.extend_from_slice(&[escape, b'r']),
            c if *c == escape || text[at..].starts_with(&options.delimiter) => out.extend_from_slice(&[escape, *c]),
            c => out.push(*c),
        }
    }
}
