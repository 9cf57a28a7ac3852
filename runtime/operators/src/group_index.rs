//! Group keys to dense slot numbers, a batch at a time.

use std::hash::BuildHasher;

use arrow::array::ArrayRef;
use hashbrown::{DefaultHashBuilder, HashTable};
use sluice_batch::{Batch, Result, SqlType};

use crate::changes::{Changed, Tracker};
use crate::rows::{EncodedRows, RowCodec};
use crate::spill::Spill;

/// No slot: the key is not in the index.
pub const NO_SLOT: u32 = u32::MAX;

/// Bytes that a key takes beside its own.
const PER_KEY: usize = 44;

/// Byte keys with dense slot numbers. Slots of removed keys are given out again.
#[derive(Default)]
pub struct KeyMap {
    table: HashTable<Entry>,
    /// The key of each slot; empty for free slots.
    keys: Vec<Box<[u8]>>,
    free: Vec<u32>,
    bytes: usize,
    hasher: DefaultHashBuilder,
    /// What has changed, if anybody wants to know.
    tracker: Option<Box<Tracker>>,
    /// Keys that are in the store because memory is short; nothing until that has happened.
    pub(crate) spill: Option<Box<Spill>>,
}

/// A slot, and its key's hash: neither growing the table nor passing others by looks at keys, which are far apart in memory.
#[derive(Clone, Copy)]
struct Entry {
    slot: u32,
    hash: u32,
}

/// A hash whose upper and lower bits differ, as the table wants it.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl KeyMap {
    #[inline]
    fn hash(&self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        (hash ^ (hash >> 32)) as u32
    }

    pub fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hash(key);
        self.table.find(spread(hash), |e| e.hash == hash && *self.keys[e.slot as usize] == *key).map(|e| e.slot)
    }

    /// The slot of a key, and whether it is new.
    pub fn insert(&mut self, key: &[u8]) -> (u32, bool) {
        let hash = self.hash(key);
        let keys = &self.keys;
        let same = |e: &Entry| e.hash == hash && *keys[e.slot as usize] == *key;
        let vacant = match self.table.entry(spread(hash), same, |e| spread(e.hash)) {
            hashbrown::hash_table::Entry::Occupied(o) => {
                let slot = o.get().slot;
                self.touch(slot);
                return (slot, false);
            }
            hashbrown::hash_table::Entry::Vacant(v) => v,
        };
        let slot = self.free.pop().unwrap_or(self.keys.len() as u32);
        vacant.insert(Entry { slot, hash });
        self.bytes += key.len() + PER_KEY;
        match self.keys.get_mut(slot as usize) {
            Some(place) => *place = key.into(),
            None => self.keys.push(key.into()),
        }
        if let Some(spill) = &mut self.spill {
            spill.add(slot);
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.touch(slot);
        }
        (slot, true)
    }

    /// A slot for a key that was read from the store: it has not changed.
    pub(crate) fn insert_stored(&mut self, key: &[u8]) -> u32 {
        let tracker = self.tracker.take();
        let (slot, _) = self.insert(key);
        self.tracker = tracker;
        if let Some(spill) = &mut self.spill {
            spill.set_stored(slot);
        }
        slot
    }

    /// Takes the key of a slot away whose state has been written to the store.
    pub(crate) fn evict(&mut self, slot: u32) -> Box<[u8]> {
        let key = self.take_key(slot);
        if let Some(spill) = &mut self.spill {
            spill.leave(slot);
        }
        key
    }

    fn take_key(&mut self, slot: u32) -> Box<[u8]> {
        let key = std::mem::take(&mut self.keys[slot as usize]);
        if let Ok(entry) = self.table.find_entry(spread(self.hash(&key)), |e| e.slot == slot) {
            entry.remove();
            self.bytes -= key.len() + PER_KEY;
            self.free.push(slot);
        }
        key
    }

    /// Whether a slot has changed since the last commit.
    pub(crate) fn is_dirty(&self, slot: u32) -> bool {
        self.tracker.as_ref().is_some_and(|t| t.is_dirty(slot))
    }

    /// Takes a slot's key away; the slot will be given out again.
    pub fn remove(&mut self, slot: u32) {
        let before = self.table.len();
        let key = self.take_key(slot);
        if self.table.len() < before {
            if let Some(spill) = &mut self.spill {
                spill.remove(slot, &key);
            }
            if let Some(tracker) = &mut self.tracker {
                tracker.remove(slot, key);
            }
        }
    }

    /// From now on keys that are looked for by [`KeyMap::insert`], touched or removed are remembered.
    pub fn track(&mut self) {
        self.tracker = Some(Box::default());
    }

    /// What belongs to a slot has changed.
    #[inline]
    pub fn touch(&mut self, slot: u32) {
        if let Some(tracker) = &mut self.tracker {
            tracker.touch(slot);
        }
        if let Some(spill) = &mut self.spill {
            spill.touch(slot);
        }
    }

    /// What has changed since the last call. `None` unless tracked.
    pub fn take_changes(&mut self) -> Option<Changed> {
        self.tracker.as_mut().map(|t| t.take())
    }

    /// Gives a key another slot. The old one stays taken until [`KeyMap::release`].
    pub fn rebind(&mut self, slot: u32) -> u32 {
        let key = std::mem::take(&mut self.keys[slot as usize]);
        let new = self.free.pop().unwrap_or(self.keys.len() as u32);
        let hash = self.hash(&key);
        if let Some(entry) = self.table.find_mut(spread(hash), |e| e.slot == slot) {
            entry.slot = new;
        }
        match self.keys.get_mut(new as usize) {
            Some(place) => *place = key,
            None => self.keys.push(key),
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.leave(slot);
            tracker.touch(new);
        }
        if let Some(spill) = &mut self.spill {
            spill.rebind(slot, new);
        }
        new
    }

    /// Lets a slot that has no key any more be given out again.
    pub fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }

    pub fn key(&self, slot: u32) -> &[u8] {
        &self.keys[slot as usize]
    }

    /// How many slots have been given out at most: all slots are less.
    pub fn capacity(&self) -> usize {
        self.keys.len()
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether a slot is in use.
    pub fn slots_contain(&self, slot: u32) -> bool {
        self.find(self.key(slot)) == Some(slot)
    }

    /// The slots in use, in no order.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.table.iter().map(|e| e.slot)
    }

    pub fn memory(&self) -> usize {
        self.bytes
    }
}

/// Key columns to slots.
pub struct GroupIndex {
    codec: RowCodec,
    map: KeyMap,
}

impl GroupIndex {
    pub fn new<'a>(types: impl IntoIterator<Item = &'a SqlType>) -> Result<Self> {
        Ok(Self { codec: RowCodec::new(types)?, map: KeyMap::default() })
    }

    pub fn map(&self) -> &KeyMap {
        &self.map
    }

    pub fn map_mut(&mut self) -> &mut KeyMap {
        &mut self.map
    }

    pub fn codec(&self) -> &RowCodec {
        &self.codec
    }

    /// The key columns of some slots.
    pub fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.codec.decode(slots.iter().map(|s| self.map.key(*s)))
    }

    pub fn encode(&self, batch: &Batch, keys: &[usize]) -> Result<EncodedRows> {
        self.codec.encode_columns(batch, keys)
    }

    /// The slot of every row, with new slots for new keys; `on_new` is called for each of them.
    pub fn insert(&mut self, columns: &[ArrayRef], rows: usize, slots: &mut Vec<u32>, on_new: impl FnMut(u32)) -> Result<()> {
        let encoded = self.codec.encode(columns)?;
        self.insert_rows(&encoded, rows, slots, on_new);
        Ok(())
    }

    /// The same for key columns that [`GroupIndex::encode`] has encoded.
    pub fn insert_rows(&mut self, encoded: &EncodedRows, rows: usize, slots: &mut Vec<u32>, mut on_new: impl FnMut(u32)) {
        slots.clear();
        slots.reserve(rows);
        // Runs of one key are common (partitioned input): look at the last one first.
        let mut last: Option<(usize, u32)> = None;
        for row in 0..rows {
            let key = encoded.get(row);
            let slot = match last {
                Some((at, slot)) if encoded.get(at) == key => slot,
                _ => {
                    let (slot, new) = self.map.insert(key);
                    if new {
                        on_new(slot);
                    }
                    slot
                }
            };
            last = Some((row, slot));
            slots.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use sluice_batch::TypeKind;

    #[test]
    fn slots_are_dense_and_reused() {
        let mut index = GroupIndex::new(&[TypeKind::BigInt.nullable(), TypeKind::STRING.nullable()]).unwrap();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![Some(1), None, Some(1), Some(2)])), Arc::new(StringArray::from(vec!["a", "a", "a", "b"]))];
        let (mut slots, mut new) = (vec![], vec![]);
        index.insert(&columns, 4, &mut slots, |s| new.push(s)).unwrap();
        assert_eq!((slots.as_slice(), new.as_slice()), ([0, 1, 0, 2].as_slice(), [0, 1, 2].as_slice()));
        index.map_mut().remove(1);
        assert_eq!(index.map().find(&[]), None);
        let other: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![9])), Arc::new(StringArray::from(vec!["z"]))];
        index.insert(&other, 1, &mut slots, |_| ()).unwrap();
        assert_eq!(slots, [1]);
        assert_eq!(index.map().len(), 3);
    }

    #[test]
    fn no_key_columns_is_one_group() {
        let mut index = GroupIndex::new([]).unwrap();
        let mut slots = vec![];
        index.insert(&[], 3, &mut slots, |_| ()).unwrap();
        assert_eq!(slots, [0, 0, 0]);
    }
}
