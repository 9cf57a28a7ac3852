//! Requests to an object store, from threads that wait for them: what may pass is tried again for a while.

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use object_store::client::HttpError;
use object_store::{Error as StoreError, Result as StoreResult};
use sluice_batch::{Error, Result};
use tokio::runtime::Runtime;

/// How long a request is tried again, if `s3.retry.timeout` does not say it: less than the time by which the transactions of Kafka outlast the commit interval, a minute.
pub const PATIENCE: Duration = Duration::from_secs(30);
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// The threads that talk to object stores; made when the first is used.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::result::Result<Runtime, String>> = OnceLock::new();
    let build = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).thread_name("object-store").enable_all().build().map_err(|e| e.to_string())
    };
    RUNTIME.get_or_init(build).as_ref().map_err(|e| Error::runtime(format!("threads for the object store: {e}")))
}

/// Begins work; it goes on whether it is waited for or not.
pub fn begin<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<Begun<T>> {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // Who began it may have gone.
        let _ = send.send(work.await);
    });
    Ok(Begun(receive))
}

pub struct Begun<T>(std::sync::mpsc::Receiver<T>);

impl<T> Begun<T> {
    /// Waits for the end, on any thread, also one of another runtime.
    pub fn wait(self) -> Result<T> {
        self.0.recv().map_err(|_| Error::runtime("a request to the object store broke off"))
    }
}

/// Makes a request until it succeeds or fails for good, or `patience` is over. `what` is for the log.
pub async fn patiently<T>(what: &str, patience: Duration, request: impl Fn() -> BoxFuture<'static, StoreResult<T>>) -> StoreResult<T> {
    let started = Instant::now();
    let mut said: Option<Instant> = None;
    let mut wait = Duration::from_millis(50);
    loop {
        match request().await {
            Err(e) if may_pass(&e) && started.elapsed() + wait < patience => {
                if said.is_none_or(|s| s.elapsed() >= SAY_AGAIN) {
                    let left = patience.saturating_sub(started.elapsed()).as_secs();
                    tracing::warn!("{what}: {}; trying again for {left} s", root(&e));
                    said = Some(Instant::now());
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
            result => {
                if said.is_some() && result.is_ok() {
                    tracing::info!("{what}: done after {:.1} s", started.elapsed().as_secs_f64());
                }
                return result;
            }
        }
    }
}

/// Whether the same request may succeed later: the network, an overloaded server.
pub fn may_pass(error: &StoreError) -> bool {
    let (StoreError::Generic { source, .. } | StoreError::NotFound { source, .. }) = error else { return false };
    let text = error.to_string();
    if is_without_credentials(&text) {
        return false;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
    while let Some(e) = cause {
        if e.is::<HttpError>() {
            return true;
        }
        cause = e.source();
    }
    ["status code: 5", "status code: 429", "status code: 408", "<Code>SlowDown<", "<Code>InternalError<", "<Code>RequestTimeout<"]
        .iter()
        .any(|t| text.contains(t))
}

/// Nobody has named any credentials, so that the metadata service of an EC2 instance was asked.
pub fn is_without_credentials(text: &str) -> bool {
    text.contains("169.254.169.254") || text.contains("/latest/api/token")
}

/// The innermost cause says what happened.
pub fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
