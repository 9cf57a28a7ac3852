//! Commits: outputs, positions and state become one durable step. What a commit is, and where its record stands, is in DESIGN.md.
//!
//! Tasks stop for a *cut* only: what has changed is copied, and where the sources stand. A thread makes the cut durable
//! ([`super::recorder`]) while they go on; what sinks are given meanwhile waits for it ([`sluice_connect::Sink::flush_later`]). One cut
//! is under way at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_batch::{Error, Result};
use sluice_connect::{ConsumerGroup, Later, OffsetCommitter};
use sluice_plan::Graph;
use sluice_state::SourceState;
use sluice_state::change::OperatorChanges;
use sluice_state::checkpoints::Stopped;

use super::recorder::Recorder;
use super::snapshot;
use super::stats::Stats;
use super::{Input, Part};

/// How long the last commit of a job waits for brokers that do not answer.
const LAST_COMMIT: Duration = Duration::from_secs(30);
/// Commits that take longer are spoken of, again and again: nothing that is written can be seen meanwhile.
const LONG_COMMIT: Duration = Duration::from_secs(10);

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
    /// A row of the database that the outputs go to, written in their transaction.
    Database,
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

/// Offsets of a group by topic and partition: of each source that reads it, by identity.
pub(super) type Offsets = BTreeMap<(String, i32), Vec<(String, i64)>>;

/// The job between two batches, as it is to become durable.
pub(super) struct Cut {
    /// By task. Empty if no state is kept.
    pub changes: Vec<Vec<OperatorChanges>>,
    pub positions: Vec<SourceState>,
    /// The offsets that the record consists of, by group.
    pub offsets: BTreeMap<String, Offsets>,
    /// Identities of the sources that the record keeps.
    pub kept: Vec<String>,
    /// Something was written into the transaction.
    pub dirty: bool,
    /// Waits for what the sinks have sent.
    pub flushes: Vec<Later>,
    /// Commits the record's offsets, if it stands in a group.
    pub committer: Option<Arc<dyn OffsetCommitter>>,
    /// Commits offsets that are no record, for those who look at lag.
    pub others: Vec<Later>,
    /// How long brokers that do not answer are asked again. `None`: the next commit makes up for it.
    pub until: Option<Instant>,
}

/// What commits a job.
pub struct Committer {
    /// `None` while a cut is under way.
    recorder: Option<Box<Recorder>>,
    running: Option<Running>,
    generation: u64,
}

struct Running {
    thread: JoinHandle<(Box<Recorder>, Result<()>)>,
    began: Instant,
    /// How long the tasks stood still. `None`: they wait for the end.
    pause: Option<Duration>,
    /// When it will be said that it takes long.
    speak: Instant,
}

/// The group of a job whose tables name none.
pub fn default_group(pipeline: &str) -> String {
    format!("sluice-{pipeline}")
}

impl Committer {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { generation: recorder.record.generation, recorder: Some(Box::new(recorder)), running: None }
    }

    /// Counts the starts of the job.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The job's state is kept: operators take note of what changes.
    pub fn keeps_state(&self) -> bool {
        self.recorder.as_ref().is_some_and(|r| r.checkpoints.is_some())
    }

    /// Whether the next commit may begin; takes note of one that is over.
    ///
    /// # Errors
    /// If the last one failed; the job then goes on from the one before.
    pub fn is_idle(&mut self, stats: &Stats) -> Result<bool> {
        match &mut self.running {
            Some(running) if !running.thread.is_finished() => {
                if Instant::now() >= running.speak {
                    running.speak += LONG_COMMIT;
                    tracing::warn!("a commit has been under way for {} s", running.began.elapsed().as_secs());
                }
                Ok(false)
            }
            _ => self.wait(stats).map(|()| true),
        }
    }

    /// Waits until no commit is under way.
    ///
    /// # Errors
    /// If it failed; the job then goes on from the one before.
    pub fn wait(&mut self, stats: &Stats) -> Result<()> {
        let Some(Running { thread, began, pause, .. }) = self.running.take() else { return Ok(()) };
        let (recorder, done) = thread.join().map_err(|_| Error::runtime("internal: the thread that commits panicked"))?;
        stats.add_commit(pause.unwrap_or_else(|| began.elapsed()), began.elapsed());
        if let Some(checkpoints) = &recorder.checkpoints {
            stats.set_checkpoint(checkpoints.bytes(), checkpoints.bytes_written());
        }
        self.recorder = Some(recorder);
        done
    }

    /// Begins to make everything durable that all parts of the job have read and written so far. `began`: when the tasks stopped for it;
    /// they may go on when this returns.
    ///
    /// # Errors
    /// If a sink or an operator fails, or the commit before did.
    pub fn begin(&mut self, graph: &Graph, parts: &mut [Part<'_>], stats: &Stats, began: Instant) -> Result<()> {
        self.start(graph, parts, stats, began, None)
    }

    /// The same, and waits for it: nothing follows, or what is committed is to be looked at.
    ///
    /// # Errors
    /// If the outside refuses; the job then goes on from the last commit.
    pub fn commit(&mut self, graph: &Graph, parts: &mut [Part<'_>], stats: &Stats, began: Instant) -> Result<()> {
        self.start(graph, parts, stats, began, Some(Instant::now() + LAST_COMMIT))?;
        self.wait(stats)
    }

    /// Commits that the job ends with a savepoint: a process that comes up in its place does not go on.
    ///
    /// # Errors
    /// As [`Committer::commit`].
    pub fn commit_stop(&mut self, graph: &Graph, parts: &mut [Part<'_>], stats: &Stats, stopped: Stopped) -> Result<()> {
        self.wait(stats)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.stopped = Some(stopped);
        }
        self.commit(graph, parts, stats, Instant::now())
    }

    fn start(&mut self, graph: &Graph, parts: &mut [Part<'_>], stats: &Stats, began: Instant, until: Option<Instant>) -> Result<()> {
        self.wait(stats)?;
        let recorder = self.recorder.as_deref().ok_or_else(|| Error::runtime("internal: the last commit failed"))?;
        let cut = cut(recorder, graph, parts, until)?;
        let Some(mut recorder) = self.recorder.take() else { return Ok(()) };
        let pause = until.is_none().then(|| began.elapsed());
        let run = move || {
            let done = recorder.run(cut);
            (recorder, done)
        };
        let thread = std::thread::Builder::new().name("commit".into()).spawn(run)?;
        self.running = Some(Running { thread, began, pause, speak: Instant::now() + LONG_COMMIT });
        Ok(())
    }

    /// The job has ended: background work, too.
    ///
    /// # Errors
    /// If a file cannot be deleted.
    pub fn close(mut self) -> Result<()> {
        self.recorder.take().map_or(Ok(()), |r| r.close())
    }
}

impl Drop for Committer {
    /// The next run of the job begins with what this one has committed: that must be over.
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running.thread.join());
        }
    }
}

/// Takes everything that a commit needs of the tasks.
fn cut(recorder: &Recorder, graph: &Graph, parts: &mut [Part<'_>], until: Option<Instant>) -> Result<Cut> {
    let began = Instant::now();
    inputs_mut(parts).try_for_each(|i| i.source.flush())?;
    let mut flushes = vec![];
    for part in parts.iter_mut() {
        part.pipeline.flush_later(&mut flushes)?;
    }
    let sinks = began.elapsed();
    let changes = match &recorder.checkpoints {
        Some(checkpoints) => parts.iter_mut().map(|p| p.pipeline.changes(graph, checkpoints.is_empty())).collect::<Result<_>>()?,
        None => vec![],
    };
    tracing::debug!("a commit begins: sinks drained in {sinks:?}, changes taken in {:?}", began.elapsed() - sinks);
    let keeper = recorder.keeper_of_offsets();
    let mut others = vec![];
    for input in inputs_mut(parts).filter(|i| !keeper.keeps(i)) {
        others.extend(input.source.commit()?);
    }
    let committer = match &keeper {
        Keeper::Group(group) => inputs(parts).find(|i| i.source.group().as_ref() == Some(group)).and_then(|i| i.source.offset_committer()),
        _ => None,
    };
    Ok(Cut {
        changes,
        positions: snapshot::sources(graph, parts),
        offsets: offsets(&keeper, parts),
        kept: inputs(parts).filter(|i| keeper.keeps(i)).map(|i| i.identity.clone()).collect(),
        // Nothing that can fail comes behind it: what is sealed is committed or given up.
        dirty: recorder.transactions.seal(),
        flushes,
        committer,
        others,
        until,
    })
}

fn offsets(keeper: &Keeper, parts: &[Part<'_>]) -> BTreeMap<String, Offsets> {
    let mut groups: BTreeMap<String, Offsets> = BTreeMap::new();
    for input in inputs(parts).filter(|i| keeper.keeps(i)) {
        let Some(group) = input.source.group() else { continue };
        let shared = groups.entry(group.name).or_default();
        for o in input.source.offsets() {
            shared.entry((o.topic, o.partition)).or_default().push((input.identity.clone(), o.offset));
        }
    }
    groups
}

/// The sources of all parts.
pub(super) fn inputs<'p>(parts: &'p [Part<'_>]) -> impl Iterator<Item = &'p Input> {
    parts.iter().flat_map(|p| p.inputs.iter())
}

pub(super) fn inputs_mut<'p>(parts: &'p mut [Part<'_>]) -> impl Iterator<Item = &'p mut Input> {
    parts.iter_mut().flat_map(|p| p.inputs.iter_mut())
}
