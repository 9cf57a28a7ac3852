//! What was seen of a deployment's children, kept until a watch tells of a change: the look every half minute at a job that runs asks the job, and
//! not the API server for ten lists.
//!
//! Only watches make this right, so it does nothing before they are there ([`Kept::enable`]). What the operator itself changes is never taken from
//! here: a look behind an action is a whole one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::build::Owner;
use super::observe::Observed;

/// A deletion that a watch missed while its connection was down is seen after this.
const OLDEST: SignedDuration = SignedDuration::from_mins(5);

/// Observations by (namespace, name).
#[derive(Default)]
pub struct Kept {
    on: AtomicBool,
    entries: Mutex<BTreeMap<(String, String), Entry>>,
}

#[derive(Default)]
struct Entry {
    /// Counts what watches have told.
    changes: u64,
    seen: Option<Seen>,
}

struct Seen {
    uid: String,
    at: Timestamp,
    observed: Observed,
}

/// How many changes had been told when a look began: what is told during it makes the look an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Kept {
    /// From now on every change is told.
    pub fn enable(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<(String, String), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch tells that something of a deployment has changed, or the operator has changed it.
    pub fn changed(&self, namespace: &str, name: &str) {
        let mut entries = self.entries();
        let entry = entries.entry((namespace.to_owned(), name.to_owned())).or_default();
        entry.changes += 1;
        entry.seen = None;
    }

    /// The deployment is gone.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.entries().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// What was seen, if it still holds; and the mark of a look that begins now.
    pub fn get(&self, owner: &Owner, now: Timestamp) -> (Option<Observed>, Mark) {
        let mut entries = self.entries();
        let entry = entries.entry((owner.namespace.clone(), owner.name.clone())).or_default();
        let fits = |seen: &&Seen| seen.uid == owner.uid && now.duration_since(seen.at) < OLDEST;
        (entry.seen.as_ref().filter(fits).map(|s| s.observed.clone()), Mark(entry.changes))
    }

    /// Keeps what a look has seen that began with `mark`.
    pub fn keep(&self, owner: &Owner, mark: Mark, observed: &Observed, now: Timestamp) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let mut entries = self.entries();
        let entry = entries.entry((owner.namespace.clone(), owner.name.clone())).or_default();
        if entry.changes == mark.0 && entry.seen.is_none() {
            entry.seen = Some(Seen { uid: owner.uid.clone(), at: now, observed: observed.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn holds_until_something_changes() {
        let kept = Kept::default();
        let owner = |uid: &str| Owner { name: "job".into(), namespace: "ns".into(), uid: uid.into() };
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let (me, observed) = (owner("u"), Observed::default());
        let look = |mark: Mark| kept.keep(&me, mark, &observed, at(0));
        let there = |owner: &Owner, s: i64| kept.get(owner, at(s)).0.is_some();

        look(kept.get(&me, at(0)).1);
        assert!(!there(&me, 0), "no watches yet");
        kept.enable();
        look(kept.get(&me, at(0)).1);
        assert!(there(&me, 299) && !there(&me, 300), "five minutes");
        assert!(!there(&owner("v"), 0), "made again");
        kept.changed("ns", "job");
        assert!(!there(&me, 0));
        let mark = kept.get(&me, at(0)).1;
        kept.changed("ns", "job");
        look(mark);
        assert!(!there(&me, 0), "changed while it was looked at");
        look(kept.get(&me, at(0)).1);
        kept.changed("ns", "other");
        assert!(there(&me, 0));
        kept.remove("ns", "job");
        assert!(!there(&me, 0));
    }
}
