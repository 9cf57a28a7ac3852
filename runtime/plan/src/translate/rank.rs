//! A filter on a row number: Top-N, deduplication, and both within windows.

use sluice_batch::{Datum, Error, Expr, Result};
use sluice_operators::spec::{DeduplicateSpec, OperatorSpec, RankKind, TopNSpec, WindowTopNSpec};
use sluice_sql::relation::{OverCall, Rel, RelKind, SortKey};

use super::Planner;
use super::calc::set;
use super::over::remap_keys;
use crate::expressions::{comparison, conjunction, conjuncts, constant, mirrored, without_casts};
use crate::node::{Kinds, Needed, Stream, UpdateBefore, Wants};
use crate::time::{is_proctime, is_rowtime, window_columns};

/// What is asked of a Top-N.
struct Ranked<'a> {
    rel: &'a Rel,
    input: &'a Rel,
    partition_by: &'a [usize],
    order_by: &'a [SortKey],
    kind: RankKind,
    from: u64,
    to: u64,
    /// The rank's value is used above.
    emit_rank: bool,
}

impl Planner<'_> {
    /// A Top-N or deduplication if `predicate` bounds the rank that `input` computes.
    pub(super) fn rank(&mut self, rel: &Rel, input: &Rel, predicate: &Expr, needed: &Needed) -> Result<Option<Stream>> {
        let RelKind::Over { input: below, partition_by, order_by, calls, .. } = &input.kind else { return Ok(None) };
        let kind = match &calls[..] {
            [OverCall::RowNumber { .. }] => RankKind::RowNumber,
            [OverCall::Rank { .. }] => RankKind::Rank,
            [OverCall::DenseRank { .. }] => RankKind::DenseRank,
            _ => return Ok(None),
        };
        let rank = below.schema.len();
        let (mut from, mut to, mut rest) = (1u64, None::<u64>, vec![]);
        for conjunct in conjuncts(predicate) {
            match rank_bound(&conjunct, rank) {
                Some((low, high)) => {
                    from = from.max(low);
                    to = high.map_or(to, |h| Some(to.map_or(h, |t| t.min(h))));
                }
                None => rest.push(conjunct),
            }
        }
        let Some(to) = to else {
            if from > 1 {
                let message = "Rank end is not specified. Currently rank only support TopN, which means the rank end must be specified.";
                return Err(Error::plan(message));
            }
            return Ok(None);
        };
        let rest = conjunction(rest);
        let mut used = needed.clone();
        used.extend(rest.iter().flat_map(crate::expressions::columns));
        let emit_rank = used.remove(&rank);
        if to < from {
            let below = self.rank_input(below, &used, partition_by, order_by)?;
            let mut map = below.map;
            map.push(None);
            let project = self.with_rank_one(Stream { node: below.node, map }, rel, emit_rank)?;
            return Ok(Some(Stream { node: self.calc(project.node, Some(Expr::boolean(false)), None), map: project.map }));
        }
        let ranked = Ranked { rel, input: below, partition_by, order_by, kind, from, to, emit_rank };
        let stream = self.ranked(&ranked, &used)?;
        let Some(rest) = rest else { return Ok(Some(stream)) };
        let rest = stream.expr(&rest)?;
        Ok(Some(Stream { node: self.calc(stream.node, Some(rest), None), map: stream.map }))
    }

    /// The rows to rank with all columns that matter.
    fn rank_input(&mut self, input: &Rel, used: &Needed, partition_by: &[usize], order_by: &[SortKey]) -> Result<Stream> {
        let used: Needed = used.iter().copied().chain(partition_by.iter().copied()).chain(order_by.iter().map(|k| k.column)).collect();
        let below = self.translate(input, &used)?;
        self.narrow_to(&below, &used, &input.schema)
    }

    fn ranked(&mut self, r: &Ranked<'_>, used: &Needed) -> Result<Stream> {
        let window = window_columns(r.input).filter(|w| {
            let partitioned = |c: Option<usize>| c.is_some_and(|c| r.partition_by.contains(&c));
            partitioned(w.start) && partitioned(w.end) && !w.proctime
        });
        let mut used = used.clone();
        used.extend(window.iter().filter_map(|w| w.end));
        let below = self.rank_input(r.input, &used, r.partition_by, r.order_by)?;
        let ltz = window.as_ref().is_some_and(|w| w.ltz);
        let window_end = window.and_then(|w| w.end).map(|c| below.column(c)).transpose()?;
        let insert_only = self.node(below.node).kinds.insert_only();
        if insert_only && r.kind == RankKind::RowNumber && (r.from, r.to) == (1, 1) && self.is_time_order(r) {
            return self.deduplicate(r, below, window_end);
        }
        if window_end.is_some() {
            self.require_insert_only(below.node, "WindowRank")?;
        }
        let node = self.node(below.node);
        let spec = TopNSpec {
            input: node.types(),
            partition_by: below.columns(r.partition_by)?,
            order_by: remap_keys(r.order_by, &|c| below.column(c))?,
            from: r.from,
            to: r.to,
            emit_rank: r.emit_rank,
            rank: r.kind,
            retracting: !insert_only,
            upsert_key: node.keys.first().map(|k| k.iter().copied().collect()),
            emit_update_before: true,
            state_ttl: self.settings.state_ttl,
        };
        let mut schema = (*node.schema).clone();
        let mut map = below.map.clone();
        map.push(r.emit_rank.then_some(schema.len()));
        if r.emit_rank {
            schema.extend(r.rel.schema.last().cloned());
        }
        let keys = self.rank_keys(r, &spec, below.node);
        if let Some(window_end) = window_end {
            let spec = OperatorSpec::WindowTopN(WindowTopNSpec { top_n: spec, window_end, ltz });
            let node = self.operator(spec, vec![(below.node, Wants::AsConsumers)], schema, |n| {
                n.update_before = UpdateBefore::Never;
                n.keys = keys;
                n.state = "window".into();
            });
            return Ok(Stream { node, map });
        }
        let wants = if insert_only { Wants::AsConsumers } else { Wants::Needs };
        let state = match insert_only {
            true => self.keyed_state(&format!("{} rows per partition", r.to)),
            false => self.keyed_state("all rows per partition"),
        };
        // LIMIT without an order: the first rows stay.
        let fixed = insert_only && r.order_by.is_empty();
        let node = self.operator(OperatorSpec::TopN(spec), vec![(below.node, wants)], schema, |n| {
            n.kinds = if fixed { Kinds::INSERT_ONLY } else { Kinds::ALL };
            n.update_before = if fixed { UpdateBefore::Never } else { UpdateBefore::OnDemand };
            n.keys = keys;
            n.state = state;
        });
        Ok(Stream { node, map })
    }

    fn rank_keys(&self, r: &Ranked<'_>, spec: &TopNSpec, input: usize) -> Vec<std::collections::BTreeSet<usize>> {
        let mut keys = vec![];
        let partition = set(spec.partition_by.iter().copied());
        if r.kind == RankKind::RowNumber && r.from == r.to {
            keys.push(partition);
        } else if r.kind == RankKind::RowNumber && r.emit_rank {
            keys.push(partition.into_iter().chain([spec.input.len()]).collect());
        }
        keys.extend(self.node(input).keys.iter().cloned());
        keys
    }

    fn is_time_order(&self, r: &Ranked<'_>) -> bool {
        matches!(r.order_by, [key] if is_rowtime(&r.input.schema[key.column]) || is_proctime(&r.input.schema[key.column]))
    }

    fn deduplicate(&mut self, r: &Ranked<'_>, below: Stream, window_end: Option<usize>) -> Result<Stream> {
        let order = &r.order_by[0];
        let proctime = is_proctime(&r.input.schema[order.column]);
        let node = self.node(below.node);
        let keys = below.columns(r.partition_by)?;
        let spec = DeduplicateSpec {
            input: node.types(),
            keys: keys.clone(),
            time: below.column(order.column)?,
            proctime,
            keep_last: order.descending,
            emit_update_before: true,
            window_end,
            mini_batch: self.settings.mini_batch,
            state_ttl: self.settings.state_ttl,
        };
        let schema = (*node.schema).clone();
        let final_rows = window_end.is_some() || (proctime && !order.descending);
        let state = match window_end {
            Some(_) => "window".to_string(),
            None => self.keyed_state("one row per key"),
        };
        let node = self.operator(OperatorSpec::Deduplicate(spec), vec![(below.node, Wants::AsConsumers)], schema, |n| {
            n.kinds = if final_rows { Kinds::INSERT_ONLY } else { Kinds { update: true, delete: false } };
            n.update_before = if final_rows { UpdateBefore::Never } else { UpdateBefore::OnDemand };
            n.keys = vec![set(keys)];
            n.state = state;
        });
        let mut map = below.map;
        map.push(None);
        self.with_rank_one(Stream { node, map }, r.rel, r.emit_rank)
    }

    /// The row number of deduplicated rows is 1.
    fn with_rank_one(&mut self, mut stream: Stream, rel: &Rel, emit_rank: bool) -> Result<Stream> {
        let (true, Some(rank)) = (emit_rank, rel.schema.last()) else { return Ok(stream) };
        let schema = self.node(stream.node).schema.clone();
        let mut project: Vec<_> = schema.iter().enumerate().map(|(i, c)| (Expr::column(i, c.ty.clone()), c.clone())).collect();
        if let Some(last) = stream.map.last_mut() {
            *last = Some(project.len());
        }
        project.push((Expr::literal(Datum::BigInt(1), rank.ty.clone()), rank.clone()));
        stream.node = self.calc(stream.node, None, Some(project));
        Ok(stream)
    }

    /// ORDER BY … LIMIT: ranks without partitions.
    pub(super) fn limit(&mut self, rel: &Rel, input: &Rel, keys: &[SortKey], limit: u64, offset: u64, needed: &Needed) -> Result<Stream> {
        let mut with_rank = (*rel.schema).clone();
        with_rank.push(crate::node::column("$rank", sluice_batch::TypeKind::BigInt.not_null()));
        let ranked_rel = Rel { schema: std::sync::Arc::new(with_rank), kind: RelKind::Values { rows: vec![] }, span: rel.span };
        let ranked = Ranked {
            rel: &ranked_rel,
            input,
            partition_by: &[],
            order_by: keys,
            kind: RankKind::RowNumber,
            from: offset.saturating_add(1),
            to: offset.saturating_add(limit),
            emit_rank: false,
        };
        if limit == 0 {
            let below = self.translate(input, needed)?;
            return Ok(Stream { node: self.calc(below.node, Some(Expr::boolean(false)), None), map: below.map });
        }
        let mut stream = self.ranked(&ranked, needed)?;
        stream.map.pop();
        Ok(stream)
    }
}

/// The ranks that a conjunct allows: from, and up to (`None`: no end).
fn rank_bound(conjunct: &Expr, rank: usize) -> Option<(u64, Option<u64>)> {
    let (op, a, b) = comparison(conjunct)?;
    let is_rank = |e: &Expr| without_casts(e).as_column() == Some(rank);
    let (op, value) = match () {
        _ if is_rank(a) => (op, constant(b)?),
        _ if is_rank(b) => (mirrored(op), constant(a)?),
        _ => return None,
    };
    let n = match value {
        Datum::Decimal(_) | Datum::Double(_) | Datum::Float(_) => return None,
        other => other.as_i64()?,
    };
    let at = |n: i64| u64::try_from(n).unwrap_or(0);
    Some(match op {
        "<" => (1, Some(at(n.saturating_sub(1)))),
        "<=" => (1, Some(at(n))),
        ">" => (at(n.saturating_add(1)), None),
        ">=" => (at(n), None),
        _ if n < 1 => (1, Some(0)),
        _ => (at(n), Some(at(n))),
    })
}
