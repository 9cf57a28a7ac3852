//! The state of a whole job: taken between two polls, when nothing is on its way; given back before the first.

use std::collections::BTreeMap;

use sluice_batch::{Result, WATERMARK_MAX, WATERMARK_NONE};
use sluice_plan::{Graph, NodeKind};
use sluice_state::{Savepoint, SourceState, storage};

use super::pipeline::Pipeline;
use super::{Input, Part};
use sluice_operators::shard::{shard, task_of};
use sluice_plan::Distributed;
use sluice_state::change::{Accumulated, OperatorChanges};
use sluice_state::{OperatorState, Tables};

/// Everything that a job of the same meaning needs to go on.
pub fn take(graph: &Graph, parts: &[Part<'_>], sql: &str) -> Result<Savepoint> {
    let all = |p: &Part<'_>| Ok(p.pipeline.snapshot(graph)?.into_iter().map(OperatorChanges::all_of).collect());
    let changes = parts.iter().map(all).collect::<Result<_>>()?;
    let mut state = Accumulated::default();
    merge(changes).into_iter().for_each(|c| state.apply(c));
    let mut operators = state.into_states();
    // Those that hold nothing now are named, too: they are not new to a job that goes on.
    for (at, node) in graph.nodes.iter().enumerate() {
        let identity = &node.properties.identity;
        if let (None, Some(layout)) = (operators.iter().find(|o| o.identity == *identity), sluice_plan::layout(graph, at)) {
            let kind = sluice_plan::name(&node.kind).to_owned();
            operators.push(OperatorState { identity: identity.clone(), kind, tables: Tables::new(), layout });
        }
    }
    Ok(Savepoint { sql: sql.to_owned(), sources: sources(graph, parts), operators })
}

/// Where the sources stand, and which VALUES have been given.
pub fn sources(graph: &Graph, parts: &[Part<'_>]) -> Vec<SourceState> {
    let mut sources = vec![];
    for (at, node) in graph.nodes.iter().enumerate() {
        let (identity, sinks) = (node.properties.identity.clone(), node.properties.sinks.clone());
        match &node.kind {
            NodeKind::Source { table, .. } => {
                let mut positions = vec![];
                let mut watermark = WATERMARK_MAX;
                for part in parts {
                    for input in part.inputs.iter().filter(|i| i.node == at) {
                        positions.extend(input.source.positions());
                        watermark = watermark.min(part.pipeline.told(at));
                    }
                }
                let watermark = Some(watermark).filter(|w| *w != WATERMARK_MAX && *w != WATERMARK_NONE);
                sources.push(SourceState { identity, table: table.name.clone(), positions, watermark, sinks });
            }
            // They have been given: that they are named says so.
            NodeKind::Values { .. } => {
                let table = crate::savepoint::VALUES.into();
                sources.push(SourceState { identity, table, positions: vec![], watermark: None, sinks });
            }
            _ => {}
        }
    }
    sources
}

/// Writes a savepoint with tables that anybody can read.
///
/// # Errors
/// If the directory holds a savepoint already, or cannot be written.
pub fn write(savepoint: &Savepoint, graph: &Graph, directory: &str, options: &storage::Options) -> Result<()> {
    let calls = |identity: &str| {
        let at = graph.nodes.iter().position(|n| n.properties.identity == identity)?;
        let (calls, input, retracting) = sluice_plan::aggregate_calls(graph, at)?;
        Some(sluice_state::typed::Calls { calls, input, retracting })
    };
    savepoint.write_with(&storage::at(directory, options)?, &calls)
}

/// Gives operators and sources what they had, by identity: a savepoint of another job has gone through [`crate::savepoint::adapt`].
pub fn give_back(graph: &Graph, pipeline: &mut Pipeline, inputs: &mut [Input], savepoint: &Savepoint) -> Result<()> {
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

/// What `task` of `tasks` tasks goes on from: the rows of the shards that it owns. Sources get all positions and pick those of their
/// splits. What no operator of the job takes is not in it.
pub fn share(
    graph: &Graph,
    distributed: &Distributed,
    pipeline: &Pipeline,
    savepoint: &Savepoint,
    task: usize,
    tasks: usize,
) -> Result<Savepoint> {
    let mut operators = vec![];
    for (at, node) in graph.nodes.iter().enumerate() {
        let state = savepoint.operators.iter().find(|o| o.identity == node.properties.identity);
        let (Some(state), Some(operator)) = (state, pipeline.operator(at)) else { continue };
        let single = distributed.single.get(at).copied().unwrap_or_default();
        if single && task > 0 {
            continue;
        }
        let mut tables = Tables::new();
        for (name, rows) in &state.tables {
            let mut mine = vec![];
            for (key, value) in rows {
                let part = operator.shard_key(name, key).map_err(|e| e.context(format!("the state of {}", state.kind)))?;
                if single || part.is_empty() || task_of(shard(part), tasks as u32) == task as u32 {
                    mine.push((key.clone(), value.clone()));
                }
            }
            tables.insert(name.clone(), mine);
        }
        operators.push(OperatorState { tables, identity: state.identity.clone(), kind: state.kind.clone(), layout: state.layout.clone() });
    }
    Ok(Savepoint { sql: savepoint.sql.clone(), sources: savepoint.sources.clone(), operators })
}

/// The changes of several tasks as those of one job.
pub fn merge(parts: Vec<Vec<OperatorChanges>>) -> Vec<OperatorChanges> {
    let mut parts = parts.into_iter();
    let mut whole = parts.next().unwrap_or_default();
    for changes in parts.flatten() {
        let Some(known) = whole.iter_mut().find(|o| o.identity == changes.identity) else {
            whole.push(changes);
            continue;
        };
        for (table, rows) in changes.tables {
            let known = known.tables.entry(table).or_default();
            // What is not of a key is the same in all tasks.
            for row in rows {
                if !row.1.is_empty() || !known.contains(&row) {
                    known.push(row);
                }
            }
        }
    }
    whole
}

/// Whether the rows of a VALUES node were given before the savepoint.
pub fn has_values(savepoint: Option<&Savepoint>, identity: &str) -> bool {
    savepoint.is_some_and(|s| s.sources.iter().any(|s| s.identity == identity))
}
