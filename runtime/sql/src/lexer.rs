//! SQL text to tokens with their places, by Flink's lexical rules (Calcite's `BTID` state: backticks quote names, `'` quotes strings,
//! `"` quotes nothing, names are case-sensitive).

use sluice_batch::{Error, Result, Span};

/// What a token is. The text of words and numbers is in the source between [`Token::start`] and [`Token::end`].
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    /// An unquoted name or keyword.
    Word,
    /// A name in backticks, unescaped.
    Quoted(String),
    /// `"…"`, which Flink SQL has no use for; kept for the error message.
    DoubleQuoted,
    String(String),
    /// `U&'…'`, not yet unescaped: a `UESCAPE` may follow.
    UnicodeString(String),
    Bytes(Vec<u8>),
    /// An exact number.
    Number,
    /// A number with an exponent.
    Approximate,
    /// An operator or punctuation.
    Symbol(&'static str),
    /// `/*+`
    HintStart,
    /// The `*/` of a hint.
    HintEnd,
    /// A character that begins no token.
    Unknown,
    End,
}

/// A token, its place, and its bytes in the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: TokenKind,
    pub span: Span,
    pub start: usize,
    pub end: usize,
}

/// Longest first.
const SYMBOLS: &[&str] = &[
    "<>", "<=", ">=", "!=", "=>", "||", "(", ")", "[", "]", "{", "}", ",", ";", ".", "=", "<", ">", "+", "-", "*", "/", "%", "?", "|", "^",
    "$", ":", "&", "@",
];

/// Splits `text` into tokens; the last one is [`TokenKind::End`].
///
/// # Errors
/// A string, quoted name or comment that does not end, and malformed `x'…'` literals, with their place.
pub fn tokenize(text: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer { text, at: 0, line: 1, column: 1, in_hint: false };
    let mut tokens = Vec::with_capacity(text.len() / 4 + 1);
    loop {
        let token = lexer.next_token()?;
        let end = token.kind == TokenKind::End;
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

/// Whether a character may begin an unquoted name.
pub fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// Whether a character may stand in an unquoted name.
pub fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
    in_hint: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn span(&self) -> Span {
        Span { line: self.line, column: self.column }
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn bump_while(&mut self, accept: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&accept) {
            self.bump();
        }
    }

    fn bump_str(&mut self, s: &str) {
        for _ in s.chars() {
            self.bump();
        }
    }

    /// Skips white space and comments; a hint is no comment.
    fn skip_blank(&mut self) -> Result<()> {
        loop {
            let rest = self.rest();
            if rest.starts_with("--") {
                self.bump_while(|c| c != '\n');
            } else if rest.starts_with("/*") && !rest.starts_with("/*+") {
                let span = self.span();
                self.bump_str("/*");
                while !self.rest().starts_with("*/") {
                    if self.bump().is_none() {
                        return Err(Error::plan("this comment does not end, expected '*/'").at(span));
                    }
                }
                self.bump_str("*/");
            } else if self.peek().is_some_and(|c| c.is_whitespace() || c == '\u{feff}') {
                self.bump();
            } else {
                return Ok(());
            }
        }
    }

    fn next_token(&mut self) -> Result<Token> {
        self.skip_blank()?;
        let (span, start) = (self.span(), self.at);
        let kind = self.kind(span)?;
        Ok(Token { kind, span, start, end: self.at })
    }

    fn kind(&mut self, span: Span) -> Result<TokenKind> {
        let rest = self.rest();
        let Some(c) = self.peek() else { return Ok(TokenKind::End) };
        let second = rest.chars().nth(1);
        if rest.starts_with("/*+") {
            self.in_hint = true;
            self.bump_str("/*+");
            return Ok(TokenKind::HintStart);
        }
        if self.in_hint && rest.starts_with("*/") {
            self.in_hint = false;
            self.bump_str("*/");
            return Ok(TokenKind::HintEnd);
        }
        match c {
            '\'' => Ok(TokenKind::String(self.quoted('\'', span, "string")?)),
            '`' => Ok(TokenKind::Quoted(self.quoted('`', span, "name in backticks")?)),
            '"' => Ok(self.double_quoted()),
            'x' | 'X' if second == Some('\'') => {
                self.bump();
                let digits = self.quoted('\'', span, "binary literal")?;
                Ok(TokenKind::Bytes(decode_hex(&digits, span)?))
            }
            'n' | 'N' if second == Some('\'') => {
                self.bump();
                Ok(TokenKind::String(self.quoted('\'', span, "string")?))
            }
            'u' | 'U' if rest.get(1..3) == Some("&'") => {
                self.bump_str("U&");
                Ok(TokenKind::UnicodeString(self.quoted('\'', span, "string")?))
            }
            c if is_word_start(c) => {
                self.bump_while(is_word_part);
                Ok(TokenKind::Word)
            }
            c if c.is_ascii_digit() => Ok(self.number()),
            '.' if second.is_some_and(|d| d.is_ascii_digit()) => Ok(self.number()),
            _ => match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                Some(symbol) => {
                    self.bump_str(symbol);
                    Ok(TokenKind::Symbol(symbol))
                }
                None => {
                    self.bump();
                    Ok(TokenKind::Unknown)
                }
            },
        }
    }

    /// The content of a literal in quotes; a doubled quote stands for one.
    fn quoted(&mut self, quote: char, span: Span, what: &str) -> Result<String> {
        self.bump();
        let mut content = String::new();
        loop {
            match self.bump() {
                None => return Err(Error::plan(format!("this {what} does not end, expected a closing {quote}")).at(span)),
                Some(c) if c == quote => {
                    if self.peek() != Some(quote) {
                        return Ok(content);
                    }
                    self.bump();
                    content.push(quote);
                }
                Some(c) => content.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> TokenKind {
        let closes = self.rest().get(1..).is_some_and(|r| r.split('\n').next().is_some_and(|line| line.contains('"')));
        self.bump();
        if !closes {
            return TokenKind::Unknown;
        }
        self.bump_while(|c| c != '"');
        self.bump();
        TokenKind::DoubleQuoted
    }

    /// `12`, `12.5`, `.5`, `12.`, `1e-3`
    fn number(&mut self) -> TokenKind {
        self.bump_while(|c| c.is_ascii_digit());
        if self.peek() == Some('.') {
            self.bump();
            self.bump_while(|c| c.is_ascii_digit());
        }
        let mut ahead = self.rest().chars();
        if !matches!(ahead.next(), Some('e' | 'E')) {
            return TokenKind::Number;
        }
        let mut digit = ahead.next();
        let signed = matches!(digit, Some('+' | '-'));
        if signed {
            digit = ahead.next();
        }
        if !digit.is_some_and(|d| d.is_ascii_digit()) {
            return TokenKind::Number;
        }
        self.bump();
        if signed {
            self.bump();
        }
        self.bump_while(|c| c.is_ascii_digit());
        TokenKind::Approximate
    }
}

fn decode_hex(digits: &str, span: Span) -> Result<Vec<u8>> {
    let nibbles: Option<Vec<u8>> = digits.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    match nibbles {
        None => Err(Error::plan(format!("x'{digits}' is no binary literal, expected hexadecimal digits")).at(span)),
        Some(n) if n.len() % 2 == 1 => Err(Error::plan(format!("x'{digits}' has an odd number of hexadecimal digits")).at(span)),
        Some(n) => Ok(n.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble)).collect()),
    }
}

/// Replaces the escapes of a `U&'…'` string: `\XXXX`, `\+XXXXXX`, `\\`.
///
/// # Errors
/// An escape that is malformed or no character.
pub fn unescape_unicode(raw: &str, escape: char, span: Span) -> Result<String> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    // Characters beyond the BMP may be written as two surrogates.
    let mut high: Option<u32> = None;
    while let Some(c) = chars.next() {
        if c != escape {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&escape).is_some() {
            out.push(escape);
            continue;
        }
        let length = if chars.next_if_eq(&'+').is_some() { 6 } else { 4 };
        let digits: String = chars.by_ref().take(length).collect();
        let bad = || {
            Error::plan(format!("'{escape}{digits}' is no Unicode escape"))
                .at(span)
                .hint(format!("write {escape}XXXX or {escape}+XXXXXX with hexadecimal digits"))
        };
        if digits.chars().count() != length {
            return Err(bad());
        }
        let mut code = u32::from_str_radix(&digits, 16).map_err(|_| bad())?;
        if (0xd800..0xdc00).contains(&code) && high.is_none() {
            high = Some(code);
            continue;
        }
        if let Some(h) = high.take() {
            if !(0xdc00..0xe000).contains(&code) {
                return Err(bad());
            }
            code = 0x10000 + ((h - 0xd800) << 10) + (code - 0xdc00);
        }
        out.push(char::from_u32(code).ok_or_else(bad)?);
    }
    if high.is_some() {
        return Err(Error::plan("the string ends within a pair of surrogates").at(span));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokenize(text).unwrap().into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn literals() {
        use TokenKind::{Approximate, Bytes, End, Number, Quoted, String as Str, Symbol, Word};
        let cases: Vec<(&str, Vec<TokenKind>)> = vec![
            ("'it''s'", vec![Str("it's".into())]),
            ("`a``b`", vec![Quoted("a`b".into())]),
            ("x'0aFF'", vec![Bytes(vec![10, 255])]),
            ("'\\'", vec![Str("\\".into())]),
            ("1 1.5 .5 1e3 1.5E-3 1e", vec![Number, Number, Number, Approximate, Approximate, Number, Word]),
            ("a.1", vec![Word, Number]),
            ("a<>b", vec![Word, Symbol("<>"), Word]),
            ("c>>", vec![Word, Symbol(">"), Symbol(">")]),
            ("/* x */ 1 -- 'y", vec![Number]),
            ("/*+ a */", vec![TokenKind::HintStart, Word, TokenKind::HintEnd]),
            ("U&'\\00e9'", vec![TokenKind::UnicodeString("\\00e9".into())]),
            ("größe", vec![Word]),
            ("\"a b\" \"", vec![TokenKind::DoubleQuoted, TokenKind::Unknown]),
        ];
        for (text, mut expected) in cases {
            expected.push(End);
            assert_eq!(kinds(text), expected, "{text}");
        }
    }

    #[test]
    fn places_count_characters() {
        let tokens = tokenize("'🍍é'  a\n\t b").unwrap();
        let places: Vec<_> = tokens.iter().map(|t| (t.span.line, t.span.column)).collect();
        assert_eq!(places, [(1, 1), (1, 7), (2, 3), (2, 4)]);
    }

    #[test]
    fn errors() {
        for (text, line, column, part) in [
            ("a\n 'b", 2, 2, "string does not end"),
            ("`b", 1, 1, "name in backticks does not end"),
            ("1 /* x", 1, 3, "comment does not end"),
            ("x'0'", 1, 1, "odd number"),
            ("x'zz'", 1, 1, "hexadecimal"),
        ] {
            let e = tokenize(text).unwrap_err();
            assert_eq!((e.span().line, e.span().column), (line, column), "{text}");
            assert!(e.message().contains(part), "{e}");
        }
    }

    #[test]
    fn unicode_escapes() {
        let ok = |raw| unescape_unicode(raw, '\\', Span::NONE).unwrap();
        assert_eq!(ok("\\00e9\\\\x"), "é\\x");
        assert_eq!(ok("\\+01F34D"), "🍍");
        assert_eq!(ok("\\D83C\\DF4D"), "🍍");
        for bad in ["\\00g9", "\\00", "\\D83C", "\\D83C\\0041", "\\+110000"] {
            assert!(unescape_unicode(bad, '\\', Span::NONE).is_err(), "{bad}");
        }
    }
}
