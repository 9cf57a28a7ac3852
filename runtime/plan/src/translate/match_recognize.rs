//! `MATCH_RECOGNIZE`.

use sluice_batch::Result;
use sluice_operators::spec::{MatchSpec, OperatorSpec};
use sluice_sql::relation::{MatchClause, MatchExpr, MatchSlotKind, Rel};

use super::Planner;
use crate::expressions::columns;
use crate::node::{Needed, Stream, UpdateBefore, Wants};

impl Planner<'_> {
    pub(super) fn match_recognize(&mut self, rel: &Rel, input: &Rel, clause: &MatchClause, needed: &Needed) -> Result<Stream> {
        let mut clause = clause.clone();
        let width = clause.partition_by.len();
        let mut map = vec![None; rel.schema.len()];
        let mut schema = rel.schema[..width].to_vec();
        (0..width).for_each(|i| map[i] = Some(i));
        let mut measures = vec![];
        for (i, measure) in clause.measures.drain(..).enumerate() {
            if needed.contains(&(width + i)) {
                map[width + i] = Some(schema.len());
                schema.push(rel.schema[width + i].clone());
                measures.push(measure);
            }
        }
        clause.measures = measures;
        let mut used: Needed = clause.partition_by.iter().copied().chain([clause.time]).collect();
        used.extend(clause.order_by.iter().map(|k| k.column));
        expressions(&mut clause, &mut |e| {
            used.extend(columns(e));
            Ok(())
        })?;
        let below = self.translate(input, &used)?;
        self.require_insert_only(below.node, "Match Recognize")?;
        let below = self.narrow_to(&below, &used, &input.schema)?;
        clause.partition_by = below.columns(&clause.partition_by)?;
        clause.time = below.column(clause.time)?;
        for key in &mut clause.order_by {
            key.column = below.column(key.column)?;
        }
        expressions(&mut clause, &mut |e| {
            *e = below.expr(e)?;
            Ok(())
        })?;
        let unbounded = clause.within.is_none() && (clause.pattern.len() > 1 || clause.pattern.iter().any(|p| p.max != Some(1)));
        if unbounded {
            let place = if rel.span.is_known() { format!("line {}: ", rel.span.line) } else { String::new() };
            self.warnings.push(format!("{place}MATCH_RECOGNIZE without WITHIN keeps rows of unfinished matches for ever"));
        }
        let state = match clause.within {
            Some(within) => format!("interval {}", crate::explain::interval(within)),
            None if unbounded => "unbounded: rows of unfinished matches (no WITHIN)".into(),
            None => "rows that wait for the watermark".into(),
        };
        let spec = MatchSpec { input: self.node(below.node).types(), clause };
        let node = self.operator(OperatorSpec::MatchRecognize(spec), vec![(below.node, Wants::AsConsumers)], schema, |n| {
            n.update_before = UpdateBefore::Never;
            n.state = state;
        });
        Ok(Stream { node, map })
    }
}

/// Visits every expression over the input's columns.
fn expressions(clause: &mut MatchClause, visit: &mut dyn FnMut(&mut sluice_batch::Expr) -> Result<()>) -> Result<()> {
    let conditions = clause.pattern.iter_mut().filter_map(|p| p.condition.as_mut());
    let measures = clause.measures.iter_mut().map(|(_, m)| m);
    let all: Vec<&mut MatchExpr> = conditions.chain(measures).collect();
    for slot in all.into_iter().flat_map(|m| m.slots.iter_mut()) {
        match &mut slot.kind {
            MatchSlotKind::Navigate { arg, .. } => visit(arg)?,
            MatchSlotKind::Aggregate { args, .. } => args.iter_mut().try_for_each(&mut *visit)?,
            MatchSlotKind::Rowtime | MatchSlotKind::Proctime => {}
        }
    }
    Ok(())
}
