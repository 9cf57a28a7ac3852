//! Queries: WITH, the body, ORDER BY and LIMIT.

use std::rc::Rc;

use sluice_batch::{Error, Expr, Result, Span, TypeKind};

use super::expr::{ExprBinder, coerce};
use super::scope::Scope;
use super::{Binder, Env, build, constant, share, unsupported};
use crate::ast::{self, Ident, Literal, OrderBy, SetExpr};
use crate::relation::{Rel, RelKind, SortKey};

/// A body with what ORDER BY needs of it.
pub(super) struct Selected {
    pub rel: Rel,
    /// The query's own columns; hidden ones for ORDER BY follow.
    pub width: usize,
    pub keys: Vec<SortKey>,
}

impl Binder<'_> {
    pub(super) fn query(&self, q: &ast::Query, env: &Env) -> Result<Rel> {
        self.query_of(q, env, false)
    }

    /// `null_allowed`: a bare NULL may be a column, since a sink will give it a type.
    pub(super) fn query_of(&self, q: &ast::Query, env: &Env, null_allowed: bool) -> Result<Rel> {
        let env = &self.with(q, env)?;
        let Selected { rel, width, keys } = match &q.body {
            SetExpr::Select(s) => self.select(s, &q.order_by, env, null_allowed)?,
            body => {
                let rel = self.set_expr(body, env, null_allowed)?;
                let keys = output_keys(&rel, &q.order_by, self, env)?;
                Selected { width: rel.schema.len(), rel, keys }
            }
        };
        let limit = q.limit.as_ref().map(|e| self.count(e, "LIMIT", env)).transpose()?;
        let offset = q.offset.as_ref().map(|e| self.count(e, "OFFSET", env)).transpose()?.unwrap_or(0);
        if keys.is_empty() && limit.is_none() && offset == 0 {
            return Ok(rel);
        }
        let span = q.order_by.first().map_or(q.span, |o| o.expr.span);
        let schema = rel.schema.clone();
        let sort = Rel { kind: RelKind::Sort { input: Box::new(rel), keys, limit, offset }, schema, span };
        Ok(build::project_columns(sort, &(0..width).collect::<Vec<_>>(), span))
    }

    fn with(&self, q: &ast::Query, env: &Env) -> Result<Env> {
        let mut env = env.clone();
        for cte in &q.with {
            // A CTE does not see the columns around the query, so it means the same wherever it is used.
            let inner = Env { ctes: env.ctes.clone(), outer: None };
            let rel = named(self.query(&cte.query, &inner)?, &cte.columns, &cte.name.name)?;
            Rc::make_mut(&mut env.ctes).push((cte.name.name.clone(), share(rel)));
        }
        Ok(env)
    }

    pub(super) fn set_expr(&self, body: &SetExpr, env: &Env, null_allowed: bool) -> Result<Rel> {
        match body {
            SetExpr::Select(s) => Ok(self.select(s, &[], env, null_allowed)?.rel),
            SetExpr::Query(q) => self.query_of(q, env, null_allowed),
            SetExpr::Values { rows, span } => self.values(rows, env, null_allowed, *span),
            SetExpr::Operation { op, all, left, right, span } => self.set_operation(*op, *all, left, right, env, *span),
        }
    }

    fn values(&self, rows: &[Vec<ast::Expr>], env: &Env, null_allowed: bool, span: Span) -> Result<Rel> {
        let scope = Scope::default();
        let mut binder = ExprBinder::new(self, env, &scope, super::expr::schema(vec![]));
        let mut bound: Vec<Vec<Expr>> = Vec::with_capacity(rows.len());
        for row in rows {
            let row = match row.as_slice() {
                [ast::Expr { kind: ast::ExprKind::Row(items), .. }] => items,
                items => items,
            };
            bound.push(binder.bind_all(row)?);
        }
        let width = bound.first().map_or(0, Vec::len);
        if bound.iter().any(|r| r.len() != width) {
            return Err(Error::plan("Values in a VALUES clause must have the same number of columns").at(span));
        }
        let mut columns = Vec::with_capacity(width);
        for c in 0..width {
            let types: Vec<_> = bound.iter().map(|r| r[c].ty.clone()).collect();
            let mut ty = common_column_type(&types).ok_or_else(|| incompatible("VALUES", c, &types, span))?;
            ty.nullable |= types.iter().any(|t| t.nullable);
            if ty.kind == TypeKind::Null && !null_allowed {
                return Err(Error::plan("Illegal use of 'NULL'").at(span).hint("say its type: CAST(NULL AS …)"));
            }
            for (row, ast_row) in bound.iter_mut().zip(rows) {
                let at = ast_row.get(c).map_or(span, |e| e.span);
                let e = std::mem::replace(&mut row[c], Expr::boolean(false));
                row[c] = coerce(e, &ty, at)?;
            }
            columns.push(build::column(format!("EXPR${c}"), ty, None));
        }
        Ok(build::rel(RelKind::Values { rows: bound }, columns, span))
    }

    fn count(&self, e: &ast::Expr, clause: &str, env: &Env) -> Result<u64> {
        let scope = Scope::default();
        let bound = ExprBinder::new(self, env, &scope, super::expr::schema(vec![])).bind(e)?;
        constant(&bound)
            .and_then(|d| d.as_i64())
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| Error::plan(format!("{clause} needs a constant that is not negative")).at(e.span))
    }
}

/// The type of a column that several rows or inputs share.
pub(super) fn common_column_type(types: &[sluice_batch::SqlType]) -> Option<sluice_batch::SqlType> {
    match types {
        [] => None,
        [first, rest @ ..] if rest.iter().all(|t| t.kind == first.kind) => Some(first.with_nullable(types.iter().any(|t| t.nullable))),
        _ => sluice_functions::common_type(types),
    }
}

pub(super) fn incompatible(what: &str, column: usize, types: &[sluice_batch::SqlType], span: Span) -> Error {
    let list = types.iter().map(|t| t.kind.to_string()).collect::<Vec<_>>().join(", ");
    Error::plan(format!("Type mismatch in column {} of {what}: {list}", column + 1)).at(span)
}

/// ORDER BY over output columns only: names and ordinals, and expressions over them.
fn output_keys(rel: &Rel, order_by: &[OrderBy], binder: &Binder<'_>, env: &Env) -> Result<Vec<SortKey>> {
    let scope = Scope::table(None, &rel.schema);
    order_by
        .iter()
        .map(|o| {
            let column = match ordinal(&o.expr, rel.schema.len())? {
                Some(c) => c,
                None => ExprBinder::new(binder, env, &scope, rel.schema.clone())
                    .bind(&o.expr)?
                    .as_column()
                    .ok_or_else(|| unsupported("ORDER BY an expression above a set operation", o.expr.span))?,
            };
            Ok(sort_key(o, column))
        })
        .collect()
}

/// `ORDER BY 2`
pub(super) fn ordinal(e: &ast::Expr, width: usize) -> Result<Option<usize>> {
    let ast::ExprKind::Literal(Literal::Number(n)) = &e.kind else { return Ok(None) };
    match n.parse::<usize>() {
        Ok(i) if (1..=width).contains(&i) => Ok(Some(i - 1)),
        _ => Err(Error::plan(format!("Ordinal {n} out of range: there are {width} columns")).at(e.span)),
    }
}

/// NULLs are smallest unless said otherwise (Flink: `FlinkPlannerImpl`, `NullCollation.LOW`).
pub(super) fn sort_key(o: &OrderBy, column: usize) -> SortKey {
    SortKey { column, descending: o.descending, nulls_first: o.nulls_first.unwrap_or(!o.descending) }
}

/// `v(a, b) AS query`: renames the columns.
pub(super) fn named(rel: Rel, columns: &[Ident], what: &str) -> Result<Rel> {
    let Some(first) = columns.first() else { return Ok(unique_names(rel)) };
    if columns.len() != rel.schema.len() {
        return Err(Error::plan(format!("'{what}' names {} columns, but its query has {}", columns.len(), rel.schema.len())).at(first.span));
    }
    let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    Ok(build::rename(rel, &names))
}

/// Tells columns of one name apart as Calcite does: `id`, `id0`.
pub(super) fn unique_names(rel: Rel) -> Rel {
    let mut names: Vec<String> = Vec::with_capacity(rel.schema.len());
    for c in rel.schema.iter() {
        names.push(unique_name(&c.name, &names));
    }
    if names.iter().zip(rel.schema.iter()).all(|(n, c)| *n == c.name) { rel } else { build::rename(rel, &names) }
}

pub(super) fn unique_name(name: &str, taken: &[String]) -> String {
    if !taken.iter().any(|t| t == name) {
        return name.to_string();
    }
    (0..).map(|i| format!("{name}{i}")).find(|n| !taken.contains(n)).unwrap_or_default()
}
