//! A job whose output can be counted: every row of its input is written once, and sums by key are kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message};
use serde_json::{Value, json};
use sluice_tests::cluster::{Space, holds};
use sluice_tests::topics;

use crate::Lab;

/// How long anything may take on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// Name of the StreamingDeployment of most tests.
pub const NAME: &str = "job";
const KEYS: i64 = 7;

/// A namespace with topics of its own.
pub struct Work<'a> {
    pub lab: &'a Lab,
    pub space: Space<'a>,
}

/// A row that the job has written.
#[derive(Clone, Debug)]
pub struct Row {
    pub v: i64,
    pub tag: String,
    /// When the job sent it, in milliseconds.
    pub at: i64,
}

impl<'a> Work<'a> {
    pub fn new(lab: &'a Lab, name: &str) -> Self {
        let space = Space::new(&lab.cluster, name);
        let work = Self { lab, space };
        topics::create(&lab.kafka, &[(work.topic("in"), 3), (work.topic("out"), 2), (work.topic("sums"), 1)]);
        work
    }

    pub fn topic(&self, which: &str) -> String {
        format!("{which}.{}", self.space.name)
    }

    /// SQL that passes rows on with `tag`, and sums by `keys`.
    pub fn sql_with(&self, tag: &str, keys: &str) -> String {
        let kafka = format!("'properties.bootstrap.servers' = '${{KAFKA}}', 'properties.client.id' = '{}'", self.space.name);
        let once = format!("'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{}'", self.space.name);
        format!(
            "CREATE TABLE a (k INT, v BIGINT) WITH ('connector' = 'kafka', 'topic' = '{}', {kafka}, 'format' = 'json', \
             'scan.startup.mode' = 'earliest-offset');\n\
             CREATE TABLE passed (v BIGINT, tag STRING) WITH ('connector' = 'kafka', 'topic' = '{}', {kafka}, 'format' = 'json', {once});\n\
             CREATE TABLE sums (k BIGINT, n BIGINT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', \
             'topic' = '{}', {kafka}, 'key.format' = 'json', 'value.format' = 'json', {once});\n\
             EXECUTE STATEMENT SET BEGIN\n\
             INSERT INTO passed SELECT v, '{tag}' FROM a;\n\
             INSERT INTO sums SELECT {keys}, COUNT(*), SUM(v) FROM a GROUP BY {keys};\n\
             END;\n",
            self.topic("in"),
            self.topic("out"),
            self.topic("sums"),
        )
    }

    pub fn sql(&self, tag: &str) -> String {
        self.sql_with(tag, "CAST(k AS BIGINT)")
    }

    /// A StreamingDeployment; `more` is merged into its spec, and null takes away.
    pub fn deployment(&self, sql: &str, more: &Value) -> Value {
        let mut object = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamingDeployment", "metadata": {"name": NAME},
            "spec": {
                "sql": {"inline": sql},
                "variables": {"KAFKA": self.lab.kafka},
                "storage": {"uri": "file:///state", "volumeClaim": {"size": "1Gi"}},
                "workers": {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}},
                "restart": {"initialBackoff": "200ms", "maxBackoff": "2s"},
                // Less than half a second's pause of a busy machine is no failure.
                "config": {"execution.checkpointing.mode": "EXACTLY_ONCE"},
            }
        });
        merge(&mut object["spec"], more);
        object
    }

    /// Applies it with SQL that tags its rows, and waits until it is ready.
    pub fn start(&self, tag: &str, more: &Value) -> Value {
        self.space.must_apply(&self.deployment(&self.sql(tag), more));
        self.ready()
    }

    /// Waits until the job runs as its spec says.
    pub fn ready(&self) -> Value {
        self.space.wait(NAME, "ready", DEADLINE, |d| holds(d, "Ready") && holds(d, "Running"))
    }

    pub fn patch(&self, spec: &Value) {
        self.space.cluster.patch(&self.space.deployment_path(NAME), &json!({"spec": spec}));
    }

    /// Produces rows `from..to`.
    pub fn fill(&self, from: i64, to: i64) {
        let producer = producer(&self.lab.kafka);
        (from..to).for_each(|v| send(&producer, &self.topic("in"), v));
        producer.flush(DEADLINE).unwrap();
    }

    /// Produces rows until it is stopped.
    pub fn load(&self, rate: u64) -> Load {
        self.load_from(0, rate)
    }

    pub fn load_from(&self, first: i64, rate: u64) -> Load {
        Load::start(&self.lab.kafka, &self.topic("in"), first, rate)
    }

    /// What is committed in the topic of passed rows.
    pub fn rows(&self) -> Vec<Row> {
        self.rows_of(&self.topic("out"))
    }

    pub fn rows_of(&self, topic: &str) -> Vec<Row> {
        let row = |(value, at): (Value, i64)| Row { v: value["v"].as_i64().unwrap(), tag: value["tag"].as_str().unwrap().to_owned(), at };
        committed(&self.lab.kafka, topic).into_iter().map(row).collect()
    }

    /// Waits until a revision is stable and nothing is under way.
    pub fn wait_stable(&self, what: &str, revision: i64) -> Value {
        self.space.wait(NAME, what, DEADLINE, |d| d["status"]["revision"]["stable"] == revision && d["status"]["operation"].is_null())
    }

    /// Waits until so many rows are written.
    pub fn wait_rows(&self, count: usize) -> Vec<Row> {
        self.wait_for_rows(&format!("{count} rows"), |rows| rows.len() >= count)
    }

    pub fn wait_for_rows(&self, what: &str, enough: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        let started = Instant::now();
        loop {
            let rows = self.rows();
            if enough(&rows) {
                return rows;
            }
            assert!(started.elapsed() < DEADLINE, "{what}: only {} rows are written\n{}", rows.len(), self.space.report(NAME));
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Every row of `0..count` is written exactly once, and the sums are those of all rows.
    pub fn assert_exact(&self, count: i64) -> Vec<Row> {
        let rows = self.wait_rows(count as usize);
        let mut seen: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
        rows.iter().for_each(|r| seen.entry(r.v).or_default().push(&r.tag));
        let doubled: Vec<_> = seen.iter().filter(|(_, tags)| tags.len() > 1).take(5).collect();
        let lost: Vec<_> = (0..count).filter(|v| !seen.contains_key(v)).take(5).collect();
        assert!(doubled.is_empty() && lost.is_empty(), "doubled {doubled:?}, lost {lost:?}\n{}", self.space.report(NAME));
        assert_eq!(rows.len(), count as usize, "rows that should not be there");
        self.assert_sums(count);
        rows
    }

    /// The sums are those of the rows `0..count`.
    pub fn assert_sums(&self, count: i64) {
        let mut wanted: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for v in 0..count {
            let (n, total) = wanted.entry(v % KEYS).or_default();
            *n += 1;
            *total += v;
        }
        let started = Instant::now();
        loop {
            let mut sums = BTreeMap::new();
            for (value, _) in committed(&self.lab.kafka, &self.topic("sums")) {
                let number = |key: &str| value[key].as_i64().unwrap_or_default();
                sums.insert(number("k"), (number("n"), number("total")));
            }
            if sums == wanted {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "sums are {sums:?}, not {wanted:?}\n{}", self.space.report(NAME));
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// The longest time in which no row was written, from the first row to the last.
pub fn longest_gap(rows: &[Row]) -> Duration {
    let mut times: Vec<i64> = rows.iter().map(|r| r.at).collect();
    times.sort_unstable();
    Duration::from_millis(times.windows(2).map(|w| w[1] - w[0]).max().unwrap_or_default() as u64)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
            into.retain(|_, value| !value.is_null());
        }
        (into, from) => *into = from.clone(),
    }
}

fn producer(bootstrap: &str) -> BaseProducer {
    ClientConfig::new().set("bootstrap.servers", bootstrap).set("linger.ms", "5").set("enable.idempotence", "true").create().unwrap()
}

fn send(producer: &BaseProducer, topic: &str, v: i64) {
    let value = format!(r#"{{"k":{},"v":{v}}}"#, v % KEYS);
    let record = BaseRecord::<[u8], [u8]>::to(topic).partition((v % 3) as i32).payload(value.as_bytes());
    producer.send(record).unwrap_or_else(|(e, _)| panic!("cannot produce: {e}"));
    producer.poll(Duration::ZERO);
}

/// Rows that keep coming.
pub struct Load {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn start(bootstrap: &str, topic: &str, first: i64, rate: u64) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(first)));
        let (producer, topic, ended, at) = (producer(bootstrap), topic.to_owned(), stop.clone(), next.clone());
        let thread = std::thread::spawn(move || {
            let pause = Duration::from_millis(20);
            while !ended.load(Ordering::Relaxed) {
                for _ in 0..rate.div_ceil(50) {
                    send(&producer, &topic, at.fetch_add(1, Ordering::Relaxed));
                }
                std::thread::sleep(pause);
            }
            producer.flush(DEADLINE).unwrap();
        });
        Self { stop, next, thread: Some(thread) }
    }

    /// How many rows there are by now.
    pub fn count(&self) -> i64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Ends; how many rows there are in all.
    pub fn stop(mut self) -> i64 {
        self.end();
        self.count()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// All that is committed in a topic, with the records' times.
fn committed(bootstrap: &str, topic: &str) -> Vec<(Value, i64)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "sluice-tests").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.set("enable.partition.eof", "true").set("isolation.level", "read_committed").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
    let mut read = vec![];
    for partition in metadata.topics()[0].partitions() {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < DEADLINE, "{topic}: no end");
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => break,
                Some(message) => {
                    let message = message.unwrap();
                    let value = message.payload().map(|p| serde_json::from_slice(p).unwrap()).unwrap_or_default();
                    read.push((value, message.timestamp().to_millis().unwrap_or_default()));
                }
            }
        }
    }
    read
}
