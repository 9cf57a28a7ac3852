//! SessionClusters: pods that run the jobs of StreamingDeployments which name them. The jobs themselves are looked after by their
//! StreamingDeployments (`deployment::place`); here are the pods, and who may take them away when.

mod build;
mod decide;
mod observe;
mod validate;
pub mod workers;

use std::time::Duration;

use kube::runtime::controller::Action as Next;
use kube::{Api, Resource, ResourceExt};
use sluice_crds::{SessionCluster, StreamingDeployment};

use crate::context::Context;
use crate::deployment::build::Owner;
use crate::deployment::refusal;
use crate::error::{Error, Result, What};
use crate::k8s::{apply, events};
use crate::names;
use decide::{Action, Input, decide};

/// Brings a cluster one step nearer to its spec.
///
/// # Errors
/// If the API server refuses or does not answer.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Next> {
    let api: Api<SessionCluster> = Api::namespaced(context.client.clone(), namespace);
    let refusals = format!("sessioncluster/{name}");
    let Some(mut object) = api.get_opt(name).await.what(|| format!("read the SessionCluster {name}"))? else {
        context.refused(namespace, &refusals, None);
        return Ok(Next::await_change());
    };
    if object.annotations().get(names::RECONCILE_ANNOTATION).is_some_and(|v| v == "paused") && object.metadata.deletion_timestamp.is_none()
    {
        return Ok(Next::await_change());
    }
    let owner = Owner { name: name.into(), namespace: namespace.into(), uid: object.metadata.uid.clone().unwrap_or_default() };
    let seen = observe::observe(context, &owner).await?;
    let now = context.now();
    let decision = decide(&Input { owner: &owner, object: &object, seen: &seen, default_image: &context.default_image, now });
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or(0);
    let refusal = context.refusal(namespace, &refusals);
    let mut shown = decision.status.clone();
    if let Some(refusal) = &refusal {
        refusal::show(&mut shown.conditions, &old.conditions, refusal, generation, now);
    }
    let written = apply::status(context, &object, object.status.as_ref(), &shown).await?;
    let soon = written.is_some() || !decision.actions.is_empty();
    if written.is_some() {
        object.metadata.resource_version = written;
    }
    events::publish(context, &object.object_ref(&()), &decision.events).await;
    for action in &decision.actions {
        if let Err(error) = act(context, &object, namespace, action).await {
            if error.is_terminal() {
                let refusal = (error.reason().to_owned(), error.text());
                let mut new = decision.status.clone();
                refusal::show(&mut new.conditions, &shown.conditions, &refusal, generation, now);
                context.refused(namespace, &refusals, Some(refusal));
                apply::status(context, &object, Some(&shown), &new).await?;
            }
            return Err(error);
        }
    }
    if refusal.is_some() {
        context.refused(namespace, &refusals, None);
        apply::status(context, &object, Some(&shown), &decision.status).await?;
    }
    Ok(Next::requeue(if soon { Duration::from_millis(500) } else { decision.requeue }))
}

async fn act(context: &Context, object: &SessionCluster, namespace: &str, action: &Action) -> Result<()> {
    match action {
        Action::AddFinalizer => apply::finalizer(context, object, names::FINALIZER, true).await,
        Action::RemoveFinalizer => apply::finalizer(context, object, names::FINALIZER, false).await,
        Action::Apply(child) => apply::child(context, namespace, child).await.map(drop),
        Action::Delete(kind, name) => apply::delete(context, namespace, *kind, name).await,
        Action::DeletePod(name) => apply::delete_typed::<k8s_openapi::api::core::v1::Pod>(context, namespace, name).await,
        Action::DeleteDeployment(name) => apply::delete_typed::<StreamingDeployment>(context, namespace, name).await,
        Action::Withdraw { host, job } => match context.runtime.withdraw(host, job).await {
            Err(error @ crate::runtime_api::RuntimeError::Unreachable { .. }) => {
                tracing::warn!(namespace, "{error}");
                Ok(())
            }
            other => other.map_err(Error::from),
        },
    }
}
