//! A thread that sends requests in their order, each until it is taken.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use sluice_batch::{Error, Result};

use super::{Answer, Endpoint, Verdict};
use crate::Later;
use crate::sent::Sent;

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
    arrived: Arc<Sent>,
    /// Nobody needs the rest any more.
    abandoned: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Delivery {
    /// `judge` says what an answer means; requests of a lane are `distance` apart.
    ///
    /// # Errors
    /// If the endpoint's headers are none, or there can be no thread.
    pub fn start(endpoint: Endpoint, judge: fn(&Answer) -> Verdict, distance: Duration) -> Result<Self> {
        endpoint.check()?;
        let (requests, waiting) = bounded(WAITING);
        let (arrived, abandoned) = (Arc::new(Sent::default()), Arc::new(AtomicBool::new(false)));
        let worker = Worker { agent: endpoint.agent(), endpoint, judge, distance, abandoned: abandoned.clone() };
        let reported = arrived.clone();
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || worker.run(&waiting, &reported))?;
        Ok(Self { requests: Some(requests), sent: 0, arrived, abandoned, thread: Some(thread) })
    }

    /// Sends a request some time; waits while too many do.
    ///
    /// # Errors
    /// If an earlier one was refused.
    pub fn send(&mut self, request: Request) -> Result<()> {
        self.sent += 1;
        match &self.requests {
            Some(requests) if requests.send(request).is_ok() => Ok(()),
            // It has ended, and has said why.
            _ => self.arrived.wait(self.sent),
        }
    }

    /// What it answers waits until everything sent so far is taken.
    pub fn later(&self) -> Later {
        let (arrived, sent) = (self.arrived.clone(), self.sent);
        Box::new(move || arrived.wait(sent))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// When the next request to a URL and of a lane may go: the service counts those of all tasks and tables together.
static LANES: Mutex<BTreeMap<(String, String), Instant>> = Mutex::new(BTreeMap::new());

struct Worker {
    endpoint: Endpoint,
    agent: ureq::Agent,
    judge: fn(&Answer) -> Verdict,
    distance: Duration,
    abandoned: Arc<AtomicBool>,
}

impl Worker {
    fn run(self, waiting: &Receiver<Request>, arrived: &Sent) {
        for request in waiting {
            let delivered = self.deliver(&request);
            let failed = delivered.is_err();
            arrived.end(delivered);
            if failed {
                return;
            }
        }
    }

    fn deliver(&self, request: &Request) -> Result<()> {
        let mut failures = 0;
        loop {
            self.keep_distance(&request.lane)?;
            let verdict = match self.endpoint.send(&self.agent, &request.body) {
                Ok(answer) => (self.judge)(&answer),
                Err(why) => Verdict::Again { after: None, why },
            };
            let place = self.endpoint.place();
            let wait = match verdict {
                Verdict::Taken => return Ok(()),
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
            self.pause(Instant::now() + wait)?;
        }
    }

    fn keep_distance(&self, lane: &str) -> Result<()> {
        let now = Instant::now();
        if lane.is_empty() || self.distance.is_zero() {
            return self.pause(now);
        }
        let at = {
            let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.retain(|_, next| *next > now);
            let next = lanes.entry((self.endpoint.url.clone(), lane.to_owned())).or_insert(now);
            std::mem::replace(next, *next + self.distance)
        };
        self.pause(at)
    }

    /// # Errors
    /// If nobody needs it any more.
    fn pause(&self, until: Instant) -> Result<()> {
        loop {
            if self.abandoned.load(Ordering::Relaxed) {
                return Err(Error::runtime("the job has ended before all requests were sent"));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(STEP));
        }
    }
}
