//! I/O: what the spec refers to.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use sluice_crds::{RestoreFrom, Savepoint, SavepointPhase, SessionCluster, StreamingDeploymentSpec};

use super::validate::FieldError;
use crate::context::Context;
use crate::error::{Result, What};

/// The text of the SQL, or what is wrong with the reference to it.
///
/// # Errors
/// If the API server does not answer.
pub async fn sql(context: &Context, namespace: &str, spec: &StreamingDeploymentSpec) -> Result<Result<String, FieldError>> {
    let Some(reference) = &spec.sql.config_map_key_ref else { return Ok(Ok(spec.sql.inline.clone().unwrap_or_default())) };
    let missing = |message: String| FieldError { path: "spec.sql.configMapKeyRef".into(), message, reason: "ConfigMapNotFound" };
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(&reference.name).await.what(|| format!("read the ConfigMap {}", reference.name))?;
    let Some(map) = found else { return Ok(Err(missing(format!("there is no ConfigMap '{}' in this namespace", reference.name)))) };
    Ok(map
        .data
        .as_ref()
        .and_then(|d| d.get(&reference.key))
        .cloned()
        .ok_or_else(|| missing(format!("the ConfigMap '{}' has no key '{}'", reference.name, reference.key))))
}

/// The SessionCluster that a deployment names, or why there is none.
///
/// # Errors
/// If the API server does not answer.
pub async fn cluster(context: &Context, namespace: &str, name: Option<&str>) -> Result<Option<Result<SessionCluster, FieldError>>> {
    let Some(name) = name else { return Ok(None) };
    let api: Api<SessionCluster> = Api::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await.what(|| format!("read the SessionCluster {name}"))?;
    Ok(Some(found.ok_or_else(|| FieldError {
        path: "spec.sessionClusterRef.name".into(),
        message: format!("there is no SessionCluster '{name}' in this namespace"),
        reason: "ClusterNotFound",
    })))
}

/// The directory of the Savepoint that `restoreFrom` names, or why there is none.
///
/// # Errors
/// If the API server does not answer.
pub async fn restore(context: &Context, namespace: &str, from: Option<&RestoreFrom>) -> Result<Option<Result<String, String>>> {
    let Some(name) = from.and_then(|f| f.savepoint_ref.as_ref()).map(|r| r.name.as_str()) else { return Ok(None) };
    let api: Api<Savepoint> = Api::namespaced(context.client.clone(), namespace);
    let found = api.get_opt(name).await.what(|| format!("read the Savepoint {name}"))?;
    Ok(Some(match found {
        None => Err(format!("spec.restoreFrom.savepointRef: there is no Savepoint '{name}' in this namespace")),
        Some(savepoint) => {
            let status = savepoint.status.unwrap_or_default();
            match (status.phase, status.path) {
                (SavepointPhase::Completed, Some(path)) => Ok(path),
                (phase, _) => Err(format!("spec.restoreFrom.savepointRef: the Savepoint '{name}' is not complete: {phase:?}")),
            }
        }
    }))
}
