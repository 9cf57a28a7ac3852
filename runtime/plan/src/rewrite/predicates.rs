//! Predicates move towards the scans (Flink: `FilterJoinRule`, `FilterProjectTransposeRule` and their kin).

use std::collections::BTreeSet;

use sluice_batch::Expr;
use sluice_sql::relation::{JoinKind, Rel, RelKind, WindowSpec};

use super::{map_inputs, placeholder, substitute};
use crate::expressions::{columns, conjunction, conjuncts, rejects_nulls};

pub(super) fn push_down(rel: Rel) -> Rel {
    push(rel, vec![])
}

/// `rel` where all of `predicates` (over its output) hold.
fn push(mut rel: Rel, mut predicates: Vec<Expr>) -> Rel {
    match &mut rel.kind {
        RelKind::Filter { input, predicate } => {
            predicates.splice(0..0, conjuncts(predicate));
            push(take(input), predicates)
        }
        RelKind::Project { input, exprs } => {
            let (down, keep) = split(predicates, |p| columns(p).iter().all(|c| exprs.get(*c).is_some_and(Expr::is_deterministic)));
            let down = down.iter().map(|p| substitute(p, exprs)).collect();
            **input = push(take(input), down);
            filter(rel, keep)
        }
        RelKind::Unnest { input, .. } => {
            let width = input.schema.len();
            let (down, keep) = split(predicates, |p| columns(p).iter().all(|c| *c < width));
            **input = push(take(input), down);
            filter(rel, keep)
        }
        RelKind::WindowTvf { input, window, partition_by, .. } => {
            let width = input.schema.len();
            let session = matches!(window, WindowSpec::Session { .. });
            let (down, keep) = split(predicates, |p| {
                columns(p).iter().all(|c| *c < width && (!session || partition_by.contains(c))) && p.is_deterministic()
            });
            **input = push(take(input), down);
            filter(rel, keep)
        }
        RelKind::Union { inputs } => {
            for input in inputs {
                *input = push(std::mem::replace(input, placeholder()), predicates.clone());
            }
            rel
        }
        RelKind::SetOperation { left, right, .. } => {
            **left = push(take(left), predicates.clone());
            **right = push(take(right), predicates);
            rel
        }
        RelKind::Distinct { input } => {
            **input = push(take(input), predicates);
            rel
        }
        RelKind::Sort { input, limit: None, offset: 0, .. } => {
            **input = push(take(input), predicates);
            rel
        }
        RelKind::Aggregate { .. } | RelKind::GroupWindow { .. } | RelKind::Over { .. } | RelKind::MatchRecognize { .. } => {
            push_below_keys(rel, predicates)
        }
        RelKind::Join { .. } => push_join(rel, predicates),
        RelKind::TemporalJoin { left, right, .. } => {
            let width = left.schema.len();
            let (down, keep) = split(predicates, |p| columns(p).iter().all(|c| *c < width));
            **left = push(take(left), down);
            **right = push(take(right), vec![]);
            filter(rel, keep)
        }
        _ => {
            let rel = map_inputs(rel, &mut |input| push(input, vec![]));
            filter(rel, predicates)
        }
    }
}

/// Operators that work by key: predicates over keys alone decide about whole groups.
fn push_below_keys(mut rel: Rel, predicates: Vec<Expr>) -> Rel {
    // Output column to input column, for the key columns that predicates may pass.
    let passes: Vec<Option<usize>> = match &rel.kind {
        RelKind::Aggregate { keys, grouping_sets, window, .. } if grouping_sets.len() <= 1 => {
            let window = window.clone().unwrap_or_default();
            let is_window = |i: usize| [window.start, window.end, window.time].contains(&Some(i));
            keys.iter().enumerate().map(|(i, k)| (!is_window(i)).then_some(*k)).collect()
        }
        RelKind::GroupWindow { keys, .. } => keys.iter().copied().map(Some).collect(),
        RelKind::MatchRecognize { clause, .. } => clause.partition_by.iter().copied().map(Some).collect(),
        RelKind::Over { input, partition_by, .. } => (0..input.schema.len()).map(|c| partition_by.contains(&c).then_some(c)).collect(),
        _ => vec![],
    };
    let (down, keep) = split(predicates, |p| {
        let used = columns(p);
        !used.is_empty() && p.is_deterministic() && used.iter().all(|c| passes.get(*c).copied().flatten().is_some())
    });
    let down = down.iter().map(|p| p.map_columns(&|c, ty| Expr::column(passes.get(c).copied().flatten().unwrap_or(c), ty.clone())));
    let mut down: Option<Vec<Expr>> = Some(down.collect());
    rel = map_inputs(rel, &mut |input| push(input, down.take().unwrap_or_default()));
    filter(rel, keep)
}

fn push_join(mut rel: Rel, predicates: Vec<Expr>) -> Rel {
    let RelKind::Join { left, right, kind, condition, .. } = &mut rel.kind else { return rel };
    let width = left.schema.len();
    let total = width + right.schema.len();
    let side = |p: &Expr| Side::of(&columns(p), width, total);
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        let rejects = |wanted: Side| predicates.iter().any(|p| side(p) == wanted && rejects_nulls(p));
        *kind = simplify(*kind, rejects(Side::Left), rejects(Side::Right));
    }
    let (mut to_left, mut to_right, mut above, mut on) = (vec![], vec![], vec![], vec![]);
    for p in predicates {
        match (side(&p), *kind) {
            (Side::Left, JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti) => to_left.push(p),
            (Side::Right, JoinKind::Inner | JoinKind::Right) => to_right.push(p),
            (Side::Both, JoinKind::Inner) if p.is_deterministic() => on.push(p),
            _ => above.push(p),
        }
    }
    for p in conjuncts(condition) {
        match (side(&p), *kind) {
            _ if !p.is_deterministic() => on.push(p),
            (Side::Left, JoinKind::Inner | JoinKind::Right | JoinKind::Semi) => to_left.push(p),
            (Side::Right, JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti) => to_right.push(p),
            _ => on.push(p),
        }
    }
    let to_right = to_right.iter().map(|p| p.map_columns(&|c, ty| Expr::column(c.saturating_sub(width), ty.clone()))).collect();
    **left = push(take(left), to_left);
    **right = push(take(right), to_right);
    *condition = conjunction(on).unwrap_or_else(|| Expr::boolean(true));
    filter(rel, above)
}

/// An outer join whose padded rows are filtered out is a narrower one.
fn simplify(kind: JoinKind, rejects_left: bool, rejects_right: bool) -> JoinKind {
    match (kind, rejects_left, rejects_right) {
        (JoinKind::Left, _, true) | (JoinKind::Right, true, _) | (JoinKind::Full, true, true) => JoinKind::Inner,
        (JoinKind::Full, true, false) => JoinKind::Left,
        (JoinKind::Full, false, true) => JoinKind::Right,
        _ => kind,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    None,
    Left,
    Right,
    Both,
}

impl Side {
    fn of(used: &BTreeSet<usize>, width: usize, total: usize) -> Self {
        match (used.first(), used.last()) {
            (Some(_), Some(last)) if *last < width => Side::Left,
            (Some(first), Some(last)) if *first >= width && *last < total => Side::Right,
            (Some(_), _) => Side::Both,
            _ => Side::None,
        }
    }
}

fn split(predicates: Vec<Expr>, mut down: impl FnMut(&Expr) -> bool) -> (Vec<Expr>, Vec<Expr>) {
    predicates.into_iter().partition(|p| down(p))
}

fn take(rel: &mut Rel) -> Rel {
    std::mem::replace(rel, placeholder())
}

fn filter(rel: Rel, predicates: Vec<Expr>) -> Rel {
    match conjunction(predicates) {
        None => rel,
        Some(predicate) => Rel { schema: rel.schema.clone(), span: rel.span, kind: RelKind::Filter { input: Box::new(rel), predicate } },
    }
}
