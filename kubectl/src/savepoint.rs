//! `kubectl sluice savepoint NAME` and `savepoint list`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use sluice_crds::{LocalRef, Savepoint, SavepointPhase, SavepointSpec, SavepointStatus, TRIGGER_LABEL};
use sluice_operator::deployment::duration;

use crate::Output;
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::status;
use crate::text::{self, bytes, table};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  kubectl sluice savepoint standalone-etl-anomaly --wait
  kubectl sluice savepoint standalone-etl-anomaly --as before-threshold-change --path s3://bucket/keep/1
  kubectl sluice savepoint list standalone-etl-anomaly

Needs: get streamingdeployments; create, get, list savepoints.")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    take: TakeArgs,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The Savepoints of a deployment, or of all in the namespace.
    List(ListArgs),
}

#[derive(clap::Args)]
struct ListArgs {
    /// The StreamingDeployment.
    name: Option<String>,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(clap::Args)]
struct TakeArgs {
    /// The StreamingDeployment.
    #[arg(required = true)]
    name: Option<String>,
    /// Name of the Savepoint object.
    #[arg(long = "as", value_name = "NAME")]
    object: Option<String>,
    /// The directory to write it to; one under the deployment's storage if not said.
    #[arg(long, value_name = "URI")]
    path: Option<String>,
    /// Wait until it is complete, and print its directory.
    #[arg(long)]
    wait: bool,
    /// How long it may take.
    #[arg(long, default_value = "10m")]
    timeout: String,
}

/// # Errors
/// If there is no such deployment, or with --wait if it fails.
pub async fn run(cluster: &Cluster, args: Args) -> Result<()> {
    match args.command {
        Some(Command::List(args)) => list(cluster, &args).await,
        None => take(cluster, &args.take).await,
    }
}

async fn list(cluster: &Cluster, args: &ListArgs) -> Result<()> {
    let name = match &args.name {
        Some(name) => Some(cluster.deployment(name).await?.name_any()),
        None => None,
    };
    let mut found: Vec<Savepoint> = cluster.list(&ListParams::default()).await?;
    found.retain(|s| name.is_none() || s.spec.deployment_ref.as_ref().map(|r| &r.name) == name.as_ref());
    found.sort_by_key(|s| std::cmp::Reverse(s.metadata.creation_timestamp.clone()));
    let value = serde_json::to_value(&found).map_err(|e| Error::failed(e.to_string()))?;
    print!("{}", args.output.write(&value, || draw(&found, name.is_none(), Timestamp::now()))?);
    Ok(())
}

fn draw(found: &[Savepoint], with_deployment: bool, now: Timestamp) -> String {
    if found.is_empty() {
        return "no savepoints\n".into();
    }
    let head = ["NAME", "PHASE", "TRIGGER", "AGE", "SIZE", "PATH"].map(str::to_owned).to_vec();
    let mut lines = vec![head];
    lines.extend(found.iter().map(|s| status::savepoint(s, now)));
    if with_deployment {
        let of = |s: &Savepoint| s.spec.deployment_ref.as_ref().map_or_else(|| "(imported)".to_owned(), |r| r.name.clone());
        let column = std::iter::once("DEPLOYMENT".to_owned()).chain(found.iter().map(of));
        lines.iter_mut().zip(column).for_each(|(line, cell)| line.insert(1, cell));
    }
    table(0, &lines)
}

async fn take(cluster: &Cluster, args: &TakeArgs) -> Result<()> {
    let timeout = duration::parse(&args.timeout).map_err(|e| Error::usage(format!("--timeout: {e}")))?;
    let deployment = cluster.deployment(args.name.as_deref().unwrap_or_default()).await?;
    let name = args.object.clone().unwrap_or_else(|| object_name(&deployment.name_any(), Timestamp::now()));
    let spec = SavepointSpec {
        deployment_ref: Some(LocalRef::new(deployment.name_any())),
        path: args.path.clone(),
        timeout: args.timeout.clone(),
        backoff_limit: 3,
        ..SavepointSpec::default()
    };
    let mut object = Savepoint::new(&name, spec);
    object.labels_mut().insert(TRIGGER_LABEL.into(), "manual".into());
    let params = PostParams { field_manager: Some("kubectl-sluice".into()), ..PostParams::default() };
    let made = cluster.api::<Savepoint>().create(&params, &object).await;
    made.map_err(|e| Error::kube(&format!("create the Savepoint {name}"), &e))?;
    eprintln!("savepoint.sluice.dev/{name} created");
    if args.wait { wait(cluster, &name, timeout).await } else { Ok(()) }
}

/// `job-manual-20261121-120000`: names have at most 63 characters, those of deployments at most 40.
fn object_name(deployment: &str, now: Timestamp) -> String {
    let time: String = now.to_string().chars().take(19).filter(char::is_ascii_digit).collect();
    format!("{deployment}-{}-{}", time.get(..8).unwrap_or_default(), time.get(8..).unwrap_or_default())
}

/// The operator gives up after the timeout; what it says then is waited for a little longer.
async fn wait(cluster: &Cluster, name: &str, timeout: SignedDuration) -> Result<()> {
    let deadline = Timestamp::now() + timeout + SignedDuration::from_secs(30);
    let mut said = String::new();
    loop {
        let found = cluster.api::<Savepoint>().get_opt(name).await.map_err(|e| Error::kube(&format!("read the Savepoint {name}"), &e))?;
        let status = found.ok_or_else(|| Error::failed(format!("the Savepoint {name} has been deleted")))?.status.unwrap_or_default();
        if let Some(result) = ended(name, &status) {
            return result.map(|path| println!("{path}"));
        }
        if let Some(message) = status.message.filter(|m| *m != said) {
            eprintln!("{message}");
            said = message;
        }
        if Timestamp::now() > deadline {
            return Err(Error::failed(format!("the Savepoint {name} is not complete: does the operator run?")));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Its directory, or why there is none; None while it is under way.
fn ended(name: &str, status: &SavepointStatus) -> Option<Result<String>> {
    match status.phase {
        SavepointPhase::Pending | SavepointPhase::InProgress => None,
        SavepointPhase::Completed => {
            let took = status.started_at.as_ref().zip(status.completed_at.as_ref()).map(|(a, b)| text::duration(b.0.duration_since(a.0)));
            let size = status.size_bytes.and_then(|b| u64::try_from(b).ok()).map(bytes);
            let facts: Vec<String> = [took, size].into_iter().flatten().collect();
            eprintln!("complete{}", if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) });
            Some(Ok(status.path.clone().unwrap_or_default()))
        }
        SavepointPhase::Failed | SavepointPhase::Abandoned => {
            let why = status.message.clone().unwrap_or_else(|| "no reason given".into());
            Some(Err(Error::failed(format!("the Savepoint {name} failed: {why}"))))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_objects() {
        let now = "2026-11-21T12:00:05.123Z".parse().unwrap();
        assert_eq!(object_name("job", now), "job-20261121-120005");
        assert!(object_name(&"x".repeat(40), now).len() <= 63);
    }

    #[test]
    fn lists_and_ends() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let savepoint = |name: &str, status: serde_json::Value| -> Savepoint {
            serde_json::from_value(json!({"metadata": {"name": name, "creationTimestamp": "2026-11-21T11:59:00Z"},
                "spec": {"deploymentRef": {"name": "job"}}, "status": status}))
            .unwrap()
        };
        let done = savepoint("a", json!({"phase": "Completed", "path": "/s/a", "sizeBytes": 10}));
        let failed = savepoint("b", json!({"phase": "Failed", "message": "disk full"}));
        let expected = "NAME  DEPLOYMENT  PHASE      TRIGGER  AGE       SIZE  PATH\n\
                        a     job         Completed  -        60 s ago  10 B  /s/a\n\
                        b     job         Failed     -        60 s ago  -     disk full\n";
        assert_eq!(draw(&[done.clone(), failed.clone()], true, now), expected);
        assert_eq!(draw(&[], true, now), "no savepoints\n");
        assert_eq!(ended("a", &done.status.unwrap()).unwrap().unwrap(), "/s/a");
        assert!(ended("b", &failed.status.unwrap()).unwrap().unwrap_err().message.contains("disk full"));
        assert!(ended("c", &SavepointStatus::default()).is_none());
    }
}
