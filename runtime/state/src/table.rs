//! One table as a Parquet file: readable columns, and the bytes that a restore needs as `_key` and `_value`.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use sluice_batch::{Error, Result};

use crate::Rows;
use crate::storage::{Input, Storage};
use crate::typed::Reader;

const BATCH_ROWS: usize = 8192;
/// Rows of a group that is read at once.
const GROUP_ROWS: usize = 256 * 1024;
/// More threads do not help: the disk and the allocator are shared.
const MOST_THREADS: usize = 4;
const KEY: &str = "_key";
const VALUE: &str = "_value";
/// Parts that wait until they are taken, by thread.
const AHEAD: usize = 4;

fn failed(storage: &Arc<dyn Storage>, name: &str, error: impl std::fmt::Display) -> Error {
    Error::runtime(format!("state table {}: {error}", storage.place(name)))
}

/// Writes the rows and makes them durable.
pub fn write(storage: &Arc<dyn Storage>, name: &str, rows: &Rows, reader: Option<&Reader<'_>>) -> Result<()> {
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
    for begin in (0..rows.len()).step_by(BATCH_ROWS) {
        let part = || (begin..rows.len().min(begin + BATCH_ROWS)).map(|at| rows.get(at));
        let mut columns: Vec<ArrayRef> = reader.map(|r| r.read(part())).transpose()?.unwrap_or_default();
        columns.push(Arc::new(BinaryArray::from_iter_values(part().map(|r| r.0))));
        columns.push(Arc::new(BinaryArray::from_iter_values(part().map(|r| r.1))));
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        writer.write(&batch).map_err(|e| failed(storage, name, e))?;
    }
    writer.into_inner().map_err(|e| failed(storage, name, e))?.finish()
}

/// Reads what [`write`] wrote, in its order, a part at a time; groups of rows by several threads, which are a little ahead.
///
/// # Errors
/// If the file cannot be read, or those of `each`.
pub fn read(storage: &Arc<dyn Storage>, name: &str, each: &mut dyn FnMut(Rows) -> Result<()>) -> Result<()> {
    let metadata = ArrowReaderMetadata::load(&Input::open(storage, name)?, ArrowReaderOptions::default());
    let metadata = metadata.map_err(|e| failed(storage, name, e))?;
    let groups = metadata.metadata().num_row_groups();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).clamp(1, MOST_THREADS).min(groups);
    std::thread::scope(|scope| {
        // Each thread reads every so manyth group, and says where one ends by `None`.
        let readers: Vec<Receiver<Option<Result<Rows>>>> = (0..threads)
            .map(|first| {
                let (to, from) = sync_channel(AHEAD);
                let metadata = &metadata;
                scope.spawn(move || {
                    for group in (first..groups).step_by(threads) {
                        if read_group(storage, name, metadata, group, &to).is_break() {
                            return;
                        }
                    }
                });
                from
            })
            .collect();
        for group in 0..groups {
            loop {
                let part = readers[group % threads].recv();
                match part.map_err(|_| failed(storage, name, "a thread that reads it panicked"))? {
                    Some(part) => each(part?)?,
                    None => break,
                }
            }
        }
        Ok(())
    })
}

/// Sends the rows of one row group, until nobody wants them.
fn read_group(
    storage: &Arc<dyn Storage>,
    name: &str,
    metadata: &ArrowReaderMetadata,
    group: usize,
    to: &SyncSender<Option<Result<Rows>>>,
) -> ControlFlow<()> {
    let send = |part| if to.send(part).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    match open_group(storage, name, metadata, group) {
        Ok(batches) => {
            for batch in batches {
                let batch = batch.map_err(|e| failed(storage, name, e));
                send(Some(batch.and_then(|batch| rows_of(storage, name, &batch))))?;
            }
        }
        Err(e) => send(Some(Err(e)))?,
    }
    send(None)
}

fn open_group(storage: &Arc<dyn Storage>, name: &str, metadata: &ArrowReaderMetadata, group: usize) -> Result<ParquetRecordBatchReader> {
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(Input::open(storage, name)?, metadata.clone());
    // The readable columns are not needed.
    let bytes = builder.schema().fields().iter().enumerate().filter(|(_, f)| f.name() == KEY || f.name() == VALUE).map(|(i, _)| i);
    let mask = ProjectionMask::roots(builder.parquet_schema(), bytes.collect::<Vec<_>>());
    let reader = builder.with_projection(mask).with_row_groups(vec![group]).with_batch_size(BATCH_ROWS).build();
    reader.map_err(|e| failed(storage, name, e))
}

fn rows_of(storage: &Arc<dyn Storage>, name: &str, batch: &RecordBatch) -> Result<Rows> {
    let column = |c: &str| -> Result<BinaryArray> {
        let column = batch.column_by_name(c).ok_or_else(|| failed(storage, name, format!("there is no column '{c}'")))?;
        column.as_binary_opt::<i32>().cloned().ok_or_else(|| failed(storage, name, format!("column '{c}' is not binary")))
    };
    let (keys, values) = (column(KEY)?, column(VALUE)?);
    Ok((0..keys.len()).map(|i| (keys.value(i), values.value(i))).collect())
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
            let rows: Rows = (0..count).map(|i| (i.to_be_bytes(), vec![7; (i % 3) as usize])).collect();
            let name = format!("{count}.parquet");
            write(&storage, &name, &rows, None).unwrap();
            let mut all = Rows::default();
            let mut add = |part| {
                all.append(part);
                Ok(())
            };
            read(&storage, &name, &mut add).unwrap();
            assert!(all == rows, "{count} rows");
            // Threads that are ahead do not wait for ever.
            let enough = read(&storage, &name, &mut |_| Err(Error::runtime("enough")));
            assert_eq!(enough.is_err(), count > 0);
        }
    }
}
