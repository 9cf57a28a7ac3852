//! Prints the records of the output topics as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sluice_batch::{Error, Result};

use super::console::Console;
use super::tables::Written;
use crate::task::stats::Stats;

const POLL: Duration = Duration::from_millis(50);
/// How long to go on after the job's end for records that it has written.
const DRAIN: Duration = Duration::from_millis(500);

pub struct Printer {
    consumer: BaseConsumer,
    topics: Vec<Written>,
    /// The offset after the last record printed, by topic.
    next: Vec<i64>,
    console: Console,
}

impl Printer {
    /// Connects.
    ///
    /// # Errors
    /// If librdkafka cannot be set up.
    pub fn new(servers: &str, topics: Vec<Written>, stats: Arc<Stats>) -> Result<Self> {
        let failed = |e: rdkafka::error::KafkaError| Error::runtime(format!("the output cannot be read: {e}"));
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "sluice-local-printer")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()
            .map_err(failed)?;
        let mut partitions = TopicPartitionList::new();
        for written in &topics {
            partitions.add_partition_offset(&written.topic, 0, Offset::Beginning).map_err(failed)?;
        }
        consumer.assign(&partitions).map_err(failed)?;
        Ok(Self { consumer, next: vec![0; topics.len()], topics, console: Console::new(stats) })
    }

    /// Prints until `finished` is set and everything is printed, or nobody reads.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn run(mut self, finished: &AtomicBool) -> Result<()> {
        let mut ends: Option<(Instant, Vec<i64>)> = None;
        loop {
            if ends.is_none() && finished.load(Ordering::Relaxed) {
                let end = |w: &Written| self.consumer.fetch_watermarks(&w.topic, 0, DRAIN).map_or(0, |(_, high)| high);
                ends = Some((Instant::now() + DRAIN, self.topics.iter().map(end).collect()));
            }
            if let Some((deadline, ends)) = &ends {
                let printed = self.next.iter().zip(ends).all(|(next, end)| next >= end);
                if printed || Instant::now() >= *deadline {
                    return self.console.end();
                }
            }
            if !self.poll()? {
                return Ok(());
            }
            self.console.status()?;
        }
    }

    /// Prints what is there now. Answers whether anybody reads.
    fn poll(&mut self) -> Result<bool> {
        let mut wait = POLL;
        while let Some(polled) = self.consumer.poll(wait) {
            wait = Duration::ZERO;
            match polled {
                Ok(message) => {
                    let Some(at) = self.topics.iter().position(|w| w.topic == message.topic()) else { continue };
                    self.next[at] = message.offset() + 1;
                    let line = line(&message, self.topics[at].show_key, (self.topics.len() > 1).then_some(message.topic()));
                    self.console.print(&line)?;
                }
                Err(e) => tracing::warn!("reading the output: {e}"),
            }
        }
        self.console.flush()
    }
}

/// A record as a line: value, before it the key if the value does not have it, before that the topic if there are several.
fn line(message: &BorrowedMessage<'_>, show_key: bool, topic: Option<&str>) -> String {
    let mut line = topic.map(|t| format!("{t}: ")).unwrap_or_default();
    let key = message.key().map(text);
    match message.payload() {
        Some(value) => {
            if let Some(key) = key.filter(|_| show_key) {
                line.push_str(&key);
                line.push(' ');
            }
            line.push_str(&text(value));
        }
        None => {
            line.push_str(&key.unwrap_or_default());
            line.push_str(" (deleted)");
        }
    }
    line
}

/// Bytes as text, without the line's end that some formats write; binary formats cannot be shown.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.trim_end_matches(['\r', '\n']).to_owned(),
        _ => format!("({} bytes)", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn values_are_shown_as_text() {
        for (bytes, shown) in [
            (&b"user-1,\"2025-07-10 14:07:02.697\"\n"[..], "user-1,\"2025-07-10 14:07:02.697\""),
            ("🍍".as_bytes(), "🍍"),
            (b"", ""),
            (b"\x00\x00\x00\x00\x01abc", "(8 bytes)"),
            (b"\xff\xfe", "(2 bytes)"),
        ] {
            assert_eq!(text(bytes), shown);
        }
    }
}
