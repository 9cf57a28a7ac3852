//! One table as a Parquet file: readable columns, and the bytes that a restore needs as `_key` and `_value`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use sluice_batch::{Error, Result};

use crate::storage::{Input, Storage};
use crate::typed::Reader;

const BATCH_ROWS: usize = 8192;
/// Rows of a group that is read at once.
const GROUP_ROWS: usize = 256 * 1024;
/// More threads do not help: the disk and the allocator are shared.
const MOST_THREADS: usize = 4;
const KEY: &str = "_key";
const VALUE: &str = "_value";

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn failed(storage: &Arc<dyn Storage>, name: &str, error: impl std::fmt::Display) -> Error {
    Error::runtime(format!("state table {}: {error}", storage.place(name)))
}

/// Writes the rows and makes them durable.
pub fn write(storage: &Arc<dyn Storage>, name: &str, rows: &[(Vec<u8>, Vec<u8>)], reader: Option<&Reader<'_>>) -> Result<()> {
    let mut fields: Vec<Field> = reader.map_or(&[][..], |r| r.columns()).iter().map(|c| Field::new(&c.name, c.ty.clone(), true)).collect();
    fields.push(Field::new(KEY, DataType::Binary, false));
    fields.push(Field::new(VALUE, DataType::Binary, false));
    let schema = Arc::new(Schema::new(fields));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
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

/// Reads what [`write`] wrote, in its order; groups of rows by several threads.
pub fn read(storage: &Arc<dyn Storage>, name: &str) -> Result<Rows> {
    let metadata = ArrowReaderMetadata::load(&Input::open(storage, name)?, ArrowReaderOptions::default());
    let metadata = metadata.map_err(|e| failed(storage, name, e))?;
    let groups = metadata.metadata().num_row_groups();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).clamp(1, MOST_THREADS);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Rows)>> {
        let mut read = vec![];
        loop {
            let group = next.fetch_add(1, Ordering::Relaxed);
            if group >= groups {
                return Ok(read);
            }
            read.push((group, read_group(storage, name, &metadata, group)?));
        }
    };
    let mut parts = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(groups)).map(|_| scope.spawn(work)).collect();
        let mut parts = work()?;
        for other in others {
            parts.extend(other.join().unwrap_or_else(|_| Err(failed(storage, name, "a thread that reads it panicked")))?);
        }
        Ok::<_, Error>(parts)
    })?;
    parts.sort_unstable_by_key(|(group, _)| *group);
    if let [(_, rows)] = parts.as_mut_slice() {
        return Ok(std::mem::take(rows));
    }
    let mut rows = Vec::with_capacity(parts.iter().map(|(_, rows)| rows.len()).sum());
    parts.into_iter().for_each(|(_, mut part)| rows.append(&mut part));
    Ok(rows)
}

/// The rows of one row group.
fn read_group(storage: &Arc<dyn Storage>, name: &str, metadata: &ArrowReaderMetadata, group: usize) -> Result<Rows> {
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(Input::open(storage, name)?, metadata.clone());
    // The readable columns are not needed.
    let bytes = builder.schema().fields().iter().enumerate().filter(|(_, f)| f.name() == KEY || f.name() == VALUE).map(|(i, _)| i);
    let mask = ProjectionMask::roots(builder.parquet_schema(), bytes.collect::<Vec<_>>());
    let reader = builder.with_projection(mask).with_row_groups(vec![group]).with_batch_size(BATCH_ROWS).build();
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn several_groups_are_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let storage = crate::storage::open(&dir.path().display().to_string(), "p", &Default::default()).unwrap();
        for count in [0, 1, GROUP_ROWS as u32 * 2 + 5] {
            let rows: Rows = (0..count).map(|i| (i.to_be_bytes().to_vec(), vec![7; (i % 3) as usize])).collect();
            let name = format!("{count}.parquet");
            write(&storage, &name, &rows, None).unwrap();
            assert!(read(&storage, &name).unwrap() == rows, "{count} rows");
        }
    }
}
