//! The Kubernetes objects of a job. Pure: no client is needed. A new child is a new file here and a line where it is applied.

mod config_map;
mod deletion;
mod disruption_budget;
pub mod pod;
mod preflight;
mod service;
mod service_account;
mod submission;
pub mod volume_claim;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;
use sluice_crds::{Savepoint, SavepointFiles, StartedFrom, StreamingDeployment};

pub use deletion::{DEADLINE as DELETION_DEADLINE, files as deletion_files};
pub use pod::{CheckState, parse_overrides, storage_path, storage_root};
pub use preflight::DEADLINE as PREFLIGHT_DEADLINE;

use super::revision::{Revision, hash};
use crate::names;
use crate::runtime_api::Submission;

/// The StreamingDeployment that children belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub namespace: String,
    pub uid: String,
}

impl Owner {
    /// Metadata of an owned child: it goes with the StreamingDeployment.
    pub fn metadata(&self, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
        self.owned_by::<StreamingDeployment>(name, labels)
    }

    /// Metadata of a child of another kind of owner.
    pub fn owned_by<K: Resource<DynamicType = ()>>(&self, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
        let reference = OwnerReference {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        ObjectMeta { owner_references: Some(vec![reference]), ..self.free_metadata(name, labels) }
    }

    /// Metadata of what outlives it.
    pub fn free_metadata(&self, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta { name: Some(name), namespace: Some(self.namespace.clone()), labels: Some(labels), ..ObjectMeta::default() }
    }
}

/// Kinds of children that are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ConfigMap,
    ServiceAccount,
    PersistentVolumeClaim,
    Service,
    PodDisruptionBudget,
    StatefulSet,
    Job,
}

/// An object as it is to be, with the hash of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    pub kind: Kind,
    pub name: String,
    pub hash: String,
    pub object: Value,
}

impl Child {
    /// Seals an object: its hash is in an annotation, so that one request tells whether it is as it should be.
    pub fn new<K: Resource<DynamicType = ()> + Serialize>(kind: Kind, object: &K) -> Self {
        let name = object.meta().name.clone().unwrap_or_default();
        let mut object = serde_json::to_value(object).unwrap_or_default();
        let hash = hash(&object);
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        object["metadata"]["annotations"][names::HASH_ANNOTATION] = hash.clone().into();
        Self { kind, name, hash, object }
    }
}

/// What exists once for a deployment, whichever revision runs.
pub fn shared(owner: &Owner, revision: &Revision, current: i64) -> Vec<Child> {
    let mut children = vec![service_account::build(owner), service::build(owner, current), disruption_budget::build(owner)];
    children.extend(volume_claim::build(owner, revision.template.storage.as_ref(), names::labels(&owner.name)));
    children
}

/// What a deployment on a session cluster has: pods of its own only for preflights.
pub fn shared_on_cluster(owner: &Owner) -> Vec<Child> {
    vec![service_account::build(owner)]
}

/// The job of a revision as a session cluster takes it.
pub fn submission(owner: &Owner, revision: &Revision, start: &StartedFrom, options: &WorkloadOptions) -> Submission {
    submission::build(owner, revision, start, options)
}

/// SQL and settings of a revision.
pub fn config_map(owner: &Owner, revision: &Revision) -> Child {
    config_map::build(owner, revision)
}

/// The pods of a revision; `replicas` is 0 or 1.
pub fn workload(owner: &Owner, revision: &Revision, start: &StartedFrom, options: &WorkloadOptions) -> Child {
    workload::build(owner, revision, start, options)
}

/// The Job that tries a revision before it is run.
pub fn preflight(owner: &Owner, revision: &Revision, check_state: Option<CheckState>) -> Child {
    preflight::build(owner, revision, check_state)
}

/// The Job that deletes the files of a savepoint, which are in the folder `path`. `overrides`: the podOverrides of its deployment.
pub fn savepoint_deletion(savepoint: &Savepoint, files: &SavepointFiles, path: &str, overrides: Option<&Value>) -> Child {
    deletion::of_savepoint(savepoint, files, path, overrides)
}

/// The Job that deletes the state of a job, and these savepoints of it; none if it has no storage.
pub fn state_deletion(owner: &Owner, revision: &Revision, savepoints: &[String]) -> Option<Child> {
    deletion::of_state(owner, revision, savepoints)
}

/// What the same revision may be started with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkloadOptions {
    pub replicas: i32,
    pub allow_non_restored_state: bool,
}
