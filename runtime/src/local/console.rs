//! Records on stdout; on a terminal a status line below them, drawn anew in place.

use std::io::{BufWriter, ErrorKind, IsTerminal, Stderr, Stdout, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_batch::Result;

use crate::server::resident_bytes;
use crate::task::stats::Stats;

const REDRAW: Duration = Duration::from_millis(500);
/// Carriage return, and erase the line (ECMA-48).
const CLEAR: &[u8] = b"\r\x1b[2K";

/// What a status line shows the rates of.
#[derive(Clone, Copy)]
struct Counts {
    at: Instant,
    read: u64,
    written: u64,
}

pub struct Console {
    out: BufWriter<Stdout>,
    /// `None`: no terminal.
    status: Option<Stderr>,
    stats: Arc<Stats>,
    last: Counts,
    drawn: bool,
    shown: String,
    /// Whoever read stdout has gone.
    closed: bool,
}

impl Console {
    pub fn new(stats: Arc<Stats>) -> Self {
        let stderr = std::io::stderr();
        let last = Counts { at: Instant::now(), read: 0, written: 0 };
        let status = stderr.is_terminal().then_some(stderr);
        Self { out: BufWriter::new(std::io::stdout()), status, stats, last, drawn: false, shown: String::new(), closed: false }
    }

    /// # Errors
    /// If stdout cannot be written to for another reason than a reader that has gone.
    pub fn print(&mut self, line: &str) -> Result<()> {
        self.clear()?;
        let written = writeln!(self.out, "{line}");
        self.check(written)
    }

    /// Answers whether anybody still reads.
    ///
    /// # Errors
    /// As [`Console::print`].
    pub fn flush(&mut self) -> Result<bool> {
        let flushed = self.out.flush();
        self.check(flushed)?;
        self.draw()?;
        Ok(!self.closed)
    }

    fn check(&mut self, written: std::io::Result<()>) -> Result<()> {
        match written {
            // `sluice run … | head`
            Err(e) if e.kind() == ErrorKind::BrokenPipe => self.closed = true,
            other => other?,
        }
        Ok(())
    }

    /// Makes a new status line, if it is time to.
    ///
    /// # Errors
    /// If stderr cannot be written to.
    pub fn status(&mut self) -> Result<()> {
        let elapsed = self.last.at.elapsed();
        if self.status.is_none() || elapsed < REDRAW {
            return Ok(());
        }
        let now = Counts { at: Instant::now(), read: self.stats.rows_in(), written: self.stats.rows_out() };
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        let (read, written) = (rate(now.read, self.last.read), rate(now.written, self.last.written));
        self.shown = line(&self.stats, read, written, resident_bytes());
        self.last = now;
        self.clear()?;
        self.draw()
    }

    fn clear(&mut self) -> Result<()> {
        if let Some(stderr) = self.status.as_mut().filter(|_| self.drawn) {
            stderr.write_all(CLEAR)?;
            self.drawn = false;
        }
        Ok(())
    }

    fn draw(&mut self) -> Result<()> {
        if let Some(stderr) = self.status.as_mut().filter(|_| !self.drawn && !self.shown.is_empty()) {
            stderr.write_all(self.shown.as_bytes())?;
            stderr.flush()?;
            self.drawn = true;
        }
        Ok(())
    }

    /// Leaves the last status line standing.
    ///
    /// # Errors
    /// As [`Console::print`].
    pub fn end(mut self) -> Result<()> {
        self.flush()?;
        if let Some(stderr) = self.status.as_mut().filter(|_| self.drawn) {
            stderr.write_all(b"\n")?;
        }
        Ok(())
    }
}

fn line(stats: &Stats, read: f64, written: f64, memory: u64) -> String {
    let watermark = stats.watermark().and_then(chrono::DateTime::from_timestamp_millis);
    let watermark = watermark.map_or("-".to_owned(), |w| w.format("%H:%M:%S%.3f").to_string());
    let matches = if stats.matches() > 0 { format!("   matches {}", stats.matches()) } else { String::new() };
    format!("in {read:.0}/s   out {written:.1}/s   watermark {watermark}{matches}   memory {} MB", memory / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line() {
        let stats = Stats::default();
        assert_eq!(line(&stats, 100.4, 0.52, 34_500_000), "in 100/s   out 0.5/s   watermark -   memory 34 MB");
        stats.set_watermark(1_752_156_421_679);
        stats.set_state(0, 0, 7);
        assert_eq!(line(&stats, 0.0, 0.0, 0), "in 0/s   out 0.0/s   watermark 14:07:01.679   matches 7   memory 0 MB");
    }
}
