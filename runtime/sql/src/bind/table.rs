//! Tables and views in FROM: scans with computed columns and watermarks.

use std::sync::Arc;

use sluice_batch::{Error, Expr, Result, Span, TypeKind};

use super::expr::ExprBinder;
use super::scope::{Bound, Scope};
use super::{Binder, Env, build, did_you_mean, query, share, unsupported};
use crate::ast::{Hint, ObjectName};
use crate::catalog::{ColumnKind, Table, check_rowtime};
use crate::relation::{Rel, RelKind, TimeAttribute};

impl Binder<'_> {
    /// A table, view or CTE by name.
    pub(super) fn named_table(&self, name: &ObjectName, hints: &[Hint], env: &Env) -> Result<Bound> {
        let object = name.object();
        let rel = if let ([_], Some((_, cte))) = (name.parts.as_slice(), env.ctes.iter().rev().find(|(n, _)| n == object)) {
            no_options(hints)?;
            cte.clone()
        } else if let Some(view) = self.view(name, hints)? {
            view
        } else if let Some(table) = self.catalog.tables.get(object) {
            check_path(name)?;
            let options = table_options(hints)?;
            self.scan(Arc::new(table.clone()), &options, name.span())?
        } else {
            return Err(self.unknown_table(name, env));
        };
        let scope = Scope::table(Some(object), &rel.schema);
        Ok(Bound { rel, scope })
    }

    fn view(&self, name: &ObjectName, hints: &[Hint]) -> Result<Option<Rel>> {
        let object = name.object();
        let Some(view) = self.catalog.views.get(object) else { return Ok(None) };
        check_path(name)?;
        no_options(hints)?;
        if let Some(bound) = self.views.borrow().get(object) {
            return Ok(Some(bound.clone()));
        }
        if self.open.borrow().iter().any(|v| v == object) {
            return Err(Error::plan(format!("view '{object}' refers to itself")).at(name.span()));
        }
        self.open.borrow_mut().push(object.to_string());
        let bound = self.query(&view.query, &Env::default()).and_then(|rel| query::named(rel, &view.columns, object));
        self.open.borrow_mut().pop();
        let rel = share(bound.map_err(|e| e.context(format!("view '{object}'")))?);
        self.views.borrow_mut().insert(object.to_string(), rel.clone());
        Ok(Some(rel))
    }

    pub(super) fn unknown_table(&self, name: &ObjectName, env: &Env) -> Error {
        let tables = self.catalog.tables.keys().chain(self.catalog.views.keys()).map(String::as_str);
        let names = tables.chain(env.ctes.iter().map(|(n, _)| n.as_str()));
        did_you_mean(Error::plan(format!("Object '{name}' not found")).at(name.span()), name.object(), names)
    }

    /// Scan, then computed columns, then the watermark. Columns in declared order.
    pub(super) fn scan(&self, table: Arc<Table>, options: &[(String, String)], span: Span) -> Result<Rel> {
        let is_computed = |i: &usize| matches!(table.columns[*i].kind, ColumnKind::Computed(_));
        let columns: Vec<usize> = (0..table.columns.len()).filter(|i| !is_computed(i)).collect();
        let key = table.primary_key.as_deref().unwrap_or(&[]);
        let schema = columns
            .iter()
            .map(|i| {
                let c = &table.columns[*i];
                // A primary key is NOT NULL (Flink: `SchemaTranslator`, SQL standard).
                let ty = c.ty.with_nullable(c.ty.nullable && !key.contains(i));
                build::column(c.name.clone(), ty, None)
            })
            .collect();
        let scan = build::rel(RelKind::Scan { table: table.clone(), columns: columns.clone(), hints: options.to_vec() }, schema, span);
        let rel = if columns.len() == table.columns.len() { scan } else { self.computed_columns(&table, &columns, scan)? };
        self.watermark(&table, rel)
    }

    fn computed_columns(&self, table: &Table, scanned: &[usize], scan: Rel) -> Result<Rel> {
        let scope = Scope::table(Some(&table.name), &scan.schema);
        let env = Env::default();
        let mut items = Vec::with_capacity(table.columns.len());
        for (i, c) in table.columns.iter().enumerate() {
            let e = match (&c.kind, scanned.iter().position(|s| *s == i)) {
                (ColumnKind::Computed(e), _) => ExprBinder::new(self, &env, &scope, scan.schema.clone())
                    .bind(e)
                    .map_err(|e| e.at(c.span).context(format!("computed column '{}'", c.name)))?,
                (_, Some(at)) => build::read(&scan.schema, at),
                _ => return Err(Error::plan(format!("column '{}' is lost", c.name)).at(c.span)),
            };
            items.push((c.name.clone(), e));
        }
        let span = scan.span;
        Ok(build::project(scan, items, span))
    }

    fn watermark(&self, table: &Table, rel: Rel) -> Result<Rel> {
        let Some(watermark) = &table.watermark else { return Ok(rel) };
        let [name] = watermark.column.as_slice() else {
            return Err(unsupported("a watermark on a nested field", watermark.span).hint("declare a computed column for it"));
        };
        let Some(column) = rel.schema.iter().position(|c| c.name == name.name) else {
            let error =
                Error::plan(format!("The rowtime attribute field '{}' is not defined in the table schema", name.name)).at(name.span);
            return Err(did_you_mean(error, &name.name, rel.schema.iter().map(|c| c.name.as_str())));
        };
        check_rowtime(&rel.schema[column].ty, &name.name, name.span)?;
        let scope = Scope::table(Some(&table.name), &rel.schema);
        let expr = ExprBinder::new(self, &Env::default(), &scope, rel.schema.clone()).bind(&watermark.expr)?;
        check_rowtime(&expr.ty, "WATERMARK expression", watermark.expr.span)?;
        let mut schema = rel.schema.as_ref().clone();
        schema[column].time = Some(TimeAttribute::Rowtime);
        let span = rel.span;
        Ok(build::rel(RelKind::Watermark { input: Box::new(rel), column, expr }, schema, span))
    }
}

/// `default_catalog.default_database.t` is all there is.
fn check_path(name: &ObjectName) -> Result<()> {
    let path: Vec<&str> = name.parts.iter().map(|p| p.name.as_str()).collect();
    match path.as_slice() {
        [_] | ["default_database", _] | ["default_catalog", "default_database", _] => Ok(()),
        _ => Err(Error::plan(format!("Object '{name}' not found")).at(name.span()).hint("there is one catalog and one database")),
    }
}

/// `/*+ OPTIONS('k'='v') */`; other hints stand elsewhere and are refused here.
pub(super) fn table_options(hints: &[Hint]) -> Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    for hint in hints {
        if !hint.name.eq_ignore_ascii_case("OPTIONS") {
            return Err(unsupported(format!("the hint {}", hint.name), hint.span));
        }
        out.extend(hint.options.iter().map(|o| (o.key.clone(), o.value.clone())));
    }
    Ok(out)
}

fn no_options(hints: &[Hint]) -> Result<()> {
    match hints.first() {
        Some(h) => Err(Error::plan(format!("View cannot be enriched with new options: {} hint", h.name)).at(h.span)),
        None => Ok(()),
    }
}

/// One row of one column, for a SELECT without FROM.
pub(super) fn one_row(span: Span) -> Rel {
    let ty = TypeKind::Int.not_null();
    let row = vec![Expr::literal(sluice_batch::Datum::Int(0), ty.clone())];
    build::rel(RelKind::Values { rows: vec![row] }, vec![build::column("ZERO", ty, None)], span)
}
