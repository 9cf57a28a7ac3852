//! The FROM clause: tables, subqueries, table functions, joins.

use sluice_batch::{Error, Result};

use super::Parser;
use crate::ast::{JoinCondition, JoinKind, TableRef};
use crate::lexer::TokenKind;

impl Parser<'_> {
    /// A table and what is joined to it.
    pub(super) fn table_ref(&mut self) -> Result<TableRef> {
        self.nested(|p| {
            let mut left = p.table_factor()?;
            let mut length = 0;
            loop {
                let span = p.span();
                let natural = p.take_kw("NATURAL");
                let Some(kind) = p.join_kind()? else {
                    return if natural { Err(p.expected("JOIN")) } else { Ok(left) };
                };
                p.check_chain(length)?;
                length += 1;
                let right = p.table_factor()?;
                let condition = p.join_condition(kind, natural)?;
                left = TableRef::Join { left: Box::new(left), right: Box::new(right), kind, condition, span };
            }
        })
    }

    /// The keywords of a join up to JOIN, if there.
    fn join_kind(&mut self) -> Result<Option<JoinKind>> {
        let span = self.span();
        if self.take_kw("JOIN") {
            return Ok(Some(JoinKind::Inner));
        }
        if self.are_kws(&["CROSS", "APPLY"]) || self.are_kws(&["OUTER", "APPLY"]) {
            return Err(Error::unsupported(format!("{} APPLY", self.here().to_uppercase())).at(span).hint("use JOIN LATERAL TABLE(…)"));
        }
        if self.are_kws(&["ASOF", "JOIN"]) || self.are_kws(&["LEFT", "ASOF", "JOIN"]) {
            return Err(Error::unsupported("ASOF JOIN").at(span).hint("use a temporal join: FOR SYSTEM_TIME AS OF"));
        }
        let kind = match self.take_one_of(&["INNER", "CROSS", "LEFT", "RIGHT", "FULL"]) {
            Some("INNER") => JoinKind::Inner,
            Some("CROSS") => JoinKind::Cross,
            Some("LEFT") => {
                for word in ["SEMI", "ANTI"] {
                    if self.is_word_at(0, word) {
                        self.advance();
                        self.lacks(format!("LEFT {word} JOIN"), span);
                    }
                }
                JoinKind::Left
            }
            Some("RIGHT") => JoinKind::Right,
            Some(_) => JoinKind::Full,
            None => return Ok(None),
        };
        if matches!(kind, JoinKind::Left | JoinKind::Right | JoinKind::Full) {
            self.take_kw("OUTER");
        }
        self.expect_kw("JOIN")?;
        Ok(Some(kind))
    }

    fn join_condition(&mut self, kind: JoinKind, natural: bool) -> Result<JoinCondition> {
        if natural {
            return Ok(JoinCondition::Natural);
        }
        if kind == JoinKind::Cross {
            return Ok(JoinCondition::None);
        }
        if self.take_kw("ON") {
            return self.expr().map(JoinCondition::On);
        }
        if self.take_kw("USING") {
            return self.parenthesized(|p| p.ident("a column name")).map(JoinCondition::Using);
        }
        Err(self.expected("ON or USING and the join's condition"))
    }

    /// One table with its time, alias and MATCH_RECOGNIZE.
    fn table_factor(&mut self) -> Result<TableRef> {
        let mut table = self.table_primary()?;
        if self.is_kw("MATCH_RECOGNIZE") {
            let span = self.span();
            self.advance();
            let clause = Box::new(self.match_recognize(span)?);
            let alias = self.table_alias()?;
            table = TableRef::MatchRecognize { input: Box::new(table), clause, alias };
        }
        for word in ["TABLESAMPLE", "PIVOT", "UNPIVOT"] {
            if self.is_word_at(0, word) {
                return Err(Error::unsupported(word).at(self.span()));
            }
        }
        Ok(table)
    }

    fn table_primary(&mut self) -> Result<TableRef> {
        let span = self.span();
        let lateral = self.take_kw("LATERAL");
        if self.is("(") {
            return self.table_in_parentheses(lateral);
        }
        if self.is_kw("UNNEST") {
            self.advance();
            self.expect("(")?;
            let expr = Box::new(self.expr()?);
            if self.is(",") {
                return Err(Error::unsupported("UNNEST of several collections").at(self.span()).hint("use one UNNEST for each"));
            }
            self.expect(")")?;
            let with_ordinality = self.take_kws(&["WITH", "ORDINALITY"]);
            return Ok(TableRef::Unnest { expr, with_ordinality, alias: self.table_alias()?, span });
        }
        if self.is_word_at(0, "TABLE") && self.is_at(1, "(") {
            self.advance();
            self.advance();
            let name = self.object_name("a table function")?;
            let call = self.call(name, false, true)?;
            self.expect(")")?;
            return Ok(TableRef::Function { lateral, call, alias: self.table_alias()? });
        }
        self.take_kw("TABLE");
        if !matches!(self.kind(), TokenKind::Word | TokenKind::Quoted(_)) {
            return Err(self.expected("a table, a query in parentheses or a table function"));
        }
        let name = self.object_name("a table")?;
        if self.is("(") {
            let call = self.call(name, false, true)?;
            return Ok(TableRef::Function { lateral, call, alias: self.table_alias()? });
        }
        if lateral {
            return Err(self.expected("'(' after LATERAL and a table function"));
        }
        let hints = self.hints()?;
        let system_time = if self.take_kws(&["FOR", "SYSTEM_TIME", "AS", "OF"]) { Some(Box::new(self.expr()?)) } else { None };
        let alias = self.table_alias()?;
        Ok(TableRef::Table { name, hints, system_time, alias })
    }

    /// `(query)` or `(a JOIN b …)`
    fn table_in_parentheses(&mut self, lateral: bool) -> Result<TableRef> {
        if self.is_query_in_parentheses() || lateral {
            self.expect("(")?;
            let query = Box::new(self.query()?);
            self.expect(")")?;
            return Ok(TableRef::Subquery { lateral, query, alias: self.table_alias()? });
        }
        self.expect("(")?;
        let table = self.table_ref()?;
        self.expect(")")?;
        Ok(table)
    }
}
