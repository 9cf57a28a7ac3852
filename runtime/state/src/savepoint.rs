//! A savepoint as a directory (on a disk or in an object store): `manifest.json` and one Parquet file a state table.

use std::path::Path;
use std::sync::Arc;

use sluice_batch::{Error, Result, fail};

use crate::manifest::{self, Manifest, Table};
use crate::migrate::migrate_rows;
use crate::storage::Storage;
use crate::typed::{Calls, Reader, Typed};
use crate::{Layout, OperatorState, Rows, SourceState, Tables, table};

/// The file that makes a directory a savepoint.
pub const MANIFEST: &str = "manifest.json";

/// The whole state of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Savepoint {
    pub sql: String,
    pub sources: Vec<SourceState>,
    /// Only operators that have state.
    pub operators: Vec<OperatorState>,
}

impl Savepoint {
    /// That a directory can take a savepoint.
    ///
    /// # Errors
    /// If it holds one already, or cannot be written.
    pub fn check_new(directory: &dyn Storage) -> Result<()> {
        if directory.size(MANIFEST)?.is_some() {
            return Err(Error::runtime(format!("{} holds a savepoint already", directory.place(""))).hint("name a new directory"));
        }
        directory.prepare()
    }

    /// Writes it; the manifest last, so that a directory with one is complete.
    ///
    /// # Errors
    /// If the directory holds a savepoint already, or cannot be written.
    pub fn write(&self, directory: &Arc<dyn Storage>) -> Result<()> {
        self.write_with(directory, &|_| None)
    }

    /// The same, with `calls` by the operator's identity: results of aggregates become columns of the files.
    ///
    /// # Errors
    /// As [`Savepoint::write`].
    pub fn write_with(&self, directory: &Arc<dyn Storage>, calls: &dyn Fn(&str) -> Option<Calls>) -> Result<()> {
        Self::check_new(directory.as_ref())?;
        let mut operators = vec![];
        for operator in &self.operators {
            let calls = calls(&operator.identity);
            let mut tables = vec![];
            for (name, rows) in &operator.tables {
                let file = format!("{}.{name}.parquet", file_name(&operator.identity));
                // What is there is of a savepoint that was not finished: it has no manifest.
                directory.delete(&file)?;
                let columns = write_table(directory, &file, operator, name, rows, calls.as_ref())?;
                tables.push(manifest::Table { name: name.clone(), file, rows: rows.len() as u64, columns });
            }
            operators.push(manifest::Operator {
                identity: operator.identity.clone(),
                kind: operator.kind.clone(),
                tables,
                layout: operator.layout.clone(),
            });
        }
        let manifest = Manifest {
            format: manifest::FORMAT,
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            created: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            sql: self.sql.clone(),
            sources: self.sources.clone(),
            operators,
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| failed(directory.as_ref(), e))?;
        fail::point("savepoint-without-manifest");
        match directory.replace(MANIFEST, &text, None) {
            // It is no job that has a rival here, but a directory.
            Err(e) if e.is_last() => Err(failed(directory.as_ref(), "another one was written at the same time")),
            written => written.map(|_| ()),
        }
    }

    /// Reads only the manifest.
    ///
    /// # Errors
    /// If it is not there or is of a layout that this version does not know.
    pub fn manifest(directory: &dyn Storage) -> Result<Manifest> {
        Self::find(directory)?.ok_or_else(|| Self::missing(directory))
    }

    /// The directory holds no savepoint.
    pub fn missing(directory: &dyn Storage) -> Error {
        failed(directory, format!("it has no {MANIFEST}"))
    }

    /// The manifest, if the directory holds a savepoint.
    ///
    /// # Errors
    /// If it cannot be read or is of a layout that this version does not know.
    pub fn find(directory: &dyn Storage) -> Result<Option<Manifest>> {
        let Some(text) = directory.read(MANIFEST)? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| failed(directory, format!("{MANIFEST}: {e}")))?;
        if manifest.format != manifest::FORMAT {
            return Err(failed(directory, format!("its layout is {}, this version reads {}", manifest.format, manifest::FORMAT)));
        }
        Ok(Some(manifest))
    }

    /// Deletes a savepoint: the manifest first, so that what is left after a failure is none. False: there is none.
    ///
    /// # Errors
    /// If its manifest cannot be read, or a file not be deleted.
    pub fn delete(directory: &dyn Storage) -> Result<bool> {
        let Some(manifest) = Self::find(directory)? else { return Ok(false) };
        directory.delete(MANIFEST)?;
        for table in manifest.operators.iter().flat_map(|o| &o.tables) {
            directory.delete(plain(&table.file))?;
        }
        // What others put there stays.
        directory.remove()?;
        Ok(true)
    }

    /// Reads all of a savepoint: jobs read the manifest, and rows as they need them ([`Saved`]).
    ///
    /// # Errors
    /// If it is not there, is of a layout that this version does not know, or is damaged.
    #[cfg(test)]
    fn read(directory: &Arc<dyn Storage>) -> Result<Self> {
        let manifest = Self::manifest(directory.as_ref())?;
        let mut operators = vec![];
        for operator in manifest.operators {
            let saved = Saved::new(directory, &operator, operator.identity.clone(), operator.layout.clone());
            let (identity, kind, layout) = (operator.identity, operator.kind, operator.layout);
            operators.push(OperatorState { identity, kind, tables: saved.load()?, layout });
        }
        Ok(Self { sql: manifest.sql, sources: manifest.sources, operators })
    }
}

/// The state of an operator of a savepoint, whose rows are read when they are needed.
#[derive(Clone)]
pub struct Saved {
    directory: Arc<dyn Storage>,
    tables: Vec<manifest::Table>,
    old: Layout,
    /// Under the identity of the job that is to have it.
    pub identity: String,
    pub kind: String,
    /// In which the rows are given.
    pub layout: Layout,
}

impl Saved {
    /// `identity`, `layout`: of the job that is to have it.
    pub fn new(directory: &Arc<dyn Storage>, operator: &manifest::Operator, identity: String, layout: Layout) -> Self {
        let (tables, old, kind) = (operator.tables.clone(), operator.layout.clone(), operator.kind.clone());
        Self { directory: directory.clone(), tables, old, identity, kind, layout }
    }

    /// Calls `each` with all rows, a part of a table at a time.
    ///
    /// # Errors
    /// If a file is missing or damaged, rows are not of the layout, or those of `each`.
    pub fn rows(&self, each: &mut dyn FnMut(&str, Rows) -> Result<()>) -> Result<()> {
        for Table { name, file, rows, .. } in &self.tables {
            let mut read = 0;
            table::read(&self.directory, plain(file), &mut |part| {
                read += part.len() as u64;
                let moved = migrate_rows(name, part, &self.old, &self.layout);
                match moved.map_err(|e| e.context(format!("the state of {}", self.kind)))? {
                    Some(part) => each(name, part),
                    None => Ok(()),
                }
            })?;
            if read != *rows {
                return Err(failed(self.directory.as_ref(), format!("{file} has {read} rows, the manifest says {rows}")));
            }
        }
        Ok(())
    }

    /// All rows.
    ///
    /// # Errors
    /// As [`Saved::rows`].
    pub fn load(&self) -> Result<Tables> {
        let mut tables: Tables = self.tables.iter().map(|t| (t.name.clone(), Rows::default())).collect();
        self.rows(&mut |table, part| {
            tables.entry(table.to_owned()).or_default().append(part);
            Ok(())
        })?;
        Ok(tables)
    }
}

fn failed(directory: &dyn Storage, what: impl std::fmt::Display) -> Error {
    Error::runtime(format!("savepoint {}: {what}", directory.place("")))
}

/// A name of the manifest must not lead out of the directory.
fn plain(file: &str) -> &str {
    Path::new(file).file_name().and_then(|n| n.to_str()).unwrap_or(file)
}

/// Identities are of letters, digits, `-` and `/`.
fn file_name(identity: &str) -> String {
    identity.replace('/', "_")
}

/// Writes a table, with readable columns if they can be made: what a restore needs must not depend on them.
fn write_table(
    directory: &Arc<dyn Storage>,
    file: &str,
    operator: &OperatorState,
    name: &str,
    rows: &Rows,
    calls: Option<&Calls>,
) -> Result<Vec<manifest::Column>> {
    let layout = operator.layout.tables.iter().find(|t| t.name == name);
    let reader = layout.and_then(|l| Reader::new(l, calls).ok());
    if let Some(reader) = &reader {
        match table::write(directory, file, rows, Some(reader)) {
            Ok(()) => {
                let column = |c: &Typed| manifest::Column { name: c.name.clone(), ty: c.sql_type.clone(), key: c.key };
                return Ok(reader.columns().iter().map(column).collect());
            }
            Err(e) => tracing::warn!("savepoint: no readable columns for the state of {}: {e}", operator.kind),
        }
    }
    table::write(directory, file, rows, None)?;
    Ok(vec![])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let rows: Rows = (0..20_000u32).map(|i| (i.to_be_bytes(), vec![7; (i % 5) as usize])).collect();
        let savepoint = Savepoint {
            sql: "INSERT INTO a SELECT * FROM b".into(),
            sources: vec![SourceState {
                identity: "s".into(),
                table: "b".into(),
                positions: vec![("b-0".into(), "17".into())],
                sinks: vec!["a".into()],
                watermark: Some(-5),
            }],
            operators: vec![OperatorState {
                identity: "Join-1".into(),
                kind: "Join".into(),
                tables: [("left".to_owned(), rows), ("right".to_owned(), Rows::default())].into(),
                layout: Default::default(),
            }],
        };
        let at = crate::storage::at(dir.path().join("sp").to_str().unwrap(), &Default::default()).unwrap();
        savepoint.write(&at).unwrap();
        assert_eq!(Savepoint::read(&at).unwrap(), savepoint);
        assert!(savepoint.write(&at).unwrap_err().message().contains("already"));
        at.delete(MANIFEST).unwrap();
        assert!(Savepoint::read(&at).unwrap_err().message().contains("manifest.json"));
        // Where one was begun another one can be.
        savepoint.write(&at).unwrap();
        assert_eq!(Savepoint::read(&at).unwrap(), savepoint);
        Savepoint::delete(at.as_ref()).unwrap();
        assert!(!dir.path().join("sp").exists());
    }
}
