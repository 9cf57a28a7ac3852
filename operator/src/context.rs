//! What all controllers share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kube::Client;

use crate::metrics::Metrics;
use crate::runtime_api::RuntimeApi;

/// Client, settings, and what tells time: nothing else asks the system for it.
pub struct Context {
    pub client: Client,
    /// The image of deployments that name none.
    pub default_image: String,
    pub runtime: Arc<dyn RuntimeApi>,
    /// Names this process in events.
    pub instance: String,
    pub metrics: Metrics,
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Which deployments read a ConfigMap, by (namespace, name): a changed ConfigMap is a changed spec.
    config_maps: References,
    /// Which deployments run on a SessionCluster, by (namespace, name).
    clusters: References,
    /// The deployments' children.
    pub mirror: crate::deployment::mirror::Mirror,
    /// Why pods are not there.
    pub denied: crate::deployment::denied::Denied,
    /// What the API server has against the next step of a deployment, by (namespace, name): reason and text for its conditions.
    refusals: Mutex<BTreeMap<(String, String), (String, String)>>,
}

impl Context {
    pub fn new(client: Client, default_image: &str, runtime: Arc<dyn RuntimeApi>) -> Self {
        Self {
            instance: std::env::var("POD_NAME").unwrap_or_else(|_| crate::names::FIELD_MANAGER.into()),
            client,
            default_image: default_image.into(),
            runtime,
            metrics: Metrics::default(),
            clock: Box::new(Timestamp::now),
            config_maps: Mutex::default(),
            clusters: Mutex::default(),
            mirror: crate::deployment::mirror::Mirror::default(),
            denied: crate::deployment::denied::Denied::default(),
            refusals: Mutex::default(),
        }
    }

    /// Now, in whole seconds: what the API server stores.
    pub fn now(&self) -> Timestamp {
        let now = (self.clock)();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    /// Remembers that a deployment reads a ConfigMap; `None`: it reads none.
    pub fn reads_config_map(&self, namespace: &str, deployment: &str, config_map: Option<&str>) {
        refer(&self.config_maps, namespace, deployment, config_map);
    }

    /// Remembers that a deployment runs on a SessionCluster; `None`: on none.
    pub fn uses_cluster(&self, namespace: &str, deployment: &str, cluster: Option<&str>) {
        refer(&self.clusters, namespace, deployment, cluster);
    }

    /// Deployments that run on a SessionCluster.
    pub fn users(&self, namespace: &str, cluster: &str) -> Vec<String> {
        referrers(&self.clusters, namespace, cluster)
    }

    /// The SessionCluster that a deployment runs on.
    pub fn cluster_of(&self, namespace: &str, deployment: &str) -> Option<String> {
        let index = self.clusters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        index.iter().find(|((ns, _), users)| ns == namespace && users.contains(deployment)).map(|((_, name), _)| name.clone())
    }

    /// What was refused when this deployment was looked at last.
    pub fn refusal(&self, namespace: &str, deployment: &str) -> Option<(String, String)> {
        let refusals = self.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        refusals.get(&(namespace.to_owned(), deployment.to_owned())).cloned()
    }

    /// Remembers what was refused; `None`: nothing.
    pub fn refused(&self, namespace: &str, deployment: &str, refusal: Option<(String, String)>) {
        let mut refusals = self.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (namespace.to_owned(), deployment.to_owned());
        match refusal {
            Some(refusal) => drop(refusals.insert(key, refusal)),
            None => drop(refusals.remove(&key)),
        }
    }

    /// Deployments that read a ConfigMap.
    pub fn readers(&self, namespace: &str, config_map: &str) -> Vec<String> {
        referrers(&self.config_maps, namespace, config_map)
    }
}

type References = Mutex<BTreeMap<(String, String), BTreeSet<String>>>;

/// A deployment refers to this object and no other of its kind.
fn refer(index: &References, namespace: &str, deployment: &str, object: Option<&str>) {
    let mut index = index.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for ((ns, name), readers) in index.iter_mut() {
        if ns == namespace && Some(name.as_str()) != object {
            readers.remove(deployment);
        }
    }
    if let Some(name) = object {
        index.entry((namespace.into(), name.into())).or_default().insert(deployment.into());
    }
    index.retain(|_, readers| !readers.is_empty());
}

fn referrers(index: &References, namespace: &str, object: &str) -> Vec<String> {
    let index = index.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    index.get(&(namespace.to_owned(), object.to_owned())).map(|r| r.iter().cloned().collect()).unwrap_or_default()
}
