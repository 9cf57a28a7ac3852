//! `sluice generate DATASET`

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sluice_batch::Result;

use super::stop_on_signal;
use crate::generate::{Dataset, Target, produce};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sluice generate sales --bootstrap-servers localhost:9092 --schema-registry http://localhost:8080/apis/ccompat/v7
  sluice generate pizza --rate 1000 --count 100000 --bootstrap-servers localhost:9092")]
pub struct Args {
    /// What to generate.
    #[arg(value_enum)]
    dataset: Dataset,
    /// Records a second; 0: as fast as possible.
    #[arg(long, default_value_t = 10)]
    rate: u64,
    /// Stop after this many records.
    #[arg(long)]
    count: Option<u64>,
    /// The topic, if not the one of the example.
    #[arg(long)]
    topic: Option<String>,
    #[arg(long, value_name = "HOST:PORT,…")]
    bootstrap_servers: String,
    /// Confluent-compatible schema registry; needed for the Avro data sets (sales, clicks).
    #[arg(long, value_name = "URL")]
    schema_registry: Option<String>,
    /// The same seed gives the same data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: Args) -> Result<()> {
    let target = Target {
        bootstrap_servers: args.bootstrap_servers,
        schema_registry: args.schema_registry,
        topic: args.topic.unwrap_or_else(|| args.dataset.topic().to_owned()),
        rate: args.rate,
        history: std::time::Duration::ZERO,
        count: args.count,
        seed: args.seed,
    };
    let sent = produce(args.dataset, &target, &*stop_on_signal(Arc::new(AtomicBool::new(false)))?)?;
    eprintln!("{sent} records sent to {}", target.topic);
    Ok(())
}
