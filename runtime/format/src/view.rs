//! Arrow columns by SQL type, cast once a batch, for encoders that go row by row.

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, ListArray, MapArray, StringArray, StructArray, Time32MillisecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use sluice_batch::{Batch, Error, Field, Result, SqlType, TypeKind};

/// A column with its type known.
pub(crate) enum View<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    /// With the scale.
    Decimal(&'a Decimal128Array, u8),
    String(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a Date32Array),
    /// With the precision.
    Time(&'a Time32MillisecondArray, u8),
    Timestamp(Timestamps<'a>),
    List(&'a ListArray, Box<View<'a>>),
    Map(&'a MapArray, Box<View<'a>>, Box<View<'a>>),
    Row(&'a StructArray, Vec<View<'a>>),
}

/// TIMESTAMP and TIMESTAMP_LTZ columns.
pub(crate) struct Timestamps<'a> {
    values: &'a [i64],
    nulls: Option<&'a NullBuffer>,
    /// The raw values are nanoseconds, not microseconds.
    pub nanos: bool,
    /// TIMESTAMP_LTZ
    pub zoned: bool,
}

impl Timestamps<'_> {
    #[inline]
    pub fn raw(&self, row: usize) -> i64 {
        self.values[row]
    }
}

impl<'a> View<'a> {
    /// # Errors
    /// If the column is not what the type says (a defect of the plan), or no format has the type.
    pub fn new(array: &'a dyn Array, ty: &SqlType) -> Result<Self> {
        let wrong = || Error::runtime(format!("a column of {ty} came as {}", array.data_type()));
        // no nulls of its own, so nothing to look at but its length
        let (found, expected) = (array.data_type(), ty.to_arrow());
        if !same_layout(found, &expected) {
            return Err(wrong());
        }
        Ok(match &ty.kind {
            TypeKind::Null => Self::Null,
            TypeKind::Boolean => Self::Boolean(array.as_boolean()),
            TypeKind::TinyInt => Self::Int8(array.as_primitive::<Int8Type>()),
            TypeKind::SmallInt => Self::Int16(array.as_primitive::<Int16Type>()),
            TypeKind::Int => Self::Int32(array.as_primitive::<Int32Type>()),
            TypeKind::BigInt => Self::Int64(array.as_primitive::<Int64Type>()),
            TypeKind::Float => Self::Float32(array.as_primitive::<Float32Type>()),
            TypeKind::Double => Self::Float64(array.as_primitive::<Float64Type>()),
            TypeKind::Decimal(_, scale) => Self::Decimal(array.as_primitive::<Decimal128Type>(), *scale),
            TypeKind::Char(_) | TypeKind::VarChar(_) => Self::String(array.as_string::<i32>()),
            TypeKind::Binary(_) | TypeKind::VarBinary(_) => Self::Binary(array.as_binary::<i32>()),
            TypeKind::Date => Self::Date(array.as_primitive::<Date32Type>()),
            TypeKind::Time(p) => Self::Time(array.as_primitive::<Time32MillisecondType>(), *p),
            TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => {
                let nanos = TypeKind::timestamp_unit(*p) == TimeUnit::Nanosecond;
                let values: &[i64] = if nanos {
                    array.as_primitive::<TimestampNanosecondType>().values()
                } else {
                    array.as_primitive::<TimestampMicrosecondType>().values()
                };
                Self::Timestamp(Timestamps { values, nulls: array.nulls(), nanos, zoned: matches!(ty.kind, TypeKind::TimestampLtz(_)) })
            }
            TypeKind::Array(item) => {
                let list = array.as_list::<i32>();
                Self::List(list, Box::new(View::new(list.values().as_ref(), item)?))
            }
            TypeKind::Map(key, value) => Self::map(array.as_map(), key, value)?,
            TypeKind::Multiset(element) => Self::map(array.as_map(), element, &TypeKind::Int.not_null())?,
            TypeKind::Row(fields) => {
                let row = array.as_struct();
                let children = fields.iter().zip(row.columns()).map(|(f, c)| View::new(c.as_ref(), &f.ty)).collect::<Result<_>>()?;
                Self::Row(row, children)
            }
            TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime | TypeKind::Variant => {
                return Err(Error::unsupported(format!("type {ty} in a format")));
            }
        })
    }

    fn map(map: &'a MapArray, key: &SqlType, value: &SqlType) -> Result<Self> {
        let (keys, values) = (View::new(map.keys().as_ref(), key)?, View::new(map.values().as_ref(), value)?);
        Ok(Self::Map(map, Box::new(keys), Box::new(values)))
    }

    /// The columns of a batch.
    pub fn of(batch: &'a Batch, fields: &[Field]) -> Result<Vec<Self>> {
        if batch.columns().len() != fields.len() {
            let message = format!("a format for {} columns got {}", fields.len(), batch.columns().len());
            return Err(Error::runtime(message));
        }
        batch.columns().iter().zip(fields).map(|(c, f)| View::new(c.as_ref(), &f.ty)).collect()
    }

    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(a) => a.is_null(row),
            Self::Int8(a) => a.is_null(row),
            Self::Int16(a) => a.is_null(row),
            Self::Int32(a) => a.is_null(row),
            Self::Int64(a) => a.is_null(row),
            Self::Float32(a) => a.is_null(row),
            Self::Float64(a) => a.is_null(row),
            Self::Decimal(a, _) => a.is_null(row),
            Self::String(a) => a.is_null(row),
            Self::Binary(a) => a.is_null(row),
            Self::Date(a) => a.is_null(row),
            Self::Time(a, _) => a.is_null(row),
            Self::Timestamp(t) => t.nulls.is_some_and(|n| n.is_null(row)),
            Self::List(a, _) => a.is_null(row),
            Self::Map(a, _, _) => a.is_null(row),
            Self::Row(a, _) => a.is_null(row),
        }
    }

    /// Positions of a list's or map's elements.
    #[inline]
    pub fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
        offsets[row] as usize..offsets[row + 1] as usize
    }
}

/// Types equal but for names and nullability of nested fields, and the time zone's name.
fn same_layout(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) | (DataType::Map(a, _), DataType::Map(b, _)) => same_layout(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_layout(a.data_type(), b.data_type()))
        }
        (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) => a == b,
        (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) => a == b,
        _ => a == b,
    }
}
