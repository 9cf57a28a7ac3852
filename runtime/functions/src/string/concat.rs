//! `||`, CONCAT, CONCAT_WS, ELT.

use arrow::array::{ArrayRef, BinaryArray, StringArray};
use sluice_batch::types::MAX_LENGTH;
use sluice_batch::{Datum, Expr, Result, TypeKind};

use crate::kernel::{Args, Column, P};
use crate::typing::common_type;
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["||"], bind: operator },
    Declaration { names: &["CONCAT"], bind: |c| repeated(c, 1, false) },
    Declaration { names: &["CONCAT_WS"], bind: |c| repeated(c, 1, true) },
    Declaration { names: &["ELT"], bind: elt },
];

fn columns<'a>(a: &Args<'a>, from: usize) -> Result<Vec<Column<'a, StringArray>>> {
    (from..a.count()).map(|i| a.str(i)).collect()
}

/// CHAR(n) || CHAR(m) is CHAR(n + m); VARCHAR, BINARY and VARBINARY likewise.
fn operator(mut call: Call<'_>) -> Result<Expr> {
    use TypeKind::*;
    if call.args.len() != 2 {
        return Err(call.wrong_count(2));
    }
    for i in 0..2 {
        if call.args[i].ty.kind == Null {
            let kind = if call.args[1 - i].ty.kind.is_binary() { TypeKind::BYTES } else { TypeKind::STRING };
            call.cast_arg(i, kind)?;
        }
    }
    let sum = |n: &u32, m: &u32| n.saturating_add(*m).min(MAX_LENGTH);
    let kind = match (&call.args[0].ty.kind, &call.args[1].ty.kind) {
        (Char(n), Char(m)) => Char(sum(n, m)),
        (Char(n) | VarChar(n), Char(m) | VarChar(m)) => VarChar(sum(n, m)),
        (Binary(n), Binary(m)) => Binary(sum(n, m)),
        (Binary(n) | VarBinary(n), Binary(m) | VarBinary(m)) => VarBinary(sum(n, m)),
        (Array(_), Array(_)) => {
            return crate::bind(Call { name: "ARRAY_CONCAT", ..call });
        }
        _ => return Err(call.invalid("'<STRING> || <STRING>', '<EQUIVALENT_TYPE> || <EQUIVALENT_TYPE>'")),
    };
    let ty = kind.clone().with_nullable(call.any_nullable());
    Ok(if kind.is_binary() { call.kernel("||", ty, concat_bytes) } else { call.kernel("||", ty, concat) })
}

fn repeated(mut call: Call<'_>, required: usize, separator: bool) -> Result<Expr> {
    if call.args.len() < required {
        return Err(call.wrong_count(format!("at least {required}")));
    }
    call.coerce(&vec![P::Str; call.args.len()], required)?;
    let ty = TypeKind::STRING.with_nullable(call.any_nullable());
    Ok(if separator { call.kernel("CONCAT_WS", ty, concat_ws) } else { call.kernel("CONCAT", ty, concat) })
}

fn concat(a: &Args<'_>) -> Result<ArrayRef> {
    let parts = columns(a, 0)?;
    a.strings(|row, out| {
        for part in &parts {
            out.push_str(part.get(row)?);
        }
        Some(())
    })
}

fn concat_bytes(a: &Args<'_>) -> Result<ArrayRef> {
    let parts = (0..a.count()).map(|i| a.column::<BinaryArray>(i)).collect::<Result<Vec<_>>>()?;
    let mut buffer = vec![];
    a.map_binary(|row| {
        buffer.clear();
        for part in &parts {
            buffer.extend_from_slice(part.get(row)?);
        }
        Some(buffer.clone())
    })
}

/// NULL separator: NULL; NULL values are left out.
fn concat_ws(a: &Args<'_>) -> Result<ArrayRef> {
    let (separator, parts) = (a.str(0)?, columns(a, 1)?);
    a.strings(|row, out| {
        let separator = separator.get(row)?;
        for (i, part) in parts.iter().filter_map(|p| p.get(row)).enumerate() {
            if i > 0 {
                out.push_str(separator);
            }
            out.push_str(part);
        }
        Some(())
    })
}

/// `ELT(index, a, b, …)`: all texts or all bytes.
fn elt(mut call: Call<'_>) -> Result<Expr> {
    let form = "ELT(index <INTEGER_NUMERIC>, expr <CHARACTER_STRING>…), ELT(index <INTEGER_NUMERIC>, expr <BINARY_STRING>…)";
    if call.args.len() < 2 {
        return Err(call.wrong_count("at least 2"));
    }
    let null = TypeKind::Null;
    let all = |f: fn(&TypeKind) -> bool| call.args[1..].iter().all(|a| f(&a.ty.kind) || a.ty.kind == null);
    if !(call.args[0].ty.kind.is_integer() || call.args[0].ty.kind == null) || !(all(TypeKind::is_character) || all(TypeKind::is_binary)) {
        return Err(call.invalid(form));
    }
    if let Some(index) = crate::fold_constant(&call.args[0]).as_ref().and_then(Datum::as_i64)
        && index < 0
    {
        return Err(sluice_batch::Error::plan(format!("Index must be an integer starting from '0', but was '{index}'.")));
    }
    let common = common_type(&call.args[1..].iter().map(|a| a.ty.clone()).collect::<Vec<_>>());
    let kind = common.map(|t| t.kind).filter(|k| *k != null).unwrap_or(TypeKind::STRING);
    call.cast_arg(0, TypeKind::BigInt)?;
    for i in 1..call.args.len() {
        call.cast_arg(i, kind.clone())?;
    }
    let binary = kind.is_binary();
    let ty = kind.nullable();
    Ok(if binary { call.kernel("ELT", ty, elt_bytes) } else { call.kernel("ELT", ty, elt_text) })
}

fn chosen<T>(index: Option<i64>, options: &[T]) -> Option<&T> {
    options.get(usize::try_from(index?.checked_sub(1)?).ok()?)
}

fn elt_text(a: &Args<'_>) -> Result<ArrayRef> {
    let (index, options) = (a.i64(0)?, columns(a, 1)?);
    a.map_str(|row| chosen(index.get(row), &options)?.get(row))
}

fn elt_bytes(a: &Args<'_>) -> Result<ArrayRef> {
    let index = a.i64(0)?;
    let options = (1..a.count()).map(|i| a.column::<BinaryArray>(i)).collect::<Result<Vec<_>>>()?;
    a.map_binary(|row| chosen(index.get(row), &options)?.get(row))
}
