//! Relations used more than once: planned once if they hold state, else copied into each use, where predicates and
//! projections of that use apply (scans are shared anyway).

use std::collections::HashMap;

use sluice_sql::relation::{Rel, RelKind};

use super::map_inputs;

pub(super) fn inline(rel: Rel) -> Rel {
    let mut uses = HashMap::new();
    count(&rel, &mut uses);
    replace(rel, &uses)
}

fn count(rel: &Rel, uses: &mut HashMap<usize, usize>) {
    if let RelKind::Shared { id, .. } = &rel.kind {
        let n = uses.entry(*id).or_default();
        *n += 1;
        if *n > 1 {
            return;
        }
    }
    rel.inputs().into_iter().for_each(|i| count(i, uses));
}

fn replace(rel: Rel, uses: &HashMap<usize, usize>) -> Rel {
    match &rel.kind {
        RelKind::Shared { id, input } if uses.get(id) == Some(&1) || is_stateless(input) => replace((**input).clone(), uses),
        _ => map_inputs(rel, &mut |r| replace(r, uses)),
    }
}

fn is_stateless(rel: &Rel) -> bool {
    let here = match &rel.kind {
        RelKind::Scan { .. } | RelKind::Watermark { .. } | RelKind::Shared { .. } | RelKind::Values { .. } => true,
        RelKind::Filter { predicate, .. } => predicate.is_deterministic(),
        RelKind::Project { exprs, .. } => exprs.iter().all(|e| e.is_deterministic() || e.children().is_empty()),
        RelKind::Union { .. } => true,
        _ => false,
    };
    here && rel.inputs().into_iter().all(is_stateless)
}
