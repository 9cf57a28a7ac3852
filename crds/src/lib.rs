//! The API of Sluice on Kubernetes: `sluice.dev/v1alpha1`, and the CRD manifests made from it.

mod deployment;

use kube::CustomResourceExt;

pub use deployment::{ConfigMapKeyRef, SqlSource, StreamingDeployment, StreamingDeploymentSpec};

/// The manifests in `manifests/crds/`: file name and YAML.
///
/// # Errors
/// If a definition cannot be written as YAML: a defect of this crate.
pub fn manifests() -> Result<Vec<(String, String)>, serde_yaml::Error> {
    let definitions = [StreamingDeployment::crd()];
    definitions.iter().map(|crd| Ok((format!("{}.yaml", crd.spec.names.plural), serde_yaml::to_string(crd)?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn committed_manifests_are_current() {
        for (name, yaml) in manifests().unwrap() {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds").join(&name);
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(committed, yaml, "{name} is stale: run `cargo run -p sluice-operator -- crds manifests/crds`");
            assert!(yaml.len() < 100_000, "{name} has {} bytes", yaml.len());
        }
    }

    #[test]
    fn unknown_fields_are_rejected() {
        let yaml = "sql: {inline: SELECT 1}\nparalelism: 2";
        assert!(serde_yaml::from_str::<StreamingDeploymentSpec>(yaml).is_err());
    }
}
