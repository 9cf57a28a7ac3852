//! Scripts through parser, binder and planner, and texts compared with files.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::path::{Path, PathBuf};

use sluice_batch::{Error, Result};
use sluice_plan::{Graph, PlanOptions};
use sluice_sql::ast::Statement;
use sluice_sql::bind::{bind_insert, bind_query};
use sluice_sql::catalog::Catalog;
use sluice_sql::parser;
use sluice_sql::relation::BoundStatement;

/// The jobs of a script: INSERTs together, every query by itself.
pub fn plan_script(sql: &str) -> Result<Vec<Graph>> {
    plan_with(&mut Catalog::default(), sql)
}

/// As [`plan_script`], with what `catalog` has declared already.
pub fn plan_with(catalog: &mut Catalog, sql: &str) -> Result<Vec<Graph>> {
    let mut graphs = vec![];
    let mut inserts = vec![];
    for (statement, span) in parser::parse_script(sql)? {
        match &statement {
            Statement::Insert(insert) => inserts.push(bind_insert(insert, catalog)?),
            Statement::StatementSet { inserts: set, .. } => {
                for insert in set {
                    inserts.push(bind_insert(insert, catalog)?);
                }
            }
            Statement::Query(query) => {
                let bound = bind_query(query, catalog)?;
                graphs.push(plan(&[bound], catalog).map_err(|e| e.at(span))?);
            }
            Statement::Unsupported { what, span } => return Err(Error::unsupported(what).at(*span)),
            other => {
                catalog.apply(other).map_err(|e| e.at(span))?;
            }
        }
    }
    if !inserts.is_empty() {
        graphs.push(plan(&inserts, catalog)?);
    }
    Ok(graphs)
}

fn plan(statements: &[BoundStatement], catalog: &Catalog) -> Result<Graph> {
    sluice_plan::plan(statements, catalog, &PlanOptions::default())
}

/// What `sluice plan` prints of a script.
pub fn explain_script(sql: &str) -> Result<String> {
    Ok(plan_script(sql)?.iter().map(sluice_plan::explain).collect::<Vec<_>>().join("\n"))
}

/// A catalog in which `sql` has declared its tables.
pub fn catalog(sql: &str) -> Catalog {
    let mut catalog = Catalog::default();
    plan_with(&mut catalog, sql).unwrap_or_else(|e| panic!("{e}\n{sql}"));
    catalog
}

/// A folder beside this one.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The files of a folder with this extension, by name.
pub fn files(name: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder(name)).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == extension));
    files.sort();
    assert!(!files.is_empty(), "no .{extension} file in {name}");
    files
}

/// Compares `text` with a file; with `UPDATE_SNAPSHOTS=1` in the environment writes the file instead.
/// Returns what differs.
pub fn snapshot(file: &Path, text: &str) -> Option<String> {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(file, text).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    (expected != text).then(|| format!("{}:\n--- expected\n{expected}\n--- got\n{text}", file.display()))
}
