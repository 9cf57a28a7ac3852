//! Gives memory back to the system when a backlog has been worked off.

use sluice_batch::Millis;

/// How long rows are counted for one look.
const WINDOW: Millis = 2_000;
/// Fewer rows in a window leave nothing behind that is worth the call.
const MANY: u64 = 10_000;

/// Watches how many rows come. The allocator keeps what a burst used (glibc: about 80 MB after a backlog of Kafka records) although
/// little of it is in use; so when rows come ten times slower than before, it is asked to let go.
#[derive(Default)]
pub struct Trim {
    since: Millis,
    rows: u64,
    peak: u64,
}

impl Trim {
    /// Takes note of all rows read so far.
    pub fn note(&mut self, now: Millis, rows: u64) {
        if self.is_due(now, rows) {
            release();
        }
    }

    fn is_due(&mut self, now: Millis, rows: u64) -> bool {
        if now - self.since < WINDOW {
            return false;
        }
        let came = rows - self.rows;
        (self.since, self.rows, self.peak) = (now, rows, self.peak.max(came));
        let due = self.peak >= MANY && came < self.peak / 10;
        if due {
            self.peak = came;
        }
        due
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn release() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // SAFETY: glibc's, safe to call at any time from any thread.
    unsafe { malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn release() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_once_after_a_burst() {
        let mut trim = Trim::default();
        let mut due = vec![];
        for (at, rows) in
            [(1, 0), (2, 50_000), (4, 90_000), (6, 91_000), (8, 91_000), (9, 200_000), (10, 200_000), (12, 200_000), (14, 200_000)]
        {
            if trim.is_due(at * 1_000, rows) {
                due.push(at);
            }
        }
        assert_eq!(due, [6, 12]);
    }
}
