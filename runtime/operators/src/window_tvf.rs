//! TUMBLE, HOP, CUMULATE: each row once a window it is in (Flink: `AlignedWindowTableFunctionOperator`).

use arrow::array::{Array, UInt32Array};
use sluice_batch::{Batch, Millis, Result};

use crate::spec::WindowTvfSpec;
use crate::time::{Zone, to_millis};
use crate::window_output::WindowOutput;
use crate::windows::Grid;
use crate::{Operator, Output};

pub struct WindowTvf {
    spec: WindowTvfSpec,
    grid: Grid,
    output: WindowOutput,
    /// Rows without a time are dropped.
    dropped: u64,
}

impl WindowTvf {
    pub fn new(spec: WindowTvfSpec) -> Result<Self> {
        let ltz = spec.ltz || spec.proctime;
        Ok(Self { grid: Grid::new(&spec.window)?, output: WindowOutput::bounds(ltz), spec, dropped: 0 })
    }
}

impl Operator for WindowTvf {
    fn name(&self) -> &'static str {
        "WindowTableFunction"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let zone = Zone::new(self.output.ltz, out.context().time_zone);
        let times = to_millis(batch.column(self.spec.time))?;
        let (mut rows, mut starts, mut ends): (Vec<u32>, Vec<Millis>, Vec<Millis>) = (vec![], vec![], vec![]);
        for row in 0..batch.rows() {
            if !self.spec.proctime && times.is_null(row) {
                self.dropped += 1;
                continue;
            }
            let time = if self.spec.proctime { out.now() } else { times.value(row) };
            for (start, end) in self.grid.windows(zone.to_local(time)) {
                rows.push(row as u32);
                starts.push(start);
                ends.push(end);
            }
        }
        let in_place = rows.len() == batch.rows() && rows.iter().enumerate().all(|(i, r)| i as u32 == *r);
        let batch = if in_place { batch } else { batch.take(&UInt32Array::from(rows))? };
        let mut columns = batch.columns().to_vec();
        columns.extend(self.output.columns(&starts, &ends, zone, out.now()));
        out.emit(batch.replace_columns(columns));
        Ok(())
    }

    fn late_rows(&self) -> u64 {
        self.dropped
    }
}
