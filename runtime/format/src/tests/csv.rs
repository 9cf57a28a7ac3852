use super::*;
use TypeKind::*;

/// Golden x04: what Flink 2.2 read.
#[test]
fn the_source_reads_as_flink() {
    let columns = fields(&[("id", Int), ("s", TypeKind::STRING), ("d", Double), ("ts", Timestamp(3))]);
    let records = [
        "1,plain,1.5,2024-01-01 10:00:00",
        "2,\"quoted, comma\",2.5,2024-01-01 10:00:01.5",
        "3,\"with \"\"quotes\"\"\",,2024-01-01 10:00:02",
        "4,,4,",
        "5,\"\",5,2024-01-01 10:00:04",
        " 6 , padded ,6.0 ,2024-01-01 10:00:05",
        "7,ünï 😀,7e1,2024-01-01 10:00:06.123",
        "8,\"line\nbreak\",8,2024-01-01 10:00:07",
        "9,'single',9,2024-01-01 10:00:08\r\n",
    ];
    let expected = [
        r#"{"id":1,"s":"plain","d":1.5,"ts":"2024-01-01 10:00:00"}"#,
        r#"{"id":2,"s":"quoted, comma","d":2.5,"ts":"2024-01-01 10:00:01.5"}"#,
        r#"{"id":3,"s":"with \"quotes\"","d":null,"ts":"2024-01-01 10:00:02"}"#,
        r#"{"id":4,"s":"","d":4.0,"ts":null}"#,
        r#"{"id":5,"s":"","d":5.0,"ts":"2024-01-01 10:00:04"}"#,
        r#"{"id":6,"s":" padded ","d":6.0,"ts":"2024-01-01 10:00:05"}"#,
        r#"{"id":7,"s":"ünï \uD83D\uDE00","d":70.0,"ts":"2024-01-01 10:00:06.123"}"#,
        r#"{"id":8,"s":"line\nbreak","d":8.0,"ts":"2024-01-01 10:00:07"}"#,
        r#"{"id":9,"s":"'single'","d":9.0,"ts":"2024-01-01 10:00:08"}"#,
    ];
    for ignore in ["true", "false"] {
        assert_eq!(pass_through(("csv", &[("ignore-parse-errors", ignore)]), ("json", &[]), &columns, &records), expected);
    }
}

/// Golden x19: which strings Flink 2.2 put in quotes.
#[test]
fn the_sink_quotes_as_jackson() {
    let columns = fields(&[("s", TypeKind::STRING)]);
    for (text, quoted) in [
        ("abc", false),
        ("two words", true),
        ("a+b", true),
        ("a-b", false),
        ("a;b", false),
        ("a#b", true),
        ("it's", true),
        ("a,b", true),
        ("a.b/c:d", false),
        ("", false),
        (" ", true),
        ("é🍕", false),
        ("123456789012345678901234", false),
        ("1234567890123456789012345", true),
        ("🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕", false),
        ("🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕x", true),
        ("tab\tx", true),
        ("line\nbreak", true),
        ("a\\b", true),
        ("100%", true),
        ("a=b", false),
        ("(x)", true),
    ] {
        let expected = if quoted { format!("\"{text}\"") } else { text.to_owned() };
        let written = encode("csv", &[], &columns, &batch(&columns, &[vec![Datum::string(text)]])).unwrap();
        assert_eq!(written, [Some(expected)]);
    }
    let written = encode("csv", &[], &columns, &batch(&columns, &[vec![Datum::string("a\"b")], vec![Datum::Null]])).unwrap();
    assert_eq!(written, [Some("\"a\"\"b\"".to_owned()), Some(String::new())]);
}

/// Golden x03, and the other types.
#[test]
fn the_sink_writes_values_as_flink() {
    let columns = fields(&[("id", Int), ("s", TypeKind::STRING), ("d", Double), ("ts", Timestamp(3)), ("z", TypeKind::STRING)]);
    let ts = Datum::Timestamp(1_709_212_455_123_000);
    let rows = batch(
        &columns,
        &[
            vec![Datum::Int(1), Datum::string("4 2"), Datum::Double(1.5), ts, Datum::string("deep")],
            vec![Datum::Int(3), Datum::Null, Datum::Null, Datum::Null, Datum::Null],
        ],
    );
    let given = &[("field-delimiter", ";"), ("null-literal", "NA"), ("disable-quote-character", "true")];
    let written = encode("csv", given, &columns, &rows).unwrap();
    assert_eq!(written[0].as_deref(), Some("1;4 2;1.5;2024-02-29 13:14:15.123;deep"));
    assert_eq!(written[1].as_deref(), Some("3;NA;NA;NA;NA"));
    let columns = fields(&[
        ("dec", Decimal(10, 2)),
        ("small", Decimal(10, 9)),
        ("a", array(Int)),
        ("r", row(&[("x", Int), ("y", TypeKind::STRING)])),
        ("dt", Date),
        ("tm", Time(3)),
        ("ltz", TimestampLtz(3)),
    ]);
    let row = vec![
        Datum::Decimal(10_000),
        Datum::Decimal(27),
        Datum::Array([Datum::Int(1), Datum::Int(2), Datum::Null].into()),
        Datum::Row([Datum::Int(1), Datum::string("deep")].into()),
        Datum::Date(0),
        Datum::Time(1500),
        Datum::Timestamp(0),
    ];
    let rows = batch(&columns, &[row]);
    let written = encode("csv", &[], &columns, &rows).unwrap();
    assert_eq!(written[0].as_deref(), Some("100.00,2.7E-8,1;2;,1;deep,1970-01-01,00:00:01.5,\"1970-01-01 00:00:00Z\""));
    let plain = encode("csv", &[("write-bigdecimal-in-scientific-notation", "false")], &columns, &rows).unwrap();
    assert!(plain[0].as_deref().unwrap().starts_with("100.00,0.000000027,"));
    let back = decode("csv", &[], &columns, &[written[0].as_deref().unwrap()]).unwrap();
    assert_eq!(batch(&columns, &back).columns()[2].as_ref(), rows.columns()[2].as_ref());
    assert_eq!(batch(&columns, &back).columns()[3].as_ref(), rows.columns()[3].as_ref());
}

#[test]
fn options_of_the_source() {
    let columns = fields(&[("a", Int), ("s", TypeKind::STRING)]);
    let one = |given: &[(&str, &str)], record: &str| decode("csv", given, &columns, &[record]);
    let row = |a: Option<i32>, s: &str| Ok(vec![vec![a.map_or(Datum::Null, Datum::Int), Datum::string(s)]]);
    assert_eq!(one(&[("field-delimiter", "\\t")], "1\tx"), row(Some(1), "x"));
    assert_eq!(one(&[("field-delimiter", "\\u0001")], "1\u{1}x"), row(Some(1), "x"));
    assert_eq!(one(&[("quote-character", "'")], "1,'a,''b'"), row(Some(1), "a,'b"));
    assert_eq!(one(&[("escape-character", "\\")], "1,a\\,b\\n"), row(Some(1), "a,b\n"));
    assert_eq!(one(&[("escape-character", "\\")], "1,\"a\\\"b\""), row(Some(1), "a\"b"));
    assert_eq!(one(&[("null-literal", "NA")], "NA,x"), row(None, "x"));
    assert_eq!(one(&[("allow-comments", "true")], "# nothing"), Ok(vec![]));
    assert_eq!(one(&[], "1,x,"), row(Some(1), "x"));
    assert_eq!(one(&[("trim-spaces", "true")], "1,  x y "), row(Some(1), "x y"));
    assert_eq!(one(&[("trim-spaces", "true")], "1,  \" x \" "), row(Some(1), " x "));
    assert_eq!(one(&[("trim-spaces", "true"), ("field-delimiter", "\\t")], " 1 \t x "), row(Some(1), "x"));
    assert_eq!(one(&[("ignore-trailing-unmappable", "true")], "1,x,y,z"), row(Some(1), "x"));
    assert!(one(&[("allow-trailing-comma", "false")], "1,x,").is_err());
    assert_eq!(one(&[("fail-on-missing-columns", "true"), ("ignore-parse-errors", "true")], "1"), Ok(vec![]));
    assert_eq!(one(&[("empty-string-as-null", "true")], "1,"), Ok(vec![vec![Datum::Int(1), Datum::Null]]));
    assert_eq!(one(&[("empty-string-as-null", "true")], "1,\"\""), Ok(vec![vec![Datum::Int(1), Datum::Null]]));
    assert_eq!(one(&[], ""), Ok(vec![]));
    for (record, message) in [
        ("1", "1 fields where 2 are expected"),
        ("1,x,y", "more than 2 fields"),
        ("z,x", "field 'a': not a value of INT: z"),
        ("1,\"x", "a quoted field does not end"),
        ("1,\"x\"y", "text behind a quoted field"),
        ("1,x\n2,y", "more than one line"),
    ] {
        let error = one(&[], record).unwrap_err();
        assert!(error.contains(message), "{record}: {error}");
        let lenient = one(&[("ignore-parse-errors", "true")], record).unwrap();
        assert_eq!(lenient.len(), usize::from(matches!(record, "1" | "z,x")), "{record}");
    }
    let error = decoder(options("csv", &[("field-delimiter", "||")]), Schema::new(columns.clone()), UTC).err().unwrap();
    assert!(error.to_string().contains("a single character"));
    let map = Schema::new(fields(&[("m", map(TypeKind::STRING, Int))]));
    assert!(decoder(options("csv", &[]), map, UTC).err().unwrap().to_string().contains("column 'm': CSV cannot hold"));
}
