//! StreamingDeployments: one reconcile is resolve, validate, observe, decide, write the status, act.

mod act;
pub mod build;
pub mod children;
pub mod decide;
pub mod denied;
pub mod duration;
mod finalize;
pub mod mirror;
pub mod observe;
pub mod place;
pub mod refusal;
mod resolve;
pub mod revision;
pub mod schedule;
pub mod status;
mod unknown;
pub mod validate;

use std::time::Duration;

use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::runtime::controller::Action as Next;
use kube::{Api, Resource, ResourceExt};
use sluice_crds::{StreamingDeployment, StreamingDeploymentStatus};

use crate::context::Context;
use crate::error::{NAMESPACE_ENDS, Result, What};
use crate::k8s::{apply, events};
use crate::names;
use build::Owner;
use decide::{Decision, Input, decide};
use observe::Observed;
use validate::{Validated, validate};

/// Brings a deployment one step nearer to its spec.
///
/// # Errors
/// If the API server refuses or does not answer; what a human has to know of that is in the status by then.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Next> {
    let resource = ApiResource::erase::<StreamingDeployment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let Some(raw) = api.get_opt(name).await.what(|| format!("read the StreamingDeployment {name}"))? else {
        forget(context, namespace, name);
        return Ok(Next::await_change());
    };
    let object = match serde_json::to_value(&raw).and_then(serde_json::from_value::<StreamingDeployment>) {
        Ok(object) => object,
        Err(error) => return unknown::show(context, &raw, &error).await,
    };
    let deleting = object.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    if has(&object, names::RECONCILE_ANNOTATION, "paused") && deleting.is_none() {
        tracing::debug!(namespace, name, "paused by annotation");
        return Ok(Next::await_change());
    }
    let owner = Owner { name: name.into(), namespace: namespace.into(), uid: object.metadata.uid.clone().unwrap_or_default() };
    let old = object.status.clone().unwrap_or_default();
    let seen = look(context, &owner, &object, &old).await?;
    // What was refused stays shown until it is not refused any more: no status is written to and fro.
    let refused = context.refusal(namespace, name);
    let decision = decide(&Input {
        owner: &owner,
        generation: generation(&object),
        deleting,
        force_delete: has(&object, names::FORCE_DELETE_ANNOTATION, "true"),
        has_finalizer: object.finalizers().iter().any(|f| f == names::FINALIZER),
        valid: &seen.valid,
        restore_from: object.spec.restore_from.as_ref(),
        observed: &seen.observed,
        status: &old,
        default_image: seen.image.as_deref().unwrap_or(&context.default_image),
        refused: refused.as_ref(),
        now: context.now(),
    });
    context.metrics.phase(namespace, name, decision.status.phase.map(|p| format!("{p:?}")));
    carry_out(context, object, &owner, (&old, refused.as_ref()), &decision).await
}

/// There is no such deployment any more.
fn forget(context: &Context, namespace: &str, name: &str) {
    context.metrics.phase(namespace, name, None);
    context.reads_config_map(namespace, name, None);
    context.uses_cluster(namespace, name, None);
    context.refused(namespace, name, None);
    context.mirror.forget(namespace, name);
    context.denied.forget(namespace, name);
}

fn has(object: &impl ResourceExt, annotation: &str, value: &str) -> bool {
    object.annotations().get(annotation).is_some_and(|v| v == value)
}

fn generation(object: &impl ResourceExt) -> i64 {
    object.meta().generation.unwrap_or(0)
}

/// What a decision rests on, besides the object.
struct Seen {
    valid: Validated,
    observed: Observed,
    /// The session cluster's, if the job is to be in one.
    image: Option<String>,
}

/// Reads what the spec refers to, judges the spec, and looks at what is there.
async fn look(context: &Context, owner: &Owner, object: &StreamingDeployment, old: &StreamingDeploymentStatus) -> Result<Seen> {
    let (namespace, name, spec) = (owner.namespace.as_str(), owner.name.as_str(), &object.spec);
    context.reads_config_map(namespace, name, spec.sql.config_map_key_ref.as_ref().map(|r| r.name.as_str()));
    let sql = resolve::sql(context, namespace, spec).await?;
    let reference = spec.session_cluster_ref.as_ref().map(|r| r.name.as_str());
    context.uses_cluster(namespace, name, reference);
    let cluster = resolve::cluster(context, namespace, reference).await?;
    let valid = validate(name, namespace, spec, sql.as_deref().map_err(Clone::clone), cluster.as_ref());
    // Its pods may be there although it is not any more.
    let cluster = reference.map(|name| match &cluster {
        Some(Ok(cluster)) => place::Cluster::of(cluster),
        _ => place::Cluster { name: name.to_owned(), ..place::Cluster::default() },
    });
    let image = cluster.as_ref().and_then(|c| c.image.clone());
    let mut observed = match observe::observe(context, owner, old, cluster).await {
        Ok(observed) => observed,
        Err(error) => {
            show(context, object, old, old, &error).await;
            return Err(error);
        }
    };
    observed.restore = resolve::restore(context, namespace, spec.restore_from.as_ref()).await?;
    Ok(Seen { valid, observed, image })
}

/// Writes the status, tells the events, then acts. `old`: the status as it was read; `refused`: what the API server refused last.
async fn carry_out(
    context: &Context,
    mut object: StreamingDeployment,
    owner: &Owner,
    (old, refused): (&StreamingDeploymentStatus, Option<&(String, String)>),
    decision: &Decision,
) -> Result<Next> {
    let (namespace, name) = (owner.namespace.as_str(), owner.name.as_str());
    let shown = refused.map(|r| refusal::with(&decision.status, old, r, generation(&object), context.now()));
    let shown = shown.as_ref().unwrap_or(&decision.status);
    let written = apply::status(context, &object, object.status.as_ref(), shown).await?;
    let soon = written.is_some() || !decision.actions.is_empty();
    if written.is_some() {
        object.metadata.resource_version = written;
    }
    // Before the actions: if one fails the next decision begins at the status that is written, and would not tell this again.
    events::publish(context, &object.object_ref(&()), &decision.events).await;
    for action in &decision.actions {
        if let Err(error) = act::act(context, &object, owner, action).await {
            if error.reason() == NAMESPACE_ENDS && object.metadata.deletion_timestamp.is_some() {
                // What onDelete asks for cannot be made any more, and the pods go in any case.
                tracing::warn!(namespace, name, "let go without its last steps: {}", error.text());
                act::act(context, &object, owner, &decide::Action::RemoveFinalizer).await?;
                return Ok(Next::await_change());
            }
            show(context, &object, &decision.status, shown, &error).await;
            return Err(error);
        }
    }
    if refused.is_some() {
        context.refused(namespace, name, None);
        apply::status(context, &object, Some(shown), &decision.status).await?;
    }
    // What was just written is to be looked at: the watch tells of it, too, but not of a job's own state.
    let wait = Duration::try_from(decision.requeue).unwrap_or(Duration::from_secs(30));
    Ok(Next::requeue(if soon { wait.min(Duration::from_millis(500)) } else { wait }))
}

/// Shows an error that needs a human: a quota, a right that is missing. `shown`: the status as it is written.
async fn show(
    context: &Context,
    object: &StreamingDeployment,
    status: &StreamingDeploymentStatus,
    shown: &StreamingDeploymentStatus,
    error: &crate::error::Error,
) {
    if !error.is_terminal() {
        return;
    }
    let refusal = (error.reason().to_owned(), error.text());
    let new = refusal::with(status, shown, &refusal, generation(object), context.now());
    context.refused(&object.namespace().unwrap_or_default(), &object.name_any(), Some(refusal));
    if let Err(error) = apply::status(context, object, Some(shown), &new).await {
        tracing::warn!(name = object.name_any(), "{}", error.text());
    }
}
