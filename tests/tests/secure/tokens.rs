//! OAUTHBEARER with tokens of an identity provider: a small one of the test's, whose tokens the broker validates by its public key.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use sluice_tests::engine::Run;
use sluice_tests::topics::{self, Record};
use sluice_tests::web::{self, Answer};

use crate::{Certificates, Lab, Properties, SECRET, SOON, briefly, copy, lab, login, options, with};

/// How long a token is good, in seconds, and how long the broker lets a connection be before it wants a new one.
const LIFE: i64 = 6;
const AGAIN: Duration = Duration::from_secs(4);

/// Where the broker finds the provider's key.
pub fn keys_url(certificates: &Certificates) -> String {
    format!("file://{}", certificates.path("keys.json").display())
}

/// Writes the provider's public key, and says how the broker validates tokens.
pub fn broker(certificates: &Certificates) -> String {
    let modulus = openssl(certificates.0.path(), &["rsa", "-in", "provider.key", "-noout", "-modulus"], b"");
    let hex = String::from_utf8(modulus).unwrap().trim().split_once('=').unwrap().1.to_owned();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    let key = json!({"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256", "n": URL_SAFE_NO_PAD.encode(bytes), "e": "AQAB"});
    std::fs::write(certificates.path("keys.json"), json!({"keys": [key]}).to_string()).unwrap();
    let package = "org.apache.kafka.common.security.oauthbearer";
    let listener = "listener.name.tokens";
    format!(
        "{listener}.sasl.enabled.mechanisms=OAUTHBEARER\n{listener}.oauthbearer.connections.max.reauth.ms={}\n\
         {listener}.oauthbearer.sasl.jaas.config={package}.OAuthBearerLoginModule required;\n\
         {listener}.oauthbearer.sasl.server.callback.handler.class={package}.OAuthBearerValidatorCallbackHandler\n\
         sasl.oauthbearer.jwks.endpoint.url={}\nsasl.oauthbearer.expected.audience=kafka\n",
        AGAIN.as_millis(),
        keys_url(certificates)
    )
}

fn openssl(folder: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A token for the audience, signed with a key.
fn token(folder: &Path, key: &str, audience: &str) -> String {
    let now = chrono::Utc::now().timestamp();
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let claims = part(json!({"iss": "test", "sub": "cat", "aud": audience, "scope": "records", "iat": now, "exp": now + LIFE}));
    let signed = format!("{head}.{claims}");
    let signature = openssl(folder, &["dgst", "-sha256", "-sign", key], signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Gives tokens to the client `me`, over TLS; by path good ones and bad ones.
struct Provider {
    url: String,
    given: Arc<AtomicUsize>,
}

impl Provider {
    fn start(lab: &Lab) -> Self {
        let given = Arc::new(AtomicUsize::new(0));
        // Not the lab: the server listens until the process ends, and what it holds would never be dropped.
        let (folder, count) = (lab.certificates.0.path().to_owned(), given.clone());
        let (certificate, key) = (lab.certificates.path("server.crt"), lab.certificates.path("server.key"));
        let url = web::start_tls("127.0.0.1", &certificate, &key, move |request| {
            let client = format!("Basic {}", STANDARD.encode(format!("me:{SECRET}")));
            let form = "grant_type=client_credentials&scope=records";
            if request.header("authorization") != client || request.body != form || !request.line.starts_with("POST ") {
                let body = json!({"error": "invalid_client", "error_description": "who are you?"}).to_string();
                return Answer { status: 401, headers: vec![], body };
            }
            count.fetch_add(1, Ordering::Relaxed);
            let (key, audience) = match request.line.split(' ').nth(1) {
                Some("/token") => ("provider.key", "kafka"),
                Some("/stranger") => ("stranger.key", "kafka"),
                _ => ("provider.key", "tea"),
            };
            let token = token(&folder, key, audience);
            Answer::json(&json!({"access_token": token, "token_type": "Bearer", "expires_in": LIFE}))
        });
        Self { url, given }
    }

    /// What a client needs to log in; the broker and the provider have certificates of one authority.
    fn properties(&self, lab: &Lab, path: &str, secret: &str) -> Properties {
        let handler = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler";
        let first = [
            ("security.protocol", "SASL_SSL".to_owned()),
            ("ssl.truststore.type", "PEM".into()),
            ("ssl.truststore.location", lab.certificates.path("ca.pem").display().to_string()),
            ("sasl.oauthbearer.token.endpoint.url", format!("{}/{path}", self.url)),
            ("sasl.login.callback.handler.class", handler.into()),
        ];
        let module = format!("clientId=\"me\" clientSecret=\"{secret}\" scope=\"records\"");
        with(&first, &login("OAUTHBEARER", "oauthbearer.OAuthBearerLoginModule", &module))
    }
}

/// Neither the client's secret nor a token: all of ours begin so.
fn assert_hidden(said: &str) {
    let basic = STANDARD.encode(format!("me:{SECRET}"));
    assert!(!said.contains(SECRET) && !said.contains(&basic) && !said.contains("eyJ"), "a secret is shown: {said}");
}

#[test]
fn tokens_of_an_identity_provider() {
    let lab = lab();
    let provider = Provider::start(&lab);
    let (written, said) = copy(&lab, lab.tokens, &provider.properties(&lab, "token", SECRET), "token-good");
    assert_eq!(written, [r#"{"n":1}"#, r#"{"n":2}"#], "{said}");
    assert_hidden(&said);
    assert!(provider.given.load(Ordering::Relaxed) > 0);
    // What is wrong is said.
    let nobody = Provider { url: "https://127.0.0.1:1".into(), given: Arc::default() };
    for (provider, path, secret, wanted) in [
        (&provider, "token", "hush-wrong", "invalid_client (who are you?)"),
        (&provider, "stranger", SECRET, "invalid_token"),
        (&provider, "tea", SECRET, "invalid_token"),
        (&nobody, "token", SECRET, "no token from 127.0.0.1:1"),
    ] {
        let properties = briefly(&provider.properties(&lab, path, secret));
        let (written, said) = copy(&lab, lab.tokens, &properties, &format!("token-{path}-{}", secret.len()));
        let error = said.lines().find(|l| l.starts_with("error")).unwrap_or_default();
        assert!(written.is_empty() && error.contains(wanted) && !said.contains("hush-wrong"), "{path}: {error}: {said}");
        assert_hidden(&said);
    }
    goes_on_with_new_tokens(&lab, &provider);
}

/// A job outlives its tokens, and the time for which the broker trusts one.
fn goes_on_with_new_tokens(lab: &Lab, provider: &Provider) {
    let bootstrap = &lab.kafka.bootstrap;
    topics::create(bootstrap, &[("long-in".into(), 1), ("long-out".into(), 1)]);
    let options = options(lab.tokens, &provider.properties(lab, "token", SECRET));
    let sql = format!(
        "CREATE TABLE a (n INT) WITH ('topic' = 'long-in', 'scan.startup.mode' = 'earliest-offset', {options});
         CREATE TABLE b (n INT) WITH ('topic' = 'long-out', {options}); INSERT INTO b SELECT n FROM a;"
    );
    let before = provider.given.load(Ordering::Relaxed);
    let mut run = Run::script(&sql, &[]);
    for n in 1..=2 {
        let record = Record { topic: "long-in".into(), timestamp: n, value: Some(format!("{{\"n\":{n}}}").into()), ..Record::default() };
        topics::produce(bootstrap, &[record]);
        let started = Instant::now();
        while topics::committed(bootstrap, "long-out").len() < n as usize {
            assert!(!run.ended() && started.elapsed() < SOON, "record {n}: {}", run.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(LIFE as u64 / n as u64));
    }
    // Reader and writer have had one at their start, and another since.
    assert!(provider.given.load(Ordering::Relaxed) >= before + 4, "{}", run.stderr());
    let output = run.stop(SOON);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_hidden(&String::from_utf8_lossy(&output.stderr));
}
