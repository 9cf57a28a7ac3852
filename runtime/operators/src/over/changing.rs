//! OVER windows ordered by something that is no time attribute: a row that comes or goes changes the results of those behind it
//! (Flink: `NonTimeRowsUnboundedPrecedingFunction`, `NonTimeRangeUnboundedPrecedingFunction`).

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute;
use sluice_batch::{Batch, Error, EvalContext, Millis, Result, RowKind};

use super::calls::{Calls, Extent};
use crate::aggregates::rows_equal;
use crate::group_index::KeyMap;
use crate::rows::RowCodec;
use crate::spec::OverSpec;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, key_prefix, prefix, put_bytes, take_i64, take_row};
use crate::{Operator, Output};

pub struct ChangingOver {
    spec: OverSpec,
    keys: RowCodec,
    sort: RowCodec,
    codec: RowCodec,
    map: KeyMap,
    partitions: Vec<Partition>,
    calls: Calls,
    last_cleanup: Millis,
}

#[derive(Default)]
struct Partition {
    /// In order.
    rows: Vec<Entry>,
    /// The rows with their results as they went out last, made when needed.
    shown: Option<Vec<ArrayRef>>,
    changed: Millis,
}

struct Entry {
    sort: Box<[u8]>,
    row: Box<[u8]>,
}

impl ChangingOver {
    /// Gives the rows of a partition as they stand in a snapshot.
    fn encode(&self, slot: u32, mut put: impl FnMut(Vec<u8>, Vec<u8>)) {
        let partition = &self.partitions[slot as usize];
        for (i, entry) in partition.rows.iter().enumerate() {
            let mut key = prefix(self.map.key(slot));
            put_bytes(&mut key, &entry.sort);
            key.extend_from_slice(&(i as u64).to_be_bytes());
            let mut value = partition.changed.to_be_bytes().to_vec();
            value.extend_from_slice(&entry.row);
            put(key, value);
        }
    }

    pub fn new(spec: OverSpec, extent: Extent) -> Result<Self> {
        if extent.is_bounded() {
            return Err(Error::plan("OVER windows that are not ordered by a time attribute must start with UNBOUNDED PRECEDING"));
        }
        Ok(Self {
            keys: RowCodec::project(&spec.input, &spec.partition_by)?,
            sort: RowCodec::sorted(&spec.input, &spec.order_by)?,
            codec: RowCodec::new(&spec.input)?,
            map: KeyMap::default(),
            partitions: vec![],
            calls: Calls::new(&spec.input, &spec.calls, extent, true)?,
            last_cleanup: 0,
            spec,
        })
    }

    /// All rows of a partition with their results.
    fn results(&mut self, slot: u32, cx: &EvalContext) -> Result<Vec<ArrayRef>> {
        let rows = &self.partitions[slot as usize].rows;
        let mut columns = self.codec.decode(rows.iter().map(|e| &*e.row))?;
        let mut peer = 0;
        let peers: Vec<Millis> = (0..rows.len())
            .map(|i| {
                peer += i64::from(i > 0 && rows[i].sort != rows[i - 1].sort);
                peer
            })
            .collect();
        let results = self.calls.evaluate(&Batch::new(columns.clone(), rows.len()), &vec![0; rows.len()], &peers, cx)?;
        self.calls.clear(0);
        columns.extend(results);
        Ok(columns)
    }

    fn change(&mut self, slot: u32, kind: RowKind, sort: &[u8], row: &[u8], out: &mut Output<'_>) -> Result<()> {
        let at = slot as usize;
        let before = match self.partitions[at].shown.take() {
            Some(shown) => shown,
            None => self.results(slot, out.context())?,
        };
        let entries = &mut self.partitions[at].rows;
        let from = entries.partition_point(|e| *e.sort < *sort);
        let position = if kind.is_addition() {
            let to = from + entries[from..].partition_point(|e| *e.sort == *sort);
            entries.insert(to, Entry { sort: sort.into(), row: row.into() });
            to
        } else {
            let Some(found) = entries[from..].iter().take_while(|e| *e.sort == *sort).position(|e| *e.row == *row) else {
                self.partitions[at].shown = Some(before);
                return Ok(());
            };
            entries.remove(from + found);
            from + found
        };
        let after = self.results(slot, out.context())?;
        let changes = if kind.is_addition() { added(&before, &after, position, kind)? } else { removed(&before, &after, position)? };
        if let Some(changes) = changes {
            out.emit(changes);
        }
        let partition = &mut self.partitions[at];
        partition.changed = out.now();
        partition.shown = Some(after);
        if partition.rows.is_empty() {
            *partition = Partition::default();
            self.map.remove(slot);
        }
        Ok(())
    }
}

fn len(columns: &[ArrayRef]) -> usize {
    columns.first().map_or(0, |c| c.len())
}

/// The changes of all rows: the one at `position` of `after` is new.
fn added(before: &[ArrayRef], after: &[ArrayRef], position: usize, kind: RowKind) -> Result<Option<Batch>> {
    let rows = len(after);
    let others: Vec<(usize, usize)> = (0..rows).filter(|a| *a != position).map(|a| (a - usize::from(a > position), a)).collect();
    let mut events = changed(before, after, &others)?;
    let place = events.partition_point(|e| e.2 < position);
    events.insert(place, (kind, 1, position));
    picked(before, after, &events)
}

/// The changes of all rows: the one at `position` of `before` is gone.
fn removed(before: &[ArrayRef], after: &[ArrayRef], position: usize) -> Result<Option<Batch>> {
    let others: Vec<(usize, usize)> = (0..len(before)).filter(|b| *b != position).map(|b| (b, b - usize::from(b > position))).collect();
    let mut events = changed(before, after, &others)?;
    let place = events.partition_point(|e| e.2 < position);
    events.insert(place, (RowKind::Delete, 0, position));
    picked(before, after, &events)
}

/// Row kind, 0 for `before` and 1 for `after`, and the row there, of each pair of rows that differs.
fn changed(before: &[ArrayRef], after: &[ArrayRef], pairs: &[(usize, usize)]) -> Result<Vec<(RowKind, usize, usize)>> {
    let side = |columns: &[ArrayRef], rows: Vec<u32>| crate::rows::take(columns, &rows.into());
    let old = side(before, pairs.iter().map(|p| p.0 as u32).collect())?;
    let new = side(after, pairs.iter().map(|p| p.1 as u32).collect())?;
    let equal = rows_equal(&old, &new, pairs.len())?;
    let differing = pairs.iter().zip(equal).filter(|(_, equal)| !equal);
    Ok(differing.flat_map(|((b, a), _)| [(RowKind::UpdateBefore, 0, *b), (RowKind::UpdateAfter, 1, *a)]).collect())
}

fn picked(before: &[ArrayRef], after: &[ArrayRef], events: &[(RowKind, usize, usize)]) -> Result<Option<Batch>> {
    let picks: Vec<(usize, usize)> = events.iter().map(|e| (e.1, e.2)).collect();
    let columns = before.iter().zip(after).map(|(b, a)| Ok(compute::interleave(&[b.as_ref(), a.as_ref()], &picks)?));
    let kinds: Arc<[RowKind]> = events.iter().map(|e| e.0).collect();
    Ok(Some(Batch::with_kinds(columns.collect::<Result<_>>()?, Some(kinds), events.len())))
}

impl Operator for ChangingOver {
    fn name(&self) -> &'static str {
        "OverAggregate"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let keys = self.keys.encode_columns(&batch, &self.spec.partition_by)?;
        let order: Vec<usize> = self.spec.order_by.iter().map(|k| k.column).collect();
        let sort = self.sort.encode_columns(&batch, &order)?;
        let rows = self.codec.encode(batch.columns())?;
        for row in 0..batch.rows() {
            let kind = batch.kind(row);
            let slot = match kind.is_addition() {
                true => self.map.insert(keys.get(row)).0,
                false => match self.map.find(keys.get(row)) {
                    Some(slot) => slot,
                    None => continue,
                },
            };
            if self.partitions.len() <= slot as usize {
                self.partitions.resize_with(slot as usize + 1, Partition::default);
            }
            self.map.touch(slot);
            self.change(slot, kind, sort.get(row), rows.get(row), out)?;
        }
        Ok(())
    }

    fn wants_ticks(&self) -> bool {
        self.spec.state_ttl > 0
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        let ttl = self.spec.state_ttl;
        if now >= self.last_cleanup.saturating_add((ttl / 4).max(1000)) {
            self.last_cleanup = now;
            let old: Vec<u32> = self.map.slots().filter(|s| now >= self.partitions[*s as usize].changed.saturating_add(ttl)).collect();
            for slot in old {
                self.partitions[slot as usize] = Partition::default();
                self.map.remove(slot);
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let rows = |p: &Partition| p.rows.iter().map(|e| size_of::<Entry>() + e.sort.len() + e.row.len()).sum::<usize>();
        let shown = |p: &Partition| p.shown.iter().flatten().map(|c| c.get_array_memory_size()).sum::<usize>();
        self.map.memory() + self.partitions.iter().map(|p| rows(p) + shown(p)).sum::<usize>()
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
        let mut numbered: Vec<Vec<(i64, Entry)>> = vec![];
        for (mut key, mut value) in input.rows("rows") {
            let (slot, _) = self.map.insert(take_row(&mut key)?);
            let sort = take_row(&mut key)?.into();
            let number = take_i64(&mut key)?;
            numbered.resize_with(numbered.len().max(slot as usize + 1), Vec::new);
            self.partitions.resize_with(numbered.len(), Partition::default);
            self.partitions[slot as usize].changed = take_i64(&mut value)?;
            numbered[slot as usize].push((number, Entry { sort, row: value.into() }));
        }
        for (partition, mut rows) in self.partitions.iter_mut().zip(numbered) {
            rows.sort_unstable_by_key(|r| r.0);
            partition.rows = rows.into_iter().map(|r| r.1).collect();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::algebra::{Bound, Frame, OverCall, SortKey};

    use super::*;
    use crate::assert_lines;
    use crate::spec::{OperatorSpec, OverTime};
    use crate::testing::{Harness, sum, types};

    fn harness(rows: bool) -> Harness {
        Harness::new(OperatorSpec::Over(OverSpec {
            input: types("string bigint int"),
            partition_by: vec![0],
            order_by: vec![SortKey { column: 1, descending: false, nulls_first: false }],
            time: OverTime::None,
            frame: Frame { rows, start: Bound::Unbounded, end: Bound::Preceding(0) },
            calls: vec![OverCall::Aggregate(sum(1))],
            state_ttl: 0,
        }))
    }

    #[test]
    fn rows_behind_a_change_change() {
        let t = types("string bigint int");
        let mut h = harness(false);
        assert_lines!(h.send(0, &t, "a 1 1; a 2 2; a 5 5; b 1 1"), "+I a 1 1 1; +I a 2 2 3; +I a 5 5 8; +I b 1 1 1");
        h.restart();
        assert_lines!(
            h.send(0, &t, "-U a 2 2; +U a 3 2; -D a 9 9; -D c 1 1"),
            "-D a 2 2 3; -U a 5 5 8; +U a 5 5 6; +U a 3 2 4; -U a 5 5 6; +U a 5 5 9"
        );
        // Peers change, too.
        assert_lines!(h.send(0, &t, "a 3 7"), "-U a 3 2 4; +U a 3 2 7; +I a 3 7 7; -U a 5 5 9; +U a 5 5 12");
        assert_lines!(h.send(0, &t, "-D a 3 2"), "-D a 3 2 7; -U a 3 7 7; +U a 3 7 4; -U a 5 5 12; +U a 5 5 9");
        assert_lines!(
            h.send(0, &t, "-D a 1 1; -D a 3 7; -D a 5 5; a 4 4"),
            "-D a 1 1 1; -U a 3 7 4; +U a 3 7 3; -U a 5 5 9; +U a 5 5 8; -D a 3 7 3; -U a 5 5 8; +U a 5 5 5; -D a 5 5 5; +I a 4 4 4"
        );
    }

    #[test]
    fn by_rows_peers_stay() {
        let t = types("string bigint int");
        let mut h = harness(true);
        h.send(0, &t, "a 1 1; a 3 2; a 5 5");
        assert_lines!(h.send(0, &t, "a 3 7"), "+I a 3 7 7; -U a 5 5 9; +U a 5 5 12");
        h.restart();
        assert_lines!(h.send(0, &t, "-D a 3 2"), "-D a 3 2 4; -U a 3 7 7; +U a 3 7 4; -U a 5 5 12; +U a 5 5 9");
    }
}
