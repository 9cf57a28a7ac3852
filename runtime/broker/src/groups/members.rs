//! The members of a group, in the order in which they came.

use std::time::{Duration, Instant};

use bytes::Bytes;
use indexmap::IndexMap;
use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

use super::{Join, JoinResult, Synced};

pub struct Member {
    pub instance: Option<StrBytes>,
    pub client: StrBytes,
    pub host: StrBytes,
    session: Duration,
    rebalance: Duration,
    pub protocols: Vec<(StrBytes, Bytes)>,
    pub assignment: Bytes,
    /// When it was last heard of.
    pub seen: Instant,
    /// It waits for the others to join.
    joining: Option<oneshot::Sender<JoinResult>>,
    /// It waits for its assignment.
    pub syncing: Option<oneshot::Sender<Result<Synced, ResponseError>>>,
}

impl Member {
    /// What it said for a protocol.
    pub fn subscription(&self, protocol: &StrBytes) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, s)| s.clone()).unwrap_or_default()
    }

    fn supports(&self, protocol: &StrBytes) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// It is silent for too long, or has hung up while it waited.
    fn is_gone(&self, now: Instant) -> bool {
        let hung_up = self.joining.as_ref().is_some_and(oneshot::Sender::is_closed);
        let waits = self.joining.is_some() || self.syncing.as_ref().is_some_and(|s| !s.is_closed());
        hung_up || (!waits && now.saturating_duration_since(self.seen) > self.session)
    }
}

#[derive(Default)]
pub struct Members(IndexMap<StrBytes, Member>);

impl Members {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, id: &StrBytes) -> Option<&Member> {
        self.0.get(id.as_bytes())
    }

    pub fn get_mut(&mut self, id: &StrBytes) -> Option<&mut Member> {
        self.0.get_mut(id.as_bytes())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&StrBytes, &Member)> {
        self.0.iter()
    }

    pub fn first(&self) -> Option<StrBytes> {
        self.0.keys().next().cloned()
    }

    pub fn of_instance(&self, instance: &StrBytes) -> Option<StrBytes> {
        self.0.iter().find(|(_, m)| m.instance.as_ref() == Some(instance)).map(|(id, _)| id.clone())
    }

    /// Whether a protocol of `offered` is one of all members but `id`.
    pub fn accept(&self, offered: &[(StrBytes, Bytes)], id: &StrBytes) -> bool {
        offered.iter().any(|(name, _)| self.0.iter().all(|(other, m)| other == id || m.supports(name)))
    }

    /// Adds a member or renews it; it waits for the others.
    pub fn put(&mut self, id: StrBytes, join: Join, joining: oneshot::Sender<JoinResult>) {
        let member = Member {
            instance: join.instance,
            client: join.client,
            host: join.host,
            session: join.session,
            rebalance: join.rebalance,
            protocols: join.protocols,
            assignment: Bytes::new(),
            seen: Instant::now(),
            joining: Some(joining),
            syncing: None,
        };
        self.0.insert(id, member);
    }

    pub fn remove(&mut self, id: &StrBytes) -> bool {
        self.0.shift_remove(id.as_bytes()).is_some()
    }

    pub fn longest_rebalance(&self) -> Duration {
        self.0.values().map(|m| m.rebalance).max().unwrap_or_default()
    }

    pub fn all_joined(&self) -> bool {
        self.0.values().all(|m| m.joining.is_some())
    }

    pub fn not_joined(&self) -> Vec<StrBytes> {
        self.0.iter().filter(|(_, m)| m.joining.is_none()).map(|(id, _)| id.clone()).collect()
    }

    pub fn expired(&self, now: Instant) -> Vec<StrBytes> {
        self.0.iter().filter(|(_, m)| m.is_gone(now)).map(|(id, _)| id.clone()).collect()
    }

    /// The protocol that the leader likes most of those that all have.
    pub fn common_protocol(&self, leader: &StrBytes) -> Option<StrBytes> {
        let names = self.get(leader)?.protocols.iter().map(|(name, _)| name);
        names.into_iter().find(|name| self.0.values().all(|m| m.supports(name))).cloned()
    }

    /// Those that wait for the others; their sessions begin anew.
    pub fn take_joining(&mut self) -> Vec<(StrBytes, oneshot::Sender<JoinResult>)> {
        let mut waiting = Vec::with_capacity(self.0.len());
        for (id, member) in &mut self.0 {
            member.seen = Instant::now();
            waiting.extend(member.joining.take().map(|s| (id.clone(), s)));
        }
        waiting
    }

    pub fn assign(&mut self, assignments: Vec<(StrBytes, Bytes)>) {
        for (id, assignment) in assignments {
            if let Some(member) = self.get_mut(&id) {
                member.assignment = assignment;
            }
        }
    }

    /// Answers all that wait for an assignment.
    pub fn sync_all(&mut self, answer: impl Fn(&StrBytes, &Member) -> Result<Synced, ResponseError>) {
        for (id, member) in &mut self.0 {
            if let Some(sender) = member.syncing.take() {
                member.seen = Instant::now();
                let _ = sender.send(answer(id, member));
            }
        }
    }
}
