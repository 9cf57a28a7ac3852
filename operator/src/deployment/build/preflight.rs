//! The preflight Job: the target image plans the target SQL, while the old job runs, and asks that job whether its state fits. What it says last
//! is its termination message.

use k8s_openapi::api::batch::v1::{Job, JobSpec};

use super::pod::{self, CheckState, Purpose};
use super::{Child, Kind, Owner};
use crate::deployment::revision::Revision;
use crate::names;

/// Seconds until a preflight that does not end is a failure: an image that cannot be pulled, a Secret that is not there.
pub const DEADLINE: i64 = 120;

/// `check_state`: the job that runs is asked what its state is.
pub fn build(owner: &Owner, revision: &Revision, check_state: Option<CheckState>) -> Child {
    let mut metadata = owner.metadata(names::preflight(&owner.name, revision.number), names::revision_labels(&owner.name, revision.number));
    if let Some(labels) = &mut metadata.labels {
        labels.insert(names::COMPONENT_LABEL.into(), "preflight".into());
    }
    Child::new(
        Kind::Job,
        &Job {
            metadata,
            spec: Some(JobSpec {
                backoff_limit: Some(0),
                active_deadline_seconds: Some(DEADLINE),
                template: pod::template(owner, revision, &Purpose::Preflight(check_state)),
                ..JobSpec::default()
            }),
            ..Job::default()
        },
    )
}
