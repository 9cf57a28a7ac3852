//! Apicurio Registry at an address of this machine that others reach: pods of a test cluster.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::services::{Process, free_port, require, wait_until};

/// A schema registry with Confluent's API; it ends when dropped.
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
        let dir = tempfile::Builder::new().prefix("sluice-registry").tempdir().unwrap();
        let folder = require("apicurio-2.6.13.Final");
        let jar =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().ends_with("-runner.jar")).unwrap();
        let address = format!("{host}:{}", free_port());
        let (host, port) = address.split_once(':').unwrap();
        let mut command = Command::new("java");
        command.current_dir(dir.path()).args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.args([format!("-Dquarkus.http.host={host}"), format!("-Dquarkus.http.port={port}"), "-jar".into()]).arg(jar);
        let process = Process::spawn(&mut command, &dir.path().join("registry.log"));
        let url = format!("http://{address}/apis/ccompat/v7");
        let subjects = format!("{url}/subjects");
        wait_until("Apicurio Registry", Duration::from_secs(120), || ureq::get(&subjects).call().is_ok());
        Self { address, url, _process: process, _dir: dir }
    }
}
