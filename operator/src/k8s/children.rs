//! Objects that the operator has made: how they are found again, and whether they are as they were applied.

use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::deployment::build::Kind;
use crate::error::{Result, What};
use crate::names;

/// Hashes of what was applied, by kind and name.
pub type Applied = BTreeMap<(Kind, String), String>;

/// Objects of a namespace with these labels.
///
/// # Errors
/// If the API server does not answer.
pub async fn list<K>(context: &Context, namespace: &str, selector: &str) -> Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    versioned(context, namespace, selector).await.map(|(objects, _)| objects)
}

/// The same, with the version of the list.
///
/// # Errors
/// If the API server does not answer.
pub async fn versioned<K>(context: &Context, namespace: &str, selector: &str) -> Result<(Vec<K>, Option<String>)>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let found = api.list(&ListParams::default().labels(selector)).await;
    let list = found.what(|| format!("list {}", K::plural(&())))?;
    Ok((list.items, list.metadata.resource_version))
}

/// Hash of what was applied; None if the object is on its way out.
pub fn applied_hash<K: ResourceExt>(object: &K) -> Option<String> {
    let stays = object.meta().deletion_timestamp.is_none();
    stays.then(|| object.annotations().get(names::HASH_ANNOTATION).cloned().unwrap_or_default())
}

/// Takes note of those that stay.
pub fn note<K: ResourceExt>(applied: &mut Applied, kind: Kind, objects: &[K]) {
    applied.extend(objects.iter().filter_map(|object| Some(((kind, object.name_any()), applied_hash(object)?))));
}
