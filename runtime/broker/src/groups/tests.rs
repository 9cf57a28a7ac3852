#![allow(clippy::unwrap_used)]
use super::*;

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

fn join(member: &StrBytes, instance: Option<&str>) -> Join {
    Join {
        member: member.clone(),
        instance: instance.map(text),
        client: text("c"),
        host: text("h"),
        session: Duration::from_secs(10),
        rebalance: Duration::from_secs(60),
        protocol_type: text("consumer"),
        protocols: vec![(text("range"), Bytes::from_static(b"r")), (text("roundrobin"), Bytes::from_static(b"rr"))],
        promise_first: false,
    }
}

fn later<T>(reply: Reply<T>) -> oneshot::Receiver<T> {
    match reply {
        Reply::Later(receiver) => receiver,
        Reply::Now(_) => panic!("answered at once"),
    }
}

fn caller<'a>(joined: &'a Joined) -> Caller<'a> {
    Caller { member: &joined.member, instance: None, generation: joined.generation }
}

/// Two members in generation 2, the first one leads.
fn two() -> (Group, Joined, Joined) {
    let group = Group::default();
    let first = later(group.join(join(&text(""), None))).try_recv().unwrap().unwrap();
    assert_eq!((first.generation, &first.leader, first.members.len()), (1, &first.member, 1));
    let mut second = later(group.join(join(&text(""), None)));
    assert!(second.try_recv().is_err(), "the first has not joined again");
    assert_eq!(group.heartbeat(&caller(&first)), Err(ResponseError::RebalanceInProgress));
    let first = later(group.join(join(&first.member, None))).try_recv().unwrap().unwrap();
    let second = second.try_recv().unwrap().unwrap();
    assert_eq!((first.generation, second.generation, first.members.len(), second.members.len()), (2, 2, 2, 0));
    (group, first, second)
}

#[test]
fn members_join_and_are_assigned() {
    let (group, first, second) = two();
    let mut waiting = later(group.sync(&caller(&second), vec![]));
    assert!(waiting.try_recv().is_err());
    let assignments = vec![(first.member.clone(), Bytes::from_static(b"1")), (second.member.clone(), Bytes::from_static(b"2"))];
    let mut own = later(group.sync(&caller(&first), assignments));
    assert_eq!(own.try_recv().unwrap().unwrap().assignment, "1");
    assert_eq!(waiting.try_recv().unwrap().unwrap().assignment, "2");
    assert_eq!(group.heartbeat(&caller(&second)), Ok(()));
    assert_eq!(group.describe().state, "Stable");
    // Who leaves makes the others join again.
    group.leave(&second.member, None).unwrap();
    assert_eq!(group.heartbeat(&caller(&first)), Err(ResponseError::RebalanceInProgress));
    assert_eq!(group.heartbeat(&caller(&second)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn silent_members_are_dropped() {
    let (group, first, _) = two();
    group.tick(Instant::now() + Duration::from_secs(5));
    assert_eq!(group.describe().members.len(), 2);
    group.tick(Instant::now() + Duration::from_secs(11));
    assert!(group.is_empty());
    assert_eq!(group.heartbeat(&caller(&first)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_rebalance_does_not_wait_for_ever() {
    let (group, ..) = two();
    let mut third = later(group.join(join(&text(""), None)));
    group.tick(Instant::now() + Duration::from_secs(61));
    let third = third.try_recv().unwrap().unwrap();
    assert_eq!((third.generation, &third.leader), (3, &third.member));
}

#[test]
fn new_members_come_back_with_their_id() {
    let group = Group::default();
    let ask = Join { promise_first: true, ..join(&text(""), None) };
    let Reply::Now(Err((ResponseError::MemberIdRequired, id))) = group.join(ask) else { panic!() };
    let joined = later(group.join(Join { promise_first: true, ..join(&id, None) })).try_recv().unwrap().unwrap();
    assert_eq!(joined.member, id);
    let unknown = group.join(join(&text("somebody"), None));
    assert!(matches!(unknown, Reply::Now(Err((ResponseError::UnknownMemberId, _)))));
}

#[test]
fn a_static_member_replaces_itself() {
    let group = Group::default();
    let old = later(group.join(join(&text(""), Some("i")))).try_recv().unwrap().unwrap();
    let new = later(group.join(join(&text(""), Some("i")))).try_recv().unwrap().unwrap();
    assert_ne!(old.member, new.member);
    let zombie = Caller { member: &old.member, instance: Some(&text("i")), generation: old.generation };
    assert_eq!(group.heartbeat(&zombie), Err(ResponseError::FencedInstanceId));
    assert_eq!(group.describe().members.len(), 1);
}

#[test]
fn who_may_commit() {
    let offsets = || vec![(("t".to_owned(), 0), Committed { offset: 5, leader_epoch: -1, metadata: text("") })];
    let nobody = text("");
    let outside = Caller { member: &nobody, instance: None, generation: -1 };
    let group = Group::default();
    assert_eq!(group.commit(&outside, offsets()), Ok(()));
    assert_eq!(group.with_offsets(|o| o.get(&("t".to_owned(), 0)).map(|c| c.offset)), Some(5));
    let (group, first, _) = two();
    assert_eq!(group.commit(&outside, offsets()), Err(ResponseError::UnknownMemberId));
    assert_eq!(group.commit(&caller(&first), offsets()), Err(ResponseError::RebalanceInProgress));
    later(group.sync(&caller(&first), vec![]));
    assert_eq!(group.commit(&caller(&first), offsets()), Ok(()));
    let old = Caller { generation: 1, ..caller(&first) };
    assert_eq!(group.commit(&old, offsets()), Err(ResponseError::IllegalGeneration));
}

#[test]
fn protocols_must_have_one_in_common() {
    let (group, ..) = two();
    let other = Join { protocols: vec![(text("sticky"), Bytes::new())], ..join(&text(""), None) };
    assert!(matches!(group.join(other), Reply::Now(Err((ResponseError::InconsistentGroupProtocol, _)))));
    let connect = Join { protocol_type: text("connect"), ..join(&text(""), None) };
    assert!(matches!(group.join(connect), Reply::Now(Err((ResponseError::InconsistentGroupProtocol, _)))));
}
