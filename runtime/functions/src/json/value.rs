//! JSON documents as Flink reads and writes them with Jackson: numbers keep their digits, object keys are sorted on writing,
//! and what follows the first value is ignored on reading.

use std::borrow::Cow;
use std::fmt::Write;

/// A parsed value that borrows from its text.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    Null,
    Boolean(bool),
    /// As written.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// In order of first appearance; a later value of a key replaces an earlier one.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// What is wrong with a text, and at which byte.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonError {
    pub message: &'static str,
    pub at: usize,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.message, self.at)
    }
}

/// Jackson's limit (`StreamReadConstraints.DEFAULT_MAX_DEPTH`).
const MAX_DEPTH: usize = 1000;

/// Parses the first value of a text; the rest is ignored (Jackson without `FAIL_ON_TRAILING_TOKENS`).
///
/// # Errors
/// If the text does not begin with a JSON value.
pub fn parse(text: &str) -> Result<Json<'_>, JsonError> {
    parse_first(text, false)
}

/// [`parse`]; with `unique_keys` an object with a key twice is an error.
///
/// # Errors
/// If the text does not begin with a JSON value.
pub(super) fn parse_first(text: &str, unique_keys: bool) -> Result<Json<'_>, JsonError> {
    Parser { text, at: 0, unique_keys }.value(0)
}

/// Parses a text that is one value and nothing else. `unique_keys`: an object with a key twice is an error.
///
/// # Errors
/// If the text is not JSON.
pub fn parse_all(text: &str, unique_keys: bool) -> Result<Json<'_>, JsonError> {
    let mut parser = Parser { text, at: 0, unique_keys };
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() { Err(parser.error("unexpected text behind the value")) } else { Ok(value) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    unique_keys: bool,
}

impl<'a> Parser<'a> {
    fn error(&self, message: &'static str) -> JsonError {
        JsonError { message, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        self.at += usize::from(hit);
        hit
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.error("the document is nested too deeply"));
        }
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b't') => self.literal("true", Json::Boolean(true)),
            Some(b'f') => self.literal("false", Json::Boolean(false)),
            Some(b'n') => self.literal("null", Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.error("unexpected character")),
            None => Err(self.error("unexpected end")),
        }
    }

    /// A literal or number must not run into what follows.
    fn ends(&self) -> bool {
        self.peek().is_none_or(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}' | b':'))
    }

    fn literal(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error("unrecognized token"));
        }
        self.at += word.len();
        if self.ends() { Ok(value) } else { Err(self.error("unrecognized token")) }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("expected a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Json<'a>, JsonError> {
        let start = self.at;
        self.take(b'-');
        if self.take(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.error("leading zeroes are not allowed"));
            }
        } else {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        if !self.ends() {
            return Err(self.error("unexpected character in a number"));
        }
        Ok(Json::Number(Cow::Borrowed(&self.text[start..self.at])))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut copied = start;
        loop {
            match self.peek() {
                None => return Err(self.error("the string does not end")),
                Some(b'"') => {
                    let rest = &self.text[copied..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(mut s) => {
                            s.push_str(rest);
                            Cow::Owned(s)
                        }
                    });
                }
                Some(b'\\') => {
                    let s = owned.get_or_insert_default();
                    s.push_str(&self.text[copied..self.at]);
                    self.at += 1;
                    let (c, length) = unescape(&self.text[self.at..]).ok_or_else(|| self.error("unrecognized escape"))?;
                    s.push(c);
                    self.at += length;
                    copied = self.at;
                }
                Some(0..=0x1f) => return Err(self.error("a control character has to be escaped")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Json::Array(items));
            }
            if !self.take(b',') {
                return Err(self.error("expected , or ]"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.at += 1;
        let mut fields: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a field name in double quotes"));
            }
            let key = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.error("expected :"));
            }
            let value = self.value(depth + 1)?;
            match fields.iter_mut().find(|(k, _)| *k == key) {
                Some(_) if self.unique_keys => return Err(self.error("duplicate key")),
                Some(field) => field.1 = value,
                None => fields.push((key, value)),
            }
            self.skip_space();
            if self.take(b'}') {
                return Ok(Json::Object(fields));
            }
            if !self.take(b',') {
                return Err(self.error("expected , or }"));
            }
        }
    }
}

/// The character behind a backslash, and how many bytes it took. Half a surrogate pair becomes U+FFFD.
pub(super) fn unescape(text: &str) -> Option<(char, usize)> {
    let simple = match text.as_bytes().first()? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let unit = |text: &str| u32::from_str_radix(text.get(1..5).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))?, 16).ok();
            let high = unit(text)?;
            if (0xd800..0xdc00).contains(&high)
                && let Some(low) =
                    text.get(5..).and_then(|rest| rest.strip_prefix('\\')).filter(|rest| rest.starts_with('u')).and_then(unit)
                && (0xdc00..0xe000).contains(&low)
            {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Some((char::from_u32(code)?, 11));
            }
            return Some((char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 5));
        }
        _ => return None,
    };
    Some((simple, 1))
}

impl Json<'_> {
    pub fn is_scalar(&self) -> bool {
        !matches!(self, Json::Array(_) | Json::Object(_))
    }

    /// Appends the value as compact JSON with sorted keys.
    pub fn write(&self, out: &mut String) {
        self.write_with(out, &mut write_number);
    }

    /// [`Json::write`] with another form of numbers.
    pub(super) fn write_with(&self, out: &mut String, number: &mut impl FnMut(&str, &mut String)) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Boolean(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Number(text) => number(text, out),
            Json::String(text) => write_string(text, out),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    item.write_with(out, number);
                }
                out.push(']');
            }
            Json::Object(fields) => {
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_by(|a, b| compare_keys(&a.0, &b.0));
                out.push('{');
                for (i, (key, value)) in sorted.into_iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    write_string(key, out);
                    out.push(':');
                    value.write_with(out, number);
                }
                out.push('}');
            }
        }
    }

    /// Java's `toString` of a scalar: a string without quotes, JSON otherwise.
    pub fn write_plain(&self, out: &mut String) {
        match self {
            Json::String(text) => out.push_str(text),
            other => other.write(out),
        }
    }
}

/// Java's order of strings: by UTF-16 units.
pub(crate) fn compare_keys(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// A string in quotes with Jackson's escapes: control characters, `"` and `\`.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[copied..at]);
        copied = at + 1;
        if escape.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{byte:04X}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[copied..]);
    out.push('"');
}

/// A number as Java prints what it reads it as: an integer, or a `BigDecimal`, which has an exponent only where needed.
pub(super) fn write_number(text: &str, out: &mut String) {
    if !text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        out.push_str(if text == "-0" { "0" } else { text });
        return;
    }
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |t| ("-", t));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().unwrap_or(0);
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let scale = fraction.len() as i64 - exponent;
    let adjusted = digits.len() as i64 - 1 - scale;
    // A zero has no sign.
    out.push_str(if digits == "0" { "" } else { sign });
    if scale == 0 {
        out.push_str(digits);
    } else if scale > 0 && adjusted >= -6 {
        let scale = scale as usize;
        if digits.len() > scale {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let _ = write!(out, "{whole}.{fraction}");
        } else {
            let _ = write!(out, "0.{}{digits}", "0".repeat(scale - digits.len()));
        }
    } else {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let _ = write!(out, "{first}{point}{rest}E{adjusted:+}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn rewritten(text: &str) -> String {
        let mut out = String::new();
        parse(text).unwrap().write(&mut out);
        out
    }

    #[test]
    fn values_are_rewritten_as_by_jackson() {
        for (text, expected) in [
            (" { \"b\" : [1, 2.50, -0, 1e5, 1.0E-10] , \"a\" : null } x", r#"{"a":null,"b":[1,2.50,0,1E+5,1.0E-10]}"#),
            (r#""\u00e9\uD801\uDC00\ud800\n\/""#, "\"é𐐀\u{fffd}\\n/\""),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("1 a", "1"),
            ("[[],{}]", "[[],{}]"),
            ("0.0000001", "1E-7"),
            ("123.450e2", "12345.0"),
            ("-0.0", "0.0"),
            ("true", "true"),
        ] {
            assert_eq!(rewritten(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(5000);
        for text in
            ["", "a", "{", "[1,]", "{a:1}", "01", "1.", "1e", "-", "truex", "\"a", "\"\n\"", "\"\\x\"", "\"\\u12\"", "1a", "'a'", &deep]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_all("1 2", false).is_err());
        assert!(parse_all(r#"{"a":1,"a":1}"#, true).is_err());
        assert!(parse_all(" [1] ", true).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*|[\\[\\]{}:,\"\\\\0-9a-fu \\-.]*") {
            if let Ok(value) = parse(&text) {
                let mut once = String::new();
                value.write(&mut once);
                prop_assert_eq!(rewritten(&once), once);
            }
        }

        #[test]
        fn strings_come_back(text in any::<String>()) {
            let mut json = String::new();
            write_string(&text, &mut json);
            prop_assert_eq!(parse_all(&json, true).unwrap(), Json::String(text.into()));
        }
    }
}
