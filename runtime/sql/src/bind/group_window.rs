//! The old group windows: `GROUP BY TUMBLE(ts, INTERVAL …)` with TUMBLE_START and its kin.

use sluice_batch::{Datum, Error, Expr, Millis, Result, TypeKind};

use super::aggregate::{Inputs, Keys, bind_keys, inputs};
use super::expr::ExprBinder;
use super::select::Names;
use super::{Binder, Env, build, constant, unsupported, walk};
use crate::ast::{self, FunctionCall, GroupBy};
use crate::relation::{Rel, RelKind, Schema, TimeAttribute, WindowProperty, WindowSpec};

/// The group window among the elements of GROUP BY.
pub(super) fn find(group_by: &[GroupBy]) -> Result<Option<&FunctionCall>> {
    let mut found = None;
    for element in group_by {
        let GroupBy::Expr(e) = element else { continue };
        let Some(call) = walk::as_call(e).filter(|c| matches!(upper(c).as_str(), "TUMBLE" | "HOP" | "SESSION")) else { continue };
        if found.is_some() {
            return Err(unsupported("more than one group window in GROUP BY", call.span));
        }
        found = Some(call);
    }
    Ok(found)
}

fn upper(call: &FunctionCall) -> String {
    call.name.object().to_uppercase()
}

/// The time column and the window of a call `TUMBLE(ts, size)`, `HOP(ts, slide, size)`, `SESSION(ts, gap)`.
fn window(binder: &mut ExprBinder<'_, '_>, call: &FunctionCall, name: &str) -> Result<(usize, WindowSpec)> {
    let mut args = walk::args(call);
    let time = args.next().ok_or_else(|| Error::plan(format!("{name} needs a time attribute and intervals")).at(call.span))?;
    let column = binder.bind(time)?.as_column().filter(|i| binder.schema.get(*i).is_some_and(|c| c.time.is_some()));
    let column = column.ok_or_else(|| Error::plan("Window aggregate can only be defined over a time attribute column.").at(time.span))?;
    let mut intervals: Vec<Millis> = Vec::new();
    for e in args {
        let bound = binder.bind(e)?;
        match constant(&bound) {
            Some(Datum::IntervalDayTime(millis)) if millis > 0 => intervals.push(millis),
            _ => return Err(Error::plan("Only constant window intervals with millisecond resolution are supported.").at(e.span)),
        }
    }
    let spec = match (name, intervals.as_slice()) {
        ("TUMBLE", [size]) => WindowSpec::Tumble { size: *size, offset: 0 },
        ("HOP", [slide, size]) => WindowSpec::Hop { slide: *slide, size: *size, offset: 0 },
        ("SESSION", [gap]) => WindowSpec::Session { gap: *gap },
        _ => return Err(unsupported(format!("{name} with {} intervals", intervals.len()), call.span)),
    };
    Ok((column, spec))
}

pub(super) fn bind(
    binder: &Binder<'_>,
    call: &FunctionCall,
    s: &ast::Select,
    clauses: &[&ast::Expr],
    calls: &[&FunctionCall],
    input: Rel,
    names: &mut Names<'_>,
    env: &Env,
) -> Result<Rel> {
    let mut exprs = ExprBinder::over(binder, env, names.scope, input);
    let (time, spec) = window(&mut exprs, call, &upper(call))?;
    let others: Vec<GroupBy> = s.group_by.iter().filter(|g| !is_call(g, call)).cloned().collect();
    let keys = bind_keys(&mut exprs, &others)?;
    if keys.sets.len() > 1 {
        return Err(
            unsupported("GROUPING SETS with a group window", call.span).hint("use the window table function: TABLE(TUMBLE(TABLE …))")
        );
    }
    let n_keys = keys.exprs.len();
    let key_exprs = keys.exprs.clone();
    let attribute = exprs.schema[time].time;
    let time_expr = build::read(&exprs.schema, time);
    // The time column goes along as one more column behind the keys.
    let with_time = Keys {
        exprs: keys.exprs.into_iter().chain([time_expr.clone()]).collect(),
        names: keys.names.into_iter().chain([exprs.schema[time].name.clone()]).collect(),
        sets: keys.sets,
    };
    let Inputs { rel, calls: placed, positions } = inputs(&mut exprs, &with_time, calls, false, s.span)?;
    let mut columns: Vec<_> = rel.schema.iter().take(n_keys).cloned().collect();
    columns.iter_mut().for_each(|c| c.time = None);
    columns.extend(placed.iter().map(|c| build::column(c.name.clone(), c.ty.clone(), None)));
    for (f, at) in calls.iter().zip(&positions) {
        names.prebound.insert(std::ptr::from_ref(*f), build::read(&columns, n_keys + at));
    }
    let mut properties = Vec::new();
    for (f, property) in auxiliary(clauses) {
        check(binder, f, call, (time, &spec), names, &exprs.schema, env)?;
        let at = properties.iter().position(|p| *p == property).unwrap_or_else(|| {
            properties.push(property);
            let (name, ty, time) = property_column(property, &time_expr);
            columns.push(build::column(name, ty, time));
            properties.len() - 1
        });
        names.prebound.insert(std::ptr::from_ref(f), build::read(&columns, n_keys + placed.len() + at));
        if property == WindowProperty::Rowtime && attribute != Some(TimeAttribute::Rowtime) {
            return Err(Error::plan(format!("{} is not allowed for a window over processing time", f.name)).at(f.span));
        }
    }
    let key_columns = key_exprs.into_iter().enumerate().map(|(i, e)| (e, build::read(&columns, i))).collect();
    names.grouping = Some((exprs.schema.clone(), key_columns, false));
    let kind =
        RelKind::GroupWindow { input: Box::new(rel), time: n_keys, window: spec, keys: (0..n_keys).collect(), calls: placed, properties };
    Ok(build::rel(kind, columns, s.span))
}

fn is_call(g: &GroupBy, call: &FunctionCall) -> bool {
    matches!(g, GroupBy::Expr(e) if walk::as_call(e).is_some_and(|c| std::ptr::eq(c, call)))
}

/// TUMBLE_START(…) and the like, wherever they stand.
fn auxiliary<'e>(clauses: &[&'e ast::Expr]) -> Vec<(&'e FunctionCall, WindowProperty)> {
    let mut out = Vec::new();
    for e in clauses {
        walk::walk(e, &mut |e| {
            if let Some(c) = walk::as_call(e)
                && let Some(p) = property(&upper(c))
            {
                out.push((c, p));
            }
            true
        });
    }
    out
}

fn property(name: &str) -> Option<WindowProperty> {
    let (window, property) = name.split_once('_')?;
    if !matches!(window, "TUMBLE" | "HOP" | "SESSION") {
        return None;
    }
    Some(match property {
        "START" => WindowProperty::Start,
        "END" => WindowProperty::End,
        "ROWTIME" => WindowProperty::Rowtime,
        "PROCTIME" => WindowProperty::Proctime,
        _ => return None,
    })
}

fn property_column(property: WindowProperty, time: &Expr) -> (&'static str, sluice_batch::SqlType, Option<TimeAttribute>) {
    match property {
        WindowProperty::Start => ("w$start", TypeKind::Timestamp(3).not_null(), None),
        WindowProperty::End => ("w$end", TypeKind::Timestamp(3).not_null(), None),
        WindowProperty::Rowtime => ("w$rowtime", time.ty.as_not_null(), Some(TimeAttribute::Rowtime)),
        WindowProperty::Proctime => ("w$proctime", TypeKind::TimestampLtz(3).not_null(), Some(TimeAttribute::Proctime)),
    }
}

/// An auxiliary function must repeat the window of GROUP BY.
fn check(
    binder: &Binder<'_>,
    f: &FunctionCall,
    call: &FunctionCall,
    (time, spec): (usize, &WindowSpec),
    names: &Names<'_>,
    schema: &Schema,
    env: &Env,
) -> Result<()> {
    let group = upper(call);
    let same_function = upper(f).starts_with(&format!("{group}_"));
    let mut exprs = ExprBinder::new(binder, env, names.scope, schema.clone());
    if same_function && window(&mut exprs, f, &group).is_ok_and(|(t, s)| t == time && s == *spec) {
        return Ok(());
    }
    Err(Error::plan(format!(
        "Call to auxiliary group function '{}' must have matching call to group function '{group}' in GROUP BY clause",
        f.name
    ))
    .at(f.span))
}
