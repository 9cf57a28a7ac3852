//! The command line: one file a command.

mod check;
mod convert;
mod generate;
mod plan;
pub mod run;
mod savepoint;
mod session;
mod state;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand, ValueEnum};
use sluice_batch::{Error, ErrorKind, Result};
use tracing_subscriber::EnvFilter;

/// Streaming SQL on Kafka, Flink-style: runs a script or a StreamingDeployment.
#[derive(Parser)]
#[command(name = "sluice", version, about, long_about = None, propagate_version = true)]
#[command(after_help = "Examples:
  sluice run examples/anomaly-detection/standalone-etl-anomaly.yaml --local
  sluice run job.sql --var KAFKA=localhost:9092
  sluice plan job.sql
  sluice generate sales --rate 100 --bootstrap-servers localhost:9092

Exit codes: 0 done, 1 failed while running, 2 the script cannot be parsed, validated or planned.
`check`: 0 compatible, 3 partial, 2 incompatible.")]
struct Cli {
    /// Log format on stderr.
    #[arg(long, global = true, value_enum, default_value = "text", env = "SLUICE_LOG_FORMAT")]
    log_format: LogFormat,
    /// Log filter, as for RUST_LOG: `info`, `debug`, `sluice_connect=debug`.
    #[arg(long, global = true, default_value = "warn", env = "SLUICE_LOG")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Run the statements of a script or the SQL of a StreamingDeployment.
    Run(run::Args),
    /// Print the plan: operators, changelog modes, keys, time attributes, what bounds the state.
    Plan(plan::Args),
    /// Say whether the state in a savepoint fits a script, before anything is stopped.
    Check(check::Args),
    /// List, show, delete and take savepoints.
    #[command(subcommand)]
    Savepoint(savepoint::Command),
    /// Delete the state of a job.
    #[command(subcommand)]
    State(state::Command),
    /// FlinkDeployments with SQL, and application versions of Aiven for Apache Flink, as StreamingDeployments.
    Convert(convert::Args),
    /// Run jobs that are submitted over REST, each as a process of its own: what a SessionCluster is made of.
    Session(session::Args),
    /// Produce example data into Kafka.
    Generate(generate::Args),
    /// Print the version.
    Version,
}

/// Parses the arguments, runs the command, and says what its exit code means.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logs(&cli);
    let format = cli.log_format;
    let result = guarded(|| match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Savepoint(command) => savepoint::run(command).map(|()| ExitCode::SUCCESS),
        Command::State(command) => state::run(command).map(|()| ExitCode::SUCCESS),
        Command::Run(args) => run::run(args).map(|()| ExitCode::SUCCESS),
        Command::Plan(args) => plan::plan(args).map(|()| ExitCode::SUCCESS),
        Command::Convert(args) => convert::run(args).map(|()| ExitCode::SUCCESS),
        Command::Session(args) => {
            session::run(args, log_arguments(&cli.log, format), matches!(format, LogFormat::Json)).map(|()| ExitCode::SUCCESS)
        }
        Command::Generate(args) => generate::run(args).map(|()| ExitCode::SUCCESS),
        Command::Version => print(&format!("sluice {}\n", env!("CARGO_PKG_VERSION"))).map(|()| ExitCode::SUCCESS),
    });
    match result {
        Ok(code) => code,
        Err(error) => report(&error, format),
    }
}

/// What gives another `sluice` the same logs.
fn log_arguments(filter: &str, format: LogFormat) -> Vec<String> {
    let format = if matches!(format, LogFormat::Json) { "json" } else { "text" };
    ["--log", filter, "--log-format", format].map(str::to_owned).to_vec()
}

/// A panic is a defect of ours, but its user gets an error and an exit code like any other (`RUST_BACKTRACE=1` shows where).
///
/// # Errors
/// If the command fails or panics.
fn guarded<T>(command: impl FnOnce() -> Result<T>) -> Result<T> {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            default(info);
        }
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        tracing::error!("internal error{place}: {}", info.payload_as_str().unwrap_or("panic"));
    }));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(command)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        Err(Error::runtime(format!("internal error: {text}")).hint("this is a defect of Sluice: please report it with the script"))
    })
}

/// Writes to stdout, and to nobody if the reader is gone (`sluice plan x.sql | head -1`).
///
/// # Errors
/// If stdout cannot take it for another reason.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

fn report(error: &Error, format: LogFormat) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    let line = match format {
        LogFormat::Text => format!("error: {error}"),
        // As a log line, so that what collects logs finds it; not by `tracing`, whose filter could hide it.
        LogFormat::Json => {
            let span = error.span();
            let fields =
                serde_json::json!({"message": error.message(), "hint": error.hint_text(), "line": span.line, "column": span.column});
            let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            serde_json::json!({"timestamp": now, "level": "ERROR", "fields": fields, "target": "sluice"}).to_string()
        }
    };
    // Nothing is left to do if even stderr is gone.
    let _ = writeln!(stderr, "{line}");
    match error.kind() {
        ErrorKind::Plan => ExitCode::from(2),
        ErrorKind::Runtime => ExitCode::from(1),
    }
}

fn init_logs(cli: &Cli) {
    let filter = EnvFilter::try_new(&cli.log).unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// SIGTERM and Ctrl-C end the job cleanly; a second one ends the process at once, and so does the first one while `opening`: there is
/// nothing to be ended yet, and brokers that cannot be reached may keep the task waiting.
fn stop_on_signal(opening: Arc<AtomicBool>) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        signal_hook::flag::register_conditional_shutdown(signal, 0, opening.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use clap::CommandFactory;

    #[test]
    fn a_panic_becomes_an_error() {
        let error = super::guarded::<()>(|| panic!("five of {}", 2)).unwrap_err();
        assert_eq!((error.kind(), error.message()), (super::ErrorKind::Runtime, "internal error: five of 2"));
        assert!(super::guarded(|| Ok(())).is_ok());
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
