//! [`RuntimeApi`] in memory, for tests: jobs by address.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{
    JobInfo, ProcessEnd, ProcessInfo, RuntimeApi, RuntimeError, RuntimeState, SavepointInfo, SavepointRequest, SavepointState, SessionInfo,
    SessionJob, Slots, Submission,
};
use crate::names::session_job;

/// Jobs by `host:port`. A savepoint is complete at once, unless the job is told to fail it.
#[derive(Default)]
pub struct FakeRuntime {
    jobs: Mutex<BTreeMap<String, FakeJob>>,
    sessions: Mutex<BTreeMap<String, FakeSession>>,
    /// Every job that was given to a session.
    pub submitted: Mutex<Vec<Submission>>,
}

/// A session: its jobs are jobs like others.
#[derive(Clone, Debug, Default)]
pub struct FakeSession {
    pub slots: u32,
    pub jobs: BTreeMap<String, (Submission, ProcessInfo)>,
    /// It is there, but does not answer.
    pub silent: bool,
}

/// A job and what was asked of it.
#[derive(Clone, Debug, Default)]
pub struct FakeJob {
    pub info: JobInfo,
    /// What a savepoint fails with.
    pub fail_savepoints: Option<String>,
    pub requests: Vec<SavepointRequest>,
}

impl FakeRuntime {
    /// Changes, makes or reads the job at an address.
    pub fn with<R>(&self, address: &str, change: impl FnOnce(&mut FakeJob) -> R) -> R {
        let mut jobs = self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(jobs.entry(address.to_owned()).or_default())
    }

    /// The pod at an address is gone.
    pub fn remove(&self, address: &str) {
        self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(address);
    }

    /// Changes, makes or reads the session at an address.
    pub fn session<R>(&self, host: &str, change: impl FnOnce(&mut FakeSession) -> R) -> R {
        let mut sessions = self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(sessions.entry(host.to_owned()).or_default())
    }

    /// Where sessions are.
    pub fn hosts(&self) -> Vec<String> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).keys().cloned().collect()
    }

    /// The pod with a session is gone, and its jobs with it.
    pub fn remove_session(&self, host: &str) {
        let gone = self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(host);
        gone.into_iter().flat_map(|s| s.jobs.into_keys()).for_each(|name| self.remove(&session_job(host, &name)));
    }

    fn in_session<R>(&self, host: &str, ask: impl FnOnce(&mut FakeSession) -> Result<R, RuntimeError>) -> Result<R, RuntimeError> {
        let mut sessions = self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match sessions.get_mut(host).filter(|s| !s.silent) {
            Some(session) => ask(session),
            None => Err(RuntimeError::Unreachable { address: host.to_owned(), message: "connection refused".into() }),
        }
    }

    fn find<R>(&self, address: &str, ask: impl FnOnce(&mut FakeJob) -> Result<R, RuntimeError>) -> Result<R, RuntimeError> {
        let mut jobs = self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match jobs.get_mut(address) {
            Some(job) => ask(job),
            None => Err(RuntimeError::Unreachable { address: address.to_owned(), message: "connection refused".into() }),
        }
    }
}

impl RuntimeApi for FakeRuntime {
    fn job<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<JobInfo, RuntimeError>> {
        async move { self.find(address, |job| Ok(job.info.clone())) }.boxed()
    }

    fn savepoint<'a>(&'a self, address: &'a str, request: &'a SavepointRequest) -> BoxFuture<'a, Result<SavepointInfo, RuntimeError>> {
        async move {
            self.find(address, |job| {
                job.requests.push(request.clone());
                let failed = job.fail_savepoints.clone();
                let state = if failed.is_some() { SavepointState::Failed } else { SavepointState::Completed };
                let info = SavepointInfo { directory: request.directory.clone(), state, size_bytes: Some(1024), error: failed };
                job.info.savepoint = Some(info.clone());
                if request.stop && state == SavepointState::Completed {
                    job.info.state = RuntimeState::Stopped;
                }
                Ok(info)
            })
        }
        .boxed()
    }

    fn session<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<SessionInfo, RuntimeError>> {
        async move {
            self.in_session(host, |session| {
                let used: u32 = session.jobs.values().map(|(s, _)| s.tasks).sum();
                let slots = Slots { total: session.slots, free: session.slots.saturating_sub(used) };
                let view = |(name, (s, process)): (&String, &(Submission, ProcessInfo))| SessionJob {
                    name: name.clone(),
                    tasks: s.tasks,
                    annotations: s.annotations.clone(),
                    stopping: false,
                    process: process.clone(),
                };
                Ok(SessionInfo { slots, jobs: session.jobs.iter().map(view).collect() })
            })
        }
        .boxed()
    }

    /// SQL with the word CRASH crashes.
    fn submit<'a>(&'a self, host: &'a str, name: &'a str, submission: &'a Submission) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            let crashes = submission.deployment.to_string().contains("CRASH");
            self.in_session(host, |session| {
                let refused = |message: &str| Err(RuntimeError::Refused { status: 409, message: message.into() });
                if let Some((there, _)) = session.jobs.get(name) {
                    return if there == submission { Ok(()) } else { refused("another job has the name") };
                }
                if session.jobs.values().map(|(s, _)| s.tasks).sum::<u32>() + submission.tasks > session.slots {
                    return refused("slots are short");
                }
                let ended = ProcessEnd { exit_code: 1, message: "boom".into(), at: None };
                let process = match crashes {
                    true => ProcessInfo { restarts: 5, waiting: Some("back-off".into()), ended: Some(ended), ..ProcessInfo::default() },
                    false => ProcessInfo { running: true, pid: Some(1), ..ProcessInfo::default() },
                };
                session.jobs.insert(name.to_owned(), (submission.clone(), process));
                self.submitted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(submission.clone());
                Ok(())
            })?;
            if !crashes {
                self.with(&session_job(host, name), |job| {
                    let restored_from = submission.restore_from.clone();
                    job.info = JobInfo { state: RuntimeState::Running, commits: 1, restored_from, ..JobInfo::default() };
                });
            }
            Ok(())
        }
        .boxed()
    }

    fn withdraw<'a>(&'a self, host: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        async move {
            self.remove(&session_job(host, name));
            self.in_session(host, |session| {
                session.jobs.remove(name);
                Ok(())
            })
        }
        .boxed()
    }
}
