//! What a running job serves over HTTP: health, metrics, how it is, savepoints.

mod job;
mod metrics;

pub use metrics::{CONTENT_TYPE as METRICS_TYPE, resident_bytes};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use sluice_batch::{Error, ErrorKind, Result};

use crate::task::requests::{Asked, Requests, SavepointState, Wish};
use crate::task::stats::Stats;

/// What the answers are made of.
#[derive(Clone)]
struct Served {
    stats: Arc<Stats>,
    requests: Arc<Requests>,
}

/// The HTTP server of a process; it ends when this is dropped, behind the answers that it is giving.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    /// Tells it to end.
    end: Option<tokio::sync::oneshot::Sender<()>>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

/// How long an answer may take when the job has ended.
const LAST_ANSWER: Duration = Duration::from_secs(2);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(serving) = self.serving.take() {
            // Whoever reads so slowly gets no answer.
            let _ = self.runtime.block_on(async { tokio::time::timeout(LAST_ANSWER, serving).await });
        }
    }
}

impl Server {
    /// Listens on `address` and answers what the router knows.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(address: SocketAddr, router: Router) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("http").enable_all().build()?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(address))
            .map_err(|e| Error::runtime(format!("cannot listen on {address}: {e}")).hint("choose another --http address"))?;
        tracing::info!("http on {}", listener.local_addr()?);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let serving = runtime.spawn(async move {
            let serve = axum::serve(listener, router).with_graceful_shutdown(async {
                let _ = ended.await;
            });
            if let Err(e) = serve.await {
                tracing::error!("http server ended: {e}");
            }
        });
        Ok(Self { runtime, end: Some(end), serving: Some(serving) })
    }
}

/// What a job answers: `/livez`, `/readyz`, `/metrics`, `GET /api/v1/job`, `GET /api/v1/state` and `POST /savepoints`.
pub fn of_job(stats: Arc<Stats>, requests: Arc<Requests>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/job", get(job::job))
        .route("/api/v1/state", get(state))
        .route("/savepoints", post(savepoint))
        .with_state(Served { stats, requests })
}

/// Answers when the savepoint is there: 200 and its directory; 202 to whoever asks for one again that is being taken; 400 for what cannot
/// be; 409 if the job cannot; 500 if it cannot be written.
async fn savepoint(State(served): State<Served>, wish: Result<Json<Wish>, JsonRejection>) -> (StatusCode, Json<serde_json::Value>) {
    let refused = |status: StatusCode, message: String| (status, Json(serde_json::json!({"error": message})));
    let done = |directory: &str| {
        let body = serde_json::json!({"directory": directory, "state": SavepointState::Completed});
        (StatusCode::OK, Json(body))
    };
    let wish = match wish {
        Ok(Json(wish)) => wish,
        Err(e) => return refused(StatusCode::BAD_REQUEST, e.body_text()),
    };
    // Asking looks at the directory, which may be far away.
    let asked = tokio::task::spawn_blocking(move || served.requests.ask(wish)).await;
    let answer = match asked.unwrap_or_else(|_| Err(Error::runtime("the request broke off"))) {
        Ok(Asked::Waiting(answer)) => answer,
        Ok(Asked::Known(known)) if known.state == SavepointState::Completed => return done(&known.directory),
        Ok(Asked::Known(known)) => return (StatusCode::ACCEPTED, Json(serde_json::json!(known))),
        Err(e) if e.kind() == ErrorKind::Plan => return refused(StatusCode::BAD_REQUEST, e.to_string()),
        Err(e) => return refused(StatusCode::CONFLICT, e.to_string()),
    };
    match tokio::task::spawn_blocking(move || answer.recv()).await {
        Ok(Ok(Ok(directory))) => done(&directory),
        Ok(Ok(Err(e))) => refused(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
        _ => refused(StatusCode::INTERNAL_SERVER_ERROR, "the job has ended".into()),
    }
}

/// What a savepoint of the job would hold (its `manifest.json`, without rows and files), so that other SQL can be checked against it; 503
/// before the job has begun.
async fn state(State(served): State<Served>) -> impl IntoResponse {
    match served.requests.manifest() {
        Some(manifest) => (StatusCode::OK, Json(serde_json::json!(*manifest))),
        None => (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::json!({"error": "starting"}))),
    }
}

async fn ready(State(Served { stats, .. }): State<Served>) -> (StatusCode, &'static str) {
    if stats.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") }
}

async fn metrics(State(Served { stats, .. }): State<Served>) -> impl IntoResponse {
    match metrics::render(&stats) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], e.to_string()),
    }
}
