//! Avro schemas: parsed into an arena of nodes, and derived from a table as Flink does (`AvroSchemaConverter`).

use std::collections::HashMap;

use serde_json::{Value, json};
use sluice_batch::{Error, Field, Result, SqlType, TypeKind};

/// A schema; the root is a node like the others, so that named types may refer to each other.
#[derive(Debug)]
pub(crate) struct AvroSchema {
    pub nodes: Vec<Node>,
    pub root: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub ty: AvroType,
    pub logical: Logical,
}

#[derive(Debug)]
pub(crate) enum AvroType {
    /// A named type whose definition has not been seen to its end.
    Open,
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<RecordField>),
}

#[derive(Debug)]
pub(crate) struct RecordField {
    pub name: String,
    pub aliases: Vec<String>,
    pub node: usize,
}

/// What a value stands for. `timestamp` and `local-timestamp` hold the same number; the table's type says which one is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logical {
    None,
    /// The scale.
    Decimal(u8),
    Date,
    TimeMillis,
    TimeMicros,
    Millis,
    Micros,
    Nanos,
}

impl AvroSchema {
    /// # Errors
    /// If the text is no Avro schema.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| Error::runtime(format!("the Avro schema is no JSON: {e}")))?;
        let mut parser = Parser { nodes: vec![], names: HashMap::new() };
        let root = parser.node(&value, "", 0)?;
        Ok(Self { nodes: parser.nodes, root })
    }

    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// What the type is called in messages.
    pub fn describe(&self, index: usize) -> String {
        let node = self.node(index);
        let name = match &node.ty {
            AvroType::Open => "open",
            AvroType::Null => "null",
            AvroType::Boolean => "boolean",
            AvroType::Int => "int",
            AvroType::Long => "long",
            AvroType::Float => "float",
            AvroType::Double => "double",
            AvroType::Bytes => "bytes",
            AvroType::String => "string",
            AvroType::Fixed(_) => "fixed",
            AvroType::Enum(_) => "enum",
            AvroType::Array(_) => "array",
            AvroType::Map(_) => "map",
            AvroType::Record(_) => "record",
            AvroType::Union(branches) => {
                let names: Vec<String> = branches.iter().map(|b| self.describe(*b)).collect();
                return format!("union of {}", names.join(", "));
            }
        };
        if node.logical == Logical::None { name.to_owned() } else { format!("{name} ({:?})", node.logical) }
    }
}

struct Parser {
    nodes: Vec<Node>,
    /// Full names of the types so far.
    names: HashMap<String, usize>,
}

const MAX_DEPTH: usize = 100;

fn wrong(what: &str, value: &Value) -> Error {
    Error::runtime(format!("the Avro schema has {what}: {value}"))
}

impl Parser {
    fn add(&mut self, ty: AvroType, logical: Logical) -> usize {
        self.nodes.push(Node { ty, logical });
        self.nodes.len() - 1
    }

    fn node(&mut self, value: &Value, namespace: &str, depth: usize) -> Result<usize> {
        if depth > MAX_DEPTH {
            return Err(Error::runtime("the Avro schema is nested too deep"));
        }
        match value {
            Value::String(name) => self.named(name, namespace, value),
            Value::Array(branches) => {
                let branches = branches.iter().map(|b| self.node(b, namespace, depth + 1)).collect::<Result<_>>()?;
                Ok(self.add(AvroType::Union(branches), Logical::None))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.complex(name, value, namespace, depth),
                Some(nested) => self.node(nested, namespace, depth + 1),
                None => Err(wrong("no type", value)),
            },
            _ => Err(wrong("something that is no type", value)),
        }
    }

    fn primitive(name: &str) -> Option<AvroType> {
        Some(match name {
            "null" => AvroType::Null,
            "boolean" => AvroType::Boolean,
            "int" => AvroType::Int,
            "long" => AvroType::Long,
            "float" => AvroType::Float,
            "double" => AvroType::Double,
            "bytes" => AvroType::Bytes,
            "string" => AvroType::String,
            _ => return None,
        })
    }

    fn named(&mut self, name: &str, namespace: &str, value: &Value) -> Result<usize> {
        if let Some(ty) = Self::primitive(name) {
            return Ok(self.add(ty, Logical::None));
        }
        let known = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
        known.copied().ok_or_else(|| wrong("an unknown type", value))
    }

    fn complex(&mut self, name: &str, value: &Value, namespace: &str, depth: usize) -> Result<usize> {
        let part = |key: &str| value.get(key).ok_or_else(|| wrong(&format!("no '{key}'"), value));
        match name {
            "array" => {
                let items = self.node(part("items")?, namespace, depth + 1)?;
                Ok(self.add(AvroType::Array(items), Logical::None))
            }
            "map" => {
                let values = self.node(part("values")?, namespace, depth + 1)?;
                Ok(self.add(AvroType::Map(values), Logical::None))
            }
            "record" | "error" | "enum" | "fixed" => self.definition(name, value, namespace, depth),
            _ => {
                let index = self.named(name, namespace, value)?;
                let logical = logical(value, &self.nodes[index].ty);
                if logical != Logical::None {
                    self.nodes[index].logical = logical;
                }
                Ok(index)
            }
        }
    }

    fn definition(&mut self, kind: &str, value: &Value, namespace: &str, depth: usize) -> Result<usize> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let name = text("name").ok_or_else(|| wrong("a type without a name", value))?;
        let full = full_name(name, text("namespace").unwrap_or(namespace));
        let index = self.add(AvroType::Open, Logical::None);
        if self.names.insert(full.clone(), index).is_some() {
            return Err(Error::runtime(format!("the Avro schema defines '{full}' twice")));
        }
        let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        let list = |key: &str| value.get(key).and_then(Value::as_array).ok_or_else(|| wrong(&format!("no '{key}'"), value));
        let ty = match kind {
            "fixed" => {
                let size = value.get("size").and_then(Value::as_u64).and_then(|s| usize::try_from(s).ok());
                AvroType::Fixed(size.ok_or_else(|| wrong("a fixed type without a size", value))?)
            }
            "enum" => AvroType::Enum(list("symbols")?.iter().filter_map(|s| s.as_str().map(str::to_owned)).collect()),
            _ => {
                let mut fields = vec![];
                for field in list("fields")? {
                    let name = field.get("name").and_then(Value::as_str).ok_or_else(|| wrong("a field without a name", field))?;
                    let ty = field.get("type").ok_or_else(|| wrong("a field without a type", field))?;
                    let aliases = field.get("aliases").and_then(Value::as_array);
                    let aliases = aliases.into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
                    fields.push(RecordField { name: name.to_owned(), aliases, node: self.node(ty, inner, depth + 1)? });
                }
                AvroType::Record(fields)
            }
        };
        self.nodes[index] = Node { logical: logical(value, &ty), ty };
        Ok(index)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// A logical type that does not fit its Avro type counts as none, as the specification says.
fn logical(value: &Value, ty: &AvroType) -> Logical {
    match (value.get("logicalType").and_then(Value::as_str), ty) {
        (Some("decimal"), AvroType::Bytes | AvroType::Fixed(_)) => {
            let scale = value.get("scale").and_then(Value::as_u64).unwrap_or(0);
            u8::try_from(scale).ok().filter(|s| *s <= 38).map_or(Logical::None, Logical::Decimal)
        }
        (Some("date"), AvroType::Int) => Logical::Date,
        (Some("time-millis"), AvroType::Int) => Logical::TimeMillis,
        (Some("time-micros"), AvroType::Long) => Logical::TimeMicros,
        (Some("timestamp-millis" | "local-timestamp-millis"), AvroType::Long) => Logical::Millis,
        (Some("timestamp-micros" | "local-timestamp-micros"), AvroType::Long) => Logical::Micros,
        (Some("timestamp-nanos" | "local-timestamp-nanos"), AvroType::Long) => Logical::Nanos,
        _ => Logical::None,
    }
}

/// The schema that Flink makes of a table's columns (`AvroSchemaConverter.convertToSchema`). `legacy`: TIMESTAMP is `timestamp-*`, not
/// `local-timestamp-*`.
///
/// # Errors
/// If a type has no form in Avro, or a column's name is none.
pub(crate) fn derive(fields: &[Field], legacy: bool) -> Result<String> {
    let mut record = record(fields, "record", legacy)?;
    if let Value::Object(object) = &mut record {
        let fields = object.remove("fields").unwrap_or_default();
        object.insert("namespace".to_owned(), json!("org.apache.flink.avro.generated"));
        object.insert("fields".to_owned(), fields);
    }
    Ok(record.to_string())
}

fn record(fields: &[Field], name: &str, legacy: bool) -> Result<Value> {
    let mut list = vec![];
    for field in fields {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if field.name.is_empty() || !field.name.chars().all(letters) || field.name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Error::plan(format!("column '{}': Avro names have only letters, digits and _", field.name)));
        }
        let ty =
            convert(&field.ty, &format!("{name}_{}", field.name), legacy).map_err(|e| e.context(format!("column '{}'", field.name)))?;
        let mut entry = json!({ "name": field.name, "type": ty });
        if field.ty.nullable {
            entry["default"] = Value::Null;
        }
        list.push(entry);
    }
    Ok(json!({ "type": "record", "name": name, "fields": list }))
}

fn convert(ty: &SqlType, name: &str, legacy: bool) -> Result<Value> {
    let unsupported = |why: &str| Error::plan(format!("Avro has no type for {}{why}", ty.kind));
    let timestamp = |precision: u8, local: bool| {
        let unit = match precision {
            0..=3 => "millis",
            4..=6 => "micros",
            _ => return Err(unsupported(": precision 6 is the highest")),
        };
        let prefix = if local { "local-timestamp" } else { "timestamp" };
        Ok(json!({ "type": "long", "logicalType": format!("{prefix}-{unit}") }))
    };
    let map = |key: &SqlType, value: &SqlType| match key.kind.is_character() {
        true => Ok(json!({ "type": "map", "values": convert(value, name, legacy)? })),
        false => Err(unsupported(": keys of its maps are strings")),
    };
    let value = match &ty.kind {
        TypeKind::Null => return Ok(json!("null")),
        TypeKind::Boolean => json!("boolean"),
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int => json!("int"),
        TypeKind::BigInt => json!("long"),
        TypeKind::Float => json!("float"),
        TypeKind::Double => json!("double"),
        TypeKind::Char(_) | TypeKind::VarChar(_) => json!("string"),
        TypeKind::Binary(_) | TypeKind::VarBinary(_) => json!("bytes"),
        TypeKind::Decimal(p, s) => json!({ "type": "bytes", "logicalType": "decimal", "precision": p, "scale": s }),
        TypeKind::Date => json!({ "type": "int", "logicalType": "date" }),
        TypeKind::Time(0..=3) => json!({ "type": "int", "logicalType": "time-millis" }),
        TypeKind::Time(_) => return Err(unsupported(": precision 3 is the highest")),
        TypeKind::Timestamp(p) => timestamp(*p, !legacy)?,
        TypeKind::TimestampLtz(p) => timestamp(*p, false)?,
        TypeKind::Array(item) => json!({ "type": "array", "items": convert(item, name, legacy)? }),
        TypeKind::Map(key, value) => map(key, value)?,
        TypeKind::Multiset(element) => map(element, &TypeKind::Int.not_null())?,
        TypeKind::Row(fields) => record(fields, name, legacy)?,
        TypeKind::IntervalYearMonth | TypeKind::IntervalDayTime | TypeKind::Variant => return Err(unsupported("")),
    };
    Ok(if ty.nullable { json!(["null", value]) } else { value })
}
