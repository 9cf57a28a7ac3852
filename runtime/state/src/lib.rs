//! State outside of a running job: what commits write, and savepoints.
//!
//! A job's state is, per operator, tables of byte keys and values; per source, positions. A [`Savepoint`] holds both and is a
//! directory with `manifest.json` and one Parquet file a table ([`savepoint`]). A running job writes [`checkpoints`]: a base and deltas,
//! in a [`storage`].

mod cells;
pub mod chain;
pub mod change;
pub mod checkpoints;
pub mod compatibility;
pub mod file;
pub mod layout;
pub mod manifest;
mod migrate;
pub mod savepoint;
pub mod storage;
mod table;
pub mod typed;
pub mod wipe;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use layout::Layout;
pub use migrate::migrate;
pub use savepoint::Savepoint;
pub use sluice_operators::state::Rows;
pub use table::read_columns;

/// Tables of one operator by name.
pub type Tables = BTreeMap<String, Rows>;

/// State of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorState {
    /// What the operator means; the same after edits elsewhere in the job.
    pub identity: String,
    /// The operator's name, for people.
    pub kind: String,
    pub tables: Tables,
    /// What the bytes in the tables mean.
    pub layout: Layout,
}

/// Where a source goes on; also as it stands in savepoints, state files and records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    pub identity: String,
    /// The table's name, for people.
    pub table: String,
    /// (split, position), e.g. (`orders-0`, `17`).
    pub positions: Vec<(String, String)>,
    /// Tables that its rows go to; empty for the client.
    #[serde(default)]
    pub sinks: Vec<String>,
    /// The watermark that it had told the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<sluice_batch::Millis>,
}
