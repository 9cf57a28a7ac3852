//! The Job that deletes a savepoint's files: `sluice savepoint delete` in a pod that reaches them as the job did.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Container, PersistentVolumeClaimVolumeSource, PodAffinity, PodAffinityTerm, PodSpec, PodTemplateSpec, Volume, VolumeMount,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use sluice_crds::{Savepoint, SavepointFiles};

use super::pod::{self, storage_path};
use super::{Child, Kind};
use crate::names;

/// Seconds that it may take, with all tries.
const DEADLINE: i64 = 180;
const TRIES: i32 = 2;

/// `path`: the savepoint's folder.
pub fn build(savepoint: &Savepoint, files: &SavepointFiles, path: &str) -> Child {
    let name = savepoint.name_any();
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "sluice".to_owned()),
        (names::MANAGED_BY_LABEL.to_owned(), names::FIELD_MANAGER.to_owned()),
        (names::SAVEPOINT_LABEL.to_owned(), name.clone()),
    ]);
    labels.insert(names::COMPONENT_LABEL.to_owned(), "savepoint-deletion".to_owned());
    let owner = OwnerReference {
        api_version: Savepoint::api_version(&()).into_owned(),
        kind: Savepoint::kind(&()).into_owned(),
        name: name.clone(),
        uid: savepoint.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let metadata = ObjectMeta {
        name: Some(names::savepoint_deletion(&name)),
        namespace: savepoint.namespace(),
        labels: Some(labels.clone()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
        spec: Some(pod_spec(savepoint, files, path)),
    };
    let spec = JobSpec { backoff_limit: Some(TRIES), active_deadline_seconds: Some(DEADLINE), template, ..JobSpec::default() };
    Child::new(Kind::Job, &Job { metadata, spec: Some(spec), ..Job::default() })
}

fn pod_spec(savepoint: &Savepoint, files: &SavepointFiles, path: &str) -> PodSpec {
    let mut args = ["savepoint", "delete", path, "--if-exists"].map(str::to_owned).to_vec();
    args.extend(files.config.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]));
    let claim = files.storage.volume_claim.as_ref().and_then(|c| c.existing_claim.clone());
    let volume = claim.zip(storage_path(&files.storage));
    let container = Container {
        name: names::CONTAINER.into(),
        image: Some(files.image.clone()),
        args: Some(args),
        env_from: pod::credentials(&files.storage),
        security_context: Some(pod::container_security()),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: volume
            .as_ref()
            .map(|(_, path)| vec![VolumeMount { name: "state".into(), mount_path: (*path).to_owned(), ..VolumeMount::default() }]),
        ..Container::default()
    };
    PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod::pod_security()),
        // A volume may be bound to the node of the job's pod.
        affinity: beside(savepoint, files),
        volumes: volume.map(|(claim_name, _)| {
            let claim = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
            vec![Volume { name: "state".into(), persistent_volume_claim: Some(claim), ..Volume::default() }]
        }),
        ..PodSpec::default()
    }
}

/// On the node of a pod that has the volume, if there is one.
fn beside(savepoint: &Savepoint, files: &SavepointFiles) -> Option<Affinity> {
    let label = match (&files.session_cluster, &savepoint.spec.deployment_ref) {
        (Some(cluster), _) => (names::SESSION_LABEL.to_owned(), cluster.clone()),
        (None, Some(deployment)) => (names::DEPLOYMENT_LABEL.to_owned(), deployment.name.clone()),
        (None, None) => return None,
    };
    let labels = BTreeMap::from([label]);
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }),
        topology_key: "kubernetes.io/hostname".into(),
        ..PodAffinityTerm::default()
    };
    let preferred = WeightedPodAffinityTerm { pod_affinity_term: term, weight: 100 };
    let pods = PodAffinity { preferred_during_scheduling_ignored_during_execution: Some(vec![preferred]), ..PodAffinity::default() };
    Some(Affinity { pod_affinity: Some(pods), ..Affinity::default() })
}
