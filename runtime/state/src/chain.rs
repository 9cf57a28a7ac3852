//! A base and the deltas upon it, read together: the rows of each table as they stand behind the last delta, in parts, so that state that
//! is larger than memory can be merged and restored.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use sluice_batch::{Error, Result};

use crate::Layout;
use crate::change::{Change, Op};
use crate::file::{self, Header, Rows};
use crate::storage::Storage;

/// Rows that are given at once.
const PART: usize = 4096;

/// Key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The files of a chain, oldest first.
pub struct Chain {
    storage: Arc<dyn Storage>,
    files: Vec<File>,
}

struct File {
    name: String,
    header: Header,
    /// Where the rows of an operator's table are: the first, and how many.
    places: BTreeMap<(String, String), (usize, usize)>,
}

/// An operator that has state.
pub struct Member {
    pub identity: String,
    pub kind: String,
    pub layout: Layout,
    pub tables: Vec<String>,
    /// Its files are in order of the keys.
    pub sorted: bool,
    /// The first file that says anything of it now.
    from: usize,
}

impl Chain {
    /// # Errors
    /// If a file is missing, damaged or of a layout that this version does not know.
    pub fn open(storage: &Arc<dyn Storage>, names: &[String]) -> Result<Self> {
        let mut files = vec![];
        for name in names {
            let (header, places) = file::places(storage, name).map_err(|e| of_file(storage, name, &e))?;
            files.push(File { name: name.clone(), header, places });
        }
        Ok(Self { storage: storage.clone(), files })
    }

    /// The chain that ends with the file `newest`.
    ///
    /// # Errors
    /// As [`Chain::open`].
    pub fn open_newest(storage: &Arc<dyn Storage>, newest: &str) -> Result<Self> {
        let last = Self::open(storage, &[newest.to_owned()])?;
        let mut this = Self::open(storage, &last.header().before)?;
        this.files.extend(last.files);
        Ok(this)
    }

    /// The files' names, oldest first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|f| f.name.as_str())
    }

    /// What the newest file says of itself.
    pub fn header(&self) -> Header {
        self.files.last().map(|f| f.header.clone()).unwrap_or_default()
    }

    /// The operators, in the order in which they first wrote something.
    pub fn members(&self) -> Vec<Member> {
        let mut members: Vec<Member> = vec![];
        for (at, file) in self.files.iter().enumerate() {
            for operator in &file.header.operators {
                let known = members.iter().position(|m| m.identity == operator.identity);
                let (identity, kind, layout) = (operator.identity.clone(), operator.kind.clone(), operator.layout.clone());
                let tables = file.places.keys().filter(|(o, _)| *o == identity).map(|(_, t)| t.clone());
                match known {
                    Some(known) => {
                        let member = &mut members[known];
                        (member.kind, member.layout) = (kind, layout);
                        if operator.whole {
                            (member.tables, member.sorted, member.from) = (vec![], true, at);
                        }
                        member.tables.extend(tables);
                        member.tables.sort();
                        member.tables.dedup();
                        member.sorted &= operator.sorted;
                    }
                    None => {
                        let tables = tables.collect();
                        members.push(Member { identity, kind, layout, tables, sorted: operator.sorted, from: at });
                    }
                }
            }
        }
        members
    }

    /// Whether [`Chain::rows`] gives the rows of an operator's tables in the order of their keys.
    pub fn is_in_order(&self, member: &Member) -> bool {
        member.sorted || !self.is_as_written(member)
    }

    /// One file has all there is.
    fn is_as_written(&self, member: &Member) -> bool {
        let whole = self.files[member.from].header.operators.iter().any(|o| o.identity == member.identity && o.whole);
        whole && self.files[member.from + 1..].iter().all(|f| !f.has(&member.identity))
    }

    /// The rows of a table, a part at a time. In the order of their keys, if deltas have been applied; else in the order in which they
    /// were written.
    ///
    /// # Errors
    /// If a file cannot be read, or those of `each`.
    pub fn rows(&self, member: &Member, table: &str, each: &mut dyn FnMut(Vec<Row>) -> Result<()>) -> Result<()> {
        let place = (member.identity.clone(), table.to_owned());
        let mut streams = vec![];
        for (at, file) in self.files.iter().enumerate().skip(member.from) {
            let Some((first, count)) = file.places.get(&place).copied() else { continue };
            let rows = file::rows(&self.storage, &file.name, first, count).map_err(|e| of_file(&self.storage, &file.name, &e))?;
            streams.push(Stream { file: at, name: &file.name, rows, storage: &self.storage, sorted: member.sorted });
        }
        if self.is_as_written(member) {
            return streams.into_iter().try_for_each(|s| s.give_all(each));
        }
        merge(streams, each)
    }
}

impl File {
    fn has(&self, identity: &str) -> bool {
        self.header.operators.iter().any(|o| o.identity == identity)
    }
}

fn of_file(storage: &Arc<dyn Storage>, name: &str, error: &Error) -> Error {
    error.clone().context(format!("state file {}", storage.place(name)))
}

/// The changes of one table in one file.
struct Stream<'a> {
    file: usize,
    name: &'a str,
    storage: &'a Arc<dyn Storage>,
    rows: Rows,
    sorted: bool,
}

impl Stream<'_> {
    fn next(&mut self) -> Result<Option<Change>> {
        self.rows.next().transpose().map_err(|e| of_file(self.storage, self.name, &e))
    }

    /// Of a file that is all there is.
    fn give_all(mut self, each: &mut dyn FnMut(Vec<Row>) -> Result<()>) -> Result<()> {
        let mut part = vec![];
        while let Some((_, key, value)) = self.next()? {
            part.push((key, value));
            if part.len() == PART {
                each(std::mem::take(&mut part))?;
            }
        }
        if part.is_empty() { Ok(()) } else { each(part) }
    }

    /// The same in the order of the keys.
    fn in_order(mut self) -> Result<Ordered<Self>> {
        if self.sorted {
            return Ok(Ordered::Read(self));
        }
        let mut all = vec![];
        while let Some(change) = self.next()? {
            all.push(change);
        }
        let order = order(&all);
        let sorted: Vec<Change> = order.into_iter().map(|at| std::mem::replace(&mut all[at], (Op::Delete, vec![], vec![]))).collect();
        Ok(Ordered::Sorted(self.file, sorted.into_iter()))
    }
}

enum Ordered<S> {
    Read(S),
    Sorted(usize, std::vec::IntoIter<Change>),
}

impl Ordered<Stream<'_>> {
    fn next(&mut self) -> Result<Option<Change>> {
        match self {
            Self::Read(stream) => stream.next(),
            Self::Sorted(_, rows) => Ok(rows.next()),
        }
    }

    fn file(&self) -> usize {
        match self {
            Self::Read(stream) => stream.file,
            Self::Sorted(file, _) => *file,
        }
    }
}

/// The next change of a stream. The greatest is that of the least key; of one key the deletion by prefix first, then the newest.
struct Head {
    change: Change,
    file: usize,
    stream: usize,
}

impl Head {
    fn rank(&self) -> (&[u8], bool, std::cmp::Reverse<usize>) {
        (&self.change.1, self.change.0 != Op::DeletePrefix, std::cmp::Reverse(self.file))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

fn merge(streams: Vec<Stream<'_>>, each: &mut dyn FnMut(Vec<Row>) -> Result<()>) -> Result<()> {
    let mut streams: Vec<_> = streams.into_iter().map(Stream::in_order).collect::<Result<_>>()?;
    let mut heads = BinaryHeap::new();
    let push = |heads: &mut BinaryHeap<Head>, streams: &mut Vec<Ordered<Stream<'_>>>, stream: usize| -> Result<()> {
        if let Some(change) = streams[stream].next()? {
            heads.push(Head { change, file: streams[stream].file(), stream });
        }
        Ok(())
    };
    (0..streams.len()).try_for_each(|s| push(&mut heads, &mut streams, s))?;
    let mut part: Vec<Row> = vec![];
    // Prefixes that may begin keys that follow, and the file that deletes what files before it have.
    let mut prefixes: Vec<(Vec<u8>, usize)> = vec![];
    // The last key that was decided.
    let mut done: Option<Vec<u8>> = None;
    while let Some(Head { change: (op, key, value), file, stream }) = heads.pop() {
        push(&mut heads, &mut streams, stream)?;
        prefixes.retain(|(prefix, _)| key.starts_with(prefix));
        if op == Op::DeletePrefix {
            prefixes.push((key, file));
            continue;
        }
        if done.as_ref() == Some(&key) {
            continue;
        }
        done = Some(key.clone());
        if op == Op::Put && prefixes.iter().all(|(_, by)| *by <= file) {
            part.push((key, value));
            if part.len() == PART {
                each(std::mem::take(&mut part))?;
            }
        }
    }
    if part.is_empty() { Ok(()) } else { each(part) }
}

/// The order of the keys of a table's changes, as positions. Each key is there once, with what happened to it last; what happened behind
/// a deletion by prefix stands behind it.
pub fn order(changes: &[Change]) -> Vec<usize> {
    if changes.iter().all(|(op, ..)| *op != Op::DeletePrefix) {
        let mut order: Vec<usize> = (0..changes.len()).collect();
        // Of equal keys the last comes first, and stays.
        order.sort_unstable_by(|a, b| changes[*a].1.cmp(&changes[*b].1).then(b.cmp(a)));
        order.dedup_by(|later, first| changes[*later].1 == changes[*first].1);
        return order;
    }
    let mut rows: BTreeMap<(&[u8], bool), usize> = BTreeMap::new();
    for (at, (op, key, _)) in changes.iter().enumerate() {
        if *op == Op::DeletePrefix {
            let begun = rows.range((key.as_slice(), false)..).map(|(k, _)| *k).take_while(|k| k.0.starts_with(key));
            let gone: Vec<(&[u8], bool)> = begun.collect();
            for key in gone {
                rows.remove(&key);
            }
        }
        rows.insert((key, *op != Op::DeletePrefix), at);
    }
    rows.into_values().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::change::{Accumulated, OperatorChanges};
    use crate::storage;

    /// Numbers that look random.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % sides
        }
    }

    fn changes(dice: &mut Dice, identity: &str, whole: bool, by_key: bool) -> OperatorChanges {
        let mut tables = BTreeMap::new();
        for table in ["a", "b"] {
            let rows = (0..dice.roll(60)).map(|n| {
                let key = format!("{:02}", if whole { n } else { dice.roll(40) }).into_bytes();
                match dice.roll(if whole { 5 } else { 9 }) {
                    0..=4 => (Op::Put, key, vec![n as u8, dice.roll(256) as u8]),
                    5..=7 => (Op::Delete, key, vec![]),
                    _ => (Op::DeletePrefix, key[..1].to_vec(), vec![]),
                }
            });
            tables.insert(table.to_owned(), rows.collect());
        }
        OperatorChanges { identity: identity.into(), kind: "K".into(), layout: Layout::default(), whole, by_key, tables }
    }

    #[test]
    fn a_chain_is_what_its_changes_make() {
        let mut dice = Dice(7);
        for round in 0..60 {
            let directory = tempfile::tempdir().unwrap();
            let storage = storage::at(&directory.path().display().to_string(), &Default::default()).unwrap();
            let mut names = vec![];
            let mut state = Accumulated::default();
            for epoch in 0..1 + dice.roll(6) {
                let mut all = vec![];
                for identity in ["x", "y"] {
                    if epoch == 0 || dice.roll(3) > 0 {
                        let whole = epoch == 0 || dice.roll(8) == 0;
                        // Files of earlier versions are not sorted.
                        all.push(changes(&mut dice, identity, whole, round % 3 > 0));
                    }
                }
                let name = format!("f{epoch}");
                storage.create(&name, &file::encode(Header::default(), &all).unwrap()).unwrap();
                names.push(name);
                all.into_iter().for_each(|c| state.apply(c));
            }
            let chain = Chain::open(&storage, &names).unwrap();
            let mut got = vec![];
            for member in chain.members() {
                for table in &member.tables {
                    let mut rows = vec![];
                    chain
                        .rows(&member, table, &mut |part| {
                            rows.extend(part);
                            Ok(())
                        })
                        .unwrap();
                    // A table that was only ever written whole has equal keys as they were.
                    rows.sort();
                    got.push((member.identity.clone(), table.clone(), rows));
                }
            }
            got.retain(|g| !g.2.is_empty());
            got.sort();
            let mut want: Vec<_> = vec![];
            for state in state.into_states() {
                for (table, mut rows) in state.tables {
                    rows.sort();
                    want.push((state.identity.clone(), table, rows));
                }
            }
            want.sort();
            assert_eq!(got, want, "round {round}");
        }
    }
}
