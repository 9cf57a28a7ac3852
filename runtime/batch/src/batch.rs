//! Batches: Arrow columns with optional row kinds.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::compute;

use crate::error::Result;

/// What a row does to the table that a changelog describes (Flink: `RowKind`).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKind {
    Insert = 0,
    UpdateBefore = 1,
    UpdateAfter = 2,
    Delete = 3,
}

impl RowKind {
    /// `+I`, `-U`, `+U` or `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            RowKind::Insert => "+I",
            RowKind::UpdateBefore => "-U",
            RowKind::UpdateAfter => "+U",
            RowKind::Delete => "-D",
        }
    }

    pub fn parse(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "+I" => RowKind::Insert,
            "-U" => RowKind::UpdateBefore,
            "+U" => RowKind::UpdateAfter,
            "-D" => RowKind::Delete,
            _ => return None,
        })
    }

    /// Whether the row is added (`+I`, `+U`) rather than taken back (`-U`, `-D`).
    #[inline]
    pub fn is_addition(self) -> bool {
        matches!(self, RowKind::Insert | RowKind::UpdateAfter)
    }
}

/// Rows in columns. All columns have `rows` values; there may be no columns at all (`COUNT(*)`).
/// Cloning is cheap: columns are shared.
#[derive(Clone, Debug)]
pub struct Batch {
    columns: Vec<ArrayRef>,
    kinds: Option<Arc<[RowKind]>>,
    rows: usize,
}

impl Batch {
    /// A batch of inserts.
    pub fn new(columns: Vec<ArrayRef>, rows: usize) -> Self {
        debug_assert!(columns.iter().all(|c| c.len() == rows));
        Self { columns, kinds: None, rows }
    }

    /// A batch with row kinds; `None` and "all inserts" mean the same, and the latter becomes the former.
    pub fn with_kinds(columns: Vec<ArrayRef>, kinds: Option<Arc<[RowKind]>>, rows: usize) -> Self {
        debug_assert!(kinds.as_ref().is_none_or(|k| k.len() == rows));
        let kinds = kinds.filter(|k| k.iter().any(|k| *k != RowKind::Insert));
        Self { kinds, ..Self::new(columns, rows) }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn columns(&self) -> &[ArrayRef] {
        &self.columns
    }

    pub fn column(&self, index: usize) -> &ArrayRef {
        &self.columns[index]
    }

    /// The row kinds, or `None` if all rows are inserts.
    pub fn kinds(&self) -> Option<&Arc<[RowKind]>> {
        self.kinds.as_ref()
    }

    #[inline]
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds.as_ref().map_or(RowKind::Insert, |k| k[row])
    }

    /// Other columns for the same rows and kinds.
    pub fn replace_columns(&self, columns: Vec<ArrayRef>) -> Self {
        Self { columns, kinds: self.kinds.clone(), rows: self.rows }
    }

    /// A projection by position; shares the columns.
    pub fn project(&self, indices: &[usize]) -> Self {
        self.replace_columns(indices.iter().map(|i| self.columns[*i].clone()).collect())
    }

    pub fn slice(&self, offset: usize, rows: usize) -> Self {
        let columns = self.columns.iter().map(|c| c.slice(offset, rows)).collect();
        let kinds = self.kinds.as_ref().map(|k| Arc::from(&k[offset..offset + rows]));
        Self::with_kinds(columns, kinds, rows)
    }

    /// The rows whose mask is true (NULL counts as false).
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self> {
        let predicate = compute::FilterBuilder::new(mask).optimize().build();
        let columns = self.columns.iter().map(|c| predicate.filter(c)).collect::<Result<Vec<_>, _>>()?;
        let kinds = self.kinds.as_ref().map(|k| (0..self.rows).filter(|i| mask.is_valid_and_true(*i)).map(|i| k[i]).collect());
        Ok(Self::with_kinds(columns, kinds, predicate.count()))
    }

    /// The rows at these positions, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self> {
        let columns = self.columns.iter().map(|c| compute::take(c, indices, None)).collect::<Result<Vec<_>, _>>()?;
        let kinds = self.kinds.as_ref().map(|k| indices.values().iter().map(|i| k[*i as usize]).collect());
        Ok(Self::with_kinds(columns, kinds, indices.len()))
    }

    /// Rows of several batches of the same columns, one behind the other.
    pub fn concat(batches: &[Batch]) -> Result<Self> {
        let [first, rest @ ..] = batches else {
            return Ok(Self::new(vec![], 0));
        };
        if rest.is_empty() {
            return Ok(first.clone());
        }
        let rows = batches.iter().map(Batch::rows).sum();
        let columns = (0..first.columns.len())
            .map(|i| {
                let parts: Vec<_> = batches.iter().map(|b| b.columns[i].as_ref()).collect();
                compute::concat(&parts)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let kinds =
            batches.iter().any(|b| b.kinds.is_some()).then(|| batches.iter().flat_map(|b| (0..b.rows).map(|i| b.kind(i))).collect());
        Ok(Self::with_kinds(columns, kinds, rows))
    }
}

/// A mask test that treats NULL as false.
pub trait Mask {
    fn is_valid_and_true(&self, row: usize) -> bool;
}

impl Mask for BooleanArray {
    #[inline]
    fn is_valid_and_true(&self, row: usize) -> bool {
        use arrow::array::Array;
        self.is_valid(row) && self.value(row)
    }
}
