//! UNION ALL: all inputs as they come.

use sluice_batch::{Batch, Result};

use crate::{Operator, Output};

pub struct Union;

impl Operator for Union {
    fn name(&self) -> &'static str {
        "Union"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        out.emit(batch);
        Ok(())
    }
}
