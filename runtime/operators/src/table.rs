//! Rows of state tables, as they are written and read: all of a table's bytes in one buffer, so that a row costs no allocation.

/// Rows in order: key and value.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Rows {
    bytes: Vec<u8>,
    /// Where key and value end in `bytes`; each begins where the one before ends.
    ends: Vec<(usize, usize)>,
}

impl Rows {
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.push_with(key, |out| out.extend_from_slice(value));
    }

    /// `value` writes the row's value behind what it is given.
    pub fn push_with(&mut self, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        value(&mut self.bytes);
        self.ends.push((end, self.bytes.len()));
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of keys and values.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The row at a place below [`Rows::len`].
    #[inline]
    pub fn get(&self, at: usize) -> (&[u8], &[u8]) {
        let from = if at == 0 { 0 } else { self.ends[at - 1].1 };
        let (key, value) = self.ends[at];
        (&self.bytes[from..key], &self.bytes[key..value])
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Puts the rows of `other` behind these.
    pub fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|(key, value)| (base + key, base + value)));
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, V)> for Rows {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Self {
        let mut out = Self::default();
        rows.into_iter().for_each(|(key, value)| out.push(key.as_ref(), value.as_ref()));
        out
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What happens to a row of a state table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    Put,
    Delete,
    /// All rows whose key begins with the given one.
    DeletePrefix,
}

/// Changes of a table, in order. What is deleted has no value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes {
    rows: Rows,
    kinds: Vec<ChangeKind>,
}

impl Changes {
    pub fn push(&mut self, kind: ChangeKind, key: &[u8], value: &[u8]) {
        self.rows.push(key, value);
        self.kinds.push(kind);
    }

    /// `value` writes the row's value behind what it is given.
    pub fn put_with(&mut self, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.rows.push_with(key, value);
        self.kinds.push(ChangeKind::Put);
    }

    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The change at a place below [`Changes::len`].
    #[inline]
    pub fn get(&self, at: usize) -> (ChangeKind, &[u8], &[u8]) {
        let (key, value) = self.rows.get(at);
        (self.kinds[at], key, value)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ChangeKind, &[u8], &[u8])> + Clone {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Puts the changes of `other` behind these.
    pub fn append(&mut self, other: Self) {
        self.rows.append(other.rows);
        self.kinds.extend(other.kinds);
    }

    /// The rows, if nothing but puts made them.
    pub fn into_puts(self) -> Result<Rows, Self> {
        if self.kinds.iter().all(|k| *k == ChangeKind::Put) { Ok(self.rows) } else { Err(self) }
    }
}

/// Rows as the changes that make them.
impl From<Rows> for Changes {
    fn from(rows: Rows) -> Self {
        Self { kinds: vec![ChangeKind::Put; rows.len()], rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_was_pushed() {
        let given: [(&[u8], &[u8]); 4] = [(b"a", b"1"), (b"", b""), (b"b", b""), (b"", b"22")];
        let mut rows: Rows = given[..2].iter().copied().collect();
        rows.append(given[2..].iter().copied().collect());
        assert_eq!(rows.iter().collect::<Vec<_>>(), given);
        assert_eq!((rows.len(), rows.size(), rows.get(3)), (4, 5, given[3]));
        let mut changes = Changes::from(rows.clone());
        assert_eq!(changes.clone().into_puts(), Ok(rows));
        let mut more = Changes::default();
        more.push(ChangeKind::Delete, b"a", b"");
        more.put_with(b"c", |out| out.push(b'3'));
        changes.append(more);
        assert_eq!(changes.get(4), (ChangeKind::Delete, &b"a"[..], &b""[..]));
        assert_eq!(changes.iter().last(), Some((ChangeKind::Put, &b"c"[..], &b"3"[..])));
        assert!(changes.into_puts().is_err());
    }
}
