//! Apicurio Registry, which has the API of Confluent's: plain or over TLS, on loopback or where pods of a test cluster reach it.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::services::{Process, free_port, java, require, wait_until};

const FOLDER: &str = "apicurio-2.6.13.Final";
const DEADLINE: Duration = Duration::from_secs(120);

/// A schema registry; it ends when dropped.
pub struct Registry {
    /// `host:port`.
    pub address: String,
    /// Confluent-compatible base URL.
    pub url: String,
    _process: Process,
    _dir: TempDir,
}

impl Registry {
    /// Starts one and waits until it answers.
    pub fn started_on(host: &str) -> Self {
        let this = Self::start(host);
        this.wait();
        this
    }

    /// Starts one.
    pub fn start(host: &str) -> Self {
        let port = free_port();
        Self::launch(host, port, "http", &[format!("-Dquarkus.http.port={port}")])
    }

    /// Waits until it answers.
    pub fn wait(&self) {
        let subjects = format!("{}/subjects", self.url);
        wait_until("Apicurio Registry", DEADLINE, || ureq::get(&subjects).call().is_ok());
    }

    /// One on loopback that speaks TLS only, with a certificate and its key (PEM files); waits until it listens.
    pub fn over_tls(certificate: &Path, key: &Path) -> Self {
        let port = free_port();
        let options = [
            format!("-Dquarkus.http.ssl-port={port}"),
            "-Dquarkus.http.insecure-requests=disabled".into(),
            format!("-Dquarkus.http.ssl.certificate.files={}", certificate.display()),
            format!("-Dquarkus.http.ssl.certificate.key-files={}", key.display()),
        ];
        let this = Self::launch("127.0.0.1", port, "https", &options);
        wait_until("Apicurio Registry", DEADLINE, || TcpStream::connect(&this.address).is_ok());
        this
    }

    fn launch(host: &str, port: u16, scheme: &str, options: &[String]) -> Self {
        let dir = tempfile::Builder::new().prefix("sluice-registry").tempdir().unwrap();
        let files = std::fs::read_dir(require(FOLDER)).unwrap();
        let jar = files.map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().ends_with("-runner.jar")).unwrap();
        let mut command = java(dir.path(), "-Xmx256m");
        command.arg(format!("-Dquarkus.http.host={host}")).args(options).arg("-jar").arg(jar);
        let process = Process::spawn(&mut command, &dir.path().join("registry.log"));
        let address = format!("{host}:{port}");
        Self { url: format!("{scheme}://{address}/apis/ccompat/v7"), address, _process: process, _dir: dir }
    }
}
