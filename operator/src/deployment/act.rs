//! I/O: does one action. Each may be done again.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use sluice_crds::{
    DeletionPolicy, LocalRef, Savepoint, SavepointPhase, SavepointSpec, SavepointStatus, StreamingDeployment, TRIGGER_LABEL,
};

use super::build::{Kind, Owner};
use super::children::{Child, Kinds};
use super::decide::Action;
use crate::context::Context;
use crate::error::{Result, What};
use crate::k8s::apply;
use crate::names;
use crate::runtime_api::{RuntimeError, SavepointRequest, SavepointState};

/// Does an action.
///
/// # Errors
/// What the API server refuses. A pod that does not answer is no error: it is asked again.
pub async fn act(context: &Context, object: &StreamingDeployment, owner: &Owner, action: &Action) -> Result<()> {
    let result = perform(context, object, owner, action).await;
    // An answer that is an error, or does not come, does not say that nothing was done.
    let unknown = match (&result, action) {
        (Err(_), _) => touched(action),
        (Ok(()), Action::Apply(child)) => pods_of(child.kind),
        (Ok(()), Action::CreateRevision(_) | Action::CreateSavepoint { .. }) => Kinds::NONE,
        (Ok(()), _) => touched(action),
    };
    context.mirror.acted(owner, unknown);
    result
}

/// Kinds of children that an action changes.
fn touched(action: &Action) -> Kinds {
    match action {
        Action::AddFinalizer | Action::RemoveFinalizer | Action::Try(_) | Action::Submit { .. } | Action::Withdraw { .. } => Kinds::NONE,
        Action::CreateRevision(_) | Action::DeleteRevision(_) => Kinds::REVISIONS,
        Action::Apply(child) => Kinds::of(child.kind) | pods_of(child.kind),
        Action::Delete(kind, _) => Kinds::of(*kind) | pods_of(*kind),
        Action::DeletePod(_) => Kinds::PODS | Kinds::STATEFUL_SETS,
        Action::CreateSavepoint { .. } | Action::DeleteSavepoint(_) | Action::TakeSavepoint { .. } | Action::EndSavepoint { .. } => {
            Kinds::SAVEPOINTS
        }
    }
}

fn pods_of(kind: Kind) -> Kinds {
    if matches!(kind, Kind::StatefulSet | Kind::Job) { Kinds::PODS } else { Kinds::NONE }
}

/// The answer to an apply is what the next look sees.
fn applied(context: &Context, owner: &Owner, kind: Kind, object: DynamicObject) {
    fn wrote<K: Child>(context: &Context, owner: &Owner, object: DynamicObject) {
        match object.try_parse::<K>() {
            Ok(object) => context.mirror.wrote(&object),
            Err(_) => context.mirror.acted(owner, K::KIND),
        }
    }
    match kind {
        Kind::ConfigMap => wrote::<ConfigMap>(context, owner, object),
        Kind::ServiceAccount => wrote::<ServiceAccount>(context, owner, object),
        Kind::PersistentVolumeClaim => wrote::<PersistentVolumeClaim>(context, owner, object),
        Kind::Service => wrote::<Service>(context, owner, object),
        Kind::PodDisruptionBudget => wrote::<PodDisruptionBudget>(context, owner, object),
        Kind::StatefulSet => wrote::<StatefulSet>(context, owner, object),
        Kind::Job => wrote::<Job>(context, owner, object),
    }
}

async fn perform(context: &Context, object: &StreamingDeployment, owner: &Owner, action: &Action) -> Result<()> {
    let ns = owner.namespace.as_str();
    match action {
        Action::AddFinalizer => apply::finalizer(context, object, names::FINALIZER, true).await,
        Action::RemoveFinalizer => apply::finalizer(context, object, names::FINALIZER, false).await,
        Action::CreateRevision(revision) => {
            let stored = revision.to_object(owner);
            create::<ControllerRevision>(context, owner, &stored).await
        }
        Action::Apply(child) => {
            let object = apply::child(context, ns, child).await?;
            applied(context, owner, child.kind, object);
            Ok(())
        }
        Action::Try(child) => apply::dry_run(context, ns, child).await,
        Action::Delete(kind, name) => apply::delete(context, ns, *kind, name).await,
        Action::DeleteRevision(name) => apply::delete_typed::<ControllerRevision>(context, ns, name).await,
        Action::DeletePod(name) => apply::delete_typed::<Pod>(context, ns, name).await,
        Action::DeleteSavepoint(name) => apply::delete_typed::<Savepoint>(context, ns, name).await,
        Action::Submit { host, submission } => heard(owner, context.runtime.submit(host, &owner.name, submission).await),
        Action::Withdraw { host } => heard(owner, context.runtime.withdraw(host, &owner.name).await),
        Action::CreateSavepoint { name, trigger, path, owned, deletion } => {
            let spec = SavepointSpec {
                deployment_ref: Some(LocalRef::new(&owner.name)),
                path: path.clone(),
                deletion_policy: *deletion,
                timeout: "10m".into(),
                backoff_limit: 3,
                ..SavepointSpec::default()
            };
            create::<Savepoint>(context, owner, &savepoint(owner, name, trigger, spec, *owned)).await
        }
        Action::TakeSavepoint { address, request } => take(context, owner, address, request).await,
        Action::EndSavepoint { name, revision, outcome } => end(context, ns, name, *revision, outcome).await,
    }
}

/// A session that does not answer, or has no room any more, is asked again.
fn heard(owner: &Owner, answer: Result<(), RuntimeError>) -> Result<()> {
    match answer {
        Err(error @ (RuntimeError::Unreachable { .. } | RuntimeError::Refused { status: 409 | 503, .. })) => {
            tracing::warn!(namespace = owner.namespace, name = owner.name, "{error}");
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Creates an object; one that is there already is the one that was to be made.
async fn create<K: Child + serde::Serialize>(context: &Context, owner: &Owner, object: &K) -> Result<()> {
    context.metrics.writes.inc();
    let api: Api<K> = Api::namespaced(context.client.clone(), &owner.namespace);
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PostParams::default() };
    match api.create(&params, object).await {
        Ok(made) => context.mirror.wrote(&made),
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => context.mirror.acted(owner, K::KIND),
        Err(error) => {
            return Err(error).what(|| format!("create the {} {}", K::kind(&()), object.meta().name.as_deref().unwrap_or_default()));
        }
    }
    Ok(())
}

fn savepoint(owner: &Owner, name: &str, trigger: &str, spec: SavepointSpec, owned: bool) -> Savepoint {
    let mut labels: BTreeMap<String, String> = names::labels(&owner.name);
    labels.insert(TRIGGER_LABEL.into(), trigger.into());
    let deletes = spec.deletion_policy == DeletionPolicy::Delete;
    let mut object = Savepoint::new(name, spec);
    object.metadata = if owned { owner.metadata(name.into(), labels) } else { owner.free_metadata(name.into(), labels) };
    object.metadata.finalizers = deletes.then(|| vec![names::SAVEPOINT_FINALIZER.into()]);
    object
}

async fn take(context: &Context, owner: &Owner, address: &str, request: &SavepointRequest) -> Result<()> {
    let name = request.directory.rsplit('/').next().unwrap_or_default();
    match context.runtime.savepoint(address, request).await {
        // The answer may be all that there is: the pod need not be there any more when it is asked next.
        Ok(info) if info.state == SavepointState::Completed => {
            end(context, &owner.namespace, name, 0, &Ok((request.directory.clone(), info.size_bytes))).await
        }
        Ok(info) if info.state == SavepointState::Failed => {
            end(context, &owner.namespace, name, 0, &Err(info.error.unwrap_or_else(|| "no reason given".into()))).await
        }
        Ok(_) => Ok(()),
        Err(error @ RuntimeError::Unreachable { .. }) => {
            tracing::warn!(namespace = owner.namespace, name = owner.name, "{error}");
            Ok(())
        }
        // Another savepoint is under way: asked again.
        Err(RuntimeError::Refused { status: 409 | 503, .. }) => Ok(()),
        Err(error) => end(context, &owner.namespace, name, 0, &Err(error.to_string())).await,
    }
}

/// Writes the status of a Savepoint that an operation took. What has ended stays as it is.
async fn end(context: &Context, namespace: &str, name: &str, revision: i64, outcome: &Result<(String, Option<i64>), String>) -> Result<()> {
    let api: Api<Savepoint> = Api::namespaced(context.client.clone(), namespace);
    let Some(object) = api.get_opt(name).await.what(|| format!("read the Savepoint {name}"))? else { return Ok(()) };
    let old = object.status.clone().unwrap_or_default();
    if !matches!(old.phase, SavepointPhase::Pending | SavepointPhase::InProgress) {
        return Ok(());
    }
    let now = context.now();
    let mut new = SavepointStatus {
        observed_generation: object.metadata.generation,
        started_at: old.started_at.clone().or_else(|| object.metadata.creation_timestamp.clone()),
        completed_at: Some(Time(now)),
        revision: (revision > 0).then_some(revision).or(old.revision),
        ..old.clone()
    };
    match outcome {
        Ok((path, size)) => (new.phase, new.path, new.size_bytes) = (SavepointPhase::Completed, Some(path.clone()), *size),
        Err(message) => (new.phase, new.message) = (SavepointPhase::Failed, Some(message.clone())),
    }
    crate::savepoint::conditions(&mut new, object.metadata.generation.unwrap_or(0), now);
    apply::status(context, &object, object.status.as_ref(), &new).await.map(drop)
}
