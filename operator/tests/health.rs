//! manifests/argocd/health.lua, run by a Lua of the version that Argo CD has, over objects whose status the operator has written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
mod world;

use std::path::{Path, PathBuf};

use mlua::{Lua, Table, Value as LuaValue};
use serde_json::{Value, json};
use sluice_crds::Phase;
use sluice_operator::runtime_api::RuntimeState;
use world::{World, key, spec};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/argocd")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(folder().join(file)).unwrap()
}

fn lua_value(lua: &Lua, value: &Value) -> LuaValue {
    match value {
        Value::Null => LuaValue::Nil,
        Value::Bool(b) => LuaValue::Boolean(*b),
        Value::Number(n) => LuaValue::Number(n.as_f64().unwrap()),
        Value::String(s) => LuaValue::String(lua.create_string(s).unwrap()),
        Value::Array(items) => {
            let items = items.iter().map(|v| lua_value(lua, v));
            LuaValue::Table(lua.create_sequence_from(items).unwrap())
        }
        Value::Object(map) => LuaValue::Table(lua.create_table_from(map.iter().map(|(k, v)| (k.as_str(), lua_value(lua, v)))).unwrap()),
    }
}

/// What Argo CD shows of an object.
fn health(object: &Value) -> (String, String) {
    let lua = Lua::new();
    lua.globals().set("obj", lua_value(&lua, object)).unwrap();
    let table: Table = lua.load(read("health.lua")).eval().unwrap_or_else(|e| panic!("{object}: {e}"));
    (table.get("status").unwrap(), table.get("message").unwrap())
}

fn deployment(world: &World) -> Value {
    let mut object = world.api.store().objects[&key("streamingdeployments", "job")].clone();
    object["kind"] = "StreamingDeployment".into();
    object
}

#[track_caller]
fn is(object: &Value, status: &str, says: &str) {
    let (found, message) = health(object);
    assert!(found == status && message.contains(says), "{found} '{message}', not {status} '{says}': {object}");
}

#[tokio::test]
async fn a_deployment_through_its_life() {
    let world = World::new();
    world.apply("job", &spec("INSERT INTO a SELECT 1"));
    is(&deployment(&world), "Progressing", "waits for the operator");
    world.turn("job").await.unwrap();
    is(&deployment(&world), "Progressing", "Deploy to revision 1");
    world.until_phase("job", Phase::Running).await;
    is(&deployment(&world), "Healthy", "Running");
    // An upgrade, first before the operator has seen it.
    world.apply("job", &spec("INSERT INTO a SELECT 2"));
    is(&deployment(&world), "Progressing", "waits for the operator");
    world.turn("job").await.unwrap();
    is(&deployment(&world), "Progressing", "Upgrade to revision 2");
    world.until_phase("job", Phase::Running).await;
    is(&deployment(&world), "Healthy", "");
    // It fails and starts again by itself; then it is back.
    let address = world.job_address("job-r2");
    world.runtime.with(&address, |job| job.info.state = RuntimeState::Restarting);
    world.turn("job").await.unwrap();
    is(&deployment(&world), "Degraded", "Restarting");
    world.runtime.with(&address, |job| job.info.state = RuntimeState::Running);
    world.turn("job").await.unwrap();
    is(&deployment(&world), "Healthy", "");
    // Commits do not come any more.
    world.pass(600);
    world.turn("job").await.unwrap();
    is(&deployment(&world), "Degraded", "older than three intervals");
    let now = world.now();
    world.runtime.with(&address, |job| job.info.last_commit = Some(now));
    world.turn("job").await.unwrap();
    is(&deployment(&world), "Healthy", "");
    // Suspended.
    let mut suspended = spec("INSERT INTO a SELECT 2");
    suspended["suspend"] = true.into();
    world.apply("job", &suspended);
    world.until_phase("job", Phase::Suspended).await;
    is(&deployment(&world), "Suspended", "spec.suspend is true");
}

#[tokio::test]
async fn what_is_refused_or_fails_is_degraded() {
    for (sql, says) in [("INSERT INTO a SELECT BROKEN", "there is no column 'BROKEN'"), ("INSERT INTO a SELECT CRASH", "boom")] {
        let world = World::new();
        world.apply("job", &spec("INSERT INTO a SELECT 1"));
        world.until_phase("job", Phase::Running).await;
        world.apply("job", &spec(sql));
        world.until("job", "rejected", |w| w.status("job").rejected.is_some() && w.status("job").operation.is_none()).await;
        is(&deployment(&world), "Degraded", says);
    }
    let world = World::new();
    world.apply("job", &spec("INSERT INTO a SELECT 1"));
    world.until_phase("job", Phase::Running).await;
    world.runtime.with(&world.job_address("job-r1"), |job| job.info.state = RuntimeState::Finished);
    world.until_phase("job", Phase::Finished).await;
    is(&deployment(&world), "Healthy", "Finished");
}

/// What the operator writes, shortened.
#[test]
fn other_objects() {
    let condition =
        |kind: &str, holds: &str, reason: &str, message: &str| json!({"type": kind, "status": holds, "reason": reason, "message": message});
    let cluster = |conditions: Value| json!({"kind": "SessionCluster", "metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": conditions}});
    let savepoint = |status: Value| json!({"kind": "Savepoint", "metadata": {"generation": 1}, "status": status});
    let ended = |complete: &str, failed: &str| json!([condition("Complete", complete, "x", ""), condition("Failed", failed, "x", "")]);
    for (object, status, says) in [
        (json!({"kind": "SessionCluster", "metadata": {"generation": 1}}), "Progressing", "waits for the operator"),
        (cluster(json!([condition("Ready", "True", "Ready", "")])), "Healthy", "Ready"),
        (cluster(json!([condition("Ready", "False", "Starting", "0 of 1 pods")])), "Progressing", "0 of 1 pods"),
        (
            cluster(json!([condition("Ready", "False", "Updating", ""), condition("Reconciling", "True", "Updating", "x")])),
            "Progressing",
            "Updating: x",
        ),
        (
            cluster(json!([condition("Ready", "False", "NotSupported", "m"), condition("Stalled", "True", "NotSupported", "m")])),
            "Degraded",
            "NotSupported: m",
        ),
        (savepoint(Value::Null), "Progressing", "waits for the operator"),
        (
            savepoint(json!({"phase": "Pending", "message": "waits for the job to run", "conditions": ended("False", "False")})),
            "Progressing",
            "waits for the job",
        ),
        (savepoint(json!({"phase": "InProgress", "conditions": ended("False", "False")})), "Progressing", "InProgress"),
        (savepoint(json!({"phase": "Completed", "path": "/s/1", "conditions": ended("True", "False")})), "Healthy", "/s/1"),
        (savepoint(json!({"phase": "Failed", "message": "disk full", "conditions": ended("False", "True")})), "Degraded", "disk full"),
        (savepoint(json!({"phase": "Abandoned"})), "Degraded", "Abandoned"),
        (json!({"kind": "StreamingDeployment", "metadata": {"deletionTimestamp": "t"}}), "Progressing", "deleted"),
        (
            json!({"kind": "StreamingDeployment", "metadata": {"generation": 1, "annotations": {"sluice.dev/reconcile": "paused"}}}),
            "Suspended",
            "sluice.dev/reconcile",
        ),
    ] {
        is(&object, status, says);
    }
}

#[test]
fn the_patch_of_argo_cd_holds_the_script() {
    let script: String = read("health.lua").lines().map(|l| if l.is_empty() { "\n".to_owned() } else { format!("    {l}\n") }).collect();
    let mut expected = "# What Argo CD is told of Sluice: kubectl -n argocd patch configmap argocd-cm --patch-file manifests/argocd/argocd-cm.yaml\n\
                        # Made from health.lua; to change it, change that, and run: UPDATE=1 cargo test -p sluice-operator --test health\ndata:\n"
        .to_owned();
    for kind in ["StreamingDeployment", "SessionCluster", "Savepoint"] {
        expected.push_str(&format!("  resource.customizations.health.sluice.dev_{kind}: |\n{script}"));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(folder().join("argocd-cm.yaml"), &expected).unwrap();
    }
    assert_eq!(read("argocd-cm.yaml"), expected);
    let parsed: Value = serde_yaml::from_str(&expected).unwrap();
    assert_eq!(parsed["data"].as_object().unwrap().len(), 3);
    assert!(parsed["data"].as_object().unwrap().values().all(|v| v.as_str() == Some(read("health.lua").as_str())));
}
