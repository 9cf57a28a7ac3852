//! A savepoint as a directory: `manifest.json` and one Parquet file a state table.

use std::fs;
use std::path::Path;

use sluice_batch::{Error, Result};

use crate::manifest::{self, Manifest};
use crate::typed::{Calls, Reader, Typed};
use crate::{OperatorState, SourceState, table};

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
    /// Without the sources' watermarks: a job started from a savepoint takes its time from what it reads, as Flink's does. (A job that
    /// goes on after a crash keeps them: its output is that of an uninterrupted run.)
    pub fn with_new_time(mut self) -> Self {
        self.sources.iter_mut().for_each(|s| s.watermark = None);
        self
    }

    /// Writes it; the manifest last, so that a directory with one is complete.
    ///
    /// # Errors
    /// If the directory holds a savepoint already, or cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        self.write_with(directory, &|_| None)
    }

    /// The same, with `calls` by the operator's identity: results of aggregates become columns of the files.
    ///
    /// # Errors
    /// As [`Savepoint::write`].
    pub fn write_with(&self, directory: &Path, calls: &dyn Fn(&str) -> Option<Calls>) -> Result<()> {
        let failed = |e: std::io::Error| Error::runtime(format!("savepoint {}: {e}", directory.display()));
        if directory.join(MANIFEST).exists() {
            return Err(Error::runtime(format!("{} holds a savepoint already", directory.display())).hint("name a new directory"));
        }
        fs::create_dir_all(directory).map_err(failed)?;
        let mut operators = vec![];
        for operator in &self.operators {
            let calls = calls(&operator.identity);
            let mut tables = vec![];
            for (name, rows) in &operator.tables {
                let file = format!("{}.{name}.parquet", file_name(&operator.identity));
                let columns = write_table(&directory.join(&file), operator, name, rows, calls.as_ref())?;
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
            sources: self.sources.iter().map(manifest::Source::from).collect(),
            operators,
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| failed(e.into()))?;
        let unfinished = directory.join(".manifest.json");
        fs::write(&unfinished, text).and_then(|()| fs::File::open(&unfinished)?.sync_all()).map_err(failed)?;
        fs::rename(&unfinished, directory.join(MANIFEST)).map_err(failed)?;
        fs::File::open(directory).and_then(|d| d.sync_all()).map_err(failed)
    }

    /// Reads only the manifest.
    ///
    /// # Errors
    /// If it is not there or is of a layout that this version does not know.
    pub fn manifest(directory: &Path) -> Result<Manifest> {
        let failed = |e: String| Error::runtime(format!("savepoint {}: {e}", directory.display()));
        let text = fs::read_to_string(directory.join(MANIFEST)).map_err(|e| failed(format!("cannot read {MANIFEST}: {e}")))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| failed(format!("{MANIFEST}: {e}")))?;
        if manifest.format != manifest::FORMAT {
            return Err(failed(format!("its layout is {}, this version reads {}", manifest.format, manifest::FORMAT)));
        }
        Ok(manifest)
    }

    /// Deletes a savepoint: the manifest first, so that what is left after a failure is none.
    ///
    /// # Errors
    /// If there is none, or a file cannot be deleted.
    pub fn delete(directory: &Path) -> Result<()> {
        let manifest = Self::manifest(directory)?;
        let failed = |e: std::io::Error| Error::runtime(format!("savepoint {}: {e}", directory.display()));
        fs::remove_file(directory.join(MANIFEST)).map_err(failed)?;
        for table in manifest.operators.iter().flat_map(|o| &o.tables) {
            // A name of the manifest must not lead out of the directory.
            let Some(name) = Path::new(&table.file).file_name() else { continue };
            match fs::remove_file(directory.join(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
        }
        match fs::remove_dir(directory) {
            // What others put there stays.
            Err(e) if e.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(failed(e)),
            _ => Ok(()),
        }
    }

    /// Reads a savepoint.
    ///
    /// # Errors
    /// If it is not there, is of a layout that this version does not know, or is damaged.
    pub fn read(directory: &Path) -> Result<Self> {
        let failed = |e: String| Error::runtime(format!("savepoint {}: {e}", directory.display()));
        let manifest = Self::manifest(directory)?;
        let mut operators = vec![];
        for operator in manifest.operators {
            let mut tables = crate::Tables::new();
            for t in operator.tables {
                let rows = table::read(&directory.join(&t.file))?;
                if rows.len() as u64 != t.rows {
                    return Err(failed(format!("{} has {} rows, the manifest says {}", t.file, rows.len(), t.rows)));
                }
                tables.insert(t.name, rows);
            }
            operators.push(OperatorState { identity: operator.identity, kind: operator.kind, tables, layout: operator.layout });
        }
        Ok(Self { sql: manifest.sql, sources: manifest.sources.into_iter().map(SourceState::from).collect(), operators })
    }
}

/// Identities are of letters, digits, `-` and `/`.
fn file_name(identity: &str) -> String {
    identity.replace('/', "_")
}

/// Writes a table, with readable columns if they can be made: what a restore needs must not depend on them.
fn write_table(
    path: &Path,
    operator: &OperatorState,
    name: &str,
    rows: &[(Vec<u8>, Vec<u8>)],
    calls: Option<&Calls>,
) -> Result<Vec<manifest::Column>> {
    let layout = operator.layout.tables.iter().find(|t| t.name == name);
    let reader = layout.and_then(|l| Reader::new(l, calls).ok());
    if let Some(reader) = &reader {
        match table::write(path, rows, Some(reader)) {
            Ok(()) => {
                let column = |c: &Typed| manifest::Column { name: c.name.clone(), ty: c.sql_type.clone(), key: c.key };
                return Ok(reader.columns().iter().map(column).collect());
            }
            Err(e) => tracing::warn!("savepoint: no readable columns for the state of {}: {e}", operator.kind),
        }
    }
    table::write(path, rows, None)?;
    Ok(vec![])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<_> = (0..20_000u32).map(|i| (i.to_be_bytes().to_vec(), vec![7; (i % 5) as usize])).collect();
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
                tables: [("left".to_owned(), rows), ("right".to_owned(), vec![])].into(),
                layout: Default::default(),
            }],
        };
        let at = dir.path().join("sp");
        savepoint.write(&at).unwrap();
        assert_eq!(Savepoint::read(&at).unwrap(), savepoint);
        assert!(savepoint.write(&at).unwrap_err().message().contains("already"));
        fs::remove_file(at.join("manifest.json")).unwrap();
        assert!(Savepoint::read(&at).unwrap_err().message().contains("manifest.json"));
    }
}
