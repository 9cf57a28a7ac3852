//! `kafka` and `upsert-kafka` as sources: partitions are assigned by hand, records are taken in batches and decoded from librdkafka's
//! own buffers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use sluice_batch::{Error, Field, Millis, Result};
use sluice_format::ChangelogMode;

use super::BATCH_ROWS;
use crate::columns;
use crate::kafka::client::{Client, Message, Messages, TopicMetadata, TopicOffset};
use crate::kafka::producer::{Outgoing, Producer};
use crate::kafka::properties::Role;
use crate::kafka::rows::Rows;
use crate::kafka::start::{Start, Stop};
use crate::kafka::table::{KafkaTable, Topics, record_metadata};
use crate::kafka::{self, transaction::cluster};
use crate::options::closest;
use crate::progress::{Progress, RecordEnd};
use crate::registry::SourceFactory;
use crate::{
    CommittedOffset, ConsumerGroup, Later, Malformed, OffsetCommitter, PartitionOffset, ScanRequest, Share, Source, SourceEvent,
    SourceInfo, SplitStatus, TableSpec,
};

pub(crate) const FACTORY: SourceFactory = SourceFactory {
    info: |t| info(t, false),
    metadata: |t| metadata(t, false),
    open: |t, r| open(t, r, false),
    splits: true,
    filters: |_, _, _| false,
};
pub(crate) const UPSERT_FACTORY: SourceFactory = SourceFactory {
    info: |t| info(t, true),
    metadata: |t| metadata(t, true),
    open: |t, r| open(t, r, true),
    splits: true,
    filters: |_, _, _| false,
};

/// How long a batch may wait to become full.
const FILL: Duration = Duration::from_millis(10);
/// How often a topic that is not there yet is looked for.
const RETRY: Duration = Duration::from_secs(1);

fn metadata(table: &TableSpec, upsert: bool) -> Result<Vec<Field>> {
    let kafka = KafkaTable::new(table, upsert)?;
    let of_format = sluice_format::readable_metadata(&kafka.value.format).into_iter();
    Ok(of_format.map(|f| Field::new(format!("value.{}", f.name), f.ty)).chain(record_metadata()).collect())
}

fn info(table: &TableSpec, upsert: bool) -> Result<SourceInfo> {
    let kafka = KafkaTable::new(table, upsert)?;
    columns::check_readable(table, &metadata(table, upsert)?)?;
    let format = sluice_format::read_info(&kafka.value)?;
    if let Some(key) = &kafka.key {
        let key_info = sluice_format::read_info(key)?;
        insert_only(key, key_info.changelog, "key.format")?;
    }
    if matches!(kafka.start, Start::Group) && kafka.group.is_none() {
        return Err(Error::plan(format!("table '{}' starts at its group's offsets but has no 'properties.group.id'", table.name))
            .at(table.span)
            .hint("set 'scan.startup.mode' = 'earliest-offset' or 'latest-offset', or name a group"));
    }
    let bounded = kafka.stop != Stop::Never;
    if upsert {
        insert_only(&kafka.value, format.changelog, "value.format")?;
        return Ok(SourceInfo { changelog: ChangelogMode::Upsert, bounded, upsert_key: table.primary_key.clone() });
    }
    kafka.check_primary_key(table, format.changelog)?;
    let upsert_key = (format.changelog == ChangelogMode::Upsert).then(|| table.primary_key.clone()).flatten();
    if format.changelog == ChangelogMode::Upsert && upsert_key.is_none() {
        return Err(Error::plan(format!("table '{}' gives upserts, so it needs a PRIMARY KEY", table.name)).at(table.span));
    }
    Ok(SourceInfo { changelog: format.changelog, bounded, upsert_key })
}

fn insert_only(format: &sluice_format::FormatOptions, changelog: ChangelogMode, option: &str) -> Result<()> {
    if changelog == ChangelogMode::InsertOnly {
        return Ok(());
    }
    Err(Error::plan(format!("'{option}' cannot be '{}', which has a changelog of its own", format.format)).at(format.span))
}

fn open(spec: &TableSpec, request: &ScanRequest, upsert: bool) -> Result<Box<dyn Source>> {
    info(spec, upsert)?;
    let mut table = KafkaTable::new(spec, upsert)?;
    if request.force_bounded && table.stop == Stop::Never {
        table.stop = Stop::Latest;
    }
    if table.group.is_none() {
        table.group.clone_from(&request.group);
    }
    table.report_ignored(spec, Role::Consumer);
    let reset = table.start.reset(table.consumer.get("auto.offset.reset"));
    // Partitions are assigned by hand, but librdkafka wants a group's name all the same; nothing is committed to this one.
    let unnamed = format!("sluice-{:016x}", rand::random::<u64>());
    let mut more = vec![("auto.offset.reset", reset)];
    if table.consumer.get("group.id").is_none() {
        more.push(("group.id", table.group.as_deref().unwrap_or(&unnamed)));
    }
    let config = table.consumer.config(Role::Consumer, &more)?;
    let dead_letters = match &table.dead_letters {
        Some(topic) => {
            let mut producer = Producer::new(&table.producer, &table.servers, table.patience)?;
            let (topic, _) = producer.topic(topic)?;
            Some((producer, topic))
        }
        None => None,
    };
    let mut source = KafkaSource {
        client: Arc::new(Client::consumer(config, &table.servers)?),
        rows: Rows::new(spec, &table, request)?,
        name: spec.name.clone(),
        progress: Progress::new(request, false),
        partitions: vec![],
        index: HashMap::new(),
        latest: (0, -1, 0),
        unassigned: vec![],
        restored: None,
        next_discovery: None,
        waiting: false,
        share: request.share,
        told_idle: false,
        committed: vec![],
        ended: vec![],
        dead_letters,
        dead: 0,
        table,
    };
    source.discover_first()?;
    Ok(Box::new(source))
}

/// Kafka's own topics, which no pattern means (Kafka: `org.apache.kafka.common.internals.Topic`).
fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

struct KafkaSource {
    client: Arc<Client>,
    /// The table's.
    name: String,
    table: KafkaTable,
    rows: Rows,
    progress: Progress,
    /// By split number.
    partitions: Vec<Partition>,
    /// Split by librdkafka's topic and partition.
    index: HashMap<(usize, i32), u32>,
    /// The entry used last: records come in runs of a partition.
    latest: (usize, i32, u32),
    /// Splits that are known but not read yet.
    unassigned: Vec<u32>,
    /// Positions of an earlier run.
    restored: Option<HashMap<String, i64>>,
    next_discovery: Option<Instant>,
    /// There is no topic yet.
    waiting: bool,
    share: Share,
    /// The task knows that there are no partitions for it.
    told_idle: bool,
    committed: Vec<i64>,
    /// Splits that have ended, but hold the watermark until their last rows are given.
    ended: Vec<u32>,
    dead_letters: Option<(Producer, usize)>,
    dead: u64,
}

struct Partition {
    topic: String,
    id: i32,
    /// The next offset to read.
    next: i64,
    stop: Option<i64>,
    finished: bool,
}

impl KafkaSource {
    /// Finds the partitions at the start.
    fn discover_first(&mut self) -> Result<()> {
        let bounded = self.table.stop != Stop::Never;
        let started = Instant::now();
        loop {
            let (found, missing) = self.topics(self.table.patience)?;
            if missing.is_none() || (!bounded && !found.is_empty()) {
                self.add(found, false)?;
            }
            match missing {
                None => break,
                // A topic that was just made may take a moment to be known everywhere.
                Some(_) if bounded && started.elapsed() < Duration::from_secs(3) => std::thread::sleep(Duration::from_millis(200)),
                Some(name) if bounded => return Err(self.no_topic(&name)),
                Some(name) => {
                    tracing::warn!("{}; waiting for it", self.no_topic(&name));
                    self.waiting = true;
                    break;
                }
            }
        }
        self.schedule(bounded);
        Ok(())
    }

    fn schedule(&mut self, bounded: bool) {
        let interval = if self.waiting { RETRY } else { self.table.discovery };
        self.next_discovery = (!bounded && !interval.is_zero()).then(|| Instant::now() + interval);
    }

    /// What is to be said of a topic (or a pattern) that is not there.
    fn no_topic(&self, name: &str) -> Error {
        let error = match self.table.topics {
            Topics::List(_) => Error::runtime(format!("there is no topic '{name}' at {}", self.table.servers)),
            Topics::Pattern(_) => Error::runtime(format!("there is no topic like '{name}' at {}", self.table.servers)),
        };
        // Without this answer the error stands as well.
        let known = self.client.metadata(None, Duration::from_secs(3)).unwrap_or_default();
        match closest(name, known.iter().map(|t| t.name.as_str()).filter(|t| !is_internal(t))) {
            Some(near) => error.hint(format!("did you mean '{near}'?")),
            None => error,
        }
    }

    /// The topics to read as the brokers know them, and one that is missing.
    fn topics(&self, wait: Duration) -> Result<(Vec<TopicMetadata>, Option<String>)> {
        let mut found = vec![];
        let mut missing = None;
        match &self.table.topics {
            Topics::List(names) => {
                for name in names {
                    let mut topics = self.client.metadata(Some(name), wait)?;
                    topics.retain(|t| t.name == *name);
                    match topics.pop() {
                        Some(topic) if topic.error.is_none() && !topic.partitions.is_empty() => found.push(topic),
                        Some(TopicMetadata { error: Some((Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, text)), .. }) => {
                            return Err(Error::runtime(format!("topic '{name}': {text}")));
                        }
                        _ => missing = Some(name.clone()),
                    }
                }
            }
            Topics::Pattern(pattern) => {
                let topics = self.client.metadata(None, wait)?;
                let matches = |t: &TopicMetadata| t.error.is_none() && !is_internal(&t.name) && pattern.is_match(&t.name).unwrap_or(false);
                found.extend(topics.into_iter().filter(matches));
                found.sort_by(|a, b| a.name.cmp(&b.name));
                if found.is_empty() {
                    missing = Some(pattern.as_str().trim_start_matches("^(?:").trim_end_matches(")$").to_owned());
                }
            }
        }
        Ok((found, missing))
    }

    /// Adds partitions that are not known yet.
    fn add(&mut self, topics: Vec<TopicMetadata>, new: bool) -> Result<()> {
        let mut fresh = vec![];
        for topic in topics {
            for id in topic.partitions {
                let mine = self.share.has(&topic.name, id as usize);
                if mine && !self.partitions.iter().any(|p| p.id == id && p.topic == topic.name) {
                    fresh.push(TopicOffset { topic: topic.name.clone(), partition: id, offset: 0 });
                }
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let wait = self.table.patience;
        let stops = self.table.stop.resolve(&self.client, &fresh, wait)?;
        // What an earlier run has not read was not there then.
        let new = new || self.restored.is_some();
        let starts = self.table.start.resolve(&self.client, &fresh, self.table.consumer.get("auto.offset.reset"), new, wait)?;
        for (start, stop) in starts.into_iter().zip(stops) {
            if new {
                tracing::info!("found partition {}-{}", start.topic, start.partition);
            }
            let name = format!("{}-{}", start.topic, start.partition);
            let split = self.progress.add_split(name, start.offset);
            self.partitions.push(Partition { topic: start.topic, id: start.partition, next: start.offset, stop, finished: false });
            self.committed.push(-1);
            self.unassigned.push(split);
        }
        Ok(())
    }

    /// Begins to read what was found.
    fn assign(&mut self) -> Result<()> {
        let mut offsets = vec![];
        for split in std::mem::take(&mut self.unassigned) {
            let partition = &self.partitions[split as usize];
            if partition.stop.is_some_and(|stop| partition.next >= stop) {
                self.finish(split)?;
            } else {
                offsets.push(TopicOffset { topic: partition.topic.clone(), partition: partition.id, offset: partition.next });
            }
        }
        if offsets.is_empty() { Ok(()) } else { self.client.assign(&offsets) }
    }

    fn finish(&mut self, split: u32) -> Result<()> {
        let partition = &mut self.partitions[split as usize];
        if std::mem::replace(&mut partition.finished, true) {
            return Ok(());
        }
        self.ended.push(split);
        self.client.pause(&TopicOffset { topic: partition.topic.clone(), partition: partition.id, offset: 0 })
    }

    fn rediscover(&mut self) -> Result<()> {
        if self.next_discovery.is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        match self.topics(Duration::from_secs(5)) {
            Ok((found, missing)) => {
                self.waiting = missing.is_some();
                self.add(found, true)?;
            }
            Err(error) => tracing::warn!("looking for new partitions: {error}"),
        }
        self.schedule(false);
        Ok(())
    }

    /// The split of a message.
    #[inline]
    fn split(&mut self, message: Message<'_>) -> Option<u32> {
        let (topic, partition) = (message.topic_id(), message.partition());
        if (self.latest.0, self.latest.1) == (topic, partition) {
            return Some(self.latest.2);
        }
        let split = match self.index.get(&(topic, partition)) {
            Some(split) => *split,
            None => {
                let name = message.topic();
                let split = self.partitions.iter().position(|p| p.id == partition && p.topic == name)? as u32;
                self.index.insert((topic, partition), split);
                split
            }
        };
        self.latest = (topic, partition, split);
        Some(split)
    }

    fn read(&mut self, timeout: Duration, now: Millis) -> Result<()> {
        let mut messages = self.client.consume(1, timeout)?;
        if messages.len() == 1 {
            let event = messages.iter().any(|m| m.error().is_some());
            messages.append(self.client.consume(BATCH_ROWS - 1, if event { Duration::ZERO } else { FILL.min(timeout) })?);
        }
        let mut records = self.progress.take_records();
        let result = self.decode(&messages, &mut records);
        let batch = self.rows.finish()?;
        result?;
        self.progress.give(batch, records, now)
    }

    fn decode(&mut self, messages: &Messages, records: &mut Vec<RecordEnd>) -> Result<()> {
        for message in messages.iter() {
            if let Some(code) = message.error() {
                self.event(message, code, records)?;
                continue;
            }
            let Some(split) = self.split(message) else { continue };
            let partition = &self.partitions[split as usize];
            let offset = message.offset();
            if partition.finished || offset < partition.next {
                continue;
            }
            if partition.stop.is_some_and(|stop| offset >= stop) {
                self.finish(split)?;
                continue;
            }
            if let Err(error) = self.rows.push(message, &partition.topic) {
                self.reject(message, split, error)?;
            }
            let partition = &mut self.partitions[split as usize];
            partition.next = offset + 1;
            let done = partition.stop == Some(offset + 1);
            records.push(RecordEnd { split, end: self.rows.len() as u32, next: offset + 1 });
            if done {
                self.finish(split)?;
            }
        }
        Ok(())
    }

    /// A record that cannot be read: to the dead letters, or the end of the job.
    fn reject(&mut self, message: Message<'_>, split: u32, error: Error) -> Result<()> {
        let partition = &self.partitions[split as usize];
        let error =
            error.into_runtime().context(format!("topic '{}' partition {} offset {}", partition.topic, partition.id, message.offset()));
        let Some((producer, topic)) = &mut self.dead_letters else { return Err(error) };
        self.dead += 1;
        if self.dead == 1 {
            tracing::warn!("a record went to the dead letters: {error}");
        }
        let (reason, place) = (error.to_string(), format!("{}-{}-{}", partition.topic, partition.id, message.offset()));
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = vec![];
        message.headers(|name, value| headers.push((name, value)));
        headers.push((b"sluice.error", Some(reason.as_bytes())));
        headers.push((b"sluice.source", Some(place.as_bytes())));
        let record = Outgoing {
            key: message.key(),
            value: message.value(),
            timestamp: Some(message.timestamp().0).filter(|t| *t > 0),
            headers: &headers,
            ..Outgoing::default()
        };
        producer.send(*topic, &record)
    }

    /// What the consumer says that is no record.
    fn event(&mut self, message: Message<'_>, code: Code, records: &mut Vec<RecordEnd>) -> Result<()> {
        match code {
            Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                let Some(split) = self.split(message) else { return Ok(()) };
                let partition = &mut self.partitions[split as usize];
                // Behind the last record there may be markers of transactions.
                if message.offset() > partition.next && !partition.finished {
                    partition.next = message.offset();
                    records.push(RecordEnd { split, end: self.rows.len() as u32, next: message.offset() });
                }
                if partition.stop.is_some_and(|stop| message.offset() >= stop) {
                    self.finish(split)?;
                }
                Ok(())
            }
            Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
            | Code::RD_KAFKA_RESP_ERR__TRANSPORT
            | Code::RD_KAFKA_RESP_ERR__RESOLVE
            | Code::RD_KAFKA_RESP_ERR__TIMED_OUT
            | Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
            | Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
            | Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR => {
                tracing::warn!("reading from {}: {}", self.table.servers, message.error_text());
                Ok(())
            }
            Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE | Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => {
                let text = format!("topic '{}' partition {}: {}", message.topic(), message.partition(), message.error_text());
                Err(Error::runtime(text).hint("the offset is gone; 'properties.auto.offset.reset' says what to do then"))
            }
            // A topic that does not exist yet is looked for by discovery.
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => Err(Error::runtime(format!(
                "topic '{}' partition {} is gone: {}",
                message.topic(),
                message.partition(),
                message.error_text()
            ))),
            _ => {
                let place = if message.topic().is_empty() { self.table.servers.clone() } else { format!("topic '{}'", message.topic()) };
                Err(Error::runtime(format!("reading from {place}: {}", message.error_text())))
            }
        }
    }

    fn all_finished(&self) -> bool {
        self.table.stop != Stop::Never && self.partitions.iter().all(|p| p.finished)
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, timeout: Duration, now: Millis) -> Result<SourceEvent> {
        if let Some(event) = self.progress.next_pending() {
            return Ok(event);
        }
        self.rediscover()?;
        if !self.has_splits() && !std::mem::replace(&mut self.told_idle, true) {
            return Ok(SourceEvent::Idle);
        }
        if !self.unassigned.is_empty() {
            self.assign()?;
        }
        if let Some(event) = self.progress.tick(now) {
            return Ok(event);
        }
        for split in self.ended.drain(..) {
            self.progress.finish_split(split);
        }
        if self.all_finished() {
            return Ok(SourceEvent::End);
        }
        self.read(timeout, now)?;
        Ok(self.progress.next_pending().unwrap_or(SourceEvent::Pending))
    }

    fn positions(&self) -> Vec<(String, String)> {
        self.progress.positions().map(|(name, position)| (name.to_owned(), position.to_string())).collect()
    }

    fn has_splits(&self) -> bool {
        self.share.tasks == 1 || self.waiting || !self.partitions.is_empty()
    }

    fn seek(&mut self, positions: &[(String, String)]) -> Result<()> {
        let parse = |(name, position): &(String, String)| {
            let offset = position.parse::<i64>().map_err(|_| Error::runtime(format!("'{position}' is no offset of '{name}'")))?;
            Ok((name.clone(), offset))
        };
        let positions = positions.iter().map(parse).collect::<Result<HashMap<_, _>>>()?;
        let mut new = vec![];
        for split in self.unassigned.clone() {
            let partition = &mut self.partitions[split as usize];
            match positions.get(&format!("{}-{}", partition.topic, partition.id)) {
                Some(offset) => {
                    partition.next = *offset;
                    self.progress.set_position(split, *offset);
                }
                None => new.push((split, TopicOffset { topic: partition.topic.clone(), partition: partition.id, offset: 0 })),
            }
        }
        let wanted: Vec<_> = new.iter().map(|(_, p)| p.clone()).collect();
        let reset = self.table.consumer.get("auto.offset.reset");
        let starts = self.table.start.resolve(&self.client, &wanted, reset, true, self.table.patience)?;
        for ((split, _), start) in new.into_iter().zip(starts) {
            self.partitions[split as usize].next = start.offset;
            self.progress.set_position(split, start.offset);
        }
        self.restored = Some(positions);
        Ok(())
    }

    fn group(&self) -> Option<ConsumerGroup> {
        Some(ConsumerGroup { cluster: cluster(&self.table.servers), name: self.table.group.clone()? })
    }

    fn offsets(&self) -> Vec<PartitionOffset> {
        let offset = |(i, p): (usize, &Partition)| PartitionOffset {
            topic: p.topic.clone(),
            partition: p.id,
            offset: self.progress.position(i as u32),
        };
        self.partitions.iter().enumerate().map(offset).collect()
    }

    fn committed(&mut self) -> Result<Vec<CommittedOffset>> {
        let at: Vec<_> = self.partitions.iter().map(|p| TopicOffset { topic: p.topic.clone(), partition: p.id, offset: 0 }).collect();
        Ok(kafka::committed(self.client.committed_metadata(&at, self.table.patience)?))
    }

    fn offset_committer(&self) -> Option<Arc<dyn OffsetCommitter>> {
        Some(self.client.clone())
    }

    fn flush(&mut self) -> Result<()> {
        self.dead_letters.as_ref().map_or(Ok(()), |(producer, _)| producer.flush(self.table.patience))
    }

    fn commit(&mut self) -> Result<Option<Later>> {
        self.flush()?;
        if self.table.group.is_none() {
            return Ok(None);
        }
        let mut moved = vec![];
        for (i, partition) in self.partitions.iter().enumerate() {
            let position = self.progress.position(i as u32);
            if position != self.committed[i] {
                self.committed[i] = position;
                moved.push(TopicOffset { topic: partition.topic.clone(), partition: partition.id, offset: position });
            }
        }
        let client = self.client.clone();
        Ok((!moved.is_empty()).then(|| Box::new(move || client.commit(&moved)) as Later))
    }

    fn malformed(&self) -> Malformed {
        Malformed { skipped: self.rows.skipped(), dead_letters: self.dead }
    }

    fn splits(&self) -> Vec<SplitStatus> {
        self.progress.status(|i, position| {
            let partition = self.partitions.get(i)?;
            Some((self.client.high_watermark(&partition.topic, partition.id)? - position).max(0))
        })
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        let Malformed { skipped, dead_letters } = Source::malformed(self);
        if skipped > 0 || dead_letters > 0 {
            tracing::warn!("table {}: {skipped} malformed records were skipped, {dead_letters} went to the dead letters", self.name);
        }
    }
}
