//! Sinks: one file a connector.

pub(crate) mod blackhole;
pub(crate) mod filesystem;
pub(crate) mod jdbc;
pub(crate) mod kafka;
pub(crate) mod print;
