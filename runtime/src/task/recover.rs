//! Recovery: what the last commit record says is read, given back, and everything that it does not name is deleted.

use std::time::Instant;

use sluice_batch::{Error, Result, fail};
use sluice_connect::{CommittedOffset, TableSpec, Transactions};
use sluice_operators::spec::OperatorSpec;
use sluice_plan::{Graph, NodeKind};
use sluice_state::checkpoints::{Checkpoints, Record};
use sluice_state::{Savepoint, SourceState, storage};

use super::commit::{Committer, Keeper, default_group};
use super::pipeline::Pipeline;
use super::{Input, JobOptions, snapshot};

/// The tables that a job writes.
pub fn sinks(graph: &Graph) -> Vec<&TableSpec> {
    graph.nodes.iter().filter_map(|n| if let NodeKind::Sink { table } = &n.kind { Some(table) } else { None }).collect()
}

/// Whether a restart may go on where the job was: only what writes into tables does; rows of a SELECT go to someone who was not there.
pub fn can_last(graph: &Graph, options: &JobOptions, transactions: &Transactions) -> bool {
    let writes = graph.nodes.iter().all(|n| !matches!(n.kind, NodeKind::Client));
    writes && (options.checkpoint_dir.is_some() || transactions.cluster().is_some())
}

/// Gives the job what its last commit, or the savepoint it is to start from, says. Answers the committer and what was restored.
///
/// # Errors
/// If the record or the state cannot be read, is of another job, or has no place in this one.
pub fn recover(
    graph: &Graph,
    options: &JobOptions,
    pipeline: &mut Pipeline,
    inputs: &mut [Input],
    transactions: &Transactions,
) -> Result<(Committer, Option<Savepoint>)> {
    fail::point("transactions-begun");
    let keeper = keeper(graph, options, inputs, transactions);
    let mut checkpoints = match (&keeper, &options.checkpoint_dir) {
        (Keeper::None, _) | (_, None) => None,
        (_, Some(directory)) => Some(Checkpoints::new(storage::open(directory, &options.name)?, &options.name)),
    };
    let found = find_record(&keeper, options, inputs, transactions, checkpoints.as_ref())?;
    let generation = found.as_ref().map_or(0, |f| f.record.generation) + 1;
    let savepoint = options.restored_from.as_deref().map(|path| format!("{:016x}", hash(path)));
    // A job that goes on after a crash is started with the savepoint that it once began with.
    let anew = savepoint.is_some() && found.as_ref().is_none_or(|f| f.record.savepoint != savepoint);
    let epoch = found.as_ref().map_or(0, |f| f.record.epoch);
    let (restored, record) = match (&options.restore, &found) {
        (Some(restore), _) if anew => {
            if let Some(checkpoints) = &mut checkpoints {
                checkpoints.start_over(generation);
            }
            (Some(restore.clone()), Record { savepoint, ..Record::default() })
        }
        (_, None) => {
            if let Some(checkpoints) = &mut checkpoints {
                checkpoints.load(None, generation)?;
                checkpoints.clean()?;
            }
            (None, Record::default())
        }
        (_, Some(found)) => (Some(load(graph, found, generation, &mut checkpoints, &keeper, inputs)?), found.record.clone()),
    };
    fail::point("state-loaded");
    if let Some(state) = &restored {
        snapshot::give_back(graph, pipeline, inputs, state, options.allow_non_restored)?;
    }
    if checkpoints.is_some() {
        pipeline.track_changes();
    }
    let record = Record { pipeline: options.name.clone(), generation, epoch, sources: vec![], at: Default::default(), ..record };
    let committer = Committer {
        pipeline_name: options.name.clone(),
        keeper,
        checkpoints,
        transactions: transactions.clone(),
        record,
        // What these have now is not what was written: they write it again.
        written: restored.iter().flat_map(|s| &s.operators).map(|o| (o.identity.clone(), 0)).collect(),
        positions: None,
        recorded: Instant::now(),
    };
    Ok((committer, restored))
}

/// Where this job's record stands.
fn keeper(graph: &Graph, options: &JobOptions, inputs: &[Input], transactions: &Transactions) -> Keeper {
    if !can_last(graph, options, transactions) {
        return Keeper::None;
    }
    let keeper = match transactions.cluster() {
        Some(cluster) => Keeper::Transaction { cluster },
        None => match inputs.iter().find_map(|i| i.source.group()) {
            Some(group) => Keeper::Group(group),
            None => Keeper::File,
        },
    };
    let values = graph.nodes.iter().any(|n| matches!(n.kind, NodeKind::Values { .. }));
    let needs_files = !is_stateless(graph) || values || !inputs.iter().all(|i| keeper.keeps(i));
    if needs_files && options.checkpoint_dir.is_none() {
        tracing::warn!(
            "outputs are written in transactions, but a restart does not go on with the job's state: set 'execution.checkpointing.dir'"
        );
        return Keeper::None;
    }
    keeper
}

/// Operators without state need no state files.
fn is_stateless(graph: &Graph) -> bool {
    use OperatorSpec as O;
    graph.nodes.iter().all(|n| match &n.kind {
        NodeKind::Operator(spec) => matches!(
            spec,
            O::Calc { .. } | O::Unnest(_) | O::DropUpdateBefore | O::ConstraintEnforcer(_) | O::Union | O::Expand(_)
        ),
        _ => true,
    })
}

/// The newest record, and the offsets that belong to it.
struct Found {
    record: Record,
    /// By input that the record keeps.
    offsets: Vec<Vec<CommittedOffset>>,
}

fn find_record(
    keeper: &Keeper,
    options: &JobOptions,
    inputs: &mut [Input],
    transactions: &Transactions,
    checkpoints: Option<&Checkpoints>,
) -> Result<Option<Found>> {
    let mut offsets = vec![];
    let mut records = vec![];
    match keeper {
        Keeper::None => return Ok(None),
        Keeper::File => records.extend(checkpoints.map(Checkpoints::read_record).transpose()?.flatten()),
        Keeper::Group(_) | Keeper::Transaction { .. } => {
            for input in inputs.iter_mut() {
                offsets.push(if keeper.keeps(input) { input.source.committed()? } else { vec![] });
            }
            records.extend(offsets.iter().flatten().filter_map(|c| serde_json::from_str::<Record>(&c.metadata).ok()));
            if offsets.iter().all(Vec::is_empty) && matches!(keeper, Keeper::Transaction { .. }) && !inputs.iter().any(|i| keeper.keeps(i)) {
                let anchored = transactions.anchored(&default_group(&options.name))?;
                records.extend(anchored.and_then(|c| serde_json::from_str::<Record>(&c.metadata).ok()));
            }
        }
    }
    let Some(record) = records.into_iter().max_by_key(|r| (r.epoch, r.generation)) else { return Ok(None) };
    if record.pipeline != options.name {
        return Err(Error::runtime(format!(
            "the consumer group holds the commits of the pipeline '{}', not of '{}'",
            record.pipeline, options.name
        ))
        .hint("give each pipeline a 'properties.group.id' of its own, or the 'pipeline.name' that it had"));
    }
    Ok(Some(Found { record, offsets }))
}

/// What a record says, as a savepoint would.
fn load(
    graph: &Graph,
    found: &Found,
    generation: u64,
    checkpoints: &mut Option<Checkpoints>,
    keeper: &Keeper,
    inputs: &[Input],
) -> Result<Savepoint> {
    let loaded = match checkpoints {
        Some(checkpoints) => {
            let loaded = checkpoints.load(Some(&found.record), generation)?;
            checkpoints.clean()?;
            loaded
        }
        None if found.record.snapshot.is_some() => {
            return Err(Error::runtime("the last commit has state, but 'execution.checkpointing.dir' is not set"));
        }
        None => Default::default(),
    };
    let of_record = found.record.sources.iter();
    let mut sources: Vec<SourceState> = match keeper {
        Keeper::File => of_record.cloned().map(SourceState::from).collect(),
        _ => loaded.sources,
    };
    for (input, offsets) in inputs.iter().zip(&found.offsets) {
        if !keeper.keeps(input) || offsets.is_empty() {
            continue;
        }
        let identity = &graph.nodes[input.node].properties.identity;
        let position = |c: &CommittedOffset| {
            let shared = serde_json::from_str::<Record>(&c.metadata).ok().and_then(|r| r.at.get(identity).copied());
            (format!("{}-{}", c.at.topic, c.at.partition), shared.unwrap_or(c.at.offset).to_string())
        };
        let positions = offsets.iter().map(position).collect();
        match sources.iter_mut().find(|s| s.identity == *identity) {
            Some(source) => source.positions = positions,
            None => sources.push(SourceState { identity: identity.clone(), table: String::new(), positions, watermark: None }),
        }
    }
    tracing::info!("going on from commit {} of generation {}", found.record.epoch, found.record.generation);
    Ok(Savepoint { sql: String::new(), sources, operators: loaded.operators })
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
