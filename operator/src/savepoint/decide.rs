//! Pure: how a Savepoint goes on.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use sluice_crds::{Savepoint, SavepointPhase, SavepointStatus, StreamingDeployment};

use super::{conditions, files};
use crate::deployment::build::{Owner, storage_root};
use crate::deployment::duration;
use crate::names;
use crate::runtime_api::{JobInfo, RuntimeState, SavepointInfo, SavepointRequest, SavepointState};

/// What a savepoint is of.
pub enum Target {
    /// An import.
    None,
    /// There is no such deployment.
    Missing,
    Deployment {
        deployment: Box<StreamingDeployment>,
        revision: i64,
        address: Option<String>,
        job: Option<Box<JobInfo>>,
    },
}

pub struct Input<'a> {
    pub object: &'a Savepoint,
    pub target: &'a Target,
    pub default_image: &'a str,
    pub now: Timestamp,
}

pub struct Decision {
    pub status: SavepointStatus,
    /// Ask the pod at this address.
    pub take: Option<(String, SavepointRequest)>,
}

pub fn decide(input: &Input) -> Decision {
    let spec = &input.object.spec;
    let mut status = input.object.status.clone().unwrap_or_default();
    status.observed_generation = input.object.metadata.generation;
    let mut take = None;
    if let Some(existing) = &spec.existing {
        status.path = Some(existing.path.clone());
        finish(input, &mut status, SavepointPhase::Completed, "imported; its files are read when a job starts from it");
    } else {
        take = decide_take(input, &mut status);
    }
    conditions(&mut status, input.object.metadata.generation.unwrap_or(0), input.now);
    Decision { status, take }
}

fn finish(input: &Input, status: &mut SavepointStatus, phase: SavepointPhase, message: &str) {
    status.phase = phase;
    status.message = Some(message.to_owned());
    status.completed_at = Some(Time(input.now));
}

fn decide_take(input: &Input, status: &mut SavepointStatus) -> Option<(String, SavepointRequest)> {
    let spec = &input.object.spec;
    let begun = status.started_at.get_or_insert(Time(input.now)).0;
    let timeout = duration::parse(&spec.timeout).unwrap_or(SignedDuration::from_mins(10));
    let late = input.now.duration_since(begun) > timeout;
    let name = input.object.name_any();
    let (deployment, revision, address, job) = match input.target {
        Target::Deployment { deployment, revision, address, job } => (deployment, *revision, address, job),
        _ => {
            let of = spec.deployment_ref.as_ref().map(|r| r.name.as_str()).unwrap_or_default();
            finish(input, status, SavepointPhase::Failed, &format!("there is no StreamingDeployment '{of}' in this namespace"));
            return None;
        }
    };
    let Some(storage) = deployment.spec.storage.as_ref().and_then(storage_root) else {
        finish(input, status, SavepointPhase::Failed, "the StreamingDeployment has no spec.storage that savepoints could go to");
        return None;
    };
    if let Some(taken) = job.as_ref().and_then(|j| j.savepoint.as_ref()).filter(|s| Some(&s.directory) == status.path.as_ref()) {
        answered(input, status, taken);
        if status.phase == SavepointPhase::Completed || status.phase == SavepointPhase::Failed {
            return None;
        }
    }
    if late {
        finish(
            input,
            status,
            SavepointPhase::Failed,
            &format!("it was not complete after {} ({})", spec.timeout, status.message.clone().unwrap_or_default()),
        );
        return None;
    }
    let running = job.as_ref().is_some_and(|j| j.state == RuntimeState::Running);
    let busy = deployment.status.as_ref().is_some_and(|s| s.operation.is_some());
    let (Some(address), true, false) = (address, running, busy) else {
        status.message = Some(if busy { "waits for the deployment's operation to end" } else { "waits for the job to run" }.to_owned());
        return None;
    };
    let owner = Owner { name: deployment.name_any(), namespace: deployment.namespace().unwrap_or_default(), uid: String::new() };
    let tries = status.failures.unwrap_or(0);
    let attempt = if tries == 0 { String::new() } else { format!("-{}", tries + 1) };
    let default = format!("{storage}/{}/{name}{attempt}", names::state_folder(&owner, "savepoints"));
    let directory = spec.path.as_deref().map_or(default, |p| p.strip_prefix("file://").unwrap_or(p).to_owned());
    (status.phase, status.path, status.revision, status.message) =
        (SavepointPhase::InProgress, Some(directory.clone()), Some(revision), None);
    status.files = files::of(deployment, input.default_image);
    Some((address.clone(), SavepointRequest { directory, stop: false, drain: false }))
}

/// What the job answered.
pub fn answered(input: &Input, status: &mut SavepointStatus, answer: &SavepointInfo) {
    match answer.state {
        SavepointState::InProgress => {}
        SavepointState::Completed => {
            status.size_bytes = answer.size_bytes.or(status.size_bytes);
            (status.phase, status.message, status.completed_at) = (SavepointPhase::Completed, None, Some(Time(input.now)));
        }
        SavepointState::Failed => {
            let failures = status.failures.unwrap_or(0) + 1;
            status.failures = Some(failures);
            let message = answer.error.clone().unwrap_or_else(|| "no reason given".into());
            if failures > input.object.spec.backoff_limit {
                finish(input, status, SavepointPhase::Failed, &message);
            } else {
                (status.phase, status.path, status.message) =
                    (SavepointPhase::Pending, None, Some(format!("failed, is tried again: {message}")));
            }
        }
    }
    conditions(status, input.object.metadata.generation.unwrap_or(0), input.now);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn svp(spec: Value, status: Value) -> Savepoint {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec, "status": status})).unwrap()
    }

    fn target(state: Option<RuntimeState>, taken: Option<(&str, SavepointState)>) -> Target {
        let deployment = serde_json::from_value(json!({"metadata": {"name": "job", "namespace": "ns"},
            "spec": {"sql": {"inline": "x"}, "storage": {"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}}}))
        .unwrap();
        let savepoint =
            taken.map(|(d, state)| SavepointInfo { directory: d.into(), state, error: Some("disk full".into()), size_bytes: None });
        let job = state.map(|state| Box::new(JobInfo { state, savepoint, ..JobInfo::default() }));
        Target::Deployment { deployment: Box::new(deployment), revision: 3, address: Some("1.2.3.4:8081".into()), job }
    }

    #[test]
    fn phases() {
        use RuntimeState::{Initializing, Running};
        use SavepointPhase::{Completed, Failed, InProgress, Pending};
        let of = || json!({"deploymentRef": {"name": "job"}});
        let path = "/state/ns/job/savepoints/s";
        let progress =
            |failures: i32| json!({"phase": "InProgress", "path": path, "startedAt": "2026-01-01T00:00:00Z", "failures": failures});
        for (what, object, target, phase, asks, words) in [
            ("import", svp(json!({"existing": {"path": "/a"}}), json!({})), Target::None, Completed, false, "imported"),
            ("no deployment", svp(of(), json!({})), Target::Missing, Failed, false, "no StreamingDeployment 'job'"),
            ("not running", svp(of(), json!({})), target(Some(Initializing), None), Pending, false, "waits for the job"),
            ("silent", svp(of(), json!({})), target(None, None), Pending, false, "waits for the job"),
            ("running", svp(of(), json!({})), target(Some(Running), None), InProgress, true, ""),
            ("done", svp(of(), progress(0)), target(Some(Running), Some((path, SavepointState::Completed))), Completed, false, ""),
            ("under way", svp(of(), progress(0)), target(Some(Running), Some((path, SavepointState::InProgress))), InProgress, true, ""),
            ("failed once", svp(of(), progress(0)), target(Some(Running), Some((path, SavepointState::Failed))), InProgress, true, ""),
            (
                "failed often",
                svp(of(), progress(3)),
                target(Some(Running), Some((path, SavepointState::Failed))),
                Failed,
                false,
                "disk full",
            ),
            (
                "late",
                svp(of(), json!({"startedAt": "2025-01-01T00:00:00Z"})),
                target(Some(Initializing), None),
                Failed,
                false,
                "not complete after 10m",
            ),
        ] {
            let now = "2026-01-01T00:01:00Z".parse().unwrap();
            let decision = decide(&Input { object: &object, target: &target, default_image: "x", now });
            assert_eq!(decision.status.phase, phase, "{what}");
            assert_eq!(decision.take.is_some(), asks, "{what}");
            assert!(decision.status.message.unwrap_or_default().contains(words), "{what}");
            let complete = decision.status.conditions.iter().find(|c| c.type_ == "Complete").unwrap();
            assert_eq!(complete.status == "True", phase == Completed, "{what}");
            if let Some((_, request)) = decision.take {
                assert!(!request.stop && request.directory.starts_with(path), "{what}");
                assert_eq!(request.directory != path, what == "failed once", "another directory for another try");
            }
        }
    }
}
