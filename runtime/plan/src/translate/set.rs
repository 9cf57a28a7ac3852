//! UNION ALL, INTERSECT, EXCEPT.

use sluice_batch::Result;
use sluice_operators::spec::{OperatorSpec, SetOperationSpec};
use sluice_sql::relation::{ColumnDef, Rel};

use super::Planner;
use super::calc::set;
use crate::node::{Kinds, Needed, Stream, UpdateBefore, Wants};

impl Planner<'_> {
    pub(super) fn union(&mut self, rel: &Rel, inputs: &[Rel], needed: &Needed) -> Result<Stream> {
        let columns: Vec<usize> = needed.iter().copied().collect();
        let mut nodes = vec![];
        for input in inputs {
            let below = self.translate(input, needed)?;
            // Names and time attributes of the union, so that all inputs look alike.
            nodes.push((self.narrow(&below, &columns, &rel.schema)?, Wants::AsConsumers));
        }
        let schema: Vec<ColumnDef> = columns.iter().map(|c| rel.schema[*c].clone()).collect();
        let mut map = vec![None; rel.schema.len()];
        columns.iter().enumerate().for_each(|(i, c)| map[*c] = Some(i));
        Ok(Stream { node: self.operator(OperatorSpec::Union, nodes, schema, |_| {}), map })
    }

    /// All columns matter: rows are compared as a whole.
    pub(super) fn set_operation(&mut self, rel: &Rel, left: &Rel, right: &Rel, except: bool, all: bool) -> Result<Stream> {
        let nodes = [self.exact(left)?, self.exact(right)?];
        let insert_only = nodes.iter().all(|n| self.node(*n).kinds.insert_only());
        let spec = SetOperationSpec { input: self.node(nodes[0]).types(), except, all };
        let state = self.keyed_state("counts of all rows of both inputs");
        let width = rel.schema.len();
        let inputs = nodes.map(|n| (n, Wants::Needs)).to_vec();
        let node = self.operator(OperatorSpec::SetOperation(spec), inputs, (*rel.schema).clone(), |n| {
            n.kinds = Kinds { update: !insert_only, delete: except || !insert_only };
            n.update_before = UpdateBefore::Forced;
            n.keys = if all { vec![] } else { vec![set(0..width)] };
            n.state = state;
        });
        Ok(Stream { node, map: (0..width).map(Some).collect() })
    }
}
