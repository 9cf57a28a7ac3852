//! Metrics of the operator itself, in the OpenMetrics text format.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Kind {
    pub kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Request {
    pub method: String,
    /// Plural of the kind, with a subresource; empty for what is none.
    pub resource: String,
}

impl Request {
    pub fn of(method: &str, path: &str) -> Self {
        // /api/v1/… and /apis/group/version/…, in a namespace or not.
        let rest = path.strip_prefix("/api/v1/").or_else(|| path.strip_prefix("/apis/")?.splitn(3, '/').nth(2)).unwrap_or_default();
        let parts: Vec<&str> = rest.split('/').collect();
        let resource = match &parts[..] {
            ["namespaces", _, plural, _, sub, ..] | [plural, _, sub] if *plural != "namespaces" => format!("{plural}/{sub}"),
            ["namespaces", _, plural, ..] | [plural, ..] => (*plural).to_owned(),
            [] => String::new(),
        };
        Self { method: method.to_owned(), resource }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InPhase {
    namespace: String,
    phase: String,
}

/// Counters of the operator.
pub struct Metrics {
    registry: Registry,
    pub reconciles: Family<Kind, Counter>,
    pub failures: Family<Kind, Counter>,
    pub writes: Counter,
    /// Requests to the API server; a watch is one.
    pub requests: Family<Request, Counter>,
    pub duration: Histogram,
    pub leader: Gauge,
    deployments: Family<InPhase, Gauge>,
    cpu: Counter<f64, AtomicU64>,
    memory: Gauge,
    /// Phase by namespace and name.
    phases: Mutex<BTreeMap<(String, String), String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::default();
        let metrics = Self {
            reconciles: Family::default(),
            failures: Family::default(),
            writes: Counter::default(),
            requests: Family::default(),
            cpu: Counter::default(),
            memory: Gauge::default(),
            duration: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            leader: Gauge::default(),
            deployments: Family::default(),
            phases: Mutex::default(),
            registry: Registry::default(),
        };
        root.register("process_cpu_seconds", "Processor time of this process", metrics.cpu.clone());
        root.register("process_resident_memory_bytes", "Memory of this process", metrics.memory.clone());
        let registry = root.sub_registry_with_prefix("sluice_operator");
        registry.register("reconciles", "Reconciles", metrics.reconciles.clone());
        registry.register("reconcile_failures", "Reconciles that ended with an error", metrics.failures.clone());
        registry.register("api_requests", "Requests to the API server", metrics.requests.clone());
        registry.register("writes", "Requests that change something", metrics.writes.clone());
        registry.register("reconcile_duration_seconds", "Time of a reconcile", metrics.duration.clone());
        registry.register("leader", "1 if this process holds the lease", metrics.leader.clone());
        registry.register("deployments", "StreamingDeployments by phase", metrics.deployments.clone());
        Self { registry: root, ..metrics }
    }
}

impl Metrics {
    /// # Errors
    /// Never in practice: writing to a String.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let (cpu, memory) = process();
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        self.memory.set(memory);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A deployment is in a phase, or gone.
    pub fn phase(&self, namespace: &str, name: &str, phase: Option<String>) {
        let mut phases = self.phases.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        let old = match &phase {
            Some(phase) => phases.insert(key, phase.clone()),
            None => phases.remove(&key),
        };
        let gauge = |phase: String| self.deployments.get_or_create(&InPhase { namespace: namespace.to_owned(), phase }).clone();
        if let Some(old) = old {
            gauge(old).dec();
        }
        if let Some(new) = phase {
            gauge(new).inc();
        }
    }
}

/// Processor time in seconds and resident memory in bytes of this process; 0 where the system does not tell.
#[allow(clippy::cast_precision_loss)]
fn process() -> (f64, i64) {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // Behind the name in parentheses: user and system time are the 12th and 13th, in hundredths of a second.
    let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = times.filter_map(|t| t.parse::<u64>().ok()).sum();
    let status = read("/proc/self/status");
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok());
    (ticks as f64 / 100.0, resident.unwrap_or(0) * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_ask_for() {
        for (path, resource) in [
            ("/api/v1/namespaces/flink/pods", "pods"),
            ("/api/v1/pods", "pods"),
            ("/apis/sluice.dev/v1alpha1/namespaces/flink/streamingdeployments/job/status", "streamingdeployments/status"),
            ("/apis/apps/v1/namespaces/flink/statefulsets/job-r1", "statefulsets"),
            ("/apis/policy/v1/poddisruptionbudgets", "poddisruptionbudgets"),
            ("/version", ""),
        ] {
            assert_eq!(Request::of("GET", path), Request { method: "GET".into(), resource: resource.into() }, "{path}");
        }
    }

    #[test]
    fn a_deployment_is_counted_in_one_phase() {
        let metrics = Metrics::default();
        metrics.phase("ns", "a", Some("Running".into()));
        metrics.phase("ns", "a", Some("Upgrading".into()));
        metrics.phase("ns", "b", Some("Running".into()));
        metrics.phase("ns", "b", None);
        let text = metrics.render().unwrap();
        assert!(text.contains(r#"sluice_operator_deployments{namespace="ns",phase="Upgrading"} 1"#), "{text}");
        assert!(text.contains(r#"sluice_operator_deployments{namespace="ns",phase="Running"} 0"#), "{text}");
        assert!(process().1 > 1 << 20 && text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
