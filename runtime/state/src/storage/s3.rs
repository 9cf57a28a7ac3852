//! S3, and what speaks its protocol: options, credentials, and what its errors mean.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::ClientConfigKey;
use object_store::path::Path;
use object_store::{Error as StoreError, RetryConfig};
use sluice_batch::{Error, Result, duration};

use super::Storage;
use super::object::Objects;
use super::patience::{PATIENCE, is_without_credentials, may_pass, root};

/// Options by their names here, with `-` as `.`: Flink's documents write `s3.access-key`, Hadoop `access.key`.
const KEYS: [&str; 8] = [
    "s3.access.key",
    "s3.endpoint",
    "s3.endpoint.region",
    "s3.path.style.access",
    "s3.region",
    "s3.retry.timeout",
    "s3.secret.key",
    "s3.session.token",
];
/// What Flink and its file systems call them.
const WRITTEN: [&str; 7] =
    ["s3.access-key", "s3.endpoint", "s3.endpoint.region", "s3.path.style.access", "s3.retry.timeout", "s3.secret-key", "s3.session-token"];
const FOREIGN: [&str; 3] = ["fs.s3a.", "fs.s3.", "presto.s3."];

/// How object stores are reached: the `s3.…` settings of a job. What they leave open is in the environment (`AWS_…`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options {
    s3: BTreeMap<String, String>,
}

/// Without values: some are secrets.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.s3.keys()).finish()
    }
}

impl Options {
    /// Takes what it knows of from settings.
    ///
    /// # Errors
    /// If there is an option of S3 that has no meaning here.
    pub fn read<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut s3 = BTreeMap::new();
        for (key, value) in settings {
            if let Some(rest) = FOREIGN.iter().find_map(|prefix| key.strip_prefix(prefix)) {
                return Err(Error::unsupported(format!("'{key}'")).hint(
                    match KEYS.contains(&format!("s3.{}", rest.replace('-', ".")).as_str()) {
                        true => format!("write 's3.{rest}'"),
                        false => format!("the options of S3 are {}", WRITTEN.join(", ")),
                    },
                ));
            }
            if !key.starts_with("s3.") {
                continue;
            }
            let name = key.replace('-', ".");
            if !KEYS.contains(&name.as_str()) {
                let near = WRITTEN.iter().map(|k| (strsim::damerau_levenshtein(k, key), *k)).min();
                return Err(Error::unsupported(format!("'{key}'")).hint(match near {
                    Some((..=3, near)) => format!("did you mean '{near}'?"),
                    _ => format!("the options of S3 are {}", WRITTEN.join(", ")),
                }));
            }
            s3.insert(name, value.trim().to_owned());
        }
        Ok(Self { s3 })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.s3.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    fn patience(&self) -> Result<Duration> {
        let text = self.get("s3.retry.timeout");
        text.map_or(Ok(PATIENCE), |t| duration::parse(t).map_err(|e| e.context("'s3.retry.timeout'")))
    }

    fn path_style(&self) -> Result<Option<bool>> {
        match self.get("s3.path.style.access").map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(Error::plan("'s3.path.style.access' must be 'true' or 'false'")),
        }
    }
}

/// `bucket/prefix` as a folder. Nothing is asked yet.
///
/// # Errors
/// If that is no bucket and prefix, or the options are wrong.
pub fn open(place: &str, options: &Options) -> Result<Arc<dyn Storage>> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err(Error::plan(format!("'s3://{place}' names no bucket")).hint("s3://bucket/prefix"));
    }
    if !bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.')) {
        return Err(Error::plan(format!("'{bucket}' is no name of a bucket")).hint("it has small letters, digits, '-' and '.'"));
    }
    let segments: Vec<&str> = prefix.split('/').filter(|s| !s.is_empty()).collect();
    if let Some(dots) = segments.iter().find(|s| matches!(**s, "." | "..")) {
        return Err(Error::plan(format!("'s3://{place}': '{dots}' has no meaning in the name of an object")));
    }
    let prefix = Path::parse(segments.join("/")).map_err(|e| Error::plan(format!("'s3://{place}': {e}")))?;
    let mut builder = AmazonS3Builder::from_env();
    for (key, option) in [
        ("s3.access.key", AmazonS3ConfigKey::AccessKeyId),
        ("s3.secret.key", AmazonS3ConfigKey::SecretAccessKey),
        ("s3.session.token", AmazonS3ConfigKey::Token),
        ("s3.endpoint.region", AmazonS3ConfigKey::Region),
        ("s3.region", AmazonS3ConfigKey::Region),
    ] {
        if let Some(value) = options.get(key) {
            builder = builder.with_config(option, value);
        }
    }
    let given = |key: AmazonS3ConfigKey| builder.get_config_value(&key).filter(|v| !v.is_empty());
    if given(AmazonS3ConfigKey::AccessKeyId).is_some() != given(AmazonS3ConfigKey::SecretAccessKey).is_some() {
        return Err(Error::plan("an access key without its secret key, or the other way round")
            .hint("set 's3.access-key' and 's3.secret-key', or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
    }
    let of_environment = given(AmazonS3ConfigKey::S3Endpoint).or_else(|| given(AmazonS3ConfigKey::Endpoint));
    let endpoint = options.get("s3.endpoint").map(str::to_owned).or(of_environment);
    let virtual_hosted = match (options.path_style()?, given(AmazonS3ConfigKey::VirtualHostedStyleRequest)) {
        (Some(path_style), _) => !path_style,
        (None, Some(text)) => text.eq_ignore_ascii_case("true"),
        // Servers other than AWS's seldom have a name for each bucket. Certificates are not for names with more dots.
        (None, None) => endpoint.is_none() && !bucket.contains('.'),
    };
    let secrets = [AmazonS3ConfigKey::AccessKeyId, AmazonS3ConfigKey::SecretAccessKey, AmazonS3ConfigKey::Token];
    let secrets: Vec<String> = secrets.into_iter().filter_map(given).collect();
    let (patient, timeout) = (given(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout)).is_some(), "15 seconds");
    let shown = endpoint.clone().unwrap_or_else(|| {
        let region = given(AmazonS3ConfigKey::Region).or_else(|| given(AmazonS3ConfigKey::DefaultRegion));
        format!("AWS S3 in {}", region.as_deref().unwrap_or("us-east-1"))
    });
    if let Some(endpoint) = &endpoint {
        let endpoint = endpoint_of(endpoint, virtual_hosted.then_some(bucket))?;
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    if !patient {
        builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), timeout);
    }
    // The TLS library of the rest of the engine. That it is set already is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = builder
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(virtual_hosted)
        // Requests are repeated by `patience`, which knows what they mean.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    let patience = options.patience()?;
    let explainer = Explainer { bucket: bucket.to_owned(), endpoint: shown, secrets, patience };
    let store = builder.build().map_err(|e| Error::plan(explainer.redact(format!("'s3://{place}': {}", root(&e)))))?;
    let explain = Arc::new(move |what: &str, error: &StoreError| explainer.explain(what, error));
    Ok(Arc::new(Objects { store: Arc::new(store), root: format!("s3://{bucket}"), prefix, explain, patience }))
}

/// An endpoint with its scheme; the bucket's own, if requests name the bucket in the host.
fn endpoint_of(endpoint: &str, bucket: Option<&str>) -> Result<String> {
    let endpoint = if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    let (scheme, host) = endpoint.split_once("://").unwrap_or_default();
    let host = host.trim_end_matches('/');
    if !["http", "https"].contains(&scheme) || host.is_empty() || host.contains('@') {
        return Err(Error::plan("'s3.endpoint' must be like https://s3.example.com or http://host:9000"));
    }
    Ok(match bucket {
        Some(bucket) if !host.starts_with(&format!("{bucket}.")) => format!("{scheme}://{bucket}.{host}"),
        _ => format!("{scheme}://{host}"),
    })
}

struct Explainer {
    bucket: String,
    endpoint: String,
    /// No error has them.
    secrets: Vec<String>,
    patience: Duration,
}

const KEYS_HINT: &str = "check 's3.access-key' and 's3.secret-key', or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and the clock";
/// There is no such access key: S3, and Versity's gateway, for which it is "not found".
const UNKNOWN_KEY: [&str; 2] = ["InvalidAccessKeyId", "XAdminUserNotFound"];
const REGION_HINT: &str = "set 's3.endpoint.region' or AWS_REGION to the bucket's";

impl Explainer {
    fn explain(&self, what: &str, error: &StoreError) -> Error {
        let text = error.to_string();
        let tag = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.to_owned())
        };
        let (code, message) = (tag("Code").unwrap_or_default(), tag("Message").unwrap_or_default());
        let Self { bucket, endpoint, .. } = self;
        // Not all requests tell it by the kind of the error.
        let refused = matches!(error, StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. })
            || ["status code: 401", "status code: 403"].iter().any(|t| text.contains(t))
            || UNKNOWN_KEY.contains(&code.as_str());
        let (said, hint) = match code.as_str() {
            "NoSuchBucket" => (format!("there is no bucket '{bucket}' at {endpoint}"), "make the bucket, or correct its name".to_owned()),
            "AccessDenied" | "AllAccessDisabled" => (
                format!("{endpoint} denies access"),
                format!("it takes s3:ListBucket on '{bucket}' and s3:GetObject, s3:PutObject, s3:DeleteObject on what is in it"),
            ),
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
                (format!("the bucket '{bucket}' is in another region ({code})"), REGION_HINT.to_owned())
            }
            _ if text.contains("redirect") => (format!("the bucket '{bucket}' is in another region"), REGION_HINT.to_owned()),
            _ if is_without_credentials(&text) => (format!("no credentials for {endpoint}"), KEYS_HINT.to_owned()),
            "" if refused => (format!("{endpoint} refuses the credentials, or denies access"), KEYS_HINT.to_owned()),
            _ if refused => (format!("{endpoint} refuses the credentials ({code}: {message})"), KEYS_HINT.to_owned()),
            "" if may_pass(error) => {
                let hint = "check 's3.endpoint', the network, and whether the server runs".to_owned();
                (format!("{endpoint} has not answered for {} s: {}", self.patience.as_secs_f64(), root(error)), hint)
            }
            "" => (format!("{endpoint} answers: {}", root(error).chars().take(300).collect::<String>()), String::new()),
            _ => (format!("{endpoint} answers {code}: {message}"), String::new()),
        };
        let error = Error::runtime(self.redact(format!("{what}: {said}")));
        if hint.is_empty() { error } else { error.hint(hint) }
    }

    fn redact(&self, mut text: String) -> String {
        for secret in self.secrets.iter().filter(|s| s.len() > 3) {
            text = text.replace(secret.as_str(), "***");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_known_or_errors() {
        let flink = [
            ("s3.endpoint", "http://127.0.0.1:9000"),
            ("s3.access-key", "me"),
            ("s3.secret-key", "hush"),
            ("s3.path.style.access", "true"),
            ("pipeline.name", "x"),
        ];
        let options = Options::read(flink).unwrap();
        assert_eq!(options, Options::read(flink.map(|(k, v)| (if k == "s3.access-key" { "s3.access.key" } else { k }, v))).unwrap());
        assert!(!format!("{options:?}").contains("hush"));
        for (key, text) in [
            ("s3.acess-key", "did you mean 's3.access-key'"),
            ("s3.entropy.key", "s3.endpoint, s3.endpoint.region"),
            ("fs.s3a.access.key", "write 's3.access.key'"),
            ("fs.s3a.threads.max", "the options of S3"),
        ] {
            let error = Options::read([(key, "1")]).unwrap_err().to_string();
            assert!(error.contains(text), "{key}: {error}");
        }
    }

    #[test]
    fn wrong_values_are_errors_without_secrets() {
        let error = |pairs: &[(&str, &str)]| match open("bucket", &Options::read(pairs.iter().copied()).unwrap()) {
            Ok(_) => "fine".to_owned(),
            Err(e) => e.to_string(),
        };
        assert!(error(&[("s3.path.style.access", "yes")]).contains("'true' or 'false'"));
        assert!(error(&[("s3.endpoint", "ftp://host")]).contains("must be like"));
        let half = error(&[("s3.secret-key", "hush-hush")]);
        assert!(half.contains("without its secret key") && !half.contains("hush"), "{half}");
        assert_eq!(error(&[("s3.access-key", "me"), ("s3.secret-key", "hush-hush")]), "fine");
        assert_eq!(endpoint_of("s3.example.com", Some("b")).unwrap(), "https://b.s3.example.com");
        assert_eq!(endpoint_of("http://b.host:1/", Some("b")).unwrap(), "http://b.host:1");
        assert_eq!(endpoint_of("http://host:1", None).unwrap(), "http://host:1");
    }

    #[test]
    fn errors_say_what_to_do() {
        let explainer =
            Explainer { bucket: "b".into(), endpoint: "http://e".into(), secrets: vec!["hush-hush".into()], patience: PATIENCE };
        let source = |body: &str| -> Box<dyn std::error::Error + Send + Sync> { body.to_owned().into() };
        let xml = |code: &str| format!("status: 403 <Error><Code>{code}</Code><Message>key hush-hush</Message></Error>");
        for (error, text) in [
            (StoreError::NotFound { path: "p".into(), source: source(&xml("NoSuchBucket")) }, "there is no bucket 'b' at http://e"),
            (
                StoreError::PermissionDenied { path: "p".into(), source: source(&xml("SignatureDoesNotMatch")) },
                "(SignatureDoesNotMatch: key ***)",
            ),
            (StoreError::PermissionDenied { path: "p".into(), source: source(&xml("AccessDenied")) }, "s3:PutObject"),
            (
                StoreError::Generic { store: "S3", source: source("status code: 403 Forbidden <Code>InvalidAccessKeyId</Code>") },
                "refuses the credentials (Inv",
            ),
            (StoreError::Generic { store: "S3", source: source("status code: 503 Service Unavailable") }, "has not answered for 30 s"),
            (StoreError::Generic { store: "S3", source: source("Received redirect without LOCATION") }, "AWS_REGION"),
            (StoreError::Generic { store: "S3", source: source("http://169.254.169.254/latest/api/token") }, "no credentials for http://e"),
        ] {
            let said = explainer.explain("cannot read s3://b/p", &error).to_string();
            assert!(said.starts_with("cannot read s3://b/p: ") && said.contains(text) && !said.contains("hush"), "{said}");
        }
    }
}
