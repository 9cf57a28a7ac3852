//! Functions from one array (and a value) to an array or a scalar.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::Int32Type;
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::lists::{Keys, ListArg, ListsBuilder, Position, ValueArg};
use super::{element, expect_count, is_array, is_null_literal, signatures, unify_element};
use crate::kernel::{Args, Body};
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["ARRAY_APPEND"], bind: |c| extend(c, "ARRAY_APPEND", append) },
    Declaration { names: &["ARRAY_PREPEND"], bind: |c| extend(c, "ARRAY_PREPEND", prepend) },
    Declaration { names: &["ARRAY_CONTAINS"], bind: |c| search(c, "ARRAY_CONTAINS") },
    Declaration { names: &["ARRAY_POSITION"], bind: |c| search(c, "ARRAY_POSITION") },
    Declaration { names: &["ARRAY_REMOVE"], bind: bind_remove },
    Declaration { names: &["ARRAY_DISTINCT"], bind: |c| same_type(c, "ARRAY_DISTINCT", distinct) },
    Declaration { names: &["ARRAY_REVERSE"], bind: |c| same_type(c, "ARRAY_REVERSE", reverse) },
    Declaration { names: &["ARRAY_SLICE"], bind: bind_slice },
    Declaration { names: &["ARRAY_SORT"], bind: bind_sort },
];

fn misfit(call: &Call<'_>, name: &str) -> Error {
    let second = if name == "ARRAY_APPEND" || name == "ARRAY_PREPEND" { "array <ARRAY>, element" } else { "haystack <ARRAY>, needle" };
    signatures(call, &[&format!("{name}({second} <ARRAY ELEMENT>)")])
}

/// ARRAY_APPEND, ARRAY_PREPEND: NULL of a NULL array.
fn extend(mut call: Call<'_>, name: &'static str, body: Body) -> Result<Expr> {
    expect_count(&call, 2..=2)?;
    if !unify_element(&mut call, 0, 1) {
        return Err(misfit(&call, name));
    }
    let ty = call.args[0].ty.clone();
    Ok(call.kernel(name, ty, body))
}

fn append(args: &Args<'_>) -> Result<ArrayRef> {
    extended(args, false)
}

fn prepend(args: &Args<'_>) -> Result<ArrayRef> {
    extended(args, true)
}

fn extended(args: &Args<'_>, front: bool) -> Result<ArrayRef> {
    let (list, value) = (ListArg::new(args, 0)?, ValueArg::new(args, 1)?);
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        let value = [(1, value.at(row))];
        let (before, after): (&[Position], &[Position]) = if front { (&value, &[]) } else { (&[], &value) };
        out.push(list.range(row).map(|r| before.iter().copied().chain(r.map(|i| (0, i))).chain(after.iter().copied())));
    }
    out.finish(args.ty, &[list.values(), value.values])
}

/// ARRAY_CONTAINS finds NULLs; ARRAY_POSITION of NULL is NULL.
fn search(mut call: Call<'_>, name: &'static str) -> Result<Expr> {
    expect_count(&call, 2..=2)?;
    let haystack_nullable = call.args[0].ty.nullable;
    let needle_nullable = call.args[1].ty.nullable || is_null_literal(&call.args[1]);
    if !unify_element(&mut call, 0, 1) {
        return Err(misfit(&call, name));
    }
    Ok(match name {
        "ARRAY_CONTAINS" => call.kernel(name, TypeKind::Boolean.with_nullable(haystack_nullable), contains),
        _ => call.kernel(name, TypeKind::Int.with_nullable(haystack_nullable || needle_nullable), position),
    })
}

/// For each row where the needle is (counted from 0); outer `None` if the array is NULL.
fn find(args: &Args<'_>) -> Result<Vec<Option<Option<usize>>>> {
    let (list, value) = (ListArg::new(args, 0)?, ValueArg::new(args, 1)?);
    let keys = Keys::new(&[list.values(), value.values])?;
    let at = |row: usize| {
        list.range(row).map(|range| {
            let needle = keys.get((1, value.at(row)));
            range.into_iter().position(|i| keys.get((0, i)) == needle)
        })
    };
    Ok((0..args.len()).map(at).collect())
}

fn contains(args: &Args<'_>) -> Result<ArrayRef> {
    let found = find(args)?;
    args.booleans(|row| found[row].map(|at| at.is_some()))
}

fn position(args: &Args<'_>) -> Result<ArrayRef> {
    let (found, value) = (find(args)?, ValueArg::new(args, 1)?);
    let nulls = value.values.logical_nulls();
    args.primitives::<Int32Type>(|row| {
        let known = nulls.as_ref().is_none_or(|n| n.is_valid(value.at(row)));
        found[row].filter(|_| known).map(|at| at.map_or(0, |at| at as i32 + 1))
    })
}

fn bind_remove(mut call: Call<'_>) -> Result<Expr> {
    expect_count(&call, 2..=2)?;
    let ty = call.args[0].ty.clone();
    if !unify_element(&mut call, 0, 1) {
        return Err(misfit(&call, "ARRAY_REMOVE"));
    }
    Ok(call.kernel("ARRAY_REMOVE", ty, remove))
}

fn remove(args: &Args<'_>) -> Result<ArrayRef> {
    let (list, value) = (ListArg::new(args, 0)?, ValueArg::new(args, 1)?);
    let keys = Keys::new(&[list.values(), value.values])?;
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        let needle = keys.get((1, value.at(row)));
        out.push(list.range(row).map(|r| r.filter(|i| keys.get((0, *i)) != needle).map(|i| (0, i))));
    }
    out.finish(args.ty, &[list.values()])
}

fn same_type(call: Call<'_>, name: &'static str, body: Body) -> Result<Expr> {
    expect_count(&call, 1..=1)?;
    if !is_array(&call.args[0].ty.kind) {
        return Err(signatures(&call, &[&format!("{name}(<ARRAY>)")]));
    }
    let ty = call.args[0].ty.clone();
    Ok(call.kernel(name, ty, body))
}

fn distinct(args: &Args<'_>) -> Result<ArrayRef> {
    let list = ListArg::new(args, 0)?;
    let keys = Keys::new(&[list.values()])?;
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        let mut seen = hashbrown::HashSet::new();
        out.push(list.range(row).map(|r| r.map(|i| (0, i)).filter(|p| seen.insert(keys.get(*p))).collect::<Vec<_>>()));
    }
    out.finish(args.ty, &[list.values()])
}

fn reverse(args: &Args<'_>) -> Result<ArrayRef> {
    let list = ListArg::new(args, 0)?;
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        out.push(list.range(row).map(|r| r.rev().map(|i| (0, i))));
    }
    out.finish(args.ty, &[list.values()])
}

/// `ARRAY_SLICE(array, start [, end])`: both inclusive, from 1 (0 is 1), negative ones from the end
/// (Flink: `ArraySliceFunction`).
fn bind_slice(mut call: Call<'_>) -> Result<Expr> {
    let forms = ["ARRAY_SLICE(<ARRAY>, <INTEGER>, <INTEGER>)", "ARRAY_SLICE(<ARRAY>, <INTEGER>)"];
    let integers = call.args.iter().skip(1).all(|a| a.ty.kind.is_integer() || a.ty.kind == TypeKind::Null);
    if !(2..=3).contains(&call.args.len()) || !is_array(&call.args[0].ty.kind) || !integers {
        return Err(signatures(&call, &forms));
    }
    for i in 1..call.args.len() {
        call.cast_arg(i, TypeKind::BigInt)?;
    }
    let ty = call.args[0].ty.with_nullable(call.any_nullable());
    Ok(call.kernel("ARRAY_SLICE", ty, slice))
}

fn slice(args: &Args<'_>) -> Result<ArrayRef> {
    let (list, start) = (ListArg::new(args, 0)?, args.i64(1)?);
    let end = if args.has(2) { Some(args.i64(2)?) } else { None };
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        let range = list.range(row).and_then(|range| {
            let size = range.len() as i64;
            let from_end = |i: i64| if i < 0 { i.saturating_add(size + 1) } else { i };
            let first = from_end(start.get(row)?).max(1);
            let last = match end {
                // One that comes to 0 means the first element.
                Some(end) => Some(from_end(end.get(row)?)).filter(|end| *end != 0).unwrap_or(1).min(size),
                None => size,
            };
            if last < first {
                return Some(0..0);
            }
            Some(range.start + first as usize - 1..range.start + last as usize)
        });
        out.push(range.map(|r| r.map(|i| (0, i))));
    }
    out.finish(args.ty, &[list.values()])
}

/// `ARRAY_SORT(array [, ascending [, nulls_first]])`: NULLs come first in ascending order, last in descending, unless said otherwise.
fn bind_sort(mut call: Call<'_>) -> Result<Expr> {
    let forms = ["ARRAY_SORT(<ARRAY>)", "ARRAY_SORT(<ARRAY>, <BOOLEAN>)", "ARRAY_SORT(<ARRAY>, <BOOLEAN>, <BOOLEAN>)"];
    let booleans = call.args.iter().skip(1).all(|a| matches!(a.ty.kind, TypeKind::Boolean | TypeKind::Null));
    let comparable = element(&call, 0).is_some_and(|e| {
        !matches!(e.kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_) | TypeKind::Variant)
    });
    if !(1..=3).contains(&call.args.len()) || !comparable || !booleans {
        return Err(signatures(&call, &forms));
    }
    for i in 1..call.args.len() {
        call.cast_arg(i, TypeKind::Boolean)?;
    }
    let ty = call.args[0].ty.with_nullable(call.any_nullable());
    Ok(call.kernel("ARRAY_SORT", ty, sort))
}

fn sort(args: &Args<'_>) -> Result<ArrayRef> {
    let list = ListArg::new(args, 0)?;
    let ascending = if args.has(1) { Some(args.boolean(1)?) } else { None };
    let nulls_first = if args.has(2) { Some(args.boolean(2)?) } else { None };
    let keys = Keys::new(&[list.values()])?;
    let nulls = list.values().logical_nulls();
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        let sorted = list.range(row).and_then(|range| {
            let ascending = ascending.map_or(Some(true), |a| a.get(row))?;
            let nulls_first = nulls_first.map_or(Some(ascending), |n| n.get(row))?;
            let is_null = |i: &usize| nulls.as_ref().is_some_and(|n| n.is_null(*i));
            let (null, mut valued): (Vec<usize>, Vec<usize>) = range.partition(is_null);
            valued.sort_by(|a, b| {
                let order = keys.get((0, *a)).cmp(keys.get((0, *b)));
                if ascending { order } else { order.reverse() }
            });
            Some(if nulls_first { [null, valued].concat() } else { [valued, null].concat() })
        });
        out.push(sorted.map(|s| s.into_iter().map(|i| (0, i))));
    }
    out.finish(args.ty, &[list.values()])
}
