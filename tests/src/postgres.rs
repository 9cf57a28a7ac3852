//! A real PostgreSQL of one's own: a temporary cluster on a free loopback port, which can be stopped, killed and started again.

use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::services::{Process, free_port, wait_until};

/// Of the user `postgres`, who owns all. No message of the engine may have it in it.
pub const PASSWORD: &str = "s3cret-%pw";

pub struct Postgres {
    pub port: u16,
    /// Where it listens beside loopback.
    host: Option<String>,
    process: Option<Process>,
    dir: TempDir,
}

/// The programs of the newest version that is installed.
fn programs() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").map(|d| d.filter_map(|e| Some(e.ok()?.path())).collect()).unwrap_or_default();
    let mut versions: Vec<PathBuf> = installed;
    versions.sort_by_key(|v| v.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()));
    let newest = versions.pop().expect("PostgreSQL is missing: run tests/setup/setup.sh test");
    newest.join("bin")
}

/// PostgreSQL refuses to run as root: then it runs as the user of Debian's package, or as nobody.
fn user() -> Option<(u32, u32)> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(1) == Some("0"));
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|l| l.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    if root { find("postgres").or_else(|| find("nobody")) } else { None }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(programs().join(program));
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

impl Postgres {
    /// A new cluster with the database `lab`, running.
    pub fn started() -> Self {
        Self::started_at(None)
    }

    /// One that is reached at an address of this machine, too, with a password: by pods of a test cluster.
    pub fn started_on(host: &str) -> Self {
        Self::started_at(Some(host.to_owned()))
    }

    fn started_at(host: Option<String>) -> Self {
        let dir = tempfile::Builder::new().prefix("sluice-postgres").tempdir().unwrap();
        let mut this = Self { port: free_port(), host, process: None, dir };
        std::fs::write(this.path("password"), PASSWORD).unwrap();
        this.own(&[this.dir.path(), &this.path("password")]);
        let init = command("initdb")
            .args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync", "--no-instructions"])
            .arg("-D")
            .arg(this.path("data"))
            .arg(format!("--pwfile={}", this.path("password").display()))
            .output()
            .unwrap();
        assert!(init.status.success(), "initdb: {}", String::from_utf8_lossy(&init.stderr));
        let file = this.path("data/pg_hba.conf");
        let rules = std::fs::read_to_string(&file).unwrap();
        let others = if this.host.is_some() { "host all all 0.0.0.0/0 scram-sha-256\n" } else { "" };
        std::fs::write(&file, format!("hostssl all certified all cert\n{rules}{others}")).unwrap();
        this.make_certificates();
        this.start();
        this.query_in("postgres", "CREATE DATABASE lab");
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn own(&self, paths: &[&Path]) {
        if let Some((uid, gid)) = user() {
            paths.iter().for_each(|p| chown(p, Some(uid), Some(gid)).unwrap());
        }
    }

    /// The server's certificate for `localhost`, its own authority.
    fn make_certificates(&self) {
        let (key, certificate) = (self.path("server.key"), self.path("server.crt"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ])
            .args(["-addext", "subjectAltName=DNS:localhost", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        self.own(&[&key, &certificate]);
        symlink(&key, self.path("data/server.key")).unwrap();
        symlink(&certificate, self.path("data/server.crt")).unwrap();
    }

    /// The file of the authority that has signed the server's certificate.
    pub fn authority(&self) -> PathBuf {
        self.path("server.crt")
    }

    /// A folder with a certificate that the server trusts, for the user of a name: `client.crt`, its key in PEM, in PKCS#8 DER (`.pk8`), and
    /// both in PKCS#12 (`.p12`). The role `certified` can log in with one only. With `extensions` it is of X.509's version 3, else of version 1, as
    /// PostgreSQL's documentation makes them.
    pub fn client_certificate(&self, name: &str, password: &str, extensions: &str) -> PathBuf {
        let dir = self.path(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("extensions"), extensions).unwrap();
        let version = if extensions.is_empty() { "" } else { "-extfile extensions" };
        for line in [
            format!(
                "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout client.key -out client.csr -subj /CN={name}"
            ),
            format!(
                "openssl x509 -req -in client.csr -CA ../server.crt -CAkey ../server.key -CAcreateserial -days 2 -out client.crt {version}"
            ),
            "openssl pkcs8 -topk8 -nocrypt -in client.key -outform DER -out client.pk8".to_owned(),
            format!("openssl pkcs12 -export -inkey client.key -in client.crt -out client.p12 -passout pass:{password}"),
        ] {
            let output = Command::new("sh").arg("-c").arg(&line).current_dir(&dir).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        dir
    }

    /// Starts it with the data it has, and waits until it answers.
    pub fn start(&mut self) {
        let mut command = command("postgres");
        let addresses = ["localhost"].into_iter().chain(self.host.as_deref()).collect::<Vec<_>>().join(",");
        command.arg("-D").arg(self.path("data")).args(["-p", &self.port.to_string(), "-c", &format!("listen_addresses={addresses}")]);
        for setting in ["unix_socket_directories=", "fsync=off", "ssl=on", "log_statement=all", "shared_buffers=32MB", "max_connections=60"]
        {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("ssl_ca_file={}", self.authority().display()));
        self.process = Some(Process::spawn(&mut command, &self.path("postgres.log")));
        wait_until("PostgreSQL", Duration::from_secs(60), || self.try_query("postgres", "SELECT 1").is_ok());
    }

    /// Ends it at once, as a crash of the machine would.
    pub fn kill(&mut self) {
        self.signal("QUIT");
    }

    /// Ends it as an upgrade would: sessions are ended.
    pub fn stop(&mut self) {
        self.signal("INT");
    }

    fn signal(&mut self, name: &str) {
        let Some(mut process) = self.process.take() else { return };
        let sent = Command::new("kill").args([format!("-{name}"), process.pid().to_string()]).status().unwrap();
        assert!(sent.success());
        wait_until("the end of PostgreSQL", Duration::from_secs(60), || process.ended());
    }

    /// The URL of the database `lab`, with user and password.
    pub fn url(&self) -> String {
        format!("{}?user=postgres&password={}", self.place(), PASSWORD.replace('%', "%25"))
    }

    /// Without them.
    pub fn place(&self) -> String {
        format!("jdbc:postgresql://localhost:{}/lab", self.port)
    }

    /// Options of a table of the connector.
    pub fn table(&self, name: &str) -> String {
        let place = self.place();
        format!("'connector' = 'jdbc', 'url' = '{place}', 'username' = 'postgres', 'password' = '{PASSWORD}', 'table-name' = '{name}'")
    }

    /// Runs statements.
    pub fn execute(&self, sql: &str) {
        self.query(sql);
    }

    /// The rows of statements; NULL as `NULL`.
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        self.query_in("lab", sql)
    }

    /// The rows of statements in another database than `lab`.
    pub fn query_in(&self, database: &str, sql: &str) -> Vec<Vec<String>> {
        self.try_query(database, sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"))
    }

    fn try_query(&self, database: &str, sql: &str) -> Result<Vec<Vec<String>>, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = tokio_postgres::Config::new();
            config.host("localhost").port(self.port).user("postgres").password(PASSWORD).dbname(database);
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            let messages = client.simple_query(sql).await?;
            let row = |m: SimpleQueryMessage| match m {
                SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect()),
                _ => None,
            };
            Ok(messages.into_iter().filter_map(row).collect())
        })
    }

    /// Statements that it was sent, with more.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("postgres.log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    /// Its children go with it only if it is told to end.
    fn drop(&mut self) {
        self.signal("QUIT");
    }
}
