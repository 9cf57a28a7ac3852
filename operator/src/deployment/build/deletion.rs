//! Jobs that delete files, in a pod that reaches them as the job did: those of a savepoint (`sluice savepoint delete`), and all state of a job
//! (`sluice state delete`).

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Affinity, Container, PodAffinity, PodAffinityTerm, PodSpec, PodTemplateSpec, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use serde_json::Value;
use sluice_crds::{Savepoint, SavepointFiles, Storage};

use super::pod::{self, storage_path, storage_root};
use super::{Child, Kind, Owner};
use crate::deployment::revision::Revision;
use crate::names;

/// Seconds that it may take, with all tries.
pub const DEADLINE: i64 = 180;
const TRIES: i32 = 2;

/// `path`: the savepoint's folder.
pub fn of_savepoint(savepoint: &Savepoint, files: &SavepointFiles, path: &str, overrides: Option<&Value>) -> Child {
    let name = savepoint.name_any();
    let labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "sluice".to_owned()),
        (names::MANAGED_BY_LABEL.to_owned(), names::FIELD_MANAGER.to_owned()),
        (names::SAVEPOINT_LABEL.to_owned(), name.clone()),
    ]);
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
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let args = ["savepoint", "delete", path, "--if-exists"].map(str::to_owned).to_vec();
    let deployment = savepoint.spec.deployment_ref.as_ref().map(|r| r.name.as_str());
    job(metadata, "savepoint-deletion", pod_spec(files, args, beside(files, deployment)), overrides)
}

/// What a job has committed, and these savepoints; none if it has no storage.
pub fn of_state(owner: &Owner, revision: &Revision, savepoints: &[String]) -> Option<Child> {
    let template = &revision.template;
    let storage = template.storage.as_ref()?;
    let root = storage_root(storage)?;
    let metadata = owner.metadata(names::state_deletion(&owner.name), names::labels(&owner.name));
    let cluster = template.session_cluster.clone();
    let holder = cluster.as_ref().unwrap_or(&owner.name).clone();
    let files = files(template.image().to_owned(), cluster, (storage, &holder), &template.config);
    let mut args = ["state", "delete"].map(str::to_owned).to_vec();
    args.extend([format!("{root}/{}", names::state_folder(owner, "checkpoints")), pod::pipeline_name(owner)]);
    args.extend(savepoints.iter().flat_map(|path| ["--savepoint".to_owned(), path.clone()]));
    let beside = beside(&files, Some(&owner.name));
    Some(job(metadata, names::STATE_DELETION, pod_spec(&files, args, beside), template.pod_overrides.as_ref()))
}

/// What deleting files takes: a claim is one that is there, and of the settings those of S3 are enough. `storage`: and whose it is.
pub fn files(
    image: String,
    session_cluster: Option<String>,
    (storage, holder): (&Storage, &str),
    config: &BTreeMap<String, String>,
) -> SavepointFiles {
    let volume_claim = pod::claim_name(holder, Some(storage)).map(pod::existing_claim);
    let config = config.iter().filter(|(key, _)| key.starts_with("s3.")).map(|(k, v)| (k.clone(), v.clone())).collect();
    SavepointFiles { image, session_cluster, storage: Storage { volume_claim, ..storage.clone() }, config }
}

/// `overrides`: what the job's pods need, this one needs, too: a way to pull the image, a node that takes it, an identity for the object store.
fn job(mut metadata: ObjectMeta, component: &str, pod: PodSpec, overrides: Option<&Value>) -> Child {
    let mut labels = metadata.labels.take().unwrap_or_default();
    labels.insert(names::COMPONENT_LABEL.to_owned(), component.to_owned());
    metadata.labels = Some(labels.clone());
    let metadata_of_pod = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
    let mut template = PodTemplateSpec { metadata: Some(metadata_of_pod), spec: Some(pod) };
    pod::lay_over(&mut template, overrides, false);
    let spec = JobSpec { backoff_limit: Some(TRIES), active_deadline_seconds: Some(DEADLINE), template, ..JobSpec::default() };
    Child::new(Kind::Job, &Job { metadata, spec: Some(spec), ..Job::default() })
}

fn pod_spec(files: &SavepointFiles, mut args: Vec<String>, affinity: Option<Affinity>) -> PodSpec {
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
        volume_mounts: volume.as_ref().map(|(_, path)| vec![pod::mount("state", (*path).to_owned(), false)]),
        ..Container::default()
    };
    PodSpec {
        affinity,
        containers: vec![container],
        restart_policy: Some("Never".into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod::pod_security()),
        volumes: volume.map(|(claim_name, _)| vec![pod::state(claim_name)]),
        ..PodSpec::default()
    }
}

/// On the node of a pod that has the volume, if there is one: the volume may be bound to it.
fn beside(files: &SavepointFiles, deployment: Option<&str>) -> Option<Affinity> {
    let label = match (&files.session_cluster, deployment) {
        (Some(cluster), _) => (names::SESSION_LABEL.to_owned(), cluster.clone()),
        (None, Some(deployment)) => (names::DEPLOYMENT_LABEL.to_owned(), deployment.to_owned()),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::deployment::revision::Template;

    #[test]
    fn what_deletes_files_gets_at_them_as_the_job_does() {
        let owner = Owner { name: "job".into(), namespace: "ns".into(), uid: "uid".into() };
        let overrides = json!({"metadata": {"labels": {"team": "a", "app.kubernetes.io/component": "job"}}, "spec": {
            "imagePullSecrets": [{"name": "pull"}], "serviceAccountName": "with-a-role", "tolerations": [{"operator": "Exists"}], "restartPolicy": "Always",
            "containers": [{"name": "sluice", "env": [{"name": "AWS_REGION", "value": "x"}]}, {"name": "side", "image": "y"}]}});
        let template: Template =
            serde_json::from_value(json!({"image": "sluice:1", "storage": {"uri": "s3://b/p"}, "podOverrides": overrides})).unwrap();
        let revision = Revision { number: 1, hash: String::new(), template };
        let savepoint: Savepoint =
            serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": {"deploymentRef": {"name": "job"}}}))
                .unwrap();
        let files = SavepointFiles {
            image: "sluice:1".into(),
            storage: Storage { uri: "s3://b/p".into(), ..Storage::default() },
            ..Default::default()
        };
        let of_state = of_state(&owner, &revision, &[]).unwrap();
        for (child, component) in
            [(of_state, "state-deletion"), (of_savepoint(&savepoint, &files, "s3://b/p/x", Some(&overrides)), "savepoint-deletion")]
        {
            let template = &child.object["spec"]["template"];
            let (labels, pod) = (&template["metadata"]["labels"], &template["spec"]);
            assert_eq!((&labels["team"], &labels["app.kubernetes.io/component"]), (&json!("a"), &json!(component)));
            assert_eq!((&pod["imagePullSecrets"][0]["name"], &pod["serviceAccountName"]), (&json!("pull"), &json!("with-a-role")));
            assert_eq!((&pod["restartPolicy"], &pod["tolerations"][0]["operator"]), (&json!("Never"), &json!("Exists")));
            assert_eq!(pod["containers"].as_array().unwrap().len(), 1, "no sidecar keeps it from ending");
            assert_eq!(
                (&pod["containers"][0]["env"][0]["name"], &pod["containers"][0]["args"][1]),
                (&json!("AWS_REGION"), &json!("delete"))
            );
        }
    }
}
