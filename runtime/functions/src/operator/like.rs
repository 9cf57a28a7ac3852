//! LIKE and SIMILAR TO, with ESCAPE.

use arrow::array::ArrayRef;
use sluice_batch::{Datum, Error, Expr, Result, TypeKind};

use crate::kernel::{Args, P};
use crate::regex;
use crate::{Call, Declaration};

pub(crate) static FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["LIKE"], bind: |c| bind(c, "LIKE", like) },
    Declaration { names: &["NOT LIKE"], bind: |c| bind(c, "NOT LIKE", |a| negate(&like(a)?)) },
    Declaration { names: &["SIMILAR TO"], bind: |c| bind(c, "SIMILAR TO", similar) },
    Declaration { names: &["NOT SIMILAR TO"], bind: |c| bind(c, "NOT SIMILAR TO", |a| negate(&similar(a)?)) },
];

fn negate(mask: &ArrayRef) -> Result<ArrayRef> {
    use arrow::array::AsArray;
    Ok(std::sync::Arc::new(arrow::compute::not(mask.as_boolean())?))
}

/// Arguments: text, pattern, and the escape character if there is one. Constant patterns are checked now.
fn bind(mut call: Call<'_>, name: &'static str, body: crate::kernel::Body) -> Result<Expr> {
    call.coerce(&[P::Str, P::Str, P::Str], 2)?;
    let constant = |e: Option<&Expr>| e.and_then(crate::fold_constant);
    let escape = match constant(call.args.get(2)) {
        Some(Datum::String(s)) => Some(escape_char(&s).map_err(|e| e.into_plan().at(call.span))?),
        _ => None,
    };
    if let Some(Datum::String(pattern)) = constant(call.args.get(1))
        && (escape.is_some() || call.args.len() == 2)
    {
        let checked = if name.ends_with("LIKE") {
            LikePattern::parse(&pattern, escape).map(drop)
        } else {
            similar_to_regex(&pattern, escape).map(drop)
        };
        checked.map_err(|e| e.into_plan().at(call.span))?;
    }
    let ty = TypeKind::Boolean.with_nullable(call.any_nullable());
    Ok(call.kernel(name, ty, body))
}

fn escape_char(text: &str) -> Result<char> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if c != '\0' => Ok(c),
        _ => Err(Error::runtime(format!("Invalid escape character '{text}'"))),
    }
}

fn bad_sequence(pattern: &str, at: usize) -> Error {
    Error::runtime(format!("Invalid escape sequence '{pattern}', {at}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Any,
}

/// A LIKE pattern, made ready to match.
#[derive(Debug, PartialEq, Eq)]
enum LikePattern {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Tokens(Vec<Token>),
}

impl LikePattern {
    fn parse(pattern: &str, escape: Option<char>) -> Result<Self> {
        let mut tokens = vec![];
        let mut chars = pattern.chars().enumerate();
        while let Some((at, c)) = chars.next() {
            tokens.push(match c {
                c if Some(c) == escape => match chars.next() {
                    Some((_, next)) if next == '_' || next == '%' || Some(next) == escape => Token::Char(next),
                    _ => return Err(bad_sequence(pattern, at)),
                },
                '_' => Token::One,
                '%' if tokens.last() == Some(&Token::Any) => continue,
                '%' => Token::Any,
                c => Token::Char(c),
            });
        }
        let text =
            |tokens: &[Token]| tokens.iter().map(|t| if let Token::Char(c) = t { Some(*c) } else { None }).collect::<Option<String>>();
        let quick = match tokens.as_slice() {
            [Token::Any, inner @ .., Token::Any] => text(inner).map(Self::Contains),
            [Token::Any, rest @ ..] => text(rest).map(Self::EndsWith),
            [rest @ .., Token::Any] => text(rest).map(Self::StartsWith),
            all => text(all).map(Self::Equals),
        };
        Ok(quick.unwrap_or(Self::Tokens(tokens)))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Equals(s) => text == s,
            Self::StartsWith(s) => text.starts_with(s.as_str()),
            Self::EndsWith(s) => text.ends_with(s.as_str()),
            Self::Contains(s) => text.contains(s.as_str()),
            Self::Tokens(tokens) => matches(tokens, text),
        }
    }
}

/// Greedy matching with one point to go back to: the last `%`.
fn matches(tokens: &[Token], text: &str) -> bool {
    let (mut token, mut rest) = (0, text);
    let mut retry: Option<(usize, &str)> = None;
    loop {
        let mut chars = rest.chars();
        let next = chars.next();
        let step = match (tokens.get(token), next) {
            (Some(Token::Any), _) => {
                retry = Some((token + 1, rest));
                token += 1;
                continue;
            }
            (None, None) => return true,
            (Some(Token::One), Some(_)) => true,
            (Some(Token::Char(c)), Some(d)) => *c == d,
            (Some(_), None) => return false,
            (None, Some(_)) => false,
        };
        if step {
            token += 1;
            rest = chars.as_str();
            continue;
        }
        let Some((after, from)) = retry else { return false };
        let mut skipped = from.chars();
        if skipped.next().is_none() {
            return false;
        }
        rest = skipped.as_str();
        token = after;
        retry = Some((after, rest));
    }
}

/// Parses the pattern of each row, anew only when it changes, and applies `test`.
fn each<T>(args: &Args<'_>, parse: impl Fn(&str, Option<char>) -> Result<T>, test: impl Fn(&T, &str) -> bool) -> Result<ArrayRef> {
    let (text, pattern) = (args.str(0)?, args.str(1)?);
    let escape = if args.has(2) { Some(args.str(2)?) } else { None };
    let mut last: Option<(&str, Option<&str>, T)> = None;
    let mut out = arrow::array::BooleanBuilder::with_capacity(args.len());
    for row in 0..args.len() {
        let escape = match escape.map(|e| e.get(row)) {
            Some(None) => {
                out.append_null();
                continue;
            }
            other => other.flatten(),
        };
        let (Some(text), Some(pattern)) = (text.get(row), pattern.get(row)) else {
            out.append_null();
            continue;
        };
        let parsed = match &last {
            Some((p, e, parsed)) if *p == pattern && *e == escape => parsed,
            _ => {
                let parsed = parse(pattern, escape.map(escape_char).transpose()?)?;
                &last.insert((pattern, escape, parsed)).2
            }
        };
        out.append_value(test(parsed, text));
    }
    Ok(std::sync::Arc::new(out.finish()))
}

fn like(args: &Args<'_>) -> Result<ArrayRef> {
    each(args, LikePattern::parse, LikePattern::matches)
}

fn similar(args: &Args<'_>) -> Result<ArrayRef> {
    each(
        args,
        |pattern, escape| regex::compile(&format!("^(?:{})$", similar_to_regex(pattern, escape)?)),
        |regex, text| regex.is_match(text).unwrap_or(false),
    )
}

const REGEX_SPECIALS: &str = "[]()|^-+*?{}$\\.";
const SIMILAR_SPECIALS: &str = "[]()|^-+*_%?{}";
const CLASSES: [(&str, &str); 7] = [
    ("[:ALPHA:]", "\\p{Alphabetic}"),
    ("[:UPPER:]", "A-Z"),
    ("[:LOWER:]", "a-z"),
    ("[:DIGIT:]", "0-9"),
    ("[:SPACE:]", " "),
    ("[:WHITESPACE:]", "\\s"),
    ("[:ALNUM:]", "A-Za-z0-9"),
];

/// A SIMILAR pattern as a regular expression (Flink: `SqlLikeUtils.sqlToRegexSimilar`).
fn similar_to_regex(pattern: &str, escape: Option<char>) -> Result<String> {
    let invalid = || Error::runtime(format!("Invalid regular expression '{pattern}'"));
    let mut out = String::with_capacity(pattern.len() * 2);
    let mut inside = false;
    let mut rest = pattern;
    let quote = |out: &mut String, c: char| {
        if REGEX_SPECIALS.contains(c) {
            out.push('\\');
        }
        out.push(c);
    };
    while let Some(c) = rest.chars().next() {
        let at = pattern.len() - rest.len();
        if inside && let Some((name, class)) = CLASSES.iter().find(|(n, _)| rest.get(..n.len()).is_some_and(|r| r.eq_ignore_ascii_case(n)))
        {
            out.push_str(class);
            rest = &rest[name.len()..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            c if Some(c) == escape => {
                let next = rest.chars().next().filter(|n| SIMILAR_SPECIALS.contains(*n) || Some(*n) == escape);
                let next = next.ok_or_else(|| bad_sequence(pattern, at))?;
                quote(&mut out, next);
                rest = &rest[next.len_utf8()..];
            }
            ']' if inside => {
                inside = false;
                out.push(']');
            }
            ']' => return Err(invalid()),
            '-' | '^' if inside => out.push(c),
            c if inside && SIMILAR_SPECIALS.contains(c) => return Err(invalid()),
            c if inside => quote(&mut out, c),
            '[' => {
                inside = true;
                out.push('[');
            }
            '_' => out.push('.'),
            '%' => out.push_str("(?s:.*)"),
            '\\' | '$' | '.' => quote(&mut out, c),
            c => out.push(c),
        }
    }
    if inside { Err(invalid()) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn like_patterns() {
        let cases = [
            ("test", "te%", None, true),
            ("test", "%es%", None, true),
            ("test", "", None, false),
            ("", "%", None, true),
            ("te_st", "te!_%", Some('!'), true),
            ("test", "te!_%", Some('!'), false),
            ("tes\"t", "t%e%s\"t", None, true),
            ("mississippi", "m%iss%ip_i", None, true),
            ("mississippi", "m%iss%ipxi", None, false),
            ("aab", "%ab", None, true),
            ("✅test✅", "✅%✅", Some('\\'), true),
            ("a\nb", "a%b", None, true),
            ("abc", "a_c_", None, false),
        ];
        for (text, pattern, escape, expected) in cases {
            assert_eq!(LikePattern::parse(pattern, escape).unwrap().matches(text), expected, "{text} LIKE {pattern}");
        }
        assert!(LikePattern::parse("te_st", Some('_')).is_err());
        assert!(LikePattern::parse("test_", Some('_')).is_err());
        assert!(escape_char("\0").is_err() && escape_char("ab").is_err());
    }

    #[test]
    fn similar_patterns() {
        let cases = [
            ("abc", "a(b|x)c", true),
            ("abc", "a_c", true),
            ("abc", "b%", false),
            ("a1", "[a-z][:DIGIT:]", false),
            ("a.c", "a.c", true),
            ("abc", "a.c", false),
        ];
        for (text, pattern, expected) in cases {
            let Ok(regex) = similar_to_regex(pattern, None) else {
                assert!(!expected);
                continue;
            };
            let regex = regex::compile(&format!("^(?:{regex})$")).unwrap();
            assert_eq!(regex.is_match(text).unwrap(), expected, "{text} SIMILAR TO {pattern}");
        }
        assert_eq!(similar_to_regex("[[:DIGIT:]a]+", None).unwrap(), "[0-9a]+");
    }
}
