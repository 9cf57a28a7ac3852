//! The Kubernetes objects of a SessionCluster. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use sluice_crds::{SessionCluster, SessionClusterSpec};

use crate::deployment::build::pod::{self, Parts};
use crate::deployment::build::{Child, Kind, Owner, storage_path, volume_claim};
use crate::deployment::revision::hash;
use crate::names;

fn metadata(owner: &Owner, name: String) -> ObjectMeta {
    owner.owned_by::<SessionCluster>(name, names::session_labels(&owner.name))
}

/// Selects the pods.
fn selector(owner: &Owner) -> BTreeMap<String, String> {
    BTreeMap::from([(names::SESSION_LABEL.to_owned(), owner.name.clone()), (names::COMPONENT_LABEL.to_owned(), "session".to_owned())])
}

/// What pods are made of, and its hash.
///
/// The hash is of what the user has asked for: an operator that makes pods in another way restarts none.
pub fn template(owner: &Owner, spec: &SessionClusterSpec, image: &str) -> (PodTemplateSpec, String) {
    let mut labels = names::session_labels(&owner.name);
    labels.extend(selector(owner));
    let storage = spec.storage.as_ref();
    let mut volumes = vec![pod::temporary()];
    volumes.extend(spec.secrets.iter().map(|secret| pod::secret_files(secret, None)));
    volumes.extend(pod::claim_name(&owner.name, storage).map(pod::state));
    let mut mounts = vec![pod::mount("tmp", "/tmp".into(), false)];
    mounts.extend(spec.secrets.iter().map(|secret| pod::secret_mount(secret)));
    mounts.extend(storage.and_then(storage_path).map(|path| pod::mount("state", path.to_owned(), false)));
    let address = format!("0.0.0.0:{}", names::REST_PORT);
    let args = ["session", "--http", &address, "--slots", &spec.workers.slots.to_string(), "--dir", "/tmp/jobs"].map(str::to_owned);
    let mut template = pod::pod(&Parts {
        labels,
        args: args.to_vec(),
        serves: true,
        image: Some(image.to_owned()),
        service_account: names::session(&owner.name),
        storage,
        resources: spec.workers.resources.as_ref(),
        volumes,
        mounts,
        overrides: spec.pod_overrides.as_ref(),
    });
    let hash = hash(&json!([image, spec.workers.slots, spec.workers.resources, spec.storage, spec.secrets, spec.pod_overrides]));
    let metadata = template.metadata.get_or_insert_default();
    metadata.annotations.get_or_insert_default().insert(names::TEMPLATE_ANNOTATION.into(), hash.clone());
    (template, hash)
}

/// Names a storage.
pub fn storage_hash(spec: &SessionClusterSpec) -> String {
    hash(&json!(spec.storage))
}

pub fn workers(owner: &Owner, spec: &SessionClusterSpec, template: PodTemplateSpec, replicas: i32) -> Child {
    let mut metadata = metadata(owner, names::session(&owner.name));
    metadata.annotations = Some(BTreeMap::from([(names::STORAGE_ANNOTATION.to_owned(), storage_hash(spec))]));
    Child::new(
        Kind::StatefulSet,
        &StatefulSet {
            metadata,
            spec: Some(StatefulSetSpec {
                replicas: Some(replicas),
                service_name: Some(names::workers(&owner.name)),
                pod_management_policy: Some("Parallel".into()),
                // Pods are restarted when their jobs are out of the way.
                update_strategy: Some(StatefulSetUpdateStrategy { type_: Some("OnDelete".into()), rolling_update: None }),
                revision_history_limit: Some(1),
                selector: LabelSelector { match_labels: Some(selector(owner)), ..LabelSelector::default() },
                template,
                ..StatefulSetSpec::default()
            }),
            ..StatefulSet::default()
        },
    )
}

/// All but the pods.
pub fn around(owner: &Owner, spec: &SessionClusterSpec) -> Vec<Child> {
    let mut children = vec![service_account(owner), budget(owner), headless(owner)];
    if spec.gateway.enabled {
        children.push(rest(owner, spec.gateway.port));
    }
    children.extend(volume_claim::build(owner, spec.storage.as_ref(), names::session_labels(&owner.name)));
    children
}

/// It has no rights, and no token is mounted.
fn service_account(owner: &Owner) -> Child {
    let metadata = metadata(owner, names::session(&owner.name));
    Child::new(
        Kind::ServiceAccount,
        &ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() },
    )
}

/// One pod at a time may be evicted; a broken one always.
fn budget(owner: &Owner) -> Child {
    Child::new(
        Kind::PodDisruptionBudget,
        &PodDisruptionBudget {
            metadata: metadata(owner, names::session(&owner.name)),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(LabelSelector { match_labels: Some(selector(owner)), ..LabelSelector::default() }),
                unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        },
    )
}

fn service(owner: &Owner, name: String, spec: ServiceSpec) -> Child {
    let spec = ServiceSpec { selector: Some(selector(owner)), ..spec };
    Child::new(Kind::Service, &Service { metadata: metadata(owner, name), spec: Some(spec), ..Service::default() })
}

fn port(port: i32) -> Option<Vec<ServicePort>> {
    let target_port = Some(IntOrString::String("rest".into()));
    Some(vec![ServicePort { name: Some("rest".into()), port, target_port, ..ServicePort::default() }])
}

/// A name for each pod: a job is on one of them.
fn headless(owner: &Owner) -> Child {
    let spec = ServiceSpec {
        cluster_ip: Some("None".into()),
        publish_not_ready_addresses: Some(true),
        ports: port(names::REST_PORT),
        ..ServiceSpec::default()
    };
    service(owner, names::workers(&owner.name), spec)
}

/// The Service `<name>-rest`, for clients.
fn rest(owner: &Owner, number: i32) -> Child {
    service(owner, names::rest_service(&owner.name), ServiceSpec { ports: port(number), ..ServiceSpec::default() })
}
