//! I/O: what is there. The children, and what the job says of itself.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use sluice_crds::{Savepoint, SavepointPhase, StartedFrom, StreamingDeploymentStatus, TRIGGER_LABEL};

use super::build::{Kind, Owner};
use super::place::{Cluster, Session};
use super::revision::Revision;
use crate::context::Context;
use crate::error::{Result, What};
use crate::k8s::children::{Applied, list, note};
use crate::k8s::deletion::Deletion;
use crate::names;
use crate::runtime_api::JobInfo;
use crate::session::workers::workers;

/// Everything that a decision rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub revisions: Vec<Revision>,
    /// Children that are there, with the hash of what was applied.
    pub applied: Applied,
    /// The SessionCluster that runs the job; None: pods of its own.
    pub session: Option<Session>,
    pub workloads: Vec<Workload>,
    pub preflights: Vec<Preflight>,
    /// The Job that deletes the state of a deployment that goes.
    pub deletion: Deletion,
    /// Savepoints of this deployment.
    pub savepoints: Vec<ObservedSavepoint>,
    /// What the newest pod of the current revision says; None if there is no pod with an address.
    pub job: Option<JobView>,
    /// Seen at the owned Savepoint that `restoreFrom` names: its path, or why there is none.
    pub restore: Option<std::result::Result<String, String>>,
}

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    pub revision: i64,
    pub replicas: i32,
    pub start: StartedFrom,
    pub pods: Vec<PodView>,
    /// Why there is no pod: a quota, a policy of the cluster.
    pub refused: Option<String>,
}

/// A pod's main container, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    pub name: String,
    pub uid: String,
    pub address: Option<String>,
    pub terminating: bool,
    pub restarts: i32,
    pub running: bool,
    /// The kubelet's probe of it succeeds.
    pub ready: bool,
    /// Why it does not run, from the kubelet or the scheduler.
    pub waiting: Option<(String, String)>,
    /// How its last process ended.
    pub ended: Option<Ended>,
}

/// The end of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: i32,
    pub message: String,
    pub at: Option<Time>,
}

/// A preflight Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    pub revision: i64,
    /// It may come with a warning.
    pub outcome: Option<std::result::Result<Option<String>, Failure>>,
    /// Why it cannot start, as it looks: an image that cannot be pulled, a Secret that is not there, a quota. It may be over soon.
    pub waits: Option<Failure>,
}

/// Why something failed: a condition reason and a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
}

impl Failure {
    /// Whether it may be over by itself: nobody has to do anything yet.
    pub fn passes(&self) -> bool {
        ["ClusterNotReady", "ClusterUpdating", "NotEnoughSlots"].contains(&self.reason.as_str())
    }
}

/// A Savepoint object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedSavepoint {
    pub name: String,
    pub trigger: String,
    pub phase: SavepointPhase,
    pub path: Option<String>,
    pub message: Option<String>,
    pub completed_at: Option<Time>,
    /// It goes when its files are gone.
    pub deleting: bool,
}

/// A pod and what it answered.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    pub revision: i64,
    pub pod: String,
    pub address: String,
    pub info: std::result::Result<JobInfo, String>,
}

impl Observed {
    pub fn revision(&self, number: i64) -> Option<&Revision> {
        self.revisions.iter().find(|r| r.number == number)
    }

    pub fn workload(&self, revision: i64) -> Option<&Workload> {
        self.workloads.iter().find(|w| w.revision == revision)
    }

    /// Whether the job was asked and has answered.
    pub fn job_answers(&self) -> bool {
        self.job.as_ref().is_some_and(|j| j.info.is_ok())
    }

    /// The answer of a revision's job.
    pub fn info(&self, revision: i64) -> Option<&JobInfo> {
        self.job.as_ref().filter(|j| j.revision == revision).and_then(|j| j.info.as_ref().ok())
    }
}

/// Looks at everything that belongs to a deployment.
///
/// # Errors
/// If the API server does not answer. A job that does not answer is an observation.
pub async fn observe(context: &Context, owner: &Owner, status: &StreamingDeploymentStatus, cluster: Option<Cluster>) -> Result<Observed> {
    let mut observed = Observed::default();
    let (ns, selector) = (owner.namespace.as_str(), names::selector(&owner.name));
    let stored: Vec<ControllerRevision> = list(context, ns, &selector).await?;
    observed.revisions = stored.iter().filter_map(Revision::from_object).collect();
    observed.revisions.sort_by_key(|r| r.number);
    let pods: Vec<Pod> = list(context, ns, &selector).await?;
    let sets: Vec<StatefulSet> = list(context, ns, &selector).await?;
    observed.workloads = sets.iter().filter_map(|set| workload(set, &pods)).collect();
    if let Some(cluster) = cluster {
        let session = Session { workers: workers(context, ns, &cluster.name).await?, cluster };
        observed.workloads = session.workloads(owner, status);
        observed.session = Some(session);
    }
    let jobs: Vec<Job> = list(context, ns, &selector).await?;
    observed.preflights = jobs.iter().filter_map(|job| preflight(job, &pods)).collect();
    let of_deletion =
        |meta: &ObjectMeta| meta.labels.as_ref().and_then(|l| l.get(names::COMPONENT_LABEL)).is_some_and(|c| c == "state-deletion");
    if let Some(job) = jobs.iter().find(|job| of_deletion(&job.metadata)) {
        let its: Vec<Pod> = pods.iter().filter(|pod| of_deletion(&pod.metadata)).cloned().collect();
        observed.deletion = Deletion::of(job, &its);
    }
    note(&mut observed.applied, Kind::StatefulSet, &sets);
    note(&mut observed.applied, Kind::Job, &jobs);
    note(&mut observed.applied, Kind::ConfigMap, &list::<ConfigMap>(context, ns, &selector).await?);
    note(&mut observed.applied, Kind::Service, &list::<Service>(context, ns, &selector).await?);
    note(&mut observed.applied, Kind::ServiceAccount, &list::<ServiceAccount>(context, ns, &selector).await?);
    note(&mut observed.applied, Kind::PersistentVolumeClaim, &list::<PersistentVolumeClaim>(context, ns, &selector).await?);
    note(&mut observed.applied, Kind::PodDisruptionBudget, &list::<PodDisruptionBudget>(context, ns, &selector).await?);
    let savepoints: Vec<Savepoint> = list(context, ns, &selector).await?;
    observed.savepoints = savepoints.iter().map(savepoint).collect();
    observed.savepoints.sort_by(|a, b| a.name.cmp(&b.name));
    refusals(context, owner, &mut observed, &pods).await?;
    let current = status.revision.map_or(0, |r| r.current);
    observed.job = ask(context, observed.workload(current)).await;
    tracing::trace!(namespace = ns, name = owner.name, "observed {observed:?}");
    Ok(observed)
}

/// The same children, looked at before; the job is asked anew. None if it does not answer as before: then all is to be looked at.
pub async fn again(context: &Context, mut observed: Observed, status: &StreamingDeploymentStatus) -> Option<Observed> {
    if observed.job.is_some() {
        observed.job = ask(context, observed.workload(status.revision.map_or(0, |r| r.current))).await;
        return observed.job_answers().then_some(observed);
    }
    Some(observed)
}

/// Pods that should be there and are not: what the API server had against them is only in the events of who was to make them.
async fn refusals(context: &Context, owner: &Owner, observed: &mut Observed, pods: &[Pod]) -> Result<()> {
    for workload in observed.workloads.iter_mut().filter(|w| w.replicas > 0 && w.pods.is_empty() && w.refused.is_none()) {
        workload.refused = refusal(context, &owner.namespace, &names::revision(&owner.name, workload.revision)).await?;
    }
    for preflight in observed.preflights.iter_mut().filter(|p| p.outcome.is_none() && p.waits.is_none()) {
        if !pods.iter().any(|pod| is_preflight(pod, preflight.revision)) {
            let message = refusal(context, &owner.namespace, &names::preflight(&owner.name, preflight.revision)).await?;
            preflight.waits = message.map(|message| Failure { reason: refused_reason(&message).into(), message });
        }
    }
    Ok(())
}

/// The reason of a condition for what an API server has against a pod.
pub fn refused_reason(message: &str) -> &'static str {
    if message.contains("exceeded quota") { "QuotaExceeded" } else { "PodForbidden" }
}

/// The newest event that says why a child could not make its pod.
///
/// # Errors
/// If the API server does not answer.
pub async fn refusal(context: &Context, namespace: &str, child: &str) -> Result<Option<String>> {
    let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(context.client.clone(), namespace);
    let wanted = ListParams::default().fields(&format!("involvedObject.name={child},reason=FailedCreate"));
    let events = api.list(&wanted).await.what(|| "list events".into())?.items;
    let newest = events.into_iter().max_by_key(|e| e.last_timestamp.clone().or_else(|| e.first_timestamp.clone()));
    Ok(newest.and_then(|e| e.message).map(|m| m.chars().take(1000).collect()))
}

fn workload(set: &StatefulSet, pods: &[Pod]) -> Option<Workload> {
    let revision = names::revision_number(set.metadata.labels.as_ref())?;
    let note = |name: &str| set.metadata.annotations.as_ref().and_then(|a| a.get(name)).cloned();
    let start = StartedFrom {
        state_id: note(names::STATE_ID_ANNOTATION).and_then(|id| id.parse().ok()).unwrap_or_default(),
        path: note(names::RESTORED_FROM_ANNOTATION),
    };
    let of_it = |pod: &&Pod| {
        names::revision_number(pod.metadata.labels.as_ref()) == Some(revision)
            && pod.metadata.labels.as_ref().and_then(|l| l.get(names::COMPONENT_LABEL)).is_some_and(|c| c == "job")
    };
    let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    Some(Workload { revision, replicas, start, pods: pods.iter().filter(of_it).map(pod_view).collect(), refused: None })
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|c| c.name == names::CONTAINER)
}

/// A pod in short.
pub fn pod_view(pod: &Pod) -> PodView {
    let status = pod.status.as_ref();
    let container = container(pod);
    let state = container.and_then(|c| c.state.as_ref());
    let ended = state.and_then(|s| s.terminated.as_ref()).or_else(|| container?.last_state.as_ref()?.terminated.as_ref());
    let unscheduled = || {
        let condition = status?.conditions.as_ref()?.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
        Some((condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default()))
    };
    PodView {
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        address: status.and_then(|s| s.pod_ip.clone()).filter(|ip| !ip.is_empty()).map(|ip| names::address(&ip)),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        restarts: container.map_or(0, |c| c.restart_count),
        running: state.is_some_and(|s| s.running.is_some()),
        ready: container.is_some_and(|c| c.ready),
        waiting: state
            .and_then(|s| s.waiting.as_ref())
            .map(|w| (w.reason.clone().unwrap_or_default(), w.message.clone().unwrap_or_default()))
            .or_else(unscheduled),
        ended: ended.map(|t| Ended { exit_code: t.exit_code, message: last_lines(t.message.as_deref()), at: t.finished_at.clone() }),
    }
}

/// How the last process of a pod ended.
pub fn ended(pod: &Pod) -> Option<Ended> {
    pod_view(pod).ended
}

/// What a process said last: the messages of JSON log lines with level ERROR, or the text.
pub fn last_lines(message: Option<&str>) -> String {
    let text = message.unwrap_or_default().trim();
    let mut errors = text.lines().filter_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        if value["level"] != "ERROR" {
            return None;
        }
        let fields = &value["fields"];
        let mut out = fields["message"].as_str()?.to_owned();
        if let (Some(line), Some(column)) = (fields["line"].as_u64().filter(|l| *l > 0), fields["column"].as_u64()) {
            out = format!("line {line}, column {column}: {out}");
        }
        if let Some(hint) = fields["hint"].as_str() {
            out = format!("{out} ({hint})");
        }
        Some(out)
    });
    let said = || text.lines().filter(|line| !is_log(line)).collect::<Vec<_>>().join("\n");
    let found = errors.next_back().or_else(|| Some(said()).filter(|t| !t.trim().is_empty())).unwrap_or_else(|| text.to_owned());
    let skip = found.chars().count().saturating_sub(1000);
    found.chars().skip(skip).collect()
}

/// A line of our logs.
fn is_log(line: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v["level"].is_string())
}

fn is_preflight(pod: &Pod, revision: i64) -> bool {
    let labels = pod.metadata.labels.as_ref();
    names::revision_number(labels) == Some(revision) && labels.and_then(|l| l.get(names::COMPONENT_LABEL)).is_some_and(|c| c == "preflight")
}

fn preflight(job: &Job, pods: &[Pod]) -> Option<Preflight> {
    let revision = names::revision_number(job.metadata.labels.as_ref())?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let holds = |kind: &str| conditions.and_then(|c| c.iter().find(|c| c.type_ == kind && c.status == "True"));
    let view = pods.iter().find(|p| is_preflight(p, revision)).map(pod_view).unwrap_or_default();
    let partial = view.ended.as_ref().filter(|e| e.exit_code == PARTIAL).map(|e| e.message.clone());
    let outcome = match (holds("Complete"), holds("Failed")) {
        (Some(_), _) => Some(Ok(None)),
        (None, Some(_)) if partial.is_some() => Some(Ok(partial)),
        (None, failed) => failed.map(|c| Err(preflight_failure(&view, c.reason.as_deref(), c.message.as_deref()))),
    };
    let waits = view.waiting.as_ref().filter(|_| view.ended.is_none()).filter(|(why, _)| STUCK.contains(&why.as_str()));
    Some(Preflight { revision, outcome, waits: waits.map(|(why, text)| not_started(why, text)) })
}

/// `sluice check`: all state is used, but something starts empty.
const PARTIAL: i32 = 3;
/// `sluice check` and `sluice plan`: it cannot be.
const REFUSED: i32 = 2;
/// What a container waits for that does not come by itself.
const STUCK: &[&str] =
    &["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"];

fn not_started(why: &str, text: &str) -> Failure {
    let reason = if why.contains("Image") { "ImagePullFailed" } else { "PreflightFailed" };
    Failure { reason: reason.into(), message: format!("the preflight pod did not start: {why}: {text}") }
}

fn preflight_failure(pod: &PodView, reason: Option<&str>, message: Option<&str>) -> Failure {
    match (&pod.ended, &pod.waiting) {
        (Some(ended), _) if ended.exit_code == REFUSED => match ended.message.lines().position(|line| line == "incompatible") {
            Some(verdict) => {
                let reasons: Vec<_> = ended.message.lines().skip(verdict + 1).collect();
                let message = format!("the SQL cannot take over the state of the job that runs:\n{}", reasons.join("\n"));
                Failure { reason: "IncompatibleState".into(), message }
            }
            None => Failure { reason: "InvalidSql".into(), message: ended.message.clone() },
        },
        (Some(ended), _) => Failure {
            reason: "PreflightFailed".into(),
            message: format!("the preflight ended with exit code {}: {}", ended.exit_code, ended.message),
        },
        (None, Some((why, text))) => not_started(why, text),
        _ => Failure {
            reason: "PreflightFailed".into(),
            message: format!(
                "the preflight did not end: {}; a Secret or ConfigMap that is not there keeps a pod from starting (kubectl describe pod)",
                message.or(reason).unwrap_or("no reason given")
            ),
        },
    }
}

fn savepoint(object: &Savepoint) -> ObservedSavepoint {
    let status = object.status.clone().unwrap_or_default();
    ObservedSavepoint {
        name: object.name_any(),
        trigger: object.labels().get(TRIGGER_LABEL).cloned().unwrap_or_default(),
        phase: status.phase,
        path: status.path,
        message: status.message,
        completed_at: status.completed_at,
        deleting: object.metadata.deletion_timestamp.is_some(),
    }
}

async fn ask(context: &Context, workload: Option<&Workload>) -> Option<JobView> {
    let workload = workload?;
    let pod = workload.pods.iter().find(|p| p.running && !p.terminating)?;
    let address = pod.address.clone()?;
    let info = context.runtime.job(&address).await.map_err(|e| e.to_string());
    Some(JobView { revision: workload.revision, pod: pod.name.clone(), address, info })
}

#[cfg(test)]
mod tests;
