//! Where SQL comes from: a script, or a StreamingDeployment in YAML.

use std::path::Path;

use serde::Deserialize;
use sluice_batch::{Error, Result};
use sluice_crds::StreamingDeployment;

/// Annotation naming the data generators that `sluice run --local` starts, e.g. `sales`, `pizza,cpu`.
pub const GENERATE_ANNOTATION: &str = "sluice.dev/local-generate";

/// SQL with what surrounds it.
#[derive(Debug, Default)]
pub struct Source {
    pub sql: String,
    /// The deployment's.
    pub name: Option<String>,
    pub variables: Vec<(String, String)>,
    pub settings: Vec<(String, String)>,
    pub generators: Vec<String>,
    pub parallelism: Option<u32>,
}

/// The SQL of a file: the whole text, or that of the StreamingDeployment called `name` (the only one, if none is asked for).
///
/// # Errors
/// If YAML does not parse, or does not hold exactly the deployment asked for.
pub fn read(file: &Path, text: &str, name: Option<&str>) -> Result<Source> {
    let yaml = file.extension().is_some_and(|e| e == "yaml" || e == "yml");
    if !yaml {
        return Ok(Source { sql: text.to_owned(), ..Source::default() });
    }
    let mut found = deployments(file, text)?;
    if let Some(name) = name {
        found.retain(|d| d.metadata.name.as_deref() == Some(name));
    }
    match found.len() {
        1 => from_deployment(file, &found.remove(0)),
        0 => Err(Error::plan(format!(
            "{} holds no StreamingDeployment{}",
            file.display(),
            name.map(|n| format!(" called '{n}'")).unwrap_or_default()
        ))),
        n => Err(Error::plan(format!("{} holds {n} StreamingDeployments", file.display())).hint("choose one with --name")),
    }
}

fn deployments(file: &Path, text: &str) -> Result<Vec<StreamingDeployment>> {
    let bad = |e: serde_yaml::Error| Error::plan(format!("{}: {e}", file.display()));
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document).map_err(bad)?;
        if value.get("kind").and_then(|k| k.as_str()) == Some("StreamingDeployment") {
            found.push(serde_yaml::from_value(value).map_err(bad)?);
        }
    }
    Ok(found)
}

fn from_deployment(file: &Path, deployment: &StreamingDeployment) -> Result<Source> {
    let spec = &deployment.spec;
    let Some(sql) = spec.sql.inline.clone() else {
        return Err(Error::unsupported("sql.configMapKeyRef outside Kubernetes")
            .hint(format!("put the SQL into {} as sql.inline, or run the script itself", file.display())));
    };
    let generate = deployment.metadata.annotations.as_ref().and_then(|a| a.get(GENERATE_ANNOTATION));
    Ok(Source {
        sql,
        name: deployment.metadata.name.clone(),
        variables: spec.variables.clone().into_iter().collect(),
        settings: spec.config.clone().into_iter().collect(),
        parallelism: spec.parallelism,
        generators: generate.map(|g| g.split(',').map(|g| g.trim().to_owned()).collect()).unwrap_or_default(),
    })
}
