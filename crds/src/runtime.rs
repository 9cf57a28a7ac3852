//! What a job's REST API says of itself: the runtime writes it, the operator reads it.

use serde::{Deserialize, Serialize};

/// States of a job in its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RuntimeState {
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

/// States of a savepoint that a job was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SavepointState {
    #[default]
    InProgress,
    Completed,
    Failed,
}
