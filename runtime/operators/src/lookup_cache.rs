//! Answers of look-ups that are kept for a while (Flink: `DefaultLookupCache`).

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use sluice_batch::Millis;
use sluice_connect::CacheOptions;

/// Rows of a key, encoded.
pub type CachedRows = Arc<[Box<[u8]>]>;

/// The cache of one task, by encoded key.
pub struct LookupCache {
    options: CacheOptions,
    entries: HashMap<Box<[u8]>, Entry>,
    /// Keys in the order in which they were asked for last; only where their number is limited.
    order: BTreeMap<u64, Box<[u8]>>,
    turn: u64,
    bytes: usize,
}

struct Entry {
    rows: CachedRows,
    written: Millis,
    accessed: Millis,
    turn: u64,
}

impl Entry {
    fn bytes(&self, key: &[u8]) -> usize {
        key.len() + self.rows.iter().map(|r| r.len() + 16).sum::<usize>() + 96
    }
}

fn millis(duration: std::time::Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

impl LookupCache {
    pub fn new(options: CacheOptions) -> Self {
        Self { options, entries: HashMap::new(), order: BTreeMap::new(), turn: 0, bytes: 0 }
    }

    fn is_old(&self, entry: &Entry, now: Millis) -> bool {
        let over = |since: Millis, limit: Option<std::time::Duration>| limit.is_some_and(|l| now >= since.saturating_add(millis(l)));
        over(entry.written, self.options.expire_after_write) || over(entry.accessed, self.options.expire_after_access)
    }

    /// The rows of a key, if they are known and not too old.
    pub fn get(&mut self, key: &[u8], now: Millis) -> Option<CachedRows> {
        if self.entries.get(key).is_some_and(|e| self.is_old(e, now)) {
            self.remove(key);
        }
        let limited = self.options.max_rows.is_some();
        let entry = self.entries.get_mut(key)?;
        entry.accessed = now;
        if limited {
            self.turn += 1;
            if let Some(key) = self.order.remove(&entry.turn) {
                self.order.insert(self.turn, key);
            }
            entry.turn = self.turn;
        }
        Some(entry.rows.clone())
    }

    /// Keeps what was found for a key.
    pub fn put(&mut self, key: &[u8], rows: Vec<Box<[u8]>>, now: Millis) {
        self.remove(key);
        if (rows.is_empty() && !self.options.missing_keys) || self.options.max_rows == Some(0) {
            return;
        }
        self.turn += 1;
        let entry = Entry { rows: rows.into(), written: now, accessed: now, turn: self.turn };
        self.bytes += entry.bytes(key);
        self.entries.insert(key.into(), entry);
        let Some(most) = self.options.max_rows else { return };
        self.order.insert(self.turn, key.into());
        while self.entries.len() as u64 > most {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.turn);
            self.bytes -= entry.bytes(key).min(self.bytes);
        }
    }

    /// Leaves out what is too old.
    pub fn clean(&mut self, now: Millis) {
        let old: Vec<Box<[u8]>> = self.entries.iter().filter(|(_, e)| self.is_old(e, now)).map(|(k, _)| k.clone()).collect();
        old.iter().for_each(|key| self.remove(key));
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cache(max_rows: Option<u64>, write: Option<u64>, access: Option<u64>, missing_keys: bool) -> LookupCache {
        let time = |t: Option<u64>| t.map(Duration::from_millis);
        LookupCache::new(CacheOptions { max_rows, expire_after_write: time(write), expire_after_access: time(access), missing_keys })
    }

    fn row(text: &str) -> Vec<Box<[u8]>> {
        vec![text.as_bytes().into()]
    }

    #[test]
    fn the_keys_not_asked_for_for_longest_go_first() {
        let mut cache = cache(Some(2), None, None, true);
        cache.put(b"a", row("1"), 0);
        cache.put(b"b", row("2"), 0);
        assert!(cache.get(b"a", 1).is_some());
        cache.put(b"c", row("3"), 2);
        assert!(cache.get(b"b", 3).is_none() && cache.get(b"a", 3).is_some() && cache.get(b"c", 3).is_some());
        cache.put(b"a", row("4"), 4);
        assert_eq!(cache.get(b"a", 5).map(|r| r[0].to_vec()), Some(b"4".to_vec()));
        assert_eq!((cache.entries.len(), cache.order.len()), (2, 2));
    }

    #[test]
    fn entries_expire_by_writing_and_by_access() {
        let mut written = cache(None, Some(100), None, true);
        written.put(b"a", row("1"), 0);
        assert!(written.get(b"a", 99).is_some() && written.get(b"a", 100).is_none());
        let mut accessed = cache(None, None, Some(100), true);
        accessed.put(b"a", row("1"), 0);
        assert!(accessed.get(b"a", 99).is_some() && accessed.get(b"a", 198).is_some() && accessed.get(b"a", 298).is_none());
        accessed.put(b"b", row("1"), 300);
        accessed.clean(400);
        assert_eq!((accessed.entries.len(), accessed.bytes()), (0, 0));
    }

    #[test]
    fn missing_keys_are_kept_if_wanted() {
        let mut cache = cache(None, Some(100), None, true);
        cache.put(b"a", vec![], 0);
        assert_eq!(cache.get(b"a", 1).map(|r| r.len()), Some(0));
        cache.options.missing_keys = false;
        cache.put(b"b", vec![], 0);
        assert!(cache.get(b"b", 1).is_none());
    }
}
