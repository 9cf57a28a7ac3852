//! Pure: everything that is wrong with the spec of a SessionCluster.

use sluice_crds::{SessionClusterSpec, StreamingDeploymentSpec, Workers};

use crate::deployment::validate::{FieldError, shared_rules};

/// All that is wrong. What it has in common with a StreamingDeployment (storage, resources, podOverrides, config) is judged by the same rules.
pub fn errors(name: &str, spec: &SessionClusterSpec) -> Vec<FieldError> {
    let like = StreamingDeploymentSpec {
        storage: spec.storage.clone(),
        workers: Some(Workers { replicas: None, resources: spec.workers.resources.clone() }),
        pod_overrides: spec.pod_overrides.clone(),
        config: spec.config.clone(),
        ..StreamingDeploymentSpec::default()
    };
    let mut errors = shared_rules(name, &like);
    let mut error = |path: &str, message: &str| errors.push(FieldError { path: path.into(), message: message.into(), reason: "Invalid" });
    if spec.workers.replicas < 1 {
        error("spec.workers.replicas", "must be 1 or more");
    }
    if spec.workers.slots < 1 {
        error("spec.workers.slots", "must be 1 or more");
    }
    if !(1..=65535).contains(&spec.gateway.port) {
        error("spec.gateway.port", "must be a port from 1 to 65535");
    }
    let own_claim = spec.storage.as_ref().and_then(|s| s.volume_claim.as_ref()).is_some_and(|c| c.size.is_some());
    if spec.workers.replicas > 1 && own_claim {
        let message = "several pods cannot share the volume that the operator makes: use s3://, or spec.storage.volumeClaim.existingClaim \
                       with a claim that many may write (ReadWriteMany)";
        error("spec.workers.replicas", message);
    }
    let mut secrets = spec.secrets.clone();
    secrets.sort();
    secrets.dedup();
    if secrets.len() != spec.secrets.len() {
        error("spec.secrets", "names a Secret twice");
    }
    errors
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let volume = |claim: serde_json::Value| json!({"uri": "file:///state", "volumeClaim": claim});
        for (spec, path, words) in [
            (json!({}), "", ""),
            (json!({"workers": {"replicas": 3, "slots": 4}, "storage": {"uri": "s3://a/b"}}), "", ""),
            (json!({"workers": {"replicas": 2}, "storage": volume(json!({"existingClaim": "x"}))}), "", ""),
            (json!({"workers": {"replicas": 2}, "storage": volume(json!({"size": "1Gi"}))}), "spec.workers.replicas", "ReadWriteMany"),
            (json!({"workers": {"slots": 0}}), "spec.workers.slots", "1 or more"),
            (json!({"storage": {"uri": "gs://a"}}), "spec.storage.uri", "not supported"),
            (json!({"storage": volume(json!({"size": "x"}))}), "spec.storage.volumeClaim.size", "10Gi"),
            (json!({"workers": {"resources": {"limits": {"memory": "1 Gi"}}}}), "spec.workers.resources.limits.memory", "quantity"),
            (json!({"podOverrides": {"spec": {"nodeNmae": "x"}}}), "spec.podOverrides", "nodeNmae"),
            (json!({"config": {"pipeline.name": "x"}}), "spec.config['pipeline.name']", "operator"),
            (json!({"secrets": ["a", "a"]}), "spec.secrets", "twice"),
            (json!({"gateway": {"port": 0}}), "spec.gateway.port", "65535"),
        ] {
            let found = errors("c", &serde_json::from_value(spec.clone()).unwrap());
            match found.as_slice() {
                [] => assert_eq!(path, "", "{spec}"),
                [error] => assert!(error.path == path && error.message.contains(words), "{spec}: {error}"),
                more => unreachable!("{spec}: {more:?}"),
            }
        }
        assert_eq!(errors("a.b", &SessionClusterSpec::default())[0].path, "metadata.name");
    }
}
