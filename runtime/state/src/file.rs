//! A state file: changes of all operators of a job in one Parquet file with the columns `operator`, `table`, `op`, `key`, `value`.
//! What it belongs to stands in the file's metadata, as JSON under the name `sluice`.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayAccessor, ArrayRef, AsArray, BinaryArray, DictionaryArray, RecordBatch, StringArray, UInt8Array, UInt16Array};
use arrow::datatypes::{DataType, Field, Schema, UInt8Type, UInt16Type};
use parquet::arrow::arrow_reader::{ArrowReaderBuilder, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::{Deserialize, Serialize};
use sluice_batch::{Error, Result};

use crate::chain::order;
use crate::change::{ChangeKind, Changes, OperatorChanges};
use crate::storage::{Input, Storage};
use crate::{Layout, SourceState};

const METADATA: &str = "sluice";
const BATCH_ROWS: usize = 8192;
/// Rows that are read at once where many files are open.
const READ_ROWS: usize = 512;
/// Rows of a row group, and bytes of a page: what a writer and a reader hold in memory of a file.
const GROUP_ROWS: usize = 128 << 10;
const PAGE: usize = 128 << 10;
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
    /// The rows of each table are in the order of their keys, and no key is there twice.
    #[serde(default)]
    pub sorted: bool,
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
    let operator = |c: &OperatorChanges| Operator {
        identity: c.identity.clone(),
        kind: c.kind.clone(),
        whole: c.whole,
        sorted: c.by_key,
        layout: c.layout.clone(),
    };
    header.operators = changes.iter().map(operator).collect();
    let mut writer = Writer::new(header, Vec::new())?;
    for operator in changes {
        for (table, rows) in &operator.tables {
            let order = if operator.by_key { order(rows) } else { (0..rows.len()).collect() };
            for part in order.chunks(BATCH_ROWS) {
                writer.write(&operator.identity, table, part.iter().map(|at| rows.get(*at)))?;
            }
        }
    }
    writer.finish()
}

/// Writes a file piece by piece.
pub struct Writer<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
}

impl<W: Write + Send> Writer<W> {
    /// `header.operators` are those that [`Writer::write`] will name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(mut header: Header, to: W) -> Result<Self> {
        header.format = FORMAT;
        header.engine = env!("CARGO_PKG_VERSION").to_owned();
        let text = serde_json::to_string(&header).map_err(bad)?;
        let level = ZstdLevel::try_new(1).map_err(bad)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_data_page_size_limit(PAGE)
            .set_key_value_metadata(Some(vec![KeyValue::new(METADATA.to_owned(), text)]))
            .build();
        let schema = schema();
        Ok(Self { writer: ArrowWriter::try_new(to, schema.clone(), Some(properties)).map_err(bad)?, schema })
    }

    /// Rows of a table; those of an operator, and of a table, follow each other.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write<'r>(
        &mut self,
        operator: &str,
        table: &str,
        rows: impl ExactSizeIterator<Item = (ChangeKind, &'r [u8], &'r [u8])> + Clone,
    ) -> Result<()> {
        let constant = |text: &str| -> Result<ArrayRef> {
            let keys = UInt16Array::from(vec![0; rows.len()]);
            Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(vec![text])))?))
        };
        let columns: Vec<ArrayRef> = vec![
            constant(operator)?,
            constant(table)?,
            Arc::new(UInt8Array::from_iter_values(rows.clone().map(|(kind, ..)| code(kind)))),
            Arc::new(BinaryArray::from_iter_values(rows.clone().map(|(_, key, _)| key))),
            Arc::new(BinaryArray::from_iter_values(rows.clone().map(|(.., value)| value))),
        ];
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?).map_err(bad)
    }

    /// # Errors
    /// If the rest cannot be written.
    pub fn finish(self) -> Result<W> {
        self.writer.into_inner().map_err(bad)
    }
}

fn header_of<R>(builder: &ArrowReaderBuilder<R>) -> Result<Header> {
    let metadata = builder.metadata().file_metadata().key_value_metadata().and_then(|m| m.iter().find(|m| m.key == METADATA));
    let text = metadata.and_then(|m| m.value.as_deref()).ok_or_else(|| bad("it is no state file"))?;
    let header: Header = serde_json::from_str(text).map_err(bad)?;
    if header.format != FORMAT {
        return Err(bad(format!("its layout is {}, this version reads {FORMAT}", header.format)));
    }
    Ok(header)
}

/// What a file says of itself, and where the rows of each operator's tables are: the first, and how many.
///
/// # Errors
/// If the file is missing, damaged or of a layout that this version does not know.
pub fn places(storage: &Arc<dyn Storage>, name: &str) -> Result<(Header, BTreeMap<(String, String), (usize, usize)>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Input::open_one_of_many(storage, name)?).map_err(bad)?;
    let header = header_of(&builder)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["operator", "table"]);
    let mut places: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    let mut at = 0;
    for batch in builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(bad)? {
        for (operator, table, rows) in runs(&batch.map_err(bad)?)? {
            if !header.operators.iter().any(|o| o.identity == operator) {
                return Err(bad(format!("it has rows of an operator '{operator}' that it does not name")));
            }
            let place = places.entry((operator, table)).or_insert((at, 0));
            place.1 += rows.len();
            at += rows.len();
        }
    }
    Ok((header, places))
}

/// The changes of one table, as they are read: a part at a time.
pub struct Reader {
    batches: ParquetRecordBatchReader,
}

/// `count` changes from the row `first` on. `many`: the files that are open at the same time.
///
/// # Errors
/// If the file is missing or damaged.
pub fn read(storage: &Arc<dyn Storage>, name: &str, first: usize, count: usize, many: usize) -> Result<Reader> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Input::open_one_of_many(storage, name)?).map_err(bad)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["op", "key", "value"]);
    let rows = if many > 1 { READ_ROWS } else { BATCH_ROWS };
    let batches = builder.with_projection(mask).with_batch_size(rows).with_offset(first).with_limit(count).build().map_err(bad)?;
    Ok(Reader { batches })
}

impl Iterator for Reader {
    type Item = Result<Changes>;

    fn next(&mut self) -> Option<Result<Changes>> {
        let batch = self.batches.next()?.map_err(bad);
        Some(batch.and_then(|batch| changes_of(&batch, 0..batch.num_rows())))
    }
}

fn code(kind: ChangeKind) -> u8 {
    match kind {
        ChangeKind::Put => 0,
        ChangeKind::Delete => 1,
        ChangeKind::DeletePrefix => 2,
    }
}

fn of_code(code: u8) -> Result<ChangeKind> {
    Ok(match code {
        0 => ChangeKind::Put,
        1 => ChangeKind::Delete,
        2 => ChangeKind::DeletePrefix,
        _ => return Err(bad(format!("it has the operation {code}, which this version does not know"))),
    })
}

/// What [`encode`] wrote, all at once: for tools and tests ([`crate::chain`] reads a part at a time).
///
/// # Errors
/// If the file is damaged or of a layout that this version does not know.
pub fn decode(bytes: Vec<u8>) -> Result<(Header, Vec<OperatorChanges>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(bad)?;
    let header = header_of(&builder)?;
    let new = |o: &Operator| OperatorChanges {
        identity: o.identity.clone(),
        kind: o.kind.clone(),
        layout: o.layout.clone(),
        whole: o.whole,
        by_key: o.sorted,
        tables: BTreeMap::new(),
    };
    let mut changes: Vec<_> = header.operators.iter().map(new).collect();
    for batch in builder.with_batch_size(BATCH_ROWS).build().map_err(bad)? {
        let batch = batch.map_err(bad)?;
        for (operator, table, rows) in runs(&batch)? {
            let found = changes.iter_mut().find(|c| c.identity == operator);
            let known = found.ok_or_else(|| bad(format!("it has rows of an operator '{operator}' that it does not name")))?;
            known.tables.entry(table).or_default().append(changes_of(&batch, rows)?);
        }
    }
    Ok((header, changes))
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| bad(format!("there is no column '{name}'")))
}

fn wrong() -> Error {
    bad("a column is of another type")
}

/// Rows come in runs of one table: operator, table and rows of each.
fn runs(batch: &RecordBatch) -> Result<Vec<(String, String, Range<usize>)>> {
    let (operators, tables) = (column(batch, "operator")?, column(batch, "table")?);
    let (operators, tables) =
        (operators.as_dictionary_opt::<UInt16Type>().ok_or_else(wrong)?, tables.as_dictionary_opt::<UInt16Type>().ok_or_else(wrong)?);
    let operators = operators.downcast_dict::<StringArray>().ok_or_else(wrong)?;
    let tables = tables.downcast_dict::<StringArray>().ok_or_else(wrong)?;
    let mut runs = vec![];
    let mut row = 0;
    while row < batch.num_rows() {
        let (operator, table) = (operators.value(row), tables.value(row));
        let mut end = row + 1;
        while end < batch.num_rows() && operators.value(end) == operator && tables.value(end) == table {
            end += 1;
        }
        runs.push((operator.to_owned(), table.to_owned(), row..end));
        row = end;
    }
    Ok(runs)
}

fn changes_of(batch: &RecordBatch, rows: Range<usize>) -> Result<Changes> {
    let kinds = column(batch, "op")?.as_primitive_opt::<UInt8Type>().ok_or_else(wrong)?;
    let keys = column(batch, "key")?.as_binary_opt::<i32>().ok_or_else(wrong)?;
    let values = column(batch, "value")?.as_binary_opt::<i32>().ok_or_else(wrong)?;
    let mut changes = Changes::default();
    for i in rows {
        changes.push(of_code(kinds.value(i))?, keys.value(i), values.value(i));
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::change::Rows;

    #[test]
    fn what_is_written_is_read() {
        let rows: Rows = (0..20_000u32).map(|i| (i.to_be_bytes(), vec![7; (i % 5) as usize])).collect();
        let right: Rows = [([], [1])].into_iter().collect();
        let mut gone = Changes::default();
        gone.push(ChangeKind::DeletePrefix, &[1], &[]);
        gone.push(ChangeKind::Delete, &[2], &[]);
        let one = OperatorChanges {
            identity: "Join-1".into(),
            kind: "Join".into(),
            layout: Layout { meaning: "m".into(), ..Layout::default() },
            whole: true,
            by_key: false,
            tables: [("left".to_owned(), rows.into()), ("right".to_owned(), right.into())].into(),
        };
        let two = OperatorChanges {
            identity: "TopN-1".into(),
            kind: "TopN".into(),
            layout: Layout::default(),
            whole: false,
            by_key: false,
            tables: [("rows".to_owned(), gone)].into(),
        };
        let empty = OperatorChanges {
            identity: "Over-1".into(),
            kind: "Over".into(),
            layout: Layout::default(),
            whole: true,
            by_key: false,
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
