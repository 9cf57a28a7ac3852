//! Apache Kafka and Apicurio Registry, started on free loopback ports and stopped by pid.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::registry::Registry;

const KAFKA: &str = "kafka-4.3.1";

const LOOPBACK: &str = "127.0.0.1";

/// A broker comes back only when its old session is over, by default after nine seconds.
const SOON_BACK: &str = "broker.session.timeout.ms=1500\nbroker.heartbeat.interval.ms=300\n";

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

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is over.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
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
    _kafka: Kafka,
    _registry: Registry,
    postgres: OnceLock<Postgres>,
}

impl Services {
    /// Starts both and waits until they answer.
    pub fn start() -> Self {
        let mut kafka = Kafka::format("");
        kafka.start();
        let registry = Registry::start(LOOPBACK);
        kafka.wait();
        registry.wait();
        Self {
            bootstrap: kafka.bootstrap.clone(),
            registry: registry.url.clone(),
            _kafka: kafka,
            _registry: registry,
            postgres: OnceLock::new(),
        }
    }
}

impl Services {
    /// PostgreSQL with the seeds' tables, started when it is first asked for.
    pub fn postgres(&self) -> &Postgres {
        self.postgres.get_or_init(|| {
            let postgres = Postgres::started();
            postgres.execute(
                "CREATE TABLE cpu_thresholds (hostname VARCHAR, allowed_top INT);
                 INSERT INTO cpu_thresholds VALUES ('doc', 20), ('grumpy', 30), ('sleepy',40), ('bashful',60), ('happy',70), ('sneezy',80), ('dopey',90);",
            );
            postgres
        })
    }
}

/// What a broker has beside its plain listener.
#[derive(Default)]
pub struct Further {
    /// Name, port, the port that clients are told, protocol.
    pub listeners: Vec<(&'static str, u16, u16, &'static str)>,
    /// Lines of its configuration.
    pub properties: String,
    /// Arguments for formatting its storage.
    pub format: Vec<String>,
    /// System properties of its JVM: `name=value`.
    pub system: Vec<String>,
}

/// A broker that can be killed and started again with its data and its port.
pub struct Kafka {
    pub bootstrap: String,
    process: Option<Process>,
    system: Vec<String>,
    dir: TempDir,
}

impl Kafka {
    /// Starts a broker that is soon there again after it was killed, and waits until it answers.
    pub fn started() -> Self {
        Self::started_with(&Further { properties: SOON_BACK.into(), ..Further::default() })
    }

    /// As [`Kafka::started`], with a second listener behind a proxy: who connects by it is told the proxy's address only. Transactions that
    /// are left open are aborted soon.
    pub fn behind_proxy() -> (Self, Proxy) {
        let inner = free_port();
        let proxy = Proxy::start(&format!("127.0.0.1:{inner}"));
        let more = "transaction.abort.timed.out.transaction.cleanup.interval.ms=200\n";
        let further = Further {
            listeners: vec![("PROXIED", inner, proxy.port, "PLAINTEXT")],
            properties: format!("{SOON_BACK}{more}"),
            ..Further::default()
        };
        (Self::started_with(&further), proxy)
    }

    /// A broker at an address of this machine that others reach: pods of a test cluster.
    pub fn started_on(host: &str) -> Self {
        Self::with_listener(host, &Further { properties: SOON_BACK.into(), ..Further::default() }).up()
    }

    /// Starts it with the data it has.
    pub fn start(&mut self) {
        let mut command = kafka_java(self.dir.path());
        command.args(self.system.iter().map(|s| format!("-D{s}"))).arg("kafka.Kafka").arg(self.dir.path().join("kafka.properties"));
        self.process = Some(Process::spawn(&mut command, &self.dir.path().join("kafka.log")));
    }

    /// Waits until it answers.
    pub fn wait(&self) {
        wait_until("Kafka", Duration::from_secs(90), || TcpStream::connect(&self.bootstrap).is_ok());
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it as an upgrade would: it says goodbye to its clients and writes all it has.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let sent = Command::new("kill").arg(process.child.id().to_string()).status().unwrap();
            assert!(sent.success());
            wait_until("the end of Kafka", Duration::from_secs(60), || process.child.try_wait().unwrap().is_some());
        }
    }

    /// A broker that has never run, with further properties.
    fn format(more: &str) -> Self {
        Self::with_listener(LOOPBACK, &Further { properties: more.into(), ..Further::default() })
    }

    /// A broker with listeners beside the plain one, started.
    pub fn started_with(further: &Further) -> Self {
        Self::with_listener(LOOPBACK, further).up()
    }

    fn up(mut self) -> Self {
        self.start();
        self.wait();
        self
    }

    fn with_listener(host: &str, further: &Further) -> Self {
        let dir = tempfile::Builder::new().prefix("sluice-kafka").tempdir().unwrap();
        let (port, controller) = (free_port(), free_port());
        let bootstrap = format!("{host}:{port}");
        let properties = dir.path().join("kafka.properties");
        let each = |text: &dyn Fn(&(&str, u16, u16, &str)) -> String| further.listeners.iter().map(text).collect::<String>();
        let listener = each(&|(name, port, ..)| format!(",{name}://127.0.0.1:{port}"));
        let told = each(&|(name, _, told, _)| format!(",{name}://127.0.0.1:{told}"));
        let protocols = each(&|(name, _, _, protocol)| format!(",{name}:{protocol}"));
        let more = &further.properties;
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://{bootstrap},CONTROLLER://127.0.0.1:{controller}{listener}\n\
             advertised.listeners=PLAINTEXT://{bootstrap}{told}\ninter.broker.listener.name=PLAINTEXT\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
             controller.listener.names=CONTROLLER\ncontroller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={}\nnum.partitions=1\n\
             auto.create.topics.enable=true\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=4\n\
             group.initial.rebalance.delay.ms=0\nlog.retention.ms=-1\nlog.message.timestamp.before.max.ms=9223372036854775807\n\
             log.message.timestamp.after.max.ms=9223372036854775807\n{more}",
            dir.path().join("kafka-data").display()
        );
        std::fs::write(&properties, text).unwrap();
        let layout = "<Configuration status=\"WARN\"><Appenders><Console name=\"o\"><PatternLayout pattern=\"%d %p %c{1} %m%n\"/></Console></Appenders>\
                      <Loggers><Root level=\"WARN\"><AppenderRef ref=\"o\"/></Root></Loggers></Configuration>";
        std::fs::write(dir.path().join("log4j2.xml"), layout).unwrap();
        let arguments = ["kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c"];
        let format = kafka_java(dir.path()).args(arguments).arg(&properties).args(&further.format).output().unwrap();
        assert!(format.status.success(), "kafka storage format: {}", String::from_utf8_lossy(&format.stderr));
        Self { bootstrap, process: None, system: further.system.clone(), dir }
    }
}

/// A JVM with Kafka's classes.
fn kafka_java(dir: &Path) -> Command {
    let lib = require(KAFKA).join("lib");
    let mut command = java(dir, "-Xmx512m");
    command.arg(format!("-Dlog4j2.configurationFile={}", dir.join("log4j2.xml").display())).arg("-cp").arg(format!("{}/*", lib.display()));
    command
}

pub(crate) fn require(folder: &str) -> PathBuf {
    let path = cache().join(folder);
    assert!(path.join(".complete").exists(), "{} is missing: run tests/setup/setup.sh test", path.display());
    path
}

pub(crate) fn java(dir: &Path, heap: &str) -> Command {
    let mut command = Command::new("java");
    command.current_dir(dir).args([heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command
}
