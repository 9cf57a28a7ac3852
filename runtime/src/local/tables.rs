//! Which topics a job's tables have, and their options pointed elsewhere.

use sluice_connect::TableSpec;
use sluice_plan::{Graph, NodeKind};

/// An output topic and how its records are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub topic: String,
    /// The value does not have what the key has.
    pub show_key: bool,
}

/// The Kafka topics of a script.
#[derive(Debug, Default)]
pub struct Topics {
    pub read: Vec<String>,
    pub written: Vec<Written>,
}

impl Topics {
    pub fn of<'a>(graphs: impl Iterator<Item = &'a Graph>) -> Self {
        let mut all = Self::default();
        for node in graphs.flat_map(|g| &g.nodes) {
            match &node.kind {
                NodeKind::Source { table, .. } => {
                    for topic in topics(table).filter(|t| !all.read.contains(t)).collect::<Vec<_>>() {
                        all.read.push(topic);
                    }
                }
                NodeKind::Sink { table } => {
                    let show_key = option(table, "value.fields-include").is_some_and(|v| v.eq_ignore_ascii_case("EXCEPT_KEY"));
                    for topic in topics(table) {
                        if !all.written.iter().any(|w| w.topic == topic) {
                            all.written.push(Written { topic, show_key });
                        }
                    }
                }
                _ => {}
            }
        }
        all
    }
}

fn option<'a>(table: &'a TableSpec, key: &str) -> Option<&'a str> {
    table.options.iter().find(|o| o.key == key).map(|o| o.value.as_str())
}

fn is_kafka(table: &TableSpec) -> bool {
    matches!(option(table, "connector"), Some("kafka" | "upsert-kafka"))
}

/// The topics that a Kafka table lists.
fn topics(table: &TableSpec) -> impl Iterator<Item = String> {
    let list = if is_kafka(table) { option(table, "topic").unwrap_or_default() } else { "" };
    list.split(';').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Points a Kafka table at a broker and a registry that ask for no credentials.
pub fn redirect(table: &mut TableSpec, bootstrap: &str, registry: &str) {
    if !is_kafka(table) {
        return;
    }
    table.options.retain(|o| !is_security(&o.key));
    for option in &mut table.options {
        if option.key == "properties.bootstrap.servers" {
            option.value = bootstrap.to_owned();
        } else if is_registry_url(&option.key) {
            option.value = registry.to_owned();
        }
    }
}

/// `value.avro-confluent.url`, and the name it had before Flink 1.15.
fn is_registry_url(key: &str) -> bool {
    key.ends_with("avro-confluent.url") || key.ends_with("avro-confluent.schema-registry.url")
}

fn is_security(key: &str) -> bool {
    let of_client = ["properties.security.", "properties.sasl.", "properties.ssl."].iter().any(|p| key.starts_with(p));
    let of_registry = key
        .split_once("avro-confluent.")
        .is_some_and(|(_, rest)| ["ssl.", "basic-auth.", "bearer-auth.", "properties."].iter().any(|p| rest.starts_with(p)));
    of_client || of_registry
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_connect::TableOption;

    fn table(options: &[(&str, &str)]) -> TableSpec {
        let option = |(key, value): &(&str, &str)| TableOption {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            key_span: Default::default(),
            value_span: Default::default(),
        };
        TableSpec {
            name: "t".into(),
            physical: vec![],
            metadata: vec![],
            primary_key: None,
            options: options.iter().map(option).collect(),
            span: Default::default(),
        }
    }

    #[test]
    fn hosts_are_replaced_and_credentials_dropped() {
        let mut spec = table(&[
            ("connector", "kafka"),
            ("topic", "a; b"),
            ("properties.bootstrap.servers", "far:9092"),
            ("properties.security.protocol", "SASL_SSL"),
            ("properties.sasl.jaas.config", "secret"),
            ("properties.group.id", "g"),
            ("value.avro-confluent.url", "http://far"),
            ("avro-confluent.schema-registry.url", "http://far"),
            ("value.avro-confluent.basic-auth.user-info", "u:p"),
        ]);
        assert_eq!(topics(&spec).collect::<Vec<_>>(), ["a", "b"]);
        redirect(&mut spec, "here:1", "http://here");
        let options: Vec<_> = spec.options.iter().map(|o| (o.key.as_str(), o.value.as_str())).collect();
        assert_eq!(
            options,
            [
                ("connector", "kafka"),
                ("topic", "a; b"),
                ("properties.bootstrap.servers", "here:1"),
                ("properties.group.id", "g"),
                ("value.avro-confluent.url", "http://here"),
                ("avro-confluent.schema-registry.url", "http://here"),
            ]
        );
    }

    #[test]
    fn other_connectors_are_left_alone() {
        let mut spec = table(&[("connector", "filesystem"), ("topic", "a"), ("properties.bootstrap.servers", "far")]);
        assert_eq!(topics(&spec).count(), 0);
        redirect(&mut spec, "here", "http://here");
        assert_eq!(spec.options[2].value, "far");
    }
}
