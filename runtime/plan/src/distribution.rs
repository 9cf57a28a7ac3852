//! Which edges of a graph are exchanges when several tasks run it. Each task has a copy of every node; rows that must meet are brought
//! into one task: rows of a key for keyed operators, all rows for global ones.

use std::collections::BTreeSet;

use sluice_batch::ExprKind;
use sluice_format::ChangelogMode;
use sluice_operators::spec::{ConstraintSpec, JoinSpec, OperatorSpec};
use sluice_sql::relation::JoinKind;

use crate::{Graph, NodeKind};

/// Where an input's rows must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution {
    Any,
    /// Rows with equal values in these columns, in this order, are in the task that owns their shard.
    Keys(Vec<usize>),
    /// The same for one column; rows where it is NULL are in every task.
    KeyOrAll(usize),
    /// Every task has all rows.
    All,
    /// All rows are in the first task.
    Single,
}

/// Edges with the same rows that lead from every task to every task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The node whose rows are exchanged.
    pub from: usize,
    /// Not [`Distribution::Any`].
    pub distribution: Distribution,
    /// Consumers: node and which of its inputs.
    pub to: Vec<(usize, usize)>,
}

/// A graph over several tasks.
#[derive(Clone, Debug, Default)]
pub struct Distributed {
    /// In topological order.
    pub exchanges: Vec<Exchange>,
    /// Nodes that only the first task has rows for.
    pub single: Vec<bool>,
    /// Those of them that have keys, but whose changes of one row would come from several tasks to a consumer that needs their order:
    /// a joined row that gets another join key, say, on its way to a sink with another key.
    pub kept_together: Vec<usize>,
}

impl Distributed {
    /// The exchanges as text, a line each: `Source -> GroupAggregate by (user_id)`.
    pub fn describe(&self, graph: &Graph) -> Vec<String> {
        let name = |node: usize| crate::explain::name(&graph.nodes[node].kind);
        let line = |e: &Exchange| {
            let columns = |keys: &[usize]| keys.iter().map(|k| graph.nodes[e.from].schema[*k].name.clone()).collect::<Vec<_>>().join(", ");
            let how = match &e.distribution {
                Distribution::Keys(keys) => format!("by ({})", columns(keys)),
                Distribution::KeyOrAll(key) => format!("by ({})", columns(&[*key])),
                Distribution::All => "to all tasks".to_owned(),
                Distribution::Single | Distribution::Any => "to one task".to_owned(),
            };
            let to: Vec<&str> = e.to.iter().map(|(node, _)| name(*node)).collect();
            format!("{} -> {} {how}", name(e.from), to.join(", "))
        };
        let together = |n: &usize| format!("{} runs in one task: a row's changes of its keys must reach the next key in order", name(*n));
        self.exchanges.iter().map(line).chain(self.kept_together.iter().map(together)).collect()
    }
}

/// Where a node's rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spread {
    /// As the sources gave them: changes of one row come from one task, in order.
    Source,
    /// By the shard of each of these column lists; by no visible column if there is none.
    Keys(Vec<Vec<usize>>),
    Single,
}

/// Finds the exchanges of a graph.
pub fn distribute(graph: &Graph) -> Distributed {
    let mut forced = BTreeSet::new();
    loop {
        let attempt = Attempt::new(graph, &forced);
        let found = attempt.unordered.iter().flat_map(|at| attempt.owners(*at)).filter(|n| !forced.contains(n)).collect::<Vec<_>>();
        if found.is_empty() {
            let single = attempt.spreads.iter().map(|s| *s == Spread::Single).collect();
            let exchanges = attempt.exchanges;
            return Distributed { single, exchanges, kept_together: forced.into_iter().collect() };
        }
        forced.extend(found);
    }
}

struct Attempt<'a> {
    graph: &'a Graph,
    forced: &'a BTreeSet<usize>,
    spreads: Vec<Spread>,
    exchanges: Vec<Exchange>,
    /// Nodes whose changes of one row may come from two tasks although an exchange's consumer relies on their order.
    unordered: BTreeSet<usize>,
}

impl<'a> Attempt<'a> {
    /// `forced`: nodes that run in one task.
    fn new(graph: &'a Graph, forced: &'a BTreeSet<usize>) -> Self {
        let mut attempt = Self { graph, forced, spreads: vec![], exchanges: vec![], unordered: BTreeSet::new() };
        for (at, node) in graph.nodes.iter().enumerate() {
            let mut inputs = vec![];
            for (port, input) in node.inputs.iter().enumerate() {
                let wanted = attempt.wanted(at, port);
                inputs.push(attempt.connect(*input, (at, port), wanted));
            }
            attempt.spreads.push(output(graph, at, inputs));
        }
        attempt
    }

    fn wanted(&self, at: usize, port: usize) -> Distribution {
        let node = &self.graph.nodes[at];
        match required(&node.kind, port) {
            _ if self.forced.contains(&at) => Distribution::Single,
            // Its other input is in one task, and so is the node.
            Distribution::All if node.inputs.first().is_some_and(|i| self.spreads[*i] == Spread::Single) => Distribution::Single,
            required => required,
        }
    }

    /// Brings a node's rows to where a consumer wants them; answers where they are then.
    fn connect(&mut self, from: usize, to: (usize, usize), wanted: Distribution) -> Spread {
        let spread = self.spreads[from].clone();
        let is_sink = matches!(self.graph.nodes[to.0].kind, NodeKind::Sink { .. });
        let updating = self.graph.nodes[from].properties.changelog != ChangelogMode::InsertOnly;
        let there = match (&wanted, &spread) {
            (Distribution::All, _) => false,
            (_, Spread::Single) | (Distribution::Any, _) => true,
            // A sink only needs the changes of a key in order.
            (Distribution::Keys(keys), Spread::Keys(by)) if is_sink => by.iter().any(|k| k.iter().all(|c| keys.contains(c))),
            (Distribution::Keys(_), Spread::Source) if is_sink => !updating,
            (Distribution::Keys(keys), Spread::Keys(by)) => by.contains(keys),
            _ => false,
        };
        if there {
            return spread;
        }
        if let (Spread::Keys(by), Some(key)) = (&spread, ordered_by(&self.graph.nodes[to.0].kind, to.1).filter(|_| updating))
            && !by.iter().any(|k| k.iter().all(|c| key.contains(c)))
        {
            self.unordered.insert(from);
        }
        match self.exchanges.iter_mut().find(|e| e.from == from && e.distribution == wanted) {
            Some(exchange) => exchange.to.push(to),
            None => self.exchanges.push(Exchange { from, distribution: wanted.clone(), to: vec![to] }),
        }
        match wanted {
            Distribution::Keys(keys) => Spread::Keys(vec![keys]),
            Distribution::KeyOrAll(_) | Distribution::All => Spread::Keys(vec![]),
            Distribution::Single | Distribution::Any => Spread::Single,
        }
    }

    /// The nearest nodes that decide which task a node's rows come from.
    fn owners(&self, at: usize) -> Vec<usize> {
        let node = &self.graph.nodes[at];
        let keyed = (0..node.inputs.len()).any(|port| required(&node.kind, port) != Distribution::Any);
        if keyed { vec![at] } else { node.inputs.iter().flat_map(|i| self.owners(*i)).collect() }
    }
}

/// Where a node needs the rows of its input `port`.
pub fn required(kind: &NodeKind, port: usize) -> Distribution {
    let by = |keys: &[usize]| if keys.is_empty() { Distribution::Single } else { Distribution::Keys(keys.to_vec()) };
    let side = |join: &JoinSpec| by(if port == 0 { &join.left_keys } else { &join.right_keys });
    let spec = match kind {
        NodeKind::Source { .. } | NodeKind::Values { .. } => return Distribution::Any,
        NodeKind::Client => return Distribution::Single,
        NodeKind::Sink { table } => return table.primary_key.clone().map_or(Distribution::Any, Distribution::Keys),
        NodeKind::Operator(spec) => spec,
    };
    use OperatorSpec as S;
    match spec {
        S::Calc { .. } | S::Unnest(_) | S::DropUpdateBefore | S::ConstraintEnforcer(_) | S::Union | S::Expand(_) => Distribution::Any,
        S::WatermarkAssigner(_) | S::ToChangelog(_) | S::FromChangelog(_) | S::LookupJoin(_) => Distribution::Any,
        S::GroupAggregate(s) => by(&s.keys),
        S::WindowAggregate(s) => by(&s.keys),
        S::WindowTvf(s) => match s.window {
            sluice_batch::algebra::WindowSpec::Session { .. } => by(&s.partition_by),
            _ => Distribution::Any,
        },
        S::GroupWindow(s) => by(&s.keys),
        S::Join(s) => side(s),
        S::IntervalJoin(s) => side(&s.join),
        S::WindowJoin(s) => side(&s.join),
        S::TemporalJoin(s) => side(&s.join),
        S::LateralSnapshotJoin(s) => side(&s.join),
        S::TopN(s) => by(&s.partition_by),
        S::WindowTopN(s) => by(&s.top_n.partition_by),
        S::Deduplicate(s) => by(&s.keys),
        S::Over(s) => by(&s.partition_by),
        S::TemporalSort(_) | S::Sort(_) | S::RuleCatalog(_) => Distribution::Single,
        S::RuleRouter(_) => {
            if port == 0 {
                Distribution::Any
            } else {
                Distribution::All
            }
        }
        S::RuleEvaluation(_) => Distribution::KeyOrAll(0),
        S::ChangelogNormalize(s) => by(&s.key),
        S::UpsertMaterialize(s) => by(&s.sink_key),
        S::MatchRecognize(s) => by(&s.clause.partition_by),
        S::SetOperation(s) => by(&(0..s.input.len()).collect::<Vec<_>>()),
    }
}

/// Columns by which a consumer tells the rows of an updating input apart, so that a row's changes must come in order. Others count
/// equal rows: they are right in any order, as long as no row is taken back before it came, which its task sees to.
fn ordered_by(kind: &NodeKind, port: usize) -> Option<&[usize]> {
    match kind {
        NodeKind::Sink { table } => table.primary_key.as_deref(),
        NodeKind::Operator(OperatorSpec::Join(s)) => if port == 0 { &s.left_upsert_key } else { &s.right_upsert_key }.as_deref(),
        NodeKind::Operator(OperatorSpec::TemporalJoin(s)) if port == 1 => Some(&s.join.right_keys),
        NodeKind::Operator(OperatorSpec::TopN(s)) => s.upsert_key.as_deref(),
        NodeKind::Operator(OperatorSpec::UpsertMaterialize(s)) => s.upsert_key.as_deref(),
        NodeKind::Operator(OperatorSpec::ChangelogNormalize(s)) => Some(&s.key),
        NodeKind::Operator(OperatorSpec::Deduplicate(s)) => Some(&s.keys),
        _ => None,
    }
}

/// Where a node's rows are, its inputs being where they are wanted.
fn output(graph: &Graph, at: usize, inputs: Vec<Spread>) -> Spread {
    let mut inputs = inputs.into_iter();
    let Some(first) = inputs.next() else { return Spread::Source };
    let rest: Vec<Spread> = inputs.collect();
    if rest.is_empty() && !matches!(first, Spread::Keys(_)) {
        return first;
    }
    if first == Spread::Single && rest.iter().all(|s| *s == Spread::Single) {
        return Spread::Single;
    }
    let lists = |spread: Spread| if let Spread::Keys(by) = spread { by } else { vec![] };
    let node = &graph.nodes[at];
    let moved = |to: &dyn Fn(usize) -> Option<usize>| {
        let list = |keys: Vec<usize>| keys.into_iter().map(to).collect::<Option<Vec<usize>>>();
        Spread::Keys(lists(first.clone()).into_iter().filter_map(list).collect())
    };
    let NodeKind::Operator(spec) = &node.kind else { return first };
    use OperatorSpec as S;
    match spec {
        S::Calc { project: Some(exprs), .. } => moved(&|c| exprs.iter().position(|e| matches!(e.kind, ExprKind::Column(i) if i == c))),
        S::Unnest(s) => moved(&|c| s.keep.iter().position(|k| *k == c)),
        S::ConstraintEnforcer(s) => moved(&|c| (!changes(s, c)).then_some(c)),
        S::ToChangelog(_) => moved(&|c| Some(c + 1)),
        S::FromChangelog(s) => moved(&|c| match c.cmp(&s.op_column) {
            std::cmp::Ordering::Less => Some(c),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(c - 1),
        }),
        S::Expand(_) | S::RuleRouter(_) | S::RuleEvaluation(_) => Spread::Keys(vec![]),
        S::GroupAggregate(s) => front(&s.keys),
        S::WindowAggregate(s) => front(&s.keys),
        S::GroupWindow(s) => front(&s.keys),
        S::MatchRecognize(s) => front(&s.clause.partition_by),
        S::Join(s) => joined(s),
        S::IntervalJoin(s) => joined(&s.join),
        S::WindowJoin(s) => joined(&s.join),
        S::TemporalJoin(s) => joined(&s.join),
        S::LateralSnapshotJoin(s) => joined(&s.join),
        S::Union if rest.iter().any(|s| *s != first) => Spread::Keys(vec![]),
        // Their input's columns come first, unchanged.
        _ => first,
    }
}

/// The keys are the first columns.
fn front(keys: &[usize]) -> Spread {
    Spread::Keys(vec![(0..keys.len()).collect()])
}

/// Rows of a side that an outer join fills with NULLs are where the other side's key is.
fn joined(join: &JoinSpec) -> Spread {
    let left = join.left_keys.clone();
    let right = join.right_keys.iter().map(|c| c + join.left.len()).collect();
    Spread::Keys(match join.kind {
        JoinKind::Inner => vec![left, right],
        JoinKind::Left | JoinKind::Semi | JoinKind::Anti => vec![left],
        JoinKind::Right => vec![right],
        JoinKind::Full => vec![],
    })
}

/// Whether the enforcer may write another value into a column.
fn changes(spec: &ConstraintSpec, column: usize) -> bool {
    spec.lengths.iter().any(|l| l.column == column) || spec.nested.iter().any(|n| n.column == column)
}
