//! `sluice state delete`

use std::fmt::Write as _;

use sluice_batch::Result;
use sluice_state::{Savepoint, wipe};

use super::print;
use super::savepoint::Access;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Delete what a job has committed: the next job of its name starts anew, whatever Kafka still says of it.
    Delete(DeleteArgs),
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  sluice state delete /state/checkpoints my-job --savepoint /state/savepoints/1")]
pub struct DeleteArgs {
    /// The job's 'execution.checkpointing.dir': a path, or s3://bucket/prefix.
    directory: String,
    /// The job's 'pipeline.name'. It must not run.
    pipeline: String,
    /// A savepoint that is to go, too; it need not be there any more.
    #[arg(long = "savepoint", value_name = "DIRECTORY")]
    savepoints: Vec<String>,
    #[command(flatten)]
    access: Access,
}

pub fn run(command: Command) -> Result<()> {
    let Command::Delete(args) = command;
    let mut deleted = 0;
    for savepoint in &args.savepoints {
        let directory = args.access.open(savepoint)?;
        deleted += usize::from(Savepoint::delete(directory.as_ref())?);
    }
    let folder = args.access.of_job(&args.directory, &args.pipeline)?;
    let wiped = wipe::checkpoints(&folder)?;
    let mut text = format!("{}: {} files and {deleted} savepoints are deleted\n", folder.place(""), wiped.files);
    for left in &wiped.left {
        let _ = writeln!(text, "{left} stays: no job has written it");
    }
    print(&text)
}
