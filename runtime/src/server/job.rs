//! `GET /api/v1/job`: how the job is, for the operator and for people.

use axum::Json;
use axum::extract::State;
use chrono::SecondsFormat;
use serde::Serialize;

use super::Served;
use crate::task::requests::{Progress, SavepointState};
use crate::task::status;

/// Times are RFC 3339 in UTC; counts are of this process.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    state: status::State,
    commits: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_from: Option<String>,
    rows_in: u64,
    rows_out: u64,
    restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    watermark: Option<String>,
    state_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    savepoint: Option<Progress>,
}

pub async fn job(State(served): State<Served>) -> Json<JobInfo> {
    Json(info(&served))
}

fn info(served: &Served) -> JobInfo {
    let (stats, status) = (&served.stats, served.stats.status.get());
    let savepoint = served.requests.last();
    let stops = savepoint.as_ref().is_some_and(|s| s.wish.stop && s.state == SavepointState::InProgress);
    let state = if stops && status.state == status::State::Running { status::State::Stopping } else { status.state };
    let text = |t: chrono::DateTime<chrono::Utc>| t.to_rfc3339_opts(SecondsFormat::Millis, true);
    JobInfo {
        job_id: Some(status.name).filter(|n| !n.is_empty()),
        state,
        commits: stats.commits(),
        last_commit: status.last_commit.map(text),
        restored_from: status.restored_from,
        rows_in: stats.rows_in(),
        rows_out: stats.rows_out(),
        restarts: stats.restarts().0,
        watermark: stats.watermark().and_then(chrono::DateTime::from_timestamp_millis).map(text),
        state_bytes: stats.state_bytes(),
        failure: status.failure,
        savepoint,
    }
}
