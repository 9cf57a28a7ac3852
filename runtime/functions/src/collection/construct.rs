//! `ARRAY[…]`, `MAP[k, v, …]`, `ROW(…)`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use sluice_batch::types::row_fields;
use sluice_batch::{Error, Expr, Field, Result, SqlType, TypeKind};

use super::lists::{Keys, ListsBuilder, ValueArg};
use super::{array_of, try_implicit_cast};
use crate::kernel::Args;
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["ARRAY"], bind: bind_array },
    Declaration { names: &["MAP"], bind: bind_map },
    Declaration { names: &["ROW"], bind: bind_row },
];

/// The type of all these arguments together.
fn common(call: &Call<'_>, step: usize, first: usize, what: &str) -> Result<SqlType> {
    let types: Vec<SqlType> = call.args.iter().skip(first).step_by(step).map(|a| a.ty.clone()).collect();
    crate::common_type(&types).ok_or_else(|| {
        let types: Vec<String> = types.iter().map(ToString::to_string).collect();
        Error::plan(format!("Parameters must be of the same type: {what} of {}", types.join(", "))).at(call.span)
    })
}

fn bind_array(mut call: Call<'_>) -> Result<Expr> {
    if call.args.is_empty() {
        return Err(Error::plan("Require at least 1 argument").at(call.span));
    }
    let element = common(&call, 1, 0, "ARRAY")?;
    for i in 0..call.args.len() {
        if !try_implicit_cast(&mut call, i, &element) {
            return Err(call.invalid("ARRAY[…] of one type"));
        }
    }
    let nullable = call.any_nullable();
    Ok(call.kernel("ARRAY", array_of(element.with_nullable(nullable)).not_null(), array))
}

fn array(args: &Args<'_>) -> Result<ArrayRef> {
    let items = (0..args.count()).map(|i| ValueArg::new(args, i)).collect::<Result<Vec<_>>>()?;
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        out.push(Some(items.iter().enumerate().map(|(i, item)| (i, item.at(row)))));
    }
    out.finish(args.ty, &items.iter().map(|i| i.values).collect::<Vec<_>>())
}

fn bind_map(mut call: Call<'_>) -> Result<Expr> {
    if call.args.is_empty() || !call.args.len().is_multiple_of(2) {
        return Err(Error::plan("Map requires an even number of arguments, at least 2").at(call.span));
    }
    let (key, value) = (common(&call, 2, 0, "keys")?, common(&call, 2, 1, "values")?);
    for i in 0..call.args.len() {
        if !try_implicit_cast(&mut call, i, if i % 2 == 0 { &key } else { &value }) {
            return Err(call.invalid("MAP[key, value, …] with keys and values of one type each"));
        }
    }
    let nullable = |first: usize| call.args.iter().skip(first).step_by(2).any(|a| a.ty.nullable);
    let ty = TypeKind::Map(Box::new(key.with_nullable(nullable(0))), Box::new(value.with_nullable(nullable(1)))).not_null();
    Ok(call.kernel("MAP", ty, map))
}

/// A later entry of the same key replaces an earlier one.
fn map(args: &Args<'_>) -> Result<ArrayRef> {
    let items = (0..args.count()).map(|i| ValueArg::new(args, i)).collect::<Result<Vec<_>>>()?;
    let keys: Vec<&ArrayRef> = items.iter().step_by(2).map(|i| i.values).collect();
    let values: Vec<&ArrayRef> = items.iter().skip(1).step_by(2).map(|i| i.values).collect();
    let bytes = Keys::new(&keys)?;
    // Keys and values of an entry may be scalar or not, each on its own: spread them to one a row.
    let spread = |columns: &[&ArrayRef], first: usize| -> Result<Vec<ArrayRef>> {
        let each = columns.iter().enumerate().map(|(i, c)| {
            let item = &items[2 * i + first];
            let rows: Vec<u32> = (0..args.len()).map(|row| item.at(row) as u32).collect();
            Ok(arrow::compute::take(c.as_ref(), &arrow::array::UInt32Array::from(rows), None)?)
        });
        each.collect()
    };
    let (all_keys, all_values) = (spread(&keys, 0)?, spread(&values, 1)?);
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        let mut at: HashMap<&[u8], usize> = HashMap::new();
        let mut entries: Vec<(usize, usize)> = Vec::with_capacity(keys.len());
        for i in 0..keys.len() {
            match at.entry(bytes.get((i, items[2 * i].at(row)))) {
                std::collections::hash_map::Entry::Occupied(e) => entries[*e.get()] = (i, row),
                std::collections::hash_map::Entry::Vacant(e) => {
                    e.insert(entries.len());
                    entries.push((i, row));
                }
            }
        }
        out.push(Some(entries));
    }
    out.finish_map(args.ty, &all_keys.iter().collect::<Vec<_>>(), &all_values.iter().collect::<Vec<_>>())
}

fn bind_row(call: Call<'_>) -> Result<Expr> {
    let fields = call.args.iter().enumerate().map(|(i, a)| Field::new(format!("EXPR${i}"), a.ty.clone())).collect();
    Ok(call.kernel("ROW", TypeKind::Row(fields).not_null(), row))
}

fn row(args: &Args<'_>) -> Result<ArrayRef> {
    let TypeKind::Row(fields) = &args.ty.kind else {
        return Err(Error::runtime(format!("{} is not a row", args.ty)));
    };
    let columns = args.values.iter().map(|v| v.clone().into_array(args.len())).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(row_fields(fields), columns, None, args.len())?))
}
