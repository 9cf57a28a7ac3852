//! Fail points: places where a crash test lets the process die as `kill -9` would.
//!
//! `SLUICE_FAIL_POINT=name` aborts at the first pass of that point, `name:3` at the third. Without the variable a point is one atomic load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Chosen {
    name: String,
    left: AtomicU64,
}

static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();

fn chosen() -> Option<Chosen> {
    let text = std::env::var("SLUICE_FAIL_POINT").ok()?;
    let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
    Some(Chosen { name: name.to_owned(), left: AtomicU64::new(times.parse().unwrap_or(1)) })
}

/// Whether the process is to die at this point now.
pub fn is_due(name: &str) -> bool {
    match CHOSEN.get_or_init(chosen) {
        None => false,
        Some(c) => c.name == name && c.left.fetch_sub(1, Ordering::Relaxed) == 1,
    }
}

/// Ends the process at once if this point was chosen: nothing is flushed, no destructor runs.
pub fn point(name: &str) {
    if is_due(name) {
        eprintln!("fail point {name}");
        std::process::abort();
    }
}
