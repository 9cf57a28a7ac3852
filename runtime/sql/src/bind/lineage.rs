//! Where columns come from: window bounds through projections and joins, time in join conditions.

use sluice_batch::{Expr, ExprKind};

use super::build;
use crate::relation::{JoinKind, Rel, RelKind, WindowSpec};

/// Which of a window's columns a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowColumn {
    Start,
    End,
    Time,
}

/// What column `index` of `rel` is of a window TVF, if it passed through unchanged
/// (Flink: `FlinkRelMdWindowProperties`).
pub(super) fn window_column(rel: &Rel, index: usize) -> Option<(WindowColumn, &WindowSpec)> {
    match &rel.kind {
        RelKind::WindowTvf { input, window, .. } => match index.checked_sub(input.schema.len()) {
            None => window_column(input, index),
            Some(0) => Some((WindowColumn::Start, window)),
            Some(1) => Some((WindowColumn::End, window)),
            Some(_) => Some((WindowColumn::Time, window)),
        },
        RelKind::Project { input, exprs } => window_column(input, exprs.get(index)?.as_column()?),
        RelKind::Filter { input, .. } => window_column(input, index),
        RelKind::Shared { input, .. } => window_column(input, index),
        RelKind::Unnest { input, .. } | RelKind::Over { input, .. } => {
            (index < input.schema.len()).then(|| window_column(input, index)).flatten()
        }
        RelKind::Aggregate { input, keys, window: Some(_), .. } => window_column(input, *keys.get(index)?),
        RelKind::Join { left, right, kind, condition, .. } => {
            let width = left.schema.len();
            if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                return window_column(left, index);
            }
            if !is_window_join(left, right, condition) {
                return None;
            }
            if index < width { window_column(left, index) } else { window_column(right, index - width) }
        }
        _ => None,
    }
}

/// Whether a join keeps time attributes: an interval join, or a join of windows.
pub(super) fn is_time_join(left: &Rel, right: &Rel, condition: &Expr) -> bool {
    is_window_join(left, right, condition) || is_interval_join(left, right, condition)
}

/// `left.window_start = right.window_start AND left.window_end = right.window_end`
fn is_window_join(left: &Rel, right: &Rel, condition: &Expr) -> bool {
    let width = left.schema.len();
    let (mut start, mut end) = (false, false);
    for conjunct in build::conjuncts(condition.clone()) {
        let Some(("=", a, b)) = comparison(&conjunct) else { continue };
        let (Some(a), Some(b)) = (a.as_column(), b.as_column()) else { continue };
        let (a, b) = (a.min(b), a.max(b));
        if a >= width || b < width {
            continue;
        }
        if let (Some((x, spec)), Some((y, other))) = (window_column(left, a), window_column(right, b - width))
            && x == y
            && spec == other
        {
            start |= x == WindowColumn::Start;
            end |= x == WindowColumn::End;
        }
    }
    start && end
}

/// A comparison between a time attribute of the left and one of the right side, each perhaps moved by an interval.
fn is_interval_join(left: &Rel, right: &Rel, condition: &Expr) -> bool {
    let width = left.schema.len();
    let side = |e: &Expr| {
        let i = time_column(e)?;
        if i < width { left.schema.get(i)?.time.map(|t| (false, t)) } else { right.schema.get(i - width)?.time.map(|t| (true, t)) }
    };
    build::conjuncts(condition.clone()).iter().any(|c| {
        let Some((_, a, b)) = comparison(c) else { return false };
        matches!((side(a), side(b)), (Some((x, s)), Some((y, t))) if x != y && s == t)
    })
}

/// `ts`, `ts + INTERVAL …`, `ts - INTERVAL …`, perhaps under casts.
fn time_column(e: &Expr) -> Option<usize> {
    match &e.kind {
        ExprKind::Column(i) => Some(*i),
        ExprKind::Call { args, .. } => {
            let mut columns = args.iter().filter_map(time_column);
            let first = columns.next()?;
            columns.next().is_none().then_some(first)
        }
        _ => None,
    }
}

fn comparison(e: &Expr) -> Option<(&str, &Expr, &Expr)> {
    match &e.kind {
        ExprKind::Call { function, args } => match (function.name(), args.as_slice()) {
            (op @ ("=" | "<" | "<=" | ">" | ">="), [a, b]) => Some((op, a, b)),
            _ => None,
        },
        _ => None,
    }
}
