//! Schemas by id and subjects with their versions.

use std::collections::BTreeMap;

use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Schema {
    /// AVRO, JSON or PROTOBUF.
    pub kind: String,
    /// As it was registered.
    pub text: String,
    pub references: Vec<Value>,
    /// What is compared: JSON without white space.
    canonical: String,
}

impl Schema {
    /// # Errors
    /// If the text is not JSON (of a kind that is), or the kind is unknown.
    pub fn new(kind: String, text: String, references: Vec<Value>) -> Result<Self, String> {
        let canonical = match kind.as_str() {
            "AVRO" | "JSON" => {
                let value = serde_json::from_str::<Value>(&text).map_err(|e| format!("{text}: {e}"))?;
                if kind == "AVRO" && !matches!(value, Value::String(_) | Value::Object(_) | Value::Array(_)) {
                    return Err(format!("{text}: not an Avro schema"));
                }
                value.to_string()
            }
            "PROTOBUF" => text.trim().to_owned(),
            other => return Err(format!("of unknown type {other}")),
        };
        Ok(Self { kind, text, references, canonical })
    }

    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.canonical == other.canonical && self.references == other.references
    }
}

#[derive(Clone, Debug)]
pub struct Version {
    pub version: u32,
    pub id: u32,
    pub schema: Schema,
}

/// A schema's id is its position plus one; equal schemas share it in all subjects.
#[derive(Default)]
pub struct Store {
    schemas: Vec<Schema>,
    subjects: BTreeMap<String, Vec<Version>>,
}

impl Store {
    pub fn subjects(&self) -> Vec<&String> {
        self.subjects.keys().collect()
    }

    /// Answers the id, new or known.
    pub fn register(&mut self, subject: &str, schema: Schema) -> u32 {
        let known = self.schemas.iter().position(|s| s.is(&schema));
        let at = known.unwrap_or_else(|| {
            self.schemas.push(schema.clone());
            self.schemas.len() - 1
        });
        let id = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.iter().any(|v| v.id == id) {
            let version = versions.last().map_or(1, |v| v.version + 1);
            versions.push(Version { version, id, schema });
        }
        id
    }

    pub fn versions(&self, subject: &str) -> Option<&[Version]> {
        self.subjects.get(subject).map(Vec::as_slice)
    }

    pub fn delete(&mut self, subject: &str) -> Option<Vec<u32>> {
        self.subjects.remove(subject).map(|versions| versions.iter().map(|v| v.version).collect())
    }

    pub fn schema(&self, id: u32) -> Option<&Schema> {
        usize::try_from(id).ok()?.checked_sub(1).and_then(|at| self.schemas.get(at))
    }

    /// Subjects and versions that have a schema.
    pub fn uses<'a>(&'a self, schema: &'a Schema) -> impl Iterator<Item = (&'a String, u32)> {
        let versions = self.subjects.iter().flat_map(|(subject, versions)| versions.iter().map(move |v| (subject, v)));
        versions.filter(|(_, v)| v.schema.is(schema)).map(|(subject, v)| (subject, v.version))
    }
}
