//! Case, length, cutting, trimming, padding, replacing.

use std::fmt::Write;

use arrow::array::ArrayRef;
use sluice_batch::{Error, Expr, Result, TypeKind};

use super::{char_count, offset, varying};
use crate::kernel::{Args, Body, P};
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["UPPER"], bind: |c| same_type(c, "UPPER", upper) },
    Declaration { names: &["LOWER"], bind: |c| same_type(c, "LOWER", lower) },
    Declaration { names: &["INITCAP"], bind: |c| same_type(c, "INITCAP", initcap) },
    Declaration { names: &["CHAR_LENGTH", "CHARACTER_LENGTH"], bind: |c| c.strict("CHAR_LENGTH", &[P::Str], TypeKind::Int, char_length) },
    Declaration { names: &["SUBSTRING", "SUBSTR"], bind: |c| cut(c, "SUBSTRING", &[P::Str, P::BigInt, P::BigInt], 2, substring) },
    Declaration { names: &["LEFT"], bind: |c| cut(c, "LEFT", &[P::Str, P::BigInt], 2, left) },
    Declaration { names: &["RIGHT"], bind: |c| cut(c, "RIGHT", &[P::Str, P::BigInt], 2, right) },
    Declaration { names: &["TRIM"], bind: trim },
    Declaration { names: &["LTRIM"], bind: |c| one_sided(c, "LTRIM", |a| trim_by(a, 0, 1, true, false)) },
    Declaration { names: &["RTRIM"], bind: |c| one_sided(c, "RTRIM", |a| trim_by(a, 0, 1, false, true)) },
    Declaration { names: &["BTRIM"], bind: btrim },
    Declaration { names: &["LPAD"], bind: |c| c.nullable("LPAD", &[P::Str, P::BigInt, P::Str], TypeKind::STRING, |a| pad(a, true)) },
    Declaration { names: &["RPAD"], bind: |c| c.nullable("RPAD", &[P::Str, P::BigInt, P::Str], TypeKind::STRING, |a| pad(a, false)) },
    Declaration { names: &["REPEAT"], bind: |c| c.strict("REPEAT", &[P::Str, P::BigInt], TypeKind::STRING, repeat) },
    Declaration { names: &["REVERSE"], bind: |c| c.nullable("REVERSE", &[P::Str], TypeKind::STRING, reverse) },
    Declaration { names: &["REPLACE"], bind: |c| c.strict("REPLACE", &[P::Str, P::Str, P::Str], TypeKind::STRING, replace) },
    Declaration { names: &["TRANSLATE", "TRANSLATE3"], bind: translate_bind },
    Declaration { names: &["OVERLAY"], bind: overlay_bind },
];

fn same_type(mut call: Call<'_>, name: &'static str, body: Body) -> Result<Expr> {
    call.coerce(&[P::Str], 1)?;
    let ty = call.args[0].ty.clone();
    Ok(call.kernel(name, ty, body))
}

/// The result is VARCHAR of the first argument's length, and NULL for some arguments.
fn cut(mut call: Call<'_>, name: &'static str, params: &[P], required: usize, body: Body) -> Result<Expr> {
    call.coerce(params, required)?;
    let ty = varying(&call.args[0].ty.kind).nullable();
    Ok(call.kernel(name, ty, body))
}

fn upper(a: &Args<'_>) -> Result<ArrayRef> {
    let s = a.str(0)?;
    a.strings(|row, out| {
        let s = s.get(row)?;
        if s.is_ascii() {
            out.push_str(s);
            out.make_ascii_uppercase();
        } else {
            out.extend(s.chars().flat_map(char::to_uppercase));
        }
        Some(())
    })
}

fn lower(a: &Args<'_>) -> Result<ArrayRef> {
    let s = a.str(0)?;
    a.strings(|row, out| {
        let s = s.get(row)?;
        if s.is_ascii() {
            out.push_str(s);
            out.make_ascii_lowercase();
        } else {
            out.push_str(&s.to_lowercase());
        }
        Some(())
    })
}

/// Words are runs of ASCII letters and digits (Calcite: `SqlFunctions.initcap`).
fn initcap(a: &Args<'_>) -> Result<ArrayRef> {
    let s = a.str(0)?;
    a.strings(|row, out| {
        let mut start = true;
        for c in s.get(row)?.chars() {
            out.push(if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
            start = !c.is_ascii_alphanumeric();
        }
        Some(())
    })
}

fn char_length(a: &Args<'_>) -> Result<ArrayRef> {
    let s = a.str(0)?;
    a.i32s(|row| Some(char_count(s.get(row)?) as i32))
}

/// From position `pos` (negative: from the end; 0 is as 1), `len` characters at most; NULL for a negative length.
fn slice(text: &str, pos: i64, len: i64) -> Option<&str> {
    if len < 0 {
        return None;
    }
    let start = match pos {
        1.. => usize::try_from(pos - 1).unwrap_or(usize::MAX),
        0 => 0,
        _ => {
            let count = char_count(text) as i64;
            let Ok(start) = usize::try_from(count.saturating_add(pos)) else { return Some("") };
            start
        }
    };
    let rest = &text[offset(text, start)..];
    Some(&rest[..offset(rest, usize::try_from(len).unwrap_or(usize::MAX))])
}

fn substring(a: &Args<'_>) -> Result<ArrayRef> {
    let (s, pos) = (a.str(0)?, a.i64(1)?);
    if !a.has(2) {
        return a.map_str(|row| slice(s.get(row)?, pos.get(row)?, i64::MAX));
    }
    let len = a.i64(2)?;
    a.map_str(|row| slice(s.get(row)?, pos.get(row)?, len.get(row)?))
}

fn left(a: &Args<'_>) -> Result<ArrayRef> {
    let (s, len) = (a.str(0)?, a.i64(1)?);
    a.map_str(|row| slice(s.get(row)?, 1, len.get(row)?.max(0)))
}

fn right(a: &Args<'_>) -> Result<ArrayRef> {
    let (s, len) = (a.str(0)?, a.i64(1)?);
    a.map_str(|row| {
        let (s, len) = (s.get(row)?, len.get(row)?);
        let count = char_count(s) as i64;
        Some(&s[offset(s, (count - len.clamp(0, count)) as usize)..])
    })
}

/// `TRIM(BOTH|LEADING|TRAILING chars FROM text)`: cuts characters of a set. Also `TRIM(text)`.
fn trim(mut call: Call<'_>) -> Result<Expr> {
    let side = call.symbol(0).map(str::to_string);
    if side.is_some() {
        call.args.remove(0);
        call.symbols.clear();
    }
    if call.args.len() == 2 {
        // Characters first in SQL; text first from here on.
        call.args.swap(0, 1);
    }
    call.coerce(&[P::Str, P::Str], 1)?;
    let ty = varying(&call.args[0].ty.kind).with_nullable(call.any_nullable());
    Ok(match side.as_deref() {
        Some("LEADING") => call.kernel("TRIM LEADING", ty, |a| trim_by(a, 0, 1, true, false)),
        Some("TRAILING") => call.kernel("TRIM TRAILING", ty, |a| trim_by(a, 0, 1, false, true)),
        _ => call.kernel("TRIM", ty, |a| trim_by(a, 0, 1, true, true)),
    })
}

fn one_sided(mut call: Call<'_>, name: &'static str, body: Body) -> Result<Expr> {
    call.coerce(&[P::Str, P::Str], 1)?;
    let ty = varying(&call.args[0].ty.kind).with_nullable(call.any_nullable());
    Ok(call.kernel(name, ty, body))
}

fn btrim(mut call: Call<'_>) -> Result<Expr> {
    call.coerce(&[P::Chars, P::Chars], 1)?;
    let ty = TypeKind::STRING.with_nullable(call.any_nullable());
    Ok(call.kernel("BTRIM", ty, |a| trim_by(a, 0, 1, true, true)))
}

fn trim_by(a: &Args<'_>, text: usize, set: usize, leading: bool, trailing: bool) -> Result<ArrayRef> {
    let text = a.str(text)?;
    let set = if a.has(set) { Some(a.str(set)?) } else { None };
    a.map_str(|row| {
        let mut text = text.get(row)?;
        let set = match set {
            Some(set) => set.get(row)?,
            None => " ",
        };
        let cut = |c: char| set.contains(c);
        if leading {
            text = text.trim_start_matches(cut);
        }
        if trailing {
            text = text.trim_end_matches(cut);
        }
        Some(text)
    })
}

/// NULL for a negative length and for empty padding.
fn pad(a: &Args<'_>, left: bool) -> Result<ArrayRef> {
    let (base, len, pad) = (a.str(0)?, a.i64(1)?, a.str(2)?);
    a.try_strings(|row, out| {
        let (Some(base), Some(len), Some(pad)) = (base.get(row), len.get(row), pad.get(row)) else { return Ok(None) };
        let Some(len) = i32::try_from(len).ok().and_then(|l| usize::try_from(l).ok()) else { return Ok(None) };
        if pad.is_empty() {
            return Ok(None);
        }
        let kept = &base[..offset(base, len)];
        let missing = len - char_count(kept);
        check_size(missing)?;
        if !left {
            out.push_str(kept);
        }
        out.extend(pad.chars().cycle().take(missing));
        if left {
            out.push_str(kept);
        }
        Ok(Some(()))
    })
}

/// A text of a length that a number says must not take the memory of the job.
fn check_size(bytes: usize) -> Result<()> {
    const MAX: usize = 256 << 20;
    if bytes > MAX {
        return Err(Error::runtime(format!("a text of {bytes} bytes; one text may have {MAX}")));
    }
    Ok(())
}

fn repeat(a: &Args<'_>) -> Result<ArrayRef> {
    let (s, times) = (a.str(0)?, a.i64(1)?);
    a.try_strings(|row, out| {
        let (Some(s), Some(times)) = (s.get(row), times.get(row)) else { return Ok(None) };
        let times = if s.is_empty() { 0 } else { usize::try_from(times).unwrap_or(0) };
        check_size(s.len().saturating_mul(times))?;
        (0..times).for_each(|_| out.push_str(s));
        Ok(Some(()))
    })
}

fn reverse(a: &Args<'_>) -> Result<ArrayRef> {
    let s = a.str(0)?;
    a.strings(|row, out| {
        out.extend(s.get(row)?.chars().rev());
        Some(())
    })
}

fn replace(a: &Args<'_>) -> Result<ArrayRef> {
    let (s, old, new) = (a.str(0)?, a.str(1)?, a.str(2)?);
    a.strings(|row, out| {
        let (s, old, new) = (s.get(row)?, old.get(row)?, new.get(row)?);
        let mut last = 0;
        for (at, found) in s.match_indices(old) {
            let _ = write!(out, "{}{new}", &s[last..at]);
            last = at + found.len();
        }
        out.push_str(&s[last..]);
        Some(())
    })
}

/// NULL only if the text is: a NULL `from` changes nothing, a NULL `to` is empty.
fn translate_bind(mut call: Call<'_>) -> Result<Expr> {
    call.coerce(&[P::Chars, P::Chars, P::Chars], 3)?;
    let ty = TypeKind::STRING.with_nullable(call.args[0].ty.nullable);
    Ok(call.kernel("TRANSLATE", ty, translate))
}

fn translate(a: &Args<'_>) -> Result<ArrayRef> {
    let (s, from, to) = (a.str(0)?, a.str(1)?, a.str(2)?);
    a.strings(|row, out| {
        let (from, to) = (from.get(row).unwrap_or(""), to.get(row).unwrap_or(""));
        for c in s.get(row)?.chars() {
            match from.chars().position(|f| f == c) {
                None => out.push(c),
                Some(at) => out.extend(to.chars().nth(at)),
            }
        }
        Some(())
    })
}

fn overlay_bind(mut call: Call<'_>) -> Result<Expr> {
    call.coerce(&[P::Str, P::Str, P::BigInt, P::BigInt], 3)?;
    let length = |i: usize| match call.args[i].ty.kind {
        TypeKind::Char(n) | TypeKind::VarChar(n) => n,
        _ => sluice_batch::types::MAX_LENGTH,
    };
    let kind = TypeKind::VarChar(length(0).saturating_add(length(1)).min(sluice_batch::types::MAX_LENGTH));
    let ty = kind.with_nullable(call.any_nullable());
    Ok(call.kernel("OVERLAY", ty, overlay))
}

/// Start positions outside the text leave it as it is.
fn overlay(a: &Args<'_>) -> Result<ArrayRef> {
    let (s, new, start) = (a.str(0)?, a.str(1)?, a.i64(2)?);
    let len = if a.has(3) { Some(a.i64(3)?) } else { None };
    a.strings(|row, out| {
        let (s, new, start) = (s.get(row)?, new.get(row)?, start.get(row)?);
        let len = match len {
            Some(len) => len.get(row)?,
            None => char_count(new) as i64,
        };
        let count = char_count(s) as i64;
        if start <= 0 || start > count {
            out.push_str(s);
            return Some(());
        }
        out.push_str(&s[..offset(s, (start - 1) as usize)]);
        out.push_str(new);
        if len > 0 && start.saturating_add(len) <= count {
            out.push_str(&s[offset(s, (start - 1 + len) as usize)..]);
        }
        Some(())
    })
}
