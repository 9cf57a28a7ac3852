//! One table as a Parquet file: readable columns, and the bytes that a restore needs as `_key` and `_value`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use sluice_batch::{Error, Result};

use crate::storage::{Input, Storage};
use crate::typed::Reader;

const BATCH_ROWS: usize = 8192;
const KEY: &str = "_key";
const VALUE: &str = "_value";

fn failed(storage: &Arc<dyn Storage>, name: &str, error: impl std::fmt::Display) -> Error {
    Error::runtime(format!("state table {}: {error}", storage.place(name)))
}

/// Writes the rows and makes them durable.
pub fn write(storage: &Arc<dyn Storage>, name: &str, rows: &[(Vec<u8>, Vec<u8>)], reader: Option<&Reader<'_>>) -> Result<()> {
    let mut fields: Vec<Field> = reader.map_or(&[][..], |r| r.columns()).iter().map(|c| Field::new(&c.name, c.ty.clone(), true)).collect();
    fields.push(Field::new(KEY, DataType::Binary, false));
    fields.push(Field::new(VALUE, DataType::Binary, false));
    let schema = Arc::new(Schema::new(fields));
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let file = storage.writer(name)?;
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|e| failed(storage, name, e))?;
    for rows in rows.chunks(BATCH_ROWS) {
        let mut columns: Vec<ArrayRef> = reader.map(|r| r.read(rows)).transpose()?.unwrap_or_default();
        columns.push(Arc::new(BinaryArray::from_iter_values(rows.iter().map(|r| &r.0))));
        columns.push(Arc::new(BinaryArray::from_iter_values(rows.iter().map(|r| &r.1))));
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        writer.write(&batch).map_err(|e| failed(storage, name, e))?;
    }
    writer.into_inner().map_err(|e| failed(storage, name, e))?.finish()
}

/// Reads what [`write`] wrote, in its order.
pub fn read(storage: &Arc<dyn Storage>, name: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let file = Input::open(storage, name)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.with_batch_size(BATCH_ROWS).build());
    let mut rows = vec![];
    for batch in reader.map_err(|e| failed(storage, name, e))? {
        let batch = batch.map_err(|e| failed(storage, name, e))?;
        let column = |c: &str| -> Result<BinaryArray> {
            let column = batch.column_by_name(c).ok_or_else(|| failed(storage, name, format!("there is no column '{c}'")))?;
            column.as_binary_opt::<i32>().cloned().ok_or_else(|| failed(storage, name, format!("column '{c}' is not binary")))
        };
        let (keys, values) = (column(KEY)?, column(VALUE)?);
        rows.extend((0..keys.len()).map(|i| (keys.value(i).to_vec(), values.value(i).to_vec())));
    }
    Ok(rows)
}

/// The readable columns of a table, batch by batch, until `each` has enough and answers false.
///
/// # Errors
/// If the file cannot be read, or those of `each`.
pub fn read_columns(storage: &Arc<dyn Storage>, name: &str, each: &mut dyn FnMut(RecordBatch) -> Result<bool>) -> Result<()> {
    let file = Input::open(storage, name)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(storage, name, e))?;
    let fields = builder.schema().fields().iter().enumerate();
    let readable: Vec<usize> = fields.filter(|(_, f)| f.name() != KEY && f.name() != VALUE).map(|(i, _)| i).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), readable);
    for batch in builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(|e| failed(storage, name, e))? {
        if !each(batch.map_err(|e| failed(storage, name, e))?)? {
            break;
        }
    }
    Ok(())
}
