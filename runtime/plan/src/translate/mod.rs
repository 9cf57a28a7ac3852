//! Relations to nodes, top-down with the columns that are used. One file an operator family.

mod aggregate;
mod calc;
mod join;
mod join_condition;
mod lookup_join;
mod match_recognize;
mod over;
mod rank;
mod rules;
mod scan;
mod set;
mod sort;
mod table_function;
mod unnest;
mod window;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use scan::table_spec;

use indexmap::IndexMap;
use sluice_batch::{Error, Expr, Result};
use sluice_operators::spec::OperatorSpec;
use sluice_sql::relation::{BoundStatement, ColumnDef, Rel, RelKind, Schema};

use crate::node::{Arena, Needed, PNode, Stream, UpdateBefore, Wants};
use crate::settings::Settings;
use crate::{NodeKind, PlanOptions};

/// What the statements became, before it is settled who makes -U rows.
pub(crate) struct Planned {
    pub nodes: Vec<PNode>,
    /// Sinks and clients, in the order of the statements.
    pub roots: Vec<usize>,
    pub warnings: Vec<String>,
}

pub(crate) struct Planner<'a> {
    pub settings: &'a Settings,
    pub options: &'a PlanOptions,
    pub arena: Arena,
    pub warnings: Vec<String>,
    /// Scans by table and hints: the columns that all of their uses need.
    scans: IndexMap<String, Needed>,
    /// Shared relations by id.
    shared: HashMap<usize, SharedUse>,
    /// A scan or shared relation got more columns than it was translated with: translate again.
    grew: bool,
}

#[derive(Default)]
struct SharedUse {
    needed: Needed,
    stream: Option<Stream>,
}

/// Translates all statements into one graph.
pub(crate) fn statements(statements: &[BoundStatement], settings: &Settings, options: &PlanOptions) -> Result<Planned> {
    let mut planner = Planner {
        settings,
        options,
        arena: Arena::default(),
        warnings: vec![],
        scans: IndexMap::new(),
        shared: HashMap::new(),
        grew: false,
    };
    loop {
        planner.grew = false;
        planner.arena = Arena::default();
        planner.warnings.clone_from(&settings.warnings);
        planner.shared.values_mut().for_each(|s| s.stream = None);
        let roots = statements.iter().map(|s| planner.statement(s)).collect::<Result<Vec<_>>>()?;
        if !planner.grew {
            return Ok(Planned { nodes: planner.arena.nodes, roots, warnings: planner.warnings });
        }
    }
}

impl Planner<'_> {
    fn statement(&mut self, statement: &BoundStatement) -> Result<usize> {
        match statement {
            BoundStatement::Select { query } => {
                let node = self.exact(query)?;
                let input = &self.arena.nodes[node];
                let (kinds, keys, bounded, event_time) = (input.kinds, input.keys.clone(), input.bounded, input.event_time);
                Ok(self.arena.add(PNode {
                    kind: NodeKind::Client,
                    inputs: vec![(node, Wants::Needs)],
                    schema: query.schema.clone(),
                    kinds,
                    update_before: UpdateBefore::Forwards,
                    keys,
                    bounded,
                    event_time,
                    state: "none".into(),
                }))
            }
            BoundStatement::Insert { .. } => self.sink(statement),
        }
    }

    /// A node whose output is exactly the relation's columns.
    pub(crate) fn exact(&mut self, rel: &Rel) -> Result<usize> {
        let stream = self.translate(rel, &crate::node::all(&rel.schema))?;
        self.narrow(&stream, &(0..rel.schema.len()).collect::<Vec<_>>(), &rel.schema)
    }

    /// Translates a relation of which the columns `needed` are used.
    pub(crate) fn translate(&mut self, rel: &Rel, needed: &Needed) -> Result<Stream> {
        let stream = match &rel.kind {
            RelKind::Scan { table, columns, hints } => self.scan(rel, table, columns, hints, None, needed),
            RelKind::Watermark { input, column, expr } => self.watermark(rel, input, *column, expr, needed),
            RelKind::Values { rows } => self.values(rel, rows),
            RelKind::Project { input, exprs } => self.project(rel, input, exprs, needed),
            RelKind::Filter { input, predicate } => self.filter(rel, input, predicate, needed),
            RelKind::Unnest { input, expr, outer, ordinality } => self.unnest(rel, input, expr, *outer, *ordinality, needed),
            RelKind::Join { .. } => self.join(rel, needed),
            RelKind::TemporalJoin { .. } => self.temporal_join(rel, needed),
            RelKind::Aggregate { .. } => self.aggregate(rel, needed),
            RelKind::WindowTvf { input, time, window, partition_by } => self.window_tvf(rel, input, *time, window, partition_by, needed),
            RelKind::GroupWindow { .. } => self.group_window(rel, needed),
            RelKind::Over { .. } => self.over(rel, needed),
            RelKind::Sort { .. } => self.sort(rel, needed),
            RelKind::Union { inputs } => self.union(rel, inputs, needed),
            RelKind::SetOperation { left, right, except, all } => self.set_operation(rel, left, right, *except, *all),
            RelKind::Distinct { input } => self.distinct(rel, input),
            RelKind::TableFunction { name, inputs, args } => self.table_function(rel, name, inputs, args, needed),
            RelKind::MatchRecognize { input, clause } => self.match_recognize(rel, input, clause, needed),
            RelKind::Shared { id, input } => self.shared(*id, input, needed),
        };
        stream.map_err(|e| e.at(rel.span))
    }

    fn shared(&mut self, id: usize, input: &Arc<Rel>, needed: &Needed) -> Result<Stream> {
        let known = self.shared.entry(id).or_default();
        if !needed.is_subset(&known.needed) {
            known.needed.extend(needed);
            self.grew |= known.stream.is_some();
            known.stream = None;
        }
        if let Some(stream) = &known.stream {
            return Ok(stream.clone());
        }
        let all = known.needed.clone();
        let stream = self.translate(input, &all)?;
        self.shared.entry(id).or_default().stream = Some(stream.clone());
        Ok(stream)
    }

    /// Adds an operator. Unless `settle` says otherwise it passes on the changes of its inputs, has no key and no state.
    pub(crate) fn operator(
        &mut self,
        spec: OperatorSpec,
        inputs: Vec<(usize, Wants)>,
        schema: Vec<ColumnDef>,
        settle: impl FnOnce(&mut PNode),
    ) -> usize {
        let nodes = &self.arena.nodes;
        let mut node = PNode {
            kinds: inputs.iter().map(|(i, _)| nodes[*i].kinds).reduce(|a, b| a.union(b)).unwrap_or_default(),
            bounded: inputs.iter().all(|(i, _)| nodes[*i].bounded),
            event_time: inputs.iter().all(|(i, _)| nodes[*i].event_time),
            kind: NodeKind::Operator(spec),
            inputs,
            schema: Arc::new(schema),
            update_before: UpdateBefore::Forwards,
            keys: vec![],
            state: "none".into(),
        };
        settle(&mut node);
        self.arena.add(node)
    }

    pub(crate) fn node(&self, node: usize) -> &PNode {
        &self.arena.nodes[node]
    }

    /// A node that gives exactly these columns of the stream's relation, in this order.
    pub(crate) fn narrow(&mut self, stream: &Stream, columns: &[usize], schema: &Schema) -> Result<usize> {
        let at = stream.columns(columns)?;
        let width = self.node(stream.node).schema.len();
        if at.len() == width && at.iter().enumerate().all(|(i, c)| i == *c) {
            return Ok(stream.node);
        }
        let project = columns.iter().zip(&at).map(|(c, at)| (Expr::column(*at, schema[*c].ty.clone()), schema[*c].clone())).collect();
        Ok(self.calc(stream.node, None, Some(project)))
    }

    /// [`Planner::narrow`] to a set of columns in any order, and where each is afterwards.
    pub(crate) fn narrow_to(&mut self, stream: &Stream, columns: &Needed, schema: &Schema) -> Result<Stream> {
        let wanted: Vec<usize> = columns.iter().copied().collect();
        let at: Needed = stream.columns(&wanted)?.into_iter().collect();
        if at.len() == wanted.len() && at.len() == self.node(stream.node).schema.len() {
            return Ok(stream.clone());
        }
        let node = self.narrow(stream, &wanted, schema)?;
        let mut map = vec![None; schema.len()];
        wanted.iter().enumerate().for_each(|(i, c)| map[*c] = Some(i));
        Ok(Stream { node, map })
    }

    /// Fails if the input takes rows back or updates them (Flink's wording).
    pub(crate) fn require_insert_only(&self, node: usize, operator: &str) -> Result<()> {
        let input = self.node(node);
        if input.kinds.insert_only() {
            return Ok(());
        }
        let what = match (input.kinds.update, input.kinds.delete) {
            (true, true) => "update and delete changes",
            (true, false) => "update changes",
            _ => "delete changes",
        };
        Err(Error::plan(format!("{operator} doesn't support consuming {what} which is produced by node {}", self.producer(node))))
    }

    /// The operator that made a node's changes, named as in EXPLAIN.
    pub(crate) fn producer(&self, node: usize) -> String {
        let mut at = node;
        loop {
            let here = self.node(at);
            let next = here.inputs.iter().map(|(i, _)| *i).find(|i| !self.node(*i).kinds.insert_only());
            match next {
                Some(next) if matches!(here.update_before, UpdateBefore::Forwards | UpdateBefore::Forced) => at = next,
                _ => return crate::explain::title(&here.kind, &self.input_names(at)),
            }
        }
    }

    fn input_names(&self, node: usize) -> Vec<Vec<String>> {
        let inputs = self.node(node).inputs.iter();
        inputs.map(|(i, _)| self.node(*i).schema.iter().map(|c| c.name.clone()).collect()).collect()
    }
}
