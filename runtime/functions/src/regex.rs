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

/// Escapes that mean something else in Java than here, or nothing here.
fn escape(c: char) -> Option<&'static str> {
    Some(match c {
        'd' => "[0-9]",
        'w' => "[a-zA-Z0-9_]",
        's' => "[ \\t\\n\\x0B\\f\\r]",
        'D' => "[^0-9]",
        'W' => "[^a-zA-Z0-9_]",
        'S' => "[^ \\t\\n\\x0B\\f\\r]",
        'h' => "[ \\t\\xA0\\u{1680}\\u{180E}\\u{2000}-\\u{200A}\\u{202F}\\u{205F}\\u{3000}]",
        'v' => "[\\n\\x0B\\f\\r\\x85\\u{2028}\\u{2029}]",
        'R' => "(?:\\r\\n|[\\n\\x0B\\f\\r\\x85\\u{2028}\\u{2029}])",
        _ => return None,
    })
}

/// What Java writes otherwise: class names; `\d`, `\w` and `\s` are ASCII; `\Q…\E` quotes; `.` leaves out all line terminators.
fn to_rust(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut class_depth = 0_usize;
    // `(?s)` lets the dot match everything: then it is the same in both.
    let dot_all = has_flag(pattern, 's');
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let (text, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&fancy_regex::escape(text));
            rest = after;
            continue;
        }
        if c == '\\' {
            if let Some((java, rust)) = CLASSES.iter().find(|(j, _)| rest.starts_with(j)) {
                out.push_str(rust);
                rest = &rest[java.len()..];
                continue;
            }
            let escaped = rest[1..].chars().next();
            match (escaped.and_then(escape), escaped) {
                (Some(rust), _) => out.push_str(rust),
                (None, Some(e)) => out.extend(['\\', e]),
                (None, None) => out.push('\\'),
            }
            rest = &rest[1 + escaped.map_or(0, char::len_utf8)..];
            continue;
        }
        match c {
            '[' => class_depth += 1,
            ']' => class_depth = class_depth.saturating_sub(1),
            _ => {}
        }
        if c == '.' && class_depth == 0 && !dot_all {
            out.push_str("[^\\n\\r\\x85\\u{2028}\\u{2029}]");
        } else {
            out.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Whether the pattern sets a flag somewhere: `(?s)`, `(?is:…)`.
fn has_flag(pattern: &str, flag: char) -> bool {
    pattern
        .match_indices("(?")
        .any(|(at, open)| pattern[at + open.len()..].chars().take_while(|c| c.is_ascii_alphabetic()).any(|c| c == flag))
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
            ("a\\Q.(\\Eb", "a.(b", true),
            ("a\\Q.\\Eb", "axb", false),
            ("^a.b$", "a\rb", false),
            ("(?s)^a.b$", "a\rb", true),
            ("^a\\Rb\\h$", "a\r\nb\t", true),
            ("[.]", "x", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(compile(pattern).unwrap().is_match(text).unwrap(), expected, "{pattern}");
        }
        assert!(compile("(").is_err());
        assert!(try_compile("(").is_none());
    }
}
