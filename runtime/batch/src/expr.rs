//! Typed scalar expressions, evaluated a batch at a time over Arrow columns.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, NullArray, UInt32Array, new_null_array};
use arrow::compute;

use crate::batch::{Batch, Mask};
use crate::datum::Datum;
use crate::error::{Error, Result};
use crate::types::{SqlType, TypeKind};
use crate::{Millis, WATERMARK_NONE};

/// What an expression may ask of the outside: the session's settings and the task's clock.
/// Never the system clock, so that the same input gives the same output.
#[derive(Clone, Debug)]
pub struct EvalContext {
    /// `table.local-time-zone`.
    pub time_zone: chrono_tz::Tz,
    /// The task's processing time.
    pub now: Millis,
    /// The watermark at the operator that evaluates; [`WATERMARK_NONE`] as long as there is none.
    pub watermark: Millis,
}

impl Default for EvalContext {
    fn default() -> Self {
        Self { time_zone: chrono_tz::Tz::UTC, now: 0, watermark: WATERMARK_NONE }
    }
}

/// The value of an expression over a batch: a column, or one value that holds for every row.
#[derive(Clone, Debug)]
pub enum Value {
    Array(ArrayRef),
    /// An array of length 1 that stands for every row.
    Scalar(ArrayRef),
}

impl Value {
    /// The array, whichever it is: of `rows` values or of one.
    pub fn array(&self) -> &ArrayRef {
        match self {
            Value::Array(a) | Value::Scalar(a) => a,
        }
    }

    pub fn is_scalar(&self) -> bool {
        matches!(self, Value::Scalar(_))
    }

    /// The position that holds the value of `row`.
    #[inline]
    pub fn index(&self, row: usize) -> usize {
        if self.is_scalar() { 0 } else { row }
    }

    /// A column of `rows` values; repeats a scalar.
    pub fn into_array(self, rows: usize) -> Result<ArrayRef> {
        match self {
            Value::Array(a) => Ok(a),
            Value::Scalar(a) if rows == 1 => Ok(a),
            Value::Scalar(a) if a.is_null(0) => Ok(new_null_array(a.data_type(), rows)),
            Value::Scalar(a) => Ok(compute::take(&a, &UInt32Array::from_value(0, rows), None)?),
        }
    }
}

/// The body of a function, its argument types settled by the binder.
///
/// `eval` gets one [`Value`] an argument; an array has `rows` values. It answers with a scalar when all arguments
/// are scalars (or it has none and is constant), else with an array of `rows` values of the Arrow type of `ty`.
pub trait ScalarFunction: fmt::Debug + Send + Sync {
    /// The canonical name, part of the canonical text of an expression (and so of state identities).
    fn name(&self) -> &str;

    fn eval(&self, args: &[Value], rows: usize, ty: &SqlType, cx: &EvalContext) -> Result<Value>;

    /// For operators that go row by row (MATCH_RECOGNIZE): the same for one row, without arrays.
    /// `None` means that only the batch form exists.
    fn eval_row(&self, _args: &[Datum], _ty: &SqlType, _cx: &EvalContext) -> Option<Result<Datum>> {
        None
    }

    /// Whether equal arguments give equal results. `PROCTIME()`, `RAND()`, `UUID()` do not.
    fn deterministic(&self) -> bool {
        true
    }

    /// Whether there are arguments for which `eval` fails. Where there are none it may see rows that an AND, OR or CASE has decided.
    fn can_fail(&self) -> bool {
        true
    }
}

/// A typed expression over the columns of a batch.
#[derive(Clone, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub ty: SqlType,
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A column of the input by position.
    Column(usize),
    Literal(Datum),
    /// A function, operator or cast. NULL handling is the function's own.
    Call {
        function: Arc<dyn ScalarFunction>,
        args: Vec<Expr>,
    },
    /// Three-valued AND/OR over two or more operands; later ones are not evaluated for rows already decided.
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>),
    IsNotNull(Box<Expr>),
    /// `CASE WHEN c THEN r … ELSE e END`: a branch is evaluated only for the rows it decides. All results have type `ty`.
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Box<Expr>,
    },
}

impl Expr {
    pub fn column(index: usize, ty: SqlType) -> Self {
        Self { kind: ExprKind::Column(index), ty }
    }

    pub fn literal(value: Datum, ty: SqlType) -> Self {
        Self { kind: ExprKind::Literal(value), ty }
    }

    pub fn null(ty: SqlType) -> Self {
        Self::literal(Datum::Null, ty.as_nullable())
    }

    pub fn boolean(value: bool) -> Self {
        Self::literal(Datum::Boolean(value), TypeKind::Boolean.not_null())
    }

    pub fn call(function: Arc<dyn ScalarFunction>, args: Vec<Expr>, ty: SqlType) -> Self {
        Self { kind: ExprKind::Call { function, args }, ty }
    }

    /// `a AND b AND …`; TRUE for none.
    pub fn and(mut operands: Vec<Expr>) -> Self {
        match operands.len() {
            0 => Self::boolean(true),
            1 => operands.remove(0),
            _ => {
                let nullable = operands.iter().any(|e| e.ty.nullable);
                Self { kind: ExprKind::And(operands), ty: TypeKind::Boolean.with_nullable(nullable) }
            }
        }
    }

    pub fn as_column(&self) -> Option<usize> {
        match self.kind {
            ExprKind::Column(i) => Some(i),
            _ => None,
        }
    }

    pub fn as_literal(&self) -> Option<&Datum> {
        match &self.kind {
            ExprKind::Literal(d) => Some(d),
            _ => None,
        }
    }

    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) => vec![],
            ExprKind::Call { args, .. } => args.iter().collect(),
            ExprKind::And(v) | ExprKind::Or(v) => v.iter().collect(),
            ExprKind::Not(e) | ExprKind::IsNull(e) | ExprKind::IsNotNull(e) => vec![e],
            ExprKind::Case { branches, otherwise } => branches.iter().flat_map(|(c, r)| [c, r]).chain([&**otherwise]).collect(),
        }
    }

    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) => vec![],
            ExprKind::Call { args, .. } => args.iter_mut().collect(),
            ExprKind::And(v) | ExprKind::Or(v) => v.iter_mut().collect(),
            ExprKind::Not(e) | ExprKind::IsNull(e) | ExprKind::IsNotNull(e) => vec![e],
            ExprKind::Case { branches, otherwise } => branches.iter_mut().flat_map(|(c, r)| [c, r]).chain([&mut **otherwise]).collect(),
        }
    }

    /// Calls `visit` on this expression and everything below it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
    }

    /// Replaces every column reference, e.g. to move an expression over a projection.
    pub fn map_columns(&self, map: &dyn Fn(usize, &SqlType) -> Expr) -> Expr {
        if let ExprKind::Column(i) = self.kind {
            return map(i, &self.ty);
        }
        let mut copy = self.clone();
        for child in copy.children_mut() {
            *child = child.map_columns(map);
        }
        copy
    }

    /// Adds the positions of all columns read to `out`.
    pub fn collect_columns(&self, out: &mut std::collections::BTreeSet<usize>) {
        self.walk(&mut |e| {
            if let ExprKind::Column(i) = e.kind {
                out.insert(i);
            }
        });
    }

    pub fn is_deterministic(&self) -> bool {
        let mut deterministic = true;
        self.walk(&mut |e| {
            if let ExprKind::Call { function, .. } = &e.kind {
                deterministic &= function.deterministic();
            }
        });
        deterministic
    }

    /// Whether there are rows for which the evaluation fails.
    pub fn can_fail(&self) -> bool {
        let mut can_fail = false;
        self.walk(&mut |e| {
            if let ExprKind::Call { function, .. } = &e.kind {
                can_fail |= function.can_fail();
            }
        });
        can_fail
    }

    /// Evaluates over all rows of `batch`.
    pub fn eval(&self, batch: &Batch, cx: &EvalContext) -> Result<Value> {
        let rows = batch.rows();
        match &self.kind {
            ExprKind::Column(i) => Ok(Value::Array(batch.column(*i).clone())),
            ExprKind::Literal(d) => Ok(Value::Scalar(crate::datum::to_array(d, &self.ty)?)),
            ExprKind::Call { function, args } => {
                let args = args.iter().map(|a| a.eval(batch, cx)).collect::<Result<Vec<_>>>()?;
                function.eval(&args, rows, &self.ty, cx)
            }
            ExprKind::And(operands) => eval_connective(operands, true, batch, cx),
            ExprKind::Or(operands) => eval_connective(operands, false, batch, cx),
            ExprKind::Not(e) => map_boolean(&e.eval(batch, cx)?, |b| Ok(compute::not(b)?)),
            ExprKind::IsNull(e) => map_nulls(&e.eval(batch, cx)?, true),
            ExprKind::IsNotNull(e) => map_nulls(&e.eval(batch, cx)?, false),
            ExprKind::Case { branches, otherwise } => eval_case(branches, otherwise, &self.ty, batch, cx),
        }
    }

    /// Evaluates to a column.
    pub fn eval_array(&self, batch: &Batch, cx: &EvalContext) -> Result<ArrayRef> {
        self.eval(batch, cx)?.into_array(batch.rows())
    }

    /// Evaluates a predicate; NULL stays NULL.
    pub fn eval_mask(&self, batch: &Batch, cx: &EvalContext) -> Result<BooleanArray> {
        Ok(as_boolean(&self.eval_array(batch, cx)?)?.clone())
    }
}

fn as_boolean(array: &ArrayRef) -> Result<&BooleanArray> {
    array.as_any().downcast_ref::<BooleanArray>().ok_or_else(|| Error::runtime(format!("expected BOOLEAN, got {}", array.data_type())))
}

fn wrap(array: ArrayRef, scalar: bool) -> Value {
    if scalar { Value::Scalar(array) } else { Value::Array(array) }
}

fn map_boolean(v: &Value, f: impl Fn(&BooleanArray) -> Result<BooleanArray>) -> Result<Value> {
    Ok(wrap(Arc::new(f(as_boolean(v.array())?)?), v.is_scalar()))
}

fn map_nulls(v: &Value, want_null: bool) -> Result<Value> {
    let array = v.array();
    let out = if want_null { compute::is_null(array)? } else { compute::is_not_null(array)? };
    Ok(wrap(Arc::new(out), v.is_scalar()))
}

/// The rows at `indices`, of the columns that `exprs` read; the others are NULL and cost nothing.
fn take_used<'e>(batch: &Batch, exprs: impl Iterator<Item = &'e Expr>, indices: &UInt32Array) -> Result<Batch> {
    let mut used = std::collections::BTreeSet::new();
    exprs.for_each(|e| e.collect_columns(&mut used));
    let nulls: ArrayRef = Arc::new(NullArray::new(indices.len()));
    let take = |(i, c): (usize, &ArrayRef)| if used.contains(&i) { Ok(compute::take(c, indices, None)?) } else { Ok(nulls.clone()) };
    Ok(Batch::new(batch.columns().iter().enumerate().map(take).collect::<Result<_>>()?, indices.len()))
}

/// AND (`all`) or OR of the operands; an operand that can fail is evaluated only over the rows that the ones before left open,
/// so that `x <> 0 AND 1/x > 2` does not.
fn eval_connective(operands: &[Expr], all: bool, batch: &Batch, cx: &EvalContext) -> Result<Value> {
    let rows = batch.rows();
    let Some((first, rest)) = operands.split_first() else {
        return Ok(Value::Scalar(Arc::new(BooleanArray::from(vec![all]))));
    };
    let first = first.eval(batch, cx)?;
    let mut acc = as_boolean(&first.into_array(rows)?)?.clone();
    for operand in rest {
        let combine = if all { compute::and_kleene } else { compute::or_kleene };
        let open = |i: &usize| acc.is_null(*i) || acc.value(*i) == all;
        let open: Vec<u32> = if operand.can_fail() { (0..rows).filter(open).map(|i| i as u32).collect() } else { vec![] };
        if !operand.can_fail() || open.len() == rows {
            let next = operand.eval(batch, cx)?.into_array(rows)?;
            acc = combine(&acc, as_boolean(&next)?)?;
            continue;
        }
        if open.is_empty() {
            continue;
        }
        let part = take_used(batch, std::iter::once(operand), &UInt32Array::from(open.clone()))?;
        let next = operand.eval(&part, cx)?.into_array(part.rows())?;
        let next = as_boolean(&next)?;
        let mut values: Vec<Option<bool>> = vec![Some(!all); rows];
        for (at, row) in open.iter().enumerate() {
            values[*row as usize] = next.is_valid(at).then(|| next.value(at));
        }
        // Rows that were decided stay decided: `x AND FALSE` and `x OR TRUE` are what they were.
        acc = combine(&acc, &BooleanArray::from(values))?;
    }
    Ok(Value::Array(Arc::new(acc)))
}

fn eval_case(branches: &[(Expr, Expr)], otherwise: &Expr, ty: &SqlType, batch: &Batch, cx: &EvalContext) -> Result<Value> {
    let rows = batch.rows();
    let mut open: Vec<u32> = (0..rows as u32).collect();
    let mut parts: Vec<ArrayRef> = Vec::with_capacity(branches.len() + 1);
    // Where each row's value is: (part, position in it).
    let mut source: Vec<(usize, usize)> = vec![(0, 0); rows];
    for (condition, result) in branches.iter().map(|(c, r)| (Some(c), r)).chain([(None, otherwise)]) {
        if open.is_empty() {
            break;
        }
        let whole = open.len() == rows;
        let part =
            if whole { batch.clone() } else { take_used(batch, condition.into_iter().chain([result]), &UInt32Array::from(open.clone()))? };
        let hits: Vec<usize> = match condition {
            None => (0..open.len()).collect(),
            Some(c) => {
                let mask = c.eval_mask(&part, cx)?;
                (0..open.len()).filter(|i| mask.is_valid_and_true(*i)).collect()
            }
        };
        if hits.is_empty() {
            continue;
        }
        let chosen = match hits.len() == open.len() {
            true => part,
            false => take_used(&part, std::iter::once(result), &hits.iter().map(|i| *i as u32).collect::<Vec<_>>().into())?,
        };
        let values = result.eval(&chosen, cx)?.into_array(chosen.rows())?;
        let values = if *values.data_type() == ty.to_arrow() { values } else { compute::cast(&values, &ty.to_arrow())? };
        for (at, hit) in hits.iter().enumerate() {
            source[open[*hit] as usize] = (parts.len(), at);
        }
        parts.push(values);
        if hits.len() == open.len() {
            open.clear();
        } else {
            let mut hits = hits.into_iter().peekable();
            let mut at = 0;
            open.retain(|_| {
                let hit = hits.next_if_eq(&at).is_some();
                at += 1;
                !hit
            });
        }
    }
    match parts.as_slice() {
        [] => Ok(Value::Array(new_null_array(&ty.to_arrow(), rows))),
        [one] if one.len() == rows => Ok(Value::Array(one.clone())),
        _ => {
            let refs: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
            Ok(Value::Array(compute::interleave(&refs, &source)?))
        }
    }
}

/// The canonical text: `(a > 3)` is `>($0, 3)`. Equal text means equal meaning; state identities are made from it.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(f: &mut fmt::Formatter<'_>, name: &str, items: &[&Expr]) -> fmt::Result {
            write!(f, "{name}(")?;
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{item}")?;
            }
            f.write_str(")")
        }
        match &self.kind {
            ExprKind::Column(i) => write!(f, "${i}"),
            ExprKind::Literal(d) => write!(f, "{}", crate::datum::Display(d, &self.ty)),
            ExprKind::Call { function, .. } => list(f, function.name(), &self.children()),
            ExprKind::And(_) => list(f, "AND", &self.children()),
            ExprKind::Or(_) => list(f, "OR", &self.children()),
            ExprKind::Not(_) => list(f, "NOT", &self.children()),
            ExprKind::IsNull(_) => list(f, "IS NULL", &self.children()),
            ExprKind::IsNotNull(_) => list(f, "IS NOT NULL", &self.children()),
            ExprKind::Case { .. } => list(f, "CASE", &self.children()),
        }
    }
}
