//! `kubectl sluice`: what one wants to know and do about jobs on a cluster, in one line each.
//!
//! kubectl finds the program by its name, `kubectl-sluice`, on PATH. It speaks to the API server only, as the user: to objects of Sluice, to pods and
//! their logs, and to the jobs' REST API through the API server's pod proxy.

mod cluster;
mod convert;
mod error;
mod figures;
mod logs;
mod plan;
mod savepoint;
mod status;
mod text;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use error::{Error, Result};

/// Jobs of Sluice on Kubernetes.
#[derive(Parser)]
#[command(name = "kubectl sluice", bin_name = "kubectl sluice", version, about, long_about = None, propagate_version = true)]
#[command(after_help = "Examples:
  kubectl sluice status standalone-etl-anomaly -n flink
  kubectl sluice check standalone-etl-anomaly changed.yaml && kubectl apply -f changed.yaml
  kubectl sluice savepoint standalone-etl-anomaly --wait
  kubectl sluice logs standalone-etl-anomaly -f
  kubectl sluice convert flink-deployment.yaml > job.yaml

Exit codes: 0 done, 1 failed, 2 something given is wrong. `check`: 0 compatible, 3 partial, 2 incompatible.")]
struct Cli {
    #[command(flatten)]
    connection: cluster::Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How a job is: conditions, rows per second, watermark, lag, commits, savepoints, events.
    Status(status::Args),
    /// The plan of a file's SQL, or of a deployment's: operators, changelog modes, keys, what bounds the state.
    Plan(plan::PlanArgs),
    /// Whether changed SQL would keep the state of the job that runs.
    Check(plan::CheckArgs),
    /// Take a savepoint, or list them.
    Savepoint(savepoint::Args),
    /// What the pods of the current revision say.
    Logs(logs::Args),
    /// FlinkDeployments with SQL, and application versions of Aiven for Apache Flink, as StreamingDeployments.
    Convert(convert::Args),
}

/// What `-o` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
    Yaml,
}

impl Output {
    /// A value in this format; `text` is what people read.
    ///
    /// # Errors
    /// If it cannot be written: a defect of ours.
    pub fn write(self, value: &serde_json::Value, text: impl FnOnce() -> String) -> Result<String> {
        Ok(match self {
            Self::Text => text(),
            Self::Json => serde_json::to_string_pretty(value).map_err(|e| Error::failed(e.to_string()))? + "\n",
            Self::Yaml => serde_yaml::to_string(value).map_err(|e| Error::failed(e.to_string()))?,
        })
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failed(e.to_string()))
        .and_then(|runtime| runtime.block_on(run(cli)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.code)
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let connection = &cli.connection;
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Status(args) => status::run(&connection.connect().await?, &args).await.map(done),
        Command::Plan(args) => plan::plan(connection, &args).await,
        Command::Check(args) => plan::check(&connection.connect().await?, &args).await,
        Command::Savepoint(args) => savepoint::run(&connection.connect().await?, args).await.map(done),
        Command::Logs(args) => logs::run(&connection.connect().await?, &args).await.map(done),
        Command::Convert(args) => convert::run(connection, &args).map(done),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
