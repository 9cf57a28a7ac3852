//! MATCH_RECOGNIZE and its patterns.

use sluice_batch::{Error, Result, Span};

use super::Parser;
use crate::ast::{Ident, MatchRecognize, Pattern, PatternNode, SkipTo};

impl Parser<'_> {
    /// What follows the keyword MATCH_RECOGNIZE.
    pub(super) fn match_recognize(&mut self, span: Span) -> Result<MatchRecognize> {
        self.expect("(")?;
        let partition_by = if self.take_kws(&["PARTITION", "BY"]) { self.key_list()? } else { Vec::new() };
        let order_by = self.optional_order_by()?;
        let measures = if self.take_kw("MEASURES") { self.comma_separated(Self::measure)? } else { Vec::new() };
        let all_rows = self.rows_per_match()?;
        let after_match = if self.take_kws(&["AFTER", "MATCH"]) { Some(self.skip_to()?) } else { None };
        self.expect_kw("PATTERN")?;
        self.expect("(")?;
        let pattern = self.pattern()?;
        self.expect(")")?;
        let within = if self.take_kw("WITHIN") { Some(self.expr()?) } else { None };
        let subsets = if self.take_kw("SUBSET") { self.comma_separated(Self::subset)? } else { Vec::new() };
        self.expect_kw("DEFINE")?;
        let define = self.comma_separated(Self::definition)?;
        self.expect(")")?;
        Ok(MatchRecognize { partition_by, order_by, measures, all_rows, after_match, pattern, within, subsets, define, span })
    }

    fn measure(&mut self) -> Result<(crate::ast::Expr, Ident)> {
        let expr = self.expr()?;
        self.expect_kw("AS")?;
        Ok((expr, self.ident("a measure's name")?))
    }

    fn definition(&mut self) -> Result<(Ident, crate::ast::Expr)> {
        let name = self.ident("a pattern variable")?;
        self.expect_kw("AS")?;
        Ok((name, self.expr()?))
    }

    fn subset(&mut self) -> Result<(Ident, Vec<Ident>)> {
        let name = self.ident("a subset's name")?;
        self.expect("=")?;
        Ok((name, self.parenthesized(|p| p.ident("a pattern variable"))?))
    }

    fn rows_per_match(&mut self) -> Result<bool> {
        if self.take_kws(&["ONE", "ROW", "PER", "MATCH"]) {
            return Ok(false);
        }
        if !self.take_kws(&["ALL", "ROWS", "PER", "MATCH"]) {
            return Ok(false);
        }
        let span = self.span();
        for option in [&["SHOW", "EMPTY", "MATCHES"], &["OMIT", "EMPTY", "MATCHES"], &["WITH", "UNMATCHED", "ROWS"]] {
            if self.take_kws(option) {
                self.lacks(format!("ALL ROWS PER MATCH {}", option.join(" ")), span);
            }
        }
        Ok(true)
    }

    fn skip_to(&mut self) -> Result<SkipTo> {
        self.expect_kw("SKIP")?;
        if self.take_kws(&["PAST", "LAST", "ROW"]) {
            return Ok(SkipTo::PastLastRow);
        }
        if !self.is_kw("TO") {
            return Err(self.expected("PAST LAST ROW, TO NEXT ROW, TO FIRST variable or TO LAST variable"));
        }
        self.advance();
        if self.take_kws(&["NEXT", "ROW"]) {
            return Ok(SkipTo::NextRow);
        }
        // A variable may itself be called FIRST or LAST.
        if self.is_ident_at(1) && self.take_kw("FIRST") {
            return self.ident("a pattern variable").map(SkipTo::First);
        }
        if self.is_ident_at(1) {
            self.take_kw("LAST");
        }
        self.ident("a pattern variable").map(SkipTo::Last)
    }

    /// `a | b | …`
    fn pattern(&mut self) -> Result<Pattern> {
        self.nested(|p| {
            let span = p.span();
            let mut branches = vec![p.pattern_sequence()?];
            while p.take("|") {
                branches.push(p.pattern_sequence()?);
            }
            Ok(single_or(branches, PatternNode::Alternation, span))
        })
    }

    fn pattern_sequence(&mut self) -> Result<Pattern> {
        let span = self.span();
        let mut factors = vec![self.pattern_factor()?];
        while !(self.is(")") || self.is("|") || self.is(",") || (self.is("-") && self.is_at(1, "}"))) {
            factors.push(self.pattern_factor()?);
        }
        Ok(single_or(factors, PatternNode::Concat, span))
    }

    fn pattern_factor(&mut self) -> Result<Pattern> {
        let span = self.span();
        let node = self.pattern_primary()?;
        let Some((min, max)) = self.quantifier()? else { return Ok(Pattern { node, span }) };
        let greedy = !self.take("?");
        let inner = Box::new(Pattern { node, span });
        Ok(Pattern { node: PatternNode::Quantified { inner, min, max, greedy }, span })
    }

    fn pattern_primary(&mut self) -> Result<PatternNode> {
        if self.take("^") {
            return Ok(PatternNode::Start);
        }
        if self.take("$") {
            return Ok(PatternNode::End);
        }
        if self.take("(") {
            let inner = self.pattern()?;
            self.expect(")")?;
            return Ok(PatternNode::Group(Box::new(inner)));
        }
        if self.is("{") && self.is_at(1, "-") {
            self.advance();
            self.advance();
            let inner = self.pattern()?;
            self.expect("-")?;
            self.expect("}")?;
            return Ok(PatternNode::Exclude(Box::new(inner)));
        }
        if self.take_kw("PERMUTE") {
            return self.parenthesized(Self::pattern).map(PatternNode::Permute);
        }
        self.ident("a pattern variable").map(PatternNode::Variable)
    }

    /// `*`, `+`, `?`, `{n}`, `{n,}`, `{n,m}`, `{,m}`
    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>> {
        for (symbol, bounds) in [("*", (0, None)), ("+", (1, None)), ("?", (0, Some(1)))] {
            if self.take(symbol) {
                return Ok(Some(bounds));
            }
        }
        if !self.is("{") || self.is_at(1, "-") {
            return Ok(None);
        }
        let span = self.span();
        self.advance();
        let min = if self.is(",") { None } else { Some(self.unsigned("a number of repetitions")?) };
        let max = if self.take(",") { if self.is("}") { None } else { Some(self.unsigned("a number of repetitions")?) } } else { min };
        self.expect("}")?;
        let min = match (min, max) {
            (None, None) => return Err(Error::plan("'{,}' is no quantifier, expected {n}, {n,}, {n,m} or {,m}").at(span)),
            (None, Some(_)) => 0,
            (Some(min), _) => min,
        };
        match max {
            Some(0) => Err(Error::plan("a pattern repeated at most 0 times never matches a row").at(span)),
            Some(max) if max < min => Err(Error::plan(format!("the quantifier {{{min},{max}}} ends below its start")).at(span)),
            max => Ok(Some((min, max))),
        }
    }
}

fn single_or(mut patterns: Vec<Pattern>, node: impl FnOnce(Vec<Pattern>) -> PatternNode, span: Span) -> Pattern {
    match (patterns.len(), patterns.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            patterns.extend(last);
            Pattern { node: node(patterns), span }
        }
    }
}
