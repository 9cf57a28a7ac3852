//! Columns under construction. Unlike Arrow's builders they can be cut back, so that half of a broken record can be taken out again.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, ListArray, NullArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    Date32Type, Field as ArrowField, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, TimeUnit,
    TimestampMicrosecondType, TimestampNanosecondType,
};
use sluice_batch::datum::map_array;
use sluice_batch::types::row_fields;
use sluice_batch::{Error, Result, RowKind, SqlType, TypeKind};

/// The columns of insert-only formats under construction, whole rows at a time.
pub(crate) struct Rows {
    pub columns: Vec<Column>,
    rows: usize,
}

impl Rows {
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: 0 }
    }

    /// `rows` more are complete.
    pub fn add(&mut self, rows: usize) {
        self.rows += rows;
    }

    /// Takes out what a broken record has left behind the last complete row.
    pub fn cut(&mut self) {
        self.columns.iter_mut().for_each(|c| c.truncate(self.rows));
    }

    pub fn push_null(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
        self.rows += 1;
    }

    /// The columns, and no row kinds; new ones begin.
    pub fn finish(&mut self) -> Result<(Vec<ArrayRef>, Option<Vec<RowKind>>)> {
        self.rows = 0;
        Ok((self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?, None))
    }
}

/// One column of one SQL type, one value behind the other.
pub(crate) struct Column {
    pub kind: TypeKind,
    valid: Vec<bool>,
    has_nulls: bool,
    pub data: Data,
}

/// The values; NULLs have some value here, too (in lists and maps an empty one).
pub(crate) enum Data {
    Null,
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    /// INT, DATE (days), TIME (milliseconds)
    Int32(Vec<i32>),
    /// BIGINT and timestamps (raw, in their type's unit)
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    /// Strings (UTF-8) and bytes; ends without the leading zero.
    Bytes(Bytes),
    List(Vec<i32>, Box<Column>),
    Map(Vec<i32>, Box<Column>, Box<Column>),
    Row(Vec<Column>),
}

#[derive(Default)]
pub(crate) struct Bytes {
    pub ends: Vec<i32>,
    pub bytes: Vec<u8>,
}

impl Column {
    /// An empty column.
    ///
    /// # Errors
    /// If no format has the type (INTERVAL, VARIANT).
    pub fn new(ty: &SqlType) -> Result<Self> {
        let child = |ty: &SqlType| Ok::<_, Error>(Box::new(Column::new(ty)?));
        let data = match &ty.kind {
            TypeKind::Null => Data::Null,
            TypeKind::Boolean => Data::Boolean(vec![]),
            TypeKind::TinyInt => Data::Int8(vec![]),
            TypeKind::SmallInt => Data::Int16(vec![]),
            TypeKind::Int | TypeKind::Date | TypeKind::Time(_) => Data::Int32(vec![]),
            TypeKind::BigInt | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => Data::Int64(vec![]),
            TypeKind::Float => Data::Float32(vec![]),
            TypeKind::Double => Data::Float64(vec![]),
            TypeKind::Decimal(..) => Data::Decimal(vec![]),
            TypeKind::Char(_) | TypeKind::VarChar(_) | TypeKind::Binary(_) | TypeKind::VarBinary(_) => Data::Bytes(Bytes::default()),
            TypeKind::Array(element) => Data::List(vec![], child(element)?),
            TypeKind::Map(key, value) => Data::Map(vec![], child(key)?, child(value)?),
            TypeKind::Multiset(element) => Data::Map(vec![], child(element)?, child(&TypeKind::Int.not_null())?),
            TypeKind::Row(fields) => Data::Row(fields.iter().map(|f| Column::new(&f.ty)).collect::<Result<_>>()?),
            TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime | TypeKind::Variant => {
                return Err(Error::unsupported(format!("type {ty} in a format")));
            }
        };
        Ok(Self { kind: ty.kind.clone(), valid: vec![], has_nulls: false, data })
    }

    pub fn len(&self) -> usize {
        self.valid.len()
    }

    /// Ends the value that was just appended to `data`.
    #[inline]
    pub fn set_valid(&mut self) {
        self.valid.push(true);
    }

    pub fn push_null(&mut self) {
        match &mut self.data {
            Data::Null => {}
            Data::Boolean(v) => v.push(false),
            Data::Int8(v) => v.push(0),
            Data::Int16(v) => v.push(0),
            Data::Int32(v) => v.push(0),
            Data::Int64(v) => v.push(0),
            Data::Float32(v) => v.push(0.0),
            Data::Float64(v) => v.push(0.0),
            Data::Decimal(v) => v.push(0),
            Data::Bytes(b) => b.end(),
            Data::List(ends, item) => ends.push(item.len() as i32),
            Data::Map(ends, key, _) => ends.push(key.len() as i32),
            Data::Row(children) => children.iter_mut().for_each(Column::push_null),
        }
        self.valid.push(false);
        self.has_nulls = true;
    }

    /// Cuts back to the first `len` values.
    pub fn truncate(&mut self, len: usize) {
        self.valid.truncate(len);
        match &mut self.data {
            Data::Null => {}
            Data::Boolean(v) => v.truncate(len),
            Data::Int8(v) => v.truncate(len),
            Data::Int16(v) => v.truncate(len),
            Data::Int32(v) => v.truncate(len),
            Data::Int64(v) => v.truncate(len),
            Data::Float32(v) => v.truncate(len),
            Data::Float64(v) => v.truncate(len),
            Data::Decimal(v) => v.truncate(len),
            Data::Bytes(b) => {
                b.ends.truncate(len);
                b.bytes.truncate(b.start());
            }
            Data::List(ends, item) => {
                ends.truncate(len);
                item.truncate(last(ends));
            }
            Data::Map(ends, key, value) => {
                ends.truncate(len);
                key.truncate(last(ends));
                value.truncate(last(ends));
            }
            Data::Row(children) => children.iter_mut().for_each(|c| c.truncate(len)),
        }
    }

    /// The values so far as an array; the column is empty after it.
    ///
    /// # Errors
    /// If strings or lists are too large for one array (2 GiB).
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = std::mem::take(&mut self.has_nulls).then(|| NullBuffer::new(BooleanBuffer::from(self.valid.as_slice())));
        let rows = self.valid.len();
        self.valid.clear();
        Ok(match &mut self.data {
            Data::Null => Arc::new(NullArray::new(rows)),
            Data::Boolean(v) => Arc::new(BooleanArray::new(BooleanBuffer::from(drain(v)), nulls)),
            Data::Int8(v) => primitive::<Int8Type>(v, nulls),
            Data::Int16(v) => primitive::<Int16Type>(v, nulls),
            Data::Int32(v) => match self.kind {
                TypeKind::Date => primitive::<Date32Type>(v, nulls),
                TypeKind::Time(_) => primitive::<Time32MillisecondType>(v, nulls),
                _ => primitive::<Int32Type>(v, nulls),
            },
            Data::Int64(v) => finish_int64(&self.kind, v, nulls),
            Data::Float32(v) => primitive::<Float32Type>(v, nulls),
            Data::Float64(v) => primitive::<Float64Type>(v, nulls),
            Data::Decimal(v) => Arc::new(Decimal128Array::new(ScalarBuffer::from(drain(v)), nulls).with_data_type(self.kind.to_arrow())),
            Data::Bytes(b) => {
                let offsets = offsets(&mut b.ends, b.bytes.len())?;
                let values = Buffer::from_vec(drain(&mut b.bytes));
                if self.kind.is_character() {
                    Arc::new(StringArray::try_new(offsets, values, nulls)?)
                } else {
                    Arc::new(BinaryArray::try_new(offsets, values, nulls)?)
                }
            }
            Data::List(ends, item) => {
                let offsets = offsets(ends, item.len())?;
                let field = Arc::new(ArrowField::new("item", item.kind.to_arrow(), true));
                Arc::new(ListArray::try_new(field, offsets, item.finish()?, nulls)?)
            }
            Data::Map(ends, key, value) => {
                let offsets = offsets(ends, key.len())?;
                Arc::new(map_array(&self.kind.to_arrow(), offsets, key.finish()?, value.finish()?, nulls)?)
            }
            Data::Row(children) => {
                let TypeKind::Row(fields) = &self.kind else { return Err(Error::runtime("not a row")) };
                if fields.is_empty() {
                    return Ok(Arc::new(StructArray::new_empty_fields(rows, nulls)));
                }
                let columns = children.iter_mut().map(Column::finish).collect::<Result<_>>()?;
                Arc::new(StructArray::try_new(row_fields(fields), columns, nulls)?)
            }
        })
    }
}

impl Bytes {
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.end();
    }

    /// Ends the value that was just appended to `bytes`.
    #[inline]
    pub fn end(&mut self) {
        self.ends.push(self.bytes.len() as i32);
    }

    /// Where the value under construction begins.
    #[inline]
    pub fn start(&self) -> usize {
        last(&self.ends)
    }
}

fn last(ends: &[i32]) -> usize {
    ends.last().map_or(0, |e| *e as usize)
}

/// Takes the values and leaves room for as many.
fn drain<T>(values: &mut Vec<T>) -> Vec<T> {
    let capacity = values.len();
    std::mem::replace(values, Vec::with_capacity(capacity))
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(drain(values)), nulls))
}

fn finish_int64(kind: &TypeKind, values: &mut Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    let zone = matches!(kind, TypeKind::TimestampLtz(_)).then(|| Arc::from("UTC"));
    match kind {
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
            let values = ScalarBuffer::from(drain(values));
            match TypeKind::timestamp_unit(*p) {
                TimeUnit::Nanosecond => {
                    Arc::new(PrimitiveArray::<TimestampNanosecondType>::new(values, nulls).with_timezone_opt::<Arc<str>>(zone))
                }
                _ => Arc::new(PrimitiveArray::<TimestampMicrosecondType>::new(values, nulls).with_timezone_opt::<Arc<str>>(zone)),
            }
        }
        _ => primitive::<Int64Type>(values, nulls),
    }
}

fn offsets(ends: &mut Vec<i32>, len: usize) -> Result<OffsetBuffer<i32>> {
    if i32::try_from(len).is_err() {
        return Err(Error::runtime("a column has more than 2 GiB in one batch"));
    }
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}
