//! The rules, one function for each group of fields.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_crds::{OnDelete, SessionCluster, StreamingDeploymentSpec, UpgradeMode};

use super::{FieldError, Policy};
use crate::capabilities as can;
use crate::deployment::build::{parse_overrides, storage_path};
use crate::deployment::duration;
use crate::deployment::schedule::Schedule;
use crate::names;

/// Settings that are the operator's: field to use instead.
const RESERVED: &[(&str, &str)] = &[
    ("pipeline.name", "the operator names the job's state"),
    ("execution.checkpointing.dir", "use spec.storage.uri"),
    ("execution.checkpointing.savepoint-dir", "use spec.storage.uri"),
    ("execution.checkpointing.interval", "use spec.checkpoints.interval"),
    ("execution.checkpointing.timeout", "use spec.checkpoints.timeout"),
    ("execution.state-recovery.path", "use spec.restoreFrom"),
    ("execution.savepoint.path", "use spec.restoreFrom"),
    ("parallelism.default", "use spec.parallelism"),
    ("pipeline.max-parallelism", "use spec.maxParallelism"),
];

/// Folders of the image that a volume must not hide.
const TAKEN: &[&str] = &["/etc", "/usr", "/bin", "/lib", "/lib64", "/sbin", "/proc", "/sys", "/dev", "/tmp", "/var/run", "/run"];

/// Volumes of the job's pod that hold its SQL and its state.
const OWN_VOLUMES: &[&str] = &["job", "state"];

pub struct Check<'a> {
    pub spec: &'a StreamingDeploymentSpec,
    pub errors: Vec<FieldError>,
}

impl Check<'_> {
    fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(FieldError { path: path.into(), message: message.into(), reason: "Invalid" });
    }

    fn unsupported(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(FieldError { path: path.into(), message: message.into(), reason: "NotSupported" });
    }

    /// A duration; `fallback` if it is wrong.
    fn duration(&mut self, path: &str, text: &str, fallback: &str) -> SignedDuration {
        duration::parse(text).unwrap_or_else(|message| {
            self.error(path, message);
            duration::parse(fallback).unwrap_or(SignedDuration::ZERO)
        })
    }

    fn optional_duration(&mut self, path: &str, text: Option<&String>) -> Option<SignedDuration> {
        text.map(|text| self.duration(path, text, "1d"))
    }

    /// A field that has to have its default, because what it asks for is not there.
    fn only_default<T: PartialEq>(&mut self, there: bool, path: &str, value: &T, default: &T, message: &str) {
        if !there && value != default {
            self.unsupported(path, message);
        }
    }

    pub fn policy(&mut self) -> Policy {
        let spec = self.spec;
        let (upgrade, restart) = (&spec.upgrade, &spec.restart);
        for (path, text) in [("spec.restart.initialBackoff", &restart.initial_backoff), ("spec.restart.maxBackoff", &restart.max_backoff)] {
            self.duration(path, text, "1s");
        }
        let timeout = "this version of the runtime has no timeout for checkpoints: remove this field";
        self.only_default(can::CHECKPOINT_TIMEOUT, "spec.checkpoints.timeout", &spec.checkpoints.timeout, &"10m".to_owned(), timeout);
        if upgrade.max_checkpoint_age.is_some() && upgrade.mode != UpgradeMode::LastState {
            self.error("spec.upgrade.maxCheckpointAge", "is for upgrade.mode LastState only");
        }
        let interval = self.duration("spec.checkpoints.interval", &spec.checkpoints.interval, "1s");
        if interval < SignedDuration::from_millis(10) {
            self.error("spec.checkpoints.interval", "must be 10ms or more");
        }
        let savepoints = spec.savepoints.clone().unwrap_or_default();
        let schedule = savepoints
            .schedule
            .as_ref()
            .and_then(|text| Schedule::parse(text).map_err(|message| self.error("spec.savepoints.schedule", message)).ok());
        Policy {
            suspend: spec.suspend.then(|| "spec.suspend is true".to_owned()),
            savepoint_timeout: self.duration("spec.upgrade.savepointTimeout", &upgrade.savepoint_timeout, "10m"),
            ready_timeout: self.duration("spec.upgrade.readyTimeout", &upgrade.ready_timeout, "5m"),
            max_checkpoint_age: self.optional_duration("spec.upgrade.maxCheckpointAge", upgrade.max_checkpoint_age.as_ref()),
            upgrade: upgrade.clone(),
            restart_enabled: restart.enabled,
            max_attempts: restart.max_attempts,
            checkpoint_interval: interval,
            on_delete: spec.on_delete,
            revision_history_limit: usize::try_from(spec.revision_history_limit).unwrap_or(5).max(1),
            savepoint_history_limit: usize::try_from(savepoints.history_limit).unwrap_or(5).max(1),
            savepoint_max_age: self.optional_duration("spec.savepoints.maxAge", savepoints.max_age.as_ref()),
            savepoint_deletion: savepoints.deletion_policy,
            savepoint_schedule: schedule,
        }
    }

    pub fn name(&mut self, name: &str) {
        if name.len() > 40 || name.contains('.') || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            let message = "at most 40 characters, a letter first and no dots: names of pods and Services are made from it";
            self.error("metadata.name", message);
        }
    }

    pub fn references(&mut self) {
        if let Some(from) = &self.spec.restore_from {
            let given = [from.savepoint_ref.is_some(), from.path.is_some(), from.empty.is_some()];
            if given.iter().filter(|g| **g).count() != 1 {
                self.error("spec.restoreFrom", "exactly one of savepointRef, path and empty is needed");
            }
        }
    }

    /// What a job on a session cluster takes from there. `secrets`: those that the SQL names.
    pub fn session(&mut self, cluster: Option<&Result<SessionCluster, FieldError>>, secrets: &BTreeMap<String, Vec<String>>) {
        let spec = self.spec;
        let cluster = match cluster {
            None => return,
            Some(Err(error)) => return self.errors.push(error.clone()),
            Some(Ok(cluster)) => cluster,
        };
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        let own = [
            ("spec.image", spec.image.is_some()),
            ("spec.workers", spec.workers.is_some()),
            ("spec.storage", spec.storage.is_some()),
            ("spec.podOverrides", spec.pod_overrides.is_some()),
        ];
        for (path, given) in own {
            if given {
                self.error(path, format!("is that of the session cluster '{name}': remove it, or spec.sessionClusterRef"));
            }
        }
        let slots = u32::try_from(cluster.spec.workers.slots).unwrap_or(1);
        let tasks = spec.parallelism.unwrap_or(1);
        if tasks > slots {
            let message =
                format!("is {tasks}, and a pod of the session cluster '{name}' has {slots} slots: all tasks of a job run in one pod");
            self.error("spec.parallelism", message);
        }
        if cluster.spec.storage.is_none() && (spec.upgrade.mode != UpgradeMode::Stateless || spec.on_delete == OnDelete::Savepoint) {
            let message = format!(
                "the session cluster '{name}' has no spec.storage: upgrades keep state in it (or set spec.upgrade.mode to Stateless)"
            );
            self.error("spec.sessionClusterRef", message);
        }
        for secret in secrets.keys().filter(|s| !cluster.spec.secrets.contains(s)) {
            let path = if spec.sql.inline.is_some() { "spec.sql.inline" } else { "spec.sql.configMapKeyRef" };
            self.error(path, format!("the Secret '{secret}' is not in spec.secrets of the session cluster '{name}'"));
        }
    }

    pub fn parallelism(&mut self) {
        let parallelism = self.spec.parallelism.unwrap_or(1);
        if parallelism < 1 {
            self.error("spec.parallelism", "must be 1 or more");
        } else if parallelism > can::MOST_TASKS {
            self.unsupported("spec.parallelism", format!("is at most {} in this version", can::MOST_TASKS));
        } else if parallelism > self.spec.max_parallelism {
            self.error("spec.parallelism", format!("may be at most spec.maxParallelism, which is {}", self.spec.max_parallelism));
        }
        if self.spec.workers.as_ref().and_then(|w| w.replicas).is_some_and(|r| r != 1) {
            let message = "this version runs all tasks of a job in one pod: remove it, and raise spec.parallelism and workers.resources";
            self.unsupported("spec.workers.replicas", message);
        }
    }

    pub fn storage(&mut self) {
        let spec = self.spec;
        let Some(storage) = &spec.storage else {
            if spec.upgrade.mode != UpgradeMode::Stateless && spec.session_cluster_ref.is_none() {
                self.error("spec.storage", "is needed: upgrades keep state in it (or set spec.upgrade.mode to Stateless)");
            }
            return;
        };
        let Some((scheme, _)) = storage.uri.split_once("://") else {
            return self.error("spec.storage.uri", format!("'{}' is no uri: write file:///path", storage.uri));
        };
        if !can::STORAGE_SCHEMES.contains(&scheme) {
            let known = can::STORAGE_SCHEMES.join("://, ");
            self.unsupported("spec.storage.uri", format!("{scheme}:// is not supported by this version; it has {known}://"));
        }
        if scheme == "file" {
            self.volume(storage);
        } else if storage.volume_claim.is_some() {
            self.error("spec.storage.volumeClaim", "is for file:// only");
        }
    }

    fn volume(&mut self, storage: &sluice_crds::Storage) {
        match storage_path(storage) {
            None => self.error("spec.storage.uri", "file:// needs an absolute path: file:///state"),
            Some(path) if path.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..") => {
                self.error("spec.storage.uri", format!("'{path}' is no plain absolute path"));
            }
            Some(path) if TAKEN.iter().any(|taken| path == *taken || path.starts_with(&format!("{taken}/"))) => {
                self.error("spec.storage.uri", format!("a volume cannot be mounted at {path}: take another path, like file:///state"));
            }
            Some(_) => {}
        }
        match &storage.volume_claim {
            None => self.error("spec.storage.volumeClaim", "is needed for file://: without a volume state goes with the pod"),
            Some(claim) if claim.existing_claim.is_some() == claim.size.is_some() => {
                self.error("spec.storage.volumeClaim", "exactly one of existingClaim and size is needed");
            }
            Some(claim) => {
                if let Some(size) = &claim.size
                    && quantity(size).is_none_or(|bytes| bytes <= 0.0)
                {
                    self.error("spec.storage.volumeClaim.size", "must be a size like 10Gi");
                }
            }
        }
    }

    pub fn pods(&mut self) {
        let resources = self.spec.workers.as_ref().and_then(|w| w.resources.as_ref());
        if let Some(resources) = resources {
            for (kind, values) in [("requests", &resources.requests), ("limits", &resources.limits)] {
                for (name, value) in values {
                    if quantity(value).is_none_or(|v| v < 0.0) {
                        self.error(&format!("spec.workers.resources.{kind}.{name}"), "must be a quantity like 500m, 2, 512Mi");
                    }
                }
            }
            for (name, limit) in &resources.limits {
                let request = resources.requests.get(name).and_then(quantity);
                if let (Some(request), Some(limit)) = (request, quantity(limit))
                    && request > limit
                {
                    self.error(&format!("spec.workers.resources.requests.{name}"), "is more than its limit");
                }
            }
        }
        match self.spec.pod_overrides.as_ref().map(parse_overrides) {
            Some(Err(message)) => self.error("spec.podOverrides", message),
            Some(Ok(template)) => self.overrides(&template.spec.unwrap_or_default()),
            None => {}
        }
    }

    /// What a job's state depends on is not to be overridden: it would begin empty, or write where nothing stays.
    fn overrides(&mut self, pod: &PodSpec) {
        let path = "spec.podOverrides.spec";
        if pod.restart_policy.as_deref().is_some_and(|policy| policy != "Always") {
            self.error(&format!("{path}.restartPolicy"), "must be Always: use spec.restart");
        }
        for volume in pod.volumes.iter().flatten().filter(|v| OWN_VOLUMES.contains(&v.name.as_str())) {
            self.error(&format!("{path}.volumes['{}']", volume.name), "is the operator's: take another name");
        }
        let state = self.spec.storage.as_ref().and_then(storage_path).map(str::to_owned);
        for container in pod.containers.iter().filter(|c| c.name == names::CONTAINER) {
            let path = format!("{path}.containers['{}']", names::CONTAINER);
            for (field, given) in [("args", container.args.is_some()), ("command", container.command.is_some())] {
                if given {
                    self.error(&format!("{path}.{field}"), "is the operator's: it says what state the job begins with");
                }
            }
            for mount in container.volume_mounts.iter().flatten() {
                let at = mount.mount_path.trim_end_matches('/');
                let below = |folder: &str| at == folder || at.starts_with(&format!("{folder}/"));
                if Some(at) == state.as_deref() || below(names::JOB_FOLDER) || below(names::SECRETS_FOLDER) {
                    self.error(&format!("{path}.volumeMounts['{}']", mount.mount_path), "something of the operator's is mounted there");
                }
            }
        }
    }

    pub fn config(&mut self) {
        let spec = self.spec;
        for (key, instead) in RESERVED {
            if spec.config.contains_key(*key) {
                self.error(&format!("spec.config['{key}']"), *instead);
            }
        }
        if let Some(key) = spec.config.keys().find(|k| k.starts_with("restart-strategy")) {
            self.error(&format!("spec.config['{key}']"), "use spec.restart");
        }
        for name in spec.variables.keys() {
            let plain = name.chars().enumerate().all(|(i, c)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit()));
            if name.is_empty() || !plain {
                self.error(&format!("spec.variables['{name}']"), "names are letters, digits and _, as in ${NAME}");
            }
        }
    }

    pub fn savepoints(&mut self) {
        let scheduled = self.spec.savepoints.as_ref().is_some_and(|s| s.schedule.is_some());
        if scheduled && self.spec.storage.is_none() && self.spec.session_cluster_ref.is_none() {
            self.error("spec.savepoints.schedule", "needs spec.storage");
        }
        if self.spec.on_delete == OnDelete::Savepoint && self.spec.storage.is_none() && self.spec.session_cluster_ref.is_none() {
            self.error("spec.onDelete", "Savepoint needs spec.storage");
        }
    }

    /// The secrets that the SQL names, with their keys.
    pub fn sql(&mut self, text: &str, namespace: &str) -> BTreeMap<String, Vec<String>> {
        let source = &self.spec.sql;
        if source.inline.is_some() == source.config_map_key_ref.is_some() {
            self.error("spec.sql", "exactly one of inline and configMapKeyRef is needed");
            return BTreeMap::new();
        }
        let path = if source.inline.is_some() { "spec.sql.inline" } else { "spec.sql.configMapKeyRef" };
        if text.trim().is_empty() {
            self.error(path, "there is no SQL in it");
        }
        if text.len() > 512 * 1024 {
            self.error(path, "is longer than 512 KiB: a ConfigMap has to hold it with the settings");
        }
        let mut secrets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (at, _) in text.match_indices("{{secret:") {
            let line = text[..at].matches('\n').count() + 1;
            match secret(&text[at + "{{secret:".len()..], namespace) {
                Ok((name, key)) => {
                    let keys = secrets.entry(name).or_default();
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                Err(message) => self.error(path, format!("line {line}: {message}")),
            }
        }
        secrets.values_mut().for_each(|keys| keys.sort());
        secrets
    }
}

/// Name and key in `name/key}}` or `namespace/name/key}}`.
fn secret(rest: &str, namespace: &str) -> Result<(String, String), String> {
    let shape = || "expected {{secret:name/key}}".to_owned();
    let inner = rest.split_once("}}").map(|(inner, _)| inner).filter(|i| i.len() < 600).ok_or_else(shape)?;
    let parts: Vec<_> = inner.split('/').map(str::trim).collect();
    let (name, key) = match parts[..] {
        [name, key] => (name, key),
        [ns, name, key] if ns == namespace => (name, key),
        [ns, _, _] => return Err(format!("a Secret of namespace '{ns}' cannot be mounted into '{namespace}'")),
        _ => return Err(shape()),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !is_subdomain(name) || key.is_empty() || !key.chars().all(plain) || key.starts_with("..") {
        return Err(format!("'{inner}' names no Secret and key"));
    }
    Ok((name.to_owned(), key.to_owned()))
}

/// As names of Secrets are: RFC 1123.
fn is_subdomain(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| label.starts_with(letter) && label.ends_with(letter) && label.chars().all(|c| letter(c) || c == '-');
    name.len() <= 253 && name.split('.').all(label)
}

/// A quantity as a number: `500m` is 0.5, `1Ki` is 1024.
fn quantity(value: &IntOrString) -> Option<f64> {
    let text = match value {
        IntOrString::Int(n) => return Some(f64::from(*n)),
        IntOrString::String(text) => text.trim(),
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        _ => return None,
    };
    digits.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n * factor)
}
