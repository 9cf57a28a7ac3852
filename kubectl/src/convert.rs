//! `kubectl sluice convert FILE...`: see `sluice_crds::convert`, which `sluice convert` uses as well.

use std::io::Read;

use sluice_crds::convert::{Options, convert};

use crate::cluster::Flags;
use crate::error::{Error, Result};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  kubectl sluice convert standalone-etl-anomaly-deployment.yaml > job.yaml
  kubectl sluice convert version.json deployment.json --name pizza --var KAFKA=my-kafka:9092 -n flink | kubectl apply -f -
  kubectl get flinkdeployment x -o yaml | kubectl sluice convert -

The YAML goes to stdout. What cannot be carried over is in its comments and on stderr: nothing is dropped without a word. No cluster is asked.")]
pub struct Args {
    /// FlinkDeployments, FlinkSessionJobs, Aiven application versions and the parameters of their deployment; - is stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Name of the object; the document's if not said.
    #[arg(long)]
    name: Option<String>,
    /// A file with the SQL, if the document names one in an image.
    #[arg(long, value_name = "FILE")]
    sql: Option<String>,
    /// Values of spec.variables, for what a platform filled in.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
}

/// # Errors
/// If a file cannot be read, or holds nothing that can be converted.
pub fn run(flags: &Flags, args: &Args) -> Result<()> {
    let mut options = Options { name: args.name.clone(), namespace: flags.namespace.clone(), ..Options::default() };
    options.sql = args.sql.as_deref().map(read).transpose()?;
    for text in &args.variables {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or_else(|| Error::usage(format!("--var {text}: expected NAME=VALUE")))?;
        options.variables.insert(name.to_owned(), value.to_owned());
    }
    let texts = args.files.iter().map(|f| read(f)).collect::<Result<Vec<_>>>()?;
    let conversion = convert(&texts.join("\n---\n"), &options).map_err(|e| Error::usage(format!("{}: {e}", args.files.join(", "))))?;
    for note in conversion.notes.iter().chain(conversion.objects.iter().flat_map(|o| &o.notes)) {
        eprintln!("note: {note}");
    }
    print!("{}", conversion.to_yaml().map_err(Error::failed)?);
    Ok(())
}

fn read(file: &str) -> Result<String> {
    let mut text = String::new();
    let result = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(drop),
        file => std::fs::read_to_string(file).map(|read| text = read),
    };
    result.map_err(|e| Error::usage(format!("cannot read {file}: {e}")))?;
    Ok(text)
}
