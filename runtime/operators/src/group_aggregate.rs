//! Updating GROUP BY, also SELECT DISTINCT (Flink: `GroupAggFunction`, `MiniBatchGroupAggFunction`).

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute;
use sluice_batch::{Batch, Millis, Result, RowKind};

use crate::aggregates::{Aggregates, rows_equal};
use crate::group_index::{GroupIndex, KeyMap};
use crate::memory::{Memory, Share};
use crate::rows::take;
use crate::spec::GroupAggregateSpec;
use crate::spill::{self, KeyedState};
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, take_i64};
use crate::{Operator, Output};

pub struct GroupAggregate {
    spec: GroupAggregateSpec,
    index: GroupIndex,
    aggregates: Aggregates,
    groups: Vec<Group>,
    slots: Vec<u32>,
    pending: Pending,
    last_cleanup: Millis,
    share: Option<Share>,
}

/// What is kept of a group beside its accumulators.
#[derive(Clone, Copy, Default)]
struct Group {
    /// Rows added less rows taken back. Counted only for retracting input; else 1 once there are rows.
    rows: i64,
    /// Whether the group has been emitted, or has rows.
    alive: bool,
    /// Its last row was taken back in this batch.
    ended: bool,
    /// It began anew in this batch, in another slot.
    moved: Option<u32>,
    /// Its results may have changed since the last flush.
    dirty: bool,
    /// Processing time of the last change, for the state's time to live.
    changed: Millis,
}

/// Mini-batching: groups touched since the last flush.
#[derive(Default)]
struct Pending {
    slots: Vec<u32>,
    /// Whether each was there before.
    existed: Vec<bool>,
    /// What each gave before, in the same order, in pieces.
    before: Vec<Vec<ArrayRef>>,
}

impl GroupAggregate {
    pub fn new(spec: GroupAggregateSpec) -> Result<Self> {
        Ok(Self {
            index: GroupIndex::new(spec.keys.iter().map(|k| &spec.input[*k]))?,
            aggregates: Aggregates::new(&spec.calls, &spec.input, spec.retracting)?,
            spec,
            groups: vec![],
            slots: vec![],
            pending: Pending::default(),
            last_cleanup: 0,
            share: None,
        })
    }

    fn assign_slots(&mut self, batch: &Batch, now: Millis) -> Result<()> {
        let keys = self.index.encode(batch, &self.spec.keys)?;
        self.load((0..batch.rows()).map(|row| keys.get(row)))?;
        let groups = &mut self.groups;
        self.index.insert_rows(&keys, batch.rows(), &mut self.slots, |slot| {
            if groups.len() <= slot as usize {
                groups.resize(slot as usize + 1, Group::default());
            }
            groups[slot as usize] = Group::default();
        });
        self.aggregates.resize(self.groups.len());
        if self.spec.state_ttl > 0 {
            for slot in &self.slots {
                let group = &mut self.groups[*slot as usize];
                if group.alive && !group.dirty && now >= group.changed.saturating_add(self.spec.state_ttl) {
                    *group = Group::default();
                    self.aggregates.clear(*slot);
                }
                group.changed = now;
            }
        }
        Ok(())
    }

    /// Updates all groups at once and emits what each row changes.
    fn segment(&mut self, batch: &Batch, slots: &[u32], changes: &[Change], out: &mut Output<'_>) -> Result<()> {
        let (before, after) = self.aggregates.update_running(batch, slots)?;
        let same = rows_equal(&before, &after, slots.len())?;
        let mut kinds = Vec::with_capacity(slots.len() * 2);
        let mut picks: Vec<(usize, usize)> = Vec::with_capacity(slots.len() * 2);
        for (row, change) in changes.iter().enumerate() {
            let mut push = |kind, source| {
                kinds.push(kind);
                picks.push((source, row));
            };
            match change {
                Change::First => push(RowKind::Insert, 1),
                Change::Last => push(RowKind::Delete, 0),
                Change::Update if same[row] && self.spec.state_ttl == 0 => {}
                Change::Update => {
                    if self.spec.emit_update_before {
                        push(RowKind::UpdateBefore, 0);
                    }
                    push(RowKind::UpdateAfter, 1);
                }
            }
        }
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|k| batch.column(*k).clone()).collect();
        let rows = kinds.len();
        let mut columns = take(&keys, &picks.iter().map(|p| p.1 as u32).collect::<Vec<_>>().into())?;
        for (b, a) in before.iter().zip(&after) {
            columns.push(compute::interleave(&[b.as_ref(), a.as_ref()], &picks)?);
        }
        out.emit(Batch::with_kinds(columns, Some(Arc::from(kinds)), rows));
        Ok(())
    }

    /// What row `row` does to its group; `None` if it takes back from a group that is not there.
    fn change(group: &mut Group, addition: bool, retracting: bool) -> Option<Change> {
        if !group.alive {
            if !addition {
                return None;
            }
            (group.alive, group.rows) = (true, 1);
            return Some(Change::First);
        }
        if retracting {
            group.rows += if addition { 1 } else { -1 };
            if group.rows == 0 {
                (group.alive, group.ended) = (false, true);
                return Some(Change::Last);
            }
        }
        Some(Change::Update)
    }

    fn per_row(&mut self, batch: &Batch, out: &mut Output<'_>) -> Result<()> {
        let (mut rows, mut slots, mut changes) = (Vec::<u32>::new(), Vec::<u32>::new(), Vec::new());
        let mut retired = vec![];
        for row in 0..batch.rows() {
            let first = self.slots[row] as usize;
            let mut slot = self.groups[first].moved.unwrap_or(first as u32);
            let addition = batch.kind(row).is_addition();
            if addition && self.groups[slot as usize].ended {
                // The group begins anew in this batch: with other accumulators, as all are updated at once.
                retired.push(slot);
                slot = self.index.map_mut().rebind(slot);
                self.groups.resize(self.groups.len().max(slot as usize + 1), Group::default());
                self.groups[slot as usize] = Group { changed: out.now(), ..Group::default() };
                self.groups[first].moved = Some(slot);
            }
            if let Some(change) = Self::change(&mut self.groups[slot as usize], addition, self.spec.retracting) {
                rows.push(row as u32);
                slots.push(slot);
                changes.push(change);
            }
        }
        if !rows.is_empty() {
            self.aggregates.resize(self.groups.len());
            let whole = rows.len() == batch.rows();
            let part = if whole { batch.clone() } else { batch.take(&UInt32Array::from(rows))? };
            self.segment(&part, &slots, &changes, out)?;
        }
        for slot in retired {
            self.aggregates.clear(slot);
            self.index.map_mut().release(slot);
        }
        for (slot, _) in slots.iter().zip(&changes).filter(|(_, c)| **c == Change::Last) {
            if self.groups[*slot as usize].ended && self.index.map().slots_contain(*slot) {
                self.aggregates.clear(*slot);
                self.index.map_mut().remove(*slot);
            }
        }
        self.forget_empty(batch.rows());
        Ok(())
    }

    /// Gives back slots that were made for rows that only took back.
    fn forget_empty(&mut self, rows: usize) {
        if !self.spec.retracting {
            return;
        }
        for slot in self.slots.iter().take(rows) {
            let group = &mut self.groups[*slot as usize];
            group.moved = None;
            if !group.alive && !group.dirty && self.index.map().slots_contain(*slot) {
                self.index.map_mut().remove(*slot);
            }
        }
    }

    fn gather(&mut self, batch: &Batch) -> Result<()> {
        let mut touched: Vec<u32> = vec![];
        let mut rows: Vec<u32> = Vec::with_capacity(batch.rows());
        for row in 0..batch.rows() {
            let slot = self.slots[row];
            let group = &mut self.groups[slot as usize];
            let addition = batch.kind(row).is_addition();
            if !group.dirty {
                // Rows that take back from nothing are dropped as long as none was added.
                if !group.alive && !addition {
                    continue;
                }
                self.pending.slots.push(slot);
                self.pending.existed.push(group.alive);
                touched.push(slot);
                (group.alive, group.dirty) = (true, true);
            }
            group.rows += if addition { 1 } else { -1 };
            rows.push(row as u32);
        }
        if !touched.is_empty() {
            self.pending.before.push(self.aggregates.evaluate(&touched)?);
        }
        let slots: Vec<u32> = rows.iter().map(|r| self.slots[*r as usize]).collect();
        if rows.len() == batch.rows() {
            self.aggregates.update(batch, &slots)
        } else {
            let part = batch.take(&UInt32Array::from(rows))?;
            self.aggregates.update(&part, &slots)?;
            self.forget_empty(batch.rows());
            Ok(())
        }
    }

    fn forget(&mut self, slot: u32) {
        self.drop_slot(slot);
        self.index.map_mut().remove(slot);
    }

    /// Drops groups that have not changed for the time to live; groups on disk a part at a time.
    fn expire(&mut self, now: Millis) -> Result<()> {
        let ttl = self.spec.state_ttl;
        for slot in self.sweep(|value| value.get(8..).is_some_and(|mut v| take_i64(&mut v).is_ok_and(|c| spill::is_over(c, ttl, now))))? {
            self.forget(slot);
        }
        if now < self.last_cleanup.saturating_add((ttl / 4).max(1000)) {
            return Ok(());
        }
        self.last_cleanup = now;
        self.begin_sweep();
        let expired = |g: &Group| !g.dirty && spill::is_over(g.changed, ttl, now);
        let slots: Vec<u32> = self.index.map().slots().filter(|s| expired(&self.groups[*s as usize])).collect();
        slots.into_iter().for_each(|s| self.forget(s));
        Ok(())
    }

    fn emit_pending(&mut self, out: &mut Output<'_>) -> Result<()> {
        let Pending { slots, existed, before } = std::mem::take(&mut self.pending);
        let after = self.aggregates.evaluate(&slots)?;
        let before = (0..after.len())
            .map(|c| Ok(compute::concat(&before.iter().map(|p| p[c].as_ref()).collect::<Vec<_>>())?))
            .collect::<Result<Vec<_>>>()?;
        let same = rows_equal(&before, &after, slots.len())?;
        let (mut kinds, mut picks) = (vec![], vec![]);
        let mut ended = vec![];
        for (row, slot) in slots.iter().enumerate() {
            let group = &mut self.groups[*slot as usize];
            group.dirty = false;
            let mut push = |kind, source| {
                kinds.push(kind);
                picks.push((source, row));
            };
            if self.spec.retracting && group.rows == 0 {
                if existed[row] {
                    push(RowKind::Delete, 0);
                }
                group.alive = false;
                ended.push(*slot);
            } else if !existed[row] {
                push(RowKind::Insert, 1);
            } else if !same[row] || self.spec.state_ttl > 0 {
                if self.spec.emit_update_before {
                    push(RowKind::UpdateBefore, 0);
                }
                push(RowKind::UpdateAfter, 1);
            }
        }
        let rows = kinds.len();
        let indices: UInt32Array = picks.iter().map(|p: &(usize, usize)| p.1 as u32).collect::<Vec<_>>().into();
        let mut columns = take(&self.index.keys(&slots)?, &indices)?;
        for (b, a) in before.iter().zip(&after) {
            columns.push(compute::interleave(&[b.as_ref(), a.as_ref()], &picks)?);
        }
        out.emit(Batch::with_kinds(columns, Some(Arc::from(kinds)), rows));
        for slot in ended {
            self.aggregates.clear(slot);
            self.index.map_mut().remove(slot);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    First,
    Update,
    Last,
}

impl Operator for GroupAggregate {
    fn name(&self) -> &'static str {
        "GroupAggregate"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        self.assign_slots(&batch, out.now())?;
        if self.spec.mini_batch {
            return self.gather(&batch);
        }
        self.per_row(&batch, out)?;
        KeyedState::make_room(self)
    }

    fn flush(&mut self, out: &mut Output<'_>) -> Result<()> {
        if self.pending.slots.is_empty() {
            return Ok(());
        }
        self.emit_pending(out)?;
        KeyedState::make_room(self)
    }

    fn watermark(&mut self, _now: Millis, out: &mut Output<'_>) -> Result<()> {
        self.flush(out)
    }

    fn wants_ticks(&self) -> bool {
        self.spec.state_ttl > 0
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        self.expire(now)
    }

    fn spill(&mut self, memory: &Memory) -> bool {
        self.share = spill::share(memory);
        true
    }

    fn make_room(&mut self) -> Result<()> {
        KeyedState::make_room(self)
    }

    fn state_bytes(&self) -> usize {
        self.live_bytes()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        for slot in self.index.map().slots() {
            out.put_with("groups", self.index.map().key(slot), |value| self.encode_slot(slot, value));
        }
        self.stored(&mut |key, value| {
            out.put("groups", key, value);
            Ok(())
        })
    }

    fn track_changes(&mut self) {
        self.index.map_mut().track();
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        Ok(self.write_changes("groups", out))
    }

    fn restores_in_parts(&self) -> bool {
        true
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.read_rows(input.rows("groups"), |this, key, value| {
            let (slot, _) = this.index.map_mut().insert(key);
            this.decode_slot(slot, value)
        })
    }
}

impl KeyedState for GroupAggregate {
    fn keys(&self) -> &KeyMap {
        self.index.map()
    }

    fn keys_mut(&mut self) -> &mut KeyMap {
        self.index.map_mut()
    }

    fn share(&mut self) -> Option<&mut Share> {
        self.share.as_mut()
    }

    fn live_bytes(&self) -> usize {
        let map = self.index.map();
        let by_slot = self.aggregates.memory() + self.groups.len() * size_of::<Group>();
        // Slots without a key are given out again before there are more of them.
        map.memory() + (by_slot as u128 * map.len() as u128 / map.capacity().max(1) as u128) as usize
    }

    fn encode_slot(&self, slot: u32, out: &mut Vec<u8>) {
        let group = &self.groups[slot as usize];
        out.extend_from_slice(&group.rows.to_be_bytes());
        out.extend_from_slice(&group.changed.to_be_bytes());
        self.aggregates.encode(slot, out);
    }

    fn decode_slot(&mut self, slot: u32, mut value: &[u8]) -> Result<()> {
        self.groups.resize(self.groups.len().max(slot as usize + 1), Group::default());
        self.aggregates.resize(self.groups.len());
        let (rows, changed) = (take_i64(&mut value)?, take_i64(&mut value)?);
        self.groups[slot as usize] = Group { rows, alive: true, changed, ..Group::default() };
        self.aggregates.decode(slot, &mut value)
    }

    fn drop_slot(&mut self, slot: u32) {
        self.groups[slot as usize] = Group::default();
        self.aggregates.clear(slot);
    }

    fn is_pinned(&self, slot: u32) -> bool {
        self.groups[slot as usize].dirty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, count, sum, types};

    fn spec(keys: Vec<usize>, retracting: bool, mini_batch: bool) -> GroupAggregateSpec {
        GroupAggregateSpec {
            input: types("string bigint"),
            keys,
            calls: vec![count(), sum(1)],
            retracting,
            emit_update_before: true,
            mini_batch,
            state_ttl: 0,
        }
    }

    #[test]
    fn one_change_a_row() {
        let t = types("string bigint");
        let mut h = Harness::new(OperatorSpec::GroupAggregate(spec(vec![0], false, false)));
        assert_lines!(h.send(0, &t, "a 1; b 5; a 2; a 3"), "+I a 1 1; +I b 1 5; -U a 1 1; +U a 2 3; -U a 2 3; +U a 3 6");
        h.restart();
        assert_lines!(h.send(0, &t, "b 1; NULL 7"), "-U b 1 5; +U b 2 6; +I NULL 1 7");
    }

    #[test]
    fn results_that_stay_are_not_sent() {
        let t = types("string bigint");
        let mut s = spec(vec![0], false, false);
        s.calls = vec![sum(1)];
        s.emit_update_before = false;
        let mut h = Harness::new(OperatorSpec::GroupAggregate(s.clone()));
        assert_lines!(h.send(0, &t, "a 1; a 0; a 4"), "+I a 1; +U a 5");
        s.calls = vec![];
        let mut h = Harness::new(OperatorSpec::GroupAggregate(s.clone()));
        assert_lines!(h.send(0, &t, "a 1; a 0; b 4"), "+I a; +I b");
        s.state_ttl = 1000;
        s.calls = vec![sum(1)];
        let mut h = Harness::new(OperatorSpec::GroupAggregate(s));
        assert_lines!(h.send(0, &t, "a 1; a 0"), "+I a 1; +U a 1");
        h.context.now = 999;
        assert_lines!(h.send(0, &t, "a 1"), "+U a 2");
        h.context.now = 2000;
        assert_lines!(h.send(0, &t, "a 1"), "+I a 1");
        assert!(h.tick(10_000).is_empty());
        assert_lines!(h.send(0, &t, "a 1"), "+I a 1");
    }

    #[test]
    fn groups_end_and_begin_anew() {
        let t = types("string bigint");
        let mut h = Harness::new(OperatorSpec::GroupAggregate(spec(vec![0], true, false)));
        assert_lines!(
            h.send(0, &t, "-U x 9; a 1; -U a 1; +U a 2; -U a 2; +U a 3; +U a 4; -D b 1; b 1"),
            "+I a 1 1; -D a 1 1; +I a 1 2; -D a 1 2; +I a 1 3; -U a 1 3; +U a 2 7; +I b 1 1"
        );
        assert_lines!(h.send(0, &t, "-D a 3; -D a 4; -D a 5; c 1"), "-U a 2 7; +U a 1 4; -D a 1 4; +I c 1 1");
        assert_lines!(h.send(0, &t, "a 8; -D c 1"), "+I a 1 8; -D c 1 1");
    }

    #[test]
    fn no_keys() {
        let t = types("string bigint");
        let mut h = Harness::new(OperatorSpec::GroupAggregate(spec(vec![], true, false)));
        assert_lines!(h.send(0, &t, "a 1; b 5; -D a 1; -D b 5; c 3"), "+I 1 1; -U 1 1; +U 2 6; -U 2 6; +U 1 5; -D 1 5; +I 1 3");
    }

    #[test]
    fn mini_batches() {
        let t = types("string bigint");
        let mut h = Harness::new(OperatorSpec::GroupAggregate(spec(vec![0], true, true)));
        assert_lines!(h.send(0, &t, "-D z 1; a 1; b 2; a 3"), "");
        assert_lines!(h.send(0, &t, "-D b 2; c 1"), "");
        assert_lines!(h.flush(), "+I a 2 4; +I c 1 1");
        assert_lines!(h.flush(), "");
        h.restart();
        h.send(0, &t, "a 5; -D c 1; -D a 5");
        h.send(0, &t, "a 6");
        assert_lines!(h.flush(), "-U a 2 4; +U a 3 10; -D c 1 1");
    }
}
