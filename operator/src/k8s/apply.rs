//! The one generic apply, the one status patch, and deletion.

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::context::Context;
use crate::deployment::build::{Child, Kind};
use crate::error::{Error, Result, What};
use crate::names;

fn params() -> PatchParams {
    // Fields of our children are ours, whoever else has set them.
    PatchParams::apply(names::FIELD_MANAGER).force()
}

fn resource(kind: Kind) -> ApiResource {
    let (group, version) = match kind {
        Kind::ConfigMap | Kind::ServiceAccount | Kind::PersistentVolumeClaim | Kind::Service => ("", "v1"),
        Kind::PodDisruptionBudget => ("policy", "v1"),
        Kind::StatefulSet => ("apps", "v1"),
        Kind::Job => ("batch", "v1"),
    };
    // The plurals of these kinds are regular.
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &format!("{kind:?}")))
}

fn api(context: &Context, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), namespace, &resource(kind))
}

/// Server-side apply of a child; the child as it is then.
///
/// # Errors
/// What the API server refuses.
pub async fn child(context: &Context, namespace: &str, child: &Child) -> Result<DynamicObject> {
    context.metrics.writes.inc();
    let result = api(context, namespace, child.kind).patch(&child.name, &params(), &Patch::Apply(&child.object)).await;
    result.what(|| format!("apply the {:?} {}", child.kind, child.name))
}

/// Asks the API server whether it would take a child; nothing is changed.
///
/// # Errors
/// What the API server refuses.
pub async fn dry_run(context: &Context, namespace: &str, child: &Child) -> Result<()> {
    let result = api(context, namespace, child.kind).patch(&child.name, &params().dry_run(), &Patch::Apply(&child.object)).await;
    result.map(drop).what(|| format!("apply the {:?} {}", child.kind, child.name))
}

/// Deletes a child and what it owns. It is no error if there is none.
///
/// # Errors
/// What the API server refuses.
pub async fn delete(context: &Context, namespace: &str, kind: Kind, name: &str) -> Result<()> {
    context.metrics.writes.inc();
    // A StatefulSet is seen until its pods are gone: until then nothing may take the job's place.
    let policy = if kind == Kind::StatefulSet { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
    let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
    gone(api(context, namespace, kind).delete(name, &params).await.map(drop)).what(|| format!("delete the {kind:?} {name}"))
}

/// Deletes an object of a type that is known.
///
/// # Errors
/// What the API server refuses.
pub async fn delete_typed<K>(context: &Context, namespace: &str, name: &str) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    context.metrics.writes.inc();
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    gone(api.delete(name, &DeleteParams::default()).await.map(drop)).what(|| format!("delete the {} {name}", K::kind(&())))
}

fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

/// Server-side apply of a typed object.
///
/// # Errors
/// What the API server refuses.
pub async fn object<K>(context: &Context, namespace: &str, name: &str, object: &K) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    context.metrics.writes.inc();
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let mut value = to_value(name, object)?;
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    api.patch(name, &params(), &Patch::Apply(&value)).await.map(drop).what(|| format!("apply the {} {name}", K::kind(&())))
}

/// Writes a status, if it is another one; the object's new resource version, if so.
///
/// # Errors
/// What the API server refuses.
pub async fn status<K, S>(context: &Context, object: &K, old: Option<&S>, new: &S) -> Result<Option<String>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    S: Serialize,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let namespace = object.meta().namespace.clone().unwrap_or_default();
    let (old, new) = (to_value(&name, &old)?, to_value(&name, new)?);
    if old == new {
        return Ok(None);
    }
    context.metrics.writes.inc();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    // With the uid, the status of an object that was deleted and made again is not written over.
    let body = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name, "uid": object.meta().uid}, "status": new});
    let result = api.patch_status(&name, &params(), &Patch::Apply(&body)).await;
    result
        .map(|o| Some(o.meta().resource_version.clone().unwrap_or_default()))
        .what(|| format!("write the status of {} {name}", K::kind(&())))
}

fn to_value(what: &str, object: &impl Serialize) -> Result<Value> {
    serde_json::to_value(object).map_err(|source| Error::Json { what: what.to_owned(), source })
}

/// Sets or removes a finalizer of ours with a JSON merge patch, guarded by the resource version.
///
/// # Errors
/// What the API server refuses; a conflict means: look again.
pub async fn finalizer<K>(context: &Context, object: &K, finalizer: &str, present: bool) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let (name, namespace) = (object.meta().name.clone().unwrap_or_default(), object.meta().namespace.clone().unwrap_or_default());
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.retain(|f| f != finalizer);
    if present {
        finalizers.push(finalizer.into());
    }
    context.metrics.writes.inc();
    let api: Api<K> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.meta().resource_version}});
    let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() };
    gone(api.patch(&name, &params, &Patch::Merge(&body)).await.map(drop)).what(|| format!("change the finalizers of {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_are_those_of_kubernetes() {
        for (kind, plural) in [
            (Kind::ConfigMap, "configmaps"),
            (Kind::ServiceAccount, "serviceaccounts"),
            (Kind::PersistentVolumeClaim, "persistentvolumeclaims"),
            (Kind::Service, "services"),
            (Kind::PodDisruptionBudget, "poddisruptionbudgets"),
            (Kind::StatefulSet, "statefulsets"),
            (Kind::Job, "jobs"),
        ] {
            assert_eq!(resource(kind).plural, plural);
        }
    }
}
