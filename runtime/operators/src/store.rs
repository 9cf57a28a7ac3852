//! A store on the local disk for state that does not fit into memory. It is scratch: the durable copy of state is what commits write,
//! so nothing is read from it that this process has not written, and nothing of it outlives the process.

use std::fs::{self, File};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fjall::config::PartitioningPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use sluice_batch::{Error, Result};

/// Longer keys cannot be stored (the store's limit is 64 KiB).
pub const LONGEST_KEY: usize = 60_000;
/// The folder of all stores of a machine within the directory given.
const FOLDER: &str = "sluice-state";
const LOCK: &str = "lock";
/// A value as the store gives it.
pub type Value = fjall::UserValue;
/// Runs that have not been merged yet: with more of them reads become slow, and the writer waits.
const MOST_RUNS: usize = 24;

/// One store of a process, opened when something is first written to it.
pub struct Store {
    directory: PathBuf,
    cache: u64,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    database: Option<Database>,
    path: PathBuf,
    tables: usize,
    /// Held for as long as the store lives; others may delete a store whose lock they get.
    lock: Option<File>,
}

impl Store {
    /// A store within `directory`; `cache` bytes of what is read from it are kept in memory.
    pub fn new(directory: PathBuf, cache: usize) -> Self {
        Self { directory, cache: cache as u64, opened: Mutex::default() }
    }

    /// Deletes what processes left behind that were killed.
    pub fn clean(&self) {
        let folder = self.directory.join(FOLDER);
        // A job that may never need a store makes nothing.
        if !folder.exists() {
            return;
        }
        if let Ok(guard) = exclusive(&folder) {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let abandoned = File::open(entry.path().join(LOCK)).is_ok_and(|f| f.try_lock().is_ok());
                if abandoned && let Err(e) = fs::remove_dir_all(entry.path()) {
                    tracing::warn!("{} is not needed any more and cannot be deleted: {e}", entry.path().display());
                }
            }
            drop(guard);
        }
    }

    /// A new, empty table.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn table(self: &Arc<Self>) -> Result<Table> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.database.is_none() {
            *opened = self.open()?;
        }
        opened.tables += 1;
        let name = format!("t{}", opened.tables);
        let database = opened.database.as_ref().ok_or_else(|| Error::runtime("the state store is closed"))?;
        // In parts, so that a read does not need the whole filter of a run, which may be larger than the cache.
        let options = || {
            let parts = PartitioningPolicy::all(true);
            KeyspaceCreateOptions::default().filter_block_partitioning_policy(parts.clone()).index_block_partitioning_policy(parts)
        };
        let keyspace = database.keyspace(&name, options).map_err(|e| failed(&opened.path, &e))?;
        Ok(Table { keyspace, path: opened.path.clone(), _store: self.clone() })
    }

    fn open(&self) -> Result<Opened> {
        let folder = self.directory.join(FOLDER);
        let guard = exclusive(&folder).map_err(|e| failed(&folder, &e))?;
        let path = folder.join(format!("{}-{:016x}", std::process::id(), self as *const Self as usize));
        let made = || -> std::io::Result<File> {
            if path.exists() {
                fs::remove_dir_all(&path)?;
            }
            fs::create_dir_all(&path)?;
            let lock = File::create(path.join(LOCK))?;
            lock.lock()?;
            Ok(lock)
        };
        let lock = made().map_err(|e| failed(&path, &e))?;
        drop(guard);
        let database = Database::builder(path.join("data")).cache_size(self.cache).worker_threads(1).manual_journal_persist(true).open();
        let database = database.map_err(|e| failed(&path, &e))?;
        tracing::info!("state does not fit into its memory; what is not in use goes to {}", path.display());
        Ok(Opened { database: Some(database), path, tables: 0, lock: Some(lock) })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let opened = self.opened.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Tables hold the store, so none is left.
        if opened.database.take().is_some()
            && let Err(e) = fs::remove_dir_all(&opened.path)
        {
            tracing::warn!("{} is not needed any more and cannot be deleted: {e}", opened.path.display());
        }
        opened.lock = None;
    }
}

/// Makes the folder and keeps others from making or deleting stores in it.
fn exclusive(folder: &Path) -> std::io::Result<File> {
    fs::create_dir_all(folder)?;
    let lock = File::create(folder.join(".lock"))?;
    lock.lock()?;
    Ok(lock)
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::runtime(format!("the state store {}: {error}", path.display()))
        .hint("'state.backend.local-dir' names another directory; 'state.backend.memory' is how much state stays in memory")
}

/// Keys and values, sorted.
pub struct Table {
    keyspace: Keyspace,
    path: PathBuf,
    /// Deleted when the last table is gone.
    _store: Arc<Store>,
}

impl Table {
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.keyspace.get(key).map_err(|e| failed(&self.path, &e))
    }

    /// Writes many rows at once, by `rows` that calls its argument with keys in strictly ascending order and values; no value deletes
    /// the key.
    pub fn write(&self, rows: impl FnOnce(&mut dyn FnMut(&[u8], Option<&[u8]>) -> Result<()>) -> Result<()>) -> Result<()> {
        while self.keyspace.l0_table_count() > MOST_RUNS {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut ingestion = self.keyspace.start_ingestion().map_err(|e| failed(&self.path, &e))?;
        rows(&mut |key, value| {
            let written = match value {
                Some(value) => ingestion.write(key, value),
                None => ingestion.write_tombstone(key),
            };
            written.map_err(|e| failed(&self.path, &e))
        })?;
        ingestion.finish().map_err(|e| failed(&self.path, &e))
    }

    /// All rows behind a key, in order.
    pub fn rows_after(&self, key: Option<&[u8]>) -> impl Iterator<Item = Result<(fjall::UserKey, Value)>> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.keyspace.range::<&[u8], _>((from, Bound::Unbounded));
        rows.map(|row| row.into_inner().map_err(|e| failed(&self.path, &e)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folders(directory: &Path) -> usize {
        fs::read_dir(directory.join(FOLDER)).map_or(0, |d| d.flatten().filter(|e| e.path().is_dir()).count())
    }

    #[test]
    fn rows_are_there_until_the_store_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::new(directory.path().to_owned(), 1 << 20));
        assert_eq!(folders(directory.path()), 0, "nothing is made before it is needed");
        let table = store.table().unwrap();
        let other = store.table().unwrap();
        table.write(|row| (0..1000u32).try_for_each(|i| row(&i.to_be_bytes(), Some(&[i as u8])))).unwrap();
        table.write(|row| [3u32, 5].iter().try_for_each(|i| row(&i.to_be_bytes(), None))).unwrap();
        table.write(|row| row(&4u32.to_be_bytes(), Some(b"new"))).unwrap();
        assert_eq!(table.get(&4u32.to_be_bytes()).unwrap().unwrap().as_ref(), b"new");
        assert!(table.get(&5u32.to_be_bytes()).unwrap().is_none() && other.get(&4u32.to_be_bytes()).unwrap().is_none());
        let after: Vec<_> = table.rows_after(Some(&1u32.to_be_bytes())).take(3).map(|r| r.unwrap().0.to_vec()).collect();
        assert_eq!(after, [2u32, 4, 6].map(|i| i.to_be_bytes().to_vec()));
        assert_eq!(table.rows_after(None).count(), 998);
        let neighbour = Store::new(directory.path().to_owned(), 1 << 20);
        neighbour.clean();
        assert_eq!(folders(directory.path()), 1, "what is in use stays");
        drop(store);
        drop(table);
        drop(other);
        assert_eq!(folders(directory.path()), 0);
    }

    #[test]
    fn what_a_killed_process_left_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join(FOLDER).join("77-1");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        Store::new(directory.path().to_owned(), 1 << 20).clean();
        assert_eq!(folders(directory.path()), 0);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let Err(error) = Arc::new(Store::new(file.clone(), 1 << 20)).table() else { panic!("a file is no directory") };
        assert!(error.message().contains(&file.display().to_string()), "{error}");
    }
}
