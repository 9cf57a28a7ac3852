//! I/O: the children of a SessionCluster, its pods, and the StreamingDeployments of its namespace.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use sluice_crds::StreamingDeployment;

use super::workers::{Worker, workers};
use crate::context::Context;
use crate::deployment::build::{Kind, Owner};
use crate::deployment::denied::refusal;
use crate::error::{Result, What};
use crate::k8s::children::{Applied, list, note};
use crate::names;

/// Everything that a decision rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Children that are there, with the hash of what was applied.
    pub applied: Applied,
    /// Hash of the storage that the pods were made with; None if there is no StatefulSet.
    pub storage: Option<String>,
    /// Of the StatefulSet.
    pub replicas: i32,
    pub workers: Vec<Worker>,
    pub deployments: Vec<Deployment>,
    /// Why there are no pods: a quota, a policy of the cluster.
    pub refused: Option<String>,
}

/// A StreamingDeployment of the namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deployment {
    pub name: String,
    pub uid: String,
    /// The SessionCluster that it names.
    pub cluster: Option<String>,
    pub deleting: bool,
}

/// Looks at everything that belongs to a cluster.
///
/// # Errors
/// If the API server does not answer.
pub async fn observe(context: &Context, owner: &Owner) -> Result<Seen> {
    let (ns, selector) = (owner.namespace.as_str(), names::session_selector(&owner.name));
    let mut seen = Seen { workers: workers(context, ns, &owner.name).await?, ..Seen::default() };
    // Behind the workers: a job that is seen has its deployment in this list, or has none.
    seen.deployments = deployments(context, ns).await?;
    let sets: Vec<StatefulSet> = list(context, ns, &selector).await?;
    if let Some(set) = sets.iter().find(|s| s.name_any() == names::session(&owner.name)) {
        seen.storage = set.annotations().get(names::STORAGE_ANNOTATION).cloned();
        seen.replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        if seen.workers.is_empty() && seen.replicas > 0 {
            seen.refused = refusal(context, ns, &set.name_any()).await?;
        }
    }
    note(&mut seen.applied, Kind::StatefulSet, &sets);
    note(&mut seen.applied, Kind::Service, &list::<Service>(context, ns, &selector).await?);
    note(&mut seen.applied, Kind::ServiceAccount, &list::<ServiceAccount>(context, ns, &selector).await?);
    note(&mut seen.applied, Kind::PersistentVolumeClaim, &list::<PersistentVolumeClaim>(context, ns, &selector).await?);
    note(&mut seen.applied, Kind::PodDisruptionBudget, &list::<PodDisruptionBudget>(context, ns, &selector).await?);
    Ok(seen)
}

/// What an object of another version may hold is not looked at: one that is not understood is nobody's.
async fn deployments(context: &Context, namespace: &str) -> Result<Vec<Deployment>> {
    #[derive(Clone, Debug, Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        session_cluster_ref: Option<sluice_crds::LocalRef>,
    }
    let resource = kube::core::ApiResource::erase::<StreamingDeployment>(&());
    let api: Api<kube::core::Object<Spec, serde_json::Value>> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let found = api.list(&ListParams::default()).await.what(|| "list streamingdeployments".into())?;
    let one = |d: &kube::core::Object<Spec, serde_json::Value>| Deployment {
        name: d.name_any(),
        uid: d.metadata.uid.clone().unwrap_or_default(),
        cluster: d.spec.session_cluster_ref.as_ref().map(|r| r.name.clone()),
        deleting: d.metadata.deletion_timestamp.is_some(),
    };
    Ok(found.items.iter().map(one).collect())
}
