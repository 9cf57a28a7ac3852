//! Makes relations with the schemas that follow from them: types, nullability, time attributes.

use std::sync::Arc;

use sluice_batch::{Expr, ExprKind, Millis, Span};

use super::lineage;
use crate::relation::{ColumnDef, JoinKind, Rel, RelKind, TimeAttribute};

pub(super) fn rel(kind: RelKind, schema: Vec<ColumnDef>, span: Span) -> Rel {
    Rel { kind, schema: Arc::new(schema), span }
}

pub(super) fn column(name: impl Into<String>, ty: sluice_batch::SqlType, time: Option<TimeAttribute>) -> ColumnDef {
    ColumnDef { name: name.into(), ty, time }
}

/// Reads a column of a relation.
pub(super) fn read(schema: &[ColumnDef], index: usize) -> Expr {
    Expr::column(index, schema.get(index).map_or(sluice_batch::TypeKind::Null.nullable(), |c| c.ty.clone()))
}

pub(super) fn read_all(schema: &[ColumnDef]) -> Vec<Expr> {
    (0..schema.len()).map(|i| read(schema, i)).collect()
}

/// The time attribute of an expression: a column's own, or `PROCTIME()`.
pub(super) fn time_of(expr: &Expr, schema: &[ColumnDef]) -> Option<TimeAttribute> {
    match &expr.kind {
        ExprKind::Column(i) => schema.get(*i).and_then(|c| c.time),
        ExprKind::Call { function, .. } if function.name() == "PROCTIME" => Some(TimeAttribute::Proctime),
        _ => None,
    }
}

/// A projection; time attributes go through plain columns. One that only names columns anew does so in its input where it can.
pub(super) fn project(input: Rel, items: Vec<(String, Expr)>, span: Span) -> Rel {
    let named_by_us = matches!(
        input.kind,
        RelKind::Project { .. }
            | RelKind::Aggregate { .. }
            | RelKind::GroupWindow { .. }
            | RelKind::Over { .. }
            | RelKind::MatchRecognize { .. }
    );
    if named_by_us && items.len() == input.schema.len() && items.iter().enumerate().all(|(i, (_, e))| e.as_column() == Some(i)) {
        return rename(input, &items.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    }
    let schema = items.iter().map(|(name, e)| column(name.clone(), e.ty.clone(), time_of(e, &input.schema))).collect();
    let exprs = items.into_iter().map(|(_, e)| e).collect();
    rel(RelKind::Project { input: Box::new(input), exprs }, schema, span)
}

/// A projection onto columns, in this order; none if they are all columns as they are.
pub(super) fn project_columns(input: Rel, columns: &[usize], span: Span) -> Rel {
    if columns.len() == input.schema.len() && columns.iter().enumerate().all(|(i, c)| i == *c) {
        return input;
    }
    let items = columns.iter().filter_map(|i| Some((input.schema.get(*i)?.name.clone(), read(&input.schema, *i)))).collect();
    project(input, items, span)
}

/// The input with further columns on its right.
pub(super) fn append(input: Rel, extra: Vec<(String, Expr)>, span: Span) -> Rel {
    if extra.is_empty() {
        return input;
    }
    let mut items: Vec<_> = input.schema.iter().enumerate().map(|(i, c)| (c.name.clone(), read(&input.schema, i))).collect();
    items.extend(extra);
    project(input, items, span)
}

pub(super) fn filter(input: Rel, conjuncts: Vec<Expr>, span: Span) -> Rel {
    if conjuncts.is_empty() {
        return input;
    }
    let schema = input.schema.clone();
    Rel { kind: RelKind::Filter { input: Box::new(input), predicate: Expr::and(conjuncts) }, schema, span }
}

/// A join. Time attributes survive in interval and window joins, and in semi and anti joins (Flink: `RelTimeIndicatorConverter`).
pub(super) fn join(left: Rel, right: Rel, kind: JoinKind, condition: Expr, state_ttl: (Option<Millis>, Option<Millis>), span: Span) -> Rel {
    let mut schema: Vec<ColumnDef> = left.schema.as_ref().clone();
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        schema.extend(right.schema.iter().cloned());
        let keeps_time = lineage::is_time_join(&left, &right, &condition);
        let width = left.schema.len();
        for (i, c) in schema.iter_mut().enumerate() {
            let padded = match kind {
                JoinKind::Left => i >= width,
                JoinKind::Right => i < width,
                JoinKind::Full => true,
                _ => false,
            };
            c.ty.nullable |= padded;
            if !keeps_time {
                c.time = None;
            }
        }
    }
    rel(RelKind::Join { left: Box::new(left), right: Box::new(right), kind, condition, state_ttl }, schema, span)
}

/// Gives columns new names.
pub(super) fn rename(mut input: Rel, names: &[String]) -> Rel {
    let mut schema = input.schema.as_ref().clone();
    for (c, name) in schema.iter_mut().zip(names) {
        c.name.clone_from(name);
    }
    input.schema = Arc::new(schema);
    input
}

/// The operands of a conjunction, flattened.
pub(super) fn conjuncts(expr: Expr) -> Vec<Expr> {
    match expr.kind {
        ExprKind::And(operands) => operands.into_iter().flat_map(conjuncts).collect(),
        _ => vec![expr],
    }
}

/// Whether a condition is the constant TRUE.
pub(super) fn is_true(expr: &Expr) -> bool {
    expr.as_literal().and_then(sluice_batch::Datum::as_bool) == Some(true)
}

/// Structural equality: the same meaning for the same input.
pub(super) fn same(a: &Expr, b: &Expr) -> bool {
    if a.ty.kind != b.ty.kind {
        return false;
    }
    let children = || {
        let (x, y) = (a.children(), b.children());
        x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
    };
    match (&a.kind, &b.kind) {
        (ExprKind::Column(x), ExprKind::Column(y)) => x == y,
        (ExprKind::Literal(x), ExprKind::Literal(y)) => x == y,
        (ExprKind::Call { function: f, .. }, ExprKind::Call { function: g, .. }) => {
            // Two functions of one name may differ in what the binder built into them (a target type, a format).
            f.name() == g.name() && format!("{f:?}") == format!("{g:?}") && children()
        }
        (x, y) => std::mem::discriminant(x) == std::mem::discriminant(y) && children(),
    }
}

/// The position of `expr` in `list`, added if it is not there.
pub(super) fn intern(list: &mut Vec<Expr>, expr: Expr) -> usize {
    list.iter().position(|e| same(e, &expr)).unwrap_or_else(|| {
        list.push(expr);
        list.len() - 1
    })
}
