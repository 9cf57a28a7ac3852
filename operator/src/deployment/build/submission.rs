//! A job for a session cluster: what a pod of its own would be given as arguments and by its ConfigMap.

use std::collections::BTreeMap;

use sluice_crds::StartedFrom;

use super::{Owner, WorkloadOptions, config_map, pod};
use crate::deployment::revision::Revision;
use crate::names;
use crate::runtime_api::Submission;

pub fn build(owner: &Owner, revision: &Revision, start: &StartedFrom, options: &WorkloadOptions) -> Submission {
    let mut annotations = BTreeMap::from([
        (names::UID_ANNOTATION.to_owned(), owner.uid.clone()),
        (names::REVISION_LABEL.to_owned(), format!("r{}", revision.number)),
        (names::STATE_ID_ANNOTATION.to_owned(), start.state_id.to_string()),
    ]);
    if let Some(path) = &start.path {
        annotations.insert(names::RESTORED_FROM_ANNOTATION.into(), path.clone());
    }
    Submission {
        deployment: config_map::deployment(owner, revision),
        tasks: revision.template.parallelism,
        settings: pod::own_settings(owner, &revision.template).into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        start: names::start(owner, start.state_id),
        restore_from: start.path.clone(),
        allow_non_restored_state: options.allow_non_restored_state && start.path.is_some(),
        annotations,
    }
}
