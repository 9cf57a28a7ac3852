//! Regular joins: both sides are kept, and each change of one side meets the rows of the other
//! (Flink: `StreamingJoinOperator`, `StreamingSemiAntiJoinOperator`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute;
use sluice_batch::algebra::JoinKind;
use sluice_batch::batch::Mask;
use sluice_batch::{Batch, Millis, Result, RowKind, SqlType};

use crate::join_state::JoinState;
use crate::memory::Memory;
use crate::rows::{EncodedRows, RowCodec, all_valid};
use crate::spec::JoinSpec;
use crate::spill::KeyedState;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, key_prefix};
use crate::{Operator, Output};

/// Candidate pairs that are evaluated at once.
const PAIRS: usize = 16_384;

pub struct Join {
    spec: JoinSpec,
    sides: [Side; 2],
    last_cleanup: Millis,
}

struct Side {
    types: Vec<SqlType>,
    keys: Vec<usize>,
    /// Key columns that do not match when they are NULL.
    not_null: Vec<usize>,
    upsert_key: Option<Vec<usize>>,
    /// Rows without a match go out with NULLs.
    outer: bool,
    key_codec: RowCodec,
    id_codec: Option<RowCodec>,
    row_codec: RowCodec,
    state: JoinState,
}

impl Side {
    fn new(
        types: &[SqlType],
        keys: &[usize],
        null_safe: &[bool],
        upsert_key: &Option<Vec<usize>>,
        outer: bool,
        ttl: Millis,
    ) -> Result<Self> {
        let id_codec = upsert_key.as_ref().map(|k| RowCodec::project(types, k)).transpose()?;
        Ok(Self {
            types: types.to_vec(),
            keys: keys.to_vec(),
            not_null: keys.iter().zip(null_safe).filter(|(_, safe)| !**safe).map(|(k, _)| *k).collect(),
            upsert_key: upsert_key.clone(),
            outer,
            key_codec: key_codec(types, keys)?,
            id_codec,
            row_codec: RowCodec::new(types)?,
            state: JoinState::new(ttl),
        })
    }
}

/// Keys of both sides have the same bytes when they are equal: the planner gives them the same type, nullability aside.
fn key_codec(types: &[SqlType], keys: &[usize]) -> Result<RowCodec> {
    RowCodec::project(types, keys)
}

/// One row out: an input row and a pair's other row, either of them NULLs.
#[derive(Default)]
struct Emitted {
    kinds: Vec<RowKind>,
    input: Vec<Option<u32>>,
    other: Vec<Option<u32>>,
}

impl Emitted {
    fn push(&mut self, kind: RowKind, input: Option<usize>, other: Option<usize>) {
        self.kinds.push(kind);
        self.input.push(input.map(|i| i as u32));
        self.other.push(other.map(|o| o as u32));
    }
}

/// Candidate pairs of a range of input rows: `other[starts[i]..starts[i + 1]]` belong to row `from + i`.
struct Pairs {
    from: usize,
    starts: Vec<usize>,
    other: Vec<u32>,
    /// Decoded rows of the other side, a row a pair.
    columns: Vec<ArrayRef>,
    pass: Option<BooleanArray>,
}

impl Pairs {
    fn of(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        let range = self.starts[row - self.from]..self.starts[row - self.from + 1];
        range.filter(|p| self.pass.as_ref().is_none_or(|m| m.is_valid_and_true(*p)))
    }
}

/// One input batch, encoded.
struct Encoded {
    keys: EncodedRows,
    ids: Option<EncodedRows>,
    rows: EncodedRows,
    /// Whether the key can match at all.
    valid: Option<Vec<bool>>,
}

impl Encoded {
    fn matchable(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|v| v[row])
    }
}

impl Join {
    pub fn new(spec: JoinSpec) -> Result<Self> {
        let (left_outer, right_outer) =
            (matches!(spec.kind, JoinKind::Left | JoinKind::Full), matches!(spec.kind, JoinKind::Right | JoinKind::Full));
        let left = Side::new(&spec.left, &spec.left_keys, &spec.null_safe, &spec.left_upsert_key, left_outer, spec.state_ttl.0)?;
        let right = Side::new(&spec.right, &spec.right_keys, &spec.null_safe, &spec.right_upsert_key, right_outer, spec.state_ttl.1)?;
        Ok(Self { spec, sides: [left, right], last_cleanup: 0 })
    }

    fn encode(&self, side: usize, batch: &Batch) -> Result<Encoded> {
        let s = &self.sides[side];
        let ids = match (&s.id_codec, &s.upsert_key) {
            (Some(codec), Some(columns)) => Some(codec.encode_columns(batch, columns)?),
            _ => None,
        };
        Ok(Encoded {
            keys: s.key_codec.encode_columns(batch, &s.keys)?,
            ids,
            rows: s.row_codec.encode(batch.columns())?,
            valid: all_valid(batch, &s.not_null),
        })
    }

    /// Pairs from row `from` on, until there are enough.
    fn pairs(&self, side: usize, batch: &Batch, encoded: &Encoded, from: usize, out: &Output<'_>) -> Result<Pairs> {
        let state = &self.sides[1 - side].state;
        let (mut starts, mut other, mut input) = (vec![0], vec![], vec![]);
        for row in from..batch.rows() {
            if encoded.matchable(row) {
                for id in state.find(encoded.keys.get(row)).iter().filter(|r| !state.is_expired(**r, out.now())) {
                    for _ in 0..state.row(*id).count {
                        other.push(*id);
                        input.push(row as u32);
                    }
                }
            }
            starts.push(other.len());
            if other.len() >= PAIRS {
                break;
            }
        }
        let columns = self.sides[1 - side].row_codec.decode(other.iter().map(|r| &*state.row(*r).row))?;
        let pass = match &self.spec.condition {
            Some(condition) if !other.is_empty() => {
                let input = crate::rows::take(batch.columns(), &UInt32Array::from(input))?;
                let (left, right) = if side == 0 { (&input, &columns) } else { (&columns, &input) };
                let pairs = Batch::new(left.iter().chain(right).cloned().collect(), other.len());
                Some(condition.eval_mask(&pairs, out.context())?)
            }
            _ => None,
        };
        Ok(Pairs { from, starts, other, columns, pass })
    }

    fn update_state(&mut self, side: usize, encoded: &Encoded, row: usize, addition: bool, matches: u32, now: Millis) {
        // A row that can match nothing need not be kept.
        if !encoded.matchable(row) {
            return;
        }
        let id = encoded.ids.as_ref().map(|i| i.get(row));
        let state = &mut self.sides[side].state;
        if addition {
            state.add(encoded.keys.get(row), encoded.rows.get(row), id, matches, now);
        } else {
            state.retract(encoded.keys.get(row), encoded.rows.get(row), id);
        }
    }

    /// One row of an inner or outer join.
    fn join_row(&mut self, side: usize, kind: RowKind, row: usize, pairs: &Pairs, emitted: &mut Emitted, now: Millis) -> u32 {
        let (input_outer, other_outer) = (self.sides[side].outer, self.sides[1 - side].outer);
        let addition = kind.is_addition();
        let pair_kind = match addition {
            true if input_outer || other_outer => RowKind::Insert,
            false if input_outer => RowKind::Delete,
            _ => kind,
        };
        let mut matches = 0;
        for pair in pairs.of(row) {
            matches += 1;
            let (id, other) = (pairs.other[pair], &mut self.sides[1 - side].state);
            let degree = if other_outer { other.row(id).matches } else { 0 };
            if addition {
                if other_outer {
                    if degree == 0 {
                        emitted.push(RowKind::Delete, None, Some(pair));
                    }
                    other.set_matches(id, degree + 1, now);
                }
                emitted.push(pair_kind, Some(row), Some(pair));
            } else {
                emitted.push(pair_kind, Some(row), Some(pair));
                if other_outer {
                    if degree == 1 {
                        emitted.push(RowKind::Insert, None, Some(pair));
                    }
                    other.set_matches(id, degree.saturating_sub(1), now);
                }
            }
        }
        if matches == 0 && input_outer {
            emitted.push(if addition { RowKind::Insert } else { RowKind::Delete }, Some(row), None);
        }
        matches
    }

    /// One row of a semi or anti join: left rows go out.
    fn semi_row(&mut self, side: usize, kind: RowKind, row: usize, pairs: &Pairs, emitted: &mut Emitted, now: Millis) -> u32 {
        let anti = self.spec.kind == JoinKind::Anti;
        if side == 0 {
            let matches = pairs.of(row).count() as u32;
            if (matches == 0) == anti {
                emitted.push(kind, Some(row), None);
            }
            return matches;
        }
        for pair in pairs.of(row) {
            let (id, left) = (pairs.other[pair], &mut self.sides[0].state);
            let degree = left.row(id).matches;
            if kind.is_addition() {
                if degree == 0 {
                    emitted.push(if anti { RowKind::Delete } else { kind }, None, Some(pair));
                }
                left.set_matches(id, degree + 1, now);
            } else {
                if degree == 1 {
                    emitted.push(if anti { RowKind::Insert } else { kind }, None, Some(pair));
                }
                left.set_matches(id, degree.saturating_sub(1), now);
            }
        }
        0
    }

    fn emit(&self, side: usize, batch: &Batch, pairs: &Pairs, emitted: Emitted, out: &mut Output<'_>) -> Result<()> {
        if emitted.kinds.is_empty() {
            return Ok(());
        }
        let rows = emitted.kinds.len();
        let semi = matches!(self.spec.kind, JoinKind::Semi | JoinKind::Anti);
        let pick = |columns: &[ArrayRef], picks: &[Option<u32>], types: &[SqlType]| -> Result<Vec<ArrayRef>> {
            if picks.iter().all(Option::is_none) {
                return Ok(types.iter().map(|t| new_null_array(&t.to_arrow(), rows)).collect());
            }
            let in_place = columns.first().is_none_or(|c| c.len() == rows) && picks.iter().enumerate().all(|(i, p)| *p == Some(i as u32));
            if in_place {
                return Ok(columns.to_vec());
            }
            let indices = UInt32Array::from(picks.to_vec());
            columns.iter().map(|c| Ok(compute::take(c, &indices, None)?)).collect()
        };
        let columns = if semi && side == 0 {
            pick(batch.columns(), &emitted.input, &self.sides[0].types)?
        } else {
            let mut other = pick(&pairs.columns, &emitted.other, &self.sides[1 - side].types)?;
            if semi {
                other
            } else {
                let mut input = pick(batch.columns(), &emitted.input, &self.sides[side].types)?;
                if side == 1 {
                    std::mem::swap(&mut input, &mut other);
                }
                input.extend(other);
                input
            }
        };
        out.emit(Batch::with_kinds(columns, Some(Arc::from(emitted.kinds)), rows));
        Ok(())
    }
}

impl Operator for Join {
    fn name(&self) -> &'static str {
        "Join"
    }

    fn batch(&mut self, side: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let encoded = self.encode(side, &batch)?;
        for s in &mut self.sides {
            s.state.load((0..batch.rows()).filter(|row| encoded.matchable(*row)).map(|row| encoded.keys.get(row)))?;
        }
        let semi = matches!(self.spec.kind, JoinKind::Semi | JoinKind::Anti);
        let mut from = 0;
        while from < batch.rows() {
            let pairs = self.pairs(side, &batch, &encoded, from, out)?;
            let to = from + pairs.starts.len() - 1;
            let mut emitted = Emitted::default();
            for row in from..to {
                let kind = batch.kind(row);
                let matches = if semi {
                    self.semi_row(side, kind, row, &pairs, &mut emitted, out.now())
                } else {
                    self.join_row(side, kind, row, &pairs, &mut emitted, out.now())
                };
                self.update_state(side, &encoded, row, kind.is_addition(), matches, out.now());
            }
            self.emit(side, &batch, &pairs, emitted, out)?;
            from = to;
        }
        Operator::make_room(self)
    }

    fn spill(&mut self, memory: &Memory) -> bool {
        self.sides.iter_mut().for_each(|s| s.state.spill(memory));
        true
    }

    fn make_room(&mut self) -> Result<()> {
        self.sides.iter_mut().try_for_each(|s| s.state.make_room())
    }

    fn wants_ticks(&self) -> bool {
        self.spec.state_ttl.0 > 0 || self.spec.state_ttl.1 > 0
    }

    fn tick(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        let ttl = self.spec.state_ttl.0.max(self.spec.state_ttl.1);
        if now >= self.last_cleanup.saturating_add((ttl / 4).max(1000)) {
            self.last_cleanup = now;
            self.sides.iter_mut().for_each(|s| s.state.expire(now));
        }
        self.sides.iter_mut().try_for_each(|s| s.state.sweep_some(now))
    }

    fn state_bytes(&self) -> usize {
        self.sides.iter().map(|s| s.state.memory()).sum()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        self.sides[0].state.snapshot("left", out)?;
        self.sides[1].state.snapshot("right", out)
    }

    fn track_changes(&mut self) {
        self.sides.iter_mut().for_each(|s| s.state.track());
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        let [left, right] = &mut self.sides;
        let (left, right) = (left.state.delta("left", out), right.state.delta("right", out));
        Ok(left && right)
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restores_in_parts(&self) -> bool {
        true
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.sides[0].state.restore("left", input)?;
        self.sides[1].state.restore("right", input)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use sluice_batch::{Expr, ExprKind};

    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    pub fn spec(kind: JoinKind) -> JoinSpec {
        JoinSpec {
            kind,
            left: types("int string"),
            right: types("int string"),
            left_keys: vec![0],
            right_keys: vec![0],
            null_safe: vec![false],
            condition: None,
            left_upsert_key: None,
            right_upsert_key: None,
            state_ttl: (0, 0),
        }
    }

    #[test]
    fn inner() {
        let t = types("int string");
        let mut h = Harness::new(OperatorSpec::Join(spec(JoinKind::Inner)));
        assert_lines!(h.send(0, &t, "1 a; 2 b; NULL n; 1 a"), "");
        assert_lines!(h.send(1, &t, "1 x; 3 y; NULL n"), "+I 1 a 1 x; +I 1 a 1 x");
        h.restart();
        assert_lines!(h.send(0, &t, "-D 1 a; +U 3 c; -D 9 z"), "-D 1 a 1 x; +U 3 c 3 y");
        assert_lines!(h.send(1, &t, "-U 1 x; +U 1 z"), "-U 1 a 1 x; +U 1 a 1 z");
    }

    #[test]
    fn outer_rows_are_padded_and_taken_back() {
        let t = types("int string");
        let mut h = Harness::new(OperatorSpec::Join(spec(JoinKind::Left)));
        assert_lines!(h.send(0, &t, "1 a; NULL n"), "+I 1 a NULL NULL; +I NULL n NULL NULL");
        assert_lines!(h.send(1, &t, "1 x; 1 y"), "-D 1 a NULL NULL; +I 1 a 1 x; +I 1 a 1 y");
        h.restart();
        assert_lines!(h.send(1, &t, "-D 1 x; -D 1 y"), "-D 1 a 1 x; -D 1 a 1 y; +I 1 a NULL NULL");
        assert_lines!(h.send(0, &t, "-D 1 a; -D NULL n"), "-D 1 a NULL NULL; -D NULL n NULL NULL");
        let mut h = Harness::new(OperatorSpec::Join(spec(JoinKind::Full)));
        assert_lines!(h.send(0, &t, "1 a"), "+I 1 a NULL NULL");
        assert_lines!(h.send(1, &t, "1 x; 2 y"), "-D 1 a NULL NULL; +I 1 a 1 x; +I NULL NULL 2 y");
        assert_lines!(h.send(0, &t, "-D 1 a; 2 b"), "-D 1 a 1 x; +I NULL NULL 1 x; -D NULL NULL 2 y; +I 2 b 2 y");
    }

    #[test]
    fn semi_and_anti() {
        let t = types("int string");
        let mut h = Harness::new(OperatorSpec::Join(spec(JoinKind::Semi)));
        assert_lines!(h.send(0, &t, "1 a; 2 b"), "");
        assert_lines!(h.send(1, &t, "1 x; 1 y"), "+I 1 a");
        assert_lines!(h.send(1, &t, "-D 1 x; -D 1 y"), "-D 1 a");
        let mut h = Harness::new(OperatorSpec::Join(spec(JoinKind::Anti)));
        assert_lines!(h.send(0, &t, "1 a; NULL b"), "+I 1 a; +I NULL b");
        assert_lines!(h.send(1, &t, "1 x; -D 1 x"), "-D 1 a; +I 1 a");
    }

    #[test]
    fn conditions_upsert_keys_and_ttl() {
        let t = types("int boolean");
        let mut s = spec(JoinKind::Left);
        (s.left, s.right) = (t.clone(), t.clone());
        let boolean = t[1].clone();
        s.condition = Some(Expr { kind: ExprKind::Not(Box::new(Expr::column(3, boolean.clone()))), ty: boolean });
        let mut h = Harness::new(OperatorSpec::Join(s));
        h.send(1, &t, "1 true; 1 false; 1 NULL");
        assert_lines!(h.send(0, &t, "1 true; 2 true"), "+I 1 true 1 false; +I 2 true NULL NULL");

        let t = types("int string");
        let mut s = spec(JoinKind::Inner);
        s.left_upsert_key = Some(vec![0]);
        s.state_ttl = (1000, 0);
        let mut h = Harness::new(OperatorSpec::Join(s));
        h.send(0, &t, "1 a; +U 1 b");
        assert_lines!(h.send(1, &t, "1 x"), "+I 1 b 1 x");
        h.context.now = 1000;
        assert_lines!(h.send(1, &t, "1 y"), "");
        h.tick(5000);
        assert_lines!(h.send(0, &t, "1 c"), "+I 1 c 1 x; +I 1 c 1 y");
    }
}
