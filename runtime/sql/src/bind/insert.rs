//! INSERT: the query's columns as those that the table persists.

use std::sync::Arc;

use sluice_batch::types::Field;
use sluice_batch::{Error, Expr, Result, Span, SqlType, TypeKind};

use super::{Binder, Env, build, did_you_mean, table, unshare, unsupported};
use crate::ast;
use crate::catalog::{ColumnKind, Table};
use crate::relation::{BoundStatement, ColumnDef, Rel, RelKind};

impl Binder<'_> {
    pub(super) fn insert(&self, insert: &ast::Insert) -> Result<BoundStatement> {
        let object = insert.table.object();
        if self.catalog.views.contains_key(object) {
            return Err(Error::plan(format!("'{object}' is a view; rows can only be inserted into tables")).at(insert.table.span()));
        }
        let Some(table) = self.catalog.tables.get(object) else {
            return Err(self.unknown_table(&insert.table, &Env::default()));
        };
        if let Some((column, _)) = insert.partition.first() {
            return Err(unsupported("INSERT … PARTITION (…)", column.span));
        }
        let mut options = table::table_options(&insert.hints)?;
        if insert.overwrite {
            // Only file sinks can overwrite (Flink: `SupportsOverwrite`); ours begins new files and so has nothing to remove.
            if table.connector()? != "filesystem" {
                return Err(Error::plan("INSERT OVERWRITE requires a sink that supports it: 'connector' = 'filesystem'").at(insert.span));
            }
            options.push(("overwrite".into(), "true".into()));
        }
        let columns = persisted(table);
        let query = self.query_of(&insert.query, &Env::default(), true)?;
        let query = self.to_sink(query, table, &columns, insert)?;
        Ok(BoundStatement::Insert {
            table: Arc::new(table.clone()),
            columns,
            query: unshare(query),
            options,
            on_conflict: insert.on_conflict.as_ref().map(|(kind, _)| kind.clone()),
            span: insert.span,
        })
    }

    /// Casts the query to the sink's columns; columns that a partial list leaves out are NULL.
    fn to_sink(&self, query: Rel, table: &Table, columns: &[usize], insert: &ast::Insert) -> Result<Rel> {
        let targets = target_columns(table, columns, &insert.columns)?;
        let width = query.schema.len();
        if width != targets.len() {
            return Err(mismatch(table, &query.schema, columns, "Different number of columns.", insert.query.span));
        }
        // Casts go into the query's own projection where there is one.
        let (input, exprs, span) = match query.kind {
            RelKind::Project { input, exprs } => (*input, exprs, query.span),
            kind => {
                let exprs = build::read_all(&query.schema);
                (Rel { kind, schema: query.schema.clone(), span: query.span }, exprs, query.span)
            }
        };
        let mut items = Vec::with_capacity(columns.len());
        for c in columns {
            let column = &table.columns[*c];
            let e = match targets.iter().position(|t| t == c) {
                Some(i) => sink_cast(exprs[i].clone(), &column.ty, insert.query.span).map_err(|_| {
                    let cause = format!("Incompatible types for sink column '{}' at position {i}.", column.name);
                    mismatch(table, &query.schema, columns, &cause, insert.query.span)
                })?,
                None if column.ty.nullable => Expr::null(column.ty.clone()),
                None => {
                    return Err(
                        Error::plan(format!("Column '{}' has no default value and does not allow NULLs", column.name)).at(insert.span)
                    );
                }
            };
            items.push((column.name.clone(), e));
        }
        Ok(build::project(input, items, span))
    }
}

/// Physical columns and metadata that can be written.
fn persisted(table: &Table) -> Vec<usize> {
    let written = |kind: &ColumnKind| matches!(kind, ColumnKind::Physical | ColumnKind::Metadata { is_virtual: false, .. });
    (0..table.columns.len()).filter(|i| written(&table.columns[*i].kind)).collect()
}

/// Positions in the table of the query's columns.
fn target_columns(table: &Table, columns: &[usize], list: &[ast::Ident]) -> Result<Vec<usize>> {
    if list.is_empty() {
        return Ok(columns.to_vec());
    }
    let mut out: Vec<usize> = Vec::with_capacity(list.len());
    for name in list {
        let Some(i) = columns.iter().copied().find(|i| table.columns[*i].name == name.name) else {
            let error = Error::plan(format!("Unknown target column '{}'", name.name)).at(name.span);
            if table.columns.iter().any(|c| c.name == name.name) {
                return Err(error.hint("computed and virtual columns cannot be written"));
            }
            return Err(did_you_mean(error, &name.name, columns.iter().map(|i| table.columns[*i].name.as_str())));
        };
        if out.contains(&i) {
            return Err(Error::plan(format!("Target column '{}' is assigned more than once", name.name)).at(name.span));
        }
        out.push(i);
    }
    Ok(out)
}

fn mismatch(table: &Table, query: &[ColumnDef], columns: &[usize], cause: &str, span: Span) -> Error {
    let list = |items: Vec<String>| items.join(", ");
    let query = list(query.iter().map(|c| format!("{}: {}", c.name, c.ty)).collect());
    let sink = list(columns.iter().map(|i| format!("{}: {}", table.columns[*i].name, table.columns[*i].ty)).collect());
    Error::plan(format!(
        "Column types of query result and sink for 'default_catalog.default_database.{}' do not match. Cause: {cause} \
         Query schema: [{query}]. Sink schema: [{sink}]",
        table.name
    ))
    .at(span)
}

/// An implicit cast to a sink's column. Lengths of strings stay: they are the constraint enforcer's, not a cast's
/// (Flink: `DynamicSinkUtils.fixSinkDataType`), and so is NOT NULL.
fn sink_cast(e: Expr, to: &SqlType, span: Span) -> Result<Expr> {
    if e.ty.kind == TypeKind::Null {
        return Ok(Expr::null(to.clone()));
    }
    let to = without_lengths(to, &e.ty);
    if e.ty.kind == to.kind {
        return Ok(e);
    }
    let to = to.with_nullable(e.ty.nullable);
    sluice_functions::implicit_cast(e, &to, span)
}

/// `to` with the lengths and NOT NULLs of `from`, wherever both are strings.
fn without_lengths(to: &SqlType, from: &SqlType) -> SqlType {
    let kind = match (&to.kind, &from.kind) {
        (a, b) if a.is_character() && b.is_character() || a.is_binary() && b.is_binary() => b.clone(),
        (TypeKind::Array(a), TypeKind::Array(b)) => TypeKind::Array(Box::new(without_lengths(a, b))),
        (TypeKind::Multiset(a), TypeKind::Multiset(b)) => TypeKind::Multiset(Box::new(without_lengths(a, b))),
        (TypeKind::Map(k, v), TypeKind::Map(k2, v2)) => TypeKind::Map(Box::new(without_lengths(k, k2)), Box::new(without_lengths(v, v2))),
        (TypeKind::Row(a), TypeKind::Row(b)) if a.len() == b.len() => {
            // Field names do not matter, positions do.
            TypeKind::Row(a.iter().zip(b).map(|(a, b)| Field::new(b.name.clone(), without_lengths(&a.ty, &b.ty))).collect())
        }
        (a, _) => a.clone(),
    };
    kind.with_nullable(from.nullable)
}
