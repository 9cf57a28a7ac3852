//! Java's regular expressions: compiled once a pattern and thread.

use std::cell::RefCell;
use std::rc::Rc;

use fancy_regex::Regex;
use hashbrown::HashMap;
use sluice_batch::{Error, Result};

/// So many patterns are kept a thread; patterns usually are literals.
const KEPT: usize = 256;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Option<Rc<Regex>>>> = RefCell::new(HashMap::new());
}

/// The compiled pattern.
///
/// # Errors
/// If it is no regular expression.
pub(crate) fn compile(pattern: &str) -> Result<Rc<Regex>> {
    try_compile(pattern).ok_or_else(|| Error::runtime(format!("invalid regular expression '{pattern}'")))
}

/// The compiled pattern; `None` if it is no regular expression.
pub(crate) fn try_compile(pattern: &str) -> Option<Rc<Regex>> {
    COMPILED.with_borrow_mut(|cache| {
        if let Some(found) = cache.get(pattern) {
            return found.clone();
        }
        if cache.len() >= KEPT {
            cache.clear();
        }
        let regex = Regex::new(&to_rust(pattern)).ok().map(Rc::new);
        cache.insert(pattern.to_string(), regex.clone());
        regex
    })
}

/// POSIX classes that Java knows by other names, and as ASCII only.
const CLASSES: [(&str, &str); 12] = [
    ("\\p{Alpha}", "[a-zA-Z]"),
    ("\\p{Lower}", "[a-z]"),
    ("\\p{Upper}", "[A-Z]"),
    ("\\p{Digit}", "[0-9]"),
    ("\\p{Alnum}", "[a-zA-Z0-9]"),
    ("\\p{Punct}", "[!-/:-@\\[-`{-~]"),
    ("\\p{Space}", "[ \\t\\n\\x0B\\f\\r]"),
    ("\\p{XDigit}", "[0-9a-fA-F]"),
    ("\\p{ASCII}", "[\\x00-\\x7F]"),
    ("\\p{IsAlphabetic}", "\\p{Alphabetic}"),
    ("\\p{javaLowerCase}", "\\p{Lowercase}"),
    ("\\p{javaUpperCase}", "\\p{Uppercase}"),
];

/// What Java writes otherwise: class names; `\d`, `\w` and `\s` are ASCII.
fn to_rust(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if c == '\\' {
            if let Some((java, rust)) = CLASSES.iter().find(|(j, _)| rest.starts_with(j)) {
                out.push_str(rust);
                rest = &rest[java.len()..];
                continue;
            }
            let escaped = rest[1..].chars().next();
            let ascii = match escaped {
                Some('d') => Some("[0-9]"),
                Some('w') => Some("[a-zA-Z0-9_]"),
                Some('s') => Some("[ \\t\\n\\x0B\\f\\r]"),
                Some('D') => Some("[^0-9]"),
                Some('W') => Some("[^a-zA-Z0-9_]"),
                Some('S') => Some("[^ \\t\\n\\x0B\\f\\r]"),
                _ => None,
            };
            match (ascii, escaped) {
                (Some(ascii), _) => out.push_str(ascii),
                (None, Some(e)) => out.extend(['\\', e]),
                (None, None) => out.push('\\'),
            }
            rest = &rest[1 + escaped.map_or(0, char::len_utf8)..];
            continue;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn java_patterns() {
        let cases = [
            ("\\d+", "42", true),
            ("\\d", "٣", false),
            ("^\\p{Alpha}+$", "abc", true),
            ("(a)\\1", "aa", true),
            ("[\\w.]+@x", "a.b@x", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(compile(pattern).unwrap().is_match(text).unwrap(), expected, "{pattern}");
        }
        assert!(compile("(").is_err());
        assert!(try_compile("(").is_none());
    }
}
