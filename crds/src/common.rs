//! Pieces that several kinds share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A Kubernetes duration like `30s`, `10m`, `1h30m`: one or more numbers with a unit (ms, s, m, h, d).
pub fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "maxLength": 32})
}

/// Anything: the operator checks it, because the schema of a whole pod would make the CRD too large for `kubectl apply`.
pub fn any_object_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Conditions are a list with `type` as key, so that server-side apply merges them.
pub fn conditions_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Vec::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>::json_schema(generator);
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert("x-kubernetes-list-map-keys".into(), serde_json::json!(["type"]));
    schema
}

/// An object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl LocalRef {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// CPU and memory of a container, as in a Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// What the scheduler reserves, e.g. `cpu: "1"`, `memory: 512Mi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "quantities")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "quantities")]
    pub limits: BTreeMap<String, IntOrString>,
}

/// A quantity may be any whole number (`memory: 4294967296`); [`IntOrString`] holds 32 bits.
#[derive(Deserialize)]
#[serde(untagged)]
enum Quantity {
    Small(i32),
    Large(i64),
    Text(String),
}

impl From<Quantity> for IntOrString {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::Small(n) => Self::Int(n),
            Quantity::Large(n) => Self::String(n.to_string()),
            Quantity::Text(text) => Self::String(text),
        }
    }
}

fn quantities<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, IntOrString>, D::Error> {
    let map = BTreeMap::<String, Quantity>::deserialize(from)?;
    Ok(map.into_iter().map(|(name, quantity)| (name, quantity.into())).collect())
}

fn quantity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IntOrString>, D::Error> {
    Ok(Option::<Quantity>::deserialize(from)?.map(Into::into))
}

/// Where state, checkpoints and savepoints are kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.uri.startsWith('file://') == has(self.volumeClaim)")
    .message("volumeClaim is needed for a file:// uri, and is of no use for others")
    .field_path(".volumeClaim"))]
pub struct Storage {
    /// Where: `file:///path` (a volume is mounted there), or `s3://bucket/prefix`.
    #[schemars(length(max = 1024), regex(pattern = "^(file:///|s3://|gs://|abfs://).+"))]
    pub uri: String,
    /// A Secret with credentials, given to the pods as environment variables (`AWS_ACCESS_KEY_ID`, …). The operator does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalRef>,
    /// The volume for a `file://` uri.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_claim: Option<VolumeClaim>,
}

/// A PersistentVolumeClaim: one that is there, or one that the operator makes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.existingClaim) != has(self.size)")
    .message("exactly one of existingClaim and size is needed"))]
#[x_kube(validation = Rule::new("!has(self.existingClaim) || !has(self.storageClassName)")
    .message("storageClassName is for a claim that the operator makes; remove it or existingClaim"))]
pub struct VolumeClaim {
    /// A claim that is there already; the operator never deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub existing_claim: Option<String>,
    /// Size of a claim that the operator makes, e.g. `10Gi`. It is called `<deployment>-state`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "quantity")]
    pub size: Option<IntOrString>,
    /// Storage class of that claim; the cluster's default if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_are_as_in_a_pod() {
        for (given, read) in [
            (json!(2), IntOrString::Int(2)),
            (json!("2Gi"), IntOrString::String("2Gi".into())),
            (json!(4_294_967_296_i64), IntOrString::String("4294967296".into())),
        ] {
            let resources: Resources = serde_json::from_value(json!({"limits": {"memory": given}})).unwrap();
            assert_eq!(resources.limits["memory"], read);
            let claim: VolumeClaim = serde_json::from_value(json!({"size": given})).unwrap();
            assert_eq!(claim.size, Some(read));
        }
        assert!(serde_json::from_value::<Resources>(json!({"limits": {"memory": [1]}})).is_err());
        assert_eq!(serde_json::from_value::<VolumeClaim>(json!({"existingClaim": "a"})).unwrap().size, None);
    }
}
