//! One value outside a column: literals, and rows where an operator must go row by row.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMillisecondArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, IntervalYearMonthArray, ListArray, MapArray, NullArray, StringArray, StructArray,
    Time32MillisecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, TimeUnit};

use crate::error::{Error, Result};
use crate::types::{Field, SqlType, TypeKind, row_fields};

/// A single SQL value. Times are raw integers in the unit of their [`crate::SqlType`]:
/// DATE in days, TIME in milliseconds, TIMESTAMP(p)/TIMESTAMP_LTZ(p) in microseconds for p <= 6 and nanoseconds above,
/// intervals in months or milliseconds. A decimal is its unscaled integer; the scale is in the type.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Null,
    Boolean(bool),
    TinyInt(i8),
    SmallInt(i16),
    Int(i32),
    BigInt(i64),
    Float(f32),
    Double(f64),
    Decimal(i128),
    /// CHAR, VARCHAR and VARIANT.
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    Date(i32),
    Time(i32),
    /// TIMESTAMP and TIMESTAMP_LTZ.
    Timestamp(i64),
    IntervalYearMonth(i32),
    IntervalDayTime(i64),
    Array(Arc<[Datum]>),
    /// MAP entries in order; a MULTISET has `Int` counts as values.
    Map(Arc<[(Datum, Datum)]>),
    Row(Arc<[Datum]>),
}

impl Datum {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    pub fn string(s: impl AsRef<str>) -> Self {
        Datum::String(Arc::from(s.as_ref()))
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Datum::String(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Datum::Boolean(b) => Some(*b),
            _ => None,
        }
    }

    /// The value of any of the four integer types.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Datum::TinyInt(v) => Some(i64::from(*v)),
            Datum::SmallInt(v) => Some(i64::from(*v)),
            Datum::Int(v) => Some(i64::from(*v)),
            Datum::BigInt(v) => Some(*v),
            _ => None,
        }
    }
}

/// One value as an array of length 1.
///
/// # Errors
/// If the value is not one of the type: a defect of the planner.
pub fn to_array(value: &Datum, ty: &SqlType) -> Result<ArrayRef> {
    from_datums(std::iter::once(value), ty)
}

/// Values of one type as a column.
///
/// # Errors
/// If a value is not one of the type: a defect of the planner.
pub fn from_datums<'a>(values: impl IntoIterator<Item = &'a Datum>, ty: &SqlType) -> Result<ArrayRef> {
    let mut builder = DatumBuilder::new(ty);
    for v in values {
        builder.push(v)?;
    }
    builder.finish()
}

fn wrong(value: &Datum, ty: &SqlType) -> Error {
    Error::runtime(format!("{value:?} is not a value of type {ty}"))
}

/// A MAP or MULTISET column from its parts; `ty` is the Arrow type of [`SqlType::to_arrow`].
/// Arrow's own constructors refuse NULL keys, which Flink's maps may have.
///
/// # Errors
/// If the parts do not fit together: a defect of the caller.
pub fn map_array(
    ty: &ArrowType,
    offsets: OffsetBuffer<i32>,
    keys: ArrayRef,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<MapArray> {
    let ArrowType::Map(field, _) = ty else {
        return Err(Error::runtime(format!("{ty} is not a map")));
    };
    let ArrowType::Struct(fields) = field.data_type() else {
        return Err(Error::runtime(format!("{ty} has no entries")));
    };
    if keys.null_count() == 0 {
        let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        return Ok(MapArray::try_new(field.clone(), offsets, entries, nulls, false)?);
    }
    let entries = keys.len();
    let fits = *offsets.last().unwrap_or(&0) as usize <= entries && values.len() == entries;
    let typed = fields.iter().zip([&keys, &values]).all(|(f, a)| f.data_type() == a.data_type());
    if !fits || !typed || nulls.as_ref().is_some_and(|n| n.len() + 1 != offsets.len()) {
        return Err(Error::runtime(format!("keys, values and offsets do not make a {ty}")));
    }
    // SAFETY: lengths and types were just checked, offsets are sorted by their type; only the rule that keys are not NULL is
    // broken, and no memory safety hangs on that.
    let data = unsafe {
        let entries = StructArray::new_unchecked(fields.clone(), vec![keys, values], None);
        arrow::array::ArrayData::builder(ty.clone())
            .len(offsets.len() - 1)
            .nulls(nulls)
            .add_buffer(offsets.into_inner().into_inner())
            .add_child_data(entries.into_data())
            .build_unchecked()
    };
    Ok(MapArray::from(data))
}

/// Builds a column of one SQL type from [`Datum`]s. For edges and tests, not for the hot path.
pub struct DatumBuilder {
    ty: SqlType,
    values: Vec<Datum>,
}

macro_rules! primitive {
    ($self:expr, $array:ty, $variant:pat => $value:expr) => {{
        let mut out = Vec::with_capacity($self.values.len());
        for v in &$self.values {
            out.push(match v {
                Datum::Null => None,
                $variant => Some($value),
                other => return Err(wrong(other, &$self.ty)),
            });
        }
        <$array>::from_iter(out)
    }};
}

impl DatumBuilder {
    pub fn new(ty: &SqlType) -> Self {
        Self { ty: ty.clone(), values: Vec::new() }
    }

    pub fn push(&mut self, value: &Datum) -> Result<()> {
        self.values.push(value.clone());
        Ok(())
    }

    pub fn finish(self) -> Result<ArrayRef> {
        let arrow = self.ty.to_arrow();
        Ok(match &self.ty.kind {
            TypeKind::Null => Arc::new(NullArray::new(self.values.len())),
            TypeKind::Boolean => Arc::new(primitive!(self, BooleanArray, Datum::Boolean(b) => *b)),
            TypeKind::TinyInt => Arc::new(primitive!(self, Int8Array, Datum::TinyInt(v) => *v)),
            TypeKind::SmallInt => Arc::new(primitive!(self, Int16Array, Datum::SmallInt(v) => *v)),
            TypeKind::Int => Arc::new(primitive!(self, Int32Array, Datum::Int(v) => *v)),
            TypeKind::BigInt => Arc::new(primitive!(self, Int64Array, Datum::BigInt(v) => *v)),
            TypeKind::Float => Arc::new(primitive!(self, Float32Array, Datum::Float(v) => *v)),
            TypeKind::Double => Arc::new(primitive!(self, Float64Array, Datum::Double(v) => *v)),
            TypeKind::Decimal(..) => Arc::new(primitive!(self, Decimal128Array, Datum::Decimal(v) => *v).with_data_type(arrow)),
            TypeKind::Char(_) | TypeKind::VarChar(_) | TypeKind::Variant => {
                Arc::new(primitive!(self, StringArray, Datum::String(s) => s.as_ref()))
            }
            TypeKind::Binary(_) | TypeKind::VarBinary(_) => Arc::new(primitive!(self, BinaryArray, Datum::Bytes(b) => b.as_ref())),
            TypeKind::Date => Arc::new(primitive!(self, Date32Array, Datum::Date(v) => *v)),
            TypeKind::Time(_) => Arc::new(primitive!(self, Time32MillisecondArray, Datum::Time(v) => *v)),
            TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
                let raw = primitive!(self, Int64Array, Datum::Timestamp(v) => *v);
                arrow::array::make_array(raw.into_data().into_builder().data_type(arrow).build()?)
            }
            TypeKind::IntervalYearMonth => Arc::new(primitive!(self, IntervalYearMonthArray, Datum::IntervalYearMonth(v) => *v)),
            TypeKind::IntervalDayTime => Arc::new(primitive!(self, DurationMillisecondArray, Datum::IntervalDayTime(v) => *v)),
            TypeKind::Array(element) => self.finish_array(element)?,
            TypeKind::Map(key, value) => self.finish_map(key, value)?,
            TypeKind::Multiset(element) => self.finish_map(element, &TypeKind::Int.not_null())?,
            TypeKind::Row(fields) => self.finish_row(fields)?,
        })
    }

    fn validity(&self) -> Option<NullBuffer> {
        let valid: Vec<bool> = self.values.iter().map(|v| !v.is_null()).collect();
        valid.contains(&false).then(|| NullBuffer::from(valid))
    }

    fn finish_array(&self, element: &SqlType) -> Result<ArrayRef> {
        let mut items = DatumBuilder::new(element);
        let mut lengths = Vec::with_capacity(self.values.len());
        for v in &self.values {
            match v {
                Datum::Null => lengths.push(0),
                Datum::Array(a) => {
                    lengths.push(a.len());
                    a.iter().try_for_each(|i| items.push(i))?;
                }
                other => return Err(wrong(other, &self.ty)),
            }
        }
        let field = Arc::new(ArrowField::new("item", element.to_arrow(), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(field, offsets, items.finish()?, self.validity())?))
    }

    fn finish_map(&self, key: &SqlType, value: &SqlType) -> Result<ArrayRef> {
        let (mut keys, mut values) = (DatumBuilder::new(key), DatumBuilder::new(value));
        let mut lengths = Vec::with_capacity(self.values.len());
        for v in &self.values {
            match v {
                Datum::Null => lengths.push(0),
                Datum::Map(m) => {
                    lengths.push(m.len());
                    for (k, v) in m.iter() {
                        keys.push(k)?;
                        values.push(v)?;
                    }
                }
                other => return Err(wrong(other, &self.ty)),
            }
        }
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(map_array(&self.ty.to_arrow(), offsets, keys.finish()?, values.finish()?, self.validity())?))
    }

    fn finish_row(&self, fields: &[Field]) -> Result<ArrayRef> {
        let mut columns: Vec<_> = fields.iter().map(|f| DatumBuilder::new(&f.ty)).collect();
        for v in &self.values {
            match v {
                Datum::Null => columns.iter_mut().try_for_each(|c| c.push(&Datum::Null))?,
                Datum::Row(r) if r.len() == columns.len() => {
                    columns.iter_mut().zip(r.iter()).try_for_each(|(c, v)| c.push(v))?;
                }
                other => return Err(wrong(other, &self.ty)),
            }
        }
        let arrays = columns.into_iter().map(DatumBuilder::finish).collect::<Result<Vec<_>>>()?;
        let (fields, validity) = (row_fields(fields), self.validity());
        let rows = self.values.len();
        Ok(Arc::new(StructArray::try_new_with_length(fields, arrays, validity, rows)?))
    }
}

/// The value at `row` of a column of this type. NULL when out of range. For edges and tests, not for the hot path.
pub fn from_array(array: &dyn Array, row: usize, ty: &SqlType) -> Datum {
    if row >= array.len() || array.is_null(row) {
        return Datum::Null;
    }
    macro_rules! at {
        ($t:ty) => {
            match array.as_any().downcast_ref::<$t>() {
                Some(a) => a.value(row),
                None => return Datum::Null,
            }
        };
    }
    match &ty.kind {
        TypeKind::Null => Datum::Null,
        TypeKind::Boolean => Datum::Boolean(at!(BooleanArray)),
        TypeKind::TinyInt => Datum::TinyInt(at!(Int8Array)),
        TypeKind::SmallInt => Datum::SmallInt(at!(Int16Array)),
        TypeKind::Int => Datum::Int(at!(Int32Array)),
        TypeKind::BigInt => Datum::BigInt(at!(Int64Array)),
        TypeKind::Float => Datum::Float(at!(Float32Array)),
        TypeKind::Double => Datum::Double(at!(Float64Array)),
        TypeKind::Decimal(..) => Datum::Decimal(at!(Decimal128Array)),
        TypeKind::Char(_) | TypeKind::VarChar(_) | TypeKind::Variant => Datum::String(Arc::from(at!(StringArray))),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => Datum::Bytes(Arc::from(at!(BinaryArray))),
        TypeKind::Date => Datum::Date(at!(Date32Array)),
        TypeKind::Time(_) => Datum::Time(at!(Time32MillisecondArray)),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) => Datum::Timestamp(match TypeKind::timestamp_unit(*p) {
            TimeUnit::Nanosecond => at!(TimestampNanosecondArray),
            _ => at!(TimestampMicrosecondArray),
        }),
        TypeKind::IntervalYearMonth => Datum::IntervalYearMonth(at!(IntervalYearMonthArray)),
        TypeKind::IntervalDayTime => Datum::IntervalDayTime(at!(DurationMillisecondArray)),
        TypeKind::Array(element) => {
            let items = at!(ListArray);
            Datum::Array((0..items.len()).map(|i| from_array(&items, i, element)).collect())
        }
        TypeKind::Map(key, value) => Datum::Map(map_entries(&at!(MapArray), key, value)),
        TypeKind::Multiset(element) => Datum::Map(map_entries(&at!(MapArray), element, &TypeKind::Int.not_null())),
        TypeKind::Row(fields) => match array.as_any().downcast_ref::<StructArray>() {
            Some(s) => Datum::Row(fields.iter().enumerate().map(|(i, f)| from_array(s.column(i), row, &f.ty)).collect()),
            None => Datum::Null,
        },
    }
}

fn map_entries(entries: &StructArray, key: &SqlType, value: &SqlType) -> Arc<[(Datum, Datum)]> {
    let (keys, values) = (entries.column(0), entries.column(1));
    (0..entries.len()).map(|i| (from_array(keys, i, key), from_array(values, i, value))).collect()
}

/// A value as it stands in the canonical text of an expression.
pub struct Display<'a>(pub &'a Datum, pub &'a SqlType);

impl fmt::Display for Display<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Datum::Null => f.write_str("NULL"),
            Datum::Boolean(b) => f.write_str(if *b { "TRUE" } else { "FALSE" }),
            Datum::TinyInt(v) => write!(f, "{v}"),
            Datum::SmallInt(v) => write!(f, "{v}"),
            Datum::Int(v) => write!(f, "{v}"),
            Datum::BigInt(v) => write!(f, "{v}"),
            Datum::Float(v) => write!(f, "{v:?}"),
            Datum::Double(v) => write!(f, "{v:?}"),
            Datum::String(s) => write!(f, "'{}'", s.replace('\'', "''")),
            other => write!(f, "{other:?}:{}", self.1.kind),
        }
    }
}
