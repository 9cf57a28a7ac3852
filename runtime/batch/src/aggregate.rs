//! Aggregate functions over groups.

use std::fmt;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute;

use crate::batch::{Mask, RowKind};
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

    /// The same as [`Accumulator::update`], and gives the result of slot `groups[i]` as it is right after row `i`:
    /// the changelog of an aggregation that emits one update per input row. [`RunningRows`] makes the values before
    /// and after each row of it.
    fn update_running(&mut self, args: &[ArrayRef], groups: &[u32], kinds: Option<&[RowKind]>) -> Result<ArrayRef> {
        let mut results = Vec::with_capacity(groups.len());
        for row in 0..groups.len() {
            let args: Vec<ArrayRef> = args.iter().map(|a| a.slice(row, 1)).collect();
            self.update(&args, &groups[row..=row], kinds.map(|k| &k[row..=row]))?;
            results.push(self.evaluate(&groups[row..=row])?);
        }
        match results.is_empty() {
            true => self.evaluate(&[]),
            false => Ok(compute::concat(&results.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
        }
    }

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
    pub function: Arc<dyn AggregateFunction>,
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

/// The rows of a batch by group, made once and used for every aggregate call of an operator that emits each row's
/// result before and after it (Flink: `GroupAggFunction` without mini-batch).
///
/// A group whose last row is taken back inside a batch and that gets rows again later in the same batch starts anew
/// in Flink: the operator has to split the batch there and [`Accumulator::clear`] the slot in between.
pub struct RunningRows {
    groups: Vec<u32>,
    /// The distinct groups in order of appearance.
    distinct: Vec<u32>,
    /// For each row its group's position in `distinct`.
    ordinals: Vec<u32>,
}

impl RunningRows {
    pub fn new(groups: &[u32]) -> Self {
        let mut seen: HashMap<u32, u32, BuildHasherDefault<SlotHasher>> = HashMap::default();
        let mut distinct = Vec::new();
        let ordinals = groups
            .iter()
            .map(|g| {
                *seen.entry(*g).or_insert_with(|| {
                    distinct.push(*g);
                    distinct.len() as u32 - 1
                })
            })
            .collect();
        Self { groups: groups.to_vec(), distinct, ordinals }
    }

    /// The distinct groups in order of appearance.
    pub fn distinct(&self) -> &[u32] {
        &self.distinct
    }

    /// Updates `accumulator` with the rows and gives, for each row, its group's result before and after it.
    /// A row that `filter` (the column of the FILTER clause) does not let through leaves the result as it is.
    pub fn update(
        &self,
        accumulator: &mut dyn Accumulator,
        args: &[ArrayRef],
        kinds: Option<&[RowKind]>,
        filter: Option<&BooleanArray>,
    ) -> Result<(ArrayRef, ArrayRef)> {
        let pass = filter.map(|f| (0..f.len()).map(|i| f.is_valid_and_true(i)).collect::<Vec<_>>());
        self.update_where(accumulator, args, kinds, pass.as_deref())
    }

    /// [`RunningRows::update`] with the rows to take as a mask.
    pub fn update_where(
        &self,
        accumulator: &mut dyn Accumulator,
        args: &[ArrayRef],
        kinds: Option<&[RowKind]>,
        pass: Option<&[bool]>,
    ) -> Result<(ArrayRef, ArrayRef)> {
        let initial = accumulator.evaluate(&self.distinct)?;
        let running = match pass {
            None => accumulator.update_running(args, &self.groups, kinds)?,
            Some(pass) => {
                let rows: Vec<u32> = (0..self.groups.len() as u32).filter(|i| pass[*i as usize]).collect();
                let groups: Vec<u32> = rows.iter().map(|i| self.groups[*i as usize]).collect();
                let kinds: Option<Vec<RowKind>> = kinds.map(|k| rows.iter().map(|i| k[*i as usize]).collect());
                let rows = UInt32Array::from(rows);
                let args = args.iter().map(|a| compute::take(a, &rows, None)).collect::<Result<Vec<_>, _>>()?;
                accumulator.update_running(&args, &groups, kinds.as_deref())?
            }
        };
        // Where each group's result stands now: in `initial`, or behind it in `running`.
        let mut current: Vec<u32> = (0..self.distinct.len() as u32).collect();
        let mut next = self.distinct.len() as u32;
        let (mut before, mut after) = (Vec::with_capacity(self.groups.len()), Vec::with_capacity(self.groups.len()));
        for (row, ordinal) in self.ordinals.iter().enumerate() {
            let at = &mut current[*ordinal as usize];
            before.push(*at);
            if pass.is_none_or(|p| p[row]) {
                *at = next;
                next += 1;
            }
            after.push(*at);
        }
        let all = compute::concat(&[initial.as_ref(), running.as_ref()])?;
        let after = match pass {
            None => running,
            Some(_) => compute::take(&all, &UInt32Array::from(after), None)?,
        };
        Ok((compute::take(&all, &UInt32Array::from(before), None)?, after))
    }
}

/// Slots are dense small numbers: one multiplication spreads them well enough.
#[derive(Default)]
struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn write_u32(&mut self, slot: u32) {
        self.0 = u64::from(slot).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
