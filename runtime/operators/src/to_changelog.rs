//! TO_CHANGELOG: each change as an inserted row with a column that says what it was (Flink: `ToChangelogFunction`).

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray, UInt32Array};
use arrow::compute;
use sluice_batch::{Batch, Result, RowKind};

use crate::spec::ToChangelogSpec;
use crate::{Operator, Output};

pub struct ToChangelog {
    /// The code of each row kind; kinds without are dropped.
    codes: [Option<String>; 4],
    delete_keys: Option<Vec<usize>>,
}

impl ToChangelog {
    pub fn new(spec: ToChangelogSpec) -> Self {
        let mut codes = [const { None }; 4];
        for (kind, code) in spec.mapping {
            codes[kind as usize] = Some(code);
        }
        Self { codes, delete_keys: spec.delete_keys }
    }
}

impl Operator for ToChangelog {
    fn name(&self) -> &'static str {
        "ToChangelog"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let kept: Vec<u32> = (0..batch.rows()).filter(|r| self.codes[batch.kind(*r) as usize].is_some()).map(|r| r as u32).collect();
        let batch = if kept.len() == batch.rows() { batch } else { batch.take(&UInt32Array::from(kept))? };
        let codes = (0..batch.rows()).map(|r| self.codes[batch.kind(r) as usize].as_deref());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(codes.collect::<StringArray>())];
        match self.delete_keys.as_ref().filter(|_| batch.kinds().is_some()) {
            None => columns.extend(batch.columns().iter().cloned()),
            Some(keys) => {
                let deleted: BooleanArray = (0..batch.rows()).map(|r| Some(batch.kind(r) == RowKind::Delete)).collect();
                for (i, column) in batch.columns().iter().enumerate() {
                    columns.push(if keys.contains(&i) { column.clone() } else { compute::nullif(column, &deleted)? });
                }
            }
        }
        out.emit(Batch::new(columns, batch.rows()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    #[test]
    fn changes_become_rows() {
        let t = types("int string");
        let spec = |delete_keys| {
            let mapping = vec![(RowKind::Insert, "I".into()), (RowKind::UpdateAfter, "U".into()), (RowKind::Delete, "D".into())];
            OperatorSpec::ToChangelog(ToChangelogSpec { op_column: "op".into(), mapping, delete_keys })
        };
        let rows = "1 a; -U 1 a; +U 1 b; -D 1 b";
        assert_lines!(Harness::new(spec(None)).send(0, &t, rows), "+I I 1 a; +I U 1 b; +I D 1 b");
        assert_lines!(Harness::new(spec(Some(vec![0]))).send(0, &t, rows), "+I I 1 a; +I U 1 b; +I D 1 NULL");
    }
}
