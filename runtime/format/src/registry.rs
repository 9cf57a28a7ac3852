//! The formats by name: one line each.

use sluice_batch::{Error, Field, Result};

use crate::options::closest;
use crate::{ChangelogMode, Decoder, Encoder, FormatContext, FormatInfo, FormatOptions, Schema};

/// A format: what it can do and how it is made.
pub(crate) struct Format {
    pub name: &'static str,
    /// Checks the options for reading. `None`: cannot be read.
    pub read: Option<fn(&FormatOptions) -> Result<FormatInfo>>,
    /// Checks the options for writing; the flag says whether the table has a primary key.
    pub write: Option<fn(&FormatOptions, bool) -> Result<FormatInfo>>,
    pub decoder: fn(FormatOptions, Schema, FormatContext) -> Result<Box<dyn Decoder>>,
    pub encoder: fn(FormatOptions, Schema, FormatContext) -> Result<Box<dyn Encoder>>,
    pub metadata: fn() -> Vec<Field>,
}

const REGISTRY: &[Format] = &[
    crate::json::FORMAT,
    crate::csv::FORMAT,
    crate::avro::PLAIN,
    crate::avro::CONFLUENT,
    crate::debezium_json::FORMAT,
    crate::raw::FORMAT,
    crate::changelog_json::FORMAT,
];

pub(crate) fn insert_only() -> FormatInfo {
    FormatInfo { changelog: ChangelogMode::InsertOnly, delete_by_key: false }
}

/// The names of all formats.
pub fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|f| f.name)
}

fn find(options: &FormatOptions) -> Result<&'static Format> {
    REGISTRY.iter().find(|f| f.name == options.format).ok_or_else(|| {
        let error = Error::plan(format!("there is no format '{}'", options.format)).at(options.span);
        match closest(&options.format, names()) {
            Some(near) => error.hint(format!("did you mean '{near}'?")),
            None => error.hint(format!("formats: {}", names().collect::<Vec<_>>().join(", "))),
        }
    })
}

/// Checks a format's options for a source and says what changes it gives.
///
/// # Errors
/// If there is no such format (did-you-mean), it cannot be read, or an option is unknown, wrong or missing.
pub fn read_info(options: &FormatOptions) -> Result<FormatInfo> {
    let format = find(options)?;
    let read = format.read.ok_or_else(|| Error::plan(format!("format '{}' cannot be read", format.name)).at(options.span))?;
    let info = read(options)?;
    options.finish()?;
    Ok(info)
}

/// Checks a format's options for a sink and says what changes it takes. `keyed`: the table has a primary key.
///
/// # Errors
/// As [`read_info`].
pub fn write_info(options: &FormatOptions, keyed: bool) -> Result<FormatInfo> {
    let format = find(options)?;
    let write = format.write.ok_or_else(|| Error::plan(format!("format '{}' cannot be written", format.name)).at(options.span))?;
    let info = write(options, keyed)?;
    options.finish()?;
    Ok(info)
}

/// Makes a decoder. It may connect to a schema registry, but does so with the first record only.
///
/// # Errors
/// As [`read_info`], and if a field's type has no form in the format.
pub fn decoder(options: FormatOptions, schema: Schema, cx: FormatContext) -> Result<Box<dyn Decoder>> {
    read_info(&options)?;
    (find(&options)?.decoder)(options, schema, cx)
}

/// Makes an encoder.
///
/// # Errors
/// As [`write_info`], and if a field's type has no form in the format.
pub fn encoder(options: FormatOptions, schema: Schema, cx: FormatContext) -> Result<Box<dyn Encoder>> {
    write_info(&options, true)?;
    (find(&options)?.encoder)(options, schema, cx)
}

/// Metadata keys that a format offers, with their types (Flink: `DecodingFormat.listReadableMetadata`).
pub fn readable_metadata(format: &str) -> Vec<Field> {
    REGISTRY.iter().find(|f| f.name == format).map_or_else(Vec::new, |f| (f.metadata)())
}
