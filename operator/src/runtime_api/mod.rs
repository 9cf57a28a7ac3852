//! What the operator asks of a job's pod, over its REST API on port 8081.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/job` | [`JobInfo`] |
//! | `POST /savepoints` with [`SavepointRequest`] | [`SavepointInfo`], when it is complete or at once; the same directory again is the same savepoint |
//!
//! A pod of a SessionCluster runs several jobs: each answers the same below `/api/v1/jobs/{name}`, and they come and go by
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/jobs` | [`SessionInfo`] |
//! | `PUT /api/v1/jobs/{name}` with a [`Submission`] | nothing new if that very job is there already; 409 if slots are short |
//! | `DELETE /api/v1/jobs/{name}` | when its process has ended, or that it is under way |
//!
//! A job that has stopped with a savepoint stays up with state `STOPPED` and answers until its pod is taken away: a process that ended would be
//! started again by the kubelet, and go on behind the savepoint.

pub mod fake;
pub mod http;

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
pub use sluice_crds::{RuntimeState, SavepointState};

/// What a job's pod can be asked.
pub trait RuntimeApi: Send + Sync {
    /// How the job is. `address` is `host:port`, in a session `host:port/api/v1/jobs/name`.
    fn job<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<JobInfo, RuntimeError>>;

    /// Takes a savepoint, and stops the job if asked to.
    fn savepoint<'a>(&'a self, address: &'a str, request: &'a SavepointRequest) -> BoxFuture<'a, Result<SavepointInfo, RuntimeError>>;

    /// The jobs of a session. `host` is `host:port`, here and below.
    fn session<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<SessionInfo, RuntimeError>>;

    /// Gives a job to a session.
    fn submit<'a>(&'a self, host: &'a str, name: &'a str, submission: &'a Submission) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Asks a session to end a job. It is no error if there is none.
    fn withdraw<'a>(&'a self, host: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>>;
}

/// A session as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionInfo {
    pub slots: Slots,
    pub jobs: Vec<SessionJob>,
}

/// Tasks that run at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Slots {
    pub total: u32,
    pub free: u32,
}

/// A job of a session, and its process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionJob {
    pub name: String,
    pub tasks: u32,
    /// As they were submitted.
    pub annotations: BTreeMap<String, String>,
    /// It was asked to end.
    pub stopping: bool,
    pub process: ProcessInfo,
}

/// A process of a session, as the kubelet tells of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessInfo {
    pub running: bool,
    pub pid: Option<u32>,
    pub restarts: i32,
    /// Why it is not there.
    pub waiting: Option<String>,
    pub ended: Option<ProcessEnd>,
}

/// The end of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessEnd {
    pub exit_code: i32,
    /// Its last log lines.
    pub message: String,
    pub at: Option<Timestamp>,
}

/// A job for a session: what a pod of its own would be given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    /// A StreamingDeployment that `sluice run` reads.
    pub deployment: serde_json::Value,
    pub tasks: u32,
    pub settings: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<String>,
    pub allow_non_restored_state: bool,
    pub annotations: BTreeMap<String, String>,
}

/// A job as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    pub state: RuntimeState,
    /// Commits since this process started.
    pub commits: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<Timestamp>,
    /// What this process took its state from: a savepoint's directory, or a checkpoint of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    pub rows_in: u64,
    pub rows_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The last savepoint that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<SavepointInfo>,
}

/// Body of `POST /savepoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointRequest {
    /// A directory that is not there yet.
    pub directory: String,
    /// Stop with it: nothing is read or written after it.
    pub stop: bool,
    /// Before that, let time end, so that open windows fire.
    pub drain: bool,
}

/// A savepoint as the job describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SavepointInfo {
    pub directory: String,
    pub state: SavepointState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why a pod did not answer, or said no.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("the job's REST API at {address} does not answer: {message}")]
    Unreachable { address: String, message: String },
    #[error("the job refused: {message} (HTTP {status})")]
    Refused { status: u16, message: String },
}
