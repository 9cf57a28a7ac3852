//! The plan under construction: nodes with what is known of their output, inputs before consumers.

use std::collections::{BTreeSet, HashMap};

use sluice_batch::{Error, Expr, Result, SqlType};
use sluice_sql::relation::{ColumnDef, Schema, TimeAttribute};

use crate::NodeKind;

/// Which changes besides +I a node gives (Flink: `ModifyKindSet`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub update: bool,
    pub delete: bool,
}

impl Kinds {
    pub const INSERT_ONLY: Self = Self { update: false, delete: false };
    pub const ALL: Self = Self { update: true, delete: true };

    pub fn insert_only(self) -> bool {
        !self.update && !self.delete
    }

    pub fn union(self, other: Self) -> Self {
        Self { update: self.update || other.update, delete: self.delete || other.delete }
    }
}

/// Where a node's -U rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpdateBefore {
    /// None: it never updates, or only upserts.
    Never,
    /// It makes them if somebody needs them.
    OnDemand,
    /// Those of its inputs pass through.
    Forwards,
    /// Always there with updates, and nobody loses by leaving them out (a retracting source).
    Always,
    /// Always there with updates, and a row may be taken back without a new one: consumers must see them.
    Forced,
}

/// What a node wants of an input's -U rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    Needs,
    /// They must not be there.
    Refuses,
    /// Better without, but those that matter are taken (upsert sinks behind a filter).
    Avoids,
    /// As its own consumers.
    AsConsumers,
}

#[derive(Clone, Debug)]
pub(crate) struct PNode {
    pub kind: NodeKind,
    pub inputs: Vec<(usize, Wants)>,
    pub schema: Schema,
    pub kinds: Kinds,
    pub update_before: UpdateBefore,
    /// Column sets that tell rows apart (Flink: `FlinkRelMdUpsertKeys`).
    pub keys: Vec<BTreeSet<usize>>,
    pub bounded: bool,
    /// Whether every source below has a watermark.
    pub event_time: bool,
    /// What bounds the operator's state.
    pub state: String,
}

impl PNode {
    pub fn types(&self) -> Vec<SqlType> {
        self.schema.iter().map(|c| c.ty.clone()).collect()
    }

    pub fn rowtime(&self) -> Option<usize> {
        self.schema.iter().position(|c| c.time == Some(TimeAttribute::Rowtime))
    }
}

/// The nodes made so far. Equal nodes are made once.
#[derive(Default)]
pub(crate) struct Arena {
    pub nodes: Vec<PNode>,
    known: HashMap<String, usize>,
}

impl Arena {
    /// Adds a node, or finds an equal one. Nodes with expressions that differ from call to call (UUID()) are never equal.
    pub fn add(&mut self, node: PNode) -> usize {
        let inputs: Vec<usize> = node.inputs.iter().map(|(n, _)| *n).collect();
        let names: Vec<&str> = match node.kind {
            NodeKind::Values { .. } | NodeKind::Sink { .. } | NodeKind::Client => return self.push(node),
            _ => node.schema.iter().map(|c| c.name.as_str()).collect(),
        };
        if !crate::expressions::is_deterministic(&node.kind) {
            return self.push(node);
        }
        let digest = format!("{:?} {inputs:?} {names:?}", node.kind);
        if let Some(known) = self.known.get(&digest) {
            return *known;
        }
        let at = self.push(node);
        self.known.insert(digest, at);
        at
    }

    fn push(&mut self, node: PNode) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

/// A relation's translation: the node that gives its rows, and where each of its columns is among the node's
/// (`None`: nobody asked for it).
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub node: usize,
    pub map: Vec<Option<usize>>,
}

impl Stream {
    /// The node's column that holds a column of the relation.
    pub fn column(&self, column: usize) -> Result<usize> {
        self.map.get(column).copied().flatten().ok_or_else(|| Error::plan(format!("internal: column {column} was pruned but is used")))
    }

    pub fn columns(&self, columns: &[usize]) -> Result<Vec<usize>> {
        columns.iter().map(|c| self.column(*c)).collect()
    }

    /// An expression over the relation's columns as one over the node's.
    pub fn expr(&self, expr: &Expr) -> Result<Expr> {
        let mut used = BTreeSet::new();
        expr.collect_columns(&mut used);
        for column in used {
            self.column(column)?;
        }
        Ok(expr.map_columns(&|i, ty| Expr::column(self.map.get(i).copied().flatten().unwrap_or(i), ty.clone())))
    }

    /// The identity over `columns` columns, moved by `offset`.
    pub fn shifted(&self, offset: usize) -> Vec<Option<usize>> {
        self.map.iter().map(|c| c.map(|c| c + offset)).collect()
    }
}

/// The columns of a relation that somebody uses.
pub(crate) type Needed = BTreeSet<usize>;

pub(crate) fn all(schema: &Schema) -> Needed {
    (0..schema.len()).collect()
}

/// A column of the planner's own making.
pub(crate) fn column(name: impl Into<String>, ty: SqlType) -> ColumnDef {
    ColumnDef { name: name.into(), ty, time: None }
}
