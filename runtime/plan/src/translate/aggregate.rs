//! GROUP BY: updating, or over windows when the keys hold a window's bounds.

use sluice_batch::aggregate::AggregateCall;
use sluice_batch::{Expr, Millis, Result, TypeKind};
use sluice_operators::spec::{ExpandSpec, GroupAggregateSpec, OperatorSpec};
use sluice_sql::relation::{ColumnDef, Rel, RelKind, WindowKeys};

use super::Planner;
use super::calc::set;
use crate::node::{Needed, Stream, UpdateBefore, Wants, all, column};

/// An aggregation as the relation has it.
pub(super) struct Aggregation<'a> {
    pub rel: &'a Rel,
    pub input: &'a Rel,
    pub keys: &'a [usize],
    pub sets: &'a [Vec<usize>],
    pub calls: &'a [AggregateCall],
    pub window: Option<&'a WindowKeys>,
    pub state_ttl: Option<Millis>,
}

impl Aggregation<'_> {
    pub fn grouping_sets(&self) -> bool {
        self.sets.len() > 1
    }

    /// The calls that are used (positions in `calls`), at least one if there are no keys.
    pub fn used_calls(&self, needed: &Needed) -> Vec<usize> {
        let mut used: Vec<usize> = (0..self.calls.len()).filter(|i| needed.contains(&(self.keys.len() + i))).collect();
        if used.is_empty() && self.keys.is_empty() && !self.calls.is_empty() {
            used.push(0);
        }
        used
    }
}

/// Aggregation input: where keys, the set's id and arguments are.
pub(super) struct GroupedInput {
    pub node: usize,
    pub keys: Vec<usize>,
    pub set_id: Option<usize>,
    pub calls: Vec<AggregateCall>,
    /// Columns of the input relation that went through as they are.
    pub extra: Vec<usize>,
}

impl Planner<'_> {
    pub(super) fn aggregate(&mut self, rel: &Rel, needed: &Needed) -> Result<Stream> {
        let RelKind::Aggregate { input, keys, grouping_sets, calls, window, state_ttl } = &rel.kind else {
            return Err(sluice_batch::Error::plan("internal: not an aggregate"));
        };
        let aggregation = Aggregation { rel, input, keys, sets: grouping_sets, calls, window: window.as_ref(), state_ttl: *state_ttl };
        if let Some(stream) = self.window_aggregate(&aggregation, needed)? {
            return Ok(stream);
        }
        let used = aggregation.used_calls(needed);
        let grouped = self.grouped_input(&aggregation, input, keys, grouping_sets, &used, &[])?;
        Ok(self.group_aggregate(&aggregation, grouped, &used))
    }

    /// The input of an aggregation: an Expand with one row a grouping set if there are several, else as it is.
    /// `keys` and `extra` are columns of `input`, `sets` positions in `keys`.
    pub(super) fn grouped_input(
        &mut self,
        aggregation: &Aggregation<'_>,
        input: &Rel,
        keys: &[usize],
        sets: &[Vec<usize>],
        used: &[usize],
        extra: &[usize],
    ) -> Result<GroupedInput> {
        let calls: Vec<AggregateCall> = used.iter().map(|i| aggregation.calls[*i].clone()).collect();
        let mut read: Needed = keys.iter().chain(extra).copied().collect();
        read.extend(calls.iter().flat_map(|c| c.args.iter().copied().chain(c.filter)));
        let below = self.translate(input, &read)?;
        if !aggregation.grouping_sets() {
            let calls = calls.into_iter().map(|c| remap_call(c, &|i| below.column(i))).collect::<Result<_>>()?;
            let (keys, extra) = (below.columns(keys)?, below.columns(extra)?);
            return Ok(GroupedInput { node: below.node, keys, set_id: None, calls, extra });
        }
        // Keys first and arguments behind them, so that a key that is an argument too keeps its value there.
        let others: Vec<usize> =
            read.iter().copied().filter(|c| !keys.contains(c) || is_argument(&calls, *c) || extra.contains(c)).collect();
        let mut project: Vec<(Expr, ColumnDef)> = vec![];
        for c in keys.iter().chain(&others) {
            project.push((Expr::column(below.column(*c)?, input.schema[*c].ty.clone()), input.schema[*c].clone()));
        }
        let node = self.calc(below.node, None, Some(project));
        let mut schema = (*self.node(node).schema).clone();
        let spec = ExpandSpec { input: self.node(node).types(), keys: (0..keys.len()).collect(), sets: sets.to_vec() };
        for key in schema.iter_mut().take(keys.len()) {
            key.ty = key.ty.as_nullable();
            key.time = None;
        }
        let set_id = schema.len();
        schema.push(column("$expand_id", TypeKind::BigInt.not_null()));
        let wants = if self.node(node).kinds.update { Wants::Needs } else { Wants::AsConsumers };
        let expanded = self.operator(OperatorSpec::Expand(spec), vec![(node, wants)], schema, |_| {});
        let behind = |c: usize| {
            let at = others.iter().position(|o| *o == c).map(|i| keys.len() + i);
            at.ok_or_else(|| sluice_batch::Error::plan("internal: an aggregate's argument was pruned"))
        };
        let calls = calls.into_iter().map(|c| remap_call(c, &behind)).collect::<Result<_>>()?;
        let extra = extra.iter().map(|c| behind(*c)).collect::<Result<_>>()?;
        Ok(GroupedInput { node: expanded, keys: (0..keys.len()).collect(), set_id: Some(set_id), calls, extra })
    }

    fn group_aggregate(&mut self, aggregation: &Aggregation<'_>, grouped: GroupedInput, used: &[usize]) -> Stream {
        let rel = aggregation.rel;
        let width = aggregation.keys.len();
        let mut keys = grouped.keys;
        keys.extend(grouped.set_id);
        let mut map = vec![None; rel.schema.len()];
        let mut schema: Vec<ColumnDef> = vec![];
        for (i, def) in rel.schema.iter().take(width).enumerate() {
            map[i] = Some(i);
            schema.push(ColumnDef { time: None, ..def.clone() });
        }
        if grouped.set_id.is_some() {
            let at = width + aggregation.calls.len();
            map[at] = Some(schema.len());
            schema.push(rel.schema[at].clone());
        }
        for i in used {
            map[width + i] = Some(schema.len());
            schema.push(rel.schema[width + i].clone());
        }
        let ttl = aggregation.state_ttl.unwrap_or(self.settings.state_ttl);
        let input = self.node(grouped.node);
        let insert_only = input.kinds.insert_only();
        let spec = GroupAggregateSpec {
            input: input.types(),
            keys: keys.clone(),
            calls: grouped.calls,
            retracting: !insert_only,
            emit_update_before: true,
            mini_batch: self.settings.mini_batch,
            state_ttl: ttl,
        };
        let state = match (keys.is_empty(), ttl) {
            (true, _) => "one row".to_string(),
            (_, 0) => "keys: one group per key".to_string(),
            (_, ttl) => format!("ttl {}: one group per key", crate::explain::interval(ttl)),
        };
        let distinct = spec.calls.is_empty();
        let wants = if self.node(grouped.node).kinds.update { Wants::Needs } else { Wants::AsConsumers };
        let node = self.operator(OperatorSpec::GroupAggregate(spec), vec![(grouped.node, wants)], schema, |n| {
            n.kinds.update = !distinct;
            n.kinds.delete = !insert_only && !keys.is_empty();
            n.update_before = UpdateBefore::OnDemand;
            n.keys = vec![set(0..keys.len())];
            n.state = state;
        });
        Stream { node, map }
    }

    pub(super) fn distinct(&mut self, rel: &Rel, input: &Rel) -> Result<Stream> {
        let below = self.translate(input, &all(&input.schema))?;
        let keys: Vec<usize> = (0..input.schema.len()).collect();
        let aggregation =
            Aggregation { rel, input, keys: &keys, sets: std::slice::from_ref(&keys), calls: &[], window: None, state_ttl: None };
        let grouped = GroupedInput { node: below.node, keys: below.columns(&keys)?, set_id: None, calls: vec![], extra: vec![] };
        Ok(self.group_aggregate(&aggregation, grouped, &[]))
    }
}

fn is_argument(calls: &[AggregateCall], column: usize) -> bool {
    calls.iter().any(|c| c.args.contains(&column) || c.filter == Some(column))
}

/// A call with its columns moved.
pub(super) fn remap_call(mut call: AggregateCall, at: &dyn Fn(usize) -> Result<usize>) -> Result<AggregateCall> {
    for arg in &mut call.args {
        *arg = at(*arg)?;
    }
    call.filter = call.filter.map(at).transpose()?;
    Ok(call)
}
