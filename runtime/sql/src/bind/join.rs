//! Joins: regular, lateral, temporal.

use sluice_batch::{Error, Expr, ExprKind, Result, Span};

use super::expr::{ExprBinder, call, schema};
use super::from::{FromContext, aliased, ttl_of};
use super::scope::{Bound, Scope};
use super::{Binder, OUTER, build, decorrelate, unsupported};
use crate::ast::{self, Ident, JoinCondition, JoinKind, TableAlias, TableRef};
use crate::relation::{self, ColumnDef, Rel, RelKind};

impl Binder<'_> {
    /// `left JOIN right`, where the right side may refer to the left.
    pub(super) fn join_item(
        &self,
        left: Bound,
        right: &TableRef,
        kind: JoinKind,
        condition: &JoinCondition,
        span: Span,
        cx: FromContext<'_>,
    ) -> Result<Bound> {
        match right {
            TableRef::Unnest { expr, with_ordinality, alias, span } => {
                let (outer, filter) = self.lateral_kind(kind, condition, *span)?;
                let bound = self.unnest(left, expr, *with_ordinality, alias.as_ref(), outer, *span, cx)?;
                self.lateral_filter(bound, filter, cx)
            }
            TableRef::Function { call, alias, .. } if call.name.object().eq_ignore_ascii_case("UNNEST") => {
                let (outer, filter) = self.lateral_kind(kind, condition, call.span)?;
                let bound = self.unnest_call(left, call, alias.as_ref(), outer, cx)?;
                self.lateral_filter(bound, filter, cx)
            }
            TableRef::Subquery { lateral: true, query, alias } => {
                let right = self.lateral(&left, query, alias.as_ref(), cx)?;
                self.join_bound(left, right, kind, condition, span, cx)
            }
            TableRef::Table { name, hints, system_time: Some(time), alias } => {
                let right = aliased(self.named_table(name, hints, cx.env)?, alias.as_ref())?;
                self.temporal_join(left, right, time, kind, condition, span, cx)
            }
            _ => {
                let right = (self.table_ref(right, cx)?, vec![]);
                self.join_bound(left, right, kind, condition, span, cx)
            }
        }
    }

    /// Joins two sides; `extra` are conditions over left and right columns that the right side brings.
    fn join_bound(
        &self,
        left: Bound,
        (right, extra): (Bound, Vec<Expr>),
        kind: JoinKind,
        condition: &JoinCondition,
        span: Span,
        cx: FromContext<'_>,
    ) -> Result<Bound> {
        let (kind, nothing) = join_kind(kind, condition, span)?;
        let ttl = (ttl_of(&left, cx.ttl), ttl_of(&right, cx.ttl));
        let width = left.rel.schema.len();
        let both = joined_schema(&left.rel, &right.rel);
        let (mut scope, on) = self.condition(left.scope, right.scope, width, &both, kind, condition, cx)?;
        debug_assert!(nothing || !on.is_empty());
        let all = extra.into_iter().chain(on).collect();
        let rel = build::join(left.rel, right.rel, kind, Expr::and(all), ttl, span);
        // Merged columns have the nullability of the join's output.
        for (_, e) in &mut scope.merged {
            if let ExprKind::Column(i) = e.kind {
                *e = build::read(&rel.schema, i);
            }
        }
        Ok(Bound { rel, scope })
    }

    /// The joined scope and the condition, over left and right columns.
    fn condition(
        &self,
        left: Scope,
        right: Scope,
        width: usize,
        both: &[ColumnDef],
        kind: relation::JoinKind,
        condition: &JoinCondition,
        cx: FromContext<'_>,
    ) -> Result<(Scope, Vec<Expr>)> {
        let names: Vec<Ident> = match condition {
            JoinCondition::None => return Ok((left.join(right, width), vec![])),
            JoinCondition::On(e) => {
                let scope = left.join(right, width);
                let on = ExprBinder::new(self, cx.env, &scope, schema(both.to_vec())).condition(e, "ON")?;
                return Ok((scope, build::conjuncts(on)));
            }
            JoinCondition::Using(names) => names.clone(),
            JoinCondition::Natural => {
                let has = |s: &Scope, n: &str| s.tables.iter().flat_map(|t| &t.columns).any(|c| c.name == n);
                let columns = left.tables.iter().flat_map(|t| &t.columns).filter(|c| !c.merged && has(&right, &c.name));
                columns.map(|c| Ident { name: c.name.clone(), span: Span::NONE }).collect()
            }
        };
        let right = Scope::default().join(right, width);
        let (mut on, mut merged) = (Vec::new(), Vec::new());
        for name in &names {
            let one = std::slice::from_ref(name);
            let l = left.resolve(one, both)?.ok_or_else(|| left.not_found(one))?;
            let r = right.resolve(one, both)?.ok_or_else(|| right.not_found(one))?;
            on.push(call("=", vec![l.clone(), r.clone()], name.span)?);
            merged.push((
                name.name.clone(),
                match kind {
                    relation::JoinKind::Right => r,
                    relation::JoinKind::Full => call("COALESCE", vec![nullable(l), nullable(r)], name.span)?,
                    _ => l,
                },
            ));
        }
        let mut scope = left.join(right, 0);
        for c in scope.tables.iter_mut().flat_map(|t| &mut t.columns) {
            c.merged |= names.iter().any(|n| n.name == c.name);
        }
        scope.merged.retain(|(n, _)| !names.iter().any(|m| m.name == *n));
        merged.append(&mut scope.merged);
        scope.merged = merged;
        Ok((scope, on))
    }

    /// `CROSS/LEFT JOIN <something over the left side>`: whether it is outer, and a condition to filter by.
    fn lateral_kind<'c>(&self, kind: JoinKind, condition: &'c JoinCondition, span: Span) -> Result<(bool, Option<&'c ast::Expr>)> {
        let on = match condition {
            JoinCondition::None => None,
            JoinCondition::On(e) if matches!(e.kind, ast::ExprKind::Literal(ast::Literal::Boolean(true))) => None,
            JoinCondition::On(e) => Some(e),
            _ => return Err(unsupported("USING or NATURAL with UNNEST", span)),
        };
        match kind {
            JoinKind::Cross | JoinKind::Inner => Ok((false, on)),
            JoinKind::Left if on.is_none() => Ok((true, None)),
            JoinKind::Left => Err(unsupported("LEFT JOIN UNNEST with a condition other than TRUE", span)),
            JoinKind::Right | JoinKind::Full => Err(Error::plan("UNNEST can be joined by CROSS, INNER or LEFT JOIN").at(span)),
        }
    }

    fn lateral_filter(&self, bound: Bound, filter: Option<&ast::Expr>, cx: FromContext<'_>) -> Result<Bound> {
        let Some(e) = filter else { return Ok(bound) };
        let predicate = ExprBinder::new(self, cx.env, &bound.scope, bound.rel.schema.clone()).condition(e, "ON")?;
        Ok(Bound { rel: build::filter(bound.rel, vec![predicate], e.span), scope: bound.scope })
    }

    /// `LATERAL (query)`: the query without its references to the left side, and these as conditions.
    fn lateral(&self, left: &Bound, query: &ast::Query, alias: Option<&TableAlias>, cx: FromContext<'_>) -> Result<(Bound, Vec<Expr>)> {
        let rel = self.query(query, &cx.env.inside(&left.scope, &left.rel.schema))?;
        let scope = Scope::table(None, &rel.schema);
        let (rel, conditions) = decorrelate::pull(rel).map_err(|e| e.at(query.span))?;
        let width = left.rel.schema.len();
        let map = |i: usize, ty: &sluice_batch::SqlType| Expr::column(if i >= OUTER { i - OUTER } else { i + width }, ty.clone());
        let conditions = conditions.iter().map(|c| c.map_columns(&map)).collect();
        Ok((aliased(Bound { rel, scope }, alias)?, conditions))
    }

    fn temporal_join(
        &self,
        left: Bound,
        right: Bound,
        time: &ast::Expr,
        kind: JoinKind,
        condition: &JoinCondition,
        span: Span,
        cx: FromContext<'_>,
    ) -> Result<Bound> {
        let outer = match kind {
            JoinKind::Inner | JoinKind::Cross => false,
            JoinKind::Left => true,
            _ => return Err(Error::plan("Temporal table join currently only supports INNER JOIN and LEFT JOIN").at(span)),
        };
        let at = ExprBinder::new(self, cx.env, &left.scope, left.rel.schema.clone()).bind(time)?;
        let time_column = at.as_column().filter(|i| left.rel.schema[*i].time.is_some()).ok_or_else(|| {
            Error::plan("Temporal table join currently only supports 'FOR SYSTEM_TIME AS OF' left table's time attribute field")
                .at(time.span)
        })?;
        let (join_kind, _) = join_kind(kind, condition, span)?;
        let width = left.rel.schema.len();
        let both = joined_schema(&left.rel, &right.rel);
        let (scope, on) = self.condition(left.scope, right.scope, width, &both, join_kind, condition, cx)?;
        if on.is_empty() {
            return Err(Error::plan("Temporal table join requires an equality condition on the versioned table's key").at(span));
        }
        let mut columns = both;
        for c in columns.iter_mut().skip(width) {
            c.time = None;
            c.ty.nullable |= outer;
        }
        let kind = RelKind::TemporalJoin {
            left: Box::new(left.rel),
            right: Box::new(right.rel),
            outer,
            time: time_column,
            condition: Expr::and(on),
        };
        Ok(Bound { rel: build::rel(kind, columns, span), scope })
    }
}

/// The kind, and whether there is no condition.
fn join_kind(kind: JoinKind, condition: &JoinCondition, span: Span) -> Result<(relation::JoinKind, bool)> {
    let none = matches!(condition, JoinCondition::None);
    let kind = match kind {
        JoinKind::Inner | JoinKind::Cross => return Ok((relation::JoinKind::Inner, true)),
        JoinKind::Left => relation::JoinKind::Left,
        JoinKind::Right => relation::JoinKind::Right,
        JoinKind::Full => relation::JoinKind::Full,
    };
    if none {
        return Err(Error::plan("LEFT, RIGHT and FULL JOIN need a condition: ON, USING or NATURAL").at(span));
    }
    Ok((kind, matches!(condition, JoinCondition::Natural)))
}

fn joined_schema(left: &Rel, right: &Rel) -> Vec<ColumnDef> {
    left.schema.iter().chain(right.schema.iter()).cloned().collect()
}

fn nullable(mut e: Expr) -> Expr {
    e.ty.nullable = true;
    e
}
