//! The IoT example with a PostgreSQL that it starts itself.

use std::path::Path;
use std::process::Command;

use sluice_tests::engine::{Run, binary};

use crate::DEADLINE;

pub fn alerts_above_the_thresholds() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/iot-cpu-anomaly/demo.sh");
    let output = Run::spawn(Command::new(script).arg(binary()).args(["--duration", "8s"])).wait(DEADLINE);
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{err}");
    let alerts: Vec<&str> = out.lines().filter(|l| l.contains("avg CPU value:") && l.contains(" over the threshold ")).collect();
    // The generator has a past, whose windows are over at once; all its loads are above these hosts' thresholds.
    assert!(
        alerts.iter().any(|l| l.contains("host:doc CPU: cpu1")) && alerts.iter().any(|l| l.contains("over the threshold 60")),
        "{out}{err}"
    );
}
