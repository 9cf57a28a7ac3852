//! The PersistentVolumeClaim for a `file://` storage. It has no owner: state outlives the StreamingDeployment unless `onDelete` says otherwise.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use sluice_crds::Storage;

use super::{Child, Kind, Owner};
use crate::names;

/// None if the claim is the user's, or if there is no volume.
pub fn build(owner: &Owner, storage: Option<&Storage>, labels: BTreeMap<String, String>) -> Option<Child> {
    let claim = storage?.volume_claim.as_ref()?;
    let size = claim.size.as_ref()?;
    let requests = BTreeMap::from([("storage".to_owned(), quantity(size))]);
    Some(Child::new(
        Kind::PersistentVolumeClaim,
        &PersistentVolumeClaim {
            metadata: owner.free_metadata(names::volume_claim(&owner.name), labels),
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".into()]),
                resources: Some(VolumeResourceRequirements { requests: Some(requests), ..VolumeResourceRequirements::default() }),
                storage_class_name: claim.storage_class_name.clone(),
                ..PersistentVolumeClaimSpec::default()
            }),
            ..PersistentVolumeClaim::default()
        },
    ))
}

/// `1` and `"1"` are the same quantity.
pub fn quantity(value: &IntOrString) -> Quantity {
    match value {
        IntOrString::Int(n) => Quantity(n.to_string()),
        IntOrString::String(text) => Quantity(text.clone()),
    }
}
