//! What a job says of itself: `GET /api/v1/job` and the lines of `/metrics` that are about lag.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Place};
use crate::error::{Error, Result};

/// Figures of a job at one time; counts are of its process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub state: String,
    pub rows_in: u64,
    pub rows_out: u64,
    /// Rows in a second, in and out.
    pub rates: Option<(f64, f64)>,
    pub commits: u64,
    pub last_commit: Option<Timestamp>,
    pub watermark: Option<Timestamp>,
    pub state_bytes: u64,
    pub restarts: u64,
    pub failure: Option<String>,
    pub restored_from: Option<String>,
    /// Records behind the ends of all splits, and how many splits there are.
    pub lag: Option<(u64, usize)>,
    /// The job's own answer.
    pub answer: Value,
}

/// Time between the two looks of which a rate is made.
const BETWEEN: std::time::Duration = std::time::Duration::from_secs(1);

impl Figures {
    /// Asks a pod twice, a second apart.
    ///
    /// # Errors
    /// If it does not answer, or not what it should.
    pub async fn of(cluster: &Cluster, pod: &str, place: &Place) -> Result<Self> {
        let ask = async || -> Result<Self> { Self::parse(&cluster.ask(pod, &place.job()).await?).map_err(Error::failed) };
        let (begun, first) = (std::time::Instant::now(), ask().await?);
        tokio::time::sleep(BETWEEN).await;
        let mut figures = ask().await?;
        figures.rates = rates(&first, &figures, begun.elapsed().as_secs_f64());
        figures.lag = lag(&cluster.ask(pod, "/metrics").await?, place);
        Ok(figures)
    }

    /// # Errors
    /// If it is no JSON object.
    pub fn parse(text: &str) -> Result<Self, String> {
        let answer: Value = serde_json::from_str(text).map_err(|e| format!("the job's answer is no JSON: {e}"))?;
        let number = |key: &str| answer[key].as_u64().unwrap_or(0);
        let string = |key: &str| answer[key].as_str().map(str::to_owned);
        let time = |key: &str| answer[key].as_str().and_then(|t| t.parse().ok());
        Ok(Self {
            state: string("state").unwrap_or_else(|| "UNKNOWN".into()),
            rows_in: number("rowsIn"),
            rows_out: number("rowsOut"),
            rates: None,
            commits: number("commits"),
            last_commit: time("lastCommit"),
            watermark: time("watermark"),
            state_bytes: number("stateBytes"),
            restarts: number("restarts"),
            failure: string("failure"),
            restored_from: string("restoredFrom"),
            lag: None,
            answer,
        })
    }

    /// For `-o json`: the answer and what was made of two.
    pub fn to_json(&self) -> Value {
        let mut value = self.answer.clone();
        if let Some((rows_in, rows_out)) = self.rates {
            value["rowsPerSecond"] = json!({"in": rows_in, "out": rows_out});
        }
        if let Some((records, splits)) = self.lag {
            value["lag"] = json!({"records": records, "splits": splits});
        }
        value
    }

    /// How far event time is behind.
    pub fn behind(&self, now: Timestamp) -> Option<SignedDuration> {
        self.watermark.map(|w| now.duration_since(w))
    }
}

/// None if the process is another one: its counts have begun anew.
#[allow(clippy::cast_precision_loss)]
fn rates(first: &Figures, second: &Figures, seconds: f64) -> Option<(f64, f64)> {
    let rate = |a: u64, b: u64| Some(b.checked_sub(a)? as f64 / seconds);
    Some((rate(first.rows_in, second.rows_in)?, rate(first.rows_out, second.rows_out)?))
}

/// The sum of `sluice_source_lag_records`, and of how many splits; None if there is none.
fn lag(metrics: &str, place: &Place) -> Option<(u64, usize)> {
    let lines = metrics.lines().filter(|l| l.starts_with("sluice_source_lag_records{") && place.has(l));
    let values: Vec<u64> = lines.filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
    (!values.is_empty()).then(|| (values.iter().sum(), values.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_of_jobs() {
        let text = r#"{"jobId":"flink.job","state":"RUNNING","commits":7,"lastCommit":"2026-11-21T10:00:00.500Z","rowsIn":100,"rowsOut":10,
            "restarts":1,"watermark":"2026-11-21T09:59:58Z","stateBytes":2048,"new":true}"#;
        let figures = Figures::parse(text).unwrap();
        assert_eq!((figures.state.as_str(), figures.commits, figures.rows_in, figures.restarts), ("RUNNING", 7, 100, 1));
        assert_eq!(figures.behind("2026-11-21T10:00:00Z".parse().unwrap()), Some(SignedDuration::from_secs(2)));
        let later = Figures { rows_in: 300, rows_out: 15, ..figures.clone() };
        assert_eq!(rates(&figures, &later, 2.0), Some((100.0, 2.5)));
        assert_eq!(rates(&later, &figures, 2.0), None, "another process");
        assert_eq!(figures.to_json()["new"], true, "what a newer job says is not hidden");
        assert!(Figures::parse("<html>").is_err());
    }

    #[test]
    fn lag_of_all_splits() {
        let metrics = "# TYPE sluice_source_lag_records gauge\nsluice_source_lag_records{split=\"a-0\"} 12\nsluice_source_lag_records{split=\"a-1\"} 30\n\
                       sluice_source_idle{split=\"a-1\"} 0\n";
        assert_eq!(lag(metrics, &Place::default()), Some((42, 2)));
        assert_eq!(lag("sluice_rows_in_total 5\n", &Place::default()), None);
        let shared = Place { in_session: Some("x".into()), ..Place::default() };
        let metrics = "sluice_source_lag_records{job_name=\"x\",split=\"a\"} 1\nsluice_source_lag_records{job_name=\"y\",split=\"a\"} 2\n";
        assert_eq!(lag(metrics, &shared), Some((1, 1)));
    }
}
