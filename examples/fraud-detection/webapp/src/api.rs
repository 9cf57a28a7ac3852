//! The page, what it asks for, and what it is told by a WebSocket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Map, Value};
use tokio::sync::broadcast::error::RecvError;

use crate::Result;
use crate::app::App;

const STATES: [&str; 3] = ["ACTIVE", "PAUSE", "DRY_RUN"];
const COMMANDS: [&str; 4] = ["CLEAR_STATE_ALL", "CLEAR_STATE_ALL_STOP", "DELETE_RULES_ALL", "EXPORT_RULES_CURRENT"];

/// Serves until Ctrl-C or SIGTERM, or the job has ended.
pub async fn serve(listen: SocketAddr, app: Arc<App>, ended: Option<impl Fn() -> bool + Send>) -> Result<()> {
    let file = |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    let router = Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("../static/index.html")))
        .route("/app.js", file("text/javascript; charset=utf-8", include_str!("../static/app.js")))
        .route("/style.css", file("text/css; charset=utf-8", include_str!("../static/style.css")))
        .route("/ws", get(connect))
        .route("/api/rules", post(create))
        .route("/api/rules/{id}", axum::routing::delete(delete))
        .route("/api/rules/{id}/state/{state}", put(set_state))
        .route("/api/control/{command}", post(control))
        .route("/api/generator", put(generate))
        .with_state(app);
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(|e| format!("cannot listen on {listen}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    println!("http://{address}");
    let server = axum::serve(listener, router);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(|e| e.to_string())?;
    tokio::select! {
        served = server.into_future() => served.map_err(|e| e.to_string()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
        () = job_ended(ended) => Err("the job has ended".to_owned()),
    }
}

async fn job_ended(ended: Option<impl Fn() -> bool>) {
    let Some(ended) = ended else { return std::future::pending().await };
    while !ended() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn answer<T: IntoResponse>(result: Result<T>) -> Response {
    match result {
        Ok(value) => value.into_response(),
        Err(message) => (StatusCode::SERVICE_UNAVAILABLE, message).into_response(),
    }
}

async fn create(State(app): State<Arc<App>>, Json(rule): Json<Map<String, Value>>) -> Response {
    answer(app.create(rule).map(Json))
}

async fn delete(State(app): State<Arc<App>>, Path(id): Path<i64>) -> Response {
    answer(app.delete(id))
}

async fn set_state(State(app): State<Arc<App>>, Path((id, state)): Path<(i64, String)>) -> Response {
    if !STATES.contains(&state.as_str()) {
        return (StatusCode::BAD_REQUEST, format!("a state is one of {}", STATES.join(", "))).into_response();
    }
    match app.set_state(id, &state) {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => (StatusCode::NOT_FOUND, format!("there is no rule {id}")).into_response(),
        Err(message) => answer::<()>(Err(message)),
    }
}

async fn control(State(app): State<Arc<App>>, Path(command): Path<String>) -> Response {
    match COMMANDS.contains(&command.as_str()) {
        true => answer(app.control(&command)),
        false => (StatusCode::BAD_REQUEST, format!("a command is one of {}", COMMANDS.join(", "))).into_response(),
    }
}

/// `{"running": true, "rate": 20}`, either or both.
async fn generate(State(app): State<Arc<App>>, Json(wish): Json<Value>) -> StatusCode {
    let rate = wish["rate"].as_u64().map(|r| u32::try_from(r).unwrap_or(u32::MAX));
    app.generate(wish["running"].as_bool(), rate);
    StatusCode::NO_CONTENT
}

async fn connect(State(app): State<Arc<App>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| tell(socket, app))
}

/// Tells a page everything from the state on; who cannot follow misses some.
async fn tell(mut socket: WebSocket, app: Arc<App>) {
    let mut news = app.subscribe();
    let mut message = app.state();
    loop {
        if socket.send(Message::Text(message.into())).await.is_err() {
            return;
        }
        message = loop {
            tokio::select! {
                said = news.recv() => match said {
                    Ok(text) => break text,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                // Pages say nothing; this is how their end is known.
                heard = socket.recv() => if !matches!(heard, Some(Ok(_))) { return },
            }
        };
    }
}
