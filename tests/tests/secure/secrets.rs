//! What is secret is in nothing that a job says: a job with all kinds of credentials, given as Secrets and as variables, that runs, fails, is
//! asked, and is planned.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use sluice_tests::engine::{Run, file};
use sluice_tests::postgres::{PASSWORD, Postgres};
use sluice_tests::registry::Registry;
use sluice_tests::services::free_port;
use sluice_tests::slack::{Slack, TOKEN};
use sluice_tests::topics::{self, Record};

use crate::{Lab, SECRET, SOON, lab};

const LOGIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"ann\" password=\"hush-hush\";";

fn assert_hidden(what: &str, said: &str) {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("me:{SECRET}"));
    // The token has it, too.
    for secret in [SECRET, PASSWORD, &PASSWORD.replace('%', "%25"), &basic] {
        if let Some(at) = said.find(secret) {
            let from = said[..at].rfind('\n').map_or(0, |n| n + 1);
            panic!("{what} shows {secret}: {}", said[from..].lines().next().unwrap_or_default());
        }
    }
}

struct World {
    lab: Lab,
    registry: Registry,
    postgres: Postgres,
    slack: Slack,
}

impl World {
    /// The secrets by name.
    fn values(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sasl", LOGIN.to_owned()),
            ("store", SECRET.to_owned()),
            ("registry", format!("me:{SECRET}")),
            ("postgres", PASSWORD.to_owned()),
            ("database", self.postgres.url()),
            ("slack", TOKEN.to_owned()),
        ]
    }

    /// Reads Kafka with a password, and writes Kafka with a registry, PostgreSQL and Slack. `reference`: how a secret is named.
    fn sql(&self, topic: &str, state: &Path, reference: &dyn Fn(&str) -> String) -> String {
        let trust = self.lab.certificates.path("trust.p12").display().to_string();
        let kafka = format!(
            "'connector' = 'kafka', 'properties.bootstrap.servers' = '127.0.0.1:{}', 'properties.security.protocol' = 'SASL_SSL',
             'properties.sasl.mechanism' = 'PLAIN', 'properties.sasl.jaas.config' = '{}', 'properties.ssl.truststore.location' = '{trust}',
             'properties.ssl.truststore.type' = 'PKCS12', 'properties.ssl.truststore.password' = '{}'",
            self.lab.sasl,
            reference("sasl"),
            reference("store"),
        );
        let registry = format!(
            "'format' = 'avro-confluent', 'avro-confluent.url' = '{}', 'avro-confluent.ssl.truststore.location' = '{trust}',
             'avro-confluent.ssl.truststore.password' = '{}', 'avro-confluent.basic-auth.credentials-source' = 'USER_INFO',
             'avro-confluent.basic-auth.user-info' = '{}'",
            self.registry.url,
            reference("store"),
            reference("registry"),
        );
        let (place, slack) = (self.postgres.place(), &self.slack.url);
        format!(
            "SET 'execution.checkpointing.dir' = '{}'; SET 'pipeline.name' = '{topic}'; SET 'execution.checkpointing.interval' = '200 ms';
             SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.attempts' = '1000';
             SET 'restart-strategy.fixed-delay.delay' = '500 ms';
             CREATE TABLE a (n INT) WITH ('topic' = '{topic}-in', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json', {kafka});
             CREATE TABLE b (n INT) WITH ('topic' = '{topic}-out', {registry}, {kafka});
             CREATE TABLE c (n INT) WITH ('connector' = 'jdbc', 'url' = '{place}', 'username' = 'postgres', 'password' = '{}', 'table-name' = 'seen');
             CREATE TABLE e (n INT) WITH ('connector' = 'jdbc', 'url' = '{}', 'table-name' = 'more');
             CREATE TABLE d (channel_id STRING, message STRING) WITH ('connector' = 'slack', 'api.url' = '{slack}', 'token' = '{}');
             INSERT INTO b SELECT n FROM a; INSERT INTO c SELECT n FROM a; INSERT INTO e SELECT n FROM a; INSERT INTO d SELECT 'C1', 'n is ' || CAST(n AS STRING) FROM a;",
            state.display(),
            reference("postgres"),
            reference("database"),
            reference("slack"),
        )
    }

    fn send(&self, topic: &str, n: i64) {
        let value = Some(format!("{{\"n\":{n}}}").into());
        topics::produce(&self.lab.kafka.bootstrap, &[Record { topic: format!("{topic}-in"), timestamp: n, value, ..Record::default() }]);
    }

    fn texts(&self) -> Vec<String> {
        self.slack.messages().into_iter().map(|(_, text)| text).collect()
    }
}

fn until(what: &str, run: &mut Run, mut reached: impl FnMut() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(!run.ended() && started.elapsed() < SOON, "{what}: {}", run.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All that a job answers.
fn asked(url: &str, savepoint: &Path) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let get = |path: &str| agent.get(format!("{url}{path}")).call().unwrap().body_mut().read_to_string().unwrap();
    let wish = serde_json::json!({"directory": savepoint.display().to_string()});
    let taken = agent.post(format!("{url}/savepoints")).send_json(wish).unwrap().body_mut().read_to_string().unwrap();
    ["/livez", "/readyz", "/metrics", "/api/v1/job", "/api/v1/state"].map(get).join("\n") + &taken
}

/// The text of all files of a folder.
fn files(folder: &Path) -> String {
    let read = |path: std::path::PathBuf| {
        if path.is_dir() { files(&path) } else { String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned() }
    };
    std::fs::read_dir(folder).into_iter().flatten().map(|f| read(f.unwrap().path())).collect()
}

fn is_silent(world: &World, topic: &str, sql: &str, args: &[&str], environment: &[(String, String)]) {
    let (postgres, bootstrap) = (&world.postgres, &world.lab.kafka.bootstrap);
    topics::create(bootstrap, &[(format!("{topic}-in"), 1), (format!("{topic}-out"), 1)]);
    postgres.execute("DROP TABLE IF EXISTS seen, more; CREATE TABLE seen (n int); CREATE TABLE more (n int)");
    let variables: Vec<(&str, &str)> = environment.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let script = file(sql, ".sql");
    let planned =
        std::process::Command::new(sluice_tests::engine::binary()).arg("plan").arg(script.path()).envs(variables.clone()).output().unwrap();
    let plan = String::from_utf8_lossy(&[planned.stdout, planned.stderr].concat()).into_owned();
    assert!(planned.status.success(), "{plan}");
    assert_hidden("the plan", &plan);

    let folder = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let more = ["--http", &address, "--log", "debug"];
    let mut run = Run::script_with(sql, &[&more[..], args].concat(), &variables);
    world.send(topic, 1);
    let mark = world.texts().len();
    until("all outputs", &mut run, || {
        world.texts().len() > mark
            && !topics::committed(bootstrap, &format!("{topic}-out")).is_empty()
            && postgres.query("SELECT * FROM seen").len() == 1
    });
    let said = asked(&url, &folder.path().join("savepoint"));
    assert!(said.contains("sluice_") && said.contains("COMPLETED"), "{said}");
    assert_hidden("what it answers", &said);
    let savepoint = files(folder.path());
    assert!(savepoint.contains("CREATE TABLE a"), "{savepoint}");
    assert_hidden("the savepoint", &savepoint);

    // It fails again and again, and says why.
    postgres.execute("ALTER TABLE seen ADD CONSTRAINT small CHECK (n < 2)");
    world.send(topic, 2);
    let mut said = String::new();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    until("its failure", &mut run, || {
        said = agent.get(format!("{url}/api/v1/job")).call().unwrap().body_mut().read_to_string().unwrap();
        said.contains("small")
    });
    assert_hidden("its failure", &said);
    let output = run.stop(SOON);
    let log = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(log.contains("DEBUG") && log.contains("small"), "{log}");
    assert_hidden("the log", &log);
}

#[test]
fn are_in_nothing_that_a_job_says() {
    let lab = lab();
    let registry = Registry::over_tls(&lab.certificates.path("server.crt"), &lab.certificates.path("server.key"));
    let world = World { lab, registry, postgres: Postgres::started(), slack: Slack::started_on("127.0.0.1") };
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");

    std::fs::create_dir_all(folder.path().join("secrets/all")).unwrap();
    for (name, value) in world.values() {
        std::fs::write(folder.path().join("secrets/all").join(name), value).unwrap();
    }
    let sql = world.sql("secrets", &state, &|name| format!("{{{{secret:all/{name}}}}}"));
    let secrets = folder.path().join("secrets").display().to_string();
    is_silent(&world, "secrets", &sql, &["--secrets", &secrets], &[]);

    let variables: Vec<_> = world.values().into_iter().map(|(name, value)| (format!("THE_{}", name.to_uppercase()), value)).collect();
    let sql = world.sql("variables", &state, &|name| format!("${{THE_{}}}", name.to_uppercase()));
    is_silent(&world, "variables", &sql, &[], &variables);
    assert_hidden("the state", &files(&state));
}
