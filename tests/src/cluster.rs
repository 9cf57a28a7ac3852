//! A Kubernetes cluster with the operator in it: `tests/cluster/` brings one up, or `SLUICE_TEST_CLUSTER` names one that the user has.
//!
//! What tests read they read by a `kubectl proxy`: a process a question would be most of the work. What users type they type.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::services::{Process, free_port, wait_until};

/// The image of `manifests/install.yaml`.
pub const IMAGE: &str = "sluice:0.1.0";
/// The operator's namespace.
pub const SYSTEM: &str = "sluice-system";
/// Label of the namespaces of tests.
const PART_OF: &str = "sluice-tests";
const DEPLOYMENTS: &str = "apis/sluice.dev/v1alpha1";

/// A cluster that is up.
pub struct Cluster {
    /// Under which pods reach this machine.
    pub host: String,
    pub image: String,
    /// Its control plane and nodes are processes that tests may kill.
    pub ours: bool,
    kubeconfig: PathBuf,
    proxy: String,
    _proxy: Process,
    dir: TempDir,
}

/// Where the scripts are.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
}

/// The folder `manifests`.
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Why there can be no cluster here.
pub fn impossible() -> Option<&'static str> {
    let own = !is_set("SLUICE_TEST_CLUSTER");
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    (own && !root).then_some("a cluster of its own needs root; SLUICE_TEST_CLUSTER=kind|minikube|current uses one that is there")
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Cluster {
    /// Brings it up if it is not, and loads the image into it.
    pub fn up() -> Self {
        let started = Instant::now();
        let facts = run(&mut Command::new(scripts().join("up.sh")));
        let fact = |key: &str| {
            facts.lines().find_map(|l| l.strip_prefix(&format!("{key}="))).unwrap_or_else(|| panic!("{key} in {facts}")).to_owned()
        };
        let (kubeconfig, host) = (PathBuf::from(fact("KUBECONFIG")), fact("HOST"));
        // Kafka and other services are started there, for pods.
        TcpListener::bind((host.as_str(), 0))
            .unwrap_or_else(|e| panic!("pods are to reach this machine at {host}, which is not its address: {e}"));
        let dir = tempfile::Builder::new().prefix("sluice-cluster-test").tempdir().unwrap();
        eprintln!("cluster up in {:.0?}", started.elapsed());
        let image = std::env::var("SLUICE_TEST_IMAGE").ok().filter(|image| !image.is_empty()).unwrap_or_else(|| {
            load_image(dir.path(), IMAGE);
            IMAGE.to_owned()
        });
        let port = free_port();
        let mut command = Command::new(kubectl_program());
        command.env("KUBECONFIG", &kubeconfig).args(["proxy", "--port", &port.to_string()]);
        let process = Process::spawn(&mut command, &dir.path().join("proxy.log"));
        let proxy = format!("http://127.0.0.1:{port}");
        let url = format!("{proxy}/readyz");
        wait_until("the API server", Duration::from_secs(30), || ureq::get(&url).call().is_ok());
        Self { host, image, ours: !is_set("SLUICE_TEST_CLUSTER"), kubeconfig, proxy, _proxy: process, dir }
    }

    /// Takes down what [`Cluster::up`] has brought up, unless `SLUICE_CLUSTER_KEEP` is set.
    pub fn down(self) {
        drop(self);
        take_down();
    }

    /// Makes the same image known under another name; false if images are not ours to load.
    pub fn load_as(&self, name: &str) -> bool {
        let given = is_set("SLUICE_TEST_IMAGE");
        if !given {
            load_image(self.dir.path(), name);
        }
        !given
    }

    /// Waits until all namespaces that are to go are gone, with what runs in them.
    pub fn wait_for_ends(&self) {
        let goes = |n: &Value| n["status"]["phase"] == "Terminating";
        wait_until("the ends of namespaces", Duration::from_secs(120), || !self.list("api/v1/namespaces").iter().any(goes));
    }

    /// Kills a component of our own cluster, which is started again; false if there is none.
    pub fn kill(&self, component: &str) -> bool {
        let of_it = |pid: &u32| {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim_end() == &component[..component.len().min(15)]
                && read("cmdline").contains(self.kubeconfig.parent().unwrap().to_str().unwrap())
        };
        let found: Vec<u32> = processes().filter(of_it).collect();
        for pid in &found {
            run(Command::new("kill").args(["-9", &pid.to_string()]));
        }
        !found.is_empty()
    }

    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_with(args, "")
    }

    /// What `kubectl` prints while `meanwhile` runs; then it is ended.
    pub fn kubectl_during(&self, args: &[&str], meanwhile: impl FnOnce()) -> (String, String) {
        let file = |name: &str| self.dir.path().join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let (out, err) = (file("stdout"), file("stderr"));
        let mut command = self.kubectl_command(args);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
        // It replaces itself by the plugin: the process is this one.
        let mut child = command.spawn().unwrap();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
        (std::fs::read_to_string(out).unwrap(), std::fs::read_to_string(err).unwrap())
    }

    fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(kubectl_program());
        // kubectl finds `kubectl-sluice` beside `sluice`.
        let folders = [crate::engine::binary().parent().unwrap().to_owned()];
        let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())));
        command.env("PATH", path.unwrap()).env("KUBECONFIG", &self.kubeconfig).args(args);
        command
    }

    fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.kubectl_command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let file = self.dir.path().join(format!("input-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&file, input).unwrap();
        let output = command.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
        let _ = std::fs::remove_file(file);
        output
    }

    /// `kubectl` that must succeed; its output.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.kubectl(args);
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `kubectl apply --server-side`.
    ///
    /// # Errors
    /// What the API server says against it.
    pub fn apply(&self, yaml: &str) -> Result<(), String> {
        let output = self.kubectl_with(&["apply", "--server-side", "--force-conflicts", "-f", "-"], yaml);
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// An object or a list, by its path below the API server's root; none if there is none. An API server that is away is waited for.
    pub fn get(&self, path: &str) -> Option<Value> {
        let started = Instant::now();
        loop {
            match ureq::get(format!("{}/{path}", self.proxy)).call() {
                Ok(mut response) => return Some(response.body_mut().with_config().limit(64 << 20).read_json().unwrap()),
                Err(ureq::Error::StatusCode(404)) => return None,
                Err(error) => assert!(started.elapsed() < Duration::from_secs(60), "GET {path}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What a watch tells, from this version on, for so many seconds; the version to go on from. Without a version it begins with all that there is.
    pub fn watch(&self, path: &str, from: Option<String>, seconds: u64, mut each: impl FnMut(Value)) -> Option<String> {
        let since = from.as_ref().map(|v| format!("&resourceVersion={v}")).unwrap_or_default();
        let join = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}/{path}{join}watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}{since}", self.proxy);
        let mut response = ureq::get(url).call().ok()?;
        let mut at = from;
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let Some(mut event) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) else { break };
            if event["type"] == "ERROR" {
                return None;
            }
            at = event["object"]["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            if event["type"] != "BOOKMARK" {
                each(event["object"].take());
            }
        }
        at
    }

    pub fn text(&self, path: &str) -> String {
        ureq::get(format!("{}/{path}", self.proxy)).call().ok().and_then(|mut r| r.body_mut().read_to_string().ok()).unwrap_or_default()
    }

    pub fn list(&self, path: &str) -> Vec<Value> {
        self.get(path).and_then(|v| v["items"].as_array().cloned()).unwrap_or_default()
    }

    /// A JSON merge patch.
    pub fn patch(&self, path: &str, patch: &Value) {
        let response =
            ureq::patch(format!("{}/{path}", self.proxy)).header("Content-Type", "application/merge-patch+json").send_json(patch);
        response.unwrap_or_else(|e| panic!("PATCH {path} {patch}: {e}"));
    }

    /// POSTs, by the API server to a pod for instance.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let response = ureq::post(format!("{}/{path}", self.proxy)).send_json(body);
        response.unwrap_or_else(|e| panic!("POST {path} {body}: {e}")).body_mut().read_json().unwrap()
    }

    /// Deletes an object, at once if `now`.
    pub fn delete(&self, path: &str, now: bool) {
        let grace = if now { "?gracePeriodSeconds=0" } else { "" };
        let _ = ureq::delete(format!("{}/{path}{grace}", self.proxy)).call();
    }

    /// Installs CRDs and operator as users do, and waits until it is there.
    pub fn install(&self) {
        let file = manifests().join("install.yaml");
        let yaml = std::fs::read_to_string(file).unwrap().replace(IMAGE, &self.image);
        let was_there = self.leader().is_some();
        // Twice: whoever updates applies it again.
        for _ in 0..2 {
            self.apply(&yaml).unwrap_or_else(|e| panic!("install.yaml: {e}"));
        }
        self.ok(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "-l", "!none"]);
        if was_there {
            // A cluster that was kept: the image of this name may be another one by now.
            self.ok(&["-n", SYSTEM, "rollout", "restart", "deployment/sluice-operator"]);
        }
        self.ok(&["-n", SYSTEM, "rollout", "status", "deployment/sluice-operator", "--timeout=90s"]);
        wait_until("a leader", Duration::from_secs(60), || self.leader().is_some());
    }

    /// The pod that holds the lease.
    pub fn leader(&self) -> Option<String> {
        let lease = self.get(&format!("apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/sluice-operator"))?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.split('_').next()?.to_owned();
        (!holder.is_empty()).then_some(holder)
    }

    pub fn operator_pods(&self) -> Vec<Value> {
        self.list(&format!("api/v1/namespaces/{SYSTEM}/pods"))
    }

    /// Numbers of the processes of a pod, if they run on this machine and may be killed.
    pub fn processes(&self, pod: &Value) -> Vec<u32> {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let of_it = |pid: &u32| {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let may = || Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
            read("cgroup").contains(uid) && read("comm").starts_with("sluice") && may()
        };
        processes().filter(of_it).collect()
    }

    /// The operators' logs, for a test that has failed.
    pub fn operator_logs(&self, lines: usize) -> String {
        let mut out = String::new();
        for pod in self.operator_pods() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            for previous in ["", "&previous=true"] {
                let text = self.text(&format!("api/v1/namespaces/{SYSTEM}/pods/{name}/log?tailLines={lines}{previous}"));
                out.push_str(&format!("--- {name}{previous}\n{text}\n"));
            }
        }
        out
    }
}

/// Takes down what is up, whoever holds it, unless `SLUICE_CLUSTER_KEEP` is set.
pub fn take_down() {
    if std::env::var_os("SLUICE_CLUSTER_KEEP").is_none() {
        run(&mut Command::new(scripts().join("down.sh")));
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn load_image(dir: &Path, name: &str) {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    let binaries = BINARIES.get_or_init(|| {
        let folder = crate::engine::binary().parent().unwrap().to_owned();
        assert!(folder.join("sluice-operator").exists(), "sluice-operator is missing: cargo build -p sluice -p sluice-operator");
        folder
    });
    let started = Instant::now();
    let tar = dir.join("image.tar");
    let file = std::fs::File::create(&tar).unwrap();
    let status = Command::new(scripts().join("sluice-image.sh")).arg(name).arg(binaries).stdout(file).status().unwrap();
    assert!(status.success(), "sluice-image.sh");
    run(Command::new(scripts().join("load.sh")).arg(&tar));
    let size = std::fs::metadata(&tar).unwrap().len() >> 20;
    eprintln!("image {name} of debug binaries: {size} MiB, loaded in {:.0?}", started.elapsed());
    let _ = std::fs::remove_file(tar);
}

/// Our own cluster's, else the user's.
fn kubectl_program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let env =
            run(Command::new("bash").arg("-c").arg(". \"$0\"/env.sh; [ -n \"$kind_of_cluster\" ] || echo \"$bin/kubectl\"").arg(scripts()));
        if env.trim().is_empty() { PathBuf::from("kubectl") } else { PathBuf::from(env.trim()) }
    };
    PROGRAM.get_or_init(find).clone()
}

/// A namespace with Pod Security "restricted", deleted when it is dropped.
pub struct Space<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
}

impl<'a> Space<'a> {
    pub fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self::named(cluster, &format!("{name}-{:04x}", rand::random::<u16>()))
    }

    /// Whether there is a namespace of this name that no test has made.
    pub fn is_taken(cluster: &Cluster, name: &str) -> bool {
        cluster.get(&format!("api/v1/namespaces/{name}")).is_some_and(|n| n["metadata"]["labels"]["app.kubernetes.io/part-of"] != PART_OF)
    }

    /// One whose name is said elsewhere; one of an earlier run has to go first.
    pub fn named(cluster: &'a Cluster, name: &str) -> Self {
        let (name, path) = (name.to_owned(), format!("api/v1/namespaces/{name}"));
        assert!(!Self::is_taken(cluster, &name), "the namespace {name} is somebody else's");
        cluster.delete(&path, false);
        wait_until(&format!("the end of the namespace {name}"), Duration::from_secs(90), || cluster.get(&path).is_none());
        let labels = format!("pod-security.kubernetes.io/enforce: restricted, app.kubernetes.io/part-of: {PART_OF}");
        cluster.apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")).unwrap();
        Self { cluster, name }
    }

    /// `group/version/plural/name`, with `core/v1` for the core.
    pub fn path(&self, what: &str) -> String {
        let (group, rest) = what.split_once('/').unwrap();
        let (version, rest) = rest.split_once('/').unwrap();
        match group {
            "core" => format!("api/{version}/namespaces/{}/{rest}", self.name),
            _ => format!("apis/{group}/{version}/namespaces/{}/{rest}", self.name),
        }
    }

    pub fn get(&self, what: &str) -> Option<Value> {
        self.cluster.get(&self.path(what))
    }

    pub fn list(&self, what: &str) -> Vec<Value> {
        self.cluster.list(&self.path(what))
    }

    pub fn deployment_path(&self, name: &str) -> String {
        format!("{DEPLOYMENTS}/namespaces/{}/streamingdeployments/{name}", self.name)
    }

    /// The StreamingDeployment, null if there is none.
    pub fn deployment(&self, name: &str) -> Value {
        self.cluster.get(&self.deployment_path(name)).unwrap_or_default()
    }

    pub fn savepoint(&self, name: &str) -> Value {
        self.get(&format!("sluice.dev/v1alpha1/savepoints/{name}")).unwrap_or_default()
    }

    pub fn apply(&self, object: &Value) -> Result<(), String> {
        let mut object = object.clone();
        object["metadata"]["namespace"] = self.name.clone().into();
        self.cluster.apply(&object.to_string())
    }

    pub fn must_apply(&self, object: &Value) {
        self.apply(object).unwrap_or_else(|e| panic!("{object}: {e}"));
    }

    /// Pods of a job that are not going away.
    pub fn pods(&self, job: &str) -> Vec<Value> {
        let pods = self.list(&format!("core/v1/pods?labelSelector=sluice.dev/deployment={job},app.kubernetes.io/component=job"));
        pods.into_iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null()).collect()
    }

    /// Uid and restarts of the job's one pod.
    pub fn pod(&self, job: &str) -> (String, i64) {
        let pods = self.pods(job);
        assert_eq!(pods.len(), 1, "pods of {job}");
        let restarts = pods[0]["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(-1);
        (pods[0]["metadata"]["uid"].as_str().unwrap().to_owned(), restarts)
    }

    /// Polls a StreamingDeployment until `ready` says so; tells all that is known of it at the deadline.
    pub fn wait(&self, name: &str, what: &str, deadline: Duration, ready: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let object = self.deployment(name);
            if ready(&object) {
                return object;
            }
            if started.elapsed() > deadline {
                panic!("{name}: {what}: not within {deadline:?}\n{}", self.report(name));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Reasons and notes of the events, oldest first.
    pub fn events(&self) -> Vec<(String, String)> {
        let mut events = self.list("events.k8s.io/v1/events");
        events.sort_by_key(|e| e["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned());
        let text = |e: &Value, key: &str| e[key].as_str().unwrap_or_default().to_owned();
        events.iter().map(|e| (text(e, "reason"), text(e, "note"))).collect()
    }

    /// All that is known of a job, for a test that has failed.
    pub fn report(&self, name: &str) -> String {
        let mut object = self.deployment(name);
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        object["spec"] = Value::Null;
        let mut out = format!("{}\n", serde_json::to_string_pretty(&object).unwrap_or_default());
        for (reason, note) in self.events() {
            out.push_str(&format!("event {reason}: {note}\n"));
        }
        for pod in self.list("core/v1/pods") {
            let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
            out.push_str(&format!("--- pod {pod_name} {}\n{}\n", pod["status"]["phase"], pod["status"]["containerStatuses"]));
            for previous in ["", "&previous=true"] {
                let log = self.cluster.text(&self.path(&format!("core/v1/pods/{pod_name}/log?tailLines=20{previous}")));
                out.push_str(&format!("{log}\n"));
            }
        }
        out.push_str(&self.cluster.operator_logs(30));
        out
    }

    /// Versions of all objects that the operator has made here, by kind and name.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for kind in [
            "core/v1/configmaps",
            "core/v1/services",
            "core/v1/serviceaccounts",
            "core/v1/persistentvolumeclaims",
            "apps/v1/statefulsets",
            "apps/v1/controllerrevisions",
            "batch/v1/jobs",
            "policy/v1/poddisruptionbudgets",
            "sluice.dev/v1alpha1/streamingdeployments",
            "sluice.dev/v1alpha1/savepoints",
        ] {
            for object in self.list(kind) {
                let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
                versions.insert(format!("{kind}/{}", text("name")), text("resourceVersion"));
            }
        }
        versions
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        // Not waited for: it takes the API server 15 s.
        self.cluster.delete(&format!("api/v1/namespaces/{}", self.name), false);
    }
}

/// Status, reason and message of a condition; empty if it is not there.
pub fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.and_then(|c| c.iter().find(|c| c["type"] == kind)).cloned().unwrap_or(json!({}));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// Whether a condition is True for the spec as it is.
pub fn holds(object: &Value, kind: &str) -> bool {
    let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    current && condition(object, kind).0 == "True"
}
