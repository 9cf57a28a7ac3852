//! The operator itself is killed, replaced, robbed of its rights. One test at a time.

use std::cell::Cell;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::cluster::{Cluster, SYSTEM, condition};

use crate::job::{DEADLINE, NAME, Work};
use crate::{Lab, Test, not_here};

pub const TESTS: &[Test] = &[
    ("operator::downtime_of_an_upgrade", downtime),
    ("operator::killed_during_upgrades", killed),
    ("operator::leader_fails_over", failover),
    ("operator::control_plane_and_kubelet_restart", restarts),
    ("operator::right_that_is_missing", forbidden),
    ("operator::upgrade_restarts_no_pod", upgrade),
];

/// How long a job may write nothing while it is upgraded; one upgrade of several may meet a machine that does something else.
const DOWNTIME: Duration = Duration::from_secs(3);
const WORST_DOWNTIME: Duration = Duration::from_secs(10);

/// On a cluster that does nothing else: this test runs alone, and waits for the ends of those before it.
fn downtime(lab: &Lab) {
    lab.cluster.wait_for_ends();
    let work = Work::new(lab, "downtime");
    let load = work.load(500);
    work.start("1", &json!({}));
    work.wait_rows(500);
    let revisions = 2..=6;
    for revision in revisions.clone() {
        work.patch(&json!({"sql": {"inline": work.sql(&revision.to_string())}}));
        work.wait_stable("upgraded", revision);
        sleep(Duration::from_secs(2));
    }
    let rows = work.assert_exact(load.stop());
    // Rows have the time at which the job wrote them, and the tag of the revision that did.
    let times = |revision: i64| rows.iter().filter(move |r| r.tag == revision.to_string()).map(|r| r.at);
    let down = |revision: i64| times(revision).min().unwrap() - times(revision - 1).max().unwrap();
    let mut gaps: Vec<Duration> = revisions.map(|r| Duration::from_millis(u64::try_from(down(r)).unwrap())).collect();
    eprintln!("  downtimes of upgrades: {gaps:.1?} (debug binaries)");
    gaps.sort_unstable();
    assert!(gaps[gaps.len() / 2] < DOWNTIME && gaps.iter().all(|gap| *gap < WORST_DOWNTIME), "{gaps:?}");
}

fn kill_all(cluster: &Cluster) {
    for pod in cluster.operator_pods() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        cluster.delete(&format!("api/v1/namespaces/{SYSTEM}/pods/{name}"), true);
    }
}

/// At each step of an upgrade all operators are killed at once; new ones go on from what is written down.
fn killed(lab: &Lab) {
    let work = Work::new(lab, "operator-killed");
    let load = work.load(200);
    work.start("0", &json!({}));
    work.wait_rows(200);
    for (i, step) in ["Preflight", "Savepoint", "Stop", "Start", "Stabilize"].into_iter().enumerate() {
        let revision = i64::try_from(i).unwrap() + 2;
        work.patch(&json!({"sql": {"inline": work.sql(step)}}));
        let before = Instant::now();
        let killed = Cell::new(false);
        work.space.wait(NAME, &format!("upgraded, killed at {step}"), DEADLINE, |d| {
            let operation = &d["status"]["operation"];
            if !killed.get() && operation["step"] == step {
                kill_all(&lab.cluster);
                killed.set(true);
            }
            d["status"]["revision"]["stable"] == revision && operation.is_null()
        });
        eprintln!("  killed at {step} ({}): upgraded {:.1?} later", if killed.get() { "seen" } else { "not seen" }, before.elapsed());
    }
    let rows = work.rows().len();
    work.wait_rows(rows + 200);
    work.assert_exact(load.stop());
}

/// The leader stands still in the middle of an upgrade: the standby takes over when the lease is out and goes on. When the first one wakes up it
/// does no harm: it ends.
fn failover(lab: &Lab) {
    let work = Work::new(lab, "failover");
    let load = work.load(200);
    work.start("0", &json!({}));
    work.wait_rows(200);
    let ready = || lab.cluster.operator_pods().iter().filter(|p| p["status"]["containerStatuses"][0]["ready"] == true).count();
    work.space.wait(NAME, "two operators", DEADLINE, |_| ready() == 2);
    let leader = lab.cluster.leader().unwrap();
    let pods = lab.cluster.operator_pods();
    let pod = pods.iter().find(|p| p["metadata"]["name"] == leader.as_str()).unwrap();
    let processes = lab.cluster.processes(pod);
    work.patch(&json!({"sql": {"inline": work.sql("1")}}));
    work.space.wait(NAME, "an upgrade", DEADLINE, |d| !d["status"]["operation"].is_null());
    if processes.is_empty() {
        // On another machine: it is asked to end.
        lab.cluster.delete(&format!("api/v1/namespaces/{SYSTEM}/pods/{leader}"), false);
    }
    signal(&processes, "-STOP");
    let started = Instant::now();
    work.space.wait(NAME, "another leader", DEADLINE, |_| lab.cluster.leader().is_some_and(|l| l != leader));
    eprintln!("  another leader after {:.1?}", started.elapsed());
    work.wait_stable("upgraded", 2);
    signal(&processes, "-CONT");
    work.space
        .wait(NAME, "the end of the first leader", DEADLINE, |_| processes.iter().all(|p| !Path::new(&format!("/proc/{p}")).exists()));
    let rows = work.rows().len();
    work.wait_rows(rows + 200);
    work.assert_exact(load.stop());
    work.space.wait(NAME, "two operators again", DEADLINE, |_| ready() == 2);
}

/// API server, kubelet and scheduler die in the middle of upgrades: these go on when they are back, and pods run through.
fn restarts(lab: &Lab) {
    if !lab.cluster.ours {
        not_here("it kills the control plane and the kubelet, and this cluster's are not the test's to kill");
    }
    let work = Work::new(lab, "restarts");
    let load = work.load(200);
    work.start("0", &json!({}));
    work.wait_rows(200);
    let pod = work.space.pod(NAME);
    assert!(lab.cluster.kill("kubelet"));
    let rows = work.rows().len();
    work.wait_rows(rows + 200);
    assert_eq!(work.space.pod(NAME), pod, "pods outlive the kubelet");
    for (revision, component) in [(2, "kube-apiserver"), (3, "kubelet"), (4, "kube-controller-manager")] {
        work.patch(&json!({"sql": {"inline": work.sql(component)}}));
        work.space.wait(NAME, "an upgrade", DEADLINE, |d| d["status"]["operation"]["revision"] == revision);
        let started = Instant::now();
        assert!(lab.cluster.kill(component), "{component}");
        work.space.wait(NAME, &format!("upgraded without {component}"), DEADLINE, |d| {
            d["status"]["revision"]["stable"] == revision && d["status"]["operation"].is_null()
        });
        eprintln!("  {component} killed: upgraded {:.1?} later", started.elapsed());
        // Watches are there again, too: what is new is noticed at once.
        let mut other = work.deployment("SELECT 1", &json!({"suspend": true}));
        other["metadata"]["name"] = component.into();
        work.space.must_apply(&other);
        work.space.wait(component, "noticed", Duration::from_secs(20), |d| d["status"]["observedGeneration"] == 1);
    }
    let rows = work.rows().len();
    work.wait_rows(rows + 200);
    work.assert_exact(load.stop());
}

fn signal(processes: &[u32], name: &str) {
    for process in processes {
        assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
    }
}

const ROLE: &str = "apis/rbac.authorization.k8s.io/v1/clusterroles/sluice-operator";

fn forbidden(lab: &Lab) {
    let work = Work::new(lab, "forbidden");
    let role = lab.cluster.get(ROLE).unwrap();
    let mut less = role["rules"].clone();
    less.as_array_mut().unwrap().retain(|rule| rule["resources"] != json!(["serviceaccounts"]));
    let reader = json!({"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["list", "watch"]});
    less.as_array_mut().unwrap().push(reader);
    lab.cluster.patch(ROLE, &json!({"rules": less}));
    sleep(Duration::from_secs(1));
    work.space.must_apply(&work.deployment(&work.sql("x"), &json!({})));
    let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        work.space.wait(NAME, "forbidden", DEADLINE, |d| condition(d, "Stalled").1 == "Forbidden")
    }));
    lab.cluster.patch(ROLE, &json!({"rules": role["rules"]}));
    let object = shown.unwrap();
    let message = condition(&object, "Ready").2;
    assert!(message.contains("serviceaccounts") && message.contains("cannot patch"), "{message}");
    work.ready();
}

/// Jobs keep their pods and their image.
fn upgrade(lab: &Lab) {
    let newer = "sluice:0.1.1-test";
    if !lab.cluster.load_as(newer) {
        not_here("it needs a second image, and SLUICE_TEST_IMAGE names the only one");
    }
    let work = Work::new(lab, "operator-upgrade");
    work.start("0", &json!({}));
    let pod = work.space.pod(NAME);
    let image = |image: &str| {
        lab.cluster.ok(&["-n", SYSTEM, "set", "image", "deployment/sluice-operator", &format!("operator={image}")]);
        lab.cluster.ok(&["-n", SYSTEM, "set", "env", "deployment/sluice-operator", &format!("SLUICE_IMAGE={image}")]);
        lab.cluster.ok(&["-n", SYSTEM, "rollout", "status", "deployment/sluice-operator", "--timeout=120s"]);
    };
    image(newer);
    // The new one looks at it: it reacts.
    work.space.wait(NAME, "a leader of the new version", DEADLINE, |_| {
        let pods = lab.cluster.operator_pods();
        let of = |name: &str| pods.iter().find(|p| p["metadata"]["name"] == name).map(|p| p["spec"]["containers"][0]["image"].clone());
        lab.cluster.leader().and_then(|l| of(&l)) == Some(Value::from(newer))
    });
    work.fill(0, 100);
    work.assert_exact(100);
    sleep(Duration::from_secs(3));
    assert_eq!(work.space.pod(NAME), pod, "the pod is the same");
    let object = work.space.deployment(NAME);
    assert_eq!((&object["status"]["revision"]["current"], &object["status"]["image"]), (&json!(1), &json!(lab.cluster.image)));
    // The next revision gets the new default.
    work.patch(&json!({"restartNonce": 1}));
    let object = work.space.wait(NAME, "restarted", DEADLINE, |d| d["status"]["revision"]["stable"] == 2);
    assert_eq!(object["status"]["image"], newer);
    image(&lab.cluster.image);
}
