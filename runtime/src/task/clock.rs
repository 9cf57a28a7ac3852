//! Processing time. Operators see only what the task took from its clock.

use std::time::{SystemTime, UNIX_EPOCH};

use sluice_batch::Millis;

/// Where a task's processing time comes from.
pub trait Clock: Sync {
    fn now(&self) -> Millis;
}

/// The machine's clock; the only place where a job reads it.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as Millis)
    }
}
