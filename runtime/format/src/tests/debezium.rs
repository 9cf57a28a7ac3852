use super::*;
use crate::readable_metadata;
use TypeKind::*;

const UPDATE: &str = r#"{"before":{"id":1,"n":"a"},"after":{"id":1,"n":"b"},"source":{"version":"1.1","ts_ms":1000,"db":"shop","schema":null,"table":"t"},"op":"u","ts_ms":1500,"transaction":null}"#;

fn columns() -> Vec<Field> {
    fields(&[("id", Int), ("n", TypeKind::STRING)])
}

fn changes(given: &[(&str, &str)], record: &str) -> Result<Vec<String>, String> {
    let columns = columns();
    let mut decoder = new_decoder("debezium-json", given, &columns);
    let count = decoder.decode(Some(record.as_bytes())).map_err(|e| e.to_string())?;
    let types: Vec<SqlType> = columns.iter().map(|f| f.ty.clone()).collect();
    let text = |(kind, row): &(RowKind, Vec<Datum>)| match row.as_slice() {
        [Datum::Int(id), Datum::String(n)] => format!("{}{id}{n}", kind.symbol()),
        other => format!("{}{other:?}", kind.symbol()),
    };
    let rows: Vec<String> = rows(decoder.as_mut(), &types).iter().map(text).collect();
    assert_eq!(rows.len(), count);
    Ok(rows)
}

#[test]
fn operations() {
    for (record, expected) in [
        (r#"{"before":null,"after":{"id":1,"n":"a"},"op":"c"}"#.to_owned(), vec!["+I1a"]),
        (r#"{"op":"r","after":{"n":"a","id":1}}"#.to_owned(), vec!["+I1a"]),
        (r#"{"before":{"id":1,"n":"a"},"after":null,"op":"d"}"#.to_owned(), vec!["-D1a"]),
        (UPDATE.to_owned(), vec!["-U1a", "+U1b"]),
    ] {
        assert_eq!(changes(&[], &record).unwrap(), expected);
        let wrapped = format!(r#"{{"schema":{{"type":"struct"}},"payload":{record}}}"#);
        assert_eq!(changes(&[("schema-include", "true")], &wrapped).unwrap(), expected);
    }
    for (record, message) in [
        (r#"{"before":null,"after":{"id":1},"op":"u"}"#, "REPLICA IDENTITY"),
        (r#"{"before":{"id":1},"after":{"id":"x"},"op":"u"}"#, "field 'id'"),
        (r#"{"op":"t"}"#, "none of c, r, u, d"),
        (r#"{"payload":{"op":"c"}}"#, "schema-include"),
        (r#"{"op":"c""#, "not valid JSON"),
    ] {
        let error = changes(&[], record).unwrap_err();
        assert!(error.contains(message), "{record}: {error}");
    }
    let ignore = &[("ignore-parse-errors", "true")];
    assert_eq!(changes(ignore, r#"{"op":"t"}"#).unwrap().len(), 0);
    assert_eq!(changes(ignore, r#"{"after":{"id":"x","n":"a"},"op":"c"}"#).unwrap(), [r#"+I[Null, String("a")]"#]);
    assert_eq!(new_decoder("debezium-json", &[], &columns()).decode(None).unwrap(), 0);
}

#[test]
fn metadata_columns() {
    let metadata = readable_metadata("debezium-json");
    let types: Vec<SqlType> = [TypeKind::STRING.nullable()].into_iter().chain(metadata.iter().map(|f| f.ty.clone())).collect();
    let schema = Schema { projection: vec![1], metadata, ..Schema::new(columns()) };
    let mut decoder = decoder(options("debezium-json", &[]), schema, UTC).unwrap();
    assert_eq!(decoder.decode(Some(UPDATE.as_bytes())).unwrap(), 2);
    let read = rows(decoder.as_mut(), &types);
    let s = Datum::string;
    let entry = |k: &str, v: &str| (Datum::string(k), Datum::string(v));
    let properties =
        [entry("version", "1.1"), entry("ts_ms", "1000"), entry("db", "shop"), (s("schema"), Datum::Null), entry("table", "t")];
    let after = [
        Datum::Null,
        Datum::Timestamp(1_500_000),
        Datum::Timestamp(1_000_000),
        s("shop"),
        Datum::Null,
        s("t"),
        Datum::Map(properties.into()),
    ];
    assert_eq!(read[1].1[0], s("b"));
    assert_eq!(read[1].1[1..], after);
    assert_eq!(read[0].1[1..], after);
}

/// Golden v40.
#[test]
fn the_sink_writes_creates_and_deletes() {
    let columns = columns();
    let row = || vec![Datum::Int(1), Datum::string("a")];
    let rows = batch(&columns, &[row(), row(), row(), row()]);
    let kinds = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
    let rows = Batch::with_kinds(rows.columns().to_vec(), Some(kinds.into()), 4);
    let written: Vec<String> = encode("debezium-json", &[], &columns, &rows).unwrap().into_iter().flatten().collect();
    let create = r#"{"before":null,"after":{"id":1,"n":"a"},"op":"c"}"#;
    let delete = r#"{"before":{"id":1,"n":"a"},"after":null,"op":"d"}"#;
    assert_eq!(written, [create, delete, create, delete]);
}
