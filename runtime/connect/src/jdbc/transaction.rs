//! The transaction that all exactly-once tables of a job share: outputs and the commit's record become visible together.
//!
//! The record stands in `sluice_commits`, one row a pipeline, which is made in the schema of the connection. A start writes its generation
//! into the row; a commit updates the row only where it finds its own generation, so that who has been replaced writes nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use sluice_batch::{Error, Result, fail};

use tokio_postgres::types::ToSql;

use super::client::{Connection, Failure, wait};
use super::table::JdbcTable;
use super::url::Target;
use super::write::{Changes, Prepared, Statements};
use crate::TableSpec;
use crate::kafka::gate::Gate;
use crate::kafka::transaction::fenced;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS sluice_commits (pipeline text PRIMARY KEY, generation bigint NOT NULL, epoch bigint NOT NULL, \
                     record text NOT NULL, committed_at timestamptz NOT NULL DEFAULT now())";
const TAKE_OVER: &str = "INSERT INTO sluice_commits AS c (pipeline, generation, epoch, record) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (pipeline) DO UPDATE SET generation = EXCLUDED.generation, epoch = EXCLUDED.epoch, record = EXCLUDED.record, \
                         committed_at = now() WHERE c.generation < EXCLUDED.generation";
const COMMIT: &str = "UPDATE sluice_commits SET epoch = $3, record = $4, committed_at = now() WHERE pipeline = $1 AND generation = $2";

/// What a commit says of itself.
pub(crate) struct CommitRecord<'a> {
    pub generation: i64,
    pub epoch: i64,
    pub text: &'a str,
}

pub(crate) struct Transaction {
    target: Target,
    time_zone: chrono_tz::Tz,
    pipeline: String,
    /// Closed while a commit is under way.
    pub gate: Arc<Gate>,
    session: Mutex<Option<Session>>,
    /// Something that was written is not there any more: nothing more is.
    lost: AtomicBool,
}

struct Session {
    connection: Connection,
    /// Something has been sent that is not committed.
    begun: bool,
    prepared: HashMap<String, Prepared>,
}

/// Those tables of a job that are written exactly once.
fn exactly_once<'t>(tables: &[&'t TableSpec]) -> Result<Vec<(&'t TableSpec, JdbcTable)>> {
    let mut found = vec![];
    for spec in tables {
        let table = JdbcTable::new(spec)?;
        if table.sink.guarantee == "exactly-once" {
            found.push((*spec, table));
        }
    }
    Ok(found)
}

impl Transaction {
    /// The transaction of those tables that are written exactly once; `None`: there are none.
    ///
    /// # Errors
    /// If they are not in one database, or it cannot be reached.
    pub fn open(tables: &[&TableSpec], pipeline: &str, time_zone: chrono_tz::Tz) -> Result<Option<Self>> {
        let tables = exactly_once(tables)?;
        let Some((spec, first)) = tables.first() else { return Ok(None) };
        for (other, table) in &tables {
            if !table.target.is_same(&first.target) {
                let message = format!(
                    "tables '{}' and '{}' are in different databases or of different users: one transaction cannot write to both exactly once",
                    spec.name, other.name
                );
                return Err(Error::plan(message).at(other.span));
            }
        }
        let this = Self {
            target: first.target.clone(),
            time_zone,
            pipeline: pipeline.to_owned(),
            gate: Arc::default(),
            session: Mutex::new(None),
            lost: AtomicBool::new(false),
        };
        this.with(async |session| make_table(&session.connection).await)
            .map_err(|e| e.context(format!("table '{}'", spec.name)).at(spec.span))?;
        Ok(Some(this))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the connection; opens one if there is none, or if it was lost while nothing was on it. After a failure there is
    /// none, and the server takes back what was not committed.
    fn with<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T, Failure>) -> Result<T> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error::runtime(format!("PostgreSQL {}: the open transaction was lost", self.target.place)));
        }
        let mut guard = self.lock();
        let lost = |s: &Session| s.connection.client.is_closed();
        let mut session = match guard.take() {
            Some(session) if session.begun || !lost(&session) => session,
            _ => {
                let connection = wait(async { Ok(Connection::open(&self.target, self.time_zone).await?) })?;
                Session { connection, begun: false, prepared: HashMap::new() }
            }
        };
        let done = wait(async { Ok(work(&mut session).await?) });
        match &done {
            Ok(_) => *guard = Some(session),
            Err(_) => self.lost.store(session.begun, Ordering::Relaxed),
        }
        done
    }

    /// Writes changes of a table into the open transaction.
    ///
    /// # Errors
    /// If the server refuses; the transaction is lost then.
    pub fn apply(&self, statements: &Statements, changes: &Changes) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.with(async |session| {
            let prepared = match session.prepared.get(statements.id()) {
                Some(prepared) => prepared.clone(),
                None => {
                    let prepared = statements.prepare(&session.connection).await?;
                    session.prepared.insert(statements.id().to_owned(), prepared.clone());
                    prepared
                }
            };
            begin(session).await?;
            changes.apply(&session.connection, &prepared).await
        })
    }

    /// Makes visible what was written, together with the record, and opens the gate.
    ///
    /// # Errors
    /// If it could not be done; the error is the job's last one if another instance has taken over.
    pub fn commit(&self, record: Option<&CommitRecord<'_>>) -> Result<()> {
        fail::point("outputs-flushed");
        let updated = self.with(async |session| {
            begin(session).await?;
            let Some(record) = record else { return Ok(1) };
            let parameters: [&(dyn ToSql + Sync); 4] = [&self.pipeline, &record.generation, &record.epoch, &record.text];
            let update = session.connection.client.execute(COMMIT, &parameters);
            session.connection.ask("cannot write the commit's record", update).await
        })?;
        if updated != 1 {
            // What was written is taken back with the connection.
            *self.lock() = None;
            self.lost.store(true, Ordering::Relaxed);
            return Err(fenced(&format!("table sluice_commits of PostgreSQL {}", self.target.place)));
        }
        fail::point("offsets-sent");
        self.with(async |session| {
            session.connection.ask("cannot commit", session.connection.client.batch_execute("COMMIT")).await?;
            session.begun = false;
            Ok(())
        })?;
        self.gate.committed();
        self.gate.open();
        Ok(())
    }

    /// The record of the last commit.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn record(&self) -> Result<Option<String>> {
        self.with(async |session| {
            let sql = "SELECT record FROM sluice_commits WHERE pipeline = $1";
            let row =
                session.connection.ask("cannot read the last commit", session.connection.client.query_opt(sql, &[&self.pipeline])).await?;
            Ok(row.and_then(|r| r.try_get(0).ok()))
        })
    }

    /// From now on only this start commits.
    ///
    /// # Errors
    /// If a later one has begun.
    pub fn take_over(&self, record: &CommitRecord<'_>) -> Result<()> {
        let taken = self.with(async |session| {
            let parameters: [&(dyn ToSql + Sync); 4] = [&self.pipeline, &record.generation, &record.epoch, &record.text];
            let insert = session.connection.client.execute(TAKE_OVER, &parameters);
            session.connection.ask("cannot take the job over", insert).await
        })?;
        if taken == 1 { Ok(()) } else { Err(fenced(&format!("table sluice_commits of PostgreSQL {}", self.target.place))) }
    }
}

async fn begin(session: &mut Session) -> Result<(), Failure> {
    if !session.begun {
        session.connection.ask("cannot begin a transaction", session.connection.client.batch_execute("BEGIN")).await?;
        session.begun = true;
    }
    Ok(())
}

/// Makes the table of commits if it is not there; who may not make tables can have it made.
async fn make_table(connection: &Connection) -> Result<(), Failure> {
    let what = "cannot make the table sluice_commits";
    let there = connection.ask(what, connection.client.query_one("SELECT to_regclass('sluice_commits') IS NOT NULL", &[])).await?;
    if there.try_get(0).unwrap_or(false) {
        return Ok(());
    }
    match connection.ask(what, connection.client.batch_execute(TABLE)).await {
        // Two jobs make it at once.
        Err(f) if matches!(f.state.as_deref(), Some("23505" | "42P07")) => Ok(()),
        Err(mut f) if f.state.as_deref() == Some("42501") => {
            f.error = f
                .error
                .hint(format!("'sink.delivery-guarantee' = 'exactly-once' needs a table; let the database's owner make it: {TABLE}"));
            Err(f)
        }
        other => other,
    }
}
