//! What conditions and measures read of the rows bound so far.

use std::sync::Arc;

use arrow::array::Array;
use sluice_batch::algebra::{MatchSlot, MatchSlotKind};
use sluice_batch::{Accumulator, AggregateFunction, Datum, EvalContext, Expr, Millis, Result, SqlType, TypeKind};

use super::rows::{Chunks, Fast, KeyRows, RowRef};

/// Arguments over the input's columns, evaluated once a batch; equal ones are shared.
#[derive(Default)]
pub struct Args {
    pub exprs: Vec<Expr>,
    /// Only conditions read it, and they have a way of their own for rows for which it fails: it may fail.
    pub optional: Vec<bool>,
    texts: Vec<String>,
}

impl Args {
    /// The position of an expression among the columns of a chunk.
    pub fn add(&mut self, expr: &Expr) -> usize {
        let at = self.add_optional(expr);
        self.optional[at] = false;
        at
    }

    pub fn add_optional(&mut self, expr: &Expr) -> usize {
        let text = format!("{expr}:{}", expr.ty);
        self.texts.iter().position(|t| *t == text).unwrap_or_else(|| {
            self.texts.push(text);
            self.exprs.push(expr.clone());
            self.optional.push(true);
            self.exprs.len() - 1
        })
    }
}

/// Which aggregates have running sums: position of the argument in [`Args`]; `None` counts rows.
#[derive(Default)]
pub struct Prefixes {
    pub args: Vec<Option<usize>>,
}

impl Prefixes {
    fn add(&mut self, arg: Option<usize>) -> usize {
        self.args.iter().position(|a| *a == arg).unwrap_or_else(|| {
            self.args.push(arg);
            self.args.len() - 1
        })
    }
}

/// What a slot reads.
pub enum Slot {
    Navigate {
        variables: Vec<usize>,
        last: bool,
        offset: usize,
        arg: usize,
        ty: SqlType,
    },
    /// COUNT, SUM or AVG of integers: a difference of running sums.
    Prefix {
        variables: Vec<usize>,
        prefix: usize,
        kind: PrefixKind,
        ty: SqlType,
    },
    Aggregate {
        variables: Vec<usize>,
        function: Arc<dyn AggregateFunction>,
        args: Vec<usize>,
        ty: SqlType,
    },
    Rowtime(SqlType),
    Proctime(SqlType),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixKind {
    Count,
    Sum,
    Avg,
}

impl Slot {
    pub fn compile(slot: &MatchSlot, args: &mut Args, prefixes: &mut Prefixes) -> Self {
        let ty = slot.ty.clone();
        match &slot.kind {
            MatchSlotKind::Navigate { variables, last, offset, arg } => {
                Self::Navigate { variables: variables.clone(), last: *last, offset: *offset as usize, arg: args.add(arg), ty }
            }
            MatchSlotKind::Aggregate { variables, call, args: exprs } => {
                let variables = variables.clone();
                let exact = |e: &Expr| e.ty.kind.is_integer();
                let positions: Vec<usize> = exprs.iter().map(|e| args.add(e)).collect();
                match (call.function.name(), exprs.as_slice()) {
                    ("COUNT", []) => Self::Prefix { variables, prefix: prefixes.add(None), kind: PrefixKind::Count, ty },
                    ("SUM", [e]) if exact(e) && ty.kind.is_integer() => {
                        Self::Prefix { variables, prefix: prefixes.add(Some(positions[0])), kind: PrefixKind::Sum, ty }
                    }
                    ("AVG", [e]) if exact(e) && ty.kind.is_integer() => {
                        Self::Prefix { variables, prefix: prefixes.add(Some(positions[0])), kind: PrefixKind::Avg, ty }
                    }
                    ("COUNT", [e]) if exact(e) => {
                        Self::Prefix { variables, prefix: prefixes.add(Some(positions[0])), kind: PrefixKind::Count, ty }
                    }
                    _ => Self::Aggregate { variables, function: call.function.clone(), args: positions, ty },
                }
            }
            MatchSlotKind::Rowtime => Self::Rowtime(ty),
            MatchSlotKind::Proctime => Self::Proctime(ty),
        }
    }

    pub fn ty(&self) -> &SqlType {
        match self {
            Self::Navigate { ty, .. } | Self::Prefix { ty, .. } | Self::Aggregate { ty, .. } | Self::Rowtime(ty) | Self::Proctime(ty) => ty,
        }
    }
}

/// A value in a condition, small for the types that conditions mostly compare.
#[derive(Clone, Debug, PartialEq)]
pub enum Val {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Other(Datum),
}

impl Val {
    pub fn int(self) -> Option<i64> {
        match self {
            Self::Int(v) => Some(v),
            _ => None,
        }
    }
}

/// The rows of a key, which variable has which, and the row that is tried.
pub struct View<'a> {
    pub key: &'a KeyRows,
    pub chunks: &'a Chunks,
    pub types: &'a [SqlType],
    /// Row numbers where each variable begins; the last entry is the end.
    pub bounds: &'a [u32],
    /// The variable that would take row number `end` (only in conditions).
    pub candidate: Option<usize>,
    /// Event time of the row or watermark at hand.
    pub time: Millis,
    pub context: &'a EvalContext,
}

impl View<'_> {
    /// Row numbers of a variable, the candidate included.
    #[inline]
    fn range(&self, variable: usize) -> (usize, usize) {
        let (from, to) = (self.bounds[variable] as usize, self.bounds[variable + 1] as usize);
        if self.candidate == Some(variable) { (from, self.end() + 1) } else { (from, to) }
    }

    #[inline]
    fn end(&self) -> usize {
        self.bounds[self.bounds.len() - 1] as usize
    }

    /// Row numbers of several variables (none: all rows of the match), in order.
    fn rows(&self, variables: &[usize]) -> Vec<usize> {
        if variables.is_empty() {
            return (0..self.end() + usize::from(self.candidate.is_some())).collect();
        }
        variables
            .iter()
            .flat_map(|v| {
                let (from, to) = self.range(*v);
                from..to
            })
            .collect()
    }

    /// The row that FIRST/LAST with an offset names.
    #[inline]
    fn navigate(&self, variables: &[usize], last: bool, offset: usize) -> Option<RowRef> {
        let (from, to) = match variables {
            [one] => self.range(*one),
            [] => (0, self.end() + usize::from(self.candidate.is_some())),
            many => {
                let rows = self.rows(many);
                let at = if last { rows.len().checked_sub(offset + 1)? } else { offset };
                return rows.get(at).and_then(|r| self.key.rows.get(*r)).map(|r| r.1);
            }
        };
        let at = if last { to.checked_sub(offset + 1)? } else { from + offset };
        if at < from || at >= to { None } else { self.key.rows.get(at).map(|r| r.1) }
    }

    pub fn slot_row(&self, slot: &Slot) -> Option<RowRef> {
        match slot {
            Slot::Navigate { variables, last, offset, .. } => self.navigate(variables, *last, *offset),
            _ => None,
        }
    }

    /// The value of a slot.
    #[inline]
    pub fn slot(&self, slot: &Slot) -> Result<Val> {
        match slot {
            Slot::Navigate { variables, last, offset, arg, ty } => {
                Ok(self.navigate(variables, *last, *offset).map_or(Val::Null, |row| self.value(row, *arg, ty)))
            }
            Slot::Prefix { variables, prefix, kind, ty } => Ok(self.prefix(variables, *prefix, *kind, ty).map_or(Val::Null, Val::Int)),
            Slot::Aggregate { variables, function, args, ty } => self.aggregate(variables, function.as_ref(), args, ty),
            Slot::Rowtime(ty) => Ok(Val::Int(timestamp(self.time, ty))),
            Slot::Proctime(ty) => Ok(Val::Int(timestamp(self.context.now, ty))),
        }
    }

    /// A slot whose values are [`Val::Int`].
    #[inline]
    pub fn slot_int(&self, slot: &Slot) -> Result<Option<i64>> {
        match slot {
            Slot::Navigate { variables, last, offset, arg, ty } => {
                Ok(self.navigate(variables, *last, *offset).and_then(|row| self.value_int(row, *arg, ty)))
            }
            Slot::Prefix { variables, prefix, kind, ty } => Ok(self.prefix(variables, *prefix, *kind, ty)),
            _ => Ok(self.slot(slot)?.int()),
        }
    }

    #[inline]
    pub fn value_int(&self, row: RowRef, arg: usize, ty: &SqlType) -> Option<i64> {
        match &self.chunks.get(row.chunk).fast[arg] {
            Fast::Int(a) => a.is_valid(row.at as usize).then(|| a.value(row.at as usize)),
            _ => self.value(row, arg, ty).int(),
        }
    }

    #[inline]
    pub fn value(&self, row: RowRef, arg: usize, ty: &SqlType) -> Val {
        let (chunk, at) = (self.chunks.get(row.chunk), row.at as usize);
        match &chunk.fast[arg] {
            Fast::Int(a) if a.is_null(at) => Val::Null,
            Fast::Int(a) => Val::Int(a.value(at)),
            Fast::Float(a) if a.is_null(at) => Val::Null,
            Fast::Float(a) => Val::Float(a.value(at)),
            Fast::Bool(_, Some(valid)) if valid.is_null(at) => Val::Null,
            Fast::Bool(values, _) => Val::Bool(values.value(at)),
            Fast::Slow => from_datum(sluice_batch::datum::from_array(&chunk.columns[arg], at, ty)),
        }
    }

    fn prefix(&self, variables: &[usize], prefix: usize, kind: PrefixKind, ty: &SqlType) -> Option<i64> {
        let prefix = &self.key.prefixes[prefix];
        let (sum, count) = match variables {
            [] => prefix.range(0, self.end() + usize::from(self.candidate.is_some())),
            many => many
                .iter()
                .map(|v| {
                    let (from, to) = self.range(*v);
                    prefix.range(from, to)
                })
                .fold((0i64, 0), |(s, c), (s1, c1)| (s.wrapping_add(s1), c + c1)),
        };
        match kind {
            PrefixKind::Count => Some(count),
            _ if count == 0 => None,
            PrefixKind::Sum => Some(wrap(sum, &ty.kind)),
            PrefixKind::Avg => Some(wrap(sum / count, &ty.kind)),
        }
    }

    fn aggregate(&self, variables: &[usize], function: &dyn AggregateFunction, args: &[usize], ty: &SqlType) -> Result<Val> {
        let rows: Vec<Option<RowRef>> = self.rows(variables).into_iter().map(|r| self.key.rows.get(r).map(|r| r.1)).collect();
        let columns = args.iter().map(|a| self.chunks.gather(*a, &rows, &self.types[*a].to_arrow())).collect::<Result<Vec<_>>>()?;
        let mut accumulator: Box<dyn Accumulator> = function.accumulator(false);
        accumulator.resize(1);
        accumulator.update(&columns, &vec![0; rows.len()], None)?;
        Ok(from_datum(sluice_batch::datum::from_array(&accumulator.evaluate(&[0])?, 0, ty)))
    }
}

/// Milliseconds in the unit of a timestamp type.
pub fn timestamp(millis: Millis, ty: &SqlType) -> i64 {
    match ty.kind {
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) if p > 6 => millis.saturating_mul(1_000_000),
        _ => millis.saturating_mul(1_000),
    }
}

pub fn wrap(value: i64, kind: &TypeKind) -> i64 {
    match kind {
        TypeKind::TinyInt => i64::from(value as i8),
        TypeKind::SmallInt => i64::from(value as i16),
        TypeKind::Int => i64::from(value as i32),
        _ => value,
    }
}

pub fn from_datum(datum: Datum) -> Val {
    match datum {
        Datum::Null => Val::Null,
        Datum::Boolean(b) => Val::Bool(b),
        Datum::TinyInt(v) => Val::Int(v.into()),
        Datum::SmallInt(v) => Val::Int(v.into()),
        Datum::Int(v) | Datum::Date(v) | Datum::Time(v) => Val::Int(v.into()),
        Datum::BigInt(v) | Datum::Timestamp(v) => Val::Int(v),
        Datum::Float(v) => Val::Float(v.into()),
        Datum::Double(v) => Val::Float(v),
        other => Val::Other(other),
    }
}

/// The value as one of a type.
pub fn to_datum(value: Val, ty: &SqlType) -> Datum {
    match value {
        Val::Null => Datum::Null,
        Val::Bool(b) => Datum::Boolean(b),
        Val::Float(v) if ty.kind == TypeKind::Float => Datum::Float(v as f32),
        Val::Float(v) => Datum::Double(v),
        Val::Int(v) => match ty.kind {
            TypeKind::TinyInt => Datum::TinyInt(v as i8),
            TypeKind::SmallInt => Datum::SmallInt(v as i16),
            TypeKind::Int => Datum::Int(v as i32),
            TypeKind::Date => Datum::Date(v as i32),
            TypeKind::Time(_) => Datum::Time(v as i32),
            TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => Datum::Timestamp(v),
            _ => Datum::BigInt(v),
        },
        Val::Other(d) => d,
    }
}
