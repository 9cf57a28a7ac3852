//! `filesystem` as a sink: new files in a folder, one record a line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use sluice_batch::{Batch, Error, Result};
use sluice_format::{Encoder, FormatContext, Records, Schema};

use crate::columns;
use crate::registry::SinkFactory;
use crate::source::filesystem::FileTable;
use crate::{Sink, SinkInfo, TableSpec, Transactions};

pub(crate) const FACTORY: SinkFactory = SinkFactory { info, open };

fn info(table: &TableSpec) -> Result<SinkInfo> {
    let files = FileTable::new(table)?;
    columns::check_writable(table, &[])?;
    let format = sluice_format::write_info(&files.format, table.primary_key.is_some())?;
    Ok(SinkInfo { changelog: format.changelog, delete_by_key: format.delete_by_key, guarantee: "at-least-once" })
}

fn open(table: &TableSpec, time_zone: chrono_tz::Tz, _transactions: &Transactions) -> Result<Box<dyn Sink>> {
    let files = FileTable::new(table)?;
    let failed = |e: std::io::Error| Error::runtime(format!("cannot create folder {}: {e}", files.path.display()));
    std::fs::create_dir_all(&files.path).map_err(failed)?;
    let extension = if files.format.format.ends_with("json") { "json" } else { "txt" };
    let encoder = sluice_format::encoder(files.format, Schema::new(table.physical.clone()), FormatContext { time_zone })?;
    Ok(Box::new(FileSink {
        folder: files.path,
        run: rand::random(),
        extension,
        files: 0,
        current: None,
        encoder,
        records: Records::default(),
    }))
}

struct FileSink {
    folder: PathBuf,
    /// Makes the names of this run unlike those of any other.
    run: u128,
    extension: &'static str,
    files: u32,
    current: Option<OpenFile>,
    encoder: Box<dyn Encoder>,
    records: Records,
}

struct OpenFile {
    /// Hidden while it is written, so that no reader sees half a line.
    hidden: PathBuf,
    visible: PathBuf,
    writer: BufWriter<File>,
}

impl FileSink {
    fn file(&mut self) -> Result<&mut OpenFile> {
        if self.current.is_none() {
            let name = format!("part-{:032x}-{}.{}", self.run, self.files, self.extension);
            self.files += 1;
            let hidden = self.folder.join(format!(".{name}.inprogress"));
            let file = File::create_new(&hidden).map_err(|e| Error::runtime(format!("cannot create {}: {e}", hidden.display())))?;
            self.current = Some(OpenFile { hidden, visible: self.folder.join(name), writer: BufWriter::with_capacity(1 << 18, file) });
        }
        self.current.as_mut().ok_or_else(|| Error::runtime("no file is open"))
    }
}

impl Sink for FileSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut records = std::mem::take(&mut self.records);
        records.clear();
        self.encoder.encode(batch, &mut records)?;
        let file = self.file()?;
        for i in 0..records.len() {
            let record = records.get(i).unwrap_or_default();
            let written = file.writer.write_all(record).and_then(|()| file.writer.write_all(b"\n"));
            written.map_err(|e| Error::runtime(format!("cannot write {}: {e}", file.hidden.display())))?;
        }
        self.records = records;
        Ok(())
    }

    /// Publishes the file: what was written before a commit must be there after it. The next rows go to a new one.
    fn flush(&mut self, _end: bool) -> Result<()> {
        let Some(mut file) = self.current.take() else { return Ok(()) };
        let failed = |e: std::io::Error| Error::runtime(format!("cannot write {}: {e}", file.visible.display()));
        file.writer.flush().and_then(|()| file.writer.get_ref().sync_all()).map_err(failed)?;
        std::fs::rename(&file.hidden, &file.visible).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::*;
    use crate::test_util::{string, table};

    #[test]
    fn writes_new_files_which_appear_at_flush() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("old"), "x").unwrap();
        let path = dir.path().join("deeper");
        let spec = table(&[("connector", "filesystem"), ("path", path.to_str().unwrap()), ("format", "raw")], &[("a", string())]);
        let visible = || {
            let files = std::fs::read_dir(&path).unwrap().map(|f| f.unwrap().path());
            let mut files: Vec<_> = files.filter(|f| !f.file_name().unwrap().to_str().unwrap().starts_with('.')).collect();
            files.sort();
            files.iter().map(|f| std::fs::read_to_string(f).unwrap()).collect::<Vec<_>>()
        };
        let mut sink = open(&spec, chrono_tz::Tz::UTC, &Transactions::default()).unwrap();
        let batch = Batch::new(vec![Arc::new(StringArray::from(vec!["a", "b"]))], 2);
        sink.write(&batch).unwrap();
        assert!(visible().is_empty());
        sink.flush(false).unwrap();
        assert_eq!(visible(), ["a\nb\n"]);
        sink.write(&batch).unwrap();
        sink.flush(true).unwrap();
        assert_eq!(visible(), ["a\nb\n", "a\nb\n"]);
        sink.flush(true).unwrap();
        assert_eq!(visible().len(), 2);
    }
}
