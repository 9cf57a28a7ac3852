//! A client of Confluent's schema registry: schemas by id, and ids for schemas (`GET /schemas/ids/{id}`, `POST /subjects/{subject}/versions`).

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use sluice_batch::{Error, Result};

use crate::{FormatOptions, keystore};

/// How long a registry that does not answer is asked again.
const DEADLINE: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Where the registry is and how to sign in.
#[derive(Clone, Debug)]
pub(crate) struct RegistryOptions {
    /// Any of them will do.
    urls: Vec<String>,
    /// The value of the header `Authorization`.
    authorization: Option<String>,
    /// What its certificate is checked with, if not the public authorities; what it checks us with.
    trust: Option<Store>,
    key: Option<Store>,
    deadline: Duration,
}

/// A file and its password. Read when the registry is first called: a plan needs no files.
#[derive(Clone)]
struct Store {
    path: String,
    password: Option<String>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

impl RegistryOptions {
    /// # Errors
    /// If there is no URL, or an option asks for what the client cannot do.
    pub fn new(options: &FormatOptions) -> Result<Self> {
        let prefix = &options.prefix;
        if let Some((key, _)) = options.with_prefix("properties.").first() {
            let full = format!("properties.{key}");
            let span = options.get(&full).map_or(options.span, |o| o.span);
            return Err(Error::unsupported(format!("option '{prefix}{full}'")).at(span));
        }
        let given = options.required("url")?;
        let mut urls = vec![];
        let mut in_url = None;
        for url in given.split(',').map(|u| u.trim().trim_end_matches('/')) {
            let Some((scheme, rest)) = url.split_once("://").filter(|(s, r)| matches!(*s, "http" | "https") && !r.is_empty()) else {
                let span = options.get("url").map_or(options.span, |o| o.span);
                return Err(Error::plan(format!("option '{prefix}url' is '{url}'; expected: http:// or https:// and a host")).at(span));
            };
            match rest.split_once('@') {
                Some((user, host)) => {
                    in_url = Some(user.to_owned());
                    urls.push(format!("{scheme}://{host}"));
                }
                None => urls.push(url.to_owned()),
            }
        }
        let store = |kind: &str| {
            let path = options.string(&format!("ssl.{kind}.location"))?;
            Some(Store { path, password: options.string(&format!("ssl.{kind}.password")) })
        };
        let (trust, key) = (store("truststore"), store("keystore"));
        Ok(Self { urls, authorization: authorization(options, in_url)?, trust, key, deadline: DEADLINE })
    }

    #[cfg(test)]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }
}

fn authorization(options: &FormatOptions, in_url: Option<String>) -> Result<Option<String>> {
    let user = match options.choice("basic-auth.credentials-source", &["USER_INFO", "URL", "SASL_INHERIT"])? {
        "USER_INFO" => options.string("basic-auth.user-info").or(in_url),
        "URL" => in_url,
        _ => {
            let span = options.get("basic-auth.credentials-source").map_or(options.span, |o| o.span);
            return Err(Error::unsupported("'basic-auth.credentials-source' = 'SASL_INHERIT'").at(span));
        }
    };
    options.choice("bearer-auth.credentials-source", &["STATIC_TOKEN"])?;
    let token = options.string("bearer-auth.token");
    Ok(match (token, user) {
        (Some(token), _) => Some(format!("Bearer {token}")),
        (None, Some(user)) => Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user))),
        (None, None) => None,
    })
}

pub(crate) struct Registry {
    options: Box<RegistryOptions>,
    agent: OnceLock<ureq::Agent>,
}

/// Why a call failed, and whether it is worth another try.
struct Failure {
    message: String,
    again: bool,
}

impl Registry {
    pub fn new(options: RegistryOptions) -> Self {
        Self { options: Box::new(options), agent: OnceLock::new() }
    }

    /// The client, made when it is first needed.
    fn agent(&self) -> Result<&ureq::Agent> {
        if let Some(agent) = self.agent.get() {
            return Ok(agent);
        }
        let mut tls = ureq::tls::TlsConfig::builder();
        if let Some(Store { path, password }) = &self.options.trust {
            tls = tls.root_certs(ureq::tls::RootCerts::new_with_certs(&keystore::trusted(path, password.as_deref())?));
        }
        if let Some(Store { path, password }) = &self.options.key {
            tls = tls.client_cert(Some(keystore::identity(path, password.as_deref())?.into_client_cert()));
        }
        let config = ureq::Agent::config_builder().timeout_global(Some(CALL_TIMEOUT)).http_status_as_error(false).tls_config(tls.build());
        Ok(self.agent.get_or_init(|| config.build().new_agent()))
    }

    /// The text of the schema with an id.
    ///
    /// # Errors
    /// If there is none, it is no Avro schema, or the registry does not answer in time.
    pub fn schema(&self, id: u32) -> Result<String> {
        let what = format!("fetching schema {id}");
        let answer = self.call(&what, &format!("/schemas/ids/{id}"), None)?;
        let kind = answer.get("schemaType").and_then(Value::as_str).unwrap_or("AVRO");
        if kind != "AVRO" {
            return Err(Error::runtime(format!("{what}: the schema is of type {kind}, not AVRO")));
        }
        if answer.get("references").and_then(Value::as_array).is_some_and(|r| !r.is_empty()) {
            return Err(Error::unsupported(format!("{what}: an Avro schema with references")).into_runtime());
        }
        let schema = answer.get("schema").and_then(Value::as_str);
        schema.map(str::to_owned).ok_or_else(|| Error::runtime(format!("{what}: the registry's answer has no schema")))
    }

    /// Registers a schema under a subject, or finds it there, and gives its id.
    ///
    /// # Errors
    /// If the registry refuses it (not compatible) or does not answer in time.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let what = format!("registering the schema of subject '{subject}'");
        let answer = self.call(&what, &format!("/subjects/{}/versions", encode_path(subject)), Some(json!({ "schema": schema })))?;
        let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| Error::runtime(format!("{what}: the registry's answer has no id")))
    }

    /// Calls any of the registry's URLs until one answers or time is up.
    fn call(&self, what: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let mut last = None;
            for url in &self.options.urls {
                match self.once(&format!("{url}{path}"), body.as_ref()) {
                    Ok(answer) => return Ok(answer),
                    Err(f) if !f.again => return Err(Error::runtime(format!("schema registry {url}: {what}: {}", f.message))),
                    Err(f) => last = Some((url, f.message)),
                }
            }
            if start.elapsed() + pause > self.options.deadline {
                let (url, message) = last.unwrap_or((&self.options.urls[0], String::new()));
                let seconds = self.options.deadline.as_secs();
                return Err(Error::runtime(format!("schema registry {url}: {what}: no answer within {seconds} s: {message}")));
            }
            tracing::warn!(what, error = last.map(|(_, m)| m), "schema registry does not answer, trying again");
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn once(&self, url: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let authorization = self.options.authorization.as_deref();
        let agent = self.agent().map_err(|e| Failure { message: e.to_string(), again: false })?;
        let response = match body {
            Some(body) => {
                let request = agent.post(url).header("Accept", CONTENT_TYPE).header("Content-Type", CONTENT_TYPE);
                let request = if let Some(a) = authorization { request.header("Authorization", a) } else { request };
                request.send(body.to_string())
            }
            None => {
                let request = agent.get(url).header("Accept", CONTENT_TYPE);
                let request = if let Some(a) = authorization { request.header("Authorization", a) } else { request };
                request.call()
            }
        };
        let mut response = response.map_err(|e| Failure { message: e.to_string(), again: true })?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|e| Failure { message: e.to_string(), again: true })?;
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        if status == 200 {
            return answer.ok_or_else(|| Failure { message: "the answer is no JSON".to_owned(), again: false });
        }
        let said = answer.as_ref().and_then(|a| a.get("message")).and_then(Value::as_str).unwrap_or("");
        Err(Failure { message: format!("HTTP {status} {said}"), again: status >= 500 || matches!(status, 408 | 429) })
    }
}

/// A subject in a URL: everything but unreserved characters as `%XX`.
fn encode_path(text: &str) -> String {
    let one = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}
