//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup, DescribeGroups, ListGroups, DeleteGroups.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::{Context, code, text};
use crate::groups::{Caller, Group, Join, JoinResult, Reply};

fn group(context: &Context<'_>, id: &GroupId) -> Result<Arc<Group>, ResponseError> {
    if id.is_empty() { Err(ResponseError::InvalidGroupId) } else { Ok(context.cluster.group(id)) }
}

pub async fn join(context: &Context<'_>, request: JoinGroupRequest) -> JoinGroupResponse {
    let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let session = millis(request.session_timeout_ms);
    let join = Join {
        member: request.member_id.clone(),
        promise_first: context.version >= 4 && request.group_instance_id.is_none(),
        instance: request.group_instance_id,
        client: context.client.clone(),
        host: context.peer.clone(),
        session,
        // Version 0 has none.
        rebalance: if request.rebalance_timeout_ms < 0 { session } else { millis(request.rebalance_timeout_ms) },
        protocol_type: request.protocol_type,
        protocols: request.protocols.into_iter().map(|p| (p.name, p.metadata)).collect(),
    };
    let result = match group(context, &request.group_id) {
        Err(error) => Err((error, request.member_id)),
        Ok(group) => match group.join(join) {
            Reply::Now(result) => result,
            Reply::Later(receiver) => receiver.await.unwrap_or(Err((ResponseError::UnknownMemberId, request.member_id))),
        },
    };
    joined(context, result)
}

fn joined(context: &Context<'_>, result: JoinResult) -> JoinGroupResponse {
    // Names became nullable with version 7.
    let nullable = |name: StrBytes| if name.is_empty() && context.version >= 7 { None } else { Some(name) };
    match result {
        Ok(joined) => {
            let member = |(id, instance, metadata)| {
                JoinGroupResponseMember::default().with_member_id(id).with_group_instance_id(instance).with_metadata(metadata)
            };
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(nullable(joined.protocol_type).filter(|_| context.version >= 7))
                .with_protocol_name(nullable(joined.protocol))
                .with_leader(joined.leader)
                .with_member_id(joined.member)
                .with_members(joined.members.into_iter().map(member).collect())
        }
        Err((error, member)) => JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(nullable(StrBytes::default()))
            .with_member_id(member),
    }
}

pub async fn sync(context: &Context<'_>, request: SyncGroupRequest) -> SyncGroupResponse {
    let caller = Caller { member: &request.member_id, instance: request.group_instance_id.as_ref(), generation: request.generation_id };
    let assignments = request.assignments.into_iter().map(|a| (a.member_id, a.assignment)).collect();
    let result = match group(context, &request.group_id) {
        Err(error) => Err(error),
        Ok(group) => match group.sync(&caller, assignments) {
            Reply::Now(result) => result,
            Reply::Later(receiver) => receiver.await.unwrap_or(Err(ResponseError::UnknownMemberId)),
        },
    };
    let named = context.version >= 5;
    match result {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(synced.protocol_type).filter(|_| named))
            .with_protocol_name(Some(synced.protocol).filter(|_| named))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

pub async fn heartbeat(context: &Context<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    let caller = Caller { member: &request.member_id, instance: request.group_instance_id.as_ref(), generation: request.generation_id };
    let result = group(context, &request.group_id).and_then(|g| g.heartbeat(&caller));
    HeartbeatResponse::default().with_error_code(code(&result))
}

pub async fn leave(context: &Context<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let group = group(context, &request.group_id);
    let one = |member: &StrBytes, instance: Option<&StrBytes>| group.as_ref().map_err(|e| *e).and_then(|g| g.leave(member, instance));
    if context.version < 3 {
        return LeaveGroupResponse::default().with_error_code(code(&one(&request.member_id, None)));
    }
    let members = request.members.into_iter().map(|m: MemberIdentity| {
        let result = one(&m.member_id, m.group_instance_id.as_ref());
        MemberResponse::default().with_member_id(m.member_id).with_group_instance_id(m.group_instance_id).with_error_code(code(&result))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

pub async fn describe(context: &Context<'_>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        let Some(group) = context.cluster.existing_group(&id) else {
            return DescribedGroup::default().with_group_id(id).with_group_state(text("Dead"));
        };
        let described = group.describe();
        let members = described.members.into_iter().map(|m| {
            DescribedGroupMember::default()
                .with_member_id(m.id)
                .with_group_instance_id(m.instance)
                .with_client_id(m.client)
                .with_client_host(m.host)
                .with_member_metadata(m.metadata)
                .with_member_assignment(m.assignment)
        });
        DescribedGroup::default()
            .with_group_id(id)
            .with_group_state(text(described.state))
            .with_protocol_type(described.protocol_type)
            .with_protocol_data(described.protocol)
            .with_members(members.collect())
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

pub async fn list(context: &Context<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    let groups = context.cluster.all_groups().into_iter().filter_map(|(id, group)| {
        let described = group.describe();
        let wanted = request.states_filter.is_empty() || request.states_filter.iter().any(|s| **s == *described.state);
        wanted.then(|| {
            let listed = ListedGroup::default().with_group_id(GroupId(text(&id))).with_protocol_type(described.protocol_type);
            if context.version >= 4 { listed.with_group_state(text(described.state)) } else { listed }
        })
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub async fn delete(context: &Context<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let result = match context.cluster.existing_group(&id) {
            None => Err(ResponseError::GroupIdNotFound),
            Some(group) if !group.is_empty() => Err(ResponseError::NonEmptyGroup),
            Some(_) => {
                context.cluster.remove_group(&id);
                Ok(())
            }
        };
        DeletableGroupResult::default().with_group_id(id).with_error_code(code(&result))
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
