use super::*;
use crate::{ChangelogMode, read_info, write_info};
use TypeKind::*;

#[test]
fn changes_are_read_by_mode() {
    let columns = fields(&[("a", Int), ("b", TypeKind::STRING)]);
    let types: Vec<SqlType> = columns.iter().map(|f| f.ty.clone()).collect();
    let mut decoder = new_decoder("changelog-json", &[("changelog-mode", "all")], &columns);
    for record in [
        r#"{"op":"+I","data":{"a":1,"b":"x"}}"#,
        r#"{"data":{"b":"y"}}"#,
        r#"{"data":{"a":3},"op":"-U"}"#,
        r#" { "op" : "+U" , "data" : { } } "#,
        r#"{"op":"-D","data":{"a":5,"b":null}}"#,
    ] {
        assert_eq!(decoder.decode(Some(record.as_bytes())).unwrap(), 1, "{record}");
    }
    let kinds: Vec<&str> = rows(decoder.as_mut(), &types).iter().map(|(k, _)| k.symbol()).collect();
    assert_eq!(kinds, ["+I", "+I", "-U", "+U", "-D"]);
    for broken in [r#"{"op":"?","data":{}}"#, r#"{"op":"+I"}"#, r#"{"op":"+I","data":[]}"#, r#"{"a":1}"#, "x", r#"{"data":{"a":"x"}}"#] {
        assert!(decoder.decode(Some(broken.as_bytes())).is_err(), "{broken}");
    }
    assert_eq!(rows(decoder.as_mut(), &types), []);
    for (mode, record, ok) in [
        ("insert-only", r#"{"op":"+U","data":{}}"#, false),
        ("upsert", r#"{"op":"+U","data":{}}"#, true),
        ("upsert", r#"{"op":"-U","data":{}}"#, false),
    ] {
        let mut decoder = new_decoder("changelog-json", &[("changelog-mode", mode)], &columns);
        assert_eq!(decoder.decode(Some(record.as_bytes())).is_ok(), ok, "{mode}: {record}");
    }
}

#[test]
fn values_keep_all_their_digits() {
    let columns = fields(&[
        ("dec", Decimal(10, 2)),
        ("f", Float),
        ("d", Double),
        ("tm", Time(3)),
        ("ts", Timestamp(9)),
        ("ltz", TimestampLtz(3)),
        ("m", map(Int, TypeKind::STRING)),
        ("bag", Multiset(Box::new(TypeKind::STRING.nullable()))),
        ("keyed", map(row(&[("f0", Int)]), array(Int))),
        ("bytes", map(TypeKind::BYTES, Boolean)),
    ]);
    let records = [
        r#"{"op":"+I","data":{"dec":12.50,"f":0.1,"d":"NaN","tm":"12:00:01.123","ts":"2020-10-10 12:00:01.123456789","ltz":"2020-10-10 12:00:01.5Z","m":{"1":"a","null":"b"},"bag":{"x":2},"keyed":{"(1)":[1,null],"(3)":null},"bytes":{"AQI=":true}}}"#,
        r#"{"op":"+I","data":{"dec":100.00,"f":1.0E20,"d":"-Infinity","tm":null,"ts":null,"ltz":null,"m":{},"bag":null,"keyed":null,"bytes":null}}"#,
    ];
    assert_eq!(pass_through(("changelog-json", &[]), ("changelog-json", &[]), &columns, &records), records);
}

#[test]
fn array_keys() {
    let columns = fields(&[("m", map(array(Int), Boolean)), ("b", map(Boolean, Boolean)), ("t", map(Time(0), Date))]);
    let records = [r#"{"op":"-D","data":{"m":{"[1, 2]":true,"[]":null},"b":{"true":false},"t":{"17:18:19":"1985-11-04"}}}"#];
    let all = &[("changelog-mode", "all")][..];
    assert_eq!(pass_through(("changelog-json", all), ("changelog-json", all), &columns, &records), records);
}

#[test]
fn what_the_planner_learns() {
    let given = |o: &[(&str, &str)]| options("changelog-json", o);
    assert_eq!(read_info(&given(&[])).unwrap().changelog, ChangelogMode::InsertOnly);
    assert_eq!(write_info(&given(&[]), true).unwrap().changelog, ChangelogMode::Upsert);
    assert_eq!(write_info(&given(&[]), false).unwrap().changelog, ChangelogMode::All);
    let upsert = given(&[("changelog-mode", "upsert"), ("delete-by-key", "true")]);
    let info = read_info(&upsert).unwrap();
    assert_eq!((info.changelog, info.delete_by_key), (ChangelogMode::Upsert, true));
    assert!(read_info(&given(&[("changelog-mode", "some")])).unwrap_err().to_string().contains("insert-only, upsert, all"));
}
