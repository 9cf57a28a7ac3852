//! OffsetCommit, OffsetFetch, OffsetDelete.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::*;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::{Context, code, text};
use crate::cluster::lock;
use crate::groups::{Caller, Committed, Place};

pub async fn commit(context: &Context<'_>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let caller = Caller {
        member: &request.member_id,
        instance: request.group_instance_id.as_ref(),
        generation: request.generation_id_or_member_epoch,
    };
    let exists = |place: &Place| context.cluster.topics.log(&place.0, place.1).map(drop);
    let mut accepted = vec![];
    let mut topics: Vec<OffsetCommitResponseTopic> = vec![];
    for topic in request.topics {
        let mut partitions = vec![];
        for p in topic.partitions {
            let place = (topic.name.to_string(), p.partition_index);
            let result = exists(&place);
            partitions
                .push(OffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code(&result)));
            if result.is_ok() {
                let metadata = p.committed_metadata.unwrap_or_default();
                accepted.push((place, Committed { offset: p.committed_offset, leader_epoch: p.committed_leader_epoch, metadata }));
            }
        }
        topics.push(OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    let stored = match request.group_id.is_empty() {
        true => Err(ResponseError::InvalidGroupId),
        false => context.cluster.group(&request.group_id).commit(&caller, accepted),
    };
    if stored.is_err() {
        topics.iter_mut().flat_map(|t| &mut t.partitions).for_each(|p| p.error_code = code(&stored));
    }
    OffsetCommitResponse::default().with_topics(topics)
}

/// Topics with partitions that are asked for; `None`: all.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;
type Found = Vec<(TopicName, Vec<(i32, Result<Option<Committed>, ResponseError>)>)>;

pub async fn fetch(context: &Context<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if context.version >= 8 {
        let groups = request.groups.into_iter().map(|g| {
            let wanted = g.topics.map(|t| t.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
            let topics = found(context, &g.group_id, wanted, request.require_stable).into_iter().map(|(name, partitions)| {
                OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.into_iter().map(in_group).collect())
            });
            let topics = topics.collect();
            OffsetFetchResponseGroup::default().with_group_id(g.group_id).with_topics(topics)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let wanted = request.topics.map(|t| t.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    let topics = found(context, &request.group_id, wanted, request.require_stable).into_iter().map(|(name, partitions)| {
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.into_iter().map(alone).collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

/// Offset, leader epoch, metadata; -1 if nothing is committed.
fn values(found: &Result<Option<Committed>, ResponseError>) -> (i64, i32, StrBytes) {
    match found {
        Ok(Some(c)) => (c.offset, c.leader_epoch, c.metadata.clone()),
        _ => (-1, -1, StrBytes::default()),
    }
}

fn in_group((index, found): (i32, Result<Option<Committed>, ResponseError>)) -> OffsetFetchResponsePartitions {
    let (offset, epoch, metadata) = values(&found);
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_error_code(code(&found))
        .with_committed_offset(offset)
        .with_committed_leader_epoch(epoch)
        .with_metadata(Some(metadata))
}

fn alone((index, found): (i32, Result<Option<Committed>, ResponseError>)) -> OffsetFetchResponsePartition {
    let (offset, epoch, metadata) = values(&found);
    OffsetFetchResponsePartition::default()
        .with_partition_index(index)
        .with_error_code(code(&found))
        .with_committed_offset(offset)
        .with_committed_leader_epoch(epoch)
        .with_metadata(Some(metadata))
}

fn found(context: &Context<'_>, group: &GroupId, wanted: Wanted, stable: bool) -> Found {
    let known = context.cluster.existing_group(group);
    let Some(wanted) = wanted else {
        let all = known.map(|g| g.with_offsets(|o| o.clone())).unwrap_or_default();
        let mut topics: Found = vec![];
        for ((topic, partition), committed) in all {
            match topics.last_mut() {
                Some((name, partitions)) if ***name == *topic => partitions.push((partition, Ok(Some(committed)))),
                _ => topics.push((TopicName(text(&topic)), vec![(partition, Ok(Some(committed)))])),
            }
        }
        return topics;
    };
    let one = |topic: &TopicName, partition: i32| {
        let place = (topic.to_string(), partition);
        if stable && lock(&context.cluster.transactions).holds(group, &place) {
            return Err(ResponseError::UnstableOffsetCommit);
        }
        Ok(known.as_ref().and_then(|g| g.with_offsets(|o| o.get(&place).cloned())))
    };
    let topics = wanted.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|p| (p, one(&name, p))).collect();
        (name, partitions)
    });
    topics.collect()
}

pub async fn delete(context: &Context<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let Some(group) = context.cluster.existing_group(&request.group_id) else {
        return OffsetDeleteResponse::default().with_error_code(ResponseError::GroupIdNotFound.code());
    };
    if !group.is_empty() {
        return OffsetDeleteResponse::default().with_error_code(ResponseError::NonEmptyGroup.code());
    }
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            group.with_offsets(|o| o.remove(&(topic.name.to_string(), p.partition_index)));
            OffsetDeleteResponsePartition::default().with_partition_index(p.partition_index)
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
