//! Pure: a spec to what can be run, or to everything that is wrong with it.
//!
//! The CRD's CEL rules say most of this already when an object is applied; they are said again here, because the operator may meet objects
//! that were stored before a rule was, and because some of it CEL cannot say.

mod fields;

use std::fmt;

use jiff::SignedDuration;
use sluice_crds::{DeletionPolicy, OnDelete, StreamingDeploymentSpec, UpgradeMode};

use super::duration;
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
    pub suspend: bool,
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
pub fn validate(name: &str, namespace: &str, spec: &StreamingDeploymentSpec, sql: Result<&str, FieldError>) -> Validated {
    let mut check = fields::Check { spec, errors: vec![] };
    let policy = check.policy();
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
            text.to_owned()
        }
        Err(error) => {
            check.errors.push(error);
            String::new()
        }
    };
    let template = if check.errors.is_empty() {
        Ok(Template {
            image: spec.image.clone(),
            sql: text,
            variables: spec.variables.clone(),
            config: settings(spec, &policy),
            parallelism: spec.parallelism.unwrap_or(1),
            restart_nonce: spec.restart_nonce,
            restore_nonce: spec.restore_from.as_ref().map_or(0, |r| r.nonce),
            storage: spec.storage.clone(),
            workers: spec.workers.clone(),
            pod_overrides: spec.pod_overrides.clone(),
            secrets,
        })
    } else {
        Err(check.errors)
    };
    Validated { policy, template }
}

/// The settings of the job: the user's, and those that fields of the spec stand for. The runtime knows durations of one unit only.
fn settings(spec: &StreamingDeploymentSpec, policy: &Policy) -> std::collections::BTreeMap<String, String> {
    let millis = |text: &str| format!("{} ms", duration::parse(text).unwrap_or_default().as_millis());
    let mut settings = spec.config.clone();
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
