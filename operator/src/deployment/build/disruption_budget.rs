//! The PodDisruptionBudget. A job has one pod, so a budget that forbids its eviction would block every drain of a node: it allows one, and
//! `unhealthyPodEvictionPolicy` lets a broken pod go. It is there so that cluster policies that ask for one are met, and to be changed by nobody.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Child, Kind, Owner};
use crate::names;

pub fn build(owner: &Owner) -> Child {
    let mut labels = std::collections::BTreeMap::new();
    labels.insert(names::DEPLOYMENT_LABEL.to_owned(), owner.name.clone());
    labels.insert(names::COMPONENT_LABEL.to_owned(), "job".to_owned());
    Child::new(
        Kind::PodDisruptionBudget,
        &PodDisruptionBudget {
            metadata: owner.metadata(names::job(&owner.name), names::labels(&owner.name)),
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(1)),
                selector: Some(LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }),
                unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        },
    )
}
