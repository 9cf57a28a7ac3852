//! Filters and projections: one Calc, merged with the one below where nothing costly is evaluated twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_batch::{Batch, EvalContext, Expr, ExprKind, Result};
use sluice_operators::spec::OperatorSpec;
use sluice_sql::relation::{ColumnDef, Rel};

use super::Planner;
use crate::NodeKind;
use crate::expressions::{columns, conjunction, conjuncts};
use crate::keys;
use crate::node::{Kinds, Needed, PNode, Stream, UpdateBefore, Wants};
use crate::rewrite::{may_merge, substitute};

impl Planner<'_> {
    pub(super) fn project(&mut self, rel: &Rel, input: &Rel, exprs: &[Expr], needed: &Needed) -> Result<Stream> {
        let used: Needed = needed.iter().filter_map(|c| exprs.get(*c)).flat_map(columns).collect();
        let below = self.translate(input, &used)?;
        let mut map = vec![None; exprs.len()];
        // Columns that are only picked need no operator.
        if needed.iter().all(|c| exprs[*c].as_column().is_some()) {
            for c in needed {
                map[*c] = Some(below.column(exprs[*c].as_column().unwrap_or_default())?);
            }
            return Ok(Stream { node: below.node, map });
        }
        let mut project = vec![];
        for c in needed {
            map[*c] = Some(project.len());
            project.push((below.expr(&exprs[*c])?, rel.schema[*c].clone()));
        }
        Ok(Stream { node: self.calc(below.node, None, Some(project)), map })
    }

    pub(super) fn filter(&mut self, rel: &Rel, input: &Rel, predicate: &Expr, needed: &Needed) -> Result<Stream> {
        if let Some(ranked) = self.rank(rel, input, predicate, needed)? {
            return Ok(ranked);
        }
        let used: Needed = needed.iter().copied().chain(columns(predicate)).collect();
        let below = self.translate(input, &used)?;
        let predicate = below.expr(predicate)?;
        Ok(Stream { node: self.calc(below.node, Some(predicate), None), map: below.map })
    }

    /// A Calc over `node`: filter, then project (`None`: all columns).
    pub(crate) fn calc(&mut self, node: usize, filter: Option<Expr>, project: Option<Vec<(Expr, ColumnDef)>>) -> usize {
        let (node, filter) = self.filter_into_normalize(node, filter);
        let (node, filter) = self.filter_into_unnest(node, filter);
        if let Some((below, filter, project)) = self.merged(node, &filter, &project) {
            return self.new_calc(below, filter, project);
        }
        if filter.is_none() && project.is_none() {
            return node;
        }
        self.new_calc(node, filter, project)
    }

    /// The Calc below and the new one as one.
    fn merged(
        &self,
        node: usize,
        filter: &Option<Expr>,
        project: &Option<Vec<(Expr, ColumnDef)>>,
    ) -> Option<(usize, Option<Expr>, Option<Vec<(Expr, ColumnDef)>>)> {
        let below = self.node(node);
        let NodeKind::Operator(OperatorSpec::Calc { filter: below_filter, project: below_project }) = &below.kind else { return None };
        let input = below.inputs.first()?.0;
        let Some(exprs) = below_project else {
            let all = below_filter.iter().chain(filter).cloned().collect();
            return Some((input, conjunction(all), project.clone()));
        };
        let new: Vec<&Expr> = filter.iter().chain(project.iter().flatten().map(|(e, _)| e)).collect();
        // Without a new projection all columns are used once more.
        let kept = below.types().into_iter().enumerate().map(|(i, ty)| Expr::column(i, ty)).collect::<Vec<_>>();
        let kept = if project.is_none() { kept.as_slice() } else { &[] };
        let random = exprs.iter().any(|e| !e.is_deterministic());
        if random && filter.is_some() || !may_merge(new.into_iter().chain(kept), exprs) {
            return None;
        }
        let mut conditions: Vec<Expr> = below_filter.iter().flat_map(conjuncts).collect();
        conditions.extend(filter.iter().flat_map(conjuncts).map(|f| substitute(&f, exprs)));
        let project = match project {
            None => exprs.iter().cloned().zip(below.schema.iter().cloned()).collect(),
            Some(new) => new.iter().map(|(e, c)| (substitute(e, exprs), c.clone())).collect(),
        };
        Some((input, conjunction(conditions), Some(project)))
    }

    fn new_calc(&mut self, node: usize, filter: Option<Expr>, project: Option<Vec<(Expr, ColumnDef)>>) -> usize {
        let input = self.node(node);
        // Nothing to do: all columns as they are.
        let identity =
            |p: &Vec<(Expr, ColumnDef)>| p.len() == input.schema.len() && p.iter().enumerate().all(|(i, (e, _))| e.as_column() == Some(i));
        let project = project.filter(|p| !identity(p));
        if filter.is_none() && project.is_none() {
            return node;
        }
        let keys = match &project {
            None => input.keys.clone(),
            Some(p) => keys::project(&input.keys, p.iter().map(|(e, _)| e)),
        };
        // A filter on more than the key can let a -U pass and stop its +U: both must reach it (FLINK-9528).
        let splits = filter.as_ref().is_some_and(|f| {
            let used = columns(f);
            input.kinds.update && !input.keys.iter().any(|k| used.is_subset(k))
        });
        let schema = match &project {
            None => (*input.schema).clone(),
            Some(p) => p.iter().map(|(_, c)| c.clone()).collect(),
        };
        let spec = OperatorSpec::Calc { filter, project: project.map(|p| p.into_iter().map(|(e, _)| e).collect()) };
        let wants = if splits { Wants::Needs } else { Wants::AsConsumers };
        self.operator(spec, vec![(node, wants)], schema, |n| {
            n.keys = keys;
            if splits {
                n.update_before = UpdateBefore::Forced;
            }
        })
    }

    /// A filter right above a ChangelogNormalize, also one of the watermark, goes into it: rows that do not pass are no state
    /// (Flink: `PushFilterPastChangelogNormalizeRule`).
    fn filter_into_normalize(&mut self, node: usize, filter: Option<Expr>) -> (usize, Option<Expr>) {
        let Some(filter) = filter else { return (node, None) };
        let below = self.node(node);
        match &below.kind {
            NodeKind::Operator(OperatorSpec::ChangelogNormalize(spec)) if is_stable(&filter) => {
                let mut spec = spec.clone();
                spec.filter = conjunction(spec.filter.iter().cloned().chain([filter]).collect());
                let changed = PNode { kind: NodeKind::Operator(OperatorSpec::ChangelogNormalize(spec)), ..below.clone() };
                (self.arena.add(changed), None)
            }
            _ => (node, Some(filter)),
        }
    }

    /// What a filter right above an Unnest says of the elements alone goes into it: the columns beside them are copied for fewer rows.
    fn filter_into_unnest(&mut self, node: usize, filter: Option<Expr>) -> (usize, Option<Expr>) {
        let Some(filter) = filter else { return (node, None) };
        let below = self.node(node);
        let NodeKind::Operator(OperatorSpec::Unnest(spec)) = &below.kind else { return (node, Some(filter)) };
        let width = spec.keep.len();
        let of_element = |e: &Expr| !spec.outer && e.is_deterministic() && columns(e).iter().all(|c| *c >= width);
        // A condition that can fail sees no more rows than before: those behind it stay above.
        let all = conjuncts(&filter);
        let first_above = all.iter().position(|e| !of_element(e)).unwrap_or(all.len());
        let (inside, above): (Vec<_>, Vec<_>) =
            all.into_iter().enumerate().partition(|(i, e)| of_element(e) && (*i < first_above || !e.can_fail()));
        if inside.is_empty() {
            return (node, Some(filter));
        }
        let shifted = inside.into_iter().map(|(_, e)| e.map_columns(&|c, ty| Expr::column(c - width, ty.clone())));
        let mut spec = spec.clone();
        spec.filter = conjunction(spec.filter.iter().cloned().chain(shifted).collect());
        let changed = PNode { kind: NodeKind::Operator(OperatorSpec::Unnest(spec)), ..below.clone() };
        (self.arena.add(changed), conjunction(above.into_iter().map(|(_, e)| e).collect()))
    }

    pub(super) fn values(&mut self, rel: &Rel, rows: &[Vec<Expr>]) -> Result<Stream> {
        let map = (0..rel.schema.len()).map(Some).collect();
        let types: Vec<_> = rel.schema.iter().map(|c| c.ty.clone()).collect();
        if rows.iter().flatten().all(Expr::is_deterministic) {
            let batch = constant_batch(rows, &types, self.settings.time_zone)?;
            return Ok(Stream { node: self.values_node(batch, (*rel.schema).clone()), map });
        }
        // Values that are made when the job runs (CURRENT_TIMESTAMP, UUID()).
        let mut inputs = vec![];
        for row in rows {
            let one = self.values_node(Batch::new(vec![], 1), vec![]);
            let project = row.iter().cloned().zip(rel.schema.iter().cloned()).collect();
            inputs.push((self.calc(one, None, Some(project)), Wants::AsConsumers));
        }
        if let [(only, _)] = inputs[..] {
            return Ok(Stream { node: only, map });
        }
        Ok(Stream { node: self.operator(OperatorSpec::Union, inputs, (*rel.schema).clone(), |_| {}), map })
    }

    fn values_node(&mut self, batch: Batch, schema: Vec<ColumnDef>) -> usize {
        self.arena.add(PNode {
            kind: NodeKind::Values { batch },
            inputs: vec![],
            schema: Arc::new(schema),
            kinds: Kinds::INSERT_ONLY,
            update_before: UpdateBefore::Never,
            keys: vec![],
            bounded: true,
            event_time: false,
            state: "none".into(),
        })
    }
}

/// Equal for a row wherever in the operator it is evaluated.
fn is_stable(filter: &Expr) -> bool {
    let mut stable = true;
    filter.walk(&mut |e| {
        if let ExprKind::Call { function, .. } = &e.kind {
            stable &= function.deterministic() || function.name() == "CURRENT_WATERMARK";
        }
    });
    stable
}

/// Rows of constant expressions as a batch.
fn constant_batch(rows: &[Vec<Expr>], types: &[sluice_batch::SqlType], time_zone: chrono_tz::Tz) -> Result<Batch> {
    let context = EvalContext { time_zone, ..EvalContext::default() };
    let one = Batch::new(vec![], 1);
    let mut columns = vec![];
    for (i, ty) in types.iter().enumerate() {
        let mut values = vec![];
        for row in rows {
            let array = match row.get(i) {
                Some(expr) => expr.eval_array(&one, &context).map_err(sluice_batch::Error::into_plan)?,
                None => sluice_batch::datum::to_array(&sluice_batch::Datum::Null, ty)?,
            };
            let array = if *array.data_type() == ty.to_arrow() { array } else { arrow::compute::cast(&array, &ty.to_arrow())? };
            values.push(array);
        }
        columns.push(match values.is_empty() {
            true => arrow::array::new_empty_array(&ty.to_arrow()),
            false => arrow::compute::concat(&values.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        });
    }
    Ok(Batch::new(columns, rows.len()))
}

/// A set of positions.
pub(super) fn set(columns: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
    columns.into_iter().collect()
}
