//! The embedded broker as librdkafka sees it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sluice_broker::{Broker, Config};

const PATIENCE: Duration = Duration::from_secs(20);

fn start() -> Broker {
    Broker::start(Config::default()).unwrap()
}

fn config(broker: &Broker, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    for (key, value) in more {
        config.set(*key, *value);
    }
    config
}

fn producer(broker: &Broker, more: &[(&str, &str)]) -> BaseProducer {
    config(broker, &[&[("linger.ms", "0")], more].concat()).create().unwrap()
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, values: &[&str]) {
    for value in values {
        producer.send(BaseRecord::<str, str>::to(topic).partition(partition).payload(value)).map_err(|e| e.0).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn assigned(broker: &Broker, topic: &str, partitions: i32, more: &[(&str, &str)]) -> BaseConsumer {
    let base = [("group.id", "readers"), ("enable.partition.eof", "true"), ("enable.auto.commit", "false"), ("fetch.wait.max.ms", "50")];
    let consumer: BaseConsumer = config(broker, &[&base, more].concat()).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    consumer
}

/// Partition and value of everything up to the end of all partitions.
fn read(broker: &Broker, topic: &str, partitions: i32, more: &[(&str, &str)]) -> Vec<(i32, String)> {
    let consumer = assigned(broker, topic, partitions, more);
    let (mut ends, mut found, started) = (0, vec![], Instant::now());
    while ends < partitions {
        assert!(started.elapsed() < PATIENCE, "only {found:?}");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(m)) => found.push((m.partition(), String::from_utf8(m.payload().unwrap().to_vec()).unwrap())),
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(e)) => panic!("{e}"),
            None => {}
        }
    }
    found.sort_by_key(|(p, _)| *p);
    found
}

fn values(broker: &Broker, topic: &str, isolation: &str) -> Vec<String> {
    read(broker, topic, 1, &[("isolation.level", isolation)]).into_iter().map(|(_, v)| v).collect()
}

fn wait<T>(admin: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(admin)
}

fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    config(broker, &[]).create().unwrap()
}

#[test]
fn what_is_produced_is_consumed() {
    let broker = start();
    broker.create_topic("t", 3).unwrap();
    // librdkafka is built with these two; lz4 is its own.
    for (codec, idempotent) in [("none", "false"), ("gzip", "true"), ("lz4", "true"), ("zstd", "false"), ("none", "true")] {
        let producer = producer(&broker, &[("compression.type", codec), ("enable.idempotence", idempotent)]);
        for partition in 0..3 {
            send(&producer, "t", partition, &["a", "b"]);
        }
    }
    let expected: Vec<_> = (0..3).flat_map(|p| ["a", "b"].repeat(5).into_iter().map(move |v| (p, v.to_owned()))).collect();
    assert_eq!(read(&broker, "t", 3, &[]), expected);
}

#[test]
fn a_fetch_waits_for_records() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let consumer = assigned(&broker, "t", 1, &[("fetch.wait.max.ms", "10000"), ("enable.partition.eof", "false")]);
    assert!(consumer.poll(Duration::from_millis(300)).is_none());
    let producer = producer(&broker, &[]);
    send(&producer, "t", 0, &["warm"]);
    assert!(consumer.poll(PATIENCE).is_some());
    let started = Instant::now();
    send(&producer, "t", 0, &["x"]);
    let message = consumer.poll(PATIENCE).unwrap().unwrap();
    assert_eq!(message.payload(), Some(&b"x"[..]));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn topics_are_administered() {
    let broker = start();
    let (admin, options) = (admin(&broker), AdminOptions::new());
    let topic = |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("retention.bytes", "1000");
    let created = wait(admin.create_topics(&[topic("a", 2), topic("b", 1)], &options)).unwrap();
    assert_eq!(created, [Ok("a".to_owned()), Ok("b".to_owned())]);
    let again = wait(admin.create_topics(&[topic("a", 2), topic("no spaces", 1)], &options)).unwrap();
    assert_eq!(
        again,
        [Err(("a".to_owned(), RDKafkaErrorCode::TopicAlreadyExists)), Err(("no spaces".to_owned(), RDKafkaErrorCode::InvalidTopic))]
    );
    wait(admin.create_partitions(&[NewPartitions::new("a", 5)], &options)).unwrap()[0].as_ref().unwrap();
    let configs = wait(admin.describe_configs(&[ResourceSpecifier::Topic("a")], &options)).unwrap();
    assert_eq!(configs[0].as_ref().unwrap().get("retention.bytes").unwrap().value.as_deref(), Some("1000"));
    let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
    let partitions: BTreeMap<_, _> = metadata.topics().iter().map(|t| (t.name(), t.partitions().len())).collect();
    assert_eq!(partitions, BTreeMap::from([("a", 5), ("b", 1)]));
    wait(admin.delete_topics(&["a"], &options)).unwrap()[0].as_ref().unwrap();
    assert_eq!(admin.inner().fetch_metadata(None, PATIENCE).unwrap().topics().len(), 1);
}

#[test]
fn offsets_are_found_by_time() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let producer = producer(&broker, &[]);
    for at in [1000, 2000, 3000] {
        producer.send(BaseRecord::<str, str>::to("t").payload("x").timestamp(at)).map_err(|e| e.0).unwrap();
        producer.flush(PATIENCE).unwrap();
    }
    let consumer = assigned(&broker, "t", 1, &[]);
    for (at, expected) in [(0, Offset::Offset(0)), (1001, Offset::Offset(1)), (3000, Offset::Offset(2)), (3001, Offset::End)] {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset("t", 0, Offset::Offset(at)).unwrap();
        let found = consumer.offsets_for_times(asked, PATIENCE).unwrap();
        assert_eq!(found.elements()[0].offset(), expected, "{at}");
    }
    assert_eq!(consumer.fetch_watermarks("t", 0, PATIENCE).unwrap(), (0, 3));
}

#[test]
fn the_oldest_records_are_dropped() {
    let broker = Broker::start(Config { retention_bytes: Some(10_000), ..Config::default() }).unwrap();
    broker.create_topic("t", 1).unwrap();
    let (producer, large) = (producer(&broker, &[]), "x".repeat(2000));
    for _ in 0..20 {
        send(&producer, "t", 0, &[&large]);
    }
    let consumer = assigned(&broker, "t", 1, &[]);
    let (low, high) = consumer.fetch_watermarks("t", 0, PATIENCE).unwrap();
    assert_eq!((low, high), (16, 20));
    assert_eq!(read(&broker, "t", 1, &[]).len(), 4);
}

/// Polls members until their assignments together have `partitions`, each of them at least `least`.
fn balance(members: &[&BaseConsumer], partitions: usize, least: usize) {
    let started = Instant::now();
    loop {
        for member in members {
            if let Some(Err(e)) = member.poll(Duration::from_millis(50)) {
                panic!("{e}");
            }
        }
        let counts: Vec<_> = members.iter().map(|m| m.assignment().unwrap().count()).collect();
        if counts.iter().sum::<usize>() == partitions && counts.iter().all(|c| *c >= least) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{counts:?}");
    }
}

fn member(broker: &Broker, strategy: &str) -> BaseConsumer {
    let base = [
        ("group.id", "g"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "100"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("partition.assignment.strategy", strategy),
    ];
    let consumer: BaseConsumer = config(broker, &base).create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

#[test]
fn members_share_the_partitions() {
    for strategy in ["range", "cooperative-sticky"] {
        let broker = start();
        broker.create_topic("t", 4).unwrap();
        let first = member(&broker, strategy);
        balance(&[&first], 4, 4);
        let second = member(&broker, strategy);
        balance(&[&first, &second], 4, 2);
        drop(second);
        balance(&[&first], 4, 4);
    }
}

/// The next record's value. A poll may end early, because of a rebalance.
fn next(consumer: &BaseConsumer) -> String {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE);
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            return String::from_utf8(message.unwrap().payload().unwrap().to_vec()).unwrap();
        }
    }
}

#[test]
fn a_group_goes_on_where_it_was() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let producer = producer(&broker, &[]);
    send(&producer, "t", 0, &["a", "b", "c"]);
    let consumer = member(&broker, "range");
    assert_eq!(next(&consumer), "a");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("t", 0, Offset::Offset(1)).unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
    drop(consumer);
    let consumer = member(&broker, "range");
    assert_eq!(next(&consumer), "b");
    let committed = consumer.committed_offsets(offsets.clone(), PATIENCE).unwrap();
    assert_eq!(committed.elements()[0].offset(), Offset::Offset(1));
    let groups = consumer.fetch_group_list(Some("g"), PATIENCE).unwrap();
    assert_eq!((groups.groups()[0].state(), groups.groups()[0].members().len()), ("Stable", 1));
}

fn transactional(broker: &Broker, id: &str) -> BaseProducer {
    let producer = producer(broker, &[("transactional.id", id), ("transaction.timeout.ms", "60000")]);
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

#[test]
fn only_committed_transactions_are_read() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let (one, two) = (transactional(&broker, "one"), transactional(&broker, "two"));
    one.begin_transaction().unwrap();
    send(&one, "t", 0, &["committed"]);
    two.begin_transaction().unwrap();
    send(&two, "t", 0, &["aborted"]);
    assert_eq!(values(&broker, "t", "read_committed"), Vec::<String>::new());
    assert_eq!(values(&broker, "t", "read_uncommitted"), ["committed", "aborted"]);
    one.commit_transaction(PATIENCE).unwrap();
    assert_eq!(values(&broker, "t", "read_committed"), ["committed"]);
    two.abort_transaction(PATIENCE).unwrap();
    one.begin_transaction().unwrap();
    send(&one, "t", 0, &["also committed"]);
    one.commit_transaction(PATIENCE).unwrap();
    assert_eq!(values(&broker, "t", "read_committed"), ["committed", "also committed"]);
}

#[test]
fn offsets_are_committed_with_their_transaction() {
    let broker = start();
    for topic in ["in", "out"] {
        broker.create_topic(topic, 1).unwrap();
    }
    send(&producer(&broker, &[]), "in", 0, &["1", "2", "3", "4", "5", "6", "7"]);
    let consumer = assigned(&broker, "in", 1, &[]);
    let producer = transactional(&broker, "p");
    let offsets = |at| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("in", 0, Offset::Offset(at)).unwrap();
        list
    };
    let committed = || consumer.committed_offsets(offsets(0), PATIENCE).unwrap().elements()[0].offset();
    for (at, commit, expected) in [(3, false, Offset::Invalid), (5, true, Offset::Offset(5)), (7, false, Offset::Offset(5))] {
        producer.begin_transaction().unwrap();
        send(&producer, "out", 0, &["x"]);
        producer.send_offsets_to_transaction(&offsets(at), &consumer.group_metadata().unwrap(), PATIENCE).unwrap();
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
        assert_eq!(committed(), expected, "{at}");
    }
}

#[test]
fn an_old_producer_is_fenced() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let old = transactional(&broker, "id");
    old.begin_transaction().unwrap();
    send(&old, "t", 0, &["old"]);
    let new = transactional(&broker, "id");
    let error = old.commit_transaction(PATIENCE).unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Fenced), "{error}");
    new.begin_transaction().unwrap();
    send(&new, "t", 0, &["new"]);
    new.commit_transaction(PATIENCE).unwrap();
    assert_eq!(values(&broker, "t", "read_committed"), ["new"]);
}

#[test]
fn a_transaction_times_out() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let producer = producer(&broker, &[("transactional.id", "slow"), ("transaction.timeout.ms", "1000"), ("message.timeout.ms", "1000")]);
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, "t", 0, &["forgotten"]);
    std::thread::sleep(Duration::from_millis(1500));
    send(&self::producer(&broker, &[]), "t", 0, &["later"]);
    assert_eq!(values(&broker, "t", "read_committed"), ["later"]);
    assert!(producer.commit_transaction(PATIENCE).is_err());
}

#[test]
fn the_registry_is_there_too() {
    let broker = start();
    for path in ["/subjects", "/apis/ccompat/v6/subjects", "/apis/ccompat/v7/subjects"] {
        let mut answer = ureq::get(format!("{}{path}", broker.registry_url())).call().unwrap();
        assert_eq!(answer.body_mut().read_to_string().unwrap(), "[]", "{path}");
    }
}
