//! Savepoints that users or schedules ask for, and imports. Those of upgrades are driven by the StreamingDeployment. And the end of all of them.

mod decide;
mod files;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::controller::Action as Next;
use kube::{Api, Resource, ResourceExt};
use sluice_crds::{DeletionPolicy, Savepoint, SavepointPhase, SavepointStatus, SessionCluster, StreamingDeployment, TRIGGER_LABEL};

use crate::context::Context;
use crate::deployment::build::pod;
use crate::deployment::children::Child;
use crate::deployment::decide::Note;
use crate::deployment::{observe, status};
use crate::error::{NAMESPACE_ENDS, Result, What};
use crate::k8s::children::list;
use crate::k8s::deletion::Deletion;
use crate::k8s::{apply, events};
use crate::names;
use crate::runtime_api::{RuntimeError, SavepointInfo, SavepointState};
use crate::session::workers::workers;
use decide::{Input, Target, decide};

/// Brings a Savepoint one step further.
///
/// # Errors
/// If the API server refuses or does not answer.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Next> {
    let api: Api<Savepoint> = Api::namespaced(context.client.clone(), namespace);
    let Some(object) = api.get_opt(name).await.what(|| format!("read the Savepoint {name}"))? else { return Ok(Next::await_change()) };
    let old = object.status.clone().unwrap_or_default();
    let finalized = object.finalizers().iter().any(|f| f == names::SAVEPOINT_FINALIZER);
    // One that is being written is followed to its end: files that come later would stay.
    let forced = object.annotations().get(names::FORCE_DELETE_ANNOTATION).is_some_and(|v| v == "true");
    if object.metadata.deletion_timestamp.is_some() && (forced || old.phase != SavepointPhase::InProgress) {
        return if finalized { finalize(context, &object).await } else { Ok(Next::await_change()) };
    }
    let deletes = object.spec.deletion_policy == DeletionPolicy::Delete;
    if deletes != finalized && object.metadata.deletion_timestamp.is_none() {
        // Before there are files. The change leads here again.
        apply::finalizer(context, &object, names::SAVEPOINT_FINALIZER, deletes).await?;
        return Ok(Next::requeue(Duration::from_millis(100)));
    }
    let driven = object.labels().get(TRIGGER_LABEL).is_some_and(|t| ["upgrade", "suspend", "delete"].contains(&t.as_str()));
    let ended = matches!(old.phase, SavepointPhase::Completed | SavepointPhase::Failed | SavepointPhase::Abandoned);
    if driven || ended {
        return Ok(Next::await_change());
    }
    let target = find(context, &object).await?;
    let input = Input { object: &object, target: &target, default_image: &context.default_image, now: context.now() };
    let mut decision = decide(&input);
    if let Some((address, request)) = &decision.take {
        // InProgress is written first: the directory that it goes to must not change any more.
        apply::status(context, &object, object.status.as_ref(), &decision.status).await?;
        let answer = match context.runtime.savepoint(address, request).await {
            Ok(info) => info,
            Err(error @ RuntimeError::Unreachable { .. }) => {
                tracing::warn!(namespace, name, "{error}");
                return Ok(Next::requeue(Duration::from_secs(2)));
            }
            Err(RuntimeError::Refused { status: 409 | 503, .. }) => return Ok(Next::requeue(Duration::from_secs(2))),
            Err(error) => SavepointInfo { state: SavepointState::Failed, error: Some(error.to_string()), ..SavepointInfo::default() },
        };
        let written = decision.status.clone();
        decide::answered(&input, &mut decision.status, &answer);
        apply::status(context, &object, Some(&written), &decision.status).await?;
    } else {
        apply::status(context, &object, object.status.as_ref(), &decision.status).await?;
    }
    tell(context, &object, &old, &decision.status).await;
    Ok(match decision.status.phase {
        SavepointPhase::Pending | SavepointPhase::InProgress => Next::requeue(Duration::from_secs(2)),
        _ => Next::await_change(),
    })
}

/// Deletes the files, then lets the object go.
async fn finalize(context: &Context, object: &Savepoint) -> Result<Next> {
    let namespace = object.namespace().unwrap_or_default();
    let deployment = match object.spec.deployment_ref.as_ref() {
        Some(of) => deployment(context, &namespace, &of.name).await?,
        None => None,
    };
    let deletion = deletion(context, &namespace, &object.name_any()).await?;
    let input = files::Input {
        object,
        deployment: deployment.as_ref(),
        deletion: &deletion,
        default_image: &context.default_image,
        now: context.now(),
    };
    let mut note = match files::decide(&input) {
        files::Step::Wait => return Ok(Next::requeue(Duration::from_secs(2))),
        files::Step::Make(job) => match apply::child(context, &namespace, &job).await {
            Ok(_) => return Ok(Next::requeue(Duration::from_secs(1))),
            // What goes with its namespace goes with its volumes.
            Err(error) if error.reason() == NAMESPACE_ENDS => None,
            Err(error) => return Err(error),
        },
        files::Step::Release(note) => note,
    };
    if let Some(note) = note.take() {
        events::publish(context, &object.object_ref(&()), &[note]).await;
    }
    apply::finalizer(context, object, names::SAVEPOINT_FINALIZER, false).await?;
    Ok(Next::await_change())
}

/// How far the Job is that deletes a savepoint's files.
async fn deletion(context: &Context, namespace: &str, savepoint: &str) -> Result<Deletion> {
    let wanted = format!("{}={savepoint}", names::SAVEPOINT_LABEL);
    let jobs: Vec<Job> = list(context, namespace, &wanted).await?;
    let Some(job) = jobs.first().and_then(Child::seen) else { return Ok(Deletion::None) };
    let pods: Vec<Pod> = if job.failed.is_some() { list(context, namespace, &wanted).await? } else { vec![] };
    Ok(Deletion::of(&job, pods.iter().filter_map(observe::ended)))
}

/// A deployment, with the storage and the settings that it has of its session cluster as its own.
async fn deployment(context: &Context, namespace: &str, name: &str) -> Result<Option<StreamingDeployment>> {
    let api: Api<StreamingDeployment> = Api::namespaced(context.client.clone(), namespace);
    let Some(mut deployment) = api.get_opt(name).await.what(|| format!("read the StreamingDeployment {name}"))? else { return Ok(None) };
    if let Some(reference) = &deployment.spec.session_cluster_ref {
        let api: Api<SessionCluster> = Api::namespaced(context.client.clone(), namespace);
        let found = api.get_opt(&reference.name).await.what(|| format!("read the SessionCluster {}", reference.name))?;
        let Some(cluster) = found else { return Ok(Some(deployment)) };
        let claim = pod::claim_name(&reference.name, cluster.spec.storage.as_ref());
        let mut storage = cluster.spec.storage;
        if let Some(storage) = &mut storage {
            storage.volume_claim = claim.map(pod::existing_claim);
        }
        deployment.spec.storage = storage;
        deployment.spec.pod_overrides = cluster.spec.pod_overrides;
        deployment.spec.config = cluster.spec.config.into_iter().chain(deployment.spec.config).collect();
    }
    Ok(Some(deployment))
}

async fn tell(context: &Context, object: &Savepoint, old: &SavepointStatus, new: &SavepointStatus) {
    if old.phase == new.phase {
        return;
    }
    let note = match new.phase {
        SavepointPhase::Completed => Note { warning: false, reason: "Completed".into(), text: new.path.clone().unwrap_or_default() },
        SavepointPhase::Failed => Note { warning: true, reason: "Failed".into(), text: new.message.clone().unwrap_or_default() },
        _ => return,
    };
    events::publish(context, &object.object_ref(&()), &[note]).await;
}

/// The deployment and its pod.
async fn find(context: &Context, object: &Savepoint) -> Result<Target> {
    let Some(name) = object.spec.deployment_ref.as_ref().map(|r| r.name.as_str()) else { return Ok(Target::None) };
    let namespace = object.namespace().unwrap_or_default();
    let Some(deployment) = deployment(context, &namespace, name).await? else { return Ok(Target::Missing) };
    let revision = deployment.status.as_ref().and_then(|s| s.revision).unwrap_or_default().current;
    let address = match &deployment.spec.session_cluster_ref {
        None => own_pod(context, &namespace, name, revision).await?,
        Some(cluster) => {
            let worker = deployment.status.as_ref().and_then(|s| s.worker.clone()).unwrap_or_default();
            let workers = workers(context, &namespace, &cluster.name).await?;
            let host = workers.into_iter().find(|w| w.pod.name == worker).and_then(|w| w.pod.address);
            host.map(|host| names::session_job(&host, name))
        }
    };
    let job = match &address {
        Some(address) => context.runtime.job(address).await.ok().map(Box::new),
        None => None,
    };
    Ok(Target::Deployment { deployment: Box::new(deployment), revision, address, job })
}

/// Where a deployment's own pod answers.
async fn own_pod(context: &Context, namespace: &str, name: &str, revision: i64) -> Result<Option<String>> {
    let pods: Vec<Pod> = list(context, namespace, &names::job_pods(name, Some(revision))).await?;
    let ip = pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).find_map(|p| p.status.as_ref()?.pod_ip.clone());
    Ok(ip.map(|ip| names::address(&ip)))
}

/// Complete and Failed, as the phase says.
pub fn conditions(new: &mut SavepointStatus, generation: i64, now: Timestamp) {
    let message = new.message.clone().unwrap_or_default();
    let (phase, reason) = (new.phase, format!("{:?}", new.phase));
    for (kind, holds) in [("Complete", phase == SavepointPhase::Completed), ("Failed", phase == SavepointPhase::Failed)] {
        status::set(&mut new.conditions, kind, holds, &reason, &message, generation, now);
    }
}
