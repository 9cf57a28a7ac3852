//! Topics and their partitions.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use indexmap::IndexMap;
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use crate::log::Log;

pub struct Topic {
    pub name: String,
    pub id: Uuid,
    /// What was set when it was created.
    pub configs: BTreeMap<String, String>,
    partitions: RwLock<Vec<Arc<Log>>>,
    retention: Option<u64>,
}

impl Topic {
    pub fn partition(&self, index: i32) -> Option<Arc<Log>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(index).ok().and_then(|i| partitions.get(i).cloned())
    }

    pub fn partitions(&self) -> i32 {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).len() as i32
    }

    /// Makes it `count` partitions.
    ///
    /// # Errors
    /// [`ResponseError::InvalidPartitions`] if that is not more than there are.
    pub fn grow(&self, count: i32) -> Result<(), ResponseError> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let count = usize::try_from(count).ok().filter(|c| *c > partitions.len() && *c <= MAX_PARTITIONS);
        let count = count.ok_or(ResponseError::InvalidPartitions)?;
        partitions.resize_with(count, || Arc::new(Log::new(self.retention)));
        Ok(())
    }
}

const MAX_PARTITIONS: usize = 10_000;

pub struct Topics {
    by_name: RwLock<IndexMap<String, Arc<Topic>>>,
    default_partitions: i32,
    retention: Option<u64>,
}

impl Topics {
    pub fn new(default_partitions: i32, retention: Option<u64>) -> Self {
        Self { by_name: RwLock::default(), default_partitions, retention }
    }

    /// Bytes that partitions keep if their topic does not say.
    pub fn retention(&self) -> Option<u64> {
        self.retention
    }

    pub fn default_partitions(&self) -> i32 {
        self.default_partitions
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).values().find(|t| t.id == id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A partition of a topic.
    ///
    /// # Errors
    /// [`ResponseError::UnknownTopicOrPartition`].
    pub fn log(&self, topic: &str, partition: i32) -> Result<Arc<Log>, ResponseError> {
        self.get(topic).and_then(|t| t.partition(partition)).ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// Checks what [`Topics::create`] would refuse.
    ///
    /// # Errors
    /// For a name that Kafka does not allow, an existing topic, a bad number of partitions, or a bad `retention.bytes`.
    pub fn check(&self, name: &str, partitions: i32, configs: &BTreeMap<String, String>) -> Result<(), ResponseError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
            return Err(ResponseError::InvalidTopicException);
        }
        if self.get(name).is_some() {
            return Err(ResponseError::TopicAlreadyExists);
        }
        if partitions != -1 && !usize::try_from(partitions).is_ok_and(|p| (1..=MAX_PARTITIONS).contains(&p)) {
            return Err(ResponseError::InvalidPartitions);
        }
        self.topic_retention(configs).map(drop)
    }

    fn topic_retention(&self, configs: &BTreeMap<String, String>) -> Result<Option<u64>, ResponseError> {
        match configs.get("retention.bytes").map(|v| v.parse::<i64>()) {
            None => Ok(self.retention),
            Some(Ok(bytes)) => Ok(u64::try_from(bytes).ok()),
            Some(Err(_)) => Err(ResponseError::InvalidConfig),
        }
    }

    /// Creates a topic; -1 partitions: as many as is the default.
    ///
    /// # Errors
    /// As [`Topics::check`].
    pub fn create(&self, name: &str, partitions: i32, configs: BTreeMap<String, String>) -> Result<Arc<Topic>, ResponseError> {
        self.check(name, partitions, &configs)?;
        let retention = self.topic_retention(&configs)?;
        let topic = Topic { name: name.to_owned(), id: Uuid::new_v4(), configs, partitions: RwLock::default(), retention };
        topic.grow(if partitions == -1 { self.default_partitions } else { partitions })?;
        let mut topics = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        if topics.contains_key(name) {
            return Err(ResponseError::TopicAlreadyExists);
        }
        let topic = Arc::new(topic);
        topics.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    /// Deletes a topic with its records. Answers whether it was there.
    pub fn delete(&self, name: &str) -> bool {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).shift_remove(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_may_be_created() {
        let topics = Topics::new(3, None);
        assert_eq!(topics.create("a", -1, BTreeMap::new()).unwrap().partitions(), 3);
        let long = "x".repeat(250);
        for (name, partitions, error) in [
            ("a", 1, ResponseError::TopicAlreadyExists),
            ("", 1, ResponseError::InvalidTopicException),
            ("..", 1, ResponseError::InvalidTopicException),
            ("a b", 1, ResponseError::InvalidTopicException),
            (long.as_str(), 1, ResponseError::InvalidTopicException),
            ("b", 0, ResponseError::InvalidPartitions),
            ("b", -2, ResponseError::InvalidPartitions),
            ("b", i32::MAX, ResponseError::InvalidPartitions),
        ] {
            assert_eq!(topics.create(name, partitions, BTreeMap::new()).err(), Some(error), "{name} {partitions}");
        }
        assert!(topics.delete("a") && !topics.delete("a"));
    }

    #[test]
    fn topics_only_grow() {
        let topic = Topics::new(1, None).create("a", 2, BTreeMap::new()).unwrap();
        assert_eq!((topic.grow(2), topic.grow(4), topic.partitions()), (Err(ResponseError::InvalidPartitions), Ok(()), 4));
    }
}
