//! The operators and sinks of a job, wired: rows and watermarks go depth first from where they enter to the sinks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_batch::{Batch, Error, EvalContext, Millis, Result, WATERMARK_MAX, WATERMARK_NONE};
use sluice_connect::{Later, Sink, Transactions};
use sluice_operators::memory::{Memory, Share};
use sluice_operators::state::{DeltaWriter, SnapshotReader, SnapshotWriter};
use sluice_operators::{Item, Operator, Output};
use sluice_plan::{Graph, Node, NodeKind};
use sluice_sql::relation::Schema;
use sluice_state::change::OperatorChanges;
use sluice_state::{Layout, OperatorState, Tables};

use crate::task::exchange::{Message, Outlet};
use crate::task::stats::Stats;

/// Where the rows of a bare SELECT go.
pub trait Client: Send {
    /// Rows of the result with these columns.
    fn rows(&mut self, schema: &Schema, batch: &Batch, context: &EvalContext) -> Result<()>;

    /// Nothing follows for now.
    fn flush(&mut self, end: bool) -> Result<()>;
}

/// The client of tasks that have no rows for one.
pub struct NoClient;

impl Client for NoClient {
    fn rows(&mut self, _schema: &Schema, _batch: &Batch, _context: &EvalContext) -> Result<()> {
        Err(Error::runtime("internal: rows for the client outside of the first task"))
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        Ok(())
    }
}

/// So often a client shows its rows while more come.
const SHOW: Duration = Duration::from_millis(10);

/// A wired job.
pub struct Pipeline {
    stages: Vec<Stage>,
    context: EvalContext,
    client: Box<dyn Client>,
    /// When the client has shown its rows in the midst of others.
    shown: Option<Instant>,
    stats: Arc<Stats>,
    /// What goes from an operator to its consumers; kept to reuse the allocation.
    spare: Vec<Vec<Item>>,
    memory: Memory,
    /// State that can be in memory only.
    fixed: Share,
}

struct Stage {
    work: Work,
    /// Consumers: stage and which of its inputs.
    consumers: Vec<(usize, usize)>,
    inputs: Vec<InputTime>,
    /// What the stage itself has been told.
    watermark: Millis,
    /// What its consumers have been told.
    forwarded: Millis,
    idle: bool,
    wants_ticks: bool,
    /// Its state may go to disk.
    spills: bool,
}

enum Work {
    /// A source, VALUES or the receiving end of an exchange: rows come from outside.
    Entry,
    Operator(Box<dyn Operator>),
    Sink(Box<dyn Sink>),
    Client(Schema),
    /// The sending end of an exchange.
    Outlet(Box<Outlet>),
}

#[derive(Clone, Copy)]
struct InputTime {
    watermark: Millis,
    idle: bool,
    /// The input has no time of its own: it counts as idle for ever.
    ignored: bool,
    /// It has no more rows for now.
    exhausted: bool,
}

impl Stage {
    fn new(work: Work, inputs: usize) -> Self {
        let ignored = |port| matches!(&work, Work::Operator(o) if o.ignores_time(port));
        let input = |port| InputTime { watermark: WATERMARK_NONE, idle: ignored(port), ignored: ignored(port), exhausted: false };
        Self {
            inputs: (0..inputs.max(1)).map(input).collect(),
            wants_ticks: matches!(&work, Work::Operator(o) if o.wants_ticks()),
            spills: false,
            work,
            consumers: vec![],
            watermark: WATERMARK_NONE,
            forwarded: WATERMARK_NONE,
            idle: false,
        }
    }
}

/// A pipeline of nothing.
impl Default for Pipeline {
    fn default() -> Self {
        let memory = Memory::unlimited();
        Self {
            stages: vec![],
            context: EvalContext::default(),
            client: Box::new(NoClient),
            shown: None,
            stats: Arc::default(),
            spare: vec![],
            fixed: memory.share(),
            memory,
        }
    }
}

impl Pipeline {
    /// Makes the operators and opens the sinks, of those nodes only that run here.
    ///
    /// # Errors
    /// If an operator is not supported or a sink cannot be opened.
    pub fn open(
        graph: &Graph,
        context: EvalContext,
        client: Box<dyn Client>,
        stats: Arc<Stats>,
        transactions: &Transactions,
        runs: &dyn Fn(usize) -> bool,
    ) -> Result<Self> {
        let mut stages = Vec::with_capacity(graph.nodes.len());
        for (at, node) in graph.nodes.iter().enumerate() {
            let work = match &node.kind {
                _ if !runs(at) => Work::Entry,
                NodeKind::Source { .. } | NodeKind::Values { .. } => Work::Entry,
                NodeKind::Operator(spec) => Work::Operator(sluice_operators::spec::build(spec)?),
                NodeKind::Sink { table } => Work::Sink(sluice_connect::open_sink(table, context.time_zone, transactions)?),
                NodeKind::Client => Work::Client(node.schema.clone()),
            };
            stages.push(Stage::new(work, node.inputs.len()));
        }
        for (at, node) in graph.nodes.iter().enumerate() {
            for (port, input) in node.inputs.iter().enumerate() {
                stages[*input].consumers.push((at, port));
            }
        }
        Ok(Self { stages, context, client, stats, ..Self::default() })
    }

    /// How much memory the job's state may take. To be said before [`Pipeline::restore`].
    pub fn set_memory(&mut self, memory: &Memory) {
        (self.memory, self.fixed) = (memory.clone(), memory.share());
        for stage in &mut self.stages {
            if let Work::Operator(operator) = &mut stage.work {
                stage.spills = operator.spill(memory);
            }
        }
    }

    /// Puts an exchange into the edges from `from` to `to`: rows go to the outlet instead, if this task sends any, and come from a new
    /// entry, which is the answer.
    pub fn exchange(&mut self, from: usize, to: &[(usize, usize)], outlet: Option<Outlet>) -> usize {
        self.stages[from].consumers.retain(|c| !to.contains(c));
        if let Some(outlet) = outlet {
            let at = self.stages.len();
            self.stages[from].consumers.push((at, 0));
            self.stages.push(Stage::new(Work::Outlet(Box::new(outlet)), 1));
        }
        self.stages.push(Stage { consumers: to.to_vec(), ..Stage::new(Work::Entry, 0) });
        self.stages.len() - 1
    }

    /// The sending ends of exchanges.
    pub fn outlets(&mut self) -> impl Iterator<Item = &mut Outlet> {
        self.stages.iter_mut().filter_map(|s| if let Work::Outlet(outlet) = &mut s.work { Some(outlet.as_mut()) } else { None })
    }

    /// The operator of a node.
    pub fn operator(&self, node: usize) -> Option<&dyn Operator> {
        match &self.stages.get(node)?.work {
            Work::Operator(operator) => Some(operator.as_ref()),
            _ => None,
        }
    }

    /// Sends what is there before any source is read: VALUES, which end at once.
    ///
    /// `given`: by the identity of VALUES, whether their rows were given in an earlier run.
    pub fn start(&mut self, graph: &Graph, given: &dyn Fn(&str) -> bool) -> Result<()> {
        for (at, node) in graph.nodes.iter().enumerate() {
            if let NodeKind::Values { batch } = &node.kind {
                if !given(&node.properties.identity) {
                    self.rows(at, batch.clone())?;
                }
                self.end(at)?;
            }
        }
        Ok(())
    }

    /// The state of all operators that may have some.
    pub fn snapshot(&self, graph: &Graph) -> Result<Vec<OperatorState>> {
        let mut states = vec![];
        for (at, (stage, node)) in self.stages.iter().zip(&graph.nodes).enumerate() {
            let Work::Operator(operator) = &stage.work else { continue };
            let Some(layout) = sluice_plan::layout(graph, at) else { continue };
            states.push(state(operator.as_ref(), node, layout)?);
        }
        Ok(states)
    }

    /// What has changed in the state of each operator since the last call; of all that do not know, or if `whole`, everything.
    pub fn changes(&mut self, graph: &Graph, whole: bool) -> Result<Vec<OperatorChanges>> {
        let mut all = vec![];
        for (at, (stage, node)) in self.stages.iter_mut().zip(&graph.nodes).enumerate() {
            let Work::Operator(operator) = &mut stage.work else { continue };
            let Some(layout) = sluice_plan::layout(graph, at) else { continue };
            let mut writer = DeltaWriter::default();
            let name = operator.name();
            let knows = operator.delta(&mut writer).map_err(|e| e.context(format!("the state of {name}")))?;
            all.push(match knows && !whole {
                false => OperatorChanges { by_key: knows, ..OperatorChanges::all_of(state(operator.as_ref(), node, layout)?) },
                true => {
                    let (identity, kind) = (node.properties.identity.clone(), sluice_plan::name(&node.kind).to_owned());
                    OperatorChanges { identity, kind, layout, whole: false, by_key: true, tables: writer.into_tables() }
                }
            });
        }
        Ok(all)
    }

    /// From now on operators take note of what changes.
    pub fn track_changes(&mut self) {
        for stage in &mut self.stages {
            if let Work::Operator(operator) = &mut stage.work {
                operator.track_changes();
            }
        }
    }

    /// The watermark that an entry was last given, and whether it is idle.
    pub fn told(&self, entry: usize) -> (Millis, bool) {
        self.stages.get(entry).map_or((WATERMARK_NONE, false), |s| (s.forwarded, s.idle))
    }

    /// Gives operators their state, by identity.
    pub fn restore(&mut self, graph: &Graph, states: &BTreeMap<&str, &Tables>) -> Result<()> {
        for (stage, node) in self.stages.iter_mut().zip(&graph.nodes) {
            let (Work::Operator(operator), Some(tables)) = (&mut stage.work, states.get(node.properties.identity.as_str())) else {
                continue;
            };
            let name = operator.name();
            let mut reader = SnapshotReader::new(tables, &self.context);
            operator.restore(&mut reader).map_err(|e| e.context(format!("restoring the state of {name}")))?;
        }
        Ok(())
    }

    /// Whether the operator of a node takes its state in parts, if that is of this layout.
    pub fn takes_parts(&self, graph: &Graph, node: usize, layout: &Layout) -> bool {
        self.operator(node).is_some_and(|o| o.restores_in_parts()) && sluice_plan::layout(graph, node).as_ref() == Some(layout)
    }

    /// Gives an operator some rows of its state.
    pub fn restore_part(&mut self, node: usize, tables: &Tables) -> Result<()> {
        let Some(Work::Operator(operator)) = self.stages.get_mut(node).map(|s| &mut s.work) else { return Ok(()) };
        let mut reader = SnapshotReader::new(tables, &self.context);
        operator.restore(&mut reader).map_err(|e| e.context(format!("restoring the state of {}", operator.name())))
    }

    pub fn set_now(&mut self, now: Millis) {
        self.context.now = now;
    }

    /// Rows of an entry.
    pub fn rows(&mut self, entry: usize, batch: Batch) -> Result<()> {
        self.stages[entry].idle = false;
        self.send(entry, batch)
    }

    /// The watermark of an entry.
    pub fn watermark(&mut self, entry: usize, watermark: Millis) -> Result<()> {
        self.stages[entry].idle = false;
        self.forward(entry, watermark)
    }

    /// An entry gives nothing for now, so others need not wait for its time.
    pub fn idle(&mut self, entry: usize) -> Result<()> {
        self.stages[entry].idle = true;
        self.forward_idle(entry)
    }

    /// An entry has no more rows for now; its time is not over.
    pub fn exhausted(&mut self, entry: usize) -> Result<()> {
        for (at, port) in self.stages[entry].consumers.clone() {
            if std::mem::replace(&mut self.stages[at].inputs[port].exhausted, true) {
                continue;
            }
            if let Work::Outlet(outlet) = &mut self.stages[at].work {
                outlet.tell(&Message::Exhausted);
            }
            self.call(at, |op, out| op.end_of_rows(port, out))?;
            if self.stages[at].inputs.iter().all(|i| i.exhausted) {
                self.exhausted(at)?;
            }
        }
        Ok(())
    }

    /// An entry has given its last row, and its time is over.
    pub fn end(&mut self, entry: usize) -> Result<()> {
        self.exhausted(entry)?;
        self.end_of_input(entry)?;
        self.watermark(entry, WATERMARK_MAX)
    }

    /// A stage has given its last row. That of an operator follows when its time has reached the end.
    fn end_of_input(&mut self, entry: usize) -> Result<()> {
        for (stage, port) in self.stages[entry].consumers.clone() {
            self.call(stage, |op, out| op.end_of_input(port, out))?;
        }
        Ok(())
    }

    /// Processing time for those that want it; sinks and the client get it always.
    pub fn tick(&mut self, now: Millis) -> Result<()> {
        let (mut late, mut bytes, mut matches) = (0, 0, 0);
        let (mut fixed, mut most) = (0, ("", 0));
        for at in 0..self.stages.len() {
            if self.stages[at].wants_ticks {
                self.call(at, |op, out| op.tick(now, out))?;
            }
            let spills = self.stages[at].spills;
            match &mut self.stages[at].work {
                Work::Sink(sink) => sink.tick(now)?,
                Work::Operator(op) => {
                    late += op.late_rows();
                    matches += op.matches();
                    if spills {
                        op.make_room()?;
                    }
                    let held = op.state_bytes();
                    bytes += held as u64;
                    if !spills {
                        fixed += held;
                        most = if held > most.1 { (op.name(), held) } else { most };
                    }
                }
                Work::Entry | Work::Client(_) | Work::Outlet(_) => {}
            }
        }
        self.fixed.set(fixed);
        self.memory.warn(most.0, most.1);
        self.stats.set_state(late, bytes, matches);
        Ok(())
    }

    /// The end of a round of polls: mini-batches go out.
    pub fn end_round(&mut self) -> Result<()> {
        for at in 0..self.stages.len() {
            self.call(at, |op, out| op.flush(out))?;
        }
        // A job that is never idle shows its rows, too.
        if self.shown.is_none_or(|at| at.elapsed() >= SHOW) {
            self.shown = Some(Instant::now());
            self.client.flush(false)?;
        }
        Ok(())
    }

    /// There is nothing to do for now: what has waited for a moment goes out.
    pub fn idle_moment(&mut self) -> Result<()> {
        for stage in &mut self.stages {
            if let Work::Sink(sink) = &mut stage.work {
                sink.release()?;
            }
        }
        self.client.flush(false)
    }

    /// Everything that is not waiting for time is with the sinks when this returns.
    pub fn settle(&mut self) -> Result<()> {
        self.settle_operators()?;
        self.client.flush(false)
    }

    /// As [`Pipeline::end_round`]; what is on its way outside comes back first.
    pub fn settle_operators(&mut self) -> Result<()> {
        for at in 0..self.stages.len() {
            self.call(at, |op, out| op.settle(out))?;
        }
        Ok(())
    }

    /// What the sinks were given is with the outside when all that this adds to `flushes` has been called.
    pub fn flush_later(&mut self, flushes: &mut Vec<Later>) -> Result<()> {
        for stage in &mut self.stages {
            if let Work::Sink(sink) = &mut stage.work {
                flushes.extend(sink.flush_later()?);
            }
        }
        Ok(())
    }

    /// Everything that is not waiting for time is with the outside when this returns.
    pub fn flush(&mut self, end: bool) -> Result<()> {
        self.settle_operators()?;
        for stage in &mut self.stages {
            if let Work::Sink(sink) = &mut stage.work {
                sink.flush(end)?;
            }
        }
        self.client.flush(end)
    }

    /// The job's end; `complete` if all input was read.
    pub fn finish(&mut self, complete: bool) -> Result<()> {
        if complete {
            self.tick(self.context.now)?;
        }
        self.flush(true)
    }

    /// Calls an operator and sends on what it gives. Answers whether the stage is an operator.
    fn call(&mut self, at: usize, f: impl FnOnce(&mut dyn Operator, &mut Output<'_>) -> Result<()>) -> Result<bool> {
        let stage = &mut self.stages[at];
        let Work::Operator(operator) = &mut stage.work else {
            return Ok(false);
        };
        let mut items = self.spare.pop().unwrap_or_default();
        self.context.watermark = stage.watermark;
        f(operator.as_mut(), &mut Output::new(&mut items, &self.context, stage.watermark))?;
        for item in items.drain(..) {
            match item {
                Item::Batch(batch) => self.send(at, batch)?,
                Item::Watermark(watermark) => self.forward(at, watermark)?,
            }
        }
        self.spare.push(items);
        Ok(true)
    }

    /// Sends rows of a stage to its consumers.
    fn send(&mut self, from: usize, batch: Batch) -> Result<()> {
        let consumers = self.stages[from].consumers.len();
        for c in 0..consumers {
            let (at, port) = self.stages[from].consumers[c];
            self.deliver(at, port, batch.clone())?;
        }
        Ok(())
    }

    fn deliver(&mut self, at: usize, port: usize, batch: Batch) -> Result<()> {
        if self.stages[at].inputs[port].ignored {
            let idle = self.stages[at].idle;
            self.call(at, |op, out| op.batch(port, batch, out))?;
            // Rows wake those who get them; time has not come with them.
            return if idle { self.forward_idle(at) } else { Ok(()) };
        }
        self.stages[at].inputs[port].idle = false;
        self.stages[at].idle = false;
        match &mut self.stages[at].work {
            Work::Entry => Ok(()),
            Work::Sink(sink) => {
                self.stats.add_out(batch.rows() as u64);
                sink.write(&batch)
            }
            Work::Client(schema) => {
                self.stats.add_out(batch.rows() as u64);
                self.client.rows(schema, &batch, &self.context)
            }
            Work::Outlet(outlet) => outlet.rows(batch),
            Work::Operator(_) => self.call(at, |op, out| op.batch(port, batch, out)).map(drop),
        }
    }

    /// Tells the consumers of a stage its watermark.
    fn forward(&mut self, from: usize, watermark: Millis) -> Result<()> {
        if watermark <= self.stages[from].forwarded {
            return Ok(());
        }
        self.stages[from].forwarded = watermark;
        for c in 0..self.stages[from].consumers.len() {
            let (at, port) = self.stages[from].consumers[c];
            let input = &mut self.stages[at].inputs[port];
            (input.watermark, input.idle) = (watermark, input.ignored);
            self.call(at, |op, out| op.input_watermark(port, watermark, out))?;
            self.advance(at)?;
        }
        Ok(())
    }

    fn forward_idle(&mut self, from: usize) -> Result<()> {
        for c in 0..self.stages[from].consumers.len() {
            let (at, port) = self.stages[from].consumers[c];
            self.stages[at].inputs[port].idle = true;
            if self.stages[at].inputs.iter().all(|i| i.idle) {
                if !self.stages[at].idle {
                    self.stages[at].idle = true;
                    if let Work::Outlet(outlet) = &mut self.stages[at].work {
                        outlet.tell(&Message::Idle);
                    }
                    self.forward_idle(at)?;
                }
            } else {
                self.advance(at)?;
            }
        }
        Ok(())
    }

    /// Moves a stage's time to the least of its inputs that are not idle.
    fn advance(&mut self, at: usize) -> Result<()> {
        let stage = &mut self.stages[at];
        stage.idle = false;
        let Some(now) = stage.inputs.iter().filter(|i| !i.idle).map(|i| i.watermark).min() else {
            return Ok(());
        };
        // An idle input has not ended: the end of the others is not the end of the stage.
        let ended = stage.inputs.iter().all(|i| i.watermark == WATERMARK_MAX);
        if now <= stage.watermark || (now == WATERMARK_MAX && !ended) {
            return Ok(());
        }
        stage.watermark = now;
        let forward = match &mut stage.work {
            Work::Operator(_) => {
                self.call(at, |op, out| op.watermark(now, out))?;
                match &self.stages[at].work {
                    Work::Operator(op) => op.output_watermark(now),
                    _ => now,
                }
            }
            Work::Sink(_) | Work::Client(_) => {
                self.stats.set_watermark(now);
                now
            }
            Work::Outlet(outlet) => {
                outlet.tell(&if now == WATERMARK_MAX { Message::End } else { Message::Watermark(now) });
                now
            }
            Work::Entry => now,
        };
        if now == WATERMARK_MAX {
            self.end_of_input(at)?;
        }
        self.forward(at, forward)
    }
}

/// All state of an operator.
fn state(operator: &dyn Operator, node: &Node, layout: Layout) -> Result<OperatorState> {
    let mut writer = SnapshotWriter::default();
    let name = operator.name();
    operator.snapshot(&mut writer).map_err(|e| e.context(format!("the state of {name}")))?;
    let kind = sluice_plan::name(&node.kind).to_owned();
    Ok(OperatorState { identity: node.properties.identity.clone(), kind, tables: writer.into_tables(), layout })
}
