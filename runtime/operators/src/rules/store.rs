//! What is kept for each key, and when it goes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use sluice_batch::{Millis, Result};

use super::change::{decode_texts, encode_text};
use super::compiled::{Channels, Set};
use super::history::History;
use super::keys;
use crate::changes::Changed;
use crate::group_index::KeyMap;
use crate::rows::{EncodedRows, RowCodec};
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, prefix, put_bytes, take_i64, take_row};

/// The table of events: by key, channel and chunk.
const EVENTS: &str = "events";

/// What is kept for one key.
#[derive(Default)]
struct Kept {
    set: u32,
    /// By the channel's id.
    histories: Vec<(u32, History)>,
    /// When time gets here something may go. The heap has it.
    due: Millis,
    /// Channels whose history went, since the last commit.
    dropped: Vec<u32>,
}

pub struct Store {
    codec: RowCodec,
    map: KeyMap,
    /// By slot.
    kept: Vec<Kept>,
    /// When slots have something to let go.
    due: BinaryHeap<Reverse<(Millis, u32)>>,
    tracked: bool,
    bytes: usize,
}

impl Store {
    pub fn new() -> Result<Self> {
        let codec = RowCodec::of_arrow(DataType::Utf8)?;
        Ok(Self { codec, map: KeyMap::default(), kept: vec![], due: BinaryHeap::new(), tracked: false, bytes: 0 })
    }

    pub fn encode(&self, keys: &ArrayRef) -> Result<EncodedRows> {
        self.codec.encode(std::slice::from_ref(keys))
    }

    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.map.find(key)
    }

    pub fn set(&self, slot: u32) -> u32 {
        self.kept[slot as usize].set
    }

    /// A slot for a key, which has changed.
    pub fn touch(&mut self, key: &[u8], set: u32) -> u32 {
        let (slot, new) = self.map.insert(key);
        if new {
            if self.kept.len() <= slot as usize {
                self.kept.resize_with(slot as usize + 1, Kept::default);
            }
            self.kept[slot as usize] = Kept { set, due: Millis::MAX, ..Kept::default() };
        }
        slot
    }

    pub fn insert(&mut self, slot: u32, channel: u32, counting: bool, time: Millis, value: i128) {
        let kept = &mut self.kept[slot as usize];
        let at = match kept.histories.iter().position(|(c, _)| *c == channel) {
            Some(at) => at,
            None => {
                kept.histories.push((channel, History::new(counting)));
                kept.histories.len() - 1
            }
        };
        let history = &mut kept.histories[at].1;
        let before = history.bytes();
        history.insert(time, value);
        self.bytes = self.bytes + history.bytes() - before;
    }

    pub fn history(&self, slot: u32, channel: u32) -> Option<&History> {
        self.kept[slot as usize].histories.iter().find(|(c, _)| *c == channel).map(|(_, h)| h)
    }

    /// Forgets a channel of a key.
    pub fn drop_history(&mut self, slot: u32, channel: u32) {
        let kept = &mut self.kept[slot as usize];
        let before = kept.bytes();
        kept.retain(|c, _| c != channel, self.tracked);
        self.bytes = self.bytes + kept.bytes() - before;
    }

    /// Whether nothing is kept for a key: no rule counts its events, and what they aggregate was NULL.
    pub fn is_bare(&self, slot: u32) -> bool {
        self.kept[slot as usize].histories.is_empty()
    }

    /// Makes sure that the key is looked at when its first values are too old.
    pub fn schedule(&mut self, slot: u32, widest: Millis) {
        let kept = &mut self.kept[slot as usize];
        let oldest = kept.histories.iter().filter_map(|(_, h)| h.oldest()).min();
        // What is due earlier than said is looked at in time all the same; what is due later will be found not to be.
        if let Some(due) = oldest.map(|o| o.saturating_add(widest)).filter(|d| *d < kept.due) {
            kept.due = due;
            self.due.push(Reverse((due, slot)));
        }
    }

    /// Lets go what no window of a rule reaches any more when time is `now`.
    pub fn advance(&mut self, now: Millis, sets: &[Option<Set>]) {
        while let Some(Reverse((due, slot))) = self.due.peek().copied()
            && due < now
        {
            self.due.pop();
            let Some(kept) = self.kept.get_mut(slot as usize).filter(|k| k.due == due) else { continue };
            let widest = sets.get(kept.set as usize).and_then(Option::as_ref).map_or(0, |s| s.widest);
            kept.due = Millis::MAX;
            let before = kept.bytes();
            kept.histories.iter_mut().for_each(|(_, h)| h.evict(now.saturating_sub(widest), self.tracked));
            kept.retain(|_, h| !h.is_empty(), self.tracked);
            self.bytes = self.bytes + kept.bytes() - before;
            if kept.histories.is_empty() {
                self.remove(slot);
            } else {
                self.map.touch(slot);
                self.schedule(slot, widest);
            }
        }
    }

    pub fn remove(&mut self, slot: u32) {
        let kept = std::mem::take(&mut self.kept[slot as usize]);
        self.bytes -= kept.bytes();
        self.kept[slot as usize].due = Millis::MAX;
        self.map.remove(slot);
    }

    pub fn clear(&mut self) {
        let slots: Vec<u32> = self.map.slots().collect();
        slots.into_iter().for_each(|s| self.remove(s));
        self.due.clear();
    }

    /// The rules have changed: what none of them needs goes, and windows may be others.
    pub fn adapt(&mut self, sets: &[Option<Set>]) {
        let slots: Vec<u32> = self.map.slots().collect();
        self.due.clear();
        for slot in slots {
            let kept = &mut self.kept[slot as usize];
            let Some(set) = sets.get(kept.set as usize).and_then(Option::as_ref) else {
                self.remove(slot);
                continue;
            };
            let (before, count) = (kept.bytes(), kept.histories.len());
            kept.retain(|c, _| set.channels.iter().any(|s| s.id == c), self.tracked);
            self.bytes = self.bytes + kept.bytes() - before;
            if kept.histories.is_empty() {
                self.remove(slot);
                continue;
            }
            kept.due = Millis::MAX;
            if kept.histories.len() < count {
                self.map.touch(slot);
            }
            self.schedule(slot, set.widest);
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes + self.map.memory() + self.map.len() * (size_of::<Kept>() + 16)
    }

    pub fn track(&mut self) {
        self.tracked = true;
        self.map.track();
    }

    pub fn snapshot(&self, channels: &Channels, out: &mut SnapshotWriter) -> Result<()> {
        let names = encoded(channels)?;
        for slot in self.map.slots() {
            for (channel, history) in &self.kept[slot as usize].histories {
                let front = front(self.map.key(slot), &names[*channel as usize]);
                history.encoded().for_each(|(number, value)| out.put(EVENTS, row(&front, number), value));
            }
        }
        Ok(())
    }

    pub fn delta(&mut self, channels: &Channels, out: &mut DeltaWriter) -> Result<bool> {
        let Some(Changed { gone, slots }) = self.map.take_changes() else { return Ok(false) };
        gone.into_iter().for_each(|key| out.delete_prefix(EVENTS, prefix(&key)));
        let names = encoded(channels)?;
        for slot in slots {
            let kept = &mut self.kept[slot as usize];
            for channel in std::mem::take(&mut kept.dropped) {
                out.delete_prefix(EVENTS, front(self.map.key(slot), &names[channel as usize]));
            }
            for (channel, history) in &mut kept.histories {
                let front = front(self.map.key(slot), &names[*channel as usize]);
                let (gone, changed) = history.take_changes();
                gone.into_iter().for_each(|number| out.delete(EVENTS, row(&front, number)));
                changed.into_iter().for_each(|(number, value)| out.put(EVENTS, row(&front, number), value));
            }
        }
        Ok(true)
    }

    /// `set`: the set of rules with these names.
    pub fn restore(
        &mut self,
        input: &SnapshotReader<'_>,
        sets: &[Option<Set>],
        channels: &mut Channels,
        set: impl Fn(&[String]) -> Option<u32>,
    ) -> Result<()> {
        let mut parts: std::collections::BTreeMap<(&[u8], &[u8]), Vec<(i64, &[u8])>> = std::collections::BTreeMap::new();
        for (mut key, value) in input.rows(EVENTS) {
            let (of, channel) = (take_row(&mut key)?, take_row(&mut key)?);
            parts.entry((of, channel)).or_default().push((take_i64(&mut key)?, value));
        }
        let names = decode_texts(parts.keys().map(|(_, channel)| *channel))?;
        let texts: StringArray = decode_texts(parts.keys().map(|(key, _)| *key))?;
        for (at, ((key, _), chunks)) in parts.into_iter().enumerate() {
            let channel = channels.id(names.value(at));
            let Some(set) = set(&keys::names(texts.value(at))) else { continue };
            let Some(of) = sets.get(set as usize).and_then(Option::as_ref).filter(|s| s.channels.iter().any(|c| c.id == channel)) else {
                continue;
            };
            let slot = self.touch(key, set);
            let history = History::decode(channels.counts(channel), chunks)?;
            self.bytes += history.bytes();
            self.kept[slot as usize].histories.push((channel, history));
            self.schedule(slot, of.widest);
        }
        Ok(())
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.histories.iter().map(|(_, h)| h.bytes()).sum()
    }

    fn retain(&mut self, mut keep: impl FnMut(u32, &History) -> bool, tracked: bool) {
        let dropped = &mut self.dropped;
        self.histories.retain(|(channel, history)| {
            let keep = keep(*channel, history);
            if !keep && tracked {
                dropped.push(*channel);
            }
            keep
        });
    }
}

/// What the keys of all chunks of a channel begin with.
fn front(key: &[u8], channel: &[u8]) -> Vec<u8> {
    let mut out = prefix(key);
    put_bytes(&mut out, channel);
    out
}

/// The channels' names as keys have them.
fn encoded(channels: &Channels) -> Result<Vec<Vec<u8>>> {
    channels.names().iter().map(|n| encode_text(n)).collect()
}

fn row(front: &[u8], number: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(front.len() + 8);
    key.extend_from_slice(front);
    key.extend_from_slice(&number.to_be_bytes());
    key
}
