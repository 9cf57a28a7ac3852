//! Queries: WITH, set operations, SELECT, ORDER BY, LIMIT.

use sluice_batch::{Error, Result};

use super::Parser;
use crate::ast::{Cte, Expr, ExprKind, GroupBy, Ident, OrderBy, Query, Select, SelectItem, SetExpr, SetOperator, TableRef};

impl Parser<'_> {
    pub(super) fn query(&mut self) -> Result<Query> {
        self.nested(|p| {
            let span = p.span();
            let with = p.with()?;
            let body = p.set_expr(0)?;
            let order_by = p.optional_order_by()?;
            let (limit, offset) = p.limit()?;
            Ok(Query { with, body, order_by, limit, offset, span })
        })
    }

    /// Whether a query begins here.
    pub(super) fn is_query(&self) -> bool {
        self.is_query_at(0)
    }

    fn is_query_at(&self, ahead: usize) -> bool {
        ["SELECT", "WITH", "VALUES"].iter().any(|k| self.is_word_at(ahead, k))
            || (self.is_word_at(ahead, "TABLE") && self.is_ident_at(ahead + 1))
    }

    /// Whether `(` is here and a query in it: `(SELECT …)`, `((SELECT …) UNION …)`, but not `((SELECT …) + 1)`.
    pub(super) fn is_query_in_parentheses(&self) -> bool {
        if !self.is("(") {
            return false;
        }
        let opening = (0..).take_while(|i| self.is_at(*i, "(")).count();
        if !self.is_query_at(opening) {
            return false;
        }
        // Whatever follows the inner parentheses must go on as a query.
        let mut depth = opening;
        let mut at = opening;
        while depth > 1 {
            if self.token(at).kind == crate::lexer::TokenKind::End {
                return false;
            }
            if self.is_at(at, "(") {
                depth += 1;
            } else if self.is_at(at, ")") {
                depth -= 1;
                let goes_on = self.is_at(at + 1, ")")
                    || ["UNION", "INTERSECT", "EXCEPT", "ORDER", "LIMIT", "OFFSET", "FETCH"].iter().any(|k| self.is_word_at(at + 1, k));
                if depth < opening && !goes_on {
                    return false;
                }
            }
            at += 1;
        }
        true
    }

    fn with(&mut self) -> Result<Vec<Cte>> {
        if !self.take_kw("WITH") {
            return Ok(Vec::new());
        }
        if self.is_word_at(0, "RECURSIVE") {
            return Err(Error::unsupported("WITH RECURSIVE").at(self.span()));
        }
        self.comma_separated(|p| {
            let name = p.ident("a name for the query in WITH")?;
            let columns = if p.is("(") { p.parenthesized(|p| p.ident("a column name"))? } else { Vec::new() };
            p.expect_kw("AS")?;
            p.expect("(")?;
            let query = p.query()?;
            p.expect(")")?;
            Ok(Cte { name, columns, query })
        })
    }

    /// INTERSECT binds tighter than UNION and EXCEPT.
    fn set_expr(&mut self, min: u8) -> Result<SetExpr> {
        let mut left = self.set_operand()?;
        let mut length = 0;
        loop {
            let span = self.span();
            let (op, precedence) = if self.is_kw("UNION") {
                (SetOperator::Union, 1)
            } else if self.is_kw("EXCEPT") || self.is_kw("MINUS") {
                (SetOperator::Except, 1)
            } else if self.is_kw("INTERSECT") {
                (SetOperator::Intersect, 2)
            } else {
                return Ok(left);
            };
            if precedence < min {
                return Ok(left);
            }
            self.check_chain(length)?;
            length += 1;
            self.advance();
            let all = self.take_kw("ALL");
            if !all {
                self.take_kw("DISTINCT");
            }
            let right = self.set_expr(precedence + 1)?;
            left = SetExpr::Operation { op, all, left: Box::new(left), right: Box::new(right), span };
        }
    }

    fn set_operand(&mut self) -> Result<SetExpr> {
        let span = self.span();
        if self.take("(") {
            let query = self.query()?;
            self.expect(")")?;
            return Ok(SetExpr::Query(Box::new(query)));
        }
        if self.take_kw("SELECT") {
            return self.select(span).map(|s| SetExpr::Select(Box::new(s)));
        }
        if self.take_kw("VALUES") {
            let rows = self.comma_separated(|p| {
                let row = p.expr()?;
                Ok(match row.kind {
                    ExprKind::Row(items) => items,
                    _ => vec![row],
                })
            })?;
            return Ok(SetExpr::Values { rows, span });
        }
        if self.take_kw("TABLE") {
            let name = self.object_name("a table")?;
            let from = vec![TableRef::Table { name, hints: self.hints()?, system_time: None, alias: None }];
            let items = vec![SelectItem::Wildcard { qualifier: Vec::new(), span }];
            return Ok(SetExpr::Select(Box::new(Select { items, from, ..empty_select(span) })));
        }
        self.is_kw("WITH");
        Err(self.expected("a query: SELECT, VALUES or WITH"))
    }

    /// What follows the keyword SELECT.
    fn select(&mut self, span: sluice_batch::Span) -> Result<Select> {
        let mut select = Select { hints: self.hints()?, ..empty_select(span) };
        if self.is_word_at(0, "STREAM") {
            return Err(Error::unsupported("SELECT STREAM")
                .at(self.span())
                .hint("every query over a stream is a streaming query; leave STREAM out"));
        }
        select.distinct = self.take_kw("DISTINCT");
        if !select.distinct {
            self.take_kw("ALL");
        }
        select.items = self.comma_separated(Self::select_item)?;
        if self.take_kw("FROM") {
            select.from = self.comma_separated(Self::table_ref)?;
        }
        if self.take_kw("WHERE") {
            select.filter = Some(self.expr()?);
        }
        if self.take_kws(&["GROUP", "BY"]) {
            self.take_kw("ALL");
            self.take_kw("DISTINCT");
            select.group_by = self.comma_separated(Self::group_item)?.into_iter().flatten().collect();
        }
        if self.take_kw("HAVING") {
            select.having = Some(self.expr()?);
        }
        if self.take_kw("WINDOW") {
            select.windows = self.comma_separated(|p| {
                let name = p.ident("a window's name")?;
                p.expect_kw("AS")?;
                Ok((name, p.window_spec()?))
            })?;
        }
        if self.take_kw("QUALIFY") {
            select.qualify = Some(self.expr()?);
        }
        Ok(select)
    }

    /// `*`, `t.*` or `expr [[AS] alias]`
    fn select_item(&mut self) -> Result<SelectItem> {
        let span = self.span();
        if self.take("*") {
            return Ok(SelectItem::Wildcard { qualifier: Vec::new(), span });
        }
        let mut ahead = 0;
        while self.is_ident_at(ahead) && self.is_at(ahead + 1, ".") {
            if self.is_at(ahead + 2, "*") {
                return self.qualified_wildcard();
            }
            ahead += 2;
        }
        let expr = self.expr()?;
        let alias = self.optional_alias()?;
        Ok(SelectItem::Expr { expr, alias })
    }

    fn qualified_wildcard(&mut self) -> Result<SelectItem> {
        let span = self.span();
        let mut qualifier: Vec<Ident> = Vec::new();
        while !self.take("*") {
            qualifier.push(self.ident("a name")?);
            self.expect(".")?;
        }
        Ok(SelectItem::Wildcard { qualifier, span })
    }

    fn group_item(&mut self) -> Result<Vec<GroupBy>> {
        if self.is_word_at(0, "GROUPING") && self.is_word_at(1, "SETS") {
            self.advance();
            self.advance();
            let sets = self.parenthesized(Self::grouping_set)?.into_iter().flatten().collect();
            return Ok(vec![GroupBy::GroupingSets(sets)]);
        }
        if self.take_kw("ROLLUP") {
            return Ok(vec![GroupBy::Rollup(self.parenthesized(Self::key_group)?)]);
        }
        if self.take_kw("CUBE") {
            return Ok(vec![GroupBy::Cube(self.parenthesized(Self::key_group)?)]);
        }
        if self.is("(") && self.is_at(1, ")") {
            self.advance();
            self.advance();
            return Ok(vec![GroupBy::GroupingSets(vec![Vec::new()])]);
        }
        // GROUP BY (a, b) is GROUP BY a, b
        Ok(self.key_group()?.into_iter().map(GroupBy::Expr).collect())
    }

    /// One member of GROUPING SETS; ROLLUP and CUBE in it stand for several.
    fn grouping_set(&mut self) -> Result<Vec<Vec<Expr>>> {
        if self.is_word_at(0, "GROUPING") && self.is_word_at(1, "SETS") {
            return self.nested(|p| {
                p.advance();
                p.advance();
                Ok(p.parenthesized(Self::grouping_set)?.into_iter().flatten().collect())
            });
        }
        if self.take_kw("ROLLUP") {
            let groups = self.parenthesized(Self::key_group)?;
            return Ok((0..=groups.len()).rev().map(|n| groups.iter().take(n).flatten().cloned().collect()).collect());
        }
        if self.is_kw("CUBE") {
            let span = self.span();
            self.advance();
            let groups = self.parenthesized(Self::key_group)?;
            if groups.len() > 10 {
                return Err(Error::plan("CUBE takes at most 10 keys").at(span));
            }
            let all = 1usize << groups.len();
            let has = |set: usize, i: usize| set >> (groups.len() - 1 - i) & 1 == 1;
            return Ok((0..all)
                .rev()
                .map(|set| groups.iter().enumerate().filter(|(i, _)| has(set, *i)).flat_map(|(_, g)| g.clone()).collect())
                .collect());
        }
        if self.is("(") && self.is_at(1, ")") {
            self.advance();
            self.advance();
            return Ok(vec![Vec::new()]);
        }
        Ok(vec![self.key_group()?])
    }

    /// `a` or `(a, b)`
    fn key_group(&mut self) -> Result<Vec<Expr>> {
        let key = self.expr()?;
        Ok(match key.kind {
            ExprKind::Row(keys) => keys,
            _ => vec![key],
        })
    }

    /// The keys of PARTITION BY: `a, b` or `(a, b)`.
    pub(super) fn key_list(&mut self) -> Result<Vec<Expr>> {
        Ok(self.comma_separated(Self::key_group)?.into_iter().flatten().collect())
    }

    pub(super) fn optional_order_by(&mut self) -> Result<Vec<OrderBy>> {
        if self.take_kws(&["ORDER", "BY"]) { self.comma_separated(Self::order_item) } else { Ok(Vec::new()) }
    }

    pub(super) fn order_item(&mut self) -> Result<OrderBy> {
        let expr = self.expr()?;
        let descending = self.take_one_of(&["ASC", "DESC"]) == Some("DESC");
        let nulls_first = if self.take_kws(&["NULLS", "FIRST"]) {
            Some(true)
        } else if self.take_kws(&["NULLS", "LAST"]) {
            Some(false)
        } else {
            None
        };
        Ok(OrderBy { expr, descending, nulls_first })
    }

    /// `LIMIT n`, `LIMIT ALL`, `OFFSET m [ROW|ROWS]`, `FETCH FIRST|NEXT n ROW|ROWS ONLY`
    fn limit(&mut self) -> Result<(Option<Expr>, Option<Expr>)> {
        let (mut limit, mut offset) = (None, None);
        if self.take_kw("LIMIT") && !self.take_kw("ALL") {
            limit = Some(self.expr()?);
        }
        if self.take_kw("OFFSET") {
            offset = Some(self.expr()?);
            self.take_one_of(&["ROWS", "ROW"]);
            if limit.is_none() && self.take_kw("LIMIT") {
                limit = Some(self.expr()?);
            }
        }
        if self.take_kw("FETCH") {
            if self.take_one_of(&["FIRST", "NEXT"]).is_none() {
                return Err(self.expected("FIRST or NEXT"));
            }
            limit = Some(self.expr()?);
            if self.take_one_of(&["ROWS", "ROW"]).is_none() {
                return Err(self.expected("ROWS"));
            }
            self.expect_kw("ONLY")?;
        }
        Ok((limit, offset))
    }
}

fn empty_select(span: sluice_batch::Span) -> Select {
    Select {
        hints: Vec::new(),
        distinct: false,
        items: Vec::new(),
        from: Vec::new(),
        filter: None,
        group_by: Vec::new(),
        having: None,
        windows: Vec::new(),
        qualify: None,
        span,
    }
}
