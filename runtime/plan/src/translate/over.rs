//! Window functions that are not a Top-N.

use sluice_batch::{Error, Result};
use sluice_operators::spec::{OperatorSpec, OverSpec, OverTime};
use sluice_sql::relation::{OverCall, Rel, RelKind, SortKey};

use super::Planner;
use super::aggregate::remap_call;
use crate::node::{Kinds, Needed, Stream, UpdateBefore, Wants};
use crate::time::{is_proctime, is_rowtime};

impl Planner<'_> {
    pub(super) fn over(&mut self, rel: &Rel, needed: &Needed) -> Result<Stream> {
        let RelKind::Over { input, partition_by, order_by, frame, calls } = &rel.kind else {
            return Err(Error::plan("internal: not an OVER"));
        };
        let width = input.schema.len();
        let used_calls: Vec<usize> = (0..calls.len()).filter(|i| needed.contains(&(width + i))).collect();
        let mut used: Needed = needed.iter().copied().filter(|c| *c < width).collect();
        if used_calls.is_empty() {
            let below = self.translate(input, &used)?;
            let mut map = below.map;
            map.resize(rel.schema.len(), None);
            return Ok(Stream { node: below.node, map });
        }
        used.extend(partition_by.iter().copied().chain(order_by.iter().map(|k| k.column)));
        used.extend(used_calls.iter().flat_map(|i| arguments(&calls[*i])));
        let below = self.translate(input, &used)?;
        let below = self.narrow_to(&below, &used, &input.schema)?;
        let time = self.over_time(input, order_by, &below)?;
        if time != OverTime::None {
            self.require_insert_only(below.node, "OverAggregate")?;
        }
        let at = |c: usize| below.column(c);
        let node = self.node(below.node);
        let mut schema = (*node.schema).clone();
        let mut map = below.map.clone();
        map.resize(rel.schema.len(), None);
        for i in &used_calls {
            map[width + i] = Some(schema.len());
            schema.push(rel.schema[width + i].clone());
        }
        let spec = OverSpec {
            input: node.types(),
            partition_by: below.columns(partition_by)?,
            order_by: remap_keys(order_by, &at)?,
            time,
            frame: frame.clone(),
            calls: used_calls.iter().map(|i| remap_over(calls[*i].clone(), &at)).collect::<Result<_>>()?,
            state_ttl: self.settings.state_ttl,
        };
        let keys = node.keys.clone();
        let state = self.keyed_state("rows of the frame");
        let wants = if time == OverTime::None { Wants::Needs } else { Wants::AsConsumers };
        let node = self.operator(OperatorSpec::Over(spec), vec![(below.node, wants)], schema, |n| {
            n.keys = keys;
            n.state = state;
            if time == OverTime::None {
                n.kinds = Kinds::ALL;
                n.update_before = UpdateBefore::Forced;
            }
        });
        Ok(Stream { node, map })
    }

    fn over_time(&self, input: &Rel, order_by: &[SortKey], below: &Stream) -> Result<OverTime> {
        let Some(first) = order_by.first() else {
            return Err(Error::plan("OVER windows' ordering in stream mode must be defined on a time attribute.")
                .hint("add ORDER BY a time attribute to OVER"));
        };
        let column = &input.schema[first.column];
        if !is_rowtime(column) && !is_proctime(column) {
            return Ok(OverTime::None);
        }
        if first.descending {
            return Err(Error::plan("OVER windows' ordering in stream mode must be ascending on a time attribute."));
        }
        if is_proctime(column) { Ok(OverTime::Proctime) } else { Ok(OverTime::Rowtime(below.column(first.column)?)) }
    }
}

fn arguments(call: &OverCall) -> Vec<usize> {
    match call {
        OverCall::Aggregate(call) => call.args.iter().copied().chain(call.filter).collect(),
        OverCall::Lag { arg, default, .. } => [*arg].into_iter().chain(default.iter().flat_map(crate::expressions::columns)).collect(),
        OverCall::FirstValue { arg, .. } | OverCall::LastValue { arg, .. } => vec![*arg],
        _ => vec![],
    }
}

fn remap_over(mut call: OverCall, at: &dyn Fn(usize) -> Result<usize>) -> Result<OverCall> {
    match &mut call {
        OverCall::Aggregate(inner) => *inner = remap_call(inner.clone(), at)?,
        OverCall::Lag { arg, default, .. } => {
            *arg = at(*arg)?;
            if let Some(default) = default {
                *default = default.map_columns(&|c, ty| sluice_batch::Expr::column(at(c).unwrap_or(c), ty.clone()));
            }
        }
        OverCall::FirstValue { arg, .. } | OverCall::LastValue { arg, .. } => *arg = at(*arg)?,
        _ => {}
    }
    Ok(call)
}

/// Sort keys with their columns moved.
pub(super) fn remap_keys(keys: &[SortKey], at: &dyn Fn(usize) -> Result<usize>) -> Result<Vec<SortKey>> {
    keys.iter().map(|k| Ok(SortKey { column: at(k.column)?, ..k.clone() })).collect()
}
