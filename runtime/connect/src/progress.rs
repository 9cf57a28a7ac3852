//! What a source has read but not yet given, where each split stands, and its watermarks.

use std::collections::VecDeque;

use sluice_batch::{Batch, Millis, Result};

use crate::watermark::Watermarks;
use crate::{ScanRequest, SourceEvent, SplitStatus};

/// Where a record ended.
#[derive(Clone, Copy, Debug)]
pub struct RecordEnd {
    pub split: u32,
    /// Rows of the batch up to and with this record's.
    pub end: u32,
    /// The split's position behind the record.
    pub next: i64,
}

/// The events that a source owes its task. Positions move with what is *given*, so that a snapshot between two events is right.
pub(crate) struct Progress {
    splits: Vec<(String, i64)>,
    watermarks: Option<Watermarks>,
    /// All splits count as one for watermarks: the connector's splits have no order of their own (files).
    one_split: bool,
    pending: VecDeque<(SourceEvent, usize)>,
    records: Vec<RecordEnd>,
    given: usize,
    cuts: Vec<(usize, Millis)>,
}

impl Progress {
    pub fn new(request: &ScanRequest, one_split: bool) -> Self {
        let mut watermarks = request.watermark.clone().map(|spec| Watermarks::new(spec, request.time_zone));
        if one_split && let Some(w) = &mut watermarks {
            w.add_split();
        }
        Self { splits: vec![], watermarks, one_split, pending: VecDeque::new(), records: vec![], given: 0, cuts: vec![] }
    }

    /// Adds a split that is read from `position` on.
    pub fn add_split(&mut self, name: String, position: i64) -> u32 {
        if !self.one_split
            && let Some(w) = &mut self.watermarks
        {
            w.add_split();
        }
        self.splits.push((name, position));
        (self.splits.len() - 1) as u32
    }

    pub fn finish_split(&mut self, split: u32) {
        if !self.one_split
            && let Some(w) = &mut self.watermarks
        {
            w.finish_split(split as usize);
        }
    }

    pub fn position(&self, split: u32) -> i64 {
        self.splits.get(split as usize).map_or(0, |s| s.1)
    }

    pub fn set_position(&mut self, split: u32, position: i64) {
        if let Some(split) = self.splits.get_mut(split as usize) {
            split.1 = position;
        }
    }

    pub fn positions(&self) -> impl Iterator<Item = (&str, i64)> {
        self.splits.iter().map(|(name, position)| (name.as_str(), *position))
    }

    /// The buffer for the next batch's records; to be filled and handed back to [`Progress::give`].
    pub fn take_records(&mut self) -> Vec<RecordEnd> {
        let mut records = std::mem::take(&mut self.records);
        records.clear();
        records
    }

    /// Takes rows to be given. Everything from before must have been given.
    ///
    /// # Errors
    /// If a watermark cannot be made of a row.
    pub fn give(&mut self, batch: Batch, records: Vec<RecordEnd>, now: Millis) -> Result<()> {
        debug_assert!(self.pending.is_empty());
        (self.records, self.given) = (records, 0);
        if batch.is_empty() {
            self.advance(self.records.len());
            return Ok(());
        }
        self.cuts.clear();
        if let Some(w) = &mut self.watermarks {
            w.observe(&batch, &self.records, self.one_split, now, &mut self.cuts)?;
        }
        let mut row = 0;
        for (records, watermark) in &self.cuts {
            let end = self.records[*records - 1].end as usize;
            self.pending.push_back((SourceEvent::Rows(batch.slice(row, end - row)), *records));
            self.pending.push_back((SourceEvent::Watermark(*watermark), *records));
            row = end;
        }
        let all = self.records.len();
        if row == 0 {
            self.pending.push_back((SourceEvent::Rows(batch), all));
        } else if row < batch.rows() {
            self.pending.push_back((SourceEvent::Rows(batch.slice(row, batch.rows() - row)), all));
        } else if let Some(last) = self.pending.back_mut() {
            last.1 = all;
        }
        Ok(())
    }

    fn advance(&mut self, records: usize) {
        for record in &self.records[self.given..records] {
            if let Some(split) = self.splits.get_mut(record.split as usize) {
                split.1 = record.next;
            }
        }
        self.given = records;
    }

    /// Rows and watermarks that are owed.
    pub fn next_pending(&mut self) -> Option<SourceEvent> {
        let (event, records) = self.pending.pop_front()?;
        self.advance(records);
        Some(event)
    }

    /// The watermark or idleness that is due by the clock.
    pub fn tick(&mut self, now: Millis) -> Option<SourceEvent> {
        self.watermarks.as_mut()?.tick(now)
    }

    pub fn status(&self, lag: impl Fn(usize, i64) -> Option<i64>) -> Vec<SplitStatus> {
        let status = |(i, (name, position)): (usize, &(String, i64))| {
            let (at, w) = (if self.one_split { 0 } else { i }, self.watermarks.as_ref());
            SplitStatus {
                split: name.clone(),
                watermark: w.and_then(|w| w.split_watermark(at)),
                idle: w.is_some_and(|w| w.split_idle(at)),
                lag: lag(i, *position),
            }
        };
        self.splits.iter().enumerate().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;
    use std::time::Duration;

    use arrow::array::TimestampMicrosecondArray;
    use sluice_batch::{Expr, TypeKind};

    use super::*;
    use crate::WatermarkSpec;
    use crate::test_util::{scan_all, table};

    #[test]
    fn positions_move_with_what_is_given() {
        let mut request = scan_all(&table(&[], &[]));
        request.watermark = Some(WatermarkSpec {
            expr: Expr::column(0, TypeKind::Timestamp(3).nullable()),
            column: 0,
            on_event: true,
            interval: Duration::from_millis(200),
            idle_timeout: Duration::ZERO,
        });
        let mut progress = Progress::new(&request, true);
        progress.add_split("f".into(), 0);
        let times = TimestampMicrosecondArray::from(vec![1000, 1000, 2000, 500]);
        let records = [(1, 10), (1, 11), (2, 20), (3, 30), (4, 40), (4, 41)].map(|(end, next)| RecordEnd { split: 0, end, next });
        progress.give(Batch::new(vec![Arc::new(times)], 4), records.to_vec(), 0).unwrap();
        let mut seen = vec![];
        while let Some(event) = progress.next_pending() {
            let text = match event {
                SourceEvent::Rows(b) => format!("{} rows", b.rows()),
                SourceEvent::Watermark(w) => format!("wm {w}"),
                other => format!("{other:?}"),
            };
            seen.push((text, progress.position(0)));
        }
        let expected = [("1 rows", 10), ("wm 1", 10), ("2 rows", 30), ("wm 2", 30), ("1 rows", 41)];
        assert_eq!(seen, expected.map(|(t, p)| (t.to_owned(), p)));
    }
}
