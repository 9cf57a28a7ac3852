//! A script: its statements parsed, bound and planned, before anything runs.

use std::path::Path;

use sluice_batch::{Error, Result};
use sluice_plan::{Graph, PlanOptions};
use sluice_sql::ast::{ObjectKind, Statement};
use sluice_sql::bind::{bind_insert, bind_query, table_schema, view_schema};
use sluice_sql::catalog::Catalog;
use sluice_sql::parser;
use sluice_sql::relation::BoundStatement;

use crate::deployment;

/// Options that say how SQL text is read.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(id = "sql")]
pub struct Args {
    /// Fills ${NAME} in the SQL; the environment is asked next.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub vars: Vec<String>,
    /// Sets an option as `SET 'key' = 'value'` at the script's top does.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Every Kafka source ends at the offsets that were the latest at the start.
    #[arg(long)]
    pub bounded: bool,
    /// The StreamingDeployment to take, if the YAML holds several.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// What a script does, in order.
pub enum Step {
    /// INSERTs that run together, or one SELECT.
    Job { graph: Box<Graph>, catalog: Box<Catalog> },
    /// The answer of SHOW, DESCRIBE, EXPLAIN.
    Print(String),
}

/// A script, ready to run.
pub struct Script {
    pub steps: Vec<Step>,
    /// The text, before variables are filled in: they may be secrets.
    pub sql: String,
    /// Annotations of the StreamingDeployment, for `--local`.
    pub generators: Vec<String>,
    /// That of the StreamingDeployment.
    pub parallelism: Option<u32>,
    /// The StreamingDeployment's, else the file's without its ending: what jobs are called if `pipeline.name` does not say it.
    pub name: String,
}

/// Reads and plans a file.
///
/// # Errors
/// Whatever is wrong with it, as a plan error with line and column.
pub fn load(file: &Path, args: &Args) -> Result<Script> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::plan(format!("cannot read {}: {e}", file.display())))?;
    let source = deployment::read(file, &text, args.name.as_deref())?;
    let mut settings = source.settings.clone();
    for setting in &args.settings {
        settings.push(pair(setting, "--set")?);
    }
    let mut vars = source.variables.clone();
    for var in &args.vars {
        vars.push(pair(var, "--var")?);
    }
    let lookup = |name: &str| {
        let given = vars.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        given.or_else(|| std::env::var(name).ok())
    };
    let sql = sluice_sql::substitute_variables(&source.sql, &lookup)?;
    let steps = prepare(&sql, &settings, args)?;
    let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned());
    let name = source.name.or(stem).unwrap_or_default();
    Ok(Script { steps, sql: source.sql, generators: source.generators, parallelism: source.parallelism, name })
}

/// `NAME=VALUE` of a command line's option.
///
/// # Errors
/// If it is none.
pub fn pair(text: &str, option: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::plan(format!("{option} {text}: expected NAME=VALUE"))),
    }
}

/// Parses, binds and plans all statements.
///
/// INSERTs with only declarations between them run as one job; a SELECT is a job of its own.
fn prepare(sql: &str, settings: &[(String, String)], args: &Args) -> Result<Vec<Step>> {
    let mut planner = Preparer { catalog: Catalog::default(), pending: vec![], steps: vec![], args };
    for (key, value) in settings {
        planner.catalog.settings.insert(key.clone(), value.clone());
    }
    for (statement, span) in parser::parse_script(sql)? {
        planner.statement(statement).map_err(|e| e.at(span))?;
    }
    planner.end_job()?;
    Ok(planner.steps)
}

struct Preparer<'a> {
    catalog: Catalog,
    /// INSERTs of the job under construction.
    pending: Vec<BoundStatement>,
    steps: Vec<Step>,
    args: &'a Args,
}

impl Preparer<'_> {
    fn statement(&mut self, statement: Statement) -> Result<()> {
        match &statement {
            Statement::Insert(insert) => self.pending.push(bind_insert(insert, &self.catalog)?),
            Statement::StatementSet { inserts, .. } => {
                for insert in inserts {
                    self.pending.push(bind_insert(insert, &self.catalog)?);
                }
            }
            Statement::Query(query) => {
                self.end_job()?;
                self.pending.push(bind_query(query, &self.catalog)?);
                self.end_job()?;
            }
            Statement::Explain { statement, .. } => {
                let text = self.explain(statement)?;
                self.steps.push(Step::Print(text));
            }
            Statement::Unsupported { what, span } => return Err(Error::unsupported(what).at(*span)),
            Statement::Set { option: None, .. }
            | Statement::ShowTables { .. }
            | Statement::ShowViews { .. }
            | Statement::ShowFunctions { .. }
            | Statement::ShowCreate { .. }
            | Statement::Describe { .. } => {
                let text = self.show(&statement)?;
                self.steps.push(Step::Print(text));
            }
            _ => {
                self.catalog.apply(&statement)?;
                self.check_declared(&statement)?;
            }
        }
        Ok(())
    }

    /// What a declaration says of columns must hold before anything uses it; its connector is looked at when it is used (as in Flink).
    fn check_declared(&self, statement: &Statement) -> Result<()> {
        let (table, view) = match statement {
            Statement::CreateTable(create) => (self.catalog.tables.get(create.name.object()), None),
            Statement::CreateView(create) => (None, self.catalog.views.get(create.name.object())),
            _ => (None, None),
        };
        table.map(|t| table_schema(t, &self.catalog)).transpose()?;
        view.map(|v| view_schema(v, &self.catalog).map_err(|e| e.context(format!("view '{}'", v.name)))).transpose()?;
        Ok(())
    }

    fn options(&self) -> PlanOptions {
        PlanOptions { force_bounded: self.args.bounded }
    }

    fn end_job(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let statements = std::mem::take(&mut self.pending);
        let graph = sluice_plan::plan(&statements, &self.catalog, &self.options())?;
        self.steps.push(Step::Job { graph: Box::new(graph), catalog: Box::new(self.catalog.clone()) });
        Ok(())
    }

    fn explain(&self, statement: &Statement) -> Result<String> {
        let bound = match statement {
            Statement::Query(query) => vec![bind_query(query, &self.catalog)?],
            Statement::Insert(insert) => vec![bind_insert(insert, &self.catalog)?],
            Statement::StatementSet { inserts, .. } => inserts.iter().map(|i| bind_insert(i, &self.catalog)).collect::<Result<_>>()?,
            _ => return Err(Error::plan("EXPLAIN takes a query, an INSERT or a STATEMENT SET")),
        };
        let graph = sluice_plan::plan(&bound, &self.catalog, &self.options())?;
        Ok(sluice_plan::explain(&graph))
    }

    fn show(&self, statement: &Statement) -> Result<String> {
        let lines = |names: &mut dyn Iterator<Item = &String>| names.map(|n| format!("{n}\n")).collect::<String>();
        Ok(match statement {
            Statement::Set { .. } => self.catalog.settings.iter().map(|(k, v)| format!("'{k}' = '{v}'\n")).collect::<String>(),
            Statement::ShowTables { .. } => lines(&mut self.catalog.tables.keys().chain(self.catalog.views.keys())),
            Statement::ShowViews { .. } => lines(&mut self.catalog.views.keys()),
            Statement::ShowFunctions { .. } => sluice_functions::names().into_iter().map(|n| format!("{}\n", n.to_lowercase())).collect(),
            Statement::ShowCreate { kind, name } => self.show_create(*kind, name.object()).map_err(|e| e.at(name.span()))?,
            Statement::Describe { name } => self.describe(name.object()).map_err(|e| e.at(name.span()))?,
            _ => return Err(Error::unsupported("this statement")),
        })
    }

    fn show_create(&self, kind: ObjectKind, name: &str) -> Result<String> {
        let text = match kind {
            ObjectKind::View => self.catalog.views.get(name).map(|v| v.text.clone()),
            _ => self.catalog.tables.get(name).map(|t| t.text.clone()),
        };
        text.map(|t| t + "\n").ok_or_else(|| Error::plan(format!("there is no '{name}'")))
    }

    fn describe(&self, name: &str) -> Result<String> {
        if let Some(table) = self.catalog.tables.get(name) {
            return Ok(table.columns.iter().map(|c| format!("{} {}\n", c.name, c.ty)).collect());
        }
        let Some(view) = self.catalog.views.get(name) else {
            return Err(Error::plan(format!("there is no table or view '{name}'")));
        };
        match bind_query(&view.query, &self.catalog)? {
            BoundStatement::Select { query } => Ok(query.schema.iter().map(|c| format!("{} {}\n", c.name, c.ty)).collect()),
            BoundStatement::Insert { .. } => Err(Error::plan(format!("'{name}' is not a query"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn declarations_are_checked_where_they_stand() {
        let table = "CREATE TABLE t (a INT) WITH ('connector' = 'datagen');\n";
        for (sql, message, column) in [
            ("CREATE VIEW v AS SELECT nope FROM t;", "Column 'nope' not found", 25),
            ("CREATE VIEW v (x, y) AS SELECT a FROM t;", "names 2 columns", 16),
            ("CREATE VIEW v AS SELECT * FROM v;", "refers to itself", 32),
            ("CREATE TABLE c (a INT, b AS a + nope) WITH ('connector' = 'datagen');", "Column 'nope' not found", 33),
            ("CREATE TABLE c (a INT, WATERMARK FOR a AS a) WITH ('connector' = 'datagen');", "expected TIMESTAMP(3)", 38),
        ] {
            let error = prepare(&format!("{table}{sql}"), &[], &Args::default()).err().unwrap();
            assert!(error.message().contains(message), "{sql}: {error}");
            assert_eq!((error.span().line, error.span().column), (2, column), "{sql}: {error}");
        }
        // a connector that is not there matters only to those who use the table
        assert!(prepare("CREATE TABLE s (a INT) WITH ('connector' = 'pulsar');", &[], &Args::default()).unwrap().is_empty());
    }
}
