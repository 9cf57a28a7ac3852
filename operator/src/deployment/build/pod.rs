//! The pod that runs a job or its preflight, within Pod Security "restricted".

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
use sluice_crds::{StartedFrom, Storage};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckState {
    pub allow_non_restored_state: bool,
}

pub fn template(owner: &Owner, revision: &Revision, purpose: &Purpose) -> PodTemplateSpec {
    let mut labels = names::revision_labels(&owner.name, revision.number);
    let (component, restart) = match purpose {
        Purpose::Job { .. } => ("job", "Always"),
        Purpose::Preflight(_) => ("preflight", "Never"),
    };
    labels.insert(names::COMPONENT_LABEL.into(), component.into());
    let spec = PodSpec {
        containers: vec![container(owner, revision, purpose)],
        volumes: Some(volumes(owner, revision, purpose)),
        restart_policy: Some(restart.into()),
        service_account_name: Some(names::job(&owner.name)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(30),
        security_context: Some(pod_security()),
        ..PodSpec::default()
    };
    let mut template =
        PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() }), spec: Some(spec) };
    if let Some(Ok(overrides)) = revision.template.pod_overrides.as_ref().map(parse_overrides) {
        template.merge_from(overrides);
        // Labels that selectors need are the operator's.
        template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels);
        if let (Purpose::Preflight(_), Some(spec)) = (purpose, &mut template.spec) {
            // A Job takes only Never and OnFailure; and a sidecar of the job would keep it from ending.
            spec.restart_policy = Some(restart.into());
            spec.containers.retain(|c| c.name == names::CONTAINER);
        }
    }
    template
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

fn container(owner: &Owner, revision: &Revision, purpose: &Purpose) -> Container {
    let template = &revision.template;
    let job = matches!(purpose, Purpose::Job { .. });
    Container {
        name: names::CONTAINER.into(),
        image: template.image.clone(),
        args: Some(args(owner, template, purpose)),
        env: Some([("SLUICE_LOG", "info"), ("SLUICE_LOG_FORMAT", "json")].map(|(n, v)| env(n, v)).to_vec()),
        env_from: template.storage.as_ref().and_then(credentials),
        ports: job.then(|| vec![ContainerPort { name: Some("rest".into()), container_port: names::REST_PORT, ..ContainerPort::default() }]),
        liveness_probe: job.then(|| Probe { failure_threshold: Some(6), ..probe("/livez", 10) }),
        readiness_probe: job.then(|| probe("/readyz", 2)),
        resources: template.workers.as_ref().and_then(|w| w.resources.as_ref()).map(|r| ResourceRequirements {
            requests: quantities(&r.requests),
            limits: quantities(&r.limits),
            ..ResourceRequirements::default()
        }),
        security_context: Some(container_security()),
        // The last lines of the log are what the operator shows when the job fails: it needs no right to read logs.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(mounts(template, purpose)),
        ..Container::default()
    }
}

fn env(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

fn quantities(map: &std::collections::BTreeMap<String, IntOrString>) -> Option<std::collections::BTreeMap<String, Quantity>> {
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
            let job = format!("http://{}.{}.svc:{}", names::rest_service(&owner.name), owner.namespace, names::REST_PORT);
            let allow = check.allow_non_restored_state.then(|| "--allow-non-restored-state".to_owned());
            return ["check".to_owned(), job, file].into_iter().chain(allow).collect();
        }
    };
    let mut args = vec!["run".into(), file, "--http".into(), format!("0.0.0.0:{}", names::REST_PORT), "--linger".into()];
    if let Some(storage) = &template.storage {
        for (key, value) in [
            // The same for all starts: commit records in the consumer group are of a pipeline.
            ("pipeline.name", format!("{}.{}", owner.namespace, owner.name)),
            ("execution.checkpointing.dir", format!("{}/{}", storage.uri.trim_end_matches('/'), names::state_folder(owner, "checkpoints"))),
        ] {
            args.extend(["--set".into(), format!("{key}={value}")]);
        }
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
        // The root file system is read-only.
        Volume { name: "tmp".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
    ];
    for (secret, keys) in &revision.template.secrets {
        let items = keys.iter().map(|k| KeyToPath { key: k.clone(), path: k.clone(), mode: None }).collect();
        let source = SecretVolumeSource { secret_name: Some(secret.clone()), items: Some(items), ..SecretVolumeSource::default() };
        volumes.push(Volume { name: secret_volume(secret), secret: Some(source), ..Volume::default() });
    }
    // The preflight does not touch the volume: it may be bound to the old pod's node.
    if let (Purpose::Job { .. }, Some(claim_name)) = (purpose, claim_name(owner, &revision.template)) {
        let claim = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
        volumes.push(Volume { name: "state".into(), persistent_volume_claim: Some(claim), ..Volume::default() });
    }
    volumes
}

/// Secrets' names may hold dots, volumes' names may not.
fn secret_volume(secret: &str) -> String {
    let plain: String = secret.chars().map(|c| if c == '.' { '-' } else { c }).take(40).collect();
    format!("secret-{plain}-{}", &crate::deployment::revision::hash(&Value::String(secret.into()))[..6])
}

fn claim_name(owner: &Owner, template: &Template) -> Option<String> {
    let claim = template.storage.as_ref()?.volume_claim.as_ref()?;
    Some(claim.existing_claim.clone().unwrap_or_else(|| names::volume_claim(&owner.name)))
}

fn mounts(template: &Template, purpose: &Purpose) -> Vec<VolumeMount> {
    let mount = |name: &str, path: String, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("job", names::JOB_FOLDER.into(), true), mount("tmp", "/tmp".into(), false)];
    for secret in template.secrets.keys() {
        mounts.push(mount(&secret_volume(secret), format!("{}/{secret}", names::SECRETS_FOLDER), true));
    }
    if let (Purpose::Job { .. }, Some(path)) = (purpose, template.storage.as_ref().and_then(storage_path)) {
        mounts.push(mount("state", path.to_owned(), false));
    }
    mounts
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
