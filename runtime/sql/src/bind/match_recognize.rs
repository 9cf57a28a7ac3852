//! MATCH_RECOGNIZE (`study/engine.md` part B).

use sluice_batch::{Datum, Error, Millis, Result, TypeKind};

use super::expr::{ExprBinder, schema};
use super::match_expr::{Matching, Variables};
use super::match_pattern::elements;
use super::query::sort_key;
use super::scope::{Bound, Scope};
use super::{Binder, Env, build, constant, unsupported, walk};
use crate::ast::{self, Ident};
use crate::relation::{MatchClause, MatchExpr, PatternElement, Rel, RelKind, SkipTo, SortKey, TimeAttribute};

impl Binder<'_> {
    pub(super) fn match_recognize(&self, input: Bound, clause: &ast::MatchRecognize, env: &Env) -> Result<Rel> {
        if clause.all_rows {
            return Err(Error::plan("All rows per match mode is not supported yet.").at(clause.span));
        }
        if clause.measures.is_empty() {
            return Err(Error::plan("MATCH_RECOGNIZE needs MEASURES").at(clause.span));
        }
        let mut columns = ExprBinder::new(self, env, &input.scope, input.rel.schema.clone());
        let mut partition_by = Vec::with_capacity(clause.partition_by.len());
        for e in &clause.partition_by {
            let column = columns.bind(e)?.as_column();
            partition_by.push(column.ok_or_else(|| unsupported("PARTITION BY an expression in MATCH_RECOGNIZE", e.span))?);
        }
        let (time, order_by) = order(&mut columns, clause)?;
        let pattern = elements(&clause.pattern)?;
        let mut variables = Variables {
            names: pattern.iter().map(|e| e.name.name.clone()).collect(),
            required: pattern.iter().map(|e| e.min > 0).collect(),
            subsets: vec![],
            unmatched: vec![],
            input: input.rel.schema.clone(),
            time,
        };
        variables.subsets = subsets(clause, &variables)?;
        let defined = clause.define.iter().map(|(n, _)| n.name.clone());
        variables.unmatched = defined.filter(|n| !variables.names.contains(n)).collect();
        let scope = &input.scope;
        let mut conditions = self.conditions(clause, &variables, scope, env)?;
        let pattern = pattern
            .into_iter()
            .enumerate()
            .map(|(i, e)| PatternElement {
                variable: e.name.name,
                min: e.min,
                max: e.max,
                greedy: e.greedy,
                condition: conditions[i].take(),
            })
            .collect();
        let within = clause.within.as_ref().map(|e| self.within(e, env)).transpose()?;
        let skip = skip_to(clause.after_match.as_ref(), &variables)?;
        let mut output: Vec<_> =
            partition_by.iter().map(|i| build::column(input.rel.schema[*i].name.clone(), input.rel.schema[*i].ty.clone(), None)).collect();
        let mut measures = Vec::with_capacity(clause.measures.len());
        for (e, name) in &clause.measures {
            let measure = self.match_expr(e, &variables, None, scope, env)?;
            if measure.expr.ty.kind == TypeKind::Null {
                return Err(Error::plan("Illegal use of 'NULL'").at(e.span));
            }
            if output.iter().any(|c| c.name == name.name) {
                return Err(Error::plan(format!("Columns ambiguously defined: {{{}}}", name.name)).at(name.span));
            }
            output.push(build::column(name.name.clone(), measure.expr.ty.clone(), measure_time(e)));
            measures.push((name.name.clone(), measure));
        }
        let proctime = input.rel.schema[time].time == Some(TimeAttribute::Proctime);
        let clause_rel = MatchClause { partition_by, time, proctime, order_by, pattern, within, skip, measures };
        let kind = RelKind::MatchRecognize { input: Box::new(input.rel), clause: Box::new(clause_rel) };
        Ok(build::rel(kind, output, clause.span))
    }

    /// Per variable of the pattern its condition. Definitions of other names are not looked at, as in Flink.
    fn conditions(&self, clause: &ast::MatchRecognize, variables: &Variables, scope: &Scope, env: &Env) -> Result<Vec<Option<MatchExpr>>> {
        let mut out: Vec<Option<MatchExpr>> = variables.names.iter().map(|_| None).collect();
        for (i, (name, e)) in clause.define.iter().enumerate() {
            if clause.define[..i].iter().any(|(n, _)| n.name == name.name) {
                return Err(Error::plan(format!("Pattern variable '{}' has already been defined", name.name)).at(name.span));
            }
            let Some(variable) = variables.names.iter().position(|n| *n == name.name) else { continue };
            let condition = self.match_expr(e, variables, Some(variable), scope, env)?;
            match condition.expr.ty.kind {
                TypeKind::Boolean if build::is_true(&condition.expr) => {}
                TypeKind::Boolean => out[variable] = Some(condition),
                _ => return Err(Error::plan("DEFINE clause must be a condition").at(e.span)),
            }
        }
        Ok(out)
    }

    fn match_expr(&self, e: &ast::Expr, variables: &Variables, defining: Option<usize>, scope: &Scope, env: &Env) -> Result<MatchExpr> {
        let mut binder = ExprBinder::new(self, env, scope, schema(vec![]));
        binder.matching = Some(Matching { variables, defining, slots: vec![] });
        let expr = binder.bind(e)?;
        let slots = binder.matching.take().map(|m| m.slots).unwrap_or_default();
        Ok(MatchExpr { expr, slots })
    }

    fn within(&self, e: &ast::Expr, env: &Env) -> Result<Millis> {
        let scope = Scope::default();
        let bound = ExprBinder::new(self, env, &scope, schema(vec![])).bind(e)?;
        match constant(&bound) {
            Some(Datum::IntervalDayTime(millis)) if millis > 0 => Ok(millis),
            _ => Err(Error::plan("Only constant intervals with millisecond resolution are supported as time constraints of patterns.")
                .at(e.span)),
        }
    }
}

/// The time attribute, and further sort keys.
fn order(columns: &mut ExprBinder<'_, '_>, clause: &ast::MatchRecognize) -> Result<(usize, Vec<SortKey>)> {
    let no_time = || Error::plan("You must specify either rowtime or proctime for order by as the first one.").at(clause.span);
    let (first, rest) = clause.order_by.split_first().ok_or_else(no_time)?;
    let time = columns.bind(&first.expr)?.as_column().filter(|i| columns.schema[*i].time.is_some());
    let time = time.ok_or_else(|| no_time().at(first.expr.span))?;
    if first.descending {
        return Err(Error::plan("Primary sort order of a streaming table must be ascending on time.").at(first.expr.span));
    }
    let mut keys = Vec::with_capacity(rest.len());
    for o in rest {
        let column = columns.bind(&o.expr)?.as_column();
        keys.push(sort_key(o, column.ok_or_else(|| unsupported("ORDER BY an expression in MATCH_RECOGNIZE", o.expr.span))?));
    }
    Ok((time, keys))
}

fn subsets(clause: &ast::MatchRecognize, variables: &Variables) -> Result<Vec<(String, Vec<usize>)>> {
    let member = |name: &Ident| {
        let position = variables.names.iter().position(|n| *n == name.name);
        position.ok_or_else(|| variables.unknown(name))
    };
    clause
        .subsets
        .iter()
        .map(|(name, members)| {
            let mut positions = members.iter().map(member).collect::<Result<Vec<_>>>()?;
            positions.sort_unstable();
            positions.dedup();
            Ok((name.name.clone(), positions))
        })
        .collect()
}

/// Flink's default is SKIP TO NEXT ROW, not the standard's PAST LAST ROW.
fn skip_to(skip: Option<&ast::SkipTo>, variables: &Variables) -> Result<SkipTo> {
    let position = |name: &Ident| {
        if variables.subsets.iter().any(|(n, _)| *n == name.name) {
            return Err(unsupported("AFTER MATCH SKIP TO a SUBSET", name.span));
        }
        variables.names.iter().position(|n| *n == name.name).ok_or_else(|| variables.unknown(name))
    };
    Ok(match skip {
        None | Some(ast::SkipTo::NextRow) => SkipTo::NextRow,
        Some(ast::SkipTo::PastLastRow) => SkipTo::PastLastRow,
        Some(ast::SkipTo::First(name)) => SkipTo::First(position(name)?),
        Some(ast::SkipTo::Last(name)) => SkipTo::Last(position(name)?),
    })
}

/// Only MATCH_ROWTIME() and MATCH_PROCTIME() are time attributes behind the match.
fn measure_time(e: &ast::Expr) -> Option<TimeAttribute> {
    match walk::as_call(e)?.name.object().to_uppercase().as_str() {
        "MATCH_ROWTIME" => Some(TimeAttribute::Rowtime),
        "MATCH_PROCTIME" => Some(TimeAttribute::Proctime),
        _ => None,
    }
}
