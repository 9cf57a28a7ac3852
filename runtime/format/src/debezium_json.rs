//! `debezium-json` (Flink: `DebeziumJsonFormatFactory`): changes of a database as Debezium writes them. The record is looked over once for its
//! parts; rows are read when the operation is known.

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Error, Field, Result, RowKind, TypeKind};

use crate::column::{Column, Data};
use crate::json::cursor::{Cursor, Parsed};
use crate::json::encode::{RowNames, WriteOptions, write_row};
use crate::json::read::{Plan, ReadOptions, Reader, RowPlan};
use crate::json::{JsonOptions, error_of, excerpt, projected};
use crate::registry::Format;
use crate::text::{MILLIS_PER_DAY, raw_timestamp};
use crate::view::View;
use crate::{ChangelogMode, Decoder, Encoder, FormatInfo, FormatOptions, Records, Schema};

pub(crate) const FORMAT: Format = Format {
    name: "debezium-json",
    read: Some(|options| DebeziumOptions::new(options).map(|_| INFO)),
    write: Some(|options, _| {
        if DebeziumOptions::new(options)?.schema_include {
            let span = options.get("schema-include").map_or(options.span, |o| o.span);
            return Err(Error::plan(format!("option '{}schema-include' is not for writing", options.prefix)).at(span));
        }
        Ok(INFO)
    }),
    decoder: |options, schema, _| {
        let options = DebeziumOptions::new(&options)?;
        Ok(Box::new(DebeziumDecoder::new(&schema, options)?))
    },
    encoder: |options, schema, _| {
        let options = DebeziumOptions::new(&options)?.write;
        Ok(Box::new(DebeziumEncoder { names: RowNames::new(&schema.fields, &options)?, fields: schema.fields, options }))
    },
    metadata,
};

const INFO: FormatInfo = FormatInfo { changelog: ChangelogMode::All, delete_by_key: false };

struct DebeziumOptions {
    read: ReadOptions,
    write: WriteOptions,
    /// Records are `{"schema": …, "payload": …}`.
    schema_include: bool,
}

impl DebeziumOptions {
    fn new(options: &FormatOptions) -> Result<Self> {
        // the options of `json` but for those that Debezium's rows have no use for
        for key in ["fail-on-missing-field", "decode.json-parser.enabled"] {
            if let Some(option) = options.options.iter().find(|o| o.key == key) {
                return Err(Error::plan(format!("format 'debezium-json' has no option '{}{key}'", options.prefix)).at(option.span));
            }
        }
        let json = JsonOptions::new(options)?;
        Ok(Self { read: json.read, write: json.write, schema_include: options.flag("schema-include")? })
    }
}

/// Flink: `DebeziumJsonDecodingFormat.ReadableMetadata`.
fn metadata() -> Vec<Field> {
    let string = || TypeKind::STRING.nullable();
    let instant = || TypeKind::TimestampLtz(3).nullable();
    let properties = TypeKind::Map(Box::new(string()), Box::new(string())).nullable();
    vec![
        Field::new("schema", string()),
        Field::new("ingestion-timestamp", instant()),
        Field::new("source.timestamp", instant()),
        Field::new("source.database", string()),
        Field::new("source.schema", string()),
        Field::new("source.table", string()),
        Field::new("source.properties", properties),
    ]
}

/// Where the parts of a record begin.
#[derive(Default)]
struct Parts {
    before: Option<usize>,
    after: Option<usize>,
    op: Option<usize>,
    source: Option<usize>,
    ts_ms: Option<usize>,
    schema: Option<usize>,
}

/// Where a metadata column comes from.
#[derive(Clone, Copy)]
enum From {
    Schema,
    TsMs,
    SourceTsMs,
    Source(&'static [u8]),
    Properties,
}

struct DebeziumDecoder {
    plan: RowPlan,
    columns: Vec<Column>,
    metadata: Vec<(From, Plan, Column)>,
    kinds: Vec<RowKind>,
    options: DebeziumOptions,
    scratch: Vec<u8>,
    skipped: u64,
}

impl DebeziumDecoder {
    fn new(schema: &Schema, options: DebeziumOptions) -> Result<Self> {
        let (fields, columns) = projected(schema)?;
        let plan = RowPlan::new(fields.iter(), &options.read)?;
        let metadata = schema.metadata.iter().map(|f| metadata_column(f, &options.read)).collect::<Result<_>>()?;
        Ok(Self { plan, columns, metadata, kinds: vec![], options, scratch: vec![], skipped: 0 })
    }

    fn record(&mut self, record: &[u8]) -> Parsed<()> {
        let mut cursor = Cursor::new(record);
        if let Err(e) = std::str::from_utf8(record) {
            cursor.pos = e.valid_up_to();
            return cursor.syntax("bytes that are not UTF-8");
        }
        let mut reader = Reader { cursor, scratch: std::mem::take(&mut self.scratch), options: &self.options.read };
        let result = parts_of(&mut reader, self.options.schema_include).and_then(|parts| {
            let changes = changes(&mut reader, &parts)?;
            for (kind, at) in changes.into_iter().flatten() {
                reader.cursor.pos = at + 1;
                reader.object(&mut self.plan, &mut self.columns)?;
                for (from, plan, column) in &mut self.metadata {
                    metadata_value(&mut reader, &parts, *from, plan, column)?;
                }
                self.kinds.push(kind);
            }
            Ok(())
        });
        self.scratch = reader.scratch;
        result
    }

    fn all_columns(&mut self) -> impl Iterator<Item = &mut Column> {
        self.columns.iter_mut().chain(self.metadata.iter_mut().map(|(_, _, c)| c))
    }
}

fn metadata_column(field: &Field, options: &ReadOptions) -> Result<(From, Plan, Column)> {
    let from = match field.name.as_str() {
        "schema" => From::Schema,
        "ingestion-timestamp" => From::TsMs,
        "source.timestamp" => From::SourceTsMs,
        "source.database" => From::Source(b"db"),
        "source.schema" => From::Source(b"schema"),
        "source.table" => From::Source(b"table"),
        "source.properties" => From::Properties,
        other => return Err(Error::plan(format!("format 'debezium-json' has no metadata '{other}'"))),
    };
    let known = metadata();
    let ty = known.iter().find(|f| f.name == field.name).map_or(&field.ty, |f| &f.ty);
    let fits = ty.kind == field.ty.kind || matches!((&ty.kind, &field.ty.kind), (TypeKind::TimestampLtz(_), TypeKind::TimestampLtz(_)));
    if !fits {
        return Err(Error::plan(format!("metadata '{}' of format 'debezium-json' is {ty}, not {}", field.name, field.ty)));
    }
    Ok((from, Plan::new(&field.ty, options)?, Column::new(&field.ty)?))
}

/// Looks over the fields of the object at the cursor and says where the values of some begin.
fn fields_of<const N: usize>(reader: &mut Reader<'_, '_>, names: [&[u8]; N]) -> Parsed<[Option<usize>; N]> {
    let mut found = [None; N];
    reader.cursor.expect(b'{', "expected an object")?;
    if reader.cursor.closed(b'}') {
        return Ok(found);
    }
    loop {
        if reader.cursor.peek() != b'"' {
            return reader.cursor.syntax("expected a field name");
        }
        let name = reader.cursor.string(&mut reader.scratch)?;
        let index = names.iter().position(|n| *n == name);
        reader.cursor.expect(b':', "expected ':'")?;
        let null = reader.cursor.peek() == b'n';
        if let Some(index) = index {
            found[index] = (!null).then_some(reader.cursor.pos);
        }
        reader.cursor.skip_value()?;
        if !reader.cursor.more(b'}')? {
            return Ok(found);
        }
    }
}

fn parts_of(reader: &mut Reader<'_, '_>, schema_include: bool) -> Parsed<Parts> {
    let mut parts = Parts::default();
    if schema_include {
        let [schema, payload] = fields_of(reader, [b"schema".as_slice(), b"payload"])?;
        reader.cursor.end()?;
        parts.schema = schema;
        let Some(payload) = payload else { return reader.cursor.mismatch(0, "the record has no 'payload'") };
        reader.cursor.pos = payload;
    }
    [parts.before, parts.after, parts.op, parts.source, parts.ts_ms] =
        fields_of(reader, [b"before".as_slice(), b"after", b"op", b"source", b"ts_ms"])?;
    if !schema_include {
        reader.cursor.end()?;
    }
    Ok(parts)
}

/// The rows that a record stands for: their kind and where they begin.
fn changes(reader: &mut Reader<'_, '_>, parts: &Parts) -> Parsed<[Option<(RowKind, usize)>; 2]> {
    let Some(at) = parts.op else {
        return reader.cursor.mismatch(0, "the record has no 'op'; is it of Debezium, and 'schema-include' right?");
    };
    reader.cursor.pos = at;
    let op = if reader.cursor.peek() == b'"' { reader.cursor.string(&mut reader.scratch)? } else { b"" };
    let (before, after) = match op {
        b"c" | b"r" => (None, Some(RowKind::Insert)),
        b"u" => (Some(RowKind::UpdateBefore), Some(RowKind::UpdateAfter)),
        b"d" => (Some(RowKind::Delete), None),
        _ => return reader.cursor.mismatch(at, "'op' is none of c, r, u, d"),
    };
    let mut rows = [None, None];
    for (index, (kind, place)) in [(before, parts.before), (after, parts.after)].into_iter().enumerate() {
        let Some(kind) = kind else { continue };
        let Some(place) = place.filter(|p| reader.cursor.bytes.get(*p) == Some(&b'{')) else {
            let what = match kind {
                RowKind::Insert | RowKind::UpdateAfter => "'after' of the change is null",
                _ => "'before' of the change is null; with PostgreSQL, set REPLICA IDENTITY of the table to FULL",
            };
            return reader.cursor.mismatch(at, what);
        };
        rows[index] = Some((kind, place));
    }
    Ok(rows)
}

fn metadata_value(reader: &mut Reader<'_, '_>, parts: &Parts, from: From, plan: &mut Plan, column: &mut Column) -> Parsed<()> {
    let in_source = |reader: &mut Reader<'_, '_>, name: &[u8]| -> Parsed<Option<usize>> {
        let Some(source) = parts.source else { return Ok(None) };
        reader.cursor.pos = source;
        Ok(fields_of(reader, [name])?[0])
    };
    let place = match from {
        From::Schema => parts.schema,
        From::TsMs => parts.ts_ms,
        From::SourceTsMs => in_source(reader, b"ts_ms")?,
        From::Source(name) => in_source(reader, name)?,
        From::Properties => parts.source,
    };
    let Some(place) = place else {
        column.push_null();
        return Ok(());
    };
    reader.cursor.pos = place;
    if !matches!(from, From::TsMs | From::SourceTsMs) {
        return reader.value(plan, column);
    }
    let millis = reader.cursor.number().ok().and_then(|n| crate::text::parse_integer(n.text));
    let (Some(millis), TypeKind::TimestampLtz(precision)) = (millis, &column.kind) else {
        return reader.cursor.mismatch(place, "not a time in milliseconds");
    };
    let raw = raw_timestamp(millis.div_euclid(MILLIS_PER_DAY), millis.rem_euclid(MILLIS_PER_DAY) * 1_000_000, *precision);
    match (raw, &mut column.data) {
        (Some(raw), Data::Int64(values)) => values.push(raw),
        _ => return reader.cursor.mismatch(place, "a time too far away"),
    }
    column.set_valid();
    Ok(())
}

impl Decoder for DebeziumDecoder {
    fn decode(&mut self, record: Option<&[u8]>) -> Result<usize> {
        // a tombstone follows every delete in Debezium's topics
        let Some(record) = record.filter(|r| !r.is_empty()) else { return Ok(0) };
        let rows = self.kinds.len();
        let Err(fault) = self.record(record) else { return Ok(self.kinds.len() - rows) };
        self.kinds.truncate(rows);
        self.all_columns().for_each(|c| c.truncate(rows));
        if self.options.read.ignore_parse_errors {
            self.skipped += 1;
            return Ok(0);
        }
        let error = error_of(record, &fault);
        Err(if fault.syntax { error } else { error.context(format!("Debezium record {}", excerpt(record, 0))) })
    }

    fn append_null_row(&mut self) -> Result<()> {
        self.all_columns().for_each(Column::push_null);
        self.kinds.push(RowKind::Insert);
        Ok(())
    }

    fn finish(&mut self) -> Result<(Vec<ArrayRef>, Option<Vec<RowKind>>)> {
        let columns = self.all_columns().map(Column::finish).collect::<Result<_>>()?;
        Ok((columns, Some(std::mem::take(&mut self.kinds))))
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// Every `-U` and `-D` is a delete, every `+I` and `+U` a create (Flink: `DebeziumJsonSerializationSchema`).
struct DebeziumEncoder {
    fields: Vec<Field>,
    names: RowNames,
    options: WriteOptions,
}

impl Encoder for DebeziumEncoder {
    fn encode(&mut self, batch: &Batch, out: &mut Records) -> Result<()> {
        let views = View::of(batch, &self.fields)?;
        let nulls = !self.options.ignore_null_fields;
        for row in 0..batch.rows() {
            let added = batch.kind(row).is_addition();
            let (start, end): (&[u8], &[u8]) = match (added, nulls) {
                (true, true) => (b"{\"before\":null,\"after\":", b",\"op\":\"c\"}"),
                (true, false) => (b"{\"after\":", b",\"op\":\"c\"}"),
                (false, true) => (b"{\"before\":", b",\"after\":null,\"op\":\"d\"}"),
                (false, false) => (b"{\"before\":", b",\"op\":\"d\"}"),
            };
            out.bytes.extend_from_slice(start);
            write_row(&mut out.bytes, &self.names, &views, row, &self.options)?;
            out.bytes.extend_from_slice(end);
            out.end();
        }
        Ok(())
    }
}
