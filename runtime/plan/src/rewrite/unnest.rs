//! `UNNEST` over a window TVF: the windows of a row do not depend on its elements, so elements come first and the window
//! can be folded into the aggregate above.

use std::sync::Arc;

use sluice_batch::Expr;
use sluice_sql::relation::{Rel, RelKind, WindowSpec};

use super::{map_inputs, placeholder, substitute};
use crate::expressions::columns;

pub(super) fn below_windows(rel: Rel) -> Rel {
    let rel = map_inputs(rel, &mut below_windows);
    let rel = through_project(rel);
    swap(rel)
}

/// `Unnest(Project(x))` as `Project(Unnest(x))` if the projection only picks columns.
fn through_project(mut rel: Rel) -> Rel {
    let RelKind::Unnest { input, expr, outer, ordinality } = &mut rel.kind else { return rel };
    let RelKind::Project { input: below, exprs } = &mut input.kind else { return rel };
    if !matches!(below.kind, RelKind::WindowTvf { .. }) || !exprs.iter().all(|e| e.as_column().is_some()) {
        return rel;
    }
    let width = exprs.len();
    let element = rel.schema[width..].to_vec();
    let below = std::mem::replace(&mut **below, placeholder());
    let offset = below.schema.len();
    let mut schema = (*below.schema).clone();
    schema.extend(element.iter().cloned());
    let mut picked = std::mem::take(exprs);
    picked.extend(element.iter().enumerate().map(|(i, c)| Expr::column(offset + i, c.ty.clone())));
    let kind = RelKind::Unnest { expr: substitute(expr, &picked), outer: *outer, ordinality: *ordinality, input: Box::new(below) };
    let unnest = swap(Rel { kind, schema: Arc::new(schema), span: rel.span });
    Rel { kind: RelKind::Project { input: Box::new(unnest), exprs: picked }, ..rel }
}

fn swap(mut rel: Rel) -> Rel {
    let RelKind::Unnest { input, expr, outer, ordinality } = &mut rel.kind else { return rel };
    let RelKind::WindowTvf { input: below, time, window, partition_by } = &mut input.kind else { return rel };
    let width = below.schema.len();
    if matches!(window, WindowSpec::Session { .. }) || columns(expr).iter().any(|c| *c >= width) {
        return rel;
    }
    let element = rel.schema[width + 3..].to_vec();
    let windows = input.schema[width..].to_vec();
    let below = std::mem::replace(&mut **below, placeholder());
    let mut inner = (*below.schema).clone();
    inner.extend(element.iter().cloned());
    let kind = RelKind::Unnest { input: Box::new(below), expr: expr.clone(), outer: *outer, ordinality: *ordinality };
    let unnest = Rel { kind, schema: Arc::new(inner.clone()), span: rel.span };
    inner.extend(windows);
    let total = inner.len();
    let order = (0..width).chain(total - 3..total).chain(width..total - 3);
    let exprs = order.map(|i| Expr::column(i, inner[i].ty.clone())).collect();
    let kind =
        RelKind::WindowTvf { input: Box::new(unnest), time: *time, window: window.clone(), partition_by: std::mem::take(partition_by) };
    let tvf = Rel { kind, schema: Arc::new(inner), span: input.span };
    Rel { kind: RelKind::Project { input: Box::new(tvf), exprs }, ..rel }
}
