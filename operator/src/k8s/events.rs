//! Events: what `kubectl describe` tells.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};

use crate::context::Context;
use crate::deployment::decide::Note;

/// The API server takes no longer notes.
const MOST: usize = 1000;

/// Publishes events. One that cannot be published is logged: nothing depends on it.
pub async fn publish(context: &Context, object: &ObjectReference, notes: &[Note]) {
    for note in notes {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.clone(),
            note: Some(note.text.chars().take(MOST).collect()),
            action: "Reconcile".into(),
            secondary: None,
        };
        tracing::info!(namespace = object.namespace, name = object.name, reason = note.reason, "{}", note.text);
        if let Err(error) = context.recorder.publish(&event, object).await {
            tracing::warn!(name = object.name, "an event could not be published: {error}");
        }
    }
}
