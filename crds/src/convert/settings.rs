//! Flink's ways of writing durations, sizes and settings, in Kubernetes'.

use serde_json::{Map, Value, json};

/// A Flink duration (`1min`, `30 s`, `60000`: milliseconds) as Kubernetes writes it.
pub fn duration(text: &str) -> Option<String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_lowercase().as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "minute" | "minutes" => "m",
        "h" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    };
    Some(match unit {
        "ms" if number.is_multiple_of(1000) && number > 0 => format!("{}s", number / 1000),
        unit => format!("{number}{unit}"),
    })
}

/// A Flink memory size (`2048m`, `2 gb`: powers of 1024) or a Kubernetes quantity (`2Gi`) as the latter.
pub fn memory(text: &str) -> Option<String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let unit = match unit.to_lowercase().as_str() {
        "ki" | "mi" | "gi" | "ti" => unit,
        "" | "b" | "bytes" => return Some(number.to_string()),
        "k" | "kb" | "kibibytes" => "Ki",
        "m" | "mb" | "mebibytes" => "Mi",
        "g" | "gb" | "gibibytes" => "Gi",
        "t" | "tb" | "tebibytes" => "Ti",
        _ => return None,
    };
    Some(if unit == "Mi" && number.is_multiple_of(1024) && number > 0 { format!("{}Gi", number / 1024) } else { format!("{number}{unit}") })
}

/// Settings that a spec has fields for, or that go into its `config`; false if it is neither, and the setting is left.
pub fn carry(key: &str, value: &str, spec: &mut Map<String, Value>) -> bool {
    let set = |spec: &mut Map<String, Value>, section: &str, field: &str, value: Value| {
        let section = spec.entry(section).or_insert_with(|| json!({}));
        section[field] = value;
        true
    };
    let time = |spec: &mut Map<String, Value>, section: &str, field: &str| match duration(value) {
        Some(time) => set(spec, section, field, time.into()),
        None => false,
    };
    let count = |spec: &mut Map<String, Value>, section: &str, field: &str| match value.parse::<i64>() {
        Ok(n) => set(spec, section, field, n.into()),
        Err(_) => false,
    };
    match key {
        "execution.checkpointing.interval" => time(spec, "checkpoints", "interval"),
        "restart-strategy" | "restart-strategy.type" => match value {
            "none" | "off" | "disable" | "disabled" => set(spec, "restart", "enabled", false.into()),
            // Ours is exponential-delay; the other one's settings below become its bounds.
            "exponential-delay" | "exponentialdelay" | "fixed-delay" | "fixeddelay" => true,
            _ => false,
        },
        "restart-strategy.fixed-delay.attempts" | "restart-strategy.exponential-delay.attempts-before-reset-backoff" => {
            count(spec, "restart", "maxAttempts")
        }
        "restart-strategy.fixed-delay.delay" => time(spec, "restart", "initialBackoff") && time(spec, "restart", "maxBackoff"),
        "restart-strategy.exponential-delay.initial-backoff" => time(spec, "restart", "initialBackoff"),
        "restart-strategy.exponential-delay.max-backoff" => time(spec, "restart", "maxBackoff"),
        "kubernetes.operator.savepoint.history.max.count" => count(spec, "savepoints", "historyLimit"),
        "kubernetes.operator.savepoint.history.max.age" => time(spec, "savepoints", "maxAge"),
        "parallelism.default" => match value.parse::<u32>() {
            Ok(n) => {
                spec.entry("parallelism").or_insert_with(|| n.into());
                true
            }
            Err(_) => false,
        },
        _ if goes_into_config(key) => set(spec, "config", key, value.into()),
        _ => false,
    }
}

/// Settings that the runtime knows by the same name.
fn goes_into_config(key: &str) -> bool {
    let s3 = ["s3.endpoint", "s3.endpoint.region", "s3.path.style.access"];
    key.starts_with("table.") || s3.contains(&key) || ["execution.checkpointing.mode", "execution.runtime-mode"].contains(&key)
}

/// Settings that say where state is kept, the one that counts first.
pub const FOLDERS: &[&str] =
    &["execution.checkpointing.dir", "state.checkpoints.dir", "execution.checkpointing.savepoint-dir", "state.savepoints.dir"];

/// Why other settings of Flink are not carried over, by their beginning.
pub const REASONS: &[(&str, &str)] = &[
    (
        "s3.access-key",
        "a key does not belong into an object: put both into a Secret as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and name it in spec.storage.credentialsSecretRef",
    ),
    ("s3.secret-key", "see s3.access-key"),
    ("taskmanager.numberOfTaskSlots", "all tasks of a job run in one pod"),
    ("taskmanager.", "there are no task managers: a job is one small process"),
    ("jobmanager.", "there is no job manager"),
    ("high-availability", "there is no job manager to be replaced: a pod that dies is started again from its last checkpoint"),
    ("kubernetes.operator.periodic.savepoint", "use spec.savepoints.schedule, a cron expression, if your version has it"),
    ("kubernetes.operator.", "it is a setting of Flink's operator"),
    ("kubernetes.", "it is a setting of Flink on Kubernetes"),
    ("metrics.", "every pod serves Prometheus metrics at :8081/metrics"),
    ("execution.checkpointing.timeout", "checkpoints have no timeout in this version"),
    ("execution.checkpointing.", "checkpoints here are commits without barriers: there is nothing to tune"),
    ("execution.checkpointing", "checkpoints here are commits without barriers: there is nothing to tune"),
    ("state.savepoints.dir", "savepoints go below spec.storage.uri"),
    ("state.checkpoints", "checkpoints go below spec.storage.uri; what a restart needs is kept"),
    ("state.backend", "there is one state backend, in memory, with spilling by state.backend.memory"),
    ("pipeline.name", "the operator names the job: namespace.name"),
    ("rest.", "the REST API is at the Service <name>-rest:8081"),
    ("web.", "the REST API is at the Service <name>-rest:8081"),
    ("env.java", "there is no Java"),
];
