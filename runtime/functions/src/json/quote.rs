//! JSON_QUOTE and JSON_UNQUOTE (Flink: `JsonQuoteFunction`, `JsonUnquoteFunction`).

use std::fmt::Write;

use arrow::array::ArrayRef;
use sluice_batch::{Result, TypeKind};

use super::value::{parse, unescape};
use crate::Declaration;
use crate::kernel::{Args, P};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["JSON_QUOTE"], bind: |c| c.strict("JSON_QUOTE", &[P::Str], TypeKind::STRING, quote) },
    Declaration { names: &["JSON_UNQUOTE"], bind: |c| c.strict("JSON_UNQUOTE", &[P::Str], TypeKind::STRING, unquote) },
];

/// A JSON string; `/` and all that is not printable ASCII is escaped.
fn quote(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    args.strings(|row, out| {
        out.push('"');
        for c in text.get(row)?.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '/' => out.push_str("\\/"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                ' '..='~' => out.push(c),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
        out.push('"');
        Some(())
    })
}

/// The text inside a JSON string; anything else as it is.
fn unquote(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    args.strings(|row, out| {
        let text = text.get(row)?;
        let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).filter(|_| parse(text).is_ok());
        if !inner.is_some_and(|inner| unescaped(inner, out)) {
            out.clear();
            out.push_str(text);
        }
        Some(())
    })
}

/// Appends a text without its escapes; `false` if one is not valid.
fn unescaped(mut text: &str, out: &mut String) -> bool {
    while let Some(at) = text.find('\\') {
        out.push_str(&text[..at]);
        let Some((c, length)) = unescape(&text[at + 1..]) else { return false };
        out.push(c);
        text = &text[at + 1 + length..];
    }
    out.push_str(text);
    true
}
