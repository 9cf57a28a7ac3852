//! Login with tokens of an identity provider (OAUTHBEARER with OpenID Connect, KIP-768): where a token comes from.
//!
//! librdkafka can ask for tokens itself only if it is built with libcurl; here it is told them, see [`super::token`].

use std::time::Duration;

use base64::Engine as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sluice_batch::{Error, Result};
use ureq::tls::{RootCerts, TlsConfig};

use super::token::Token;
use crate::TableOption;
use crate::http::{Answer, Endpoint, Retry, Verdict};

/// Callback handlers of Java that do what this does: Kafka's, at its places of several versions, and Strimzi's.
const HANDLERS: &[&str] = &["OAuthBearerLoginCallbackHandler", "JaasClientOauthLoginCallbackHandler"];
/// How long one request may take (`sasl.login.connect.timeout.ms` and `sasl.login.read.timeout.ms`; Java waits for ever).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries after the first; librdkafka asks again ten seconds after a failure.
const TRIES: u32 = 3;

/// Options of the login module by name.
pub(crate) type Options = Vec<(String, String)>;

/// How to get tokens.
#[derive(Clone)]
pub(crate) struct Login {
    source: Source,
    /// Sent to the broker with each token (KIP-342).
    pub extensions: Vec<(String, String)>,
    /// `sasl.oauthbearer.sub.claim.name`: the claim that names whom a token is for.
    pub subject: String,
}

#[derive(Clone)]
enum Source {
    /// A file with a token, as Kubernetes projects those of service accounts; somebody else writes it anew.
    File(String),
    Endpoint {
        endpoint: Endpoint,
        body: String,
        /// Trust stores (path and password) that are tried one after the other; `None`: the public authorities.
        trust: Vec<Option<(String, Option<String>)>>,
    },
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.place())
    }
}

impl Login {
    /// From the options of the login module and the client's properties.
    ///
    /// # Errors
    /// If something is missing, or asks for what is not done here.
    pub fn new(module: &Options, given: &[(&str, &TableOption)]) -> Result<Self> {
        let find = |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, o)| *o);
        let property = |names: &[&str]| names.iter().find_map(|n| find(n)).map(|o| o.value.trim().to_owned());
        let option = |names: &[&str]| names.iter().find_map(|n| module.iter().find(|(m, _)| m == n)).map(|(_, v)| v.clone());
        if let Some(handler) = find("sasl.login.callback.handler.class") {
            let name = handler.value.trim().rsplit('.').next().unwrap_or_default();
            if !HANDLERS.contains(&name) {
                let error = Error::unsupported(format!("the login callback handler '{}'", handler.value)).at(handler.value_span);
                return Err(error.hint(format!("{} can be used", HANDLERS.join(" and "))));
            }
        }
        let url = property(&["sasl.oauthbearer.token.endpoint.url"]).or_else(|| option(&["oauth.token.endpoint.uri"]));
        let url = url.ok_or_else(|| {
            Error::plan("OAUTHBEARER needs 'properties.sasl.oauthbearer.token.endpoint.url'")
                .hint("the URL where the identity provider gives tokens, https://… or file:///path of a token")
        })?;
        let extensions = module.iter().filter_map(|(n, v)| Some((n.strip_prefix("extension_")?.to_owned(), v.clone()))).collect();
        let subject = property(&["sasl.oauthbearer.sub.claim.name"]).unwrap_or_else(|| "sub".into());
        if let Some(path) = url.strip_prefix("file:") {
            let path = format!("/{}", path.trim_start_matches('/'));
            return Ok(Self { source: Source::File(path), extensions, subject });
        }
        if !url.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && !rest.is_empty()) {
            return Err(Error::plan(format!(
                "'properties.sasl.oauthbearer.token.endpoint.url' is '{url}'; expected: http://, https:// or file:"
            )));
        }
        let needed = |what: Option<String>, name: &str| {
            what.ok_or_else(|| Error::plan(format!("'properties.sasl.jaas.config' has no {name}")).hint(SHAPE))
        };
        let client = option(&["clientId", "oauth.client.id"])
            .or_else(|| property(&["sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"]));
        let secret = option(&["clientSecret", "oauth.client.secret"])
            .or_else(|| property(&["sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"]));
        let (client, secret) = (needed(client, "clientId")?, needed(secret, "clientSecret")?);
        let scope = option(&["scope", "oauth.scope"]).or_else(|| property(&["sasl.oauthbearer.scope"]));
        let encoded = property(&["sasl.oauthbearer.header.urlencode"]).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        // An authority of the provider's own, or that of the brokers, or a public one.
        let own = |location: &str, password: &str| option(&[location]).map(|path| (path, option(&[password])));
        let own = own("ssl.truststore.location", "ssl.truststore.password")
            .or_else(|| own("oauth.ssl.truststore.location", "oauth.ssl.truststore.password"));
        let brokers = property(&["ssl.truststore.location"]).map(|path| (path, property(&["ssl.truststore.password"])));
        let trust = match (own, brokers) {
            (Some(own), _) => vec![Some(own)],
            (None, Some(brokers)) => vec![Some(brokers), None],
            (None, None) => vec![None],
        };
        let milliseconds = |name: &str| -> Result<Option<Duration>> {
            let Some(option) = find(name) else { return Ok(None) };
            let number = option.value.trim().parse().map(Duration::from_millis);
            number.map(Some).map_err(|_| {
                Error::plan(format!("option '{}' is '{}'; expected: milliseconds", option.key, option.value)).at(option.value_span)
            })
        };
        let timeout = milliseconds("sasl.login.read.timeout.ms")?.or(milliseconds("sasl.login.connect.timeout.ms")?);
        let endpoint = Endpoint {
            url,
            method: "POST",
            headers: headers(&client, &secret, encoded),
            timeout: timeout.unwrap_or(TIMEOUT),
            retry: Retry {
                times: TRIES,
                pause: milliseconds("sasl.login.retry.backoff.ms")?.unwrap_or(Duration::from_millis(100)),
                longest: milliseconds("sasl.login.retry.backoff.max.ms")?.unwrap_or(Duration::from_secs(10)),
            },
        };
        Ok(Self { source: Source::Endpoint { endpoint, body: body(scope.as_deref()), trust }, extensions, subject })
    }

    /// Where tokens come from, for messages.
    pub fn place(&self) -> &str {
        match &self.source {
            Source::File(path) => path,
            Source::Endpoint { endpoint, .. } => endpoint.place(),
        }
    }

    /// A new token.
    ///
    /// # Errors
    /// If none is given after several tries, or what is given is none. The text has no secret in it.
    pub fn token(&self) -> Result<Token, String> {
        let text = match &self.source {
            Source::File(path) => std::fs::read_to_string(path).map_err(|e| format!("the token {path} cannot be read: {e}"))?,
            Source::Endpoint { endpoint, body, trust } => {
                fetch(endpoint, body, trust).map_err(|e| format!("no token from {}: {e}", self.place()))?
            }
        };
        Token::parse(text.trim(), &self.subject).map_err(|e| format!("what {} gives is no token: {e}", self.place()))
    }
}

const SHAPE: &str =
    "expected: org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId=\"…\" clientSecret=\"…\" scope=\"…\";";

/// The client credentials grant (RFC 6749, 4.4) as Java's client asks for it.
fn headers(client: &str, secret: &str, encoded: bool) -> Vec<(String, String)> {
    let part = |text: &str| if encoded { escaped(text) } else { text.to_owned() };
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", part(client), part(secret)));
    [
        ("authorization", format!("Basic {login}")),
        ("content-type", "application/x-www-form-urlencoded".into()),
        ("accept", "application/json".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn body(scope: Option<&str>) -> String {
    let scope = scope.map(str::trim).filter(|s| !s.is_empty()).map(|s| format!("&scope={}", escaped(s)));
    format!("grant_type=client_credentials{}", scope.unwrap_or_default())
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn fetch(endpoint: &Endpoint, body: &str, trust: &[Option<(String, Option<String>)>]) -> Result<String, String> {
    let mut failures = 0;
    loop {
        let why = match once(endpoint, body, trust)? {
            Ok(token) => return Ok(token),
            Err(why) => why,
        };
        failures += 1;
        match endpoint.retry.wait(failures) {
            Some(pause) => std::thread::sleep(pause),
            None => return Err(why),
        }
    }
}

/// The outer error stays, the inner one may pass.
fn once(endpoint: &Endpoint, body: &str, trust: &[Option<(String, Option<String>)>]) -> Result<Result<String, String>, String> {
    let mut first = None;
    for store in trust {
        let tls = TlsConfig::builder();
        let tls = match store {
            Some((path, password)) => {
                let certificates = sluice_format::keystore::trusted(path, password.as_deref()).map_err(|e| e.to_string())?;
                tls.root_certs(RootCerts::new_with_certs(&certificates))
            }
            None => tls,
        };
        match endpoint.send(&endpoint.agent_with(tls.build()), body.as_bytes()) {
            Ok(answer) => return taken(&answer),
            Err(e) => _ = first.get_or_insert(e),
        }
    }
    Ok(Err(first.unwrap_or_default()))
}

fn taken(answer: &Answer) -> Result<Result<String, String>, String> {
    let said: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    match answer.judge() {
        Verdict::Taken => match said["access_token"].as_str().or(said["id_token"].as_str()) {
            Some(token) => Ok(Ok(token.to_owned())),
            // Not the body: what it has may be secret.
            None => Err("the answer has no access_token".into()),
        },
        // RFC 6749, 5.2.
        Verdict::Refused(text) => Err(match said["error"].as_str() {
            Some(error) => format!("{error}{}", said["error_description"].as_str().map(|d| format!(" ({d})")).unwrap_or_default()),
            None => text,
        }),
        Verdict::Again { why, .. } => Ok(Err(why)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::kafka::token::tests::jwt;
    use crate::test_util::{Service, table};

    const IN_A_YEAR: &str = r#"{"sub":"cat","exp":4102444800}"#;

    fn login(module: &[(&str, &str)], properties: &[(&str, &str)]) -> Result<Login> {
        let table = table(properties, &[]);
        let given: Vec<_> = table.options.iter().map(|o| (o.key.as_str(), o)).collect();
        Login::new(&module.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(), &given)
    }

    const CLIENT: [(&str, &str); 2] = [("clientId", "me"), ("clientSecret", "hush")];

    #[test]
    fn a_token_is_asked_for() {
        let token = jwt(IN_A_YEAR);
        let answer = format!("200\r\n\r\n{{\"access_token\":\"{token}\",\"expires_in\":300}}");
        let service = Service::start(&["503", &answer]);
        let options = [CLIENT[0], CLIENT[1], ("scope", "a b"), ("extension_logicalCluster", "lkc-1")];
        let properties = [("sasl.oauthbearer.token.endpoint.url", service.url.as_str()), ("sasl.login.retry.backoff.ms", "1")];
        let login = login(&options, &properties).unwrap();
        let found = login.token().unwrap();
        assert_eq!((found.value.as_str(), found.principal.as_str(), found.until), (token.as_str(), "cat", 4_102_444_800_000));
        assert_eq!(login.extensions, [("logicalCluster".to_owned(), "lkc-1".to_owned())]);
        let requests = service.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1].body, "grant_type=client_credentials&scope=a%20b");
        let head = requests[1].head.to_ascii_lowercase();
        assert!(head.contains("authorization: basic bwu6ahvzaa==") && head.contains("x-www-form-urlencoded"), "{head}");
    }

    #[test]
    fn a_file_may_hold_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), jwt(IN_A_YEAR) + "\n").unwrap();
        let url = format!("file://{}", file.path().display());
        assert_eq!(login(&[], &[("sasl.oauthbearer.token.endpoint.url", &url)]).unwrap().token().unwrap().principal, "cat");
    }

    #[test]
    fn what_is_refused_is_said_once_and_without_secrets() {
        for (answer, wanted) in [
            ("401\r\n\r\n{\"error\":\"invalid_client\",\"error_description\":\"no such client\"}", "invalid_client (no such client)"),
            ("200\r\n\r\n{\"token\":\"hush\"}", "no access_token"),
            ("200\r\n\r\n{\"access_token\":\"hush\"}", "no token"),
            ("404\r\n\r\nnot here", "HTTP 404: not here"),
        ] {
            let service = Service::start(&[answer]);
            let error = login(&CLIENT, &[("sasl.oauthbearer.token.endpoint.url", &service.url)]).unwrap().token().unwrap_err();
            assert!(error.contains(wanted) && !error.contains("hush"), "{error}");
            assert_eq!(service.requests().len(), 1);
        }
    }

    #[test]
    fn what_is_wrong_is_said_before_a_start() {
        let url = ("sasl.oauthbearer.token.endpoint.url", "https://idp/token");
        for (module, properties, wanted) in [
            (&CLIENT[..], &[][..], "token.endpoint.url"),
            (&CLIENT[..1], &[url], "clientSecret"),
            (&CLIENT[1..], &[url], "clientId"),
            (&CLIENT[..], &[("sasl.oauthbearer.token.endpoint.url", "idp/token")], "expected: http"),
            (&CLIENT[..], &[url, ("sasl.login.callback.handler.class", "com.example.Mine")], "com.example.Mine"),
            (&CLIENT[..], &[url, ("sasl.login.retry.backoff.ms", "soon")], "milliseconds"),
        ] {
            let error = login(module, properties).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains("hush"), "{error}");
        }
        let shaded = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler";
        assert!(login(&CLIENT, &[url, ("sasl.login.callback.handler.class", shaded)]).is_ok());
        let strimzi = [("oauth.client.id", "me"), ("oauth.client.secret", "hush"), ("oauth.token.endpoint.uri", "https://idp/token")];
        assert_eq!(login(&strimzi, &[]).unwrap().place(), "idp");
    }
}
