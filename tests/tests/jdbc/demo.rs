//! The IoT example with a PostgreSQL that it starts itself.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sluice_tests::engine::{Run, binary};
use sluice_tests::slack::{Slack, TOKEN};

use crate::DEADLINE;

/// `make demo-iot`'s script, until it is interrupted.
fn demo(environment: &[(&str, &str)]) -> Run {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/iot-cpu-anomaly/demo.sh");
    Run::spawn(Command::new(script).arg(binary()).envs(environment.iter().copied()))
}

fn until(run: &mut Run, reached: impl Fn(&Run) -> bool) {
    let started = Instant::now();
    while !reached(run) {
        assert!(!run.ended() && started.elapsed() < DEADLINE, "{}{}", run.stdout(), run.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Interrupts it; what it has said. All that it has started ends with it.
fn end(run: Run) -> String {
    let output = run.stop(DEADLINE);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{} {said}", output.status);
    said
}

/// The averages are printed, and the messages logged. The generator has a past, whose windows are over at once; all its loads are above some
/// hosts' thresholds.
pub fn messages_above_the_thresholds() {
    let mut run = demo(&[]);
    let messages = |run: &Run| -> Vec<String> {
        let err = run.stderr();
        err.lines().filter_map(|l| l.split_once("dry run: to C0123456789: host:")).map(|(_, m)| m.to_owned()).collect()
    };
    let doc = |m: &String| m.starts_with("doc CPU: cpu1 avg CPU value:") && m.ends_with(" over the threshold 20");
    until(&mut run, |r| messages(r).iter().any(doc) && messages(r).iter().any(|m| m.ends_with(" over the threshold 60")));
    until(&mut run, |r| r.stdout().lines().filter(|l| l.contains("\"usage_avg\":")).count() > 30);
    end(run);
}

/// With a token they are sent, one a second.
pub fn messages_are_sent() {
    let slack = Slack::started_on("127.0.0.1");
    let mut run = demo(&[("SLACK_TOKEN", TOKEN), ("CHANNEL_ID", "C77"), ("SLACK_API", &slack.url)]);
    until(&mut run, |_| slack.messages().len() >= 3);
    let said = end(run);
    for (channel, text) in slack.messages() {
        assert!(channel == "C77" && text.starts_with("host:") && text.contains(" over the threshold "), "{channel}: {text}");
    }
    assert!(!said.contains(TOKEN), "the token is shown: {said}");
}
