//! An S3 server, the Versity S3 Gateway over a folder, and a wire to it that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_state::storage::Options;
use tempfile::TempDir;

use crate::services::{Process, free_port, require, wait_until};

const VERSITYGW: &str = "versitygw-1.8.0";
pub const BUCKET: &str = "sluice-bucket";
pub const ACCESS_KEY: &str = "sluice-test-key";
pub const SECRET_KEY: &str = "sluice-test-secret";

/// A server with one bucket, [`BUCKET`].
pub struct S3 {
    /// `host:port`
    pub address: String,
    process: Mutex<Option<Process>>,
    dir: TempDir,
}

impl S3 {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        Self::started_on("127.0.0.1")
    }

    /// At an address of this machine that others reach: pods of a test cluster.
    pub fn started_on(host: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("sluice-s3").tempdir().unwrap();
        let (data, metadata) = (dir.path().join("data"), dir.path().join("metadata"));
        std::fs::create_dir_all(data.join(BUCKET)).unwrap();
        std::fs::create_dir(&metadata).unwrap();
        let address = format!("{host}:{}", free_port());
        let mut command = Command::new(require(VERSITYGW).join("versitygw"));
        command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY).current_dir(dir.path());
        // Not every file system has extended attributes: what belongs to objects is kept beside them.
        command.args(["--port", &address, "--quiet", "posix", "--sidecar"]).arg(&metadata).arg(&data);
        let process = Process::spawn(&mut command, &dir.path().join("s3.log"));
        wait_until("the S3 server", Duration::from_secs(30), || TcpStream::connect(&address).is_ok());
        Self { address, process: Mutex::new(Some(process)), dir }
    }

    /// Ends it: for one that is never dropped.
    pub fn stop(&self) {
        self.process.lock().unwrap().take();
    }

    /// What is in the bucket under a prefix, seen past S3: paths from there, sorted.
    pub fn objects(&self, prefix: &str) -> Vec<String> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let root = self.dir.path().join("data").join(BUCKET).join(prefix);
        let mut found = vec![];
        walk(&root, &mut found);
        let mut names: Vec<String> = found.iter().map(|p| p.strip_prefix(&root).unwrap().display().to_string()).collect();
        names.sort();
        names
    }

    /// An object's text, seen past S3.
    pub fn text(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.path().join("data").join(BUCKET).join(name)).ok()
    }
}

/// Flink's options for a server at `address`.
pub fn settings(address: &str) -> [(&'static str, String); 4] {
    [
        ("s3.endpoint", format!("http://{address}")),
        ("s3.access-key", ACCESS_KEY.to_owned()),
        ("s3.secret-key", SECRET_KEY.to_owned()),
        ("s3.path.style.access", "true".to_owned()),
    ]
}

/// The same as variables of the environment.
pub fn environment(address: &str) -> [(&'static str, String); 4] {
    [
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ]
}

/// The same for a test that opens the storage itself.
pub fn options(address: &str) -> Options {
    let settings = settings(address);
    Options::read(settings.iter().map(|(k, v)| (*k, v.as_str()))).unwrap()
}

const OPEN: u8 = 0;
const CUT: u8 = 1;
const SILENT: u8 = 2;

/// A wire: passes bytes on, refuses, or swallows them.
pub struct Proxy {
    pub address: String,
    mode: Arc<AtomicU8>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mode, connections) = (Arc::new(AtomicU8::new(OPEN)), Arc::new(Mutex::new(vec![])));
        let (server, of_mode, held) = (server.to_owned(), mode.clone(), connections.clone());
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if of_mode.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let copies = [&client, &server].map(|s| s.try_clone().unwrap());
                held.lock().unwrap().extend([&client, &server].map(|s| s.try_clone().unwrap()));
                let [from_client, from_server] = copies;
                let (first, second) = (of_mode.clone(), of_mode.clone());
                std::thread::spawn(move || pump(from_client, server, &first));
                std::thread::spawn(move || pump(from_server, client, &second));
            }
        });
        Self { address, mode, connections }
    }

    /// Breaks all connections and lets none in.
    pub fn cut(&self) {
        self.mode.store(CUT, Ordering::SeqCst);
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Passes nothing on, and breaks nothing.
    pub fn fall_silent(&self) {
        self.mode.store(SILENT, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.mode.store(OPEN, Ordering::SeqCst);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, mode: &AtomicU8) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n) = from.read(&mut buffer)
        && n > 0
    {
        while mode.load(Ordering::SeqCst) == SILENT {
            std::thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
