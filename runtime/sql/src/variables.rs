//! `${NAME}` and `${NAME:-default}` in SQL text.

use sluice_batch::{Error, Result, Span};

use crate::keywords::closest;

/// Where in the text a character stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Sql,
    String,
    Quoted,
    LineComment,
    BlockComment,
}

/// Replaces `${NAME}` and `${NAME:-default}` by what `lookup` gives, else by the default.
///
/// In a string literal a quote in the value is doubled, so that the value stays the string's content; comments are left alone.
/// Places in later errors are those in the result: they move only on the line of the variable, unless a value has line breaks.
///
/// # Errors
/// A plan error with line and column for a variable without value and default, a malformed name, and a missing `}`.
pub fn substitute_variables(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut place = Place::Sql;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let commented = matches!(place, Place::LineComment | Place::BlockComment);
        if !commented && rest.starts_with("${") {
            let at = span_of(text, text.len() - rest.len());
            let (value, after) = variable(rest, at, lookup)?;
            match place {
                Place::String => out.push_str(&value.replace('\'', "''")),
                Place::Quoted => out.push_str(&value.replace('`', "``")),
                _ => out.push_str(&value),
            }
            rest = after;
            continue;
        }
        let mut length = c.len_utf8();
        place = match (place, c) {
            (Place::Sql, '\'') => Place::String,
            (Place::Sql, '`') => Place::Quoted,
            (Place::Sql, '-') if rest.starts_with("--") => Place::LineComment,
            (Place::Sql, '/') if rest.starts_with("/*") && !rest.starts_with("/*+") => Place::BlockComment,
            (Place::String, '\'') | (Place::Quoted, '`') | (Place::LineComment, '\n') => Place::Sql,
            (Place::BlockComment, '*') if rest.starts_with("*/") => {
                length = 2;
                Place::Sql
            }
            (place, _) => place,
        };
        out.push_str(rest.get(..length).unwrap_or(""));
        rest = rest.get(length..).unwrap_or("");
    }
    Ok(out)
}

/// The value of the variable that `rest` begins with, and the text behind it.
fn variable<'a>(rest: &'a str, at: Span, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, &'a str)> {
    let inner = rest.get(2..).unwrap_or("");
    let Some((inner, after)) = inner.split_once('}').filter(|(inner, _)| !inner.contains('\n')) else {
        return Err(Error::plan("'${' without '}'").at(at).hint("write ${NAME} or ${NAME:-default}"));
    };
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let valid =
        name.chars().enumerate().all(|(i, c)| c == '_' || c.is_alphabetic() || (i > 0 && (c.is_alphanumeric() || c == '.' || c == '-')));
    if name.is_empty() || !valid {
        return Err(Error::plan(format!("'{name}' is no name of a variable")).at(at).hint("write ${NAME} or ${NAME:-default}"));
    }
    match lookup(name).or_else(|| default.map(str::to_string)) {
        Some(value) => Ok((value, after)),
        None => {
            let set: Vec<String> = std::env::vars_os().filter_map(|(k, _)| k.into_string().ok()).collect();
            let similar = closest(name, set.iter().map(String::as_str)).filter(|s| lookup(s).is_some());
            let hint = match similar {
                Some(similar) => format!("did you mean ${{{similar}}}?"),
                None => format!("give it a value with --var {name}=… or the environment, or a default with ${{{name}:-…}}"),
            };
            Err(Error::plan(format!("the variable '{name}' has no value")).at(at).hint(hint))
        }
    }
}

fn span_of(text: &str, offset: usize) -> Span {
    let before = text.get(..offset).unwrap_or("");
    let line = before.rsplit('\n').next().unwrap_or("");
    Span { line: before.matches('\n').count() as u32 + 1, column: line.chars().count() as u32 + 1 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("x".into()),
            "QUOTE" => Some("it's".into()),
            _ => None,
        }
    }

    #[test]
    fn replaces() {
        for (text, expected) in [
            ("SELECT ${A}, '${A}${A}'", "SELECT x, 'xx'"),
            ("'${B:-k:9092,l}' ${A:-y}", "'k:9092,l' x"),
            ("'${QUOTE}' ${QUOTE} `${QUOTE}`", "'it''s' it's `it's`"),
            ("-- ${B}\n/* ${B} */ ${A} $A $ {A}", "-- ${B}\n/* ${B} */ x $A $ {A}"),
            ("'--' ${A} 'it''s ${A}'", "'--' x 'it''s x'"),
            ("${B:-}", ""),
        ] {
            assert_eq!(substitute_variables(text, &lookup).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn errors_have_places() {
        for (text, line, column, part) in [
            ("SELECT\n 'é${B}'", 2, 4, "'B' has no value"),
            ("${A", 1, 1, "without '}'"),
            ("a ${}", 1, 3, "no name"),
            ("${1 }", 1, 1, "no name"),
        ] {
            let e = substitute_variables(text, &lookup).unwrap_err();
            assert_eq!((e.span().line, e.span().column), (line, column), "{text}");
            assert!(e.message().contains(part), "{e}");
        }
    }
}
