//! The rows that matching still needs: columns in chunks shared by all keys, and per key the order of its rows.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute;
use arrow::datatypes::DataType;
use sluice_batch::{Millis, Result};

/// A row: which chunk, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef {
    pub chunk: u32,
    pub at: u32,
}

/// A column as conditions read it, without a type test per row.
pub enum Fast {
    /// Integers, dates and times.
    Int(Int64Array),
    Float(Float64Array),
    Bool(BooleanBuffer, Option<NullBuffer>),
    /// Anything else: through [`sluice_batch::datum::from_array`].
    Slow,
}

impl Fast {
    pub fn of(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => ints(&compute::cast(array, &DataType::Int64)?),
            DataType::Date32 | DataType::Time32(_) => ints(&compute::cast(&compute::cast(array, &DataType::Int32)?, &DataType::Int64)?),
            DataType::Timestamp(..) => ints(&compute::cast(array, &DataType::Int64)?),
            DataType::Float32 | DataType::Float64 => {
                Self::Float(compute::cast(array, &DataType::Float64)?.as_primitive::<arrow::datatypes::Float64Type>().clone())
            }
            DataType::Boolean => {
                let b = array.as_boolean();
                Self::Bool(b.values().clone(), b.nulls().cloned())
            }
            _ => Self::Slow,
        })
    }
}

fn ints(array: &ArrayRef) -> Fast {
    Fast::Int(array.as_primitive::<arrow::datatypes::Int64Type>().clone())
}

/// Columns of rows that came together.
#[derive(Default)]
pub struct Chunk {
    pub columns: Vec<ArrayRef>,
    /// The views of the arguments, the first of `columns`, that conditions read.
    pub fast: Vec<Fast>,
    /// Per variable: its condition on the current row alone, already evaluated.
    pub current: Vec<Option<Arc<Vec<bool>>>>,
    /// Optional arguments that could not be evaluated for these rows.
    pub failed: Vec<usize>,
    /// Sort bytes of the further ORDER BY columns.
    pub order: Option<crate::rows::EncodedRows>,
    rows: usize,
    live: usize,
}

impl Chunk {
    /// `args`: how many of the columns conditions read, the first ones.
    pub fn new(columns: Vec<ArrayRef>, args: usize, rows: usize) -> Result<Self> {
        let fast = columns[..args].iter().map(Fast::of).collect::<Result<Vec<_>>>()?;
        Ok(Self { columns, fast, rows, live: rows, ..Self::default() })
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(|c| c.get_array_memory_size()).sum()
    }
}

/// All chunks. A chunk goes when none of its rows is needed any more.
#[derive(Default)]
pub struct Chunks {
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    /// Chunks whose last row has been released; kept until the matches that name their rows are out.
    dead: Vec<u32>,
}

impl Chunks {
    pub fn add(&mut self, chunk: Chunk) -> u32 {
        match self.free.pop() {
            Some(id) => {
                self.chunks[id as usize] = chunk;
                id
            }
            None => {
                self.chunks.push(chunk);
                self.chunks.len() as u32 - 1
            }
        }
    }

    #[inline]
    pub fn get(&self, id: u32) -> &Chunk {
        &self.chunks[id as usize]
    }

    #[inline]
    pub fn release(&mut self, row: RowRef) {
        let chunk = &mut self.chunks[row.chunk as usize];
        chunk.live -= 1;
        if chunk.live == 0 {
            self.dead.push(row.chunk);
        }
    }

    /// Frees the chunks that nobody names any more.
    pub fn sweep(&mut self) {
        for id in self.dead.drain(..) {
            self.chunks[id as usize] = Chunk::default();
            self.free.push(id);
        }
    }

    /// Rows held and rows needed.
    pub fn load(&self) -> (usize, usize) {
        self.chunks.iter().fold((0, 0), |(held, live), c| (held + c.rows, live + c.live))
    }

    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Chunk::bytes).sum()
    }

    /// One column of some rows; NULL where there is no row.
    pub fn gather(&self, column: usize, rows: &[Option<RowRef>], ty: &DataType) -> Result<ArrayRef> {
        let null = arrow::array::new_null_array(ty, 1);
        let mut arrays: Vec<&dyn Array> = vec![null.as_ref()];
        // Position of a chunk in `arrays`; matches name few chunks.
        let mut position = std::collections::HashMap::new();
        let mut picks = Vec::with_capacity(rows.len());
        for row in rows {
            picks.push(match row {
                None => (0, 0),
                Some(row) => {
                    let at = *position.entry(row.chunk).or_insert_with(|| {
                        arrays.push(self.get(row.chunk).columns[column].as_ref());
                        arrays.len() - 1
                    });
                    (at, row.at as usize)
                }
            });
        }
        Ok(compute::interleave(&arrays, &picks)?)
    }

    /// Copies the rows in `rows` (all that are needed) into one chunk and forgets the rest; `rows` then name the copies.
    pub fn compact(&mut self, rows: &mut [&mut RowRef], types: &[DataType], args: usize) -> Result<()> {
        let named: Vec<Option<RowRef>> = rows.iter().map(|r| Some(**r)).collect();
        let columns = (0..types.len()).map(|c| self.gather(c, &named, &types[c])).collect::<Result<Vec<_>>>()?;
        let variables = self.chunks.iter().find(|c| c.live > 0).map_or(0, |c| c.current.len());
        let current = (0..variables)
            .map(|v| {
                let flags = rows.iter().map(|r| self.get(r.chunk).current[v].as_ref().map(|f| f[r.at as usize]));
                flags.collect::<Option<Vec<bool>>>().map(Arc::new)
            })
            .collect();
        let mut chunk = Chunk::new(columns, args, rows.len())?;
        chunk.current = current;
        chunk.failed = self.chunks.iter().flat_map(|c| c.failed.iter().copied()).collect();
        *self = Self::default();
        let id = self.add(chunk);
        for (at, row) in rows.iter_mut().enumerate() {
            **row = RowRef { chunk: id, at: at as u32 };
        }
        Ok(())
    }
}

/// Running sum and count of one aggregate's argument over the rows of a key; the value at a row includes it.
#[derive(Default)]
pub struct Prefix {
    values: VecDeque<(i64, i64)>,
    before: (i64, i64),
}

impl Prefix {
    pub fn push(&mut self, value: Option<i64>) {
        let (sum, count) = self.values.back().copied().unwrap_or(self.before);
        self.values.push_back(match value {
            Some(v) => (sum.wrapping_add(v), count + 1),
            None => (sum, count),
        });
    }

    /// Sum and count of the rows `from..to`.
    #[inline]
    pub fn range(&self, from: usize, to: usize) -> (i64, i64) {
        let at = |i: usize| if i == 0 { self.before } else { self.values[i - 1] };
        let ((s0, c0), (s1, c1)) = (at(from), at(to));
        (s1.wrapping_sub(s0), c1 - c0)
    }

    fn pop(&mut self) {
        if let Some(v) = self.values.pop_front() {
            self.before = v;
        }
    }
}

/// The rows of one key from the next possible start of a match on, and how far they have been tried.
#[derive(Default)]
pub struct KeyRows {
    pub rows: VecDeque<(Millis, RowRef)>,
    pub prefixes: Vec<Prefix>,
    /// Rows that the threads have seen.
    pub seen: usize,
    /// States of the threads of the start at row 0, and their variable boundaries, one run of `variables + 1` after the other.
    pub threads: Vec<usize>,
    pub bounds: Vec<u32>,
    /// The threads of the current start have been made.
    pub started: bool,
    /// Rows that wait for time to pass them.
    pub waiting: u32,
}

impl KeyRows {
    /// Forgets the first rows; the next start is the one behind them.
    pub fn advance(&mut self, rows: usize, chunks: &mut Chunks) {
        for (_, row) in self.rows.drain(..rows) {
            chunks.release(row);
        }
        for prefix in &mut self.prefixes {
            (0..rows).for_each(|_| prefix.pop());
        }
        self.seen = 0;
        self.started = false;
        self.threads.clear();
        self.bounds.clear();
    }
}
