//! The vocabulary that relations and operators share: joins, windows, frames, sort keys, row patterns.

use crate::aggregate::AggregateCall;
use crate::{Expr, Millis, SqlType};

/// Why a column is more than a value: it drives time (Flink: `*ROWTIME*`, `*PROCTIME*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeAttribute {
    Rowtime,
    Proctime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    /// `IN`, `EXISTS`: left rows with a match. Output: the left columns.
    Semi,
    /// `NOT IN`, `NOT EXISTS`
    Anti,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WindowSpec {
    Tumble { size: Millis, offset: Millis },
    Hop { slide: Millis, size: Millis, offset: Millis },
    Cumulate { step: Millis, max: Millis, offset: Millis },
    Session { gap: Millis },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowProperty {
    Start,
    End,
    Rowtime,
    Proctime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub rows: bool,
    pub start: Bound,
    pub end: Bound,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    Unbounded,
    /// Rows, or milliseconds for RANGE. 0 is the current row.
    Preceding(i64),
    Following(i64),
}

#[derive(Clone, Debug)]
pub enum OverCall {
    Aggregate(AggregateCall),
    RowNumber {
        name: String,
    },
    Rank {
        name: String,
    },
    DenseRank {
        name: String,
    },
    /// LAG (positive `offset`) and LEAD (negative).
    Lag {
        arg: usize,
        offset: i64,
        default: Option<Expr>,
        name: String,
        ty: SqlType,
    },
    FirstValue {
        arg: usize,
        name: String,
        ty: SqlType,
    },
    LastValue {
        arg: usize,
        name: String,
        ty: SqlType,
    },
    Ntile {
        buckets: i64,
        name: String,
    },
    PercentRank {
        name: String,
    },
    CumeDist {
        name: String,
    },
}

/// MATCH_RECOGNIZE, resolved. See `study/engine.md` part B for the rules.
#[derive(Clone, Debug)]
pub struct MatchClause {
    /// Positions of the partition columns in the input.
    pub partition_by: Vec<usize>,
    /// The time attribute.
    pub time: usize,
    pub proctime: bool,
    /// Further ORDER BY columns.
    pub order_by: Vec<SortKey>,
    pub pattern: Vec<PatternElement>,
    pub within: Option<Millis>,
    pub skip: SkipTo,
    /// Output: partition columns, then these.
    pub measures: Vec<(String, MatchExpr)>,
}

/// One variable of the pattern with its quantifier and condition (`None`: always true).
#[derive(Clone, Debug)]
pub struct PatternElement {
    pub variable: String,
    pub min: u32,
    /// `None`: unbounded.
    pub max: Option<u32>,
    pub greedy: bool,
    pub condition: Option<MatchExpr>,
}

/// An expression over what a match has bound so far: `expr` reads column *i* as the value of `slots[i]`.
#[derive(Clone, Debug)]
pub struct MatchExpr {
    pub expr: Expr,
    pub slots: Vec<MatchSlot>,
}

#[derive(Clone, Debug)]
pub struct MatchSlot {
    pub kind: MatchSlotKind,
    pub ty: SqlType,
}

/// Variables are positions in the pattern; `None` is "all rows of the match" (no variable named, or a SUBSET of all).
#[derive(Clone, Debug)]
pub enum MatchSlotKind {
    /// `FIRST(X.expr, offset)` / `LAST(X.expr, offset)`; a bare `X.c` is LAST with offset 0. `arg` is over the input's columns.
    Navigate { variables: Vec<usize>, last: bool, offset: u32, arg: Expr },
    /// An aggregate over the rows of the variables; `args` are over the input's columns.
    Aggregate { variables: Vec<usize>, call: AggregateCall, args: Vec<Expr> },
    /// `MATCH_ROWTIME()`
    Rowtime,
    /// `MATCH_PROCTIME()`
    Proctime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipTo {
    PastLastRow,
    NextRow,
    /// Position of the variable in the pattern.
    First(usize),
    Last(usize),
}
