//! The table: spec × what is seen.
#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;
use crate::deployment::observe::PodView;

fn owner() -> Owner {
    Owner { name: "c".into(), namespace: "ns".into(), uid: "u".into() }
}

fn cluster(spec: Value) -> SessionCluster {
    serde_json::from_value(json!({"metadata": {"name": "c", "generation": 2, "finalizers": [names::FINALIZER]}, "spec": spec})).unwrap()
}

/// A pod as this spec makes it, with jobs: (name, uid).
fn worker(ordinal: i32, spec: &Value, jobs: &[(&str, &str)]) -> Worker {
    let (_, hash) = build::template(&owner(), &serde_json::from_value(spec.clone()).unwrap(), "image:1");
    let jobs: Vec<Value> =
        jobs.iter().map(|(name, uid)| json!({"name": name, "tasks": 1, "annotations": {names::UID_ANNOTATION: uid}})).collect();
    let info = json!({"slots": {"total": 2, "free": 2 - jobs.len()}, "jobs": jobs});
    let (name, host) = (format!("c-session-{ordinal}"), Some(format!("10.0.0.{ordinal}:8081")));
    let pod = PodView { name, running: true, address: host, ..PodView::default() };
    Worker { pod, ready: true, template: Some(hash), session: Some(Ok(serde_json::from_value(info).unwrap())) }
}

fn user(name: &str) -> Deployment {
    Deployment { name: name.into(), uid: format!("uid-{name}"), cluster: Some("c".into()), deleting: false }
}

/// A cluster of this spec as it is when nothing is to be done.
fn settled(spec: &Value, jobs: &[(&str, &str)]) -> Seen {
    let replicas = spec["workers"]["replicas"].as_i64().unwrap_or(1) as i32;
    let typed: sluice_crds::SessionClusterSpec = serde_json::from_value(spec.clone()).unwrap();
    let mut children = build::around(&owner(), &typed);
    children.push(build::workers(&owner(), &typed, build::template(&owner(), &typed, "image:1").0, replicas));
    let mut workers: Vec<Worker> = (0..replicas).map(|n| worker(n, spec, &[])).collect();
    workers[0] = worker(0, spec, jobs);
    Seen {
        applied: children.into_iter().map(|c| ((c.kind, c.name), c.hash)).collect(),
        storage: Some(build::storage_hash(&typed)),
        replicas,
        workers,
        deployments: vec![user("a"), user("b")],
        refused: None,
    }
}

/// Conditions and actions in a line.
fn line(object: &SessionCluster, seen: &Seen) -> (String, SessionClusterStatus) {
    let owner = owner();
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let decision = decide(&Input { owner: &owner, object, seen, default_image: "image:1", now });
    let actions: Vec<String> = decision
        .actions
        .iter()
        .map(|a| match a {
            Action::Apply(c) if c.kind == Kind::StatefulSet => format!("pods={}", c.object["spec"]["replicas"]),
            Action::Apply(c) => format!("{:?}", c.kind),
            Action::Delete(kind, name) => format!("delete:{kind:?}:{name}"),
            Action::DeletePod(name) => format!("restart:{name}"),
            Action::DeleteDeployment(name) => format!("cascade:{name}"),
            Action::Withdraw { job, .. } => format!("withdraw:{job}"),
            Action::AddFinalizer => "+finalizer".into(),
            Action::RemoveFinalizer => "-finalizer".into(),
        })
        .collect();
    let update = decision.status.update.as_ref().map_or("", |u| if u.suspends_jobs { " suspends" } else { " waits" });
    let conditions: Vec<String> = decision
        .status
        .conditions
        .iter()
        .filter(|c| c.status == "True" && c.type_ != "Ready")
        .map(|c| format!("{}:{}", c.type_, c.reason))
        .collect();
    let ready = decision.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let conditions = if ready { "Ready".to_owned() } else { conditions.join(" ") };
    (format!("{conditions}{update} [{}]", actions.join(" ")), decision.status)
}

#[test]
fn spec_by_what_is_seen() {
    let old = || json!({"workers": {"slots": 2}});
    let new = || json!({"workers": {"slots": 3}});
    let two = || json!({"workers": {"replicas": 2, "slots": 2}});
    let jobs: &[(&str, &str)] = &[("a", "uid-a"), ("b", "uid-b")];
    let with = |spec: Value, key: &str, value: Value| {
        let mut spec = spec;
        spec[key] = value;
        spec
    };
    let all = "[ServiceAccount PodDisruptionBudget Service Service pods=1]";
    let stored = || json!({"workers": {"slots": 2}, "storage": {"uri": "s3://b/x"}});
    for (what, spec, seen, expected) in [
        ("new", old(), Seen::default(), &*format!("Reconciling:Starting {all}")),
        ("idle", old(), settled(&old(), jobs), "Ready []"),
        ("pods are restarted when jobs sleep", new(), settled(&old(), jobs), "Reconciling:SuspendingJobs suspends [pods=1]"),
        ("they sleep", new(), settled(&old(), &[]), "Reconciling:Updating suspends [pods=1 restart:c-session-0]"),
        ("or when none runs", with(new(), "onUpdate", json!("Block")), settled(&old(), jobs), "Reconciling:Blocked waits [pods=1]"),
        ("more pods", two(), settled(&old(), jobs), "Reconciling:Starting [pods=2]"),
        (
            "fewer pods, and their jobs first",
            old(),
            {
                let mut seen = settled(&two(), &[]);
                seen.workers[1] = worker(1, &two(), jobs);
                seen
            },
            "Reconciling:SuspendingJobs suspends []",
        ),
        ("fewer pods", old(), settled(&two(), jobs), "Reconciling:Updating suspends [pods=1]"),
        (
            "nobody knows what a pod runs",
            new(),
            {
                let mut seen = settled(&old(), &[]);
                seen.workers[0].session = Some(Err("timed out".into()));
                seen
            },
            "Reconciling:SuspendingJobs suspends [pods=1]",
        ),
        ("another image by default", old(), settled(&old(), jobs), "Ready []"),
        ("no gateway", with(old(), "gateway", json!({"enabled": false})), settled(&old(), jobs), "Ready [delete:Service:c-rest]"),
        ("a wrong spec leaves all as it is", with(new(), "secrets", json!(["x", "x"])), settled(&old(), jobs), "Stalled:Invalid []"),
        ("state stays where it is", stored(), settled(&old(), jobs), "Stalled:StorageChanged []"),
        ("a job without a deployment", old(), settled(&old(), &[("a", "uid-a"), ("x", "uid-gone")]), "Ready [withdraw:x]"),
        (
            "names",
            old(),
            {
                let mut seen = settled(&old(), &[]);
                seen.deployments = vec![Deployment { name: "c".into(), ..Deployment::default() }];
                seen
            },
            "Stalled:NameTaken []",
        ),
    ] {
        let mut object = cluster(spec);
        object.status = Some(SessionClusterStatus { image: Some("image:1".into()), ..SessionClusterStatus::default() });
        assert_eq!(line(&object, &seen).0, expected, "{what}");
    }
}

#[test]
fn an_operator_upgrade_restarts_no_pod() {
    let spec = json!({"workers": {"slots": 2}});
    let mut object = cluster(spec.clone());
    object.status = Some(SessionClusterStatus { image: Some("image:1".into()), ..SessionClusterStatus::default() });
    let (owner, seen, now) = (owner(), settled(&spec, &[]), "2026-01-01T00:00:00Z".parse().unwrap());
    let decision = decide(&Input { owner: &owner, object: &object, seen: &seen, default_image: "image:2", now });
    assert_eq!((decision.actions, decision.status.image.as_deref()), (vec![], Some("image:1")));
    object.spec.image = Some("image:3".into());
    let decision = decide(&Input { owner: &owner, object: &object, seen: &seen, default_image: "image:2", now });
    assert!(decision.actions.contains(&Action::DeletePod("c-session-0".into())));
}

#[test]
fn deletion_is_blocked_or_cascades() {
    for (policy, users, expected) in [
        ("Block", vec![user("a"), user("b")], "Reconciling:InUse []"),
        ("Cascade", vec![user("a"), Deployment { deleting: true, ..user("b") }], "Reconciling:Deleting [cascade:a]"),
        ("Block", vec![], "Ready [-finalizer]"),
        ("Block", vec![Deployment { cluster: Some("other".into()), ..user("a") }], "Ready [-finalizer]"),
    ] {
        let spec = json!({"onDelete": policy});
        let mut object = cluster(spec.clone());
        object.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        let mut seen = settled(&spec, &[]);
        seen.deployments = users;
        let (found, status) = line(&object, &seen);
        assert_eq!(found, expected, "{policy}");
        if expected.contains("InUse") {
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
            assert!(ready.message.contains("(a, b)") && ready.message.contains("Cascade"), "{}", ready.message);
        }
    }
}

#[test]
fn counts() {
    let spec = json!({"workers": {"replicas": 2, "slots": 2}, "gateway": {"port": 9000}});
    let mut seen = settled(&spec, &[("a", "uid-a")]);
    seen.workers[1].ready = false;
    let status = line(&cluster(spec), &seen).1;
    assert_eq!(status.workers, Some(WorkerCounts { desired: 2, ready: 1 }));
    assert_eq!(status.slots, Some(SlotCounts { total: 4, free: 3 }));
    assert_eq!(status.jobs, Some(JobCounts { managed: 1, interactive: 0 }));
    assert_eq!(status.endpoint.as_deref(), Some("http://c-rest.ns.svc:9000"));
}
