//! Takes references to the enclosing query out of a subquery: conditions on them become conditions of a join.

use std::collections::BTreeSet;

use sluice_batch::{Error, Expr, ExprKind, Result, Span};

use super::{OUTER, build, unsupported};
use crate::relation::{Bound, Frame, OverCall, Rel, RelKind, SortKey};

/// A relation without outer references whose columns begin with the original ones, and conditions over its columns and [`OUTER`] ones.
///
/// # Errors
/// If outer references stand where they cannot be taken out.
pub(super) fn pull(rel: Rel) -> Result<(Rel, Vec<Expr>)> {
    if !is_correlated(&rel) {
        return Ok((rel, vec![]));
    }
    let Rel { kind, schema, span } = rel;
    match kind {
        RelKind::Filter { input, predicate } => {
            let (input, mut conditions) = pull(*input)?;
            let (outer, own): (Vec<_>, Vec<_>) = build::conjuncts(predicate).into_iter().partition(reads_outer);
            conditions.extend(outer);
            Ok((build::filter(input, own, span), conditions))
        }
        RelKind::Project { input, exprs } => {
            let (input, conditions) = pull(*input)?;
            if exprs.iter().any(reads_outer) {
                return Err(correlated(span));
            }
            let mut items: Vec<(String, Expr)> = schema.iter().map(|c| c.name.clone()).zip(exprs).collect();
            let conditions = expose(&mut items, &input, conditions);
            Ok((build::project(input, items, span), conditions))
        }
        RelKind::Distinct { input } => {
            let width = input.schema.len();
            let (input, conditions) = pull(*input)?;
            if input.schema.len() != width && !conditions.iter().all(|c| equality(c).is_some()) {
                return Err(correlated(span));
            }
            let schema = input.schema.clone();
            Ok((Rel { kind: RelKind::Distinct { input: Box::new(input) }, schema, span }, conditions))
        }
        RelKind::Sort { input, keys, limit, offset } => {
            let (input, conditions) = pull(*input)?;
            top_n(input, conditions, keys, limit, offset, span)
        }
        RelKind::Aggregate { input, keys, calls, grouping_sets, window: None, state_ttl } if grouping_sets.len() == 1 => {
            let (input, conditions) = pull(*input)?;
            let (input, outer_keys) = key_columns(input, conditions, span)?;
            let (n_keys, n_calls) = (keys.len(), calls.len());
            let mut all = keys;
            all.extend(outer_keys.iter().map(|(c, _)| *c));
            let mut columns: Vec<_> = all.iter().map(|k| input.schema[*k].clone()).collect();
            columns.extend(schema.iter().skip(n_keys).cloned());
            let sets = vec![(0..all.len()).collect()];
            let kind =
                RelKind::Aggregate { input: Box::new(input), keys: all.clone(), grouping_sets: sets, calls, window: None, state_ttl };
            let aggregate = build::rel(kind, columns, span);
            // The original columns first, then the new keys.
            let order: Vec<usize> = (0..n_keys).chain((0..n_calls).map(|i| all.len() + i)).chain(n_keys..all.len()).collect();
            let conditions =
                outer_keys.into_iter().enumerate().map(|(i, (_, make))| make(n_keys + n_calls + i)).collect::<Result<Vec<_>>>()?;
            Ok((build::project_columns(aggregate, &order, span), conditions))
        }
        _ => Err(correlated(span)),
    }
}

type Make = Box<dyn Fn(usize) -> Result<Expr>>;

/// Columns of the input that equal outer values, appended where they are expressions; with what makes the condition from a position.
fn key_columns(input: Rel, conditions: Vec<Expr>, span: Span) -> Result<(Rel, Vec<(usize, Make)>)> {
    let mut extra = Vec::new();
    let mut keys: Vec<(usize, Make)> = Vec::new();
    let width = input.schema.len();
    for c in conditions {
        let Some((own, outer)) = equality(&c) else { return Err(correlated(span)) };
        let column = own.as_column().unwrap_or_else(|| {
            extra.push((format!("$key{}", extra.len()), own.clone()));
            width + extra.len() - 1
        });
        let (ty, outer) = (own.ty.clone(), outer.clone());
        keys.push((column, Box::new(move |i| super::expr::call("=", vec![Expr::column(i, ty.clone()), outer.clone()], span))));
    }
    Ok((build::append(input, extra, span), keys))
}

/// ORDER BY … LIMIT n per outer row: the first n per value of the columns that equal outer ones.
fn top_n(
    input: Rel,
    conditions: Vec<Expr>,
    order_by: Vec<SortKey>,
    limit: Option<u64>,
    offset: u64,
    span: Span,
) -> Result<(Rel, Vec<Expr>)> {
    if limit.is_none() && offset == 0 {
        return Ok((input, conditions));
    }
    let width = input.schema.len();
    let (input, keys) = key_columns(input, conditions, span)?;
    let inner = input.schema.len();
    let mut columns = input.schema.as_ref().clone();
    let rank = sluice_batch::TypeKind::BigInt.not_null();
    columns.push(build::column("$rank", rank.clone(), None));
    let kind = RelKind::Over {
        partition_by: keys.iter().map(|(c, _)| *c).collect(),
        order_by,
        frame: Frame { rows: true, start: Bound::Unbounded, end: Bound::Preceding(0) },
        calls: vec![OverCall::RowNumber { name: "$rank".into() }],
        input: Box::new(input),
    };
    let over = build::rel(kind, columns, span);
    let bound = |op: &str, n: u64| {
        let value = sluice_batch::Datum::BigInt(i64::try_from(n).unwrap_or(i64::MAX));
        super::expr::call(op, vec![Expr::column(inner, rank.clone()), Expr::literal(value, rank.clone())], span)
    };
    let mut predicate = Vec::new();
    if offset > 0 {
        predicate.push(bound(">", offset)?);
    }
    if let Some(limit) = limit {
        predicate.push(bound("<=", offset.saturating_add(limit))?);
    }
    let filtered = build::filter(over, predicate, span);
    let conditions = keys.iter().map(|(c, make)| make(*c)).collect::<Result<Vec<_>>>()?;
    let kept: Vec<usize> = (0..inner).collect();
    debug_assert!(width <= inner);
    Ok((build::project_columns(filtered, &kept, span), conditions))
}

/// Makes the columns that conditions read part of a projection.
fn expose(items: &mut Vec<(String, Expr)>, input: &Rel, conditions: Vec<Expr>) -> Vec<Expr> {
    let mut columns = BTreeSet::new();
    conditions.iter().for_each(|c| c.collect_columns(&mut columns));
    let mut position = std::collections::BTreeMap::new();
    for c in columns.into_iter().filter(|c| *c < OUTER) {
        let at = items.iter().position(|(_, e)| e.as_column() == Some(c)).unwrap_or_else(|| {
            items.push((input.schema.get(c).map_or_else(String::new, |d| d.name.clone()), build::read(&input.schema, c)));
            items.len() - 1
        });
        position.insert(c, at);
    }
    conditions.iter().map(|c| c.map_columns(&|i, ty| Expr::column(position.get(&i).copied().unwrap_or(i), ty.clone()))).collect()
}

/// `own = outer`, either way round.
fn equality(e: &Expr) -> Option<(&Expr, &Expr)> {
    let ExprKind::Call { function, args } = &e.kind else { return None };
    let ("=", [a, b]) = (function.name(), args.as_slice()) else { return None };
    let only_outer = |e: &Expr| {
        let mut columns = BTreeSet::new();
        e.collect_columns(&mut columns);
        columns.iter().all(|c| *c >= OUTER)
    };
    match (reads_outer(a), reads_outer(b)) {
        (false, true) if only_outer(b) => Some((a, b)),
        (true, false) if only_outer(a) => Some((b, a)),
        _ => None,
    }
}

pub(super) fn reads_outer(e: &Expr) -> bool {
    let mut found = false;
    e.walk(&mut |e| found |= matches!(e.kind, ExprKind::Column(i) if i >= OUTER));
    found
}

/// Whether any expression of the tree reads a column of the enclosing query.
pub(super) fn is_correlated(rel: &Rel) -> bool {
    let own = match &rel.kind {
        RelKind::Filter { predicate, .. } => reads_outer(predicate),
        RelKind::Project { exprs, .. } => exprs.iter().any(reads_outer),
        RelKind::Values { rows } => rows.iter().flatten().any(reads_outer),
        RelKind::Unnest { expr, .. } => reads_outer(expr),
        RelKind::Join { condition, .. } | RelKind::TemporalJoin { condition, .. } => reads_outer(condition),
        _ => false,
    };
    own || rel.inputs().into_iter().any(is_correlated)
}

fn correlated(span: Span) -> Error {
    unsupported("this correlated subquery", span).hint("only conditions in its WHERE can refer to the enclosing query")
}
