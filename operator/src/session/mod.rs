//! SessionClusters. This version runs none, and says so.

use kube::Api;
use kube::runtime::controller::Action as Next;
use sluice_crds::SessionCluster;

use crate::context::Context;
use crate::deployment::status;
use crate::error::{Result, What};
use crate::k8s::apply;

/// Tells in the conditions that nothing comes of it.
///
/// # Errors
/// If the API server refuses or does not answer.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Next> {
    let api: Api<SessionCluster> = Api::namespaced(context.client.clone(), namespace);
    let Some(object) = api.get_opt(name).await.what(|| format!("read the SessionCluster {name}"))? else { return Ok(Next::await_change()) };
    let generation = object.metadata.generation.unwrap_or(0);
    let mut new = object.status.clone().unwrap_or_default();
    new.observed_generation = Some(generation);
    new.operator_version = Some(env!("CARGO_PKG_VERSION").into());
    let message =
        "this version of the operator runs no session clusters: use StreamingDeployments without sessionClusterRef, and `sluice run`";
    for (kind, holds) in [("Ready", false), ("Stalled", true)] {
        status::set(&mut new.conditions, kind, holds, "NotSupported", message, generation, context.now());
    }
    apply::status(context, &object, object.status.as_ref(), &new).await?;
    Ok(Next::await_change())
}
