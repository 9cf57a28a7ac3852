//! Gives each event once for each distinct set of grouping keys that rules have, with the key by which it is brought to its task; and
//! passes on changes of the rules, to all tasks.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray, StringBuilder, new_null_array};
use arrow::datatypes::DataType;
use sluice_batch::{Batch, Error, Field, Result, TypeKind, WATERMARK_MAX};

use super::change::{Change, RuleSet};
use super::compiled::key_columns;
use super::keys;
use crate::spec::RuleRouterSpec;
use crate::state::{SnapshotReader, SnapshotWriter, key_prefix};
use crate::time_buffer::TimeBuffer;
use crate::{Operator, Output};

/// The column of the catalog's rows that has the change.
const CHANGE_COLUMN: usize = 4;

/// Columns of the router's rows before those of the event: the key (NULL: a change of the rules, for all tasks) and the change.
pub const FRONT: usize = 2;

/// The router's columns over events of these columns.
pub fn schema(data: &[Field]) -> Vec<Field> {
    let mut out = vec![Field::new("key", TypeKind::STRING.nullable()), Field::new("change", TypeKind::STRING.nullable())];
    out.extend(data.iter().map(|f| Field::new(f.name.clone(), f.ty.as_nullable())));
    out
}

pub struct RuleRouter {
    spec: RuleRouterSpec,
    known: RuleSet,
    /// Sorted names of each set, and their columns.
    sets: Vec<(Vec<String>, Vec<usize>)>,
    /// Events that wait for the end of the rules.
    waiting: TimeBuffer,
    waits: bool,
}

impl RuleRouter {
    pub fn new(spec: RuleRouterSpec) -> Result<Self> {
        let types: Vec<_> = spec.data.iter().map(|f| f.ty.clone()).collect();
        let all: Vec<usize> = (0..types.len()).collect();
        let mut waiting = TimeBuffer::new(&types, &all)?;
        // Tasks write their waiting rows into one table.
        waiting.number_from(random());
        Ok(Self { waiting, waits: spec.waits, spec, known: RuleSet::default(), sets: vec![] })
    }

    fn changed(&mut self) {
        self.sets.clear();
        for rule in self.known.rules.values().filter(|r| r.check(&self.spec.data).is_ok()) {
            if let Some((names, _)) = key_columns(rule, &self.spec.data)
                && self.sets.iter().all(|(known, _)| *known != names)
            {
                let columns = names.iter().filter_map(|n| self.spec.data.iter().position(|f| f.name == *n)).collect();
                self.sets.push((names, columns));
            }
        }
    }

    /// Passes changes on to the evaluation in all tasks.
    fn changes(&mut self, batch: &Batch, out: &mut Output<'_>) -> Result<()> {
        let texts = batch.column(CHANGE_COLUMN).as_string::<i32>();
        let mut changes = vec![];
        for text in texts.iter().flatten() {
            if self.known.apply(&Change::parse(text)?) {
                changes.push(text);
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.changed();
        let rows = changes.len();
        let mut columns: Vec<ArrayRef> = vec![new_null_array(&DataType::Utf8, rows), Arc::new(StringArray::from(changes))];
        columns.extend(self.spec.data.iter().map(|f| new_null_array(&f.ty.to_arrow(), rows)));
        out.emit(Batch::new(columns, rows));
        Ok(())
    }

    fn route(&self, batch: &Batch, out: &mut Output<'_>) -> Result<()> {
        let texts = Texts::new(&self.spec.texts, batch, self.sets.iter().flat_map(|(_, columns)| columns), out)?;
        for (names, columns) in &self.sets {
            let columns = texts.of(columns)?;
            let mut keys = StringBuilder::with_capacity(batch.rows(), batch.rows() * 32);
            let mut key = String::new();
            for row in 0..batch.rows() {
                key.clear();
                keys::canonical(&mut key, names, &columns, row);
                keys.append_value(&key);
            }
            let mut all: Vec<ArrayRef> = vec![Arc::new(keys.finish()), new_null_array(&DataType::Utf8, batch.rows())];
            all.extend(batch.columns().iter().cloned());
            out.emit(Batch::new(all, batch.rows()));
        }
        Ok(())
    }
}

/// A number that no other task begins with.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) >> 2
}

/// Columns of a batch as text, those that are used.
pub struct Texts(Vec<Option<ArrayRef>>);

impl Texts {
    /// `texts`: each column of the batch as text, for those that rules may group by.
    pub fn new<'c>(
        texts: &[Option<sluice_batch::Expr>],
        batch: &Batch,
        used: impl Iterator<Item = &'c usize>,
        out: &Output<'_>,
    ) -> Result<Self> {
        let mut columns: Vec<Option<ArrayRef>> = vec![None; texts.len()];
        for column in used {
            if let (Some(place @ None), Some(Some(text))) = (columns.get_mut(*column), texts.get(*column)) {
                *place = Some(text.eval_array(batch, out.context())?);
            }
        }
        Ok(Self(columns))
    }

    pub fn of(&self, columns: &[usize]) -> Result<Vec<&StringArray>> {
        let text = |c: &usize| self.0.get(*c)?.as_ref()?.as_string_opt::<i32>();
        let missing = || Error::runtime("internal: a grouping key has no text");
        columns.iter().map(|c| text(c).ok_or_else(missing)).collect()
    }
}

impl Operator for RuleRouter {
    fn name(&self) -> &'static str {
        "RuleRouter"
    }

    fn batch(&mut self, input: usize, batch: Batch, out: &mut Output<'_>) -> Result<()> {
        match input {
            0 if self.waits => {
                let times = vec![0; batch.rows()];
                self.waiting.push(batch, &times)
            }
            0 => self.route(&batch, out),
            _ => self.changes(&batch, out),
        }
    }

    fn ignores_time(&self, input: usize) -> bool {
        input == 1
    }

    /// Bounded rules are all known before the first event.
    fn end_of_rows(&mut self, input: usize, out: &mut Output<'_>) -> Result<()> {
        if input == 1
            && std::mem::take(&mut self.waits)
            && let Some(due) = self.waiting.take(WATERMARK_MAX)?
        {
            self.route(&due.batch, out)?;
        }
        Ok(())
    }

    /// Events that wait hold time back.
    fn output_watermark(&self, now: sluice_batch::Millis) -> sluice_batch::Millis {
        if self.waits && now != WATERMARK_MAX { sluice_batch::WATERMARK_NONE } else { now }
    }

    fn state_bytes(&self) -> usize {
        self.waiting.memory() + self.known.rules.len() * 512
    }

    fn snapshot(&self, out: &mut SnapshotWriter) -> Result<()> {
        if self.known.version > 0 {
            out.put("rules", vec![], self.known.encode()?);
        }
        self.waiting.snapshot("waiting", out)
    }

    fn shard_key<'k>(&self, _table: &str, key: &'k [u8]) -> Result<&'k [u8]> {
        key_prefix(key)
    }

    fn restore(&mut self, input: &mut SnapshotReader<'_>) -> Result<()> {
        self.known = RuleSet::restore(input)?;
        self.changed();
        self.waiting.restore("waiting", input)?;
        self.waiting.number_from(random());
        Ok(())
    }
}
