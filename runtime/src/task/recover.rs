//! Recovery: what the last commit record says is read, given back, and everything that it does not name is deleted.

use std::collections::BTreeMap;
use std::time::Instant;

use sluice_batch::{Error, Result, fail};
use sluice_connect::{CommittedOffset, ScanRequest, TableSpec, Transactions};
use sluice_operators::spec::OperatorSpec;
use sluice_plan::{Graph, NodeKind};
use sluice_state::checkpoints::{Checkpoints, Record, Streamed};
use sluice_state::{Layout, OperatorState, Savepoint, SourceState, storage};

use super::commit::{Committer, Keeper, default_group, inputs, inputs_mut};
use super::recorder::Recorder;
use super::status::Status;
use super::{JobOptions, Part};

/// Ends what an earlier instance of the job has begun to write.
///
/// # Errors
/// As [`Transactions::open`].
pub fn open_transactions(graph: &Graph, options: &JobOptions) -> Result<Transactions> {
    Transactions::open(&sinks(graph), &options.name, options.commit_interval, options.time_zone)
}

/// A job that begins again after a failure must not take over from an instance that has been started since. `generation`: of the attempt that
/// failed; 0: there was none. Jobs without Kafka sources are not looked at.
///
/// # Errors
/// If there is such an instance, or the brokers do not answer.
pub fn check_not_replaced(graph: &Graph, options: &JobOptions, generation: u64) -> Result<()> {
    if generation == 0 || !Transactions::are_used(&sinks(graph)) {
        return Ok(());
    }
    for node in &graph.nodes {
        let NodeKind::Source { table, request } = &node.kind else { continue };
        let mut source = sluice_connect::open_source(table, &ScanRequest { group: Some(default_group(&options.name)), ..request.clone() })?;
        if source.group().is_none() {
            continue;
        }
        let records = source.committed()?;
        let mut records = records.iter().filter_map(|c| serde_json::from_str::<Record>(&c.metadata).ok());
        if records.any(|r| r.pipeline == options.name && r.generation > generation) {
            return Err(sluice_connect::replaced("its commits are newer"));
        }
    }
    Ok(())
}

/// As [`check_not_replaced`], for a job whose commits are in a database.
///
/// # Errors
/// If there is such an instance, or the server does not answer.
pub fn check_not_replaced_in(transactions: &Transactions, generation: u64) -> Result<()> {
    if generation == 0 {
        return Ok(());
    }
    match read_record(transactions)? {
        Some(record) if record.generation > generation => Err(sluice_connect::replaced("its commits are newer")),
        _ => Ok(()),
    }
}

/// The record in the database.
fn read_record(transactions: &Transactions) -> Result<Option<Record>> {
    let Some(text) = transactions.database_record()? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| Error::runtime(format!("the record in the table sluice_commits cannot be read: {e}")))
}

/// The tables that a job writes.
fn sinks(graph: &Graph) -> Vec<&TableSpec> {
    graph.nodes.iter().filter_map(|n| if let NodeKind::Sink { table } = &n.kind { Some(table) } else { None }).collect()
}

/// The consumer group of tables that name none; without one nothing is committed for them.
pub fn group(graph: &Graph, options: &JobOptions, transactions: &Transactions) -> Option<String> {
    can_last(graph, options, transactions).then(|| default_group(&options.name))
}

/// Whether a restart may go on where the job was: only what writes into tables does; rows of a SELECT go to someone who was not there.
fn can_last(graph: &Graph, options: &JobOptions, transactions: &Transactions) -> bool {
    let writes = graph.nodes.iter().all(|n| !matches!(n.kind, NodeKind::Client));
    writes && (options.checkpoint_dir.is_some() || transactions.cluster().is_some() || transactions.are_in_database())
}

/// What a job goes on from.
#[derive(Default)]
pub struct Restored {
    pub state: Option<Savepoint>,
    /// State that belongs to it and is not in memory.
    pub streamed: Option<Streamed>,
}

/// What commits the job, and what it goes on from: its last commit, or the savepoint it is to start from; nothing if this start of it was
/// stopped with a savepoint. Sources and sinks are open.
///
/// # Errors
/// If the record or the state cannot be read, is of another job, or has no place in this one.
pub fn find(
    graph: &Graph,
    options: &JobOptions,
    parts: &mut [Part<'_>],
    transactions: &Transactions,
    status: &Status,
) -> Result<Option<(Committer, Restored)>> {
    fail::point("transactions-begun");
    let keeper = keeper(graph, options, parts, transactions);
    let mut checkpoints = match (&keeper, &options.checkpoint_dir) {
        (Keeper::None, _) | (_, None) => None,
        (_, Some(directory)) => Some(Checkpoints::new(storage::open(directory, &options.name, &options.storage)?, &options.name)),
    };
    let found = find_record(&keeper, options, parts, transactions, checkpoints.as_ref())?;
    let start = options.start.as_deref().map(|start| format!("{:016x}", hash(start)));
    // Both only rise, whatever becomes of state: the greatest epoch is the newest record.
    let (epoch, generation) = found.as_ref().map_or((0, 1), |f| (f.record.epoch, f.record.generation + 1));
    let deleted_before = checkpoints.as_mut().map(|c| c.deleted_before(generation)).transpose()?.flatten().unwrap_or(0);
    let found = found.filter(|f| f.record.generation >= deleted_before);
    if let Some(record) = found.as_ref().map(|f| &f.record).filter(|r| options.stays_stopped && r.savepoint == start)
        && let Some(stopped) = &record.stopped
    {
        tracing::info!("this start of the job was stopped with the savepoint {}", stopped.savepoint);
        options.requests.stopped_before(stopped);
        return Ok(None);
    }
    take_over(&keeper, options, found.as_ref().map(|f| &f.record), generation, checkpoints.as_ref(), transactions)?;
    // A start without a commit leaves no more than its generation.
    let found = found.filter(|f| f.record.epoch > 0);
    let base = Base { graph, options, keeper: &keeper, start, generation };
    let (restored, record) = base.restore(found.as_ref(), parts, &mut checkpoints, status)?;
    fail::point("state-loaded");
    let record =
        Record { pipeline: options.name.clone(), generation, epoch, stopped: None, sources: vec![], at: Default::default(), ..record };
    let committer = Committer::new(Recorder {
        pipeline_name: options.name.clone(),
        keeper,
        checkpoints,
        transactions: transactions.clone(),
        record,
        // What these have now is not what was written: they write it again.
        written: restored.state.iter().flat_map(|s| &s.operators).map(|o| (o.identity.clone(), 0)).collect(),
        positions: None,
        recorded: Instant::now(),
        others: vec![],
        stopped: None,
    });
    Ok(Some((committer, restored)))
}

/// From here on no earlier instance of the job commits. `found`: the newest record.
fn take_over(
    keeper: &Keeper,
    options: &JobOptions,
    found: Option<&Record>,
    generation: u64,
    checkpoints: Option<&Checkpoints>,
    transactions: &Transactions,
) -> Result<()> {
    match keeper {
        Keeper::File => checkpoints.map_or(Ok(()), |checkpoints| checkpoints.take_over(found, generation)),
        Keeper::Database => {
            let found = found.cloned().unwrap_or_else(|| Record { pipeline: options.name.clone(), ..Record::default() });
            let record = Record { generation, ..found };
            transactions.take_over(generation, record.epoch, &super::recorder::text(&record)?)
        }
        // A transactional id is fenced by its new producer; at-least-once may be committed by both until the old one asks
        // (`check_not_replaced`).
        Keeper::None | Keeper::Group(_) | Keeper::Transaction { .. } => Ok(()),
    }
}

/// Of which job an instance takes up the state, and as what.
struct Base<'a> {
    graph: &'a Graph,
    options: &'a JobOptions,
    keeper: &'a Keeper,
    /// Hash of the name of this start of the job; none if it has no name.
    start: Option<String>,
    generation: u64,
}

impl Base<'_> {
    /// The savepoint that this start begins with, or the last commit, or nothing; and what of a record stays.
    fn restore(
        &self,
        found: Option<&Found>,
        parts: &[Part<'_>],
        checkpoints: &mut Option<Checkpoints>,
        status: &Status,
    ) -> Result<(Restored, Record)> {
        // A job that goes on after a crash is started as it once was.
        let anew = self.start.is_some() && found.is_none_or(|f| f.record.savepoint != self.start);
        let streams = |identity: &str, layout: &Layout| {
            let node = self.graph.nodes.iter().position(|n| n.properties.identity == identity);
            node.is_some_and(|node| parts.iter().any(|p| p.pipeline.takes_parts(self.graph, node, layout)))
        };
        let restored = match (&self.options.restore, found) {
            (Some(restore), _) if anew => {
                let (state, streamed) = restore.as_ref().map_err(Error::clone)?.load(&streams)?;
                if let Some(checkpoints) = checkpoints {
                    checkpoints.start_over(self.generation)?;
                }
                (Restored { state: Some(state), streamed }, Record { savepoint: self.start.clone(), ..Record::default() })
            }
            (_, None) => {
                if let Some(checkpoints) = checkpoints {
                    checkpoints.load(None, self.generation, &|_, _| false)?;
                    checkpoints.clean()?;
                }
                (Restored::default(), Record::default())
            }
            (_, Some(found)) => (self.load(found, checkpoints, &streams)?, found.record.clone()),
        };
        status.restored(match found {
            _ if anew => self.options.restored_from.clone(),
            found => found.map(|f| format!("commit {} of generation {}", f.record.epoch, f.record.generation)),
        });
        Ok(restored)
    }

    /// What a record says, as a savepoint would.
    fn load(&self, found: &Found, checkpoints: &mut Option<Checkpoints>, streams: &dyn Fn(&str, &Layout) -> bool) -> Result<Restored> {
        let loaded = match checkpoints {
            Some(checkpoints) => checkpoints.load(Some(&found.record), self.generation, streams)?,
            None if found.record.snapshot.is_some() => {
                return Err(Error::runtime("the last commit has state, but 'execution.checkpointing.dir' is not set"));
            }
            None => Default::default(),
        };
        let sources: Vec<SourceState> = match self.keeper {
            Keeper::File | Keeper::Database => found.record.sources.clone(),
            _ => loaded.sources,
        };
        let layouts = |operators: &[OperatorState]| -> BTreeMap<String, Layout> {
            operators.iter().map(|o| (o.identity.clone(), o.layout.clone())).collect()
        };
        let before = layouts(&loaded.operators);
        // The SQL may be another one than that of the last commit.
        let state = Savepoint { sql: String::new(), sources, operators: loaded.operators };
        let mut state = crate::savepoint::adapt(self.graph, state, self.options.allow_non_restored)?;
        if let Some(checkpoints) = checkpoints {
            match layouts(&state.operators) == before {
                true => checkpoints.clean()?,
                // What is upon the old files would not mean the same.
                false => checkpoints.start_over(self.generation)?,
            }
        }
        let sources = &mut state.sources;
        for source in sources.iter_mut().filter(|s| found.offsets.iter().any(|(i, _)| *i == s.identity)) {
            source.positions.clear();
        }
        for (identity, offsets) in found.offsets.iter().filter(|(_, o)| !o.is_empty()) {
            let position = |c: &CommittedOffset| {
                let shared = serde_json::from_str::<Record>(&c.metadata).ok().and_then(|r| r.at.get(identity).copied());
                (format!("{}-{}", c.at.topic, c.at.partition), shared.unwrap_or(c.at.offset).to_string())
            };
            let positions: Vec<_> = offsets.iter().map(position).collect();
            match sources.iter_mut().find(|s| s.identity == *identity) {
                // Tasks share the partitions of a source.
                Some(source) => source.positions.extend(positions),
                None => sources.push(SourceState {
                    identity: identity.clone(),
                    table: String::new(),
                    positions,
                    watermark: None,
                    sinks: vec![],
                }),
            }
        }
        tracing::info!("going on from commit {} of generation {}", found.record.epoch, found.record.generation);
        Ok(Restored { state: Some(state), streamed: loaded.streamed })
    }
}

/// Where this job's record stands.
fn keeper(graph: &Graph, options: &JobOptions, parts: &[Part<'_>], transactions: &Transactions) -> Keeper {
    if !can_last(graph, options, transactions) {
        return Keeper::None;
    }
    let keeper = match transactions.cluster() {
        _ if transactions.are_in_database() => Keeper::Database,
        Some(cluster) => Keeper::Transaction { cluster },
        None => match inputs(parts).find_map(|i| i.source.group()) {
            Some(group) => Keeper::Group(group),
            None => Keeper::File,
        },
    };
    let values = graph.nodes.iter().any(|n| matches!(n.kind, NodeKind::Values { .. }));
    // A record in a database says itself where the sources stand.
    let positions = keeper == Keeper::Database || (!values && inputs(parts).all(|i| keeper.keeps(i)));
    let needs_files = !is_stateless(graph) || !positions;
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
        NodeKind::Operator(spec) => {
            matches!(
                spec,
                O::Calc { .. } | O::Unnest(_) | O::DropUpdateBefore | O::ConstraintEnforcer(_) | O::Union | O::Expand(_) | O::LookupJoin(_)
            )
        }
        _ => true,
    })
}

/// The newest record, and the offsets that belong to it.
struct Found {
    record: Record,
    /// By source: its identity and the offsets, if the record keeps it.
    offsets: Vec<(String, Vec<CommittedOffset>)>,
}

fn find_record(
    keeper: &Keeper,
    options: &JobOptions,
    parts: &mut [Part<'_>],
    transactions: &Transactions,
    checkpoints: Option<&Checkpoints>,
) -> Result<Option<Found>> {
    let mut offsets = vec![];
    let mut records = vec![];
    match keeper {
        Keeper::None => return Ok(None),
        Keeper::File => records.extend(checkpoints.map(Checkpoints::read_record).transpose()?.flatten()),
        Keeper::Database => records.extend(read_record(transactions)?),
        Keeper::Group(_) | Keeper::Transaction { .. } => {
            for input in inputs_mut(parts).filter(|i| keeper.keeps(i)) {
                offsets.push((input.identity.clone(), input.source.committed()?));
            }
            let of_offset = |c: &CommittedOffset| serde_json::from_str::<Record>(&c.metadata).ok();
            records.extend(offsets.iter().flat_map(|(_, o)| o).filter_map(of_offset));
            if offsets.is_empty() && matches!(keeper, Keeper::Transaction { .. }) {
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

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
