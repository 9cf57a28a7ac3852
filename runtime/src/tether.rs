//! What holds a job's process to the session server that has started it: its standard input.
//!
//! The server writes a line to stop the job as SIGTERM would. When the server is gone, however it went, the pipe ends, and the process with
//! it at once: a job that goes on behind its server's back would have a second writer beside it as soon as it is started again.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The line that stops a job.
pub const STOP: &str = "stop\n";
/// As of a process that SIGTERM has ended.
const LEFT_ALONE: i32 = 143;

/// Watches standard input: sets `stop` when it is told to, and ends the process if nothing has been opened yet.
///
/// # Errors
/// If no thread can be started.
pub fn hold(stop: Arc<AtomicBool>, opening: Arc<AtomicBool>) -> std::io::Result<()> {
    std::thread::Builder::new().name("tether".into()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            match line {
                Ok(line) if line == STOP.trim_end() => {
                    if opening.load(Ordering::Relaxed) {
                        std::process::exit(0);
                    }
                    stop.store(true, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        std::process::exit(LEFT_ALONE);
    })?;
    Ok(())
}
