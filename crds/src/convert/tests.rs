#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::path::Path;

use super::*;
use crate::{SessionCluster, StreamingDeployment};

/// Every file of `tests/convert` with its result beside it; `UPDATE=1` writes them anew.
#[test]
fn documents_and_what_becomes_of_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert");
    let mut seen = 0;
    for file in std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let Some(stem) = name.strip_suffix(".in.yaml").or(name.strip_suffix(".in.json")) else { continue };
        seen += 1;
        let conversion = convert(&std::fs::read_to_string(&file).unwrap(), &Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let yaml = conversion.to_yaml().unwrap();
        let result = folder.join(format!("{stem}.out.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&result, &yaml).unwrap();
        }
        assert_eq!(yaml, std::fs::read_to_string(&result).unwrap_or_default(), "{name}: UPDATE=1 cargo test -p sluice-crds convert");
        assert!(!yaml.contains("hunter2"), "{name}: a secret in the YAML");
        for document in serde_yaml::Deserializer::from_str(&yaml) {
            let value = Value::deserialize(document).unwrap();
            match value["kind"].as_str().unwrap() {
                "SessionCluster" => drop(serde_json::from_value::<SessionCluster>(value).unwrap()),
                _ => drop(serde_json::from_value::<StreamingDeployment>(value).unwrap_or_else(|e| panic!("{name}: {e}"))),
            }
        }
    }
    assert_eq!(seen, 11);
}

/// Words and signs, without the space between them.
fn words(sql: &str) -> String {
    sql.split_whitespace().collect()
}

/// The SQL of the examples, which are the same jobs.
#[test]
fn the_sql_is_that_of_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (case, example) in [
        ("anomaly-application", "anomaly-detection/standalone-etl-anomaly"),
        ("pizza-01-basic-filtering", "pizza-anomaly-detection/01-basic-filtering"),
        ("pizza-02-aggregating", "pizza-anomaly-detection/02-aggregating"),
        ("pizza-03-windowing", "pizza-anomaly-detection/03-windowing"),
        ("pizza-04-trends", "pizza-anomaly-detection/04-trends"),
        ("iot-01-filtering", "iot-cpu-anomaly/01-filtering"),
        ("iot-02-windowing", "iot-cpu-anomaly/02-windowing"),
    ] {
        let read = |path: String| -> String {
            let text = std::fs::read_to_string(root.join(path)).unwrap();
            let object: StreamingDeployment = serde_yaml::from_str(&text).unwrap();
            words(&object.spec.sql.inline.unwrap())
        };
        let converted = read(format!("tests/convert/{case}.out.yaml"));
        let expected = read(format!("../examples/{example}.yaml"));
        assert_eq!(converted.replace("${KAFKA}", "my-cluster-kafka-bootstrap.flink.svc:9092"), expected, "{case}");
    }
}

#[test]
fn what_cannot_be_converted_says_why() {
    let job = |args: &str| format!("kind: FlinkDeployment\nmetadata: {{name: x}}\nspec: {{job: {{jarURI: local:///a.jar, args: {args}}}}}");
    for (text, says) in [
        ("kind: Pod\nmetadata: {name: p}".to_owned(), "none in it, only Pod p"),
        ("a: 1".to_owned(), "this is neither"),
        ("a: [".to_owned(), "no YAML"),
        (String::new(), "there is none in it"),
        (job("[]"), "FlinkDeployment x: its job (local:///a.jar) has no SQL in its args"),
        (job("[/opt/flink/statements.sql]"), "is called with '/opt/flink/statements.sql', which is no SQL: give the SQL by --sql"),
        (job("['SELECT 1']").replace("name: x", "name: a-name-that-is-much-too-long-to-become-that-of-a-pod"), "at most 40 characters"),
        (r#"{"parallelism": 1, "restart_enabled": true, "version_id": "x"}"#.to_owned(), "give the application version, too"),
        (r#"{"sources": [{}], "sinks": [], "statement": "INSERT INTO a SELECT 1"}"#.to_owned(), "sources[0].create_table is missing"),
        ("kind: FlinkSessionJob\nmetadata: {name: x}\nspec: {job: {args: [SELECT 1]}}".to_owned(), "spec.deploymentName"),
    ] {
        let error = convert(&text, &Options::default()).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn options_win_over_documents() {
    let text = "kind: FlinkDeployment\nmetadata: {name: x, namespace: a}\nspec: {job: {jarURI: local:///a.jar, args: [/opt/x.sql]}}";
    let options = Options {
        name: Some("y".into()),
        namespace: Some("b".into()),
        sql: Some("SELECT '$(K)'".into()),
        variables: [("K".to_owned(), "1".to_owned())].into(),
    };
    let object = convert(text, &options).unwrap().objects.remove(0).object;
    assert_eq!((&object["metadata"]["name"], &object["metadata"]["namespace"]), (&json!("y"), &json!("b")));
    assert_eq!((&object["spec"]["sql"]["inline"], &object["spec"]["variables"]["K"]), (&json!("SELECT '$(K)';\n"), &json!("1")));
    let both = format!("{text}\n---\n{}", text.replace("name: x", "name: z"));
    assert!(convert(&both, &options).unwrap_err().contains("--name is for one object"));
}

#[test]
fn durations_and_sizes() {
    for (flink, ours) in
        [("1min", Some("1m")), ("30 s", Some("30s")), ("60000", Some("60s")), ("1500 ms", Some("1500ms")), ("PT1M", None), ("", None)]
    {
        assert_eq!(settings::duration(flink).as_deref(), ours, "{flink}");
    }
    for (flink, ours) in [
        ("2048m", Some("2Gi")),
        ("2500m", Some("2500Mi")),
        ("4g", Some("4Gi")),
        ("1Gi", Some("1Gi")),
        ("2 gb", Some("2Gi")),
        ("much", None),
    ] {
        assert_eq!(settings::memory(flink).as_deref(), ours, "{flink}");
    }
}

#[test]
fn statements_end_at_semicolons_that_are_meant() {
    for (text, count) in [
        ("SELECT 1; SELECT 2;", 2),
        ("SELECT ';' ; SELECT 'it''s; one'", 2),
        ("-- a; b\nSELECT 1;", 1),
        ("/* ; */ SELECT 1; /*/ ; */ SELECT 2", 2),
        ("SELECT `a;b` FROM t;;;", 1),
        ("SELECT 5 - -1; SELECT 4 / 2", 2),
        ("", 0),
    ] {
        assert_eq!(sql::statements(text).len(), count, "{text}");
        assert_eq!(words(&sql::laid_out(text)).replace(';', ""), words(text).replace(';', ""), "{text}");
    }
    let folded = "CREATE TABLE a ( x ROW<p INT, q INT>,  y AS f(x, 1) ) WITH ( 'k' = 'a,  b' )";
    assert_eq!(sql::laid_out(folded), "CREATE TABLE a (\n    x ROW<p INT, q INT>,\n    y AS f(x, 1)\n) WITH (\n    'k' = 'a,  b'\n);\n");
}
