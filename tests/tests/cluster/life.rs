//! A job's life: it starts, shows what it does, rests, is suspended and resumed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::cluster::{SYSTEM, condition, holds, manifests};

use crate::job::{DEADLINE, NAME, Work};
use crate::{Lab, Test};

pub const TESTS: &[Test] = &[
    ("life::applied_and_waited_for", applied),
    ("life::kustomizations", kustomizations),
    ("life::idle_writes_nothing", idle),
    ("life::suspended_and_resumed", suspended),
    ("life::same_names_in_two_namespaces", two_namespaces),
    ("life::paused_by_annotation", paused),
    ("life::pod_overrides", pod_overrides),
    ("life::network_policy_of_jobs", network_policy),
];

fn applied(lab: &Lab) {
    let work = Work::new(lab, "applied");
    let started = Instant::now();
    work.space.must_apply(&work.deployment(&work.sql("first"), &json!({})));
    let ns = work.space.name.as_str();
    lab.cluster.ok(&["-n", ns, "wait", "--for=condition=Running", "sdep/job", "--timeout=90s"]);
    eprintln!("  from apply to Running: {:.1?}", started.elapsed());
    work.fill(0, 1000);
    work.assert_exact(1000);
    let object = work.ready();
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(object["status"]["revision"], json!({"current": 1, "target": 1, "stable": 1}));
    assert_eq!(condition(&object, "CheckpointHealthy").0, "True", "{object}");
    assert_eq!(condition(&object, "Reconciling").0, "", "only there while it is true");
    // What kubectl shows.
    let table = lab.cluster.ok(&["-n", ns, "get", "sdep"]);
    let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().take(5).collect();
    assert_eq!(words, ["job", "Running", "True", "1", "1"], "{table}");
    let described = lab.cluster.ok(&["-n", ns, "describe", "sdep/job"]);
    assert!(described.contains("Deploying") && described.contains("Stable"), "events: {described}");
    let explained = lab.cluster.ok(&["explain", "sdep.spec.upgrade"]);
    assert!(explained.contains("How a changed spec replaces the running job"), "{explained}");
    assert!(lab.cluster.ok(&["-n", ns, "get", "sluice"]).contains("job"), "the category");
}

/// What the overlays make is what the API server takes.
fn kustomizations(lab: &Lab) {
    let kinds = |folder: &str| {
        let built = lab.cluster.ok(&["kustomize", manifests().join(folder).to_str().unwrap()]);
        let count = |kind: &str| built.lines().filter(|l| *l == format!("kind: {kind}")).count();
        (count("CustomResourceDefinition"), count("ClusterRoleBinding"), count("RoleBinding"))
    };
    assert_eq!(kinds("base"), (3, 1, 1));
    assert_eq!(kinds("overlays/namespaced"), (3, 0, 2));
    for folder in ["base", "overlays/namespaced", "jobs"] {
        let folder = manifests().join(folder);
        lab.cluster.ok(&["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", folder.to_str().unwrap()]);
    }
}

/// Nothing changes: the operator writes nothing but the time of the last checkpoint, once a minute.
fn idle(lab: &Lab) {
    let work = Work::new(lab, "idle");
    work.start("first", &json!({}));
    work.fill(0, 100);
    work.assert_exact(100);
    sleep(Duration::from_secs(3));
    let before = work.space.versions();
    assert!(before.len() >= 8, "{before:?}");
    sleep(Duration::from_secs(40));
    let after = work.space.versions();
    let changed: Vec<_> = before.iter().filter(|(key, version)| after.get(*key) != Some(version)).map(|(key, _)| key).collect();
    let own = |key: &&&String| !key.contains("streamingdeployments");
    assert!(!changed.iter().any(|key| own(&key)), "changed: {changed:?}");
    assert_eq!(before.len(), after.len());
    // An empty change of the spec's form is none.
    let uid = work.space.pod(NAME).0;
    work.space.must_apply(&work.deployment(&work.sql("first"), &json!({})));
    sleep(Duration::from_secs(2));
    assert_eq!(work.space.pod(NAME).0, uid);
    assert_eq!(work.space.deployment(NAME)["status"]["revision"]["current"], 1);
}

fn suspended(lab: &Lab) {
    let work = Work::new(lab, "suspended");
    let load = work.load(200);
    work.start("first", &json!({}));
    work.wait_rows(200);
    work.patch(&json!({"suspend": true}));
    let object = work.space.wait(NAME, "suspended", DEADLINE, |d| d["status"]["phase"] == "Suspended");
    assert_eq!((condition(&object, "Ready").1.as_str(), condition(&object, "Running").1.as_str()), ("Suspended", "Suspended"));
    assert!(work.space.pods(NAME).is_empty(), "no pod");
    assert_eq!(object["status"]["parallelism"], 0);
    let rows = work.rows().len();
    sleep(Duration::from_secs(2));
    assert_eq!(work.rows().len(), rows, "nothing is written meanwhile");
    work.patch(&json!({"suspend": false}));
    work.ready();
    work.wait_rows(rows + 200);
    work.assert_exact(load.stop());
}

/// Names of Kafka groups, transactions and folders do not clash.
fn two_namespaces(lab: &Lab) {
    let (one, two) = (Work::new(lab, "same-a"), Work::new(lab, "same-b"));
    for work in [&one, &two] {
        work.space.must_apply(&work.deployment(&work.sql("first"), &json!({})));
    }
    one.fill(0, 500);
    two.fill(0, 300);
    one.assert_exact(500);
    two.assert_exact(300);
    lab.cluster.delete(&one.space.deployment_path(NAME), false);
    one.space.wait(NAME, "deleted", DEADLINE, |d| d.is_null());
    two.fill(300, 600);
    two.assert_exact(600);
    assert!(holds(&two.space.deployment(NAME), "Running"));
}

/// While it is paused nothing is done, and the job goes on.
fn paused(lab: &Lab) {
    let work = Work::new(lab, "paused");
    work.start("one", &json!({}));
    let ns = work.space.name.as_str();
    lab.cluster.ok(&["-n", ns, "annotate", "sdep/job", "sluice.dev/reconcile=paused"]);
    let pod = work.space.pod(NAME);
    work.patch(&json!({"sql": {"inline": work.sql("two")}}));
    sleep(Duration::from_secs(4));
    assert_eq!((work.space.pod(NAME), &work.space.deployment(NAME)["status"]["revision"]["target"]), (pod, &json!(1)));
    work.fill(0, 100);
    work.assert_exact(100);
    lab.cluster.ok(&["-n", ns, "annotate", "sdep/job", "sluice.dev/reconcile-"]);
    work.wait_stable("upgraded", 2);
    work.fill(100, 200);
    let rows = work.assert_exact(200);
    assert!(rows.iter().all(|r| r.tag == if r.v < 100 { "one" } else { "two" }));
}

/// A label, an environment variable and a sidecar of the user's; the sidecar does not keep preflights from ending.
fn pod_overrides(lab: &Lab) {
    let work = Work::new(lab, "overrides");
    let side = work.topic("side");
    sluice_tests::topics::create(&lab.kafka, &[(side.clone(), 1)]);
    let restricted = json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}});
    let sidecar = json!({"name": "sidecar", "image": lab.cluster.image, "securityContext": restricted,
        "args": ["generate", "cpu", "--topic", side, "--bootstrap-servers", lab.kafka]});
    let main = json!({"name": "sluice", "env": [{"name": "GIVEN", "value": "by-env"}]});
    let overrides = json!({"metadata": {"labels": {"team": "blue"}}, "spec": {"containers": [main, sidecar]}});
    work.space.must_apply(&work.deployment(&work.sql("${GIVEN}"), &json!({"podOverrides": overrides})));
    work.ready();
    let pods = work.space.pods(NAME);
    assert_eq!((pods.len(), &pods[0]["metadata"]["labels"]["team"]), (1, &json!("blue")));
    assert_eq!(pods[0]["spec"]["containers"].as_array().unwrap().len(), 2);
    work.fill(0, 100);
    let rows = work.assert_exact(100);
    assert!(rows.iter().all(|r| r.tag == "by-env"));
    work.space.wait(NAME, "what the sidecar writes", DEADLINE, |_| !sluice_tests::topics::some_committed(&lab.kafka, &side, 1).is_empty());
    work.patch(&json!({"sql": {"inline": work.sql("two ${GIVEN}")}}));
    work.wait_stable("upgraded", 2);
    work.fill(100, 200);
    let rows = work.assert_exact(200);
    assert!(rows.iter().filter(|r| r.v >= 100).all(|r| r.tag == "two by-env"));
}

/// The policy for jobs is about their pods, and the operator is who it lets in. That others are kept out is up to the network, and that of the
/// tests' own cluster keeps nobody out; where it does, the upgrade shows that the operator gets through.
fn network_policy(lab: &Lab) {
    let work = Work::new(lab, "policy");
    lab.cluster.ok(&["apply", "-n", &work.space.name, "-k", manifests().join("jobs").to_str().unwrap()]);
    work.start("one", &json!({}));
    let policy = work.space.get("networking.k8s.io/v1/networkpolicies/sluice-jobs").unwrap();
    let selected = |path: &str, selector: &Value| -> Vec<String> {
        let labels = selector["matchLabels"].as_object().unwrap().iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap()));
        let found = lab.cluster.list(&format!("{path}?labelSelector={}", labels.collect::<Vec<_>>().join(",")));
        found.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let own = format!("api/v1/namespaces/{}/pods", work.space.name);
    assert!(selected(&own, &policy["spec"]["podSelector"]).contains(&"job-r1-0".to_owned()), "{policy}");
    let rule = &policy["spec"]["ingress"][0];
    assert_eq!(rule["ports"][0]["port"], work.space.pods(NAME)[0]["spec"]["containers"][0]["ports"][0]["containerPort"]);
    let operator = &rule["from"][0];
    assert_eq!(selected("api/v1/namespaces", &operator["namespaceSelector"]), [SYSTEM]);
    let let_in = selected(&format!("api/v1/namespaces/{SYSTEM}/pods"), &operator["podSelector"]);
    assert!(let_in.contains(&lab.cluster.leader().unwrap()), "{let_in:?}");
    work.patch(&json!({"sql": {"inline": work.sql("two")}}));
    work.wait_stable("upgraded", 2);
    work.fill(0, 100);
    assert!(work.assert_exact(100).iter().all(|r| r.tag == "two"));
}
