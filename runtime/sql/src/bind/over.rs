//! Window functions: `f(…) OVER (…)`.

use sluice_batch::{Datum, Error, Expr, Result, TypeKind};

use super::aggregate::{bind_call, place};
use super::expr::{ExprBinder, coerce};
use super::query::sort_key;
use super::select::Names;
use super::{Binder, Env, build, constant, unsupported, walk};
use crate::ast::{self, FrameBound, FunctionCall, Over, WindowSpec};
use crate::relation::{Bound, Frame, OverCall, Rel, RelKind, SortKey};

/// Calls over one window.
struct Group {
    partition_by: Vec<usize>,
    order_by: Vec<SortKey>,
    frame: Frame,
    /// Ranks do not look at the frame and stand alone, so that the planner sees a Top-N.
    rank: bool,
    calls: Vec<(*const FunctionCall, OverCall)>,
}

/// What all window functions of a SELECT must have in common (Flink: `StreamExecOverAggregate`).
#[derive(Clone)]
struct Window {
    partition_by: Vec<usize>,
    order_by: Vec<SortKey>,
    frame: Frame,
}

impl Window {
    /// ROW_NUMBER's frame is one of rows whatever is written (Calcite: `SqlToRelConverter.convertOver`).
    fn of(f: &FunctionCall, partition_by: &[usize], order_by: &[SortKey], frame: &Frame) -> Self {
        let rows = f.name.object().eq_ignore_ascii_case("ROW_NUMBER");
        let frame = if rows { Frame { rows, start: Bound::Unbounded, end: Bound::Preceding(0) } } else { frame.clone() };
        Self { partition_by: partition_by.to_vec(), order_by: order_by.to_vec(), frame }
    }

    fn same(&self, other: &Self) -> bool {
        self.partition_by == other.partition_by && self.order_by == other.order_by && same_frame(&self.frame, &other.frame)
    }
}

/// Adds all window functions of a SELECT to its relation; `names` then knows their columns.
pub(super) fn bind(
    binder: &Binder<'_>,
    s: &ast::Select,
    clauses: &[&ast::Expr],
    rel: Rel,
    names: &mut Names<'_>,
    env: &Env,
) -> Result<Rel> {
    let calls = calls(clauses);
    if calls.is_empty() {
        return Ok(rel);
    }
    let width = rel.schema.len();
    let mut extra: Vec<Expr> = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut exprs = names.binder(binder, env, rel);
    let mut window: Option<Window> = None;
    for f in calls {
        let spec = resolve(f, s)?;
        let mut at = |e: Expr| e.as_column().unwrap_or_else(|| width + build::intern(&mut extra, e));
        let partition_by = exprs.bind_all(spec.partition_by)?.into_iter().map(&mut at).collect::<Vec<_>>();
        let mut order_by = Vec::with_capacity(spec.order_by.len());
        for o in spec.order_by {
            let e = exprs.bind(&o.expr)?;
            order_by.push(sort_key(o, at(e)));
        }
        let explicit = spec.frame.map(|f| frame(&mut exprs, f)).transpose()?;
        let frame = explicit.clone().unwrap_or_else(|| default_frame(&order_by));
        let (call, uses_frame, rank) = over_call(&mut exprs, f, &frame, !order_by.is_empty(), &mut at)?;
        if rank && explicit.is_some() {
            return Err(Error::plan(format!("ROW/RANGE not allowed with {} function", f.name)).at(f.span));
        }
        let of_call = Window::of(f, &partition_by, &order_by, &frame);
        if !window.get_or_insert_with(|| of_call.clone()).same(&of_call) {
            return Err(unsupported("a SELECT with window functions over different windows", f.span)
                .hint("compute one of them in a subquery: partition, order and frame must be the same"));
        }
        let fits = |g: &Group| {
            g.partition_by == partition_by
                && g.order_by == order_by
                && g.rank == rank
                && (!rank || g.calls.iter().all(|(_, c)| std::mem::discriminant(c) == std::mem::discriminant(&call)))
                && (rank || !uses_frame || same_frame(&g.frame, &frame))
        };
        let position = groups.iter().position(fits);
        let call = (std::ptr::from_ref(f), call);
        match position.and_then(|i| groups.get_mut(i)) {
            Some(g) => g.calls.push(call),
            None => groups.push(Group { partition_by, order_by, frame, rank, calls: vec![call] }),
        }
    }
    let rel = exprs.take_input()?;
    let extra = extra.into_iter().enumerate().map(|(i, e)| (format!("$over{i}"), e)).collect();
    let mut rel = build::append(rel, extra, s.span);
    for group in groups {
        let mut columns = rel.schema.as_ref().clone();
        let mut calls = Vec::with_capacity(group.calls.len());
        for (pointer, call) in group.calls {
            let (name, ty) = output(&call);
            columns.push(build::column(name, ty, None));
            names.prebound.insert(pointer, build::read(&columns, columns.len() - 1));
            calls.push(call);
        }
        let Group { partition_by, order_by, frame, .. } = group;
        rel = build::rel(RelKind::Over { input: Box::new(rel), partition_by, order_by, frame, calls }, columns, s.span);
    }
    Ok(rel)
}

fn calls<'e>(clauses: &[&'e ast::Expr]) -> Vec<&'e FunctionCall> {
    let mut out: Vec<&FunctionCall> = Vec::new();
    for e in clauses {
        walk::walk(e, &mut |e| match walk::as_call(e) {
            Some(c) if c.over.is_some() => {
                out.push(c);
                false
            }
            _ => true,
        });
    }
    out
}

/// A call's window in the statement's own expressions: aggregates in them are known by their address.
#[derive(Default)]
struct Resolved<'s> {
    partition_by: &'s [ast::Expr],
    order_by: &'s [ast::OrderBy],
    frame: Option<&'s ast::Frame>,
}

/// The call's window, with what it takes from the WINDOW clause.
fn resolve<'s>(f: &'s FunctionCall, s: &'s ast::Select) -> Result<Resolved<'s>> {
    let named = |name: &ast::Ident| -> Result<&'s WindowSpec> {
        let found = s.windows.iter().find(|(n, _)| n.name == name.name).map(|(_, w)| w);
        found.ok_or_else(|| {
            let error = Error::plan(format!("Window '{}' not found", name.name)).at(name.span);
            super::did_you_mean(error, &name.name, s.windows.iter().map(|(n, _)| n.name.as_str()))
        })
    };
    let spec = match &f.over {
        Some(Over::Named(name)) => named(name)?,
        Some(Over::Spec(spec)) => spec,
        None => return Ok(Resolved::default()),
    };
    let mut out = Resolved { partition_by: &spec.partition_by, order_by: &spec.order_by, frame: spec.frame.as_ref() };
    let mut next = spec.base.as_ref();
    // A base may have a base itself; a chain longer than the clause is a cycle.
    for _ in 0..=s.windows.len() {
        let Some(base_name) = next else { return Ok(out) };
        let base = named(base_name)?;
        if !out.partition_by.is_empty() || (!base.order_by.is_empty() && !out.order_by.is_empty()) {
            return Err(Error::plan(format!("Cannot override the clauses of window '{}'", base_name.name)).at(base_name.span));
        }
        out.partition_by = &base.partition_by;
        if out.order_by.is_empty() {
            out.order_by = &base.order_by;
        }
        out.frame = out.frame.or(base.frame.as_ref());
        next = base.base.as_ref();
    }
    Err(Error::plan("window definitions refer to each other in a cycle").at(f.span))
}

/// With ORDER BY up to the current row and its peers, else the whole partition.
fn default_frame(order_by: &[SortKey]) -> Frame {
    let end = if order_by.is_empty() { Bound::Unbounded } else { Bound::Preceding(0) };
    Frame { rows: false, start: Bound::Unbounded, end }
}

fn same_frame(a: &Frame, b: &Frame) -> bool {
    a.rows == b.rows && a.start == b.start && a.end == b.end
}

fn frame(binder: &mut ExprBinder<'_, '_>, f: &ast::Frame) -> Result<Frame> {
    let mut bound = |b: &FrameBound, start: bool| -> Result<Bound> {
        Ok(match b {
            FrameBound::UnboundedPreceding if start => Bound::Unbounded,
            FrameBound::UnboundedFollowing if !start => Bound::Unbounded,
            FrameBound::UnboundedPreceding => {
                return Err(Error::plan("UNBOUNDED PRECEDING cannot be specified for the upper frame boundary"));
            }
            FrameBound::UnboundedFollowing => {
                return Err(Error::plan("UNBOUNDED FOLLOWING cannot be specified for the lower frame boundary"));
            }
            FrameBound::CurrentRow => Bound::Preceding(0),
            FrameBound::Preceding(e) => Bound::Preceding(distance(binder, e, f.rows)?),
            FrameBound::Following(e) => Bound::Following(distance(binder, e, f.rows)?),
        })
    };
    let (start, end) = (bound(&f.start, true)?, bound(&f.end, false)?);
    Ok(Frame { rows: f.rows, start, end })
}

fn distance(binder: &mut ExprBinder<'_, '_>, e: &ast::Expr, rows: bool) -> Result<i64> {
    let bound = binder.bind(e)?;
    let value = match (constant(&bound), rows) {
        (Some(Datum::IntervalDayTime(millis)), false) => Some(millis),
        (Some(d), true) => d.as_i64(),
        _ => None,
    };
    value.filter(|v| *v >= 0).ok_or_else(|| {
        let wanted = if rows { "a constant number of rows" } else { "a constant INTERVAL of days to seconds" };
        Error::plan(format!("the frame needs {wanted}")).at(e.span)
    })
}

const WINDOW_FUNCTIONS: &[&str] = &["ROW_NUMBER", "RANK", "DENSE_RANK", "PERCENT_RANK", "CUME_DIST", "NTILE", "LAG", "LEAD"];

/// Whether the name is of a function that only works with OVER.
pub(super) fn is_window_function(name: &str) -> bool {
    WINDOW_FUNCTIONS.contains(&name.to_uppercase().as_str())
}

/// The call, whether it looks at the frame, and whether it is a rank.
fn over_call(
    binder: &mut ExprBinder<'_, '_>,
    f: &FunctionCall,
    frame: &Frame,
    ordered: bool,
    at: &mut dyn FnMut(Expr) -> usize,
) -> Result<(OverCall, bool, bool)> {
    let upper = f.name.object().to_uppercase();
    let name = upper.to_lowercase();
    let plain = !f.distinct && f.filter.is_none() && f.order_by.is_empty() && !f.star;
    let require = |ok: bool, what: &str| if ok { Ok(()) } else { Err(Error::plan(format!("{upper} {what}")).at(f.span)) };
    if is_window_function(&upper) {
        require(plain, "takes no DISTINCT, FILTER or ORDER BY")?;
        require(ordered || upper == "ROW_NUMBER", "requires an ORDER BY clause in its window specification")?;
        if f.ignore_nulls == Some(true) {
            return Err(unsupported(format!("IGNORE NULLS in {upper}"), f.span));
        }
    }
    let rank = matches!(upper.as_str(), "ROW_NUMBER" | "RANK" | "DENSE_RANK" | "PERCENT_RANK" | "CUME_DIST" | "NTILE");
    if rank && upper != "NTILE" {
        require(f.args.is_empty(), "takes no arguments")?;
    }
    let call = match upper.as_str() {
        "ROW_NUMBER" => OverCall::RowNumber { name },
        "RANK" => OverCall::Rank { name },
        "DENSE_RANK" => OverCall::DenseRank { name },
        "PERCENT_RANK" => OverCall::PercentRank { name },
        "CUME_DIST" => OverCall::CumeDist { name },
        "NTILE" => {
            let (args, _) = binder.arguments(f)?;
            let buckets = args.first().and_then(constant).and_then(|d| d.as_i64()).filter(|n| *n > 0 && args.len() == 1);
            OverCall::Ntile { buckets: buckets.ok_or_else(|| Error::plan("NTILE needs one positive constant").at(f.span))?, name }
        }
        "LAG" | "LEAD" => return Ok((lag(binder, f, upper == "LEAD", name, at)?, false, false)),
        "FIRST_VALUE" | "LAST_VALUE" if plain => {
            if f.ignore_nulls.is_some() {
                return Err(unsupported(format!("IGNORE NULLS or RESPECT NULLS in {upper}"), f.span));
            }
            let (mut args, _) = binder.arguments(f)?;
            require(args.len() == 1, "needs one argument")?;
            let arg = args.remove(0);
            let ty = arg.ty.with_nullable(arg.ty.nullable || !holds_current(frame));
            let arg = at(arg);
            let call = if upper == "FIRST_VALUE" { OverCall::FirstValue { arg, name, ty } } else { OverCall::LastValue { arg, name, ty } };
            return Ok((call, true, false));
        }
        _ if sluice_functions::is_aggregate(&upper) => {
            let bound = bind_call(binder, f, !holds_current(frame))?;
            return Ok((OverCall::Aggregate(place(bound, name, at)), true, false));
        }
        _ if sluice_functions::is_scalar(&upper) => {
            return Err(Error::plan(format!("{} is not an aggregate or window function", f.name)).at(f.span));
        }
        _ => {
            let error = sluice_functions::unknown_function(f.name.object()).at(f.span);
            return Err(super::did_you_mean(error, &upper, WINDOW_FUNCTIONS.iter().copied()));
        }
    };
    Ok((call, false, rank))
}

/// Whether the frame always holds at least the current row.
fn holds_current(frame: &Frame) -> bool {
    let start = matches!(frame.start, Bound::Unbounded | Bound::Preceding(_));
    start && matches!(frame.end, Bound::Unbounded | Bound::Preceding(0) | Bound::Following(_))
}

/// LAG and LEAD: value, offset (1), default (NULL).
fn lag(binder: &mut ExprBinder<'_, '_>, f: &FunctionCall, lead: bool, name: String, at: &mut dyn FnMut(Expr) -> usize) -> Result<OverCall> {
    let (args, _) = binder.arguments(f)?;
    let mut args = args.into_iter();
    let (Some(value), offset, default, None) = (args.next(), args.next(), args.next(), args.next()) else {
        return Err(Error::plan(format!("{} needs one to three arguments", f.name)).at(f.span));
    };
    let offset = match offset {
        None => 1,
        Some(e) => constant(&e)
            .and_then(|d| d.as_i64())
            .filter(|n| *n >= 0)
            .ok_or_else(|| Error::plan(format!("the offset of {} must be a constant that is not negative", f.name)).at(f.span))?,
    };
    let default = default.filter(|d| d.ty.kind != TypeKind::Null);
    let mut ty = value.ty.as_nullable();
    let (value, default) = match default {
        None => (value, None),
        Some(d) => {
            ty = super::query::common_column_type(&[value.ty.clone(), d.ty.clone()]).ok_or_else(|| {
                Error::plan(format!("the default of {} is {}, its value {}", f.name, d.ty.kind, value.ty.kind)).at(f.span)
            })?;
            ty.nullable = value.ty.nullable || d.ty.nullable;
            (coerce(value, &ty, f.span)?, Some(coerce(d, &ty, f.span)?))
        }
    };
    Ok(OverCall::Lag { arg: at(value), offset: if lead { -offset } else { offset }, default, name, ty })
}

fn output(call: &OverCall) -> (String, sluice_batch::SqlType) {
    let rank = |name: &String| (name.clone(), TypeKind::BigInt.not_null());
    let fraction = |name: &String| (name.clone(), TypeKind::Double.not_null());
    match call {
        OverCall::Aggregate(c) => (c.name.clone(), c.ty.clone()),
        OverCall::RowNumber { name } | OverCall::Rank { name } | OverCall::DenseRank { name } | OverCall::Ntile { name, .. } => rank(name),
        OverCall::Lag { name, ty, .. } | OverCall::FirstValue { name, ty, .. } | OverCall::LastValue { name, ty, .. } => {
            (name.clone(), ty.clone())
        }
        OverCall::PercentRank { name } | OverCall::CumeDist { name } => fraction(name),
    }
}
