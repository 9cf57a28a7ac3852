//! Jobs that were written for others, as objects of ours: FlinkDeployments and FlinkSessionJobs of Apache Flink's Kubernetes operator whose jar is
//! a SQL runner (StreamsHub's), and application versions of Aiven for Apache Flink.
//!
//! Nothing is dropped without a word: fields are taken out of a document as they are carried over, and what is left of it is listed.

mod aiven;
mod flink;
mod settings;
pub mod sql;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What the user says beside the documents.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Name of the object; the document's if not said. For a single document.
    pub name: Option<String>,
    /// Namespace; the document's, if it has one, if not said.
    pub namespace: Option<String>,
    /// SQL instead of that in the document, which may be a path in an image.
    pub sql: Option<String>,
    /// Values for variables that take the place of what a platform filled in.
    pub variables: BTreeMap<String, String>,
}

/// Something that was not carried over as it stood, or has to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where in the document: `spec.job.jarURI`.
    pub path: String,
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// An object of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// What it was: `FlinkDeployment standalone-etl-anomaly`.
    pub from: String,
    /// apiVersion, kind, metadata, spec; only what is not a default.
    pub object: Value,
    pub notes: Vec<Note>,
}

/// All of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversion {
    pub objects: Vec<Converted>,
    /// Documents that are none of these kinds, and what else is to be said of the file.
    pub notes: Vec<Note>,
}

/// Converts all documents of a text: YAML, or JSON.
///
/// # Errors
/// If it does not parse, or holds nothing that can be converted: what, and what to do.
pub fn convert(text: &str, options: &Options) -> Result<Conversion, String> {
    let mut result = Conversion::default();
    let mut deployment = None;
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(|e| format!("it is no YAML: {e}"))?;
        match aiven::is_deployment(&value) {
            // Aiven says apart from the version how it is deployed; both may be in one file.
            true => deployment = Some(value),
            false => one(value, options, &mut result)?,
        }
    }
    if let Some(deployment) = deployment {
        match result.objects.iter_mut().find(|o| o.from.starts_with(aiven::KIND)) {
            Some(object) => aiven::deploy(object, deployment),
            None => return Err("these are the parameters of a deployment at Aiven: give the application version, too".into()),
        }
    }
    match result.objects.len() {
        0 => Err(format!("{CONVERTIBLE}; there is none in it{}", others(&result.notes))),
        n if n > 1 && options.name.is_some() => Err(format!("--name is for one object, and there are {n}")),
        _ => Ok(result),
    }
}

const CONVERTIBLE: &str =
    "FlinkDeployments and FlinkSessionJobs whose args are SQL, and application versions of Aiven for Apache Flink can be converted";

fn others(notes: &[Note]) -> String {
    let names: Vec<&str> = notes.iter().map(|n| n.path.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(", only {}", names.join(", ")) }
}

fn one(value: Value, options: &Options, result: &mut Conversion) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if kind == "List" {
        let items = value["items"].as_array().cloned().unwrap_or_default();
        return items.into_iter().try_for_each(|item| one(item, options, result));
    }
    let made = match kind.as_str() {
        "FlinkDeployment" => flink::deployment(value, options),
        "FlinkSessionJob" => flink::session_job(value, options),
        _ if aiven::is_version(&value) => aiven::version(value, options),
        "" => return Err(format!("{CONVERTIBLE}; this is neither")),
        _ => {
            let path = format!("{kind} {name}").trim_end().to_owned();
            result.notes.push(Note { path, text: "left out: it is none of the kinds that are converted".into() });
            return Ok(());
        }
    };
    let made = made.map_err(|message| if name.is_empty() { message } else { format!("{kind} {name}: {message}") })?;
    result.objects.push(made);
    Ok(())
}

impl Conversion {
    /// The YAML, with the notes as comments.
    ///
    /// # Errors
    /// If an object cannot be written as YAML: a defect of ours.
    pub fn to_yaml(&self) -> Result<String, String> {
        let mut parts = vec![];
        for object in &self.objects {
            let mut text = format!("# Converted from {}.\n", object.from);
            if !object.notes.is_empty() {
                text.push_str("# Look at these before you apply it:\n");
            }
            text.extend(object.notes.iter().map(|note| comment(&note.to_string())));
            text.push_str(&serde_yaml::to_string(&object.object).map_err(|e| e.to_string())?);
            parts.push(text);
        }
        let head: String = self.notes.iter().map(|n| comment(&n.to_string())).collect();
        Ok(head + &parts.join("---\n"))
    }
}

/// A note as comment lines: the first with a dash.
fn comment(text: &str) -> String {
    let lines = text.lines().enumerate();
    lines.map(|(i, line)| format!("# {} {line}\n", if i == 0 { '-' } else { ' ' })).collect()
}

/// A document whose fields are taken out one by one.
struct Document {
    value: Value,
    notes: Vec<Note>,
}

/// What the API server writes into objects that are read from it.
const SERVER: &[&str] =
    &["status", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "ownerReferences", "finalizers"];

impl Document {
    fn new(mut value: Value) -> Self {
        for part in ["", "/metadata"] {
            if let Some(Value::Object(map)) = value.pointer_mut(part) {
                SERVER.iter().for_each(|field| drop(map.remove(*field)));
            }
        }
        if let Some(Value::Object(map)) = value.pointer_mut("/metadata/annotations") {
            map.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        Self { value, notes: vec![] }
    }

    fn note(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note { path: path.into(), text: text.into() });
    }

    /// Takes a field out by its JSON pointer; nulls are nothing.
    fn take(&mut self, pointer: &str) -> Option<Value> {
        let (parent, field) = pointer.rsplit_once('/')?;
        let taken = self.value.pointer_mut(parent)?.as_object_mut()?.remove(field)?;
        (!taken.is_null()).then_some(taken)
    }

    fn text(&mut self, pointer: &str) -> Option<String> {
        self.take(pointer).map(|value| plain(&value))
    }

    /// Notes what is left, with the reason for each; `reasons`: beginnings of paths.
    fn left(&mut self, reasons: &[(&str, &str)]) {
        let mut paths = vec![];
        leaves(&self.value, "", &mut paths);
        for (path, value) in paths {
            let reason = reasons.iter().find(|(start, _)| path.starts_with(start)).map_or("it has no counterpart", |(_, reason)| reason);
            let value = if value.len() > 60 || value.contains('\n') { String::new() } else { format!(" ({value})") };
            self.note(path, format!("not carried over{value}: {reason}"));
        }
    }
}

/// Paths and values of what is not empty. Lists stay whole.
fn leaves(value: &Value, path: &str, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                leaves(inner, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, out);
            }
        }
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) => out.push((path.into(), Value::from(items.clone()).to_string())),
        other => out.push((path.into(), plain(other))),
    }
}

/// A scalar as one would write it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An object of ours with its name checked.
fn object(kind: &str, name: &str, namespace: Option<&str>, more: Map<String, Value>, spec: Map<String, Value>) -> Result<Value, String> {
    if name.is_empty() {
        return Err("it has no name: give --name".into());
    }
    if name.len() > 40 || name.contains('.') {
        return Err(format!("the name '{name}' may have at most 40 characters and no dots: give another one by --name"));
    }
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    if let Some(map) = metadata.as_object_mut() {
        map.extend(more);
    }
    Ok(json!({"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}))
}

#[cfg(test)]
mod tests;
