//! A small harness for operator tests: batches from text, changelogs as text.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::util::display::array_value_to_string;
use sluice_batch::datum::from_datums;
use sluice_batch::{Batch, Datum, EvalContext, Millis, RowKind, SqlType, TypeKind, WATERMARK_NONE};

use crate::memory::Memory;
use crate::spec::{OperatorSpec, build};
use crate::state::{ChangeKind, DeltaWriter, SnapshotReader, SnapshotWriter};
pub use crate::test_functions::{count, sum};
use crate::{Item, Operator, Output};

/// Types by short names: `types("bigint string ts")`. `ts` is TIMESTAMP(3), `ltz` TIMESTAMP_LTZ(3), `cents` a
/// DECIMAL(20, 2) that is written unscaled.
pub fn types(names: &str) -> Vec<SqlType> {
    let one = |n: &str| match n {
        "int" => TypeKind::Int.nullable(),
        "bigint" => TypeKind::BigInt.nullable(),
        "double" => TypeKind::Double.nullable(),
        "string" => TypeKind::STRING.nullable(),
        "boolean" => TypeKind::Boolean.nullable(),
        "ts" => TypeKind::Timestamp(3).nullable(),
        "ltz" => TypeKind::TimestampLtz(3).nullable(),
        "cents" => TypeKind::Decimal(20, 2).nullable(),
        other => panic!("no test type {other}"),
    };
    names.split_whitespace().map(one).collect()
}

fn parse(text: &str, ty: &SqlType) -> Datum {
    if text == "NULL" {
        return Datum::Null;
    }
    match ty.kind {
        TypeKind::Int => Datum::Int(text.parse().unwrap()),
        TypeKind::BigInt => Datum::BigInt(text.parse().unwrap()),
        TypeKind::Double => Datum::Double(text.parse().unwrap()),
        TypeKind::Decimal(..) => Datum::Decimal(text.parse().unwrap()),
        TypeKind::Boolean => Datum::Boolean(text.parse().unwrap()),
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => Datum::Timestamp(text.parse::<i64>().unwrap() * 1000),
        _ => Datum::string(text),
    }
}

/// Rows separated by `;` or line breaks, each a row kind (`+I` may be left out) and values; times are in milliseconds.
pub fn batch(types: &[SqlType], text: &str) -> Batch {
    let (mut kinds, mut rows) = (vec![], vec![]);
    for line in text.split([';', '\n']).map(str::trim).filter(|l| !l.is_empty()) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let kind = RowKind::parse(words[0]);
        if kind.is_some() {
            words.remove(0);
        }
        assert_eq!(words.len(), types.len(), "{line}");
        kinds.push(kind.unwrap_or(RowKind::Insert));
        rows.push(words.iter().zip(types).map(|(w, t)| parse(w, t)).collect::<Vec<_>>());
    }
    let columns = types.iter().enumerate().map(|(i, t)| from_datums(rows.iter().map(|r| &r[i]), t).unwrap()).collect();
    Batch::with_kinds(columns, Some(Arc::from(kinds)), rows.len())
}

/// A batch as lines of text; timestamps are printed in milliseconds.
pub fn print(batch: &Batch) -> Vec<String> {
    (0..batch.rows())
        .map(|row| {
            let mut line = batch.kind(row).symbol().to_owned();
            for column in batch.columns() {
                use arrow::array::Array;
                let text = match crate::time::to_millis(column) {
                    _ if column.is_null(row) => "NULL".to_owned(),
                    Ok(millis) if column.data_type() != &arrow::datatypes::DataType::Int64 => millis.value(row).to_string(),
                    _ => array_value_to_string(column, row).unwrap(),
                };
                line.push(' ');
                line.push_str(&text);
            }
            line
        })
        .collect()
}

/// One operator under test, with its clock and watermark.
pub struct Harness {
    spec: OperatorSpec,
    pub operator: Box<dyn Operator>,
    pub context: EvalContext,
    pub watermark: Millis,
    /// What all deltas so far make, by table and key.
    written: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    memory: Memory,
}

impl Harness {
    pub fn new(spec: OperatorSpec) -> Self {
        Self::with_memory(spec, Memory::unlimited())
    }

    /// An operator that may have so much memory.
    pub fn with_memory(spec: OperatorSpec, memory: Memory) -> Self {
        let mut operator = build(&spec).unwrap();
        operator.spill(&memory);
        operator.track_changes();
        let context = EvalContext::default();
        Self { spec, operator, context, watermark: WATERMARK_NONE, written: BTreeMap::new(), memory }
    }

    fn items(&mut self, f: impl FnOnce(&mut dyn Operator, &mut Output<'_>) -> sluice_batch::Result<()>) -> Vec<Item> {
        let mut items = vec![];
        f(self.operator.as_mut(), &mut Output::new(&mut items, &self.context, self.watermark)).unwrap();
        self.check_delta();
        items
    }

    /// The batches that an operator makes of one.
    pub fn pass(&mut self, input: usize, batch: Batch) -> Vec<Batch> {
        let items = self.items(|o, out| o.batch(input, batch, out));
        items.into_iter().filter_map(|i| if let Item::Batch(b) = i { Some(b) } else { None }).collect()
    }

    pub fn end_of_rows(&mut self, input: usize) -> Vec<Batch> {
        let items = self.items(|o, out| o.end_of_rows(input, out));
        items.into_iter().filter_map(|i| if let Item::Batch(b) = i { Some(b) } else { None }).collect()
    }

    fn call(&mut self, f: impl FnOnce(&mut dyn Operator, &mut Output<'_>) -> sluice_batch::Result<()>) -> Vec<String> {
        let items = self.items(f);
        items
            .iter()
            .flat_map(|i| match i {
                Item::Batch(b) => print(b),
                Item::Watermark(w) => vec![format!("wm {w}")],
            })
            .collect()
    }

    /// Every call of every test is also one of this property: a snapshot is what the deltas before it make, if the operator writes some.
    fn check_delta(&mut self) {
        let mut delta = DeltaWriter::default();
        if !self.operator.delta(&mut delta).unwrap() {
            return;
        }
        for (table, changes) in delta.into_tables() {
            for (kind, key, value) in changes.iter() {
                let at = (table.clone(), key.to_vec());
                match kind {
                    ChangeKind::Put => drop(self.written.insert(at, value.to_vec())),
                    ChangeKind::Delete => drop(self.written.remove(&at)),
                    ChangeKind::DeletePrefix => self.written.retain(|(t, k), _| *t != table || !k.starts_with(key)),
                }
            }
        }
        let mut writer = SnapshotWriter::default();
        self.operator.snapshot(&mut writer).unwrap();
        let mut whole = BTreeMap::new();
        for (table, rows) in writer.into_tables() {
            for (key, value) in rows.iter() {
                let before = whole.insert((table.clone(), key.to_vec()), value.to_vec());
                assert!(before.is_none(), "{table}: two rows have the key {key:?}");
            }
        }
        // Time that has not moved since the start need not be written.
        let same = |map: &BTreeMap<(String, Vec<u8>), Vec<u8>>| -> Vec<(String, Vec<u8>, Vec<u8>)> {
            let mut rows: Vec<_> = map
                .iter()
                .filter(|((table, _), _)| table != "progress" || self.written.contains_key(&("progress".to_owned(), vec![])))
                .map(|((table, key), value)| {
                    // Rows that wait are numbered in the order they came, and sorted when time moves on.
                    let key = if self.operator.name() == "MatchRecognize" { self.operator.shard_key(table, key).unwrap() } else { key };
                    (table.clone(), key.to_vec(), value.clone())
                })
                .collect();
            rows.sort();
            rows
        };
        assert_eq!(same(&self.written), same(&whole), "{}: the deltas make something else than a snapshot", self.operator.name());
    }

    pub fn send(&mut self, input: usize, types: &[SqlType], text: &str) -> Vec<String> {
        let batch = batch(types, text);
        self.call(|o, out| o.batch(input, batch, out))
    }

    pub fn watermark(&mut self, now: Millis) -> Vec<String> {
        self.watermark = now;
        self.call(|o, out| o.watermark(now, out))
    }

    pub fn input_watermark(&mut self, input: usize, now: Millis) -> Vec<String> {
        self.call(|o, out| o.input_watermark(input, now, out))
    }

    pub fn tick(&mut self, now: Millis) -> Vec<String> {
        self.context.now = now;
        self.call(|o, out| o.tick(now, out))
    }

    pub fn flush(&mut self) -> Vec<String> {
        self.call(|o, out| o.flush(out))
    }

    /// Writes the state and goes on in a new operator that reads it.
    pub fn restart(&mut self) {
        let mut writer = SnapshotWriter::default();
        self.operator.snapshot(&mut writer).unwrap();
        let tables = writer.into_tables();
        let rows = tables.iter().flat_map(|(t, rows)| rows.iter().map(move |(k, v)| ((t.clone(), k.to_vec()), v.to_vec())));
        let written = rows.collect();
        self.operator = build(&self.spec).unwrap();
        self.operator.spill(&self.memory);
        self.operator.restore(&mut SnapshotReader::new(&tables, &self.context)).unwrap();
        self.operator.track_changes();
        self.written = written;
        self.watermark = WATERMARK_NONE;
    }
}

/// Lines separated by `;`, as [`Harness`] answers.
pub fn lines(text: &str) -> Vec<String> {
    text.split(';').map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// `assert_lines!(answer, "+I 1 a; -U …")`
#[macro_export]
macro_rules! assert_lines {
    ($got:expr, $want:expr) => {
        assert_eq!($got.join("; "), $crate::testing::lines($want).join("; "))
    };
}
