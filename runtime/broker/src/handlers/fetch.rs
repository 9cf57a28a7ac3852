//! Fetch, ListOffsets, OffsetForLeaderEpoch.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::*;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Context, code};
use crate::cluster::LEADER_EPOCH;
use crate::log::Fetched;

/// READ_COMMITTED
const COMMITTED: i8 = 1;
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const MAX_TIMESTAMP: i64 = -3;

/// Reads; waits until `min_bytes` are there, `max_wait_ms` have passed, or a partition has an error. There are no fetch
/// sessions (KIP-227): session id 0 says so.
pub async fn fetch(context: &Context<'_>, request: FetchRequest) -> FetchResponse {
    let until = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let least = usize::try_from(request.min_bytes).unwrap_or(0);
    let waiter = Arc::new(Notify::new());
    loop {
        let (responses, size, failed) = read_all(context, &request, &waiter);
        let done = failed || size >= least || request.topics.is_empty();
        if done || timeout_at(until, waiter.notified()).await.is_err() {
            return FetchResponse::default().with_responses(responses);
        }
    }
}

fn read_all(context: &Context<'_>, request: &FetchRequest, waiter: &Arc<Notify>) -> (Vec<FetchableTopicResponse>, usize, bool) {
    let (mut size, mut failed) = (0, false);
    let limit = usize::try_from(request.max_bytes).unwrap_or(0);
    let topics = request.topics.iter().map(|topic: &FetchTopic| {
        let partitions = topic.partitions.iter().map(|p| {
            let fetched = context.cluster.topics.log(&topic.topic, p.partition).and_then(|log| {
                let most = usize::try_from(p.partition_max_bytes).unwrap_or(0).min(limit.saturating_sub(size));
                log.read(p.fetch_offset, most, size == 0, request.isolation_level == COMMITTED, waiter)
            });
            failed |= fetched.is_err();
            let answer = PartitionData::default().with_partition_index(p.partition);
            match fetched {
                Ok(fetched) => {
                    size += fetched.records.len();
                    data(answer, fetched, request.isolation_level == COMMITTED)
                }
                Err(e) => answer.with_error_code(e.code()).with_high_watermark(-1).with_aborted_transactions(None),
            }
        });
        FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    (topics, size, failed)
}

fn data(answer: PartitionData, fetched: Fetched, committed: bool) -> PartitionData {
    let aborted =
        fetched.aborted.iter().map(|a| AbortedTransaction::default().with_producer_id(a.producer_id.into()).with_first_offset(a.first));
    answer
        .with_high_watermark(fetched.bounds.end)
        .with_last_stable_offset(fetched.bounds.stable)
        .with_log_start_offset(fetched.bounds.start)
        .with_aborted_transactions(committed.then(|| aborted.collect()))
        .with_records(Some(fetched.records))
}

pub async fn list_offsets(context: &Context<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == COMMITTED;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let found = offset(context, &topic.name, p, committed);
            let (offset, timestamp) = *found.as_ref().unwrap_or(&(-1, -1));
            ListOffsetsPartitionResponse::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code(&found))
                .with_offset(offset)
                .with_timestamp(timestamp)
                .with_leader_epoch(if offset < 0 { -1 } else { LEADER_EPOCH })
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Offset and timestamp; -1 where there is none.
fn offset(context: &Context<'_>, topic: &str, wanted: &ListOffsetsPartition, committed: bool) -> Result<(i64, i64), ResponseError> {
    let log = context.cluster.topics.log(topic, wanted.partition_index)?;
    let bounds = log.bounds();
    Ok(match wanted.timestamp {
        EARLIEST => (bounds.start, -1),
        LATEST if committed => (bounds.stable, -1),
        LATEST => (bounds.end, -1),
        MAX_TIMESTAMP => log.newest()?.unwrap_or((-1, -1)),
        at => log.offset_at(at, committed)?.unwrap_or((-1, -1)),
    })
}

/// There was only ever one leader epoch: it ends at the log's end.
pub async fn leader_epoch(context: &Context<'_>, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let end = context.cluster.topics.log(&topic.topic, p.partition).and_then(|log| match p.leader_epoch {
                LEADER_EPOCH => Ok(log.bounds().end),
                _ => Err(ResponseError::UnknownLeaderEpoch),
            });
            EpochEndOffset::default()
                .with_partition(p.partition)
                .with_error_code(code(&end))
                .with_leader_epoch(LEADER_EPOCH)
                .with_end_offset(end.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
