//! A schema registry that answers as Confluent's does, as far as serializers and this engine ask. In memory.
//!
//! Also under `/apis/ccompat/v6` and `/apis/ccompat/v7`, where Apicurio has the same API. Compatibility is not checked: the level is
//! `NONE`, and no other can be set.

mod store;

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::lock;
use store::{Schema, Store, Version};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// An error as Confluent's registry words it; the first three digits of the code are the HTTP status.
#[derive(Debug, PartialEq, Eq)]
struct Failure(u32, String);

impl Failure {
    fn subject(name: &str) -> Self {
        Self(40401, format!("Subject '{name}' not found."))
    }

    fn version(version: &str) -> Self {
        Self(40402, format!("Version {version} not found."))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            u16::try_from(self.0 / 100).ok().and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], json!({"error_code": self.0, "message": self.1}).to_string()).into_response()
    }
}

type Answer = Result<Response, Failure>;
type Shared = State<Arc<Mutex<Store>>>;

fn answer(value: &Value) -> Answer {
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], value.to_string()).into_response())
}

/// Serves until the runtime ends.
pub async fn serve(listener: tokio::net::TcpListener) {
    let api = api().with_state(Arc::default());
    let app = Router::new().nest("/apis/ccompat/v6", api.clone()).nest("/apis/ccompat/v7", api.clone()).merge(api);
    if let Err(e) = axum::serve(listener, app).await {
        tracing::error!("embedded schema registry: {e}");
    }
}

fn api() -> Router<Arc<Mutex<Store>>> {
    Router::new()
        .route("/", get(|| async { Json(json!({})) }))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(look_up).delete(delete_subject))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/subjects/{subject}/versions/{version}/schema", get(version_schema))
        .route("/schemas/types", get(|| async { Json(json!(["JSON", "PROTOBUF", "AVRO"])) }))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/ids/{id}/schema", get(schema_by_id))
        .route("/schemas/ids/{id}/versions", get(versions_by_id))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(check))
        .route("/config", get(level).put(set_level))
        .route("/config/{subject}", get(level).put(set_level))
        .route("/mode", get(|| async { Json(json!({"mode": "READWRITE"})) }))
        .fallback(|| async { Failure(40400, "HTTP 404 Not Found".into()) })
}

#[derive(Deserialize)]
struct Body {
    schema: String,
    #[serde(rename = "schemaType", default = "avro")]
    kind: String,
    #[serde(default)]
    references: Vec<Value>,
}

fn avro() -> String {
    "AVRO".into()
}

/// The schema of a request, whatever its content type says.
fn schema(body: &Bytes) -> Result<Schema, Failure> {
    let body: Body = serde_json::from_slice(body).map_err(|e| Failure(42201, format!("Invalid schema: {e}")))?;
    Schema::new(body.kind, body.schema, body.references).map_err(|e| Failure(42201, format!("Invalid schema {e}")))
}

async fn subjects(State(store): Shared) -> Answer {
    answer(&json!(lock(&store).subjects()))
}

async fn register(State(store): Shared, Path(subject): Path<String>, body: Bytes) -> Answer {
    let schema = schema(&body)?;
    answer(&json!({"id": lock(&store).register(&subject, schema)}))
}

async fn look_up(State(store): Shared, Path(subject): Path<String>, body: Bytes) -> Answer {
    let schema = schema(&body)?;
    let store = lock(&store);
    let versions = store.versions(&subject).ok_or_else(|| Failure::subject(&subject))?;
    let found = versions.iter().find(|v| v.schema.is(&schema)).ok_or_else(|| Failure(40403, "Schema not found".into()))?;
    answer(&described(&subject, found))
}

async fn delete_subject(State(store): Shared, Path(subject): Path<String>) -> Answer {
    let gone = lock(&store).delete(&subject).ok_or_else(|| Failure::subject(&subject))?;
    answer(&json!(gone))
}

async fn versions(State(store): Shared, Path(subject): Path<String>) -> Answer {
    let store = lock(&store);
    let versions = store.versions(&subject).ok_or_else(|| Failure::subject(&subject))?;
    answer(&json!(versions.iter().map(|v| v.version).collect::<Vec<_>>()))
}

/// A version by number, `latest` or -1.
fn find<'a>(store: &'a Store, subject: &str, wanted: &str) -> Result<&'a Version, Failure> {
    let number = match wanted {
        "latest" | "-1" => None,
        n => Some(n.parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(|| {
            Failure(
                42202,
                format!("The specified version '{n}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""),
            )
        })?),
    };
    let versions = store.versions(subject).ok_or_else(|| Failure::subject(subject))?;
    let found = match number {
        None => versions.last(),
        Some(n) => versions.iter().find(|v| v.version == n),
    };
    found.ok_or_else(|| Failure::version(wanted))
}

fn described(subject: &str, version: &Version) -> Value {
    let mut value = json!({"subject": subject, "version": version.version, "id": version.id, "schema": version.schema.text});
    describe_kind(&version.schema, &mut value);
    value
}

/// The type is said unless it is Avro, references if there are any.
fn describe_kind(schema: &Schema, value: &mut Value) {
    if schema.kind != "AVRO" {
        value["schemaType"] = json!(schema.kind);
    }
    if !schema.references.is_empty() {
        value["references"] = json!(schema.references);
    }
}

async fn version(State(store): Shared, Path((subject, version)): Path<(String, String)>) -> Answer {
    let store = lock(&store);
    answer(&described(&subject, find(&store, &subject, &version)?))
}

async fn version_schema(State(store): Shared, Path((subject, version)): Path<(String, String)>) -> Answer {
    let store = lock(&store);
    let text = find(&store, &subject, &version)?.schema.text.clone();
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn schema_of(store: &Store, id: &str) -> Result<Schema, Failure> {
    let number = id.parse::<u32>().map_err(|_| Failure(40400, "HTTP 404 Not Found".into()))?;
    store.schema(number).cloned().ok_or_else(|| Failure(40403, format!("Schema {number} not found")))
}

async fn by_id(State(store): Shared, Path(id): Path<String>) -> Answer {
    let schema = schema_of(&lock(&store), &id)?;
    let mut value = json!({"schema": schema.text});
    describe_kind(&schema, &mut value);
    answer(&value)
}

async fn schema_by_id(State(store): Shared, Path(id): Path<String>) -> Answer {
    let schema = schema_of(&lock(&store), &id)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], schema.text).into_response())
}

async fn versions_by_id(State(store): Shared, Path(id): Path<String>) -> Answer {
    let store = lock(&store);
    let schema = schema_of(&store, &id)?;
    let uses = store.uses(&schema).map(|(subject, version)| json!({"subject": subject, "version": version}));
    answer(&Value::Array(uses.collect()))
}

async fn check(State(store): Shared, Path((subject, version)): Path<(String, String)>, body: Bytes) -> Answer {
    schema(&body)?;
    find(&lock(&store), &subject, &version)?;
    answer(&json!({"is_compatible": true}))
}

async fn level() -> Answer {
    answer(&json!({"compatibilityLevel": "NONE"}))
}

async fn set_level(body: Bytes) -> Answer {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    match body.get("compatibility").and_then(Value::as_str) {
        Some("NONE") => answer(&json!({"compatibility": "NONE"})),
        _ => Err(Failure(
            42203,
            "Invalid compatibility level: the embedded registry does not check compatibility, only NONE can be set".into(),
        )),
    }
}

#[cfg(test)]
mod tests;
