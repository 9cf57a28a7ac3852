//! `ROW_NUMBER() OVER (…) <= n` and ORDER BY … LIMIT: per row the changes that Flink makes
//! (`FastTop1Function`, `AppendOnlyTopNFunction`, `UpdatableTopNFunction`, `RetractableTopNFunction`).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::Int64Array;
use sluice_batch::{Batch, Error, Millis, Result, RowKind};

use crate::group_index::KeyMap;
use crate::rows::{Changelog, EncodedRows, RowCodec};
use crate::spec::{RankKind, TopNSpec};
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, key_prefix, prefix, put_bytes, take_i64, take_row};
use crate::{Operator, Output};

pub struct TopN {
    spec: TopNSpec,
    mode: Mode,
    keys: RowCodec,
    sort: RowCodec,
    ids: Option<RowCodec>,
    rows: RowCodec,
    map: KeyMap,
    partitions: Vec<Partition>,
    next: u64,
    last_cleanup: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Only the best row: it is updated in place.
    Top1,
    /// Rows only come.
    Append,
    /// Rows with a known upsert key are replaced.
    Update,
    /// Rows are taken back: all must be kept.
    Retract,
}

struct Entry {
    sort: Box<[u8]>,
    seq: u64,
    row: Box<[u8]>,
    id: Box<[u8]>,
}

#[derive(Default)]
struct Partition {
    /// The first rows in order, at most as many as are shown.
    top: Vec<Entry>,
    /// What comes after them, if it may move up.
    rest: BTreeMap<(Box<[u8]>, u64), (Box<[u8]>, Box<[u8]>)>,
    changed: Millis,
}

/// Changes with their ranks.
#[derive(Default)]
struct Ranked {
    changes: Changelog,
    ranks: Vec<i64>,
}

/// Which changes go out.
#[derive(Clone, Copy)]
struct Emit {
    from: usize,
    to: usize,
    update_before: bool,
}

impl Ranked {
    fn push(&mut self, emit: Emit, kind: RowKind, row: &[u8], rank: usize) {
        let shown = rank >= emit.from && rank <= emit.to && (kind != RowKind::UpdateBefore || emit.update_before);
        if shown {
            self.changes.stored(kind, row);
            self.ranks.push(rank as i64);
        }
    }
}

impl Partition {
    fn position(&self, sort: &[u8], seq: u64) -> usize {
        self.top.partition_point(|e| (&*e.sort, e.seq) < (sort, seq))
    }

    /// Puts a row among the shown ones: its position, and what fell out behind. `None`: it is not among them.
    fn insert(&mut self, entry: Entry, limit: usize) -> Result<(usize, Option<Entry>), Entry> {
        let at = self.position(&entry.sort, entry.seq);
        if at >= limit {
            return Err(entry);
        }
        self.top.insert(at, entry);
        let out = if self.top.len() > limit { self.top.pop() } else { None };
        Ok((at, out))
    }

    fn keep(&mut self, entry: Entry) {
        self.rest.insert((entry.sort, entry.seq), (entry.row, entry.id));
    }

    /// Fills the place that a removed row left.
    fn promote(&mut self) -> bool {
        match self.rest.pop_first() {
            Some(((sort, seq), (row, id))) => {
                self.top.push(Entry { sort, seq, row, id });
                true
            }
            None => false,
        }
    }

    /// Position among the shown rows of the row with this sort key and value.
    fn find(&self, sort: &[u8], id: &[u8]) -> Option<usize> {
        let from = self.position(sort, 0);
        self.top[from..].iter().take_while(|e| *e.sort == *sort).position(|e| *e.id == *id).map(|at| from + at)
    }

    fn remove_from_rest(&mut self, sort: &[u8], id: &[u8]) {
        let range = (Box::from(sort), 0)..=(Box::from(sort), u64::MAX);
        let found = self.rest.range(range).find(|(_, (_, i))| **i == *id).map(|(k, _)| k.clone());
        if let Some(key) = found {
            self.rest.remove(&key);
        }
    }

    /// The row with this id, wherever it is: for upsert streams, whose deletes may not have the sort key.
    fn find_id(&self, id: &[u8]) -> Option<Option<usize>> {
        match self.top.iter().position(|e| *e.id == *id) {
            Some(at) => Some(Some(at)),
            None => self.rest.values().any(|(_, i)| **i == *id).then_some(None),
        }
    }
}

impl TopN {
    pub fn new(spec: TopNSpec) -> Result<Self> {
        match spec.rank {
            RankKind::RowNumber => {}
            RankKind::Rank => return Err(Error::unsupported("RANK() on streaming tables")),
            RankKind::DenseRank => return Err(Error::unsupported("DENSE_RANK() on streaming tables")),
        }
        let mode = match (spec.retracting, &spec.upsert_key, spec.from, spec.to) {
            (true, ..) => Mode::Retract,
            (false, _, 1, 1) => Mode::Top1,
            (false, Some(_), ..) => Mode::Update,
            (false, None, ..) => Mode::Append,
        };
        Ok(Self {
            mode,
            keys: RowCodec::project(&spec.input, &spec.partition_by)?,
            sort: RowCodec::sorted(&spec.input, &spec.order_by)?,
            ids: spec.upsert_key.as_ref().map(|k| RowCodec::project(&spec.input, k)).transpose()?,
            rows: RowCodec::new(&spec.input)?,
            map: KeyMap::default(),
            partitions: vec![],
            next: 0,
            last_cleanup: 0,
            spec,
        })
    }

    /// Gives the rows of a partition as they stand in a snapshot.
    fn encode(&self, slot: u32, mut put: impl FnMut(Vec<u8>, Vec<u8>)) {
        let p = &self.partitions[slot as usize];
        let top = p.top.iter().map(|e| (&e.sort, e.seq, &e.row, &e.id));
        let rest = p.rest.iter().map(|((sort, seq), (row, id))| (sort, *seq, row, id));
        for (sort, seq, row, id) in top.chain(rest) {
            let (mut key, mut value) = (prefix(self.map.key(slot)), p.changed.to_be_bytes().to_vec());
            put_bytes(&mut key, sort);
            key.extend_from_slice(&seq.to_be_bytes());
            put_bytes(&mut value, row);
            put_bytes(&mut value, id);
            put(key, value);
        }
    }

    fn ranked(&self) -> bool {
        self.spec.emit_rank || self.spec.from > 1
    }

    fn emit(&self) -> Emit {
        let to = usize::try_from(self.spec.to).unwrap_or(usize::MAX);
        Emit { from: self.spec.from.max(1) as usize, to, update_before: self.spec.emit_update_before }
    }

    fn partition(&mut self, key: &[u8], now: Millis) -> u32 {
        let (slot, new) = self.map.insert(key);
        if self.partitions.len() <= slot as usize {
            self.partitions.resize_with(slot as usize + 1, Partition::default);
        }
        let partition = &mut self.partitions[slot as usize];
        let expired = self.spec.state_ttl > 0 && now >= partition.changed.saturating_add(self.spec.state_ttl);
        if new || expired {
            *partition = Partition::default();
        }
        partition.changed = now;
        slot
    }

    fn top1(&mut self, slot: u32, new: Entry, out: &mut Ranked) {
        let (emit, partition) = (self.emit(), &mut self.partitions[slot as usize]);
        match partition.top.first_mut() {
            None => {
                out.push(emit, RowKind::Insert, &new.row, 1);
                partition.top.push(new);
            }
            Some(old) => {
                let same_row = self.ids.is_some() && old.id == new.id && old.row != new.row && new.sort <= old.sort;
                if new.sort < old.sort || same_row {
                    out.push(emit, RowKind::UpdateBefore, &old.row, 1);
                    out.push(emit, RowKind::UpdateAfter, &new.row, 1);
                    *old = new;
                }
            }
        }
    }

    fn insert(&mut self, slot: u32, new: Entry, out: &mut Ranked) {
        let (emit, ranked, retract) = (self.emit(), self.ranked(), self.mode == Mode::Retract);
        let partition = &mut self.partitions[slot as usize];
        let full = partition.top.len() >= emit.to;
        let (at, fell) = match partition.insert(new, emit.to) {
            Ok(placed) => placed,
            Err(entry) if retract => return partition.keep(entry),
            Err(_) => return,
        };
        let top = &partition.top;
        if ranked {
            // Every row from there on moves down by one.
            for rank in at..top.len() {
                let before = top.get(rank + 1).or(fell.as_ref());
                match before {
                    Some(before) if rank + 1 < top.len() || full => {
                        out.push(emit, RowKind::UpdateBefore, &before.row, rank + 1);
                        out.push(emit, RowKind::UpdateAfter, &top[rank].row, rank + 1);
                    }
                    _ => out.push(emit, RowKind::Insert, &top[rank].row, rank + 1),
                }
            }
        } else {
            if let Some(fell) = &fell {
                out.push(emit, RowKind::Delete, &fell.row, 1);
            }
            out.push(emit, RowKind::Insert, &top[at].row, 1);
        }
        if let Some(fell) = fell.filter(|_| retract) {
            partition.keep(fell);
        }
    }

    /// Takes the shown row at `at` away.
    fn remove_at(&mut self, slot: u32, at: usize, out: &mut Ranked) {
        let (emit, ranked) = (self.emit(), self.ranked());
        let partition = &mut self.partitions[slot as usize];
        let removed = partition.top.remove(at);
        let promoted = partition.promote();
        let top = &partition.top;
        if ranked {
            let mut before = &removed;
            for (rank, after) in top.iter().enumerate().skip(at) {
                out.push(emit, RowKind::UpdateBefore, &before.row, rank + 1);
                out.push(emit, RowKind::UpdateAfter, &after.row, rank + 1);
                before = after;
            }
            if !promoted {
                out.push(emit, RowKind::Delete, &before.row, top.len() + 1);
            }
        } else {
            out.push(emit, RowKind::Delete, &removed.row, 1);
            if let Some(last) = top.last().filter(|_| promoted) {
                out.push(emit, RowKind::Insert, &last.row, 1);
            }
        }
    }

    fn retract(&mut self, slot: u32, old: &Entry, out: &mut Ranked) {
        let partition = &mut self.partitions[slot as usize];
        if self.ids.is_some() {
            match partition.find_id(&old.id) {
                None => {}
                Some(Some(at)) => self.remove_at(slot, at, out),
                Some(None) => partition.rest.retain(|_, (_, id)| *id != old.id),
            }
        } else if let Some(at) = partition.find(&old.sort, &old.id) {
            self.remove_at(slot, at, out);
        } else {
            partition.remove_from_rest(&old.sort, &old.id);
        }
    }

    /// A row whose upsert key may be known: it moves from its old place to the new one.
    fn update(&mut self, slot: u32, mut new: Entry, out: &mut Ranked) {
        let (emit, ranked) = (self.emit(), self.ranked());
        let partition = &mut self.partitions[slot as usize];
        let Some(from) = partition.top.iter().position(|e| e.id == new.id) else { return self.insert(slot, new, out) };
        let old = partition.top.remove(from);
        if old.sort == new.sort {
            new.seq = old.seq;
        }
        let to = partition.position(&new.sort, new.seq);
        partition.top.insert(to, new);
        let top = &partition.top;
        if !ranked {
            out.push(emit, RowKind::UpdateBefore, &old.row, 1);
            out.push(emit, RowKind::UpdateAfter, &top[to].row, 1);
            return;
        }
        // Up: rows from `to` on move down by one, until the old place. Down: the other way round.
        let before = |rank: usize| match rank {
            r if r == from => &old.row,
            r if r > from => &top[r - usize::from(r <= to)].row,
            r => &top[r + usize::from(r >= to)].row,
        };
        for (rank, now) in top.iter().enumerate().take(to.max(from) + 1).skip(to.min(from)) {
            if rank != from {
                out.push(emit, RowKind::UpdateBefore, before(rank), rank + 1);
            }
            if rank == to {
                out.push(emit, RowKind::UpdateBefore, &old.row, from + 1);
            }
            out.push(emit, RowKind::UpdateAfter, &now.row, rank + 1);
        }
    }

    fn row(&mut self, batch: &Batch, row: usize, encoded: &Encoded, out: &mut Ranked, now: Millis) {
        let slot = self.partition(encoded.keys.get(row), now);
        let value = encoded.rows.get(row);
        let id = encoded.ids.as_ref().map_or(if self.mode == Mode::Retract { value } else { &[] }, |i| i.get(row));
        let entry = Entry { sort: encoded.sort.get(row).into(), seq: self.next, row: value.into(), id: id.into() };
        self.next += 1;
        match (self.mode, batch.kind(row).is_addition()) {
            (Mode::Top1, true) => self.top1(slot, entry, out),
            (Mode::Append, true) => self.insert(slot, entry, out),
            (Mode::Update, true) => self.update(slot, entry, out),
            (Mode::Retract, true) => {
                if self.ids.is_some() {
                    self.retract(slot, &entry, out);
                }
                self.insert(slot, entry, out);
            }
            (_, false) => self.retract(slot, &entry, out),
        }
        if self.partitions[slot as usize].top.is_empty() {
            self.map.remove(slot);
        }
    }
}

struct Encoded {
    keys: EncodedRows,
    sort: EncodedRows,
    ids: Option<EncodedRows>,
    rows: EncodedRows,
}

impl Operator for TopN {
    fn name(&self) -> &'static str {
        "Rank"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let order: Vec<usize> = self.spec.order_by.iter().map(|k| k.column).collect();
        let ids = match (&self.ids, &self.spec.upsert_key) {
            (Some(codec), Some(columns)) => Some(codec.encode_columns(&batch, columns)?),
            _ => None,
        };
        let encoded = Encoded {
            keys: self.keys.encode_columns(&batch, &self.spec.partition_by)?,
            sort: self.sort.encode_columns(&batch, &order)?,
            ids,
            rows: self.rows.encode(batch.columns())?,
        };
        let mut ranked = Ranked::default();
        for row in 0..batch.rows() {
            self.row(&batch, row, &encoded, &mut ranked, out.now());
        }
        if ranked.changes.is_empty() {
            return Ok(());
        }
        let changes = ranked.changes.finish(&self.rows, batch.columns())?;
        if !self.spec.emit_rank {
            out.emit(changes);
            return Ok(());
        }
        let mut columns = changes.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(ranked.ranks)));
        out.emit(changes.replace_columns(columns));
        Ok(())
    }

    fn wants_ticks(&self) -> bool {
        self.spec.state_ttl > 0
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        let ttl = self.spec.state_ttl;
        if now >= self.last_cleanup.saturating_add((ttl / 4).max(1000)) {
            self.last_cleanup = now;
            let expired = |s: &u32| now >= self.partitions[*s as usize].changed.saturating_add(ttl);
            let slots: Vec<u32> = self.map.slots().filter(expired).collect();
            for slot in slots {
                self.partitions[slot as usize] = Partition::default();
                self.map.remove(slot);
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let entry = size_of::<Entry>() + 100;
        self.map.memory() + self.partitions.iter().map(|p| (p.top.len() + p.rest.len()) * entry).sum::<usize>()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        for slot in self.map.slots() {
            self.encode(slot, |key, value| out.put("rows", key, value));
        }
        Ok(())
    }

    fn track_changes(&mut self) {
        self.map.track();
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        let Some(changed) = self.map.take_changes() else { return Ok(false) };
        out.clear("rows", &self.map, &changed);
        changed.slots.into_iter().for_each(|slot| self.encode(slot, |key, value| out.put("rows", key, value)));
        Ok(true)
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        let limit = self.emit().to;
        for (mut key, mut value) in input.rows("rows") {
            let changed = take_i64(&mut value)?;
            let slot = self.partition(take_row(&mut key)?, changed);
            let (sort, seq) = (take_row(&mut key)?.into(), take_i64(&mut key)? as u64);
            let (row, id) = (take_row(&mut value)?.into(), take_row(&mut value)?.into());
            self.next = self.next.max(seq + 1);
            let partition = &mut self.partitions[slot as usize];
            match partition.insert(Entry { sort, seq, row, id }, limit) {
                Ok((_, Some(entry))) | Err(entry) => partition.keep(entry),
                Ok((_, None)) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::algebra::SortKey;

    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    fn spec(to: u64, emit_rank: bool, retracting: bool, upsert_key: Option<Vec<usize>>) -> TopNSpec {
        TopNSpec {
            input: types("string int string"),
            partition_by: vec![0],
            order_by: vec![SortKey { column: 1, descending: true, nulls_first: false }],
            from: 1,
            to,
            emit_rank,
            rank: RankKind::RowNumber,
            retracting,
            upsert_key,
            emit_update_before: true,
            state_ttl: 0,
        }
    }

    fn harness(to: u64, emit_rank: bool, retracting: bool, upsert_key: Option<Vec<usize>>) -> Harness {
        Harness::new(OperatorSpec::TopN(spec(to, emit_rank, retracting, upsert_key)))
    }

    #[test]
    fn append_only() {
        let t = types("string int string");
        let rows = "a 5 x; a 7 y; b 1 z; a 6 w; a 5 v; a NULL u";
        assert_lines!(harness(2, false, false, None).send(0, &t, rows), "+I a 5 x; +I a 7 y; +I b 1 z; -D a 5 x; +I a 6 w");
        assert_lines!(
            harness(2, true, false, None).send(0, &t, rows),
            "+I a 5 x 1; -U a 5 x 1; +U a 7 y 1; +I a 5 x 2; +I b 1 z 1; -U a 5 x 2; +U a 6 w 2"
        );
        let mut h = harness(1, false, false, None);
        assert_lines!(h.send(0, &t, rows), "+I a 5 x; -U a 5 x; +U a 7 y; +I b 1 z");
        h.restart();
        assert_lines!(h.send(0, &t, "a 7 q; a 8 r"), "-U a 7 y; +U a 8 r");
    }

    #[test]
    fn offset_hides_the_first_ranks() {
        let t = types("string int string");
        let mut s = spec(3, false, false, None);
        s.from = 2;
        let mut h = Harness::new(OperatorSpec::TopN(s));
        assert_lines!(
            h.send(0, &t, "a 5 x; a 7 y; a 6 w; a 9 v"),
            "+I a 5 x; -U a 5 x; +U a 6 w; +I a 5 x; -U a 6 w; +U a 7 y; -U a 5 x; +U a 6 w"
        );
    }

    #[test]
    fn retraction_moves_rows_up() {
        let t = types("string int string");
        let mut h = harness(2, false, true, None);
        assert_lines!(h.send(0, &t, "a 5 x; a 7 y; a 6 w; a 4 v"), "+I a 5 x; +I a 7 y; -D a 5 x; +I a 6 w");
        h.restart();
        assert_lines!(h.send(0, &t, "-D a 4 v; -D a 7 y; -D a 9 none; -D a 6 w; -D a 5 x"), "-D a 7 y; +I a 5 x; -D a 6 w; -D a 5 x");
        let mut h = harness(2, true, true, None);
        h.send(0, &t, "a 5 x; a 7 y; a 6 w");
        assert_lines!(h.send(0, &t, "-U a 7 y; +U a 1 y"), "-U a 7 y 1; +U a 6 w 1; -U a 6 w 2; +U a 5 x 2");
        assert_lines!(
            h.send(0, &t, "-D a 5 x; -D a 6 w; -D a 1 y"),
            "-U a 5 x 2; +U a 1 y 2; -U a 6 w 1; +U a 1 y 1; -D a 1 y 2; -D a 1 y 1"
        );
    }

    #[test]
    fn upserts_move_rows() {
        let t = types("string int string");
        let mut h = harness(3, true, false, Some(vec![2]));
        h.send(0, &t, "a 5 x; a 7 y; a 6 w");
        assert_lines!(
            h.send(0, &t, "+U a 8 x; +U a 8 x"),
            "-U a 7 y 1; -U a 5 x 3; +U a 8 x 1; -U a 6 w 2; +U a 7 y 2; +U a 6 w 3; -U a 8 x 1; +U a 8 x 1"
        );
        // Down, which Flink's planner rules out.
        assert_lines!(h.send(0, &t, "+U a 1 x"), "+U a 7 y 1; -U a 7 y 2; +U a 6 w 2; -U a 6 w 3; -U a 8 x 1; +U a 1 x 3");
        let mut h = harness(2, false, false, Some(vec![2]));
        assert_lines!(h.send(0, &t, "a 5 x; a 7 y; +U a 6 x; a 9 w"), "+I a 5 x; +I a 7 y; -U a 5 x; +U a 6 x; -D a 6 x; +I a 9 w");
    }
}
