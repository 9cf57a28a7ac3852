//! Which parts of an operator's state have changed since the last commit.

/// Slots that have changed, and keys that are gone.
#[derive(Default)]
pub struct Tracker {
    /// By slot.
    dirty: Vec<bool>,
    /// Slots that are or were dirty.
    slots: Vec<u32>,
    gone: Vec<Box<[u8]>>,
}

impl Tracker {
    #[inline]
    pub fn touch(&mut self, slot: u32) {
        let at = slot as usize;
        if self.dirty.len() <= at {
            self.dirty.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.dirty[at], true) {
            self.slots.push(slot);
        }
    }

    pub fn is_dirty(&self, slot: u32) -> bool {
        self.dirty.get(slot as usize).copied().unwrap_or_default()
    }

    /// The slot holds nothing any more; what it held was known by `key`.
    pub fn remove(&mut self, slot: u32, key: Box<[u8]>) {
        self.leave(slot);
        self.gone.push(key);
    }

    /// The slot holds nothing any more; what it held is elsewhere.
    pub fn leave(&mut self, slot: u32) {
        if let Some(dirty) = self.dirty.get_mut(slot as usize) {
            *dirty = false;
        }
    }

    /// What has changed since the last call.
    pub fn take(&mut self) -> Changed {
        let mut slots = std::mem::take(&mut self.slots);
        // One that was left and touched again is there twice: the flag falls at the first.
        slots.retain(|s| std::mem::take(&mut self.dirty[*s as usize]));
        Changed { gone: std::mem::take(&mut self.gone), slots }
    }
}

/// What has changed, each once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Keys that are gone. One may have come back: then its new slot is among the others.
    pub gone: Vec<Box<[u8]>>,
    /// Slots whose content may be another.
    pub slots: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let mut t = Tracker::default();
        [3, 1, 3].into_iter().for_each(|s| t.touch(s));
        t.remove(3, (*b"three").into());
        t.touch(3);
        t.touch(5);
        t.leave(5);
        assert_eq!(t.take(), Changed { gone: vec![(*b"three").into()], slots: vec![3, 1] });
        assert_eq!(t.take(), Changed::default());
        t.touch(1);
        assert_eq!(t.take().slots, [1]);
    }
}
