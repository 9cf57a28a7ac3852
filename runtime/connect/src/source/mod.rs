//! Sources: one file a connector.

pub(crate) mod datagen;
pub(crate) mod filesystem;
pub(crate) mod jdbc;
pub(crate) mod kafka;

/// Rows of a batch, about: large enough that the cost of a batch does not count, small enough for the cache.
pub(crate) const BATCH_ROWS: usize = 8192;
