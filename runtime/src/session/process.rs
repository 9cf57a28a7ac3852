//! The process of a job: `sluice run` with an address of its own on the loopback interface.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::Serialize;
use sluice_batch::{Error, Result};

use super::{Options, Submission};
use crate::tether;

/// Lines of its log that are kept for whoever asks why it ended,
const KEPT: usize = 20;
/// and how long they may be together: what the kubelet keeps of a pod's.
const MOST: usize = 2048;

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Its exit code, or 128 and the signal that ended it.
    pub exit_code: i32,
    /// The last lines of its log.
    pub message: String,
    /// RFC 3339.
    pub at: String,
}

impl Ended {
    fn new(exit_code: i32, message: String) -> Self {
        Self { exit_code, message, at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true) }
    }

    /// There was none.
    pub fn not_started(error: &Error) -> Self {
        Self::new(126, error.to_string())
    }
}

type Tail = Arc<Mutex<VecDeque<String>>>;

/// A process that is there; killed when dropped.
pub struct Process {
    pub port: u16,
    pub begun: Instant,
    child: Child,
    /// As long as it is open the process lives, see [`tether`].
    stdin: Option<ChildStdin>,
    tail: Tail,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// If its file cannot be written or the system gives no process.
    pub fn start(name: &str, submission: &Submission, options: &Options) -> Result<Self> {
        let file = options.folder.join(format!("{name}.yaml"));
        let text = serde_yaml::to_string(&submission.deployment).map_err(|e| Error::runtime(e.to_string()))?;
        std::fs::create_dir_all(&options.folder)?;
        std::fs::write(&file, text).map_err(|e| Error::runtime(format!("cannot write {}: {e}", file.display())))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&options.logs).arg("run").arg(&file).args(arguments(submission, options, port));
        command.arg("--secrets").arg(&options.secrets);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let tail = Tail::default();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut process = Self { port, begun: Instant::now(), child, stdin, tail, readers: vec![] };
        let json = options.json_logs;
        // Its tail is of stderr: what a job prints is no reason for its end.
        process.readers.extend(stdout.map(|pipe| pass_on(name, pipe, json, None)));
        process.readers.extend(stderr.map(|pipe| pass_on(name, pipe, json, Some(process.tail.clone()))));
        tracing::info!("job {name}: process {} on port {port}", process.pid());
        Ok(process)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to commit and end.
    pub fn stop(&mut self) {
        let told = self.stdin.as_mut().map(|stdin| stdin.write_all(tether::STOP.as_bytes()).and_then(|()| stdin.flush()));
        if let Some(Err(_)) = told {
            // It ends by itself, just now.
            self.stdin = None;
        }
    }

    pub fn kill(&mut self) {
        // It fails if the process has ended.
        let _ = self.child.kill();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().ok()??;
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        let lines = self.tail.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect::<Vec<_>>().join("\n");
        Some(Ended::new(code(status), last(&lines, MOST).to_owned()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

/// At most so many bytes of the end.
fn last(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

fn arguments(submission: &Submission, options: &Options, port: u16) -> Vec<String> {
    let mut args: Vec<String> = vec!["--tethered".into(), "--linger".into(), "--http".into(), format!("127.0.0.1:{port}")];
    args.extend(["--parallelism".into(), submission.tasks.to_string()]);
    let mut settings = submission.settings.clone();
    if let Some(all) = options.memory {
        // A share of the whole for each slot; what the job's own settings say goes before.
        let share = all as u64 * u64::from(submission.tasks) / u64::from(options.slots.max(1));
        if submission.deployment["spec"]["config"].get(MEMORY).is_none() {
            settings.entry(MEMORY.into()).or_insert_with(|| format!("{share} b"));
        }
    }
    for (key, value) in settings {
        args.extend(["--set".into(), format!("{key}={value}")]);
    }
    if let Some(start) = &submission.start {
        args.extend(["--start".into(), start.clone()]);
    }
    if let Some(path) = &submission.restore_from {
        args.extend(["--restore-from".into(), path.clone()]);
    }
    if submission.allow_non_restored_state {
        args.push("--allow-non-restored-state".into());
    }
    args
}

const MEMORY: &str = "state.backend.memory";

/// Writes what a process says to stderr, under the job's name.
fn pass_on(name: &str, pipe: impl Read + Send + 'static, json: bool, tail: Option<Tail>) -> JoinHandle<()> {
    let name = name.to_owned();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { continue };
            // Nothing is left to do if even stderr is gone.
            let _ = writeln!(std::io::stderr().lock(), "{}", labelled(&name, &line, json));
            if let Some(tail) = &tail {
                let mut kept = tail.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(line);
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        }
    })
}

/// A line of a job's log as one of the session's.
fn labelled(name: &str, line: &str, json: bool) -> String {
    match line.strip_prefix('{').filter(|_| json) {
        Some(rest) => format!("{{\"job\":\"{name}\",{rest}"),
        None => format!("[{name}] {line}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_those_of_a_pod_of_its_own() {
        let mut options =
            Options { slots: 4, folder: PathBuf::new(), secrets: PathBuf::new(), logs: vec![], json_logs: true, memory: Some(4000) };
        let submitted = json!({"deployment": {"spec": {}}, "tasks": 2, "settings": {"pipeline.name": "ns.a"}, "start": "u-2", "restoreFrom": "/sp",
            "allowNonRestoredState": true});
        let mut submission: Submission = serde_json::from_value(submitted).unwrap();
        let all = "--tethered --linger --http 127.0.0.1:7 --parallelism 2 --set pipeline.name=ns.a --set state.backend.memory=2000 b --start u-2 \
                   --restore-from /sp --allow-non-restored-state";
        assert_eq!(arguments(&submission, &options, 7).join(" "), all);
        submission.deployment["spec"]["config"] = json!({"state.backend.memory": "1 mb"});
        assert!(!arguments(&submission, &options, 7).join(" ").contains("state.backend.memory"));
        (options.memory, submission.deployment) = (None, json!({}));
        assert!(!arguments(&submission, &options, 7).join(" ").contains("state.backend.memory"));
    }

    #[test]
    fn lines_tell_the_job() {
        assert_eq!(labelled("a", "{\"level\":\"INFO\"}", true), "{\"job\":\"a\",\"level\":\"INFO\"}");
        assert_eq!(labelled("a", "text", true), "[a] text");
        assert_eq!(labelled("a", "{x}", false), "[a] {x}");
        assert_eq!((last("aäb", 3), last("abc", 9)), ("äb", "abc"));
        assert_eq!(last("aäb", 2), "b");
    }
}
