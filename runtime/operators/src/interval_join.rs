//! Joins of rows whose times lie within an interval of each other: a match goes out at once, a row without one (outer joins) when
//! time has passed its interval (Flink: `TimeIntervalJoin`, `RowTimeIntervalJoin`, `ProcTimeIntervalJoin`).

use std::collections::BTreeSet;

use arrow::array::ArrayRef;
use sluice_batch::algebra::JoinKind;
use sluice_batch::{Batch, Error, Millis, Result, SqlType, WATERMARK_MAX};

use crate::group_index::KeyMap;
use crate::join_rows::{SideKey, joined, nulls, passed, passing, rows_at};
use crate::row_log::RowLog;
use crate::rows::RowCodec;
use crate::spec::IntervalJoinSpec;
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix, put_bytes, take_bytes, take_i64, take_row};
use crate::time::rowtimes;
use crate::{Operator, Output};

pub struct IntervalJoin {
    spec: IntervalJoinSpec,
    keys: KeyMap,
    sides: [Side; 2],
    now: Millis,
}

struct Side {
    types: Vec<SqlType>,
    key: SideKey,
    codec: RowCodec,
    time: usize,
    /// Rows without a match go out with NULLs.
    outer: bool,
    /// Rows of the other side up to so much later still match.
    reach: Millis,
    log: RowLog,
    /// By key, in order of time.
    cache: Vec<Vec<Cached>>,
    /// The first time in the cache of each key, and the key.
    first: BTreeSet<(Millis, u32)>,
}

#[derive(Clone, Copy)]
struct Cached {
    time: Millis,
    row: u64,
    matched: bool,
}

/// Candidates: rows of the batch and cached rows of the other side.
#[derive(Default)]
struct Pairs {
    input: Vec<u32>,
    other: Vec<u64>,
    /// Where the other row is cached: key and time.
    place: Vec<(u32, Millis)>,
}

impl Side {
    fn new(spec: &IntervalJoinSpec, side: usize) -> Result<Self> {
        let (types, time, kind, reach) = match side {
            0 => (&spec.join.left, spec.left_time, JoinKind::Left, spec.upper),
            _ => (&spec.join.right, spec.right_time, JoinKind::Right, spec.lower.saturating_neg()),
        };
        Ok(Self {
            key: SideKey::new(&spec.join, side)?,
            codec: RowCodec::new(types)?,
            types: types.clone(),
            time,
            outer: spec.join.kind == kind || spec.join.kind == JoinKind::Full,
            reach,
            log: RowLog::default(),
            cache: vec![],
            first: BTreeSet::new(),
        })
    }

    fn insert(&mut self, slot: u32, new: Cached) {
        self.cache.resize_with(self.cache.len().max(slot as usize + 1), Vec::new);
        let cache = &mut self.cache[slot as usize];
        let first = cache.first().map(|c| c.time);
        let at = cache.partition_point(|c| c.time <= new.time);
        cache.insert(at, new);
        if at == 0 {
            if let Some(first) = first {
                self.first.remove(&(first, slot));
            }
            self.first.insert((new.time, slot));
        }
    }

    /// Cached rows of a key within a time span.
    fn between(&self, slot: u32, from: Millis, to: Millis) -> &[Cached] {
        let Some(cache) = self.cache.get(slot as usize) else { return &[] };
        let start = cache.partition_point(|c| c.time < from);
        let end = start + cache[start..].partition_point(|c| c.time <= to);
        &cache[start..end]
    }

    fn mark(&mut self, slot: u32, time: Millis, row: u64) {
        let cache = &mut self.cache[slot as usize];
        let start = cache.partition_point(|c| c.time < time);
        if let Some(cached) = cache[start..].iter_mut().find(|c| c.row == row) {
            cached.matched = true;
        }
    }

    /// Takes rows with times up to `until` out of the cache: those that never matched, if they are wanted. `emptied` gets the keys.
    fn expire(&mut self, until: Millis, emptied: &mut Vec<u32>) -> Result<Option<(Vec<ArrayRef>, usize)>> {
        let (mut gone, mut unmatched) = (vec![], vec![]);
        while let Some((_, slot)) = self.first.first().copied().filter(|f| f.0 <= until) {
            self.first.pop_first();
            let cache = &mut self.cache[slot as usize];
            let over = cache.partition_point(|c| c.time <= until);
            for cached in cache.drain(..over) {
                if self.outer && !cached.matched {
                    unmatched.push(cached.row);
                }
                gone.push(cached.row);
            }
            match cache.first() {
                Some(next) => {
                    self.first.insert((next.time, slot));
                }
                None => {
                    *cache = Vec::new();
                    emptied.push(slot);
                }
            }
        }
        let rows = if unmatched.is_empty() { None } else { Some((self.log.gather(&unmatched)?, unmatched.len())) };
        gone.into_iter().for_each(|row| self.log.release(row));
        if self.log.is_sparse() {
            self.log.compact(self.cache.iter_mut().flatten().map(|c| &mut c.row).collect())?;
        }
        Ok(rows)
    }

    fn holds(&self, slot: u32) -> bool {
        self.cache.get(slot as usize).is_some_and(|c| !c.is_empty())
    }
}

impl IntervalJoin {
    pub fn new(spec: IntervalJoinSpec) -> Result<Self> {
        if matches!(spec.join.kind, JoinKind::Semi | JoinKind::Anti) {
            return Err(Error::unsupported("EXISTS or IN within a time interval").hint("write a join and DISTINCT"));
        }
        let sides = [Side::new(&spec, 0)?, Side::new(&spec, 1)?];
        Ok(Self { spec, keys: KeyMap::default(), sides, now: Millis::MIN })
    }

    fn clock(&self, out: &Output<'_>) -> Millis {
        if self.spec.proctime { out.now() } else { out.watermark() }
    }

    /// The times of the other side that match one of this side.
    fn matching(&self, side: usize, time: Millis) -> (Millis, Millis) {
        let (lower, upper) = (self.spec.lower, self.spec.upper);
        match side {
            0 => (time.saturating_add(lower), time.saturating_add(upper)),
            _ => (time.saturating_sub(upper), time.saturating_sub(lower)),
        }
    }

    fn pad(&self, side: usize, columns: Vec<ArrayRef>, rows: usize, out: &mut Output<'_>) {
        let other = nulls(&self.sides[1 - side].types, rows);
        out.emit(if side == 0 { joined(columns, other, rows) } else { joined(other, columns, rows) });
    }

    /// Emits the pairs that pass, and marks their rows as matched.
    fn emit(&mut self, side: usize, batch: &Batch, pairs: Pairs, matched: &mut [bool], out: &mut Output<'_>) -> Result<()> {
        if pairs.input.is_empty() {
            return Ok(());
        }
        let rows = pairs.input.len();
        let input = rows_at(batch.columns(), pairs.input.clone())?;
        let other = self.sides[1 - side].log.gather(&pairs.other)?;
        let (left, right) = if side == 0 { (input, other) } else { (other, input) };
        let mask = passing(self.spec.join.condition.as_ref(), &left, &right, rows, out.context())?;
        let mark = self.sides[1 - side].outer;
        for pair in (0..rows).filter(|p| passed(&mask, *p)) {
            matched[pairs.input[pair] as usize] = true;
            if mark {
                let (slot, time) = pairs.place[pair];
                self.sides[1 - side].mark(slot, time, pairs.other[pair]);
            }
        }
        let all = joined(left, right, rows);
        out.emit(match &mask {
            Some(mask) => all.filter(mask)?,
            None => all,
        });
        Ok(())
    }

    fn expire(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        let mut emptied = vec![];
        for side in 0..2 {
            let reach = self.sides[side].reach;
            let until = if now == WATERMARK_MAX { now } else { now.saturating_sub(reach).saturating_sub(1) };
            if let Some((columns, rows)) = self.sides[side].expire(until, &mut emptied)? {
                self.pad(side, columns, rows, out);
            }
        }
        for slot in emptied {
            if !self.sides.iter().any(|s| s.holds(slot)) && self.keys.slots_contain(slot) {
                self.keys.remove(slot);
            }
        }
        Ok(())
    }
}

impl Operator for IntervalJoin {
    fn name(&self) -> &'static str {
        "IntervalJoin"
    }

    fn batch(&mut self, side: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::runtime("IntervalJoin got a row that is not an insert: a defect of the planner"));
        }
        let now = self.clock(out);
        let times = match self.spec.proctime {
            true => vec![now; batch.rows()],
            false => rowtimes(batch.column(self.sides[side].time))?,
        };
        let keys = self.sides[side].key.encode(&batch)?;
        let empty = self.spec.lower > self.spec.upper;
        let mut pairs = Pairs::default();
        // Rows that later ones of the other side may match.
        let mut cached: Vec<u32> = vec![];
        for (row, time) in times.iter().enumerate() {
            let Some(key) = keys.get(row).filter(|_| !empty) else { continue };
            let (from, to) = self.matching(side, *time);
            if let Some(slot) = self.keys.find(key) {
                for other in self.sides[1 - side].between(slot, from, to) {
                    pairs.input.push(row as u32);
                    pairs.other.push(other.row);
                    pairs.place.push((slot, other.time));
                }
            }
            if now < to {
                cached.push(row as u32);
            }
        }
        let mut matched = vec![false; batch.rows()];
        self.emit(side, &batch, pairs, &mut matched, out)?;
        if self.sides[side].outer {
            let mut waits = vec![false; batch.rows()];
            cached.iter().for_each(|r| waits[*r as usize] = true);
            let lonely: Vec<u32> = (0..batch.rows()).filter(|r| !waits[*r] && !matched[*r]).map(|r| r as u32).collect();
            if !lonely.is_empty() {
                let rows = lonely.len();
                self.pad(side, rows_at(batch.columns(), lonely)?, rows, out);
            }
        }
        let s = &mut self.sides[side];
        let base = if cached.len() == batch.rows() {
            s.log.push(batch.columns().to_vec(), batch.rows(), 1)?
        } else {
            s.log.push(rows_at(batch.columns(), cached.clone())?, cached.len(), 1)?
        };
        for (i, row) in cached.into_iter().enumerate() {
            let row = row as usize;
            let Some(key) = keys.get(row) else { continue };
            let slot = self.keys.insert(key).0;
            s.insert(slot, Cached { time: times[row], row: base + i as u64, matched: matched[row] });
        }
        Ok(())
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        self.now = now;
        if self.spec.proctime && now != WATERMARK_MAX { Ok(()) } else { self.expire(now, out) }
    }

    /// Rows go out when the other side comes, so with times that are older than the watermark.
    fn output_watermark(&self, now: Millis) -> Millis {
        if self.spec.proctime || now == WATERMARK_MAX {
            return now;
        }
        now.saturating_sub(self.sides[0].reach.max(self.sides[1].reach).max(0))
    }

    fn wants_ticks(&self) -> bool {
        self.spec.proctime
    }

    fn tick(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if self.spec.proctime { self.expire(now, out) } else { Ok(()) }
    }

    fn state_bytes(&self) -> usize {
        let side = |s: &Side| s.log.memory() + s.first.len() * 24;
        self.keys.memory() + self.sides.iter().map(side).sum::<usize>()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        for (side, table) in self.sides.iter().zip(["left", "right"]) {
            for slot in self.keys.slots().filter(|s| side.holds(*s)) {
                let cache = &side.cache[slot as usize];
                let rows = side.codec.encode(&side.log.gather(&cache.iter().map(|c| c.row).collect::<Vec<_>>())?)?;
                for (i, cached) in cache.iter().enumerate() {
                    let mut key = vec![];
                    put_bytes(&mut key, self.keys.key(slot));
                    key.extend_from_slice(&(i as u64).to_be_bytes());
                    let mut value = vec![u8::from(cached.matched)];
                    value.extend_from_slice(&cached.time.to_be_bytes());
                    value.extend_from_slice(rows.get(i));
                    out.put(table, key, value);
                }
            }
        }
        Ok(())
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (side, table) in self.sides.iter_mut().zip(["left", "right"]) {
            let (mut places, mut rows) = (vec![], vec![]);
            for (mut key, mut value) in input.rows(table) {
                let slot = self.keys.insert(take_row(&mut key)?).0;
                let (number, matched, time) = (take_i64(&mut key)?, take_bytes(&mut value, 1)?[0] == 1, take_i64(&mut value)?);
                places.push((slot, number, time, matched, rows.len() as u64));
                rows.push(value);
            }
            let base = side.log.push(side.codec.decode(rows.iter().copied())?, rows.len(), 1)?;
            places.sort_unstable();
            for (slot, _, time, matched, row) in places {
                side.insert(slot, Cached { time, row: base + row, matched });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluice_batch::{Expr, ExprKind};

    use super::*;
    use crate::assert_lines;
    use crate::spec::{JoinSpec, OperatorSpec};
    use crate::testing::{Harness, types};

    fn spec(kind: JoinKind, lower: Millis, upper: Millis) -> IntervalJoinSpec {
        let join = JoinSpec { left: types("int ts"), right: types("int ts"), ..crate::join::tests::spec(kind) };
        IntervalJoinSpec { join, left_time: 1, right_time: 1, lower, upper, proctime: false }
    }

    #[test]
    fn matches_within_the_interval() {
        let t = types("int ts");
        let mut h = Harness::new(OperatorSpec::IntervalJoin(spec(JoinKind::Inner, -5, 10)));
        assert_lines!(h.send(0, &t, "1 100; 2 100; NULL 100"), "");
        h.restart();
        assert_lines!(h.send(1, &t, "1 94; 1 95; 1 110; 1 111; 2 100; NULL 100"), "+I 1 100 1 95; +I 1 100 1 110; +I 2 100 2 100");
        assert_lines!(h.send(0, &t, "1 99"), "+I 1 99 1 94; +I 1 99 1 95");
        h.watermark(110);
        assert_eq!(h.operator.output_watermark(110), 100);
        // Left rows up to 99 are gone, right ones up to 104.
        assert_lines!(h.send(0, &t, "1 108"), "+I 1 108 1 110; +I 1 108 1 111");
        h.restart();
        assert_lines!(h.send(1, &t, "1 107"), "+I 1 100 1 107; +I 1 108 1 107");
        h.watermark(WATERMARK_MAX);
        assert_eq!(h.operator.state_bytes(), 0);
    }

    #[test]
    fn outer_rows_wait_for_time() {
        let t = types("int ts");
        let mut h = Harness::new(OperatorSpec::IntervalJoin(spec(JoinKind::Full, 0, 10)));
        assert_lines!(h.send(0, &t, "1 100; 2 100; NULL 100"), "+I NULL 100 NULL NULL");
        assert_lines!(h.send(1, &t, "1 105; 3 105"), "+I 1 100 1 105");
        h.restart();
        assert_lines!(h.watermark(110), "+I NULL NULL 3 105");
        assert_lines!(h.watermark(111), "+I 2 100 NULL NULL");
        // Too late to be kept.
        assert_lines!(h.send(0, &t, "9 100; 9 101"), "+I 9 100 NULL NULL; +I 9 101 NULL NULL");
        let mut h = Harness::new(OperatorSpec::IntervalJoin(spec(JoinKind::Left, 10, 0)));
        assert_lines!(h.send(0, &t, "1 100"), "+I 1 100 NULL NULL");
    }

    #[test]
    fn further_conditions() {
        let t = types("int ts");
        let mut s = spec(JoinKind::Left, 0, 10);
        let equal = types("boolean").remove(0);
        // Passes only pairs whose left time is NULL: none.
        s.join.condition = Some(Expr { kind: ExprKind::IsNull(Box::new(Expr::column(1, t[1].clone()))), ty: equal });
        let mut h = Harness::new(OperatorSpec::IntervalJoin(s));
        assert_lines!(h.send(0, &t, "1 100"), "");
        assert_lines!(h.send(1, &t, "1 105"), "");
        assert_lines!(h.watermark(111), "+I 1 100 NULL NULL");
    }

    #[test]
    fn by_processing_time() {
        let t = types("int ts");
        let mut h = Harness::new(OperatorSpec::IntervalJoin(IntervalJoinSpec { proctime: true, ..spec(JoinKind::Left, -5, 5) }));
        h.context.now = 100;
        h.send(0, &t, "1 0; 2 0");
        h.context.now = 105;
        assert_lines!(h.send(1, &t, "1 0"), "+I 1 0 1 0");
        assert_lines!(h.tick(106), "+I 2 0 NULL NULL");
        assert_lines!(h.send(1, &t, "1 0"), "");
    }

    proptest! {
        /// Without late rows all pairs within the interval go out, and each lonely row once, whatever the batches and restarts.
        #[test]
        fn equals_the_definition(
            batches in prop::collection::vec((0..2usize, prop::collection::vec((0..3i64, 0..15i64), 0..5), 0..6i64, any::<bool>()), 1..10),
            lower in -5..5i64,
            width in 0..6i64,
            kind in prop::sample::select(vec![JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full]),
        ) {
            let t = types("int ts");
            let upper = lower + width;
            let mut h = Harness::new(OperatorSpec::IntervalJoin(spec(kind, lower, upper)));
            let (mut sides, mut got, mut watermark) = ([vec![], vec![]], vec![], -1);
            for (side, rows, step, restart) in batches {
                // Key 0 stands for NULL.
                let rows: Vec<(i64, i64)> = rows.into_iter().map(|(k, after)| (k, watermark + 1 + after)).collect();
                let key = |k: i64| if k == 0 { "NULL".to_string() } else { k.to_string() };
                let text: Vec<String> = rows.iter().map(|(k, time)| format!("{} {time}", key(*k))).collect();
                got.extend(h.send(side, &t, &text.join("; ")));
                sides[side].extend(rows.into_iter().zip(text));
                watermark += step;
                got.extend(h.watermark(watermark));
                if restart {
                    h.restart();
                    h.watermark = watermark;
                }
            }
            got.extend(h.watermark(WATERMARK_MAX));
            let [left, right] = &sides;
            let meets = |l: (i64, i64), r: (i64, i64)| l.0 != 0 && l.0 == r.0 && (l.1 + lower..=l.1 + upper).contains(&r.1);
            let mut want: Vec<String> = vec![];
            for (l, lt) in left {
                want.extend(right.iter().filter(|(r, _)| meets(*l, *r)).map(|(_, rt)| format!("+I {lt} {rt}")));
                if matches!(kind, JoinKind::Left | JoinKind::Full) && !right.iter().any(|(r, _)| meets(*l, *r)) {
                    want.push(format!("+I {lt} NULL NULL"));
                }
            }
            for (r, rt) in right {
                if matches!(kind, JoinKind::Right | JoinKind::Full) && !left.iter().any(|(l, _)| meets(*l, *r)) {
                    want.push(format!("+I NULL NULL {rt}"));
                }
            }
            got.sort();
            want.sort();
            prop_assert_eq!(got, want);
            prop_assert_eq!(h.operator.state_bytes(), 0);
        }
    }
}
