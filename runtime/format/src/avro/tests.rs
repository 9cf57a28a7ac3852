#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;
use sluice_batch::{Datum, SqlType, TypeKind};

use super::*;
use crate::tests::{UTC, array, batch, fields, map, new_decoder, new_encoder, options, row, rows};
use crate::{decoder, encoder};
use TypeKind::*;

/// A registry that gives fixed answers, one a request, and tells what it was asked: request line, `Authorization`, body.
fn registry(answers: Vec<(u16, String)>) -> (String, mpsc::Receiver<(String, String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for (status, answer) in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let (mut request, mut authorization, mut length) = (String::new(), String::new(), 0);
            reader.read_line(&mut request).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let lower = line.trim().to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if lower.starts_with("authorization:") {
                    authorization = line.trim().split_once(' ').unwrap().1.to_owned();
                }
                if lower.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            sender.send((request.trim().to_owned(), authorization, String::from_utf8(body).unwrap())).unwrap();
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            reader.get_mut().write_all((head + &answer).as_bytes()).unwrap();
        }
    });
    (url, receiver)
}

fn schema_answer(schema: &str) -> (u16, String) {
    (200, serde_json::json!({ "schema": schema }).to_string())
}

/// The writer's schema and table of golden x09.
const ORDER: &str = r#"{"type":"record","name":"order","namespace":"lab","fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"],"default":null},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},{"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"day","type":{"type":"int","logicalType":"date"}},{"name":"tags","type":{"type":"array","items":"string"}},{"name":"attrs","type":{"type":"map","values":"int"}},{"name":"ok","type":"boolean"},{"name":"ratio","type":"float"},{"name":"score","type":["null","double"]},{"name":"addr","type":["null",{"type":"record","name":"Addr","fields":[{"name":"city","type":"string"},{"name":"zip","type":["null","int"]}]}]}]}"#;

fn order() -> Vec<Field> {
    fields(&[
        ("id", BigInt),
        ("note", TypeKind::STRING),
        ("price", Decimal(10, 2)),
        ("ts", Timestamp(3)),
        ("day", Date),
        ("tags", array(TypeKind::STRING)),
        ("attrs", map(TypeKind::STRING, Int)),
        ("ok", Boolean),
        ("ratio", Float),
        ("score", Double),
        ("addr", row(&[("city", TypeKind::STRING), ("zip", Int)])),
    ])
}

fn order_rows() -> Vec<Vec<Datum>> {
    let s = |t: &str| Datum::string(t);
    vec![
        vec![
            Datum::BigInt(1),
            s("first"),
            Datum::Decimal(1234),
            Datum::Timestamp(1_704_103_200_123_000),
            Datum::Date(19723),
            Datum::Array([s("a"), s("b")].into()),
            Datum::Map([(s("x"), Datum::Int(1))].into()),
            Datum::Boolean(true),
            Datum::Float(0.5),
            Datum::Double(1.25),
            Datum::Row([s("Köln"), Datum::Int(50667)].into()),
        ],
        vec![
            Datum::BigInt(2),
            Datum::Null,
            Datum::Decimal(-1),
            Datum::Timestamp(-1000),
            Datum::Date(-1),
            Datum::Array([].into()),
            Datum::Map([].into()),
            Datum::Boolean(false),
            Datum::Float(-1.0),
            Datum::Null,
            Datum::Null,
        ],
    ]
}

fn types(fields: &[Field]) -> Vec<SqlType> {
    fields.iter().map(|f| f.ty.clone()).collect()
}

/// Rows as records in a schema, behind the header of id 7.
fn written(schema: &str, columns: &[Field], values: &[Vec<Datum>]) -> Vec<Vec<u8>> {
    let plan = write::resolve(&AvroSchema::parse(schema).unwrap(), columns).unwrap();
    let mut encoder = AvroEncoder { fields: columns.to_vec(), plan, header: Header::Bytes([0, 0, 0, 0, 7]) };
    let mut records = Records::default();
    encoder.encode(&batch(columns, values), &mut records).unwrap();
    (0..records.len()).map(|i| records.get(i).unwrap().to_vec()).collect()
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let records = written(ORDER, &order(), &order_rows());
    let mut expected = vec![0, 0, 0, 0, 7, 4, 0, 2, 0xFF];
    expected.extend([0xCF, 0x0F, 1, 0, 0, 0]); // -1 ms is zigzag 1; the rest follows below
    assert_eq!(records[1][..9], expected[..9]);
    assert_eq!(records[1][9..], [1, 1, 0, 0, 0, 0, 0, 0x80, 0xBF, 0, 0]);
}

#[test]
fn confluent_records_are_read_by_the_writers_schema() {
    let (url, asked) = registry(vec![schema_answer(ORDER)]);
    let columns = order();
    let given = [("url", url.as_str()), ("basic-auth.credentials-source", "USER_INFO"), ("basic-auth.user-info", "me:secret")];
    let mut decoder = new_decoder("avro-confluent", &given, &columns);
    for record in written(ORDER, &columns, &order_rows()) {
        assert_eq!(decoder.decode(Some(&record)).unwrap(), 1);
    }
    assert_eq!(decoder.decode(None).unwrap(), 0);
    let read: Vec<Vec<Datum>> = rows(decoder.as_mut(), &types(&columns)).into_iter().map(|(_, r)| r).collect();
    assert_eq!(read, order_rows());
    let (request, authorization, _) = asked.recv().unwrap();
    assert_eq!((request.as_str(), authorization.as_str()), ("GET /schemas/ids/7 HTTP/1.1", "Basic bWU6c2VjcmV0"));
    // one request for all records
    assert!(asked.recv().is_err());
}

#[test]
fn a_projection_skips_and_missing_fields_are_null() {
    let (url, _asked) = registry(vec![schema_answer(ORDER)]);
    let mut columns = order();
    columns.push(Field::new("new", Int.nullable()));
    let schema = Schema { projection: vec![11, 9, 0], ..Schema::new(columns) };
    let mut decoder = decoder(options("avro-confluent", &[("url", &url)]), schema, UTC).unwrap();
    for record in written(ORDER, &order(), &order_rows()) {
        decoder.decode(Some(&record)).unwrap();
    }
    let read = rows(decoder.as_mut(), &[Int.nullable(), Double.nullable(), BigInt.nullable()]);
    assert_eq!(read[0].1, [Datum::Null, Datum::Double(1.25), Datum::BigInt(1)]);
    assert_eq!(read[1].1, [Datum::Null, Datum::Null, Datum::BigInt(2)]);
}

#[test]
fn the_sink_registers_the_schema_that_flink_derives() {
    let (url, asked) = registry(vec![(200, r#"{"id":258}"#.to_owned())]);
    let columns = vec![
        Field::new("id", Int.not_null()),
        Field::new("t", Timestamp(3).nullable()),
        Field::new("dec", Decimal(10, 2).not_null()),
        Field::new("addr", row(&[("tags", array(row(&[("x", TypeKind::STRING)])))]).nullable()),
    ];
    let schema = Schema { default_subject: Some("out-value".to_owned()), ..Schema::new(columns.clone()) };
    let mut encoder = encoder(options("avro-confluent", &[("url", &url), ("bearer-auth.token", "abc")]), schema, UTC).unwrap();
    let mut records = Records::default();
    let values = [vec![Datum::Int(1), Datum::Timestamp(2000), Datum::Decimal(300), Datum::Null]];
    encoder.encode(&batch(&columns, &values), &mut records).unwrap();
    encoder.encode(&batch(&columns, &values), &mut records).unwrap();
    let expected = [0, 0, 0, 1, 2, 2, 2, 4, 4, 1, 44, 0];
    assert_eq!((records.get(0).unwrap(), records.get(1).unwrap()), (&expected[..], &expected[..]));
    let (request, authorization, body) = asked.recv().unwrap();
    assert_eq!((request.as_str(), authorization.as_str()), ("POST /subjects/out-value/versions HTTP/1.1", "Bearer abc"));
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let derived = r#"{"type":"record","name":"record","namespace":"org.apache.flink.avro.generated","fields":[{"name":"id","type":"int"},{"name":"t","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},{"name":"dec","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},{"name":"addr","type":["null",{"type":"record","name":"record_addr","fields":[{"name":"tags","type":["null",{"type":"array","items":["null",{"type":"record","name":"record_addr_tags","fields":[{"name":"x","type":["null","string"],"default":null}]}]}],"default":null}]}],"default":null}]}"#;
    assert_eq!(body["schema"], derived);
}

#[test]
fn the_registry_is_asked_again_and_its_errors_are_told() {
    let (url, _asked) = registry(vec![(503, "{}".to_owned()), schema_answer(ORDER)]);
    let client = Registry::new(RegistryOptions::new(&options("avro-confluent", &[("url", &url)])).unwrap());
    assert_eq!(client.schema(1).unwrap(), ORDER);
    let (url, _asked) = registry(vec![(409, r#"{"error_code":409,"message":"incompatible"}"#.to_owned())]);
    let client = Registry::new(RegistryOptions::new(&options("avro-confluent", &[("url", &url)])).unwrap());
    let error = client.register("a b", "{}").unwrap_err().to_string();
    assert_eq!(error, format!("schema registry {url}: registering the schema of subject 'a b': HTTP 409 incompatible"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = RegistryOptions::new(&options("avro-confluent", &[("url", &format!("http://{nobody}"))])).unwrap();
    let error = Registry::new(gone.with_deadline(Duration::from_millis(150))).schema(3).unwrap_err().to_string();
    assert!(error.contains("fetching schema 3: no answer within"), "{error}");
}

#[test]
fn options_are_checked() {
    for (given, message) in [
        (&[][..], "needs the option 'avro-confluent.url'"),
        (&[("url", "localhost:8081")], "http://"),
        (&[("url", "http://x"), ("basic-auth.credentials-source", "SASL_INHERIT")], "not supported yet"),
        (&[("url", "http://x"), ("properties.a", "f")], "'avro-confluent.properties.a' is not supported yet"),
        (&[("url", "http://x"), ("schema", "{}")], "no type"),
        (&[("url", "http://x"), ("subjct", "a")], "'avro-confluent.subject'"),
    ] {
        let error = decoder(options("avro-confluent", given), Schema::new(order()), UTC).err().unwrap().to_string();
        assert!(error.contains(message), "{given:?}: {error}");
    }
    let error = encoder(options("avro-confluent", &[("url", "http://x")]), Schema::new(order()), UTC).err().unwrap();
    assert!(error.to_string().contains("'avro-confluent.subject'"), "{error}");
    for (ty, message) in [(Time(6), "precision 3"), (Timestamp(9), "precision 6"), (map(Int, Int), "strings")] {
        let error = encoder(options("avro", &[]), Schema::new(fields(&[("c", ty)])), UTC).err().unwrap().to_string();
        assert!(error.contains("column 'c'") && error.contains(message), "{error}");
    }
    let error = encoder(options("avro", &[]), Schema::new(fields(&[("a b", Int)])), UTC).err().unwrap().to_string();
    assert!(error.contains("column 'a b'"), "{error}");
}

/// One value in the writer's schema, read as a column of another type.
#[test]
fn types_are_promoted() {
    let record = |ty: &str| format!(r#"{{"type":"record","name":"r","fields":[{{"name":"v","type":{ty}}}]}}"#);
    let decimal3 = r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":3}"#;
    let micros = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    let time = r#"{"type":"long","logicalType":"time-micros"}"#;
    let enumeration = r#"{"type":"enum","name":"e","symbols":["A","B"]}"#;
    let cases: Vec<(&str, Vec<u8>, TypeKind, Option<Datum>)> = vec![
        (r#""int""#, vec![4], BigInt, Some(Datum::BigInt(2))),
        (r#""int""#, vec![4], Double, Some(Datum::Double(2.0))),
        (r#""int""#, vec![4], TinyInt, Some(Datum::TinyInt(2))),
        (r#""long""#, vec![4], Int, None),
        (r#""float""#, vec![0, 0, 0x80, 0x3F], Double, Some(Datum::Double(1.0))),
        (r#""double""#, vec![0; 8], Float, None),
        (r#""string""#, vec![2, b'x'], TypeKind::BYTES, Some(Datum::Bytes([b'x'].into()))),
        (r#""bytes""#, vec![2, b'x'], TypeKind::STRING, Some(Datum::string("x"))),
        (r#""string""#, vec![2, b'x'], Int, None),
        (r#"["null","string"]"#, vec![0], TypeKind::STRING, Some(Datum::Null)),
        (r#"["string","int"]"#, vec![0, 2, b'x'], TypeKind::STRING, Some(Datum::string("x"))),
        (r#"["string","int"]"#, vec![2, 2], TypeKind::STRING, None),
        (decimal3, vec![2, 125], Decimal(10, 2), Some(Datum::Decimal(13))),
        (decimal3, vec![6, 0x7F, 0xFF, 0xFF], Decimal(3, 2), Some(Datum::Null)),
        (micros, vec![0xCF, 0x0F], Timestamp(3), Some(Datum::Timestamp(-1000))),
        (micros, vec![0xCF, 0x0F], TimestampLtz(6), Some(Datum::Timestamp(-1000))),
        (r#""long""#, vec![2], Timestamp(3), Some(Datum::Timestamp(1000))),
        (time, vec![0xD0, 0x0F], Time(3), Some(Datum::Time(1))),
        (enumeration, vec![2], TypeKind::STRING, Some(Datum::string("B"))),
        (enumeration, vec![8], TypeKind::STRING, None),
        (r#"{"type":"fixed","name":"f","size":2}"#, vec![1, 2], TypeKind::BYTES, Some(Datum::Bytes([1, 2].into()))),
        (r#""boolean""#, vec![1], Boolean, Some(Datum::Boolean(true))),
        (r#""string""#, vec![2, 0xFF], TypeKind::STRING, None),
        (r#""string""#, vec![9, b'x'], TypeKind::STRING, None),
        (r#""int""#, vec![4, 4], Int, Some(Datum::Int(2))),
    ];
    for (ty, bytes, kind, expected) in cases {
        let (url, _asked) = registry(vec![schema_answer(&record(ty))]);
        let columns = fields(&[("v", kind.clone())]);
        let mut decoder = new_decoder("avro-confluent", &[("url", &url)], &columns);
        let mut wire = vec![0, 0, 0, 0, 1];
        wire.extend(bytes);
        let result = decoder.decode(Some(&wire));
        let read = rows(decoder.as_mut(), &types(&columns)).pop().map(|(_, mut r)| r.remove(0));
        assert_eq!(read, expected, "{ty} as {kind}: {result:?}");
        assert_eq!(result.is_ok(), expected.is_some(), "{ty} as {kind}");
    }
    let mut decoder = new_decoder("avro-confluent", &[("url", "http://127.0.0.1:1")], &order());
    assert!(decoder.decode(Some(b"{}")).unwrap_err().to_string().contains("byte 0"));
}

#[test]
fn named_types_are_found_by_namespace_and_may_be_recursive() {
    let list = r#"{"type":"record","name":"n.List","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","List"]}]}"#;
    let (url, _asked) = registry(vec![schema_answer(list)]);
    let columns = fields(&[("v", Int)]);
    let mut decoder = new_decoder("avro-confluent", &[("url", &url)], &columns);
    assert_eq!(decoder.decode(Some(&[0, 0, 0, 0, 1, 2, 2, 4, 2, 6, 0])).unwrap(), 1);
    let endless = [vec![0, 0, 0, 0, 1], [2, 2].repeat(5000)].concat();
    assert!(decoder.decode(Some(&endless)).unwrap_err().to_string().contains("too deep"));
    for wrong in [r#""strin""#, r#"{"type":"record","name":"r"}"#, "[", r#"{"type":"fixed","name":"f"}"#] {
        assert!(AvroSchema::parse(wrong).is_err(), "{wrong}");
    }
}

/// A bare record may have more fields at its end than the table (Flink reads it, too).
#[test]
fn bytes_behind_a_record_are_left_alone() {
    let mut records = Records::default();
    new_encoder("avro", &[], &order()).encode(&batch(&order(), &order_rows()), &mut records).unwrap();
    let first_two = order()[..2].to_vec();
    let mut decoder = new_decoder("avro", &[], &first_two);
    (0..records.len()).for_each(|i| assert_eq!(decoder.decode(records.get(i)).unwrap(), 1));
    let read: Vec<Vec<Datum>> = rows(decoder.as_mut(), &types(&first_two)).into_iter().map(|(_, r)| r).collect();
    let want: Vec<Vec<Datum>> = order_rows().into_iter().map(|r| r[..2].to_vec()).collect();
    assert_eq!(read, want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn plain_avro_round_trips(i in any::<i64>(), s in ".{0,20}", d in any::<i64>(), ms in -1_000_000_000_000_i64..1_000_000_000_000, f in any::<f32>()) {
        prop_assume!(!f.is_nan());
        let mut values = order_rows();
        values[0][0] = Datum::BigInt(i);
        values[0][1] = Datum::string(s);
        values[0][2] = Datum::Decimal(i128::from(d % 10_000_000_000));
        values[0][3] = Datum::Timestamp(ms * 1000);
        values[0][8] = Datum::Float(f);
        for legacy in ["true", "false"] {
            let given = [("timestamp_mapping.legacy", legacy)];
            let mut records = Records::default();
            new_encoder("avro", &given, &order()).encode(&batch(&order(), &values), &mut records).unwrap();
            let mut decoder = new_decoder("avro", &given, &order());
            for i in 0..records.len() {
                decoder.decode(records.get(i)).unwrap();
            }
            let read: Vec<Vec<Datum>> = rows(decoder.as_mut(), &types(&order())).into_iter().map(|(_, r)| r).collect();
            prop_assert_eq!(&read, &values);
        }
    }

    #[test]
    fn the_decoder_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut broken = written(ORDER, &order(), &order_rows()).remove(0).split_off(5);
        let at = at.index(broken.len());
        broken[at] = byte;
        for record in [bytes, broken] {
            let mut decoder = AvroDecoder::new(&Schema::new(order()), Writers::Fixed).unwrap();
            decoder.programs.push(Program::new(0, AvroSchema::parse(ORDER).unwrap(), None, &order()).unwrap());
            let count = decoder.decode(Some(&record)).unwrap_or(0);
            let (columns, _) = decoder.finish().unwrap();
            prop_assert!(columns.iter().all(|c| c.len() == count));
        }
    }
}
