//! Text to [`crate::ast`]: a recursive-descent parser of Flink's SQL.
//!
//! What Flink's grammar has and the engine has not becomes [`Statement::Unsupported`], so that scripts get one clear message instead of
//! a syntax error. Sources of the grammar: Calcite's `Parser.jj` and Flink's `parserImpls.ftl`.

mod call;
mod ddl;
mod expr;
mod from;
mod interval;
mod match_recognize;
mod query;
mod statement;
mod types;

use sluice_batch::{Error, Result, Span, SqlType};

use crate::ast::{Expr, Hint, Ident, ObjectName, Query, SqlOption, Statement};
use crate::keywords::{closest, is_reserved};
use crate::lexer::{Token, TokenKind, tokenize};

/// Parses a script: statements ended by `;` (the last one may lack it). The span is where the statement begins.
///
/// # Errors
/// The first syntax error with line and column.
pub fn parse_script(text: &str) -> Result<Vec<(Statement, Span)>> {
    let mut parser = Parser::new(text)?;
    let mut statements = Vec::new();
    loop {
        while parser.take(";") {}
        if parser.at_end() {
            return Ok(statements);
        }
        let span = parser.span();
        statements.push((parser.statement()?, span));
        if !parser.at_end() && !parser.take(";") {
            return Err(parser.expected("';' or the end of the statement"));
        }
    }
}

/// Parses one query (a view's text).
///
/// # Errors
/// As [`parse_script`].
pub fn parse_query(text: &str) -> Result<Query> {
    parse_whole(text, |p| {
        let query = p.query()?;
        while p.take(";") {}
        Ok(query)
    })
}

/// Parses one expression.
///
/// # Errors
/// As [`parse_script`].
pub fn parse_expression(text: &str) -> Result<Expr> {
    parse_whole(text, |p| p.expr())
}

/// Parses a type as it stands in CREATE TABLE or CAST, with `NOT NULL` if it has one.
///
/// # Errors
/// As [`parse_script`]; also lengths and precisions out of range.
pub fn parse_type(text: &str) -> Result<SqlType> {
    parse_whole(text, |p| p.sql_type())
}

fn parse_whole<T>(text: &str, parse: impl FnOnce(&mut Parser<'_>) -> Result<T>) -> Result<T> {
    let mut parser = Parser::new(text)?;
    let parsed = parse(&mut parser)?;
    if !parser.at_end() {
        return Err(parser.expected("the end of the text"));
    }
    match parser.unsupported.take() {
        Some((what, span)) => Err(Error::unsupported(what).at(span)),
        None => Ok(parsed),
    }
}

/// How deep expressions, queries and types may nest, so that no text can exhaust the stack.
const MAX_DEPTH: u32 = 100;
/// How many operators of one precedence may follow each other: they make a tree of that depth.
const MAX_CHAIN: usize = 500;

/// Words that begin a clause after something that may have an alias: `FROM t WERE a` names `t` "WERE".
const CLAUSES: &[&str] = &[
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "WINDOW",
    "QUALIFY",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "NATURAL",
    "MATCH_RECOGNIZE",
    "PARTITION",
    "ROWS",
    "RANGE",
];

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    pos: usize,
    depth: u32,
    /// Set by the first construct of the statement that the engine lacks.
    unsupported: Option<(String, Span)>,
    /// Keywords looked for at `tried_at`: candidates for a did-you-mean.
    tried: Vec<&'static str>,
    tried_at: usize,
    /// Where a name was taken as an alias without AS: it may be a misspelt clause.
    alias_at: Option<usize>,
}

const END: Token = Token { kind: TokenKind::End, span: Span::NONE, start: 0, end: 0 };

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self> {
        Ok(Self { text, tokens: tokenize(text)?, pos: 0, depth: 0, unsupported: None, tried: Vec::new(), tried_at: 0, alias_at: None })
    }

    fn token(&self, ahead: usize) -> &Token {
        // The last token is End; looking past it sees it again.
        self.tokens.get(self.pos + ahead).or(self.tokens.last()).unwrap_or(&END)
    }

    fn kind(&self) -> &TokenKind {
        &self.token(0).kind
    }

    fn span(&self) -> Span {
        self.token(0).span
    }

    fn slice(&self, token: &Token) -> &'a str {
        self.text.get(token.start..token.end).unwrap_or("")
    }

    /// The current token's text.
    fn here(&self) -> &'a str {
        self.slice(self.token(0))
    }

    fn advance(&mut self) {
        if self.pos + 1 < self.tokens.len() {
            self.pos += 1;
        }
    }

    fn at_end(&self) -> bool {
        *self.kind() == TokenKind::End
    }

    /// At the end of the text or of the statement.
    fn at_statement_end(&self) -> bool {
        self.at_end() || self.is(";")
    }

    fn is_at(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.token(ahead).kind, TokenKind::Symbol(s) if s == symbol)
    }

    fn is(&self, symbol: &str) -> bool {
        self.is_at(0, symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.expected(&format!("'{symbol}'"))) }
    }

    fn is_word_at(&self, ahead: usize, keyword: &str) -> bool {
        let token = self.token(ahead);
        token.kind == TokenKind::Word && self.slice(token).eq_ignore_ascii_case(keyword)
    }

    /// Whether the next tokens are these keywords.
    fn is_kw(&mut self, keyword: &'static str) -> bool {
        self.remember(keyword);
        self.is_word_at(0, keyword)
    }

    fn remember(&mut self, keyword: &'static str) {
        if self.tried_at != self.pos {
            self.tried.clear();
            self.tried_at = self.pos;
        }
        self.tried.push(keyword);
    }

    fn are_kws(&mut self, keywords: &[&'static str]) -> bool {
        if let Some(first) = keywords.first() {
            self.remember(first);
        }
        keywords.iter().enumerate().all(|(i, k)| self.is_word_at(i, k))
    }

    fn take_kw(&mut self, keyword: &'static str) -> bool {
        let found = self.is_kw(keyword);
        if found {
            self.advance();
        }
        found
    }

    fn take_kws(&mut self, keywords: &[&'static str]) -> bool {
        let found = self.are_kws(keywords);
        if found {
            keywords.iter().for_each(|_| self.advance());
        }
        found
    }

    /// The first of `keywords` that is there, taken.
    fn take_one_of(&mut self, keywords: &[&'static str]) -> Option<&'static str> {
        keywords.iter().copied().find(|k| self.take_kw(k))
    }

    fn expect_kw(&mut self, keyword: &'static str) -> Result<()> {
        if self.take_kw(keyword) { Ok(()) } else { Err(self.expected(keyword)) }
    }

    /// What stands at a token, for messages.
    fn found(&self, token: &Token) -> String {
        match &token.kind {
            TokenKind::End => "the end of the text".into(),
            TokenKind::HintStart => "a hint".into(),
            TokenKind::HintEnd => "the end of the hint".into(),
            TokenKind::String(_) | TokenKind::UnicodeString(_) => format!("the string {}", shorten(self.slice(token))),
            _ => format!("'{}'", shorten(self.slice(token))),
        }
    }

    /// The syntax error at the current token: what was found and what was expected, and the keyword that was probably meant.
    fn expected(&self, what: &str) -> Error {
        if let Some(error) = self.misspelt_clause() {
            return error;
        }
        let token = self.token(0);
        let error = Error::plan(format!("found {}, expected {what}", self.found(token))).at(token.span);
        if token.kind == TokenKind::DoubleQuoted {
            let name = self.slice(token).trim_matches('"');
            return error.hint(format!("double quotes quote nothing in Flink SQL: write `{name}` for a name, '{name}' for a string"));
        }
        if token.kind != TokenKind::Word {
            return error;
        }
        let word = self.slice(token);
        let tried = if self.tried_at == self.pos { self.tried.as_slice() } else { &[] };
        match closest(word, tried.iter().copied().filter(|k| !k.eq_ignore_ascii_case(word))) {
            Some(keyword) if !is_reserved(word) => error.hint(format!("did you mean {keyword}?")),
            _ => error,
        }
    }

    fn misspelt_clause(&self) -> Option<Error> {
        if self.pos == 0 || self.alias_at != Some(self.pos - 1) {
            return None;
        }
        let alias = self.tokens.get(self.pos - 1).filter(|t| t.kind == TokenKind::Word)?;
        let word = self.slice(alias);
        let keyword = closest(word, CLAUSES.iter().copied())?;
        let found = self.found(self.token(0));
        Some(Error::plan(format!("found '{word}' before {found}")).at(alias.span).hint(format!("did you mean {keyword}?")))
    }

    /// Notes that the statement uses something that the engine lacks; parsing goes on.
    fn lacks(&mut self, what: impl Into<String>, span: Span) {
        if self.unsupported.is_none() {
            self.unsupported = Some((what.into(), span));
        }
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::plan(format!("this nests deeper than {MAX_DEPTH} levels"))
                .at(self.span())
                .hint("split the statement with views"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// The error for a chain of more than [`MAX_CHAIN`] operators.
    fn check_chain(&self, length: usize) -> Result<()> {
        if length < MAX_CHAIN {
            return Ok(());
        }
        Err(Error::plan(format!("more than {MAX_CHAIN} operators in a row"))
            .at(self.span())
            .hint("put parts of it into parentheses or views"))
    }

    /// `item, item, …`
    fn comma_separated<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.take(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(item, item, …)`
    fn parenthesized<T>(&mut self, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect("(")?;
        let items = self.comma_separated(item)?;
        self.expect(")")?;
        Ok(items)
    }

    /// Whether a name (not a reserved word) stands at `ahead`.
    fn is_ident_at(&self, ahead: usize) -> bool {
        let token = self.token(ahead);
        match token.kind {
            TokenKind::Quoted(_) => true,
            TokenKind::Word => !is_reserved(self.slice(token)),
            _ => false,
        }
    }

    fn ident(&mut self, what: &str) -> Result<Ident> {
        let token = self.token(0);
        let span = token.span;
        let name = match &token.kind {
            TokenKind::Quoted(name) => name.clone(),
            TokenKind::Word => {
                let word = self.slice(token);
                if is_reserved(word) {
                    let error = self.expected(what);
                    return Err(if error.hint_text().is_some() {
                        error
                    } else {
                        error.hint(format!("{word} is a reserved word; write `{word}` in backticks to use it as a name"))
                    });
                }
                word.to_string()
            }
            _ => return Err(self.expected(what)),
        };
        self.advance();
        Ok(Ident { name, span })
    }

    /// `[catalog.][database.]object`
    fn object_name(&mut self, what: &str) -> Result<ObjectName> {
        let mut parts = vec![self.ident(what)?];
        while self.take(".") {
            parts.push(self.ident("a name after '.'")?);
        }
        if parts.len() > 3 {
            let span = parts.first().map_or(Span::NONE, |p| p.span);
            return Err(Error::plan("a name has at most three parts: catalog.database.object").at(span));
        }
        Ok(ObjectName { parts })
    }

    /// `[AS] name`, with the misspelt-clause check for a name without AS.
    fn optional_alias(&mut self) -> Result<Option<Ident>> {
        if self.take_kw("AS") {
            return self.ident("an alias").map(Some);
        }
        if !self.is_ident_at(0) {
            return Ok(None);
        }
        self.alias_at = Some(self.pos);
        self.ident("an alias").map(Some)
    }

    fn string(&mut self, what: &str) -> Result<(String, Span)> {
        let span = self.span();
        match self.kind() {
            TokenKind::String(s) => {
                let mut s = s.clone();
                self.advance();
                // Strings on consecutive lines are one, as in the SQL standard.
                while let TokenKind::String(more) = self.kind() {
                    if self.span().line == self.tokens.get(self.pos - 1).map_or(0, |t| t.span.line) {
                        break;
                    }
                    s.push_str(more);
                    self.advance();
                }
                Ok((s, span))
            }
            TokenKind::UnicodeString(raw) => {
                let raw = raw.clone();
                self.advance();
                let mut escape = '\\';
                if self.take_kw("UESCAPE") {
                    let (e, at) = self.string("an escape character")?;
                    let mut chars = e.chars();
                    escape = match (chars.next(), chars.next()) {
                        (Some(c), None) => c,
                        _ => return Err(Error::plan("UESCAPE takes one character").at(at)),
                    };
                }
                Ok((crate::lexer::unescape_unicode(&raw, escape, span)?, span))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// An unsigned integer, e.g. a precision.
    fn unsigned(&mut self, what: &str) -> Result<u32> {
        if *self.kind() != TokenKind::Number {
            return Err(self.expected(what));
        }
        let value = self.here().parse::<u32>().map_err(|_| self.expected(&format!("{what} of at most {}", u32::MAX)))?;
        self.advance();
        Ok(value)
    }

    /// `'key' = 'value'`
    fn option(&mut self) -> Result<SqlOption> {
        if *self.kind() == TokenKind::Word {
            let word = self.here();
            return Err(self.expected("an option key in quotes").hint(format!("write '{word}' in single quotes")));
        }
        let (key, key_span) = self.string("an option key in quotes")?;
        self.expect("=")?;
        if matches!(self.kind(), TokenKind::Word | TokenKind::Number) {
            let word = self.here();
            return Err(self.expected("the option's value in quotes").hint(format!("write '{word}' in single quotes")));
        }
        let (value, value_span) = self.string("the option's value in quotes")?;
        Ok(SqlOption { key, key_span, value, value_span })
    }

    /// `/*+ NAME('k'='v'), NAME(a, b), NAME */`, none or more.
    fn hints(&mut self) -> Result<Vec<Hint>> {
        let mut hints = Vec::new();
        while *self.kind() == TokenKind::HintStart {
            self.advance();
            hints.extend(self.comma_separated(Self::hint)?);
            if *self.kind() != TokenKind::HintEnd {
                return Err(self.expected("',' or the end of the hint '*/'"));
            }
            self.advance();
        }
        Ok(hints)
    }

    fn hint(&mut self) -> Result<Hint> {
        let name = self.ident("a hint's name")?;
        let mut hint = Hint { name: name.name.to_uppercase(), options: Vec::new(), args: Vec::new(), span: name.span };
        if !self.take("(") {
            return Ok(hint);
        }
        if self.take(")") {
            return Ok(hint);
        }
        loop {
            let span = self.span();
            let key = match self.kind() {
                TokenKind::Number => {
                    let number = self.here().to_string();
                    self.advance();
                    number
                }
                TokenKind::String(_) | TokenKind::UnicodeString(_) => self.string("a hint's argument")?.0,
                _ => self.object_name("a hint's argument")?.to_string(),
            };
            if self.take("=") {
                let (value, value_span) = self.string("the option's value in quotes")?;
                hint.options.push(SqlOption { key, key_span: span, value, value_span });
            } else {
                hint.args.push(key);
            }
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(hint)
    }
}

/// At most 40 characters of one line, for messages.
fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    if line.len() == text.len() && text.chars().count() <= 40 {
        return text.to_string();
    }
    format!("{}…", line.chars().take(40).collect::<String>())
}
