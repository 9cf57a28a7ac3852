//! Kafka and the schema registry as companies run them: TLS, client certificates, SASL; with the Java client's property names. What is
//! secret is in no message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod registries;
mod secrets;
mod tokens;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sluice_tests::engine::Run;
use sluice_tests::services::{Further, Kafka, free_port};
use sluice_tests::topics::{self, Record};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);
const SECRET: &str = "hush-hush";

/// Authorities, certificates and stores, made with OpenSSL and keytool as users make theirs.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Self {
        let this = Self(TempDir::new().unwrap());
        let authority =
            |name: &str| format!("openssl req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -subj /CN={name} -days 2");
        let signed = |name: &str, names: &str| {
            format!(
                "openssl req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name} && printf 'subjectAltName={names}' > {name}.ext && \
                 openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile {name}.ext -out {name}.crt && \
                 cat {name}.key {name}.crt > {name}.both.pem"
            )
        };
        for line in [
            authority("ca"),
            authority("stranger"),
            authority("provider"),
            signed("server", "IP:127.0.0.1"),
            signed("client", "DNS:client"),
            format!("openssl pkcs12 -export -inkey client.key -in client.crt -certfile ca.pem -out client.p12 -passout pass:{SECRET}"),
            // With RC2 and 3DES, as Java 8 made them.
            format!(
                "keytool -J-Dkeystore.pkcs12.legacy -importkeystore -noprompt -srckeystore client.p12 -srcstorepass {SECRET} \
                 -destkeystore client-old.p12 -deststoretype PKCS12 -deststorepass {SECRET}"
            ),
            format!("keytool -importcert -noprompt -alias ca -file ca.pem -keystore trust.p12 -storetype PKCS12 -storepass {SECRET}"),
        ] {
            let output = Command::new("sh").arg("-c").arg(&line).current_dir(this.0.path()).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

struct Lab {
    kafka: Kafka,
    certificates: Certificates,
    tls: u16,
    mutual: u16,
    sasl: u16,
    /// Takes the tokens of [`tokens::Provider`].
    tokens: u16,
}

fn lab() -> Lab {
    let certificates = Certificates::make();
    let [tls, mutual, sasl, tokens] = [free_port(), free_port(), free_port(), free_port()];
    let module = |name: &str| format!("org.apache.kafka.common.security.{name}");
    let properties = format!(
        "ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
         listener.name.mutual.ssl.client.auth=required\nlistener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n\
         listener.name.sasl.plain.sasl.jaas.config={} required user_ann=\"{SECRET}\";\n\
         listener.name.sasl.scram-sha-256.sasl.jaas.config={scram} required;\nlistener.name.sasl.scram-sha-512.sasl.jaas.config={scram} required;\n\
         listener.name.sasl.oauthbearer.sasl.jaas.config={} required unsecuredLoginStringClaim_sub=\"broker\";\n",
        certificates.path("server.both.pem").display(),
        certificates.path("ca.pem").display(),
        module("plain.PlainLoginModule"),
        module("oauthbearer.OAuthBearerLoginModule"),
        scram = module("scram.ScramLoginModule"),
    ) + &tokens::broker(&certificates);
    let users = ["256", "512"].map(|bits| format!("SCRAM-SHA-{bits}=[name=ben,password={SECRET}]"));
    let further = Further {
        listeners: vec![
            ("TLS", tls, tls, "SSL"),
            ("MUTUAL", mutual, mutual, "SSL"),
            ("SASL", sasl, sasl, "SASL_SSL"),
            ("TOKENS", tokens, tokens, "SASL_SSL"),
        ],
        properties,
        format: users.into_iter().flat_map(|user| ["--add-scram".to_owned(), user]).collect(),
        system: vec![format!("org.apache.kafka.sasl.oauthbearer.allowed.urls={}", tokens::keys_url(&certificates))],
    };
    Lab { kafka: Kafka::started_with(&further), certificates, tls, mutual, sasl, tokens }
}

/// Properties by name, without the prefix.
type Properties = Vec<(&'static str, String)>;

fn with(first: &[(&'static str, String)], more: &[(&'static str, String)]) -> Properties {
    first.iter().chain(more).cloned().collect()
}

/// How long a client that is not to get in tries.
const BRIEFLY: [(&str, &str); 1] = [("default.api.timeout.ms", "2500")];

fn briefly(properties: &Properties) -> Properties {
    with(properties, &BRIEFLY.map(|(name, value)| (name, value.to_owned())))
}

fn is_brief(properties: &Properties) -> bool {
    properties.iter().any(|(name, _)| *name == BRIEFLY[0].0)
}

fn options(port: u16, properties: &Properties) -> String {
    let patience = if is_brief(properties) { "" } else { ", 'properties.default.api.timeout.ms' = '10000'" };
    let properties: String = properties.iter().map(|(key, value)| format!(", 'properties.{key}' = '{value}'")).collect();
    format!("'connector' = 'kafka', 'format' = 'json', 'properties.bootstrap.servers' = '127.0.0.1:{port}'{patience}{properties}")
}

/// Reads a topic and writes another exactly once, both by the listener. Answers what is written and what was said.
fn copy(lab: &Lab, port: u16, properties: &Properties, name: &str) -> (Vec<String>, String) {
    let (from, to) = (format!("{name}-in"), format!("{name}-out"));
    topics::create(&lab.kafka.bootstrap, &[(from.clone(), 1), (to.clone(), 1)]);
    let record = |n: i64| Record { topic: from.clone(), timestamp: n, value: Some(format!("{{\"n\":{n}}}").into()), ..Record::default() };
    topics::produce(&lab.kafka.bootstrap, &[record(1), record(2)]);
    let guarantee = format!("'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{name}', ");
    // A transaction waits longer for its coordinator.
    let guarantee = if is_brief(properties) { String::new() } else { guarantee };
    let options = options(port, properties);
    let sql = format!(
        "CREATE TABLE a (n INT) WITH ('topic' = '{from}', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', {options});
         CREATE TABLE b (n INT) WITH ('topic' = '{to}', {guarantee}{options});
         INSERT INTO b SELECT n FROM a;"
    );
    let planned = Run::start(&["plan", &plan_file(&lab.certificates, name, &sql)]).wait(SOON);
    assert!(planned.status.success(), "{name}: {}", String::from_utf8_lossy(&planned.stderr));
    let started = std::time::Instant::now();
    let output = Run::script(&sql, &["--log", "debug"]).wait(SOON);
    eprintln!("  {name}: {:.1?}", started.elapsed());
    let said = format!("{}{}{}", text(&output.stdout), text(&output.stderr), text(&planned.stdout) + &text(&planned.stderr));
    assert!(!said.contains(SECRET), "{name}: the secret is shown: {said}");
    let written = topics::committed(&lab.kafka.bootstrap, &to).into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect();
    (written, said)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn plan_file(certificates: &Certificates, name: &str, sql: &str) -> String {
    let path = certificates.path(&format!("{name}.sql"));
    std::fs::write(&path, sql).unwrap();
    path.display().to_string()
}

fn login(mechanism: &str, module: &str, options: &str) -> [(&'static str, String); 2] {
    let module = format!("org.apache.kafka.common.security.{module} required {options};");
    [("sasl.mechanism", mechanism.to_owned()), ("sasl.jaas.config", module)]
}

#[test]
fn listeners_of_all_kinds() {
    let lab = lab();
    let file = |name: &str| lab.certificates.path(name).display().to_string();
    let tls = |protocol: &str| {
        vec![("security.protocol", protocol.to_owned()), ("ssl.truststore.type", "PEM".into()), ("ssl.truststore.location", file("ca.pem"))]
    };
    let (ssl, sasl) = (tls("SSL"), tls("SASL_SSL"));
    let trust = |name: &str, kind: &str| {
        let store =
            [("ssl.truststore.location", file(name)), ("ssl.truststore.type", kind.to_owned()), ("ssl.truststore.password", SECRET.into())];
        with(&[("security.protocol", "SSL".into())], &store)
    };
    let key = |name: &str, kind: &str| {
        with(
            &ssl,
            &[("ssl.keystore.location", file(name)), ("ssl.keystore.type", kind.to_owned()), ("ssl.keystore.password", SECRET.into())],
        )
    };
    let user = |name: &str, password: &str| format!("username=\"{name}\" password=\"{password}\"");
    let plain = |password: &str| with(&sasl, &login("PLAIN", "plain.PlainLoginModule", &user("ann", password)));
    let scram =
        |bits: &str, password: &str| with(&sasl, &login(&format!("SCRAM-SHA-{bits}"), "scram.ScramLoginModule", &user("ben", password)));
    let token = with(&sasl, &login("OAUTHBEARER", "oauthbearer.OAuthBearerLoginModule", "unsecuredLoginStringClaim_sub=\"cat\""));
    for (name, port, properties) in [
        ("tls-pem", lab.tls, ssl.clone()),
        ("tls-pkcs12", lab.tls, trust("trust.p12", "PKCS12")),
        ("mutual-pem", lab.mutual, key("client.both.pem", "PEM")),
        ("mutual-pkcs12", lab.mutual, key("client.p12", "PKCS12")),
        ("mutual-pkcs12-old", lab.mutual, key("client-old.p12", "PKCS12")),
        ("plain", lab.sasl, plain(SECRET)),
        ("scram-256", lab.sasl, scram("256", SECRET)),
        ("scram-512", lab.sasl, scram("512", SECRET)),
        ("token", lab.sasl, token),
    ] {
        let (written, said) = copy(&lab, port, &properties, name);
        assert_eq!(written, [r#"{"n":1}"#, r#"{"n":2}"#], "{name}: {said}");
    }
    // What is wrong is said.
    for (name, port, properties, wanted) in [
        ("stranger", lab.tls, trust("stranger.pem", "PEM"), "certificate"),
        ("no-key", lab.mutual, ssl.clone(), "certificate"),
        ("wrong-plain", lab.sasl, plain("hush-wrong"), "uthentication failed"),
        ("wrong-scram", lab.sasl, scram("512", "hush-wrong"), "uthentication failed"),
        ("no-file", lab.tls, trust("nothing.p12", "PKCS12"), "nothing.p12"),
    ] {
        let (written, said) = copy(&lab, port, &briefly(&properties), name);
        assert!(written.is_empty() && said.contains(wanted) && !said.contains("hush-wrong"), "{name}: {said}");
    }
}
