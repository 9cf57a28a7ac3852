//! Tables to sources: one Source a table and job, with the columns that any use of it needs.

use std::sync::Arc;
use std::time::Duration;

use sluice_batch::{Error, Expr, Field, Result, duration};
use sluice_connect::{MetadataColumn, ScanColumn, ScanRequest, SourceInfo, TableOption, TableSpec, WatermarkSpec};
use sluice_format::ChangelogMode;
use sluice_operators::spec::{ChangelogNormalizeSpec, OperatorSpec, WatermarkAssignerSpec};
use sluice_sql::catalog::{ColumnKind, Table};
use sluice_sql::relation::{ColumnDef, Rel, RelKind, TimeAttribute};

use super::Planner;
use super::calc::set;
use crate::NodeKind;
use crate::expressions::columns as columns_of;
use crate::node::{Kinds, Needed, PNode, Stream, UpdateBefore, Wants};

impl Planner<'_> {
    /// A scan, with the watermark right above it if there is one.
    pub(super) fn scan(
        &mut self,
        rel: &Rel,
        table: &Arc<Table>,
        columns: &[usize],
        hints: &[(String, String)],
        watermark: Option<(usize, &Expr)>,
        needed: &Needed,
    ) -> Result<Stream> {
        let spec = table_spec(table, hints);
        check_metadata(table, &spec)?;
        let info = sluice_connect::source_info(&spec)?;
        let normalize = normalize_key(table, &spec, &info, self.settings.cdc_events_duplicate)?;
        let mut wanted: Needed = needed.iter().filter_map(|c| columns.get(*c).copied()).collect();
        if let Some((column, expr)) = watermark {
            wanted.extend(columns_of(expr).iter().chain([&column]).filter_map(|c| columns.get(*c)));
        }
        wanted.extend(normalize.iter().flatten());
        if wanted.is_empty() {
            // Something must be read to count rows: the first of the narrowest columns.
            let cheap =
                |c: &&usize| matches!(table.columns[**c].ty.kind, sluice_batch::TypeKind::Row(_) | sluice_batch::TypeKind::Array(_));
            wanted.extend(columns.iter().filter(|c| matches!(table.columns[**c].kind, ColumnKind::Physical)).min_by_key(cheap));
        }
        let scanned = self.scanned_columns(&spec, hints, watermark.is_some(), wanted);
        let at = |table_column: usize| scanned.iter().position(|c| *c == table_column);
        let map: Vec<Option<usize>> = columns.iter().map(|c| at(*c)).collect();
        let stream = Stream { node: 0, map: map.clone() };
        let watermark_spec =
            watermark.map(|(column, expr)| self.watermark_spec(&spec, stream.column(column)?, stream.expr(expr)?)).transpose()?;
        let mut schema = vec![];
        for c in &scanned {
            let column = &table.columns[*c];
            let bound = columns.iter().position(|x| x == c).and_then(|i| rel.schema.get(i)).cloned();
            schema.push(bound.unwrap_or_else(|| crate::node::column(&column.name, column.ty.clone())));
        }
        let request = ScanRequest {
            columns: scanned.iter().map(|c| scan_column(table, *c)).collect(),
            watermark: watermark_spec,
            force_bounded: self.options.force_bounded,
            time_zone: self.settings.time_zone,
            share: sluice_connect::Share::ALL,
            group: None,
            filter: None,
        };
        let primary_key = table.primary_key.as_ref().and_then(|k| k.iter().map(|c| at(*c)).collect::<Option<Vec<_>>>());
        let mut node = self.source(spec, request, &info, schema, primary_key.as_deref());
        if let Some(key) = normalize {
            let key = key.iter().filter_map(|c| at(*c)).collect();
            node = self.normalize(node, key);
        }
        Ok(Stream { node, map })
    }

    /// All columns that this and the other scans of the table use; asks for another round if that is news to them.
    fn scanned_columns(&mut self, spec: &TableSpec, hints: &[(String, String)], watermark: bool, wanted: Needed) -> Vec<usize> {
        let known = self.scans.entry(format!("{} {hints:?} {watermark}", spec.name)).or_default();
        if !wanted.is_subset(known) {
            self.grew |= !known.is_empty();
            known.extend(wanted);
        }
        known.iter().copied().collect()
    }

    fn source(&mut self, spec: TableSpec, request: ScanRequest, info: &SourceInfo, schema: Vec<ColumnDef>, key: Option<&[usize]>) -> usize {
        let (kinds, update_before) = match info.changelog {
            ChangelogMode::InsertOnly => (Kinds::INSERT_ONLY, UpdateBefore::Never),
            ChangelogMode::Upsert => (Kinds::ALL, UpdateBefore::Never),
            ChangelogMode::All => (Kinds::ALL, UpdateBefore::Always),
        };
        let forced = request.force_bounded;
        self.arena.add(PNode {
            event_time: request.watermark.is_some(),
            kind: NodeKind::Source { table: spec, request },
            inputs: vec![],
            schema: Arc::new(schema),
            kinds,
            update_before,
            keys: key.map(|k| set(k.iter().copied())).into_iter().collect(),
            bounded: info.bounded || forced,
            state: "none".into(),
        })
    }

    pub(super) fn normalize(&mut self, node: usize, key: Vec<usize>) -> usize {
        let input = self.node(node);
        let spec = ChangelogNormalizeSpec {
            input: input.types(),
            key: key.clone(),
            emit_update_before: true,
            filter: None,
            mini_batch: self.settings.mini_batch,
            state_ttl: self.settings.state_ttl,
        };
        let schema = (*input.schema).clone();
        let wants = if input.update_before == UpdateBefore::Always { Wants::Needs } else { Wants::AsConsumers };
        let state = self.keyed_state("last row per key");
        self.operator(OperatorSpec::ChangelogNormalize(spec), vec![(node, wants)], schema, |n| {
            n.kinds = Kinds::ALL;
            n.update_before = UpdateBefore::OnDemand;
            n.keys = vec![set(key)];
            n.state = state;
        })
    }

    /// A watermark: in the scan if it is right below, else an operator.
    pub(super) fn watermark(&mut self, rel: &Rel, input: &Rel, column: usize, expr: &Expr, needed: &Needed) -> Result<Stream> {
        if let RelKind::Scan { table, columns, hints } = &input.kind {
            return self.scan(rel, table, columns, hints, Some((column, expr)), needed);
        }
        let used: Needed = needed.iter().copied().chain(columns_of(expr)).chain([column]).collect();
        let below = self.translate(input, &used)?;
        let column = below.column(column)?;
        let spec = WatermarkAssignerSpec { column, expr: below.expr(expr)?, on_event: scans_on_event(input) };
        let mut schema = (*self.node(below.node).schema).clone();
        schema[column].time = Some(TimeAttribute::Rowtime);
        let keys = self.node(below.node).keys.clone();
        let node = self.operator(OperatorSpec::WatermarkAssigner(spec), vec![(below.node, Wants::AsConsumers)], schema, |n| {
            n.keys = keys;
            n.event_time = true;
        });
        Ok(Stream { node, map: below.map })
    }

    fn watermark_spec(&self, table: &TableSpec, column: usize, expr: Expr) -> Result<WatermarkSpec> {
        let option = |key: &str| table.options.iter().find(|o| o.key == key);
        let on_event = match option("scan.watermark.emit.strategy").map(|o| (o.value.to_ascii_lowercase(), o)) {
            None => false,
            Some((v, _)) if v == "on-periodic" => false,
            Some((v, _)) if v == "on-event" => true,
            Some((_, o)) => {
                return Err(Error::plan(format!("'scan.watermark.emit.strategy' cannot be '{}'", o.value))
                    .hint("it is 'on-periodic' or 'on-event'")
                    .at(o.value_span));
            }
        };
        let idle = option("scan.watermark.idle-timeout");
        let idle_timeout = match idle {
            Some(o) => duration::parse(&o.value).map_err(|e| e.context("scan.watermark.idle-timeout").at(o.value_span))?,
            None => self.settings.idle_timeout,
        };
        let interval = if on_event { Duration::ZERO } else { self.settings.watermark_interval };
        Ok(WatermarkSpec { expr, column, on_event, interval, idle_timeout })
    }

    /// What bounds state of one entry a key.
    pub(crate) fn keyed_state(&self, what: &str) -> String {
        match self.settings.state_ttl {
            0 => format!("keys: {what}"),
            ttl => format!("ttl {}: {what}", crate::explain::interval(ttl)),
        }
    }
}

fn scans_on_event(rel: &Rel) -> bool {
    match &rel.kind {
        RelKind::Scan { table, .. } => table.option("scan.watermark.emit.strategy") == Some("on-event"),
        _ => rel.inputs().into_iter().any(scans_on_event),
    }
}

/// The key (positions in the table's columns) by which a source's changelog has to be normalised.
fn normalize_key(table: &Table, spec: &TableSpec, info: &SourceInfo, duplicates: bool) -> Result<Option<Vec<usize>>> {
    let physical: Vec<usize> = physical_positions(table);
    if let Some(key) = &info.upsert_key {
        return Ok(Some(key.iter().filter_map(|k| physical.get(*k).copied()).collect()));
    }
    match (info.changelog, &table.primary_key) {
        (ChangelogMode::Upsert, Some(key)) => Ok(Some(key.clone())),
        (ChangelogMode::Upsert, None) => {
            let message = format!("table '{}' is read as an upsert changelog but has no PRIMARY KEY", spec.name);
            Err(Error::plan(message).at(table.span).hint("declare PRIMARY KEY (…) NOT ENFORCED"))
        }
        (ChangelogMode::All, Some(key)) if duplicates => Ok(Some(key.clone())),
        (ChangelogMode::All, None) if duplicates => {
            let message =
                format!("Configuration 'table.exec.source.cdc-events-duplicate' is set to true, table '{}' needs a PRIMARY KEY", spec.name);
            Err(Error::plan(message).at(table.span).hint("declare PRIMARY KEY (…) NOT ENFORCED"))
        }
        _ => Ok(None),
    }
}

fn physical_positions(table: &Table) -> Vec<usize> {
    let physical = table.columns.iter().enumerate().filter(|(_, c)| matches!(c.kind, ColumnKind::Physical));
    physical.map(|(i, _)| i).collect()
}

pub(super) fn scan_column(table: &Table, column: usize) -> ScanColumn {
    let before = &table.columns[..column];
    match table.columns[column].kind {
        ColumnKind::Metadata { .. } => {
            ScanColumn::Metadata(before.iter().filter(|c| matches!(c.kind, ColumnKind::Metadata { .. })).count())
        }
        _ => ScanColumn::Physical(before.iter().filter(|c| matches!(c.kind, ColumnKind::Physical)).count()),
    }
}

/// Metadata columns must be ones that the connector or format offers.
fn check_metadata(table: &Table, spec: &TableSpec) -> Result<()> {
    if spec.metadata.is_empty() {
        return Ok(());
    }
    let offered = sluice_connect::readable_metadata(spec)?;
    for column in &table.columns {
        let ColumnKind::Metadata { key, .. } = &column.kind else { continue };
        if offered.is_empty() || offered.iter().any(|f| f.name == *key) {
            continue;
        }
        let names: Vec<_> = offered.iter().map(|f| f.name.as_str()).collect();
        let message = format!("Invalid metadata key '{key}' in column '{}' of table '{}'", column.name, spec.name);
        let near =
            names.iter().map(|n| (strsim::damerau_levenshtein(n, key), *n)).min().filter(|(distance, _)| *distance <= 1 + key.len() / 4);
        let hint = near.map_or_else(|| format!("the connector offers {}", names.join(", ")), |(_, near)| format!("did you mean '{near}'?"));
        return Err(Error::plan(message).at(column.span).hint(hint));
    }
    Ok(())
}

/// A catalog table as connectors see it; hints replace options of the same key.
pub(crate) fn table_spec(table: &Table, hints: &[(String, String)]) -> TableSpec {
    let physical = physical_positions(table);
    let field = |c: &sluice_sql::catalog::Column| Field::new(&c.name, c.ty.clone());
    let metadata = table.columns.iter().filter_map(|c| match &c.kind {
        ColumnKind::Metadata { key, is_virtual } => Some(MetadataColumn { key: key.clone(), field: field(c), is_virtual: *is_virtual }),
        _ => None,
    });
    let mut options: Vec<TableOption> = table
        .options
        .values()
        .map(|o| TableOption { key: o.key.clone(), value: o.value.clone(), key_span: o.key_span, value_span: o.value_span })
        .collect();
    for (key, value) in hints {
        match options.iter_mut().find(|o| o.key == *key) {
            Some(o) => o.value.clone_from(value),
            None => options.push(TableOption { key: key.clone(), value: value.clone(), key_span: table.span, value_span: table.span }),
        }
    }
    TableSpec {
        name: table.name.clone(),
        physical: physical.iter().map(|i| field(&table.columns[*i])).collect(),
        metadata: metadata.collect(),
        primary_key: table.primary_key.as_ref().map(|k| k.iter().filter_map(|c| physical.iter().position(|p| p == c)).collect()),
        options,
        span: table.span,
    }
}
