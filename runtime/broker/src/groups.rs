//! Consumer groups of the classic protocol (Kafka: `ClassicGroup`, `GroupMetadataManager`): membership, generations, assignments.
//!
//! ```text
//! Empty -> Preparing (members join) -> Completing (the leader assigns) -> Stable -> Preparing …
//! ```

mod members;
mod offsets;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::cluster::lock;
use members::{Member, Members};
pub use offsets::{Committed, Offsets, Place};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Empty,
    /// Until all members have joined again, or until then.
    Preparing(Instant),
    /// The leader has not sent assignments yet.
    Completing,
    Stable,
}

#[derive(Default)]
struct State {
    phase: Phase,
    generation: i32,
    protocol_type: StrBytes,
    protocol: StrBytes,
    leader: StrBytes,
    members: Members,
    /// Ids given out that have not come back (KIP-394), and until when they may.
    promised: Vec<(StrBytes, Instant)>,
    offsets: Offsets,
}

/// A group. Created empty by whoever first names it.
#[derive(Default)]
pub struct Group {
    state: Mutex<State>,
}

/// A request to join.
pub struct Join {
    /// Empty: new.
    pub member: StrBytes,
    /// `group.instance.id` of a static member.
    pub instance: Option<StrBytes>,
    pub client: StrBytes,
    pub host: StrBytes,
    pub session: Duration,
    pub rebalance: Duration,
    pub protocol_type: StrBytes,
    /// Names and subscriptions, by preference.
    pub protocols: Vec<(StrBytes, Bytes)>,
    /// A new member must come back with the id it is given (KIP-394).
    pub promise_first: bool,
}

/// What a member is told of a generation.
#[derive(Clone, Debug)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: StrBytes,
    pub protocol: StrBytes,
    pub leader: StrBytes,
    pub member: StrBytes,
    /// Members with instance and subscription, for the leader.
    pub members: Vec<(StrBytes, Option<StrBytes>, Bytes)>,
}

/// Why a member is not in, and its id if it got one.
pub type JoinResult = Result<Joined, (ResponseError, StrBytes)>;

/// A member's assignment.
#[derive(Clone, Debug)]
pub struct Synced {
    pub protocol_type: StrBytes,
    pub protocol: StrBytes,
    pub assignment: Bytes,
}

/// An answer, or where it will come.
pub enum Reply<T> {
    Now(T),
    Later(oneshot::Receiver<T>),
}

/// Who says something about a group.
pub struct Caller<'a> {
    pub member: &'a StrBytes,
    pub instance: Option<&'a StrBytes>,
    pub generation: i32,
}

/// What DescribeGroups and ListGroups show.
pub struct Description {
    pub state: &'static str,
    pub protocol_type: StrBytes,
    pub protocol: StrBytes,
    pub members: Vec<DescribedMember>,
}

pub struct DescribedMember {
    pub id: StrBytes,
    pub instance: Option<StrBytes>,
    pub client: StrBytes,
    pub host: StrBytes,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

impl Group {
    /// A member joins, new or again. The answer comes when all have.
    pub fn join(&self, join: Join) -> Reply<JoinResult> {
        let mut state = lock(&self.state);
        let id = match state.admit(&join) {
            Ok(id) => id,
            Err((error, id)) => return Reply::Now(Err((error, id))),
        };
        // A member that only lost the answer gets it again, without a rebalance (Kafka: `updateMemberThenRebalanceOrCompleteJoin`).
        let known = state.members.get(&id).is_some_and(|m| m.protocols == join.protocols);
        let answered = match state.phase {
            Phase::Completing => known,
            Phase::Stable => known && id != state.leader,
            Phase::Empty | Phase::Preparing(_) => false,
        };
        if answered {
            return Reply::Now(Ok(state.joined(&id)));
        }
        let (sender, receiver) = oneshot::channel();
        state.protocol_type = join.protocol_type.clone();
        state.members.put(id, join, sender);
        state.rebalance();
        Reply::Later(receiver)
    }

    /// The leader brings assignments, the others wait for theirs.
    pub fn sync(&self, caller: &Caller<'_>, assignments: Vec<(StrBytes, Bytes)>) -> Reply<Result<Synced, ResponseError>> {
        let mut state = lock(&self.state);
        if let Err(error) = state.check(caller) {
            return Reply::Now(Err(error));
        }
        match state.phase {
            Phase::Empty => Reply::Now(Err(ResponseError::UnknownMemberId)),
            Phase::Preparing(_) => Reply::Now(Err(ResponseError::RebalanceInProgress)),
            Phase::Stable => Reply::Now(Ok(state.synced(caller.member))),
            Phase::Completing => {
                let (sender, receiver) = oneshot::channel();
                if let Some(member) = state.members.get_mut(caller.member) {
                    member.syncing = Some(sender);
                }
                if *caller.member == state.leader {
                    state.assign(assignments);
                }
                Reply::Later(receiver)
            }
        }
    }

    /// # Errors
    /// [`ResponseError::RebalanceInProgress`] tells the member to join again; others that it is not (or no longer) in.
    pub fn heartbeat(&self, caller: &Caller<'_>) -> Result<(), ResponseError> {
        let mut state = lock(&self.state);
        state.check(caller)?;
        match state.phase {
            Phase::Preparing(_) => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// A member goes; static members may be named by instance alone.
    ///
    /// # Errors
    /// [`ResponseError::UnknownMemberId`], [`ResponseError::FencedInstanceId`].
    pub fn leave(&self, member: &StrBytes, instance: Option<&StrBytes>) -> Result<(), ResponseError> {
        let mut state = lock(&self.state);
        let id = match instance {
            Some(instance) => {
                let id = state.members.of_instance(instance).ok_or(ResponseError::UnknownMemberId)?;
                if !member.is_empty() && *member != id {
                    return Err(ResponseError::FencedInstanceId);
                }
                id
            }
            None => member.clone(),
        };
        state.promised.retain(|(p, _)| *p != id);
        if !state.members.remove(&id) {
            return Err(ResponseError::UnknownMemberId);
        }
        state.shrunk();
        Ok(())
    }

    /// Ends what took too long: sessions, joins, promises.
    pub fn tick(&self, now: Instant) {
        let mut state = lock(&self.state);
        state.promised.retain(|(_, until)| *until > now);
        let mut gone = state.members.expired(now);
        if let Phase::Preparing(until) = state.phase
            && now >= until
        {
            gone.extend(state.members.not_joined());
        }
        if gone.is_empty() {
            return;
        }
        for id in gone {
            tracing::debug!("group member {id} is gone");
            state.members.remove(&id);
        }
        state.shrunk();
    }

    /// Stores offsets.
    ///
    /// # Errors
    /// If the caller is not in the current generation. Without a member id it may be anybody as long as the group is empty.
    pub fn commit(&self, caller: &Caller<'_>, offsets: Vec<(Place, Committed)>) -> Result<(), ResponseError> {
        let mut state = lock(&self.state);
        let outside = caller.generation < 0 && caller.member.is_empty();
        match (outside, state.phase) {
            (true, Phase::Empty) => {}
            (false, Phase::Completing) => return Err(ResponseError::RebalanceInProgress),
            _ => state.check(caller)?,
        }
        state.offsets.extend(offsets);
        Ok(())
    }

    /// Checks who sends offsets in a transaction (KIP-447); older producers do not say.
    ///
    /// # Errors
    /// If the caller is not in the current generation.
    pub fn check_transactional(&self, caller: &Caller<'_>) -> Result<(), ResponseError> {
        if caller.generation < 0 && caller.member.is_empty() && caller.instance.is_none() {
            return Ok(());
        }
        lock(&self.state).check(caller)
    }

    /// Stores offsets of a transaction that was committed.
    pub fn store(&self, offsets: Vec<(Place, Committed)>) {
        lock(&self.state).offsets.extend(offsets);
    }

    pub fn with_offsets<T>(&self, f: impl FnOnce(&mut Offsets) -> T) -> T {
        f(&mut lock(&self.state).offsets)
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.state).members.is_empty()
    }

    pub fn describe(&self) -> Description {
        let state = lock(&self.state);
        let described = |id: &StrBytes, m: &Member| DescribedMember {
            id: id.clone(),
            instance: m.instance.clone(),
            client: m.client.clone(),
            host: m.host.clone(),
            metadata: m.subscription(&state.protocol),
            assignment: m.assignment.clone(),
        };
        let name = match state.phase {
            Phase::Empty => "Empty",
            Phase::Preparing(_) => "PreparingRebalance",
            Phase::Completing => "CompletingRebalance",
            Phase::Stable => "Stable",
        };
        let members = state.members.iter().map(|(id, m)| described(id, m)).collect();
        Description { state: name, protocol_type: state.protocol_type.clone(), protocol: state.protocol.clone(), members }
    }
}

impl State {
    /// The id under which a request to join is heard.
    fn admit(&mut self, join: &Join) -> Result<StrBytes, (ResponseError, StrBytes)> {
        let refuse = |error| Err((error, join.member.clone()));
        if join.session.is_zero() {
            return refuse(ResponseError::InvalidSessionTimeout);
        }
        let fits =
            self.members.is_empty() || (join.protocol_type == self.protocol_type && self.members.accept(&join.protocols, &join.member));
        if join.protocols.is_empty() || join.protocol_type.is_empty() || !fits {
            return refuse(ResponseError::InconsistentGroupProtocol);
        }
        if !join.member.is_empty() {
            if let Some(instance) = &join.instance
                && self.members.of_instance(instance).is_some_and(|id| id != join.member)
            {
                return refuse(ResponseError::FencedInstanceId);
            }
            let promised = self.promised.iter().position(|(id, _)| *id == join.member).map(|at| self.promised.swap_remove(at));
            if promised.is_none() && self.members.get(&join.member).is_none() {
                return refuse(ResponseError::UnknownMemberId);
            }
            return Ok(join.member.clone());
        }
        let unique = |name: &str| StrBytes::from_string(format!("{name}-{}", Uuid::new_v4()));
        if let Some(instance) = &join.instance {
            let id = unique(instance);
            if let Some(old) = self.members.of_instance(instance) {
                self.members.remove(&old);
            }
            return Ok(id);
        }
        let id = unique(&join.client);
        if join.promise_first {
            self.promised.push((id.clone(), Instant::now() + join.session));
            return Err((ResponseError::MemberIdRequired, id));
        }
        Ok(id)
    }

    /// A member that speaks of this generation; its session goes on.
    fn check(&mut self, caller: &Caller<'_>) -> Result<(), ResponseError> {
        if let Some(instance) = caller.instance {
            match self.members.of_instance(instance) {
                Some(id) if id == *caller.member => {}
                Some(_) => return Err(ResponseError::FencedInstanceId),
                None => return Err(ResponseError::UnknownMemberId),
            }
        }
        let generation = self.generation;
        let member = self.members.get_mut(caller.member).ok_or(ResponseError::UnknownMemberId)?;
        member.seen = Instant::now();
        if caller.generation == generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    /// Begins a rebalance if none is under way; ends it if all are there.
    fn rebalance(&mut self) {
        if !matches!(self.phase, Phase::Preparing(_)) {
            self.phase = Phase::Preparing(Instant::now() + self.members.longest_rebalance());
            self.members.sync_all(|_, _| Err(ResponseError::RebalanceInProgress));
        }
        if self.members.all_joined() {
            self.next_generation();
        }
    }

    /// Members have gone.
    fn shrunk(&mut self) {
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.generation += 1;
            self.leader = StrBytes::default();
        } else {
            self.rebalance();
        }
    }

    fn next_generation(&mut self) {
        self.generation += 1;
        self.phase = Phase::Completing;
        if self.members.get(&self.leader).is_none() {
            self.leader = self.members.first().unwrap_or_default();
        }
        self.protocol = self.members.common_protocol(&self.leader).unwrap_or_default();
        for (id, sender) in self.members.take_joining() {
            // Who has gone meanwhile is found by `tick`.
            let _ = sender.send(Ok(self.joined(&id)));
        }
    }

    fn joined(&self, id: &StrBytes) -> Joined {
        let members = self.members.iter().map(|(id, m)| (id.clone(), m.instance.clone(), m.subscription(&self.protocol)));
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member: id.clone(),
            members: if *id == self.leader { members.collect() } else { vec![] },
        }
    }

    fn assign(&mut self, assignments: Vec<(StrBytes, Bytes)>) {
        self.members.assign(assignments);
        self.phase = Phase::Stable;
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        self.members.sync_all(|_, m| {
            Ok(Synced { protocol_type: protocol_type.clone(), protocol: protocol.clone(), assignment: m.assignment.clone() })
        });
    }

    fn synced(&self, id: &StrBytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
