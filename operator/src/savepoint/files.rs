//! Pure: what becomes of a savepoint's files when its object is deleted. It is bounded: after a while the object goes, whatever the files do.

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use sluice_crds::{DeletionPolicy, Savepoint, SavepointFiles, StreamingDeployment};

use crate::deployment::build::{self, Child};
use crate::deployment::decide::Note;
use crate::k8s::deletion::Deletion;
use crate::names;

/// How long deleting files may keep the object.
const MOST: SignedDuration = SignedDuration::from_mins(5);

pub struct Input<'a> {
    pub object: &'a Savepoint,
    /// The deployment that it is of; none if there is none any more.
    pub deployment: Option<&'a StreamingDeployment>,
    pub deletion: &'a Deletion,
    pub default_image: &'a str,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Wait,
    Make(Box<Child>),
    /// Lets the object go, and tells why.
    Release(Option<Note>),
}

/// What deleting the files of a deployment's savepoints takes; none if it has no storage.
pub fn of(deployment: &StreamingDeployment, default_image: &str) -> Option<SavepointFiles> {
    let spec = &deployment.spec;
    let storage = spec.storage.as_ref()?;
    let current = deployment.status.as_ref().and_then(|s| s.image.clone());
    let image = current.or_else(|| spec.image.clone()).unwrap_or_else(|| default_image.to_owned());
    let session_cluster = spec.session_cluster_ref.as_ref().map(|r| r.name.clone());
    Some(build::deletion_files(image, session_cluster, (storage, &deployment.name_any()), &spec.config))
}

/// What comes next for an object that is being deleted and has our finalizer.
pub fn decide(input: &Input) -> Step {
    let status = input.object.status.clone().unwrap_or_default();
    let Some(path) = status.path.filter(|_| input.object.spec.deletion_policy == DeletionPolicy::Delete) else {
        return Step::Release(None);
    };
    let alive = input.deployment.filter(|d| d.metadata.deletion_timestamp.is_none());
    let kept = |why: &str| {
        let text = format!("{path} is not deleted: {why}");
        Step::Release(Some(Note { warning: true, reason: "FilesRetained".into(), text }))
    };
    if owned(input.object) && alive.is_none_or(|d| !owns(d, input.object)) {
        return Step::Release(None);
    }
    if alive.is_some_and(|d| begins_with(d, &path)) {
        return kept("the state of the StreamingDeployment began with it");
    }
    if input.object.annotations().get(names::FORCE_DELETE_ANNOTATION).is_some_and(|v| v == "true") {
        return kept(names::FORCE_DELETE_ANNOTATION);
    }
    let late = input.object.metadata.deletion_timestamp.as_ref().is_some_and(|at| input.now.duration_since(at.0) > MOST);
    match input.deletion {
        Deletion::Done => Step::Release(Some(Note { warning: false, reason: "FilesDeleted".into(), text: path })),
        Deletion::Failed(message) => kept(message),
        _ if late => kept("it took too long"),
        Deletion::Running => Step::Wait,
        Deletion::None => match status.files.or_else(|| of(alive?, input.default_image)) {
            Some(files) => {
                let overrides = alive.and_then(|d| d.spec.pod_overrides.as_ref());
                Step::Make(Box::new(build::savepoint_deletion(input.object, &files, &path, overrides)))
            }
            None => kept("where it is stored went with its StreamingDeployment"),
        },
    }
}

/// It goes with its deployment.
fn owned(object: &Savepoint) -> bool {
    object.owner_references().iter().any(|o| o.kind == StreamingDeployment::kind(&()))
}

fn owns(deployment: &StreamingDeployment, object: &Savepoint) -> bool {
    object.owner_references().iter().any(|o| Some(&o.uid) == deployment.metadata.uid.as_ref())
}

/// Each restart of the job's pod reads it.
fn begins_with(deployment: &StreamingDeployment, path: &str) -> bool {
    let Some(status) = &deployment.status else { return false };
    let operation = status.operation.as_ref();
    let starts =
        [status.started_from.as_ref(), operation.and_then(|o| o.start.as_ref()), operation.and_then(|o| o.previous_start.as_ref())];
    starts.into_iter().flatten().any(|s| s.path.as_deref() == Some(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn deployment(more: &Value) -> StreamingDeployment {
        let mut object = json!({"metadata": {"name": "job", "namespace": "ns", "uid": "d"}, "spec": {"sql": {"inline": "x"},
            "config": {"s3.endpoint": "http://s3", "other": "x"}, "storage": {"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}},
            "status": {"image": "sluice:1"}});
        json_patch(&mut object, more);
        serde_json::from_value(object).unwrap()
    }

    fn json_patch(into: &mut Value, from: &Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                from.iter().for_each(|(key, value)| json_patch(into.entry(key).or_insert(Value::Null), value));
            }
            (into, from) => into.clone_from(from),
        }
    }

    /// A Savepoint that is deleted at 12:00.
    fn svp(more: &Value) -> Savepoint {
        let mut object = json!({"metadata": {"name": "s", "namespace": "ns", "uid": "s", "deletionTimestamp": "2026-06-01T12:00:00Z"},
            "spec": {"deploymentRef": {"name": "job"}, "deletionPolicy": "Delete"},
            "status": {"phase": "Completed", "path": "/state/ns/job/savepoints/s"}});
        json_patch(&mut object, more);
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn steps() {
        let path = "/state/ns/job/savepoints/s";
        let owner = |uid: &str| json!({"metadata": {"ownerReferences": [{"apiVersion": "sluice.dev/v1alpha1", "kind": "StreamingDeployment", "name": "job", "uid": uid}]}});
        let (here, gone) = (Some(deployment(&json!({}))), None);
        let going = Some(deployment(&json!({"metadata": {"deletionTimestamp": "2026-06-01T12:00:00Z"}})));
        let on_it = Some(deployment(&json!({"status": {"startedFrom": {"stateId": 2, "path": path}}})));
        let files = json!({"status": {"files": {"image": "sluice:0", "storage": {"uri": "s3://b/p"}}}});
        let failed = Deletion::Failed("no route".into());
        for (what, object, deployment, deletion, seconds, want) in [
            ("is to be deleted", svp(&json!({})), &here, &Deletion::None, 1, "make sluice:1"),
            ("Retain", svp(&json!({"spec": {"deletionPolicy": "Retain"}})), &here, &Deletion::None, 1, "go"),
            ("was never taken", svp(&json!({"status": {"path": null}})), &here, &Deletion::None, 1, "go"),
            ("under way", svp(&json!({})), &here, &Deletion::Running, 299, "wait"),
            ("late", svp(&json!({})), &here, &Deletion::Running, 301, "FilesRetained"),
            ("done", svp(&json!({})), &here, &Deletion::Done, 301, "FilesDeleted"),
            ("failed", svp(&json!({})), &here, &failed, 1, "FilesRetained"),
            (
                "forced",
                svp(&json!({"metadata": {"annotations": {"sluice.dev/force-delete": "true"}}})),
                &here,
                &Deletion::Running,
                1,
                "FilesRetained",
            ),
            ("in use", svp(&json!({})), &on_it, &Deletion::None, 1, "FilesRetained"),
            ("of a deployment that is gone", svp(&json!({})), &gone, &Deletion::None, 1, "FilesRetained"),
            ("of one that is gone, with a note of its files", svp(&files), &gone, &Deletion::None, 1, "make sluice:0"),
            ("owned", svp(&owner("d")), &here, &Deletion::None, 1, "make sluice:1"),
            ("goes with its owner", svp(&owner("d")), &going, &Deletion::None, 1, "go"),
            ("its owner is gone", svp(&owner("d")), &gone, &Deletion::None, 1, "go"),
            ("its owner is gone and there is another one", svp(&owner("before")), &here, &Deletion::None, 1, "go"),
        ] {
            let now = "2026-06-01T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds);
            let step = decide(&Input { object: &object, deployment: deployment.as_ref(), deletion, default_image: "default", now });
            let found = match step {
                Step::Wait => "wait".to_owned(),
                Step::Make(child) => {
                    format!("make {}", child.object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap())
                }
                Step::Release(None) => "go".to_owned(),
                Step::Release(Some(note)) => note.reason,
            };
            assert_eq!(found, want, "{what}");
        }
    }

    #[test]
    fn the_job_reaches_the_files_as_the_deployment_did() {
        let deployment = deployment(&json!({}));
        let object = svp(&json!({}));
        let input = Input {
            object: &object,
            deployment: Some(&deployment),
            deletion: &Deletion::None,
            default_image: "x",
            now: Timestamp::UNIX_EPOCH,
        };
        let Step::Make(child) = decide(&input) else { unreachable!() };
        let spec = &child.object["spec"]["template"]["spec"];
        assert_eq!(spec["volumes"][0]["persistentVolumeClaim"]["claimName"], "job-state");
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], "/state");
        let args: Vec<&str> = spec["containers"][0]["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        assert_eq!(args, ["savepoint", "delete", "/state/ns/job/savepoints/s", "--if-exists", "--set", "s3.endpoint=http://s3"]);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(child.object["metadata"]["ownerReferences"][0]["kind"], "Savepoint");
        let near = |child: &Child| {
            let pods = &child.object["spec"]["template"]["spec"]["affinity"]["podAffinity"];
            pods["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]["labelSelector"]["matchLabels"].clone()
        };
        assert_eq!(near(&child), json!({"sluice.dev/deployment": "job"}), "its volume may be bound to a node");
        let shared = self::deployment(&json!({"spec": {"sessionClusterRef": {"name": "c"}}}));
        let Step::Make(child) = decide(&Input { deployment: Some(&shared), ..input }) else { unreachable!() };
        assert_eq!(near(&child), json!({"sluice.dev/session-cluster": "c"}));
        assert!(child.name.len() <= 63 && names::savepoint_deletion(&"x".repeat(63)).len() <= 63);
    }
}
