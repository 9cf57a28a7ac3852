//! What the runtime of this release can do. What it cannot is refused by validation, with a message, and never pretended.
//!
//! Each of these goes when the runtime has learnt it.

/// Schemes of `storage.uri`.
pub const STORAGE_SCHEMES: &[&str] = &["file", "s3"];
/// Tasks a job can have: the shards of its state.
pub const MOST_TASKS: u32 = 64;
/// `execution.checkpointing.timeout`.
pub const CHECKPOINT_TIMEOUT: bool = false;
