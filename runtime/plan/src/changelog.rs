//! Who makes -U rows: consumers ask, operators on demand make them, and where they are there but must not be,
//! they are dropped (Flink: `FlinkChangelogModeInferenceProgram`).

use std::collections::BTreeSet;

use sluice_format::ChangelogMode;
use sluice_operators::spec::{OperatorSpec, TopNSpec};

use crate::identity::Identified;
use crate::node::{PNode, UpdateBefore, Wants};
use crate::translate::Planned;
use crate::{Graph, Node, NodeKind, Properties};

/// Settles -U rows and makes the graph.
pub(crate) fn finish(planned: Planned) -> Graph {
    let Planned { mut nodes, roots, warnings } = planned;
    skip_normalize(&mut nodes, &roots);
    let used = reachable(&nodes, &roots);
    let needed = needed(&nodes, &used);
    let given = given(&nodes, &needed);
    let forced = forced(&nodes);
    let identified = crate::identity::identify(&nodes, &used, &roots);
    let mut graph = Graph { nodes: vec![], warnings };
    graph.warnings.dedup();
    let mut moved = vec![usize::MAX; nodes.len()];
    let mut without: Vec<Option<usize>> = vec![None; nodes.len()];
    for at in 0..nodes.len() {
        if !used.contains(&at) {
            continue;
        }
        let mut inputs = vec![];
        for (input, wants) in &nodes[at].inputs {
            let drop = given[*input] && (*wants == Wants::Refuses || (*wants == Wants::Avoids && !forced[*input]));
            inputs.push(match drop {
                false => moved[*input],
                true => *without[*input].get_or_insert_with(|| drop_update_before(&mut graph, moved[*input])),
            });
        }
        let mut node = Node {
            properties: properties(&nodes[at], given[at], &identified[at]),
            kind: nodes[at].kind.clone(),
            schema: nodes[at].schema.clone(),
            inputs,
        };
        set_update_before(&mut node.kind, given[at]);
        if matches!(node.kind, NodeKind::Sink { .. }) {
            node.properties.update_before = node.inputs.iter().any(|i| graph.nodes[*i].properties.update_before);
            if let Some(input) = node.inputs.first() {
                node.properties.changelog = graph.nodes[*input].properties.changelog;
            }
        }
        moved[at] = graph.nodes.len();
        graph.nodes.push(node);
    }
    graph
}

fn drop_update_before(graph: &mut Graph, input: usize) -> usize {
    let below = &graph.nodes[input];
    let mut properties = below.properties.clone();
    properties.update_before = false;
    properties.changelog = ChangelogMode::Upsert;
    properties.state = "none".into();
    properties.identity = format!("{}/drop-update-before", properties.identity);
    let node =
        Node { kind: NodeKind::Operator(OperatorSpec::DropUpdateBefore), inputs: vec![input], schema: below.schema.clone(), properties };
    graph.nodes.push(node);
    graph.nodes.len() - 1
}

fn properties(node: &PNode, update_before: bool, identified: &Identified) -> Properties {
    let changelog = match (node.kinds.insert_only(), node.kinds.update && !update_before) {
        (true, _) => ChangelogMode::InsertOnly,
        (_, true) => ChangelogMode::Upsert,
        _ => ChangelogMode::All,
    };
    Properties {
        changelog,
        update_before,
        upsert_keys: node.keys.iter().map(|k| k.iter().copied().collect()).collect(),
        rowtime: node.rowtime(),
        state: node.state.clone(),
        identity: identified.identity.clone(),
        meaning: identified.meaning.clone(),
        sinks: identified.sinks.clone(),
        lineage: identified.lineage.clone(),
    }
}

fn reachable(nodes: &[PNode], roots: &[usize]) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut open = roots.to_vec();
    while let Some(at) = open.pop() {
        if seen.insert(at) {
            open.extend(nodes[at].inputs.iter().map(|(i, _)| *i));
        }
    }
    seen
}

/// Whether some consumer needs a node's -U rows. Consumers are behind their inputs, so they are known first.
fn needed(nodes: &[PNode], used: &BTreeSet<usize>) -> Vec<bool> {
    let mut needed = vec![false; nodes.len()];
    for at in used.iter().rev() {
        for (input, wants) in &nodes[*at].inputs {
            let asks = match wants {
                Wants::Needs => true,
                Wants::AsConsumers => needed[*at],
                Wants::Refuses | Wants::Avoids => false,
            };
            needed[*input] |= asks && nodes[*input].kinds.update;
        }
    }
    needed
}

/// Whether a node's -U rows are there.
fn given(nodes: &[PNode], needed: &[bool]) -> Vec<bool> {
    let mut given = vec![false; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        given[at] = node.kinds.update
            && match node.update_before {
                UpdateBefore::Never => false,
                UpdateBefore::OnDemand => needed[at],
                UpdateBefore::Always | UpdateBefore::Forced => true,
                UpdateBefore::Forwards => node.inputs.iter().any(|(i, w)| given[*i] && *w != Wants::Refuses),
            };
    }
    given
}

/// Whether a node's -U rows may come without a +U, so that an upsert sink must see them.
fn forced(nodes: &[PNode]) -> Vec<bool> {
    let mut forced = vec![false; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        forced[at] = match node.update_before {
            UpdateBefore::Forced => true,
            UpdateBefore::Forwards => node.inputs.iter().any(|(i, _)| forced[*i]),
            _ => false,
        };
    }
    forced
}

fn set_update_before(kind: &mut NodeKind, given: bool) {
    let NodeKind::Operator(spec) = kind else { return };
    match spec {
        OperatorSpec::GroupAggregate(s) => s.emit_update_before = given,
        OperatorSpec::TopN(TopNSpec { emit_update_before, .. }) => *emit_update_before = given,
        OperatorSpec::WindowTopN(s) => s.top_n.emit_update_before = given,
        OperatorSpec::Deduplicate(s) => s.emit_update_before = given,
        OperatorSpec::ChangelogNormalize(s) => s.emit_update_before = given,
        _ => {}
    }
}

/// An upsert source needs no normalisation if its rows go as they are to a sink that takes upserts by the same key and
/// deletes with only the key.
fn skip_normalize(nodes: &mut [PNode], roots: &[usize]) {
    let used = reachable(nodes, roots);
    for at in used.iter().copied() {
        let NodeKind::Operator(OperatorSpec::ChangelogNormalize(spec)) = &nodes[at].kind else { continue };
        let input = nodes[at].inputs[0].0;
        let upserts = nodes[input].update_before == UpdateBefore::Never;
        if spec.filter.is_some() || !upserts || !takes_upserts(nodes, &used, at) {
            continue;
        }
        for node in nodes.iter_mut().skip(at + 1) {
            node.inputs.iter_mut().filter(|(i, _)| *i == at).for_each(|(i, _)| *i = input);
        }
    }
}

fn takes_upserts(nodes: &[PNode], used: &BTreeSet<usize>, at: usize) -> bool {
    let consumers: Vec<usize> = used.iter().copied().filter(|c| nodes[*c].inputs.iter().any(|(i, _)| *i == at)).collect();
    consumers.into_iter().all(|c| match &nodes[c].kind {
        NodeKind::Operator(OperatorSpec::Calc { filter: None, .. }) => takes_upserts(nodes, used, c),
        NodeKind::Sink { table } => {
            let by_key = sluice_connect::sink_info(table).is_ok_and(|i| i.delete_by_key);
            by_key && nodes[c].inputs.iter().all(|(_, w)| *w == Wants::Avoids)
        }
        _ => false,
    })
}
