//! The plan as text: one tree a sink, inputs below, each node with what is known of its rows.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use sluice_batch::aggregate::AggregateCall;
use sluice_batch::algebra::{Bound, Frame, JoinKind, OverCall, SkipTo, SortKey, WindowSpec};
use sluice_batch::{Datum, Expr, ExprKind, Millis};
use sluice_connect::ScanColumn;
use sluice_format::ChangelogMode;
use sluice_operators::spec::{JoinSpec, LookupJoinSpec, OperatorSpec, OverTime, RankKind, TopNSpec, WindowInput};

use crate::expressions::is_cast;
use crate::{Graph, Node, NodeKind};

/// The plan as `EXPLAIN` and `sluice plan` print it.
pub fn explain(graph: &Graph) -> String {
    let mut uses: HashMap<usize, usize> = HashMap::new();
    for node in &graph.nodes {
        node.inputs.iter().for_each(|i| *uses.entry(*i).or_default() += 1);
    }
    let mut printer = Printer { graph, shared: HashMap::new(), printed: HashSet::new(), out: String::new() };
    for at in 0..graph.nodes.len() {
        if uses.get(&at).is_some_and(|n| *n > 1) {
            let n = printer.shared.len() + 1;
            printer.shared.insert(at, n);
        }
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        if matches!(node.kind, NodeKind::Sink { .. } | NodeKind::Client) {
            if !printer.out.is_empty() {
                printer.out.push('\n');
            }
            printer.print(at, 0);
        }
    }
    for (i, warning) in graph.warnings.iter().enumerate() {
        printer.out.push_str(if i == 0 { "\nWarnings\n" } else { "" });
        let _ = writeln!(printer.out, "- {warning}");
    }
    printer.out
}

struct Printer<'a> {
    graph: &'a Graph,
    /// Numbers of nodes with several consumers.
    shared: HashMap<usize, usize>,
    printed: HashSet<usize>,
    out: String,
}

impl Printer<'_> {
    fn print(&mut self, at: usize, depth: usize) {
        let node = &self.graph.nodes[at];
        let indent = if depth == 0 { String::new() } else { format!("{}+- ", "   ".repeat(depth - 1)) };
        let number = self.shared.get(&at).map(|n| format!(" #{n}")).unwrap_or_default();
        if !self.printed.insert(at) {
            let _ = writeln!(self.out, "{indent}{}{number} (above)", name(&node.kind));
            return;
        }
        let inputs: Vec<Vec<String>> =
            node.inputs.iter().map(|i| self.graph.nodes[*i].schema.iter().map(|c| c.name.clone()).collect()).collect();
        let _ = writeln!(self.out, "{indent}{}{number}{}", title(&node.kind, &inputs), notes(node));
        for input in &node.inputs {
            self.print(*input, depth + 1);
        }
    }
}

/// Changelog, key, time and state of a node's rows.
fn notes(node: &Node) -> String {
    let p = &node.properties;
    let names =
        |columns: &[usize]| columns.iter().filter_map(|c| node.schema.get(*c)).map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let changelog = match (p.changelog, p.update_before) {
        (ChangelogMode::InsertOnly, _) => "append",
        (ChangelogMode::Upsert, _) => "upsert",
        (ChangelogMode::All, _) => "retract",
    };
    let mut out = format!(" changelog={changelog}");
    if p.changelog != ChangelogMode::InsertOnly
        && let Some(key) = p.upsert_keys.first()
    {
        let _ = write!(out, " key=({})", names(key));
    }
    if let Some(rowtime) = p.rowtime {
        let _ = write!(out, " rowtime={}", names(&[rowtime]));
    }
    if p.state != "none" {
        let _ = write!(out, " state=[{}]", p.state);
    }
    if let NodeKind::Sink { table } = &node.kind
        && let Ok(info) = sluice_connect::sink_info(table)
    {
        let _ = write!(out, " guarantee=[{}]", info.guarantee);
    }
    out
}

/// The operator's name.
pub fn name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Source { .. } => "Source",
        NodeKind::Values { .. } => "Values",
        NodeKind::Sink { .. } => "Sink",
        NodeKind::Client => "Client",
        NodeKind::Operator(spec) => match spec {
            OperatorSpec::Calc { .. } => "Calc",
            OperatorSpec::Unnest(_) => "Unnest",
            OperatorSpec::GroupAggregate(_) => "GroupAggregate",
            OperatorSpec::WindowAggregate(_) => "WindowAggregate",
            OperatorSpec::WindowTvf(_) => "WindowTableFunction",
            OperatorSpec::GroupWindow(_) => "GroupWindowAggregate",
            OperatorSpec::Join(_) => "Join",
            OperatorSpec::IntervalJoin(_) => "IntervalJoin",
            OperatorSpec::WindowJoin(_) => "WindowJoin",
            OperatorSpec::TemporalJoin(_) => "TemporalJoin",
            OperatorSpec::LookupJoin(_) => "LookupJoin",
            OperatorSpec::TopN(_) => "TopN",
            OperatorSpec::WindowTopN(_) => "WindowTopN",
            OperatorSpec::Deduplicate(_) => "Deduplicate",
            OperatorSpec::Over(_) => "OverAggregate",
            OperatorSpec::TemporalSort(_) => "TemporalSort",
            OperatorSpec::Sort(_) => "Sort",
            OperatorSpec::ChangelogNormalize(_) => "ChangelogNormalize",
            OperatorSpec::UpsertMaterialize(_) => "UpsertMaterialize",
            OperatorSpec::DropUpdateBefore => "DropUpdateBefore",
            OperatorSpec::ConstraintEnforcer(_) => "ConstraintEnforcer",
            OperatorSpec::MatchRecognize(_) => "MatchRecognize",
            OperatorSpec::SetOperation(s) if s.except => "Except",
            OperatorSpec::SetOperation(_) => "Intersect",
            OperatorSpec::Union => "Union",
            OperatorSpec::WatermarkAssigner(_) => "WatermarkAssigner",
            OperatorSpec::ToChangelog(_) => "ToChangelog",
            OperatorSpec::FromChangelog(_) => "FromChangelog",
            OperatorSpec::LateralSnapshotJoin(_) => "LateralSnapshotJoin",
            OperatorSpec::Expand(_) => "Expand",
            OperatorSpec::RuleCatalog(_) => "RuleCatalog",
            OperatorSpec::RuleRouter(_) => "RuleRouter",
            OperatorSpec::RuleEvaluation(_) => "RuleEvaluation",
        },
    }
}

/// The operator with its arguments: `GroupAggregate(by=[a], calls=[COUNT(*)])`. `inputs` are the inputs' column names.
pub(crate) fn title(kind: &NodeKind, inputs: &[Vec<String>]) -> String {
    let empty = vec![];
    let first = inputs.first().unwrap_or(&empty);
    let parts = match kind {
        NodeKind::Source { table, request } => source(table, request),
        NodeKind::Values { batch } => vec![format!("rows={}", batch.rows())],
        NodeKind::Sink { table } => vec![table.name.clone()],
        NodeKind::Client => vec![],
        NodeKind::Operator(spec) => operator(spec, first, inputs),
    };
    format!("{}({})", name(kind), parts.join(", "))
}

fn source(table: &sluice_connect::TableSpec, request: &sluice_connect::ScanRequest) -> Vec<String> {
    let columns: Vec<String> = request
        .columns
        .iter()
        .map(|c| match c {
            ScanColumn::Physical(i) => table.physical.get(*i).map(|f| f.name.clone()).unwrap_or_default(),
            ScanColumn::Metadata(i) => table.metadata.get(*i).map(|m| m.field.name.clone()).unwrap_or_default(),
        })
        .collect();
    let mut parts = vec![table.name.clone(), format!("columns=[{}]", columns.join(", "))];
    if let Some(watermark) = &request.watermark {
        let on_event = if watermark.on_event { " on event" } else { "" };
        parts.push(format!("watermark=[{}{on_event}]", expr(&watermark.expr, &columns)));
    }
    if let Some(filter) = &request.filter {
        parts.push(format!("filter=[{}]", expr(filter, &columns)));
    }
    parts
}

fn operator(spec: &OperatorSpec, first: &[String], inputs: &[Vec<String>]) -> Vec<String> {
    let list =
        |label: &str, columns: &[usize]| format!("{label}=[{}]", columns.iter().map(|c| column(*c, first)).collect::<Vec<_>>().join(", "));
    let mut out = vec![];
    let mut unless_empty = |label: &str, columns: &[usize]| {
        if !columns.is_empty() {
            out.push(list(label, columns));
        }
    };
    match spec {
        OperatorSpec::Calc { filter, project } => {
            if let Some(project) = project {
                out.push(format!("select=[{}]", project.iter().map(|e| expr(e, first)).collect::<Vec<_>>().join(", ")));
            }
            out.extend(filter.iter().map(|f| format!("where=[{}]", expr(f, first))));
        }
        OperatorSpec::Unnest(s) => {
            out.push(expr(&s.expr, first));
            out.extend([(s.outer, "outer"), (s.ordinality, "ordinality")].iter().filter(|(on, _)| *on).map(|(_, n)| (*n).to_string()));
            out.push(list("keep", &s.keep));
            let element = |i: &usize| if s.element.len() == 1 { "element".to_owned() } else { format!("element.{i}") };
            let names: Vec<String> = s.element.iter().map(element).collect();
            out.extend(s.filter.iter().map(|f| format!("where=[{}]", expr(f, &names))));
        }
        OperatorSpec::GroupAggregate(s) => {
            unless_empty("by", &s.keys);
            out.push(calls(&s.calls, first));
        }
        OperatorSpec::WindowAggregate(s) => {
            unless_empty("by", &s.keys);
            out.push(match &s.window {
                WindowInput::Assign { time, window: w, .. } => format!("window=[{}]", window(w, &column(*time, first))),
                WindowInput::Attached { end, .. } => format!("window=[attached, end={}]", column(*end, first)),
            });
            out.push(calls(&s.calls, first));
        }
        OperatorSpec::WindowTvf(s) => {
            unless_empty("by", &s.partition_by);
            out.push(window(&s.window, &column(s.time, first)));
        }
        OperatorSpec::GroupWindow(s) => {
            unless_empty("by", &s.keys);
            out.extend([format!("window=[{}]", window(&s.window, &column(s.time, first))), calls(&s.calls, first)]);
        }
        OperatorSpec::Join(s) => out = join(s, inputs),
        OperatorSpec::IntervalJoin(s) => {
            out = join(&s.join, inputs);
            out.push(format!("bounds=[{} .. {}]", interval(s.lower), interval(s.upper)));
        }
        OperatorSpec::WindowJoin(s) => out = join(&s.join, inputs),
        OperatorSpec::TemporalJoin(s) => out = join(&s.join, inputs),
        OperatorSpec::LateralSnapshotJoin(s) => {
            out = join(&s.join, inputs);
            out.extend(s.args.iter().map(|(n, v)| format!("{n}={v}")));
        }
        OperatorSpec::LookupJoin(s) => out = lookup_join(s, first),
        OperatorSpec::TopN(s) => out = top_n(s, first),
        OperatorSpec::WindowTopN(s) => out = top_n(&s.top_n, first),
        OperatorSpec::Deduplicate(s) => {
            unless_empty("by", &s.keys);
            out.push(format!("keep={}, time={}", if s.keep_last { "last" } else { "first" }, column(s.time, first)));
        }
        OperatorSpec::Over(s) => {
            unless_empty("by", &s.partition_by);
            if s.time != OverTime::Proctime {
                out.push(sort_keys(&s.order_by, first));
            }
            out.push(frame(&s.frame));
            out.push(format!("calls=[{}]", s.calls.iter().map(|c| over_call(c, first)).collect::<Vec<_>>().join(", ")));
        }
        OperatorSpec::TemporalSort(s) => {
            out.push(list("time", &[s.time]));
            if !s.then_by.is_empty() {
                out.push(sort_keys(&s.then_by, first));
            }
        }
        OperatorSpec::Sort(s) => out.push(sort_keys(&s.keys, first)),
        OperatorSpec::ChangelogNormalize(s) => {
            unless_empty("key", &s.key);
            out.extend(s.filter.iter().map(|f| format!("where=[{}]", expr(f, first))));
        }
        OperatorSpec::UpsertMaterialize(s) => {
            unless_empty("sink_key", &s.sink_key);
            unless_empty("upsert_key", s.upsert_key.as_deref().unwrap_or_default());
            out.extend(s.on_conflict.iter().map(|c| format!("on_conflict={c}")));
        }
        OperatorSpec::ConstraintEnforcer(s) => {
            let names: Vec<&str> = s.not_null.iter().map(|(_, n)| n.as_str()).collect();
            out.extend(
                (!names.is_empty()).then(|| format!("not_null=[{}]{}", names.join(", "), if s.drop_null_rows { " drop" } else { "" })),
            );
            let names: Vec<&str> = s.lengths.iter().map(|l| l.name.as_str()).collect();
            out.extend((!names.is_empty()).then(|| format!("length=[{}]", names.join(", "))));
            let names: Vec<&str> = s.nested.iter().map(|n| n.name.as_str()).collect();
            out.extend((!names.is_empty()).then(|| format!("nested=[{}]", names.join(", "))));
        }
        OperatorSpec::MatchRecognize(s) => {
            unless_empty("by", &s.clause.partition_by);
            out.extend(match_clause(&s.clause, first));
        }
        OperatorSpec::SetOperation(s) => out.extend(s.all.then(|| "all".to_string())),
        OperatorSpec::WatermarkAssigner(s) => out.push(expr(&s.expr, first)),
        OperatorSpec::ToChangelog(s) => out.push(format!("op={}", s.op_column)),
        OperatorSpec::FromChangelog(s) => out.push(list("op", &[s.op_column])),
        OperatorSpec::Expand(s) => out.push(format!(
            "sets=[{}]",
            s.sets
                .iter()
                .map(|set| format!(
                    "({})",
                    set.iter().filter_map(|k| s.keys.get(*k)).map(|c| column(*c, first)).collect::<Vec<_>>().join(", ")
                ))
                .collect::<Vec<_>>()
                .join(", ")
        )),
        OperatorSpec::RuleRouter(s) => out.extend(s.waits.then(|| "after all rules".to_owned())),
        OperatorSpec::RuleEvaluation(s) => out.push(list("time", &[s.time + sluice_operators::rules::router::FRONT])),
        OperatorSpec::RuleCatalog(s) => out.push(match s.rules {
            sluice_operators::spec::RuleColumns::Json(column) => list("json", &[column]),
            sluice_operators::spec::RuleColumns::Fields { keys, .. } => list("keys", &[keys]),
        }),
        OperatorSpec::DropUpdateBefore | OperatorSpec::Union => {}
    }
    out
}

fn lookup_join(spec: &LookupJoinSpec, left: &[String]) -> Vec<String> {
    let name = |physical: usize| spec.table.physical.get(physical).map_or_else(|| format!("${physical}"), |f| f.name.clone());
    let fetched: Vec<String> = spec.request.columns.iter().map(|c| name(*c)).collect();
    let keys = spec.left_keys.iter().zip(&spec.request.keys).map(|(l, (r, _))| format!("{} = {}", column(*l, left), name(*r)));
    let mut out = vec![if spec.outer { "left" } else { "inner" }.to_owned(), format!("table={}", spec.table.name)];
    out.push(format!("on=[{}]", keys.collect::<Vec<_>>().join(" AND ")));
    out.push(format!("columns=[{}]", fetched.join(", ")));
    out.extend(spec.filter.iter().map(|f| format!("filter=[{}]", expr(f, &fetched))));
    let projected = spec.project.iter().map(|e| expr(e, &fetched));
    let both: Vec<String> = left.iter().cloned().chain(projected).collect();
    out.extend(spec.condition.iter().map(|c| format!("where=[{}]", expr(c, &both))));
    out.extend(spec.cache.is_some().then(|| "cache=partial".to_owned()));
    out
}

fn join(spec: &JoinSpec, inputs: &[Vec<String>]) -> Vec<String> {
    let empty = vec![];
    let (left, right) = (inputs.first().unwrap_or(&empty), inputs.get(1).unwrap_or(&empty));
    let kind = match spec.kind {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
        JoinKind::Right => "right",
        JoinKind::Full => "full",
        JoinKind::Semi => "semi",
        JoinKind::Anti => "anti",
    };
    let keys: Vec<String> = spec
        .left_keys
        .iter()
        .zip(&spec.right_keys)
        .enumerate()
        .map(|(i, (l, r))| {
            let op = if spec.null_safe.get(i) == Some(&true) { "<=>" } else { "=" };
            format!("{} {op} {}", column(*l, left), column(*r, right))
        })
        .collect();
    let both: Vec<String> = left.iter().chain(right).cloned().collect();
    let mut out = vec![kind.to_string()];
    out.extend((!keys.is_empty()).then(|| format!("on=[{}]", keys.join(" AND "))));
    out.extend(spec.condition.iter().map(|c| format!("where=[{}]", expr(c, &both))));
    out
}

fn top_n(spec: &TopNSpec, input: &[String]) -> Vec<String> {
    let mut out = vec![];
    if !spec.partition_by.is_empty() {
        out.push(format!("by=[{}]", spec.partition_by.iter().map(|c| column(*c, input)).collect::<Vec<_>>().join(", ")));
    }
    out.push(sort_keys(&spec.order_by, input));
    let rank = match spec.rank {
        RankKind::RowNumber => "row_number",
        RankKind::Rank => "rank",
        RankKind::DenseRank => "dense_rank",
    };
    out.push(format!("{rank}={}..{}{}", spec.from, spec.to, if spec.emit_rank { " emitted" } else { "" }));
    out
}

fn match_clause(clause: &sluice_batch::algebra::MatchClause, input: &[String]) -> Vec<String> {
    let pattern: Vec<String> = clause
        .pattern
        .iter()
        .map(|p| {
            let quantifier = match (p.min, p.max) {
                (1, Some(1)) => String::new(),
                (0, Some(1)) => "?".into(),
                (0, None) => "*".into(),
                (1, None) => "+".into(),
                (n, None) => format!("{{{n},}}"),
                (n, Some(m)) if n == m => format!("{{{n}}}"),
                (n, Some(m)) => format!("{{{n},{m}}}"),
            };
            let fixed = p.max == Some(p.min) || (p.min, p.max) == (0, Some(1));
            let reluctant = if !fixed && !p.greedy { "?" } else { "" };
            format!("{}{quantifier}{reluctant}", p.variable)
        })
        .collect();
    let variable = |i: &usize| clause.pattern.get(*i).map_or("?", |p| p.variable.as_str()).to_string();
    let skip = match &clause.skip {
        SkipTo::PastLastRow => "past last row".to_string(),
        SkipTo::NextRow => "to next row".to_string(),
        SkipTo::First(v) => format!("to first {}", variable(v)),
        SkipTo::Last(v) => format!("to last {}", variable(v)),
    };
    let mut out = vec![format!("time={}", column(clause.time, input)), format!("pattern=[{}]", pattern.join(" "))];
    out.extend(clause.within.map(|w| format!("within={}", interval(w))));
    out.push(format!("skip=[{skip}]"));
    out
}

fn calls(calls: &[AggregateCall], input: &[String]) -> String {
    format!("calls=[{}]", calls.iter().map(|c| call(c, input)).collect::<Vec<_>>().join(", "))
}

fn call(call: &AggregateCall, input: &[String]) -> String {
    let args = if call.args.is_empty() { "*".into() } else { call.args.iter().map(|a| column(*a, input)).collect::<Vec<_>>().join(", ") };
    let filter = call.filter.map(|f| format!(" FILTER {}", column(f, input))).unwrap_or_default();
    format!("{}({}{args}){filter}", call.function.name(), if call.distinct { "DISTINCT " } else { "" })
}

fn over_call(over: &OverCall, input: &[String]) -> String {
    match over {
        OverCall::Aggregate(c) => call(c, input),
        OverCall::RowNumber { .. } => "ROW_NUMBER()".into(),
        OverCall::Rank { .. } => "RANK()".into(),
        OverCall::DenseRank { .. } => "DENSE_RANK()".into(),
        OverCall::Lag { arg, offset, .. } if *offset < 0 => format!("LEAD({}, {})", column(*arg, input), -offset),
        OverCall::Lag { arg, offset, .. } => format!("LAG({}, {offset})", column(*arg, input)),
        OverCall::FirstValue { arg, .. } => format!("FIRST_VALUE({})", column(*arg, input)),
        OverCall::LastValue { arg, .. } => format!("LAST_VALUE({})", column(*arg, input)),
        OverCall::Ntile { buckets, .. } => format!("NTILE({buckets})"),
        OverCall::PercentRank { .. } => "PERCENT_RANK()".into(),
        OverCall::CumeDist { .. } => "CUME_DIST()".into(),
    }
}

pub(crate) fn frame(frame: &Frame) -> String {
    let bound = |b: &Bound| match b {
        Bound::Unbounded => "unbounded".to_string(),
        Bound::Preceding(0) | Bound::Following(0) => "current".into(),
        Bound::Preceding(n) => format!("-{n}"),
        Bound::Following(n) => format!("+{n}"),
    };
    format!("{}=[{} .. {}]", if frame.rows { "rows" } else { "range" }, bound(&frame.start), bound(&frame.end))
}

pub(crate) fn sort_keys(keys: &[SortKey], input: &[String]) -> String {
    let key = |k: &SortKey| {
        let direction = if k.descending { " DESC" } else { "" };
        // NULLs are the smallest unless said otherwise.
        let nulls = match (k.nulls_first, k.descending) {
            (true, true) => " NULLS FIRST",
            (false, false) => " NULLS LAST",
            _ => "",
        };
        format!("{}{direction}{nulls}", column(k.column, input))
    };
    format!("order=[{}]", keys.iter().map(key).collect::<Vec<_>>().join(", "))
}

pub(crate) fn window(spec: &WindowSpec, time: &str) -> String {
    let offset = |o: &Millis| if *o == 0 { String::new() } else { format!(", offset {}", interval(*o)) };
    match spec {
        WindowSpec::Tumble { size, offset: o } => format!("TUMBLE({time}, {}{})", interval(*size), offset(o)),
        WindowSpec::Hop { slide, size, offset: o } => format!("HOP({time}, {}, {}{})", interval(*slide), interval(*size), offset(o)),
        WindowSpec::Cumulate { step, max, offset: o } => format!("CUMULATE({time}, {}, {}{})", interval(*step), interval(*max), offset(o)),
        WindowSpec::Session { gap } => format!("SESSION({time}, {})", interval(*gap)),
    }
}

fn column(at: usize, input: &[String]) -> String {
    input.get(at).cloned().unwrap_or_else(|| format!("${at}"))
}

/// An expression with column names.
pub(crate) fn expr(e: &Expr, input: &[String]) -> String {
    let list = |items: &[Expr], separator: &str| items.iter().map(|i| expr(i, input)).collect::<Vec<_>>().join(separator);
    match &e.kind {
        ExprKind::Column(i) => column(*i, input),
        ExprKind::Literal(Datum::IntervalDayTime(ms)) => interval(*ms),
        ExprKind::Literal(d) => sluice_batch::datum::Display(d, &e.ty).to_string(),
        ExprKind::Call { function, args } => match (function.name(), &args[..]) {
            (op, [a, b]) if op.starts_with("IS ") || op == "LIKE" || !op.chars().any(char::is_alphanumeric) => {
                format!("({} {op} {})", expr(a, input), expr(b, input))
            }
            (name, [a]) if is_cast(name) => {
                let cast = if name.starts_with("TRY") { "TRY_CAST" } else { "CAST" };
                format!("{cast}({} AS {})", expr(a, input), e.ty.kind)
            }
            (name, args) => format!("{name}({})", list(args, ", ")),
        },
        ExprKind::And(v) => format!("({})", list(v, " AND ")),
        ExprKind::Or(v) => format!("({})", list(v, " OR ")),
        ExprKind::Not(v) => format!("NOT {}", expr(v, input)),
        ExprKind::IsNull(v) => format!("{} IS NULL", expr(v, input)),
        ExprKind::IsNotNull(v) => format!("{} IS NOT NULL", expr(v, input)),
        ExprKind::Case { branches, otherwise } => {
            let branches: String = branches.iter().map(|(c, r)| format!(" WHEN {} THEN {}", expr(c, input), expr(r, input))).collect();
            format!("CASE{branches} ELSE {} END", expr(otherwise, input))
        }
    }
}

/// Milliseconds in the largest unit that fits: `5 s`, `90 min`, `250 ms`.
pub(crate) fn interval(ms: Millis) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    match units.iter().find(|(size, _)| ms != 0 && ms % size == 0) {
        Some((size, unit)) => format!("{} {unit}", ms / size),
        None => format!("{ms} ms"),
    }
}
