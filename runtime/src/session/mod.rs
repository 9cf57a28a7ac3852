//! A session: one server that runs several jobs, each as a process of its own (`sluice run`), so that a job that crashes takes no other with
//! it. Jobs come and go over REST:
//!
//! | request | answer |
//! |---|---|
//! | `PUT /api/v1/jobs/{name}` with a [`Submission`] | 201; 200 if that very job is there already; 409 if slots are short or the name is taken |
//! | `GET /api/v1/jobs` | slots, and what is known of all jobs without asking them |
//! | `GET /api/v1/jobs/{name}` | the same of one job, with what `GET /api/v1/job` of its process says |
//! | `GET /api/v1/jobs/{name}/state` | what a savepoint of it would hold |
//! | `POST /api/v1/jobs/{name}/savepoints` | as `POST /savepoints` of its process |
//! | `DELETE /api/v1/jobs/{name}` | 200 when its process has ended; 202 if that takes longer |
//! | `/metrics`, `/livez`, `/readyz` | metrics of all jobs with a label `job_name`; health of the session itself |
//!
//! Jobs are held in memory only: whoever submitted them submits them again when the session has been started again, and they go on from
//! their last commits. The SQL gateway for interactive clients is to become a router of its own beside [`http`], with jobs of the same kind.

pub mod http;
mod job;
mod metrics;
mod process;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use job::Job;
pub use job::{JobView, Submission};

/// What the jobs of a session have in common.
pub struct Options {
    /// Tasks that run at once.
    pub slots: u32,
    /// Where the jobs' files are written.
    pub folder: PathBuf,
    /// Where the files of `{{secret:name/key}}` are.
    pub secrets: PathBuf,
    /// Log filter and format of the jobs' processes, as arguments.
    pub logs: Vec<String>,
    /// Log lines are JSON.
    pub json_logs: bool,
    /// Bytes of state that all slots together hold in memory; `None`: no limit.
    pub memory: Option<usize>,
}

/// The jobs of a server.
pub struct Session {
    options: Options,
    jobs: Mutex<BTreeMap<String, Job>>,
    closing: AtomicBool,
}

/// Why a request cannot be met.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It can never be.
    Invalid(String),
    /// Not as long as other jobs are there.
    Conflict(String),
    Unknown(String),
    Closing,
}

/// How long jobs may take to stop before they are killed.
const GRACE: Duration = Duration::from_secs(25);
/// How soon the end of a process is seen.
const TICK: Duration = Duration::from_millis(50);

impl Session {
    pub fn new(options: Options) -> Self {
        Self { options, jobs: Mutex::default(), closing: AtomicBool::new(false) }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All tasks that may run, and those that no job has.
    pub fn slots(&self) -> (u32, u32) {
        (self.options.slots, self.free(&self.held()))
    }

    fn free(&self, jobs: &BTreeMap<String, Job>) -> u32 {
        let used: u32 = jobs.values().map(|j| j.submission.tasks).sum();
        self.options.slots.saturating_sub(used)
    }

    /// Takes a job; false if it is there already.
    ///
    /// # Errors
    /// If the submission cannot be, slots are short, or another job has the name.
    pub fn submit(&self, name: &str, submission: Submission) -> Result<bool, Refusal> {
        submission.check(name).map_err(Refusal::Invalid)?;
        if self.closing.load(Ordering::Relaxed) {
            return Err(Refusal::Closing);
        }
        let mut jobs = self.held();
        if let Some(job) = jobs.get(name) {
            return match (job.stopping(), job.submission == submission) {
                (true, _) => Err(Refusal::Conflict(format!("the job '{name}' is being stopped"))),
                (false, true) => Ok(false),
                (false, false) => Err(Refusal::Conflict(format!("another job is called '{name}': delete it first"))),
            };
        }
        let (tasks, slots, free) = (submission.tasks, self.options.slots, self.free(&jobs));
        if tasks > free {
            let users: Vec<String> = jobs.iter().map(|(name, job)| format!("{name}: {}", job.submission.tasks)).collect();
            let users = if users.is_empty() { String::new() } else { format!(" ({})", users.join(", ")) };
            return Err(Refusal::Conflict(format!("the job needs {tasks} slots, and {free} of {slots} are free{users}")));
        }
        tracing::info!("job {name}: submitted, {tasks} tasks");
        jobs.insert(name.to_owned(), Job::new(submission));
        Ok(true)
    }

    /// Begins to stop a job; it is gone from the list when its process has ended.
    ///
    /// # Errors
    /// If there is no such job.
    pub fn remove(&self, name: &str) -> Result<(), Refusal> {
        match self.held().get_mut(name) {
            Some(job) => {
                tracing::info!("job {name}: asked to stop");
                job.stop();
                Ok(())
            }
            None => Err(unknown(name)),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.held().contains_key(name)
    }

    pub fn views(&self) -> Vec<JobView> {
        self.held().iter().map(|(name, job)| job.view(name)).collect()
    }

    /// What is known of a job, and the port of its process, if there is one.
    ///
    /// # Errors
    /// If there is no such job.
    pub fn view(&self, name: &str) -> Result<(JobView, Option<u16>), Refusal> {
        self.held().get(name).map(|job| (job.view(name), job.port())).ok_or_else(|| unknown(name))
    }

    /// Names of the jobs whose processes are there, with their ports.
    fn ports(&self) -> Vec<(String, u16)> {
        self.held().iter().filter_map(|(name, job)| Some((name.clone(), job.port()?))).collect()
    }

    /// Starts what is to be started and looks what has ended, until `stop`; then all jobs are stopped. Processes are the calling thread's.
    pub fn supervise(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.look();
            std::thread::sleep(TICK);
        }
        self.closing.store(true, Ordering::Relaxed);
        self.held().values_mut().for_each(Job::stop);
        let begun = Instant::now();
        while !self.held().is_empty() && begun.elapsed() < GRACE + Duration::from_secs(2) {
            self.look();
            std::thread::sleep(TICK);
        }
    }

    fn look(&self) {
        self.held().retain(|name, job| job.look(name, &self.options));
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::Unknown(format!("there is no job '{name}'"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn session(slots: u32) -> Session {
        let (folder, secrets) = (std::env::temp_dir(), PathBuf::from("/nowhere"));
        Session::new(Options { slots, folder, secrets, logs: vec![], json_logs: false, memory: None })
    }

    fn submission(tasks: u32, sql: &str) -> Submission {
        let deployment = json!({"kind": "StreamingDeployment", "metadata": {"name": "x"}, "spec": {"sql": {"inline": sql}}});
        serde_json::from_value(json!({"deployment": deployment, "tasks": tasks})).unwrap()
    }

    #[test]
    fn slots_and_names_are_given_once() {
        let session = session(3);
        assert_eq!(session.submit("a", submission(2, "x")), Ok(true));
        assert_eq!(session.submit("a", submission(2, "x")), Ok(false), "the same again");
        assert_eq!(session.submit("a", submission(2, "y")), Err(Refusal::Conflict("another job is called 'a': delete it first".into())));
        let short = Refusal::Conflict("the job needs 2 slots, and 1 of 3 are free (a: 2)".into());
        assert_eq!(session.submit("b", submission(2, "x")), Err(short));
        assert_eq!(session.submit("b", submission(1, "x")), Ok(true));
        assert_eq!(session.slots(), (3, 0));
        assert_eq!(session.remove("c"), Err(Refusal::Unknown("there is no job 'c'".into())));
        session.remove("a").unwrap();
        assert_eq!(session.submit("a", submission(2, "x")), Err(Refusal::Conflict("the job 'a' is being stopped".into())));
        // It had no process yet.
        session.held().retain(|name, job| name != "a" || job.look(name, &session.options));
        assert_eq!(session.submit("a", submission(2, "y")), Ok(true));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let session = session(100);
        for (name, tasks, words) in
            [("A b", 1, "lower-case"), ("", 1, "lower-case"), ("../x", 1, "lower-case"), ("a", 0, "tasks"), ("a", 65, "tasks")]
        {
            let Err(Refusal::Invalid(message)) = session.submit(name, submission(tasks, "x")) else { unreachable!("{name} {tasks}") };
            assert!(message.contains(words), "{message}");
        }
        let unknown = serde_json::from_value::<Submission>(json!({"deployment": {}, "tasks": 1, "task": 2}));
        assert!(unknown.unwrap_err().to_string().contains("task"));
    }
}
