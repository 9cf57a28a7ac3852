//! Watermarks where the source could not make them (Flink: `WatermarkAssignerOperator`).

use arrow::array::Array;
use sluice_batch::{Batch, Error, Millis, Result, WATERMARK_MAX, WATERMARK_NONE};

use crate::spec::WatermarkAssignerSpec;
use crate::time::{null_rowtime, to_millis};
use crate::{Operator, Output};

pub struct WatermarkAssigner {
    spec: WatermarkAssignerSpec,
    current: Millis,
}

impl WatermarkAssigner {
    pub fn new(spec: WatermarkAssignerSpec) -> Self {
        Self { spec, current: WATERMARK_NONE }
    }
}

impl Operator for WatermarkAssigner {
    fn name(&self) -> &'static str {
        "WatermarkAssigner"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        if batch.column(self.spec.column).logical_null_count() > 0 {
            return Err(null_rowtime());
        }
        let watermarks = to_millis(&self.spec.expr.eval_array(&batch, out.context())?)?;
        let before = self.current;
        let mut from = 0;
        for row in (0..watermarks.len()).filter(|r| watermarks.is_valid(*r)) {
            if watermarks.value(row) <= self.current {
                continue;
            }
            self.current = watermarks.value(row);
            if self.spec.on_event {
                out.emit(batch.slice(from, row + 1 - from));
                out.emit_watermark(self.current);
                from = row + 1;
            }
        }
        if from < batch.rows() {
            out.emit(if from == 0 { batch } else { batch.slice(from, batch.rows() - from) });
        }
        if !self.spec.on_event && self.current > before {
            out.emit_watermark(self.current);
        }
        Ok(())
    }

    /// Watermarks from upstream end here, but for the last one.
    fn watermark(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        if now == WATERMARK_MAX {
            self.current = now;
        }
        Ok(())
    }

    fn output_watermark(&self, _now: Millis) -> Millis {
        self.current
    }

    /// After a restore watermarks start anew, as in Flink.
    fn snapshot(&self, _out: &mut crate::state::SnapshotWriter) -> Result<()> {
        Ok::<(), Error>(())
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::Expr;

    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    #[test]
    fn one_watermark_a_raising_row_or_a_batch() {
        let t = types("ts int");
        let spec = |on_event| {
            let expr = Expr::column(0, t[0].clone());
            OperatorSpec::WatermarkAssigner(WatermarkAssignerSpec { column: 0, expr, on_event })
        };
        let mut h = Harness::new(spec(true));
        let rows = "5 1; 3 2; 7 3; 6 4";
        assert_lines!(h.send(0, &t, rows), "+I 5 1; wm 5; +I 3 2; +I 7 3; wm 7; +I 6 4");
        assert_lines!(h.send(0, &t, "7 1"), "+I 7 1");
        let mut h = Harness::new(spec(false));
        assert_lines!(h.send(0, &t, rows), "+I 5 1; +I 3 2; +I 7 3; +I 6 4; wm 7");
        h.watermark(99);
        assert_eq!(h.operator.output_watermark(99), 7);
        h.watermark(WATERMARK_MAX);
        assert_eq!(h.operator.output_watermark(WATERMARK_MAX), WATERMARK_MAX);
    }
}
