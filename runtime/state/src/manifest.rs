//! `manifest.json`: what a savepoint holds. Written last, so a directory without it is no savepoint.

use serde::{Deserialize, Serialize};

/// The layout of the directory; raised when a reader of the old one could not read the new one.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Version of the engine that wrote it.
    pub engine: String,
    /// The job's SQL, for people.
    #[serde(default)]
    pub sql: String,
    pub sources: Vec<Source>,
    pub operators: Vec<Operator>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    pub identity: String,
    pub table: String,
    pub positions: Vec<(String, String)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Operator {
    pub identity: String,
    pub kind: String,
    pub tables: Vec<Table>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    /// Relative to the directory.
    pub file: String,
    pub rows: u64,
}
