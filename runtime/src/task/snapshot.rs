//! The state of a whole job: taken between two polls, when nothing is on its way; given back before the first.

use std::collections::BTreeMap;

use sluice_batch::Result;
use sluice_plan::{Graph, NodeKind};
use sluice_state::{Savepoint, SourceState};

use super::Input;
use super::pipeline::Pipeline;
use sluice_operators::shard::{shard, task_of};
use sluice_plan::Distributed;
use sluice_state::{OperatorState, Tables};

/// Everything that a job of the same meaning needs to go on.
pub fn take(graph: &Graph, pipeline: &Pipeline, inputs: &[Input], sql: &str) -> Result<Savepoint> {
    let source = |input: &Input| {
        let node = &graph.nodes[input.node];
        let table = match &node.kind {
            NodeKind::Source { table, .. } => table.name.clone(),
            _ => String::new(),
        };
        SourceState {
            identity: node.properties.identity.clone(),
            table,
            positions: input.source.positions(),
            sinks: node.properties.sinks.clone(),
        }
    };
    let mut sources: Vec<SourceState> = inputs.iter().map(source).collect();
    // VALUES have been given: their one position says so.
    for node in graph.nodes.iter().filter(|n| matches!(n.kind, NodeKind::Values { .. })) {
        let (identity, sinks) = (node.properties.identity.clone(), node.properties.sinks.clone());
        sources.push(SourceState { identity, table: crate::savepoint::VALUES.into(), positions: vec![], sinks });
    }
    Ok(Savepoint { sql: sql.to_owned(), sources, operators: pipeline.snapshot(graph)? })
}

/// Writes a savepoint with tables that anybody can read.
///
/// # Errors
/// If the directory holds a savepoint already, or cannot be written.
pub fn write(savepoint: &Savepoint, graph: &Graph, directory: &std::path::Path) -> Result<()> {
    let calls = |identity: &str| {
        let at = graph.nodes.iter().position(|n| n.properties.identity == identity)?;
        let (calls, input, retracting) = sluice_plan::aggregate_calls(graph, at)?;
        Some(sluice_state::typed::Calls { calls, input, retracting })
    };
    savepoint.write_with(directory, &calls)
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
    pipeline.restore(graph, &states)
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

/// The state of several tasks as that of one job.
pub fn merge(parts: Vec<Savepoint>) -> Savepoint {
    let mut whole = Savepoint::default();
    for part in parts {
        whole.sql = part.sql;
        for source in part.sources {
            match whole.sources.iter_mut().find(|s| s.identity == source.identity) {
                Some(known) => known.positions.extend(source.positions),
                None => whole.sources.push(source),
            }
        }
        for state in part.operators {
            let Some(known) = whole.operators.iter_mut().find(|o| o.identity == state.identity) else {
                whole.operators.push(state);
                continue;
            };
            for (table, rows) in state.tables {
                let known = known.tables.entry(table).or_default();
                // What is not of a key is the same in all tasks.
                for row in rows {
                    if !row.0.is_empty() || !known.contains(&row) {
                        known.push(row);
                    }
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
