//! `kubectl sluice logs NAME`: of the current revision's pods, readable.

mod session;

use std::io::Write;
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::LogParams;
use serde_json::Value;
use sluice_crds::StreamingDeployment;
use sluice_operator::names;

use crate::cluster::{Cluster, Place};
use crate::error::{Error, Result, innermost};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  kubectl sluice logs standalone-etl-anomaly
  kubectl sluice logs standalone-etl-anomaly -f --tail 20
  kubectl sluice logs standalone-etl-anomaly --previous --raw | jq .fields.message

With -f it goes on with the next pod when the job restarts or is upgraded. On a SessionCluster only the job's own lines are shown, from its submission
on; --previous is the process before its last restart. Needs: get streamingdeployments; list pods (get, on a SessionCluster); get pods/log.")]
pub struct Args {
    /// The StreamingDeployment.
    name: String,
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "N")]
    tail: Option<i64>,
    /// What the container said before its last restart.
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Lines as they are: JSON.
    #[arg(long)]
    raw: bool,
}

/// A run of a container: another one has another log.
type Run = (String, i32);

/// # Errors
/// If there is no such deployment, or no pod of it.
pub async fn run(cluster: &Cluster, args: &Args) -> Result<()> {
    let mut seen: Vec<Run> = vec![];
    loop {
        let deployment = cluster.deployment(&args.name).await?;
        let Place { pods, in_session } = cluster.place(&deployment).await?;
        if let Some(job) = in_session {
            return session::run(cluster, args, &job).await;
        }
        let next = pods.iter().rev().find(|pod| !seen.contains(&which(pod)) && has_begun(pod));
        match next {
            Some(pod) => {
                let first = seen.is_empty();
                seen.push(which(pod));
                show(cluster, args, pod, first).await?;
            }
            None if seen.is_empty() && !args.follow => {
                return Err(no_pod(&deployment));
            }
            None if !args.follow => return Ok(()),
            None => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

fn no_pod(deployment: &StreamingDeployment) -> Error {
    let phase = deployment.status.as_ref().and_then(|s| s.phase);
    let phase = phase.map_or_else(|| "not looked at by an operator".into(), |p| format!("{p:?}"));
    let name = deployment.name_any();
    Error::failed(format!("{name} has no pod that has begun; it is {phase}: see kubectl sluice status {name}"))
}

fn status(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|c| c.name == names::CONTAINER)
}

fn which(pod: &Pod) -> Run {
    (pod.metadata.uid.clone().unwrap_or_default(), status(pod).map_or(0, |c| c.restart_count))
}

/// Whether there is a log.
fn has_begun(pod: &Pod) -> bool {
    let state = status(pod).and_then(|c| c.state.as_ref());
    let restarted = status(pod).is_some_and(|c| c.restart_count > 0);
    restarted || state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
}

async fn show(cluster: &Cluster, args: &Args, pod: &Pod, first: bool) -> Result<()> {
    let name = pod.name_any();
    if !first {
        eprintln!("--- {name}");
    }
    let params = LogParams {
        container: Some(names::CONTAINER.into()),
        follow: args.follow,
        previous: args.previous,
        // Of the pods that follow nothing is left out.
        tail_lines: args.tail.filter(|_| first),
        ..LogParams::default()
    };
    let stream = cluster.api::<Pod>().log_stream(&name, &params).await.map_err(|e| Error::kube(&format!("read the log of {name}"), &e))?;
    let mut lines = stream.lines();
    let mut stdout = std::io::stdout().lock();
    loop {
        match lines.try_next().await {
            Ok(Some(line)) => {
                let line = if args.raw { line } else { readable(&line) };
                print(&mut stdout, &line);
            }
            Ok(None) => return Ok(()),
            // A pod that goes away may break the stream off.
            Err(_) if args.follow => return Ok(()),
            Err(error) => return Err(Error::failed(format!("the log of {name} broke off: {}", innermost(&error)))),
        }
    }
}

fn print(out: &mut impl Write, line: &str) {
    // Nobody reads it any more: `| head`.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A JSON line as text; others as they are.
fn readable(line: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let (Some(level), Some(fields)) = (value["level"].as_str(), value["fields"].as_object()) else { return line.to_owned() };
    let text = |key: &str| fields.get(key).and_then(Value::as_str);
    let mut out = format!("{} {level:>5} ", value["timestamp"].as_str().unwrap_or_default());
    if let (Some(at), Some(column)) =
        (fields.get("line").and_then(Value::as_u64).filter(|l| *l > 0), fields.get("column").and_then(Value::as_u64))
    {
        out.push_str(&format!("line {at}, column {column}: "));
    }
    out.push_str(text("message").unwrap_or_default());
    if let Some(hint) = text("hint") {
        out.push_str(&format!(" ({hint})"));
    }
    for (key, value) in fields {
        if !["message", "hint", "line", "column"].contains(&key.as_str()) && !value.is_null() {
            out.push_str(&format!(" {key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_for_people() {
        for (line, text) in [
            (r#"{"timestamp":"T","level":"INFO","fields":{"message":"running","rows":5},"target":"sluice"}"#, "T  INFO running rows=5"),
            (
                r#"{"timestamp":"T","level":"ERROR","fields":{"message":"no column","line":2,"column":7,"hint":"did you mean 'a'?"}}"#,
                "T ERROR line 2, column 7: no column (did you mean 'a'?)",
            ),
            ("incompatible", "incompatible"),
            ("{\"a\":1}", "{\"a\":1}"),
        ] {
            assert_eq!(readable(line), text);
        }
    }

    #[test]
    fn runs_of_a_container() {
        let pod = |restarts: i32, state: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"uid": "u"}, "status": {"containerStatuses": [
                {"name": "sluice", "image": "", "imageID": "", "ready": true, "restartCount": restarts, "state": state}]}}))
            .unwrap()
        };
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        assert!(!has_begun(&pod(0, waiting.clone())) && has_begun(&pod(1, waiting)) && has_begun(&pod(0, json!({"running": {}}))));
        assert_ne!(which(&pod(0, json!({}))), which(&pod(1, json!({}))));
        assert!(!has_begun(&Pod::default()));
    }
}
