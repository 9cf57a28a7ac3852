//! A state file: changes of all operators of a job in one Parquet file with the columns `operator`, `table`, `op`, `key`, `value`.
//! What it belongs to stands in the file's metadata, as JSON under the name `sluice`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayAccessor, ArrayRef, AsArray, BinaryArray, DictionaryArray, RecordBatch, StringArray, UInt8Array, UInt16Array};
use arrow::datatypes::{DataType, Field, Schema, UInt8Type, UInt16Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::{Deserialize, Serialize};
use sluice_batch::{Error, Result};

use crate::change::{Op, OperatorChanges};
use crate::{Layout, SourceState};

const METADATA: &str = "sluice";
const BATCH_ROWS: usize = 8192;
/// The layout; raised when a reader of the old one could not read the new one.
const FORMAT: u32 = 1;

/// What a state file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    /// Version of the engine that wrote it.
    pub engine: String,
    pub pipeline: String,
    pub generation: u64,
    pub epoch: u64,
    /// The files that come before this one, oldest first; the first is whole. Empty: this one is.
    pub before: Vec<String>,
    /// Where the sources stood.
    pub sources: Vec<SourceState>,
    /// Operators by their number in the file.
    pub operators: Vec<Operator>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    pub identity: String,
    pub kind: String,
    /// See [`OperatorChanges::whole`].
    pub whole: bool,
    pub layout: Layout,
}

fn bad(error: impl std::fmt::Display) -> Error {
    Error::runtime(error.to_string())
}

fn schema() -> Arc<Schema> {
    let dictionary = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("operator", dictionary.clone(), false),
        Field::new("table", dictionary, false),
        Field::new("op", DataType::UInt8, false),
        Field::new("key", DataType::Binary, false),
        Field::new("value", DataType::Binary, false),
    ]))
}

/// A file's bytes. `header.operators` is filled in.
///
/// # Errors
/// If there are too many operators for one file, or more than memory.
pub fn encode(mut header: Header, changes: &[OperatorChanges]) -> Result<Vec<u8>> {
    header.format = FORMAT;
    header.engine = env!("CARGO_PKG_VERSION").to_owned();
    header.operators = changes
        .iter()
        .map(|c| Operator { identity: c.identity.clone(), kind: c.kind.clone(), whole: c.whole, layout: c.layout.clone() })
        .collect();
    let text = serde_json::to_string(&header).map_err(bad)?;
    let level = ZstdLevel::try_new(1).map_err(bad)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(vec![KeyValue::new(METADATA.to_owned(), text)]))
        .build();
    let schema = schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(bad)?;
    for operator in changes {
        for (table, rows) in &operator.tables {
            for rows in rows.chunks(BATCH_ROWS) {
                let constant = |text: &str| -> Result<ArrayRef> {
                    let keys = UInt16Array::from(vec![0; rows.len()]);
                    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(vec![text])))?))
                };
                let columns: Vec<ArrayRef> = vec![
                    constant(&operator.identity)?,
                    constant(table)?,
                    Arc::new(UInt8Array::from_iter_values(rows.iter().map(|(op, ..)| op.code()))),
                    Arc::new(BinaryArray::from_iter_values(rows.iter().map(|(_, key, _)| key))),
                    Arc::new(BinaryArray::from_iter_values(rows.iter().map(|(.., value)| value))),
                ];
                writer.write(&RecordBatch::try_new(schema.clone(), columns)?).map_err(bad)?;
            }
        }
    }
    writer.into_inner().map_err(bad)
}

/// What [`encode`] wrote.
///
/// # Errors
/// If the file is damaged or of a layout that this version does not know.
pub fn decode(bytes: Vec<u8>) -> Result<(Header, Vec<OperatorChanges>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(bad)?;
    let metadata = builder.metadata().file_metadata().key_value_metadata().and_then(|m| m.iter().find(|m| m.key == METADATA));
    let text = metadata.and_then(|m| m.value.as_deref()).ok_or_else(|| bad("it is no state file"))?;
    let header: Header = serde_json::from_str(text).map_err(bad)?;
    if header.format != FORMAT {
        return Err(bad(format!("its layout is {}, this version reads {FORMAT}", header.format)));
    }
    let new = |o: &Operator| OperatorChanges {
        identity: o.identity.clone(),
        kind: o.kind.clone(),
        layout: o.layout.clone(),
        whole: o.whole,
        tables: BTreeMap::new(),
    };
    let mut changes: Vec<_> = header.operators.iter().map(new).collect();
    for batch in builder.with_batch_size(BATCH_ROWS).build().map_err(bad)? {
        add_rows(&batch.map_err(bad)?, &mut changes)?;
    }
    Ok((header, changes))
}

fn add_rows(batch: &RecordBatch, changes: &mut [OperatorChanges]) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| bad(format!("there is no column '{name}'")));
    let wrong = || bad("a column is of another type");
    let (operators, tables) = (column("operator")?, column("table")?);
    let (operators, tables) =
        (operators.as_dictionary_opt::<UInt16Type>().ok_or_else(wrong)?, tables.as_dictionary_opt::<UInt16Type>().ok_or_else(wrong)?);
    let operators = operators.downcast_dict::<StringArray>().ok_or_else(wrong)?;
    let tables = tables.downcast_dict::<StringArray>().ok_or_else(wrong)?;
    let ops = column("op")?.as_primitive_opt::<UInt8Type>().ok_or_else(wrong)?;
    let keys = column("key")?.as_binary_opt::<i32>().ok_or_else(wrong)?;
    let values = column("value")?.as_binary_opt::<i32>().ok_or_else(wrong)?;
    let mut row = 0;
    while row < batch.num_rows() {
        // Rows come in runs of one table.
        let (operator, table) = (operators.value(row), tables.value(row));
        let mut end = row + 1;
        while end < batch.num_rows() && operators.value(end) == operator && tables.value(end) == table {
            end += 1;
        }
        let found = changes.iter_mut().find(|c| c.identity == operator);
        let rows = found.ok_or_else(|| bad(format!("it has rows of an operator '{operator}' that it does not name")))?;
        let rows = rows.tables.entry(table.to_owned()).or_default();
        for i in row..end {
            rows.push((Op::of_code(ops.value(i))?, keys.value(i).to_vec(), values.value(i).to_vec()));
        }
        row = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let rows: Vec<_> = (0..20_000u32).map(|i| (Op::Put, i.to_be_bytes().to_vec(), vec![7; (i % 5) as usize])).collect();
        let one = OperatorChanges {
            identity: "Join-1".into(),
            kind: "Join".into(),
            layout: Layout { meaning: "m".into(), ..Layout::default() },
            whole: true,
            tables: [("left".to_owned(), rows), ("right".to_owned(), vec![(Op::Put, vec![], vec![1])])].into(),
        };
        let two = OperatorChanges {
            identity: "TopN-1".into(),
            kind: "TopN".into(),
            layout: Layout::default(),
            whole: false,
            tables: [("rows".to_owned(), vec![(Op::DeletePrefix, vec![1], vec![]), (Op::Delete, vec![2], vec![])])].into(),
        };
        let empty = OperatorChanges {
            identity: "Over-1".into(),
            kind: "Over".into(),
            layout: Layout::default(),
            whole: true,
            tables: BTreeMap::new(),
        };
        let header = Header { pipeline: "p".into(), generation: 3, epoch: 9, before: vec!["base-1-1".into()], ..Header::default() };
        let all = vec![one, two, empty];
        let bytes = encode(header, &all).unwrap();
        let (header, read) = decode(bytes.clone()).unwrap();
        assert_eq!(read, all);
        assert_eq!((header.epoch, header.generation, header.before.len(), header.operators.len()), (9, 3, 1, 3));
        assert!(decode(bytes[..bytes.len() / 2].to_vec()).is_err());
    }
}
