//! `sluice-operator`: writes the CRDs. Its controllers are not there yet, and nothing here pretends otherwise.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The Kubernetes operator of Sluice. This version only writes its CRDs; the controllers follow.
#[derive(Parser)]
#[command(name = "sluice-operator", version, after_help = "Example:\n  sluice-operator crds manifests/crds")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the CRDs as YAML into a folder.
    Crds { folder: PathBuf },
}

fn main() -> ExitCode {
    let Command::Crds { folder } = Cli::parse().command;
    match write_crds(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}: {e}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write_crds(folder: &std::path::Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    std::fs::create_dir_all(folder)?;
    for (name, yaml) in sluice_crds::manifests()? {
        std::fs::write(folder.join(name), yaml)?;
    }
    Ok(())
}
