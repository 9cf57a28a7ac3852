//! Sends a data set to Kafka at a rate.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message};
use serde_json::{Value, json};
use sluice_batch::{Error, Result};

use super::{Dataset, Generator};
use crate::task::clock::{Clock, SystemClock};

/// Where and how fast to produce.
#[derive(Clone, Debug)]
pub struct Target {
    pub bootstrap_servers: String,
    /// Confluent-compatible registry, needed for Avro.
    pub schema_registry: Option<String>,
    pub topic: String,
    /// Records a second; 0: as fast as possible.
    pub rate: u64,
    /// Records begin this far in the past; those of the past come at once. Not if the rate is 0.
    pub history: Duration,
    /// Records to send; `None`: until told to stop.
    pub count: Option<u64>,
    pub seed: u64,
}

const FLUSH: Duration = Duration::from_secs(10);
/// How long to wait for the brokers at the start.
const CONNECT: Duration = Duration::from_secs(10);

/// Keeps why a record was not taken.
#[derive(Default)]
struct Deliveries {
    failed: OnceLock<String>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let _ = self.failed.set(format!("a record was not taken by topic '{}': {error}", message.topic()));
        }
    }
}

/// Produces until `count` is reached or `stop` is set. Answers how many records were sent.
///
/// # Errors
/// If the registry or the broker refuses.
pub fn produce(dataset: Dataset, target: &Target, stop: &AtomicBool) -> Result<u64> {
    let mut generator = dataset.generator(target.rate);
    let prefix = wire_prefix(generator.as_ref(), target)?;
    let producer = connect(target, stop)?;
    let (mut random, mut value) = (StdRng::seed_from_u64(target.seed), Vec::new());
    let (started, mut sent) = (Instant::now(), 0u64);
    let first = SystemClock.now() - i64::try_from(target.history.as_millis()).unwrap_or(0);
    while !stop.load(Ordering::Relaxed) && target.count.is_none_or(|c| sent < c) {
        if target.rate > 0 && sent > ((target.history + started.elapsed()).as_secs_f64() * target.rate as f64) as u64 {
            producer.poll(Duration::from_millis(5));
            continue;
        }
        let now = match target.rate {
            // Somewhere in the record's share of time: nobody buys every 10 ms sharp.
            rate if rate > 0 && !target.history.is_zero() => {
                first + i64::try_from((sent.saturating_mul(1000) + random.random_range(0..1000)) / rate).unwrap_or(0)
            }
            _ => SystemClock.now(),
        };
        value.clear();
        value.extend_from_slice(&prefix);
        let key = generator.next(&mut random, now, &mut value);
        if value.len() > prefix.len() {
            send(&producer, &target.topic, key.as_deref(), &value, now)?;
        }
        sent += 1;
        check(&producer)?;
    }
    let flushed = producer.flush(FLUSH);
    check(&producer)?;
    flushed.map_err(|e| Error::runtime(format!("not all records reached {}: {e}", target.bootstrap_servers)))?;
    Ok(sent)
}

/// A producer whose brokers have answered, or that was told to stop before.
fn connect(target: &Target, stop: &AtomicBool) -> Result<BaseProducer<Deliveries>> {
    let servers = &target.bootstrap_servers;
    let producer: BaseProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("linger.ms", "5")
        .set("partitioner", "murmur2_random")
        .create_with_context(Deliveries::default())
        .map_err(|e| Error::runtime(format!("cannot make a producer: {e}")))?;
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match producer.client().fetch_metadata(Some(&target.topic), Duration::from_millis(500)) {
            Ok(_) => break,
            Err(_) if started.elapsed() < CONNECT => {}
            Err(e) => {
                return Err(Error::runtime(format!("cannot reach Kafka at {servers}: {e}"))
                    .hint("is the broker running, and does --bootstrap-servers name it?"));
            }
        }
    }
    Ok(producer)
}

fn check(producer: &BaseProducer<Deliveries>) -> Result<()> {
    producer.context().failed.get().map_or(Ok(()), |text| Err(Error::runtime(text.as_str())))
}

fn send(producer: &BaseProducer<Deliveries>, topic: &str, key: Option<&str>, value: &[u8], now: i64) -> Result<()> {
    loop {
        let mut record = BaseRecord::<str, [u8]>::to(topic).payload(value).timestamp(now);
        if let Some(key) = key {
            record = record.key(key);
        }
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((e, _)) if e.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) => {
                producer.poll(Duration::from_millis(10));
            }
            Err((e, _)) => return Err(Error::runtime(format!("cannot produce to {topic}: {e}"))),
        }
    }
}

/// What stands before each value: nothing, or Confluent's magic byte and the id of the registered schema.
fn wire_prefix(generator: &dyn Generator, target: &Target) -> Result<Vec<u8>> {
    let Some(schema) = generator.avro_schema() else {
        return Ok(vec![]);
    };
    let Some(registry) = &target.schema_registry else {
        return Err(Error::plan("this data set is Avro and needs a schema registry").hint("give it with --schema-registry URL"));
    };
    let url = format!("{}/subjects/{}-value/versions", registry.trim_end_matches('/'), target.topic);
    let failed = |e: ureq::Error| Error::runtime(format!("cannot register the schema at {url}: {e}"));
    let answer: Value = ureq::post(&url)
        .header("content-type", "application/vnd.schemaregistry.v1+json")
        .send_json(json!({"schema": schema}))
        .and_then(|mut r| r.body_mut().read_json())
        .map_err(failed)?;
    let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let id = id.ok_or_else(|| Error::runtime(format!("{url} answered without an id: {answer}")))?;
    let mut prefix = vec![0];
    prefix.extend_from_slice(&id.to_be_bytes());
    Ok(prefix)
}
