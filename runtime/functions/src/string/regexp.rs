//! REGEXP and its kin. A pattern that is none gives NULL (FALSE for REGEXP); a literal one is refused when the query is planned.

use std::rc::Rc;

use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};
use fancy_regex::Regex;
use sluice_batch::{Datum, Error, Expr, ExprKind, Result, TypeKind};

use super::char_count;
use crate::kernel::{Args, Body, Column, P};
use crate::regex::try_compile;
use crate::{Call, Declaration};

const TWO: &[P] = &[P::Chars, P::Chars];

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["REGEXP"], bind: |c| checked(c, "REGEXP", TWO, TypeKind::Boolean, regexp) },
    Declaration { names: &["REGEXP_COUNT"], bind: |c| c.nullable("REGEXP_COUNT", TWO, TypeKind::Int, count) },
    Declaration {
        names: &["REGEXP_EXTRACT"],
        bind: |c| checked(c, "REGEXP_EXTRACT", &[P::Chars, P::Chars, P::BigInt], TypeKind::STRING, extract),
    },
    Declaration { names: &["REGEXP_EXTRACT_ALL"], bind: extract_all_bind },
    Declaration { names: &["REGEXP_INSTR"], bind: |c| c.nullable("REGEXP_INSTR", TWO, TypeKind::Int, instr) },
    Declaration {
        names: &["REGEXP_REPLACE"],
        bind: |c| checked(c, "REGEXP_REPLACE", &[P::Chars, P::Chars, P::Chars], TypeKind::STRING, replace),
    },
    Declaration { names: &["REGEXP_SUBSTR"], bind: |c| c.nullable("REGEXP_SUBSTR", TWO, TypeKind::STRING, substr) },
];

/// REGEXP, REGEXP_EXTRACT and REGEXP_REPLACE refuse a bad literal pattern. (Computed constants are not looked at.)
fn checked(mut call: Call<'_>, name: &'static str, params: &[P], returns: TypeKind, body: Body) -> Result<Expr> {
    call.coerce(params, if name == "REGEXP_REPLACE" { 3 } else { 2 })?;
    if let ExprKind::Literal(Datum::String(pattern)) = &call.args[1].kind
        && try_compile(pattern).is_none()
    {
        return Err(Error::plan(format!("Invalid regular expression for {name}: '{pattern}'")));
    }
    let nullable = name != "REGEXP" || call.any_nullable();
    Ok(call.kernel(name, returns.with_nullable(nullable), body))
}

/// Text and compiled pattern of each row.
struct Rows<'a> {
    text: Column<'a, StringArray>,
    pattern: Column<'a, StringArray>,
    constant: Option<Option<Rc<Regex>>>,
}

impl<'a> Rows<'a> {
    fn new(a: &Args<'a>) -> Result<Self> {
        let (text, pattern) = (a.str(0)?, a.str(1)?);
        let constant = pattern.is_scalar().then(|| pattern.get(0).and_then(try_compile));
        Ok(Self { text, pattern, constant })
    }

    /// `None` if text or pattern is NULL or the pattern is bad.
    fn get(&self, row: usize) -> Option<(&'a str, Rc<Regex>)> {
        let text = self.text.get(row)?;
        let regex = match &self.constant {
            Some(regex) => regex.clone()?,
            None => try_compile(self.pattern.get(row)?)?,
        };
        Some((text, regex))
    }
}

fn regexp(a: &Args<'_>) -> Result<ArrayRef> {
    let rows = Rows::new(a)?;
    a.booleans(|row| {
        let (_, pattern) = (rows.text.get(row)?, rows.pattern.get(row)?);
        let found = rows.get(row).is_some_and(|(text, regex)| regex.is_match(text).unwrap_or(false));
        Some(found && !pattern.is_empty())
    })
}

fn count(a: &Args<'_>) -> Result<ArrayRef> {
    let rows = Rows::new(a)?;
    a.i32s(|row| {
        let (text, regex) = rows.get(row)?;
        Some(regex.find_iter(text).map_while(Result::ok).count() as i32)
    })
}

/// The group number of a row; `default` if there is no such argument.
fn group<'a>(a: &Args<'a>, default: i64) -> Result<impl Fn(usize) -> Option<usize> + use<'a>> {
    let index = if a.has(2) { Some(a.i64(2)?) } else { None };
    Ok(move |row| {
        let group = match index {
            Some(index) => index.get(row)?,
            None => default,
        };
        usize::try_from(group).ok()
    })
}

fn extract(a: &Args<'_>) -> Result<ArrayRef> {
    let (rows, group) = (Rows::new(a)?, group(a, 0)?);
    a.map_str(|row| {
        let ((text, regex), group) = (rows.get(row)?, group(row)?);
        regex.captures(text).ok()??.get(group).map(|m| m.as_str())
    })
}

fn extract_all_bind(call: Call<'_>) -> Result<Expr> {
    let returns = TypeKind::Array(Box::new(TypeKind::STRING.nullable()));
    call.optional("REGEXP_EXTRACT_ALL", &[P::Chars, P::Chars, P::BigInt], 2, returns, extract_all)
}

fn extract_all(a: &Args<'_>) -> Result<ArrayRef> {
    let (rows, group) = (Rows::new(a)?, group(a, 1)?);
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..a.len() {
        let found = rows.get(row).zip(group(row)).filter(|((_, regex), group)| *group < regex.captures_len());
        if let Some(((text, regex), group)) = &found {
            for captures in regex.captures_iter(text).map_while(Result::ok) {
                out.values().append_option(captures.get(*group).map(|m| m.as_str()));
            }
        }
        out.append(found.is_some());
    }
    Ok(std::sync::Arc::new(out.finish()))
}

/// The position of the first match; 0 if there is none.
fn instr(a: &Args<'_>) -> Result<ArrayRef> {
    let rows = Rows::new(a)?;
    a.i32s(|row| {
        let (text, regex) = rows.get(row)?;
        Some(regex.find(text).ok()?.map_or(0, |m| char_count(&text[..m.start()]) as i32 + 1))
    })
}

/// The replacement stands for itself.
fn replace(a: &Args<'_>) -> Result<ArrayRef> {
    let (rows, replacement) = (Rows::new(a)?, a.str(2)?);
    a.strings(|row, out| {
        let ((text, regex), replacement) = (rows.get(row)?, replacement.get(row)?);
        let mut last = 0;
        for found in regex.find_iter(text).map_while(Result::ok) {
            out.push_str(&text[last..found.start()]);
            out.push_str(replacement);
            last = found.end();
        }
        out.push_str(&text[last..]);
        Some(())
    })
}

fn substr(a: &Args<'_>) -> Result<ArrayRef> {
    let rows = Rows::new(a)?;
    a.map_str(|row| {
        let (text, regex) = rows.get(row)?;
        Some(regex.find(text).ok()??.as_str())
    })
}
