//! One row a key, with a time to live: the state of deduplication and changelog normalisation.

use sluice_batch::{Millis, Result};

use crate::group_index::KeyMap;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, take_i64};

#[derive(Default)]
pub struct KeyedRows {
    keys: KeyMap,
    values: Vec<Value>,
    ttl: Millis,
    bytes: usize,
    last_cleanup: Millis,
}

#[derive(Default)]
struct Value {
    row: Vec<u8>,
    /// Whatever the operator wants to know of the row without decoding it: its time.
    tag: i64,
    changed: Millis,
}

impl KeyedRows {
    pub fn new(ttl: Millis) -> Self {
        Self { ttl, ..Self::default() }
    }

    fn is_live(&self, slot: u32, now: Millis) -> bool {
        self.ttl == 0 || now < self.values[slot as usize].changed.saturating_add(self.ttl)
    }

    /// The row of a key and its tag.
    pub fn get(&self, key: &[u8], now: Millis) -> Option<(&[u8], i64)> {
        let slot = self.keys.find(key)?;
        let value = &self.values[slot as usize];
        self.is_live(slot, now).then_some((value.row.as_slice(), value.tag))
    }

    pub fn put(&mut self, key: &[u8], row: &[u8], tag: i64, now: Millis) {
        let (slot, new) = self.keys.insert(key);
        if self.values.len() <= slot as usize {
            self.values.resize_with(slot as usize + 1, Value::default);
        }
        let value = &mut self.values[slot as usize];
        self.bytes = self.bytes + row.len() - value.row.len() + if new { size_of::<Value>() } else { 0 };
        value.row.clear();
        value.row.extend_from_slice(row);
        (value.tag, value.changed) = (tag, now);
    }

    pub fn remove(&mut self, key: &[u8]) {
        if let Some(slot) = self.keys.find(key) {
            self.remove_slot(slot);
        }
    }

    fn remove_slot(&mut self, slot: u32) {
        let value = std::mem::take(&mut self.values[slot as usize]);
        self.bytes -= value.row.len() + size_of::<Value>();
        self.keys.remove(slot);
    }

    pub fn has_ttl(&self) -> bool {
        self.ttl > 0
    }

    /// Drops what has outlived its time, now and then.
    pub fn tick(&mut self, now: Millis) {
        if self.ttl == 0 || now < self.last_cleanup.saturating_add((self.ttl / 4).max(1000)) {
            return;
        }
        self.last_cleanup = now;
        let expired: Vec<u32> = self.keys.slots().filter(|s| !self.is_live(*s, now)).collect();
        expired.into_iter().for_each(|s| self.remove_slot(s));
    }

    pub fn memory(&self) -> usize {
        self.keys.memory() + self.bytes
    }

    pub fn snapshot(&self, table: &'static str, out: &mut SnapshotWriter) {
        for slot in self.keys.slots() {
            out.put(table, self.keys.key(slot).to_vec(), self.encode(slot));
        }
    }

    fn encode(&self, slot: u32) -> Vec<u8> {
        let v = &self.values[slot as usize];
        let mut value = v.tag.to_be_bytes().to_vec();
        value.extend_from_slice(&v.changed.to_be_bytes());
        value.extend_from_slice(&v.row);
        value
    }

    pub fn track(&mut self) {
        self.keys.track();
    }

    /// Writes what has changed; `false` unless tracked.
    pub fn delta(&mut self, table: &'static str, out: &mut DeltaWriter) -> bool {
        let Some((gone, slots)) = self.keys.take_changes() else { return false };
        gone.into_iter().for_each(|key| out.delete(table, key.into()));
        for slot in slots {
            out.put(table, self.keys.key(slot).to_vec(), self.encode(slot));
        }
        true
    }

    pub fn restore(&mut self, table: &str, input: &SnapshotReader<'_>) -> Result<()> {
        for (key, mut value) in input.rows(table) {
            let (tag, changed) = (take_i64(&mut value)?, take_i64(&mut value)?);
            self.put(key, value, tag, changed);
        }
        Ok(())
    }

    /// Keys, rows and tags, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], i64)> {
        self.keys.slots().map(|s| (self.keys.key(s), self.values[s as usize].row.as_slice(), self.values[s as usize].tag))
    }
}
