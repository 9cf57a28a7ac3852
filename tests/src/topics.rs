//! Topics of a real broker: create, fill, read.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A record to produce.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub topic: String,
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Creates topics with their numbers of partitions.
pub fn create(bootstrap: &str, topics: &[(String, i32)]) {
    let new: Vec<_> = topics.iter().map(|(name, n)| NewTopic::new(name, *n, TopicReplication::Fixed(1))).collect();
    administer(bootstrap, async |admin, options| admin.create_topics(&new, options).await);
}

/// Creates a topic with settings of its own.
pub fn create_with(bootstrap: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |topic, (key, value)| topic.set(key, value));
    administer(bootstrap, async |admin, options| admin.create_topics([&new], options).await);
}

/// Gives a topic more partitions, `total` in the end.
pub fn add_partitions(bootstrap: &str, name: &str, total: usize) {
    let new = NewPartitions::new(name, total);
    administer(bootstrap, async |admin, options| admin.create_partitions([&new], options).await);
}

fn administer(bootstrap: &str, act: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> KafkaResult<Vec<TopicResult>>) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for result in runtime.block_on(act(&admin, &AdminOptions::new().operation_timeout(Some(TIMEOUT)))).unwrap() {
        result.unwrap_or_else(|(topic, e)| panic!("{topic}: {e}"));
    }
}

/// Produces records in order and waits until the broker has them.
pub fn produce(bootstrap: &str, records: &[Record]) {
    let producer: BaseProducer = config(bootstrap).set("linger.ms", "5").set("enable.idempotence", "true").create().unwrap();
    for record in records {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut r = BaseRecord::<[u8], [u8]>::to(&record.topic).partition(record.partition).timestamp(record.timestamp).headers(headers);
        if let Some(key) = &record.key {
            r = r.key(key);
        }
        if let Some(value) = &record.value {
            r = r.payload(value);
        }
        producer.send(r).unwrap_or_else(|(e, _)| panic!("cannot produce: {e}"));
        producer.poll(Duration::ZERO);
    }
    producer.flush(TIMEOUT).unwrap();
}

/// Reads topics from their beginning; keeps its place from call to call.
pub struct Reader {
    consumer: BaseConsumer,
    partitions: Vec<(String, i32)>,
}

impl Reader {
    pub fn new(bootstrap: &str, topics: &[String]) -> Self {
        let consumer: BaseConsumer = config(bootstrap).set("group.id", "sluice-tests").set("enable.auto.commit", "false").create().unwrap();
        let mut list = TopicPartitionList::new();
        let mut partitions = vec![];
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
            for partition in metadata.topics()[0].partitions() {
                list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
                partitions.push((topic.clone(), partition.id()));
            }
        }
        consumer.assign(&list).unwrap();
        Self { consumer, partitions }
    }

    /// How many records the topics hold now.
    pub fn available(&self) -> usize {
        let count = |(topic, partition): &(String, i32)| {
            let (low, high) = self.consumer.fetch_watermarks(topic, *partition, TIMEOUT).unwrap();
            usize::try_from(high - low).unwrap()
        };
        self.partitions.iter().map(count).sum()
    }

    /// The next `count` records.
    pub fn read(&self, count: usize) -> Vec<Read> {
        let mut records = vec![];
        let started = std::time::Instant::now();
        while records.len() < count {
            assert!(started.elapsed() < TIMEOUT, "read {} of {count} records", records.len());
            records.extend(self.poll(Duration::from_millis(100)));
        }
        records
    }

    /// The next record, if one comes in time.
    pub fn poll(&self, wait: Duration) -> Option<Read> {
        let message = self.consumer.poll(wait)?.unwrap();
        Some(Read {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(|h| h.iter().map(header).collect()).unwrap_or_default(),
        })
    }
}

/// Everything that is committed in a topic, partition by partition.
pub fn committed(bootstrap: &str, topic: &str) -> Vec<Read> {
    some_committed(bootstrap, topic, usize::MAX)
}

/// The same, at most so many records: of a topic that is written all the time, whose end is never reached.
pub fn some_committed(bootstrap: &str, topic: &str, most: usize) -> Vec<Read> {
    let mut config = config(bootstrap);
    config.set("group.id", "sluice-tests").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.set("isolation.level", "read_committed").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
    let mut read = vec![];
    for partition in metadata.topics()[0].partitions() {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let started = std::time::Instant::now();
        loop {
            assert!(started.elapsed() < TIMEOUT, "{topic}: no end within {TIMEOUT:?}");
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(message) => {
                    let message = message.unwrap();
                    read.push(Read {
                        topic: message.topic().to_owned(),
                        partition: message.partition(),
                        key: message.key().map(<[u8]>::to_vec),
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: vec![],
                    });
                    if read.len() >= most {
                        return read;
                    }
                }
            }
        }
    }
    read
}

fn header(header: Header<'_, &[u8]>) -> (String, String) {
    (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
}
