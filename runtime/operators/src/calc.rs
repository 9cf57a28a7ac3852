//! Filter and projection.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, NullArray};
use sluice_batch::batch::Mask;
use sluice_batch::{Batch, Expr, Result};

use crate::{Operator, Output};

pub struct Calc {
    filter: Option<Expr>,
    project: Option<Vec<Expr>>,
    /// Columns that the projection reads: only these go through the filter.
    used: Option<BTreeSet<usize>>,
}

impl Calc {
    pub fn new(filter: Option<Expr>, project: Option<Vec<Expr>>) -> Self {
        let used = project.as_ref().map(|p| {
            let mut used = BTreeSet::new();
            p.iter().for_each(|e| e.collect_columns(&mut used));
            used
        });
        Self { filter, project, used }
    }

    fn filter(&self, batch: Batch, out: &Output<'_>) -> Result<Batch> {
        let Some(filter) = &self.filter else { return Ok(batch) };
        let mask = filter.eval_mask(&batch, out.context())?;
        if (0..mask.len()).all(|i| mask.is_valid_and_true(i)) {
            return Ok(batch);
        }
        match &self.used {
            Some(used) => without_unused(&batch, used).filter(&mask),
            None => batch.filter(&mask),
        }
    }
}

/// Columns that are not read become NULLs, which cost nothing to filter.
fn without_unused(batch: &Batch, used: &BTreeSet<usize>) -> Batch {
    let nulls: ArrayRef = Arc::new(NullArray::new(batch.rows()));
    let keep = |(i, c): (usize, &ArrayRef)| if used.contains(&i) { c.clone() } else { nulls.clone() };
    batch.replace_columns(batch.columns().iter().enumerate().map(keep).collect())
}

impl Operator for Calc {
    fn name(&self) -> &'static str {
        "Calc"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let batch = self.filter(batch, out)?;
        if batch.is_empty() {
            return Ok(());
        }
        match &self.project {
            None => out.emit(batch),
            Some(exprs) => {
                let columns = exprs.iter().map(|e| e.eval_array(&batch, out.context())).collect::<Result<Vec<_>>>()?;
                out.emit(batch.replace_columns(columns));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sluice_batch::{Datum, ExprKind, TypeKind};

    use super::*;
    use crate::assert_lines;
    use crate::spec::OperatorSpec;
    use crate::testing::{Harness, types};

    #[test]
    fn filters_each_change_by_itself_and_projects() {
        let t = types("bigint boolean string");
        let boolean = TypeKind::Boolean.nullable();
        let filter = Expr { kind: ExprKind::Not(Box::new(Expr::column(1, boolean.clone()))), ty: boolean };
        let project = vec![Expr::column(2, t[2].clone()), Expr::literal(Datum::Int(7), TypeKind::Int.not_null())];
        let mut h = Harness::new(OperatorSpec::Calc { filter: Some(filter), project: Some(project) });
        assert_lines!(h.send(0, &t, "1 true a; 2 false b; 3 NULL c; -U 2 true d; +U 2 false e"), "+I b 7; +U e 7");
        assert_lines!(h.send(0, &t, "1 true a"), "");
    }

    #[test]
    fn no_columns_keep_the_row_count() {
        let mut h = Harness::new(OperatorSpec::Calc { filter: None, project: Some(vec![]) });
        assert_lines!(h.send(0, &types("int"), "1; 2"), "+I; +I");
    }
}
