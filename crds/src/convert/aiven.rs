//! Application versions of Aiven for Apache Flink: tables and a statement as JSON, whose addresses Aiven fills in by integration.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Converted, Document, Options, object, plain, sql};

/// How `Converted::from` begins.
pub const KIND: &str = "Aiven for Apache Flink application";

/// What Aiven's API adds to what it was given.
const SERVER: &[&str] = &["id", "created_at", "created_by", "updated_at", "updated_by", "version"];

/// A version, or an application with its versions.
pub fn is_version(value: &Value) -> bool {
    let is = |v: &Value| v["statement"].is_string() && (v["sources"].is_array() || v["sinks"].is_array());
    is(value) || is(&value["application_version"]) || value["application_versions"].is_array()
}

/// The parameters of a deployment: `{"parallelism": 1, "restart_enabled": true, "version_id": "…"}`.
pub fn is_deployment(value: &Value) -> bool {
    value["kind"].is_null() && !is_version(value) && (value["version_id"].is_string() || value["restart_enabled"].is_boolean())
}

/// A version to a StreamingDeployment.
///
/// # Errors
/// If it has no statement, or a table has no SQL.
pub fn version(mut value: Value, options: &Options) -> Result<Converted, String> {
    let application = value["name"].as_str().map(str::to_owned);
    let running = value.as_object_mut().and_then(|v| v.remove("current_deployment")).filter(|d| !d.is_null());
    let (value, older) = newest(value)?;
    let mut doc = Document::new(value);
    let number = doc.value["version"].as_i64();
    SERVER.iter().for_each(|field| drop(doc.take(&format!("/{field}"))));
    if older > 0 {
        doc.note("application_versions", format!("{older} older versions are left out"));
    }
    let mut places = Places { variables: options.variables.clone(), services: BTreeMap::new() };
    let mut script = String::new();
    for list in ["sources", "sinks"] {
        let tables = doc.take(&format!("/{list}")).and_then(|t| t.as_array().cloned()).unwrap_or_default();
        for (i, table) in tables.into_iter().enumerate() {
            let path = format!("{list}[{i}]");
            let text = table["create_table"].as_str().ok_or_else(|| format!("{path}.create_table is missing"))?;
            let service = table["integration_id"].as_str().unwrap_or_default();
            script.push_str(&places.fill(&mut doc, &path, text.trim().trim_end_matches(';'), service));
            script.push_str(";\n");
            for (field, value) in table.as_object().into_iter().flatten() {
                if !["create_table", "integration_id", "table_id", "table_name", "columns", "options"].contains(&field.as_str()) {
                    doc.note(format!("{path}.{field}"), format!("not carried over ({}): it has no counterpart", plain(value)));
                }
            }
        }
    }
    let statement = doc.text("/statement").ok_or("statement is missing")?;
    script.push_str(statement.trim().trim_end_matches(';'));
    placeholders(&mut doc, &script);
    doc.note("spec.storage", "Aiven keeps state by itself: here it is a new volume of 1Gi; s3://bucket/prefix is the other choice");
    let mut spec = Map::new();
    spec.insert("storage".into(), json!({"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}));
    if !places.variables.is_empty() {
        spec.insert("variables".into(), json!(places.variables));
    }
    spec.insert("sql".into(), json!({"inline": sql::laid_out(options.sql.as_deref().unwrap_or(&script))}));
    let name = application.as_deref().map(kebab).or_else(|| target(&statement).map(|t| kebab(&t))).unwrap_or_default();
    doc.left(&[]);
    let from = format!("{KIND} {}", application.unwrap_or_else(|| name.clone()));
    let from = number.map_or_else(|| from.clone(), |n| format!("{from}, version {n}"));
    let object = object("StreamingDeployment", options.name.as_deref().unwrap_or(&name), options.namespace.as_deref(), Map::new(), spec)?;
    let mut converted = Converted { from, object, notes: doc.notes };
    if let Some(running) = running {
        deploy(&mut converted, running);
    }
    Ok(converted)
}

/// The newest version of an application, and how many are older.
fn newest(mut value: Value) -> Result<(Value, usize), String> {
    if let Some(version) = value.as_object_mut().and_then(|v| v.remove("application_version")) {
        return Ok((version, 0));
    }
    let Some(Value::Array(mut versions)) = value.as_object_mut().and_then(|v| v.remove("application_versions")) else {
        return Ok((value, 0));
    };
    versions.sort_by_key(|v| v["version"].as_i64());
    let newest = versions.pop().ok_or("the application has no version")?;
    Ok((newest, versions.len()))
}

/// Carries the parameters of a deployment over.
pub fn deploy(converted: &mut Converted, deployment: Value) {
    let mut doc = Document::new(deployment);
    let spec = &mut converted.object["spec"];
    let mut front = Map::new();
    if let Some(n) = doc.take("/parallelism") {
        front.insert("parallelism".into(), n);
    }
    if doc.take("/restart_enabled") == Some(false.into()) {
        front.insert("restart".into(), json!({"enabled": false}));
    }
    if let Some(map) = spec.as_object_mut() {
        front.extend(std::mem::take(map));
        *map = front;
    }
    ["id", "version_id", "status", "job_id", "created_at", "created_by", "error_msg", "last_savepoint"]
        .iter()
        .for_each(|f| drop(doc.take(&format!("/{f}"))));
    doc.left(&[("starting_savepoint_id", "savepoints of Flink cannot be read: the job begins with empty state")]);
    converted.notes.extend(doc.notes);
}

/// What Aiven fills in when a job starts.
struct Places {
    variables: BTreeMap<String, String>,
    /// The integrations that a variable stands for.
    services: BTreeMap<String, String>,
}

/// Options that are empty in a version, the variable that takes their place, and what it looks like.
const FILLED_IN: &[(&str, &str, &str, &str)] = &[
    ("properties.bootstrap.servers", "", "KAFKA", "CHANGE-ME:9092"),
    ("url", "jdbc:postgresql://", "POSTGRESQL_URL", "jdbc:postgresql://CHANGE-ME:5432/defaultdb"),
];

impl Places {
    fn fill(&mut self, doc: &mut Document, path: &str, text: &str, service: &str) -> String {
        let mut text = text.to_owned();
        for (option, empty, variable, example) in FILLED_IN {
            let Some(at) = value_of(&text, option).filter(|at| &text[at.clone()] == *empty) else { continue };
            let variable = self.variable(variable, service);
            text.replace_range(at, &format!("${{{variable}}}"));
            if !self.variables.contains_key(&variable) {
                self.variables.insert(variable.clone(), (*example).into());
                let of = if service.is_empty() { String::new() } else { format!(" from the integration {service}") };
                doc.note(format!("{path}.create_table"), format!("Aiven fills in '{option}'{of}: set spec.variables.{variable}"));
            }
            let more = match *option {
                "url" => "Aiven fills in the login, too: add 'username' and 'password' = '{{secret:name/key}}' to the table",
                _ => {
                    "Aiven fills in certificates, too: if your Kafka asks for them add 'properties.security.protocol' and what belongs to it"
                }
            };
            let note = super::Note { path: format!("{path}.create_table"), text: more.into() };
            if !doc.notes.iter().any(|n| n.text == note.text) || *option == "url" {
                doc.notes.push(note);
            }
        }
        text
    }

    /// One variable an integration: KAFKA, KAFKA_2.
    fn variable(&mut self, base: &str, service: &str) -> String {
        for n in 1.. {
            let name = if n == 1 { base.to_owned() } else { format!("{base}_{n}") };
            if self.services.entry(name.clone()).or_insert_with(|| service.to_owned()) == service {
                return name;
            }
        }
        base.to_owned()
    }
}

/// Where the value of a table's option stands, within its quotes.
fn value_of(text: &str, option: &str) -> Option<std::ops::Range<usize>> {
    let key = format!("'{option}'");
    let after = text.find(&key)? + key.len();
    let equals = after + text[after..].find(|c: char| !c.is_whitespace()).filter(|i| text[after + i..].starts_with('='))?;
    let open = equals + 1 + text[equals + 1..].find(|c: char| !c.is_whitespace()).filter(|i| text[equals + 1 + i..].starts_with('\''))?;
    let close = open + 1 + text[open + 1..].find('\'')?;
    Some(open + 1..close)
}

/// `'$SLACK_TOKEN'` and `<CHANNEL_ID>`, which a tutorial tells its readers to replace.
fn placeholders(doc: &mut Document, script: &str) {
    for part in script.split('\'').skip(1).step_by(2) {
        let name = part.strip_prefix('$').or_else(|| part.strip_prefix('<')?.strip_suffix('>'));
        if name.is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_uppercase() || c == '_')) {
            doc.note("statement", format!("'{part}' stands as it is: replace it, a password or token by {{{{secret:name/key}}}}"));
        }
    }
}

/// The table that the statement writes.
fn target(statement: &str) -> Option<String> {
    let mut words = statement.split_whitespace().skip_while(|w| !w.eq_ignore_ascii_case("into"));
    words.next()?;
    words.next().map(|name| name.split('(').next().unwrap_or_default().trim_matches('`').to_owned())
}

/// `BasicFiltering`, `pizza_filtered` and `Basic Filtering` as Kubernetes names.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
                out.push('-');
            }
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
        before = c;
    }
    out.trim_end_matches('-').to_owned()
}
