//! `sluice-operator`: runs the controllers, or writes the CRDs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_operator::run;
use tracing_subscriber::EnvFilter;

/// The Kubernetes operator of Sluice.
#[derive(Parser)]
#[command(name = "sluice-operator", version, propagate_version = true)]
#[command(after_help = "Examples:\n  sluice-operator crds manifests/crds\n  sluice-operator run --all-namespaces")]
struct Cli {
    /// Log filter, as for RUST_LOG.
    #[arg(long, global = true, default_value = "info", env = "SLUICE_LOG")]
    log: String,
    /// Log lines as JSON.
    #[arg(long, global = true, env = "SLUICE_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the CRDs as YAML into a folder.
    Crds { folder: PathBuf },
    /// Look after the objects of a cluster.
    Run(run::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if cli.log_json {
        logs.json().init()
    } else {
        logs.init()
    }
    let result = match cli.command {
        Command::Crds { folder } => write_crds(&folder).map_err(|e| format!("{}: {e}", folder.display())),
        Command::Run(args) => run_operator(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run_operator(args: run::Args) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(run::run(args)).map_err(|e| e.text())
}

fn write_crds(folder: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    std::fs::create_dir_all(folder)?;
    for (name, yaml) in sluice_crds::manifests()? {
        std::fs::write(folder.join(name), yaml)?;
    }
    Ok(())
}
