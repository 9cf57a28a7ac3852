//! The options of `kafka` and `upsert-kafka` tables (Flink: `KafkaConnectorOptions`).

use std::time::Duration;

use sluice_batch::{Error, Field, Result, TypeKind};
use sluice_format::{ChangelogMode, FormatOptions, Schema};

use super::properties::{Properties, Role};
use super::start::{Start, Stop};
use crate::options::{Options, closest};
use crate::{TableOption, TableSpec};

/// Everything that a Kafka table's options say.
pub(crate) struct KafkaTable {
    pub topics: Topics,
    pub consumer: Properties,
    pub producer: Properties,
    pub servers: String,
    pub group: Option<String>,
    pub start: Start,
    pub stop: Stop,
    /// Zero: partitions that appear later are not looked for.
    pub discovery: Duration,
    pub key: Option<FormatOptions>,
    pub value: FormatOptions,
    /// Positions in `TableSpec::physical`.
    pub key_fields: Vec<usize>,
    /// `key.fields-prefix`, which fields of the key do not have in the record.
    pub key_prefix: String,
    pub value_fields: Vec<usize>,
    pub upsert: bool,
    pub partitioner: Partitioner,
    pub guarantee: &'static str,
    /// `sink.buffer-flush.*`: rows and time.
    /// `sink.transactional-id-prefix`
    pub transactional_prefix: Option<String>,
    pub buffer: Option<(usize, Duration)>,
    /// Records that cannot be read go there, if given.
    pub dead_letters: Option<String>,
    /// How long to wait for brokers.
    pub patience: Duration,
}

pub(crate) enum Topics {
    List(Vec<String>),
    /// Matches whole names.
    Pattern(Box<fancy_regex::Regex>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partitioner {
    /// By key as the Java client does; records without a key go anywhere.
    Default,
    /// All records of a task into one partition.
    Fixed,
    RoundRobin,
}

/// What the connector itself offers of a record (Flink: `KafkaDynamicSource.ReadableMetadata`).
pub(crate) fn record_metadata() -> Vec<Field> {
    let headers = TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::BYTES.nullable()));
    vec![
        Field::new("topic", TypeKind::STRING.not_null()),
        Field::new("partition", TypeKind::Int.not_null()),
        Field::new("headers", headers.not_null()),
        Field::new("leader-epoch", TypeKind::Int.nullable()),
        Field::new("offset", TypeKind::BigInt.not_null()),
        Field::new("timestamp", TypeKind::TimestampLtz(3).not_null()),
        Field::new("timestamp-type", TypeKind::STRING.not_null()),
    ]
}

/// What a sink can set (Flink: `KafkaDynamicSink.WritableMetadata`).
pub(crate) fn writable_metadata() -> Vec<Field> {
    let names = ["topic", "headers", "timestamp"];
    record_metadata().into_iter().filter(|f| names.contains(&f.name.as_str())).map(|f| Field::new(f.name, f.ty.as_nullable())).collect()
}

impl KafkaTable {
    /// # Errors
    /// If an option is missing, unknown or wrong, or options do not go together.
    pub fn new(table: &TableSpec, upsert: bool) -> Result<Self> {
        let options = Options::new(table)?;
        let given = options.with_prefix("properties.");
        let consumer = Properties::new(&given, Role::Consumer)?;
        let producer = Properties::new(&given, Role::Producer)?;
        let Some(servers) = consumer.get("bootstrap.servers").map(str::to_owned) else {
            return Err(options.missing("properties.bootstrap.servers"));
        };
        let group = consumer.get("group.id").map(str::to_owned);
        let stop = Stop::read(&options)?;
        let start = if upsert { Start::Earliest } else { Start::read(&options)? };
        if matches!(start, Start::Group) && group.is_none() && !upsert {
            // Only a source needs it; a table may be written only.
            tracing::debug!("table {} has no group.id", table.name);
        }
        let discovery = match upsert {
            true => None,
            false => options.duration("scan.topic-partition-discovery.interval")?,
        };
        let formats = Formats::read(&options, upsert)?;
        let (guarantee, partitioner) = sink_options(&options, &formats, upsert)?;
        let patience = given.iter().find(|(name, _)| *name == "default.api.timeout.ms").and_then(|(_, o)| o.value.trim().parse().ok());
        let this = Self {
            topics: topics(&options, upsert)?,
            consumer,
            producer,
            servers,
            group,
            start,
            stop,
            discovery: discovery.unwrap_or(Duration::from_secs(300)),
            key: formats.key,
            value: formats.value,
            key_fields: formats.key_fields,
            key_prefix: formats.key_prefix,
            value_fields: formats.value_fields,
            upsert,
            partitioner,
            guarantee,
            transactional_prefix: options.string("sink.transactional-id-prefix").map(str::to_owned),
            buffer: buffer(&options, upsert)?,
            dead_letters: options.string("scan.dead-letter-topic").map(str::to_owned),
            patience: Duration::from_millis(patience.unwrap_or(30_000)),
        };
        options.finish()?;
        this.check(table)?;
        Ok(this)
    }

    fn check(&self, table: &TableSpec) -> Result<()> {
        if matches!((&self.start, &self.topics), (Start::Specific(_), t) if !t.is_single()) {
            return Err(Error::plan("'scan.startup.mode' = 'specific-offsets' needs exactly one topic").at(table.span));
        }
        if self.upsert && table.primary_key.is_none() {
            return Err(Error::plan(format!("table '{}' of connector 'upsert-kafka' needs a PRIMARY KEY", table.name)).at(table.span));
        }
        Ok(())
    }

    /// The one topic's name, if there is one.
    pub fn topic(&self) -> Option<&str> {
        match &self.topics {
            Topics::List(topics) if topics.len() == 1 => topics.first().map(String::as_str),
            _ => None,
        }
    }

    /// Fields of the key as the record has them.
    pub fn key_schema(&self, table: &TableSpec) -> Schema {
        let fields = self.key_fields.iter().map(|i| {
            let field = &table.physical[*i];
            Field::new(field.name.strip_prefix(&self.key_prefix).unwrap_or(&field.name), field.ty.clone())
        });
        Schema { default_subject: self.topic().map(|t| format!("{t}-key")), ..Schema::new(fields.collect()) }
    }

    /// Fields of the value as the record has them.
    pub fn value_schema(&self, table: &TableSpec) -> Schema {
        let fields = self.value_fields.iter().map(|i| table.physical[*i].clone()).collect();
        Schema { default_subject: self.topic().map(|t| format!("{t}-value")), ..Schema::new(fields) }
    }

    /// A primary key says that later rows replace earlier ones, which an append-only format cannot (Flink:
    /// `KafkaDynamicTableFactory.validatePKConstraints`).
    pub fn check_primary_key(&self, table: &TableSpec, changelog: ChangelogMode) -> Result<()> {
        if self.upsert || table.primary_key.is_none() || changelog != ChangelogMode::InsertOnly {
            return Ok(());
        }
        let message = format!("table '{}' cannot have a PRIMARY KEY: format '{}' only has inserts", table.name, self.value.format);
        Err(Error::plan(message).at(table.span).hint("use 'connector' = 'upsert-kafka', or leave the key out"))
    }

    /// Says once what was given but has no meaning here.
    pub fn report_ignored(&self, table: &TableSpec, role: Role) {
        let properties = if role == Role::Consumer { &self.consumer } else { &self.producer };
        for name in &properties.ignored {
            tracing::warn!("table {}: 'properties.{name}' is of the Java client only and has no effect", table.name);
        }
    }
}

impl Topics {
    fn is_single(&self) -> bool {
        matches!(self, Topics::List(topics) if topics.len() == 1)
    }
}

struct Formats {
    key: Option<FormatOptions>,
    value: FormatOptions,
    key_fields: Vec<usize>,
    key_prefix: String,
    value_fields: Vec<usize>,
}

impl Formats {
    fn read(options: &Options<'_>, upsert: bool) -> Result<Self> {
        let table = options.table;
        let (plain, value) =
            if upsert { (None, options.format("value.format")) } else { (options.format("format"), options.format("value.format")) };
        if plain.is_some() && value.is_some() {
            return Err(Error::plan("'format' and 'value.format' mean the same: give one of them").at(options.required("format")?.key_span));
        }
        let value = plain.or(value).ok_or_else(|| options.missing(if upsert { "value.format" } else { "format" }))?;
        let key = options.format("key.format");
        let key_prefix = options.string("key.fields-prefix").unwrap_or_default().to_owned();
        let except_key = options.choice("value.fields-include", &["ALL", "EXCEPT_KEY"])? == "EXCEPT_KEY";
        let key_fields = match upsert {
            true if key.is_none() => return Err(options.missing("key.format")),
            true => table.primary_key.clone().unwrap_or_default(),
            false => key_fields(options, key.is_some())?,
        };
        if !key_prefix.is_empty() {
            let option = options.required("key.fields-prefix")?;
            if !except_key {
                let message =
                    "'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY': else names with the prefix stood in the value too";
                return Err(Error::plan(message).at(option.key_span));
            }
            if let Some(i) = key_fields.iter().find(|i| !table.physical[**i].name.starts_with(&key_prefix)) {
                let message = format!("key field '{}' does not begin with the prefix '{key_prefix}'", table.physical[*i].name);
                return Err(Error::plan(message).at(option.value_span));
            }
        }
        let value_fields: Vec<_> = (0..table.physical.len()).filter(|i| !(except_key && key_fields.contains(i))).collect();
        Ok(Self { key, value, key_fields, key_prefix, value_fields })
    }
}

fn key_fields(options: &Options<'_>, has_format: bool) -> Result<Vec<usize>> {
    let table = options.table;
    let Some(option) = options.get("key.fields") else {
        return match has_format {
            true => Err(options.missing("key.fields").hint("'key.format' says how the key is written, 'key.fields' which columns it has")),
            false => Ok(vec![]),
        };
    };
    if !has_format {
        return Err(options.missing("key.format"));
    }
    let names = option.value.split(';').map(str::trim).filter(|n| !n.is_empty());
    let position = |name: &str| {
        table.physical.iter().position(|f| f.name == name).ok_or_else(|| {
            let error = Error::plan(format!("'key.fields' names '{name}', which is no physical column of '{}'", table.name));
            let error = error.at(option.value_span);
            match closest(name, table.physical.iter().map(|f| f.name.as_str())) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => error,
            }
        })
    };
    names.map(position).collect()
}

fn topics(options: &Options<'_>, upsert: bool) -> Result<Topics> {
    let pattern = if upsert { None } else { options.get("topic-pattern") };
    let list = options.get("topic");
    match (list, pattern) {
        (Some(_), Some(pattern)) => Err(Error::plan("'topic' and 'topic-pattern' exclude each other").at(pattern.key_span)),
        (Some(list), None) => {
            let names: Vec<_> = list.value.split(';').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect();
            match names.len() {
                0 => Err(options.invalid(list, "the name of a topic")),
                2.. if upsert => Err(Error::plan("'upsert-kafka' reads and writes one topic").at(list.value_span)),
                _ => Ok(Topics::List(names)),
            }
        }
        (None, Some(pattern)) => {
            let regex = fancy_regex::Regex::new(&format!("^(?:{})$", pattern.value));
            let regex = regex.map_err(|e| Error::plan(format!("'topic-pattern' is no regular expression: {e}")).at(pattern.value_span))?;
            Ok(Topics::Pattern(Box::new(regex)))
        }
        (None, None) => Err(options.missing("topic")),
    }
}

fn sink_options(options: &Options<'_>, formats: &Formats, upsert: bool) -> Result<(&'static str, Partitioner)> {
    let guarantee = options.choice("sink.delivery-guarantee", &["at-least-once", "none", "exactly-once"])?;
    // They have a meaning with exactly-once only, as in Flink.
    if options.string("sink.transactional-id-prefix").is_none_or(|p| p.trim().is_empty()) && guarantee == "exactly-once" {
        let option = options.required("sink.delivery-guarantee")?;
        let message = format!("table '{}': exactly-once needs the option 'sink.transactional-id-prefix'", options.table.name);
        return Err(Error::plan(message).at(option.value_span).hint("a name that no other application on the Kafka cluster uses"));
    }
    options.choice("sink.transaction-naming-strategy", &["incrementing", "pooling"])?;
    if upsert {
        return Ok((guarantee, Partitioner::Default));
    }
    let partitioner = match options.string("sink.partitioner") {
        None | Some("default") => Partitioner::Default,
        Some("fixed") => Partitioner::Fixed,
        Some("round-robin") if !formats.key_fields.is_empty() => {
            let option: &TableOption = options.required("sink.partitioner")?;
            return Err(Error::plan("'sink.partitioner' = 'round-robin' and 'key.fields' exclude each other").at(option.value_span));
        }
        Some("round-robin") => Partitioner::RoundRobin,
        Some(_) => {
            let option = options.required("sink.partitioner")?;
            return Err(options.invalid(option, "default, fixed, round-robin").hint("classes of your own cannot be used"));
        }
    };
    Ok((guarantee, partitioner))
}

fn buffer(options: &Options<'_>, upsert: bool) -> Result<Option<(usize, Duration)>> {
    if !upsert {
        return Ok(None);
    }
    let rows = options.parse::<usize>("sink.buffer-flush.max-rows", "a number")?.unwrap_or(0);
    let interval = options.duration("sink.buffer-flush.interval")?.unwrap_or_default();
    match (rows, interval) {
        (0, Duration::ZERO) => Ok(None),
        (0, _) => Err(options.missing("sink.buffer-flush.max-rows").hint("both 'sink.buffer-flush' options must be above 0, or none")),
        (_, Duration::ZERO) => {
            Err(options.missing("sink.buffer-flush.interval").hint("both 'sink.buffer-flush' options must be above 0, or none"))
        }
        both => Ok(Some(both)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::test_util::{int, string, table};

    const BASE: [(&str, &str); 2] = [("topic", "a;b"), ("properties.bootstrap.servers", "x:1")];

    fn read(more: &[(&str, &str)], upsert: bool) -> Result<KafkaTable> {
        let options: Vec<_> = BASE.iter().chain(more).copied().collect();
        let mut spec = table(&options, &[("k_id", int()), ("name", string()), ("n", int())]);
        if upsert {
            spec.options[0].value = "a".into();
            spec.primary_key = Some(vec![0]);
        }
        KafkaTable::new(&spec, upsert)
    }

    #[test]
    fn keys_and_values() {
        let t = read(&[("format", "json")], false).unwrap();
        assert_eq!((t.key_fields, t.value_fields), (vec![], vec![0, 1, 2]));
        let more = [("value.format", "json"), ("key.format", "raw"), ("key.fields", "k_id"), ("value.fields-include", "except_key")];
        let mut more = more.to_vec();
        let t = read(&more, false).unwrap();
        assert_eq!((t.key_fields, t.value_fields), (vec![0], vec![1, 2]));
        more.push(("key.fields-prefix", "k_"));
        assert_eq!(read(&more, false).unwrap().key_prefix, "k_");
        let t = read(&[("key.format", "json"), ("value.format", "json")], true).unwrap();
        assert_eq!((t.key_fields, t.value_fields), (vec![0], vec![0, 1, 2]));
    }

    #[test]
    fn what_does_not_go_together() {
        for (more, upsert, expected) in [
            (&[][..], false, "needs the option 'format'"),
            (&[("format", "json"), ("value.format", "json")], false, "mean the same"),
            (&[("format", "json"), ("key.fields", "name")], false, "'key.format'"),
            (&[("format", "json"), ("key.format", "json")], false, "'key.fields'"),
            (&[("format", "json"), ("key.format", "json"), ("key.fields", "nam")], false, "names 'nam'"),
            (&[("format", "json"), ("key.format", "json"), ("key.fields", "k_id"), ("key.fields-prefix", "k_")], false, "EXCEPT_KEY"),
            (&[("format", "json"), ("topic-pattern", "x")], false, "exclude"),
            (&[("format", "json"), ("scan.startup.mod", "x")], false, "no option 'scan.startup.mod'"),
            (
                &[("format", "json"), ("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:1")],
                false,
                "one topic",
            ),
            (&[("format", "json"), ("sink.partitioner", "org.My")], false, "default, fixed, round-robin"),
            (&[("value.format", "json")], true, "'key.format'"),
            (&[("key.format", "json"), ("value.format", "json"), ("sink.buffer-flush.max-rows", "3")], true, "buffer-flush.interval"),
            (&[("key.format", "json"), ("value.format", "json"), ("scan.startup.mode", "latest-offset")], true, "no option"),
        ] {
            let error = read(more, upsert).err().unwrap_or_else(|| panic!("{more:?}"));
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
