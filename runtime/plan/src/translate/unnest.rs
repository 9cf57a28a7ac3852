//! `UNNEST`: rows beside the elements of a collection.

use sluice_batch::{Expr, Result};
use sluice_operators::spec::{OperatorSpec, UnnestSpec};
use sluice_sql::relation::Rel;

use super::Planner;
use crate::expressions::columns;
use crate::node::{Needed, Stream, UpdateBefore, Wants};

impl Planner<'_> {
    pub(super) fn unnest(&mut self, rel: &Rel, input: &Rel, expr: &Expr, outer: bool, ordinality: bool, needed: &Needed) -> Result<Stream> {
        let width = input.schema.len();
        let kept: Vec<usize> = needed.iter().copied().filter(|c| *c < width).collect();
        let element: Vec<usize> = needed.iter().filter(|c| **c >= width).map(|c| c - width).collect();
        let used: Needed = kept.iter().copied().chain(columns(expr)).collect();
        let below = self.translate(input, &used)?;
        let mut map = vec![None; rel.schema.len()];
        let mut schema = vec![];
        for c in kept.iter().copied().chain(element.iter().map(|e| e + width)) {
            map[c] = Some(schema.len());
            schema.push(rel.schema[c].clone());
        }
        let spec = UnnestSpec { expr: below.expr(expr)?, outer, ordinality, keep: below.columns(&kept)?, element, filter: None };
        // An update becomes changes of many rows without a key: each must be taken back.
        let updating = self.node(below.node).kinds.update;
        let wants = if updating { Wants::Needs } else { Wants::AsConsumers };
        let node = self.operator(OperatorSpec::Unnest(spec), vec![(below.node, wants)], schema, |n| {
            if updating {
                n.update_before = UpdateBefore::Forced;
            }
        });
        Ok(Stream { node, map })
    }
}
