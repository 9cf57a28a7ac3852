//! One side of a join: its rows by join key, each with how often it is there and how many rows of the other side match it
//! (Flink: `JoinRecordStateViews`, `OuterJoinRecordStateViews`).

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use sluice_batch::{Millis, Result};

use crate::changes::Tracker;
use crate::group_index::KeyMap;
use crate::memory::{Memory, Share};
use crate::spill::{self, KeyedState, RESTORED, is_over};
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, put_bytes, take_bytes, take_i64, take_row};

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
    share: Option<Share>,
}

/// What the list of a key takes.
const LIST: usize = size_of::<Vec<u32>>() + 32;
/// What a row takes beside its bytes: its entry, its place in the index and in its key's list, what the allocator needs.
const OVERHEAD: usize = size_of::<JoinRow>() + 40;

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
        is_over(self.rows[id as usize].changed, self.ttl, now)
    }

    pub fn set_matches(&mut self, id: u32, matches: u32, now: Millis) {
        let row = &mut self.rows[id as usize];
        (row.matches, row.changed) = (matches, now);
        self.touch(id);
    }

    fn touch(&mut self, row: u32) {
        self.keys.touch(self.rows[row as usize].key);
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
        let entry = JoinRow { row: row.into(), id: id.map(Box::from), key, at: 0, count: 1, matches, changed: now };
        let slot = self.push(entry, hash);
        if let Some(tracker) = &mut self.tracker {
            tracker.touch(slot);
        }
    }

    /// A new row at the end of its key's list.
    fn push(&mut self, mut entry: JoinRow, hash: u64) -> u32 {
        let list = &mut self.lists[entry.key as usize];
        entry.at = list.len() as u32;
        self.bytes += entry.row.len() + entry.id.as_ref().map_or(0, |i| i.len()) + OVERHEAD;
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
        let (rows, hasher) = (&self.rows, &self.hasher);
        self.index.insert_unique(hash, slot, |r| Self::hash(hasher, rows[*r as usize].key, rows[*r as usize].identity()));
        slot
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
        let (key, at) = (self.rows[slot as usize].key, self.rows[slot as usize].at as usize);
        self.keys.touch(key);
        self.drop_row(slot);
        let list = &mut self.lists[key as usize];
        list.swap_remove(at);
        if let Some(moved) = list.get(at) {
            self.rows[*moved as usize].at = at as u32;
        }
        if list.is_empty() {
            *list = Vec::new();
            self.keys.remove(key);
        }
    }

    /// Takes a row out of everything but its key's list.
    fn drop_row(&mut self, slot: u32) {
        let row = &mut self.rows[slot as usize];
        let hash = Self::hash(&self.hasher, row.key, row.identity());
        self.bytes -= row.row.len() + row.id.as_ref().map_or(0, |i| i.len()) + OVERHEAD;
        (row.row, row.id) = (Box::default(), None);
        if let Ok(entry) = self.index.find_entry(hash, |r| *r == slot) {
            entry.remove();
        }
        self.free.push(slot);
    }

    /// Drops rows that have not changed for the time to live; of keys on disk if [`JoinState::sweep_some`] is called behind.
    pub fn expire(&mut self, now: Millis) {
        let expired: Vec<u32> = self.index.iter().copied().filter(|r| self.is_expired(*r, now)).collect();
        expired.into_iter().for_each(|r| self.remove(r));
        if self.ttl > 0 {
            self.begin_sweep();
        }
    }

    /// Drops rows of some of the keys on disk that have outlived their time.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn sweep_some(&mut self, now: Millis) -> Result<()> {
        let ttl = self.ttl;
        let any = |mut value: &[u8]| {
            let mut expired = false;
            while let Ok((_, mut row)) = take_pair(&mut value) {
                expired |= take_head(&mut row).is_ok_and(|(_, _, _, changed)| is_over(changed, ttl, now));
            }
            expired
        };
        for key in self.sweep(any)? {
            let expired: Vec<u32> = self.lists[key as usize].iter().copied().filter(|r| self.is_expired(*r, now)).collect();
            expired.into_iter().for_each(|r| self.remove(r));
        }
        Ok(())
    }

    pub fn memory(&self) -> usize {
        self.bytes + self.keys.memory() + self.keys.len() * LIST
    }

    /// Rows that do not fit into memory may go to disk.
    pub fn spill(&mut self, memory: &Memory) {
        self.share = spill::share(memory);
    }

    /// # Errors
    /// If the store cannot be read.
    pub fn snapshot(&self, table: &'static str, out: &mut SnapshotWriter) -> Result<()> {
        for slot in &self.index {
            let mut value = vec![];
            self.encode(*slot, &mut value);
            out.put(table, self.snapshot_key(*slot), value);
        }
        self.stored(&mut |key, mut value| {
            while !value.is_empty() {
                let (identity, row) = take_pair(&mut value)?;
                out.put(table, row_key(key, identity), row);
            }
            Ok(())
        })
    }

    fn snapshot_key(&self, slot: u32) -> Vec<u8> {
        let row = &self.rows[slot as usize];
        row_key(self.keys.key(row.key), row.identity())
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let row = &self.rows[slot as usize];
        out.push(u8::from(row.id.is_some()));
        for n in [i64::from(row.count), i64::from(row.matches), row.changed] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        out.extend_from_slice(&row.row);
    }

    pub fn track(&mut self) {
        self.tracker = Some(Box::default());
    }

    /// Writes what has changed; `false` unless tracked.
    pub fn delta(&mut self, table: &'static str, out: &mut DeltaWriter) -> bool {
        let Some(changed) = self.tracker.as_mut().map(|t| t.take()) else { return false };
        out.rows(table, changed, |slot| self.snapshot_key(slot), |slot, value| self.encode(slot, value));
        true
    }

    pub fn restore(&mut self, table: &str, input: &SnapshotReader<'_>) -> Result<()> {
        let rows: Vec<(&[u8], &[u8])> = input.rows(table).collect();
        for rows in rows.chunks(RESTORED) {
            let mut keys = Vec::with_capacity(rows.len());
            for &(mut key, _) in rows {
                keys.push((take_row(&mut key)?, take_row(&mut key)?));
            }
            // Rows of one key may have come before, and gone to disk.
            self.load(keys.iter().map(|k| k.0))?;
            for ((join_key, id), (_, value)) in keys.into_iter().zip(rows) {
                let mut value = *value;
                let (has_id, count, matches, changed) = take_head(&mut value)?;
                self.add(join_key, value, has_id.then_some(id), matches, changed);
                // `add` has counted one. Rows that were different when they were written may be equal now: a column went away.
                if let Some(slot) = self.slot_of(join_key, if has_id { id } else { value }).filter(|_| !has_id) {
                    self.rows[slot as usize].count += count.saturating_sub(1);
                }
            }
            self.make_room()?;
        }
        Ok(())
    }
}

/// A row's key in a snapshot.
fn row_key(key: &[u8], identity: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + identity.len() + 8);
    put_bytes(&mut out, key);
    put_bytes(&mut out, identity);
    out
}

/// What stands before a row in a snapshot: whether it has an id, its count, its matches, when it changed.
fn take_head(value: &mut &[u8]) -> Result<(bool, u32, u32, Millis)> {
    let has_id = take_bytes(value, 1)?[0] == 1;
    Ok((has_id, take_i64(value)? as u32, take_i64(value)? as u32, take_i64(value)?))
}

/// A row of a key in the store: its identity and what a snapshot has of it.
fn take_pair<'a>(value: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8])> {
    Ok((take_row(value)?, take_row(value)?))
}

/// A join key with all its rows goes to disk and comes back.
impl KeyedState for JoinState {
    fn keys(&self) -> &KeyMap {
        &self.keys
    }

    fn keys_mut(&mut self) -> &mut KeyMap {
        &mut self.keys
    }

    fn share(&mut self) -> Option<&mut Share> {
        self.share.as_mut()
    }

    fn live_bytes(&self) -> usize {
        self.memory()
    }

    fn encode_slot(&self, slot: u32, out: &mut Vec<u8>) {
        for row in &self.lists[slot as usize] {
            put_bytes(out, self.rows[*row as usize].identity());
            let mut value = vec![];
            self.encode(*row, &mut value);
            put_bytes(out, &value);
        }
    }

    fn decode_slot(&mut self, slot: u32, mut value: &[u8]) -> Result<()> {
        if self.lists.len() <= slot as usize {
            self.lists.resize_with(slot as usize + 1, Vec::new);
        }
        while !value.is_empty() {
            let (identity, mut row) = take_pair(&mut value)?;
            let (has_id, count, matches, changed) = take_head(&mut row)?;
            let entry = JoinRow { row: row.into(), id: has_id.then(|| identity.into()), key: slot, at: 0, count, matches, changed };
            let hash = Self::hash(&self.hasher, slot, identity);
            self.push(entry, hash);
        }
        Ok(())
    }

    fn drop_slot(&mut self, slot: u32) {
        for row in std::mem::take(&mut self.lists[slot as usize]) {
            self.drop_row(row);
        }
    }

    fn is_pinned(&self, slot: u32) -> bool {
        self.tracker.as_ref().is_some_and(|t| self.lists[slot as usize].iter().any(|r| t.is_dirty(*r)))
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
