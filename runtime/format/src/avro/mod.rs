//! `avro` and `avro-confluent` (Flink: `AvroFormatFactory`, `RegistryAvroFormatFactory`).

mod client;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Error, Field, Result, RowKind};

use crate::column::Rows;
use crate::json::projected;
use crate::registry::{Format, insert_only};
use crate::view::View;
use crate::{Decoder, Encoder, FormatOptions, Records, Schema};
use client::{Registry, RegistryOptions};
use read::Input;
use schema::AvroSchema;

pub(crate) const PLAIN: Format = Format {
    name: "avro",
    read: Some(|options| plain_options(options).map(|_| insert_only())),
    write: Some(|options, _| plain_options(options).map(|_| insert_only())),
    decoder: |options, schema, _| {
        // Flink takes the table's schema for the writer's, too
        let written = AvroSchema::parse(&schema::derive(&schema.fields, plain_options(&options)?)?)?;
        let mut decoder = AvroDecoder::new(&schema, Writers::Fixed)?;
        decoder.programs.push(Program::new(0, written, None, &decoder.fields)?);
        Ok(Box::new(decoder))
    },
    encoder: |options, schema, _| {
        let text = schema::derive(&schema.fields, plain_options(&options)?)?;
        let plan = write::resolve(&AvroSchema::parse(&text)?, &schema.fields)?;
        Ok(Box::new(AvroEncoder { fields: schema.fields, plan, header: Header::None }))
    },
    metadata: Vec::new,
};

pub(crate) const CONFLUENT: Format = Format {
    name: "avro-confluent",
    read: Some(|options| ConfluentOptions::new(options).map(|_| insert_only())),
    write: Some(|options, _| ConfluentOptions::new(options).map(|_| insert_only())),
    decoder: |options, schema, _| {
        let options = ConfluentOptions::new(&options)?;
        let mut decoder = AvroDecoder::new(&schema, Writers::Registry(Registry::new(options.registry)))?;
        decoder.reader = options.schema.map(|s| AvroSchema::parse(&s)).transpose().map_err(Error::into_plan)?;
        Ok(Box::new(decoder))
    },
    encoder: |given, schema, _| {
        let options = ConfluentOptions::new(&given)?;
        let Some(subject) = options.subject.or(schema.default_subject) else {
            let message = format!("format 'avro-confluent' needs the option '{}subject'", given.prefix);
            return Err(Error::plan(message).at(given.span));
        };
        let text = options.schema.map_or_else(|| schema::derive(&schema.fields, true), Ok)?;
        let parsed = AvroSchema::parse(&text).map_err(Error::into_plan)?;
        let plan = write::resolve(&parsed, &schema.fields)?;
        let header = Header::Unregistered { registry: Registry::new(options.registry), subject, schema: text };
        Ok(Box::new(AvroEncoder { fields: schema.fields, plan, header }))
    },
    metadata: Vec::new,
};

/// Whether TIMESTAMP is `timestamp-*` (as in Flink before 1.19 and by default).
fn plain_options(options: &FormatOptions) -> Result<bool> {
    if options.choice("encoding", &["binary", "json"])? == "json" {
        let span = options.get("encoding").map_or(options.span, |o| o.span);
        return Err(Error::unsupported("Avro in its JSON encoding").at(span));
    }
    Ok(options.choice("timestamp_mapping.legacy", &["true", "false"])? == "true")
}

struct ConfluentOptions {
    registry: RegistryOptions,
    subject: Option<String>,
    /// The reader's or writer's schema, instead of the one derived from the table.
    schema: Option<String>,
}

impl ConfluentOptions {
    fn new(options: &FormatOptions) -> Result<Self> {
        let schema = options.get("schema");
        if let Some(schema) = schema {
            AvroSchema::parse(&schema.value).map_err(|e| e.into_plan().at(schema.span))?;
        }
        Ok(Self { registry: RegistryOptions::new(options)?, subject: options.string("subject"), schema: schema.map(|s| s.value.clone()) })
    }
}

/// The first byte of every record; the schema's id follows, big endian.
const MAGIC: u8 = 0;

/// How records of one writer's schema are read.
struct Program {
    id: u32,
    schema: AvroSchema,
    plan: read::Plan,
}

impl Program {
    fn new(id: u32, schema: AvroSchema, reader: Option<&AvroSchema>, fields: &[Field]) -> Result<Self> {
        let plan = read::resolve(&schema, reader, fields)?;
        Ok(Self { id, schema, plan })
    }
}

enum Writers {
    /// Records are bare; there is one program.
    Fixed,
    Registry(Registry),
}

struct AvroDecoder {
    fields: Vec<Field>,
    rows: Rows,
    writers: Writers,
    reader: Option<AvroSchema>,
    programs: Vec<Program>,
    /// Position in `programs` by schema id.
    by_id: HashMap<u32, usize>,
    /// The program that the last record was read by.
    current: usize,
}

impl AvroDecoder {
    fn new(schema: &Schema, writers: Writers) -> Result<Self> {
        let (fields, columns) = projected(schema)?;
        Ok(Self { fields, rows: Rows::new(columns), writers, reader: None, programs: vec![], by_id: HashMap::new(), current: 0 })
    }

    /// The record behind its header; sets `current` to its schema's program.
    fn open<'r>(&mut self, record: &'r [u8]) -> Result<&'r [u8]> {
        let Writers::Registry(registry) = &self.writers else { return Ok(record) };
        let [MAGIC, a, b, c, d, body @ ..] = record else {
            let message = "the record does not begin with the byte 0 and a schema id";
            return Err(Error::runtime(message).hint("is it written by a serializer for a schema registry?"));
        };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        if self.programs.get(self.current).is_none_or(|p| p.id != id) {
            self.current = match self.by_id.get(&id) {
                Some(index) => *index,
                None => {
                    let schema = AvroSchema::parse(&registry.schema(id)?)?;
                    let program = Program::new(id, schema, self.reader.as_ref(), &self.fields);
                    self.programs.push(program.map_err(|e| e.context(format!("schema {id}")))?);
                    self.by_id.insert(id, self.programs.len() - 1);
                    self.programs.len() - 1
                }
            };
        }
        Ok(body)
    }

    fn record(&mut self, record: &[u8]) -> Result<()> {
        let mut input = Input { bytes: self.open(record)? };
        let program = self.programs.get(self.current).ok_or_else(|| Error::runtime("no writer's schema"))?;
        // Bytes behind the record are left alone, as in Flink: a bare record may have been written with more fields at its end.
        input.record(&program.schema, &program.plan, &mut self.rows.columns)
    }
}

impl Decoder for AvroDecoder {
    fn decode(&mut self, record: Option<&[u8]>) -> Result<usize> {
        let Some(record) = record else { return Ok(0) };
        if let Err(error) = self.record(record) {
            self.rows.cut();
            return Err(error);
        }
        self.rows.add(1);
        Ok(1)
    }

    fn append_null_row(&mut self) -> Result<()> {
        self.rows.push_null();
        Ok(())
    }

    fn finish(&mut self) -> Result<(Vec<ArrayRef>, Option<Vec<RowKind>>)> {
        self.rows.finish()
    }
}

/// What stands before a record.
enum Header {
    None,
    /// The schema is registered with the first batch.
    Unregistered {
        registry: Registry,
        subject: String,
        schema: String,
    },
    Bytes([u8; 5]),
}

struct AvroEncoder {
    fields: Vec<Field>,
    plan: write::Plan,
    header: Header,
}

impl Encoder for AvroEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Records) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if let Header::Unregistered { registry, subject, schema } = &self.header {
            let id = registry.register(subject, schema)?.to_be_bytes();
            self.header = Header::Bytes([MAGIC, id[0], id[1], id[2], id[3]]);
        }
        let views = View::of(batch, &self.fields)?;
        for row in 0..batch.rows() {
            if let Header::Bytes(header) = &self.header {
                out.bytes.extend_from_slice(header);
            }
            write::write_row(&mut out.bytes, &self.plan, &views, row)?;
            out.end();
        }
        Ok(())
    }
}
