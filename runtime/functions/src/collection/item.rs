//! `a[i]`, `m[k]`, `v['field']`; ELEMENT and CARDINALITY.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, ListArray, MapArray, StringArray};
use arrow::datatypes::DataType;
use sluice_batch::{Datum, Error, Expr, Result, TypeKind};

use super::lists::{Keys, ListArg, NULL, ValueArg, gather};
use super::{expect_count, is_array, is_map, try_implicit_cast};
use crate::json;
use crate::kernel::Args;
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["ITEM"], bind: bind_item },
    Declaration { names: &["ELEMENT"], bind: bind_element },
    Declaration { names: &["CARDINALITY"], bind: bind_cardinality },
];

fn bind_item(mut call: Call<'_>) -> Result<Expr> {
    expect_count(&call, 2..=2)?;
    let container = call.args[0].ty.clone();
    match &container.kind {
        TypeKind::Array(element) => {
            if !call.args[1].ty.kind.is_integer() && call.args[1].ty.kind != TypeKind::Null {
                return Err(call.invalid("<ARRAY>[<INTEGER>]"));
            }
            if let Some(index) = call.args[1].as_literal().and_then(Datum::as_i64).filter(|i| *i < 1) {
                let message = format!("Array element access needs an index starting at 1 but was {index}.");
                return Err(Error::plan(message).at(call.span));
            }
            call.cast_arg(1, TypeKind::BigInt)?;
            Ok(call.kernel("ITEM", element.as_nullable(), array_item))
        }
        TypeKind::Map(key, value) => {
            if !try_implicit_cast(&mut call, 1, key) {
                return Err(call.invalid(format!("<MAP>[<{}>]", key.kind)));
            }
            Ok(call.kernel("ITEM", value.as_nullable(), map_item))
        }
        TypeKind::Row(_) => {
            let field = match (call.args[1].as_literal(), &container.kind) {
                (Some(Datum::String(name)), TypeKind::Row(fields)) => fields.iter().position(|f| f.name == **name),
                (Some(index), _) => index.as_i64().and_then(|i| usize::try_from(i - 1).ok()),
                (None, _) => return Err(Error::plan("a field of a ROW can only be accessed by a constant").at(call.span)),
            };
            let row = call.args[0].clone();
            field
                .and_then(|i| crate::field::row_field(row, i))
                .ok_or_else(|| Error::plan(format!("{} has no such field", container.kind)).at(call.span))
        }
        TypeKind::Variant => {
            let kind = call.args[1].ty.kind.clone();
            if kind.is_integer() {
                call.cast_arg(1, TypeKind::BigInt)?;
            } else if !kind.is_character() {
                return Err(call.invalid("<VARIANT>[<INTEGER> | <CHARACTER>]"));
            }
            Ok(call.kernel("ITEM", TypeKind::Variant.nullable(), variant_item))
        }
        _ => Err(call.invalid("<ARRAY>[<INTEGER>], <MAP>[<KEY>], <ROW>[<FIELD>]")),
    }
}

fn array_item(args: &Args<'_>) -> Result<ArrayRef> {
    let (list, index) = (ListArg::new(args, 0)?, args.i64(1)?);
    let positions: Vec<_> = (0..args.len())
        .map(|row| {
            let at = list.range(row).zip(index.get(row)).and_then(|(range, i)| {
                let offset = usize::try_from(i - 1).ok()?;
                (offset < range.len()).then_some(range.start + offset)
            });
            at.map_or(NULL, |at| (0, at))
        })
        .collect();
    gather(&args.ty.to_arrow(), &[list.values()], &positions)
}

fn map_item(args: &Args<'_>) -> Result<ArrayRef> {
    let map = args.column::<MapArray>(0)?;
    let key = ValueArg::new(args, 1)?;
    let entries = map.array();
    let (keys, values) = (entries.keys(), entries.values());
    let bytes = Keys::new(&[keys, key.values])?;
    let positions: Vec<_> = (0..args.len())
        .map(|row| {
            let at = if map.is_scalar() { 0 } else { row };
            if map.is_null(row) {
                return NULL;
            }
            let wanted = bytes.get((1, key.at(row)));
            let offsets = entries.offsets();
            let mut range = offsets[at] as usize..offsets[at + 1] as usize;
            range.find(|i| bytes.get((0, *i)) == wanted).map_or(NULL, |i| (0, i))
        })
        .collect();
    gather(&args.ty.to_arrow(), &[values], &positions)
}

/// An object's field or an array's element (from 1) of a VARIANT; NULL where there is none.
fn variant_item(args: &Args<'_>) -> Result<ArrayRef> {
    let variant = args.str(0)?;
    let by_name = args.values.get(1).is_some_and(|v| *v.array().data_type() == DataType::Utf8);
    let (names, indexes) = match by_name {
        true => (Some(args.column::<StringArray>(1)?), None),
        false => (None, Some(args.column::<Int64Array>(1)?)),
    };
    args.strings(|row, out| {
        let value = json::parse(variant.get(row)?).ok()?;
        let item = match (&value, names, indexes) {
            (json::Json::Object(fields), Some(name), _) => {
                let name = name.get(row)?;
                fields.iter().find(|(k, _)| k == name).map(|(_, v)| v)?
            }
            (json::Json::Array(items), _, Some(index)) => items.get(usize::try_from(index.get(row)? - 1).ok()?)?,
            _ => return None,
        };
        json::write_part(item, out);
        Some(())
    })
}

fn bind_element(call: Call<'_>) -> Result<Expr> {
    expect_count(&call, 1..=1)?;
    match super::element(&call, 0) {
        Some(element) => Ok(call.kernel("ELEMENT", element.as_nullable(), only_element)),
        None => Err(call.invalid("ELEMENT(<ARRAY>)")),
    }
}

fn only_element(args: &Args<'_>) -> Result<ArrayRef> {
    let list = ListArg::new(args, 0)?;
    let positions = (0..args.len()).map(|row| match list.range(row) {
        Some(range) if range.len() == 1 => Ok((0, range.start)),
        Some(range) if range.len() > 1 => Err(Error::runtime("Array has more than one element.")),
        _ => Ok(NULL),
    });
    gather(&args.ty.to_arrow(), &[list.values()], &positions.collect::<Result<Vec<_>>>()?)
}

fn bind_cardinality(call: Call<'_>) -> Result<Expr> {
    expect_count(&call, 1..=1)?;
    let ty = &call.args[0].ty;
    if !is_array(&ty.kind) && !is_map(&ty.kind) && !matches!(ty.kind, TypeKind::Multiset(_)) {
        return Err(call.invalid("CARDINALITY(<ARRAY> | <MAP> | <MULTISET>)"));
    }
    let ty = TypeKind::Int.with_nullable(ty.nullable);
    Ok(call.kernel("CARDINALITY", ty, cardinality))
}

fn cardinality(args: &Args<'_>) -> Result<ArrayRef> {
    let array = args.values.first().ok_or_else(|| Error::runtime("CARDINALITY lacks its argument"))?.array();
    let offsets = match array.data_type() {
        DataType::List(_) => args.column::<ListArray>(0)?.array().offsets(),
        _ => args.column::<MapArray>(0)?.array().offsets(),
    };
    Ok(Arc::new(Int32Array::new(offsets.windows(2).map(|w| w[1] - w[0]).collect(), array.nulls().cloned())))
}
