//! Session windows of many keys: which rows belong together, and when sessions close (Flink: `MergingWindowSet`).

use std::collections::BTreeSet;

use sluice_batch::Millis;

use crate::group_index::KeyMap;
use crate::time::Zone;
use crate::windows::is_fired;

/// One open session. `slot` is where the owner keeps what it gathers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub start: Millis,
    pub end: Millis,
    pub slot: u32,
}

/// The open sessions of all keys.
#[derive(Default)]
pub struct Sessions {
    pub keys: KeyMap,
    /// By key slot, ordered by start.
    open: Vec<Vec<Session>>,
    /// (end, key slot)
    timers: BTreeSet<(Millis, u32)>,
    free: Vec<u32>,
    slots: u32,
}

/// A session that has closed.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    pub key: u32,
    pub session: Session,
}

impl Sessions {
    /// The slot for a row, after `on_merge(from, to)` for each session that becomes one with it. `None`: the row is late.
    pub fn assign(
        &mut self,
        key: &[u8],
        time: Millis,
        gap: Millis,
        progress: Millis,
        zone: Zone,
        mut on_merge: impl FnMut(u32, u32),
    ) -> Option<u32> {
        let mut window = Session { start: time, end: time + gap, slot: 0 };
        let known = self.keys.find(key);
        let touching = |s: &Session| s.start <= time + gap && s.end >= time;
        let merges = known.is_some_and(|k| self.open[k as usize].iter().any(touching));
        if !merges && is_fired(window.end, progress, zone) {
            return None;
        }
        let (key, _) = self.keys.insert(key);
        if self.open.len() <= key as usize {
            self.open.resize(key as usize + 1, vec![]);
        }
        let sessions = &mut self.open[key as usize];
        let mut target = None;
        let (timers, free) = (&mut self.timers, &mut self.free);
        sessions.retain(|s| {
            if !touching(s) {
                return true;
            }
            (window.start, window.end) = (window.start.min(s.start), window.end.max(s.end));
            timers.remove(&(s.end, key));
            match target {
                None => target = Some(s.slot),
                Some(to) => {
                    on_merge(s.slot, to);
                    free.push(s.slot);
                }
            }
            false
        });
        window.slot = target.unwrap_or_else(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots += 1;
                self.slots - 1
            })
        });
        let at = sessions.partition_point(|s| s.start < window.start);
        sessions.insert(at, window);
        self.timers.insert((window.end, key));
        Some(window.slot)
    }

    /// Takes the next session that has ended when time is `progress`, by end. The caller gives the slot and key back with
    /// [`Sessions::release`].
    pub fn close(&mut self, progress: Millis, zone: Zone) -> Option<Closed> {
        let (end, key) = *self.timers.first()?;
        if !is_fired(end, progress, zone) {
            return None;
        }
        self.timers.pop_first();
        let sessions = &mut self.open[key as usize];
        let at = sessions.iter().position(|s| s.end == end)?;
        let session = sessions.remove(at);
        self.keys.touch(key);
        Some(Closed { key, session })
    }

    pub fn release(&mut self, closed: Closed) {
        self.free.push(closed.session.slot);
        if self.open[closed.key as usize].is_empty() && self.keys.slots_contain(closed.key) {
            self.keys.remove(closed.key);
        }
    }

    /// The open sessions of a key.
    pub fn of_key(&self, key: u32) -> &[Session] {
        self.open.get(key as usize).map_or(&[], Vec::as_slice)
    }

    /// All slots are less.
    pub fn capacity(&self) -> usize {
        self.slots as usize
    }

    /// Open sessions with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Session)> {
        self.timers.iter().flat_map(move |(end, key)| {
            let key = *key;
            self.open[key as usize].iter().filter(move |s| s.end == *end).map(move |s| (self.keys.key(key), *s))
        })
    }

    /// Puts a session back, in a new slot.
    pub fn restore(&mut self, key: &[u8], start: Millis, end: Millis) -> u32 {
        let (key, _) = self.keys.insert(key);
        if self.open.len() <= key as usize {
            self.open.resize(key as usize + 1, vec![]);
        }
        let slot = self.slots;
        self.slots += 1;
        let sessions = &mut self.open[key as usize];
        let at = sessions.partition_point(|s| s.start < start);
        sessions.insert(at, Session { start, end, slot });
        self.timers.insert((end, key));
        slot
    }
}
