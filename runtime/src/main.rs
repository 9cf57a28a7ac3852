//! `sluice`: the SQL engine's command line.

mod cgroup;
mod cli;
mod client;
mod deployment;
mod generate;
mod local;
mod savepoint;
mod script;
mod secrets;
mod server;
mod session;
mod task;
mod tether;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
