//! The state files of a running job: a base and deltas upon it. A commit record names the newest; that names all before it.
//!
//! Whoever writes the record decides: a file that no record names, directly or through another, never was. Files are deleted only when
//! a record that no longer needs them is in place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use sluice_batch::{Error, Result, fail};

use crate::chain::{self, Chain};
use crate::change::{ChangeKind, OperatorChanges};
use crate::file::{self, Header};
use crate::savepoint::Saved;
use crate::storage::{Storage, Version};
use crate::{Layout, OperatorState, Rows, SourceState, Tables};

/// The file that is the commit record of jobs without Kafka.
pub(crate) const RECORD: &str = "commit.json";
/// The file that says that all commits of before are void; it is there until the next one.
pub(crate) const DELETED: &str = "deleted.json";
/// Deltas smaller than this are not worth a new base.
const SMALL: u64 = 1 << 20;
/// More files than this make a slow start.
const MOST_DELTAS: usize = 100;

/// What a commit says: the metadata of committed offsets, or `commit.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub pipeline: String,
    /// Counts the starts of the job.
    pub generation: u64,
    /// Counts the commits of the job.
    pub epoch: u64,
    /// The newest state file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The savepoint that the job once started from, by its path's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// The job was stopped with a savepoint: who runs it again under the name of the same start is told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// Positions, where the record is no committed offset itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceState>,
    /// Offsets of sources that share the partition and have not come equally far, by identity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub at: BTreeMap<String, i64>,
}

/// State was deleted.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Deleted {
    /// The first start since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

/// The savepoint that a job ended with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    pub savepoint: String,
    /// Time had ended before.
    #[serde(default)]
    pub drained: bool,
}

/// State as a record named it.
#[derive(Default)]
pub struct Loaded {
    /// Those whose rows are streamed are without them.
    pub operators: Vec<OperatorState>,
    pub sources: Vec<SourceState>,
    pub streamed: Option<Streamed>,
}

/// State that is not in memory: its rows are read when they are given to their operators, a part at a time.
pub enum Streamed {
    /// Of a commit.
    Chain(Chain, Vec<chain::Member>),
    Savepoint(Vec<Saved>),
}

impl Streamed {
    /// Calls `each` with all rows: an operator's identity, its table, a part of the rows.
    ///
    /// # Errors
    /// If a file cannot be read, or those of `each`.
    pub fn rows(&self, each: &mut dyn FnMut(&str, &str, Rows) -> Result<()>) -> Result<()> {
        let (chain, members) = match self {
            Self::Chain(chain, members) => (chain, members),
            Self::Savepoint(all) => return all.iter().try_for_each(|o| o.rows(&mut |table, rows| each(&o.identity, table, rows))),
        };
        for member in members {
            for table in &member.tables {
                chain.rows(member, table, &mut |rows| each(&member.identity, table, rows))?;
            }
        }
        Ok(())
    }
}

struct Member {
    name: String,
    bytes: u64,
}

struct Merge {
    /// How many of the oldest files it replaces.
    members: usize,
    thread: JoinHandle<Result<Member>>,
}

/// The state files of one job.
pub struct Checkpoints {
    storage: Arc<dyn Storage>,
    pipeline: String,
    generation: u64,
    /// Base and deltas, oldest first.
    chain: Vec<Member>,
    /// Operators that have rows in the chain.
    held: BTreeSet<String>,
    /// Files that the next record does not need.
    retired: Vec<String>,
    merge: Option<Merge>,
    /// A new base waits for a record that names it.
    rebased: bool,
    /// The folder holds files of a life that the next record ends.
    anew: bool,
    /// State was deleted, and no record has been written since.
    marked: bool,
    /// The record as this instance has last seen it.
    seen: Mutex<Option<Version>>,
    written: u64,
}

impl Checkpoints {
    pub fn new(storage: Arc<dyn Storage>, pipeline: &str) -> Self {
        Self {
            storage,
            pipeline: pipeline.to_owned(),
            generation: 0,
            chain: vec![],
            held: BTreeSet::new(),
            retired: vec![],
            merge: None,
            rebased: false,
            anew: false,
            marked: false,
            seen: Mutex::default(),
            written: 0,
        }
    }

    /// The record of a job without Kafka.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_record(&self) -> Result<Option<Record>> {
        let Some((bytes, version)) = self.storage.read_record(RECORD)? else { return Ok(None) };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
        let record = serde_json::from_slice(&bytes).map_err(|e| Error::runtime(format!("{}: {e}", self.storage.place(RECORD))))?;
        Ok(Some(record))
    }

    /// Commits a job without Kafka.
    ///
    /// # Errors
    /// If it cannot be written. If the record is not the one that was last read or written here, another instance of the job has taken
    /// over: that error is the last one.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let bytes = json(record)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(self.storage.replace(RECORD, &bytes, seen.as_ref())?);
        Ok(())
    }

    /// Takes over a job without Kafka: from now on no earlier instance can commit, and what it has written without committing may be
    /// deleted. `found` is the record that was read; until the first commit, one of epoch 0 stands for none.
    ///
    /// # Errors
    /// As [`Checkpoints::write_record`].
    pub fn take_over(&self, found: Option<&Record>, generation: u64) -> Result<()> {
        let found = found.cloned().unwrap_or_else(|| Record { pipeline: self.pipeline.clone(), ..Record::default() });
        self.write_record(&Record { generation, ..found })
    }

    /// Reads the state that a record names; without one, nothing. Files will be written as of `generation`. `streams` answers for an
    /// operator, by its identity and layout, whether it takes its rows a part at a time.
    ///
    /// # Errors
    /// If a file is missing or damaged, or if the folder holds committed state but there is no record.
    pub fn load(&mut self, record: Option<&Record>, generation: u64, streams: &dyn Fn(&str, &Layout) -> bool) -> Result<Loaded> {
        self.generation = generation;
        let sizes: BTreeMap<String, u64> = self.storage.list()?.into_iter().collect();
        let Some(record) = record else { return self.check_empty(&sizes).map(|()| Loaded::default()) };
        let Some(newest) = &record.snapshot else { return Ok(Loaded::default()) };
        let chain = Chain::open_newest(&self.storage, newest)?;
        let names = chain.names().map(str::to_owned);
        self.chain = names.map(|name| Member { bytes: sizes.get(&name).copied().unwrap_or(0), name }).collect();
        let (mut operators, mut members) = (vec![], vec![]);
        for member in chain.members() {
            let mut tables = Tables::new();
            let streamed = streams(&member.identity, &member.layout);
            for table in member.tables.iter().filter(|_| !streamed) {
                let mut all = Rows::default();
                chain.rows(&member, table, &mut |rows| {
                    all.append(rows);
                    Ok(())
                })?;
                if !all.is_empty() {
                    tables.insert(table.clone(), all);
                }
            }
            if streamed || !tables.is_empty() {
                let (identity, kind, layout) = (member.identity.clone(), member.kind.clone(), member.layout.clone());
                operators.push(OperatorState { identity, kind, layout, tables });
            }
            members.extend(streamed.then_some(member));
        }
        self.held = operators.iter().map(|o| o.identity.clone()).collect();
        let sources = chain.header().sources;
        let streamed = (!members.is_empty()).then_some(Streamed::Chain(chain, members));
        Ok(Loaded { operators, sources, streamed })
    }

    /// The first generation since somebody has deleted the state of this job ([`crate::wipe`]): records of earlier ones are void.
    /// `generation`: of this start; it is the one if no start was before it.
    ///
    /// # Errors
    /// If the mark cannot be read or written.
    pub fn deleted_before(&mut self, generation: u64) -> Result<Option<u64>> {
        let Some((bytes, version)) = self.storage.read_record(DELETED)? else { return Ok(None) };
        self.marked = true;
        let mark: Deleted = serde_json::from_slice(&bytes).map_err(|e| Error::runtime(format!("{}: {e}", self.storage.place(DELETED))))?;
        if mark.generation.is_some() {
            return Ok(mark.generation);
        }
        let mark = Deleted { generation: Some(generation) };
        self.storage.replace(DELETED, &json(&mark)?, Some(&version))?;
        Ok(mark.generation)
    }

    /// Begins without what is there, because a savepoint was chosen instead; it is deleted behind the first commit.
    ///
    /// # Errors
    /// If what an earlier start of the same generation has left, which no record names, cannot be deleted.
    pub fn start_over(&mut self, generation: u64) -> Result<()> {
        (self.generation, self.anew) = (generation, true);
        self.chain.clear();
        self.held.clear();
        let of = |name: &str| name.strip_suffix(".parquet")?.rsplit('-').next()?.parse::<u64>().ok();
        for (name, _) in self.storage.list()?.iter().filter(|(name, _)| of(name).is_some_and(|g| g >= generation)) {
            self.storage.delete(name)?;
        }
        Ok(())
    }

    /// Without a record nothing was ever committed: files of more than a first try say that the record was lost.
    fn check_empty(&self, files: &BTreeMap<String, u64>) -> Result<()> {
        let epoch = |name: &String| name.strip_prefix("delta-")?.split('-').next()?.parse::<u64>().ok();
        match files.keys().find(|name| epoch(name).is_some_and(|e| e > 2)) {
            None => Ok(()),
            Some(name) => Err(Error::runtime(format!(
                "{} is state of this job, but no commit record names it: the consumer group's offsets are gone",
                self.storage.place(name)
            ))
            .hint("remove the folder to start anew, or give the job the 'pipeline.name' and 'properties.group.id' that it had")),
        }
    }

    /// Deletes what the record in place does not name.
    ///
    /// # Errors
    /// If the folder cannot be read or a file not be deleted.
    pub fn clean(&self) -> Result<()> {
        for (name, _) in self.storage.list()? {
            if name != RECORD && name != DELETED && !self.chain.iter().any(|m| m.name == name) {
                self.storage.delete(&name)?;
            }
        }
        Ok(())
    }

    /// No state has been written yet: the first file must have all of it.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// A new base waits to be named, so a file must be written even without changes.
    ///
    /// # Errors
    /// If making the base failed.
    pub fn must_write(&mut self) -> Result<bool> {
        if self.merge.as_ref().is_some_and(|m| m.thread.is_finished())
            && let Some(merge) = self.merge.take()
        {
            let base = merge.thread.join().unwrap_or_else(|_| Err(Error::runtime("the thread that merges state files panicked")))?;
            let old = self.chain.splice(..merge.members, [base]);
            self.retired.extend(old.map(|m| m.name));
            self.rebased = true;
        }
        Ok(self.rebased)
    }

    /// Writes a state file; it is durable when this returns, but nothing before a record names it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, epoch: u64, changes: &[OperatorChanges], sources: &[SourceState]) -> Result<String> {
        let all: BTreeSet<String> = changes.iter().filter(|c| c.whole).map(|c| c.identity.clone()).collect();
        let whole = changes.len() == all.len() && self.held.is_subset(&all) && !(self.chain.len() > 1 && changes.is_empty());
        if whole {
            self.retired.extend(self.chain.drain(..).map(|m| m.name));
            // What a running merge makes is of no use any more; it is deleted at the next start at the latest.
            self.abandon_merge();
            self.held.clear();
        }
        self.held.extend(changes.iter().filter(|c| c.rows() > 0 || !c.whole).map(|c| c.identity.clone()));
        let header = Header {
            pipeline: self.pipeline.clone(),
            generation: self.generation,
            epoch,
            before: self.chain.iter().map(|m| m.name.clone()).collect(),
            sources: sources.to_vec(),
            ..Header::default()
        };
        let bytes = file::encode(header, changes)?;
        let name = name(if self.chain.is_empty() { "base" } else { "delta" }, epoch, self.generation);
        self.storage.create(&name, &bytes)?;
        self.chain.push(Member { name: name.clone(), bytes: bytes.len() as u64 });
        self.written += bytes.len() as u64;
        Ok(name)
    }

    /// Bytes of the files that the newest names, and itself.
    pub fn bytes(&self) -> u64 {
        self.chain.iter().map(|m| m.bytes).sum()
    }

    /// Bytes of all files written by commits since the start.
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    /// The newest state file.
    pub fn newest(&self) -> Option<&str> {
        self.chain.last().map(|m| m.name.as_str())
    }

    /// A record that names [`Checkpoints::newest`] is in place: what it does not need goes, and a new base is begun if it pays.
    ///
    /// # Errors
    /// If a file cannot be deleted.
    pub fn committed(&mut self) -> Result<()> {
        self.rebased = false;
        if std::mem::take(&mut self.anew) {
            self.clean()?;
        }
        if std::mem::take(&mut self.marked) {
            self.storage.delete(DELETED)?;
        }
        for name in std::mem::take(&mut self.retired) {
            self.storage.delete(&name)?;
        }
        self.merge_if_due()
    }

    fn merge_if_due(&mut self) -> Result<()> {
        let [base, deltas @ ..] = self.chain.as_slice() else { return Ok(()) };
        let bytes: u64 = deltas.iter().map(|d| d.bytes).sum();
        if self.merge.is_some() || deltas.len() < 2 || (bytes < base.bytes.max(SMALL) && deltas.len() < MOST_DELTAS) {
            return Ok(());
        }
        let names: Vec<String> = self.chain.iter().map(|m| m.name.clone()).collect();
        let (members, storage, pipeline, generation) = (names.len(), self.storage.clone(), self.pipeline.clone(), self.generation);
        let run = move || merge(&storage, &names, pipeline, generation);
        let thread = std::thread::Builder::new().name("state-merge".into()).spawn(run)?;
        self.merge = Some(Merge { members, thread });
        Ok(())
    }

    fn abandon_merge(&mut self) {
        if let Some(merge) = self.merge.take()
            && let Ok(Ok(base)) = merge.thread.join()
        {
            self.retired.push(base.name);
        }
    }

    /// Ends the background work. A base that was made but never named is deleted.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn close(mut self) -> Result<()> {
        self.retired.clear();
        self.abandon_merge();
        self.retired.iter().try_for_each(|name| self.storage.delete(name))
    }
}

pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::runtime(e.to_string()))
}

fn name(kind: &str, epoch: u64, generation: u64) -> String {
    format!("{kind}-{epoch:012}-{generation}.parquet")
}

/// One file instead of several: a table at a time, and of that a part at a time.
fn merge(storage: &Arc<dyn Storage>, names: &[String], pipeline: String, generation: u64) -> Result<Member> {
    let chain = Chain::open(storage, names)?;
    let members = chain.members();
    let operator = |m: &chain::Member| file::Operator {
        identity: m.identity.clone(),
        kind: m.kind.clone(),
        whole: true,
        sorted: chain.is_in_order(m),
        layout: m.layout.clone(),
    };
    let operators = members.iter().map(operator).collect();
    let header = Header { pipeline, generation, before: vec![], operators, ..chain.header() };
    let name = name("merged", header.epoch, generation);
    let mut writer = file::Writer::new(header, storage.writer(&name)?)?;
    for member in &members {
        for table in &member.tables {
            chain.rows(member, table, &mut |part| {
                writer.write(&member.identity, table, part.iter().map(|(key, value)| (ChangeKind::Put, key, value)))
            })?;
        }
    }
    writer.finish()?.finish()?;
    fail::point("base-merged");
    let bytes = storage.size(&name)?.unwrap_or_default();
    Ok(Member { name, bytes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::change::Changes;
    use crate::storage;

    fn changes(whole: bool, rows: Vec<(ChangeKind, u32)>, size: usize) -> Vec<OperatorChanges> {
        // Hardly compressible.
        let value =
            |k: u32| (0..size).map(|i| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(k.wrapping_mul(97)) >> 13) as u8).collect();
        let mut changes = Changes::default();
        rows.into_iter().for_each(|(kind, k)| {
            changes.push(kind, &k.to_be_bytes(), if kind == ChangeKind::Put { value(k) } else { vec![] }.as_slice());
        });
        vec![OperatorChanges {
            identity: "A-1".into(),
            kind: "A".into(),
            layout: Default::default(),
            whole,
            by_key: true,
            tables: [("t".to_owned(), changes)].into(),
        }]
    }

    fn keys(loaded: &Loaded) -> Vec<u32> {
        loaded.operators.iter().flat_map(|o| o.tables["t"].iter()).map(|(k, _)| u32::from_be_bytes(k.try_into().unwrap())).collect()
    }

    fn reopen(storage: &Arc<dyn Storage>, record: &Record) -> (Checkpoints, Loaded) {
        let mut c = Checkpoints::new(storage.clone(), "p");
        let loaded = c.load(Some(record), record.generation + 1, &|_, _| false).unwrap();
        let streamed = Checkpoints::new(storage.clone(), "p").load(Some(record), record.generation + 1, &|_, _| true).unwrap();
        assert!(streamed.operators.iter().all(|o| o.tables.is_empty()));
        let mut rows = Rows::default();
        streamed.streamed.iter().for_each(|s| {
            s.rows(&mut |_, _, part| {
                rows.append(part);
                Ok(())
            })
            .unwrap()
        });
        assert_eq!(rows, loaded.operators.iter().flat_map(|o| o.tables["t"].iter()).collect());
        c.clean().unwrap();
        (c, loaded)
    }

    #[test]
    fn deltas_go_upon_a_base_and_what_no_record_names_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage::open(&dir.path().display().to_string(), "p", &Default::default()).unwrap();
        let mut c = Checkpoints::new(storage.clone(), "p");
        assert!(c.load(None, 1, &|_, _| false).unwrap().operators.is_empty());
        let mut record = Record { generation: 1, ..Record::default() };
        c.write(1, &changes(true, vec![(ChangeKind::Put, 1), (ChangeKind::Put, 2)], 4), &[]).unwrap();
        c.committed().unwrap();
        record.snapshot = Some(c.write(2, &changes(false, vec![(ChangeKind::Delete, 1), (ChangeKind::Put, 3)], 4), &[]).unwrap());
        c.committed().unwrap();
        // Written, but the record was not.
        c.write(3, &changes(false, vec![(ChangeKind::Delete, 2)], 4), &[]).unwrap();
        assert_eq!(storage.list().unwrap().len(), 3);
        drop(c);
        let (mut c, loaded) = reopen(&storage, &record);
        assert_eq!(keys(&loaded), [2, 3]);
        assert_eq!(storage.list().unwrap().len(), 2);
        record.snapshot = Some(c.write(3, &changes(false, vec![(ChangeKind::Put, 9)], 4), &[]).unwrap());
        record.generation = 2;
        assert_eq!(keys(&reopen(&storage, &record).1), [2, 3, 9]);
        let lost = Checkpoints::new(storage.clone(), "p").load(None, 3, &|_, _| false).err().unwrap();
        assert!(lost.message().contains("no commit record"), "{lost}");
    }

    #[test]
    fn a_base_is_made_in_the_background() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage::open(&dir.path().display().to_string(), "p", &Default::default()).unwrap();
        let mut c = Checkpoints::new(storage.clone(), "p");
        c.load(None, 1, &|_, _| false).unwrap();
        let mut record = Record { generation: 1, ..Record::default() };
        for epoch in 1..200u32 {
            let forced = c.must_write().unwrap();
            let rows = (0..10).map(|i| (ChangeKind::Put, (epoch * 7 + i) % 500)).collect();
            record.snapshot = Some(c.write(u64::from(epoch), &changes(epoch == 1, rows, 2000), &[]).unwrap());
            assert!(!forced || c.chain.len() < 150);
            c.committed().unwrap();
            assert!(storage.list().unwrap().len() <= 1 + c.chain.len(), "old files are deleted when the next record is there");
            if epoch == 150 {
                while c.merge.as_ref().is_some_and(|m| !m.thread.is_finished()) {
                    std::thread::yield_now();
                }
            }
        }
        assert!(c.chain.len() < 199, "{}", c.chain.len());
        let held = c.chain.len();
        c.close().unwrap();
        assert_eq!(storage.list().unwrap().len(), held);
        let (_, loaded) = reopen(&storage, &record);
        assert_eq!(keys(&loaded), (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn only_one_instance_commits() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage::open(&dir.path().display().to_string(), "p", &Default::default()).unwrap();
        let start = || {
            let c = Checkpoints::new(storage.clone(), "p");
            let found = c.read_record().unwrap();
            let generation = found.as_ref().map_or(0, |r| r.generation) + 1;
            (c.take_over(found.as_ref(), generation), c, Record { generation, epoch: 1, ..Record::default() })
        };
        let (taken, first, mut record) = start();
        taken.unwrap();
        first.write_record(&record).unwrap();
        let (taken, second, of_second) = start();
        taken.unwrap();
        assert_eq!(of_second.generation, 2);
        record.epoch = 2;
        let error = first.write_record(&record).unwrap_err();
        assert!(error.is_last() && error.message().contains("another instance"), "{error}");
        second.write_record(&of_second).unwrap();
        second.write_record(&of_second).unwrap();
        assert_eq!(second.read_record().unwrap(), Some(of_second));
    }

    #[test]
    fn a_start_that_died_leaves_no_names() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage::open(&dir.path().display().to_string(), "p", &Default::default()).unwrap();
        for _ in 0..2 {
            let mut c = Checkpoints::new(storage.clone(), "p");
            c.start_over(3).unwrap();
            c.write(1, &changes(true, vec![(ChangeKind::Put, 1)], 4), &[]).unwrap();
        }
        assert_eq!(storage.list().unwrap().len(), 1);
    }

    #[test]
    fn operators_that_write_all_need_no_deltas() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage::open(&dir.path().display().to_string(), "p", &Default::default()).unwrap();
        let mut c = Checkpoints::new(storage.clone(), "p");
        c.load(None, 1, &|_, _| false).unwrap();
        let mut record = Record { generation: 1, ..Record::default() };
        for epoch in 1..4 {
            record.snapshot = Some(c.write(epoch, &changes(true, vec![(ChangeKind::Put, epoch as u32)], 4), &[]).unwrap());
            c.committed().unwrap();
            assert_eq!(storage.list().unwrap().len(), 1);
        }
        assert_eq!(keys(&reopen(&storage, &record).1), [3]);
    }
}
