//! What all connections share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::Config;
use crate::groups::Group;
use crate::topics::Topics;
use crate::transactions::Transactions;

/// The only node.
pub const NODE: i32 = 1;
/// The epoch of every partition's only leader.
pub const LEADER_EPOCH: i32 = 0;

/// Locks are taken in this order: transactions, then a partition's log or a group.
pub struct Cluster {
    pub id: String,
    pub topics: Topics,
    pub transactions: Mutex<Transactions>,
    groups: Mutex<HashMap<String, Arc<Group>>>,
}

impl Cluster {
    pub fn new(config: &Config) -> Self {
        Self {
            id: Uuid::new_v4().simple().to_string(),
            topics: Topics::new(config.default_partitions, config.retention_bytes),
            transactions: Mutex::default(),
            groups: Mutex::default(),
        }
    }

    /// A consumer group, created if it is not there.
    pub fn group(&self, id: &str) -> Arc<Group> {
        lock(&self.groups).entry(id.to_owned()).or_default().clone()
    }

    pub fn existing_group(&self, id: &str) -> Option<Arc<Group>> {
        lock(&self.groups).get(id).cloned()
    }

    pub fn all_groups(&self) -> Vec<(String, Arc<Group>)> {
        lock(&self.groups).iter().map(|(id, g)| (id.clone(), g.clone())).collect()
    }

    pub fn remove_group(&self, id: &str) {
        lock(&self.groups).remove(id);
    }
}

/// Locks; a panic of another thread does not spread, because every change under these locks leaves them usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the epoch.
pub fn now_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

const HOUSEKEEPING: Duration = Duration::from_millis(200);

/// Ends sessions of silent group members, rebalances that take too long, and transactions that time out.
pub async fn housekeeping(cluster: Arc<Cluster>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        interval.tick().await;
        let now = Instant::now();
        for (_, group) in cluster.all_groups() {
            group.tick(now);
        }
        lock(&cluster.transactions).abort_expired(&cluster, now);
    }
}
