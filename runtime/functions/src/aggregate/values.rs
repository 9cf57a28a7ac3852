//! Values of any type inside states: as the bytes of Arrow's row format, in which equal values have equal bytes.

use arrow::array::{ArrayRef, new_null_array};
use arrow::row::{RowConverter, RowParser, Rows, SortField};
use hashbrown::HashMap;
use sluice_batch::datum::{from_array, from_datums};
use sluice_batch::{Result, SqlType};

use super::codec::{put_bytes, put_datum, put_i64, put_len, take_bytes, take_datum, take_i64, take_len};

/// Turns columns of given types into bytes a row and back.
pub(crate) struct ValueCodec {
    types: Vec<SqlType>,
    converter: RowConverter,
    parser: RowParser,
    /// The row of NULLs.
    null: Box<[u8]>,
}

impl std::fmt::Debug for ValueCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ValueCodec({:?})", self.types)
    }
}

impl ValueCodec {
    pub(crate) fn new(types: Vec<SqlType>) -> Result<Self> {
        let converter = RowConverter::new(types.iter().map(|t| SortField::new(t.to_arrow())).collect())?;
        let parser = converter.parser();
        let nulls: Vec<ArrayRef> = types.iter().map(|t| new_null_array(&t.to_arrow(), 1)).collect();
        let null = Box::from(converter.convert_columns(&nulls)?.row(0).data());
        Ok(Self { types, converter, parser, null })
    }

    /// The rows of these columns as bytes.
    pub(crate) fn rows(&self, columns: &[ArrayRef]) -> Result<Rows> {
        Ok(self.converter.convert_columns(&columns[..self.types.len().min(columns.len())])?)
    }

    /// Columns from the bytes of rows.
    pub(crate) fn columns<'a>(&'a self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        Ok(self.converter.convert_rows(rows.into_iter().map(|r| self.parser.parse(r)))?)
    }

    /// The first column from rows that lie one behind the other and end at `ends`; an empty one is NULL.
    pub(crate) fn optional_column(&self, bytes: &[u8], ends: &[usize]) -> Result<ArrayRef> {
        let mut start = 0;
        let rows = ends.iter().map(|end| {
            let row = &bytes[start..*end];
            start = *end;
            if row.is_empty() { self.null.as_ref() } else { row }
        });
        let mut columns = self.converter.convert_rows(rows.map(|r| self.parser.parse(r)))?;
        match columns.is_empty() {
            true => Err(sluice_batch::Error::runtime("an aggregate without a value")),
            false => Ok(columns.swap_remove(0)),
        }
    }

    /// Writes a row in a form that does not depend on Arrow's.
    pub(crate) fn encode(&self, row: &[u8], out: &mut Vec<u8>) {
        match self.columns([row]) {
            Ok(columns) => self.types.iter().zip(&columns).for_each(|(t, c)| put_datum(&from_array(c, 0, t), out)),
            // Bytes that the converter made itself always convert back.
            Err(_) => debug_assert!(false, "row bytes do not convert back"),
        }
    }

    pub(crate) fn decode(&self, input: &mut &[u8]) -> Result<Box<[u8]>> {
        let columns = self.types.iter().map(|t| from_datums([&take_datum(input)?], t)).collect::<Result<Vec<_>>>()?;
        Ok(Box::from(self.rows(&columns)?.row(0).data()))
    }
}

/// A list of byte strings in one allocation, from which the first equal one can be taken out
/// (Flink: `ListView.remove`), and a list of those that were to be taken out but are not there yet.
#[derive(Default)]
pub(crate) struct Bag {
    data: Vec<u8>,
    ends: Vec<u32>,
    missing: Option<Box<Bag>>,
}

impl Bag {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        self.data.get(self.start(index)..end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let item = &self.data[start..*end as usize];
            start = *end as usize;
            item
        })
    }

    pub(crate) fn push(&mut self, item: &[u8]) {
        self.data.extend_from_slice(item);
        self.ends.push(self.data.len() as u32);
    }

    /// Makes `item` the only one.
    pub(crate) fn replace(&mut self, item: &[u8]) {
        self.data.clear();
        self.ends.clear();
        self.push(item);
    }

    fn remove(&mut self, item: &[u8]) -> bool {
        let Some(index) = self.iter().position(|i| i == item) else {
            return false;
        };
        let start = self.start(index);
        self.data.drain(start..start + item.len());
        self.ends.remove(index);
        self.ends[index..].iter_mut().for_each(|e| *e -= item.len() as u32);
        true
    }

    /// Takes out the first equal item; remembers it if there is none.
    pub(crate) fn retract(&mut self, item: &[u8]) {
        if !self.remove(item) {
            self.missing.get_or_insert_default().push(item);
        }
    }

    /// Appends the items of another list; what either lacked is taken out now if the other has it.
    pub(crate) fn merge(&mut self, other: &Bag) {
        other.iter().for_each(|i| self.push(i));
        if self.missing.is_none() && other.missing.is_none() {
            return;
        }
        let mut missing = self.missing.take().unwrap_or_default();
        other.missing.iter().flat_map(|m| m.iter()).for_each(|i| missing.push(i));
        missing.iter().for_each(|i| self.retract(i));
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>, item: &mut dyn FnMut(&[u8], &mut Vec<u8>)) {
        for bag in [Some(self), self.missing.as_deref()] {
            put_len(bag.map_or(0, Bag::len), out);
            bag.iter().flat_map(|b| b.iter()).for_each(|i| item(i, out));
        }
    }

    pub(crate) fn decode(input: &mut &[u8], item: &mut dyn FnMut(&mut &[u8]) -> Result<Box<[u8]>>) -> Result<Self> {
        let mut read = |input: &mut &[u8]| {
            let mut bag = Bag::default();
            for _ in 0..take_len(input)? {
                bag.push(&item(input)?);
            }
            Ok::<_, sluice_batch::Error>(bag)
        };
        let mut bag = read(input)?;
        let missing = read(input)?;
        if !missing.is_empty() {
            bag.missing = Some(Box::new(missing));
        }
        Ok(bag)
    }

    pub(crate) fn heap(&self) -> usize {
        self.data.capacity() + self.ends.capacity() * 4 + self.missing.as_ref().map_or(0, |m| size_of::<Bag>() + m.heap())
    }
}

/// Raw byte strings for [`Bag::encode`] and [`Bag::decode`].
pub(crate) fn put_raw(item: &[u8], out: &mut Vec<u8>) {
    put_bytes(item, out);
}

pub(crate) fn take_raw(input: &mut &[u8]) -> Result<Box<[u8]>> {
    Ok(Box::from(take_bytes(input)?))
}

/// How often each value is there, in the order of first appearance. Counts below zero are retractions of values that have not come yet.
#[derive(Default)]
pub(crate) struct Counts {
    map: HashMap<Box<[u8]>, (i64, u64)>,
    next: u64,
    bytes: usize,
}

impl Counts {
    /// Adds `by` to the count of a value and gives the count before and after.
    pub(crate) fn add(&mut self, value: &[u8], by: i64) -> (i64, i64) {
        if let Some((count, _)) = self.map.get_mut(value) {
            let before = *count;
            *count += by;
            let after = *count;
            if after == 0 {
                self.map.remove(value);
                self.bytes -= value.len();
            }
            return (before, after);
        }
        if by != 0 {
            self.map.insert(Box::from(value), (by, self.next));
            self.next += 1;
            self.bytes += value.len();
        }
        (0, by)
    }

    /// Values with counts in the order of first appearance.
    pub(crate) fn ordered(&self) -> Vec<(&[u8], i64)> {
        let mut all: Vec<_> = self.map.iter().map(|(v, (count, at))| (*at, v.as_ref(), *count)).collect();
        all.sort_unstable_by_key(|(at, ..)| *at);
        all.into_iter().map(|(_, v, count)| (v, count)).collect()
    }

    /// How many values are there at least once.
    pub(crate) fn present(&self) -> usize {
        self.map.values().filter(|(count, _)| *count > 0).count()
    }

    pub(crate) fn encode(&self, codec: &ValueCodec, out: &mut Vec<u8>) {
        put_len(self.map.len(), out);
        for (value, count) in self.ordered() {
            codec.encode(value, out);
            put_i64(count, out);
        }
    }

    pub(crate) fn decode(codec: &ValueCodec, input: &mut &[u8]) -> Result<Self> {
        let mut counts = Self::default();
        for _ in 0..take_len(input)? {
            let value = codec.decode(input)?;
            counts.add(&value, take_i64(input)?);
        }
        Ok(counts)
    }

    pub(crate) fn heap(&self) -> usize {
        self.map.capacity() * size_of::<(Box<[u8]>, (i64, u64))>() + self.bytes
    }
}
