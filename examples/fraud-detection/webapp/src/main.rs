//! The web application of the fraud detection example: makes payments, sends rules and commands to the control topic, and shows alerts as
//! they come. The roles and topics are those of Flink's demo.

mod api;
mod app;
mod demo;
mod generator;
mod kafka;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

/// What can go wrong is told to who started it.
pub type Result<T> = std::result::Result<T, String>;

/// Web application of the fraud detection example
#[derive(Parser)]
struct Args {
    /// Where the page is served
    #[arg(long, default_value = "127.0.0.1:5656")]
    listen: SocketAddr,
    /// Kafka brokers
    #[arg(long, default_value = "localhost:9092", conflicts_with = "demo")]
    bootstrap_servers: String,
    /// Starts an embedded broker and the job, too, with this deployment
    #[arg(long, value_name = "YAML")]
    demo: Option<PathBuf>,
    /// The `sluice` that runs the job; by default the one beside this program
    #[arg(long, requires = "demo")]
    sluice: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let demo = args.demo.map(|yaml| demo::Demo::start(&yaml, args.sluice)).transpose()?;
    let servers = demo.as_ref().map_or(args.bootstrap_servers, demo::Demo::bootstrap);
    let app = Arc::new(app::App::new(kafka::Sender::new(&servers)?));
    kafka::listen(&servers, app.clone())?;
    generator::start(app.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|e| e.to_string())?;
    let served = runtime.block_on(api::serve(args.listen, app, demo.as_ref().map(demo::Demo::ended)));
    runtime.shutdown_background();
    served
}
