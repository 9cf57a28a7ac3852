//! A base and the deltas upon it, read together: the rows of each table as they stand behind the last delta, in parts, so that state that
//! is larger than memory can be merged and restored.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;

use sluice_batch::{Error, Result};

use crate::Layout;
use crate::change::{ChangeKind, Changes, Rows};
use crate::file::{self, Header};
use crate::storage::Storage;

/// Rows that are given at once.
const PART: usize = 4096;

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
    pub fn rows(&self, member: &Member, table: &str, each: &mut dyn FnMut(Rows) -> Result<()>) -> Result<()> {
        let place = (member.identity.clone(), table.to_owned());
        let mut streams = vec![];
        let files = || self.files.iter().enumerate().skip(member.from).filter_map(|(at, f)| Some((at, f, *f.places.get(&place)?)));
        let many = files().count();
        for (at, file, (first, count)) in files() {
            let parts = file::read(&self.storage, &file.name, first, count, many).map_err(|e| of_file(&self.storage, &file.name, &e))?;
            streams.push(Stream { file: at, name: &file.name, parts, storage: &self.storage, sorted: member.sorted });
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
    parts: file::Reader,
    sorted: bool,
}

impl<'a> Stream<'a> {
    fn next(&mut self) -> Result<Option<Changes>> {
        self.parts.next().transpose().map_err(|e| of_file(self.storage, self.name, &e))
    }

    /// Of a file that is all there is.
    fn give_all(mut self, each: &mut dyn FnMut(Rows) -> Result<()>) -> Result<()> {
        while let Some(part) = self.next()? {
            // A whole file has nothing but rows.
            each(part.into_puts().unwrap_or_else(|part| part.iter().map(|(_, key, value)| (key, value)).collect()))?;
        }
        Ok(())
    }

    /// The same in the order of the keys.
    fn in_order(mut self) -> Result<Ordered<'a>> {
        let (file, sorted) = (self.file, self.sorted);
        if sorted {
            return Ok(Ordered { file, part: Rc::default(), at: 0, order: None, more: Some(self) });
        }
        let mut all = Changes::default();
        while let Some(part) = self.next()? {
            all.append(part);
        }
        Ok(Ordered { file, order: Some(order(&all)), part: Rc::new(all), at: 0, more: None })
    }
}

/// Changes in the order of their keys.
struct Ordered<'a> {
    file: usize,
    part: Rc<Changes>,
    /// The next one of the part.
    at: usize,
    /// Of the part's changes, if they are not in order.
    order: Option<Vec<usize>>,
    /// What follows the part.
    more: Option<Stream<'a>>,
}

impl Ordered<'_> {
    fn next(&mut self) -> Result<Option<(Rc<Changes>, usize)>> {
        if let Some(order) = &self.order {
            let next = order.get(self.at).map(|at| (self.part.clone(), *at));
            self.at += 1;
            return Ok(next);
        }
        while self.at == self.part.len() {
            let Some(part) = self.more.as_mut().map(Stream::next).transpose()?.flatten() else { return Ok(None) };
            (self.part, self.at) = (Rc::new(part), 0);
        }
        self.at += 1;
        Ok(Some((self.part.clone(), self.at - 1)))
    }
}

/// The next change of a stream. The greatest is that of the least key; of one key the deletion by prefix first, then the newest.
struct Head {
    part: Rc<Changes>,
    at: usize,
    file: usize,
    stream: usize,
}

impl Head {
    fn rank(&self) -> (&[u8], bool, std::cmp::Reverse<usize>) {
        let (kind, key, _) = self.part.get(self.at);
        (key, kind != ChangeKind::DeletePrefix, std::cmp::Reverse(self.file))
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

fn merge(streams: Vec<Stream<'_>>, each: &mut dyn FnMut(Rows) -> Result<()>) -> Result<()> {
    let mut streams: Vec<_> = streams.into_iter().map(Stream::in_order).collect::<Result<_>>()?;
    let mut heads = BinaryHeap::new();
    let push = |heads: &mut BinaryHeap<Head>, streams: &mut Vec<Ordered<'_>>, stream: usize| -> Result<()> {
        if let Some((part, at)) = streams[stream].next()? {
            heads.push(Head { part, at, file: streams[stream].file, stream });
        }
        Ok(())
    };
    (0..streams.len()).try_for_each(|s| push(&mut heads, &mut streams, s))?;
    let mut rows = Rows::default();
    // Prefixes that may begin keys that follow, and the file that deletes what files before it have.
    let mut prefixes: Vec<(Vec<u8>, usize)> = vec![];
    // The last key that was decided.
    let mut done: Option<Vec<u8>> = None;
    while let Some(Head { part, at, file, stream }) = heads.pop() {
        push(&mut heads, &mut streams, stream)?;
        let (kind, key, value) = part.get(at);
        prefixes.retain(|(prefix, _)| key.starts_with(prefix));
        if kind == ChangeKind::DeletePrefix {
            prefixes.push((key.to_vec(), file));
            continue;
        }
        if done.as_deref() == Some(key) {
            continue;
        }
        let last = done.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        if kind == ChangeKind::Put && prefixes.iter().all(|(_, by)| *by <= file) {
            rows.push(key, value);
            if rows.len() == PART {
                each(std::mem::take(&mut rows))?;
            }
        }
    }
    if rows.is_empty() { Ok(()) } else { each(rows) }
}

/// The order of the keys of a table's changes, as positions. Each key is there once, with what happened to it last; what happened behind
/// a deletion by prefix stands behind it.
pub fn order(changes: &Changes) -> Vec<usize> {
    if changes.iter().all(|(kind, ..)| kind != ChangeKind::DeletePrefix) {
        let key = |at: usize| changes.get(at).1;
        let mut order: Vec<usize> = (0..changes.len()).collect();
        // Of equal keys the last comes first, and stays.
        order.sort_unstable_by(|a, b| key(*a).cmp(key(*b)).then(b.cmp(a)));
        order.dedup_by(|later, first| key(*later) == key(*first));
        return order;
    }
    let mut rows: BTreeMap<(&[u8], bool), usize> = BTreeMap::new();
    for (at, (kind, key, _)) in changes.iter().enumerate() {
        if kind == ChangeKind::DeletePrefix {
            let begun = rows.range((key, false)..).map(|(k, _)| *k).take_while(|k| k.0.starts_with(key));
            let gone: Vec<(&[u8], bool)> = begun.collect();
            for key in gone {
                rows.remove(&key);
            }
        }
        rows.insert((key, kind != ChangeKind::DeletePrefix), at);
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
            let mut changes = Changes::default();
            for n in 0..dice.roll(60) {
                let key = format!("{:02}", if whole { n } else { dice.roll(40) }).into_bytes();
                match dice.roll(if whole { 5 } else { 9 }) {
                    0..=4 => changes.push(ChangeKind::Put, &key, &[n as u8, dice.roll(256) as u8]),
                    5..=7 => changes.push(ChangeKind::Delete, &key, &[]),
                    _ => changes.push(ChangeKind::DeletePrefix, &key[..1], &[]),
                }
            }
            tables.insert(table.to_owned(), changes);
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
                            rows.extend(part.iter().map(|(k, v)| (k.to_vec(), v.to_vec())));
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
                for (table, rows) in state.tables {
                    let mut rows: Vec<_> = rows.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
                    rows.sort();
                    want.push((state.identity.clone(), table, rows));
                }
            }
            want.sort();
            assert_eq!(got, want, "round {round}");
        }
    }
}
