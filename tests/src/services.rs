//! Apache Kafka and Apicurio Registry, started on free loopback ports and stopped by pid.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const KAFKA: &str = "kafka-4.3.1";
const APICURIO: &str = "apicurio-2.6.13.Final";

/// Where `tests/setup/setup.sh test` has put the services.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"));
    base.join("sluice")
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Polls until `ready` says so; panics at the deadline.
pub fn wait_until(what: &str, deadline: Duration, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A child process, killed and reaped when dropped.
pub struct Process {
    child: Child,
    pub log: PathBuf,
}

impl Process {
    pub fn spawn(command: &mut Command, log: &Path) -> Self {
        let file = File::create(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn();
        Self { child: child.unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")), log: log.to_owned() }
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A single KRaft broker and a schema registry with Confluent's API.
pub struct Services {
    pub bootstrap: String,
    /// Confluent-compatible base URL.
    pub registry: String,
    _kafka: Process,
    _registry: Process,
    _dir: TempDir,
}

impl Services {
    /// Starts both and waits until they answer.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("sluice-services").tempdir().unwrap();
        let (kafka, bootstrap) = start_kafka(dir.path());
        let (registry_process, registry) = start_registry(dir.path());
        wait_until("Kafka", Duration::from_secs(90), || TcpStream::connect(&bootstrap).is_ok());
        let url = format!("{registry}/subjects");
        wait_until("Apicurio Registry", Duration::from_secs(120), || ureq::get(&url).call().is_ok());
        Self { bootstrap, registry, _kafka: kafka, _registry: registry_process, _dir: dir }
    }
}

fn require(folder: &str) -> PathBuf {
    let path = cache().join(folder);
    assert!(path.join(".complete").exists(), "{} is missing: run tests/setup/setup.sh test", path.display());
    path
}

fn java(dir: &Path, heap: &str) -> Command {
    let mut command = Command::new("java");
    command.current_dir(dir).args([heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command
}

fn start_kafka(dir: &Path) -> (Process, String) {
    let lib = require(KAFKA).join("lib");
    let (port, controller) = (free_port(), free_port());
    let bootstrap = format!("127.0.0.1:{port}");
    let properties = dir.join("kafka.properties");
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://{bootstrap},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\ncontroller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={}\nnum.partitions=1\n\
         auto.create.topics.enable=true\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=4\n\
         group.initial.rebalance.delay.ms=0\nlog.retention.ms=-1\nlog.message.timestamp.before.max.ms=9223372036854775807\n\
         log.message.timestamp.after.max.ms=9223372036854775807\n",
        dir.join("kafka-data").display()
    );
    File::create(&properties).unwrap().write_all(text.as_bytes()).unwrap();
    let log4j = dir.join("log4j2.xml");
    let layout = "<Configuration status=\"WARN\"><Appenders><Console name=\"o\"><PatternLayout pattern=\"%d %p %c{1} %m%n\"/></Console></Appenders>\
                  <Loggers><Root level=\"WARN\"><AppenderRef ref=\"o\"/></Root></Loggers></Configuration>";
    File::create(&log4j).unwrap().write_all(layout.as_bytes()).unwrap();
    let command = || {
        let mut c = java(dir, "-Xmx512m");
        c.arg(format!("-Dlog4j2.configurationFile={}", log4j.display())).arg("-cp").arg(format!("{}/*", lib.display()));
        c
    };
    let format =
        command().args(["kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c"]).arg(&properties).output().unwrap();
    assert!(format.status.success(), "kafka storage format: {}", String::from_utf8_lossy(&format.stderr));
    (Process::spawn(command().arg("kafka.Kafka").arg(&properties), &dir.join("kafka.log")), bootstrap)
}

fn start_registry(dir: &Path) -> (Process, String) {
    let home = require(APICURIO);
    let jar = std::fs::read_dir(&home).unwrap().map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().ends_with("-runner.jar")).unwrap();
    let port = free_port();
    let mut command = java(dir, "-Xmx256m");
    command.args(["-Dquarkus.http.host=127.0.0.1", &format!("-Dquarkus.http.port={port}"), "-jar"]).arg(jar);
    let process = Process::spawn(&mut command, &dir.join("registry.log"));
    (process, format!("http://127.0.0.1:{port}/apis/ccompat/v7"))
}
