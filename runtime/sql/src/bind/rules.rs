//! Rules of a control topic as table functions, in the call syntax of Flink's process table functions:
//! `EVALUATE_RULES(data => TABLE t, rules => TABLE r, on_time => DESCRIPTOR(c))`, `REJECTED_RULES(data => …, rules => …)`,
//! `CURRENT_RULES(data => …, rules => …)`.

use sluice_batch::{Error, Field, Result, TypeKind};

use super::from::FromContext;
use super::window::{assign, descriptor};
use super::{Binder, build, did_you_mean};
use crate::ast::{ArgValue, ExprKind, FunctionCall};
use crate::relation::{ColumnDef, Rel, RelKind, TableArg, TimeAttribute};

const EVALUATE: &str = "EVALUATE_RULES";
const REJECTED: &str = "REJECTED_RULES";
const CURRENT: &str = "CURRENT_RULES";

pub(super) const FUNCTIONS: [&str; 3] = [EVALUATE, REJECTED, CURRENT];

/// The digits of `triggering_value`.
const DIGITS: u8 = 38;

pub(super) fn is_rule_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

impl Binder<'_> {
    pub(super) fn rule_function(&self, name: &str, call: &FunctionCall, cx: FromContext<'_>) -> Result<Rel> {
        let parameters: &[&str] = if name == EVALUATE { &["data", "rules", "on_time"] } else { &["data", "rules"] };
        let args = assign(call, name, parameters)?;
        if let Some(missing) = args.iter().position(Option::is_none) {
            return Err(Error::plan(format!("{name} lacks its argument '{}'", parameters[missing])).at(call.span).hint(usage(name)));
        }
        let data = self.rule_table(args[0], name, "data", call, cx)?;
        let rules = self.rule_table(args[1], name, "rules", call, cx)?;
        let mut out = vec![];
        let columns = match name {
            EVALUATE => {
                let time = event_time(&data, args[2], call)?;
                out.push(("on_time".to_owned(), TableArg::Descriptor(vec![data.schema[time].name.clone()])));
                alerts(&data, time)
            }
            _ => {
                let last = if name == REJECTED { Some(("reason", TypeKind::STRING.not_null())) } else { None };
                let columns = [("rule_id", TypeKind::Int.with_nullable(name == REJECTED)), ("rule", TypeKind::STRING.not_null())];
                columns.into_iter().chain(last).map(|(name, ty)| build::column(name, ty, None)).collect()
            }
        };
        Ok(build::rel(RelKind::TableFunction { name: name.to_owned(), inputs: vec![data, rules], args: out }, columns, call.span))
    }

    /// A table argument without keys: the rules say by what they group.
    fn rule_table(&self, arg: Option<&ArgValue>, name: &str, parameter: &str, call: &FunctionCall, cx: FromContext<'_>) -> Result<Rel> {
        let table = match arg {
            Some(ArgValue::Table { .. }) => true,
            Some(ArgValue::Expr(e)) => matches!(e.kind, ExprKind::Name(_)),
            _ => false,
        };
        if !table {
            let span = match arg {
                Some(ArgValue::Expr(e)) => e.span,
                Some(ArgValue::Descriptor { span, .. } | ArgValue::Table { span, .. }) => *span,
                None => call.span,
            };
            return Err(Error::plan(format!("the argument '{parameter}' of {name} must be a table")).at(span).hint(usage(name)));
        }
        let (rel, keys) = self.table_argument(arg, call, cx)?;
        match (keys.is_empty(), arg) {
            (false, Some(ArgValue::Table { span, .. })) => Err(Error::plan(format!("the tables of {name} take no PARTITION BY"))
                .at(*span)
                .hint("each rule names its own keys, in groupingKeyNames")),
            _ => Ok(rel),
        }
    }
}

fn usage(name: &str) -> String {
    let time = if name == EVALUATE { ", on_time => DESCRIPTOR(event_time)" } else { "" };
    format!("{name}(data => TABLE transactions, rules => TABLE rules{time})")
}

fn event_time(data: &Rel, arg: Option<&ArgValue>, call: &FunctionCall) -> Result<usize> {
    let column = descriptor(arg, EVALUATE, call)?;
    let Some(at) = data.schema.iter().position(|c| c.name == column.name) else {
        let error = Error::plan(format!("the data table of {EVALUATE} has no column '{}'", column.name)).at(column.span);
        return Err(did_you_mean(error, &column.name, data.schema.iter().map(|c| c.name.as_str())));
    };
    match data.schema[at].time {
        Some(TimeAttribute::Rowtime) => Ok(at),
        _ => Err(Error::plan(format!(
            "on_time of {EVALUATE} must be an event-time attribute, but {} is of type {}",
            column.name, data.schema[at].ty
        ))
        .at(column.span)
        .hint(format!("declare a watermark: WATERMARK FOR {0} AS {0} - INTERVAL '5' SECOND", column.name))),
    }
}

/// The columns of alerts.
fn alerts(data: &Rel, time: usize) -> Vec<ColumnDef> {
    let event = data.schema.iter().filter(|c| is_in_event(c)).map(|c| Field::new(c.name.clone(), c.ty.clone())).collect();
    let scale = data.schema.iter().map(|c| if let TypeKind::Decimal(_, s) = c.ty.kind { s } else { 0 }).max().unwrap_or_default();
    let on_time = &data.schema[time];
    vec![
        build::column("rule_id", TypeKind::Int.not_null(), None),
        build::column("rule", TypeKind::STRING.not_null(), None),
        build::column("grouping_key", TypeKind::STRING.not_null(), None),
        build::column("triggering_event", TypeKind::Row(event).not_null(), None),
        build::column("triggering_value", TypeKind::Decimal(DIGITS, scale.clamp(6, DIGITS)).nullable(), None),
        build::column("dry_run", TypeKind::Boolean.not_null(), None),
        build::column("rowtime", on_time.ty.clone(), Some(TimeAttribute::Rowtime)),
    ]
}

/// Processing time is of no row: a ROW does not keep it.
fn is_in_event(column: &ColumnDef) -> bool {
    column.time != Some(TimeAttribute::Proctime)
}
