//! An API server in memory: the few REST calls that the operator makes, with resource versions, server-side apply (simplified: one manager),
//! the status subresource, finalizers, owner references and label selectors. It can "lose power" for the operator after any write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};

/// Plural, namespace, name.
pub type Key = (String, String, String);

#[derive(Clone, Debug)]
pub enum Change {
    Is(Value),
    Gone(Value),
}

#[derive(Default)]
pub struct Store {
    pub objects: BTreeMap<Key, Value>,
    /// What was applied last, for removing what is not applied any more.
    applied: BTreeMap<Key, Value>,
    pub version: u64,
    /// All that has happened to objects, by plural.
    pub log: Vec<(String, Change)>,
    pub now: Timestamp,
    /// Writes that changed something or tried to, as `PATCH services/x`.
    pub writes: Vec<String>,
    /// Verb and resource of every request, in the words of RBAC.
    pub requests: BTreeSet<(String, String)>,
    pub events: Vec<(String, String)>,
    /// So many writes go through, then the operator is dead: every answer is lost.
    pub dies_after: Option<usize>,
    /// What the API server refuses: method and `plural` or `plural/name`, code and message.
    pub refuse: Option<(Method, String, u16, String)>,
}

#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<Store>>);

struct Path {
    key: Key,
    sub: Option<String>,
    selector: Vec<(String, String)>,
}

fn parse(uri: &http::Uri) -> Option<Path> {
    let path = uri.path().strip_prefix("/api/v1/").or_else(|| uri.path().strip_prefix("/apis/")?.splitn(3, '/').nth(2))?;
    let parts: Vec<&str> = path.split('/').collect();
    let ["namespaces", namespace, plural, rest @ ..] = &parts[..] else { return None };
    let name = rest.first().copied().unwrap_or_default();
    let selector = uri.query().unwrap_or_default().split('&').filter_map(|q| q.strip_prefix("labelSelector=")).next().unwrap_or_default();
    let selector = selector.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
    let pairs = selector.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Some(Path { key: ((*plural).into(), (*namespace).into(), name.into()), sub: rest.get(1).map(|s| (*s).to_owned()), selector: pairs })
}

fn status(code: StatusCode, reason: &str, message: &str) -> (StatusCode, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": message, "metadata": {}}),
    )
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Removes from `target` what was in `old` and is not in `new`.
fn remove_absent(target: &mut Value, old: &Value, new: &Value) {
    let (Some(map), Some(old)) = (target.as_object_mut(), old.as_object()) else { return };
    for (key, value) in old {
        match new.get(key) {
            None => drop(map.remove(key)),
            Some(inner) => {
                if let Some(target) = map.get_mut(key) {
                    remove_absent(target, value, inner);
                }
            }
        }
    }
}

impl Store {
    fn bump(&mut self, key: &Key, object: Value) -> Value {
        self.version += 1;
        let mut object = object;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let finalizers = object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if object["metadata"]["deletionTimestamp"].is_string() && !finalizers {
            self.remove(key);
        } else {
            self.objects.insert(key.clone(), object.clone());
            self.log.push((key.0.clone(), Change::Is(object.clone())));
        }
        object
    }

    /// Stores an object as a user or a controller of the cluster would.
    pub fn put(&mut self, key: &Key, mut object: Value) -> Value {
        let old = self.objects.get(key).cloned();
        let meta = &mut object["metadata"];
        meta["name"] = key.2.clone().into();
        meta["namespace"] = key.1.clone().into();
        match &old {
            None => {
                meta["uid"] = format!("uid-{}-{}", key.2, self.version).into();
                meta["creationTimestamp"] = self.now.to_string().into();
                meta["generation"] = 1.into();
            }
            Some(old) => {
                for field in ["uid", "creationTimestamp", "generation"] {
                    meta[field] = old["metadata"][field].clone();
                }
                if old["spec"] != object["spec"] {
                    object["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
                }
            }
        }
        self.bump(key, object)
    }

    /// Removes an object and what it owns.
    pub fn remove(&mut self, key: &Key) {
        self.applied.remove(key);
        let Some(mut object) = self.objects.remove(key) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.log.push((key.0.clone(), Change::Gone(object.clone())));
        let uid = object["metadata"]["uid"].clone();
        let owned: Vec<Key> = (self.objects.iter())
            .filter(|(_, o)| o["metadata"]["ownerReferences"].as_array().is_some_and(|r| r.iter().any(|r| r["uid"] == uid)))
            .map(|(k, _)| k.clone())
            .collect();
        // What has finalizers goes when they are gone.
        for key in &owned {
            self.delete(key);
        }
    }

    pub fn delete(&mut self, key: &Key) -> bool {
        let Some(mut object) = self.objects.get(key).cloned() else { return false };
        if object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()) {
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = self.now.to_string().into();
                self.bump(key, object);
            }
        } else {
            self.remove(key);
        }
        true
    }

    fn list(&self, path: &Path) -> Value {
        let matches = |o: &Value| path.selector.iter().all(|(k, v)| o["metadata"]["labels"][k] == v.as_str());
        let in_scope = |k: &Key| k.0 == path.key.0 && k.1 == path.key.1;
        let items: Vec<&Value> = self.objects.iter().filter(|(k, o)| in_scope(k) && matches(o)).map(|(_, o)| o).collect();
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.version.to_string()}, "items": items})
    }

    fn apply(&mut self, path: &Path, body: &Value) -> (StatusCode, Value) {
        let key = &path.key;
        let old = self.objects.get(key).cloned();
        if path.sub.as_deref() == Some("status") {
            let Some(mut object) = old else { return status(StatusCode::NOT_FOUND, "NotFound", "not found") };
            let uid = &body["metadata"]["uid"];
            if uid.is_string() && *uid != object["metadata"]["uid"] {
                return status(StatusCode::CONFLICT, "Conflict", "uid");
            }
            object["status"] = body["status"].clone();
            return (StatusCode::OK, self.bump(key, object));
        }
        let mut object = old.clone().unwrap_or_else(|| json!({}));
        if let Some(before) = self.applied.insert(key.clone(), body.clone()) {
            remove_absent(&mut object, &before, body);
        }
        merge(&mut object, body);
        if Some(&object) == old.as_ref() { (StatusCode::OK, object) } else { (StatusCode::OK, self.put(key, object)) }
    }

    fn write(&mut self, method: &Method, path: &Path, kind: &str, body: &Value) -> (StatusCode, Value) {
        let key = &path.key;
        let version = |o: &Value| o["metadata"]["resourceVersion"].clone();
        let stale = |old: Option<&Value>| {
            let given = version(body);
            given.is_string() && old.is_some_and(|o| version(o) != given)
        };
        match (method.as_str(), kind) {
            ("POST", _) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let key = (key.0.clone(), key.1.clone(), name);
                if key.0 == "events" {
                    let field = |f: &str| body[f].as_str().unwrap_or_default().to_owned();
                    self.events.push((field("reason"), field("note")));
                    return (StatusCode::CREATED, body.clone());
                }
                if self.objects.contains_key(&key) {
                    return status(StatusCode::CONFLICT, "AlreadyExists", "already exists");
                }
                (StatusCode::CREATED, self.put(&key, body.clone()))
            }
            ("PATCH", "application/apply-patch+yaml") => self.apply(path, body),
            ("PATCH", _) => {
                let Some(mut object) = self.objects.get(key).cloned() else {
                    return status(StatusCode::NOT_FOUND, "NotFound", "not found");
                };
                if stale(Some(&object)) {
                    return status(StatusCode::CONFLICT, "Conflict", "the object has been modified");
                }
                merge(&mut object, body);
                (StatusCode::OK, self.put(key, object))
            }
            ("PUT", _) => {
                if stale(self.objects.get(key)) {
                    return status(StatusCode::CONFLICT, "Conflict", "the object has been modified");
                }
                (StatusCode::OK, self.put(key, body.clone()))
            }
            ("DELETE", _) if self.delete(key) => {
                (StatusCode::OK, json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 200}))
            }
            _ => status(StatusCode::NOT_FOUND, "NotFound", "not found"),
        }
    }
}

impl FakeApi {
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap()
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await?.to_bytes();
                let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let kind = parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
                let (code, answer) = api.answer(&parts.method, &parts.uri, kind, &body)?;
                let bytes = serde_json::to_vec(&answer)?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Response::builder().status(code).body(Body::from(bytes))?)
            }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, method: &Method, uri: &http::Uri, kind: &str, body: &Value) -> Result<(StatusCode, Value), String> {
        let mut store = self.store();
        if store.dies_after == Some(0) {
            return Err("the operator is dead".into());
        }
        let path = parse(uri).ok_or_else(|| format!("the fake does not know {uri}"))?;
        let verb = match method.as_str() {
            "GET" if path.key.2.is_empty() => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            _ => "delete",
        };
        let creates = verb == "patch" && path.sub.is_none() && !store.objects.contains_key(&path.key);
        let resource = path.sub.as_ref().map_or(path.key.0.clone(), |sub| format!("{}/{sub}", path.key.0));
        store.requests.insert((verb.into(), resource.clone()));
        if creates {
            store.requests.insert(("create".into(), resource));
        }
        if let Some((_, _, code, message)) = store
            .refuse
            .clone()
            .filter(|(m, what, ..)| m == method && (*what == path.key.0 || *what == format!("{}/{}", path.key.0, path.key.2)))
        {
            return Ok(status(StatusCode::from_u16(code).unwrap(), "Forbidden", &message));
        }
        if method == Method::GET {
            return Ok(match store.objects.get(&path.key) {
                _ if path.key.2.is_empty() => (StatusCode::OK, store.list(&path)),
                Some(object) => (StatusCode::OK, object.clone()),
                None => status(StatusCode::NOT_FOUND, "NotFound", "not found"),
            });
        }
        if uri.query().is_some_and(|q| q.contains("dryRun=All")) {
            return Ok((StatusCode::OK, body.clone()));
        }
        let result = store.write(method, &path, kind, body);
        if path.key.0 != "events" {
            let name = body["metadata"]["name"].as_str().filter(|_| path.key.2.is_empty()).unwrap_or(&path.key.2);
            let sub = path.sub.as_deref().map(|s| format!("/{s}")).unwrap_or_default();
            let text = format!("{method} {}/{name}{sub}", path.key.0);
            store.writes.push(text);
            if let Some(left) = &mut store.dies_after {
                *left -= 1;
                if *left == 0 {
                    // It was done, and nobody hears of it.
                    return Err("the operator died".into());
                }
            }
        }
        Ok(result)
    }
}
