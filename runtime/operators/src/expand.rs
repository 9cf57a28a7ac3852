//! GROUPING SETS: each row once a set, keys that are not in it NULL, and the set's position behind (Flink: `Expand`).

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array, new_null_array};
use arrow::compute;
use sluice_batch::{Batch, Result};

use crate::rows::take;
use crate::spec::ExpandSpec;
use crate::{Operator, Output};

pub struct Expand {
    spec: ExpandSpec,
}

impl Expand {
    pub fn new(spec: ExpandSpec) -> Self {
        Self { spec }
    }
}

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let (rows, sets) = (batch.rows(), self.spec.sets.len());
        let indices: UInt32Array = (0..rows as u32).flat_map(|r| std::iter::repeat_n(r, sets)).collect::<Vec<_>>().into();
        let mut columns = take(batch.columns(), &indices)?;
        for (position, column) in self.spec.keys.iter().enumerate() {
            // Row r of set s is the row itself, or NULL.
            let input = batch.column(*column);
            let null: ArrayRef = new_null_array(input.data_type(), 1);
            let keeps: Vec<bool> = self.spec.sets.iter().map(|s| s.contains(&position)).collect();
            if keeps.iter().all(|k| *k) {
                continue;
            }
            let picks: Vec<(usize, usize)> =
                (0..rows).flat_map(|r| keeps.iter().map(move |keep| if *keep { (0, r) } else { (1, 0) })).collect();
            columns[*column] = compute::interleave(&[input.as_ref(), null.as_ref()], &picks)?;
        }
        let ids: Int64Array = (0..rows).flat_map(|_| 0..sets as i64).collect::<Vec<_>>().into();
        columns.push(Arc::new(ids));
        let kinds = batch.kinds().map(|k| indices.values().iter().map(|i| k[*i as usize]).collect());
        out.emit(Batch::with_kinds(columns, kinds, rows * sets));
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
    fn each_row_once_a_set() {
        let t = types("string int bigint");
        let spec = ExpandSpec { input: t.clone(), keys: vec![0, 1], sets: vec![vec![0, 1], vec![0], vec![]] };
        let mut h = Harness::new(OperatorSpec::Expand(spec));
        assert_lines!(
            h.send(0, &t, "a 1 5; -D b 2 6"),
            "+I a 1 5 0; +I a NULL 5 1; +I NULL NULL 5 2; -D b 2 6 0; -D b NULL 6 1; -D NULL NULL 6 2"
        );
    }
}
