//! Prometheus metrics, made from [`Stats`] at each scrape.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::task::stats::Stats;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Split {
    split: String,
}

/// All metrics of the job in the OpenMetrics text format.
pub fn render(stats: &Stats) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("sluice");
    let malformed = stats.malformed();
    for (name, help, value) in [
        ("rows_in", "Rows read from sources", stats.rows_in()),
        ("rows_out", "Rows given to sinks", stats.rows_out()),
        ("matches", "Matches found by MATCH_RECOGNIZE", stats.matches()),
        ("late_rows", "Rows dropped because they came behind the watermark", stats.late_rows()),
        ("records_skipped", "Malformed records left out (ignore-parse-errors)", malformed.skipped),
        ("dead_letters", "Malformed records sent to a dead-letter topic", malformed.dead_letters),
        ("commits", "Commits of outputs, positions and state", stats.commits()),
        ("commit_pause_microseconds", "Time that commits kept the tasks", stats.commit_micros().0),
        ("checkpoint_written_bytes", "State files written by commits", stats.checkpoint().1),
        ("restarts", "Restarts after failures", stats.restarts().0),
    ] {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    gauge(&mut registry, "state", "State held by operators, about", Unit::Bytes, stats.state_bytes() as i64);
    gauge(&mut registry, "resident_memory", "Memory of the process", Unit::Bytes, resident_bytes() as i64);
    gauge(&mut registry, "checkpoint", "State files that a restart reads", Unit::Bytes, stats.checkpoint().0 as i64);
    let (pause, duration) = stats.commit_times();
    registry.register_with_unit("commit_pause", "How long a commit keeps the tasks", Unit::Seconds, pause.clone());
    registry.register_with_unit("commit_duration", "From the beginning of a commit until it is durable", Unit::Seconds, duration.clone());
    registry.register("commit_pause_longest_microseconds", "The longest that a commit kept the task", set(stats.commit_micros().1 as i64));
    registry.register("repeated_failures", "How often the failure of the last restart came in a row", set(stats.restarts().1 as i64));
    if let Some(watermark) = stats.watermark() {
        registry.register("watermark_milliseconds", "The least watermark that reached a sink, since the epoch", set(watermark));
    }
    splits(&mut registry, stats);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn splits(registry: &mut Registry, stats: &Stats) {
    let (lag, watermark, idle) = (Family::<Split, Gauge>::default(), Family::<Split, Gauge>::default(), Family::<Split, Gauge>::default());
    for status in stats.splits() {
        let label = Split { split: status.split };
        if let Some(records) = status.lag {
            lag.get_or_create(&label).set(records);
        }
        if let Some(millis) = status.watermark {
            watermark.get_or_create(&label).set(millis);
        }
        idle.get_or_create(&label).set(i64::from(status.idle));
    }
    registry.register("source_lag_records", "Records behind the end of the split", lag);
    registry.register("source_watermark_milliseconds", "Watermark of the split", watermark);
    registry.register("source_idle", "1 if the split is idle and holds no time back", idle);
}

fn set(value: i64) -> Gauge {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn gauge(registry: &mut Registry, name: &str, help: &str, unit: Unit, value: i64) {
    registry.register_with_unit(name, help, unit, set(value));
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}
