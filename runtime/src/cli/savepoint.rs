//! `sluice savepoint list|show|delete|take`

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sluice_batch::{Error, Result};
use sluice_state::manifest::{self, Manifest};
use sluice_state::storage::{self, Storage};
use sluice_state::{Savepoint, read_columns};

use super::check::Output;
use super::print;
use crate::task::requests::Wish;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Have a running job write one.
    Take(TakeArgs),
    /// The savepoints below a directory.
    List(ListArgs),
    /// What a savepoint holds; with --operator or --key, rows of its state.
    Show(ShowArgs),
    /// Delete a savepoint: the files that its manifest names, the manifest first.
    Delete(DeleteArgs),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sluice savepoint list /savepoints
  AWS_REGION=eu-central-1 sluice savepoint list s3://bucket/savepoints
  sluice savepoint list s3://bucket/savepoints --set s3.endpoint=http://minio:9000")]
pub struct ListArgs {
    /// A path, or s3://bucket/prefix.
    directory: String,
    #[command(flatten)]
    access: Access,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sluice savepoint show /savepoints/1
  sluice savepoint show /savepoints/1 --key user-7
  sluice savepoint show /savepoints/1 --operator GroupAggregate --limit 5")]
pub struct ShowArgs {
    /// A path, or s3://bucket/prefix.
    savepoint: String,
    #[command(flatten)]
    access: Access,
    /// Only this operator: its identity, or the beginning of it.
    #[arg(long, value_name = "ID")]
    operator: Option<String>,
    /// Rows with this text in one of the key columns.
    #[arg(long)]
    key: Option<String>,
    /// Rows of each table that are printed at most.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[arg(long, value_enum, default_value = "text", conflicts_with_all = ["key", "operator"])]
    output: Output,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  sluice run job.sql --http 127.0.0.1:8081 &
  sluice savepoint take --url http://127.0.0.1:8081 /savepoints/1 --stop")]
pub struct TakeArgs {
    /// Where the job serves HTTP (`sluice run --http`).
    #[arg(long)]
    url: String,
    /// A new directory, as the job sees it: a path, or s3://bucket/prefix.
    savepoint: String,
    /// End the job with the savepoint; if that cannot be written the job goes on.
    #[arg(long)]
    stop: bool,
    /// End time before, so that all windows fire: for a job that will not go on.
    #[arg(long, requires = "stop")]
    drain: bool,
}

#[derive(clap::Args)]
pub struct DeleteArgs {
    /// A path, or s3://bucket/prefix.
    savepoint: String,
    /// It is no error if there is none: for whoever tries again.
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    access: Access,
}

/// How object stores are reached: as jobs do it.
#[derive(clap::Args)]
pub(super) struct Access {
    /// An option of S3 that the environment (AWS_…) does not have: s3.endpoint, s3.endpoint.region, s3.path.style.access.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Access {
    pub(super) fn open(&self, directory: &str) -> Result<Arc<dyn Storage>> {
        storage::at(directory, &self.options()?)
    }

    pub(super) fn of_job(&self, directory: &str, pipeline: &str) -> Result<Arc<dyn Storage>> {
        storage::of_job(directory, pipeline, &self.options()?)
    }

    fn options(&self) -> Result<storage::Options> {
        let mut pairs = vec![];
        for text in &self.settings {
            let pair = text.split_once('=').ok_or_else(|| Error::plan(format!("--set {text}: expected KEY=VALUE")))?;
            if !pair.0.starts_with("s3.") {
                return Err(Error::plan(format!("--set {}: only options of S3 have a meaning here", pair.0)));
            }
            pairs.push(pair);
        }
        storage::Options::read(pairs)
    }
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Take(args) => take(args),
        Command::List(args) => list(&args),
        Command::Show(args) => show(&args),
        Command::Delete(args) => {
            let directory = args.access.open(&args.savepoint)?;
            if Savepoint::delete(directory.as_ref())? || args.if_exists { Ok(()) } else { Err(Savepoint::missing(directory.as_ref())) }
        }
    }
}

fn take(args: TakeArgs) -> Result<()> {
    let url = format!("{}/savepoints", args.url.trim_end_matches('/'));
    let wish = Wish { directory: args.savepoint, stop: args.stop, drain: args.drain };
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.post(&url).send_json(&wish).map_err(|e| Error::runtime(format!("{url}: {e}")))?;
    let status = response.status();
    let answer: serde_json::Value = response.body_mut().read_json().map_err(|e| Error::runtime(format!("{url}: {status}: {e}")))?;
    match (status.as_u16(), answer["directory"].as_str(), answer["error"].as_str()) {
        (200, Some(directory), _) => print(&format!("{directory}\n")),
        (202, Some(directory), _) => Err(Error::runtime(format!("{directory} is being taken already, by another request"))),
        (_, _, error) => Err(Error::runtime(error.map_or_else(|| format!("{url}: {status}"), str::to_owned))),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).map_err(|e| Error::runtime(e.to_string()))? + "\n")
}

fn list(args: &ListArgs) -> Result<()> {
    let directory = args.access.open(&args.directory)?;
    let mut found: Vec<(String, Manifest)> = vec![];
    for name in directory.folders()? {
        let folder = directory.folder(&name);
        if let Some(manifest) = Savepoint::find(folder.as_ref())? {
            found.push((folder.place(""), manifest));
        }
    }
    found.sort_by(|a, b| (&a.1.created, &a.0).cmp(&(&b.1.created, &b.0)));
    let rows = |m: &Manifest| m.operators.iter().flat_map(|o| &o.tables).map(|t| t.rows).sum::<u64>();
    print(&match args.output {
        Output::Json => json(
            &found
                .iter()
                .map(|(path, m)| {
                    serde_json::json!({"savepoint": path, "created": m.created, "engine": m.engine,
                        "operators": m.operators.len(), "rows": rows(m)})
                })
                .collect::<Vec<_>>(),
        )?,
        Output::Text => {
            let head = ["CREATED", "OPERATORS", "ROWS", "SAVEPOINT"].map(str::to_owned).to_vec();
            let line =
                |(path, m): &(String, Manifest)| vec![m.created.clone(), m.operators.len().to_string(), rows(m).to_string(), path.clone()];
            table(&[vec![head], found.iter().map(line).collect()].concat())
        }
    })
}

fn show(args: &ShowArgs) -> Result<()> {
    let directory = args.access.open(&args.savepoint)?;
    let manifest = Savepoint::manifest(directory.as_ref())?;
    if args.output == Output::Json {
        return print(&json(&manifest)?);
    }
    if args.operator.is_none() && args.key.is_none() {
        return print(&overview(&manifest));
    }
    let wanted = |o: &&manifest::Operator| args.operator.as_ref().is_none_or(|w| o.identity.starts_with(w.as_str()));
    let operators: Vec<_> = manifest.operators.iter().filter(wanted).collect();
    if operators.is_empty() {
        let names: Vec<&str> = manifest.operators.iter().map(|o| o.identity.as_str()).collect();
        return Err(Error::runtime(format!("the savepoint has no such operator; it has {}", names.join(", "))));
    }
    for operator in operators {
        for t in &operator.tables {
            let text = rows(&directory, t, args.key.as_deref(), args.limit)?;
            if !text.is_empty() {
                print(&format!("{} {} ({})\n{text}\n", operator.identity, t.name, operator.layout.sinks.join(", ")))?;
            }
        }
    }
    Ok(())
}

fn overview(manifest: &Manifest) -> String {
    let mut out = format!("created {} by sluice {}\n\nSources\n", manifest.created, manifest.engine);
    for s in &manifest.sources {
        let positions: Vec<String> = s.positions.iter().map(|(split, at)| format!("{split}={at}")).collect();
        let _ = writeln!(out, "  {} {}", s.table, positions.join(" "));
    }
    out.push_str("\nOperators\n");
    for o in &manifest.operators {
        let _ = writeln!(out, "  {} -> {}", o.identity, o.layout.sinks.join(", "));
        for (name, value) in o.layout.fixed.iter().filter(|(_, v)| !v.is_empty()) {
            let _ = writeln!(out, "    {name}: {value}");
        }
        for t in &o.tables {
            let _ = writeln!(out, "    table {}: {} rows in {}", t.name, t.rows, t.file);
            for c in &t.columns {
                let _ = writeln!(out, "      {} {}{}", c.name, c.ty, if c.key { " (key)" } else { "" });
            }
        }
    }
    out
}

/// Rows of a state table, as a text table; empty if none matches.
fn rows(directory: &Arc<dyn Storage>, from: &manifest::Table, key: Option<&str>, limit: usize) -> Result<String> {
    let mut lines: Vec<Vec<String>> = vec![];
    let mut each = |batch: RecordBatch| -> Result<bool> {
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options)).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<usize> = (0..columns.len()).filter(|c| from.columns.get(*c).is_some_and(|c| c.key)).collect();
        if lines.is_empty() {
            lines.push(batch.schema().fields().iter().map(|f| f.name().clone()).collect());
        }
        for row in 0..batch.num_rows() {
            if lines.len() > limit {
                return Ok(false);
            }
            let is_key = |c: &usize| !batch.column(*c).is_null(row) && Some(columns[*c].value(row).to_string().as_str()) == key;
            if key.is_none() || keys.iter().any(is_key) {
                lines.push(columns.iter().map(|c| c.value(row).to_string()).collect());
            }
        }
        Ok(true)
    };
    read_columns(directory, &from.file, &mut each)?;
    Ok(if lines.len() > 1 { table(&lines) } else { String::new() })
}

/// Columns side by side, the first line being their names.
fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |c: usize| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}
