//! State outside of a running job: savepoints.
//!
//! A job's state is, per operator, tables of byte keys and values; per source, positions. A [`Savepoint`] holds both and is a
//! directory with `manifest.json` and one Parquet file a table ([`savepoint`]).

pub mod manifest;
pub mod savepoint;
mod table;

use std::collections::BTreeMap;

pub use savepoint::Savepoint;

/// Tables of one operator by name: rows of key and value.
pub type Tables = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// State of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorState {
    /// What the operator means; the same after edits elsewhere in the job.
    pub identity: String,
    /// The operator's name, for people.
    pub kind: String,
    pub tables: Tables,
}

/// Where a source goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    pub identity: String,
    /// The table's name, for people.
    pub table: String,
    /// (split, position), e.g. (`orders-0`, `17`).
    pub positions: Vec<(String, String)>,
}
