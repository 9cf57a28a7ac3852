//! State of operators as tables of byte keys and values: what a snapshot holds.
//!
//! Operators keep their state in structures of their own and write it, a table at a time, as rows with a memcomparable key.

use std::collections::BTreeMap;

use sluice_batch::{Error, EvalContext, Result};

use crate::changes::Changed;
use crate::group_index::KeyMap;
pub use crate::table::{ChangeKind, Changes, Rows};

/// Collects the tables of one operator.
#[derive(Default)]
pub struct SnapshotWriter {
    tables: BTreeMap<&'static str, Rows>,
}

impl SnapshotWriter {
    pub fn put(&mut self, table: &'static str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.put_with(table, key, |out| out.extend_from_slice(value.as_ref()));
    }

    /// `value` writes the row's value behind what it is given.
    pub fn put_with(&mut self, table: &'static str, key: impl AsRef<[u8]>, value: impl FnOnce(&mut Vec<u8>)) {
        self.tables.entry(table).or_default().push_with(key.as_ref(), value);
    }

    pub fn into_tables(self) -> BTreeMap<String, Rows> {
        self.tables.into_iter().map(|(table, rows)| (table.to_owned(), rows)).collect()
    }
}

/// Collects what has changed in the tables of one operator, in order. The task stands still meanwhile: a table's changes are one buffer,
/// so that one more costs no allocation.
#[derive(Default)]
pub struct DeltaWriter {
    tables: BTreeMap<&'static str, Changes>,
}

impl DeltaWriter {
    pub fn put(&mut self, table: &'static str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.put_with(table, key, |out| out.extend_from_slice(value.as_ref()));
    }

    /// `value` writes the row's value behind what it is given.
    pub fn put_with(&mut self, table: &'static str, key: impl AsRef<[u8]>, value: impl FnOnce(&mut Vec<u8>)) {
        self.tables.entry(table).or_default().put_with(key.as_ref(), value);
    }

    pub fn delete(&mut self, table: &'static str, key: impl AsRef<[u8]>) {
        self.tables.entry(table).or_default().push(ChangeKind::Delete, key.as_ref(), &[]);
    }

    /// Deletes all rows of `table` whose key begins with `prefix`.
    pub fn delete_prefix(&mut self, table: &'static str, prefix: impl AsRef<[u8]>) {
        self.tables.entry(table).or_default().push(ChangeKind::DeletePrefix, prefix.as_ref(), &[]);
    }

    /// What has changed in a table of one row a slot, whose key and value are given.
    pub fn rows<K: AsRef<[u8]>>(
        &mut self,
        table: &'static str,
        changed: Changed,
        key: impl Fn(u32) -> K,
        encode: impl Fn(u32, &mut Vec<u8>),
    ) {
        changed.gone.into_iter().for_each(|key| self.delete(table, key));
        changed.slots.into_iter().for_each(|slot| self.put_with(table, key(slot), |value| encode(slot, value)));
    }

    /// Deletes all rows of keys that have changed from a table of several rows a key, each behind its [`prefix`]. Those that are there
    /// are to be put again: a key has few rows, or a change moves all of them.
    pub fn clear(&mut self, table: &'static str, keys: &KeyMap, changed: &Changed) {
        let there = changed.slots.iter().map(|slot| keys.key(*slot));
        changed.gone.iter().map(|key| &**key).chain(there).for_each(|key| self.delete_prefix(table, prefix(key)));
    }

    pub fn into_tables(self) -> BTreeMap<String, Changes> {
        self.tables.into_iter().map(|(table, changes)| (table.to_owned(), changes)).collect()
    }
}

/// The tables of one operator as they were written.
pub struct SnapshotReader<'a> {
    tables: &'a BTreeMap<String, Rows>,
    context: &'a EvalContext,
}

impl<'a> SnapshotReader<'a> {
    pub fn new(tables: &'a BTreeMap<String, Rows>, context: &'a EvalContext) -> Self {
        Self { tables, context }
    }

    /// Session settings and the task's clock.
    pub fn context(&self) -> &'a EvalContext {
        self.context
    }

    /// All rows of a table; none if it was not written.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.tables.get(table).into_iter().flat_map(Rows::iter)
    }
}

/// Takes `n` bytes off the front of encoded state.
pub fn take_bytes<'a>(input: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    if input.len() < n {
        return Err(Error::runtime("state ends before its value does"));
    }
    let (head, tail) = input.split_at(n);
    *input = tail;
    Ok(head)
}

/// Takes a big-endian integer off the front of encoded state.
pub fn take_i64(input: &mut &[u8]) -> Result<i64> {
    let bytes = take_bytes(input, 8)?;
    Ok(i64::from_be_bytes(bytes.try_into().map_err(|_| Error::runtime("state ends before its value does"))?))
}

/// Takes a byte string that [`put_bytes`] wrote.
pub fn take_row<'a>(input: &mut &'a [u8]) -> Result<&'a [u8]> {
    let bytes = take_bytes(input, 4)?;
    let len = u32::from_be_bytes(bytes.try_into().map_err(|_| Error::runtime("state ends before its value does"))?);
    take_bytes(input, len as usize)
}

/// The byte string that [`put_bytes`] wrote at the front of a table's key: what most operators partition their state by. Tables of
/// one row have an empty key and no prefix.
pub fn key_prefix(mut key: &[u8]) -> Result<&[u8]> {
    if key.is_empty() { Ok(key) } else { take_row(&mut key) }
}

/// Writes a byte string with its length before it.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// What the keys of all rows of one key begin with, in tables that have several rows a key.
pub fn prefix(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 32);
    put_bytes(&mut out, key);
    out
}
