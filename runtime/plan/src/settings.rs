//! Settings of the session that the planner reads, and which others are known.

use std::time::Duration;

use chrono_tz::Tz;
use indexmap::IndexMap;
use sluice_batch::{Error, Millis, Result, duration};

/// The settings of a job, read and checked once.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub mini_batch: bool,
    pub state_ttl: Millis,
    pub time_zone: Tz,
    pub idle_timeout: Duration,
    pub watermark_interval: Duration,
    pub upsert_materialize: UpsertMaterialize,
    pub require_on_conflict: bool,
    pub not_null_drop: bool,
    pub length: LengthEnforcer,
    pub nested: NestedEnforcer,
    pub cdc_events_duplicate: bool,
    /// Settings that nobody knows, one sentence each.
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpsertMaterialize {
    Auto,
    None,
    Force,
}

/// Flink: `ExecutionConfigOptions.NestedEnforcer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NestedEnforcer {
    Ignore,
    Rows,
    RowsAndCollections,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LengthEnforcer {
    Ignore,
    TrimPad,
    Error,
}

/// Keys under `table.exec.` that are known: read here or elsewhere in the runtime, or without a meaning for one-thread tasks.
const KNOWN: &[&str] = &[
    "table.exec.async-lookup.buffer-capacity",
    "table.exec.async-lookup.output-mode",
    "table.exec.async-lookup.timeout",
    "table.exec.deduplicate.insert-update-after-sensitive-enabled",
    "table.exec.deduplicate.mini-batch.compact-changes-enabled",
    "table.exec.disabled-operators",
    "table.exec.legacy-cast-behaviour",
    "table.exec.mini-batch.allow-latency",
    "table.exec.mini-batch.enabled",
    "table.exec.mini-batch.size",
    "table.exec.rank.topn-cache-size",
    "table.exec.resource.default-parallelism",
    "table.exec.simplify-operator-name-enabled",
    "table.exec.sink.keyed-shuffle",
    "table.exec.sink.nested-constraint-enforcer",
    "table.exec.sink.not-null-enforcer",
    "table.exec.sink.require-on-conflict",
    "table.exec.sink.rowtime-inserter",
    "table.exec.sink.type-length-enforcer",
    "table.exec.sink.upsert-materialize",
    "table.exec.sink.upsert-materialize-strategy.type",
    "table.exec.sort.non-temporal.enabled",
    "table.exec.source.cdc-events-duplicate",
    "table.exec.source.idle-timeout",
    "table.exec.spill-compression.enabled",
    "table.exec.state.ttl",
    "table.exec.uid.format",
    "table.exec.uid.generation",
    "table.exec.unbounded-over.version",
    "table.exec.window-agg.buffer-size-limit",
];

/// Other keys that are read here or elsewhere in the runtime.
const GENERAL: &[&str] = &[
    "execution.checkpointing.dir",
    "execution.checkpointing.interval",
    "execution.checkpointing.mode",
    "execution.checkpointing.savepoint-dir",
    "execution.runtime-mode",
    "parallelism.default",
    "pipeline.auto-watermark-interval",
    "pipeline.name",
    "pipeline.object-reuse",
    "state.backend.local-dir",
    "state.backend.memory",
    "s3.access-key",
    "s3.access.key",
    "s3.endpoint",
    "s3.endpoint.region",
    "s3.path-style-access",
    "s3.path.style.access",
    "s3.region",
    "s3.retry.timeout",
    "s3.secret-key",
    "s3.secret.key",
    "s3.session-token",
    "s3.session.token",
    "state.checkpoints.dir",
    "state.savepoints.dir",
    "table.dml-sync",
    "table.local-time-zone",
    "table.sql-dialect",
];

/// Settings that change results and have one value here.
const FIXED: &[(&str, &str)] =
    &[("execution.runtime-mode", "STREAMING"), ("table.exec.legacy-cast-behaviour", "DISABLED"), ("table.sql-dialect", "DEFAULT")];

impl Settings {
    /// Reads the settings that matter here.
    ///
    /// # Errors
    /// If one has a value that is not of its type; the error names the key.
    pub fn read(settings: &IndexMap<String, String>) -> Result<Self> {
        let time = |key: &str, default: u64| match settings.get(key) {
            None => Ok(Duration::from_millis(default)),
            Some(text) => duration::parse(text).map_err(|e| e.context(key)),
        };
        for (key, only) in FIXED {
            if let Some(value) = settings.get(*key).filter(|v| !v.trim().eq_ignore_ascii_case(only)) {
                return Err(Error::unsupported(format!("'{key}' = '{value}'")).hint(format!("the value here is '{only}'")));
            }
        }
        let ttl = time("table.exec.state.ttl", 0)?;
        Ok(Self {
            mini_batch: boolean(settings, "table.exec.mini-batch.enabled", false)?,
            state_ttl: ttl.as_millis() as Millis,
            time_zone: time_zone(settings)?,
            idle_timeout: time("table.exec.source.idle-timeout", 0)?,
            watermark_interval: time("pipeline.auto-watermark-interval", 200)?,
            upsert_materialize: choice(
                settings,
                "table.exec.sink.upsert-materialize",
                &[("AUTO", UpsertMaterialize::Auto), ("NONE", UpsertMaterialize::None), ("FORCE", UpsertMaterialize::Force)],
            )?,
            require_on_conflict: boolean(settings, "table.exec.sink.require-on-conflict", false)?,
            not_null_drop: choice(settings, "table.exec.sink.not-null-enforcer", &[("ERROR", false), ("DROP", true)])?,
            length: choice(
                settings,
                "table.exec.sink.type-length-enforcer",
                &[("IGNORE", LengthEnforcer::Ignore), ("TRIM_PAD", LengthEnforcer::TrimPad), ("ERROR", LengthEnforcer::Error)],
            )?,
            nested: {
                use NestedEnforcer as N;
                let values = &[("IGNORE", N::Ignore), ("ROWS", N::Rows), ("ROWS_AND_COLLECTIONS", N::RowsAndCollections)];
                choice(settings, "table.exec.sink.nested-constraint-enforcer", values)?
            },
            cdc_events_duplicate: boolean(settings, "table.exec.source.cdc-events-duplicate", false)?,
            warnings: unknown_keys(settings),
        })
    }
}

fn boolean(settings: &IndexMap<String, String>, key: &str, default: bool) -> Result<bool> {
    match settings.get(key).map(|v| v.trim().to_ascii_lowercase()).as_deref() {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(Error::plan(format!("'{key}' must be 'true' or 'false', not '{other}'"))),
    }
}

/// The value of a key with few values; the first one is the default.
fn choice<T: Copy>(settings: &IndexMap<String, String>, key: &str, values: &[(&str, T)]) -> Result<T> {
    let wanted = settings.get(key).map_or(values[0].0, |v| v.trim());
    values.iter().find(|(name, _)| wanted.eq_ignore_ascii_case(name)).map(|(_, v)| *v).ok_or_else(|| {
        let names: Vec<_> = values.iter().map(|(n, _)| *n).collect();
        Error::plan(format!("'{key}' cannot be '{wanted}'")).hint(format!("it is one of {}", names.join(", ")))
    })
}

/// `table.local-time-zone`: a region, or an offset from UTC in whole hours as `UTC+8`, `GMT-05:00`; without it UTC.
///
/// # Errors
/// If it is neither.
pub fn time_zone(settings: &IndexMap<String, String>) -> Result<Tz> {
    let text = settings.get("table.local-time-zone").map_or("UTC", |s| s.trim());
    if text.eq_ignore_ascii_case("default") {
        return Ok(Tz::UTC);
    }
    text.parse::<Tz>().ok().or_else(|| offset_zone(text)).ok_or_else(|| {
        Error::plan(format!("'table.local-time-zone' = '{text}' is not a time zone"))
            .hint("use a name like 'Europe/Berlin', 'UTC' or 'GMT+08:00'")
    })
}

/// `GMT+08:00` as the region `Etc/GMT-8` (whose sign is the other way round).
fn offset_zone(text: &str) -> Option<Tz> {
    let offset = text.strip_prefix("GMT").or_else(|| text.strip_prefix("UTC")).unwrap_or(text);
    let (sign, rest) = match offset.split_at_checked(1)? {
        ("+", rest) => ('-', rest),
        ("-", rest) => ('+', rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
    if !minutes.trim_matches('0').is_empty() {
        return None;
    }
    match hours.parse::<u8>().ok()? {
        0 => Some(Tz::UTC),
        hours => format!("Etc/GMT{sign}{hours}").parse().ok(),
    }
}

fn unknown_keys(settings: &IndexMap<String, String>) -> Vec<String> {
    let known = || KNOWN.iter().chain(GENERAL);
    let unknown = settings.keys().filter(|key| !known().any(|k| k == key));
    unknown
        .filter_map(|key| {
            let near = known().map(|k| (strsim::damerau_levenshtein(k, key), *k)).min();
            // Flink has many more keys, for its clusters and its optimizer; what is hardly unlike one of ours is meant to be it.
            match (near, key.starts_with("table.exec.")) {
                (Some((..=5, k)), true) | (Some((..=2, k)), false) => {
                    Some(format!("unknown setting '{key}' has no effect (did you mean '{k}'?)"))
                }
                (_, true) => Some(format!("unknown setting '{key}' has no effect")),
                (_, false) => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn values_are_read() {
        let s = read(&[
            ("table.exec.mini-batch.enabled", "true"),
            ("table.exec.state.ttl", "1 h"),
            ("table.local-time-zone", "GMT+08:00"),
            ("table.exec.sink.upsert-materialize", "none"),
        ])
        .unwrap();
        assert!(s.mini_batch);
        assert_eq!(s.state_ttl, 3_600_000);
        assert_eq!(s.time_zone.name(), "Etc/GMT-8");
        assert_eq!(s.upsert_materialize, UpsertMaterialize::None);
        assert!(s.warnings.is_empty());
    }

    #[test]
    fn wrong_values_are_errors() {
        for (key, value) in [
            ("table.exec.mini-batch.enabled", "yes"),
            ("table.exec.state.ttl", "1 fortnight"),
            ("table.local-time-zone", "Mars/Olympus"),
            ("table.exec.sink.not-null-enforcer", "IGNORE"),
            ("execution.runtime-mode", "BATCH"),
            ("table.sql-dialect", "hive"),
            ("table.exec.legacy-cast-behaviour", "ENABLED"),
        ] {
            assert!(read(&[(key, value)]).is_err(), "{key}");
        }
    }

    #[test]
    fn unknown_keys_are_warned_of() {
        let s = read(&[("table.exec.state.tll", "1 h"), ("table.optimizer.agg-phase-strategy", "TWO_PHASE")]).unwrap();
        assert_eq!(s.warnings, ["unknown setting 'table.exec.state.tll' has no effect (did you mean 'table.exec.state.ttl'?)"]);
        let s =
            read(&[("tabel.exec.state.ttl", "1 h"), ("execution.runtime-mode", "streaming"), ("state.backend.type", "rocksdb")]).unwrap();
        assert_eq!(s.warnings, ["unknown setting 'tabel.exec.state.ttl' has no effect (did you mean 'table.exec.state.ttl'?)"]);
    }
}
