//! `sluice check SAVEPOINT FILE`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use sluice_batch::{Error, Result};
use sluice_state::compatibility::{Fate, Report, Verdict};
use sluice_state::manifest::Manifest;
use sluice_state::{Savepoint, storage};

use super::print;
use crate::script::{self, Step};

#[derive(clap::Args)]
#[command(after_help = "Example:
  sluice check /savepoints/2026-05-01 new.sql && sluice run new.sql --restore-from /savepoints/2026-05-01
  sluice check http://localhost:8081 new.sql

Exit codes: 0 compatible: all state is used; 3 partial: something starts empty; 2 incompatible: some state cannot be used.")]
pub struct Args {
    /// The directory of the savepoint: a path, or s3://bucket/prefix. Or the address of a job that runs: http://host:port, in a session
    /// http://host:port/api/v1/jobs/NAME.
    savepoint: String,
    /// The SQL script that is to go on from it, or YAML with a StreamingDeployment.
    file: PathBuf,
    #[command(flatten)]
    sql: script::Args,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
    /// State that has no place in the script may be left behind: that is partial then.
    #[arg(long)]
    allow_non_restored_state: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// Judges, prints, and answers with the exit code.
///
/// # Errors
/// If the savepoint cannot be read or the script cannot be planned.
pub fn run(args: &Args) -> Result<ExitCode> {
    let script = script::load(&args.file, &args.sql)?;
    let manifest = match args.savepoint.strip_prefix("http://") {
        Some(job) => of_job(job.trim_end_matches('/'))?,
        None => Savepoint::manifest(storage::at(&args.savepoint, &super::run::storage_options(&script)?)?.as_ref())?,
    };
    let graphs: Vec<_> = script.steps.iter().filter_map(|s| if let Step::Job { graph, .. } = s { Some(graph) } else { None }).collect();
    let [graph] = graphs[..] else {
        return Err(Error::plan(format!("a savepoint is of one job, and the script has {}", graphs.len()))
            .hint("put INSERTs into one statement set; leave SELECTs out"));
    };
    let report = crate::savepoint::check(&manifest, graph, args.allow_non_restored_state);
    print(&match args.output {
        Output::Text => text(&report),
        Output::Json => serde_json::to_string_pretty(&report).map_err(|e| Error::runtime(e.to_string()))? + "\n",
    })?;
    Ok(ExitCode::from(match report.verdict {
        Verdict::Compatible => 0,
        Verdict::Partial => 3,
        Verdict::Incompatible => 2,
    }))
}

/// How long a job may take to say what its state is,
const ANSWER: Duration = Duration::from_secs(10);
/// and for how long it is asked again: its name may not be known yet, it begins just now, or a busy machine's DNS does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a savepoint of a running job would hold.
fn of_job(address: &str) -> Result<Manifest> {
    let get = || -> Result<Manifest, ureq::Error> {
        let path = if address.contains('/') { "state" } else { "api/v1/state" };
        let request = ureq::get(format!("http://{address}/{path}")).config().timeout_global(Some(ANSWER)).build();
        request.call()?.body_mut().with_config().limit(MOST_BYTES).read_json()
    };
    let begun = Instant::now();
    loop {
        match get() {
            Ok(manifest) => return Ok(manifest),
            Err(e) if begun.elapsed() > PATIENCE || matches!(e, ureq::Error::StatusCode(400..=499)) => {
                return Err(Error::runtime(format!("the job at http://{address} does not say what its state is: {e}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// Longer answers are none of ours.
const MOST_BYTES: u64 = 64 << 20;

fn text(report: &Report) -> String {
    let mut out = format!("{}\n", report.verdict);
    for j in &report.operators {
        let sinks = if j.sinks.is_empty() { String::new() } else { format!(" -> {}", j.sinks.join(", ")) };
        let fate = match j.fate {
            Fate::Kept => "state kept",
            Fate::New => "no state yet",
            Fate::Lost => "state lost",
        };
        out.push_str(&format!("  {:<12}  {}{sinks}: {fate}\n", j.verdict.to_string(), j.kind));
        for reason in j.reasons.iter().filter(|r| *r != "new") {
            out.push_str(&format!("                {reason}\n"));
        }
    }
    out
}
