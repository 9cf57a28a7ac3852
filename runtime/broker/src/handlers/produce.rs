//! Produce.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TransactionalId};

use super::Context;
use crate::batch;
use crate::cluster::lock;
use crate::transactions::Identity;

/// Appends; with `acks=0` there is no answer.
pub async fn produce(context: &Context<'_>, request: ProduceRequest) -> Option<ProduceResponse> {
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let partitions = topic.partition_data.into_iter().map(|p| {
            let records = p.records.unwrap_or_default();
            let answer = PartitionProduceResponse::default().with_index(p.index);
            match append(context, &topic.name, p.index, records, request.transactional_id.as_ref()) {
                Ok((offset, start)) => answer.with_base_offset(offset).with_log_start_offset(start),
                Err(e) => {
                    tracing::debug!("a batch for {}-{} is refused: {e}", topic.name.0, p.index);
                    answer.with_error_code(e.code()).with_base_offset(-1)
                }
            }
        });
        let partitions = partitions.collect();
        responses.push(TopicProduceResponse::default().with_name(topic.name).with_partition_responses(partitions));
    }
    (request.acks != 0).then(|| ProduceResponse::default().with_responses(responses))
}

/// Offset of the first record, and where the log starts.
fn append(
    context: &Context<'_>,
    topic: &str,
    partition: i32,
    records: Bytes,
    transactional: Option<&TransactionalId>,
) -> Result<(i64, i64), ResponseError> {
    let log = context.cluster.topics.log(topic, partition)?;
    let batches = batch::split(records)?;
    // Held until the records are in, so that the transaction does not end in between.
    let mut transactions = None;
    for (header, _) in batches.iter().filter(|(h, _)| h.transactional) {
        let name = transactional.ok_or(ResponseError::InvalidTxnState)?;
        let who = Identity { name, id: header.producer_id, epoch: header.producer_epoch };
        let transactions = transactions.get_or_insert_with(|| lock(&context.cluster.transactions));
        transactions.check_append(who, &(topic.to_owned(), partition))?;
    }
    Ok((log.append(batches)?, log.bounds().start))
}
