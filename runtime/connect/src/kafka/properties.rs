//! The Java client's property names (`properties.*`) in librdkafka's words.

use sluice_batch::{Error, Result};

use super::client::{Config, ConfigError};
use super::jaas::{self, Jaas};
use super::oauth::Login;
use crate::TableOption;
use crate::options::closest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Consumer,
    Producer,
}

#[derive(Clone, Copy)]
enum Rule {
    /// The same name, for both clients.
    Same,
    /// The same name, for one client; the other leaves it out.
    Only(Role),
    /// Another name.
    Named(&'static str),
    NamedOnly(&'static str, Role),
    /// Another name and KiB for bytes.
    Kib(&'static str),
    /// Translated together, in [`security`].
    Security,
    /// Has no meaning outside of Java or is the engine's own; said once.
    Ignored,
}

use Role::{Consumer, Producer};
use Rule::{Ignored, Kib, Named, NamedOnly, Only, Same, Security};

/// Kafka's documented consumer, producer and common client properties.
const RULES: &[(&str, Rule)] = &[
    ("bootstrap.servers", Same),
    ("client.id", Same),
    ("client.rack", Same),
    ("client.dns.lookup", Same),
    ("connections.max.idle.ms", Same),
    ("metadata.max.age.ms", Same),
    ("reconnect.backoff.ms", Same),
    ("reconnect.backoff.max.ms", Same),
    ("retry.backoff.ms", Same),
    ("retry.backoff.max.ms", Same),
    ("enable.metrics.push", Same),
    ("socket.connection.setup.timeout.ms", Same),
    ("send.buffer.bytes", Named("socket.send.buffer.bytes")),
    ("receive.buffer.bytes", Named("socket.receive.buffer.bytes")),
    ("request.timeout.ms", NamedOnly("request.timeout.ms", Producer)),
    ("security.protocol", Same),
    ("sasl.mechanism", Same),
    ("sasl.oauthbearer.token.endpoint.url", Security),
    ("sasl.oauthbearer.client.credentials.client.id", Security),
    ("sasl.oauthbearer.client.credentials.client.secret", Security),
    ("sasl.oauthbearer.client.id", Security),
    ("sasl.oauthbearer.client.secret", Security),
    ("sasl.oauthbearer.scope", Security),
    ("sasl.oauthbearer.sub.claim.name", Security),
    ("sasl.oauthbearer.header.urlencode", Security),
    ("sasl.login.callback.handler.class", Security),
    ("sasl.login.connect.timeout.ms", Security),
    ("sasl.login.read.timeout.ms", Security),
    ("sasl.login.retry.backoff.ms", Security),
    ("sasl.login.retry.backoff.max.ms", Security),
    // When four fifths of a token's life are over.
    ("sasl.login.refresh.window.factor", Ignored),
    ("sasl.login.refresh.window.jitter", Ignored),
    ("sasl.login.refresh.min.period.seconds", Ignored),
    ("sasl.login.refresh.buffer.seconds", Ignored),
    ("sasl.oauthbearer.scope.claim.name", Ignored),
    ("sasl.jaas.config", Security),
    ("ssl.endpoint.identification.algorithm", Security),
    ("ssl.truststore.location", Security),
    ("ssl.truststore.password", Security),
    ("ssl.truststore.type", Security),
    ("ssl.truststore.certificates", Named("ssl.ca.pem")),
    ("ssl.keystore.location", Security),
    ("ssl.keystore.password", Security),
    ("ssl.keystore.type", Security),
    ("ssl.keystore.key", Named("ssl.key.pem")),
    ("ssl.keystore.certificate.chain", Named("ssl.certificate.pem")),
    ("ssl.key.password", Same),
    ("ssl.cipher.suites", Same),
    ("group.id", Only(Consumer)),
    ("group.instance.id", Only(Consumer)),
    ("isolation.level", Only(Consumer)),
    ("auto.offset.reset", Only(Consumer)),
    ("fetch.min.bytes", Only(Consumer)),
    ("fetch.max.bytes", Only(Consumer)),
    ("fetch.max.wait.ms", NamedOnly("fetch.wait.max.ms", Consumer)),
    ("max.partition.fetch.bytes", Only(Consumer)),
    ("check.crcs", Only(Consumer)),
    ("allow.auto.create.topics", Only(Consumer)),
    ("session.timeout.ms", Only(Consumer)),
    ("heartbeat.interval.ms", Only(Consumer)),
    ("acks", Only(Producer)),
    ("enable.idempotence", Only(Producer)),
    ("compression.type", Only(Producer)),
    ("linger.ms", Only(Producer)),
    ("batch.size", Only(Producer)),
    ("retries", Only(Producer)),
    ("delivery.timeout.ms", Only(Producer)),
    ("max.in.flight.requests.per.connection", Only(Producer)),
    ("max.request.size", NamedOnly("message.max.bytes", Producer)),
    ("transaction.timeout.ms", Only(Producer)),
    ("buffer.memory", Kib("queue.buffering.max.kbytes")),
    ("max.poll.records", Ignored),
    ("max.poll.interval.ms", Ignored),
    ("default.api.timeout.ms", Ignored),
    ("max.block.ms", Ignored),
    ("key.deserializer", Ignored),
    ("value.deserializer", Ignored),
    ("key.serializer", Ignored),
    ("value.serializer", Ignored),
    ("enable.auto.commit", Ignored),
    ("auto.commit.interval.ms", Ignored),
    ("partition.assignment.strategy", Ignored),
    ("group.protocol", Ignored),
    ("group.remote.assignor", Ignored),
    ("exclude.internal.topics", Ignored),
    ("interceptor.classes", Ignored),
    ("metric.reporters", Ignored),
    ("metrics.num.samples", Ignored),
    ("metrics.recording.level", Ignored),
    ("metrics.sample.window.ms", Ignored),
    ("auto.include.jmx.reporter", Ignored),
    ("socket.connection.setup.timeout.max.ms", Ignored),
    ("metadata.max.idle.ms", Ignored),
    ("metadata.recovery.strategy", Ignored),
    ("partitioner.adaptive.partitioning.enable", Ignored),
    ("partitioner.availability.timeout.ms", Ignored),
    ("partitioner.ignore.keys", Ignored),
    ("ssl.protocol", Ignored),
    ("ssl.enabled.protocols", Ignored),
    ("ssl.provider", Ignored),
    ("ssl.keymanager.algorithm", Ignored),
    ("ssl.trustmanager.algorithm", Ignored),
    ("ssl.secure.random.implementation", Ignored),
    // Options of Flink's connector that it takes as properties.
    ("partition.discovery.interval.ms", Ignored),
    ("commit.offsets.on.checkpoint", Ignored),
    ("register.consumer.metrics", Ignored),
    ("client.id.prefix", Ignored),
];

/// librdkafka's own settings for streaming; what users set comes after and wins.
const DEFAULTS: &[(&str, &str, Option<Role>)] = &[
    ("socket.nagle.disable", "true", None),
    ("log.connection.close", "false", None),
    // A client that waits for brokers should not wait long between tries.
    ("reconnect.backoff.max.ms", "2000", None),
    ("enable.auto.commit", "false", Some(Consumer)),
    ("enable.auto.offset.store", "false", Some(Consumer)),
    ("enable.partition.eof", "true", Some(Consumer)),
    // Java's default; librdkafka's is read_committed.
    ("isolation.level", "read_uncommitted", Some(Consumer)),
    // When the local queue was full librdkafka waits a second before it fetches again.
    ("fetch.queue.backoff.ms", "5", Some(Consumer)),
    ("fetch.error.backoff.ms", "100", Some(Consumer)),
    ("queued.max.messages.kbytes", "32768", Some(Consumer)),
    ("enable.idempotence", "true", Some(Producer)),
    ("linger.ms", "5", Some(Producer)),
    ("delivery.report.only.error", "true", Some(Producer)),
    ("queue.buffering.max.messages", "500000", Some(Producer)),
    ("queue.buffering.max.kbytes", "65536", Some(Producer)),
    // Java's hash for keyed records; records without a key stay together for a while.
    ("partitioner", "murmur2_random", Some(Producer)),
];

/// Translated properties, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties {
    pub set: Vec<(String, String)>,
    /// Names that were left out because they mean nothing here.
    pub ignored: Vec<String>,
    /// Path and password of a trust store that librdkafka cannot read: translated when a client is made, as a plan needs no files.
    trust: Option<(String, Option<String>)>,
    /// The same of a key store: OpenSSL reads only those with newer ciphers.
    key: Option<(String, Option<String>)>,
    /// Tokens to log in with.
    login: Option<Login>,
}

impl Properties {
    /// Translates the `properties.*` of a table (prefix taken off).
    ///
    /// # Errors
    /// If a name is known to neither client (did-you-mean), or a value is not one of its property.
    pub fn new(given: &[(&str, &TableOption)], role: Role) -> Result<Self> {
        let mut out = Self::default();
        let mut scratch = Config::new();
        for (name, option) in given {
            let rule = RULES.iter().find(|(n, _)| n == name).map(|(_, rule)| *rule);
            let value = option.value.as_str();
            let translated = match rule {
                Some(Same) => Some(((*name).to_owned(), value.to_owned())),
                Some(Only(r)) if r == role => Some(((*name).to_owned(), value.to_owned())),
                Some(Named(other)) => Some((other.to_owned(), value.to_owned())),
                Some(NamedOnly(other, r)) if r == role => Some((other.to_owned(), value.to_owned())),
                Some(Kib(other)) if role == Producer => {
                    let bytes: u64 = value.trim().parse().map_err(|_| wrong(option, "a number of bytes"))?;
                    Some((other.to_owned(), (bytes / 1024).max(1).to_string()))
                }
                Some(Only(_) | NamedOnly(..) | Kib(_) | Security) => None,
                Some(Ignored) => {
                    out.ignored.push((*name).to_owned());
                    None
                }
                None => Some(((*name).to_owned(), value.to_owned())),
            };
            if let Some((key, value)) = translated {
                check(&mut scratch, name, &key, &value, option)?;
                out.set.push((key, value));
            }
        }
        out.trust = pkcs12("trust", given);
        out.key = pkcs12("key", given);
        check_mechanism(given)?;
        for (key, value, option) in security(given)? {
            check(&mut scratch, &key, &key, &value, option)?;
            out.set.push((key, value));
        }
        out.login = login(given)?;
        // acks other than all exclude idempotence; Java turns it off silently too if it was not asked for.
        let find = |key: &str| out.set.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        if role == Producer && find("enable.idempotence").is_none() && find("acks").is_some_and(|a| !matches!(a, "all" | "-1")) {
            out.set.push(("enable.idempotence".into(), "false".into()));
        }
        Ok(out)
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.set.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A configuration: our defaults, then these, then `more`.
    ///
    /// # Errors
    /// If librdkafka refuses one.
    pub fn config(&self, role: Role, more: &[(&str, &str)]) -> Result<Config> {
        let mut config = Config::new();
        config.login.clone_from(&self.login);
        let trusted =
            self.trust.as_ref().map(|(path, password)| sluice_format::keystore::trusted_pem(path, password.as_deref())).transpose()?;
        let key = self.key.as_ref().map(|(path, password)| key_store(path, password.as_deref())).transpose()?.unwrap_or_default();
        let defaults = DEFAULTS.iter().filter(|(_, _, r)| r.is_none_or(|r| r == role)).map(|(k, v, _)| (*k, *v));
        for (key, value) in defaults
            .chain(self.set.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .chain(more.iter().copied())
            .chain(trusted.as_deref().map(|pem| ("ssl.ca.pem", pem)))
            .chain(key.iter().map(|(name, value)| (*name, value.as_str())))
        {
            config.set(key, value).map_err(|e| match e {
                ConfigError::UnknownName => Error::runtime(format!("librdkafka has no property '{key}'")),
                ConfigError::WrongValue(text) => Error::runtime(text),
            })?;
        }
        Ok(config)
    }
}

fn wrong(option: &TableOption, expected: &str) -> Error {
    Error::plan(format!("option '{}' is '{}'; expected: {expected}", option.key, option.value)).at(option.value_span)
}

fn check(scratch: &mut Config, java: &str, key: &str, value: &str, option: &TableOption) -> Result<()> {
    match scratch.set(key, value) {
        Ok(()) => Ok(()),
        Err(ConfigError::WrongValue(text)) => Err(Error::plan(format!("option '{}': {text}", option.key)).at(option.value_span)),
        Err(ConfigError::UnknownName) => {
            let error = Error::plan(format!("Kafka clients have no property '{java}'")).at(option.key_span);
            Err(match closest(java, RULES.iter().map(|(n, _)| *n)) {
                Some(near) => error.hint(format!("did you mean 'properties.{near}'?")),
                None => error.hint("names of the Java client and of librdkafka are known"),
            })
        }
    }
}

/// Stores and login, which are shaped differently in the two clients.
fn security<'a>(given: &[(&str, &'a TableOption)]) -> Result<Vec<(String, String, &'a TableOption)>> {
    let find = |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, o)| *o);
    let mut out = vec![];
    if let Some(option) = find("sasl.jaas.config") {
        match jaas::translate(&option.value).map_err(|e| e.at(option.value_span))? {
            Jaas::Properties(translated) => out.extend(translated.into_iter().map(|(k, v)| (k, v, option))),
            // In [`login`].
            Jaas::Tokens(_) => {}
        }
    }
    if let Some(option) = find("ssl.endpoint.identification.algorithm") {
        let value = if option.value.trim().is_empty() { "none" } else { option.value.as_str() };
        out.push(("ssl.endpoint.identification.algorithm".into(), value.into(), option));
    }
    if let Some(option) = find("ssl.truststore.location") {
        match store_type(find("ssl.truststore.type"), option) {
            Store::Pem => out.push(("ssl.ca.location".into(), option.value.clone(), option)),
            // In [`Properties::config`].
            Store::Pkcs12 => {}
            Store::Jks => return Err(jks("trust", option)),
        }
    }
    if let Some(option) = find("ssl.keystore.location") {
        match store_type(find("ssl.keystore.type"), option) {
            Store::Pem => {
                out.push(("ssl.certificate.location".into(), option.value.clone(), option));
                out.push(("ssl.key.location".into(), option.value.clone(), option));
            }
            // In [`Properties::config`].
            Store::Pkcs12 => {}
            Store::Jks => return Err(jks("key", option)),
        }
    }
    Ok(out)
}

/// Tokens of an identity provider, if the client logs in with them.
fn login(given: &[(&str, &TableOption)]) -> Result<Option<Login>> {
    let find = |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, o)| *o);
    let mechanism = find("sasl.mechanism").or(find("sasl.mechanisms")).is_some_and(|o| o.value.trim() == "OAUTHBEARER");
    match find("sasl.jaas.config") {
        Some(option) => match jaas::translate(&option.value)? {
            Jaas::Tokens(options) => Login::new(&options, given).map(Some).map_err(|e| e.at(option.value_span)),
            Jaas::Properties(_) => Ok(None),
        },
        // All of it can be said by properties, too (Kafka 4.1).
        None if mechanism && find("sasl.oauthbearer.token.endpoint.url").is_some() => Login::new(&vec![], given).map(Some),
        None => Ok(None),
    }
}

fn jks(kind: &str, option: &TableOption) -> Error {
    let convert = sluice_format::keystore::convert(&option.value);
    let hint = format!("convert it: {convert}; a {kind} store whose name says nothing needs 'properties.ssl.{kind}store.type'");
    Error::unsupported(format!("a JKS {kind} store")).at(option.value_span).hint(hint)
}

/// Path and password of a `trust` or `key` store in PKCS#12.
fn pkcs12(kind: &str, given: &[(&str, &TableOption)]) -> Option<(String, Option<String>)> {
    let find = |what: &str| given.iter().find(|(n, _)| *n == format!("ssl.{kind}store.{what}")).map(|(_, o)| *o);
    let location = find("location")?;
    let password = find("password").map(|o| o.value.clone());
    matches!(store_type(find("type"), location), Store::Pkcs12).then(|| (location.value.clone(), password))
}

/// Properties for a key store in PKCS#12. What we cannot read OpenSSL may: it knows fewer ciphers, and more of the format.
fn key_store(path: &str, password: Option<&str>) -> Result<Vec<(&'static str, String)>> {
    match sluice_format::keystore::identity_pem(path, password) {
        Ok((key, chain)) => Ok(vec![("ssl.key.pem", key), ("ssl.certificate.pem", chain)]),
        Err(_) if sluice_format::keystore::may_be_pkcs12(path) => {
            let password = password.map(|p| ("ssl.keystore.password", p.to_owned()));
            Ok(std::iter::once(("ssl.keystore.location", path.to_owned())).chain(password).collect())
        }
        Err(error) => Err(error),
    }
}

/// Both clients log in by Kerberos if nothing else is said, and librdkafka is built without it.
fn check_mechanism(given: &[(&str, &TableOption)]) -> Result<()> {
    let find = |name: &str| given.iter().find(|(n, _)| *n == name).map(|(_, o)| *o);
    let hint = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER can be used";
    match (find("security.protocol"), find("sasl.mechanism").or(find("sasl.mechanisms"))) {
        (_, Some(mechanism)) if mechanism.value.trim().eq_ignore_ascii_case("GSSAPI") => {
            Err(Error::unsupported("login by Kerberos (GSSAPI)").at(mechanism.value_span).hint(hint))
        }
        (Some(protocol), None) if protocol.value.trim().to_ascii_uppercase().starts_with("SASL_") => {
            Err(Error::plan(format!("'properties.security.protocol' = '{}' needs 'properties.sasl.mechanism'", protocol.value.trim()))
                .at(protocol.value_span)
                .hint(hint))
        }
        _ => Ok(()),
    }
}

enum Store {
    Pem,
    Pkcs12,
    Jks,
}

/// The type that is declared, else what the file's name says; Java's default is JKS.
fn store_type(declared: Option<&TableOption>, location: &TableOption) -> Store {
    let name = declared.map_or_else(|| location.value.rsplit('.').next().unwrap_or_default(), |o| o.value.as_str()).to_ascii_lowercase();
    match name.as_str() {
        "pem" | "crt" | "cer" => Store::Pem,
        "p12" | "pfx" | "pkcs12" => Store::Pkcs12,
        _ => Store::Jks,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::test_util::table;

    fn translate(given: &[(&str, &str)], role: Role) -> Result<Properties> {
        let table = table(given, &[]);
        let given: Vec<_> = table.options.iter().map(|o| (o.key.as_str(), o)).collect();
        Properties::new(&given, role)
    }

    #[test]
    fn java_names_become_librdkafka_names() {
        for (java, value, role, expected) in [
            ("bootstrap.servers", "a:1", Consumer, Some(("bootstrap.servers", "a:1"))),
            ("fetch.max.wait.ms", "7", Consumer, Some(("fetch.wait.max.ms", "7"))),
            ("fetch.max.wait.ms", "7", Producer, None),
            ("group.id", "g", Producer, None),
            ("transaction.timeout.ms", "800000", Producer, Some(("transaction.timeout.ms", "800000"))),
            ("transaction.timeout.ms", "800000", Consumer, None),
            ("buffer.memory", "33554432", Producer, Some(("queue.buffering.max.kbytes", "32768"))),
            ("ssl.endpoint.identification.algorithm", "", Consumer, Some(("ssl.endpoint.identification.algorithm", "none"))),
            ("ssl.truststore.location", "/ca.pem", Consumer, Some(("ssl.ca.location", "/ca.pem"))),
            ("ssl.keystore.location", "/me.p12", Consumer, None),
            ("ssl.keystore.location", "/me.pem", Consumer, Some(("ssl.certificate.location", "/me.pem"))),
            ("queued.min.messages", "5", Consumer, Some(("queued.min.messages", "5"))),
            ("max.poll.records", "5", Consumer, None),
        ] {
            let found = translate(&[(java, value)], role).unwrap();
            assert_eq!(found.set.first().map(|(k, v)| (k.as_str(), v.as_str())), expected, "{java}");
        }
        assert_eq!(translate(&[("max.poll.records", "5")], Consumer).unwrap().ignored, ["max.poll.records"]);
        assert_eq!(translate(&[("acks", "1")], Producer).unwrap().get("enable.idempotence"), Some("false"));
    }

    #[test]
    fn unknown_and_wrong_properties_are_reported() {
        let error = translate(&[("bootstrap.server", "x")], Consumer).unwrap_err();
        assert_eq!(error.hint_text(), Some("did you mean 'properties.bootstrap.servers'?"));
        assert_eq!(error.span().line, 2);
        assert!(translate(&[("isolation.level", "read_all")], Consumer).is_err());
        assert!(translate(&[("buffer.memory", "lots")], Producer).is_err());
        assert!(translate(&[("ssl.truststore.location", "/a.jks")], Consumer).unwrap_err().hint_text().unwrap().contains("PKCS12"));
        for (location, password) in
            [("ssl.truststore.location", "ssl.truststore.password"), ("ssl.keystore.location", "ssl.keystore.password")]
        {
            let missing = translate(&[(location, "/none.p12"), (password, "hush")], Consumer).unwrap();
            let error = missing.config(Consumer, &[]).err().unwrap().to_string();
            assert!(error.contains("/none.p12") && !error.contains("hush"), "{error}");
        }
        let error = translate(&[("client.id", "x"), ("security.protocol", "SASL_SSL")], Consumer).unwrap_err();
        assert!(error.message().contains("needs 'properties.sasl.mechanism'") && error.span().line == 3, "{error}");
        assert!(translate(&[("sasl.mechanism", "GSSAPI")], Consumer).unwrap_err().message().contains("Kerberos"));
        assert!(translate(&[("security.protocol", "SASL_SSL"), ("sasl.mechanisms", "PLAIN")], Consumer).is_ok());
        assert!(translate(&[("sasl.jaas.config", "x")], Consumer).is_err());
    }

    #[test]
    fn every_translation_is_a_property_of_librdkafka() {
        let mut config = Config::new();
        for (name, rule) in RULES {
            let target = match rule {
                Same | Only(_) => name,
                Named(n) | NamedOnly(n, _) | Kib(n) => n,
                Security | Ignored => continue,
            };
            assert!(!matches!(config.set(target, "1"), Err(ConfigError::UnknownName)), "{target}");
        }
        for role in [Consumer, Producer] {
            assert!(Properties::default().config(role, &[]).is_ok());
        }
    }
}
