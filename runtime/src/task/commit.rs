//! Commits: outputs, positions and state become one durable step. What a commit is, and where its record stands, is in DESIGN.md.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use sluice_batch::{Error, Result, fail};
use sluice_connect::{CommittedOffset, ConsumerGroup, PartitionOffset, Transactions};
use sluice_plan::Graph;
use sluice_state::SourceState;
use sluice_state::change::OperatorChanges;
use sluice_state::checkpoints::{Checkpoints, Record};

use super::snapshot;
use super::stats::Stats;
use super::{Input, Part};

/// Committed offsets expire when nothing is committed for long (`offsets.retention.minutes`, a week): a quiet job says them again.
const REPEAT: Duration = Duration::from_secs(3600);
/// How long the last commit of a job waits for brokers that do not answer.
const LAST_COMMIT: Duration = Duration::from_secs(30);

/// Where the commit record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// Nowhere: sinks are flushed, offsets committed for those who look at lag, and a restart begins anew.
    None,
    /// The committed offsets of a consumer group.
    Group(ConsumerGroup),
    /// The same, within the transaction of the outputs. If no source is on its cluster, the group has the anchor's offset only.
    Transaction { cluster: String },
    /// `commit.json` beside the state.
    File,
}

impl Keeper {
    /// Whether the record's offsets are this source's positions.
    pub fn keeps(&self, input: &Input) -> bool {
        match (self, input.source.group()) {
            (Keeper::Group(group), Some(of)) => *group == of,
            (Keeper::Transaction { cluster }, Some(of)) => *cluster == of.cluster,
            _ => false,
        }
    }
}

/// What commits a job.
pub struct Committer {
    pub(super) pipeline_name: String,
    pub(super) keeper: Keeper,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) transactions: Transactions,
    /// The last record.
    pub(super) record: Record,
    /// By operator that writes all its state: the hash of what was written.
    pub(super) written: HashMap<String, u64>,
    /// What the last record says.
    pub(super) positions: Option<Vec<SourceState>>,
    pub(super) recorded: Instant,
}

/// The group of a job whose tables name none.
pub fn default_group(pipeline: &str) -> String {
    format!("sluice-{pipeline}")
}

impl Committer {
    /// Everything read so far has been written and flushed by all parts of the job: that becomes durable. `began`: when the tasks stopped
    /// for it; `end`: nothing follows.
    ///
    /// # Errors
    /// If the outside refuses; the job then goes on from the last commit.
    pub fn commit(&mut self, graph: &Graph, parts: &mut [Part<'_>], stats: &Stats, began: Instant, end: bool) -> Result<()> {
        inputs_mut(parts).try_for_each(|i| i.source.flush())?;
        fail::point("sinks-flushed");
        if self.keeper == Keeper::None {
            self.commit_offsets_only(parts)?;
        } else {
            let until = Instant::now() + if end { LAST_COMMIT } else { Duration::ZERO };
            while !self.record(graph, parts)? {
                if Instant::now() >= until {
                    return if end { Err(Error::runtime("the last commit failed: the brokers do not answer")) } else { Ok(()) };
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        stats.add_commit(began.elapsed());
        Ok(())
    }

    /// The job's state is kept: operators take note of what changes.
    pub fn keeps_state(&self) -> bool {
        self.checkpoints.is_some()
    }

    /// The job has ended: background work, too.
    ///
    /// # Errors
    /// If a file cannot be deleted.
    pub fn close(self) -> Result<()> {
        self.checkpoints.map_or(Ok(()), Checkpoints::close)
    }

    fn commit_offsets_only(&mut self, parts: &mut [Part<'_>]) -> Result<()> {
        let Some(cluster) = self.transactions.cluster() else {
            return inputs_mut(parts).try_for_each(|i| i.source.commit());
        };
        let keeper = Keeper::Transaction { cluster };
        let groups = groups(&keeper, parts, &Record::default(), false)?;
        if self.transactions.is_dirty() {
            self.transactions.commit(&groups)?;
        }
        inputs_mut(parts).filter(|i| !keeper.keeps(i)).try_for_each(|i| i.source.commit())
    }

    /// Writes state and record. `false`: the record could not be written now.
    fn record(&mut self, graph: &Graph, parts: &mut [Part<'_>]) -> Result<bool> {
        let positions = snapshot::sources(graph, parts);
        let moved = self.positions.as_ref() != Some(&positions);
        let changes = match &self.checkpoints {
            Some(checkpoints) => {
                let first = checkpoints.is_empty();
                let all = parts.iter_mut().map(|p| p.pipeline.changes(graph, first)).collect::<Result<_>>()?;
                self.changes(snapshot::merge(all), first)
            }
            None => vec![],
        };
        let mut record = self.record.clone();
        record.epoch += 1;
        if let Some(checkpoints) = &mut self.checkpoints {
            let must = checkpoints.must_write()? || (moved && self.outside_moved(parts, &positions));
            let checkpoints = self.checkpoints.as_mut().ok_or_else(|| Error::runtime("the state is gone"))?;
            if must || !changes.is_empty() {
                record.snapshot = Some(checkpoints.write(record.epoch, &changes, &positions)?);
                fail::point("state-written");
            }
        }
        let state_moved = record.snapshot != self.record.snapshot;
        if !moved && !state_moved && !self.transactions.is_dirty() && self.recorded.elapsed() < REPEAT {
            return Ok(true);
        }
        // A file that was written is named by the next record, whether this one succeeds or not.
        self.record.epoch = record.epoch;
        if !self.write_record(&mut record, parts, &positions)? {
            tracing::warn!("the brokers do not answer; this commit is made up for with the next one");
            return Ok(false);
        }
        fail::point("committed");
        (self.record, self.positions, self.recorded) = (record, Some(positions), Instant::now());
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.committed()?;
        }
        fail::point("cleaned");
        Ok(true)
    }

    /// Leaves out operators that write all their state and have not changed it. `first`: nothing is written yet.
    fn changes(&mut self, all: Vec<OperatorChanges>, first: bool) -> Vec<OperatorChanges> {
        let mut changed = |c: &OperatorChanges| {
            if !c.whole {
                return c.rows() > 0;
            }
            let mut hasher = DefaultHasher::new();
            c.tables.hash(&mut hasher);
            let hash = hasher.finish();
            let before = self.written.insert(c.identity.clone(), hash);
            before != Some(hash) && (c.rows() > 0 || (before.is_some() && !first)) || (first && c.rows() > 0)
        };
        all.into_iter().filter(|c| changed(c)).collect()
    }

    /// Whether a source has moved whose positions only a state file can keep.
    fn outside_moved(&self, parts: &[Part<'_>], positions: &[SourceState]) -> bool {
        if self.keeper == Keeper::File {
            return false;
        }
        let kept: Vec<&str> = inputs(parts).filter(|i| self.keeper.keeps(i)).map(|i| i.identity.as_str()).collect();
        let before = self.positions.as_deref().unwrap_or_default();
        let same = |p: &SourceState| before.iter().any(|b| b.identity == p.identity && b.positions == p.positions);
        positions.iter().any(|p| !kept.contains(&p.identity.as_str()) && !same(p))
    }

    fn write_record(&self, record: &mut Record, parts: &mut [Part<'_>], positions: &[SourceState]) -> Result<bool> {
        match &self.keeper {
            Keeper::None => {}
            Keeper::File => {
                record.sources = positions.to_vec();
                if let Some(checkpoints) = &self.checkpoints {
                    checkpoints.write_record(record)?;
                }
            }
            Keeper::Group(group) => {
                let offsets = groups(&self.keeper, parts, record, true)?.into_iter().flat_map(|(_, offsets)| offsets).collect::<Vec<_>>();
                let Some(input) = inputs_mut(parts).find(|i| i.source.group().as_ref() == Some(group)) else { return Ok(true) };
                if !input.source.commit_offsets(&offsets)? {
                    return Ok(false);
                }
            }
            Keeper::Transaction { .. } => {
                let mut groups = groups(&self.keeper, parts, record, true)?;
                if groups.is_empty()
                    && let Some(at) = self.transactions.anchor(record.epoch)?
                {
                    groups.push((default_group(&self.pipeline_name), vec![CommittedOffset { at, metadata: text(record)? }]));
                }
                self.transactions.commit(&groups)?;
            }
        }
        // For those who look at lag.
        for input in inputs_mut(parts).filter(|i| !self.keeper.keeps(i)) {
            input.source.commit()?;
        }
        Ok(true)
    }
}

/// The sources of all parts.
pub(super) fn inputs<'p>(parts: &'p [Part<'_>]) -> impl Iterator<Item = &'p Input> {
    parts.iter().flat_map(|p| p.inputs.iter())
}

pub(super) fn inputs_mut<'p>(parts: &'p mut [Part<'_>]) -> impl Iterator<Item = &'p mut Input> {
    parts.iter_mut().flat_map(|p| p.inputs.iter_mut())
}

fn text(record: &Record) -> Result<String> {
    serde_json::to_string(record).map_err(|e| Error::runtime(e.to_string()))
}

/// The offsets that the record consists of, by group, each with the record as its metadata if `with_record`.
///
/// Sources that read the same partition with the same group share an offset: the least counts, and the record says who was further.
fn groups(keeper: &Keeper, parts: &[Part<'_>], record: &Record, with_record: bool) -> Result<Vec<(String, Vec<CommittedOffset>)>> {
    type Shared = BTreeMap<(String, i32), Vec<(String, i64)>>;
    let mut groups: BTreeMap<String, Shared> = BTreeMap::new();
    for input in inputs(parts).filter(|i| keeper.keeps(i)) {
        let Some(group) = input.source.group() else { continue };
        let shared = groups.entry(group.name).or_default();
        for o in input.source.offsets() {
            shared.entry((o.topic, o.partition)).or_default().push((input.identity.clone(), o.offset));
        }
    }
    let plain = if with_record { text(record)? } else { String::new() };
    let commit = |((topic, partition), held): ((String, i32), Vec<(String, i64)>)| -> Result<CommittedOffset> {
        let offset = held.iter().map(|(_, o)| *o).min().unwrap_or_default();
        let metadata = if with_record && held.iter().any(|(_, o)| *o != offset) {
            text(&Record { at: held.into_iter().collect(), ..record.clone() })?
        } else {
            plain.clone()
        };
        Ok(CommittedOffset { at: PartitionOffset { topic, partition, offset }, metadata })
    };
    let with_offsets = |(name, shared): (String, Shared)| Ok((name, shared.into_iter().map(commit).collect::<Result<Vec<_>>>()?));
    groups.into_iter().filter(|(_, shared)| !shared.is_empty()).map(with_offsets).collect()
}
