#![allow(clippy::unwrap_used)]
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::json;
use sluice_crds::Savepoint;

use super::*;

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(s).unwrap()
}

fn owner() -> Owner {
    Owner { name: "job".into(), namespace: "ns".into(), uid: "u".into() }
}

fn pod(name: &str, version: u64) -> Pod {
    let labels = json!({"sluice.dev/deployment": "job", "app.kubernetes.io/managed-by": names::FIELD_MANAGER, "sluice.dev/revision": "r1"});
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version.to_string(), "labels": labels}}))
        .unwrap()
}

fn begun() -> Mirror {
    let mirror = Mirror::default();
    fn all<K: Child>(mirror: &Mirror) {
        mirror.told::<K>(&Event::Init);
        mirror.told::<K>(&Event::InitDone);
    }
    all::<ControllerRevision>(&mirror);
    all::<StatefulSet>(&mirror);
    all::<Job>(&mirror);
    all::<ConfigMap>(&mirror);
    all::<Service>(&mirror);
    all::<ServiceAccount>(&mirror);
    all::<PersistentVolumeClaim>(&mirror);
    all::<PodDisruptionBudget>(&mirror);
    all::<Savepoint>(&mirror);
    mirror.told::<Pod>(&Event::Init);
    mirror.told(&Event::InitApply(pod("a", 5)));
    assert_eq!(mirror.look(&owner(), at(0)).1, Kinds::ALL, "not all has been told");
    mirror.told::<Pod>(&Event::InitDone);
    mirror
}

fn pods(mirror: &Mirror, s: i64) -> (Vec<String>, Kinds) {
    let (children, stale) = mirror.look(&owner(), at(s));
    (children.pods().map(|p| p.view.name.clone()).collect(), stale)
}

#[test]
fn holds_what_watches_tell() {
    let mirror = begun();
    assert_eq!(pods(&mirror, 0), (vec!["a".into()], Kinds::NONE));
    mirror.told(&Event::Apply(pod("b", 6)));
    mirror.told(&Event::Delete(pod("a", 7)));
    assert_eq!(pods(&mirror, 0), (vec!["b".into()], Kinds::NONE));
    mirror.wrote(&pod("a", 5));
    assert_eq!(pods(&mirror, 0), (vec!["b".into()], Kinds::NONE), "it has gone since");
    mirror.wrote(&pod("c", 8));
    mirror.acted(&owner(), Kinds::PODS);
    assert_eq!(pods(&mirror, 599), (vec!["b".into(), "c".into()], Kinds::PODS));
    assert_eq!(pods(&mirror, 599).1, Kinds::NONE, "asked for once");
    assert_eq!(pods(&mirror, 600).1, Kinds::ALL, "ten minutes");
    let other = Owner { name: "other".into(), ..owner() };
    assert_eq!(mirror.look(&other, at(0)), (Children::default(), Kinds::NONE), "what nobody has told of is not there");
    let mut foreign = pod("d", 9);
    foreign.metadata.labels.as_mut().unwrap().remove(names::MANAGED_BY_LABEL);
    mirror.told(&Event::Apply(foreign));
    assert_eq!(pods(&mirror, 600).0, ["b", "c"]);
}

#[test]
fn what_a_broken_watch_has_missed_is_listed() {
    let mirror = begun();
    mirror.told(&Event::Apply(pod("b", 6)));
    mirror.told::<Pod>(&Event::Init);
    mirror.told(&Event::InitApply(pod("b", 6)));
    assert_eq!(pods(&mirror, 0).1, Kinds::NONE);
    mirror.told::<Pod>(&Event::InitDone);
    assert_eq!(pods(&mirror, 0), (vec!["a".into(), "b".into()], Kinds::PODS), "nobody has told of a");
    let listed = BTreeMap::from([("b".to_owned(), item(&pod("b", 6), pod("b", 6).seen()))]);
    mirror.told(&Event::Apply(pod("c", 12)));
    let after = mirror.listed::<Pod>(&owner(), &(listed.clone(), 10));
    assert_eq!(after.keys().collect::<Vec<_>>(), ["b", "c"], "newer than the list");
    mirror.told(&Event::Delete(pod("b", 13)));
    mirror.listed::<Pod>(&owner(), &(listed, 12));
    assert_eq!(pods(&mirror, 0).1, Kinds::PODS, "the list holds what has gone since");
}

#[test]
fn an_entry_goes_with_its_last_child() {
    let mirror = begun();
    mirror.told(&Event::Delete(pod("a", 7)));
    assert!(mirror.state().entries.is_empty());
    let mut odd = pod("a", 1);
    odd.metadata.resource_version = Some("x1".into());
    mirror.told(&Event::Apply(odd));
    assert_eq!(pods(&mirror, 0).1, Kinds::ALL, "versions cannot be compared");
}

#[test]
fn savepoints_are_listed_when_one_is_new() {
    let mirror = begun();
    let savepoint = |version: u64| -> PartialObjectMeta<Savepoint> {
        serde_json::from_value(serde_json::to_value(pod("s", version)).unwrap()).unwrap()
    };
    mirror.told_of(&Event::Apply(savepoint(9)));
    assert_eq!(pods(&mirror, 0).1, Kinds::SAVEPOINTS);
    let full: Savepoint =
        serde_json::from_value(json!({"metadata": serde_json::to_value(pod("s", 9).metadata).unwrap(), "spec": {}})).unwrap();
    mirror.wrote(&full);
    mirror.told_of(&Event::Apply(savepoint(9)));
    assert_eq!(pods(&mirror, 0).1, Kinds::NONE, "it is known");
    mirror.told_of(&Event::Delete(savepoint(10)));
    assert!(mirror.look(&owner(), at(0)).0.savepoints().is_empty());
}
