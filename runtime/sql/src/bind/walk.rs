//! Walks over syntax, not into subqueries.

use crate::ast::{Arg, ArgValue, Expr, ExprKind, FrameBound, FunctionCall, OrderBy, Over, WindowSpec};

/// The direct sub-expressions of an expression, arguments and windows of calls included.
pub(super) fn children(e: &Expr) -> Vec<&Expr> {
    match &e.kind {
        ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Exists { .. } | ExprKind::ScalarSubquery(_) => vec![],
        ExprKind::Field { expr, .. }
        | ExprKind::Unary { expr, .. }
        | ExprKind::Is { expr, .. }
        | ExprKind::InSubquery { expr, .. }
        | ExprKind::IsJson { expr, .. }
        | ExprKind::Cast { expr, .. } => vec![expr],
        ExprKind::Index { expr, index } => vec![expr, index],
        ExprKind::Binary { left, right, .. } | ExprKind::IsDistinctFrom { left, right, .. } => vec![left, right],
        ExprKind::And(v) | ExprKind::Or(v) | ExprKind::Row(v) | ExprKind::Array(v) => v.iter().collect(),
        ExprKind::Between { expr, low, high, .. } => vec![expr, low, high],
        ExprKind::InList { expr, list, .. } => std::iter::once(&**expr).chain(list).collect(),
        ExprKind::Like { expr, pattern, escape, .. } | ExprKind::SimilarTo { expr, pattern, escape, .. } => {
            [Some(expr), Some(pattern), escape.as_ref()].into_iter().flatten().map(|e| &**e).collect()
        }
        ExprKind::Case { operand, branches, otherwise } => {
            operand.iter().map(|e| &**e).chain(branches.iter().flat_map(|(c, r)| [c, r])).chain(otherwise.iter().map(|e| &**e)).collect()
        }
        ExprKind::Map(entries) => entries.iter().flat_map(|(k, v)| [k, v]).collect(),
        ExprKind::Function(call) => call_children(call),
    }
}

fn call_children(call: &FunctionCall) -> Vec<&Expr> {
    let mut out: Vec<&Expr> = args(call).collect();
    out.extend(call.filter.iter());
    out.extend(call.order_by.iter().map(|o| &o.expr));
    if let Some(Over::Spec(spec)) = &call.over {
        out.extend(window_children(spec));
    }
    out
}

/// The arguments that are expressions.
pub(super) fn args(call: &FunctionCall) -> impl Iterator<Item = &Expr> {
    call.args.iter().filter_map(|a: &Arg| match &a.value {
        ArgValue::Expr(e) => Some(e),
        _ => None,
    })
}

pub(super) fn window_children(spec: &WindowSpec) -> Vec<&Expr> {
    let mut out: Vec<&Expr> = spec.partition_by.iter().chain(spec.order_by.iter().map(|o: &OrderBy| &o.expr)).collect();
    for bound in spec.frame.iter().flat_map(|f| [&f.start, &f.end]) {
        if let FrameBound::Preceding(e) | FrameBound::Following(e) = bound {
            out.push(e);
        }
    }
    out
}

/// Visits an expression and what is below it, as long as `visit` says so.
pub(super) fn walk<'e>(e: &'e Expr, visit: &mut dyn FnMut(&'e Expr) -> bool) {
    if visit(e) {
        for child in children(e) {
            walk(child, visit);
        }
    }
}

/// Whether any expression at or below `e` fulfils `test`.
pub(super) fn any(e: &Expr, test: &dyn Fn(&Expr) -> bool) -> bool {
    test(e) || children(e).into_iter().any(|c| any(c, test))
}

pub(super) fn as_call(e: &Expr) -> Option<&FunctionCall> {
    match &e.kind {
        ExprKind::Function(call) => Some(call),
        _ => None,
    }
}

/// Whether a subquery stands in `e` itself or below.
pub(super) fn has_subquery(e: &Expr) -> bool {
    any(e, &|e| matches!(e.kind, ExprKind::InSubquery { .. } | ExprKind::Exists { .. } | ExprKind::ScalarSubquery(_)))
}
