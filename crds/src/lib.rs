//! The API of Sluice on Kubernetes: `sluice.dev/v1alpha1`, and the CRD manifests made from it.

mod common;
pub mod convert;
mod deployment;
mod runtime;
mod savepoint;
mod session;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

pub use common::*;
pub use deployment::*;
pub use runtime::*;
pub use savepoint::*;
pub use session::*;

/// The definitions, as they are installed.
///
/// # Errors
/// If one does not survive being written as JSON: a defect of this crate.
pub fn definitions() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [StreamingDeployment::crd(), Savepoint::crd(), SessionCluster::crd()]
        .into_iter()
        .map(|crd| {
            let mut value = serde_json::to_value(crd)?;
            tidy(&mut value);
            serde_json::from_value(value)
        })
        .collect()
}

/// The manifests in `manifests/crds/`: file name and YAML.
///
/// # Errors
/// If a definition cannot be written as YAML: a defect of this crate.
pub fn manifests() -> Result<Vec<(String, String)>, Box<dyn std::error::Error + Send + Sync>> {
    definitions()?.iter().map(|crd| Ok((format!("{}.yaml", crd.spec.names.plural), serde_yaml::to_string(crd)?))).collect()
}

/// Makes schemas what the API server means: a `null` is a field that is not there (so that defaults apply), and formats are its own.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("nullable");
            if map.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) {
                map.insert("format".into(), "int32".into());
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
