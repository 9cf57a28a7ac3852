//! InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn.

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult};
use kafka_protocol::messages::txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
use kafka_protocol::messages::*;

use super::{Context, code};
use crate::cluster::lock;
use crate::groups::{Caller, Committed};
use crate::transactions::Identity;

pub async fn init(context: &Context<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let mut transactions = lock(&context.cluster.transactions);
    let result = match &request.transactional_id {
        None => Ok((transactions.next_id(), 0)),
        Some(name) => {
            let timeout = Duration::from_millis(u64::try_from(request.transaction_timeout_ms).unwrap_or(0));
            transactions.init(context.cluster, name, timeout, (request.producer_id.0, request.producer_epoch))
        }
    };
    let (id, epoch) = *result.as_ref().unwrap_or(&(-1, -1));
    InitProducerIdResponse::default().with_error_code(code(&result)).with_producer_id(id.into()).with_producer_epoch(epoch)
}

pub async fn add_partitions(context: &Context<'_>, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let who = Identity {
        name: &request.v3_and_below_transactional_id,
        id: request.v3_and_below_producer_id.0,
        epoch: request.v3_and_below_producer_epoch,
    };
    let places = request.v3_and_below_topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.to_string(), *p)));
    let logs: Vec<_> = places.map(|place| (context.cluster.topics.log(&place.0, place.1), place)).collect();
    let missing = logs.iter().any(|(log, _)| log.is_err());
    let added = match missing {
        // All or none (Kafka: the others were not attempted).
        true => Err(ResponseError::OperationNotAttempted),
        false => {
            let logs = logs.iter().filter_map(|(log, place)| Some((place.clone(), log.clone().ok()?))).collect();
            lock(&context.cluster.transactions).add_partitions(who, logs)
        }
    };
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let result = if missing { context.cluster.topics.log(&topic.name, *p).map(drop).and(added) } else { added };
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*p).with_partition_error_code(code(&result))
        });
        AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

pub async fn add_offsets(context: &Context<'_>, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let who = Identity { name: &request.transactional_id, id: request.producer_id.0, epoch: request.producer_epoch };
    let result = lock(&context.cluster.transactions).add_group(who, &request.group_id);
    AddOffsetsToTxnResponse::default().with_error_code(code(&result))
}

pub async fn offset_commit(context: &Context<'_>, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let who = Identity { name: &request.transactional_id, id: request.producer_id.0, epoch: request.producer_epoch };
    let caller = Caller { member: &request.member_id, instance: request.group_instance_id.as_ref(), generation: request.generation_id };
    let mut offsets = vec![];
    for topic in &request.topics {
        for p in &topic.partitions {
            let metadata = p.committed_metadata.clone().unwrap_or_default();
            let committed = Committed { offset: p.committed_offset, leader_epoch: p.committed_leader_epoch, metadata };
            offsets.push(((topic.name.to_string(), p.partition_index), committed));
        }
    }
    let checked = context.cluster.group(&request.group_id).check_transactional(&caller);
    let result = checked.and_then(|()| lock(&context.cluster.transactions).add_offsets(who, &request.group_id, offsets));
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|p| TxnOffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code(&result)));
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

pub async fn end(context: &Context<'_>, request: EndTxnRequest) -> EndTxnResponse {
    let who = Identity { name: &request.transactional_id, id: request.producer_id.0, epoch: request.producer_epoch };
    let result = lock(&context.cluster.transactions).end(context.cluster, who, request.committed);
    EndTxnResponse::default().with_error_code(code(&result))
}
