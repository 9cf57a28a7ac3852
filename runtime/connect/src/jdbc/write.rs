//! Rows to be written: the last change of each key, in statements for many rows.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use sluice_batch::{Batch, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::catalog::Relation;
use super::client::{Connection, Failure, runtime};
use super::encode::{Parameter, Texts};
use super::table::JdbcTable;
use super::url::Target;
use super::{client, sql};
use crate::sent::Sent;
use crate::{Later, TableSpec};

/// Rows of one statement at most.
const CHUNK: usize = 10_000;

/// What writes a table.
#[derive(Clone, Debug)]
pub(crate) struct Statements {
    insert: String,
    delete: Option<String>,
}

impl Statements {
    /// Looks the table up.
    ///
    /// # Errors
    /// If it is not there, lacks a column, or has one of another type.
    pub async fn new(connection: &Connection, spec: &TableSpec, table: &JdbcTable) -> Result<Self, Failure> {
        let relation = Relation::find(connection, &table.table_name).await?;
        let columns = (0..spec.physical.len()).map(|c| relation.written(spec, &connection.place, c));
        let columns = columns.collect::<Result<Vec<_>>>().map_err(Failure::lasting)?;
        let key = spec.primary_key.as_deref();
        // Keys that are one for the server may not come twice in a statement.
        let mut distinct = columns.clone();
        let mut merges = false;
        for column in key.unwrap_or_default() {
            if let Some(ty) = relation.merges(spec, &connection.place, *column).map_err(Failure::lasting)? {
                (distinct[*column].ty, merges) = (ty, true);
            }
        }
        Ok(Self {
            insert: sql::insert(&relation.name, &distinct, key, merges),
            delete: key.map(|k| sql::delete(&relation.name, &columns, k)),
        })
    }

    /// Has the server read the statements.
    ///
    /// # Errors
    /// If it finds fault with them: no unique index for the key.
    pub async fn prepare(&self, connection: &Connection) -> Result<Prepared, Failure> {
        let what = "cannot prepare to write";
        let insert = connection.ask(what, connection.client.prepare(&self.insert)).await?;
        let delete = match &self.delete {
            Some(delete) => Some(connection.ask(what, connection.client.prepare(delete)).await?),
            None => None,
        };
        Ok(Prepared { insert, delete })
    }

    /// What tells the statements of one table from those of others.
    pub fn id(&self) -> &str {
        &self.insert
    }
}

/// The statements as a connection knows them.
#[derive(Clone)]
pub(crate) struct Prepared {
    insert: Statement,
    delete: Option<Statement>,
}

/// Changes in the order in which they came.
#[derive(Default)]
pub(crate) struct Changes {
    columns: Vec<Texts>,
    deletes: Vec<bool>,
    key: Option<Vec<usize>>,
    /// By key, the row of its last change.
    last: HashMap<Box<[u8]>, u32>,
    scratch: Vec<u8>,
}

impl Changes {
    /// Of a table of `width` columns.
    pub fn new(width: usize, key: Option<Vec<usize>>) -> Self {
        Self { columns: (0..width).map(|_| Texts::default()).collect(), key, ..Self::default() }
    }

    /// New ones for the same table; these are the answer.
    pub fn take(&mut self) -> Self {
        let empty = Self::new(self.columns.len(), self.key.clone());
        std::mem::replace(self, empty)
    }

    pub fn len(&self) -> usize {
        self.deletes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty()
    }

    /// Bytes held, about.
    pub fn size(&self) -> usize {
        self.columns.iter().map(Texts::size).sum::<usize>() + 64 * self.last.len()
    }

    /// # Errors
    /// If a value has no text.
    pub fn push(&mut self, batch: &Batch) -> Result<()> {
        let first = self.deletes.len();
        for (texts, array) in self.columns.iter_mut().zip(batch.columns()) {
            texts.append(array)?;
        }
        self.deletes.extend((0..batch.rows()).map(|row| !batch.kind(row).is_addition()));
        let Some(key) = &self.key else { return Ok(()) };
        for row in first..self.deletes.len() {
            self.scratch.clear();
            for column in key {
                let text = self.columns[*column].get(row).unwrap_or_default();
                self.scratch.extend_from_slice(&(text.len() as u64).to_be_bytes());
                self.scratch.extend_from_slice(text);
            }
            match self.last.get_mut(self.scratch.as_slice()) {
                Some(last) => *last = row as u32,
                None => {
                    self.last.insert(self.scratch.as_slice().into(), row as u32);
                }
            }
        }
        Ok(())
    }

    /// Rows to write and rows to delete.
    fn rows(&self) -> (Vec<u32>, Vec<u32>) {
        let mut rows: Vec<u32> = match &self.key {
            Some(_) => self.last.values().copied().collect(),
            None => (0..self.deletes.len() as u32).collect(),
        };
        rows.sort_unstable();
        rows.into_iter().partition(|row| !self.deletes[*row as usize])
    }

    /// Writes them.
    ///
    /// # Errors
    /// What the server says.
    pub async fn apply(&self, connection: &Connection, prepared: &Prepared) -> Result<(), Failure> {
        let (writes, deletes) = self.rows();
        if let (Some(delete), Some(key)) = (&prepared.delete, &self.key) {
            let columns: Vec<&Texts> = key.iter().map(|k| &self.columns[*k]).collect();
            execute(connection, "cannot delete rows", delete, &columns, &deletes).await?;
        }
        let columns: Vec<&Texts> = self.columns.iter().collect();
        execute(connection, "cannot write rows", &prepared.insert, &columns, &writes).await
    }
}

async fn execute(connection: &Connection, what: &str, statement: &Statement, columns: &[&Texts], rows: &[u32]) -> Result<(), Failure> {
    for rows in rows.chunks(CHUNK) {
        let arrays: Vec<_> = columns.iter().map(|texts| Parameter { texts, rows }).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        connection.ask(what, connection.client.execute(statement, &parameters)).await?;
    }
    Ok(())
}

/// Writes in the background, one change set behind the other, and tries again if the server goes away for a moment.
pub(crate) struct Writer {
    sender: Option<mpsc::Sender<Changes>>,
    task: JoinHandle<()>,
    arrived: Arc<Sent>,
    sent: u64,
}

impl Writer {
    /// # Errors
    /// If there are no threads for it.
    pub fn new(
        target: Target,
        time_zone: chrono_tz::Tz,
        open: (Connection, Prepared),
        statements: Statements,
        retries: u32,
    ) -> Result<Self> {
        let (sender, mut queue) = mpsc::channel::<Changes>(1);
        let arrived = Arc::new(Sent::default());
        let reported = arrived.clone();
        let task = runtime()?.spawn(async move {
            let mut session = Some(open);
            while let Some(changes) = queue.recv().await {
                let written = persist(&changes, &mut session, &target, time_zone, &statements, retries).await;
                let failed = written.is_err();
                reported.end(written);
                if failed {
                    return;
                }
            }
        });
        Ok(Self { sender: Some(sender), task, arrived, sent: 0 })
    }

    /// Takes changes; waits while two sets are on their way.
    ///
    /// # Errors
    /// If earlier ones could not be written.
    pub fn write(&mut self, changes: Changes) -> Result<()> {
        self.arrived.check()?;
        self.sent += 1;
        match &self.sender {
            Some(sender) if sender.blocking_send(changes).is_ok() => Ok(()),
            // It has ended, and has said why.
            _ => self.arrived.wait(self.sent),
        }
    }

    /// Waits until all that it was given is written.
    pub fn later(&self) -> Later {
        let (arrived, sent) = (self.arrived.clone(), self.sent);
        Box::new(move || arrived.wait(sent))
    }
}

impl Drop for Writer {
    /// What is not written now is written by the job's next life, and not beside it.
    fn drop(&mut self) {
        self.sender = None;
        self.task.abort();
        let until = std::time::Instant::now() + Duration::from_secs(5);
        while !self.task.is_finished() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Flink: `JdbcOutputFormat.flush`, which waits a second longer behind each attempt.
async fn persist(
    changes: &Changes,
    session: &mut Option<(Connection, Prepared)>,
    target: &Target,
    time_zone: chrono_tz::Tz,
    statements: &Statements,
    retries: u32,
) -> Result<()> {
    let mut attempt = 0;
    loop {
        let failure = match attempt_once(changes, session, target, time_zone, statements).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        *session = None;
        if !failure.transient || attempt >= retries {
            return Err(failure.error);
        }
        attempt += 1;
        tracing::warn!("{}; trying again ({attempt} of {retries})", failure.error);
        tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
    }
}

async fn attempt_once(
    changes: &Changes,
    session: &mut Option<(Connection, Prepared)>,
    target: &Target,
    time_zone: chrono_tz::Tz,
    statements: &Statements,
) -> Result<(), Failure> {
    // One that a server, pooler or firewall has closed meanwhile is no failure.
    if session.as_ref().is_none_or(|(connection, _)| connection.client.is_closed()) {
        let connection = Connection::open(target, time_zone).await?;
        let prepared = statements.prepare(&connection).await?;
        *session = Some((connection, prepared));
    }
    match session {
        Some((connection, prepared)) => changes.apply(connection, prepared).await,
        None => Ok(()),
    }
}

/// Opens a connection and has it read the statements of a table.
///
/// # Errors
/// If the server is away, or the table is not as declared.
pub(crate) fn open(spec: &TableSpec, table: &JdbcTable, time_zone: chrono_tz::Tz) -> Result<(Connection, Prepared, Statements)> {
    client::wait(async {
        let connection = Connection::open(&table.target, time_zone).await?;
        let statements = Statements::new(&connection, spec, table).await?;
        let prepared = statements.prepare(&connection).await?;
        Ok((connection, prepared, statements))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{Int32Array, StringArray};
    use sluice_batch::RowKind;

    use super::*;

    #[test]
    fn the_last_change_of_a_key_counts() {
        let rows = |kinds: &[RowKind]| {
            let ids = Int32Array::from(vec![1, 2, 1, 3, 3]);
            let names = StringArray::from(vec!["a", "b", "c", "d", "e"]);
            Batch::with_kinds(vec![Arc::new(ids), Arc::new(names)], Some(Arc::from(kinds)), 5)
        };
        use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
        let mut changes = Changes::new(2, Some(vec![0]));
        changes.push(&rows(&[Insert, Insert, UpdateAfter, Insert, Delete])).unwrap();
        assert_eq!(changes.rows(), (vec![1, 2], vec![4]));
        changes.push(&rows(&[UpdateBefore, Delete, UpdateAfter, UpdateAfter, Delete])).unwrap();
        assert_eq!(changes.rows(), (vec![7], vec![6, 9]));
        let taken = changes.take();
        assert!(changes.is_empty() && taken.len() == 10 && changes.columns.len() == 2);
        let mut plain = Changes::new(2, None);
        plain.push(&rows(&[Insert; 5])).unwrap();
        assert_eq!(plain.rows(), (vec![0, 1, 2, 3, 4], vec![]));
    }
}
