//! Expressions, calls and windows.

use sluice_batch::{Span, SqlType};

use super::{Ident, ObjectName, OrderBy, Query, TableRef};

#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    Literal(Literal),
    /// `a`, `t.a`, `t.row.field`: which part is what, the binder decides.
    Name(Vec<Ident>),
    /// `expr.field` where `expr` is not a name: `arr[1].f`, `(row).f`.
    Field {
        expr: Box<Expr>,
        field: Ident,
    },
    /// `arr[1]`, `map['k']`
    Index {
        expr: Box<Expr>,
        index: Box<Expr>,
    },
    Unary {
        op: UnaryOp,
        expr: Box<Expr>,
    },
    Binary {
        op: BinaryOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `a AND b AND c`, flattened
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Is {
        expr: Box<Expr>,
        test: IsTest,
        negated: bool,
    },
    IsDistinctFrom {
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    Between {
        expr: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
        symmetric: bool,
    },
    InList {
        expr: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    InSubquery {
        expr: Box<Expr>,
        query: Box<Query>,
        negated: bool,
    },
    Exists {
        query: Box<Query>,
        negated: bool,
    },
    ScalarSubquery(Box<Query>),
    Like {
        expr: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<Box<Expr>>,
        negated: bool,
    },
    SimilarTo {
        expr: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<Box<Expr>>,
        negated: bool,
    },
    /// `expr IS JSON [VALUE|OBJECT|ARRAY|SCALAR]`
    IsJson {
        expr: Box<Expr>,
        kind: Option<String>,
        negated: bool,
    },
    Case {
        operand: Option<Box<Expr>>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Cast {
        expr: Box<Expr>,
        ty: SqlType,
        try_cast: bool,
    },
    /// `ROW(a, b)` or `(a, b)`
    Row(Vec<Expr>),
    /// `ARRAY[…]`
    Array(Vec<Expr>),
    /// `MAP[k, v, …]`
    Map(Vec<(Expr, Expr)>),
    Function(Box<FunctionCall>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Boolean(bool),
    /// An unsigned exact number as written: `12`, `12.50`.
    Number(String),
    /// An approximate number as written: `1E3`.
    Approximate(String),
    String(String),
    /// `x'0AFF'`
    Bytes(Vec<u8>),
    /// `DATE '2020-01-01'`
    Date(String),
    Time(String),
    Timestamp(String),
    /// `INTERVAL '1' DAY`, `INTERVAL '1-2' YEAR TO MONTH`: months, or milliseconds
    IntervalYearMonth(i32),
    IntervalDayTime(i64),
    /// A unit or other keyword as an argument: `EXTRACT(YEAR FROM …)`, `TIMESTAMPADD(DAY, …)`, `FLOOR(x TO HOUR)`. Upper case.
    Symbol(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    Plus,
    Minus,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Plus,
    Minus,
    Multiply,
    Divide,
    Modulo,
    Concat,
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
    /// `a OVERLAPS b` over two-field rows
    Overlaps,
}

impl BinaryOp {
    /// The operator's text, also its name in the function registry.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Concat => "||",
            Self::Eq => "=",
            Self::NotEq => "<>",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
            Self::Overlaps => "OVERLAPS",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsTest {
    Null,
    True,
    False,
    Unknown,
}

/// A call of a scalar, aggregate, window or table function. Special forms are calls too, under their SQL name:
/// `EXTRACT(YEAR FROM x)` is `EXTRACT(Symbol YEAR, x)`, `TRIM(BOTH 'a' FROM x)` is `TRIM(Symbol BOTH, 'a', x)`,
/// `SUBSTRING(x FROM 1 FOR 2)` is `SUBSTRING(x, 1, 2)`, `POSITION(a IN b)` is `POSITION(a, b)`,
/// `OVERLAY(a PLACING b FROM c)` is `OVERLAY(a, b, c)`, `CEIL(x TO DAY)` is `CEIL(x, Symbol DAY)`, `CURRENT_TIMESTAMP` has no
/// arguments, `JSON_OBJECT(KEY k VALUE v, …)` is `JSON_OBJECT(k, v, …)`, `x AT TIME ZONE z` is `AT TIME ZONE(x, z)`, `FINAL LAST(A.x)` is
/// `FINAL(LAST(A.x))`, `TRIM(x)` has one argument,
/// `JSON_VALUE(…)` and its kin carry their clauses in `json`.
#[derive(Clone, Debug)]
pub struct FunctionCall {
    pub name: ObjectName,
    pub args: Vec<Arg>,
    pub distinct: bool,
    /// `COUNT(*)`
    pub star: bool,
    pub filter: Option<Expr>,
    pub over: Option<Over>,
    /// `WITHIN GROUP (ORDER BY …)` or an ORDER BY inside the parentheses.
    pub order_by: Vec<OrderBy>,
    /// `IGNORE NULLS` (true) or `RESPECT NULLS` (false).
    pub ignore_nulls: Option<bool>,
    /// Clauses of SQL/JSON functions, e.g. `RETURNING INT`, `NULL ON EMPTY`.
    pub json: JsonClauses,
    pub span: Span,
}

#[derive(Clone, Debug, Default)]
pub struct JsonClauses {
    pub returning: Option<SqlType>,
    /// JSON_VALUE / JSON_QUERY / JSON_EXISTS
    pub on_empty: Option<JsonBehavior>,
    pub on_error: Option<JsonBehavior>,
    /// JSON_OBJECT, JSON_ARRAY and their aggregates: `NULL ON NULL` (true), `ABSENT ON NULL` (false)
    pub null_on_null: Option<bool>,
    /// JSON_QUERY: `WITHOUT`, `WITH CONDITIONAL`, `WITH UNCONDITIONAL` [ARRAY WRAPPER]
    pub wrapper: Option<String>,
}

#[derive(Clone, Debug)]
pub enum JsonBehavior {
    Null,
    Error,
    True,
    False,
    Unknown,
    EmptyArray,
    EmptyObject,
    Default(Box<Expr>),
}

#[derive(Clone, Debug)]
pub struct Arg {
    /// `name => value`
    pub name: Option<Ident>,
    pub value: ArgValue,
}

#[derive(Clone, Debug)]
pub enum ArgValue {
    Expr(Expr),
    /// `TABLE t`, `TABLE t PARTITION BY …`, or `(SELECT …)` where a table is wanted
    Table {
        table: Box<TableRef>,
        partition_by: Vec<Expr>,
        order_by: Vec<OrderBy>,
        span: Span,
    },
    /// `DESCRIPTOR(a, b)`
    Descriptor {
        columns: Vec<Ident>,
        span: Span,
    },
}

#[derive(Clone, Debug)]
pub enum Over {
    Named(Ident),
    Spec(WindowSpec),
}

#[derive(Clone, Debug, Default)]
pub struct WindowSpec {
    /// A window of the WINDOW clause that this one extends.
    pub base: Option<Ident>,
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<OrderBy>,
    pub frame: Option<Frame>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Frame {
    /// ROWS (true) or RANGE (false).
    pub rows: bool,
    pub start: FrameBound,
    pub end: FrameBound,
}

#[derive(Clone, Debug)]
pub enum FrameBound {
    UnboundedPreceding,
    Preceding(Box<Expr>),
    CurrentRow,
    Following(Box<Expr>),
    UnboundedFollowing,
}
