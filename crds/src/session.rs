//! `SessionCluster`: a long-running runtime that jobs and interactive clients share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::{Resources, Storage, any_object_schema, conditions_schema};

/// Runtime pods that several jobs share, with a SQL gateway.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "SessionCluster",
    plural = "sessionclusters",
    shortname = "scl",
    category = "sluice",
    namespaced,
    derive = "PartialEq",
    status = "SessionClusterStatus",
    doc = "Runtime pods that several jobs share, with a SQL gateway for interactive clients.",
    scale(spec_replicas_path = ".spec.workers.replicas", status_replicas_path = ".status.workers.desired"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".status.workers.ready"),
    printcolumn(name = "Slots", type_ = "integer", json_path = ".status.slots.total"),
    printcolumn(name = "Jobs", type_ = "integer", json_path = ".status.jobs.managed"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("the name may have at most 40 characters: names of pods are made from it")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionClusterSpec {
    /// The runtime's image; the operator's default if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// The pods.
    #[serde(default)]
    pub workers: SessionWorkers,
    /// Where the jobs' state is kept, each in a folder of its own. It cannot be changed while StreamingDeployments use the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Settings for all jobs, as `SET 'key' = 'value'`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Secrets that jobs on this cluster may use as `{{secret:name/key}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub secrets: Vec<String>,
    /// The Service for clients. This version serves the REST API of jobs and metrics there, and no interactive SQL yet.
    #[serde(default)]
    pub gateway: Gateway,
    /// What happens to jobs when a change of this spec restarts the pods: SuspendJobs stops them with savepoints and resumes them, Block waits
    /// until none runs.
    #[serde(default)]
    pub on_update: OnUpdate,
    /// What happens to interactive jobs when the cluster is to restart or go: Block waits for them, Cancel ends them. There are none in this
    /// version.
    #[serde(default)]
    pub interactive_jobs: InteractiveJobs,
    /// What deletion does while StreamingDeployments use the cluster: Block waits until they are gone, Cascade deletes them.
    #[serde(default)]
    pub on_delete: OnDeleteCluster,
    /// Merged over the pod that the operator makes, as a strategic merge of a PodTemplate. The container is called `sluice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object_schema")]
    pub pod_overrides: Option<Value>,
}

/// Pods of a session cluster.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SessionWorkers {
    /// How many pods. A job is on one of them; more than one need a storage that all can write.
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: i32,
    /// Tasks that a pod runs at once.
    #[schemars(range(min = 1, max = 1000))]
    pub slots: i32,
    /// CPU and memory of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Default for SessionWorkers {
    fn default() -> Self {
        Self { replicas: 1, slots: 2, resources: None }
    }
}

/// The SQL gateway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gateway {
    /// Whether there is the Service `<name>-rest`.
    pub enabled: bool,
    /// Port of the Service `<name>-rest`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { enabled: true, port: 8081 }
    }
}

/// What a restart of the pods does to jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnUpdate {
    #[default]
    SuspendJobs,
    Block,
}

/// What happens to interactive jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum InteractiveJobs {
    #[default]
    Block,
    Cancel,
}

/// What deletion does while the cluster is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnDeleteCluster {
    #[default]
    Block,
    Cascade,
}

/// What the operator has seen.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionClusterStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Version of the operator that wrote this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_version: Option<String>,
    /// Ready; Reconciling and Stalled only while they are true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkerCounts>,
    /// Tasks that fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotCounts>,
    /// Jobs that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobCounts>,
    /// The image that the pods are made of. If the spec names none it stays so: an operator upgrade restarts no job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Pods have to be restarted, and jobs go to sleep for it, or are waited for, as `onUpdate` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<SessionUpdate>,
    /// Where the gateway is, inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// A restart of pods that jobs stand in the way of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionUpdate {
    /// Jobs are suspended for it, and resumed when the pods are new.
    pub suspends_jobs: bool,
    /// What the pods are to be made of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub template: String,
}

/// Pods of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerCounts {
    /// How many there are to be.
    pub desired: i32,
    /// How many are ready.
    pub ready: i32,
}

/// Slots of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SlotCounts {
    /// How many there are.
    pub total: i32,
    /// How many are free.
    pub free: i32,
}

/// Jobs on a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobCounts {
    /// Of StreamingDeployments.
    pub managed: i32,
    /// Of interactive clients.
    pub interactive: i32,
}
