//! `sluice session`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sluice_batch::Result;

use super::stop_on_signal;
use crate::cgroup;
use crate::secrets;
use crate::server::Server;
use crate::session::{Options, Session, http};

#[derive(clap::Args)]
#[command(after_help = "Example:
  sluice session --http 127.0.0.1:8081 --slots 4
  curl http://127.0.0.1:8081/api/v1/jobs")]
pub struct Args {
    /// Serve the jobs' REST API, /livez, /readyz and /metrics here, e.g. 0.0.0.0:8081.
    #[arg(long, value_name = "ADDRESS")]
    http: SocketAddr,
    /// How many tasks the jobs may have together.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: u32,
    /// Where the jobs' files are written; a folder for temporary files, if not said.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the files of {{secret:name/key}} in table options are: DIR/name/key.
    #[arg(long, value_name = "DIR", default_value = secrets::FOLDER)]
    secrets: PathBuf,
}

/// Runs jobs until it is told to stop; then it stops them.
///
/// # Errors
/// If the address cannot be bound.
pub fn run(args: Args, logs: Vec<String>, json_logs: bool) -> Result<()> {
    let stop = stop_on_signal(Arc::new(AtomicBool::new(false)))?;
    let folder = args.dir.unwrap_or_else(|| std::env::temp_dir().join(format!("sluice-session-{}", args.http.port())));
    let memory = cgroup::memory_limit().map(|limit| limit / 2);
    let session = Arc::new(Session::new(Options { slots: args.slots, folder, secrets: args.secrets, logs, json_logs, memory }));
    let server = Server::start(args.http, http::router(session.clone()))?;
    session.supervise(&stop);
    drop(server);
    Ok(())
}
