//! Who is there: Metadata, FindCoordinator, DescribeCluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::*;
use uuid::Uuid;

use super::{Context, text};
use crate::cluster::{LEADER_EPOCH, NODE};
use crate::topics::Topic;

pub async fn metadata(context: &Context<'_>, request: MetadataRequest) -> MetadataResponse {
    let all = match &request.topics {
        None => true,
        // Version 0 has no null: an empty list means all.
        Some(list) => list.is_empty() && context.version == 0,
    };
    let topics = &context.cluster.topics;
    let found = if all {
        topics.all().iter().map(described).collect()
    } else {
        let wanted = request.topics.unwrap_or_default();
        let create = request.allow_auto_topic_creation || context.version < 4;
        wanted.into_iter().map(|t| one(context, t.name, t.topic_id, create)).collect()
    };
    let broker = MetadataResponseBroker::default().with_node_id(NODE.into()).with_host(context.host.clone()).with_port(context.port);
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(&context.cluster.id)))
        .with_controller_id(NODE.into())
        .with_topics(found)
}

/// A topic that was asked for; created if the client wants (`auto.create.topics.enable`).
fn one(context: &Context<'_>, name: Option<TopicName>, id: Uuid, create: bool) -> MetadataResponseTopic {
    let topics = &context.cluster.topics;
    let missing =
        |error: ResponseError| MetadataResponseTopic::default().with_name(name.clone()).with_topic_id(id).with_error_code(error.code());
    let Some(asked) = &name else {
        return topics.by_id(id).map_or_else(|| missing(ResponseError::UnknownTopicId), |t| described(&t));
    };
    match topics.get(asked) {
        Some(topic) => described(&topic),
        None if create => match topics.create(asked, -1, BTreeMap::new()) {
            Ok(topic) => described(&topic),
            // Another connection was faster.
            Err(ResponseError::TopicAlreadyExists) => missing(ResponseError::LeaderNotAvailable),
            Err(error) => missing(error),
        },
        None => missing(ResponseError::UnknownTopicOrPartition),
    }
}

fn described(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE.into())
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![NODE.into()])
            .with_isr_nodes(vec![NODE.into()])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id)
        .with_partitions((0..topic.partitions()).map(partition).collect())
}

pub async fn find_coordinator(context: &Context<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let one = |key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(NODE.into())
            .with_host(context.host.clone())
            .with_port(context.port)
            .with_error_message(None)
    };
    if context.version >= 4 {
        return FindCoordinatorResponse::default().with_coordinators(request.coordinator_keys.into_iter().map(one).collect());
    }
    FindCoordinatorResponse::default()
        .with_node_id(NODE.into())
        .with_host(context.host.clone())
        .with_port(context.port)
        .with_error_message(None)
}

pub async fn describe_cluster(context: &Context<'_>, _: DescribeClusterRequest) -> DescribeClusterResponse {
    let broker = DescribeClusterBroker::default().with_broker_id(NODE.into()).with_host(context.host.clone()).with_port(context.port);
    DescribeClusterResponse::default().with_cluster_id(text(&context.cluster.id)).with_controller_id(NODE.into()).with_brokers(vec![broker])
}
