//! What names mean: the tables of a FROM clause and their columns.

use sluice_batch::{Error, Expr, Result, Span, TypeKind};

use crate::ast::Ident;
use crate::relation::{ColumnDef, Rel};

/// A relation with the names by which its columns can be reached.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub rel: Rel,
    pub scope: Scope,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub tables: Vec<ScopeTable>,
    /// Columns merged by USING or NATURAL, in front of `*`.
    pub merged: Vec<(String, Expr)>,
}

#[derive(Clone, Debug)]
pub(super) struct ScopeTable {
    pub alias: Option<String>,
    pub columns: Vec<ScopeColumn>,
}

#[derive(Clone, Debug)]
pub(super) struct ScopeColumn {
    pub name: String,
    /// Position in the relation.
    pub index: usize,
    /// Stands in `Scope::merged`.
    pub merged: bool,
}

impl Scope {
    /// One table with all columns of a schema.
    pub fn table(alias: Option<&str>, schema: &[ColumnDef]) -> Self {
        let columns = schema.iter().enumerate().map(|(index, c)| ScopeColumn { name: c.name.clone(), index, merged: false }).collect();
        Self { tables: vec![ScopeTable { alias: alias.map(str::to_string), columns }], merged: vec![] }
    }

    /// The scope of a join: the right side's columns stand `offset` further right.
    pub fn join(mut self, right: Scope, offset: usize) -> Self {
        self.tables.extend(right.tables.into_iter().map(|mut t| {
            t.columns.iter_mut().for_each(|c| c.index += offset);
            t
        }));
        self.merged.extend(right.merged.into_iter().map(|(n, e)| (n, e.map_columns(&|i, ty| Expr::column(i + offset, ty.clone())))));
        self
    }

    /// The column (or field of one) that a name means; `Ok(None)` if nothing here has its first part as a name.
    ///
    /// # Errors
    /// Ambiguity, or a table or row that lacks the further parts.
    pub fn resolve(&self, name: &[Ident], schema: &[ColumnDef]) -> Result<Option<Expr>> {
        let name = match name {
            [a, b, rest @ ..] if a.name == "default_catalog" && b.name == "default_database" && !rest.is_empty() => rest,
            [a, rest @ ..] if a.name == "default_database" && rest.len() > 1 => rest,
            all => all,
        };
        let Some((first, rest)) = name.split_first() else { return Ok(None) };
        let named: Vec<&ScopeTable> = self.tables.iter().filter(|t| t.alias.as_deref() == Some(first.name.as_str())).collect();
        if let (Some(column), Some(table)) = (rest.first(), named.first()) {
            let found: Vec<_> = named.iter().flat_map(|t| &t.columns).filter(|c| c.name == column.name).collect();
            match found.as_slice() {
                [one] => return fields(column_of(one.index, schema), &rest[1..]).map(Some),
                [] if self.column(first, schema)?.is_none() => {
                    let names = table.columns.iter().map(|c| c.name.as_str());
                    return Err(super::did_you_mean(
                        Error::plan(format!("Column '{}' not found in table '{}'", column.name, first.name)).at(column.span),
                        &column.name,
                        names,
                    ));
                }
                [] => {}
                _ => return Err(ambiguous(column)),
            }
        }
        match self.column(first, schema)? {
            Some(column) => fields(column, rest).map(Some),
            None => Ok(None),
        }
    }

    /// The column with an unqualified name.
    fn column(&self, name: &Ident, schema: &[ColumnDef]) -> Result<Option<Expr>> {
        if let Some((_, e)) = self.merged.iter().find(|(n, _)| *n == name.name) {
            return Ok(Some(e.clone()));
        }
        let mut found = self.tables.iter().flat_map(|t| &t.columns).filter(|c| c.name == name.name && !c.merged);
        match (found.next(), found.next()) {
            (None, _) => self.nested_field(name, schema),
            (Some(one), None) => Ok(Some(column_of(one.index, schema))),
            _ => Err(ambiguous(name)),
        }
    }

    /// A field of a ROW column by its name alone (Calcite: `StructKind.PEEK_FIELDS_NO_EXPAND`, which Flink's rows are).
    fn nested_field(&self, name: &Ident, schema: &[ColumnDef]) -> Result<Option<Expr>> {
        let mut level: Vec<Expr> = self.tables.iter().flat_map(|t| &t.columns).map(|c| column_of(c.index, schema)).collect();
        while !level.is_empty() {
            let fields: Vec<(String, Expr)> = level.iter().flat_map(row_fields).collect();
            let mut found = fields.iter().filter(|(n, _)| *n == name.name);
            match (found.next(), found.next()) {
                (Some((_, one)), None) => return Ok(Some(one.clone())),
                (Some(_), Some(_)) => return Err(ambiguous(name)),
                (None, _) => level = fields.into_iter().map(|(_, e)| e).collect(),
            }
        }
        Ok(None)
    }

    /// The error for a name that nothing here has, with the nearest one.
    pub fn not_found(&self, name: &[Ident]) -> Error {
        let Some(first) = name.first() else { return Error::plan("empty name") };
        if name.len() > 1 && !self.tables.is_empty() {
            let aliases = self.tables.iter().filter_map(|t| t.alias.as_deref());
            return super::did_you_mean(Error::plan(format!("Table '{}' not found", first.name)).at(first.span), &first.name, aliases);
        }
        let names = self.tables.iter().flat_map(|t| &t.columns).map(|c| c.name.as_str());
        super::did_you_mean(Error::plan(format!("Column '{}' not found in any table", first.name)).at(first.span), &first.name, names)
    }

    /// The columns of `*` or `alias.*`.
    pub fn star(&self, qualifier: &[Ident], schema: &[ColumnDef], span: Span) -> Result<Vec<(String, Expr)>> {
        let columns = |t: &ScopeTable, all: bool| -> Vec<(String, Expr)> {
            t.columns.iter().filter(|c| all || !c.merged).map(|c| (c.name.clone(), column_of(c.index, schema))).collect()
        };
        let Some(last) = qualifier.last() else {
            if self.tables.is_empty() {
                return Err(Error::plan("SELECT * needs a FROM clause").at(span));
            }
            let mut out = self.merged.clone();
            self.tables.iter().for_each(|t| out.extend(columns(t, false)));
            return Ok(out);
        };
        if let Some(t) = self.tables.iter().find(|t| t.alias.as_deref() == Some(last.name.as_str())) {
            return Ok(columns(t, true));
        }
        // `row_column.*`: its fields.
        match self.resolve(qualifier, schema) {
            Ok(Some(row)) if matches!(row.ty.kind, TypeKind::Row(_)) => Ok(row_fields(&row)),
            _ => {
                let aliases = self.tables.iter().filter_map(|t| t.alias.as_deref());
                Err(super::did_you_mean(Error::plan(format!("Unknown identifier '{}'", last.name)).at(last.span), &last.name, aliases))
            }
        }
    }
}

fn row_fields(row: &Expr) -> Vec<(String, Expr)> {
    let TypeKind::Row(fields) = &row.ty.kind else { return vec![] };
    fields.iter().enumerate().filter_map(|(i, f)| Some((f.name.clone(), sluice_functions::field::row_field(row.clone(), i)?))).collect()
}

fn column_of(index: usize, schema: &[ColumnDef]) -> Expr {
    let ty = schema.get(index).map_or(TypeKind::Null.nullable(), |c| c.ty.clone());
    Expr::column(index, ty)
}

fn ambiguous(name: &Ident) -> Error {
    Error::plan(format!("Column '{}' is ambiguous", name.name)).at(name.span)
}

/// `expr.a.b`
///
/// # Errors
/// If it is not a ROW, or has no such field.
pub(super) fn fields(mut expr: Expr, path: &[Ident]) -> Result<Expr> {
    for part in path {
        let TypeKind::Row(fields) = &expr.ty.kind else {
            return Err(Error::plan(format!("'{}' is not a field: {} is not a ROW", part.name, expr.ty.kind)).at(part.span));
        };
        let index = fields.iter().position(|f| f.name == part.name);
        let Some(field) = index.and_then(|i| sluice_functions::field::row_field(expr.clone(), i)) else {
            let names = fields.iter().map(|f| f.name.as_str());
            return Err(super::did_you_mean(
                Error::plan(format!("Column '{}' not found in the ROW", part.name)).at(part.span),
                &part.name,
                names,
            ));
        };
        expr = field;
    }
    Ok(expr)
}
