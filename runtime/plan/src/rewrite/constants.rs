//! Constant expressions are evaluated once, here.

use sluice_batch::{Batch, Datum, EvalContext, Expr, ExprKind, Result};
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

/// Evaluates what is constant and certainly evaluated, so that `1 / 0` is found before anything runs (Flink: `ExpressionReducer`).
///
/// # Errors
/// That of the first constant that fails.
pub(crate) fn check(rel: &Rel) -> Result<()> {
    rel.inputs().into_iter().try_for_each(check)?;
    let exprs: Vec<&Expr> = match &rel.kind {
        RelKind::Project { exprs, .. } => exprs.iter().collect(),
        RelKind::Filter { predicate, .. } => vec![predicate],
        RelKind::Join { condition, .. } | RelKind::TemporalJoin { condition, .. } => vec![condition],
        _ => vec![],
    };
    exprs.into_iter().try_for_each(check_expr).map_err(|e| e.into_plan().at(rel.span))
}

/// Functions that need not evaluate all of their arguments.
const CONDITIONAL: &[&str] = &["COALESCE", "IF", "IFNULL", "NULLIF"];

fn check_expr(expr: &Expr) -> Result<()> {
    let certain: Vec<&Expr> = match &expr.kind {
        ExprKind::Column(_) | ExprKind::Literal(_) => return Ok(()),
        ExprKind::Case { branches, .. } => branches.first().map(|(condition, _)| condition).into_iter().collect(),
        ExprKind::And(operands) | ExprKind::Or(operands) => operands.first().into_iter().collect(),
        ExprKind::Call { function, args } if CONDITIONAL.contains(&function.name()) => args.first().into_iter().collect(),
        _ => expr.children(),
    };
    if columns(expr).is_empty() && expr.is_deterministic() {
        return expr.eval(&Batch::new(vec![], 1), &EvalContext::default()).map(|_| ());
    }
    certain.into_iter().try_for_each(check_expr)
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
