//! Expressions, by precedence climbing with Calcite's precedences (`SqlStdOperatorTable`).

use sluice_batch::{Error, Result, Span, TypeKind};

use super::Parser;
use crate::ast::{Arg, ArgValue, BinaryOp, Expr, ExprKind, FunctionCall, Ident, IsTest, JsonClauses, Literal, ObjectName, UnaryOp};
use crate::keywords::{is_reserved, is_reserved_function};
use crate::lexer::TokenKind;

/// Precedences of operators, as in Calcite; a greater one binds tighter.
pub(super) mod precedence {
    pub const OR: u8 = 22;
    pub const AND: u8 = 24;
    pub const NOT: u8 = 26;
    pub const IS: u8 = 28;
    pub const COMPARISON: u8 = 30;
    /// IN, LIKE, BETWEEN
    pub const RANGE: u8 = 32;
    pub const SUM: u8 = 40;
    /// Calcite gives `||` the precedence of `*`.
    pub const PRODUCT: u8 = 60;
    pub const SIGN: u8 = 80;
}
use precedence as prec;

/// Functions that are called without parentheses.
const NILADIC: &[&str] = &[
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_PATH",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SESSION_USER",
    "SYSTEM_USER",
];

#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Binary(BinaryOp),
    Is,
    Between,
    In,
    Like,
    Similar,
}

pub(super) fn make(kind: ExprKind, span: Span) -> Expr {
    Expr { kind, span }
}

pub(super) fn literal(literal: Literal, span: Span) -> Expr {
    make(ExprKind::Literal(literal), span)
}

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr> {
        self.expr_above(0)
    }

    /// An expression of operators with at least this precedence.
    pub(super) fn expr_above(&mut self, min: u8) -> Result<Expr> {
        self.nested(|p| {
            let mut left = p.prefix()?;
            let mut length = 0;
            while let Some((precedence, infix, negated)) = p.infix().filter(|(precedence, _, _)| *precedence >= min) {
                p.check_chain(length)?;
                left = p.infix_rest(left, precedence, infix, negated)?;
                length += 1;
            }
            Ok(left)
        })
    }

    /// The operator at the current place, and whether NOT stands before it.
    fn infix(&mut self) -> Option<(u8, Infix, bool)> {
        use BinaryOp::*;
        if let TokenKind::Symbol(symbol) = self.kind() {
            let (precedence, op) = match *symbol {
                "+" => (prec::SUM, Plus),
                "-" if !self.is_at(1, "}") => (prec::SUM, Minus),
                "*" => (prec::PRODUCT, Multiply),
                "/" => (prec::PRODUCT, Divide),
                "%" => (prec::PRODUCT, Modulo),
                "||" => (prec::PRODUCT, Concat),
                "=" => (prec::COMPARISON, Eq),
                "<>" | "!=" => (prec::COMPARISON, NotEq),
                "<" => (prec::COMPARISON, Lt),
                "<=" => (prec::COMPARISON, LtEq),
                ">" => (prec::COMPARISON, Gt),
                ">=" => (prec::COMPARISON, GtEq),
                _ => return None,
            };
            return Some((precedence, Infix::Binary(op), false));
        }
        let ahead = usize::from(self.is_word_at(0, "NOT"));
        let range = [("BETWEEN", Infix::Between), ("IN", Infix::In), ("LIKE", Infix::Like), ("SIMILAR", Infix::Similar)];
        for (keyword, infix) in range {
            if ahead == 0 {
                self.remember(keyword);
            }
            if self.is_word_at(ahead, keyword) {
                return Some((prec::RANGE, infix, ahead == 1));
            }
        }
        let others = [
            ("OR", prec::OR, Infix::Or),
            ("AND", prec::AND, Infix::And),
            ("IS", prec::IS, Infix::Is),
            ("OVERLAPS", prec::COMPARISON, Infix::Binary(Overlaps)),
        ];
        for (keyword, precedence, infix) in others {
            if self.is_kw(keyword) {
                return Some((precedence, infix, false));
            }
        }
        None
    }

    fn infix_rest(&mut self, left: Expr, precedence: u8, infix: Infix, negated: bool) -> Result<Expr> {
        if negated {
            self.advance();
        }
        self.advance();
        let span = left.span;
        match infix {
            Infix::Or => {
                let right = self.expr_above(precedence + 1)?;
                Ok(make(ExprKind::Or(flatten(left, right, |k| if let ExprKind::Or(list) = k { Ok(list) } else { Err(k) })), span))
            }
            Infix::And => {
                let right = self.expr_above(precedence + 1)?;
                Ok(make(ExprKind::And(flatten(left, right, |k| if let ExprKind::And(list) = k { Ok(list) } else { Err(k) })), span))
            }
            Infix::Binary(op) => self.binary_rest(left, precedence, op),
            Infix::Is => self.is_rest(left),
            Infix::Between => self.between_rest(left, negated),
            Infix::In => self.in_rest(left, negated),
            Infix::Like | Infix::Similar => {
                if matches!(infix, Infix::Similar) {
                    self.expect_kw("TO")?;
                }
                let expr = Box::new(left);
                let pattern = Box::new(self.expr_above(prec::RANGE + 1)?);
                let escape = if self.take_kw("ESCAPE") { Some(Box::new(self.expr_above(prec::RANGE + 1)?)) } else { None };
                Ok(make(
                    match infix {
                        Infix::Similar => ExprKind::SimilarTo { expr, pattern, escape, negated },
                        _ => ExprKind::Like { expr, pattern, escape, negated },
                    },
                    span,
                ))
            }
        }
    }

    fn binary_rest(&mut self, left: Expr, precedence: u8, op: BinaryOp) -> Result<Expr> {
        let span = left.span;
        if precedence == prec::COMPARISON
            && let Some(quantifier) = ["ANY", "SOME", "ALL"].into_iter().find(|q| self.is_word_at(0, q) && self.is_at(1, "("))
        {
            let place = self.span();
            self.lacks(format!("a comparison with {quantifier} (…)"), place);
            self.advance();
            self.expect("(")?;
            let query = self.query()?;
            self.expect(")")?;
            return Ok(make(ExprKind::InSubquery { expr: Box::new(left), query: Box::new(query), negated: false }, span));
        }
        let right = self.expr_above(precedence + 1)?;
        Ok(make(ExprKind::Binary { op, left: Box::new(left), right: Box::new(right) }, span))
    }

    /// What follows IS.
    fn is_rest(&mut self, left: Expr) -> Result<Expr> {
        let span = left.span;
        let negated = self.take_kw("NOT");
        if self.take_kws(&["DISTINCT", "FROM"]) {
            let right = Box::new(self.expr_above(prec::COMPARISON + 1)?);
            return Ok(make(ExprKind::IsDistinctFrom { left: Box::new(left), right, negated }, span));
        }
        let expr = Box::new(left);
        if self.take_kw("JSON") {
            let kind = self.take_one_of(&["VALUE", "OBJECT", "ARRAY", "SCALAR"]).map(str::to_string);
            return Ok(make(ExprKind::IsJson { expr, kind, negated }, span));
        }
        let tests = [("NULL", IsTest::Null), ("TRUE", IsTest::True), ("FALSE", IsTest::False), ("UNKNOWN", IsTest::Unknown)];
        for (keyword, test) in tests {
            if self.take_kw(keyword) {
                return Ok(make(ExprKind::Is { expr, test, negated }, span));
            }
        }
        for (words, what) in [(&["A", "SET"], "IS A SET"), (&["EMPTY"] as &[_], "IS EMPTY")] as [(&[&'static str], _); 2] {
            if self.take_kws(words) {
                self.lacks(what, span);
                return Ok(make(ExprKind::Is { expr, test: IsTest::Null, negated }, span));
            }
        }
        Err(self.expected("NULL, TRUE, FALSE, UNKNOWN, DISTINCT FROM or JSON after IS"))
    }

    fn between_rest(&mut self, left: Expr, negated: bool) -> Result<Expr> {
        let span = left.span;
        let symmetric = self.take_kw("SYMMETRIC");
        if !symmetric {
            self.take_kw("ASYMMETRIC");
        }
        let low = Box::new(self.expr_above(prec::RANGE + 1)?);
        self.expect_kw("AND")?;
        let high = Box::new(self.expr_above(prec::RANGE + 1)?);
        Ok(make(ExprKind::Between { expr: Box::new(left), low, high, negated, symmetric }, span))
    }

    fn in_rest(&mut self, left: Expr, negated: bool) -> Result<Expr> {
        let span = left.span;
        let expr = Box::new(left);
        if !self.is("(") {
            return Err(self.expected("'(' and the values or the query of IN"));
        }
        let kind = if self.is_query_in_parentheses() {
            self.advance();
            let query = Box::new(self.query()?);
            self.expect(")")?;
            ExprKind::InSubquery { expr, query, negated }
        } else {
            ExprKind::InList { expr, list: self.parenthesized(Self::expr)?, negated }
        };
        Ok(make(kind, span))
    }

    fn prefix(&mut self) -> Result<Expr> {
        let span = self.span();
        if self.is("-") || self.is("+") {
            let op = if self.is("-") { UnaryOp::Minus } else { UnaryOp::Plus };
            self.advance();
            let expr = Box::new(self.expr_above(prec::SIGN)?);
            return Ok(make(ExprKind::Unary { op, expr }, span));
        }
        if self.take_kw("NOT") {
            let expr = self.expr_above(prec::NOT)?;
            return Ok(match expr.kind {
                ExprKind::Exists { query, negated } => make(ExprKind::Exists { query, negated: !negated }, span),
                _ => make(ExprKind::Unary { op: UnaryOp::Not, expr: Box::new(expr) }, span),
            });
        }
        self.operand()
    }

    /// A primary expression with its `.field`, `[index]` and `AT TIME ZONE`.
    pub(super) fn operand(&mut self) -> Result<Expr> {
        let mut expr = self.primary()?;
        let span = expr.span;
        for length in 0.. {
            self.check_chain(length)?;
            if self.take("[") {
                let index = Box::new(self.expr()?);
                self.expect("]")?;
                expr = make(ExprKind::Index { expr: Box::new(expr), index }, span);
            } else if self.take(".") {
                let field = self.ident("a field name after '.'")?;
                expr = make(ExprKind::Field { expr: Box::new(expr), field }, span);
            } else if self.take_kws(&["AT", "TIME", "ZONE"]) {
                let zone = self.operand_once()?;
                let name = Ident { name: "AT TIME ZONE".into(), span };
                let args = [expr, zone].into_iter().map(|e| Arg { name: None, value: ArgValue::Expr(e) }).collect();
                let call = FunctionCall { args, ..empty_call(ObjectName { parts: vec![name] }, span) };
                expr = make(ExprKind::Function(Box::new(call)), span);
            } else {
                break;
            }
        }
        Ok(expr)
    }

    /// An operand whose nesting counts, for places that recurse without [`Parser::expr_above`].
    fn operand_once(&mut self) -> Result<Expr> {
        self.nested(Self::primary)
    }

    fn primary(&mut self) -> Result<Expr> {
        let span = self.span();
        match self.kind() {
            TokenKind::Number => {
                let text = self.here().to_string();
                self.advance();
                Ok(literal(Literal::Number(text), span))
            }
            TokenKind::Approximate => {
                let text = self.here().to_string();
                self.advance();
                Ok(literal(Literal::Approximate(text), span))
            }
            TokenKind::String(_) | TokenKind::UnicodeString(_) => Ok(literal(Literal::String(self.string("a string")?.0), span)),
            TokenKind::Bytes(bytes) => {
                let bytes = bytes.clone();
                self.advance();
                Ok(literal(Literal::Bytes(bytes), span))
            }
            TokenKind::Symbol("(") => self.parentheses(),
            TokenKind::Symbol("?") => {
                self.lacks("a parameter '?'", span);
                self.advance();
                Ok(literal(Literal::Null, span))
            }
            TokenKind::Quoted(_) => self.name_or_call(),
            TokenKind::Word => self.word(),
            _ => Err(self.expected("an expression")),
        }
    }

    /// `(expr)`, `(a, b)` or `(SELECT …)`
    fn parentheses(&mut self) -> Result<Expr> {
        let span = self.span();
        if self.is_query_in_parentheses() {
            self.advance();
            let query = self.query()?;
            self.expect(")")?;
            return Ok(make(ExprKind::ScalarSubquery(Box::new(query)), span));
        }
        let mut items = self.parenthesized(Self::expr)?;
        match (items.len(), items.pop()) {
            (1, Some(only)) => Ok(Expr { span, ..only }),
            (_, last) => {
                items.extend(last);
                Ok(make(ExprKind::Row(items), span))
            }
        }
    }

    /// An expression that begins with an unquoted word.
    fn word(&mut self) -> Result<Expr> {
        let span = self.span();
        let upper = self.here().to_ascii_uppercase();
        if let Some(expr) = self.keyword_literal(&upper, span)? {
            return Ok(expr);
        }
        let opens = self.is_at(1, "(");
        match upper.as_str() {
            "CASE" => return self.case(),
            "CAST" | "TRY_CAST" if opens => return self.cast(upper == "TRY_CAST"),
            "EXISTS" if opens => {
                self.advance();
                self.expect("(")?;
                let query = Box::new(self.query()?);
                self.expect(")")?;
                return Ok(make(ExprKind::Exists { query, negated: false }, span));
            }
            "ROW" | "PERIOD" if opens => {
                self.advance();
                self.advance();
                let items = if self.is(")") { Vec::new() } else { self.comma_separated(Self::expr)? };
                self.expect(")")?;
                return Ok(make(ExprKind::Row(items), span));
            }
            "ARRAY" | "MAP" | "MULTISET" if self.is_at(1, "[") || (opens && upper != "MAP") => return self.collection(&upper),
            "FINAL" | "RUNNING" if self.token(1).kind == TokenKind::Word && self.is_at(2, "(") => return self.match_semantics(&upper),
            _ => {}
        }
        if NILADIC.contains(&upper.as_str()) && !opens {
            let name = ObjectName { parts: vec![Ident { name: self.here().to_string(), span }] };
            self.advance();
            return Ok(make(ExprKind::Function(Box::new(empty_call(name, span))), span));
        }
        if is_reserved(&upper) && !(opens && is_reserved_function(&upper)) {
            return Err(self.reserved_in_expression());
        }
        self.name_or_call()
    }

    fn reserved_in_expression(&mut self) -> Error {
        let word = self.here();
        let error = self.expected("an expression");
        // After a reserved word that begins a clause something is missing; others are probably names.
        let clause =
            ["FROM", "WHERE", "GROUP", "ORDER", "HAVING", "AND", "OR", "THEN", "ELSE", "WHEN", "AS", "ON", "BY", "SELECT", "UNION"];
        if error.hint_text().is_some() || clause.iter().any(|c| c.eq_ignore_ascii_case(word)) {
            return error;
        }
        error.hint(format!("{word} is a reserved word; write `{word}` in backticks to use it as a name"))
    }

    /// NULL, TRUE, FALSE, UNKNOWN, DATE '…', TIME '…', TIMESTAMP '…', INTERVAL …, DEFAULT
    fn keyword_literal(&mut self, upper: &str, span: Span) -> Result<Option<Expr>> {
        let string_follows = matches!(self.token(1).kind, TokenKind::String(_));
        let value = match upper {
            "NULL" => Literal::Null,
            "TRUE" => Literal::Boolean(true),
            "FALSE" => Literal::Boolean(false),
            "UNKNOWN" => {
                self.advance();
                let null = Box::new(literal(Literal::Null, span));
                return Ok(Some(make(ExprKind::Cast { expr: null, ty: TypeKind::Boolean.nullable(), try_cast: false }, span)));
            }
            "DEFAULT" => {
                self.lacks("DEFAULT as a value", span);
                Literal::Null
            }
            "DATE" | "TIME" | "TIMESTAMP" if string_follows => {
                self.advance();
                let (text, _) = self.string("a string")?;
                return Ok(Some(literal(
                    match upper {
                        "DATE" => Literal::Date(text),
                        "TIME" => Literal::Time(text),
                        _ => Literal::Timestamp(text),
                    },
                    span,
                )));
            }
            "INTERVAL" => {
                self.advance();
                return self.interval_literal(span).map(Some);
            }
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(literal(value, span)))
    }

    /// `a`, `t.a`, `f(…)`, `cat.db.f(…)`
    fn name_or_call(&mut self) -> Result<Expr> {
        let span = self.span();
        let quoted = matches!(self.kind(), TokenKind::Quoted(_));
        if self.is_at(1, "(") {
            let name = ObjectName { parts: vec![self.call_name()?] };
            let call = self.call(name, quoted, false)?;
            return Ok(make(ExprKind::Function(Box::new(call)), span));
        }
        let mut parts = vec![self.ident("an expression")?];
        while self.is(".") && !self.is_at(1, "*") {
            self.advance();
            parts.push(self.ident("a name after '.'")?);
            self.check_chain(parts.len() * 10)?;
        }
        if self.is("(") {
            let call = self.call(ObjectName { parts }, true, false)?;
            return Ok(make(ExprKind::Function(Box::new(call)), span));
        }
        Ok(make(ExprKind::Name(parts), span))
    }

    /// The name of a function, which may be a reserved word.
    fn call_name(&mut self) -> Result<Ident> {
        let span = self.span();
        if *self.kind() == TokenKind::Word && is_reserved_function(self.here()) {
            let name = self.here().to_string();
            self.advance();
            return Ok(Ident { name, span });
        }
        self.ident("a function's name")
    }

    fn case(&mut self) -> Result<Expr> {
        let span = self.span();
        self.advance();
        let operand = if self.is_kw("WHEN") { None } else { Some(Box::new(self.expr()?)) };
        let mut branches = Vec::new();
        while self.take_kw("WHEN") {
            let mut conditions = vec![self.expr()?];
            // CASE x WHEN 1, 2 THEN …
            while operand.is_some() && self.take(",") {
                conditions.push(self.expr()?);
            }
            self.expect_kw("THEN")?;
            let value = self.expr()?;
            branches.extend(conditions.into_iter().map(|c| (c, value.clone())));
        }
        if branches.is_empty() {
            return Err(self.expected("WHEN"));
        }
        let otherwise = if self.take_kw("ELSE") { Some(Box::new(self.expr()?)) } else { None };
        if !self.take_kw("END") {
            return Err(self.expected("WHEN, ELSE or END"));
        }
        Ok(make(ExprKind::Case { operand, branches, otherwise }, span))
    }

    fn cast(&mut self, try_cast: bool) -> Result<Expr> {
        let span = self.span();
        self.advance();
        self.expect("(")?;
        let expr = Box::new(self.expr()?);
        self.expect_kw("AS")?;
        let ty = self.sql_type()?;
        if self.is_kw("FORMAT") {
            let place = self.span();
            self.advance();
            self.string("a format")?;
            self.lacks("CAST … FORMAT", place);
        }
        self.expect(")")?;
        Ok(make(ExprKind::Cast { expr, ty, try_cast }, span))
    }

    /// `ARRAY[…]`, `MAP[k, v, …]`; `ARRAY(SELECT …)` and MULTISET are not supported.
    fn collection(&mut self, upper: &str) -> Result<Expr> {
        let span = self.span();
        self.advance();
        if self.take("(") {
            self.lacks(format!("{upper}(query)"), span);
            let query = Box::new(self.query()?);
            self.expect(")")?;
            return Ok(make(ExprKind::ScalarSubquery(query), span));
        }
        self.expect("[")?;
        let items = if self.is("]") { Vec::new() } else { self.comma_separated(Self::expr)? };
        self.expect("]")?;
        if upper == "MULTISET" {
            self.lacks("MULTISET[…]", span);
        }
        if upper != "MAP" {
            return Ok(make(ExprKind::Array(items), span));
        }
        if items.len() % 2 == 1 {
            return Err(Error::plan("MAP[…] takes pairs of a key and a value, but has an odd number of elements").at(span));
        }
        let mut entries = Vec::with_capacity(items.len() / 2);
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.push((key, value));
        }
        Ok(make(ExprKind::Map(entries), span))
    }

    /// `FINAL LAST(A.x)`, `RUNNING LAST(A.x)`: a call of `FINAL` or `RUNNING` with the inner call as its argument.
    fn match_semantics(&mut self, upper: &str) -> Result<Expr> {
        let span = self.span();
        self.advance();
        let inner = self.name_or_call()?;
        let name = ObjectName { parts: vec![Ident { name: upper.to_string(), span }] };
        let call = FunctionCall { args: vec![Arg { name: None, value: ArgValue::Expr(inner) }], ..empty_call(name, span) };
        Ok(make(ExprKind::Function(Box::new(call)), span))
    }
}

/// `left OP right` with the operands of both if they are of the same operator.
fn flatten(left: Expr, right: Expr, open: impl Fn(ExprKind) -> Result<Vec<Expr>, ExprKind>) -> Vec<Expr> {
    let mut operands = Vec::new();
    for side in [left, right] {
        match open(side.kind) {
            Ok(list) => operands.extend(list),
            Err(kind) => operands.push(make(kind, side.span)),
        }
    }
    operands
}

/// A call without arguments.
pub(super) fn empty_call(name: ObjectName, span: Span) -> FunctionCall {
    FunctionCall {
        name,
        args: Vec::new(),
        distinct: false,
        star: false,
        filter: None,
        over: None,
        order_by: Vec::new(),
        ignore_nulls: None,
        json: JsonClauses::default(),
        span,
    }
}
