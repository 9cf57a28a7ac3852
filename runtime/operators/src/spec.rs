//! What an operator is made from. The planner fills these in; [`build`] makes the operator.

use sluice_batch::aggregate::AggregateCall;
use sluice_batch::algebra::{Frame, JoinKind, MatchClause, OverCall, SortKey, WindowProperty, WindowSpec};
use sluice_batch::{Expr, Field, Millis, Result, SqlType};
use sluice_connect::{CacheOptions, LookupRequest, TableSpec};

use crate::Operator;

/// An operator and what it needs. Column positions are those of the operator's input unless said otherwise.
#[derive(Clone, Debug)]
pub enum OperatorSpec {
    /// Filter, then project; both optional. Stateless. For update pairs a filter looks at -U and +U separately, as Flink's.
    Calc {
        filter: Option<Expr>,
        project: Option<Vec<Expr>>,
    },
    Unnest(UnnestSpec),
    /// Updating GROUP BY.
    GroupAggregate(GroupAggregateSpec),
    /// GROUP BY over windows: append-only results when time passes the window's end.
    WindowAggregate(WindowAggregateSpec),
    /// Adds window_start, window_end, window_time; a row goes into each of its windows (SESSION: when it closes).
    WindowTvf(WindowTvfSpec),
    /// The old GROUP BY TUMBLE(…) and session windows with retraction.
    GroupWindow(GroupWindowSpec),
    /// Regular joins with retraction, semi and anti joins.
    Join(JoinSpec),
    IntervalJoin(IntervalJoinSpec),
    /// Joins of the rows of two equal windows.
    WindowJoin(WindowJoinSpec),
    /// Versioned table join (event time).
    TemporalJoin(TemporalJoinSpec),
    /// Rows with what a table outside has for their keys (processing time).
    LookupJoin(LookupJoinSpec),
    /// `ROW_NUMBER() OVER (…) <= n` and ORDER BY … LIMIT.
    TopN(TopNSpec),
    /// The same within windows: results are final when the window ends.
    WindowTopN(WindowTopNSpec),
    /// `ROW_NUMBER() … = 1` ordered by a time attribute.
    Deduplicate(DeduplicateSpec),
    Over(OverSpec),
    /// ORDER BY rowtime: rows leave in order when time has passed them.
    TemporalSort(TemporalSortSpec),
    /// ORDER BY anything, or LIMIT, of a bounded input: rows leave at the end.
    Sort(SortSpec),
    /// An upsert source: keeps the last row a key, makes -U and drops what changes nothing.
    ChangelogNormalize(ChangelogNormalizeSpec),
    /// A sink whose key is not the query's upsert key: keeps rows per sink key.
    UpsertMaterialize(UpsertMaterializeSpec),
    /// Takes -U away for sinks that only want upserts.
    DropUpdateBefore,
    /// Checks NOT NULL and lengths before a sink.
    ConstraintEnforcer(ConstraintSpec),
    MatchRecognize(MatchSpec),
    /// INTERSECT / EXCEPT of two inputs, with retraction.
    SetOperation(SetOperationSpec),
    /// All inputs, as they come.
    Union,
    /// Assigns watermarks where the source could not (views over non-source columns, filesystem).
    WatermarkAssigner(WatermarkAssignerSpec),
    /// TO_CHANGELOG / FROM_CHANGELOG.
    ToChangelog(ToChangelogSpec),
    FromChangelog(FromChangelogSpec),
    /// Joins left rows with the current state of the right side (`LATERAL SNAPSHOT`): see the conformance kit.
    LateralSnapshotJoin(LateralSnapshotSpec),
    /// GROUPING SETS: each row once a set, keys not in it NULL, and the set's id behind.
    Expand(ExpandSpec),
    /// Rules of a control topic: what they are now, and what was wrong with those that are not.
    RuleCatalog(RuleCatalogSpec),
    /// Inputs: events, and the catalog's rows. Output: each event once a set of grouping keys, and changes of the rules.
    RuleRouter(RuleRouterSpec),
    /// Input: the router's rows. Output: alerts.
    RuleEvaluation(RuleEvaluationSpec),
}

#[derive(Clone, Debug)]
pub struct UnnestSpec {
    /// The collection, over the input.
    pub expr: Expr,
    /// LEFT JOIN: rows without elements stay, with NULLs.
    pub outer: bool,
    pub ordinality: bool,
    /// Input columns that go out, in order; the element's columns follow.
    pub keep: Vec<usize>,
    /// Which of the element's columns go out (positions among them, ordinality last).
    pub element: Vec<usize>,
    /// Over the element's columns that go out (positions in `element`): rows that do not pass are left out. Never with `outer`.
    pub filter: Option<Expr>,
}

#[derive(Clone, Debug)]
pub struct GroupAggregateSpec {
    /// Types of the input columns.
    pub input: Vec<SqlType>,
    pub keys: Vec<usize>,
    /// Output: keys, then calls. No calls: SELECT DISTINCT.
    pub calls: Vec<AggregateCall>,
    /// The input may take rows back.
    pub retracting: bool,
    /// Downstream needs -U (else only +I, +U, -D go out).
    pub emit_update_before: bool,
    /// Mini-batching: one change a key and flush instead of one a row.
    pub mini_batch: bool,
    /// `table.exec.state.ttl`; zero: for ever.
    pub state_ttl: Millis,
}

#[derive(Clone, Debug)]
pub struct WindowAggregateSpec {
    pub input: Vec<SqlType>,
    pub window: WindowInput,
    /// Keys beside the window's columns.
    pub keys: Vec<usize>,
    pub calls: Vec<AggregateCall>,
    pub retracting: bool,
    /// Output: keys, calls, then window_start, window_end, window_time as TIMESTAMP(3) (or TIMESTAMP_LTZ(3) for bounds shifted
    /// to the session's zone as Flink does for LTZ rowtimes): the planner projects what is used.
    pub ltz: bool,
}

/// How a windowed operator learns the window of a row.
#[derive(Clone, Debug)]
pub enum WindowInput {
    /// From the rowtime (or proctime) column: the TVF is folded into the operator.
    Assign { time: usize, window: WindowSpec, proctime: bool },
    /// The input already has window bounds: columns of window_start and window_end.
    Attached { start: usize, end: usize },
}

#[derive(Clone, Debug)]
pub struct WindowTvfSpec {
    pub input: Vec<SqlType>,
    pub time: usize,
    pub window: WindowSpec,
    /// SESSION: keys of PARTITION BY.
    pub partition_by: Vec<usize>,
    pub proctime: bool,
    /// The rowtime is a TIMESTAMP_LTZ: bounds are shifted to the session's zone.
    pub ltz: bool,
}

#[derive(Clone, Debug)]
pub struct GroupWindowSpec {
    pub input: Vec<SqlType>,
    pub time: usize,
    pub window: WindowSpec,
    pub proctime: bool,
    pub keys: Vec<usize>,
    pub calls: Vec<AggregateCall>,
    pub retracting: bool,
    pub properties: Vec<WindowProperty>,
    pub ltz: bool,
}

/// Column positions of `condition` are left columns, then right columns. Output: left, then right columns (semi/anti: left).
#[derive(Clone, Debug)]
pub struct JoinSpec {
    pub kind: JoinKind,
    pub left: Vec<SqlType>,
    pub right: Vec<SqlType>,
    /// Equalities: left and right positions. `null_safe[i]`: `IS NOT DISTINCT FROM`.
    pub left_keys: Vec<usize>,
    pub right_keys: Vec<usize>,
    pub null_safe: Vec<bool>,
    /// What is left of the condition.
    pub condition: Option<Expr>,
    /// Upsert keys of the inputs, for smaller state.
    pub left_upsert_key: Option<Vec<usize>>,
    pub right_upsert_key: Option<Vec<usize>>,
    pub state_ttl: (Millis, Millis),
}

/// `left.time + lower <= right.time <= left.time + upper`
#[derive(Clone, Debug)]
pub struct IntervalJoinSpec {
    pub join: JoinSpec,
    pub left_time: usize,
    pub right_time: usize,
    pub lower: Millis,
    pub upper: Millis,
    pub proctime: bool,
}

#[derive(Clone, Debug)]
pub struct WindowJoinSpec {
    pub join: JoinSpec,
    /// Positions of window_end in each input.
    pub left_window_end: usize,
    pub right_window_end: usize,
    /// Window bounds are wall clock times of the session's zone: the rowtime is a TIMESTAMP_LTZ.
    pub ltz: bool,
}

#[derive(Clone, Debug)]
pub struct TemporalJoinSpec {
    pub join: JoinSpec,
    pub left_time: usize,
    pub right_time: usize,
    /// Inner or left.
    pub outer: bool,
}

/// Output: the left columns, then `project`.
#[derive(Clone, Debug)]
pub struct LookupJoinSpec {
    pub table: TableSpec,
    /// A key a column of `left_keys`.
    pub request: LookupRequest,
    pub left: Vec<SqlType>,
    pub left_keys: Vec<usize>,
    /// Types of the columns that are asked for.
    pub fetched: Vec<SqlType>,
    /// Over the fetched columns: rows of the table that do not pass count as not there.
    pub filter: Option<Expr>,
    /// Over the fetched columns.
    pub project: Vec<Expr>,
    /// Over left columns, then projected ones.
    pub condition: Option<Expr>,
    /// Left rows without a match stay, with NULLs.
    pub outer: bool,
    pub cache: Option<CacheOptions>,
}

#[derive(Clone, Debug)]
pub struct TopNSpec {
    pub input: Vec<SqlType>,
    pub partition_by: Vec<usize>,
    pub order_by: Vec<SortKey>,
    /// Ranks from..=to, from 1.
    pub from: u64,
    pub to: u64,
    /// Output: the input's columns, and the rank (BIGINT) if asked for.
    pub emit_rank: bool,
    /// RANK or DENSE_RANK instead of ROW_NUMBER.
    pub rank: RankKind,
    pub retracting: bool,
    /// The input is an upsert stream by this key (-U absent).
    pub upsert_key: Option<Vec<usize>>,
    pub emit_update_before: bool,
    pub state_ttl: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankKind {
    RowNumber,
    Rank,
    DenseRank,
}

#[derive(Clone, Debug)]
pub struct WindowTopNSpec {
    pub top_n: TopNSpec,
    pub window_end: usize,
    /// Window bounds are wall clock times of the session's zone: the rowtime is a TIMESTAMP_LTZ.
    pub ltz: bool,
}

#[derive(Clone, Debug)]
pub struct DeduplicateSpec {
    pub input: Vec<SqlType>,
    pub keys: Vec<usize>,
    pub time: usize,
    pub proctime: bool,
    /// Keep the last row instead of the first.
    pub keep_last: bool,
    pub emit_update_before: bool,
    /// Set: within windows, final at the window's end.
    pub window_end: Option<usize>,
    pub mini_batch: bool,
    pub state_ttl: Millis,
}

#[derive(Clone, Debug)]
pub struct OverSpec {
    pub input: Vec<SqlType>,
    pub partition_by: Vec<usize>,
    pub order_by: Vec<SortKey>,
    /// How rows are ordered: by an event-time attribute, by arrival (proctime), or by any column (retracting).
    pub time: OverTime,
    pub frame: Frame,
    pub calls: Vec<OverCall>,
    pub state_ttl: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverTime {
    Rowtime(usize),
    Proctime,
    None,
}

#[derive(Clone, Debug)]
pub struct TemporalSortSpec {
    pub input: Vec<SqlType>,
    pub time: usize,
    pub proctime: bool,
    pub then_by: Vec<SortKey>,
}

#[derive(Clone, Debug)]
pub struct SortSpec {
    pub input: Vec<SqlType>,
    pub keys: Vec<SortKey>,
    pub limit: Option<u64>,
    pub offset: u64,
}

#[derive(Clone, Debug)]
pub struct ChangelogNormalizeSpec {
    pub input: Vec<SqlType>,
    pub key: Vec<usize>,
    pub emit_update_before: bool,
    /// A filter pushed in, over the input.
    pub filter: Option<Expr>,
    pub mini_batch: bool,
    pub state_ttl: Millis,
}

#[derive(Clone, Debug)]
pub struct UpsertMaterializeSpec {
    pub input: Vec<SqlType>,
    /// The sink's primary key.
    pub sink_key: Vec<usize>,
    /// The query's upsert key, if it has one.
    pub upsert_key: Option<Vec<usize>>,
    /// `ON CONFLICT`: `DEDUPLICATE`, `NOTHING`, `ERROR`.
    pub on_conflict: Option<String>,
    pub state_ttl: Millis,
}

#[derive(Clone, Debug, Default)]
pub struct ConstraintSpec {
    /// Column, its name, and what is checked. `drop`: `table.exec.sink.not-null-enforcer` = `DROP`.
    pub not_null: Vec<(usize, String)>,
    pub drop_null_rows: bool,
    /// CHAR/BINARY: pad; CHAR/VARCHAR/BINARY/VARBINARY: cut (`TRIM_PAD`) or fail (`ERROR`).
    pub lengths: Vec<LengthConstraint>,
    /// `table.exec.sink.nested-constraint-enforcer`: columns with constraints inside; empty for `IGNORE`.
    pub nested: Vec<NestedConstraint>,
}

/// A ROW, ARRAY or MAP column whose inner types are checked as well.
#[derive(Clone, Debug)]
pub struct NestedConstraint {
    pub column: usize,
    pub name: String,
    pub ty: SqlType,
    /// Also inside ARRAY and MAP (`ROWS_AND_COLLECTIONS`), not only ROW.
    pub collections: bool,
    /// Lengths are checked too: `Some(true)` fails, `Some(false)` trims and pads; `None` ignores them.
    pub lengths: Option<bool>,
}

#[derive(Clone, Debug)]
pub struct LengthConstraint {
    pub column: usize,
    pub name: String,
    pub ty: SqlType,
    pub fail: bool,
}

#[derive(Clone, Debug)]
pub struct MatchSpec {
    pub input: Vec<SqlType>,
    pub clause: MatchClause,
}

#[derive(Clone, Debug)]
pub struct SetOperationSpec {
    pub input: Vec<SqlType>,
    pub except: bool,
    pub all: bool,
}

#[derive(Clone, Debug)]
pub struct WatermarkAssignerSpec {
    pub column: usize,
    pub expr: Expr,
    /// A watermark after every row that raises it, else one a batch.
    pub on_event: bool,
}

#[derive(Clone, Debug)]
pub struct ToChangelogSpec {
    pub op_column: String,
    /// Row kind to its text; kinds that are missing are dropped. Output: the op column, then the input's columns.
    pub mapping: Vec<(sluice_batch::RowKind, String)>,
    /// Set: of -D rows only these columns stay, the others become NULL (`produces_full_deletes => false`).
    pub delete_keys: Option<Vec<usize>>,
}

/// Output: the input's columns without the op column.
#[derive(Clone, Debug)]
pub struct FromChangelogSpec {
    pub op_column: usize,
    pub mapping: Vec<(String, sluice_batch::RowKind)>,
    /// Codes without a mapping: fail (else dropped).
    pub fail_on_unknown: bool,
}

#[derive(Clone, Debug)]
pub struct LateralSnapshotSpec {
    pub join: JoinSpec,
    /// The rowtime of the right input.
    pub right_time: usize,
    pub args: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct ExpandSpec {
    pub input: Vec<SqlType>,
    pub keys: Vec<usize>,
    /// Which of `keys` each set keeps (positions in `keys`).
    pub sets: Vec<Vec<usize>>,
}

#[derive(Clone, Debug)]
pub struct RuleCatalogSpec {
    pub rules: RuleColumns,
    /// Columns of the events that the rules are about.
    pub data: Vec<Field>,
}

/// Where a table of rules has them.
#[derive(Clone, Debug)]
pub enum RuleColumns {
    /// One column with the rule's JSON.
    Json(usize),
    /// A column a field.
    Fields {
        /// The fields as text, in the order of [`crate::rules::FIELDS`].
        texts: Vec<Option<Expr>>,
        /// `groupingKeyNames`.
        keys: usize,
    },
}

#[derive(Clone, Debug)]
pub struct RuleRouterSpec {
    pub data: Vec<Field>,
    /// Each column of the events as text; none for those that no rule can group by.
    pub texts: Vec<Option<Expr>>,
    /// The rules end: events wait until all are there.
    pub waits: bool,
}

#[derive(Clone, Debug)]
pub struct RuleEvaluationSpec {
    /// Columns of the events, which come behind the router's own.
    pub data: Vec<Field>,
    /// As the router's.
    pub texts: Vec<Option<Expr>>,
    /// The rowtime among the events' columns.
    pub time: usize,
    /// Columns of the events that are in the alerts' ROW.
    pub event: Vec<usize>,
    /// The scale of the triggering value.
    pub value_scale: u8,
}

/// Makes the operator of a spec.
///
/// # Errors
/// If the operator cannot do what the spec says, e.g. a frame or function that streams do not allow.
pub fn build(spec: &OperatorSpec) -> Result<Box<dyn Operator>> {
    use OperatorSpec as S;
    Ok(match spec.clone() {
        S::Calc { filter, project } => Box::new(crate::calc::Calc::new(filter, project)),
        S::Unnest(s) => Box::new(crate::unnest::Unnest::new(s)),
        S::GroupAggregate(s) => Box::new(crate::group_aggregate::GroupAggregate::new(s)?),
        S::WindowAggregate(s) => crate::group_window::window_aggregate(s)?,
        S::WindowTvf(s) => match s.window {
            WindowSpec::Session { gap } => Box::new(crate::session_tvf::SessionTvf::new(s, gap)?),
            _ => Box::new(crate::window_tvf::WindowTvf::new(s)?),
        },
        S::GroupWindow(s) => crate::group_window::group_window(s)?,
        S::Join(s) => Box::new(crate::join::Join::new(s)?),
        S::IntervalJoin(s) => Box::new(crate::interval_join::IntervalJoin::new(s)?),
        S::WindowJoin(s) => Box::new(crate::window_join::WindowJoin::new(s)?),
        S::TemporalJoin(s) => Box::new(crate::temporal_join::TemporalJoin::new(s)?),
        S::LookupJoin(s) => {
            let lookup = sluice_connect::open_lookup(&s.table, &s.request)?;
            Box::new(crate::lookup_join::LookupJoin::new(s, lookup)?)
        }
        S::TopN(s) => Box::new(crate::top_n::TopN::new(s)?),
        S::WindowTopN(s) => Box::new(crate::window_top_n::WindowTopN::new(s)?),
        S::Deduplicate(s) => match s.window_end {
            None => Box::new(crate::deduplicate::Deduplicate::new(s)?),
            Some(end) => Box::new(crate::window_top_n::WindowTopN::deduplicate(s, end)?),
        },
        S::Over(s) => crate::over::over(s)?,
        S::TemporalSort(s) => Box::new(crate::temporal_sort::TemporalSort::new(s)?),
        S::Sort(s) => Box::new(crate::sort::Sort::new(s)?),
        S::ChangelogNormalize(s) => Box::new(crate::changelog_normalize::ChangelogNormalize::new(s)?),
        S::UpsertMaterialize(s) => Box::new(crate::upsert_materialize::UpsertMaterialize::new(s)?),
        S::DropUpdateBefore => Box::new(crate::drop_update_before::DropUpdateBefore),
        S::ConstraintEnforcer(s) => Box::new(crate::constraint_enforcer::ConstraintEnforcer::new(s)),
        S::MatchRecognize(s) => Box::new(crate::match_recognize::MatchRecognize::new(&s)?),
        S::SetOperation(s) => Box::new(crate::set_operation::SetOperation::new(s)?),
        S::Union => Box::new(crate::union::Union),
        S::WatermarkAssigner(s) => Box::new(crate::watermark_assigner::WatermarkAssigner::new(s)),
        S::ToChangelog(s) => Box::new(crate::to_changelog::ToChangelog::new(s)),
        S::FromChangelog(s) => Box::new(crate::from_changelog::FromChangelog::new(s)),
        S::LateralSnapshotJoin(s) => Box::new(crate::lateral_snapshot_join::LateralSnapshotJoin::new(s)?),
        S::Expand(s) => Box::new(crate::expand::Expand::new(s)),
        S::RuleCatalog(s) => Box::new(crate::rules::catalog::RuleCatalog::new(s)),
        S::RuleRouter(s) => Box::new(crate::rules::router::RuleRouter::new(s)?),
        S::RuleEvaluation(s) => Box::new(crate::rules::evaluation::RuleEvaluation::new(s)?),
    })
}
