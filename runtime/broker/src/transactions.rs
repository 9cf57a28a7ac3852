//! Transactional producers (Kafka: `TransactionCoordinator`, KIP-98): ids, epochs, what their open transactions touch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;

use crate::cluster::{Cluster, now_millis};
use crate::groups::{Committed, Place};
use crate::log::Log;

/// `transaction.max.timeout.ms`
const MAX_TIMEOUT: Duration = Duration::from_secs(15 * 60);

struct Open {
    until: Instant,
    logs: HashMap<Place, Arc<Log>>,
    /// Groups whose offsets may come.
    groups: Vec<String>,
    offsets: Vec<(String, Place, Committed)>,
}

struct Producer {
    id: i64,
    epoch: i16,
    timeout: Duration,
    open: Option<Open>,
    /// How the last transaction ended, for requests that are repeated.
    ended: Option<bool>,
}

/// Transactional ids with their producers.
#[derive(Default)]
pub struct Transactions {
    last_id: i64,
    by_name: HashMap<String, Producer>,
}

/// Who a producer says it is.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    pub name: &'a str,
    pub id: i64,
    pub epoch: i16,
}

impl Transactions {
    /// An id for a producer that is idempotent only.
    pub fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// Id and epoch for a transactional producer. Who had the name before is fenced, its open transaction aborted.
    /// `known`: id and epoch that the producer has (KIP-360), or -1.
    ///
    /// # Errors
    /// For a bad name or timeout, or if `known` is fenced already.
    pub fn init(&mut self, cluster: &Cluster, name: &str, timeout: Duration, known: (i64, i16)) -> Result<(i64, i16), ResponseError> {
        if name.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let fresh = self.last_id + 1;
        let Some(producer) = self.by_name.get_mut(name) else {
            self.last_id = fresh;
            self.by_name.insert(name.to_owned(), Producer { id: fresh, epoch: 0, timeout, open: None, ended: None });
            return Ok((fresh, 0));
        };
        if known.0 >= 0 && known != (producer.id, producer.epoch) {
            return Err(ResponseError::ProducerFenced);
        }
        producer.timeout = timeout;
        producer.abort_and_fence(cluster)?;
        if producer.epoch >= i16::MAX - 1 {
            self.last_id = fresh;
            (producer.id, producer.epoch) = (fresh, 0);
        }
        Ok((producer.id, producer.epoch))
    }

    fn find(&mut self, who: Identity<'_>) -> Result<&mut Producer, ResponseError> {
        let producer = self.by_name.get_mut(who.name).filter(|p| p.id == who.id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        if producer.epoch == who.epoch { Ok(producer) } else { Err(ResponseError::ProducerFenced) }
    }

    /// Partitions that the transaction will write to; begins it.
    ///
    /// # Errors
    /// If the producer is fenced.
    pub fn add_partitions(&mut self, who: Identity<'_>, partitions: Vec<(Place, Arc<Log>)>) -> Result<(), ResponseError> {
        self.find(who)?.open().logs.extend(partitions);
        Ok(())
    }

    /// A group whose offsets the transaction will commit; begins it.
    ///
    /// # Errors
    /// If the producer is fenced.
    pub fn add_group(&mut self, who: Identity<'_>, group: &str) -> Result<(), ResponseError> {
        let open = self.find(who)?.open();
        if !open.groups.iter().any(|g| g == group) {
            open.groups.push(group.to_owned());
        }
        Ok(())
    }

    /// Offsets that count if the transaction commits.
    ///
    /// # Errors
    /// If the producer is fenced or has not named the group.
    pub fn add_offsets(&mut self, who: Identity<'_>, group: &str, offsets: Vec<(Place, Committed)>) -> Result<(), ResponseError> {
        let open = self.find(who)?.open.as_mut().filter(|o| o.groups.iter().any(|g| g == group));
        let open = open.ok_or(ResponseError::InvalidTxnState)?;
        open.offsets.extend(offsets.into_iter().map(|(place, committed)| (group.to_owned(), place, committed)));
        Ok(())
    }

    /// Whether a producer may append to a partition (KIP-890's verification, always on).
    ///
    /// # Errors
    /// If it is fenced or has not named the partition.
    pub fn check_append(&mut self, who: Identity<'_>, place: &Place) -> Result<(), ResponseError> {
        let producer = self.find(who).map_err(|e| match e {
            ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
            other => other,
        })?;
        match producer.open.as_ref().is_some_and(|o| o.logs.contains_key(place)) {
            true => Ok(()),
            false => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Commits or aborts.
    ///
    /// # Errors
    /// If the producer is fenced or there is nothing to end.
    pub fn end(&mut self, cluster: &Cluster, who: Identity<'_>, commit: bool) -> Result<(), ResponseError> {
        let producer = self.find(who)?;
        match (&producer.open, producer.ended) {
            (Some(_), _) => producer.end(cluster, commit),
            (None, Some(ended)) if ended == commit => Ok(()),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Whether an open transaction holds an offset of the group (KIP-447's `require_stable`).
    pub fn holds(&self, group: &str, place: &Place) -> bool {
        let open = self.by_name.values().filter_map(|p| p.open.as_ref());
        open.flat_map(|o| &o.offsets).any(|(g, p, _)| g == group && p == place)
    }

    /// Aborts transactions that took longer than their producers said, and fences these.
    pub fn abort_expired(&mut self, cluster: &Cluster, now: Instant) {
        for (name, producer) in &mut self.by_name {
            if producer.open.as_ref().is_some_and(|o| o.until <= now) {
                tracing::warn!("the transaction of '{name}' took longer than {:?} and is aborted", producer.timeout);
                if let Err(e) = producer.abort_and_fence(cluster) {
                    tracing::error!("aborting the transaction of '{name}': {e}");
                }
            }
        }
    }
}

impl Producer {
    fn open(&mut self) -> &mut Open {
        let until = Instant::now() + self.timeout;
        self.open.get_or_insert_with(|| Open { until, logs: HashMap::new(), groups: vec![], offsets: vec![] })
    }

    /// Raises the epoch first, so that the end markers carry the new one and partitions refuse the old one.
    fn abort_and_fence(&mut self, cluster: &Cluster) -> Result<(), ResponseError> {
        self.epoch += 1;
        self.end(cluster, false)?;
        self.ended = None;
        Ok(())
    }

    fn end(&mut self, cluster: &Cluster, commit: bool) -> Result<(), ResponseError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let now = now_millis();
        for log in open.logs.values() {
            log.end_transaction(commit, self.id, self.epoch, now)?;
        }
        if commit {
            for (group, place, committed) in open.offsets {
                cluster.group(&group).store(vec![(place, committed)]);
            }
        }
        self.ended = Some(commit);
        Ok(())
    }
}
