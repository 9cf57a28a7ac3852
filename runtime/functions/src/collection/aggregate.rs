//! Functions from an array to one value: ARRAY_MAX, ARRAY_MIN, ARRAY_JOIN.

use arrow::array::{Array, ArrayRef, StringArray};
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::lists::{Keys, ListArg, NULL, gather};
use super::{element, expect_count, signatures};
use crate::kernel::Args;
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["ARRAY_MAX"], bind: |c| bind_extreme(c, "ARRAY_MAX") },
    Declaration { names: &["ARRAY_MIN"], bind: |c| bind_extreme(c, "ARRAY_MIN") },
    Declaration { names: &["ARRAY_JOIN"], bind: bind_join },
];

fn bind_extreme(call: Call<'_>, name: &'static str) -> Result<Expr> {
    expect_count(&call, 1..=1)?;
    match element(&call, 0) {
        Some(e) if !matches!(e.kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_)) => {
            Ok(call.kernel(name, e.as_nullable(), if name == "ARRAY_MAX" { max } else { min }))
        }
        _ => Err(signatures(&call, &[&format!("{name}(<ARRAY OF COMPARABLE>)")])),
    }
}

fn max(args: &Args<'_>) -> Result<ArrayRef> {
    extreme(args, true)
}

fn min(args: &Args<'_>) -> Result<ArrayRef> {
    extreme(args, false)
}

/// NULLs do not count; NULL of no values.
fn extreme(args: &Args<'_>, max: bool) -> Result<ArrayRef> {
    let list = ListArg::new(args, 0)?;
    let keys = Keys::new(&[list.values()])?;
    let nulls = list.values().logical_nulls();
    let positions: Vec<_> = (0..args.len())
        .map(|row| {
            let values = list.range(row).into_iter().flatten().filter(|i| nulls.as_ref().is_none_or(|n| n.is_valid(*i)));
            let key = |i: &usize| keys.get((0, *i));
            let best = if max { values.max_by_key(key) } else { values.min_by_key(key) };
            best.map_or(NULL, |i| (0, i))
        })
        .collect();
    gather(&args.ty.to_arrow(), &[list.values()], &positions)
}

/// `ARRAY_JOIN(array, separator [, null_replacement])`; NULL elements are left out unless replaced.
fn bind_join(call: Call<'_>) -> Result<Expr> {
    let forms = ["ARRAY_JOIN(ARRAY<STRING>, <CHARACTER_STRING>)", "ARRAY_JOIN(ARRAY<STRING>, <CHARACTER_STRING>, <CHARACTER_STRING>)"];
    let texts = call.args.iter().skip(1).all(|a| a.ty.kind.is_character() || a.ty.kind == TypeKind::Null);
    if !(2..=3).contains(&call.args.len()) || !element(&call, 0).is_some_and(|e| e.kind.is_character()) || !texts {
        return Err(signatures(&call, &forms));
    }
    let mut call = call;
    for i in 1..call.args.len() {
        if call.args[i].ty.kind == TypeKind::Null {
            call.cast_arg(i, TypeKind::STRING)?;
        }
    }
    let ty = TypeKind::STRING.with_nullable(call.any_nullable());
    Ok(call.kernel("ARRAY_JOIN", ty, join))
}

fn join(args: &Args<'_>) -> Result<ArrayRef> {
    let (list, separator) = (ListArg::new(args, 0)?, args.str(1)?);
    let replacement = if args.has(2) { Some(args.str(2)?) } else { None };
    let values = list.values().as_any().downcast_ref::<StringArray>();
    let values = values.ok_or_else(|| Error::runtime("ARRAY_JOIN got an array that is not of strings"))?;
    args.strings(|row, out| {
        let (range, separator) = (list.range(row)?, separator.get(row)?);
        let replacement = match replacement {
            Some(r) => Some(r.get(row)?),
            None => None,
        };
        let mut first = true;
        for i in range {
            let Some(text) = values.is_valid(i).then(|| values.value(i)).or(replacement) else { continue };
            if !first {
                out.push_str(separator);
            }
            first = false;
            out.push_str(text);
        }
        Some(())
    })
}
