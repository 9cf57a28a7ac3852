//! Bytes to batches and back: one file a format.
//!
//! A format is made once a table from its options; a decoder is fed records and gives columns of the *projected* schema only.

mod avro;
mod changelog_json;
mod column;
mod csv;
mod debezium_json;
mod json;
pub mod keystore;
mod options;
mod raw;
mod registry;
mod text;
mod value_text;
mod view;

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Field, Result, RowKind};

#[cfg(test)]
mod tests;

pub use options::{FormatOption, FormatOptions};
pub use registry::{decoder, encoder, names, read_info, readable_metadata, write_info};

/// What a record was, for error messages: `topic-partition-offset` or a file and line.
pub trait RecordPlace {
    fn describe(&self) -> String;
}

/// Turns records into columns. Not shared between threads; clone by making another.
pub trait Decoder: Send {
    /// Decodes one record and appends its rows (none, one or more) to the columns under construction; nothing is appended if it fails.
    /// Answers how many rows were appended. `None` is a Kafka tombstone or a NULL key.
    ///
    /// # Errors
    /// If the record is malformed and the options do not say to skip such.
    fn decode(&mut self, record: Option<&[u8]>) -> Result<usize>;

    /// Appends one row of NULLs: for a key or value that is not there or was skipped, where the other one has a row.
    ///
    /// # Errors
    /// If the format cannot.
    fn append_null_row(&mut self) -> Result<()>;

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

/// What the planner must know of a format with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatInfo {
    pub changelog: ChangelogMode,
    /// Deletes carry (source) or need only carry (sink) the key; the other columns are NULL.
    pub delete_by_key: bool,
}

/// What a format is asked for: the fields of the record and, for decoders, which of them the plan uses.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub fields: Vec<Field>,
    /// Positions in `fields` to decode, in output order. Encoders use all.
    pub projection: Vec<usize>,
    /// The format's own metadata to decode (names are keys of [`readable_metadata`]); columns behind those of `projection`.
    pub metadata: Vec<Field>,
    /// The subject for a schema registry, if the format's options do not name one: `<topic>-key` or `<topic>-value`.
    pub default_subject: Option<String>,
}

impl Schema {
    /// All the fields, no metadata.
    pub fn new(fields: Vec<Field>) -> Self {
        Self { projection: (0..fields.len()).collect(), fields, ..Self::default() }
    }
}

/// Settings of the session that formats depend on.
#[derive(Clone, Copy, Debug)]
pub struct FormatContext {
    /// `table.local-time-zone`
    pub time_zone: chrono_tz::Tz,
}
