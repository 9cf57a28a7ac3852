//! The status of a StreamingDeployment: what it does, and what an operator that goes on from here has to know.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::UpgradeMode;
use crate::common::conditions_schema;

/// What the operator has seen and done.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamingDeploymentStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Version of the operator that wrote this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_version: Option<String>,
    /// Where the deployment stands, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What the job does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_state: Option<JobState>,
    /// The job's id in its logs and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Accepted, Ready, Running, CheckpointHealthy; Reconciling and Stalled only while they are true.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Which revisions there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionStatus>,
    /// The image that the current revision is pinned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Tasks of the current revision; 0 when it is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i32>,
    /// With sessionClusterRef: the pod of the cluster that the job was given to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Selects the job's pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_selector: Option<String>,
    /// What the current start of the job took its state from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_from: Option<StartedFrom>,
    /// The last checkpoint when the status was written; it is refreshed every ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<LastCheckpoint>,
    /// The last savepoint that the operator took for this deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_savepoint: Option<LastSavepoint>,
    /// The next savepoint that the schedule asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_savepoint: Option<NextSavepoint>,
    /// What the operator is doing. Each step is written here before it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// A spec that was tried and did not work; it is not tried again before it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// Why the job was taken down although it should run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<Halted>,
    /// Restarts of the current pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<i32>,
    /// The job's last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Where the job's REST API is, inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Phase {
    /// Nothing has been started.
    #[default]
    Pending,
    /// The first start is on its way.
    Deploying,
    Running,
    Upgrading,
    RollingBack,
    Suspending,
    Suspended,
    Resuming,
    /// The job is down and stays so until a human does something.
    Failed,
    /// A bounded job has done all it had to do.
    Finished,
    Deleting,
}

/// What a job does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum JobState {
    /// Its pod does not answer.
    #[default]
    Unknown,
    Initializing,
    Running,
    Restarting,
    Stopped,
    Suspended,
    Failed,
    Finished,
}

/// Numbers of revisions; each is a ControllerRevision `<name>-r<number>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RevisionStatus {
    /// The one that runs, or ran last.
    pub current: i64,
    /// The one that is to run.
    pub target: i64,
    /// The last one that ran and completed a checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<i64>,
}

/// What the job's state began with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StartedFrom {
    /// Counts the starts from a savepoint or from nothing; a start from the last state goes on with the number it had.
    pub state_id: i64,
    /// The savepoint that this state began with; none if it began empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A completed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastCheckpoint {
    /// Its number.
    pub id: i64,
    /// When it was completed.
    pub completed_at: Time,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A completed savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSavepoint {
    /// Name of its Savepoint object.
    pub name: String,
    /// Its directory.
    pub path: String,
    /// When it was completed.
    pub completed_at: Time,
}

/// A savepoint that the schedule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextSavepoint {
    /// When.
    pub at: Time,
    /// The schedule that says so.
    pub schedule: String,
}

/// What the operator is doing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What for.
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// How far.
    pub step: Step,
    /// When it began.
    pub started_at: Time,
    /// When this step began.
    pub step_started_at: Time,
    /// The revision that is to run at its end.
    pub revision: i64,
    /// Hash of that revision's content.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// The revision that ran when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// How state is kept: upgrade.mode, or what it fell back to.
    pub mode: UpgradeMode,
    /// Name of the Savepoint object that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// What the next start takes its state from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartedFrom>,
    /// What the revision that ran before had started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_start: Option<StartedFrom>,
    /// Since when the new job has been seen running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<Time>,
    /// Why, for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OperationType {
    Deploy,
    Upgrade,
    Rollback,
    Suspend,
    Resume,
    Delete,
}

/// Steps of operations, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum Step {
    /// The target image plans the SQL; the old job runs.
    Preflight,
    /// The old job stops with a savepoint.
    Savepoint,
    /// The old pods go.
    Stop,
    /// The new pods come.
    Start,
    /// The new job runs until it has completed a checkpoint.
    Stabilize,
}

/// A spec that did not work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rejected {
    /// Hash of its content.
    pub hash: String,
    /// The condition reason.
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
    /// Its revision was started and then rolled back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
}

/// Why a job was taken down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Halted {
    /// Hash of the spec that it happened to.
    pub hash: String,
    /// The condition reason: Finished, Failed, InvalidSql.
    pub reason: String,
    /// What happened.
    pub message: String,
}

/// A failure of the job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// What the job said.
    pub message: String,
}
