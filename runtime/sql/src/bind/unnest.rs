//! UNNEST of arrays, maps and multisets.

use sluice_batch::{Error, Result, Span, SqlType, TypeKind};

use super::expr::ExprBinder;
use super::from::FromContext;
use super::scope::{Bound, ScopeColumn, ScopeTable};
use super::{Binder, build, unsupported, walk};
use crate::ast::{self, FunctionCall, TableAlias};
use crate::relation::{ColumnDef, RelKind};

impl Binder<'_> {
    /// Rows of `left` beside the elements of a collection in them.
    pub(super) fn unnest(
        &self,
        left: Bound,
        e: &ast::Expr,
        ordinality: bool,
        alias: Option<&TableAlias>,
        outer: bool,
        span: Span,
        cx: FromContext<'_>,
    ) -> Result<Bound> {
        let expr = ExprBinder::new(self, cx.env, &left.scope, left.rel.schema.clone()).bind(e)?;
        let mut columns = element_columns(&expr.ty, e.span)?;
        if ordinality {
            columns.push(build::column("ORDINALITY", TypeKind::Int.not_null(), None));
        }
        columns.iter_mut().for_each(|c| c.ty.nullable |= outer);
        name_columns(&mut columns, alias, ordinality)?;
        let width = left.rel.schema.len();
        let table = ScopeTable {
            alias: alias.map(|a| a.name.name.clone()),
            columns: columns
                .iter()
                .enumerate()
                .map(|(i, c)| ScopeColumn { name: c.name.clone(), index: width + i, merged: false })
                .collect(),
        };
        let mut scope = left.scope;
        scope.tables.push(table);
        let schema = left.rel.schema.iter().cloned().chain(columns).collect();
        let rel = build::rel(RelKind::Unnest { input: Box::new(left.rel), expr, outer, ordinality }, schema, span);
        Ok(Bound { rel, scope })
    }

    /// `TABLE(UNNEST(x))` and the like.
    pub(super) fn unnest_call(
        &self,
        left: Bound,
        call: &FunctionCall,
        alias: Option<&TableAlias>,
        outer: bool,
        cx: FromContext<'_>,
    ) -> Result<Bound> {
        let mut args = walk::args(call);
        match (args.next(), args.next()) {
            (Some(e), None) if call.args.len() == 1 => self.unnest(left, e, false, alias, outer, call.span, cx),
            _ => Err(unsupported("UNNEST of several collections", call.span)),
        }
    }
}

/// The columns that one element gives: the fields of a ROW, key and value of a MAP, else one.
fn element_columns(ty: &SqlType, span: Span) -> Result<Vec<ColumnDef>> {
    match &ty.kind {
        TypeKind::Array(element) | TypeKind::Multiset(element) => Ok(match &element.kind {
            TypeKind::Row(fields) => {
                fields.iter().map(|f| build::column(f.name.clone(), f.ty.with_nullable(f.ty.nullable || element.nullable), None)).collect()
            }
            _ => vec![build::column("EXPR$0", element.as_ref().clone(), None)],
        }),
        TypeKind::Map(key, value) => {
            Ok(vec![build::column("KEY", key.as_ref().clone(), None), build::column("VALUE", value.as_ref().clone(), None)])
        }
        other => Err(Error::plan(format!("UNNEST needs an ARRAY, MAP or MULTISET, but got {other}")).at(span)),
    }
}

/// `AS t(a, b)` names the columns; `AS t` alone names a single one (Calcite: `AliasNamespace`).
fn name_columns(columns: &mut [ColumnDef], alias: Option<&TableAlias>, ordinality: bool) -> Result<()> {
    let Some(alias) = alias else { return Ok(()) };
    if alias.columns.is_empty() {
        if let ([one], false) = (&mut *columns, ordinality) {
            one.name.clone_from(&alias.name.name);
        }
        return Ok(());
    }
    if alias.columns.len() != columns.len() {
        return Err(Error::plan(format!(
            "List of column aliases must have same degree as table; UNNEST gives {} columns, whereas alias list has {} columns",
            columns.len(),
            alias.columns.len()
        ))
        .at(alias.name.span));
    }
    for (c, name) in columns.iter_mut().zip(&alias.columns) {
        c.name.clone_from(&name.name);
    }
    Ok(())
}
