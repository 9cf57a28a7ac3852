//! An object that this version does not understand: one of a newer operator, or of an older one whose fields are not there any more.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::PartialObjectMetaExt;
use kube::runtime::controller::Action as Next;
use serde_json::Value;
use sluice_crds::StreamingDeployment;

use super::status;
use crate::context::Context;
use crate::error::Result;
use crate::k8s::apply;
use crate::names;

/// How long the deletion of such an object waits for an operator that knows what its onDelete asks for.
const MOST: SignedDuration = SignedDuration::from_mins(15);

/// Says so in conditions, and lets it go when it is deleted. All else of the status stays as it is: it is what an operator that understands it goes
/// on from.
///
/// # Errors
/// If the API server refuses or does not answer.
pub async fn show(context: &Context, raw: &DynamicObject, error: &serde_json::Error) -> Result<Next> {
    let shell = raw.metadata.clone().into_request_partial::<StreamingDeployment>();
    if let Some(asked) = &raw.metadata.deletion_timestamp {
        let forced = super::has(raw, names::FORCE_DELETE_ANNOTATION, "true");
        let ours = raw.finalizers().iter().any(|f| f == names::FINALIZER);
        if ours && (forced || context.now().duration_since(asked.0) > MOST) {
            apply::finalizer(context, &shell, names::FINALIZER, false).await?;
            return Ok(Next::await_change());
        }
    }
    let old = raw.data.get("status").cloned().unwrap_or_else(|| serde_json::json!({}));
    let mut conditions: Vec<Condition> = serde_json::from_value(old["conditions"].clone()).unwrap_or_default();
    let (generation, now) = (super::generation(raw), context.now());
    let message = format!("this operator ({}) does not understand the object: {error}", env!("CARGO_PKG_VERSION"));
    for (kind, holds) in [("Accepted", false), ("Ready", false), ("Stalled", true)] {
        status::set(&mut conditions, kind, holds, "Invalid", &message, generation, now);
    }
    status::clear(&mut conditions, "Reconciling");
    let mut new = old.clone();
    new["conditions"] = serde_json::to_value(conditions).unwrap_or(Value::Null);
    new["observedGeneration"] = generation.into();
    apply::status(context, &shell, Some(&old), &new).await?;
    Ok(Next::requeue(Duration::from_secs(60)))
}
