//! The Kafka connectors against real Kafka, without the engine: one started for it, or the one at `SLUICE_KAFKA=host:port`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::pretty::pretty_format_batches;
use libtest_mimic::{Arguments, Trial};
use sluice_batch::{Batch, Error, Expr, Field, RowKind, Span, SqlType, TypeKind};
use sluice_connect::{
    MetadataColumn, ScanColumn, ScanRequest, Sink, Source, SourceEvent, TableOption, TableSpec, WatermarkSpec, open_sink, open_source,
};
use sluice_tests::services::Services;

const UTC: chrono_tz::Tz = chrono_tz::Tz::UTC;

static SERVERS: OnceLock<String> = OnceLock::new();

fn servers() -> String {
    SERVERS.get().expect("main has set it").clone()
}

fn main() {
    let args = Arguments::from_args();
    let tests: &[(&str, fn())] = &[
        ("keys_values_and_metadata", keys_values_and_metadata),
        ("headers_are_written_and_read", headers_are_written_and_read),
        ("startup_and_bounded_modes", startup_and_bounded_modes),
        ("goes_on_at_positions_and_finds_new_topics", goes_on_at_positions_and_finds_new_topics),
        ("upserts_and_tombstones", upserts_and_tombstones),
        ("malformed_records_name_their_place_or_go_to_the_dead_letters", malformed_records_name_their_place_or_go_to_the_dead_letters),
        ("watermarks_follow_each_row_on_event", watermarks_follow_each_row_on_event),
        ("what_is_not_there_is_said", what_is_not_there_is_said),
    ];
    let given = std::env::var("SLUICE_KAFKA").ok();
    let services = (given.is_none() && !args.list).then(Services::start);
    SERVERS.set(given.or(services.as_ref().map(|s| s.bootstrap.clone())).unwrap_or_default()).expect("set once");
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(&args, tests.iter().map(trial).collect());
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
    ScanRequest { columns, watermark: None, force_bounded: false, time_zone: UTC }
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
    let mut sink = open_sink(&raw, UTC).unwrap();
    write(sink.as_mut(), vec![strings(values)], None);
    sink.flush(true).unwrap();
}

const EARLIEST: (&str, &str) = ("scan.startup.mode", "earliest-offset");

fn keys_values_and_metadata() {
    let topic = topic("meta");
    let options = [
        EARLIEST,
        ("key.format", "raw"),
        ("key.fields", "k_id"),
        ("value.format", "json"),
        ("value.fields-include", "EXCEPT_KEY"),
        ("key.fields-prefix", "k_"),
    ];
    let mut spec = table("kafka", &topic, &options, &[("k_id", string()), ("n", int()), ("s", string())]);
    // Declared as TIMESTAMP, as in Flink's own examples: cast in the session's time zone, both ways.
    spec.metadata = vec![metadata("timestamp", TypeKind::Timestamp(3).nullable())];
    let mut sink = open_sink(&spec, UTC).unwrap();
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_000_000, 2_000_000, 3_000_000]));
    let columns =
        vec![strings(&[Some("a"), Some("b"), None]), ints(&[Some(1), None, Some(3)]), strings(&[Some("x"), Some("y"), None]), times];
    write(sink.as_mut(), columns, None);
    sink.flush(true).unwrap();

    for key in ["topic", "partition", "offset", "timestamp-type", "headers"] {
        let ty = match key {
            "partition" => int(),
            "offset" => TypeKind::BigInt.nullable(),
            "headers" => TypeKind::Map(Box::new(string()), Box::new(TypeKind::BYTES.nullable())).nullable(),
            _ => string(),
        };
        spec.metadata.push(MetadataColumn { is_virtual: true, ..metadata(key, ty) });
    }
    let expected = |i: usize, row: &str| format!("+I {row} 1970-01-01T00:00:0{} {topic} 0 {i} CreateTime {{}}", i + 1);
    assert_eq!(read_all(&spec), [expected(0, "a 1 x"), expected(1, "b  y"), expected(2, " 3 ")]);

    // Only what the plan wants, in its order.
    let request =
        ScanRequest { columns: vec![ScanColumn::Metadata(3), ScanColumn::Physical(1), ScanColumn::Physical(0)], ..bounded(&spec) };
    assert_eq!(read(open_source(&spec, &request).unwrap().as_mut(), usize::MAX).unwrap(), ["+I 0 1 a", "+I 1  b", "+I 2 3 "]);
    let none = ScanRequest { columns: vec![], ..bounded(&spec) };
    assert_eq!(read(open_source(&spec, &none).unwrap().as_mut(), usize::MAX).unwrap().len(), 3);
}

fn headers_are_written_and_read() {
    let topic = topic("headers");
    let map = TypeKind::Map(Box::new(string()), Box::new(TypeKind::BYTES.nullable())).nullable();
    let mut spec = table("kafka", &topic, &[EARLIEST, ("format", "raw")], &[("v", string())]);
    spec.metadata = vec![metadata("headers", map.clone())];
    use sluice_batch::Datum;
    let entry = |k: &str, v: &[u8]| (Datum::string(k), Datum::Bytes(Arc::from(v)));
    let maps = [Datum::Map(Arc::from(vec![entry("a", b"1"), (Datum::string("b"), Datum::Null)])), Datum::Null];
    let headers = sluice_batch::datum::from_datums(&maps, &map).unwrap();
    let mut sink = open_sink(&spec, UTC).unwrap();
    write(sink.as_mut(), vec![strings(&[Some("x"), Some("y")]), headers], None);
    sink.flush(true).unwrap();
    assert_eq!(read_all(&spec), ["+I x {a: 31, b: }", "+I y {}"]);
}

fn startup_and_bounded_modes() {
    let topic = topic("modes");
    let mut spec = table("kafka", &topic, &[("format", "raw")], &[("v", string())]);
    spec.metadata = vec![metadata("timestamp", TypeKind::TimestampLtz(3).nullable())];
    let mut sink = open_sink(&spec, UTC).unwrap();
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values((1..=5).map(|i| i * 1_000_000)).with_timezone("UTC"));
    write(sink.as_mut(), vec![strings(&["1", "2", "3", "4", "5"].map(Some)), times], None);
    sink.flush(true).unwrap();

    let with = |more: &[(&str, &str)]| {
        let options: Vec<_> = [("format", "raw")].iter().chain(more).copied().collect();
        read_all(&table("kafka", &topic, &options, &[("v", string())])).iter().map(|r| r[3..].to_owned()).collect::<Vec<_>>().join("")
    };
    assert_eq!(with(&[EARLIEST]), "12345");
    assert_eq!(with(&[("scan.startup.mode", "latest-offset")]), "");
    assert_eq!(with(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "3000")]), "345");
    assert_eq!(with(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "9000")]), "");
    assert_eq!(with(&[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:3")]), "45");
    assert_eq!(with(&[EARLIEST, ("scan.bounded.mode", "timestamp"), ("scan.bounded.timestamp-millis", "3000")]), "12");
    assert_eq!(
        with(&[EARLIEST, ("scan.bounded.mode", "specific-offsets"), ("scan.bounded.specific-offsets", "partition:0,offset:1")]),
        "1"
    );
    let group = topic.clone();
    let grouped = [("format", "raw"), ("properties.group.id", group.as_str())];
    let spec = table("kafka", &topic, &grouped, &[("v", string())]);
    let error = open_source(&spec, &bounded(&spec)).err().unwrap();
    assert!(error.to_string().contains("no committed offset"), "{error}");
    let reset: Vec<_> = grouped.iter().copied().chain([("properties.auto.offset.reset", "earliest")]).collect();
    let spec = table("kafka", &topic, &reset, &[("v", string())]);
    let mut source = open_source(&spec, &bounded(&spec)).unwrap();
    assert_eq!(read(source.as_mut(), usize::MAX).unwrap().len(), 5);
    source.commit().unwrap();
    drop(source);
    produce(&topic, &[Some("6")]);
    let spec = table("kafka", &topic, &grouped, &[("v", string())]);
    assert_eq!(read_all(&spec), ["+I 6"]);
    assert_eq!(with(&[EARLIEST, ("scan.bounded.mode", "group-offsets"), ("properties.group.id", &group)]), "12345");
}

fn goes_on_at_positions_and_finds_new_topics() {
    let (first, second) = (topic("pos"), topic("pos2"));
    produce(&first, &[Some("1"), Some("2"), Some("3")]);
    let both = format!("{first};{second}");
    let options = [EARLIEST, ("format", "raw"), ("scan.topic-partition-discovery.interval", "200 ms")];
    let spec = table("kafka", &both, &options, &[("v", string())]);
    let mut source = open_source(&spec, &request(&spec)).unwrap();
    source.seek(&[(format!("{first}-0"), "2".into())]).unwrap();
    assert_eq!(source.positions(), [(format!("{first}-0"), "2".to_owned())]);
    assert_eq!(read(source.as_mut(), 1).unwrap(), ["+I 3"]);
    produce(&second, &[Some("new")]);
    assert_eq!(read(source.as_mut(), 1).unwrap(), ["+I new"]);
    assert_eq!(source.positions(), [(format!("{first}-0"), "3".to_owned()), (format!("{second}-0"), "1".to_owned())]);
    assert_eq!(source.splits()[0].lag, Some(0));

    let mut pattern = table("kafka", "x", &options, &[("v", string())]);
    pattern.options[1] = option("topic-pattern", &format!("{}.*", &first[..first.len() - 3]));
    assert_eq!(read_all(&pattern).len(), 3);
}

fn upserts_and_tombstones() {
    let topic = topic("upsert");
    let options = [("key.format", "json"), ("value.format", "json")];
    let mut spec = table("upsert-kafka", &topic, &options, &[("id", int()), ("name", string())]);
    spec.primary_key = Some(vec![0]);
    let mut sink = open_sink(&spec, UTC).unwrap();
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let names = [Some("a"), Some("b"), Some("a"), Some("a2"), Some("b")];
    let columns = vec![ints(&[1, 2, 1, 1, 2].map(Some)), strings(&names)];
    write(sink.as_mut(), columns, Some(&[Insert, Insert, UpdateBefore, UpdateAfter, Delete]));
    sink.flush(true).unwrap();
    assert_eq!(
        read_all(&spec),
        ["+I 1 a", "+I 2 b", "-D 1", "+I 1 a2", "-D 2"].map(|r| if r.len() == 4 { format!("{r} ") } else { r.into() })
    );

    // What is in the topic, byte by byte.
    let raw = [EARLIEST, ("key.format", "raw"), ("key.fields", "k"), ("value.format", "raw"), ("value.fields-include", "EXCEPT_KEY")];
    let raw = table("kafka", &topic, &raw, &[("k", string()), ("v", string())]);
    let lines = read_all(&raw);
    assert_eq!(lines[0], r#"+I {"id":1} {"id":1,"name":"a"}"#);
    assert_eq!(lines[2], r#"+I {"id":1} "#);

    // Values without the key.
    let mut except = spec.clone();
    except.options.push(option("value.fields-include", "EXCEPT_KEY"));
    except.options[1].value = topic.clone() + "-except";
    let mut sink = open_sink(&except, UTC).unwrap();
    write(sink.as_mut(), vec![ints(&[Some(7), Some(7)]), strings(&[Some("x"), None])], Some(&[Insert, Delete]));
    sink.flush(true).unwrap();
    assert_eq!(read_all(&except), ["+I 7 x", "-D 7 "]);

    // Buffered: only the last change of each key is written.
    let mut buffered = spec.clone();
    buffered.options[1].value = topic + "-buffered";
    buffered.options.extend([option("sink.buffer-flush.max-rows", "100"), option("sink.buffer-flush.interval", "1 s")]);
    let mut sink = open_sink(&buffered, UTC).unwrap();
    write(sink.as_mut(), vec![ints(&[1, 2, 1].map(Some)), strings(&names[..3])], Some(&[Insert, Insert, Delete]));
    sink.flush(true).unwrap();
    assert_eq!(read_all(&buffered), ["+I 2 b", "-D 1 "]);
}

fn malformed_records_name_their_place_or_go_to_the_dead_letters() {
    let (topic, dead) = (topic("bad"), topic("dead"));
    produce(&topic, &[Some(r#"{"n":1}"#), Some("{broken"), Some(r#"{"n":3}"#)]);
    let mut spec = table("kafka", &topic, &[EARLIEST, ("format", "json")], &[("n", int())]);
    let mut source = open_source(&spec, &bounded(&spec)).unwrap();
    let error = read(source.as_mut(), usize::MAX).unwrap_err();
    assert!(error.to_string().contains(&format!("topic '{topic}' partition 0 offset 1: ")), "{error}");
    assert_eq!(source.positions()[0].1, "0");
    spec.options.push(option("scan.dead-letter-topic", &dead));
    let mut source = open_source(&spec, &bounded(&spec)).unwrap();
    assert_eq!(read(source.as_mut(), usize::MAX).unwrap(), ["+I 1", "+I 3"]);
    source.commit().unwrap();
    assert_eq!(read_all(&table("kafka", &dead, &[EARLIEST, ("format", "raw")], &[("v", string())])), ["+I {broken"]);
}

fn watermarks_follow_each_row_on_event() {
    let topic = topic("wm");
    produce(&topic, &[Some("1"), Some("3"), Some("2"), Some("4")]);
    let spec = table("kafka", &topic, &[EARLIEST, ("format", "json")], &[("v", string())]);
    let mut spec = TableSpec { physical: vec![Field::new("v", string())], ..spec };
    spec.options.last_mut().unwrap().value = "raw".into();
    spec.metadata = vec![metadata("timestamp", TypeKind::TimestampLtz(3).nullable())];
    let watermark = WatermarkSpec {
        expr: Expr::column(1, TypeKind::TimestampLtz(3).nullable()),
        column: 1,
        on_event: true,
        interval: Duration::from_millis(200),
        idle_timeout: Duration::ZERO,
    };
    let mut source = open_source(&spec, &ScanRequest { watermark: Some(watermark), ..bounded(&spec) }).unwrap();
    let (mut rows, mut marks) = (0, vec![]);
    loop {
        match source.poll(Duration::from_millis(100), 0).unwrap() {
            SourceEvent::Rows(b) => {
                let times = b.column(1).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
                assert!(marks.is_empty() || times.values().iter().all(|t| t / 1000 >= marks[marks.len() - 1]));
                rows += b.rows();
            }
            SourceEvent::Watermark(w) => marks.push(w),
            SourceEvent::End => break,
            _ => {}
        }
    }
    assert_eq!(rows, 4);
    assert!(!marks.is_empty() && marks.is_sorted());
}

fn what_is_not_there_is_said() {
    let spec = table("kafka", &topic("none"), &[EARLIEST, ("format", "raw")], &[("v", string())]);
    let error = open_source(&spec, &bounded(&spec)).err().unwrap();
    assert!(error.message().contains("there is no topic"), "{error}");
    let mut waiting = open_source(&spec, &request(&spec)).unwrap();
    assert!(matches!(waiting.poll(Duration::from_millis(10), 0).unwrap(), SourceEvent::Pending));
    produce(&spec.options[1].value, &[Some("came")]);
    assert_eq!(read(waiting.as_mut(), 1).unwrap(), ["+I came"]);

    let mut spec = spec;
    spec.options[2].value = "127.0.0.1:1".into();
    spec.options.push(option("properties.default.api.timeout.ms", "1500"));
    let error = open_source(&spec, &request(&spec)).err().unwrap();
    assert!(error.message().contains("cannot reach Kafka at 127.0.0.1:1"), "{error}");
    let error = open_sink(&spec, UTC).err().unwrap();
    assert!(error.message().contains("cannot reach Kafka at 127.0.0.1:1"), "{error}");
}
