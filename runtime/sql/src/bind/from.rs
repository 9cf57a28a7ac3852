//! FROM: tables, subqueries, joins, in order.

use sluice_batch::{Error, Millis, Result, Span};

use super::scope::{Bound, Scope, ScopeColumn, ScopeTable};
use super::{Binder, Env, build, table, unsupported};
use crate::ast::{Hint, JoinCondition, JoinKind, TableAlias, TableRef};

/// `STATE_TTL('alias' = '1 d')` hints of a SELECT.
pub(super) type StateTtl = Vec<(String, Millis)>;

/// What FROM needs beside the syntax.
#[derive(Clone, Copy)]
pub(super) struct FromContext<'c> {
    pub env: &'c Env,
    pub ttl: &'c StateTtl,
}

impl Binder<'_> {
    /// All of FROM; `None` if there is none.
    pub(super) fn from(&self, items: &[TableRef], cx: FromContext<'_>) -> Result<Option<Bound>> {
        let mut bound: Option<Bound> = None;
        for item in items {
            bound = Some(match bound {
                None => self.table_ref(item, cx)?,
                Some(left) => self.join_item(left, item, JoinKind::Cross, &JoinCondition::None, span_of(item), cx)?,
            });
        }
        Ok(bound)
    }

    pub(super) fn table_ref(&self, item: &TableRef, cx: FromContext<'_>) -> Result<Bound> {
        match item {
            TableRef::Table { name, hints, system_time, alias } => {
                if system_time.is_some() {
                    return Err(unsupported("FOR SYSTEM_TIME AS OF outside of a join's right side", name.span()));
                }
                aliased(self.named_table(name, hints, cx.env)?, alias.as_ref())
            }
            TableRef::Subquery { query, alias, .. } => {
                let rel = self.query(query, cx.env)?;
                let scope = Scope::table(None, &rel.schema);
                aliased(Bound { rel, scope }, alias.as_ref())
            }
            TableRef::Function { call, alias, .. } => {
                if call.name.object().eq_ignore_ascii_case("UNNEST") {
                    let left = Bound { rel: table::one_row(call.span), scope: Scope::default() };
                    return self.unnest_call(left, call, alias.as_ref(), false, cx);
                }
                aliased(self.table_function(call, cx)?, alias.as_ref())
            }
            TableRef::Unnest { expr, with_ordinality, alias, span } => {
                let left = Bound { rel: table::one_row(*span), scope: Scope::default() };
                self.unnest(left, expr, *with_ordinality, alias.as_ref(), false, *span, cx)
            }
            TableRef::Join { left, right, kind, condition, span } => {
                let left = self.table_ref(left, cx)?;
                self.join_item(left, right, *kind, condition, *span, cx)
            }
            TableRef::MatchRecognize { input, clause, alias } => {
                let input = self.table_ref(input, cx)?;
                let rel = self.match_recognize(input, clause, cx.env)?;
                let scope = Scope::table(None, &rel.schema);
                aliased(Bound { rel, scope }, alias.as_ref())
            }
        }
    }
}

/// The place of a table reference, as far as one is known.
pub(super) fn span_of(item: &TableRef) -> Span {
    match item {
        TableRef::Table { name, .. } => name.span(),
        TableRef::Subquery { query, .. } => query.span,
        TableRef::Function { call, .. } => call.span,
        TableRef::Unnest { span, .. } | TableRef::Join { span, .. } => *span,
        TableRef::MatchRecognize { clause, .. } => clause.span,
    }
}

/// `AS alias(columns)`: one table of that name.
pub(super) fn aliased(mut bound: Bound, alias: Option<&TableAlias>) -> Result<Bound> {
    let Some(alias) = alias else { return Ok(bound) };
    let mut columns: Vec<ScopeColumn> = bound.scope.tables.into_iter().flat_map(|t| t.columns).collect();
    if !alias.columns.is_empty() {
        if alias.columns.len() != columns.len() {
            return Err(Error::plan(format!(
                "List of column aliases must have same degree as table; table has {} columns, whereas alias list has {} columns",
                columns.len(),
                alias.columns.len()
            ))
            .at(alias.name.span));
        }
        let mut names: Vec<String> = bound.rel.schema.iter().map(|c| c.name.clone()).collect();
        for (c, new) in columns.iter_mut().zip(&alias.columns) {
            c.name.clone_from(&new.name);
            if let Some(n) = names.get_mut(c.index) {
                n.clone_from(&new.name);
            }
        }
        bound.rel = build::rename(bound.rel, &names);
    }
    bound.scope = Scope { tables: vec![ScopeTable { alias: Some(alias.name.name.clone()), columns }], merged: vec![] };
    Ok(bound)
}

/// Hints of a SELECT: STATE_TTL is taken; hints that choose among join algorithms for batch are ignored, as Flink's streaming planner does.
pub(super) fn select_hints(hints: &[Hint]) -> Result<StateTtl> {
    let mut out = Vec::new();
    for hint in hints {
        match hint.name.to_uppercase().as_str() {
            "STATE_TTL" => {
                for o in &hint.options {
                    let ttl = sluice_batch::duration::parse(&o.value).map_err(|e| e.into_plan().at(o.value_span))?;
                    let millis = Millis::try_from(ttl.as_millis()).unwrap_or(Millis::MAX);
                    // The first hint for a table wins.
                    if !out.iter().any(|(k, _)| *k == o.key) {
                        out.push((o.key.clone(), millis));
                    }
                }
            }
            "BROADCAST" | "SHUFFLE_HASH" | "SHUFFLE_MERGE" | "NEST_LOOP" | "MULTI_JOIN" => {}
            _ => return Err(unsupported(format!("the hint {}", hint.name), hint.span)),
        }
    }
    Ok(out)
}

/// The TTL that a hint gives one input: only when it is a single table, not a join.
pub(super) fn ttl_of(bound: &Bound, ttl: &StateTtl) -> Option<Millis> {
    let [table] = bound.scope.tables.as_slice() else { return None };
    let alias = table.alias.as_deref()?;
    ttl.iter().find(|(name, _)| name == alias).map(|(_, millis)| *millis)
}
