//! Constant expressions are evaluated once, here.

use sluice_batch::{Datum, Expr, ExprKind};
use sluice_sql::relation::{Rel, RelKind};

use super::map_inputs;
use crate::expressions::{columns, conjunction, conjuncts};

pub(super) fn fold(rel: Rel) -> Rel {
    let mut rel = map_inputs(rel, &mut fold);
    match &mut rel.kind {
        RelKind::Project { exprs, .. } => exprs.iter_mut().for_each(fold_expr),
        RelKind::Unnest { expr, .. } => fold_expr(expr),
        RelKind::Watermark { expr, .. } => fold_expr(expr),
        RelKind::Filter { predicate, .. } => fold_predicate(predicate),
        RelKind::Join { condition, .. } | RelKind::TemporalJoin { condition, .. } => fold_predicate(condition),
        _ => {}
    }
    match rel.kind {
        RelKind::Filter { input, predicate } if predicate.as_literal() == Some(&Datum::Boolean(true)) => *input,
        kind => Rel { kind, ..rel },
    }
}

fn fold_expr(expr: &mut Expr) {
    if expr.children().is_empty() && expr.as_literal().is_some() {
        return;
    }
    if expr.as_column().is_none()
        && columns(expr).is_empty()
        && expr.is_deterministic()
        && let Some(value) = sluice_functions::fold_constant(expr)
    {
        expr.kind = ExprKind::Literal(value);
        return;
    }
    expr.children_mut().into_iter().for_each(fold_expr);
}

/// Folds, and drops TRUE operands of AND.
fn fold_predicate(predicate: &mut Expr) {
    fold_expr(predicate);
    if matches!(predicate.kind, ExprKind::And(_)) {
        let rest = conjuncts(predicate);
        *predicate = conjunction(rest).unwrap_or_else(|| Expr::boolean(true));
    }
}
