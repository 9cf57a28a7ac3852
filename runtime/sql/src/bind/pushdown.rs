//! Conditions of WHERE go into the joins below, so that `FROM a, b WHERE a.x = b.x` is the join it means
//! (Calcite: `FilterJoinRule`). Joins then know whether they are interval or window joins.

use std::collections::BTreeSet;

use sluice_batch::{Expr, Span};

use super::build;
use crate::relation::{JoinKind, Rel, RelKind};

/// A filter by `conjuncts` above `input`, pushed down as far as joins allow.
pub(super) fn filter(input: Rel, conjuncts: Vec<Expr>, span: Span) -> Rel {
    let Rel { kind, schema, span: input_span } = input;
    match kind {
        RelKind::Join { left, right, kind, condition, state_ttl } => {
            let sides = split(conjuncts, kind, left.schema.len());
            let mut on = if build::is_true(&condition) { vec![] } else { build::conjuncts(condition) };
            on.extend(sides.condition);
            let left = filter(*left, sides.left, span);
            let right = filter(*right, sides.right, span);
            build::filter(build::join(left, right, kind, Expr::and(on), state_ttl, input_span), sides.above, span)
        }
        kind => build::filter(Rel { kind, schema, span: input_span }, conjuncts, span),
    }
}

#[derive(Default)]
struct Sides {
    left: Vec<Expr>,
    right: Vec<Expr>,
    condition: Vec<Expr>,
    above: Vec<Expr>,
}

fn split(conjuncts: Vec<Expr>, kind: JoinKind, width: usize) -> Sides {
    let mut sides = Sides::default();
    for c in conjuncts {
        let mut columns = BTreeSet::new();
        c.collect_columns(&mut columns);
        let reads_left = columns.iter().any(|i| *i < width);
        let reads_right = columns.iter().any(|i| *i >= width);
        // Conditions on the enclosing query stay on top, where they are taken out.
        let deterministic = c.is_deterministic() && columns.iter().all(|i| *i < super::OUTER);
        match (kind, reads_left, reads_right) {
            (JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti, true, false) if deterministic => sides.left.push(c),
            (JoinKind::Inner | JoinKind::Right, false, true) if deterministic => {
                sides.right.push(c.map_columns(&|i, ty| Expr::column(i - width, ty.clone())));
            }
            (JoinKind::Inner, true, true) if deterministic => sides.condition.push(c),
            _ => sides.above.push(c),
        }
    }
    sides
}
