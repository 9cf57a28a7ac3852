//! A small cluster: API server, what Kubernetes' controllers and kubelets would do, jobs, and a clock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod api;
mod watches;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use api::{FakeApi, Key};
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_crds::{Phase, Savepoint, StreamingDeployment, StreamingDeploymentStatus};
use sluice_operator::context::Context;
use sluice_operator::deployment::build::Owner;
use sluice_operator::runtime_api::RuntimeState;
use sluice_operator::runtime_api::fake::FakeRuntime;
use watches::Watches;

pub const NS: &str = "flink";

pub struct World {
    pub api: FakeApi,
    pub runtime: Arc<FakeRuntime>,
    clock: Arc<AtomicI64>,
    pub context: Arc<Context>,
    next_ip: Mutex<u32>,
    watches: Mutex<Watches>,
    /// So many turns later watches tell what has happened.
    pub late: usize,
    /// Every start of a job: revision and arguments.
    pub starts: Mutex<Vec<(String, String)>>,
    /// Folders of savepoints that were deleted.
    pub deleted: Mutex<Vec<String>>,
}

pub fn key(plural: &str, name: &str) -> Key {
    (plural.into(), NS.into(), name.into())
}

impl World {
    pub fn new() -> Self {
        let (api, runtime) = (FakeApi::default(), Arc::new(FakeRuntime::default()));
        let clock = Arc::new(AtomicI64::new(1_800_000_000));
        let context = Self::operator(&api, &runtime, &clock);
        let world = Self {
            api,
            runtime,
            clock,
            context,
            next_ip: Mutex::new(1),
            watches: Mutex::default(),
            late: 0,
            starts: Mutex::default(),
            deleted: Mutex::default(),
        };
        world.pass(0);
        world
    }

    fn operator(api: &FakeApi, runtime: &Arc<FakeRuntime>, clock: &Arc<AtomicI64>) -> Arc<Context> {
        let mut context = Context::new(api.client(), "sluice:default", runtime.clone());
        let clock = clock.clone();
        context.clock = Box::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
        Arc::new(context)
    }

    /// A new operator process; the one before is gone.
    pub fn restart_operator(&mut self) {
        self.api.store().dies_after = None;
        *self.watches.lock().unwrap() = Watches::default();
        self.context = Self::operator(&self.api, &self.runtime, &self.clock);
    }

    pub fn pass(&self, seconds: i64) {
        let now = self.clock.fetch_add(seconds, Ordering::Relaxed) + seconds;
        self.api.store().now = Timestamp::from_second(now).unwrap();
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.load(Ordering::Relaxed)).unwrap()
    }

    /// `kubectl apply` of a StreamingDeployment.
    pub fn apply(&self, name: &str, spec: &Value) {
        let mut store = self.api.store();
        let key = key("streamingdeployments", name);
        let mut object = store
            .objects
            .get(&key)
            .cloned()
            .unwrap_or_else(|| json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "StreamingDeployment", "metadata": {}}));
        object["spec"] = spec.clone();
        store.put(&key, object);
    }

    pub fn deployment(&self, name: &str) -> Option<StreamingDeployment> {
        let object = self.api.store().objects.get(&key("streamingdeployments", name)).cloned();
        object.map(|o| serde_json::from_value(o).unwrap())
    }

    pub fn owner(&self, name: &str) -> Owner {
        let uid = self.deployment(name).and_then(|d| d.metadata.uid).unwrap_or_default();
        Owner { name: name.into(), namespace: NS.into(), uid }
    }

    pub fn status(&self, name: &str) -> StreamingDeploymentStatus {
        self.deployment(name).and_then(|d| d.status).unwrap_or_default()
    }

    pub fn condition(&self, name: &str, kind: &str) -> (String, String, String) {
        let conditions = self.status(name).conditions;
        let found = conditions.into_iter().find(|c| c.type_ == kind);
        found.map(|c| (c.status, c.reason, c.message)).unwrap_or_default()
    }

    pub fn names(&self, plural: &str) -> Vec<String> {
        self.api.store().objects.keys().filter(|k| k.0 == plural).map(|k| k.2.clone()).collect()
    }

    pub fn savepoints(&self) -> Vec<Savepoint> {
        let store = self.api.store();
        store.objects.iter().filter(|(k, _)| k.0 == "savepoints").map(|(_, o)| serde_json::from_value(o.clone()).unwrap()).collect()
    }

    pub fn events(&self) -> Vec<String> {
        self.api.store().events.iter().map(|(reason, _)| reason.clone()).collect()
    }

    /// A turn of an operator that dies with its n-th write, then of the next one, which does so again. Answers whether it lived and wrote nothing.
    pub async fn mortal_turn(&mut self, name: &str, dies_after: Option<usize>) -> bool {
        if dies_after.is_some() && self.api.store().dies_after.is_none() {
            self.api.store().dies_after = dies_after;
        }
        let before = self.api.store().writes.len();
        let died = self.turn(name).await.is_err();
        if died {
            self.restart_operator();
        }
        !died && self.api.store().writes.len() == before
    }

    /// One reconcile of everything, then what the cluster does, then a second passes.
    pub async fn turn(&self, name: &str) -> Result<(), String> {
        self.watches.lock().unwrap().tell(&self.context.mirror, &self.api.store(), self.late);
        let result = sluice_operator::deployment::reconcile(&self.context, NS, name).await.map(drop).map_err(|e| e.text());
        for savepoint in self.names("savepoints") {
            sluice_operator::savepoint::reconcile(&self.context, NS, &savepoint).await.map_err(|e| e.text())?;
        }
        let mut result = result;
        for cluster in self.names("sessionclusters") {
            let reconciled = sluice_operator::session::reconcile(&self.context, NS, &cluster).await;
            result = result.and(reconciled.map(drop).map_err(|e| e.text()));
        }
        self.cluster();
        self.pass(1);
        result
    }

    /// `kubectl apply` of a SessionCluster.
    pub fn apply_cluster(&self, name: &str, spec: &Value) {
        let mut store = self.api.store();
        let key = key("sessionclusters", name);
        let new = || json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "SessionCluster", "metadata": {}});
        let mut object = store.objects.get(&key).cloned().unwrap_or_else(new);
        object["spec"] = spec.clone();
        store.put(&key, object);
    }

    pub fn session_cluster(&self, name: &str) -> Value {
        self.api.store().objects.get(&key("sessionclusters", name)).cloned().unwrap_or_default()
    }

    /// Revisions that were given to sessions, with the savepoints that they began with.
    pub fn submitted(&self) -> Vec<(String, Option<String>)> {
        let submitted = self.runtime.submitted.lock().unwrap();
        submitted.iter().map(|s| (s.annotations["sluice.dev/revision"].clone(), s.restore_from.clone())).collect()
    }

    /// Turns until a condition holds.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            if holds(self) {
                return;
            }
            self.turn(name).await.unwrap();
        }
        panic!("never {what}: {:#?}\n{:#?}", self.status(name), self.api.store().events);
    }

    pub async fn until_phase(&self, name: &str, phase: Phase) {
        self.until(name, &format!("{phase:?}"), |w| w.status(name).phase == Some(phase) && w.status(name).operation.is_none()).await;
    }

    /// StatefulSet controller, Job controller, scheduler and kubelet.
    pub fn cluster(&self) {
        let objects: BTreeMap<Key, Value> = self.api.store().objects.clone();
        for (key, object) in &objects {
            match key.0.as_str() {
                "statefulsets" if object["metadata"]["labels"]["sluice.dev/session-cluster"].is_string() => {
                    self.run_session(&key.2, object, &objects);
                }
                "statefulsets" => self.run_set(&key.2, object, &objects),
                "jobs" if !object["status"].is_null() => {}
                "jobs" if ["savepoint-deletion", "state-deletion"].contains(&component(object)) => self.run_deletion(key, object),
                "jobs" => self.run_job(key, object, &objects),
                _ => {}
            }
        }
        let pods: Vec<_> = objects.iter().filter(|(k, _)| k.0 == "pods").collect();
        for (pod, object) in pods {
            let owner = object["metadata"]["annotations"]["set"].as_str().unwrap_or_default();
            let set = objects.get(&self::key("statefulsets", owner));
            let ordinal: i64 = pod.2.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or_default();
            let wanted = set.is_some_and(|s| s["spec"]["replicas"].as_i64() > Some(ordinal));
            if !owner.is_empty() && !wanted {
                self.runtime.remove(&address(object));
                self.api.store().remove(pod);
            }
        }
        let hosts: Vec<String> = self.api.store().objects.iter().filter(|(k, _)| k.0 == "pods").map(|(_, o)| address(o)).collect();
        self.runtime.hosts().into_iter().filter(|h| !hosts.contains(h)).for_each(|h| self.runtime.remove_session(&h));
        self.one_writer();
    }

    fn next_ip(&self) -> String {
        let mut next = self.next_ip.lock().unwrap();
        *next += 1;
        format!("10.0.0.{}", *next)
    }

    /// Pods of a session cluster.
    fn run_session(&self, set: &str, object: &Value, objects: &BTreeMap<Key, Value>) {
        for ordinal in 0..object["spec"]["replicas"].as_i64().unwrap() {
            let pod = format!("{set}-{ordinal}");
            if objects.contains_key(&key("pods", &pod)) {
                continue;
            }
            let (ip, template) = (self.next_ip(), &object["spec"]["template"]);
            let args = template["spec"]["containers"][0]["args"].as_array().unwrap();
            let slots = args.iter().skip_while(|a| **a != "--slots").nth(1).unwrap().as_str().unwrap().parse().unwrap();
            self.runtime.session(&format!("{ip}:8081"), |session| session.slots = slots);
            let mut annotations = template["metadata"]["annotations"].clone();
            annotations["set"] = json!(set);
            let status = json!({"name": "sluice", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}});
            let value = json!({"metadata": {"labels": template["metadata"]["labels"], "annotations": annotations},
                "status": {"podIP": ip, "containerStatuses": [status], "conditions": [{"type": "Ready", "status": "True"}]}});
            self.api.store().put(&key("pods", &pod), value);
        }
    }

    /// No two jobs of one deployment run at a time, but for those that have stopped for good.
    fn one_writer(&self) {
        let store = self.api.store();
        let stopped = |pod: &Value| self.runtime.with(&address(pod), |job| job.info.state == RuntimeState::Stopped);
        let mut running: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, pod) in store.objects.iter().filter(|(k, _)| k.0 == "pods") {
            let labels = &pod["metadata"]["labels"];
            if pod["metadata"]["annotations"]["set"].is_string() && labels["sluice.dev/deployment"].is_string() && !stopped(pod) {
                running.entry(pod["metadata"]["labels"]["sluice.dev/deployment"].to_string()).or_default().push(key.2.clone());
            }
        }
        for host in self.runtime.hosts() {
            let names: Vec<String> = self.runtime.session(&host, |s| s.jobs.keys().cloned().collect());
            names.into_iter().for_each(|name| running.entry(json!(name).to_string()).or_default().push(host.clone()));
        }
        assert!(running.values().all(|pods| pods.len() <= 1), "two jobs at once: {running:?}");
    }

    fn sql(&self, revision: &str, objects: &BTreeMap<Key, Value>) -> String {
        let map = objects.get(&key("configmaps", revision)).unwrap_or_else(|| panic!("no ConfigMap {revision} for its pod"));
        map["data"]["deployment.yaml"].as_str().unwrap().to_owned()
    }

    fn run_set(&self, set: &str, object: &Value, objects: &BTreeMap<Key, Value>) {
        let pod = format!("{set}-0");
        if object["spec"]["replicas"] != 1 || objects.contains_key(&key("pods", &pod)) {
            return;
        }
        if self.sql(set, objects).contains("QUOTA") {
            let message = format!("create Pod {pod} in StatefulSet {set} failed error: pods \"{pod}\" is forbidden: exceeded quota: q");
            let event = json!({"reason": "FailedCreate", "message": message, "involvedObject": {"name": set}, "lastTimestamp": self.now()});
            let mut store = self.api.store();
            store.put(&key("events", set), event);
            if object["status"].is_null() {
                let mut tried = object.clone();
                tried["status"] = json!({"replicas": 0, "observedGeneration": object["metadata"]["generation"]});
                store.put(&key("statefulsets", set), tried);
            }
            return;
        }
        let ip = self.next_ip();
        let template = &object["spec"]["template"];
        let args: Vec<&str> = template["spec"]["containers"][0]["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let crashes = self.sql(set, objects).contains("CRASH");
        let state =
            if crashes { json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}) } else { json!({"running": {}}) };
        let last = if crashes { json!({"terminated": {"exitCode": 1, "message": "boom"}}) } else { json!({}) };
        let status = json!({"name": "sluice", "image": "", "imageID": "", "ready": !crashes, "restartCount": if crashes { 5 } else { 0 },
            "state": state, "lastState": last});
        let value = json!({"metadata": {"labels": template["metadata"]["labels"], "annotations": {"set": set}},
            "status": {"podIP": ip, "containerStatuses": [status]}});
        self.api.store().put(&key("pods", &pod), value);
        self.starts.lock().unwrap().push((set.to_owned(), args.join(" ")));
        if !crashes {
            let (now, restored) = (self.now(), args.iter().skip_while(|a| **a != "--restore-from").nth(1).map(|p| (*p).to_owned()));
            self.runtime.with(&format!("{ip}:8081"), |job| {
                job.info.state = RuntimeState::Running;
                (job.info.commits, job.info.last_commit, job.info.restored_from) = (1, Some(now), restored);
            });
        }
    }

    fn run_job(&self, key: &Key, object: &Value, objects: &BTreeMap<Key, Value>) {
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        let bad = self.sql(key.2.trim_end_matches("-preflight"), objects).contains("BROKEN");
        let kind = if bad { "Failed" } else { "Complete" };
        let mut done = object.clone();
        done["status"] = json!({"conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]});
        let ended = json!({"name": "sluice", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": if bad { 2 } else { 0 }, "message": "line 1, column 8: there is no column 'BROKEN'"}}});
        let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": key.2, "uid": object["metadata"]["uid"], "controller": true}]);
        let pod = json!({"metadata": {"labels": labels, "ownerReferences": owner}, "status": {"containerStatuses": [ended]}});
        let mut store = self.api.store();
        store.put(key, done);
        store.put(&self::key("pods", &format!("{}-x", key.2)), pod);
    }

    /// Deletes files of a savepoint or of a job; `STUCK` ones cannot be.
    fn run_deletion(&self, key: &Key, object: &Value) {
        let path = object["spec"]["template"]["spec"]["containers"][0]["args"][2].as_str().unwrap().to_owned();
        let fails = path.contains("STUCK");
        let mut done = object.clone();
        done["status"] =
            json!({"conditions": [{"type": if fails { "Failed" } else { "Complete" }, "status": "True", "message": "too often"}]});
        self.api.store().put(key, done);
        if !fails {
            self.deleted.lock().unwrap().push(path);
        }
    }

    /// The pod of a revision.
    pub fn job_address(&self, revision: &str) -> String {
        let store = self.api.store();
        address(&store.objects[&key("pods", &format!("{revision}-0"))])
    }
}

fn component(object: &Value) -> &str {
    object["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or_default()
}

fn address(pod: &Value) -> String {
    format!("{}:8081", pod["status"]["podIP"].as_str().unwrap_or_default())
}

pub fn spec(sql: &str) -> Value {
    json!({"sql": {"inline": sql}, "storage": {"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}})
}

/// A deployment on the session cluster `shared`.
pub fn on_cluster(sql: &str) -> Value {
    json!({"sql": {"inline": sql}, "sessionClusterRef": {"name": "shared"}})
}

/// The session cluster `shared`.
pub fn shared() -> Value {
    json!({"workers": {"slots": 3}, "storage": {"uri": "s3://bucket/state"}})
}

/// The session cluster `shared` and the job `job` on it.
pub async fn in_a_session(sql: &str) -> World {
    let world = World::new();
    world.apply_cluster("shared", &shared());
    world.apply("job", &on_cluster(sql));
    world.until_phase("job", Phase::Running).await;
    world
}
