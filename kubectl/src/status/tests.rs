#![allow(clippy::unwrap_used)]
use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn view(status: Value) -> View {
    let object = json!({"metadata": {"name": "job", "namespace": "flink", "generation": 3},
        "spec": {"sql": {"inline": "x"}}, "status": status});
    View {
        deployment: serde_json::from_value(object).unwrap(),
        job: None,
        no_pod: "no pod".into(),
        savepoints: vec![],
        events: vec![],
        missing: vec![],
        now: at("2026-11-21T12:00:00Z"),
    }
}

fn condition_of(kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": if holds { "True" } else { "False" }, "reason": reason, "message": message, "lastTransitionTime": "2026-11-21T11:50:00Z"})
}

#[test]
fn a_running_job_on_one_screen() {
    let mut view = view(json!({"phase": "Running", "observedGeneration": 3, "image": "sluice:0.1.0", "parallelism": 1, "restarts": 0,
        "revision": {"current": 3, "target": 3, "stable": 3}, "startedFrom": {"stateId": 2, "path": "/state/flink/job/savepoints/a"},
        "conditions": [condition_of("Accepted", true, "Valid", ""), condition_of("Ready", true, "Running", ""),
            condition_of("Running", true, "Running", ""), condition_of("CheckpointHealthy", true, "Completed", "")]}));
    let answer = r#"{"state":"RUNNING","commits":1200,"lastCommit":"2026-11-21T11:59:59Z","rowsIn":1234567,"rowsOut":10,
        "watermark":"2026-11-21T11:59:57Z","stateBytes":2048,"restarts":0}"#;
    let figures = Figures { rates: Some((512.4, 0.5)), lag: Some((1234, 3)), ..Figures::parse(answer).unwrap() };
    view.job = Some(("job-r3-0".into(), Ok(figures)));
    view.savepoints = vec![
        serde_json::from_value(json!({"metadata": {"name": "job-r2-upgrade", "labels": {TRIGGER_LABEL: "upgrade"}, "creationTimestamp": "2026-11-21T11:00:00Z"},
            "spec": {"deploymentRef": {"name": "job"}}, "status": {"phase": "Completed", "path": "/state/a", "sizeBytes": 4096}}))
        .unwrap(),
    ];
    view.events =
        vec![EventView { at: Some(at("2026-11-21T11:50:00Z")), warning: false, reason: "Stable".into(), text: "revision 3".into() }];
    let expected = "StreamingDeployment flink/job: Running
  revision 3, stable; 1 task; image sluice:0.1.0
  its state began with the savepoint /state/flink/job/savepoints/a

Conditions
  Accepted           True  the spec is valid, since 10 min
  Ready              True  all of the spec is realised, since 10 min
  Running            True  rows are processed, since 10 min
  CheckpointHealthy  True  commits come in time, since 10 min

Job in the pod job-r3-0
  state        RUNNING
  rows/s       512 in, 0.5 out
  rows         1,234,567 in, 10 out, since the process began
  watermark    2026-11-21T11:59:57Z, 3.0 s behind
  lag          1,234 records in 3 splits
  last commit  1.0 s ago; 1,200 commits
  state size   2.0 KiB
  restarts     0 of the job, 0 of the pod

Savepoints
  job-r2-upgrade  Completed  upgrade  60 min ago  4.0 KiB  /state/a

Events
  10 min ago    Stable  revision 3
";
    assert_eq!(draw(&view), expected);
    let json = to_json(&view).unwrap();
    assert_eq!((&json["job"]["lag"]["records"], &json["job"]["pod"]), (&json!(1234), &json!("job-r3-0")));
}

#[test]
fn what_is_wrong_is_said() {
    type Change = fn(&mut View);
    let cases: [(&str, Value, Change, &[&str]); 6] = [
        (
            "no operator",
            Value::Null,
            |_| {},
            &["job: not looked at yet", "is the operator running?", "Job: no pod", "Savepoints: none", "Events: none"],
        ),
        (
            "refused",
            json!({"phase": "Running", "observedGeneration": 2, "revision": {"current": 1, "target": 2, "stable": 1},
                "conditions": [condition_of("Stalled", true, "InvalidSql", "line 1, column 8: no column 'x'\nhint")]}),
            |_| {},
            &[
                "2 is to follow",
                "has not looked at the last change",
                "it needs you (InvalidSql): line 1, column 8: no column 'x'\n                      hint",
            ],
        ),
        (
            "upgrading",
            json!({"phase": "Upgrading", "operation": {"type": "Upgrade", "step": "Savepoint", "startedAt": "2026-11-21T11:59:00Z",
                "stepStartedAt": "2026-11-21T11:59:57Z", "revision": 2, "mode": "Savepoint"}}),
            |_| {},
            &["Upgrade to revision 2: Savepoint, since 3.0 s"],
        ),
        ("silent", json!({}), |v| v.job = Some(("p".into(), Err("you may not ask".into()))), &["Job in the pod p\n  you may not ask"]),
        (
            "failing",
            json!({"restarts": 4}),
            |v| v.job = Some(("p".into(), Ok(Figures::parse(r#"{"state":"RESTARTING","failure":"broker away"}"#).unwrap()))),
            &["state        RESTARTING", "last commit  none yet", "0 of the job, 4 of the pod", "failure      broker away"],
        ),
        ("not allowed", json!({}), |v| v.missing.push("cannot list events: no".into()), &["not seen: cannot list events: no"]),
    ];
    for (what, status, change, says) in cases {
        let mut view = view(status);
        change(&mut view);
        let text = draw(&view);
        for words in says {
            assert!(text.contains(words), "{what}: '{words}' in\n{text}");
        }
    }
}
