//! A table of the `jdbc` connector: its options, checked (Flink: `JdbcDynamicTableFactory`).

use std::time::Duration;

use sluice_batch::{Error, Result};

use super::catalog::is_supported;
use super::url::Target;
use crate::options::Options;
use crate::{CacheOptions, TableOption, TableSpec};

pub(crate) struct JdbcTable {
    pub target: Target,
    pub table_name: String,
    pub partitions: Option<Partitions>,
    /// Rows that a round trip of a scan gets; 0: they stream.
    pub fetch_size: u32,
    pub auto_commit: bool,
    pub cache: Option<CacheOptions>,
    pub lookup_retries: u32,
    pub sink: SinkOptions,
}

/// `scan.partition.*`
pub(crate) struct Partitions {
    pub column: String,
    /// Both ends of each partition's values.
    pub ranges: Vec<(i64, i64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct SinkOptions {
    /// Rows that are written together; 0: only the time counts.
    pub rows: usize,
    /// Zero: only rows and commits count.
    pub interval: Duration,
    pub retries: u32,
    pub guarantee: &'static str,
}

impl JdbcTable {
    /// # Errors
    /// If an option is missing, unknown or wrong, or a column has a type that the connector does not know.
    pub fn new(table: &TableSpec) -> Result<Self> {
        let options = Options::new(table)?;
        let url = options.required("url")?;
        let table_name = options.required("table-name")?;
        let (user, password) = (options.get("username"), options.get("password"));
        if let (Some(one), None) | (None, Some(one)) = (user, password) {
            return Err(Error::plan("'username' and 'password' are given together or not at all").at(one.key_span));
        }
        check_driver(&options)?;
        let this = Self {
            target: target(&options, url, user, password)?,
            table_name: table_name.value.clone(),
            partitions: partitions(&options)?,
            fetch_size: options.parse("scan.fetch-size", "a number")?.unwrap_or(0),
            auto_commit: options.flag("scan.auto-commit", true)?,
            cache: cache(&options)?,
            lookup_retries: retries(&options, "lookup.max-retries")?,
            sink: sink(&options)?,
        };
        options.choice("filter.handling.policy", &["always", "never"])?;
        options.unsupported("sink.parallelism").map_err(|e| e.hint("'parallelism.default' and --parallelism are the job's"))?;
        options.unsupported("lookup.cache.max-rows").map_err(|e| e.hint("use 'lookup.partial-cache.max-rows'"))?;
        options.unsupported("lookup.cache.ttl").map_err(|e| e.hint("use 'lookup.partial-cache.expire-after-write'"))?;
        options.unsupported("lookup.cache.caching-missing-key").map_err(|e| e.hint("use 'lookup.partial-cache.cache-missing-key'"))?;
        options.unsupported("compatible-mode")?;
        options.finish()?;
        crate::columns::check_readable(table, &[])?;
        if let Some(field) = table.physical.iter().find(|f| !is_supported(&f.ty.kind)) {
            return Err(Error::unsupported(format!("type {} of column '{}' in a JDBC table", field.ty.kind, field.name)).at(table.span));
        }
        if let Some(partitions) = &this.partitions
            && let Some(field) = table.physical.iter().find(|f| f.name == partitions.column)
            && !field.ty.kind.is_numeric()
        {
            let span = options.get("scan.partition.column").map_or(table.span, |o| o.value_span);
            let message = format!("'scan.partition.column' is '{}' of type {}; PostgreSQL needs a number", field.name, field.ty.kind);
            return Err(Error::plan(message).at(span));
        }
        Ok(this)
    }
}

fn target(options: &Options<'_>, url: &TableOption, user: Option<&TableOption>, password: Option<&TableOption>) -> Result<Target> {
    let value = |o: Option<&TableOption>| o.map(|o| o.value.clone());
    // The whole of it may be a secret, which is filled in when the job starts.
    let text = if url.value.trim_start().starts_with("{{secret:") { "jdbc:postgresql://secret/secret" } else { &url.value };
    let target = Target::new(text, value(user).as_deref(), value(password).as_deref()).map_err(|e| e.at(url.value_span))?;
    let Some(limit) = options.duration("connection.max-retry-timeout")? else { return Ok(target) };
    if limit < Duration::from_secs(1) {
        let span = options.get("connection.max-retry-timeout").map_or(url.value_span, |o| o.value_span);
        return Err(Error::plan("'connection.max-retry-timeout' is at least 1 second").at(span));
    }
    let mut target = target;
    if target.config.get_connect_timeout().is_none_or(|t| *t > limit) {
        target.config.connect_timeout(limit);
    }
    Ok(target)
}

fn check_driver(options: &Options<'_>) -> Result<()> {
    match options.get("driver") {
        Some(o) if o.value != "org.postgresql.Driver" => {
            Err(Error::unsupported(format!("the driver '{}'", o.value)).at(o.value_span).hint("it is org.postgresql.Driver, or left out"))
        }
        _ => Ok(()),
    }
}

fn retries(options: &Options<'_>, key: &str) -> Result<u32> {
    Ok(options.parse(key, "a number, 0 or more")?.unwrap_or(3))
}

fn partitions(options: &Options<'_>) -> Result<Option<Partitions>> {
    let key = |name: &str| format!("scan.partition.{name}");
    let column = options.get(&key("column"));
    let count: Option<i64> = options.parse(&key("num"), "a number")?;
    let lower: Option<i64> = options.parse(&key("lower-bound"), "a number")?;
    let upper: Option<i64> = options.parse(&key("upper-bound"), "a number")?;
    match (column, count, lower, upper) {
        (None, None, None, None) => Ok(None),
        (Some(column), Some(count), Some(lower), Some(upper)) => {
            if count < 1 || lower > upper {
                let message = "'scan.partition.num' is at least 1, and 'scan.partition.lower-bound' not larger than the upper bound";
                return Err(Error::plan(message).at(column.value_span));
            }
            Ok(Some(Partitions { column: column.value.clone(), ranges: ranges(lower, upper, count) }))
        }
        _ => {
            let names = ["column", "num", "lower-bound", "upper-bound"].map(key);
            let given = options.table.options.iter().find(|o| names.contains(&o.key)).map_or(options.table.span, |o| o.key_span);
            Err(Error::plan(format!("all or none of these options are given: {}", names.join(", "))).at(given))
        }
    }
}

/// Ranges of about equal size, the larger ones first (Flink: `JdbcNumericBetweenParametersProvider`).
fn ranges(lower: i64, upper: i64, count: i64) -> Vec<(i64, i64)> {
    let (lower, all) = (i128::from(lower), i128::from(upper) - i128::from(lower) + 1);
    let count = i128::from(count).min(all);
    let size = (all + count - 1) / count;
    let large = all - (size - 1) * count;
    let mut start = lower;
    let range = |i: i128| {
        let end = start + size - 1 - i128::from(i >= large);
        let range = (start as i64, end as i64);
        start = end + 1;
        range
    };
    (0..count).map(range).collect()
}

fn cache(options: &Options<'_>) -> Result<Option<CacheOptions>> {
    let kind = options.choice("lookup.cache", &["NONE", "PARTIAL"])?;
    let key = |name: &str| format!("lookup.partial-cache.{name}");
    let max_rows = options.get(&key("max-rows"));
    let cache = CacheOptions {
        max_rows: options.parse(&key("max-rows"), "a number")?,
        expire_after_write: options.duration(&key("expire-after-write"))?,
        expire_after_access: options.duration(&key("expire-after-access"))?,
        missing_keys: options.flag(&key("cache-missing-key"), true)?,
    };
    if kind == "PARTIAL" {
        let bounded = cache.max_rows.is_some() || cache.expire_after_write.is_some() || cache.expire_after_access.is_some();
        // Flink: `DefaultLookupCache.Builder.sanityCheck`.
        return match bounded {
            true => Ok(Some(cache)),
            false => Err(Error::plan("'lookup.cache' = 'PARTIAL' needs a bound")
                .at(options.get("lookup.cache").map_or(options.table.span, |o| o.value_span))
                .hint("set 'lookup.partial-cache.max-rows', 'lookup.partial-cache.expire-after-write' or 'lookup.partial-cache.expire-after-access'")),
        };
    }
    let given = options.table.options.iter().find(|o| o.key.starts_with("lookup.partial-cache."));
    match given.or(max_rows) {
        Some(o) => Err(Error::plan(format!("option '{}' needs 'lookup.cache' = 'PARTIAL'", o.key)).at(o.key_span)),
        None => Ok(None),
    }
}

fn sink(options: &Options<'_>) -> Result<SinkOptions> {
    let rows = options.parse("sink.buffer-flush.max-rows", "a number")?.unwrap_or(100);
    let interval = options.duration("sink.buffer-flush.interval")?.unwrap_or(Duration::from_secs(1));
    let guarantee = options.choice("sink.delivery-guarantee", &["at-least-once", "exactly-once"])?;
    Ok(SinkOptions { rows, interval, retries: retries(options, "sink.max-retries")?, guarantee })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_util::{int, string, table};

    fn read(further: &[(&str, &str)]) -> Result<JdbcTable> {
        let options = [("connector", "jdbc"), ("url", "jdbc:postgresql://db/x"), ("table-name", "t")];
        JdbcTable::new(&table(&[&options[..], further].concat(), &[("id", int()), ("name", string())]))
    }

    #[test]
    fn ranges_are_as_flinks() {
        assert_eq!(ranges(1, 10, 3), [(1, 4), (5, 7), (8, 10)]);
        assert_eq!(ranges(-5, 9, 3), [(-5, -1), (0, 4), (5, 9)]);
        assert_eq!(ranges(1, 2, 5), [(1, 1), (2, 2)]);
        assert_eq!(ranges(i64::MIN, i64::MAX, 1), [(i64::MIN, i64::MAX)]);
    }

    #[test]
    fn options_are_checked() {
        let plain = read(&[]).unwrap();
        assert_eq!((plain.sink.rows, plain.sink.guarantee, plain.lookup_retries, plain.auto_commit), (100, "at-least-once", 3, true));
        let bounds = [("scan.partition.lower-bound", "1"), ("scan.partition.upper-bound", "9")];
        let column = [("scan.partition.column", "id"), ("scan.partition.num", "3")];
        assert_eq!(read(&[bounds, column].concat()).unwrap().partitions.unwrap().ranges.len(), 3);
        let name = [("scan.partition.column", "name"), ("scan.partition.num", "3")];
        for (further, message) in [
            (&bounds[..], "all or none of these options"),
            (&[bounds, name].concat(), "needs a number"),
            (&[("username", "u")], "together"),
            (&[("lookup.cache", "PARTIAL")], "needs a bound"),
            (&[("lookup.partial-cache.max-rows", "5")], "needs 'lookup.cache' = 'PARTIAL'"),
            (&[("lookup.cache.ttl", "5 s")], "lookup.partial-cache.expire-after-write"),
            (&[("sink.buffer-flush.max-row", "5")], "did you mean 'sink.buffer-flush.max-rows'?"),
            (&[("sink.parallelism", "2")], "not supported"),
            (&[("driver", "com.mysql.jdbc.Driver")], "not supported"),
            (&[("connection.max-retry-timeout", "10 ms")], "at least 1 second"),
            (&[("username", "u"), ("password", "hidden"), ("sink.max-retries", "-1")], "sink.max-retries"),
        ] {
            let error = read(further).err().unwrap().to_string();
            assert!(error.contains(message) && !error.contains("hidden"), "{error}");
        }
        let cached = read(&[("lookup.cache", "partial"), ("lookup.partial-cache.expire-after-write", "5 s")]).unwrap().cache.unwrap();
        assert!(cached.missing_keys && cached.expire_after_write == Some(Duration::from_secs(5)));
    }
}
