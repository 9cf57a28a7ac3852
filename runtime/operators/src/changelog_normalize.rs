//! Upsert sources as full changelogs: the last row a key is kept, so that -U and full -D rows can be made
//! (Flink: `ProcTimeDeduplicateKeepLastRowFunction` over changelogs).

use arrow::array::{BooleanArray, UInt32Array};
use sluice_batch::batch::Mask;
use sluice_batch::{Batch, Millis, Result, RowKind};

use crate::group_index::KeyMap;
use crate::keyed_rows::KeyedRows;
use crate::memory::Memory;
use crate::rows::{Changelog, RowCodec};
use crate::spec::ChangelogNormalizeSpec;
use crate::spill::KeyedState;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter};
use crate::{Operator, Output};

pub struct ChangelogNormalize {
    spec: ChangelogNormalizeSpec,
    keys: RowCodec,
    rows: RowCodec,
    state: KeyedRows,
    /// Mini-batching: what has come since the last flush.
    pending: Vec<Batch>,
}

impl ChangelogNormalize {
    pub fn new(spec: ChangelogNormalizeSpec) -> Result<Self> {
        Ok(Self {
            keys: RowCodec::project(&spec.input, &spec.key)?,
            rows: RowCodec::new(&spec.input)?,
            state: KeyedRows::new(spec.state_ttl),
            pending: vec![],
            spec,
        })
    }

    fn process(&mut self, batch: &Batch, out: &mut Output<'_>) -> Result<()> {
        let keys = self.keys.encode_columns(batch, &self.spec.key)?;
        self.state.load((0..batch.rows()).map(|row| keys.get(row)))?;
        let rows = self.rows.encode(batch.columns())?;
        let pass: Option<BooleanArray> = self.spec.filter.as_ref().map(|f| f.eval_mask(batch, out.context())).transpose()?;
        let mut changes = Changelog::default();
        for row in 0..batch.rows() {
            let (key, value) = (keys.get(row), rows.get(row));
            let before = self.state.get(key, out.now()).map(|(before, _)| before);
            if !batch.kind(row).is_addition() {
                if let Some(before) = before {
                    changes.stored(RowKind::Delete, before);
                    self.state.remove(key);
                }
                continue;
            }
            let passes = pass.as_ref().is_none_or(|p| p.is_valid_and_true(row));
            match before {
                None if !passes => continue,
                None => changes.input(RowKind::Insert, row),
                Some(before) if before == value && !self.state.has_ttl() => continue,
                Some(before) if !passes => {
                    changes.stored(RowKind::Delete, before);
                    self.state.remove(key);
                    continue;
                }
                Some(before) => {
                    if self.spec.emit_update_before {
                        changes.stored(RowKind::UpdateBefore, before);
                    }
                    changes.input(RowKind::UpdateAfter, row);
                }
            }
            self.state.put(key, value, 0, out.now());
        }
        out.emit(changes.finish(&self.rows, batch.columns())?);
        self.state.make_room()
    }
}

/// The last row of each key, in order.
fn last_rows(batch: &Batch, codec: &RowCodec, key: &[usize]) -> Result<Batch> {
    let keys = codec.encode_columns(batch, key)?;
    let mut seen = KeyMap::default();
    let mut rows: Vec<u32> = (0..batch.rows()).rev().filter(|r| seen.insert(keys.get(*r)).1).map(|r| r as u32).collect();
    rows.reverse();
    batch.take(&UInt32Array::from(rows))
}

impl Operator for ChangelogNormalize {
    fn name(&self) -> &'static str {
        "ChangelogNormalize"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if self.spec.mini_batch {
            self.pending.push(batch);
            return Ok(());
        }
        self.process(&batch, out)
    }

    fn spill(&mut self, memory: &Memory) -> bool {
        self.state.spill(memory);
        true
    }

    fn make_room(&mut self) -> Result<()> {
        self.state.make_room()
    }

    fn flush(&mut self, out: &mut Output<'_>) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let batch = Batch::concat(&std::mem::take(&mut self.pending))?;
        let last = last_rows(&batch, &self.keys, &self.spec.key)?;
        self.process(&last, out)
    }

    fn watermark(&mut self, _now: Millis, out: &mut Output<'_>) -> Result<()> {
        self.flush(out)
    }

    fn wants_ticks(&self) -> bool {
        self.state.has_ttl()
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        self.state.tick(now)
    }

    fn state_bytes(&self) -> usize {
        self.state.memory()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        self.state.snapshot("rows", out)
    }

    fn track_changes(&mut self) {
        self.state.track();
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        Ok(self.state.delta("rows", out))
    }

    fn restores_in_parts(&self) -> bool {
        true
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.state.restore("rows", input)
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::Expr;

    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    fn spec(filter: bool, mini_batch: bool) -> OperatorSpec {
        let input = types("string boolean");
        let filter = filter.then(|| Expr::column(1, input[1].clone()));
        OperatorSpec::ChangelogNormalize(ChangelogNormalizeSpec {
            input,
            key: vec![0],
            emit_update_before: true,
            filter,
            mini_batch,
            state_ttl: 0,
        })
    }

    #[test]
    fn last_row_a_key() {
        let t = types("string boolean");
        let mut h = Harness::new(spec(false, false));
        assert_lines!(h.send(0, &t, "+U a true; +U a true; +U a false; -D z NULL; b true"), "+I a true; -U a true; +U a false; +I b true");
        h.restart();
        assert_lines!(h.send(0, &t, "-D a NULL; a true"), "-D a false; +I a true");
    }

    #[test]
    fn filters_keep_only_what_passes() {
        let t = types("string boolean");
        let mut h = Harness::new(spec(true, false));
        assert_lines!(
            h.send(0, &t, "+U a false; +U a true; +U a NULL; +U a NULL; -D a NULL; +U a true"),
            "+I a true; -D a true; +I a true"
        );
    }

    #[test]
    fn mini_batches_see_the_last_row() {
        let t = types("string boolean");
        let mut h = Harness::new(spec(false, true));
        h.send(0, &t, "a true; b true");
        h.send(0, &t, "+U a false; -D b true");
        assert_lines!(h.flush(), "+I a false");
    }
}
