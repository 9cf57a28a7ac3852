//! What jobs and savepoints hold, in the form in which [`sluice_state::compatibility`] compares them.

use std::sync::Arc;

use sluice_batch::{Error, Result};
use sluice_connect::TableSpec;
use sluice_plan::{Graph, Node, NodeKind};
use sluice_state::checkpoints::Streamed;
use sluice_state::compatibility::{Member, Report, SOURCE, Verdict, compare};
use sluice_state::manifest::{self, Manifest};
use sluice_state::savepoint::Saved;
use sluice_state::storage::Storage;
use sluice_state::{Layout, OperatorState, Savepoint, SourceState, Tables, migrate};

/// The table of VALUES, which are a source that is read once.
pub const VALUES: &str = "VALUES";

/// Whether a job can go on from a savepoint. `allow_lost`: state without a place in the job may be left behind.
pub fn check(manifest: &Manifest, graph: &Graph, allow_lost: bool) -> Report {
    compare(&members_of_manifest(manifest), &members_of(graph), allow_lost)
}

/// What a commit holds, for a job that may not be the one that made it: under the identities of this job and in its layouts.
///
/// # Errors
/// If there is state that this job cannot use, unless `allow_lost`.
pub fn adapt(graph: &Graph, savepoint: Savepoint, allow_lost: bool) -> Result<Savepoint> {
    let report = compare(&members(&savepoint), &members_of(graph), allow_lost);
    let Savepoint { sql, sources, mut operators } = savepoint;
    let mut adapted = Savepoint { sql, sources: places(graph, &report, &sources)?, operators: vec![] };
    for (identity, from, layout) in operators_of(graph, &report) {
        let Some(found) = operators.iter().position(|o| o.identity == from) else { continue };
        let state = operators.swap_remove(found);
        let tables = migrate(state.tables, &state.layout, &layout).map_err(|e| e.context(format!("the state of {}", state.kind)))?;
        adapted.operators.push(OperatorState { identity, kind: state.kind, tables, layout });
    }
    Ok(adapted)
}

/// A savepoint for a job that may not be the one that wrote it.
#[derive(Clone, Default)]
pub struct Adapted {
    pub sources: Vec<SourceState>,
    pub operators: Vec<Saved>,
}

impl Adapted {
    /// Reads the manifest of a savepoint.
    ///
    /// # Errors
    /// If there is none, or it has state that this job cannot use, unless `allow_lost`.
    pub fn read(graph: &Graph, directory: &Arc<dyn Storage>, allow_lost: bool) -> Result<Self> {
        let manifest = Savepoint::manifest(directory.as_ref())?;
        let report = check(&manifest, graph, allow_lost);
        let mut sources = places(graph, &report, &manifest.sources)?;
        // A job started from a savepoint takes its time from what it reads, as Flink's does. (A job that goes on after a crash keeps it:
        // its output is that of an uninterrupted run.)
        sources.iter_mut().for_each(|s| s.watermark = None);
        let operators = operators_of(graph, &report).filter_map(|(identity, from, layout)| {
            let saved = manifest.operators.iter().find(|o| o.identity == from)?;
            Some(Saved::new(directory, saved, identity, layout))
        });
        Ok(Self { sources, operators: operators.collect() })
    }

    /// What is given to operators before the job begins; those for which `streams` answers true get their rows a part at a time.
    ///
    /// # Errors
    /// If a file is missing or damaged.
    pub fn load(&self, streams: &dyn Fn(&str, &Layout) -> bool) -> Result<(Savepoint, Option<Streamed>)> {
        let (mut operators, mut streamed) = (vec![], vec![]);
        for saved in &self.operators {
            let (identity, kind, layout) = (saved.identity.clone(), saved.kind.clone(), saved.layout.clone());
            let tables = if streams(&identity, &layout) {
                streamed.push(saved.clone());
                Tables::new()
            } else {
                saved.load()?
            };
            operators.push(OperatorState { identity, kind, tables, layout });
        }
        let streamed = (!streamed.is_empty()).then_some(Streamed::Savepoint(streamed));
        Ok((Savepoint { sql: String::new(), sources: self.sources.clone(), operators }, streamed))
    }
}

/// Where sources go on. Says which state is left behind.
fn places(graph: &Graph, report: &Report, sources: &[SourceState]) -> Result<Vec<SourceState>> {
    let lost = report.lost();
    if !lost.is_empty() {
        return Err(Error::plan(format!("the savepoint holds state that this job has no place for: {}", lost.join(", ")))
            .hint("--allow-non-restored-state starts without it; `sluice check` says more"));
    }
    for judgement in report.operators.iter().filter(|j| j.verdict == Verdict::Partial) {
        tracing::warn!("{}: {}", judgement.kind, judgement.reasons.join("; "));
    }
    let place = |node: &Node| {
        let (identity, sinks) = (node.properties.identity.clone(), node.properties.sinks.clone());
        let from = report.restored_from(&identity)?;
        let source = sources.iter().find(|s| s.identity == from)?.clone();
        Some(SourceState { identity, sinks, ..source })
    };
    Ok(graph.nodes.iter().filter_map(place).collect())
}

/// Identities of the job's operators, those that they had, and their layouts.
fn operators_of<'a>(graph: &'a Graph, report: &'a Report) -> impl Iterator<Item = (String, &'a str, Layout)> {
    graph.nodes.iter().enumerate().filter_map(|(at, node)| {
        let identity = &node.properties.identity;
        Some((identity.clone(), report.restored_from(identity)?, sluice_plan::layout(graph, at)?))
    })
}

fn source(identity: &str, table: &str, sinks: &[String], positions: &[(String, String)]) -> Member {
    let layout = Layout { meaning: format!("{SOURCE}{table}"), sinks: sinks.to_vec(), ..Layout::default() };
    let kind = format!("{SOURCE}{table}");
    Member { identity: identity.to_owned(), kind, layout, rows: 1, positions: positions.to_vec(), topics: vec![], upstream: vec![] }
}

fn operator(identity: &str, kind: &str, layout: &Layout, rows: u64) -> Member {
    let (identity, kind) = (identity.to_owned(), kind.to_owned());
    Member { identity, kind, layout: layout.clone(), rows, positions: vec![], topics: vec![], upstream: vec![] }
}

/// The sources and the operators with state of a savepoint.
pub fn members(savepoint: &Savepoint) -> Vec<Member> {
    let rows = |o: &sluice_state::OperatorState| o.tables.values().map(|t| t.len() as u64).sum();
    let sources = savepoint.sources.iter().map(|s| source(&s.identity, &s.table, &s.sinks, &s.positions));
    sources.chain(savepoint.operators.iter().map(|o| operator(&o.identity, &o.kind, &o.layout, rows(o)))).collect()
}

fn members_of_manifest(manifest: &Manifest) -> Vec<Member> {
    let rows = |o: &sluice_state::manifest::Operator| o.tables.iter().map(|t| t.rows).sum();
    let sources = manifest.sources.iter().map(|s| source(&s.identity, &s.table, &s.sinks, &s.positions));
    sources.chain(manifest.operators.iter().map(|o| operator(&o.identity, &o.kind, &o.layout, rows(o)))).collect()
}

/// The Kafka topics that a table names.
fn topics(table: &TableSpec) -> Vec<String> {
    let option = |key: &str| table.options.iter().find(|o| o.key == key).map(|o| o.value.as_str()).unwrap_or_default();
    if !matches!(option("connector"), "kafka" | "upsert-kafka") {
        return vec![];
    }
    option("topic").split(';').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

/// What a savepoint of this job would hold, as far as that is known without taking one: all that [`check`] asks of it. Whether an operator
/// has rows is not known: it is taken to have some.
pub fn manifest_of(graph: &Graph, sql: &str) -> Manifest {
    let mut manifest = Manifest {
        format: manifest::FORMAT,
        engine: env!("CARGO_PKG_VERSION").to_owned(),
        created: String::new(),
        sql: sql.to_owned(),
        sources: vec![],
        operators: vec![],
    };
    for Member { identity, kind, layout, topics, .. } in members_of(graph) {
        if let Some(table) = kind.strip_prefix(SOURCE) {
            let positions = topics.into_iter().map(|topic| (format!("{topic}-0"), String::new())).collect();
            manifest.sources.push(SourceState { identity, table: table.to_owned(), positions, sinks: layout.sinks, watermark: None });
        } else {
            let table = manifest::Table { name: String::new(), file: String::new(), rows: 1, columns: vec![] };
            manifest.operators.push(manifest::Operator { identity, kind, tables: vec![table], layout });
        }
    }
    manifest
}

/// Those of a job that is to run.
pub fn members_of(graph: &Graph) -> Vec<Member> {
    let mut members: Vec<Member> = vec![];
    // Per node the sources that it reads, as positions in `members`.
    let mut sources: Vec<Vec<usize>> = vec![];
    for (at, node) in graph.nodes.iter().enumerate() {
        let properties = &node.properties;
        let mut upstream: Vec<usize> = node.inputs.iter().flat_map(|i| sources[*i].iter().copied()).collect();
        upstream.sort_unstable();
        upstream.dedup();
        let table = match &node.kind {
            NodeKind::Source { table, .. } => Some((table.name.as_str(), topics(table))),
            NodeKind::Values { .. } => Some((VALUES, vec![])),
            _ => None,
        };
        if let Some((table, topics)) = table {
            upstream.push(members.len());
            members.push(Member { topics, ..source(&properties.identity, table, &properties.sinks, &[]) });
        } else if let Some(layout) = sluice_plan::layout(graph, at) {
            let member = operator(&properties.identity, sluice_plan::name(&node.kind), &layout, 0);
            members.push(Member { upstream: upstream.clone(), ..member });
        }
        sources.push(upstream);
    }
    members
}
