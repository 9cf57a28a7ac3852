//! Subqueries in expressions, as joins.

use sluice_batch::{Datum, Error, Expr, ExprKind, Result, Span, TypeKind};
use sluice_functions::{AggregateArgs, JsonClauses};

use super::expr::{ExprBinder, call, is_not_null, is_null, or};
use super::scope::Scope;
use super::{Binder, Env, OUTER, build, decorrelate, unsupported};
use crate::ast;
use crate::relation::{JoinKind, Rel, RelKind};
use sluice_batch::aggregate::AggregateCall;

/// A subquery without outer references, and the conditions that tie it to the enclosing rows.
struct Sub {
    rel: Rel,
    /// How many columns the query has; further ones serve the conditions.
    width: usize,
    conditions: Vec<Expr>,
}

impl Sub {
    /// The conditions over the columns of a join with `left_width` left columns.
    fn on(&self, left_width: usize) -> Vec<Expr> {
        let map = |i: usize, ty: &sluice_batch::SqlType| {
            if i >= OUTER { Expr::column(i - OUTER, ty.clone()) } else { Expr::column(i + left_width, ty.clone()) }
        };
        self.conditions.iter().map(|c| c.map_columns(&map)).collect()
    }
}

impl Binder<'_> {
    /// A conjunct of WHERE that is `[NOT] IN (query)` or `[NOT] EXISTS (query)`, as a semi or anti join. `Err(rel)` if it is none.
    pub(super) fn semi_join(&self, rel: Rel, scope: &Scope, env: &Env, e: &ast::Expr) -> Result<std::result::Result<Rel, Rel>> {
        let mut negate = false;
        let mut e = e;
        while let ast::ExprKind::Unary { op: ast::UnaryOp::Not, expr } = &e.kind {
            negate = !negate;
            e = expr;
        }
        match &e.kind {
            ast::ExprKind::Exists { query, negated } => {
                let mut binder = ExprBinder::over(self, env, scope, rel);
                let sub = binder.sub(query, e.span)?;
                let rel = binder.take_input()?;
                let on = sub.on(rel.schema.len());
                Ok(Ok(semi(rel, sub.rel, on, negate != *negated, e.span)))
            }
            ast::ExprKind::InSubquery { expr, query, negated } => {
                let anti = negate != *negated;
                let mut binder = ExprBinder::over(self, env, scope, rel);
                let values = binder.in_values(expr)?;
                let sub = binder.sub(query, e.span)?;
                check_columns(values.len(), sub.width, e.span)?;
                let rel = binder.take_input()?;
                let width = rel.schema.len();
                let mut on = sub.on(width);
                for (i, value) in values.into_iter().enumerate() {
                    let column = Expr::column(width + i, sub.rel.schema[i].ty.clone());
                    on.push(in_condition(value, column, anti, e.span)?);
                }
                Ok(Ok(semi(rel, sub.rel, on, anti, e.span)))
            }
            _ => Ok(Err(rel)),
        }
    }
}

fn semi(left: Rel, right: Rel, on: Vec<Expr>, anti: bool, span: Span) -> Rel {
    let kind = if anti { JoinKind::Anti } else { JoinKind::Semi };
    build::join(left, right, kind, Expr::and(on), (None, None), span)
}

/// `value = column`; for NOT IN also when either is NULL, since then NOT IN is not TRUE.
fn in_condition(value: Expr, column: Expr, anti: bool, span: Span) -> Result<Expr> {
    let equal = call("=", vec![value.clone(), column.clone()], span)?;
    let mut any = vec![equal];
    if anti {
        any.extend([value, column].into_iter().filter(|e| e.ty.nullable).map(is_null));
    }
    Ok(or(any))
}

fn check_columns(left: usize, right: usize, span: Span) -> Result<()> {
    if left == right {
        return Ok(());
    }
    Err(Error::plan(format!(
        "Values passed to IN operator must have compatible types: {left} on the left, {right} columns in the subquery"
    ))
    .at(span))
}

impl ExprBinder<'_, '_> {
    fn in_values(&mut self, e: &ast::Expr) -> Result<Vec<Expr>> {
        match &e.kind {
            ast::ExprKind::Row(items) => self.bind_all(items),
            _ => Ok(vec![self.bind(e)?]),
        }
    }

    fn sub(&mut self, query: &ast::Query, span: Span) -> Result<Sub> {
        let Some(input) = &self.input else {
            return Err(unsupported("a subquery here", span));
        };
        // Above a GROUP BY the names of the FROM clause are gone.
        let env = if self.grouped.is_some() {
            Env { ctes: self.env.ctes.clone(), outer: None }
        } else {
            self.env.inside(self.scope, &input.schema)
        };
        let rel = self.binder.query(query, &env)?;
        let width = rel.schema.len();
        let (rel, conditions) = decorrelate::pull(rel).map_err(|e| e.at(span))?;
        Ok(Sub { rel, width, conditions })
    }

    /// Joins a relation to the input; gives the position of its first column.
    fn attach(&mut self, right: Rel, on: Vec<Expr>, span: Span) -> Result<usize> {
        let input = self.take_input()?;
        let width = input.schema.len();
        let joined = build::join(input, right, JoinKind::Left, Expr::and(on), (None, None), span);
        self.schema = joined.schema.clone();
        self.input = Some(joined);
        Ok(width)
    }

    fn width(&self) -> usize {
        self.input.as_ref().map_or(0, |r| r.schema.len())
    }

    pub(super) fn scalar_subquery(&mut self, query: &ast::Query, span: Span) -> Result<Expr> {
        let sub = self.sub(query, span)?;
        if sub.width != 1 {
            return Err(Error::plan(format!("a scalar subquery must have one column, this one has {}", sub.width)).at(span));
        }
        let counts = counts_at(&sub.rel, 0);
        if !sub.conditions.is_empty() && counts.is_none() {
            return Err(unsupported("an expression over COUNT in a correlated subquery", span));
        }
        let on = sub.on(self.width());
        let ty = sub.rel.schema[0].ty.as_nullable();
        let correlated = !sub.conditions.is_empty();
        let rel = if correlated || is_single_row(&sub.rel) { sub.rel } else { single_value(sub.rel, span)? };
        if correlated && !groups_by_conditions(&rel) {
            return Err(unsupported("a correlated scalar subquery without an aggregate", span));
        }
        let at = self.attach(rel, on, span)?;
        let value = Expr::column(at, ty.clone());
        if correlated && counts == Some(true) {
            return call("COALESCE", vec![value, Expr::literal(Datum::BigInt(0), TypeKind::BigInt.not_null())], span);
        }
        Ok(value)
    }

    /// `value IN (query)` where a value is wanted, three-valued as SQL has it.
    pub(super) fn in_subquery(&mut self, e: &ast::Expr, query: &ast::Query, span: Span) -> Result<Expr> {
        let values = self.in_values(e)?;
        let [value] = values.as_slice() else {
            return Err(unsupported("a row value IN (SELECT …) inside an expression", span));
        };
        let sub = self.sub(query, span)?;
        check_columns(1, sub.width, span)?;
        if !sub.conditions.is_empty() {
            return Err(unsupported("a correlated IN (SELECT …) inside an expression", span));
        }
        let column = sub.rel.schema[0].clone();
        let counted = if value.ty.nullable || column.ty.nullable {
            let counts = aggregate(sub.rel.clone(), vec![("COUNT", None), ("COUNT", Some(0))], span)?;
            Some(self.attach(counts, vec![], span)?)
        } else {
            None
        };
        let items = vec![(column.name.clone(), build::read(&sub.rel.schema, 0))];
        let projected = build::project(sub.rel, items, span);
        let schema = projected.schema.clone();
        let distinct = Rel { kind: RelKind::Distinct { input: Box::new(projected) }, schema, span };
        let marked = build::append(distinct, vec![("$found".into(), Expr::boolean(true))], span);
        let on = call("=", vec![value.clone(), Expr::column(self.width(), column.ty)], span)?;
        let at = self.attach(marked, vec![on], span)?;
        let found = is_not_null(Expr::column(at + 1, TypeKind::Boolean.nullable()));
        let Some(counted) = counted else { return Ok(found) };
        let count = |i| Expr::column(counted + i, TypeKind::BigInt.nullable());
        let zero = Expr::literal(Datum::BigInt(0), TypeKind::BigInt.not_null());
        let ty = TypeKind::Boolean.nullable();
        let unknown = or(vec![is_null(value.clone()), call("<", vec![count(1), count(0)], span)?]);
        let branches = vec![
            (call("=", vec![count(0), zero], span)?, Expr::boolean(false)),
            (found, Expr::boolean(true)),
            (unknown, Expr::null(ty.clone())),
        ];
        Ok(Expr { kind: ExprKind::Case { branches, otherwise: Box::new(Expr::boolean(false)) }, ty })
    }

    pub(super) fn exists_subquery(&mut self, query: &ast::Query, span: Span) -> Result<Expr> {
        let sub = self.sub(query, span)?;
        if !sub.conditions.is_empty() {
            return Err(
                unsupported("a correlated EXISTS inside an expression", span).hint("it works as a condition of WHERE joined by AND")
            );
        }
        let counts = aggregate(sub.rel, vec![("COUNT", None)], span)?;
        let at = self.attach(counts, vec![], span)?;
        let zero = Expr::literal(Datum::BigInt(0), TypeKind::BigInt.not_null());
        call(">", vec![Expr::column(at, TypeKind::BigInt.not_null()), zero], span)
    }
}

/// An aggregate of the whole input: functions over no or one column.
fn aggregate(input: Rel, functions: Vec<(&str, Option<usize>)>, span: Span) -> Result<Rel> {
    let (mut calls, mut columns) = (Vec::new(), Vec::new());
    for (name, arg) in functions {
        let args: Vec<Expr> = arg.iter().map(|i| build::read(&input.schema, *i)).collect();
        let json = JsonClauses::default();
        let bound = sluice_functions::bind_aggregate(AggregateArgs { name, args: &args, distinct: false, json: &json, span })?;
        let output = format!("${}{}", name.to_lowercase(), calls.len());
        columns.push(build::column(output.clone(), bound.ty.clone(), None));
        calls.push(AggregateCall {
            function: bound.function,
            args: arg.into_iter().collect(),
            distinct: false,
            filter: None,
            ty: bound.ty,
            name: output,
        });
    }
    let kind =
        RelKind::Aggregate { input: Box::new(input), keys: vec![], grouping_sets: vec![vec![]], calls, window: None, state_ttl: None };
    Ok(build::rel(kind, columns, span))
}

fn single_value(input: Rel, span: Span) -> Result<Rel> {
    if !sluice_functions::is_aggregate("SINGLE_VALUE") {
        return Err(unsupported("a scalar subquery that may have several rows", span).hint("use an aggregate without GROUP BY in it"));
    }
    aggregate(input, vec![("SINGLE_VALUE", Some(0))], span)
}

/// Whether a relation has exactly one row.
fn is_single_row(rel: &Rel) -> bool {
    match &rel.kind {
        RelKind::Aggregate { keys, grouping_sets, .. } => keys.is_empty() && grouping_sets.len() == 1,
        RelKind::Values { rows } => rows.len() == 1,
        RelKind::Project { input, .. } => is_single_row(input),
        RelKind::Sort { limit: Some(1), .. } => true,
        _ => false,
    }
}

/// Whether the subquery is an aggregate whose only keys are those that its conditions compare.
fn groups_by_conditions(rel: &Rel) -> bool {
    match &rel.kind {
        RelKind::Aggregate { .. } => true,
        RelKind::Project { input, .. } => groups_by_conditions(input),
        _ => false,
    }
}

/// Whether column `index` is a COUNT; `None` if it is an expression over one.
fn counts_at(rel: &Rel, index: usize) -> Option<bool> {
    match &rel.kind {
        RelKind::Project { input, exprs } => {
            let e = exprs.get(index)?;
            if let Some(i) = e.as_column() {
                return counts_at(input, i);
            }
            let mut columns = std::collections::BTreeSet::new();
            e.collect_columns(&mut columns);
            columns.iter().all(|i| counts_at(input, *i) == Some(false)).then_some(false)
        }
        RelKind::Aggregate { keys, calls, .. } => {
            Some(index.checked_sub(keys.len()).and_then(|i| calls.get(i)).is_some_and(|c| c.function.name().starts_with("COUNT")))
        }
        _ => Some(false),
    }
}
