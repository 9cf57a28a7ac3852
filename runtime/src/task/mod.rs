//! A task: one thread that polls sources and pushes what they give through the operators into the sinks.

pub mod clock;
mod commit;
mod exchange;
mod memory;
mod parallel;
pub mod pipeline;
mod recorder;
mod recover;
pub mod requests;
pub mod restart;
mod snapshot;
pub mod stats;
pub mod status;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sluice_batch::{ErrorKind, EvalContext, Result};
use sluice_connect::{Malformed, ScanRequest, Share, Source, SourceEvent, Transactions};
use sluice_operators::memory::Memory;
use sluice_plan::{Graph, NodeKind};
use sluice_state::storage;

use crate::savepoint::Adapted;
use crate::secrets::Secrets;
use crate::task::clock::Clock;
use crate::task::pipeline::{Client, NoClient, Pipeline};
use crate::task::requests::{Request, Requests};
use crate::task::restart::{Restarts, Strategy};
use crate::task::stats::Stats;
use crate::task::status::State;

/// How a job runs.
pub struct JobOptions {
    pub time_zone: chrono_tz::Tz,
    /// `execution.checkpointing.interval`: how often sinks are flushed and offsets committed.
    pub commit_interval: Duration,
    /// Stop after this long, as if asked to.
    pub duration: Option<Duration>,
    /// State to go on from. An error if it cannot be read, which matters only if there is no commit to go on from.
    pub restore: Option<Result<Adapted>>,
    /// State of the last commit that no operator takes is left behind.
    pub allow_non_restored: bool,
    /// Where a savepoint goes when the job ends; it then ends without the final watermark.
    pub savepoint_at_end: Option<String>,
    /// How object stores are reached.
    pub storage: storage::Options,
    /// The job's text, for the savepoint's readers.
    pub sql: String,
    /// Savepoints that are asked for while the job runs.
    pub requests: Arc<Requests>,
    /// How many tasks share the work.
    pub parallelism: usize,
    /// `pipeline.name`
    pub name: String,
    /// `execution.checkpointing.dir`
    pub checkpoint_dir: Option<String>,
    /// Where `restore` was read; `None` if it is an empty state.
    pub restored_from: Option<String>,
    /// What tells this start from others: a job whose last commit began with another one begins anew, with `restore`.
    pub start: Option<String>,
    /// A start that ended with a savepoint does not go on when it is run again: someone else starts the job from there.
    pub stays_stopped: bool,
    /// Filled into the graph's tables; no message shows them.
    pub secrets: Secrets,
    pub restart: Strategy,
    /// `state.backend.memory`: bytes that state may take; `None`: no limit.
    pub memory: Option<usize>,
    /// `state.backend.local-dir`: where state goes that does not fit.
    pub local_dir: PathBuf,
}

impl JobOptions {
    /// The memory of the job's state, for one life of the job.
    fn memory(&self) -> Memory {
        self.memory.map_or_else(Memory::unlimited, |limit| Memory::new(limit, self.local_dir.clone()))
    }
}

/// A job to run, and what it runs with.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub graph: &'a Graph,
    pub options: &'a JobOptions,
    pub clock: &'a dyn Clock,
    /// Set from outside: the job is to end.
    pub stop: &'a AtomicBool,
    pub stats: &'a Arc<Stats>,
}

/// Why a job ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All sources gave all they had.
    Finished,
    /// It was asked to stop.
    Stopped,
}

/// One source of the job and whether it has more to give.
struct Input {
    node: usize,
    /// The node's identity.
    identity: String,
    source: Box<dyn Source>,
    ended: bool,
}

/// How long a poll waits when nothing else is to be done.
const IDLE_POLL: Duration = Duration::from_millis(20);
const TICK: i64 = 100;
/// Commits that make room in memory are not closer to each other.
const SOONEST_COMMIT: Duration = Duration::from_millis(50);

/// A task's share of the job.
struct Part<'a> {
    pipeline: &'a mut Pipeline,
    inputs: &'a mut Vec<Input>,
}

/// Runs a job to its end, on this thread if it is one task; after a failure again from its last commit, as its restart strategy says.
/// `client` takes the rows of a query.
///
/// # Errors
/// The first failure of a source, operator or sink that the strategy does not make up for; what was committed before stays.
pub fn run(job: Job<'_>, client: Box<dyn Client>) -> Result<Ended> {
    let Job { graph, options, stop, stats, .. } = job;
    let mut restarts = Restarts::new(options.restart.clone());
    let mut client = Some(client);
    let mut life = Life::default();
    loop {
        let client = client.take().unwrap_or_else(|| Box::new(NoClient));
        let ended = attempt(job, client, &mut life).map_err(|e| options.secrets.masked_error(e));
        let error = match ended {
            Err(error) if error.kind() == ErrorKind::Runtime && !stop.load(Ordering::Relaxed) => error,
            ended => return ended,
        };
        // Its rows have been seen: a query for a client cannot begin again.
        if graph.nodes.iter().any(|n| matches!(n.kind, NodeKind::Client)) {
            return Err(error);
        }
        let Some(wait) = restarts.next(&error, Instant::now(), rand::random()) else {
            return Err(if error.is_last() { error } else { restarts.give_up(error) });
        };
        match restarts.repeated() {
            1 => tracing::error!("{error}; the job goes on from its last commit in {wait:?}"),
            n => tracing::error!("{error}; it has come {n} times in a row: the job does not get beyond it, and tries again in {wait:?}"),
        }
        stats.add_restart(restarts.repeated());
        stats.status.failed(State::Restarting, error.to_string());
        let until = Instant::now() + wait;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(IDLE_POLL);
        }
    }
}

/// What a job remembers from one attempt to the next.
#[derive(Default)]
struct Life {
    /// When it first ran.
    started: Option<Instant>,
    /// Of its last attempt; 0: there was none.
    generation: u64,
}

/// From opening to the end or to the first failure.
fn attempt(job: Job<'_>, client: Box<dyn Client>, life: &mut Life) -> Result<Ended> {
    job.stats.set_opening(true);
    recover::check_not_replaced(job.graph, job.options, life.generation)?;
    let transactions = recover::open_transactions(job.graph, job.options)?;
    recover::check_not_replaced_in(&transactions, life.generation)?;
    let run = if job.options.parallelism > 1 { parallel::run } else { alone };
    run(job, client, &transactions, life).map_err(|e| transactions.explain(e))
}

/// One task.
fn alone(job: Job<'_>, client: Box<dyn Client>, transactions: &Transactions, life: &mut Life) -> Result<Ended> {
    let Job { graph, options, clock, stop, stats } = job;
    let context = EvalContext { time_zone: options.time_zone, now: clock.now(), ..EvalContext::default() };
    let mut pipeline = Pipeline::open(graph, context, client, stats.clone(), transactions, &|_| true)?;
    let memory = options.memory();
    pipeline.set_memory(&memory);
    let mut inputs = open_sources(graph, Share::ALL, recover::group(graph, options, transactions), &mut pipeline)?;
    let part = Part { pipeline: &mut pipeline, inputs: &mut inputs };
    let Some((mut committer, restored)) = recover::find(graph, options, &mut [part], transactions, &stats.status)? else {
        return Ok(Ended::Stopped);
    };
    life.generation = committer.generation();
    snapshot::give_back(graph, None, &mut [Part { pipeline: &mut pipeline, inputs: &mut inputs }], &restored)?;
    if committer.keeps_state() {
        pipeline.track_changes();
    }
    stats.set_opening(false);
    pipeline.start(graph, &|identity| snapshot::has_values(restored.state.as_ref(), identity))?;
    drop(restored);
    let mut end_time = options.savepoint_at_end.is_none();
    let mut draining: Option<Request> = None;
    let started = *life.started.get_or_insert_with(Instant::now);
    let (mut committed, mut ticked, mut trim) = (Instant::now(), 0, memory::Trim::default());
    let ended = loop {
        if stop.load(Ordering::Relaxed) || options.duration.is_some_and(|d| started.elapsed() >= d) {
            break Ended::Stopped;
        }
        let now = clock.now();
        pipeline.set_now(now);
        match options.requests.next() {
            None => {}
            Some(request) if request.wish.drain => {
                (draining, end_time) = (Some(request), true);
                inputs.iter_mut().try_for_each(|i| drain(i, &mut pipeline))?;
            }
            Some(request) => {
                committer.wait(stats)?;
                committed = Instant::now();
                pipeline.settle()?;
                let mut parts = [Part { pipeline: &mut pipeline, inputs: &mut inputs }];
                committer.commit(graph, &mut parts, stats, committed)?;
                if request.serve(&job, &mut parts, &mut committer)? {
                    break Ended::Stopped;
                }
            }
        }
        let busy = poll_round(&mut inputs, &mut pipeline, now, end_time, stats)?;
        if now - ticked >= TICK {
            ticked = now;
            pipeline.tick(now)?;
            report(&inputs, stats);
            trim.note(now, stats.rows_in());
        }
        if inputs.iter().all(|i| i.ended) {
            break Ended::Finished;
        }
        if !busy {
            pipeline.idle_moment()?;
        }
        if committer.is_idle(stats)? && commit_is_due(committed, options, &memory) {
            committed = Instant::now();
            pipeline.settle()?;
            let part = Part { pipeline: &mut pipeline, inputs: &mut inputs };
            committer.begin(graph, &mut [part], stats, committed)?;
        }
    };
    committer.wait(stats)?;
    let began = Instant::now();
    pipeline.finish(ended == Ended::Finished && end_time)?;
    committer.commit(graph, &mut [Part { pipeline: &mut pipeline, inputs: &mut inputs }], stats, began)?;
    let mut parts = [Part { pipeline: &mut pipeline, inputs: &mut inputs }];
    if let Some(request) = draining {
        request.serve(&job, &mut parts, &mut committer)?;
    }
    if let Some(directory) = &options.savepoint_at_end {
        snapshot::write(&snapshot::take(graph, &parts, &options.sql)?, graph, directory, &options.storage)?;
    }
    committer.close()?;
    report(&inputs, stats);
    Ok(ended)
}

/// Whether it is time for a commit, or memory is full of what has changed since the last one.
fn commit_is_due(committed: Instant, options: &JobOptions, memory: &Memory) -> bool {
    let elapsed = committed.elapsed();
    elapsed >= options.commit_interval || (elapsed >= SOONEST_COMMIT && memory.wants_commit())
}

/// Tells monitoring of the sources.
fn report(inputs: &[Input], stats: &Stats) {
    stats.set_splits(inputs.iter().flat_map(|i| i.source.splits()).collect());
    let add = |a: Malformed, b: Malformed| Malformed { skipped: a.skipped + b.skipped, dead_letters: a.dead_letters + b.dead_letters };
    stats.set_malformed(inputs.iter().map(|i| i.source.malformed()).fold(Malformed::default(), add));
}

/// Opens what a task reads of the sources; those that it has no share in end at once. `group`: of Kafka sources that name none.
fn open_sources(graph: &Graph, share: Share, group: Option<String>, pipeline: &mut Pipeline) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for (node, n) in graph.nodes.iter().enumerate() {
        let NodeKind::Source { table, request } = &n.kind else { continue };
        if sluice_connect::has_share(table, share)? {
            let request = ScanRequest { share, group: group.clone(), ..request.clone() };
            let source = sluice_connect::open_source(table, &request)?;
            inputs.push(Input { node, identity: n.properties.identity.clone(), source, ended: false });
        } else {
            pipeline.end(node)?;
        }
    }
    Ok(inputs)
}

/// Polls every source once; waits only if none had anything. Answers whether one had.
fn poll_round(inputs: &mut [Input], pipeline: &mut Pipeline, now: i64, end_time: bool, stats: &Stats) -> Result<bool> {
    let alone = inputs.iter().filter(|i| !i.ended).count() <= 1;
    let mut busy = false;
    // Right sides of joins come later in the plan: read first, their rows are there when left rows ask for them, and outer joins
    // take fewer rows back.
    for input in inputs.iter_mut().rev().filter(|i| !i.ended) {
        let wait = if alone { IDLE_POLL } else { Duration::ZERO };
        busy |= handle(input, pipeline, wait, now, end_time, stats)?;
    }
    if !busy && !alone {
        // Wait on one source so that an idle job with several does not spin.
        if let Some(input) = inputs.iter_mut().find(|i| !i.ended) {
            busy |= handle(input, pipeline, Duration::from_millis(5), now, end_time, stats)?;
        }
    }
    pipeline.end_round()?;
    Ok(busy)
}

/// `end_time`: an ended source ends time, too; not before a savepoint, after which its rows may go on.
fn handle(input: &mut Input, pipeline: &mut Pipeline, wait: Duration, now: i64, end_time: bool, stats: &Stats) -> Result<bool> {
    match input.source.poll(wait, now)? {
        SourceEvent::Rows(batch) => {
            stats.add_in(batch.rows() as u64);
            pipeline.rows(input.node, batch)?;
        }
        SourceEvent::Watermark(watermark) => pipeline.watermark(input.node, watermark)?,
        SourceEvent::Idle => pipeline.idle(input.node)?,
        SourceEvent::Pending => return Ok(false),
        SourceEvent::End => {
            input.ended = true;
            match end_time {
                true => pipeline.end(input.node)?,
                false => pipeline.exhausted(input.node)?,
            }
        }
    }
    Ok(true)
}

/// Ends a source where it is, and its time.
fn drain(input: &mut Input, pipeline: &mut Pipeline) -> Result<()> {
    input.ended = true;
    pipeline.end(input.node)
}
