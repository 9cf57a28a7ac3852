//! The state of a whole job: taken between two polls, when nothing is on its way; given back before the first.

use sluice_batch::{Error, Millis, Result, WATERMARK_MAX, WATERMARK_NONE};
use sluice_operators::Operator;
use sluice_operators::shard::{shard, task_of};
use sluice_plan::{Distributed, Graph, NodeKind};
use sluice_state::change::{Accumulated, OperatorChanges};
use sluice_state::checkpoints::Streamed;
use sluice_state::{OperatorState, Rows, Savepoint, SourceState, Tables, storage};

use super::pipeline::Pipeline;
use super::recover::Restored;
use super::{Input, Part};

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
                let (mut positions, mut told) = (vec![], vec![]);
                for part in parts {
                    for input in part.inputs.iter().filter(|i| i.node == at && i.source.has_splits()) {
                        positions.extend(input.source.positions());
                        told.push(part.pipeline.told(at));
                    }
                }
                sources.push(SourceState { identity, table: table.name.clone(), positions, watermark: common_time(&told), sinks });
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

/// The time of a source that tasks share: watermarks, and whether the task is idle. Idle tasks hold nothing back, as in
/// [`super::exchange::Inlet`]; if all are, it is not known which were so first, and time may go back to that of the last.
fn common_time(told: &[(Millis, bool)]) -> Option<Millis> {
    let active = told.iter().filter(|(_, idle)| !idle).map(|t| t.0).min();
    let watermark = active.or_else(|| told.iter().map(|t| t.0).min());
    watermark.filter(|w| *w != WATERMARK_MAX && *w != WATERMARK_NONE)
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

/// Gives the operators and sources of all tasks what they had, by identity: a savepoint of another job has gone through
/// [`crate::savepoint::adapt`]. `distributed`: how a job of several tasks is.
pub fn give_back(graph: &Graph, distributed: Option<&Distributed>, parts: &mut [Part<'_>], restored: &Restored) -> Result<()> {
    let Some(state) = &restored.state else { return Ok(()) };
    let tasks = parts.len();
    for (task, part) in parts.iter_mut().enumerate() {
        seek(graph, part.inputs, state)?;
        let mine = distributed.map(|d| share(graph, d, part.pipeline, state, task, tasks)).transpose()?;
        let operators = &mine.as_ref().unwrap_or(state).operators;
        part.pipeline.restore(graph, &operators.iter().map(|o| (o.identity.as_str(), &o.tables)).collect())?;
    }
    if let Some(streamed) = &restored.streamed {
        give_streamed(graph, distributed, parts, streamed)?;
    }
    parts.iter_mut().try_for_each(|part| set_time(graph, part.pipeline, state))
}

fn seek(graph: &Graph, inputs: &mut [Input], savepoint: &Savepoint) -> Result<()> {
    for input in inputs {
        let identity = &graph.nodes[input.node].properties.identity;
        if let Some(source) = savepoint.sources.iter().find(|s| s.identity == *identity) {
            input.source.seek(&source.positions)?;
        }
    }
    Ok(())
}

/// Gives operators the rows that are not in memory, a part at a time.
fn give_streamed(graph: &Graph, distributed: Option<&Distributed>, parts: &mut [Part<'_>], streamed: &Streamed) -> Result<()> {
    streamed.rows(&mut |identity, table, rows| {
        let Some(node) = graph.nodes.iter().position(|n| n.properties.identity == identity) else { return Ok(()) };
        let mut shares: Vec<Rows> = vec![Rows::default(); parts.len()];
        match distributed.filter(|d| !d.single.get(node).copied().unwrap_or_default()) {
            None => shares[0] = rows,
            Some(_) => {
                let operator = parts[0].pipeline.operator(node);
                let operator = operator.ok_or_else(|| Error::runtime("internal: state of no operator"))?;
                for (key, value) in rows.iter() {
                    match owner(operator, table, key, parts.len())? {
                        Some(task) => shares[task].push(key, value),
                        None => shares.iter_mut().for_each(|s| s.push(key, value)),
                    }
                }
            }
        }
        for (part, rows) in parts.iter_mut().zip(shares).filter(|(_, rows)| !rows.is_empty()) {
            part.pipeline.restore_part(node, &Tables::from([(table.to_owned(), rows)]))?;
        }
        Ok(())
    })
}

/// The task that has a row of an operator's state; `None`: each has it.
fn owner(operator: &dyn Operator, table: &str, key: &[u8], tasks: usize) -> Result<Option<usize>> {
    let part = operator.shard_key(table, key).map_err(|e| e.context(format!("the state of {}", operator.name())))?;
    Ok((!part.is_empty()).then(|| task_of(shard(part), tasks as u32) as usize))
}

/// Time does not go back: what was late stays so.
fn set_time(graph: &Graph, pipeline: &mut Pipeline, savepoint: &Savepoint) -> Result<()> {
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
fn share(
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
            let mut mine = Rows::default();
            for (key, value) in rows.iter() {
                if single || owner(operator, name, key, tasks)?.is_none_or(|owner| owner == task) {
                    mine.push(key, value);
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
            if rows.iter().all(|(_, key, _)| !key.is_empty()) {
                known.append(rows);
                continue;
            }
            for (kind, key, value) in rows.iter() {
                if !key.is_empty() || !known.iter().any(|k| k == (kind, key, value)) {
                    known.push(kind, key, value);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_tasks_hold_no_time_back() {
        let none = WATERMARK_NONE;
        for (told, time) in [
            (&[] as &[(Millis, bool)], None),
            (&[(5, false), (3, false)], Some(3)),
            (&[(5, false), (none, false)], None),
            (&[(5, false), (3, true), (none, true)], Some(5)),
            (&[(5, true), (3, true)], Some(3)),
            (&[(WATERMARK_MAX, false), (4, false)], Some(4)),
            (&[(WATERMARK_MAX, false)], None),
        ] {
            assert_eq!(common_time(told), time, "{told:?}");
        }
    }
}
