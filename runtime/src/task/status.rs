//! What a job says of itself to whoever watches it: the operator, `GET /api/v1/job`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

/// States of the job of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Sources and sinks are being opened, state is read.
    #[default]
    Initializing,
    Running,
    /// It failed and starts again by itself.
    Restarting,
    /// It takes the savepoint that it stops with.
    Stopping,
    /// It has stopped and does nothing more.
    Stopped,
    Failed,
    /// It has done all it had to do.
    Finished,
}

/// The state and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub state: State,
    /// Of the pipeline.
    pub name: String,
    pub last_commit: Option<DateTime<Utc>>,
    /// What this process took its state from: a savepoint, or a commit of its own.
    pub restored_from: Option<String>,
    /// The last failure.
    pub failure: Option<String>,
}

/// Written by the job, read by the server.
#[derive(Debug, Default)]
pub struct Status(Mutex<Snapshot>);

impl Status {
    fn held(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self) -> Snapshot {
        self.held().clone()
    }

    pub fn set(&self, state: State) {
        self.held().state = state;
    }

    pub fn begin(&self, name: &str) {
        *self.held() = Snapshot { name: name.to_owned(), ..Snapshot::default() };
    }

    pub fn restored(&self, from: Option<String>) {
        self.held().restored_from = from;
    }

    pub fn committed(&self) {
        self.held().last_commit = Some(Utc::now());
    }

    /// It failed; `state` says what becomes of it.
    pub fn failed(&self, state: State, failure: String) {
        let mut held = self.held();
        (held.state, held.failure) = (state, Some(failure));
    }
}
