//! The connectors against real Kafka, most of them without the engine: one started for it, or the one at `SLUICE_KAFKA=host:port`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod programs;
mod reading;
mod time;
mod writing;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use libtest_mimic::Arguments;
use sluice_batch::{Batch, Error, Field, RowKind, Span, SqlType, TypeKind};
use sluice_connect::{
    MetadataColumn, ScanColumn, ScanRequest, Share, Sink, Source, SourceEvent, TableOption, TableSpec, open_sink, open_source,
};
use sluice_tests::services::Services;
use sluice_tests::topics::{self, Record};
use sluice_tests::trials::trials;

const UTC: chrono_tz::Tz = chrono_tz::Tz::UTC;
const EARLIEST: (&str, &str) = ("scan.startup.mode", "earliest-offset");

static SERVERS: OnceLock<String> = OnceLock::new();

fn servers() -> String {
    SERVERS.get().expect("main has set it").clone()
}

fn main() {
    let args = Arguments::from_args();
    let tests: &[(&str, fn())] = sluice_tests::tests![
        reading::keys_values_and_metadata,
        reading::metadata_of_the_broker,
        reading::startup_and_bounded_modes,
        reading::offsets_of_several_partitions,
        reading::latest_reads_what_comes,
        reading::goes_on_at_positions_and_finds_new_topics,
        reading::patterns_find_topics_and_partitions,
        reading::records_without_value,
        reading::transactions,
        writing::headers_are_written_and_read,
        writing::topics_are_chosen_by_row,
        writing::partitioners,
        writing::upserts_and_tombstones,
        writing::buffers_are_emptied_when_full_or_due,
        writing::guarantees,
        writing::upserts_are_normalised,
        time::watermarks_follow_each_row_on_event,
        time::watermarks_are_kept_by_partition,
        bad_input::what_is_not_there_is_said,
        bad_input::malformed_records_name_their_place_or_go_to_the_dead_letters,
        bad_input::malformed_keys_are_malformed_records,
        bad_input::records_that_cannot_be_written,
        bad_input::options_that_cannot_be,
        programs::captured_changes_are_a_table,
        programs::rows_are_requests,
    ];
    let given = std::env::var("SLUICE_KAFKA").ok();
    let services = (given.is_none() && !args.list).then(Services::start);
    SERVERS.set(given.or(services.as_ref().map(|s| s.bootstrap.clone())).unwrap_or_default()).expect("set once");
    let conclusion = libtest_mimic::run(&args, trials(tests));
    drop(services);
    conclusion.exit();
}

/// A topic of its own for each test and run.
fn topic(name: &str) -> String {
    format!("connect-{name}-{:08x}", rand::random::<u32>())
}

fn table(connector: &str, topic: &str, options: &[(&str, &str)], fields: &[(&str, SqlType)]) -> TableSpec {
    let servers = servers();
    let base = [("connector", connector), ("topic", topic), ("properties.bootstrap.servers", servers.as_str())];
    TableSpec {
        name: "t".into(),
        physical: fields.iter().map(|(n, t)| Field::new(*n, t.clone())).collect(),
        metadata: vec![],
        primary_key: None,
        options: base.iter().chain(options).map(|(k, v)| option(k, v)).collect(),
        span: Span::NONE,
    }
}

fn option(key: &str, value: &str) -> TableOption {
    TableOption { key: key.into(), value: value.into(), key_span: Span::NONE, value_span: Span::NONE }
}

fn metadata(key: &str, ty: SqlType) -> MetadataColumn {
    MetadataColumn { key: key.into(), field: Field::new(key, ty), is_virtual: false }
}

fn string() -> SqlType {
    TypeKind::STRING.nullable()
}

fn int() -> SqlType {
    TypeKind::Int.nullable()
}

fn request(table: &TableSpec) -> ScanRequest {
    let physical = (0..table.physical.len()).map(ScanColumn::Physical);
    let columns = physical.chain((0..table.metadata.len()).map(ScanColumn::Metadata)).collect();
    ScanRequest { columns, watermark: None, force_bounded: false, time_zone: UTC, share: Share::ALL, group: None, filter: None }
}

fn bounded(table: &TableSpec) -> ScanRequest {
    ScanRequest { force_bounded: true, ..request(table) }
}

/// Rows as text: `+I 1 a NULL`.
fn rows(batch: &Batch) -> Vec<String> {
    let columns = batch.columns().iter().enumerate().map(|(i, c)| (i.to_string(), c.clone()));
    if batch.columns().is_empty() {
        return vec![String::new(); batch.rows()];
    }
    let text = pretty_format_batches(&[RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()]).unwrap();
    let lines: Vec<String> = text.to_string().lines().skip(3).take(batch.rows()).map(str::to_owned).collect();
    let cells = |l: &String| l.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>().join(" ");
    lines.iter().enumerate().map(|(i, l)| format!("{} {}", batch.kind(i).symbol(), cells(l))).collect()
}

/// Reads to the end, or until `enough` rows are there.
fn read(source: &mut dyn Source, enough: usize) -> Result<Vec<String>, Error> {
    let (mut out, started) = (vec![], Instant::now());
    while out.len() < enough {
        match source.poll(Duration::from_millis(100), started.elapsed().as_millis() as i64)? {
            SourceEvent::Rows(b) => out.extend(rows(&b)),
            SourceEvent::End => return Ok(out),
            _ => assert!(started.elapsed() < Duration::from_secs(20), "only {out:?}"),
        }
    }
    Ok(out)
}

fn read_all(table: &TableSpec) -> Vec<String> {
    read(open_source(table, &bounded(table)).unwrap().as_mut(), usize::MAX).unwrap()
}

/// Commits where the source stands.
fn commit(source: &mut dyn Source) {
    if let Some(later) = source.commit().unwrap() {
        later().unwrap();
    }
}

fn ints(values: &[Option<i32>]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn write(sink: &mut dyn Sink, columns: Vec<ArrayRef>, kinds: Option<&[RowKind]>) {
    let rows = columns[0].len();
    sink.write(&Batch::with_kinds(columns, kinds.map(Arc::from), rows)).unwrap();
}

/// Raw lines into a topic.
fn produce(topic: &str, values: &[Option<&str>]) {
    let raw = table("kafka", topic, &[("format", "raw")], &[("v", string())]);
    let mut sink = open_sink(&raw, UTC, &Default::default()).unwrap();
    write(sink.as_mut(), vec![strings(values)], None);
    sink.flush(true).unwrap();
}

/// A topic with so many partitions.
fn created(name: &str, partitions: i32) -> String {
    let topic = topic(name);
    topics::create(&servers(), &[(topic.clone(), partitions)]);
    topic
}

/// Values into one partition, with timestamps 1000, 2000, ….
fn produce_to(topic: &str, partition: i32, values: &[&str]) {
    let value = |v: &&str| Some(v.as_bytes().to_vec());
    let record =
        |(i, v)| Record { topic: topic.to_owned(), partition, timestamp: 1000 * (i as i64 + 1), value: value(v), ..Record::default() };
    topics::produce(&servers(), &values.iter().enumerate().map(record).collect::<Vec<_>>());
}

/// A table with one STRING column of the raw value.
fn raw(topic: &str, options: &[(&str, &str)]) -> TableSpec {
    let options: Vec<_> = [("format", "raw")].iter().chain(options).copied().collect();
    table("kafka", topic, &options, &[("v", string())])
}

/// The values of a raw table in order of their text.
fn sorted(mut rows: Vec<String>) -> String {
    rows.sort();
    rows.iter().map(|r| r[3..].trim().to_owned()).collect::<Vec<_>>().join(" ")
}

/// The message and hint of an error.
fn told(error: &Error) -> String {
    format!("{} ({})", error.message(), error.hint_text().unwrap_or_default())
}
