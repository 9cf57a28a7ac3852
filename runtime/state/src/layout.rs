//! What the bytes of a state table mean: which columns, named by where their values come from, of which SQL types, in which order.
//!
//! A layout is made by the planner for the operators of a job ([`Layout`]), and written into the manifest with the state. With the
//! layouts of both sides, state is read, shown, compared and moved to another layout without the operators that wrote it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of one operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// What the operator is, the keys of its state and those of the operators below it, as a hash: equal for operators that may take
    /// over each other's state.
    pub meaning: String,
    /// Tables that its rows go to; empty for the client.
    #[serde(default)]
    pub sinks: Vec<String>,
    /// What must stay as it is for the state to mean the same: group keys, windows, join keys …, in words.
    #[serde(default)]
    pub fixed: BTreeMap<String, String>,
    #[serde(default)]
    pub tables: Vec<Table>,
}

/// One table: keys and values are each parts, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    pub key: Vec<Part>,
    pub value: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "part")]
pub enum Part {
    /// Columns as one memcomparable row (arrow-row).
    Row {
        name: String,
        columns: Vec<Column>,
        /// Its length (u32, big endian) is before it; else it is the rest of the bytes.
        #[serde(default)]
        prefixed: bool,
        /// What happens to rows from before columns were added.
        #[serde(default)]
        added: Added,
    },
    /// One number of the operator's own.
    Number { name: String, kind: NumberKind },
    /// Accumulators, each with its length (u32, big endian) before it; without bytes it is empty.
    Aggregates {
        calls: Vec<Call>,
        /// New calls cannot start empty: the operator takes rows back that they have not seen.
        #[serde(default)]
        closed: bool,
    },
    /// The same parts again and again until the bytes end.
    Repeated { name: String, parts: Vec<Part> },
}

/// What a column without values for old rows means for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Added {
    /// It is NULL.
    #[default]
    Null,
    /// They cannot be found any more, so the state cannot be used: the columns are, or may be, what a row is found by.
    Refused,
    /// As `Refused`, and columns cannot go away either.
    Fixed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The canonical expression: `orders.user_id`.
    pub name: String,
    /// Flink's text of the type: `VARCHAR(10) NOT NULL`.
    #[serde(rename = "type")]
    pub ty: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub descending: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nulls_last: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The canonical expression: `SUM(orders.price)`.
    pub name: String,
    /// The result's type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Which accumulator wrote the state: `SUM(INT)`, `MAX(BIGINT) retracting`.
    pub form: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberKind {
    /// 8 bytes, big endian.
    Integer,
    /// The same: milliseconds since the epoch.
    Millis,
    /// One byte: 0 or 1.
    Flag,
    /// One byte: the kind of a row.
    RowKind,
}

impl NumberKind {
    pub fn bytes(self) -> usize {
        match self {
            Self::Integer | Self::Millis => 8,
            Self::Flag | Self::RowKind => 1,
        }
    }
}

impl Part {
    /// What a part is found by in another layout.
    pub fn name(&self) -> &str {
        match self {
            Self::Row { name, .. } | Self::Number { name, .. } | Self::Repeated { name, .. } => name,
            Self::Aggregates { .. } => "aggregates",
        }
    }

    pub fn number(name: &str, kind: NumberKind) -> Self {
        Self::Number { name: name.to_owned(), kind }
    }

    pub fn integer(name: &str) -> Self {
        Self::number(name, NumberKind::Integer)
    }

    pub fn millis(name: &str) -> Self {
        Self::number(name, NumberKind::Millis)
    }

    pub fn flag(name: &str) -> Self {
        Self::number(name, NumberKind::Flag)
    }

    pub fn row_kind() -> Self {
        Self::number("_kind", NumberKind::RowKind)
    }

    pub fn row(name: &str, columns: Vec<Column>, added: Added) -> Self {
        Self::Row { name: name.to_owned(), columns, prefixed: false, added }
    }

    /// The same with the length before it.
    #[must_use]
    pub fn prefixed(self) -> Self {
        match self {
            Self::Row { name, columns, added, .. } => Self::Row { name, columns, prefixed: true, added },
            other => other,
        }
    }
}
