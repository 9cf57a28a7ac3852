#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};
use sluice_crds::StreamingDeploymentSpec;

use super::*;

fn judge(extra: &Value) -> Validated {
    let mut spec =
        json!({"sql": {"inline": "INSERT INTO a SELECT 1"}, "storage": {"uri": "file:///state", "volumeClaim": {"size": "1Gi"}}});
    for (key, value) in extra.as_object().unwrap() {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(key);
        } else {
            spec[key] = value.clone();
        }
    }
    let spec: StreamingDeploymentSpec = serde_json::from_value(spec).unwrap();
    let sql = spec.sql.inline.clone().unwrap_or_default();
    validate("job", "ns", &spec, Ok(&sql), None)
}

#[test]
fn a_plain_spec_is_accepted() {
    let valid = judge(&json!({"parallelism": 4, "restoreFrom": {"path": "/s", "nonce": 2}, "restartNonce": 1, "image": "i"}));
    let template = valid.template.clone().unwrap();
    assert_eq!((template.parallelism, template.restore_nonce, template.restart_nonce), (4, 2, Some(1)));
    assert_eq!(valid.policy.ready_timeout.as_secs(), 300);
    assert_eq!(template.config["execution.checkpointing.interval"], "1000 ms");
    assert_eq!(template.config["restart-strategy.exponential-delay.max-backoff"], "120000 ms");
    let never = judge(&json!({"restart": {"enabled": false}})).template.unwrap();
    assert_eq!(never.config["restart-strategy.type"], "none");
    assert!(judge(&json!({"storage": null, "upgrade": {"mode": "Stateless"}})).template.is_ok());
}

/// Something of the job's container.
fn over(container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("sluice");
    json!({"podOverrides": {"spec": {"containers": [container]}}})
}

#[test]
fn what_does_not_touch_state_may_be_overridden() {
    let container =
        json!({"name": "sluice", "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "ca", "mountPath": "/statement"}]});
    let pod = json!({"restartPolicy": "Always", "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}, {"name": "ca", "emptyDir": {}}],
        "containers": [container, {"name": "side", "image": "x", "args": ["a"], "command": ["b"]}]});
    let spec = json!({"podOverrides": {"spec": pod}, "sql": {"inline": "SELECT '{{secret:a.b-c.1/my.key_X}}'"}});
    assert_eq!(judge(&spec).template.err(), None);
}

#[test]
fn each_rule_names_field_and_reason() {
    for (spec, path, words, reason) in [
        (json!({"sql": {"inline": "  "}}), "spec.sql.inline", "no SQL", "Invalid"),
        (json!({"sql": {}}), "spec.sql", "exactly one", "Invalid"),
        (json!({"sql": {"inline": "a\n{{secret:x}}"}}), "spec.sql.inline", "line 2: expected {{secret:name/key}}", "Invalid"),
        (json!({"sql": {"inline": "{{secret:other/x/y}}"}}), "spec.sql.inline", "namespace 'other'", "Invalid"),
        (json!({"sql": {"inline": "{{secret:x/../y}}"}}), "spec.sql.inline", "namespace 'x'", "Invalid"),
        (json!({"sql": {"inline": "{{secret:x/..}}"}}), "spec.sql.inline", "names no Secret", "Invalid"),
        (json!({"storage": null}), "spec.storage", "is needed", "Invalid"),
        (json!({"storage": {"uri": "gs://b/p"}}), "spec.storage.uri", "gs:// is not supported", "NotSupported"),
        (json!({"storage": {"uri": "s3://b/p", "volumeClaim": {"size": "1Gi"}}}), "spec.storage.volumeClaim", "file:// only", "Invalid"),
        (json!({"storage": {"uri": "/state"}}), "spec.storage.uri", "no uri", "Invalid"),
        (json!({"storage": {"uri": "file:///state"}}), "spec.storage.volumeClaim", "is needed", "Invalid"),
        (json!({"storage": {"uri": "file://state", "volumeClaim": {"size": "1Gi"}}}), "spec.storage.uri", "absolute", "Invalid"),
        (json!({"storage": {"uri": "file:///a/../b", "volumeClaim": {"size": "1Gi"}}}), "spec.storage.uri", "plain absolute", "Invalid"),
        (json!({"storage": {"uri": "file:///etc/x", "volumeClaim": {"size": "1Gi"}}}), "spec.storage.uri", "cannot be mounted", "Invalid"),
        (json!({"storage": {"uri": "file:///s", "volumeClaim": {"size": "big"}}}), "spec.storage.volumeClaim.size", "10Gi", "Invalid"),
        (json!({"storage": {"uri": "file:///s", "volumeClaim": {}}}), "spec.storage.volumeClaim", "exactly one", "Invalid"),
        (
            json!({"onDelete": "Savepoint", "storage": null, "upgrade": {"mode": "Stateless"}}),
            "spec.onDelete",
            "needs spec.storage",
            "Invalid",
        ),
        (json!({"parallelism": 0}), "spec.parallelism", "1 or more", "Invalid"),
        (json!({"parallelism": 65}), "spec.parallelism", "at most 64", "NotSupported"),
        (json!({"config": {"restart-strategy.type": "none"}}), "spec.config['restart-strategy.type']", "spec.restart", "Invalid"),
        (json!({"parallelism": 9, "maxParallelism": 8}), "spec.parallelism", "at most", "Invalid"),
        (json!({"workers": {"replicas": 2}}), "spec.workers.replicas", "one pod", "NotSupported"),
        (json!({"workers": {"resources": {"limits": {"cpu": "a lot"}}}}), "spec.workers.resources.limits.cpu", "quantity", "Invalid"),
        (
            json!({"workers": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1900Mi"}}}}),
            "spec.workers.resources.requests.memory",
            "more than its limit",
            "Invalid",
        ),
        (json!({"sql": {"inline": "{{secret:My_User/x}}"}}), "spec.sql.inline", "names no Secret", "Invalid"),
        (json!({"sql": {"inline": "{{secret:-a/x}}"}}), "spec.sql.inline", "names no Secret", "Invalid"),
        (over(json!({"args": ["run"]})), "spec.podOverrides.spec.containers['sluice'].args", "operator's", "Invalid"),
        (over(json!({"command": ["sh"]})), "spec.podOverrides.spec.containers['sluice'].command", "operator's", "Invalid"),
        (
            over(json!({"volumeMounts": [{"name": "scratch", "mountPath": "/state/"}]})),
            "spec.podOverrides.spec.containers['sluice'].volumeMounts['/state/']",
            "is mounted there",
            "Invalid",
        ),
        (
            json!({"podOverrides": {"spec": {"volumes": [{"name": "state", "emptyDir": {}}]}}}),
            "spec.podOverrides.spec.volumes['state']",
            "another name",
            "Invalid",
        ),
        (json!({"podOverrides": {"spec": {"restartPolicy": "Never"}}}), "spec.podOverrides.spec.restartPolicy", "Always", "Invalid"),
        (json!({"podOverrides": {"spec": {"nodeSelectors": {}}}}), "spec.podOverrides", "no field 'spec.nodeSelectors'", "Invalid"),
        (json!({"config": {"pipeline.name": "x"}}), "spec.config['pipeline.name']", "operator names", "Invalid"),
        (json!({"variables": {"A-B": "x"}}), "spec.variables['A-B']", "letters", "Invalid"),
        (json!({"restoreFrom": {"nonce": 1}}), "spec.restoreFrom", "exactly one", "Invalid"),
        (json!({"savepoints": {"schedule": "0 * * * 8"}}), "spec.savepoints.schedule", "day of week '8'", "Invalid"),
        (json!({"savepoints": {"maxAge": "1 day"}}), "spec.savepoints.maxAge", "no duration", "Invalid"),
        (json!({"upgrade": {"readyTimeout": "soon"}}), "spec.upgrade.readyTimeout", "no duration", "Invalid"),
        (json!({"upgrade": {"maxCheckpointAge": "1m"}}), "spec.upgrade.maxCheckpointAge", "LastState", "Invalid"),
        (json!({"restart": {"maxBackoff": "9"}}), "spec.restart.maxBackoff", "no duration", "Invalid"),
        (json!({"checkpoints": {"timeout": "9m"}}), "spec.checkpoints.timeout", "no timeout", "NotSupported"),
        (json!({"checkpoints": {"interval": "0s"}}), "spec.checkpoints.interval", "10ms", "Invalid"),
    ] {
        let errors = judge(&spec).template.err().unwrap_or_default();
        let found = errors.iter().find(|e| e.path == path).unwrap_or_else(|| panic!("{spec}: {errors:?}"));
        assert!(found.message.contains(words), "{spec}: {found}");
        assert_eq!(found.reason, reason, "{spec}");
        assert_eq!(errors.len(), 1, "one mistake, one message: {errors:?}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_the_policy_is_there() {
    let judged = judge(&json!({"parallelism": 0, "upgrade": {"readyTimeout": "?"}, "suspend": true}));
    assert_eq!(judged.template.unwrap_err().len(), 2);
    assert!(judged.policy.suspend.is_some());
    assert_eq!(judged.policy.ready_timeout.as_secs(), 300, "the default stands in");
}

#[test]
fn sql_that_could_not_be_read_is_an_error() {
    let spec: StreamingDeploymentSpec =
        serde_json::from_value(json!({"sql": {"configMapKeyRef": {"name": "a", "key": "b"}}, "upgrade": {"mode": "Stateless"}})).unwrap();
    let error = FieldError { path: "spec.sql.configMapKeyRef".into(), message: "there is no ConfigMap 'a'".into(), reason: "NotFound" };
    assert_eq!(validate("job", "ns", &spec, Err(error.clone()), None).template.unwrap_err(), [error]);
    for name in ["a.b", "3rd-party", &"a".repeat(41)] {
        assert_eq!(validate(name, "ns", &spec, Ok("x"), None).template.unwrap_err()[0].path, "metadata.name", "{name}");
    }
}

#[test]
fn what_a_session_cluster_gives_and_asks() {
    let cluster = |spec: Value, status: Value| -> SessionCluster {
        serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": spec, "status": status})).unwrap()
    };
    let stored = || json!({"storage": {"uri": "s3://a/b"}, "secrets": ["kafka"], "config": {"x": "cluster", "y": "cluster"}});
    let deployment = |extra: Value| {
        let sql = "INSERT INTO a SELECT '{{secret:kafka/password}}'";
        let mut spec = json!({"sql": {"inline": sql}, "sessionClusterRef": {"name": "c"}, "config": {"x": "own"}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value::<StreamingDeploymentSpec>(spec).unwrap()
    };
    let judge = |spec: &StreamingDeploymentSpec, cluster: SessionCluster| {
        let sql = spec.sql.inline.clone().unwrap();
        validate("job", "ns", spec, Ok(&sql), Some(&Ok(cluster)))
    };
    let valid = judge(&deployment(json!({"parallelism": 2})), cluster(stored(), json!({})));
    let template = valid.template.unwrap();
    assert_eq!((template.storage.unwrap().uri.as_str(), template.session_cluster.as_deref()), ("s3://a/b", Some("c")));
    assert_eq!((template.config["x"].as_str(), template.config["y"].as_str()), ("own", "cluster"));
    assert_eq!(valid.policy.suspend, None);
    let restarts = judge(&deployment(json!({})), cluster(stored(), json!({"update": {"suspendsJobs": true}})));
    assert!(restarts.policy.suspend.unwrap().contains("session cluster 'c'"));
    let waits = judge(&deployment(json!({})), cluster(stored(), json!({"update": {"suspendsJobs": false}})));
    assert_eq!(waits.policy.suspend, None);
    let volume = json!({"uri": "file:///s", "volumeClaim": {"size": "1Gi"}});
    for (what, extra, on, path, words) in [
        ("slots", json!({"parallelism": 3}), stored(), "spec.parallelism", "has 2 slots"),
        ("image", json!({"image": "x"}), stored(), "spec.image", "session cluster 'c'"),
        ("storage", json!({"storage": volume}), stored(), "spec.storage", "session cluster 'c'"),
        ("no storage", json!({}), json!({"secrets": ["kafka"]}), "spec.sessionClusterRef", "has no spec.storage"),
        ("no secret", json!({}), json!({"storage": {"uri": "s3://a/b"}}), "spec.sql.inline", "'kafka' is not in spec.secrets"),
    ] {
        let errors = judge(&deployment(extra), cluster(on, json!({}))).template.unwrap_err();
        assert!(errors.len() == 1 && errors[0].path == path && errors[0].message.contains(words), "{what}: {errors:?}");
    }
    let missing = FieldError { path: "spec.sessionClusterRef.name".into(), message: "no".into(), reason: "ClusterNotFound" };
    let judged = validate("job", "ns", &deployment(json!({})), Ok("x"), Some(&Err(missing.clone())));
    assert_eq!(judged.template.unwrap_err(), [missing]);
}
