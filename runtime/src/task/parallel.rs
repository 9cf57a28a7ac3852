//! A job over several tasks: one thread each with its own copy of the operators, rows exchanged by key ([`super::exchange`]), one commit
//! for all.
//!
//! For a commit all tasks stop reading, send barriers behind what they have sent, and work off what comes before the others' barriers.
//! Then nothing is on its way. Each task flushes and hands its pipeline and sources to the coordinator (the thread that called
//! [`run`]), which commits for all of them and gives them back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use sluice_batch::{Error, EvalContext, Millis, Result};
use sluice_connect::{Share, Transactions};
use sluice_operators::memory::Memory;
use sluice_operators::shard::SHARDS;
use sluice_plan::{Distributed, Distribution, Graph};

use super::clock::Clock;
use super::commit::Committer;
use super::exchange::{Inlet, Message, Network, Outlet, Time};
use super::pipeline::{Client, NoClient, Pipeline};
use super::requests::Request;
use super::stats::Stats;
use super::status::Status;
use super::{
    Ended, IDLE_POLL, Input, Job, JobOptions, Life, Part, TICK, commit_is_due, drain, handle, open_sources, recover, report, snapshot,
};

/// How long a task with exchanges waits for news before it asks its sources again.
const WAIT: Duration = Duration::from_millis(5);
/// Messages worked off before the sources are asked again.
const MESSAGES: usize = 64;

/// What a task hands over for a commit.
struct Held {
    pipeline: Pipeline,
    inputs: Vec<Input>,
}

enum Report {
    /// All sources, and with them all senders, have given all they have.
    Finished,
    /// At the commit's barrier.
    Aligned(Box<Held>),
    Failed(Error),
}

/// What the coordinator wants of the tasks.
#[derive(Default)]
struct Control {
    /// The number of the last barrier asked for.
    barrier: AtomicU64,
    /// It is the last one: the job ends there.
    last: AtomicBool,
    /// The end is that of all input.
    complete: AtomicBool,
    abort: AtomicBool,
    /// Sources end where they are, and so does time.
    drain: AtomicBool,
}

/// Runs a job in `options.parallelism` threads beside this one to its end.
///
/// # Errors
/// The first failure of a task; what was written before stays.
pub fn run(job: Job<'_>, client: Box<dyn Client>, transactions: &Transactions, life: &mut Life) -> Result<Ended> {
    let Job { graph, options, stop, stats, .. } = job;
    if options.parallelism > SHARDS as usize {
        return Err(Error::plan(format!("parallelism is at most {SHARDS}, not {}", options.parallelism)));
    }
    // Those of a run before this one that could not open everything.
    stats.end_parts();
    let distributed = sluice_plan::distribute(graph);
    for line in distributed.describe(graph) {
        tracing::info!("{line}");
    }
    let network = Arc::new(Network::new(options.parallelism, distributed.exchanges.len()));
    let control = Arc::new(Control::default());
    let (to_coordinator, reports) = channel();
    let mut client = Some(client);
    let memory = options.memory();
    let (mut tasks, mut resume) = (vec![], vec![]);
    for index in 0..options.parallelism {
        let (sender, resumed) = channel();
        resume.push(sender);
        let link = Link { network: network.clone(), control: control.clone(), reports: to_coordinator.clone(), resumed };
        let client = client.take().unwrap_or_else(|| Box::new(NoClient));
        let mut task = Task::open(job, &distributed, index, client, transactions, link)?;
        task.pipeline.set_memory(&memory);
        tasks.push(task);
    }
    let Some(committer) = restore(graph, &distributed, options, &mut tasks, transactions, &stats.status)? else {
        return Ok(Ended::Stopped);
    };
    life.generation = committer.generation();
    let started = *life.started.get_or_insert_with(Instant::now);
    stats.set_opening(false);
    let result = std::thread::scope(|scope| {
        let spawned = tasks.into_iter().try_for_each(|task| spawn(scope, task, to_coordinator.clone()));
        let coordinator = Coordinator { job, network: &network, control: &control, reports: &reports, resume, committer, memory };
        let result = spawned.and_then(|()| coordinator.run(stop, started));
        control.abort.store(true, Ordering::Relaxed);
        (0..network.tasks()).for_each(|t| network.notify(t));
        result
    });
    stats.end_parts();
    result
}

/// Runs a task in a thread of its own, which reports how it failed.
fn spawn<'s>(scope: &'s Scope<'s, '_>, task: Task<'s>, reports: Sender<(usize, Report)>) -> Result<()> {
    let index = task.index;
    let run = move || {
        let result = catch_unwind(AssertUnwindSafe(|| task.run()));
        let failed = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::runtime(format!("task {index} panicked")),
        };
        // The coordinator is gone only if it has failed itself.
        let _ = reports.send((index, Report::Failed(failed)));
    };
    Builder::new().name(format!("task-{index}")).spawn_scoped(scope, run)?;
    Ok(())
}

struct Coordinator<'a> {
    job: Job<'a>,
    network: &'a Network,
    control: &'a Control,
    reports: &'a Receiver<(usize, Report)>,
    /// Gives tasks their parts back. Dropped when the coordinator ends, and so the tasks do.
    resume: Vec<Sender<Box<Held>>>,
    committer: Committer,
    memory: Memory,
}

impl Coordinator<'_> {
    fn run(mut self, stop: &AtomicBool, started: Instant) -> Result<Ended> {
        let tasks = self.resume.len();
        let (mut committed, mut began) = (Instant::now(), Instant::now());
        let mut finished = vec![false; tasks];
        let mut parts: Vec<Option<Box<Held>>> = (0..tasks).map(|_| None).collect();
        let mut ended = None;
        let mut committing = false;
        let mut request: Option<Request> = None;
        loop {
            match self.reports.recv_timeout(IDLE_POLL) {
                Ok((task, Report::Finished)) => finished[task] = true,
                Ok((task, Report::Aligned(part))) => parts[task] = Some(part),
                Ok((_, Report::Failed(error))) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::runtime("internal: all tasks are gone")),
            }
            if committing {
                if parts.iter().any(Option::is_none) {
                    continue;
                }
                let mut all: Vec<Box<Held>> = parts.iter_mut().filter_map(Option::take).collect();
                if let Some(ended) = ended {
                    self.end(&mut all, began, request)?;
                    return Ok(ended);
                }
                match request.is_some() {
                    // A savepoint is of what is committed.
                    true => self.committer.commit(self.job.graph, &mut parts_of(&mut all), self.job.stats, began)?,
                    false => self.committer.begin(self.job.graph, &mut parts_of(&mut all), self.job.stats, began)?,
                }
                if let Some(request) = request.take_if(|r| !r.wish.drain)
                    && request.serve(&self.job, &mut parts_of(&mut all), &mut self.committer)?
                {
                    all.iter_mut().try_for_each(|h| h.pipeline.finish(false))?;
                    self.end(&mut all, began, None)?;
                    return Ok(Ended::Stopped);
                }
                for (part, resume) in all.into_iter().zip(&self.resume) {
                    // A task that is gone has reported why.
                    let _ = resume.send(part);
                }
                (committing, committed) = (false, Instant::now());
            } else if finished.iter().all(|f| *f) {
                ended = Some(Ended::Finished);
            } else if stop.load(Ordering::Relaxed) || self.job.options.duration.is_some_and(|d| started.elapsed() >= d) {
                ended = Some(Ended::Stopped);
            }
            if !committing && ended.is_none() && request.is_none() {
                request = self.job.options.requests.next();
                if request.as_ref().is_some_and(|r| r.wish.drain) {
                    self.control.drain.store(true, Ordering::Relaxed);
                    (0..tasks).for_each(|t| self.network.notify(t));
                }
            }
            let wanted = request.as_ref().is_some_and(|r| !r.wish.drain);
            let due = ended.is_some() || wanted || commit_is_due(committed, self.job.options, &self.memory);
            if self.committer.is_idle(self.job.stats)? && !committing && due {
                (committing, began) = (true, Instant::now());
                self.ask(ended);
            }
        }
    }

    /// Asks for a barrier.
    fn ask(&self, ended: Option<Ended>) {
        let to_the_end = self.job.options.savepoint_at_end.is_none() || self.control.drain.load(Ordering::Relaxed);
        let complete = ended == Some(Ended::Finished) && to_the_end;
        self.control.complete.store(complete, Ordering::Relaxed);
        self.control.last.store(ended.is_some(), Ordering::Relaxed);
        self.control.barrier.fetch_add(1, Ordering::Release);
        (0..self.network.tasks()).for_each(|t| self.network.notify(t));
    }

    /// The last commit, and the savepoints.
    fn end(self, held: &mut [Box<Held>], began: Instant, request: Option<Request>) -> Result<()> {
        let mut parts = parts_of(held);
        let mut committer = self.committer;
        committer.commit(self.job.graph, &mut parts, self.job.stats, began)?;
        if let Some(request) = request {
            request.serve(&self.job, &mut parts, &mut committer)?;
        }
        if let Some(directory) = &self.job.options.savepoint_at_end {
            snapshot::write(
                &snapshot::take(self.job.graph, &parts, &self.job.options.sql)?,
                self.job.graph,
                directory,
                &self.job.options.storage,
            )?;
        }
        committer.close()
    }
}

fn parts_of(held: &mut [Box<Held>]) -> Vec<Part<'_>> {
    held.iter_mut().map(|h| h.as_mut()).map(|h| Part { pipeline: &mut h.pipeline, inputs: &mut h.inputs }).collect()
}

/// Gives each task its share of what the job goes on from. `None`: it was stopped.
fn restore(
    graph: &Graph,
    distributed: &Distributed,
    options: &JobOptions,
    tasks: &mut [Task<'_>],
    transactions: &Transactions,
    status: &Status,
) -> Result<Option<Committer>> {
    let mut parts: Vec<_> = tasks.iter_mut().map(|t| Part { pipeline: &mut t.pipeline, inputs: &mut t.inputs }).collect();
    let Some((committer, restored)) = recover::find(graph, options, &mut parts, transactions, status)? else { return Ok(None) };
    snapshot::give_back(graph, Some(distributed), &mut parts, &restored)?;
    for (index, part) in parts.iter_mut().enumerate() {
        // Before any rows, whichever thread runs first: else it would be chance what is late.
        for input in part.inputs.iter().filter(|i| !i.source.has_splits()) {
            part.pipeline.idle(input.node)?;
        }
        if committer.keeps_state() {
            part.pipeline.track_changes();
        }
        part.pipeline.start(graph, &|identity| index > 0 || snapshot::has_values(restored.state.as_ref(), identity))?;
    }
    Ok(Some(committer))
}

/// How a task speaks with the others.
struct Link {
    network: Arc<Network>,
    control: Arc<Control>,
    reports: Sender<(usize, Report)>,
    resumed: Receiver<Box<Held>>,
}

/// The receiving end of an exchange in a task.
struct Receiving {
    entry: usize,
    inlet: Inlet,
    /// Exchanges that its rows may go to.
    reaches: Vec<usize>,
}

/// A barrier on its way through a task.
struct Passing {
    last: bool,
    complete: bool,
    /// By exchange: whether this task has sent its barrier.
    sent: Vec<bool>,
}

struct Task<'a> {
    index: usize,
    link: Link,
    clock: &'a dyn Clock,
    stats: Arc<Stats>,
    pipeline: Pipeline,
    inputs: Vec<Input>,
    /// By source node: exchanges that its rows may go to.
    reached: Vec<Vec<usize>>,
    /// By exchange; `None`: this task gets nothing from it.
    receiving: Vec<Option<Receiving>>,
    /// By exchange, whether this task sends.
    sends: Vec<bool>,
    /// By exchange: what does not fit into the receivers' queues waits here.
    clear: Vec<bool>,
    end_time: bool,
    barriers: u64,
    passing: Option<Passing>,
    reported: bool,
    ticked: Millis,
}

impl<'a> Task<'a> {
    fn open(
        job: Job<'a>,
        distributed: &Distributed,
        index: usize,
        client: Box<dyn Client>,
        transactions: &Transactions,
        link: Link,
    ) -> Result<Self> {
        let (Job { graph, options, clock, .. }, stats) = (job, job.stats.part());
        let context = EvalContext { time_zone: options.time_zone, now: clock.now(), ..EvalContext::default() };
        let runs = |node: usize| index == 0 || !distributed.single[node];
        let mut pipeline = Pipeline::open(graph, context, client, stats.clone(), transactions, &runs)?;
        let tasks = options.parallelism;
        let (receiving, sends) = connect(graph, distributed, &mut pipeline, index, tasks, &link.network)?;
        let inputs = open_sources(graph, Share { task: index, tasks }, recover::group(graph, options, transactions), &mut pipeline)?;
        Ok(Self {
            index,
            link,
            clock,
            stats,
            pipeline,
            inputs,
            reached: (0..graph.nodes.len()).map(|n| reached(graph, distributed, &[n])).collect(),
            clear: vec![true; sends.len()],
            receiving,
            sends,
            end_time: options.savepoint_at_end.is_none(),
            barriers: 0,
            passing: None,
            reported: false,
            ticked: 0,
        })
    }

    fn run(mut self) -> Result<()> {
        while !self.link.control.abort.load(Ordering::Relaxed) {
            let seen = self.link.network.news(self.index);
            let now = self.clock.now();
            self.pipeline.set_now(now);
            if self.link.control.drain.load(Ordering::Relaxed) && self.passing.is_none() {
                self.end_time = true;
                self.inputs.iter_mut().filter(|i| !i.ended).try_for_each(|i| drain(i, &mut self.pipeline))?;
            }
            self.flush();
            let mut busy = self.receive()?;
            if self.begin_barrier() {
                if self.pass_barrier(now)? {
                    match self.hand_over()? {
                        true => continue,
                        false => return Ok(()),
                    }
                }
            } else {
                busy |= self.poll(now)?;
                self.pipeline.end_round()?;
                if now - self.ticked >= TICK {
                    self.ticked = now;
                    self.pipeline.tick(now)?;
                    report(&self.inputs, &self.stats);
                }
            }
            self.report_end();
            if !busy {
                self.flush();
                self.pipeline.idle_moment()?;
                self.link.network.wait(self.index, seen, if self.inputs.iter().all(|i| i.ended) { IDLE_POLL } else { WAIT });
            }
        }
        Ok(())
    }

    /// Sends what has waited.
    fn flush(&mut self) {
        for outlet in self.pipeline.outlets() {
            self.clear[outlet.exchange()] = outlet.flush();
        }
    }

    /// Works off messages that lead nowhere where something waits already.
    fn receive(&mut self) -> Result<bool> {
        for count in 0..MESSAGES {
            let (receiving, clear) = (&self.receiving, &self.clear);
            let wanted = |e: usize| receiving[e].as_ref().is_some_and(|r| r.reaches.iter().all(|to| clear[*to]));
            let Some((exchange, from, message)) = self.link.network.pop(self.index, wanted) else { return Ok(count > 0) };
            let Some(receiving) = &mut self.receiving[exchange] else { continue };
            let entry = receiving.entry;
            match message {
                Message::Rows(batch) => {
                    receiving.inlet.woken(from);
                    self.pipeline.rows(entry, batch)?;
                }
                Message::Exhausted => {
                    if receiving.inlet.exhausted(from) {
                        self.pipeline.exhausted(entry)?;
                    }
                }
                other => match receiving.inlet.time(from, &other) {
                    Time::Same => continue,
                    Time::Watermark(watermark) => self.pipeline.watermark(entry, watermark)?,
                    Time::Idle => self.pipeline.idle(entry)?,
                    Time::End => self.pipeline.end(entry)?,
                },
            }
            self.flush();
        }
        Ok(true)
    }

    /// Asks each source once whose rows have somewhere to go. Waits in a source if there is nothing else to wait for.
    fn poll(&mut self, now: Millis) -> Result<bool> {
        let alone = self.inputs.iter().filter(|i| !i.ended).count() == 1 && self.receiving.iter().all(Option::is_none);
        let wait = if alone { IDLE_POLL } else { Duration::ZERO };
        let mut busy = false;
        // As with one task, right sides of joins come first.
        for input in self.inputs.iter_mut().rev().filter(|i| !i.ended) {
            if self.reached[input.node].iter().all(|e| self.clear[*e]) {
                busy |= handle(input, &mut self.pipeline, wait, now, self.end_time, &self.stats)?;
                for outlet in self.pipeline.outlets() {
                    self.clear[outlet.exchange()] = outlet.is_clear();
                }
            }
        }
        Ok(busy)
    }

    /// Whether a barrier is on its way.
    fn begin_barrier(&mut self) -> bool {
        let control = &self.link.control;
        if self.passing.is_none() && control.barrier.load(Ordering::Acquire) > self.barriers {
            self.barriers += 1;
            self.passing = Some(Passing {
                last: control.last.load(Ordering::Relaxed),
                complete: control.complete.load(Ordering::Relaxed),
                sent: self.sends.iter().map(|sends| !sends).collect(),
            });
        }
        self.passing.is_some()
    }

    /// Sends the barrier on where all that leads there has come to it. Answers whether the whole task is there.
    fn pass_barrier(&mut self, now: Millis) -> Result<bool> {
        let Some(mut passing) = self.passing.take() else { return Ok(false) };
        for exchange in 0..passing.sent.len() {
            let before = |r: &Receiving| r.reaches.contains(&exchange) && !r.inlet.at_barrier();
            if passing.sent[exchange] || self.receiving.iter().flatten().any(before) {
                continue;
            }
            if passing.complete {
                self.pipeline.tick(now)?;
            }
            self.pipeline.settle_operators()?;
            self.pipeline.outlets().filter(|o| o.exchange() == exchange).for_each(|o| o.tell(&Message::Barrier));
            passing.sent[exchange] = true;
        }
        self.flush();
        let here = passing.sent.iter().all(|s| *s) && self.clear.iter().all(|c| *c);
        let there = here && self.receiving.iter().flatten().all(|r| r.inlet.at_barrier());
        if there {
            match passing.last {
                true => self.pipeline.finish(passing.complete)?,
                false => self.pipeline.settle()?,
            }
        }
        self.passing = Some(passing);
        Ok(there)
    }

    /// Leaves everything to the coordinator until the commit is over; `false`: the job has ended.
    fn hand_over(&mut self) -> Result<bool> {
        report(&self.inputs, &self.stats);
        let held = Held { pipeline: std::mem::take(&mut self.pipeline), inputs: std::mem::take(&mut self.inputs) };
        if self.link.reports.send((self.index, Report::Aligned(Box::new(held)))).is_err() {
            return Ok(false);
        }
        let Ok(part) = self.link.resumed.recv() else { return Ok(false) };
        (self.pipeline, self.inputs) = (part.pipeline, part.inputs);
        self.passing = None;
        self.receiving.iter_mut().flatten().for_each(|r| r.inlet.pass_barrier());
        Ok(true)
    }

    fn report_end(&mut self) {
        let senders = !self.end_time || self.receiving.iter().flatten().all(|r| r.inlet.ended());
        if !self.reported && senders && self.inputs.iter().all(|i| i.ended) && self.clear.iter().all(|c| *c) {
            self.reported = true;
            // If the coordinator is gone the task is about to be told so.
            let _ = self.link.reports.send((self.index, Report::Finished));
        }
    }
}

/// Puts the exchanges into a task's pipeline. Answers, by exchange, the receiving ends and whether the task sends.
fn connect(
    graph: &Graph,
    distributed: &Distributed,
    pipeline: &mut Pipeline,
    index: usize,
    tasks: usize,
    network: &Arc<Network>,
) -> Result<(Vec<Option<Receiving>>, Vec<bool>)> {
    let (mut receiving, mut sends) = (vec![], vec![]);
    for (number, exchange) in distributed.exchanges.iter().enumerate() {
        let to_first = matches!(exchange.distribution, Distribution::Single | Distribution::Any);
        let single = distributed.single[exchange.from];
        let types: Vec<_> = graph.nodes[exchange.from].schema.iter().map(|c| c.ty.clone()).collect();
        let sending = index == 0 || !single;
        let outlet = sending.then(|| Outlet::new(network.clone(), number, index, &types, &exchange.distribution)).transpose()?;
        let entry = pipeline.exchange(exchange.from, &exchange.to, outlet);
        sends.push(sending);
        receiving.push((index == 0 || !to_first).then(|| Receiving {
            entry,
            inlet: Inlet::new(if single { 1 } else { tasks }),
            reaches: reached(graph, distributed, &exchange.to.iter().map(|(node, _)| *node).collect::<Vec<_>>()),
        }));
    }
    Ok((receiving, sends))
}

/// Exchanges that rows of some nodes come to without passing another one.
fn reached(graph: &Graph, distributed: &Distributed, from: &[usize]) -> Vec<usize> {
    let mut reached: Vec<bool> = vec![false; graph.nodes.len()];
    from.iter().for_each(|n| reached[*n] = true);
    for (at, node) in graph.nodes.iter().enumerate() {
        let cut = |from: usize, port: usize| distributed.exchanges.iter().any(|e| e.from == from && e.to.contains(&(at, port)));
        reached[at] |= node.inputs.iter().enumerate().any(|(port, input)| reached[*input] && !cut(*input, port));
    }
    let exchanges = distributed.exchanges.iter().enumerate();
    exchanges.filter(|(_, e)| reached[e.from]).map(|(number, _)| number).collect()
}
