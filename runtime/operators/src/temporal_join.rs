//! Joins with the version of a table that was valid at the left row's event time (Flink: `TemporalRowTimeJoinOperator`).

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_batch::{Batch, Millis, Result, RowKind};

use crate::group_index::KeyMap;
use crate::join_rows::{EncodedKeys, SideKey, joined, nulls, passed, passing, rows_at};
use crate::row_log::RowLog;
use crate::rows::RowCodec;
use crate::spec::TemporalJoinSpec;
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix, put_bytes, take_bytes, take_i64, take_row};
use crate::time::rowtimes;
use crate::time_buffer::{Due, TimeBuffer};
use crate::{Operator, Output};

pub struct TemporalJoin {
    spec: TemporalJoinSpec,
    left_key: SideKey,
    right_key: SideKey,
    /// Left rows that wait for the watermark.
    waiting: TimeBuffer,
    codec: RowCodec,
    keys: KeyMap,
    /// By key, in order of time.
    versions: Vec<Versions>,
    log: RowLog,
    /// When which keys may have versions that nobody can ask for any more.
    due: BTreeMap<Millis, Vec<u32>>,
    late: u64,
    last_cleanup: Millis,
}

#[derive(Default)]
struct Versions {
    list: Vec<Version>,
    changed: Millis,
}

#[derive(Clone, Copy)]
struct Version {
    time: Millis,
    row: u64,
    /// The key was deleted.
    deleted: bool,
}

impl Versions {
    /// The row that is valid at a time.
    fn at(&self, time: Millis) -> Option<u64> {
        let after = self.list.partition_point(|v| v.time <= time);
        after.checked_sub(1).map(|i| self.list[i]).filter(|v| !v.deleted).map(|v| v.row)
    }
}

impl TemporalJoin {
    pub fn new(spec: TemporalJoinSpec) -> Result<Self> {
        Ok(Self {
            left_key: SideKey::new(&spec.join, 0)?,
            right_key: SideKey::new(&spec.join, 1)?,
            waiting: TimeBuffer::new(&spec.join.left, &spec.join.left_keys)?,
            codec: RowCodec::new(&spec.join.right)?,
            keys: KeyMap::default(),
            versions: vec![],
            log: RowLog::default(),
            due: BTreeMap::new(),
            late: 0,
            last_cleanup: 0,
            spec,
        })
    }

    fn left(&mut self, batch: Batch, watermark: Millis) -> Result<()> {
        let times = rowtimes(batch.column(self.spec.left_time))?;
        if times.iter().all(|t| *t > watermark) {
            return self.waiting.push(batch, &times);
        }
        let on_time: Vec<u32> = (0..times.len()).filter(|i| times[*i] > watermark).map(|i| i as u32).collect();
        self.late += (times.len() - on_time.len()) as u64;
        let times: Vec<Millis> = on_time.iter().map(|i| times[*i as usize]).collect();
        self.waiting.push(batch.take(&on_time.into())?, &times)
    }

    fn right(&mut self, batch: &Batch, now: Millis) -> Result<()> {
        let times = rowtimes(batch.column(self.spec.right_time))?;
        let keys = self.right_key.encode(batch)?;
        let base = self.log.push(batch.columns().to_vec(), batch.rows(), 1)?;
        for (row, time) in times.into_iter().enumerate() {
            let number = base + row as u64;
            match keys.get(row) {
                Some(key) => {
                    let version = Version { time, row: number, deleted: !batch.kind(row).is_addition() };
                    let slot = self.add(key, version);
                    self.versions[slot as usize].changed = now;
                }
                None => self.log.release(number),
            }
        }
        Ok(())
    }

    /// A version replaces one of the same time.
    fn add(&mut self, key: &[u8], version: Version) -> u32 {
        let (slot, _) = self.keys.insert(key);
        self.versions.resize_with(self.versions.len().max(slot as usize + 1), Versions::default);
        let list = &mut self.versions[slot as usize].list;
        let at = list.partition_point(|v| v.time < version.time);
        match list.get_mut(at).filter(|v| v.time == version.time) {
            Some(same) => {
                let replaced = std::mem::replace(same, version);
                self.log.release(replaced.row);
            }
            None => list.insert(at, version),
        }
        self.due.entry(version.time).or_default().push(slot);
        slot
    }

    fn emit(&mut self, due: Due, out: &mut Output<'_>) -> Result<()> {
        let Due { batch, order } = due.by_arrival()?;
        let keys: EncodedKeys = self.left_key.encode(&batch)?;
        let (mut matched, mut lonely, mut rows) = (vec![], vec![], vec![]);
        for (row, (time, _)) in order.iter().enumerate() {
            let slot = keys.get(row).and_then(|key| self.keys.find(key));
            match slot.and_then(|s| self.versions[s as usize].at(*time)) {
                Some(version) => {
                    matched.push(row as u32);
                    rows.push(version);
                }
                None => lonely.push(row as u32),
            }
        }
        let right = self.log.gather(&rows)?;
        let left = rows_at(batch.columns(), matched.clone())?;
        let mask = passing(self.spec.join.condition.as_ref(), &left, &right, rows.len(), out.context())?;
        let pass: Vec<u32> = (0..rows.len()).filter(|p| passed(&mask, *p)).map(|p| p as u32).collect();
        let kinds_of = |rows: &[u32]| -> Arc<[RowKind]> { rows.iter().map(|r| batch.kind(*r as usize)).collect() };
        if lonely.is_empty() && pass.len() == rows.len() || !self.spec.outer {
            let kept: Vec<u32> = pass.iter().map(|p| matched[*p as usize]).collect();
            let pairs = joined(left, right, rows.len()).take(&pass.into())?;
            out.emit(Batch::with_kinds(pairs.columns().to_vec(), Some(kinds_of(&kept)), kept.len()));
            return Ok(());
        }
        // All left rows in order: with the pair's right row, or NULL.
        let mut picks: Vec<Option<u32>> = vec![None; batch.rows()];
        pass.iter().for_each(|p| picks[matched[*p as usize] as usize] = Some(*p));
        let right = match rows.is_empty() {
            true => nulls(&self.spec.join.right, batch.rows()),
            false => crate::rows::take(&right, &picks.into())?,
        };
        out.emit(batch.replace_columns(batch.columns().iter().cloned().chain(right).collect()));
        Ok(())
    }

    /// Drops the versions that were replaced before or at `now`, and keys that were deleted.
    fn clean(&mut self, now: Millis) -> Result<()> {
        let mut slots = vec![];
        while let Some(entry) = self.due.first_entry().filter(|e| *e.key() <= now) {
            slots.extend(entry.remove());
        }
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            let list = &mut self.versions[slot as usize].list;
            let valid = list.partition_point(|v| v.time <= now);
            let old = match valid.checked_sub(1).map(|i| list[i].deleted) {
                None => continue,
                Some(true) => valid,
                Some(false) => valid - 1,
            };
            list.drain(..old).for_each(|v| self.log.release(v.row));
            if list.is_empty() {
                self.forget(slot);
            }
        }
        if self.log.is_sparse() {
            self.log.compact(self.versions.iter_mut().flat_map(|v| &mut v.list).map(|v| &mut v.row).collect())?;
        }
        Ok(())
    }

    fn forget(&mut self, slot: u32) {
        std::mem::take(&mut self.versions[slot as usize]).list.iter().for_each(|v| self.log.release(v.row));
        if self.keys.slots_contain(slot) {
            self.keys.remove(slot);
        }
    }
}

impl Operator for TemporalJoin {
    fn name(&self) -> &'static str {
        "TemporalJoin"
    }

    fn batch(&mut self, side: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if side == 0 { self.left(batch, out.watermark()) } else { self.right(&batch, out.now()) }
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if let Some(due) = self.waiting.take(now)? {
            self.emit(due, out)?;
        }
        self.clean(now)
    }

    fn wants_ticks(&self) -> bool {
        self.spec.join.state_ttl.1 > 0
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        let ttl = self.spec.join.state_ttl.1;
        if ttl > 0 && now >= self.last_cleanup.saturating_add((ttl / 4).max(1000)) {
            self.last_cleanup = now;
            let is_old = |s: &u32| now >= self.versions[*s as usize].changed.saturating_add(ttl);
            let old: Vec<u32> = self.keys.slots().filter(is_old).collect();
            old.into_iter().for_each(|s| self.forget(s));
        }
        Ok(())
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.waiting.memory() + self.keys.memory() + self.log.memory() + self.versions.len() * size_of::<Versions>()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        self.waiting.snapshot("left", out)?;
        for slot in self.keys.slots() {
            let versions = &self.versions[slot as usize];
            let rows = self.codec.encode(&self.log.gather(&versions.list.iter().map(|v| v.row).collect::<Vec<_>>())?)?;
            for (i, version) in versions.list.iter().enumerate() {
                let mut key = vec![];
                put_bytes(&mut key, self.keys.key(slot));
                key.extend_from_slice(&version.time.to_be_bytes());
                let mut value = vec![u8::from(version.deleted)];
                value.extend_from_slice(&versions.changed.to_be_bytes());
                value.extend_from_slice(rows.get(i));
                out.put("versions", key, value);
            }
        }
        Ok(())
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.waiting.restore("left", input)?;
        let (mut found, mut rows) = (vec![], vec![]);
        for (mut key, mut value) in input.rows("versions") {
            let (key, time) = (take_row(&mut key)?, take_i64(&mut key)?);
            found.push((key, time, take_bytes(&mut value, 1)?[0] == 1, take_i64(&mut value)?));
            rows.push(value);
        }
        let base = self.log.push(self.codec.decode(rows.iter().copied())?, rows.len(), 1)?;
        for (row, (key, time, deleted, changed)) in (base..).zip(found) {
            let slot = self.add(key, Version { time, row, deleted });
            self.versions[slot as usize].changed = changed;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::algebra::JoinKind;

    use super::*;
    use crate::assert_lines;
    use crate::spec::{JoinSpec, OperatorSpec};
    use crate::testing::{Harness, types};

    fn harness(outer: bool) -> Harness {
        let join = JoinSpec { left: types("int ts"), right: types("int ts string"), ..crate::join::tests::spec(JoinKind::Inner) };
        Harness::new(OperatorSpec::TemporalJoin(TemporalJoinSpec { join, left_time: 1, right_time: 1, outer }))
    }

    #[test]
    fn the_version_of_the_time() {
        let (l, r) = (types("int ts"), types("int ts string"));
        let mut h = harness(false);
        h.send(1, &r, "1 10 a; 1 20 b; 2 10 c; NULL 10 n");
        assert_lines!(h.send(0, &l, "1 25; 1 19; 1 9; 2 12; NULL 12; 1 40"), "");
        h.restart();
        assert_lines!(h.watermark(30), "+I 1 25 1 20 b; +I 1 19 1 10 a; +I 2 12 2 10 c");
        h.restart();
        assert_lines!(h.send(1, &r, "+U 1 35 d; +U 1 35 e"), "");
        h.watermark = 30;
        assert_lines!(h.send(0, &l, "1 30; 1 31"), "");
        assert_eq!(h.operator.late_rows(), 1);
        assert_lines!(h.watermark(50), "+I 1 40 1 35 e; +I 1 31 1 20 b");
    }

    #[test]
    fn deleted_keys_and_outer_joins() {
        let (l, r) = (types("int ts"), types("int ts string"));
        let mut h = harness(true);
        h.send(1, &r, "1 10 a; 1 20 b; 2 10 c");
        // Flink's normalisation gives the old row's time to a delete: the version was never valid.
        h.send(1, &r, "-D 1 20 b");
        h.send(0, &l, "1 15; 1 25; -D 1 15; 3 15");
        assert_lines!(h.watermark(30), "+I 1 15 1 10 a; +I 1 25 NULL NULL NULL; -D 1 15 1 10 a; +I 3 15 NULL NULL NULL");
        h.send(0, &l, "1 40; 2 40");
        assert_lines!(h.watermark(40), "+I 1 40 NULL NULL NULL; +I 2 40 2 10 c");
        h.send(0, &l, "7 50");
        assert_lines!(h.watermark(50), "+I 7 50 NULL NULL NULL");
    }

    #[test]
    fn versions_expire() {
        let (l, r) = (types("int ts"), types("int ts string"));
        let mut join = JoinSpec { left: l.clone(), right: r.clone(), ..crate::join::tests::spec(JoinKind::Inner) };
        join.state_ttl = (0, 1000);
        let mut h = Harness::new(OperatorSpec::TemporalJoin(TemporalJoinSpec { join, left_time: 1, right_time: 1, outer: false }));
        h.send(1, &r, "1 10 a");
        h.tick(5000);
        h.send(0, &l, "1 15");
        assert_lines!(h.watermark(20), "");
    }
}
