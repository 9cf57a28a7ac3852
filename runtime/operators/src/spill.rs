//! State by key that does not fit into memory: keys that have not been used for long go to a [`Table`] on disk and come back when a
//! batch names them. Nothing of this exists until memory is short, so a job whose state fits pays nothing.

use std::collections::{BTreeSet, HashSet};

use sluice_batch::{Millis, Result};

use crate::group_index::KeyMap;
use crate::memory::{Memory, Share};
use crate::state::DeltaWriter;
use crate::store::{LONGEST_KEY, Table, Value};

/// In use.
const LIVE: u8 = 1;
/// Used since the hand last passed.
const RECENT: u8 = 2;
/// The store may have the key, perhaps with an older value.
const STORED: u8 = 4;
/// What the store has is what memory has.
const CLEAN: u8 = 8;
/// Rows of the store that are looked through at once for what has expired.
const SWEEP: usize = 4096;
/// Keys that are deleted in the store at once.
const GONE: usize = 16_384;
/// Rows that are restored between two looks at the memory.
pub const RESTORED: usize = 4096;

/// Where the slots of a [`KeyMap`] stand, and the keys that are not in it.
pub struct Spill {
    table: Table,
    /// By slot.
    flags: Vec<u8>,
    /// The next slot that may have to go (second chance).
    hand: usize,
    /// Keys of the store that are deleted there with the next write.
    gone: HashSet<Box<[u8]>>,
    /// Where the search for what has expired goes on.
    sweep: Option<Vec<u8>>,
}

impl Spill {
    fn new(table: Table, keys: &KeyMap) -> Self {
        let mut flags = vec![0; keys.capacity()];
        keys.slots().for_each(|s| flags[s as usize] = LIVE);
        Self { table, flags, hand: 0, gone: HashSet::new(), sweep: None }
    }

    pub fn add(&mut self, slot: u32) {
        if self.flags.len() <= slot as usize {
            self.flags.resize(slot as usize + 1, 0);
        }
        // Who does not load a key before may overwrite one of the store.
        self.flags[slot as usize] = LIVE | RECENT | STORED;
    }

    pub fn set_stored(&mut self, slot: u32) {
        self.flags[slot as usize] |= STORED | CLEAN;
    }

    #[inline]
    pub fn touch(&mut self, slot: u32) {
        let flags = &mut self.flags[slot as usize];
        *flags = (*flags | RECENT) & !CLEAN;
    }

    /// The key of a slot is only in the store from now on.
    pub fn leave(&mut self, slot: u32) {
        self.flags[slot as usize] = 0;
    }

    pub fn remove(&mut self, slot: u32, key: &[u8]) {
        if self.flags[slot as usize] & STORED != 0 {
            self.gone.insert(key.into());
        }
        self.flags[slot as usize] = 0;
    }

    pub fn rebind(&mut self, from: u32, to: u32) {
        self.flags[from as usize] = 0;
        self.add(to);
    }

    /// Slots that have not been used for long, at most `count`, in no order.
    fn victims(&mut self, count: usize, stays: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut victims = vec![];
        let slots = self.flags.len();
        for _ in 0..2 * slots {
            if victims.len() >= count {
                break;
            }
            self.hand = (self.hand + 1) % slots;
            let flags = &mut self.flags[self.hand];
            if *flags & RECENT != 0 {
                *flags &= !RECENT;
            } else if *flags & LIVE != 0 && !stays(self.hand as u32) {
                // Once.
                *flags |= RECENT;
                victims.push(self.hand as u32);
            }
        }
        victims
    }
}

/// State of an operator by key, a slot of a [`KeyMap`] each.
pub trait KeyedState {
    fn keys(&self) -> &KeyMap;
    fn keys_mut(&mut self) -> &mut KeyMap;

    /// What the state has of the job's memory; nothing if there is no limit.
    fn share(&mut self) -> Option<&mut Share>;

    /// Bytes in memory that go with the keys in use, about.
    fn live_bytes(&self) -> usize;

    /// Adds what belongs to a slot to `out`.
    fn encode_slot(&self, slot: u32, out: &mut Vec<u8>);

    /// Reads what [`KeyedState::encode_slot`] wrote into a new slot.
    fn decode_slot(&mut self, slot: u32, value: &[u8]) -> Result<()>;

    /// Drops what belongs to a slot: it is in the store.
    fn drop_slot(&mut self, slot: u32);

    /// Whether a slot cannot go now. What has changed since the last commit stays anyway.
    fn is_pinned(&self, slot: u32) -> bool {
        let _ = slot;
        false
    }

    /// Brings back those of `keys` that are in the store. To be called with all keys of a batch, before any is looked for.
    #[inline]
    fn load<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Result<()>
    where
        Self: Sized,
    {
        if self.keys().spill.is_none() { Ok(()) } else { load(self, keys) }
    }

    /// Writes what has not been used for long to the store, if the job has less memory than it uses.
    fn make_room(&mut self) -> Result<()>
    where
        Self: Sized,
    {
        if self.share().is_none() {
            return Ok(());
        }
        let bytes = self.live_bytes() + self.keys().spill.as_ref().map_or(0, |s| s.gone.len() * 64);
        let Some(keep) = self.share().and_then(|s| s.set(bytes)) else { return Ok(()) };
        evict(self, bytes, keep)
    }

    /// Writes what has changed since the last call as rows of `table`, one a key; `false` unless changes are tracked.
    fn write_changes(&mut self, table: &'static str, out: &mut DeltaWriter) -> bool
    where
        Self: Sized,
    {
        let Some(changed) = self.keys_mut().take_changes() else { return false };
        out.rows(table, changed, |slot| self.keys().key(slot), |slot, value| self.encode_slot(slot, value));
        true
    }

    /// Reads rows, each by `put`, and lets them go to the store where they are too many.
    fn read_rows<'r>(
        &mut self,
        rows: impl Iterator<Item = (&'r [u8], &'r [u8])>,
        mut put: impl FnMut(&mut Self, &'r [u8], &'r [u8]) -> Result<()>,
    ) -> Result<()>
    where
        Self: Sized,
    {
        for (at, (key, value)) in rows.enumerate() {
            put(self, key, value)?;
            if at % RESTORED == RESTORED - 1 {
                self.make_room()?;
            }
        }
        self.make_room()
    }

    /// Begins to look through the store for what has expired.
    fn begin_sweep(&mut self) {
        if let Some(spill) = &mut self.keys_mut().spill {
            spill.sweep.get_or_insert_default();
        }
    }

    /// Looks through a part of the store and brings back keys of which something `is_expired`: to be dropped like others in memory.
    /// Answers their slots.
    fn sweep(&mut self, is_expired: impl Fn(&[u8]) -> bool) -> Result<Vec<u32>>
    where
        Self: Sized,
    {
        if self.keys().spill.as_ref().is_none_or(|s| s.sweep.is_none()) { Ok(vec![]) } else { sweep(self, is_expired) }
    }

    /// All rows of the store that are not in memory.
    fn stored(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let Some(spill) = &self.keys().spill else { return Ok(()) };
        for row in spill.table.rows_after(None) {
            let (key, value) = row?;
            if self.keys().find(&key).is_none() && !spill.gone.contains(&*key) {
                each(&key, &value)?;
            }
        }
        Ok(())
    }
}

/// The part of a job's memory for one state, if there is a limit.
pub fn share(memory: &Memory) -> Option<Share> {
    memory.limit().map(|_| memory.share())
}

fn load<'k>(state: &mut impl KeyedState, keys: impl Iterator<Item = &'k [u8]>) -> Result<()> {
    for (key, value) in missing(state.keys_mut(), keys)? {
        let slot = state.keys_mut().insert_stored(key);
        state.decode_slot(slot, &value)?;
    }
    Ok(())
}

/// Those of `keys` that are only in the store. The others count as used.
fn missing<'k>(map: &mut KeyMap, keys: impl Iterator<Item = &'k [u8]>) -> Result<Vec<(&'k [u8], Value)>> {
    let mut wanted: Vec<&[u8]> = vec![];
    let mut last = None;
    for key in keys {
        // Runs of one key are common.
        if last.replace(key) == Some(key) {
            continue;
        }
        let found = map.find(key);
        let Some(spill) = &mut map.spill else { return Ok(vec![]) };
        match found {
            Some(slot) => spill.flags[slot as usize] |= RECENT,
            None if spill.gone.contains(key) || key.len() > LONGEST_KEY => {}
            None => wanted.push(key),
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    let Some(spill) = &map.spill else { return Ok(vec![]) };
    let mut found = vec![];
    for key in wanted {
        if let Some(value) = spill.table.get(key)? {
            found.push((key, value));
        }
    }
    Ok(found)
}

/// `keep`: what may be left of `bytes`.
fn evict(state: &mut impl KeyedState, bytes: usize, keep: usize) -> Result<()> {
    if state.keys().spill.is_none() {
        let Some(table) = state.share().map(|s| s.table()).transpose()? else { return Ok(()) };
        state.keys_mut().spill = Some(Box::new(Spill::new(table, state.keys())));
    }
    let Some(mut spill) = state.keys_mut().spill.take() else { return Ok(()) };
    let live = state.keys().len();
    let want = live - (live as u128 * keep as u128 / bytes as u128) as usize;
    let keys = state.keys();
    let mut victims = spill.victims(want, |s| keys.is_dirty(s) || keys.key(s).len() > LONGEST_KEY || state.is_pinned(s));
    if victims.len() < want / 2
        && let Some(share) = state.share()
    {
        share.ask_for_commit();
    }
    victims.sort_unstable_by(|a, b| state.keys().key(*a).cmp(state.keys().key(*b)));
    let result = write(state, &mut spill, &victims);
    state.keys_mut().spill = Some(spill);
    result?;
    for slot in victims {
        state.drop_slot(slot);
        state.keys_mut().evict(slot);
    }
    let bytes = state.live_bytes();
    if let Some(share) = state.share() {
        share.set(bytes);
    }
    Ok(())
}

/// Writes slots, in order of their keys, and deletes what is gone.
fn write(state: &impl KeyedState, spill: &mut Spill, victims: &[u32]) -> Result<()> {
    let changed = |s: &&u32| spill.flags[**s as usize] & CLEAN == 0;
    if !victims.iter().any(|s| changed(&s)) && spill.gone.len() < GONE {
        return Ok(());
    }
    let gone: BTreeSet<Box<[u8]>> = std::mem::take(&mut spill.gone).into_iter().collect();
    let mut gone = gone.iter().peekable();
    let mut value = vec![];
    let table = &spill.table;
    table.write(|row| {
        for slot in victims.iter().filter(changed) {
            let key = state.keys().key(*slot);
            while let Some(before) = gone.next_if(|g| ***g < *key) {
                row(before, None)?;
            }
            gone.next_if(|g| ***g == *key);
            value.clear();
            state.encode_slot(*slot, &mut value);
            row(key, Some(&value))?;
        }
        gone.try_for_each(|g| row(g, None))
    })
}

fn sweep(state: &mut impl KeyedState, is_expired: impl Fn(&[u8]) -> bool) -> Result<Vec<u32>> {
    let mut expired = vec![];
    {
        let keys = state.keys();
        let Some(spill) = &keys.spill else { return Ok(vec![]) };
        let from = spill.sweep.as_deref().filter(|k| !k.is_empty());
        let mut last = None;
        let mut looked = 0;
        for row in spill.table.rows_after(from).take(SWEEP) {
            let (key, value) = row?;
            looked += 1;
            if is_expired(&value) && keys.find(&key).is_none() && !spill.gone.contains(&*key) {
                expired.push((key.to_vec(), value));
            }
            last = Some(key);
        }
        let next = last.filter(|_| looked == SWEEP).map(|k| k.to_vec());
        if let Some(spill) = &mut state.keys_mut().spill {
            spill.sweep = next;
        }
    }
    let mut slots = vec![];
    for (key, value) in expired {
        let slot = state.keys_mut().insert_stored(&key);
        state.decode_slot(slot, &value)?;
        slots.push(slot);
    }
    Ok(slots)
}

/// Whether a time to live has passed since `changed`.
pub fn is_over(changed: Millis, ttl: Millis, now: Millis) -> bool {
    ttl > 0 && now >= changed.saturating_add(ttl)
}
