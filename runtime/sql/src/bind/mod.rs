//! Names, types and functions resolved: [`crate::ast`] to [`crate::relation`].
//!
//! Every operator is a function of `sluice_functions`, by these names. Symbols: `+ - * / % || = <> < <= > >=`, unary minus is `-`
//! with one argument. `IN` gets the value, then the items; `ITEM` an array or map and its index; `ARRAY`, `MAP` (keys and values
//! in turn) and `ROW` (fields `EXPR$0`, …) make collections. Predicates: `IS TRUE`, `IS FALSE`, `IS UNKNOWN`, `IS DISTINCT FROM`,
//! `LIKE` and `SIMILAR TO` (value, pattern, perhaps escape), `IS JSON VALUE|OBJECT|ARRAY|SCALAR`, `OVERLAPS` (four times).
//! `NOT` variants are [`sluice_batch::ExprKind::Not`] around them. `a BETWEEN b AND c` is `a >= b AND a <= c`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_batch::{Error, Result, Span};

use crate::ast;
use crate::catalog::Catalog;
use crate::relation::{BoundStatement, Rel, RelKind, Schema};

mod aggregate;
mod build;
mod decorrelate;
mod expr;
mod from;
mod group_window;
mod insert;
mod join;
mod lineage;
mod literal;
mod match_expr;
mod match_pattern;
mod match_recognize;
mod over;
mod pushdown;
mod query;
mod rules;
mod scope;
mod select;
mod set_operation;
mod subquery;
mod table;
mod table_function;
mod unnest;
mod walk;
mod window;

use scope::Scope;

/// Binds an INSERT against the catalog.
///
/// # Errors
/// Unknown names (with a did-you-mean), wrong types, with line and column.
pub fn bind_insert(insert: &ast::Insert, catalog: &Catalog) -> Result<BoundStatement> {
    Binder::new(catalog).insert(insert)
}

/// Binds a bare query.
///
/// # Errors
/// As [`bind_insert`].
pub fn bind_query(query: &ast::Query, catalog: &Catalog) -> Result<BoundStatement> {
    let binder = Binder::new(catalog);
    let rel = binder.query(query, &Env::default())?;
    Ok(BoundStatement::Select { query: query::unique_names(unshare(rel)) })
}

/// The columns of a declared table as a query sees them, computed columns with their types; checks the watermark, too.
///
/// # Errors
/// If a computed column or the watermark cannot be bound.
pub fn table_schema(table: &crate::catalog::Table, catalog: &Catalog) -> Result<Schema> {
    Ok(Binder::new(catalog).scan(Arc::new(table.clone()), &[], table.span)?.schema)
}

/// The columns of a view's query. Also says whether the view can be used at all.
///
/// # Errors
/// As [`bind_query`].
pub fn view_schema(view: &crate::catalog::View, catalog: &Catalog) -> Result<Schema> {
    let binder = Binder::new(catalog);
    let rel = binder.query(&view.query, &Env::default())?;
    Ok(query::named(rel, &view.columns, &view.name)?.schema)
}

/// Positions from here on are columns of the enclosing query.
const OUTER: usize = 1 << 40;

/// Ids of shared relations are unique in the process, so that statements of one job do not mix them up.
static NEXT_SHARED: AtomicUsize = AtomicUsize::new(0);

struct Binder<'a> {
    catalog: &'a Catalog,
    /// Views that were bound already.
    views: RefCell<HashMap<String, Rel>>,
    /// Views being bound, to find cycles.
    open: RefCell<Vec<String>>,
}

/// What a query sees of its surroundings.
#[derive(Clone, Default)]
struct Env {
    ctes: Rc<Vec<(String, Rel)>>,
    outer: Option<Rc<Outer>>,
}

/// The enclosing query's columns, for correlated subqueries.
struct Outer {
    scope: Scope,
    schema: Schema,
}

impl Env {
    fn inside(&self, scope: &Scope, schema: &Schema) -> Env {
        Env { ctes: self.ctes.clone(), outer: Some(Rc::new(Outer { scope: scope.clone(), schema: schema.clone() })) }
    }
}

impl<'a> Binder<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, views: RefCell::default(), open: RefCell::default() }
    }
}

/// A relation that may be used more than once.
fn share(rel: Rel) -> Rel {
    let id = NEXT_SHARED.fetch_add(1, Ordering::Relaxed);
    Rel { schema: rel.schema.clone(), span: rel.span, kind: RelKind::Shared { id, input: Arc::new(rel) } }
}

/// Takes `Shared` away from relations that are used only once.
fn unshare(mut rel: Rel) -> Rel {
    let mut uses = HashMap::new();
    count_uses(&rel, &mut uses);
    remove_single(&mut rel, &uses);
    rel
}

fn count_uses(rel: &Rel, uses: &mut HashMap<usize, usize>) {
    if let RelKind::Shared { id, .. } = &rel.kind {
        let n = uses.entry(*id).or_default();
        *n += 1;
        if *n > 1 {
            return;
        }
    }
    rel.inputs().into_iter().for_each(|i| count_uses(i, uses));
}

fn remove_single(rel: &mut Rel, uses: &HashMap<usize, usize>) {
    while let RelKind::Shared { id, input } = &mut rel.kind {
        if uses.get(id).copied().unwrap_or(0) > 1 {
            // Every use gets its own copy of the tree with the same id; what is below must look the same in each.
            remove_single(Arc::make_mut(input), uses);
            return;
        }
        *rel = Arc::unwrap_or_clone(input.clone());
    }
    rel.inputs_mut().into_iter().for_each(|i| remove_single(i, uses));
}

/// Adds the nearest candidate to an error.
fn did_you_mean<'n>(error: Error, name: &str, candidates: impl Iterator<Item = &'n str>) -> Error {
    let near = |c: &&str| strsim::damerau_levenshtein(&c.to_lowercase(), &name.to_lowercase());
    match candidates.map(|c| (near(&c), c)).min_by_key(|(d, _)| *d) {
        Some((distance, candidate)) if distance <= 2.max(name.chars().count() / 3) => error.hint(format!("did you mean '{candidate}'?")),
        _ => error,
    }
}

/// The value of a constant expression.
fn constant(expr: &sluice_batch::Expr) -> Option<sluice_batch::Datum> {
    expr.as_literal().cloned().or_else(|| sluice_functions::fold_constant(expr))
}

fn unsupported(what: impl std::fmt::Display, span: Span) -> Error {
    Error::unsupported(what).at(span)
}
