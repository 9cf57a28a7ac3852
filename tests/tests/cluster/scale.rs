//! Many StreamingDeployments on a node that is none: a thread of this process says that its pods run, and answers for their jobs.
//!
//! `SLUICE_SCALE` says how many; `make scale` runs 1,000.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use sluice_tests::cluster::{Cluster, Space, holds};

use crate::{Lab, Test};

pub const TESTS: &[Test] = &[("scale::many_deployments", many)];

/// The node of pods that nobody runs.
const NODE: &str = "nowhere";
const LEASES: &str = "apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// Requests that are made at a time.
const AT_A_TIME: usize = 8;
/// How long an idle operator is watched.
const IDLE: Duration = Duration::from_secs(70);

fn count() -> usize {
    std::env::var("SLUICE_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

fn many(lab: &Lab) {
    let n = count();
    let cluster = &lab.cluster;
    let space = Space::new(cluster, "scale");
    let kubelet = Kubelet::start(cluster, &space);
    std::thread::scope(|scope| {
        scope.spawn(|| kubelet.run());
        // Whatever a test says at its end, the threads end.
        let _ended = kubelet.ends();
        // An API server learns of new kinds every half minute, and refuses children of theirs until then.
        create(&space, n);
        wait(&space, 1, Duration::from_secs(90));
        let before = Usage::of(cluster);
        let started = Instant::now();
        each(n, |i| create(&space, i));
        let created = started.elapsed();
        wait(&space, n + 1, Duration::from_secs(60 + n as u64));
        let (ready, up) = (started.elapsed(), Usage::of(cluster));
        eprintln!("  {n} deployments: created in {created:.0?}, all ready after {ready:.0?}; {}", up.since(&before, n));
        eprintln!("  requests a deployment: {}", Usage::by_kind(cluster, n));
        // What is late of the beginning is no part of being idle.
        std::thread::sleep(Duration::from_secs(10));
        let (quiet, asked) = (Usage::of(cluster), kubelet.asked.load(Ordering::Relaxed));
        let versions = space.versions();
        std::thread::sleep(IDLE);
        let (idle, asked) = (Usage::of(cluster), kubelet.asked.load(Ordering::Relaxed) - asked);
        eprintln!("  idle for {IDLE:.0?}: {}; jobs asked {asked} times", idle.since(&quiet, n));
        let changed: Vec<String> =
            space.versions().into_iter().filter(|(what, version)| versions.get(what) != Some(version)).map(|(what, _)| what).collect();
        let children: Vec<&String> = changed.iter().filter(|what| !what.starts_with("sluice.dev/v1alpha1/streamingdeployments/")).collect();
        assert!(children.is_empty(), "children of idle jobs are written: {children:?}");
        assert!(changed.is_empty() && idle.writes <= quiet.writes, "an idle operator writes: {}\n{changed:?}", idle.since(&quiet, n));
        assert!(idle.requests - quiet.requests <= 14.0 * n as f64 + 500.0, "an idle operator asks much: {}", idle.since(&quiet, n));
        assert!(asked >= n as u64, "jobs are looked after: {asked}");
        assert!(idle.memory < (100 << 20) + (n as u64 * 100 * 1024), "memory: {} MiB", idle.memory >> 20);
        restart(lab, &space, n);
    });
    cluster.delete(&format!("api/v1/nodes/{NODE}"), true);
}

/// A new operator looks at all of them and finds nothing to do.
fn restart(lab: &Lab, space: &Space, n: usize) {
    let cluster = &lab.cluster;
    let before = cluster.leader();
    let versions = space.versions();
    let started = Instant::now();
    for pod in cluster.operator_pods() {
        cluster.delete(&space_of_operator(&pod), true);
    }
    while cluster.leader().is_none() || cluster.leader() == before || Usage::reconciles(cluster) < n as f64 {
        assert!(
            started.elapsed() < Duration::from_secs(90 + n as u64 / 4),
            "a new operator has not looked at all: {}",
            Usage::reconciles(cluster)
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    let usage = Usage::of(cluster);
    eprintln!(
        "  operators killed: the new one has looked at all after {:.0?}, with {:.0} requests, {:.0} writes, {} MiB",
        started.elapsed(),
        usage.requests,
        usage.writes,
        usage.memory >> 20
    );
    let children =
        space.versions().into_iter().filter(|(what, v)| !what.contains("streamingdeployments/") && versions.get(what) != Some(v)).count();
    assert_eq!(children, 0, "children of jobs are written");
}

fn space_of_operator(pod: &Value) -> String {
    format!("api/v1/namespaces/{}/pods/{}", sluice_tests::cluster::SYSTEM, pod["metadata"]["name"].as_str().unwrap_or_default())
}

/// Does something for each number, some at a time.
fn each(n: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..AT_A_TIME {
            let work = &work;
            scope.spawn(move || (first..n).step_by(AT_A_TIME).for_each(work));
        }
    });
}

fn create(space: &Space, i: usize) {
    let sql = "CREATE TABLE a (v BIGINT) WITH ('connector' = 'datagen');\nCREATE TABLE b (v BIGINT) WITH ('connector' = 'blackhole');\n\
               INSERT INTO b SELECT v FROM a;\n";
    let object = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "StreamingDeployment", "metadata": {"name": format!("job-{i:04}")},
        "spec": {"sql": {"inline": sql}, "storage": {"uri": "s3://nowhere/state"}, "podOverrides": {"spec": {"nodeName": NODE}}}
    });
    space.cluster.post(&space.path("sluice.dev/v1alpha1/streamingdeployments"), &object);
}

fn wait(space: &Space, n: usize, deadline: Duration) {
    let started = Instant::now();
    let mut said = Instant::now();
    loop {
        // A list of all is work for the API server.
        let running = Usage::sum(
            &Usage::metrics(space.cluster),
            &format!("sluice_operator_deployments{{namespace=\"{}\",phase=\"Running\"}}", space.name),
        );
        let late = started.elapsed() > deadline;
        if late || running >= n as f64 {
            let all = space.list("sluice.dev/v1alpha1/streamingdeployments");
            let done = |d: &Value| holds(d, "Ready") && holds(d, "Running") && d["status"]["revision"]["stable"] == 1;
            let ready = all.iter().filter(|d| done(d)).count();
            if ready == n {
                return;
            }
            let first = || all.iter().find(|d| !done(d)).map(|d| d["metadata"]["name"].as_str().unwrap_or_default().to_owned());
            assert!(!late, "{ready} of {n} are ready\n{}", first().map(|name| space.report(&name)).unwrap_or_default());
        }
        if said.elapsed() > Duration::from_secs(20) {
            said = Instant::now();
            eprintln!("  {running} of {n} run after {:.0?}", started.elapsed());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// What the leading operator has used.
struct Usage {
    requests: f64,
    writes: f64,
    cpu: f64,
    memory: u64,
}

impl Usage {
    fn metrics(cluster: &Cluster) -> String {
        let leader = cluster.leader().unwrap_or_default();
        cluster.text(&format!("api/v1/namespaces/{}/pods/{leader}:8080/proxy/metrics", sluice_tests::cluster::SYSTEM))
    }

    fn sum(metrics: &str, name: &str) -> f64 {
        let values = metrics.lines().filter(|l| l.starts_with(name)).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    fn of(cluster: &Cluster) -> Self {
        let metrics = Self::metrics(cluster);
        let sum = |name: &str| Self::sum(&metrics, name);
        Self {
            requests: sum("sluice_operator_api_requests_total"),
            writes: sum("sluice_operator_writes_total"),
            cpu: sum("process_cpu_seconds_total"),
            memory: sum("process_resident_memory_bytes ") as u64,
        }
    }

    /// Requests by what they ask for, the most first.
    fn by_kind(cluster: &Cluster, n: usize) -> String {
        let metrics = Self::metrics(cluster);
        let mut found: Vec<(f64, String)> = vec![];
        for line in metrics.lines().filter(|l| l.starts_with("sluice_operator_api_requests_total{")) {
            let label = |key: &str| line.split(&format!("{key}=\"")).nth(1).and_then(|t| t.split('"').next()).unwrap_or_default();
            let value = line.rsplit(' ').next().and_then(|v| v.parse().ok()).unwrap_or(0.0);
            found.push((value / n as f64, format!("{} {}", label("method"), label("resource"))));
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let lines = found.iter().filter(|(each, _)| *each >= 0.05).map(|(each, what)| format!("{what} {each:.1}"));
        lines.collect::<Vec<_>>().join(", ")
    }

    fn reconciles(cluster: &Cluster) -> f64 {
        Self::sum(&Self::metrics(cluster), "sluice_operator_reconciles_total{kind=\"StreamingDeployment\"}")
    }

    fn since(&self, before: &Self, n: usize) -> String {
        let requests = self.requests - before.requests;
        format!(
            "operator: {requests:.0} requests ({:.1} a deployment), {:.0} writes, {:.0} s CPU, {} MiB",
            requests / n as f64,
            self.writes - before.writes,
            self.cpu - before.cpu,
            self.memory >> 20
        )
    }
}

/// What a kubelet is to the API server, and its pods to the operator.
struct Kubelet<'a> {
    space: &'a Space<'a>,
    /// The address of all pods.
    host: String,
    listener: TcpListener,
    ended: AtomicBool,
    /// How often jobs have been asked how they are.
    asked: Arc<AtomicU64>,
}

/// Ends the kubelet's threads when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Kubelet<'a> {
    fn start(cluster: &'a Cluster, space: &'a Space<'a>) -> Self {
        let host = cluster.host.clone();
        let listener = TcpListener::bind((host.as_str(), 8081)).unwrap_or_else(|e| panic!("{host}:8081, for the jobs: {e}"));
        listener.set_nonblocking(true).unwrap();
        cluster.delete(&format!("api/v1/nodes/{NODE}"), true);
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let ready = json!([{"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now, "lastTransitionTime": now}]);
        let room = json!({"cpu": "1000", "memory": "1000Gi", "pods": "10000"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": {"unschedulable": true}});
        let status = json!({"status": {"conditions": ready, "capacity": room, "allocatable": room}});
        cluster.post("api/v1/nodes", &node);
        cluster.patch(&format!("api/v1/nodes/{NODE}/status"), &status);
        cluster.delete(&format!("{LEASES}/{NODE}"), true);
        let spec = json!({"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)});
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE}, "spec": spec});
        cluster.post(LEASES, &lease);
        Self { space, host, listener, ended: AtomicBool::new(false), asked: Arc::default() }
    }

    fn ends(&self) -> Ends<'_> {
        Ends(&self.ended)
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn run(&self) {
        let (new, pods) = std::sync::mpsc::channel::<Value>();
        let pods = Mutex::new(pods);
        std::thread::scope(|scope| {
            scope.spawn(|| self.serve());
            scope.spawn(|| self.heartbeats());
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    let next = || pods.lock().unwrap().recv();
                    while let Ok(pod) = next() {
                        self.pod(&pod);
                    }
                });
            }
            // The workers end with it.
            let new = new;
            let path = self.space.path(&format!("core/v1/pods?fieldSelector=spec.nodeName={NODE}"));
            let mut at = None;
            while !self.ended() {
                at = self.space.cluster.watch(&path, at, 5, |pod| {
                    if pod["status"]["podIP"].is_null() || !pod["metadata"]["deletionTimestamp"].is_null() {
                        new.send(pod).unwrap();
                    }
                });
            }
        });
    }

    /// Without them the node's pods would be taken for lost.
    fn heartbeats(&self) {
        let mut last = Instant::now();
        while !self.ended() {
            if last.elapsed() > Duration::from_secs(10) {
                last = Instant::now();
                let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
                self.space.cluster.patch(&format!("{LEASES}/{NODE}"), &json!({"spec": {"renewTime": now}}));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn pod(&self, pod: &Value) {
        let path = self.space.path(&format!("core/v1/pods/{}", pod["metadata"]["name"].as_str().unwrap_or_default()));
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            return self.space.cluster.delete(&path, true);
        }
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let conditions: Vec<Value> = ["Initialized", "ContainersReady", "Ready", "PodScheduled"]
            .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
            .to_vec();
        let container = json!({"name": "sluice", "image": "x", "imageID": "x", "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": now}}});
        let status = json!({"phase": "Running", "podIP": self.host, "podIPs": [{"ip": self.host}], "hostIP": self.host, "startTime": now,
            "conditions": conditions, "containerStatuses": [container]});
        self.space.cluster.patch(&format!("{path}/status"), &json!({"status": status}));
    }

    /// The jobs' REST API: all run, and commit.
    fn serve(&self) {
        while !self.ended() {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let asked = self.asked.clone();
                    // It ends with the operator's connection.
                    std::thread::spawn(move || answer(stream, &asked));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

fn answer(stream: TcpStream, asked: &AtomicU64) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let (mut line, mut length) = (String::new(), 0usize);
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some((_, value)) = line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case("content-length")) {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        asked.fetch_add(1, Ordering::Relaxed);
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let body = json!({"jobId": "x", "state": "RUNNING", "commits": 100, "lastCommit": now, "rowsIn": 1, "rowsOut": 1}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all((head + &body).as_bytes()).ok()?;
    }
}
