//! Jobs that delete files: how far they are.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use crate::deployment::observe;

/// How far such a Job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Deletion {
    /// There is none.
    #[default]
    None,
    Running,
    Done,
    /// Why.
    Failed(String),
}

impl Deletion {
    /// `pods`: those of the Job.
    pub fn of(job: &Job, pods: &[Pod]) -> Self {
        let conditions = job.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        let holds = |kind: &str| conditions.iter().find(|c| c.type_ == kind && c.status == "True");
        let said = pods.iter().filter_map(observe::ended).map(|e| e.message).find(|m| !m.is_empty());
        Self::new(holds("Complete").is_some(), holds("Failed").map(|c| c.message.as_deref()), said)
    }

    /// `failed`: the text of that condition; `said`: the last words of a pod.
    pub fn new(complete: bool, failed: Option<Option<&str>>, said: Option<String>) -> Self {
        match failed {
            _ if complete => Self::Done,
            None => Self::Running,
            Some(message) => Self::Failed(said.or_else(|| message.map(str::to_owned)).unwrap_or_else(|| "no reason given".into())),
        }
    }
}
