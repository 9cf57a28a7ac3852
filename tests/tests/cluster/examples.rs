//! The examples, applied as they are.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_tests::cluster::{Space, holds};
use sluice_tests::engine::Run;
use sluice_tests::registry::Registry;
use sluice_tests::topics;

use crate::{Lab, Test};

pub const TESTS: &[Test] = &[("examples::as_they_are", as_they_are)];

/// The namespace that they name, with the Services that they read.
const NAMESPACE: &str = "flink";
const INPUT: &[&str] = &["flink.sales.records", "cpu_load_stats_real", "pizzas"];
/// Topics of examples that are only seen to run here.
const OTHERS: &[&str] = &["livetransactions", "rules", "alerts", "dry-run-alerts", "current-rules", "rejected-rules"];
const OUTPUT: &[&str] = &[
    "flink.unusual.sales.records",
    "cpu_load_stats_real_filter",
    "cpu_agg_stats",
    "pizza_stream_out_filter",
    "pizza_stream_out_agg",
    "pizza_stream_out_agg_windows",
    "pizza_stream_out_trends",
];
/// Needs a PostgreSQL, which this cluster does not have; `jdbc` and `make demo-iot` run it.
const ELSEWHERE: &str = "03-thresholds.yaml";
/// Windows of half a minute have to pass.
const DEADLINE: Duration = Duration::from_secs(180);

/// `kubectl apply -f examples/`: each of them runs and writes.
fn as_they_are(lab: &Lab) {
    let space = Space::named(&lab.cluster, NAMESPACE);
    let registry = Registry::started_on(&lab.cluster.host);
    leads_to(&space, "my-cluster-kafka-bootstrap", 9092, &lab.kafka);
    leads_to(&space, "apicurio-registry-service", 8080, &registry.address);
    topics::create(&lab.kafka, &INPUT.iter().chain(OTHERS).chain(OUTPUT).map(|t| ((*t).to_owned(), 1)).collect::<Vec<_>>());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = std::fs::read_dir(folder).unwrap().flat_map(|example| std::fs::read_dir(example.unwrap().path()).unwrap());
    let files = files.map(|f| f.unwrap().path().display().to_string()).filter(|f| f.ends_with(".yaml") && !f.ends_with(ELSEWHERE));
    let arguments: Vec<String> = files.flat_map(|f| ["-f".to_owned(), f]).collect();
    lab.cluster.ok(&[&["apply"], arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    lab.cluster.ok(&["-n", NAMESPACE, "wait", "--for=condition=Running", "sdep", "--all", "--timeout=150s"]);
    assert!(space.list("sluice.dev/v1alpha1/streamingdeployments").len() >= OUTPUT.len());
    let generate = |set: &str, rate: &str| {
        Run::start(&["generate", set, "--rate", rate, "--bootstrap-servers", &lab.kafka, "--schema-registry", &registry.url])
    };
    let _data = [generate("sales", "200"), generate("cpu", "100"), generate("pizza", "100")];
    let started = Instant::now();
    for topic in OUTPUT {
        while topics::some_committed(&lab.kafka, topic, 1).is_empty() {
            let reports = || {
                space
                    .list("sluice.dev/v1alpha1/streamingdeployments")
                    .iter()
                    .map(|d| d["status"].to_string())
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            assert!(started.elapsed() < DEADLINE, "{topic}: nothing is written\n{}", reports());
            std::thread::sleep(Duration::from_millis(500));
        }
        eprintln!("  {topic}: {:.0?}", started.elapsed());
    }
    for deployment in space.list("sluice.dev/v1alpha1/streamingdeployments") {
        assert!(holds(&deployment, "Running") && deployment["status"]["restarts"].as_i64().unwrap_or(0) == 0, "{deployment}");
    }
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
