//! The ServiceAccount of the pods: it has no rights and no token is mounted. It is there so that rights of other accounts never apply.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Child, Kind, Owner};
use crate::names;

pub fn build(owner: &Owner) -> Child {
    Child::new(
        Kind::ServiceAccount,
        &ServiceAccount {
            metadata: owner.metadata(names::job(&owner.name), names::labels(&owner.name)),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
    )
}
