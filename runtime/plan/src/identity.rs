//! Operator identity from meaning: what the operator is, the keys of its state by where their values come from, and the sink that
//! its rows go to. Filters, projections and other statements of the job do not count, so that state survives their change.

use std::collections::{BTreeSet, HashMap};

use sluice_batch::Expr;
use sluice_operators::spec::{OperatorSpec, WindowInput};

use crate::NodeKind;
use crate::node::PNode;

/// One identity a node; nodes that mean the same are told apart by a number.
pub(crate) fn identities(nodes: &[PNode], used: &BTreeSet<usize>, roots: &[usize]) -> Vec<String> {
    let lineage = lineage(nodes);
    let sinks = sinks(nodes, roots);
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut meaning: Vec<String> = vec![];
    let mut out = vec![];
    for (at, node) in nodes.iter().enumerate() {
        let below: Vec<&str> = node.inputs.iter().map(|(i, _)| meaning[*i].as_str()).collect();
        // Filters and projections are no part of the lineage.
        let mine = match &node.kind {
            NodeKind::Operator(OperatorSpec::Calc { .. } | OperatorSpec::ConstraintEnforcer(_)) => below.join("+"),
            kind => {
                let keys: Vec<String> = key_columns(kind).into_iter().map(|(i, c)| source(nodes, &lineage, at, i, c)).collect();
                short(&format!("{}({})[{}]", crate::explain::name(kind), keys.join(","), below.join("+")))
            }
        };
        meaning.push(mine);
        if !used.contains(&at) {
            out.push(String::new());
            continue;
        }
        let kind = crate::explain::name(&node.kind);
        let sink = sinks.get(&at).map_or("", String::as_str);
        let base = format!("{kind}-{:016x}", hash(&format!("{kind} {sink} {}", meaning[at])));
        let n = seen.entry(base.clone()).or_default();
        *n += 1;
        out.push(if *n == 1 { base } else { format!("{base}-{n}") });
    }
    out
}

/// The first sink that each node's rows go to.
fn sinks(nodes: &[PNode], roots: &[usize]) -> HashMap<usize, String> {
    let mut found = HashMap::new();
    for root in roots {
        let name = match &nodes[*root].kind {
            NodeKind::Sink { table } => table.name.clone(),
            _ => String::new(),
        };
        let mut open = vec![*root];
        while let Some(at) = open.pop() {
            if let std::collections::hash_map::Entry::Vacant(entry) = found.entry(at) {
                entry.insert(name.clone());
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
        _ => vec![],
    }
}

fn source(nodes: &[PNode], lineage: &[Vec<String>], node: usize, input: usize, column: usize) -> String {
    let below = nodes[node].inputs.get(input).map(|(i, _)| *i);
    below.and_then(|i| lineage[i].get(column)).cloned().unwrap_or_else(|| "?".into())
}

/// For each column of each node a text that says where its values come from: `orders.user_id`, `SUM(orders.price)`.
fn lineage(nodes: &[PNode]) -> Vec<Vec<String>> {
    let mut out: Vec<Vec<String>> = vec![];
    for node in nodes {
        let input = |i: usize| node.inputs.get(i).map_or(&[][..], |(n, _)| out[*n].as_slice());
        let pick = |c: &usize| input(0).get(*c).cloned().unwrap_or_default();
        let mut texts: Vec<String> = match &node.kind {
            NodeKind::Source { table, .. } => node.schema.iter().map(|c| format!("{}.{}", table.name, c.name)).collect(),
            NodeKind::Operator(OperatorSpec::Calc { project: Some(exprs), .. }) => exprs.iter().map(|e| canonical(e, input(0))).collect(),
            NodeKind::Operator(OperatorSpec::Unnest(s)) => {
                let element = |c: &usize| format!("UNNEST({}).{c}", canonical(&s.expr, input(0)));
                s.keep.iter().map(pick).chain(s.element.iter().map(element)).collect()
            }
            NodeKind::Operator(OperatorSpec::GroupAggregate(s)) => {
                s.keys.iter().map(pick).chain(s.calls.iter().map(|c| call(c, input(0)))).collect()
            }
            NodeKind::Operator(OperatorSpec::WindowAggregate(s)) => {
                s.keys.iter().map(pick).chain(s.calls.iter().map(|c| call(c, input(0)))).collect()
            }
            NodeKind::Operator(OperatorSpec::Expand(_)) => input(0).to_vec(),
            NodeKind::Operator(_) if node.inputs.len() > 1 => {
                (0..node.inputs.len()).flat_map(|i| input(i).to_vec()).take(node.schema.len()).collect()
            }
            _ => input(0).to_vec(),
        };
        texts.truncate(node.schema.len());
        for c in node.schema.iter().skip(texts.len()) {
            texts.push(c.name.clone());
        }
        out.push(texts.into_iter().map(|t| short(&t)).collect());
    }
    out
}

fn canonical(expr: &Expr, columns: &[String]) -> String {
    let text = expr.to_string();
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        let digits = from[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len() - 1);
        out.push_str(before);
        match from[1..=digits].parse::<usize>().ok().and_then(|i| columns.get(i)) {
            Some(column) => out.push_str(column),
            None => out.push_str(&from[..=digits]),
        }
        rest = &from[digits + 1..];
    }
    out + rest
}

fn call(call: &sluice_batch::aggregate::AggregateCall, columns: &[String]) -> String {
    let args: Vec<&str> = call.args.iter().filter_map(|a| columns.get(*a)).map(String::as_str).collect();
    format!("{}({}{})", call.function.name(), if call.distinct { "DISTINCT " } else { "" }, args.join(","))
}

/// Long texts as their hash.
fn short(text: &str) -> String {
    if text.len() <= 120 { text.to_string() } else { format!("#{:016x}", hash(text)) }
}

/// FNV-1a: stable over versions and machines, which `DefaultHasher` does not promise.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
