//! I/O: what is there. The children, and what the job says of itself.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use sluice_crds::{Phase, Savepoint, SavepointPhase, StartedFrom, Step, StreamingDeploymentStatus};

use super::build::Owner;
use super::children::{Child, Children, JobSeen, Kinds, SetSeen, item, version};
use super::denied::{self, Podless};
use super::place::{Cluster, Session};
use super::revision::Revision;
use crate::context::Context;
use crate::error::Result;
use crate::k8s::children::{Applied, versioned};
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
    /// It is of an earlier object of this name, which went without waiting for it.
    pub foreign: bool,
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
    /// What it waits for that may come by itself: a node with room.
    pub pending: Option<String>,
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
        ["ClusterNotReady", "ClusterUpdating", "NotEnoughSlots", LEFT_OVER].contains(&self.reason.as_str())
    }
}

/// The reason of a start that waits for the pods of an earlier object of the name.
pub const LEFT_OVER: &str = "PodsLeftOver";

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

/// Looks at everything that belongs to a deployment: what watches have told, and lists of what they may not have told yet.
///
/// # Errors
/// If the API server does not answer. A job that does not answer is an observation.
pub async fn observe(context: &Context, owner: &Owner, status: &StreamingDeploymentStatus, cluster: Option<Cluster>) -> Result<Observed> {
    let (mut children, mut kinds) = context.mirror.look(owner, context.now());
    // Another job is started, and state is deleted, when the pods of this one are gone.
    let stops = status.operation.as_ref().is_some_and(|o| matches!(o.step, Step::Savepoint | Step::Stop));
    if stops || status.phase == Some(Phase::Deleting) {
        kinds |= WHERE_JOBS_RUN;
    }
    refresh(context, owner, &mut children, kinds).await?;
    let current = status.revision.map_or(0, |r| r.current);
    let mut workloads: Vec<Workload> = children.sets().map(|set| workload(set, &children, owner)).collect();
    let mut session = None;
    if let Some(cluster) = cluster {
        let seen = Session { workers: workers(context, &owner.namespace, &cluster.name).await?, cluster };
        workloads = seen.workloads(owner, status);
        session = Some(seen);
    }
    let mut job = ask(context, workloads.iter().find(|w| w.revision == current)).await;
    if session.is_none() && !kinds.has(Kinds::PODS) && job.as_ref().is_some_and(|j| j.info.is_err()) {
        // Its pod may be another one by now.
        let before = workloads;
        refresh(context, owner, &mut children, WHERE_JOBS_RUN).await?;
        workloads = children.sets().map(|set| workload(set, &children, owner)).collect();
        if workloads != before {
            job = ask(context, workloads.iter().find(|w| w.revision == current)).await;
        }
    }
    let mut observed = Observed {
        revisions: children.revisions(),
        applied: children.applied(),
        session,
        workloads,
        preflights: children.jobs().filter_map(|job| preflight(job, &children)).collect(),
        deletion: deletion(&children),
        savepoints: children.savepoints(),
        job,
        restore: None,
    };
    refusals(context, owner, &mut observed, &children).await?;
    tracing::trace!(namespace = owner.namespace, name = owner.name, "observed {observed:?}");
    Ok(observed)
}

const WHERE_JOBS_RUN: Kinds = Kinds::PODS.and(Kinds::STATEFUL_SETS);

/// Lists these kinds of children, all at the same time: one that nothing is written to takes the API server up to a tenth of a second.
async fn refresh(context: &Context, owner: &Owner, children: &mut Children, kinds: Kinds) -> Result<()> {
    let listed = tokio::try_join!(
        one::<ControllerRevision>(context, owner, kinds),
        one::<Pod>(context, owner, kinds),
        one::<StatefulSet>(context, owner, kinds),
        one::<Job>(context, owner, kinds),
        one::<ConfigMap>(context, owner, kinds),
        one::<Service>(context, owner, kinds),
        one::<ServiceAccount>(context, owner, kinds),
        one::<PersistentVolumeClaim>(context, owner, kinds),
        one::<PodDisruptionBudget>(context, owner, kinds),
        one::<Savepoint>(context, owner, kinds),
    );
    let listed = listed.inspect_err(|_| context.mirror.acted(owner, kinds))?;
    put::<ControllerRevision>(children, listed.0);
    put::<Pod>(children, listed.1);
    put::<StatefulSet>(children, listed.2);
    put::<Job>(children, listed.3);
    put::<ConfigMap>(children, listed.4);
    put::<Service>(children, listed.5);
    put::<ServiceAccount>(children, listed.6);
    put::<PersistentVolumeClaim>(children, listed.7);
    put::<PodDisruptionBudget>(children, listed.8);
    put::<Savepoint>(children, listed.9);
    Ok(())
}

type Items<K> = BTreeMap<String, super::children::Item<<K as Child>::Seen>>;

/// The children of a kind, if it is one of those that are to be listed.
async fn one<K: Child>(context: &Context, owner: &Owner, kinds: Kinds) -> Result<Option<Items<K>>> {
    if !kinds.has(K::KIND) {
        return Ok(None);
    }
    let (objects, at) = versioned::<K>(context, &owner.namespace, &names::selector(&owner.name)).await?;
    let items = objects.iter().map(|object| (object.name_any(), item(object, object.seen()))).collect();
    Ok(Some(context.mirror.listed::<K>(owner, &(items, version(at.as_deref())))))
}

fn put<K: Child>(children: &mut Children, items: Option<Items<K>>) {
    if let Some(items) = items {
        K::part(children).items = items;
    }
}

/// A StatefulSet whose controller does not say that it has tried in vain may be waiting for its turn.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(30);
/// A Job's controller says nothing.
const JUST_MADE: SignedDuration = SignedDuration::from_secs(2);

/// Pods that should be there and are not.
async fn refusals(context: &Context, owner: &Owner, observed: &mut Observed, children: &Children) -> Result<()> {
    let fruitless = |revision: i64| children.sets().any(|set| set.revision == revision && set.fruitless);
    let mut podless = vec![];
    for workload in observed.workloads.iter().filter(|w| podless_workload(w)) {
        let patience = if fruitless(workload.revision) { SignedDuration::ZERO } else { ON_ITS_WAY };
        podless.push(Podless { child: names::revision(&owner.name, workload.revision), patience });
    }
    for preflight in observed.preflights.iter().filter(|p| podless_preflight(p, children)) {
        podless.push(Podless { child: names::preflight(&owner.name, preflight.revision), patience: JUST_MADE });
    }
    let mut reasons = denied::reasons(context, owner, &podless).await?.into_iter();
    for workload in observed.workloads.iter_mut().filter(|w| podless_workload(w)) {
        workload.refused = reasons.next().flatten();
    }
    for preflight in observed.preflights.iter_mut().filter(|p| podless_preflight(p, children)) {
        let message = reasons.next().flatten();
        preflight.waits = message.map(|message| Failure { reason: denied::reason(&message).into(), message });
    }
    Ok(())
}

fn podless_workload(workload: &Workload) -> bool {
    workload.replicas > 0 && workload.pods.is_empty() && workload.refused.is_none()
}

fn podless_preflight(preflight: &Preflight, children: &Children) -> bool {
    preflight.outcome.is_none() && preflight.waits.is_none() && !children.pods().any(|pod| pod.is_preflight(preflight.revision))
}

fn workload(set: &SetSeen, children: &Children, owner: &Owner) -> Workload {
    let pods = children.pods().filter(|pod| pod.is_job(set.revision)).map(|pod| pod.view.clone()).collect();
    let foreign = !set.owners.is_empty() && !set.owners.contains(&owner.uid);
    Workload { revision: set.revision, replicas: set.replicas, start: set.start.clone(), pods, refused: None, foreign }
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

fn deletion(children: &Children) -> Deletion {
    let Some(job) = children.jobs().find(|job| job.deletes_state) else { return Deletion::None };
    Deletion::of(job, children.pods().filter(|pod| pod.deletes_state()).filter_map(|pod| pod.view.ended.clone()))
}

fn preflight(job: &JobSeen, children: &Children) -> Option<Preflight> {
    let revision = job.revision?;
    let view = children.pods().find(|p| p.is_preflight(revision)).map(|p| p.view.clone()).unwrap_or_default();
    let partial = view.ended.as_ref().filter(|e| e.exit_code == PARTIAL).map(|e| e.message.clone());
    let outcome = match (job.complete, &job.failed) {
        (true, _) => Some(Ok(None)),
        (false, Some(_)) if partial.is_some() => Some(Ok(partial)),
        (false, failed) => failed.as_ref().map(|(reason, message)| Err(preflight_failure(&view, reason.as_deref(), message.as_deref()))),
    };
    let waits = view.waiting.as_ref().filter(|_| view.ended.is_none()).filter(|(why, _)| STUCK.contains(&why.as_str()));
    let pending = view.waiting.as_ref().filter(|(why, text)| !STUCK.contains(&why.as_str()) && !text.is_empty());
    let pending = pending.map(|(why, text)| format!("{why}: {text}"));
    Some(Preflight { revision, outcome, waits: waits.map(|(why, text)| not_started(why, text)), pending })
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

async fn ask(context: &Context, workload: Option<&Workload>) -> Option<JobView> {
    let workload = workload?;
    let pod = workload.pods.iter().find(|p| p.running && !p.terminating)?;
    let address = pod.address.clone()?;
    let info = context.runtime.job(&address).await.map_err(|e| e.to_string());
    Some(JobView { revision: workload.revision, pod: pod.name.clone(), address, info })
}

#[cfg(test)]
mod tests;
