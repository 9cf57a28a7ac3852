//! `json` (Flink: `JsonFormatFactory`).

pub(crate) mod cursor;
pub(crate) mod encode;
pub(crate) mod read;

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Error, Field, Result, RowKind};

use crate::column::{Column, Rows};
use crate::registry::{Format, insert_only};
use crate::text::TimestampFormat;
use crate::view::View;
use crate::{Decoder, Encoder, FormatOptions, Records, Schema};
use cursor::{Cursor, Fault, Parsed};
use encode::{NullKeys, RowNames, WriteOptions, write_row};
use read::{ReadOptions, Reader, RowPlan};

pub(crate) const FORMAT: Format = Format {
    name: "json",
    read: Some(|options| JsonOptions::new(options).map(|_| insert_only())),
    write: Some(|options, _| JsonOptions::new(options).map(|_| insert_only())),
    decoder: |options, schema, _| {
        let options = JsonOptions::new(&options)?;
        Ok(Box::new(JsonDecoder::new(&schema, options)?))
    },
    encoder: |options, schema, _| {
        let write = JsonOptions::new(&options)?.write;
        Ok(Box::new(JsonEncoder { names: RowNames::new(&schema.fields, &write)?, fields: schema.fields, options: write }))
    },
    metadata: Vec::new,
};

/// All options of the format, for both ways.
pub(crate) struct JsonOptions {
    pub read: ReadOptions,
    pub write: WriteOptions,
}

impl JsonOptions {
    pub fn new(options: &FormatOptions) -> Result<Self> {
        let timestamps = timestamp_format(options)?;
        let literal = options.string("map-null-key.literal").unwrap_or_else(|| "null".to_owned());
        let null_keys = match options.choice("map-null-key.mode", &["FAIL", "DROP", "LITERAL"])? {
            "FAIL" => NullKeys::Fail,
            "DROP" => NullKeys::Drop,
            _ => NullKeys::Literal(literal),
        };
        let read = ReadOptions {
            timestamps,
            fail_on_missing_field: options.flag("fail-on-missing-field")?,
            ignore_parse_errors: options.flag("ignore-parse-errors")?,
            any_map_key: false,
        };
        if read.fail_on_missing_field && read.ignore_parse_errors {
            let (a, b) = ("fail-on-missing-field", "ignore-parse-errors");
            let span = options.get(a).map_or(options.span, |o| o.span);
            let message = format!("options '{0}{a}' and '{0}{b}' cannot both be true", options.prefix);
            return Err(Error::plan(message).at(span));
        }
        let write = WriteOptions {
            timestamps,
            null_keys,
            plain_decimals: options.flag("encode.decimal-as-plain-number")?,
            ignore_null_fields: options.flag("encode.ignore-null-fields")?,
            any_map_key: false,
        };
        // steers which of its parsers Flink takes; they read alike
        options.choice("decode.json-parser.enabled", &["true", "false"])?;
        Ok(Self { read, write })
    }
}

/// `timestamp-format.standard`
pub(crate) fn timestamp_format(options: &FormatOptions) -> Result<TimestampFormat> {
    Ok(match options.choice("timestamp-format.standard", &["SQL", "ISO-8601"])? {
        "SQL" => TimestampFormat::Sql,
        _ => TimestampFormat::Iso8601,
    })
}

/// The projected fields of a schema, and their columns.
pub(crate) fn projected(schema: &Schema) -> Result<(Vec<Field>, Vec<Column>)> {
    let field = |i: &usize| schema.fields.get(*i).cloned().ok_or_else(|| Error::runtime("a projection beyond the fields"));
    let fields: Vec<Field> = schema.projection.iter().map(field).collect::<Result<_>>()?;
    let column = |f: &Field| Column::new(&f.ty).map_err(|e| e.context(format!("column '{}'", f.name)));
    let columns = fields.iter().map(column).collect::<Result<_>>()?;
    Ok((fields, columns))
}

/// The error for a record, with the field and a piece of the text.
#[cold]
pub(crate) fn error_of(record: &[u8], fault: &Fault) -> Error {
    let path: Vec<&str> = fault.path.iter().rev().map(String::as_str).collect();
    let place = if path.is_empty() { String::new() } else { format!("field '{}': ", path.join(".")) };
    let piece = excerpt(record, fault.at);
    let wanted = fault.wanted.as_ref().map_or(String::new(), |w| format!(" for {w}"));
    let what = if fault.syntax { "not valid JSON, " } else { "" };
    Error::runtime(format!("{place}{what}{}{wanted} at byte {}: {piece}", fault.what, fault.at))
}

/// Some text of a record from a position on, for messages.
pub(crate) fn excerpt(record: &[u8], at: usize) -> String {
    const LEN: usize = 60;
    let start = if at < record.len() { at } else { record.len().saturating_sub(LEN) };
    let rest = record.get(start..).unwrap_or_default();
    let text: String = String::from_utf8_lossy(rest).chars().take(LEN).collect();
    let (before, after) = (if start > 0 { "…" } else { "" }, if text.len() < rest.len() { "…" } else { "" });
    format!("{before}{text}{after}")
}

struct JsonDecoder {
    plan: RowPlan,
    rows: Rows,
    options: JsonOptions,
    scratch: Vec<u8>,
    skipped: u64,
}

impl JsonDecoder {
    fn new(schema: &Schema, options: JsonOptions) -> Result<Self> {
        let (fields, columns) = projected(schema)?;
        let plan = RowPlan::new(fields.iter(), &options.read)?;
        Ok(Self { plan, rows: Rows::new(columns), options, scratch: vec![], skipped: 0 })
    }

    fn record(&mut self, record: &[u8]) -> Parsed<usize> {
        let mut cursor = Cursor::new(record);
        if let Err(e) = std::str::from_utf8(record) {
            cursor.pos = e.valid_up_to();
            return cursor.syntax("bytes that are not UTF-8");
        }
        let mut reader = Reader { cursor, scratch: std::mem::take(&mut self.scratch), options: &self.options.read };
        let rows = top_level(&mut reader, &mut self.plan, &mut self.rows.columns);
        self.scratch = reader.scratch;
        rows
    }
}

/// A record is an object, or an array of objects with a row each (Flink: FLINK-18590).
fn top_level(reader: &mut Reader<'_, '_>, plan: &mut RowPlan, columns: &mut [Column]) -> Parsed<usize> {
    let mut rows = 0;
    match reader.cursor.peek() {
        b'{' => {
            reader.cursor.pos += 1;
            reader.object(plan, columns)?;
            rows = 1;
        }
        b'[' => {
            reader.cursor.pos += 1;
            if !reader.cursor.closed(b']') {
                loop {
                    reader.cursor.expect(b'{', "expected an object")?;
                    reader.object(plan, columns)?;
                    rows += 1;
                    if !reader.cursor.more(b']')? {
                        break;
                    }
                }
            }
        }
        _ => return reader.cursor.syntax("expected an object"),
    }
    reader.cursor.end()?;
    Ok(rows)
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, record: Option<&[u8]>) -> Result<usize> {
        // Flink drops tombstones and empty records
        let Some(record) = record.filter(|r| !r.is_empty()) else { return Ok(0) };
        match self.record(record) {
            Ok(rows) => {
                self.rows.add(rows);
                Ok(rows)
            }
            Err(fault) => {
                self.rows.cut();
                if self.options.read.ignore_parse_errors {
                    self.skipped += 1;
                    return Ok(0);
                }
                Err(error_of(record, &fault))
            }
        }
    }

    fn append_null_row(&mut self) -> Result<()> {
        self.rows.push_null();
        Ok(())
    }

    fn finish(&mut self) -> Result<(Vec<ArrayRef>, Option<Vec<RowKind>>)> {
        self.rows.finish()
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}

struct JsonEncoder {
    fields: Vec<Field>,
    names: RowNames,
    options: WriteOptions,
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Records) -> Result<()> {
        let views = View::of(batch, &self.fields)?;
        for row in 0..batch.rows() {
            write_row(&mut out.bytes, &self.names, &views, row, &self.options)?;
            out.end();
        }
        Ok(())
    }
}
