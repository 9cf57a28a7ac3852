//! Casts of arrays, maps, multisets and rows: their parts are cast. A part that fails fails the whole.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field as ArrowField;
use sluice_batch::datum::map_array;
use sluice_batch::types::row_fields;
use sluice_batch::{Error, Field, Result, SqlType, TypeKind};

use super::{Casted, Env, column, typed, unknown};

/// Offsets from zero, and where the used values begin and end.
fn rebase(offsets: &OffsetBuffer<i32>) -> (OffsetBuffer<i32>, usize, usize) {
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let rebased: Vec<i32> = offsets.iter().map(|o| o - first).collect();
    (OffsetBuffer::new(rebased.into()), first as usize, (last - first) as usize)
}

/// The rows that hold the failed values.
fn outer_rows(failed: &[u32], offsets: &OffsetBuffer<i32>) -> Vec<u32> {
    let mut rows: Vec<u32> = failed.iter().map(|at| offsets.partition_point(|o| *o <= *at as i32) as u32 - 1).collect();
    rows.dedup();
    rows
}

/// Validity without the failed rows.
fn without(nulls: Option<&NullBuffer>, failed: &[u32], rows: usize) -> Option<NullBuffer> {
    if failed.is_empty() {
        return nulls.cloned();
    }
    let mut valid: Vec<bool> = (0..rows).map(|i| nulls.is_none_or(|n| n.is_valid(i))).collect();
    failed.iter().for_each(|row| valid[*row as usize] = false);
    Some(NullBuffer::from(valid))
}

pub(super) fn array(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    let (TypeKind::Array(a), TypeKind::Array(b)) = (&from.kind, &to.kind) else {
        return Err(unknown(from, to));
    };
    let list: &ListArray = typed(input)?;
    let (offsets, start, length) = rebase(list.offsets());
    let items = column(&list.values().slice(start, length), a, b, env)?;
    let failed = outer_rows(&items.failed, &offsets);
    let field = Arc::new(ArrowField::new("item", b.to_arrow(), true));
    let nulls = without(list.nulls(), &failed, list.len());
    Ok(Casted { array: Arc::new(ListArray::try_new(field, offsets, items.array, nulls)?), failed })
}

pub(super) fn map(input: &ArrayRef, from: &SqlType, to: &SqlType, env: &Env<'_>) -> Result<Casted> {
    let count = TypeKind::Int.not_null();
    let (key, value) = match (&from.kind, &to.kind) {
        (TypeKind::Map(k, v), TypeKind::Map(l, w)) => ((&**k, &**l), (&**v, &**w)),
        (TypeKind::Multiset(e), TypeKind::Multiset(f)) => ((&**e, &**f), (&count, &count)),
        _ => return Err(unknown(from, to)),
    };
    let map: &MapArray = typed(input)?;
    let (offsets, start, length) = rebase(map.offsets());
    let keys = column(&map.keys().slice(start, length), key.0, key.1, env)?;
    let values = column(&map.values().slice(start, length), value.0, value.1, env)?;
    let mut failed = outer_rows(&keys.failed, &offsets);
    failed.extend(outer_rows(&values.failed, &offsets));
    failed.sort_unstable();
    failed.dedup();
    let nulls = without(map.nulls(), &failed, map.len());
    let array = map_array(&to.to_arrow(), offsets, keys.array, values.array, nulls)?;
    Ok(Casted { array: Arc::new(array), failed })
}

pub(super) fn row(input: &ArrayRef, from: &[Field], to: &[Field], env: &Env<'_>) -> Result<Casted> {
    let rows: &StructArray = typed(input)?;
    if from.len() != to.len() || rows.num_columns() != from.len() {
        return Err(Error::runtime("a ROW can only be cast to one with as many fields"));
    }
    let mut failed = vec![];
    let mut columns = Vec::with_capacity(to.len());
    for ((a, b), part) in from.iter().zip(to).zip(rows.columns()) {
        // What stands below a NULL row must not fail.
        let visible = NullBuffer::union(rows.nulls(), part.nulls());
        let part = if rows.null_count() == 0 {
            part.clone()
        } else {
            arrow::array::make_array(part.to_data().into_builder().nulls(visible).build()?)
        };
        let part = column(&part, &a.ty, &b.ty, env)?;
        failed.extend(part.failed);
        columns.push(part.array);
    }
    failed.sort_unstable();
    failed.dedup();
    let nulls = without(rows.nulls(), &failed, rows.len());
    Ok(Casted { array: Arc::new(StructArray::try_new_with_length(row_fields(to), columns, nulls, rows.len())?), failed })
}
