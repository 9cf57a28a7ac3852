//! `sluice plan FILE`

use std::path::PathBuf;

use sluice_batch::Result;

use super::print;
use crate::script::{self, Step};

#[derive(clap::Args)]
#[command(after_help = "Example:\n  sluice plan examples/anomaly-detection/standalone-etl-anomaly.yaml")]
pub struct Args {
    /// A SQL script, or YAML with a StreamingDeployment.
    file: PathBuf,
    #[command(flatten)]
    sql: script::Args,
}

pub fn plan(args: Args) -> Result<()> {
    let script = script::load(&args.file, &args.sql)?;
    for step in script.steps {
        match step {
            Step::Job { graph, catalog } => {
                print(&sluice_plan::explain(&graph))?;
                let tasks = super::run::parallelism(script.parallelism, &catalog)?;
                if tasks > 1 {
                    let exchanges = sluice_plan::distribute(&graph).describe(&graph);
                    print(&format!(
                        "\nRows between the {tasks} tasks\n{}",
                        exchanges.iter().map(|e| format!("- {e}\n")).collect::<String>()
                    ))?;
                }
            }
            Step::Print(text) => print(&format!(
                "{text}
"
            ))?,
        }
    }
    Ok(())
}
