//! The table: phase × change × observation.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use sluice_crds::{OperationType, Phase, StreamingDeploymentSpec};

use super::*;
use crate::deployment::observe::{Ended, JobView, ObservedSavepoint, PodView, Preflight, Workload};
use crate::deployment::validate::validate;
use crate::runtime_api::{JobInfo, RuntimeState, SavepointInfo, SavepointState};

mod deletion;
mod messages;
mod scheduled;

const NOW: &str = "2026-06-01T12:00:00Z";

/// A deployment whose revision 1 runs and is stable.
struct Scene {
    spec: Value,
    status: StreamingDeploymentStatus,
    observed: Observed,
    deleting: Option<Timestamp>,
    finalizer: bool,
    refused: Option<(String, String)>,
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ago(seconds: i64) -> Time {
    Time(now() - SignedDuration::from_secs(seconds))
}

fn base_spec() -> Value {
    json!({"sql": {"inline": "SQL 1"}, "storage": {"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}})
}

fn judged(spec: &Value) -> Validated {
    let spec: StreamingDeploymentSpec = serde_json::from_value(spec.clone()).unwrap();
    let sql = spec.sql.inline.clone().unwrap();
    validate("job", "ns", &spec, Ok(&sql), None)
}

fn revision(number: i64, spec: &Value) -> Revision {
    Revision::new(number, &judged(spec).template.unwrap(), "image:1")
}

fn running(revision: i64, commits: u64) -> JobView {
    let info = JobInfo { state: RuntimeState::Running, commits, last_commit: Some(now()), ..JobInfo::default() };
    JobView { revision, pod: format!("job-r{revision}-0"), address: "10.0.0.1:8081".into(), info: Ok(info) }
}

fn workload(revision: i64, replicas: i32) -> Workload {
    let pod = PodView { name: format!("job-r{revision}-0"), running: true, address: Some("10.0.0.1:8081".into()), ..PodView::default() };
    let pods = if replicas > 0 { vec![pod] } else { vec![] };
    Workload { revision, replicas, start: StartedFrom { state_id: 1, path: None }, pods, refused: None, foreign: false }
}

fn tried(outcome: Option<Result<Option<String>, Failure>>) -> Preflight {
    Preflight { revision: 2, outcome, waits: None, pending: None }
}

fn failure(reason: &str) -> Failure {
    Failure { reason: reason.into(), message: "no".into() }
}

/// Revision 1 has never run, and does not run now.
fn never_ran(scene: &mut Scene) {
    scene.status.revision = Some(RevisionStatus { current: 1, target: 1, stable: None });
    info(scene).state = RuntimeState::Initializing;
}

/// The API server has refused a child as it is.
fn refused(child: &'static str) -> impl Fn(&mut Scene) {
    move |s| s.refused = Some(("Refused".into(), format!("failed to apply the {child}: StatefulSet is invalid: spec: no")))
}

/// The job of revision 1 has stopped with a savepoint.
fn has_stopped(scene: &mut Scene, path: &str) {
    let taken = SavepointInfo { directory: path.into(), state: SavepointState::Completed, ..SavepointInfo::default() };
    (info(scene).state, info(scene).savepoint) = (RuntimeState::Stopped, Some(taken));
}

impl Scene {
    fn new() -> Self {
        let status = StreamingDeploymentStatus {
            revision: Some(RevisionStatus { current: 1, target: 1, stable: Some(1) }),
            started_from: Some(StartedFrom { state_id: 1, path: None }),
            ..StreamingDeploymentStatus::default()
        };
        let mut observed = Observed { revisions: vec![revision(1, &base_spec())], ..Observed::default() };
        (observed.workloads, observed.job) = (vec![workload(1, 1)], Some(running(1, 5)));
        Self { spec: base_spec(), status, observed, deleting: None, finalizer: true, refused: None }
    }

    /// The spec asks for another SQL; an upgrade to revision 2 is at a step.
    fn upgrading(step: Step, seconds: i64) -> Self {
        let mut scene = Self::new();
        scene.spec["sql"]["inline"] = json!("SQL 2");
        let two = revision(2, &scene.spec);
        let start = (step >= Step::Stop).then(|| StartedFrom { state_id: 2, path: Some("/s".into()) });
        scene.status.operation = Some(Operation {
            kind: OperationType::Upgrade,
            step,
            started_at: ago(seconds),
            step_started_at: ago(seconds),
            revision: 2,
            hash: two.hash.clone(),
            from: Some(1),
            mode: sluice_crds::UpgradeMode::Savepoint,
            savepoint: (step >= Step::Savepoint).then(|| "job-r1-upgrade-1".into()),
            start,
            previous_start: Some(StartedFrom { state_id: 1, path: None }),
            running_since: None,
            message: None,
        });
        scene.observed.revisions.push(two);
        if step >= Step::Start {
            scene.status.revision = Some(RevisionStatus { current: 2, target: 2, stable: Some(1) });
            scene.observed.workloads = vec![workload(1, 0), workload(2, 1)];
            scene.observed.workloads[1].start = StartedFrom { state_id: 2, path: Some("/s".into()) };
            scene.observed.job = Some(running(2, 0));
        }
        scene
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn decide(&self) -> Decision {
        let valid = judged(&self.spec);
        let spec: StreamingDeploymentSpec = serde_json::from_value(self.spec.clone()).unwrap();
        let owner = Owner { name: "job".into(), namespace: "ns".into(), uid: "uid".into() };
        decide(&Input {
            owner: &owner,
            generation: 7,
            deleting: self.deleting,
            force_delete: false,
            has_finalizer: self.finalizer,
            valid: &valid,
            restore_from: spec.restore_from.as_ref(),
            observed: &self.observed,
            status: &self.status,
            default_image: "image:2",
            refused: self.refused.as_ref(),
            now: now(),
        })
    }
}

fn taken(state: SavepointState) -> SavepointInfo {
    SavepointInfo {
        directory: "/state/ns/job/savepoints/job-r1-upgrade-1".into(),
        state,
        error: Some("disk full".into()),
        size_bytes: None,
    }
}

fn savepoint(phase: sluice_crds::SavepointPhase) -> ObservedSavepoint {
    ObservedSavepoint {
        name: "job-r1-upgrade-1".into(),
        trigger: "upgrade".into(),
        phase,
        path: Some("/s".into()),
        ..ObservedSavepoint::default()
    }
}

fn info(scene: &mut Scene) -> &mut JobInfo {
    scene.observed.job.as_mut().unwrap().info.as_mut().unwrap()
}

fn ended(exit_code: i32, message: &str) -> PodView {
    let ended = Some(Ended { exit_code, message: message.into(), at: None });
    PodView { name: "job-r2-0".into(), restarts: 3, ended, waiting: Some(("CrashLoopBackOff".into(), String::new())), ..PodView::default() }
}

/// What a decision is about, in a line: operation and step, phase, reasons, and the kinds of actions other than plain applies.
fn line(decision: &Decision) -> String {
    let operation = decision.status.operation.as_ref().map_or("-".to_owned(), |o| format!("{:?}/{:?}", o.kind, o.step));
    let rejected = decision.status.rejected.as_ref().map(|r| format!(" rejected={}", r.reason)).unwrap_or_default();
    let halted = decision.status.halted.as_ref().map(|h| format!(" halted={}", h.reason)).unwrap_or_default();
    let actions: Vec<String> = decision
        .actions
        .iter()
        .filter_map(|a| match a {
            Action::Apply(c) if c.kind == Kind::StatefulSet => Some(format!("{}={}", c.name, c.object["spec"]["replicas"])),
            Action::Apply(c) if c.kind == Kind::Job => Some(format!("try:{}", c.name)),
            Action::Apply(_) => None,
            Action::Try(c) => Some(format!("dry:{}", c.name)),
            Action::CreateRevision(r) => Some(format!("revision:{}", r.number)),
            Action::TakeSavepoint { request, .. } => Some(format!("take:stop={}", request.stop)),
            Action::EndSavepoint { outcome, .. } => Some(format!("end:{}", outcome.is_ok())),
            Action::CreateSavepoint { trigger, owned, .. } => Some(format!("savepoint:{trigger}:owned={owned}")),
            Action::Delete(kind, name) => Some(format!("delete:{kind:?}:{name}")),
            Action::DeletePod(_) => Some("deletePod".into()),
            Action::Submit { submission, .. } => Some(format!("submit:{}", submission.annotations["sluice.dev/revision"])),
            Action::Withdraw { .. } => Some("withdraw".into()),
            Action::DeleteSavepoint(name) => Some(format!("deleteSavepoint:{name}")),
            Action::DeleteRevision(name) => Some(format!("deleteRevision:{name}")),
            Action::AddFinalizer => Some("+finalizer".into()),
            Action::RemoveFinalizer => Some("-finalizer".into()),
        })
        .collect();
    format!("{operation} {:?}{rejected}{halted} [{}]", decision.status.phase.unwrap(), actions.join(" "))
}

#[test]
fn phase_by_change_by_observation() {
    use sluice_crds::SavepointPhase::{Completed, Failed, Pending};
    let sql = |text: &'static str| move |s: &mut Scene| s.spec["sql"]["inline"] = json!(text);
    let fresh = || Scene::new().with(|s| (s.status, s.observed, s.finalizer) = Default::default());
    for (what, scene, expected) in [
        // Nothing there.
        ("new", fresh(), "Deploy/Start Deploying [+finalizer revision:1 job-r1=1]"),
        ("new, suspended", fresh().with(|s| s.spec["suspend"] = json!(true)), "- Suspended [+finalizer]"),
        ("new, invalid", fresh().with(|s| s.spec["parallelism"] = json!(0)), "- Pending [+finalizer]"),
        // Running.
        ("running", Scene::new(), "- Running [job-r1=1]"),
        ("SQL changed", Scene::new().with(sql("SQL 2")), "Upgrade/Preflight Upgrading [revision:2 dry:job-r2 try:job-r2-preflight]"),
        (
            "suspended",
            Scene::new().with(|s| s.spec["suspend"] = json!(true)),
            "Suspend/Savepoint Suspending [savepoint:suspend:owned=true]",
        ),
        (
            "suspended, LastState",
            Scene::new().with(|s| (s.spec["suspend"], s.spec["upgrade"]) = (json!(true), json!({"mode": "LastState"}))),
            "Suspend/Stop Suspending [job-r1=0]",
        ),
        ("finished", Scene::new().with(|s| info(s).state = RuntimeState::Finished), "- Finished halted=Finished [job-r1=0]"),
        ("stopped by somebody", Scene::new().with(|s| info(s).state = RuntimeState::Stopped), "- Running [job-r1=1 deletePod]"),
        (
            "failing, no restarts",
            Scene::new().with(|s| {
                s.spec["restart"] = json!({"enabled": false});
                s.observed.revisions = vec![revision(1, &s.spec)];
                (s.observed.workloads[0].pods, s.observed.job) = (vec![ended(1, "boom")], None);
            }),
            "- Failed halted=Failed [job-r1=0]",
        ),
        (
            "failing, restarts",
            Scene::new().with(|s| (s.observed.workloads[0].pods, s.observed.job) = (vec![ended(1, "boom")], None)),
            "- Running [job-r1=1]",
        ),
        ("storage changed", Scene::new().with(|s| s.spec["storage"]["uri"] = json!("file:///other")), "- Running [job-r1=1]"),
        (
            "told to go by its node",
            Scene::new().with(|s| (s.observed.workloads[0].pods, s.observed.job) = (vec![ended(0, "")], None)),
            "- Running [job-r1=1]",
        ),
        (
            "told to go by its node, no restarts",
            Scene::new().with(|s| {
                s.spec["restart"] = json!({"enabled": false});
                s.observed.revisions = vec![revision(1, &s.spec)];
                (s.observed.workloads[0].pods, s.observed.job) = (vec![ended(0, "")], None);
            }),
            "- Running [job-r1=1]",
        ),
        (
            "restoreFrom removed when it has done its work",
            Scene::new().with(|s| {
                let mut restored = base_spec();
                restored["restoreFrom"] = json!({"path": "/a", "nonce": 1});
                s.observed.revisions = vec![revision(1, &restored)];
            }),
            "- Running [job-r1=1]",
        ),
        (
            "restoreFrom removed, SQL changed",
            Scene::new().with(sql("SQL 2")).with(|s| {
                let mut restored = base_spec();
                restored["restoreFrom"] = json!({"path": "/a", "nonce": 1});
                s.observed.revisions = vec![revision(1, &restored)];
                s.observed.preflights = vec![tried(Some(Ok(None)))];
            }),
            "Upgrade/Savepoint Upgrading [revision:2 savepoint:upgrade:owned=true]",
        ),
        (
            "revision deleted, spec changed",
            Scene::new().with(|s| s.observed.revisions.clear()),
            "Upgrade/Stop Upgrading [delete:StatefulSet:job-r1]",
        ),
        (
            "revision deleted while suspended, spec changed",
            Scene::new().with(|s| {
                s.observed = Observed::default();
                s.spec["suspend"] = json!(true);
                s.status.halted = Some(sluice_crds::Halted { reason: "Suspended".into(), ..Default::default() });
            }),
            "- Suspended halted=Suspended []",
        ),
        // Preflight.
        (
            "preflight runs",
            Scene::upgrading(Step::Preflight, 5).with(|s| s.observed.preflights = vec![tried(None)]),
            "Upgrade/Preflight Upgrading []",
        ),
        (
            "preflight failed",
            Scene::upgrading(Step::Preflight, 5).with(|s| {
                let failure = Failure { reason: "InvalidSql".into(), message: "no".into() };
                s.observed.preflights = vec![tried(Some(Err(failure)))];
            }),
            "- Running rejected=InvalidSql [job-r1=1 delete:Job:job-r2-preflight]",
        ),
        (
            "preflight passed",
            Scene::upgrading(Step::Preflight, 5).with(|s| s.observed.preflights = vec![tried(Some(Ok(None)))]),
            "Upgrade/Savepoint Upgrading [savepoint:upgrade:owned=true]",
        ),
        (
            "preflight passed, but the old job has never run",
            Scene::upgrading(Step::Preflight, 5).with(never_ran).with(|s| s.observed.preflights = vec![tried(Some(Ok(None)))]),
            "Upgrade/Stop Upgrading [job-r1=0]",
        ),
        (
            "preflight says that some state starts empty",
            Scene::upgrading(Step::Preflight, 5).with(|s| s.observed.preflights = vec![tried(Some(Ok(Some("MAX is new".into()))))]),
            "Upgrade/Savepoint Upgrading [savepoint:upgrade:owned=true]",
        ),
        (
            "preflight says that state does not fit",
            Scene::upgrading(Step::Preflight, 5).with(|s| s.observed.preflights = vec![tried(Some(Err(failure("IncompatibleState"))))]),
            "- Running rejected=IncompatibleState [job-r1=1 delete:Job:job-r2-preflight]",
        ),
        (
            "preflight says that state does not fit, which is only to be told",
            Scene::upgrading(Step::Preflight, 5).with(|s| {
                s.spec["upgrade"] = json!({"compatibilityCheck": "Warn"});
                s.observed.preflights = vec![tried(Some(Err(failure("IncompatibleState"))))];
            }),
            "Upgrade/Savepoint Upgrading [savepoint:upgrade:owned=true]",
        ),
        (
            "preflight waits for its image",
            Scene::upgrading(Step::Preflight, 5)
                .with(|s| s.observed.preflights = vec![Preflight { waits: Some(failure("ImagePullFailed")), ..tried(None) }]),
            "Upgrade/Preflight Upgrading []",
        ),
        (
            "preflight waits for its image for too long",
            Scene::upgrading(Step::Preflight, 25)
                .with(|s| s.observed.preflights = vec![Preflight { waits: Some(failure("ImagePullFailed")), ..tried(None) }]),
            "- Running rejected=ImagePullFailed [job-r1=1 delete:Job:job-r2-preflight]",
        ),
        (
            "preflight, and changed again",
            Scene::upgrading(Step::Preflight, 5).with(sql("SQL 3")),
            "Upgrade/Preflight Upgrading [revision:3 dry:job-r3 try:job-r3-preflight]",
        ),
        ("preflight, and put back", Scene::upgrading(Step::Preflight, 5).with(sql("SQL 1")), "- Running [job-r1=1]"),
        (
            "preflight, and suspended",
            Scene::upgrading(Step::Preflight, 5).with(|s| s.spec["suspend"] = json!(true)),
            "Suspend/Savepoint Suspending [savepoint:suspend:owned=true]",
        ),
        (
            "preflight, and the API server would not take the pods",
            Scene::upgrading(Step::Preflight, 5).with(refused("StatefulSet job-r2")),
            "- Running rejected=Refused [job-r1=1]",
        ),
        (
            "preflight, and something else was refused before",
            Scene::upgrading(Step::Preflight, 5).with(refused("StatefulSet job-r1")),
            "Upgrade/Preflight Upgrading [dry:job-r2 try:job-r2-preflight]",
        ),
        // Savepoint.
        (
            "savepoint not asked for",
            Scene::upgrading(Step::Savepoint, 5).with(|s| s.observed.savepoints = vec![savepoint(Pending)]),
            "Upgrade/Savepoint Upgrading [take:stop=true]",
        ),
        (
            "savepoint under way",
            Scene::upgrading(Step::Savepoint, 5).with(|s| {
                s.observed.savepoints = vec![savepoint(Pending)];
                (info(s).state, info(s).savepoint) = (RuntimeState::Stopping, Some(taken(SavepointState::InProgress)));
            }),
            "Upgrade/Savepoint Upgrading []",
        ),
        (
            "savepoint there, job not stopped yet",
            Scene::upgrading(Step::Savepoint, 5).with(|s| {
                s.observed.savepoints = vec![savepoint(Pending)];
                (info(s).state, info(s).savepoint) = (RuntimeState::Stopping, Some(taken(SavepointState::Completed)));
            }),
            "Upgrade/Savepoint Upgrading []",
        ),
        (
            "savepoint there",
            Scene::upgrading(Step::Savepoint, 5).with(|s| {
                s.observed.savepoints = vec![savepoint(Pending)];
                (info(s).state, info(s).savepoint) = (RuntimeState::Stopped, Some(taken(SavepointState::Completed)));
            }),
            "Upgrade/Savepoint Upgrading [end:true]",
        ),
        (
            "savepoint failed in the job",
            Scene::upgrading(Step::Savepoint, 5).with(|s| {
                s.observed.savepoints = vec![savepoint(Pending)];
                info(s).savepoint = Some(taken(SavepointState::Failed));
            }),
            "Upgrade/Savepoint Upgrading [end:false]",
        ),
        (
            "savepoint, job silent",
            Scene::upgrading(Step::Savepoint, 5).with(|s| (s.observed.savepoints, s.observed.job) = (vec![savepoint(Pending)], None)),
            "Upgrade/Savepoint Upgrading []",
        ),
        (
            "savepoint, job silent for long",
            Scene::upgrading(Step::Savepoint, 35).with(|s| (s.observed.savepoints, s.observed.job) = (vec![savepoint(Pending)], None)),
            "Upgrade/Savepoint Upgrading [end:false]",
        ),
        (
            "savepoint, job opens its sources",
            Scene::upgrading(Step::Savepoint, 35).with(|s| {
                s.observed.savepoints = vec![savepoint(Pending)];
                info(s).state = RuntimeState::Initializing;
            }),
            "Upgrade/Savepoint Upgrading [end:false]",
        ),
        (
            "savepoint, takes long",
            Scene::upgrading(Step::Savepoint, 35).with(|s| {
                s.observed.savepoints = vec![savepoint(Pending)];
                (info(s).state, info(s).savepoint) = (RuntimeState::Stopping, Some(taken(SavepointState::InProgress)));
            }),
            "Upgrade/Savepoint Upgrading []",
        ),
        (
            "savepoint, job crashes",
            Scene::upgrading(Step::Savepoint, 5).with(|s| {
                (s.observed.savepoints, s.observed.job) = (vec![savepoint(Pending)], None);
                s.observed.workloads[0].pods = vec![ended(1, "boom")];
            }),
            "Upgrade/Savepoint Upgrading [end:false]",
        ),
        (
            "savepoint late",
            Scene::upgrading(Step::Savepoint, 601).with(|s| (s.observed.savepoints, s.observed.job) = (vec![savepoint(Pending)], None)),
            "Upgrade/Savepoint Upgrading [end:false]",
        ),
        (
            "savepoint complete",
            Scene::upgrading(Step::Savepoint, 5).with(|s| s.observed.savepoints = vec![savepoint(Completed)]),
            "Upgrade/Stop Upgrading [job-r1=0]",
        ),
        (
            "savepoint failed",
            Scene::upgrading(Step::Savepoint, 5).with(|s| s.observed.savepoints = vec![savepoint(Failed)]),
            "Upgrade/Stop Upgrading [job-r1=0]",
        ),
        (
            "savepoint failed, Block",
            Scene::upgrading(Step::Savepoint, 5).with(|s| {
                s.observed.savepoints = vec![savepoint(Failed)];
                s.spec["upgrade"] = json!({"fallback": "Block"});
            }),
            "- Running rejected=SavepointFailed [job-r1=1]",
        ),
        // Stop and start.
        ("stopping", Scene::upgrading(Step::Stop, 5), "Upgrade/Stop Upgrading [job-r1=0]"),
        (
            "stopped, pod going",
            Scene::upgrading(Step::Stop, 5).with(|s| s.observed.workloads[0].replicas = 0),
            "Upgrade/Stop Upgrading [job-r1=0]",
        ),
        (
            "stopped",
            Scene::upgrading(Step::Stop, 5).with(|s| s.observed.workloads = vec![workload(1, 0)]),
            "Upgrade/Start Upgrading [job-r1=0 job-r2=1]",
        ),
        (
            "stopped for good, pod there",
            Scene::upgrading(Step::Stop, 5).with(|s| has_stopped(s, "/s")),
            "Upgrade/Start Upgrading [job-r1=0 job-r2=1]",
        ),
        (
            "stopped with another savepoint",
            Scene::upgrading(Step::Stop, 5).with(|s| has_stopped(s, "/other")),
            "Upgrade/Stop Upgrading [job-r1=0]",
        ),
        (
            "starting, and the old one was not scaled down yet",
            Scene::upgrading(Step::Start, 5).with(|s| s.observed.workloads = vec![workload(1, 1)]),
            "Upgrade/Start Upgrading [job-r1=0 job-r2=1]",
        ),
        (
            "starting, and refused",
            Scene::upgrading(Step::Start, 5).with(|s| s.observed.workloads = vec![workload(1, 0)]).with(refused("StatefulSet job-r2")),
            "Rollback/Start RollingBack rejected=Refused [job-r1=1]",
        ),
        (
            "starting, and a quota is exceeded",
            Scene::upgrading(Step::Start, 5).with(|s| {
                s.observed.workloads = vec![workload(1, 0)];
                s.refused = Some(("QuotaExceeded".into(), "failed to apply the StatefulSet job-r2: exceeded quota".into()));
            }),
            "Upgrade/Start Upgrading [job-r2=1]",
        ),
        (
            "starting, and never taken",
            Scene::upgrading(Step::Start, 301).with(|s| s.observed.workloads = vec![workload(1, 0)]),
            "Rollback/Start RollingBack rejected=DeadlineExceeded [job-r1=1]",
        ),
        (
            "starting, and changed again before it was taken",
            Scene::upgrading(Step::Start, 5).with(sql("SQL 3")).with(|s| s.observed.workloads = vec![workload(1, 0)]),
            "Rollback/Start RollingBack rejected=Superseded [job-r1=1]",
        ),
        ("changed again after the stop", Scene::upgrading(Step::Stop, 5).with(sql("SQL 3")), "Upgrade/Stop Upgrading [job-r1=0]"),
        // Stabilize.
        ("runs, nothing committed", Scene::upgrading(Step::Stabilize, 5), "Upgrade/Stabilize Upgrading [job-r2=1]"),
        (
            "runs and has committed",
            Scene::upgrading(Step::Stabilize, 5).with(|s| info(s).commits = 1),
            "- Running [job-r2=1 delete:StatefulSet:job-r1]",
        ),
        ("too late", Scene::upgrading(Step::Stabilize, 301), "Rollback/Stop RollingBack rejected=DeadlineExceeded [job-r2=0]"),
        (
            "too late, no rollback",
            Scene::upgrading(Step::Stabilize, 301).with(|s| s.spec["upgrade"] = json!({"rollback": false})),
            "- Failed rejected=DeadlineExceeded [job-r2=1 delete:StatefulSet:job-r1]",
        ),
        (
            "state does not fit",
            Scene::upgrading(Step::Stabilize, 5).with(|s| {
                s.observed.job = None;
                s.observed.workloads[1].pods = vec![ended(2, "the savepoint holds state that this job has no place for")];
            }),
            "Rollback/Stop RollingBack rejected=IncompatibleState [job-r2=0]",
        ),
        (
            "superseded",
            Scene::upgrading(Step::Stabilize, 5).with(|s| (s.spec["sql"]["inline"], s.observed.job) = (json!("SQL 3"), None)),
            "Rollback/Stop RollingBack rejected=Superseded [job-r2=0]",
        ),
        // Deleting.
        ("deleted", Scene::new().with(|s| s.deleting = Some(now())), "Delete/Stop Deleting [job-r1=0]"),
        (
            "deleted with a savepoint",
            Scene::new().with(|s| (s.deleting, s.spec["onDelete"]) = (Some(now()), json!("Savepoint"))),
            "Delete/Savepoint Deleting [savepoint:delete:owned=false]",
        ),
        ("deleted long ago", Scene::new().with(|s| s.deleting = Some(now() - SignedDuration::from_secs(121))), "- Deleting [-finalizer]"),
        ("deleted, not ours", Scene::new().with(|s| (s.deleting, s.finalizer) = (Some(now()), false)), "- Deleting []"),
    ] {
        let decision = scene.decide();
        assert_eq!(line(&decision), expected, "{what}");
        assert_eq!(decision.status.observed_generation, Some(7), "{what}");
        // The same again, seen from what was written, decides nothing else: whoever dies after the write goes on here.
        let again = Scene { status: decision.status.clone(), ..scene };
        assert_eq!(again.decide().status, decision.status, "{what}, again");
    }
}

#[test]
fn transition_times_change_with_the_status_only() {
    let first = Scene::new().decide().status;
    let ready = |status: &StreamingDeploymentStatus| status.conditions.iter().find(|c| c.type_ == "Ready").unwrap().clone();
    assert_eq!(ready(&first).last_transition_time, Time(now()));
    let mut old = first;
    for condition in &mut old.conditions {
        condition.last_transition_time = ago(1000);
    }
    let same = Scene::new().with(|s| s.status = old.clone()).decide().status;
    assert_eq!(ready(&same).last_transition_time, ago(1000));
    let other = Scene::new().with(|s| (s.status, s.observed.job) = (old, None)).decide().status;
    assert_eq!((ready(&other).status.as_str(), ready(&other).last_transition_time), ("False", Time(now())));
}

#[test]
fn a_late_answer_is_no_other_state_as_long_as_the_probe_succeeds() {
    let first = Scene::new().decide().status;
    let silent = |ready: bool| {
        let scene = Scene::new().with(|s| {
            (s.status, s.observed.job) = (first.clone(), None);
            s.observed.workloads[0].pods[0].ready = ready;
        });
        let status = scene.decide().status;
        (status.job_state, status.conditions == first.conditions)
    };
    assert_eq!(silent(true), (Some(sluice_crds::JobState::Running), true));
    assert_eq!(silent(false), (Some(sluice_crds::JobState::Initializing), false));
}

#[test]
fn the_last_checkpoint_is_refreshed_every_ten_minutes() {
    let scene = |id: i64, seconds: i64| {
        let old = sluice_crds::LastCheckpoint { id, completed_at: ago(seconds), path: None };
        Scene::new().with(|s| s.status.last_checkpoint = Some(old)).decide().status.last_checkpoint.unwrap().id
    };
    assert_eq!((scene(3, 599), scene(3, 600)), (3, 5));
}

#[test]
fn checkpoints_that_stop_are_told() {
    let health = |seconds: i64| {
        let status = Scene::new().with(|s| info(s).last_commit = Some(ago(seconds).0)).decide().status;
        status.conditions.iter().find(|c| c.type_ == "CheckpointHealthy").unwrap().status.clone()
    };
    assert_eq!((health(29).as_str(), health(31).as_str()), ("True", "False"));
}

#[test]
fn history_is_bounded() {
    let scene = Scene::new().with(|s| {
        s.spec["revisionHistoryLimit"] = json!(2);
        s.spec["savepoints"] = json!({"historyLimit": 2, "maxAge": "1h"});
        s.status.revision = Some(RevisionStatus { current: 9, target: 9, stable: Some(9) });
        s.observed.revisions = (1..=9).map(|n| revision(n, &base_spec())).collect();
        s.observed.savepoints = (1..=4)
            .map(|n| ObservedSavepoint {
                name: format!("s{n}"),
                trigger: if n == 1 { "manual" } else { "upgrade" }.into(),
                phase: sluice_crds::SavepointPhase::Completed,
                path: Some(format!("/s{n}")),
                completed_at: Some(ago(n * 1900)),
                ..ObservedSavepoint::default()
            })
            .collect();
        s.status.started_from = Some(StartedFrom { state_id: 3, path: Some("/s4".into()) });
    });
    let decision = scene.decide();
    let line = line(&decision);
    assert!(line.contains("deleteRevision:job-r6") && !line.contains("deleteRevision:job-r7"), "{line}");
    assert!(line.contains("deleteSavepoint:s3"), "too old: {line}");
    assert!(!line.contains("deleteSavepoint:s1") && !line.contains("deleteSavepoint:s2"), "of the user, and the newest: {line}");
    assert!(!line.contains("deleteSavepoint:s4"), "the running state began with it: {line}");
    assert_eq!(decision.status.phase, Some(Phase::Running));
}

#[test]
fn the_same_savepoint_once_more_is_another_start() {
    let mut restore = base_spec();
    restore["restoreFrom"] = json!({"path": "file:///a", "nonce": 2});
    let start = |last: Option<&str>| {
        let last = last.map(|path| StartedFrom { state_id: 4, path: Some(path.into()) });
        let scene = Scene::new().with(|s| (s.spec, s.status.started_from) = (restore.clone(), last));
        scene.decide().status.operation.unwrap().start.unwrap()
    };
    for last in ["/b", "/a"] {
        assert_eq!(start(Some(last)), StartedFrom { state_id: 5, path: Some("/a".into()) });
    }
    assert!(start(None).state_id > crate::names::FIRST_START, "the first start, but told from where");
}

/// A start that was stopped with a savepoint stays stopped: whoever is to run goes on from there under another name.
#[test]
fn what_was_stopped_with_a_savepoint_goes_on_from_it() {
    let stopped = |s: &mut Scene| (info(s).state, info(s).savepoint) = (RuntimeState::Stopped, Some(taken(SavepointState::Completed)));
    let path = taken(SavepointState::Completed).directory;
    let steady = Scene::new().with(stopped).decide();
    let again = Scene::upgrading(Step::Stabilize, 5).with(|s| s.observed.job = Some(running(2, 0))).with(stopped).decide();
    for (what, decision, state_id) in [("by somebody", steady, 2), ("an operation comes upon it", again, 3)] {
        assert_eq!(decision.status.started_from, Some(StartedFrom { state_id, path: Some(path.clone()) }), "{what}");
        let operation = decision.status.operation.as_ref();
        assert!(operation.is_none_or(|o| o.start == decision.status.started_from && o.step == Step::Stabilize), "{what}");
        let changes: Vec<_> = decision.actions.iter().map(|a| matches!(a, Action::DeletePod(_))).collect();
        assert_eq!(changes.last(), Some(&true), "{what}: the pod goes behind the change: {:?}", decision.actions);
        assert!(decision.actions.iter().any(|a| matches!(a, Action::Apply(c) if c.kind == Kind::StatefulSet)), "{what}");
    }
}
