#![allow(clippy::unwrap_used, clippy::expect_used)]

use Datum::{Boolean, Double, Int, Null};
use sluice_batch::{Datum, Expr, Field, TypeKind};

use crate::testing::{call, check, eval, lit, s, typed};

fn array(kind: TypeKind, items: impl IntoIterator<Item = Datum>) -> Expr {
    typed(Datum::Array(items.into_iter().collect()), TypeKind::Array(Box::new(kind.nullable())))
}

fn ints(items: &[Option<i32>]) -> Expr {
    array(TypeKind::Int, items.iter().map(|i| i.map_or(Null, Int)))
}

fn out(items: &[Option<i32>]) -> Datum {
    Datum::Array(items.iter().map(|i| i.map_or(Null, Int)).collect())
}

fn texts(items: &[&str]) -> Expr {
    array(TypeKind::STRING, items.iter().map(|t| s(t)))
}

fn entries(items: &[(Option<&str>, i32)]) -> Datum {
    Datum::Map(items.iter().map(|(k, v)| (k.map_or(Null, s), Int(*v))).collect())
}

fn map_kind() -> TypeKind {
    TypeKind::Map(Box::new(TypeKind::STRING.nullable()), Box::new(TypeKind::Int.nullable()))
}

fn map(items: &[(Option<&str>, i32)]) -> Expr {
    typed(entries(items), map_kind())
}

const ONE_NULL_TWO: &[Option<i32>] = &[Some(1), None, Some(2)];

#[test]
fn one_array() {
    let (i, ints_type) = (|v| lit(Int(v)), "ARRAY<INT> NOT NULL");
    check(vec![
        ("ARRAY_APPEND", vec![ints(ONE_NULL_TWO), i(3)], out(&[Some(1), None, Some(2), Some(3)]), ints_type),
        ("ARRAY_PREPEND", vec![ints(ONE_NULL_TWO), lit(Null)], out(&[None, Some(1), None, Some(2)]), ints_type),
        ("ARRAY_CONTAINS", vec![ints(ONE_NULL_TWO), i(2)], Boolean(true), "BOOLEAN NOT NULL"),
        ("ARRAY_CONTAINS", vec![ints(&[Some(1)]), lit(Null)], Boolean(false), "BOOLEAN NOT NULL"),
        ("ARRAY_POSITION", vec![ints(ONE_NULL_TWO), i(2)], Int(3), "INT NOT NULL"),
        ("ARRAY_POSITION", vec![ints(ONE_NULL_TWO), lit(Null)], Null, "INT"),
        ("ARRAY_REMOVE", vec![ints(ONE_NULL_TWO), i(1)], out(&[None, Some(2)]), ints_type),
        ("ARRAY_DISTINCT", vec![ints(&[Some(1), None, Some(1), None])], out(&[Some(1), None]), ints_type),
        ("ARRAY_REVERSE", vec![ints(ONE_NULL_TWO)], out(&[Some(2), None, Some(1)]), ints_type),
        ("ARRAY_SORT", vec![ints(ONE_NULL_TWO)], out(&[None, Some(1), Some(2)]), ints_type),
        ("ARRAY_SORT", vec![ints(ONE_NULL_TWO), lit(Boolean(false))], out(&[Some(2), Some(1), None]), ints_type),
        ("ARRAY_MAX", vec![ints(ONE_NULL_TWO)], Int(2), "INT"),
        ("ARRAY_MIN", vec![ints(&[])], Null, "INT"),
        ("ARRAY_JOIN", vec![texts(&["a", "b"]), lit(s("-"))], s("a-b"), "STRING NOT NULL"),
        ("CARDINALITY", vec![ints(ONE_NULL_TWO)], Int(3), "INT NOT NULL"),
        ("ITEM", vec![ints(ONE_NULL_TWO), i(3)], Int(2), "INT"),
        ("ITEM", vec![ints(ONE_NULL_TWO), i(4)], Null, "INT"),
        ("ELEMENT", vec![ints(&[Some(7)])], Int(7), "INT"),
    ]);
    assert!(eval("ELEMENT", vec![ints(ONE_NULL_TWO)]).is_err());
    assert!(call("ITEM", vec![ints(ONE_NULL_TWO), i(0)]).is_err());
    assert!(call("ARRAY_APPEND", vec![ints(ONE_NULL_TWO), lit(s("x"))]).is_err());
    assert!(call("ARRAY_JOIN", vec![ints(ONE_NULL_TWO), lit(s(","))]).is_err());
}

#[test]
fn slices() {
    for (start, end, expected) in [
        (2, 3, &[2, 3][..]),
        (0, 1, &[1]),
        (-2, 9, &[2, 3]),
        (-9, -1, &[1, 2, 3]),
        (1, 0, &[1]),
        (1, -4, &[1]),
        (1, -5, &[]),
        (3, 2, &[]),
        (4, 9, &[]),
    ] {
        let args = vec![ints(&[Some(1), Some(2), Some(3)]), lit(Int(start)), lit(Int(end))];
        let expected = Datum::Array(expected.iter().map(|i| Int(*i)).collect());
        assert_eq!(eval("ARRAY_SLICE", args).unwrap().0, expected, "from {start} to {end}");
    }
}

#[test]
fn arrays_as_sets() {
    let (a, b) = (|| ints(&[Some(1), None, Some(1)]), || ints(&[Some(2), None]));
    let ty = "ARRAY<INT> NOT NULL";
    check(vec![
        ("ARRAY_CONCAT", vec![a(), b()], out(&[Some(1), None, Some(1), Some(2), None]), ty),
        ("ARRAY_UNION", vec![a(), b()], out(&[Some(1), None, Some(2)]), ty),
        ("ARRAY_EXCEPT", vec![a(), b()], out(&[Some(1)]), ty),
        ("ARRAY_INTERSECT", vec![a(), b()], out(&[None]), ty),
    ]);
    assert!(call("ARRAY_UNION", vec![a(), texts(&["a"])]).is_err());
}

#[test]
fn equal_values_have_several_forms() {
    let maps = [entries(&[(Some("a"), 1), (Some("b"), 2)]), entries(&[(Some("b"), 2), (Some("a"), 1)])];
    let distinct = eval("ARRAY_DISTINCT", vec![array(map_kind(), maps.clone())]).unwrap().0;
    assert_eq!(distinct, Datum::Array(maps[..1].into()));
    let row = |z: f64| Datum::Row([Double(z)].into());
    let kind = TypeKind::Row(vec![Field::new("z", TypeKind::Double.nullable())]);
    let found = eval("ARRAY_CONTAINS", vec![array(kind.clone(), [row(-0.0)]), typed(row(0.0), kind)]).unwrap().0;
    assert_eq!(found, Boolean(true));
}

#[test]
fn maps() {
    let m = || map(&[(Some("a"), 1), (None, 2)]);
    let keys = Datum::Array([s("a"), Null].into());
    let rows = Datum::Array([Datum::Row([s("a"), Int(1)].into()), Datum::Row([Null, Int(2)].into())].into());
    let union = entries(&[(Some("a"), 5), (None, 2), (Some("c"), 3)]);
    let from_text = Datum::Map([(s("k"), s("1")), (s("l"), Null)].into());
    check(vec![
        ("MAP_KEYS", vec![m()], keys, "ARRAY<STRING> NOT NULL"),
        ("MAP_VALUES", vec![m()], out(&[Some(1), Some(2)]), "ARRAY<INT> NOT NULL"),
        ("MAP_ENTRIES", vec![m()], rows, "ARRAY<ROW<`key` STRING, `value` INT>> NOT NULL"),
        ("MAP_UNION", vec![m(), map(&[(Some("a"), 5), (Some("c"), 3)])], union, "MAP<STRING, INT> NOT NULL"),
        (
            "MAP_FROM_ARRAYS",
            vec![texts(&["a", "b", "a"]), ints(&[Some(1), Some(2), Some(3)])],
            entries(&[(Some("a"), 3), (Some("b"), 2)]),
            "MAP<STRING, INT> NOT NULL",
        ),
        ("STR_TO_MAP", vec![lit(s("k=0,l,k=1"))], from_text, "MAP<STRING, STRING>"),
        ("ITEM", vec![m(), lit(s("a"))], Int(1), "INT"),
        ("ITEM", vec![m(), lit(s("x"))], Null, "INT"),
        ("CARDINALITY", vec![m()], Int(2), "INT NOT NULL"),
        (
            "MAP",
            vec![lit(Int(1)), lit(Int(2)), lit(Int(1)), lit(Null)],
            Datum::Map([(Int(1), Null)].into()),
            "MAP<INT NOT NULL, INT> NOT NULL",
        ),
    ]);
    assert!(eval("MAP_FROM_ARRAYS", vec![texts(&["a"]), ints(&[])]).is_err());
    assert!(call("MAP", vec![lit(Int(1))]).is_err());
}

#[test]
fn constructors_and_split() {
    let parts = |parts: &[&str]| Datum::Array(parts.iter().map(|p| s(p)).collect());
    let split = |text, delimiter| vec![lit(s(text)), lit(s(delimiter))];
    let ty = "ARRAY<STRING> NOT NULL";
    check(vec![
        ("ARRAY", vec![lit(Int(1)), lit(Null)], out(&[Some(1), None]), "ARRAY<INT> NOT NULL"),
        (
            "ROW",
            vec![lit(Int(1)), lit(Boolean(true))],
            Datum::Row([Int(1), Boolean(true)].into()),
            "ROW<`EXPR$0` INT NOT NULL, `EXPR$1` BOOLEAN NOT NULL> NOT NULL",
        ),
        ("SPLIT", split("a,,b,", ","), parts(&["a", "", "b", ""]), ty),
        ("SPLIT", split("aé", ""), parts(&["a", "é"]), ty),
        ("SPLIT", split("", ","), parts(&[]), ty),
    ]);
    assert!(call("ARRAY", vec![]).is_err());
    assert!(call("ARRAY", vec![lit(Int(1)), lit(s("a"))]).is_err());
}
