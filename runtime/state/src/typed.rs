//! State tables as typed columns, for people and for any Parquet reader: keys and values by the names of their layout, accumulators
//! as the results they would give now.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, ListArray, StringArray, StructArray, TimestampMillisecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use sluice_batch::aggregate::AggregateCall;
use sluice_batch::{Result, SqlType, TypeKind, datum};

use crate::cells::{Cells, codec, split, sql_types};
use crate::layout::{NumberKind, Part, Table};

/// What made the accumulators of an operator.
#[derive(Clone, Debug)]
pub struct Calls {
    pub calls: Vec<AggregateCall>,
    /// Types of the columns that the calls' arguments point into.
    pub input: Vec<SqlType>,
    pub retracting: bool,
}

/// A column of the readable form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    pub name: String,
    /// Flink's text.
    pub sql_type: String,
    pub ty: DataType,
    /// It is part of the key.
    pub key: bool,
}

/// Turns rows of one table into columns.
pub struct Reader<'a> {
    table: &'a Table,
    calls: Option<&'a Calls>,
    columns: Vec<Typed>,
}

/// 9999-12-31: what is beyond is no time but a mark (`MIN`, `MAX`), and NULL for readers.
const LAST_TIME: i64 = 253_402_300_799_999;

impl<'a> Reader<'a> {
    /// # Errors
    /// If the layout names a type that is not known.
    pub fn new(table: &'a Table, calls: Option<&'a Calls>) -> Result<Self> {
        let mut reader = Self { table, calls, columns: vec![] };
        let mut columns = vec![];
        reader.describe(&table.key, true, &mut columns)?;
        reader.describe(&table.value, false, &mut columns)?;
        let mut seen = BTreeSet::new();
        columns.retain(|c: &Typed| seen.insert(c.name.clone()));
        reader.columns = columns;
        Ok(reader)
    }

    pub fn columns(&self) -> &[Typed] {
        &self.columns
    }

    /// The rows as the columns of [`Reader::columns`].
    ///
    /// # Errors
    /// If the rows are not of the layout.
    pub fn read<'r>(&self, rows: impl Iterator<Item = (&'r [u8], &'r [u8])>) -> Result<Vec<ArrayRef>> {
        let (mut keys, mut values): (Vec<&[u8]>, Vec<&[u8]>) = rows.unzip();
        let mut found: Vec<(String, ArrayRef)> = vec![];
        self.decode(&self.table.key, &split(&self.table.key, &mut keys)?, &mut found)?;
        self.decode(&self.table.value, &split(&self.table.value, &mut values)?, &mut found)?;
        let mut seen = BTreeSet::new();
        found.retain(|(name, _)| seen.insert(name.clone()));
        Ok(found.into_iter().map(|(_, column)| column).collect())
    }

    /// Accumulators can be read if their functions are at hand.
    fn calls_of(&self, calls: &[crate::layout::Call]) -> Option<&Calls> {
        self.calls.filter(|c| c.calls.len() == calls.len())
    }

    fn describe(&self, parts: &[Part], key: bool, out: &mut Vec<Typed>) -> Result<()> {
        for part in parts {
            match part {
                Part::Row { columns, .. } => {
                    for (column, ty) in columns.iter().zip(sql_types(columns)?) {
                        let (sql_type, ty) = if is_time(&column.name, &ty) {
                            ("TIMESTAMP(3)".to_owned(), millis())
                        } else {
                            (column.ty.clone(), readable(&ty))
                        };
                        out.push(Typed { name: column.name.clone(), sql_type, ty, key });
                    }
                }
                Part::Number { name, kind } => {
                    let (sql_type, ty) = match kind {
                        NumberKind::Integer => ("BIGINT", DataType::Int64),
                        NumberKind::Millis => ("TIMESTAMP(3)", millis()),
                        NumberKind::Flag => ("BOOLEAN", DataType::Boolean),
                        NumberKind::RowKind => ("STRING", DataType::Utf8),
                    };
                    out.push(Typed { name: name.clone(), sql_type: sql_type.to_owned(), ty, key });
                }
                Part::Aggregates { calls, .. } => {
                    for (call, bound) in calls.iter().zip(self.calls_of(calls).map_or(&[][..], |c| &c.calls)) {
                        out.push(Typed { name: call.name.clone(), sql_type: call.ty.clone(), ty: readable(&bound.ty), key });
                    }
                }
                Part::Repeated { name, parts } => {
                    let mut inner = vec![];
                    self.describe(parts, key, &mut inner)?;
                    let fields: Vec<String> = inner.iter().map(|c| format!("`{}` {}", c.name, c.sql_type)).collect();
                    let sql_type = format!("ARRAY<ROW<{}>>", fields.join(", "));
                    out.push(Typed { name: name.clone(), sql_type, ty: DataType::List(item(&struct_fields(&inner))), key });
                }
            }
        }
        Ok(())
    }

    fn decode(&self, parts: &[Part], cells: &[Cells<'_>], out: &mut Vec<(String, ArrayRef)>) -> Result<()> {
        for (part, cells) in parts.iter().zip(cells) {
            match (part, cells) {
                (Part::Row { columns, .. }, Cells::Rows(rows)) => {
                    let types = sql_types(columns)?;
                    for ((column, ty), array) in columns.iter().zip(&types).zip(codec(columns)?.decode(rows.iter().copied())?) {
                        let array = if is_time(&column.name, ty) { times(&array)? } else { readable_array(array, ty) };
                        out.push((column.name.clone(), array));
                    }
                }
                (Part::Number { name, kind }, Cells::Numbers(numbers)) => out.push((name.clone(), number(*kind, numbers))),
                (Part::Aggregates { calls, .. }, Cells::Calls(states)) => {
                    let Some(bound) = self.calls_of(calls) else { continue };
                    for ((call, name), states) in bound.calls.iter().zip(calls.iter().map(|c| &c.name)).zip(states) {
                        out.push((name.clone(), readable_array(results(call, bound, states)?, &call.ty)));
                    }
                }
                (Part::Repeated { name, parts }, Cells::Repeated { ends, parts: cells }) => {
                    let (mut inner, mut columns) = (vec![], vec![]);
                    self.describe(parts, false, &mut inner)?;
                    self.decode(parts, cells, &mut columns)?;
                    let fields = struct_fields(&inner);
                    let mut seen = BTreeSet::new();
                    columns.retain(|(name, _)| seen.insert(name.clone()));
                    let entries = StructArray::try_new(fields.clone(), columns.into_iter().map(|c| c.1).collect(), None)?;
                    let lengths = ends.iter().scan(0, |from, end| Some(end - std::mem::replace(from, *end)));
                    let list = ListArray::try_new(item(&fields), OffsetBuffer::from_lengths(lengths), Arc::new(entries), None)?;
                    out.push((name.clone(), Arc::new(list)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn struct_fields(columns: &[Typed]) -> Fields {
    let mut seen = BTreeSet::new();
    columns.iter().filter(|c| seen.insert(c.name.clone())).map(|c| Field::new(&c.name, c.ty.clone(), true)).collect()
}

fn item(fields: &Fields) -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(fields.clone()), true))
}

fn millis() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)
}

/// Operators' own times among key columns: `_slice_end`.
fn is_time(name: &str, ty: &SqlType) -> bool {
    name.starts_with('_') && ty.kind == TypeKind::BigInt
}

fn time(ms: i64) -> Option<i64> {
    (-LAST_TIME..=LAST_TIME).contains(&ms).then_some(ms)
}

fn times(column: &ArrayRef) -> Result<ArrayRef> {
    let numbers = arrow::compute::cast(column, &DataType::Int64)?;
    let numbers = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&numbers);
    Ok(Arc::new(numbers.iter().map(|n| n.and_then(time)).collect::<TimestampMillisecondArray>()))
}

fn number(kind: NumberKind, numbers: &[i64]) -> ArrayRef {
    match kind {
        NumberKind::Integer => Arc::new(Int64Array::from(numbers.to_vec())),
        NumberKind::Millis => Arc::new(numbers.iter().map(|n| time(*n)).collect::<TimestampMillisecondArray>()),
        NumberKind::Flag => Arc::new(numbers.iter().map(|n| Some(*n != 0)).collect::<BooleanArray>()),
        NumberKind::RowKind => {
            let text = |n: &i64| usize::try_from(*n).ok().and_then(|n| ["+I", "-U", "+U", "-D"].get(n).copied());
            Arc::new(numbers.iter().map(text).collect::<StringArray>())
        }
    }
}

/// What each accumulator would give now.
fn results(call: &AggregateCall, calls: &Calls, states: &[&[u8]]) -> Result<ArrayRef> {
    let mut accumulator = sluice_functions::aggregate::accumulator_for(call, &calls.input, calls.retracting)?;
    accumulator.resize(states.len());
    for (slot, mut state) in states.iter().copied().enumerate() {
        if !state.is_empty() {
            accumulator.decode(slot as u32, &mut state)?;
        }
    }
    accumulator.evaluate(&(0..states.len() as u32).collect::<Vec<_>>())
}

/// The Arrow type in files: text for what Parquet or its readers do not have (intervals, maps with NULL keys).
fn readable(ty: &SqlType) -> DataType {
    if is_readable(ty) { ty.to_arrow() } else { DataType::Utf8 }
}

fn is_readable(ty: &SqlType) -> bool {
    match &ty.kind {
        TypeKind::Null | TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime | TypeKind::Map(..) | TypeKind::Multiset(_) => false,
        TypeKind::Array(e) => is_readable(e),
        TypeKind::Row(fields) => !fields.is_empty() && fields.iter().all(|f| is_readable(&f.ty)),
        _ => true,
    }
}

fn readable_array(array: ArrayRef, ty: &SqlType) -> ArrayRef {
    if is_readable(ty) {
        return array;
    }
    let text = |i: usize| (!array.is_null(i)).then(|| datum::Display(&datum::from_array(&array, i, ty), ty).to_string());
    Arc::new((0..array.len()).map(text).collect::<StringArray>())
}
