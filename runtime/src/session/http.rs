//! The session's REST API. What a job itself has to say is asked of its process.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::{Refusal, Session, Submission, metrics};
use crate::server::METRICS_TYPE;

/// How long a job's process may take to say how it is.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a deletion is waited for before it is answered that it is under way.
const GONE: Duration = Duration::from_secs(10);
/// Larger answers are none of ours.
const MOST_BYTES: u64 = 64 << 20;

type Shared = State<Arc<Session>>;

pub fn router(session: Arc<Session>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(all_metrics))
        .route("/api/v1/jobs", get(list))
        .route("/api/v1/jobs/{name}", get(job).put(submit).delete(remove))
        .route("/api/v1/jobs/{name}/state", get(state))
        .route("/api/v1/jobs/{name}/savepoints", post(savepoint))
        .with_state(session)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Invalid(message) => (StatusCode::BAD_REQUEST, message),
            Self::Conflict(message) => (StatusCode::CONFLICT, message),
            Self::Unknown(message) => (StatusCode::NOT_FOUND, message),
            Self::Closing => (StatusCode::SERVICE_UNAVAILABLE, "the session is being stopped".into()),
        };
        error(status, &message)
    }
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"error": message}))).into_response()
}

async fn list(State(session): Shared) -> Json<Value> {
    let (total, free) = session.slots();
    Json(json!({"slots": {"total": total, "free": free}, "jobs": session.views()}))
}

async fn submit(
    State(session): Shared,
    Path(name): Path<String>,
    body: Result<Json<Submission>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Response> {
    let Json(submission) = body.map_err(|e| error(StatusCode::BAD_REQUEST, &e.body_text()))?;
    let new = session.submit(&name, submission).map_err(Refusal::into_response)?;
    let (view, _) = session.view(&name).map_err(Refusal::into_response)?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(json!(view))))
}

/// What the session knows of a job, and what its process says.
async fn job(State(session): Shared, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let (view, port) = session.view(&name)?;
    let said = match port {
        Some(port) => ask(port, "/api/v1/job").await.ok().filter(|(status, _)| status.is_success()),
        None => None,
    };
    let said = said.and_then(|(_, bytes)| serde_json::from_slice::<Value>(&bytes).ok());
    let mut answer = said.unwrap_or_else(|| {
        let failure = view.process.ended.as_ref().map(|e| format!("exit code {}: {}", e.exit_code, e.message));
        match port {
            Some(_) => json!({"state": "INITIALIZING", "commits": 0, "rowsIn": 0, "rowsOut": 0}),
            None => json!({"state": "RESTARTING", "commits": 0, "rowsIn": 0, "rowsOut": 0, "failure": failure}),
        }
    });
    if let (Some(answer), Value::Object(view)) = (answer.as_object_mut(), json!(view)) {
        answer.extend(view);
    }
    Ok(Json(answer))
}

async fn state(State(session): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    let (_, port) = session.view(&name)?;
    Ok(passed_on(&name, port, async |port| ask(port, "/api/v1/state").await).await)
}

/// Answers when the savepoint is there, however long that takes.
async fn savepoint(State(session): Shared, Path(name): Path<String>, body: Bytes) -> Result<Response, Refusal> {
    let (_, port) = session.view(&name)?;
    let call = async |port: u16| {
        blocking(move || {
            let request = ureq::post(format!("http://127.0.0.1:{port}/savepoints")).header("Content-Type", "application/json");
            request.config().http_status_as_error(false).build().send(&body[..])
        })
        .await
    };
    Ok(passed_on(&name, port, call).await)
}

/// The answer of a job's process, or why there is none.
async fn passed_on(name: &str, port: Option<u16>, call: impl AsyncFnOnce(u16) -> Result<(StatusCode, Vec<u8>), String>) -> Response {
    let Some(port) = port else {
        return error(StatusCode::SERVICE_UNAVAILABLE, &format!("the job '{name}' has no process: it is to be started"));
    };
    match call(port).await {
        Ok((status, bytes)) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(e) => error(StatusCode::SERVICE_UNAVAILABLE, &format!("the job '{name}' does not answer: {e}")),
    }
}

async fn ask(port: u16, path: &'static str) -> Result<(StatusCode, Vec<u8>), String> {
    blocking(move || {
        let request = ureq::get(format!("http://127.0.0.1:{port}{path}")).config().http_status_as_error(false);
        request.timeout_global(Some(ANSWER)).build().call()
    })
    .await
}

async fn blocking(
    call: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
) -> Result<(StatusCode, Vec<u8>), String> {
    let read = move || -> Result<(StatusCode, Vec<u8>), String> {
        let mut response = call().map_err(|e| e.to_string())?;
        let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
        let bytes = response.body_mut().with_config().limit(MOST_BYTES).read_to_vec().map_err(|e| e.to_string())?;
        Ok((status, bytes))
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err("the request broke off".into()))
}

async fn remove(State(session): Shared, Path(name): Path<String>) -> Result<(StatusCode, Json<Value>), Refusal> {
    session.remove(&name)?;
    let gone = async {
        while session.has(&name) {
            tokio::time::sleep(super::TICK).await;
        }
    };
    Ok(match tokio::time::timeout(GONE, gone).await {
        Ok(()) => (StatusCode::OK, Json(json!({"name": name, "state": "DELETED"}))),
        Err(_) => (StatusCode::ACCEPTED, Json(json!({"name": name, "state": "STOPPING"}))),
    })
}

async fn all_metrics(State(session): Shared) -> impl IntoResponse {
    let mut texts = vec![];
    for (name, port) in session.ports() {
        if let Ok((StatusCode::OK, bytes)) = ask(port, "/metrics").await {
            texts.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    ([(header::CONTENT_TYPE, METRICS_TYPE)], metrics::merge(&own_metrics(&session), &texts))
}

/// Those of the session itself.
fn own_metrics(session: &Session) -> String {
    let ((total, free), views) = (session.slots(), session.views());
    let mut out = String::new();
    for (name, help, value) in [
        ("slots", "Tasks that may run at once", total as usize),
        ("slots_free", "Slots that no job has", free as usize),
        ("jobs", "Jobs that were submitted", views.len()),
        ("processes", "Jobs whose process is there", views.iter().filter(|v| v.process.running).count()),
    ] {
        let name = format!("sluice_session_{name}");
        out.push_str(&format!("# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}\n"));
    }
    let name = "sluice_session_process_restarts";
    out.push_str(&format!("# HELP {name} How often a job's process was started again.\n# TYPE {name} counter\n"));
    for view in views {
        out.push_str(&format!("{name}_total{{job_name=\"{}\"}} {}\n", view.name, view.process.restarts));
    }
    out
}
