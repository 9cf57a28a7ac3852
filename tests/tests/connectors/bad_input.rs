//! What cannot be read, written or asked for.

use super::*;

pub fn what_is_not_there_is_said() {
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
    let error = open_sink(&spec, UTC, &Default::default()).err().unwrap();
    assert!(error.message().contains("cannot reach Kafka at 127.0.0.1:1"), "{error}");
}

pub fn malformed_records_name_their_place_or_go_to_the_dead_letters() {
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
    commit(source.as_mut());
    assert_eq!(read_all(&table("kafka", &dead, &[EARLIEST, ("format", "raw")], &[("v", string())])), ["+I {broken"]);
}

pub fn malformed_keys_are_malformed_records() {
    let topic = created("bad-key", 1);
    let record = |key: &str, value: &str| Record {
        topic: topic.clone(),
        timestamp: 1,
        key: Some(key.into()),
        value: Some(value.into()),
        ..Record::default()
    };
    topics::produce(&servers(), &[record("1", r#"{"n":1}"#), record("x", r#"{"n":2}"#), record("3", r#"{"n":3}"#)]);
    let options = [EARLIEST, ("key.format", "csv"), ("key.fields", "k"), ("value.format", "json"), ("value.fields-include", "EXCEPT_KEY")];
    let mut spec = table("kafka", &topic, &options, &[("k", int()), ("n", int())]);
    let error = read(open_source(&spec, &bounded(&spec)).unwrap().as_mut(), usize::MAX).unwrap_err();
    assert!(error.message().contains(&format!("topic '{topic}' partition 0 offset 1: key: ")), "{error}");
    let dead = format!("{topic}-dead");
    spec.options.push(option("scan.dead-letter-topic", &dead));
    let mut source = open_source(&spec, &bounded(&spec)).unwrap();
    assert_eq!(read(source.as_mut(), usize::MAX).unwrap(), ["+I 1 1", "+I 3 3"]);
    assert_eq!(source.malformed().dead_letters, 1);
    commit(source.as_mut());
    assert_eq!(read_all(&raw(&dead, &[EARLIEST])), [r#"+I {"n":2}"#]);
}

pub fn records_that_cannot_be_written() {
    let topic = created("refused", 1);
    let mut sink = open_sink(&raw(&topic, &[]), UTC, &Default::default()).unwrap();
    let huge = "x".repeat(2_000_000);
    let error = sink.write(&Batch::new(vec![strings(&[Some(&huge)])], 1)).and_then(|()| sink.flush(true)).unwrap_err();
    assert!(error.message().contains(&format!("topic '{topic}'")) && error.message().contains("too large"), "{error}");

    let mut timed = raw(&topic, &[]);
    timed.metadata = vec![metadata("timestamp", TypeKind::TimestampLtz(3).nullable())];
    let mut sink = open_sink(&timed, UTC, &Default::default()).unwrap();
    let times: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![-1_000_000]).with_timezone("UTC"));
    let error = sink.write(&Batch::new(vec![strings(&[Some("x")]), times], 1)).unwrap_err();
    assert!(error.message().contains("negative"), "{error}");

    // The brokers refuse what the client let pass.
    let small = super::topic("small");
    topics::create_with(&servers(), &small, 1, &[("max.message.bytes", "100")]);
    let mut sink = open_sink(&raw(&small, &[]), UTC, &Default::default()).unwrap();
    let error = sink.write(&Batch::new(vec![strings(&[Some(&huge[..1000])])], 1)).and_then(|()| sink.flush(true)).unwrap_err();
    assert!(error.message().contains(&small), "{error}");
}

pub fn options_that_cannot_be() {
    let fields = [("k_id", string()), ("n", int())];
    for (options, expected) in [
        (vec![("format", "json"), ("scan.startup.mode", "earlyest-offset")], "did you mean 'earliest-offset'?"),
        (vec![("format", "json"), ("scan.startup.mode", "timestamp")], "scan.startup.timestamp-millis"),
        (vec![("format", "json"), ("scan.startup.mode", "specific-offsets")], "scan.startup.specific-offsets"),
        (vec![("format", "json"), ("scan.bounded.mode", "latest")], "did you mean 'latest-offset'?"),
        (vec![("format", "json")], "properties.group.id"),
        (vec![EARLIEST], "needs the option 'format'"),
        (vec![EARLIEST, ("format", "json"), ("value.format", "json")], "give one of them"),
        (vec![EARLIEST, ("format", "json"), ("topic-pattern", "x")], "exclude each other"),
        (vec![EARLIEST, ("format", "json"), ("key.format", "raw")], "key.fields"),
        (vec![EARLIEST, ("format", "json"), ("key.format", "raw"), ("key.fields", "k_di")], "did you mean 'k_id'?"),
        (
            vec![EARLIEST, ("value.format", "json"), ("key.format", "raw"), ("key.fields", "k_id"), ("key.fields-prefix", "k_")],
            "EXCEPT_KEY",
        ),
        (vec![EARLIEST, ("format", "json"), ("properties.fetch.max.bites", "1")], "did you mean 'properties.fetch.max.bytes'?"),
        (vec![EARLIEST, ("format", "json"), ("properties.fetch.max.bytes", "many")], "properties.fetch.max.bytes"),
        (vec![EARLIEST, ("format", "json"), ("scan.startup.made", "x")], "did you mean 'scan.startup.mode'?"),
    ] {
        let spec = table("kafka", "t", &options, &fields);
        let error = open_source(&spec, &bounded(&spec)).err().unwrap_or_else(|| panic!("{options:?} are taken"));
        assert!(told(&error).contains(expected), "{options:?}: {}", told(&error));
        assert_eq!(error.kind(), sluice_batch::ErrorKind::Plan, "{error}");
    }
}
