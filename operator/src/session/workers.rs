//! I/O: the pods of a SessionCluster, and what the sessions in them say.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::context::Context;
use crate::deployment::observe::{PodView, pod_view};
use crate::error::Result;
use crate::k8s::children::list;
use crate::names;
use crate::runtime_api::SessionInfo;

/// A pod of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worker {
    pub pod: PodView,
    pub ready: bool,
    /// Hash of what it was made of.
    pub template: Option<String>,
    /// None if its process does not run; else what it says, or why it says nothing: nobody knows then which jobs it has.
    pub session: Option<std::result::Result<SessionInfo, String>>,
}

impl Worker {
    /// Its place in the StatefulSet.
    pub fn ordinal(&self) -> i32 {
        self.pod.name.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(i32::MAX)
    }

    pub fn answer(&self) -> Option<&SessionInfo> {
        self.session.as_ref().and_then(|s| s.as_ref().ok())
    }

    /// It may run jobs, but does not say which.
    pub fn is_silent(&self) -> bool {
        matches!(self.session, Some(Err(_)))
    }
}

/// All pods of a cluster, by their places.
///
/// # Errors
/// If the API server does not answer. A session that does not answer is an observation.
pub async fn workers(context: &Context, namespace: &str, cluster: &str) -> Result<Vec<Worker>> {
    let pods: Vec<Pod> = list(context, namespace, &names::session_selector(cluster)).await?;
    let mut workers: Vec<Worker> = futures::future::join_all(pods.iter().map(|pod| worker(context, pod))).await;
    workers.sort_by_key(Worker::ordinal);
    Ok(workers)
}

async fn worker(context: &Context, pod: &Pod) -> Worker {
    let view = pod_view(pod);
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let session = match &view.address {
        Some(address) if view.running => Some(context.runtime.session(address).await.map_err(|e| e.to_string())),
        None if view.running => Some(Err("the pod has no address".into())),
        _ => None,
    };
    Worker { ready, template: pod.annotations().get(names::TEMPLATE_ANNOTATION).cloned(), session, pod: view }
}
