//! `manifest.json`: what a savepoint holds. Written last, so a directory without it is no savepoint.

use serde::{Deserialize, Serialize};

use crate::{Layout, SourceState};

/// The layout of the directory; raised when a reader of the old one could not read the new one.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Version of the engine that wrote it.
    pub engine: String,
    /// When it was written (RFC 3339).
    #[serde(default)]
    pub created: String,
    /// The job's SQL, for people.
    #[serde(default)]
    pub sql: String,
    pub sources: Vec<SourceState>,
    pub operators: Vec<Operator>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Operator {
    pub identity: String,
    pub kind: String,
    pub tables: Vec<Table>,
    #[serde(default)]
    pub layout: Layout,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    /// Relative to the directory.
    pub file: String,
    pub rows: u64,
    /// The readable columns of the file; beside them it has `_key` and `_value`, the bytes that a restore takes.
    #[serde(default)]
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// Flink's text of the type.
    #[serde(rename = "type")]
    pub ty: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
}
