//! `csv` (Flink: `CsvFormatFactory`, which reads and writes with Jackson).

mod read;
mod write;

use sluice_batch::{Error, Result, SqlType, TypeKind};

use crate::Schema;
use crate::options::FormatOptions;
use crate::registry::{Format, insert_only};

pub(crate) const FORMAT: Format = Format {
    name: "csv",
    read: Some(|options| CsvOptions::new(options).map(|_| insert_only())),
    write: Some(|options, _| CsvOptions::new(options).map(|_| insert_only())),
    decoder: |options, schema, _| {
        let options = CsvOptions::new(&options)?;
        check(&schema, schema.projection.iter().copied())?;
        Ok(Box::new(read::CsvDecoder::new(&schema, options)?))
    },
    encoder: |options, schema, _| {
        let options = CsvOptions::new(&options)?;
        check(&schema, 0..schema.fields.len())?;
        Ok(Box::new(write::CsvEncoder { fields: schema.fields, options, text: vec![] }))
    },
    metadata: Vec::new,
};

/// All options of the format, for both ways.
pub(crate) struct CsvOptions {
    /// One character.
    pub delimiter: Vec<u8>,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    /// One character.
    pub array_delimiter: Vec<u8>,
    pub null_literal: Option<Vec<u8>>,
    pub allow_comments: bool,
    pub ignore_parse_errors: bool,
    /// Without quotes: no spaces around values.
    pub trim_spaces: bool,
    /// Fields beyond the columns are left out.
    pub ignore_trailing: bool,
    /// One delimiter may end a record.
    pub trailing_comma: bool,
    /// Also where parse errors are ignored: such a record is left out then.
    pub fail_on_missing: bool,
    pub empty_as_null: bool,
    /// `1E-8` instead of `0.00000001`.
    pub scientific: bool,
}

impl CsvOptions {
    pub fn new(options: &FormatOptions) -> Result<Self> {
        let no_quote = options.flag("disable-quote-character")?;
        let quote = options.get("quote-character").map(|o| ascii_char(options, o)).transpose()?;
        if no_quote && quote.is_some() {
            let message = format!("options '{0}quote-character' and '{0}disable-quote-character' exclude each other", options.prefix);
            return Err(Error::plan(message).at(options.get("quote-character").map_or(options.span, |o| o.span)));
        }
        Ok(Self {
            delimiter: character(options, "field-delimiter", ",", true)?,
            quote: if no_quote { None } else { quote.or(Some(b'"')) },
            escape: options.get("escape-character").map(|o| ascii_char(options, o)).transpose()?,
            array_delimiter: character(options, "array-element-delimiter", ";", false)?,
            null_literal: options.string("null-literal").map(String::into_bytes),
            allow_comments: options.flag("allow-comments")?,
            ignore_parse_errors: options.flag("ignore-parse-errors")?,
            trim_spaces: options.flag("trim-spaces")?,
            ignore_trailing: options.flag("ignore-trailing-unmappable")?,
            trailing_comma: options.choice("allow-trailing-comma", &["true", "false"])? == "true",
            fail_on_missing: options.flag("fail-on-missing-columns")?,
            empty_as_null: options.flag("empty-string-as-null")?,
            scientific: options.choice("write-bigdecimal-in-scientific-notation", &["true", "false"])? == "true",
        })
    }
}

/// An option of one character; `unescape`: as Java writes characters in string literals.
fn character(options: &FormatOptions, key: &str, default: &str, unescape: bool) -> Result<Vec<u8>> {
    let Some(option) = options.get(key) else { return Ok(default.as_bytes().to_vec()) };
    let text = if unescape { unescape_java(&option.value) } else { Some(option.value.clone()) };
    match text {
        Some(text) if text.chars().count() == 1 => Ok(text.into_bytes()),
        _ => Err(options.invalid(option, "a single character")),
    }
}

fn ascii_char(options: &FormatOptions, option: &crate::FormatOption) -> Result<u8> {
    match option.value.as_bytes() {
        [c] if c.is_ascii() => Ok(*c),
        _ => Err(options.invalid(option, "a single ASCII character")),
    }
}

/// `\t`, `\u0001`, `\1` … as in Java's string literals.
fn unescape_java(text: &str) -> Option<String> {
    let Some(escaped) = text.strip_prefix('\\').filter(|e| !e.is_empty()) else { return Some(text.to_owned()) };
    let c = match escaped {
        "t" => '\t',
        "n" => '\n',
        "r" => '\r',
        "b" => '\u{8}',
        "f" => '\u{c}',
        "\\" => '\\',
        "'" => '\'',
        "\"" => '"',
        _ => match escaped.trim_start_matches('u') {
            hex if hex.len() < escaped.len() => char::from_u32(u32::from_str_radix(hex, 16).ok()?)?,
            octal => char::from_u32(u32::from_str_radix(octal, 8).ok()?)?,
        },
    };
    Some(c.to_string())
}

/// CSV has scalars, arrays of scalars and rows of scalars (Flink: `CsvRowSchemaConverter`).
fn check(schema: &Schema, fields: impl Iterator<Item = usize>) -> Result<()> {
    let scalar = |ty: &SqlType| !matches!(ty.kind, TypeKind::Array(_) | TypeKind::Row(_) | TypeKind::Map(..) | TypeKind::Multiset(_));
    for field in fields.filter_map(|i| schema.fields.get(i)) {
        let ok = match &field.ty.kind {
            TypeKind::Array(item) => scalar(item),
            TypeKind::Row(fields) => fields.iter().all(|f| scalar(&f.ty)),
            _ => scalar(&field.ty),
        };
        if !ok {
            return Err(Error::plan(format!("column '{}': CSV cannot hold {}", field.name, field.ty)));
        }
    }
    Ok(())
}
