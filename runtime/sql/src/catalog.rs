//! What a script has declared: tables, views, settings.

mod declare;
mod like;

use indexmap::IndexMap;
use sluice_batch::{Error, Result, Span, SqlType};

use crate::ast;

pub use declare::check_rowtime;

/// A column of a table, in declaration order.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub ty: SqlType,
    pub kind: ColumnKind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum ColumnKind {
    Physical,
    /// The connector's metadata key; virtual ones are not written.
    Metadata {
        key: String,
        is_virtual: bool,
    },
    /// An expression over the other columns, bound when the table is used. `ty` is settled by the binder.
    Computed(ast::Expr),
}

/// A declared table: columns, keys, watermark, options.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    pub watermark: Option<ast::WatermarkDef>,
    /// Positions in `columns`.
    pub primary_key: Option<Vec<usize>>,
    pub options: IndexMap<String, ast::SqlOption>,
    /// The statement, for SHOW CREATE TABLE.
    pub text: String,
    pub span: Span,
}

impl Table {
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(|o| o.value.as_str())
    }

    /// The place of an option, else of the table.
    pub fn option_span(&self, key: &str) -> Span {
        self.options.get(key).map_or(self.span, |o| o.value_span)
    }

    /// `connector`, which every table must have.
    pub fn connector(&self) -> Result<&str> {
        self.option("connector").ok_or_else(|| {
            Error::plan(format!("table '{}' has no 'connector' option", self.name))
                .at(self.span)
                .hint("add 'connector' = 'kafka' or another one to its WITH clause")
        })
    }
}

#[derive(Clone, Debug)]
pub struct View {
    pub name: String,
    pub columns: Vec<ast::Ident>,
    pub query: ast::Query,
    pub text: String,
}

/// Tables, views and settings in the order in which a script declared them.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub tables: IndexMap<String, Table>,
    pub views: IndexMap<String, View>,
    /// `SET 'key' = 'value'`
    pub settings: IndexMap<String, String>,
}
