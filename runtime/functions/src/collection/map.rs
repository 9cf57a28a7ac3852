//! MAP_KEYS, MAP_VALUES, MAP_ENTRIES, MAP_FROM_ARRAYS, MAP_UNION, STR_TO_MAP.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, MapArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field as ArrowField;
use hashbrown::HashMap;
use sluice_batch::types::row_fields;
use sluice_batch::{Datum, Error, Expr, Field, Result, TypeKind};

use super::lists::{Keys, ListArg, ListsBuilder, Position};
use super::{array_of, element, expect_count, is_map, signatures, unify_all};
use crate::kernel::{Args, P};
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["MAP_KEYS"], bind: |c| parts(c, "MAP_KEYS") },
    Declaration { names: &["MAP_VALUES"], bind: |c| parts(c, "MAP_VALUES") },
    Declaration { names: &["MAP_ENTRIES"], bind: |c| parts(c, "MAP_ENTRIES") },
    Declaration { names: &["MAP_FROM_ARRAYS"], bind: bind_from_arrays },
    Declaration { names: &["MAP_UNION"], bind: bind_union },
    Declaration { names: &["STR_TO_MAP"], bind: bind_str_to_map },
];

fn parts(call: Call<'_>, name: &'static str) -> Result<Expr> {
    expect_count(&call, 1..=1)?;
    let map = call.args[0].ty.clone();
    let TypeKind::Map(key, value) = map.kind else {
        return Err(signatures(&call, &[&format!("{name}(<MAP>)")]));
    };
    let (item, body): (_, crate::kernel::Body) = match name {
        "MAP_KEYS" => (*key, keys),
        "MAP_VALUES" => (*value, values),
        _ => (TypeKind::Row(vec![Field::new("key", *key), Field::new("value", *value)]).nullable(), entries),
    };
    Ok(call.kernel(name, array_of(item).with_nullable(map.nullable), body))
}

/// The array of a part of each map's entries: the same offsets over other values.
fn list(args: &Args<'_>, part: impl Fn(&MapArray) -> Result<ArrayRef>) -> Result<ArrayRef> {
    let map = args.column::<MapArray>(0)?.array();
    let items = part(map)?;
    let field = Arc::new(ArrowField::new("item", items.data_type().clone(), true));
    let offsets = OffsetBuffer::new(map.offsets().inner().clone());
    Ok(Arc::new(ListArray::try_new(field, offsets, items, map.nulls().cloned())?))
}

fn keys(args: &Args<'_>) -> Result<ArrayRef> {
    list(args, |map| Ok(map.keys().clone()))
}

fn values(args: &Args<'_>) -> Result<ArrayRef> {
    list(args, |map| Ok(map.values().clone()))
}

fn entries(args: &Args<'_>) -> Result<ArrayRef> {
    let fields = match &args.ty.kind {
        TypeKind::Array(item) => match &item.kind {
            TypeKind::Row(fields) => row_fields(fields),
            _ => return Err(Error::runtime("MAP_ENTRIES gives rows")),
        },
        _ => return Err(Error::runtime("MAP_ENTRIES gives an array")),
    };
    list(args, |map| {
        let columns = vec![map.keys().clone(), map.values().clone()];
        Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, map.keys().len())?))
    })
}

fn bind_from_arrays(call: Call<'_>) -> Result<Expr> {
    let (2, Some(key), Some(value)) = (call.args.len(), element(&call, 0), element(&call, 1)) else {
        return Err(signatures(&call, &["MAP_FROM_ARRAYS(<ARRAY>, <ARRAY>)"]));
    };
    let ty = TypeKind::Map(Box::new(key), Box::new(value)).with_nullable(call.any_nullable());
    Ok(call.kernel("MAP_FROM_ARRAYS", ty, from_arrays))
}

fn from_arrays(args: &Args<'_>) -> Result<ArrayRef> {
    let (keys, values) = (ListArg::new(args, 0)?, ListArg::new(args, 1)?);
    let bytes = Keys::new(&[keys.values()])?;
    let (mut key_rows, mut value_rows) = (ListsBuilder::new(args.len()), Vec::new());
    for row in 0..args.len() {
        let Some((k, v)) = keys.range(row).zip(values.range(row)) else {
            key_rows.push(None::<Vec<Position>>);
            continue;
        };
        if k.len() != v.len() {
            return Err(Error::runtime(format!(
                "Invalid function MAP_FROM_ARRAYS call:\nThe length of the keys array {} is not equal to the length of the values array {}",
                k.len(),
                v.len()
            )));
        }
        // A later entry of the same key replaces an earlier one.
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        let mut pairs: Vec<(usize, usize)> = Vec::with_capacity(k.len());
        for (key, value) in k.zip(v) {
            let next = pairs.len();
            match *seen.entry(bytes.get((0, key))).or_insert(next) {
                at if at == next => pairs.push((key, value)),
                at => pairs[at].1 = value,
            }
        }
        value_rows.extend(pairs.iter().map(|(_, v)| (0, *v)));
        key_rows.push(Some(pairs.into_iter().map(|(k, _)| (0, k))));
    }
    key_rows.finish_pairs(args.ty, &[keys.values()], &[values.values()], &value_rows)
}

/// `MAP_UNION(map, …)`: entries of later maps replace those of earlier ones.
fn bind_union(mut call: Call<'_>) -> Result<Expr> {
    let form = ["MAP_UNION(<COMMON>, <COMMON>...)"];
    if call.args.is_empty() {
        return Err(signatures(&call, &form));
    }
    match unify_all(&mut call, is_map) {
        Some(ty) => Ok(call.kernel("MAP_UNION", ty, union)),
        None => Err(signatures(&call, &form)),
    }
}

fn union(args: &Args<'_>) -> Result<ArrayRef> {
    let maps = (0..args.count()).map(|i| args.column::<MapArray>(i)).collect::<Result<Vec<_>>>()?;
    let keys: Vec<&ArrayRef> = maps.iter().map(|m| m.array().keys()).collect();
    let values: Vec<&ArrayRef> = maps.iter().map(|m| m.array().values()).collect();
    let bytes = Keys::new(&keys)?;
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        if maps.iter().any(|m| m.is_null(row)) {
            out.push(None::<Vec<Position>>);
            continue;
        }
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        let mut entries: Vec<Position> = Vec::new();
        for (i, map) in maps.iter().enumerate() {
            let (at, offsets) = (if map.is_scalar() { 0 } else { row }, map.array().offsets());
            for entry in offsets[at] as usize..offsets[at + 1] as usize {
                let next = entries.len();
                match *seen.entry(bytes.get((i, entry))).or_insert(next) {
                    at if at == next => entries.push((i, entry)),
                    at => entries[at] = (i, entry),
                }
            }
        }
        out.push(Some(entries));
    }
    out.finish_map(args.ty, &keys, &values)
}

/// `STR_TO_MAP(text [, pair_delimiter, key_value_delimiter])`; the delimiters are regular expressions, `,` and `=` by default.
fn bind_str_to_map(mut call: Call<'_>) -> Result<Expr> {
    if call.args.len() != 1 && call.args.len() != 3 {
        return Err(call.wrong_count("1 or 3"));
    }
    call.coerce(&[P::Str, P::Str, P::Str], 1)?;
    let string = || Box::new(TypeKind::STRING.nullable());
    let ty = TypeKind::Map(string(), string()).nullable();
    Ok(call.kernel("STR_TO_MAP", ty, str_to_map))
}

fn regex(pattern: &str) -> Result<fancy_regex::Regex> {
    fancy_regex::Regex::new(pattern).map_err(|e| Error::runtime(format!("STR_TO_MAP: delimiter {pattern}: {e}")))
}

/// Java's `String.split`: no empty text at the end; none at the start from a match of no width.
fn java_split<'t>(text: &'t str, delimiter: &fancy_regex::Regex, limit: usize) -> Result<Vec<&'t str>> {
    let mut parts = Vec::new();
    let mut start = 0;
    for found in delimiter.find_iter(text) {
        let found = found.map_err(|e| Error::runtime(format!("STR_TO_MAP: {e}")))?;
        if parts.len() + 1 == limit || (found.end() == 0) {
            continue;
        }
        parts.push(&text[start..found.start()]);
        start = found.end();
    }
    parts.push(&text[start..]);
    while limit == 0 && parts.len() > 1 && parts.last().is_some_and(|p| p.is_empty()) {
        parts.pop();
    }
    Ok(parts)
}

fn str_to_map(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    let delimiters = if args.has(1) { Some((args.str(1)?, args.str(2)?)) } else { None };
    let mut compiled: HashMap<String, fancy_regex::Regex> = HashMap::new();
    for pattern in [",", "="] {
        compiled.insert(pattern.to_owned(), regex(pattern)?);
    }
    args.datums(|row| {
        let (pairs, values) = match delimiters {
            None => (",", "="),
            Some((p, v)) => match (p.get(row), v.get(row)) {
                (Some(p), Some(v)) => (p, v),
                _ => return Ok(Datum::Null),
            },
        };
        let Some(text) = text.get(row) else { return Ok(Datum::Null) };
        for pattern in [pairs, values] {
            if !compiled.contains_key(pattern) {
                compiled.insert(pattern.to_owned(), regex(pattern)?);
            }
        }
        let mut entries: Vec<(Datum, Datum)> = Vec::new();
        for pair in java_split(text, &compiled[pairs], 0)? {
            let parts = java_split(pair, &compiled[values], 2)?;
            let (key, value) = match parts.as_slice() {
                [key, value] => (Datum::string(key), Datum::string(value)),
                _ => (Datum::string(parts.first().unwrap_or(&"")), Datum::Null),
            };
            match entries.iter_mut().find(|(k, _)| *k == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        Ok(Datum::Map(entries.into()))
    })
}
