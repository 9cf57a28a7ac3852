//! `filesystem` as a source: the files of a folder in the order of their names, line by line; bounded.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use sluice_batch::{Batch, Error, EvalContext, Field, Millis, Result, RowKind, TypeKind};
use sluice_format::{ChangelogMode, Decoder, FormatContext, Schema};

use super::BATCH_ROWS;
use crate::columns::{self, Metadata};
use crate::options::Options;
use crate::progress::{Progress, RecordEnd};
use crate::registry::SourceFactory;
use crate::{Malformed, ScanColumn, ScanRequest, Source, SourceEvent, SourceInfo, SplitStatus, TableSpec};

pub(crate) const FACTORY: SourceFactory =
    SourceFactory { info, metadata: |_| Ok(metadata()), open, splits: false, filters: |_, _, _| false };

/// Options of Flink's `filesystem` that are for folders which grow or are partitioned.
const UNSUPPORTED: &[&str] = &[
    "source.monitor-interval",
    "source.path.regex-pattern",
    "partition.default-name",
    "sink.rolling-policy.file-size",
    "sink.rolling-policy.rollover-interval",
    "sink.rolling-policy.check-interval",
    "sink.rolling-policy.inactivity-interval",
    "sink.shuffle-by-partition.enable",
    "sink.partition-commit.trigger",
    "sink.partition-commit.delay",
    "sink.partition-commit.policy.kind",
    "auto-compaction",
    "compaction.file-size",
    "compaction.parallelism",
];

/// What the source and the sink have in common.
pub(crate) struct FileTable {
    pub path: PathBuf,
    pub format: sluice_format::FormatOptions,
}

impl FileTable {
    /// # Errors
    /// If an option is missing, unknown or wrong.
    pub fn new(table: &TableSpec) -> Result<Self> {
        let options = Options::new(table)?;
        let path = options.required("path")?;
        let format = options.format("format").ok_or_else(|| options.missing("format"))?;
        for key in UNSUPPORTED {
            options.unsupported(key)?;
        }
        options.get("source.report-statistics");
        options.finish()?;
        if let Some((scheme, _)) = path.value.split_once("://")
            && scheme != "file"
        {
            return Err(Error::unsupported(format!("the file system '{scheme}'")).at(path.value_span));
        }
        if !matches!(format.format.as_str(), "json" | "csv" | "raw" | "changelog-json" | "debezium-json") {
            let message = format!("the format '{}' in files", format.format);
            return Err(Error::unsupported(message)
                .at(format.span)
                .hint("formats with one record a line can be used: json, csv, changelog-json, raw"));
        }
        let path = path.value.strip_prefix("file://").or(path.value.strip_prefix("file:")).unwrap_or(&path.value);
        Ok(Self { path: PathBuf::from(path), format })
    }
}

fn metadata() -> Vec<Field> {
    vec![
        Field::new("file.path", TypeKind::STRING.not_null()),
        Field::new("file.name", TypeKind::STRING.not_null()),
        Field::new("file.size", TypeKind::BigInt.not_null()),
        Field::new("file.modification-time", TypeKind::TimestampLtz(3).not_null()),
    ]
}

fn info(table: &TableSpec) -> Result<SourceInfo> {
    let files = FileTable::new(table)?;
    columns::check_readable(table, &metadata())?;
    let format = sluice_format::read_info(&files.format)?;
    let upsert_key = (format.changelog == ChangelogMode::Upsert).then(|| table.primary_key.clone()).flatten();
    if format.changelog == ChangelogMode::Upsert && upsert_key.is_none() {
        return Err(Error::plan(format!("table '{}' gives upserts, so it needs a PRIMARY KEY", table.name)).at(table.span));
    }
    Ok(SourceInfo { changelog: format.changelog, bounded: true, upsert_key })
}

fn open(table: &TableSpec, request: &ScanRequest) -> Result<Box<dyn Source>> {
    let files = FileTable::new(table)?;
    let physical = columns::physical(request);
    let schema = Schema { projection: physical.clone(), ..Schema::new(table.physical.clone()) };
    let blank_is_record = files.format.format == "raw";
    let decoder = sluice_format::decoder(files.format, schema, FormatContext { time_zone: request.time_zone })?;
    let offered = metadata();
    let output = request.columns.iter().map(|column| match column {
        ScanColumn::Physical(i) => Ok(Output::Decoded(physical.iter().position(|p| p == i).unwrap_or_default())),
        ScanColumn::Metadata(i) => Metadata::find(table, &table.metadata[*i], &offered).map(Output::Metadata),
    });
    let output = output.collect::<Result<Vec<_>>>()?;
    Ok(Box::new(FileSource {
        files: list(&files.path)?.into_iter(),
        current: None,
        decoder,
        output,
        context: columns::context(request.time_zone),
        progress: Progress::new(request, true),
        restored: vec![],
        blank_is_record,
        line: vec![],
    }))
}

/// The files directly in a folder that are not hidden, by name; a file stands for itself.
fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::runtime(format!("cannot read folder {}: {e}", path.display()));
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = vec![];
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        if entry.is_file() && !name(&entry).starts_with(['.', '_']) {
            files.push(entry);
        }
    }
    files.sort_by_key(|f| name(f));
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

enum Output {
    Decoded(usize),
    Metadata(Metadata),
}

struct FileSource {
    /// Not opened yet.
    files: std::vec::IntoIter<PathBuf>,
    current: Option<OpenFile>,
    decoder: Box<dyn Decoder>,
    output: Vec<Output>,
    context: EvalContext,
    progress: Progress,
    /// Where to go on in files that an earlier run has read.
    restored: Vec<(String, i64)>,
    blank_is_record: bool,
    line: Vec<u8>,
}

struct OpenFile {
    path: PathBuf,
    reader: BufReader<File>,
    split: u32,
    /// Bytes read.
    offset: i64,
    line: u64,
}

impl FileSource {
    fn open_next(&mut self) -> Result<bool> {
        let Some(path) = self.files.next() else { return Ok(false) };
        let failed = |e: std::io::Error| Error::runtime(format!("cannot read {}: {e}", path.display()));
        let name = name(&path);
        let offset = self.restored.iter().find(|(n, _)| *n == name).map_or(0, |(_, p)| *p);
        let mut file = File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(offset.max(0) as u64)).map_err(failed)?;
        // What `positions` says must also name files that have been read in an earlier run.
        self.restored.retain(|(n, _)| *n != name);
        let split = self.progress.add_split(name, offset);
        self.current = Some(OpenFile { path, reader: BufReader::with_capacity(1 << 18, file), split, offset, line: 0 });
        Ok(true)
    }

    /// Reads up to a batch of rows from the current file; ends it at its end.
    fn read(&mut self, now: Millis) -> Result<()> {
        let Some(file) = &mut self.current else { return Ok(()) };
        let mut records = self.progress.take_records();
        let mut rows = 0;
        let mut ended = false;
        while rows < BATCH_ROWS {
            self.line.clear();
            let read = file.reader.read_until(b'\n', &mut self.line);
            let read = read.map_err(|e| Error::runtime(format!("cannot read {}: {e}", file.path.display())))?;
            if read == 0 {
                ended = true;
                break;
            }
            file.offset += read as i64;
            file.line += 1;
            let mut line = self.line.as_slice();
            line = line.strip_suffix(b"\n").unwrap_or(line);
            line = line.strip_suffix(b"\r").unwrap_or(line);
            if self.blank_is_record || !line.iter().all(u8::is_ascii_whitespace) {
                let place = |e: Error| e.into_runtime().context(format!("{} line {}", file.path.display(), file.line));
                rows += self.decoder.decode(Some(line)).map_err(place)?;
            }
            records.push(RecordEnd { split: file.split, end: rows as u32, next: file.offset });
        }
        let (decoded, kinds) = self.decoder.finish()?;
        let batch = assemble(&self.output, &decoded, kinds, rows, &file.path, &self.context)?;
        if ended {
            self.current = None;
        }
        self.progress.give(batch, records, now)
    }
}

fn assemble(
    output: &[Output],
    decoded: &[ArrayRef],
    kinds: Option<Vec<RowKind>>,
    rows: usize,
    path: &Path,
    context: &EvalContext,
) -> Result<Batch> {
    let columns = output.iter().map(|column| match column {
        Output::Decoded(i) => Ok(decoded[*i].clone()),
        Output::Metadata(m) => m.finish(file_metadata(m.offered, path, rows)?, context),
    });
    Ok(Batch::with_kinds(columns.collect::<Result<_>>()?, kinds.map(Arc::from), rows))
}

fn file_metadata(key: usize, path: &Path, rows: usize) -> Result<ArrayRef> {
    let failed = |e: std::io::Error| Error::runtime(format!("cannot read {}: {e}", path.display()));
    Ok(match key {
        0 => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(path.to_string_lossy(), rows))),
        1 => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(name(path), rows))),
        2 => Arc::new(Int64Array::from_value(std::fs::metadata(path).map_err(failed)?.len() as i64, rows)),
        _ => {
            let changed = std::fs::metadata(path).and_then(|m| m.modified()).map_err(failed)?;
            let millis = changed.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
            Arc::new(TimestampMicrosecondArray::from_value(millis * 1000, rows).with_timezone("UTC"))
        }
    })
}

impl Source for FileSource {
    fn poll(&mut self, _timeout: Duration, now: Millis) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.progress.next_pending() {
                return Ok(event);
            }
            if let Some(event) = self.progress.tick(now) {
                return Ok(event);
            }
            if self.current.is_none() && !self.open_next()? {
                return Ok(SourceEvent::End);
            }
            self.read(now)?;
        }
    }

    fn positions(&self) -> Vec<(String, String)> {
        let restored = self.restored.iter().map(|(name, position)| (name.clone(), position.to_string()));
        restored.chain(self.progress.positions().map(|(name, position)| (name.to_owned(), position.to_string()))).collect()
    }

    fn seek(&mut self, positions: &[(String, String)]) -> Result<()> {
        let parse = |(name, position): &(String, String)| {
            let offset = position.parse().map_err(|_| Error::runtime(format!("'{position}' is no position in file '{name}'")))?;
            Ok((name.clone(), offset))
        };
        self.restored = positions.iter().map(parse).collect::<Result<_>>()?;
        Ok(())
    }

    fn malformed(&self) -> Malformed {
        Malformed { skipped: self.decoder.skipped(), dead_letters: 0 }
    }

    fn splits(&self) -> Vec<SplitStatus> {
        self.progress.status(|_, _| None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use arrow::array::AsArray;

    use super::*;
    use crate::test_util::{scan_all, string, table};

    fn spec(dir: &Path) -> TableSpec {
        table(&[("connector", "filesystem"), ("path", dir.to_str().unwrap()), ("format", "raw")], &[("line", string())])
    }

    fn read(source: &mut dyn Source) -> Vec<String> {
        let mut lines = vec![];
        loop {
            match source.poll(Duration::ZERO, 0).unwrap() {
                SourceEvent::Rows(b) => lines.extend(b.column(0).as_string::<i32>().iter().map(|s| s.unwrap().to_owned())),
                SourceEvent::End => return lines,
                _ => {}
            }
        }
    }

    #[test]
    fn reads_files_by_name_and_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b"), "3\n4").unwrap();
        std::fs::write(dir.path().join("a"), "1\r\n2\n").unwrap();
        std::fs::write(dir.path().join("_x"), "no\n").unwrap();
        std::fs::write(dir.path().join(".y"), "no\n").unwrap();
        let spec = spec(dir.path());
        let mut source = open(&spec, &scan_all(&spec)).unwrap();
        assert_eq!(read(source.as_mut()), ["1", "2", "3", "4"]);
        let positions = source.positions();
        assert_eq!(positions, [("a".into(), "5".into()), ("b".into(), "3".into())]);

        std::fs::write(dir.path().join("c"), "5\n").unwrap();
        let mut source = open(&spec, &scan_all(&spec)).unwrap();
        source.seek(&positions).unwrap();
        assert_eq!(source.positions(), positions);
        assert_eq!(read(source.as_mut()), ["5"]);
        assert_eq!(source.positions().len(), 3);
    }

    #[test]
    fn metadata_and_errors() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "1\n").unwrap();
        let mut spec = spec(dir.path());
        let column = |key: &str| crate::MetadataColumn { key: key.into(), field: Field::new("m", string()), is_virtual: true };
        spec.metadata = vec![column("file.name")];
        let mut request = scan_all(&spec);
        request.columns = vec![ScanColumn::Metadata(0)];
        assert_eq!(read(open(&spec, &request).unwrap().as_mut()), ["a"]);
        spec.metadata = vec![column("file.nme")];
        assert_eq!(info(&spec).unwrap_err().hint_text(), Some("did you mean 'file.name'?"));
        spec.metadata[0].key = "file.name".into();
        spec.options[1].value = "/nowhere/at/all".into();
        assert!(open(&spec, &request).err().unwrap().message().contains("/nowhere/at/all"));
    }
}
