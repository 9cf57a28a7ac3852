//! UNION, INTERSECT, EXCEPT.

use sluice_batch::{Error, Expr, Result, Span, SqlType, TypeKind};

use super::expr::coerce;
use super::query::{common_column_type, incompatible};
use super::{Binder, Env, build};
use crate::ast::{SetExpr, SetOperator};
use crate::relation::{ColumnDef, Rel, RelKind};

impl Binder<'_> {
    pub(super) fn set_operation(&self, op: SetOperator, all: bool, left: &SetExpr, right: &SetExpr, env: &Env, span: Span) -> Result<Rel> {
        let name = match op {
            SetOperator::Union => "UNION",
            SetOperator::Intersect => "INTERSECT",
            SetOperator::Except => "EXCEPT",
        };
        let (left, right) = (self.set_expr(left, env, false)?, self.set_expr(right, env, false)?);
        if left.schema.len() != right.schema.len() {
            return Err(Error::plan(format!("Column count mismatch in {name}: {} and {}", left.schema.len(), right.schema.len())).at(span));
        }
        let (left, right, columns) = common_columns(left, right, name, span)?;
        let timeless = || columns.iter().map(|c| ColumnDef { time: None, ..c.clone() }).collect::<Vec<_>>();
        if op != SetOperator::Union {
            let except = op == SetOperator::Except;
            let kind = RelKind::SetOperation { left: Box::new(left), right: Box::new(right), except, all };
            return Ok(build::rel(kind, timeless(), span));
        }
        // `a UNION ALL b UNION ALL c` is one union.
        let mut inputs = match left.kind {
            RelKind::Union { inputs } => inputs,
            kind => vec![Rel { kind, ..left }],
        };
        inputs.push(right);
        let union = build::rel(RelKind::Union { inputs }, columns.clone(), span);
        Ok(if all { union } else { build::rel(RelKind::Distinct { input: Box::new(union) }, timeless(), span) })
    }
}

/// Both sides with the types they have in common. A time attribute stays one if both have it.
fn common_columns(left: Rel, right: Rel, name: &str, span: Span) -> Result<(Rel, Rel, Vec<ColumnDef>)> {
    let mut columns = Vec::with_capacity(left.schema.len());
    for (i, (l, r)) in left.schema.iter().zip(right.schema.iter()).enumerate() {
        let types = [l.ty.clone(), r.ty.clone()];
        let mut ty = common_column_type(&types).ok_or_else(|| incompatible(name, i, &types, span))?;
        ty.nullable |= l.ty.nullable || r.ty.nullable;
        if ty.kind == TypeKind::Null {
            return Err(Error::plan("Illegal use of 'NULL'").at(span));
        }
        let time = l.time.filter(|t| r.time == Some(*t));
        columns.push(ColumnDef { name: l.name.clone(), ty, time });
    }
    let types: Vec<&SqlType> = columns.iter().map(|c| &c.ty).collect();
    Ok((cast_columns(left, &types, span)?, cast_columns(right, &types, span)?, columns))
}

fn cast_columns(rel: Rel, types: &[&SqlType], span: Span) -> Result<Rel> {
    if rel.schema.iter().zip(types).all(|(c, t)| c.ty.kind == t.kind) {
        return Ok(rel);
    }
    let items = rel
        .schema
        .iter()
        .zip(types)
        .enumerate()
        .map(|(i, (c, t))| Ok((c.name.clone(), coerce(build::read(&rel.schema, i), t, span)?)))
        .collect::<Result<Vec<(String, Expr)>>>()?;
    Ok(build::project(rel, items, span))
}
