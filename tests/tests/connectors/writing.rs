//! Sinks: headers, topics, partitions, tombstones, buffers, guarantees.

use std::time::Duration;

use sluice_batch::Datum;
use sluice_connect::Transactions;
use sluice_tests::engine::Run;
use sluice_tests::services::wait_until;
use sluice_tests::topics::Reader;

use super::*;

pub fn headers_are_written_and_read() {
    let topic = topic("headers");
    let map = TypeKind::Map(Box::new(string()), Box::new(TypeKind::BYTES.nullable())).nullable();
    let mut spec = table("kafka", &topic, &[EARLIEST, ("format", "raw")], &[("v", string())]);
    spec.metadata = vec![metadata("headers", map.clone())];
    let entry = |k: &str, v: &[u8]| (Datum::string(k), Datum::Bytes(Arc::from(v)));
    let maps = [Datum::Map(Arc::from(vec![entry("a", b"1"), (Datum::string("b"), Datum::Null)])), Datum::Null];
    let headers = sluice_batch::datum::from_datums(&maps, &map).unwrap();
    let mut sink = open_sink(&spec, UTC, &Default::default()).unwrap();
    write(sink.as_mut(), vec![strings(&[Some("x"), Some("y")]), headers], None);
    sink.flush(true).unwrap();
    assert_eq!(read_all(&spec), ["+I x {a: 31, b: }", "+I y {}"]);
}

pub fn upserts_and_tombstones() {
    let topic = topic("upsert");
    let options = [("key.format", "json"), ("value.format", "json")];
    let mut spec = table("upsert-kafka", &topic, &options, &[("id", int()), ("name", string())]);
    spec.primary_key = Some(vec![0]);
    let mut sink = open_sink(&spec, UTC, &Default::default()).unwrap();
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
    let mut sink = open_sink(&except, UTC, &Default::default()).unwrap();
    write(sink.as_mut(), vec![ints(&[Some(7), Some(7)]), strings(&[Some("x"), None])], Some(&[Insert, Delete]));
    sink.flush(true).unwrap();
    assert_eq!(read_all(&except), ["+I 7 x", "-D 7 "]);

    // Buffered: only the last change of each key is written.
    let mut buffered = spec.clone();
    buffered.options[1].value = topic + "-buffered";
    buffered.options.extend([option("sink.buffer-flush.max-rows", "100"), option("sink.buffer-flush.interval", "1 s")]);
    let mut sink = open_sink(&buffered, UTC, &Default::default()).unwrap();
    write(sink.as_mut(), vec![ints(&[1, 2, 1].map(Some)), strings(&names[..3])], Some(&[Insert, Insert, Delete]));
    sink.flush(true).unwrap();
    assert_eq!(read_all(&buffered), ["+I 2 b", "-D 1 "]);
}

/// What a topic has now: partition, key and value.
fn content(topic: &str) -> Vec<(i32, String, String)> {
    let reader = Reader::new(&servers(), &[topic.to_owned()]);
    let text = |b: Option<Vec<u8>>| b.map_or("-".to_owned(), |b| String::from_utf8(b).unwrap());
    reader.read(reader.available()).into_iter().map(|r| (r.partition, text(r.key), text(r.value))).collect()
}

pub fn topics_are_chosen_by_row() {
    let (first, second) = (created("choice", 1), created("choice2", 1));
    let mut spec = raw(&format!("{first};{second}"), &[]);
    let error = open_sink(&spec, UTC, &Default::default()).err().unwrap();
    assert!(error.message().contains("no single topic"), "{error}");
    spec.metadata = vec![metadata("topic", string())];
    let mut sink = open_sink(&spec, UTC, &Default::default()).unwrap();
    write(sink.as_mut(), vec![strings(&["1", "2", "3"].map(Some)), strings(&[Some(&first), Some(&second), Some(&first)])], None);
    sink.flush(true).unwrap();
    assert_eq!((content(&first).len(), content(&second)), (2, vec![(0, "-".into(), "2".into())]));
    let nowhere = sink.write(&Batch::new(vec![strings(&[Some("4")]), strings(&[None])], 1)).unwrap_err();
    assert!(nowhere.message().contains("'topic' is NULL"), "{nowhere}");
}

pub fn partitioners() {
    let write_all = |options: &[(&str, &str)], rows: usize| {
        let topic = created("partitioner", 5);
        let spec = raw(&topic, options);
        let mut sink = open_sink(&spec, UTC, &Default::default()).unwrap();
        write(sink.as_mut(), vec![strings(&vec![Some("v"); rows])], None);
        sink.flush(true).unwrap();
        let mut counts = [0; 5];
        content(&topic).iter().for_each(|(p, ..)| counts[*p as usize] += 1);
        counts
    };
    assert_eq!(write_all(&[("sink.partitioner", "fixed")], 10), [10, 0, 0, 0, 0]);
    assert_eq!(write_all(&[("sink.partitioner", "round-robin")], 10), [2; 5]);
    assert_eq!(write_all(&[("sink.partitioner", "default")], 10).iter().sum::<i32>(), 10);

    // Keys go where the Java client would put them: murmur2 by Kafka's own `UtilsTest`, modulo the partitions.
    let topic = created("murmur", 5);
    let options = [("key.format", "raw"), ("key.fields", "k"), ("value.format", "json")];
    let keyed = table("kafka", &topic, &options, &[("k", string()), ("n", int())]);
    let mut sink = open_sink(&keyed, UTC, &Default::default()).unwrap();
    let hashes = [("21", -973_932_308_i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536), ("abc", 479_470_107)];
    write(sink.as_mut(), vec![strings(&hashes.map(|(k, _)| Some(k))), ints(&[Some(1); 4])], None);
    sink.flush(true).unwrap();
    let found = content(&topic);
    for (key, hash) in hashes {
        let partition = (hash & 0x7fff_ffff) % 5;
        assert!(found.iter().any(|(p, k, _)| k == key && *p == partition), "{key} in {partition}: {found:?}");
    }

    let refused = |options: &[(&str, &str)]| {
        told(&open_sink(&table("kafka", &topic, options, &[("k", string())]), UTC, &Default::default()).err().unwrap())
    };
    let class = refused(&[("format", "json"), ("sink.partitioner", "org.example.MyPartitioner")]);
    assert!(class.contains("default, fixed, round-robin") && class.contains("classes of your own cannot be used"), "{class}");
    let both = refused(&[("value.format", "json"), ("key.format", "raw"), ("key.fields", "k"), ("sink.partitioner", "round-robin")]);
    assert!(both.contains("exclude each other"), "{both}");
}

pub fn buffers_are_emptied_when_full_or_due() {
    let topic = created("buffer", 1);
    let options =
        [("key.format", "json"), ("value.format", "json"), ("sink.buffer-flush.max-rows", "3"), ("sink.buffer-flush.interval", "10 s")];
    let mut spec = table("upsert-kafka", &topic, &options, &[("id", int()), ("name", string())]);
    spec.primary_key = Some(vec![0]);
    let mut sink = open_sink(&spec, UTC, &Default::default()).unwrap();
    let put = |sink: &mut dyn Sink, id| write(sink, vec![ints(&[Some(id)]), strings(&[Some("x")])], None);
    sink.tick(0).unwrap();
    put(sink.as_mut(), 1);
    put(sink.as_mut(), 1);
    sink.tick(9_999).unwrap();
    assert_eq!(content(&topic).len(), 0, "neither full nor due");
    put(sink.as_mut(), 2);
    let has = |n| move || content(&topic).len() == n;
    wait_until("three changes are two records", Duration::from_secs(5), has.clone()(2));
    put(sink.as_mut(), 3);
    sink.tick(20_000).unwrap();
    wait_until("what is due", Duration::from_secs(5), has(3));

    spec.options.retain(|o| o.key != "sink.buffer-flush.max-rows");
    let error = open_sink(&spec, UTC, &Default::default()).err().unwrap();
    assert!(told(&error).contains("sink.buffer-flush.max-rows") && told(&error).contains("both"), "{error}");
}

pub fn guarantees() {
    let topic = created("guarantee", 1);
    for guarantee in ["none", "at-least-once"] {
        let spec = raw(&topic, &[("sink.delivery-guarantee", guarantee)]);
        assert_eq!(sluice_connect::sink_info(&spec).unwrap().guarantee, guarantee);
        let mut sink = open_sink(&spec, UTC, &Default::default()).unwrap();
        write(sink.as_mut(), vec![strings(&[Some(guarantee)])], None);
        sink.flush(true).unwrap();
    }
    assert_eq!(content(&topic).iter().map(|(.., v)| v.as_str()).collect::<Vec<_>>(), ["none", "at-least-once"]);
    let exact = [("sink.delivery-guarantee", "exactly-once"), ("sink.transactional-id-prefix", topic.as_str())];
    let error = open_sink(&raw(&topic, &exact[..1]), UTC, &Default::default()).err().unwrap();
    assert!(told(&error).contains("exactly-once needs the option 'sink.transactional-id-prefix'"), "{error}");
    let spec = raw(&topic, &exact);
    let open = || Transactions::open(&[&spec], "p", Duration::from_secs(1), crate::UTC).unwrap();
    let first = open();
    let mut sink = open_sink(&spec, UTC, &first).unwrap();
    write(sink.as_mut(), vec![strings(&[Some("committed")])], None);
    sink.flush(false).unwrap();
    first.commit(&[]).unwrap();
    write(sink.as_mut(), vec![strings(&[Some("not committed")])], None);
    // Another one begins: the first cannot go on.
    let second = open();
    let error = first.commit(&[]).unwrap_err();
    assert!(error.is_last() && error.message().contains("another instance"), "{error}");
    let mut sink = open_sink(&spec, UTC, &second).unwrap();
    write(sink.as_mut(), vec![strings(&[Some("by the second")])], None);
    second.commit(&[]).unwrap();
    let read = topics::committed(&servers(), &topic).into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap());
    let read: Vec<_> = read.collect();
    assert_eq!(read, ["none", "at-least-once", "committed", "by the second"]);
}

/// The engine gives each row of an upsert table its kind: an insert first, updates with the old row, deletes with the whole row.
pub fn upserts_are_normalised() {
    let topic = created("normalise", 1);
    let record = |key: &str, value: Option<&str>| Record {
        topic: topic.clone(),
        timestamp: 1,
        key: Some(key.into()),
        value: value.map(Into::into),
        ..Record::default()
    };
    topics::produce(
        &servers(),
        &[
            record(r#"{"id":1}"#, Some(r#"{"id":1,"name":"a"}"#)),
            record(r#"{"id":2}"#, Some(r#"{"id":2,"name":"b"}"#)),
            record(r#"{"id":1}"#, Some(r#"{"id":1,"name":"c"}"#)),
            record(r#"{"id":2}"#, None),
            record(r#"{"id":3}"#, None),
        ],
    );
    let sql = format!(
        "CREATE TABLE t (id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = '{topic}',          'properties.bootstrap.servers' = '{}', 'key.format' = 'json', 'value.format' = 'json'); SELECT * FROM t;",
        servers()
    );
    let output = Run::script(&sql, &["--bounded", "--output", "changelog-json"]).wait(Duration::from_secs(20));
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |op: &str, id: i32, name: &str| format!(r#"{{"op":"{op}","data":{{"id":{id},"name":"{name}"}}}}"#);
    let expected = [row("+I", 1, "a"), row("+I", 2, "b"), row("-U", 1, "a"), row("+U", 1, "c"), row("-D", 2, "b")];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{}", String::from_utf8_lossy(&output.stderr));
}
