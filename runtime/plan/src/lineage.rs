//! For each column of each node a text that says where its values come from: `orders.user_id`, `SUM(orders.price)`. Names that a
//! query gives its columns are not in it, so state that is addressed by it survives their change.

use sluice_batch::Expr;
use sluice_batch::aggregate::AggregateCall;
use sluice_batch::algebra::{MatchClause, MatchExpr, MatchSlotKind, OverCall, WindowProperty};
use sluice_operators::spec::{OperatorSpec, WindowInput};

use crate::NodeKind;
use crate::node::PNode;

/// The texts of all nodes, inputs before consumers.
pub(crate) fn lineage(nodes: &[PNode]) -> Vec<Vec<String>> {
    let mut out: Vec<Vec<String>> = vec![];
    for node in nodes {
        let inputs: Vec<&[String]> = node.inputs.iter().map(|(n, _)| out[*n].as_slice()).collect();
        let mut texts = of_node(node, &inputs);
        texts.truncate(node.schema.len());
        // What the planner itself added behind: window bounds, ids of grouping sets, ranks.
        for c in node.schema.iter().skip(texts.len()) {
            texts.push(c.name.clone());
        }
        out.push(texts.into_iter().map(|t| short(&t)).collect());
    }
    out
}

fn of_node(node: &PNode, inputs: &[&[String]]) -> Vec<String> {
    let first = inputs.first().copied().unwrap_or(&[]);
    let pick = |c: &usize| first.get(*c).cloned().unwrap_or_default();
    let NodeKind::Operator(spec) = &node.kind else {
        return match &node.kind {
            NodeKind::Source { table, .. } => node.schema.iter().map(|c| format!("{}.{}", table.name, c.name)).collect(),
            _ => first.to_vec(),
        };
    };
    match spec {
        OperatorSpec::Calc { project: Some(exprs), .. } => exprs.iter().map(|e| canonical(e, first)).collect(),
        OperatorSpec::Unnest(s) => {
            let element = |c: &usize| format!("UNNEST({}).{c}", canonical(&s.expr, first));
            s.keep.iter().map(pick).chain(s.element.iter().map(element)).collect()
        }
        OperatorSpec::GroupAggregate(s) => s.keys.iter().map(pick).chain(s.calls.iter().map(|c| call(c, first))).collect(),
        OperatorSpec::WindowAggregate(s) => {
            let bounds = match &s.window {
                WindowInput::Assign { time, window, .. } => bounds(&crate::explain::window(window, &pick(time))),
                WindowInput::Attached { start, end } => vec![pick(start), pick(end), format!("window_time of {}", pick(end))],
            };
            s.keys.iter().map(pick).chain(s.calls.iter().map(|c| call(c, first))).chain(bounds).collect()
        }
        OperatorSpec::GroupWindow(s) => {
            let window = crate::explain::window(&s.window, &pick(&s.time));
            let property = |p: &WindowProperty| format!("{p:?} of {window}");
            let calls = s.calls.iter().map(|c| call(c, first));
            s.keys.iter().map(pick).chain(calls).chain(s.properties.iter().map(property)).collect()
        }
        OperatorSpec::WindowTvf(s) => first.iter().cloned().chain(bounds(&crate::explain::window(&s.window, &pick(&s.time)))).collect(),
        OperatorSpec::Over(s) => first.iter().cloned().chain(s.calls.iter().map(|c| format!("{} OVER", over_call(c, first)))).collect(),
        OperatorSpec::TopN(_) | OperatorSpec::WindowTopN(_) => first.iter().cloned().chain(["ROW_NUMBER()".to_owned()]).collect(),
        OperatorSpec::MatchRecognize(s) => {
            let measure = |(_, m): &(String, MatchExpr)| match_expr(m, &s.clause, first);
            s.clause.partition_by.iter().map(pick).chain(s.clause.measures.iter().map(measure)).collect()
        }
        OperatorSpec::ToChangelog(_) => ["op".to_owned()].into_iter().chain(first.iter().cloned()).collect(),
        OperatorSpec::FromChangelog(s) => {
            first.iter().enumerate().filter(|(i, _)| *i != s.op_column).map(|(_, text)| text.clone()).collect()
        }
        OperatorSpec::Union => {
            let all = |i: usize| {
                let mut texts: Vec<&str> = inputs.iter().filter_map(|c| c.get(i)).map(String::as_str).collect();
                texts.dedup();
                texts.join("|")
            };
            (0..first.len()).map(all).collect()
        }
        OperatorSpec::LookupJoin(s) => {
            let fetched = s.request.columns.iter().map(|c| format!("{}.{}", s.table.name, s.table.physical[*c].name));
            let fetched: Vec<String> = fetched.collect();
            first.iter().cloned().chain(s.project.iter().map(|e| canonical(e, &fetched))).collect()
        }
        OperatorSpec::SetOperation(_) => first.to_vec(),
        // What they give is their own; of the router's rows all but the front is of the event.
        OperatorSpec::RuleCatalog(_) | OperatorSpec::RuleEvaluation(_) => vec![],
        OperatorSpec::RuleRouter(_) => ["key".to_owned(), "change".to_owned()].into_iter().chain(first.iter().cloned()).collect(),
        _ if inputs.len() > 1 => inputs.concat(),
        _ => first.to_vec(),
    }
}

/// The columns that a window adds.
fn bounds(window: &str) -> Vec<String> {
    ["window_start", "window_end", "window_time"].iter().map(|c| format!("{c} of {window}")).collect()
}

/// An expression with its columns' texts in it.
pub(crate) fn canonical(expr: &Expr, columns: &[String]) -> String {
    fill(&expr.to_string(), columns)
}

/// Puts texts in for `$0`, `$1`, ….
fn fill(text: &str, columns: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
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

/// `SUM(orders.price)`, `COUNT(DISTINCT orders.user_id) FILTER (orders.valid)`, `COUNT(*)`.
pub(crate) fn call(call: &AggregateCall, columns: &[String]) -> String {
    let of = |i: &usize| columns.get(*i).map_or("?", String::as_str);
    let args: Vec<&str> = call.args.iter().map(of).collect();
    let args = if args.is_empty() { "*".to_owned() } else { args.join(", ") };
    let filter = call.filter.map(|f| format!(" FILTER ({})", of(&f))).unwrap_or_default();
    format!("{}({}{args}){filter}", call.function.name(), if call.distinct { "DISTINCT " } else { "" })
}

fn over_call(over: &OverCall, columns: &[String]) -> String {
    let of = |i: &usize| columns.get(*i).map_or("?", String::as_str);
    match over {
        OverCall::Aggregate(c) => call(c, columns),
        OverCall::RowNumber { .. } => "ROW_NUMBER()".into(),
        OverCall::Rank { .. } => "RANK()".into(),
        OverCall::DenseRank { .. } => "DENSE_RANK()".into(),
        OverCall::Lag { arg, offset, .. } => format!("LAG({}, {offset})", of(arg)),
        OverCall::FirstValue { arg, .. } => format!("FIRST_VALUE({})", of(arg)),
        OverCall::LastValue { arg, .. } => format!("LAST_VALUE({})", of(arg)),
        OverCall::Ntile { buckets, .. } => format!("NTILE({buckets})"),
        OverCall::PercentRank { .. } => "PERCENT_RANK()".into(),
        OverCall::CumeDist { .. } => "CUME_DIST()".into(),
    }
}

fn match_expr(expr: &MatchExpr, clause: &MatchClause, columns: &[String]) -> String {
    let names = |variables: &[usize]| {
        let names: Vec<&str> = variables.iter().filter_map(|v| clause.pattern.get(*v)).map(|p| p.variable.as_str()).collect();
        names.join("|")
    };
    let slot = |kind: &MatchSlotKind| match kind {
        MatchSlotKind::Navigate { variables, last, offset, arg } => {
            format!("{}({}.{}, {offset})", if *last { "LAST" } else { "FIRST" }, names(variables), canonical(arg, columns))
        }
        MatchSlotKind::Aggregate { variables, call, args } => {
            let args: Vec<String> = args.iter().map(|a| canonical(a, columns)).collect();
            format!("{}({}.{})", call.function.name(), names(variables), args.join(", "))
        }
        MatchSlotKind::Rowtime => "MATCH_ROWTIME()".into(),
        MatchSlotKind::Proctime => "MATCH_PROCTIME()".into(),
    };
    let slots: Vec<String> = expr.slots.iter().map(|s| slot(&s.kind)).collect();
    canonical(&expr.expr, &slots)
}

/// Long texts as their hash.
pub(crate) fn short(text: &str) -> String {
    if text.len() <= 120 { text.to_string() } else { format!("#{:016x}", hash(text)) }
}

/// FNV-1a: stable over versions and machines, which `DefaultHasher` does not promise.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
