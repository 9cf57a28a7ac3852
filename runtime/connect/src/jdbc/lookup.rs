//! Look-ups: the keys of a batch in one statement, several batches at a time, tried again if the server goes away for a moment.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use sluice_batch::{Batch, Result, SqlType};
use tokio::sync::{Mutex, oneshot};
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::catalog::Relation;
use super::client::{Connection, Failure, runtime, wait};
use super::decode::{Column, Raw};
use super::encode::{Parameter, Texts};
use super::sql::{self, LookupKey};
use super::table::JdbcTable;
use super::url::Target;
use crate::registry::LookupFactory;
use crate::{Answer, Found, Lookup, LookupInfo, LookupRequest, TableSpec};

pub(crate) const FACTORY: LookupFactory = LookupFactory { info, open };

/// Connections of one task; each works off one statement at a time.
const CONNECTIONS: usize = 4;
/// Keys of one statement.
const CHUNK: usize = 2048;

fn info(table: &TableSpec) -> Result<LookupInfo> {
    Ok(LookupInfo { cache: JdbcTable::new(table)?.cache })
}

fn open(spec: &TableSpec, request: &LookupRequest) -> Result<Box<dyn Lookup>> {
    let table = JdbcTable::new(spec)?;
    let (connection, sql) = wait(async {
        let connection = Connection::open(&table.target, request.time_zone).await?;
        let relation = Relation::find(&connection, &table.table_name).await?;
        let place = connection.place.as_str();
        let columns = request.columns.iter().map(|c| relation.read(spec, place, *c)).collect::<Result<Vec<_>>>()?;
        let keys = request.keys.iter().map(|(column, ty)| {
            relation.read(spec, place, *column)?;
            Ok(LookupKey::new(&relation.compared(spec, place, *column, &ty.kind)?, ty.kind.is_integer(), ty.kind.is_character()))
        });
        let keys = keys.collect::<Result<Vec<_>>>()?;
        Ok((connection, sql::lookup(&relation.name, &columns, &keys)))
    })?;
    let shared = Arc::new(Shared {
        target: table.target,
        time_zone: request.time_zone,
        sql,
        types: request.columns.iter().map(|c| spec.physical[*c].ty.clone()).collect(),
        retries: table.lookup_retries,
    });
    let sessions = (0..CONNECTIONS).map(|_| Arc::new(Mutex::new(None))).collect::<Vec<_>>();
    if let Some(first) = sessions.first() {
        *first.blocking_lock() = Some(wait(async { Ok(Session::prepare(connection, &shared.sql).await?) })?);
    }
    Ok(Box::new(JdbcLookup { shared, sessions, next: 0 }))
}

struct Shared {
    target: Target,
    time_zone: chrono_tz::Tz,
    sql: String,
    types: Vec<SqlType>,
    retries: u32,
}

struct Session {
    connection: Connection,
    statement: Statement,
}

impl Session {
    async fn prepare(connection: Connection, sql: &str) -> Result<Self, Failure> {
        let statement = connection.ask("cannot prepare to look up", connection.client.prepare(sql)).await?;
        Ok(Self { connection, statement })
    }
}

struct JdbcLookup {
    shared: Arc<Shared>,
    sessions: Vec<Arc<Mutex<Option<Session>>>>,
    next: usize,
}

impl Lookup for JdbcLookup {
    fn ask(&mut self, keys: &[ArrayRef]) -> Result<Answer> {
        let rows = keys.first().map_or(0, |k| k.len());
        let columns = keys.iter().map(|array| {
            let mut texts = Texts::default();
            texts.append(array)?;
            // No text of PostgreSQL's has one: it is found nowhere.
            texts.leave_out_nul();
            Ok(texts)
        });
        let columns = Arc::new(columns.collect::<Result<Vec<_>>>()?);
        let (answer, answered) = std::sync::mpsc::channel();
        let mut parts = vec![];
        for start in (0..rows).step_by(CHUNK) {
            let numbers: Vec<u32> = (start as u32..rows.min(start + CHUNK) as u32).collect();
            let (shared, columns) = (self.shared.clone(), columns.clone());
            let session = self.sessions[self.next % self.sessions.len()].clone();
            self.next += 1;
            let (sender, part) = oneshot::channel();
            parts.push(part);
            runtime()?.spawn(async move {
                let mut session = session.lock().await;
                // Nobody waits any more if the job has ended.
                let _ = sender.send(look_up(&shared, &mut session, &columns, &numbers).await);
            });
        }
        let types = self.shared.types.clone();
        runtime()?.spawn(async move {
            let mut found = vec![];
            for part in parts {
                match part.await {
                    Ok(Ok(part)) => found.push(part),
                    Ok(Err(error)) => {
                        let _ = answer.send(Err(error));
                        return;
                    }
                    Err(_) => return,
                }
            }
            let _ = answer.send(joined(found, &types));
        });
        Ok(Answer::new(answered))
    }
}

fn joined(found: Vec<Found>, types: &[SqlType]) -> Result<Found> {
    let keys = found.iter().flat_map(|f| f.keys.iter().copied()).collect();
    let rows: Vec<Batch> = found.into_iter().map(|f| f.rows).collect();
    let rows = match rows.is_empty() {
        true => Batch::new(types.iter().map(|t| arrow::array::new_empty_array(&t.to_arrow())).collect(), 0),
        false => Batch::concat(&rows)?,
    };
    Ok(Found { rows, keys })
}

/// Flink: `JdbcRowDataLookupFunction.lookup`, which waits a second longer behind each attempt.
async fn look_up(shared: &Shared, session: &mut Option<Session>, keys: &[Texts], numbers: &[u32]) -> Result<Found> {
    let mut attempt = 0;
    loop {
        let failure = match attempt_once(shared, session, keys, numbers).await {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        *session = None;
        if !failure.transient || attempt >= shared.retries {
            return Err(failure.error);
        }
        attempt += 1;
        tracing::warn!("{}; trying again ({attempt} of {})", failure.error, shared.retries);
        tokio::time::sleep(Duration::from_secs(u64::from(attempt))).await;
    }
}

async fn attempt_once(shared: &Shared, session: &mut Option<Session>, keys: &[Texts], numbers: &[u32]) -> Result<Found, Failure> {
    // What a server, pooler or firewall has closed meanwhile is no failure.
    if session.as_ref().is_some_and(|s| s.connection.client.is_closed()) {
        *session = None;
    }
    let Session { connection, statement } = match session {
        Some(session) => session,
        None => {
            let connection = Connection::open(&shared.target, shared.time_zone).await?;
            session.insert(Session::prepare(connection, &shared.sql).await?)
        }
    };
    let arrays: Vec<_> = keys.iter().map(|texts| Parameter { texts, rows: numbers }).collect();
    let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
    let rows = connection.ask("cannot look up", connection.client.query(&*statement, &parameters)).await?;
    let mut columns = shared.types.iter().map(Column::new).collect::<Result<Vec<_>>>().map_err(Failure::lasting)?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let wrong = |e: String| {
            let message = format!("PostgreSQL {}: cannot look up: {e}", connection.place);
            Failure::lasting(sluice_batch::Error::runtime(message))
        };
        let number: i64 = row.try_get(0).map_err(|e| wrong(e.to_string()))?;
        // Numbers count from 1 within the statement.
        let number = usize::try_from(number - 1).ok().and_then(|n| numbers.get(n)).copied();
        found.push(number.ok_or_else(|| wrong("internal: a key that was not asked for".into()))?);
        for (i, column) in columns.iter_mut().enumerate() {
            let raw: Option<Raw<'_>> = row.try_get(i + 1).map_err(|e| wrong(e.to_string()))?;
            column.push(raw.map(|r| r.0)).map_err(|e| wrong(format!("column {}: {e}", row.columns()[i + 1].name())))?;
        }
    }
    let columns = columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>>>().map_err(Failure::lasting)?;
    Ok(Found { rows: Batch::new(columns, rows.len()), keys: found })
}
