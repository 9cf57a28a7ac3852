//! State of operators as tables of byte keys and values: what a snapshot holds.
//!
//! Operators keep their state in structures of their own and write it, a table at a time, as rows with a memcomparable key.

use std::collections::BTreeMap;

use sluice_batch::{Error, EvalContext, Result};

use crate::changes::Changed;
use crate::group_index::KeyMap;

/// Collects the tables of one operator.
#[derive(Default)]
pub struct SnapshotWriter {
    tables: BTreeMap<&'static str, Vec<(Vec<u8>, Vec<u8>)>>,
}

impl SnapshotWriter {
    pub fn put(&mut self, table: &'static str, key: Vec<u8>, value: Vec<u8>) {
        self.tables.entry(table).or_default().push((key, value));
    }

    pub fn into_tables(self) -> BTreeMap<&'static str, Vec<(Vec<u8>, Vec<u8>)>> {
        self.tables
    }
}

/// What happens to a row of a state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Put,
    Delete,
    /// All rows whose key begins with the given one.
    DeletePrefix,
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
        self.tables.entry(table).or_default().push(ChangeKind::Put, key.as_ref(), value);
    }

    pub fn delete(&mut self, table: &'static str, key: impl AsRef<[u8]>) {
        self.tables.entry(table).or_default().push(ChangeKind::Delete, key.as_ref(), |_| ());
    }

    /// Deletes all rows of `table` whose key begins with `prefix`.
    pub fn delete_prefix(&mut self, table: &'static str, prefix: impl AsRef<[u8]>) {
        self.tables.entry(table).or_default().push(ChangeKind::DeletePrefix, prefix.as_ref(), |_| ());
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

    pub fn into_tables(self) -> BTreeMap<&'static str, Changes> {
        self.tables
    }
}

/// Changes of a table, in order.
#[derive(Default)]
pub struct Changes {
    bytes: Vec<u8>,
    /// Kind, and the ends of key and value in `bytes`.
    rows: Vec<(ChangeKind, usize, usize)>,
}

impl Changes {
    fn push(&mut self, kind: ChangeKind, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        value(&mut self.bytes);
        self.rows.push((kind, end, self.bytes.len()));
    }

    /// Kind, key, and value (empty unless put).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ChangeKind, &[u8], &[u8])> {
        let mut start = 0;
        self.rows.iter().map(move |(kind, key, value)| {
            let from = std::mem::replace(&mut start, *value);
            (*kind, &self.bytes[from..*key], &self.bytes[*key..*value])
        })
    }
}

/// The tables of one operator as they were written.
pub struct SnapshotReader<'a> {
    tables: &'a BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>,
    context: &'a EvalContext,
}

impl<'a> SnapshotReader<'a> {
    pub fn new(tables: &'a BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>, context: &'a EvalContext) -> Self {
        Self { tables, context }
    }

    /// Session settings and the task's clock.
    pub fn context(&self) -> &'a EvalContext {
        self.context
    }

    /// All rows of a table; none if it was not written.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.tables.get(table).into_iter().flatten().map(|(k, v)| (k.as_slice(), v.as_slice()))
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
