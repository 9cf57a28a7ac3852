//! Avro records with Confluent's header, made by a library that the engine does not use.

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::{Value, json};

/// Registers the schema of a topic's values and answers its id.
pub fn register(registry: &str, topic: &str, schema: &Value) -> u32 {
    let url = format!("{registry}/subjects/{topic}-value/versions");
    let mut answer = ureq::post(&url).send_json(json!({"schema": schema.to_string()})).unwrap();
    let answer: Value = answer.body_mut().read_json().unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

/// A value in Avro's binary form behind the magic byte and the schema's id.
pub fn encode(schema: &Value, id: u32, value: &Value) -> Vec<u8> {
    let parsed = Schema::parse(schema).unwrap();
    let mut out = vec![0];
    out.extend(id.to_be_bytes());
    out.extend(GenericDatumWriter::builder(&parsed).build().unwrap().write_value_to_vec(convert(schema, value)).unwrap());
    out
}

fn convert(schema: &Value, value: &Value) -> Avro {
    match schema {
        Value::Array(branches) => union(branches, value),
        Value::Object(_) => named(schema, value),
        _ => primitive(schema.as_str().unwrap(), value),
    }
}

fn union(branches: &[Value], value: &Value) -> Avro {
    let null = |b: &Value| b.as_str() == Some("null");
    let at = branches.iter().position(|b| null(b) == value.is_null()).unwrap();
    Avro::Union(u32::try_from(at).unwrap(), Box::new(convert(&branches[at], value)))
}

fn named(schema: &Value, value: &Value) -> Avro {
    match (schema["type"].as_str().unwrap_or_default(), schema["logicalType"].as_str()) {
        ("record", _) => {
            let fields = schema["fields"].as_array().unwrap();
            Avro::Record(
                fields
                    .iter()
                    .map(|f| (f["name"].as_str().unwrap().to_owned(), convert(&f["type"], &value[f["name"].as_str().unwrap()])))
                    .collect(),
            )
        }
        ("array", _) => Avro::Array(value.as_array().unwrap().iter().map(|v| convert(&schema["items"], v)).collect()),
        ("map", _) => Avro::Map(value.as_object().unwrap().iter().map(|(k, v)| (k.clone(), convert(&schema["values"], v))).collect()),
        ("bytes", Some("decimal")) => decimal(value.as_str().unwrap(), schema["scale"].as_u64().unwrap_or(0)),
        ("long", Some("timestamp-millis")) => Avro::TimestampMillis(value.as_i64().unwrap()),
        ("int", Some("date")) => Avro::Date(i32::try_from(value.as_i64().unwrap()).unwrap()),
        (name, _) => primitive(name, value),
    }
}

fn decimal(text: &str, scale: u64) -> Avro {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<width$}", width = scale as usize);
    let unscaled: i64 = digits.parse().unwrap();
    Avro::Decimal(unscaled.to_be_bytes().to_vec().into())
}

fn primitive(name: &str, value: &Value) -> Avro {
    match name {
        "null" => Avro::Null,
        "string" => Avro::String(value.as_str().unwrap().to_owned()),
        "boolean" => Avro::Boolean(value.as_bool().unwrap()),
        "int" => Avro::Int(i32::try_from(value.as_i64().unwrap()).unwrap()),
        "long" => Avro::Long(value.as_i64().unwrap()),
        "float" => Avro::Float(value.as_f64().unwrap() as f32),
        "double" => Avro::Double(value.as_f64().unwrap()),
        other => panic!("no conversion to Avro {other}"),
    }
}
