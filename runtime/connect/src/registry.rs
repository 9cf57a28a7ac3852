//! The connectors by name: one line each.

use sluice_batch::{Error, Expr, Field, Result};

use crate::options::closest;
use crate::{
    Lookup, LookupInfo, LookupRequest, ScanRequest, Sink, SinkInfo, Source, SourceInfo, TableSpec, Transactions, jdbc, sink, source,
};

/// A connector: what it can do and how it is made.
pub(crate) struct Connector {
    pub name: &'static str,
    /// `None`: cannot be read.
    pub source: Option<SourceFactory>,
    /// `None`: cannot be written.
    pub sink: Option<SinkFactory>,
    /// `None`: keys cannot be looked up in it.
    pub lookup: Option<LookupFactory>,
}

pub(crate) struct SourceFactory {
    /// Checks the options and says what the source gives.
    pub info: fn(&TableSpec) -> Result<SourceInfo>,
    pub metadata: fn(&TableSpec) -> Result<Vec<Field>>,
    pub open: fn(&TableSpec, &ScanRequest) -> Result<Box<dyn Source>>,
    /// Several tasks can read it together ([`ScanRequest::share`]).
    pub splits: bool,
    /// Whether it can leave out rows that a condition over the scan's columns is not true for ([`ScanRequest::filter`]).
    pub filters: fn(&TableSpec, &ScanRequest, &Expr) -> bool,
}

pub(crate) struct SinkFactory {
    /// Checks the options and says what the sink takes.
    pub info: fn(&TableSpec) -> Result<SinkInfo>,
    pub open: fn(&TableSpec, chrono_tz::Tz, &Transactions) -> Result<Box<dyn Sink>>,
}

pub(crate) struct LookupFactory {
    /// Checks the options and says what the planner must know.
    pub info: fn(&TableSpec) -> Result<LookupInfo>,
    pub open: fn(&TableSpec, &LookupRequest) -> Result<Box<dyn Lookup>>,
}

const REGISTRY: &[Connector] = &[
    Connector { name: "kafka", source: Some(source::kafka::FACTORY), sink: Some(sink::kafka::FACTORY), lookup: None },
    Connector { name: "upsert-kafka", source: Some(source::kafka::UPSERT_FACTORY), sink: Some(sink::kafka::UPSERT_FACTORY), lookup: None },
    Connector { name: "filesystem", source: Some(source::filesystem::FACTORY), sink: Some(sink::filesystem::FACTORY), lookup: None },
    Connector { name: "jdbc", source: Some(source::jdbc::FACTORY), sink: Some(sink::jdbc::FACTORY), lookup: Some(jdbc::lookup::FACTORY) },
    Connector { name: "datagen", source: Some(source::datagen::FACTORY), sink: None, lookup: None },
    Connector { name: "http", source: None, sink: Some(sink::http::FACTORY), lookup: None },
    Connector { name: "slack", source: None, sink: Some(sink::slack::FACTORY), lookup: None },
    Connector { name: "print", source: None, sink: Some(sink::print::FACTORY), lookup: None },
    Connector { name: "blackhole", source: None, sink: Some(sink::blackhole::FACTORY), lookup: None },
];

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

pub(crate) fn lookup(table: &TableSpec) -> Result<&'static LookupFactory> {
    let connector = find(table)?;
    connector.lookup.as_ref().ok_or_else(|| {
        Error::plan(format!(
            "table '{}' cannot be looked up in as of a processing time: connector '{}' only scans",
            table.name, connector.name
        ))
        .hint("use a table of connector 'jdbc', join as of a rowtime, or use a plain join")
    })
}
