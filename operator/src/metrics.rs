//! Metrics of the operator itself, in the OpenMetrics text format.

use std::collections::BTreeMap;
use std::sync::Mutex;

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
    pub duration: Histogram,
    pub leader: Gauge,
    deployments: Family<InPhase, Gauge>,
    /// Phase by namespace and name.
    phases: Mutex<BTreeMap<(String, String), String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sluice_operator");
        let metrics = Self {
            reconciles: Family::default(),
            failures: Family::default(),
            writes: Counter::default(),
            duration: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            leader: Gauge::default(),
            deployments: Family::default(),
            phases: Mutex::default(),
            registry: Registry::default(),
        };
        registry.register("reconciles", "Reconciles", metrics.reconciles.clone());
        registry.register("reconcile_failures", "Reconciles that ended with an error", metrics.failures.clone());
        registry.register("writes", "Requests that change something", metrics.writes.clone());
        registry.register("reconcile_duration_seconds", "Time of a reconcile", metrics.duration.clone());
        registry.register("leader", "1 if this process holds the lease", metrics.leader.clone());
        registry.register("deployments", "StreamingDeployments by phase", metrics.deployments.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// # Errors
    /// Never in practice: writing to a String.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
    }
}
