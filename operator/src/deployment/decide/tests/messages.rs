//! What users are told of what takes long.

use serde_json::json;

use super::*;

fn condition(decision: &Decision, kind: &str) -> String {
    let found = decision.status.conditions.iter().find(|c| c.type_ == kind).unwrap();
    format!("{}: {}", found.reason, found.message)
}

#[test]
fn what_a_pod_waits_for_is_told_with_what_to_do() {
    let pod = |reason: &str, text: &str| PodView {
        name: "job-r1-0".into(),
        waiting: Some((reason.to_owned(), text.to_owned())),
        ..PodView::default()
    };
    let going = PodView { name: "job-r1-0".into(), terminating: true, running: true, ..PodView::default() };
    for (what, pods, words) in [
        ("a Secret", vec![pod("ContainerCreating", "")], "kubectl describe pod job-r1-0"),
        ("a node", vec![pod("Unschedulable", "0/3 nodes are available")], "0/3 nodes are available"),
        ("its node is lost", vec![going], "job-r1-0 is terminating"),
        ("nothing", vec![PodView { running: true, ..PodView::default() }], "sources and sinks are being opened"),
    ] {
        let decision = Scene::new().with(|s| (s.observed.workloads[0].pods, s.observed.job) = (pods, None)).decide();
        let ready = condition(&decision, "Ready");
        assert!(ready.starts_with("Starting: ") && ready.contains(words), "{what}: {ready}");
    }
}

#[test]
fn an_upgrade_tells_of_the_old_pod_that_does_not_go() {
    let ready = |seconds| {
        let scene = Scene::upgrading(Step::Stop, seconds).with(|s| {
            s.observed.workloads[0].replicas = 0;
            s.observed.workloads[0].pods[0].terminating = true;
        });
        condition(&scene.decide(), "Ready").to_owned()
    };
    assert!(!ready(5).contains("terminating"), "it goes, as pods do: {}", ready(5));
    let ready = ready(60);
    assert!(ready.contains("(Stop): the pod job-r1-0 is terminating") && ready.contains("out-of-service"), "{ready}");
}

/// A Job that runs out of time takes its pod with it: what it waited for is known from before.
#[test]
fn a_preflight_that_found_no_node_says_so_and_how_to_try_again() {
    let waits = tried(None);
    let scene = Scene::upgrading(Step::Preflight, 60)
        .with(|s| s.observed.preflights = vec![Preflight { pending: Some("Unschedulable: 0/3 nodes".into()), ..waits }]);
    let first = scene.decide();
    assert!(condition(&first, "Ready").contains("Unschedulable: 0/3 nodes"), "{}", condition(&first, "Ready"));
    let passed = Scene { status: first.status.clone(), ..Scene::upgrading(Step::Preflight, 60) };
    let passed = passed.with(|s| s.observed.preflights = vec![tried(Some(Ok(None)))]).decide();
    assert_eq!(condition(&passed, "Ready"), "Upgrading: the spec is being rolled out (Savepoint)", "it waits no more");
    let ended = scene.with(|s| {
        s.status = first.status;
        s.observed.preflights = vec![tried(Some(Err(failure("PreflightFailed"))))];
    });
    let stalled = condition(&ended.decide(), "Stalled");
    assert!(stalled.contains("Unschedulable: 0/3 nodes") && stalled.contains("restartNonce"), "{stalled}");
}

#[test]
fn a_status_that_is_lost_is_made_of_what_runs() {
    let start = StartedFrom { state_id: 7, path: Some("/s".into()) };
    let decision = Scene::new()
        .with(|s| {
            s.status = StreamingDeploymentStatus::default();
            s.observed.workloads = vec![workload(1, 1), workload(2, 0)];
            s.observed.workloads[0].start = start.clone();
        })
        .decide();
    assert_eq!(line(&decision), "- Running [job-r1=1 delete:StatefulSet:job-r2]");
    assert_eq!((decision.status.started_from, decision.status.revision.unwrap().current), (Some(start), 1));
}

#[test]
fn a_start_waits_for_the_pods_of_an_earlier_object() {
    let scene = Scene::new().with(|s| {
        s.status = StreamingDeploymentStatus::default();
        s.observed.revisions.clear();
        s.observed.workloads[0].foreign = true;
    });
    let decision = scene.decide();
    assert_eq!(line(&decision), "- Pending [delete:StatefulSet:job-r1]");
    assert!(condition(&decision, "Reconciling").starts_with("PodsLeftOver: "));
    let gone = scene.with(|s| s.observed = Observed::default()).decide();
    assert_eq!(line(&gone), "Deploy/Start Deploying [revision:1 job-r1=1]");
}

#[test]
fn storage_can_be_added_where_there_was_none() {
    let mut stateless = base_spec();
    stateless.as_object_mut().unwrap().remove("storage");
    stateless["upgrade"] = json!({"mode": "Stateless"});
    let decision = Scene::new().with(|s| s.observed.revisions = vec![revision(1, &stateless)]).decide();
    assert_eq!(line(&decision), "Upgrade/Preflight Upgrading [revision:2 dry:job-r2 try:job-r2-preflight]");
    assert_eq!(decision.status.operation.unwrap().start, Some(StartedFrom { state_id: 2, path: None }));
}

#[test]
fn a_set_that_somebody_has_scaled_is_put_back() {
    let settled = || {
        let first = Scene::new().decide();
        let applied = first.actions.iter().filter_map(|a| match a {
            Action::Apply(c) => Some(((c.kind, c.name.clone()), c.hash.clone())),
            _ => None,
        });
        let applied: crate::k8s::children::Applied = applied.collect();
        Scene::new().with(|s| (s.status, s.observed.applied) = (first.status, applied))
    };
    assert_eq!(line(&settled().decide()), "- Running []");
    for replicas in [0, 2] {
        let decision = settled().with(|s| s.observed.workloads[0].replicas = replicas).decide();
        assert_eq!(line(&decision), "- Running [job-r1=1]", "{replicas}");
        assert_eq!(decision.events.iter().map(|e| e.reason.as_str()).collect::<Vec<_>>(), ["ScaledBack"]);
    }
    // The ControllerRevision was deleted: the children say that it was made of this spec.
    let decision = settled().with(|s| s.observed.revisions.clear()).decide();
    assert_eq!(line(&decision), "- Running [revision:1]");
}
