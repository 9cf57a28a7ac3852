//! The Service `<name>-rest`: the REST API of the revision that runs.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Child, Kind, Owner};
use crate::names;

pub fn build(owner: &Owner, current: i64) -> Child {
    let mut selector = std::collections::BTreeMap::new();
    selector.insert(names::DEPLOYMENT_LABEL.to_owned(), owner.name.clone());
    selector.insert(names::COMPONENT_LABEL.to_owned(), "job".to_owned());
    selector.insert(names::REVISION_LABEL.to_owned(), format!("r{current}"));
    Child::new(
        Kind::Service,
        &Service {
            metadata: owner.metadata(names::rest_service(&owner.name), names::labels(&owner.name)),
            spec: Some(ServiceSpec {
                selector: Some(selector),
                ports: Some(vec![ServicePort {
                    name: Some("rest".into()),
                    port: names::REST_PORT,
                    target_port: Some(IntOrString::String("rest".into())),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        },
    )
}
