//! Makes a cut of the job durable: state file, outputs, record. Runs in a thread beside the tasks.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use sluice_batch::{Error, Result, fail};
use sluice_connect::{CommittedOffset, Later, PartitionOffset, Transactions};
use sluice_state::SourceState;
use sluice_state::change::OperatorChanges;
use sluice_state::checkpoints::{Checkpoints, Record, Stopped};

use super::commit::{Cut, Keeper, Offsets, default_group};
use super::snapshot;

/// Committed offsets expire when nothing is committed for long (`offsets.retention.minutes`, a week): a quiet job says them again.
const REPEAT: Duration = Duration::from_secs(3600);

/// What makes commits, and what it knows of the last one.
pub(super) struct Recorder {
    pub pipeline_name: String,
    pub keeper: Keeper,
    pub checkpoints: Option<Checkpoints>,
    pub transactions: Transactions,
    /// The last record.
    pub record: Record,
    /// By operator that writes all its state: the hash of what was written.
    pub written: HashMap<String, u64>,
    /// What the last record says.
    pub positions: Option<Vec<SourceState>>,
    pub recorded: Instant,
    /// The next record says that the job ends with this one.
    pub stopped: Option<Stopped>,
    /// Offsets to commit with the next record, for those who look at lag.
    pub others: Vec<Later>,
}

/// A transaction that is committed, or given up: nobody must wait for it in vain.
struct Sealed(Transactions);

impl Drop for Sealed {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Recorder {
    /// Whose offsets go into transactions, even if no record is kept.
    pub fn keeper_of_offsets(&self) -> Keeper {
        match (&self.keeper, self.transactions.cluster()) {
            (Keeper::None, Some(cluster)) => Keeper::Transaction { cluster },
            (keeper, _) => keeper.clone(),
        }
    }

    /// Makes a cut durable.
    ///
    /// # Errors
    /// If the outside refuses. No output that was given behind the cut is sent then.
    pub fn run(&mut self, cut: Cut) -> Result<()> {
        let _sealed = Sealed(self.transactions.clone());
        self.make(cut)
    }

    /// # Errors
    /// If a file cannot be deleted.
    pub fn close(self) -> Result<()> {
        self.checkpoints.map_or(Ok(()), Checkpoints::close)
    }

    fn make(&mut self, mut cut: Cut) -> Result<()> {
        std::mem::take(&mut cut.flushes).into_iter().try_for_each(|flush| flush())?;
        fail::point("sinks-flushed");
        self.others.append(&mut cut.others);
        if self.keeper == Keeper::None {
            match cut.dirty {
                true => self.transactions.commit(&groups(&cut.offsets, None)?)?,
                false => self.transactions.reopen(),
            }
            return self.commit_others();
        }
        let moved = self.positions.as_ref() != Some(&cut.positions);
        let mut record = Record { stopped: self.stopped.clone(), ..self.record.clone() };
        record.epoch += 1;
        let changes = std::mem::take(&mut cut.changes);
        self.write_state(&mut record, changes, &cut, moved)?;
        let state_moved = record.snapshot != self.record.snapshot || record.stopped != self.record.stopped;
        if !moved && !state_moved && !cut.dirty && self.recorded.elapsed() < REPEAT {
            self.transactions.reopen();
            return Ok(());
        }
        // A file that was written is named by the next record, whether this one succeeds or not.
        self.record.epoch = record.epoch;
        while !self.write_record(&mut record, &cut)? {
            match cut.until {
                Some(until) if Instant::now() < until => std::thread::sleep(Duration::from_millis(100)),
                Some(_) => return Err(Error::runtime("the last commit failed: the brokers do not answer")),
                None => {
                    tracing::warn!("the brokers do not answer; this commit is made up for with the next one");
                    return Ok(());
                }
            }
        }
        self.commit_others()?;
        fail::point("committed");
        (self.record, self.positions, self.recorded) = (record, Some(cut.positions), Instant::now());
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.committed()?;
        }
        fail::point("cleaned");
        Ok(())
    }

    /// Writes what has changed, if anything has.
    fn write_state(&mut self, record: &mut Record, changes: Vec<Vec<OperatorChanges>>, cut: &Cut, moved: bool) -> Result<()> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        let (first, must) = (checkpoints.is_empty(), checkpoints.must_write()?);
        let changes = self.changed(snapshot::merge(changes), first);
        let must = must || (moved && self.outside_moved(cut));
        if let Some(checkpoints) = &mut self.checkpoints
            && (must || !changes.is_empty())
        {
            record.snapshot = Some(checkpoints.write(record.epoch, &changes, &cut.positions)?);
            fail::point("state-written");
        }
        Ok(())
    }

    /// Leaves out operators that write all their state and have not changed it. `first`: nothing is written yet.
    fn changed(&mut self, all: Vec<OperatorChanges>, first: bool) -> Vec<OperatorChanges> {
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
    fn outside_moved(&self, cut: &Cut) -> bool {
        if matches!(self.keeper, Keeper::File | Keeper::Database) {
            return false;
        }
        let before = self.positions.as_deref().unwrap_or_default();
        let same = |p: &SourceState| before.iter().any(|b| b.identity == p.identity && b.positions == p.positions);
        cut.positions.iter().any(|p| !cut.kept.contains(&p.identity) && !same(p))
    }

    /// `false`: it could not be written now.
    fn write_record(&self, record: &mut Record, cut: &Cut) -> Result<bool> {
        match &self.keeper {
            Keeper::None => {}
            Keeper::File => {
                record.sources = cut.positions.clone();
                if let Some(checkpoints) = &self.checkpoints {
                    checkpoints.write_record(record)?;
                }
            }
            Keeper::Database => {
                record.sources = cut.positions.clone();
                self.transactions.commit_with(record.generation, record.epoch, &text(record)?)?;
            }
            Keeper::Group(_) => {
                let offsets: Vec<_> = groups(&cut.offsets, Some(record))?.into_iter().flat_map(|(_, offsets)| offsets).collect();
                return cut.committer.as_ref().map_or(Ok(true), |c| c.commit(&offsets));
            }
            Keeper::Transaction { .. } => {
                let mut groups = groups(&cut.offsets, Some(record))?;
                if groups.is_empty()
                    && let Some(at) = self.transactions.anchor(record.epoch)?
                {
                    groups.push((default_group(&self.pipeline_name), vec![CommittedOffset { at, metadata: text(record)? }]));
                }
                self.transactions.commit(&groups)?;
            }
        }
        Ok(true)
    }

    fn commit_others(&mut self) -> Result<()> {
        std::mem::take(&mut self.others).into_iter().try_for_each(|commit| commit())
    }
}

/// As it is kept.
pub(super) fn text(record: &Record) -> Result<String> {
    serde_json::to_string(record).map_err(|e| Error::runtime(e.to_string()))
}

/// The offsets of groups, each with the record as its metadata if there is one.
///
/// Sources that read the same partition with the same group share an offset: the least counts, and the record says who was further.
fn groups(groups: &BTreeMap<String, Offsets>, record: Option<&Record>) -> Result<Vec<(String, Vec<CommittedOffset>)>> {
    let plain = record.map(text).transpose()?.unwrap_or_default();
    let commit = |((topic, partition), held): (&(String, i32), &Vec<(String, i64)>)| -> Result<CommittedOffset> {
        let offset = held.iter().map(|(_, o)| *o).min().unwrap_or_default();
        let metadata = match record {
            Some(record) if held.iter().any(|(_, o)| *o != offset) => {
                text(&Record { at: held.iter().cloned().collect(), ..record.clone() })?
            }
            _ => plain.clone(),
        };
        Ok(CommittedOffset { at: PartitionOffset { topic: topic.clone(), partition: *partition, offset }, metadata })
    };
    let with_offsets = |(name, shared): (&String, &Offsets)| Ok((name.clone(), shared.iter().map(commit).collect::<Result<Vec<_>>>()?));
    groups.iter().filter(|(_, shared)| !shared.is_empty()).map(with_offsets).collect()
}
