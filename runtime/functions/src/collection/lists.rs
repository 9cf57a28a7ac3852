//! Arrays made of elements that are there already: a result is a list of positions in the arguments, gathered at the end.
//! No function over arrays builds values one by one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use sluice_batch::{Error, Result, SqlType, TypeKind, Value, datum};

use crate::kernel::Args;

/// A position: which source, and where in it.
pub(super) type Position = (usize, usize);

/// An array argument: its elements and where each row's lie.
pub(super) struct ListArg<'a> {
    pub list: &'a ListArray,
    scalar: bool,
}

impl<'a> ListArg<'a> {
    pub fn new(args: &Args<'a>, index: usize) -> Result<Self> {
        let column = args.column::<ListArray>(index)?;
        Ok(Self { list: column.array(), scalar: column.is_scalar() })
    }

    /// The positions of a row's elements; `None` if the array is NULL.
    pub fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let row = if self.scalar { 0 } else { row };
        let offsets = self.list.offsets();
        self.list.is_valid(row).then(|| offsets[row] as usize..offsets[row + 1] as usize)
    }

    pub fn values(&self) -> &'a ArrayRef {
        self.list.values()
    }
}

/// A plain argument as elements: one a row, or one for all.
pub(super) struct ValueArg<'a> {
    pub values: &'a ArrayRef,
    scalar: bool,
}

impl<'a> ValueArg<'a> {
    pub fn new(args: &Args<'a>, index: usize) -> Result<Self> {
        let value: &'a Value = args.values.get(index).ok_or_else(|| Error::runtime("an argument is missing"))?;
        Ok(Self { values: value.array(), scalar: value.is_scalar() })
    }

    pub fn at(&self, row: usize) -> usize {
        if self.scalar { 0 } else { row }
    }
}

/// The elements of several sources as comparable bytes: equal as SQL has it, in order where there is one.
pub(super) struct Keys {
    sources: Vec<Rows>,
}

impl Keys {
    /// All sources must have one type.
    pub fn new(sources: &[&ArrayRef]) -> Result<Self> {
        let Some(first) = sources.first() else { return Ok(Self { sources: vec![] }) };
        let converter = RowConverter::new(vec![SortField::new(first.data_type().clone())])?;
        let convert = |s: &&ArrayRef| Ok(converter.convert_columns(&[canonical(s)?])?);
        Ok(Self { sources: sources.iter().map(convert).collect::<Result<_>>()? })
    }

    pub fn get(&self, (source, at): Position) -> &[u8] {
        self.sources.get(source).map_or(&[], |rows| rows.row(at).data())
    }
}

/// The column with one form for what is equal: no negative zeros, the entries of maps in order of their keys.
fn canonical(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        // Adding 0 makes -0.0 to 0.0 and changes nothing else.
        DataType::Float32 => Ok(Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| v + 0.0))),
        DataType::Float64 => Ok(Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| v + 0.0))),
        ty if !has_several_forms(ty) => Ok(array.clone()),
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            let items = canonical(list.values())?;
            Ok(Arc::new(ListArray::try_new(field.clone(), list.offsets().clone(), items, list.nulls().cloned())?))
        }
        DataType::Struct(fields) => {
            let rows = array.as_struct();
            let columns = rows.columns().iter().map(canonical).collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len())?))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (keys, values) = (canonical(map.keys())?, canonical(map.values())?);
            let order = Keys::new(&[&keys])?;
            let mut positions: Vec<u32> = (0..keys.len() as u32).collect();
            for range in map.offsets().windows(2) {
                positions[range[0] as usize..range[1] as usize]
                    .sort_by(|a, b| order.get((0, *a as usize)).cmp(order.get((0, *b as usize))));
            }
            let positions = UInt32Array::from(positions);
            let (keys, values) = (compute::take(&keys, &positions, None)?, compute::take(&values, &positions, None)?);
            let sorted = datum::map_array(map.data_type(), map.offsets().clone(), keys, values, map.nulls().cloned())?;
            Ok(Arc::new(sorted))
        }
        _ => Ok(array.clone()),
    }
}

fn has_several_forms(ty: &DataType) -> bool {
    match ty {
        DataType::Float32 | DataType::Float64 | DataType::Map(..) => true,
        DataType::List(item) => has_several_forms(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_several_forms(f.data_type())),
        _ => false,
    }
}

/// Collects arrays as positions in sources; one more source holds a NULL.
pub(super) struct ListsBuilder {
    positions: Vec<Position>,
    lengths: Vec<usize>,
    valid: Vec<bool>,
}

impl ListsBuilder {
    pub fn new(rows: usize) -> Self {
        Self { positions: Vec::new(), lengths: Vec::with_capacity(rows), valid: Vec::with_capacity(rows) }
    }

    /// A row's array; `None` is NULL.
    pub fn push(&mut self, items: Option<impl IntoIterator<Item = Position>>) {
        let before = self.positions.len();
        self.valid.push(items.is_some());
        self.positions.extend(items.into_iter().flatten());
        self.lengths.push(self.positions.len() - before);
    }

    /// Gathers the elements and gives them with offsets and validity.
    fn gather(self, element: &DataType, sources: &[&ArrayRef]) -> Result<(ArrayRef, OffsetBuffer<i32>, NullBuffer)> {
        let elements = gather(element, sources, &self.positions)?;
        Ok((elements, OffsetBuffer::from_lengths(self.lengths), NullBuffer::from(self.valid)))
    }

    pub fn finish(self, ty: &SqlType, sources: &[&ArrayRef]) -> Result<ArrayRef> {
        let TypeKind::Array(element) = &ty.kind else {
            return Err(Error::runtime(format!("{ty} is not an array")));
        };
        let element = element.to_arrow();
        let (elements, offsets, valid) = self.gather(&element, sources)?;
        Ok(Arc::new(ListArray::try_new(Arc::new(Field::new("item", element, true)), offsets, elements, Some(valid))?))
    }

    /// A map whose entries lie at the same positions of the key and the value sources.
    pub fn finish_map(self, ty: &SqlType, keys: &[&ArrayRef], values: &[&ArrayRef]) -> Result<ArrayRef> {
        let positions = self.positions.clone();
        self.finish_pairs(ty, keys, values, &positions)
    }

    /// A map whose values lie at other positions than the keys.
    pub fn finish_pairs(self, ty: &SqlType, keys: &[&ArrayRef], values: &[&ArrayRef], value_positions: &[Position]) -> Result<ArrayRef> {
        let TypeKind::Map(key, value) = &ty.kind else {
            return Err(Error::runtime(format!("{ty} is not a map")));
        };
        let values = gather(&value.to_arrow(), values, value_positions)?;
        let (keys, offsets, valid) = self.gather(&key.to_arrow(), keys)?;
        Ok(Arc::new(datum::map_array(&ty.to_arrow(), offsets, keys, values, Some(valid))?))
    }
}

/// The position of the NULL that every gathering knows.
pub(super) const NULL: Position = (usize::MAX, 0);

/// The values at these positions of the sources.
pub(super) fn gather(ty: &DataType, sources: &[&ArrayRef], positions: &[Position]) -> Result<ArrayRef> {
    let null = new_null_array(ty, 1);
    let mut all: Vec<ArrayRef> = Vec::with_capacity(sources.len() + 1);
    for source in sources {
        all.push(if source.data_type() == ty { (*source).clone() } else { compute::cast(source, ty)? });
    }
    all.push(null);
    let last = all.len() - 1;
    let refs: Vec<&dyn Array> = all.iter().map(AsRef::as_ref).collect();
    let positions: Vec<Position> = positions.iter().map(|(s, at)| if *s == usize::MAX { (last, 0) } else { (*s, *at) }).collect();
    if positions.is_empty() {
        return Ok(arrow::array::new_empty_array(ty));
    }
    Ok(compute::interleave(&refs, &positions)?)
}
