//! What goes between a query and its sink: constraint checks, materialisation by the sink's key, and the refusal of
//! changes that the sink cannot take (Flink: `CommonExecSink`, `FlinkChangelogModeInferenceProgram`).

use std::sync::Arc;

use sluice_batch::{Error, Result, Span, SqlType, TypeKind};
use sluice_connect::SinkInfo;
use sluice_format::ChangelogMode;
use sluice_operators::spec::{ConstraintSpec, LengthConstraint, NestedConstraint, OperatorSpec, UpsertMaterializeSpec};
use sluice_sql::catalog::Table;
use sluice_sql::relation::{BoundStatement, ColumnDef};

use crate::NodeKind;
use crate::node::{Kinds, PNode, UpdateBefore, Wants};
use crate::settings::{LengthEnforcer, NestedEnforcer, UpsertMaterialize};
use crate::translate::{Planner, table_spec};

/// An INSERT's target as the planner needs it.
struct Target<'a> {
    table: &'a Table,
    /// Names of the columns that are written.
    names: Vec<String>,
    info: SinkInfo,
    /// Positions in the rows that are written.
    key: Option<Vec<usize>>,
    on_conflict: Option<String>,
    span: Span,
}

impl Target<'_> {
    fn list<'c>(&self, columns: impl IntoIterator<Item = &'c usize>) -> String {
        columns.into_iter().filter_map(|c| self.names.get(*c)).map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl Planner<'_> {
    pub(crate) fn sink(&mut self, statement: &BoundStatement) -> Result<usize> {
        let BoundStatement::Insert { table, columns, query, options, on_conflict, span } = statement else {
            return Err(Error::plan("internal: not an INSERT"));
        };
        // INSERT OVERWRITE: the binder has checked that the sink can; new files replace nothing.
        let options: Vec<_> = options.iter().filter(|(key, _)| key != "overwrite").cloned().collect();
        let spec = table_spec(table, &options);
        let info = sluice_connect::sink_info(&spec)?;
        let position = |c: &usize| columns.iter().position(|x| x == c);
        let key = table.primary_key.as_ref().and_then(|k| k.iter().map(position).collect::<Option<Vec<_>>>());
        let names = columns.iter().filter_map(|c| table.columns.get(*c)).map(|c| c.name.clone()).collect();
        let target = Target { table, names, info, key, on_conflict: on_conflict.as_ref().map(|c| conflict(c)), span: *span };
        let query_node = self.exact(query)?;
        let node = self.constraints(query_node, table, columns);
        let (node, wants) = self.write_to(node, &target)?;
        let schema: Vec<ColumnDef> = columns
            .iter()
            .map(|c| ColumnDef { name: table.columns[*c].name.clone(), ty: table.columns[*c].ty.clone(), time: None })
            .collect();
        let input = self.node(node);
        let (kinds, keys, bounded, event_time) = (input.kinds, input.keys.clone(), input.bounded, input.event_time);
        Ok(self.arena.add(PNode {
            kind: NodeKind::Sink { table: spec },
            inputs: vec![(node, wants)],
            schema: Arc::new(schema),
            kinds,
            update_before: UpdateBefore::Forwards,
            keys,
            bounded,
            event_time,
            state: "none".into(),
        }))
    }

    /// Checks what the sink can take, and materialises by its key where the query's rows have another one.
    fn write_to(&mut self, node: usize, target: &Target<'_>) -> Result<(usize, Wants)> {
        let kinds = self.node(node).kinds;
        let name = &target.table.name;
        if target.on_conflict.is_some() && (target.info.changelog != ChangelogMode::Upsert || target.key.is_none()) {
            let why = match target.info.changelog {
                ChangelogMode::All => "it requires UPDATE_BEFORE (retract mode)",
                ChangelogMode::InsertOnly => "it takes inserts only",
                ChangelogMode::Upsert => "it has no primary key",
            };
            let message =
                format!("ON CONFLICT clause is only allowed for upsert sinks. The sink '{name}' is not an upsert sink because {why}.");
            return Err(Error::plan(message).at(target.span));
        }
        match target.info.changelog {
            ChangelogMode::InsertOnly => {
                self.require_insert_only(node, &format!("Table sink '{name}'")).map_err(|e| {
                    e.hint("write to an upsert sink with a PRIMARY KEY (upsert-kafka), use a changelog format (debezium-json), or aggregate over windows")
                        .at(target.span)
                })?;
                Ok((node, Wants::AsConsumers))
            }
            ChangelogMode::All => Ok((node, Wants::Needs)),
            ChangelogMode::Upsert => match &target.key {
                Some(key) => self.upserts(node, key.clone(), target),
                None if kinds.insert_only() => Ok((node, Wants::AsConsumers)),
                None => Err(Error::plan(format!("table sink '{name}' takes upserts but has no PRIMARY KEY"))
                    .hint("declare PRIMARY KEY (…) NOT ENFORCED")
                    .at(target.span)),
            },
        }
    }

    fn upserts(&mut self, node: usize, key: Vec<usize>, target: &Target<'_>) -> Result<(usize, Wants)> {
        let name = &target.table.name;
        let input = self.node(node);
        let (insert_only, event_time) = (input.kinds.insert_only(), input.event_time);
        let within = |k: &std::collections::BTreeSet<usize>| k.iter().all(|c| key.contains(c));
        let matches = input.keys.iter().any(within);
        let conflict = target.on_conflict.as_deref();
        if matches!(conflict, Some("ERROR" | "NOTHING")) && !matches && !event_time {
            let message = format!("ON CONFLICT DO {} requires all source tables to define watermarks", conflict.unwrap_or_default());
            return Err(Error::plan(message)
                .hint("declare WATERMARK FOR on the sources, or use ON CONFLICT DO DEDUPLICATE")
                .at(target.span));
        }
        if self.settings.require_on_conflict && !matches && conflict.is_none() {
            let message = format!(
                "The query has an upsert key that differs from the primary key of the sink table '{name}'. Primary key: [{}], upsert keys: [{}]",
                target.list(&key),
                self.node(node).keys.iter().map(|k| format!("[{}]", target.list(k))).collect::<Vec<_>>().join(", ")
            );
            return Err(Error::plan(message)
                .hint("add ON CONFLICT DO DEDUPLICATE (or NOTHING, ERROR), or set 'table.exec.sink.require-on-conflict' = 'false'")
                .at(target.span));
        }
        let materialize = match self.settings.upsert_materialize {
            UpsertMaterialize::Force => true,
            UpsertMaterialize::None => false,
            UpsertMaterialize::Auto => !matches && (!insert_only || matches!(conflict, Some("ERROR" | "NOTHING"))),
        };
        if !matches && !insert_only {
            let query = match self.node(node).keys.first() {
                Some(k) => format!("the query's rows are told apart by ({})", target.list(k)),
                None => "the query's rows have no key".into(),
            };
            let what =
                if materialize { "rows are kept per sink key to settle conflicts" } else { "rows of one key may overwrite each other" };
            self.warnings.push(format!("sink '{name}' has the key ({}) but {query}: {what}", target.list(&key)));
        }
        if !materialize {
            return Ok((node, Wants::Avoids));
        }
        let input = self.node(node);
        let spec = UpsertMaterializeSpec {
            input: input.types(),
            sink_key: key.clone(),
            upsert_key: input.keys.first().map(|k| k.iter().copied().collect()),
            on_conflict: target.on_conflict.clone(),
            state_ttl: self.settings.state_ttl,
        };
        let schema = (*input.schema).clone();
        let state = self.keyed_state("all rows per sink key");
        let node = self.operator(OperatorSpec::UpsertMaterialize(spec), vec![(node, Wants::Needs)], schema, |n| {
            n.kinds = Kinds { update: true, delete: !insert_only };
            n.update_before = UpdateBefore::Never;
            n.keys = vec![key.into_iter().collect()];
            n.state = state;
        });
        Ok((node, Wants::Refuses))
    }

    fn constraints(&mut self, node: usize, table: &Table, columns: &[usize]) -> usize {
        let key = table.primary_key.clone().unwrap_or_default();
        let mut spec = ConstraintSpec { not_null: vec![], drop_null_rows: self.settings.not_null_drop, lengths: vec![], nested: vec![] };
        let lengths = match self.settings.length {
            LengthEnforcer::Ignore => None,
            LengthEnforcer::TrimPad => Some(false),
            LengthEnforcer::Error => Some(true),
        };
        for (at, c) in columns.iter().enumerate() {
            let column = &table.columns[*c];
            // Also where the query's type is NOT NULL: that of a source's column is a promise that data can break.
            if !column.ty.nullable || key.contains(c) {
                spec.not_null.push((at, column.name.clone()));
            }
            if let Some(fail) = lengths.filter(|_| has_length(&column.ty)) {
                spec.lengths.push(LengthConstraint { column: at, name: column.name.clone(), ty: column.ty.clone(), fail });
            }
            if self.settings.nested != NestedEnforcer::Ignore && is_nested(&column.ty) {
                let collections = self.settings.nested == NestedEnforcer::RowsAndCollections;
                spec.nested.push(NestedConstraint { column: at, name: column.name.clone(), ty: column.ty.clone(), collections, lengths });
            }
        }
        if spec.not_null.is_empty() && spec.lengths.is_empty() && spec.nested.is_empty() {
            return node;
        }
        let input = self.node(node);
        let (schema, keys) = ((*input.schema).clone(), input.keys.clone());
        self.operator(OperatorSpec::ConstraintEnforcer(spec), vec![(node, Wants::AsConsumers)], schema, |n| n.keys = keys)
    }
}

fn has_length(ty: &SqlType) -> bool {
    match ty.kind {
        TypeKind::Char(_) | TypeKind::Binary(_) => true,
        TypeKind::VarChar(n) | TypeKind::VarBinary(n) => n != sluice_batch::types::MAX_LENGTH,
        _ => false,
    }
}

fn is_nested(ty: &SqlType) -> bool {
    matches!(ty.kind, TypeKind::Row(_) | TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_))
}

/// `DO DEDUPLICATE` as `DEDUPLICATE`.
fn conflict(clause: &str) -> String {
    clause.trim().trim_start_matches("DO ").trim().to_uppercase()
}
