//! Conditions and measures, compiled: what can be known of a row alone is evaluated per batch, the rest reads the rows bound so far.

use std::sync::Arc;

use arrow::array::Array;
use sluice_batch::algebra::{MatchExpr, MatchSlot, MatchSlotKind};
use sluice_batch::{Batch, EvalContext, Expr, ExprKind, Result, ScalarFunction, SqlType, TypeKind};

use super::view::{Args, Prefixes, Slot, Val, View, from_datum, to_datum, wrap};

/// A condition on the rows bound so far.
pub struct Condition {
    slots: Vec<Slot>,
    node: Node,
}

enum Node {
    Slot(usize),
    Const(Val),
    Arith(Arith, TypeKind, Box<Node>, Box<Node>),
    /// The flag: both sides are integers, or numbers behind a date or time.
    Compare(Compare, bool, Box<Node>, Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    IsNull(Box<Node>, bool),
    /// Integer to a wider integer.
    Same(Box<Node>),
    /// A function by its row form, else over arrays of one row.
    Call {
        function: Arc<dyn ScalarFunction>,
        args: Vec<(Node, SqlType)>,
        ty: SqlType,
    },
    Case(Vec<(Node, Node)>, Box<Node>),
    /// A function of the one row that a slot names: its values are known per batch. What it is made of, where they are not.
    Known {
        slot: usize,
        arg: usize,
        ty: SqlType,
        otherwise: Box<Node>,
    },
}

#[derive(Clone, Copy)]
enum Arith {
    Add,
    Sub,
    Mul,
}

#[derive(Clone, Copy)]
enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Condition {
    pub fn compile(expr: &Expr, slots: &[MatchSlot], args: &mut Args, prefixes: &mut Prefixes) -> Self {
        let compiled = slots.iter().map(|s| Slot::compile(s, args, prefixes)).collect();
        Self { slots: compiled, node: node(expr, slots, args) }
    }

    /// Whether the condition holds; NULL does not.
    #[inline]
    pub fn holds(&self, view: &View<'_>) -> Result<bool> {
        Ok(self.truth(&self.node, view)? == Some(true))
    }

    /// A node of type BOOLEAN; `None` is NULL. Comparisons of integers, which most conditions are, need no [`Val`].
    fn truth(&self, node: &Node, view: &View<'_>) -> Result<Option<bool>> {
        if let Node::Compare(op, true, l, r) = node {
            return Ok(match (self.int(l, view)?, self.int(r, view)?) {
                (Some(a), Some(b)) => Some(op.test(a.cmp(&b))),
                _ => None,
            });
        }
        Ok(match self.eval(node, view)? {
            Val::Bool(b) => Some(b),
            _ => None,
        })
    }

    /// A node whose values are [`Val::Int`]; `None` is NULL.
    fn int(&self, node: &Node, view: &View<'_>) -> Result<Option<i64>> {
        Ok(match node {
            Node::Const(Val::Int(v)) => Some(*v),
            Node::Same(n) => self.int(n, view)?,
            Node::Slot(i) => view.slot_int(&self.slots[*i])?,
            Node::Arith(op, kind, l, r) => match (self.int(l, view)?, self.int(r, view)?) {
                (Some(a), Some(b)) => Some(op.apply(a, b, kind)),
                _ => None,
            },
            Node::Known { slot, arg, ty, .. } => match view.slot_row(&self.slots[*slot]) {
                Some(row) if !view.chunks.get(row.chunk).failed.contains(arg) => view.value_int(row, *arg, ty),
                _ => self.eval(node, view)?.int(),
            },
            _ => self.eval(node, view)?.int(),
        })
    }

    fn eval(&self, node: &Node, view: &View<'_>) -> Result<Val> {
        Ok(match node {
            Node::Slot(i) => view.slot(&self.slots[*i])?,
            Node::Const(v) => v.clone(),
            Node::Same(n) => self.eval(n, view)?,
            Node::Arith(op, kind, l, r) => match (self.eval(l, view)?, self.eval(r, view)?) {
                (Val::Int(a), Val::Int(b)) => Val::Int(op.apply(a, b, kind)),
                _ => Val::Null,
            },
            Node::Compare(op, _, l, r) => match (self.eval(l, view)?, self.eval(r, view)?) {
                (Val::Int(a), Val::Int(b)) => Val::Bool(op.test(a.cmp(&b))),
                (Val::Float(a), Val::Float(b)) => a.partial_cmp(&b).map_or(Val::Bool(matches!(op, Compare::Ne)), |o| Val::Bool(op.test(o))),
                _ => Val::Null,
            },
            Node::And(nodes) => self.connective(nodes, false, view)?,
            Node::Or(nodes) => self.connective(nodes, true, view)?,
            Node::Not(n) => match self.eval(n, view)? {
                Val::Bool(b) => Val::Bool(!b),
                _ => Val::Null,
            },
            Node::IsNull(n, want) => Val::Bool((self.eval(n, view)? == Val::Null) == *want),
            Node::Case(branches, otherwise) => {
                for (condition, result) in branches {
                    if self.eval(condition, view)? == Val::Bool(true) {
                        return self.eval(result, view);
                    }
                }
                self.eval(otherwise, view)?
            }
            Node::Call { function, args, ty } => self.call(function, args, ty, view)?,
            Node::Known { slot, arg, ty, otherwise } => match view.slot_row(&self.slots[*slot]) {
                Some(row) if !view.chunks.get(row.chunk).failed.contains(arg) => view.value(row, *arg, ty),
                _ => self.eval(otherwise, view)?,
            },
        })
    }

    /// AND (`decides` = false) or OR (true) in three-valued logic.
    fn connective(&self, nodes: &[Node], decides: bool, view: &View<'_>) -> Result<Val> {
        let mut result = Val::Bool(!decides);
        for node in nodes {
            match self.eval(node, view)? {
                Val::Bool(b) if b == decides => return Ok(Val::Bool(decides)),
                Val::Bool(_) => {}
                _ => result = Val::Null,
            }
        }
        Ok(result)
    }

    fn call(&self, function: &Arc<dyn ScalarFunction>, args: &[(Node, SqlType)], ty: &SqlType, view: &View<'_>) -> Result<Val> {
        let mut values = Vec::with_capacity(args.len());
        for (node, ty) in args {
            values.push(to_datum(self.eval(node, view)?, ty));
        }
        if let Some(result) = function.eval_row(&values, ty, view.context) {
            return result.map(from_datum);
        }
        let columns: Vec<_> = values
            .iter()
            .zip(args)
            .map(|(v, (_, t))| Ok(sluice_batch::Value::Array(sluice_batch::datum::to_array(v, t)?)))
            .collect::<Result<_>>()?;
        let result = function.eval(&columns, 1, ty, view.context)?;
        Ok(from_datum(sluice_batch::datum::from_array(result.array(), 0, ty)))
    }
}

impl Arith {
    #[inline]
    fn apply(self, a: i64, b: i64, kind: &TypeKind) -> i64 {
        let value = match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
        };
        wrap(value, kind)
    }
}

impl Compare {
    #[inline]
    fn test(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "=" => Self::Eq,
            "<>" => Self::Ne,
            "<" => Self::Lt,
            "<=" => Self::Le,
            ">" => Self::Gt,
            ">=" => Self::Ge,
            _ => return None,
        })
    }
}

/// Types whose values compare as [`Val::Int`] when both sides have the same one, or both are integers.
fn comparable(left: &TypeKind, right: &TypeKind) -> bool {
    (left.is_integer() && right.is_integer()) || (left == right && (left.is_datetime() || left.is_approximate_numeric()))
}

fn node(expr: &Expr, slots: &[MatchSlot], args: &mut Args) -> Node {
    let mut one = |e: &Expr| node(e, slots, args);
    match &expr.kind {
        ExprKind::Column(i) => Node::Slot(*i),
        ExprKind::Literal(d) => Node::Const(from_datum(d.clone())),
        ExprKind::And(v) => Node::And(v.iter().map(one).collect()),
        ExprKind::Or(v) => Node::Or(v.iter().map(one).collect()),
        ExprKind::Not(e) => Node::Not(Box::new(one(e))),
        ExprKind::IsNull(e) => Node::IsNull(Box::new(one(e)), true),
        ExprKind::IsNotNull(e) => Node::IsNull(Box::new(one(e)), false),
        ExprKind::Case { branches, otherwise } => {
            let branches = branches.iter().map(|(c, r)| (one(c), one(r))).collect();
            Node::Case(branches, Box::new(one(otherwise)))
        }
        ExprKind::Call { function, args: operands } => call(expr, function, operands, slots, args),
    }
}

fn call(expr: &Expr, function: &Arc<dyn ScalarFunction>, operands: &[Expr], slots: &[MatchSlot], args: &mut Args) -> Node {
    let ty = &expr.ty;
    let arith = match function.name() {
        "+" => Some(Arith::Add),
        "-" => Some(Arith::Sub),
        "*" => Some(Arith::Mul),
        _ => None,
    };
    let mut boxed = |e: &Expr| Box::new(node(e, slots, args));
    match (operands, arith, Compare::parse(function.name())) {
        ([l, r], Some(op), _) if l.ty.kind.is_integer() && r.ty.kind.is_integer() && ty.kind.is_integer() => {
            Node::Arith(op, ty.kind.clone(), boxed(l), boxed(r))
        }
        ([l, r], _, Some(op)) if comparable(&l.ty.kind, &r.ty.kind) => {
            Node::Compare(op, !l.ty.kind.is_approximate_numeric(), boxed(l), boxed(r))
        }
        ([one], ..) if function.name().starts_with("CAST[") && widens(&one.ty.kind, &ty.kind) => Node::Same(boxed(one)),
        _ => {
            let values = operands.iter().map(|a| (node(a, slots, args), a.ty.clone())).collect();
            let by_row = Node::Call { function: function.clone(), args: values, ty: ty.clone() };
            match known(expr, slots, args) {
                Some((slot, arg)) => Node::Known { slot, arg, ty: ty.clone(), otherwise: Box::new(by_row) },
                None => by_row,
            }
        }
    }
}

/// The slot and the argument of an expression that reads one row's columns only, so that it can be evaluated per batch.
fn known(expr: &Expr, slots: &[MatchSlot], args: &mut Args) -> Option<(usize, usize)> {
    let mut columns = std::collections::BTreeSet::new();
    expr.collect_columns(&mut columns);
    let place = |slot: &MatchSlot| match &slot.kind {
        MatchSlotKind::Navigate { variables, last, offset, arg } => Some((variables.clone(), *last, *offset, arg.clone())),
        _ => None,
    };
    let (variables, last, offset, _) = place(slots.get(*columns.first()?)?)?;
    let same = |c: &usize| slots.get(*c).and_then(place).is_some_and(|p| p.0 == variables && p.1 == last && p.2 == offset);
    if !expr.is_deterministic() || !columns.iter().all(same) {
        return None;
    }
    let over_row = expr.map_columns(&|c, ty| slots.get(c).and_then(place).map_or_else(|| Expr::null(ty.clone()), |p| p.3));
    Some((*columns.first()?, args.add_optional(&over_row)))
}

fn widens(from: &TypeKind, to: &TypeKind) -> bool {
    let rank = |k: &TypeKind| match k {
        TypeKind::TinyInt => Some(1),
        TypeKind::SmallInt => Some(2),
        TypeKind::Int => Some(3),
        TypeKind::BigInt => Some(4),
        _ => None,
    };
    matches!((rank(from), rank(to)), (Some(a), Some(b)) if a <= b)
}

/// A condition split into what a row alone decides (over the input's columns) and the rest.
pub fn split(condition: &MatchExpr, variable: usize) -> (Option<Expr>, Option<Expr>) {
    let conjuncts = match &condition.expr.kind {
        ExprKind::And(v) => v.clone(),
        _ => vec![condition.expr.clone()],
    };
    let own = |slot: &MatchSlot| match &slot.kind {
        MatchSlotKind::Navigate { variables, last: true, offset: 0, arg } if *variables == [variable] => Some(arg.clone()),
        _ => None,
    };
    let (mut row, mut rest) = (vec![], vec![]);
    for conjunct in conjuncts {
        let mut columns = std::collections::BTreeSet::new();
        conjunct.collect_columns(&mut columns);
        if conjunct.is_deterministic() && columns.iter().all(|c| own(&condition.slots[*c]).is_some()) {
            row.push(conjunct.map_columns(&|i, ty| own(&condition.slots[i]).unwrap_or_else(|| Expr::null(ty.clone()))));
        } else {
            rest.push(conjunct);
        }
    }
    let all = |v: Vec<Expr>| (!v.is_empty()).then(|| Expr::and(v));
    (all(row), all(rest))
}

/// Evaluates a row condition over a batch: NULL is false.
pub fn flags(expr: &Expr, batch: &Batch, context: &EvalContext) -> Result<Arc<Vec<bool>>> {
    let mask = expr.eval_mask(batch, context)?;
    Ok(Arc::new((0..mask.len()).map(|i| mask.is_valid(i) && mask.value(i)).collect()))
}
