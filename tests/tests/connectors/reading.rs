//! Sources: metadata, where reading starts and ends, topics that come later, transactions.

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;

pub fn keys_values_and_metadata() {
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
    let mut sink = open_sink(&spec, UTC, &Default::default()).unwrap();
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

pub fn startup_and_bounded_modes() {
    let topic = topic("modes");
    let mut spec = table("kafka", &topic, &[("format", "raw")], &[("v", string())]);
    spec.metadata = vec![metadata("timestamp", TypeKind::TimestampLtz(3).nullable())];
    let mut sink = open_sink(&spec, UTC, &Default::default()).unwrap();
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
    commit(source.as_mut());
    drop(source);
    produce(&topic, &[Some("6")]);
    let spec = table("kafka", &topic, &grouped, &[("v", string())]);
    assert_eq!(read_all(&spec), ["+I 6"]);
    assert_eq!(with(&[EARLIEST, ("scan.bounded.mode", "group-offsets"), ("properties.group.id", &group)]), "12345");
}

pub fn goes_on_at_positions_and_finds_new_topics() {
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

pub fn metadata_of_the_broker() {
    let topic = topic("broker");
    topics::create_with(&servers(), &topic, 2, &[("message.timestamp.type", "LogAppendTime")]);
    produce_to(&topic, 1, &["x"]);
    let mut spec = raw(&topic, &[EARLIEST]);
    spec.metadata = vec![
        metadata("timestamp-type", string()),
        metadata("leader-epoch", int()),
        metadata("partition", TypeKind::BigInt.nullable()),
        metadata("timestamp", TypeKind::Timestamp(3).nullable()),
    ];
    let rows = read_all(&spec);
    assert!(rows[0].starts_with("+I x LogAppendTime 0 1 20"), "the broker's time: {rows:?}");

    spec.metadata = vec![metadata("timestampp", string())];
    let error = open_source(&spec, &bounded(&spec)).err().unwrap();
    assert!(told(&error).contains("no metadata 'timestampp'") && told(&error).contains("did you mean 'timestamp'?"), "{error}");
    spec.metadata = vec![metadata("headers", int())];
    let error = open_source(&spec, &bounded(&spec)).err().unwrap();
    assert!(told(&error).contains("headers"), "{error}");
}

pub fn offsets_of_several_partitions() {
    let topic = created("offsets", 3);
    for (partition, values) in [["a1", "a2", "a3"], ["b1", "b2", "b3"], ["c1", "c2", "c3"]].iter().enumerate() {
        produce_to(&topic, partition as i32, values);
    }
    let with = |more: &[(&str, &str)]| sorted(read_all(&raw(&topic, more)));
    let specific = ("scan.startup.mode", "specific-offsets");
    let at = ("scan.startup.specific-offsets", "partition:0,offset:2;partition:2,offset:1");
    assert_eq!(with(&[specific, at]), "a3 b1 b2 b3 c2 c3", "what is not named is read from its beginning");

    // A group's offsets, also in the place of those that are not named.
    let group = ("properties.group.id", topic.as_str());
    let spec = raw(&topic, &[EARLIEST, group, ("scan.bounded.mode", "timestamp"), ("scan.bounded.timestamp-millis", "3000")]);
    let mut source = open_source(&spec, &request(&spec)).unwrap();
    assert_eq!(sorted(read(source.as_mut(), usize::MAX).unwrap()), "a1 a2 b1 b2 c1 c2");
    commit(source.as_mut());
    drop(source);
    assert_eq!(with(&[group]), "a3 b3 c3");
    assert_eq!(with(&[group, specific, at]), "a3 b3 c2 c3");
    let stop = ("scan.bounded.mode", "specific-offsets");
    let until = ("scan.bounded.specific-offsets", "partition:0,offset:1;partition:1,offset:2");
    assert_eq!(with(&[EARLIEST, stop, until]), "a1 b1 b2", "what is not named is not read");
    assert_eq!(with(&[EARLIEST, group, ("scan.bounded.mode", "group-offsets")]), "a1 a2 b1 b2 c1 c2");
    assert_eq!(with(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "2000")]), "a2 a3 b2 b3 c2 c3");
}

pub fn latest_reads_what_comes() {
    let topic = created("latest", 1);
    produce(&topic, &[Some("old")]);
    let spec = raw(&topic, &[("scan.startup.mode", "latest-offset")]);
    let mut source = open_source(&spec, &request(&spec)).unwrap();
    produce(&topic, &[Some("new")]);
    assert_eq!(read(source.as_mut(), 1).unwrap(), ["+I new"]);
}

pub fn patterns_find_topics_and_partitions() {
    let first = created("pattern", 1);
    let second = format!("{first}-second");
    produce_to(&first, 0, &["1"]);
    let mut spec = raw("x", &[("scan.startup.mode", "latest-offset"), ("scan.topic-partition-discovery.interval", "100 ms")]);
    spec.options[1] = option("topic-pattern", &format!("{first}(-.*)?|__.*"));
    let mut source = open_source(&spec, &request(&spec)).unwrap();
    let names = |source: &dyn Source| source.splits().into_iter().map(|s| s.split).collect::<Vec<_>>();
    assert_eq!(names(source.as_ref()), [format!("{first}-0")], "topics of Kafka itself are not meant");
    produce_to(&first, 0, &["2"]);
    assert_eq!(read(source.as_mut(), 1).unwrap(), ["+I 2"]);
    // What appears later is read from its beginning.
    topics::create(&servers(), &[(second.clone(), 1)]);
    produce_to(&second, 0, &["3"]);
    assert_eq!(read(source.as_mut(), 1).unwrap(), ["+I 3"]);
    topics::add_partitions(&servers(), &first, 2);
    produce_to(&first, 1, &["4"]);
    assert_eq!(read(source.as_mut(), 1).unwrap(), ["+I 4"]);
    assert_eq!(names(source.as_ref()), [format!("{first}-0"), format!("{second}-0"), format!("{first}-1")]);

    spec.options[1].value = format!("{first}x+");
    let error = open_source(&spec, &bounded(&spec)).err().unwrap();
    assert!(error.message().contains(&format!("there is no topic like '{first}x+'")), "{error}");
}

pub fn records_without_value() {
    let topic = created("null", 1);
    produce(&topic, &[Some(r#"{"n":1}"#), None, Some(r#"{"n":3}"#)]);
    assert_eq!(read_all(&raw(&topic, &[EARLIEST])), [r#"+I {"n":1}"#, "+I ", r#"+I {"n":3}"#], "raw gives NULL");
    let json = table("kafka", &topic, &[EARLIEST, ("format", "json")], &[("n", int())]);
    assert_eq!(read_all(&json), ["+I 1", "+I 3"], "json gives no row");
}

pub fn transactions() {
    let topic = created("transactions", 1);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", servers()).set("transactional.id", topic.as_str()).create().unwrap();
    let wait = Duration::from_secs(20);
    producer.init_transactions(wait).unwrap();
    for (value, committed) in [("committed", true), ("aborted", false)] {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<[u8], str>::to(&topic).payload(value)).map_err(|(e, _)| e).unwrap();
        producer.flush(wait).unwrap();
        if committed { producer.commit_transaction(wait) } else { producer.abort_transaction(wait) }.unwrap();
    }
    // The last offsets are those of the transactions' markers: reading ends there all the same.
    assert_eq!(read_all(&raw(&topic, &[EARLIEST])), ["+I committed", "+I aborted"]);
    assert_eq!(read_all(&raw(&topic, &[EARLIEST, ("properties.isolation.level", "read_committed")])), ["+I committed"]);
}
