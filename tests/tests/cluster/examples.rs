//! The examples, applied as they are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::cluster::{Space, holds};
use sluice_tests::engine::Run;
use sluice_tests::postgres::{PASSWORD, Postgres};
use sluice_tests::registry::Registry;
use sluice_tests::slack::{Slack, TOKEN};
use sluice_tests::topics;
use tempfile::TempDir;

use crate::{Lab, Test, not_here};

pub const TESTS: &[Test] = &[("examples::as_they_are", as_they_are)];

/// The namespace that they name, with the Services that they read.
const NAMESPACE: &str = "flink";
/// Every StreamingDeployment of the examples, with the topics that it writes.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("standalone-etl-anomaly", &["flink.unusual.sales.records"]),
    ("pizza-basic-filtering", &["pizza_stream_out_filter"]),
    ("pizza-aggregating", &["pizza_stream_out_agg"]),
    ("pizza-windowing", &["pizza_stream_out_agg_windows"]),
    ("pizza-trends", &["pizza_stream_out_trends"]),
    ("cpu-filtering", &["cpu_load_stats_real_filter"]),
    ("cpu-windowing", &["cpu_agg_stats"]),
    // To Slack, see below.
    ("cpu-notification", &[]),
    ("fraud-detection", &["alerts", "dry-run-alerts", "current-rules", "rejected-rules"]),
    ("large-sales", &["flink.large.sales"]),
    ("sales-by-user", &["flink.sales.by.user"]),
];
/// Data sets, their topics and records a second.
const INPUT: &[(&str, &str, &str)] = &[
    ("sales", "flink.sales.records", "200"),
    ("cpu", "cpu_load_stats_real", "100"),
    ("pizza", "pizzas", "100"),
    ("transactions", "livetransactions", "50"),
    ("rules", "rules", "1"),
];
/// Windows of half a minute, and waves of pizza toppings of half a minute, have to pass.
const DEADLINE: Duration = Duration::from_secs(180);

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// `kubectl apply -R -f examples/`: each of them runs and writes. Only Slack is another.
fn as_they_are(lab: &Lab) {
    if Space::is_taken(&lab.cluster, NAMESPACE) {
        not_here("the examples are applied in the namespace flink, and this cluster has one that no test has made");
    }
    let space = Space::named(&lab.cluster, NAMESPACE);
    let registry = Registry::started_on(&lab.cluster.host);
    let postgres = Postgres::started_on(&lab.cluster.host);
    postgres.query_in("postgres", &std::fs::read_to_string(examples().join("iot-cpu-anomaly/thresholds.sql")).unwrap());
    leads_to(&space, "my-cluster-kafka-bootstrap", 9092, &lab.kafka);
    leads_to(&space, "apicurio-registry-service", 8080, &registry.address);
    leads_to(&space, "postgresql", 5432, &format!("{}:{}", lab.cluster.host, postgres.port));
    let slack = Slack::started_on(&lab.cluster.host);
    for (name, data) in [("postgresql", json!({"password": PASSWORD})), ("slack", json!({"token": TOKEN}))] {
        space.must_apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}));
    }
    let written = EXAMPLES.iter().flat_map(|(_, topics)| topics.iter().copied());
    let all = INPUT.iter().map(|(_, topic, _)| *topic).chain(written).map(|t| (t.to_owned(), 1)).collect::<Vec<_>>();
    topics::create(&lab.kafka, &all);
    let applied = copied(&[("https://slack.com/api", &slack.url)]);
    lab.cluster.ok(&["apply", "-R", "-f", &applied.path().display().to_string()]);
    let deployments = || space.list("sluice.dev/v1alpha1/streamingdeployments");
    let name = |d: &Value| d["metadata"]["name"].as_str().unwrap().to_owned();
    let known: BTreeSet<String> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(deployments().iter().map(name).collect::<BTreeSet<_>>(), known, "each example has a line in EXAMPLES");
    let started = Instant::now();
    for (name, _) in EXAMPLES {
        space.wait(name, "running", DEADLINE, |d| holds(d, "Running"));
    }
    eprintln!("  {} examples run after {:.0?}", EXAMPLES.len(), started.elapsed());
    let generate = |(set, _, rate): &(&str, &str, &str)| {
        Run::start(&["generate", set, "--rate", rate, "--bootstrap-servers", &lab.kafka, "--schema-registry", &registry.url])
    };
    let data: Vec<Run> = INPUT.iter().map(generate).collect();
    await_rows(lab, &space, &data);
    let started = Instant::now();
    while slack.messages().len() < 3 {
        assert!(started.elapsed() < DEADLINE, "{:?}\n{}", slack.messages(), explain(&space, "cpu-notification"));
        std::thread::sleep(Duration::from_millis(500));
    }
    for (channel, text) in slack.messages() {
        assert!(channel == "C0123456789" && text.starts_with("host:") && text.contains(" over the threshold "), "{channel}: {text}");
    }
    for (name, _) in EXAMPLES {
        let object = space.wait(name, "running still", DEADLINE, |d| holds(d, "Running"));
        assert_eq!(object["status"]["restarts"].as_i64().unwrap_or(0), 0, "{}", explain(&space, name));
    }
}

/// The folders of the examples with their YAML, where some text is replaced.
fn copied(replaced: &[(&str, &str)]) -> TempDir {
    let copy = TempDir::new().unwrap();
    for folder in std::fs::read_dir(examples()).unwrap().map(|f| f.unwrap().path()).filter(|f| f.is_dir()) {
        let to = copy.path().join(folder.file_name().unwrap());
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).filter(|f| f.extension().is_some_and(|e| e == "yaml")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let text = replaced.iter().fold(text, |text, (from, by)| text.replace(from, by));
            std::fs::write(to.join(file.file_name().unwrap()), text).unwrap();
        }
    }
    copy
}

/// Waits until each topic has rows; tells all that is known of the jobs that have not written.
fn await_rows(lab: &Lab, space: &Space, data: &[Run]) {
    let started = Instant::now();
    let mut missing: Vec<(&str, &str)> = EXAMPLES.iter().flat_map(|(name, topics)| topics.iter().map(move |t| (*name, *t))).collect();
    loop {
        missing.retain(|(_, topic)| {
            let there = !topics::some_committed(&lab.kafka, topic, 1).is_empty();
            if there {
                eprintln!("  {topic}: {:.0?}", started.elapsed());
            }
            !there
        });
        if missing.is_empty() {
            return;
        }
        if started.elapsed() > DEADLINE {
            let generators: String = data.iter().map(Run::stderr).collect();
            let jobs: String = missing.iter().map(|(name, _)| explain(space, name)).collect();
            panic!("nothing is written to {missing:?}\ngenerators: {generators}\n{jobs}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What a job says of itself, beside what is known of it.
fn explain(space: &Space, job: &str) -> String {
    let pods = space.pods(job);
    let say = |pod: &Value, what: &str| {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        space.cluster.text(&space.path(&format!("core/v1/pods/{name}:8081/proxy/{what}")))
    };
    let facts: String = pods.iter().flat_map(|pod| [say(pod, "api/v1/job"), say(pod, "metrics")]).collect();
    format!("=== {job}\n{facts}\n{}", space.report(job))
}

/// A Service that leads to this machine.
fn leads_to(space: &Space, name: &str, port: u16, address: &str) {
    let (host, target) = address.split_once(':').unwrap();
    let target: u16 = target.parse().unwrap();
    let ports = |port: u16| json!([{"name": "tcp", "port": port, "protocol": "TCP"}]);
    space.must_apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports(port)}}));
    space.must_apply(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": [host], "conditions": {"ready": true}}], "ports": ports(target),
    }));
}
