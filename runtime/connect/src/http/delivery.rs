//! A thread that sends requests in their order, each until it is taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use sluice_batch::{Error, Result};

use super::{Answer, Endpoint, Verdict};
use crate::Later;

/// Requests that may wait; then the task does.
const WAITING: usize = 1000;
/// How soon a wait notices that nobody needs it any more.
const STEP: Duration = Duration::from_millis(20);

pub(crate) struct Request {
    pub body: Vec<u8>,
    /// Requests of one lane keep the service's distance from each other; empty: no lane.
    pub lane: String,
}

/// Sends requests. What is not sent when it is dropped is not.
pub(crate) struct Delivery {
    requests: Option<Sender<Request>>,
    sent: u64,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    abandoned: AtomicBool,
}

#[derive(Default)]
struct State {
    done: u64,
    failed: Option<Error>,
}

impl Delivery {
    /// `judge` says what an answer means; requests of a lane are `distance` apart.
    ///
    /// # Errors
    /// If the endpoint's headers are none, or there can be no thread.
    pub fn start(endpoint: Endpoint, judge: fn(&Answer) -> Verdict, distance: Duration) -> Result<Self> {
        endpoint.check()?;
        let (requests, waiting) = bounded(WAITING);
        let shared = Arc::new(Shared::default());
        let worker = Worker { agent: endpoint.agent(), endpoint, judge, distance, lanes: HashMap::new(), shared: shared.clone() };
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || worker.run(&waiting))?;
        Ok(Self { requests: Some(requests), sent: 0, shared, thread: Some(thread) })
    }

    /// Sends a request some time; waits while too many do.
    ///
    /// # Errors
    /// If an earlier one was refused.
    pub fn send(&mut self, request: Request) -> Result<()> {
        let sent = self.requests.as_ref().is_some_and(|r| r.send(request).is_ok());
        if !sent {
            let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(state.failed.clone().unwrap_or_else(|| Error::runtime("internal: the thread that sends requests is gone")));
        }
        self.sent += 1;
        Ok(())
    }

    /// What it answers waits until everything sent so far is taken.
    pub fn later(&self) -> Later {
        let (shared, target) = (self.shared.clone(), self.sent);
        Box::new(move || {
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.done < target && state.failed.is_none() {
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.done < target { state.failed.clone().map_or(Ok(()), Err) } else { Ok(()) }
        })
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Worker {
    endpoint: Endpoint,
    agent: ureq::Agent,
    judge: fn(&Answer) -> Verdict,
    distance: Duration,
    /// When the next request of a lane may go.
    lanes: HashMap<String, Instant>,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(mut self, waiting: &Receiver<Request>) {
        for request in waiting {
            let done = self.deliver(&request);
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            let ends = match done {
                Ok(true) => {
                    state.done += 1;
                    false
                }
                Ok(false) => true,
                Err(error) => {
                    state.failed = Some(error);
                    true
                }
            };
            drop(state);
            self.shared.changed.notify_all();
            if ends {
                return;
            }
        }
    }

    /// `false`: nobody needs it any more.
    fn deliver(&mut self, request: &Request) -> Result<bool> {
        let mut failures = 0;
        loop {
            if !self.keep_distance(&request.lane) {
                return Ok(false);
            }
            let verdict = match self.endpoint.send(&self.agent, &request.body) {
                Ok(answer) => (self.judge)(&answer),
                Err(why) => Verdict::Again { after: None, why },
            };
            let place = self.endpoint.place();
            let wait = match verdict {
                Verdict::Taken => return Ok(true),
                Verdict::Refused(why) => return Err(Error::runtime(format!("{place} refuses a request: {why}"))),
                Verdict::Again { after: Some(after), why } => {
                    tracing::info!("{place}: {why}; going on in {after:?}");
                    after
                }
                Verdict::Again { after: None, why } => {
                    failures += 1;
                    let Some(wait) = self.endpoint.retry.wait(failures) else {
                        return Err(Error::runtime(format!("{place} has not taken a request in {failures} tries: {why}")));
                    };
                    tracing::warn!("{place}: {why}; trying again in {wait:?}");
                    wait
                }
            };
            if !self.pause(Instant::now() + wait) {
                return Ok(false);
            }
        }
    }

    fn keep_distance(&mut self, lane: &str) -> bool {
        if lane.is_empty() || self.distance.is_zero() {
            return !self.shared.abandoned.load(Ordering::Relaxed);
        }
        let now = Instant::now();
        self.lanes.retain(|_, next| *next > now);
        let at = self.lanes.get(lane).copied().unwrap_or(now);
        self.lanes.insert(lane.to_owned(), at + self.distance);
        self.pause(at)
    }

    /// `false`: nobody needs it any more.
    fn pause(&self, until: Instant) -> bool {
        loop {
            if self.shared.abandoned.load(Ordering::Relaxed) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(STEP));
        }
    }
}
