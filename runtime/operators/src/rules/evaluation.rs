//! Evaluates rules over the events of each key (Flink's demo: `DynamicAlertFunction`).
//!
//! An event is added to its key's history, then each rule looks at the window [event time − windowMinutes, event time], both ends
//! included. Events that come out of order are added where they belong: they count in windows that are looked at later, and are
//! looked at themselves; alerts that were given are not taken back. An event behind the watermark sees what is kept: all events back to
//! the watermark less the set's widest window. One that is older than that is dropped as late.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int32Array, StringArray, StructArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type};
use sluice_batch::{Batch, Error, Field, Millis, Result, TypeKind, WATERMARK_NONE, types::row_fields};

use super::change::{Change, RuleSet};
use super::compiled::{Channels, Set, sets};
use super::decimal::DIGITS;
use super::history::Total;
use super::keys;
use super::router::{FRONT, Texts};
use super::rule::{Rule, scale_of};
use super::store::Store;
use crate::rows::take;
use crate::spec::RuleEvaluationSpec;
use crate::state::{DeltaWriter, SnapshotReader, SnapshotWriter, key_prefix};
use crate::time::{null_rowtime, to_millis};
use crate::{Operator, Output};

/// The scale of `triggering_value`: that of the data's finest number, and at least that of a DECIMAL average.
pub fn value_scale(data: &[Field]) -> u8 {
    data.iter().filter_map(|f| scale_of(&f.ty.kind)).max().unwrap_or_default().clamp(6, DIGITS)
}

pub struct RuleEvaluation {
    spec: RuleEvaluationSpec,
    known: RuleSet,
    /// [`RuleSet::encode`] is to be written.
    dirty: bool,
    tracked: bool,
    channels: Channels,
    /// Sets keep their place as long as they have rules.
    sets: Vec<Option<Set>>,
    store: Store,
    late: u64,
}

/// An alert on its way out.
struct Alert {
    row: u32,
    rule: Arc<Rule>,
    text: Arc<str>,
    columns: Vec<usize>,
    value: Option<i128>,
    dry_run: bool,
}

impl RuleEvaluation {
    pub fn new(spec: RuleEvaluationSpec) -> Result<Self> {
        Ok(Self {
            spec,
            known: RuleSet::default(),
            dirty: false,
            tracked: false,
            channels: Channels::default(),
            sets: vec![],
            store: Store::new()?,
            late: 0,
        })
    }

    fn change(&mut self, text: &str) -> Result<()> {
        let change = Change::parse(text)?;
        if !self.known.apply(&change) {
            return Ok(());
        }
        self.dirty = true;
        if change.clear {
            self.store.clear();
        }
        self.compile();
        Ok(())
    }

    /// Makes the sets of the rules that are known now. Histories stay as far as a rule needs them.
    fn compile(&mut self) {
        let mut made = sets(&self.known, &self.spec.data, self.spec.value_scale, &mut self.channels);
        for place in &mut self.sets {
            *place = place.take().and_then(|old| made.remove(&old.names));
        }
        // What was kept for sets that are gone goes before their places are given out again.
        self.store.adapt(&self.sets);
        for (_, set) in made {
            match self.sets.iter_mut().find(|s| s.is_none()) {
                Some(place) => *place = Some(set),
                None => self.sets.push(Some(set)),
            }
        }
    }

    fn set_of(&self, key: &str) -> Option<u32> {
        set_of(&self.sets, &keys::names(key))
    }

    /// Evaluates rows `from..to` of a batch, which are events.
    fn events(&mut self, batch: &Batch, from: usize, to: usize, out: &mut Output<'_>) -> Result<()> {
        let batch = batch.slice(from, to - from);
        let encoded = self.store.encode(batch.column(0))?;
        let texts = batch.column(0).as_string::<i32>();
        let times = to_millis(batch.column(FRONT + self.spec.time))?;
        if times.null_count() > 0 {
            return Err(null_rowtime());
        }
        let mut numbers: Vec<Option<Numbers>> = (0..self.spec.data.len()).map(|_| None).collect();
        for column in self.sets.iter().flatten().flat_map(|s| &s.channels).filter_map(|c| c.column) {
            if numbers[column].is_none() {
                numbers[column] = Some(Numbers::new(batch.column(FRONT + column))?);
            }
        }
        let mut alerts = vec![];
        for row in 0..batch.rows() {
            let (key, time) = (encoded.get(row), times.value(row));
            let known = self.store.find(key).map(|slot| self.store.set(slot));
            // No set: the last of its rules is gone.
            let Some(at) = known.or_else(|| self.set_of(texts.value(row))) else { continue };
            let Some(set) = self.sets.get(at as usize).and_then(Option::as_ref) else { continue };
            if out.watermark() != WATERMARK_NONE && time < out.watermark().saturating_sub(set.widest) {
                self.late += 1;
                continue;
            }
            let slot = self.store.touch(key, at);
            for channel in &set.channels {
                match channel.column.map(|c| numbers[c].as_ref().and_then(|n| n.get(row))) {
                    None => self.store.insert(slot, channel.id, true, time, 1),
                    Some(Some(value)) => self.store.insert(slot, channel.id, false, time, value),
                    Some(None) => {}
                }
            }
            evaluate(set, &mut self.store, slot, time, row as u32, &mut alerts);
            self.store.schedule(slot, set.widest);
            if self.store.is_bare(slot) {
                self.store.remove(slot);
            }
        }
        if alerts.is_empty() { Ok(()) } else { self.emit(&batch, &alerts, out) }
    }

    fn emit(&self, batch: &Batch, alerts: &[Alert], out: &mut Output<'_>) -> Result<()> {
        let rows: UInt32Array = alerts.iter().map(|a| a.row).collect::<Vec<_>>().into();
        let data = take(&batch.columns()[FRONT..], &rows)?;
        let events = Batch::new(data.clone(), alerts.len());
        let texts = Texts::new(&self.spec.texts, &events, alerts.iter().flat_map(|a| &a.columns), out)?;
        let mut shown = Vec::with_capacity(alerts.len());
        for (row, alert) in alerts.iter().enumerate() {
            let mut key = String::new();
            keys::display(&mut key, &alert.rule.grouping_key_names, &texts.of(&alert.columns)?, row);
            shown.push(key);
        }
        let fields: Vec<Field> = self.spec.event.iter().map(|c| self.spec.data[*c].clone()).collect();
        let event: Vec<ArrayRef> = self.spec.event.iter().map(|c| data[*c].clone()).collect();
        let event: ArrayRef = Arc::new(StructArray::try_new_with_length(row_fields(&fields), event, None, alerts.len())?);
        let values: Decimal128Array = alerts.iter().map(|a| a.value).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(alerts.iter().map(|a| Some(a.rule.rule_id)).collect::<Int32Array>()),
            Arc::new(StringArray::from_iter_values(alerts.iter().map(|a| &*a.text))),
            Arc::new(StringArray::from(shown)),
            event,
            Arc::new(values.with_precision_and_scale(DIGITS, self.spec.value_scale as i8)?),
            Arc::new(alerts.iter().map(|a| Some(a.dry_run)).collect::<BooleanArray>()),
            data[self.spec.time].clone(),
        ];
        out.emit(Batch::new(columns, alerts.len()));
        Ok(())
    }
}

fn set_of(sets: &[Option<Set>], names: &[String]) -> Option<u32> {
    sets.iter().position(|s| s.as_ref().is_some_and(|s| s.names == names)).map(|at| at as u32)
}

/// All rules of a set at one event.
fn evaluate(set: &Set, store: &mut Store, slot: u32, time: Millis, row: u32, alerts: &mut Vec<Alert>) {
    for rule in set.rules.iter().filter(|r| r.is_live) {
        let channel = set.channels[rule.channel].id;
        let total = store.history(slot, channel).map_or(Total::NONE, |h| h.total(time.saturating_sub(rule.window), time, rule.want));
        let Some(value) = rule.violation(&total) else { continue };
        alerts.push(Alert {
            row,
            rule: rule.rule.clone(),
            text: rule.text.clone(),
            columns: rule.columns.clone(),
            value,
            dry_run: rule.dry_run,
        });
        if rule.resets {
            store.drop_history(slot, channel);
        }
    }
}

/// A numeric column, unscaled.
struct Numbers {
    values: Vec<i128>,
    nulls: Option<NullBuffer>,
}

impl Numbers {
    fn new(column: &ArrayRef) -> Result<Self> {
        macro_rules! widen {
            ($ty:ty) => {
                column.as_primitive::<$ty>().values().iter().map(|v| i128::from(*v)).collect()
            };
        }
        let values = match column.data_type() {
            DataType::Int8 => widen!(Int8Type),
            DataType::Int16 => widen!(Int16Type),
            DataType::Int32 => widen!(Int32Type),
            DataType::Int64 => widen!(Int64Type),
            DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().values().to_vec(),
            other => return Err(Error::runtime(format!("internal: rules cannot aggregate {other}"))),
        };
        Ok(Self { values, nulls: column.logical_nulls() })
    }

    fn get(&self, row: usize) -> Option<i128> {
        self.nulls.as_ref().is_none_or(|n| n.is_valid(row)).then(|| self.values[row])
    }
}

/// The columns of alerts over events of these columns.
pub fn schema(data: &[Field], event: &[usize], time: usize) -> Vec<Field> {
    let event: Vec<Field> = event.iter().map(|c| data[*c].clone()).collect();
    vec![
        Field::new("rule_id", TypeKind::Int.not_null()),
        Field::new("rule", TypeKind::STRING.not_null()),
        Field::new("grouping_key", TypeKind::STRING.not_null()),
        Field::new("triggering_event", TypeKind::Row(event).not_null()),
        Field::new("triggering_value", TypeKind::Decimal(DIGITS, value_scale(data)).nullable()),
        Field::new("dry_run", TypeKind::Boolean.not_null()),
        Field::new("rowtime", data[time].ty.clone()),
    ]
}

impl Operator for RuleEvaluation {
    fn name(&self) -> &'static str {
        "RuleEvaluation"
    }

    fn batch(&mut self, _input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        let keys = batch.column(0);
        if keys.null_count() == 0 {
            return self.events(&batch, 0, batch.rows(), out);
        }
        let changes = batch.column(1).as_string::<i32>();
        let mut from = 0;
        for row in 0..batch.rows() {
            if keys.is_valid(row) {
                continue;
            }
            if from < row {
                self.events(&batch, from, row, out)?;
            }
            if changes.is_valid(row) {
                self.change(changes.value(row))?;
            }
            from = row + 1;
        }
        if from < batch.rows() { self.events(&batch, from, batch.rows(), out) } else { Ok(()) }
    }

    fn watermark(&mut self, now: Millis, _out: &mut Output<'_>) -> Result<()> {
        self.store.advance(now, &self.sets);
        Ok(())
    }

    fn late_rows(&self) -> u64 {
        self.late
    }

    fn state_bytes(&self) -> usize {
        self.store.bytes() + self.known.rules.len() * 1024
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        if self.known.version > 0 {
            out.put("rules", vec![], self.known.encode()?);
        }
        self.store.snapshot(&self.channels, out)
    }

    fn track_changes(&mut self) {
        self.tracked = true;
        self.dirty = false;
        self.store.track();
    }

    fn delta(&mut self, out: &mut DeltaWriter) -> Result<bool> {
        if !self.tracked {
            return Ok(false);
        }
        if std::mem::take(&mut self.dirty) {
            out.put("rules", [], self.known.encode()?);
        }
        self.store.delta(&self.channels, out)
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.known = RuleSet::restore(input)?;
        self.compile();
        let sets = &self.sets;
        self.store.restore(input, sets, &mut self.channels, |names| set_of(sets, names))
    }
}
