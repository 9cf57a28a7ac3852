//! `sluice run FILE`

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluice_batch::{Error, Result};
use sluice_plan::{Graph, NodeKind};
use sluice_sql::catalog::Catalog;
use sluice_state::{Savepoint, storage};

use super::{print, stop_on_signal};
use crate::cgroup;
use crate::client::{self, Format};
use crate::local::Local;
use crate::savepoint::{self, Adapted};
use crate::script::{self, Script, Step};
use crate::secrets::{self, Secrets};
use crate::server::{self, Server};
use crate::task::clock::SystemClock;
use crate::task::requests::{Periodic, Requests};
use crate::task::restart::Strategy;
use crate::task::stats::Stats;
use crate::task::status::State;
use crate::task::{self, Ended, Job, JobOptions};
use crate::tether;

/// How soon a process that lingers sees that it is to stop.
const LINGER_POLL: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sluice run examples/anomaly-detection/standalone-etl-anomaly.yaml --local
  sluice run job.sql --var KAFKA=localhost:9092 --http 127.0.0.1:8081
  sluice run query.sql --bounded --output changelog-json")]
pub struct Args {
    /// A SQL script, or YAML with a StreamingDeployment.
    file: PathBuf,
    #[command(flatten)]
    sql: script::Args,
    /// Start an embedded Kafka broker and schema registry and the example's data generator, and print the output topics.
    #[arg(long, conflicts_with = "bounded")]
    local: bool,
    /// End by itself after this long, e.g. 20s.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// How many tasks (threads) share the work, 64 at most; else what the deployment's `parallelism` or the setting
    /// 'parallelism.default' says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    parallelism: Option<u32>,
    /// Serve /livez, /readyz, /metrics, GET /api/v1/job, GET /api/v1/state and POST /savepoints here, e.g. 0.0.0.0:8080.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// How the rows of a SELECT are printed; a live table on a terminal and a changelog table elsewhere, if not said.
    #[arg(long, value_enum)]
    output: Option<Format>,
    /// When all input is read or the job is stopped, write a savepoint into this new directory; time does not end then, so no window
    /// fires because of it.
    /// A path, or s3://bucket/prefix.
    #[arg(long, value_name = "DIR")]
    savepoint_at_end: Option<String>,
    /// Go on from this savepoint: a path, or s3://bucket/prefix.
    #[arg(long, value_name = "DIR")]
    restore_from: Option<String>,
    /// Names this start. As long as the name is the same the job goes on from its last commit, whatever --restore-from says; under a new
    /// name it begins with the savepoint, or empty if none is named.
    #[arg(long, value_name = "NAME")]
    start: Option<String>,
    /// Where the files of {{secret:name/key}} in table options are: DIR/name/key.
    #[arg(long, value_name = "DIR", default_value = secrets::FOLDER)]
    secrets: PathBuf,
    /// Stay up when the job has ended, with its state on --http, until the process is asked to stop: for supervisors that start processes
    /// again that end.
    #[arg(long, requires = "http")]
    linger: bool,
    /// End with the session server that has started this process, see `sluice session`.
    #[arg(long, hide = true)]
    tethered: bool,
    /// Start even if the savepoint or the last commit holds state that no operator of the script takes.
    #[arg(long)]
    allow_non_restored_state: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    sluice_batch::duration::parse(text).map_err(|e| e.to_string())
}

/// Runs all jobs of the script, one behind the other.
///
/// # Errors
/// What is wrong with the script (plan error), or the first failure of a job.
pub fn run(args: Args) -> Result<()> {
    let script = script::load(&args.file, &args.sql)?;
    let jobs = script.steps.iter().filter(|s| matches!(s, Step::Job { .. })).count();
    if jobs != 1 && (args.savepoint_at_end.is_some() || args.restore_from.is_some() || args.start.is_some()) {
        return Err(Error::plan(format!("a savepoint is of one job, and the script has {jobs}"))
            .hint("put INSERTs into one statement set; leave SELECTs out"));
    }
    let mut names = BTreeSet::new();
    let access = storage_options(&script)?;
    if let Some(directory) = &args.savepoint_at_end {
        Savepoint::check_new(storage::at(directory, &access)?.as_ref())?;
    }
    let mut secrets = Secrets::default();
    let stats = Arc::new(Stats::default());
    let stop = stop_on_signal(stats.opening())?;
    if args.tethered {
        tether::hold(stop.clone(), stats.opening())?;
    }
    let requests = Arc::new(Requests::default());
    let server = args.http.map(|address| Server::start(address, server::of_job(stats.clone(), requests.clone()))).transpose()?;
    let local = args.local.then(|| Local::start(&script, stats.clone(), stop.clone())).transpose()?;
    let mut result = Ok(Ended::Finished);
    for step in script.steps {
        match step {
            Step::Print(text) => print(&text)?,
            Step::Job { mut graph, catalog } => {
                for warning in &graph.warnings {
                    tracing::warn!("{warning}");
                }
                if let Some(local) = &local {
                    local.redirect(&mut graph);
                }
                secrets.fill(&mut graph, &args.secrets)?;
                let options = JobOptions {
                    duration: args.duration,
                    restore: restore(&args, &graph, &access)?,
                    restored_from: args.restore_from.clone(),
                    start: args.start.clone().or_else(|| args.restore_from.clone()),
                    stays_stopped: args.linger,
                    secrets: secrets.clone(),
                    allow_non_restored: args.allow_non_restored_state,
                    savepoint_at_end: args.savepoint_at_end.clone(),
                    sql: script.sql.clone(),
                    requests: requests.clone(),
                    parallelism: parallelism(args.parallelism.or(script.parallelism), &catalog)?,
                    ..job_options(&graph, &catalog, &script.name, &mut names)?
                };
                // Its broker is gone with the process, and the commit records with it.
                let options = if local.is_some() { JobOptions { checkpoint_dir: None, ..options } } else { options };
                let client = client::new(args.output.unwrap_or_else(default_format), stop.clone());
                requests.begin(&options.storage, savepoint::manifest_of(&graph, &options.sql));
                let periodic = Periodic::start(&catalog, &requests)?;
                stats.status.begin(&options.name);
                let job = Job { graph: &graph, options: &options, clock: &SystemClock, stop: &stop, stats: &stats };
                result = task::run(job, client);
                drop(periodic);
                match &result {
                    Ok(Ended::Finished) => {}
                    Ok(Ended::Stopped) | Err(_) => break,
                }
            }
        }
    }
    requests.end();
    match &result {
        Ok(Ended::Finished) => stats.status.set(State::Finished),
        Ok(Ended::Stopped) => stats.status.set(State::Stopped),
        Err(error) => stats.status.failed(State::Failed, error.to_string()),
    }
    // One that failed ends: the supervisor's back-off is for it.
    while args.linger && result.is_ok() && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LINGER_POLL);
    }
    let stopped = local.map_or(Ok(()), Local::stop);
    drop(server);
    result.and(stopped)
}

fn default_format() -> Format {
    if std::io::stdout().is_terminal() { Format::Live } else { Format::Table }
}

/// What the command line or the deployment says, else the settings: Flink's of SQL jobs (-1: not set) before the general one.
pub fn parallelism(given: Option<u32>, catalog: &Catalog) -> Result<usize> {
    let setting = |key: &str| catalog.settings.get(key).map(|v| (key.to_owned(), v.trim().to_owned()));
    let of_sql = setting("table.exec.resource.default-parallelism").filter(|(_, v)| v != "-1");
    let (key, text) = match (given, of_sql.or_else(|| setting("parallelism.default"))) {
        (Some(n), _) => ("parallelism".to_owned(), n.to_string()),
        (None, Some(setting)) => setting,
        (None, None) => return Ok(1),
    };
    match text.parse() {
        Ok(n @ 1..=64) => Ok(n),
        _ => Err(Error::plan(format!("'{key}' must be a number from 1 to 64, not '{text}'"))),
    }
}

/// The folder of state; the second name is that of Flink 1.
const CHECKPOINTS: [&str; 2] = ["execution.checkpointing.dir", "state.checkpoints.dir"];

/// How a job reaches object stores.
fn storage_of(catalog: &Catalog) -> Result<storage::Options> {
    storage::Options::read(catalog.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

/// How the first job of a script reaches object stores.
pub fn storage_options(script: &Script) -> Result<storage::Options> {
    let first = script.steps.iter().find_map(|s| if let Step::Job { catalog, .. } = s { Some(catalog) } else { None });
    first.map_or_else(|| Ok(storage::Options::default()), |catalog| storage_of(catalog))
}

/// The job's settings. `names`: of jobs that the process has run; each that writes tables gets one of its own.
pub fn job_options(graph: &Graph, catalog: &Catalog, script: &str, names: &mut BTreeSet<String>) -> Result<JobOptions> {
    let setting = |key: &str| catalog.settings.get(key).map(|v| v.trim());
    let time_zone = sluice_plan::time_zone(&catalog.settings)?;
    let interval = sluice_batch::duration::parse(setting("execution.checkpointing.interval").unwrap_or("1 s"));
    if let Some(mode) = setting("execution.checkpointing.mode")
        && !["EXACTLY_ONCE", "AT_LEAST_ONCE"].contains(&mode.to_ascii_uppercase().replace('-', "_").as_str())
    {
        return Err(Error::plan(format!("'execution.checkpointing.mode' cannot be '{mode}'")).hint("EXACTLY_ONCE or AT_LEAST_ONCE"));
    }
    let base = setting("pipeline.name").filter(|n| !n.is_empty()).unwrap_or(script);
    let writes = graph.nodes.iter().any(|n| matches!(n.kind, NodeKind::Sink { .. }));
    let mut name = base.to_owned();
    let mut n = 1;
    while writes && !names.insert(name.clone()) {
        n += 1;
        name = format!("{base}-{n}");
    }
    let checkpoint_dir = CHECKPOINTS.iter().find_map(|key| setting(key)).map(str::to_owned);
    let bounded = graph.nodes.iter().any(|n| matches!(&n.kind, NodeKind::Source { request, .. } if request.force_bounded));
    let restart = if checkpoint_dir.is_some() && !bounded { Strategy::patient() } else { Strategy::None };
    Ok(JobOptions {
        time_zone,
        commit_interval: interval.map_err(|e| e.context("'execution.checkpointing.interval'"))?,
        duration: None,
        restore: None,
        allow_non_restored: false,
        savepoint_at_end: None,
        storage: storage_of(catalog)?,
        sql: String::new(),
        requests: Arc::default(),
        parallelism: 1,
        name,
        checkpoint_dir,
        restored_from: None,
        start: None,
        stays_stopped: false,
        secrets: Secrets::default(),
        restart: Strategy::read(&catalog.settings, restart)?,
        memory: memory(setting("state.backend.memory"))?,
        local_dir: setting("state.backend.local-dir").filter(|d| !d.is_empty()).map_or_else(std::env::temp_dir, PathBuf::from),
    })
}

/// What a job begins with; nothing if that is not said.
///
/// # Errors
/// If the savepoint cannot be read. For a start that has a name it may be gone: the job may have commits since.
fn restore(args: &Args, graph: &Graph, access: &storage::Options) -> Result<Option<Result<Adapted>>> {
    let Some(directory) = &args.restore_from else { return Ok(args.start.is_some().then(|| Ok(Adapted::default()))) };
    let read = storage::at(directory, access).and_then(|at| Adapted::read(graph, &at, args.allow_non_restored_state));
    if args.start.is_some() { Ok(Some(read)) } else { read.map(|adapted| Some(Ok(adapted))) }
}

/// Bytes that state may take: what the setting says, else half of what the process may have; `None`: no limit.
fn memory(setting: Option<&str>) -> Result<Option<usize>> {
    let Some(text) = setting else { return Ok(cgroup::memory_limit().map(|limit| limit / 2)) };
    match sluice_batch::memory_size::parse(text).map_err(|e| e.context("'state.backend.memory'"))? {
        0 => Err(Error::plan("'state.backend.memory' is 0").hint("leave it out, and half of the pod's memory is used, if that is limited")),
        bytes => Ok(Some(bytes)),
    }
}
