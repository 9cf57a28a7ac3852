//! `StreamingDeployment`: one streaming SQL job.

mod status;

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::{LocalRef, Resources, Storage, any_object_schema, duration_schema};
use crate::savepoint::DeletionPolicy;
pub use status::*;

/// A streaming SQL job: what it computes and how it runs.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "StreamingDeployment",
    plural = "streamingdeployments",
    shortname = "sdep",
    category = "sluice",
    namespaced,
    derive = "PartialEq",
    status = "StreamingDeploymentStatus",
    doc = "A streaming SQL job on Kubernetes: its statements, and how they run.",
    scale(
        spec_replicas_path = ".spec.parallelism",
        status_replicas_path = ".status.parallelism",
        label_selector_path = ".status.workerSelector"
    ),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.jobState", description = "What the job does"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the spec is fully realised"
    ),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision.current", description = "The revision that runs"),
    printcolumn(name = "Parallelism", type_ = "integer", json_path = ".status.parallelism"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Savepoint",
        type_ = "date",
        json_path = ".status.lastSavepoint.completedAt",
        priority = 1,
        description = "When the last savepoint was completed"
    ),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 40").message("the name may have at most 40 characters: names of pods are made from it")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.sessionClusterRef) == has(oldSelf.sessionClusterRef) && (!has(self.sessionClusterRef) || self.sessionClusterRef.name == oldSelf.sessionClusterRef.name)")
    .message("sessionClusterRef cannot be changed: create another StreamingDeployment, from a savepoint of this one")
    .field_path(".sessionClusterRef"))]
#[x_kube(validation = Rule::new("!has(self.sessionClusterRef) || !(has(self.image) || has(self.workers) || has(self.storage) || has(self.podOverrides))")
    .message("image, workers, storage and podOverrides are those of the session cluster: remove them, or sessionClusterRef"))]
#[x_kube(validation = Rule::new("has(self.sessionClusterRef) || has(self.storage) || self.upgrade.mode == 'Stateless'")
    .message("storage is needed: upgrades keep state in it (or set upgrade.mode to Stateless, which loses state at each upgrade)")
    .field_path(".storage"))]
#[x_kube(validation = Rule::new("self.parallelism <= self.maxParallelism")
    .message("parallelism may be at most maxParallelism").field_path(".parallelism"))]
#[x_kube(validation = Rule::new("self.maxParallelism == oldSelf.maxParallelism")
    .message("maxParallelism cannot be changed: it says how state is split").field_path(".maxParallelism"))]
#[x_kube(validation = Rule::new("self.upgrade.mode != 'Stateless' || !has(self.savepoints) || !has(self.savepoints.schedule)")
    .message("savepoints.schedule needs an upgrade.mode that keeps state").field_path(".savepoints.schedule"))]
pub struct StreamingDeploymentSpec {
    /// The statements of the job.
    pub sql: SqlSource,
    /// Values for `${NAME}` in the SQL. Not for passwords: `{{secret:name/key}}` in the SQL is for those.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// Settings, as `SET 'key' = 'value'` at the top of the SQL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// The SessionCluster that runs the job. Without it the job has pods of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_cluster_ref: Option<LocalRef>,
    /// The runtime's image. If not said it is the operator's default when a revision is made, and stays so: an operator upgrade restarts no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// How many tasks share the work.
    #[serde(default = "one", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32767))]
    pub parallelism: Option<u32>,
    /// The most that parallelism can ever be. It says how state is split, so it cannot be changed later.
    #[serde(default = "max_parallelism")]
    #[schemars(range(min = 1, max = 32768))]
    pub max_parallelism: u32,
    /// True stops the job and keeps its state; false lets it go on.
    #[serde(default)]
    pub suspend: bool,
    /// A new value restarts the job, with its state as an upgrade keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_nonce: Option<i64>,
    /// What the first start takes its state from; and a later one, when `nonce` changes. It may be removed when that is done: the job goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFrom>,
    /// How a changed spec replaces the running job.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// What happens when the job fails.
    #[serde(default)]
    pub restart: Restart,
    /// Commits of output, positions and state while the job runs.
    #[serde(default)]
    pub checkpoints: Checkpoints,
    /// Savepoints that the operator takes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoints: Option<Savepoints>,
    /// Where state is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// The pods that run the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    /// Merged over the pod that the operator makes, as a strategic merge of a PodTemplate (`metadata` and `spec`): volumes, sidecars, affinity,
    /// tolerations, environment. The job's container is called `sluice`; its args, its command and the volumes `job` and `state` are the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object_schema")]
    pub pod_overrides: Option<Value>,
    /// What becomes of state when this object is deleted. RetainState: checkpoints, savepoints and the volume stay, and a deployment that is made
    /// again under this name goes on. Savepoint: the job stops with a savepoint, whose Savepoint object stays. DeleteState: what the job has
    /// written goes, and the volume if the operator made it; files of manual savepoints stay on other volumes and in object stores.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// How many old revisions are kept.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 100))]
    pub revision_history_limit: i32,
}

fn one() -> Option<u32> {
    Some(1)
}

fn max_parallelism() -> u32 {
    720
}

fn five() -> i32 {
    5
}

fn delete() -> DeletionPolicy {
    DeletionPolicy::Delete
}

/// Where the SQL is: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.inline) != has(self.configMapKeyRef)").message("exactly one of inline and configMapKeyRef is needed"))]
pub struct SqlSource {
    /// The SQL itself: CREATE TABLE, CREATE VIEW, SET, INSERT INTO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 524_288))]
    pub inline: Option<String>,
    /// A key of a ConfigMap in the same namespace. A changed ConfigMap is an upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKeyRef {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key that holds the SQL.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// State to start from: exactly one of savepointRef, path and empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("[has(self.savepointRef), has(self.path), has(self.empty)].filter(x, x).size() == 1")
    .message("exactly one of savepointRef, path and empty is needed"))]
pub struct RestoreFrom {
    /// A Savepoint object in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint_ref: Option<LocalRef>,
    /// The directory of a savepoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
    /// No state: the job starts as if it had never run. Write `empty: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<Empty>,
    /// A new value starts the job again from here. What it did since then is done again.
    #[serde(default)]
    pub nonce: i64,
}

/// Nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// How a changed spec replaces the running job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Upgrade {
    /// Savepoint: the job stops with a savepoint and the new one goes on from it. LastState: it goes on from the last checkpoint.
    /// Stateless: it starts without state.
    pub mode: UpgradeMode,
    /// When a savepoint cannot be taken, because the job does not run or it takes too long: LastState goes on from the last checkpoint, Block
    /// leaves the old job as it is.
    pub fallback: Fallback,
    /// Whether state that the new SQL cannot take over stops an upgrade (Enforce), is only told (Warn), or is not looked for (Ignore).
    pub compatibility_check: CompatibilityCheck,
    /// Lets a job start although the savepoint has state that no operator of it takes.
    pub allow_non_restored_state: bool,
    /// How long a savepoint may take.
    #[schemars(schema_with = "duration_schema")]
    pub savepoint_timeout: String,
    /// How long the new job may take until it runs and has completed a checkpoint.
    #[schemars(schema_with = "duration_schema")]
    pub ready_timeout: String,
    /// When the new job does not get there, the old one comes back from the same savepoint.
    pub rollback: bool,
    /// With LastState: a checkpoint older than this is not used, a savepoint is taken instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    pub max_checkpoint_age: Option<String>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self {
            mode: UpgradeMode::Savepoint,
            fallback: Fallback::LastState,
            compatibility_check: CompatibilityCheck::Enforce,
            allow_non_restored_state: false,
            savepoint_timeout: "10m".into(),
            ready_timeout: "5m".into(),
            rollback: true,
            max_checkpoint_age: None,
        }
    }
}

/// How state gets from one revision to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum UpgradeMode {
    #[default]
    Savepoint,
    LastState,
    Stateless,
}

/// What happens when a savepoint cannot be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Fallback {
    #[default]
    LastState,
    Block,
}

/// How strictly state must fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum CompatibilityCheck {
    #[default]
    Enforce,
    Warn,
    Ignore,
}

/// What happens when the job fails.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Restart {
    /// False: a job that fails stays down until its spec or restartNonce changes.
    pub enabled: bool,
    /// After so many failures in a row the job stays down; -1 is no limit.
    #[schemars(range(min = -1))]
    pub max_attempts: i32,
    /// Wait before the first restart; it doubles with each.
    #[schemars(schema_with = "duration_schema")]
    pub initial_backoff: String,
    /// The longest wait between restarts.
    #[schemars(schema_with = "duration_schema")]
    pub max_backoff: String,
}

impl Default for Restart {
    fn default() -> Self {
        Self { enabled: true, max_attempts: -1, initial_backoff: "1s".into(), max_backoff: "2m".into() }
    }
}

/// Commits of output, positions and state.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Checkpoints {
    /// Time between two; exactly-once output becomes visible with them (`execution.checkpointing.interval`).
    #[schemars(schema_with = "duration_schema")]
    pub interval: String,
    /// A checkpoint that takes longer is a failure (`execution.checkpointing.timeout`).
    #[schemars(schema_with = "duration_schema")]
    pub timeout: String,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self { interval: "1s".into(), timeout: "10m".into() }
    }
}

/// Savepoints that the operator takes by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Savepoints {
    /// When, as a cron expression of five fields in UTC, e.g. `0 */6 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 100))]
    pub schedule: Option<String>,
    /// How many completed Savepoints of its own (scheduled, upgrade, suspend) the operator keeps; and as many failed ones.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 100))]
    pub history_limit: i32,
    /// Whether the files of those that it does not keep go, too.
    #[serde(default = "delete")]
    pub deletion_policy: DeletionPolicy,
    /// Its own Savepoints older than this are removed; the newest completed one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    pub max_age: Option<String>,
}

impl Default for Savepoints {
    fn default() -> Self {
        Self { schedule: None, history_limit: five(), deletion_policy: delete(), max_age: None }
    }
}

/// The pods that run the job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workers {
    /// How many pods share the tasks. This version runs all tasks of a job in one pod: anything but 1 is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicas: Option<i32>,
    /// CPU and memory of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// What becomes of state when the StreamingDeployment is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnDelete {
    #[default]
    RetainState,
    Savepoint,
    DeleteState,
}
