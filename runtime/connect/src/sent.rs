//! How far a thread that sends in order has come, for those who wait for it.

use std::sync::{Condvar, Mutex, PoisonError};

use sluice_batch::{Error, Result};

/// How much has been sent, and why no more will be.
#[derive(Default)]
pub(crate) struct Sent {
    state: Mutex<(u64, Option<Error>)>,
    changed: Condvar,
}

impl Sent {
    /// One more is over: it has arrived, or nothing more will.
    pub fn end(&self, result: Result<()>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => state.0 += 1,
            Err(error) => state.1 = Some(error),
        }
        self.changed.notify_all();
    }

    /// # Errors
    /// Why no more will be sent.
    pub fn check(&self) -> Result<()> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clone().map_or(Ok(()), Err)
    }

    /// Waits until `count` have arrived.
    ///
    /// # Errors
    /// If they will not.
    pub fn wait(&self, count: u64) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 < count && state.1.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.0 < count { state.1.clone().map_or(Ok(()), Err) } else { Ok(()) }
    }
}
