//! Filters right above sources that can leave out rows (Flink: `PushFilterIntoTableSourceScanRule`).

use sluice_operators::spec::OperatorSpec;

use crate::expressions::{conjunction, conjuncts};
use crate::{Graph, NodeKind};

/// Tells each source what its only reader filters by, as far as it can use it. The filter stays where it is: a source may do less.
pub(crate) fn to_sources(graph: &mut Graph) {
    for at in 0..graph.nodes.len() {
        let mut readers = graph.nodes.iter().filter(|n| n.inputs.contains(&at));
        let (Some(reader), None) = (readers.next(), readers.next()) else { continue };
        let NodeKind::Operator(OperatorSpec::Calc { filter: Some(filter), .. }) = &reader.kind else { continue };
        let conditions = conjuncts(filter);
        if let NodeKind::Source { table, request } = &mut graph.nodes[at].kind {
            let usable = conditions.into_iter().filter(|c| sluice_connect::can_filter(table, request, c)).collect();
            request.filter = conjunction(usable);
        }
    }
}
