//! A job of a session: what was submitted, and its process.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::process::{Ended, Process};
use super::{GRACE, Options};

/// A job as it is submitted. It holds references to secrets, never their values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Submission {
    /// A StreamingDeployment with SQL, variables and settings: what `sluice run` reads.
    pub deployment: Value,
    /// Tasks that share the work; each takes a slot.
    pub tasks: u32,
    /// Settings that go before those of the deployment.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Names this start, as `sluice run --start` does.
    #[serde(default)]
    pub start: Option<String>,
    /// The savepoint that this start begins with.
    #[serde(default)]
    pub restore_from: Option<String>,
    #[serde(default)]
    pub allow_non_restored_state: bool,
    /// Kept for whoever submitted it, and told with the job.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Submission {
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self, name: &str) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) || name.starts_with('-') {
            return Err(format!("'{name}' cannot be a job's name: lower-case letters, digits and -, at most 63"));
        }
        if !(1..=64).contains(&self.tasks) {
            return Err(format!("tasks must be a number from 1 to 64, not {}", self.tasks));
        }
        Ok(())
    }
}

/// What a session knows of a job.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    pub name: String,
    pub tasks: u32,
    pub annotations: BTreeMap<String, String>,
    /// It was asked to stop.
    pub stopping: bool,
    pub process: ProcessView,
}

/// What a session knows of a job's process.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessView {
    pub running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// How the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// The first process that ends is started again at once; then this is waited for, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A process that lived so long begins anew.
const LONG: Duration = Duration::from_secs(600);

/// A job and its process.
pub struct Job {
    pub submission: Submission,
    process: Option<Process>,
    restarts: u32,
    ended: Option<Ended>,
    /// When its process is to be started; None: it has ended for good.
    next: Option<Instant>,
    pause: Duration,
    /// Since when it is to stop.
    stopping: Option<Instant>,
}

impl Job {
    pub fn new(submission: Submission) -> Self {
        let next = Some(Instant::now());
        Self { submission, process: None, restarts: 0, ended: None, next, pause: Duration::ZERO, stopping: None }
    }

    pub fn stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Asks it to stop.
    pub fn stop(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some(Instant::now());
            if let Some(process) = &mut self.process {
                process.stop();
            }
        }
    }

    /// Where its process listens.
    pub fn port(&self) -> Option<u16> {
        self.process.as_ref().map(|p| p.port)
    }

    pub fn view(&self, name: &str) -> JobView {
        let waiting = (self.process.is_none() && self.next.is_some() && self.pause > Duration::ZERO)
            .then(|| format!("back-off {:?} after {} restarts", self.pause, self.restarts));
        JobView {
            name: name.to_owned(),
            tasks: self.submission.tasks,
            annotations: self.submission.annotations.clone(),
            stopping: self.stopping(),
            process: ProcessView {
                running: self.process.is_some(),
                pid: self.process.as_ref().map(Process::pid),
                restarts: self.restarts,
                waiting,
                ended: self.ended.clone(),
            },
        }
    }

    /// Looks after its process; false if the job is gone.
    pub fn look(&mut self, name: &str, options: &Options) -> bool {
        if let Some(process) = &mut self.process {
            if self.stopping.is_some_and(|since| since.elapsed() > GRACE) {
                tracing::warn!("job {name}: did not stop in {GRACE:?} and is killed");
                process.kill();
            }
            let Some(ended) = process.ended() else { return true };
            let lived = process.begun.elapsed();
            self.process = None;
            self.after(name, ended, lived);
        }
        if self.stopping() {
            return false;
        }
        if self.next.is_some_and(|at| at <= Instant::now()) {
            self.start(name, options);
        }
        true
    }

    fn after(&mut self, name: &str, ended: Ended, lived: Duration) {
        if self.stopping() {
            tracing::info!("job {name}: stopped");
            return;
        }
        tracing::warn!("job {name}: its process ended with exit code {}", ended.exit_code);
        if lived > LONG {
            self.pause = Duration::ZERO;
        }
        self.next = (ended.exit_code != 0).then(|| Instant::now() + self.pause);
        self.ended = Some(ended);
    }

    fn start(&mut self, name: &str, options: &Options) {
        if self.ended.is_some() {
            self.restarts += 1;
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        }
        match Process::start(name, &self.submission, options) {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                tracing::error!("job {name}: {error}");
                self.ended = Some(Ended::not_started(&error));
                self.pause = self.pause.max(FIRST_PAUSE);
                self.next = Some(Instant::now() + self.pause);
            }
        }
    }
}
