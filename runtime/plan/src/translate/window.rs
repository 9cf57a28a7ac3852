//! Window TVFs and aggregates over windows.

use std::collections::BTreeMap;

use sluice_batch::{Error, Expr, Result, SqlType, TypeKind};
use sluice_operators::spec::{GroupWindowSpec, OperatorSpec, WindowAggregateSpec, WindowInput, WindowTvfSpec};
use sluice_sql::relation::{ColumnDef, Rel, RelKind, TimeAttribute, WindowSpec};

use super::Planner;
use super::aggregate::{Aggregation, GroupedInput, remap_call};
use super::calc::set;
use crate::node::{Needed, Stream, UpdateBefore, Wants};
use crate::time::{WindowColumns, is_ltz, is_proctime, window_columns};

/// A window aggregate's input: the relation to read, how its rows get windows, and the keys in it.
struct Windowed {
    rel: Rel,
    /// Column of the aggregate's input to column of `rel`.
    moved: BTreeMap<usize, usize>,
    time: usize,
    window: WindowSpec,
    proctime: bool,
}

impl Planner<'_> {
    /// `None` if the keys do not hold both bounds of the input's windows: then it is a plain GROUP BY.
    pub(super) fn window_aggregate(&mut self, aggregation: &Aggregation<'_>, needed: &Needed) -> Result<Option<Stream>> {
        let (Some(window), Some(columns)) = (aggregation.window, window_columns(aggregation.input)) else { return Ok(None) };
        let (Some(start), Some(end)) = (window.start, window.end) else { return Ok(None) };
        let key = |i: usize| aggregation.keys.get(i).copied();
        let in_all_sets = |k: usize| aggregation.sets.iter().all(|s| s.contains(&k));
        if columns.start != key(start) || columns.end != key(end) || !in_all_sets(start) || !in_all_sets(end) {
            return Ok(None);
        }
        let time = window.time.filter(|t| columns.time.is_some() && columns.time == key(*t));
        let bounds = [Some(start), Some(end), time];
        let others: Vec<usize> = (0..aggregation.keys.len()).filter(|i| !bounds.contains(&Some(*i))).collect();
        let used = aggregation.used_calls(needed);
        let keys: Vec<usize> = others.iter().map(|i| aggregation.keys[*i]).collect();
        let position = |k: &usize| others.iter().position(|o| o == k);
        let sets: Vec<Vec<usize>> = aggregation.sets.iter().map(|s| s.iter().filter_map(position).collect()).collect();
        let (grouped, input) = match fold_tvf(aggregation.input, &keys, aggregation, &used) {
            Some(windowed) => self.folded_input(aggregation, windowed, &keys, &sets, &used)?,
            None => self.attached_input(aggregation, &columns, &keys, &sets, &used)?,
        };
        Ok(Some(self.window_aggregate_node(aggregation, grouped, input, &columns, (start, end, time), &others, &used)))
    }

    fn folded_input(
        &mut self,
        aggregation: &Aggregation<'_>,
        windowed: Windowed,
        keys: &[usize],
        sets: &[Vec<usize>],
        used: &[usize],
    ) -> Result<(GroupedInput, WindowInput)> {
        let at = |c: usize| windowed.moved.get(&c).copied().ok_or_else(|| Error::plan("internal: a column of a window was lost"));
        let calls = aggregation.calls.iter().map(|c| remap_call(c.clone(), &at));
        // Calls that are not used may read columns that are gone.
        let calls: Vec<_> = calls.zip(aggregation.calls).map(|(moved, old)| moved.unwrap_or_else(|_| old.clone())).collect();
        let keys = keys.iter().map(|k| at(*k)).collect::<Result<Vec<_>>>()?;
        let moved = Aggregation { calls: &calls, ..*aggregation };
        let grouped = self.grouped_input(&moved, &windowed.rel, &keys, sets, used, &[windowed.time])?;
        let input = WindowInput::Assign { time: grouped.extra[0], window: windowed.window, proctime: windowed.proctime };
        Ok((grouped, input))
    }

    fn attached_input(
        &mut self,
        aggregation: &Aggregation<'_>,
        columns: &WindowColumns,
        keys: &[usize],
        sets: &[Vec<usize>],
        used: &[usize],
    ) -> Result<(GroupedInput, WindowInput)> {
        if columns.proctime {
            return Err(Error::unsupported("an aggregate over processing-time windows that is not directly above the window function"));
        }
        let bounds = [columns.start.unwrap_or_default(), columns.end.unwrap_or_default()];
        let grouped = self.grouped_input(aggregation, aggregation.input, keys, sets, used, &bounds)?;
        let input = WindowInput::Attached { start: grouped.extra[0], end: grouped.extra[1] };
        Ok((grouped, input))
    }

    fn window_aggregate_node(
        &mut self,
        aggregation: &Aggregation<'_>,
        grouped: GroupedInput,
        window: WindowInput,
        columns: &WindowColumns,
        (start, end, time): (usize, usize, Option<usize>),
        others: &[usize],
        used: &[usize],
    ) -> Stream {
        let (rel, width) = (aggregation.rel, aggregation.keys.len());
        let mut map = vec![None; rel.schema.len()];
        let mut schema: Vec<ColumnDef> = vec![];
        for key in others {
            map[*key] = Some(schema.len());
            schema.push(ColumnDef { time: None, ..rel.schema[*key].clone() });
        }
        let mut keys = grouped.keys;
        if let Some(id) = grouped.set_id {
            keys.push(id);
            let at = width + aggregation.calls.len();
            map[at] = Some(schema.len());
            schema.push(rel.schema[at].clone());
        }
        for i in used {
            map[width + i] = Some(schema.len());
            schema.push(rel.schema[width + i].clone());
        }
        let bound = |name: &str| crate::node::column(name, TypeKind::Timestamp(3).not_null());
        let bounds_at = schema.len();
        (map[start], map[end]) = (Some(bounds_at), Some(bounds_at + 1));
        schema.extend([bound("window_start"), bound("window_end")]);
        let mut window_time = time_column(columns.ltz, columns.proctime);
        if let Some(time) = time {
            map[time] = Some(bounds_at + 2);
            window_time = rel.schema[time].clone();
        }
        schema.push(window_time);
        let input = self.node(grouped.node);
        let spec = WindowAggregateSpec {
            input: input.types(),
            window,
            keys: keys.clone(),
            calls: grouped.calls,
            retracting: !input.kinds.insert_only(),
            ltz: columns.ltz,
        };
        let wants = if input.kinds.update { Wants::Needs } else { Wants::AsConsumers };
        let node = self.operator(OperatorSpec::WindowAggregate(spec), vec![(grouped.node, wants)], schema, |n| {
            n.kinds = Default::default();
            n.update_before = UpdateBefore::Never;
            n.keys = vec![set((0..keys.len()).chain([bounds_at, bounds_at + 1]))];
            n.state = "window".into();
        });
        Stream { node, map }
    }

    pub(super) fn window_tvf(
        &mut self,
        rel: &Rel,
        input: &Rel,
        time: usize,
        window: &WindowSpec,
        partition_by: &[usize],
        needed: &Needed,
    ) -> Result<Stream> {
        let width = input.schema.len();
        let mut used: Needed = needed.iter().copied().filter(|c| *c < width).chain(partition_by.iter().copied()).collect();
        used.insert(time);
        let below = self.translate(input, &used)?;
        let below = self.narrow_to(&below, &used, &input.schema)?;
        let node = self.node(below.node);
        let mut schema = (*node.schema).clone();
        let at = schema.len();
        schema.extend(rel.schema[width..].iter().cloned());
        let spec = WindowTvfSpec {
            input: node.types(),
            time: below.column(time)?,
            window: window.clone(),
            partition_by: below.columns(partition_by)?,
            proctime: is_proctime(&input.schema[time]),
            ltz: is_ltz(&input.schema[time].ty),
        };
        let session = matches!(window, WindowSpec::Session { .. });
        if session {
            self.require_insert_only(below.node, "SESSION window table function")?;
        }
        let node = self.operator(OperatorSpec::WindowTvf(spec), vec![(below.node, Wants::AsConsumers)], schema, |n| {
            n.state = if session { "window" } else { "none" }.into();
        });
        let mut map = below.map;
        map.extend((at..at + 3).map(Some));
        Ok(Stream { node, map })
    }

    pub(super) fn group_window(&mut self, rel: &Rel, needed: &Needed) -> Result<Stream> {
        let RelKind::GroupWindow { input, time, window, keys, calls, properties } = &rel.kind else {
            return Err(Error::plan("internal: not a group window"));
        };
        let sets = [(0..keys.len()).collect::<Vec<_>>()];
        let aggregation = Aggregation { rel, input, keys, sets: &sets, calls, window: None, state_ttl: None };
        let used: Vec<usize> = (0..calls.len()).filter(|i| needed.contains(&(keys.len() + i))).collect();
        let grouped = self.grouped_input(&aggregation, input, keys, &sets, &used, &[*time])?;
        let mut map = vec![None; rel.schema.len()];
        let mut schema = vec![];
        let outputs = (0..keys.len()).chain(used.iter().map(|i| keys.len() + i)).chain(keys.len() + calls.len()..rel.schema.len());
        for c in outputs {
            map[c] = Some(schema.len());
            schema.push(rel.schema[c].clone());
        }
        let below = self.node(grouped.node);
        let spec = GroupWindowSpec {
            input: below.types(),
            time: grouped.extra[0],
            window: window.clone(),
            proctime: is_proctime(&input.schema[*time]),
            keys: grouped.keys.clone(),
            calls: grouped.calls,
            retracting: !below.kinds.insert_only(),
            properties: properties.clone(),
            ltz: is_ltz(&input.schema[*time].ty),
        };
        let wants = if below.kinds.update { Wants::Needs } else { Wants::AsConsumers };
        let node = self.operator(OperatorSpec::GroupWindow(spec), vec![(grouped.node, wants)], schema, |n| {
            n.kinds = Default::default();
            n.update_before = UpdateBefore::Never;
            n.state = "window".into();
        });
        Ok(Stream { node, map })
    }
}

/// `window_time` where nobody asked for it.
fn time_column(ltz: bool, proctime: bool) -> ColumnDef {
    let kind = if ltz { TypeKind::TimestampLtz(3) } else { TypeKind::Timestamp(3) };
    let time = if proctime { TimeAttribute::Proctime } else { TimeAttribute::Rowtime };
    ColumnDef { name: "window_time".into(), ty: SqlType { kind, nullable: false }, time: Some(time) }
}

/// The aggregate's input with its window TVF taken out, if that is right below, or below a projection that does not
/// compute with the window's columns. Session windows only if they are by the aggregate's keys.
fn fold_tvf(input: &Rel, keys: &[usize], aggregation: &Aggregation<'_>, used: &[usize]) -> Option<Windowed> {
    let (tvf, exprs) = match &input.kind {
        RelKind::Project { input: below, exprs } => (&**below, Some(exprs)),
        _ => (input, None),
    };
    let RelKind::WindowTvf { input: below, time, window, partition_by } = &tvf.kind else { return None };
    let width = below.schema.len();
    let mut read: Vec<usize> = keys.to_vec();
    read.extend(used.iter().flat_map(|i| aggregation.calls[*i].args.iter().copied().chain(aggregation.calls[*i].filter)));
    let source = |c: usize| match exprs {
        None => Some(Expr::column(c, tvf.schema[c].ty.clone())),
        Some(exprs) => exprs.get(c).cloned(),
    };
    let mut project: Vec<Expr> = vec![Expr::column(*time, below.schema[*time].ty.clone())];
    let mut schema = vec![below.schema[*time].clone()];
    let mut moved = BTreeMap::new();
    for c in read {
        if moved.contains_key(&c) {
            continue;
        }
        let expr = source(c)?;
        if crate::expressions::columns(&expr).iter().any(|c| *c >= width) {
            return None;
        }
        moved.insert(c, project.len());
        schema.push(input.schema[c].clone());
        project.push(expr);
    }
    if matches!(window, WindowSpec::Session { .. }) {
        let by: Option<Vec<usize>> = keys.iter().map(|k| source(*k)?.as_column()).collect();
        if by.map(set) != Some(set(partition_by.iter().copied())) {
            return None;
        }
    }
    let kind = RelKind::Project { input: below.clone(), exprs: project };
    let rel = Rel { kind, schema: std::sync::Arc::new(schema), span: input.span };
    Some(Windowed { rel, moved, time: 0, window: window.clone(), proctime: is_proctime(&below.schema[*time]) })
}
