//! FlinkDeployment and FlinkSessionJob (`flink.apache.org/v1beta1`) whose job is a SQL runner with the SQL in its args or environment.

use serde_json::{Map, Value, json};

use super::settings::{self, carry};
use super::{Converted, Document, Options, object, plain, sql};

/// The container of Flink's pods that a podTemplate is about, and ours.
const CONTAINERS: (&str, &str) = ("flink-main-container", "sluice");
/// Environment variables in which StreamsHub's runner looks for SQL if it has no args.
const STATEMENTS: &str = "SQL_STATEMENTS";

const REASONS: &[(&str, &str)] = &[
    ("spec.image", "it is Flink's: pods run Sluice's image, the operator's default"),
    ("spec.flinkVersion", "there is no Flink"),
    ("spec.serviceAccount", "pods get a ServiceAccount of their own, without rights"),
    ("spec.jobManager", "there is no job manager"),
    ("spec.taskManager.replicas", "all tasks of a job run in one pod; spec.parallelism says how many"),
    ("spec.taskManager.podTemplate", "move what is still needed into spec.podOverrides"),
    ("spec.podTemplate.metadata.name", "pods are named by their revision"),
    ("spec.job.jarURI", "no jar is needed: spec.sql is the job"),
    ("spec.job.entryClass", "no jar is needed: spec.sql is the job"),
    ("spec.job.initialSavepointPath", "savepoints of Flink cannot be read: the job begins with empty state"),
    ("spec.job.savepointTriggerNonce", "create a Savepoint object, or run kubectl sluice savepoint"),
    ("spec.job.checkpointTriggerNonce", "checkpoints are taken by themselves"),
    ("spec.job.savepointRedeployNonce", "use spec.restoreFrom with another nonce"),
    ("spec.ingress", "make an Ingress for the Service <name>-rest:8081 yourself"),
    ("spec.logConfiguration", "the environment variable SLUICE_LOG is the log filter; put it into spec.podOverrides"),
    ("spec.mode", "there is one"),
];

/// An application, or a session cluster if it has no job.
///
/// # Errors
/// If there is no SQL in it.
pub fn deployment(value: Value, options: &Options) -> Result<Converted, String> {
    if value["spec"]["job"].is_null() { session(value, options) } else { job(value, options, None) }
}

/// A job on a session cluster.
///
/// # Errors
/// If there is no SQL in it, or it names no cluster.
pub fn session_job(value: Value, options: &Options) -> Result<Converted, String> {
    let cluster = value["spec"]["deploymentName"].as_str().ok_or("spec.deploymentName, the session cluster, is missing")?.to_owned();
    job(value, options, Some(cluster))
}

fn job(value: Value, options: &Options, cluster: Option<String>) -> Result<Converted, String> {
    let mut doc = Document::new(value);
    let mut spec = Map::new();
    let text = statements(&mut doc, options)?;
    let (text, variables) = environment(&mut doc, &text, options);
    if doc.take("/spec/job/drainOnSavepoint") == Some(true.into()) {
        doc.note("spec.job.drainOnSavepoint", "not carried over: a stop with a savepoint does not drain");
    }
    if let Some(cluster) = &cluster {
        spec.insert("sessionClusterRef".into(), json!({"name": cluster}));
    }
    if let Some(n) = doc.take("/spec/job/parallelism") {
        spec.insert("parallelism".into(), n);
    }
    if doc.text("/spec/job/state").as_deref() == Some("suspended") {
        spec.insert("suspend".into(), true.into());
    }
    if let Some(nonce) = doc.take("/spec/restartNonce") {
        spec.insert("restartNonce".into(), nonce);
    }
    let mode = doc.text("/spec/job/upgradeMode").unwrap_or_else(|| "stateless".into());
    let allow = doc.take("/spec/job/allowNonRestoredState").and_then(|v| v.as_bool()).unwrap_or(false);
    upgrade(&mut doc, &mut spec, &mode, allow);
    let folder = configuration(&mut doc, &mut spec);
    if cluster.is_none() {
        resources(&mut doc, &mut spec, "workers");
        storage(&mut doc, &mut spec, folder, &mode);
        overrides(&mut doc, &mut spec);
    }
    if !variables.is_empty() {
        spec.insert("variables".into(), Value::Object(variables));
    }
    spec.insert("sql".into(), json!({"inline": sql::laid_out(&text)}));
    finish(doc, "StreamingDeployment", options, spec)
}

fn session(value: Value, options: &Options) -> Result<Converted, String> {
    let mut doc = Document::new(value);
    let mut spec = Map::new();
    if let Some(replicas) = doc.take("/spec/taskManager/replicas") {
        spec.insert("workers".into(), json!({"replicas": replicas}));
    }
    if let Some(slots) = doc.text("/spec/flinkConfiguration/taskmanager.numberOfTaskSlots").and_then(|s| s.parse::<i64>().ok()) {
        spec.entry("workers").or_insert_with(|| json!({}))["slots"] = slots.into();
    }
    resources(&mut doc, &mut spec, "workers");
    if let Some(folder) = configuration(&mut doc, &mut spec) {
        storage(&mut doc, &mut spec, Some(folder), "");
    }
    // These are fields of jobs.
    for field in ["checkpoints", "restart", "savepoints", "parallelism"] {
        if let Some(value) = spec.remove(field) {
            doc.note(format!("spec.flinkConfiguration ({field})"), format!("not carried over ({value}): each job says it for itself"));
        }
    }
    overrides(&mut doc, &mut spec);
    finish(doc, "SessionCluster", options, spec)
}

fn finish(mut doc: Document, kind: &str, options: &Options, spec: Map<String, Value>) -> Result<Converted, String> {
    let from = format!("{} {}", plain(&doc.value["kind"]), plain(&doc.value["metadata"]["name"]));
    let name = doc.text("/metadata/name").unwrap_or_default();
    let namespace = doc.text("/metadata/namespace");
    let mut more = Map::new();
    for field in ["labels", "annotations"] {
        if let Some(value) = doc.take(&format!("/metadata/{field}")).filter(|v| v.as_object().is_some_and(|m| !m.is_empty())) {
            more.insert(field.into(), value);
        }
    }
    for silent in ["/apiVersion", "/kind", "/spec/podTemplate/kind", "/spec/podTemplate/apiVersion", "/spec/deploymentName"] {
        doc.take(silent);
    }
    let reasons: Vec<(String, &str)> =
        settings::REASONS.iter().map(|(key, why)| (format!("spec.flinkConfiguration.{key}"), *why)).collect();
    let reasons: Vec<(&str, &str)> = reasons.iter().map(|(path, why)| (path.as_str(), *why)).chain(REASONS.iter().copied()).collect();
    doc.hide_secrets();
    doc.left(&reasons);
    let namespace = options.namespace.clone().or(namespace);
    let object = object(kind, options.name.as_deref().unwrap_or(&name), namespace.as_deref(), more, spec)?;
    Ok(Converted { from, object, notes: doc.notes })
}

/// The text of the SQL: the user's, the args', or that of an environment variable.
fn statements(doc: &mut Document, options: &Options) -> Result<String, String> {
    let args = doc.take("/spec/job/args").unwrap_or_default();
    let args: Vec<String> = args.as_array().into_iter().flatten().map(plain).collect();
    let from_environment = take_variable(doc, STATEMENTS).and_then(|v| v["value"].as_str().map(str::to_owned));
    if let Some(sql) = &options.sql {
        return Ok(sql.clone());
    }
    let text = if args.is_empty() { from_environment.unwrap_or_default() } else { args.join("\n") };
    if looks_like_sql(&text) {
        // Runners that split at every semicolon write those within quotes as \;
        return Ok(text.replace("\\;", ";"));
    }
    let jar = doc.value["spec"]["job"]["jarURI"].as_str().unwrap_or("a jar").to_owned();
    Err(match args.first() {
        Some(arg) => format!(
            "its job ({jar}) is called with '{}', which is no SQL: give the SQL by --sql FILE",
            arg.chars().take(80).collect::<String>()
        ),
        None => format!(
            "its job ({jar}) has no SQL in its args: a program in a jar cannot be converted; if it runs SQL, give that by --sql FILE"
        ),
    })
}

const BEGINNINGS: &[&str] = &["CREATE", "INSERT", "SET", "EXECUTE", "BEGIN", "SELECT", "WITH", "USE", "DROP", "--", "/*"];

fn looks_like_sql(text: &str) -> bool {
    let text = text.trim_start().to_uppercase();
    BEGINNINGS.iter().any(|word| text.starts_with(word))
}

/// The main container of the podTemplate.
fn container(doc: &mut Document) -> Option<&mut Value> {
    let containers = doc.value.pointer_mut("/spec/podTemplate/spec/containers")?.as_array_mut()?;
    containers.iter_mut().find(|c| c["name"] == CONTAINERS.0)
}

/// Takes an environment variable of the main container.
fn take_variable(doc: &mut Document, name: &str) -> Option<Value> {
    let list = container(doc)?.get_mut("env")?.as_array_mut()?;
    let at = list.iter().position(|v| v["name"] == name)?;
    Some(list.remove(at))
}

/// `$(NAME)`, which the kubelet fills in: `{{secret:name/key}}` for a Secret's key, `${NAME}` and a variable for a text.
fn environment(doc: &mut Document, text: &str, options: &Options) -> (String, Map<String, Value>) {
    let mut variables: Map<String, Value> = options.variables.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("$(") {
        out.push_str(before);
        let name =
            after.split_once(')').map(|(name, _)| name).filter(|n| !n.is_empty() && n.chars().all(|c| c.is_alphanumeric() || c == '_'));
        let Some(name) = name else {
            out.push_str("$(");
            rest = after;
            continue;
        };
        let known = container(doc).and_then(|c| c["env"].as_array()?.iter().find(|v| v["name"] == name).cloned()).unwrap_or_default();
        let secret = &known["valueFrom"]["secretKeyRef"];
        match (secret["name"].as_str(), secret["key"].as_str(), known["value"].as_str()) {
            (Some(secret), Some(key), _) => out.push_str(&format!("{{{{secret:{secret}/{key}}}}}")),
            (_, _, Some(value)) => {
                variables.entry(name).or_insert_with(|| value.into());
                out.push_str(&format!("${{{name}}}"));
            }
            _ => {
                out.push_str(&format!("$({name})"));
                doc.note(
                    "spec.sql",
                    format!("$({name}) stands as it is: the document does not say what it is; write ${{{name}}} and spec.variables"),
                );
            }
        }
        rest = &after[name.len() + 1..];
    }
    out.push_str(rest);
    let used: Vec<String> = names_in(text);
    used.iter().for_each(|name| drop(take_variable(doc, name)));
    (out, variables)
}

fn names_in(text: &str) -> Vec<String> {
    text.split("$(").skip(1).filter_map(|part| part.split_once(')').map(|(name, _)| name.to_owned())).collect()
}

fn upgrade(doc: &mut Document, spec: &mut Map<String, Value>, mode: &str, allow: bool) {
    let mut upgrade = Map::new();
    match mode {
        "savepoint" => {}
        "last-state" => drop(upgrade.insert("mode".into(), "LastState".into())),
        "stateless" => {
            // Flink's default, and ours is not.
            upgrade.insert("mode".into(), "Stateless".into());
            doc.note(
                "spec.job.upgradeMode",
                "stateless, as it was: each upgrade begins with empty state. To keep it, remove spec.upgrade.mode and give spec.storage",
            );
        }
        other => {
            doc.note("spec.job.upgradeMode", format!("'{other}' is none of savepoint, last-state and stateless: upgrades take savepoints"))
        }
    }
    if allow {
        upgrade.insert("allowNonRestoredState".into(), true.into());
    }
    if !upgrade.is_empty() {
        spec.insert("upgrade".into(), Value::Object(upgrade));
    }
}

/// Carries settings over; the folder of the state, if they name one.
fn configuration(doc: &mut Document, spec: &mut Map<String, Value>) -> Option<String> {
    let Some(Value::Object(map)) = doc.take("/spec/flinkConfiguration") else { return None };
    let mut flat = vec![];
    flatten(&Value::Object(map), "", &mut flat);
    let folder = settings::FOLDERS.iter().find_map(|key| flat.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()));
    let mut left = Map::new();
    for (key, value) in flat {
        let is_folder = settings::FOLDERS.contains(&key.as_str()) && folder.as_ref() == Some(&value);
        if !is_folder && !carry(&key, &value, spec) {
            left.insert(key, value.into());
        }
    }
    if !left.is_empty() {
        doc.value["spec"]["flinkConfiguration"] = Value::Object(left);
    }
    folder
}

/// Newer operators let settings be nested.
fn flatten(value: &Value, path: &str, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(k, v)| flatten(v, &if path.is_empty() { k.clone() } else { format!("{path}.{k}") }, out))
        }
        Value::Null => {}
        other => out.push((path.into(), plain(other))),
    }
}

/// CPU and memory of a task manager are those of the pod.
fn resources(doc: &mut Document, spec: &mut Map<String, Value>, section: &str) {
    let cpu = doc.text("/spec/taskManager/resource/cpu");
    let given = doc.text("/spec/taskManager/resource/memory");
    let memory = given.as_deref().and_then(settings::memory);
    if let (Some(given), None) = (&given, &memory) {
        doc.note("spec.taskManager.resource.memory", format!("'{given}' is not understood: set spec.workers.resources"));
    }
    let (mut requests, mut limits) = (Map::new(), Map::new());
    if let Some(cpu) = cpu {
        requests.insert("cpu".into(), cpu.strip_suffix(".0").unwrap_or(&cpu).into());
    }
    if let Some(memory) = memory {
        requests.insert("memory".into(), memory.clone().into());
        limits.insert("memory".into(), memory.into());
        doc.note("spec.taskManager.resource", "carried over as it is; most jobs need a small part of it here");
    }
    if requests.is_empty() {
        return;
    }
    let mut resources = json!({"requests": requests});
    if !limits.is_empty() {
        resources["limits"] = Value::Object(limits);
    }
    spec.entry(section).or_insert_with(|| json!({}))["resources"] = resources;
}

/// Where state goes: an S3 prefix as it is, a folder on the volume that was mounted there, else a new volume.
fn storage(doc: &mut Document, spec: &mut Map<String, Value>, folder: Option<String>, mode: &str) {
    let Some(folder) = folder else {
        if mode != "stateless" {
            new_volume(doc, spec, "the document does not say where state is kept");
        }
        return;
    };
    let s3 = ["s3://", "s3a://", "s3p://"].iter().find_map(|scheme| folder.strip_prefix(scheme));
    if let Some(path) = s3 {
        spec.insert("storage".into(), json!({"uri": format!("s3://{path}")}));
        return doc.note(
            "spec.storage.credentialsSecretRef",
            "name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, unless pods get their rights otherwise",
        );
    }
    let local = folder.strip_prefix("file://").or(Some(folder.as_str()).filter(|f| f.starts_with('/')));
    match local.and_then(|path| claim(doc, path)) {
        Some((claim, mount)) => {
            spec.insert("storage".into(), json!({"uri": format!("file://{mount}"), "volumeClaim": {"existingClaim": claim}}));
        }
        None => new_volume(doc, spec, &format!("state was kept in {folder}")),
    }
}

fn new_volume(doc: &mut Document, spec: &mut Map<String, Value>, why: &str) {
    spec.insert("storage".into(), json!({"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}));
    doc.note("spec.storage", format!("{why}: here it is a new volume of 1Gi; s3://bucket/prefix is the other choice"));
}

/// Takes the volume that is mounted above a path: its claim and where it is mounted.
fn claim(doc: &mut Document, path: &str) -> Option<(String, String)> {
    let mounts = container(doc)?.get_mut("volumeMounts")?.as_array_mut()?;
    let above =
        |m: &Value| m["mountPath"].as_str().is_some_and(|at| path == at || path.starts_with(&format!("{}/", at.trim_end_matches('/'))));
    let at = mounts.iter().position(above)?;
    let (name, mount) = (mounts[at]["name"].clone(), mounts[at]["mountPath"].as_str()?.trim_end_matches('/').to_owned());
    let volumes = doc.value.pointer_mut("/spec/podTemplate/spec/volumes")?.as_array_mut()?;
    let volume = volumes.iter().position(|v| v["name"] == name)?;
    let claim = volumes[volume]["persistentVolumeClaim"]["claimName"].as_str()?.to_owned();
    volumes.remove(volume);
    if let Some(mounts) = container(doc).and_then(|c| c.get_mut("volumeMounts")?.as_array_mut()) {
        mounts.remove(at);
    }
    Some((claim, mount))
}

/// What is left of the podTemplate goes over our pod.
fn overrides(doc: &mut Document, spec: &mut Map<String, Value>) {
    if let Some(container) = container(doc) {
        container["name"] = CONTAINERS.1.into();
    }
    let mut overrides = Map::new();
    let metadata =
        ["labels", "annotations"].iter().filter_map(|f| Some(((*f).to_owned(), doc.take(&format!("/spec/podTemplate/metadata/{f}"))?)));
    let metadata: Map<String, Value> = metadata.collect();
    if !metadata.is_empty() {
        overrides.insert("metadata".into(), Value::Object(metadata));
    }
    if let Some(mut pod) = doc.take("/spec/podTemplate/spec") {
        if let Some(account) = pod.as_object_mut().and_then(|p| p.remove("serviceAccountName")) {
            doc.note(
                "spec.podTemplate.spec.serviceAccountName",
                format!("not carried over ({}): pods get one of their own, without rights", plain(&account)),
            );
        }
        prune(&mut pod);
        // A container of which only the name is left says nothing.
        if let Some(containers) = pod.get_mut("containers").and_then(Value::as_array_mut) {
            containers.retain(|c| c.as_object().is_none_or(|c| c.len() > 1));
        }
        prune(&mut pod);
        if pod.as_object().is_some_and(|p| !p.is_empty()) {
            doc.note("spec.podTemplate.spec", "carried over into spec.podOverrides: look whether it is still needed");
            overrides.insert("spec".into(), pod);
        }
    }
    if !overrides.is_empty() {
        spec.insert("podOverrides".into(), Value::Object(overrides));
    }
}

/// Removes empty lists of a pod and its containers.
fn prune(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, v| !v.as_array().is_some_and(Vec::is_empty));
        if let Some(containers) = map.get_mut("containers").and_then(Value::as_array_mut) {
            containers.iter_mut().for_each(prune);
        }
    }
}

impl Document {
    /// Keys of S3 must not get into comments.
    fn hide_secrets(&mut self) {
        if let Some(Value::Object(map)) = self.value.pointer_mut("/spec/flinkConfiguration") {
            let secret = |key: &str| ["key", "secret", "password", "token"].iter().any(|word| key.to_lowercase().contains(word));
            map.iter_mut().filter(|(key, _)| secret(key)).for_each(|(_, value)| *value = "…".into());
        }
    }
}
