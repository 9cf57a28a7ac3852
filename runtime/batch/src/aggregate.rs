//! Aggregate functions over groups.

use std::fmt;

use arrow::array::ArrayRef;

use crate::batch::RowKind;
use crate::error::Result;
use crate::types::SqlType;

/// An aggregate function with settled argument types: a factory of accumulators.
pub trait AggregateFunction: fmt::Debug + Send + Sync {
    /// The canonical name, e.g. `SUM`.
    fn name(&self) -> &str;

    /// A new accumulator without groups. `retractable` says whether rows may be taken back;
    /// MIN/MAX and the like need more state then.
    fn accumulator(&self, retractable: bool) -> Box<dyn Accumulator>;
}

/// The state of one aggregate call for all groups of an operator. A group is a dense slot number
/// that the operator gives out and takes back; slots in `groups` are always `< ` the last [`Accumulator::resize`].
pub trait Accumulator: Send {
    /// Makes room for `groups` slots; new ones are empty.
    fn resize(&mut self, groups: usize);

    /// Empties one slot, so that it can be given out again.
    fn clear(&mut self, group: u32);

    /// Adds or takes back row `i` to or from slot `groups[i]`. `args` are the argument columns, each as long as `groups`.
    /// `kinds` `None` means all are additions. Rows are already filtered (FILTER clause).
    fn update(&mut self, args: &[ArrayRef], groups: &[u32], kinds: Option<&[RowKind]>) -> Result<()>;

    /// Adds the state of slot `from[i]` of `other` (an accumulator of the same function) to slot `to[i]`:
    /// how slices become windows.
    fn merge(&mut self, other: &dyn Accumulator, from: &[u32], to: &[u32]) -> Result<()>;

    /// The results of these slots as a column of the return type.
    fn evaluate(&self, groups: &[u32]) -> Result<ArrayRef>;

    /// Writes the state of one slot; the format is versioned by the function's name and never changes.
    fn encode(&self, group: u32, out: &mut Vec<u8>);

    /// Reads what `encode` wrote into an empty slot, and moves `input` behind it.
    fn decode(&mut self, group: u32, input: &mut &[u8]) -> Result<()>;

    /// Bytes held, about.
    fn memory(&self) -> usize;

    fn as_any(&self) -> &dyn std::any::Any;
}

/// A bound aggregate call: the function, the positions of its arguments, what it gives.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    pub function: std::sync::Arc<dyn AggregateFunction>,
    /// Positions of the argument columns in the operator's input.
    pub args: Vec<usize>,
    pub distinct: bool,
    /// Position of a BOOLEAN column: only rows where it is TRUE count.
    pub filter: Option<usize>,
    pub ty: SqlType,
    /// The output column's name.
    pub name: String,
}

impl fmt::Display for AggregateCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}", self.function.name(), if self.distinct { "DISTINCT " } else { "" })?;
        for (i, a) in self.args.iter().enumerate() {
            write!(f, "{}${a}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(")")?;
        if let Some(filter) = self.filter {
            write!(f, " FILTER ${filter}")?;
        }
        Ok(())
    }
}
