//! One table as a Parquet file with the columns `key` and `value`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use sluice_batch::{Error, Result};

const BATCH_ROWS: usize = 8192;

fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::runtime(format!("state table {}: {error}", path.display()))
}

/// Writes the rows and makes sure that they are on the disk.
pub fn write(path: &Path, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    let schema = Arc::new(Schema::new(vec![Field::new("key", DataType::Binary, false), Field::new("value", DataType::Binary, false)]));
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let file = File::create(path).map_err(|e| failed(path, e))?;
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|e| failed(path, e))?;
    for rows in rows.chunks(BATCH_ROWS) {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|r| &r.0))),
            Arc::new(BinaryArray::from_iter_values(rows.iter().map(|r| &r.1))),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        writer.write(&batch).map_err(|e| failed(path, e))?;
    }
    writer.into_inner().and_then(|file| Ok(file.sync_all()?)).map_err(|e| failed(path, e))
}

/// Reads what [`write`] wrote, in its order.
pub fn read(path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let file = File::open(path).map_err(|e| failed(path, e))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.with_batch_size(BATCH_ROWS).build());
    let mut rows = vec![];
    for batch in reader.map_err(|e| failed(path, e))? {
        let batch = batch.map_err(|e| failed(path, e))?;
        let column = |name: &str| -> Result<BinaryArray> {
            let column = batch.column_by_name(name).ok_or_else(|| failed(path, format!("there is no column '{name}'")))?;
            column.as_binary_opt::<i32>().cloned().ok_or_else(|| failed(path, format!("column '{name}' is not binary")))
        };
        let (keys, values) = (column("key")?, column("value")?);
        rows.extend((0..keys.len()).map(|i| (keys.value(i).to_vec(), values.value(i).to_vec())));
    }
    Ok(rows)
}
