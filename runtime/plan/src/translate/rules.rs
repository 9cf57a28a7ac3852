//! EVALUATE_RULES, REJECTED_RULES, CURRENT_RULES: a catalog of rules in one task, a router in each, and the evaluation by key.

use sluice_batch::{Error, Expr, Field, Result, Span, TypeKind};
use sluice_operators::rules::{catalog, evaluation, router};
use sluice_operators::spec::{OperatorSpec, RuleCatalogSpec, RuleColumns, RuleEvaluationSpec, RuleRouterSpec};
use sluice_sql::relation::{ColumnDef, Rel, TimeAttribute};

use super::Planner;
use crate::node::{Kinds, Stream, UpdateBefore, Wants};

impl Planner<'_> {
    /// `on_time`: the rowtime's name, for EVALUATE_RULES.
    pub(super) fn rules(&mut self, rel: &Rel, name: &str, inputs: &[Rel], on_time: Option<&str>) -> Result<Stream> {
        let [data, rules] = inputs else { return Err(Error::plan(format!("internal: {name} needs two tables"))) };
        match on_time {
            Some(time) => self.evaluate_rules(rel, data, rules, time),
            None => self.said_of_rules(rel, name, data, rules),
        }
    }

    /// What the rules are, and which were rejected. Nodes with the same inputs are made once, so all three functions share it.
    fn rule_catalog(&mut self, name: &str, data: &Rel, rules: &Rel) -> Result<usize> {
        let below = self.exact(rules)?;
        self.require_insert_only(below, name)?;
        let columns = rule_columns(rules).map_err(|e| e.at(rules.span))?;
        let spec = RuleCatalogSpec { rules: columns, data: fields(data) };
        let schema = catalog::schema().into_iter().map(plain).collect();
        Ok(self.operator(OperatorSpec::RuleCatalog(spec), vec![(below, Wants::AsConsumers)], schema, |n| {
            n.kinds = Kinds::INSERT_ONLY;
            n.update_before = UpdateBefore::Never;
            n.state = "the rules".into();
        }))
    }

    fn said_of_rules(&mut self, rel: &Rel, name: &str, data: &Rel, rules: &Rel) -> Result<Stream> {
        let node = self.rule_catalog(name, data, rules)?;
        let kind = if name == "REJECTED_RULES" { catalog::REJECTED } else { catalog::CURRENT };
        let text = TypeKind::STRING.not_null();
        let literal = Expr::literal(sluice_batch::Datum::string(kind), text.clone());
        let compare = sluice_functions::bind(sluice_functions::Call {
            name: "=",
            args: vec![Expr::column(0, text), literal],
            symbols: vec![None, None],
            json: sluice_functions::JsonClauses::default(),
            span: Span::default(),
        })?;
        let project = rel.schema.iter().zip(1..).map(|(c, at)| (Expr::column(at, c.ty.clone()), c.clone())).collect();
        let node = self.calc(node, Some(compare), Some(project));
        Ok(Stream { node, map: (0..rel.schema.len()).map(Some).collect() })
    }

    fn evaluate_rules(&mut self, rel: &Rel, data: &Rel, rules: &Rel, time: &str) -> Result<Stream> {
        let name = "EVALUATE_RULES";
        let events = self.exact(data)?;
        self.require_insert_only(events, name)?;
        let known = self.rule_catalog(name, data, rules)?;
        let fields = fields(data);
        let time = fields.iter().position(|f| f.name == time).ok_or_else(|| Error::plan(format!("internal: {name} has no time")))?;
        let texts = fields.iter().enumerate().map(|(i, f)| as_text(i, f)).collect::<Result<Vec<_>>>()?;
        let spec = RuleRouterSpec { data: fields.clone(), texts: texts.clone(), waits: self.node(known).bounded };
        let mut schema: Vec<ColumnDef> = router::schema(&fields).into_iter().map(plain).collect();
        schema[router::FRONT + time].time = Some(TimeAttribute::Rowtime);
        let event_time = self.node(events).event_time;
        let inputs = vec![(events, Wants::AsConsumers), (known, Wants::AsConsumers)];
        let routed = self.operator(OperatorSpec::RuleRouter(spec), inputs, schema, |n| {
            n.event_time = event_time;
            n.state = "the rules".into();
        });
        let event = data.schema.iter().enumerate().filter(|(_, c)| c.time != Some(TimeAttribute::Proctime)).map(|(i, _)| i).collect();
        let spec = RuleEvaluationSpec { texts, time, event, value_scale: evaluation::value_scale(&fields), data: fields };
        let node = self.operator(OperatorSpec::RuleEvaluation(spec), vec![(routed, Wants::AsConsumers)], rel.schema.to_vec(), |n| {
            n.state = "bounded: events of the widest window of the rules with the same keys".into();
        });
        Ok(Stream { node, map: (0..rel.schema.len()).map(Some).collect() })
    }
}

fn plain(field: Field) -> ColumnDef {
    crate::node::column(field.name, field.ty)
}

fn fields(rel: &Rel) -> Vec<Field> {
    rel.schema.iter().map(|c| Field::new(c.name.clone(), c.ty.clone())).collect()
}

/// A column as text; none if its type has no text by which rules can group.
fn as_text(column: usize, field: &Field) -> Result<Option<Expr>> {
    use TypeKind as T;
    if matches!(field.ty.kind, T::Array(_) | T::Map(..) | T::Multiset(_) | T::Row(_) | T::Variant | T::Null) {
        return Ok(None);
    }
    let input = Expr::column(column, field.ty.as_nullable());
    sluice_functions::cast(input, &T::STRING.nullable(), false, Span::default()).map(Some)
}

fn rule_columns(rules: &Rel) -> Result<RuleColumns> {
    let (found, keys) = catalog::columns_of(&fields(rules))?;
    let Some(keys) = keys else { return Ok(RuleColumns::Json(0)) };
    let text = |field: &&str| found.get(field).map(|c| as_text(*c, &Field::new(*field, rules.schema[*c].ty.clone()))).transpose();
    let texts = sluice_operators::rules::FIELDS.iter().map(|f| Ok(text(f)?.flatten())).collect::<Result<Vec<_>>>()?;
    Ok(RuleColumns::Fields { texts, keys })
}
