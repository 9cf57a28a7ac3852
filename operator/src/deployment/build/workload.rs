//! The StatefulSet of a revision. A StatefulSet, because it never runs two pods of one name at a time: a job has one writer.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use sluice_crds::StartedFrom;

use super::pod::{self, Purpose};
use super::{Child, Kind, Owner, WorkloadOptions};
use crate::deployment::revision::Revision;
use crate::names;

pub fn build(owner: &Owner, revision: &Revision, start: &StartedFrom, options: &WorkloadOptions) -> Child {
    let name = names::revision(&owner.name, revision.number);
    let mut metadata = owner.metadata(name, names::revision_labels(&owner.name, revision.number));
    let mut annotations = BTreeMap::from([(names::STATE_ID_ANNOTATION.to_owned(), start.state_id.to_string())]);
    if let Some(path) = &start.path {
        annotations.insert(names::RESTORED_FROM_ANNOTATION.into(), path.clone());
    }
    metadata.annotations = Some(annotations);
    let mut selected = BTreeMap::new();
    selected.insert(names::DEPLOYMENT_LABEL.to_owned(), owner.name.clone());
    selected.insert(names::COMPONENT_LABEL.to_owned(), "job".to_owned());
    selected.insert(names::REVISION_LABEL.to_owned(), format!("r{}", revision.number));
    let purpose = Purpose::Job { start, allow_non_restored_state: options.allow_non_restored_state };
    Child::new(
        Kind::StatefulSet,
        &StatefulSet {
            metadata,
            spec: Some(StatefulSetSpec {
                replicas: Some(options.replicas),
                // No headless Service: nobody asks for the pods by name.
                service_name: Some(String::new()),
                pod_management_policy: Some("Parallel".into()),
                // A changed template must not restart the pod behind the operator's back: what changes it stops the job first.
                update_strategy: Some(StatefulSetUpdateStrategy { type_: Some("OnDelete".into()), rolling_update: None }),
                revision_history_limit: Some(1),
                selector: LabelSelector { match_labels: Some(selected), ..LabelSelector::default() },
                template: pod::template(owner, revision, &purpose),
                ..StatefulSetSpec::default()
            }),
            ..StatefulSet::default()
        },
    )
}
