//! Starts Apache Kafka and a schema registry on free ports, prints where they are, and stops them when its input ends: for `make bench`.

use std::io::{Read, stdin};

use sluice_tests::services::Services;

fn main() {
    let services = Services::start();
    println!("{} {}", services.bootstrap, services.registry);
    let _ = stdin().read_to_end(&mut vec![]);
}
