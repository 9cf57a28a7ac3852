//! Schema registries over TLS, and behind a login.

use std::path::Path;

use base64::Engine as _;
use sluice_tests::engine::Run;
use sluice_tests::registry::Registry;
use sluice_tests::services::Kafka;
use sluice_tests::topics;
use sluice_tests::web::{self, Answer, Request};

use crate::{Certificates, SECRET, SOON, text};

#[test]
fn a_registry_over_tls() {
    let (kafka, certificates) = (Kafka::started(), Certificates::make());
    let registry = Registry::over_tls(&certificates.path("server.crt"), &certificates.path("server.key"));
    let run = |trust: &Path, password: &str, topic: &str| {
        topics::create(&kafka.bootstrap, &[(topic.to_owned(), 1)]);
        let sql = format!(
            "CREATE TABLE b (n INT) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'format' = 'avro-confluent',
               'avro-confluent.url' = '{}', 'avro-confluent.ssl.truststore.location' = '{}', 'avro-confluent.ssl.truststore.password' = '{password}');
             INSERT INTO b VALUES (7);",
            kafka.bootstrap,
            registry.url,
            trust.display()
        );
        let output = Run::script(&sql, &["--log", "debug"]).wait(SOON);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains("hush"), "{said}");
        (output.status.success(), said, topics::committed(&kafka.bootstrap, topic))
    };
    for (name, password) in [("ca.pem", ""), ("trust.p12", SECRET)] {
        let (done, said, written) = run(&certificates.path(name), password, &format!("avro-{name}"));
        assert!(done && written.len() == 1, "{name}: {said}");
    }
    let (done, said, written) = run(&certificates.path("stranger.pem"), "", "avro-stranger");
    assert!(!done && written.is_empty() && said.contains("ertificate"), "{said}");
    let (done, said, _) = run(&certificates.path("trust.p12"), "hush-wrong", "avro-wrong");
    assert!(!done && said.contains("trust.p12"), "{said}");
}

/// Hands requests with the right login on to a registry, and refuses the others; its URL.
fn gate(registry: &Registry) -> String {
    let (address, login) = (registry.address.clone(), format!("ann:{SECRET}"));
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login));
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = web::start("127.0.0.1", move |request: &Request| {
        if request.header("authorization") != expected {
            return Answer { status: 401, headers: vec![], body: "who are you?".into() };
        }
        let (method, path) = request.line.split_once(' ').unwrap();
        let url = format!("http://{address}{}", path.split(' ').next().unwrap());
        let mut answer = match method {
            "GET" => agent.get(url).call(),
            _ => agent.post(url).header("content-type", request.header("content-type")).send(request.body.as_str()),
        }
        .unwrap();
        Answer { status: answer.status().as_u16(), headers: vec![], body: answer.body_mut().read_to_string().unwrap() }
    });
    registry.url.replace(&format!("http://{}", registry.address), &url)
}

/// Written and read back with the login in the options, as Flink's, and in the URL; with none and a wrong one the job says why.
#[test]
fn a_registry_with_a_login() {
    let (kafka, registry) = (Kafka::started(), Registry::started_on("127.0.0.1"));
    let url = gate(&registry);
    let user_info = |login: &str| {
        format!(", 'avro-confluent.basic-auth.credentials-source' = 'USER_INFO', 'avro-confluent.basic-auth.user-info' = '{login}'")
    };
    let in_url = url.replace("http://", &format!("http://ann:{SECRET}@"));
    for (name, url, login, works) in [
        ("options", &url, user_info(&format!("ann:{SECRET}")), true),
        ("url", &in_url, String::new(), true),
        ("wrong", &url, user_info("ann:hush-wrong"), false),
        ("none", &url, String::new(), false),
    ] {
        let topic = format!("login-{name}");
        topics::create(&kafka.bootstrap, &[(topic.clone(), 1)]);
        let table = format!(
            "CREATE TABLE b (n INT) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}',
               'scan.startup.mode' = 'earliest-offset', 'format' = 'avro-confluent', 'avro-confluent.url' = '{url}'{login});",
            kafka.bootstrap
        );
        let run = |statement: &str| {
            let output =
                Run::script(&format!("{table}\n{statement};"), &["--bounded", "--log", "debug", "--output", "changelog-json"]).wait(SOON);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(!said.contains("hush"), "{name}: {said}");
            (output.status.success(), said)
        };
        let (done, said) = run("INSERT INTO b VALUES (7)");
        assert_eq!(done, works, "{name}: {said}");
        if works {
            let (done, said) = run("SELECT n FROM b");
            assert!(done && said.contains("{\"n\":7}"), "{name}: {said}");
        } else {
            assert!(said.contains("401") && topics::committed(&kafka.bootstrap, &topic).is_empty(), "{name}: {said}");
        }
    }
}
