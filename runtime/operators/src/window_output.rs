//! The rows of windows: keys, results, and the window's bounds.

use arrow::array::ArrayRef;
use sluice_batch::algebra::WindowProperty;
use sluice_batch::{Batch, Millis, Result};

use crate::time::{Zone, timestamps, timestamps_ltz};

/// Which of a window's properties go out, behind keys and results.
#[derive(Clone, Debug)]
pub struct WindowOutput {
    pub properties: Vec<WindowProperty>,
    /// The window's time is an instant (TIMESTAMP_LTZ); bounds are wall clock times.
    pub ltz: bool,
}

impl WindowOutput {
    /// window_start, window_end, window_time.
    pub fn bounds(ltz: bool) -> Self {
        Self { properties: vec![WindowProperty::Start, WindowProperty::End, WindowProperty::Rowtime], ltz }
    }

    pub fn columns(&self, starts: &[Millis], ends: &[Millis], zone: Zone, now: Millis) -> Vec<ArrayRef> {
        let column = |p: &WindowProperty| match p {
            WindowProperty::Start => timestamps(starts.iter().copied()),
            WindowProperty::End => timestamps(ends.iter().copied()),
            WindowProperty::Rowtime if self.ltz => timestamps_ltz(ends.iter().map(|e| zone.to_epoch(e - 1))),
            WindowProperty::Rowtime => timestamps(ends.iter().map(|e| e - 1)),
            WindowProperty::Proctime => timestamps_ltz(ends.iter().map(|_| now)),
        };
        self.properties.iter().map(column).collect()
    }

    pub fn batch(
        &self,
        keys: Vec<ArrayRef>,
        results: Vec<ArrayRef>,
        starts: &[Millis],
        ends: &[Millis],
        zone: Zone,
        now: Millis,
    ) -> Result<Batch> {
        let mut columns = keys;
        columns.extend(results);
        columns.extend(self.columns(starts, ends, zone, now));
        Ok(Batch::new(columns, ends.len()))
    }
}
