//! How the rows of a bare SELECT reach the one who asked: a changelog, as a table or as JSON, or a live table.

use std::io::{BufWriter, Stdout, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, StringArray};
use indexmap::IndexMap;
use sluice_batch::types::Field;
use sluice_batch::{Batch, Error, EvalContext, Expr, Result, Span, TypeKind};
use sluice_format::{Encoder, FormatContext, FormatOptions, Records};
use sluice_sql::relation::Schema;

use crate::task::pipeline::Client;

/// What `--output` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line a change: its kind and its values.
    Table,
    /// The result as it is now, drawn anew as it changes.
    Live,
    /// One JSON object a change: {"op":"+I","data":{…}}.
    ChangelogJson,
}

/// Prints what a job's SELECT gives. Sets `stop` when nobody reads it any more.
pub fn new(format: Format, stop: Arc<AtomicBool>) -> Box<dyn Client> {
    let out = BufWriter::new(Pipe { stdout: std::io::stdout(), stop });
    match format {
        Format::Table => Box::new(Changelog { out, started: false }),
        Format::Live => Box::new(Live { out, header: String::new(), rows: IndexMap::new(), lines: 0, changed: false, drawn: None }),
        Format::ChangelogJson => Box::new(ChangelogJson { out, encoder: None, records: Records::default() }),
    }
}

/// stdout; when its reader is gone (`| head`), the job is asked to stop and the rest is dropped.
struct Pipe {
    stdout: Stdout,
    stop: Arc<AtomicBool>,
}

impl Pipe {
    fn closed<T>(&self, result: std::io::Result<T>, instead: T) -> std::io::Result<T> {
        match result {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                self.stop.store(true, Ordering::Relaxed);
                Ok(instead)
            }
            other => other,
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let result = self.stdout.write(bytes);
        self.closed(result, bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = self.stdout.flush();
        self.closed(result, ())
    }
}

/// Values as `CAST(x AS STRING)` writes them, one vector a row.
fn texts(schema: &Schema, batch: &Batch, context: &EvalContext) -> Result<Vec<ArrayRef>> {
    let string = TypeKind::STRING.nullable();
    (0..schema.len())
        .map(|i| {
            let column = Expr::column(i, schema[i].ty.clone());
            sluice_functions::cast(column, &string, false, Span::NONE)?.eval_array(batch, context)
        })
        .collect()
}

fn line(columns: &[ArrayRef], row: usize) -> Result<String> {
    let mut line = String::new();
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            line.push_str(" | ");
        }
        let texts = column.as_any().downcast_ref::<StringArray>();
        let texts = texts.ok_or_else(|| Error::runtime("a value has no text"))?;
        line.push_str(if texts.is_null(row) { "<NULL>" } else { texts.value(row) });
    }
    Ok(line)
}

fn header(schema: &Schema) -> String {
    schema.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(" | ")
}

struct Changelog {
    out: BufWriter<Pipe>,
    started: bool,
}

impl Client for Changelog {
    fn rows(&mut self, schema: &Schema, batch: &Batch, context: &EvalContext) -> Result<()> {
        if !self.started {
            self.started = true;
            writeln!(self.out, "op | {}", header(schema))?;
        }
        let columns = texts(schema, batch, context)?;
        for row in 0..batch.rows() {
            writeln!(self.out, "{} | {}", batch.kind(row).symbol(), line(&columns, row)?)?;
        }
        Ok(())
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

/// Draws the rows that are there now; the newest ones, if they do not fit.
struct Live {
    out: BufWriter<Pipe>,
    header: String,
    /// Rows that are there, and how often.
    rows: IndexMap<String, usize>,
    /// Lines on the screen from the last drawing.
    lines: usize,
    /// There is something that has not been drawn.
    changed: bool,
    drawn: Option<Instant>,
}

const LIVE_ROWS: usize = 30;
const REDRAW: Duration = Duration::from_millis(100);

impl Live {
    fn draw(&mut self) -> Result<()> {
        if self.lines > 0 {
            // Back to the first line of the table, and clear from there.
            write!(self.out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        writeln!(self.out, "\x1b[1m{}\x1b[0m", self.header)?;
        let skipped = self.rows.len().saturating_sub(LIVE_ROWS);
        for (row, count) in self.rows.iter().skip(skipped) {
            let times = if *count > 1 { format!("  (x{count})") } else { String::new() };
            writeln!(self.out, "{row}{times}")?;
        }
        writeln!(self.out, "{} rows", self.rows.values().sum::<usize>())?;
        self.lines = self.rows.len().min(LIVE_ROWS) + 2;
        (self.changed, self.drawn) = (false, Some(Instant::now()));
        Ok(self.out.flush()?)
    }
}

impl Client for Live {
    fn rows(&mut self, schema: &Schema, batch: &Batch, context: &EvalContext) -> Result<()> {
        if self.header.is_empty() {
            self.header = header(schema);
        }
        let columns = texts(schema, batch, context)?;
        for row in 0..batch.rows() {
            let text = line(&columns, row)?;
            if batch.kind(row).is_addition() {
                *self.rows.entry(text).or_default() += 1;
            } else if let Some(count) = self.rows.get_mut(&text) {
                *count -= 1;
                if *count == 0 {
                    self.rows.shift_remove(&text);
                }
            }
        }
        self.changed |= batch.rows() > 0;
        Ok(())
    }

    fn flush(&mut self, end: bool) -> Result<()> {
        let due = end || self.drawn.is_none_or(|at| at.elapsed() >= REDRAW);
        if self.changed && due { self.draw() } else { Ok(()) }
    }
}

struct ChangelogJson {
    out: BufWriter<Pipe>,
    encoder: Option<Box<dyn Encoder>>,
    records: Records,
}

impl Client for ChangelogJson {
    fn rows(&mut self, schema: &Schema, batch: &Batch, context: &EvalContext) -> Result<()> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(encoder(schema, context)?),
        };
        self.records.clear();
        encoder.encode(batch, &mut self.records)?;
        for i in 0..self.records.len() {
            self.out.write_all(self.records.get(i).unwrap_or_default())?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn flush(&mut self, _end: bool) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

fn encoder(schema: &Schema, context: &EvalContext) -> Result<Box<dyn Encoder>> {
    let fields: Vec<Field> = schema.iter().map(|c| Field::new(&c.name, c.ty.clone())).collect();
    let options = FormatOptions::new("changelog-json", "changelog-json.", vec![]);
    let schema = sluice_format::Schema::new(fields);
    sluice_format::encoder(options, schema, FormatContext { time_zone: context.time_zone })
}
