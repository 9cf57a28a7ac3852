//! Statements that declare something, applied to the [`Catalog`].

use indexmap::IndexMap;
use sluice_batch::{Error, Result, Span, SqlType, TypeKind};

use super::{Catalog, Column, ColumnKind, Table, View, like};
use crate::ast::{self, CreateTable, CreateView, Ident, ObjectKind, ObjectName, SqlOption, Statement};
use crate::keywords::closest;

/// The names of the only catalog and database, as in Flink; they may stand before a table's name.
const DEFAULT_CATALOG: &str = "default_catalog";
const DEFAULT_DATABASE: &str = "default_database";

impl Catalog {
    /// Applies CREATE TABLE, CREATE VIEW, DROP, SET and RESET; whether the statement was one of these (else nothing happens).
    ///
    /// # Errors
    /// Names that are taken, unknown or declared twice, with their place; clauses that are not supported.
    pub fn apply(&mut self, statement: &Statement) -> Result<bool> {
        match statement {
            Statement::CreateTable(create) => self.create_table(create)?,
            Statement::CreateView(create) => self.create_view(create)?,
            Statement::Drop { kind, name, if_exists, .. } => self.drop(*kind, name, *if_exists)?,
            Statement::Set { option: Some(option), .. } => {
                self.settings.insert(option.key.clone(), option.value.clone());
            }
            Statement::Reset { key: Some(key), .. } => {
                self.settings.shift_remove(key);
            }
            Statement::Reset { key: None, .. } => self.settings.clear(),
            Statement::Unsupported { what, span } => return Err(Error::unsupported(what).at(*span)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A table by its name, with or without `default_catalog.default_database` before it.
    ///
    /// # Errors
    /// Another catalog or database, or no such table, with a did-you-mean.
    pub fn table(&self, name: &ObjectName) -> Result<&Table> {
        check_path(name)?;
        if let Some(table) = self.tables.get(name.object()) {
            return Ok(table);
        }
        if self.views.contains_key(name.object()) {
            return Err(Error::plan(format!("'{name}' is a view, expected a table")).at(name.span()));
        }
        Err(suggest(Error::plan(format!("there is no table '{name}'")).at(name.span()), name.object(), self.tables.keys()))
    }

    /// Whether the name is free: `false` if it is taken and IF NOT EXISTS allows that.
    fn claim(&self, name: &ObjectName, if_not_exists: bool) -> Result<bool> {
        check_path(name)?;
        let object = name.object();
        let kind = if self.tables.contains_key(object) {
            "table"
        } else if self.views.contains_key(object) {
            "view"
        } else {
            return Ok(true);
        };
        if if_not_exists {
            return Ok(false);
        }
        Err(Error::plan(format!("{kind} '{object}' already exists"))
            .at(name.span())
            .hint(format!("use another name, IF NOT EXISTS, or DROP {} {object} before", kind.to_uppercase())))
    }

    fn create_table(&mut self, create: &CreateTable) -> Result<()> {
        if !self.claim(&create.name, create.if_not_exists)? {
            return Ok(());
        }
        if create.as_query.is_some() {
            return Err(Error::unsupported("CREATE TABLE … AS SELECT")
                .at(create.name.span())
                .hint("declare the columns in CREATE TABLE and fill the table with INSERT INTO … SELECT"));
        }
        if let Some(span) = create.distributed {
            return Err(Error::unsupported("DISTRIBUTED").at(span));
        }
        if let Some(column) = create.partitioned_by.first() {
            return Err(Error::unsupported("PARTITIONED BY").at(column.span));
        }
        let table = match &create.like {
            Some(like) => like::merge(self.table(&like.table)?, like, create)?,
            None => table_of(create)?,
        };
        if table.columns.is_empty() {
            return Err(Error::plan(format!("table '{}' has no columns", table.name)).at(table.span));
        }
        self.tables.insert(table.name.clone(), table);
        Ok(())
    }

    fn create_view(&mut self, create: &CreateView) -> Result<()> {
        let name = create.name.object().to_string();
        let replaces = create.or_replace && self.views.contains_key(&name);
        if !replaces && !self.claim(&create.name, create.if_not_exists)? {
            return Ok(());
        }
        if let Some(twice) = duplicate(&create.columns) {
            return Err(Error::plan(format!("view '{name}' has two columns '{}'", twice.name)).at(twice.span));
        }
        let view = View { name: name.clone(), columns: create.columns.clone(), query: create.query.clone(), text: create.text.clone() };
        self.views.insert(name, view);
        Ok(())
    }

    fn drop(&mut self, kind: ObjectKind, name: &ObjectName, if_exists: bool) -> Result<()> {
        let object = name.object();
        let (what, other, found) = match kind {
            ObjectKind::Table => ("table", "VIEW", self.views.contains_key(object)),
            ObjectKind::View => ("view", "TABLE", self.tables.contains_key(object)),
            ObjectKind::Function => return Err(Error::unsupported("DROP FUNCTION").at(name.span())),
            ObjectKind::Catalog => return Err(Error::unsupported("DROP CATALOG").at(name.span())),
            ObjectKind::Database => return Err(Error::unsupported("DROP DATABASE").at(name.span())),
        };
        check_path(name)?;
        let dropped = match kind {
            ObjectKind::Table => self.tables.shift_remove(object).is_some(),
            _ => self.views.shift_remove(object).is_some(),
        };
        if dropped || (if_exists && !found) {
            return Ok(());
        }
        let error = Error::plan(format!("there is no {what} '{object}'")).at(name.span());
        Err(if found {
            error.hint(format!("use DROP {other}"))
        } else if kind == ObjectKind::Table {
            suggest(error, object, self.tables.keys())
        } else {
            suggest(error, object, self.views.keys())
        })
    }
}

/// Only `default_catalog.default_database` exists.
fn check_path(name: &ObjectName) -> Result<()> {
    let parts: Vec<&str> = name.parts.iter().map(|p| p.name.as_str()).collect();
    match parts.as_slice() {
        [_] | [DEFAULT_DATABASE, _] | [DEFAULT_CATALOG, DEFAULT_DATABASE, _] => Ok(()),
        [database, _] | [DEFAULT_CATALOG, database, _] => Err(Error::plan(format!("there is no database '{database}'"))
            .at(name.span())
            .hint(format!("the only one is {DEFAULT_DATABASE}"))),
        [catalog, ..] => {
            Err(Error::plan(format!("there is no catalog '{catalog}'")).at(name.span()).hint(format!("the only one is {DEFAULT_CATALOG}")))
        }
        [] => Ok(()),
    }
}

fn suggest<'a>(error: Error, name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    match closest(name, known.map(String::as_str)) {
        Some(similar) => error.hint(format!("did you mean '{similar}'?")),
        None => error,
    }
}

fn duplicate(names: &[Ident]) -> Option<&Ident> {
    names.iter().enumerate().find(|(i, n)| names.iter().take(*i).any(|m| m.name == n.name)).map(|(_, n)| n)
}

/// The table that a CREATE TABLE without LIKE declares.
fn table_of(create: &CreateTable) -> Result<Table> {
    let mut table = Table {
        name: create.name.object().to_string(),
        columns: create.columns.iter().map(column_of).collect(),
        watermark: create.watermark.clone(),
        primary_key: None,
        options: options_of(&create.options)?,
        text: create.text.clone(),
        span: create.name.span(),
    };
    check_columns(&table)?;
    if let Some(key) = &create.primary_key {
        set_primary_key(&mut table, &key.columns, key.span)?;
    }
    check_watermark(&table)?;
    Ok(table)
}

pub(super) fn column_of(definition: &ast::ColumnDef) -> Column {
    let (ty, kind) = match &definition.kind {
        ast::ColumnKind::Physical { ty } => (ty.clone(), ColumnKind::Physical),
        ast::ColumnKind::Metadata { ty, key, is_virtual } => {
            let key = key.clone().unwrap_or_else(|| definition.name.name.clone());
            (ty.clone(), ColumnKind::Metadata { key, is_virtual: *is_virtual })
        }
        // Settled by the binder.
        ast::ColumnKind::Computed { expr } => (TypeKind::Null.nullable(), ColumnKind::Computed(expr.clone())),
    };
    Column { name: definition.name.name.clone(), ty, kind, span: definition.name.span }
}

/// The options of a WITH clause by key.
pub(super) fn options_of(options: &[SqlOption]) -> Result<IndexMap<String, SqlOption>> {
    let mut map = IndexMap::with_capacity(options.len());
    for option in options {
        if option.key.is_empty() {
            return Err(Error::plan("the option has no key").at(option.key_span));
        }
        if map.insert(option.key.clone(), option.clone()).is_some() {
            return Err(Error::plan(format!("the option '{}' is given twice", option.key)).at(option.key_span));
        }
    }
    Ok(map)
}

pub(super) fn check_columns(table: &Table) -> Result<()> {
    for (i, column) in table.columns.iter().enumerate() {
        if table.columns.iter().take(i).any(|c| c.name == column.name) {
            return Err(Error::plan(format!("table '{}' has two columns '{}'", table.name, column.name)).at(column.span));
        }
    }
    Ok(())
}

fn unknown_column(table: &Table, name: &str, clause: &str, span: Span) -> Error {
    let error = Error::plan(format!("table '{}' has no column '{name}' for its {clause}", table.name)).at(span);
    suggest(error, name, table.columns.iter().map(|c| &c.name))
}

/// Sets the primary key; its columns become NOT NULL (Flink: `DefaultSchemaResolver`).
pub(super) fn set_primary_key(table: &mut Table, columns: &[Ident], span: Span) -> Result<()> {
    if let Some(twice) = duplicate(columns) {
        return Err(Error::plan(format!("the PRIMARY KEY has the column '{}' twice", twice.name)).at(twice.span));
    }
    let mut key = Vec::with_capacity(columns.len());
    for column in columns {
        let place = if column.span.is_known() { column.span } else { span };
        let Some(i) = table.columns.iter().position(|c| c.name == column.name) else {
            return Err(unknown_column(table, &column.name, "PRIMARY KEY", place));
        };
        if let Some(found) = table.columns.get_mut(i) {
            if !matches!(found.kind, ColumnKind::Physical) {
                return Err(Error::plan(format!("'{}' cannot be part of the PRIMARY KEY: it is no physical column", found.name)).at(place));
            }
            found.ty = found.ty.as_not_null();
        }
        key.push(i);
    }
    table.primary_key = Some(key);
    Ok(())
}

/// The watermark's column must exist and be a TIMESTAMP or TIMESTAMP_LTZ of at most milliseconds (Flink: `LogicalTypeChecks`).
pub(super) fn check_watermark(table: &Table) -> Result<()> {
    let Some(watermark) = &table.watermark else { return Ok(()) };
    let Some(first) = watermark.column.first() else { return Ok(()) };
    let Some(column) = table.columns.iter().find(|c| c.name == first.name) else {
        return Err(unknown_column(table, &first.name, "WATERMARK", first.span));
    };
    if let Some(field) = watermark.column.get(1) {
        return Err(Error::unsupported("a WATERMARK on a nested field")
            .at(field.span)
            .hint("declare a computed column for the field and the watermark on it"));
    }
    if matches!(column.kind, ColumnKind::Computed(_)) {
        return Ok(());
    }
    check_rowtime(&column.ty, &column.name, first.span)
}

/// Whether a column of this type may be a rowtime.
///
/// # Errors
/// If it is not TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p ≤ 3.
pub fn check_rowtime(ty: &SqlType, name: &str, span: Span) -> Result<()> {
    match ty.kind {
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) if p <= 3 => Ok(()),
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            Err(Error::plan(format!("the watermark's column '{name}' is {ty}, but a time attribute has at most milliseconds"))
                .at(span)
                .hint("declare it with precision 3"))
        }
        _ => Err(Error::plan(format!("the watermark's column '{name}' is {ty}, expected TIMESTAMP(3) or TIMESTAMP_LTZ(3)")).at(span)),
    }
}
