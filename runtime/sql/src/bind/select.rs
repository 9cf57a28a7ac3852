//! SELECT: FROM, WHERE, GROUP BY, HAVING, windows, the list, QUALIFY, DISTINCT.

use std::collections::HashMap;

use sluice_batch::{Error, Expr, Millis, Result, Span, TypeKind};

use super::expr::{ExprBinder, Grouped};
use super::from::{FromContext, select_hints, ttl_of};
use super::query::{Selected, ordinal, sort_key, unique_name};
use super::scope::{Bound, Scope};
use super::{Binder, Env, aggregate, build, lineage, over, pushdown, table, walk};
use crate::ast::{self, FunctionCall, GroupBy, OrderBy, SelectItem};
use crate::relation::{Rel, RelKind, Schema};

/// Names in the clauses behind GROUP BY.
pub(super) struct Names<'s> {
    pub scope: &'s Scope,
    pub prebound: HashMap<*const FunctionCall, Expr>,
    /// The aggregate's input and keys.
    pub grouping: Option<(Schema, Vec<(Expr, Expr)>, bool)>,
}

impl Names<'_> {
    pub fn binder<'b, 'a>(&'b self, binder: &'b Binder<'a>, env: &'b Env, input: Rel) -> ExprBinder<'b, 'a> {
        let mut out = ExprBinder::over(binder, env, self.scope, input);
        out.prebound.clone_from(&self.prebound);
        out.grouped = self.grouping.as_ref().map(|(schema, keys, several_sets)| Grouped {
            scope: self.scope,
            schema: schema.clone(),
            keys: keys.clone(),
            several_sets: *several_sets,
        });
        out
    }
}

struct Item {
    name: String,
    expr: Expr,
    /// `CAST(ts AS …)` is no time attribute even where the cast does nothing.
    timeless: bool,
}

impl Binder<'_> {
    pub(super) fn select(&self, s: &ast::Select, order_by: &[OrderBy], env: &Env, null_allowed: bool) -> Result<Selected> {
        let ttl = select_hints(&s.hints)?;
        let cx = FromContext { env, ttl: &ttl };
        let from = self.from(&s.from, cx)?.unwrap_or_else(|| Bound { rel: table::one_row(s.span), scope: Scope::default() });
        let state_ttl = ttl_of(&from, &ttl);
        let Bound { rel, scope } = from;
        let rel = self.filter(rel, &scope, s.filter.as_ref(), env)?;

        let clauses = expressions(s, order_by);
        let calls = aggregate::calls(&clauses);
        let mut names = Names { scope: &scope, prebound: HashMap::new(), grouping: None };
        let mut rel = rel;
        if !s.group_by.is_empty() || !calls.is_empty() || s.having.is_some() {
            rel = self.group(s, &clauses, &calls, rel, &mut names, env, state_ttl)?;
        }
        if let Some(having) = &s.having {
            rel = self.filter_by(rel, &names, having, "HAVING", env)?;
        }
        rel = over::bind(self, s, &clauses, rel, &mut names, env)?;
        if let Some(qualify) = &s.qualify {
            rel = self.filter_by(rel, &names, qualify, "QUALIFY", env)?;
        }
        self.list(s, order_by, rel, &names, env, null_allowed)
    }

    /// WHERE: plain conditions first, then semi and anti joins.
    fn filter(&self, mut rel: Rel, scope: &Scope, filter: Option<&ast::Expr>, env: &Env) -> Result<Rel> {
        let Some(filter) = filter else { return Ok(rel) };
        let all: Vec<&ast::Expr> = match &filter.kind {
            ast::ExprKind::And(operands) => operands.iter().collect(),
            _ => vec![filter],
        };
        no_aggregates(filter, "WHERE")?;
        let (joins, plain): (Vec<&ast::Expr>, Vec<&ast::Expr>) = all.into_iter().partition(|e| is_subquery_condition(e));
        let mut binder = ExprBinder::over(self, env, scope, rel);
        let mut conjuncts = Vec::new();
        for e in plain {
            conjuncts.extend(build::conjuncts(binder.condition(e, "WHERE")?));
        }
        rel = binder.take_input()?;
        conjuncts.retain(|c| !build::is_true(c));
        rel = pushdown::filter(rel, conjuncts, filter.span);
        for e in joins {
            rel = match self.semi_join(rel, scope, env, e)? {
                Ok(joined) => joined,
                Err(rel) => rel,
            };
        }
        Ok(rel)
    }

    fn filter_by(&self, rel: Rel, names: &Names<'_>, e: &ast::Expr, clause: &str, env: &Env) -> Result<Rel> {
        let mut binder = names.binder(self, env, rel);
        let predicate = binder.condition(e, clause)?;
        let rel = binder.take_input()?;
        Ok(build::filter(rel, build::conjuncts(predicate), e.span))
    }

    /// The select list, hidden columns for ORDER BY, DISTINCT.
    fn list(&self, s: &ast::Select, order_by: &[OrderBy], rel: Rel, names: &Names<'_>, env: &Env, null_allowed: bool) -> Result<Selected> {
        let mut binder = names.binder(self, env, rel);
        let mut items = self.items(s, &mut binder, names, null_allowed)?;
        let width = items.len();
        let mut keys = Vec::with_capacity(order_by.len());
        for o in order_by {
            let column = match order_column(&o.expr, &items[..width])? {
                Some(c) => c,
                None => {
                    let e = binder.bind(&o.expr)?;
                    items.iter().position(|i| build::same(&i.expr, &e)).unwrap_or_else(|| {
                        items.push(Item { name: format!("$sort{}", items.len()), expr: e, timeless: false });
                        items.len() - 1
                    })
                }
            };
            if s.distinct && column >= width {
                return Err(Error::plan("ORDER BY with SELECT DISTINCT must use columns of the select list").at(o.expr.span));
            }
            keys.push(sort_key(o, column));
        }
        let rel = project(binder.take_input()?, items, s.span);
        let rel = if s.distinct { distinct(rel, s.span) } else { rel };
        Ok(Selected { rel, width, keys })
    }

    fn items(&self, s: &ast::Select, binder: &mut ExprBinder<'_, '_>, names: &Names<'_>, null_allowed: bool) -> Result<Vec<Item>> {
        let mut items: Vec<Item> = Vec::with_capacity(s.items.len());
        for item in &s.items {
            match item {
                SelectItem::Wildcard { qualifier, span } => {
                    let schema = names.grouping.as_ref().map_or_else(|| binder.schema.clone(), |(schema, ..)| schema.clone());
                    for (name, e) in names.scope.star(qualifier, &schema, *span)? {
                        let taken: Vec<String> = items.iter().map(|i| i.name.clone()).collect();
                        let expr = match &names.grouping {
                            None => e,
                            Some((_, keys, _)) => keys
                                .iter()
                                .find(|(k, _)| build::same(k, &e))
                                .map(|(_, c)| c.clone())
                                .ok_or_else(|| Error::plan(format!("Expression '{name}' is not being grouped")).at(*span))?,
                        };
                        items.push(Item { name: unique_name(&name, &taken), expr, timeless: false });
                    }
                }
                SelectItem::Expr { expr, alias } => {
                    let bound = binder.bind(expr)?;
                    if bound.ty.kind == TypeKind::Null && !null_allowed {
                        return Err(Error::plan("Illegal use of 'NULL'").at(expr.span).hint("say its type: CAST(NULL AS …)"));
                    }
                    let name = alias.as_ref().map(|a| a.name.clone()).unwrap_or_else(|| derived_name(expr, items.len()));
                    items.push(Item { name, expr: bound, timeless: matches!(expr.kind, ast::ExprKind::Cast { .. }) });
                }
            }
        }
        Ok(items)
    }
}

fn derived_name(e: &ast::Expr, position: usize) -> String {
    match &e.kind {
        ast::ExprKind::Name(parts) => parts.last().map(|p| p.name.clone()).unwrap_or_default(),
        _ => format!("EXPR${position}"),
    }
}

fn project(input: Rel, items: Vec<Item>, span: Span) -> Rel {
    // `SELECT *` over what has just these columns in this order is the input itself.
    let same = items.len() == input.schema.len()
        && items
            .iter()
            .enumerate()
            .all(|(i, item)| item.expr.as_column() == Some(i) && item.name == input.schema[i].name && !item.timeless);
    if same {
        return input;
    }
    let timeless: Vec<bool> = items.iter().map(|i| i.timeless).collect();
    let mut rel = build::project(input, items.into_iter().map(|i| (i.name, i.expr)).collect(), span);
    let mut columns = rel.schema.as_ref().clone();
    for (c, _) in columns.iter_mut().zip(timeless).filter(|(_, t)| *t) {
        c.time = None;
    }
    rel.schema = super::expr::schema(columns);
    rel
}

/// Distinct rows; time attributes become plain timestamps.
fn distinct(input: Rel, span: Span) -> Rel {
    let mut columns = input.schema.as_ref().clone();
    let windowed = |i: usize| lineage::window_column(&input, i).is_some();
    for (i, c) in columns.iter_mut().enumerate() {
        if !windowed(i) {
            c.time = None;
        }
    }
    build::rel(RelKind::Distinct { input: Box::new(input) }, columns, span)
}

/// An ordinal, or the alias of an output column.
fn order_column(e: &ast::Expr, items: &[Item]) -> Result<Option<usize>> {
    if let ast::ExprKind::Name(parts) = &e.kind
        && let [name] = parts.as_slice()
        && let Some(i) = items.iter().position(|i| i.name == name.name)
    {
        return Ok(Some(i));
    }
    ordinal(e, items.len())
}

fn is_subquery_condition(e: &ast::Expr) -> bool {
    match &e.kind {
        ast::ExprKind::Exists { .. } | ast::ExprKind::InSubquery { .. } => true,
        ast::ExprKind::Unary { op: ast::UnaryOp::Not, expr } => is_subquery_condition(expr),
        _ => false,
    }
}

/// Every expression behind WHERE.
fn expressions<'s>(s: &'s ast::Select, order_by: &'s [OrderBy]) -> Vec<&'s ast::Expr> {
    let items = s.items.iter().filter_map(|i| match i {
        SelectItem::Expr { expr, .. } => Some(expr),
        SelectItem::Wildcard { .. } => None,
    });
    items
        .chain(s.having.iter())
        .chain(s.qualify.iter())
        .chain(order_by.iter().map(|o| &o.expr))
        .chain(s.windows.iter().flat_map(|(_, w)| walk::window_children(w)))
        .collect()
}

fn no_aggregates(e: &ast::Expr, clause: &str) -> Result<()> {
    match aggregate::calls(&[e]).first() {
        Some(call) => Err(Error::plan(format!("Aggregate expression {} is illegal in {clause} clause", call.name)).at(call.span)),
        None => Ok(()),
    }
}

/// A TTL hint for an aggregate.
pub(super) type AggregateTtl = Option<Millis>;

/// Whether GROUP BY has several sets.
pub(super) fn has_sets(group_by: &[GroupBy]) -> bool {
    group_by.iter().any(|g| !matches!(g, GroupBy::Expr(_)))
}
