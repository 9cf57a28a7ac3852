//! What a running job serves over HTTP: health and metrics.

mod metrics;

pub use metrics::resident_bytes;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use sluice_batch::{Error, Result};

use crate::task::stats::Stats;

/// The HTTP server of a process; it ends when this is dropped.
pub struct Server {
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Listens on `address` and answers `/livez`, `/readyz` and `/metrics`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn start(address: SocketAddr, stats: Arc<Stats>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("http").enable_all().build()?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(address))
            .map_err(|e| Error::runtime(format!("cannot listen on {address}: {e}")).hint("choose another --http address"))?;
        tracing::info!("http on {}", listener.local_addr()?);
        runtime.spawn(async move {
            if let Err(e) = axum::serve(listener, router(stats)).await {
                tracing::error!("http server ended: {e}");
            }
        });
        Ok(Self { _runtime: runtime })
    }
}

fn router(stats: Arc<Stats>) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(ready)).route("/metrics", get(metrics)).with_state(stats)
}

async fn ready(State(stats): State<Arc<Stats>>) -> (StatusCode, &'static str) {
    if stats.is_ready() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") }
}

async fn metrics(State(stats): State<Arc<Stats>>) -> impl IntoResponse {
    match metrics::render(&stats) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], e.to_string()),
    }
}
