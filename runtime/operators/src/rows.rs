//! Rows as bytes: what keyed state is made of. Encoding and decoding are columnar (arrow-row); in between a row is one
//! memcomparable byte string, so that equality, hashing and ordering need no types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{self, SortOptions};
use arrow::row::{RowConverter, Rows, SortField};
use sluice_batch::algebra::SortKey;
use sluice_batch::{Batch, Result, RowKind, SqlType};

/// Converts between columns of fixed types and byte rows.
pub struct RowCodec {
    /// `None`: no columns, every row is the empty string.
    converter: Option<RowConverter>,
}

/// Rows of one batch, encoded.
pub enum EncodedRows {
    Rows(Rows),
    Empty,
}

impl EncodedRows {
    #[inline]
    pub fn get(&self, row: usize) -> &[u8] {
        match self {
            EncodedRows::Rows(rows) => rows.row(row).data(),
            EncodedRows::Empty => &[],
        }
    }
}

impl RowCodec {
    pub fn new<'a>(types: impl IntoIterator<Item = &'a SqlType>) -> Result<Self> {
        Self::with_fields(types.into_iter().map(|t| SortField::new(t.to_arrow())).collect())
    }

    /// A codec of the columns at `positions`.
    pub fn project(types: &[SqlType], positions: &[usize]) -> Result<Self> {
        Self::new(positions.iter().map(|i| &types[*i]))
    }

    /// A codec of the sort columns whose byte order is the sort order.
    pub fn sorted(types: &[SqlType], keys: &[SortKey]) -> Result<Self> {
        let field = |k: &SortKey| {
            let options = SortOptions { descending: k.descending, nulls_first: k.nulls_first };
            SortField::new_with_options(types[k.column].to_arrow(), options)
        };
        Self::with_fields(keys.iter().map(field).collect())
    }

    /// A codec of one column of an Arrow type.
    pub fn of_arrow(ty: arrow::datatypes::DataType) -> Result<Self> {
        Self::with_fields(vec![SortField::new(ty)])
    }

    fn with_fields(fields: Vec<SortField>) -> Result<Self> {
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self { converter })
    }

    pub fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedRows> {
        Ok(match &self.converter {
            Some(c) => EncodedRows::Rows(c.convert_columns(columns)?),
            None => EncodedRows::Empty,
        })
    }

    /// Encodes the columns at `positions` of a batch.
    pub fn encode_columns(&self, batch: &Batch, positions: &[usize]) -> Result<EncodedRows> {
        let columns: Vec<ArrayRef> = positions.iter().map(|i| batch.column(*i).clone()).collect();
        self.encode(&columns)
    }

    /// Rows back to columns.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        match &self.converter {
            Some(c) => {
                let parser = c.parser();
                Ok(c.convert_rows(rows.into_iter().map(|r| parser.parse(r)).collect::<Vec<_>>())?)
            }
            None => Ok(vec![]),
        }
    }
}

/// Byte strings one behind the other.
#[derive(Default)]
pub struct ByteRows {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl ByteRows {
    pub fn push(&mut self, row: &[u8]) {
        self.data.extend_from_slice(row);
        self.ends.push(self.data.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.data[start..self.ends[row]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }

    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }
}

/// Changes on their way out, in order: rows of the input batch by position, and rows from state by value.
#[derive(Default)]
pub struct Changelog {
    kinds: Vec<RowKind>,
    /// (0, row of the input) or (1, row of `stored`)
    picks: Vec<(usize, usize)>,
    stored: ByteRows,
}

impl Changelog {
    #[inline]
    pub fn input(&mut self, kind: RowKind, row: usize) {
        self.kinds.push(kind);
        self.picks.push((0, row));
    }

    #[inline]
    pub fn stored(&mut self, kind: RowKind, row: &[u8]) {
        self.kinds.push(kind);
        self.picks.push((1, self.stored.len()));
        self.stored.push(row);
    }

    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The changes as a batch: `codec` decodes stored rows, `input` are the columns of input rows (the same types).
    pub fn finish(self, codec: &RowCodec, input: &[ArrayRef]) -> Result<Batch> {
        let rows = self.kinds.len();
        let columns = if self.stored.is_empty() {
            take_rows(input, &self.picks)?
        } else {
            let stored = codec.decode(self.stored.iter())?;
            if self.stored.len() == rows {
                stored
            } else {
                stored
                    .iter()
                    .zip(input)
                    .map(|(s, i)| Ok(compute::interleave(&[i.as_ref(), s.as_ref()], &self.picks)?))
                    .collect::<Result<Vec<_>>>()?
            }
        };
        Ok(Batch::with_kinds(columns, Some(Arc::from(self.kinds)), rows))
    }
}

fn take_rows(input: &[ArrayRef], picks: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
    let in_place = input.first().is_none_or(|c| c.len() == picks.len()) && picks.iter().enumerate().all(|(i, p)| p.1 == i);
    if in_place {
        return Ok(input.to_vec());
    }
    let indices: UInt32Array = picks.iter().map(|p| p.1 as u32).collect::<Vec<_>>().into();
    take(input, &indices)
}

/// `take` on several columns.
pub fn take(columns: &[ArrayRef], indices: &UInt32Array) -> Result<Vec<ArrayRef>> {
    columns.iter().map(|c| Ok(compute::take(c, indices, None)?)).collect()
}

/// Which rows have no NULL in these columns.
pub fn all_valid(batch: &Batch, columns: &[usize]) -> Option<Vec<bool>> {
    let with_nulls: Vec<&ArrayRef> = columns.iter().map(|c| batch.column(*c)).filter(|c| c.logical_null_count() > 0).collect();
    if with_nulls.is_empty() {
        return None;
    }
    let mut valid = vec![true; batch.rows()];
    for column in with_nulls {
        if let Some(nulls) = column.logical_nulls() {
            valid.iter_mut().enumerate().for_each(|(i, v)| *v &= nulls.is_valid(i));
        }
    }
    Some(valid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sluice_batch::datum::{from_array, from_datums};
    use sluice_batch::{Datum, TypeKind};

    use super::*;

    #[test]
    fn nested_rows_survive() {
        let map = TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::Int.nullable())).nullable();
        let list = TypeKind::Array(Box::new(map.clone())).nullable();
        let ltz = TypeKind::TimestampLtz(3).nullable();
        let entry = Datum::Map([(Datum::string("a"), Datum::Int(1)), (Datum::string("k"), Datum::Null)].into());
        let values = [entry.clone(), Datum::Null];
        let lists = [Datum::Array([entry, Datum::Null].into()), Datum::Array([].into())];
        let times = [Datum::Timestamp(5000), Datum::Null];
        let columns = vec![from_datums(&values, &map).unwrap(), from_datums(&lists, &list).unwrap(), from_datums(&times, &ltz).unwrap()];
        let codec = RowCodec::new([&map, &list, &ltz]).unwrap();
        let rows = codec.encode(&columns).unwrap();
        let mut changes = Changelog::default();
        changes.stored(RowKind::UpdateBefore, rows.get(1));
        changes.input(RowKind::UpdateAfter, 0);
        let out = changes.finish(&codec, &columns).unwrap();
        assert_eq!(from_array(out.column(0), 1, &map), values[0]);
        assert_eq!(from_array(out.column(1), 0, &list), lists[1]);
        assert_eq!(from_array(out.column(1), 1, &list), lists[0]);
        assert_eq!(from_array(out.column(2), 1, &ltz), times[0]);
        assert_eq!(out.kind(0), RowKind::UpdateBefore);
        assert_eq!(out.take(&vec![1, 0, 1].into()).unwrap().rows(), 3);
        assert_eq!(Batch::concat(&[out.clone(), out]).unwrap().rows(), 4);
    }
}
