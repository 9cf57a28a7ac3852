//! Pure: the words and conditions that a user sees.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sluice_crds::{JobState, LastCheckpoint, LastFailure, OperationType, Phase, Step, StreamingDeploymentStatus};

use super::decide::Input;
use super::observe::{Failure, PodView};
use crate::names;
use crate::runtime_api::RuntimeState;

/// The checkpoint in the status is refreshed this often: a write that tells nobody anything but that time has passed. How it is now the job says
/// (`kubectl sluice status`), and `CheckpointHealthy` if it is late.
const REFRESH: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// How long a pod may take to end without a word of that.
const GOING: jiff::SignedDuration = jiff::SignedDuration::from_secs(20);

/// The API server takes no longer messages.
const LONGEST: usize = 32_768;

/// Sets a condition; its transition time changes only if its status does.
pub fn set(conditions: &mut Vec<Condition>, kind: &str, holds: bool, reason: &str, message: &str, generation: i64, now: Timestamp) {
    let status = if holds { "True" } else { "False" };
    put(conditions, kind, status, reason, message, generation, now);
}

fn put(conditions: &mut Vec<Condition>, kind: &str, status: &str, reason: &str, message: &str, generation: i64, now: Timestamp) {
    let old = conditions.iter_mut().find(|c| c.type_ == kind);
    let since = old.as_ref().filter(|c| c.status == status).map_or_else(|| Time(now), |c| c.last_transition_time.clone());
    let new = Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.chars().take(LONGEST).collect(),
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match old {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// Removes a condition that is only there while it is true (kstatus).
pub fn clear(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|c| c.type_ != kind);
}

/// Fills in everything of the status that follows from what was decided and seen.
/// `blocked`: why nothing can begin, although the spec is valid.
pub fn summarise(input: &Input, status: &mut StreamingDeploymentStatus, blocked: Option<&Failure>) {
    let revision = status.revision.unwrap_or_default();
    let current = input.observed.revision(revision.current);
    let pod = input.observed.workload(revision.current).and_then(|w| w.pods.iter().find(|p| !p.terminating));
    status.observed_generation = Some(input.generation);
    status.operator_version = Some(env!("CARGO_PKG_VERSION").into());
    status.image = current.and_then(|r| r.template.image.clone()).or(status.image.take());
    let session = input.observed.session.as_ref();
    status.worker_selector = Some(match session {
        Some(session) => format!("{}={}", names::SESSION_LABEL, session.cluster.name),
        None => names::job_pods(&input.owner.name, None),
    });
    if session.is_some() && current.is_some() {
        status.image = Some(input.default_image.to_owned());
    }
    let tasks = current.map_or(0, |r| i32::try_from(r.template.parallelism).unwrap_or(i32::MAX));
    status.parallelism = Some(if status.halted.is_some() || revision.current == 0 { 0 } else { tasks });
    status.endpoint = (revision.current > 0)
        .then(|| match (session, &status.worker) {
            (Some(session), Some(pod)) => {
                let host = format!("{pod}.{}.{}.svc:{}", names::workers(&session.cluster.name), input.owner.namespace, names::REST_PORT);
                Some(format!("http://{}", names::session_job(&host, &input.owner.name)))
            }
            (Some(_), None) => None,
            (None, _) => {
                Some(format!("http://{}.{}.svc:{}", names::rest_service(&input.owner.name), input.owner.namespace, names::REST_PORT))
            }
        })
        .flatten();
    status.job_state = Some(job_state(input, status, pod));
    status.phase = Some(phase(input, status));
    job_facts(input, status, pod);
    conditions(input, status, pod, blocked);
}

fn job_facts(input: &Input, status: &mut StreamingDeploymentStatus, pod: Option<&PodView>) {
    let current = status.revision.unwrap_or_default().current;
    status.restarts = pod.map(|p| p.restarts);
    if let Some(ended) = pod.and_then(|p| p.ended.as_ref()).filter(|e| e.exit_code != 0) {
        status.last_failure =
            Some(LastFailure { time: ended.at.clone(), message: format!("exit code {}: {}", ended.exit_code, ended.message) });
    }
    let Some(info) = input.observed.info(current) else { return };
    if let Some(message) = info.failure.as_ref().filter(|m| status.last_failure.as_ref().is_none_or(|f| f.message != **m)) {
        status.last_failure = Some(LastFailure { time: Some(Time(input.now)), message: message.clone() });
    }
    if info.job_id.is_some() {
        status.job_id.clone_from(&info.job_id);
    }
    let id = i64::try_from(info.commits).unwrap_or(i64::MAX);
    let stale = status.last_checkpoint.as_ref().is_none_or(|old| input.now.duration_since(old.completed_at.0) >= REFRESH);
    if let Some(at) = info.last_commit.filter(|_| stale && info.commits > 0) {
        status.last_checkpoint = Some(LastCheckpoint { id, completed_at: Time(at), path: None });
    }
}

fn job_state(input: &Input, status: &StreamingDeploymentStatus, pod: Option<&PodView>) -> JobState {
    if let Some(halted) = &status.halted {
        return match halted.reason.as_str() {
            "Suspended" => JobState::Suspended,
            "Finished" => JobState::Finished,
            _ => JobState::Failed,
        };
    }
    let current = status.revision.unwrap_or_default().current;
    if current == 0 {
        return if input.valid.policy.suspend.is_some() { JobState::Suspended } else { JobState::Initializing };
    }
    if let Some(info) = input.observed.info(current) {
        return match info.state {
            RuntimeState::Initializing => JobState::Initializing,
            RuntimeState::Running | RuntimeState::Stopping => JobState::Running,
            RuntimeState::Restarting => JobState::Restarting,
            RuntimeState::Stopped => JobState::Stopped,
            RuntimeState::Failed => JobState::Failed,
            RuntimeState::Finished => JobState::Finished,
        };
    }
    match pod {
        // One answer that did not come in time is no other state, as long as the kubelet gets one.
        Some(pod) if pod.running && pod.ready && status.job_state == Some(JobState::Running) => JobState::Running,
        Some(pod) if pod.running && pod.restarts == 0 => JobState::Initializing,
        Some(pod) if pod.restarts > 0 || pod.ended.is_some() => JobState::Restarting,
        Some(pod) if pod.running => JobState::Unknown,
        _ => JobState::Initializing,
    }
}

fn phase(input: &Input, status: &StreamingDeploymentStatus) -> Phase {
    if input.deleting.is_some() {
        return Phase::Deleting;
    }
    if let Some(operation) = &status.operation {
        return match operation.kind {
            OperationType::Deploy => Phase::Deploying,
            OperationType::Upgrade => Phase::Upgrading,
            OperationType::Rollback => Phase::RollingBack,
            OperationType::Suspend => Phase::Suspending,
            OperationType::Resume => Phase::Resuming,
            OperationType::Delete => Phase::Deleting,
        };
    }
    match status.job_state.unwrap_or_default() {
        JobState::Suspended => Phase::Suspended,
        JobState::Finished => Phase::Finished,
        JobState::Failed if status.halted.is_some() => Phase::Failed,
        _ if status.revision.unwrap_or_default().current == 0 => Phase::Pending,
        _ if status.rejected.as_ref().is_some_and(|r| Some(&r.hash) == input.current_hash(status)) => Phase::Failed,
        _ => Phase::Running,
    }
}

fn conditions(input: &Input, status: &mut StreamingDeploymentStatus, pod: Option<&PodView>, blocked: Option<&Failure>) {
    let (generation, now) = (input.generation, input.now);
    let mut list = std::mem::take(&mut status.conditions);
    let short = blocked.filter(|b| b.passes());
    let (accepted, reason, message) = accepted(input, status, blocked.filter(|b| !b.passes()));
    set(&mut list, "Accepted", accepted, &reason, &message, generation, now);
    let waits = waits(input, status, pod).or_else(|| short.map(|s| s.message.clone()));
    let (ready, ready_reason, ready_message) = match short.filter(|_| accepted && status.operation.is_none()) {
        Some(short) => (false, short.reason.clone(), short.message.clone()),
        None => ready(status, waits.as_deref(), (accepted, &reason, &message)),
    };
    set(&mut list, "Ready", ready, &ready_reason, &ready_message, generation, now);
    let (running, running_reason, running_message) = running(status, waits);
    set(&mut list, "Running", running, running_reason, &running_message, generation, now);
    checkpoint_health(input, status, &mut list);
    match &status.operation {
        Some(operation) => {
            let step = format!("{:?}", operation.step);
            let message =
                operation.message.clone().unwrap_or_else(|| format!("{:?} to revision {}: {step}", operation.kind, operation.revision));
            set(&mut list, "Reconciling", true, &step, &message, generation, now);
        }
        None => match short {
            Some(short) => set(&mut list, "Reconciling", true, &short.reason, &short.message, generation, now),
            None => clear(&mut list, "Reconciling"),
        },
    }
    let stalled = stalled(status).or_else(|| (!accepted && input.deleting.is_none()).then(|| (reason.clone(), message.clone())));
    match stalled.filter(|_| status.operation.is_none()) {
        Some((reason, message)) => set(&mut list, "Stalled", true, &reason, &message, generation, now),
        None => clear(&mut list, "Stalled"),
    }
    status.conditions = list;
}

fn accepted(input: &Input, status: &StreamingDeploymentStatus, blocked: Option<&Failure>) -> (bool, String, String) {
    if let Err(errors) = &input.valid.template {
        let reason = errors.first().map_or("Invalid", |e| e.reason);
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return (false, reason.into(), text.join("; "));
    }
    if let Some(blocked) = blocked {
        return (false, blocked.reason.clone(), blocked.message.clone());
    }
    let invalid = status.rejected.as_ref().map(|r| (&r.reason, &r.message)).or(status.halted.as_ref().map(|h| (&h.reason, &h.message)));
    match invalid {
        Some((reason, message)) if reason == "InvalidSql" => (false, reason.clone(), message.clone()),
        _ => (true, "Valid".into(), String::new()),
    }
}

/// A spec that failed, or a job that stays down.
fn stalled(status: &StreamingDeploymentStatus) -> Option<(String, String)> {
    if let Some(rejected) = &status.rejected {
        return Some((rejected.reason.clone(), rejected.message.clone()));
    }
    let halted = status.halted.as_ref().filter(|h| h.reason != "Suspended" && h.reason != "Finished")?;
    Some((halted.reason.clone(), halted.message.clone()))
}

/// Why a pod is not there or does not run: what the API server, the scheduler or the kubelet say.
fn waits(input: &Input, status: &StreamingDeploymentStatus, pod: Option<&PodView>) -> Option<String> {
    let revision = status.operation.as_ref().map_or(status.revision.unwrap_or_default().current, |o| o.revision);
    let preflight = || input.observed.preflights.iter().find(|p| p.revision == revision)?.waits.as_ref().map(|w| w.message.clone());
    let refused = || input.observed.workload(revision)?.refused.clone();
    let unready =
        pod.filter(|p| !p.running).and_then(|p| Some((p, p.waiting.as_ref()?))).map(|(pod, (reason, text))| match text.as_str() {
            "" => format!("{reason}: if it stays so, a Secret, a key of it or a volume is not there (kubectl describe pod {})", pod.name),
            text => format!("{reason}: {text}"),
        });
    unready.or_else(refused).or_else(preflight).or_else(|| leaving(input, status, revision))
}

/// A pod that is to go holds up whatever comes behind it: two must not run.
fn leaving(input: &Input, status: &StreamingDeploymentStatus, revision: i64) -> Option<String> {
    if input.observed.session.is_some() {
        return None;
    }
    let stopping = status.operation.as_ref().filter(|o| o.step == Step::Stop);
    if stopping.is_some_and(|o| input.now.duration_since(o.step_started_at.0) < GOING) {
        return None;
    }
    let pods = &input.observed.workload(stopping.map_or(revision, |o| o.from.unwrap_or(o.revision)))?.pods;
    let pod = pods.first().filter(|_| pods.iter().all(|p| p.terminating))?;
    let what = "kubectl delete pod --force, or taint the node node.kubernetes.io/out-of-service";
    Some(format!("the pod {} is terminating; if it stays so its node does not answer: when that is certainly off, {what}", pod.name))
}

fn ready(status: &StreamingDeploymentStatus, waits: Option<&str>, accepted: (bool, &str, &str)) -> (bool, String, String) {
    if let Some(operation) = &status.operation {
        let (reason, what) = match operation.kind {
            OperationType::Deploy | OperationType::Resume => ("Starting", "the job starts"),
            OperationType::Upgrade => ("Upgrading", "the spec is being rolled out"),
            OperationType::Rollback => ("RolledBack", "the old revision comes back"),
            OperationType::Suspend => ("Suspending", "the job stops"),
            OperationType::Delete => ("Deleting", "the job stops"),
        };
        let waits = waits.or(operation.message.as_deref()).map(|w| format!(": {w}")).unwrap_or_default();
        return (false, reason.into(), format!("{what} ({:?}){waits}", operation.step));
    }
    if !accepted.0 {
        return (false, accepted.1.into(), accepted.2.into());
    }
    if let Some(rejected) = &status.rejected {
        let reason = if rejected.rolled_back { "RolledBack" } else { rejected.reason.as_str() };
        return (false, reason.into(), rejected.message.clone());
    }
    match status.job_state.unwrap_or_default() {
        JobState::Running => (true, "Running".into(), String::new()),
        JobState::Suspended => {
            let why = status.halted.as_ref().map_or("spec.suspend is true", |h| h.message.as_str());
            (true, "Suspended".into(), why.into())
        }
        JobState::Finished => (true, "Finished".into(), "the job has done all it had to do".into()),
        JobState::Failed => (false, "Failed".into(), status.halted.as_ref().map(|h| h.message.clone()).unwrap_or_default()),
        JobState::Restarting => (false, "Restarting".into(), status.last_failure.as_ref().map(|f| f.message.clone()).unwrap_or_default()),
        JobState::Stopped => (false, "Stopped".into(), "the job was stopped; it is started again".into()),
        JobState::Initializing => (false, "Starting".into(), waits.unwrap_or("sources and sinks are being opened").into()),
        JobState::Unknown => (false, "Unknown".into(), "the job's REST API does not answer".into()),
    }
}

fn running(status: &StreamingDeploymentStatus, waits: Option<String>) -> (bool, &'static str, String) {
    let failure = || status.last_failure.as_ref().map(|f| f.message.clone()).unwrap_or_default();
    match status.job_state.unwrap_or_default() {
        JobState::Running => (true, "Running", String::new()),
        JobState::Suspended => (false, "Suspended", String::new()),
        JobState::Finished => (false, "Finished", String::new()),
        JobState::Failed => (false, "Failed", failure()),
        JobState::Restarting => (false, "Restarting", failure()),
        JobState::Stopped => (false, "Stopped", String::new()),
        JobState::Unknown => (false, "Unknown", "the job's REST API does not answer".into()),
        JobState::Initializing => (false, "Starting", waits.unwrap_or_default()),
    }
}

/// True if the last commit is not older than three intervals (and never less than 30 s: a busy machine is no illness).
fn checkpoint_health(input: &Input, status: &StreamingDeploymentStatus, list: &mut Vec<Condition>) {
    let current = status.revision.unwrap_or_default().current;
    let stateful = input.observed.revision(current).is_some_and(|r| r.template.storage.is_some());
    if !stateful || status.job_state != Some(JobState::Running) {
        return clear(list, "CheckpointHealthy");
    }
    let (generation, now) = (input.generation, input.now);
    let most = (input.valid.policy.checkpoint_interval * 3).max(jiff::SignedDuration::from_secs(30));
    let Some(info) = input.observed.info(current) else { return };
    match info.last_commit {
        Some(at) if now.duration_since(at) <= most => set(list, "CheckpointHealthy", true, "Completed", "", generation, now),
        Some(_) => {
            let message = "the last checkpoint is older than three intervals; see the job's log";
            set(list, "CheckpointHealthy", false, "Failing", message, generation, now);
        }
        None => put(list, "CheckpointHealthy", "Unknown", "NoneYet", "no checkpoint yet", generation, now),
    }
}
