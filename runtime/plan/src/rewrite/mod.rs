//! Relation to relation: the same rows, less work.

mod constants;
mod predicates;
mod shared;
mod unnest;
mod watermark;

use sluice_batch::Expr;
use sluice_sql::relation::{BoundStatement, Rel, RelKind, Schema};

/// Finds constants that fail.
///
/// # Errors
/// Theirs.
pub(crate) fn check(statement: &BoundStatement) -> sluice_batch::Result<()> {
    let (BoundStatement::Insert { query, .. } | BoundStatement::Select { query }) = statement;
    constants::check(query)
}

/// A statement with its query rewritten.
pub(crate) fn statement(statement: &BoundStatement) -> BoundStatement {
    let mut statement = statement.clone();
    match &mut statement {
        BoundStatement::Insert { query, .. } | BoundStatement::Select { query } => *query = relation(query.clone()),
    }
    statement
}

/// All rewrites, in the order in which they help each other.
fn relation(rel: Rel) -> Rel {
    let rel = shared::inline(rel);
    let rel = constants::fold(rel);
    let rel = watermark::to_scans(rel);
    let rel = merge_projects(rel);
    let rel = predicates::push_down(rel);
    let rel = unnest::below_windows(rel);
    let rel = merge_projects(rel);
    // Predicates over elements can pass the windows now.
    let rel = predicates::push_down(rel);
    merge_projects(rel)
}

/// Applies `f` to every direct input.
pub(crate) fn map_inputs(mut rel: Rel, f: &mut dyn FnMut(Rel) -> Rel) -> Rel {
    for input in rel.inputs_mut() {
        let old = std::mem::replace(input, placeholder());
        *input = f(old);
    }
    rel
}

pub(crate) fn placeholder() -> Rel {
    Rel { kind: RelKind::Values { rows: vec![] }, schema: Schema::default(), span: sluice_batch::Span::NONE }
}

/// `expr` over a projection as an expression over the projection's input.
pub(crate) fn substitute(expr: &Expr, exprs: &[Expr]) -> Expr {
    expr.map_columns(&|i, ty| exprs.get(i).cloned().unwrap_or_else(|| Expr::column(i, ty.clone())))
}

/// Whether `outer` may be substituted into `exprs` without evaluating anything costly or random twice.
pub(crate) fn may_merge<'a>(outer: impl Iterator<Item = &'a Expr>, exprs: &[Expr]) -> bool {
    let mut uses = vec![0usize; exprs.len()];
    for expr in outer {
        expr.walk(&mut |e| {
            if let Some(count) = e.as_column().and_then(|i| uses.get_mut(i)) {
                *count += 1;
            }
        });
    }
    exprs.iter().zip(uses).all(|(e, n)| n <= 1 || e.as_column().is_some() || e.as_literal().is_some())
}

/// Projects over projects become one.
fn merge_projects(rel: Rel) -> Rel {
    let mut rel = map_inputs(rel, &mut merge_projects);
    if let RelKind::Project { input, exprs } = &mut rel.kind
        && let RelKind::Project { input: inner, exprs: inner_exprs } = &mut input.kind
        && may_merge(exprs.iter(), inner_exprs)
    {
        let merged = exprs.iter().map(|e| substitute(e, inner_exprs)).collect();
        let inner = std::mem::replace(inner, Box::new(placeholder()));
        rel.kind = RelKind::Project { input: inner, exprs: merged };
    }
    rel
}
