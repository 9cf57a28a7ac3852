//! A revision: what the pods of a job are made of. Kept in a ControllerRevision, so that an old one can be started again.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_crds::{Storage, Workers};

use super::build::Owner;
use crate::names;

/// Everything of a spec that a running job depends on. A change of it is a new revision; nothing else is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// None until it is pinned: an operator with another default image must not make a new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The SessionCluster that runs it; its image and storage are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_cluster: Option<String>,
    pub sql: String,
    pub variables: BTreeMap<String, String>,
    pub config: BTreeMap<String, String>,
    pub parallelism: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_nonce: Option<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub restore_nonce: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_overrides: Option<Value>,
    /// Secrets that the SQL names, and their keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Vec<String>>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Template {
    /// Names the content: 16 hexadecimal digits.
    pub fn hash(&self) -> String {
        hash(&serde_json::to_value(self).unwrap_or_default())
    }

    /// Whether its state is on a volume that the operator makes.
    pub fn makes_volume(&self) -> bool {
        let claim = self.storage.as_ref().and_then(|s| s.volume_claim.as_ref());
        self.session_cluster.is_none() && claim.is_some_and(|c| c.existing_claim.is_none())
    }

    pub fn image(&self) -> &str {
        self.image.as_deref().unwrap_or_default()
    }
}

/// A hash of JSON that does not depend on the order of fields.
pub fn hash(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    hex::encode(&Sha256::digest(text.as_bytes())[..8])
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for key in keys {
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(&map[key], out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A numbered, pinned template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Revision {
    pub number: i64,
    /// Of the template before its image was pinned.
    pub hash: String,
    pub template: Template,
}

impl Revision {
    /// Pins the image of a template.
    pub fn new(number: i64, template: &Template, default_image: &str) -> Self {
        let mut pinned = template.clone();
        pinned.image.get_or_insert_with(|| default_image.to_owned());
        Self { number, hash: template.hash(), template: pinned }
    }

    /// As it is stored. A ControllerRevision cannot be changed.
    pub fn to_object(&self, owner: &Owner) -> ControllerRevision {
        let name = names::revision(&owner.name, self.number);
        let mut metadata = owner.metadata(name, names::revision_labels(&owner.name, self.number));
        if let Some(labels) = &mut metadata.labels {
            labels.insert(names::CONTENT_LABEL.into(), self.hash.clone());
        }
        let data = serde_json::to_value(&self.template).unwrap_or_default();
        ControllerRevision { metadata, revision: self.number, data: Some(k8s_openapi::apimachinery::pkg::runtime::RawExtension(data)) }
    }

    /// From what is stored; `None` if it is not one of ours.
    pub fn from_object(object: &ControllerRevision) -> Option<Self> {
        let hash = object.metadata.labels.as_ref()?.get(names::CONTENT_LABEL)?.clone();
        let template = serde_json::from_value(object.data.as_ref()?.0.clone()).ok()?;
        Some(Self { number: object.revision, hash, template })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn template() -> Template {
        Template { sql: "INSERT INTO a SELECT * FROM b".into(), parallelism: 1, ..Template::default() }
    }

    #[test]
    fn the_hash_is_of_what_matters() {
        let base = template().hash();
        let changes: [fn(&mut Template); 7] = [
            |t| t.sql.push(' '),
            |t| t.parallelism = 2,
            |t| t.image = Some("x".into()),
            |t| t.restart_nonce = Some(1),
            |t| t.restore_nonce = 1,
            |t| drop(t.config.insert("a".into(), "b".into())),
            |t| t.pod_overrides = Some(serde_json::json!({"spec": {}})),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut t = template();
            change(&mut t);
            assert_ne!(t.hash(), base, "change {i}");
        }
        assert_eq!(template().hash(), base);
        let (a, b) = (serde_json::json!({"a": 1, "b": [2, {"c": 3, "d": 4}]}), serde_json::json!({"b": [2, {"d": 4, "c": 3}], "a": 1}));
        assert_eq!(hash(&a), hash(&b), "order of fields");
        assert_ne!(hash(&serde_json::json!([1, 2])), hash(&serde_json::json!([2, 1])));
    }

    #[test]
    fn another_default_image_is_no_new_revision() {
        let (old, new) = (Revision::new(1, &template(), "sluice:1"), Revision::new(1, &template(), "sluice:2"));
        assert_eq!(old.hash, new.hash);
        assert_eq!(old.template.image(), "sluice:1");
    }

    #[test]
    fn survives_being_stored() {
        let revision = Revision::new(3, &template(), "sluice:1");
        let owner = Owner { name: "job".into(), namespace: "ns".into(), uid: "u".into() };
        let object = revision.to_object(&owner);
        assert_eq!(object.metadata.name.as_deref(), Some("job-r3"));
        let object = serde_json::from_value(serde_json::to_value(object).unwrap()).unwrap();
        assert_eq!(Revision::from_object(&object).unwrap(), revision);
    }
}
