//! Joins of the rows of two equal windows, when the window ends (Flink: `WindowJoinOperator`, `WindowJoinHelper`).

use std::collections::BTreeMap;

use arrow::array::{Array, UInt32Array};
use sluice_batch::Error;
use sluice_batch::algebra::JoinKind;
use sluice_batch::{Batch, EvalContext, Millis, Result};

use crate::group_index::KeyMap;
use crate::join_rows::{SideKey, joined, nulls, passed, passing, rows_at};
use crate::rows::RowCodec;
use crate::spec::WindowJoinSpec;
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix, put_bytes, take_i64, take_row};
use crate::time::{Zone, null_rowtime, to_millis};
use crate::windows::is_fired;
use crate::{Operator, Output};

/// Candidate pairs that are evaluated at once.
const PAIRS: usize = 16_384;
const NONE: u32 = u32::MAX;

pub struct WindowJoin {
    spec: WindowJoinSpec,
    keys: [SideKey; 2],
    codecs: [RowCodec; 2],
    /// By window end: the rows of both sides.
    windows: BTreeMap<Millis, [Vec<Batch>; 2]>,
    late: u64,
}

/// The rows of one side by key: for each key its first row, for each row the next of the same key.
struct Chains {
    keys: KeyMap,
    first: Vec<u32>,
    next: Vec<u32>,
}

impl WindowJoin {
    pub fn new(spec: WindowJoinSpec) -> Result<Self> {
        Ok(Self {
            keys: [SideKey::new(&spec.join, 0)?, SideKey::new(&spec.join, 1)?],
            codecs: [RowCodec::new(&spec.join.left)?, RowCodec::new(&spec.join.right)?],
            windows: BTreeMap::new(),
            late: 0,
            spec,
        })
    }

    fn zone(&self, context: &EvalContext) -> Zone {
        Zone::new(self.spec.ltz, context.time_zone)
    }

    fn chains(&self, side: usize, batch: &Batch) -> Result<Chains> {
        let encoded = self.keys[side].encode(batch)?;
        let mut chains = Chains { keys: KeyMap::default(), first: vec![], next: vec![NONE; batch.rows()] };
        for row in (0..batch.rows()).rev() {
            let Some(key) = encoded.get(row) else { continue };
            let (slot, new) = chains.keys.insert(key);
            if new {
                chains.first.push(NONE);
            }
            chains.next[row] = std::mem::replace(&mut chains.first[slot as usize], row as u32);
        }
        Ok(chains)
    }

    fn join(&self, [left, right]: [Batch; 2], out: &mut Output<'_>) -> Result<()> {
        let kind = self.spec.join.kind;
        let chains = self.chains(1, &right)?;
        let keys = self.keys[0].encode(&left)?;
        let (mut left_matched, mut right_matched) = (vec![false; left.rows()], vec![false; right.rows()]);
        let (mut l, mut r): (Vec<u32>, Vec<u32>) = (vec![], vec![]);
        for row in 0..left.rows() {
            let slot = keys.get(row).and_then(|key| chains.keys.find(key));
            let mut other = slot.map_or(NONE, |s| chains.first[s as usize]);
            while other != NONE {
                l.push(row as u32);
                r.push(other);
                other = chains.next[other as usize];
            }
            if l.len() < PAIRS && row + 1 < left.rows() {
                continue;
            }
            let (l, r) = (std::mem::take(&mut l), std::mem::take(&mut r));
            let rows = l.len();
            let (lc, rc) = (rows_at(left.columns(), l.clone())?, rows_at(right.columns(), r.clone())?);
            let mask = passing(self.spec.join.condition.as_ref(), &lc, &rc, rows, out.context())?;
            for pair in (0..rows).filter(|p| passed(&mask, *p)) {
                left_matched[l[pair] as usize] = true;
                right_matched[r[pair] as usize] = true;
            }
            if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                let pairs = joined(lc, rc, rows);
                out.emit(if let Some(mask) = &mask { pairs.filter(mask)? } else { pairs });
            }
        }
        let rows_with = |matched: &[bool], wanted: bool| -> Vec<u32> {
            matched.iter().enumerate().filter(|(_, m)| **m == wanted).map(|(i, _)| i as u32).collect()
        };
        if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            out.emit(left.take(&UInt32Array::from(rows_with(&left_matched, kind == JoinKind::Semi)))?);
        }
        if matches!(kind, JoinKind::Left | JoinKind::Full) {
            let lonely = rows_with(&left_matched, false);
            let rows = lonely.len();
            out.emit(joined(rows_at(left.columns(), lonely)?, nulls(&self.spec.join.right, rows), rows));
        }
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            let lonely = rows_with(&right_matched, false);
            let rows = lonely.len();
            out.emit(joined(nulls(&self.spec.join.left, rows), rows_at(right.columns(), lonely)?, rows));
        }
        Ok(())
    }

    fn all_rows(&self, side: usize, batches: &[Batch]) -> Result<Batch> {
        let types = if side == 0 { &self.spec.join.left } else { &self.spec.join.right };
        if batches.is_empty() { Ok(Batch::new(nulls(types, 0), 0)) } else { Batch::concat(batches) }
    }
}

impl Operator for WindowJoin {
    fn name(&self) -> &'static str {
        "WindowJoin"
    }

    fn batch(&mut self, side: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if batch.kinds().is_some() {
            return Err(Error::unsupported("updating inputs of a window join"));
        }
        let column = if side == 0 { self.spec.left_window_end } else { self.spec.right_window_end };
        let ends = to_millis(batch.column(column))?;
        if ends.null_count() > 0 {
            return Err(null_rowtime());
        }
        let zone = self.zone(out.context());
        let mut by_end: BTreeMap<Millis, Vec<u32>> = BTreeMap::new();
        for (row, end) in ends.values().iter().enumerate() {
            by_end.entry(*end).or_default().push(row as u32);
        }
        for (end, rows) in by_end {
            if is_fired(end, out.watermark(), zone) {
                self.late += rows.len() as u64;
                continue;
            }
            let part = if rows.len() == batch.rows() { batch.clone() } else { batch.take(&UInt32Array::from(rows))? };
            self.windows.entry(end).or_default()[side].push(part);
        }
        Ok(())
    }

    fn watermark(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        let zone = self.zone(out.context());
        while let Some(window) = self.windows.first_entry().filter(|w| is_fired(*w.key(), now, zone)) {
            let [left, right] = window.remove();
            let sides = [self.all_rows(0, &left)?, self.all_rows(1, &right)?];
            self.join(sides, out)?;
        }
        Ok(())
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.windows.values().flatten().flatten().flat_map(|b| b.columns()).map(|c| c.get_array_memory_size()).sum()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        for (end, sides) in &self.windows {
            for (side, table) in ["left", "right"].into_iter().enumerate() {
                let mut number: u64 = 0;
                for batch in &sides[side] {
                    let rows = self.codecs[side].encode(batch.columns())?;
                    let keys = self.keys[side].encode_all(batch)?;
                    for row in 0..batch.rows() {
                        let mut key = vec![];
                        put_bytes(&mut key, keys.get(row));
                        key.extend_from_slice(&end.to_be_bytes());
                        key.extend_from_slice(&number.to_be_bytes());
                        out.put(table, key, rows.get(row));
                        number += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (side, table) in ["left", "right"].into_iter().enumerate() {
            let mut by_end: BTreeMap<Millis, Vec<(i64, &[u8])>> = BTreeMap::new();
            for (mut key, row) in input.rows(table) {
                take_row(&mut key)?;
                by_end.entry(take_i64(&mut key)?).or_default().push((take_i64(&mut key)?, row));
            }
            for (end, mut rows) in by_end {
                // Numbers are of the task that wrote them: they order the rows of a key.
                rows.sort_by_key(|r| r.0);
                let batch = Batch::new(self.codecs[side].decode(rows.iter().map(|r| r.1))?, rows.len());
                self.windows.entry(end).or_default()[side].push(batch);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_lines;
    use crate::spec::{JoinSpec, OperatorSpec};
    use crate::testing::{Harness, types};

    fn run(kind: JoinKind) -> Vec<String> {
        let t = types("int ts string");
        let keys = vec![0, 1];
        let join = JoinSpec {
            left: t.clone(),
            right: t.clone(),
            left_keys: keys.clone(),
            right_keys: keys,
            null_safe: vec![false; 2],
            ..crate::join::tests::spec(kind)
        };
        let mut h = Harness::new(OperatorSpec::WindowJoin(WindowJoinSpec { join, left_window_end: 1, right_window_end: 1, ltz: false }));
        h.send(0, &t, "1 10 a; 2 10 b; 1 20 c; NULL 10 d");
        h.send(1, &t, "1 10 x; 3 10 y; 1 10 z");
        h.restart();
        let mut out = h.watermark(9);
        h.send(0, &t, "1 10 late");
        assert_eq!(h.operator.late_rows(), 1);
        out.push("|".into());
        out.extend(h.watermark(100));
        assert_eq!(h.operator.state_bytes(), 0);
        out
    }

    #[test]
    fn each_kind() {
        assert_lines!(run(JoinKind::Inner), "+I 1 10 a 1 10 x; +I 1 10 a 1 10 z; |");
        assert_lines!(
            run(JoinKind::Left),
            "+I 1 10 a 1 10 x; +I 1 10 a 1 10 z; +I 2 10 b NULL NULL NULL; +I NULL 10 d NULL NULL NULL; |; +I 1 20 c NULL NULL NULL"
        );
        assert_lines!(run(JoinKind::Right), "+I 1 10 a 1 10 x; +I 1 10 a 1 10 z; +I NULL NULL NULL 3 10 y; |");
        assert_eq!(run(JoinKind::Full).len(), 7);
        assert_lines!(run(JoinKind::Semi), "+I 1 10 a; |");
        assert_lines!(run(JoinKind::Anti), "+I 2 10 b; +I NULL 10 d; |; +I 1 20 c");
    }
}
