//! What the operator serves: `/livez`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::metrics::CONTENT_TYPE;

/// Listens; the task ends with the process.
///
/// # Errors
/// If the address cannot be bound.
pub async fn start(address: SocketAddr, context: Arc<Context>) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|e| Error::Setup(format!("cannot listen on {address}: {e}")))?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(context)).await {
            tracing::error!("http server ended: {error}");
        }
    });
    Ok(())
}

fn router(context: Arc<Context>) -> Router {
    // A standby is ready, too: it is there to take over.
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .with_state(context)
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    match context.metrics.render() {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, CONTENT_TYPE)], text),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], e.to_string()),
    }
}
