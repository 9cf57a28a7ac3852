//! What the joins that go by time share: pairs of rows, and the keys of one side.

use arrow::array::{ArrayRef, BooleanArray, UInt32Array, new_null_array};
use sluice_batch::batch::Mask;
use sluice_batch::{Batch, EvalContext, Expr, Result, SqlType};

use crate::rows::{EncodedRows, RowCodec, all_valid, take};
use crate::spec::JoinSpec;

/// Columns of NULLs.
pub fn nulls(types: &[SqlType], rows: usize) -> Vec<ArrayRef> {
    types.iter().map(|t| new_null_array(&t.to_arrow(), rows)).collect()
}

/// Which pairs meet the condition, pair `i` being row `i` of both sides; `None` for all of them.
pub fn passing(
    condition: Option<&Expr>,
    left: &[ArrayRef],
    right: &[ArrayRef],
    rows: usize,
    cx: &EvalContext,
) -> Result<Option<BooleanArray>> {
    let Some(condition) = condition.filter(|_| rows > 0) else { return Ok(None) };
    let pairs = Batch::new(left.iter().chain(right).cloned().collect(), rows);
    Ok(Some(condition.eval_mask(&pairs, cx)?))
}

/// Whether pair `i` passed.
pub fn passed(mask: &Option<BooleanArray>, pair: usize) -> bool {
    mask.as_ref().is_none_or(|m| m.is_valid_and_true(pair))
}

/// Left and right columns as one batch of inserts.
pub fn joined(left: Vec<ArrayRef>, right: Vec<ArrayRef>, rows: usize) -> Batch {
    Batch::new(left.into_iter().chain(right).collect(), rows)
}

/// The rows of `columns` at `rows`.
pub fn rows_at(columns: &[ArrayRef], rows: Vec<u32>) -> Result<Vec<ArrayRef>> {
    take(columns, &UInt32Array::from(rows))
}

/// The join key of one side.
pub struct SideKey {
    columns: Vec<usize>,
    /// Key columns that do not match when they are NULL.
    not_null: Vec<usize>,
    codec: RowCodec,
}

/// Join keys of a batch.
pub struct EncodedKeys {
    keys: EncodedRows,
    valid: Option<Vec<bool>>,
}

impl EncodedKeys {
    /// The key of a row; `None` if it matches nothing because of a NULL.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        self.valid.as_ref().is_none_or(|v| v[row]).then(|| self.keys.get(row))
    }
}

impl SideKey {
    /// The keys of the left (0) or right (1) side.
    pub fn new(spec: &JoinSpec, side: usize) -> Result<Self> {
        let (types, columns) = if side == 0 { (&spec.left, &spec.left_keys) } else { (&spec.right, &spec.right_keys) };
        let not_null = columns.iter().zip(&spec.null_safe).filter(|(_, safe)| !**safe).map(|(k, _)| *k).collect();
        Ok(Self { columns: columns.clone(), not_null, codec: RowCodec::project(types, columns)? })
    }

    /// Keys of all rows, also of those that match nothing.
    pub fn encode_all(&self, batch: &Batch) -> Result<EncodedRows> {
        self.codec.encode_columns(batch, &self.columns)
    }

    pub fn encode(&self, batch: &Batch) -> Result<EncodedKeys> {
        Ok(EncodedKeys { keys: self.codec.encode_columns(batch, &self.columns)?, valid: all_valid(batch, &self.not_null) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::join::tests::spec;
    use crate::testing::{batch, types};
    use sluice_batch::algebra::JoinKind;

    #[test]
    fn null_keys_match_nothing_unless_null_safe() {
        let rows = batch(&types("int string"), "1 a; NULL b");
        let keys = SideKey::new(&spec(JoinKind::Inner), 0).unwrap().encode(&rows).unwrap();
        assert!(keys.get(0).is_some() && keys.get(1).is_none());
        let null_safe = JoinSpec { null_safe: vec![true], ..spec(JoinKind::Inner) };
        assert!(SideKey::new(&null_safe, 0).unwrap().encode(&rows).unwrap().get(1).is_some());
    }
}
