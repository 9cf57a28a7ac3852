//! All in one command: an embedded broker, the job on it, and the application.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_broker::{Broker, Config};
use tempfile::NamedTempFile;

use crate::Result;
use crate::kafka::TOPICS;

/// The brokers that the deployment names.
const SERVERS: &str = "my-cluster-kafka-bootstrap.flink.svc:9092";
/// What a partition keeps.
const RETENTION: u64 = 32 << 20;

pub struct Demo {
    broker: Broker,
    job: Arc<Mutex<Child>>,
    _script: NamedTempFile,
}

impl Demo {
    pub fn start(yaml: &Path, sluice: Option<PathBuf>) -> Result<Self> {
        let text = std::fs::read_to_string(yaml).map_err(|e| format!("{}: {e}", yaml.display()))?;
        if !text.contains(SERVERS) {
            return Err(format!("{} names no brokers '{SERVERS}'", yaml.display()));
        }
        let broker = Broker::start(Config { retention_bytes: Some(RETENTION), ..Config::default() }).map_err(|e| e.to_string())?;
        for topic in TOPICS {
            broker.create_topic(topic, 1).map_err(|e| e.to_string())?;
        }
        let script = tempfile::Builder::new().suffix(".yaml").tempfile().map_err(|e| e.to_string())?;
        std::fs::write(script.path(), text.replace(SERVERS, &broker.bootstrap())).map_err(|e| e.to_string())?;
        let sluice = match sluice {
            Some(path) => path,
            None => std::env::current_exe().map_err(|e| e.to_string())?.with_file_name("sluice"),
        };
        let job = Command::new(&sluice).arg("run").arg(script.path()).spawn();
        let job = job.map_err(|e| format!("cannot run {}: {e}; name it with --sluice", sluice.display()))?;
        Ok(Self { broker, job: Arc::new(Mutex::new(job)), _script: script })
    }

    pub fn bootstrap(&self) -> String {
        self.broker.bootstrap()
    }

    /// Asks whether the job has ended.
    pub fn ended(&self) -> impl Fn() -> bool + Send + use<> {
        let job = self.job.clone();
        move || !matches!(job.lock().unwrap_or_else(PoisonError::into_inner).try_wait(), Ok(None))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        // The broker ends with it, so there is nothing that a longer goodbye would save.
        let _ = job.kill();
        let _ = job.wait();
    }
}
