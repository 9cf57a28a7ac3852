//! The pod that runs a job or its preflight, within Pod Security "restricted".

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvFromSource, EnvVar, HTTPGetAction, KeyToPath,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretEnvSource, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use sluice_crds::{Resources, StartedFrom, Storage, VolumeClaim};

use super::Owner;
use super::volume_claim::quantity;
use crate::deployment::revision::{Revision, Template};
use crate::names;

/// User and group of the image.
const USER: i64 = 65532;

/// What a pod is for.
pub enum Purpose<'a> {
    Job { start: &'a StartedFrom, allow_non_restored_state: bool },
    Preflight(Option<CheckState>),
}

/// What a preflight checks beside the SQL: that it takes the state of the job that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckState {
    /// Its address, as `sluice check` takes it.
    pub job: String,
    pub allow_non_restored_state: bool,
}

pub fn template(owner: &Owner, revision: &Revision, purpose: &Purpose) -> PodTemplateSpec {
    let mut labels = names::revision_labels(&owner.name, revision.number);
    let job = matches!(purpose, Purpose::Job { .. });
    labels.insert(names::COMPONENT_LABEL.into(), if job { "job" } else { "preflight" }.into());
    let template = &revision.template;
    pod(&Parts {
        labels,
        args: args(owner, template, purpose),
        serves: job,
        image: template.image.clone(),
        service_account: names::job(&owner.name),
        storage: template.storage.as_ref(),
        resources: template.workers.as_ref().and_then(|w| w.resources.as_ref()),
        volumes: volumes(owner, revision, purpose),
        mounts: mounts(template, purpose),
        overrides: template.pod_overrides.as_ref(),
    })
}

/// What pods of the runtime differ in.
pub struct Parts<'a> {
    pub labels: BTreeMap<String, String>,
    pub args: Vec<String>,
    /// It listens and stays; else it ends.
    pub serves: bool,
    pub image: Option<String>,
    pub service_account: String,
    /// Its credentials are given to the process.
    pub storage: Option<&'a Storage>,
    pub resources: Option<&'a Resources>,
    pub volumes: Vec<Volume>,
    pub mounts: Vec<VolumeMount>,
    pub overrides: Option<&'a Value>,
}

/// A pod of the runtime, with what the user lays over it.
pub fn pod(parts: &Parts) -> PodTemplateSpec {
    let restart = if parts.serves { "Always" } else { "Never" };
    let spec = PodSpec {
        containers: vec![container(parts)],
        volumes: Some(parts.volumes.clone()),
        restart_policy: Some(restart.into()),
        service_account_name: Some(parts.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(30),
        security_context: Some(pod_security()),
        ..PodSpec::default()
    };
    let mut template =
        PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(parts.labels.clone()), ..ObjectMeta::default() }), spec: Some(spec) };
    lay_over(&mut template, parts.overrides, parts.serves);
    template
}

/// Lays what the user wants of pods over one. `serves`: it stays; else it ends.
pub fn lay_over(template: &mut PodTemplateSpec, overrides: Option<&Value>, serves: bool) {
    let Some(Ok(overrides)) = overrides.map(parse_overrides) else { return };
    let labels = template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    template.merge_from(overrides);
    // Labels that selectors need are the operator's.
    template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels);
    if let (false, Some(spec)) = (serves, &mut template.spec) {
        // A Job takes only Never and OnFailure; and a sidecar of the job would keep it from ending.
        spec.restart_policy = Some("Never".into());
        spec.containers.retain(|c| c.name == names::CONTAINER);
    }
}

/// Pod Security "restricted", of a pod.
pub fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// The same, of a container.
pub fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        ..SecurityContext::default()
    }
}

/// Credentials of a storage as environment variables.
pub fn credentials(storage: &Storage) -> Option<Vec<EnvFromSource>> {
    let secret = storage.credentials_secret_ref.as_ref()?;
    let source = SecretEnvSource { name: secret.name.clone(), optional: None };
    Some(vec![EnvFromSource { secret_ref: Some(source), ..EnvFromSource::default() }])
}

/// A PodTemplate of the user.
///
/// # Errors
/// Paths of fields that a pod does not have, or what is of the wrong type.
pub fn parse_overrides(value: &Value) -> Result<PodTemplateSpec, String> {
    let parsed: PodTemplateSpec = serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
    let known = serde_json::to_value(&parsed).unwrap_or_default();
    match unknown(value, &known) {
        Some(path) => Err(format!("a pod template has no field '{}'", path.trim_start_matches('.'))),
        None => Ok(parsed),
    }
}

/// The first field of `value` that `known` does not have.
fn unknown(value: &Value, known: &Value) -> Option<String> {
    match (value, known) {
        (Value::Object(value), Value::Object(known)) => value.iter().find_map(|(key, inner)| match known.get(key) {
            Some(k) => unknown(inner, k).map(|path| format!(".{key}{path}")),
            None if inner.is_null() => None,
            None => Some(format!(".{key}")),
        }),
        (Value::Array(value), Value::Array(known)) => {
            value.iter().zip(known).enumerate().find_map(|(i, (inner, k))| unknown(inner, k).map(|path| format!("[{i}]{path}")))
        }
        _ => None,
    }
}

fn container(parts: &Parts) -> Container {
    let serves = parts.serves;
    Container {
        name: names::CONTAINER.into(),
        image: parts.image.clone(),
        args: Some(parts.args.clone()),
        env: Some([("SLUICE_LOG", "info"), ("SLUICE_LOG_FORMAT", "json")].map(|(n, v)| env(n, v)).to_vec()),
        env_from: parts.storage.and_then(credentials),
        ports: serves
            .then(|| vec![ContainerPort { name: Some("rest".into()), container_port: names::REST_PORT, ..ContainerPort::default() }]),
        liveness_probe: serves.then(|| Probe { failure_threshold: Some(6), ..probe("/livez", 10) }),
        readiness_probe: serves.then(|| probe("/readyz", 2)),
        resources: parts.resources.map(|r| ResourceRequirements {
            requests: quantities(&r.requests),
            limits: quantities(&r.limits),
            ..ResourceRequirements::default()
        }),
        security_context: Some(container_security()),
        // The last lines of the log are what the operator shows when the job fails: it needs no right to read logs.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(parts.mounts.clone()),
        ..Container::default()
    }
}

fn env(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

fn quantities(map: &BTreeMap<String, IntOrString>) -> Option<BTreeMap<String, Quantity>> {
    (!map.is_empty()).then(|| map.iter().map(|(k, v)| (k.clone(), quantity(v))).collect())
}

fn probe(path: &str, period: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction { path: Some(path.into()), port: IntOrString::String("rest".into()), ..HTTPGetAction::default() }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

fn args(owner: &Owner, template: &Template, purpose: &Purpose) -> Vec<String> {
    let file = format!("{}/{}", names::JOB_FOLDER, names::JOB_FILE);
    let (start, allow_non_restored_state) = match purpose {
        Purpose::Job { start, allow_non_restored_state } => (start, allow_non_restored_state),
        Purpose::Preflight(None) => return vec!["plan".into(), file],
        Purpose::Preflight(Some(check)) => {
            let allow = check.allow_non_restored_state.then(|| "--allow-non-restored-state".to_owned());
            return ["check".to_owned(), check.job.clone(), file].into_iter().chain(allow).collect();
        }
    };
    let mut args = vec!["run".into(), file, "--http".into(), format!("0.0.0.0:{}", names::REST_PORT), "--linger".into()];
    for (key, value) in own_settings(owner, template) {
        args.extend(["--set".into(), format!("{key}={value}")]);
    }
    if let Some(start) = names::start(owner, start.state_id) {
        args.extend(["--start".into(), start]);
    }
    if let Some(path) = &start.path {
        args.extend(["--restore-from".into(), path.clone()]);
        if *allow_non_restored_state {
            args.push("--allow-non-restored-state".into());
        }
    }
    args
}

/// Settings that are the operator's: what the job's state is called, and where it is.
pub fn own_settings(owner: &Owner, template: &Template) -> Vec<(&'static str, String)> {
    let Some(storage) = &template.storage else { return vec![] };
    vec![
        // The same for all starts: commit records in the consumer group are of a pipeline.
        ("pipeline.name", pipeline_name(owner)),
        ("execution.checkpointing.dir", format!("{}/{}", storage.uri.trim_end_matches('/'), names::state_folder(owner, "checkpoints"))),
    ]
}

/// What the runtime knows the job by.
pub fn pipeline_name(owner: &Owner) -> String {
    format!("{}.{}", owner.namespace, owner.name)
}

fn volumes(owner: &Owner, revision: &Revision, purpose: &Purpose) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: "job".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::revision(&owner.name, revision.number),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        temporary(),
    ];
    for (secret, keys) in &revision.template.secrets {
        let items = keys.iter().map(|k| KeyToPath { key: k.clone(), path: k.clone(), mode: None }).collect();
        volumes.push(secret_files(secret, Some(items)));
    }
    // The preflight does not touch the volume: it may be bound to the old pod's node.
    if let (Purpose::Job { .. }, Some(claim_name)) = (purpose, claim_name(&owner.name, revision.template.storage.as_ref())) {
        volumes.push(state(claim_name));
    }
    volumes
}

/// The root file system is read-only.
pub fn temporary() -> Volume {
    Volume { name: "tmp".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// Keys of a Secret as files; all, if none are named.
pub fn secret_files(secret: &str, items: Option<Vec<KeyToPath>>) -> Volume {
    let source = SecretVolumeSource { secret_name: Some(secret.to_owned()), items, ..SecretVolumeSource::default() };
    Volume { name: secret_volume(secret), secret: Some(source), ..Volume::default() }
}

pub fn state(claim_name: String) -> Volume {
    let claim = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
    Volume { name: "state".into(), persistent_volume_claim: Some(claim), ..Volume::default() }
}

/// Secrets' names may hold dots, volumes' names may not.
fn secret_volume(secret: &str) -> String {
    let plain: String = secret.chars().map(|c| if c == '.' { '-' } else { c }).take(40).collect();
    format!("secret-{plain}-{}", &crate::deployment::revision::hash(&Value::String(secret.into()))[..6])
}

/// The claim of a storage of somebody called `owner`.
pub fn claim_name(owner: &str, storage: Option<&Storage>) -> Option<String> {
    let claim = storage?.volume_claim.as_ref()?;
    Some(claim.existing_claim.clone().unwrap_or_else(|| names::volume_claim(owner)))
}

/// A claim as it is told to those who do not make it.
pub fn existing_claim(name: String) -> VolumeClaim {
    VolumeClaim { existing_claim: Some(name), ..VolumeClaim::default() }
}

fn mounts(template: &Template, purpose: &Purpose) -> Vec<VolumeMount> {
    let mut mounts = vec![mount("job", names::JOB_FOLDER.into(), true), mount("tmp", "/tmp".into(), false)];
    mounts.extend(template.secrets.keys().map(|secret| secret_mount(secret)));
    if let (Purpose::Job { .. }, Some(path)) = (purpose, template.storage.as_ref().and_then(storage_path)) {
        mounts.push(mount("state", path.to_owned(), false));
    }
    mounts
}

pub fn mount(name: &str, path: String, read_only: bool) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path, read_only: read_only.then_some(true), ..VolumeMount::default() }
}

pub fn secret_mount(secret: &str) -> VolumeMount {
    mount(&secret_volume(secret), format!("{}/{secret}", names::SECRETS_FOLDER), true)
}

/// The folder of a `file://` storage.
pub fn storage_path(storage: &Storage) -> Option<&str> {
    storage.uri.strip_prefix("file://").map(|path| path.trim_end_matches('/')).filter(|path| path.starts_with('/'))
}

/// Where a storage begins, as the runtime is told: a folder, or `s3://bucket/prefix`.
pub fn storage_root(storage: &Storage) -> Option<&str> {
    if storage.uri.starts_with("file://") { storage_path(storage) } else { Some(storage.uri.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests;
