//! UUID: a random one (version 4) for every row.

use arrow::array::ArrayRef;
use sluice_batch::{Expr, Result, TypeKind};

use crate::kernel::Args;
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[Declaration { names: &["UUID"], bind }];

fn bind(call: Call<'_>) -> Result<Expr> {
    if !call.args.is_empty() {
        return Err(call.wrong_count(0));
    }
    Ok(call.volatile("UUID", TypeKind::Char(36).not_null(), generate))
}

fn generate(args: &Args<'_>) -> Result<ArrayRef> {
    args.map_str(|_| Some(uuid::Uuid::new_v4().to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use sluice_batch::{Batch, EvalContext};

    use crate::testing::call;

    #[test]
    fn uuids_differ_by_row() {
        let uuid = call("UUID", vec![]).unwrap();
        let column = uuid.eval_array(&Batch::new(vec![], 2), &EvalContext::default()).unwrap();
        let column = column.as_any().downcast_ref::<arrow::array::StringArray>().unwrap();
        assert_ne!(column.value(0), column.value(1));
        assert_eq!(column.value(0).len(), 36);
        assert!(!uuid.is_deterministic());
    }
}
