//! GROUP BY and aggregate functions: keys and arguments become columns, then the aggregate, then names over its output.

use sluice_batch::aggregate::AggregateCall;
use sluice_batch::{Datum, Error, Expr, ExprKind, Result, Span, TypeKind};
use sluice_functions::{AggregateArgs, BoundAggregate};

use super::expr::{ExprBinder, call};
use super::lineage::{WindowColumn, window_column};
use super::select::{AggregateTtl, Names, has_sets};
use super::{Binder, Env, build, unsupported, walk};
use crate::ast::{self, FunctionCall, GroupBy};
use crate::relation::{ColumnDef, Rel, RelKind, WindowKeys, WindowSpec};

/// The aggregate calls in expressions, each once, also inside of OVER.
pub(super) fn calls<'e>(exprs: &[&'e ast::Expr]) -> Vec<&'e FunctionCall> {
    let mut out: Vec<&FunctionCall> = Vec::new();
    for e in exprs {
        walk::walk(e, &mut |e| match walk::as_call(e) {
            Some(c) if c.over.is_none() && sluice_functions::is_aggregate(c.name.object()) => {
                if !out.iter().any(|o| std::ptr::eq(*o, c)) {
                    out.push(c);
                }
                false
            }
            _ => true,
        });
    }
    out
}

/// A typed aggregate call before its arguments have positions.
pub(super) struct Bound {
    pub aggregate: BoundAggregate,
    pub filter: Option<Expr>,
    pub distinct: bool,
}

/// Types an aggregate call. `may_be_empty`: over no rows at all the result is NULL.
pub(super) fn bind_call(binder: &mut ExprBinder<'_, '_>, f: &FunctionCall, may_be_empty: bool) -> Result<Bound> {
    let name = f.name.object();
    if !f.order_by.is_empty() {
        return Err(unsupported(format!("ORDER BY or WITHIN GROUP in {name}"), f.span));
    }
    if f.ignore_nulls.is_some() {
        return Err(unsupported(format!("IGNORE NULLS or RESPECT NULLS in {name}"), f.span));
    }
    for e in walk::args(f).chain(f.filter.iter()) {
        if let Some(inner) = calls(&[e]).first() {
            return Err(Error::plan("Aggregate expressions cannot be nested").at(inner.span));
        }
    }
    let filter = f.filter.as_ref().map(|e| binder.condition(e, "FILTER")).transpose()?;
    let (args, _) = binder.arguments(f)?;
    if f.star && !args.is_empty() {
        return Err(Error::plan(format!("{name} takes * or arguments, not both")).at(f.span));
    }
    let json = binder.json(&f.json)?;
    let mut aggregate =
        sluice_functions::bind_aggregate(AggregateArgs { name, args: &args, distinct: f.distinct, json: &json, span: f.span })?;
    // Calcite: `ReturnTypes.ARG0_NULLABLE_IF_EMPTY`.
    let never_null = ["COUNT", "APPROX_COUNT_DISTINCT", "JSON_ARRAYAGG", "JSON_OBJECTAGG", "SUM0", "$SUM0"];
    if (may_be_empty || filter.is_some()) && !never_null.contains(&name.to_uppercase().as_str()) {
        aggregate.ty.nullable = true;
    }
    Ok(Bound { aggregate, filter, distinct: f.distinct })
}

/// Finds positions for a call's arguments and filter with `place`.
pub(super) fn place(bound: Bound, name: String, place: &mut dyn FnMut(Expr) -> usize) -> AggregateCall {
    let Bound { aggregate, filter, distinct } = bound;
    AggregateCall {
        args: aggregate.args.into_iter().map(&mut *place).collect(),
        filter: filter.map(place),
        function: aggregate.function,
        distinct,
        ty: aggregate.ty,
        name,
    }
}

/// Keys and sets of a GROUP BY, over its input.
pub(super) struct Keys {
    pub exprs: Vec<Expr>,
    pub names: Vec<String>,
    /// Positions in `exprs`.
    pub sets: Vec<Vec<usize>>,
}

impl Binder<'_> {
    /// The aggregate of a SELECT; `names` then knows keys and calls.
    pub(super) fn group(
        &self,
        s: &ast::Select,
        clauses: &[&ast::Expr],
        calls: &[&FunctionCall],
        input: Rel,
        names: &mut Names<'_>,
        env: &Env,
        state_ttl: AggregateTtl,
    ) -> Result<Rel> {
        if let Some(window) = super::group_window::find(&s.group_by)? {
            return super::group_window::bind(self, window, s, clauses, calls, input, names, env);
        }
        let mut binder = ExprBinder::over(self, env, names.scope, input);
        let keys = bind_keys(&mut binder, &s.group_by)?;
        let several = keys.sets.len() > 1;
        let may_be_empty = keys.sets.iter().any(Vec::is_empty);
        let Inputs { rel, calls: placed, positions } = inputs(&mut binder, &keys, calls, may_be_empty, s.span)?;
        let window = window_keys(&rel, keys.exprs.len(), &keys.sets, s.span)?;
        let n_keys = keys.exprs.len();
        let mut columns: Vec<ColumnDef> = rel.schema.iter().take(n_keys).cloned().collect();
        for (i, c) in columns.iter_mut().enumerate() {
            c.ty.nullable |= keys.sets.iter().any(|s| !s.contains(&i));
            if window.is_none() {
                c.time = None;
            }
        }
        columns.extend(placed.iter().map(|c| build::column(c.name.clone(), c.ty.clone(), None)));
        if several {
            columns.push(build::column("grouping_id", TypeKind::BigInt.not_null(), None));
        }
        for (f, at) in calls.iter().zip(&positions) {
            names.prebound.insert(std::ptr::from_ref(*f), build::read(&columns, n_keys + at));
        }
        let before = binder.schema.clone();
        let key_columns: Vec<(Expr, Expr)> = keys.exprs.iter().enumerate().map(|(i, e)| (e.clone(), build::read(&columns, i))).collect();
        let id = several.then(|| build::read(&columns, columns.len() - 1));
        bind_grouping(self, clauses, &keys, id, names, &before, env)?;
        names.grouping = Some((before, key_columns, several));
        let kind = RelKind::Aggregate {
            input: Box::new(rel),
            keys: (0..n_keys).collect(),
            grouping_sets: keys.sets,
            calls: placed,
            window,
            state_ttl,
        };
        Ok(build::rel(kind, columns, s.span))
    }
}

/// An aggregate's input and its calls.
pub(super) struct Inputs {
    /// Keys, then arguments and filters.
    pub rel: Rel,
    /// Equal ones once.
    pub calls: Vec<AggregateCall>,
    /// Where in `calls` each call of the statement is.
    pub positions: Vec<usize>,
}

/// The aggregate's input and the calls over it.
pub(super) fn inputs(
    binder: &mut ExprBinder<'_, '_>,
    keys: &Keys,
    calls: &[&FunctionCall],
    may_be_empty: bool,
    span: Span,
) -> Result<Inputs> {
    let mut exprs = keys.exprs.clone();
    let mut placed: Vec<AggregateCall> = Vec::with_capacity(calls.len());
    let mut positions = Vec::with_capacity(calls.len());
    for (i, f) in calls.iter().enumerate() {
        let bound = bind_call(binder, f, may_be_empty)?;
        let name = format!("{}${i}", f.name.object().to_lowercase());
        let call = place(bound, name, &mut |e| build::intern(&mut exprs, e));
        positions.push(placed.iter().position(|p| same_call(p, &call)).unwrap_or(placed.len()));
        if positions.last() == Some(&placed.len()) {
            placed.push(call);
        }
    }
    let rel = binder.take_input()?;
    binder.schema = rel.schema.clone();
    let items = exprs
        .into_iter()
        .enumerate()
        .map(|(i, e)| {
            let name = keys.names.get(i).cloned().or_else(|| Some(rel.schema.get(e.as_column()?)?.name.clone()));
            (name.unwrap_or_else(|| format!("$arg{i}")), e)
        })
        .collect();
    Ok(Inputs { rel: build::project(rel, items, span), calls: placed, positions })
}

fn same_call(a: &AggregateCall, b: &AggregateCall) -> bool {
    let function = || a.function.name() == b.function.name() && format!("{:?}", a.function) == format!("{:?}", b.function);
    a.args == b.args && a.filter == b.filter && a.distinct == b.distinct && a.ty == b.ty && function()
}

/// The keys of GROUP BY and its sets (the cross product of its elements).
pub(super) fn bind_keys(binder: &mut ExprBinder<'_, '_>, group_by: &[GroupBy]) -> Result<Keys> {
    let mut keys = Keys { exprs: vec![], names: vec![], sets: vec![vec![]] };
    for element in group_by {
        let sets: Vec<Vec<usize>> = match element {
            GroupBy::Expr(e) => vec![bind_set(binder, std::slice::from_ref(e), &mut keys)?],
            GroupBy::GroupingSets(sets) => sets.iter().map(|s| bind_set(binder, s, &mut keys)).collect::<Result<_>>()?,
            GroupBy::Rollup(parts) => {
                let parts = parts.iter().map(|s| bind_set(binder, s, &mut keys)).collect::<Result<Vec<_>>>()?;
                (0..=parts.len()).rev().map(|n| parts[..n].concat()).collect()
            }
            GroupBy::Cube(parts) => {
                let parts = parts.iter().map(|s| bind_set(binder, s, &mut keys)).collect::<Result<Vec<_>>>()?;
                if parts.len() > 12 {
                    return Err(unsupported("CUBE of more than 12 columns", parts_span(group_by)));
                }
                let all = 1usize << parts.len();
                let subset = |mask: usize| {
                    let chosen = parts.iter().enumerate().filter(|(i, _)| mask & (1 << (parts.len() - 1 - i)) != 0);
                    chosen.flat_map(|(_, p)| p.clone()).collect()
                };
                (0..all).rev().map(subset).collect()
            }
        };
        keys.sets = keys.sets.iter().flat_map(|a| sets.iter().map(|b| union(a, b))).collect();
    }
    debug_assert!(has_sets(group_by) || keys.sets.len() == 1);
    Ok(keys)
}

fn union(a: &[usize], b: &[usize]) -> Vec<usize> {
    let mut out = a.to_vec();
    out.extend(b.iter().filter(|i| !a.contains(i)));
    out.sort_unstable();
    out.dedup();
    out
}

fn bind_set(binder: &mut ExprBinder<'_, '_>, set: &[ast::Expr], keys: &mut Keys) -> Result<Vec<usize>> {
    let mut out = Vec::with_capacity(set.len());
    for e in set {
        if let ast::ExprKind::Row(items) = &e.kind {
            out.extend(bind_set(binder, items, keys)?);
            continue;
        }
        if let Some(c) = calls(&[e]).first() {
            return Err(Error::plan(format!("Aggregate expression {} is illegal in GROUP BY clause", c.name)).at(c.span));
        }
        let bound = binder.bind(e)?;
        let i = build::intern(&mut keys.exprs, bound);
        if i == keys.names.len() {
            let name = match (&e.kind, keys.exprs[i].as_column()) {
                (_, Some(c)) => binder.schema.get(c).map(|c| c.name.clone()),
                (ast::ExprKind::Name(parts), _) => parts.last().map(|p| p.name.clone()),
                _ => None,
            };
            keys.names.push(name.unwrap_or_else(|| format!("$key{i}")));
        }
        out.push(i);
    }
    Ok(out)
}

/// The window columns among the keys, if both bounds are there in every set.
fn window_keys(input: &Rel, keys: usize, sets: &[Vec<usize>], span: Span) -> Result<Option<WindowKeys>> {
    let mut found = WindowKeys::default();
    let mut spec = None;
    for key in 0..keys {
        let Some((column, window)) = window_column(input, key) else { continue };
        if !sets.iter().all(|s| s.contains(&key)) {
            continue;
        }
        match column {
            WindowColumn::Start => found.start = Some(key),
            WindowColumn::End => found.end = Some(key),
            WindowColumn::Time => found.time = Some(key),
        }
        spec = Some(window);
    }
    if found.start.is_none() || found.end.is_none() {
        return Ok(None);
    }
    match spec {
        Some(WindowSpec::Hop { slide, size, .. }) if size % slide != 0 => Err(Error::plan(format!(
            "HOP table function based aggregate requires size must be an integral multiple of slide, but got size {size} ms and slide {slide} ms"
        ))
        .at(span)),
        Some(WindowSpec::Cumulate { step, max, .. }) if max % step != 0 => Err(Error::plan(format!(
            "CUMULATE table function based aggregate requires maxSize must be an integral multiple of step, but got maxSize {max} ms and step {step} ms"
        ))
        .at(span)),
        _ => Ok(Some(found)),
    }
}

/// GROUPING(a, …), GROUPING_ID(a, …) and GROUP_ID() as constants per set.
fn bind_grouping(
    binder: &Binder<'_>,
    clauses: &[&ast::Expr],
    keys: &Keys,
    id: Option<Expr>,
    names: &mut Names<'_>,
    schema: &crate::relation::Schema,
    env: &Env,
) -> Result<()> {
    let mut found: Vec<&FunctionCall> = Vec::new();
    for e in clauses {
        walk::walk(e, &mut |e| {
            if let Some(c) = walk::as_call(e)
                && matches!(c.name.object().to_uppercase().as_str(), "GROUPING" | "GROUPING_ID" | "GROUP_ID")
            {
                found.push(c);
            }
            true
        });
    }
    for f in found {
        let mut positions = Vec::new();
        for e in walk::args(f) {
            let bound = ExprBinder::new(binder, env, names.scope, schema.clone()).bind(e)?;
            let position = keys.exprs.iter().position(|k| build::same(k, &bound));
            positions.push(
                position.ok_or_else(|| Error::plan(format!("Argument to {} operator must be a grouped expression", f.name)).at(e.span))?,
            );
        }
        let is_group_id = f.name.object().eq_ignore_ascii_case("GROUP_ID");
        let value = |index: usize, set: &Vec<usize>| {
            if is_group_id {
                return keys.sets[..index].iter().filter(|s| *s == set).count() as i64;
            }
            positions.iter().fold(0i64, |bits, p| bits << 1 | i64::from(!set.contains(p)))
        };
        let values: Vec<i64> = keys.sets.iter().enumerate().map(|(i, s)| value(i, s)).collect();
        names.prebound.insert(std::ptr::from_ref(f), per_set(&values, id.as_ref(), f.span)?);
    }
    Ok(())
}

/// The value of the set that made the row.
fn per_set(values: &[i64], id: Option<&Expr>, span: Span) -> Result<Expr> {
    let ty = TypeKind::BigInt.not_null();
    let literal = |v: i64| Expr::literal(Datum::BigInt(v), ty.clone());
    let (Some(id), Some((last, rest))) = (id, values.split_last()) else {
        return Ok(literal(values.first().copied().unwrap_or(0)));
    };
    let branches = rest
        .iter()
        .enumerate()
        .map(|(i, v)| Ok((call("=", vec![id.clone(), literal(i as i64)], span)?, literal(*v))))
        .collect::<Result<Vec<_>>>()?;
    Ok(Expr { kind: ExprKind::Case { branches, otherwise: Box::new(literal(*last)) }, ty })
}

fn parts_span(group_by: &[GroupBy]) -> Span {
    match group_by.first() {
        Some(GroupBy::Expr(e)) => e.span,
        Some(GroupBy::GroupingSets(s) | GroupBy::Rollup(s) | GroupBy::Cube(s)) => {
            s.first().and_then(|s| s.first()).map_or(Span::NONE, |e| e.span)
        }
        None => Span::NONE,
    }
}
