//! The state of a whole job: taken between two polls, when nothing is on its way; given back before the first.

use std::collections::{BTreeMap, BTreeSet};

use sluice_batch::{Error, Result};
use sluice_plan::{Graph, NodeKind};
use sluice_state::{Savepoint, SourceState};

use super::Input;
use super::pipeline::Pipeline;

/// Everything that a job of the same meaning needs to go on.
pub fn take(graph: &Graph, pipeline: &Pipeline, inputs: &[Input], sql: &str) -> Result<Savepoint> {
    Ok(Savepoint { sql: sql.to_owned(), sources: sources(graph, pipeline, inputs), operators: pipeline.snapshot(graph)? })
}

/// Where the sources stand, and which VALUES have been given.
pub fn sources(graph: &Graph, pipeline: &Pipeline, inputs: &[Input]) -> Vec<SourceState> {
    let source = |input: &Input| {
        let node = &graph.nodes[input.node];
        let table = match &node.kind {
            NodeKind::Source { table, .. } => table.name.clone(),
            _ => String::new(),
        };
        SourceState { identity: node.properties.identity.clone(), table, positions: input.source.positions(), watermark: pipeline.told(input.node) }
    };
    let mut sources: Vec<SourceState> = inputs.iter().map(source).collect();
    // VALUES have been given: their one position says so.
    for node in graph.nodes.iter().filter(|n| matches!(n.kind, NodeKind::Values { .. })) {
        sources.push(SourceState { identity: node.properties.identity.clone(), table: "VALUES".into(), positions: vec![], watermark: None });
    }
    sources
}

/// Gives operators and sources what they had.
///
/// # Errors
/// If the savepoint has state that no operator of this job takes, unless `allow_non_restored`.
pub fn give_back(
    graph: &Graph,
    pipeline: &mut Pipeline,
    inputs: &mut [Input],
    savepoint: &Savepoint,
    allow_non_restored: bool,
) -> Result<()> {
    let known: BTreeSet<&str> = graph.nodes.iter().map(|n| n.properties.identity.as_str()).collect();
    let lost: Vec<String> = (savepoint.operators.iter().filter(|o| !known.contains(o.identity.as_str())))
        .map(|o| o.kind.clone())
        .chain(savepoint.sources.iter().filter(|s| !known.contains(s.identity.as_str())).map(|s| format!("source {}", s.table)))
        .collect();
    if !lost.is_empty() && !allow_non_restored {
        return Err(Error::plan(format!("there is state that this job has no place for: {}", lost.join(", ")))
            .hint("--allow-non-restored-state starts without it"));
    }
    for input in inputs {
        let identity = &graph.nodes[input.node].properties.identity;
        if let Some(source) = savepoint.sources.iter().find(|s| s.identity == *identity) {
            input.source.seek(&source.positions)?;
        }
    }
    let states = savepoint.operators.iter().map(|o| (o.identity.as_str(), &o.tables)).collect::<BTreeMap<_, _>>();
    pipeline.restore(graph, &states)?;
    // Time does not go back: what was late stays so.
    for (at, node) in graph.nodes.iter().enumerate().filter(|(_, n)| matches!(n.kind, NodeKind::Source { .. })) {
        let source = savepoint.sources.iter().find(|s| s.identity == node.properties.identity);
        if let Some(watermark) = source.and_then(|s| s.watermark) {
            pipeline.watermark(at, watermark)?;
        }
    }
    Ok(())
}

/// Whether the rows of a VALUES node were given before the savepoint.
pub fn has_values(savepoint: Option<&Savepoint>, identity: &str) -> bool {
    savepoint.is_some_and(|s| s.sources.iter().any(|s| s.identity == identity))
}
