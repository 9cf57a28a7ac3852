//! manifests/: install.yaml is the base in one file; rights are what the code needs; the operator's pods are restricted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(folder().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|d| Value::deserialize(d).unwrap()).collect()
}

fn resources(kustomization: &str) -> Vec<String> {
    let value = documents(&read(kustomization)).remove(0);
    value["resources"].as_array().unwrap().iter().map(|r| r.as_str().unwrap().to_owned()).collect()
}

/// The CRDs and the base, one behind the other.
fn install() -> String {
    let crds = resources("crds/kustomization.yaml").into_iter().map(|f| format!("crds/{f}"));
    let base = resources("base/kustomization.yaml").into_iter().filter(|f| f.ends_with(".yaml")).map(|f| format!("base/{f}"));
    let head = "# Everything: kubectl apply --server-side -f manifests/install.yaml\n# Made from manifests/crds and manifests/base; \
                to change it, change those, and run: UPDATE=1 cargo test -p sluice-operator --test manifests\n";
    let parts: Vec<String> = crds.chain(base).map(|f| read(&f)).collect();
    format!("{head}{}", parts.join("---\n"))
}

#[test]
fn install_yaml_is_current() {
    let expected = install();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(folder().join("install.yaml"), &expected).unwrap();
    }
    assert!(read("install.yaml") == expected, "install.yaml is stale: UPDATE=1 cargo test -p sluice-operator --test manifests");
    assert!(documents(&expected).iter().all(|d| d["kind"].is_string() && d["metadata"]["name"].is_string()));
}

fn role() -> Value {
    documents(&read("base/role.yaml")).remove(0)
}

#[test]
fn rights_are_minimal() {
    let mut granted = BTreeSet::new();
    for rule in role()["rules"].as_array().unwrap() {
        let list = |field: &str| rule[field].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>();
        for resource in list("resources") {
            assert!(!["secrets", "pods/log", "pods/exec", "*"].contains(&resource.as_str()), "{resource}");
            for verb in list("verbs") {
                assert_ne!(verb, "*");
                assert!(granted.insert((resource.clone(), verb)), "{resource} twice");
            }
        }
    }
    assert!(!granted.contains(&("streamingdeployments".into(), "update".into())) && !granted.contains(&("pods".into(), "create".into())));
    // A comment before each rule but those that share one.
    let text = read("base/role.yaml");
    let rules = text.matches("- apiGroups").count();
    assert!(text.matches("  # ").count() >= rules - 2, "a comment a rule");
}

#[test]
fn the_operator_is_restricted() {
    let all = documents(&read("base/operator.yaml"));
    let pod = &all[0]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let security = &pod["containers"][0]["securityContext"];
    assert_eq!(security["capabilities"]["drop"][0], "ALL");
    assert!(
        security["readOnlyRootFilesystem"] == true && security["allowPrivilegeEscalation"] == false && security["runAsNonRoot"] == true
    );
    let namespace = documents(&read("base/namespace.yaml")).remove(0);
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn kustomizations_name_files_that_are_there() {
    for file in ["crds", "base", "overlays/namespaced", "jobs"] {
        for resource in resources(&format!("{file}/kustomization.yaml")) {
            assert!(folder().join(file).join(&resource).exists(), "{file}: {resource}");
        }
    }
}
