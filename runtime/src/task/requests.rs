//! Savepoints that are asked for while a job runs.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_batch::{Error, Result, fail};
use sluice_sql::catalog::Catalog;
use sluice_state::checkpoints::Stopped;
use sluice_state::manifest::Manifest;
use sluice_state::{Savepoint, storage};

pub use sluice_crds::SavepointState;

use super::commit::Committer;
use super::{Job, Part, snapshot};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// A new directory: a path or a URI.
    pub directory: String,
    /// The job ends with the savepoint. If that cannot be written the job goes on.
    #[serde(default)]
    pub stop: bool,
    /// Before, time ends, so that all windows fire: for jobs that will not go on. Only with `stop`.
    #[serde(default)]
    pub drain: bool,
}

impl Wish {
    /// # Errors
    /// If it asks for what cannot be, or the directory cannot take a savepoint.
    pub fn check(&self, options: &storage::Options) -> Result<()> {
        if self.drain && !self.stop {
            return Err(Error::plan("drain without stop: a job whose time has ended cannot go on"));
        }
        if self.directory.trim().is_empty() {
            return Err(Error::plan("the savepoint needs a directory"));
        }
        Savepoint::check_new(storage::at(&self.directory, options)?.as_ref())
    }
}

/// A savepoint that was asked for, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    pub directory: String,
    pub state: SavepointState,
    #[serde(skip)]
    pub wish: Wish,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What becomes of a wish.
pub enum Asked {
    /// The answer comes when the savepoint is there.
    Waiting(Receiver<Result<String>>),
    /// The same was asked for before: whoever lost the answer asks again.
    Known(Progress),
}

/// A wish and who waits for it.
pub struct Request {
    pub wish: Wish,
    reply: Sender<Result<String>>,
    last: Arc<Mutex<Option<Progress>>>,
}

impl Request {
    /// Writes the savepoint of a job whose tasks stand still and have committed, and says how it went. Answers whether the job is to stop,
    /// which then is committed, too: a savepoint that cannot be written is no reason to.
    ///
    /// # Errors
    /// If the stop cannot be committed.
    pub(super) fn serve(self, job: &Job<'_>, parts: &mut [Part<'_>], committer: &mut Committer) -> Result<bool> {
        let Job { graph, options, stats, .. } = job;
        let taken = snapshot::take(graph, parts, &options.sql);
        let written = taken.and_then(|savepoint| snapshot::write(&savepoint, graph, &self.wish.directory, &options.storage));
        if !self.wish.stop || written.is_err() {
            self.answer(written);
            return Ok(false);
        }
        fail::point("savepoint-written");
        // Whoever hears of the savepoint may start another job from it at once.
        let stopped = Stopped { savepoint: self.wish.directory.clone(), drained: self.wish.drain };
        let stopped = committer.commit_stop(graph, parts, stats, stopped);
        self.answer(stopped.as_ref().map_err(|e| Error::runtime(e.to_string())).copied());
        stopped.map(|()| true)
    }

    fn answer(self, result: Result<()>) {
        if let Err(error) = &result {
            tracing::warn!("{error}");
        }
        let (state, error) = match &result {
            Ok(()) => (SavepointState::Completed, None),
            Err(error) => (SavepointState::Failed, Some(error.to_string())),
        };
        let progress = Progress { directory: self.wish.directory.clone(), state, wish: self.wish.clone(), error };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        // Whoever asked may have gone.
        let _ = self.reply.send(result.map(|()| self.wish.directory));
    }
}

/// The requests of a process, served one at a time by the job that runs.
#[derive(Default)]
pub struct Requests {
    queue: Mutex<Queue>,
    /// How the job that runs reaches object stores.
    storage: Mutex<storage::Options>,
    /// The newest savepoint that was asked for.
    last: Arc<Mutex<Option<Progress>>>,
    /// What a savepoint of the job that runs would hold.
    manifest: Mutex<Option<Arc<Manifest>>>,
}

#[derive(Default)]
struct Queue {
    open: VecDeque<Request>,
    /// No job follows.
    ended: bool,
}

impl Requests {
    /// A job begins that reaches object stores so, and whose savepoints hold this.
    pub fn begin(&self, storage: &storage::Options, manifest: Manifest) {
        *self.storage.lock().unwrap_or_else(PoisonError::into_inner) = storage.clone();
        *self.manifest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(manifest));
    }

    /// What a savepoint of the job that runs would hold; none if no job has begun.
    pub fn manifest(&self) -> Option<Arc<Manifest>> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for a savepoint.
    ///
    /// # Errors
    /// If the wish is none that can be fulfilled.
    pub fn ask(&self, wish: Wish) -> Result<Asked> {
        if let Some(known) = self.known(&wish) {
            return Ok(Asked::Known(known));
        }
        let storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wish.check(&storage)?;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have asked for the same in the meantime.
        if let Some(known) = self.known(&wish) {
            return Ok(Asked::Known(known));
        }
        if queue.ended {
            return Err(Error::runtime("the job has ended"));
        }
        let (reply, answer) = channel();
        let progress = Progress { directory: wish.directory.clone(), state: SavepointState::InProgress, wish: wish.clone(), error: None };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        queue.open.push_back(Request { wish, reply, last: self.last.clone() });
        Ok(Asked::Waiting(answer))
    }

    /// The newest savepoint, if it is this one.
    fn known(&self, wish: &Wish) -> Option<Progress> {
        self.last().filter(|l| l.wish == *wish && l.state != SavepointState::Failed)
    }

    /// The newest savepoint that was asked for.
    pub fn last(&self) -> Option<Progress> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The job was stopped with a savepoint before this process began.
    pub(super) fn stopped_before(&self, stopped: &Stopped) {
        let wish = Wish { directory: stopped.savepoint.clone(), stop: true, drain: stopped.drained };
        let progress = Progress { directory: stopped.savepoint.clone(), state: SavepointState::Completed, wish, error: None };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    pub fn next(&self) -> Option<Request> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).open.pop_front()
    }

    /// No job follows: who waits is told so.
    pub fn end(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.ended = true;
        for request in queue.open.drain(..) {
            request.answer(Err(Error::runtime("the job has ended")));
        }
    }
}

/// Asks for savepoints again and again while a job runs: `kubernetes.operator.periodic.savepoint.interval` (the name that Flink's
/// operator has for it), into new directories below `execution.checkpointing.savepoint-dir`. Ends when dropped.
pub struct Periodic {
    _ends: Sender<()>,
}

const INTERVAL: &str = "kubernetes.operator.periodic.savepoint.interval";
const FOLDERS: [&str; 2] = ["execution.checkpointing.savepoint-dir", "state.savepoints.dir"];

impl Periodic {
    /// Starts if the settings say so.
    ///
    /// # Errors
    /// If the interval is no duration, or there is no directory.
    pub fn start(catalog: &Catalog, requests: &Arc<Requests>) -> Result<Option<Self>> {
        let Some(text) = catalog.settings.get(INTERVAL) else { return Ok(None) };
        let interval = sluice_batch::duration::parse(text).map_err(|e| e.context(format!("'{INTERVAL}'")))?;
        if interval.is_zero() {
            return Ok(None);
        }
        let Some(folder) = FOLDERS.iter().find_map(|key| catalog.settings.get(*key)) else {
            return Err(Error::plan(format!("'{INTERVAL}' needs '{}'", FOLDERS[0])));
        };
        let storage = storage::Options::read(catalog.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())))?;
        storage::at(folder, &storage).map_err(|e| e.context(format!("'{}'", FOLDERS[0])))?;
        let folder = folder.clone();
        let (ends, ended) = channel();
        let requests = requests.clone();
        std::thread::Builder::new().name("savepoints".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(interval) {
                let name = format!("savepoint-{}", chrono::Utc::now().format("%Y%m%dT%H%M%S%3f"));
                let answer = requests.ask(Wish { directory: storage::join(&folder, &name), ..Wish::default() });
                match answer {
                    // Its failure is logged where it happens; the end of the job ends the wait.
                    Ok(Asked::Waiting(answer)) => drop(answer.recv()),
                    Ok(Asked::Known(_)) => {}
                    Err(e) => tracing::warn!("{e}"),
                }
            }
        })?;
        Ok(Some(Self { _ends: ends }))
    }
}
