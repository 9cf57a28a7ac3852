//! Bytes to batches and back: one file a format.
//!
//! A format is made once a table from its options; a decoder is fed records and gives columns of the *projected* schema only.

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Field, Result, RowKind, Span};

/// Options of one format of a table with their prefix taken off (`value.json.fail-on-missing-field` → `fail-on-missing-field`).
/// Reading an option marks it as known; [`FormatOptions::finish`] rejects the rest with a did-you-mean.
pub struct FormatOptions {
    /// The format's name, e.g. `json`.
    pub format: String,
    /// What users wrote before the option's name, e.g. `value.json.`.
    pub prefix: String,
    pub options: Vec<FormatOption>,
}

pub struct FormatOption {
    pub key: String,
    pub value: String,
    pub span: Span,
}

/// What a record was, for error messages: `topic-partition-offset` or a file and line.
pub trait RecordPlace {
    fn describe(&self) -> String;
}

/// Turns records into columns. Not shared between threads; clone by making another.
pub trait Decoder: Send {
    /// Decodes one record and appends its rows (none, one or more) to the columns under construction.
    /// Answers how many rows were appended. `None` is a Kafka tombstone or a NULL key.
    ///
    /// # Errors
    /// If the record is malformed and the options do not say to skip such.
    fn decode(&mut self, record: Option<&[u8]>) -> Result<usize>;

    /// Ends the columns under construction: one array a projected field, and the row kinds if the format has a changelog.
    fn finish(&mut self) -> Result<(Vec<ArrayRef>, Option<Vec<RowKind>>)>;

    /// Records skipped because they could not be parsed, so far.
    fn skipped(&self) -> u64 {
        0
    }
}

/// Turns rows into records.
pub trait Encoder: Send {
    /// Encodes row by row into `out`: one record a row, ends in `out.ends`. `batch` has exactly the fields the encoder was made for.
    ///
    /// # Errors
    /// If a value has no form in the format, or the schema cannot be registered.
    fn encode(&mut self, batch: &Batch, out: &mut Records) -> Result<()>;
}

/// Encoded records, one behind the other in one buffer.
#[derive(Default)]
pub struct Records {
    pub bytes: Vec<u8>,
    /// End of each record in `bytes`; the record is NULL where `nulls` says so.
    pub ends: Vec<usize>,
    pub nulls: Vec<bool>,
}

impl Records {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.nulls.clear();
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Ends the record that was just written to `bytes`.
    pub fn end(&mut self) {
        self.ends.push(self.bytes.len());
        self.nulls.push(false);
    }

    pub fn push_null(&mut self) {
        self.ends.push(self.bytes.len());
        self.nulls.push(true);
    }

    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if self.nulls[index] {
            return None;
        }
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[start..self.ends[index]])
    }
}

/// Which row kinds a format can read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangelogMode {
    InsertOnly,
    /// +I, +U, -D by key.
    Upsert,
    /// All four.
    All,
}

/// What a format is asked for: the fields of the record and, for decoders, which of them the plan uses.
pub struct Schema {
    pub fields: Vec<Field>,
    /// Positions in `fields` to decode, in output order. Encoders use all.
    pub projection: Vec<usize>,
    /// The subject for a schema registry, if the format's options do not name one: `<topic>-key` or `<topic>-value`.
    pub default_subject: Option<String>,
}
