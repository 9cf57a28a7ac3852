//! `sluice convert FILE...`: jobs of others as StreamingDeployments; the same as `kubectl sluice convert`.

use std::collections::BTreeMap;

use sluice_batch::{Error, Result};
use sluice_crds::convert::{Options, convert};

use super::print;
use crate::script::pair;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sluice convert standalone-etl-anomaly-deployment.yaml > job.yaml
  sluice convert version.json deployment.json --name pizza --var KAFKA=my-kafka:9092

What cannot be carried over is in the YAML's comments and on stderr: nothing is dropped without a word.")]
pub struct Args {
    /// FlinkDeployments, FlinkSessionJobs, Aiven application versions and the parameters of their deployment; - is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Name of the object; the document's if not said.
    #[arg(long)]
    name: Option<String>,
    /// Namespace of the object; the document's if not said.
    #[arg(short, long)]
    namespace: Option<String>,
    /// A file with the SQL, if the document names one in an image.
    #[arg(long, value_name = "FILE")]
    sql: Option<String>,
    /// Values of spec.variables, for what a platform filled in.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
}

/// # Errors
/// If a file cannot be read, or holds nothing that can be converted.
pub fn run(args: Args) -> Result<()> {
    let variables = args.variables.iter().map(|v| pair(v, "--var")).collect::<Result<BTreeMap<_, _>>>()?;
    let sql = args.sql.as_deref().map(read).transpose()?;
    let texts = args.files.iter().map(|f| read(f)).collect::<Result<Vec<_>>>()?;
    let options = Options { name: args.name, namespace: args.namespace, sql, variables };
    let conversion = convert(&texts.join("\n---\n"), &options).map_err(|e| Error::plan(format!("{}: {e}", args.files.join(", "))))?;
    for note in conversion.notes.iter().chain(conversion.objects.iter().flat_map(|o| &o.notes)) {
        eprintln!("note: {note}");
    }
    print(&conversion.to_yaml().map_err(Error::runtime)?)
}

fn read(file: &str) -> Result<String> {
    let text = match file {
        "-" => std::io::read_to_string(std::io::stdin()),
        file => std::fs::read_to_string(file),
    };
    text.map_err(|e| Error::plan(format!("cannot read {file}: {e}")))
}
