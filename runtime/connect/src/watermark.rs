//! Watermarks made by a source, per split (Flink: `WatermarkAssignerOperator`, `WatermarkOutputMultiplexer`, `WatermarksWithIdleness`).

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use sluice_batch::{Batch, Error, EvalContext, Millis, Result, RowKind, WATERMARK_NONE};

use crate::progress::RecordEnd;
use crate::{SourceEvent, WatermarkSpec};

/// Follows the watermarks of a source's splits and says when time moves on.
///
/// The watermark of a split is the greatest that one of its rows allowed; the source's is the least over the splits that are neither
/// idle nor finished, and never falls. It is given every [`WatermarkSpec::interval`] of the task's clock, or with `on-event` right behind
/// the row that raised it.
pub struct Watermarks {
    spec: WatermarkSpec,
    context: EvalContext,
    splits: Vec<Split>,
    /// What was given last.
    combined: Millis,
    last_given: Option<Millis>,
    last_tick: Option<Millis>,
    /// The task knows that all splits are idle.
    idle: bool,
}

struct Split {
    watermark: Millis,
    /// Time without rows, counted in the task's clock while it polls.
    quiet: i64,
    idle: bool,
    finished: bool,
}

impl Watermarks {
    pub fn new(spec: WatermarkSpec, time_zone: chrono_tz::Tz) -> Self {
        let context = EvalContext { time_zone, ..EvalContext::default() };
        Self { spec, context, splits: vec![], combined: WATERMARK_NONE, last_given: None, last_tick: None, idle: false }
    }

    /// Adds a split; it holds time back until it has rows or becomes idle.
    pub fn add_split(&mut self) -> usize {
        self.splits.push(Split { watermark: WATERMARK_NONE, quiet: 0, idle: false, finished: false });
        self.splits.len() - 1
    }

    /// A bounded split has ended: it holds nothing back any more.
    pub fn finish_split(&mut self, split: usize) {
        if let Some(split) = self.splits.get_mut(split) {
            split.finished = true;
        }
    }

    pub fn split_watermark(&self, split: usize) -> Option<Millis> {
        self.splits.get(split).map(|s| s.watermark).filter(|w| *w != WATERMARK_NONE)
    }

    pub fn split_idle(&self, split: usize) -> bool {
        self.splits.get(split).is_some_and(|s| s.idle)
    }

    /// Takes note of rows that are about to be given. `records` says which rows are of which split; with `one_split` all are of the first.
    /// With `on-event`, `cuts` gets the places where a watermark must follow: (number of records before it, watermark).
    ///
    /// # Errors
    /// If a row's rowtime is NULL (rows that delete by key excepted), or the expression fails.
    pub fn observe(
        &mut self,
        batch: &Batch,
        records: &[RecordEnd],
        one_split: bool,
        now: Millis,
        cuts: &mut Vec<(usize, Millis)>,
    ) -> Result<()> {
        self.check_rowtime(batch)?;
        self.context.now = now;
        let marks = MillisColumn::new(self.spec.expr.eval_array(batch, &self.context)?)?;
        let mut row = 0;
        for (at, record) in records.iter().enumerate() {
            let end = record.end as usize;
            if end == row {
                continue;
            }
            let mut high = WATERMARK_NONE;
            for i in row..end {
                high = high.max(marks.get(i));
            }
            row = end;
            let index = if one_split { 0 } else { record.split as usize };
            let Some(split) = self.splits.get_mut(index) else { continue };
            split.quiet = 0;
            let woken = std::mem::take(&mut split.idle);
            if high > split.watermark {
                split.watermark = high;
            }
            if self.spec.on_event
                && (high == split.watermark || woken)
                && let Some(minimum) = self.minimum()
                && minimum > self.combined
            {
                self.combined = minimum;
                self.idle = false;
                cuts.push((at + 1, minimum));
            }
        }
        Ok(())
    }

    fn check_rowtime(&self, batch: &Batch) -> Result<()> {
        let Some(column) = batch.columns().get(self.spec.column) else { return Ok(()) };
        if column.null_count() == 0 {
            return Ok(());
        }
        // A tombstone has only its key; its time is the old row's, which the normalising operator knows.
        let bad = (0..batch.rows()).any(|i| column.is_null(i) && batch.kind(i) != RowKind::Delete);
        if bad {
            return Err(Error::runtime(
                "the rowtime column is NULL; it needs a value in every row (filter such rows out, or give a default)",
            ));
        }
        Ok(())
    }

    /// The least watermark over the splits that count; `None` if none counts.
    fn minimum(&self) -> Option<Millis> {
        self.splits.iter().filter(|s| !s.idle && !s.finished).map(|s| s.watermark).min()
    }

    /// Moves the idle clocks, and answers with the watermark or idleness that is due. To be called once a poll, after its rows were
    /// observed and given.
    pub fn tick(&mut self, now: Millis) -> Option<SourceEvent> {
        let fallen_idle = self.age(now);
        let Some(minimum) = self.minimum() else {
            // Splits that fall idle at the same moment do so in the order of their watermarks: the last one's counts.
            if fallen_idle > self.combined {
                self.last_given = Some(now);
                self.combined = fallen_idle;
                return Some(SourceEvent::Watermark(fallen_idle));
            }
            let all_idle = self.splits.iter().any(|s| s.idle) && self.splits.iter().all(|s| s.idle || s.finished);
            if all_idle && !self.idle {
                self.idle = true;
                return Some(SourceEvent::Idle);
            }
            return None;
        };
        self.idle = false;
        if minimum <= self.combined {
            return None;
        }
        let due = self.last_given.is_none_or(|t| now.saturating_sub(t) >= millis(self.spec.interval));
        // Becoming idle or finished can raise the minimum without a row: also with on-event it is given then.
        if !due && !self.spec.on_event {
            return None;
        }
        self.last_given = Some(now);
        self.combined = minimum;
        Some(SourceEvent::Watermark(minimum))
    }

    /// Time that passed since the last poll counts as quiet, but at most a quarter of the timeout a poll: a task that was busy elsewhere
    /// does not make its splits idle (FLIP-471). Answers the greatest watermark of the splits that became idle now.
    fn age(&mut self, now: Millis) -> Millis {
        let timeout = millis(self.spec.idle_timeout);
        let passed = self.last_tick.map_or(0, |t| now.saturating_sub(t).max(0));
        self.last_tick = Some(now);
        let mut fallen_idle = WATERMARK_NONE;
        if timeout == 0 {
            return fallen_idle;
        }
        let passed = passed.min((timeout / 4).max(1));
        for split in self.splits.iter_mut().filter(|s| !s.finished) {
            split.quiet += passed;
            if split.quiet >= timeout && !std::mem::replace(&mut split.idle, true) {
                fallen_idle = fallen_idle.max(split.watermark);
            }
        }
        fallen_idle
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A TIMESTAMP column as milliseconds; NULL is no watermark.
struct MillisColumn {
    array: ArrayRef,
    per_milli: i64,
}

impl MillisColumn {
    fn new(array: ArrayRef) -> Result<Self> {
        let per_milli = match array.data_type() {
            DataType::Timestamp(TimeUnit::Millisecond, _) => 1,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000,
            other => return Err(Error::runtime(format!("a watermark must be a TIMESTAMP, but is kept as {other}"))),
        };
        Ok(Self { array, per_milli })
    }

    #[inline]
    fn get(&self, row: usize) -> Millis {
        if self.array.is_null(row) {
            return WATERMARK_NONE;
        }
        let raw = match self.per_milli {
            1 => self.array.as_primitive::<TimestampMillisecondType>().value(row),
            1_000 => self.array.as_primitive::<TimestampMicrosecondType>().value(row),
            _ => self.array.as_primitive::<TimestampNanosecondType>().value(row),
        };
        raw.div_euclid(self.per_milli)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use arrow::array::TimestampMicrosecondArray;
    use sluice_batch::{Expr, TypeKind};

    use super::*;

    fn spec(on_event: bool, idle: u64) -> WatermarkSpec {
        WatermarkSpec {
            expr: Expr::column(0, TypeKind::Timestamp(3).nullable()),
            column: 0,
            on_event,
            interval: Duration::from_millis(200),
            idle_timeout: Duration::from_millis(idle),
        }
    }

    /// Rows as (split, time in ms).
    fn rows(rows: &[(u32, i64)]) -> (Batch, Vec<RecordEnd>) {
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(_, t)| t * 1000));
        let ends = rows.iter().zip(1..).map(|((split, _), end)| RecordEnd { split: *split, end, next: 0 }).collect();
        (Batch::new(vec![Arc::new(times)], rows.len()), ends)
    }

    fn marks(spec: WatermarkSpec, splits: usize) -> Watermarks {
        let mut w = Watermarks::new(spec, chrono_tz::Tz::UTC);
        (0..splits).for_each(|_| {
            w.add_split();
        });
        w
    }

    fn observe(w: &mut Watermarks, data: &[(u32, i64)], now: i64) -> Vec<(usize, Millis)> {
        let (batch, ends) = rows(data);
        let mut cuts = vec![];
        w.observe(&batch, &ends, false, now, &mut cuts).unwrap();
        cuts
    }

    fn watermark(event: Option<SourceEvent>) -> Option<Millis> {
        match event {
            Some(SourceEvent::Watermark(w)) => Some(w),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn periodic_is_the_minimum_of_the_maxima() {
        let mut w = marks(spec(false, 0), 2);
        assert!(observe(&mut w, &[(0, 50), (0, 70), (0, 60)], 0).is_empty());
        assert_eq!(watermark(w.tick(0)), None, "split 1 has no rows");
        observe(&mut w, &[(1, 40)], 10);
        assert_eq!(watermark(w.tick(10)), Some(40));
        observe(&mut w, &[(1, 65)], 20);
        assert_eq!(watermark(w.tick(20)), None, "200 ms have not passed");
        assert_eq!(watermark(w.tick(210)), Some(65));
        w.finish_split(1);
        assert_eq!(watermark(w.tick(500)), Some(70));
    }

    #[test]
    fn on_event_cuts_behind_each_row_that_raises_the_minimum() {
        let mut w = marks(spec(true, 0), 2);
        let cuts = observe(&mut w, &[(0, 5), (1, 3), (1, 4), (1, 4), (0, 9), (1, 8)], 0);
        assert_eq!(cuts, [(2, 3), (3, 4), (6, 8)]);
        assert_eq!(watermark(w.tick(1000)), None);
    }

    #[test]
    fn negative_times_round_down_and_null_rowtime_fails() {
        let mut w = marks(spec(true, 0), 1);
        let batch = Batch::new(vec![Arc::new(TimestampMicrosecondArray::from(vec![-1]))], 1);
        let mut cuts = vec![];
        w.observe(&batch, &[RecordEnd { split: 0, end: 1, next: 0 }], true, 0, &mut cuts).unwrap();
        assert_eq!(cuts, [(1, -1)]);
        let batch = Batch::new(vec![Arc::new(TimestampMicrosecondArray::from(vec![None]))], 1);
        assert!(w.observe(&batch, &[RecordEnd { split: 0, end: 1, next: 0 }], true, 0, &mut cuts).is_err());
    }

    #[test]
    fn quiet_splits_become_idle_and_wake_up() {
        let mut w = marks(spec(false, 1000), 2);
        observe(&mut w, &[(0, 10)], 0);
        assert_eq!(watermark(w.tick(0)), None);
        let mut given = vec![];
        for now in (100..=1500).step_by(100) {
            observe(&mut w, &[(0, now)], now);
            given.extend(watermark(w.tick(now)));
        }
        assert!(w.split_idle(1) && !w.split_idle(0));
        assert_eq!(given.first(), Some(&1000));
        let mut idle = 0;
        for now in (1600..4000).step_by(100) {
            idle += usize::from(matches!(w.tick(now), Some(SourceEvent::Idle)));
        }
        assert_eq!(idle, 1);
        observe(&mut w, &[(1, 5000)], 4000);
        assert_eq!(watermark(w.tick(4000)), Some(5000), "split 0 is still idle");
    }

    #[test]
    fn splits_that_fall_idle_together_hold_nothing_back() {
        let mut w = marks(spec(true, 1000), 3);
        assert!(observe(&mut w, &[(0, 20), (1, 10)], 0).is_empty());
        let events: Vec<_> = (0..4000).step_by(100).filter_map(|now| w.tick(now)).collect();
        assert!(matches!(events[..], [SourceEvent::Watermark(20), SourceEvent::Idle]), "{events:?}");
    }

    #[test]
    fn a_busy_task_is_no_idle_source() {
        let mut w = marks(spec(false, 1000), 1);
        observe(&mut w, &[(0, 10)], 0);
        w.tick(0);
        assert!(!matches!(w.tick(60_000), Some(SourceEvent::Idle)));
        assert!(!w.split_idle(0));
    }
}
