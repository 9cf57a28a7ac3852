//! The topics: what is sent, and what comes back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Message};
use serde_json::Value;

use crate::Result;
use crate::app::App;

pub const TRANSACTIONS: &str = "livetransactions";
pub const RULES: &str = "rules";
const ALERTS: &str = "alerts";
const DRY_RUN_ALERTS: &str = "dry-run-alerts";
const CURRENT_RULES: &str = "current-rules";
const REJECTED_RULES: &str = "rejected-rules";

/// All topics of the example.
pub const TOPICS: [&str; 6] = [TRANSACTIONS, RULES, ALERTS, DRY_RUN_ALERTS, CURRENT_RULES, REJECTED_RULES];

pub struct Sender(ThreadedProducer<DefaultProducerContext>);

impl Sender {
    pub fn new(servers: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", servers).set("linger.ms", "2");
        config.create().map(Self).map_err(|e| format!("cannot make a producer: {e}"))
    }

    pub fn send(&self, topic: &str, value: &str) -> Result<()> {
        let record = BaseRecord::<(), str>::to(topic).payload(value);
        self.0.send(record).map_err(|(e, _)| format!("cannot send to {topic}: {e}"))
    }
}

/// Milliseconds since the epoch.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Reads what the job says, from now on, in a thread of its own; asks for the rules that it has.
pub fn listen(servers: &str, app: Arc<App>) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", format!("fraud-webapp-{}", now()));
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "latest").set("fetch.wait.max.ms", "20");
    config.set("topic.metadata.refresh.interval.ms", "1000").set("allow.auto.create.topics", "false");
    let consumer: BaseConsumer = config.create().map_err(|e| format!("cannot make a consumer: {e}"))?;
    consumer.subscribe(&TOPICS[2..]).map_err(|e| format!("cannot subscribe: {e}"))?;
    std::thread::spawn(move || {
        let mut asked = false;
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => take(&app, message.topic(), message.payload().unwrap_or_default()),
                // Topics that are not there yet, or brokers: it goes on when they are.
                Some(Err(_)) => std::thread::sleep(Duration::from_millis(100)),
                None => {}
            }
            if !asked && consumer.assignment().is_ok_and(|a| a.count() > 0) {
                asked = app.control("EXPORT_RULES_CURRENT").is_ok();
            }
        }
    });
    Ok(())
}

fn take(app: &App, topic: &str, payload: &[u8]) {
    let Ok(text) = std::str::from_utf8(payload) else { return };
    let Ok(record) = serde_json::from_str::<Value>(text) else { return };
    match topic {
        CURRENT_RULES => app.exported(record),
        REJECTED_RULES => app.rejected(&record),
        _ => {
            // From the payment's making, which is its event time, to here.
            let latency = record["triggeringEvent"]["eventTime"].as_i64().map_or(0, |t| now() - t);
            let dry_run = topic == DRY_RUN_ALERTS;
            app.tell(format!(r#"{{"type":"alert","dryRun":{dry_run},"latency":{latency},"alert":{text}}}"#));
        }
    }
}
