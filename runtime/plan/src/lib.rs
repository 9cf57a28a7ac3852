//! Typed relations to a graph of sources, operators and sinks.
//!
//! A statement's [`sluice_sql::relation::Rel`] is first rewritten ([`rewrite`]: predicates move down, constants fold, watermarks
//! move to the scans), then translated top-down with the columns that are used ([`translate`]), so that scans decode only those.
//! Last, [`changelog`] settles which operators make -U rows, and [`identity`] names operators by what they mean.

mod changelog;
mod distribution;
mod explain;
mod expressions;
mod filters;
mod identity;
mod keys;
mod layout;
mod lineage;
mod node;
mod rewrite;
mod settings;
mod sinks;
mod time;
mod translate;

use sluice_batch::Result;
use sluice_connect::{ScanRequest, TableSpec};
use sluice_format::ChangelogMode;
use sluice_operators::spec::OperatorSpec;
use sluice_sql::catalog::Catalog;
use sluice_sql::relation::{BoundStatement, Schema};

pub use distribution::{Distributed, Distribution, Exchange, distribute, required};
pub use explain::{explain, name};
pub use layout::{aggregate_calls, layout};
pub use settings::time_zone;

/// What runs: nodes in topological order, inputs before consumers.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// Things the user should know before running: unbounded state, a sink key that is not the upsert key.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: NodeKind,
    /// Positions of the inputs in `Graph::nodes`; the n-th is input n of the operator.
    pub inputs: Vec<usize>,
    pub schema: Schema,
    pub properties: Properties,
}

#[derive(Clone, Debug)]
pub enum NodeKind {
    Source {
        table: TableSpec,
        request: ScanRequest,
    },
    /// VALUES: one batch, then the end.
    Values {
        batch: sluice_batch::Batch,
    },
    Operator(OperatorSpec),
    Sink {
        table: TableSpec,
    },
    /// Rows for the client that asked (a bare SELECT).
    Client,
}

/// What EXPLAIN prints of a node's output.
#[derive(Clone, Debug)]
pub struct Properties {
    pub changelog: ChangelogMode,
    /// -U rows are there (an upsert changelog has none).
    pub update_before: bool,
    pub upsert_keys: Vec<Vec<usize>>,
    pub rowtime: Option<usize>,
    /// What bounds the operator's state: `none`, `window`, `interval`, `keys`, `unbounded: …`.
    pub state: String,
    /// A stable identity made from meaning (kind, sink, keys, lineage), the same after edits elsewhere.
    pub identity: String,
    /// The same without the sink, as a hash: operators with the same meaning may take over each other's state.
    pub meaning: String,
    /// Tables that the rows go to; empty for the client.
    pub sinks: Vec<String>,
    /// Where each column of the output comes from: `orders.user_id`, `SUM(orders.price)`.
    pub lineage: Vec<String>,
}

/// Plans statements that run together as one job (the INSERTs of a script or statement set, or one SELECT).
///
/// # Errors
/// If a statement cannot be planned: the error has its place and says what is not supported.
pub fn plan(statements: &[BoundStatement], catalog: &Catalog, options: &PlanOptions) -> Result<Graph> {
    let settings = settings::Settings::read(&catalog.settings)?;
    statements.iter().try_for_each(rewrite::check)?;
    let statements: Vec<BoundStatement> = statements.iter().map(rewrite::statement).collect();
    let planned = translate::statements(&statements, &settings, options)?;
    let mut graph = changelog::finish(planned);
    filters::to_sources(&mut graph);
    Ok(graph)
}

/// Settings of the planner beside the catalog's.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// `--bounded`: every Kafka source ends at the offsets that were the latest at the start.
    pub force_bounded: bool,
}
