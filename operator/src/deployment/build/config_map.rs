//! The ConfigMap of a revision: SQL, variables and settings as a StreamingDeployment that `sluice run` reads.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::{Child, Kind, Owner};
use crate::deployment::revision::Revision;
use crate::names;

/// What `sluice run` reads.
pub fn deployment(owner: &Owner, revision: &Revision) -> Value {
    let template = &revision.template;
    let mut config = template.config.clone();
    config.insert("parallelism.default".into(), template.parallelism.to_string());
    // Only fields that every runtime knows: the image may be older than this operator.
    json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "StreamingDeployment",
        "metadata": {"name": owner.name, "namespace": owner.namespace},
        "spec": {"sql": {"inline": template.sql}, "variables": template.variables, "config": config},
    })
}

pub fn build(owner: &Owner, revision: &Revision) -> Child {
    let text = serde_yaml::to_string(&deployment(owner, revision)).unwrap_or_default();
    Child::new(
        Kind::ConfigMap,
        &ConfigMap {
            metadata: owner.metadata(names::revision(&owner.name, revision.number), names::revision_labels(&owner.name, revision.number)),
            data: Some(BTreeMap::from([(names::JOB_FILE.to_owned(), text)])),
            // A revision never changes.
            immutable: Some(true),
            ..ConfigMap::default()
        },
    )
}
