//! From records to columns: key and value decoders side by side, and the record's metadata.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, Int32Array, Int64Array, MapArray, StringBuilder, StructArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute;
use arrow::datatypes::DataType;
use sluice_batch::{Batch, Error, EvalContext, Field, Result, RowKind};
use sluice_format::{Decoder, FormatContext};

use super::client::Message;
use super::table::{KafkaTable, record_metadata};
use crate::columns::{self, Metadata};
use crate::{ScanColumn, ScanRequest, TableSpec};

/// No row of a decoder: its columns are NULL.
const NONE: u32 = u32::MAX;

/// The columns of a batch under construction.
pub(crate) struct Rows {
    key: Option<Box<dyn Decoder>>,
    value: Box<dyn Decoder>,
    columns: Vec<Column>,
    metadata: Vec<Collected>,
    context: EvalContext,
    upsert: bool,
    /// Keys are needed for every record, not for tombstones only.
    key_always: bool,
    rows: usize,
    key_rows: u32,
    value_rows: u32,
    /// Where each row's columns are in the decoders; kept only if there is a key decoder.
    origins: Vec<(u32, u32)>,
    /// The n-th row is the n-th of both decoders.
    regular: bool,
}

/// Where an output column comes from: a position in a decoder's columns, or in `metadata`.
enum Column {
    Key(usize),
    Value(usize),
    /// The value's, or the key's where there is no value (tombstones).
    ValueElseKey(usize, usize),
    Metadata(usize, Metadata),
    /// The value format's metadata.
    Format(usize, Metadata),
}

/// A metadata column while it is collected.
enum Collected {
    Topic(StringBuilder),
    Partition(Vec<i32>),
    Headers(Headers),
    LeaderEpoch(Vec<Option<i32>>),
    Offset(Vec<i64>),
    Timestamp(Vec<i64>),
    TimestampType(StringBuilder),
}

struct Headers {
    ends: Vec<usize>,
    names: StringBuilder,
    values: BinaryBuilder,
    count: usize,
    field: Field,
}

/// What the plan wants of the two decoders, found out before they are made.
#[derive(Default)]
struct Wanted {
    key: Vec<usize>,
    value: Vec<usize>,
    format: Vec<Field>,
}

fn slot(list: &mut Vec<usize>, item: usize) -> usize {
    list.iter().position(|i| *i == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

impl Rows {
    /// # Errors
    /// If a format refuses a type or option, or a metadata column is unknown.
    pub fn new(spec: &TableSpec, table: &KafkaTable, request: &ScanRequest) -> Result<Self> {
        let offered = record_metadata();
        let formats = sluice_format::readable_metadata(&table.value.format);
        let mut wanted = Wanted::default();
        let mut metadata = vec![];
        let mut columns = vec![];
        for column in &request.columns {
            columns.push(match column {
                ScanColumn::Physical(i) => physical(table, *i, &mut wanted)?,
                ScanColumn::Metadata(i) => {
                    let declared = &spec.metadata[*i];
                    match declared.key.strip_prefix("value.").and_then(|k| formats.iter().find(|f| f.name == k)) {
                        Some(field) => {
                            let found = Metadata::find(spec, declared, &[Field::new(declared.key.clone(), field.ty.clone())])?;
                            wanted.format.push(field.clone());
                            Column::Format(wanted.format.len() - 1, found)
                        }
                        None => {
                            let found = Metadata::find(spec, declared, &offered)?;
                            metadata.push(Collected::new(&offered[found.offered]));
                            Column::Metadata(metadata.len() - 1, found)
                        }
                    }
                }
            });
        }
        let key_always = columns.iter().any(|c| matches!(c, Column::Key(_)));
        let context = FormatContext { time_zone: request.time_zone };
        let key = match (&table.key, key_always || table.upsert) {
            (Some(options), true) => {
                let mut schema = table.key_schema(spec);
                schema.projection = wanted.key;
                Some(sluice_format::decoder(options.clone(), schema, context)?)
            }
            _ => None,
        };
        // Format metadata stands behind the value's columns.
        let behind = wanted.value.len();
        for column in &mut columns {
            if let Column::Format(at, _) = column {
                *at += behind;
            }
        }
        let mut schema = table.value_schema(spec);
        (schema.projection, schema.metadata) = (wanted.value, wanted.format);
        Ok(Self {
            key,
            value: sluice_format::decoder(table.value.clone(), schema, context)?,
            columns,
            metadata,
            context: columns::context(request.time_zone),
            upsert: table.upsert,
            key_always,
            rows: 0,
            key_rows: 0,
            value_rows: 0,
            origins: vec![],
            regular: true,
        })
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    /// Appends a record's rows.
    ///
    /// # Errors
    /// If the record is malformed; nothing is appended then.
    pub fn push(&mut self, message: Message<'_>, topic: &str) -> Result<()> {
        let (added, kind_key) = match message.value() {
            None if self.upsert => {
                if message.key().is_none() {
                    return Err(Error::runtime("a record without key and value means nothing to an upsert table"));
                }
                let at = self.decode_key(message)?;
                self.origins.push((at, NONE));
                self.regular = false;
                (1, true)
            }
            value => {
                let added = self.value.decode(value)?;
                let first = self.value_rows;
                self.value_rows += added as u32;
                if added == 0 {
                    return Ok(());
                }
                if self.key.is_some() {
                    let key = if self.key_always { self.decode_key(message)? } else { NONE };
                    for i in 0..added as u32 {
                        let row = self.rows as u32 + i;
                        self.regular &= first + i == row && (key == row || !self.key_always);
                        self.origins.push((key, first + i));
                    }
                }
                (added, false)
            }
        };
        debug_assert!(!kind_key || added == 1);
        self.rows += added;
        for column in &mut self.metadata {
            column.push(message, topic, added);
        }
        Ok(())
    }

    /// The row of the key decoder that the record's key became; [`NONE`] for no key.
    fn decode_key(&mut self, message: Message<'_>) -> Result<u32> {
        let Some(decoder) = &mut self.key else { return Ok(NONE) };
        let Some(key) = message.key() else { return Ok(NONE) };
        let at = self.key_rows;
        let added = decoder.decode(Some(key)).map_err(|e| e.context("key"))?;
        self.key_rows += added as u32;
        Ok(if added == 0 { NONE } else { at })
    }

    /// Ends the batch.
    ///
    /// # Errors
    /// If a metadata column's cast fails.
    pub fn finish(&mut self) -> Result<Batch> {
        let keys = match &mut self.key {
            Some(key) => key.finish()?.0,
            None => vec![],
        };
        let (values, kinds) = self.value.finish()?;
        let metadata = self.metadata.iter_mut().map(Collected::finish).collect::<Result<Vec<_>>>()?;
        let (rows, origins) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.origins));
        let regular = std::mem::replace(&mut self.regular, true) && self.value_rows as usize == rows;
        (self.key_rows, self.value_rows) = (0, 0);
        // Without a key decoder rows are those of the value decoder.
        let plain = self.key.is_none() || regular;
        let pick = |side: fn(&(u32, u32)) -> u32| UInt32Array::from_iter(origins.iter().map(|o| Some(side(o)).filter(|i| *i != NONE)));
        let (key_rows, value_rows) = if plain { (None, None) } else { (Some(pick(|o| o.0)), Some(pick(|o| o.1))) };
        let take = |array: &ArrayRef, rows: &Option<UInt32Array>| match rows {
            None => Ok(array.clone()),
            Some(rows) => compute::take(array, rows, None),
        };
        let mut out = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            out.push(match column {
                Column::Value(i) => take(&values[*i], &value_rows)?,
                Column::Key(i) => take(&keys[*i], &key_rows)?,
                Column::ValueElseKey(v, _) if plain => values[*v].clone(),
                Column::ValueElseKey(v, k) => {
                    let sources: [&dyn Array; 2] = [&values[*v], &keys[*k]];
                    let at = |o: &(u32, u32)| if o.1 == NONE { (1, o.0 as usize) } else { (0, o.1 as usize) };
                    compute::interleave(&sources, &origins.iter().map(at).collect::<Vec<_>>())?
                }
                Column::Metadata(i, m) => m.finish(metadata[*i].clone(), &self.context)?,
                Column::Format(i, m) => m.finish(take(&values[*i], &value_rows)?, &self.context)?,
            });
        }
        let kinds: Option<Arc<[RowKind]>> = match (kinds, plain) {
            (kinds, true) => kinds.map(Arc::from),
            (kinds, false) => {
                let of = |at: u32| kinds.as_ref().and_then(|k| k.get(at as usize)).copied().unwrap_or(RowKind::Insert);
                Some(origins.iter().map(|o| if o.1 == NONE { RowKind::Delete } else { of(o.1) }).collect())
            }
        };
        self.origins = origins;
        self.origins.clear();
        Ok(Batch::with_kinds(out, kinds, rows))
    }

    /// Records that the formats were told to skip.
    pub fn skipped(&self) -> u64 {
        self.value.skipped() + self.key.as_ref().map_or(0, |k| k.skipped())
    }
}

/// A physical column: the value's if it has it (also when the key has it, as in Flink), else the key's.
fn physical(table: &KafkaTable, column: usize, wanted: &mut Wanted) -> Result<Column> {
    let key = table.key_fields.iter().position(|i| *i == column);
    let value = table.value_fields.iter().position(|i| *i == column);
    Ok(match (value, key) {
        (Some(v), Some(k)) if table.upsert => Column::ValueElseKey(slot(&mut wanted.value, v), slot(&mut wanted.key, k)),
        (Some(v), _) => Column::Value(slot(&mut wanted.value, v)),
        (None, Some(k)) => Column::Key(slot(&mut wanted.key, k)),
        (None, None) => return Err(Error::plan("a column is neither in key nor value")),
    })
}

impl Collected {
    fn new(field: &Field) -> Self {
        match field.name.as_str() {
            "topic" => Self::Topic(StringBuilder::new()),
            "partition" => Self::Partition(vec![]),
            "headers" => {
                let (names, values) = (StringBuilder::new(), BinaryBuilder::new());
                Self::Headers(Headers { ends: vec![], names, values, count: 0, field: field.clone() })
            }
            "leader-epoch" => Self::LeaderEpoch(vec![]),
            "offset" => Self::Offset(vec![]),
            "timestamp" => Self::Timestamp(vec![]),
            _ => Self::TimestampType(StringBuilder::new()),
        }
    }

    fn push(&mut self, message: Message<'_>, topic: &str, rows: usize) {
        for _ in 0..rows {
            match self {
                Self::Topic(b) => b.append_value(topic),
                Self::Partition(v) => v.push(message.partition()),
                Self::Headers(h) => h.push(message),
                Self::LeaderEpoch(v) => v.push(message.leader_epoch()),
                Self::Offset(v) => v.push(message.offset()),
                Self::Timestamp(v) => v.push(message.timestamp().0.saturating_mul(1000)),
                Self::TimestampType(b) => b.append_value(message.timestamp().1),
            }
        }
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Topic(b) | Self::TimestampType(b) => Arc::new(b.finish()),
            Self::Partition(v) => Arc::new(Int32Array::from(std::mem::take(v))),
            Self::LeaderEpoch(v) => Arc::new(Int32Array::from(std::mem::take(v))),
            Self::Offset(v) => Arc::new(Int64Array::from(std::mem::take(v))),
            Self::Timestamp(v) => Arc::new(TimestampMicrosecondArray::from(std::mem::take(v)).with_timezone("UTC")),
            Self::Headers(h) => h.finish()?,
        })
    }
}

impl Headers {
    /// A map has a name once: the last one counts, as in Flink.
    fn push(&mut self, message: Message<'_>) {
        let mut found: Vec<(&[u8], Option<&[u8]>)> = vec![];
        message.headers(|name, value| match found.iter_mut().find(|(n, _)| *n == name) {
            Some(slot) => slot.1 = value,
            None => found.push((name, value)),
        });
        for (name, value) in &found {
            self.names.append_value(String::from_utf8_lossy(name));
            self.values.append_option(*value);
        }
        self.count += found.len();
        self.ends.push(found.len());
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        self.count = 0;
        let DataType::Map(entries, sorted) = self.field.ty.to_arrow() else {
            return Err(Error::runtime("headers are no map"));
        };
        let DataType::Struct(fields) = entries.data_type().clone() else {
            return Err(Error::runtime("headers have no entries"));
        };
        let columns: Vec<ArrayRef> = vec![Arc::new(self.names.finish()), Arc::new(self.values.finish())];
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.ends));
        let rows = StructArray::try_new(fields, columns, None)?;
        Ok(Arc::new(MapArray::try_new(entries, offsets, rows, None, sorted)?))
    }
}
