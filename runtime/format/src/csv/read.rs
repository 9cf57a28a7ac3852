//! CSV records into columns (Flink: `CsvToRowDataConverters` on Jackson's `CsvDecoder`).

use arrow::array::ArrayRef;
use sluice_batch::{Error, Field, Result, RowKind, TypeKind};

use super::CsvOptions;
use crate::column::{Column, Data, Rows};
use crate::json::{excerpt, projected};
use crate::text::{self, TimestampFormat};
use crate::value_text;
use crate::{Decoder, Schema};

pub(crate) struct CsvDecoder {
    options: CsvOptions,
    fields: Vec<Field>,
    rows: Rows,
    /// For every field of a record the columns that take it.
    targets: Vec<Vec<usize>>,
    scratch: Vec<u8>,
    skipped: u64,
}

impl CsvDecoder {
    pub fn new(schema: &Schema, options: CsvOptions) -> Result<Self> {
        let (fields, columns) = projected(schema)?;
        let targets = |i| schema.projection.iter().enumerate().filter(|(_, p)| **p == i).map(|(c, _)| c).collect();
        let targets = (0..schema.fields.len()).map(targets).collect();
        Ok(Self { options, fields, rows: Rows::new(columns), targets, scratch: vec![], skipped: 0 })
    }

    fn record(&mut self, record: &[u8]) -> Result<bool> {
        if std::str::from_utf8(record).is_err() {
            return Err(Error::runtime("bytes that are not UTF-8"));
        }
        let mut lines = Line { bytes: record, pos: if record.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 }, options: &self.options };
        if self.options.allow_comments {
            lines.skip_comments();
        }
        // nothing in the record: with one column that is the empty string, with more it is no row
        if lines.at_end() && self.targets.len() != 1 || record.is_empty() && self.options.ignore_parse_errors {
            return Ok(false);
        }
        let mut index = 0;
        loop {
            let (text, more) = lines.field(&mut self.scratch)?;
            match self.targets.get(index) {
                Some(targets) => {
                    for target in targets {
                        put(&self.options, &mut self.rows.columns[*target], &self.fields[*target], text)?;
                    }
                }
                // Jackson's ALLOW_TRAILING_COMMA
                None if self.options.trailing_comma && index == self.targets.len() && !more && text.is_empty() => {}
                None if self.options.ignore_trailing => {}
                None => return Err(Error::runtime(format!("more than {} fields", self.targets.len()))),
            }
            index += 1;
            if !more {
                break;
            }
        }
        if index < self.targets.len() && (self.options.fail_on_missing || !self.options.ignore_parse_errors) {
            return Err(Error::runtime(format!("{index} fields where {} are expected", self.targets.len())));
        }
        for column in self.targets.get(index..).unwrap_or_default().iter().flatten() {
            self.rows.columns[*column].push_null();
        }
        lines.end()?;
        Ok(true)
    }
}

/// Appends a field's text to its column; NULL if it cannot be converted and the options say so.
fn put(options: &CsvOptions, column: &mut Column, field: &Field, text: &[u8]) -> Result<()> {
    if options.empty_as_null && text.is_empty() {
        column.push_null();
        return Ok(());
    }
    if value(options, column, text) {
        return Ok(());
    }
    if options.ignore_parse_errors {
        column.push_null();
        return Ok(());
    }
    Err(Error::runtime(format!("field '{}': not a value of {}: {}", field.name, field.ty, excerpt(text, 0))))
}

/// Appends a text to a column; false, and the column as before, if it has no such value.
fn value(options: &CsvOptions, column: &mut Column, text: &[u8]) -> bool {
    let len = column.len();
    let is_null = options.null_literal.as_deref() == Some(text);
    if is_null || (text.is_empty() && !takes_empty(&column.kind)) {
        column.push_null();
        return true;
    }
    let done = match &mut column.data {
        Data::Boolean(values) => {
            values.push(text::trim(text).eq_ignore_ascii_case(b"true"));
            true
        }
        Data::Int32(values) if column.kind == TypeKind::Date => text::parse_sql_date(text::trim(text)).map(|v| values.push(v)).is_some(),
        Data::List(ends, item) => {
            let done = parts(options, text).all(|part| value(options, item, part));
            ends.push(item.len() as i32);
            done
        }
        Data::Row(children) => {
            let arity = children.len();
            let count = parts(options, text).count();
            let done = children.iter_mut().zip(parts(options, text)).all(|(child, part)| value(options, child, part));
            done && count == arity
        }
        _ => return value_text::push_value(column, text, TimestampFormat::Sql),
    };
    if done {
        column.set_valid();
    } else {
        column.truncate(len);
    }
    done
}

fn takes_empty(kind: &TypeKind) -> bool {
    kind.is_character() || kind.is_binary() || matches!(kind, TypeKind::Array(_))
}

/// Elements of an array or nested row.
fn parts<'t>(options: &'t CsvOptions, text: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
    let delimiter = options.array_delimiter.as_slice();
    let mut rest = (!text.is_empty()).then_some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text.windows(delimiter.len()).position(|w| w == delimiter);
        rest = at.map(|at| &text[at + delimiter.len()..]);
        Some(&text[..at.unwrap_or(text.len())])
    })
}

/// A cursor over one record.
struct Line<'a> {
    bytes: &'a [u8],
    pos: usize,
    options: &'a CsvOptions,
}

impl<'a> Line<'a> {
    fn at_end(&self) -> bool {
        self.pos >= self.bytes.len()
    }

    fn skip_comments(&mut self) {
        while self.bytes.get(self.pos) == Some(&b'#') {
            let line = self.bytes[self.pos..].iter().position(|c| *c == b'\n');
            self.pos = line.map_or(self.bytes.len(), |at| self.pos + at + 1);
        }
    }

    /// The next field's text and whether another field follows.
    fn field<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<(&'s [u8], bool)>
    where
        'a: 's,
    {
        if self.options.trim_spaces {
            self.skip_spaces();
        }
        if self.options.quote.is_some() && self.bytes.get(self.pos).copied() == self.options.quote {
            return self.quoted(scratch);
        }
        let start = self.pos;
        let first = self.options.delimiter[0];
        while let Some(c) = self.bytes.get(self.pos) {
            if *c == first && self.delimiter() || matches!(c, b'\n' | b'\r') {
                break;
            }
            if Some(*c) == self.options.escape {
                self.pos = start;
                return self.escaped(scratch);
            }
            self.pos += 1;
        }
        let mut text = &self.bytes[start..self.pos];
        if self.options.trim_spaces {
            text = text.trim_ascii_end();
        }
        Ok((text, self.next()))
    }

    fn skip_spaces(&mut self) {
        while matches!(self.bytes.get(self.pos), Some(b' ' | b'\t')) && !self.delimiter() {
            self.pos += 1;
        }
    }

    fn delimiter(&self) -> bool {
        self.bytes[self.pos..].starts_with(&self.options.delimiter)
    }

    /// Goes over the delimiter, if there is one.
    fn next(&mut self) -> bool {
        let more = !self.at_end() && self.delimiter();
        self.pos += if more { self.options.delimiter.len() } else { 0 };
        more
    }

    /// A field without quotes that has escapes.
    fn escaped<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<(&'s [u8], bool)> {
        scratch.clear();
        while let Some(c) = self.bytes.get(self.pos).copied() {
            if self.delimiter() || matches!(c, b'\n' | b'\r') {
                break;
            }
            self.pos += 1;
            if Some(c) == self.options.escape {
                self.unescape(scratch)?;
            } else {
                scratch.push(c);
            }
        }
        if self.options.trim_spaces {
            scratch.truncate(scratch.trim_ascii_end().len());
        }
        Ok((scratch, self.next()))
    }

    fn unescape(&mut self, scratch: &mut Vec<u8>) -> Result<()> {
        let Some(c) = self.bytes.get(self.pos).copied() else { return Err(Error::runtime("the record ends with an escape character")) };
        self.pos += 1;
        scratch.push(match c {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'0' => 0,
            c => c,
        });
        Ok(())
    }

    fn quoted<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<(&'s [u8], bool)>
    where
        'a: 's,
    {
        let quote = self.options.quote;
        self.pos += 1;
        scratch.clear();
        loop {
            let Some(c) = self.bytes.get(self.pos).copied() else { return Err(Error::runtime("a quoted field does not end")) };
            self.pos += 1;
            if Some(c) == quote {
                if self.bytes.get(self.pos).copied() != quote {
                    break;
                }
                self.pos += 1;
                scratch.push(c);
            } else if Some(c) == self.options.escape {
                self.unescape(scratch)?;
            } else {
                scratch.push(c);
            }
        }
        self.skip_spaces();
        let more = self.next();
        if !more && self.bytes.get(self.pos).is_some_and(|c| !matches!(c, b'\n' | b'\r')) {
            return Err(Error::runtime(format!("text behind a quoted field: {}", excerpt(self.bytes, self.pos))));
        }
        Ok((scratch, more))
    }

    /// Only line ends may follow.
    fn end(&self) -> Result<()> {
        let rest = self.bytes.get(self.pos..).unwrap_or_default();
        if rest.iter().any(|c| !matches!(c, b'\n' | b'\r')) {
            return Err(Error::runtime(format!("more than one line in a record: {}", excerpt(self.bytes, self.pos))));
        }
        Ok(())
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, record: Option<&[u8]>) -> Result<usize> {
        let Some(record) = record else { return Ok(0) };
        match self.record(record) {
            Ok(row) => {
                self.rows.add(usize::from(row));
                Ok(usize::from(row))
            }
            Err(error) => {
                self.rows.cut();
                if self.options.ignore_parse_errors {
                    self.skipped += 1;
                    return Ok(0);
                }
                Err(error)
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
