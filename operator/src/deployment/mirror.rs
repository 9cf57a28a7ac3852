//! What watches and the operator's own writes have told of the deployments' children, so that a look at a deployment is not ten lists.
//!
//! What is in here may be late by as much as a watch is. Three things make that harmless: what the operator writes is put here from the API server's
//! answer, so that it never sees a child as it was before; what its actions lead to elsewhere (the pods of a StatefulSet) is listed in the look behind
//! them ([`Mirror::acted`]); and [`super::observe`] lists the pods whenever it depends on their not being there. Before all watches have told all that
//! there is, and once in ten minutes in any case, everything is listed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use super::build::Owner;
use super::children::{Child, Children, Item, Kinds, item, version};
use crate::names;

/// A watch whose connection hangs is made up for after this.
const OLDEST: SignedDuration = SignedDuration::from_mins(10);

type Key = (String, String);

/// Children by (namespace, name) of their deployment.
#[derive(Default)]
pub struct Mirror(Mutex<State>);

#[derive(Default)]
struct State {
    /// Kinds whose watches have told all that there is.
    complete: Kinds,
    /// What watches that tell all anew have told so far: deployment and child.
    beginning: BTreeMap<Kinds, BTreeSet<(Key, String)>>,
    /// Versions are no numbers here: nothing can be kept.
    useless: bool,
    entries: BTreeMap<Key, Entry>,
}

#[derive(Default)]
struct Entry {
    children: Children,
    /// To be listed.
    stale: Kinds,
    /// When all was listed, or looked at first.
    listed: Option<Timestamp>,
}

/// The objects of a list, by name, and its version.
pub type Listed<T> = (BTreeMap<String, Item<T>>, u64);

impl Mirror {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether watches have told all that there is.
    pub fn is_complete(&self) -> bool {
        self.state().complete == Kinds::ALL
    }

    /// What is known of a deployment's children, and the kinds that have to be listed nevertheless. Whoever cannot list them says so
    /// ([`Mirror::acted`]).
    pub fn look(&self, owner: &Owner, now: Timestamp) -> (Children, Kinds) {
        let mut state = self.state();
        if state.useless || state.complete != Kinds::ALL {
            return (Children::default(), Kinds::ALL);
        }
        let entry = state.entries.entry(key(owner)).or_default();
        let old = now.duration_since(*entry.listed.get_or_insert(now)) >= OLDEST;
        if old {
            entry.listed = Some(now);
            entry.stale = Kinds::ALL;
        }
        (entry.children.clone(), std::mem::take(&mut entry.stale))
    }

    /// What these kinds are now is not known: the operator has changed something, or could not look.
    pub fn acted(&self, owner: &Owner, kinds: Kinds) {
        self.state().entries.entry(key(owner)).or_default().stale |= kinds;
    }

    /// The deployment is gone: so are its children, as soon as watches tell.
    pub fn forget(&self, namespace: &str, name: &str) {
        let mut state = self.state();
        let key = (namespace.to_owned(), name.to_owned());
        if state.entries.get(&key).is_some_and(|e| e.children.is_empty()) {
            state.entries.remove(&key);
        }
    }

    /// What a list has told.
    pub fn listed<K: Child>(&self, owner: &Owner, (items, version): &Listed<K::Seen>) -> BTreeMap<String, Item<K::Seen>> {
        let mut state = self.state();
        let entry = state.entries.entry(key(owner)).or_default();
        let part = K::part(&mut entry.children);
        let outdated = part.replace(items, *version);
        let now = part.items.clone();
        if outdated {
            entry.stale |= K::KIND;
        }
        now
    }

    /// What the API server has answered to a write.
    pub fn wrote<K: Child>(&self, object: &K) {
        if let Some(key) = deployment(object) {
            self.state().put::<K>(key, &object.name_any(), item(object, object.seen()));
        }
    }

    /// An event of a watch of whole objects.
    pub fn told<K: Child>(&self, event: &Event<K>) {
        self.event::<K, K>(event, |state, key, object| state.put::<K>(key, &object.name_any(), item(object, object.seen())));
    }

    /// An event of a watch of metadata, for kinds of which decisions need no more.
    pub fn told_plain<K: Child<Seen = ()>>(&self, event: &Event<PartialObjectMeta<K>>) {
        self.event::<K, _>(event, |state, key, object| state.put::<K>(key, &object.name_any(), item(object, None)));
    }

    /// An event of a watch of metadata: what is new is listed by the next look.
    pub fn told_of<K: Child>(&self, event: &Event<PartialObjectMeta<K>>) {
        self.event::<K, _>(event, |state, key, object| {
            let entry = state.entries.entry(key).or_default();
            let known = K::part(&mut entry.children).items.get(&object.name_any()).map_or(0, |item| item.version);
            if version(object.resource_version().as_deref()) > known {
                entry.stale |= K::KIND;
            }
        });
    }

    fn event<K: Child, O: ResourceExt>(&self, event: &Event<O>, put: impl Fn(&mut State, Key, &O)) {
        let mut state = self.state();
        let state = &mut *state;
        match event {
            Event::Init => {
                state.beginning.insert(K::KIND, BTreeSet::new());
                // What is told now is told in no order, and is newer than all that was told before.
                state.entries.values_mut().for_each(|entry| K::part(&mut entry.children).gone = 0);
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let Some(key) = deployment(object) else { return };
                state.useless |= version(object.resource_version().as_deref()) == u64::MAX;
                if matches!(event, Event::InitApply(_)) {
                    state.beginning.entry(K::KIND).or_default().insert((key.clone(), object.name_any()));
                }
                put(state, key, object);
            }
            Event::Delete(object) => {
                let Some(key) = deployment(object) else { return };
                let Some(entry) = state.entries.get_mut(&key) else { return };
                K::part(&mut entry.children).remove(&object.name_any(), version(object.resource_version().as_deref()));
                if entry.children.is_empty() && entry.stale == Kinds::NONE {
                    state.entries.remove(&key);
                }
            }
            Event::InitDone => {
                let there = state.beginning.remove(&K::KIND).unwrap_or_default();
                for (key, entry) in &mut state.entries {
                    // What is not told of any more is gone, or so new that it is told of later: a list decides.
                    let mut names = K::part(&mut entry.children).items.keys();
                    if names.any(|name| !there.contains(&(key.clone(), name.clone()))) {
                        entry.stale |= K::KIND;
                    }
                }
                state.complete |= K::KIND;
            }
        }
    }
}

impl State {
    fn put<K: Child>(&mut self, key: Key, name: &str, item: Item<K::Seen>) {
        K::part(&mut self.entries.entry(key).or_default().children).put(name, item);
    }
}

fn key(owner: &Owner) -> Key {
    (owner.namespace.clone(), owner.name.clone())
}

/// The deployment that an object belongs to, by the labels that lists select by.
fn deployment<K: ResourceExt + Resource>(object: &K) -> Option<Key> {
    let labels = object.labels();
    let ours = labels.get(names::MANAGED_BY_LABEL).is_some_and(|by| by == names::FIELD_MANAGER);
    labels.get(names::DEPLOYMENT_LABEL).filter(|_| ours).map(|name| (object.namespace().unwrap_or_default(), name.clone()))
}

#[cfg(test)]
mod tests;
