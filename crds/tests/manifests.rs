//! The committed manifests: current, small, documented, and with the rules that the API server evaluates.
#![allow(clippy::unwrap_used)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::validate_cel;
use serde::Serialize;
use serde_json::{Value, json};
use sluice_crds::{Savepoint, SessionCluster, StreamingDeployment, StreamingDeploymentSpec, definitions, manifests};

#[test]
fn committed_manifests_are_current_and_small() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    for (name, yaml) in manifests().unwrap() {
        let committed = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(committed == yaml, "{name} is stale: run `cargo run -p sluice-operator -- crds manifests/crds`");
        assert!(yaml.len() < 100_000, "{name} has {} bytes", yaml.len());
    }
}

#[test]
fn unknown_fields_are_rejected() {
    let yaml = "sql: {inline: SELECT 1}\nparalelism: 2";
    assert!(serde_yaml::from_str::<StreamingDeploymentSpec>(yaml).is_err());
}

/// `kubectl explain` reads well only if no field is without a text.
#[test]
fn every_field_is_documented() {
    let mut missing = vec![];
    for crd in definitions().unwrap() {
        let value = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        undocumented(&value["openAPIV3Schema"], &crd.spec.names.kind, &mut missing);
    }
    assert!(missing.is_empty(), "without description: {missing:#?}");
}

fn undocumented(schema: &Value, path: &str, missing: &mut Vec<String>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        let path = format!("{path}.{name}");
        if property.get("description").is_none() && name != "metadata" {
            missing.push(path.clone());
        }
        undocumented(property, &path, missing);
        undocumented(&property["items"], &path, missing);
    }
}

/// kubectl reads YAML 1.1, in which `Off` is false: such a value could neither be declared nor be written.
#[test]
fn no_value_is_a_boolean_to_kubectl() {
    fn values(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(map) => {
                found.extend(map.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(|v| Some(v.as_str()?.to_owned())));
                map.values().for_each(|v| values(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| values(v, found)),
            _ => {}
        }
    }
    let mut found = vec![];
    definitions().unwrap().iter().for_each(|crd| values(&serde_json::to_value(&crd.spec.versions[0].schema).unwrap(), &mut found));
    assert!(found.len() > 20, "{found:?}");
    let read = |v: &String| ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ""].contains(&v.to_lowercase().as_str());
    assert_eq!(found.iter().filter(|v| read(v)).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn definitions_have_what_kubectl_shows() {
    let of = |kind: &str| -> CustomResourceDefinition { definitions().unwrap().into_iter().find(|c| c.spec.names.kind == kind).unwrap() };
    for (kind, short, columns) in [
        ("StreamingDeployment", "sdep", "Job,Ready,Revision,Parallelism,Age,Savepoint,Image,Message"),
        ("Savepoint", "svp", "Deployment,Phase,Trigger,Age,Path"),
        ("SessionCluster", "scl", "Ready,Workers,Slots,Jobs,Age"),
    ] {
        let crd = of(kind);
        assert_eq!(crd.spec.names.short_names.clone().unwrap(), [short]);
        assert_eq!(crd.spec.names.categories.clone().unwrap(), ["sluice"]);
        let version = &crd.spec.versions[0];
        let shown: Vec<_> = version.additional_printer_columns.iter().flatten().map(|c| c.name.as_str()).collect();
        assert_eq!(shown.join(","), columns, "{kind}");
        assert!(version.subresources.as_ref().unwrap().status.is_some());
        assert!(!serde_json::to_string(version).unwrap().contains("nullable"), "null is a field that is not there");
    }
    let scale = of("StreamingDeployment").spec.versions[0].subresources.clone().unwrap().scale.unwrap();
    assert_eq!(scale.spec_replicas_path, ".spec.parallelism");
    assert_eq!(scale.label_selector_path.as_deref(), Some(".status.workerSelector"));
}

fn named<K: serde::de::DeserializeOwned>(kind: &str, spec: Value) -> K {
    serde_json::from_value(json!({"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec})).unwrap()
}

fn errors<K: kube::CustomResourceExt + Serialize>(object: &K, old: Option<&K>) -> String {
    let result = match old {
        None => validate_cel(object),
        Some(old) => kube::core::cel::validate_cel_update(object, old),
    };
    result.err().map(|e| e.to_string()).unwrap_or_default()
}

/// Rule: what breaks it, and the words of its message.
#[test]
fn deployments_follow_the_rules() {
    let storage = json!({"uri": "file:///state", "volumeClaim": {"size": "1Gi"}});
    let sql = json!({"inline": "SELECT 1"});
    for (spec, message) in [
        (json!({"sql": sql, "storage": storage}), ""),
        (json!({"sql": sql, "upgrade": {"mode": "Stateless"}}), ""),
        (json!({"sql": sql, "sessionClusterRef": {"name": "c"}}), ""),
        (json!({"sql": sql}), "storage is needed"),
        (json!({"sql": {}, "storage": storage}), "exactly one of inline and configMapKeyRef"),
        (json!({"sql": {"inline": "x", "configMapKeyRef": {"name": "a", "key": "b"}}, "storage": storage}), "exactly one of inline"),
        (json!({"sql": sql, "storage": {"uri": "file:///state"}}), "volumeClaim is needed"),
        (json!({"sql": sql, "storage": {"uri": "s3://b/p", "volumeClaim": {"size": "1Gi"}}}), "volumeClaim is needed"),
        (json!({"sql": sql, "storage": {"uri": "file:///s", "volumeClaim": {}}}), "exactly one of existingClaim and size"),
        (json!({"sql": sql, "sessionClusterRef": {"name": "c"}, "image": "i"}), "are those of the session cluster"),
        (json!({"sql": sql, "storage": storage, "parallelism": 9, "maxParallelism": 8}), "at most maxParallelism"),
        (json!({"sql": sql, "storage": storage, "restoreFrom": {"path": "/a", "empty": {}}}), "exactly one of savepointRef"),
        (json!({"sql": sql, "storage": storage, "restoreFrom": {"nonce": 1}}), "exactly one of savepointRef"),
        (json!({"sql": sql, "upgrade": {"mode": "Stateless"}, "savepoints": {"schedule": "0 * * * *"}}), "savepoints.schedule needs"),
    ] {
        let found = errors(&named::<StreamingDeployment>("StreamingDeployment", spec.clone()), None);
        assert!(if message.is_empty() { found.is_empty() } else { found.contains(message) }, "{spec}: {found}");
    }
    let mut long: StreamingDeployment = named("StreamingDeployment", json!({"sql": sql, "storage": storage}));
    long.metadata.name = Some("x".repeat(41));
    assert!(errors(&long, None).contains("at most 40 characters"));
}

#[test]
fn what_cannot_change_is_refused() {
    let sdep = |extra: Value| -> StreamingDeployment {
        let mut spec = json!({"sql": {"inline": "SELECT 1"}, "upgrade": {"mode": "Stateless"}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        named("StreamingDeployment", spec)
    };
    for (old, new, message) in [
        (json!({}), json!({"sessionClusterRef": {"name": "c"}}), "sessionClusterRef cannot be changed"),
        (json!({"sessionClusterRef": {"name": "c"}}), json!({"sessionClusterRef": {"name": "d"}}), "sessionClusterRef cannot be changed"),
        (json!({}), json!({"maxParallelism": 8}), "maxParallelism cannot be changed"),
        (json!({}), json!({"parallelism": 8}), ""),
    ] {
        let found = errors(&sdep(new.clone()), Some(&sdep(old)));
        assert!(if message.is_empty() { found.is_empty() } else { found.contains(message) }, "{new}: {found}");
    }
    let svp = |spec: Value| -> Savepoint { named("Savepoint", spec) };
    let of = |name: &str| json!({"deploymentRef": {"name": name}});
    for (old, new, message) in [
        (of("a"), of("b"), "deploymentRef cannot be changed"),
        (of("a"), json!({"deploymentRef": {"name": "a"}, "path": "/p"}), "path cannot be changed"),
        (json!({"existing": {"path": "/a"}}), json!({"existing": {"path": "/b"}}), "existing cannot be changed"),
        (of("a"), json!({"deploymentRef": {"name": "a"}, "timeout": "1m"}), "only deletionPolicy"),
        (of("a"), json!({"deploymentRef": {"name": "a"}, "deletionPolicy": "Delete"}), ""),
    ] {
        let found = errors(&svp(new.clone()), Some(&svp(old)));
        assert!(if message.is_empty() { found.is_empty() } else { found.contains(message) }, "{new}: {found}");
    }
    for (spec, message) in [
        (json!({}), "exactly one of deploymentRef and existing"),
        (json!({"existing": {"path": "/a"}, "path": "/b"}), "path is for a savepoint to be taken"),
    ] {
        assert!(errors(&svp(spec.clone()), None).contains(message), "{spec}");
    }
    let cluster: SessionCluster = named("SessionCluster", json!({}));
    assert_eq!((cluster.spec.workers.replicas, cluster.spec.gateway.port), (1, 8081));
}
