//! Window table functions: TUMBLE, HOP, CUMULATE, SESSION.

use sluice_batch::{Datum, Error, Millis, Result, TypeKind};

use super::expr::ExprBinder;
use super::from::FromContext;
use super::query::unique_name;
use super::scope::{Bound, Scope};
use super::{Binder, build, constant, did_you_mean};
use crate::ast::{self, ArgValue, FunctionCall, Ident, TableRef};
use crate::relation::{Rel, RelKind, TimeAttribute, WindowSpec};

/// The arguments in order, and how many of them must be there.
fn parameters(name: &str) -> Option<(&'static [&'static str], usize)> {
    Some(match name {
        "TUMBLE" => (&["DATA", "TIMECOL", "SIZE", "OFFSET"], 3),
        "HOP" => (&["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"], 4),
        "CUMULATE" => (&["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"], 4),
        "SESSION" => (&["DATA", "TIMECOL", "GAP"], 3),
        _ => return None,
    })
}

pub(super) fn is_window_function(name: &str) -> bool {
    parameters(&name.to_uppercase()).is_some()
}

impl Binder<'_> {
    pub(super) fn window_function(&self, call: &FunctionCall, cx: FromContext<'_>) -> Result<Bound> {
        let name = call.name.object().to_uppercase();
        let (parameters, required) = parameters(&name).ok_or_else(|| Error::plan("no window function").at(call.span))?;
        let args = assign(call, &name, parameters)?;
        if let Some(missing) = (0..required).find(|i| args[*i].is_none()) {
            return Err(Error::plan(format!("{name} lacks its argument {}", parameters[missing]))
                .at(call.span)
                .hint(format!("{name}({})", parameters.join(", "))));
        }
        let (input, partition_by) = self.table_argument(args[0], call, cx)?;
        if name != "SESSION" && !partition_by.is_empty() {
            return Err(Error::plan(format!("Unsupported partitioning: {name} takes no PARTITION BY")).at(call.span));
        }
        let time = time_column(&input, args[1], &name, call)?;
        let interval =
            |i: usize| -> Result<Option<Millis>> { args.get(i).copied().flatten().map(|a| self.interval(a, &name, call, cx)).transpose() };
        let offset = |i: usize| Ok::<_, Error>(interval(i)?.unwrap_or(0));
        let window = match name.as_str() {
            "TUMBLE" => WindowSpec::Tumble { size: positive(interval(2)?, "size", call)?, offset: offset(3)? },
            "HOP" => WindowSpec::Hop {
                slide: positive(interval(2)?, "slide", call)?,
                size: positive(interval(3)?, "size", call)?,
                offset: offset(4)?,
            },
            "CUMULATE" => WindowSpec::Cumulate {
                step: positive(interval(2)?, "step", call)?,
                max: positive(interval(3)?, "max size", call)?,
                offset: offset(4)?,
            },
            _ => WindowSpec::Session { gap: positive(interval(2)?, "gap", call)? },
        };
        Ok(window_tvf(input, time, window, partition_by, call))
    }

    /// A table argument and the positions of its PARTITION BY.
    pub(super) fn table_argument(&self, arg: Option<&ArgValue>, call: &FunctionCall, cx: FromContext<'_>) -> Result<(Rel, Vec<usize>)> {
        match arg {
            Some(ArgValue::Table { table, partition_by, order_by, span }) => {
                if !order_by.is_empty() {
                    return Err(super::unsupported("ORDER BY of a table argument", *span));
                }
                let input = self.table_ref(table, cx)?;
                let mut binder = ExprBinder::new(self, cx.env, &input.scope, input.rel.schema.clone());
                let mut keys = Vec::with_capacity(partition_by.len());
                for e in partition_by {
                    let key = binder.bind(e)?.as_column();
                    keys.push(key.ok_or_else(|| Error::plan("PARTITION BY of a table argument must name columns").at(e.span))?);
                }
                Ok((input.rel, keys))
            }
            // `TUMBLE(t, …)`: a name where a table is wanted.
            Some(ArgValue::Expr(ast::Expr { kind: ast::ExprKind::Name(parts), .. })) => {
                let name = ast::ObjectName { parts: parts.clone() };
                let table = TableRef::Table { name, hints: vec![], system_time: None, alias: None };
                Ok((self.table_ref(&table, cx)?.rel, vec![]))
            }
            _ => Err(Error::plan(format!("the first argument of {} must be a table: TABLE t", call.name)).at(call.span)),
        }
    }

    fn interval(&self, arg: &ArgValue, name: &str, call: &FunctionCall, cx: FromContext<'_>) -> Result<Millis> {
        let error = || Error::plan(format!("{name} needs constant intervals of days to seconds")).at(call.span);
        let ArgValue::Expr(e) = arg else { return Err(error()) };
        let scope = Scope::default();
        let bound = ExprBinder::new(self, cx.env, &scope, super::expr::schema(vec![])).bind(e)?;
        match constant(&bound) {
            Some(Datum::IntervalDayTime(millis)) => Ok(millis),
            _ => Err(error().at(e.span)),
        }
    }
}

/// Named arguments in the order of the parameters.
pub(super) fn assign<'c>(call: &'c FunctionCall, name: &str, parameters: &[&str]) -> Result<Vec<Option<&'c ArgValue>>> {
    let mut out: Vec<Option<&ArgValue>> = vec![None; parameters.len()];
    for (i, arg) in call.args.iter().enumerate() {
        let position = match &arg.name {
            None => i,
            Some(n) => parameters.iter().position(|p| p.eq_ignore_ascii_case(&n.name)).ok_or_else(|| {
                let error = Error::plan(format!("{name} has no argument '{}'", n.name)).at(n.span);
                did_you_mean(error, &n.name, parameters.iter().copied())
            })?,
        };
        let Some(slot) = out.get_mut(position) else {
            return Err(Error::plan(format!("{name} takes at most {} arguments", parameters.len())).at(call.span));
        };
        *slot = Some(&arg.value);
    }
    Ok(out)
}

/// The one column of a descriptor.
pub(super) fn descriptor<'c>(arg: Option<&'c ArgValue>, name: &str, call: &FunctionCall) -> Result<&'c Ident> {
    match arg {
        Some(ArgValue::Descriptor { columns, span }) => match columns.as_slice() {
            [one] => Ok(one),
            _ => Err(Error::plan(format!("{name} needs DESCRIPTOR(column) with one column")).at(*span)),
        },
        Some(ArgValue::Expr(e)) => {
            let error = Error::plan(format!("{name} needs DESCRIPTOR(column) here")).at(e.span);
            Err(match &e.kind {
                ast::ExprKind::Function(f) => did_you_mean(error, f.name.object(), std::iter::once("DESCRIPTOR")),
                _ => error,
            })
        }
        _ => Err(Error::plan(format!("{name} needs DESCRIPTOR(column)")).at(call.span)),
    }
}

pub(super) fn time_column(input: &Rel, arg: Option<&ArgValue>, name: &str, call: &FunctionCall) -> Result<usize> {
    let column = descriptor(arg, name, call)?;
    let Some(i) = input.schema.iter().position(|c| c.name == column.name) else {
        let error = Error::plan(format!("Column '{}' not found in any table", column.name)).at(column.span);
        return Err(did_you_mean(error, &column.name, input.schema.iter().map(|c| c.name.as_str())));
    };
    if input.schema[i].time.is_none() {
        return Err(Error::plan(format!(
            "The window function requires the timecol is a time attribute type, but is {}.",
            input.schema[i].ty
        ))
        .at(column.span)
        .hint("declare WATERMARK FOR it, and do not compute it in between"));
    }
    Ok(i)
}

fn positive(value: Option<Millis>, what: &str, call: &FunctionCall) -> Result<Millis> {
    value.filter(|v| *v > 0).ok_or_else(|| Error::plan(format!("{} needs a positive {what}", call.name)).at(call.span))
}

fn window_tvf(input: Rel, time: usize, window: WindowSpec, partition_by: Vec<usize>, call: &FunctionCall) -> Bound {
    let mut columns = input.schema.as_ref().clone();
    let mut names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    let attribute = columns[time].time.unwrap_or(TimeAttribute::Rowtime);
    let time_type = columns[time].ty.as_not_null();
    let bound = TypeKind::Timestamp(3).not_null();
    for (name, ty, time) in
        [("window_start", bound.clone(), None), ("window_end", bound, None), ("window_time", time_type, Some(attribute))]
    {
        let name = unique_name(name, &names);
        names.push(name.clone());
        columns.push(build::column(name, ty, time));
    }
    let rel = build::rel(RelKind::WindowTvf { input: Box::new(input), time, window, partition_by }, columns, call.span);
    let scope = Scope::table(None, &rel.schema);
    Bound { rel, scope }
}
