//! Connections: threads of the engine wait, a runtime of two threads talks to the servers.

use std::error::Error as _;
use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sluice_batch::{Error, Result};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use super::url::Target;

/// The runtime of all connections, begun with the first use.
///
/// # Errors
/// If its threads cannot be started.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let made =
        RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("jdbc").enable_all().build());
    made.as_ref().map_err(|e| Error::runtime(format!("cannot start the threads of the JDBC connector: {e}")))
}

/// Waits for the outside, on a thread of the engine.
///
/// # Errors
/// What the future gives.
pub(crate) fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(future)
}

/// What went wrong at the server or on the way.
pub(crate) struct Failure {
    pub error: Error,
    /// The same may work later.
    pub transient: bool,
    /// SQLSTATE, if the server has said something.
    pub state: Option<String>,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl Failure {
    /// Something that does not go away by waiting.
    pub fn lasting(error: Error) -> Self {
        Self { error, transient: false, state: None }
    }
}

/// Classes of SQLSTATE that come and go: connection, rollback (serialization, deadlock), resources, operator intervention; a standby that
/// is not yet or no longer the primary.
fn comes_and_goes(state: &str) -> bool {
    ["08", "40", "53", "57"].iter().any(|class| state.starts_with(class)) || matches!(state, "55P03" | "25006")
}

/// States that say that the table's definition is wrong, or what the user may do: no restart mends them.
fn is_of_the_definition(state: &str) -> bool {
    state.starts_with("28") || matches!(state, "3D000" | "42501" | "42P01" | "42703" | "3F000" | "42P10" | "428C9")
}

/// One connection.
pub(crate) struct Connection {
    pub client: Client,
    pub place: String,
    answer: Option<Duration>,
}

impl Connection {
    /// Connects and sets the session's time zone.
    ///
    /// # Errors
    /// If the server is away, or refuses.
    pub async fn open(target: &Target, time_zone: chrono_tz::Tz) -> Result<Self, Failure> {
        let tls = super::tls::connector(&target.tls).map_err(Failure::lasting)?;
        let (client, connection) = target.config.connect(tls).await.map_err(|e| failure(&e, &target.place, "cannot connect"))?;
        let place = target.place.clone();
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("{}", failure(&e, &place, "a connection has ended").error);
            }
        });
        let this = Self { client, place: target.place.clone(), answer: target.answer };
        let mut settings = format!("SET TIME ZONE '{time_zone}'");
        if let Some(schema) = &target.schema {
            // As the driver does: a list of names, as they are written.
            settings +=
                &format!("; SET search_path = {}", schema.split(',').map(|s| super::sql::folded(s.trim())).collect::<Vec<_>>().join(", "));
        }
        this.ask("cannot set up the session", this.client.batch_execute(&settings)).await?;
        Ok(this)
    }

    /// Waits for an answer, as long as `socketTimeout` says.
    ///
    /// # Errors
    /// What the server answers, with what was tried, or that it did not answer.
    pub async fn ask<T>(&self, what: &str, request: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
        let place = &self.place;
        let waiting = |so_far: Duration| {
            tracing::warn!("PostgreSQL {place}: {what} so far: no answer for {} s; does another session hold a lock?", so_far.as_secs());
        };
        match within(self.answer, SILENT, request, waiting).await {
            Some(answered) => answered.map_err(|e| failure(&e, place, what)),
            None => {
                let limit = self.answer.unwrap_or_default();
                let error = Error::runtime(format!("PostgreSQL {place}: {what}: no answer within {limit:?} ('socketTimeout')"));
                Err(Failure { error, transient: true, state: None })
            }
        }
    }
}

/// How long an answer is waited for without a word.
const SILENT: Duration = Duration::from_secs(10);

/// Waits for a future, at most so long (`None`), and says now and then that it does.
async fn within<T>(
    limit: Option<Duration>,
    silent: Duration,
    request: impl Future<Output = T>,
    mut waiting: impl FnMut(Duration),
) -> Option<T> {
    let (mut request, started) = (std::pin::pin!(request), Instant::now());
    loop {
        let left = limit.map(|l| l.saturating_sub(started.elapsed()));
        match tokio::time::timeout(left.map_or(silent, |l| l.min(silent)), &mut request).await {
            Ok(answer) => return Some(answer),
            Err(_) if limit.is_some_and(|l| started.elapsed() >= l) => return None,
            Err(_) => waiting(started.elapsed()),
        }
    }
}

/// An error of the client in our words.
pub(crate) fn failure(e: &tokio_postgres::Error, place: &str, what: &str) -> Failure {
    let Some(db) = e.as_db_error() else {
        let mut text = e.to_string();
        let mut cause = e.source();
        while let Some(e) = cause {
            text = format!("{text}: {e}");
            cause = e.source();
        }
        return Failure { error: Error::runtime(format!("PostgreSQL {place}: {what}: {text}")), transient: true, state: None };
    };
    let state = db.code().code();
    let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
    let message = format!("PostgreSQL {place}: {what}: {}{detail} (SQLSTATE {state})", db.message());
    let mut error = if is_of_the_definition(state) { Error::plan(message) } else { Error::runtime(message) };
    let hint = match state {
        "28P01" | "28000" => Some("see the options 'username' and 'password'"),
        "3D000" => Some("see the database in the option 'url'"),
        "42501" => Some("grant the user what the table's use needs"),
        "26000" | "42P05" => Some("is PgBouncer between? It keeps prepared statements from version 1.21 on, or in session mode"),
        "428C9" => Some("PostgreSQL makes the column's values itself: leave it out of the table definition"),
        "42P10" => Some("the PRIMARY KEY of the table definition must be a primary key or unique index in PostgreSQL"),
        _ => db.hint(),
    };
    if let Some(hint) = hint {
        error = error.hint(hint);
    }
    Failure { error, transient: comes_and_goes(state), state: Some(state.to_owned()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_waits_says_so() {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (mut answer, mut said) = (Some(answer), 0);
        let waiting = |_| {
            said += 1;
            if said == 2 {
                answer.take().unwrap().send(7).unwrap();
            }
        };
        let got = runtime().unwrap().block_on(within(None, Duration::from_millis(1), answered, waiting));
        assert_eq!(got.unwrap().unwrap(), 7);
        let nothing = std::future::pending::<()>();
        assert!(runtime().unwrap().block_on(within(Some(Duration::from_millis(5)), SILENT, nothing, |_| ())).is_none());
    }

    #[test]
    fn states_are_told_apart() {
        for state in ["08006", "40001", "40P01", "53300", "57P01", "57P03", "25006"] {
            assert!(comes_and_goes(state) && !is_of_the_definition(state), "{state}");
        }
        for state in ["28P01", "3D000", "42501", "42P01", "428C9"] {
            assert!(!comes_and_goes(state) && is_of_the_definition(state), "{state}");
        }
        assert!(!comes_and_goes("23505") && !is_of_the_definition("23505"));
    }
}
