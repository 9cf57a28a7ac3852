//! Events: what `kubectl describe` tells.
//!
//! kube's own recorder counts an event of the same reason up and keeps its first text; here texts differ (which revision, which error), so each
//! is an event of its own. The same one is made once a minute at most: its name is a hash of what it says.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::context::Context;
use crate::deployment::decide::Note;
use crate::deployment::revision::hash;
use crate::names;

/// The API server takes no longer notes: so many bytes.
const MOST: usize = 1024;

/// Publishes events. One that cannot be published is logged: nothing depends on it.
pub async fn publish(context: &Context, object: &ObjectReference, notes: &[Note]) {
    let api: Api<Event> = Api::namespaced(context.client.clone(), object.namespace.as_deref().unwrap_or_default());
    for note in notes {
        tracing::info!(namespace = object.namespace, name = object.name, reason = note.reason, "{}", note.text);
        match api.create(&PostParams::default(), &event(context, object, note)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => tracing::warn!(name = object.name, "an event could not be published: {error}"),
        }
    }
}

fn event(context: &Context, object: &ObjectReference, note: &Note) -> Event {
    let now = (context.clock)();
    let says = hash(&json!([object.uid, note.reason, note.text, now.as_second() / 60]));
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{says}", object.name.as_deref().unwrap_or_default())),
            namespace: object.namespace.clone(),
            ..ObjectMeta::default()
        },
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.clone()),
        note: Some(first(&note.text, MOST).to_owned()),
        action: Some("Reconcile".into()),
        event_time: Some(MicroTime(now)),
        regarding: Some(object.clone()),
        reporting_controller: Some(names::FIELD_MANAGER.into()),
        reporting_instance: Some(context.instance.clone()),
        ..Event::default()
    }
}

/// At most so many bytes of the beginning.
fn first(text: &str, most: usize) -> &str {
    let mut to = text.len().min(most);
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    &text[..to]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_cut_where_a_character_ends() {
        for (text, most, cut) in [("abc", 9, "abc"), ("abc", 2, "ab"), ("aéb", 2, "a"), ("日本", 5, "日"), ("日本", 2, "")] {
            assert_eq!(first(text, most), cut, "{text} {most}");
        }
    }
}
