//! One function a request; the table below says which versions are spoken.
//!
//! The upper versions stop before topics are named by id in Produce and Fetch (KIP-516), before KIP-848's groups and before
//! KIP-890's second part; clients choose the highest that both sides know.

mod configs;
mod fetch;
mod groups;
mod metadata;
mod offsets;
mod produce;
mod topics;
mod transactions;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

use crate::cluster::Cluster;

/// What a request comes with.
pub struct Context<'a> {
    pub cluster: &'a Arc<Cluster>,
    /// Where the client reached the broker; it is told to go on there.
    pub host: StrBytes,
    pub port: i32,
    pub client: StrBytes,
    pub peer: StrBytes,
    pub version: i16,
}

type Answer<R> = Option<<R as Request>::Response>;

macro_rules! apis {
    ($($key:ident $request:ident $min:literal $max:literal $handler:path;)*) => {
        const APIS: &[(ApiKey, i16, i16)] = &[$((ApiKey::$key, $min, $max)),*];

        /// Decodes, handles and encodes. Answers whether there is an answer.
        ///
        /// # Errors
        /// If the body is malformed or the answer cannot be encoded in the version asked for.
        pub async fn dispatch(key: ApiKey, context: &Context<'_>, mut body: Bytes, out: &mut BytesMut) -> Result<bool, String> {
            match key {
                $(ApiKey::$key => {
                    let request = $request::decode(&mut body, context.version).map_err(|e| e.to_string())?;
                    let answer: Answer<$request> = $handler(context, request).await.into();
                    let Some(answer) = answer else { return Ok(false) };
                    answer.encode(out, context.version).map_err(|e| e.to_string())?;
                })*
                other => return Err(format!("{other:?} is not supported")),
            }
            Ok(true)
        }
    };
}

apis! {
    Produce ProduceRequest 3 11 produce::produce;
    Fetch FetchRequest 4 12 fetch::fetch;
    ListOffsets ListOffsetsRequest 1 7 fetch::list_offsets;
    Metadata MetadataRequest 0 12 metadata::metadata;
    OffsetCommit OffsetCommitRequest 2 8 offsets::commit;
    OffsetFetch OffsetFetchRequest 1 8 offsets::fetch;
    FindCoordinator FindCoordinatorRequest 0 4 metadata::find_coordinator;
    JoinGroup JoinGroupRequest 0 9 groups::join;
    Heartbeat HeartbeatRequest 0 4 groups::heartbeat;
    LeaveGroup LeaveGroupRequest 0 5 groups::leave;
    SyncGroup SyncGroupRequest 0 5 groups::sync;
    DescribeGroups DescribeGroupsRequest 0 5 groups::describe;
    ListGroups ListGroupsRequest 0 4 groups::list;
    ApiVersions ApiVersionsRequest 0 3 api_versions;
    CreateTopics CreateTopicsRequest 2 7 topics::create;
    DeleteTopics DeleteTopicsRequest 1 6 topics::delete;
    DeleteRecords DeleteRecordsRequest 0 2 topics::delete_records;
    InitProducerId InitProducerIdRequest 0 4 transactions::init;
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest 2 4 fetch::leader_epoch;
    AddPartitionsToTxn AddPartitionsToTxnRequest 0 3 transactions::add_partitions;
    AddOffsetsToTxn AddOffsetsToTxnRequest 0 3 transactions::add_offsets;
    EndTxn EndTxnRequest 0 3 transactions::end;
    TxnOffsetCommit TxnOffsetCommitRequest 0 3 transactions::offset_commit;
    DescribeConfigs DescribeConfigsRequest 1 4 configs::describe;
    CreatePartitions CreatePartitionsRequest 0 3 topics::create_partitions;
    DeleteGroups DeleteGroupsRequest 0 2 groups::delete;
    OffsetDelete OffsetDeleteRequest 0 0 offsets::delete;
    DescribeCluster DescribeClusterRequest 0 1 metadata::describe_cluster;
}

pub fn supports(key: ApiKey, version: i16) -> bool {
    APIS.iter().any(|(k, min, max)| *k == key && (*min..=*max).contains(&version))
}

fn versions() -> ApiVersionsResponse {
    let version = |(key, min, max): &(ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*min).with_max_version(*max)
    };
    ApiVersionsResponse::default().with_api_keys(APIS.iter().map(version).collect())
}

/// What a client gets that asks for the versions in a version that is not known.
pub fn unsupported_version() -> ApiVersionsResponse {
    versions().with_error_code(ResponseError::UnsupportedVersion.code())
}

async fn api_versions(_: &Context<'_>, _: ApiVersionsRequest) -> ApiVersionsResponse {
    versions()
}

/// The protocol's code; 0 is success.
fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// An error in words.
fn message(error: ResponseError) -> Option<StrBytes> {
    Some(StrBytes::from_string(error.to_string()))
}
