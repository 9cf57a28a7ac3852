//! `kafka` and `upsert-kafka` as sinks.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::TimestampMicrosecondType;
use sluice_batch::{Batch, Error, EvalContext, Expr, Millis, Result};
use sluice_format::{ChangelogMode, Encoder, FormatContext, Records};

use crate::columns;
use crate::kafka::producer::{Outgoing, Producer};
use crate::kafka::properties::Role;
use crate::kafka::table::{KafkaTable, Partitioner, writable_metadata};
use crate::registry::SinkFactory;
use crate::{Later, Sink, SinkInfo, TableSpec, Transactions};

pub(crate) const FACTORY: SinkFactory = SinkFactory { info: |t| info(t, false), open: |t, z, x| open(t, z, x, false) };
pub(crate) const UPSERT_FACTORY: SinkFactory = SinkFactory { info: |t| info(t, true), open: |t, z, x| open(t, z, x, true) };

fn info(spec: &TableSpec, upsert: bool) -> Result<SinkInfo> {
    let table = KafkaTable::new(spec, upsert)?;
    columns::check_writable(spec, &writable_metadata())?;
    let keyed = spec.primary_key.is_some();
    let format = sluice_format::write_info(&table.value, keyed)?;
    if let Some(key) = &table.key {
        sluice_format::write_info(key, keyed)?;
    }
    if table.topic().is_none() && !spec.metadata.iter().any(|m| m.key == "topic" && !m.is_virtual) {
        let message =
            format!("table '{}' cannot be written: it has no single topic, and no METADATA column 'topic' to choose one", spec.name);
        return Err(Error::plan(message).at(spec.span));
    }
    if table.buffer.is_some() && spec.metadata.iter().any(|m| !m.is_virtual) {
        return Err(Error::unsupported("'sink.buffer-flush' with METADATA columns that are written").at(spec.span));
    }
    if upsert {
        if format.changelog != ChangelogMode::InsertOnly {
            let message = format!("'value.format' cannot be '{}', which has a changelog of its own", table.value.format);
            return Err(Error::plan(message).at(table.value.span));
        }
        return Ok(SinkInfo { changelog: ChangelogMode::Upsert, delete_by_key: true, guarantee: table.guarantee });
    }
    table.check_primary_key(spec, format.changelog)?;
    Ok(SinkInfo { changelog: format.changelog, delete_by_key: format.delete_by_key, guarantee: table.guarantee })
}

fn open(spec: &TableSpec, time_zone: chrono_tz::Tz, transactions: &Transactions, upsert: bool) -> Result<Box<dyn Sink>> {
    info(spec, upsert)?;
    let table = KafkaTable::new(spec, upsert)?;
    table.report_ignored(spec, Role::Producer);
    let context = FormatContext { time_zone };
    let key = match &table.key {
        Some(options) => Some(sluice_format::encoder(options.clone(), table.key_schema(spec), context)?),
        None => None,
    };
    let value = sluice_format::encoder(table.value.clone(), table.value_schema(spec), context)?;
    let mut producer = match (table.guarantee, &transactions.kafka) {
        ("exactly-once", Some(transaction)) => Producer::within(transaction, table.patience),
        ("exactly-once", None) => return Err(Error::runtime("an exactly-once table is written without a transaction")),
        _ => Producer::new(&table.producer, &table.servers, table.patience)?,
    };
    let (topic, partitions) = match table.topic() {
        Some(name) => producer.topic(name).map(|(t, p)| (Some(t), p))?,
        None => (None, 0),
    };
    // A record that is not taken in this time fails by itself; a little more for the report.
    let delivery = table.producer.get("delivery.timeout.ms").or(table.producer.get("message.timeout.ms")).and_then(|v| v.parse().ok());
    let patience = Duration::from_millis(delivery.unwrap_or(300_000) + 5_000);
    Ok(Box::new(KafkaSink {
        producer,
        topic,
        partitions,
        next_partition: 0,
        partitioner: table.partitioner,
        key,
        key_fields: table.key_fields.clone(),
        value,
        value_fields: table.value_fields.clone(),
        metadata: MetadataColumns::new(spec)?,
        context: columns::context(time_zone),
        upsert,
        buffer: table.buffer.map(|(rows, interval)| Buffer::new(rows, interval)),
        keys: Records::default(),
        values: Records::default(),
        patience,
        guarantee: table.guarantee,
    }))
}

/// Metadata that rows bring along: position of the column in the batch and the cast to the connector's type.
#[derive(Default)]
struct MetadataColumns {
    timestamp: Option<(usize, Option<Expr>)>,
    headers: Option<(usize, Option<Expr>)>,
    topic: Option<(usize, Option<Expr>)>,
}

impl MetadataColumns {
    fn new(spec: &TableSpec) -> Result<Self> {
        let offered = writable_metadata();
        let mut out = Self::default();
        for (i, column) in spec.metadata.iter().filter(|m| !m.is_virtual).enumerate() {
            let Some(field) = offered.iter().find(|f| f.name == column.key) else {
                return Err(columns::unknown_key(spec, column, &offered));
            };
            let found = Some((spec.physical.len() + i, columns::cast(&column.field, field, spec)?));
            match column.key.as_str() {
                "timestamp" => out.timestamp = found,
                "headers" => out.headers = found,
                _ => out.topic = found,
            }
        }
        Ok(out)
    }
}

fn metadata_column(column: Option<&(usize, Option<Expr>)>, batch: &Batch, context: &EvalContext) -> Result<Option<ArrayRef>> {
    column.map(|(at, cast)| columns::apply(cast.as_ref(), batch.column(*at).clone(), context)).transpose()
}

struct KafkaSink {
    producer: Producer,
    topic: Option<usize>,
    partitions: i32,
    next_partition: i32,
    partitioner: Partitioner,
    key: Option<Box<dyn Encoder>>,
    key_fields: Vec<usize>,
    value: Box<dyn Encoder>,
    value_fields: Vec<usize>,
    metadata: MetadataColumns,
    context: EvalContext,
    upsert: bool,
    buffer: Option<Buffer>,
    keys: Records,
    values: Records,
    patience: Duration,
    guarantee: &'static str,
}

impl KafkaSink {
    /// Encodes keys of all rows and values of those that have one. Tombstones have none; other rows of an upsert table are written
    /// as inserts (Flink: `DynamicKafkaRecordSerializationSchema`).
    fn encode(&mut self, batch: &Batch, additions: Option<&BooleanArray>) -> Result<()> {
        self.keys.clear();
        self.values.clear();
        if let Some(key) = &mut self.key {
            let columns = self.key_fields.iter().map(|i| batch.column(*i).clone()).collect();
            key.encode(&Batch::new(columns, batch.rows()), &mut self.keys)?;
        }
        let values = batch.project(&self.value_fields);
        match additions {
            Some(mask) => {
                let values = Batch::new(values.columns().to_vec(), values.rows()).filter(mask)?;
                self.value.encode(&values, &mut self.values)
            }
            None if self.upsert => self.value.encode(&Batch::new(values.columns().to_vec(), values.rows()), &mut self.values),
            None => self.value.encode(&values, &mut self.values),
        }
    }

    fn send(&mut self, batch: &Batch, additions: Option<&BooleanArray>) -> Result<()> {
        let timestamps = metadata_column(self.metadata.timestamp.as_ref(), batch, &self.context)?;
        let timestamps = timestamps.as_ref().and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
        let headers = metadata_column(self.metadata.headers.as_ref(), batch, &self.context)?;
        let topics = metadata_column(self.metadata.topic.as_ref(), batch, &self.context)?;
        let mut header_list = vec![];
        let mut value = 0;
        for row in 0..batch.rows() {
            let topic = match topics.as_ref().filter(|t| t.is_valid(row)) {
                Some(names) => self.named_topic(names, row)?,
                None => self.topic.ok_or_else(|| Error::runtime("METADATA column 'topic' is NULL, and the table has no single topic"))?,
            };
            let record = match additions {
                Some(mask) if !mask.value(row) => None,
                _ => {
                    value += 1;
                    self.values.get(value - 1)
                }
            };
            let key = if self.key.is_some() { self.keys.get(row) } else { None };
            let timestamp = timestamps.filter(|t| t.is_valid(row)).map(|t| t.value(row).div_euclid(1000));
            if timestamp.is_some_and(|t| t < 0) {
                return Err(Error::runtime(format!("{} is no timestamp of a Kafka record: it is negative", timestamp.unwrap_or_default())));
            }
            header_list.clear();
            if let Some(headers) = &headers {
                row_headers(headers, row, &mut header_list);
            }
            let partition = next_partition(self.partitioner, &mut self.next_partition, self.partitions);
            self.producer.send(topic, &Outgoing { partition, key, value: record, timestamp, headers: &header_list })?;
        }
        Ok(())
    }

    fn named_topic(&mut self, names: &ArrayRef, row: usize) -> Result<usize> {
        let name = names.as_string_opt::<i32>().map_or("", |n| n.value(row));
        match self.producer.find(name.as_bytes()) {
            Some(topic) => Ok(topic),
            None => Ok(self.producer.topic(name)?.0),
        }
    }

    /// Sends what the buffer holds.
    fn drain(&mut self) -> Result<()> {
        let (Some(buffer), Some(topic)) = (&mut self.buffer, self.topic) else { return Ok(()) };
        for (key, value) in buffer.take() {
            self.producer.send(topic, &Outgoing { key: Some(&key), value: value.as_deref(), ..Outgoing::default() })?;
        }
        Ok(())
    }
}

fn next_partition(partitioner: Partitioner, next: &mut i32, partitions: i32) -> Option<i32> {
    match partitioner {
        Partitioner::Default => None,
        // Flink: the sink's subtask modulo the partitions; there is one.
        Partitioner::Fixed => Some(0),
        Partitioner::RoundRobin => {
            let at = *next;
            *next = (at + 1) % partitions.max(1);
            Some(at)
        }
    }
}

/// The headers of a row of a MAP<STRING, BYTES> column.
fn row_headers<'a>(headers: &'a ArrayRef, row: usize, out: &mut Vec<(&'a [u8], Option<&'a [u8]>)>) {
    let Some(map) = headers.as_map_opt().filter(|m| m.is_valid(row)) else { return };
    let (Some(names), Some(values)) = (map.keys().as_string_opt::<i32>(), map.values().as_binary_opt::<i32>()) else { return };
    let offsets = map.value_offsets();
    for i in offsets[row] as usize..offsets[row + 1] as usize {
        if names.is_valid(i) {
            out.push((names.value(i).as_bytes(), values.is_valid(i).then(|| values.value(i))));
        }
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let additions = match batch.kinds() {
            Some(kinds) if self.upsert => Some(BooleanArray::from_iter(kinds.iter().map(|k| Some(k.is_addition())))),
            _ => None,
        };
        self.encode(batch, additions.as_ref())?;
        let Some(buffer) = &mut self.buffer else { return self.send(batch, additions.as_ref()) };
        let mut value = 0;
        for row in 0..batch.rows() {
            let record = match &additions {
                Some(mask) if !mask.value(row) => None,
                _ => {
                    value += 1;
                    self.values.get(value - 1)
                }
            };
            buffer.put(self.keys.get(row).unwrap_or_default(), record);
        }
        if buffer.is_full() { self.drain() } else { Ok(()) }
    }

    /// Also empties the buffer: what is committed must not depend on it (Flink's `ReducingUpsertWriter` flushes at a checkpoint, too).
    fn flush(&mut self, end: bool) -> Result<()> {
        self.drain()?;
        self.producer.release()?;
        match self.guarantee {
            // The transaction's commit waits for what all sinks have written.
            "exactly-once" => Ok(()),
            "none" if !end => Ok(()),
            _ => self.producer.flush(self.patience),
        }
    }

    fn flush_later(&mut self) -> Result<Option<Later>> {
        self.drain()?;
        self.producer.release()?;
        Ok((self.guarantee == "at-least-once").then(|| self.producer.flush_later(self.patience)))
    }

    fn release(&mut self) -> Result<()> {
        self.producer.try_release()
    }

    fn tick(&mut self, now: Millis) -> Result<()> {
        if self.buffer.as_mut().is_some_and(|b| b.is_due(now)) { self.drain() } else { Ok(()) }
    }
}

/// The last record of each key (`sink.buffer-flush.*`), in the order of their last change.
struct Buffer {
    most: usize,
    interval: i64,
    positions: HashMap<Box<[u8]>, usize>,
    entries: Vec<Option<(Box<[u8]>, Option<Box<[u8]>>)>>,
    last_drain: Option<Millis>,
    changes: usize,
}

impl Buffer {
    fn new(most: usize, interval: Duration) -> Self {
        let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        Self { most, interval, positions: HashMap::new(), entries: vec![], last_drain: None, changes: 0 }
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.changes += 1;
        let at = self.entries.len();
        if let Some(old) = self.positions.insert(key.into(), at) {
            self.entries[old] = None;
        }
        self.entries.push(Some((key.into(), value.map(Into::into))));
    }

    fn is_full(&self) -> bool {
        self.changes >= self.most
    }

    fn is_due(&mut self, now: Millis) -> bool {
        let last = *self.last_drain.get_or_insert(now);
        let due = now - last >= self.interval;
        if due {
            self.last_drain = Some(now);
        }
        due && !self.entries.is_empty()
    }

    fn take(&mut self) -> impl Iterator<Item = (Box<[u8]>, Option<Box<[u8]>>)> + use<> {
        self.positions.clear();
        self.changes = 0;
        std::mem::take(&mut self.entries).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_keeps_the_last_of_each_key() {
        let mut buffer = Buffer::new(4, Duration::from_secs(1));
        buffer.put(b"a", Some(b"1"));
        buffer.put(b"b", Some(b"2"));
        buffer.put(b"a", None);
        assert!(!buffer.is_full());
        assert!(!buffer.is_due(100) && !buffer.is_due(1099));
        assert!(buffer.is_due(1100));
        buffer.put(b"c", Some(b"3"));
        assert!(buffer.is_full());
        let entries: Vec<_> = buffer.take().map(|(k, v)| (k.to_vec(), v.map(|v| v.to_vec()))).collect();
        let expected = [(b"b".to_vec(), Some(b"2".to_vec())), (b"a".to_vec(), None), (b"c".to_vec(), Some(b"3".to_vec()))];
        assert_eq!(entries, expected);
        assert_eq!(buffer.take().count(), 0);
    }
}
