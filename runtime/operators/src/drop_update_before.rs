//! Takes -U rows away for sinks that only want upserts.

use arrow::array::BooleanArray;
use sluice_batch::{Batch, Result, RowKind};

use crate::{Operator, Output};

pub struct DropUpdateBefore;

impl Operator for DropUpdateBefore {
    fn name(&self) -> &'static str {
        "DropUpdateBefore"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let mask = batch.kinds().map(|kinds| kinds.iter().map(|k| Some(*k != RowKind::UpdateBefore)).collect::<BooleanArray>());
        out.emit(match mask {
            Some(mask) => batch.filter(&mask)?,
            None => batch,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    #[test]
    fn drops_only_update_before() {
        let mut h = Harness::new(OperatorSpec::DropUpdateBefore);
        assert_lines!(h.send(0, &types("int"), "1; -U 1; +U 2; -D 2"), "+I 1; +U 2; -D 2");
    }
}
