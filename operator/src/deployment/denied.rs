//! What the API server had against a pod that should be there: only events of who was to make it tell. Lists of events are dear (the API server keeps
//! none of them in its memory, and there are thousands where there are many jobs), so they are asked for seldom, and what they said is kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::ListParams;

use super::build::Owner;
use crate::context::Context;
use crate::error::{Result, What};

/// By (namespace, name) of the deployment and name of the child that makes pods.
#[derive(Default)]
pub struct Denied(Mutex<BTreeMap<(String, String), BTreeMap<String, Answer>>>);

impl Denied {
    /// The deployment is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), name.to_owned()));
    }
}

struct Answer {
    /// Since when there is no pod.
    since: Timestamp,
    asked: Option<Timestamp>,
    text: Option<String>,
}

/// A child that has made no pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Podless {
    pub child: String,
    /// How long a pod may be on its way.
    pub patience: SignedDuration,
}

/// Between two questions.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Why these children of a deployment have made no pods, in their order. There are no others.
///
/// # Errors
/// If the API server does not answer.
pub async fn reasons(context: &Context, owner: &Owner, children: &[Podless]) -> Result<Vec<Option<String>>> {
    let (key, now) = ((owner.namespace.clone(), owner.name.clone()), context.now());
    let lock = || context.denied.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut known = lock().remove(&key).unwrap_or_default();
    known.retain(|name, _| children.iter().any(|c| c.child == *name));
    let mut found = vec![];
    for Podless { child, patience } in children {
        let answer = known.entry(child.clone()).or_insert(Answer { since: now, asked: None, text: None });
        let waits = if answer.asked.is_some() { AGAIN.max(*patience) } else { *patience };
        if now.duration_since(answer.asked.unwrap_or(answer.since)) >= waits {
            answer.text = refusal(context, &owner.namespace, child).await?;
            answer.asked = Some(now);
        }
        found.push(answer.text.clone());
    }
    if !known.is_empty() {
        lock().insert(key, known);
    }
    Ok(found)
}

/// The reason of a condition for what an API server has against a pod.
pub fn reason(message: &str) -> &'static str {
    if message.contains("exceeded quota") { "QuotaExceeded" } else { "PodForbidden" }
}

/// The newest event that says why a child could not make its pod.
///
/// # Errors
/// If the API server does not answer.
pub async fn refusal(context: &Context, namespace: &str, child: &str) -> Result<Option<String>> {
    let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(context.client.clone(), namespace);
    let wanted = ListParams::default().fields(&format!("involvedObject.name={child},reason=FailedCreate"));
    let events = api.list(&wanted).await.what(|| "list events".into())?.items;
    let newest = events.into_iter().max_by_key(|e| e.last_timestamp.clone().or_else(|| e.first_timestamp.clone()));
    Ok(newest.and_then(|e| e.message).map(|m| m.chars().take(1000).collect()))
}
