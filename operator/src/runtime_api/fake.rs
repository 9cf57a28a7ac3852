//! [`RuntimeApi`] in memory, for tests: jobs by address.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{JobInfo, RuntimeApi, RuntimeError, RuntimeState, SavepointInfo, SavepointRequest, SavepointState};

/// Jobs by `host:port`. A savepoint is complete at once, unless the job is told to fail it.
#[derive(Default)]
pub struct FakeRuntime {
    jobs: Mutex<BTreeMap<String, FakeJob>>,
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
}
