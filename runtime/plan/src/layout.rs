//! What the state of each operator looks like: which columns, keys and accumulators are in its tables, by the names that
//! [`crate::lineage`] gives them. It says the same as `snapshot` of the operator: who changes one, changes the other.

use std::collections::{BTreeMap, HashMap};

use sluice_batch::aggregate::AggregateCall;
use sluice_batch::algebra::{Bound, JoinKind, OverCall, SortKey, WindowSpec};
use sluice_batch::{SqlType, TypeKind};
use sluice_format::ChangelogMode;
use sluice_operators::spec::{
    DeduplicateSpec, JoinSpec, OperatorSpec, OverSpec, OverTime, RankKind, TopNSpec, UpsertMaterializeSpec, WindowAggregateSpec,
    WindowInput,
};
use sluice_state::layout::{Added, Call, Column, Layout, Part, Table};

use crate::explain::{frame, interval, sort_keys, window};
use crate::lineage;
use crate::{Graph, NodeKind};

/// The state of a node; `None` if it has none.
pub fn layout(graph: &Graph, node: usize) -> Option<Layout> {
    let at = graph.nodes.get(node)?;
    let NodeKind::Operator(spec) = &at.kind else { return None };
    let inputs: Vec<Input<'_>> = (at.inputs.iter())
        .filter_map(|i| graph.nodes.get(*i))
        .map(|n| Input { names: &n.properties.lineage, changes: n.properties.changelog != ChangelogMode::InsertOnly })
        .collect();
    let (fixed, tables) = Maker { inputs }.operator(spec)?;
    let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>();
    Some(Layout { meaning: at.properties.meaning.clone(), sinks: at.properties.sinks.clone(), fixed, tables })
}

/// The aggregate calls of a node whose state [`layout`] describes, with the types of the columns that they point into and whether
/// their rows may be taken back.
pub fn aggregate_calls(graph: &Graph, node: usize) -> Option<(Vec<AggregateCall>, Vec<SqlType>, bool)> {
    let NodeKind::Operator(spec) = &graph.nodes.get(node)?.kind else { return None };
    match spec {
        OperatorSpec::GroupAggregate(s) => Some((s.calls.clone(), s.input.clone(), s.retracting)),
        OperatorSpec::WindowAggregate(s) => Some((s.calls.clone(), s.input.clone(), s.retracting)),
        OperatorSpec::GroupWindow(s) => Some((s.calls.clone(), s.input.clone(), s.retracting)),
        OperatorSpec::Over(s) if s.time != OverTime::None => {
            let calls =
                s.calls.iter().filter_map(|c| if let OverCall::Aggregate(c) = c { Some(c.clone()) } else { None }).collect::<Vec<_>>();
            // FIRST_VALUE and LAST_VALUE become aggregates inside of the operator: without them the calls are not all.
            let all = s.calls.iter().all(|c| !matches!(c, OverCall::FirstValue { .. } | OverCall::LastValue { .. }));
            all.then(|| (calls, s.input.clone(), bounded(s)))
        }
        _ => None,
    }
}

type Made = (Vec<(&'static str, String)>, Vec<Table>);

struct Input<'a> {
    names: &'a [String],
    /// Its rows may be taken back or updated.
    changes: bool,
}

struct Maker<'a> {
    inputs: Vec<Input<'a>>,
}

fn table(name: &str, key: Vec<Part>, value: Vec<Part>) -> Table {
    Table { name: name.into(), key, value }
}

fn progress(name: &str) -> Table {
    table(name, vec![], vec![Part::millis("_time")])
}

/// One column of text.
fn text(name: &str) -> Part {
    let ty = TypeKind::STRING.nullable().to_string();
    Part::row(name, vec![Column { name: name.into(), ty, descending: false, nulls_last: false }], Added::Fixed)
}

/// The rules that a task knows: one row with their JSON.
fn rules() -> Table {
    table("rules", vec![], vec![text("rules")])
}

fn bounded(s: &OverSpec) -> bool {
    s.frame.start != Bound::Unbounded
}

impl Maker<'_> {
    fn operator(&self, spec: &OperatorSpec) -> Option<Made> {
        use OperatorSpec as S;
        Some(match spec {
            S::GroupAggregate(s) => {
                let fixed =
                    vec![("group keys", self.list(0, &s.keys)), ("input", if s.retracting { "changes" } else { "inserts" }.to_owned())];
                let value = vec![Part::integer("_rows"), Part::millis("_changed"), self.aggregates(&s.calls, &s.input, s.retracting)];
                (fixed, vec![table("groups", vec![self.row(0, &s.input, &s.keys, Added::Fixed)], value)])
            }
            S::WindowAggregate(s) => self.window_aggregate(s),
            S::GroupWindow(s) => self.window_aggregate(&WindowAggregateSpec {
                input: s.input.clone(),
                window: WindowInput::Assign { time: s.time, window: s.window.clone(), proctime: s.proctime },
                keys: s.keys.clone(),
                calls: s.calls.clone(),
                retracting: s.retracting,
                ltz: s.ltz,
            }),
            S::WindowTvf(s) => {
                let WindowSpec::Session { .. } = s.window else { return None };
                let fixed = vec![("partition by", self.list(0, &s.partition_by)), ("window", window(&s.window, self.name(0, s.time)))];
                let row = self.all(0, &s.input, Added::Null).prefixed();
                let rows = Part::Repeated { name: "rows".into(), parts: vec![Part::integer("_number"), Part::row_kind(), row] };
                let key = vec![
                    self.row(0, &s.input, &s.partition_by, Added::Fixed).prefixed(),
                    Part::millis("window_start"),
                    Part::millis("window_end"),
                ];
                (fixed, vec![table("sessions", key, vec![rows])])
            }
            S::Join(s) => {
                let mut fixed = self.join(s);
                let identity = |side: usize, key: &Option<Vec<usize>>| key.as_ref().map_or("the row".into(), |k| self.list(side, k));
                fixed.push(("left rows by", identity(0, &s.left_upsert_key)));
                fixed.push(("right rows by", identity(1, &s.right_upsert_key)));
                let left = self.join_side("left", 0, &s.left, &s.left_keys, s.left_upsert_key.as_deref());
                let right = self.join_side("right", 1, &s.right, &s.right_keys, s.right_upsert_key.as_deref());
                (fixed, vec![left, right])
            }
            S::IntervalJoin(s) => {
                let mut fixed = self.join(&s.join);
                let times = format!("{} and {}", self.name(0, s.left_time), self.name(1, s.right_time));
                fixed.push(("interval", format!("{} .. {} of {times}", interval(s.lower), interval(s.upper))));
                let side = |name, side, types: &[SqlType], keys: &[usize]| {
                    let key = vec![self.row(side, types, keys, Added::Fixed).prefixed(), Part::integer("_number")];
                    table(name, key, vec![Part::flag("_matched"), Part::millis("_time"), self.all(side, types, Added::Null)])
                };
                let (left, right) = (side("left", 0, &s.join.left, &s.join.left_keys), side("right", 1, &s.join.right, &s.join.right_keys));
                (fixed, vec![left, right])
            }
            S::WindowJoin(s) => {
                let mut fixed = self.join(&s.join);
                fixed.push(("windows", format!("{} and {}", self.name(0, s.left_window_end), self.name(1, s.right_window_end))));
                let side = |name, side, types: &[SqlType]| {
                    let key = vec![Part::millis("window_end"), Part::integer("_number")];
                    table(name, key, vec![self.all(side, types, Added::Null)])
                };
                (fixed, vec![side("left", 0, &s.join.left), side("right", 1, &s.join.right)])
            }
            S::TemporalJoin(s) => {
                let mut fixed = self.join(&s.join);
                fixed.retain(|(name, _)| *name != "condition");
                fixed.push(("times", format!("{} and {}", self.name(0, s.left_time), self.name(1, s.right_time))));
                let key = vec![self.row(1, &s.join.right, &s.join.right_keys, Added::Fixed).prefixed(), Part::millis("_time")];
                let value = vec![Part::flag("_deleted"), Part::millis("_changed"), self.all(1, &s.join.right, Added::Null)];
                (fixed, vec![self.time_buffer("left", 0, &s.join.left), table("versions", key, value)])
            }
            S::LateralSnapshotJoin(s) => {
                let mut fixed = self.join(&s.join);
                fixed.retain(|(name, _)| *name != "condition");
                let phase = table("phase", vec![], vec![Part::flag("_loaded"), Part::millis("_load_until")]);
                let table = self.join_side("table", 1, &s.join.right, &s.join.right_keys, None);
                let (changes, waiting) = (self.time_buffer("changes", 1, &s.join.right), self.time_buffer("waiting", 0, &s.join.left));
                (fixed, vec![phase, table, changes, waiting])
            }
            S::TopN(s) => self.top_n(s),
            S::WindowTopN(s) => {
                let mut fixed = self.ranking(&s.top_n);
                fixed.push(("window", self.name(0, s.window_end).to_owned()));
                (fixed, self.window_top_n(&s.top_n.input, &s.top_n.partition_by, &s.top_n.order_by))
            }
            S::Deduplicate(s) => self.deduplicate(s),
            S::Over(s) => self.over(s),
            S::TemporalSort(s) => {
                let fixed = vec![("time", self.name(0, s.time).to_owned())];
                (fixed, vec![progress("last"), self.time_buffer("rows", 0, &s.input)])
            }
            S::Sort(s) => {
                let key = vec![self.all(0, &s.input, Added::Fixed)];
                (vec![], vec![table("rows", key, vec![Part::integer("_count"), Part::integer("_number")])])
            }
            S::ChangelogNormalize(s) => {
                let fixed = vec![("key", self.list(0, &s.key))];
                (fixed, vec![self.keyed_rows("rows", &s.input, &s.key)])
            }
            S::UpsertMaterialize(s) => self.upsert_materialize(s),
            S::SetOperation(s) => {
                let fixed =
                    vec![("operation", format!("{}{}", if s.except { "EXCEPT" } else { "INTERSECT" }, if s.all { " ALL" } else { "" }))];
                let value = vec![Part::integer("_left"), Part::integer("_right")];
                (fixed, vec![table("rows", vec![self.all(0, &s.input, Added::Fixed)], value)])
            }
            S::MatchRecognize(s) => {
                let further = if s.clause.order_by.is_empty() { String::new() } else { format!(", {}", self.order(&s.clause.order_by)) };
                let order = format!("{}{further}", self.name(0, s.clause.time));
                let fixed = vec![("partition by", self.list(0, &s.clause.partition_by)), ("order by", order)];
                let key = vec![self.row(0, &s.input, &s.clause.partition_by, Added::Fixed).prefixed(), Part::integer("_number")];
                let value = vec![Part::flag("_waiting"), Part::millis("_time"), self.all(0, &s.input, Added::Null)];
                (fixed, vec![table("rows", key, value)])
            }
            S::RuleCatalog(_) => (vec![], vec![rules()]),
            S::RuleRouter(s) => {
                let types: Vec<SqlType> = s.data.iter().map(|f| f.ty.clone()).collect();
                let key =
                    vec![self.row(0, &types, &(0..types.len()).collect::<Vec<_>>(), Added::Fixed).prefixed(), Part::integer("_number")];
                let value = vec![Part::millis("_time"), Part::row_kind(), self.all(0, &types, Added::Null)];
                (vec![], vec![rules(), table("waiting", key, value)])
            }
            S::RuleEvaluation(s) => {
                let time = self.name(0, s.time + sluice_operators::rules::router::FRONT).to_owned();
                let key = vec![text("grouping_key").prefixed(), text("kept").prefixed(), Part::integer("_chunk")];
                let parts = vec![Part::millis("_time"), Part::integer("_value_high"), Part::integer("_value_low")];
                let events = table("events", key, vec![Part::Repeated { name: "events".into(), parts }]);
                (vec![("time", time)], vec![rules(), events])
            }
            S::Calc { .. }
            | S::Unnest(_)
            | S::DropUpdateBefore
            | S::ConstraintEnforcer(_)
            | S::Union
            | S::LookupJoin(_)
            | S::WatermarkAssigner(_)
            | S::ToChangelog(_)
            | S::FromChangelog(_)
            | S::Expand(_) => return None,
        })
    }

    fn window_aggregate(&self, s: &WindowAggregateSpec) -> Made {
        let (window, session, attached) = match &s.window {
            WindowInput::Assign { time, window: spec, proctime } => {
                let time = if *proctime { "PROCTIME()" } else { self.name(0, *time) };
                (window(spec, time), matches!(spec, WindowSpec::Session { .. }), false)
            }
            WindowInput::Attached { end, .. } => (self.name(0, *end).to_owned(), false, true),
        };
        let input = if s.retracting { "changes" } else { "inserts" }.to_owned();
        let fixed = vec![("group keys", self.list(0, &s.keys)), ("window", window), ("input", input)];
        let value = vec![Part::integer("_rows"), self.aggregates(&s.calls, &s.input, s.retracting)];
        if session {
            let key =
                vec![self.row(0, &s.input, &s.keys, Added::Fixed).prefixed(), Part::millis("window_start"), Part::millis("window_end")];
            return (fixed, vec![progress("progress"), table("sessions", key, value)]);
        }
        let time =
            |name: &str| Column { name: name.into(), ty: TypeKind::BigInt.not_null().to_string(), descending: false, nulls_last: false };
        let mut columns = vec![time("_slice_end")];
        if attached {
            columns.push(time("_window_start"));
        }
        columns.extend(self.columns(0, &s.input, &s.keys));
        let key = Part::row("key", distinct(columns), Added::Fixed);
        (fixed, vec![progress("progress"), table("slices", vec![key], value)])
    }

    fn join(&self, s: &JoinSpec) -> Vec<(&'static str, String)> {
        let mut fixed = vec![
            ("join type", format!("{:?}", s.kind).to_uppercase()),
            ("left keys", self.list(0, &s.left_keys)),
            ("right keys", self.list(1, &s.right_keys)),
        ];
        // For outer joins it is stored which rows have matches.
        if let Some(condition) = s.condition.as_ref().filter(|_| s.kind != JoinKind::Inner) {
            let columns: Vec<String> = self.inputs.iter().flat_map(|i| i.names.iter().cloned()).collect();
            fixed.push(("condition", lineage::short(&lineage::canonical(condition, &columns))));
        }
        fixed
    }

    /// See `JoinState`.
    fn join_side(&self, name: &str, side: usize, types: &[SqlType], keys: &[usize], id: Option<&[usize]>) -> Table {
        let identity = id.map(|k| self.named("identity", side, types, k, Added::Refused));
        let added = if id.is_none() && self.changes(side) { Added::Refused } else { Added::Null };
        let whole = self.all(side, types, added);
        let Part::Row { columns, .. } = &whole else { return table(name, vec![], vec![]) };
        let identity = identity.unwrap_or_else(|| Part::row("identity", columns.clone(), added));
        let key = vec![self.row(side, types, keys, Added::Fixed).prefixed(), identity.prefixed()];
        let value = vec![Part::flag("_keyed"), Part::integer("_count"), Part::integer("_matches"), Part::millis("_changed"), whole];
        table(name, key, value)
    }

    /// See `TimeBuffer`.
    fn time_buffer(&self, name: &str, side: usize, types: &[SqlType]) -> Table {
        let added = if self.changes(side) { Added::Refused } else { Added::Null };
        table(name, vec![Part::integer("_number")], vec![Part::millis("_time"), Part::row_kind(), self.all(side, types, added)])
    }

    /// See `KeyedRows`.
    fn keyed_rows(&self, name: &str, types: &[SqlType], keys: &[usize]) -> Table {
        let value = vec![Part::millis("_time"), Part::millis("_changed"), self.all(0, types, Added::Null)];
        table(name, vec![self.row(0, types, keys, Added::Fixed)], value)
    }

    fn ranking(&self, s: &TopNSpec) -> Vec<(&'static str, String)> {
        let rank = match s.rank {
            RankKind::RowNumber => "ROW_NUMBER",
            RankKind::Rank => "RANK",
            RankKind::DenseRank => "DENSE_RANK",
        };
        vec![
            ("partition by", self.list(0, &s.partition_by)),
            ("order by", self.order(&s.order_by)),
            ("ranks", format!("{rank} {} .. {}", s.from, s.to)),
        ]
    }

    fn top_n(&self, s: &TopNSpec) -> Made {
        let mut fixed = self.ranking(s);
        let rows_by = match &s.upsert_key {
            Some(key) => self.list(0, key),
            None if s.retracting => "the row".into(),
            None => "nothing".into(),
        };
        fixed.push(("input", if s.retracting { "changes" } else { "inserts or upserts" }.to_owned()));
        fixed.push(("rows by", rows_by));
        let by_row = s.retracting && s.upsert_key.is_none();
        let whole = self.all(0, &s.input, if by_row { Added::Refused } else { Added::Null });
        let id = match &s.upsert_key {
            Some(key) => self.named("identity", 0, &s.input, key, Added::Refused),
            None if s.retracting => match &whole {
                Part::Row { columns, .. } => Part::row("identity", columns.clone(), Added::Refused),
                other => other.clone(),
            },
            None => Part::row("identity", vec![], Added::Refused),
        };
        let key = vec![
            self.row(0, &s.input, &s.partition_by, Added::Fixed).prefixed(),
            self.sorted(&s.input, &s.order_by).prefixed(),
            Part::integer("_number"),
        ];
        (fixed, vec![table("rows", key, vec![Part::millis("_changed"), whole.prefixed(), id.prefixed()])])
    }

    fn window_top_n(&self, types: &[SqlType], partition_by: &[usize], order_by: &[SortKey]) -> Vec<Table> {
        let parts = vec![self.sorted(types, order_by).prefixed(), self.all(0, types, Added::Null).prefixed()];
        let key = vec![Part::millis("window_end"), self.row(0, types, partition_by, Added::Fixed).prefixed()];
        vec![progress("progress"), table("windows", key, vec![Part::Repeated { name: "rows".into(), parts }])]
    }

    fn deduplicate(&self, s: &DeduplicateSpec) -> Made {
        let time = if s.proctime { "PROCTIME()" } else { self.name(0, s.time) };
        let mut fixed =
            vec![("keys", self.list(0, &s.keys)), ("keeps", format!("the {} row by {time}", if s.keep_last { "last" } else { "first" }))];
        if let Some(end) = s.window_end {
            fixed.push(("window", self.name(0, end).to_owned()));
            let order = SortKey { column: s.time, descending: s.keep_last, nulls_first: false };
            let order_by = if s.proctime { vec![] } else { vec![order] };
            return (fixed, self.window_top_n(&s.input, &s.keys, &order_by));
        }
        if !s.keep_last && !s.proctime {
            fixed.push(("emits", if s.mini_batch { "at once" } else { "when time has come" }.to_owned()));
        }
        let rows = self.keyed_rows("rows", &s.input, &s.keys);
        let key = vec![self.row(0, &s.input, &s.keys, Added::Fixed)];
        let value = vec![Part::millis("_time"), Part::millis("_changed"), Part::row("row", vec![], Added::Null)];
        (fixed, vec![rows, table("emitted", key, value)])
    }

    fn over(&self, s: &OverSpec) -> Made {
        let order = match s.time {
            OverTime::Rowtime(time) => self.name(0, time).to_owned(),
            OverTime::Proctime => "PROCTIME()".into(),
            OverTime::None => self.order(&s.order_by),
        };
        let fixed = vec![("partition by", self.list(0, &s.partition_by)), ("order by", order), ("frame", frame(&s.frame))];
        let partition = self.row(0, &s.input, &s.partition_by, Added::Fixed);
        if s.time == OverTime::None {
            let key = vec![partition.prefixed(), self.sorted(&s.input, &s.order_by).prefixed(), Part::integer("_number")];
            let row = self.all(0, &s.input, if self.changes(0) { Added::Refused } else { Added::Null });
            return (fixed, vec![table("rows", key, vec![Part::millis("_changed"), row])]);
        }
        let (mut kept, mut calls): (Vec<usize>, Vec<Call>) = (vec![], vec![]);
        let mut keep = |c: usize| {
            if !kept.contains(&c) {
                kept.push(c);
            }
        };
        for call in &s.calls {
            match call {
                OverCall::Aggregate(c) => {
                    c.args.iter().copied().chain(c.filter).for_each(&mut keep);
                    calls.push(self.call(c, &s.input, bounded(s)));
                }
                OverCall::FirstValue { arg, ty, .. } | OverCall::LastValue { arg, ty, .. } => {
                    keep(*arg);
                    let function = if matches!(call, OverCall::FirstValue { .. }) { "FIRST_VALUE" } else { "LAST_VALUE" };
                    let form = form(function, &[&s.input[*arg]], false, bounded(s));
                    calls.push(Call { name: format!("{function}({})", self.name(0, *arg)), ty: ty.to_string(), form });
                }
                OverCall::Lag { arg, .. } => keep(*arg),
                _ => {}
            }
        }
        let mut value: Vec<Part> = vec![Part::integer("_count"), Part::millis("_last")];
        value.extend([Part::integer("_rank"), Part::integer("_dense_rank"), Part::millis("_changed")]);
        if !calls.is_empty() {
            value.push(Part::Aggregates { calls, closed: bounded(s) });
        }
        let rows = |name| {
            let key = vec![partition.clone().prefixed(), Part::integer("_number")];
            table(name, key, vec![Part::millis("_time"), self.named("row", 0, &s.input, &kept, Added::Null)])
        };
        let waiting = self.time_buffer("waiting", 0, &s.input);
        (fixed, vec![waiting, table("partitions", vec![partition.clone()], value), rows("frame"), rows("history")])
    }

    fn upsert_materialize(&self, s: &UpsertMaterializeSpec) -> Made {
        let fixed = vec![
            ("sink key", self.list(0, &s.sink_key)),
            ("rows by", s.upsert_key.as_ref().map_or("the row".into(), |k| self.list(0, k))),
            ("on conflict", s.on_conflict.clone().unwrap_or_else(|| "DEDUPLICATE".into())),
        ];
        let added = if s.upsert_key.is_none() { Added::Refused } else { Added::Null };
        let whole = self.all(0, &s.input, added).prefixed();
        let id = match (&s.upsert_key, &whole) {
            (None, Part::Row { columns, .. }) => Part::row("identity", columns.clone(), added),
            (key, _) => self.named("identity", 0, &s.input, key.as_deref().unwrap_or_default(), Added::Refused),
        };
        let key = self.row(0, &s.input, &s.sink_key, Added::Fixed).prefixed();
        let rows = vec![Part::millis("_changed"), id.clone().prefixed(), whole.clone()];
        let pending = vec![Part::row_kind(), key.clone(), id.prefixed(), whole];
        let keys = vec![key, Part::integer("_number")];
        (fixed, vec![table("rows", keys, rows), table("pending", vec![Part::integer("_number")], pending)])
    }

    fn changes(&self, side: usize) -> bool {
        self.inputs.get(side).is_some_and(|i| i.changes)
    }

    fn name(&self, side: usize, column: usize) -> &str {
        self.inputs.get(side).and_then(|i| i.names.get(column)).map_or("?", String::as_str)
    }

    fn list(&self, side: usize, columns: &[usize]) -> String {
        columns.iter().map(|c| self.name(side, *c)).collect::<Vec<_>>().join(", ")
    }

    fn order(&self, keys: &[SortKey]) -> String {
        sort_keys(keys, self.inputs.first().map_or(&[], |i| i.names))
    }

    fn columns(&self, side: usize, types: &[SqlType], columns: &[usize]) -> Vec<Column> {
        let column = |c: &usize| Column {
            name: self.name(side, *c).to_owned(),
            ty: types.get(*c).map(ToString::to_string).unwrap_or_default(),
            descending: false,
            nulls_last: false,
        };
        columns.iter().map(column).collect()
    }

    fn named(&self, name: &str, side: usize, types: &[SqlType], columns: &[usize], added: Added) -> Part {
        Part::row(name, distinct(self.columns(side, types, columns)), added)
    }

    fn row(&self, side: usize, types: &[SqlType], columns: &[usize], added: Added) -> Part {
        self.named("key", side, types, columns, added)
    }

    fn all(&self, side: usize, types: &[SqlType], added: Added) -> Part {
        let columns: Vec<usize> = (0..types.len()).collect();
        self.named("row", side, types, &columns, added)
    }

    fn sorted(&self, types: &[SqlType], keys: &[SortKey]) -> Part {
        let columns: Vec<usize> = keys.iter().map(|k| k.column).collect();
        let mut columns = distinct(self.columns(0, types, &columns));
        for (column, key) in columns.iter_mut().zip(keys) {
            (column.descending, column.nulls_last) = (key.descending, !key.nulls_first);
        }
        Part::row("order", columns, Added::Fixed)
    }

    fn aggregates(&self, calls: &[AggregateCall], types: &[SqlType], retracting: bool) -> Part {
        let mut seen = HashMap::new();
        let mut calls: Vec<Call> = calls.iter().map(|c| self.call(c, types, retracting)).collect();
        calls.iter_mut().for_each(|c| number(&mut c.name, &mut seen));
        Part::Aggregates { calls, closed: false }
    }

    fn call(&self, call: &AggregateCall, types: &[SqlType], retracting: bool) -> Call {
        let args: Vec<&SqlType> = call.args.iter().filter_map(|a| types.get(*a)).collect();
        Call {
            name: lineage::short(&lineage::call(call, self.inputs.first().map_or(&[], |i| i.names))),
            ty: call.ty.to_string(),
            form: form(call.function.name(), &args, call.distinct, retracting),
        }
    }
}

fn form(function: &str, args: &[&SqlType], distinct: bool, retracting: bool) -> String {
    let args: Vec<String> = args.iter().map(|t| stored(t)).collect();
    let (distinct, retracting) = (if distinct { "DISTINCT " } else { "" }, if retracting { " retracting" } else { "" });
    format!("{function}({distinct}{}){retracting}", args.join(", "))
}

/// A type as accumulators keep it: lengths and NOT NULL make no difference.
fn stored(ty: &SqlType) -> String {
    match &ty.kind {
        TypeKind::Char(_) | TypeKind::VarChar(_) => "STRING".into(),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => "BYTES".into(),
        kind => kind.to_string(),
    }
}

/// Equal names get numbers.
fn distinct(mut columns: Vec<Column>) -> Vec<Column> {
    let mut seen = HashMap::new();
    columns.iter_mut().for_each(|c| number(&mut c.name, &mut seen));
    columns
}

fn number(name: &mut String, seen: &mut HashMap<String, usize>) {
    let n = seen.entry(name.clone()).or_default();
    *n += 1;
    if *n > 1 {
        *name = format!("{name} #{n}");
    }
}
