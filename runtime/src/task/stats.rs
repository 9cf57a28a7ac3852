//! What a running job tells monitoring: counters that the task adds to once a batch.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use sluice_batch::{Millis, WATERMARK_NONE};
use sluice_connect::{Malformed, SplitStatus};

use super::status::{State, Status};

/// Bounds of the histograms of times, in seconds.
const TIMES: [f64; 22] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Counters and gauges of one job.
pub struct Stats {
    rows_in: AtomicU64,
    rows_out: AtomicU64,
    matches: AtomicU64,
    late_rows: AtomicU64,
    skipped: AtomicU64,
    dead_letters: AtomicU64,
    state_bytes: AtomicU64,
    commits: AtomicU64,
    commit_micros: AtomicU64,
    longest_commit_micros: AtomicU64,
    commit_pause: Histogram,
    commit_duration: Histogram,
    checkpoint_bytes: AtomicU64,
    checkpoint_bytes_written: AtomicU64,
    restarts: AtomicU64,
    repeated_failures: AtomicU64,
    watermark: AtomicI64,
    opening: Arc<AtomicBool>,
    /// What the job says of itself.
    pub status: Status,
    splits: Mutex<Vec<SplitStatus>>,
    /// Those of the tasks, if there are several.
    parts: Mutex<Vec<Arc<Stats>>>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            matches: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            commit_micros: AtomicU64::new(0),
            longest_commit_micros: AtomicU64::new(0),
            commit_pause: Histogram::new(TIMES),
            commit_duration: Histogram::new(TIMES),
            checkpoint_bytes: AtomicU64::new(0),
            checkpoint_bytes_written: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            repeated_failures: AtomicU64::new(0),
            watermark: AtomicI64::new(WATERMARK_NONE),
            opening: Arc::new(AtomicBool::new(true)),
            status: Status::default(),
            splits: Mutex::new(Vec::new()),
            parts: Mutex::new(Vec::new()),
        }
    }
}

impl Stats {
    /// The statistics of one of several tasks; they count as this job's, too.
    pub fn part(&self) -> Arc<Stats> {
        let part = Arc::new(Self::default());
        self.parts().push(part.clone());
        part
    }

    /// The tasks have ended: their counts stay.
    pub fn end_parts(&self) {
        let parts = std::mem::take(&mut *self.parts());
        if parts.is_empty() {
            return;
        }
        let sum = |get: fn(&Stats) -> &AtomicU64| parts.iter().map(|p| get(p).load(Relaxed)).sum::<u64>();
        self.rows_in.fetch_add(sum(|p| &p.rows_in), Relaxed);
        self.rows_out.fetch_add(sum(|p| &p.rows_out), Relaxed);
        self.set_state(sum(|p| &p.late_rows), sum(|p| &p.state_bytes), sum(|p| &p.matches));
        self.set_malformed(Malformed { skipped: sum(|p| &p.skipped), dead_letters: sum(|p| &p.dead_letters) });
        if let Some(watermark) = parts.iter().filter_map(|p| p.watermark()).min() {
            self.set_watermark(watermark);
        }
        self.set_splits(parts.iter().flat_map(|p| p.splits()).collect());
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Arc<Stats>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number of this job, which may be of several tasks.
    fn sum(&self, get: fn(&Stats) -> &AtomicU64) -> u64 {
        get(self).load(Relaxed) + self.parts().iter().map(|p| get(p).load(Relaxed)).sum::<u64>()
    }

    pub fn add_in(&self, rows: u64) {
        self.rows_in.fetch_add(rows, Relaxed);
    }

    pub fn add_out(&self, rows: u64) {
        self.rows_out.fetch_add(rows, Relaxed);
    }

    /// A commit that kept the tasks for `pause` and was durable after `duration`.
    pub fn add_commit(&self, pause: Duration, duration: Duration) {
        self.commit_pause.observe(pause.as_secs_f64());
        self.commit_duration.observe(duration.as_secs_f64());
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Relaxed);
        self.commit_micros.fetch_add(micros, Relaxed);
        self.longest_commit_micros.fetch_max(micros, Relaxed);
        self.status.committed();
    }

    /// Bytes of the state files that a restart would read, and of those that commits of this run have written.
    pub fn set_checkpoint(&self, bytes: u64, written: u64) {
        self.checkpoint_bytes.store(bytes, Relaxed);
        self.checkpoint_bytes_written.store(written, Relaxed);
    }

    /// The job was built anew after a failure; the same failure has come `repeated` times in a row.
    pub fn add_restart(&self, repeated: u64) {
        self.restarts.fetch_add(1, Relaxed);
        self.repeated_failures.store(repeated, Relaxed);
    }

    /// What the operators say of themselves, summed up.
    pub fn set_state(&self, late_rows: u64, bytes: u64, matches: u64) {
        self.late_rows.store(late_rows, Relaxed);
        self.matches.store(matches, Relaxed);
        self.state_bytes.store(bytes, Relaxed);
    }

    pub fn set_watermark(&self, watermark: Millis) {
        self.watermark.store(watermark, Relaxed);
    }

    pub fn set_malformed(&self, malformed: Malformed) {
        self.skipped.store(malformed.skipped, Relaxed);
        self.dead_letters.store(malformed.dead_letters, Relaxed);
    }

    /// A job opens its sources and sinks, or has done so.
    pub fn set_opening(&self, opening: bool) {
        self.opening.store(opening, Relaxed);
        if !opening {
            self.status.set(State::Running);
        }
    }

    /// True until sources and sinks are open: nothing has been read or written yet.
    pub fn opening(&self) -> Arc<AtomicBool> {
        self.opening.clone()
    }

    pub fn set_splits(&self, splits: Vec<SplitStatus>) {
        if let Ok(mut held) = self.splits.lock() {
            *held = splits;
        }
    }

    pub fn rows_in(&self) -> u64 {
        self.sum(|s| &s.rows_in)
    }

    pub fn rows_out(&self) -> u64 {
        self.sum(|s| &s.rows_out)
    }

    pub fn matches(&self) -> u64 {
        self.sum(|s| &s.matches)
    }

    pub fn late_rows(&self) -> u64 {
        self.sum(|s| &s.late_rows)
    }

    pub fn malformed(&self) -> Malformed {
        Malformed { skipped: self.sum(|s| &s.skipped), dead_letters: self.sum(|s| &s.dead_letters) }
    }

    pub fn state_bytes(&self) -> u64 {
        self.sum(|s| &s.state_bytes)
    }

    pub fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Microseconds spent in commits: of all, and of the longest.
    pub fn commit_micros(&self) -> (u64, u64) {
        (self.commit_micros.load(Relaxed), self.longest_commit_micros.load(Relaxed))
    }

    /// Seconds that commits kept the tasks, and that they took.
    pub fn commit_times(&self) -> (&Histogram, &Histogram) {
        (&self.commit_pause, &self.commit_duration)
    }

    /// See [`Stats::set_checkpoint`].
    pub fn checkpoint(&self) -> (u64, u64) {
        (self.checkpoint_bytes.load(Relaxed), self.checkpoint_bytes_written.load(Relaxed))
    }

    /// Restarts after failures, and how often the last failure came in a row.
    pub fn restarts(&self) -> (u64, u64) {
        (self.restarts.load(Relaxed), self.repeated_failures.load(Relaxed))
    }

    /// The least watermark that reached a sink; `None` before the first.
    pub fn watermark(&self) -> Option<Millis> {
        let of_tasks = self.parts().iter().filter_map(|p| p.watermark()).min();
        of_tasks.or(Some(self.watermark.load(Relaxed)).filter(|w| *w != WATERMARK_NONE))
    }

    /// Sources and sinks are open and rows can flow.
    pub fn is_ready(&self) -> bool {
        !self.opening.load(Relaxed)
    }

    pub fn splits(&self) -> Vec<SplitStatus> {
        let of_tasks: Vec<SplitStatus> = self.parts().iter().flat_map(|p| p.splits()).collect();
        if of_tasks.is_empty() { self.splits.lock().map(|s| s.clone()).unwrap_or_default() } else { of_tasks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_count_as_their_job() {
        let job = Stats::default();
        job.add_in(1);
        let (a, b) = (job.part(), job.part());
        a.add_in(10);
        b.add_in(100);
        b.add_out(7);
        a.set_state(1, 20, 3);
        b.set_state(2, 30, 4);
        a.set_watermark(50);
        let check = |bytes: u64| {
            assert_eq!((job.rows_in(), job.rows_out(), job.late_rows(), job.matches(), job.state_bytes()), (111, 7, 3, 7, bytes));
        };
        check(50);
        assert_eq!(job.watermark(), Some(50), "a task without rows has none");
        b.set_watermark(40);
        assert_eq!(job.watermark(), Some(40));
        job.end_parts();
        check(50);
        assert_eq!(job.watermark(), Some(40));
        a.add_in(1000);
        check(50);
    }
}
