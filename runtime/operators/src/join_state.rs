//! One side of a join: its rows by join key, each with how often it is there and how many rows of the other side match it
//! (Flink: `JoinRecordStateViews`, `OuterJoinRecordStateViews`).

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use sluice_batch::{Millis, Result};

use crate::changes::Tracker;
use crate::group_index::KeyMap;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, put_bytes, take_i64, take_row};

pub struct JoinRow {
    pub row: Box<[u8]>,
    /// What makes the row unique within its join key, if that is not the row itself: its upsert key.
    id: Option<Box<[u8]>>,
    key: u32,
    /// Position in the key's list.
    at: u32,
    pub count: u32,
    /// Matching rows of the other side, for outer, semi and anti joins.
    pub matches: u32,
    changed: Millis,
}

#[derive(Default)]
pub struct JoinState {
    keys: KeyMap,
    /// Rows of each key.
    lists: Vec<Vec<u32>>,
    rows: Vec<JoinRow>,
    free: Vec<u32>,
    /// Rows by key and id.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    ttl: Millis,
    bytes: usize,
    /// Rows that have changed, if anybody wants to know; they are known by their key in a snapshot.
    tracker: Option<Box<Tracker>>,
}

const OVERHEAD: usize = size_of::<JoinRow>() + 16;

impl JoinState {
    pub fn new(ttl: Millis) -> Self {
        Self { ttl, ..Self::default() }
    }

    /// Rows with this join key.
    pub fn find(&self, key: &[u8]) -> &[u32] {
        self.keys.find(key).map_or(&[], |k| &self.lists[k as usize])
    }

    pub fn row(&self, id: u32) -> &JoinRow {
        &self.rows[id as usize]
    }

    pub fn is_expired(&self, id: u32, now: Millis) -> bool {
        self.ttl > 0 && now >= self.rows[id as usize].changed.saturating_add(self.ttl)
    }

    pub fn set_matches(&mut self, id: u32, matches: u32, now: Millis) {
        let row = &mut self.rows[id as usize];
        (row.matches, row.changed) = (matches, now);
        self.touch(id);
    }

    fn touch(&mut self, row: u32) {
        if let Some(tracker) = &mut self.tracker {
            tracker.touch(row);
        }
    }

    fn hash(hasher: &DefaultHashBuilder, key: u32, id: &[u8]) -> u64 {
        hasher.hash_one((key, id))
    }

    /// Adds a row; one with the same upsert key is replaced, an equal one is counted.
    pub fn add(&mut self, key: &[u8], row: &[u8], id: Option<&[u8]>, matches: u32, now: Millis) {
        let (key, new) = self.keys.insert(key);
        if new && self.lists.len() <= key as usize {
            self.lists.resize_with(key as usize + 1, Vec::new);
        }
        let identity = id.unwrap_or(row);
        let hash = Self::hash(&self.hasher, key, identity);
        let rows = &self.rows;
        let same = |r: &u32| rows[*r as usize].key == key && rows[*r as usize].identity() == identity;
        if let Some(found) = self.index.find(hash, same).copied() {
            let expired = self.is_expired(found, now);
            let old = &mut self.rows[found as usize];
            (old.matches, old.changed) = (matches, now);
            if id.is_some() {
                self.bytes = self.bytes + row.len() - old.row.len();
                old.row = row.into();
            } else {
                old.count = if expired { 1 } else { old.count + 1 };
            }
            self.touch(found);
            return;
        }
        let list = &mut self.lists[key as usize];
        let entry = JoinRow { row: row.into(), id: id.map(Box::from), key, at: list.len() as u32, count: 1, matches, changed: now };
        self.bytes += row.len() + id.map_or(0, <[u8]>::len) + OVERHEAD;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.rows[slot as usize] = entry;
                slot
            }
            None => {
                self.rows.push(entry);
                self.rows.len() as u32 - 1
            }
        };
        list.push(slot);
        if let Some(tracker) = &mut self.tracker {
            tracker.touch(slot);
        }
        let (rows, hasher) = (&self.rows, &self.hasher);
        self.index.insert_unique(hash, slot, |r| Self::hash(hasher, rows[*r as usize].key, rows[*r as usize].identity()));
    }

    fn slot_of(&self, key: &[u8], identity: &[u8]) -> Option<u32> {
        let key = self.keys.find(key)?;
        let rows = &self.rows;
        let same = |r: &u32| rows[*r as usize].key == key && rows[*r as usize].identity() == identity;
        self.index.find(Self::hash(&self.hasher, key, identity), same).copied()
    }

    /// Takes one row back, if it is there.
    pub fn retract(&mut self, key: &[u8], row: &[u8], id: Option<&[u8]>) {
        let Some(found) = self.slot_of(key, id.unwrap_or(row)) else { return };
        let entry = &mut self.rows[found as usize];
        if entry.count > 1 {
            entry.count -= 1;
            self.touch(found);
        } else {
            self.remove(found);
        }
    }

    fn remove(&mut self, slot: u32) {
        if self.tracker.is_some() {
            let key = self.snapshot_key(slot).into();
            self.tracker.iter_mut().for_each(|t| t.remove(slot, Box::clone(&key)));
        }
        let row = &mut self.rows[slot as usize];
        let (key, at) = (row.key, row.at as usize);
        let hash = Self::hash(&self.hasher, key, row.identity());
        self.bytes -= row.row.len() + row.id.as_ref().map_or(0, |i| i.len()) + OVERHEAD;
        (row.row, row.id) = (Box::default(), None);
        if let Ok(entry) = self.index.find_entry(hash, |r| *r == slot) {
            entry.remove();
        }
        let list = &mut self.lists[key as usize];
        list.swap_remove(at);
        if let Some(moved) = list.get(at) {
            self.rows[*moved as usize].at = at as u32;
        }
        if list.is_empty() {
            *list = Vec::new();
            self.keys.remove(key);
        }
        self.free.push(slot);
    }

    /// Drops rows that have not changed for the time to live.
    pub fn expire(&mut self, now: Millis) {
        let expired: Vec<u32> = self.index.iter().copied().filter(|r| self.is_expired(*r, now)).collect();
        expired.into_iter().for_each(|r| self.remove(r));
    }

    pub fn memory(&self) -> usize {
        self.bytes + self.keys.memory()
    }

    pub fn snapshot(&self, table: &'static str, out: &mut SnapshotWriter) {
        for slot in &self.index {
            out.put(table, self.snapshot_key(*slot), self.encode(*slot));
        }
    }

    fn snapshot_key(&self, slot: u32) -> Vec<u8> {
        let row = &self.rows[slot as usize];
        let mut key = vec![];
        put_bytes(&mut key, self.keys.key(row.key));
        put_bytes(&mut key, row.identity());
        key
    }

    fn encode(&self, slot: u32) -> Vec<u8> {
        let row = &self.rows[slot as usize];
        let mut value = vec![u8::from(row.id.is_some())];
        for n in [i64::from(row.count), i64::from(row.matches), row.changed] {
            value.extend_from_slice(&n.to_be_bytes());
        }
        value.extend_from_slice(&row.row);
        value
    }

    pub fn track(&mut self) {
        self.tracker = Some(Box::default());
    }

    /// Writes what has changed; `false` unless tracked.
    pub fn delta(&mut self, table: &'static str, out: &mut DeltaWriter) -> bool {
        let Some((gone, slots)) = self.tracker.as_mut().map(|t| t.take()) else { return false };
        gone.into_iter().for_each(|key| out.delete(table, key.into()));
        for slot in slots {
            out.put(table, self.snapshot_key(slot), self.encode(slot));
        }
        true
    }

    pub fn restore(&mut self, table: &str, input: &SnapshotReader<'_>) -> Result<()> {
        for (mut key, mut value) in input.rows(table) {
            let (join_key, id) = (take_row(&mut key)?, take_row(&mut key)?);
            let has_id = crate::state::take_bytes(&mut value, 1)?[0] == 1;
            let (count, matches, changed) = (take_i64(&mut value)?, take_i64(&mut value)?, take_i64(&mut value)?);
            self.add(join_key, value, has_id.then_some(id), matches as u32, changed);
            // `add` has counted one. Rows that were different when they were written may be equal now: a column went away.
            if let Some(slot) = self.slot_of(join_key, if has_id { id } else { value }).filter(|_| !has_id) {
                self.rows[slot as usize].count += (count as u32).saturating_sub(1);
            }
        }
        Ok(())
    }
}

impl JoinRow {
    fn identity(&self) -> &[u8] {
        self.id.as_deref().unwrap_or(&self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(state: &JoinState, key: &[u8]) -> Vec<(String, u32)> {
        let show = |r: &u32| (String::from_utf8_lossy(&state.row(*r).row).into_owned(), state.row(*r).count);
        state.find(key).iter().map(show).collect()
    }

    #[test]
    fn rows_are_counted_replaced_and_removed() {
        let mut s = JoinState::new(0);
        s.add(b"k", b"a", None, 0, 0);
        s.add(b"k", b"b", None, 0, 0);
        s.add(b"k", b"a", None, 0, 0);
        s.add(b"l", b"a", None, 0, 0);
        assert_eq!(found(&s, b"k"), [("a".into(), 2), ("b".into(), 1)]);
        s.retract(b"k", b"a", None);
        s.retract(b"k", b"a", None);
        s.retract(b"k", b"zzz", None);
        assert_eq!(found(&s, b"k"), [("b".into(), 1)]);
        s.retract(b"k", b"b", None);
        s.retract(b"l", b"a", None);
        assert_eq!((s.memory(), s.find(b"k").len()), (0, 0));
        s.add(b"k", b"one", Some(b"1"), 0, 0);
        s.add(b"k", b"two", Some(b"1"), 0, 0);
        assert_eq!(found(&s, b"k"), [("two".into(), 1)]);
        s.retract(b"k", b"", Some(b"1"));
        assert_eq!(s.memory(), 0);
    }

    #[test]
    fn rows_expire() {
        let mut s = JoinState::new(10);
        s.add(b"k", b"a", None, 0, 0);
        s.add(b"k", b"b", None, 0, 5);
        assert!(s.is_expired(s.find(b"k")[0], 10));
        s.expire(10);
        assert_eq!(found(&s, b"k"), [("b".into(), 1)]);
    }
}
