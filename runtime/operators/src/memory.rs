//! How much memory the state of a job may take, shared by the operators of all its tasks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use sluice_batch::Result;

use crate::store::{Store, Table};

/// What the store keeps in memory of what it reads: a part of the budget, within these bounds.
const CACHE: std::ops::RangeInclusive<usize> = 2 << 20..=64 << 20;

/// The budget of one job. Clones are of the same.
#[derive(Clone)]
pub struct Memory(Arc<Budget>);

struct Budget {
    /// `None`: as much as there is.
    limit: Option<usize>,
    used: AtomicUsize,
    /// What has changed since the last commit fills the memory.
    commit: AtomicBool,
    /// Something was written to the store.
    spilled: AtomicBool,
    warned: AtomicBool,
    store: Arc<Store>,
}

impl Memory {
    /// At most `limit` bytes, about; what does not fit goes to `directory`.
    pub fn new(limit: usize, directory: PathBuf) -> Self {
        let store = Store::new(directory, (limit / 16).clamp(*CACHE.start(), *CACHE.end()));
        store.clean();
        Self::of(Some(limit), store)
    }

    /// All there is.
    pub fn unlimited() -> Self {
        Self::of(None, Store::new(std::env::temp_dir(), *CACHE.start()))
    }

    fn of(limit: Option<usize>, store: Store) -> Self {
        Self(Arc::new(Budget {
            limit,
            used: AtomicUsize::new(0),
            commit: AtomicBool::new(false),
            spilled: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            store: Arc::new(store),
        }))
    }

    pub fn limit(&self) -> Option<usize> {
        self.0.limit
    }

    /// A holder of state, with nothing yet.
    pub fn share(&self) -> Share {
        Share { memory: self.clone(), bytes: 0 }
    }

    /// Whether a commit would let state go to the store that may not go there now; asked once, then forgotten.
    pub fn wants_commit(&self) -> bool {
        self.0.commit.load(Relaxed) && self.0.commit.swap(false, Relaxed)
    }

    /// Whether anything was ever written to the store.
    pub fn has_spilled(&self) -> bool {
        self.0.spilled.load(Relaxed)
    }

    /// The job holds more than it may, and `who`, which cannot let go of any of it, is why: said once.
    pub fn warn(&self, who: &str, bytes: usize) {
        if let Some(limit) = self.0.limit
            && bytes > limit
            && !self.0.warned.swap(true, Relaxed)
        {
            tracing::warn!("the state of {who} takes {bytes} bytes and can be in memory only; 'state.backend.memory' is {limit} bytes");
        }
    }
}

/// What one holder of state has of a job's memory.
pub struct Share {
    memory: Memory,
    bytes: usize,
}

impl Share {
    /// Notes that the holder has `bytes` now. Answers how much it should keep, if that is less: holders shrink by the same factor.
    pub fn set(&mut self, bytes: usize) -> Option<usize> {
        let budget = &self.memory.0;
        let before = std::mem::replace(&mut self.bytes, bytes);
        let used = match bytes >= before {
            true => budget.used.fetch_add(bytes - before, Relaxed) + (bytes - before),
            false => budget.used.fetch_sub(before - bytes, Relaxed) - (before - bytes),
        };
        let limit = budget.limit.filter(|limit| used > *limit)?;
        // A little less than needed, so that it is not needed again at once; but never nearly nothing, if others cannot shrink.
        let keep = (bytes as u128 * limit as u128 * 4 / 5 / used as u128) as usize;
        let keep = keep.max(limit / 32);
        (keep < bytes).then_some(keep)
    }

    /// What has changed since the last commit does not let the holder shrink.
    pub fn ask_for_commit(&self) {
        self.memory.0.commit.store(true, Relaxed);
    }

    /// A table for what does not fit.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn table(&self) -> Result<Table> {
        self.memory.0.spilled.store(true, Relaxed);
        self.memory.0.store.table()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.0.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_shrink_together() {
        let memory = Memory::new(1000, std::env::temp_dir());
        let (mut a, mut b) = (memory.share(), memory.share());
        assert_eq!(a.set(600), None);
        assert_eq!(b.set(400), None);
        assert_eq!(b.set(1000), Some(500), "four fifths of the limit, by use");
        assert_eq!(b.set(390), None);
        drop(a);
        assert_eq!(b.set(1000), None);
        assert_eq!(b.set(100_000), Some(800));
        assert!(!memory.wants_commit());
        b.ask_for_commit();
        assert!(memory.wants_commit() && !memory.wants_commit());
        assert_eq!(Memory::unlimited().share().set(usize::MAX / 2), None);
    }
}
