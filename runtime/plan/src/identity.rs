//! Operator identity from meaning: what the operator is, the keys of its state by where their values come from, and the sink that
//! its rows go to. Filters, projections and other statements of the job do not count, so that state survives their change.

use std::collections::{BTreeSet, HashMap};

use sluice_operators::spec::{OperatorSpec, WindowInput};

use crate::NodeKind;
use crate::lineage::{hash, lineage, short};
use crate::node::PNode;

/// What is known of a node for its state's sake.
#[derive(Clone, Default)]
pub(crate) struct Identified {
    /// One a node; nodes that mean the same are told apart by a number.
    pub identity: String,
    /// The same without the sink: operators with the same meaning may take over each other's state.
    pub meaning: String,
    /// Tables that the rows go to, in the order of the statements.
    pub sinks: Vec<String>,
    /// Where each output column comes from.
    pub lineage: Vec<String>,
}

/// All nodes; those that are not used have no identity.
pub(crate) fn identify(nodes: &[PNode], used: &BTreeSet<usize>, roots: &[usize]) -> Vec<Identified> {
    let lineage = lineage(nodes);
    let sinks = sinks(nodes, roots);
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut meaning: Vec<String> = vec![];
    let mut out = vec![];
    for (at, node) in nodes.iter().enumerate() {
        let below: Vec<&str> = node.inputs.iter().map(|(i, _)| meaning[*i].as_str()).collect();
        let kind = crate::explain::name(&node.kind);
        meaning.push(match &node.kind {
            // Filters and projections are no part of the lineage.
            NodeKind::Operator(OperatorSpec::Calc { .. } | OperatorSpec::ConstraintEnforcer(_)) => below.join("+"),
            NodeKind::Source { table, .. } => short(&format!("{kind}({})", table.name)),
            node_kind => {
                let keys: Vec<String> = key_columns(node_kind).into_iter().map(|(i, c)| source(nodes, &lineage, at, i, c)).collect();
                short(&format!("{kind}({})[{}]", keys.join(","), below.join("+")))
            }
        });
        let mut identified = Identified { lineage: lineage[at].clone(), ..Identified::default() };
        if used.contains(&at) {
            identified.sinks = sinks[at].clone();
            identified.meaning = format!("{:016x}", hash(&format!("{kind} {}", meaning[at])));
            let sink = identified.sinks.first().map_or("", String::as_str);
            let base = format!("{kind}-{:016x}", hash(&format!("{kind} {sink} {}", meaning[at])));
            let n = seen.entry(base.clone()).or_default();
            *n += 1;
            identified.identity = if *n == 1 { base } else { format!("{base}-{n}") };
        }
        out.push(identified);
    }
    out
}

/// The sinks that each node's rows go to.
fn sinks(nodes: &[PNode], roots: &[usize]) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = vec![vec![]; nodes.len()];
    for root in roots {
        let name = match &nodes[*root].kind {
            NodeKind::Sink { table } => table.name.as_str(),
            _ => continue,
        };
        let mut open = vec![*root];
        while let Some(at) = open.pop() {
            if !found[at].iter().any(|s| s == name) {
                found[at].push(name.to_owned());
                open.extend(nodes[at].inputs.iter().map(|(i, _)| *i));
            }
        }
    }
    found
}

/// State keys as (input, column).
fn key_columns(kind: &NodeKind) -> Vec<(usize, usize)> {
    let NodeKind::Operator(spec) = kind else { return vec![] };
    let of = |columns: &[usize]| columns.iter().map(|c| (0, *c)).collect::<Vec<_>>();
    let join = |j: &sluice_operators::spec::JoinSpec| {
        j.left_keys.iter().map(|c| (0, *c)).chain(j.right_keys.iter().map(|c| (1, *c))).collect::<Vec<_>>()
    };
    match spec {
        OperatorSpec::GroupAggregate(s) => of(&s.keys),
        OperatorSpec::WindowAggregate(s) => {
            let time = match s.window {
                WindowInput::Assign { time, .. } => time,
                WindowInput::Attached { end, .. } => end,
            };
            of(&[&s.keys[..], &[time]].concat())
        }
        OperatorSpec::GroupWindow(s) => of(&[&s.keys[..], &[s.time]].concat()),
        OperatorSpec::Join(s) => join(s),
        OperatorSpec::IntervalJoin(s) => join(&s.join),
        OperatorSpec::WindowJoin(s) => join(&s.join),
        OperatorSpec::TemporalJoin(s) => join(&s.join),
        OperatorSpec::LateralSnapshotJoin(s) => join(&s.join),
        OperatorSpec::TopN(s) => of(&s.partition_by),
        OperatorSpec::WindowTopN(s) => of(&s.top_n.partition_by),
        OperatorSpec::Deduplicate(s) => of(&s.keys),
        OperatorSpec::Over(s) => of(&s.partition_by),
        OperatorSpec::ChangelogNormalize(s) => of(&s.key),
        OperatorSpec::UpsertMaterialize(s) => of(&s.sink_key),
        OperatorSpec::MatchRecognize(s) => of(&s.clause.partition_by),
        OperatorSpec::RuleEvaluation(s) => of(&[sluice_operators::rules::router::FRONT + s.time]),
        _ => vec![],
    }
}

fn source(nodes: &[PNode], lineage: &[Vec<String>], node: usize, input: usize, column: usize) -> String {
    let below = nodes[node].inputs.get(input).map(|(i, _)| *i);
    below.and_then(|i| lineage[i].get(column)).cloned().unwrap_or_else(|| "?".into())
}
