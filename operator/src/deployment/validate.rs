//! Pure: a spec to what can be run, or to everything that is wrong with it.
//!
//! The CRD's CEL rules say most of this already when an object is applied; they are said again here, because the operator may meet objects
//! that were stored before a rule was, and because some of it CEL cannot say.

mod fields;

use std::fmt;

use jiff::SignedDuration;
use sluice_crds::{DeletionPolicy, OnDelete, SessionCluster, StreamingDeploymentSpec, UpgradeMode};

use super::duration;
use super::place::updates;
use super::revision::Template;
use super::schedule::Schedule;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// As in the YAML: `spec.storage.uri`.
    pub path: String,
    pub message: String,
    /// The condition reason: Invalid, NotSupported, InvalidSql.
    pub reason: &'static str,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// What the operator does with a job, apart from what its pods are made of. There is always one: a running job is looked after even if its
/// spec has become invalid.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Why the job is to be down, if it is.
    pub suspend: Option<String>,
    pub upgrade: sluice_crds::Upgrade,
    pub savepoint_timeout: SignedDuration,
    pub ready_timeout: SignedDuration,
    pub max_checkpoint_age: Option<SignedDuration>,
    pub restart_enabled: bool,
    pub max_attempts: i32,
    pub checkpoint_interval: SignedDuration,
    pub on_delete: OnDelete,
    pub revision_history_limit: usize,
    pub savepoint_history_limit: usize,
    pub savepoint_max_age: Option<SignedDuration>,
    /// Of savepoints that the operator takes by itself.
    pub savepoint_deletion: DeletionPolicy,
    pub savepoint_schedule: Option<Schedule>,
}

/// A spec, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    pub policy: Policy,
    /// What the pods are made of, or what is wrong.
    pub template: Result<Template, Vec<FieldError>>,
}

/// Judges a spec. `sql` is the resolved text, or why there is none.
/// `cluster`: the one that `sessionClusterRef` names, or why there is none.
pub fn validate(
    name: &str,
    namespace: &str,
    spec: &StreamingDeploymentSpec,
    sql: Result<&str, FieldError>,
    cluster: Option<&Result<SessionCluster, FieldError>>,
) -> Validated {
    let mut check = fields::Check { spec, errors: vec![] };
    let mut policy = check.policy();
    if let Some(Ok(cluster)) = cluster.filter(|c| c.as_ref().is_ok_and(updates)) {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        policy.suspend.get_or_insert_with(|| format!("the pods of the session cluster '{name}' are restarted"));
    }
    check.name(name);
    check.references();
    check.parallelism();
    check.storage();
    check.pods();
    check.config();
    check.savepoints();
    let mut secrets = std::collections::BTreeMap::new();
    let text = match sql {
        Ok(text) => {
            secrets = check.sql(text, namespace);
            check.session(cluster, &secrets);
            text.to_owned()
        }
        Err(error) => {
            check.errors.push(error);
            check.session(cluster, &secrets);
            String::new()
        }
    };
    let template = if check.errors.is_empty() {
        let cluster = cluster.and_then(|c| c.as_ref().ok());
        Ok(Template {
            session_cluster: spec.session_cluster_ref.as_ref().map(|r| r.name.clone()),
            image: spec.image.clone(),
            sql: text,
            variables: spec.variables.clone(),
            config: settings(spec, cluster, &policy),
            parallelism: spec.parallelism.unwrap_or(1),
            restart_nonce: spec.restart_nonce,
            restore_nonce: spec.restore_from.as_ref().map_or(0, |r| r.nonce),
            storage: cluster.map_or_else(|| spec.storage.clone(), |c| c.spec.storage.clone()),
            workers: spec.workers.clone(),
            pod_overrides: spec.pod_overrides.clone(),
            secrets,
        })
    } else {
        Err(check.errors)
    };
    Validated { policy, template }
}

/// What is wrong with what a SessionCluster has in common with a StreamingDeployment.
pub fn shared_rules(name: &str, spec: &StreamingDeploymentSpec) -> Vec<FieldError> {
    let mut check = fields::Check { spec, errors: vec![] };
    check.name(name);
    if spec.storage.is_some() {
        check.storage();
    }
    check.pods();
    check.config();
    check.errors
}

/// The settings of the job: the user's, and those that fields of the spec stand for. The runtime knows durations of one unit only.
fn settings(
    spec: &StreamingDeploymentSpec,
    cluster: Option<&SessionCluster>,
    policy: &Policy,
) -> std::collections::BTreeMap<String, String> {
    let millis = |text: &str| format!("{} ms", duration::parse(text).unwrap_or_default().as_millis());
    let mut settings = cluster.map(|c| c.spec.config.clone()).unwrap_or_default();
    settings.extend(spec.config.clone());
    let mut set = |key: &str, value: String| drop(settings.insert(key.to_owned(), value));
    set("execution.checkpointing.interval", millis(&spec.checkpoints.interval));
    if policy.restart_enabled {
        set("restart-strategy.type", "exponential-delay".into());
        set("restart-strategy.exponential-delay.initial-backoff", millis(&spec.restart.initial_backoff));
        set("restart-strategy.exponential-delay.max-backoff", millis(&spec.restart.max_backoff));
        set("restart-strategy.exponential-delay.backoff-multiplier", "2".into());
        if policy.max_attempts >= 0 {
            set("restart-strategy.exponential-delay.attempts-before-reset-backoff", policy.max_attempts.to_string());
        }
    } else {
        set("restart-strategy.type", "none".into());
    }
    settings
}

impl Policy {
    /// Whether a savepoint can be taken at all.
    pub fn keeps_state(&self) -> bool {
        self.upgrade.mode != UpgradeMode::Stateless
    }
}

#[cfg(test)]
mod tests;
