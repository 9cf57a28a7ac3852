//! What the Kafka connectors share: the client, Java's property names, table options, where to start and to stop.

pub(crate) mod client;
pub(crate) mod gate;
pub(crate) mod jaas;
pub(crate) mod oauth;
pub(crate) mod offsets;
pub(crate) mod producer;
pub(crate) mod properties;
pub(crate) mod rows;
pub(crate) mod start;
pub(crate) mod table;
pub(crate) mod token;
pub(crate) mod transaction;

use crate::{CommittedOffset, OffsetCommitter, PartitionOffset};
use offsets::TopicOffset;

impl OffsetCommitter for client::Client {
    fn commit(&self, offsets: &[CommittedOffset]) -> sluice_batch::Result<bool> {
        self.commit_wait(&with_metadata(offsets))
    }
}

fn offset(o: &PartitionOffset) -> TopicOffset {
    TopicOffset { topic: o.topic.clone(), partition: o.partition, offset: o.offset }
}

/// As the client takes them.
pub(crate) fn with_metadata(offsets: &[CommittedOffset]) -> Vec<(TopicOffset, String)> {
    offsets.iter().map(|c| (offset(&c.at), c.metadata.clone())).collect()
}

/// As the client answers; without partitions that have none.
pub(crate) fn committed(found: Vec<(TopicOffset, String)>) -> Vec<CommittedOffset> {
    let found = found.into_iter().filter(|(o, _)| o.offset >= 0);
    found
        .map(|(o, metadata)| CommittedOffset { at: PartitionOffset { topic: o.topic, partition: o.partition, offset: o.offset }, metadata })
        .collect()
}
