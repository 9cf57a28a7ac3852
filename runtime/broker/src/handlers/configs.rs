//! DescribeConfigs: what a topic was created with, and what holds for all.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::{Context, text};
use crate::cluster::NODE;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
// DYNAMIC_TOPIC_CONFIG, STATIC_BROKER_CONFIG, DEFAULT_CONFIG
const FROM_TOPIC: i8 = 1;
const FROM_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

pub async fn describe(context: &Context<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    DescribeConfigsResponse::default().with_results(request.resources.into_iter().map(|r| one(context, r)).collect())
}

fn one(context: &Context<'_>, resource: DescribeConfigsResource) -> DescribeConfigsResult {
    let configs = match resource.resource_type {
        TOPIC => context
            .cluster
            .topics
            .get(&resource.resource_name)
            .map(|t| topic(context, &t.configs))
            .ok_or(ResponseError::UnknownTopicOrPartition),
        BROKER if *resource.resource_name == *NODE.to_string() => Ok(broker(context)),
        _ => Err(ResponseError::InvalidRequest),
    };
    let wanted = |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|k| **k == *name));
    let result =
        DescribeConfigsResult::default().with_resource_type(resource.resource_type).with_resource_name(resource.resource_name.clone());
    match configs {
        Ok(configs) => {
            let shown = configs.into_iter().filter(|(name, ..)| wanted(name)).map(|(name, value, source)| {
                DescribeConfigsResourceResult::default().with_name(text(&name)).with_value(Some(text(&value))).with_config_source(source)
            });
            result.with_error_message(None).with_configs(shown.collect())
        }
        Err(e) => result.with_error_code(e.code()).with_error_message(super::message(e)),
    }
}

type Configs = Vec<(String, String, i8)>;

fn topic(context: &Context<'_>, given: &BTreeMap<String, String>) -> Configs {
    let retention = context.cluster.topics.retention().map_or("-1".to_owned(), |b| b.to_string());
    let defaults =
        [("cleanup.policy", "delete"), ("compression.type", "producer"), ("retention.bytes", &retention), ("retention.ms", "-1")];
    let mut all: BTreeMap<String, (String, i8)> = defaults.iter().map(|(k, v)| (k.to_string(), (v.to_string(), DEFAULT))).collect();
    all.extend(given.iter().map(|(k, v)| (k.clone(), (v.clone(), FROM_TOPIC))));
    all.into_iter().map(|(k, (v, source))| (k, v, source)).collect()
}

fn broker(context: &Context<'_>) -> Configs {
    let partitions = context.cluster.topics.default_partitions().to_string();
    let all = [("auto.create.topics.enable", "true"), ("default.replication.factor", "1"), ("num.partitions", &partitions)];
    all.iter().map(|(k, v)| (k.to_string(), v.to_string(), FROM_BROKER)).collect()
}
