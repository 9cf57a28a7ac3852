//! Sinks: one file a connector.

pub(crate) mod blackhole;
pub(crate) mod filesystem;
pub(crate) mod http;
pub(crate) mod jdbc;
pub(crate) mod kafka;
pub(crate) mod print;
pub(crate) mod slack;
