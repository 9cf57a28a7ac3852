//! Joins: of windows, within a time interval, with a version of a table, or regular ones.

use sluice_batch::{Error, Expr, Millis, Result};
use sluice_operators::spec::{IntervalJoinSpec, JoinSpec, OperatorSpec, TemporalJoinSpec, WindowJoinSpec};
use sluice_sql::relation::{ColumnDef, JoinKind, Rel, RelKind};

use super::Planner;
use super::join_condition::{Condition, Interval};
use crate::expressions::columns;
use crate::keys;
use crate::node::{Kinds, Needed, Stream, UpdateBefore, Wants};
use crate::time::{is_proctime, is_rowtime, window_columns};

/// Both inputs of a join, narrowed to what is used, and the condition over them.
pub(super) struct Sides {
    pub left: Stream,
    pub right: Stream,
    pub spec: JoinSpec,
}

impl Planner<'_> {
    pub(super) fn join(&mut self, rel: &Rel, needed: &Needed) -> Result<Stream> {
        let RelKind::Join { left, right, kind, condition, state_ttl } = &rel.kind else {
            return Err(Error::plan("internal: not a join"));
        };
        if let Some(stream) = self.snapshot_join(rel, left, right, *kind, condition, needed)? {
            return Ok(stream);
        }
        let mut condition = Condition::split(condition, left, right);
        let windows = self.window_keys(left, right, &mut condition);
        let interval = match windows {
            Some(_) => None,
            None => condition.interval(left, right),
        };
        let default = self.settings.state_ttl;
        let ttl = (state_ttl.0.unwrap_or(default), state_ttl.1.unwrap_or(default));
        if let Some((left_end, right_end, ltz)) = windows {
            let sides = self.sides(left, right, *kind, condition, needed, ttl, &[left_end], &[right_end])?;
            let (left_end, right_end) = (sides.left.column(left_end)?, sides.right.column(right_end)?);
            return Ok(self.window_join(rel, sides, (left_end, right_end), ltz));
        }
        if let Some(interval) = interval {
            let mut rest = condition.clone();
            rest.drop_interval(&interval);
            let sides = self.sides(left, right, *kind, rest, needed, ttl, &[interval.left_time], &[interval.right_time])?;
            let updating = |s: &Stream, p: &Self| !p.node(s.node).kinds.insert_only();
            if !updating(&sides.left, self) && !updating(&sides.right, self) {
                return self.interval_join(rel, sides, &interval);
            }
        }
        let sides = self.sides(left, right, *kind, condition, needed, ttl, &[], &[])?;
        Ok(self.regular_join(rel, sides))
    }

    /// The inputs with their used columns, computed keys as further columns.
    pub(super) fn sides(
        &mut self,
        left: &Rel,
        right: &Rel,
        kind: JoinKind,
        condition: Condition,
        needed: &Needed,
        state_ttl: (Millis, Millis),
        left_extra: &[usize],
        right_extra: &[usize],
    ) -> Result<Sides> {
        let width = left.schema.len();
        let rest: Needed = condition.rest.iter().flat_map(columns).collect();
        let of_left = |set: &Needed| set.iter().copied().filter(|c| *c < width).collect::<Vec<_>>();
        let of_right = |set: &Needed| set.iter().filter(|c| **c >= width).map(|c| c - width).collect::<Vec<_>>();
        let keep_left: Needed = of_left(needed).into_iter().chain(of_left(&rest)).chain(left_extra.iter().copied()).collect();
        let keep_right: Needed = of_right(needed).into_iter().chain(of_right(&rest)).chain(right_extra.iter().copied()).collect();
        let (left, left_keys) = self.side(left, &keep_left, condition.equal.iter().map(|e| &e.left))?;
        let (right, right_keys) = self.side(right, &keep_right, condition.equal.iter().map(|e| &e.right))?;
        let left_width = self.node(left.node).schema.len();
        let mut map = left.map.clone();
        map.extend(right.shifted(left_width));
        let both = Stream { node: left.node, map };
        let rest = condition.rest.iter().map(|e| both.expr(e)).collect::<Result<Vec<_>>>()?;
        let key = |s: &Stream, p: &Self| p.node(s.node).keys.first().map(|k| k.iter().copied().collect::<Vec<_>>());
        let spec = JoinSpec {
            kind,
            left: self.node(left.node).types(),
            right: self.node(right.node).types(),
            left_keys,
            right_keys,
            null_safe: condition.equal.iter().map(|e| e.null_safe).collect(),
            condition: crate::expressions::conjunction(rest),
            left_upsert_key: key(&left, self),
            right_upsert_key: key(&right, self),
            state_ttl,
        };
        Ok(Sides { left, right, spec })
    }

    /// One input: the columns `keep`, then keys that are computed. Answers with the keys' positions.
    pub(super) fn side<'e>(&mut self, rel: &Rel, keep: &Needed, keys: impl Iterator<Item = &'e Expr>) -> Result<(Stream, Vec<usize>)> {
        let keys: Vec<&Expr> = keys.collect();
        let mut keep = keep.clone();
        keep.extend(keys.iter().filter_map(|k| k.as_column()));
        let read: Needed = keep.iter().copied().chain(keys.iter().flat_map(|k| columns(k))).collect();
        let below = self.translate(rel, &read)?;
        if keys.iter().all(|k| k.as_column().is_some()) {
            let stream = self.narrow_to(&below, &keep, &rel.schema)?;
            let keys = keys.iter().map(|k| stream.column(k.as_column().unwrap_or_default())).collect::<Result<_>>()?;
            return Ok((stream, keys));
        }
        let mut map = vec![None; rel.schema.len()];
        let mut project: Vec<(Expr, ColumnDef)> = vec![];
        for c in &keep {
            map[*c] = Some(project.len());
            project.push((Expr::column(below.column(*c)?, rel.schema[*c].ty.clone()), rel.schema[*c].clone()));
        }
        let mut positions = vec![];
        for (i, key) in keys.iter().enumerate() {
            match key.as_column() {
                Some(c) => positions.push(map[c].unwrap_or_default()),
                None => {
                    positions.push(project.len());
                    project.push((below.expr(key)?, crate::node::column(format!("$key{i}"), key.ty.clone())));
                }
            }
        }
        let node = self.calc(below.node, None, Some(project));
        Ok((Stream { node, map }, positions))
    }

    /// Output columns and where they are: left, then (unless semi or anti) right ones.
    pub(super) fn joined(&self, rel: &Rel, sides: &Sides) -> (Vec<ColumnDef>, Vec<Option<usize>>) {
        let left = &self.node(sides.left.node).schema;
        let mut schema = (**left).clone();
        let mut map = sides.left.map.clone();
        if !matches!(sides.spec.kind, JoinKind::Semi | JoinKind::Anti) {
            schema.extend(self.node(sides.right.node).schema.iter().cloned());
            map.extend(sides.right.shifted(left.len()));
        }
        // Types as the relation has them: outer joins make columns nullable.
        for (at, def) in map.iter().zip(rel.schema.iter()) {
            if let Some(at) = at {
                schema[*at] = def.clone();
            }
        }
        (schema, map)
    }

    fn regular_join(&mut self, rel: &Rel, sides: Sides) -> Stream {
        let (schema, map) = self.joined(rel, &sides);
        let (left, right) = (self.node(sides.left.node), self.node(sides.right.node));
        let spec = sides.spec;
        let kinds = match spec.kind {
            JoinKind::Inner | JoinKind::Semi => left.kinds.union(right.kinds),
            _ => Kinds::ALL,
        };
        let stable = |kinds: Kinds, keys: &Vec<_>, on: &[usize]| !kinds.update || keys::stable_under_join(keys, on);
        let avoidable = spec.condition.is_none()
            && stable(left.kinds, &left.keys, &spec.left_keys)
            && stable(right.kinds, &right.keys, &spec.right_keys);
        let keys = keys::join(&spec, &left.keys, &right.keys);
        let state = match spec.state_ttl {
            (0, 0) => "unbounded: rows of both inputs".to_string(),
            (0, _) | (_, 0) => "unbounded: rows of one input".to_string(),
            (l, r) => format!("ttl {}: rows of both inputs", crate::explain::interval(l.max(r))),
        };
        let bounded = left.bounded && right.bounded;
        if state.starts_with("unbounded") && !bounded {
            let place = if rel.span.is_known() { format!("line {}: ", rel.span.line) } else { String::new() };
            self.warnings.push(format!("{place}the join keeps all rows of both inputs for ever; set 'table.exec.state.ttl' or a STATE_TTL hint, or join within a time interval"));
        }
        let inputs = vec![(sides.left.node, Wants::Needs), (sides.right.node, Wants::Needs)];
        let node = self.operator(OperatorSpec::Join(spec), inputs, schema, |n| {
            n.kinds = kinds;
            n.keys = keys;
            n.update_before = if avoidable { UpdateBefore::Always } else { UpdateBefore::Forced };
            n.state = state;
        });
        Stream { node, map }
    }

    /// Positions of window_end in both inputs if the condition has both bounds of both sides' windows equal.
    fn window_keys(&self, left: &Rel, right: &Rel, condition: &mut Condition) -> Option<(usize, usize, bool)> {
        let (l, r) = (window_columns(left)?, window_columns(right)?);
        let has = |a: Option<usize>, b: Option<usize>| match (a, b) {
            (Some(a), Some(b)) => condition.equal.iter().any(|e| e.left.as_column() == Some(a) && e.right.as_column() == Some(b)),
            _ => false,
        };
        let same = l.window == r.window && l.ltz == r.ltz && !l.proctime && !r.proctime;
        (same && has(l.start, r.start) && has(l.end, r.end)).then(|| (l.end.unwrap_or_default(), r.end.unwrap_or_default(), l.ltz))
    }

    fn window_join(&mut self, rel: &Rel, sides: Sides, (left_window_end, right_window_end): (usize, usize), ltz: bool) -> Stream {
        let (schema, map) = self.joined(rel, &sides);
        let inputs = vec![(sides.left.node, Wants::Needs), (sides.right.node, Wants::Needs)];
        let spec = WindowJoinSpec { join: sides.spec, left_window_end, right_window_end, ltz };
        let node = self.operator(OperatorSpec::WindowJoin(spec), inputs, schema, |n| {
            n.kinds = Kinds::INSERT_ONLY;
            n.update_before = UpdateBefore::Never;
            n.state = "window".into();
        });
        Stream { node, map }
    }

    fn interval_join(&mut self, rel: &Rel, sides: Sides, interval: &Interval) -> Result<Stream> {
        let (schema, map) = self.joined(rel, &sides);
        let inputs = vec![(sides.left.node, Wants::AsConsumers), (sides.right.node, Wants::AsConsumers)];
        let spec = IntervalJoinSpec {
            left_time: sides.left.column(interval.left_time)?,
            right_time: sides.right.column(interval.right_time)?,
            join: sides.spec,
            lower: interval.lower,
            upper: interval.upper,
            proctime: interval.proctime,
        };
        let node = self.operator(OperatorSpec::IntervalJoin(spec), inputs, schema, |n| {
            n.update_before = UpdateBefore::Never;
            n.state = format!("interval {}", crate::explain::interval(interval.upper.saturating_sub(interval.lower)));
        });
        Ok(Stream { node, map })
    }

    pub(super) fn temporal_join(&mut self, rel: &Rel, needed: &Needed) -> Result<Stream> {
        let RelKind::TemporalJoin { left, right, outer, time, condition } = &rel.kind else {
            return Err(Error::plan("internal: not a temporal join"));
        };
        let attribute = &left.schema[*time];
        if is_proctime(attribute) {
            return self.lookup_join(rel, left, right, *outer, condition, needed);
        }
        if !is_rowtime(attribute) {
            let message = "Temporal table join only supports 'FOR SYSTEM_TIME AS OF' left table's time attribute field";
            return Err(Error::plan(format!("{message}, and '{}' is none", attribute.name)));
        }
        let Some(right_time) = right.schema.iter().position(is_rowtime) else {
            let message = "Event-Time Temporal Table Join requires both primary key and row time attribute in versioned table, \
                           but no row time attribute can be found.";
            return Err(Error::plan(message).hint("declare WATERMARK FOR on the versioned table"));
        };
        let condition = Condition::split(condition, left, right);
        if condition.equal.is_empty() {
            return Err(Error::plan("Currently the join key in Temporal Table Join can not be empty."));
        }
        let kind = if *outer { JoinKind::Left } else { JoinKind::Inner };
        let right_key = self.key_columns(right);
        let ttl = self.settings.state_ttl;
        let mut right_extra = vec![right_time];
        right_extra.extend(right_key.iter().flatten());
        let sides = self.sides(left, right, kind, condition, needed, (ttl, ttl), &[*time], &right_extra)?;
        self.check_versioned(&sides)?;
        let (schema, map) = self.joined(rel, &sides);
        let updating = self.node(sides.left.node).kinds.update;
        let keys = self.node(sides.left.node).keys.clone();
        let kinds = self.node(sides.left.node).kinds;
        let inputs = vec![(sides.left.node, if updating { Wants::Needs } else { Wants::AsConsumers }), (sides.right.node, Wants::Refuses)];
        let spec = TemporalJoinSpec {
            left_time: sides.left.column(*time)?,
            right_time: sides.right.column(right_time)?,
            join: sides.spec,
            outer: *outer,
        };
        let node = self.operator(OperatorSpec::TemporalJoin(spec), inputs, schema, |n| {
            n.kinds = kinds;
            n.keys = keys;
            n.update_before = if updating { UpdateBefore::Forced } else { UpdateBefore::Never };
            n.state = "versions since the watermark, one per key".into();
        });
        Ok(Stream { node, map })
    }

    /// The versioned side must have a key, and the join must be on it.
    fn check_versioned(&self, sides: &Sides) -> Result<()> {
        let keys = &self.node(sides.right.node).keys;
        if keys.is_empty() {
            let message = "Temporal Table Join requires primary key in versioned table, but no primary key can be found.";
            return Err(Error::plan(message).hint("declare PRIMARY KEY (…) NOT ENFORCED, or make a view that keeps the last row per key"));
        }
        if keys.iter().any(|k| k.iter().all(|c| sides.spec.right_keys.contains(c))) {
            return Ok(());
        }
        Err(Error::plan("Temporal table's primary key must be included in the equivalence condition of temporal join")
            .hint("compare all columns of the key with ="))
    }

    /// Columns of a relation that are its table's key, as far as it only picks columns.
    fn key_columns(&self, rel: &Rel) -> Option<Vec<usize>> {
        match &rel.kind {
            RelKind::Scan { table, columns, .. } => {
                let key = table.primary_key.as_ref()?;
                key.iter().map(|k| columns.iter().position(|c| c == k)).collect()
            }
            RelKind::Project { input, exprs } => {
                let key = self.key_columns(input)?;
                key.iter().map(|k| exprs.iter().position(|e| e.as_column() == Some(*k))).collect()
            }
            RelKind::Watermark { input, .. } | RelKind::Filter { input, .. } => self.key_columns(input),
            RelKind::Shared { input, .. } => self.key_columns(input),
            _ => None,
        }
    }
}
