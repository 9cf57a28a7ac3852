use super::*;
use TypeKind::*;

fn typed() -> Vec<Field> {
    fields(&[
        ("id", Int),
        ("s", TypeKind::STRING),
        ("i", Int),
        ("d", Double),
        ("dec", Decimal(10, 2)),
        ("b", Boolean),
        ("dt", Date),
        ("tm", Time(0)),
        ("ts", Timestamp(6)),
        ("ltz", TimestampLtz(3)),
        ("arr", array(Int)),
        ("m", map(TypeKind::STRING, Int)),
        ("r", row(&[("x", Int), ("y", row(&[("z", TypeKind::STRING)]))])),
    ])
}

const TYPED: [&str; 6] = [
    r#"{"id": 1, "s": "42", "i": 7, "d": 1.5, "dec": 12345.678, "b": true, "dt": "2024-02-29", "tm": "13:14:15", "ts": "2024-02-29 13:14:15.123456", "ltz": "2024-02-29 13:14:15.5Z", "arr": [1, 2, null], "m": {"a": 1, "b": 2}, "r": {"x": 1, "y": {"z": "deep"}}}"#,
    r#"{"id": 2, "s": " 3.9 ", "i": "8", "d": "2.25", "dec": "0.005", "b": "false", "dt": null, "tm": null, "ts": null, "ltz": null, "arr": [], "m": {}, "r": null}"#,
    r#"{"id": 3}"#,
    r#"{"id": 4, "s": "abc", "i": -2147483648, "d": 1e+20, "dec": 99999999.995, "b": false, "dt": "1969-12-31", "tm": "00:00:00", "ts": "1969-12-31 23:59:59", "ltz": "1970-01-01 00:00:00Z", "arr": null, "m": {"k": null}, "r": {"x": null, "y": {}}}"#,
    r#"{"id": 5, "s": "", "i": 2147483647, "d": 0.1, "dec": -1.005, "b": null, "dt": "2024-12-31", "tm": "23:59:59", "ts": "2024-12-31 23:59:59.999", "ltz": "2024-06-30 23:59:59.999Z", "arr": [9], "m": {"z": 26}, "r": {"x": 5, "y": {"z": null}, "extra": 1}}"#,
    r#"{"id": 6, "s": "true", "i": 0, "d": -0.0, "dec": 1, "b": "TRUE", "dt": "2000-01-01", "tm": "12:00:00", "ts": "2000-01-01 00:00:00", "ltz": "2000-01-01 00:00:00Z", "arr": [3, 1, 2], "m": {"a": 0}, "r": {"x": 6, "y": {"z": "Ünï😀"}}}"#,
];

/// Golden x01: what Flink 2.2 wrote.
#[test]
fn every_type_passes_through_as_in_flink() {
    let expected = [
        r#"{"id":1,"s":"42","i":7,"d":1.5,"dec":12345.68,"b":true,"dt":"2024-02-29","tm":"13:14:15","ts":"2024-02-29 13:14:15.123456","ltz":"2024-02-29 13:14:15.5Z","arr":[1,2,null],"m":{"a":1,"b":2},"r":{"x":1,"y":{"z":"deep"}}}"#,
        r#"{"id":2,"s":" 3.9 ","i":8,"d":2.25,"dec":0.01,"b":false,"dt":null,"tm":null,"ts":null,"ltz":null,"arr":[],"m":{},"r":null}"#,
        r#"{"id":3,"s":null,"i":null,"d":null,"dec":null,"b":null,"dt":null,"tm":null,"ts":null,"ltz":null,"arr":null,"m":null,"r":null}"#,
        r#"{"id":4,"s":"abc","i":-2147483648,"d":1.0E20,"dec":null,"b":false,"dt":"1969-12-31","tm":"00:00:00","ts":"1969-12-31 23:59:59","ltz":"1970-01-01 00:00:00Z","arr":null,"m":{"k":null},"r":{"x":null,"y":{"z":null}}}"#,
        r#"{"id":5,"s":"","i":2147483647,"d":0.1,"dec":-1.01,"b":null,"dt":"2024-12-31","tm":"23:59:59","ts":"2024-12-31 23:59:59.999","ltz":"2024-06-30 23:59:59.999Z","arr":[9],"m":{"z":26},"r":{"x":5,"y":{"z":null}}}"#,
        r#"{"id":6,"s":"true","i":0,"d":-0.0,"dec":1,"b":true,"dt":"2000-01-01","tm":"12:00:00","ts":"2000-01-01 00:00:00","ltz":"2000-01-01 00:00:00Z","arr":[3,1,2],"m":{"a":0},"r":{"x":6,"y":{"z":"Ünï\uD83D\uDE00"}}}"#,
    ];
    assert_eq!(pass_through(("json", &[]), ("json", &[]), &typed(), &TYPED), expected);
}

#[test]
fn a_projection_reads_only_its_fields_in_its_order() {
    let schema = Schema { projection: vec![12, 0], ..Schema::new(typed()) };
    let mut decoder = decoder(options("json", &[]), schema, UTC).unwrap();
    for record in TYPED {
        assert_eq!(decoder.decode(Some(record.as_bytes())).unwrap(), 1);
    }
    let (columns, _) = decoder.finish().unwrap();
    let fields = typed();
    let row = datum::from_array(columns[0].as_ref(), 0, &fields[12].ty);
    assert_eq!(row, Datum::Row([Datum::Int(1), Datum::Row([Datum::string("deep")].into())].into()));
    let ids: Vec<Datum> = (0..6).map(|i| datum::from_array(columns[1].as_ref(), i, &fields[0].ty)).collect();
    assert_eq!(ids, (1..=6).map(Datum::Int).collect::<Vec<_>>());
}

#[test]
fn values_convert_as_in_flink() {
    let s = Datum::string;
    let cases: Vec<(TypeKind, &str, Option<Datum>)> = vec![
        (Int, "3.7", Some(Datum::Int(3))),
        (Int, "-3.7", Some(Datum::Int(-3))),
        (Int, "1e3", Some(Datum::Int(1000))),
        (Int, "\" 17 \"", Some(Datum::Int(17))),
        (Int, "\"+5\"", Some(Datum::Int(5))),
        (Int, "2147483648", None),
        (Int, "true", None),
        (Int, "\"x\"", None),
        (Int, "\"\"", None),
        (Int, "{}", None),
        (TinyInt, "-128", Some(Datum::TinyInt(-128))),
        (TinyInt, "128", None),
        (SmallInt, "3.7", None),
        (BigInt, "9223372036854775807", Some(Datum::BigInt(i64::MAX))),
        (BigInt, "9223372036854775808", None),
        (Double, "\"NaN\"", Some(Datum::Double(f64::NAN))),
        (Double, "\"-Infinity\"", Some(Datum::Double(f64::NEG_INFINITY))),
        (Double, "\"inf\"", None),
        (Double, "7", Some(Datum::Double(7.0))),
        (Float, "0.1", Some(Datum::Float(0.1))),
        (Decimal(5, 1), "1.25", Some(Datum::Decimal(13))),
        (Decimal(5, 1), "-1.25", Some(Datum::Decimal(-13))),
        (Decimal(5, 1), "1.2499999999999999999999999999999999999999999999", Some(Datum::Decimal(12))),
        (Decimal(5, 1), "99999", Some(Datum::Null)),
        (Decimal(38, 0), "99999999999999999999999999999999999999.4", Some(Datum::Decimal(10_i128.pow(38) - 1))),
        (Decimal(38, 0), "99999999999999999999999999999999999999.5", Some(Datum::Null)),
        (Decimal(5, 1), "1e2", Some(Datum::Decimal(1000))),
        (Decimal(5, 1), "1e99999", Some(Datum::Null)),
        (Decimal(5, 1), "1e-99999", Some(Datum::Decimal(0))),
        (Decimal(5, 1), "true", None),
        (Boolean, "\" True \"", Some(Datum::Boolean(true))),
        (Boolean, "\"yes\"", Some(Datum::Boolean(false))),
        (Boolean, "1", Some(Datum::Boolean(false))),
        (TypeKind::STRING, "12.50", Some(s("12.50"))),
        (TypeKind::STRING, "true", Some(s("true"))),
        (TypeKind::STRING, r#"{ "nested" : [ 1, "a\"b", null, 1e5, 0.10 ] }"#, Some(s(r#"{"nested":[1,"a\"b",null,100000.0,0.1]}"#))),
        (TypeKind::STRING, r#""\u00e9\ud83c\udf55\n\/\ud83c""#, Some(s("é🍕\n/?"))),
        (TypeKind::BYTES, "\"AQI=\"", Some(Datum::Bytes([1, 2].into()))),
        (TypeKind::BYTES, "\"!\"", None),
        (Date, "\"2024-02-30\"", None),
        (Date, "\"2024-02-29\"", Some(Datum::Date(19782))),
        (Date, "\"2024-2-29\"", None),
        (Time(3), "\"00:00:01.2345\"", Some(Datum::Time(1234))),
        (Time(0), "\"00:00:01.9\"", Some(Datum::Time(1000))),
        (Time(0), "\"24:00:00\"", None),
        (Timestamp(3), "\"1970-01-01 00:00:00.1239\"", Some(Datum::Timestamp(123_000))),
        (Timestamp(9), "\"1969-12-31 23:59:59.999999999\"", Some(Datum::Timestamp(-1))),
        (Timestamp(9), "\"2300-01-01 00:00:00\"", None),
        (Timestamp(3), "\"1970-01-01T00:00:00\"", None),
        (TimestampLtz(3), "\"1970-01-01 00:00:01Z\"", Some(Datum::Timestamp(1_000_000))),
        (TimestampLtz(3), "\"1970-01-01 00:00:01\"", None),
        (map(TypeKind::STRING, Int), r#"{"a":1,"b":2,"a":3}"#, Some(Datum::Map([(s("b"), Datum::Int(2)), (s("a"), Datum::Int(3))].into()))),
        (array(Int), "{}", None),
        (array(TypeKind::STRING), r#"["x",1]"#, Some(Datum::Array([s("x"), s("1")].into()))),
    ];
    for (kind, json, expected) in cases {
        let columns = fields(&[("v", kind.clone()), ("after", Int)]);
        let record = format!(r#"{{"v": {json}, "after": 1}}"#);
        let strict = decode("json", &[], &columns, &[&record]);
        let lenient = decode("json", &[("ignore-parse-errors", "true")], &columns, &[&record]).unwrap();
        let value = expected.clone().unwrap_or(Datum::Null);
        assert_eq!(format!("{:?}", lenient[0]), format!("{:?}", [value, Datum::Int(1)]), "{kind}: {json}");
        match expected {
            Some(_) => assert_eq!(format!("{:?}", strict.unwrap()), format!("{lenient:?}"), "{kind}: {json}"),
            None => assert!(strict.unwrap_err().contains("field 'v': "), "{kind}: {json}"),
        }
    }
}

/// Golden x05/x06: a broken record is dropped, a broken field NULL; without the option the record fails.
#[test]
fn broken_records() {
    let columns = fields(&[("id", Int), ("s", TypeKind::STRING), ("n", Int)]);
    let ignore = &[("ignore-parse-errors", "true")][..];
    for broken in [
        r#"{"id": 2, "s": "trunc"#,
        "not json",
        "[1,2]",
        r#"{"id": 1 "s": 2}"#,
        r#"{"id": 1,}"#,
        r#"{"id": 01}"#,
        r#"{"id": tru}"#,
        r#"{"x": [1, 2}"#,
        r#"{"s": "\x"}"#,
        r#"{"id": 1} {"id": 2}"#,
        "{",
        "\"",
    ] {
        assert_eq!(decode("json", ignore, &columns, &[broken, r#"{"id": 7}"#]).unwrap().len(), 1, "{broken}");
        let error = decode("json", &[], &columns, &[broken]).unwrap_err();
        assert!(error.contains("not valid JSON"), "{broken}: {error}");
    }
    let error = decode("json", &[], &columns, &[r#"{"id": 3, "n": "x", "s": "text"}"#]).unwrap_err();
    assert_eq!(error, r#"field 'n': not a number of this type for INT at byte 15: …"x", "s": "text"}"#);
    let mut decoder = new_decoder("json", ignore, &columns);
    assert_eq!(decoder.decode(None).unwrap(), 0);
    assert_eq!(decoder.decode(Some(b"")).unwrap(), 0);
    assert_eq!(decoder.decode(Some(b"{\"s\":\"\xFF\"}")).unwrap(), 0);
    assert_eq!(decoder.skipped(), 1);
}

#[test]
fn field_order_may_change_and_repeat() {
    let columns = fields(&[("a", Int), ("b", Int)]);
    let records = [
        r#"{"a":1,"b":2}"#,
        r#"{"b":4,"a":3}"#,
        r#"{"x":{"a":[9]},"a":5,"y":"}","b":6}"#,
        r#"{"\u0061":7,"b":8}"#,
        r#"{"a":0,"a":9,"b":10}"#,
    ];
    let rows = decode("json", &[], &columns, &records).unwrap();
    assert_eq!(rows.into_iter().flatten().collect::<Vec<_>>(), (1..=10).map(Datum::Int).collect::<Vec<_>>());
}

#[test]
fn options_of_the_source() {
    let columns = fields(&[("a", Int), ("r", row(&[("x", Int)]))]);
    let error = decode("json", &[("fail-on-missing-field", "true")], &columns, &[r#"{"a":1,"r":{}}"#]).unwrap_err();
    assert!(error.starts_with("field 'r.x': the field is missing"), "{error}");
    let both = options("json", &[("fail-on-missing-field", "true"), ("ignore-parse-errors", "true")]);
    assert!(decoder(both, Schema::new(columns.clone()), UTC).err().unwrap().to_string().contains("cannot both be true"));
    for parser in ["true", "false"] {
        let given = &[("decode.json-parser.enabled", parser)];
        let rows = decode("json", given, &columns, &[r#"[{"a":1},{"a":2}]"#, "[]"]).unwrap();
        assert_eq!(rows.iter().map(|r| r[0].clone()).collect::<Vec<_>>(), [Datum::Int(1), Datum::Int(2)]);
        assert!(decode("json", given, &columns, &["[1]"]).is_err());
    }
    let iso = fields(&[("t", Timestamp(3)), ("z", TimestampLtz(3))]);
    let records = [r#"{"t":"2024-01-01T10:00:00.5","z":"2024-01-01T10:00:00Z"}"#];
    let given = &[("timestamp-format.standard", "ISO-8601")][..];
    assert_eq!(pass_through(("json", given), ("json", given), &iso, &records), records);
    let keys = decoder(options("json", &[]), Schema::new(fields(&[("m", map(Int, Int))])), UTC).err().unwrap();
    assert!(keys.to_string().contains("column 'm'"), "{keys}");
}

/// Goldens x20 and x21: how decimals are written.
#[test]
fn decimals_are_written_as_java_does() {
    let columns = fields(&[("d", Decimal(20, 9))]);
    let value = |v: i128| vec![Datum::Decimal(v)];
    let rows = batch(&columns, &[value(100_000_000_000), value(27), value(0), value(-1_500_000_000), value(12_345_000_000)]);
    let written = encode("json", &[], &columns, &rows).unwrap();
    let text: Vec<&str> = written.iter().map(|r| r.as_deref().unwrap()).collect();
    assert_eq!(text, [r#"{"d":1E+2}"#, r#"{"d":2.7E-8}"#, r#"{"d":0}"#, r#"{"d":-1.5}"#, r#"{"d":12.345}"#]);
    let plain = encode("json", &[("encode.decimal-as-plain-number", "true")], &columns, &rows).unwrap();
    assert_eq!(plain[0].as_deref(), Some(r#"{"d":100.000000000}"#));
    assert_eq!(plain[1].as_deref(), Some(r#"{"d":0.000000027}"#));
}

#[test]
fn floating_point_numbers_are_written_as_java_does() {
    let columns = fields(&[("d", Double), ("f", Float)]);
    for (d, f, expected) in [
        (1e7, 1e7, "1.0E7,1.0E7"),
        (9_999_999.0, 0.001, "9999999.0,0.001"),
        (0.001, 0.0001, "0.001,1.0E-4"),
        (1.234e-5, 3.4e38, "1.234E-5,3.4E38"),
        (123.456, 16_777_216.0, "123.456,1.6777216E7"),
        (0.0, -0.0, "0.0,-0.0"),
        (5e-324, f32::NAN, "4.9E-324,NaN"),
        (f64::INFINITY, f32::NEG_INFINITY, "Infinity,-Infinity"),
    ] {
        let rows = batch(&columns, &[vec![Datum::Double(d), Datum::Float(f)]]);
        let written = encode("json", &[], &columns, &rows).unwrap()[0].clone().unwrap();
        let (d, f) = expected.split_once(',').unwrap();
        let quote = |t: &str| if t.contains('N') || t.contains('I') { format!("\"{t}\"") } else { t.to_owned() };
        // Java knows 5e-324 as 4.9E-324; the shortest digits are 5
        let expected = format!("{{\"d\":{},\"f\":{}}}", quote(d), quote(f)).replace("4.9E-324", "5.0E-324");
        assert_eq!(written, expected);
    }
}

#[test]
fn options_of_the_sink() {
    let columns = fields(&[("a", TypeKind::STRING), ("m", map(TypeKind::STRING, Int)), ("r", row(&[("x", Int)]))]);
    let null_key = Datum::Map([(Datum::Null, Datum::Int(1)), (Datum::string("k"), Datum::Null)].into());
    let rows = batch(&columns, &[vec![Datum::Null, null_key, Datum::Row([Datum::Null].into())]]);
    let one = |given: &[(&str, &str)]| encode("json", given, &columns, &rows).map(|r| r[0].clone().unwrap());
    assert!(one(&[]).unwrap_err().contains("NULL key"));
    assert_eq!(one(&[("map-null-key.mode", "drop")]).unwrap(), r#"{"a":null,"m":{"k":null},"r":{"x":null}}"#);
    let literal = &[("map-null-key.mode", "LITERAL"), ("map-null-key.literal", "none"), ("encode.ignore-null-fields", "true")];
    assert_eq!(one(literal).unwrap(), r#"{"m":{"none":1,"k":null},"r":{}}"#);
    let text = fields(&[("\"s", TypeKind::STRING)]);
    let rows = batch(&text, &[vec![Datum::string("a\"\\/\u{1}\n\u{7f}é🍕")]]);
    assert_eq!(encode("json", &[], &text, &rows).unwrap()[0].as_deref(), Some("{\"\\\"s\":\"a\\\"\\\\/\\u0001\\n\u{7f}é\\uD83C\\uDF55\"}"));
}
