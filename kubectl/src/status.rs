//! `kubectl sluice status NAME`: gathers, and draws one screen.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use sluice_crds::{Savepoint, SavepointPhase, StreamingDeployment, TRIGGER_LABEL};

use crate::Output;
use crate::cluster::{Cluster, Place};
use crate::error::{Error, Result};
use crate::figures::Figures;
use crate::text::{ago, bytes, count, duration, table};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  kubectl sluice status standalone-etl-anomaly -n flink
  kubectl sluice status standalone-etl-anomaly -o json | jq .job.lag

Needs: get streamingdeployments; list savepoints, pods, events; get pods/proxy for the figures. What may not be seen is left out, and says so.")]
pub struct Args {
    /// The StreamingDeployment.
    name: String,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// Lines of savepoints and events.
const MOST: usize = 5;

/// Everything that is shown.
pub struct View {
    pub deployment: StreamingDeployment,
    /// The pod that runs the job, and what it answers.
    pub job: Option<(String, Result<Figures, String>)>,
    /// Why there is no pod.
    pub no_pod: String,
    /// Newest first.
    pub savepoints: Vec<Savepoint>,
    pub events: Vec<EventView>,
    /// What could not be seen.
    pub missing: Vec<String>,
    pub now: Timestamp,
}

/// An event in short.
#[derive(Clone, Debug)]
pub struct EventView {
    pub at: Option<Timestamp>,
    pub warning: bool,
    pub reason: String,
    pub text: String,
}

/// # Errors
/// If there is no such deployment.
pub async fn run(cluster: &Cluster, args: &Args) -> Result<()> {
    let view = gather(cluster, &args.name).await?;
    print!("{}", args.output.write(&to_json(&view)?, || draw(&view))?);
    Ok(())
}

async fn gather(cluster: &Cluster, name: &str) -> Result<View> {
    let deployment = cluster.deployment(name).await?;
    let name = deployment.name_any();
    let mut missing = vec![];
    let mut see = |what: Result<()>| {
        if let Err(error) = what {
            missing.push(error.message);
        }
    };
    let mut place = Place::default();
    see(cluster.place(&deployment).await.map(|found| place = found));
    let job = match place.running() {
        Some(pod) => {
            let pod = pod.name_any();
            let figures = Figures::of(cluster, &pod, &place).await.map_err(|e| e.message);
            Some((pod, figures))
        }
        None => None,
    };
    let no_pod = match (&deployment.spec.session_cluster_ref, place.pods.first()) {
        (Some(session), None) => format!("on no pod of the SessionCluster {}", session.name),
        (_, Some(pod)) => format!("the pod {} does not run", pod.name_any()),
        (None, None) => "no pod".into(),
    };
    let mut savepoints: Vec<Savepoint> = vec![];
    see(cluster.list(&ListParams::default()).await.map(|found| savepoints = found));
    savepoints.retain(|s| s.spec.deployment_ref.as_ref().is_some_and(|r| r.name == name));
    savepoints.sort_by_key(|s| std::cmp::Reverse(s.metadata.creation_timestamp.clone()));
    let wanted = format!("involvedObject.kind=StreamingDeployment,involvedObject.name={name}");
    let mut found: Vec<Event> = vec![];
    see(cluster.list(&ListParams::default().fields(&wanted)).await.map(|list| found = list));
    let mut events: Vec<EventView> = found.iter().map(event).collect();
    events.sort_by_key(|e| std::cmp::Reverse(e.at));
    Ok(View { deployment, job, no_pod, savepoints, events, missing, now: Timestamp::now() })
}

fn event(event: &Event) -> EventView {
    let at = event.event_time.as_ref().map(|t| t.0).or_else(|| event.last_timestamp.as_ref().map(|t| t.0));
    EventView {
        at: at.or_else(|| event.metadata.creation_timestamp.as_ref().map(|t| t.0)),
        warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.clone().unwrap_or_default(),
        text: event.message.clone().unwrap_or_default(),
    }
}

fn to_json(view: &View) -> Result<Value> {
    let value = |v: Result<Value, serde_json::Error>| v.map_err(|e| Error::failed(e.to_string()));
    let job = view.job.as_ref().map(|(pod, figures)| {
        let mut value = figures.as_ref().map_or_else(|e| json!({"error": e}), Figures::to_json);
        value["pod"] = pod.clone().into();
        value
    });
    let events: Vec<Value> = view
        .events
        .iter()
        .map(|e| json!({"time": e.at.map(|t| t.to_string()), "type": if e.warning { "Warning" } else { "Normal" }, "reason": e.reason, "note": e.text}))
        .collect();
    let mut deployment = value(serde_json::to_value(&view.deployment))?;
    if let Some(metadata) = deployment["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Ok(json!({
        "deployment": deployment, "job": job, "savepoints": value(serde_json::to_value(&view.savepoints))?, "events": events,
        "notSeen": view.missing,
    }))
}

/// One screen.
pub fn draw(view: &View) -> String {
    let mut out = head(view);
    let status = view.deployment.status.clone().unwrap_or_default();
    out.push_str("\nConditions\n");
    let lines: Vec<Vec<String>> = status.conditions.iter().map(|c| condition(c, view.now)).collect();
    out.push_str(&if lines.is_empty() { "  none yet: is the operator running?\n".to_owned() } else { table(2, &lines) });
    out.push_str(&job(view));
    out.push_str(&savepoints(&view.savepoints, view.now));
    out.push_str(&events(&view.events, view.now));
    for missing in &view.missing {
        let _ = writeln!(out, "\nnot seen: {missing}");
    }
    out
}

fn head(view: &View) -> String {
    let (object, status) = (&view.deployment, view.deployment.status.clone().unwrap_or_default());
    let phase = status.phase.map_or_else(|| "not looked at yet".to_owned(), |p| format!("{p:?}"));
    let mut out = format!("StreamingDeployment {}/{}: {phase}\n", object.namespace().unwrap_or_default(), object.name_any());
    let revision = status.revision.unwrap_or_default();
    let mut line = match revision.current {
        0 => "nothing has been started".to_owned(),
        current if revision.stable == Some(current) => format!("revision {current}, stable"),
        current => format!("revision {current}, not stable yet"),
    };
    if revision.target != revision.current && revision.target > 0 {
        let _ = write!(line, "; {} is to follow", revision.target);
    }
    let tasks = status.parallelism.unwrap_or(0);
    let _ = write!(line, "; {tasks} task{}", if tasks == 1 { "" } else { "s" });
    if let Some(image) = &status.image {
        let _ = write!(line, "; image {image}");
    }
    let _ = writeln!(out, "  {line}");
    if let Some(from) = status.started_from.as_ref().and_then(|f| f.path.as_ref()) {
        let _ = writeln!(out, "  its state began with the savepoint {from}");
    }
    if let Some(operation) = &status.operation {
        let _ = writeln!(
            out,
            "  {:?} to revision {}: {:?}, since {}",
            operation.kind,
            operation.revision,
            operation.step,
            duration(view.now.duration_since(operation.step_started_at.0))
        );
    }
    let generation = object.metadata.generation.unwrap_or(0);
    if status.observed_generation.is_some_and(|seen| seen < generation) {
        out.push_str("  the operator has not looked at the last change yet\n");
    }
    out
}

/// What a condition means, in words.
fn condition(c: &Condition, now: Timestamp) -> Vec<String> {
    let words = match (c.type_.as_str(), c.status.as_str()) {
        ("Accepted", "True") => "the spec is valid",
        ("Accepted", _) => "the spec cannot be",
        ("Ready", "True") => "all of the spec is realised",
        ("Ready", _) => "not all of the spec is realised",
        ("Running", "True") => "rows are processed",
        ("Running", _) => "no rows are processed",
        ("CheckpointHealthy", "True") => "commits come in time",
        ("CheckpointHealthy", "False") => "commits do not come",
        ("CheckpointHealthy", _) => "no commit yet",
        ("Reconciling", "True") => "the operator works on it",
        ("Stalled", "True") => "it needs you",
        _ => "",
    };
    let says = match (c.reason.as_str(), c.message.as_str()) {
        ("Valid" | "Running" | "Completed", "") => String::new(),
        (reason, "") => format!(" ({reason})"),
        (reason, message) => format!(" ({reason}): {}", message.replace('\n', "\n                      ")),
    };
    vec![c.type_.clone(), c.status.clone(), format!("{words}{says}, since {}", duration(now.duration_since(c.last_transition_time.0)))]
}

fn job(view: &View) -> String {
    let Some((pod, figures)) = &view.job else { return format!("\nJob: {}\n", view.no_pod) };
    let pod = match &view.deployment.spec.session_cluster_ref {
        Some(session) => format!("{pod} of the SessionCluster {}", session.name),
        None => pod.clone(),
    };
    let figures = match figures {
        Ok(figures) => figures,
        Err(error) => return format!("\nJob in the pod {pod}\n  {error}\n"),
    };
    let mut lines: Vec<(&str, String)> = vec![("state", figures.state.clone())];
    if let Some((rows_in, rows_out)) = figures.rates {
        lines.push(("rows/s", format!("{} in, {} out", rate(rows_in), rate(rows_out))));
    }
    lines.push(("rows", format!("{} in, {} out, since the process began", count(figures.rows_in), count(figures.rows_out))));
    if let (Some(watermark), Some(behind)) = (figures.watermark, figures.behind(view.now)) {
        lines.push(("watermark", format!("{watermark}, {} behind", duration(behind))));
    }
    if let Some((records, splits)) = figures.lag {
        lines.push(("lag", format!("{} records in {splits} split{}", count(records), if splits == 1 { "" } else { "s" })));
    }
    match figures.last_commit {
        Some(at) => lines.push(("last commit", format!("{}; {} commits", ago(at, view.now), count(figures.commits)))),
        None => lines.push(("last commit", "none yet".into())),
    }
    lines.push(("state size", bytes(figures.state_bytes)));
    let pod_restarts = view.deployment.status.as_ref().and_then(|s| s.restarts).unwrap_or(0);
    lines.push(("restarts", format!("{} of the job, {pod_restarts} of the pod", figures.restarts)));
    if let Some(failure) = &figures.failure {
        lines.push(("failure", failure.clone()));
    }
    let lines: Vec<Vec<String>> = lines.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    format!("\nJob in the pod {pod}\n{}", table(2, &lines))
}

/// Whole rows, unless there is less than one in a second.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rate(rows: f64) -> String {
    if rows > 0.0 && rows < 10.0 { format!("{rows:.1}") } else { count(rows.round() as u64) }
}

fn savepoints(list: &[Savepoint], now: Timestamp) -> String {
    if list.is_empty() {
        return "\nSavepoints: none\n".into();
    }
    let more = list.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" ({more} older ones: kubectl sluice savepoint list)") } else { String::new() };
    format!("\nSavepoints{more}\n{}", table(2, &list.iter().take(MOST).map(|s| savepoint(s, now)).collect::<Vec<_>>()))
}

/// Name, phase, trigger, age, size, path or message.
pub fn savepoint(object: &Savepoint, now: Timestamp) -> Vec<String> {
    let status = object.status.clone().unwrap_or_default();
    let trigger = object.labels().get(TRIGGER_LABEL).cloned().unwrap_or_else(|| "-".into());
    let age = object.metadata.creation_timestamp.as_ref().map(|t| ago(t.0, now)).unwrap_or_default();
    let size = status.size_bytes.and_then(|b| u64::try_from(b).ok()).map_or_else(|| "-".into(), bytes);
    let says = if status.phase == SavepointPhase::Completed { status.path } else { status.message.or(status.path) };
    vec![object.name_any(), format!("{:?}", status.phase), trigger, age, size, says.unwrap_or_default()]
}

fn events(list: &[EventView], now: Timestamp) -> String {
    if list.is_empty() {
        return "\nEvents: none in the last hour\n".into();
    }
    let line = |e: &EventView| {
        let at = e.at.map(|t| ago(t, now)).unwrap_or_default();
        vec![at, if e.warning { "!" } else { "" }.to_owned(), e.reason.clone(), e.text.lines().next().unwrap_or_default().to_owned()]
    };
    format!("\nEvents\n{}", table(2, &list.iter().take(2 * MOST).map(line).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests;
