//! Statements other than CREATE.

use sluice_batch::{Error, Result, Span};

use super::Parser;
use crate::ast::{Expr, Ident, Insert, ObjectKind, SqlOption, Statement};
use crate::lexer::TokenKind;

/// Statements of Flink that the engine lacks, by their first words; what follows is skipped.
const UNSUPPORTED: &[&[&str]] = &[
    &["ALTER"],
    &["USE"],
    &["ADD", "JAR"],
    &["REMOVE", "JAR"],
    &["LOAD", "MODULE"],
    &["UNLOAD", "MODULE"],
    &["ANALYZE", "TABLE"],
    &["COMPILE"],
    &["EXECUTE", "PLAN"],
    &["CALL"],
    &["STOP", "JOB"],
    &["TRUNCATE", "TABLE"],
    &["REPLACE", "TABLE"],
    &["DELETE", "FROM"],
    &["UPDATE"],
    &["MERGE", "INTO"],
    &["UPSERT", "INTO"],
];

impl Parser<'_> {
    /// One statement, without its semicolon.
    pub(super) fn statement(&mut self) -> Result<Statement> {
        self.unsupported = None;
        self.depth = 0;
        let statement = self.any_statement()?;
        Ok(match self.unsupported.take() {
            Some((what, span)) => Statement::Unsupported { what, span },
            None => statement,
        })
    }

    fn any_statement(&mut self) -> Result<Statement> {
        let span = self.span();
        if self.is_query() || self.is("(") {
            return self.query().map(|q| Statement::Query(Box::new(q)));
        }
        if self.is_kw("CREATE") {
            return self.create();
        }
        if self.is_kw("INSERT") {
            return self.insert().map(|i| Statement::Insert(Box::new(i)));
        }
        if self.take_kws(&["EXECUTE", "STATEMENT", "SET"]) {
            return self.statement_set(span);
        }
        if self.take_kws(&["BEGIN", "STATEMENT", "SET"]) {
            self.expect(";")?;
            return self.statement_set_rest(span);
        }
        if self.is_word_at(0, "EXECUTE") && (self.is_word_at(1, "INSERT") || self.is_word_at(1, "SELECT")) {
            self.advance();
            return self.any_statement();
        }
        if self.is_kw("EXPLAIN") {
            return self.nested(Self::explain);
        }
        if self.take_kw("SET") {
            return self.set(span);
        }
        if self.take_kw("RESET") {
            return self.reset(span);
        }
        if self.is_kw("DROP") {
            return self.drop(span);
        }
        if self.is_kw("SHOW") {
            return self.show(span);
        }
        if self.is_kw("DESCRIBE") || self.is_kw("DESC") {
            return self.describe(span);
        }
        for words in UNSUPPORTED {
            if self.are_kws(words) {
                return self.skip_unsupported(&words.join(" "), span);
            }
        }
        for keyword in ["SELECT", "WITH", "VALUES", "BEGIN", "EXECUTE"] {
            self.remember(keyword);
        }
        Err(self.expected("a statement such as CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT or SET"))
    }

    /// Skips to the end of the statement.
    pub(super) fn skip_unsupported(&mut self, what: &str, span: Span) -> Result<Statement> {
        while !self.at_statement_end() {
            self.advance();
        }
        Ok(Statement::Unsupported { what: what.to_string(), span })
    }

    fn insert(&mut self) -> Result<Insert> {
        let span = self.span();
        self.expect_kw("INSERT")?;
        let overwrite = self.take_kw("OVERWRITE");
        if !overwrite && !self.take_kw("INTO") {
            return Err(self.expected("INTO or OVERWRITE"));
        }
        self.take_kw("TABLE");
        let table = self.object_name("a table")?;
        let mut hints = self.hints()?;
        let partition = if self.take_kw("PARTITION") { self.parenthesized(Self::partition)? } else { Vec::new() };
        let mut columns = Vec::new();
        if self.is("(") && !self.is_query_in_parentheses() {
            columns = self.parenthesized(Self::target_column)?;
        }
        hints.extend(self.hints()?);
        if !self.is_query() && !self.is("(") {
            return Err(self.expected("a query: SELECT, VALUES or WITH"));
        }
        let query = self.query()?;
        let on_conflict = self.on_conflict()?;
        Ok(Insert { table, overwrite, partition, columns, query, hints, on_conflict, span })
    }

    fn partition(&mut self) -> Result<(Ident, Expr)> {
        let column = self.ident("a column name")?;
        if !self.take("=") {
            return Err(self.expected("'=' and the partition's value"));
        }
        Ok((column, self.expr()?))
    }

    fn target_column(&mut self) -> Result<Ident> {
        let column = self.ident("a column name")?;
        while self.is(".") {
            let span = self.span();
            self.advance();
            self.ident("a field name")?;
            self.lacks("a nested field in the columns of INSERT", span);
        }
        Ok(column)
    }

    /// `ON CONFLICT DO DEDUPLICATE | NOTHING | ERROR`
    fn on_conflict(&mut self) -> Result<Option<(String, Span)>> {
        let span = self.span();
        if !self.take_kws(&["ON", "CONFLICT"]) {
            return Ok(None);
        }
        self.expect_kw("DO")?;
        match self.take_one_of(&["DEDUPLICATE", "NOTHING", "ERROR"]) {
            Some(strategy) => Ok(Some((strategy.to_string(), span))),
            None => Err(self.expected("DEDUPLICATE, NOTHING or ERROR")),
        }
    }

    /// What follows STATEMENT SET: `BEGIN INSERT …; … END`.
    fn statement_set(&mut self, span: Span) -> Result<Statement> {
        self.expect_kw("BEGIN")?;
        self.statement_set_rest(span)
    }

    fn statement_set_rest(&mut self, span: Span) -> Result<Statement> {
        let mut inserts = Vec::new();
        loop {
            while self.take(";") {}
            if self.take_kw("END") {
                break;
            }
            if !self.is_kw("INSERT") {
                return Err(self.expected("INSERT or END in the statement set"));
            }
            inserts.push(self.insert()?);
            if !self.is(";") && !self.is_word_at(0, "END") {
                return Err(self.expected("';' after the INSERT"));
            }
        }
        if inserts.is_empty() {
            return Err(Error::plan("the statement set is empty").at(span).hint("put INSERT statements between BEGIN and END"));
        }
        Ok(Statement::StatementSet { inserts, span })
    }

    fn explain(&mut self) -> Result<Statement> {
        let span = self.span();
        self.advance();
        let mut details = Vec::new();
        if !self.take_kws(&["PLAN", "FOR"]) {
            while let Some(detail) = self.take_one_of(&["ESTIMATED_COST", "CHANGELOG_MODE", "PLAN_ADVICE", "JSON_EXECUTION_PLAN"]) {
                details.push(detail.to_string());
                if !self.take(",") {
                    break;
                }
            }
        }
        let inner = self.span();
        let statement = if self.take_kws(&["STATEMENT", "SET"]) || self.take_kws(&["EXECUTE", "STATEMENT", "SET"]) {
            self.statement_set(inner)?
        } else if self.is_query() || self.is("(") || self.is_kw("INSERT") || self.is_kw("CREATE") {
            self.any_statement()?
        } else {
            return Err(self.expected("a query, INSERT or STATEMENT SET to explain"));
        };
        Ok(Statement::Explain { details, statement: Box::new(statement), span })
    }

    /// What follows SET: nothing, `'k' = 'v'` or `k.l = anything`.
    fn set(&mut self, span: Span) -> Result<Statement> {
        if self.at_statement_end() {
            return Ok(Statement::Set { option: None, span });
        }
        let (key, key_span) = self.raw_until("=", "an option key")?;
        self.expect("=")?;
        let (value, value_span) = self.raw_until(";", "the option's value")?;
        Ok(Statement::Set { option: Some(SqlOption { key, key_span, value, value_span }), span })
    }

    /// The text up to `stop` or the end of the statement: a string's content, or as written.
    fn raw_until(&mut self, stop: &str, what: &str) -> Result<(String, Span)> {
        let span = self.span();
        if matches!(self.kind(), TokenKind::String(_)) {
            return self.string(what);
        }
        let start = self.token(0).start;
        let mut end = start;
        while !self.at_statement_end() && !self.is(stop) {
            end = self.token(0).end;
            self.advance();
        }
        let raw = self.text.get(start..end).unwrap_or("");
        if raw.is_empty() {
            return Err(self.expected(what));
        }
        Ok((raw.to_string(), span))
    }

    fn reset(&mut self, span: Span) -> Result<Statement> {
        if self.at_statement_end() {
            return Ok(Statement::Reset { key: None, span });
        }
        let (key, _) = self.raw_until(";", "an option key")?;
        Ok(Statement::Reset { key: Some(key), span })
    }

    fn object_kind(&mut self) -> Option<ObjectKind> {
        let kinds = [
            ("TABLE", ObjectKind::Table),
            ("VIEW", ObjectKind::View),
            ("FUNCTION", ObjectKind::Function),
            ("CATALOG", ObjectKind::Catalog),
            ("DATABASE", ObjectKind::Database),
        ];
        kinds.into_iter().find(|(keyword, _)| self.take_kw(keyword)).map(|(_, kind)| kind)
    }

    fn drop(&mut self, span: Span) -> Result<Statement> {
        self.advance();
        let temporary = self.take_kw("TEMPORARY");
        self.take_kw("SYSTEM");
        for words in [&["MODEL"] as &[&'static str], &["MATERIALIZED", "TABLE"], &["CONNECTION"]] {
            if self.are_kws(words) {
                return self.skip_unsupported(&format!("DROP {}", words.join(" ")), span);
            }
        }
        let Some(kind) = self.object_kind() else { return Err(self.expected("TABLE or VIEW")) };
        let if_exists = self.take_kws(&["IF", "EXISTS"]);
        let name = self.object_name("a name")?;
        self.take_one_of(&["RESTRICT", "CASCADE"]);
        Ok(Statement::Drop { kind, name, if_exists, temporary })
    }

    fn show(&mut self, span: Span) -> Result<Statement> {
        self.advance();
        if self.take_kw("CREATE") {
            if let Some(kind @ (ObjectKind::Table | ObjectKind::View | ObjectKind::Catalog)) = self.object_kind() {
                return Ok(Statement::ShowCreate { kind, name: self.object_name("a name")? });
            }
            return Err(self.expected("TABLE or VIEW"));
        }
        let statement = if self.take_kw("TABLES") {
            Statement::ShowTables { span }
        } else if self.take_kw("VIEWS") {
            Statement::ShowViews { span }
        } else if self.take_kw("FUNCTIONS") {
            Statement::ShowFunctions { span }
        } else {
            let others = [
                "CATALOGS",
                "CATALOG",
                "CURRENT",
                "DATABASES",
                "COLUMNS",
                "MODULES",
                "FULL",
                "JARS",
                "JOBS",
                "PARTITIONS",
                "PROCEDURES",
                "MODELS",
                "CONNECTIONS",
                "MATERIALIZED",
                "USER",
                "TEMPORARY",
            ];
            return match others.into_iter().find(|k| self.is_kw(k)) {
                Some(kind) => self.skip_unsupported(&format!("SHOW {kind}"), span),
                None => Err(self.expected("TABLES, VIEWS, FUNCTIONS or CREATE TABLE")),
            };
        };
        if self.at_statement_end() {
            return Ok(statement);
        }
        // FROM database, LIKE pattern
        let place = self.span();
        let what = format!("{} in SHOW", self.here().to_uppercase());
        self.skip_unsupported(&what, place)
    }

    fn describe(&mut self, span: Span) -> Result<Statement> {
        self.advance();
        for kind in ["CATALOG", "DATABASE", "FUNCTION", "JOB", "MODEL", "CONNECTION"] {
            if self.is_word_at(0, kind) && matches!(self.token(1).kind, TokenKind::Word | TokenKind::Quoted(_) | TokenKind::String(_)) {
                return self.skip_unsupported(&format!("DESCRIBE {kind}"), span);
            }
        }
        self.take_kw("TABLE");
        self.take_kw("EXTENDED");
        Ok(Statement::Describe { name: self.object_name("a table")? })
    }
}
