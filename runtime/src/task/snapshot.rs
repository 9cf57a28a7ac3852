//! The state of a whole job: taken between two polls, when nothing is on its way; given back before the first.

use std::collections::{BTreeMap, BTreeSet};

use sluice_batch::{Error, Result};
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
        SourceState { identity: node.properties.identity.clone(), table, positions: input.source.positions() }
    };
    let mut sources: Vec<SourceState> = inputs.iter().map(source).collect();
    // VALUES have been given: their one position says so.
    for node in graph.nodes.iter().filter(|n| matches!(n.kind, NodeKind::Values { .. })) {
        sources.push(SourceState { identity: node.properties.identity.clone(), table: "VALUES".into(), positions: vec![] });
    }
    Ok(Savepoint { sql: sql.to_owned(), sources, operators: pipeline.snapshot(graph)? })
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
    check_known(graph, savepoint, allow_non_restored)?;
    for input in inputs {
        let identity = &graph.nodes[input.node].properties.identity;
        if let Some(source) = savepoint.sources.iter().find(|s| s.identity == *identity) {
            input.source.seek(&source.positions)?;
        }
    }
    let states = savepoint.operators.iter().map(|o| (o.identity.as_str(), &o.tables)).collect::<BTreeMap<_, _>>();
    pipeline.restore(graph, &states)
}

/// # Errors
/// If the savepoint has state that no operator of this job takes, unless `allow_non_restored`.
pub fn check_known(graph: &Graph, savepoint: &Savepoint, allow_non_restored: bool) -> Result<()> {
    let known: BTreeSet<&str> = graph.nodes.iter().map(|n| n.properties.identity.as_str()).collect();
    let lost: Vec<String> = (savepoint.operators.iter().filter(|o| !known.contains(o.identity.as_str())))
        .map(|o| o.kind.clone())
        .chain(savepoint.sources.iter().filter(|s| !known.contains(s.identity.as_str())).map(|s| format!("source {}", s.table)))
        .collect();
    if !lost.is_empty() && !allow_non_restored {
        return Err(Error::plan(format!("the savepoint holds state that this job has no place for: {}", lost.join(", ")))
            .hint("--allow-non-restored-state starts without it"));
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
        operators.push(OperatorState { identity: state.identity.clone(), kind: state.kind.clone(), tables });
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
