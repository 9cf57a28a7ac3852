//! CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::*;

use super::{Context, code, message, text};

pub async fn create(context: &Context<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let results = request.topics.into_iter().map(|t| create_one(context, t, request.validate_only)).collect();
    CreateTopicsResponse::default().with_topics(results)
}

fn create_one(context: &Context<'_>, topic: CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let configs: BTreeMap<String, String> =
        topic.configs.iter().filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string()))).collect();
    let assigned = i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX);
    let partitions = if assigned > 0 { assigned } else { topic.num_partitions };
    let topics = &context.cluster.topics;
    let created = match (topic.replication_factor, assigned) {
        (-1 | 1, _) | (_, 1..) => match validate_only {
            true => topics.check(&topic.name, partitions, &configs).map(|()| None),
            false => topics.create(&topic.name, partitions, configs).map(Some),
        },
        // There is one node.
        _ => Err(ResponseError::InvalidReplicationFactor),
    };
    let result = CreatableTopicResult::default().with_name(topic.name).with_error_message(None).with_configs(Some(vec![]));
    match created {
        Ok(Some(t)) => result.with_topic_id(t.id).with_num_partitions(t.partitions()).with_replication_factor(1),
        Ok(None) => result.with_num_partitions(partitions).with_replication_factor(1),
        Err(e) => result.with_error_code(e.code()).with_error_message(message(e)),
    }
}

pub async fn delete(context: &Context<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let topics = &context.cluster.topics;
    let named = request.topic_names.into_iter().map(|name| (Some(name), uuid::Uuid::nil()));
    let wanted = request.topics.into_iter().map(|t| (t.name, t.topic_id)).chain(named);
    let one = |(name, id): (Option<TopicName>, uuid::Uuid)| {
        let topic = match &name {
            Some(name) => topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition),
            None => topics.by_id(id).ok_or(ResponseError::UnknownTopicId),
        };
        let result = DeletableTopicResult::default().with_error_message(None);
        match topic {
            Ok(topic) => {
                topics.delete(&topic.name);
                result.with_name(Some(TopicName(text(&topic.name)))).with_topic_id(topic.id)
            }
            Err(e) => result.with_name(name).with_topic_id(id).with_error_code(e.code()),
        }
    };
    DeleteTopicsResponse::default().with_responses(wanted.map(one).collect())
}

pub async fn create_partitions(context: &Context<'_>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|wanted| {
        let topic = context.cluster.topics.get(&wanted.name).ok_or(ResponseError::UnknownTopicOrPartition);
        let grown = topic.and_then(|t| match request.validate_only {
            true if wanted.count > t.partitions() => Ok(()),
            true => Err(ResponseError::InvalidPartitions),
            false => t.grow(wanted.count),
        });
        CreatePartitionsTopicResult::default()
            .with_name(wanted.name)
            .with_error_code(code(&grown))
            .with_error_message(grown.err().and_then(message))
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

pub async fn delete_records(context: &Context<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            let log = context.cluster.topics.log(&topic.name, p.partition_index);
            let start = log.and_then(|log| log.delete_before(p.offset));
            DeleteRecordsPartitionResult::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code(&start))
                .with_low_watermark(start.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
