//! Where texts are in texts: POSITION, LOCATE, INSTR, SPLIT_INDEX, STARTSWITH, ENDSWITH, IS_ALPHA and its kin.

use arrow::array::ArrayRef;
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::{char_count, offset};
use crate::cast::parse;
use crate::kernel::{Args, Body, P};
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["POSITION"], bind: |c| found_at(c, "POSITION", &[P::Str, P::Str, P::BigInt], |a| locate(a, 0, 1, 2)) },
    Declaration { names: &["LOCATE"], bind: |c| found_at(c, "LOCATE", &[P::Str, P::Str, P::BigInt], |a| locate(a, 0, 1, 2)) },
    Declaration { names: &["INSTR"], bind: |c| found_at(c, "INSTR", &[P::Str, P::Str, P::BigInt, P::BigInt], instr) },
    Declaration { names: &["SPLIT_INDEX"], bind: split_index_bind },
    Declaration { names: &["STARTSWITH"], bind: |c| affix(c, "STARTSWITH", |a| affixes(a, |s, p| s.starts_with(p), <[u8]>::starts_with)) },
    Declaration { names: &["ENDSWITH"], bind: |c| affix(c, "ENDSWITH", |a| affixes(a, |s, p| s.ends_with(p), <[u8]>::ends_with)) },
    Declaration {
        names: &["IS_ALPHA"],
        bind: |c| kind_test(c, "IS_ALPHA", |_| false, |a| test(a, |s| s.chars().all(char::is_alphabetic))),
    },
    Declaration {
        names: &["IS_DIGIT"],
        bind: |c| kind_test(c, "IS_DIGIT", TypeKind::is_integer, |a| test(a, |s| s.chars().all(char::is_numeric))),
    },
    Declaration {
        names: &["IS_DECIMAL"],
        bind: |c| kind_test(c, "IS_DECIMAL", TypeKind::is_numeric, |a| test(a, |s| parse::double(s).is_some())),
    },
];

/// The position (from 1) of `needle` at or behind position `from`; 0 if there is none.
fn position(needle: &str, text: &str, from: i64) -> i32 {
    if needle.is_empty() {
        return 1;
    }
    let skip = usize::try_from(from - 1).unwrap_or(0);
    let start = offset(text, skip);
    match text[start..].find(needle) {
        Some(at) => (char_count(&text[..start + at]) + 1) as i32,
        None => 0,
    }
}

fn found_at(mut call: Call<'_>, name: &'static str, params: &[P], body: Body) -> Result<Expr> {
    call.coerce(params, 2)?;
    let ty = TypeKind::Int.with_nullable(call.any_nullable());
    Ok(call.kernel(name, ty, body))
}

fn locate(a: &Args<'_>, needle: usize, text: usize, from: usize) -> Result<ArrayRef> {
    let (needle, text) = (a.str(needle)?, a.str(text)?);
    let from = if a.has(from) { Some(a.i64(from)?) } else { None };
    a.i32s(|row| {
        let from = match from {
            Some(from) => from.get(row)?,
            None => 1,
        };
        Some(position(needle.get(row)?, text.get(row)?, from))
    })
}

/// `INSTR(text, needle[, start[, nth]])`; a negative start searches from the end.
fn instr(a: &Args<'_>) -> Result<ArrayRef> {
    if !a.has(2) {
        return locate(a, 1, 0, 2);
    }
    let (text, needle, start) = (a.str(0)?, a.str(1)?, a.i64(2)?);
    let nth = if a.has(3) { Some(a.i64(3)?) } else { None };
    a.try_primitives::<arrow::datatypes::Int32Type>(|row| {
        let nth = nth.map_or(Some(1), |n| n.get(row));
        let (Some(text), Some(needle), Some(start), Some(nth)) = (text.get(row), needle.get(row), start.get(row), nth) else {
            return Ok(None);
        };
        if nth <= 0 {
            return Err(Error::runtime("nthAppearance must be positive!"));
        }
        if start >= 0 {
            return Ok(Some(if start == 0 { 0 } else { nth_position(text, needle, start, nth) }));
        }
        let backwards = |s: &str| s.chars().rev().collect::<String>();
        let at = nth_position(&backwards(text), &backwards(needle), -start, nth);
        Ok(Some(if at == 0 { 0 } else { (char_count(text) + 2 - char_count(needle)) as i32 - at }))
    })
}

fn nth_position(text: &str, needle: &str, start: i64, nth: i64) -> i32 {
    let (mut from, mut at) = (start, 0);
    for _ in 0..nth {
        at = position(needle, text, from);
        if at == 0 {
            return 0;
        }
        from = i64::from(at) + 1;
    }
    at
}

/// `SPLIT_INDEX(text, separator, index from 0)`; the separator may be a character's code.
fn split_index_bind(mut call: Call<'_>) -> Result<Expr> {
    if call.args.get(1).is_some_and(|a| a.ty.kind.is_integer()) {
        return call.nullable("SPLIT_INDEX", &[P::Str, P::BigInt, P::BigInt], TypeKind::STRING, split_index_by_code);
    }
    call.coerce(&[P::Str, P::Str, P::BigInt], 3)?;
    Ok(call.kernel("SPLIT_INDEX", TypeKind::STRING.nullable(), split_index))
}

fn token<'a>(text: &'a str, separator: &str, index: i64) -> Option<&'a str> {
    if text.is_empty() {
        return None;
    }
    let index = usize::try_from(index).ok()?;
    // An empty separator is a blank (commons-lang: `splitByWholeSeparatorPreserveAllTokens`).
    text.split(if separator.is_empty() { " " } else { separator }).nth(index)
}

fn split_index(a: &Args<'_>) -> Result<ArrayRef> {
    let (text, separator, index) = (a.str(0)?, a.str(1)?, a.i64(2)?);
    a.map_str(|row| token(text.get(row)?, separator.get(row)?, index.get(row)?))
}

fn split_index_by_code(a: &Args<'_>) -> Result<ArrayRef> {
    let (text, code, index) = (a.str(0)?, a.i64(1)?, a.i64(2)?);
    a.map_str(|row| {
        let code = u8::try_from(code.get(row)?).ok().filter(|c| *c > 0)?;
        token(text.get(row)?, char::from(code).encode_utf8(&mut [0; 4]), index.get(row)?)
    })
}

/// Both texts or both bytes.
fn affix(mut call: Call<'_>, name: &'static str, body: Body) -> Result<Expr> {
    let bytes = call.args.iter().any(|a| a.ty.kind.is_binary());
    let param = if bytes { P::Binary } else { P::Chars };
    call.coerce(&[param, param], 2)?;
    let ty = TypeKind::Boolean.with_nullable(call.any_nullable());
    Ok(call.kernel(name, ty, body))
}

fn affixes(a: &Args<'_>, text: fn(&str, &str) -> bool, bytes: fn(&[u8], &[u8]) -> bool) -> Result<ArrayRef> {
    if let Ok(whole) = a.str(0) {
        let part = a.str(1)?;
        return a.booleans(|row| Some(text(whole.get(row)?, part.get(row)?)));
    }
    let (whole, part) = (a.binary(0)?, a.binary(1)?);
    a.booleans(|row| Some(bytes(whole.get(row)?, part.get(row)?)))
}

/// IS_ALPHA and its kin: never NULL; `of_number` is the answer for numbers.
fn kind_test(mut call: Call<'_>, name: &'static str, of_number: fn(&TypeKind) -> bool, body: Body) -> Result<Expr> {
    if call.args.len() == 1 && call.args[0].ty.kind.is_numeric() {
        let arg = call.args.remove(0);
        return Ok(if of_number(&arg.ty.kind) {
            Expr { kind: sluice_batch::ExprKind::IsNotNull(Box::new(arg)), ty: TypeKind::Boolean.not_null() }
        } else {
            Expr::boolean(false)
        });
    }
    call.coerce(&[P::Chars], 1)?;
    Ok(call.kernel(name, TypeKind::Boolean.not_null(), body))
}

fn test(a: &Args<'_>, f: fn(&str) -> bool) -> Result<ArrayRef> {
    let s = a.str(0)?;
    a.booleans(|row| Some(s.get(row).is_some_and(|s| !s.is_empty() && f(s))))
}
