//! Keeps the rules that a control topic says, checks them, and tells all tasks of their changes. Runs in one task.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StringArray};
use sluice_batch::{Batch, Error, Expr, Field, Result, SqlType, TypeKind};

use super::change::{Change, RuleSet};
use super::rule::{ControlType, FIELDS, Fields, Rule, RuleState};
use crate::spec::{RuleCatalogSpec, RuleColumns};
use crate::state::{SnapshotReader, SnapshotWriter};
use crate::{Operator, Output};

/// What a row of the catalog is.
pub const CHANGE: &str = "change";
pub const REJECTED: &str = "rejected";
pub const CURRENT: &str = "current";

/// The catalog's columns: what the row is, the rule's id, the rule (as it came, if rejected), why it was rejected, the change for
/// other tasks.
pub fn schema() -> Vec<Field> {
    let text = || TypeKind::STRING.nullable();
    vec![
        Field::new("kind", TypeKind::STRING.not_null()),
        Field::new("rule_id", TypeKind::Int.nullable()),
        Field::new("rule", text()),
        Field::new("reason", text()),
        Field::new("change", text()),
    ]
}

pub struct RuleCatalog {
    spec: RuleCatalogSpec,
    known: RuleSet,
}

#[derive(Default)]
struct Rows {
    kinds: Vec<&'static str>,
    ids: Vec<Option<i32>>,
    rules: Vec<Option<String>>,
    reasons: Vec<Option<String>>,
    changes: Vec<Option<String>>,
}

impl Rows {
    fn push(&mut self, kind: &'static str, id: Option<i32>, rule: Option<String>, reason: Option<String>, change: Option<String>) {
        self.kinds.push(kind);
        self.ids.push(id);
        self.rules.push(rule);
        self.reasons.push(reason);
        self.changes.push(change);
    }

    fn finish(self) -> Batch {
        let rows = self.kinds.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(self.kinds)),
            Arc::new(Int32Array::from(self.ids)),
            Arc::new(StringArray::from(self.rules)),
            Arc::new(StringArray::from(self.reasons)),
            Arc::new(StringArray::from(self.changes)),
        ];
        Batch::new(columns, rows)
    }
}

impl RuleCatalog {
    pub fn new(spec: RuleCatalogSpec) -> Self {
        Self { spec, known: RuleSet::default() }
    }

    /// The messages of a batch, each with its text.
    fn messages(&self, batch: &Batch, out: &Output<'_>) -> Result<Vec<(String, Result<Fields, String>)>> {
        match &self.spec.rules {
            RuleColumns::Json(column) => {
                let texts = batch.column(*column).as_string::<i32>();
                let text = |row: usize| if texts.is_null(row) { "" } else { texts.value(row) };
                Ok((0..batch.rows()).map(|row| (text(row).to_owned(), Fields::from_json(text(row)))).collect())
            }
            RuleColumns::Fields { texts, keys } => {
                let column = |e: &Option<Expr>| e.as_ref().map(|e| e.eval_array(batch, out.context())).transpose();
                let columns = texts.iter().map(column).collect::<Result<Vec<_>>>()?;
                let lists = batch.column(*keys).as_list::<i32>();
                let fields = (0..batch.rows()).map(|row| fields_of(&columns, lists, row));
                Ok(fields.map(|f| (f.as_ref().map(Fields::to_json).unwrap_or_default(), f)).collect())
            }
        }
    }

    fn change(&mut self, rows: &mut Rows, id: Option<i32>, change: Change) -> Result<()> {
        let change = Change { version: self.known.version + 1, ..change };
        self.known.apply(&change);
        rows.push(CHANGE, id, None, None, Some(change.to_json()?));
        Ok(())
    }

    /// Does what a message says; the reason if it cannot be done.
    fn handle(&mut self, fields: &Fields, rows: &mut Rows) -> Result<Result<(), String>> {
        let wish = match self.wish(fields) {
            Ok(wish) => wish,
            Err(reason) => return Ok(Err(reason)),
        };
        match wish {
            Wish::Put(rule) => self.change(rows, Some(rule.rule_id), Change { put: Some(rule), ..Change::default() })?,
            Wish::Delete(id) if self.known.rules.contains_key(&id) => {
                self.change(rows, Some(id), Change { delete: Some(id), ..Change::default() })?;
            }
            // It is gone already, or state is cleared at once and there is nothing to stop.
            Wish::Delete(_) | Wish::Control(ControlType::ClearStateAllStop) => {}
            Wish::Control(ControlType::ClearStateAll) => self.change(rows, None, Change { clear: true, ..Change::default() })?,
            Wish::Control(ControlType::DeleteRulesAll) => self.change(rows, None, Change { delete_all: true, ..Change::default() })?,
            Wish::Control(ControlType::ExportRulesCurrent) => {
                self.known.rules.values().for_each(|r| rows.push(CURRENT, Some(r.rule_id), Some(r.to_json()), None, None));
            }
        }
        Ok(Ok(()))
    }

    fn wish(&self, fields: &Fields) -> Result<Wish, String> {
        match fields.state()? {
            RuleState::Control => fields.control().map(Wish::Control),
            RuleState::Delete => fields.rule_id().map(Wish::Delete),
            state if fields.is_state_only() => {
                let id = fields.rule_id()?;
                let known = self.known.rules.get(&id).ok_or_else(|| format!("there is no rule {id} whose state could be changed"))?;
                Ok(Wish::Put(Rule { rule_state: state, ..known.clone() }))
            }
            _ => fields.rule(&self.spec.data).map(Wish::Put),
        }
    }
}

enum Wish {
    Put(Rule),
    Delete(i32),
    Control(ControlType),
}

/// One row of a table with a column for each field.
fn fields_of(columns: &[Option<ArrayRef>], keys: &ListArray, row: usize) -> Result<Fields, String> {
    let mut fields = Fields::default();
    for (place, column) in fields.values.iter_mut().zip(columns) {
        *place = column.as_ref().filter(|c| !c.is_null(row)).map(|c| c.as_string::<i32>().value(row).to_owned());
    }
    if !keys.is_null(row) {
        let list = keys.value(row);
        let list = list.as_string_opt::<i32>().ok_or("groupingKeyNames must be a list of strings")?;
        let names = list.iter().map(|n| n.map(str::to_owned).ok_or("groupingKeyNames has a NULL in it")).collect::<Result<Vec<_>, _>>()?;
        fields.keys = Some(names);
    }
    debug_assert_eq!(columns.len(), FIELDS.len());
    Ok(fields)
}

impl Operator for RuleCatalog {
    fn name(&self) -> &'static str {
        "RuleCatalog"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let mut rows = Rows::default();
        for (text, fields) in self.messages(&batch, out)? {
            let id = fields.as_ref().ok().and_then(|f| f.rule_id().ok());
            let done = match fields {
                Ok(fields) => self.handle(&fields, &mut rows)?,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = done {
                tracing::warn!("rule rejected: {reason}: {text}");
                rows.push(REJECTED, id, Some(text), Some(reason), None);
            }
        }
        out.emit(rows.finish());
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.known.rules.len() * 512
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        if self.known.version > 0 {
            out.put("rules", vec![], self.known.encode()?);
        }
        Ok(())
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.known = RuleSet::restore(input)?;
        for rule in self.known.rules.values() {
            if let Err(reason) = rule.check(&self.spec.data) {
                tracing::warn!("rule {} cannot be evaluated any more: {reason}", rule.rule_id);
            }
        }
        Ok(())
    }
}

/// The columns of a table of rules, by the names of the demo's JSON in any case, with or without underscores.
///
/// # Errors
/// What the table lacks.
pub fn columns_of(table: &[Field]) -> Result<(BTreeMap<&'static str, usize>, Option<usize>)> {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let find = |field: &str| table.iter().position(|c| plain(&c.name) == plain(field));
    let found: BTreeMap<&'static str, usize> = FIELDS.iter().filter_map(|f| Some((*f, find(f)?))).collect();
    let keys = find(super::KEYS_FIELD);
    if found.is_empty() && keys.is_none() {
        return match table {
            [one] if one.ty.kind.is_character() => Ok((BTreeMap::new(), None)),
            _ => Err(Error::plan(
                "the table of rules must have one STRING column with the rules' JSON, or a column for each of their fields",
            )
            .hint(format!("the fields are {}, {}", super::KEYS_FIELD, FIELDS.join(", ")))),
        };
    }
    let missing = |field: &str| Error::plan(format!("the table of rules has no column {field}"));
    // Commands are optional.
    if let Some(field) = FIELDS.iter().find(|f| !found.contains_key(**f) && **f != "controlType") {
        return Err(missing(field).hint(format!("its columns are {}, {}", super::KEYS_FIELD, FIELDS.join(", "))));
    }
    let Some(keys) = keys else { return Err(missing(super::KEYS_FIELD).hint("it is an ARRAY<STRING>")) };
    let is_list = |ty: &SqlType| matches!(&ty.kind, TypeKind::Array(e) if e.kind.is_character());
    if !is_list(&table[keys].ty) {
        return Err(Error::plan(format!("{} must be an ARRAY<STRING>, but is {}", table[keys].name, table[keys].ty.kind)));
    }
    Ok((found, Some(keys)))
}
