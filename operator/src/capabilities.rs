//! What the runtime of this release can do. What it cannot is refused by validation, with a message, and never pretended.
//!
//! Each of these goes when the runtime has learnt it.

/// Schemes of `storage.uri`.
pub const STORAGE_SCHEMES: &[&str] = &["file"];
/// `{{secret:name/key}}` in SQL, read from the files under [`crate::names::SECRETS_FOLDER`].
pub const SECRETS: bool = false;
/// `restart-strategy.*`: waits between restarts. Without it they are the kubelet's.
pub const RESTART_STRATEGY: bool = false;
/// `execution.checkpointing.timeout`.
pub const CHECKPOINT_TIMEOUT: bool = false;
/// StreamingDeployments on a SessionCluster.
pub const SESSION_CLUSTERS: bool = false;
/// `savepoints.schedule`.
pub const SCHEDULED_SAVEPOINTS: bool = false;
/// Deleting a savepoint's files.
pub const SAVEPOINT_DELETION: bool = false;
