//! Looking into expressions: conjuncts, calls by name, constants, and what they read.

use std::collections::BTreeSet;

use sluice_batch::{Datum, Expr, ExprKind};
use sluice_operators::spec::OperatorSpec;

use crate::NodeKind;

/// The operands of nested ANDs; none for TRUE.
pub(crate) fn conjuncts(predicate: &Expr) -> Vec<Expr> {
    match &predicate.kind {
        ExprKind::And(operands) => operands.iter().flat_map(conjuncts).collect(),
        ExprKind::Literal(Datum::Boolean(true)) => vec![],
        _ => vec![predicate.clone()],
    }
}

/// All of `conjuncts`; `None` if there are none.
pub(crate) fn conjunction(conjuncts: Vec<Expr>) -> Option<Expr> {
    if conjuncts.is_empty() { None } else { Some(Expr::and(conjuncts)) }
}

pub(crate) fn columns(expr: &Expr) -> BTreeSet<usize> {
    let mut used = BTreeSet::new();
    expr.collect_columns(&mut used);
    used
}

/// A call's name and arguments.
pub(crate) fn call(expr: &Expr) -> Option<(&str, &[Expr])> {
    match &expr.kind {
        ExprKind::Call { function, args } => Some((function.name(), args)),
        _ => None,
    }
}

/// `=` of two operands.
pub(crate) fn equality(expr: &Expr) -> Option<(&Expr, &Expr)> {
    match call(expr) {
        Some(("=", [a, b])) => Some((a, b)),
        _ => None,
    }
}

/// `IS NOT DISTINCT FROM` of two operands.
pub(crate) fn null_safe_equality(expr: &Expr) -> Option<(&Expr, &Expr)> {
    match (call(expr), &expr.kind) {
        (Some((name, [a, b])), _) if name.eq_ignore_ascii_case("IS NOT DISTINCT FROM") => Some((a, b)),
        (_, ExprKind::Not(inner)) => match call(inner) {
            Some((name, [a, b])) if name.eq_ignore_ascii_case("IS DISTINCT FROM") => Some((a, b)),
            _ => None,
        },
        _ => None,
    }
}

/// A comparison as `a op b` with op one of `< <= > >= =`.
pub(crate) fn comparison(expr: &Expr) -> Option<(&str, &Expr, &Expr)> {
    match call(expr) {
        Some((op @ ("<" | "<=" | ">" | ">=" | "="), [a, b])) => Some((op, a, b)),
        _ => None,
    }
}

/// The comparison that says the same with the operands exchanged.
pub(crate) fn mirrored(op: &str) -> &'static str {
    match op {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        _ => "=",
    }
}

/// Whether a call is a cast: `CAST[INT]`, `TRY_CAST[INT]`.
pub(crate) fn is_cast(name: &str) -> bool {
    name.starts_with("CAST[") || name.starts_with("TRY_CAST[")
}

/// The expression below casts.
pub(crate) fn without_casts(expr: &Expr) -> &Expr {
    match &expr.kind {
        ExprKind::Call { function, args } if is_cast(function.name()) && !args.is_empty() => without_casts(&args[0]),
        _ => expr,
    }
}

/// A constant's value.
pub(crate) fn constant(expr: &Expr) -> Option<Datum> {
    match &expr.kind {
        ExprKind::Literal(value) => Some(value.clone()),
        _ if columns(expr).is_empty() => sluice_functions::fold_constant(expr),
        _ => None,
    }
}

/// Whether the predicate is FALSE or NULL when all columns it reads are NULL, as far as can be told from its form.
pub(crate) fn rejects_nulls(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::IsNotNull(inner) => is_strict(inner),
        ExprKind::And(operands) => operands.iter().any(rejects_nulls),
        ExprKind::Or(operands) => operands.iter().all(rejects_nulls),
        ExprKind::Call { function, args } => {
            matches!(function.name(), "=" | "<>" | "<" | "<=" | ">" | ">=" | "LIKE") && args.iter().any(is_strict)
        }
        ExprKind::Column(_) => true,
        _ => false,
    }
}

/// Whether the expression is NULL when all columns it reads are: a column, or casts and arithmetic of one.
fn is_strict(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Column(_) => true,
        ExprKind::Call { function, args } => {
            (is_cast(function.name()) || matches!(function.name(), "+" | "-" | "*")) && args.iter().any(is_strict)
        }
        _ => false,
    }
}

/// Whether all expressions of a node give the same for the same rows.
pub(crate) fn is_deterministic(kind: &NodeKind) -> bool {
    match kind {
        NodeKind::Operator(OperatorSpec::Calc { filter, project }) => {
            filter.iter().chain(project.iter().flatten()).all(Expr::is_deterministic)
        }
        NodeKind::Operator(OperatorSpec::Unnest(u)) => u.filter.iter().chain([&u.expr]).all(Expr::is_deterministic),
        NodeKind::Operator(OperatorSpec::Join(j)) => j.condition.iter().all(Expr::is_deterministic),
        _ => true,
    }
}
