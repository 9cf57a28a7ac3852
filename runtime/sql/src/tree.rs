//! A relation as an indented tree: one node a line, inputs below. For tests and EXPLAIN.

use std::fmt;

use sluice_batch::Expr;

use crate::relation::{
    Bound, ColumnDef, Frame, MatchExpr, MatchSlotKind, OverCall, Rel, RelKind, SortKey, TableArg, TimeAttribute, WindowSpec,
};

impl fmt::Display for Rel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        node(self, 0, f)
    }
}

fn node(rel: &Rel, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{:indent$}{}", "", line(rel), indent = depth * 2)?;
    rel.inputs().into_iter().try_for_each(|i| node(i, depth + 1, f))
}

/// `name TYPE`, with `*ROWTIME*` or `*PROCTIME*`.
pub fn column(c: &ColumnDef) -> String {
    let time = match c.time {
        None => "",
        Some(TimeAttribute::Rowtime) => " *ROWTIME*",
        Some(TimeAttribute::Proctime) => " *PROCTIME*",
    };
    format!("{} {}{time}", c.name, c.ty)
}

/// All columns of a schema.
pub fn schema(columns: &[ColumnDef]) -> String {
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

fn line(rel: &Rel) -> String {
    match &rel.kind {
        RelKind::Scan { table, hints, .. } => {
            let hints = hints.iter().map(|(k, v)| format!(" {k}={v}")).collect::<String>();
            format!("Scan {}({}){hints}", table.name, names(&rel.schema))
        }
        RelKind::Watermark { column, expr, .. } => format!("Watermark ${column} as {expr}"),
        RelKind::Values { rows } => {
            let rows = rows.iter().map(|r| format!("({})", exprs(r))).collect::<Vec<_>>();
            format!("Values {}", rows.join(", "))
        }
        RelKind::Project { exprs, .. } => {
            let items = exprs.iter().zip(rel.schema.iter()).map(|(e, c)| format!("{} := {e}", c.name)).collect::<Vec<_>>();
            format!("Project {}", items.join(", "))
        }
        RelKind::Filter { predicate, .. } => format!("Filter {predicate}"),
        RelKind::Unnest { expr, outer, ordinality, .. } => {
            format!("Unnest{}{} {expr}", flag(*outer, " outer"), flag(*ordinality, " with ordinality"))
        }
        RelKind::Join { kind, condition, state_ttl, .. } => {
            let ttl = if *state_ttl == (None, None) { String::new() } else { format!(" ttl {state_ttl:?}") };
            format!("Join {kind:?} on {condition}{ttl}")
        }
        RelKind::TemporalJoin { outer, time, condition, .. } => {
            format!("TemporalJoin{} as of ${time} on {condition}", flag(*outer, " outer"))
        }
        RelKind::Aggregate { keys, grouping_sets, calls, window, state_ttl, .. } => {
            let sets = if grouping_sets.len() == 1 { String::new() } else { format!(" sets {grouping_sets:?}") };
            let window = window.as_ref().map_or(String::new(), |w| format!(" window {:?}", (w.start, w.end, w.time)));
            let ttl = state_ttl.map_or(String::new(), |t| format!(" ttl {t}"));
            format!("Aggregate by {keys:?}{sets} {}{window}{ttl}", list(calls))
        }
        RelKind::WindowTvf { time, window, partition_by, .. } => {
            let partition = if partition_by.is_empty() { String::new() } else { format!(" by {partition_by:?}") };
            format!("WindowTvf {} of ${time}{partition}", window_spec(window))
        }
        RelKind::GroupWindow { time, window, keys, calls, properties, .. } => {
            format!("GroupWindow {} of ${time} by {keys:?} {} {properties:?}", window_spec(window), list(calls))
        }
        RelKind::Over { partition_by, order_by, frame: bounds, calls, .. } => {
            let calls = calls.iter().map(over_call).collect::<Vec<_>>().join(", ");
            format!("Over by {partition_by:?} order {} {} [{calls}]", sort_keys(order_by), frame(bounds))
        }
        RelKind::Sort { keys, limit, offset, .. } => {
            let limit = limit.map_or(String::new(), |l| format!(" limit {l}"));
            let offset = if *offset == 0 { String::new() } else { format!(" offset {offset}") };
            format!("Sort {}{limit}{offset}", sort_keys(keys))
        }
        RelKind::Union { .. } => "Union".into(),
        RelKind::SetOperation { except, all, .. } => format!("{}{}", if *except { "Except" } else { "Intersect" }, flag(*all, " all")),
        RelKind::Distinct { .. } => "Distinct".into(),
        RelKind::TableFunction { name, args, .. } => {
            let args = args.iter().map(|(n, a)| format!("{n} => {}", table_arg(a))).collect::<Vec<_>>().join(", ");
            format!("TableFunction {name}({args})")
        }
        RelKind::MatchRecognize { clause, .. } => match_clause(clause),
        // The id differs between runs.
        RelKind::Shared { .. } => "Shared".into(),
    }
}

fn flag(set: bool, text: &'static str) -> &'static str {
    if set { text } else { "" }
}

fn names(schema: &[ColumnDef]) -> String {
    schema.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn exprs(list: &[Expr]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    format!("[{}]", items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn window_spec(w: &WindowSpec) -> String {
    let at = |offset: i64| if offset == 0 { String::new() } else { format!(" offset {offset}") };
    match w {
        WindowSpec::Tumble { size, offset } => format!("TUMBLE({size}{})", at(*offset)),
        WindowSpec::Hop { slide, size, offset } => format!("HOP({slide}, {size}{})", at(*offset)),
        WindowSpec::Cumulate { step, max, offset } => format!("CUMULATE({step}, {max}{})", at(*offset)),
        WindowSpec::Session { gap } => format!("SESSION({gap})"),
    }
}

fn sort_keys(keys: &[SortKey]) -> String {
    let key = |k: &SortKey| {
        let nulls = if k.nulls_first == k.descending { flag(k.nulls_first, " nulls first") } else { "" };
        let last = flag(!k.nulls_first && !k.descending, " nulls last");
        format!("${}{}{nulls}{last}", k.column, flag(k.descending, " desc"))
    };
    format!("[{}]", keys.iter().map(key).collect::<Vec<_>>().join(", "))
}

fn frame(f: &Frame) -> String {
    let bound = |b: &Bound, side: &str| match b {
        Bound::Unbounded => format!("unbounded {side}"),
        Bound::Preceding(0) => "current".into(),
        Bound::Preceding(n) => format!("{n} preceding"),
        Bound::Following(n) => format!("{n} following"),
    };
    format!("{} {}..{}", if f.rows { "rows" } else { "range" }, bound(&f.start, "preceding"), bound(&f.end, "following"))
}

fn over_call(call: &OverCall) -> String {
    match call {
        OverCall::Aggregate(c) => c.to_string(),
        OverCall::RowNumber { .. } => "ROW_NUMBER".into(),
        OverCall::Rank { .. } => "RANK".into(),
        OverCall::DenseRank { .. } => "DENSE_RANK".into(),
        OverCall::Lag { arg, offset, default, .. } => {
            let default = default.as_ref().map_or(String::new(), |d| format!(", {d}"));
            format!("LAG(${arg}, {offset}{default})")
        }
        OverCall::FirstValue { arg, .. } => format!("FIRST_VALUE(${arg})"),
        OverCall::LastValue { arg, .. } => format!("LAST_VALUE(${arg})"),
        OverCall::Ntile { buckets, .. } => format!("NTILE({buckets})"),
        OverCall::PercentRank { .. } => "PERCENT_RANK".into(),
        OverCall::CumeDist { .. } => "CUME_DIST".into(),
    }
}

fn table_arg(arg: &TableArg) -> String {
    match arg {
        TableArg::Value(d, ty) => sluice_batch::datum::Display(d, ty).to_string(),
        TableArg::Descriptor(columns) => format!("DESCRIPTOR({})", columns.join(", ")),
        TableArg::Partition { input, keys } => format!("{input} by {keys:?}"),
        TableArg::Map(entries) => format!("{entries:?}"),
    }
}

fn match_clause(c: &crate::relation::MatchClause) -> String {
    let pattern = c.pattern.iter().map(|e| {
        let max = e.max.map_or(String::new(), |m| m.to_string());
        let quantifier = if (e.min, e.max) == (1, Some(1)) { String::new() } else { format!("{{{},{max}}}", e.min) };
        let condition = e.condition.as_ref().map_or(String::new(), |c| format!(" when {}", match_expr(c, c_names(&c.slots))));
        format!("{}{quantifier}{}{condition}", e.variable, flag(e.greedy, " greedy"))
    });
    let pattern = pattern.collect::<Vec<_>>().join("; ");
    let measures = c.measures.iter().map(|(n, e)| format!("{n} := {}", match_expr(e, c_names(&e.slots)))).collect::<Vec<_>>().join(", ");
    let within = c.within.map_or(String::new(), |w| format!(" within {w}"));
    let order = if c.order_by.is_empty() { String::new() } else { format!(" then {}", sort_keys(&c.order_by)) };
    format!(
        "MatchRecognize by {:?} order ${}{order} skip {:?}{within} pattern ({pattern}) measures ({measures})",
        c.partition_by, c.time, c.skip
    )
}

fn c_names(slots: &[crate::relation::MatchSlot]) -> Vec<String> {
    let rows = |v: &[usize]| if v.is_empty() { "*".to_string() } else { v.iter().map(ToString::to_string).collect::<Vec<_>>().join("+") };
    slots
        .iter()
        .map(|s| match &s.kind {
            MatchSlotKind::Navigate { variables, last, offset, arg } => {
                format!(
                    "{}#{}[{arg}]{}",
                    if *last { "LAST" } else { "FIRST" },
                    rows(variables),
                    if *offset == 0 { String::new() } else { format!("-{offset}") }
                )
            }
            MatchSlotKind::Aggregate { variables, call, args } => format!("{}#{}[{}]", call.function.name(), rows(variables), exprs(args)),
            MatchSlotKind::Rowtime => "ROWTIME".into(),
            MatchSlotKind::Proctime => "PROCTIME".into(),
        })
        .collect()
}

/// The expression's text with slots in place of `$i`.
fn match_expr(e: &MatchExpr, slots: Vec<String>) -> String {
    let mut text = e.expr.to_string();
    for (i, slot) in slots.iter().enumerate().rev() {
        text = text.replace(&format!("${i}"), &format!("<{}>", slot.replace('$', "\u{1}")));
    }
    text.replace('\u{1}', "$")
}
