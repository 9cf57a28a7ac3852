//! `--local`: an embedded broker and schema registry, the example's data generators, and the output topics printed.

mod console;
mod printer;
mod tables;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_batch::{Error, Result};
use sluice_broker::{Broker, Config};
use sluice_plan::{Graph, NodeKind};

use crate::generate::{Dataset, Target, produce};
use crate::script::{Script, Step};
use crate::task::stats::Stats;
use tables::Topics;

/// What a partition keeps: hours at the generators' rates.
const RETENTION: u64 = 32 << 20;
/// How often a thread looks whether it may begin or must end.
const PAUSE: Duration = Duration::from_millis(10);

/// What `--local` has started; ended by [`Local::stop`].
pub struct Local {
    broker: Broker,
    generators: Vec<JoinHandle<Result<()>>>,
    printer: Option<JoinHandle<Result<()>>>,
    /// For the generators.
    enough: Arc<AtomicBool>,
    /// For the printer, which ends after the job.
    finished: Arc<AtomicBool>,
}

impl Local {
    /// Starts broker, registry, generators and the printer of the output topics. `stop` ends the job; it is set if one of these
    /// fails, or if nobody reads the output any more.
    ///
    /// # Errors
    /// If a port cannot be bound or a generator is unknown.
    pub fn start(script: &Script, stats: Arc<Stats>, stop: Arc<AtomicBool>) -> Result<Self> {
        let topics = Topics::of(graphs(script));
        let datasets = datasets(script, &topics)?;
        let config = Config { retention_bytes: Some(RETENTION), ..Config::default() };
        let broker = Broker::start(config).map_err(|e| Error::runtime(e.to_string()))?;
        for topic in topics.read.iter().chain(topics.written.iter().map(|o| &o.topic)).map(String::as_str) {
            broker.create_topic(topic, 1).map_err(|e| Error::plan(e.to_string()))?;
        }
        for dataset in &datasets {
            broker.create_topic(dataset.topic(), 1).map_err(|e| Error::plan(e.to_string()))?;
        }
        let (enough, finished) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut generators = vec![];
        for dataset in datasets {
            let run = generator(dataset, &broker, stats.clone(), enough.clone());
            generators.push(spawn(&format!("generate-{}", dataset.name()), &stop, run)?);
        }
        let printer = match topics.written.is_empty() {
            true => None,
            false => {
                let printer = printer::Printer::new(&broker.bootstrap(), topics.written, stats)?;
                let finished = finished.clone();
                Some(spawn("printer", &stop, move || printer.run(&finished))?)
            }
        };
        Ok(Self { broker, generators, printer, enough, finished })
    }

    /// Points the connectors of a job at the embedded broker and registry.
    pub fn redirect(&self, graph: &mut Graph) {
        for node in &mut graph.nodes {
            if let NodeKind::Source { table, .. } | NodeKind::Sink { table } = &mut node.kind {
                tables::redirect(table, &self.broker.bootstrap(), &self.broker.registry_url());
            }
        }
    }

    /// Ends the generators, prints what is still to be printed, and stops broker and registry.
    ///
    /// # Errors
    /// The first failure of a generator or of the printer.
    pub fn stop(self) -> Result<()> {
        self.enough.store(true, Ordering::Relaxed);
        self.finished.store(true, Ordering::Relaxed);
        let mut result = Ok(());
        for thread in self.generators.into_iter().chain(self.printer) {
            let ended = thread.join().unwrap_or_else(|_| Err(Error::runtime("a thread of --local panicked")));
            result = result.and(ended);
        }
        result
    }
}

fn graphs(script: &Script) -> impl Iterator<Item = &Graph> {
    script.steps.iter().filter_map(|step| match step {
        Step::Job { graph, .. } => Some(graph.as_ref()),
        Step::Print(_) => None,
    })
}

/// The data sets that the deployment names; if it names none, those whose topics are read.
fn datasets(script: &Script, topics: &Topics) -> Result<Vec<Dataset>> {
    if script.generators.is_empty() {
        return Ok(Dataset::all().filter(|d| topics.read.iter().any(|t| t == d.topic())).collect());
    }
    let named = script.generators.iter().map(|name| {
        Dataset::parse(name).ok_or_else(|| {
            let names: Vec<_> = Dataset::all().map(|d| d.name()).collect();
            Error::plan(format!("the annotation '{}' names '{name}', which is no data set", crate::deployment::GENERATE_ANNOTATION))
                .hint(format!("data sets: {}", names.join(", ")))
        })
    });
    named.collect()
}

/// Starts a thread; when it ends, so does the job.
fn spawn(name: &str, stop: &Arc<AtomicBool>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Result<JoinHandle<Result<()>>> {
    let stop = stop.clone();
    let run = move || {
        let result = run();
        stop.store(true, Ordering::Relaxed);
        result
    };
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(run)?)
}

/// What a generator's thread does. It waits for the job, which may read only what comes after it has started.
fn generator(
    dataset: Dataset,
    broker: &Broker,
    stats: Arc<Stats>,
    enough: Arc<AtomicBool>,
) -> impl FnOnce() -> Result<()> + Send + 'static {
    let pace = dataset.pace();
    let target = Target {
        bootstrap_servers: broker.bootstrap(),
        schema_registry: Some(broker.registry_url()),
        topic: dataset.topic().to_owned(),
        rate: pace.rate,
        history: pace.history,
        count: None,
        seed: 1,
    };
    move || {
        while !stats.is_ready() {
            if enough.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        produce(dataset, &target, &enough).map(drop)
    }
}
