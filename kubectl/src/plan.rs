//! `kubectl sluice plan` and `check`: run by the program `sluice` on this machine, on what the cluster says.
//!
//! Nothing is started on the cluster. The last word has the preflight that the operator does with the target image when a change is applied.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_crds::{SqlSource, StreamingDeployment};
use tempfile::TempDir;

use crate::cluster::{Cluster, Flags, similar};
use crate::error::{Error, Result};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  kubectl sluice plan job.yaml
  kubectl sluice plan standalone-etl-anomaly -n flink

The plan is made on this machine by the program `sluice`, which is looked for at --sluice, beside this program, and on PATH. A file needs no cluster,
unless its SQL is in a ConfigMap that the file does not hold. A name needs: get streamingdeployments, configmaps.")]
pub struct PlanArgs {
    /// A SQL script, YAML with a StreamingDeployment, or the name of one on the cluster.
    #[arg(value_name = "FILE|NAME")]
    target: String,
    #[command(flatten)]
    engine: Engine,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  kubectl sluice check standalone-etl-anomaly changed.yaml && kubectl apply -f changed.yaml
  kubectl sluice check standalone-etl-anomaly changed.sql -o json

The job that runs is asked what state it has, through the API server; the program `sluice` on this machine says what of it the changed SQL would take
up. A .sql file takes the place of the deployment's SQL. Nothing is stopped or changed.

Exit codes: 0 compatible: all state is used; 3 partial: something starts empty; 2 incompatible, or the SQL is wrong; 1 it could not be found out.
Needs: get streamingdeployments, configmaps; list pods; get pods/proxy.")]
pub struct CheckArgs {
    /// The StreamingDeployment that runs.
    name: String,
    /// The changed SQL, or YAML with the changed StreamingDeployment.
    file: PathBuf,
    #[arg(short, long, value_enum, default_value = "text")]
    output: CheckOutput,
    /// State that has no place in the changed SQL may be left behind (upgrade.allowNonRestoredState of the YAML says the same).
    #[arg(long)]
    allow_non_restored_state: bool,
    #[command(flatten)]
    engine: Engine,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CheckOutput {
    Text,
    Json,
}

/// Which `sluice` is asked.
#[derive(clap::Args)]
struct Engine {
    /// The program `sluice`.
    #[arg(long, value_name = "FILE", env = "SLUICE_BINARY")]
    sluice: Option<PathBuf>,
}

impl Engine {
    /// # Errors
    /// If there is none.
    fn find(&self) -> Result<PathBuf> {
        if let Some(path) = &self.sluice {
            return if path.is_file() { Ok(path.clone()) } else { Err(Error::usage(format!("--sluice: there is no {}", path.display()))) };
        }
        let beside = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.join("sluice")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = beside.into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join("sluice")));
        all.into_iter().find(|p| p.is_file()).ok_or_else(|| {
            Error::failed("this needs the program `sluice`, and it is neither beside this program nor on PATH: `make install-kubectl` installs both, --sluice names it")
        })
    }

    /// Says which version answers; the job's image may be another one.
    async fn introduce(&self, program: &Path, image: Option<&str>) {
        let output = tokio::process::Command::new(program).arg("version").output().await;
        let version = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
        let image = image.map(|i| format!("; the job runs {i}")).unwrap_or_default();
        eprintln!("# {version} on this machine ({}){image}", program.display());
    }

    async fn run(&self, program: &Path, args: &[&std::ffi::OsStr]) -> Result<ExitCode> {
        let mut command = tokio::process::Command::new(program);
        let status = command.args(args).stdin(Stdio::null()).status().await;
        let status = status.map_err(|e| Error::failed(format!("cannot run {}: {e}", program.display())))?;
        Ok(ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)))
    }
}

/// # Errors
/// If the file or the deployment is not there.
pub async fn plan(flags: &Flags, args: &PlanArgs) -> Result<ExitCode> {
    let program = args.engine.find()?;
    let folder = temporary()?;
    let mut image = None;
    let file = if is_file(&args.target) {
        let path = PathBuf::from(&args.target);
        if is_yaml(&path) { from_yaml(&Of::Any(flags), &path, folder.path()).await?.0 } else { path }
    } else {
        let cluster = flags.connect().await?;
        let deployment = cluster.deployment(&args.target).await?;
        image = deployment.status.as_ref().and_then(|s| s.image.clone());
        write(folder.path(), &inlined(Some(&cluster), &[], deployment).await?)?
    };
    if std::io::stderr().is_terminal() || image.is_some() {
        args.engine.introduce(&program, image.as_deref()).await;
    }
    args.engine.run(&program, &["plan".as_ref(), file.as_os_str()]).await
}

/// # Errors
/// If something is not there, or the job does not say what its state is.
pub async fn check(cluster: &Cluster, args: &CheckArgs) -> Result<ExitCode> {
    let program = args.engine.find()?;
    let folder = temporary()?;
    let deployment = cluster.deployment(&args.name).await?;
    let image = deployment.status.as_ref().and_then(|s| s.image.clone());
    let (file, allow) = if is_yaml(&args.file) {
        from_yaml(&Of::One(cluster, &deployment.name_any()), &args.file, folder.path()).await?
    } else {
        let sql = std::fs::read_to_string(&args.file).map_err(|e| Error::usage(format!("cannot read {}: {e}", args.file.display())))?;
        let mut changed = deployment.clone();
        changed.spec.sql = SqlSource { inline: Some(sql), config_map_key_ref: None };
        let allow = changed.spec.upgrade.allow_non_restored_state;
        (write(folder.path(), &changed)?, allow)
    };
    let state = state(cluster, &deployment, folder.path()).await?;
    args.engine.introduce(&program, image.as_deref()).await;
    let mut command = vec!["check".as_ref(), state.as_os_str(), file.as_os_str()];
    if allow || args.allow_non_restored_state {
        command.push("--allow-non-restored-state".as_ref());
    }
    if args.output == CheckOutput::Json {
        command.extend(["--output".as_ref(), "json".as_ref()] as [&std::ffi::OsStr; 2]);
    }
    args.engine.run(&program, &command).await
}

/// A folder that looks like a savepoint without rows: what the job that runs says of its state. Else its last savepoint, if that can be read here.
async fn state(cluster: &Cluster, deployment: &StreamingDeployment, folder: &Path) -> Result<PathBuf> {
    let place = cluster.place(deployment).await?;
    if let Some(pod) = place.running() {
        let manifest = cluster.ask(&pod.name_any(), &place.state()).await?;
        let folder = folder.join("state");
        let written = std::fs::create_dir(&folder).and_then(|()| std::fs::write(folder.join("manifest.json"), manifest));
        return written.map(|()| folder).map_err(|e| Error::failed(format!("cannot write a temporary file: {e}")));
    }
    let name = deployment.name_any();
    let last = deployment.status.as_ref().and_then(|s| s.last_savepoint.as_ref()).map(|s| s.path.clone());
    match last {
        Some(path) if path.starts_with("s3") => {
            eprintln!("# {name} does not run: its last savepoint is looked at, {path}");
            Ok(PathBuf::from(path))
        }
        Some(path) => Err(Error::failed(format!(
            "{name} does not run, so it cannot say what its state is; where its volume can be read `sluice check {path} FILE` does"
        ))),
        None => Err(Error::failed(format!("{name} does not run and has no savepoint: there is no state that could be kept"))),
    }
}

fn temporary() -> Result<TempDir> {
    tempfile::Builder::new().prefix("kubectl-sluice").tempdir().map_err(|e| Error::failed(format!("cannot make a temporary folder: {e}")))
}

/// Names of objects have no slashes, and no dots that files have.
fn is_file(target: &str) -> bool {
    Path::new(target).exists() || target.contains('/') || [".sql", ".yaml", ".yml"].iter().any(|ending| target.ends_with(ending))
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

/// Which deployment a file is to hold.
enum Of<'a> {
    /// The only one; the cluster is asked if the file lacks something.
    Any(&'a Flags),
    /// That of this name on this cluster.
    One(&'a Cluster, &'a str),
}

/// Writes the StreamingDeployment of a file, with its SQL in it, and says whether it allows state to be left behind.
async fn from_yaml(of: &Of<'_>, path: &Path, folder: &Path) -> Result<(PathBuf, bool)> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::usage(format!("cannot read {}: {e}", path.display())))?;
    let documents = documents(&text).map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
    let wanted = if let Of::One(_, name) = of { Some(*name) } else { None };
    let deployment = choose(&documents, wanted).map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
    let allow = deployment.spec.upgrade.allow_non_restored_state;
    let connected;
    let cluster = match of {
        Of::One(cluster, _) => Some(*cluster),
        Of::Any(flags) if needs_cluster(&deployment, &documents) => {
            connected = flags.connect().await?;
            Some(&connected)
        }
        Of::Any(_) => None,
    };
    Ok((write(folder, &inlined(cluster, &documents, deployment).await?)?, allow))
}

fn documents(text: &str) -> Result<Vec<Value>, serde_yaml::Error> {
    let all = serde_yaml::Deserializer::from_str(text).map(Value::deserialize).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|d| !d.is_null()).collect())
}

/// The StreamingDeployment of this name; the only one, if none is asked for or it has another name.
fn choose(documents: &[Value], name: Option<&str>) -> Result<StreamingDeployment, String> {
    let found: Vec<&Value> = documents.iter().filter(|d| d["kind"] == "StreamingDeployment").collect();
    let names: Vec<String> = found.iter().map(|d| d["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect();
    let chosen = match (name, &found[..]) {
        (_, []) => return Err("it holds no StreamingDeployment".into()),
        (Some(name), all) => all
            .iter()
            .zip(&names)
            .find(|(_, n)| *n == name)
            .map(|(d, _)| *d)
            .ok_or_else(|| format!("it holds no StreamingDeployment '{name}'{}", similar(name, &names)))?,
        (None, [one]) => one,
        (None, _) => return Err(format!("it holds several StreamingDeployments: {}", names.join(", "))),
    };
    serde_json::from_value(chosen.clone()).map_err(|e| e.to_string())
}

fn config_map_in<'a>(documents: &'a [Value], name: &str) -> Option<&'a Value> {
    documents.iter().find(|d| d["kind"] == "ConfigMap" && d["metadata"]["name"] == name)
}

fn needs_cluster(deployment: &StreamingDeployment, documents: &[Value]) -> bool {
    deployment.spec.sql.config_map_key_ref.as_ref().is_some_and(|r| config_map_in(documents, &r.name).is_none())
}

/// The deployment with its SQL inline: that of the ConfigMap in the same file, else of the one on the cluster.
async fn inlined(cluster: Option<&Cluster>, documents: &[Value], mut deployment: StreamingDeployment) -> Result<StreamingDeployment> {
    let Some(reference) = deployment.spec.sql.config_map_key_ref.clone() else { return Ok(deployment) };
    let text = match (config_map_in(documents, &reference.name), cluster) {
        (Some(map), _) => map["data"][&reference.key].as_str().map(str::to_owned),
        (None, Some(cluster)) => {
            let map = cluster.api::<ConfigMap>().get(&reference.name).await;
            let map = map.map_err(|e| Error::kube(&format!("read the ConfigMap {}", reference.name), &e))?;
            map.data.and_then(|mut d| d.remove(&reference.key))
        }
        (None, None) => None,
    };
    let text = text.ok_or_else(|| Error::usage(format!("the ConfigMap '{}' has no key '{}'", reference.name, reference.key)))?;
    deployment.spec.sql = SqlSource { inline: Some(text), config_map_key_ref: None };
    Ok(deployment)
}

fn write(folder: &Path, deployment: &StreamingDeployment) -> Result<PathBuf> {
    let file = folder.join("deployment.yaml");
    let object = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "StreamingDeployment",
        "metadata": {"name": deployment.name_any(), "namespace": deployment.namespace()}, "spec": deployment.spec});
    let text = serde_yaml::to_string(&object).map_err(|e| Error::failed(e.to_string()))?;
    std::fs::write(&file, text).map(|()| file).map_err(|e| Error::failed(format!("cannot write a temporary file: {e}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_and_names() {
        for (target, file) in [("job", false), ("./job", true), ("job.yaml", true), ("x/y", true), ("Cargo.toml", true), ("a-b-1", false)] {
            assert_eq!(is_file(target), file, "{target}");
        }
    }

    #[test]
    fn the_deployment_that_is_meant() {
        let sdep = |name: &str| format!("kind: StreamingDeployment\nmetadata: {{name: {name}}}\nspec: {{sql: {{inline: x}}}}\n---\n");
        for (text, name, says) in [
            (sdep("a"), None, Ok("a")),
            (sdep("a"), Some("a"), Ok("a")),
            (sdep("a") + &sdep("b"), Some("b"), Ok("b")),
            (sdep("a") + &sdep("b"), None, Err("several StreamingDeployments: a, b")),
            (sdep("pizza"), Some("piza"), Err("no StreamingDeployment 'piza': did you mean 'pizza'?")),
            ("kind: Pod".into(), None, Err("holds no StreamingDeployment")),
            ("kind: StreamingDeployment\nspec: {sqll: 1}".into(), None, Err("sqll")),
        ] {
            match (choose(&documents(&text).unwrap(), name), says) {
                (Ok(found), Ok(wanted)) => assert_eq!(found.name_any(), wanted),
                (Err(error), Err(words)) => assert!(error.contains(words), "{text}: {error}"),
                (other, _) => panic!("{text}: {:?}", other.map(|d| d.name_any())),
            }
        }
    }

    #[tokio::test]
    async fn sql_of_a_config_map_in_the_same_file() {
        let text = "kind: ConfigMap\nmetadata: {name: m}\ndata: {k: SELECT 1}\n---\nkind: StreamingDeployment\nmetadata: {name: a}\n\
                    spec: {sql: {configMapKeyRef: {name: m, key: k}}}";
        let all = documents(text).unwrap();
        let deployment = choose(&all, None).unwrap();
        assert!(!needs_cluster(&deployment, &all) && needs_cluster(&deployment, &[]));
        let whole = inlined(None, &all, deployment.clone()).await.unwrap();
        assert_eq!(whole.spec.sql.inline.as_deref(), Some("SELECT 1"));
        assert!(inlined(None, &[], deployment).await.unwrap_err().message.contains("no key 'k'"));
        let folder = temporary().unwrap();
        let written: StreamingDeployment =
            serde_yaml::from_str(&std::fs::read_to_string(write(folder.path(), &whole).unwrap()).unwrap()).unwrap();
        assert_eq!(written.spec, whole.spec);
    }
}
