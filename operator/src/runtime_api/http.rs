//! [`RuntimeApi`] over HTTP/1.1.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{JobInfo, RuntimeApi, RuntimeError, SavepointInfo, SavepointRequest, SessionInfo, Submission};

type Body = Full<axum::body::Bytes>;

/// Answers are small; more than this is not ours.
const MOST_BYTES: usize = 1 << 20;
const QUESTION: Duration = Duration::from_secs(3);
/// A savepoint may be answered when it is complete; what takes longer is asked for with `GET /api/v1/job`.
const SAVEPOINT: Duration = Duration::from_secs(20);
/// A job that ends writes its last commit; what takes longer is looked for in the list of jobs.
const WITHDRAWAL: Duration = Duration::from_secs(15);

/// Asks pods directly, by their address.
pub struct HttpRuntime {
    client: Client<HttpConnector, Body>,
}

impl Default for HttpRuntime {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(2)));
        Self { client: Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build(connector) }
    }
}

impl HttpRuntime {
    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        address: &str,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        timeout: Duration,
    ) -> Result<A, RuntimeError> {
        let unreachable = |message: String| RuntimeError::Unreachable { address: address.to_owned(), message };
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| unreachable(e.to_string()))?,
            None => vec![],
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(bytes))
            .map_err(|e| unreachable(e.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| unreachable(source(&e)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.map_err(|e| unreachable(e.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        let (status, bytes) =
            tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| Err(unreachable(format!("no answer in {timeout:?}"))))?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&bytes);
            return Err(RuntimeError::Refused { status: status.as_u16(), message: message(&text) });
        }
        serde_json::from_slice(&bytes).map_err(|e| unreachable(format!("unexpected answer to {path}: {e}")))
    }
}

/// The innermost error is what says something: "Connection refused".
fn source(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

/// The `error` or `message` of a JSON answer, or the text.
fn message(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let field = ["message", "error"].iter().find_map(|f| value.get(f)?.as_str());
    field.unwrap_or(text.trim()).chars().take(500).collect()
}

impl RuntimeApi for HttpRuntime {
    fn job<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<JobInfo, RuntimeError>> {
        let path = if address.contains('/') { "" } else { "/api/v1/job" };
        self.call(Method::GET, address, path, None::<&()>, QUESTION).boxed()
    }

    fn savepoint<'a>(&'a self, address: &'a str, request: &'a SavepointRequest) -> BoxFuture<'a, Result<SavepointInfo, RuntimeError>> {
        self.call(Method::POST, address, "/savepoints", Some(request), SAVEPOINT).boxed()
    }

    fn session<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<SessionInfo, RuntimeError>> {
        self.call(Method::GET, host, "/api/v1/jobs", None::<&()>, QUESTION).boxed()
    }

    fn submit<'a>(&'a self, host: &'a str, name: &'a str, submission: &'a Submission) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            let path = format!("/api/v1/jobs/{name}");
            self.call::<serde_json::Value>(Method::PUT, host, &path, Some(submission), QUESTION).await.map(drop)
        }
        .boxed()
    }

    fn withdraw<'a>(&'a self, host: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            let path = format!("/api/v1/jobs/{name}");
            match self.call::<serde_json::Value>(Method::DELETE, host, &path, None::<&()>, WITHDRAWAL).await {
                Err(RuntimeError::Refused { status: 404, .. }) => Ok(()),
                other => other.map(drop),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::json;

    use super::*;
    use crate::runtime_api::{RuntimeState, SavepointState};

    #[tokio::test]
    async fn speaks_to_a_server() {
        let app = Router::new()
            .route(
                "/api/v1/job",
                get(|| async { Json(json!({"state": "RUNNING", "commits": 3, "lastCommit": "2026-01-01T00:00:00Z", "new": 1})) }),
            )
            .route("/api/v1/jobs", get(|| async { Json(json!({"slots": {"total": 2, "free": 1}, "jobs": [{"name": "etl", "tasks": 1}]})) }))
            .route(
                "/api/v1/jobs/etl",
                get(|| async { Json(json!({"state": "FINISHED", "process": {"running": true}})) })
                    .delete(|| async { (http::StatusCode::ACCEPTED, Json(json!({"state": "STOPPING"}))) })
                    .put(|Json(s): Json<Submission>| async move {
                        if s.tasks == 2 { Ok(Json(json!({}))) } else { Err((http::StatusCode::CONFLICT, "{\"error\": \"short\"}")) }
                    }),
            )
            .route(
                "/savepoints",
                post(|Json(r): Json<SavepointRequest>| async move {
                    if r.stop {
                        Ok(Json(json!({"directory": r.directory, "state": "COMPLETED"})))
                    } else {
                        Err((http::StatusCode::CONFLICT, "{\"error\": \"busy\"}"))
                    }
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let api = HttpRuntime::default();
        let job = api.job(&address).await.unwrap();
        assert_eq!((job.state, job.commits), (RuntimeState::Running, 3));
        let within = crate::names::session_job(&address, "etl");
        assert_eq!(api.job(&within).await.unwrap().state, RuntimeState::Finished);
        assert_eq!(api.session(&address).await.unwrap().slots.free, 1);
        api.submit(&address, "etl", &Submission { tasks: 2, ..Submission::default() }).await.unwrap();
        assert_eq!(api.submit(&address, "etl", &Submission::default()).await.unwrap_err().to_string(), "the job refused: short (HTTP 409)");
        api.withdraw(&address, "etl").await.unwrap();
        api.withdraw(&address, "nobody").await.unwrap();
        let mut request = SavepointRequest { directory: "/s".into(), stop: true, drain: false };
        assert_eq!(api.savepoint(&address, &request).await.unwrap().state, SavepointState::Completed);
        request.stop = false;
        assert_eq!(api.savepoint(&address, &request).await.unwrap_err().to_string(), "the job refused: busy (HTTP 409)");
        server.abort();
        let _ = server.await;
        assert!(matches!(HttpRuntime::default().job(&address).await, Err(RuntimeError::Unreachable { .. })));
    }
}
