//! The built `sluice` as a black box.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

/// The binary under test: `SLUICE_BIN`, else the one that cargo built beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SLUICE_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("sluice");
    assert!(path.exists(), "{} is missing: build it with `cargo build -p sluice`", path.display());
    path
}

/// A run of `sluice` in the background; killed when dropped.
pub struct Run {
    child: Option<Child>,
    stdout: Pipe,
    stderr: Pipe,
    /// Kept until the end.
    script: Option<NamedTempFile>,
}

impl Run {
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(Command::new(binary()).args(args))
    }

    /// Runs a script that is written to a file, with further arguments.
    pub fn script(sql: &str, args: &[&str]) -> Self {
        Self::script_with(sql, args, &[])
    }

    /// As [`Run::script`], with variables of the environment.
    pub fn script_with(sql: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let file = file(sql, ".sql");
        let mut run = Self::spawn(Command::new(binary()).arg("run").arg(file.path()).args(args).envs(environment.iter().copied()));
        run.script = Some(file);
        run
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (Pipe::read(child.stdout.take().unwrap()), Pipe::read(child.stderr.take().unwrap()));
        Self { child: Some(child), stdout, stderr, script: None }
    }

    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|c| c.try_wait().unwrap().is_some())
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for the end; kills at the deadline.
    pub fn wait(mut self, deadline: Duration) -> Output {
        let mut child = self.child.take().unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > deadline {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Output { status, stdout: self.stdout.end(), stderr: self.stderr.end() }
    }

    /// Sends a signal by its name: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Asks for a graceful stop (SIGTERM), unless it has ended by itself, and waits for the end.
    pub fn stop(mut self, deadline: Duration) -> Output {
        if !self.ended() {
            self.signal("TERM");
        }
        self.wait(deadline)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A temporary file with this text.
pub fn file(text: &str, suffix: &str) -> NamedTempFile {
    let file = tempfile::Builder::new().prefix("sluice-test").suffix(suffix).tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// What a process writes, read as it comes.
struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Pipe {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(vec![]));
        let held = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n) = from.read(&mut buffer)
                && n > 0
            {
                held.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn end(&mut self) -> Vec<u8> {
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut self.bytes.lock().unwrap())
    }
}
