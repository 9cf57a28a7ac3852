//! The syntax tree of Flink SQL. Every node that can be wrong carries its [`Span`].

mod expr;

use sluice_batch::{Span, SqlType};

pub use expr::*;

/// An identifier as written; Flink's identifiers are case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ident {
    pub name: String,
    pub span: Span,
}

/// `[catalog.][database.]object`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    pub parts: Vec<Ident>,
}

impl ObjectName {
    pub fn span(&self) -> Span {
        self.parts.first().map_or(Span::NONE, |p| p.span)
    }

    /// The last part, which names the object.
    pub fn object(&self) -> &str {
        self.parts.last().map_or("", |p| p.name.as_str())
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, p) in self.parts.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { "." } else { "" }, p.name)?;
        }
        Ok(())
    }
}

/// `'key' = 'value'` with places, for messages about options.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlOption {
    pub key: String,
    pub key_span: Span,
    pub value: String,
    pub value_span: Span,
}

#[derive(Clone, Debug)]
pub enum Statement {
    CreateTable(Box<CreateTable>),
    CreateView(Box<CreateView>),
    Insert(Box<Insert>),
    /// A bare query.
    Query(Box<Query>),
    /// `EXECUTE STATEMENT SET BEGIN … END` or `BEGIN STATEMENT SET; … END`.
    StatementSet {
        inserts: Vec<Insert>,
        span: Span,
    },
    Explain {
        details: Vec<String>,
        statement: Box<Statement>,
        span: Span,
    },
    /// `SET 'k' = 'v'`; `SET` alone lists.
    Set {
        option: Option<SqlOption>,
        span: Span,
    },
    /// `RESET 'k'` or `RESET`.
    Reset {
        key: Option<String>,
        span: Span,
    },
    Drop {
        kind: ObjectKind,
        name: ObjectName,
        if_exists: bool,
        temporary: bool,
    },
    ShowTables {
        span: Span,
    },
    ShowViews {
        span: Span,
    },
    ShowFunctions {
        span: Span,
    },
    ShowCreate {
        kind: ObjectKind,
        name: ObjectName,
    },
    Describe {
        name: ObjectName,
    },
    /// Accepted by the grammar, not by the engine: the error names the statement.
    Unsupported {
        what: String,
        span: Span,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    Table,
    View,
    Function,
    Catalog,
    Database,
}

#[derive(Clone, Debug)]
pub struct CreateTable {
    pub name: ObjectName,
    pub temporary: bool,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDef>,
    pub watermark: Option<WatermarkDef>,
    /// `PRIMARY KEY (…)`, inline or as a constraint.
    pub primary_key: Option<PrimaryKeyDef>,
    pub comment: Option<String>,
    pub partitioned_by: Vec<Ident>,
    pub distributed: Option<Span>,
    pub options: Vec<SqlOption>,
    pub like: Option<LikeClause>,
    pub as_query: Option<Box<Query>>,
    /// The whole statement's text, for SHOW CREATE TABLE.
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct ColumnDef {
    pub name: Ident,
    pub kind: ColumnKind,
    pub comment: Option<String>,
}

#[derive(Clone, Debug)]
pub enum ColumnKind {
    Physical {
        ty: SqlType,
    },
    /// `ty METADATA [FROM 'key'] [VIRTUAL]`
    Metadata {
        ty: SqlType,
        key: Option<String>,
        is_virtual: bool,
    },
    /// `AS expression`
    Computed {
        expr: Expr,
    },
}

#[derive(Clone, Debug)]
pub struct WatermarkDef {
    /// The rowtime column; several parts for a nested field.
    pub column: Vec<Ident>,
    pub expr: Expr,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct PrimaryKeyDef {
    pub columns: Vec<Ident>,
    /// `NOT ENFORCED` was written. Without it the key is accepted and treated as not enforced.
    pub not_enforced: bool,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct LikeClause {
    pub table: ObjectName,
    /// `(INCLUDING|EXCLUDING|OVERWRITING, ALL|CONSTRAINTS|…)` in order, upper case.
    pub options: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct CreateView {
    pub name: ObjectName,
    pub temporary: bool,
    pub if_not_exists: bool,
    pub or_replace: bool,
    pub columns: Vec<Ident>,
    pub comment: Option<String>,
    pub query: Query,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct Insert {
    pub table: ObjectName,
    pub overwrite: bool,
    /// `PARTITION (a = 1, …)`
    pub partition: Vec<(Ident, Expr)>,
    pub columns: Vec<Ident>,
    pub query: Query,
    /// `/*+ OPTIONS('k'='v') */`
    pub hints: Vec<Hint>,
    /// `ON CONFLICT DO DEDUPLICATE | NOTHING | ERROR` (Flink 2.3), upper case.
    pub on_conflict: Option<(String, Span)>,
    pub span: Span,
}

/// `/*+ NAME(args) */`: `OPTIONS('k'='v')` or `STATE_TTL('a' = '1d')`, `BROADCAST(a)`.
#[derive(Clone, Debug)]
pub struct Hint {
    pub name: String,
    pub options: Vec<SqlOption>,
    pub args: Vec<String>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub with: Vec<Cte>,
    pub body: SetExpr,
    pub order_by: Vec<OrderBy>,
    pub limit: Option<Expr>,
    pub offset: Option<Expr>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub struct Cte {
    pub name: Ident,
    pub columns: Vec<Ident>,
    pub query: Query,
}

#[derive(Clone, Debug)]
pub enum SetExpr {
    Select(Box<Select>),
    Values { rows: Vec<Vec<Expr>>, span: Span },
    Query(Box<Query>),
    Operation { op: SetOperator, all: bool, left: Box<SetExpr>, right: Box<SetExpr>, span: Span },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOperator {
    Union,
    Intersect,
    Except,
}

#[derive(Clone, Debug)]
pub struct Select {
    pub hints: Vec<Hint>,
    pub distinct: bool,
    pub items: Vec<SelectItem>,
    /// Comma-separated; each is a cross join with the ones before.
    pub from: Vec<TableRef>,
    pub filter: Option<Expr>,
    pub group_by: Vec<GroupBy>,
    pub having: Option<Expr>,
    /// `WINDOW w AS (…)`
    pub windows: Vec<(Ident, WindowSpec)>,
    pub qualify: Option<Expr>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum SelectItem {
    /// `*` or `t.*`
    Wildcard {
        qualifier: Vec<Ident>,
        span: Span,
    },
    Expr {
        expr: Expr,
        alias: Option<Ident>,
    },
}

#[derive(Clone, Debug)]
pub enum GroupBy {
    Expr(Expr),
    GroupingSets(Vec<Vec<Expr>>),
    Rollup(Vec<Vec<Expr>>),
    Cube(Vec<Vec<Expr>>),
}

// A query has few of these: boxing the large variants would only cost readers.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum TableRef {
    Table {
        name: ObjectName,
        hints: Vec<Hint>,
        /// `FOR SYSTEM_TIME AS OF expr`
        system_time: Option<Box<Expr>>,
        alias: Option<TableAlias>,
    },
    Subquery {
        lateral: bool,
        query: Box<Query>,
        alias: Option<TableAlias>,
    },
    /// `TABLE(f(…))`, `LATERAL TABLE(f(…))` or `f(…)` in FROM: window TVFs and other table functions.
    Function {
        lateral: bool,
        call: FunctionCall,
        alias: Option<TableAlias>,
    },
    Unnest {
        expr: Box<Expr>,
        with_ordinality: bool,
        alias: Option<TableAlias>,
        span: Span,
    },
    Join {
        left: Box<TableRef>,
        right: Box<TableRef>,
        kind: JoinKind,
        condition: JoinCondition,
        span: Span,
    },
    MatchRecognize {
        input: Box<TableRef>,
        clause: Box<MatchRecognize>,
        alias: Option<TableAlias>,
    },
}

#[derive(Clone, Debug)]
pub struct TableAlias {
    pub name: Ident,
    pub columns: Vec<Ident>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Cross,
    Left,
    Right,
    Full,
}

#[derive(Clone, Debug)]
pub enum JoinCondition {
    None,
    On(Expr),
    Using(Vec<Ident>),
    Natural,
}

#[derive(Clone, Debug)]
pub struct OrderBy {
    pub expr: Expr,
    pub descending: bool,
    /// `NULLS FIRST`/`LAST`; Flink's default: NULLs are smallest.
    pub nulls_first: Option<bool>,
}

#[derive(Clone, Debug)]
pub struct MatchRecognize {
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<OrderBy>,
    pub measures: Vec<(Expr, Ident)>,
    pub all_rows: bool,
    pub after_match: Option<SkipTo>,
    pub pattern: Pattern,
    /// `WITHIN INTERVAL …`: a literal.
    pub within: Option<Expr>,
    pub subsets: Vec<(Ident, Vec<Ident>)>,
    pub define: Vec<(Ident, Expr)>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum SkipTo {
    PastLastRow,
    NextRow,
    First(Ident),
    Last(Ident),
}

#[derive(Clone, Debug)]
pub struct Pattern {
    pub node: PatternNode,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum PatternNode {
    Variable(Ident),
    Concat(Vec<Pattern>),
    Alternation(Vec<Pattern>),
    Group(Box<Pattern>),
    Quantified {
        inner: Box<Pattern>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    },
    Permute(Vec<Pattern>),
    Exclude(Box<Pattern>),
    /// `^`
    Start,
    /// `$`
    End,
}
