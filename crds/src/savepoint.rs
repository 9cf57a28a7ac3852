//! `Savepoint`: the state of a job at one instant, as an object.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{LocalRef, Storage, conditions_schema, duration_schema};

/// Label that says what a savepoint was taken for: `manual`, `upgrade`, `suspend`, `delete`, `scheduled`.
pub const TRIGGER_LABEL: &str = "sluice.dev/trigger";

/// A savepoint: one to be taken of a deployment, or one that exists.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Savepoint",
    plural = "savepoints",
    shortname = "svp",
    category = "sluice",
    namespaced,
    derive = "PartialEq",
    status = "SavepointStatus",
    doc = "The state of a StreamingDeployment at one instant: what it can be upgraded, restored and forked from.",
    printcolumn(name = "Deployment", type_ = "string", json_path = ".spec.deploymentRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Trigger",
        type_ = "string",
        json_path = ".metadata.labels.sluice\\.dev/trigger",
        description = "What it was taken for"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.path", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name may have at most 63 characters")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.existing) != has(self.deploymentRef)").message("exactly one of deploymentRef and existing is needed"))]
#[x_kube(validation = Rule::new("!(has(self.existing) && has(self.path))").message("path is for a savepoint to be taken; existing.path names one that is there")
    .field_path(".path"))]
#[x_kube(validation = Rule::new("!(has(self.existing) && self.deletionPolicy == 'Delete')")
    .message("the files of a savepoint that is imported are not the operator's to delete: deletionPolicy must be Retain").field_path(".deletionPolicy"))]
#[x_kube(validation = Rule::new("has(self.deploymentRef) == has(oldSelf.deploymentRef) && (!has(self.deploymentRef) || self.deploymentRef == oldSelf.deploymentRef)")
    .message("deploymentRef cannot be changed").field_path(".deploymentRef"))]
#[x_kube(validation = Rule::new("has(self.existing) == has(oldSelf.existing) && (!has(self.existing) || self.existing == oldSelf.existing)")
    .message("existing cannot be changed").field_path(".existing"))]
#[x_kube(validation = Rule::new("has(self.path) == has(oldSelf.path) && (!has(self.path) || self.path == oldSelf.path)")
    .message("path cannot be changed").field_path(".path"))]
#[x_kube(validation = Rule::new("self.timeout == oldSelf.timeout && self.backoffLimit == oldSelf.backoffLimit")
    .message("only deletionPolicy of a Savepoint can be changed"))]
pub struct SavepointSpec {
    /// The StreamingDeployment to take it of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_ref: Option<LocalRef>,
    /// A savepoint that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<Existing>,
    /// The directory to write it to; one under the deployment's storage if not said. It must not be there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
    /// Whether its files go when this object is deleted. Those that the operator took by itself stay when they go with their StreamingDeployment:
    /// then its onDelete decides.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// How long it may take.
    #[serde(default = "ten_minutes")]
    #[schemars(schema_with = "duration_schema")]
    pub timeout: String,
    /// How often it is tried again after a failure.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: i32,
}

fn ten_minutes() -> String {
    "10m".into()
}

fn three() -> i32 {
    3
}

/// A savepoint that is there already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Existing {
    /// Its directory.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
}

/// What becomes of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    Delete,
}

/// How far a savepoint is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SavepointStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// In one word.
    pub phase: SavepointPhase,
    /// Its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Size of its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it was complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// The revision of the deployment that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Names the plan that its state belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_fingerprint: Option<String>,
    /// What deleting its files takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<SavepointFiles>,
    /// Failed tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<i32>,
    /// What happened, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Complete, Failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// What deleting a savepoint's files takes: the StreamingDeployment may be gone by then.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SavepointFiles {
    /// The runtime's image.
    pub image: String,
    /// The SessionCluster whose pods have the volume mounted, if it is not the deployment's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_cluster: Option<String>,
    /// The storage that they are in; a volume claim is an existing one here.
    pub storage: Storage,
    /// How that is reached: settings of the job that are about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// How far a savepoint is, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SavepointPhase {
    /// Not asked for yet.
    #[default]
    Pending,
    /// The job writes it.
    InProgress,
    Completed,
    /// It could not be taken, and is not tried again.
    Failed,
    /// Nobody waits for it any more.
    Abandoned,
}
