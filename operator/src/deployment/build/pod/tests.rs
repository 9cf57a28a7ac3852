#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;
use crate::deployment::build::{self, WorkloadOptions};

fn owner() -> Owner {
    Owner { name: "job".into(), namespace: "ns".into(), uid: "uid".into() }
}

fn revision(extra: serde_json::Value) -> Revision {
    let mut value = json!({"image": "sluice:1", "sql": "INSERT INTO a SELECT 1", "parallelism": 1, "config": {"execution.checkpointing.interval": "1000 ms"},
        "storage": {"uri": "file:///state/", "volumeClaim": {"size": "1Gi"}}});
    value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let template: Template = serde_json::from_value(value).unwrap();
    Revision { number: 2, hash: template.hash(), template }
}

fn pod(revision: &Revision, start: &StartedFrom) -> PodSpec {
    template(&owner(), revision, &Purpose::Job { start, allow_non_restored_state: true }).spec.unwrap()
}

/// https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
#[test]
fn pods_are_restricted() {
    for purpose in [Purpose::Preflight(None), Purpose::Job { start: &StartedFrom::default(), allow_non_restored_state: false }] {
        let spec = template(&owner(), &revision(json!({})), &purpose).spec.unwrap();
        let pod = spec.security_context.unwrap();
        assert_eq!((pod.run_as_non_root, pod.run_as_user), (Some(true), Some(65532)));
        assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert!(spec.host_network.is_none() && spec.host_pid.is_none());
        for container in spec.containers {
            let security = container.security_context.unwrap();
            assert_eq!((security.allow_privilege_escalation, security.read_only_root_filesystem), (Some(false), Some(true)));
            assert_eq!(security.capabilities.unwrap().drop.unwrap(), ["ALL"]);
        }
    }
}

#[test]
fn arguments_say_where_state_is_and_begins() {
    let start = StartedFrom { state_id: 3, path: Some("/state/uid/savepoints/a".into()) };
    let spec = pod(&revision(json!({})), &start);
    assert_eq!(
        spec.containers[0].args.clone().unwrap().join(" "),
        "run /etc/sluice/job/deployment.yaml --http 0.0.0.0:8081 --linger --set pipeline.name=ns.job \
         --set execution.checkpointing.dir=file:///state/ns/job/checkpoints --start uid-3 --restore-from /state/uid/savepoints/a --allow-non-restored-state"
    );
    let mounts = spec.containers[0].volume_mounts.clone().unwrap();
    assert_eq!(mounts.iter().find(|m| m.name == "state").unwrap().mount_path, "/state");
    let claim = spec.volumes.unwrap().into_iter().find_map(|v| v.persistent_volume_claim).unwrap();
    assert_eq!(claim.claim_name, "job-state");
    let preflight = template(&owner(), &revision(json!({})), &Purpose::Preflight(None)).spec.unwrap();
    assert_eq!(preflight.containers[0].args.clone().unwrap(), ["plan", "/etc/sluice/job/deployment.yaml"]);
    assert!(preflight.volumes.unwrap().iter().all(|v| v.persistent_volume_claim.is_none()));
}

#[test]
fn secrets_are_files_and_storage_credentials_are_environment() {
    let revision = revision(json!({"secrets": {"my.user": ["password"]},
        "storage": {"uri": "s3://b/p", "credentialsSecretRef": {"name": "s3"}}}));
    let spec = pod(&revision, &StartedFrom::default());
    let container = &spec.containers[0];
    let mount = container.volume_mounts.as_ref().unwrap().iter().find(|m| m.mount_path == "/etc/sluice/secrets/my.user").unwrap();
    let volume = spec.volumes.as_ref().unwrap().iter().find(|v| v.name == mount.name).unwrap();
    assert!(!volume.name.contains('.'));
    assert_eq!(volume.secret.as_ref().unwrap().items.as_ref().unwrap()[0].path, "password");
    assert_eq!(container.env_from.as_ref().unwrap()[0].secret_ref.as_ref().unwrap().name, "s3");
}

#[test]
fn overrides_are_merged_by_name() {
    let overrides = json!({"metadata": {"labels": {"team": "a", "sluice.dev/deployment": "other"}},
        "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [
            {"name": "sluice", "env": [{"name": "TZ", "value": "UTC"}, {"name": "SLUICE_LOG", "value": "debug"}]},
            {"name": "proxy", "image": "envoy"}]}});
    let revision = revision(json!({"podOverrides": overrides}));
    let start = StartedFrom::default();
    let template_of = |purpose: &Purpose| template(&owner(), &revision, purpose);
    let job = template_of(&Purpose::Job { start: &start, allow_non_restored_state: false });
    let labels = job.metadata.unwrap().labels.unwrap();
    assert_eq!((labels["team"].as_str(), labels["sluice.dev/deployment"].as_str()), ("a", "job"));
    let spec = job.spec.unwrap();
    assert_eq!(spec.node_selector.unwrap()["disk"], "ssd");
    assert_eq!(spec.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["sluice", "proxy"]);
    let env = spec.containers[0].env.clone().unwrap();
    assert_eq!(env.iter().find(|e| e.name == "SLUICE_LOG").unwrap().value.as_deref(), Some("debug"));
    assert_eq!(env.len(), 3);
    assert_eq!(spec.containers[0].image.as_deref(), Some("sluice:1"));
    assert_eq!(template_of(&Purpose::Preflight(None)).spec.unwrap().containers.len(), 1, "no sidecar beside a preflight");
}

#[test]
fn overrides_are_checked() {
    for (value, message) in [
        (json!({"spec": {"tolerations": [{"operator": "Exists"}]}}), ""),
        (json!({"spec": {"toleration": []}}), "no field 'spec.toleration'"),
        (json!({"spec": {"containers": [{"name": "sluice", "images": "x"}]}}), "no field 'spec.containers[0].images'"),
        (json!({"spec": {"hostNetwork": "yes"}}), "invalid type"),
    ] {
        let found = parse_overrides(&value).err().unwrap_or_default();
        assert!(if message.is_empty() { found.is_empty() } else { found.contains(message) }, "{value}: {found}");
    }
}

#[test]
fn children_are_sealed_and_owned() {
    let revision = revision(json!({}));
    let start = StartedFrom { state_id: 1, path: None };
    let one = WorkloadOptions { replicas: 1, allow_non_restored_state: false };
    let mut children = build::shared(&owner(), &revision, 2);
    children.extend([
        build::config_map(&owner(), &revision),
        build::workload(&owner(), &revision, &start, &one),
        build::preflight(&owner(), &revision, None),
    ]);
    let mut names = std::collections::BTreeSet::new();
    for child in &children {
        assert_eq!(child.object["metadata"]["annotations"]["sluice.dev/applied-hash"], child.hash.as_str());
        assert_eq!(child.object["metadata"]["labels"]["app.kubernetes.io/managed-by"], "sluice-operator");
        assert_eq!(child.object["kind"], format!("{:?}", child.kind));
        let owned = child.object["metadata"]["ownerReferences"].is_array();
        assert_eq!(owned, child.kind != build::Kind::PersistentVolumeClaim, "state outlives its deployment: {child:?}");
        assert!(names.insert((child.kind, child.name.clone())));
    }
    let stopped = build::workload(&owner(), &revision, &start, &WorkloadOptions { replicas: 0, ..one });
    let other = build::workload(&owner(), &revision, &StartedFrom { state_id: 2, path: None }, &one);
    let hashes: std::collections::BTreeSet<_> = children.iter().map(|c| &c.hash).chain([&stopped.hash, &other.hash]).collect();
    assert_eq!(hashes.len(), children.len() + 2);
    let yaml = children.iter().find(|c| c.kind == build::Kind::ConfigMap).unwrap().object["data"]["deployment.yaml"].as_str().unwrap();
    let read: sluice_crds::StreamingDeployment = serde_yaml::from_str(yaml).unwrap();
    assert_eq!(read.spec.sql.inline.as_deref(), Some("INSERT INTO a SELECT 1"));
    assert_eq!(read.spec.config["execution.checkpointing.interval"], "1000 ms");
}

#[test]
fn a_preflight_asks_the_job_that_runs() {
    let revision = revision(json!({}));
    let args = |check| template(&owner(), &revision, &Purpose::Preflight(check)).spec.unwrap().containers[0].args.clone().unwrap();
    assert_eq!(args(None), ["plan", "/etc/sluice/job/deployment.yaml"]);
    let check = args(Some(CheckState { job: "http://job-rest.ns.svc:8081".into(), allow_non_restored_state: true }));
    let job = format!("http://{}-rest.{}.svc:8081", owner().name, owner().namespace);
    assert_eq!(check, ["check", &job, "/etc/sluice/job/deployment.yaml", "--allow-non-restored-state"]);
}
