//! The connectors by name: one line each.

use sluice_batch::{Error, Field, Result};

use crate::options::closest;
use crate::{ScanRequest, Sink, SinkInfo, Source, SourceInfo, TableSpec, Transactions, sink, source};

/// A connector: what it can do and how it is made.
pub(crate) struct Connector {
    pub name: &'static str,
    /// `None`: cannot be read.
    pub source: Option<SourceFactory>,
    /// `None`: cannot be written.
    pub sink: Option<SinkFactory>,
}

pub(crate) struct SourceFactory {
    /// Checks the options and says what the source gives.
    pub info: fn(&TableSpec) -> Result<SourceInfo>,
    pub metadata: fn(&TableSpec) -> Result<Vec<Field>>,
    pub open: fn(&TableSpec, &ScanRequest) -> Result<Box<dyn Source>>,
    /// Several tasks can read it together ([`ScanRequest::share`]).
    pub splits: bool,
}

pub(crate) struct SinkFactory {
    /// Checks the options and says what the sink takes.
    pub info: fn(&TableSpec) -> Result<SinkInfo>,
    pub open: fn(&TableSpec, chrono_tz::Tz, &Transactions) -> Result<Box<dyn Sink>>,
}

const REGISTRY: &[Connector] = &[
    Connector { name: "kafka", source: Some(source::kafka::FACTORY), sink: Some(sink::kafka::FACTORY) },
    Connector { name: "upsert-kafka", source: Some(source::kafka::UPSERT_FACTORY), sink: Some(sink::kafka::UPSERT_FACTORY) },
    Connector { name: "filesystem", source: Some(source::filesystem::FACTORY), sink: Some(sink::filesystem::FACTORY) },
    Connector { name: "datagen", source: Some(source::datagen::FACTORY), sink: None },
    Connector { name: "print", source: None, sink: Some(sink::print::FACTORY) },
    Connector { name: "blackhole", source: None, sink: Some(sink::blackhole::FACTORY) },
];

/// Connectors of a later version.
const PLANNED: &[&str] = &["jdbc", "slack", "http"];

/// The connector that a table names.
///
/// # Errors
/// If it names none or an unknown one (did-you-mean).
pub(crate) fn find(table: &TableSpec) -> Result<&'static Connector> {
    let Some(option) = table.options.iter().find(|o| o.key == "connector") else {
        return Err(Error::plan(format!("table '{}' has no 'connector' option", table.name))
            .at(table.span)
            .hint("add 'connector' = 'kafka' or another one to its WITH clause"));
    };
    REGISTRY.iter().find(|c| c.name == option.value).ok_or_else(|| {
        if PLANNED.contains(&option.value.as_str()) {
            return Error::unsupported(format!("table '{}': connector '{}'", table.name, option.value)).at(option.value_span);
        }
        let error = Error::plan(format!("there is no connector '{}'", option.value)).at(option.value_span);
        match closest(&option.value, REGISTRY.iter().map(|c| c.name)) {
            Some(near) => error.hint(format!("did you mean '{near}'?")),
            None => error.hint(format!("connectors: {}", REGISTRY.iter().map(|c| c.name).collect::<Vec<_>>().join(", "))),
        }
    })
}

pub(crate) fn source(table: &TableSpec) -> Result<&'static SourceFactory> {
    let connector = find(table)?;
    connector.source.as_ref().ok_or_else(|| {
        Error::plan(format!("table '{}' cannot be read: connector '{}' only writes", table.name, connector.name)).at(table.span)
    })
}

pub(crate) fn sink(table: &TableSpec) -> Result<&'static SinkFactory> {
    let connector = find(table)?;
    connector.sink.as_ref().ok_or_else(|| {
        Error::plan(format!("table '{}' cannot be written: connector '{}' only reads", table.name, connector.name)).at(table.span)
    })
}
