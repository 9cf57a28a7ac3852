//! What a job says of itself to whoever watches it: the operator, `GET /api/v1/job`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
pub use sluice_crds::RuntimeState as State;

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
