//! CREATE TABLE and CREATE VIEW.

use sluice_batch::{Error, Result, Span};

use super::Parser;
use crate::ast::{
    ColumnDef, ColumnKind, CreateTable, CreateView, Ident, LikeClause, ObjectName, PrimaryKeyDef, SqlOption, Statement, WatermarkDef,
};

/// What stands between CREATE and the kind of the object.
#[derive(Clone, Copy, Default)]
struct Modifiers {
    or_replace: bool,
    temporary: bool,
}

/// The parenthesized part of CREATE TABLE.
#[derive(Default)]
struct Elements {
    columns: Vec<ColumnDef>,
    watermark: Option<WatermarkDef>,
    primary_key: Option<PrimaryKeyDef>,
}

impl Parser<'_> {
    /// A statement from CREATE on.
    pub(super) fn create(&mut self) -> Result<Statement> {
        let span = self.span();
        let start = self.token(0).start;
        self.advance();
        let modifiers = Modifiers { or_replace: self.take_kws(&["OR", "REPLACE"]), temporary: self.take_kw("TEMPORARY") };
        let or_alter = self.take_kws(&["OR", "ALTER"]);
        if self.is_kw("TABLE") && !or_alter {
            self.advance();
            if modifiers.or_replace {
                return self.skip_unsupported("CREATE OR REPLACE TABLE", span);
            }
            return self.create_table(modifiers, start);
        }
        if self.take_kw("VIEW") {
            return self.create_view(modifiers, start);
        }
        for kind in ["FUNCTION", "CATALOG", "DATABASE", "MODEL", "CONNECTION"] {
            if self.is_kw(kind) {
                return self.skip_unsupported(&format!("CREATE {kind}"), span);
            }
        }
        if self.are_kws(&["SYSTEM", "FUNCTION"]) {
            return self.skip_unsupported("CREATE SYSTEM FUNCTION", span);
        }
        if self.are_kws(&["MATERIALIZED", "TABLE"]) {
            return self.skip_unsupported("CREATE MATERIALIZED TABLE", span);
        }
        Err(self.expected("TABLE or VIEW"))
    }

    fn if_not_exists(&mut self) -> bool {
        self.take_kws(&["IF", "NOT", "EXISTS"])
    }

    fn create_table(&mut self, modifiers: Modifiers, start: usize) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.object_name("the table's name")?;
        let elements = if self.is("(") { self.table_elements()? } else { Elements::default() };
        let comment = self.optional_comment()?;
        let distributed = self.distribution()?;
        let partitioned_by =
            if self.take_kws(&["PARTITIONED", "BY"]) { self.parenthesized(|p| p.ident("a column name"))? } else { Vec::new() };
        let options = if self.take_kw("WITH") { self.options()? } else { Vec::new() };
        let like = if self.take_kw("LIKE") { Some(self.like()?) } else { None };
        let as_query = if like.is_none() && self.take_kw("AS") { Some(Box::new(self.query()?)) } else { None };
        if !self.at_statement_end() {
            return Err(self.expected("COMMENT, PARTITIONED BY, WITH, LIKE, AS or the end of the statement"));
        }
        Ok(Statement::CreateTable(Box::new(CreateTable {
            name,
            temporary: modifiers.temporary,
            if_not_exists,
            columns: elements.columns,
            watermark: elements.watermark,
            primary_key: elements.primary_key,
            comment,
            partitioned_by,
            distributed,
            options,
            like,
            as_query,
            text: self.text_since(start),
        })))
    }

    /// The statement's text from `start` to the token before the current one.
    fn text_since(&self, start: usize) -> String {
        let end = self.pos.checked_sub(1).and_then(|i| self.tokens.get(i)).map_or(start, |t| t.end);
        self.text.get(start..end).unwrap_or("").to_string()
    }

    fn table_elements(&mut self) -> Result<Elements> {
        let mut elements = Elements::default();
        self.expect("(")?;
        loop {
            self.table_element(&mut elements)?;
            if self.take(")") {
                return Ok(elements);
            }
            if !self.take(",") {
                return Err(self.expected("',' or ')' after the column"));
            }
        }
    }

    fn table_element(&mut self, elements: &mut Elements) -> Result<()> {
        let span = self.span();
        if self.are_kws(&["WATERMARK", "FOR"]) {
            self.advance();
            self.advance();
            let watermark = self.watermark(span)?;
            if elements.watermark.replace(watermark).is_some() {
                return Err(Error::plan("a table has at most one WATERMARK").at(span));
            }
            return Ok(());
        }
        let constraint = self.take_kw("CONSTRAINT");
        if constraint {
            self.ident("the constraint's name")?;
        }
        if self.are_kws(&["PRIMARY", "KEY"]) {
            self.advance();
            self.advance();
            let columns = self.parenthesized(|p| p.ident("a column name"))?;
            return self.primary_key(elements, columns, span);
        }
        if self.is_kw("UNIQUE") {
            return Err(Error::unsupported("a UNIQUE constraint").at(span));
        }
        if constraint {
            return Err(self.expected("PRIMARY KEY"));
        }
        self.column(elements)
    }

    fn watermark(&mut self, span: Span) -> Result<WatermarkDef> {
        let mut column = vec![self.ident("a column name")?];
        while self.take(".") {
            column.push(self.ident("a field name")?);
        }
        self.expect_kw("AS")?;
        let expr = self.expr()?;
        Ok(WatermarkDef { column, expr, span })
    }

    /// What follows the columns of a primary key.
    fn primary_key(&mut self, elements: &mut Elements, columns: Vec<Ident>, span: Span) -> Result<()> {
        let not_enforced = self.take_kws(&["NOT", "ENFORCED"]);
        if self.is_kw("ENFORCED") {
            return Err(Error::plan("a primary key is not enforced: the rows come from outside")
                .at(self.span())
                .hint("write PRIMARY KEY … NOT ENFORCED"));
        }
        if elements.primary_key.replace(PrimaryKeyDef { columns, not_enforced, span }).is_some() {
            return Err(Error::plan("a table has at most one PRIMARY KEY").at(span));
        }
        Ok(())
    }

    fn column(&mut self, elements: &mut Elements) -> Result<()> {
        let name = self.ident("a column name")?;
        if self.is(",") || self.is(")") {
            self.lacks("a column without a type", name.span);
            let ty = sluice_batch::TypeKind::Null.nullable();
            elements.columns.push(ColumnDef { name, kind: ColumnKind::Physical { ty }, comment: None });
            return Ok(());
        }
        if self.take_kw("AS") {
            let kind = ColumnKind::Computed { expr: self.expr()? };
            let comment = self.optional_comment()?;
            elements.columns.push(ColumnDef { name, kind, comment });
            return Ok(());
        }
        let ty = self.sql_type()?;
        if self.take_kw("METADATA") {
            let key = if self.take_kw("FROM") { Some(self.string("the metadata key in quotes")?.0) } else { None };
            let is_virtual = self.take_kw("VIRTUAL");
            let comment = self.optional_comment()?;
            elements.columns.push(ColumnDef { name, kind: ColumnKind::Metadata { ty, key, is_virtual }, comment });
            return Ok(());
        }
        let mut comment = self.optional_comment()?;
        let span = self.span();
        if self.take_kw("CONSTRAINT") {
            self.ident("the constraint's name")?;
        }
        if self.take_kws(&["PRIMARY", "KEY"]) {
            self.primary_key(elements, vec![name.clone()], span)?;
        } else if self.is_kw("UNIQUE") {
            return Err(Error::unsupported("a UNIQUE constraint").at(span));
        }
        if comment.is_none() {
            comment = self.optional_comment()?;
        }
        elements.columns.push(ColumnDef { name, kind: ColumnKind::Physical { ty }, comment });
        Ok(())
    }

    fn optional_comment(&mut self) -> Result<Option<String>> {
        if self.take_kw("COMMENT") { self.string("a comment in quotes").map(|(s, _)| Some(s)) } else { Ok(None) }
    }

    /// `DISTRIBUTED [BY [HASH|RANGE] (a, b)] [INTO n BUCKETS]`
    fn distribution(&mut self) -> Result<Option<Span>> {
        let span = self.span();
        if !self.take_kw("DISTRIBUTED") {
            return Ok(None);
        }
        if self.take_kw("BY") {
            self.take_one_of(&["HASH", "RANGE"]);
            self.parenthesized(|p| p.ident("a column name"))?;
        }
        if self.take_kw("INTO") {
            self.unsigned("a number of buckets")?;
            self.expect_kw("BUCKETS")?;
        }
        Ok(Some(span))
    }

    /// `('k' = 'v', …)`
    fn options(&mut self) -> Result<Vec<SqlOption>> {
        self.expect("(")?;
        if self.take(")") {
            return Ok(Vec::new());
        }
        let options = self.comma_separated(Self::option)?;
        if !self.take(")") {
            return Err(self.expected("',' or ')' after the option"));
        }
        Ok(options)
    }

    fn like(&mut self) -> Result<LikeClause> {
        let table = self.object_name("a table")?;
        let mut options = Vec::new();
        if self.take("(") {
            while !self.take(")") {
                let Some(strategy) = self.take_one_of(&["INCLUDING", "EXCLUDING", "OVERWRITING"]) else {
                    return Err(self.expected("INCLUDING, EXCLUDING, OVERWRITING or ')'"));
                };
                let features = &["ALL", "CONSTRAINTS", "DISTRIBUTION", "GENERATED", "METADATA", "OPTIONS", "PARTITIONS", "WATERMARKS"];
                let Some(feature) = self.take_one_of(features) else {
                    return Err(self.expected(&format!("one of {}", features.join(", "))));
                };
                options.push((strategy.to_string(), feature.to_string()));
            }
        }
        Ok(LikeClause { table, options })
    }

    fn create_view(&mut self, modifiers: Modifiers, start: usize) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name: ObjectName = self.object_name("the view's name")?;
        let columns = if self.is("(") { self.parenthesized(|p| p.ident("a column name"))? } else { Vec::new() };
        let comment = self.optional_comment()?;
        self.expect_kw("AS")?;
        let query = self.query()?;
        Ok(Statement::CreateView(Box::new(CreateView {
            name,
            temporary: modifiers.temporary,
            if_not_exists,
            or_replace: modifiers.or_replace,
            columns,
            comment,
            query,
            text: self.text_since(start),
        })))
    }
}
