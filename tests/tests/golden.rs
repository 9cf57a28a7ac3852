//! Every golden case against real Kafka and a real schema registry, bounded, streaming, stopped with a savepoint in the middle and
//! restored, by several tasks, and by other numbers of tasks from savepoint to savepoint: what Apache Flink answered, we answer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, LazyLock};

use libtest_mimic::{Arguments, Failed, Trial};
use sluice_tests::case::{self, Kind};
use sluice_tests::services::Services;

fn main() {
    let arguments = Arguments::from_args();
    let services: Arc<LazyLock<Services>> = Arc::new(LazyLock::new(Services::start));
    let mut trials = vec![];
    for case in case::all() {
        for kind in [Kind::Bounded, Kind::Streaming, Kind::Restored, Kind::Parallel, Kind::Rescaled] {
            if case.has(kind) {
                let (case, services) = (case.clone(), services.clone());
                let name = format!("{}::{kind:?}", case.name).to_lowercase();
                trials.push(Trial::test(name, move || case.run(&services, kind).map_err(Failed::from)));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Ends the services: `exit` runs no destructors.
    drop(services);
    conclusion.exit();
}
