//! Typed relations: what a query means, before it is decided how to run it.
//!
//! A [`Rel`] is a tree. Every node has a [`Schema`]; expressions refer to columns of the node's input by position
//! (for joins: left columns, then right columns).

use std::sync::Arc;

use sluice_batch::aggregate::AggregateCall;
pub use sluice_batch::algebra::*;
use sluice_batch::{Datum, Expr, Millis, Span, SqlType};

use crate::catalog::Table;

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDef {
    pub name: String,
    pub ty: SqlType,
    pub time: Option<TimeAttribute>,
}

pub type Schema = Arc<Vec<ColumnDef>>;

#[derive(Clone, Debug)]
pub struct Rel {
    pub kind: RelKind,
    pub schema: Schema,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum RelKind {
    /// A table: its physical and metadata columns as `columns` says (positions in `table.columns`), in that order. Computed columns
    /// are a Project above it and the watermark a [`RelKind::Watermark`] above that.
    Scan {
        table: Arc<Table>,
        columns: Vec<usize>,
        hints: Vec<(String, String)>,
    },
    /// Makes the rowtime column a time attribute: `expr` over the input's columns is the watermark that a row allows.
    Watermark {
        input: Box<Rel>,
        column: usize,
        expr: Expr,
    },
    Values {
        rows: Vec<Vec<Expr>>,
    },
    Project {
        input: Box<Rel>,
        exprs: Vec<Expr>,
    },
    Filter {
        input: Box<Rel>,
        predicate: Expr,
    },
    /// Rows of `input` beside the elements of the collection `expr`. A ROW element gives one column a field, a MAP key and value;
    /// with `ordinality` an INT column from 1 follows.
    Unnest {
        input: Box<Rel>,
        expr: Expr,
        outer: bool,
        ordinality: bool,
    },
    /// Joins of two streams or tables. `condition` is over left and right columns; the planner splits it into equalities, interval and rest.
    Join {
        left: Box<Rel>,
        right: Box<Rel>,
        kind: JoinKind,
        condition: Expr,
        /// STATE_TTL hints for the left and right side; `None`: `table.exec.state.ttl`.
        state_ttl: (Option<Millis>, Option<Millis>),
    },
    /// `left JOIN right FOR SYSTEM_TIME AS OF time`: `time` is a column of the left side (rowtime: versioned table join; proctime: lookup join).
    TemporalJoin {
        left: Box<Rel>,
        right: Box<Rel>,
        outer: bool,
        time: usize,
        condition: Expr,
    },
    /// GROUP BY. Output: keys, then calls, then (with more than one grouping set) `grouping_id`, BIGINT NOT NULL:
    /// the position in `grouping_sets` of the set that made the row.
    Aggregate {
        input: Box<Rel>,
        /// Positions of the key columns in the input.
        keys: Vec<usize>,
        /// Which keys (positions in `keys`) each set has; one full set for a plain GROUP BY.
        grouping_sets: Vec<Vec<usize>>,
        calls: Vec<AggregateCall>,
        /// Set when the keys hold a window's start and end: see [`WindowKeys`].
        window: Option<WindowKeys>,
        /// A STATE_TTL hint; `None`: `table.exec.state.ttl`.
        state_ttl: Option<Millis>,
    },
    /// `TUMBLE/HOP/CUMULATE/SESSION(TABLE input, DESCRIPTOR(time), …)`: the input's columns, then window_start, window_end, window_time.
    WindowTvf {
        input: Box<Rel>,
        time: usize,
        window: WindowSpec,
        partition_by: Vec<usize>,
    },
    /// The old `GROUP BY TUMBLE(ts, …), keys`: an aggregate per window. Output: keys, calls, then the window properties asked for.
    GroupWindow {
        input: Box<Rel>,
        time: usize,
        window: WindowSpec,
        keys: Vec<usize>,
        calls: Vec<AggregateCall>,
        properties: Vec<WindowProperty>,
    },
    /// Window functions. Output: the input's columns, then one a call.
    Over {
        input: Box<Rel>,
        partition_by: Vec<usize>,
        order_by: Vec<SortKey>,
        frame: Frame,
        calls: Vec<OverCall>,
    },
    /// ORDER BY / LIMIT / OFFSET.
    Sort {
        input: Box<Rel>,
        keys: Vec<SortKey>,
        limit: Option<u64>,
        offset: u64,
    },
    /// UNION ALL of inputs with equal columns. (UNION is a Distinct above it.)
    Union {
        inputs: Vec<Rel>,
    },
    /// INTERSECT / EXCEPT [ALL].
    SetOperation {
        left: Box<Rel>,
        right: Box<Rel>,
        except: bool,
        all: bool,
    },
    Distinct {
        input: Box<Rel>,
    },
    /// A call of a polymorphic table function over tables (TO_CHANGELOG, FROM_CHANGELOG, …); `name` is upper case.
    TableFunction {
        name: String,
        inputs: Vec<Rel>,
        args: Vec<(String, TableArg)>,
    },
    /// Joins each left row with rows of a correlated function of it (`LATERAL TABLE(f(x))`).
    MatchRecognize {
        input: Box<Rel>,
        clause: Box<MatchClause>,
    },
    /// A relation used by more than one consumer (a view or CTE named twice in a statement). Planned once. Ids are unique in the process.
    Shared {
        id: usize,
        input: Arc<Rel>,
    },
}

#[derive(Clone, Debug)]
pub enum TableArg {
    Value(Datum, SqlType),
    /// `DESCRIPTOR(…)`: column names.
    Descriptor(Vec<String>),
    /// Key columns (positions) of `PARTITION BY` of the n-th table argument.
    Partition {
        input: usize,
        keys: Vec<usize>,
    },
    /// `MAP[…]` literals.
    Map(Vec<(String, String)>),
}

/// A GROUP BY over a window TVF: the keys that are the window's columns (positions in the aggregate's `keys`).
/// The planner checks that both bounds are there and that the input's windows are still intact.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WindowKeys {
    pub start: Option<usize>,
    pub end: Option<usize>,
    pub time: Option<usize>,
}

/// A statement that runs: a query into a table, or to the client.
#[derive(Clone, Debug)]
pub enum BoundStatement {
    /// `query`'s columns are already those that `table` persists, cast to their types, in order.
    Insert {
        table: Arc<Table>,
        columns: Vec<usize>,
        query: Rel,
        options: Vec<(String, String)>,
        on_conflict: Option<String>,
        span: Span,
    },
    Select {
        query: Rel,
    },
}

impl Rel {
    /// The relations that this one reads.
    pub fn inputs(&self) -> Vec<&Rel> {
        match &self.kind {
            RelKind::Scan { .. } | RelKind::Values { .. } => vec![],
            RelKind::Watermark { input, .. }
            | RelKind::Project { input, .. }
            | RelKind::Filter { input, .. }
            | RelKind::Unnest { input, .. }
            | RelKind::Aggregate { input, .. }
            | RelKind::WindowTvf { input, .. }
            | RelKind::GroupWindow { input, .. }
            | RelKind::Over { input, .. }
            | RelKind::Sort { input, .. }
            | RelKind::Distinct { input }
            | RelKind::MatchRecognize { input, .. } => vec![input],
            RelKind::Shared { input, .. } => vec![input],
            RelKind::Join { left, right, .. } | RelKind::TemporalJoin { left, right, .. } | RelKind::SetOperation { left, right, .. } => {
                vec![left, right]
            }
            RelKind::Union { inputs } | RelKind::TableFunction { inputs, .. } => inputs.iter().collect(),
        }
    }

    /// The same, to be changed. What is behind a [`RelKind::Shared`] is copied if others hold it, too.
    pub fn inputs_mut(&mut self) -> Vec<&mut Rel> {
        match &mut self.kind {
            RelKind::Scan { .. } | RelKind::Values { .. } => vec![],
            RelKind::Watermark { input, .. }
            | RelKind::Project { input, .. }
            | RelKind::Filter { input, .. }
            | RelKind::Unnest { input, .. }
            | RelKind::Aggregate { input, .. }
            | RelKind::WindowTvf { input, .. }
            | RelKind::GroupWindow { input, .. }
            | RelKind::Over { input, .. }
            | RelKind::Sort { input, .. }
            | RelKind::Distinct { input }
            | RelKind::MatchRecognize { input, .. } => vec![input],
            RelKind::Shared { input, .. } => vec![Arc::make_mut(input)],
            RelKind::Join { left, right, .. } | RelKind::TemporalJoin { left, right, .. } | RelKind::SetOperation { left, right, .. } => {
                vec![left, right]
            }
            RelKind::Union { inputs } | RelKind::TableFunction { inputs, .. } => inputs.iter_mut().collect(),
        }
    }
}
