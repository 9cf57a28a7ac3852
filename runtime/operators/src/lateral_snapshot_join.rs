//! Joins each left row with the right table as it is when the row comes, after the table has been loaded: until then left rows wait
//! (Flink: `LateralSnapshotJoinOperator`).

use sluice_batch::{Batch, Error, Millis, Result, WATERMARK_MAX, WATERMARK_NONE};

use crate::join_rows::{SideKey, joined, nulls, passed, passing, rows_at};
use crate::join_state::JoinState;
use crate::rows::RowCodec;
use crate::spec::LateralSnapshotSpec;
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix, take_bytes, take_i64};
use crate::time::rowtimes;
use crate::time_buffer::TimeBuffer;
use crate::{Operator, Output};

pub struct LateralSnapshotJoin {
    spec: LateralSnapshotSpec,
    outer: bool,
    keys: [SideKey; 2],
    codec: RowCodec,
    /// The right table.
    table: JoinState,
    /// Changes of the right table that wait for its watermark.
    changes: TimeBuffer,
    /// Left rows that wait until the table is loaded, all at time 0.
    waiting: TimeBuffer,
    loaded: bool,
    /// When the right side's watermark gets here the table is loaded; not set: the time at which the job first ran.
    load_until: Option<Millis>,
    idle_timeout: Option<Millis>,
    /// Processing time at which the right side counts as idle.
    idle_at: Option<Millis>,
    state_ttl: Millis,
    /// Processing time when the table was loaded.
    loaded_at: Millis,
    watermarks: [Millis; 2],
    last_cleanup: Millis,
}

impl LateralSnapshotJoin {
    pub fn new(spec: LateralSnapshotSpec) -> Result<Self> {
        let text = |name: &str| spec.args.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let millis = |name: &str| -> Result<Option<Millis>> {
            let Some(text) = text(name) else { return Ok(None) };
            let value = text.parse().ok().filter(|v: &Millis| *v >= 0);
            value.map(Some).ok_or_else(|| Error::plan(format!("Argument '{name}' of SNAPSHOT must not be negative, but is {text}")))
        };
        let time = millis("load_completed_time")?;
        let load_until = match (text("load_completed_condition").unwrap_or("compile_time"), time) {
            ("user_time", Some(time)) => Some(time),
            ("compile_time", None) => None,
            ("user_time", None) => {
                return Err(Error::plan("SNAPSHOT requires 'load_completed_time' when 'load_completed_condition' is 'user_time'."));
            }
            ("compile_time", Some(_)) => {
                let message = "SNAPSHOT does not accept 'load_completed_time' when 'load_completed_condition' is not 'user_time'.";
                return Err(Error::plan(message));
            }
            (other, _) => {
                let message = "Argument 'load_completed_condition' of SNAPSHOT must be one of 'compile_time', 'user_time'";
                return Err(Error::plan(format!("{message} but was '{other}'.")));
            }
        };
        if spec.join.left_keys.is_empty() {
            return Err(Error::plan("LATERAL SNAPSHOT join requires at least one equality predicate."));
        }
        let state_ttl = millis("state_ttl")?.unwrap_or(spec.join.state_ttl.1);
        Ok(Self {
            outer: spec.join.kind == sluice_batch::algebra::JoinKind::Left,
            keys: [SideKey::new(&spec.join, 0)?, SideKey::new(&spec.join, 1)?],
            codec: RowCodec::new(&spec.join.right)?,
            table: JoinState::new(state_ttl),
            changes: TimeBuffer::new(&spec.join.right, &spec.join.right_keys)?,
            waiting: TimeBuffer::new(&spec.join.left, &spec.join.left_keys)?,
            loaded: false,
            load_until,
            idle_timeout: millis("load_completed_idle_timeout")?,
            idle_at: None,
            state_ttl,
            loaded_at: 0,
            watermarks: [WATERMARK_NONE; 2],
            last_cleanup: 0,
            spec,
        })
    }

    /// Whether rows may be too old by now: not just after the table was loaded.
    fn expires(&self, now: Millis) -> bool {
        self.state_ttl > 0 && self.loaded && now >= self.loaded_at.saturating_add(self.state_ttl)
    }

    /// Changes of the right table up to a time become visible.
    fn apply(&mut self, until: Millis, now: Millis) -> Result<()> {
        let Some(due) = self.changes.take(until)? else { return Ok(()) };
        let keys = self.keys[1].encode(&due.batch)?;
        let rows = self.codec.encode(due.batch.columns())?;
        for row in 0..due.batch.rows() {
            let Some(key) = keys.get(row) else { continue };
            match due.batch.kind(row).is_addition() {
                true => self.table.add(key, rows.get(row), None, 0, now),
                false => self.table.retract(key, rows.get(row), None),
            }
        }
        Ok(())
    }

    /// Without a watermark of the right side there is nothing to wait for.
    fn apply_unordered(&mut self, now: Millis) -> Result<()> {
        if self.loaded && self.watermarks[1] == WATERMARK_NONE { self.apply(WATERMARK_MAX, now) } else { Ok(()) }
    }

    fn join(&mut self, batch: &Batch, out: &mut Output<'_>) -> Result<()> {
        let now = out.now();
        let keys = self.keys[0].encode(batch)?;
        let expires = self.expires(now);
        let (mut left, mut right) = (vec![], vec![]);
        for row in 0..batch.rows() {
            let Some(key) = keys.get(row) else { continue };
            for id in self.table.find(key) {
                if !expires || !self.table.is_expired(*id, now) {
                    let count = self.table.row(*id).count as usize;
                    left.extend(std::iter::repeat_n(row as u32, count));
                    right.extend(std::iter::repeat_n(*id, count));
                }
            }
        }
        let rows = left.len();
        let right_columns = self.codec.decode(right.iter().map(|id| &*self.table.row(*id).row))?;
        if self.state_ttl > 0 {
            right.iter().for_each(|id| self.table.set_matches(*id, 0, now));
        }
        let left_columns = rows_at(batch.columns(), left.clone())?;
        let mask = passing(self.spec.join.condition.as_ref(), &left_columns, &right_columns, rows, out.context())?;
        let mut matched = vec![false; batch.rows()];
        (0..rows).filter(|p| passed(&mask, *p)).for_each(|p| matched[left[p] as usize] = true);
        let pairs = joined(left_columns, right_columns, rows);
        out.emit(if let Some(mask) = &mask { pairs.filter(mask)? } else { pairs });
        if self.outer {
            let lonely: Vec<u32> = (0..batch.rows()).filter(|r| !matched[*r]).map(|r| r as u32).collect();
            let rows = lonely.len();
            out.emit(joined(rows_at(batch.columns(), lonely)?, nulls(&self.spec.join.right, rows), rows));
        }
        Ok(())
    }

    /// The table is loaded: rows that waited meet it.
    fn finish_loading(&mut self, out: &mut Output<'_>) -> Result<()> {
        (self.loaded, self.loaded_at) = (true, out.now());
        self.idle_at = None;
        self.apply_unordered(out.now())?;
        if let Some(due) = self.waiting.take(WATERMARK_MAX)? {
            self.join(&due.batch, out)?;
        }
        self.forward(out);
        Ok(())
    }

    /// Only the left side's time goes downstream. Its end is passed on by the task.
    fn forward(&self, out: &mut Output<'_>) {
        if self.loaded && self.watermarks[0] != WATERMARK_NONE && self.watermarks[0] != WATERMARK_MAX {
            out.emit_watermark(self.watermarks[0]);
        }
    }

    fn start(&mut self, out: &Output<'_>) {
        if self.load_until.is_none() {
            self.load_until = Some(out.now());
        }
    }
}

impl Operator for LateralSnapshotJoin {
    fn name(&self) -> &'static str {
        "LateralSnapshotJoin"
    }

    fn batch(&mut self, side: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        self.start(out);
        if side == 1 {
            if !self.loaded && self.idle_at.is_none() {
                self.idle_at = self.idle_timeout.map(|t| out.now().saturating_add(t));
            }
            let times = rowtimes(batch.column(self.spec.right_time))?;
            return self.changes.push(batch, &times);
        }
        if !self.loaded {
            let times = vec![0; batch.rows()];
            return self.waiting.push(batch, &times);
        }
        self.apply_unordered(out.now())?;
        self.join(&batch, out)
    }

    fn input_watermark(&mut self, side: usize, now: Millis, out: &mut Output<'_>) -> Result<()> {
        self.start(out);
        self.watermarks[side] = self.watermarks[side].max(now);
        if side == 0 {
            self.forward(out);
            return Ok(());
        }
        self.apply(self.watermarks[1], out.now())?;
        if self.loaded {
            return Ok(());
        }
        if self.load_until.is_some_and(|until| self.watermarks[1] >= until) {
            return self.finish_loading(out);
        }
        self.idle_at = self.idle_timeout.map(|t| out.now().saturating_add(t));
        Ok(())
    }

    fn output_watermark(&self, now: Millis) -> Millis {
        match self.loaded {
            false => WATERMARK_NONE,
            true if now == WATERMARK_MAX => now,
            true => self.watermarks[0],
        }
    }

    fn wants_ticks(&self) -> bool {
        self.idle_timeout.is_some() || self.state_ttl > 0
    }

    fn tick(&mut self, now: Millis, out: &mut Output<'_>) -> Result<()> {
        if !self.loaded && self.idle_at.is_some_and(|at| now >= at) {
            self.finish_loading(out)?;
        }
        if self.expires(now) && now >= self.last_cleanup.saturating_add((self.state_ttl / 4).max(1000)) {
            self.last_cleanup = now;
            self.table.expire(now);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.table.memory() + self.changes.memory() + self.waiting.memory()
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        let mut value = vec![u8::from(self.loaded)];
        value.extend_from_slice(&self.load_until.unwrap_or(Millis::MIN).to_be_bytes());
        out.put("phase", vec![], value);
        self.table.snapshot("table", out)?;
        self.changes.snapshot("changes", out)?;
        self.waiting.snapshot("waiting", out)
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        for (_, mut value) in input.rows("phase") {
            self.loaded = take_bytes(&mut value, 1)?[0] == 1;
            let until = take_i64(&mut value)?;
            // A time in the statement wins: it may have been changed.
            self.load_until = self.load_until.or(Some(until).filter(|u| *u != Millis::MIN));
        }
        self.table.restore("table", input)?;
        self.changes.restore("changes", input)?;
        self.waiting.restore("waiting", input)
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::algebra::JoinKind;

    use super::*;
    use crate::assert_lines;
    use crate::spec::{JoinSpec, OperatorSpec};
    use crate::testing::{Harness, types};

    fn spec(kind: JoinKind, args: &[(&str, &str)]) -> LateralSnapshotSpec {
        let join = JoinSpec { left: types("int string"), right: types("int string ts"), ..crate::join::tests::spec(kind) };
        let args = args.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect();
        LateralSnapshotSpec { join, right_time: 2, args }
    }

    /// The rows of a table have no order.
    fn sorted(mut lines: Vec<String>) -> Vec<String> {
        lines.sort();
        lines
    }

    const USER_TIME: [(&str, &str); 2] = [("load_completed_condition", "user_time"), ("load_completed_time", "100")];

    #[test]
    fn left_rows_wait_until_the_table_is_loaded() {
        let (l, r) = (types("int string"), types("int string ts"));
        let mut h = Harness::new(OperatorSpec::LateralSnapshotJoin(spec(JoinKind::Left, &USER_TIME)));
        assert_lines!(h.send(0, &l, "1 a; 2 b"), "");
        h.send(1, &r, "1 x 90; 1 y 95; 1 z 110");
        assert_lines!(h.input_watermark(0, 50), "");
        assert_lines!(h.input_watermark(1, 99), "");
        h.restart();
        assert_eq!(h.operator.output_watermark(40), WATERMARK_NONE);
        assert_lines!(h.input_watermark(0, 50), "");
        assert_lines!(sorted(h.input_watermark(1, 100)), "+I 1 a 1 x 90; +I 1 a 1 y 95; +I 2 b NULL NULL NULL; wm 50");
        h.restart();
        // The row of 110 is not valid yet.
        assert_lines!(h.input_watermark(1, 105), "");
        h.send(1, &r, "-U 1 x 104; -U 1 x 90; +U 1 w 104");
        assert_lines!(sorted(h.send(0, &l, "1 c")), "+I 1 c 1 x 90; +I 1 c 1 y 95");
        h.input_watermark(1, 110);
        assert_eq!(h.send(0, &l, "1 d").len(), 3);
        assert_lines!(h.input_watermark(0, 60), "wm 60");
    }

    #[test]
    fn idle_tables_count_as_loaded() {
        let (l, r) = (types("int string"), types("int string ts"));
        let mut h = Harness::new(OperatorSpec::LateralSnapshotJoin(spec(JoinKind::Inner, &[("load_completed_idle_timeout", "1000")])));
        h.context.now = 5000;
        h.send(0, &l, "1 a");
        h.send(1, &r, "1 x 90");
        assert_lines!(h.tick(5999), "");
        assert_lines!(h.tick(6000), "+I 1 a 1 x 90");
    }

    #[test]
    fn arguments_are_checked() {
        let error = |args: &[(&str, &str)]| LateralSnapshotJoin::new(spec(JoinKind::Inner, args)).err().map(|e| e.to_string());
        assert!(error(&USER_TIME).is_none());
        assert!(error(&USER_TIME[..1]).is_some_and(|e| e.contains("requires")));
        assert!(error(&USER_TIME[1..]).is_some_and(|e| e.contains("does not accept")));
        assert!(error(&[("load_completed_condition", "x")]).is_some_and(|e| e.contains("one of")));
        assert!(error(&[("state_ttl", "-1")]).is_some_and(|e| e.contains("negative")));
    }
}
