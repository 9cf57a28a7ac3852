#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

#[test]
fn the_last_error_of_the_log_is_what_a_user_reads() {
    let json = r#"{"level":"INFO","fields":{"message":"starting"}}
{"level":"ERROR","fields":{"message":"there is no table 'b'","line":3,"column":7,"hint":"did you mean 'a'?"},"target":"sluice"}"#;
    for (text, expected) in [
        (json, "line 3, column 7: there is no table 'b' (did you mean 'a'?)"),
        ("Killed\n", "Killed"),
        ("{\"level\":\"INFO\",\"fields\":{}}\nincompatible\n  why", "incompatible\n  why"),
        ("", ""),
        (r#"{"level":"ERROR","fields":{"message":"x","line":0,"column":0,"hint":null}}"#, "x"),
    ] {
        assert_eq!(last_lines(Some(text)), expected);
    }
    assert_eq!(last_lines(Some(&"é".repeat(3000))).chars().count(), 1000);
}

fn pod(component: &str, status: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "labels": {"sluice.dev/revision": "r2", "app.kubernetes.io/component": component}}, "status": status
    }))
    .unwrap()
}

fn preflight_of(job: &Job, pods: &[Pod]) -> Preflight {
    let mut children = Children::default();
    for (n, pod) in pods.iter().enumerate() {
        Pod::part(&mut children).put(&n.to_string(), super::super::children::Item { version: 1, hash: None, seen: pod.seen() });
    }
    preflight(&job.seen().unwrap(), &children).unwrap()
}

#[test]
fn pods_in_short() {
    let view = pod_view(&pod(
        "job",
        json!({"podIP": "10.0.0.1", "containerStatuses": [{"name": "sluice", "image": "", "imageID": "", "ready": false,
        "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": {"exitCode": 1, "message": "boom"}}}]}),
    ));
    assert_eq!((view.address.as_deref(), view.restarts, view.running), (Some("10.0.0.1:8081"), 3, false));
    assert_eq!(view.waiting.unwrap().0, "CrashLoopBackOff");
    assert_eq!(view.ended.unwrap().message, "boom");
    let view = pod_view(&pod(
        "job",
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}]}),
    ));
    assert_eq!(view.waiting.unwrap(), ("Unschedulable".into(), "no cpu".into()));
    assert_eq!(names::address("fd00::1"), "[fd00::1]:8081");
}

#[test]
fn preflights_say_why_they_failed() {
    let job = |conditions| -> Job {
        serde_json::from_value(json!({"metadata": {"labels": {"sluice.dev/revision": "r2"}}, "status": {"conditions": conditions}}))
            .unwrap()
    };
    let failed = || job(json!([{"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}]));
    let said = |code: i32, message: &str| {
        json!({"containerStatuses": [{"name": "sluice", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "message": message}}}]})
    };
    let ended = |code| said(code, "no such column");
    let waiting = json!({"containerStatuses": [{"name": "sluice", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}]});
    for (job, pods, reason, words) in [
        (job(json!([])), vec![], None, ""),
        (job(json!([{"type": "Complete", "status": "True"}])), vec![], Some(""), ""),
        (failed(), vec![pod("preflight", ended(2))], Some("InvalidSql"), "no such column"),
        (failed(), vec![pod("preflight", ended(1))], Some("PreflightFailed"), "exit code 1"),
        (
            failed(),
            vec![pod("preflight", said(2, "incompatible\n  GroupAggregate\n    why\n"))],
            Some("IncompatibleState"),
            "GroupAggregate\n    why",
        ),
        (failed(), vec![pod("preflight", said(3, "partial\n  MAX is new"))], Some("partial"), "MAX is new"),
        (failed(), vec![pod("preflight", waiting.clone())], Some("ImagePullFailed"), "not found"),
        (failed(), vec![pod("job", ended(2))], Some("PreflightFailed"), "too long; a Secret"),
    ] {
        let found = preflight_of(&job, &pods);
        assert_eq!(found.revision, 2);
        match (found.outcome, reason) {
            (None, None) | (Some(Ok(None)), Some("")) => {}
            (Some(Ok(Some(warning))), Some("partial")) => assert!(warning.contains(words), "{warning}"),
            (Some(Err(failure)), Some(reason)) => {
                assert_eq!(failure.reason, reason);
                assert!(failure.message.contains(words), "{failure:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_keeps_a_preflight_from_starting() {
    let job: Job = serde_json::from_value(json!({"metadata": {"labels": {"sluice.dev/revision": "r2"}}})).unwrap();
    for (why, reason) in [
        ("ContainerCreating", None),
        ("ErrImagePull", Some("ImagePullFailed")),
        ("InvalidImageName", Some("ImagePullFailed")),
        ("CreateContainerConfigError", Some("PreflightFailed")),
    ] {
        let status = json!({"containerStatuses": [{"name": "sluice", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": why, "message": "text"}}}]});
        let found = preflight_of(&job, &[pod("preflight", status)]);
        assert_eq!(found.outcome, None);
        assert_eq!(found.waits.map(|w| w.reason).as_deref(), reason, "{why}");
    }
    assert_eq!(denied::reason("pods \"a\" is forbidden: exceeded quota: q"), "QuotaExceeded");
    assert_eq!(denied::reason("violates PodSecurity \"restricted:latest\""), "PodForbidden");
}
