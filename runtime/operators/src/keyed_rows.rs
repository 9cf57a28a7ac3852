//! One row a key, with a time to live: the state of deduplication and changelog normalisation.

use sluice_batch::{Millis, Result};

use crate::group_index::KeyMap;
use crate::memory::{Memory, Share};
use crate::spill::{self, KeyedState, is_over};
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, take_i64};

#[derive(Default)]
pub struct KeyedRows {
    keys: KeyMap,
    values: Vec<Value>,
    ttl: Millis,
    bytes: usize,
    last_cleanup: Millis,
    share: Option<Share>,
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
        !is_over(self.values[slot as usize].changed, self.ttl, now)
    }

    /// The row of a key and its tag.
    pub fn get(&self, key: &[u8], now: Millis) -> Option<(&[u8], i64)> {
        let slot = self.keys.find(key)?;
        let value = &self.values[slot as usize];
        self.is_live(slot, now).then_some((value.row.as_slice(), value.tag))
    }

    pub fn put(&mut self, key: &[u8], row: &[u8], tag: i64, now: Millis) {
        let (slot, new) = self.keys.insert(key);
        self.set(slot, new, row, tag, now);
    }

    fn set(&mut self, slot: u32, new: bool, row: &[u8], tag: i64, changed: Millis) {
        if self.values.len() <= slot as usize {
            self.values.resize_with(slot as usize + 1, Value::default);
        }
        let value = &mut self.values[slot as usize];
        self.bytes = self.bytes + row.len() - value.row.len() + if new { size_of::<Value>() } else { 0 };
        value.row.clear();
        value.row.extend_from_slice(row);
        (value.tag, value.changed) = (tag, changed);
    }

    pub fn remove(&mut self, key: &[u8]) {
        if let Some(slot) = self.keys.find(key) {
            self.remove_slot(slot);
        }
    }

    fn remove_slot(&mut self, slot: u32) {
        self.drop_slot(slot);
        self.keys.remove(slot);
    }

    pub fn has_ttl(&self) -> bool {
        self.ttl > 0
    }

    /// Drops what has outlived its time, now and then; what is on disk a part at a time.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn tick(&mut self, now: Millis) -> Result<()> {
        let ttl = self.ttl;
        if ttl == 0 {
            return Ok(());
        }
        let changed = |value: &[u8]| value.get(8..).and_then(|mut v| take_i64(&mut v).ok());
        for slot in self.sweep(|value| changed(value).is_some_and(|c| is_over(c, ttl, now)))? {
            self.remove_slot(slot);
        }
        if now < self.last_cleanup.saturating_add((ttl / 4).max(1000)) {
            return Ok(());
        }
        self.last_cleanup = now;
        self.begin_sweep();
        let expired: Vec<u32> = self.keys.slots().filter(|s| !self.is_live(*s, now)).collect();
        expired.into_iter().for_each(|s| self.remove_slot(s));
        Ok(())
    }

    pub fn memory(&self) -> usize {
        self.keys.memory() + self.bytes
    }

    /// Rows that do not fit into memory may go to disk: keys are to be loaded before they are asked for.
    pub fn spill(&mut self, memory: &Memory) {
        self.share = spill::share(memory);
    }

    /// # Errors
    /// If the store cannot be read.
    pub fn snapshot(&self, table: &'static str, out: &mut SnapshotWriter) -> Result<()> {
        for slot in self.keys.slots() {
            out.put(table, self.keys.key(slot), self.encode(slot));
        }
        self.stored(&mut |key, value| {
            out.put(table, key, value);
            Ok(())
        })
    }

    fn encode(&self, slot: u32) -> Vec<u8> {
        let mut value = vec![];
        self.encode_slot(slot, &mut value);
        value
    }

    pub fn track(&mut self) {
        self.keys.track();
    }

    /// Writes what has changed; `false` unless tracked.
    pub fn delta(&mut self, table: &'static str, out: &mut DeltaWriter) -> bool {
        self.write_changes(table, out)
    }

    pub fn restore(&mut self, table: &str, input: &SnapshotReader<'_>) -> Result<()> {
        self.read_rows(input.rows(table), |this, key, mut value| {
            let (tag, changed) = (take_i64(&mut value)?, take_i64(&mut value)?);
            this.put(key, value, tag, changed);
            Ok(())
        })
    }

    /// Keys, rows and tags, in no order; of those in memory.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], i64)> {
        self.keys.slots().map(|s| (self.keys.key(s), self.values[s as usize].row.as_slice(), self.values[s as usize].tag))
    }
}

impl KeyedState for KeyedRows {
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
        let v = &self.values[slot as usize];
        out.extend_from_slice(&v.tag.to_be_bytes());
        out.extend_from_slice(&v.changed.to_be_bytes());
        out.extend_from_slice(&v.row);
    }

    fn decode_slot(&mut self, slot: u32, mut value: &[u8]) -> Result<()> {
        let (tag, changed) = (take_i64(&mut value)?, take_i64(&mut value)?);
        self.set(slot, true, value, tag, changed);
        Ok(())
    }

    fn drop_slot(&mut self, slot: u32) {
        let value = std::mem::take(&mut self.values[slot as usize]);
        self.bytes -= value.row.len() + size_of::<Value>();
    }
}
