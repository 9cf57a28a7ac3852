//! Upsert keys: sets of columns whose values tell an operator's rows apart (Flink: `FlinkRelMdUpsertKeys`, `FlinkRelMdUniqueKeys`).

use std::collections::BTreeSet;

use sluice_batch::{Expr, ExprKind, TypeKind};
use sluice_operators::spec::JoinSpec;
use sluice_sql::relation::JoinKind;

use crate::expressions::is_cast;

type Keys = Vec<BTreeSet<usize>>;

/// Keys after a projection: those of which every column is still there, possibly in a type that loses nothing.
pub(crate) fn project<'a>(keys: &Keys, exprs: impl Iterator<Item = &'a Expr>) -> Keys {
    let sources: Vec<Option<usize>> = exprs.map(faithful).collect();
    let moved = |key: &BTreeSet<usize>| key.iter().map(|c| sources.iter().position(|s| s == &Some(*c))).collect::<Option<BTreeSet<_>>>();
    keys.iter().filter_map(moved).collect()
}

/// The column that an expression shows without loss.
fn faithful(expr: &Expr) -> Option<usize> {
    match &expr.kind {
        ExprKind::Column(i) => Some(*i),
        ExprKind::Call { function, args } if is_cast(function.name()) && args.len() == 1 => {
            let column = faithful(&args[0])?;
            widens(&args[0].ty.kind, &expr.ty.kind).then_some(column)
        }
        _ => None,
    }
}

fn widens(from: &TypeKind, to: &TypeKind) -> bool {
    let integer = |t: &TypeKind| match t {
        TypeKind::TinyInt => Some(1),
        TypeKind::SmallInt => Some(2),
        TypeKind::Int => Some(3),
        TypeKind::BigInt => Some(4),
        _ => None,
    };
    match (from, to) {
        (a, b) if a == b => true,
        (TypeKind::Char(a) | TypeKind::VarChar(a), TypeKind::VarChar(b)) => a <= b,
        (TypeKind::Binary(a) | TypeKind::VarBinary(a), TypeKind::VarBinary(b)) => a <= b,
        (TypeKind::Timestamp(a), TypeKind::Timestamp(b)) | (TypeKind::TimestampLtz(a), TypeKind::TimestampLtz(b)) => a <= b,
        (TypeKind::Float, TypeKind::Double) => true,
        (a, b) => matches!((integer(a), integer(b)), (Some(a), Some(b)) if a <= b),
    }
}

/// Keys of a join's output (Flink: `FlinkRelMdUniqueKeys.getJoinUniqueKeys`).
pub(crate) fn join(spec: &JoinSpec, left: &Keys, right: &Keys) -> Keys {
    if matches!(spec.kind, JoinKind::Semi | JoinKind::Anti) {
        return left.clone();
    }
    let width = spec.left.len();
    let shift = |key: &BTreeSet<usize>| key.iter().map(|c| c + width).collect::<BTreeSet<_>>();
    let unique = |keys: &Keys, on: &[usize]| keys.iter().any(|k| k.iter().all(|c| on.contains(c)));
    let mut out: Keys = vec![];
    if unique(right, &spec.right_keys) && matches!(spec.kind, JoinKind::Inner | JoinKind::Left) {
        out.extend(left.iter().cloned());
    }
    if unique(left, &spec.left_keys) && matches!(spec.kind, JoinKind::Inner | JoinKind::Right) {
        out.extend(right.iter().map(shift));
    }
    for l in left {
        for r in right {
            let both: BTreeSet<usize> = l.iter().copied().chain(shift(r)).collect();
            if !out.iter().any(|k| k.is_subset(&both)) {
                out.push(both);
            }
        }
    }
    out
}

/// Whether updates of an input stay with one join key and always join the same way: then a -U is always followed by its +U.
pub(crate) fn stable_under_join(keys: &Keys, on: &[usize]) -> bool {
    keys.iter().any(|k| on.iter().all(|c| k.contains(c)))
}
